/** Rates from counters: what is workload, what is migration, and what a counter that went back says. */
import { cookieFor, FEATURE } from '../../../controller/core/cookies.ts';
import { newJob } from '../../../controller/core/newJob.ts';
import { addReading, hostTraffic, workloadBps, workloadPeakBps } from '../../../controller/core/rates.ts';
import type { Job, PortHistory } from '../../../controller/core/state.ts';
import { CORE, Fabric, guest, HV2, twoHypervisors, UPLINK } from './fabric.ts';

const WINDOW_MS = 5000;
const MB = 1e6;
const read = (seconds: number, txMB: number, migrationMB: number) => ({
  atMs: seconds * 1000,
  rxBytes: 0,
  txBytes: txMB * MB,
  migrationTxBytes: migrationMB * MB,
  migrationRxBytes: 0,
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
    last: { atMs: f.nowMs, rxBytes: 0, txBytes: 0, migrationTxBytes: 0, migrationRxBytes: 0 },
    rates: [{ atMs: f.nowMs, rxBps, txBps, migrationTxBps, migrationRxBps: 0 }],
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

test('what a host sends of a migration, and the answers to it, is not its workload on a switch that it shares either', () => {
  const f = new Fabric({ queues: false });
  f.addSwitch(CORE, { 1: 'to-hv1', 2: 'to-hv2' });
  f.connect(CORE);
  f.agentUp('hv1', CORE, '10.0.0.1', [guest()], [], { migrationPort: 'to-hv1' });
  f.agentUp('hv2', CORE, '10.0.0.2', [], [], { migrationPort: 'to-hv2' });
  const ask = { moves: [{ guest: 'g1', destination: 'hv2' }], priority: 'high' as const };
  const asked = newJob(f.state, ask, ask.moves[0] as (typeof ask.moves)[0], { id: 'm-1', group: null, nowMs: f.nowMs });
  const stream = { sourceIp: '10.0.0.1', destinationIp: '10.0.0.2', sourcePort: 40_000, destinationPort: 49_152 };
  const job: Job = {
    ...(asked as Job),
    state: 'copying',
    technique: 'pre-copy',
    dpids: [CORE],
    links: [`${CORE}:2`],
    stream,
  };
  f.state = { ...f.state, jobs: new Map([['m-1', job]]) };
  // In each second: 10 MB of the stream and 0.2 MB of answers; hv1 also sends 1 MB and gets 0.5 MB of workload.
  for (let second = 0; second <= 3; second++) {
    const bytes = (mb: number) => mb * MB * second;
    f.nowMs += 1000;
    f.send({
      kind: 'counters',
      dpid: CORE,
      ports: [
        { portNo: 1, rxBytes: bytes(11), txBytes: bytes(0.7) },
        { portNo: 2, rxBytes: bytes(0.7), txBytes: bytes(11) },
      ],
      queues: [],
      flows: [
        { cookie: cookieFor(FEATURE.stream, job.number), packets: 1, bytes: bytes(10) },
        { cookie: cookieFor(FEATURE.answer, job.number), packets: 1, bytes: bytes(0.2) },
      ],
    });
  }
  const rounded = (host: string) => {
    const { inBps, outBps } = hostTraffic(f.state, host);
    return { inBps: Math.round(inBps), outBps: Math.round(outBps) };
  };
  expect(rounded('hv1')).toEqual({ inBps: 4 * MB, outBps: 8 * MB });
  expect(rounded('hv2')).toEqual({ inBps: 8 * MB, outBps: 4 * MB });
  for (const [port, bps] of [
    [1, 4 * MB],
    [2, 8 * MB],
  ] as const)
    expect(workloadBps(f.state, `${CORE}:${port}`, f.nowMs, 1000)).toBeCloseTo(bps, 0);
});
