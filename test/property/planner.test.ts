/** Plans of random instances: what holds whatever is to be moved over whatever network. */
import fc from 'fast-check';
import { type Plan, type PlanningInstance, parsePlan, parsePlanningInstance } from '../../contracts/plan.ts';
import { checkPlan } from '../../policies/planCheck/index.ts';
import { planMigrations } from '../../policies/planner/index.ts';
import { anyInstance } from '../bench/planner/anyInstance.ts';
import { mostMoved, withoutRoom } from '../bench/planner/room.ts';

const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });
const limits = fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined });
/** Enough for some dozens of tries of these small instances. */
const WORK = 5_000;

/** What is planned, without what describes it. */
const essence = (p: Plan, keep: (vm: string) => boolean = () => true) =>
  p.migrations
    .filter((m) => keep(m.vm))
    .map(({ vm, start_s, end_s, technique, segments, path }) => ({ vm, start_s, end_s, technique, segments, path }));

/** The same instance with other names. */
function renamed(p: PlanningInstance): PlanningInstance {
  const name = (node: string) => `node-${node}`;
  return {
    ...p,
    hosts: p.hosts.map((h) => ({ ...h, id: name(h.id) })),
    switches: (p.switches ?? []).map(name),
    links: (p.links ?? []).map((l) => ({ ...l, a: name(l.a), b: name(l.b) })),
    vms: p.vms.map((v) => ({ ...v, host: name(v.host) })),
    migrations: p.migrations.map((m) => ({ ...m, from: name(m.from), to: name(m.to) })),
    workload: (p.workload ?? []).map((w) => ({ ...w, a: name(w.a), b: name(w.b) })),
  };
}

test('every plan can be carried out, plans or refuses all, and keeps to its bounds', () => {
  fc.assert(
    fc.property(seeds, limits, (seed, limit) => {
      const instance = parsePlanningInstance(anyInstance(seed));
      const options = limit === undefined ? {} : { limitPerHost: limit };
      const plan = parsePlan(planMigrations(instance, { work: WORK, ...options }));
      expect(checkPlan(instance, plan, { ...options, tolerance: 1e-9 })).toEqual([]);
      expect(plan.migrations.length + (plan.refused?.length ?? 0)).toBe(instance.migrations.length);
      for (const m of [...plan.migrations, ...(plan.refused ?? [])]) expect(m.reason).not.toBe('');
      expect(plan.makespan_s).toBeGreaterThanOrEqual(plan.lower_bound_s - 1e-6);
      expect(plan.makespan_s).toBeGreaterThanOrEqual(Number(plan.memory_bound_s) - 0.1);
    }),
    // In the example one guest writes nearly as fast as it is carried.
    { numRuns: 400, examples: [[729533113, undefined]] },
  );
});

test('the same instance gives the same plan, in whatever order it is written and whatever its hosts are called', () => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const instance = anyInstance(seed);
      const plan = planMigrations(instance, { work: WORK });
      expect(planMigrations(instance, { work: WORK })).toEqual(plan);
      const turned = { ...instance, vms: [...instance.vms].reverse(), migrations: [...instance.migrations].reverse() };
      expect(essence(planMigrations(turned, { work: WORK }))).toEqual(essence(plan));
      const other = planMigrations(renamed(instance), { work: WORK });
      const path = (nodes: readonly string[]) => nodes.map((n) => n.replace('node-', ''));
      expect(essence(other).map((m) => ({ ...m, path: path(m.path) }))).toEqual(essence(plan));
    }),
    { numRuns: 100 },
  );
});

test('no priority inversion: the more urgent run as if the less urgent were not there', () => {
  fc.assert(
    fc.property(seeds, limits, (seed, limit) => {
      const instance = anyInstance(seed, { memory: false });
      const options = { work: WORK, ...(limit === undefined ? {} : { limitPerHost: limit }) };
      const plan = planMigrations(instance, options);
      const priority = new Map(instance.vms.map((v) => [v.id, v.priority ?? 'medium']));
      for (const urgent of [['high'], ['high', 'medium']]) {
        const isUrgent = (vm: string) => urgent.includes(priority.get(vm) as string);
        const alone = { ...instance, migrations: instance.migrations.filter((m) => isUrgent(m.vm)) };
        expect(essence(planMigrations(alone, options))).toEqual(essence(plan, isUrgent));
      }
    }),
    { numRuns: 200 },
  );
});

test('deadlines of the less urgent change nothing for the more urgent, also where the less urgent make room for them', () => {
  fc.assert(
    fc.property(seeds, limits, (seed, limit) => {
      const instance = anyInstance(seed);
      const options = { work: WORK, ...(limit === undefined ? {} : { limitPerHost: limit }) };
      const high = new Set(instance.vms.filter((v) => v.priority === 'high').map((v) => v.id));
      const hurried = {
        ...instance,
        migrations: instance.migrations.map((m, i) =>
          high.has(m.vm) ? m : { ...m, deadline_s: 1 + ((seed + i) % 50) },
        ),
      };
      const ofHigh = (p: Plan) => essence(p, (vm) => high.has(vm));
      expect(ofHigh(planMigrations(hurried, options))).toEqual(ofHigh(planMigrations(instance, options)));
    }),
    { numRuns: 100 },
  );
});

test('more work never makes a plan worse for its most urgent priority', () => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const instance = anyInstance(seed);
      const urgent = instance.vms.filter((v) => v.priority === 'high').map((v) => v.id);
      const score = (work: number) => {
        const plan = planMigrations(instance, { work });
        const own = plan.migrations.filter((m) => urgent.includes(m.vm));
        return [
          (plan.refused ?? []).filter((r) => urgent.includes(r.vm)).length,
          own.filter((m) => m.late_s !== undefined).length,
        ] as const;
      };
      const [little, much] = [score(0), score(WORK)];
      expect(much[0]).toBeLessThanOrEqual(little[0]);
      if (much[0] === little[0]) expect(much[1]).toBeLessThanOrEqual(little[1]);
    }),
    // In the example another guest is asked to make room, with more work, than with none, and an urgent one was stuck for it.
    { numRuns: 100, examples: [[2016041060]] },
  );
});

test('no urgent guest is refused where any order of moves has room for more of them', () => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const instance = withoutRoom(seed);
      const plan = planMigrations(instance, { work: 200 });
      expect(checkPlan(instance, plan)).toEqual([]);
      const high = new Set(instance.vms.filter((v) => v.priority === 'high').map((v) => v.id));
      expect(plan.migrations.filter((m) => high.has(m.vm)).length).toBe(mostMoved(instance, high));
    }),
    // In the examples the right ones have to make room first, and some that find room must not take it yet.
    { numRuns: 150, examples: [[395], [796], [884], [2960]] },
  );
});
