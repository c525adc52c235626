/** Policies of the property of the whole core, and overrides in them: what operators may write while migrations run. Part of `world.ts`. */
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { applyPolicyPatch, type CompiledPolicy, compilePolicy } from '../../../policies/index.ts';

/** What an operator may have written; all keep a more urgent migration entitled to at least as much. */
const DOCUMENTS: readonly Record<string, string | number>[] = [
  {},
  { 'sla.default.floor': '30 %', 'sla.default.ceiling': '90 %', 'planning.minGroup': 2 },
  {
    'sla.default.floor': 0,
    'sla.default.ceiling': 0,
    'technique.allowed': '["pre-copy", "post-copy", "hybrid", "stop-and-copy"]',
  },
  { 'sla.default.floor': '100 %', 'sla.default.ceiling': '100 %' },
  { 'sla.default.floor': '80 %', 'sla.default.ceiling': '90 %', 'limits.perHostOut': 2, 'limits.perHostIn': 1 },
  { 'reservation.minSliceBps': 0, 'reservation.minStepShare': 0, 'discovery.silenceMs': 4000 },
  { 'reservation.minSliceBps': 40e6, 'reservation.weights.high': 8, 'finish.silenceMs': 500 },
  {
    ...{ 'reservation.weights.high': 3, 'reservation.weights.medium': 3, 'reservation.weights.low': 3 },
    ...{ 'reservation.holdSilenceMs': 1000, 'reservation.holdMs': 3000, 'limits.perHostOut': 1 },
  },
  {
    ...{ 'reservation.weights.low': 0.1, 'reservation.medium': 'capacity - floor', 'planning.minGroup': 2 },
    ...{ 'reservation.low': '0.2 * (capacity - floor)', 'planning.toleranceMs': 500, 'planning.settleMs': 0 },
    ...{ 'strategy.medium.high': 'parallel', 'strategy.low.high': 'parallel', 'technique.allowedOptions': '[]' },
  },
];

/** For some guests only, by label, tenant, name and host; a guest is compared by urgency with those for which the same holds. */
const OVERRIDES: readonly Record<string, string | number>[] = [
  {},
  {
    ...{ 'overrides.labels.tier.db.sla.floor': '70 %', 'overrides.labels.tier.db.reservation.minSliceBps': 0 },
    'overrides.tenants.blue.sla.ceiling': '100 %',
  },
  {
    ...{ 'overrides.tenants.red.sla.floor': 0, 'overrides.tenants.red.reservation.weights.low': 5 },
    'overrides.tenants.blue.technique.allowedOptions': '["auto-converge"]',
  },
  {
    ...{ 'overrides.hosts.hv1.sla.floor': '90 %', 'overrides.guests.g0.sla.floor': '10 %' },
    'overrides.labels.tier.web.reservation.high': '0.5 * (capacity - floor)',
  },
  {
    ...{ 'overrides.labels.tier.db.sla.floor': '100 %', 'overrides.labels.tier.db.rank': 1 },
    ...{ 'overrides.labels.tier.db.extends': 'tier.web', 'overrides.labels.tier.web.reservation.minSliceBps': 20e6 },
  },
];
export const OVERRIDES_COUNT = OVERRIDES.length;

export const POLICIES: readonly CompiledPolicy[] = DOCUMENTS.map((patch) =>
  compilePolicy(applyPolicyPatch(DEFAULT_POLICY, patch)),
);

const made = new Map<string, CompiledPolicy>();

/** A document with overrides in it: the same object for the same numbers. */
export function policyWith(document: number, overrides: number): CompiledPolicy {
  if (overrides === 0) return POLICIES[document] as CompiledPolicy;
  const key = `${document} ${overrides}`;
  const known = made.get(key);
  if (known) return known;
  const patch = { ...DOCUMENTS[document], ...OVERRIDES[overrides] };
  const policy = compilePolicy(applyPolicyPatch(DEFAULT_POLICY, patch));
  made.set(key, policy);
  return policy;
}
