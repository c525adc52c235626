/**
 * Step 3 of the algorithm (paper 002, "determine migration strategy for each VM"): serial or parallel, by priority and
 * by the contention of the migration's path. Contention is per link, not per host. Neighbours: `technique.ts` before,
 * `admission.ts` acts on the strategy.
 */
import type { Contention, Priority, Strategy } from '../contracts/common.ts';
import type { Decided } from './decided.ts';
import { type CompiledPolicy, strategyEntry } from './document.ts';

/**
 * Contention of a path: that of its busiest link. `usedBps` is what workload and slices use. A used link of unknown
 * capacity (0) counts as full. Rules: `contention.low`, `.moderate`, `.high`; `contention.noLinks` for an empty path.
 */
export function contentionOf(
  links: readonly { id: string; capacityBps: number; usedBps: number }[],
  policy: CompiledPolicy,
): Decided<Contention> {
  const { moderate, high } = policy.doc.strategy.contention;
  let busiest: { id: string; capacityBps: number; usedBps: number; share: number } | undefined;
  for (const l of links) {
    const share = l.capacityBps > 0 ? Math.max(0, l.usedBps) / l.capacityBps : l.usedBps > 0 ? 1 : 0;
    if (busiest === undefined || share > busiest.share || (share === busiest.share && l.id < busiest.id)) {
      busiest = { ...l, share };
    }
  }
  if (busiest === undefined) {
    return {
      value: 'low',
      reasons: [{ rule: 'contention.noLinks', text: 'there is no link to contend for', inputs: {} }],
    };
  }
  const { id, capacityBps, usedBps, share } = busiest;
  const value: Contention = share < moderate ? 'low' : share < high ? 'moderate' : 'high';
  const percent = Math.round(share * 1000) / 10;
  return {
    value,
    reasons: [
      {
        rule: `contention.${value}`,
        text: `the busiest link, ${id}, is used to ${percent} % (moderate from ${moderate * 100} %, high from ${high * 100} %)`,
        inputs: { usedBps, capacityBps, usedPercent: percent },
        bindingLink: id,
      },
    ],
  };
}

/** Serial or parallel. Rules: `strategy.requested`, `strategy.table`. */
export function chooseStrategy(
  q: { priority: Priority; contention: Contention; requested?: Strategy },
  policy: CompiledPolicy,
): Decided<Strategy> {
  const { priority, contention, requested } = q;
  const inputs = { priority, contention };
  if (requested !== undefined) {
    return { value: requested, reasons: [{ rule: 'strategy.requested', text: `${requested} was asked for`, inputs }] };
  }
  const value = strategyEntry(policy.doc, priority, contention);
  const text = `${priority} priority with ${contention} contention: ${value}`;
  return { value, reasons: [{ rule: 'strategy.table', text, inputs }] };
}
