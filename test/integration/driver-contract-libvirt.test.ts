/**
 * The drivers' contract on real guests of two libvirt daemons, each in namespaces of its own; and what only libvirt's own means can
 * be tested for, on the same pair: copies over TLS, mirrored disks.
 */
import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EventMessage } from '../../agent/core/driver.ts';
import { createLibvirtDriver } from '../../agent/io/libvirtDriver.ts';
import type { AgentCommandOf, GuestSpec } from '../../contracts/agent.ts';
import { systemClock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import { agentConfigSchema } from '../../contracts/config.ts';
import { silentLog } from '../../contracts/log.ts';
import { whyNoCredentials } from './credentials.ts';
import {
  checkDisk,
  coldData,
  DISK_GUEST,
  DISK_MIB,
  diskImage,
  lastWrittenIn,
  MIB,
  sumOf,
  sumsIn,
} from './diskGuest.ts';
import { driverContract, HOSTS, type HostName } from './driverContract.ts';
import { gate } from './gate.ts';
import { diskFolderOf, type LibvirtRig, makeLibvirtRig } from './libvirtRig.ts';
import { whyNoLibvirt } from './privateLibvirt.ts';
import { whyNoRealGuests } from './realGuests.ts';
import { Wire } from './wire.ts';

jest.setTimeout(300_000);
const { reason, real, named } = gate(whyNoRealGuests() ?? whyNoLibvirt() ?? whyNoCredentials());

const SLOW_BPS = 24e6;
const FAST_BPS = 1.6e9;
const OTHER: Record<HostName, HostName> = { h1: 'h2', h2: 'h1' };

let rig: LibvirtRig;
/** The guest's definition before its first move. */
let definition: string | undefined;
let lastMigration = 0;

async function until<T>(what: () => T | undefined | false): Promise<T> {
  for (;;) {
    const found = what();
    if (found !== undefined && found !== false) return found;
    await rig.pause(20);
  }
}
const eventsOf = (host: HostName, id: string): EventMessage[] =>
  rig.reports[host].filter((m): m is EventMessage => m.type === 'event' && m.migration === id);
const event = (host: HostName, id: string, name: EventMessage['event'], from = 0): Promise<EventMessage> =>
  until(() => {
    const events = eventsOf(host, id).slice(from);
    const failed = events.find((m) => m.event === 'failed');
    if (failed !== undefined && name !== 'failed') throw new Error(`the copy failed: ${failed.reason}`);
    return events.find((m) => m.event === name);
  });
const home = (): HostName => (rig.drivers.h1.guests().some((g) => g.state === 'running') ? 'h1' : 'h2');
const statesOn = (host: HostName) => rig.drivers[host].guests().map((g) => g.state);
const refusal = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: unknown) => (error instanceof FairwayError ? `${error.code}: ${error.message}` : String(error)),
  );

type Over = Partial<AgentCommandOf<'start'>>;
interface Copy {
  id: string;
  from: HostName;
  to: HostName;
}
/** Prepares a copy of the guest that runs, to the other host, and starts it. */
async function begin(guest: GuestSpec, over: Over = {}, onPort?: (port: number) => Promise<void>): Promise<Copy> {
  const from = home();
  const to = OTHER[from];
  const id = `more-${++lastMigration}`;
  const common = { migration: id, technique: over.technique ?? ('pre-copy' as const), options: over.options ?? {} };
  const { portName: _, ...at } = await rig.drivers[to].prepare({ do: 'prepare', guest, ...common });
  await onPort?.(at.port);
  await rig.drivers[from].start({
    ...{ do: 'start', guest: guest.name, ...at, bandwidthBps: FAST_BPS, downtimeLimitMs: 300, hybridPasses: 1 },
    ...{ pauseBeforeSwitchover: false, ...common, ...over },
  });
  return { id, from, to };
}
async function arrives({ id, from, to }: Copy): Promise<EventMessage> {
  const end = await event(from, id, 'completed');
  await event(to, id, 'resumed');
  await rig.drivers[from].finish(id);
  await rig.drivers[to].finish(id);
  expect([statesOn(from), statesOn(to)]).toEqual([[], ['running']]);
  return end;
}
/** What the counting guest said, wherever it was: nothing lost, nothing twice. */
async function countsOn(): Promise<void> {
  const counts = () =>
    rig
      .console('h1')
      .split('\n')
      .slice(0, -1)
      .flatMap((line) => /fw-count (\d+)\r?$/.exec(line)?.[1] ?? [])
      .map(Number);
  const from = counts().length;
  // One reading: it counts on while it is read.
  const all = await until(() => {
    const now = counts();
    return now.length >= from + 3 && now;
  });
  expect(all).toEqual(all.map((_, i) => i + 1));
}

