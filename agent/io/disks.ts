/**
 * Disks of QEMU guests on the move: files made and put aside, exports over NBD, mirrors and pulls, by QMP. What each is
 * called is said in `core/storage.ts`; `qemuDriver.ts` decides when.
 */
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { Disk, DiskOffer } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import { copyNode, type DiskJobs, diskNodes, receivedBytes, sumJobs } from '../core/storage.ts';
import { run } from './hostNet.ts';
import type { QmpClient, QmpCommands } from './qmp.ts';

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
const isNothing = (error: unknown): boolean =>
  error instanceof FairwayError &&
  ['qmp-DeviceNotFound', 'qmp-DeviceNotActive', 'qmp-GenericError'].includes(error.code);

/** QEMU waits for a block node's requests before it answers. */
const SLOW_MS = 60_000;
const bytesPerS = (bps: number): number => Math.max(1, Math.floor(bps / 8));
const MIB = 2 ** 20;

// ---- files ----

/**
 * Makes the files of disks that are about to come. Nothing is ever written over. Resolves to their paths.
 *
 * @throws FairwayError `disk-exists` or `disk-full` (conflict), `disk-made` with what the system said.
 */
export async function makeDisks(disks: readonly Disk[], host: string, wholeSize: boolean): Promise<string[]> {
  const made: string[] = [];
  try {
    for (const { path, sizeBytes, format } of disks) {
      if (existsSync(path)) {
        const text = `${path} exists on ${host} already, and nothing is written over: move it away, or set the agent's diskFolder`;
        throw new FairwayError('disk-exists', text, ['conflict']);
      }
      mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
      const { bavail, bsize } = statfsSync(dirname(path));
      if (wholeSize && bavail * bsize < sizeBytes) {
        const text = `${dirname(path)} on ${host} has ${Math.floor((bavail * bsize) / MIB)} MiB left, and the disk ${path} needs ${Math.ceil(sizeBytes / MIB)} MiB: make room there`;
        throw new FairwayError('disk-full', text, ['conflict']);
      }
      made.push(path);
      if (format === 'raw') {
        const file = openSync(path, 'wx', 0o600);
        try {
          ftruncateSync(file, sizeBytes);
        } finally {
          closeSync(file);
        }
      } else {
        await run('qemu-img', ['create', '-q', '-f', format, path, String(sizeBytes)], 30_000).catch(
          (error: unknown) => {
            const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
            const cure = missing ? 'qemu-img is not installed (Debian: apt-get install qemu-utils)' : messageOf(error);
            throw new FairwayError('disk-made', `${path} could not be made on ${host}: ${cure}`, [], error);
          },
        );
      }
    }
    return made;
  } catch (error) {
    removeDisks(made);
    if (error instanceof FairwayError) throw error;
    throw new FairwayError('disk-made', `a disk could not be made on ${host}: ${messageOf(error)}`, [], error);
  }
}

/** @throws FairwayError `disk-missing` unless all are here, of their size: for storage that both hosts share. */
export function checkSharedDisks(disks: readonly Disk[], host: string): void {
  for (const { path, sizeBytes, format } of disks) {
    const size = existsSync(path) ? statSync(path).size : undefined;
    if (size !== undefined && (format !== 'raw' || size === sizeBytes)) continue;
    const what = size === undefined ? 'is not there' : `has ${size} bytes there and not ${sizeBytes}`;
    const text = `${path} ${what} on ${host}: storage shared needs the same file on both hosts; else say mirrored or on-demand`;
    throw new FairwayError('disk-missing', text, ['conflict']);
  }
}

export function removeDisks(paths: readonly string[]): void {
  for (const path of paths) rmSync(path, { force: true });
}

/**
 * Puts files aside whose guest has gone with their contents: no one takes them for the guest's disk by mistake, and they are
 * still there if they are wanted. Of each only the last is kept.
 */
export function putAside(disks: readonly Pick<Disk, 'path'>[]): void {
  for (const { path } of disks) if (existsSync(path)) renameSync(path, `${path}.left`);
}

// ---- exports ----

/**
 * Exports a machine's disks over NBD on the first of these ports that is free. Exported already, it answers `undefined`.
 *
 * @param writable for a mirror; else the machine may stop being the disks' owner while they are read
 * @throws FairwayError `nbd-port` when none is free.
 */
export async function exportDisks(
  qmp: QmpClient,
  count: number,
  address: string,
  ports: readonly number[],
  writable: boolean,
): Promise<DiskOffer> {
  let last = 'no port is left in incomingPorts';
  for (const port of ports) {
    try {
      await qmp.execute('nbd-server-start', { addr: { type: 'inet', data: { host: address, port: String(port) } } });
    } catch (error) {
      if (!isNothing(error)) throw error;
      last = messageOf(error);
      continue;
    }
    try {
      for (let i = 0; i < count; i++) {
        const name = diskNodes(i).disk;
        await qmp.execute('block-export-add', {
          ...{ type: 'nbd', id: `${name}-export`, 'node-name': name, name, writable },
          ...(writable ? {} : { 'allow-inactive': true }),
        });
      }
      return { address, port };
    } catch (error) {
      await stopExports(qmp);
      throw error;
    }
  }
  const text = `disks cannot be exported at ${address}: ${last}; free a port of incomingPorts there, or give it more`;
  throw new FairwayError('nbd-port', text, ['retryable']);
}

