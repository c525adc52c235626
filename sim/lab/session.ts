/**
 * What every scenario does: stand up a fresh network, put a guest, a workload and a prober into it, move the guest (by
 * plain QEMU or by Fairway), measure, and take everything down again. `scenarios/` say what is compared; `run.ts` is the door.
 *
 * Each run gets a network, a guest and a Fairway of its own: runs that are compared must not inherit learned addresses,
 * counters, or a guest that was moved before.
 */
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { GuestSpec } from '../../contracts/agent.ts';
import { isFinal, type Priority } from '../../contracts/common.ts';
import type { MigrationView } from '../../contracts/feed.ts';
import type { MigrateRequest } from '../../contracts/rest.ts';
import type { LabRun } from '../../contracts/results.ts';
import { formatBytes, formatMs } from '../../contracts/units.ts';
import { FairwayInLab, type FairwayOptions } from './fairway.ts';
import type { GuestImage } from './guest/build.ts';
import { type GuestWish, guestAddress, guestSpec } from './guests.ts';
import { hostLeftovers, switchLeftovers } from './leftovers.ts';
import { binRates, goesOnCounting, Prober, type Received, readGuestCount, type Workload } from './measure.ts';
import { buildNetwork, type Lab, type LabOptions } from './network.ts';
import type { StorageShape } from './scenarios/storage.ts';
import { interrupted, preciseNow, sleep, waitFor } from './shell.ts';

/** The figures of the issue's scenarios: cables of 200 Mbit/s, and a workload of 160 Mbit/s with limits of 100 and 140. */
export const FIGURES = { capacityMbps: 200, floorMbps: 100, ceilingMbps: 140, workloadMbps: 160 } as const;

/** Policy of all scenarios: the workload's limits on every link. */
export const SLA = {
  'sla.default.floor': `${FIGURES.floorMbps} Mbit/s`,
  'sla.default.ceiling': `${FIGURES.ceilingMbps} Mbit/s`,
} as const;

/** How long the workload runs alone before a move: the controller's window for directions, and some more. */
const SETTLE_MS = 7000;
/** How long the client goes on listening after a move. */
const AFTER_MS = 2500;

export interface Session {
  image: GuestImage;
  labOptions: LabOptions;
  /** Progress, for people; one line. */
  say(text: string): void;
  signal: AbortSignal;
  /** Leave the network of the last run standing. */
  keep: boolean;
  /** Of each of its networks; two when absent. */
  hypervisors?: 2 | 3;
  /** `techniques`, `storage` and `evacuate` only: the runs to make, by their `mode`; all when absent. */
  modes?: readonly string[];
  /** What was found left over, of all runs so far. */
  leftovers: string[];
  /** How often the scenario `moves` moves its stand-in in each mode, and a QEMU guest after that. Default 50 and 3. */
  moves?: number;
  qemuMoves?: number;
  /** `storage` only: another disk than the one of 1 GiB. */
  storage?: StorageShape;
}

/**
 * Stands up a network, gives it to `use`, and takes it down whatever happens; adds what is left behind to the session's
 * leftovers. When `use` fails, logs are copied to `/var/log/fairway-lab/<prefix>` and the place is said.
 */
export async function withLab<T>(session: Session, use: (lab: Lab) => Promise<T>, last = false): Promise<T> {
  if (session.signal.aborted) throw interrupted();
  const { hypervisors } = session;
  const more = hypervisors === undefined ? {} : { hypervisors };
  const lab = await buildNetwork({ ...session.labOptions, ...more, capacityBps: FIGURES.capacityMbps * 1e6 });
  let done = false;
  try {
    const result = await use(lab);
    done = true;
    return result;
  } catch (e) {
    if (!session.signal.aborted) session.say(`failed; logs are in ${saveLogs(lab)}`);
    throw e;
  } finally {
    if (session.keep && last && done) {
      lab.state.setOwner(false);
      session.say('the lab was left standing; `fairway lab down` removes it');
    } else {
      const { remaining } = await lab.state.cleanUp();
      session.leftovers.push(...remaining, ...(await hostLeftovers(lab)));
    }
  }
}

