/**
 * The life of a migration: requested → (queued) → admitted → preparing → copying → switching → draining → done, or failed,
 * cancelled or lost (`lost.ts`). Agents' messages and command results move it on; `advance` moves it on when what it waits for holds (flows
 * confirmed, queues set). Part of `step.ts`; slices are in `reserve.ts`.
 */
import {
  type AgentMessage,
  type CopyProgress,
  dirtyRateResultSchema,
  diskOfferSchema,
  type GuestSpec,
  prepareResultSchema,
} from '../../contracts/agent.ts';
import { FairwayError, isFinal, type JobState, type Reason } from '../../contracts/common.ts';
import { copyText, namesOfOptions } from '../../contracts/copyOrder.ts';
import type { MigrateRequest } from '../../contracts/rest.ts';
import { formatRate } from '../../contracts/units.ts';
import { admit, chooseStrategy, chooseTechnique, contentionOf } from '../../policies/index.ts';
import { linkId } from '../../topology/index.ts';
import { watchConvergence } from './convergence.ts';
import { canCopy, checkOptions } from './copyOptions.ts';
import { destinationPort } from './desired.ts';
import { offerDisks, onDisksPulled, releaseAgain, releaseDisks } from './disks.ts';
import type { Event } from './events.ts';
import { modelOf } from './guestModel.ts';
import { onPaceAnswered } from './hold.ts';
import { confirmReroute, enforcementOn, isWhole, sameWay } from './jobPath.ts';
import { placeGuests } from './network.ts';
import { hostOf, newJob } from './newJob.ts';
import { chooseOverlay, isOverlayReady } from './overlays.ts';
import { parseAnnouncement } from './packets.ts';
import { mustHold, turnsOf } from './planning.ts';
import { guestTraffic, hostTraffic, workloadBps } from './rates.ts';
import { harmedLinks, payloadBps, policyOf, sliceFor, supportedBy, switchoverPayloadBps, tell } from './reserve.ts';
import { isSettling } from './settle.ts';
import {
  attachedAt,
  attachmentOf,
  type ControllerState,
  isActive,
  type Job,
  needsSlice,
  pullsNow,
  withEntry,
} from './state.ts';
import { type ClockOffset, instantOf } from './telemetry.ts';
import { chooseDetour, isDetourReady } from './tunnels.ts';
import type { Turn } from './turn.ts';
import { WayFinder } from './wayFinder.ts';

/** A request waits this long for the first counters of its path before it is decided without them. */
const FIRST_RATES_MS = 4000;
const MEASURE_SECONDS = 1;
/** An agent that had no room is asked again after this long, for what fills it may be somebody else's. */
const BUSY_MS = 3000;

const reason = (rule: string, text: string, inputs: Reason['inputs'] = {}): Reason => ({ rule, text, inputs });

/**
 * Checks a request against what is known, before it becomes jobs.
 * @throws FairwayError with `notFound` or `conflict` and the cure in its message.
 */
export function checkRequest(state: ControllerState, request: MigrateRequest): void {
  const seen = new Set<string>();
  for (const { guest, destination } of request.moves) {
    if (seen.has(guest))
      throw new FairwayError('MIGRATION_TWICE', `guest ${guest} is named twice in one request`, ['badInput']);
    seen.add(guest);
    const host = hostOf(state, guest);
    if (!host) {
      const names = [...state.agents.values()].flatMap((a) => a.guests.map((g) => g.spec.name));
      // One that moves is reported by both.
      const known = [...new Set(names)].sort();
      throw new FairwayError(
        'GUEST_UNKNOWN',
        `no agent reports a guest named ${guest}; known guests: ${known.join(', ') || 'none'}`,
        ['notFound'],
      );
    }
    const to = state.agents.get(destination);
    if (!to || to.driver === 'none') {
      const hosts = [...state.agents.values()]
        .filter((a) => a.driver !== 'none')
        .map((a) => a.host)
        .sort();
      throw new FairwayError(
        'HOST_UNKNOWN',
        `no agent runs for host ${destination}; known hosts: ${hosts.join(', ') || 'none'}`,
        ['notFound'],
      );
    }
    for (const h of [host, destination])
      if (!state.agents.get(h)?.connected)
        throw new FairwayError('HOST_AWAY', `the agent of ${h} is not connected at the moment; ask again when it is`, [
          'conflict',
        ]);
    if (host === destination)
      throw new FairwayError('ALREADY_THERE', `guest ${guest} already runs on ${destination}`, ['conflict']);
    if (request.options) {
      const labels = specOf(state, host, guest)?.labels ?? {};
      const asked = request.technique === undefined ? {} : { technique: request.technique };
      checkOptions(state, { guest, from: host, to: destination, labels }, { ...asked, options: request.options });
    }
    const busy = [...state.jobs.values()].find((j) => j.guest === guest && !isFinal(j.state));
    if (busy)
      throw new FairwayError('ALREADY_MOVING', `guest ${guest} is already being migrated (${busy.id}, ${busy.state})`, [
        'conflict',
      ]);
  }
}

