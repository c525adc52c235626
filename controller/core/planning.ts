/**
 * Many moves inside the controller: plans the jobs of groups and evacuations with `policies/planner/`, says when the turn
 * of each has come, and plans anew when reality drifts. A plan is a forecast: what starts a job is that those before it
 * have ended, so that one that is late never has another on top of it, and one that is early leaves no link idle. Part of
 * `step.ts`: `jobs.ts` asks `turnsOf` before it admits.
 */
import {
  type Direction,
  isFinal,
  PRIORITIES,
  type Priority,
  type Reason,
  type Technique,
} from '../../contracts/common.ts';
import type { PlannedRun } from '../../contracts/feed.ts';
import type { Plan, PlannedMigration } from '../../contracts/plan.ts';
import { type AdmissionItem, chooseTechnique, copyLeftMs, type GuestModel, OVERHEAD_MS } from '../../policies/index.ts';
import { planMigrations } from '../../policies/planner/index.ts';
import { modelOf } from './guestModel.ts';
import { InstanceBuilder, type PlanItem } from './instance.ts';
import { guestTraffic, hostTraffic } from './rates.ts';
import { payloadBps, policyOf, supportedBy, usableBps } from './reserve.ts';
import { type ControllerState, type GroupPlan, isActive, type Job } from './state.ts';
import type { Turn } from './turn.ts';

const MB = 1e6;
/**
 * Measuring and preparing take about so long: a job is admitted this much before those it waits for are done, and held, ready
 * and without a slice, until they are.
 */
const LEAD_MS = 2500;
/** The writable working set is at most what is written in this time. */
const HOT_SECONDS = 8;
/** A plan that has no place for somebody is looked at again after this long. */
const REFUSED_AGAIN_MS = 5000;
/** Less than this share of its link is not worth a place in the plan: the copy crawls. */
const LEAST_SHARE = 0.001;

const rank = (j: Pick<Job, 'priority'>) => PRIORITIES.indexOf(j.priority);
const isWaiting = (j: Job) => j.state === 'requested' || j.state === 'queued' || j.isHeld;
/** Its copy has ended: what it held of links is free. */
const isOver = (j: Job) => isFinal(j.state) || j.state === 'draining' || j.copyEnded || j.isReleased === true;

/** ms until the copy of a job that is under way ends, at the slice it has. */
export function runningLeftMs(state: ControllerState, job: Job): number {
  const isCopying = job.state === 'copying' || job.state === 'switching';
  const copy =
    isCopying && job.progress
      ? { remainingBytes: job.progress.remainingBytes, passes: job.progress.passes, isPostcopy: job.resumed }
      : null;
  const rateBps = payloadBps(rateOf(job));
  const technique = job.technique ?? job.asked.technique ?? 'pre-copy';
  return (
    copyLeftMs(technique, modelOf(state, job), copy, rateBps, policyOf(state, job)) + (isCopying ? 0 : OVERHEAD_MS)
  );
}

/** A function of one state at one moment, worked out once for each that it is asked of: with many jobs many ask the same. */
function onceFor<K, V extends NonNullable<unknown>>(of: (key: K) => V): (key: K) => V {
  const known = new Map<K, V>();
  return (key) => {
    const found = known.get(key) ?? of(key);
    known.set(key, found);
    return found;
  };
}

/** What it has; in its first moments what the plan gives it: first slices are often not yet what it will have. */
export function rateOf(job: Job): number {
  const isSettled = (job.state === 'copying' || job.state === 'switching') && job.phase !== 'initial';
  return isSettled || job.planned === null ? job.sliceBps : job.planned.rateBps;
}

/** The technique it would be given now, at the rate that the path leaves it; as a guess for the volume it has to carry. */
export function likelyTechnique(
  state: ControllerState,
  job: Job,
  model: GuestModel,
  rateBps: number,
  directionOf: (host: string) => Direction,
): Technique {
  const supported = supportedBy(state, job);
  try {
    return chooseTechnique(
      {
        priority: job.priority,
        source: directionOf(job.from),
        destination: directionOf(job.to),
        guest: guestTraffic(state, job.guest).direction,
        model,
        sliceBps: payloadBps(rateBps),
        supported,
        ...(job.asked.technique ? { requested: job.asked.technique } : {}),
      },
      policyOf(state, job),
    ).value;
  } catch {
    // Nothing would end at this rate, or the hosts cannot do it: its start will say so.
    return 'pre-copy';
  }
}

