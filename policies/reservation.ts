/**
 * Step 4 of the algorithm (paper 002, "bandwidth reservation algorithm"): how much of each link the workload keeps and
 * how the rest is divided into slices. Called when migrations start, end or change phase, and every
 * `reservation.periodMs` in between. Neighbours: `document.ts` evaluates the expressions, `admission.ts` decides who runs.
 *
 * How a link is divided. Each claim has an entitlement on each of its links: what its priority's expression says may be
 * reserved there, at most capacity − floor. The entitlements of a link cut it into layers: [0, smallest], [smallest,
 * next], …; each layer is divided by weight among the claims entitled to reach that far. So a low-priority migration
 * shares only in what it might have used alone, what more is reserved for a high one is the high one's, and the total is
 * that of the largest entitlement. A claim that another link binds leaves its part to the others (weighted max-min).
 */
import type { Priority, Reason } from '../contracts/common.ts';
import { PRIORITIES } from '../contracts/common.ts';
import { formatRate } from '../contracts/units.ts';
import type { CompiledPolicy, ReservationName } from './document.ts';
import { givenBy } from './givenBy.ts';

/** A directed link in the last period. All rates bit/s. */
export interface LinkLoad {
  id: string;
  /** 0 when unknown: then nothing can be reserved on it. */
  capacityBps: number;
  /** What the workload sent in the last period, without migration streams. */
  measuredBps: number;
  /**
   * The most it sent in any period of `direction.windowMs`; `measuredBps` when absent. A low-priority slice goes by this:
   * a sender that lost a packet sends less for a moment, and a slice that took what it left would keep it there.
   */
  peakBps?: number;
  /** What the workload was left in the last period (`workloadBps` of the last Reservation); null when there was no slice. */
  shareBps: number | null;
}

/** A running migration that needs a slice on its links. */
export interface SliceClaim {
  migration: string;
  priority: Priority;
  /** Ids of the directed links of its path. */
  links: readonly string[];
  /** initial: its first slice; switchover: from before stop-and-copy until the guest runs at the destination. */
  phase: 'initial' | 'running' | 'switchover';
  /** Its slice in the last period, bit/s; null when it had none. */
  previousBps: number | null;
  /**
   * It goes on at this rate whatever is decided, as its source cannot be told another one: its slice is exactly that, and
   * the others have what that leaves.
   */
  heldBps?: number;
  /** Instead of `reservation.weights` of its priority. */
  weight?: number;
  /** Most it can use, bit/s; no more is reserved for it. */
  mostBps?: number;
  /** The policy that holds for it on a link (`effectivePolicy`); the document's own when absent. */
  policyOn?: (link: string) => CompiledPolicy;
}

export interface SliceDecision {
  /** 0 when nothing may be sent: unknown link, or a floor that leaves nothing. */
  rateBps: number;
  /** `bindingLink` is the link that limits it. */
  reason: Reason;
  /** Whether it differs from `previousBps`; differences of less than `minStepShare` are not made. */
  changed: boolean;
}

export interface LinkReservation {
  /** Left to the workload: capacity − all slices, bit/s. */
  workloadBps: number;
  floorBps: number;
  ceilingBps: number;
  byMigration: ReadonlyMap<string, number>;
}

export interface Reservation {
  /** By migration. */
  slices: ReadonlyMap<string, SliceDecision>;
  /** By link id; every link that was given. */
  links: ReadonlyMap<string, LinkReservation>;
}

/**
 * What the workload of a link is taken to want, bit/s, from what it was seen to send: that and
 * `workload.headroom`, so that it can grow into what it is left. A workload that used `workload.saturatedAt` of its share
 * is backlogged: what it wants cannot be seen, and it is taken to want the whole link, so that `low` yields all it can
 * and `medium` yields up to the ceiling. The next period shows what it really wants.
 *
 * Why this settles: a steady workload of x is left x (1 + headroom) and uses 1 ÷ (1 + headroom) of that, which the
 * document's check keeps below `saturatedAt`. Why `low` does not spiral: left s, a backlogged workload sends nearly s.
 * From `saturatedAt` on it is recognised and gets the link; between 1 ÷ (1 + headroom) and that it cannot be told from a
 * steady one and keeps at least s. Only a transport that fills still less of its share while backlogged would shrink:
 * where there is such, raise headroom and lower saturatedAt.
 */
