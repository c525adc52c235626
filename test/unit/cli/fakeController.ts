/**
 * A controller for tests of the client and the commands: an HTTP and WebSocket server that answers as the test says and
 * keeps what it was asked. Its token is `right-token`.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';

export const TOKEN = 'right-token';

export const POLICY_VIEW = {
  policy: DEFAULT_POLICY,
  status: { state: 'accepted' as const, revision: 1, reason: '', atMs: 5 },
  store: 'memory',
};

export interface FakeController {
  url: string;
  requests: { line: string; token: string | undefined; body: string }[];
  answer: { status: number; body: string };
  onFeed: (socket: WebSocket, path: string) => void;
  close(): Promise<void>;
}

export async function fakeController(): Promise<FakeController> {
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const piece of request) body += String(piece);
    fake.requests.push({ line: `${request.method} ${request.url}`, token: request.headers.authorization, body });
    const { status, body: answer } = fake.answer;
    response.writeHead(status, { 'content-type': 'application/json' }).end(answer);
  });
  const sockets = new WebSocketServer({ noServer: true });
  server.on('upgrade', (request, socket, head) => {
    if (request.headers.authorization !== `Bearer ${TOKEN}`) socket.end('HTTP/1.1 401 Unauthorized\r\n\r\n');
    else sockets.handleUpgrade(request, socket, head, (ws) => fake.onFeed(ws, request.url ?? ''));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const fake: FakeController = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: [],
    answer: { status: 200, body: '{}' },
    onFeed: () => {},
    async close() {
      for (const s of sockets.clients) s.terminate();
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
  return fake;
}
