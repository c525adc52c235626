/**
 * `agent-faults`: what fails at hosts while a guest is copied, each on the same network with the same guest, which goes to
 * and fro: hypervisor, agents, controller and cable, and orders that a host cannot obey. Of each: the outcome and its
 * reason, where the guest ran at every instant (`../whereabouts.ts`), and whether it counts on. Never on two hosts at once.
 */
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { guestPaths, processOf } from '../../../agent/io/guestProcess.ts';
import type { GuestSpec } from '../../../contracts/agent.ts';
import { isFinal, type Technique } from '../../../contracts/common.ts';
import type { MigrationView } from '../../../contracts/feed.ts';
import type { LabRun } from '../../../contracts/results.ts';
import { formatMs } from '../../../contracts/units.ts';
import { agentSettings, FairwayInLab } from '../fairway.ts';
import { type GuestWish, guestAddress, guestSpec } from '../guests.ts';
import { goesOnCounting } from '../measure.ts';
import { ADDRESS, cutCable, type Lab } from '../network.ts';
import { noteSwitchLeftovers, type Session, SLA, type Watched, watchGuest, withLab } from '../session.ts';
import { preciseNow, run as runProgram, sleep, spawnIn, stop, waitFor } from '../shell.ts';
import { longestNowhereMs, twiceMs, Whereabouts } from '../whereabouts.ts';

type Host = 'hv1' | 'hv2';
const OTHER: Record<Host, Host> = { hv1: 'hv2', hv2: 'hv1' };
/** Small, so that each copy takes some seconds of a slice of 100 Mbit/s. */
const GUEST: GuestWish = { index: 0, memoryMiB: 160, dirtyPagesPerS: 500, workingSetMiB: 32, countMs: 100 };
/** Never moved: its host has a machine type that the other has not. */
const ODD_GUEST: GuestWish = { index: 1, memoryMiB: 96, dirtyPagesPerS: 0, workingSetMiB: 4, countMs: 1000 };
const ODD_MACHINE = 'pc-lab';
/** How far a copy is when something happens to it. */
const MIDDLE_BYTES = 12e6;
const AWAY_MS = 1500;
const CUT_MS = 9000;
const LIMIT_MS = 90_000;
/** Free on every host until somebody listens there. */
const BUSY_PORT = 49_300;

export interface FaultRun extends LabRun {
  /** The migration's last state, or `refused` where none was begun. */
  outcome: string;
  /** In Fairway's words: what a person reads. */
  reason: string;
  from: Host;
  to: Host;
  /** Where the guest ran, ms since the migration was asked for; the last stay went on after the run. */
  ranAt: { host: string; fromMs: number; toMs: number }[];
  /** For how long it ran on both hosts at once. */
  twiceMs: number;
  /** The longest time it ran on neither. */
  nowhereMs: number;
  /** How often each hypervisor was asked, besides what it told by itself. */
  answers: Record<string, number>;
  /** An interrupted post-copy: from the break until it went on, from the mended path until it did, and attempts. */
  recovery: { tookMs: number; sinceMendedMs: number; attempts: number } | null;
  /** Empty when everything was as it should be. */
  problems: string[];
}

interface Scene {
  session: Session;
  lab: Lab;
  fairway: FairwayInLab;
  specs: GuestSpec[];
  watched: Watched;
  qemu: string;
  /** Where the guest is. */
  at: Host;
}

/** What happens, told how the migration stands. */
interface Fault {
  mode: string;
  technique: Technique;
  /** Which ends are right. More than one where either tells the truth. */
  ends: readonly ('done' | 'failed')[];
  /** What the reason must name. */
  names?: RegExp;
  guest?: string;
  /** Default: nothing. Resolves to when the path was mended, if it was cut. */
  act?(s: Scene, copy: CopyInHand): Promise<{ mendedMs: number } | undefined>;
}
interface CopyInHand {
  id: string;
  from: Host;
  to: Host;
  watch: Whereabouts;
  view(): Promise<MigrationView>;
  /** Waits until the copy is as told, looking often. */
  until(what: string, fits: (v: MigrationView) => boolean): Promise<MigrationView>;
  /** Waits until the guest was seen to run (or not) on a host. */
  untilRuns(host: Host, runs: boolean): Promise<void>;
}

const runDir = (lab: Lab, host: Host): string => join(lab.switches[host].runDir, 'agent');
const isMiddle = (v: MigrationView): boolean => v.state === 'copying' && v.transferredBytes > MIDDLE_BYTES;

