/** What the lab's record says: how the slice followed the workload, which moves overlapped, whose flows were left. */
import { parseFlows } from '../../../sim/lab/leftovers.ts';
import { describeLab } from '../../../sim/lab/network.ts';
import { runScenario } from '../../../sim/lab/run.ts';
import { overlaps } from '../../../sim/lab/scenarios/gang.ts';
import { change } from '../../../sim/lab/scenarios/readjust.ts';

describe('how a slice followed the workload', () => {
  const steps = [
    { atMs: 0, mbps: 60 },
    { atMs: 9100, mbps: 75 },
    { atMs: 9900, mbps: 99 },
    { atMs: 18_500, mbps: 61 },
  ];

  test('the first step near what the workload now leaves counts', () => {
    expect(change(steps, 8000, 160, 60, 17_000)).toEqual({
      atMs: 8000,
      fromMbps: 160,
      toMbps: 60,
      expectedSliceMbps: 100,
      followedAtMs: 9900,
      delayPeriods: 1.9,
    });
    expect(change(steps, 17_000, 60, 160, 25_000)).toMatchObject({ expectedSliceMbps: 60, delayPeriods: 1.5 });
  });

  test('a slice that never came there did not follow, nor does one after the next change', () => {
    expect(change(steps.slice(0, 2), 8000, 160, 60, 17_000)).toMatchObject({ followedAtMs: null, delayPeriods: null });
    expect(change(steps, 8000, 160, 60, 9500)).toMatchObject({ followedAtMs: null });
  });

  test('a step before the change is no answer to it', () => {
    expect(change([{ atMs: 100, mbps: 100 }], 200, 160, 60, 1000).followedAtMs).toBeNull();
  });
});

test('moves that only touch do not overlap', () => {
  const serial = [
    { startMs: 0, endMs: 10 },
    { startMs: 10, endMs: 20 },
    { startMs: 25, endMs: 30 },
  ];
  expect(overlaps(serial)).toBe(0);
  expect(overlaps([...serial, { startMs: 5, endMs: 26 }])).toBe(3);
});

test('flows are told by the migration in their cookie', () => {
  const dump = [
    'OFPST_FLOW reply (OF1.3) (xid=0x2):',
    ' cookie=0xfa1c010200000000, duration=3.1s, table=2, n_packets=0, n_bytes=0, priority=0 actions=FLOOD',
    ' cookie=0xfa1c01040000002a, duration=3.1s, table=0, n_packets=9, n_bytes=900, priority=30000,tcp actions=goto_table:1',
  ].join('\n');
  expect(parseFlows(dump).map((f) => f.migration)).toEqual([0, 42]);
  expect(parseFlows(dump)[1]?.text).toContain('priority=30000,tcp');
});

describe('names', () => {
  test('every namespace carries the prefix, and so does the directory', () => {
    const lab = describeLab({ prefix: 'abc' });
    expect(lab.ns('hv1')).toBe('abc-hv1');
    expect(lab.stateDir).toBe('/var/lib/fairway-lab/abc');
    expect(lab.switches.core.ovsdb).toBe('unix:/var/lib/fairway-lab/abc/core/db.sock');
  });

  test.each(['', 'Fwlab', 'a-b', '../x', '1abc', 'abcdefghijklm'])('prefix %j is refused', (prefix) => {
    expect(() => describeLab({ prefix })).toThrow(/must be 1-12/);
  });

  test('an unknown scenario is refused with the names of those there are', async () => {
    const options = { json: true, out: () => {}, keep: false, signal: new AbortController().signal };
    await expect(runScenario('contentoin', options)).rejects.toMatchObject({ code: 'lab.scenario' });
    await expect(runScenario('toString', options)).rejects.toThrow(/contention .*readjust .*gang /);
  });
});