function waitingItem(
  state: ControllerState,
  job: Job,
  usable: (link: string) => readonly number[],
  directionOf: (host: string) => Direction,
): PlanItem {
  const model = modelOf(state, job);
  const rateBps = Math.min(...job.links.map((l) => usable(l)[rank(job)] as number), Number.MAX_SAFE_INTEGER);
  const technique = likelyTechnique(state, job, model, rateBps, directionOf);
  const isSentOnce = technique === 'post-copy' || technique === 'stop-and-copy';
  // A working set whose bound is not known is not all sent twice: what is written in some seconds stands for it.
  const hotBytes = Math.min(model.workingSetBytes, model.dirtyBytesPerS * HOT_SECONDS);
  const hotMb = isSentOnce ? 0 : hotBytes / MB;
  return {
    ...placeOf(job),
    // A page of zeros is a header and a byte.
    memoryMb: (model.nonZeroBytes ?? model.memoryBytes) / MB,
    hotMb,
    hotS: hotMb > 0 ? hotBytes / model.dirtyBytesPerS : 0,
    runningBps: 0,
  };
}

function placeOf(job: Job): Omit<PlanItem, 'memoryMb' | 'hotMb' | 'hotS' | 'runningBps'> {
  const { id, from, to, priority, deadlineAtMs, links, dpids } = job;
  return { id, from, to, priority, deadlineAtMs, links, dpids, memoryMiB: job.spec.memoryMiB };
}

/** A job that is under way, as the rest of its copy at the rate it has. Beside a more urgent one that waits it will have less. */
function runningItem(
  state: ControllerState,
  job: Job,
  waitingOn: ReadonlyMap<string, ReadonlySet<Priority>>,
  usable: (link: string) => readonly number[],
): PlanItem | undefined {
  const { weights } = state.policy.doc.reservation;
  const own = weights[job.priority];
  const isUrgent = (p: Priority) => rank({ priority: p }) < rank(job);
  const urgent = job.links.flatMap((l) => [...(waitingOn.get(l) ?? [])].filter(isUrgent));
  const most = Math.max(0, ...urgent.map((p) => weights[p]));
  const most0 = Math.min(...job.links.map((l) => usable(l)[0] as number), Number.MAX_SAFE_INTEGER);
  const sliceBps = rateOf(job);
  const runningBps = (Math.min(sliceBps, most0) * own) / (own + most);
  if (job.links.some((l) => runningBps < LEAST_SHARE * state.topology.capacityBps(l))) return undefined;
  // As long as it takes at the rate it has, so much there is to carry; the planner counts 9 bits a byte.
  const leftMs = runningLeftMs(state, job);
  if (!Number.isFinite(leftMs)) return undefined;
  const memoryMb = ((leftMs / 1000) * sliceBps) / 9 / MB;
  return { ...placeOf(job), deadlineAtMs: null, memoryMb, hotMb: 0, hotS: 0, runningBps };
}

export interface Planned {
  plan: Plan;
  builder: InstanceBuilder;
  instance: ReturnType<InstanceBuilder['finish']>;
  waiting: readonly Job[];
  /** Of all that are in it. */
  ranks: ReadonlyMap<string, number>;
}

