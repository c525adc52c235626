/** Destinations for the guests of a host that is to be emptied. */
import fc from 'fast-check';
import type { PlanningInstance } from '../../../contracts/plan.ts';
import { checkPlan } from '../../../policies/planCheck/index.ts';
import { chooseDestinations, type PlacementRule, planMigrations } from '../../../policies/planner/index.ts';
import { anyInstance } from '../../bench/planner/anyInstance.ts';
import { flat, guest } from './samples.ts';

const where = (instance: PlanningInstance, rules: PlacementRule[] = [], excluded: string[] = []) => {
  const e = chooseDestinations({ instance, host: 'a', rules, excluded });
  return { ...e, to: Object.fromEntries(e.migrations.map((m) => [m.vm, m.to])) };
};
const hosts = (units: Readonly<Record<string, number>>, more: Readonly<Record<string, object>> = {}) =>
  Object.entries(units).map(([id, memory_units]) => ({ id, nic_mbps: 500, memory_units, ...more[id] }));
const db = { labels: { app: 'db' } };

test('all guests of the host, and only they, get a destination with a reason', () => {
  const e = where(flat('abc', [guest('u', 'a'), guest('v', 'a'), guest('w', 'b')], {}));
  expect(Object.keys(e.to).sort()).toEqual(['u', 'v']);
  expect(e.refused).toEqual([]);
  for (const m of e.migrations)
    expect(m).toMatchObject({ from: 'a', reason: expect.stringContaining('links are done first') });
});

test('capacity: large ones find their place though small ones would take it', () => {
  const vms = [guest('small', 'a'), guest('large', 'a', { size_units: 3 }), guest('x', 'b', { size_units: 1 })];
  expect(where(flat('', vms, {}, { hosts: hosts({ a: 8, b: 4, c: 1 }) })).to).toEqual({ large: 'b', small: 'c' });
});

test('where the first choice leaves one without a place, another is made', () => {
  // u may go anywhere, v only to b: whoever comes first, v gets b.
  const vms = [guest('u', 'a', { size_units: 2 }), guest('v', 'a', { size_units: 2, labels: { gpu: 'yes' } })];
  const more = { b: { labels: { gpu: 'yes' }, nic_mbps: 1000 } };
  const rules: PlacementRule[] = [{ kind: 'only-on', label: 'gpu', hostLabel: 'gpu=yes' }];
  expect(where(flat('', vms, {}, { hosts: hosts({ a: 8, b: 2, c: 2 }, more) }), rules).to).toEqual({ u: 'c', v: 'b' });
});

test('traffic: a destination whose NIC the workload fills inwards is avoided', () => {
  const workload = [{ a: 'd', b: 'b', mbps: 400 }];
  expect(where(flat('abcd', [guest('u', 'a')], {}, { workload, hosts: hosts({ a: 8, b: 8, c: 8, d: 0 }) })).to).toEqual(
    { u: 'c' },
  );
});

test('how long links are busy is said to be beside all of the workload, where there is any', () => {
  const busy = (workload: PlanningInstance['workload']) => {
    const e = where(flat('', [guest('u', 'a')], {}, { hosts: hosts({ a: 8, b: 8 }), ...(workload && { workload }) }));
    return /\((.*)\)$/.exec(e.migrations[0]?.reason ?? '')?.[1];
  };
  expect(busy(undefined)).toMatch(/ is busy for [0-9.]+ s$/);
  expect(busy([{ a: 'a', b: 'b', mbps: 250 }])).toMatch(/ is busy for [0-9.]+ s if the workload is left all it sends$/);
});

test('traffic: a guest that sends goes where the NIC is free outwards', () => {
  const workload = [{ a: 'b', b: 'd', mbps: 400 }];
  const e = where(
    flat('', [guest('u', 'a', { out_mbps: 300 })], {}, { workload, hosts: hosts({ a: 8, b: 8, c: 8, d: 0 }) }),
  );
  expect(e.to).toEqual({ u: 'c' });
});

