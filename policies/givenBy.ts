/**
 * Which overrides gave the settings that decided something, for the reason of the decision: an operator who reads why looks
 * there first. Neighbours: `effective.ts` knows which override gives what, `reservation.ts`, `technique.ts` and
 * `convergence.ts` say it in their reasons; `explain.ts` explains one setting whole.
 */
import type { Reason } from '../contracts/common.ts';
import type { CompiledPolicy } from './document.ts';

/** A setting that a decision followed. */
export interface Followed {
  /** What the text calls it; settings of one name and one override are told of once. */
  name: string;
  /** Key in the inputs of the reason. */
  input: string;
  /** Dotted path of the setting in the document, `sla.floor` and `sla.ceiling` for those of a link. */
  setting: string;
  /** Whether the result was made by it; else it is among the inputs alone. True when absent. */
  decided?: boolean;
}

/** `floor and ceiling by overrides.labels.tier.gold; weight by overrides.guests.db1`, and the same as inputs; empty where no override gave any. */
export function givenBy(
  policy: CompiledPolicy,
  followed: readonly Followed[],
): { text: string; inputs: Reason['inputs'] } {
  if (policy.overriddenBy.length === 0) return NOBODY;
  const inputs: Reason['inputs'] = {};
  const names = new Map<string, string[]>();
  for (const { name, input, setting, decided = true } of followed) {
    const path = policy.overrideOf(setting);
    if (path === undefined) continue;
    inputs[input] = path;
    const known = names.get(path) ?? [];
    if (decided && !known.includes(name)) names.set(path, [...known, name]);
  }
  const text = [...names].map(([path, of]) => `${of.join(' and ')} by ${path}`).join('; ');
  return { text, inputs };
}

const NOBODY = { text: '', inputs: {} };
