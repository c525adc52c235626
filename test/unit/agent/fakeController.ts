/** A WebSocket server that plays the controller for tests of the agent: it welcomes, orders, and remembers what it hears. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type WebSocket, WebSocketServer } from 'ws';
import { type AgentMessage, agentMessageSchema } from '../../../contracts/agent.ts';

/** A controller that writes down what it hears, per connection. */
export class FakeController {
  readonly server: WebSocketServer;
  readonly #http: Server;
  /** What it says of itself at `/healthz` and in its welcome; undefined: it stands alone. */
  standing: { role: 'primary' | 'standby'; term: string } | undefined;
  sockets = new Map<string, WebSocket>();
  heard: { host: string; message: AgentMessage }[] = [];
  authorizations: (string | undefined)[] = [];
  connections = 0;
  welcomes = true;
  private listeners = new Set<() => void>();
  private lastId = 0;

  private constructor(port: number) {
    this.#http = createServer((_request, response) => response.end(JSON.stringify({ ok: true, ...this.standing })));
    this.#http.listen(port, '127.0.0.1');
    this.server = new WebSocketServer({ server: this.#http });
    this.server.on('connection', (socket, request) => {
      this.connections++;
      this.authorizations.push(request.headers.authorization);
      let host = '';
      socket.on('message', (data) => {
        const message = agentMessageSchema.parse(JSON.parse(String(data)));
        if (message.type === 'hello') {
          host = message.host;
          this.sockets.set(host, socket);
          const term = this.standing && { term: this.standing.term };
          const welcome = { type: 'welcome', protocol: 'fairway-agent/1', progressPeriodMs: 100, ...term };
          if (this.welcomes) socket.send(JSON.stringify(welcome));
        }
        this.heard.push({ host, message });
        for (const l of this.listeners) l();
      });
    });
  }
  static async listen(port = 0): Promise<FakeController> {
    const controller = new FakeController(port);
    await once(controller.server, 'listening');
    return controller;
  }
  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }
  /** Resolves with the first message from `from` on that fits; waits for it if need be. */
  async until<T>(pick: (m: AgentMessage, host: string) => T | undefined, from = 0): Promise<T> {
    for (let at = from; ; ) {
      for (; at < this.heard.length; at++) {
        const entry = this.heard[at];
        const found = entry && pick(entry.message, entry.host);
        if (found !== undefined) return found;
      }
      await new Promise<void>((resolve) => {
        const listener = () => {
          this.listeners.delete(listener);
          resolve();
        };
        this.listeners.add(listener);
      });
    }
  }
  send(host: string, value: unknown): void {
    this.sockets.get(host)?.send(typeof value === 'string' ? value : JSON.stringify(value));
  }
  async command(host: string, command: unknown): Promise<Extract<AgentMessage, { type: 'result' }>> {
    const id = ++this.lastId;
    this.send(host, { type: 'command', id, command });
    return this.until((m) => (m.type === 'result' && m.id === id ? m : undefined));
  }
  event(host: string, name: string, from = 0) {
    return this.until((m, h) => (h === host && m.type === 'event' && m.event === name ? m : undefined), from);
  }
  async close(): Promise<void> {
    for (const c of this.server.clients) c.terminate();
    this.server.close();
    this.#http.closeAllConnections();
    this.#http.close();
    await once(this.#http, 'close');
  }
}
