/** When what a switch or its database did not do is asked for again. Part of `step.ts`; `tunnels.ts` goes by it too. */
import type { Turn } from './turn.ts';

const RETRY_MS = 10_000;
const RETRY_MOST_MS = 160_000;

/** Wait after so many failures in a row, ms. */
export const retryMs = (failures: number): number => Math.min(RETRY_MOST_MS, RETRY_MS * 2 ** Math.max(0, failures - 1));

/** What is remembered of changes that failed one after the other. */
export interface Tries {
  failures: number;
  /** Meaningful after a failure. */
  retryAtMs: number;
}

/** Nothing has failed yet. */
export const NO_TRIES: Tries = { failures: 0, retryAtMs: 0 };

/** … after one more answer. */
export function nextTry(t: Turn, before: Tries, failed: boolean): Tries {
  const failures = failed ? before.failures + 1 : 0;
  return { failures, retryAtMs: failed ? t.nowMs + retryMs(failures) : 0 };
}
