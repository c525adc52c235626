/**
 * What copying a guest costs, by technique: time, downtime, bytes, and harm to the workload. `model.ts` has the words,
 * `passes.ts` the techniques, `harm.ts` the workload; here the policy's settings come in. `technique.ts` chooses by it.
 */
import type { Technique } from '../../contracts/common.ts';
import type { CompiledPolicy } from '../document.ts';
import { type CopyConditions, type CopyState, type GuestModel, guestOf, type Prediction } from './model.ts';
import { type CopyCost, copyCost, restCost } from './passes.ts';

export { deniedBps, type Harm, type HarmedLink, harmOf } from './harm.ts';
export {
  type CopyConditions,
  type CopyState,
  type GuestModel,
  HOST_COSTS,
  type HostCosts,
  type Prediction,
  silenceMs,
} from './model.ts';
export { type CopyCost, copyCost } from './passes.ts';

/**
 * What a copy would cost at a constant rate (bit/s of payload), with the downtime limit and the passes of the policy.
 * A rate of 0 takes for ever: Infinity.
 */
export function predictCopy(
  technique: Technique,
  model: GuestModel,
  rateBps: number,
  policy: CompiledPolicy,
  more: Pick<CopyConditions, 'switchoverBps' | 'autoConverge'> = {},
): Prediction {
  const { downtimeLimitMs, hybridPasses } = policy.doc.technique;
  const cost = copyCost(technique, model, { rateBps, downtimeLimitMs, hybridPasses, ...more });
  const converges =
    technique !== 'pre-copy' ||
    preCopyConverges(model, rateBps, policy) ||
    (more.autoConverge === true && preCopyConverges(heldBack(model), rateBps, policy));
  return { ...cost, converges };
}

/** What is still to come of a copy under way that goes on at a constant rate. */
export function predictRest(
  technique: Technique,
  model: GuestModel,
  copy: CopyState,
  rateBps: number,
  policy: CompiledPolicy,
): CopyCost {
  const { downtimeLimitMs, hybridPasses } = policy.doc.technique;
  return restCost(technique, model, { rateBps, downtimeLimitMs, hybridPasses }, copy);
}

/** Auto-converge holds a guest back to this share of its speed at most. */
const LEAST_SPEED = 0.01;
const heldBack = (model: GuestModel): GuestModel => ({ ...model, dirtyBytesPerS: model.dirtyBytesPerS * LEAST_SPEED });

/**
 * Whether plain pre-copy ends by itself: the dirty rate is at most `technique.convergenceRatio` of the slice, or all
 * that can be dirty at a time fits into the downtime anyway.
 */
function preCopyConverges(model: GuestModel, rateBps: number, policy: CompiledPolicy): boolean {
  const { convergenceRatio, downtimeLimitMs } = policy.doc.technique;
  const dirtyBps = Math.max(0, model.dirtyBytesPerS) * 8;
  return dirtyBps <= convergenceRatio * rateBps || guestOf(model).workingSetBytes * 8000 <= downtimeLimitMs * rateBps;
}
