/**
 * Step 1 of the algorithm (paper 002, "categorize VMs based on traffic patterns"): which way a guest's or a host's
 * workload traffic predominantly flows. The rates are the workload's over `direction.windowMs`, seen from the guest or
 * host, without migration streams. A direction once found is kept until it is clearly left. Neighbour: `technique.ts` looks the directions up in its table.
 */
import type { Direction, Reason } from '../contracts/common.ts';
import type { Decided } from './decided.ts';
import type { CompiledPolicy } from './document.ts';

/** What was seen of a guest's or host's workload, bit/s, in the window and in each of its readings. */
export interface TrafficSeen {
  inBps: number;
  outBps: number;
  /** 0 when unknown: then only silence is idle. */
  capacityBps: number;
  /** So much of what was seen may belong to migration streams, whose counters are not read at the same instant; 0 when absent. */
  uncertainBps?: number;
  /** Each reading of the window; the means alone count when absent. */
  readings?: readonly { inBps: number; outBps: number }[];
  /** The direction it had so far. */
  before?: Direction | undefined;
}

/**
 * Rules: `direction.idle` (both ways together less than idleShare of the link above what is uncertain), `direction.inShare`,
 * `direction.outShare`, `direction.mixed`; `direction.kept` (it is beyond the limit of the direction it had by less than
 * `direction.hysteresis`, or the readings do not agree enough to change it), `direction.unsure` (they do not agree and there
 * was none before: mixed).
 *
 * Confidence is Laplace's rule of succession over the readings of the window: (those that alone say the same + 1) ÷ (all + 2).
 */
export function classifyDirection(seen: TrafficSeen, policy: CompiledPolicy): Decided<Direction> {
  const { hysteresis, minConfidence } = policy.doc.direction;
  const { before, capacityBps, uncertainBps = 0, readings = [] } = seen;
  const now = classifyOnce(seen, policy.doc.direction);
  const agree = readings.filter(
    (r) => classifyOnce({ ...r, capacityBps, uncertainBps }, policy.doc.direction).value === now.value,
  ).length;
  const confidence = (agree + 1) / (readings.length + 2);
  const reason = now.reasons[0] as Reason;
  if (readings.length > 0) reason.inputs.confidence = Math.round(confidence * 1000) / 1000;
  if (before === now.value) return now;
  const other = (value: Direction, rule: string, text: string): Decided<Direction> => ({
    value,
    reasons: [{ rule, text: `${reason.text}: ${text}`, inputs: { ...reason.inputs, seen: now.value } }],
  });
  const isUnsure = readings.length > 0 && confidence < minConfidence;
  if (before !== undefined) {
    const within = classifyOnce(seen, widened(policy.doc.direction, before, hysteresis)).value === before;
    if (within) return other(before, 'direction.kept', `less than ${hysteresis * 100} % beyond, it stays ${before}`);
    const which = `${agree} of ${readings.length} readings say ${now.value}`;
    if (isUnsure) return other(before, 'direction.kept', `${which}, it stays ${before}`);
  } else if (isUnsure) {
    const which = `only ${agree} of ${readings.length} readings say ${now.value}`;
    return other('mixed', 'direction.unsure', `${which}, it is taken for mixed`);
  }
  return now;
}

type Limits = CompiledPolicy['doc']['direction'];

/** The limits with those of one direction moved outwards. */
function widened(limits: Limits, kept: Direction, by: number): Limits {
  const { inShare, outShare, idleShare } = limits;
  switch (kept) {
    case 'in':
      return { ...limits, inShare: inShare - by };
    case 'out':
      return { ...limits, outShare: outShare + by };
    case 'mixed':
      return { ...limits, inShare: inShare + by, outShare: outShare - by };
    case 'idle':
      return { ...limits, idleShare: idleShare * (1 + by) };
  }
}

function classifyOnce(
  seen: Pick<TrafficSeen, 'inBps' | 'outBps' | 'capacityBps' | 'uncertainBps'>,
  { inShare, outShare, idleShare }: Limits,
): Decided<Direction> {
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
  const { uncertainBps = 0 } = seen;
  if (totalBps < idleShare * seen.capacityBps + uncertainBps) {
    const beside = uncertainBps > 0 ? ' and what counters of the migration beside it may be late' : '';
    return decided('idle', 'idle', `the traffic is below ${idleShare * 100} % of the link${beside}`);
  }
  if (share >= inShare) return decided('in', 'inShare', `${percent}, at least ${inShare * 100} %`);
  if (share <= outShare) return decided('out', 'outShare', `${percent}, at most ${outShare * 100} %`);
  return decided('mixed', 'mixed', `${percent}, between ${outShare * 100} % and ${inShare * 100} %`);
}
