/**
 * Migrations whose end nobody can tell: their copy has begun, and the agent that would say what became of it is away. To
 * cancel one is kept for the agent's return (`returns.ts`); where it will not return, an operator gives the migration up
 * (`fairway cancel --forget`). Its record then ends as `lost`, with what is known and what is not; slice, flows and tunnels
 * go as after any other end, and a machine that still waits for the guest is removed, never started. Part of `step.ts`.
 *
 * When the agent comes back after all, what it tells is believed: a copy that still runs is cancelled, since its guest is at
 * the source; one in post-copy is taken up again, since the guest's memory is in two halves; of one that is complete the
 * source's machine is removed only once the guest is known to have run at the destination.
 */
import type { AgentHello } from '../../contracts/agent.ts';
import { FairwayError, isFinal, type Reason } from '../../contracts/common.ts';
import { formatMs } from '../../contracts/units.ts';
import { choosePath } from './jobPath.ts';
import { COPIES, end, onCancel } from './jobs.ts';
import { placeGuests } from './network.ts';
import { type ControllerState, isAllThere, isSentWhole, type Job, withEntry } from './state.ts';
import type { Turn } from './turn.ts';

type Known = AgentHello['migrations'][number];

const reason = (rule: string, text: string): Reason => ({ rule: `finish.${rule}`, text, inputs: {} });

const isAway = (state: ControllerState, host: string): boolean => state.agents.get(host)?.connected !== true;

/** Hosts without whose agents a copy that has begun comes to no end here, and which are away. */
function missing(state: ControllerState, job: Job): string[] {
  if (!COPIES.includes(job.state)) return [];
  const needed = job.state === 'recovering' ? [job.from, job.to] : [job.from];
  return needed.filter((host) => isAway(state, host));
}

/** "the agent of hv1 has been away for 35 s", of one host or two. */
export function awaySinceText(state: ControllerState, hosts: readonly string[], nowMs: number): string {
  return hosts
    .map((host) => {
      const sinceMs = state.agents.get(host)?.awaySinceMs ?? state.startedAtMs;
      return `the agent of ${host} has been away for ${formatMs(Math.max(0, nowMs - sinceMs))}`;
    })
    .join(', and ');
}

/** What somebody who cancels a migration must know besides that it was asked for; null: its source is told at once. */
export function cancelNote(state: ControllerState, id: string, nowMs: number): string | null {
  const job = state.jobs.get(id);
  const away = job === undefined ? [] : missing(state, job);
  if (job === undefined || away.length === 0) return null;
  return (
    `${awaySinceText(state, away, nowMs)}, so that nobody can stop the copy now: it may go on, it may have ended, or ${job.from} may be ` +
    `down. It is cancelled when the agent is back. If it will not be back: fairway cancel ${id} --forget`
  );
}

/**
 * Checks an order to give a migration up.
 * @throws FairwayError `notFound`, or `conflict` when it has ended, or its agents are there to end it.
 */
export function checkForget(state: ControllerState, id: string): void {
  const job = state.jobs.get(id);
  if (!job) throw new FairwayError('MIGRATION_UNKNOWN', `no migration ${id}`, ['notFound']);
  if (isFinal(job.state))
    throw new FairwayError('MIGRATION_ENDED', `migration ${id} has ended: ${job.state}`, ['conflict']);
  if (job.state === 'draining') {
    const text = `migration ${id} is complete but for packets that come late, and ends by itself`;
    throw new FairwayError('TOO_LATE', text, ['conflict']);
  }
  if (COPIES.includes(job.state) && missing(state, job).length === 0) {
    const cure =
      job.state === 'recovering' || job.resumed
        ? 'they go on with it by themselves, and nothing is given up meanwhile'
        : `cancel it instead: fairway cancel ${id}`;
    const text = `the agents that migration ${id} needs are connected: ${cure}`;
    throw new FairwayError('AGENTS_THERE', text, ['conflict']);
  }
}

/** Gives a migration up; one that does not copy yet is cancelled. */
export function onForget(t: Turn, id: string): void {
  const job = t.job(id);
  if (!job || isFinal(job.state) || job.state === 'draining') return;
  if (!COPIES.includes(job.state)) {
    onCancel(t, id);
    return;
  }
  const away = missing(t.state, job);
  // An agent came back since it was checked: it will tell.
  if (away.length === 0) return;
  end(t, job, 'lost', `given up on request: ${awaySinceText(t.state, away, t.nowMs)}. ${knownText(t.state, job)}`);
  t.log('warn', 'job.lost', { migration: id, guest: job.guest, from: job.from, to: job.to, away });
  if (!job.resumed) return;
  isNotAt(t, job.from, job.guest);
  // Nothing is left to come: its destination need not remember it.
  if (isAllThere(job)) t.command(job.to, id, { do: 'finish', migration: id });
}