const specOf = (state: ControllerState, host: string, guest: string): GuestSpec | undefined =>
  state.agents.get(host)?.guests.find((g) => g.spec.name === guest)?.spec;

export function onMigrate(t: Turn, e: Extract<Event, { kind: 'migrate' }>): void {
  e.request.moves.forEach((move, i) => {
    const id = e.ids[i];
    const job = id === undefined ? undefined : newJob(t.state, e.request, move, { id, group: e.group, nowMs: t.nowMs });
    if (job) t.set({ jobs: withEntry(t.state.jobs, job.id, job), nextNumber: t.state.nextNumber + 1 });
  });
}

/** Ends a job that is not done: what was set up for it is derived from its state and so goes away. */
export function end(t: Turn, job: Job, state: 'failed' | 'cancelled' | 'lost', note: string): void {
  if (isFinal(job.state)) return;
  // Also when the answer to `prepare` was lost: to forget what was never there does no harm.
  const abandon = job.technique !== null && !job.resumed;
  t.setJob(job.id, {
    state,
    note,
    endedAtMs: t.nowMs,
    awaiting: null,
    isHeld: false,
    paused: false,
    recovery: null,
    flipped: job.resumed && job.flipped,
    pull: null,
  });
  t.decide('finish', job.id, [reason(`finish.${state}`, note)]);
  makeRoom(t, job);
  if (abandon) t.command(job.to, job.id, { do: 'abandon', migration: job.id });
  if (abandon) releaseDisks(t, job);
  if (abandon) releaseAgain(t, job.to, job.guest);
  t.reserveNow = true;
  placeGuests(t);
}

/**
 * Cancels a migration.
 * @throws FairwayError `notFound`, or `conflict` when it has ended or the guest already runs at the destination.
 */
export function checkCancel(state: ControllerState, id: string): void {
  const job = state.jobs.get(id);
  if (!job) throw new FairwayError('MIGRATION_UNKNOWN', `no migration ${id}`, ['notFound']);
  if (isFinal(job.state))
    throw new FairwayError('MIGRATION_ENDED', `migration ${id} has ended: ${job.state}`, ['conflict']);
  // In an interrupted post-copy the guest's memory is at both ends: there is no way back.
  if (job.flipped || job.resumed || job.state === 'draining' || job.state === 'recovering') {
    throw new FairwayError(
      'TOO_LATE',
      `guest ${job.guest} is already switching over to ${job.to}; it can be moved back afterwards`,
      ['conflict'],
    );
  }
}

export function onCancel(t: Turn, id: string): void {
  const job = t.job(id);
  if (!job || isFinal(job.state)) return;
  if (job.state === 'copying') {
    const isAway = !isThere(t, job.from);
    const note = `to be cancelled when the agent of ${job.from} is back`;
    t.setJob(id, { cancelling: true, ...(isAway ? { note } : {}) });
    t.command(job.from, id, { do: 'cancel', migration: id });
  } else end(t, job, 'cancelled', 'cancelled on request before the copy began');
}

