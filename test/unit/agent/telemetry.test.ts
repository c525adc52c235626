/** The working set from samples of dirtying, and what of a host's figures is worth a message. */
import fc from 'fast-check';
import {
  NOTHING_TOLD,
  nicRates,
  parseNetDev,
  parseProcessTicks,
  type Told,
  telemetryMessage,
} from '../../../agent/core/telemetry.ts';
import { type DirtySample, estimateDirtying } from '../../../agent/core/workingSet.ts';
import { createTelemetry } from '../../../agent/io/telemetry.ts';
import { type AgentMessage, agentMessageSchema, guestSpecSchema } from '../../../contracts/agent.ts';
import type { Clock } from '../../../contracts/clock.ts';
import { noDriverFor } from './telemetryDriver.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;
type Shape = (rate: number, workingSet: number, seconds: number) => number;
const cyclic: Shape = (r, w, t) => Math.min(r * t, w);
const random: Shape = (r, w, t) => w * (1 - Math.exp((-r * t) / w));
const samples = (shape: Shape, rateMib: number, workingSetMib: number, windows: number[]): DirtySample[] =>
  windows.map((seconds) => ({ seconds, bytes: shape(rateMib * MIB, workingSetMib * MIB, seconds) }));

describe('the working set', () => {
  test('of guests of either kind, from three windows', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(cyclic, random),
        fc.double({ min: 4, max: 400, noNaN: true }),
        // Gone through in half of the longest window to nearly all of it.
        fc.double({ min: 0.2, max: 0.7, noNaN: true }),
        (shape, rate, share) => {
          const workingSet = rate * 3 * share;
          const found = estimateDirtying(samples(shape, rate, workingSet, [0.25, 1, 3]), GIB).workingSetBytes;
          expect(found).not.toBeNull();
          expect((found ?? 0) / MIB / workingSet).toBeGreaterThan(0.75);
          expect((found ?? 0) / MIB / workingSet).toBeLessThan(1.35);
        },
      ),
      { numRuns: 40 },
    );
  });

  test('two windows cannot tell the shapes apart: the estimate lies between', () => {
    for (const shape of [cyclic, random]) {
      const found = estimateDirtying(samples(shape, 30, 20, [0.5, 2]), GIB).workingSetBytes ?? 0;
      expect(found / MIB).toBeGreaterThan(20 * 0.6);
      expect(found / MIB).toBeLessThan(20 * 1.6);
    }
  });

  test('figures of a real guest: 8,000 pages a second, in 64 MiB', () => {
    const mib = (perS: number, seconds: number) => ({ seconds, bytes: (perS + 0.5) * seconds * MIB });
    const { dirtyBytesPerS, workingSetBytes } = estimateDirtying([mib(37, 0.25), mib(33, 1), mib(22, 3)], 256 * MIB);
    expect(dirtyBytesPerS / MIB).toBeCloseTo(37.5);
    expect((workingSetBytes ?? 0) / MIB).toBeGreaterThan(55);
    expect((workingSetBytes ?? 0) / MIB).toBeLessThan(80);
  });

  test('no bound where none is to be seen: growing on, hardly dirtying, one window', () => {
    const none = (s: DirtySample[]) => estimateDirtying(s, GIB).workingSetBytes;
    expect(none(samples(cyclic, 50, 1000, [0.25, 1, 3]))).toBeNull();
    expect(none(samples(cyclic, 1, 0.5, [0.25, 1, 3]))).toBeNull();
    expect(none(samples(cyclic, 50, 1, [1]))).toBeNull();
    expect(none([0.25, 1].map((seconds) => ({ seconds, bytes: 0 })))).toBeNull();
    expect(() => estimateDirtying([], GIB)).toThrow(RangeError);
  });

  test('whatever the samples: never more than the memory, never not a number', () => {
    const sample = fc.record({
      seconds: fc.double({ min: 0.05, max: 60, noNaN: true }),
      bytes: fc.double({ min: 0, max: 1e12, noNaN: true }),
    });
    fc.assert(
      fc.property(fc.array(sample, { minLength: 1, maxLength: 5 }), (list) => {
        const { dirtyBytesPerS, workingSetBytes } = estimateDirtying(list, GIB);
        expect(Number.isFinite(dirtyBytesPerS)).toBe(true);
        if (workingSetBytes !== null) expect(workingSetBytes > 0 && workingSetBytes <= GIB).toBe(true);
      }),
      { numRuns: 100 },
    );
  });
});

