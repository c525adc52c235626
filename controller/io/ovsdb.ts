/**
 * A client of the Open vSwitch database protocol (JSON-RPC 1.0 over a stream, RFC 7047), over `unix:/path` or
 * `tcp:host:port`. It keeps one connection up, answers and sends echoes, matches replies to requests and says of each
 * request that failed whether it may have been carried out. It knows nothing of queues: `qos.ts` stands on top of it.
 */
import { connect, type Socket } from 'node:net';
import type { Clock } from '../../contracts/clock.ts';
import { type ErrorLabel, FairwayError } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/**
 * Cuts a byte stream into JSON objects, whatever the chunks are. Works on bytes: no byte of a multi-byte UTF-8
 * character looks like one of the signs it counts. Each byte is looked at once.
 * Throws FairwayError `OVSDB_FRAMING` when the stream holds something else, or an object above the limits.
 */
export class JsonFramer {
  readonly #maxBytes: number;
  readonly #maxDepth: number;
  #held: Buffer[] = [];
  #heldBytes = 0;
  #depth = 0;
  #inString = false;
  #escaped = false;

  constructor(maxBytes = 16 * 1024 * 1024, maxDepth = 128) {
    this.#maxBytes = maxBytes;
    this.#maxDepth = maxDepth;
  }

  /** Takes the next chunk and returns the objects it completes, in order. */
  push(chunk: Buffer): Record<string, unknown>[] {
    const complete: Record<string, unknown>[] = [];
    let start = 0;
    for (let i = 0; i < chunk.length; i++) {
      const byte = chunk[i] as number;
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (byte === BACKSLASH) this.#escaped = true;
        else if (byte === QUOTE) this.#inString = false;
      } else if (this.#depth === 0) {
        if (byte === OPEN_BRACE) {
          start = i;
          this.#depth = 1;
        } else if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) {
          throw framing(`byte 0x${byte.toString(16)} where a JSON object should begin`);
        }
      } else if (byte === QUOTE) {
        this.#inString = true;
      } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        this.#depth++;
        if (this.#depth > this.#maxDepth) throw framing(`nested deeper than ${this.#maxDepth}`);
      } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
        this.#depth--;
        if (this.#depth === 0) {
          complete.push(this.#parse(chunk.subarray(start, i + 1)));
          start = i + 1;
        }
      }
    }
    if (this.#depth > 0) this.#hold(chunk.subarray(start));
    return complete;
  }

  #hold(piece: Buffer): void {
    this.#heldBytes += piece.length;
    if (this.#heldBytes > this.#maxBytes) throw framing(`a message is longer than ${this.#maxBytes} bytes`);
    this.#held.push(piece);
  }

  #parse(last: Buffer): Record<string, unknown> {
    this.#hold(last);
    const text = Buffer.concat(this.#held, this.#heldBytes).toString('utf8');
    this.#held = [];
    this.#heldBytes = 0;
    try {
      return JSON.parse(text) as Record<string, unknown>;
    } catch (e) {
      throw framing(`not JSON: ${(e as Error).message}`);
    }
  }
}

function framing(what: string): FairwayError {
  return new FairwayError('OVSDB_FRAMING', `the OVSDB peer does not speak JSON-RPC: ${what}`);
}

/** One operation of a transaction (RFC 7047 section 5.2). */
export type OvsdbOperation = { op: string; table?: string } & Record<string, unknown>;

/** What one operation answered: `rows` of a select, `uuid` of an insert, `count` of an update, mutate or delete. */
export interface OvsdbResult {
  rows?: Record<string, unknown>[];
  uuid?: ['uuid', string];
  count?: number;
}

export interface OvsdbClientOptions {
  /** `unix:/path` or `tcp:host:port` (IPv6 addresses in brackets). */
  remote: string;
  clock: Clock;
  log: Log;
  /** A request not answered for this long fails with `OVSDB_TIMEOUT` (outcome unknown), ms. */
  requestTimeoutMs?: number;
  /** First and longest wait between connection attempts, ms. */
  minBackoffMs?: number;
  maxBackoffMs?: number;
  /** A connection silent for this long is asked for an echo, and dropped after as long again, ms. */
  probeMs?: number;
  maxMessageBytes?: number;
}

interface Pending {
  resolve(result: unknown): void;
  reject(error: Error): void;
  cancelTimer(): void;
}

const MAX_PENDING = 1000;