/** Jobs that wait: their strategy is decided once rates are known, then `policies/` says which may start. */
export function admitWaiting(t: Turn): void {
  const waiting = [...t.state.jobs.values()].filter((j) => j.state === 'requested' || j.state === 'queued');
  if (waiting.length === 0) {
    turnsOf(t, []);
    return;
  }
  const ready: Job[] = [];
  const ways = new WayFinder(t.state, t.nowMs);
  const read = new Map<string, boolean>();
  const isRead = (link: string): boolean => {
    const is = read.get(link) ?? workloadBps(t.state, link, t.nowMs, FIRST_RATES_MS) !== undefined;
    read.set(link, is);
    return is;
  };
  for (const job of waiting) {
    if (isSettling(t.state)) {
      hold(
        t,
        job,
        reason('admission.settling', 'this controller has just started and is finding the network again'),
        [],
      );
      continue;
    }
    if (job.busyUntilMs !== null && t.nowMs < job.busyUntilMs) continue;
    // Ways are compared when there is something new to compare them by.
    if (t.isSampled || !isWhole(t.state, job)) {
      const chosen = ways.choose(job);
      if (typeof chosen === 'string') {
        hold(t, job, reason('admission.noPath', chosen), []);
        continue;
      }
      // Unchanged jobs stay the same objects: what is not new is not published.
      if (!sameWay(chosen.path, job)) {
        t.setJob(job.id, chosen.path);
        if (chosen.why) t.decide('admission', job.id, [chosen.why]);
      }
    }
    const now = t.job(job.id) as Job;
    if (now.links.every(isRead) || t.nowMs - job.requestedAtMs >= FIRST_RATES_MS) ready.push(now);
  }
  for (const job of ready) if (job.strategy === null) decideStrategy(t, job);
  const turns = turnsOf(
    t,
    ready.map((j) => t.job(j.id) as Job),
  );
  const turn = (id: string) => {
    const own = turns.get(id);
    return own === undefined ? {} : { turn: own };
  };
  const entry = (j: Job) => ({
    id: j.id,
    group: j.group,
    priority: j.priority,
    strategy: j.strategy ?? 'serial',
    fromHost: j.from,
    toHost: j.to,
    links: j.links,
    ...turn(j.id),
  });
  const now = ready.map((j) => t.job(j.id) as Job);
  const isRunning = (j: Job) => isActive(j) && j.state !== 'draining' && !j.isReleased;
  const running = [...t.state.jobs.values()].filter(isRunning);
  const limits = new Map([...t.state.agents.values()].map((a) => [a.host, a.limits] as const));
  const result = admit({ waiting: now.map(entry), running: running.map(entry), limits }, t.state.policy);
  for (const { id, reason: why, behind } of result.wait) hold(t, t.job(id) as Job, why, behind);
  for (const id of result.start) {
    const slice = sliceFor(t.state, t.job(id) as Job, 'initial', t.nowMs).slices.get(id);
    if (slice && slice.rateBps <= 0) {
      hold(t, t.job(id) as Job, slice.reason, []);
      continue;
    }
    const { planned } = t.job(id) as Job;
    if (planned) t.decide('planning', id, [planned.reason]);
    const isHeld = mustHold(t.state, t.job(id) as Job);
    const job = t.setJob(id, {
      state: 'admitted',
      note: null,
      behind: [],
      isHeld,
      busyUntilMs: null,
      awaiting: 'measureDirtyRate',
    });
    measure(t, job);
  }
}

/** Asks the source how fast the guest dirties its memory. */
export function measure(t: Turn, job: Job): void {
  t.command(job.from, job.id, { do: 'measureDirtyRate', guest: job.guest, seconds: MEASURE_SECONDS });
}

/** A migration has left the limits of its hosts: those that an agent had no room for are tried at once. */
function makeRoom(t: Turn, ended: Job): void {
  for (const job of [...t.state.jobs.values()]) {
    if (job.busyUntilMs === null || job.id === ended.id) continue;
    if (job.from === ended.from || job.to === ended.to) t.setJob(job.id, { busyUntilMs: t.nowMs });
  }
}

/** An agent has no room for the migration now: it waits like one that was never begun. */
function queueAgain(t: Turn, job: Job, host: string, why: string): void {
  // The destination may have prepared: nothing of it stays, and neither does its slice.
  t.command(job.to, job.id, { do: 'abandon', migration: job.id });
  releaseDisks(t, job);
  t.setJob(job.id, {
    ...{ awaiting: null, destination: null, stream: null, disksFrom: null, detour: null },
    ...{ technique: null, enforcement: null, sliceBps: 0, busyUntilMs: t.nowMs + BUSY_MS },
  });
  hold(t, t.job(job.id) as Job, reason('admission.hostBusy', `${host} has no room: ${why}`), []);
  t.reserveNow = true;
}

