/**
 * Step 2 of the algorithm (paper 002, "select migration technique"): pre-copy, post-copy or hybrid (or, where the policy
 * allows it, stop-and-copy), by the directions of traffic at both hosts and of the guest; by predicted cost where the table has no entry; never plain pre-copy for a
 * guest that dirties memory faster than its slice carries it. Neighbours: `direction.ts` before, `strategy.ts` after.
 *
 * The cost model here is the simple one of iterative copying with a capped writable working set.
 */
import {
  type Direction,
  FairwayError,
  type Priority,
  type Reason,
  TECHNIQUES,
  type Technique,
} from '../contracts/common.ts';
import { formatRate } from '../contracts/units.ts';
import type { Decided } from './decided.ts';
import { type CompiledPolicy, tableEntry } from './document.ts';

/** What of a guest decides the cost of copying it. */
export interface GuestModel {
  memoryBytes: number;
  /** Bytes of distinct pages written per second. */
  dirtyBytesPerS: number;
  /** Most that can be dirty at a time (writable working set); 0 or less when unknown: then all of the memory. */
  workingSetBytes: number;
}

export interface Prediction {
  /** From the start of the copy until nothing is left at the source. */
  totalMs: number;
  /** For how long the guest runs nowhere. */
  downtimeMs: number;
  /** For how long it runs at the destination with pages still at the source (post-copy). */
  degradedMs: number;
  bytes: number;
  /** Whether pre-copying comes to an end by itself in that rate; true for the other techniques. */
  converges: boolean;
}

/**
 * Stopping, sending the device state and starting at the destination, without memory: post-copy and hybrid show little
 * else as downtime, 37 and 38 ms on average over 314 migrations of QEMU 8.1 guests measured elsewhere.
 */
const SWITCHOVER_MS = 40;
/** Passes after which a pre-copy that does not converge is taken to be stopped and copied by force. */
const MAX_PASSES = 30;
/**
 * How costs are compared, in milliseconds of the guest's service lost. While pages are missing the guest waits for the
 * network at nearly every new page: a busy guest that post-copy moved in 13 s in the lab did not answer its client for 6 to
 * 11 s of them. While it is copied it holds bandwidth that others could use: the more urgent it is, the more each
 * millisecond counts.
 */
const DEGRADED_WEIGHT = 0.9;
const DURATION_WEIGHT: Readonly<Record<Priority, number>> = { high: 0.4, medium: 0.2, low: 0.1 };

/**
 * What a copy would cost at a constant rate (bit/s of the slice). Pre-copy sends all memory once, then again and again
 * what was dirtied during the pass before (at most the working set), until the rest fits into
 * `technique.downtimeLimitMs`. Post-copy sends each page once, after the switch-over. Hybrid does
 * `technique.hybridPasses` pre-copy passes, then post-copy for what is dirty then. Stop-and-copy sends each page once while
 * the guest runs nowhere. A rate of 0 takes for ever: Infinity.
 */
export function predictCopy(
  technique: Technique,
  model: GuestModel,
  rateBps: number,
  policy: CompiledPolicy,
): Prediction {
  const { downtimeLimitMs, hybridPasses } = policy.doc.technique;
  const memory = Math.max(0, model.memoryBytes);
  const bytesPerMs = Math.max(0, rateBps) / 8000;
  const dirtyPerMs = Math.max(0, model.dirtyBytesPerS) / 1000;
  const workingSet = workingSetOf(model);
  const converges = technique !== 'pre-copy' || preCopyConverges(model, rateBps, policy);
  if (bytesPerMs === 0) {
    const never = Number.POSITIVE_INFINITY;
    return { totalMs: never, downtimeMs: never, degradedMs: never, bytes: memory, converges };
  }
  const msOf = (bytes: number) => bytes / bytesPerMs;
  const dirtiedIn = (ms: number) => Math.min(dirtyPerMs * ms, workingSet);

  let copyMs = 0;
  let bytes = 0;
  let left = memory;
  const pass = () => {
    const ms = msOf(left);
    copyMs += ms;
    bytes += left;
    left = dirtiedIn(ms);
  };
  if (technique === 'pre-copy') {
    let passes = 0;
    do {
      pass();
      passes++;
    } while (msOf(left) > downtimeLimitMs && passes < MAX_PASSES);
    const downtimeMs = SWITCHOVER_MS + msOf(left);
    return { totalMs: copyMs + downtimeMs, downtimeMs, degradedMs: 0, bytes: bytes + left, converges };
  }
  if (technique === 'stop-and-copy') {
    const downtimeMs = SWITCHOVER_MS + msOf(memory);
    return { totalMs: downtimeMs, downtimeMs, degradedMs: 0, bytes: memory, converges };
  }
  if (technique === 'hybrid') for (let i = 0; i < hybridPasses && left > 0; i++) pass();
  const degradedMs = msOf(left);
  return {
    totalMs: copyMs + SWITCHOVER_MS + degradedMs,
    downtimeMs: SWITCHOVER_MS,
    degradedMs,
    bytes: bytes + left,
    converges,
  };
}