/** Ends all exports, if there are any; connections are closed. */
export async function stopExports(qmp: QmpClient): Promise<void> {
  await qmp.execute('nbd-server-stop', undefined, SLOW_MS).catch((error: unknown) => {
    if (!isNothing(error)) throw error;
  });
}

/**
 * Makes the disks of a guest that has left readable in full: while they are nobody's, QEMU answers reads only, and not where
 * there is data, which a pull asks.
 */
export async function ownAgain(qmp: QmpClient, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    await qmp.execute('blockdev-set-active', { 'node-name': diskNodes(i).disk, active: true }, SLOW_MS);
  }
}

// ---- mirrors ----

const jobsSchema = z.array(
  z.object({
    id: z.string(),
    type: z.string(),
    status: z.string(),
    'current-progress': z.number(),
    'total-progress': z.number(),
    error: z.string().optional(),
  }),
);
const askJobs = async (qmp: QmpCommands) => jobsSchema.parse(await qmp.execute('query-jobs', undefined, SLOW_MS));

export const mirrorIds = (count: number): string[] => Array.from({ length: count }, (_, i) => diskNodes(i).mirrorJob);
export const pullIds = (count: number): string[] => Array.from({ length: count }, (_, i) => diskNodes(i).pullJob);

/** How a guest's mirrors (or pulls) stand; undefined when there are none. */
export async function askDiskJobs(qmp: QmpClient, ids: readonly string[]): Promise<DiskJobs | undefined> {
  return sumJobs(await askJobs(qmp), ids);
}

/** How mirrors stand that the hypervisor's manager has begun, and what they are called; no `jobs` when there are none. */
export async function askMirrors(qmp: QmpCommands): Promise<{ ids: string[]; jobs: DiskJobs | undefined }> {
  const mirrors = (await askJobs(qmp)).filter((job) => job.type === 'mirror');
  const ids = mirrors.map((job) => job.id);
  return { ids, jobs: sumJobs(mirrors, ids) };
}

/** Begins to copy all disks; those that are being copied already stay so. @throws FairwayError when QEMU refuses. */
export async function startMirrors(qmp: QmpClient, count: number, to: DiskOffer, bps: number): Promise<void> {
  const known = new Set((await askJobs(qmp)).map((j) => j.id));
  for (let i = 0; i < count; i++) {
    const { disk, copy, mirrorJob } = diskNodes(i);
    if (known.has(mirrorJob)) continue;
    await qmp.execute('blockdev-add', copyNode(i, to), SLOW_MS).catch((error: unknown) => {
      const text = `the disks' connection to ${to.address} port ${to.port} did not come about: ${messageOf(error)}`;
      throw new FairwayError('nbd-unreachable', text, ['retryable'], error);
    });
    await qmp.execute(
      'blockdev-mirror',
      {
        ...{ 'job-id': mirrorJob, device: disk, target: copy, sync: 'full' },
        ...{ speed: Math.floor(bytesPerS(bps) / count), 'auto-dismiss': false },
      },
      SLOW_MS,
    );
  }
}

/** Sets the pace of a guest's mirrors or pulls, all together, bit/s. Jobs that have ended are left out. */
export async function paceDiskJobs(qmp: QmpCommands, ids: readonly string[], bps: number): Promise<void> {
  const speed = Math.floor(bytesPerS(bps) / Math.max(1, ids.length));
  for (const device of ids) {
    await qmp.execute('block-job-set-speed', { device, speed }).catch((error: unknown) => {
      if (!isNothing(error)) throw error;
    });
  }
}

/**
 * Ends the mirrors of a guest that stands still: what it wrote last is copied, and the two disks are the same.
 *
 * @throws FairwayError `mirror-failed` when a disk at the destination is not what it should be.
 */
export async function drainMirrors(qmp: QmpClient, count: number, clock: Clock): Promise<void> {
  const ids = mirrorIds(count);
  for (const job of await askJobs(qmp)) {
    // Ready, it ends without error only when all is copied; the machine here keeps its own disk.
    if (ids.includes(job.id) && ['ready', 'standby'].includes(job.status)) {
      await qmp.execute('block-job-cancel', { device: job.id, force: false }, SLOW_MS);
    }
  }
  for (;;) {
    const jobs = await askDiskJobs(qmp, ids);
    if (jobs === undefined) throw new FairwayError('mirror-failed', 'QEMU knows nothing of the mirror any more');
    if (jobs.status === 'failed') throw new FairwayError('mirror-failed', mirrorReason(jobs.error));
    if (jobs.status === 'ended') break;
    await new Promise<void>((resolve) => clock.after(5, resolve));
  }
  await removeMirrors(qmp, count, clock);
}

