/** Step 1: which way traffic flows. */
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { classifyDirection, compilePolicy } from '../../../policies/index.ts';

const policy = compilePolicy(DEFAULT_POLICY);

test.each([
  ['all in', 100, 0, 'in', 'direction.inShare'],
  ['all out', 0, 100, 'out', 'direction.outShare'],
  ['exactly 60 % in', 60, 40, 'in', 'direction.inShare'],
  ['just below 60 % in', 59.9, 40.1, 'mixed', 'direction.mixed'],
  ['half and half', 50, 50, 'mixed', 'direction.mixed'],
  ['just above 40 % in', 40.1, 59.9, 'mixed', 'direction.mixed'],
  ['exactly 40 % in', 40, 60, 'out', 'direction.outShare'],
  ['exactly 1 % of the link', 10, 0, 'in', 'direction.inShare'],
  ['just below 1 % of the link, both ways together', 5, 4.9, 'idle', 'direction.idle'],
  ['silence', 0, 0, 'idle', 'direction.idle'],
])('%s of a gigabit: %d Mbit/s in, %d out is %s', (_, inMbps, outMbps, direction, rule) => {
  const d = classifyDirection({ inBps: inMbps * 1e6, outBps: outMbps * 1e6, capacityBps: 1e9 }, policy);
  expect(d.value).toBe(direction);
  expect(d.reasons.map((r) => r.rule)).toEqual([rule]);
  expect(d.reasons[0]?.inputs).toMatchObject({ inBps: inMbps * 1e6, outBps: outMbps * 1e6, capacityBps: 1e9 });
});

test('where the capacity is not known only silence is idle', () => {
  expect(classifyDirection({ inBps: 1, outBps: 0, capacityBps: 0 }, policy).value).toBe('in');
  expect(classifyDirection({ inBps: 0, outBps: 0, capacityBps: 0 }, policy).value).toBe('idle');
});

test('counters that went backwards are no traffic', () => {
  expect(classifyDirection({ inBps: -5, outBps: -1, capacityBps: 1e9 }, policy).value).toBe('idle');
});