export function estimateDemand(
  seen: { measuredBps: number; shareBps: number | null; capacityBps: number },
  policy: CompiledPolicy,
): number {
  const { headroom, saturatedAt } = policy.doc.workload;
  const measured = Math.max(0, seen.measuredBps);
  if (seen.shareBps !== null && measured >= saturatedAt * seen.shareBps) return seen.capacityBps;
  return Math.min(measured * (1 + headroom), seen.capacityBps);
}

interface LinkState {
  load: LinkLoad;
  /** The least floor that is asked for by anyone on it; the link's own when nobody is. */
  floorBps: number;
  ceilingBps: number;
  demandBps: number;
  /** The same from the peak of the window. */
  peakDemandBps: number;
  /** Capacity − floor: what all slices together never exceed. */
  limitBps: number;
  claims: Claim[];
}

interface Claim {
  readonly claim: SliceClaim;
  readonly policyOn: (link: string) => CompiledPolicy;
  readonly weight: number;
  readonly links: readonly LinkState[];
  /** The expression that entitles it. */
  readonly rule: ReservationName | 'switchover';
  readonly entitlementBps: ReadonlyMap<LinkState, number>;
  /** The floor that holds for it, and capacity − that. */
  readonly floorBps: ReadonlyMap<LinkState, number>;
  readonly limitBps: ReadonlyMap<LinkState, number>;
  /** What was done to the value of its expression, where anything was. */
  readonly notes: ReadonlyMap<LinkState, string>;
  /** Least it is given; `minSliceBps` as far as the floors allow. */
  leastBps: number;
}

/**
 * Divides the links among the claims. Rules of the reasons: `reservation.high`, `.mediumInitial`, `.medium`, `.low`,
 * `.switchover` (the expression that entitles it on its binding link), `.asked` (all of `mostBps`), `.minimum` (lifted to
 * `minSliceBps`), `.held` (it goes on at its last pace, `heldBps`),
 * `.unknownLink` (a link of its path has no known capacity: slice 0), `.noLinks` (no path: slice 0).
 *
 * Where overrides give migrations floors of their own, each is entitled to at most capacity − its floor, and the link's
 * floor is the least of them. An expression that is no finite number on a link entitles to what the migration had.
 *
 * Invariants: on every link the slices are together at most capacity − floor, or, where those that are held take more than
 * that, these alone; every slice is at least `minSliceBps`
 * unless that would break the former (then more urgent migrations get theirs first); a migration in switch-over of high
 * or medium priority is entitled to capacity − floor; the answer does not depend on the order of links and claims.
 */
export function reserve(
  q: { links: readonly LinkLoad[]; claims: readonly SliceClaim[] },
  policy: CompiledPolicy,
): Reservation {
  const links = new Map<string, LinkState>();
  for (const load of q.links) {
    const { floorBps, ceilingBps } = policy.slaFor(load.id, load.capacityBps);
    const limitBps = Math.max(0, load.capacityBps - floorBps);
    const demandBps = estimateDemand(load, policy);
    const peakBps = Math.max(load.peakBps ?? 0, load.measuredBps) * (1 + policy.doc.workload.headroom);
    const peakDemandBps = Math.min(Math.max(demandBps, peakBps), load.capacityBps);
    links.set(load.id, { load, floorBps, ceilingBps, limitBps, demandBps, peakDemandBps, claims: [] });
  }
  const slices = new Map<string, SliceDecision>();
  const claims: Claim[] = [];
  const isKnown = (id: string) => (links.get(id)?.load.capacityBps ?? 0) > 0;
  for (const asked of [...q.claims].sort(byUrgency)) {
    // What is held is held on the links that are known, whatever the others are.
    const claim = asked.heldBps === undefined ? asked : { ...asked, links: asked.links.filter(isKnown) };
    const unknown = claim.links.find((id) => !isKnown(id));
    if (unknown !== undefined || claim.links.length === 0) {
      const reason = nothingKnown(unknown ?? asked.links[0]);
      slices.set(claim.migration, { rateBps: 0, reason, changed: claim.previousBps !== 0 });
    } else claims.push(makeClaim(claim, links, policy));
  }
  for (const l of links.values()) settleLimits(l);
  grantMinimum(claims);
  const fair = divide(claims);
  const kept = keepSmallSteps(claims, fair, policy.doc.reservation.minStepShare);

  for (const c of claims) {
    const rateBps = kept.get(c) as number;
    slices.set(c.claim.migration, {
      rateBps,
      reason: explain(c, fair.get(c) as Division, rateBps),
      changed: rateBps !== c.claim.previousBps,
    });
  }
  const reserved = new Map<string, LinkReservation>();
  for (const [id, l] of links) {
    const byMigration = new Map(l.claims.map((c) => [c.claim.migration, kept.get(c) as number]));
    const sum = [...byMigration.values()].reduce((a, b) => a + b, 0);
    reserved.set(id, {
      workloadBps: Math.max(0, l.load.capacityBps - sum),
      floorBps: l.floorBps,
      ceilingBps: l.ceilingBps,
      byMigration,
    });
  }
  return { slices, links: reserved };
}

