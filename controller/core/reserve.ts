/**
 * Step 4 of the algorithm inside the controller: gathers what the links carry, lets `policies/` divide it, and keeps the
 * result as shares of links and pace of jobs. Part of `step.ts`.
 */
import { PRIORITIES, type Technique } from '../../contracts/common.ts';
import { formatRate } from '../../contracts/units.ts';
import {
  type CompiledPolicy,
  effectivePolicy,
  type HarmedLink,
  type LinkLoad,
  type Reservation,
  reserve,
  type SliceClaim,
  type SliceDecision,
} from '../../policies/index.ts';
import { canCopy } from './copyOptions.ts';
import { heldBps, isPaced, noteTold, stillTakenBps } from './hold.ts';
import { workloadBps, workloadPeakBps } from './rates.ts';
import { isSettling } from './settle.ts';
import { type ControllerState, type Job, needsSlice, type PortHistory, pullsNow } from './state.ts';
import type { Turn } from './turn.ts';

/**
 * Share of a slice that the hypervisor may fill with its own bytes: Ethernet, IP and TCP headers take 4.4 % of full-size
 * frames (1448 of 1514 bytes carry data), and QEMU spends its allowance in bursts of 100 ms, for which the rest leaves room.
 */
export const PAYLOAD_SHARE = 0.9;
/** How many periods an old reading still counts as knowledge of the workload. */
const FRESH_PERIODS = 3;

/** The policy that holds for a migration: with the overrides for its guest, the guest's labels and tenant, and its source. */
export function policyOf(state: ControllerState, job: Job, host: string | null = job.from): CompiledPolicy {
  const labels = job.spec.labels ?? {};
  return effectivePolicy(state.policy, { guest: job.guest, labels, ...(host === null ? {} : { host }) });
}

/** … on a link of its path, for `explain.ts` too: a host's rules hold on the link that leaves it and on the one that enters it, not between. */
export function policyOn(state: ControllerState, job: Job): (link: string) => CompiledPolicy {
  const first = job.links[0];
  const last = job.links.at(-1);
  return (link) => policyOf(state, job, link === first ? job.from : link === last ? job.to : null);
}

/** What a job claims: for its copy, or, when that is over, for the pull of its disks: of low priority, and no more than was asked for. */
function claimOf(state: ControllerState, job: Job, phase = job.phase): SliceClaim {
  const common = { migration: job.id, links: [...job.links], policyOn: policyOn(state, job) };
  const previous = (bps: number) => (bps > 0 ? bps : null);
  const pull = pullsNow(job) ? job.pull : null;
  if (!pull) {
    const held = heldBps(state, job);
    const taken = held === undefined ? {} : { heldBps: held };
    return { ...common, ...taken, priority: job.priority, phase, previousBps: previous(job.sliceBps) };
  }
  const mostBps = Math.ceil(pull.rateBps / PAYLOAD_SHARE);
  // Who is away goes on as it was told last, and who is to stop until it has answered.
  const isToldNothing = pull.state === 'stopping' || state.agents.get(job.to)?.connected !== true;
  const taken = isToldNothing ? { heldBps: pull.takenBps ?? 0 } : {};
  return { ...common, ...taken, priority: 'low', phase: 'running', previousBps: previous(pull.sliceBps), mostBps };
}

/** What was found for a link, by its last readings; and what else it followed from. */
const usable = new WeakMap<PortHistory, { load: LinkLoad; policy: CompiledPolicy; bps: readonly number[] }>();

/** What a migration could have of a link if it had it alone, bit/s, by priority from high to low: for forecasts. */
export function usableBps(state: ControllerState, link: string, nowMs: number): readonly number[] {
  const load = foreseen(state, loadOf(state, link, nowMs));
  const history = state.ports.get(link);
  const known = history && usable.get(history);
  if (known?.policy === state.policy && isSameLoad(known.load, load)) return known.bps;
  const bps = PRIORITIES.map((priority) => {
    const claim: SliceClaim = { migration: '', priority, links: [link], phase: 'running', previousBps: null };
    return reserve({ links: [load], claims: [claim] }, state.policy).slices.get('')?.rateBps ?? 0;
  });
  if (history) usable.set(history, { load, policy: state.policy, bps });
  return bps;
}

/**
 * What these migrations would have, bit/s by id, if they and nobody else ran, for forecasts: the reservation of their
 * priorities under the loads to reckon with later, beside the pulls of disks that go on. Nobody keeps a small step, nor
 * is anybody held at what it has. `workload`: every workload sends so many times what it is taken to send.
 */