/** Plans these waiting jobs beside all that is under way. Jobs need their paths. */
export function planJobs(state: ControllerState, jobs: readonly Job[], nowMs: number): Planned {
  const builder = new InstanceBuilder(state, nowMs);
  const usable = onceFor((link: string) => usableBps(state, link, nowMs));
  const directionOf = onceFor((host: string) => hostTraffic(state, host).direction);
  // By name, so that the same state gives the same plan whatever the order of request.
  const waiting = [...jobs].sort((a, b) => (a.id < b.id ? -1 : 1));
  const active = [...state.jobs.values()].filter((j) => isActive(j) && !isOver(j) && !j.isHeld);
  const moving = new Set(waiting.map((j) => j.guest));
  const waitingOn = new Map<string, Set<Priority>>();
  for (const j of waiting)
    for (const l of j.links) waitingOn.set(l, (waitingOn.get(l) ?? new Set<Priority>()).add(j.priority));
  for (const j of active) {
    const item = j.links.length > 0 || j.dpids.length > 0 ? runningItem(state, j, waitingOn, usable) : undefined;
    if (item === undefined) continue;
    moving.add(j.guest);
    builder.migration(item);
  }
  for (const j of waiting) builder.migration(waitingItem(state, j, usable, directionOf));
  staying(state, builder, moving);
  const instance = builder.finish('groups');
  const { perHostOut, perHostIn } = state.policy.doc.limits;
  const plan = planMigrations(instance, {
    limitPerHost: Math.min(perHostOut, perHostIn),
    work: state.policy.doc.planning.work,
  });
  const ranks = new Map([...active, ...waiting].map((j) => [j.id, rank(j)]));
  return { plan, builder, instance, waiting, ranks };
}

/** What takes room on hosts with limited memory, besides those that move. */
function staying(state: ControllerState, builder: InstanceBuilder, moving: ReadonlySet<string>): void {
  for (const a of state.agents.values()) {
    if (a.guestMemoryMiB === null) continue;
    const units = a.guests
      .filter((g) => g.state !== 'stopped' && !moving.has(g.spec.name))
      .reduce((sum, g) => sum + g.spec.memoryMiB, 0);
    if (units > 0) builder.vm({ id: `staying on ${a.host}`, host: a.host, memory_mb: units, size_units: units });
  }
}

/**
 * What each waiting job that is planned waits for; null when its turn has come. Plans anew first where that is due. Jobs
 * that are not planned are not in the answer.
 */
export function turnsOf(
  t: Turn,
  ready: readonly Job[],
): ReadonlyMap<string, NonNullable<AdmissionItem['turn']> | null> {
  const turns = new Map<string, NonNullable<AdmissionItem['turn']> | null>();
  const held = [...t.state.jobs.values()].filter((j) => j.isHeld);
  // Who lost its way while it was held has no place in a plan before there is another one.
  const waiting = [...ready.filter((j) => j.isPlanned), ...held.filter((j) => j.dpids.length > 0)];
  if (waiting.length === 0 && held.length === 0) {
    const isLeft = [...t.state.jobs.values()].some((j) => j.isPlanned && !isFinal(j.state));
    if (t.state.plan !== null && !isLeft) t.set({ plan: null });
    return turns;
  }
  const why = waiting.length > 0 ? whyAnew(t, waiting) : undefined;
  if (why !== undefined) replan(t, waiting, why);
  const { state } = t;
  const leftMs = onceFor((j: Job) => runningLeftMs(state, j));
  const isNearlyDone = (j: Job) => (j.state === 'copying' || j.state === 'switching') && leftMs(j) <= LEAD_MS;
  for (const { id } of ready.filter((j) => j.isPlanned)) turns.set(id, turnOf(t, t.job(id) as Job, isNearlyDone));
  for (const { id } of held) {
    if (turnOf(t, t.job(id) as Job, () => false) !== null) continue;
    t.setJob(id, { isHeld: false });
    t.reserveNow = true;
  }
  return turns;
}

/** Whether a job whose turn has come is to be made ready only: somebody whose end it waits for still copies. */
export const mustHold = (state: ControllerState, job: Job): boolean => openBefore(state, job).length > 0;

function openBefore(state: ControllerState, job: Job): Job[] {
  const before = (job.planned?.after ?? []).map((id) => state.jobs.get(id));
  return before.filter((j): j is Job => j !== undefined && !isOver(j));
}

