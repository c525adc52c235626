/** What the probes' notes of a move are made to say: silence beyond the pause, and what was lost for which reason. */
import type { MoveTimes } from '../../../sim/lab/standIn/driver.ts';
import {
  gapsAround,
  lossFromGuest,
  lossToGuest,
  moveFigures,
  type ProbeReport,
  percentile,
  tcpProblem,
} from '../../../sim/lab/standIn/measure.ts';

const move: MoveTimes = {
  migration: 'm',
  from: 'hv1',
  to: 'hv2',
  pausedMs: 1000,
  continuedMs: 1006,
  resumedMs: 1046,
};
const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);
const report = (r: Partial<ProbeReport>): ProbeReport => ({
  sent: [],
  received: [],
  sightings: {},
  late: [],
  tcp: null,
  ...r,
});

/** A client that sends each millisecond from 900 to 1200, and a guest that gets all but what falls into its pause. */
const quiet = () => {
  const sent = range(900, 1200);
  const inPause = (at: number) => at >= 1000 && at < 1046;
  return {
    client: report({ sent, received: sent.filter((at) => !inPause(at)).map((at) => [at - 900, at]) }),
    guest: report({
      sent: sent.filter((at) => !inPause(at)),
      received: sent.filter((at) => !inPause(at)).map((at) => [at - 900, at]),
      sightings: {
        hv1: sent.filter((at) => at < 1004).map((at) => [at - 900, at]),
        hv2: sent.filter((at) => at >= 1004).map((at) => [at - 900, at]),
      },
    }),
  };
};

test('the gap that holds the pause begins with the last packet before it; packets on their way end nothing', () => {
  expect(gapsAround([990, 999, 1047, 1048], move)).toEqual({ pauseMs: 48, laterMs: 1 });
  expect(gapsAround([999, 1002, 1047], move)).toEqual({ pauseMs: 45, laterMs: 0 });
});

test('a gap soon after the move counts, one long after it does not', () => {
  expect(gapsAround([999, 1047, 1060, 1300, 1301], move).laterMs).toBe(240);
  expect(gapsAround([999, 1047, 1048, 1600, 2500], move).laterMs).toBe(552);
});

test('a direction that stays silent is silent for ever', () => {
  expect(gapsAround([999], move).pauseMs).toBe(Number.POSITIVE_INFINITY);
});

test('what is beyond the stand-in’s own pause is added, holding included', () => {
  const { guest, client } = quiet();
  const [figures] = moveFigures([move], guest, client);
  expect(figures).toMatchObject({ ownPauseMs: 40, heldMs: 6, toGuestMs: 47, fromGuestMs: 47, addedMs: 7 });
});

test('a packet that stood before a closed door was lost in the pause, and nothing else was', () => {
  const { guest, client } = quiet();
  expect(lossToGuest([move], guest, client)).toMatchObject({
    sent: 300,
    lostInPause: 46,
    lostUnderway: 0,
    lostOutside: 0,
    duplicates: 0,
  });
});

test('a packet led to the old door after the guest has gone on is the network’s loss', () => {
  const { guest, client } = quiet();
  guest.received = guest.received.filter(([n]) => n !== 150);
  guest.sightings.hv1?.push([150, 1050]);
  guest.sightings.hv2 = (guest.sightings.hv2 ?? []).filter(([n]) => n !== 150);
  expect(lossToGuest([move], guest, client)).toMatchObject({ lostOutside: 1, lostOutsideAtMs: [50] });
});

test('a packet that was seen nowhere is told apart by when it was sent', () => {
  const { guest, client } = quiet();
  const without = (n: number) => {
    guest.received = guest.received.filter(([m]) => m !== n);
    for (const [door, seen] of Object.entries(guest.sightings)) guest.sightings[door] = seen.filter(([m]) => m !== n);
  };
  without(120);
  without(20);
  expect(lossToGuest([move], guest, client)).toMatchObject({ lostInPause: 45, lostUnderway: 1, lostOutside: 1 });
});

test('of what the guest sends nothing may be lost; twice is noticed', () => {
  const { guest, client } = quiet();
  guest.sent = range(0, 10);
  client.received = range(0, 9).map((n) => [n, n]);
  client.received.push([3, 3]);
  expect(lossFromGuest([move], guest, client)).toMatchObject({ lostInPause: 0, lostOutside: 1, duplicates: 1 });
});

test('percentiles are values that were measured', () => {
  const values = range(1, 51);
  expect([0.5, 0.95, 1].map((p) => percentile(values, p))).toEqual([25, 48, 50]);
  expect(percentile([], 0.5)).toBeNaN();
});

test('the connection survived only when each side got what the other sent', () => {
  const end = (sentBytes: number, receivedBytes: number, error: string | null = null) =>
    report({ tcp: { sentBytes, receivedBytes, error } });
  expect(tcpProblem(end(1003, 2000), end(2000, 1000))).toBeNull();
  expect(tcpProblem(end(1003, 2000), end(2008, 1000))).toMatch(/guest got 2000 of/);
  expect(tcpProblem(end(1000, 2000, 'word 7 where 6 belongs'), end(2000, 1000))).toMatch(/word 7/);
  expect(tcpProblem(report({}), report({}))).toMatch(/no connection/);
});