/** Where a copy is when its agents are killed. */
const MOMENTS = {
  prepares: (copy: CopyInHand) => copy.until('preparation', (v) => v.state === 'preparing' || isFinal(v.state)),
  middle: (copy: CopyInHand) => copy.until('the middle of the copy', isMiddle),
  standsStill: (copy: CopyInHand) => copy.untilRuns(copy.from, false),
  hasTurned: (copy: CopyInHand) => copy.untilRuns(copy.to, true),
} as const;
type Ends = readonly ('from' | 'to')[];

/** Agents are killed at a moment of the copy, and come back. `lateMs`: so much after it. */
const agentsKilled =
  (ends: Ends, moment: keyof typeof MOMENTS, lateMs = 0): NonNullable<Fault['act']> =>
  async (s, copy) => {
    await MOMENTS[moment](copy);
    await sleep(lateMs, s.session.signal);
    const hosts = ends.map((end) => copy[end]);
    await killed(s, hosts, AWAY_MS);
    return undefined;
  };

/** The cable of a host is cut in post-copy, and mended. */
const cableCut =
  (how: 'down' | 'silent'): NonNullable<Fault['act']> =>
  async (s, copy) => {
    await MOMENTS.hasTurned(copy);
    await sleep(500, s.session.signal);
    const mend = await cutCable(s.lab, 'hv2', how);
    try {
      await sleep(CUT_MS, s.session.signal);
    } finally {
      await mend();
    }
    return { mendedMs: preciseNow() };
  };

async function destinationDies({ lab, specs }: Scene, copy: CopyInHand): Promise<undefined> {
  await MOMENTS.middle(copy);
  const pid = processOf(runDir(lab, copy.to), specs[0]?.name ?? '');
  if (pid !== undefined) process.kill(pid, 'SIGKILL');
}

async function controllerKilled(s: Scene, copy: CopyInHand): Promise<undefined> {
  await MOMENTS.hasTurned(copy);
  const controller = await s.fairway.kill('controller');
  const line = new RegExp(`"migration-event".*${copy.id}.*"completed"`);
  await logged(s, `agent-${copy.from}`, line, 'end of the copy');
  s.fairway.revive(controller);
}

/** In this order, on one network. */
const FAULTS: readonly Fault[] = [
  {
    ...{ mode: 'the destination dies in pre-copy', technique: 'pre-copy', ends: ['failed'] },
    ...{ names: /./, act: destinationDies },
  },
  {
    ...{ mode: "the destination's agent is killed while it prepares", technique: 'pre-copy' },
    ...{ ends: ['failed', 'done'], act: agentsKilled(['to'], 'prepares') },
  },
  {
    ...{ mode: "the source's agent is killed in pre-copy", technique: 'pre-copy' },
    ...{ ends: ['done'], act: agentsKilled(['from'], 'middle') },
  },
  {
    ...{ mode: "the source's agent is killed while it switches over", technique: 'pre-copy' },
    ...{ ends: ['done'], act: agentsKilled(['from'], 'standsStill') },
  },
  {
    ...{ mode: 'both agents are killed in post-copy', technique: 'post-copy' },
    ...{ ends: ['done'], act: agentsKilled(['from', 'to'], 'hasTurned', 500) },
  },
  {
    ...{ mode: 'the controller is killed in post-copy', technique: 'post-copy' },
    ...{ ends: ['done'], act: controllerKilled },
  },
  {
    ...{ mode: 'a cable loses its carrier in post-copy', technique: 'post-copy' },
    ...{ ends: ['done'], act: cableCut('down') },
  },
  {
    ...{ mode: 'a cable swallows everything in post-copy', technique: 'post-copy' },
    ...{ ends: ['done'], act: cableCut('silent') },
  },
];

/** An order that a host cannot obey: it is refused before anything moves, and the reason names what is wrong. */
const refusal = (mode: string, names: RegExp): Fault => ({ mode, technique: 'pre-copy', ends: ['failed'], names });
const REFUSALS = {
  port: refusal('the port for incoming copies is in use', new RegExp(`${BUSY_PORT}.*incomingPorts`)),
  disk: refusal('the disk of the destination is full', /no space is left on the disk of/),
  machine: refusal('the destination has not the machine type', new RegExp(`no machine type ${ODD_MACHINE}`)),
} as const;

export async function agentFaults(session: Session): Promise<FaultRun[]> {
  return withLab(session, (lab) => inLab(session, lab), true);
}

