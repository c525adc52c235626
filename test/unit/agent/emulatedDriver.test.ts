/** Emulated guests moved between two drivers that share a fabric, by a clock that the test moves. */
import type { DriverReport, MigrationDriver } from '../../../agent/core/driver.ts';
import { type CopyNetwork, createEmulatedDriver, createEmulatedFabric } from '../../../agent/io/emulatedDriver.ts';
import { type AgentCommandOf, type GuestInfo, type GuestSpec, guestSpecSchema } from '../../../contracts/agent.ts';
import { TECHNIQUES, type Technique } from '../../../contracts/common.ts';
import { silentLog } from '../../../contracts/log.ts';
import { manualClock } from './manualClock.ts';

const spec = guestSpecSchema.parse({
  name: 'vm1',
  mac: '52:54:00:00:00:01',
  memoryMiB: 256,
  accel: 'emulated',
  dirtyPagesPerS: 2000,
  workingSetMiB: 64,
});

async function pair({ network, launched = spec }: { network?: CopyNetwork; launched?: GuestSpec } = {}) {
  const clock = manualClock();
  const fabric = createEmulatedFabric();
  const said: string[] = [];
  const reports: DriverReport[] = [];
  const plugged: Record<string, string[]> = { a: [], b: [] };
  const make = (host: 'a' | 'b', ip: string): MigrationDriver =>
    createEmulatedDriver({
      config: { host, migrationIp: ip, incomingPorts: [49152, 49153], guests: host === 'a' ? [launched] : [] },
      clock,
      log: silentLog,
      fabric,
      ...(network === undefined ? {} : { network }),
      onGuest: (_name: string, g: GuestInfo | undefined) => plugged[host]?.push(g?.state ?? 'removed'),
    });
  const [a, b] = [make('a', '192.0.2.1'), make('b', '192.0.2.2')];
  for (const [name, d] of [
    ['a', a],
    ['b', b],
  ] as const) {
    await d.open((m) => {
      reports.push(m);
      if (m.type === 'event') said.push(`${name} ${m.event}`);
    });
  }
  const begin = async (technique: Technique, over: Partial<AgentCommandOf<'start'>> = {}) => {
    const at = await b.prepare({ do: 'prepare', migration: 'm1', guest: spec, technique });
    await a.start({
      do: 'start',
      migration: 'm1',
      guest: 'vm1',
      technique,
      address: at.address,
      port: at.port,
      bandwidthBps: 100e6,
      downtimeLimitMs: 300,
      hybridPasses: 2,
      pauseBeforeSwitchover: true,
      ...over,
    });
    return at;
  };
  const states = () =>
    [a, b].map((d) =>
      d
        .guests()
        .map((g) => g.state)
        .join(),
    );
  return { a, b, clock, said, reports, plugged, begin, states, fabric };
}