/** What a person can do about a mirror that broke. */
export function mirrorReason(error = 'no reason given'): string {
  const cure = /no space/i.test(error)
    ? 'make room on the destination for the whole disk'
    : 'see that the path between the hosts is there and that nothing else writes the disk at the destination';
  return `the disk's mirror broke: ${error}; ${cure}, and move the guest again`;
}

/** Ends block jobs at once, however far they are. Nothing to end is no error. */
async function dropJobs(qmp: QmpClient, ids: readonly string[], clock: Clock): Promise<void> {
  for (let tries = 0; tries < 1000; tries++) {
    const mine = (await askJobs(qmp)).filter((j) => ids.includes(j.id));
    if (mine.length === 0) break;
    for (const { id, status } of mine) {
      if (status === 'concluded') await qmp.execute('job-dismiss', { id });
      else if (status !== 'aborting')
        await qmp.execute('block-job-cancel', { device: id, force: true }).catch((error: unknown) => {
          if (!isNothing(error)) throw error;
        });
    }
    if (mine.some((j) => j.status !== 'concluded')) await new Promise<void>((resolve) => clock.after(20, resolve));
  }
}

/**
 * Ends mirrors at once, whatever they have copied, and lets the destination go. Nothing to end is no error. Their connections
 * are cut first: over a path that swallows everything QEMU would wait for an answer, and its guest with it.
 */
export async function dropMirrors(qmp: QmpClient, count: number, clock: Clock): Promise<void> {
  for (let i = 0; i < count; i++) {
    const instances = [{ type: 'block-node', 'node-name': diskNodes(i).copy }];
    await qmp.executeOutOfBand('yank', { instances }, SLOW_MS).catch((error: unknown) => {
      if (!isNothing(error)) throw error;
    });
  }
  await removeMirrors(qmp, count, clock);
}

async function removeMirrors(qmp: QmpClient, count: number, clock: Clock): Promise<void> {
  await dropJobs(qmp, mirrorIds(count), clock);
  for (let i = 0; i < count; i++) {
    await qmp.execute('blockdev-del', { 'node-name': diskNodes(i).copy }, SLOW_MS).catch((error: unknown) => {
      if (!isNothing(error)) throw error;
    });
  }
}

// ---- pulls ----

/** Begins to fetch what is still at the source, or goes on at another pace. */
export async function startPulls(qmp: QmpClient, count: number, bps: number): Promise<void> {
  const known = new Set((await askJobs(qmp)).map((j) => j.id));
  const speed = Math.floor(bytesPerS(bps) / count);
  for (let i = 0; i < count; i++) {
    const { disk, pullJob } = diskNodes(i);
    if (known.has(pullJob)) continue;
    // A cut path ends nothing: the pull waits as the guest does.
    const more = { 'on-error': 'stop', 'auto-dismiss': false };
    await qmp.execute('block-stream', { 'job-id': pullJob, device: disk, speed, ...more }, SLOW_MS);
  }
  await paceDiskJobs(qmp, pullIds(count), bps);
}

/** Goes on with pulls that stopped at an error. */
export async function resumePulls(qmp: QmpClient, count: number): Promise<void> {
  for (const device of pullIds(count)) {
    await qmp.execute('block-job-resume', { device }).catch((error: unknown) => {
      if (!isNothing(error)) throw error;
    });
  }
}

/** Fetches no more in the background; what was fetched stays, and the next pull goes on behind it. */
export const stopPulls = (qmp: QmpClient, count: number, clock: Clock): Promise<void> =>
  dropJobs(qmp, pullIds(count), clock);

/** Why pulls stand still, and what to do about it; undefined while they go on. */
export async function whyPullsWait(qmp: QmpClient, count: number): Promise<string | undefined> {
  const shape = z.array(z.object({ device: z.string(), 'io-status': z.string().optional() }));
  const jobs = shape.parse(await qmp.execute('query-block-jobs', undefined, SLOW_MS));
  const ids = pullIds(count);
  const status = jobs.find((j) => ids.includes(j.device) && !['ok', undefined].includes(j['io-status']))?.['io-status'];
  if (status === undefined) return undefined;
  if (status === 'nospace')
    return "the file system of the guest's disks is full: make room there, and the pull goes on";
  return 'the source cannot be read: see that its host, its machine and the path to it are there; the pull goes on when they are';
}

/** All is here: lets the source's disks go. */
export async function endPulls(qmp: QmpClient, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const { pullJob, remote } = diskNodes(i);
    await qmp.execute('job-dismiss', { id: pullJob });
    await qmp.execute('blockdev-del', { 'node-name': remote }, SLOW_MS);
  }
}

/** Bytes that this host has received from a port over the connections that are open now. */
export async function receivedFrom({ address, port }: DiskOffer): Promise<number> {
  return receivedBytes(await run('ss', ['-tinH', 'dst', address, 'and', 'dport', '=', `:${port}`], 10_000));
}
