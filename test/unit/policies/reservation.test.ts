/** Step 4: one division of links among migrations, case by case. The invariants over random ones: test/property. */
import type { Priority } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import {
  applyPolicyPatch,
  compilePolicy,
  estimateDemand,
  type LinkLoad,
  type Reservation,
  reserve,
  type SliceClaim,
} from '../../../policies/index.ts';

// Figures below are worked out for this headroom.
const BASE = { ...DEFAULT_POLICY, workload: { headroom: 0.03, saturatedAt: 0.98 } };
const policyWith = (patch: PolicyPatch) => compilePolicy(applyPolicyPatch(BASE, patch));
/** 200 Mbit/s links with floor 100 and ceiling 140 (the default shares). */
const policy = policyWith({});
const load = (id: string, measuredMbps: number, change: Partial<LinkLoad> = {}): LinkLoad => ({
  id,
  capacityBps: 200e6,
  measuredBps: measuredMbps * 1e6,
  shareBps: null,
  ...change,
});
const claim = (
  migration: string,
  priority: Priority,
  links: string[],
  change: Partial<SliceClaim> = {},
): SliceClaim => ({
  migration,
  priority,
  links,
  phase: 'running',
  previousBps: null,
  ...change,
});
const mbps = (r: Reservation) => Object.fromEntries([...r.slices].map(([m, s]) => [m, s.rateBps / 1e6]));
const rule = (r: Reservation, m: string) => r.slices.get(m)?.reason.rule;

describe('one migration on a link of 200 Mbit/s, floor 100, ceiling 140', () => {
  test.each<[Priority, SliceClaim['phase'], number, number, string]>([
    // priority, phase, workload → slice
    ['high', 'initial', 160, 100, 'reservation.high'],
    ['high', 'running', 0, 100, 'reservation.high'],
    ['high', 'switchover', 160, 100, 'reservation.switchover'],
    ['medium', 'initial', 60, 60, 'reservation.mediumInitial'],
    ['medium', 'running', 60, 100, 'reservation.medium'],
    ['medium', 'running', 120, 76.4, 'reservation.medium'],
    ['medium', 'running', 160, 60, 'reservation.medium'],
    ['medium', 'switchover', 160, 100, 'reservation.switchover'],
    ['low', 'initial', 160, 35.2, 'reservation.low'],
    ['low', 'running', 160, 35.2, 'reservation.low'],
    ['low', 'switchover', 160, 35.2, 'reservation.low'],
    ['low', 'running', 20, 100, 'reservation.low'],
    ['low', 'running', 200, 4, 'reservation.minimum'],
  ])('%s, %s, workload %d: slice %d by %s', (priority, phase, workload, slice, expected) => {
    const r = reserve({ links: [load('a:1', workload)], claims: [claim('m', priority, ['a:1'], { phase })] }, policy);
    expect(mbps(r)).toEqual({ m: slice });
    expect(r.slices.get('m')?.reason).toMatchObject({ rule: expected, bindingLink: 'a:1' });
    expect(r.links.get('a:1')).toEqual({
      workloadBps: 200e6 - slice * 1e6,
      floorBps: 100e6,
      ceilingBps: 140e6,
      byMigration: new Map([['m', slice * 1e6]]),
    });
  });
});

test('the reason holds the figures', () => {
  const r = reserve({ links: [load('a:1', 120)], claims: [claim('m', 'medium', ['a:1'])] }, policy);
  expect(r.slices.get('m')?.reason.inputs).toEqual({
    capacityBps: 200e6,
    floorBps: 100e6,
    ceilingBps: 140e6,
    measuredBps: 120e6,
    demandBps: 123.6e6,
    entitlementBps: 76.4e6,
    sharedWith: 0,
    expression: 'capacity - clamp(rate, floor, ceiling)',
    previousBps: null,
    rateBps: 76.4e6,
  });
});

describe('the narrowest link of the path binds', () => {
  const claims = [claim('m', 'low', ['a:1', 'b:1', 'c:1'])];
  test('the busiest', () => {
    const r = reserve({ links: [load('a:1', 100), load('b:1', 150), load('c:1', 20)], claims }, policy);
    expect(mbps(r)).toEqual({ m: 45.5 });
    expect(r.slices.get('m')?.reason.bindingLink).toBe('b:1');
    expect([...r.links.values()].map((l) => l.workloadBps)).toEqual([154.5e6, 154.5e6, 154.5e6]);
  });
  test('the smallest', () => {
    const small = load('c:1', 0, { capacityBps: 50e6 });
    const r = reserve({ links: [load('a:1', 0), load('b:1', 0), small], claims }, policy);
    expect(mbps(r)).toEqual({ m: 25 });
    expect(r.slices.get('m')?.reason.bindingLink).toBe('c:1');
  });
});

