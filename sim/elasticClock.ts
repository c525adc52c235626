/**
 * The data centre's clock: runs faster than real time, but never further than `maxStepMs` while this process does not get
 * to run. Controller, agents and switches share one process here, and a busy machine can keep it from running for a while;
 * on a plain sped-up clock that pause would look like a slow controller, many times over. Beside contracts/clock.ts.
 */
import type { Clock } from '../contracts/clock.ts';

export interface ElasticClock extends Clock {
  /** Stops time: no timer fires any more, and nothing keeps the process alive. */
  close(): void;
}

/** Real time between two looks at what is due, ms. */
const TICK_MS = 4;

/**
 * @param speed clock seconds in one real second
 * @param maxStepMs furthest the clock moves between two turns of the event loop, ms of the clock
 * @param realNowMs real time, for tests
 */
export function elasticClock(
  speed: number,
  maxStepMs = Math.max(50, speed * 4 * TICK_MS),
  realNowMs: () => number = () => performance.now(),
): ElasticClock {
  const timers = new Set<{ dueMs: number; everyMs: number | undefined; fn: () => void }>();
  let nowMs = Date.now();
  let realMs = realNowMs();

  const now = (): number => nowMs + Math.min(maxStepMs, Math.max(0, realNowMs() - realMs) * speed);
  const add = (ms: number, everyMs: number | undefined, fn: () => void) => {
    const timer = { dueMs: now() + ms, everyMs, fn };
    timers.add(timer);
    return () => {
      timers.delete(timer);
    };
  };
  const ticking = setInterval(() => {
    nowMs = now();
    realMs = realNowMs();
    const due = [...timers].filter((t) => t.dueMs <= nowMs).sort((a, b) => a.dueMs - b.dueMs);
    for (const t of due) {
      // An earlier one may have cancelled it.
      if (!timers.has(t)) continue;
      if (t.everyMs === undefined) timers.delete(t);
      // Periods that were missed are not made up for.
      else t.dueMs += t.everyMs * (Math.floor((nowMs - t.dueMs) / t.everyMs) + 1);
      t.fn();
    }
  }, TICK_MS);

  return {
    now,
    after: (ms, fn) => add(ms, undefined, fn),
    every: (ms, fn) => add(ms, Math.max(1, ms), fn),
    close() {
      clearInterval(ticking);
      timers.clear();
    },
  };
}

/** Resolves after `ms` of the clock; rejects with the signal's reason when it aborts first. */
export function sleepOn(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const stop = () => {
      cancel();
      reject(signal.reason);
    };
    const cancel = clock.after(ms, () => {
      signal.removeEventListener('abort', stop);
      resolve();
    });
    signal.addEventListener('abort', stop, { once: true });
  });
}