function workingSetOf(model: GuestModel): number {
  const memory = Math.max(0, model.memoryBytes);
  return model.workingSetBytes > 0 ? Math.min(model.workingSetBytes, memory) : memory;
}

/**
 * Whether plain pre-copy ends by itself: the dirty rate is at most `technique.convergenceRatio` of the slice, or all
 * that can be dirty at a time fits into the downtime anyway.
 */
function preCopyConverges(model: GuestModel, rateBps: number, policy: CompiledPolicy): boolean {
  const { convergenceRatio, downtimeLimitMs } = policy.doc.technique;
  const dirtyBps = Math.max(0, model.dirtyBytesPerS) * 8;
  return dirtyBps <= convergenceRatio * rateBps || workingSetOf(model) * 8000 <= downtimeLimitMs * rateBps;
}

export interface TechniqueQuestion {
  priority: Priority;
  /** Directions at the source host, at the destination host and of the guest. */
  source: Direction;
  destination: Direction;
  guest: Direction;
  model: GuestModel;
  /** What the migration will have, bit/s. */
  sliceBps: number;
  /** What both hosts can do. */
  supported: readonly Technique[];
  /** What an operator asked for; goes before table and policy, not before what the hosts can do. */
  requested?: Technique;
}

/**
 * Chooses the technique. Rules: `technique.requested`; `technique.table`; `technique.leastCost` (a direction is mixed or
 * idle); `technique.unsupported` (the table's entry cannot be done by both hosts: least cost instead);
 * `technique.notConverging` (plain pre-copy replaced by hybrid, else post-copy; after `technique.requested` it is only a
 * warning).
 * @throws FairwayError NO_TECHNIQUE (badInput: requested, but not supported by both hosts; conflict: nothing that policy
 *   and hosts allow would come to an end).
 */
export function chooseTechnique(
  q: TechniqueQuestion,
  policy: CompiledPolicy,
): Decided<Technique> & { predicted: Prediction } {
  const predict = (t: Technique) => predictCopy(t, q.model, q.sliceBps, policy);
  const decided = (value: Technique, reasons: Reason[]) => ({ value, reasons, predicted: predict(value) });
  const directions = { source: q.source, destination: q.destination, guest: q.guest, priority: q.priority };

  if (q.requested !== undefined) {
    if (!q.supported.includes(q.requested)) {
      const can = q.supported.length > 0 ? q.supported.join(', ') : 'nothing in common';
      throw new FairwayError(
        'NO_TECHNIQUE',
        `${q.requested} was asked for, but source and destination together can do ${can}; ask for one of those or none`,
        ['badInput'],
      );
    }
    const reasons: Reason[] = [
      { rule: 'technique.requested', text: `${q.requested} was asked for`, inputs: directions },
    ];
    if (!predict(q.requested).converges) {
      reasons.push(notConverging(q, policy, 'it may never end, but it was asked for'));
    }
    return decided(q.requested, reasons);
  }

  const possible = TECHNIQUES.filter((t) => policy.doc.technique.allowed.includes(t) && q.supported.includes(t));
  const first = fromTable(q, possible, policy) ?? leastCost(q, possible, policy, predict);
  if (first.value !== 'pre-copy' || predict('pre-copy').converges) return decided(first.value, first.reasons);
  const instead = possible.includes('hybrid') ? 'hybrid' : possible.includes('post-copy') ? 'post-copy' : undefined;
  if (instead === undefined) throw noneEnds(q, policy);
  return decided(instead, [...first.reasons, notConverging(q, policy, `${instead} instead of pre-copy`)]);
}