/** `isNearlyDone` says of a job whether it will be done when another one has been measured and prepared. */
function turnOf(t: Turn, job: Job, isNearlyDone: (j: Job) => boolean): NonNullable<AdmissionItem['turn']> | null {
  const { planned } = job;
  if (planned === null) {
    const text = t.state.plan?.refused.get(job.id) ?? 'it is not planned yet';
    return { reason: { rule: 'planning.noPlace', text, inputs: {} }, behind: [] };
  }
  const open = openBefore(t.state, job);
  // Memory must be free before.
  const isRoomAwaited = planned.reason.rule === 'planning.memory';
  const blocking = open.filter((j) => isRoomAwaited || !isNearlyDone(j));
  if (blocking.length === 0 && (planned.after.length > 0 || t.nowMs >= planned.startAtMs)) return null;
  return { reason: planned.reason, behind: (blocking.length > 0 ? blocking : open).map((j) => j.id) };
}

const because = (rule: string, text: string, inputs: Reason['inputs'] = {}, link?: string): Reason => ({
  rule: `planning.${rule}`,
  text,
  inputs,
  ...(link === undefined ? {} : { bindingLink: link }),
});

/** Why the plan must be made anew; undefined when it holds. */
function whyAnew(t: Turn, waiting: readonly Job[]): Reason | undefined {
  const { plan } = t.state;
  if (plan === null)
    return because('first', `${waiting.length} migrations are planned`, { migrations: waiting.length });
  const fresh = waiting.filter((j) => !plan.endAtMs.has(j.id) && !plan.refused.has(j.id));
  if (fresh.length > 0)
    return because('asked', `${fresh.length} more migrations were asked for`, { more: fresh.length });
  for (const id of plan.endAtMs.keys()) {
    const j = t.job(id);
    if (j?.state === 'failed' || j?.state === 'cancelled' || j?.state === 'lost')
      return because(j.state, `${id} was ${j.state}`);
  }
  const drift = driftOf(t, plan, waiting);
  // Rates need some periods to settle: what passes by itself is no reason.
  const sinceMs = drift === undefined ? null : (plan.driftedSinceMs ?? t.nowMs);
  if (sinceMs !== plan.driftedSinceMs) t.set({ plan: { ...plan, driftedSinceMs: sinceMs } });
  if (sinceMs !== null && t.nowMs - sinceMs >= t.state.policy.doc.planning.settleMs) return drift;
  if (plan.refused.size > 0 && t.nowMs - plan.madeAtMs >= REFUSED_AGAIN_MS)
    return because('again', 'some had no place in the plan');
  return undefined;
}

/** Texts of paths made before: a job's list of links is replaced, never changed. */
const texts = new WeakMap<readonly string[], string>();

function joined(links: readonly string[]): string {
  const text = texts.get(links) ?? links.join();
  texts.set(links, text);
  return text;
}

/** Where reality is not as planned, by more than the policy allows. */
function driftOf(t: Turn, plan: GroupPlan, waiting: readonly Job[]): Reason | undefined {
  const turned = waiting.find((j) => plan.paths.has(j.id) && plan.paths.get(j.id) !== joined(j.links));
  if (turned !== undefined) return because('path', `${turned.id} takes another path than planned`);
  const { toleranceMs, toleranceShare, capacityShare } = t.state.policy.doc.planning;
  for (const [id, plannedEndMs] of plan.endAtMs) {
    const j = t.job(id);
    if (j === undefined || isWaiting(j)) continue;
    const endMs = isOver(j) ? (j.endedAtMs ?? t.nowMs) : t.nowMs + runningLeftMs(t.state, j);
    // Who has ended is compared once, and only where that leaves something idle.
    if (isOver(j) && (endMs >= plannedEndMs || plan.madeAtMs >= endMs)) continue;
    const startMs = j.planned?.startAtMs ?? plan.madeAtMs;
    const allowedMs = Math.max(toleranceMs, toleranceShare * (plannedEndMs - Math.min(startMs, plan.madeAtMs)));
    const driftMs = endMs - plannedEndMs;
    if (Math.abs(driftMs) <= allowedMs) continue;
    const how = driftMs < 0 ? 'earlier' : 'later';
    const text = `${id} ${isOver(j) ? 'ended' : 'will end'} ${(Math.abs(driftMs) / 1000).toFixed(1)} s ${how} than planned`;
    return because('drift', text, { migration: id, driftMs: Math.round(driftMs), allowedMs: Math.round(allowedMs) });
  }
  for (const [link, before] of plan.usableBps) {
    const capacityBps = t.state.topology.capacityBps(link);
    const now = usableBps(t.state, link, t.nowMs);
    const i = now.findIndex(
      (bps, k) => Math.abs(bps - (before[k] as number)) > capacityShare * Math.max(capacityBps, 1),
    );
    if (i < 0) continue;
    const inputs = { beforeBps: before[i] as number, nowBps: now[i] as number, priority: PRIORITIES[i] as string };
    return because('capacity', `what ${link} leaves to migrations has changed`, inputs, link);
  }
  return undefined;
}