const areSame = (a: readonly string[], b: readonly string[]): boolean =>
  a === b || (a.length === b.length && a.every((id, i) => id === b[i]));

function hold(t: Turn, job: Job, why: Reason, behind: readonly string[]): void {
  if (job.state === 'queued' && job.note === why.text && areSame(job.behind, behind)) return;
  const isNews = job.note !== why.text;
  t.setJob(job.id, { state: 'queued', note: why.text, behind, isHeld: false });
  if (!isNews) return;
  t.decide('admission', job.id, [why]);
}

/** Steps 1 and 3: contention of the path as it is before anything of this group is sent, and the strategy it asks for. */
function decideStrategy(t: Turn, job: Job): void {
  const links = job.links.map((id) => {
    const capacityBps = t.state.topology.capacityBps(id);
    const share = t.state.shares.get(id);
    const others = [...(share?.byMigration ?? [])].filter(([m]) => job.group === null || t.job(m)?.group !== job.group);
    const usedBps =
      (workloadBps(t.state, id, t.nowMs, FIRST_RATES_MS) ?? capacityBps) + others.reduce((a, [, bps]) => a + bps, 0);
    return { id, capacityBps, usedBps: Math.min(usedBps, capacityBps) };
  });
  const contention = contentionOf(links, t.state.policy);
  const asked = job.asked.strategy;
  const strategy = chooseStrategy(
    { priority: job.priority, contention: contention.value, ...(asked ? { requested: asked } : {}) },
    t.state.policy,
  );
  t.setJob(job.id, { contention: contention.value, strategy: strategy.value });
  t.decide('strategy', job.id, [...contention.reasons, ...strategy.reasons]);
}

/** Steps 1, 2 and the first half of 4: directions, technique under the slice the job would get, and the slice itself. */
function decideTechnique(t: Turn, id: string): void {
  const job = t.setJob(id, { phase: 'initial' });
  const source = hostTraffic(t.state, job.from);
  const destination = hostTraffic(t.state, job.to);
  const guest = guestTraffic(t.state, job.guest);
  t.decide('direction', id, [
    {
      ...(source.reasons[0] ?? reason('direction.unknown', 'no counters')),
      text: `source host ${job.from}: ${source.reasons[0]?.text ?? source.direction}`,
    },
    {
      ...(destination.reasons[0] ?? reason('direction.unknown', 'no counters')),
      text: `destination host ${job.to}: ${destination.reasons[0]?.text ?? destination.direction}`,
    },
    {
      ...(guest.reasons[0] ?? reason('direction.unknown', 'no counters')),
      text: `guest ${job.guest}: ${guest.reasons[0]?.text ?? guest.direction}`,
    },
  ]);
  if (job.dpids.length === 0) {
    // Its path was lost while the dirty rate was measured: it waits for one like any other.
    hold(t, job, reason('admission.noPath', 'the path was lost before the copy began, and there is no other'), []);
    return;
  }
  const slice = sliceFor(t.state, job, 'initial', t.nowMs).slices.get(id);
  const sliceBps = payloadBps(slice?.rateBps ?? 0);
  const autoConverge = job.asked.options?.autoConverge === true;
  let chosen: ReturnType<typeof chooseTechnique>;
  try {
    chosen = chooseTechnique(
      {
        priority: job.priority,
        source: source.direction,
        destination: destination.direction,
        guest: guest.direction,
        model: modelOf(t.state, job),
        sliceBps,
        supported: supportedBy(t.state, job),
        links: harmedLinks(t.state, job, slice?.rateBps ?? 0, t.nowMs),
        autoConverge,
        ...(job.asked.technique ? { requested: job.asked.technique } : {}),
      },
      policyOf(t.state, job),
    );
  } catch (error) {
    if (!(error instanceof FairwayError)) throw error;
    end(t, job, 'failed', error.message);
    return;
  }
  t.decide('technique', id, chosen.reasons);
  const { options } = job.asked;
  if (options) {
    const text = `${copyText(chosen.value, options)}: the options were asked for, and policy and both hosts allow them`;
    t.decide('technique', id, [reason('technique.options', text, { options: namesOfOptions(options).join(', ') })]);
  }
  const { allowed } = policyOf(t.state, job).doc.technique;
  const postcopy =
    supportedBy(t.state, job).includes('post-copy') && (allowed.includes('hybrid') || allowed.includes('post-copy'));
  const mayTurnPostcopy =
    chosen.value === 'pre-copy' && job.asked.technique === null && postcopy && canCopy(t.state, job, 'pre-copy', true);
  t.setJob(id, {
    mayTurnPostcopy,
    technique: chosen.value,
    enforcement: enforcementOn(t.state, job),
    state: 'preparing',
  });
  t.reserveNow = true;
  const cutOff = chooseOverlay(t, t.job(id) as Job);
  if (cutOff !== undefined) {
    end(t, t.job(id) as Job, 'failed', cutOff);
    return;
  }
  chooseDetour(t, t.job(id) as Job);
  if (options?.storage === 'on-demand') {
    offerDisks(t, t.job(id) as Job);
  } else prepare(t, t.setJob(id, { awaiting: 'prepare' }), sliceBps);
}

