/**
 * Disks that stay behind (storage `on-demand`), as the controller sees them: the source offers them before the destination is
 * prepared, and is let go when nobody reads them any more: long after the migration's end, perhaps, and whichever agents
 * were away meanwhile. Part of `jobs.ts` and `returns.ts`, which say when; `docs/adr/0013-storage.md` says why.
 */
import type { AgentMessage } from '../../contracts/agent.ts';
import { isFinal } from '../../contracts/common.ts';
import { pullEnded } from './pull.ts';
import type { Job } from './state.ts';
import type { Turn } from './turn.ts';

const isOnDemand = (job: Job): boolean => job.asked.options?.storage === 'on-demand';

/** Has the source let its disks be read: the destination reads them from its first instant, so it must know where. */
export function offerDisks(t: Turn, job: Job): void {
  t.setJob(job.id, { awaiting: 'offerDisks' });
  t.command(job.from, job.id, { do: 'offerDisks', migration: job.id, guest: job.guest });
}

/**
 * Whether the guest's machine at a job's source is a later migration's business by now: one that began there, or that brings the
 * guest back there, from its `prepare` on. One that leads elsewhere, that has not begun, or that came to nothing leaves it alone.
 */
export const isOvertaken = (t: Turn, job: Job): boolean =>
  [...t.state.jobs.values()].some((j) => {
    if (j.guest !== job.guest || j.number <= job.number) return false;
    return j.from === job.from || (j.to === job.from && j.technique !== null && (j.resumed || !isFinal(j.state)));
  });

/** Nobody reads the source's disks any more: it need not serve them. */
export function releaseDisks(t: Turn, job: Job): void {
  if (!isOnDemand(job) || isOvertaken(t, job)) return;
  t.command(job.from, job.id, { do: 'releaseDisks', migration: job.id, guest: job.guest });
}

/** The destination says that it has all of the disks. It says so again whenever it comes back. */
export function onDisksPulled(t: Turn, host: string, m: AgentMessage): void {
  if (m.type !== 'event' || m.event !== 'disksPulled') return;
  const job = t.job(m.migration);
  if (job?.to !== host || !isOnDemand(job)) return;
  if (job.disksPulled !== true) pullEnded(t, t.setJob(job.id, { disksPulled: true }));
  // Earlier than that, the source still has memory to send or flows that lead to it: it is let go at the end (`drain`).
  if (job.state === 'done') releaseDisks(t, job);
}

/**
 * A source that came back may have missed that its disks are not read any more, or could not be told while another migration
 * was to bring the guest back. To be told twice does no harm.
 */
export function releaseAgain(t: Turn, host: string, guest?: string): void {
  for (const job of t.state.jobs.values()) {
    if (job.from !== host || !isFinal(job.state) || (guest !== undefined && job.guest !== guest)) continue;
    const isPulled = job.state === 'done' && job.disksPulled === true;
    // Of one that was given up it may not be known whether its guest runs at the destination, and reads them.
    const isKnown = job.state !== 'lost' || t.state.agents.get(job.to)?.connected === true;
    if (isPulled || (job.technique !== null && !job.resumed && isKnown)) releaseDisks(t, job);
  }
}