test('paths: hosts behind a narrow link are left out', () => {
  const link = (a: string, b: string, mbps: number) => ({ a, b, mbps });
  const instance = flat(
    '',
    [guest('u', 'a'), guest('v', 'a'), guest('w', 'a')],
    {},
    {
      fabric: 'links',
      hosts: ['a', 'b', 'c', 'd'].map((id) => ({ id, nic_mbps: 1000, memory_units: 8 })),
      switches: ['s', 't'],
      links: [
        link('a', 's', 1000),
        link('b', 't', 1000),
        link('c', 't', 1000),
        link('d', 's', 1000),
        link('s', 't', 50),
      ],
    },
  );
  // Two of the three hosts are behind the narrow link s–t.
  expect(where(instance).to).toEqual({ u: 'd', v: 'd', w: 'd' });
});

describe('rules', () => {
  test('apart: no two with the label on one host', () => {
    const vms = [guest('u', 'a', db), guest('v', 'a', db), guest('w', 'b', db)];
    const e = where(flat('abcd', vms, {}), [{ kind: 'apart', label: 'app=db' }]);
    expect([e.to.u, e.to.v].sort()).toEqual(['c', 'd']);
  });
  test('apart, and too few hosts: refused with what stands against each', () => {
    const vms = [guest('u', 'a', db), guest('v', 'a', db), guest('w', 'b', db)];
    const e = where(flat('abc', vms, {}), [{ kind: 'apart', label: 'app=db' }]);
    expect(e.migrations).toHaveLength(1);
    expect(e.refused[0]?.reason).toMatch(
      /^no host can take it \(b: w is there, and app=db are to be apart; c: . is there/,
    );
  });
  test('together: they follow one another, and the one that stays', () => {
    const vms = [guest('u', 'a', db), guest('v', 'a', db), guest('w', 'c', db)];
    const rules: PlacementRule[] = [{ kind: 'together', label: 'app' }];
    expect(where(flat('abcd', vms, {}), rules).to).toEqual({ u: 'c', v: 'c' });
    const alone = where(flat('abcd', vms.slice(0, 2), {}), rules).to;
    expect(alone.u).toBe(alone.v);
  });
  test('never-on, and hosts that are excluded', () => {
    const more = { b: { labels: { old: '' } } };
    const instance = flat('', [guest('u', 'a', db)], {}, { hosts: hosts({ a: 8, b: 8, c: 8, d: 8 }, more) });
    expect(where(instance, [{ kind: 'never-on', label: 'app', hostLabel: 'old' }], ['c']).to).toEqual({ u: 'd' });
  });
});

test('a guest elsewhere moves only where nothing else makes room', () => {
  const vms = [guest('u', 'a', { size_units: 2 }), guest('x', 'b'), guest('y', 'c')];
  const e = where(flat('', vms, {}, { hosts: hosts({ a: 8, b: 2, c: 2 }) }));
  expect(e.refused).toEqual([]);
  expect(e.to.u).toBe('b');
  expect(e.to).toMatchObject({ x: 'c' });
  expect(e.migrations.find((m) => m.vm === 'x')?.reason).toMatch(/^makes room; c: /);
});

test('whatever the network: every guest placed or refused, room for all, and the plan of it can be carried out', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (seed) => {
      const instance = { ...anyInstance(seed), workload: [] };
      const e = chooseDestinations({ instance, host: 'h0' });
      const own = instance.vms.filter((v) => v.host === 'h0').map((v) => v.id);
      const answered = [...e.migrations, ...e.refused].map((m) => m.vm);
      expect(new Set(answered).size).toBe(answered.length);
      expect(answered).toEqual(expect.arrayContaining(own));
      const to = new Map(e.migrations.map((m) => [m.vm, m.to]));
      for (const h of instance.hosts) {
        const there = instance.vms.filter((v) => (to.get(v.id) ?? v.host) === h.id);
        const units = there.reduce((sum, v) => sum + (v.size_units ?? 0), 0);
        const arrives = e.migrations.some((m) => m.to === h.id);
        if (arrives) expect(units).toBeLessThanOrEqual(h.memory_units ?? Infinity);
      }
      expect([...to.values()]).not.toContain('h0');
      const asked = { ...instance, migrations: e.migrations.map((m) => ({ ...m })) };
      const plan = planMigrations(asked, { work: 1000 });
      expect(checkPlan(asked, plan)).toEqual([]);
      expect(chooseDestinations({ instance, host: 'h0' })).toEqual(e);
    }),
    { numRuns: 200 },
  );
});
