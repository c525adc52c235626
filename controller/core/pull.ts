/**
 * The background pull of disks that were left at the source (storage `on-demand`), as the controller sees it: asked for with
 * the migration or by somebody later, in a slice of low priority of its own from the end of the copy until all is there. The
 * destination is told its rate when switches and queues are confirmed, and again whenever the slice changes; how far it is, is
 * asked every other second. What it may be taking stays reserved until it has answered that it takes less, as with copies (`hold.ts`). Part of `step.ts`, beside `disks.ts`; `reserve.ts` divides links among migrations and pulls.
 */
import { diskFetchSchema } from '../../contracts/agent.ts';
import { FairwayError, isFinal, type Reason } from '../../contracts/common.ts';
import { formatBytes, formatRate } from '../../contracts/units.ts';
import type { Event } from './events.ts';
import type { Settled } from './jobs.ts';
import { payloadBps, takenBps } from './reserve.ts';
import { type ControllerState, type Job, type Pull, pullsNow } from './state.ts';
import type { Turn } from './turn.ts';

/** How often the destination is asked how far it is. */
const MEASURE_MS = 2000;
/** A destination that is away for so long holds no slice for its pull any more. */
const PATIENCE_MS = 60_000;

const reason = (rule: string, text: string, inputs: Reason['inputs'] = {}): Reason => ({ rule, text, inputs });

/** A pull that has just been asked for. `rateBps`: the most it may take, of payload. */
export const newPull = (rateBps: number, nowMs: number): Pull => ({
  state: 'waiting',
  rateBps,
  sliceBps: 0,
  pacedBps: null,
  isOrdered: false,
  doneBytes: 0,
  totalBytes: 0,
  fetchedBytes: 0,
  measuredMs: 0,
  askedAtMs: nowMs,
  endedAtMs: null,
  note: null,
  reason: null,
});

function set(t: Turn, job: Job, change: Partial<Pull>): void {
  if (job.pull) t.setJob(job.id, { pull: { ...job.pull, ...change } });
}

/** The destination has answered, or nobody will wait for that any more: it takes no more than this, bit/s of whole frames. */
function takes(t: Turn, id: string, bps: number): void {
  const job = t.job(id);
  if (!job?.pull || job.pull.takenBps === bps) return;
  set(t, job, { takenBps: bps });
  if (!t.state.shrinking.has(id)) return;
  const shrinking = new Set(t.state.shrinking);
  shrinking.delete(id);
  t.set({ shrinking });
  t.reserveNow = true;
}

/** Why there is nothing to pull, or with `rateBps` null nothing to stop; undefined when there is. */
function whyNoPull(state: ControllerState, id: string, rateBps: number | null): FairwayError | undefined {
  const refusal = (code: string, text: string) => new FairwayError(code, text, ['conflict']);
  const job = state.jobs.get(id);
  if (!job) return new FairwayError('MIGRATION_UNKNOWN', `no migration ${id}`, ['notFound']);
  if (job.asked.options?.storage !== 'on-demand')
    return refusal('NOTHING_TO_PULL', `migration ${id} leaves no disks behind: only storage on-demand does`);
  if (isFinal(job.state) && job.state !== 'done')
    return refusal(
      'NOTHING_TO_PULL',
      `migration ${id} ended as ${job.state}: the disks of ${job.guest} are where they were`,
    );
  if (job.disksPulled === true)
    return refusal('ALREADY_PULLED', `all of the disks of ${job.guest} is at ${job.to} already`);
  if (rateBps === null && (!job.pull || job.pull.state === 'stopped'))
    return refusal('NO_PULL', `nothing pulls the disks of ${job.guest}`);
  return undefined;
}

/**
 * Checks an order for a pull, or with `rateBps` null to stop one.
 * @throws FairwayError `notFound`, or `conflict` when there is nothing to pull or to stop.
 */
export function checkPull(state: ControllerState, id: string, rateBps: number | null): void {
  const refusal = whyNoPull(state, id, rateBps);
  if (refusal) throw refusal;
}