async function inLab(session: Session, lab: Lab): Promise<FaultRun[]> {
  const specs = [guestSpec(session.image, GUEST), { ...guestSpec(session.image, ODD_GUEST), machine: ODD_MACHINE }];
  const qemu = oddQemu(lab);
  const fairway = await FairwayInLab.start(lab, {
    guests: { hv1: specs },
    qemu: { hv1: qemu },
    policy: { ...SLA, 'finish.silenceMs': 500 },
    signal: session.signal,
  });
  try {
    const watched = await watchGuest(session, lab, GUEST.index);
    const s: Scene = { session, lab, fairway, specs, watched, qemu, at: 'hv1' };
    const runs: FaultRun[] = [];
    const add = (run: FaultRun) => {
      runs.push(run);
      session.say(`  ${summary(run)}`);
    };
    for (const fault of FAULTS) add(await meet(s, fault));
    // The odd guest is at hv1, and what is refused is refused by hv2.
    if (s.at === 'hv2') add(await meet(s, { mode: 'nothing', technique: 'pre-copy', ends: ['done'] }));
    await withAgentAt(s, 'hv2', { incomingPorts: [BUSY_PORT, BUSY_PORT] }, async () => {
      const listener = await listenAt(s, 'hv2', BUSY_PORT);
      add(await meet(s, REFUSALS.port));
      await stop(listener, 'SIGTERM', 1000);
    });
    const full = join(lab.stateDir, 'full');
    mkdirSync(full, { mode: 0o700 });
    await runProgram('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', full]);
    try {
      await withAgentAt(s, 'hv2', { runDir: full }, async () => {
        await runProgram('sh', ['-c', `cat /dev/zero >"$1" 2>/dev/null || true`, 'sh', join(full, 'filler')]);
        add(await meet(s, REFUSALS.disk));
      });
    } finally {
      await runProgram('umount', [full]);
    }
    add(await meet(s, { ...REFUSALS.machine, guest: specs[1]?.name ?? '' }));
    add(await unknownGuest(s));
    add(await wrongToken(s));
    await noteSwitchLeftovers(session, lab, fairway);
    return runs;
  } finally {
    await fairway.stop();
  }
}

/** A QEMU that knows one machine type more than the usual one: as a newer one would. */
function oddQemu(lab: Lab): string {
  const path = join(lab.stateDir, 'qemu-odd');
  // Bash, for it replaces in arguments without splitting them.
  writeFileSync(path, `#!/bin/bash\nexec qemu-system-x86_64 "\${@/#${ODD_MACHINE}/pc}"\n`);
  chmodSync(path, 0o755);
  return path;
}

/** Kills the agents of hosts as a crash would, and starts them again after a while. */
async function killed(s: Scene, hosts: readonly Host[], awayMs: number): Promise<void> {
  const gone = await Promise.all(hosts.map((h) => s.fairway.kill(`agent-${h}`)));
  await sleep(awayMs, s.session.signal);
  for (const agent of gone) s.fairway.revive(agent);
  await agentsBack(s, hosts);
}

function agentsBack(s: Scene, hosts: readonly Host[]): Promise<true> {
  return s.fairway.until(
    `agents of ${hosts.join(' and ')}`,
    30_000,
    async () => {
      const { agents } = (await s.fairway.client.status()).topology;
      return hosts.every((h) => agents.some((a) => a.host === h && a.connected)) || undefined;
    },
    s.session.signal,
  );
}

/** Waits for a line in a process's log; what was written before counts too. */
function logged(s: Scene, name: string, line: RegExp, what: string): Promise<true> {
  const folder = s.lab.switches[name === 'agent-hv1' ? 'hv1' : 'hv2'].runDir;
  return waitFor(
    what,
    () =>
      readFileSync(join(folder, `${name}.log`), 'utf8')
        .split('\n')
        .some((l) => line.test(l)) || undefined,
    { timeoutMs: LIMIT_MS, signal: s.session.signal },
  );
}

/** Restarts an agent with other settings, for as long as `use` takes. */
async function withAgentAt(s: Scene, host: Host, more: object, use: () => Promise<void>): Promise<void> {
  const file = join(s.lab.switches[host].runDir, 'agent.yaml');
  const before = readFileSync(file, 'utf8');
  const settings = agentSettings(s.lab, host, { guests: {} });
  const restart = async (text: string) => {
    const agent = await s.fairway.kill(`agent-${host}`);
    await sleep(300, s.session.signal);
    writeFileSync(file, text);
    s.fairway.revive(agent);
    await agentsBack(s, [host]);
  };
  await restart(stringify({ ...settings, ...more }));
  try {
    await use();
  } finally {
    await restart(before);
  }
}