describe('counters', () => {
  test('of devices and processes are read as the kernel prints them', () => {
    const dev = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 100 2 0 0 0 0 0 0 100 2 0 0 0 0 0 0
br-hv1:4294967296 7 0 0 0 0 0 0 12 1 0 0 0 0 0 0
`;
    expect([...parseNetDev(dev)]).toEqual([
      ['lo', { rxBytes: 100, txBytes: 100 }],
      ['br-hv1', { rxBytes: 4294967296, txBytes: 12 }],
    ]);
    expect(parseProcessTicks('7 (qemu) ) x) S 1 7 7 0 -1 4 5 6 7 8 250 50 0 0 20')).toBe(300);
    expect(parseProcessTicks('')).toBeUndefined();
    fc.assert(fc.property(fc.string(), (text) => parseNetDev(text).size >= 0));
  });

  test('become rates; not across a device that was made anew', () => {
    const at = (rxBytes: number, txBytes: number) => ({ rxBytes, txBytes });
    expect(nicRates(at(1000, 0), at(126_000, 250), 1000)).toEqual({ rxBps: 1e6, txBps: 2000 });
    expect(nicRates(at(1000, 0), at(10, 250), 1000)).toBeUndefined();
    expect(nicRates(undefined, at(10, 250), 1000)).toBeUndefined();
    expect(nicRates(at(0, 0), at(10, 250), 0)).toBeUndefined();
  });
});

describe('messages', () => {
  test('say only what changed, and put together say everything', () => {
    const guest = fc.record(
      {
        dirtyBytesPerS: fc.nat(3),
        workingSetBytes: fc.option(fc.nat(3)),
        nic: fc.record({ rxBps: fc.nat(2), txBps: fc.nat(2) }),
      },
      { requiredKeys: [] },
    );
    const told: fc.Arbitrary<Told> = fc.record({
      host: fc.record({ cpuShare: fc.constantFrom(0, 0.5, 1), memoryUsedBytes: fc.nat(3) }, { requiredKeys: [] }),
      guests: fc
        .dictionary(fc.constantFrom('a', 'b'), guest)
        .map((d) => new Map(Object.entries(d).map(([name, g]) => [name, { guest: name, ...g }]))),
    });
    fc.assert(
      fc.property(told, told, (before, now) => {
        const message = telemetryMessage(before, now);
        expect(telemetryMessage(now, now)).toBeUndefined();
        if (message !== undefined) agentMessageSchema.parse(message);
        const host = { ...before.host, ...message?.host };
        expect(host).toMatchObject(now.host);
        for (const [name, figures] of now.guests) {
          const news = message?.guests?.find((g) => g.guest === name);
          expect({ ...before.guests.get(name), ...news, guest: name }).toMatchObject(figures);
        }
      }),
    );
    expect(telemetryMessage(NOTHING_TOLD, { host: {}, guests: new Map([['a', { guest: 'a' }]]) })).toBeUndefined();
  });
});

describe('an agent that looks', () => {
  /** A clock that a test moves on; whatever is due is called in order. */
  function manual(): Clock & { pass(ms: number): Promise<void> } {
    let nowMs = 1e6;
    let timers: { atMs: number; everyMs: number | null; fn: () => void }[] = [];
    const add = (ms: number, everyMs: number | null, fn: () => void) => {
      const timer = { atMs: nowMs + ms, everyMs, fn };
      timers.push(timer);
      return () => {
        timers = timers.filter((t) => t !== timer);
      };
    };
    return {
      now: () => nowMs,
      after: (ms, fn) => add(ms, null, fn),
      every: (ms, fn) => add(ms, ms, fn),
      async pass(ms) {
        for (const until = nowMs + ms; nowMs < until; ) {
          nowMs = Math.min(until, ...timers.map((t) => t.atMs));
          for (const t of timers.filter((x) => x.atMs <= nowMs)) {
            if (t.everyMs === null) timers = timers.filter((x) => x !== t);
            else t.atMs += t.everyMs;
            t.fn();
          }
          // Files are read in between.
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
      },
    };
  }
  const spec = guestSpecSchema.parse({ name: 'vm1', mac: '52:54:00:00:00:01', memoryMiB: 256, accel: 'emulated' });

  test('one message a period at most, samples in the background, and answers by what it knows', async () => {
    const clock = manual();
    const sent: AgentMessage[] = [];
    const windows: number[] = [];
    const driver = noDriverFor([{ spec, state: 'running', portName: 'tap1' }], async (_guest, seconds) => {
      windows.push(seconds);
      await new Promise<void>((resolve) => clock.after(seconds * 1000, resolve));
      return { dirtyBytesPerS: cyclic(40 * MIB, 60 * MIB, seconds) / seconds };
    });
    const telemetry = createTelemetry({
      config: { driver: 'emulated', runDir: '/nonexistent', migrationPort: 'lo' },
      driver,
      clock,
      log: () => {},
      send: (message) => sent.push(message),
      periodMs: 1000,
      dirtyEveryMs: 10_000,
    });
    const toldOfGuests = () => sent.flatMap((message) => (message.type === 'telemetry' ? (message.guests ?? []) : []));
    // The kernel's files are read in real time: on a busy machine that may take several of the test's periods.
    let periods = 0;
    for (; toldOfGuests().length === 0 && periods < 1000; periods++) await clock.pass(1000);
    expect(windows.slice(0, 3)).toEqual([0.25, 1, 3]);
    expect(sent.length).toBeLessThanOrEqual(periods);
    expect(toldOfGuests()[0]).toMatchObject({ guest: 'vm1', dirtyBytesPerS: 41_900_000 });
    // A second is too short to see 60 MiB gone through at 40 MiB/s; with what the background saw it is known.
    let answered = false;
    const answer = telemetry.measure('vm1', 1).finally(() => {
      answered = true;
    });
    while (!answered) await clock.pass(250);
    const { workingSetBytes } = await answer;
    expect((workingSetBytes ?? 0) / MIB).toBeGreaterThan(45);
    expect((workingSetBytes ?? 0) / MIB).toBeLessThan(80);
    telemetry.close();
    // What was being read when it was closed is not sent.
    const count = sent.length;
    await clock.pass(3000);
    expect(sent).toHaveLength(count);
  });
});
