/**
 * The way of a migration's stream through the network: chosen among the shortest path and those that share no link with it
 * by what the migration would get there, kept while it is whole, and chosen again when a link of it is lost. `jobs.ts` asks
 * for it before a migration is admitted; `step.ts` lets `followLinks` look after the running ones in each turn; `desired.ts`
 * sends the stream exactly along it. Part of `step.ts`.
 */
import { isFinal, type Reason } from '../../contracts/common.ts';
import { formatRate } from '../../contracts/units.ts';
import {
  disjointPaths,
  findPath,
  LOCAL_PORT,
  linkId,
  type PathOptions,
  type PortRef,
  type Topology,
} from '../../topology/index.ts';
import { linkRef, METER_BASE, METER_COUNT, portByName } from './desired.ts';
import { acrossIp, leadsTo } from './ipNetwork.ts';
import type { Settled } from './jobs.ts';
import { workloadBps } from './rates.ts';
import { pace, runningNow, sliceFor } from './reserve.ts';
import { attachedAt, type ControllerState, isActive, type Job, pullsNow } from './state.ts';
import type { Turn } from './turn.ts';

/** Ways that are compared: the shortest and at most this many that share no link with one another. */
const MAX_WAYS = 4;
/** A longer way is taken only where the shorter one would give less than this share of what the longer one gives. */
const WORTH_STAYING = 0.5;
/** Readings older than this tell nothing of what is free on a link. */
const RATES_AGE_MS = 4000;
const OFPP_MAX = 0xffffff00;

export type JobPath = Pick<Job, 'links' | 'dpids'>;

/** A path with what the migration would get on it, and the reason where it is not the obvious one. */
export interface ChosenPath {
  path: JobPath;
  rateBps: number;
  /** Why the migration gets that much and not more. */
  slice: Reason | null;
  why: Reason | null;
}

/** The ends of a stream: the source's datapath and port, the destination's port. A text where they are not known. */
function endsOf(state: ControllerState, job: Job): { source: PortRef; to: PortRef } | string {
  const a = attachedAt(state, job, 'from');
  const b = attachedAt(state, job, 'to');
  if (!a?.dpid || !a.migrationPort)
    return `agent ${job.from} does not say which switch port carries its migration address`;
  if (!b?.dpid || !b.migrationPort)
    return `agent ${job.to} does not say which switch port carries its migration address`;
  const to = portByName(state.topology, b.dpid, b.migrationPort);
  if (!to)
    return `port ${b.migrationPort} of host ${job.to} is not on switch ${b.dpid}, or that switch is not connected`;
  for (const [host, agent] of [
    [job.from, a],
    [job.to, b],
  ] as const) {
    const at = portByName(state.topology, agent.dpid as string, agent.migrationPort as string);
    if (at && state.topology.port(at)?.isUp === false)
      return `port ${agent.migrationPort} of host ${host}, which carries its migration address, is down`;
  }
  const source = portByName(state.topology, a.dpid, a.migrationPort) ?? { dpid: a.dpid, portNo: LOCAL_PORT };
  return { source, to };
}

/** What is left of a link beside workload and other migrations' slices, bit/s; nothing where nobody has read it lately. */
export function residualOf(state: ControllerState, job: Pick<Job, 'id'>, nowMs: number): (link: string) => number {
  return (link) => {
    const workload = workloadBps(state, link, nowMs, RATES_AGE_MS);
    if (workload === undefined) return 0;
    let left = state.topology.capacityBps(link) - workload;
    for (const [id, bps] of state.shares.get(link)?.byMigration ?? []) if (id !== job.id) left -= bps;
    return Math.max(0, left);
  };
}

/**
 * The best way for a job's stream: the one it has while that is whole and good enough, else the widest of the shortest
 * ones, unless a longer way that shares no link with it would give more than twice as much. A text where there is none.
 */
export function choosePath(state: ControllerState, job: Job, nowMs: number): ChosenPath | string {
  const ways = waysOf(state, job, { residualBps: residualOf(state, job, nowMs) });
  if (typeof ways === 'string') return ways;
  const running = runningNow(state, nowMs);
  return bestOf(
    ways.map((path) => {
      const slice = sliceFor(state, { ...job, ...path }, job.phase, nowMs, running).slices.get(job.id);
      return { path, rateBps: slice?.rateBps ?? 0, slice: slice?.reason ?? null };
    }),
  );
}

/**
 * The ways that are compared: the one that a job has while that is whole, the shortest, and those that share no link with one
 * another. A text where there is none.
 */
export function waysOf(
  state: ControllerState,
  job: Job,
  by: Required<Pick<PathOptions, 'residualBps'>> & Pick<PathOptions, 'towardsOf'>,
): JobPath[] | string {
  const ends = endsOf(state, job);
  if (typeof ends === 'string') return ends;
  const { source, to } = ends;
  const options = { includeLast: to.portNo <= OFPP_MAX, ...by };
  const shortest = findPath(state.topology, source.dpid, to, options) ?? acrossIp(state, source.dpid, to, options);
  if (!shortest)
    return (
      `no path is known from ${job.from} to ${job.to}: their switches are not connected or no link between them was found. ` +
      'If only an IP network joins them, name the ports that lead to it (switches.*.ports.*.ipNetwork)'
    );
  const ways: JobPath[] = isWhole(state, job) ? [{ links: job.links, dpids: job.dpids }] : [];
  for (const p of [shortest, ...disjointWays(state.topology, source.dpid, to, options.includeLast)]) {
    if (!ways.some((w) => sameWay(w, p))) ways.push({ links: p.links, dpids: p.dpids });
  }
  return ways;
}