describe('QEMU by libvirt', () => {
  driverContract({
    async make() {
      rig = await makeLibvirtRig();
      definition = await rig.definition('h1', rig.spec.name);
      return rig;
    },
    ...(reason === undefined ? {} : { skipped: reason }),
  });

  real(named('the definition is where the guest is, as it was, and nowhere else'), async () => {
    const found = await Promise.all(HOSTS.map((h) => rig.definition(h, rig.spec.name)));
    expect(found.filter((text) => text !== undefined)).toEqual([definition]);
  });

  real(named('a libvirt that is not there is told apart from a program that is not'), async () => {
    const open = (libvirt: Record<string, string>) => {
      const runDir = mkdtempSync(join(tmpdir(), 'fw-none-'));
      const config = agentConfigSchema.parse({ host: 'h3', controller: 'ws://127.0.0.1:1', runDir, libvirt });
      const driver = createLibvirtDriver({ config, clock: systemClock(), log: silentLog });
      return driver.open(() => {}).finally(() => rmSync(runDir, { recursive: true }));
    };
    const uri = 'qemu+unix:///system?socket=/nonexistent/libvirt-sock';
    await expect(open({ uri })).rejects.toMatchObject({ code: 'libvirt-unreachable', labels: ['retryable'] });
    await expect(open({ uri, virsh: '/nonexistent/virsh' })).rejects.toMatchObject({ code: 'libvirt-missing' });
  });

  describe('copies over TLS', () => {
    const parameters = async (host: HostName): Promise<{ 'tls-creds'?: string }> => {
      const command = JSON.stringify({ execute: 'query-migrate-parameters' });
      const text = await rig.virsh(host, 'qemu-monitor-command', rig.spec.name, command);
      return (JSON.parse(text) as { return: { 'tls-creds'?: string } }).return;
    };

    real(
      named('are refused by a host that has no certificates for them, or encrypts when the other does not'),
      async () => {
        const from = home();
        await rig.reconfigure((host) => (host === from ? {} : { libvirt: { migrationTls: true } }));
        expect(await refusal(begin(rig.spec))).toMatch(/^tls-mismatch: .* set libvirt.migrationTls on both hosts/);
        await rig.drivers[OTHER[from]].abandon(`more-${lastMigration}`);
        await rig.reconfigure(() => ({ libvirt: { migrationTls: true } }));
        renameSync(rig.credentials, `${rig.credentials}.away`);
        try {
          expect(await refusal(begin(rig.spec))).toMatch(/^start-failed: .*; .* migrate_tls_x509_cert_dir of both/);
        } finally {
          renameSync(`${rig.credentials}.away`, rig.credentials);
        }
        await rig.drivers[OTHER[from]].abandon(`more-${lastMigration}`);
        await rig.drivers[from].finish(`more-${lastMigration}`);
        expect([statesOn(from), statesOn(OTHER[from])]).toEqual([['running'], []]);
        await countsOn();
      },
    );

    real(named('go with the certificates of both libvirts, and the guest counts on'), async () => {
      await rig.reconfigure(() => ({ libvirt: { migrationTls: true } }));
      for (const technique of ['post-copy', 'pre-copy'] as const) {
        const copy = await begin(rig.spec, { technique, bandwidthBps: SLOW_BPS });
        await until(() =>
          rig.reports[copy.from].some(
            (m) => m.type === 'progress' && m.migration === copy.id && m.progress.transferredBytes > 500e3,
          ),
        );
        expect((await parameters(copy.from))['tls-creds']).toMatch(/tls/);
        const faster = { do: 'setBandwidth' as const, migration: copy.id, bandwidthBps: FAST_BPS };
        await rig.drivers[copy.from].setBandwidth(faster);
        await arrives(copy);
        await countsOn();
      }
    });
  });

  describe('a copy whose path is cut', () => {
    /** The destination listens at 127.0.0.1 as ever, and the source is sent to a wire to it, at another address. */
    const WIRED = '127.0.0.2';
    let wire: Wire | undefined;
    afterEach(async () => {
      await wire?.close();
    });
    beforeAll(async () => {
      if (reason !== undefined) return;
      const virsh = join(rig.folder, 'virsh-wired');
      // While a copy comes in, libvirt answers nothing about the definition for half a minute.
      const script = `#!/bin/bash
case "$*" in *dumpxml*) limit='timeout 2' ;; esac
exec $limit virsh "\${@/#tcp:\\/\\/127.0.0.1:/tcp://${WIRED}:}"
`;
      writeFileSync(virsh, script, { mode: 0o755 });
      await rig.reconfigure(() => ({ libvirt: { virsh } }));
    });
    function beginWired(over: Over): Promise<Copy> {
      return begin(rig.spec, { technique: 'post-copy', bandwidthBps: SLOW_BPS, ...over }, async (port) => {
        wire = await Wire.to(port, { host: WIRED, port });
      });
    }

    real(named('before its turn goes on where it is'), async () => {
      const { id, from, to } = await beginWired({ pauseBeforeSwitchover: true });
      await event(from, id, 'preSwitchover');
      wire?.cut();
      expect((await event(from, id, 'failed')).reason).toMatch(/\w/);
      await rig.drivers[from].finish(id);
      await rig.drivers[to].abandon(id);
      expect(eventsOf(from, id).map((m) => m.event)).not.toContain('postcopyStarted');
      await until(() => statesOn(from)[0] === 'running');
      expect(statesOn(to)).toEqual([]);
      await countsOn();
    });
  });

  describe('a guest with a disk', () => {
    const cold = coldData(24);
    const diskAt = (host: HostName): string => join(diskFolderOf(rig, host), 'vm2.img');
    const MIRRORED = { storage: 'mirrored' as const };
    let console: () => string;
    let guest: GuestSpec;

    beforeAll(async () => {
      if (reason !== undefined) return;
      await rig.reconfigure((host) => ({ diskFolder: diskFolderOf(rig, host), libvirt: { migrationTls: true } }));
      for (const host of HOSTS) await rig.killMachine?.(host).catch(() => undefined);
      writeFileSync(diskAt('h1'), diskImage(cold));
      const { kernel, initrd } = rig.machine;
      const spec = { ...rig.spec, name: 'vm2', mac: '52:54:00:00:00:02', kernel, initrd, append: DISK_GUEST };
      console = await rig.run('h1', spec, diskAt('h1'));
      await until(() => lastWrittenIn(console()) > 3 && sumsIn(console()).length > 0);
      guest = await until(() => rig.drivers.h1.guests().find((g) => g.spec.name === 'vm2')?.spec);
    });
    async function worksOn(): Promise<void> {
      const before = [lastWrittenIn(console()), sumsIn(console()).length] as const;
      await until(() => lastWrittenIn(console()) > before[0] + 3 && sumsIn(console()).length > before[1] + 1);
      expect(new Set(sumsIn(console()))).toEqual(new Set([sumOf(cold)]));
    }
    /** bytes/s that the mirrors may copy, all together; undefined while there are none. */
    const mirrorSpeed = async (host: HostName): Promise<number | undefined> => {
      const text = await rig.virsh(host, 'qemu-monitor-command', 'vm2', '{"execute":"query-block-jobs"}');
      const jobs = (JSON.parse(text) as { return: { speed: number }[] }).return;
      return jobs.length === 0 ? undefined : jobs.reduce((sum, job) => sum + job.speed, 0);
    };

    real(named('is told with its disk, and what cannot be done is refused with what to do'), async () => {
      expect(guest.disks).toEqual([{ path: diskAt('h1'), sizeBytes: DISK_MIB * MIB, format: 'raw' }]);
      expect(await refusal(begin(guest, { options: { storage: 'on-demand' } }))).toMatch(
        /^technique-unsupported: .* it cannot do storage on-demand: libvirt ends the machine .*: mirror or share them/,
      );
      writeFileSync(diskAt('h2'), 'somebody’s');
      expect(await refusal(begin(guest, { options: MIRRORED }))).toMatch(/^disk-exists: .* nothing is written over/);
      rmSync(diskAt('h2'));
      expect(statesOn('h2')).toEqual([]);
    });

    real(named('stays at home when its mirror is cancelled, and nothing is left at the destination'), async () => {
      const bandwidthBps = 16e6;
      const { id } = await begin(guest, { options: MIRRORED, bandwidthBps });
      await until(() =>
        rig.reports.h1.some(
          (m) => m.type === 'progress' && m.migration === id && (m.progress.disk?.transferredBytes ?? 0) > 0,
        ),
      );
      expect(await mirrorSpeed('h1')).toBe(bandwidthBps / 8);
      await rig.drivers.h1.setBandwidth({ do: 'setBandwidth', migration: id, bandwidthBps: 8e6 });
      expect(await mirrorSpeed('h1')).toBe(1e6);
      await rig.drivers.h1.cancel(id);
      await event('h1', id, 'cancelled');
      await rig.drivers.h1.finish(id);
      await rig.drivers.h2.abandon(id);
      expect([existsSync(diskAt('h1')), existsSync(diskAt('h2'))]).toEqual([true, false]);
      expect([statesOn('h1'), statesOn('h2')]).toEqual([['running'], []]);
    });

    real(named('goes along with it, over TLS, held and let go, there and back as post-copy'), async () => {
      const there = await begin(guest, { options: MIRRORED, bandwidthBps: 400e6, pauseBeforeSwitchover: true });
      await event('h1', there.id, 'preSwitchover');
      await rig.drivers.h1.continueSwitchover(there.id);
      const { progress } = await arrives(there);
      expect(progress?.disk?.remainingBytes).toBe(0);
      expect(progress?.disk?.transferredBytes).toBeGreaterThanOrEqual(DISK_MIB * MIB);
      expect([existsSync(diskAt('h1')), existsSync(`${diskAt('h1')}.left`)]).toEqual([false, true]);
      await worksOn();
      expect(await rig.definition('h1', 'vm2')).toBeUndefined();
      expect(await rig.definition('h2', 'vm2')).toContain(`file='${diskAt('h2')}'`);
      const moved = await until(() => rig.drivers.h2.guests()[0]?.spec);
      const back = await begin(moved, { options: MIRRORED, bandwidthBps: 400e6, technique: 'post-copy' });
      await arrives(back);
      await worksOn();
      await rig.virsh('h1', 'destroy', 'vm2');
      checkDisk(diskAt('h1'), cold, lastWrittenIn(console()));
    });
  });
});
