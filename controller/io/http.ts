/**
 * The controller's HTTP server: the routes of `contracts/rest.ts`, and the doors of the feed and of the agents (both
 * WebSockets). It checks tokens, bodies and sizes; what the routes do is given by `server.ts`.
 */
import { createServer, type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import type { z } from 'zod';
import { type Clock, callAt } from '../../contracts/clock.ts';
import { describeIssues, FairwayError } from '../../contracts/common.ts';
import { type MigrationView, type PolicyView, TOPICS, type Topic, topicSchema } from '../../contracts/feed.ts';
import type { Log } from '../../contracts/log.ts';
import {
  AUTHOR_HEADER,
  type EvacuateRequest,
  type Evacuation,
  evacuateRequestSchema,
  type MigrateAnswer,
  type MigrateRequest,
  migrateRequestSchema,
  type PolicyHistory,
  type PolicyPatch,
  policyPatchSchema,
  pullRequestSchema,
  type StatusView,
} from '../../contracts/rest.ts';
import { formatInstant, TOKEN_EXPIRED_CLOSE, type TokenClaims, warnAtMs } from '../../contracts/token.ts';
import type { AgentGateway } from './agents.ts';
import type { Feed } from './feed.ts';
import { checkToken, type TokenCheck } from './token.ts';

/** What the routes do. A FairwayError thrown here becomes an answer by its labels. */
export interface HttpHandlers {
  status(): StatusView;
  migrate(request: MigrateRequest): Promise<MigrateAnswer>;
  evacuate(request: EvacuateRequest): Promise<Evacuation>;
  migration(id: string): MigrationView | undefined;
  /** Answers what stands against it, if anything. `forget`: give it up. */
  cancel(id: string, forget: boolean): Promise<string | null>;
  /** `rateBps` null: no more. */
  pull(id: string, rateBps: number | null): Promise<MigrationView>;
  policy(): PolicyView;
  /** `author` is '' where nobody said who they are. */
  patchPolicy(fields: PolicyPatch, author: string): Promise<PolicyView>;
  policyHistory(): PolicyHistory;
}

export interface HttpOptions {
  host: string;
  /** 0 for any free one. */
  port: number;
  token: string;
  log: Log;
  clock: Clock;
  version: string;
  handlers: HttpHandlers;
  feed: Feed;
  agents: AgentGateway;
  /** Where there is a second controller. */
  pair?: HttpPair;
}

/** What the server shows of a pair, and lets through to it. */
export interface HttpPair {
  readonly role: string;
  readonly term: bigint;
  /** Throws the refusal of a controller that stands by. */
  mustBeInCharge(): void;
  /** Takes on a controller that follows the journal. */
  attach(ws: WebSocket): void;
}

const MAX_BODY_BYTES = 1024 * 1024;
/** A hello tells every guest of a host. */
const MAX_AGENT_MESSAGE_BYTES = 8 * 1024 * 1024;
const MAX_READER_MESSAGE_BYTES = 4 * 1024;
const MAX_ID_CHARS = 200;
/** A peer whose token has expired has this long to close its end, ms. */
const FAREWELL_MS = 2000;

class HttpError extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Record<string, string>;
  constructor(status: number, code: string, message: string, headers: Record<string, string> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

type Answer = { status: number; body: unknown };
type Route = (request: IncomingMessage, id: string) => Answer | Promise<Answer>;

/**
 * Starts to listen. Throws FairwayError `HTTP_LISTEN` (bad input) when the address cannot be had.
 * `close` ends all connections, and with them the feed and the agents' gateway.
 */
export async function startHttp(o: HttpOptions): Promise<{ port: number; close(): Promise<void> }> {
  const { handlers, log } = o;
  const routes: { path: RegExp; needsToken: boolean; methods: Record<string, Route> }[] = [
    {
      path: /^\/healthz$/,
      needsToken: false,
      methods: {
        GET: () => {
          const standing = o.pair && { role: o.pair.role, term: String(o.pair.term) };
          return { status: 200, body: { ok: true, version: o.version, ...standing } };
        },
      },
    },
    { path: /^\/v1\/status$/, needsToken: true, methods: { GET: () => ({ status: 200, body: handlers.status() }) } },
    {
      path: /^\/v1\/migrations$/,
      needsToken: true,
      methods: {
        POST: async (r) => ({ status: 202, body: await handlers.migrate(await readBody(r, migrateRequestSchema)) }),
      },
    },
    {
      path: /^\/v1\/evacuations$/,
      needsToken: true,
      methods: {
        POST: async (r) => {
          const request = await readBody(r, evacuateRequestSchema);
          return { status: request.dryRun ? 200 : 202, body: await handlers.evacuate(request) };
        },
      },
    },
    {
      path: /^\/v1\/migrations\/([^/]+)$/,
      needsToken: true,
      methods: {
        GET: (_r, id) => {
          const view = handlers.migration(id);
          if (!view) throw new HttpError(404, 'NOT_FOUND', `there is no migration ${id}`);
          return { status: 200, body: view };
        },
        DELETE: async (r, id) => {
          const note = await handlers.cancel(id, readForget(urlOf(r).searchParams.get('forget')));
          return { status: 202, body: { id, note } };
        },
      },
    },
    {
      path: /^\/v1\/migrations\/([^/]+)\/pull$/,
      needsToken: true,
      methods: {
        POST: async (r, id) => {
          const { rate } = await readBody(r, pullRequestSchema);
          return { status: 202, body: await handlers.pull(id, rate) };
        },
        DELETE: async (_r, id) => ({ status: 202, body: await handlers.pull(id, null) }),
      },
    },
    {
      path: /^\/v1\/policy$/,
      needsToken: true,
      methods: {
        GET: () => ({ status: 200, body: handlers.policy() }),
        PATCH: async (r) => ({
          status: 200,
          body: await handlers.patchPolicy(await readBody(r, policyPatchSchema), authorOf(r)),
        }),
      },
    },
    {
      path: /^\/v1\/policy\/history$/,
      needsToken: true,
      methods: { GET: () => ({ status: 200, body: handlers.policyHistory() }) },
    },
  ];

  /** `inAddress`: presented otherwise than by the header. */
  const check = (r: IncomingMessage, inAddress: string | null = null): TokenCheck => {
    const m = /^Bearer +(\S+) *$/i.exec(r.headers.authorization ?? '');
    return checkToken(m?.[1] ?? inAddress ?? '', o.token, o.clock.now());
  };
  /** What the token says that was presented; undefined: it is the controller's own. @throws HttpError where it is not good. */
  function admitted(r: IncomingMessage, inAddress: string | null = null): TokenClaims | undefined {
    const checked = check(r, inAddress);
    if (checked.isGood) return checked.claims;
    throw new HttpError(401, checked.code, checked.text, { 'www-authenticate': 'Bearer realm="fairway"' });
  }
  /** The token of a host's agent lets in that agent, and nobody else. */
  function mustBeForAll(claims: TokenClaims | undefined): void {
    if (claims?.host === undefined) return;
    const text = `this token is for the agent of ${claims.host} only: use one that was made without --host`;
    throw new HttpError(403, 'TOKEN_FOR_AGENT', text);
  }

  async function answer(request: IncomingMessage): Promise<Answer> {
    const { pathname } = urlOf(request);
    for (const { path, needsToken, methods } of routes) {
      const m = path.exec(pathname);
      if (!m) continue;
      if (needsToken) mustBeForAll(admitted(request));
      const route = methods[request.method ?? ''];
      if (!route) {
        const allow = Object.keys(methods).join(', ');
        throw new HttpError(405, 'METHOD', `${request.method} is not possible here, only ${allow}`, { allow });
      }
      return route(request, decodeId(m[1] ?? ''));
    }
    if (doors[pathname] !== undefined) {
      throw new HttpError(426, 'UPGRADE', `${pathname} is a WebSocket`, { upgrade: 'websocket' });
    }
    // Who has no token is not told which paths there are.
    admitted(request);
    throw new HttpError(404, 'NOT_FOUND', `there is nothing at ${pathname}`);
  }

  const server = createServer((request, response) => {
    answer(request).then(
      ({ status, body }) => send(response, status, body),
      (e: unknown) => {
        const error = asHttpError(e, (x) => log('error', 'http.failed', { url: pathOnly(request), error: x }));
        // What is left of a body that was refused is not waited for.
        const isRead = request.complete;
        send(response, error.status, errorBody(error), {
          ...error.headers,
          ...(isRead ? {} : { connection: 'close' }),
        });
      },
    );
  });
  server.requestTimeout = 30_000;
  server.headersTimeout = 10_000;
  server.on('clientError', (_e, socket) => {
    if (socket.writable) refuseUpgrade(socket, new HttpError(400, 'BAD_REQUEST', 'not an HTTP request'));
    else socket.destroy();
  });

  const common = { noServer: true, clientTracking: false, perMessageDeflate: false } as const;
  const feedDoor = new WebSocketServer({ ...common, maxPayload: MAX_READER_MESSAGE_BYTES });
  const agentDoor = new WebSocketServer({ ...common, maxPayload: MAX_AGENT_MESSAGE_BYTES });
  const upgraded = new Set<Duplex>();
  const journalDoor = new WebSocketServer({ ...common, maxPayload: MAX_READER_MESSAGE_BYTES });
  for (const door of [feedDoor, agentDoor, journalDoor]) {
    door.on('wsClientError', (e, socket) => refuseUpgrade(socket, new HttpError(400, 'BAD_REQUEST', e.message)));
  }
  /** Of each connection whose token expires: ends the waiting for that. */
  const expiring = new Set<() => void>();
  /** A connection lasts no longer than the token it came in with; its log says in time who needs another. */
  function expires(ws: WebSocket, claims: TokenClaims | undefined, door: string): void {
    if (claims === undefined) return;
    const about = { door, host: claims.host ?? null, expiresAt: formatInstant(claims.expiresAtMs) };
    const cure = 'make another with `fairway token make` and put it in its place; the holder takes it up by itself';
    const cancelWarning = callAt(o.clock, warnAtMs(claims), () => log('warn', 'token.expiresSoon', { ...about, cure }));
    let cancelEnd = callAt(o.clock, claims.expiresAtMs, () => {
      log('warn', 'token.expired', about);
      ws.close(TOKEN_EXPIRED_CLOSE, `the token expired at ${about.expiresAt}`);
      cancelEnd = o.clock.after(FAREWELL_MS, () => ws.terminate());
    });
    const forget = () => {
      cancelWarning();
      cancelEnd();
      expiring.delete(forget);
    };
    expiring.add(forget);
    ws.on('close', forget);
  }
  type Enter = (request: IncomingMessage, socket: Duplex, head: Buffer, claims: TokenClaims | undefined) => void;
  const { pair } = o;
  const doors: Record<string, Enter> = {
    '/feed': (request, socket, head, claims) => {
      mustBeForAll(claims);
      const topics = readTopics(urlOf(request).searchParams.get('topics'));
      feedDoor.handleUpgrade(request, socket, head, (ws) => {
        expires(ws, claims, 'feed');
        o.feed.attach(ws, topics);
      });
    },
    '/agent': (request, socket, head, claims) => {
      pair?.mustBeInCharge();
      agentDoor.handleUpgrade(request, socket, head, (ws) => {
        expires(ws, claims, 'agent');
        o.agents.attach(ws, claims?.host);
      });
    },
  };
  if (pair !== undefined)
    doors['/journal'] = (request, socket, head, claims) => {
      mustBeForAll(claims);
      pair.mustBeInCharge();
      journalDoor.handleUpgrade(request, socket, head, (ws) => {
        expires(ws, claims, 'journal');
        pair.attach(ws);
      });
    };
  server.on('upgrade', (request, socket, head) => {
    socket.on('error', (e) => log('debug', 'http.socket-error', { error: e.message }));
    upgraded.add(socket);
    socket.on('close', () => upgraded.delete(socket));
    try {
      const url = urlOf(request);
      const enter = doors[url.pathname];
      if (enter === undefined) {
        const known = Object.keys(doors).join(' and ');
        throw new HttpError(404, 'NOT_FOUND', `there is no WebSocket at ${url.pathname}, only at ${known}`);
      }
      // Browsers cannot set a header on a WebSocket: the feed, which only tells, takes the token in its address too.
      const inAddress = url.pathname === '/feed' ? url.searchParams.get('token') : null;
      enter(request, socket, head, admitted(request, inAddress));
    } catch (e) {
      refuseUpgrade(
        socket,
        asHttpError(e, (x) => log('error', 'http.upgrade-failed', { error: x })),
      );
    }
  });

  await new Promise<void>((resolve, reject) => {
    server.once('error', (e: NodeJS.ErrnoException) => {
      const why =
        e.code === 'EADDRINUSE'
          ? `port ${o.port} of ${o.host} is in use: stop what uses it, or set http.port to another`
          : `cannot listen on ${o.host} port ${o.port}: ${e.message}`;
      reject(new FairwayError('HTTP_LISTEN', why, ['badInput'], e));
    });
    server.listen(o.port, o.host, resolve);
  });
  server.on('error', (e) => log('error', 'http.server-error', { error: e }));

  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise<void>((resolve) => {
        for (const forget of expiring) forget();
        o.feed.close();
        o.agents.close();
        server.close(() => resolve());
        server.closeAllConnections();
        // Those that were told to close have this moment for it; then nothing of theirs is left.
        setImmediate(() => {
          for (const socket of upgraded) socket.destroy();
        });
      }),
  };
}

function urlOf(request: IncomingMessage): URL {
  try {
    return new URL(request.url ?? '/', 'http://controller');
  } catch {
    throw new HttpError(400, 'BAD_REQUEST', 'the address cannot be read');
  }
}

/** For logs: without a token that may be in the query. */
const pathOnly = (request: IncomingMessage): string => (request.url ?? '').split('?')[0] as string;

/** Who says they make the request; names beyond ASCII come percent-encoded. */
function authorOf(request: IncomingMessage): string {
  const text = String(request.headers[AUTHOR_HEADER] ?? '');
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function decodeId(text: string): string {
  let id: string;
  try {
    id = decodeURIComponent(text);
  } catch {
    throw new HttpError(400, 'BAD_REQUEST', 'the id cannot be read');
  }
  if (id.length > MAX_ID_CHARS) throw new HttpError(400, 'BAD_REQUEST', 'the id is too long');
  return id;
}

function readForget(text: string | null): boolean {
  if (text === null || text === 'false') return false;
  if (text === 'true') return true;
  throw new HttpError(400, 'BAD_REQUEST', `forget is true or false, not ${JSON.stringify(text)}`);
}

function readTopics(text: string | null): readonly Topic[] {
  if (text === null || text === '') return TOPICS;
  return [...new Set(text.split(','))].map((name) => {
    const topic = topicSchema.safeParse(name.trim());
    if (!topic.success) {
      throw new HttpError(
        400,
        'BAD_TOPIC',
        `there is no topic ${JSON.stringify(name)}; there are ${TOPICS.join(', ')}`,
      );
    }
    return topic.data;
  });
}

async function readBody<S extends z.ZodType>(request: IncomingMessage, schema: S): Promise<z.output<S>> {
  const tooLong = () => new HttpError(413, 'TOO_LONG', `a body may have ${MAX_BODY_BYTES} bytes`);
  if (Number(request.headers['content-length'] ?? 0) > MAX_BODY_BYTES) throw tooLong();
  const pieces: Buffer[] = [];
  let length = 0;
  // Listeners instead of an iterator: leaving that half way would destroy the socket before the answer is out.
  await new Promise<void>((resolve, reject) => {
    request.on('data', (piece: Buffer) => {
      length += piece.length;
      if (length > MAX_BODY_BYTES) {
        request.pause();
        reject(tooLong());
      } else {
        pieces.push(piece);
      }
    });
    request.on('end', resolve);
    request.on('error', reject);
    request.on('close', () => reject(new HttpError(400, 'BAD_REQUEST', 'the body broke off')));
  });
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(pieces, length).toString('utf8'));
  } catch (e) {
    throw new HttpError(400, 'NOT_JSON', `the body is not JSON: ${(e as Error).message}`);
  }
  const checked = schema.safeParse(value);
  if (!checked.success) throw new HttpError(400, 'BAD_INPUT', describeIssues(checked.error));
  return checked.data;
}