/** Somebody asks for a pull, for another rate of it, or (`rateBps` null) for its end. */
export function onPull(t: Turn, e: Extract<Event, { kind: 'pull' }>): void {
  const job = t.job(e.id);
  // It may have ended since it was checked.
  if (!job || whyNoPull(t.state, e.id, e.rateBps)) return;
  t.reserveNow = true;
  if (e.rateBps === null) {
    if (!job.pull) return;
    // Where the destination was never told to begin there is nothing to stop.
    const { pacedBps, isOrdered, state, takenBps: taken = 0 } = job.pull;
    const isToBeTold = pacedBps !== null || isOrdered || taken > 0 || state !== 'waiting';
    // What it takes until it has answered stays reserved.
    const sliceBps = taken > 0 ? job.pull.sliceBps : 0;
    set(t, job, { state: isToBeTold ? 'stopping' : 'stopped', sliceBps, note: 'stopped on request' });
    const text = `the pull of ${job.guest}'s disks is stopped; what is still at ${job.from} is read there when it is wanted`;
    t.decide('pull', job.id, [reason('pull.stopped', text)]);
    return;
  }
  const { pull } = job;
  // One that runs goes on; any other begins anew, when what it was told last is done.
  const isRunning = pull?.state === 'running' || pull?.state === 'waiting';
  const { isOrdered = false, takenBps: taken = 0, toldBps = 0 } = pull ?? {};
  const again: Pull = { ...newPull(e.rateBps, t.nowMs), isOrdered, takenBps: taken, toldBps };
  // A slice of before the order is no reason to keep from what is asked for now.
  t.setJob(job.id, { pull: isRunning ? { ...pull, rateBps: e.rateBps, sliceBps: 0, note: null } : again });
  const text = `the disks of ${job.guest} are to be pulled to ${job.to} at ${formatRate(e.rateBps)} at the most`;
  t.decide('pull', job.id, [reason('pull.asked', text, { rateBps: e.rateBps })]);
}

/** The destination has all of the disks. */
export function pullEnded(t: Turn, job: Job): void {
  t.reserveNow = true;
  if (!job.pull) return;
  const { totalBytes, fetchedBytes } = job.pull;
  const change = { state: 'done' as const, sliceBps: 0, doneBytes: totalBytes, endedAtMs: t.nowMs, note: null };
  set(t, job, { ...change, isOrdered: false, reason: null });
  takes(t, job.id, 0);
  const text = `all of ${job.guest}'s disks is at ${job.to}, ${formatBytes(fetchedBytes)} of it fetched when last asked`;
  t.decide('pull', job.id, [reason('pull.done', text, { fetchedBytes })]);
}

const isThere = (t: Turn, host: string): boolean => t.state.agents.get(host)?.connected === true;

/** Tells destinations what they do not know yet: to begin, at which rate, to stop. Answers whether anything changed. */
export function advancePulls(t: Turn, settled: Settled): boolean {
  const before = t.state.jobs;
  for (const { id, pull } of t.state.jobs.values()) {
    if (!pull || pull.isOrdered) continue;
    const job = t.job(id) as Job;
    if (!isThere(t, job.to)) continue;
    if (pull.state === 'stopping') {
      set(t, job, { isOrdered: true });
      t.command(job.to, id, { do: 'stopPull', guest: job.guest });
    } else if (pullsNow(job)) advanceOne(t, job, pull, settled);
  }
  return t.state.jobs !== before;
}

function advanceOne(t: Turn, job: Job, pull: Pull, settled: Settled): void {
  // Without a way it goes on at the least pace, like a copy.
  const sliceBps = job.dpids.length > 0 ? pull.sliceBps : 0;
  const bps = Math.min(pull.rateBps, payloadBps(sliceBps));
  if (pull.pacedBps === bps) return;
  if (pull.pacedBps === null && pull.state === 'waiting') {
    if (pull.sliceBps <= 0) return;
    // A switch that refuses its flows costs the pull its queue, and not the guest its disks.
    const isRefused = settled.refusedBy(job.dpids) !== undefined;
    if (!isRefused && !(settled.flows(job.dpids) && settled.queues(job.links))) return;
  }
  const toldBps = takenBps(sliceBps);
  set(t, job, { isOrdered: true, pacedBps: bps, toldBps, takenBps: Math.max(pull.takenBps ?? 0, toldBps) });
  t.command(job.to, job.id, { do: 'pullDisks', guest: job.guest, pullBps: bps });
}

