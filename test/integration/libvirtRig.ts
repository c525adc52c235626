/** Two hosts on this machine, each a libvirt daemon of its own with a driver, and a real guest on the first: for tests of the driver. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLibvirtDriver } from '../../agent/io/libvirtDriver.ts';
import type { GuestSpec } from '../../contracts/agent.ts';
import { systemClock } from '../../contracts/clock.ts';
import { type AgentConfig, agentConfigSchema } from '../../contracts/config.ts';
import { silentLog } from '../../contracts/log.ts';
import { buildGuestImage } from '../../sim/lab/guest/build.ts';
import { cacheDir } from '../../sim/lab/guests.ts';
import { makeCredentials } from './credentials.ts';
import { collectReports, HOSTS, type HostName, type Rig } from './driverContract.ts';
import { killMachinesOf, type PrivateLibvirt, startLibvirt } from './privateLibvirt.ts';
import { BUSY_GUEST, countingGuest, readIfThere } from './realGuests.ts';

export interface LibvirtRig extends Rig {
  /** The guest with its kernel, which libvirt does not tell of. */
  readonly machine: GuestSpec;
  /** Of files of the test's own; gone with the rig. */
  readonly folder: string;
  /** Where both libvirts look for certificates. */
  readonly credentials: string;
  virsh(host: HostName, ...args: string[]): Promise<string>;
  /** The definition that a host keeps of a guest. */
  definition(host: HostName, guest: string): Promise<string | undefined>;
  /** Defines and starts a guest on a host, and answers how to read its console, to which it appends wherever it is. */
  run(host: HostName, spec: GuestSpec, disk?: string): Promise<() => string>;
  /** Ends both drivers and opens others in their place, configured otherwise. */
  reconfigure(over: (host: HostName) => RigConfig): Promise<void>;
}
export type RigConfig = Partial<Pick<AgentConfig, 'diskFolder'>> & { libvirt?: Partial<AgentConfig['libvirt']> };

const FIRST_PORT = 23_000 + (process.pid % 300) * 10;

const domainXml = (spec: GuestSpec, serial: string, disk?: string): string => `<domain type='qemu'>
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
${disk === undefined ? '' : `    <disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${disk}'/><target dev='vda' bus='virtio'/></disk>\n`}    <serial type='file'><source path='${serial}' append='on'/></serial>
    <interface type='user'><mac address='${spec.mac}'/><model type='virtio'/><rom enabled='no'/></interface>
    <memballoon model='none'/>
    <video><model type='none'/></video>
  </devices>
</domain>
`;

export async function makeLibvirtRig(): Promise<LibvirtRig> {
  const folder = mkdtempSync(join(tmpdir(), 'fw-lv-'));
  const credentials = join(folder, 'tls');
  const closers: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    for (const c of closers.reverse()) await c();
    killMachinesOf(folder);
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    makeCredentials(credentials);
    const tls = `migrate_tls_x509_cert_dir = "${credentials}"\nmigrate_tls_x509_verify = 1\n`;
    const starting = HOSTS.map((h) => startLibvirt(`fw-${h}`, join(folder, h), tls));
    const image = await buildGuestImage(cacheDir(), silentLog);
    const [h1, h2] = (await Promise.all(starting)) as [PrivateLibvirt, PrivateLibvirt];
    const daemons: Record<HostName, PrivateLibvirt> = { h1, h2 };
    for (const h of HOSTS) closers.push(() => daemons[h].close());
    const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

    // The console goes along in the guest's definition: both machines append to the same file, as on a shared disk.
    const run: LibvirtRig['run'] = async (host, spec, disk) => {
      const serial = join(folder, `${spec.name}.log`);
      const xml = join(folder, `${spec.name}.xml`);
      writeFileSync(xml, domainXml(spec, serial, disk));
      await daemons[host].virsh('define', xml);
      await daemons[host].virsh('start', spec.name);
      return () => readIfThere(serial);
    };
    const wanted = countingGuest(image, BUSY_GUEST);
    const console = await run('h1', wanted);
    const { reports, to } = collectReports();
    let configure: (host: HostName) => RigConfig = () => ({});
    const make = (host: HostName) => {
      const { uri } = daemons[host];
      const { libvirt, ...more } = configure(host);
      const config = agentConfigSchema.parse({
        ...{ host, controller: 'ws://127.0.0.1:1', driver: 'libvirt', libvirt: { uri, peerUri: uri, ...libvirt } },
        ...{ migrationIp: '127.0.0.1', runDir: join(folder, `run-${host}`) },
        incomingPorts: [FIRST_PORT, FIRST_PORT + 9],
        ...more,
      });
      return createLibvirtDriver({ config, clock: systemClock(), log: silentLog });
    };
    const drivers = { h1: make('h1'), h2: make('h2') };
    const open = async (host: HostName): Promise<void> => {
      drivers[host].setProgressPeriod(50);
      await drivers[host].open(to(host));
    };
    const restart = async (host: HostName): Promise<void> => {
      await drivers[host].close({ stopGuests: false });
      drivers[host] = make(host);
      await open(host);
    };
    for (const host of HOSTS) {
      await open(host);
      closers.push(() => drivers[host].close({ stopGuests: true }));
    }
    while (!console().includes('fw-count')) await pause(50);
    return {
      ...{ drivers, reports, folder, credentials, pause, restart, close, run },
      spec: drivers.h1.guests()[0]?.spec as GuestSpec,
      machine: wanted,
      console,
      sharedConsole: true,
      virsh: (host, ...args) => daemons[host].virsh(...args),
      definition: (host, guest) => daemons[host].virsh('dumpxml', '--inactive', guest).catch(() => undefined),
      async reconfigure(over) {
        configure = over;
        await Promise.all(HOSTS.map(restart));
      },
      async killMachine(host) {
        await daemons[host].virsh('destroy', wanted.name);
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A folder for the disks of a host. */
export function diskFolderOf(rig: LibvirtRig, host: HostName): string {
  const path = join(rig.folder, `disks-${host}`);
  mkdirSync(path, { recursive: true });
  return path;
}