/** More urgent first, then by name: what comes first does not depend on the order of the claims. */
function byUrgency(a: SliceClaim, b: SliceClaim): number {
  const d = PRIORITIES.indexOf(a.priority) - PRIORITIES.indexOf(b.priority);
  return d !== 0 ? d : a.migration < b.migration ? -1 : a.migration > b.migration ? 1 : 0;
}

function nothingKnown(link: string | undefined): Reason {
  if (link === undefined) {
    return { rule: 'reservation.noLinks', text: 'it has no path to reserve on', inputs: {} };
  }
  const text = `nothing can be reserved: the capacity of ${link} is not known`;
  return { rule: 'reservation.unknownLink', text, inputs: { capacityBps: 0 }, bindingLink: link };
}

function makeClaim(claim: SliceClaim, links: ReadonlyMap<string, LinkState>, policy: CompiledPolicy): Claim {
  const rule: Claim['rule'] =
    claim.priority === 'low'
      ? 'low'
      : claim.phase === 'switchover'
        ? 'switchover'
        : claim.priority === 'high'
          ? 'high'
          : claim.phase === 'initial'
            ? 'mediumInitial'
            : 'medium';
  const own = [...new Set(claim.links)].map((id) => links.get(id) as LinkState);
  const policyOn = claim.policyOn ?? (() => policy);
  const entitlementBps = new Map<LinkState, number>();
  const floors = new Map<LinkState, number>();
  const limitBps = new Map<LinkState, number>();
  const notes = new Map<LinkState, string>();
  const made: Claim = {
    claim,
    policyOn,
    weight: claim.weight ?? policyOn(claim.links[0] as string).doc.reservation.weights[claim.priority],
    links: own,
    rule,
    entitlementBps,
    floorBps: floors,
    limitBps,
    notes,
    leastBps: 0,
  };
  for (const l of own) {
    const ofClaim = policyOn(l.load.id);
    const capacity = l.load.capacityBps;
    const { floorBps, ceilingBps } = ofClaim === policy ? l : ofClaim.slaFor(l.load.id, capacity);
    const limit = Math.max(0, capacity - floorBps);
    const rate = rule === 'low' ? l.peakDemandBps : l.demandBps;
    const judged =
      rule === 'switchover'
        ? { bps: limit, note: null }
        : ofClaim.judge(rule, { capacity, floor: floorBps, ceiling: ceilingBps, rate });
    if (judged.note !== null) notes.set(l, judged.note);
    floors.set(l, floorBps);
    limitBps.set(l, limit);
    const mostBps = Math.min(limit, claim.mostBps ?? Number.POSITIVE_INFINITY);
    entitlementBps.set(l, Math.min(judged.bps ?? claim.previousBps ?? 0, mostBps));
    l.claims.push(made);
  }
  return made;
}

/** With overrides, the limits of the workload on a link are those of the claim that may use most of it. */
function settleLimits(l: LinkState): void {
  if (l.claims.length === 0) return;
  l.floorBps = Math.min(...l.claims.map((c) => c.floorBps.get(l) ?? l.floorBps));
  l.limitBps = Math.max(0, l.load.capacityBps - l.floorBps);
  l.ceilingBps = Math.max(l.ceilingBps, l.floorBps);
}

