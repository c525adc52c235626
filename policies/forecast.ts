/**
 * When a copy will be done: from the cost models where it has not begun, from what is left of it where it runs. Beside the
 * expected time stands an interval that holds what may still change: how fast memory is written, and what rate the copy
 * is given. Neighbours: `cost/` predicts a whole copy at one rate; `planner/` and `controller/core/` use this one to
 * see how a migration that runs does against its plan.
 */
import type { Technique } from '../contracts/common.ts';
import { type GuestModel, predictCopy } from './cost/index.ts';
import type { CompiledPolicy } from './document.ts';

/** A copy under way, as its hypervisor tells. */
export interface CopyState {
  remainingBytes: number;
  /** Passes begun. */
  passes: number;
  /** The guest runs at the destination already: what is left is sent once. */
  isPostcopy: boolean;
}

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
/** Rates that change by themselves: a copy keeps its slice this well, or finds this much room beside it. */
const RATE_LEAST = 0.75;
const RATE_MOST = 1.15;
/** Passes after which a pre-copy is stopped, or goes on as post-copy, in any case. */
const MAX_PASSES = 30;

/** ms until a copy ends that goes on at `rateBps` (bit/s of memory contents); Infinity at a rate of 0. */
export function copyLeftMs(
  technique: Technique,
  model: GuestModel,
  copy: CopyState | null,
  rateBps: number,
  policy: CompiledPolicy,
): number {
  if (rateBps <= 0) return Number.POSITIVE_INFINITY;
  if (copy === null) return predictCopy(technique, model, rateBps, policy).totalMs;
  const bytesPerMs = rateBps / 8000;
  const isSentOnce = copy.isPostcopy || technique === 'post-copy' || technique === 'stop-and-copy';
  if (isSentOnce) return copy.remainingBytes / bytesPerMs;
  const { downtimeLimitMs, hybridPasses } = policy.doc.technique;
  const workingSet = model.workingSetBytes > 0 ? Math.min(model.workingSetBytes, model.memoryBytes) : model.memoryBytes;
  const most = technique === 'hybrid' ? Math.max(0, hybridPasses - copy.passes) : MAX_PASSES;
  let left = copy.remainingBytes;
  // What was written since this pass began is sent in the next one.
  let passMs = Math.max(left, copy.passes <= 1 ? model.memoryBytes : 0) / bytesPerMs;
  let ms = 0;
  for (let i = 0; i <= most; i++) {
    ms += left / bytesPerMs;
    left = Math.min((model.dirtyBytesPerS / 1000) * passMs, workingSet);
    passMs = left / bytesPerMs;
    if (passMs <= downtimeLimitMs) break;
  }
  return ms + left / bytesPerMs;
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
  return {
    leftMs: left(1, q.rateBps) + overheadMs,
    earliestMs: left(DIRTY_LEAST, Math.max(q.rateBps, q.mostBps) * RATE_MOST),
    latestMs: left(DIRTY_MOST, q.rateBps * RATE_LEAST) + 2 * OVERHEAD_MS,
  };
}
