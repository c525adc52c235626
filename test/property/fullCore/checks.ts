/**
 * What holds at every step of the whole core, and in the end, as the issue has it: floors are kept on every link and direction,
 * the more urgent is never put behind the less urgent, everybody ends once faults cease, nothing is left, and what was handed
 * out is never changed. None of it asks the code under test how it came to its answer. Beside `world.ts`.
 */
import { type AgentCommand, agentCommandSchema } from '../../../contracts/agent.ts';
import { isFinal, PRIORITIES, type Priority } from '../../../contracts/common.ts';
import { FEATURE } from '../../../controller/core/cookies.ts';
import { deriveTables, desiredTables } from '../../../controller/core/desired.ts';
import type { Effect } from '../../../controller/core/events.ts';
import { choosePath } from '../../../controller/core/jobPath.ts';
import { isSettling } from '../../../controller/core/settle.ts';
import { type ControllerState, isActive, type Job, needsSlice } from '../../../controller/core/state.ts';
import { WayFinder } from '../../../controller/core/wayFinder.ts';
import { effectivePolicy } from '../../../policies/index.ts';
import type { Host } from './hosts.ts';
import type { World } from './world.ts';

/** Rates are whole bits per second. */
const ROUNDING_BPS = 1;
const rank = (p: Priority) => PRIORITIES.indexOf(p);

/** How often what was looked for was there to be seen: a property that never saw a slice says nothing. */
export interface Seen {
  slices: number;
  rises: number;
  shared: number;
  waits: number;
  starts: number;
  plans: number;
  reroutes: number;
  recoveries: number;
}
export const nothingSeen = (): Seen => ({
  ...{ slices: 0, rises: 0, shared: 0, waits: 0, starts: 0, plans: 0, reroutes: 0, recoveries: 0 },
});

export function checkStep(w: World, before: ControllerState, effects: readonly Effect[], seen: Seen): void {
  const { state } = w;
  checkSlices(state, seen);
  if (state.shares !== before.shares) checkUrgency(state);
  if (state.jobs !== before.jobs) checkWaits(state, before, seen);
  for (const e of effects) {
    if (e.kind === 'qos' && e.qos) {
      const sum = e.qos.queues.reduce((a, q) => a + q.minBps, 0);
      if (sum > e.qos.maxBps + e.qos.queues.length) throw new Error(`${e.link}: queues of ${sum} in ${e.qos.maxBps}`);
    } else if (e.kind === 'command') checkCommand(w, before, e.host, e.migration, e.command, seen);
  }
  if (state.plan !== null && state.plan.revision !== before.plan?.revision) seen.plans++;
}

/** A source is told no less than this, whatever its slice: 100 kbit/s of payload, whole frames. */
const CRAWL_BPS = 111_112;

/** The copy is over, and its disks are being pulled, or were told to stop and may go on until that is answered. */
const isPull = (j: Job): boolean =>
  j.copyEnded &&
  j.resumed &&
  (j.state === 'draining' || j.state === 'done') &&
  (j.pull?.state === 'waiting' ||
    j.pull?.state === 'running' ||
    (j.pull?.state === 'stopping' && (j.pull.takenBps ?? 0) > 0));

/** Whether whoever paces a job's bytes can be told another pace: the destination of a pull, else the source. */
const canBeTold = (state: ControllerState, j: Job): boolean =>
  isPull(j)
    ? j.pull?.state !== 'stopping' && state.agents.get(j.to)?.connected === true
    : state.agents.get(j.from)?.connected === true;

/** What a job has reserved; undefined where it has no claim. */
const sliceOf = (j: Job): number | undefined =>
  isPull(j) && j.dpids.length > 0 ? j.pull?.sliceBps : needsSlice(j) ? j.sliceBps : undefined;

/** The policy that holds for a migration on a link of its way: a host's overrides hold on the first and on the last. */
function policyFor(state: ControllerState, j: Job, link: string) {
  if (state.policy.overrides.size === 0) return state.policy;
  const host = link === j.links[0] ? j.from : link === j.links.at(-1) ? j.to : undefined;
  return effectivePolicy(state.policy, {
    ...{ guest: j.guest, labels: j.spec.labels ?? {} },
    ...(host === undefined ? {} : { host }),
  });
}

/** What a migration must leave to the workload of a link. */
const floorFor = (state: ControllerState, j: Job, link: string): number =>
  policyFor(state, j, link).slaFor(link, state.topology.capacityBps(link)).floorBps;