describe('several on one link', () => {
  const divide = (claims: SliceClaim[], workload = 160, p = policy) =>
    reserve({ links: [load('a:1', workload)], claims }, p);

  test('of one priority share equally', () => {
    expect(mbps(divide(['1', '2', '3', '4'].map((m) => claim(m, 'high', ['a:1']))))).toEqual({
      1: 25,
      2: 25,
      3: 25,
      4: 25,
    });
  });

  test('a less urgent one shares by weight only what it might have had alone; the rest is the urgent one’s', () => {
    // low is entitled to 35.2, divided 4:1; from 35.2 to 100 all is high's.
    const r = divide([claim('l', 'low', ['a:1']), claim('h', 'high', ['a:1'])]);
    expect(mbps(r)).toEqual({ h: 92.96, l: 7.04 });
    expect(r.links.get('a:1')?.workloadBps).toBe(100e6);
  });

  test('all three', () => {
    // Layers: 35.2 by 4:2:1, then 24.8 by 4:2, then 40 for high.
    const r = divide((['low', 'medium', 'high'] as const).map((p) => claim(p, p, ['a:1'])));
    expect(mbps(r).low).toBeCloseTo(35.2 / 7, 5);
    expect(mbps(r).medium).toBeCloseTo((35.2 * 2) / 7 + (24.8 * 2) / 6, 5);
    expect(mbps(r).high).toBeCloseTo((35.2 * 4) / 7 + (24.8 * 4) / 6 + 40, 5);
  });

  test('weights are policy, and a claim may have its own', () => {
    const even = policyWith({ 'reservation.weights.high': 1 });
    const two = [claim('l', 'low', ['a:1']), claim('h', 'high', ['a:1'])];
    expect(mbps(divide(two, 0, even))).toEqual({ h: 50, l: 50 });
    expect(
      mbps(divide([claim('1', 'high', ['a:1'], { weight: 3 }), claim('2', 'high', ['a:1'], { weight: 1 })])),
    ).toEqual({
      1: 75,
      2: 25,
    });
  });

  test('what a switch-over adds is for the one that switches over', () => {
    const r = divide([claim('1', 'medium', ['a:1'], { phase: 'switchover' }), claim('2', 'medium', ['a:1'])]);
    expect(mbps(r)).toEqual({ 1: 70, 2: 30 });
  });

  test('one that another link binds leaves its part to the others', () => {
    const r = reserve(
      {
        links: [load('a:1', 160), load('b:1', 0, { capacityBps: 40e6 })],
        claims: [claim('1', 'high', ['a:1', 'b:1']), claim('2', 'high', ['a:1']), claim('3', 'high', ['a:1'])],
      },
      policy,
    );
    expect(mbps(r)).toEqual({ 1: 20, 2: 40, 3: 40 });
    expect([...r.slices.values()].map((s) => s.reason.bindingLink)).toEqual(['b:1', 'a:1', 'a:1']);
  });

  test('one below the minimum is lifted at the expense of the others, not of the workload', () => {
    const r = divide([claim('l', 'low', ['a:1']), claim('h', 'high', ['a:1'])], 200);
    expect(mbps(r)).toEqual({ h: 96, l: 4 });
    expect([rule(r, 'h'), rule(r, 'l')]).toEqual(['reservation.high', 'reservation.minimum']);
    expect(r.links.get('a:1')?.workloadBps).toBe(100e6);
  });

  test('where the minimum of all would break the floor, the more urgent get theirs first', () => {
    const claims = [claim('l', 'low', ['a:1']), claim('h', 'high', ['a:1']), claim('m', 'medium', ['a:1'])];
    const tight = policyWith({ 'sla.default.floor': '95 %', 'sla.default.ceiling': '95 %' });
    expect(mbps(divide(claims, 200, tight))).toEqual({ h: 4, m: 4, l: 2 });
  });
});

