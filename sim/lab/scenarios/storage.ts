/**
 * `storage`: a guest with a disk of 1 GiB, of which 100 MiB are written over and over, is moved with each storage mode while a
 * workload of 160 Mbit/s leaves its host: shared, mirrored, left behind and read on demand, and that with a pull of the
 * rest under a rate. After each the guest is ended and all of its disk compared (`../guestDisk.ts`). `docs/lab.md` has the account.
 */
import { join } from 'node:path';
import { receivedBytes } from '../../../agent/core/storage.ts';
import { guestPaths, processOf, readRecord } from '../../../agent/io/guestProcess.ts';
import type { StorageMode } from '../../../contracts/agent.ts';
import type { MigrationView } from '../../../contracts/feed.ts';
import type { LabRun } from '../../../contracts/results.ts';
import { formatBytes, formatMs } from '../../../contracts/units.ts';
import { diskFolder, type FairwayInLab } from '../fairway.ts';
import {
  BLOCK_KIB,
  type DiskBefore,
  type DiskFigures,
  type DiskShape,
  diskFigures,
  diskSaid,
  makeDisk,
} from '../guestDisk.ts';
import { type GuestWish, guestAddress } from '../guests.ts';
import { goesOnCounting, Workload } from '../measure.ts';
import type { Lab } from '../network.ts';
import {
  copyOf,
  FIGURES,
  follow,
  measured,
  noteSwitchLeftovers,
  requestMove,
  round,
  type Session,
  settle,
  startFairway,
  summary,
  watchGuest,
  withLab,
} from '../session.ts';
import { preciseNow, run, runIn, sleep, stopPid, waitFor } from '../shell.ts';

/** The disk, how often its guest reads the cold stretch, and how long one is watched that is read on demand and not pulled. */
export interface StorageShape extends DiskShape {
  readMs: number;
  watchMs: number;
}
const SHAPE: StorageShape = { sizeMiB: 1024, hotMiB: 100, readMiB: 24, readMs: 5000, watchMs: 20_000 };
/** A small guest: this is about its disk. */
const GUEST: GuestWish = { index: 0, memoryMiB: 128, dirtyPagesPerS: 500, workingSetMiB: 16 };
const NAME = `guest${GUEST.index + 1}`;
const DISK_WRITE_MS = 20;
/** The most that the pull is asked to take. In its slice of low priority it gets what a workload of 160 leaves of 200. */
const PULL_BPS = 80e6;
/** Longest that mirroring or pulling the whole disk may take; mirroring is about two minutes, pulling beside a steady workload three times that. */
const LIMIT_MS = 900_000;

const MODES: readonly { mode: string; storage: StorageMode; pullBps?: number }[] = [
  { mode: 'shared', storage: 'shared' },
  { mode: 'mirrored', storage: 'mirrored' },
  { mode: 'on-demand', storage: 'on-demand' },
  { mode: 'on-demand, pulled', storage: 'on-demand', pullBps: PULL_BPS },
];

/** What the destination fetched of a disk that was left behind. */
export interface Fetched {
  /** When the guest ran at its destination and the migration was done; then at the end of pull or watching. */
  byEndOfMoveBytes: number;
  bytes: number;
  watchedMs: number;
}

export interface PullFigures {
  rateMbps: number;
  /** From the end of the move until all was at the destination. */
  totalMs: number;
  /** Until the machine at the source was let go, which the controller orders. */
  sourceReleasedMs: number;
  workloadMbps: number[];
  secondsBelowFloor: number;
}

/** `bytes` of the run is what was sent of memory. */
export interface StorageRun extends LabRun {
  storage: StorageMode;
  diskBytes: number;
  hotBytes: number;
  /** Copied by the mirror; 0 in the other modes. */
  mirroredBytes: number;
  fetched: Fetched | null;
  pull: PullFigures | null;
  disk: DiskFigures;
}

export async function storage(session: Session): Promise<StorageRun[]> {
  const runs: StorageRun[] = [];
  const modes = MODES.filter((m) => session.modes?.includes(m.mode) ?? true);
  for (const mode of modes) runs.push(await moveWith(session, mode, mode === modes.at(-1)));
  return runs;
}

