/**
 * `gang`: four guests asked for in one request while their host's uplink is under high contention. With low priority they
 * move one after the other, with high priority at the same time; the record has each guest's start and end.
 */
import type { Priority, Strategy } from '../../../contracts/common.ts';
import type { MigrationView } from '../../../contracts/feed.ts';
import type { LabRun } from '../../../contracts/results.ts';
import { type GuestWish, guestAddress } from '../guests.ts';
import { goesOnCounting, Workload } from '../measure.ts';
import {
  type Copy,
  copyOf,
  FIGURES,
  follow,
  measured,
  noteSwitchLeftovers,
  requestMove,
  type Session,
  settle,
  startFairway,
  summary,
  type Watched,
  watchGuest,
  withLab,
} from '../session.ts';

/** Small guests: four of them share two cores with everything else. */
const GUESTS: GuestWish[] = [0, 1, 2, 3].map((index) => ({
  index,
  memoryMiB: 96,
  dirtyPagesPerS: 200,
  workingSetMiB: 8,
  countMs: 1000,
}));

export interface GuestMove {
  guest: string;
  technique: string;
  /** ms since the first copy's start. */
  startMs: number;
  endMs: number;
  bytes: number;
  downtimeMs: number;
  clientSilenceMs: number;
  guestAlive: boolean;
}

/** The four together; figures of single guests are under `guests`. */
export interface GangRun extends LabRun {
  contention: string | null;
  guests: GuestMove[];
  /** Pairs of guests whose copies ran at the same time. */
  overlaps: number;
}

export async function gang(session: Session): Promise<GangRun[]> {
  return [await move(session, 'low'), await move(session, 'high')];
}

function move(session: Session, priority: Priority): Promise<GangRun> {
  return withLab(
    session,
    async (lab) => {
      session.say(`${priority}: four guests in one request`);
      const { fairway, specs } = await startFairway(session, lab, GUESTS);
      try {
        const watched: Watched[] = [];
        for (const g of GUESTS) watched.push(await watchGuest(session, lab, g.index));
        const workload = await Workload.start(lab, FIGURES.workloadMbps * 1e6, 5201, session.signal);
        await settle(session, lab, watched);
        const ids = await requestMove(fairway, specs, priority);
        const views = await follow(session, fairway, ids, 600_000);
        const copies = views.map((v) => copyOf(v, priority));
        const whole = await measured(session, lab, together(copies, priority), watched[0] as Watched, [workload]);
        const guests: GuestMove[] = [];
        for (const [i, copy] of copies.entries()) {
          const w = watched[i] as Watched;
          guests.push({
            guest: (views[i] as MigrationView).guest,
            technique: copy.technique,
            startMs: Math.round(copy.startMs - Math.min(...copies.map((c) => c.startMs))),
            endMs: Math.round(copy.startMs + copy.totalMs - Math.min(...copies.map((c) => c.startMs))),
            bytes: copy.bytes,
            downtimeMs: copy.downtimeMs,
            clientSilenceMs: Math.round(w.prober.silenceMs(copy.startMs, copy.startMs + copy.totalMs + 2000)),
            guestAlive: await goesOnCounting(lab, guestAddress(w.index), w.counted, 30_000, session.signal),
          });
        }
        const run: GangRun = {
          ...whole,
          clientSilenceMs: Math.max(...guests.map((g) => g.clientSilenceMs)),
          guestAlive: guests.every((g) => g.guestAlive),
          contention: views[0]?.contention ?? null,
          guests,
          overlaps: overlaps(guests),
        };
        session.say(`  ${run.strategy} (contention ${run.contention}); ${summary(run)}`);
        await noteSwitchLeftovers(session, lab, fairway);
        return run;
      } finally {
        await fairway.stop();
      }
    },
    priority === 'high',
  );
}

/** The group as one copy: from the first start to the last end, sums of bytes and passes, the longest downtime. */
function together(copies: readonly Copy[], mode: string): Copy {
  const startMs = Math.min(...copies.map((c) => c.startMs));
  const endMs = Math.max(...copies.map((c) => c.startMs + c.totalMs));
  const strategy: Strategy = copies.some((c) => c.strategy === 'serial') ? 'serial' : 'parallel';
  return {
    mode,
    technique: (copies[0] as Copy).technique,
    strategy,
    reasons: [...new Set(copies.flatMap((c) => c.reasons))],
    totalMs: Math.round(endMs - startMs),
    downtimeMs: Math.max(...copies.map((c) => c.downtimeMs)),
    bytes: copies.reduce((a, c) => a + c.bytes, 0),
    passes: copies.reduce((a, c) => a + c.passes, 0),
    startMs,
  };
}

/** Number of pairs of moves that ran at the same time at some instant. */
export function overlaps(moves: readonly { startMs: number; endMs: number }[]): number {
  let pairs = 0;
  for (const [i, a] of moves.entries()) {
    for (const b of moves.slice(i + 1)) if (a.startMs < b.endMs && b.startMs < a.endMs) pairs++;
  }
  return pairs;
}
