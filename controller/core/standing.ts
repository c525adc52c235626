/**
 * What a migration is at while it does not wait in the queue: what it waits for from an agent or from switches, whose agent is away, that
 * its guest runs at the destination already. A part of its record (`explain.ts`); made from the state, nothing is decided here. Pure.
 */
import { isFinal, type Reason } from '../../contracts/common.ts';
import { formatMs, formatRate } from '../../contracts/units.ts';
import { isPaced } from './hold.ts';
import { awaySinceText } from './lost.ts';
import { PATIENCE_MS } from './returns.ts';
import type { ControllerState, Job } from './state.ts';

/** Hosts whose agents a migration needs now, or for its beginning, and that are away. */
export function agentsAway(state: ControllerState, job: Job): string[] {
  if (isFinal(job.state) || job.copyEnded) return [];
  // A copy that runs is its source's business; to take one up again both are needed.
  const needed = isPaced(job) && job.state !== 'recovering' ? [job.from] : [job.from, job.to];
  return needed.filter((host) => state.agents.get(host)?.connected !== true);
}

/**
 * Rules: `now.agentAway`, `now.recovering`, `now.measuring`, `now.disks`, `now.preparing`, `now.noPath`, `now.switches`, `now.starting`,
 * `now.cancelling`, `now.rerouted`, `now.resumed`, `now.stopped`, `now.lastPages`, `now.draining`, `now.note` (what was said of it last).
 * Null: it has ended, waits for its turn, or there is nothing to say but its state.
 */
export function standingOf(state: ControllerState, job: Job, nowMs: number): Reason | null {
  const { from, to, guest } = job;
  const say = (rule: string, text: string, inputs: Reason['inputs'] = {}): Reason => ({
    rule: `now.${rule}`,
    text,
    inputs,
  });
  if (isFinal(job.state) || job.state === 'requested' || job.state === 'queued') return null;
  if (job.copyEnded) return drainingText(state, job, nowMs, say);
  const away = agentsAway(state, job);
  const noted = job.note === null ? null : say('note', job.note);
  // What was said of a broken stream says that too.
  if (away.length > 0 && job.state !== 'recovering') return awayReason(state, job, away, nowMs, say);
  switch (job.state) {
    case 'recovering': {
      const { sinceMs = nowMs, attempt = 0 } = job.recovery ?? {};
      const brokenMs = Math.round(Math.max(0, nowMs - sinceMs));
      const text = `its stream has been broken for ${formatMs(brokenMs)}, attempt ${attempt} to mend it: ${job.note ?? 'no reason given'}`;
      return say('recovering', text, { brokenMs, attempt });
    }
    case 'admitted':
      return say('measuring', `${from} measures how fast ${guest} writes its memory`);
    case 'preparing':
      if (job.awaiting === 'offerDisks') return say('disks', `${from} is asked to let its disks be read`);
      if (job.awaiting === 'prepare') return say('preparing', `${to} makes the machine ready that ${guest} moves to`);
      if (job.isHeld) return null;
      if (job.dpids.length === 0)
        return say('noPath', `no path is known from ${from} to ${to}: it begins when there is one`);
      return say('switches', 'its switches set up the flows, queues and tunnels that it needs');
    case 'copying':
      if (job.cancelling) return say('cancelling', `${from} is told to stop the copy; ${guest} goes on there`);
      if (job.awaiting === 'start') return say('starting', `${from} is told to start the copy`);
      if (job.dpids.length === 0)
        return say(
          'noPath',
          `no path is known from ${from} to ${to} now: it goes on when there is one, if its stream lives until then`,
        );
      if (job.reroutedAtMs !== null) {
        const reroutedMs = Math.round(Math.max(0, nowMs - job.reroutedAtMs));
        const text = `a link of its path was lost ${formatMs(reroutedMs)} ago, and switches set up another way`;
        return say('rerouted', text, { reroutedMs });
      }
      if (noted !== null) return noted;
      return job.resumed ? say('resumed', `${guest} runs at ${to} already, and the rest of its memory follows`) : null;
    case 'switching':
      if (job.paused)
        return say('stopped', `${guest} stands still until every switch has confirmed the way to it on ${to}`);
      if (noted !== null) return noted;
      return say('lastPages', `${guest} stands still while the last of its memory is sent to ${to}`);
    default:
      return noted;
  }
}

type Say = (rule: string, text: string, inputs?: Reason['inputs']) => Reason;

function awayReason(state: ControllerState, job: Job, away: readonly string[], nowMs: number, say: Say): Reason {
  const who = awaySinceText(state, away, nowMs);
  const hosts = away.join(', ');
  if (!isPaced(job)) {
    const text = `${who}: the copy cannot begin without it, and is given up when it has been away for ${formatMs(PATIENCE_MS)}`;
    return say('agentAway', text, { hosts });
  }
  const wanted = job.cancelling ? '; it is to be cancelled when that is back' : '';
  const held = job.isReleased
    ? 'nothing is reserved for the copy any more, as it is not seen to run'
    : `the copy goes on at its last pace, and ${formatRate(job.sliceBps)} stay reserved for it`;
  const there = job.resumed ? `${job.guest} runs at ${job.to} already, and ` : '';
  const text = `${who}: ${there}${held}; how far it is was last heard before that${wanted}`;
  return say('agentAway', text, { hosts, heldBps: job.isReleased ? 0 : job.sliceBps });
}

function drainingText(state: ControllerState, job: Job, nowMs: number, say: Say): Reason {
  const { silenceMs, maxDrainMs } = state.policy.doc.finish;
  const mostMs = Math.round(Math.max(0, (job.endedAtMs ?? nowMs) + maxDrainMs - nowMs));
  const { packets } = job.stragglers;
  const text =
    `packets for ${job.guest} that come to ${job.from} are sent on to ${job.to} until none has come for ${formatMs(silenceMs)}, ` +
    `for ${formatMs(mostMs)} more at most; ${packets === 1 ? '1 has' : `${packets} have`} come`;
  return say('draining', text, { stragglers: packets, silenceMs, mostMs });
}