describe('emulated guests', () => {
  test.each(TECHNIQUES.map((t) => [t]))(
    '%s: from source to destination, with the events of the real driver',
    async (technique) => {
      const { a, b, clock, said, begin, states, plugged, fabric } = await pair();
      await begin(technique);
      expect(states()).toEqual([technique === 'stop-and-copy' ? 'paused' : 'running', 'incoming']);
      for (let s = 0; s < 120 && !said.includes('a preSwitchover'); s++) clock.advance(500);
      expect(states()).toEqual(['paused', 'incoming']);
      clock.advance(1000);
      await a.continueSwitchover('m1');
      clock.advance(60_000);
      const post = technique === 'pre-copy' || technique === 'stop-and-copy' ? [] : ['a postcopyStarted'];
      expect(said).toEqual(['a stream', 'a preSwitchover', ...post, 'b resumed', 'a completed']);
      expect(states()).toEqual(['stopped', 'running']);
      // The pause is downtime, as it is for the guest's clients.
      expect(a.migrations()[0]?.progress?.downtimeMs).toBeGreaterThanOrEqual(1000);
      await a.finish('m1');
      await b.finish('m1');
      expect(states()).toEqual(['', 'running']);
      expect([...a.migrations(), ...b.migrations(), ...a.pastEvents()]).toEqual([]);
      expect(plugged.a?.at(-1)).toBe('removed');
      expect(fabric.size).toBe(0);
    },
  );

  test('disks that nobody reads any more let their machine go, also before its migration is told to finish', async () => {
    const disks = [{ path: '/disks/vm1.raw', sizeBytes: 4 * 2 ** 20, format: 'raw' as const }];
    const withDisk = guestSpecSchema.parse({ ...spec, disks });
    const { a, b, clock, said, states } = await pair({ launched: withDisk });
    const disksFrom = await a.disks?.offer({ do: 'offerDisks', migration: 'm1', guest: 'vm1' });
    const options = { storage: 'on-demand' as const };
    const order = { migration: 'm1', technique: 'pre-copy' as const, options };
    const at = await b.prepare({ do: 'prepare', guest: withDisk, ...order, disksFrom });
    const { address, port } = at;
    const pace = { bandwidthBps: 100e6, downtimeLimitMs: 300, hybridPasses: 2, pauseBeforeSwitchover: false };
    await a.start({ do: 'start', guest: 'vm1', ...order, address, port, ...pace });
    clock.advance(60_000);
    await b.disks?.pull({ do: 'pullDisks', guest: 'vm1', pullBps: 100e6 });
    clock.advance(2000);
    expect(said.slice(-3)).toEqual(['b resumed', 'a completed', 'b disksPulled']);
    expect(states()).toEqual(['stopped', 'running']);
    await a.disks?.release({ do: 'releaseDisks', migration: 'm1', guest: 'vm1' });
    expect(states()).toEqual(['', 'running']);
    await a.finish('m1');
    expect(a.migrations()).toEqual([]);
  });

  test('the pace decides the time, and can be changed on the way', async () => {
    const seconds = async (later?: number) => {
      const { a, clock, said, begin } = await pair();
      await begin('post-copy', { pauseBeforeSwitchover: false });
      clock.advance(2000);
      if (later !== undefined) await a.setBandwidth({ do: 'setBandwidth', migration: 'm1', bandwidthBps: later });
      let s = 2;
      for (; !said.includes('a completed'); s += 0.1) clock.advance(100);
      return s;
    };
    expect(await seconds()).toBeCloseTo((256 * 1024 * 1024 * 8) / 100e6, 0);
    expect(await seconds(400e6)).toBeCloseTo(2 + (256 * 1024 * 1024 * 8 - 200e6) / 400e6, 0);
  });

  test('the network decides what is achieved; it is told of the end', async () => {
    const ended: string[] = [];
    const asked: number[] = [];
    const { a, clock, begin } = await pair({
      network: {
        achievedBps: (_copy, wanted) => {
          asked.push(wanted);
          return Math.min(wanted, 50e6);
        },
        ended: (migration) => ended.push(migration),
      },
    });
    await begin('pre-copy');
    clock.advance(10_000);
    expect(asked.every((w) => w === 100e6)).toBe(true);
    expect(a.migrations()[0]?.progress?.transferredBytes).toBeCloseTo((50e6 * 10) / 8, -6);
    await a.cancel('m1');
    expect(ended).toEqual(['m1']);
  });

  test('cancelled: the guest goes on at the source and what waited for it is gone', async () => {
    const { a, b, clock, said, begin, states } = await pair();
    await begin('hybrid');
    clock.advance(1000);
    await a.cancel('m1');
    await a.cancel('m1');
    clock.advance(10_000);
    expect(said).toEqual(['a stream', 'a cancelled']);
    expect(states()).toEqual(['running', '']);
    await b.abandon('m1');
    await a.finish('m1');
    expect([...a.migrations(), ...b.migrations()]).toEqual([]);
    await begin('pre-copy');
    expect(states()).toEqual(['running', 'incoming']);
  });

  test('a destination that vanishes fails the copy and gives the guest back', async () => {
    const { b, clock, said, begin, states } = await pair();
    await begin('pre-copy');
    await b.close({ stopGuests: true });
    clock.advance(1000);
    expect(said).toEqual(['a stream', 'a failed']);
    expect(states()).toEqual(['running', '']);
  });

  test('what cannot be done is refused with a reason', async () => {
    const { a, b, clock, said, begin } = await pair();
    const at = await begin('post-copy');
    expect(await b.prepare({ do: 'prepare', migration: 'm1', guest: spec, technique: 'post-copy' })).toEqual(at);
    await expect(a.finish('m1')).rejects.toMatchObject({ code: 'migration-running' });
    await expect(b.finish('m1')).rejects.toMatchObject({ code: 'guest-not-arrived' });
    await expect(a.abandon('m1')).rejects.toMatchObject({ code: 'not-abandonable' });
    await expect(a.continueSwitchover('m9')).rejects.toMatchObject({ code: 'migration-unknown', labels: ['notFound'] });
    clock.advance(100);
    await a.continueSwitchover('m1');
    clock.advance(1000);
    expect(said).toContain('a postcopyStarted');
    await expect(a.cancel('m1')).rejects.toMatchObject({ code: 'wrong-phase' });
    await expect(b.abandon('m1')).rejects.toMatchObject({ code: 'not-abandonable' });
    await expect(b.launch({ ...spec, memoryMiB: 512 })).rejects.toMatchObject({ code: 'guest-exists' });
  });

  test('the dirty rate is that of distinct pages', async () => {
    const { a, clock } = await pair();
    const short = a.measureDirtyRate('vm1', 1);
    clock.advance(1000);
    expect(await short).toEqual({ dirtyBytesPerS: 2000 * 4096 });
    const long = a.measureDirtyRate('vm1', 60);
    clock.advance(60_000);
    expect((await long).dirtyBytesPerS).toBeCloseTo((64 * 1024 * 1024) / 60);
  });
});
