/**
 * The three storage modes with a real guest that writes to its disk and reads it while it is moved: every block that it was
 * told is written is there afterwards, what it reads is what it read before, and what cannot be done is refused with a
 * reason before anything moves.
 */

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { DiskCommands, EventMessage } from '../../agent/core/driver.ts';
import { guestPaths } from '../../agent/io/guestProcess.ts';
import type { AgentCommandOf, StorageMode } from '../../contracts/agent.ts';
import { FairwayError } from '../../contracts/common.ts';
import { twiceMs, Whereabouts } from '../../sim/lab/whereabouts.ts';
import {
  checkDisk,
  coldData,
  DISK_GUEST,
  DISK_MIB,
  diskImage,
  lastWrittenIn,
  MIB,
  READ_MIB,
  sumOf,
  sumsIn,
} from './diskGuest.ts';
import type { HostName } from './driverContract.ts';
import { gate } from './gate.ts';
import { makeQmpRig, type QmpRig } from './qmpRig.ts';
import { whyNoRealGuests } from './realGuests.ts';
import { Wire } from './wire.ts';

jest.setTimeout(600_000);
const { reason, real, named } = gate(whyNoRealGuests());

const BANDWIDTH_BPS = 400e6;
const cold = coldData(24);

describe('a guest with a disk', () => {
  let rig: QmpRig;
  let watch: Whereabouts;
  let folder: string;
  let lastMigration = 0;
  const diskAt = (host: HostName) => join(folder, `disks-${host}`, 'vm1.img');
  const events = (host: HostName, id: string): EventMessage[] =>
    rig.reports[host].filter((m): m is EventMessage => m.type === 'event' && m.migration === id);
  async function until<T>(what: () => T | undefined | false | Promise<T | undefined | false>): Promise<T> {
    for (;;) {
      const found = await what();
      if (found !== undefined && found !== false) return found;
      await rig.pause(20);
    }
  }
  const lastWritten = (host: HostName): number => lastWrittenIn(rig.console(host));
  const sums = (host: HostName): string[] => sumsIn(rig.console(host));

  beforeEach(async () => {
    if (reason !== undefined) return;
    rig = await makeQmpRig(
      (host, where) => ({ diskFolder: join(where, `disks-${host}`) }),
      (where) => {
        folder = where;
        mkdirSync(join(where, 'disks-h1'));
        const path = join(where, 'disks-h1', 'vm1.img');
        writeFileSync(path, diskImage(cold));
        return { disks: [{ path, sizeBytes: DISK_MIB * MIB, format: 'raw' }], append: DISK_GUEST };
      },
    );
    const monitor = (host: HostName) => guestPaths(rig.runDir(host), rig.spec.name).monitor;
    watch = new Whereabouts({ h1: monitor('h1'), h2: monitor('h2') });
    await until(() => lastWritten('h1') > 3 && sums('h1').length > 0);
  });
  /** Two machines have never run the guest at once, and where it ran since. */
  const ranAt = (): string[] => {
    const stays = watch.stays();
    expect(twiceMs(stays)).toBe(0);
    return stays.map((s) => s.host);
  };
  afterEach(async () => {
    await watch?.stop();
    for (const wire of wires.splice(0)) await wire.close();
    await rig?.close();
  });

  /** Paths of disks that a test may cut. */
  const wires: Wire[] = [];
  async function wireTo(port: number): Promise<Wire> {
    const wire = await Wire.to(port);
    wires.push(wire);
    return wire;
  }
  const disks = () => rig.drivers.h2.disks as DiskCommands;
  const fetched = () => disks().fetched('vm1');
  /** How h2 has told of its guests so far. */
  const statesTold = () => rig.reports.h2.flatMap((m) => (m.type === 'guests' ? m.guests.map((g) => g.state) : []));
  type Over = Partial<AgentCommandOf<'start'>> & { pullBps?: number; isWired?: boolean };
  async function begin(storage: StorageMode | undefined, over: Over = {}) {
    const id = `s${++lastMigration}`;
    const { pullBps, isWired, ...start } = over;
    const guest = rig.spec;
    const options = { ...(storage === undefined ? {} : { storage }), ...(pullBps === undefined ? {} : { pullBps }) };
    const common = { migration: id, technique: over.technique ?? ('pre-copy' as const), options };
    const offer =
      storage === 'on-demand'
        ? await rig.drivers.h1.disks?.offer({ do: 'offerDisks', migration: id, guest: guest.name })
        : undefined;
    const disksFrom = offer && isWired ? { ...offer, port: (await wireTo(offer.port)).port } : offer;
    const prepared = await rig.drivers.h2.prepare({
      do: 'prepare',
      guest,
      ...common,
      ...(disksFrom === undefined ? {} : { disksFrom }),
    });
    const { address, port } = prepared;
    const diskPort =
      prepared.diskPort !== undefined && isWired ? (await wireTo(prepared.diskPort)).port : prepared.diskPort;
    await rig.drivers.h1.start({
      ...{ do: 'start', guest: guest.name, address, port, ...(diskPort === undefined ? {} : { diskPort }) },
      ...{ bandwidthBps: BANDWIDTH_BPS, downtimeLimitMs: 300, hybridPasses: 1, pauseBeforeSwitchover: true },
      ...common,
      ...start,
    });
    return { id, prepared };
  }
  async function arrives(id: string): Promise<EventMessage> {
    const of = (name: string) => events('h1', id).find((e) => e.event === name);
    const sound = (name: string) => {
      const failed = of('failed');
      if (failed !== undefined) throw new Error(`the copy failed: ${failed.reason}`);
      return of(name);
    };
    await until(() => sound('preSwitchover'));
    if (of('completed') === undefined) {
      expect(rig.drivers.h2.guests().map((g) => g.state)).toEqual(['incoming']);
      await rig.drivers.h1.continueSwitchover(id);
    }
    const end = await until(() => sound('completed'));
    await until(() => events('h2', id).some((e) => e.event === 'resumed'));
    await rig.drivers.h1.finish(id);
    await rig.drivers.h2.finish(id);
    return end;
  }
  /** The guest goes on writing and reading on h2, and reads what it read before. */
  async function worksOn(): Promise<void> {
    const before = lastWritten('h1');
    await until(() => lastWritten('h2') > before + 3 && sums('h2').length > 1);
    expect(new Set([...sums('h1'), ...sums('h2')])).toEqual(new Set([sumOf(cold)]));
  }
  /** A reading that was under way does not count. */
  async function readsAnew(): Promise<void> {
    const before = sums('h2').length;
    await until(() => sums('h2').length > before + 1);
    await worksOn();
  }
  async function diskIsRight(host: HostName, path = diskAt(host)): Promise<void> {
    const written = lastWritten(host);
    await rig.drivers[host].close({ stopGuests: true });
    checkDisk(path, cold, written);
  }

  real(named('shared: nothing is copied, and the file is the same'), async () => {
    const { id } = await begin('shared');
    const { progress } = await arrives(id);
    expect(progress?.disk).toBeUndefined();
    await worksOn();
    await diskIsRight('h2', diskAt('h1'));
  });

  real(named('mirrored: all of it is copied, the last write too, and the source’s file is put aside'), async () => {
    const { id } = await begin('mirrored');
    const { progress } = await arrives(id);
    expect(progress?.disk?.remainingBytes).toBe(0);
    expect(progress?.disk?.transferredBytes).toBeGreaterThanOrEqual(DISK_MIB * MIB);
    await worksOn();
    expect([existsSync(diskAt('h1')), existsSync(`${diskAt('h1')}.left`)]).toEqual([false, true]);
    await diskIsRight('h2');
  });

  real(named('mirrored, post-copy: the mirror is ended before the guest leaves'), async () => {
    const { id } = await begin('mirrored', { technique: 'post-copy' });
    await arrives(id);
    await worksOn();
    await diskIsRight('h2');
  });

  real(named('on demand: what is wanted is read, the rest is pulled when told so, and the source let go'), async () => {
    const { id } = await begin('on-demand', { isWired: true });
    const path = wires[0] as Wire;
    // The path to its disk is cut when it leaves. It counts on at its new place; what it wants to read it waits for.
    await until(() => events('h1', id).some((e) => e.event === 'preSwitchover'));
    path.cutSilently();
    await arrives(id);
    await until(() => rig.console('h2').split('fw-count').length > 5);
    // The path is there again for some of what the guest reads, then nothing more comes; what came was counted.
    path.mend((READ_MIB * MIB) / 2);
    await until(async () => (await fetched()).fetchedBytes >= (READ_MIB * MIB) / 2);
    expect(statesTold()).not.toContain('paused');
    // It is cut for longer than a read waits: the guest stands still, there and nowhere else, and a pull says why it does.
    path.cutSilently();
    await disks().pull({ do: 'pullDisks', guest: 'vm1', pullBps: 2e6 });
    // What restarted agents find goes on as it was: the source serves, its guest is stopped.
    for (const host of ['h1', 'h2'] as const) await rig.restart(host);
    expect(rig.drivers.h1.guests().map((g) => g.state)).toEqual(['stopped']);
    await until(() => rig.drivers.h2.guests().some((g) => g.state === 'paused'));
    expect(await until(async () => (await fetched()).pull?.reason)).toMatch(
      /^the source cannot be read: see that its host/,
    );
    expect(rig.drivers.h1.guests().map((g) => g.state)).toEqual(['stopped']);
    // When the path is back both go on by themselves.
    path.mend();
    await worksOn();
    const going = await until(async () => {
      const { pull } = await fetched();
      return pull !== undefined && pull.reason === undefined && pull.doneBytes > 0 && pull;
    });
    expect(going.totalBytes).toBe(DISK_MIB * MIB);
    // Stopped, it fetches no more, and what it fetched stays; the disk reads as before.
    await disks().stopPull({ do: 'stopPull', guest: 'vm1' });
    const first = await fetched();
    expect(first).toEqual({ isPulled: false, fetchedBytes: expect.any(Number) });
    expect(first.fetchedBytes).toBeGreaterThan(READ_MIB * MIB);
    expect(first.fetchedBytes).toBeLessThan(cold.length);
    expect(first.fetchedBytes).toBeLessThanOrEqual(path.bytesFromTarget);
    await readsAnew();
    expect(await fetched()).toEqual(first);
    await disks().pull({ do: 'pullDisks', guest: 'vm1', pullBps: 800e6 });
    await until(() => events('h2', id).some((e) => e.event === 'disksPulled'));
    expect(rig.drivers.h2.pastEvents().map((e) => e.event)).toEqual(['resumed', 'disksPulled']);
    await rig.drivers.h1.disks?.release({ do: 'releaseDisks', migration: id, guest: 'vm1' });
    expect(rig.drivers.h1.guests()).toEqual([]);
    const all = await fetched();
    expect(all).toMatchObject({ isPulled: true });
    expect(all.fetchedBytes).toBeGreaterThanOrEqual(cold.length);
    expect(all.fetchedBytes).toBeLessThanOrEqual(path.bytesFromTarget);
    await readsAnew();
    expect(new Set(ranAt().slice(1))).toEqual(new Set(['h2']));
    await diskIsRight('h2');
  });

  real(
    named(
      'on demand, pulled from the start of a post-copy: what is read before the source owns its disk again is right',
    ),
    async () => {
      // While memory is still at the source, its QEMU does not say where on the disk there is data.
      const { id } = await begin('on-demand', { technique: 'post-copy', pullBps: 100e6, bandwidthBps: 100e6 });
      await arrives(id);
      expect(events('h1', id).map((e) => e.event)).toContain('postcopyStarted');
      await worksOn();
      await until(() => events('h2', id).some((e) => e.event === 'disksPulled'));
      await rig.drivers.h1.disks?.release({ do: 'releaseDisks', migration: id, guest: 'vm1' });
      await readsAnew();
      await diskIsRight('h2');
    },
  );

  const refusal = async (work: Promise<unknown>) =>
    work.then(
      () => 'done',
      (error: unknown) => (error instanceof FairwayError ? `${error.code}: ${error.message}` : String(error)),
    );
  /** What cannot be done is refused with a reason, and nothing is made. */
  async function refuses(): Promise<void> {
    expect(await refusal(begin(undefined))).toMatch(/^storage-unsaid: guest vm1 has a disk: say what becomes of it/);
    expect(await refusal(begin('mirrored', { pullBps: 1e6 }))).toMatch(/^technique-conflict: a rate to pull/);
    mkdirSync(join(folder, 'disks-h2'));
    writeFileSync(diskAt('h2'), 'somebody’s');
    expect(await refusal(begin('mirrored'))).toMatch(/^disk-exists: .* nothing is written over/);
    expect(readFileSync(diskAt('h2'), 'utf8')).toBe('somebody’s');
    const huge = { ...rig.spec, disks: [{ path: '/x/huge.img', sizeBytes: 2 ** 60, format: 'raw' as const }] };
    const prepare = { do: 'prepare' as const, migration: 'huge', technique: 'pre-copy' as const };
    expect(
      await refusal(rig.drivers.h2.prepare({ ...prepare, guest: huge, options: { storage: 'mirrored' } })),
    ).toMatch(/^disk-full: .* MiB left, and the disk .* needs \d+ MiB: make room there/);
    expect(await refusal(rig.drivers.h2.prepare({ ...prepare, guest: huge, options: { storage: 'shared' } }))).toMatch(
      /^disk-missing: /,
    );
    expect(rig.drivers.h2.guests()).toEqual([]);
    expect(rig.drivers.h1.guests().map((g) => g.state)).toEqual(['running']);
    rmSync(diskAt('h2'));
  }

  const mirrors = (id: string) =>
    until(() =>
      rig.reports.h1.some(
        (m) => m.type === 'progress' && m.migration === id && (m.progress.disk?.transferredBytes ?? 0) > 0,
      ),
    );

  /** All ports but one of the destination are in use, then all: refused with a reason, and nothing is left there. */
  async function portsInUse(): Promise<void> {
    const squatters = await Promise.all(
      rig.ports.slice(1).map(async (port) => {
        const server = createServer();
        await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port }, resolve));
        return server;
      }),
    );
    try {
      expect(await refusal(begin('mirrored'))).toMatch(
        /^nbd-port: disks cannot be exported at 127\.0\.0\.1: .*; free a port of incomingPorts there, or give it more/,
      );
      expect(rig.drivers.h2.guests()).toEqual([]);
      expect(rig.drivers.h2.migrations()).toEqual([]);
      expect(existsSync(diskAt('h2'))).toBe(false);
    } finally {
      await Promise.all(squatters.map((s) => new Promise((resolve) => s.close(resolve))));
    }
  }

  real(
    named('a mirror that is refused, cancelled or cut leaves the guest at home and nothing at the destination'),
    async () => {
      await refuses();
      const one = await begin('mirrored', { bandwidthBps: 16e6 });
      await mirrors(one.id);
      await rig.drivers.h1.cancel(one.id);
      await until(() => events('h1', one.id).some((e) => e.event === 'cancelled'));
      await rig.drivers.h2.abandon(one.id);
      await rig.drivers.h1.finish(one.id);
      expect(existsSync(diskAt('h2'))).toBe(false);
      await portsInUse();
      // The path of the disks alone is cut in the middle of the copy.
      const cut = await begin('mirrored', { bandwidthBps: 16e6, isWired: true });
      await mirrors(cut.id);
      wires[0]?.cut();
      const broken = await until(() => events('h1', cut.id).find((e) => e.event === 'failed'));
      expect(broken.reason).toMatch(/the disk's mirror broke: .*; see that the path between the hosts is there/);
      await rig.drivers.h2.abandon(cut.id);
      await rig.drivers.h1.finish(cut.id);
      // It swallows what is sent and tells nobody: the copy stands still, the guest does not, and it can be cancelled.
      const still = await begin('mirrored', { bandwidthBps: 16e6, isWired: true });
      await mirrors(still.id);
      wires[1]?.freeze();
      await rig.drivers.h1.cancel(still.id);
      await until(() => events('h1', still.id).some((e) => e.event === 'cancelled'));
      await rig.drivers.h2.abandon(still.id);
      await rig.drivers.h1.finish(still.id);
      expect(existsSync(diskAt('h2'))).toBe(false);
      const two = await begin('mirrored', { bandwidthBps: 16e6 });
      await rig.killMachine?.('h2');
      const failed = await until(() => events('h1', two.id).find((e) => e.event === 'failed'));
      expect(failed.reason).toMatch(/the disk's mirror broke: .*; see that the path between the hosts is there/);
      await rig.drivers.h2.abandon(two.id);
      await rig.drivers.h1.finish(two.id);
      expect(existsSync(diskAt('h2'))).toBe(false);
      expect(rig.drivers.h1.guests().map((g) => g.state)).toEqual(['running']);
      const before = lastWritten('h1');
      await until(() => lastWritten('h1') > before + 3);
      expect(rig.console('h2')).toBe('');
      expect(ranAt()).toEqual(['h1']);
      await diskIsRight('h1');
    },
  );
});