/** Copies what the lab's processes wrote to a place that outlives the lab; returns the place. */
function saveLogs(lab: Lab): string {
  const target = join('/var/log/fairway-lab', lab.prefix);
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const place of ['.', 'ctl', ...lab.sites]) {
    const folder = join(lab.stateDir, place);
    if (!existsSync(folder)) continue;
    for (const file of readdirSync(folder)) {
      if (!/\.(log|yaml)$|^journal/.test(file)) continue;
      cpSync(join(folder, file), join(target, `${place === '.' ? 'lab' : place}-${file}`), { recursive: true });
    }
  }
  return target;
}

/** The clients' side of a guest: its answers to ping, and what it had counted when it was last asked. */
export interface Watched {
  index: number;
  prober: Prober;
  counted: number;
}

/** Starts a prober for a guest and waits until it answers steadily. */
export async function watchGuest(session: Session, lab: Lab, index: number): Promise<Watched> {
  const prober = Prober.start(lab, guestAddress(index));
  await prober.waitForAnswers(50, 90_000, session.signal);
  return { index, prober, counted: 0 };
}

/** Lets the workload run alone, then reads the guests' counters: what they must exceed after their move. */
export async function settle(session: Session, lab: Lab, watched: readonly Watched[]): Promise<void> {
  await sleep(SETTLE_MS, session.signal);
  for (const w of watched) {
    w.counted = await waitFor(`counter of guest ${w.index + 1}`, () => readGuestCount(lab, guestAddress(w.index)), {
      timeoutMs: 15_000,
      signal: session.signal,
    });
  }
}

/** When a copy began and ended, and what is known of it from its own side. */
export interface Copy
  extends Pick<LabRun, 'mode' | 'technique' | 'strategy' | 'reasons' | 'totalMs' | 'downtimeMs' | 'bytes' | 'passes'> {
  startMs: number;
}

/** All received traffic of several workloads. */
const receivedBy = (workloads: readonly Workload[]): Received[] => workloads.flatMap((w) => w.received);

/**
 * Puts the copy's own account together with what the client and the workload's receiver saw. A second below the floor
 * counts as such only when the workload offered the floor throughout: `offersLess` names a time when it did not.
 */
export async function measured(
  session: Session,
  lab: Lab,
  copy: Copy,
  watched: Watched,
  workloads: readonly Workload[],
  offersLess?: { fromMs: number; toMs: number },
): Promise<LabRun> {
  const { startMs, ...run } = copy;
  const endMs = startMs + copy.totalMs;
  const wait = endMs + AFTER_MS - preciseNow();
  if (wait > 0) await sleep(wait, session.signal);
  const received = receivedBy(workloads);
  const before = binRates(received, startMs - 5000, startMs);
  const during = binRates(received, startMs, endMs);
  const isQuiet = (second: number) =>
    offersLess !== undefined &&
    startMs + (second + 1) * 1000 > offersLess.fromMs &&
    startMs + second * 1000 < offersLess.toMs;
  const guestAlive = await goesOnCounting(lab, guestAddress(watched.index), watched.counted, 30_000, session.signal);
  return {
    ...run,
    clientSilenceMs: Math.round(watched.prober.silenceMs(startMs, endMs + AFTER_MS)),
    workloadBeforeMbps: round(before.reduce((a, b) => a + b, 0) / before.length),
    workloadMbps: during.map(round),
    secondsBelowFloor: during.filter((r, i) => r < FIGURES.floorMbps && !isQuiet(i)).length,
    guestAlive,
  };
}

/** One decimal, as rates are printed; ten-thousandths would promise an accuracy that is not there. */
export const round = (x: number): number => Math.round(x * 10) / 10;

/** Starts Fairway with guests at hv1. */
export function startFairway(
  session: Session,
  lab: Lab,
  wishes: readonly GuestWish[],
  more: Partial<FairwayOptions> = {},
): Promise<{ fairway: FairwayInLab; specs: GuestSpec[] }> {
  const specs = wishes.map((w) => guestSpec(session.image, w));
  return FairwayInLab.start(lab, {
    guests: { hv1: specs },
    policy: SLA,
    signal: session.signal,
    ...more,
  }).then((fairway) => ({ fairway, specs }));
}

