/**
 * Disks of guests as QEMU sees them: names of block nodes, what mirrors and pulls say, and how a slice is divided between
 * memory and disks. Pure; `io/disks.ts` does what is said here, `core/sourceMirror.ts` and `core/qemuArgv.ts` use it.
 * docs/adr says why it is done like this.
 */
import type { CopyProgress, Disk, DiskOffer, GuestSpec, StorageMode } from '../../contracts/agent.ts';
import { FairwayError } from '../../contracts/common.ts';

/** QEMU's names for what belongs to a guest's disk `i`, the same on every host. */
export interface DiskNodes {
  readonly file: string;
  /** What the guest reads and writes; also the name of its NBD export. */
  readonly disk: string;
  readonly device: string;
  /** Keeps what was read of `remote`. */
  readonly fetching: string;
  /** The source's disk, read over the network. */
  readonly remote: string;
  /** The destination's disk, written over the network. */
  readonly copy: string;
  readonly mirrorJob: string;
  readonly pullJob: string;
}

export const diskNodes = (i: number): DiskNodes => ({
  file: `disk${i}-file`,
  disk: `disk${i}`,
  device: `disk${i}-device`,
  fetching: `disk${i}-fetching`,
  remote: `disk${i}-remote`,
  copy: `disk${i}-copy`,
  mirrorJob: `disk${i}-mirror`,
  pullJob: `disk${i}-pull`,
});

const inet = (at: DiskOffer) => ({ type: 'inet', host: at.address, port: String(at.port) });

/** How long a read waits for a cut connection before it fails, s. Then the guest stands still until the path is back. */
const RECONNECT_S = 10;

/**
 * Options of the node that reads disk `i` where it was left.
 *
 * Around the connection lies a quorum of one, for what it does when nobody says where on the disk there is data (the path is
 * cut, or the source is not the disk's owner while memory still comes from there): it says that there is data everywhere. Told of
 * the failure itself, the filter of QEMU's block-stream answers a guest's read with success and no data (10.0,
 * block/copy-on-read.c: with `bottom` set it breaks off where an extent of length 0 is reported), and what happened to be in
 * the buffer is then kept as the disk's content.
 */
export const remoteNode = (i: number, from: DiskOffer) => ({
  driver: 'quorum',
  'node-name': diskNodes(i).remote,
  'vote-threshold': 1,
  'read-pattern': 'fifo',
  'read-only': true,
  children: [
    {
      driver: 'nbd',
      server: inet(from),
      export: diskNodes(i).disk,
      'read-only': true,
      'reconnect-delay': RECONNECT_S,
    },
  ],
});

/** Options of the node that disk `i` is mirrored to. */
export const copyNode = (i: number, to: DiskOffer) => ({
  driver: 'nbd',
  'node-name': diskNodes(i).copy,
  server: inet(to),
  export: diskNodes(i).disk,
});

/** How the mirrors or pulls of a guest stand, all disks together. */
export interface DiskJobs {
  readonly status: 'copying' | 'ready' | 'ended' | 'failed';
  readonly error?: string;
  readonly done: NonNullable<CopyProgress['disk']>;
}

/** The part of `query-jobs` that is used here. */
export interface BlockJob {
  id: string;
  status: string;
  'current-progress': number;
  'total-progress': number;
  error?: string | undefined;
}

/** Sums up the jobs with these ids; undefined when QEMU knows none of them. */
export function sumJobs(jobs: readonly BlockJob[], ids: readonly string[]): DiskJobs | undefined {
  const mine = jobs.filter((j) => ids.includes(j.id));
  if (mine.length === 0) return undefined;
  const sum = (key: 'current-progress' | 'total-progress') => mine.reduce((total, j) => total + j[key], 0);
  const transferredBytes = sum('current-progress');
  const totalBytes = Math.max(transferredBytes, sum('total-progress'));
  const done = { transferredBytes, totalBytes, remainingBytes: totalBytes - transferredBytes };
  const error = mine.find((j) => j.error !== undefined)?.error;
  if (error !== undefined) return { status: 'failed', error, done };
  if (mine.length < ids.length || mine.some((j) => j.status === 'aborting')) return { status: 'copying', done };
  if (mine.every((j) => j.status === 'concluded')) return { status: 'ended', done };
  return { status: mine.every((j) => ['ready', 'standby'].includes(j.status)) ? 'ready' : 'copying', done };
}

/** Least and most of a slice that mirrors get while memory is copied. */
const DISK_SHARE = { least: 0.1, most: 0.5 } as const;
/** A mirror must be faster than what it follows. */
const HEADROOM = 1.25;

/**
 * Divides a slice between memory and mirrors that have caught up once: the mirrors get what the guest writes and a quarter
 * more, between a tenth and half of the slice; memory gets the rest.
 *
 * @param writeBps what the guest was seen to write to its disks, bit/s
 */
export function splitPace(bandwidthBps: number, writeBps: number): { memoryBps: number; diskBps: number } {
  const share = bandwidthBps <= 0 ? DISK_SHARE.least : (HEADROOM * writeBps) / bandwidthBps;
  const diskBps = bandwidthBps * Math.min(DISK_SHARE.most, Math.max(DISK_SHARE.least, share));
  return { memoryBps: bandwidthBps - diskBps, diskBps };
}

/** The disks as they will be on a host that a guest comes to. */
export function disksAt(spec: GuestSpec, storage: StorageMode | undefined, diskFolder: string | undefined): Disk[] {
  if (storage === undefined || storage === 'shared') return spec.disks ?? [];
  return (spec.disks ?? []).map((d) => ({
    ...d,
    path: diskFolder === undefined ? d.path : `${diskFolder.replace(/\/+$/, '')}/${d.path.split('/').at(-1)}`,
    // What was written and what was fetched lies over what is still at the source.
    format: storage === 'on-demand' ? 'qcow2' : d.format,
  }));
}

/**
 * Refuses a guest whose disks nothing was said about, and the contrary.
 *
 * @throws FairwayError `storage-unsaid` or `storage-without-disks` (badInput).
 */
export function checkStorage(spec: GuestSpec, storage: StorageMode | undefined): void {
  const count = spec.disks?.length ?? 0;
  if (count > 0 && storage === undefined) {
    const text = `guest ${spec.name} has ${count === 1 ? 'a disk' : `${count} disks`}: say what becomes of it with storage shared, mirrored or on-demand`;
    throw new FairwayError('storage-unsaid', text, ['badInput']);
  }
  if (count === 0 && storage !== undefined) {
    throw new FairwayError('storage-without-disks', `guest ${spec.name} has no disks: leave storage ${storage} out`, [
      'badInput',
    ]);
  }
}

/** Payload received, from `ss -tinH`: the sum over the connections it lists. */
export function receivedBytes(text: string): number {
  return [...text.matchAll(/\bbytes_received:(\d+)/g)].reduce((sum, m) => sum + Number(m[1]), 0);
}
