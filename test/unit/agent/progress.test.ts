/** QEMU's figures to CopyProgress; the sample is an answer of QEMU 10.0.2. */
import fc from 'fast-check';
import { copyPhase, parseMigrateInfo, sameProgress, toProgress } from '../../../agent/core/progress.ts';
import { copyProgressSchema } from '../../../contracts/agent.ts';

const ANSWER = {
  'expected-downtime': 300,
  status: 'active',
  'setup-time': 2,
  'total-time': 10800,
  ram: {
    total: 268967936,
    'postcopy-requests': 0,
    'dirty-sync-count': 3,
    'multifd-bytes': 0,
    'pages-per-second': 3200,
    'downtime-bytes': 0,
    'page-size': 4096,
    remaining: 22949888,
    'postcopy-bytes': 0,
    mbps: 104.5,
    transferred: 143670240,
    'precopy-bytes': 143670000,
    duplicate: 30761,
    'dirty-pages-rate': 2100,
    'normal-bytes': 142098752,
    normal: 34692,
  },
};

describe('progress of a copy', () => {
  test('is what QEMU says, in the units of the contract', () => {
    expect(toProgress(parseMigrateInfo(ANSWER))).toEqual({
      phase: 'pre-copy',
      elapsedMs: 10800,
      transferredBytes: 143670240,
      remainingBytes: 22949888,
      totalBytes: 268967936,
      passes: 3,
      rateBps: 104.5e6,
      dirtyBytesPerS: 2100 * 4096,
    });
  });

  test('without memory figures keeps the last ones', () => {
    const last = toProgress(parseMigrateInfo(ANSWER));
    expect(toProgress({ status: 'completed', downtime: 33 }, last)).toEqual({
      ...last,
      phase: 'completed',
      downtimeMs: 33,
    });
    expect(toProgress({}, last)).toBe(last);
    expect(toProgress({ status: 'none' })).toBeUndefined();
  });

  test('knows every status of QEMU, and takes a broken post-copy for one that is not over', () => {
    expect(copyPhase('pre-switchover')).toBe('switchover');
    expect(copyPhase('device')).toBe('switchover');
    expect(copyPhase('postcopy-active')).toBe('post-copy');
    for (const broken of ['postcopy-paused', 'postcopy-recover-setup', 'postcopy-recover']) {
      expect(copyPhase(broken)).toBe('post-copy');
    }
    expect(copyPhase('cancelling')).toBe('pre-copy');
    expect(copyPhase('cancelled')).toBe('cancelled');
  });

  test('time alone is no news', () => {
    const p = toProgress(parseMigrateInfo(ANSWER));
    if (p === undefined) throw new Error('no progress');
    expect(sameProgress(p, { ...p, elapsedMs: 11_000 })).toBe(true);
    expect(sameProgress(p, { ...p, transferredBytes: p.transferredBytes + 1 })).toBe(false);
    expect(sameProgress(undefined, p)).toBe(false);
  });

  test('any JSON is read without a fault, and what comes out fits the contract', () => {
    const key = fc.constantFrom('status', 'ram', 'transferred', 'remaining', 'total', 'mbps', 'downtime', 'total-time');
    const leaf = fc.oneof(fc.double(), fc.string(), fc.constant(null), fc.constantFrom('active', 'completed'));
    const tree = fc.dictionary(key, fc.oneof(leaf, fc.dictionary(key, leaf)));
    fc.assert(
      fc.property(fc.oneof(tree, leaf), (answer) => {
        const p = toProgress(parseMigrateInfo(answer));
        if (p !== undefined) expect(copyProgressSchema.safeParse(p)).toMatchObject({ success: true });
      }),
      { numRuns: 1000 },
    );
  });
});