/** Turns what was thrown into an answer; what is nobody's mistake but ours is logged and not told. */
function asHttpError(e: unknown, logFault: (e: unknown) => void): HttpError {
  if (e instanceof HttpError) return e;
  if (e instanceof FairwayError) {
    if (e.has('badInput')) return new HttpError(400, e.code, e.message);
    if (e.has('unauthorized')) return new HttpError(401, e.code, e.message);
    if (e.has('notFound')) return new HttpError(404, e.code, e.message);
    if (e.has('conflict')) return new HttpError(409, e.code, e.message);
    if (e.has('retryable')) return new HttpError(503, e.code, e.message, { 'retry-after': '1' });
  }
  logFault(e);
  return new HttpError(500, 'INTERNAL', 'the controller failed to answer; its log says why');
}

const errorBody = (e: HttpError): unknown => ({ error: { code: e.code, message: e.message } });

function send(response: ServerResponse, status: number, body: unknown, headers: Record<string, string> = {}): void {
  const text = JSON.stringify(body);
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(text),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...headers,
  });
  response.end(text);
}

/** Answers on a socket that has left the HTTP server's hands. */
function refuseUpgrade(socket: Duplex, e: HttpError): void {
  const body = JSON.stringify(errorBody(e));
  const headers = {
    ...e.headers,
    'content-type': 'application/json; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
    connection: 'close',
  };
  const lines = Object.entries(headers).map(([k, v]) => `${k}: ${v}\r\n`);
  socket.end(`HTTP/1.1 ${e.status} ${STATUS_CODES[e.status]}\r\n${lines.join('')}\r\n${body}`, () => socket.destroy());
}
