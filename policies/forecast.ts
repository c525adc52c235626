/**
 * When a copy will be done: from the cost models where it has not begun, from what is left of it where it runs. Beside the
 * expected time stands an interval that holds what may still change: how fast memory is written, and what rate the copy
 * is given. Neighbours: `cost/` has the models, of a whole copy and of the rest of one; `controller/core/` asks here how
 * a migration that runs does against its plan, and when it will be done.
 */
import type { Technique } from '../contracts/common.ts';
import { type CopyState, type GuestModel, predictCopy, predictRest } from './cost/index.ts';
import type { CompiledPolicy } from './document.ts';

export interface Forecast {
  /** ms from now. */
  leftMs: number;
  earliestMs: number;
  latestMs: number;
}

/** Measuring, preparing, switching over and telling each other of it, beside the copy itself. */
export const OVERHEAD_MS = 2000;
/** Memory may be written so much slower or faster than it was last measured. */
const DIRTY_LEAST = 0.5;
const DIRTY_MOST = 1.5;
/** Of a copy that is forecast by itself: it keeps its slice this well, or finds this much room beside it. */
const RATE_LEAST = 0.75;
const RATE_MOST = 1.15;
/** What is left of a copy was reported up to so long ago: it may be done by so much earlier, at its switch-over at any moment. */
export const REPORTED_MS = 1000;

/** What is supposed of everything that may still change, as factors on what is known. */
export interface Supposed {
  /** How fast memory is written. */
  dirty: number;
  /** What the workload of every link sends. */
  workload: number;
  /** Share of what a slice would be with the workload of now that it is all the same. */
  leastRate: number;
  /** What a copy gets of the slice that the reservation gives it. */
  rate: number;
  /** How long measuring, preparing and switching over take. */
  prepare: number;
}

/**
 * The three ways in which a forecast is played forward (`controller/core/outlook.ts`). The workload is what moves slices: a low one
 * has what it leaves, a high one does not notice. That is why not the rates themselves are supposed to be better or worse.
 * How far: so that in `test/property/forecast` nine ends in ten and more come within the interval at every priority. Late, a slice
 * that the workload would take nearly all of keeps 0.4 of itself: else the latest end would be said as hours where a link is
 * nearly full, and nothing would be learnt from it.
 */
export const SUPPOSED: { readonly [K in 'expected' | 'early' | 'late']: Supposed } = {
  expected: { dirty: 1, workload: 1, leastRate: 1, rate: 1, prepare: 1 },
  early: { dirty: DIRTY_LEAST, workload: 0.75, leastRate: 1, rate: 1.1, prepare: 0.5 },
  late: { dirty: DIRTY_MOST, workload: 1.3, leastRate: 0.4, rate: 0.9, prepare: 2 },
};

/** ms until a copy ends that goes on at `rateBps` (bit/s of memory contents); Infinity at a rate of 0. */
export function copyLeftMs(
  technique: Technique,
  model: GuestModel,
  copy: CopyState | null,
  rateBps: number,
  policy: CompiledPolicy,
): number {
  const cost =
    copy === null
      ? predictCopy(technique, model, rateBps, policy)
      : predictRest(technique, model, copy, rateBps, policy);
  return cost.totalMs;
}

/**
 * The forecast of a copy. `rateBps` is what it has, `mostBps` what it could come to have when others end (both of memory
 * contents); `waitMs` passes before it begins.
 */
export function forecastCopy(
  q: {
    technique: Technique;
    model: GuestModel;
    copy: CopyState | null;
    rateBps: number;
    mostBps: number;
  },
  policy: CompiledPolicy,
): Forecast {
  const writing = (factor: number) => ({ ...q.model, dirtyBytesPerS: q.model.dirtyBytesPerS * factor });
  const overheadMs = q.copy === null ? OVERHEAD_MS : OVERHEAD_MS / 4;
  const left = (factor: number, rateBps: number) => copyLeftMs(q.technique, writing(factor), q.copy, rateBps, policy);
  const sinceReportMs = q.copy === null ? 0 : REPORTED_MS;
  return {
    leftMs: left(1, q.rateBps) + overheadMs,
    earliestMs: Math.max(0, left(DIRTY_LEAST, Math.max(q.rateBps, q.mostBps) * RATE_MOST) - sinceReportMs),
    latestMs: left(DIRTY_MOST, q.rateBps * RATE_LEAST) + 2 * OVERHEAD_MS,
  };
}