/** Found before, by the links and switches that they follow from: hosts come and go without changing either. */
const foundWays = new WeakMap<Topology['links'], WeakMap<Topology['switches'], Map<string, readonly JobPath[]>>>();

/** What links carry does not count here, so that it is not looked at again while the network is as it was. */
function disjointWays(topology: Topology, from: string, to: PortRef, includeLast: boolean): readonly JobPath[] {
  const ofLinks = foundWays.get(topology.links) ?? new WeakMap<Topology['switches'], Map<string, readonly JobPath[]>>();
  foundWays.set(topology.links, ofLinks);
  const known = ofLinks.get(topology.switches) ?? new Map<string, readonly JobPath[]>();
  ofLinks.set(topology.switches, known);
  const key = `${from} ${linkId(to)}`;
  const ways = known.get(key) ?? disjointPaths(topology, from, to, MAX_WAYS, { includeLast });
  known.set(key, ways);
  return ways;
}

/** The first way that is good enough beside the best. */
export function bestOf(rated: readonly Omit<ChosenPath, 'why'>[]): ChosenPath {
  const most = Math.max(...rated.map((r) => r.rateBps));
  const chosen = rated.find((r) => r.rateBps >= most * WORTH_STAYING) as (typeof rated)[number];
  const first = rated[0] as (typeof rated)[number];
  if (chosen === first) return { ...chosen, why: null };
  const why: Reason = {
    rule: 'path.wider',
    text:
      `the stream goes over ${wayText(chosen.path)}, where it gets ${formatRate(chosen.rateBps)}; ` +
      `over ${wayText(first.path)} it would get ${formatRate(first.rateBps)}`,
    inputs: { rateBps: Math.round(chosen.rateBps), insteadOfBps: Math.round(first.rateBps), ways: rated.length },
  };
  return { ...chosen, why };
}

export const sameWay = (a: JobPath, b: JobPath): boolean =>
  a.links.join() === b.links.join() && a.dpids.join() === b.dpids.join();

const wayText = (p: JobPath): string => (p.links.length > 0 ? p.links.join(' → ') : `${p.dpids.join()} itself`);

/** What was found of jobs, and for which network: a job that waits is asked about in every turn, and hardly anything changes. */
const found = new WeakMap<Job, Pick<ControllerState, 'topology' | 'agents' | 'settings'> & { isWhole: boolean }>();

/** Whether every link of a job's path is known as it was, and its ends are where the agents are. */
export function isWhole(state: ControllerState, job: Job): boolean {
  const { topology, agents, settings } = state;
  const before = found.get(job);
  if (before?.topology === topology && before.agents === agents && before.settings === settings) return before.isWhole;
  const is = isStillWhole(state, job);
  found.set(job, { topology, agents, settings, isWhole: is });
  return is;
}

function isStillWhole(state: ControllerState, job: Job): boolean {
  const ends = endsOf(state, job);
  if (typeof ends === 'string' || job.dpids[0] !== ends.source.dpid || job.dpids.at(-1) !== ends.to.dpid) return false;
  const last = job.links[job.dpids.length - 1];
  if (last !== undefined && last !== linkId(ends.to)) return false;
  return job.dpids.slice(1).every((dpid, i) => leadsTo(state, job.links[i] ?? '', dpid));
}

/**
 * What broke a job's path, if it is known to be broken: that a link is not known proves nothing just after a start, when
 * links are still being found, unless both its switches have long been there.
 */
function breakOf(t: Turn, job: Job, before: Topology): { link: string | null; text: string } | undefined {
  const { topology, discovery, policy } = t.state;
  const isOld = (dpid: string) => {
    const since = discovery.switchSinceMs.get(dpid);
    return (
      since !== undefined &&
      t.state.switches.get(dpid)?.connected === true &&
      t.nowMs - since >= policy.doc.discovery.silenceMs
    );
  };
  for (const [i, far] of job.dpids.slice(1).entries()) {
    const link = job.links[i] ?? '';
    if (leadsTo(t.state, link, far)) continue;
    const was = leadsTo(t.state, link, far, before);
    if (was || (isOld(linkRef(link).dpid) && isOld(far))) return { link, text: `link ${link} was lost` };
  }
  const ends = endsOf(t.state, job);
  if (typeof ends === 'string') {
    // A host whose switch is not there yet after a start is not lost.
    const known = (['from', 'to'] as const).every((end) =>
      topology.switches.has(attachedAt(t.state, job, end)?.dpid ?? ''),
    );
    return known ? { link: null, text: ends } : undefined;
  }
  if (job.dpids[0] !== ends.source.dpid) return { link: null, text: `${job.from} is attached elsewhere now` };
  const last = job.links[job.dpids.length - 1];
  if (job.dpids.at(-1) !== ends.to.dpid || (last !== undefined && last !== linkId(ends.to)))
    return { link: null, text: `${job.to} is attached elsewhere now` };
  return undefined;
}

