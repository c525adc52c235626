/**
 * Counters that a real Open vSwitch had under iperf3 (test/data/counters, see test/data/README.md), replayed second by second
 * through the core's rates and the policies' classification: which way the traffic goes, how sure that is, that it does not
 * flap, and that a migration stream beside it is not workload.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Direction } from '../../../contracts/common.ts';
import { cookieFor, FEATURE } from '../../../controller/core/cookies.ts';
import { newJob } from '../../../controller/core/newJob.ts';
import { guestTraffic, hostTraffic, workloadBps } from '../../../controller/core/rates.ts';
import type { Job } from '../../../controller/core/state.ts';
import { classifyDirection } from '../../../policies/index.ts';
import { CORE, type Fabric, HV1, twoHypervisors, UPLINK } from './fabric.ts';

const CAPACITY_BPS = 100e6;
const TAP = 2;
const FILES = join(__dirname, '../../data/counters');

interface Row {
  atMs: number;
  guest: { rx: number; tx: number };
  uplink: { rx: number; tx: number };
  stream: number;
  answers: number;
}

function recorded(name: string): Row[] {
  const [, ...lines] = readFileSync(join(FILES, `${name}.csv`), 'utf8')
    .trim()
    .split('\n');
  return lines.map((line) => {
    const [atMs, grx, gtx, urx, utx, stream, answers] = line.split(',').map(Number) as [
      ...[number, number, number, number, number, number, number],
    ];
    return { atMs, guest: { rx: grx, tx: gtx }, uplink: { rx: urx, tx: utx }, stream, answers };
  });
}

/** A copy by the uplink, whose stream the switch counts. */
function withCopy(f: Fabric): Job {
  const ask = { moves: [{ guest: 'g1', destination: 'hv2' }], priority: 'low' as const };
  const asked = newJob(f.state, ask, ask.moves[0] as (typeof ask.moves)[0], { id: 'm-1', group: null, nowMs: f.nowMs });
  const stream = { sourceIp: '10.0.0.1', destinationIp: '10.0.0.2', sourcePort: 40_000, destinationPort: 49_152 };
  const job: Job = {
    ...(asked as Job),
    state: 'copying',
    technique: 'pre-copy',
    dpids: [HV1, CORE],
    links: [`${HV1}:${UPLINK}`, `${CORE}:2`],
    stream,
  };
  f.state = { ...f.state, jobs: new Map([['m-1', job]]) };
  return job;
}

interface Seen {
  guest: Direction;
  host: Direction;
  /** Of the guest's direction. */
  confidence: number;
  /** What the last reading alone would say of the guest. */
  naive: Direction;
  /** Leaving by the uplink, and what the guest sent, bit/s. */
  workloadBps: number;
  sentBps: number;
  streamBps: number;
}

/** What the core makes of a recording, from the second reading on. */
function replay(name: string): Seen[] {
  const f = twoHypervisors({ capacityBps: CAPACITY_BPS });
  const job = withCopy(f);
  const rows = recorded(name);
  const startMs = f.nowMs - (rows[0]?.atMs ?? 0);
  const seen: Seen[] = [];
  rows.forEach((row, i) => {
    f.nowMs = startMs + row.atMs;
    const flows = [
      { cookie: cookieFor(FEATURE.stream, job.number), packets: 0, bytes: row.stream },
      { cookie: cookieFor(FEATURE.answer, job.number), packets: 0, bytes: row.answers },
    ];
    const counters = (dpid: string, ports: { portNo: number; rxBytes: number; txBytes: number }[]) =>
      f.send({ kind: 'counters', dpid, ports, queues: [], flows });
    counters(HV1, [
      { portNo: TAP, rxBytes: row.guest.rx, txBytes: row.guest.tx },
      { portNo: UPLINK, rxBytes: row.uplink.rx, txBytes: row.uplink.tx },
    ]);
    counters(CORE, [
      { portNo: 1, rxBytes: row.uplink.tx, txBytes: row.uplink.rx },
      { portNo: 2, rxBytes: 0, txBytes: row.stream },
    ]);
    f.send({ kind: 'sampled' });
    const before = rows[i - 1];
    if (!before) return;
    const bps = (now: number, then: number) => ((now - then) * 8000) / (row.atMs - before.atMs);
    const guest = guestTraffic(f.state, 'g1');
    const inBps = bps(row.guest.tx, before.guest.tx);
    const sentBps = bps(row.guest.rx, before.guest.rx);
    seen.push({
      guest: guest.direction,
      host: hostTraffic(f.state, 'hv1').direction,
      confidence: Number(guest.reasons[0]?.inputs.confidence),
      naive: classifyDirection({ inBps, outBps: sentBps, capacityBps: CAPACITY_BPS }, f.state.policy).value,
      workloadBps: workloadBps(f.state, `${HV1}:${UPLINK}`, f.nowMs, 5000) ?? Number.NaN,
      sentBps,
      streamBps: bps(row.stream, before.stream),
    });
  });
  return seen;
}

const changes = (list: readonly Direction[]) => list.filter((d, i) => i > 0 && d !== list[i - 1]).length;
const mean = (list: readonly number[]) => list.reduce((a, b) => a + b, 0) / list.length;
/** Until the window is full a series says little. */
const settled = (seen: readonly Seen[]) => seen.slice(5, -1);

describe.each(['alone', 'stream'])('%s', (beside) => {
  test.each<[string, Direction]>([
    ['in', 'in'],
    ['out', 'out'],
    ['both', 'mixed'],
    ['none', 'idle'],
  ])('a workload that goes %s is %s, at the guest and at its host', (what, direction) => {
    const seen = settled(replay(`${what}-${beside}`));
    expect(seen.length).toBeGreaterThanOrEqual(6);
    expect([...new Set(seen.map((s) => s.guest))]).toEqual([direction]);
    expect([...new Set(seen.map((s) => s.host))]).toEqual([direction]);
    // Most readings agree: of five, four would be (4 + 1) ÷ (5 + 2).
    expect(mean(seen.map((s) => s.confidence))).toBeGreaterThan(0.5);
  });

  test('one that comes in bursts does not flap as its readings do', () => {
    const seen = replay(`bursty-${beside}`);
    const naive = changes(seen.map((s) => s.naive));
    expect(naive).toBeGreaterThan(4);
    expect(changes(settled(seen).map((s) => s.guest))).toBeLessThanOrEqual(Math.floor(naive / 3));
    expect(mean(settled(seen).map((s) => s.confidence))).toBeLessThan(
      mean(settled(replay(`out-${beside}`)).map((s) => s.confidence)),
    );
  });
});

test.each(['none', 'in', 'out', 'both', 'bursty'])('%s: the stream beside it is not workload', (what) => {
  const seen = replay(`${what}-stream`);
  const during = seen.filter((s) => s.streamBps > 10e6);
  // Recorded as it should be: there was a stream for some seconds, and a time without one.
  expect(during.length).toBeGreaterThan(3);
  expect(seen.length - during.length).toBeGreaterThan(3);
  // What leaves by the uplink without the stream is what the guest sent, but for what the flow's counter lags.
  const apart = Math.abs(mean(during.map((s) => s.workloadBps)) - mean(during.map((s) => s.sentBps)));
  expect(apart).toBeLessThan(0.15 * mean(during.map((s) => s.streamBps)));
});
