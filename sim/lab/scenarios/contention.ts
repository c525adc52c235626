/**
 * `contention`: one guest moved while a workload of 160 Mbit/s leaves its host over a link of 200: by plain QEMU without
 * Fairway, then by Fairway with low, medium and high priority. What it is to show is in `docs/lab.md`.
 */
import { PRIORITIES, type Priority } from '../../../contracts/common.ts';
import type { LabRun } from '../../../contracts/results.ts';
import { type GuestWish, guestSpec } from '../guests.ts';
import { Workload } from '../measure.ts';
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
import { migratePlain, startPlain } from '../unmanaged.ts';

/** The guest of the issue: 256 MB, of which 64 are dirtied at 2,000 pages a second. */
export const CONTENTION_GUEST: GuestWish = { index: 0, memoryMiB: 256, dirtyPagesPerS: 2000, workingSetMiB: 64 };

/** A run by Fairway tells more than every run must. */
export interface ContentionRun extends LabRun {
  contention?: string | null;
  enforcement?: string | null;
  /** Slice over time: ms since the copy's start, Mbit/s, the rule that gave it. */
  sliceSteps?: { atMs: number; mbps: number; rule: string }[];
}

export async function contention(session: Session): Promise<ContentionRun[]> {
  const runs: ContentionRun[] = [await unmanaged(session)];
  for (const priority of [...PRIORITIES].reverse()) runs.push(await managed(session, priority));
  return runs;
}

/** Pre-copy by QEMU's own defaults over switches that forward by learning. */
function unmanaged(session: Session): Promise<ContentionRun> {
  return withLab(session, async (lab) => {
    session.say('unmanaged: plain QEMU, no Fairway');
    const spec = guestSpec(session.image, CONTENTION_GUEST);
    const source = await startPlain(lab, 'hv1', spec, false);
    const guest = await watchGuest(session, lab, CONTENTION_GUEST.index);
    const workload = await Workload.start(lab, FIGURES.workloadMbps * 1e6, 5201, session.signal);
    await settle(session, lab, [guest]);
    const destination = await startPlain(lab, 'hv2', spec, true);
    const moved = await migratePlain(source, destination, session.signal);
    const run = await measured(
      session,
      lab,
      {
        mode: 'unmanaged',
        technique: 'pre-copy',
        strategy: 'parallel',
        reasons: ["QEMU's own defaults: pre-copy with no bandwidth limit below the link's, no controller, no queues"],
        totalMs: Math.round(moved.totalMs),
        downtimeMs: moved.downtimeMs,
        bytes: moved.bytes,
        passes: moved.passes,
        startMs: moved.startMs,
      },
      guest,
      [workload],
    );
    session.say(`  ${summary(run)}`);
    source.qmp.close();
    destination.qmp.close();
    return run;
  });
}

/** The same move by Fairway. */
function managed(session: Session, priority: Priority): Promise<ContentionRun> {
  return withLab(
    session,
    async (lab) => {
      session.say(`${priority}: Fairway`);
      const { fairway, specs } = await startFairway(session, lab, [CONTENTION_GUEST]);
      try {
        const guest = await watchGuest(session, lab, CONTENTION_GUEST.index);
        const workload = await Workload.start(lab, FIGURES.workloadMbps * 1e6, 5201, session.signal);
        await settle(session, lab, [guest]);
        const ids = await requestMove(fairway, specs, priority);
        const views = await follow(session, fairway, ids, 300_000);
        const view = views[0] as (typeof views)[number];
        const copy = copyOf(view, priority);
        const run: ContentionRun = {
          ...(await measured(session, lab, copy, guest, [workload])),
          contention: view.contention,
          enforcement: view.enforcement,
          sliceSteps: view.sliceSteps.map((s) => ({
            atMs: Math.round(s.atMs - copy.startMs),
            mbps: round(s.rateBps / 1e6),
            rule: s.reason.rule,
          })),
        };
        session.say(`  ${summary(run)}`);
        await noteSwitchLeftovers(session, lab, fairway);
        return run;
      } finally {
        await fairway.stop();
      }
    },
    priority === PRIORITIES[0],
  );
}
