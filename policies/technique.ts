/**
 * Step 2 of the algorithm (paper 002, "select migration technique"): pre-copy, post-copy or hybrid (or, where the policy
 * allows it, stop-and-copy), by the directions of traffic at both hosts and of the guest; by predicted cost, harm to the
 * workload included, where the table has no entry; never plain pre-copy for a guest that dirties memory faster than its
 * slice carries it; and not one that keeps the guest's clients waiting for very long where another does not. Neighbours: `direction.ts` before, `strategy.ts` after; `cost/` predicts.
 */
import {
  type Direction,
  FairwayError,
  type Priority,
  type Reason,
  TECHNIQUES,
  type Technique,
} from '../contracts/common.ts';
import { formatMs, formatRate } from '../contracts/units.ts';
import {
  type GuestModel,
  type Harm,
  type HarmedLink,
  harmOf,
  type Prediction,
  predictCopy,
  silenceMs,
} from './cost/index.ts';
import type { Decided } from './decided.ts';
import { type CompiledPolicy, tableEntry } from './document.ts';
import { givenBy } from './givenBy.ts';

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
  /** The links of the path, with what the workload wants there; harm counts for nothing when absent. */
  links?: readonly HarmedLink[];
  /** Both hosts hold the guest back when passes do not pay (auto-converge was asked for): then pre-copy ends. */
  autoConverge?: boolean;
  /** What an operator asked for; goes before table and policy, not before what the hosts can do. */
  requested?: Technique;
}

/**
 * Chooses the technique. Rules: `technique.requested`; `technique.table`; `technique.leastCost` (a direction is mixed or
 * idle); `technique.unsupported` (the table's entry cannot be done by both hosts: least cost instead);
 * `technique.notConverging` (plain pre-copy replaced by hybrid, else post-copy, else stop-and-copy; after `technique.requested` it is only a
 * warning); `technique.lessSilence` (what the rules before chose would be silent for longer than `technique.silenceLimitMs`, and is
 * replaced); `technique.longSilence` (the same as a warning, where it was asked for or nothing is better).
 * @throws FairwayError NO_TECHNIQUE (badInput: requested, but not supported by both hosts; conflict: nothing that policy
 *   and hosts allow would come to an end).
 */
export function chooseTechnique(
  q: TechniqueQuestion,
  policy: CompiledPolicy,
): Decided<Technique> & { predicted: Prediction } {
  const more = { autoConverge: q.autoConverge === true };
  const predict = (t: Technique) => predictCopy(t, q.model, q.sliceBps, policy, more);
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
    const silent = silentFor(q.requested, q, policy, predict);
    if (silent !== undefined) reasons.push(silent('longSilence', 'but it was asked for'));
    return decided(q.requested, reasons);
  }

  const possible = TECHNIQUES.filter((t) => policy.doc.technique.allowed.includes(t) && q.supported.includes(t));
  const first = fromTable(q, possible, policy) ?? leastCost(q, possible, policy, predict);
  const ending = onesThatEnd(q, first, possible, policy, predict);
  const quiet = lessSilent(q, ending.value, possible, policy, predict);
  return quiet === undefined
    ? decided(ending.value, ending.reasons)
    : decided(quiet.value, [...ending.reasons, ...quiet.reasons]);
}

type Predict = (t: Technique) => Prediction;

/** What was chosen, or what ends instead of a pre-copy that would not. */
function onesThatEnd(
  q: TechniqueQuestion,
  first: Decided<Technique>,
  possible: readonly Technique[],
  policy: CompiledPolicy,
  predict: Predict,
): Decided<Technique> {
  if (first.value !== 'pre-copy' || predict('pre-copy').converges) return first;
  const value = (['hybrid', 'post-copy', 'stop-and-copy'] as const).find((t) => possible.includes(t));
  if (value === undefined) throw noneEnds(q, policy);
  return { value, reasons: [...first.reasons, notConverging(q, policy, `${value} instead of pre-copy`)] };
}

/** One that is not within the limit either has to be better by this factor. */
const WORTH_SILENCE = 0.5;

/**
 * What is taken instead of a technique that would be silent for too long: the first of hybrid and pre-copy that ends and keeps to
 * the limit, else the one that is silent for less than half as long; none, with a warning, where there is no such.
 */