function knownText(state: ControllerState, job: Job): string {
  const { guest, from, to } = job;
  const far = isAway(state, to) ? `, whose agent is away too` : '';
  if (job.resumed) {
    const half = isSentWhole(job) ? '' : `; whether all of its memory came from ${from} is not known`;
    return `${guest} ran at ${to}${far} when it was last heard of${half}`;
  }
  const how = job.flipped ? 'stood still for its switch-over' : 'ran';
  const sent = `${Math.floor(job.progressShare * 100)} % of the copy was made`;
  const waits = far === '' ? `${to} is told to remove the machine that waits for it` : `nor is it known of ${to}${far}`;
  return (
    `${guest} ${how} at ${from} when it was last heard of, and ${sent}; whether it runs there now is not known; ${waits}. ` +
    `Start ${guest} nowhere before you know that ${from} does not run it`
  );
}

/** An agent that is away said last that it has the guest, which is known to run elsewhere since. */
function isNotAt(t: Turn, host: string, guest: string): void {
  const agent = t.state.agents.get(host);
  if (!agent || agent.connected) return;
  const guests = agent.guests.filter((g) => g.spec.name !== guest);
  t.set({ agents: withEntry(t.state.agents, host, { ...agent, guests }) });
  placeGuests(t);
}

/** What an agent that came (back) says of a migration that was given up. */
export function foundAgain(t: Turn, host: string, job: Job, known: Known, hello: Pick<AgentHello, 'guests'>): void {
  if (job.state !== 'lost') return;
  if (host === job.to) {
    const is = hello.guests.find((g) => g.spec.name === job.guest)?.state;
    if (known.role === 'destination' && is === 'running') ranAfterAll(t, job);
    return;
  }
  if (host !== job.from || known.role !== 'source') return;
  const phase = known.progress?.phase ?? 'setup';
  if (phase === 'post-copy') reopen(t, job);
  else if (phase === 'setup' || phase === 'pre-copy')
    learn(
      t,
      job,
      'found',
      `${host} is back and was still copying: the copy is cancelled, and ${job.guest} runs at ${host}`,
    );
}

function learn(t: Turn, job: Job, rule: string, text: string): void {
  t.setJob(job.id, { note: text });
  t.decide('finish', job.id, [reason(rule, text)]);
}

/** The guest of a migration that was given up runs at the destination. What its source still has may go once the copy is complete. */
export function ranAfterAll(t: Turn, job: Job): void {
  if (job.resumed) return;
  t.setJob(job.id, { resumed: true, flipped: true });
  learn(t, job, 'found', `${job.guest} runs at ${job.to} after all`);
  if (isAllThere(t.job(job.id) as Job)) t.command(job.to, job.id, { do: 'finish', migration: job.id });
  if (isAway(t.state, job.from)) isNotAt(t, job.from, job.guest);
  // Refused while the copy runs; its end is answered by the same order.
  else t.command(job.from, job.id, { do: 'finish', migration: job.id });
}

/** The source of a migration that was given up says that all was sent. Answers whether its machine is of no use any more. */
export function completedAfterAll(t: Turn, job: Job): boolean {
  t.setJob(job.id, { copyEnded: true });
  if (job.resumed) {
    t.command(job.to, job.id, { do: 'finish', migration: job.id });
    return true;
  }
  const text =
    `${job.from} has sent all of ${job.guest}, and it is not known to have run at ${job.to}: its machine at ${job.from} stands ` +
    `stopped and is kept, with all of its memory. When ${job.to} does not run it, let it go on there, or end it`;
  if (job.note === text) return false;
  learn(t, job, 'lostComplete', text);
  t.log('error', 'job.lostComplete', { migration: job.id, guest: job.guest, from: job.from, to: job.to });
  return false;
}

/**
 * A migration that was given up is in post-copy: half of the guest's memory is at the source, so it can only go on, whatever was
 * said meanwhile. Answers whether it does.
 */
export function reopen(t: Turn, job: Job): boolean {
  if ([...t.state.jobs.values()].some((j) => j.guest === job.guest && !isFinal(j.state))) return false;
  const text = `the agent of ${job.from} is back, and ${job.guest} still has memory there: the migration goes on`;
  const knownBps = job.mostPacedBps ?? job.sliceBps;
  t.setJob(job.id, {
    ...{ state: 'copying', phase: 'running', note: null, endedAtMs: null, recovery: null, cancelling: false },
    ...{ resumed: true, flipped: true, pacedBps: null, isReleased: false },
    pathSinceMs: t.nowMs,
  });
  // The network may have changed since; where there is no way, one is waited for.
  const chosen = choosePath(t.state, t.job(job.id) as Job, t.nowMs);
  t.setJob(job.id, typeof chosen === 'string' ? { links: [], dpids: [] } : chosen.path);
  placeGuests(t);
  t.set({ paces: withEntry(t.state.paces, job.id, { knownBps, told: [] }) });
  t.decide('recovery', job.id, [{ rule: 'recovery.found', text, inputs: {} }]);
  t.log('warn', 'job.found', { migration: job.id, guest: job.guest, host: job.from });
  t.reserveNow = true;
  return true;
}