function replan(t: Turn, waiting: readonly Job[], why: Reason): void {
  const made = planJobs(t.state, waiting, t.nowMs);
  const { plan } = made;
  const at = (s: number) => t.nowMs + Math.round(s * 1000);
  const runs = runsOf(made, t.nowMs);
  const endAtMs = new Map(plan.migrations.map((m) => [m.vm, at(m.end_s)]));
  const next: GroupPlan = {
    revision: (t.state.plan?.revision ?? 0) + 1,
    madeAtMs: t.nowMs,
    driftedSinceMs: null,
    endsAtMs: at(plan.makespan_s),
    boundAtMs: at(plan.lower_bound_s),
    usableBps: made.builder.usable,
    paths: new Map(waiting.map((j) => [j.id, joined(j.links)])),
    endAtMs,
    refused: new Map((plan.refused ?? []).map((r) => [r.vm, r.reason])),
  };
  const jobs = new Map(t.state.jobs);
  for (const { id } of waiting) {
    const job = jobs.get(id) as Job;
    const planned = runs.get(id) ?? null;
    if (!isSameRun(job.planned, planned)) jobs.set(id, { ...job, planned });
  }
  t.set({ jobs, plan: next });
  const text = `${why.text}: plan ${next.revision} for ${waiting.length} waiting, done in ${plan.makespan_s.toFixed(1)} s`;
  const inputs = {
    ...why.inputs,
    revision: next.revision,
    waiting: waiting.length,
    makespanMs: Math.round(plan.makespan_s * 1000),
    lowerBoundMs: Math.round(plan.lower_bound_s * 1000),
    missedDeadlines: plan.missed_deadlines as number,
  };
  t.decide('planning', null, [{ ...why, text, inputs }]);
}

/** Nobody is told of a plan that comes out the same. */
function isSameRun(a: PlannedRun | null, b: PlannedRun | null): boolean {
  if (a === null || b === null) return a === b;
  const isNear = Math.abs(a.startAtMs - b.startAtMs) < 100 && Math.abs(a.endAtMs - b.endAtMs) < 100;
  return isNear && a.rateBps === b.rateBps && a.reason.text === b.reason.text && a.after.join() === b.after.join();
}

/** Each job's part of a plan. */
export function runsOf(made: Planned, nowMs: number): ReadonlyMap<string, PlannedRun> {
  const after = predecessors(made);
  const runs = new Map<string, PlannedRun>();
  for (const m of made.plan.migrations) {
    runs.set(m.vm, {
      startAtMs: nowMs + Math.round(m.start_s * 1000),
      endAtMs: nowMs + Math.round(m.end_s * 1000),
      rateBps: Math.round(
        (m.segments.reduce((a, s) => a + s.mbps * (s.to_s - s.from_s), 0) / (m.end_s - m.start_s)) * MB,
      ),
      after: after.get(m.vm) ?? [],
      reason: reasonOf(m, made.builder),
      lateMs: Math.round((m.late_s ?? 0) * 1000),
    });
  }
  return runs;
}

/**
 * Whose end each migration waits for: on every link of it, those that end before it starts, without those that end before one
 * of these starts; and where its destination has no room for it otherwise, those that leave there first. A less urgent one
 * that fills a gap before it on a link is not waited for: should it be late, it is the one that gets less.
 */