/** Has the destination prepare; asked twice, it answers the same. `postcopyBandwidthBps` is of payload. */
export function prepare(t: Turn, job: Job, postcopyBandwidthBps = payloadBps(job.sliceBps)): void {
  // A pull has its own slice and begins when it is told to, after the copy (`pull.ts`).
  const { pullBps: _, ...options } = job.asked.options ?? {};
  t.command(job.to, job.id, {
    do: 'prepare',
    migration: job.id,
    guest: job.spec,
    technique: job.technique ?? 'pre-copy',
    postcopyBandwidthBps,
    mayTurnPostcopy: job.mayTurnPostcopy,
    ...(job.asked.options ? { options } : {}),
    ...(job.disksFrom ? { disksFrom: job.disksFrom } : {}),
  });
}

const isThere = (t: Turn, host: string): boolean => t.state.agents.get(host)?.connected === true;

export function onCommandDone(t: Turn, e: Extract<Event, { kind: 'commandDone' }>): void {
  onPaceAnswered(t, e);
  const job = t.job(e.migration);
  if (!job || isFinal(job.state)) {
    if (!e.ok) t.log('warn', 'command.failed', { migration: e.migration, step: e.step, error: e.error });
    return;
  }
  if (!e.ok) {
    t.log('warn', 'command.failed', { migration: job.id, step: e.step, error: e.error, unknown: e.unknown ?? false });
    // The agent was lost before it answered, or is away: what it did, it will say when it is back (see `returns.ts`).
    if (e.unknown && (e.step !== 'measureDirtyRate' || !isThere(t, job.from))) return;
    if (e.step === 'measureDirtyRate' && job.awaiting === e.step) {
      t.decide('technique', job.id, [
        reason('technique.dirtyRateUnknown', `the dirty rate could not be measured: ${e.error ?? 'no answer'}`),
      ]);
      t.setJob(job.id, { awaiting: null });
      decideTechnique(t, job.id);
    } else if (e.code === 'host-busy' && (e.step === 'prepare' || e.step === 'start') && job.awaiting === e.step) {
      queueAgain(t, job, e.step === 'prepare' ? job.to : job.from, e.error ?? 'no reason given');
    } else if (e.step === 'offerDisks')
      end(t, job, 'failed', `${job.from} could not offer its disks: ${e.error ?? 'no reason given'}`);
    else if (e.step === 'prepare')
      end(t, job, 'failed', `${job.to} could not prepare: ${e.error ?? 'no reason given'}`);
    else if (e.step === 'start') {
      // An order of before, whose answer was lost, may have begun it.
      if ((t.state.paces.get(job.id)?.knownBps ?? 0) > 0)
        t.command(job.from, job.id, { do: 'cancel', migration: job.id });
      end(t, job, 'failed', `${job.from} could not start the copy: ${e.error ?? 'no reason given'}`);
    } else if (e.step === 'continueSwitchover' && !job.resumed) {
      t.setJob(job.id, {
        awaiting: null,
        note: `switch-over was not confirmed by ${job.from}: ${e.error ?? 'no reason given'}`,
      });
    } else if (e.step === 'cancel' && e.code === 'migration-unknown' && job.progress === null)
      end(t, job, 'cancelled', 'cancelled on request before the copy began');
    else if (e.step === 'cancel')
      t.setJob(job.id, { cancelling: false, note: `cancel was refused: ${e.error ?? 'no reason given'}` });
    return;
  }
  if (e.step === 'measureDirtyRate' && job.awaiting === e.step) {
    const value = dirtyRateResultSchema.safeParse(e.value);
    const { dirtyBytesPerS = null, workingSetBytes = null, nonZeroBytes = null } = value.data ?? {};
    t.setJob(job.id, { awaiting: null, dirtyBytesPerS, workingSetBytes, nonZeroBytes });
    decideTechnique(t, job.id);
  } else if (e.step === 'offerDisks' && job.awaiting === 'offerDisks') {
    const value = diskOfferSchema.safeParse(e.value);
    if (!value.success) {
      end(t, job, 'failed', `${job.from} offered its disks, but did not say where`);
      return;
    }
    prepare(t, t.setJob(job.id, { disksFrom: value.data, awaiting: 'prepare' }));
  } else if (e.step === 'prepare' && job.awaiting === 'prepare') {
    const value = prepareResultSchema.safeParse(e.value);
    if (!value.success) {
      end(t, job, 'failed', `${job.to} prepared, but did not say where it listens`);
      return;
    }
    const [source, there] = [t.state.agents.get(job.from), t.state.agents.get(job.to)];
    const { address, port } = value.data;
    t.setJob(job.id, {
      awaiting: null,
      destination: value.data,
      attached: { from: attachmentOf(source), to: attachmentOf(there) },
      stream: source?.migrationIp
        ? { sourceIp: source.migrationIp, destinationIp: address, sourcePort: 0, destinationPort: port }
        : null,
    });
  } else if (e.step === 'start' && job.awaiting === 'start') t.setJob(job.id, { awaiting: null });
  else if (e.step === 'continueSwitchover' && job.awaiting === e.step) t.setJob(job.id, { awaiting: null });
}

