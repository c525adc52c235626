/**
 * The checker of plans against plans that were good and are broken at random: each change that cannot be carried out is refused, each
 * that still can is not. Whether links and hosts hold is worked out here in the plainest way, instant by instant.
 */
import fc from 'fast-check';
import type { Plan, PlanningInstance } from '../../contracts/plan.ts';
import { randomFrom } from '../../contracts/random.ts';
import { checkPlan } from '../../policies/planCheck/index.ts';
import { planMigrations } from '../../policies/planner/index.ts';
import { anyInstance } from '../bench/planner/anyInstance.ts';

type Planned = Plan['migrations'][number];
const seeds = fc.integer({ min: 0, max: 2 ** 31 - 1 });
const rulesOf = (p: PlanningInstance, plan: Plan) => [...new Set(checkPlan(p, plan).map((v) => v.rule))];

/** A good plan of a random instance with at least one migration in it, and one of these. */
function goodPlan(seed: number): { instance: PlanningInstance; plan: Plan; one: Planned } | undefined {
  const instance = anyInstance(seed);
  const plan = structuredClone(planMigrations(instance, { work: 0 }));
  const one = plan.migrations[seed % Math.max(1, plan.migrations.length)];
  return one === undefined ? undefined : { instance, plan, one };
}

const faster = (m: Planned, times: number) => {
  for (const s of m.segments) s.mbps *= times;
};

test.each<[string, (m: Planned, p: Plan) => unknown]>([
  ['volume', (m) => faster(m, 0.5)],
  ['link', (m) => faster(m, 2)],
  ['segments', (m) => Object.assign(m, { end_s: m.end_s + 1 })],
  ['segments', (m) => Object.assign(m.segments[0] ?? {}, { mbps: -1 })],
  ['path', (m) => m.path.reverse()],
  ['path', (m) => m.path.splice(1, 0, m.path[0] as string)],
  ['listed', (m, p) => p.migrations.splice(p.migrations.indexOf(m), 1)],
  ['listed', (m, p) => p.migrations.push(structuredClone(m))],
  ['figures', (_m, p) => Object.assign(p, { makespan_s: p.makespan_s + 1 })],
])('%s: whatever was good before', (rule, change) => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const good = goodPlan(seed);
      if (good === undefined) return;
      const { instance, plan, one } = good;
      expect(rulesOf(instance, plan)).toEqual([]);
      change(one, plan);
      expect(rulesOf(instance, plan)).toContain(rule);
    }),
    { numRuns: 50 },
  );
});

/** By how much, relative to what there is, the worst link or host is overdrawn at some instant; 0 where none is. */
function overdrawn(p: PlanningInstance, plan: Plan): number {
  const vms = new Map(p.vms.map((v) => [v.id, v]));
  const tasks = new Map(p.migrations.map((m) => [m.vm, m]));
  const isLinks = p.fabric === 'links';
  const capacity = new Map<string, number>();
  for (const h of p.hosts) {
    for (const way of ['out', 'in']) capacity.set(`${h.id} ${way}`, h.nic_mbps ?? Number.POSITIVE_INFINITY);
  }
  for (const l of isLinks ? (p.links ?? []) : []) capacity.set(`${l.a}>${l.b}`, l.mbps).set(`${l.b}>${l.a}`, l.mbps);
  const uses = (nodes: readonly string[], name: string) => {
    if (name === `${nodes[0]} out` || name === `${nodes.at(-1)} in`) return true;
    return isLinks && nodes.some((n, i) => i > 0 && name === `${nodes[i - 1]}>${n}`);
  };
  let worst = 0;
  const instants = plan.migrations.flatMap((m) => [m.start_s, m.end_s, ...m.segments.map((s) => s.from_s)]);
  for (const instant of new Set(instants)) {
    // Times are whole milliseconds: nothing changes from here to there.
    const t = instant + 0.0005;
    for (const [name, mbps] of capacity) {
      const kept = [0, 0, 0];
      const own = (p.workload ?? []).filter((w) => uses([w.a, w.b], name));
      const sum = (of: (w: (typeof own)[number]) => number) => own.reduce((s, w) => s + of(w), 0);
      const [rate, floor] = [sum((w) => w.mbps), sum((w) => w.floor_mbps ?? w.mbps)];
      const ceiling = sum((w) => w.ceiling_mbps ?? Number.POSITIVE_INFINITY);
      kept[0] = floor;
      kept[1] = Math.max(floor, own.length === 0 ? 0 : Math.min(rate, ceiling));
      kept[2] = Math.max(floor, rate);
      for (const [rank, priorities] of [['high', 'medium', 'low'], ['medium', 'low'], ['low']].entries()) {
        let used = 0;
        for (const m of plan.migrations) {
          if (!uses(m.path, name) || !priorities.includes(vms.get(m.vm)?.priority ?? 'medium')) continue;
          used += m.segments.find((s) => s.from_s <= t && t < s.to_s)?.mbps ?? 0;
        }
        if (used > 0)
          worst = Math.max(worst, (used - Math.max(0, mbps - (kept[rank] as number))) / Math.min(mbps, 1e6));
      }
    }
    for (const h of p.hosts) {
      if (h.memory_units === undefined) continue;
      let units = p.vms.reduce((s, v) => s + (v.host === h.id ? (v.size_units ?? 0) : 0), 0);
      let arriving = 0;
      for (const m of plan.migrations) {
        const size = vms.get(m.vm)?.size_units ?? 0;
        if (tasks.get(m.vm)?.to === h.id && m.start_s <= t) units += size;
        if (tasks.get(m.vm)?.from === h.id && m.end_s <= t) units -= size;
        if (tasks.get(m.vm)?.to === h.id && m.start_s === instant) arriving += size;
      }
      // A host that was too full before is nobody's mistake but of who arrives then.
      if (arriving > 0) worst = Math.max(worst, units - h.memory_units);
    }
  }
  return worst;
}

test('a migration moved in time is refused just where a link or a host does not hold it', () => {
  fc.assert(
    fc.property(seeds, (seed) => {
      const good = goodPlan(seed);
      if (good === undefined) return;
      const { instance, plan, one } = good;
      const random = randomFrom(seed);
      // To where it starts, or ends, of another, or somewhere.
      const other = plan.migrations[Math.floor(random() * plan.migrations.length)] as Planned;
      const length = one.end_s - one.start_s;
      const wanted = [other.start_s, other.end_s, Math.max(0, other.start_s - length), random() * plan.makespan_s];
      const byMs = Math.round(((wanted[Math.floor(random() * 4)] as number) - one.start_s) * 1000);
      const moved = (s: number) => (Math.round(s * 1000) + byMs) / 1000;
      Object.assign(one, { start_s: moved(one.start_s), end_s: moved(one.end_s) });
      for (const s of one.segments) Object.assign(s, { from_s: moved(s.from_s), to_s: moved(s.to_s) });
      const over = overdrawn(instance, plan);
      const found = rulesOf(instance, plan).filter((r) => r === 'link' || r === 'memory');
      // What may be rounding is neither.
      if (over > 0 && over < 1e-4) return;
      expect({ seed, isRefused: found.length > 0 }).toEqual({ seed, isRefused: over > 0 });
    }),
    { numRuns: 200 },
  );
});