function lessSilent(
  q: TechniqueQuestion,
  value: Technique,
  possible: readonly Technique[],
  policy: CompiledPolicy,
  predict: Predict,
): Decided<Technique> | undefined {
  const silent = silentFor(value, q, policy, predict);
  if (silent === undefined) return undefined;
  const limitMs = policy.doc.technique.silenceLimitMs[q.priority];
  const others = (['hybrid', 'pre-copy'] as const)
    .filter((t) => t !== value && possible.includes(t))
    .map((technique) => ({ technique, p: predict(technique) }))
    .filter(({ p }) => p.converges)
    .map(({ technique, p }) => ({ technique, ms: silenceMs(p) }));
  const least = others.reduce((a, b) => (b.ms < a.ms ? b : a), { technique: value, ms: silenceMs(predict(value)) });
  const isWorthIt = least.ms <= WORTH_SILENCE * silenceMs(predict(value));
  const other = others.find((o) => o.ms <= limitMs) ?? (isWorthIt ? least : undefined);
  if (other === undefined) return { value, reasons: [silent('longSilence', 'nothing that would end is much better')] };
  return {
    value: other.technique,
    reasons: [
      silent('lessSilence', `${other.technique} instead, ${formatMs(other.ms)}`, { insteadMs: Math.round(other.ms) }),
    ],
  };
}