/** What a job waits for besides agents: told by `step.ts`, which knows what is installed. */
export interface Settled {
  flows(dpids: Iterable<string>): boolean;
  queues(links: readonly string[]): boolean;
  /** A switch that lately refused what it should hold. */
  refusedBy(dpids: Iterable<string>): string | undefined;
}

/** Moves jobs on whose conditions hold. Answers whether anything changed. */
export function advance(t: Turn, settled: Settled): boolean {
  const before = t.state.jobs;
  for (const { id } of [...t.state.jobs.values()]) {
    const job = t.job(id) as Job;
    confirmReroute(t, job, settled);
    if (job.state === 'preparing' && job.destination && job.awaiting === null && job.dpids.length > 0 && !job.isHeld) {
      if (!isThere(t, job.from)) continue;
      const refuser = settled.refusedBy(job.dpids);
      const home = isOverlayReady(t, job);
      if (refuser !== undefined)
        end(t, job, 'failed', `switch ${refuser} refused flows of this migration: ${refusedWhy(t, refuser)}`);
      else if (typeof home === 'string') end(t, job, 'failed', home);
      else if (home && isDetourReady(t, t.job(id) as Job) && settled.flows(job.dpids) && settled.queues(job.links))
        start(t, t.job(id) as Job);
    } else if (job.paused) {
      // Who cannot be told to go on will be told when it is back, or goes on by itself.
      if (!isThere(t, job.from)) continue;
      // Make before break: the guest may only go on when every switch has confirmed its new place.
      const all = [...t.state.switches.keys()];
      const refuser = settled.refusedBy(all);
      // A stopped guest cannot wait for a switch that will not: it goes on, and the record says what is missing.
      if (refuser === undefined && !settled.flows(all)) continue;
      const why =
        refuser === undefined
          ? reason(
              'reroute.confirmed',
              `every switch confirmed the way to ${job.guest} on ${job.to}; it may resume there`,
            )
          : reason(
              'reroute.unconfirmed',
              `switch ${refuser} refused the way to ${job.guest} on ${job.to}, which resumes there all the same: ` +
                refusedWhy(t, refuser),
            );
      t.setJob(id, { paused: false, awaiting: 'continueSwitchover' });
      t.command(job.from, id, { do: 'continueSwitchover', migration: id });
      t.decide('reroute', id, [why]);
    } else if (job.state === 'draining') drain(t, job);
  }
  return t.state.jobs !== before;
}

const refusedWhy = (t: Turn, dpid: string): string => t.state.switches.get(dpid)?.refusedWhy ?? 'it is gone';