/** Where overrides give migrations floors of their own, together they leave the least of them. */
const leastFloor = (state: ControllerState, jobs: readonly Job[], link: string): number =>
  Math.min(...jobs.map((j) => floorFor(state, j, link)));

/** Whether the same overrides hold for two on all that both may pass. */
const isUnderSame = (state: ControllerState, a: Job, b: Job): boolean =>
  state.policy.overrides.size === 0 ||
  (a.from === b.from &&
    a.to === b.to &&
    [...a.links, 'elsewhere'].every((l) => policyFor(state, a, l) === policyFor(state, b, l)));

/** Whether a policy that holds for both asks for no less for the more urgent one, whatever the workload sends. */
function keepsOrder(state: ControllerState, a: Job, b: Job): boolean {
  return a.links.every((link) => {
    const policy = policyFor(state, a, link);
    const { weights } = policy.doc.reservation;
    const capacity = state.topology.capacityBps(link);
    const { floorBps: floor, ceilingBps: ceiling } = policy.slaFor(link, capacity);
    const asked = (j: Job, rate: number) => policy.evaluate(j.priority, { capacity, floor, ceiling, rate });
    const rates = [0, floor, (floor + ceiling) / 2, ceiling, capacity];
    return weights[a.priority] >= weights[b.priority] && rates.every((rate) => asked(a, rate) >= asked(b, rate));
  });
}

/**
 * On every link and direction: the slices of those that copy or pull, or are about to, and the workload's floor, fit. What somebody whose
 * agent is away goes on taking is taken from the others, who can be told.
 */
function checkSlices(state: ControllerState, seen: Seen): void {
  // While the network is found again after a start, sources go on as they were told before.
  if (isSettling(state)) return;
  const on = new Map<string, Job[]>();
  for (const j of state.jobs.values()) {
    const bps = sliceOf(j);
    if (bps === undefined) continue;
    if (!(bps >= 0 && Number.isFinite(bps))) throw new Error(`${j.id} has a slice of ${bps}`);
    for (const l of j.links) on.set(l, [...(on.get(l) ?? []), j]);
  }
  const total = (jobs: readonly Job[]) => jobs.reduce((sum, j) => sum + (sliceOf(j) ?? 0), 0);
  for (const [link, jobs] of on) {
    seen.slices++;
    if ((state.shares.get(link)?.byMigration.size ?? 0) > 1) seen.shared++;
    const capacityBps = state.topology.capacityBps(link);
    const floorBps = leastFloor(state, jobs, link);
    // Not found again yet after a start.
    if (!state.topology.switches.has(link.slice(0, 16))) continue;
    const told = jobs.filter((j) => canBeTold(state, j));
    const held = total(jobs) - total(told);
    const most = Math.max(0, capacityBps - floorBps - held) + told.length * CRAWL_BPS + ROUNDING_BPS;
    if (!(total(told) <= most))
      throw new Error(`${link}: slices of ${total(told)}, ${held} held and a floor of ${floorBps} in ${capacityBps}`);
    for (const j of told) {
      const mostOfIt = Math.max(CRAWL_BPS, capacityBps - floorFor(state, j, link)) + ROUNDING_BPS;
      if ((sliceOf(j) as number) > mostOfIt)
        throw new Error(`${link}: ${j.id} has ${sliceOf(j)} beside its floor of ${floorFor(state, j, link)}`);
    }
    // Besides, what sources that were told less have not confirmed yet.
    const shared = [...(state.shares.get(link)?.byMigration.values() ?? [])].reduce((x, y) => x + y, 0);
    if (shared + jobs.length * CRAWL_BPS + ROUNDING_BPS < total(jobs))
      throw new Error(`${link}: jobs have ${total(jobs)}, and ${shared} is said to be reserved`);
  }
  for (const [link, share] of state.shares) {
    for (const id of share.byMigration.keys()) {
      const j = state.jobs.get(id);
      if (!j || sliceOf(j) === undefined || !j.links.includes(link))
        throw new Error(`${link}: ${id} (${j?.state}) has a share`);
    }
  }
}

/** A pace is a whole number of bits per second of payload, nine tenths of what is reserved. */
const frames = (payloadBps: number): number => Math.max(0, payloadBps - 1) / 0.9;

/** The pace that an order has in it, bit/s of payload. */
const paceOf = (c: AgentCommand): number | undefined =>
  'bandwidthBps' in c ? c.bandwidthBps : c.do === 'pullDisks' ? c.pullBps : undefined;

