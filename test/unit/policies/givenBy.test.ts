/** Reasons name the override that gave what decided: the rate of a slice, the technique, the end of a copy. */
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import {
  applyPolicyPatch,
  type CompiledPolicy,
  chooseTechnique,
  compilePolicy,
  effectivePolicy,
  reserve,
  type SliceClaim,
  type TechniqueQuestion,
  watchPasses,
} from '../../../policies/index.ts';

const under = (patch: PolicyPatch) => compilePolicy(applyPolicyPatch(DEFAULT_POLICY, patch));
const LINK = '00000000000000aa:1';
const load = { id: LINK, capacityBps: 200e6, measuredBps: 60e6, shareBps: null };

/** The reason of the slice of a guest `db1`, labelled gold of acme, that leaves hv1 (and of others beside it). */
function sliceOf(patch: PolicyPatch, more: Partial<SliceClaim> = {}, others: readonly SliceClaim[] = []) {
  const policy = under(patch);
  const own = effectivePolicy(policy, { guest: 'db1', labels: { tier: 'gold', tenant: 'acme' }, host: 'hv1' });
  const claim: SliceClaim = {
    ...{ migration: 'a', priority: 'low', links: [LINK], phase: 'running', previousBps: null },
    policyOn: () => own,
    ...more,
  };
  const reason = reserve({ links: [load], claims: [claim, ...others] }, policy).slices.get('a')?.reason;
  if (reason === undefined) throw new Error('it has no slice');
  return reason;
}

describe('why this rate', () => {
  test('the label that set the expression, and the guest that set the floor in it', () => {
    const { text, inputs } = sliceOf({
      'overrides.labels.tier.gold.reservation.low': 'capacity - floor - 10 %',
      'overrides.guests.db1.sla.floor': '20 %',
      'overrides.guests.db1.sla.ceiling': '60 %',
    });
    expect(text).toMatch(/; reservation\.low by overrides\.labels\.tier\.gold; floor by overrides\.guests\.db1$/);
    expect(inputs).toMatchObject({
      ...{ expressionBy: 'overrides.labels.tier.gold', floorBy: 'overrides.guests.db1', floorBps: 40e6 },
      // It decided nothing here, but it holds: with the value that holds.
      ...{ ceilingBy: 'overrides.guests.db1', ceilingBps: 120e6 },
    });
  });

  test('the tenant that set floor and ceiling of a medium one; what another rule of the guest says is not in it', () => {
    const { text, inputs } = sliceOf(
      {
        'overrides.tenants.acme.sla.floor': '20 %',
        'overrides.tenants.acme.sla.ceiling': '25 %',
        'overrides.guests.db1.technique.downtimeLimitMs': '50 ms',
      },
      { priority: 'medium' },
    );
    expect(text).toMatch(/; floor and ceiling by overrides\.tenants\.acme$/);
    expect(inputs).not.toHaveProperty('expressionBy');
  });

  test('a floor that cuts what the expression says is told of, though the expression does not name it', () => {
    const patch = { 'overrides.hosts.hv1.sla.floor': '90 %', 'overrides.hosts.hv1.sla.ceiling': '95 %' };
    expect(sliceOf(patch).text).toMatch(/; floor by overrides\.hosts\.hv1$/);
    expect(sliceOf({ 'overrides.hosts.hv1.sla.floor': '10 %' }).text).not.toContain('overrides.');
  });

  test('the weight where it is shared, the minimum where it is lifted', () => {
    const patch = {
      'overrides.guests.db1.reservation.weights.low': 3,
      'overrides.guests.db1.reservation.minSliceBps': '9 Mbit/s',
    };
    const other: SliceClaim = {
      ...{ migration: 'b', priority: 'low', links: [LINK], phase: 'running', previousBps: null },
    };
    expect(sliceOf(patch).text).not.toContain('overrides.');
    expect(sliceOf(patch, {}, [other]).text).toMatch(/shared with 1 other; weight by overrides\.guests\.db1$/);
    const lifted = sliceOf({ ...patch, 'reservation.low': '1 Mbit/s' });
    expect(lifted).toMatchObject({ rule: 'reservation.minimum', inputs: { minimumBy: 'overrides.guests.db1' } });
    expect(lifted.text).toMatch(/; minimum by overrides\.guests\.db1$/);
  });

  test('limits of the link alone, which an override of the guest goes before', () => {
    const ofLink = { [`sla.links.${LINK}.floor`]: '30 %' };
    expect(sliceOf(ofLink, { priority: 'high' })).toMatchObject({
      text: expect.stringMatching(/; floor by sla\.links, for this link$/),
      inputs: { floorBy: `sla.links.${LINK}`, floorBps: 60e6 },
    });
    const both = sliceOf({ ...ofLink, 'overrides.guests.db1.sla.floor': '20 %' }, { priority: 'high' });
    expect(both).toMatchObject({ inputs: { floorBy: 'overrides.guests.db1', floorBps: 40e6 } });
    expect(both.text).not.toContain('sla.links');
  });

  test('without overrides nothing is said of any', () => {
    expect(Object.keys(sliceOf({}).inputs).filter((key) => key.endsWith('By'))).toEqual([]);
    expect(sliceOf({}).text).toMatch(/ on 00000000000000aa:1$/);
  });
});

