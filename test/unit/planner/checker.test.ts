/** The checker finds each kind of mistake: a right plan, broken in one way. */
import type { Plan, PlanningInstance } from '../../../contracts/plan.ts';
import { checkPlan } from '../../../policies/planCheck/index.ts';
import { flat, guest } from './samples.ts';

/** Two guests of 500 MB change places on hosts with room for one more; a third follows the first. */
const instance: PlanningInstance = flat(
  'abc',
  [guest('u', 'a', { hot_dirty_mb: 50, hot_dirty_s: 1 }), guest('v', 'b', { priority: 'high' }), guest('w', 'a')],
  { u: { to: 'b', deadline_s: 12 }, v: 'a', w: 'b' },
  {
    hosts: ['a', 'b', 'c'].map((id) => ({ id, nic_mbps: 500, memory_units: 3 })),
    workload: [{ a: 'c', b: 'a', mbps: 100, floor_mbps: 0 }],
  },
);
const segment = (from_s: number, to_s: number, mbps: number) => ({ from_s, to_s, mbps });
const run = (vm: string, path: string[], ...segments: ReturnType<typeof segment>[]): Plan['migrations'][number] => ({
  vm,
  start_s: segments[0]?.from_s ?? 0,
  end_s: segments.at(-1)?.to_s ?? 0,
  technique: 'pre-copy',
  segments,
  path,
  reason: 'because',
});
const right = (): Plan => ({
  format: 'plan/1',
  instance: 'test',
  makespan_s: 19,
  lower_bound_s: 0,
  migrations: [
    run('u', ['a', 'b'], segment(0, 10, 500)),
    run('v', ['b', 'a'], segment(0, 9, 500)),
    run('w', ['a', 'b'], segment(10, 14, 500), segment(14, 19, 500)),
  ],
});
const broken = (change: (p: Plan) => unknown) => {
  const plan = right();
  change(plan);
  return plan;
};
const at = (p: Plan, i: number) => p.migrations[i] as Plan['migrations'][number];
const shift = (m: Plan['migrations'][number], s: number) => {
  m.start_s += s;
  m.end_s += s;
  for (const x of m.segments) Object.assign(x, { from_s: x.from_s + s, to_s: x.to_s + s });
};

test('a right plan has no violations', () => expect(checkPlan(instance, right())).toEqual([]));

test.each<[string, string, (p: Plan) => unknown, Partial<PlanningInstance>?, number?]>([
  ['listed', 'is neither', (p) => p.migrations.pop()],
  ['listed', 'twice', (p) => p.migrations.push(at(p, 0))],
  ['listed', 'not asked for', (p) => p.migrations.push(run('x', ['a', 'b'], segment(0, 1, 1)))],
  [
    'listed',
    'without a reason',
    (p) => Object.assign(p, { migrations: p.migrations.slice(0, 2), refused: [{ vm: 'w', reason: '' }] }),
  ],
  ['segments', 'has a segment from 15', (p) => Object.assign(at(p, 2).segments[1] ?? {}, { from_s: 15 })],
  ['segments', 'end at 19', (p) => Object.assign(at(p, 2), { end_s: 20 })],
  ['segments', 'rate of -1', (p) => Object.assign(at(p, 2).segments[0] ?? {}, { mbps: -1 })],
  ['segments', 'rate of NaN', (p) => Object.assign(at(p, 2).segments[0] ?? {}, { mbps: Number.NaN })],
  ['path', 'leads from c', (p) => Object.assign(at(p, 2), { path: ['c', 'b'] })],
  ['path', 'names nodes between', (p) => Object.assign(at(p, 2), { path: ['a', 'c', 'b'] })],
  ['volume', 'carries 499.', (p) => Object.assign(at(p, 1).segments[0] ?? {}, { mbps: 499 })],
  ['volume', 'of the 550', (p) => Object.assign(at(p, 0).segments[0] ?? {}, { mbps: 494 })],
  [
    'converges',
    'below the 50.0 MB/s',
    (p) => Object.assign(at(p, 0), { end_s: 11, segments: [segment(0, 9.5, 500), segment(9.5, 11, 300)] }),
  ],
  ['link', 'at 9 s all slices sum up to 1000', (p) => shift(at(p, 2), -1)],
  ['link', 'low slices sum up to 500', () => undefined, { vms: instance.vms.map((v) => ({ ...v, priority: 'low' })) }],
  ['link', 'medium and low slices', () => undefined, { vms: instance.vms.map((v) => ({ ...v, priority: 'medium' })) }],
  ['link', 'all slices', () => undefined, { workload: [{ a: 'c', b: 'a', mbps: 100 }] }],
  [
    'memory',
    'holds 2 units, has room for 1',
    () => undefined,
    { hosts: instance.hosts.map((h) => ({ ...h, memory_units: h.id === 'b' ? 1 : 3 })) },
  ],
  ['limit', '2 migrations leave it', (p) => shift(at(p, 2), -1), {}, 1],
  ['figures', 'should be 19', (p) => Object.assign(p, { makespan_s: 10 })],
  ['figures', 'late', (p) => shift(at(p, 0), 5)],
])('%s: %s', (rule, text, change, more = {}, limit) => {
  const options = limit === undefined ? {} : { limitPerHost: limit };
  const found = checkPlan({ ...instance, ...more }, broken(change), options);
  expect(found).toContainEqual({ rule, what: expect.any(String), text: expect.stringContaining(text) });
});

test('in a fabric of links the path has to follow them', () => {
  const links: PlanningInstance = {
    ...instance,
    fabric: 'links',
    switches: ['s'],
    workload: [],
    links: ['a', 'b', 'c'].map((id) => ({ a: id, b: 's', mbps: 500 })),
  };
  const via = (node: string) =>
    broken((p) => {
      for (const m of p.migrations) m.path.splice(1, 0, node);
    });
  expect(checkPlan(links, via('s'))).toEqual([]);
  expect(checkPlan(links, right()).map((v) => v.rule)).toContain('path');
  expect(checkPlan(links, via('c')).map((v) => v.text)).toContain('passes through c, which is not a switch');
  const narrow = { ...links, links: links.links?.map((l) => (l.a === 'b' ? { ...l, mbps: 400 } : l)) ?? [] };
  expect(checkPlan(narrow, via('s'))).toContainEqual(expect.objectContaining({ rule: 'link', what: 's→b' }));
});