/** The most that a job may be taking as far as orders tell that were given before, bit/s of whole frames: some may be on their way, or lost. */
function toldBefore(before: ControllerState, id: string): number {
  const pace = before.paces.get(id);
  const pull = before.jobs.get(id)?.pull?.takenBps ?? 0;
  return Math.max(pull, pace?.knownBps ?? 0, ...(pace?.told.map((o) => o.sliceBps) ?? []));
}

/**
 * Nobody is told to take more than before and than what others on its links take now leaves beside the floors, whatever those were
 * told and have not heard yet.
 */
function checkRise(w: World, before: ControllerState, migration: string, command: AgentCommand, seen: Seen): void {
  const { state } = w;
  const job = state.jobs.get(migration);
  const payloadBps = paceOf(command);
  if (payloadBps === undefined || !job || isSettling(state)) return;
  if (toldBefore(before, migration) >= frames(payloadBps)) return;
  const taken = [...w.hosts.values()].flatMap((h) => h.paces());
  for (const link of job.links) {
    if (!state.topology.port({ dpid: link.slice(0, 16), portNo: Number(link.slice(17)) })) continue;
    const others = taken.filter((p) => {
      const j = p.id === migration ? undefined : state.jobs.get(p.id);
      return j?.links.includes(link) === true && sliceOf(j) !== undefined && isPull(j) === p.isPull;
    });
    const takenBps = others.reduce((sum, p) => sum + frames(p.payloadBps), 0);
    const capacityBps = state.topology.capacityBps(link);
    const beside = others.map((p) => state.jobs.get(p.id) as Job);
    const floorBps = leastFloor(state, [job, ...beside], link);
    const most = Math.max(0, capacityBps - floorBps - takenBps) + (others.length + 1) * CRAWL_BPS + ROUNDING_BPS;
    if (others.length > 0) seen.rises++;
    if (frames(payloadBps) > most) {
      const theirs = others.map((p) => `${p.id} takes ${frames(p.payloadBps)}`).join(', ');
      throw new Error(`${link}: ${migration} is told ${frames(payloadBps)}, ${theirs}, in ${capacityBps - floorBps}`);
    }
  }
}

/**
 * Of two on the same or fewer links, the more urgent has at least as much, but for a step that is not made. Whose agent is away
 * goes on as it was told last, whatever has changed since: that is no decision. Who was told less and has not answered counts as
 * sending what it had, and the more urgent one has its part when the answer is there.
 */
function checkUrgency(state: ControllerState): void {
  const { minStepShare } = state.policy.doc.reservation;
  const running = [...state.jobs.values()].filter((j) => needsSlice(j) && j.phase !== 'initial' && canBeTold(state, j));
  for (const a of running) {
    for (const b of running) {
      if (rank(a.priority) >= rank(b.priority) || a.phase !== b.phase || state.shrinking.has(b.id)) continue;
      if (!a.links.every((l) => b.links.includes(l)) || !isUnderSame(state, a, b)) continue;
      if (!keepsOrder(state, a, b)) continue;
      const step = 2 * minStepShare * Math.max(...b.links.map((l) => state.topology.capacityBps(l)), 0);
      if (a.sliceBps + step + ROUNDING_BPS < b.sliceBps)
        throw new Error(`inversion: ${a.priority} ${a.id} has ${a.sliceBps}, ${b.priority} ${b.id} has ${b.sliceBps}`);
    }
  }
}

/** Whether somebody may wait for a less urgent one that is there already: for a place at a host, or for room there. */
function mayWaitFor(state: ControllerState, j: Job, b: Job, rule: string): boolean {
  if (rule === 'admission.hostOut' || rule === 'admission.hostIn') return isActive(b);
  return rule.startsWith('planning.') && b.from === j.to && (state.agents.get(j.to)?.guestMemoryMiB ?? null) !== null;
}

function checkWaits(state: ControllerState, before: ControllerState, seen: Seen): void {
  for (const j of state.jobs.values()) {
    const was = before.jobs.get(j.id);
    if (was === j) continue;
    if (j.reroutedAtMs !== null && was?.reroutedAtMs === null) seen.reroutes++;
    if (j.recovery !== null && was?.recovery === null) seen.recoveries++;
    if (j.state !== 'queued' || (j.behind === was?.behind && j.note === was.note)) continue;
    const rule =
      j.reasons.findLast((r) => r.rule.startsWith('admission.') || r.rule.startsWith('planning.'))?.rule ?? '';
    for (const b of j.behind.map((id) => state.jobs.get(id))) {
      if (!b) throw new Error(`${j.id} waits behind somebody unknown`);
      seen.waits++;
      if (rank(b.priority) <= rank(j.priority)) continue;
      if (!mayWaitFor(state, j, before.jobs.get(b.id) ?? b, rule))
        throw new Error(`inversion: ${j.priority} ${j.id} waits behind ${b.priority} ${b.id} (${b.state}): ${rule}`);
    }
  }
}