const agentDir = (lab: Lab, site: 'hv1' | 'hv2'): string => join(lab.switches[site].runDir, 'agent');
const consoles = (lab: Lab): string[] =>
  (['hv1', 'hv2'] as const).map((site) => guestPaths(agentDir(lab, site), NAME).serial);

function moveWith(session: Session, how: (typeof MODES)[number], isLast: boolean): Promise<StorageRun> {
  const { mode, storage: kind, pullBps } = how;
  return withLab(
    session,
    async (lab) => {
      const { readMs, watchMs, ...shape } = session.storage ?? SHAPE;
      session.say(`${mode}: a disk of ${shape.sizeMiB} MiB, ${shape.hotMiB} of them hot`);
      const before = makeDisk(join(lab.stateDir, 'disks', 'guest1.img'), shape);
      const disk = { ...shape, path: before.path, blockKiB: BLOCK_KIB, writeMs: DISK_WRITE_MS, readMs };
      const { fairway, specs } = await startFairway(session, lab, [{ ...GUEST, disk }]);
      try {
        const guest = await watchGuest(session, lab, GUEST.index);
        const said = () => diskSaid(consoles(lab));
        await waitFor(
          'the guest to write and read its disk',
          () => (said().written > 5 && said().sums.length > 0 ? true : undefined),
          { timeoutMs: 60_000, signal: session.signal },
        );
        const workload = await Workload.start(lab, FIGURES.workloadMbps * 1e6, 5201, session.signal);
        await settle(session, lab, [guest]);
        const options = { storage: kind, ...(pullBps === undefined ? {} : { pullBps }) };
        const ids = await requestMove(fairway, specs, 'high', { options });
        const [view] = (await follow(session, fairway, ids, LIMIT_MS)) as [MigrationView];
        const byEndOfMoveBytes = await fetchedBytes(lab);
        const copy = copyOf(view, mode);
        const endMs = copy.startMs + copy.totalMs;
        const atEnd = said();
        const atMove = { written: atEnd.written, readings: atEnd.sums.length };
        const moved = await measured(session, lab, copy, guest, [workload]);
        session.say(`  ${summary(moved)}`);
        const pull = pullBps === undefined ? null : await pulled(session, lab, fairway, workload, pullBps, endMs);
        if (kind === 'on-demand' && pull === null) {
          await sleep(Math.max(0, endMs + watchMs - preciseNow()), session.signal);
        }
        await worksOn(session, lab, atMove);
        const fetched =
          kind === 'on-demand'
            ? { byEndOfMoveBytes, bytes: await fetchedBytes(lab), watchedMs: Math.round(preciseNow() - endMs) }
            : null;
        const guestAlive =
          moved.guestAlive &&
          (await goesOnCounting(lab, guestAddress(GUEST.index), guest.counted, 30_000, session.signal));
        await workload.pause();
        await guest.prober.stop();
        await noteSwitchLeftovers(session, lab, fairway);
        const image = await stoppedImage(lab, before, kind, pull !== null);
        const result: StorageRun = {
          ...moved,
          guestAlive,
          storage: kind,
          diskBytes: shape.sizeMiB * 2 ** 20,
          hotBytes: shape.hotMiB * 2 ** 20,
          mirroredBytes: view.disk?.transferredBytes ?? 0,
          fetched,
          pull,
          disk: diskFigures(image, before, said(), atMove),
        };
        session.say(`  ${lineOf(result)}`);
        return result;
      } finally {
        await fairway.stop();
      }
    },
    isLast,
  );
}

/** Waits until the guest has written and read its disk at its new place; when it does not, `disk.equal` will be false. */
async function worksOn(session: Session, lab: Lab, atMove: { written: number; readings: number }): Promise<void> {
  const until = preciseNow() + 30_000;
  for (;;) {
    const { written, sums } = diskSaid(consoles(lab));
    if ((written > atMove.written + 5 && sums.length > atMove.readings + 1) || preciseNow() > until) return;
    await sleep(200, session.signal);
  }
}