async function listenAt(s: Scene, host: Host, port: number) {
  let ready = false;
  const program = `import socket,time; s=socket.create_server(('${ADDRESS.data[host]}',${port})); print('up',flush=True); time.sleep(600)`;
  const child = spawnIn(s.lab.ns(host), '/usr/bin/python3', ['-c', program], {
    logFile: join(s.lab.stateDir, 'listener.log'),
    onLine: () => {
      ready = true;
    },
  });
  if (child.pid !== undefined) s.lab.state.addProcess(child.pid, 'listener');
  await waitFor('the listener', () => ready || undefined, { timeoutMs: 5000, everyMs: 20, signal: s.session.signal });
  return child;
}

const watchBoth = (lab: Lab, guest: string): Whereabouts => {
  const monitor = (host: Host) => guestPaths(runDir(lab, host), guest).monitor;
  return new Whereabouts({ hv1: monitor('hv1'), hv2: monitor('hv2') });
};
const indexOf = (s: Scene, guest: string): number => s.specs.findIndex((x) => x.name === guest);

/** Moves the guest, lets the fault happen, and looks what became of it. */
async function meet(s: Scene, fault: Fault): Promise<FaultRun> {
  const { lab, fairway, session } = s;
  const guest = fault.guest ?? s.specs[0]?.name ?? '';
  const from = fault.guest === undefined ? s.at : 'hv1';
  const to = OTHER[from];
  session.say(`${fault.mode}: ${guest} from ${from} to ${to}, ${fault.technique}`);
  const watch = watchBoth(lab, guest);
  const untilRuns = (host: Host, runs: boolean): Promise<true> =>
    waitFor(
      `${guest} ${runs ? 'running' : 'stopped'} at ${host}`,
      () => (watch.sightings.findLast((x) => x.host === host)?.runs ?? false) === runs || undefined,
      { timeoutMs: LIMIT_MS, everyMs: 5, signal: session.signal },
    );
  try {
    // After the last fault: links are found again, agents are back.
    await fairway.untilComplete(s.specs, session.signal);
    await untilRuns(from, true);
    const startMs = preciseNow();
    const answer = await fairway.client.migrate({
      moves: [{ guest, destination: to }],
      priority: 'high',
      technique: fault.technique,
    });
    const id = answer.migrations[0]?.id ?? '';
    const view = () => fairway.client.migration(id);
    let interruptedMs = 0;
    let goesOnMs = 0;
    const until = (what: string, fits: (v: MigrationView) => boolean) =>
      waitFor(
        what,
        async () => {
          // The controller may be away just now, or the relay to it.
          const v = await view().catch(() => undefined);
          if (v === undefined) return undefined;
          if (v.state === 'recovering') interruptedMs ||= preciseNow();
          else if (interruptedMs > 0) goesOnMs ||= preciseNow();
          return fits(v) ? v : undefined;
        },
        { timeoutMs: LIMIT_MS, everyMs: 20, signal: session.signal },
      );
    const copy: CopyInHand = {
      id,
      from,
      to,
      watch,
      view,
      until,
      untilRuns: async (h, r) => void (await untilRuns(h, r)),
    };
    const did = await fault.act?.(s, copy);
    const v = await until(`end of migration ${id}`, (x) => isFinal(x.state));
    const endMs = preciseNow();
    const at = v.state === 'done' ? to : from;
    if (fault.guest === undefined) s.at = at;
    await untilRuns(at, true);
    const alive = await goesOnCounting(lab, guestAddress(indexOf(s, guest)), s.watched.counted, 30_000, session.signal);
    const mended = v.reasons.find((r) => r.rule === 'recovery.mended');
    const recovery =
      mended === undefined || did === undefined
        ? null
        : {
            tookMs: Number(mended.inputs.tookMs),
            sinceMendedMs: Math.round(goesOnMs - did.mendedMs),
            attempts: Number(mended.inputs.attempts),
          };
    const base = seen(s, fault, watch, startMs, endMs, from, to);
    const problems = [...base.problems];
    if (!(fault.ends as readonly string[]).includes(v.state))
      problems.push(`it ended ${v.state}, not ${fault.ends.join(' or ')}`);
    if (!alive) problems.push('the guest does not count on');
    if (base.ranAt.at(-1)?.host !== at)
      problems.push(`the guest is at ${base.ranAt.at(-1)?.host}, and the record says ${at}`);
    if (fault.names && !fault.names.test(v.note ?? '')) problems.push(`the reason does not match ${fault.names}`);
    if (did !== undefined && recovery === null) problems.push('the copy was not interrupted');
    return {
      ...base,
      technique: v.technique ?? fault.technique,
      strategy: v.strategy ?? 'parallel',
      reasons: v.reasons.map((r) => r.text),
      outcome: v.state,
      reason: v.note ?? v.reasons.at(-1)?.text ?? '',
      totalMs: Math.round(v.totalMs ?? endMs - startMs),
      downtimeMs: Math.round(v.downtimeMs ?? 0),
      bytes: v.transferredBytes,
      passes: v.passes,
      guestAlive: alive,
      recovery,
      problems,
    };
  } finally {
    await watch.stop();
  }
}

