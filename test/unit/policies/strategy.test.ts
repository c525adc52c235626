/** Step 3: contention per link, and every cell of the strategy table. */
import type { Contention, Priority, Strategy } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { applyPolicyPatch, chooseStrategy, compilePolicy, contentionOf } from '../../../policies/index.ts';

const policy = compilePolicy(DEFAULT_POLICY);
const used = (id: string, share: number) => ({ id, capacityBps: 200e6, usedBps: 200e6 * share });

test.each<[number, Contention]>([
  [0, 'low'],
  [0.499, 'low'],
  [0.5, 'moderate'],
  [0.799, 'moderate'],
  [0.8, 'high'],
  [1.2, 'high'],
])('a link used to %d has %s contention', (share, contention) => {
  const c = contentionOf([used('a:1', share)], policy);
  expect(c.value).toBe(contention);
  expect(c.reasons.map((r) => [r.rule, r.bindingLink])).toEqual([[`contention.${contention}`, 'a:1']]);
});

test('the busiest link binds, by share and not by rate', () => {
  const fat = { id: 'b:1', capacityBps: 10e9, usedBps: 1e9 };
  const c = contentionOf([used('a:1', 0.1), fat, used('c:1', 0.6), used('d:1', 0.3)], policy);
  expect(c.value).toBe('moderate');
  expect(c.reasons[0]?.bindingLink).toBe('c:1');
});

test('of equally busy links always the same one is named', () => {
  const links = [used('b:1', 0.6), used('a:1', 0.6)];
  expect(contentionOf(links, policy).reasons).toEqual(contentionOf(links.reverse(), policy).reasons);
});

test('a used link of unknown capacity counts as full, an unused one as empty, no link as no contention', () => {
  expect(contentionOf([{ id: 'a:1', capacityBps: 0, usedBps: 1 }], policy).value).toBe('high');
  expect(contentionOf([{ id: 'a:1', capacityBps: 0, usedBps: 0 }], policy).value).toBe('low');
  expect(contentionOf([], policy)).toMatchObject({ value: 'low', reasons: [{ rule: 'contention.noLinks' }] });
});

describe('the table (paper 002, step 3)', () => {
  test.each<[Priority, Contention, Strategy]>([
    ['high', 'low', 'parallel'],
    ['high', 'moderate', 'parallel'],
    ['high', 'high', 'parallel'],
    ['medium', 'low', 'parallel'],
    ['medium', 'moderate', 'serial'],
    ['medium', 'high', 'serial'],
    ['low', 'low', 'parallel'],
    ['low', 'moderate', 'serial'],
    ['low', 'high', 'serial'],
  ])('%s priority with %s contention: %s', (priority, contention, strategy) => {
    const s = chooseStrategy({ priority, contention }, policy);
    expect(s.value).toBe(strategy);
    expect(s.reasons).toMatchObject([{ rule: 'strategy.table', inputs: { priority, contention } }]);
  });

  test('is policy, and what is asked for goes before it', () => {
    const edited = compilePolicy(applyPolicyPatch(DEFAULT_POLICY, { 'strategy.high.high': 'serial' }));
    expect(chooseStrategy({ priority: 'high', contention: 'high' }, edited).value).toBe('serial');
    const asked = chooseStrategy({ priority: 'high', contention: 'high', requested: 'parallel' }, edited);
    expect(asked).toMatchObject({ value: 'parallel', reasons: [{ rule: 'strategy.requested' }] });
  });
});
