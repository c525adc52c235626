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
import { buildFrame, ETH_IPV4 } from '../../packet.ts';
import { FairwayInLab } from '../fairway.ts';
import { type GuestWish, guestAddress } from '../guests.ts';
import { Prober, readGuestCount, Workload } from '../measure.ts';
import { ADDRESS, type Lab, ofctl, type Site, switchPids, vsctl } from '../network.ts';
import {
  copyOf,
  follow,
  measured,
  noteSwitchLeftovers,
  round,
  type Session,
  SLA,
  settle,
  startFairway,
  summary,
  watchGuest,
  withLab,
} from '../session.ts';
import { preciseNow, preferAtOnce, run, sleep, waitFor } from '../shell.ts';
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
const DRAIN_MS = 700;

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
  /** A machine at hv1's own switch, which pings the stand-in every 10 ms: its longest silence around each move. */
  neighbour: { silenceMs: Spread };
  /** Packets that the lab gave to the old edge as if another switch had sent them there after the move; null where nobody manages it. */
  stragglers: { sent: number; arrived: number; counted: number } | null;
  lost: { toGuest: LossFigures; fromGuest: LossFigures };
  lostOutsidePause: number;
  tcp: { survived: boolean; problem: string | null; bytesToGuest: number; bytesFromGuest: number };
  each: MoveFigures[];
}

export async function moves(session: Session): Promise<LabRun[]> {
  const standIn = [await managed(session, 'label'), await managed(session, 'vxlan'), await learning(session)];
  const times = session.qemuMoves ?? 3;
  return times > 0 ? [...standIn, ...(await qemu(session, times))] : standIn;
}

/** A small guest: two cores emulate it, and everything else. */
const QEMU_GUEST: GuestWish = { index: 0, memoryMiB: 128, dirtyPagesPerS: 500, workingSetMiB: 16 };
const QEMU_WORKLOAD_BPS = 110e6;

/** A real guest to and fro, by Fairway, while iperf3 sends past it all the time. */
function qemu(session: Session, times: number): Promise<LabRun[]> {
  return withLab(
    session,
    async (lab) => {
      session.say(`qemu: ${times} moves of a QEMU guest with iperf3 beside it`);
      const { fairway, specs } = await startFairway(session, lab, [QEMU_GUEST]);
      try {
        const guest = await watchGuest(session, lab, QEMU_GUEST.index);
        const workload = await Workload.start(lab, QEMU_WORKLOAD_BPS, 5201, session.signal);
        await settle(session, lab, [guest]);
        const runs: LabRun[] = [];
        for (let i = 0; i < times; i++) {
          const destination = HYPERVISORS[(i + 1) % 2] as Hypervisor;
          const moving = specs.map((g) => ({ guest: g.name, destination }));
          const answer = await fairway.client.migrate({ moves: moving, priority: 'high' });
          const ids = answer.migrations.map((m) => m.id);
          const [view] = await follow(session, fairway, ids, 300_000);
          const copy = copyOf(view as MigrationView, `qemu-${i + 1}`);
          const result = await measured(session, lab, copy, guest, [workload]);
          guest.counted = (await readGuestCount(lab, guestAddress(QEMU_GUEST.index))) ?? guest.counted;
          session.say(`  ${summary(result)}`);
          runs.push(result);
        }
        await noteSwitchLeftovers(session, lab, fairway);
        return runs;
      } finally {
        await fairway.stop();
      }
    },
    true,
  );
}

/** Moved by Fairway, through its HTTP interface, its agents and its switches. */
function managed(session: Session, mode: 'label' | 'vxlan'): Promise<MovesRun> {
  return withLab(session, async (lab) => {
    session.say(`${mode}: ${movesOf(session)} moves by Fairway`);
    const standIn = await startStandIn(lab, session.signal);
    const timesFile = join(lab.stateDir, 'moves.jsonl');
    const fairway = await FairwayInLab.start(lab, {
      guests: { hv1: [standInSpec()] },
      policy: { ...SLA, 'finish.silenceMs': DRAIN_MS },
      signal: session.signal,
      ...(mode === 'label' ? {} : { tunnels: mode }),
      hypervisorAgent: {
        program: 'sim/lab/standIn/agent.js',
        args: (site) => [standInFile(lab, site, standIn, 'none', timesFile)],
      },
    });
    try {
      const neighbour = await begin(session, lab, standIn, fairway.pids);
      const views: MigrationView[] = [];
      const stragglers: number[] = [];
      for (let i = 0; i < movesOf(session); i++) {
        const [from, to] = [HYPERVISORS[i % 2] as Hypervisor, HYPERVISORS[(i + 1) % 2] as Hypervisor];
        const view = await moveOnce(
          session,
          fairway,
          to,
          () => sendStraggler(lab, from, i),
          () => stragglers.push(i),
        );
        if (view.state !== 'done')
          throw new Error(`move ${i + 1} ended ${view.state}: ${view.note ?? 'no reason given'}`);
        views.push(view);
        if ((i + 1) % 10 === 0) session.say(`  ${i + 1} moves`);
      }
      const times = readFileSync(timesFile, 'utf8')
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as MoveTimes);
      const result = await figures(session, standIn, neighbour, mode, times, views, stragglers);
      await noteSwitchLeftovers(session, lab, fairway);
      return result;
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
    const neighbour = await begin(session, lab, standIn, []);
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
    return figures(session, standIn, neighbour, 'learning', times, [], []);
  });
}

