/**
 * Joins an OfConnection (connection.ts) to a Node stream, such as a socket of node:net or node:tls. Types only: the stream
 * and the clock are the caller's, so this file needs neither.
 */
import type { OfConnection } from './connection.ts';
import type { Transport } from './connectionTypes.ts';
import type { Version } from './wire.ts';

/** What is used of a `stream.Duplex`. */
export interface DuplexLike {
  on(event: 'data', listener: (chunk: Buffer) => void): unknown;
  on(event: 'drain' | 'end' | 'close', listener: () => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  write(bytes: Uint8Array): boolean;
  end(): unknown;
  destroy(): unknown;
  pause(): unknown;
  resume(): unknown;
}

/** Time as the caller has it. */
export interface Timers {
  /** A time in ms that never goes back. */
  now(): number;
  /** Calls `fn` once after `ms`; the returned function cancels. */
  after(ms: number, fn: () => void): () => void;
  /** Calls `fn` at the end of this turn of the event loop: `setImmediate`. */
  soon(fn: () => void): void;
}

/** How long a stream may take to get its last bytes out before it is torn down, in ms. */
const GRACE_MS = 500;

/** Opens `connection` over `duplex` and keeps the two going until one of them ends. */
export function attach<V extends Version>(connection: OfConnection<V>, duplex: DuplexLike, timers: Timers): void {
  let armedFor = Number.POSITIVE_INFINITY;
  let disarm = () => {};
  let isFlushing = false;
  let isOver = false;
  let failure: Error | undefined;

  /** One timer, which may go off too early but never too late: deadlines mostly move away. */
  const arm = () => {
    const deadline = isOver ? undefined : connection.nextDeadline();
    if (deadline === undefined) {
      disarm();
      armedFor = Number.POSITIVE_INFINITY;
      return;
    }
    if (deadline >= armedFor) return;
    disarm();
    armedFor = deadline;
    disarm = timers.after(Math.max(0, deadline - timers.now()), () => {
      armedFor = Number.POSITIVE_INFINITY;
      settle(() => connection.tick(timers.now()));
    });
  };
  const settle = (act: () => void) => {
    try {
      act();
    } finally {
      arm();
    }
  };
  const over = () => {
    if (isOver) return;
    isOver = true;
    settle(() => connection.closed(failure));
  };

  const transport: Transport = {
    write: (bytes) => duplex.write(bytes),
    close() {
      isOver = true;
      disarm();
      duplex.end();
      const cancel = timers.after(GRACE_MS, () => duplex.destroy());
      duplex.on('close', cancel);
    },
    wantsFlush() {
      if (isFlushing) return;
      isFlushing = true;
      timers.soon(() => {
        isFlushing = false;
        if (!isOver) settle(() => connection.flush(timers.now()));
      });
    },
    setReading(isReading) {
      if (isReading) duplex.resume();
      else duplex.pause();
    },
  };
  duplex.on('data', (chunk) => {
    if (isOver) return;
    try {
      connection.received(chunk, timers.now());
    } finally {
      arm();
    }
  });
  duplex.on('drain', () => {
    if (!isOver) settle(() => connection.drained(timers.now()));
  });
  duplex.on('error', (error) => {
    failure = error;
  });
  duplex.on('end', () => {
    over();
    duplex.end();
  });
  duplex.on('close', over);
  settle(() => connection.open(transport, timers.now()));
}
