/**
 * What sources may be sending, whatever they were told last: a pace counts when its source has answered, and a source whose
 * agent is away goes on at the last one. Slices are given by this, so that nobody is promised what another still takes.
 * `reserve.ts` asks here how much that is; `step.ts` has holds watched when agents come and go and when switches were read.
 * Part of `step.ts`; pure.
 *
 * A hold ends when the agent is back, when the copy cannot run any more (its guest runs at the destination, and no pages are
 * left behind), `reservation.holdSilenceMs` after the last byte of the stream was counted, or, where nothing of it can be
 * counted, after `reservation.holdMs`. The job itself stays open: what became of the copy, its agent will say. A stream
 * that is counted again is held again.
 */
import type { JobState, Reason } from '../../contracts/common.ts';
import { formatMs, formatRate } from '../../contracts/units.ts';
import type { Event } from './events.ts';
import { type ControllerState, isSentWhole, type Job, withEntry, withoutEntry } from './state.ts';
import type { Turn } from './turn.ts';

/** A pace that was told: bit/s of payload, and of the whole frames that the slice is made of. */
interface Told {
  payloadBps: number;
  sliceBps: number;
}

/** What is known of the pace of a source. */
export interface Pace {
  /** The most it may have followed when all orders but `told` had been answered, whole frames; 0 before its start. */
  knownBps: number;
  /** Orders that it has not answered, the oldest first. */
  told: readonly Told[];
}

/** What is known of a copy that runs while the agent of its source is away. */
export interface Hold {
  sinceMs: number;
  /** When the last of its stream was counted; `sinceMs` before any switch was read. */
  seenMs: number;
  /** When a switch that counts it was read last; null: none was. */
  readMs: number | null;
  /** What each switch had counted then, bytes. */
  counted: Readonly<Record<string, number>>;
}

/** States in which a source copies, or will go on as it was told last. */
const PACED: readonly JobState[] = ['copying', 'switching', 'recovering'];

/** Whether the source of a job may be sending, or will be when its stream is mended. */
export const isPaced = (job: Job): boolean => PACED.includes(job.state) && !job.copyEnded;

const isAway = (state: ControllerState, job: Job): boolean => state.agents.get(job.from)?.connected !== true;

/** The most that a source may be sending, bit/s of whole frames. */
const mostOf = (pace: Pace): number => Math.max(pace.knownBps, ...pace.told.map((o) => o.sliceBps));

/** Notes that the source of a job is told a pace with an order that goes out now. */
export function noteTold(t: Turn, id: string, told: Told): void {
  const pace = t.state.paces.get(id) ?? { knownBps: 0, told: [] };
  t.set({ paces: withEntry(t.state.paces, id, { ...pace, told: [...pace.told, told] }) });
  const mostPacedBps = Math.max(t.job(id)?.mostPacedBps ?? 0, told.sliceBps);
  t.setJob(id, { pacedBps: told.payloadBps, mostPacedBps });
}

const ORDERS: readonly Extract<Event, { kind: 'commandDone' }>['step'][] = ['start', 'setBandwidth', 'recoverOutgoing'];

/** An answer to an order that has a pace in it. */
export function onPaceAnswered(t: Turn, e: Extract<Event, { kind: 'commandDone' }>): void {
  const before = ORDERS.includes(e.step) ? t.state.paces.get(e.migration) : undefined;
  const job = t.job(e.migration);
  if (!before || !job) return;
  const { told, knownBps } = before;
  // Who does not say which order it was answers the oldest. An order that is not open was answered before.
  const at = e.bandwidthBps === undefined ? 0 : told.findIndex((o) => o.payloadBps === e.bandwidthBps);
  const order = told[at];
  if (order === undefined) return;
  const left = told.filter((_, i) => i !== at);
  // An order that was refused changed nothing; one that was lost may have.
  const knownNow = e.ok ? order.sliceBps : e.unknown ? Math.max(knownBps, order.sliceBps) : knownBps;
  const pace = { knownBps: knownNow, told: left };
  t.set({ paces: withEntry(t.state.paces, job.id, pace) });
  // What was not followed is told again.
  if (!e.ok && left.length === 0) t.setJob(job.id, { pacedBps: null });
  if (!t.state.shrinking.has(job.id) || mostOf(pace) > order.sliceBps) return;
  const shrinking = new Set(t.state.shrinking);
  shrinking.delete(job.id);
  t.set({ shrinking });
  // Who waited for all of them may have more now.
  if (shrinking.size === 0) t.reserveNow = true;
}

/** What a claim takes whatever is decided, bit/s; undefined while its source can be told. */
export function heldBps(state: ControllerState, job: Job): number | undefined {
  const pace = isPaced(job) && isAway(state, job) ? state.paces.get(job.id) : undefined;
  return pace && mostOf(pace);
}

/**
 * What a source that is told less may be sending until it has answered, bit/s; undefined where that is no more than its slice,
 * and where it is held.
 */
export function stillTakenBps(state: ControllerState, job: Job, sliceBps: number): number | undefined {
  const pace = isPaced(job) && !isAway(state, job) ? state.paces.get(job.id) : undefined;
  const mostBps = pace ? mostOf(pace) : 0;
  return mostBps > sliceBps ? mostBps : undefined;
}

