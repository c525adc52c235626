/**
 * Groups in `controller/core` under random guests, priorities, deadlines, memory and drift: every plan made from the state is
 * one that the independent checker finds nothing wrong with, a less urgent migration never delays a more urgent one, floors
 * are kept, and everybody arrives.
 */
import fc from 'fast-check';
import { isFinal, PRIORITIES } from '../../contracts/common.ts';
import { planJobs } from '../../controller/core/planning.ts';
import type { Job } from '../../controller/core/state.ts';
import { checkPlan } from '../../policies/planCheck/index.ts';
import { Star, type StarGuest } from '../unit/controller/group.ts';

const HOSTS = 4;
const move = fc.record({
  from: fc.integer({ min: 1, max: HOSTS }),
  hop: fc.integer({ min: 1, max: HOSTS - 1 }),
  memoryMiB: fc.constantFrom(64, 128, 256),
  priority: fc.constantFrom(...PRIORITIES),
  deadlineMs: fc.option(fc.integer({ min: 1000, max: 60_000 }), { nil: undefined }),
});
const trouble = fc.record({
  atStep: fc.integer({ min: 2, max: 30 }),
  what: fc.constantFrom('capacity', 'workload', 'cancel'),
  mbps: fc.integer({ min: 300, max: 900 }),
});

test('plans from random states are feasible, keep priorities, and are carried out', () => {
  fc.assert(
    fc.property(
      fc.array(move, { minLength: 3, maxLength: 9 }),
      fc.array(trouble, { maxLength: 2 }),
      fc.boolean(),
      (moves, troubles, isTight) => {
        const guests: StarGuest[] = moves.map((m, i) => ({ name: `g${i}`, host: m.from, memoryMiB: m.memoryMiB }));
        const s = new Star(HOSTS, guests, isTight ? { memoryMiB: 3000 } : {});
        const ids = s.ask({
          planned: true,
          moves: moves.map((m, i) => ({
            guest: `g${i}`,
            destination: `hv${((m.from - 1 + m.hop) % HOSTS) + 1}`,
            priority: m.priority,
            ...(m.deadlineMs === undefined ? {} : { deadlineMs: m.deadlineMs }),
          })),
        });
        let steps = 0;
        let revision = 0;
        s.run(240, () => {
          steps++;
          for (const t of troubles.filter((x) => x.atStep === steps)) {
            if (t.what === 'capacity') s.setCapacity(t.mbps);
            else if (t.what === 'workload') s.workload.set(1, t.mbps);
            else s.fabric.send({ kind: 'cancel', id: ids[0] as string });
          }
          const { state, nowMs } = s.fabric;
          for (const [link, share] of state.shares) {
            const sum = [...share.byMigration.values()].reduce((a, b) => a + b, 0);
            expect(sum).toBeLessThanOrEqual(state.topology.capacityBps(link) - share.floorBps + 1);
          }
          if (state.plan === null || state.plan.revision === revision) return;
          revision = state.plan.revision;
          const waiting = [...state.jobs.values()].filter((j) => j.isPlanned && (j.state === 'queued' || j.isHeld));
          if (waiting.length === 0) return;
          const { instance, plan } = planJobs(state, waiting, nowMs);
          expect(checkPlan(instance, plan, { limitPerHost: 8 })).toEqual([]);
          withoutLess(s, waiting, plan);
        });
        const left = [...s.fabric.state.jobs.values()].filter((j) => !isFinal(j.state));
        expect(left.map((j) => `${j.id} ${j.state} ${j.note}`)).toEqual([]);
        expect(s.fabric.state.shares.size).toBe(0);
        // It comes to rest: trouble is answered by few plans, not by one a second.
        expect(revision).toBeLessThanOrEqual(4 + 6 * (troubles.length + 1));
      },
    ),
    { numRuns: 8 },
  );
}, 300_000);

/** The most urgent end as they would if the others were not asked for. */
function withoutLess(s: Star, waiting: readonly Job[], plan: ReturnType<typeof planJobs>['plan']): void {
  // Where memory is short the less urgent make room for the more urgent, and must come before them.
  if ([...s.fabric.state.agents.values()].some((a) => a.guestMemoryMiB !== null)) return;
  const first = PRIORITIES.find((p) => waiting.some((j) => j.priority === p));
  const urgent = waiting.filter((j) => j.priority === first);
  const alone = planJobs(s.fabric.state, urgent, s.fabric.nowMs).plan;
  const ends = new Map(plan.migrations.map((m) => [m.vm, m.end_s]));
  // Running copies of less urgent ones give way alike in both.
  for (const m of alone.migrations) {
    if (urgent.some((j) => j.id === m.vm)) expect(ends.get(m.vm)).toBe(m.end_s);
  }
}
