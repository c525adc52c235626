/**
 * Where a policy turns priorities round: a less urgent migration is entitled to more than a more urgent one for which the same
 * rules hold. That is allowed, and done as it says; as it is hardly ever meant, whoever writes such a policy is told.
 * Neighbours: `document.ts` evaluates the expressions, `reservation.ts` divides by them, `cli/commands/policy.ts` tells.
 */
import { PRIORITIES, type Priority } from '../contracts/common.ts';
import { formatRate } from '../contracts/units.ts';
import type { CompiledPolicy } from './document.ts';
import { effectivePolicy, type PolicySubject } from './effective.ts';

const PAIRS: readonly (readonly [more: Priority, less: Priority])[] = PRIORITIES.flatMap((more, i) =>
  PRIORITIES.slice(i + 1).map((less) => [more, less] as const),
);
/** Links and workloads to try, as capacities in bit/s and shares of them. */
const CAPACITIES_BPS = [1e8, 1e9, 1e10];
const SHARES = [0, 0.1, 0.25, 0.5, 0.75, 1];
/** Less than this is rounding, bit/s. */
const SAME_BPS = 1;

interface Found {
  /** The priorities, and what is compared of them. */
  key: string;
  text: string;
}

/** What is turned round in the policy itself, and in each override alone where the policy is in order; each as a sentence. */
export function turnedRound(policy: CompiledPolicy): string[] {
  const own = findIn(policy);
  const known = new Set(own.map((f) => f.key));
  const ofOverrides = subjectsOf(policy).flatMap(([path, subject]) =>
    findIn(effectivePolicy(policy, subject))
      .filter((f) => !known.has(f.key))
      .map((f) => `${path}: ${f.text}`),
  );
  return [...own.map((f) => f.text), ...ofOverrides];
}

/** Whom each override holds for, by its dotted path. */
function subjectsOf(policy: CompiledPolicy): [string, PolicySubject][] {
  const { guests, labels, tenants, hosts } = policy.doc.overrides;
  return [
    ...Object.keys(guests).map((guest): [string, PolicySubject] => [`overrides.guests.${guest}`, { guest }]),
    ...Object.entries(labels).flatMap(([key, values]) =>
      Object.keys(values).map((value): [string, PolicySubject] => [
        `overrides.labels.${key}.${value}`,
        { labels: { [key]: value } },
      ]),
    ),
    ...Object.keys(tenants).map((tenant): [string, PolicySubject] => [`overrides.tenants.${tenant}`, { tenant }]),
    ...Object.keys(hosts).map((host): [string, PolicySubject] => [`overrides.hosts.${host}`, { host }]),
  ];
}

function findIn(policy: CompiledPolicy): Found[] {
  const { weights } = policy.doc.reservation;
  return PAIRS.flatMap(([more, less]) => {
    const found: Found[] = [];
    const example = exampleOf(policy, more, less);
    if (example !== undefined) {
      const { capacity, rate, mostBps, leastBps } = example;
      const text =
        `reservation.${less} entitles to more than reservation.${more}, to ${formatRate(mostBps)} instead of ${formatRate(leastBps)} ` +
        `on a link of ${formatRate(capacity)} whose workload sends ${formatRate(rate)}`;
      found.push({ key: `${more} ${less} expression`, text });
    }
    if (weights[less] > weights[more]) {
      const text = `reservation.weights.${less} (${weights[less]}) is above reservation.weights.${more} (${weights[more]})`;
      found.push({ key: `${more} ${less} weight`, text });
    }
    return found;
  });
}

/** A link on which the less urgent one is entitled to more. */
function exampleOf(policy: CompiledPolicy, more: Priority, less: Priority) {
  for (const capacity of CAPACITIES_BPS) {
    // A link that the document does not know: the default limits.
    const { floorBps: floor, ceilingBps: ceiling } = policy.slaFor('', capacity);
    const rates = [floor, (floor + ceiling) / 2, ceiling, ...SHARES.map((s) => s * capacity)];
    for (const rate of rates) {
      const entitled = (p: Priority) =>
        Math.min(capacity - floor, policy.evaluate(p, { capacity, floor, ceiling, rate }));
      const [leastBps, mostBps] = [entitled(more), entitled(less)];
      if (mostBps > leastBps + SAME_BPS) return { capacity, rate, mostBps, leastBps };
    }
  }
  return undefined;
}
