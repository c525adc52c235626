/**
 * What became of a copy between libvirts: by the exit status of its `virsh` where that has brought libvirt's word, else by where libvirt
 * says that its guest is. A client that was killed, or lost its daemon, says nothing of the copy, which libvirt goes on with.
 * Part of `libvirtSource.ts`.
 */
import type { Clock } from '../../contracts/clock.ts';
import type { Log } from '../../contracts/log.ts';
import { libvirtReason, statsToInfo } from '../core/libvirt.ts';
import type { MigrateInfo, MigrateRam } from '../core/progress.ts';
import { isEnded, type SourceState } from '../core/sourceState.ts';
import { mirrorReason } from './disks.ts';
import { wait } from './driverParts.ts';
import type { Job, JobBook } from './jobBook.ts';
import type { LibvirtGuests } from './libvirtGuests.ts';
import type { LibvirtJobs } from './libvirtJobs.ts';

/** `domjobinfo --rawstats` as pairs; nothing when libvirt gave no answer. */
export type JobStats = Record<string, string>;
/** libvirt is busy with a copy. */
export const isUnderWay = (stats: JobStats): boolean => Number(stats['Job type'] ?? 0) !== 0;
const isKnownOver = (stats: JobStats): boolean => stats['Job type'] !== undefined && !isUnderWay(stats);

export interface LibvirtEndOptions {
  clock: Clock;
  log: Log;
  book: JobBook;
  guests: LibvirtGuests;
  jobs: LibvirtJobs;
  /** @throws FairwayError when the job is not a source's. */
  stateOf(job: Job): SourceState;
  jobInfo(job: Job): Promise<JobStats>;
  /** libvirt's statistics of a copy that completed, once they have been heard. */
  takeCompleted(guest: string): JobStats | undefined;
  /** The guest stays: its limits are what they were. */
  putBack(job: Job): Promise<void>;
}

export interface LibvirtEnd {
  /** Exit status of the copy's `virsh`, if that speaks of the copy; undefined while it runs, and when it can say nothing. */
  statusOf(job: Job): number | undefined;
  /** Why `virsh` says that there was no copy, and what to do about it. */
  reasonOf(job: Job): string;
  /** The end by the status of `virsh`. Undefined while libvirt, asked about a copy that failed, does not answer. */
  endOf(job: Job, code: number): Promise<MigrateInfo | undefined>;
  /** Of a copy that libvirt is not busy with though nobody has spoken of its end; undefined while somebody may yet. */
  orphanOf(job: Job, stats: JobStats): Promise<MigrateInfo | undefined>;
  /** @param said libvirt's word on a copy that did not succeed; undefined when there is none */
  fateOf(job: Job, said: string | undefined): Promise<MigrateInfo | undefined>;
}

const STEP_MS = 20;
/** How long the events of a copy that ended may lag behind its end. */
const EVENT_WAIT_MS = 2000;
/** A `virsh` whose copy has ended ends soon, unless libvirt cannot reach the other host's. */
export const VIRSH_END_MS = 10_000;

const LOST = /Disconnected from|End of file while reading|client socket is closed|Cannot recv data|Connection reset/i;

export function createLibvirtEnd(options: LibvirtEndOptions): LibvirtEnd {
  const { clock, log, book, guests, jobs, stateOf, jobInfo, putBack } = options;
  /** Since when neither libvirt nor its client has said anything of a copy, by migration. */
  const silentSince = new Map<string, number>();

  /** What was seen last must do. */
  const lastSeen = ({ progress: p }: SourceState): MigrateRam => ({
    transferred: p?.transferredBytes ?? 0,
    remaining: 0,
    total: p?.totalBytes ?? 0,
    mbps: (p?.rateBps ?? 0) / 1e6,
    'dirty-sync-count': p?.passes ?? 0,
  });

  function statusOf(job: Job): number | undefined {
    const code = jobs.status(job.id);
    if (code === undefined || code === 0) return code;
    const isLost = code > 128 || LOST.test(jobs.said(job.id));
    return isLost ? undefined : code;
  }

  function reasonOf(job: Job): string {
    const said = jobs.said(job.id);
    return /migration of disk \S+ failed/.test(said) ? mirrorReason(said) : libvirtReason(said);
  }

  async function endOf(job: Job, code: number): Promise<MigrateInfo | undefined> {
    if (code !== 0) return fateOf(job, reasonOf(job));
    const s = stateOf(job);
    // `virsh` may end before the other one, which listens, has told what it heard: that the copy turned, and the figures.
    for (let waitedMs = 0; ; waitedMs += STEP_MS) {
      const stats = options.takeCompleted(job.guest);
      const info = stats === undefined ? undefined : statsToInfo(stats, 'completed');
      if (info !== undefined) return info;
      if (waitedMs >= EVENT_WAIT_MS || isEnded(stateOf(job).phase)) break;
      await wait(clock, STEP_MS);
    }
    // libvirt's final word was not heard.
    return { status: 'completed', ...(s.progress === null ? {} : { ram: lastSeen(s) }) };
  }

  async function orphanOf(job: Job, stats: JobStats): Promise<MigrateInfo | undefined> {
    if (!isKnownOver(stats) && (await whereIs(job)) !== undefined) {
      silentSince.delete(job.id);
      return undefined;
    }
    const sinceMs = silentSince.get(job.id) ?? clock.now();
    silentSince.set(job.id, sinceMs);
    return clock.now() - sinceMs < VIRSH_END_MS ? undefined : fateOf(job, undefined);
  }

  /** How libvirt says that the guest is here; undefined when it knows none, null when it does not answer. */
  const whereIs = (job: Job): Promise<{ state: string; why: string } | undefined | null> =>
    guests.howIs(job.guest).catch((error: unknown) => {
      log('debug', 'libvirt-unreachable', { guest: job.guest, error });
      return null;
    });

  async function fateOf(job: Job, said: string | undefined): Promise<MigrateInfo | undefined> {
    const how = await whereIs(job);
    if (how === null) return undefined;
    if (said === undefined && how !== undefined && !isKnownOver(await jobInfo(job))) return undefined;
    silentSince.delete(job.id);
    // Listeners may hear late, or not at all, that the guest had left: nobody may think that it goes on here.
    const hasLeft = how?.state === 'paused' && how.why.startsWith('post-copy');
    if (hasLeft && !stateOf(job).postcopyStarted) {
      book.follow(job, { type: 'status', info: { status: 'postcopy-active' } });
    }
    const s = stateOf(job);
    // What libvirt does not know any more has gone to the other host; what it knows has not.
    if (said === undefined && how === undefined) return { status: 'completed', ram: lastSeen(s) };
    await guests.refresh(job.guest);
    const why = said ?? 'virsh was ended before the copy was';
    // A guest that has left is not given its limits back, nor would libvirt answer.
    if (!s.postcopyStarted) {
      await putBack(job);
      return { status: s.cancelRequested ? 'cancelled' : 'failed', 'error-desc': why, ram: lastSeen(s) };
    }
    const broke = `the stream broke during post-copy: ${why}; the guest waits at the destination for pages that are only here: stop neither machine, and see docs/agent.md`;
    return { status: 'failed', 'error-desc': broke, ram: lastSeen(s) };
  }

  return { statusOf, reasonOf, endOf, orphanOf, fateOf };
}