/**
 * Gives every claim its minimum, the most urgent first, as far as capacity − floor reaches on all of its links. What is held
 * is taken, and comes before all.
 */
function grantMinimum(claims: readonly Claim[]): void {
  const granted = new Map<LinkState, number>();
  for (const c of claims) {
    c.leastBps = Math.max(0, c.claim.heldBps ?? 0);
    for (const l of c.links) granted.set(l, (granted.get(l) ?? 0) + c.leastBps);
  }
  for (const c of claims) {
    if (isHeld(c)) continue;
    const room = Math.min(...c.links.map((l) => (c.limitBps.get(l) ?? 0) - (granted.get(l) ?? 0)));
    const { minSliceBps } = c.policyOn(c.claim.links[0] as string).doc.reservation;
    c.leastBps = Math.max(0, Math.min(minSliceBps, room, c.claim.mostBps ?? Number.POSITIVE_INFINITY));
    for (const l of c.links) granted.set(l, (granted.get(l) ?? 0) + c.leastBps);
  }
}

const isHeld = (c: Claim): boolean => c.claim.heldBps !== undefined;

interface Division {
  rateBps: number;
  binding: LinkState;
  /** Whether it was lifted to its minimum. */
  isLifted: boolean;
}

/**
 * Weighted max-min over all links. Whoever comes out below its minimum is set to it, which comes off the bottom layers
 * of its links, and the rest is divided anew; that ends, as each round lifts at least one claim.
 */
function divide(claims: readonly Claim[]): Map<Claim, Division> {
  const lifted = new Set(claims.filter(isHeld));
  for (;;) {
    const division = divideAbove(claims, lifted);
    const below = claims.filter((c) => !lifted.has(c) && (division.get(c) as Division).rateBps < c.leastBps);
    if (below.length === 0) {
      // Whole bits per second; the thousandth keeps a sum of thirds from losing one to rounding.
      for (const d of division.values()) d.rateBps = Math.floor(d.rateBps + 1e-3);
      return division;
    }
    for (const c of below) lifted.add(c);
  }
}

/** One round: progressive filling. The claim with the least rate per weight is final; its links are divided anew. */
function divideAbove(claims: readonly Claim[], lifted: ReadonlySet<Claim>): Map<Claim, Division> {
  const final = new Map<Claim, Division>();
  const open = new Set(claims.filter((c) => !lifted.has(c)));
  const shares = new Map<LinkState, Map<Claim, number>>();
  const stale = new Set(claims.flatMap((c) => c.links));
  while (open.size > 0) {
    for (const l of stale) shares.set(l, layeredShares(l, lifted, final));
    stale.clear();
    let least = Number.POSITIVE_INFINITY;
    const candidates: [Claim, Division][] = [];
    for (const c of open) {
      let rateBps = Number.POSITIVE_INFINITY;
      let binding = c.links[0] as LinkState;
      for (const l of c.links) {
        const share = shares.get(l)?.get(c) ?? 0;
        if (share < rateBps || (share === rateBps && l.load.id < binding.load.id)) {
          rateBps = share;
          binding = l;
        }
      }
      least = Math.min(least, rateBps / c.weight);
      candidates.push([c, { rateBps, binding, isLifted: false }]);
    }
    // All that are equally low (but for rounding) are final together.
    for (const [c, d] of candidates) {
      if (d.rateBps / c.weight > least * (1 + 1e-12)) continue;
      final.set(c, d);
      open.delete(c);
      for (const l of c.links) stale.add(l);
    }
  }
  for (const c of lifted) {
    // The link where it may use least without being lifted is the one that made it so.
    const binding = c.links.reduce((a, b) => ((c.entitlementBps.get(b) ?? 0) < (c.entitlementBps.get(a) ?? 0) ? b : a));
    final.set(c, { rateBps: c.leastBps, binding, isLifted: true });
  }
  return final;
}

/**
 * What each claim would get on one link if it were not bound elsewhere; those whose rate is final take at most that.
 * Lifted claims occupy the bottom.
 */