export function ratesTogether(
  state: ControllerState,
  jobs: readonly Job[],
  nowMs: number,
  workload = 1,
): ReadonlyMap<string, number> {
  const pulls = [...state.jobs.values()].filter((j) => pullsNow(j) && j.dpids.length > 0);
  const claims = [...jobs.filter((j) => j.links.length > 0), ...pulls].map((j): SliceClaim => {
    const { heldBps: _, ...claim } = claimOf(state, j, 'running');
    return { ...claim, previousBps: null };
  });
  const links = linksOf(claims).map((id) => scaled(foreseen(state, loadOf(state, id, nowMs)), workload));
  const { slices } = reserve({ links, claims }, state.policy);
  return new Map(jobs.map((j) => [j.id, slices.get(j.id)?.rateBps ?? 0]));
}

/** A load of so much more or less workload; one that is not more is not taken to want more than can be seen. */
function scaled(load: LinkLoad, factor: number): LinkLoad {
  if (factor === 1) return load;
  const { measuredBps, peakBps = measuredBps, shareBps } = load;
  const times = { measuredBps: measuredBps * factor, peakBps: peakBps * factor };
  return { ...load, ...times, shareBps: factor < 1 ? null : shareBps };
}

const isSameLoad = (a: LinkLoad, b: LinkLoad): boolean =>
  a.id === b.id &&
  a.capacityBps === b.capacityBps &&
  a.measuredBps === b.measuredBps &&
  a.peakBps === b.peakBps &&
  a.shareBps === b.shareBps;

/**
 * The load to reckon with later. A workload that fills what a slice leaves it may want any amount, and slices of now are given
 * as if it wanted all. But where what it sent before it was held back explains that it is full now, it will want that again.
 */
function foreseen(state: ControllerState, load: LinkLoad): LinkLoad {
  const before = state.unhindered.get(load.id);
  if (before === undefined || !isFull(state, load) || !isFull(state, { ...load, measuredBps: before })) return load;
  const measuredBps = Math.max(before, load.measuredBps);
  return { ...load, measuredBps, peakBps: measuredBps, shareBps: null };
}

/** Whether the workload uses all that it was left. */
const isFull = (state: ControllerState, { measuredBps, shareBps }: LinkLoad): boolean =>
  shareBps !== null && measuredBps >= state.policy.doc.workload.saturatedAt * shareBps;

/** Notes what workloads that have room send; of those that have not, what they sent when they had is kept. */
function noteUnhindered(t: Turn, links: readonly LinkLoad[]): void {
  const before = t.state.unhindered;
  const now = links.flatMap((l): [string, number][] => {
    const bps = isFull(t.state, l) ? before.get(l.id) : l.measuredBps;
    return bps === undefined ? [] : [[l.id, bps]];
  });
  t.set({ unhindered: new Map(now) });
}

/** What the links of the given claims carry. A link nobody has read lately is taken to be full of workload. */
const loads = (state: ControllerState, claims: readonly SliceClaim[], nowMs: number): LinkLoad[] =>
  linksOf(claims).map((id) => loadOf(state, id, nowMs));

const linksOf = (claims: readonly SliceClaim[]): string[] => [...new Set(claims.flatMap((c) => c.links))];

function loadOf(state: ControllerState, id: string, nowMs: number): LinkLoad {
  const maxAgeMs = state.policy.doc.reservation.periodMs * FRESH_PERIODS + 500;
  const capacityBps = state.topology.capacityBps(id);
  const share = state.shares.get(id);
  return {
    id,
    capacityBps,
    measuredBps: workloadBps(state, id, nowMs, maxAgeMs) ?? capacityBps,
    peakBps: workloadPeakBps(state, id) ?? capacityBps,
    shareBps: share && share.byMigration.size > 0 ? share.workloadBps : null,
  };
}

function claimsOf(state: ControllerState): SliceClaim[] {
  const hasClaim = (j: Job) => needsSlice(j) || (pullsNow(j) && j.dpids.length > 0);
  return [...state.jobs.values()].filter(hasClaim).map((j) => claimOf(state, j));
}

/** Those that run at one moment, and what their links carry: the same for all that are asked about then. */
export interface Running {
  claims: readonly SliceClaim[];
  loadOf(link: string): LinkLoad;
}