/** What came from the source's disk so far: as the kernel counts the open connections, and the agent those that have ended. */
async function fetchedBytes(lab: Lab): Promise<number> {
  const onDemand = readRecord(agentDir(lab, 'hv2'), NAME)?.onDemand;
  if (onDemand === undefined) return 0;
  if (onDemand.isPulled) return onDemand.fetchedBytes;
  const { address, port } = onDemand.from;
  const open = await runIn(lab.ns('hv2'), 'ss', ['-tinH', 'dst', address, 'and', 'dport', '=', `:${port}`]);
  return onDemand.fetchedBytes + receivedBytes(open);
}

/** Waits for the pull's end and until the controller has let the source go. */
async function pulled(
  session: Session,
  lab: Lab,
  fairway: FairwayInLab,
  workload: Workload,
  pullBps: number,
  fromMs: number,
): Promise<PullFigures> {
  let saidMs = 0;
  const until = (what: string, probe: () => boolean) =>
    fairway.until(
      what,
      LIMIT_MS,
      async () => {
        if (preciseNow() - saidMs > 10_000) {
          saidMs = preciseNow();
          session.say(`  ${formatBytes(await fetchedBytes(lab))} fetched`);
        }
        return probe() ? preciseNow() : undefined;
      },
      session.signal,
    );
  const pulledMs = await until(
    'the end of the pull',
    () => readRecord(agentDir(lab, 'hv2'), NAME)?.onDemand?.isPulled === true,
  );
  const releasedMs = await until(
    'the release of the source',
    () => processOf(agentDir(lab, 'hv1'), NAME) === undefined,
  );
  const rates = workload.mbps(fromMs, pulledMs);
  return {
    rateMbps: pullBps / 1e6,
    totalMs: Math.round(pulledMs - fromMs),
    sourceReleasedMs: Math.round(releasedMs - fromMs),
    workloadMbps: rates.map(round),
    secondsBelowFloor: rates.filter((r) => r < FIGURES.floorMbps).length,
  };
}

/** Ends the guest, wherever there is a machine of it, and answers its disk as one raw file. */
async function stoppedImage(lab: Lab, before: DiskBefore, kind: StorageMode, isPulled: boolean): Promise<string> {
  for (const site of ['hv2', 'hv1'] as const) {
    const pid = processOf(agentDir(lab, site), NAME);
    // It writes down what it holds.
    if (pid !== undefined) await stopPid(pid, 30_000);
  }
  if (kind === 'shared') return before.path;
  const there = join(diskFolder(lab, 'hv2'), 'guest1.img');
  if (kind === 'mirrored') return there;
  const image = join(lab.stateDir, 'disks', 'check.raw');
  const file = (filename: string) => ({ driver: 'file', filename });
  const overlay = isPulled
    ? { driver: 'qcow2', file: file(there), backing: null }
    : { driver: 'qcow2', file: file(there), backing: { driver: 'raw', file: file(before.path) } };
  await run('qemu-img', ['convert', '-O', 'raw', `json:${JSON.stringify(overlay)}`, image], { timeoutMs: 120_000 });
  return image;
}

function lineOf(r: StorageRun): string {
  const { disk: d, fetched, pull } = r;
  const mirrored = r.mirroredBytes === 0 ? '' : `${formatBytes(r.mirroredBytes)} mirrored, `;
  const read =
    fetched === null
      ? ''
      : `${formatBytes(fetched.byEndOfMoveBytes)} fetched by the end of the move, ${formatBytes(fetched.bytes)} ${formatMs(fetched.watchedMs)} later, `;
  const took =
    pull === null
      ? ''
      : `pulled at ${pull.rateMbps} Mbit/s in ${formatMs(pull.totalMs)} (${pull.secondsBelowFloor} s below floor), source let go after ${formatMs(pull.sourceReleasedMs)}, `;
  return (
    `${r.mode}: ${mirrored}${read}${took}cold part ${d.coldMd5Before === d.coldMd5After ? 'equal' : 'DIFFERENT'}, ` +
    `${d.hotBlocksRight} hot blocks right and ${d.hotBlocksWrong} wrong after ${d.acknowledgedBlocks} writes (${d.acknowledgedAfterMove} since the move), ` +
    `${d.readings - d.readingsWrong} of ${d.readings} readings right: disk ${d.equal ? 'as it should be' : 'NOT AS IT SHOULD BE'}`
  );
}