function checkCommand(
  w: World,
  before: ControllerState,
  host: string,
  migration: string,
  command: AgentCommand,
  seen: Seen,
): void {
  const parsed = agentCommandSchema.safeParse(command);
  if (!parsed.success) throw new Error(`${command.do} for ${migration} is not as agreed: ${parsed.error.message}`);
  const job = w.state.jobs.get(migration);
  if (job && host !== job.from && host !== job.to) throw new Error(`${command.do} of ${migration} goes to ${host}`);
  checkRise(w, before, migration, command, seen);
  if (command.do !== 'start' || !job) return;
  seen.starts++;
  if (job.links.some((l) => !w.state.topology.port({ dpid: l.slice(0, 16), portNo: Number(l.slice(17)) })))
    throw new Error(`${migration} starts on a way that is not there`);
  for (const dpid of job.dpids) {
    const s = w.net.switches.get(dpid);
    // A switch that is away confirms nothing, and is not waited for.
    if (!s || !w.state.switches.get(dpid)?.connected || !w.net.isInTouch(s)) continue;
    if (job.stream && !w.net.hasFlow(dpid, FEATURE.stream, job.number))
      throw new Error(`${migration} starts, and ${dpid} has no flow for it`);
  }
}

/** Everybody ends: with no fault any more, somebody gets on within this long, and all are done before the longest they may take. */
const QUIET_MS = 120_000;
/** Somebody looks after migrations of hosts that do not come back when nothing has happened for this long. */
const GIVE_UP_MS = 80_000;
const LEAST_RATE_BPS = 2e6;
const DRAIN_STEP_MS = 2000;

/** Lets a mended world go on until all jobs have ended. */
export function drain(w: World): void {
  const open = () => [...w.state.jobs.values()].filter((j) => !isFinal(j.state));
  const bytes = open().reduce((a, j) => a + j.spec.memoryMiB * 2 ** 20, 0);
  const untilMs = w.nowMs + 180_000 + (3 * bytes * 8000) / LEAST_RATE_BPS;
  const signs = () =>
    open()
      .map((j) => `${j.id} ${j.state} ${j.progress?.transferredBytes}`)
      .join();
  let last = signs();
  let sinceMs = w.nowMs;
  while (open().length > 0) {
    w.round(DRAIN_STEP_MS, 0.4);
    const now = signs();
    if (now !== last) {
      last = now;
      sinceMs = w.nowMs;
    }
    if (w.nowMs - sinceMs > GIVE_UP_MS) w.giveUpLost();
    if (w.nowMs - sinceMs > QUIET_MS || w.nowMs > untilMs) throw new Error(`starved: ${w.open().join('; ')}`);
  }
}

/** Whether a host may still read disks of a guest elsewhere, as far as anybody knows. */
function mayRead(h: Host, guest: string): boolean {
  const l = h.disks.left.get(guest);
  return l !== undefined && (h.isGone || !l.isPulled);
}

/** Of a post-copy that was given up one end may have the half that the other lacks, and keeps it for that one's return. */
const isHalf = (w: World, job: Job | undefined, at: string): boolean =>
  job?.state === 'lost' &&
  (job.technique === 'post-copy' || job.technique === 'hybrid') &&
  w.hosts.get(at === job.from ? job.to : job.from)?.isGone === true;