/** What can hold a slice on a path: queues on every link of it, else a guard at its first switch, else the pace alone. */
export function enforcementOn(state: ControllerState, path: JobPath): 'queue' | 'meter' | 'pace' {
  if (path.links.every((l) => state.settings.hasQueues(linkRef(l).dpid))) return 'queue';
  const meters = state.switches.get(path.dpids[0] ?? '')?.maxMeters ?? 0;
  return meters >= METER_BASE + METER_COUNT ? 'meter' : 'pace';
}

/** Gives running migrations whose path lost a link another one; those that have none wait for a link at the least pace. */
export function followLinks(t: Turn, before: ControllerState): void {
  const isNew = t.state.topology !== before.topology || t.state.agents !== before.agents;
  for (const job of [...t.state.jobs.values()]) {
    if ((!isActive(job) || job.copyEnded) && !pullsNow(job)) continue;
    if (job.dpids.length === 0) {
      if (isNew) findAgain(t, job);
    } else {
      const broken = breakOf(t, job, before.topology);
      if (broken) reroute(t, job, broken);
    }
  }
}

function reroute(t: Turn, job: Job, broken: { link: string | null; text: string }): void {
  const chosen = choosePath(t.state, job, t.nowMs);
  const about = broken.link === null ? {} : { bindingLink: broken.link };
  t.reserveNow = true;
  if (typeof chosen === 'string') {
    const slice = job.pull && pullsNow(job) ? { pull: { ...job.pull, sliceBps: 0 } } : { sliceBps: 0 };
    t.setJob(job.id, { links: [], dpids: [], ...slice, reroutedAtMs: t.nowMs });
    pace(t, job.id);
    const text = `${broken.text}, and there is no other way: ${chosen}; the stream waits at the least pace until there is one`;
    t.decide('reroute', job.id, [{ rule: 'reroute.noPath', text, inputs: {}, ...about }]);
    t.log('warn', 'job.noPath', { migration: job.id, why: broken.text });
    return;
  }
  takePath(t, job, chosen, 'reroute.linkLost', broken.text, about);
}

/** A job without a path gets one as soon as there is one. */
function findAgain(t: Turn, job: Job): void {
  const chosen = choosePath(t.state, job, t.nowMs);
  if (typeof chosen !== 'string') takePath(t, job, chosen, 'reroute.linkBack', 'there is a way again', {});
}

function takePath(
  t: Turn,
  job: Job,
  chosen: ChosenPath,
  rule: string,
  what: string,
  about: { bindingLink?: string },
): void {
  const { path, rateBps, slice } = chosen;
  t.setJob(job.id, {
    ...path,
    reroutedAtMs: t.nowMs,
    pathSinceMs: t.nowMs,
    // What was chosen before the copy began is confirmed when it begins.
    ...(job.enforcement === null ? {} : { enforcement: enforcementOn(t.state, path) }),
  });
  t.reserveNow = true;
  const room =
    rateBps > 0 ? `where it gets ${formatRate(rateBps)}` : `which has no room for it now: ${slice?.text ?? ''}`;
  const inputs = { rateBps: Math.round(rateBps), links: path.links.length };
  const text = `${what}: the stream of ${job.guest} goes over ${wayText(path)}, ${room}`;
  t.decide('reroute', job.id, [{ rule, text, inputs, ...about }]);
  t.log('warn', 'job.rerouted', { migration: job.id, why: what, path: path.links, rateBps: inputs.rateBps });
}

/** Records when a path taken instead of a lost one is in force, and what holds the slice there. */
export function confirmReroute(t: Turn, job: Job, settled: Settled): void {
  if (job.dpids.length === 0 || job.reroutedAtMs === null) return;
  const refuser = settled.refusedBy(job.dpids);
  if (refuser === undefined && !(settled.flows(job.dpids) && settled.queues(job.links))) return;
  const held = job.links.every((l) => t.state.qos.get(l)?.enforcement === 'queue');
  const enforcement = job.enforcement === 'queue' && !held ? 'pace' : job.enforcement;
  const tookMs = Math.round(t.nowMs - job.reroutedAtMs);
  t.setJob(job.id, { reroutedAtMs: null, enforcement });
  if (isFinal(job.state) || job.copyEnded) return;
  const slice = `${formatRate(job.sliceBps)} held by ${enforcement ?? 'nothing yet'}`;
  const why = refuser === undefined ? '' : (t.state.switches.get(refuser)?.refusedWhy ?? 'it is gone');
  const record: Reason =
    refuser === undefined
      ? { rule: 'reroute.settled', text: `the new way is confirmed after ${tookMs} ms: ${slice}`, inputs: { tookMs } }
      : { rule: 'reroute.refused', text: `switch ${refuser} refused flows of the new way: ${why}`, inputs: {} };
  t.decide('reroute', job.id, [record]);
}
