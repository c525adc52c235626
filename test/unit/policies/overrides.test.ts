/** Overrides: which rule counts, what it does to slices, and how it is explained; circles and hostile documents. */
import { FairwayError } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import {
  applyPolicyPatch,
  compilePolicy,
  effectivePolicy,
  explainSetting,
  flattenPolicy,
  parsePolicy,
  policyProblems,
  reserve,
  unflattenPolicy,
  withDefaults,
} from '../../../policies/index.ts';

const edit = (patch: PolicyPatch) => applyPolicyPatch(DEFAULT_POLICY, patch);
const LINK = '00000000000000aa:1';
const floors = {
  'overrides.guests.web.1.sla.floor': '10 %',
  'overrides.labels.tier.gold.sla.floor': '15 %',
  'overrides.labels.tier.gold.extends': 'tier.silver',
  'overrides.labels.tier.silver.sla.floor': '20 %',
  'overrides.labels.tier.silver.sla.ceiling': '90 %',
  'overrides.tenants.acme.sla.floor': '25 %',
  'overrides.hosts.hv1.sla.floor': '30 %',
  [`sla.links.${LINK}.floor`]: '35 %',
};
const subject = { guest: 'web.1', labels: { tier: 'gold', tenant: 'acme' }, host: 'hv1' };

describe('precedence', () => {
  const floorOf = (without: readonly string[]) => {
    const left = Object.fromEntries(
      Object.entries(floors).filter(([path]) => !without.some((w) => path.startsWith(`overrides.${w}`))),
    );
    const policy = compilePolicy(edit(left));
    return effectivePolicy(policy, subject).slaFor(LINK, 100).floorBps;
  };
  test('guest, label, label it extends, tenant, host, link, default', () => {
    expect(floorOf([])).toBeCloseTo(10);
    expect(floorOf(['guests'])).toBeCloseTo(15);
    expect(floorOf(['guests', 'labels'])).toBeCloseTo(25);
    expect(floorOf(['guests', 'labels', 'tenants'])).toBeCloseTo(30);
    expect(floorOf(['guests', 'labels', 'tenants', 'hosts'])).toBeCloseTo(35);
    const policy = compilePolicy(edit(floors));
    expect(policy.slaFor('other:1', 100).floorBps).toBeCloseTo(50);
    expect(effectivePolicy(policy, subject).slaFor(LINK, 100).ceilingBps).toBeCloseTo(90);
  });

  test('of several labels the higher rank, then the first by name', () => {
    const two = { 'overrides.labels.a.x.technique.hybridPasses': 3, 'overrides.labels.b.y.technique.hybridPasses': 4 };
    const passes = (patch: PolicyPatch) =>
      effectivePolicy(compilePolicy(edit(patch)), { labels: { b: 'y', a: 'x' } }).doc.technique.hybridPasses;
    expect(passes(two)).toBe(3);
    expect(passes({ ...two, 'overrides.labels.b.y.rank': 1 })).toBe(4);
  });

  test('a guest without rules has the policy itself, and names of the prototype have none', () => {
    const policy = compilePolicy(edit(floors));
    const other = {
      guest: 'constructor',
      labels: { toString: 'valueOf' },
      tenant: 'hasOwnProperty',
      host: '__proto__',
    };
    expect(effectivePolicy(policy, other)).toBe(policy);
    expect(effectivePolicy(policy, subject)).toBe(effectivePolicy(policy, { ...subject }));
  });
});

test('a migration with a floor of its own shares a link with one without; the least floor is kept', () => {
  const policy = compilePolicy(edit({ 'overrides.guests.vip.sla.floor': '20 %' }));
  const vip = effectivePolicy(policy, { guest: 'vip' });
  const load = { id: LINK, capacityBps: 200e6, measuredBps: 150e6, shareBps: null };
  const claim = { priority: 'high' as const, links: [LINK], phase: 'running' as const, previousBps: null };
  const r = reserve(
    {
      links: [load],
      claims: [
        { ...claim, migration: 'a', policyOn: () => vip },
        { ...claim, migration: 'b' },
      ],
    },
    policy,
  );
  // 100 Mbit/s are for both, 60 more for the one alone.
  expect(r.slices.get('a')).toMatchObject({
    rateBps: 110e6,
    reason: { inputs: { overriddenBy: 'overrides.guests.vip', floorBps: 40e6 } },
  });
  expect(r.slices.get('b')?.rateBps).toBe(50e6);
  expect(r.links.get(LINK)).toMatchObject({ workloadBps: 40e6, floorBps: 40e6 });
});

test('an expression that is no number on a peculiar link leaves the migration what it had, and says so', () => {
  const policy = compilePolicy(
    edit({ 'reservation.high': 'capacity * (1 Mbit/s) / (capacity - 123 Mbit/s) + capacity / 2' }),
  );
  const load = { id: LINK, capacityBps: 123e6, measuredBps: 0, shareBps: null };
  const claim = { migration: 'a', priority: 'high' as const, links: [LINK], phase: 'running' as const };
  const rate = (previousBps: number | null) =>
    reserve({ links: [load], claims: [{ ...claim, previousBps }] }, policy).slices.get('a');
  expect(rate(30e6)).toMatchObject({
    rateBps: 30e6,
    changed: false,
    reason: { text: expect.stringContaining('last good') },
  });
  expect(rate(null)?.rateBps).toBe(policy.doc.reservation.minSliceBps);
  // Not even so is the floor given away.
  expect(rate(120e6)?.rateBps).toBe(61.5e6);
});