describe('nothing can be reserved', () => {
  test('on a link of unknown capacity, or one that was not given', () => {
    for (const links of [[load('a:1', 0, { capacityBps: 0 })], []]) {
      const r = reserve({ links, claims: [claim('m', 'high', ['a:1'])] }, policy);
      expect(r.slices.get('m')).toMatchObject({
        rateBps: 0,
        reason: { rule: 'reservation.unknownLink', bindingLink: 'a:1' },
      });
    }
  });
  test('without a path', () => {
    const r = reserve({ links: [], claims: [claim('m', 'high', [])] }, policy);
    expect(r.slices.get('m')).toMatchObject({ rateBps: 0, reason: { rule: 'reservation.noLinks' } });
  });
  test('where the floor is the whole link', () => {
    const all = policyWith({ 'sla.default.floor': '100 %', 'sla.default.ceiling': '100 %' });
    const r = reserve({ links: [load('a:1', 0)], claims: [claim('m', 'high', ['a:1'])] }, all);
    expect(mbps(r)).toEqual({ m: 0 });
    expect(r.links.get('a:1')?.workloadBps).toBe(200e6);
  });
});

test('a link without a migration is all the workload’s', () => {
  const r = reserve({ links: [load('a:1', 160)], claims: [] }, policy);
  expect(r.links.get('a:1')).toMatchObject({ workloadBps: 200e6, byMigration: new Map() });
});

describe('steps below minStepShare (2 Mbit/s here) are not made', () => {
  const step = (previousMbps: number | null, p = policy) => {
    const previousBps = previousMbps === null ? null : previousMbps * 1e6;
    const r = reserve({ links: [load('a:1', 160)], claims: [claim('m', 'low', ['a:1'], { previousBps })] }, p);
    return [mbps(r).m, r.slices.get('m')?.changed, (r.links.get('a:1')?.workloadBps ?? 0) / 1e6];
  };
  test.each([
    ['the first', null, [35.2, true, 164.8]],
    ['none', 35.2, [35.2, false, 164.8]],
    ['a small one up', 33.5, [33.5, false, 166.5]],
    ['a small one down', 36.9, [36.9, false, 163.1]],
    ['a large one up', 33.1, [35.2, true, 164.8]],
    ['a large one down', 37.3, [35.2, true, 164.8]],
  ])('%s', (_, previous, expected) => expect(step(previous)).toEqual(expected));

  test('but a floor is never kept broken, however small the step', () => {
    const claims = [claim('m', 'high', ['a:1'], { previousBps: 101e6 })];
    const r = reserve({ links: [load('a:1', 160)], claims }, policy);
    expect([mbps(r).m, r.slices.get('m')?.changed]).toEqual([100, true]);
  });

  test('nor the one that an override gives it alone', () => {
    const all = policyWith({ 'sla.default.floor': '0 %' });
    const own = policyWith({ 'sla.default.floor': '100 %', 'sla.default.ceiling': '100 %' });
    const claims = [claim('m', 'low', ['a:1'], { previousBps: 1e6, policyOn: () => own }), claim('n', 'low', ['a:1'])];
    const r = reserve({ links: [load('a:1', 200)], claims }, all);
    expect([mbps(r).m, r.slices.get('m')?.changed]).toEqual([0, true]);
  });

  test('and many kept steps together are no more than one', () => {
    const claims = Array.from({ length: 8 }, (_, i) => claim(`m${i}`, 'low', ['a:1'], { previousBps: 6e6 }));
    const r = reserve({ links: [load('a:1', 160)], claims }, policy);
    // 35.2 / 8 = 4.4 each; 1.6 too much may stay once, 12.8 may not.
    expect([...r.slices.values()].filter((s) => !s.changed)).toHaveLength(1);
    expect(r.links.get('a:1')?.workloadBps).toBeGreaterThanOrEqual(162.8e6);
  });
});

test('what the workload wants: what it sent and headroom; the whole link when it used up its share', () => {
  const demand = (measuredMbps: number, shareMbps: number | null) =>
    estimateDemand(
      { measuredBps: measuredMbps * 1e6, shareBps: shareMbps === null ? null : shareMbps * 1e6, capacityBps: 200e6 },
      policy,
    ) / 1e6;
  expect(demand(100, null)).toBe(103);
  expect(demand(100, 150)).toBe(103);
  expect(demand(97.9, 100)).toBeCloseTo(100.837, 6);
  expect(demand(98, 100)).toBe(200);
  expect(demand(150, 100)).toBe(200);
  expect(demand(199, null)).toBe(200);
  expect(demand(-1, null)).toBe(0);
});
