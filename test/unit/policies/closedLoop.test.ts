/**
 * Reservation as the loop it is: each period a simulated workload sends what it offers or what it is left, the
 * migration uses its slice, and the next division follows from what was seen.
 */
import type { Priority } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { compilePolicy, reserve } from '../../../policies/index.ts';

const policy = compilePolicy(DEFAULT_POLICY);
const CAPACITY = 200e6;
const STEP = DEFAULT_POLICY.reservation.minStepShare * CAPACITY;

interface Period {
  offeredBps: number;
  /** What the workload got. */
  workloadBps: number;
  sliceBps: number;
}

/**
 * Runs one period for each offer. `fill` is how much of its share a backlogged workload manages to use: a transport that
 * loses packets to its neighbour's queue does not quite fill it.
 */
function run(priority: Priority, offersMbps: number[], fill = 1, others: Priority[] = []): Period[] {
  const priorities = [priority, ...others];
  let previous: (number | null)[] = priorities.map(() => null);
  let shareBps: number | null = null;
  let measuredBps = (offersMbps[0] ?? 0) * 1e6;
  return offersMbps.map((offer) => {
    const r = reserve(
      {
        links: [{ id: 'a:1', capacityBps: CAPACITY, measuredBps, shareBps }],
        claims: priorities.map((p, i) => ({
          migration: `m${i}`,
          priority: p,
          links: ['a:1'],
          phase: previous[i] === null ? 'initial' : 'running',
          previousBps: previous[i] ?? null,
        })),
      },
      policy,
    );
    previous = priorities.map((_, i) => r.slices.get(`m${i}`)?.rateBps ?? 0);
    shareBps = r.links.get('a:1')?.workloadBps ?? 0;
    const offeredBps = offer * 1e6;
    measuredBps = Math.min(offeredBps, shareBps * fill);
    return { offeredBps, workloadBps: measuredBps, sliceBps: previous[0] ?? 0 };
  });
}

const steady = (mbps: number, periods = 30) => Array<number>(periods).fill(mbps);
const OFFERS = [
  0, 1, 20, 50, 90, 96, 97, 98, 99, 100, 101, 120, 135, 137, 138, 140, 150, 160, 167, 180, 190, 192, 193, 196, 200, 400,
];

describe('low priority', () => {
  test('a workload of 167 of 200 Mbit/s never loses anything, and the migration gets the rest', () => {
    const periods = run('low', steady(167));
    for (const p of periods) expect(p.workloadBps).toBe(167e6);
    expect(periods.at(-1)?.sliceBps).toBeCloseTo(200e6 - 167e6 * (1 + DEFAULT_POLICY.workload.headroom), 0);
  });

  test.each([100, 120, 150, 167, 180, 190, 195])('a workload of %d never loses more than 5 %', (offer) => {
    for (const p of run('low', steady(offer))) expect(p.workloadBps).toBeGreaterThanOrEqual(0.95 * p.offeredBps);
  });

  test.each([1, 0.99, 0.981])('a backlogged one that fills %d of its share is left all but the least slice', (fill) => {
    // Starts at 120, then wants everything.
    const periods = run('low', [...steady(120, 5), ...steady(400, 200)], fill);
    expect(periods.at(-1)?.sliceBps).toBe(4e6);
  });

  test.each([0.979, 0.975, 0.972])(
    'one that fills only %d looks like a steady one, but is not squeezed further',
    (fill) => {
      const periods = run('low', [...steady(150, 5), ...steady(400, 200)], fill);
      const slices = periods.slice(5).map((p) => p.sliceBps);
      for (const s of slices) expect(s).toBeLessThanOrEqual(periods[4]?.sliceBps ?? 0);
    },
  );

  test('a workload that grows is left what it wants within two periods', () => {
    const periods = run('low', [...steady(110, 5), ...steady(180, 5)]);
    expect(periods.slice(7).map((p) => p.workloadBps)).toEqual(steady(180e6, 3));
  });

  test('a workload that shrinks gives way within two periods', () => {
    const periods = run('low', [...steady(180, 5), ...steady(110, 5)]);
    expect(periods[6]?.sliceBps).toBeCloseTo(200e6 - 110e6 * (1 + DEFAULT_POLICY.workload.headroom), 0);
  });
});

describe('medium priority', () => {
  test('160 → 60 → 160: the slice goes 60 → 100 → 60, each within two periods', () => {
    const periods = run('medium', [...steady(160, 5), ...steady(60, 5), ...steady(160, 5)]);
    const slices = periods.map((p) => p.sliceBps / 1e6);
    expect(slices.slice(0, 5)).toEqual(steady(60, 5));
    expect(slices.slice(6, 10)).toEqual(steady(100, 4));
    expect(slices.slice(11)).toEqual(steady(60, 4));
  });

  test('the workload is never left less than its floor or needs more than one period to get up to its ceiling', () => {
    const offers = [...steady(30, 3), ...steady(125, 4), ...steady(90, 3), ...steady(400, 4), ...steady(10, 3)];
    const periods = run('medium', offers);
    periods.forEach((p, i) => {
      expect(p.workloadBps).toBeGreaterThanOrEqual(Math.min(p.offeredBps, 100e6));
      const before = periods[i - 1];
      if (before?.offeredBps === p.offeredBps) {
        expect(p.workloadBps).toBeGreaterThanOrEqual(Math.min(p.offeredBps, 140e6));
      }
    });
  });
});

describe('high priority', () => {
  test.each([0, 60, 160, 400])('keeps capacity - floor whatever the workload does (%d)', (offer) => {
    for (const p of run('high', steady(offer))) expect(p.sliceBps).toBe(100e6);
  });
});

describe('a steady workload does not make slices swing', () => {
  test.each(OFFERS)('of %d Mbit/s', (offer) => {
    for (const fill of [1, 0.985, 0.975]) {
      for (const [first, ...others] of [
        ['low'],
        ['medium'],
        ['high'],
        ['low', 'high'],
        ['medium', 'low'],
        ['high', 'medium', 'low'],
      ] as [Priority, ...Priority[]][]) {
        const settled = run(first, steady(offer, 40), fill, others).slice(20);
        const slices = settled.map((p) => p.sliceBps);
        expect(Math.max(...slices) - Math.min(...slices)).toBeLessThanOrEqual(STEP);
      }
    }
  });
});

test('fluctuations below the headroom do not reach switches and agents at every period', () => {
  // ±0.4 % around 160: the slice may move a few times while it finds its place, then holds.
  const offers = Array.from({ length: 60 }, (_, i) => 160 * (1 + 0.004 * Math.sin(i * 2.3)));
  const slices = run('low', offers).map((p) => p.sliceBps);
  const moves = slices.slice(10).filter((s, i, all) => i > 0 && s !== all[i - 1]).length;
  expect(moves).toBe(0);
});