function start(t: Turn, job: Job): void {
  const { technique, destination } = job;
  if (!technique || !destination) return;
  const { doc } = policyOf(t.state, job);
  const held = job.links.every((l) => t.state.qos.get(l)?.enforcement === 'queue');
  const enforcement = job.enforcement === 'queue' && !held ? 'pace' : job.enforcement;
  const notes = job.links.map((l) => t.state.qos.get(l)?.note).filter((n) => n);
  const where = `${formatRate(job.sliceBps)} held by ${enforcement}`;
  t.decide('reservation', job.id, [
    reason('reservation.enforced', enforcement === job.enforcement ? where : `${where}, because ${notes.join('; ')}`, {
      sliceBps: job.sliceBps,
    }),
  ]);
  t.setJob(job.id, {
    state: 'copying',
    awaiting: 'start',
    enforcement,
    startedAtMs: t.nowMs,
  });
  const bandwidthBps = tell(t, job);
  t.command(job.from, job.id, {
    do: 'start',
    migration: job.id,
    guest: job.guest,
    technique,
    address: destination.address,
    port: destination.port,
    ...(destination.peer === undefined ? {} : { peer: destination.peer }),
    ...(destination.tls === undefined ? {} : { tls: destination.tls }),
    ...(destination.diskPort === undefined ? {} : { diskPort: destination.diskPort }),
    ...(destination.diskPaths === undefined ? {} : { diskPaths: destination.diskPaths }),
    bandwidthBps,
    switchoverBps: switchoverPayloadBps(t, job),
    downtimeLimitMs: doc.technique.downtimeLimitMs,
    hybridPasses: doc.technique.hybridPasses,
    mayTurnPostcopy: job.mayTurnPostcopy,
    ...(job.asked.options ? { options: job.asked.options } : {}),
    pauseBeforeSwitchover: true,
  });
}

function noteProgress(t: Turn, job: Job, progress: CopyProgress): Job {
  const total = progress.transferredBytes + progress.remainingBytes;
  const share = total > 0 ? progress.transferredBytes / total : 0;
  return t.setJob(job.id, { progress, progressShare: Math.max(job.progressShare, share) });
}

/** Stragglers: the tunnel stays until none came for a while, then everything of the job is taken down. */
function drain(t: Turn, job: Job): void {
  const { silenceMs, maxDrainMs } = t.state.policy.doc.finish;
  const since = job.endedAtMs ?? t.nowMs;
  const { lastMs, readMs = since } = job.stragglers;
  // Silence is what counters have shown; of a switch that is away nothing is known, nor can anything be changed.
  const oldEdge = attachedAt(t.state, job, 'from')?.dpid ?? '';
  const knownMs = t.state.switches.get(oldEdge)?.connected ? readMs : t.nowMs;
  const silentMs = knownMs - Math.max(since, lastMs);
  if (silentMs < silenceMs && t.nowMs - since < maxDrainMs) return;
  t.setJob(job.id, { state: 'done', note: null });
  const text = `${job.stragglers.packets} packets came to the old place and went through the tunnel; none for ${Math.round(silentMs)} ms; tunnel and marks taken down`;
  t.decide('finish', job.id, [reason('finish.drained', text, { stragglers: job.stragglers.packets, silentMs })]);
  if (job.disksPulled === true) releaseDisks(t, job);
  placeGuests(t);
}

/**
 * The guest of a migration announces itself at its new port, and its agent has not said yet that it runs there: the
 * announcement is as good. One that comes from any other port proves nothing, since everybody can send it.
 */
export function onAnnouncement(t: Turn, e: Extract<Event, { kind: 'packetIn' }>): void {
  const open = [...t.state.jobs.values()].filter(
    (j) => !j.flipped && (j.state === 'copying' || j.state === 'switching'),
  );
  if (open.length === 0) return;
  const mac = parseAnnouncement(e.frame);
  const job = open.find((j) => j.spec.mac.toLowerCase() === mac);
  const there = job && destinationPort(t.state, job);
  if (!there || there.dpid !== e.dpid || there.portNo !== e.inPort) return;
  flip(t, job, `${job.guest} announced itself at its port on ${job.to}`);
}

