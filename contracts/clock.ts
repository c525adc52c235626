/**
 * Time as an argument. Everything outside the pure rooms that needs time takes a Clock, so that a simulation can run the
 * same code faster than real time. Core code never sees a clock: it gets `nowMs` with each event.
 */
export interface Clock {
  /** Milliseconds since the epoch (of the simulation, where it is one). */
  now(): number;
  /** Calls `fn` once after `ms`; the returned function cancels. */
  after(ms: number, fn: () => void): () => void;
  /** Calls `fn` every `ms`; the returned function stops. */
  every(ms: number, fn: () => void): () => void;
}

/** The machine's clock. `speed` 10 makes ten clock seconds pass in one real second. */
export function systemClock(speed = 1): Clock {
  const startReal = performance.now();
  const start = Date.now();
  return {
    now: () => start + (performance.now() - startReal) * speed,
    after(ms, fn) {
      const t = setTimeout(fn, ms / speed);
      return () => clearTimeout(t);
    },
    every(ms, fn) {
      const t = setInterval(fn, ms / speed);
      return () => clearInterval(t);
    },
  };
}

/** Timers of the machine hold 2^31 − 1 ms at most. */
const LONGEST_WAIT_MS = 86_400_000;

/** Calls `fn` once when the clock says `atMs`, however far off that is; at once where it is past. The returned function cancels. */
export function callAt(clock: Clock, atMs: number, fn: () => void): () => void {
  let cancel: () => void = () => {};
  const wait = (): void => {
    const leftMs = atMs - clock.now();
    cancel = clock.after(Math.max(0, Math.min(leftMs, LONGEST_WAIT_MS)), leftMs > LONGEST_WAIT_MS ? wait : fn);
  };
  wait();
  return () => cancel();
}