export function runningNow(state: ControllerState, nowMs: number): Running {
  const known = new Map<string, LinkLoad>();
  return {
    claims: claimsOf(state),
    loadOf(link) {
      const load = known.get(link) ?? loadOf(state, link, nowMs);
      known.set(link, load);
      return load;
    },
  };
}

/** What a job would get if it were reserved for now, beside those that run and will run with it. */
export function sliceFor(
  state: ControllerState,
  job: Job,
  phase: SliceClaim['phase'],
  nowMs: number,
  running: Running = runningNow(state, nowMs),
): Reservation {
  // Who is held until others have ended will not run beside them.
  const isApart = (id: string) => id === job.id || (job.isHeld && (job.planned?.after.includes(id) ?? false));
  const claims = [...running.claims.filter((c) => !isApart(c.migration)), claimOf(state, job, phase)];
  return reserve({ links: linksOf(claims).map(running.loadOf), claims }, state.policy);
}

/** The links of a job's path, with what their workload sent last, under a slice of so much: what the copy may do harm on. */
export function harmedLinks(state: ControllerState, job: Job, sliceBps: number, nowMs: number): HarmedLink[] {
  return loads(state, [claimOf(state, job)], nowMs).map((l) => ({
    id: l.id,
    capacityBps: l.capacityBps,
    demandBps: Math.min(l.measuredBps, l.capacityBps),
    sliceBps,
  }));
}

/** Works all slices out again; changed ones are recorded with their reason and told to the sources. */
export function reserveAll(t: Turn): void {
  t.set({ lastReservationMs: t.nowMs });
  // Of links that are not found again yet no capacity is known: sources go on at their last pace until they are.
  if (isSettling(t.state)) return;
  const claims = claimsOf(t.state);
  if (claims.length === 0) {
    if (t.state.shares.size > 0) t.set({ shares: new Map(), unhindered: new Map(), shrinking: new Set() });
    return;
  }
  const result = shrinkFirst(t, claims);
  for (const [id, slice] of result.slices) {
    const job = t.job(id);
    if (!job || !slice.changed) continue;
    const { rateBps, reason } = slice;
    if (job.pull && pullsNow(job)) {
      // One that stays at nothing is no news.
      if (rateBps === job.pull.sliceBps && job.pull.reason !== null) continue;
      // Of its slices only the first reason is kept with the migration; all are in the stream of decisions.
      const isFirst = job.pull.reason === null;
      t.setJob(id, { pull: { ...job.pull, sliceBps: rateBps, reason } });
      t.decide('reservation', id, [{ ...reason, text: `for the pull of its disks ${reason.text}` }], isFirst);
      continue;
    }
    // One that stays at nothing is no news.
    if (rateBps === job.sliceBps && job.sliceSteps.length > 0) continue;
    t.setJob(id, { sliceBps: rateBps, sliceSteps: [...job.sliceSteps, { atMs: t.nowMs, rateBps, reason }] });
    t.decide('reservation', id, [reason]);
  }
  t.set({ shares: result.links });
  for (const id of result.slices.keys()) pace(t, id);
}

/**
 * Divides the links among the claims. What one has to give up is another's only when its source has answered that it sends
 * less: until then it counts as taken, and who shall have more waits. Who would have to give something up only because of
 * that keeps what it has. Nobody gets more meanwhile than it shall have then: two between which a third one waits would take
 * turns for ever, each rising while the other gives way.
 */
function shrinkFirst(t: Turn, claims: readonly SliceClaim[]): Reservation {
  const links = loads(t.state, claims, t.nowMs);
  noteUnhindered(t, links);
  const wanted = reserve({ links, claims }, t.state.policy);
  const taken = new Map<string, number>();
  /** Adds those that still take more than the given slices. Whether there were any. */
  const addTakers = ({ slices }: Reservation): boolean => {
    const before = taken.size;
    for (const [id, { rateBps }] of slices) {
      const job = taken.has(id) ? undefined : t.job(id);
      const bps = job && (pullStillTakes(t.state, job, rateBps) ?? stillTakenBps(t.state, job, takenBps(rateBps)));
      if (bps !== undefined) taken.set(id, bps);
    }
    return taken.size > before;
  };
  addTakers(wanted);
  const shrinking = new Set(taken.size < claims.length ? taken.keys() : []);
  if (shrinking.size > 0 || t.state.shrinking.size > 0) t.set({ shrinking });
  if (shrinking.size === 0) return wanted;
  let meanwhile: Reservation;
  do {
    const now = claims.map((c) => {
      const bps = taken.get(c.migration);
      if (bps !== undefined) return { ...c, heldBps: bps };
      const thenBps = wanted.slices.get(c.migration)?.rateBps ?? 0;
      return { ...c, mostBps: Math.min(c.mostBps ?? Number.POSITIVE_INFINITY, thenBps) };
    });
    meanwhile = reserve({ links, claims: now }, t.state.policy);
  } while (addTakers(meanwhile));
  const slices = new Map<string, SliceDecision>();
  for (const [id, first] of meanwhile.slices) {
    const then = wanted.slices.get(id) ?? first;
    if (shrinking.has(id) || first.rateBps === then.rateBps) slices.set(id, then);
    else slices.set(id, waiting(id, first, then, claims, shrinking));
  }
  return { slices, links: meanwhile.links };
}

