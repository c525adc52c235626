/**
 * Post-copies whose stream broke: the guest is at the destination and waits for pages that are still at the source, so the
 * job can only go on. Both ends are brought together again, as often as it takes: the destination listens anew, flows and
 * queues follow its new port, the source takes the copy up in a widened slice. Between attempts it waits ever longer; the
 * operator is told when it takes long. Nothing is cancelled or removed meanwhile. Part of `step.ts`, beside `jobs.ts`.
 */
import { type AgentMessage, prepareResultSchema } from '../../contracts/agent.ts';
import { isFinal, type Reason } from '../../contracts/common.ts';
import { formatMs } from '../../contracts/units.ts';
import type { Event } from './events.ts';
import { end, type Settled } from './jobs.ts';
import { switchoverPayloadBps, tell } from './reserve.ts';
import { isActive, type Job, type Recovery } from './state.ts';
import type { Turn } from './turn.ts';

/** Wait before the second attempt, doubled before each further one, up to the longest. */
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 8000;
/** An attempt of which nothing was heard for so long has failed; the agents answer within seconds. */
const ATTEMPT_MS = 20_000;

const reason = (rule: string, text: string, inputs: Reason['inputs'] = {}): Reason => ({ rule, text, inputs });

function set(t: Turn, job: Job, change: Partial<Recovery>, note?: string): void {
  if (!job.recovery) return;
  t.setJob(job.id, { recovery: { ...job.recovery, ...change }, ...(note === undefined ? {} : { note }) });
}

/** What agents say of streams that broke or go on. */
export function onStreamEvent(t: Turn, host: string, m: AgentMessage): void {
  if (m.type !== 'event') return;
  const job = t.job(m.migration);
  if (!job || isFinal(job.state) || (host !== job.from && host !== job.to)) return;
  if (m.event === 'postcopyPaused') paused(t, job, host, m.reason ?? 'the stream broke');
  else if (m.event === 'postcopyRecovered' && host === job.from && job.state === 'recovering') recovered(t, job);
}

function paused(t: Turn, job: Job, host: string, why: string): void {
  if (job.state === 'copying' || job.state === 'switching') {
    t.setJob(job.id, {
      state: 'recovering',
      recovery: { step: 'wait', attempt: 0, sinceMs: t.nowMs, atMs: t.nowMs, isLong: false },
      note: `the copy is interrupted: ${why}`,
    });
    const text = `${host}: ${why}; ${job.guest} stays at ${job.to} and waits for pages that are still at ${job.from}`;
    t.decide('recovery', job.id, [reason('recovery.paused', text)]);
    t.log('warn', 'job.interrupted', { migration: job.id, host, why });
  } else if (job.recovery?.step === 'going') failed(t, job, `${host}: ${why}`);
}

function recovered(t: Turn, job: Job): void {
  const tookMs = Math.round(t.nowMs - (job.recovery?.sinceMs ?? t.nowMs));
  const attempts = job.recovery?.attempt ?? 1;
  t.setJob(job.id, { state: 'copying', phase: 'running', recovery: null, note: null });
  const text = `the copy goes on after ${formatMs(tookMs)}, at attempt ${attempts}`;
  t.decide('recovery', job.id, [reason('recovery.mended', text, { tookMs, attempts })]);
  t.reserveNow = true;
}

/** An attempt came to nothing: the next one after a while. */
function failed(t: Turn, job: Job, why: string): void {
  const attempt = job.recovery?.attempt ?? 1;
  const waitMs = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.max(0, attempt - 1));
  t.setJob(job.id, { phase: 'running' });
  set(t, t.job(job.id) as Job, { step: 'wait', atMs: t.nowMs + waitMs }, `attempt ${attempt} failed: ${why}`);
  t.decide('recovery', job.id, [
    reason('recovery.again', `attempt ${attempt} failed: ${why}; again in ${formatMs(waitMs)}`, { attempt, waitMs }),
  ]);
  t.reserveNow = true;
}

/** Answers to the two orders of an attempt. */
export function onRecoveryDone(t: Turn, e: Extract<Event, { kind: 'commandDone' }>): void {
  const job = t.job(e.migration);
  if (!job?.recovery || job.state !== 'recovering') return;
  const { step } = job.recovery;
  if (e.step === 'recoverIncoming' && step === 'listen') {
    if (e.ok) listening(t, job, e.value);
    else if (e.code === 'guest-gone' || e.code === 'migration-unknown') lost(t, job, e.error ?? e.code);
    else if (e.code === 'recover-unsupported') end(t, job, 'failed', `${job.to}: ${e.error ?? e.code}`);
    else failed(t, job, e.error ?? `${job.to} gave no reason`);
  } else if (e.step === 'recoverOutgoing' && step === 'order') {
    if (e.ok) set(t, job, { step: 'going', atMs: t.nowMs + ATTEMPT_MS }, 'the copy is being taken up again');
    else if (e.code === 'guest-gone' || e.code === 'migration-unknown') lost(t, job, e.error ?? e.code);
    else failed(t, job, e.error ?? `${job.from} gave no reason`);
  }
}