/** What every run has: where the guest was, and the client's silence. */
function seen(
  s: Scene,
  fault: Pick<Fault, 'mode' | 'technique'>,
  watch: Whereabouts,
  startMs: number,
  endMs: number,
  from: Host,
  to: Host,
): FaultRun {
  const stays = watch.stays();
  const both = twiceMs(stays);
  return {
    mode: fault.mode,
    technique: fault.technique,
    strategy: 'parallel',
    reasons: [],
    outcome: 'refused',
    reason: '',
    from,
    to,
    totalMs: 0,
    downtimeMs: 0,
    clientSilenceMs: Math.round(s.watched.prober.silenceMs(startMs, endMs)),
    bytes: 0,
    passes: 0,
    workloadBeforeMbps: 0,
    workloadMbps: [],
    secondsBelowFloor: 0,
    guestAlive: true,
    ranAt: stays.map((x) => ({
      host: x.host,
      fromMs: Math.round((x.fromMs - startMs) * 1000) / 1000,
      toMs: Math.round((x.toMs - startMs) * 1000) / 1000,
    })),
    twiceMs: both,
    nowhereMs: Math.round(longestNowhereMs(stays)),
    answers: watch.answers,
    recovery: null,
    problems: both > 0 ? [`it ran on both hosts for ${formatMs(both)}`] : [],
  };
}

/** A refusal that no migration comes of; the guest is watched all the same. */
async function refused(s: Scene, mode: string, names: RegExp, provoke: () => Promise<string>): Promise<FaultRun> {
  s.session.say(mode);
  const guest = s.specs[0]?.name ?? '';
  const watch = watchBoth(s.lab, guest);
  try {
    const startMs = preciseNow();
    const reason = await provoke();
    await waitFor('a sighting', () => watch.sightings.length > 0 || undefined, { timeoutMs: 5000, everyMs: 10 });
    const base = seen(s, { mode, technique: 'pre-copy' }, watch, startMs, preciseNow(), s.at, OTHER[s.at]);
    const alive = await goesOnCounting(s.lab, guestAddress(GUEST.index), s.watched.counted, 30_000, s.session.signal);
    const problems = [...base.problems];
    if (!names.test(reason)) problems.push(`the reason does not match ${names}`);
    if (!alive) problems.push('the guest does not count on');
    return { ...base, reason, guestAlive: alive, problems };
  } finally {
    await watch.stop();
  }
}

function unknownGuest(s: Scene): Promise<FaultRun> {
  return refused(s, 'a guest that nobody knows', /nobody.*known guests: guest1/, () =>
    s.fairway.client.migrate({ moves: [{ guest: 'nobody', destination: 'hv2' }], priority: 'high' }).then(
      () => 'it was accepted',
      (error: Error) => error.message,
    ),
  );
}

function wrongToken(s: Scene): Promise<FaultRun> {
  return refused(s, "the agent's token was changed", /token.*wrong.*FAIRWAY_TOKEN/, async () => {
    const agent = await s.fairway.kill('agent-hv2');
    s.fairway.revive(agent, 'not-the-token');
    await logged(s, 'agent-hv2', /token-refused/, 'refusal of the token');
    const line =
      readFileSync(agent.logFile, 'utf8')
        .split('\n')
        .findLast((l) => l.includes('token-refused')) ?? '{}';
    s.fairway.revive(await s.fairway.kill('agent-hv2'));
    await agentsBack(s, ['hv2']);
    return line;
  });
}

function summary(r: FaultRun): string {
  const where = r.ranAt
    .map((x) => `${x.host} ${(x.fromMs / 1000).toFixed(2)}–${(x.toMs / 1000).toFixed(2)} s`)
    .join(', ');
  const mended = r.recovery ? `, interrupted for ${formatMs(r.recovery.tookMs)} (${r.recovery.attempts} attempts)` : '';
  const verdict = r.problems.length === 0 ? 'as it should be' : `NOT RIGHT: ${r.problems.join('; ')}`;
  return `${r.outcome}${mended}; ran at ${where}; nowhere for ${formatMs(r.nowhereMs)}, twice for ${formatMs(r.twiceMs)}; ${verdict}`;
}