/** What a destination that is told to pull less may be taking until it has answered; undefined where that is no more than its slice. */
function pullStillTakes(state: ControllerState, job: Job, sliceBps: number): number | undefined {
  if (!pullsNow(job) || state.agents.get(job.to)?.connected !== true) return undefined;
  const bps = job.pull?.takenBps ?? 0;
  return bps > takenBps(sliceBps) ? bps : undefined;
}

/** What one gets until the sources on its links have answered that they send less; its reason says so. */
function waiting(
  migration: string,
  first: SliceDecision,
  then: SliceDecision,
  claims: readonly SliceClaim[],
  shrinking: ReadonlySet<string>,
): SliceDecision {
  const links = claims.find((c) => c.migration === migration)?.links ?? [];
  const others = claims.filter((c) => shrinking.has(c.migration) && c.links.some((l) => links.includes(l)));
  if (others.length === 0) return first;
  const waitsFor = others.map((c) => c.migration).join(', ');
  const answered = others.length === 1 ? 'has answered that it sends' : 'have answered that they send';
  const reason = {
    ...first.reason,
    text: `${formatRate(first.rateBps)} until ${waitsFor} ${answered} less, then ${then.reason.text}`,
    inputs: { ...first.reason.inputs, waitsFor, thenBps: then.rateBps },
  };
  return { ...first, reason };
}

/** To a hypervisor a pace of 0 means no limit; where a slice has shrunk to nothing, the copy crawls instead. */
const CRAWL_BPS = 100_000;

/** Pace for the source, bit/s of payload. */
export const payloadBps = (sliceBps: number): number => Math.max(CRAWL_BPS, Math.round(sliceBps * PAYLOAD_SHARE));

/** What a source may send that was told the pace of a slice: that, or as it crawls. Whole frames, bit/s. */
export const takenBps = (sliceBps: number): number => Math.max(sliceBps, CRAWL_BPS / PAYLOAD_SHARE);

/** Notes that the source of a job is told the pace of its slice, with an order that goes out now. Answers that pace. */
export function tell(t: Turn, job: Job): number {
  const payload = payloadBps(job.sliceBps);
  noteTold(t, job.id, { payloadBps: payload, sliceBps: takenBps(job.sliceBps) });
  return payload;
}

/** Tells the source of a running copy its pace, when it is not what was told last. */
export function pace(t: Turn, id: string): void {
  const job = t.job(id);
  if (!job || !isPaced(job)) return;
  // A source that is away goes on at its last pace, and is told the new one when it is back.
  if (job.pacedBps === payloadBps(job.sliceBps) || !t.state.agents.get(job.from)?.connected) return;
  const bandwidthBps = tell(t, job);
  t.command(job.from, id, {
    do: 'setBandwidth',
    migration: id,
    bandwidthBps,
    switchoverBps: switchoverPayloadBps(t, t.job(id) as Job),
  });
}

/** What the path will carry during stop-and-copy, when the slice is widened: the hypervisor plans its downtime with it. */
export function switchoverPayloadBps(t: Turn, job: Job): number {
  const widened = sliceFor(t.state, job, 'switchover', t.nowMs).slices.get(job.id)?.rateBps ?? job.sliceBps;
  return payloadBps(Math.max(widened, job.sliceBps));
}

/** Techniques both ends can do, with the options that were asked for. */
export function supportedBy(state: ControllerState, job: Job): Technique[] {
  const there = state.agents.get(job.to)?.techniques ?? [];
  const both = (state.agents.get(job.from)?.techniques ?? []).filter((x) => there.includes(x));
  return job.asked.options ? both.filter((x) => canCopy(state, job, x, false)) : both;
}