/** What is left when all jobs have ended; nothing, after the time that taking down may take. */
export function leftovers(w: World): string[] {
  const { state, net, hosts } = w;
  const left: string[] = [];
  if (state.shares.size > 0) left.push(`shares of ${[...state.shares.keys()].join()}`);
  if (state.plan !== null) left.push('a plan');
  for (const [link, q] of state.qos) left.push(`queues of ${link}: ${q.inFlight ? 'in flight' : q.note}`);
  for (const link of w.queues.keys()) left.push(`queues in the database for ${link}`);
  const away = guestsAway(w, left);
  for (const [id, t] of state.tunnels) if (!away.tunnels.has(id)) left.push(`tunnel ${id} ${t.note}`);
  for (const id of away.tunnels) {
    const t = state.tunnels.get(id);
    if (!t?.applied || t.inFlight || t.isStale) left.push(`tunnel ${id} of a guest away from home is not there`);
  }
  for (const j of state.jobs.values()) {
    const pull = hosts.get(j.to)?.isGone ? undefined : j.pull?.state;
    if (pull === 'waiting' || pull === 'running' || pull === 'stopping' || pull === 'away')
      left.push(`the pull of ${j.id} is ${pull}: ${j.pull?.note}`);
  }
  for (const s of net.switches.values()) {
    const features = net.features(s);
    for (const f of [FEATURE.stream, FEATURE.answer, FEATURE.moved])
      if (features.has(f)) left.push(`flow ${f} at ${s.dpid}`);
    if (features.has(FEATURE.away) && away.guests.size === 0) left.push(`flows of guests away at ${s.dpid}`);
    if (s.meters.size > 0) left.push(`meters at ${s.dpid}`);
    for (const { name } of s.ports.values())
      if (name.startsWith('fwt') && !away.tunnels.has(`${s.dpid}/${name}`)) left.push(`port ${name} at ${s.dpid}`);
    const known = state.switches.get(s.dpid);
    if (known?.inFlight) left.push(`a write to ${s.dpid} that is not answered`);
    const held = new Set(known?.installed.flows.keys());
    if (held.size !== s.flows.size || [...s.flows.keys()].some((k) => !held.has(k)))
      left.push(`${s.dpid} holds ${s.flows.size} flows, and ${held.size} are believed`);
  }
  for (const h of hosts.values()) {
    // Of what is there nobody has heard since.
    if (h.isGone) continue;
    for (const j of h.jobs.values()) {
      // It says again that the disks are here to whoever comes back.
      const isKept = j.role === 'destination' && j.readsDisks && h.guests.get(j.guest)?.state === 'running';
      const job = state.jobs.get(j.id);
      if (!isKept && !isHalf(w, job, h.o.host)) left.push(`${h.o.host} keeps ${j.role} of ${j.id}`);
    }
    for (const g of h.guests.values()) {
      const { name } = g.spec;
      const isRead = [...hosts.values()].some((x) => mayRead(x, name));
      const isSource = [...state.jobs.values()].some(
        (j) => j.guest === name && j.from === h.o.host && isHalf(w, j, j.from),
      );
      if (g.state !== 'running' && !(h.disks.served.has(name) && isRead) && !isSource)
        left.push(`${name} is ${g.state} at ${h.o.host}`);
    }
  }
  for (const guest of w.guests) {
    const at = [...hosts.values()].filter((h) => h.guests.get(guest)?.state === 'running');
    if (at.length !== 1) left.push(`${guest} runs ${at.length} times`);
    const place = state.topology.locationByName(guest)?.at;
    const port = place && net.at(`${place.dpid}:${place.portNo}`);
    if (at[0]?.isGone) continue;
    if (at[0] && (place?.dpid !== at[0].o.dpid || port?.port.name !== `tap-${guest}`))
      left.push(`${guest} is at ${at[0].o.host}, and traffic goes to ${place?.dpid}:${place?.portNo}`);
  }
  return left;
}

/** Where it is nobody is left who would ever say so: both agents of its migration never come back. */
const isUntold = (w: World, guest: string, at: Host | undefined): boolean =>
  [...w.state.jobs.values()].some((j) => {
    const ends = [j.from, j.to].map((h) => w.hosts.get(h));
    return (
      j.guest === guest &&
      j.state === 'lost' &&
      !j.resumed &&
      ends.includes(at) &&
      ends.every((h) => h?.isGone === true)
    );
  });

/**
 * Guests in another fabric than the one they were launched in, and the tunnels that lead to them from there; what is known of
 * them and what is not so is added to what is left.
 */
function guestsAway(w: World, left: string[]): { guests: Set<string>; tunnels: Set<string> } {
  const guests = new Set<string>();
  const tunnels = new Set<string>();
  for (const guest of w.guests) {
    const at = [...w.hosts.values()].find((h) => h.guests.get(guest)?.state === 'running');
    const o = w.state.overlays.get(guest);
    const isKnown = !isUntold(w, guest, at);
    const isAway = at !== undefined && w.fabricOf(at) !== w.homeOf(guest);
    if (isKnown && isAway !== (o?.isAway === true)) left.push(`${guest} is ${isAway ? 'away from home' : 'at home'}`);
    if (!o?.isAway) continue;
    guests.add(guest);
    if (isKnown && isAway && o.at.dpid !== at.o.dpid)
      left.push(`${guest} is at ${at.o.dpid}, and its tunnel leads to ${o.at.dpid}`);
    tunnels.add(`${o.anchor}/fwt${o.at.dpid.slice(-12)}`).add(`${o.at.dpid}/fwt${o.anchor.slice(-12)}`);
  }
  return { guests, tunnels };
}