/** Asks how far pulls are, and gives up the slices of those whose destination does not come back. */
export function watchPulls(t: Turn): void {
  for (const job of [...t.state.jobs.values()]) {
    const { pull } = job;
    if (!pull || !pullsNow(job)) continue;
    const agent = t.state.agents.get(job.to);
    if (agent?.connected) {
      if (pull.state !== 'running' || t.nowMs - pull.measuredMs < MEASURE_MS) continue;
      set(t, job, { measuredMs: t.nowMs });
      t.command(job.to, job.id, { do: 'measureFetch', guest: job.guest });
    } else if (t.nowMs - (agent?.awaySinceMs ?? t.state.startedAtMs) >= PATIENCE_MS) {
      t.reserveNow = true;
      if (pull.state === 'stopping') {
        set(t, job, { sliceBps: 0, takenBps: 0 });
        continue;
      }
      const note = `the agent of ${job.to} is away: nothing is reserved for the pull until it is back`;
      set(t, job, { state: 'away', sliceBps: 0, pacedBps: null, isOrdered: false, note });
      t.decide('pull', job.id, [reason('pull.away', note)]);
    }
  }
}

/** A destination came (back), and may not know what it was told last: it is told again, and answers the same. */
export function pullAgain(t: Turn, host: string): void {
  for (const job of [...t.state.jobs.values()]) {
    if (job.to !== host || !job.pull) continue;
    const { state } = job.pull;
    if (state !== 'away' && state !== 'running' && state !== 'waiting' && state !== 'stopping') continue;
    set(t, job, { pacedBps: null, isOrdered: false, ...(state === 'away' ? { state: 'waiting', note: null } : {}) });
    t.reserveNow = true;
  }
}

/** Answers of destinations to what they were told of pulls. */
export function onPullDone(t: Turn, e: Extract<Event, { kind: 'commandDone' }>): void {
  const job = t.job(e.migration);
  if (!job?.pull || !['pullDisks', 'stopPull', 'measureFetch'].includes(e.step)) return;
  if (e.step === 'measureFetch') {
    measured(t, job, e);
    return;
  }
  set(t, job, { isOrdered: false });
  const { pull } = t.job(e.migration) as Job;
  if (!pull) return;
  const isStop = e.step === 'stopPull';
  if (e.ok) {
    // What was ordered before the last word of a person does not overrule it.
    const ended = { state: 'stopped' as const, sliceBps: 0, pacedBps: null, endedAtMs: t.nowMs };
    takes(t, job.id, isStop ? 0 : (pull.toldBps ?? 0));
    const now = t.job(job.id) as Job;
    if (isStop && pull.state === 'stopping') {
      set(t, now, ended);
      t.reserveNow = true;
    } else if (!isStop && pull.state === 'waiting') set(t, now, { state: 'running', measuredMs: 0 });
    return;
  }
  // It is told again when it is back.
  if (e.unknown === true) set(t, t.job(job.id) as Job, { pacedBps: null });
  else if (pull.state !== 'done') failed(t, job, e.error);
}

function failed(t: Turn, job: Job, why = 'no reason given'): void {
  const note = `${job.to}: ${why}`;
  set(t, job, { isOrdered: false, state: 'failed', sliceBps: 0, pacedBps: null, endedAtMs: t.nowMs, note });
  takes(t, job.id, 0);
  t.decide('pull', job.id, [reason('pull.failed', note)]);
  t.reserveNow = true;
}

function measured(t: Turn, job: Job, e: Extract<Event, { kind: 'commandDone' }>): void {
  if (job.pull?.state !== 'running') return;
  // The guest was ended there, or taken away by hand: nobody reads its disks.
  if (!e.ok && e.code === 'guest-unknown') failed(t, job, e.error);
  const value = diskFetchSchema.safeParse(e.value);
  if (!e.ok || !value.success) return;
  const { fetchedBytes, pull } = value.data;
  const { doneBytes, totalBytes } = pull ?? job.pull;
  set(t, job, { fetchedBytes, doneBytes, totalBytes, note: pull?.reason ?? null });
}
