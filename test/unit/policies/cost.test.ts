/**
 * The cost models: their arithmetic by hand, against the emulated copy (which moves in small steps and shares no code with
 * them), and, where they are at hand, against migrations measured elsewhere.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { advanceFluidCopy, isFluidEnded, startFluidCopy } from '../../../agent/core/fluidCopy.ts';
import { TECHNIQUES, type Technique } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import {
  applyPolicyPatch,
  compilePolicy,
  copyCost,
  deniedBps,
  type GuestModel,
  harmOf,
  type Prediction,
  predictCopy,
} from '../../../policies/index.ts';
import { collectedMigrations } from '../../bench/costModels/collected.ts';
import { quantile } from '../../bench/costModels/errors.ts';
import { readMigrations } from '../../bench/costModels/migrations.ts';
import { singleMigrations } from '../../bench/costModels.ts';

const policy = compilePolicy(DEFAULT_POLICY);
/** Bytes of QEMU's stream for a byte of a page: 8 of header for 4096. */
const WIRE = 4104 / 4096;
/** 100 MB at 80 Mbit/s = 10 MB/s; 2 MB/s dirtied in at most 10 MB; downtime limit 300 ms = 3 MB. */
const model: GuestModel = { memoryBytes: 100e6, dirtyBytesPerS: 2e6, workingSetBytes: 10e6 };
const SWITCHOVER_MS = 22;

function expectAbout(p: Prediction, expected: Partial<Record<keyof Prediction, number>>, share = 0.005): void {
  for (const [key, value] of Object.entries(expected)) {
    const got = p[key as 'bytes'];
    expect([key, Math.abs(got - value) <= Math.max(share * value, 1e-6) ? value : got]).toEqual([key, value]);
  }
}

describe('by hand', () => {
  test('pre-copy: passes with a capped working set until the rest fits into the downtime limit', () => {
    // Looks come when 2.5 MB are left: half a period of 100 ms after 3 MB were.
    // 97.5 MB in 9.75 s, 10 MB (capped, not 19.5) dirty, of which 9.75 were sent: 12.25 MB left;
    // 9.75 MB in 0.975 s, 1.95 MB dirty, of which 1.55 were not still due: 4.05 MB; 1.55 MB in 0.155 s, 0.31 · 0.38: 2.62 MB.
    const p = predictCopy('pre-copy', model, 80e6, policy);
    expectAbout(p, { bytes: 111.4e6 * WIRE, totalMs: 11_140 * WIRE + SWITCHOVER_MS, downtimeMs: 262 + SWITCHOVER_MS });
    expect(p).toMatchObject({ degradedMs: 0, slowedMs: 0, passes: 3, converges: true });
  });
  test('post-copy: every page once, after the switch-over', () => {
    const p = predictCopy('post-copy', model, 80e6, policy);
    expectAbout(p, { bytes: 100e6 * WIRE, totalMs: 10_000 * WIRE + SWITCHOVER_MS, degradedMs: 10_000 * WIRE }, 1e-9);
    expect(p).toMatchObject({ downtimeMs: SWITCHOVER_MS, converges: true });
  });
  test('hybrid: the passes of the policy, then what is dirty', () => {
    expectAbout(predictCopy('hybrid', model, 80e6, policy), { bytes: 112e6 * WIRE, degradedMs: 200 });
    const one = compilePolicy(applyPolicyPatch(DEFAULT_POLICY, { 'technique.hybridPasses': 1 }));
    expectAbout(predictCopy('hybrid', model, 80e6, one), { bytes: 110e6 * WIRE, degradedMs: 1000 * WIRE });
  });
  test('stop-and-copy: every page once, while the guest runs nowhere', () => {
    const p = predictCopy('stop-and-copy', model, 80e6, policy);
    expectAbout(p, { bytes: 100e6 * WIRE, downtimeMs: 10_000 * WIRE + SWITCHOVER_MS }, 1e-9);
    expect(p.totalMs).toBe(p.downtimeMs);
  });
  test('a guest that writes nothing is sent once by any technique', () => {
    for (const t of TECHNIQUES)
      expectAbout(predictCopy(t, { ...model, dirtyBytesPerS: 0 }, 80e6, policy), { bytes: 100e6 * WIRE }, 1e-9);
  });
  test('pages of zeros cost nine bytes each, and a look at the dirty log', () => {
    const p = predictCopy('post-copy', { ...model, memoryBytes: 2 ** 30, nonZeroBytes: 2 ** 29 }, 80e6, policy);
    expect(p.bytes).toBeCloseTo(2 ** 29 * WIRE + (2 ** 29 / 4096) * 9, 3);
    // 60 ms for each look and GiB that is not sent, two looks.
    expect(p.degradedMs).toBeCloseTo(p.bytes / 10_000 + 60, 6);
  });
  test('pre-copy that does not converge is finite and says so; all that is dirty is copied by force', () => {
    const p = predictCopy('pre-copy', { ...model, dirtyBytesPerS: 20e6 }, 80e6, policy);
    expect(p.converges).toBe(false);
    expect(p.passes).toBe(30);
    expect(p.downtimeMs).toBeGreaterThan(900);
    expect(p.bytes).toBeGreaterThan(250e6);
  });
  test('auto-converge ends it, and says what that costs the guest', () => {
    const p = predictCopy('pre-copy', { ...model, dirtyBytesPerS: 20e6 }, 80e6, policy, { autoConverge: true });
    expect(p.converges).toBe(true);
    expect(p.slowedMs).toBeGreaterThan(1000);
    expect(p.downtimeMs).toBeLessThan(400);
  });
  test('a working set larger than the memory is the memory', () => {
    const p = predictCopy('hybrid', { memoryBytes: 10e6, dirtyBytesPerS: 1e9, workingSetBytes: 1e12 }, 80e6, policy);
    expectAbout(p, { bytes: 30e6 * WIRE }, 1e-9);
  });
  test('a wider switch-over makes downtime shorter, not larger in bytes than the limit allows', () => {
    const narrow = predictCopy('pre-copy', model, 80e6, policy);
    const wide = predictCopy('pre-copy', model, 80e6, policy, { switchoverBps: 160e6 });
    expect(wide.totalMs).toBeLessThan(narrow.totalMs);
    expect(wide.downtimeMs).toBeLessThanOrEqual(300 + SWITCHOVER_MS + 1);
  });
  test('nothing is ever copied at a rate of 0', () => {
    for (const t of TECHNIQUES) expect(predictCopy(t, model, 0, policy).totalMs).toBe(Number.POSITIVE_INFINITY);
  });
});

