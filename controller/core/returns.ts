/**
 * Agents that come (back), and migrations found in the journal: what agents tell decides what became of the migrations
 * meanwhile, what was asked and not answered is asked again, and what is left at agents of migrations that have ended is
 * removed. Part of `step.ts`; the ordinary life of a migration is in `jobs.ts`.
 */
import type { AgentHello, AgentMessage } from '../../contracts/agent.ts';
import { isFinal } from '../../contracts/common.ts';
import { offerDisks, releaseAgain, releaseDisks } from './disks.ts';
import type { Event } from './events.ts';
import { COPIES, copyDone, end, measure, prepare } from './jobs.ts';
import { completedAfterAll, foundAgain, ranAfterAll, reopen } from './lost.ts';
import { onStreamEvent } from './recovery.ts';
import { isSettling } from './settle.ts';
import { isActive, isAllThere, type Job } from './state.ts';
import type { Turn } from './turn.ts';

type Known = AgentHello['migrations'][number];

/**
 * An agent came (back): what it says of its migrations decides those whose outcome was unknown. A source that no longer
 * knows a copy it was told to make did not make it.
 */
export function reconcile(t: Turn, host: string, hello: Pick<AgentHello, 'migrations' | 'guests'>): void {
  for (const job of [...t.state.jobs.values()]) {
    if (!isActive(job) || (job.from !== host && job.to !== host)) continue;
    const mine = hello.migrations.find((k) => k.migration === job.id);
    if (job.state === 'preparing' && job.to === host && job.destination && !mine) {
      end(t, job, 'failed', `agent ${host} came back and no longer waits for the guest`);
    } else if (job.state === 'draining' && mine) {
      t.command(host, job.id, { do: 'finish', migration: job.id });
    } else if (COPIES.includes(job.state) && job.from === host) {
      if (mine?.progress?.phase === 'completed') copyDone(t, job, mine.progress);
      else if (mine) {
        t.setJob(job.id, { progress: mine.progress ?? job.progress, pacedBps: null });
        // It was cancelled while nobody could be told.
        if (job.cancelling) t.command(host, job.id, { do: 'cancel', migration: job.id });
      } else if (job.awaiting === 'start' && job.cancelling)
        end(t, job, 'cancelled', 'cancelled on request before the copy began');
      // The order to start it may have been lost with the connection; it does no harm to give it twice.
      else if (job.awaiting === 'start') t.setJob(job.id, { state: 'preparing', awaiting: null });
      else end(t, job, 'failed', `agent ${host} came back and knows nothing of this migration`);
    }
  }
  askAgain(t, host);
  for (const known of hello.migrations) {
    const job = t.job(known.migration);
    if (job) foundAgain(t, host, job, known, hello);
  }
  for (const known of hello.migrations) tidy(t, host, known, hello);
  releaseAgain(t, host);
}

/** Asks a host again what was asked when it, or this controller, was away. Not before the network is known again. */
export function askAgain(t: Turn, host: string): void {
  const isThere = (h: string) => t.state.agents.get(h)?.connected === true;
  if (isSettling(t.state) || !isThere(host)) return;
  for (const job of [...t.state.jobs.values()]) {
    // What follows from the measurement depends on what both ends can do.
    if (job.state === 'admitted' && (job.from === host || job.to === host) && isThere(job.from) && isThere(job.to))
      measure(t, job);
    else if (job.state === 'preparing' && job.awaiting === 'offerDisks' && job.from === host) offerDisks(t, job);
    else if (job.state === 'preparing' && job.awaiting !== 'offerDisks' && job.to === host && !job.destination)
      prepare(t, job);
  }
}

/** An agent that a migration waits for before its copy has begun may be away for this long. */
export const PATIENCE_MS = 60_000;

/** Ends migrations that have not begun and whose agents do not come back. Copies that run are their agents' business. */
export function giveUp(t: Turn): void {
  for (const job of [...t.state.jobs.values()]) {
    if (job.state !== 'admitted' && job.state !== 'preparing') continue;
    for (const host of [job.from, job.to]) {
      const agent = t.state.agents.get(host);
      if (agent?.connected) continue;
      const awayMs = t.nowMs - (agent?.awaySinceMs ?? t.state.startedAtMs);
      if (awayMs < PATIENCE_MS) continue;
      end(t, job, 'failed', `the agent of ${host} has been away for ${Math.round(awayMs / 1000)} s`);
      break;
    }
  }
}