/** Paces as a controller that was started anew knows them: the most that each source was ever told. */
export const restoredPaces = (jobs: Iterable<Job>): ReadonlyMap<string, Pace> =>
  new Map([...jobs].filter(isPaced).map((j) => [j.id, { knownBps: j.mostPacedBps ?? j.sliceBps, told: [] }] as const));

const reason = (rule: string, text: string, inputs: Reason['inputs'], link?: string): Reason => ({
  rule: `reservation.${rule}`,
  text,
  inputs,
  ...(link === undefined ? {} : { bindingLink: link }),
});

/** Begins, judges and ends holds. */
export function watchHolds(t: Turn): void {
  for (const { id } of [...t.state.jobs.values()]) {
    const job = t.job(id) as Job;
    const hold = t.state.holds.get(id);
    const isHere = !isAway(t.state, job);
    if (!isPaced(job)) {
      forget(t, id);
      if (isHere && !job.copyEnded) takeBack(t, job);
    } else if (isHere && hold) end(t, job, hold);
    else if (isHere) takeBack(t, job);
    else if (hold) judge(t, job, hold);
    else begin(t, job);
  }
}

function forget(t: Turn, id: string): void {
  const { holds, paces } = t.state;
  // What was held need not fit beside the floors: what is given instead has to.
  if (holds.has(id)) t.reserveNow = true;
  if (holds.has(id) || paces.has(id)) t.set({ holds: withoutEntry(holds, id), paces: withoutEntry(paces, id) });
}

/**
 * Its slice was let go in a hold that is forgotten: the source had lost the copy while its agent was away, and begins it anew. Without
 * this nothing would be reserved for it any more.
 */
function takeBack(t: Turn, job: Job): void {
  if (!job.isReleased) return;
  t.setJob(job.id, { isReleased: false });
  t.reserveNow = true;
}

function begin(t: Turn, job: Job): void {
  const sinceMs = t.state.agents.get(job.from)?.awaySinceMs ?? t.nowMs;
  t.set({ holds: withEntry(t.state.holds, job.id, { sinceMs, seenMs: sinceMs, readMs: null, counted: {} }) });
  t.reserveNow = true;
  const text = `the agent of ${job.from} is away: ${job.guest} goes on being copied at its last pace, which stays reserved`;
  t.decide('reservation', job.id, [reason('held', text, { heldBps: heldBps(t.state, job) ?? job.sliceBps })]);
}

function end(t: Turn, job: Job, hold: Hold): void {
  t.set({ holds: withoutEntry(t.state.holds, job.id) });
  if (job.isReleased) t.setJob(job.id, { isReleased: false });
  t.reserveNow = true;
  const text = `the agent of ${job.from} is back, and can be told what it may take`;
  t.decide('reservation', job.id, [reason('heldNoMore', text, { awayMs: t.nowMs - hold.sinceMs })]);
}

function judge(t: Turn, job: Job, hold: Hold): void {
  const why = whyOver(t, job, hold);
  if ((why !== undefined) === (job.isReleased === true)) return;
  t.reserveNow = true;
  if (why === undefined) {
    t.setJob(job.id, { isReleased: false });
    const text = `its stream is seen again while the agent of ${job.from} is away: its last pace is reserved again`;
    t.decide('reservation', job.id, [reason('held', text, { heldBps: heldBps(t.state, job) ?? 0 })]);
    return;
  }
  const text = `${formatRate(job.sliceBps)} free again while the agent of ${job.from} is away: ${why}`;
  const released = reason('released', text, { sliceBps: job.sliceBps, awayMs: t.nowMs - hold.sinceMs });
  t.setJob(job.id, {
    isReleased: true,
    sliceBps: 0,
    sliceSteps: [...job.sliceSteps, { atMs: t.nowMs, rateBps: 0, reason: released }],
  });
  t.decide('reservation', job.id, [released]);
}

/** Why nothing needs to be held any more; undefined while something does. */
function whyOver(t: Turn, job: Job, hold: Hold): string | undefined {
  if (job.resumed && isSentWhole(job)) return `${job.guest} runs at ${job.to}, and nothing is left behind`;
  const { holdSilenceMs, holdMs } = t.state.policy.doc.reservation;
  const silentMs = (hold.readMs ?? hold.seenMs) - hold.seenMs;
  if (silentMs >= holdSilenceMs) return `nothing of its stream was counted for ${formatMs(silentMs)}`;
  const unknownMs = t.nowMs - hold.seenMs;
  return unknownMs >= holdMs ? `nothing could be counted of its stream for ${formatMs(unknownMs)}` : undefined;
}

/** What a switch has counted of the stream of a job, bytes. */
export function onStreamCounted(t: Turn, id: string, dpid: string, bytes: number): void {
  const hold = t.state.holds.get(id);
  if (!hold) return;
  const isSeen = hold.counted[dpid] !== bytes;
  const counted = isSeen ? { ...hold.counted, [dpid]: bytes } : hold.counted;
  const next = { ...hold, counted, readMs: t.nowMs, seenMs: isSeen ? t.nowMs : hold.seenMs };
  t.set({ holds: withEntry(t.state.holds, id, next) });
}