function layeredShares(
  l: LinkState,
  lifted: ReadonlySet<Claim>,
  final: ReadonlyMap<Claim, Division>,
): Map<Claim, number> {
  const shares = new Map<Claim, number>();
  let level = 0;
  const members: Claim[] = [];
  for (const c of l.claims) {
    if (lifted.has(c)) level += c.leastBps;
    else {
      members.push(c);
      shares.set(c, 0);
    }
  }
  const entitlement = (c: Claim) => c.entitlementBps.get(l) ?? 0;
  members.sort((a, b) => entitlement(a) - entitlement(b));
  for (let i = 0; i < members.length; i++) {
    const top = entitlement(members[i] as Claim);
    if (top <= level) continue;
    fillLayer(members.slice(i), top - level, shares, (c) => final.get(c)?.rateBps ?? Number.POSITIVE_INFINITY);
    level = top;
  }
  return shares;
}

/** Divides a layer by weight; who has reached its cap leaves its part to the others. */
function fillLayer(
  entitled: readonly Claim[],
  widthBps: number,
  shares: Map<Claim, number>,
  capOf: (c: Claim) => number,
): void {
  let left = widthBps;
  let hungry = entitled.filter((c) => (shares.get(c) ?? 0) < capOf(c));
  while (hungry.length > 0 && left > 0) {
    const weight = hungry.reduce((sum, c) => sum + c.weight, 0);
    const perWeight = left / weight;
    const full = hungry.filter((c) => capOf(c) - (shares.get(c) ?? 0) <= perWeight * c.weight);
    if (full.length === 0) {
      for (const c of hungry) shares.set(c, (shares.get(c) ?? 0) + perWeight * c.weight);
      return;
    }
    for (const c of full) {
      left -= capOf(c) - (shares.get(c) ?? 0);
      shares.set(c, capOf(c));
    }
    hungry = hungry.filter((c) => !full.includes(c));
  }
}

/**
 * Keeps the previous rate where the new one differs by less than the smallest step, so that nothing is sent to switches
 * and agents for it. Keeping a larger rate never breaks a floor, and on no link keeps back more than one step from the
 * workload in all.
 */
function keepSmallSteps(
  claims: readonly Claim[],
  fair: ReadonlyMap<Claim, Division>,
  minStepShare: number,
): Map<Claim, number> {
  const kept = new Map<Claim, number>();
  const excess = new Map<LinkState, number>();
  const room = new Map<LinkState, number>();
  for (const c of claims) {
    for (const l of c.links) {
      if (room.has(l)) continue;
      const sum = l.claims.reduce((a, o) => a + (fair.get(o) as Division).rateBps, 0);
      room.set(l, Math.min(l.limitBps - sum, minStepShare * l.load.capacityBps));
    }
  }
  for (const c of claims) {
    const { rateBps, binding } = fair.get(c) as Division;
    const previous = c.claim.previousBps;
    let result = rateBps;
    if (previous !== null && !isHeld(c) && Math.abs(previous - rateBps) <= minStepShare * binding.load.capacityBps) {
      const more = Math.max(0, previous - rateBps);
      // An override may leave it less of a link than others have.
      const fits = c.links.every(
        (l) => (excess.get(l) ?? 0) + more <= (room.get(l) ?? 0) && previous <= (c.limitBps.get(l) ?? 0),
      );
      const isUsable = previous >= c.leastBps && previous <= (c.claim.mostBps ?? Number.POSITIVE_INFINITY);
      if (isUsable && (more === 0 || fits)) {
        result = previous;
        for (const l of c.links) excess.set(l, (excess.get(l) ?? 0) + more);
      }
    }
    kept.set(c, result);
  }
  return kept;
}