/** Where a remote leads; throws FairwayError `OVSDB_REMOTE` (bad input) for one that is not understood. */
export function parseOvsdbRemote(remote: string): { path: string } | { host: string; port: number } {
  const unix = /^unix:(.+)$/.exec(remote);
  if (unix) return { path: unix[1] as string };
  const tcp = /^tcp:(?:\[([^\]]+)\]|([^:[\]]+)):([0-9]{1,5})$/.exec(remote);
  const port = Number(tcp?.[3]);
  if (tcp && port > 0 && port < 65536) return { host: (tcp[1] ?? tcp[2]) as string, port };
  throw new FairwayError(
    'OVSDB_REMOTE',
    `"${remote}" is no OVSDB address this controller can use: write unix:/path/to/db.sock or tcp:host:port`,
    ['badInput'],
  );
}

/**
 * A connection to one OVSDB server, kept up until `close()`. Requests made while it is away wait for it, up to their
 * time-out. Errors are FairwayErrors:
 *
 * | code | labels | when |
 * |---|---|---|
 * | `OVSDB_AWAY` | retryable | never sent: no connection within the time-out |
 * | `OVSDB_LOST` | retryable, outcomeUnknown | the connection broke after sending, before the reply |
 * | `OVSDB_TIMEOUT` | retryable, outcomeUnknown | sent, no reply in time |
 * | `OVSDB_WAIT` | retryable, conflict | a `wait` operation did not hold (in time) |
 * | `OVSDB_REFUSED` | badInput | the server refused the request or an operation of it |
 * | `OVSDB_CLOSED` | – | `close()` was called |
 */
export class OvsdbClient {
  readonly remote: string;
  readonly clock: Clock;
  readonly #address: { path: string } | { host: string; port: number };
  readonly #log: Log;
  readonly #requestTimeoutMs: number;
  readonly #minBackoffMs: number;
  readonly #maxBackoffMs: number;
  readonly #probeMs: number;
  readonly #maxMessageBytes: number;
  readonly #pending = new Map<number, Pending>();
  readonly #waiting = new Set<{ resolve(): void; reject(e: Error): void }>();
  readonly #onConnected = new Set<() => void>();
  readonly #onAway = new Set<() => void>();
  readonly #onUpdate = new Set<(monitor: unknown) => void>();
  #socket: Socket | undefined;
  #isReady = false;
  #isClosed = false;
  #nextId = 1;
  #backoffMs: number;
  #cancelRetry: (() => void) | undefined;
  #stopProbe: (() => void) | undefined;
  #heardAtMs = 0;
  #probeSent = false;
  #lastProblem = 'not connected yet';

  /** Starts connecting at once. */
  constructor(o: OvsdbClientOptions) {
    this.remote = o.remote;
    this.clock = o.clock;
    this.#address = parseOvsdbRemote(o.remote);
    this.#log = o.log;
    this.#requestTimeoutMs = o.requestTimeoutMs ?? 10_000;
    this.#minBackoffMs = o.minBackoffMs ?? 200;
    this.#maxBackoffMs = o.maxBackoffMs ?? 5_000;
    this.#probeMs = o.probeMs ?? 5_000;
    this.#maxMessageBytes = o.maxMessageBytes ?? 16 * 1024 * 1024;
    this.#backoffMs = this.#minBackoffMs;
    this.#connect();
  }

  /** True while the server answers. */
  get connected(): boolean {
    return this.#isReady;
  }

  /** Calls `fn` each time a connection is up (not for one that already is); the returned function unsubscribes. */
  onConnected(fn: () => void): () => void {
    this.#onConnected.add(fn);
    return () => this.#onConnected.delete(fn);
  }

  /** Calls `fn` when there is no connection any more, or the first attempt at one has failed; the returned function unsubscribes. */
  onAway(fn: () => void): () => void {
    this.#onAway.add(fn);
    return () => this.#onAway.delete(fn);
  }

  /**
   * Calls `fn` with a monitor's id each time the server tells of a change that is monitored (RFC 7047 section 4.1.6). Monitors are
   * asked for with `call('monitor', …)`, anew on each connection.
   */
  onUpdate(fn: (monitor: unknown) => void): () => void {
    this.#onUpdate.add(fn);
    return () => this.#onUpdate.delete(fn);
  }