/** Makes the reason that a technique is silent for too long; undefined where it is not, or where nothing is sent at all. */
function silentFor(
  technique: Technique,
  q: TechniqueQuestion,
  policy: CompiledPolicy,
  predict: Predict,
): ((rule: string, then: string, more?: Reason['inputs']) => Reason) | undefined {
  const ms = silenceMs(predict(technique));
  const limitMs = policy.doc.technique.silenceLimitMs[q.priority];
  if (ms <= limitMs || !Number.isFinite(ms)) return undefined;
  const setting = `technique.silenceLimitMs.${q.priority}`;
  const by = givenBy(policy, [{ name: 'limit', input: 'silenceLimitBy', setting }]);
  return (rule, then, more = {}) => ({
    rule: `technique.${rule}`,
    text: `by ${technique} at ${formatRate(q.sliceBps)} the guest would not answer for some ${formatMs(ms)}, more than ${formatMs(limitMs)}${by.text === '' ? '' : ` (${by.text})`}: ${then}`,
    inputs: { silenceMs: Math.round(ms), silenceLimitMs: limitMs, sliceBps: q.sliceBps, ...by.inputs, ...more },
  });
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

/** A part of a cost: what it is, and what it comes to, ms of the guest's service. */
interface CostPart {
  name: string;
  ms: number;
}

/**
 * What a copy costs altogether, in milliseconds of the guest's service lost, part by part; the weights are policy
 * (`technique.cost`). While pages are missing the guest waits for the network at nearly every new page. While it is copied it
 * holds bandwidth that others could use: the more urgent it is, the more each millisecond counts. What the workload is denied
 * on the links of the path counts the more, the less urgent the migration is. From the switch-over of a post-copy on there
 * is no way back: a broken stream stops the guest.
 */
function costParts(
  technique: Technique,
  p: Prediction,
  harm: Harm,
  priority: Priority,
  { degraded, noWayBackMs, duration, harm: harmWeight }: CompiledPolicy['doc']['technique']['cost'],
): CostPart[] {
  const hasNoWayBack = technique === 'post-copy' || technique === 'hybrid';
  const weighed = (weight: number, ms: number, name: string): CostPart => ({
    name: `${weight} × ${formatMs(ms)} ${name}`,
    // A weight of 0 leaves out what would last for ever, too.
    ms: weight === 0 ? 0 : weight * ms,
  });
  return [
    { name: `${formatMs(p.downtimeMs)} downtime`, ms: p.downtimeMs },
    weighed(degraded, p.degradedMs, 'degraded'),
    { name: `${formatMs(p.slowedMs)} slowed`, ms: p.slowedMs },
    { name: `${formatMs(noWayBackMs)} for no way back`, ms: hasNoWayBack ? noWayBackMs : 0 },
    weighed(duration[priority], p.totalMs, 'in all'),
    weighed(harmWeight[priority], harm.ms, 'of harm to the workload'),
  ].filter((part) => part.ms > 0);
}

function leastCost(
  q: TechniqueQuestion,
  possible: readonly Technique[],
  policy: CompiledPolicy,
  predict: Predict,
): Decided<Technique> {
  const costs = possible
    .map((technique) => {
      const p = predict(technique);
      const harm = harmOf(q.links ?? [], p.totalMs);
      const parts = costParts(technique, p, harm, q.priority, policy.doc.technique.cost);
      return { technique, converges: p.converges, harm, parts, costMs: parts.reduce((sum, part) => sum + part.ms, 0) };
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
  const rounded = (n: number) => (Number.isFinite(n) ? Math.round(n) : null);
  for (const c of costs) {
    inputs[`cost ${c.technique} ms`] = rounded(c.costMs);
    if (c.harm.worstLink !== null) {
      inputs[`harm ${c.technique} bytes`] = rounded(c.harm.bytes);
      inputs['harm most on'] = c.harm.worstLink;
    }
  }
  const undecided = [
    ['source', q.source],
    ['destination', q.destination],
    ['guest', q.guest],
  ].filter(([, d]) => d === 'mixed' || d === 'idle');
  const rule = undecided.length > 0 ? 'technique.leastCost' : 'technique.unsupported';
  const forbidden = q.supported.filter((t) => !policy.doc.technique.allowed.includes(t));
  const why =
    undecided.length > 0
      ? `${undecided.map(([who, d]) => `${who} ${d}`).join(', ')}: no row of the table`
      : notByTable(q, policy);
  const by = givenBy(policy, [
    { name: 'what is allowed', input: 'allowedBy', setting: 'technique.allowed', decided: forbidden.length > 0 },
    { name: 'weights', input: 'weight degraded by', setting: 'technique.cost.degraded' },
    { name: 'weights', input: 'weight no way back by', setting: 'technique.cost.noWayBackMs' },
    { name: 'weights', input: 'weight duration by', setting: `technique.cost.duration.${q.priority}` },
    { name: 'weights', input: 'weight harm by', setting: `technique.cost.harm.${q.priority}` },
  ]);
  const { degraded, noWayBackMs, duration, harm } = policy.doc.technique.cost;
  Object.assign(inputs, {
    'weight degraded': degraded,
    'weight no way back ms': noWayBackMs,
    'weight duration': duration[q.priority],
    'weight harm': harm[q.priority],
    ...(policy.overriddenBy.length > 0 ? { overriddenBy: policy.overriddenBy.join(', ') } : {}),
    ...by.inputs,
  });
  const sum = best.parts.map((part) => part.name).join(' + ');
  const next = Math.min(...costs.filter((c) => c !== best).map((c) => c.costMs));
  const others = Number.isFinite(next) ? `, the next ${formatMs(next)}` : '';
  const amount = Number.isFinite(best.costMs) ? `, ${formatMs(best.costMs)} of service (${sum})${others}` : '';
  const text = `${why}; ${best.technique} costs least${amount}${by.text === '' ? '' : `; ${by.text}`}`;
  return { value: best.technique, reasons: [{ rule, text, inputs }] };
}

/** Why the technique that the table says was not taken. */
function notByTable({ source, destination, guest, priority, supported }: TechniqueQuestion, policy: CompiledPolicy) {
  const isPlain = (d: Direction): d is 'in' | 'out' => d === 'in' || d === 'out';
  if (!isPlain(source) || !isPlain(destination) || !isPlain(guest)) return 'no row of the table';
  const entry = tableEntry(policy.doc, source, destination, guest, priority);
  return supported.includes(entry)
    ? `the table says ${entry}, which the policy does not allow`
    : `the table says ${entry}, which the hosts cannot both do`;
}

function notConverging(q: TechniqueQuestion, policy: CompiledPolicy, then: string): Reason {
  const dirtyBps = q.model.dirtyBytesPerS * 8;
  const setting = 'technique.convergenceRatio';
  const by = givenBy(policy, [{ name: 'convergenceRatio', input: 'convergenceRatioBy', setting }]);
  return {
    rule: 'technique.notConverging',
    text: `memory is dirtied at ${formatRate(dirtyBps)}, too fast for a slice of ${formatRate(q.sliceBps)}${by.text === '' ? '' : ` (${by.text})`}: ${then}`,
    inputs: { dirtyBps, sliceBps: q.sliceBps, convergenceRatio: policy.doc.technique.convergenceRatio, ...by.inputs },
  };
}

function noneEnds(q: TechniqueQuestion, policy: CompiledPolicy): FairwayError {
  const by = policy.overrideOf('technique.allowed');
  return new FairwayError(
    'NO_TECHNIQUE',
    `nothing that policy (${policy.doc.technique.allowed.join(', ')}${by === undefined ? '' : `, by ${by}`}) and hosts (${q.supported.join(', ') || 'nothing'}) ` +
      `allow would end: the guest dirties ${formatRate(q.model.dirtyBytesPerS * 8)}, its slice is ` +
      `${formatRate(q.sliceBps)}; allow hybrid or post-copy, or raise its priority`,
    ['conflict'],
  );
}