describe('harm to the workload', () => {
  const link = { id: 'a:1', capacityBps: 200e6, demandBps: 160e6, sliceBps: 100e6 };
  test('is what it wants and cannot have while the slice is used', () => {
    expect(deniedBps(link)).toBe(60e6);
    expect(deniedBps({ ...link, demandBps: 90e6 })).toBe(0);
    expect(deniedBps({ ...link, demandBps: 900e6 })).toBe(100e6);
  });
  test('adds up over links and time, and names the worst', () => {
    const h = harmOf([link, { ...link, id: 'b:1', demandBps: 200e6 }, { ...link, id: 'c:1', demandBps: 10e6 }], 8000);
    expect(h).toEqual({ bytes: 160e6, ms: (60 / 160 + 100 / 200) * 8000, worstLink: 'b:1', worstBytes: 100e6 });
    expect(harmOf([{ ...link, demandBps: 0 }], 8000)).toEqual({ bytes: 0, ms: 0, worstLink: null, worstBytes: 0 });
  });
});

/** The emulated copy, advanced in steps of 20 ms. */
function emulate(technique: Technique, g: GuestModel, rateBps: number, autoConverge: boolean) {
  let copy = startFluidCopy(
    {
      technique,
      memoryBytes: g.memoryBytes,
      workingSetBytes: g.workingSetBytes,
      dirtyBytesPerS: g.dirtyBytesPerS,
      downtimeLimitMs: 300,
      hybridPasses: 2,
      pauseBeforeSwitchover: false,
      options: { autoConverge },
    },
    rateBps,
  );
  copy = { ...copy, switchoverBps: rateBps };
  let ms = 0;
  while (!isFluidEnded(copy) && ms < 3_600_000) {
    copy = advanceFluidCopy(copy, 20, rateBps).copy;
    ms += 20;
  }
  return {
    totalMs: copy.elapsedMs,
    bytes: copy.transferredBytes,
    downtimeMs: copy.downtimeMs,
    ended: isFluidEnded(copy),
  };
}

const SEED = 7;
test.each<[Technique, boolean, number, number]>([
  ['pre-copy', false, 0.03, 0.1],
  ['pre-copy', true, 0.1, 0.3],
  ['post-copy', false, 0.01, 0.02],
  ['hybrid', false, 0.01, 0.05],
  ['stop-and-copy', false, 0.01, 0.02],
])(
  '%s (auto-converge %s): time and bytes beside the emulated copy, median error below %d, 90th percentile below %d',
  (technique, autoConverge, most, most90) => {
    const guests = fc.record({
      memoryMb: fc.integer({ min: 256, max: 2048 }),
      workingSetShare: fc.double({ min: 0.01, max: 0.5, noNaN: true }),
      rateMbps: fc.integer({ min: 40, max: 800 }),
      dirtyShare: fc.double({ min: 0, max: autoConverge ? 1.5 : 0.7, noNaN: true }),
    });
    const errors = fc
      .sample(guests, { numRuns: 40, seed: SEED })
      .map(({ memoryMb, workingSetShare, rateMbps, dirtyShare }) => {
        const rateBps = rateMbps * 1e6;
        const memoryBytes = memoryMb * 1e6;
        const g = {
          memoryBytes,
          workingSetBytes: memoryBytes * workingSetShare,
          dirtyBytesPerS: (rateBps * dirtyShare) / 8,
        };
        const seen = emulate(technique, g, rateBps, autoConverge);
        const p = predictCopy(technique, g, rateBps, policy, { autoConverge, switchoverBps: rateBps });
        expect(seen.ended).toBe(true);
        return { time: Math.abs(p.totalMs / seen.totalMs - 1), bytes: Math.abs(p.bytes / seen.bytes - 1) };
      });
    for (const what of ['time', 'bytes'] as const) {
      const list = errors.map((e) => e[what]);
      const figures = [quantile(list, 0.5), quantile(list, 0.9)];
      expect({ what, figures, ok: figures.map((x, i) => x < (i === 0 ? most : most90)) }).toMatchObject({
        ok: [true, true],
      });
    }
  },
);