describe('why this technique', () => {
  const model = { memoryBytes: 512e6, dirtyBytesPerS: 2e6, workingSetBytes: 64e6 };
  const question = (q: Partial<TechniqueQuestion>): TechniqueQuestion => ({
    ...{ priority: 'low', source: 'out', destination: 'in', guest: 'in', model, sliceBps: 80e6 },
    supported: ['pre-copy', 'post-copy', 'hybrid'],
    ...q,
  });
  const ofGold = (patch: PolicyPatch): CompiledPolicy => effectivePolicy(under(patch), { labels: { tier: 'gold' } });

  test('what the table says is not allowed by the policy: it says so, and by which override', () => {
    const policy = ofGold({ 'overrides.labels.tier.gold.technique.allowed': '["post-copy", "hybrid"]' });
    const [reason] = chooseTechnique(question({}), policy).reasons;
    expect(reason?.text).toMatch(/^the table says pre-copy, which the policy does not allow; /);
    expect(reason?.text).toMatch(/; what is allowed by overrides\.labels\.tier\.gold$/);
    expect(reason?.inputs).toMatchObject({ allowedBy: 'overrides.labels.tier.gold' });
    const hosts = chooseTechnique(question({ supported: ['post-copy', 'hybrid'] }), ofGold({})).reasons[0];
    expect(hosts?.text).toMatch(/^the table says pre-copy, which the hosts cannot both do; /);
  });

  test('weights of the least cost, each by the override that has it', () => {
    const policy = ofGold({ 'overrides.labels.tier.gold.technique.cost.harm.low': 2 });
    const [reason] = chooseTechnique(question({ guest: 'mixed' }), policy).reasons;
    expect(reason?.text).toMatch(/; weights by overrides\.labels\.tier\.gold$/);
    expect(reason?.inputs).toMatchObject({ 'weight harm by': 'overrides.labels.tier.gold' });
    expect(reason?.inputs).not.toHaveProperty('weight degraded by');
  });

  test('the ratio by which a guest is too busy for pre-copy, and the limit of silence', () => {
    const ratio = ofGold({ 'overrides.labels.tier.gold.technique.convergenceRatio': 0.05 });
    expect(chooseTechnique(question({}), ratio).reasons[1]).toMatchObject({
      text: expect.stringContaining('(convergenceRatio by overrides.labels.tier.gold): hybrid instead'),
      inputs: { convergenceRatioBy: 'overrides.labels.tier.gold' },
    });
    const quiet = ofGold({ 'overrides.labels.tier.gold.technique.silenceLimitMs.low': '100 ms' });
    const asked = chooseTechnique(question({ requested: 'post-copy' }), quiet).reasons.at(-1);
    expect(asked?.text).toMatch(/more than 100 ms \(limit by overrides\.labels\.tier\.gold\): but it was asked for$/);
    expect(asked?.inputs).toMatchObject({ silenceLimitBy: 'overrides.labels.tier.gold' });
  });

  test('nothing would end: the refusal names the override that allows so little', () => {
    const policy = ofGold({ 'overrides.labels.tier.gold.technique.allowed': '["pre-copy"]' });
    const busy = question({ model: { ...model, dirtyBytesPerS: 50e6 } });
    expect(() => chooseTechnique(busy, policy)).toThrow('policy (pre-copy, by overrides.labels.tier.gold)');
  });

  test('a copy that goes round: the override that said after how many passes', () => {
    const policy = ofGold({ 'overrides.labels.tier.gold.technique.unpaidPasses': 1 });
    const seen = (passes: number) => ({ passes, remainingBytes: 90e6, rateBps: 80e6, switchoverBps: 80e6 });
    const { watch } = watchPasses(null, seen(1), policy);
    expect(watchPasses(watch, seen(2), policy).reason).toMatchObject({
      text: expect.stringMatching(/\(unpaidPasses by overrides\.labels\.tier\.gold\)$/),
      inputs: { unpaidPassesBy: 'overrides.labels.tier.gold' },
    });
  });
});
