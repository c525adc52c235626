/**
 * `readjust`: during a medium-priority migration the workload drops from 160 to 60 Mbit/s and later returns. The slice
 * should follow within two reservation periods each time; the record shows every step with its reason.
 *
 * The workload is two TCP streams of 60 and 100 Mbit/s, of which the second stops and comes back: the first goes on
 * without a break, as the traffic of a host does when one of its guests falls silent.
 */

import { isFinal } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { LabRun } from '../../../contracts/results.ts';
import type { GuestWish } from '../guests.ts';
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
import { preciseNow, sleep } from '../shell.ts';

/** Large and quiet: at 60–100 Mbit/s there is well over half a minute's worth of it. */
const GUEST: GuestWish = { index: 0, memoryMiB: 512, dirtyPagesPerS: 200, workingSetMiB: 200 };
const STEADY_MBPS = 60;
/** From the copy's start to the drop, and from the drop to the return. */
const DROP_AFTER_MS = 8000;
const RETURN_AFTER_MS = 9000;
const PERIOD_MS = DEFAULT_POLICY.reservation.periodMs;

/** A change of the workload and how soon the slice had followed it. */
export interface WorkloadChange {
  /** ms since the copy's start. */
  atMs: number;
  fromMbps: number;
  toMbps: number;
  /** What the slice comes to: capacity − clamp(rate, floor, ceiling). */
  expectedSliceMbps: number;
  /** When the slice first was within 5 % of the capacity of that; null: not before the end. */
  followedAtMs: number | null;
  delayPeriods: number | null;
}

export interface ReadjustRun extends LabRun {
  periodMs: number;
  /** Every value of the slice, with the reason for it. */
  steps: { atMs: number; mbps: number; rule: string; reason: string }[];
  changes: WorkloadChange[];
}

export function readjust(session: Session): Promise<ReadjustRun[]> {
  return withLab(
    session,
    async (lab) => {
      session.say('medium: Fairway, with a workload of 160, then 60, then 160 Mbit/s');
      const { fairway, specs } = await startFairway(session, lab, [GUEST]);
      try {
        const guest = await watchGuest(session, lab, GUEST.index);
        const steady = await Workload.start(lab, STEADY_MBPS * 1e6, 5201, session.signal);
        const varying = await Workload.start(lab, (FIGURES.workloadMbps - STEADY_MBPS) * 1e6, 5202, session.signal);
        await settle(session, lab, [guest]);
        const ids = await requestMove(fairway, specs, 'medium');
        const id = ids[0] as string;
        const startedAtMs = await fairway.until(
          'start of the copy',
          60_000,
          async () => {
            const view = await fairway.client.migration(id);
            if (isFinal(view.state)) throw new Error(`the migration ended ${view.state}: ${view.note ?? ''}`);
            return view.startedAtMs ?? undefined;
          },
          session.signal,
        );

        await sleep(startedAtMs + DROP_AFTER_MS - preciseNow(), session.signal);
        const droppedAtMs = preciseNow();
        await varying.pause();
        session.say(`  workload down to ${STEADY_MBPS} Mbit/s`);
        await sleep(droppedAtMs + RETURN_AFTER_MS - preciseNow(), session.signal);
        const receivedBefore = varying.received.length;
        await varying.resume(session.signal);
        // The workload is back when its bytes are, not when the program was asked to start.
        const returnedAtMs = varying.received[receivedBefore]?.fromMs ?? preciseNow();
        session.say(`  workload back at ${FIGURES.workloadMbps} Mbit/s`);

        const views = await follow(session, fairway, ids, 300_000);
        const view = views[0] as (typeof views)[number];
        const copy = copyOf(view, 'medium');
        const base = await measured(session, lab, copy, guest, [steady, varying], {
          fromMs: droppedAtMs,
          // A stream that begins anew needs a moment to reach its rate.
          toMs: returnedAtMs + 1000,
        });
        const steps = view.sliceSteps.map((s) => ({
          atMs: Math.round(s.atMs - copy.startMs),
          mbps: round(s.rateBps / 1e6),
          rule: s.reason.rule,
          reason: s.reason.text,
        }));
        const at = (ms: number) => Math.round(ms - copy.startMs);
        const run: ReadjustRun = {
          ...base,
          periodMs: PERIOD_MS,
          steps,
          changes: [
            change(steps, at(droppedAtMs), FIGURES.workloadMbps, STEADY_MBPS, at(returnedAtMs)),
            change(steps, at(returnedAtMs), STEADY_MBPS, FIGURES.workloadMbps, copy.totalMs),
          ],
        };
        session.say(`  ${summary(run)}`);
        for (const c of run.changes) {
          const delay = c.delayPeriods === null ? 'not followed' : `followed after ${c.delayPeriods} periods`;
          session.say(`  ${c.fromMbps} → ${c.toMbps} Mbit/s: slice to ${c.expectedSliceMbps}, ${delay}`);
        }
        await noteSwitchLeftovers(session, lab, fairway);
        return [run];
      } finally {
        await fairway.stop();
      }
    },
    true,
  );
}

/** How the slice followed a change of the workload from one rate to another; looks no further than `untilMs`. */
export function change(
  steps: readonly { atMs: number; mbps: number }[],
  atMs: number,
  fromMbps: number,
  toMbps: number,
  untilMs: number,
): WorkloadChange {
  const { capacityMbps, floorMbps, ceilingMbps } = FIGURES;
  const expectedSliceMbps = capacityMbps - Math.min(ceilingMbps, Math.max(floorMbps, toMbps));
  const followed = steps.find(
    (s) => s.atMs >= atMs && s.atMs < untilMs && Math.abs(s.mbps - expectedSliceMbps) <= 0.05 * capacityMbps,
  );
  return {
    atMs,
    fromMbps,
    toMbps,
    expectedSliceMbps,
    followedAtMs: followed?.atMs ?? null,
    delayPeriods: followed === undefined ? null : Math.round(((followed.atMs - atMs) / PERIOD_MS) * 100) / 100,
  };
}