/** Asks for moves to hv2 and returns the migrations' ids, in the order of the guests. */
export async function requestMove(
  fairway: FairwayInLab,
  specs: readonly GuestSpec[],
  priority: Priority,
  more: Partial<Pick<MigrateRequest, 'technique' | 'strategy' | 'options'>> = {},
): Promise<string[]> {
  const answer = await fairway.client.migrate({
    moves: specs.map((s) => ({ guest: s.name, destination: 'hv2' })),
    priority,
    ...more,
  });
  return specs.map((s) => answer.migrations.find((m) => m.guest === s.name)?.id ?? '');
}

/** Follows migrations until all are final; says each change of state, and progress now and then. */
export async function follow(
  session: Session,
  fairway: FairwayInLab,
  ids: readonly string[],
  timeoutMs: number,
): Promise<MigrationView[]> {
  const said = new Map<string, { state: string; atMs: number }>();
  return fairway.until(
    `end of migration ${ids.join(', ')}`,
    timeoutMs,
    async () => {
      const views = await Promise.all(ids.map((id) => fairway.client.migration(id)));
      for (const v of views) {
        const before = said.get(v.id);
        const nowMs = preciseNow();
        if (before?.state === v.state && nowMs - before.atMs < 5000) continue;
        said.set(v.id, { state: v.state, atMs: nowMs });
        session.say(`  ${v.guest}: ${progressText(v)}`);
      }
      return views.every((v) => isFinal(v.state)) ? views : undefined;
    },
    session.signal,
  );
}

function progressText(v: MigrationView): string {
  const copying = v.state === 'copying' && v.technique !== null;
  const detail = copying
    ? `, ${v.technique}, ${formatBytes(v.transferredBytes)} sent${v.disk === undefined ? '' : ` and ${formatBytes(v.disk.transferredBytes)} of disks`}, slice ${round(v.sliceBps / 1e6)} Mbit/s`
    : '';
  return `${v.state}${detail}${v.note === null ? '' : ` (${v.note})`}`;
}

/** What Fairway says of a migration, as the account of a copy. Fails unless it is done. */
export function copyOf(view: MigrationView, mode: string): Copy {
  if (view.state !== 'done' || view.technique === null || view.startedAtMs === null || view.totalMs === null) {
    throw new Error(`migration of ${view.guest} (${mode}) ended ${view.state}: ${view.note ?? 'no reason given'}`);
  }
  return {
    mode,
    technique: view.technique,
    // A single guest has nobody to wait for or to run beside.
    strategy: view.strategy ?? 'parallel',
    reasons: view.reasons.map((r) => r.text),
    totalMs: Math.round(view.totalMs),
    downtimeMs: Math.round(view.downtimeMs ?? 0),
    bytes: view.transferredBytes,
    passes: view.passes,
    startMs: view.startedAtMs,
  };
}

/** One line about a finished run. */
export function summary(run: LabRun): string {
  const worst = run.workloadMbps.length === 0 ? 0 : Math.min(...run.workloadMbps);
  return (
    `${run.mode}: ${run.technique}, ${formatMs(run.totalMs)}, ${formatBytes(run.bytes)}, down ${formatMs(run.downtimeMs)}, ` +
    `client silent ${formatMs(run.clientSilenceMs)}, workload ${run.workloadBeforeMbps} before, at worst ${worst} Mbit/s, ` +
    `${run.secondsBelowFloor} s below floor, guest ${run.guestAlive ? 'goes on counting' : 'DOES NOT COUNT'}`
  );
}

/**
 * Checks that the switches hold nothing of a migration any more while the controller still runs, which is given a little
 * time to finish; then ends Fairway, and checks that it took everything of its own out of the switches.
 */
export async function noteSwitchLeftovers(session: Session, lab: Lab, fairway: FairwayInLab): Promise<void> {
  const left = async (forwardingIsFine: boolean): Promise<string[]> => {
    const until = preciseNow() + 5000;
    for (;;) {
      const found = await switchLeftovers(lab, { forwardingIsFine });
      if (found.length === 0 || preciseNow() > until) return found;
      await sleep(500, session.signal);
    }
  };
  session.leftovers.push(...(await left(true)));
  await fairway.stop();
  session.leftovers.push(...(await left(false)));
}
