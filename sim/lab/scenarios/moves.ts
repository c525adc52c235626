/**
 * `moves`: what a move costs a guest's clients when the guest itself costs nothing: a stand-in (`../standIn/`) is moved to and
 * fro between the hypervisors, by Fairway with stragglers under a label, by Fairway with stragglers through VXLAN, and over plain learning
 * switches with the hypervisor's RARP; then a QEMU guest is moved by Fairway with iperf3 beside it. `docs/lab.md` has the account.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isFinal } from '../../../contracts/common.ts';
import type { MigrationView } from '../../../contracts/feed.ts';
import type { LabRun } from '../../../contracts/results.ts';
import { FairwayInLab } from '../fairway.ts';
import { ADDRESS, type Lab, SITES, switchPids } from '../network.ts';
import { noteSwitchLeftovers, round, type Session, SLA, withLab } from '../session.ts';
import { preciseNow, preferAtOnce, sleep, waitFor } from '../shell.ts';
import type { StandInFile } from '../standIn/agent.ts';
import type { Announce } from '../standIn/control.ts';
import type { MoveTimes } from '../standIn/driver.ts';
import {
  HYPERVISORS,
  type Hypervisor,
  PROBE_PERIOD_MS,
  STAND_IN_PORT,
  type StandIn,
  standInSpec,
  startStandIn,
} from '../standIn/guest.ts';
import {
  type LossFigures,
  lossFromGuest,
  lossToGuest,
  type MoveFigures,
  moveFigures,
  percentile,
  tcpProblem,
} from '../standIn/measure.ts';

/** The stand-in's copy until it stops, and the stop that is its own. */
const COPY_MS = 200;
const PAUSE_MS = 40;
/** Time for probes and connection to run before the first move, and for the last packets to arrive. */
const SETTLE_MS = 1000;
/** The scenario waits for the end of each move; stragglers come within a few ms here. */
const DRAIN_MS = 500;

const movesOf = (session: Session): number => session.moves ?? 50;

export interface Spread {
  p50: number;
  p95: number;
  max: number;
}

/** Figures of one way to move the stand-in; the fields that every run has are about the moves together. */
export interface MovesRun extends LabRun {
  moves: number;
  probePeriodMs: number;
  /** Silence beyond the stand-in's own pause: what the target is about. */
  addedSilenceMs: Spread;
  /** Part of it: how long the guest was held until every switch had confirmed its new place. */
  heldMs: Spread;
  ownPauseMs: Spread;
  lost: { toGuest: LossFigures; fromGuest: LossFigures };
  lostOutsidePause: number;
  tcp: { survived: boolean; problem: string | null; bytesToGuest: number; bytesFromGuest: number };
  each: MoveFigures[];
}

export async function moves(session: Session): Promise<LabRun[]> {
  return [await managed(session, 'label'), await learning(session)];
}

/** Moved by Fairway, through its HTTP interface, its agents and its switches. */
function managed(session: Session, mode: 'label'): Promise<MovesRun> {
  return withLab(session, async (lab) => {
    session.say(`${mode}: ${movesOf(session)} moves by Fairway`);
    const standIn = await startStandIn(lab, session.signal);
    const timesFile = join(lab.stateDir, 'moves.jsonl');
    const fairway = await FairwayInLab.start(lab, {
      guests: { hv1: [standInSpec()] },
      policy: { ...SLA, 'finish.silenceMs': DRAIN_MS },
      signal: session.signal,
      hypervisorAgent: {
        program: 'sim/lab/standIn/agent.js',
        args: (site) => [standInFile(lab, site, standIn, 'none', timesFile)],
      },
    });
    try {
      await begin(session, lab, standIn, fairway.pids);
      const views: MigrationView[] = [];
      for (let i = 0; i < movesOf(session); i++) {
        const view = await moveOnce(session, fairway, HYPERVISORS[(i + 1) % 2] as Hypervisor);
        if (view.state !== 'done')
          throw new Error(`move ${i + 1} ended ${view.state}: ${view.note ?? 'no reason given'}`);
        views.push(view);
        if ((i + 1) % 10 === 0) session.say(`  ${i + 1} moves`);
      }
      const times = readFileSync(timesFile, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as MoveTimes);
      const run = await figures(session, standIn, mode, times, views.at(-1));
      await noteSwitchLeftovers(session, lab, fairway);
      return run;
    } finally {
      await fairway.stop();
    }
  });
}

