/** The drivers' contract on real guests of two libvirt daemons, each in namespaces of its own. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLibvirtDriver } from '../../agent/io/libvirtDriver.ts';
import type { GuestSpec } from '../../contracts/agent.ts';
import { systemClock } from '../../contracts/clock.ts';
import { agentConfigSchema } from '../../contracts/config.ts';
import { silentLog } from '../../contracts/log.ts';
import { buildGuestImage } from '../../sim/lab/guest/build.ts';
import { cacheDir } from '../../sim/lab/guests.ts';
import { collectReports, driverContract, HOSTS, type HostName, type Rig } from './driverContract.ts';
import { type PrivateLibvirt, startLibvirt, whyNoLibvirt } from './privateLibvirt.ts';
import { countingGuest, readIfThere, whyNoRealGuests } from './realGuests.ts';

jest.setTimeout(120_000);
const FIRST_PORT = 45_000 + (process.pid % 300) * 10;

function domainXml(spec: GuestSpec, serial: string): string {
  return `<domain type='qemu'>
  <name>${spec.name}</name>
  <memory unit='MiB'>${spec.memoryMiB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>${spec.kernel}</kernel>
    <initrd>${spec.initrd}</initrd>
    <cmdline>${spec.append}</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <serial type='file'><source path='${serial}' append='on'/></serial>
    <interface type='user'><mac address='${spec.mac}'/><model type='virtio'/><rom enabled='no'/></interface>
    <memballoon model='none'/>
    <video><model type='none'/></video>
  </devices>
</domain>
`;
}

async function make(): Promise<Rig> {
  const folder = mkdtempSync(join(tmpdir(), 'fw-lv-'));
  const daemons: Partial<Record<HostName, PrivateLibvirt>> = {};
  const closers: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const c of closers.reverse()) await c();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const image = await buildGuestImage(cacheDir(), silentLog);
    const wanted = countingGuest(image);
    const started = await Promise.all(HOSTS.map((h) => startLibvirt(`fw-${h}`, join(folder, h))));
    HOSTS.forEach((h, i) => {
      daemons[h] = started[i] as PrivateLibvirt;
      closers.push(() => (started[i] as PrivateLibvirt).close());
    });
    // The console goes along in the guest's definition: both machines append to the same file, as on a shared disk.
    const serial = join(folder, 'serial.log');
    const xml = join(folder, 'vm1.xml');
    writeFileSync(xml, domainXml(wanted, serial));
    await (daemons.h1 as PrivateLibvirt).virsh('define', xml);
    await (daemons.h1 as PrivateLibvirt).virsh('start', wanted.name);
    definitionOn = async (host) => daemons[host]?.virsh('dumpxml', '--inactive', wanted.name).catch(() => undefined);
    definition = (await definitionOn('h1')) as string;
    const { reports, to } = collectReports();
    const driver = (host: HostName) => {
      const { uri } = daemons[host] as PrivateLibvirt;
      const config = agentConfigSchema.parse({
        host,
        controller: 'ws://127.0.0.1:1',
        driver: 'libvirt',
        libvirt: { uri, peerUri: uri },
        migrationIp: '127.0.0.1',
        runDir: join(folder, `run-${host}`),
        incomingPorts: [FIRST_PORT, FIRST_PORT + 9],
      });
      return createLibvirtDriver({ config, clock: systemClock(), log: silentLog });
    };
    const drivers = { h1: driver('h1'), h2: driver('h2') };
    for (const host of HOSTS) {
      drivers[host].setProgressPeriod(50);
      await drivers[host].open(to(host));
      closers.push(() => drivers[host].close({ stopGuests: true }));
    }
    const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
    while (!readIfThere(serial).includes('fw-count')) await pause(50);
    const spec = drivers.h1.guests()[0]?.spec as GuestSpec;
    return {
      drivers,
      reports,
      spec,
      console: () => readIfThere(serial),
      sharedConsole: true,
      pause,
      async restart(host) {
        await drivers[host].close({ stopGuests: false });
        drivers[host] = driver(host);
        drivers[host].setProgressPeriod(50);
        await drivers[host].open(to(host));
      },
      async killMachine(host) {
        await daemons[host]?.virsh('destroy', spec.name);
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

const reason = whyNoRealGuests() ?? whyNoLibvirt();
const real = reason === undefined ? test : test.skip;
const named = (name: string) => (reason === undefined ? name : `skipped, because ${reason}: ${name}`);
/** The guest's definition before the first move, and how each host has it now. */
let definition: string;
let definitionOn: (host: HostName) => Promise<string | undefined>;

describe('QEMU by libvirt', () => {
  driverContract({ make, ...(reason === undefined ? {} : { skipped: reason }) });

  real(named('the definition is where the guest is, as it was, and nowhere else'), async () => {
    const found = await Promise.all(HOSTS.map(definitionOn));
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
});
