/** The drivers' contract on emulated guests: no root, no QEMU, no waiting. */
import { createEmulatedDriver, createEmulatedFabric } from '../../agent/io/emulatedDriver.ts';
import { guestSpecSchema } from '../../contracts/agent.ts';
import { silentLog } from '../../contracts/log.ts';
import { manualClock } from '../unit/agent/manualClock.ts';
import { collectReports, driverContract, HOSTS, type HostName, type Rig } from './driverContract.ts';

const spec = guestSpecSchema.parse({
  name: 'vm1',
  mac: '52:54:00:00:00:01',
  memoryMiB: 32,
  accel: 'emulated',
  dirtyPagesPerS: 200,
  workingSetMiB: 4,
  compressedShare: 0.5,
  deltaShare: 0.2,
});

async function make(): Promise<Rig> {
  const clock = manualClock();
  const fabric = createEmulatedFabric();
  const { reports, to } = collectReports();
  const driver = (host: HostName, migrationIp: string) =>
    createEmulatedDriver({
      config: { host, migrationIp, incomingPorts: [49152, 49155], guests: host === 'h1' ? [spec] : [] },
      clock,
      log: silentLog,
      fabric,
    });
  const drivers = { h1: driver('h1', '192.0.2.1'), h2: driver('h2', '192.0.2.2') };
  for (const host of HOSTS) {
    await drivers[host].open(to(host));
    drivers[host].setProgressPeriod(100);
  }
  // The guest's memory of how far it has counted, and its consoles. Whatever machine runs counts: two would count twice.
  let count = 0;
  const consoles: Record<HostName, string> = { h1: '', h2: '' };
  clock.every(50, () => {
    const running = HOSTS.filter((h) => drivers[h].guests().some((g) => g.state === 'running'));
    if (running.length > 0) count++;
    for (const h of running) consoles[h] += `fw-count ${count}\n`;
  });
  return {
    drivers,
    reports,
    spec,
    console: (host) => consoles[host],
    async pause(ms) {
      clock.advance(ms);
      await Promise.resolve();
    },
    async restart(host) {
      await drivers[host].close({ stopGuests: false });
      await drivers[host].open(to(host));
    },
    async close() {
      for (const host of HOSTS) await drivers[host].close({ stopGuests: true });
    },
  };
}

describe('emulated guests', () => driverContract({ make, hasMachines: false }));