function fromTable(
  q: TechniqueQuestion,
  possible: readonly Technique[],
  policy: CompiledPolicy,
): Decided<Technique> | undefined {
  const { source, destination, guest, priority } = q;
  const isPlain = (d: Direction): d is 'in' | 'out' => d === 'in' || d === 'out';
  if (!isPlain(source) || !isPlain(destination) || !isPlain(guest)) return undefined;
  const value = tableEntry(policy.doc, source, destination, guest, priority);
  if (!possible.includes(value)) return undefined;
  const text = `source ${source}, destination ${destination}, guest ${guest}, ${priority} priority: ${value}`;
  return { value, reasons: [{ rule: 'technique.table', text, inputs: { source, destination, guest, priority } }] };
}

function leastCost(
  q: TechniqueQuestion,
  possible: readonly Technique[],
  policy: CompiledPolicy,
  predict: (t: Technique) => Prediction,
): Decided<Technique> {
  const costs = possible
    .map((technique) => {
      const p = predict(technique);
      return {
        technique,
        converges: p.converges,
        costMs: p.downtimeMs + DEGRADED_WEIGHT * p.degradedMs + DURATION_WEIGHT[q.priority] * p.totalMs,
      };
    })
    .filter((c) => c.converges);
  // Strictly less: on equal cost the earlier technique stays, so that the answer does not depend on rounding of ties.
  const best = costs.reduce<(typeof costs)[number] | undefined>(
    (a, b) => (a === undefined || b.costMs < a.costMs ? b : a),
    undefined,
  );
  if (best === undefined) throw noneEnds(q, policy);
  const inputs: Reason['inputs'] = {
    source: q.source,
    destination: q.destination,
    guest: q.guest,
    priority: q.priority,
    sliceBps: q.sliceBps,
  };
  for (const c of costs) inputs[`cost ${c.technique} ms`] = Number.isFinite(c.costMs) ? Math.round(c.costMs) : null;
  const undecided = [
    ['source', q.source],
    ['destination', q.destination],
    ['guest', q.guest],
  ].filter(([, d]) => d === 'mixed' || d === 'idle');
  const rule = undecided.length > 0 ? 'technique.leastCost' : 'technique.unsupported';
  const why =
    undecided.length > 0
      ? `${undecided.map(([who, d]) => `${who} ${d}`).join(', ')}: no row of the table`
      : 'the hosts cannot both do what the table says';
  return { value: best.technique, reasons: [{ rule, text: `${why}; ${best.technique} costs least`, inputs }] };
}

function notConverging(q: TechniqueQuestion, policy: CompiledPolicy, then: string): Reason {
  const dirtyBps = q.model.dirtyBytesPerS * 8;
  return {
    rule: 'technique.notConverging',
    text: `memory is dirtied at ${formatRate(dirtyBps)}, too fast for a slice of ${formatRate(q.sliceBps)}: ${then}`,
    inputs: { dirtyBps, sliceBps: q.sliceBps, convergenceRatio: policy.doc.technique.convergenceRatio },
  };
}

function noneEnds(q: TechniqueQuestion, policy: CompiledPolicy): FairwayError {
  return new FairwayError(
    'NO_TECHNIQUE',
    `nothing that policy (${policy.doc.technique.allowed.join(', ')}) and hosts (${q.supported.join(', ') || 'nothing'}) ` +
      `allow would end: the guest dirties ${formatRate(q.model.dirtyBytesPerS * 8)}, its slice is ` +
      `${formatRate(q.sliceBps)}; allow hybrid or post-copy, or raise its priority`,
    ['conflict'],
  );
}