/** How long an agent that is connected is asked again to prepare a migration when it does not answer. */
const ANSWER_PATIENCE_MS = 120_000;

/**
 * An agent that is connected did not answer in time what a migration needs before its copy begins. To be asked twice does no
 * harm: it answers the same.
 */
export function onUnanswered(t: Turn, e: Extract<Event, { kind: 'commandDone' }>): void {
  const job = t.job(e.migration);
  if (!job || !e.unknown || job.awaiting !== e.step || t.state.agents.get(e.host)?.connected !== true) return;
  if (e.step === 'start') {
    // Where it began all the same, its source says so; where it was cancelled meanwhile, the answer to that decides.
    if (job.state === 'copying' && job.progress === null && !job.cancelling)
      t.setJob(job.id, { state: 'preparing', awaiting: null });
    return;
  }
  if (job.state !== 'preparing' || isSettling(t.state)) return;
  const sinceMs = job.transitions.findLast((x) => x.state === 'preparing')?.atMs ?? job.requestedAtMs;
  if (t.nowMs - sinceMs >= ANSWER_PATIENCE_MS)
    end(
      t,
      job,
      'failed',
      `the agent of ${e.host} is connected and does not answer ${e.step}: ${e.error ?? 'no reason'}`,
    );
  else if (e.step === 'offerDisks') offerDisks(t, job);
  else if (e.step === 'prepare') prepare(t, job);
}

/** What an agent keeps of a migration that has ended, or that is not in this controller's books, is not left there. */
function tidy(t: Turn, host: string, known: Known, hello: Pick<AgentHello, 'guests'>): void {
  const job = t.job(known.migration);
  if (job && !isFinal(job.state)) return;
  if (!job)
    t.log('warn', 'migration.unknown', { host, migration: known.migration, guest: known.guest, role: known.role });
  const order = (what: 'finish' | 'abandon' | 'cancel') =>
    t.command(host, known.migration, { do: what, migration: known.migration });
  if (known.role === 'source') {
    const phase = known.progress?.phase ?? 'setup';
    if (phase === 'setup' || phase === 'pre-copy') order('cancel');
    else if (mayRemove(t, job, phase) || mayForget(job, phase)) order('finish');
    return;
  }
  const isWaiting = hello.guests.some((g) => g.spec.name === known.guest && g.state === 'incoming');
  // A machine that was lost before it ran is remembered until it is abandoned; one that ran is not given up by this.
  if (isWaiting || (job && job.state !== 'done' && !job.resumed)) {
    order('abandon');
    if (job?.state === 'lost') releaseDisks(t, job);
  } else if (job?.state === 'done' || (job?.state === 'lost' && isAllThere(job))) order('finish');
}

/** Whether a source's machine whose copy is complete is of no use any more: its guest runs at the destination. */
const mayRemove = (t: Turn, job: Job | undefined, phase: string): boolean =>
  phase === 'completed' && (job?.state !== 'lost' || completedAfterAll(t, job));

/** Whether a copy that did not succeed is of no use any more: its guest never ran elsewhere. */
const mayForget = (job: Job | undefined, phase: string): boolean =>
  (phase === 'failed' || phase === 'cancelled') && job?.resumed !== true;

/** The end of a copy whose migration has ended already: its source need not remember it. A guest may have come all the same. */
export function onLateEvent(t: Turn, host: string, m: AgentMessage): void {
  if (m.type !== 'event') return;
  const job = t.job(m.migration);
  if (!job || !isFinal(job.state)) return;
  if (job.state === 'lost' && host === job.to && m.event === 'resumed') ranAfterAll(t, job);
  if (host !== job.from) return;
  if (job.state === 'lost' && (m.event === 'postcopyStarted' || m.event === 'postcopyPaused') && reopen(t, job)) {
    onStreamEvent(t, host, m);
    return;
  }
  if (mayRemove(t, job, m.event) || mayForget(job, m.event))
    t.command(host, job.id, { do: 'finish', migration: job.id });
}