  /** Resolves when the server answers; rejects with `OVSDB_AWAY` after `timeoutMs`. */
  async ready(timeoutMs = this.#requestTimeoutMs): Promise<void> {
    if (this.#isClosed) throw this.#closedError();
    if (this.#isReady) return;
    await new Promise<void>((resolve, reject) => {
      const cancel = this.clock.after(timeoutMs, () => {
        this.#waiting.delete(waiter);
        reject(
          new FairwayError('OVSDB_AWAY', `no OVSDB at ${this.remote}: ${this.#lastProblem}; is ovsdb-server running?`, [
            'retryable',
          ]),
        );
      });
      const waiter = {
        resolve: () => {
          cancel();
          resolve();
        },
        reject: (e: Error) => {
          cancel();
          reject(e);
        },
      };
      this.#waiting.add(waiter);
    });
  }

  /** Names of the databases the server holds. */
  async listDbs(): Promise<string[]> {
    return (await this.call('list_dbs', [])) as string[];
  }

  /** The schema of a database, as the server words it. */
  async getSchema(db: string): Promise<{ name: string; version: string; tables: Record<string, unknown> }> {
    return (await this.call('get_schema', [db])) as { name: string; version: string; tables: Record<string, unknown> };
  }

  /**
   * One transaction: all operations or none. Answers one result per operation.
   * `timeoutMs` must be longer than the time-out of any `wait` operation inside.
   */
  async transact(db: string, operations: readonly OvsdbOperation[], timeoutMs?: number): Promise<OvsdbResult[]> {
    const answer = await this.call('transact', [db, ...operations], timeoutMs);
    if (!Array.isArray(answer)) {
      throw new FairwayError('OVSDB_REFUSED', `OVSDB ${this.remote} answered a transaction with something else`, []);
    }
    // A failed operation is followed by nulls; a failed commit is one more element after all operations (section 4.1.3).
    answer.forEach((r, i) => {
      const e = r as { error?: unknown; details?: unknown } | null;
      if (e === null || typeof e !== 'object' || typeof e.error !== 'string') return;
      const op = operations[i];
      const at = op ? `operation ${i} (${op.op}${op.table ? ` ${op.table}` : ''})` : 'the commit';
      const details = typeof e.details === 'string' ? `: ${e.details}` : '';
      const labels: ErrorLabel[] = e.error === 'timed out' ? ['retryable', 'conflict'] : ['badInput'];
      throw new FairwayError(
        e.error === 'timed out' ? 'OVSDB_WAIT' : 'OVSDB_REFUSED',
        `OVSDB ${this.remote} refused ${at}: ${e.error}${details}`,
        labels,
      );
    });
    return answer as OvsdbResult[];
  }

  /** One JSON-RPC request; the result is not looked into. `timeoutMs` covers waiting for the connection as well. */
  async call(method: string, params: unknown[], timeoutMs = this.#requestTimeoutMs): Promise<unknown> {
    const deadlineMs = this.clock.now() + timeoutMs;
    await this.ready(timeoutMs);
    return this.#request(method, params, Math.max(1, deadlineMs - this.clock.now()));
  }

  /** Drops the connection; what is still open is rejected with `OVSDB_CLOSED`. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#drop('closed by us');
    for (const w of this.#waiting) w.reject(this.#closedError());
    this.#waiting.clear();
    this.#onConnected.clear();
    this.#onAway.clear();
    this.#onUpdate.clear();
  }

  #closedError(): FairwayError {
    return new FairwayError('OVSDB_CLOSED', `the connection to OVSDB ${this.remote} was closed`);
  }

  #request(method: string, params: unknown[], timeoutMs: number): Promise<unknown> {
    const socket = this.#socket;
    if (!socket) {
      return Promise.reject(
        new FairwayError('OVSDB_AWAY', `no OVSDB at ${this.remote}: ${this.#lastProblem}`, ['retryable']),
      );
    }
    if (this.#pending.size >= MAX_PENDING) {
      return Promise.reject(
        new FairwayError('OVSDB_BUSY', `${MAX_PENDING} requests to OVSDB ${this.remote} are unanswered`, ['retryable']),
      );
    }
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      const cancelTimer = this.clock.after(timeoutMs, () => {
        this.#pending.delete(id);
        reject(
          new FairwayError('OVSDB_TIMEOUT', `OVSDB ${this.remote} did not answer ${method} in ${timeoutMs} ms`, [
            'retryable',
            'outcomeUnknown',
          ]),
        );
      });
      this.#pending.set(id, { resolve, reject, cancelTimer });
      socket.write(JSON.stringify({ method, params, id }));
    });
  }

  #connect(): void {
    if (this.#isClosed) return;
    const socket = connect(this.#address);
    const framer = new JsonFramer(this.#maxMessageBytes);
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on('error', (e) => this.#gone(socket, e.message));
    socket.on('close', () => this.#gone(socket, 'the server closed the connection'));
    socket.on('connect', () => this.#greet(socket));
    socket.on('data', (chunk: Buffer) => {
      if (socket !== this.#socket) return;
      this.#heardAtMs = this.clock.now();
      this.#probeSent = false;
      try {
        for (const message of framer.push(chunk)) this.#receive(socket, message);
      } catch (e) {
        this.#gone(socket, (e as Error).message);
      }
    });
  }

  /** The connection counts only once the other side has answered as an OVSDB; a port that accepts and drops does not. */
  #greet(socket: Socket): void {
    this.#heardAtMs = this.clock.now();
    this.#probeSent = false;
    this.#stopProbe?.();
    this.#stopProbe = this.clock.every(this.#probeMs, () => this.#probe(socket));
    this.#request('list_dbs', [], this.#requestTimeoutMs).then(
      () => {
        if (socket !== this.#socket) return;
        this.#isReady = true;
        this.#backoffMs = this.#minBackoffMs;
        this.#log('info', 'ovsdb.connected', { remote: this.remote });
        for (const w of this.#waiting) w.resolve();
        this.#waiting.clear();
        for (const fn of [...this.#onConnected]) fn();
      },
      (e: Error) => this.#gone(socket, e.message),
    );
  }

  #probe(socket: Socket): void {
    if (socket !== this.#socket) return;
    if (this.clock.now() - this.#heardAtMs < this.#probeMs) return;
    if (this.#probeSent) {
      this.#gone(socket, `no answer to an echo for ${this.#probeMs} ms`);
      return;
    }
    this.#probeSent = true;
    this.#request('echo', ['fairway'], 2 * this.#probeMs).catch(() => {
      // The connection is judged by the silence above, whatever becomes of this one request.
    });
  }

  #receive(socket: Socket, message: Record<string, unknown>): void {
    if (typeof message.method === 'string') {
      if (message.id === null || message.id === undefined) {
        const [monitor] = Array.isArray(message.params) ? (message.params as unknown[]) : [];
        if (message.method === 'update') for (const fn of [...this.#onUpdate]) fn(monitor);
        return;
      }
      const reply =
        message.method === 'echo'
          ? { id: message.id, result: message.params ?? [], error: null }
          : { id: message.id, result: null, error: 'unknown method' };
      socket.write(JSON.stringify(reply));
      return;
    }
    const pending = this.#pending.get(message.id as number);
    if (!pending) return;
    this.#pending.delete(message.id as number);
    pending.cancelTimer();
    if (message.error === null || message.error === undefined) {
      pending.resolve(message.result);
      return;
    }
    const e = message.error as { error?: unknown; details?: unknown } | string;
    const text = typeof e === 'string' ? e : [e.error, e.details].filter((x) => typeof x === 'string').join(': ');
    pending.reject(
      new FairwayError('OVSDB_REFUSED', `OVSDB ${this.remote} refused the request: ${text}`, ['badInput']),
    );
  }

  #gone(socket: Socket, problem: string): void {
    if (socket !== this.#socket) return;
    const wasReady = this.#isReady;
    this.#drop(problem);
    if (this.#isClosed) return;
    if (wasReady || this.#backoffMs === this.#minBackoffMs) {
      this.#log('warn', 'ovsdb.away', { remote: this.remote, problem, retryInMs: this.#backoffMs });
      for (const fn of [...this.#onAway]) fn();
    }
    this.#cancelRetry = this.clock.after(this.#backoffMs, () => this.#connect());
    this.#backoffMs = Math.min(this.#backoffMs * 2, this.#maxBackoffMs);
  }

  #drop(problem: string): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#isReady = false;
    this.#lastProblem = problem;
    this.#stopProbe?.();
    this.#stopProbe = undefined;
    socket?.destroy();
    const lost = [...this.#pending.values()];
    this.#pending.clear();
    for (const p of lost) {
      p.cancelTimer();
      p.reject(
        this.#isClosed
          ? this.#closedError()
          : new FairwayError('OVSDB_LOST', `the connection to OVSDB ${this.remote} broke: ${problem}`, [
              'retryable',
              'outcomeUnknown',
            ]),
      );
    }
  }
}
