/** The arithmetic of `sim/lab/measure.ts`: seconds of a workload, silence of a guest, lines of iperf3 and ping. */
import fc from 'fast-check';
import {
  binRates,
  longestSilence,
  parseIperfInterval,
  parsePingAnswer,
  type Received,
} from '../../../sim/lab/measure.ts';

const sample = (fromMs: number, toMs: number, mbps: number): Received => ({
  fromMs,
  toMs,
  bits: mbps * 1000 * (toMs - fromMs),
});

describe('seconds of a workload', () => {
  test('a steady rate is that rate in every second, also when samples lie across the borders', () => {
    const samples = Array.from({ length: 60 }, (_, i) => sample(37 + i * 100, 137 + i * 100, 160));
    for (const r of binRates(samples, 1000, 4000)) expect(r).toBeCloseTo(160, 6);
  });

  test('seconds count from the start of the migration, not from the clock', () => {
    const samples = [sample(500, 1500, 100), sample(1500, 2500, 40)];
    expect(binRates(samples, 500, 2500)).toEqual([100, 40]);
    expect(binRates(samples, 1000, 2000)).toEqual([70]);
  });

  test('the last second is as long as what is left, and left out below 300 ms', () => {
    const samples = [sample(0, 1500, 80)];
    expect(binRates(samples, 0, 1500)).toEqual([80, 80]);
    expect(binRates(samples, 0, 1299)).toEqual([80]);
    expect(binRates(samples, 0, 1300)).toHaveLength(2);
  });

  test('a migration shorter than the shortest second still has one', () => {
    expect(binRates([sample(0, 1000, 50)], 100, 200)).toEqual([50]);
    expect(binRates([], 100, 100)).toEqual([]);
  });

  test('nothing received is 0, not missing', () => {
    expect(binRates([], 0, 2000)).toEqual([0, 0]);
  });

  test('a last second of no length is none', () => {
    expect(binRates([sample(0, 1000, 60)], 0, 1000, 0)).toEqual([60]);
    expect(binRates([sample(0, 1000, 60)], 1000, 1000)).toEqual([]);
  });

  test('two streams add up', () => {
    expect(binRates([sample(0, 1000, 60), sample(0, 1000, 100)], 0, 1000)).toEqual([160]);
  });

  test('bits are neither lost nor invented', () => {
    const stream = fc.array(
      fc.record({ ms: fc.integer({ min: 20, max: 400 }), bits: fc.integer({ min: 0, max: 1e8 }) }),
      {
        minLength: 1,
        maxLength: 100,
      },
    );
    fc.assert(
      fc.property(stream, (pieces) => {
        let at = 0;
        const samples = pieces.map(({ ms, bits }) => {
          const fromMs = at;
          at += ms;
          return { fromMs, toMs: at, bits };
        });
        const total = pieces.reduce((a, p) => a + p.bits, 0);
        const bins = binRates(samples, 0, at, 0);
        const counted = bins.reduce((a, rate, i) => a + rate * 1000 * Math.min(1000, at - i * 1000), 0);
        expect(Math.abs(counted - total)).toBeLessThanOrEqual(1e-6 * total + 1e-3);
      }),
    );
  });
});

describe('silence of a guest', () => {
  test('is the largest gap between successive answers', () => {
    expect(longestSilence([0, 10, 20, 350, 360, 370], 0, 370)).toBe(330);
  });

  test('counts from the last answer before the start, and to the first after the end', () => {
    expect(longestSilence([90, 300, 310, 700], 100, 600)).toBe(390);
  });

  test('a guest that never answers again is silent to the end', () => {
    expect(longestSilence([90, 100], 100, 5000)).toBe(4900);
    expect(longestSilence([], 1000, 3000)).toBe(2000);
  });

  test('gaps before and after do not count', () => {
    expect(longestSilence([0, 900, 1000, 1010, 1020, 1030, 9000], 1000, 1030)).toBe(10);
  });

  test('order does not matter, and it is at least the mean distance', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1000 }), { minLength: 1 }), (answers) => {
        const silence = longestSilence(answers, 0, 1000);
        expect(longestSilence([...answers].reverse(), 0, 1000)).toBe(silence);
        expect(silence).toBeGreaterThanOrEqual(1000 / (answers.length + 1) - 1e-9);
        expect(silence).toBeLessThanOrEqual(1000);
      }),
    );
  });
});

describe('lines of the measuring programs', () => {
  test('an interval of iperf3, whatever unit the transfer has', () => {
    expect(parseIperfInterval('[  5]   0.10-0.20   sec  1.90 MBytes  160000 Kbits/sec                  ')).toEqual({
      fromMs: 100,
      toMs: 200,
      bits: 160_000 * 100,
    });
    expect(parseIperfInterval('[ 12]  99.90-100.00 sec   512 KBytes  41943 Kbits/sec')?.bits).toBeCloseTo(4_194_300, 3);
    expect(parseIperfInterval('[  5]   3.00-3.10   sec  0.00 Bytes  0.00 Kbits/sec')?.bits).toBe(0);
  });

  test('headings, final sums and empty intervals are none', () => {
    for (const line of [
      '[ ID] Interval           Transfer     Bitrate',
      '[  5]   0.00-1.01   sec  14.7 MBytes  123055 Kbits/sec                  receiver',
      '[  5]   1.00-1.00   sec  0.00 Bytes  0.00 Kbits/sec',
      'Accepted connection from 10.0.0.21, port 38520',
      '- - - - - - - - - - - - -',
      '',
    ]) {
      expect(parseIperfInterval(line)).toBeUndefined();
    }
  });

  test('an answer to ping, and nothing else', () => {
    expect(parsePingAnswer('[1700000000.250000] 64 bytes from 10.0.0.101: icmp_seq=7 ttl=64 time=1.52 ms')).toBe(
      1_700_000_000_250,
    );
    expect(
      parsePingAnswer('[1700000000.250000] From 10.0.0.22 icmp_seq=1 Destination Host Unreachable'),
    ).toBeUndefined();
    expect(parsePingAnswer('PING 10.0.0.101 (10.0.0.101) 56(84) bytes of data.')).toBeUndefined();
  });
});