/** Writes what the stand-in's agent at a hypervisor needs; returns the file. */
function standInFile(
  lab: Lab,
  site: Exclude<Site, 'core'>,
  standIn: StandIn,
  announce: Announce,
  timesFile: string,
): string {
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
async function begin(session: Session, lab: Lab, standIn: StandIn, others: readonly number[]): Promise<Prober> {
  const network = lab.sites.flatMap((site) => switchPids(lab.switches[site]));
  for (const pid of [...network, ...others]) await preferAtOnce(pid);
  await standIn.client.order({ do: 'connect' });
  await standIn.guest.order({ do: 'begin' });
  await standIn.client.order({ do: 'begin' });
  const neighbour = Prober.start(lab, guestAddress(0), 'wl');
  await neighbour.waitForAnswers(20, 20_000, session.signal);
  await sleep(SETTLE_MS, session.signal);
  return neighbour;
}

/**
 * Moves the stand-in; `onDraining` is called once when it runs at its new place and stragglers are waited for, `onSent` when
 * they are still waited for after that.
 */
async function moveOnce(
  session: Session,
  fairway: FairwayInLab,
  to: Hypervisor,
  onDraining: () => Promise<void>,
  onSent: () => void,
): Promise<MigrationView> {
  let isDraining = false;
  const answer = await fairway.client.migrate({ moves: [{ guest: 'standin', destination: to }], priority: 'high' });
  const id = answer.migrations[0]?.id ?? '';
  return fairway.until(
    `end of the move to ${to}`,
    60_000,
    async () => {
      const view = await fairway.client.migration(id);
      if (view.state === 'draining' && !isDraining) {
        isDraining = true;
        await onDraining();
        if ((await fairway.client.migration(id)).state === 'draining') onSent();
      }
      return isFinal(view.state) ? view : undefined;
    },
    session.signal,
  );
}

/** What a switch that does not know of the move yet would send: a packet for the stand-in comes in by the old edge's uplink. */
async function sendStraggler(lab: Lab, from: Hypervisor, number: number): Promise<void> {
  const sw = lab.switches[from];
  const shown = await run('ip', ['-n', lab.ns('client'), '-o', 'link', 'show', 'dev', 'eth0']);
  const frame = buildFrame({
    ...{ eth_dst: standInSpec().mac, eth_src: /link\/ether (\S+)/.exec(shown)?.[1] ?? '', eth_type: ETH_IPV4 },
    ...{ ip_proto: 17, ip_ttl: 64, ipv4_src: ADDRESS.data.client, ipv4_dst: guestAddress(0) },
    ...{ udp_src: LATE_PORT, udp_dst: LATE_PORT, payload: Buffer.from(String(number)) },
  });
  const uplink = (await vsctl(sw, ['get', 'interface', 'uplink', 'ofport'])).trim();
  await ofctl(sw, 'packet-out', [`in_port=${uplink},packet=${frame.toString('hex')},actions=table`]);
}

/** Where the stand-in counts such packets. */
const LATE_PORT = 7003;

const spread = (values: readonly number[]): Spread => ({
  p50: round(percentile(values, 0.5)),
  p95: round(percentile(values, 0.95)),
  max: round(Math.max(...values)),
});

/** Ends probing and puts together what the probes saw. */
async function figures(
  session: Session,
  standIn: StandIn,
  neighbour: Prober,
  mode: string,
  times: MoveTimes[],
  views: readonly MigrationView[],
  sentLate: readonly number[],
): Promise<MovesRun> {
  await sleep(SETTLE_MS, session.signal);
  await neighbour.stop();
  const last = views.at(-1);
  const drained = views.flatMap((v) => v.reasons).filter((r) => r.rule === 'finish.drained');
  await standIn.guest.order({ do: 'quiet' });
  await standIn.client.order({ do: 'quiet' });
  await allArrived(session, standIn);
  const { guest, client } = await standIn.reports();
  const each = moveFigures(times, guest, client);
  const lost = { toGuest: lossToGuest(times, guest, client), fromGuest: lossFromGuest(times, guest, client) };
  const problem = tcpProblem(guest, client);
  const silence = Math.max(...each.map((m) => Math.max(m.toGuestMs, m.fromGuestMs)));
  const result: MovesRun = {
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
    neighbour: {
      silenceMs: spread(times.map((m) => neighbour.silenceMs(m.pausedMs, m.resumedMs + DRAIN_MS))),
    },
    stragglers: last
      ? {
          sent: sentLate.length,
          arrived: sentLate.filter((n) => guest.late.includes(n)).length,
          counted: drained.reduce((n, r) => n + Number(r.inputs.stragglers), 0),
        }
      : null,
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
  const { p50, p95, max } = result.addedSilenceMs;
  session.say(
    `  ${mode}: added silence p50 ${p50} ms, p95 ${p95} ms, max ${max} ms (held ${result.heldMs.p50}/${result.heldMs.p95}/${result.heldMs.max}); ` +
      `lost outside the pause: ${lost.toGuest.lostOutside} of ${lost.toGuest.sent} to the guest, ` +
      `${lost.fromGuest.lostOutside} of ${lost.fromGuest.sent} from it (in the pause ${lost.toGuest.lostInPause} at the guest, ${lost.toGuest.lostUnderway} in the network${first.length === 0 ? '' : `; outside it ${first.join(', ')} ms after a pause`}); ` +
      `neighbour silent ${result.neighbour.silenceMs.p50}/${result.neighbour.silenceMs.p95}/${result.neighbour.silenceMs.max} ms; ` +
      `${result.stragglers ? `${result.stragglers.arrived} of ${result.stragglers.sent} stragglers followed; ` : ''}` +
      `TCP ${problem === null ? 'survived' : `FAILED: ${problem}`}`,
  );
  return result;
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