function listening(t: Turn, job: Job, value: unknown): void {
  const parsed = prepareResultSchema.safeParse(value);
  if (!parsed.success) {
    failed(t, job, `${job.to} listens, but did not say where`);
    return;
  }
  const { address, port } = parsed.data;
  t.setJob(job.id, {
    // The guest waits for pages: what the path can give is given until the copy goes on.
    phase: 'switchover',
    destination: { ...(job.destination ?? parsed.data), address, port },
    stream: job.stream ? { ...job.stream, destinationIp: address, destinationPort: port, sourcePort: 0 } : null,
  });
  set(t, t.job(job.id) as Job, { step: 'flows', atMs: t.nowMs + ATTEMPT_MS });
  t.reserveNow = true;
}

/** One half of the guest's memory is gone: no order can bring it back. */
function lost(t: Turn, job: Job, why: string): void {
  const text = `${why}; in post-copy the guest's memory is in two halves, and without one of them it cannot run: start ${job.guest} anew`;
  end(t, job, 'failed', text);
}

/** Moves interrupted copies on whose conditions hold. Answers whether anything changed. */
export function advanceRecoveries(t: Turn, settled: Settled): boolean {
  const before = t.state.jobs;
  for (const { id } of [...t.state.jobs.values()]) {
    const job = t.job(id) as Job;
    if (job.state !== 'recovering' || !job.recovery) continue;
    tellIfLong(t, job);
    advanceOne(t, t.job(id) as Job, settled);
  }
  return t.state.jobs !== before;
}

function advanceOne(t: Turn, job: Job, settled: Settled): void {
  const { recovery } = job;
  if (!recovery) return;
  switch (recovery.step) {
    case 'wait': {
      if (t.nowMs < recovery.atMs) return;
      const away = [job.from, job.to].find((h) => !t.state.agents.get(h)?.connected);
      if (away !== undefined) {
        note(t, job, `the copy is interrupted, and the agent of ${away} is away`);
        return;
      }
      set(t, job, { step: 'listen', attempt: recovery.attempt + 1, atMs: t.nowMs + ATTEMPT_MS });
      t.command(job.to, job.id, { do: 'recoverIncoming', migration: job.id });
      return;
    }
    case 'flows': {
      if (job.dpids.length === 0) {
        note(t, job, `the copy is interrupted, and no path is known from ${job.from} to ${job.to}`);
        return;
      }
      // A switch that refuses must not keep the guest from its pages: the stream goes as its traffic goes.
      const refused = settled.refusedBy(job.dpids) !== undefined;
      if (!refused && !(settled.flows(job.dpids) && settled.queues(job.links))) return;
      const { destination } = job;
      if (!destination) return;
      set(t, job, { step: 'order', atMs: t.nowMs + ATTEMPT_MS });
      const bandwidthBps = tell(t, job);
      t.command(job.from, job.id, {
        ...{ do: 'recoverOutgoing', migration: job.id, address: destination.address, port: destination.port },
        bandwidthBps,
        switchoverBps: switchoverPayloadBps(t, job),
      });
      return;
    }
    default:
      if (t.nowMs >= recovery.atMs) failed(t, job, 'nothing was heard of it');
  }
}

function note(t: Turn, job: Job, text: string): void {
  if (job.note !== text) t.setJob(job.id, { note: text });
}

/** Once, when a copy has been interrupted for longer than the policy has patience: it goes on being tried. */
function tellIfLong(t: Turn, job: Job): void {
  const { recovery } = job;
  const sinceMs = t.nowMs - (recovery?.sinceMs ?? t.nowMs);
  if (!recovery || recovery.isLong || sinceMs < t.state.policy.doc.finish.recoveryAlarmMs) return;
  set(t, job, { isLong: true });
  const text = `interrupted for ${formatMs(sinceMs)}, after ${recovery.attempt} attempts (${job.note ?? 'no reason'}): see to the path between ${job.from} and ${job.to}; it is tried on, and nothing is given up`;
  t.decide('recovery', job.id, [reason('recovery.long', text, { sinceMs: Math.round(sinceMs) })]);
  t.log('error', 'job.interrupted-long', { migration: job.id, guest: job.guest, sinceMs: Math.round(sinceMs) });
}

/** An agent came (back): what it was asked may have been lost, and it is waited for no longer. */
export function recoverWith(t: Turn, host: string): void {
  for (const job of [...t.state.jobs.values()]) {
    const step = isActive(job) ? job.recovery?.step : undefined;
    const isAsked = (step === 'listen' && job.to === host) || (step === 'order' && job.from === host);
    const isAwaited = step === 'wait' && (job.to === host || job.from === host);
    if (isAsked || isAwaited) set(t, job, { step: 'wait', atMs: t.nowMs });
  }
}