function explain(c: Claim, d: Division, rateBps: number): Reason {
  const l = d.binding;
  const policy = c.policyOn(l.load.id);
  const note = c.notes.get(l);
  const entitlementBps = c.entitlementBps.get(l) ?? 0;
  const others = l.claims.length - 1;
  const expression = c.rule === 'switchover' ? 'capacity - floor' : policy.doc.reservation[c.rule];
  const floorBps = c.floorBps.get(l) ?? l.floorBps;
  const isAll = d.rateBps >= Math.floor(c.claim.mostBps ?? Number.POSITIVE_INFINITY);
  const by = settingsOf(c, d, expression, isAll);
  const inputs: Reason['inputs'] = {
    capacityBps: l.load.capacityBps,
    floorBps,
    ceilingBps: policy.overriddenBy.length > 0 ? policy.slaFor(l.load.id, l.load.capacityBps).ceilingBps : l.ceilingBps,
    measuredBps: l.load.measuredBps,
    demandBps: l.demandBps,
    entitlementBps,
    sharedWith: others,
    expression,
    previousBps: c.claim.previousBps,
    rateBps,
    ...(policy.overriddenBy.length > 0 ? { overriddenBy: policy.overriddenBy.join(', ') } : {}),
    ...by.inputs,
    ...(note === undefined ? {} : { note }),
    ...(c.claim.mostBps === undefined ? {} : { mostBps: c.claim.mostBps }),
  };
  const shared = others > 0 ? `, shared with ${others} other${others > 1 ? 's' : ''}` : '';
  const held = rateBps !== d.rateBps ? ', unchanged: the difference is below the smallest step' : '';
  const what = isHeld(c)
    ? `held: nobody can tell it another pace (${expression} would be ${formatRate(entitlementBps)})`
    : isAll
      ? `all that was asked for, on ${l.load.id}`
      : d.isLifted
        ? `the least a running migration gets (${expression} would be ${formatRate(entitlementBps)})`
        : `${expression} = ${formatRate(entitlementBps)} on ${l.load.id}`;
  return {
    rule: `reservation.${isHeld(c) ? 'held' : isAll ? 'asked' : d.isLifted ? 'minimum' : c.rule}`,
    text: `${formatRate(rateBps)}: ${what}${shared}${held}${note === undefined ? '' : ` (${note})`}${by.text}`,
    inputs,
    bindingLink: l.load.id,
  };
}

/** Where what a slice was worked out from was set by overrides, or for its link alone. */
function settingsOf(
  c: Claim,
  d: Division,
  expression: string,
  isAll: boolean,
): { text: string; inputs: Reason['inputs'] } {
  const l = d.binding;
  const policy = c.policyOn(l.load.id);
  const own = c.policyOn(c.claim.links[0] as string);
  const ofLink = Object.hasOwn(policy.doc.sla.links, l.load.id) ? policy.doc.sla.links[l.load.id] : undefined;
  if (policy.overriddenBy.length === 0 && own.overriddenBy.length === 0 && ofLink === undefined) return PLAIN;
  const decides = (word: string) => !isAll && expression.includes(word);
  const isFloor = decides('floor') || (!isAll && c.entitlementBps.get(l) === c.limitBps.get(l));
  const isCeiling = decides('ceiling');
  const onLink = givenBy(policy, [
    ...(c.rule === 'switchover'
      ? []
      : [{ name: `reservation.${c.rule}`, input: 'expressionBy', setting: `reservation.${c.rule}`, decided: !isAll }]),
    { name: 'floor', input: 'floorBy', setting: 'sla.floor', decided: isFloor },
    { name: 'ceiling', input: 'ceilingBy', setting: 'sla.ceiling', decided: isCeiling },
  ]);
  const anywhere = givenBy(own, [
    {
      name: 'weight',
      input: 'weightBy',
      setting: `reservation.weights.${c.claim.priority}`,
      decided: l.claims.length > 1 && !d.isLifted && c.claim.weight === undefined,
    },
    { name: 'minimum', input: 'minimumBy', setting: 'reservation.minSliceBps', decided: d.isLifted && !isHeld(c) },
  ]);
  const inputs = { ...onLink.inputs, ...anywhere.inputs };
  const texts = [onLink.text, anywhere.text];
  for (const [which, isDecisive] of [
    ['floor', isFloor],
    ['ceiling', isCeiling],
  ] as const) {
    if (ofLink?.[which] === undefined || inputs[`${which}By`] !== undefined) continue;
    inputs[`${which}By`] = `sla.links.${l.load.id}`;
    if (isDecisive) texts.push(`${which} by sla.links, for this link`);
  }
  const said = texts.filter((text) => text !== '').join('; ');
  return { text: said === '' ? '' : `; ${said}`, inputs };
}

const PLAIN = { text: '', inputs: {} };
