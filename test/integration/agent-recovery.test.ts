/**
 * What becomes of a guest when its copy breaks, with real QEMU: streams that break or stand still in post-copy are taken up
 * again; wherever it was broken, two machines never run the guest at once (`sim/lab/whereabouts.ts` watches both), and the
 * guest's own count is unbroken.
 */

import type { EventMessage } from '../../agent/core/driver.ts';
import { guestPaths } from '../../agent/io/guestProcess.ts';
import { FairwayError } from '../../contracts/common.ts';
import { twiceMs, Whereabouts } from '../../sim/lab/whereabouts.ts';
import { gate } from './gate.ts';
import { makeQmpRig, type QmpRig } from './qmpRig.ts';
import { whyNoRealGuests } from './realGuests.ts';
import { Wire } from './wire.ts';

const { reason, real, named } = gate(whyNoRealGuests());
jest.setTimeout(600_000);

let rig: QmpRig;
let wire: Wire | undefined;
let watch: Whereabouts;
const SLOW_BPS = 24e6;
const FAST_BPS = 800e6;

beforeEach(async () => {
  if (reason !== undefined) return;
  rig = await makeQmpRig();
  const monitor = (host: 'h1' | 'h2') => guestPaths(rig.runDir(host), rig.spec.name).monitor;
  watch = new Whereabouts({ h1: monitor('h1'), h2: monitor('h2') });
});
afterEach(async () => {
  if (reason !== undefined) return;
  await watch.stop();
  await wire?.close();
  wire = undefined;
  await rig.close();
});

const counts = (): number[] =>
  // A guest can be stopped in the middle of a line, which it ends elsewhere; the last may be half written.
  (rig.console('h1') + rig.console('h2'))
    .split('\n')
    .slice(0, -1)
    .flatMap((line) => /fw-count (\d+)\r?$/.exec(line)?.[1] ?? [])
    .map(Number);
async function until<T>(what: () => T | undefined | false): Promise<T> {
  for (;;) {
    const found = what();
    if (found !== undefined && found !== false) return found;
    await rig.pause(20);
  }
}
const eventsOf = (host: 'h1' | 'h2') => rig.reports[host].filter((m): m is EventMessage => m.type === 'event');
const event = (host: 'h1' | 'h2', name: EventMessage['event'], from = 0) =>
  until(() =>
    eventsOf(host)
      .slice(from)
      .find((m) => m.event === name),
  );
const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof FairwayError ? error.code : String(error)),
  );

/** A post-copy from h1 to h2 in its middle, through a wire. */
async function inPostcopy(): Promise<Wire> {
  const common = { migration: 'm1', technique: 'post-copy' as const };
  const { address, port } = await rig.drivers.h2.prepare({ do: 'prepare', guest: rig.spec, ...common });
  wire = await Wire.to(port);
  await rig.drivers.h1.start({
    ...{ do: 'start', guest: rig.spec.name, address, port: wire.port, bandwidthBps: SLOW_BPS, downtimeLimitMs: 300 },
    ...{ hybridPasses: 1, pauseBeforeSwitchover: false, ...common },
  });
  await event('h1', 'postcopyStarted');
  await event('h2', 'resumed');
  await until(() => rig.reports.h1.some((m) => m.type === 'progress' && m.progress.transferredBytes > 2e6));
  return wire;
}
async function takeUp(): Promise<void> {
  const { address, port } = await rig.drivers.h2.recoverIncoming('m1');
  // The same order again, because its answer was lost.
  expect(await rig.drivers.h2.recoverIncoming('m1')).toMatchObject({ address, port });
  const order = { do: 'recoverOutgoing' as const, migration: 'm1', address, port, bandwidthBps: FAST_BPS };
  await rig.drivers.h1.recoverOutgoing(order);
}
async function arrives(): Promise<void> {
  await event('h1', 'completed');
  const from = counts().length;
  // One reading: it counts on while it is read.
  const all = await until(() => {
    const now = counts();
    return now.length > from + 3 && now;
  });
  expect(all).toEqual(all.map((_, i) => i + 1));
  expect(twiceMs(watch.stays())).toBe(0);
  expect(watch.stays().map((s) => s.host)).toEqual(['h1', 'h2']);
  for (const host of ['h1', 'h2']) expect(watch.answers[host]).toBeGreaterThan(10);
}

