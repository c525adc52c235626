/**
 * Step 1 of the algorithm (paper 002, "categorize VMs based on traffic patterns"): which way a guest's or a host's
 * workload traffic predominantly flows. The rates are the workload's over `direction.windowMs`, seen from the guest or
 * host, without migration streams. Neighbour: `technique.ts` looks the directions up in its table.
 */
import type { Direction } from '../contracts/common.ts';
import type { Decided } from './decided.ts';
import type { CompiledPolicy } from './document.ts';

/**
 * Rules: `direction.idle` (less than idleShare of the link, both ways together), `direction.inShare`,
 * `direction.outShare`, `direction.mixed`. With an unknown capacity (0) only silence is idle.
 */
export function classifyDirection(
  seen: { inBps: number; outBps: number; capacityBps: number },
  policy: CompiledPolicy,
): Decided<Direction> {
  const { inShare, outShare, idleShare } = policy.doc.direction;
  const inBps = Math.max(0, seen.inBps);
  const outBps = Math.max(0, seen.outBps);
  const totalBps = inBps + outBps;
  const share = totalBps > 0 ? inBps / totalBps : 0;
  const inputs = { inBps, outBps, capacityBps: seen.capacityBps, inSharePercent: Math.round(share * 1000) / 10 };
  const decided = (value: Direction, rule: string, text: string): Decided<Direction> => ({
    value,
    reasons: [{ rule: `direction.${rule}`, text, inputs }],
  });
  const percent = `${inputs.inSharePercent} % of the traffic comes in`;
  if (totalBps === 0) return decided('idle', 'idle', 'there is no traffic');
  if (totalBps < idleShare * seen.capacityBps) {
    return decided('idle', 'idle', `the traffic is below ${idleShare * 100} % of the link`);
  }
  if (share >= inShare) return decided('in', 'inShare', `${percent}, at least ${inShare * 100} %`);
  if (share <= outShare) return decided('out', 'outShare', `${percent}, at most ${outShare * 100} %`);
  return decided('mixed', 'mixed', `${percent}, between ${outShare * 100} % and ${inShare * 100} %`);
}
