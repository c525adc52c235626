/**
 * Two connections joined by two pipes in memory, for tests: bytes move, and time passes, only when the test says so. A pipe
 * loses nothing and keeps order; it takes bytes up to its capacity and then asks the writer to wait.
 */
import {
  type ConnectionHandler,
  type ConnectionOptions,
  type DownReason,
  OfConnection,
  type OfMessage,
  type OfRequestError,
  type Transport,
  type Version,
} from 'node-openflow';

/** One direction of a stream. */
class Pipe {
  #bytes = Buffer.alloc(0);
  isEnded = false;
  isReading = true;
  capacity = Number.POSITIVE_INFINITY;
  /** Most bytes that ever were in it. */
  most = 0;
  writes = 0;

  get length(): number {
    return this.#bytes.length;
  }
  put(bytes: Buffer): boolean {
    if (this.isEnded) throw new Error('written after the end');
    this.writes++;
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    this.most = Math.max(this.most, this.length);
    return this.length < this.capacity;
  }
  take(n: number): Buffer {
    const out = Buffer.from(this.#bytes.subarray(0, n));
    this.#bytes = this.#bytes.subarray(n);
    return out;
  }
}

/** What an end has told its owner. */
export interface Told<V extends Version = Version> {
  up: { version: V; features: unknown }[];
  messages: OfMessage<V>[];
  errors: OfRequestError[];
  bad: Error[];
  down: DownReason[];
}

export class End<const V extends Version = Version> {
  readonly told: Told<V> = { up: [], messages: [], errors: [], bad: [], down: [] };
  readonly out = new Pipe();
  readonly connection: OfConnection<V>;
  readonly #handler: ConnectionHandler<V>;
  closedWith: DownReason | undefined;
  /** Set while the transport has asked the connection to wait. */
  waits = false;

  constructor(options: ConnectionOptions<V> = {}, handler: ConnectionHandler<V> = {}) {
    this.#handler = handler;
    this.connection = new OfConnection<V>(
      {
        onUp: (up) => {
          this.told.up.push(up);
          this.#handler.onUp?.(up);
        },
        onMessage: (m) => {
          this.told.messages.push(m);
          this.#handler.onMessage?.(m);
        },
        onError: (e) => {
          this.told.errors.push(e);
          this.#handler.onError?.(e);
        },
        onBadMessage: (e, bytes) => {
          this.told.bad.push(e);
          this.#handler.onBadMessage?.(e, bytes);
        },
        onDown: (r) => {
          this.told.down.push(r);
          this.#handler.onDown?.(r);
        },
      },
      options,
    );
  }

  transport(peer?: End<never> | { out: Pipe }): Transport {
    return {
      write: (bytes) => {
        if (this.waits) throw new Error('written while it should wait');
        this.waits = !this.out.put(bytes);
        return !this.waits;
      },
      close: (reason) => {
        this.closedWith = reason;
        this.out.isEnded = true;
      },
      setReading: (isReading) => {
        if (peer) peer.out.isReading = isReading;
      },
    };
  }
}

/** A controller and a switch, connected. */
export class BackToBack<C extends Version = Version, S extends Version = Version> {
  now = 1000;
  readonly controller: End<C>;
  readonly switch: End<S>;

  constructor(controller: End<C>, switchEnd: End<S>) {
    this.controller = controller;
    this.switch = switchEnd;
  }

  open(): this {
    this.controller.connection.open(this.controller.transport(this.switch), this.now);
    this.switch.connection.open(this.switch.transport(this.controller), this.now);
    return this;
  }

  /** Moves up to `n` bytes from one end to the other; the end of the stream counts as the last byte. */
  move(from: 'controller' | 'switch', n = Number.POSITIVE_INFINITY): boolean {
    const a: End<never> = this[from] as never;
    const b: End<never> = this[from === 'controller' ? 'switch' : 'controller'] as never;
    if (a.out.length === 0) {
      if (!a.out.isEnded || b.connection.downReason !== undefined) return false;
      b.connection.closed();
      return true;
    }
    if (!a.out.isReading && b.connection.downReason === undefined) return false;
    b.connection.received(a.out.take(n), this.now);
    if (a.waits && a.out.length === 0 && a.connection.downReason === undefined) {
      a.waits = false;
      a.connection.drained(this.now);
    }
    return true;
  }

  /** Lets both ends write, and moves everything until nothing is left to move. */
  settle(): void {
    for (let i = 0; i < 10_000; i++) {
      this.flush();
      const moved = this.move('controller') || this.move('switch');
      if (!moved) return;
    }
    throw new Error('the two never come to rest');
  }

  flush(): void {
    this.controller.connection.flush(this.now);
    this.switch.connection.flush(this.now);
  }

  /** Lets time pass, calling `tick` whenever it is asked for. */
  pass(ms: number, between: () => void = () => {}): void {
    const until = this.now + ms;
    for (let i = 0; i < 10_000; i++) {
      const next = Math.min(
        this.controller.connection.nextDeadline() ?? Number.POSITIVE_INFINITY,
        this.switch.connection.nextDeadline() ?? Number.POSITIVE_INFINITY,
      );
      if (next > until) {
        this.now = until;
        return;
      }
      this.now = Math.max(this.now, next);
      this.controller.connection.tick(this.now);
      this.switch.connection.tick(this.now);
      between();
    }
    throw new Error('deadlines do not move on');
  }
}

/** What has become of a promise, once microtasks have run. */
export interface Outcome<T> {
  times: number;
  value?: T;
  error?: Error;
}
export function watch<T>(promise: Promise<T>): Outcome<T> {
  const outcome: Outcome<T> = { times: 0 };
  promise.then(
    (value) => {
      outcome.times++;
      outcome.value = value;
    },
    (error: Error) => {
      outcome.times++;
      outcome.error = error;
    },
  );
  return outcome;
}

/** Lets promise callbacks run. */
export const microtasks = () => new Promise<void>((resolve) => setImmediate(resolve));