describe('a post-copy whose stream breaks', () => {
  real(named('waits at both ends, is taken up on a new port at a new pace, and completes'), async () => {
    const through = await inPostcopy();
    through.cut();
    expect((await event('h1', 'postcopyPaused')).reason).toMatch(/the stream broke/);
    await event('h2', 'postcopyPaused');
    expect(await codeOf(rig.drivers.h1.cancel('m1'))).toBe('wrong-phase');
    expect(await codeOf(rig.drivers.h2.abandon('m1'))).toBe('not-abandonable');
    expect(rig.drivers.h1.migrations()).toMatchObject([{ migration: 'm1', progress: { phase: 'post-copy' } }]);
    await takeUp();
    await event('h1', 'postcopyRecovered');
    await arrives();
    // What is told again after a reconnect says how it is, not how it was.
    expect(rig.drivers.h1.pastEvents().map((e) => e.event)).not.toContain('postcopyPaused');
    await rig.drivers.h1.finish('m1');
    await rig.drivers.h2.finish('m1');
    expect(rig.drivers.h1.guests()).toEqual([]);
  });

  real(
    named('that only stands still is noticed by the source, and mended though the destination notices nothing'),
    async () => {
      const through = await inPostcopy();
      through.freeze();
      // What is in the buffers of the sockets still goes; the sooner they are full the better.
      await rig.drivers.h1.setBandwidth({ do: 'setBandwidth', migration: 'm1', bandwidthBps: FAST_BPS });
      expect((await event('h1', 'postcopyPaused')).reason).toMatch(/no byte/);
      expect(eventsOf('h2').map((e) => e.event)).toEqual(['resumed']);
      await takeUp();
      await arrives();
    },
  );

  real(named('is mended though both agents were restarted while it was broken, and breaks again'), async () => {
    const through = await inPostcopy();
    through.cut();
    await event('h1', 'postcopyPaused');
    await event('h2', 'postcopyPaused');
    for (const host of ['h1', 'h2'] as const) await rig.restart(host);
    expect(rig.drivers.h1.pastEvents().at(-1)?.event).toBe('postcopyPaused');
    expect(rig.drivers.h1.migrations()).toMatchObject([{ migration: 'm1', guest: 'vm1', role: 'source' }]);
    // Nobody listens there: the attempt fails, which is told, and the next one succeeds.
    const told = eventsOf('h1').length;
    const { port, address } = await rig.drivers.h2.recoverIncoming('m1');
    const order = { do: 'recoverOutgoing' as const, migration: 'm1', address, bandwidthBps: FAST_BPS };
    await rig.drivers.h1.recoverOutgoing({ ...order, port: through.port });
    expect((await event('h1', 'postcopyPaused', told)).reason).toMatch(/could not be taken up/);
    await rig.drivers.h1.recoverOutgoing({ ...order, port });
    await arrives();
  });

  real(named('is lost with its destination, and the source does not run what it still has'), async () => {
    await inPostcopy();
    await rig.killMachine?.('h2');
    await event('h1', 'postcopyPaused');
    expect(await codeOf(rig.drivers.h2.recoverIncoming('m1'))).toBe('guest-gone');
    await rig.pause(500);
    expect(rig.drivers.h1.guests()).toMatchObject([{ state: 'paused' }]);
    expect(watch.stays().map((s) => s.host)).toEqual(['h1', 'h2']);
    expect(twiceMs(watch.stays())).toBe(0);
  });
});