/** Moved by nobody's order over switches that forward by learning, announced by RARP as a hypervisor does. */
function learning(session: Session): Promise<MovesRun> {
  return withLab(session, async (lab) => {
    session.say(`learning: ${movesOf(session)} moves over learning switches`);
    const standIn = await startStandIn(lab, session.signal);
    await begin(session, lab, standIn, []);
    const times: MoveTimes[] = [];
    for (let i = 0; i < movesOf(session); i++) {
      const from = HYPERVISORS[i % 2] as Hypervisor;
      const to = HYPERVISORS[(i + 1) % 2] as Hypervisor;
      const pausedMs = await standIn.guest.orderAt({ do: 'pause' });
      const continuedMs = preciseNow();
      await sleep(PAUSE_MS);
      const resumedMs = await standIn.guest.orderAt({ do: 'resume', at: to, announce: 'rarp' });
      times.push({
        migration: `learning-${i + 1}`,
        from,
        to,
        pausedMs,
        continuedMs: Math.max(pausedMs, continuedMs),
        resumedMs,
      });
      await sleep(COPY_MS + DRAIN_MS, session.signal);
    }
    return figures(session, standIn, 'learning', times, undefined);
  });
}

/** Writes what the stand-in's agent at a hypervisor needs; returns the file. */
function standInFile(lab: Lab, site: Hypervisor, standIn: StandIn, announce: Announce, timesFile: string): string {
  const content: StandInFile = {
    options: {
      host: site,
      migrationIp: ADDRESS.data[site],
      portName: STAND_IN_PORT,
      copyMs: COPY_MS,
      pauseMs: PAUSE_MS,
      announce,
      timesFile,
    },
    socket: standIn.socket,
    hosts: Object.fromEntries(HYPERVISORS.map((hv) => [ADDRESS.data[hv], hv])),
    guests: site === 'hv1' ? [standInSpec()] : [],
  };
  const file = join(lab.switches[site].runDir, 'stand-in.json');
  writeFileSync(file, JSON.stringify(content));
  return file;
}

/** Everything that is not the stand-in has a machine of its own, as far as that can be had here; then probing begins. */
async function begin(session: Session, lab: Lab, standIn: StandIn, others: readonly number[]): Promise<void> {
  const network = SITES.flatMap((site) => switchPids(lab.switches[site]));
  for (const pid of [...network, ...others]) await preferAtOnce(pid);
  await standIn.client.order({ do: 'connect' });
  await standIn.guest.order({ do: 'begin' });
  await standIn.client.order({ do: 'begin' });
  await sleep(SETTLE_MS, session.signal);
}

async function moveOnce(session: Session, fairway: FairwayInLab, to: Hypervisor): Promise<MigrationView> {
  const answer = await fairway.client.migrate({ moves: [{ guest: 'standin', destination: to }], priority: 'high' });
  const id = answer.migrations[0]?.id ?? '';
  return fairway.until(
    `end of the move to ${to}`,
    60_000,
    async () => {
      const view = await fairway.client.migration(id);
      return isFinal(view.state) ? view : undefined;
    },
    session.signal,
  );
}

const spread = (values: readonly number[]): Spread => ({
  p50: round(percentile(values, 0.5)),
  p95: round(percentile(values, 0.95)),
  max: round(Math.max(...values)),
});