/** Directs the guest's traffic to its new place. */
function flip(t: Turn, job: Job, why: string): void {
  if (job.flipped) return;
  t.setJob(job.id, { flipped: true });
  const there = destinationPort(t.state, job);
  t.decide('reroute', job.id, [
    reason('reroute.flipped', `${why}: traffic of ${job.guest} goes to ${job.to}${there ? ` (${linkId(there)})` : ''}`),
  ]);
  placeGuests(t);
}

export function copyDone(t: Turn, job: Job, progress: CopyProgress | undefined): void {
  flip(t, job, 'the copy is complete');
  const totalMs = progress && progress.elapsedMs > 0 ? progress.elapsedMs : t.nowMs - (job.startedAtMs ?? t.nowMs);
  t.setJob(job.id, {
    copyEnded: true,
    resumed: true,
    paused: false,
    state: 'draining',
    endedAtMs: t.nowMs,
    totalMs,
    awaiting: null,
    recovery: null,
  });
  makeRoom(t, job);
  t.command(job.from, job.id, { do: 'finish', migration: job.id });
  t.command(job.to, job.id, { do: 'finish', migration: job.id });
  t.reserveNow = true;
}

export function onAgentMessage(t: Turn, host: string, m: AgentMessage, clock?: ClockOffset): void {
  if (m.type !== 'progress' && m.type !== 'event') return;
  onDisksPulled(t, host, m);
  const job = t.job(m.migration);
  // An agent may speak only for its own host's part in a migration.
  if (!job || isFinal(job.state) || (host !== job.from && host !== job.to)) return;
  if (m.type === 'progress') {
    if (host === job.from) watchConvergence(t, noteProgress(t, job, m.progress));
    return;
  }
  if (m.progress && host === job.from) noteProgress(t, job, m.progress);
  const stoppedAt = host === job.from ? instantOf(m.stoppedAtMs, clock) : null;
  const resumedAt = host === job.to ? instantOf(m.resumedAtMs, clock) : null;
  if (stoppedAt !== null) t.setJob(job.id, { stoppedAt });
  if (resumedAt !== null) t.setJob(job.id, { resumedAt });
  switch (m.event) {
    case 'stream':
      if (m.stream && job.stream) t.setJob(job.id, { stream: { ...job.stream, sourcePort: m.stream.sourcePort } });
      break;
    case 'preSwitchover': {
      // Told again by an agent that came back: the guest has gone since.
      if (host !== job.from || job.resumed || job.state === 'recovering' || job.state === 'draining') break;
      t.setJob(job.id, { state: 'switching', phase: 'switchover', paused: true, awaiting: null });
      t.reserveNow = true;
      flip(t, t.job(job.id) as Job, `${job.guest} is stopped at ${job.from}`);
      break;
    }
    case 'postcopyStarted':
      break;
    case 'resumed':
      if (host !== job.to || job.resumed) break;
      flip(t, job, `${job.guest} resumed at ${job.to}`);
      // In post-copy the copy goes on after the guest has resumed, in an ordinary slice again.
      t.setJob(job.id, {
        resumed: true,
        paused: false,
        phase: 'running',
        ...(job.state === 'switching' && !job.copyEnded ? { state: 'copying' as const } : {}),
      });
      t.reserveNow = true;
      break;
    case 'completed':
      if (host === job.from && job.state !== 'draining') copyDone(t, t.job(job.id) as Job, m.progress);
      break;
    case 'failed':
      end(t, t.job(job.id) as Job, 'failed', `${host}: ${m.reason ?? 'the copy failed'}`);
      break;
    case 'cancelled':
      if (host === job.from) end(t, t.job(job.id) as Job, 'cancelled', 'cancelled; the guest goes on at its source');
      break;
  }
}

/** States of a job whose copy has begun. */
export const COPIES: readonly JobState[] = ['copying', 'switching', 'recovering'];

/** After a job's first full period of copying, medium slices follow what the workload sends. */
export function settleIntoRunning(t: Turn): void {
  const periodMs = t.state.policy.doc.reservation.periodMs;
  for (const job of t.state.jobs.values()) {
    if (job.state !== 'copying' || job.phase !== 'initial' || job.startedAtMs === null) continue;
    if (t.nowMs - job.startedAtMs >= periodMs) t.setJob(job.id, { phase: 'running' });
  }
}

export const activeSlices = (state: ControllerState): boolean =>
  [...state.jobs.values()].some((j) => needsSlice(j) || pullsNow(j));
