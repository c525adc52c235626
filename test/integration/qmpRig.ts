/** Two QMP drivers on one machine, each with its own run directory, and a real guest: for tests of drivers. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guestPaths, processOf } from '../../agent/io/guestProcess.ts';
import { createQemuDriver } from '../../agent/io/qemuDriver.ts';
import type { GuestSpec } from '../../contracts/agent.ts';
import { systemClock } from '../../contracts/clock.ts';
import { agentConfigSchema } from '../../contracts/config.ts';
import { silentLog } from '../../contracts/log.ts';
import { buildGuestImage } from '../../sim/lab/guest/build.ts';
import { cacheDir } from '../../sim/lab/guests.ts';
import { collectReports, HOSTS, type HostName, type Rig } from './driverContract.ts';
import { countingGuest, readIfThere } from './realGuests.ts';

export interface QmpRig extends Rig {
  /** Where the guest's sockets and files are. */
  folderOf(host: HostName): string;
  runDir(host: HostName): string;
  /** Of incoming copies, on both hosts. */
  readonly ports: readonly number[];
}

const PORTS = 10;
const FIRST_PORT = 26_000 + (process.pid % 300) * PORTS;

/** Two hosts on this machine, and a guest on the first. `over`: more of their configuration; `guest`: of what it is. */
export async function makeQmpRig(
  over: (host: HostName, folder: string) => Record<string, unknown> = () => ({}),
  guest: (folder: string) => Partial<GuestSpec> = () => ({}),
): Promise<QmpRig> {
  const folder = mkdtempSync(join(tmpdir(), 'fw-qmp-'));
  const spec = countingGuest(await buildGuestImage(cacheDir(), silentLog), guest(folder));
  const runDir = (host: HostName) => join(folder, host);
  const { reports, to } = collectReports();
  const driver = (host: HostName) => {
    const config = agentConfigSchema.parse({
      host,
      controller: 'ws://127.0.0.1:1',
      migrationIp: '127.0.0.1',
      runDir: runDir(host),
      incomingPorts: [FIRST_PORT, FIRST_PORT + PORTS - 1],
      guests: host === 'h1' ? [spec] : [],
      ...over(host, folder),
    });
    return createQemuDriver({ config, clock: systemClock(), log: silentLog });
  };
  const drivers = { h1: driver('h1'), h2: driver('h2') };
  for (const host of HOSTS) {
    drivers[host].setProgressPeriod(50);
    await drivers[host].open(to(host));
  }
  const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));
  const console = (host: HostName) => readIfThere(guestPaths(runDir(host), spec.name).serial);
  while (!console('h1').includes('fw-count')) await pause(50);
  return {
    drivers,
    reports,
    spec,
    console,
    pause,
    runDir,
    ports: Array.from({ length: PORTS }, (_, i) => FIRST_PORT + i),
    folderOf: (host) => guestPaths(runDir(host), spec.name).dir,
    async restart(host) {
      await drivers[host].close({ stopGuests: false });
      drivers[host] = driver(host);
      drivers[host].setProgressPeriod(50);
      await drivers[host].open(to(host));
    },
    async killMachine(host) {
      const pid = processOf(runDir(host), spec.name);
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
    },
    async close() {
      await Promise.allSettled(HOSTS.map((h) => drivers[h].close({ stopGuests: true })));
      // Whatever a failed test left behind is ended by its own pid file.
      for (const host of HOSTS) {
        const pid = processOf(runDir(host), spec.name);
        if (pid !== undefined) process.kill(pid, 'SIGKILL');
      }
      rmSync(folder, { recursive: true });
    },
  };
}