test('explaining names the rule, what it goes before, and what it comes to', () => {
  const policy = compilePolicy(edit(floors));
  const inputs = { ...subject, link: LINK, capacityBps: 200e6, rateBps: 60e6 };
  const e = explainSetting(policy, 'sla.default.floor', inputs);
  expect(e.rule).toEqual({ level: 'guest', name: 'web.1', path: 'overrides.guests.web.1.sla.floor', value: '10 %' });
  expect(e.weaker.map((w) => w.level)).toEqual(['label', 'label', 'tenant', 'host', 'link', 'default']);
  expect(e.result?.bps).toBeCloseTo(20e6);
  const low = explainSetting(policy, 'reservation.low', inputs);
  expect(low).toMatchObject({
    rule: { level: 'default', value: 'capacity - rate' },
    weaker: [],
    result: { bps: 140e6 },
  });
  expect(() => explainSetting(policy, 'reservation.lo', inputs)).toThrow('no such setting');
});

test('flat fields and back, names with dots too; what is removed is gone', () => {
  const doc = edit(floors);
  expect(unflattenPolicy(flattenPolicy(doc))).toEqual(doc);
  expect(applyPolicyPatch(doc, { 'overrides.guests.web.1': null }).overrides.guests).toEqual({});
  expect(applyPolicyPatch(doc, { 'overrides.guests.web.1.sla.floor': null }).overrides.guests).toEqual({});
});

describe('refused, naming the field and the reason', () => {
  const deep = JSON.parse(`${'{"a":'.repeat(2000)}1${'}'.repeat(2000)}`);
  test.each<[string, () => unknown, string]>([
    [
      'a circle of labels',
      () =>
        edit({
          'overrides.labels.t.a.extends': 't.b',
          'overrides.labels.t.b.extends': 't.c',
          'overrides.labels.t.c.extends': 't.a',
        }),
      'overrides.labels.t.a.extends: labels extend each other in a circle: t.a → t.b → t.c → t.a',
    ],
    ['a label of itself', () => edit({ 'overrides.labels.t.a.extends': 't.a' }), 't.a → t.a'],
    ['an unknown label', () => edit({ 'overrides.labels.t.a.extends': 't.b' }), 'there is no overrides.labels.t.b'],
    ['a tenant as label', () => edit({ 'overrides.labels.tenant.a.rank': 1 }), 'write them in overrides.tenants'],
    ['a misspelt setting', () => edit({ 'overrides.guests.web1.sla.flor': '5 %' }), 'there is no such field'],
    ['a megabyte of expression', () => edit({ 'reservation.low': '1+'.repeat(500_000) }), 'characters long'],
    ['a megabyte of digits', () => edit({ 'limits.perHostIn': '1'.repeat(1_000_000) }), 'characters long'],
    [
      'a megabyte in a document',
      () => parsePolicy(withDefaults({ reservation: { low: '1'.repeat(1e6) } })),
      'reservation.low',
    ],
    ['a name of a megabyte', () => edit({ ['x'.repeat(1e6)]: 1 }), 'characters'],
    ['a negative rate', () => edit({ 'sla.default.floor': '-5 Mbit/s' }), 'sla.default.floor: is negative'],
    ['a negative number', () => edit({ 'reservation.minSliceBps': -1 }), 'reservation.minSliceBps'],
    ['NaN', () => edit({ 'reservation.minSliceBps': Number.NaN }), 'reservation.minSliceBps'],
    ['infinity', () => edit({ 'reservation.periodMs': Number.POSITIVE_INFINITY }), 'reservation.periodMs'],
    ['NaN as a limit', () => edit({ 'sla.default.floor': Number.NaN }), 'sla.default.floor'],
    ['a rate for a time', () => edit({ 'reservation.periodMs': '5 Mbit/s' }), 'a text such as "200 ms"'],
    ['a time for a rate', () => edit({ 'reservation.minSliceBps': '5 s' }), 'a text such as "4 Mbit/s"'],
    ['a size for a rate', () => edit({ 'sla.default.floor': '100 Mbit' }), 'write the time too'],
    ['a bare number', () => edit({ 'sla.default.floor': 100 }), 'is the bare number 100; write its unit'],
    ['a guest of the prototype', () => edit({ 'overrides.guests.__proto__.sla.floor': '5 %' }), 'no such field'],
    ['a prototype in JSON', () => edit({ 'overrides.guests': '{"__proto__": {"sla": {}}}' }), '__proto__'],
    ['deep nesting', () => parsePolicy(deep), 'levels deep'],
    ['another version', () => edit({ format: 'policy/2' }), 'format: must be policy/1'],
  ])('%s', (_, attempt, words) => {
    try {
      attempt();
    } catch (e) {
      if (!(e instanceof FairwayError)) throw e;
      expect([e.code, e.labels]).toEqual(['POLICY_INVALID', ['badInput']]);
      expect(e.message).toContain(words);
      expect(e.message.length).toBeLessThan(3000);
      return;
    }
    throw new Error('it was accepted');
  });

  test('all problems of a document are told', () => {
    const doc = withDefaults({ limits: { perHostIn: 0, x: 1 }, marks: { high: 'a' } });
    expect(policyProblems(doc).map((p) => p.keys.join('.'))).toEqual(
      expect.arrayContaining(['limits.perHostIn', 'limits.x', 'marks.high']),
    );
  });
});

test('texts with units are kept as numbers', () => {
  const doc = edit({
    'reservation.periodMs': '1.5 s',
    'reservation.minSliceBps': '4 Mbit/s',
    'workload.headroom': '6 %',
  });
  expect(doc.reservation).toMatchObject({ periodMs: 1500, minSliceBps: 4e6 });
  expect(doc.workload.headroom).toBe(0.06);
});