/** What switches should hold is the same, made anew, as what is remembered of it. */
export function checkTables(state: ControllerState): void {
  const kept = desiredTables(state);
  const fresh = deriveTables(state);
  const textFor = (tables: typeof kept) =>
    [...tables].map(([dpid, t]) => [
      ...[dpid, [...t.flows].map(([key, f]) => `${key} ${f.signature}`).sort()],
      ...[[...t.meters].sort(), [...t.groups].map(([id, g]) => `${id} ${g.signature}`).sort()],
    ]);
  if (textOf(textFor(kept)) !== textOf(textFor(fresh))) throw new Error('switches are to hold what no longer follows');
}

/** The ways of all that wait, found together, are those that are chosen for each alone. */
export function checkWays(state: ControllerState, nowMs: number): void {
  const finder = new WayFinder(state, nowMs);
  for (const job of state.jobs.values()) {
    if (job.state !== 'requested' && job.state !== 'queued') continue;
    const found = finder.choose(job);
    const alone = choosePath(state, job, nowMs);
    const textFor = (way: typeof found) => textOf(typeof way === 'string' ? way : [way.path, way.why]);
    if (textFor(found) !== textFor(alone))
      throw new Error(`the way of ${job.id} is ${textFor(found)} among others, and ${textFor(alone)} alone`);
  }
}

/** Whatever happens, a guest never runs at two hosts. */
export function checkGuests(w: World): void {
  for (const guest of w.guests) {
    const at = [...w.hosts.values()].filter((h) => h.guests.get(guest)?.state === 'running');
    if (at.length > 1) throw new Error(`${guest} runs on ${at.map((h) => h.o.host).join(' and ')}`);
  }
}

/** Freezes what was handed out: who changes it later gets an error. Buffers cannot be frozen. */
export function freeze(value: unknown): void {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value) || ArrayBuffer.isView(value)) return;
  Object.freeze(value);
  for (const v of Object.values(value)) freeze(v);
}

/** The maps of a state as they are, to be compared after later steps: nobody writes to a snapshot. */
export class Snapshot {
  readonly #maps: (readonly [string, ReadonlyMap<unknown, unknown>, readonly (readonly [unknown, unknown])[]])[] = [];

  constructor(state: ControllerState) {
    const add = (name: string, m: unknown) => {
      if (m instanceof Map) this.#maps.push([name, m, [...m]]);
    };
    for (const [name, m] of Object.entries(state)) add(name, m);
    for (const [name, m] of Object.entries(state.discovery)) add(`discovery ${name}`, m);
    for (const name of ['switches', 'links', 'locations', 'listening'] as const) add(name, state.topology[name]);
    add('settling', state.settling.ports);
    for (const s of state.switches.values()) {
      add('flows', s.installed.flows);
      add('meters', s.installed.meters);
    }
    for (const s of state.shares.values()) add('shares of a link', s.byMigration);
  }

  check(): void {
    for (const [name, m, entries] of this.#maps) {
      let i = 0;
      for (const [k, v] of m) {
        const was = entries[i++];
        if (!was || was[0] !== k || was[1] !== v)
          throw new Error(`an old snapshot's ${name} was written to at ${String(k)}`);
      }
      if (i !== entries.length) throw new Error(`an old snapshot's ${name} lost an entry`);
    }
  }
}

/** Everything that follows from events, as one text: for playing them twice. */
export function textOf(value: unknown): string {
  return JSON.stringify(value, (_key, v: unknown) => {
    if (typeof v === 'bigint') return `${v}n`;
    if (v instanceof Map) return [...v];
    if (v instanceof Set) return [...v];
    if (typeof v === 'function') return undefined;
    return v;
  });
}

/** What a state says, without the functions in it. */
export function stateText(state: ControllerState): string {
  const { settings: _, policy, topology, ...rest } = state;
  const { switches, links, locations } = topology;
  return textOf({ ...rest, policy: policy.doc, topology: { switches, links, locations } });
}
