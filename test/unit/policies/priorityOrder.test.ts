/** Policies that entitle the less urgent to more: told with an example, once; the defaults are not among them. */
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { applyPolicyPatch, compilePolicy, turnedRound } from '../../../policies/index.ts';

const notes = (patch: Record<string, string | number>) =>
  turnedRound(compilePolicy(applyPolicyPatch(DEFAULT_POLICY, patch)));

test('the defaults keep their order, and so does one that gives all the same', () => {
  expect(notes({})).toEqual([]);
  expect(notes({ 'reservation.medium': 'capacity - floor', 'reservation.low': 'capacity - floor' })).toEqual([]);
  expect(notes({ 'overrides.labels.tier.web.sla.floor': '90 %', 'overrides.hosts.hv1.sla.floor': 0 })).toEqual([]);
});

test('an override of high alone is told of, with a link as an example', () => {
  expect(notes({ 'overrides.labels.tier.web.reservation.high': '0.5 * (capacity - floor)' })).toEqual([
    'overrides.labels.tier.web: reservation.medium entitles to more than reservation.high, to 50.0 Mbit/s instead of ' +
      '25.0 Mbit/s on a link of 100.0 Mbit/s whose workload sends 50.0 Mbit/s',
    expect.stringContaining('reservation.low entitles to more than reservation.high'),
  ]);
  const both = { high: '0.5 * (capacity - floor)', medium: '0.4 * (capacity - floor)', low: '0.1 * capacity' };
  const patch = Object.entries(both).map(([name, text]) => [`overrides.guests.g1.reservation.${name}`, text]);
  expect(notes(Object.fromEntries(patch))).toEqual([]);
});

test('weights count too, and what the document itself turns round is not told again of each override', () => {
  expect(notes({ 'reservation.weights.low': 9, 'overrides.tenants.red.reservation.minSliceBps': 0 })).toEqual([
    expect.stringContaining('reservation.weights.low (9) is above reservation.weights.high'),
    expect.stringContaining('reservation.weights.low (9) is above reservation.weights.medium'),
  ]);
  expect(notes({ 'overrides.tenants.red.reservation.weights.low': 9 })).toHaveLength(2);
});
