/** What the tests of controller/io share: a clock moved by hand, and waiting for something to happen on real sockets. */
import type { Clock } from '../../../contracts/clock.ts';

/** Time passes only in `advance`. */
export class ManualClock implements Clock {
  #now: number;
  readonly #timers = new Set<{ atMs: number; everyMs: number | undefined; fn: () => void }>();
  constructor(startMs = 1_000_000) {
    this.#now = startMs;
  }
  now(): number {
    return this.#now;
  }
  after(ms: number, fn: () => void): () => void {
    return this.#add({ atMs: this.#now + ms, everyMs: undefined, fn });
  }
  every(ms: number, fn: () => void): () => void {
    return this.#add({ atMs: this.#now + ms, everyMs: ms, fn });
  }
  /** How many timers are set: 0 when everything was closed properly. */
  get timers(): number {
    return this.#timers.size;
  }
  advance(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const next = [...this.#timers].filter((t) => t.atMs <= end).sort((a, b) => a.atMs - b.atMs)[0];
      if (!next) break;
      this.#now = next.atMs;
      if (next.everyMs === undefined) this.#timers.delete(next);
      else next.atMs += next.everyMs;
      next.fn();
    }
    this.#now = end;
  }
  #add(timer: { atMs: number; everyMs: number | undefined; fn: () => void }): () => void {
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }
}

/** Waits until something holds, for long on a busy machine; fails with `what` when it never does. */
export async function until(holds: () => boolean, what: string, limitMs = 60_000): Promise<void> {
  for (const endMs = performance.now() + limitMs; performance.now() < endMs; ) {
    if (holds()) return;
    await new Promise((r) => setTimeout(r, 5));
  }
  throw new Error(`gave up waiting until ${what}`);
}

/** Lets what is under way on sockets come to rest. */
export const settle = (ms = 60): Promise<void> => new Promise((r) => setTimeout(r, ms));