/** Ends probing and puts together what the probes saw. */
async function figures(
  session: Session,
  standIn: StandIn,
  mode: string,
  times: MoveTimes[],
  last: MigrationView | undefined,
): Promise<MovesRun> {
  await sleep(SETTLE_MS, session.signal);
  await standIn.guest.order({ do: 'quiet' });
  await standIn.client.order({ do: 'quiet' });
  await allArrived(session, standIn);
  const { guest, client } = await standIn.reports();
  const each = moveFigures(times, guest, client);
  const lost = { toGuest: lossToGuest(times, guest, client), fromGuest: lossFromGuest(times, guest, client) };
  const problem = tcpProblem(guest, client);
  const silence = Math.max(...each.map((m) => Math.max(m.toGuestMs, m.fromGuestMs)));
  const run: MovesRun = {
    mode,
    technique: 'pre-copy',
    strategy: last?.strategy ?? 'serial',
    reasons: last?.reasons.map((r) => r.text) ?? [
      'no Fairway: switches learn, the hypervisor announces the new place by RARP',
    ],
    totalMs: Math.round(((times.at(-1)?.resumedMs ?? 0) - (times[0]?.pausedMs ?? 0)) / Math.max(1, times.length)),
    downtimeMs: Math.round(
      percentile(
        each.map((m) => m.ownPauseMs),
        0.5,
      ),
    ),
    clientSilenceMs: Math.round(silence),
    bytes: 0,
    passes: 0,
    workloadBeforeMbps: 0,
    workloadMbps: [],
    secondsBelowFloor: 0,
    guestAlive: problem === null,
    moves: times.length,
    probePeriodMs: PROBE_PERIOD_MS,
    addedSilenceMs: spread(each.map((m) => m.addedMs)),
    heldMs: spread(each.map((m) => m.heldMs)),
    ownPauseMs: spread(each.map((m) => m.ownPauseMs)),
    lost,
    lostOutsidePause: lost.toGuest.lostOutside + lost.fromGuest.lostOutside,
    tcp: {
      survived: problem === null,
      problem,
      bytesToGuest: guest.tcp?.receivedBytes ?? 0,
      bytesFromGuest: client.tcp?.receivedBytes ?? 0,
    },
    each,
  };
  const first = [...lost.toGuest.lostOutsideAtMs, ...lost.fromGuest.lostOutsideAtMs].slice(0, 10);
  const { p50, p95, max } = run.addedSilenceMs;
  session.say(
    `  ${mode}: added silence p50 ${p50} ms, p95 ${p95} ms, max ${max} ms (held ${run.heldMs.p50}/${run.heldMs.p95}/${run.heldMs.max}); ` +
      `lost outside the pause: ${lost.toGuest.lostOutside} of ${lost.toGuest.sent} to the guest, ` +
      `${lost.fromGuest.lostOutside} of ${lost.fromGuest.sent} from it (in the pause ${lost.toGuest.lostInPause} at the guest, ${lost.toGuest.lostUnderway} in the network${first.length === 0 ? '' : `; outside it ${first.join(', ')} ms after a pause`}); ` +
      `TCP ${problem === null ? 'survived' : `FAILED: ${problem}`}`,
  );
  return run;
}

/** Waits until the TCP connection has delivered what was given to it; a connection that has lost much takes its time. */
async function allArrived(session: Session, standIn: StandIn): Promise<void> {
  const ends = async () => {
    const [guest, client] = await Promise.all([standIn.guest, standIn.client].map((p) => p.order({ do: 'tcp' })));
    return { guest: guest as unknown as TcpState, client: client as unknown as TcpState };
  };
  const isAll = (sent: number, received: number) => Math.floor(sent / 8) * 8 === received;
  await waitFor(
    'the last bytes of the TCP connection',
    async () => {
      const { guest, client } = await ends();
      const isOver = guest.error !== null || client.error !== null;
      return isOver || (isAll(guest.sent, client.received) && isAll(client.sent, guest.received)) ? true : undefined;
    },
    { timeoutMs: 60_000, everyMs: 200, signal: session.signal },
  );
}

interface TcpState {
  sent: number;
  received: number;
  error: string | null;
}