test('more of anything that is to be sent never makes a copy shorter', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('post-copy' as const, 'stop-and-copy' as const),
      fc.nat(1e10),
      fc.nat(1e10),
      fc.integer({ min: 1e6, max: 1e10 }),
      (t, memoryBytes, more, rateBps) => {
        const c = { rateBps, downtimeLimitMs: 300, hybridPasses: 2 };
        const g = { memoryBytes, dirtyBytesPerS: 0, workingSetBytes: 0 };
        expect(copyCost(t, { ...g, memoryBytes: memoryBytes + more }, c).totalMs).toBeGreaterThanOrEqual(
          copyCost(t, g, c).totalMs,
        );
      },
    ),
  );
});

const CSV = join(
  process.env.FAIRWAY_SHARED ?? join(import.meta.dirname, '../../../../shared'),
  'data/measured-migrations.csv',
);
const hasMeasured = existsSync(CSV);
(hasMeasured ? test : test.skip)(
  `migrations measured elsewhere${hasMeasured ? '' : ` (skipped, because ${CSV} is not there)`}: time within 3 % and bytes within 1 % in the median`,
  () => {
    const rows = singleMigrations(readMigrations(readFileSync(CSV, 'utf8')), []).filter((r) => r.subject === 'fairway');
    const of = (metric: string) => rows.find((r) => r.metric === metric)?.value ?? Number.NaN;
    for (const t of ['pre-copy', 'post-copy', 'hybrid']) {
      expect(of(`${t}: time, median error`)).toBeLessThan(3);
      expect(of(`${t}: bytes, median error`)).toBeLessThan(1);
      expect(of(`${t}: downtime, median error`)).toBeLessThan(20);
    }
  },
);

test('a table of measured migrations says what is wrong with it', () => {
  const head = 'campaign,technique,ram_mb,vcpus,run,setup_ms,downtime_ms,total_ms,ram_total_bytes,dirty_sync_count,';
  const all = `${head}throughput_mbps,transferred_bytes,normal_bytes\n`;
  expect(() => readMigrations('a,b\n1,2')).toThrow(/no column technique/);
  expect(() => readMigrations(`${all}x,teleport,1,1,1,1,1,1,1,1,1,1,1`)).toThrow(
    /line 2: no technique is called "teleport"/,
  );
  expect(() => readMigrations(`${all}x,hybrid,1,1,1,1,1,soon,1,1,1,1,1`)).toThrow(/line 2: total_ms is "soon"/);
  expect(readMigrations(`${all}x,hybrid,1,2,3,4,5,6,7,8,9,10,11`)).toEqual([
    expect.objectContaining({ technique: 'hybrid', downtimeMs: 5, throughputBps: 9e6, normalBytes: 11 }),
  ]);
});

describe('our own collected migrations', () => {
  const rows = collectedMigrations(readFileSync('test/data/migrations.csv', 'utf8'), []);
  const value = (subject: string, metric: string) =>
    rows.find((r) => r.subject === subject && r.metric === `collected, ${metric}`)?.value;

  test.each(['pre-copy', 'pre-copy, auto-converge', 'hybrid', 'post-copy', 'stop-and-copy'])(
    'time and bytes of %s are foretold better than from memory and bandwidth, and better for knowing what is zero',
    (method) => {
      for (const what of ['time', 'bytes']) {
        const error = value('fairway', `${method}: ${what}, median error`) ?? Number.NaN;
        expect(error).toBeLessThan(value('memory ÷ bandwidth', `${method}: ${what}, median error`) ?? Number.NaN);
        expect(error).toBeLessThan(
          value('fairway, all memory not zero', `${method}: ${what}, median error`) ?? Number.NaN,
        );
        expect(error).toBeLessThan(what === 'time' ? 10 : 5);
      }
    },
  );

  test('how long clients hear nothing while a guest waits for its pages', () => {
    expect(value('fairway', 'post-copy: silence of a client, median error')).toBeLessThan(20);
    expect(value('fairway', 'post-copy: silence of a client, 90th percentile of errors')).toBeLessThan(50);
  });

  test('which pre-copies end is known before they start', () => {
    const [ends, not, wronglyNot, wronglyEnds] = [
      'ends, as foretold',
      'does not end, as foretold',
      'ends, though said not to',
      'does not end, though said to',
    ].map((what) => value('fairway', `pre-copy: ${what}`));
    expect([ends, not, wronglyNot, wronglyEnds]).toEqual([17, 3, 0, 0]);
  });
});
