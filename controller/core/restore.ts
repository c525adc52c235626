/** Jobs of an earlier life of the controller, from its journal. What became of them meanwhile, agents and switches tell. */
import { isFinal, jobStateSchema } from '../../contracts/common.ts';
import { restoredPaces } from './hold.ts';
import { overlayEntry, restoredOverlays } from './overlays.ts';
import { newPull } from './pull.ts';
import { goesOn } from './settle.ts';
import type { ControllerState, Job } from './state.ts';
import { tunnelsLeft } from './tunnels.ts';

/** Ended jobs kept for readers after a restart. */
const KEPT_ENDED = 100;

/** A pull that has not ended goes on after the restart. */
const hasOpenPull = (j: Job): boolean => ['waiting', 'running', 'stopping', 'away'].includes(j.pull?.state ?? 'done');

/** What journals of earlier versions do not tell. */
const ABSENT: Pick<Job, 'deadlineAtMs' | 'isPlanned' | 'planned' | 'isHeld' | 'behind' | 'recovery' | 'busyUntilMs'> = {
  deadlineAtMs: null,
  isPlanned: false,
  planned: null,
  isHeld: false,
  behind: [],
  recovery: null,
  busyUntilMs: null,
};

/** Whether a job has changed in what a restarted controller must know; progress and pace it finds out for itself. */
export function isWorthKeeping(before: Job | undefined, after: Job): boolean {
  if (before === undefined || KEPT_FIELDS.some((f) => before[f] !== after[f])) return true;
  const { pull } = after;
  if (before.pull?.state !== pull?.state || before.pull?.rateBps !== pull?.rateBps) return true;
  return (pull?.takenBps ?? 0) > (before.pull?.takenBps ?? 0);
}
const KEPT_FIELDS = [
  ...['state', 'awaiting', 'destination', 'stream', 'technique', 'enforcement', 'links', 'isHeld'],
  ...['reroutedAtMs', 'paused', 'flipped', 'resumed', 'copyEnded', 'cancelling', 'disksFrom', 'disksPulled'],
  'mostPacedBps',
] as const satisfies readonly (keyof Job)[];

function asJob(entry: Record<string, unknown>): Job | undefined {
  const job = entry.job as Partial<Job> | undefined;
  const sound =
    entry.type === 'job' &&
    typeof job?.id === 'string' &&
    typeof job.number === 'number' &&
    [job.guest, job.from, job.to, job.spec?.mac].every((x) => typeof x === 'string') &&
    [job.links, job.dpids, job.reasons, job.sliceSteps, job.transitions].every(Array.isArray) &&
    jobStateSchema.safeParse(job.state).success;
  if (!sound) return undefined;
  const pullBps = job.asked?.options?.pullBps;
  // Of a version in which destinations pulled as soon as they could, in no slice.
  const isPulledUnsaid = job.pull === undefined && pullBps !== undefined && job.disksPulled !== true;
  return { ...ABSENT, ...(isPulledUnsaid ? { pull: newPull(pullBps, 0) } : {}), ...job } as Job;
}

/** The state with the jobs and the guests away from home that the journal tells of: each as it was last written. */
export function restoreJobs(state: ControllerState, entries: readonly Record<string, unknown>[]): ControllerState {
  const last = new Map<string, Job>();
  for (const e of entries) {
    const job = asJob(e);
    if (job) {
      last.delete(job.id);
      last.set(job.id, job);
    }
  }
  const all = [...last.values()];
  const isOver = (j: Job) => isFinal(j.state) && !hasOpenPull(j);
  const ended = all.filter(isOver).slice(-KEPT_ENDED);
  const open = all.filter((j) => !isOver(j));
  // Whether a copy still runs is found out anew.
  const known = open.map((j) => (j.isReleased ? { ...j, isReleased: false } : j));
  const jobs = new Map([...ended, ...known].map((j) => [j.id, j]));
  const overlays = restoredOverlays(entries);
  // A tunnel's key is the number of the job that it began with.
  const used = [...all.map((j) => j.number), ...[...overlays.values()].map((o) => o.key)];
  const nextNumber = used.reduce((n, number) => Math.max(n, number + 1), state.nextNumber);
  const hasJobs = open.some(goesOn);
  const restored = {
    ...{ ...state, jobs, overlays, nextNumber },
    paces: restoredPaces(known),
    settling: { ...state.settling, hasJobs },
  };
  return { ...restored, tunnels: tunnelsLeft(restored) };
}

/** What a compacted journal must hold: every job, and every guest away from home, as they are now. */
export const journalOf = (state: ControllerState, nowMs: number): object[] => [
  ...[...state.jobs.values()].map((job) => ({ type: 'job', atMs: nowMs, job })),
  ...[...state.overlays.values()].map((o) => overlayEntry(o.guest, o, nowMs)),
];
