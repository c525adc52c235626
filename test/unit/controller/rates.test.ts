/** Rates from counters: what is workload, what is migration, and what a counter that went back says. */
import { addReading, hostTraffic, workloadPeakBps } from '../../../controller/core/rates.ts';
import type { PortHistory } from '../../../controller/core/state.ts';
import { CORE, HV2, twoHypervisors, UPLINK } from './fabric.ts';

const WINDOW_MS = 5000;
const MB = 1e6;
const read = (seconds: number, txMB: number, migrationMB: number) => ({
  atMs: seconds * 1000,
  rxBytes: 0,
  txBytes: txMB * MB,
  migrationTxBytes: migrationMB * MB,
});
const history = (...readings: ReturnType<typeof read>[]) =>
  readings.reduce<PortHistory | undefined>((h, r) => addReading(h, r, WINDOW_MS), undefined) as PortHistory;

test('workload is what was sent without migration streams', () => {
  const { rates } = history(read(0, 0, 0), read(1, 20, 5), read(2, 45, 15));
  expect(rates.map((r) => (r.txBps - r.migrationTxBps) / MB)).toEqual([120, 120]);
});

test('an interval in which a migration counter was taken away is not mistaken for workload', () => {
  // The queue of a migration that ended is gone, and its 10 MB of this second with it.
  const { rates, last } = history(read(0, 0, 100), read(1, 20, 105), read(2, 45, 0), read(3, 65, 0));
  expect(rates.map((r) => r.atMs)).toEqual([1000, 3000]);
  expect(Math.max(...rates.map((r) => r.txBps - r.migrationTxBps))).toBe(160 * MB);
  expect(last.atMs).toBe(3000);
});

test('a port counter that went back counts from zero', () => {
  const { rates } = history(read(0, 500, 0), read(1, 10, 0));
  expect(rates.map((r) => r.txBps)).toEqual([80 * MB]);
});

test('what a host receives of a migration is not its workload', () => {
  const f = twoHypervisors();
  const rate = (rxBps: number, txBps: number, migrationTxBps: number): PortHistory => ({
    last: { atMs: f.nowMs, rxBytes: 0, txBytes: 0, migrationTxBytes: 0 },
    rates: [{ atMs: f.nowMs, rxBps, txBps, migrationTxBps }],
  });
  const into = `${CORE}:2`;
  const state = {
    ...f.state,
    ports: new Map([
      [`${HV2}:${UPLINK}`, rate(100 * MB, 0.2 * MB, 0)],
      [into, rate(0.2 * MB, 100 * MB, 99 * MB)],
    ]),
  };
  expect(hostTraffic(state, 'hv2')).toMatchObject({ inBps: 1 * MB, outBps: 0.2 * MB, direction: 'idle' });
  expect(workloadPeakBps(state, into)).toBe(1 * MB);
});
