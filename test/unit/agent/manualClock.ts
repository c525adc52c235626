/** A clock that stands still until told to move; timers fire in order, each at its own time. */
import type { Clock } from '../../../contracts/clock.ts';

export interface ManualClock extends Clock {
  advance(ms: number): void;
}

export function manualClock(): ManualClock {
  let now = 1_000_000;
  let lastId = 0;
  const timers = new Map<number, { atMs: number; everyMs: number | undefined; fn: () => void }>();
  const add = (ms: number, everyMs: number | undefined, fn: () => void) => {
    const id = ++lastId;
    timers.set(id, { atMs: now + ms, everyMs, fn });
    return () => {
      timers.delete(id);
    };
  };
  return {
    now: () => now,
    after: (ms, fn) => add(ms, undefined, fn),
    every: (ms, fn) => add(ms, ms, fn),
    advance(ms) {
      const end = now + ms;
      for (;;) {
        const due = [...timers].filter(([, t]) => t.atMs <= end).sort(([, a], [, b]) => a.atMs - b.atMs)[0];
        if (due === undefined) break;
        const [id, t] = due;
        now = t.atMs;
        if (t.everyMs === undefined) timers.delete(id);
        else t.atMs += t.everyMs;
        t.fn();
      }
      now = end;
    },
  };
}