function predecessors(made: Planned): Map<string, string[]> {
  const users = new Map<string, PlannedMigration[]>();
  const after = new Map<string, Set<string>>();
  const wait = (vm: string, before: string) => {
    after.set(vm, (after.get(vm) ?? new Set()).add(before));
  };
  for (const m of made.plan.migrations) {
    for (let i = 1; i < m.path.length; i++) {
      const key = `${m.path[i - 1]}→${m.path[i]}`;
      const list = users.get(key);
      if (list === undefined) users.set(key, [m]);
      else list.push(m);
    }
  }
  for (const list of users.values()) {
    list.sort((a, b) => a.start_s - b.start_s || (a.vm < b.vm ? -1 : 1));
    for (const [i, m] of list.entries()) {
      const before = list.slice(0, i).filter((x) => x.end_s <= m.start_s);
      const lastStart = before.reduce((most, x) => Math.max(most, x.start_s), -1);
      const isUrgent = (x: PlannedMigration) => (made.ranks.get(x.vm) ?? 0) <= (made.ranks.get(m.vm) ?? 0);
      for (const x of before) if (x.end_s > lastStart && isUrgent(x)) wait(m.vm, x.vm);
    }
  }
  for (const host of made.instance.hosts) {
    if (host.memory_units !== undefined) waitForRoom(made, host.id, host.memory_units, wait);
  }
  return new Map([...after].map(([vm, set]) => [vm, [...set].sort()]));
}

/** Who comes to a host waits for as many of those that leave it before as it takes to have room, the first first; for no others. */
function waitForRoom(
  { plan, instance }: Planned,
  host: string,
  units: number,
  wait: (vm: string, before: string) => void,
): void {
  const ends = new Map(instance.migrations.map((m) => [m.vm, m]));
  const sizes = new Map(instance.vms.map((v) => [v.id, v.size_units ?? 0]));
  const sizeOf = (m: PlannedMigration) => sizes.get(m.vm) ?? 0;
  const leaving = plan.migrations.filter((m) => ends.get(m.vm)?.from === host).sort((a, b) => a.end_s - b.end_s);
  const coming = plan.migrations.filter((m) => ends.get(m.vm)?.to === host).sort((a, b) => a.start_s - b.start_s);
  let used = instance.vms.reduce((sum, v) => sum + (v.host === host ? (v.size_units ?? 0) : 0), 0);
  for (const m of coming) {
    used += sizeOf(m);
    let missing = used - units;
    for (const x of leaving) {
      if (missing <= 0 || x.end_s > m.start_s) break;
      wait(m.vm, x.vm);
      missing -= sizeOf(x);
    }
  }
}

/** Why it starts when it does, in the words and with the links of the controller. */
function reasonOf(m: PlannedMigration, builder: InstanceBuilder): Reason {
  const { waits_for = 'nothing', binding, behind = [], rate_limited_by } = m.why ?? {};
  const link = builder.linkNamed(binding);
  const limit = builder.linkNamed(rate_limited_by);
  const who = behind.length > 3 ? `${behind.slice(0, 3).join(', ')} and ${behind.length - 3} more` : behind.join(', ');
  const text = {
    nothing: 'nothing of the plan stands before it',
    link: `planned: ${link ?? 'a link of its path'} is used until then${who === '' ? '' : ` by ${who}`}`,
    memory: `planned: ${who} must leave ${binding} before there is room`,
    limit: `planned: as many as may leave or enter ${binding} do until then${who === '' ? '' : ` (${who})`}`,
    order: 'planned: an earlier start would not end it earlier',
  }[waits_for];
  const bindingLink = waits_for === 'link' ? link : waits_for === 'nothing' ? limit : undefined;
  return {
    rule: `planning.${waits_for}`,
    text,
    inputs: {
      startS: m.start_s,
      endS: m.end_s,
      ...(limit === undefined ? {} : { rateLimitedBy: limit }),
      ...(behind.length === 0 ? {} : { behind: behind.join(' ') }),
    },
    ...(bindingLink === undefined ? {} : { bindingLink }),
  };
}
