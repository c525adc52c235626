/** Step 1: which way traffic flows. */
import type { Direction } from '../../../contracts/common.ts';
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

describe('what was found is kept until it is clearly left', () => {
  const seen = (inPercent: number, before?: Direction, scatter = 0) => {
    const at = (percent: number) => ({ inBps: percent * 1e6, outBps: (100 - percent) * 1e6 });
    const readings = [-1, 1, -1, 1, 0].map((sign) => at(inPercent + sign * scatter));
    return classifyDirection({ ...at(inPercent), capacityBps: 1e9, readings, before }, policy);
  };
  test.each<[Direction | undefined, number, number, Direction, string]>([
    // before, % in, scatter → direction, rule
    [undefined, 58, 0, 'mixed', 'direction.mixed'],
    ['in', 58, 0, 'in', 'direction.kept'],
    ['in', 54, 0, 'mixed', 'direction.mixed'],
    ['in', 30, 0, 'out', 'direction.outShare'],
    ['out', 44, 0, 'out', 'direction.kept'],
    ['mixed', 62, 0, 'mixed', 'direction.kept'],
    ['mixed', 66, 0, 'in', 'direction.inShare'],
    // Readings of 10 % and 90 %: their mean says mixed, one of five alone does.
    [undefined, 50, 40, 'mixed', 'direction.unsure'],
    ['in', 50, 40, 'in', 'direction.kept'],
    ['in', 50, 5, 'mixed', 'direction.mixed'],
  ])('it was %s; %d %% in, readings scattered by %d: %s by %s', (before, percent, scatter, direction, rule) => {
    const d = seen(percent, before, scatter);
    expect([d.value, d.reasons[0]?.rule]).toEqual([direction, rule]);
  });
  test('confidence is told: five readings that agree are six sevenths sure', () => {
    expect(seen(80).reasons[0]?.inputs.confidence).toBe(0.857);
  });
  test('idle is left when the traffic is a twentieth above its limit', () => {
    const at = (mbps: number) =>
      classifyDirection({ inBps: mbps * 1e6, outBps: 0, capacityBps: 1e9, before: 'idle' }, policy);
    expect(at(10.4).value).toBe('idle');
    expect(at(10.6).value).toBe('in');
  });
  test('a series that wanders around a limit changes its direction once', () => {
    // Generated: 60 % ± 4 %, as a sine with a period of seven readings, then 50 %.
    const series = Array.from({ length: 60 }, (_, i) => (i < 40 ? 60 + 4 * Math.sin((2 * Math.PI * i) / 7) : 50));
    let before: Direction | undefined;
    const found = series.map((percent) => {
      before = seen(percent, before).value;
      return before;
    });
    const changes = found.filter((d, i) => i > 0 && d !== found[i - 1]);
    expect(changes).toEqual(['mixed']);
    expect(found[0]).toBe('in');
  });
});
