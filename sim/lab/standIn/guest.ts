/**
 * Sets the stand-in guest and its client up in a lab that stands: a namespace with a kernel bridge that carries the guest's
 * address, a veth cable to each hypervisor's switch, and `probe.py` in both namespaces. `driver.ts` moves it, or the
 * scenario itself where nobody manages the network.
 */
import type { ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type GuestSpec, guestSpecSchema } from '../../../contracts/agent.ts';
import { FairwayError } from '../../../contracts/common.ts';
import { guestAddress } from '../guests.ts';
import { ADDRESS, cable, type Lab, vsctl } from '../network.ts';
import { run, runIn, spawnIn, waitFor } from '../shell.ts';
import { ProbeControl } from './control.ts';
import type { ProbeReport } from './measure.ts';

const MAC = '52:54:00:fa:1d:01';
/** Switch port of the stand-in at each hypervisor. */
export const STAND_IN_PORT = 'standin';
/** What both send each other: a packet every so many ms. */
export const PROBE_PERIOD_MS = 1;
const MTU = 1500;
export const HYPERVISORS = ['hv1', 'hv2'] as const;
export type Hypervisor = (typeof HYPERVISORS)[number];

export const standInSpec = (): GuestSpec =>
  guestSpecSchema.parse({ name: 'standin', mac: MAC, memoryMiB: 64, accel: 'emulated', ip: guestAddress(0) });

/** `probe.py`: beside the source, or in the source tree when this file runs compiled from `dist/`. */
function script(): string {
  const here = import.meta.dirname;
  for (const folder of [here, resolve(here, '../../../../sim/lab/standIn')]) {
    const path = join(folder, 'probe.py');
    if (existsSync(path)) return path;
  }
  throw new FairwayError('lab.probeMissing', `probe.py is not beside ${here}; run from a complete checkout`, [
    'notFound',
  ]);
}

/** The stand-in and its client while they run. */
export interface StandIn {
  guest: ProbeControl;
  client: ProbeControl;
  /** Socket of the guest, for the drivers. */
  socket: string;
  /** Stops both and reads what they noted. */
  reports(): Promise<{ guest: ProbeReport; client: ProbeReport }>;
}

/** Builds the stand-in with its door at `hv1` open, starts both probes and their TCP connection. */
export async function startStandIn(lab: Lab, signal?: AbortSignal): Promise<StandIn> {
  const namespace = lab.ns('guest');
  const ip = (...args: string[]) => run('ip', ['-n', namespace, ...args]);
  lab.state.addNamespace(namespace);
  await run('ip', ['netns', 'add', namespace]);
  await runIn(namespace, 'sysctl', ['-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1']);
  await ip('link', 'set', 'lo', 'up');
  await ip('link', 'add', 'eth0', 'address', MAC, 'type', 'bridge', 'stp_state', '0', 'mcast_snooping', '0');
  // A bridge without an open port has no carrier, and gets it back late: this one always has one.
  await ip('link', 'add', 'keep', 'type', 'veth', 'peer', 'name', 'keep-peer');
  await ip('link', 'set', 'keep-peer', 'up');
  await ip('link', 'set', 'keep', 'master', 'eth0', 'up');
  const doors = Object.fromEntries(HYPERVISORS.map((hv) => [hv, `to-${hv}`]));
  for (const hv of HYPERVISORS) {
    const sw = lab.switches[hv];
    await cable(MTU, sw.namespace, STAND_IN_PORT, namespace, `to-${hv}`);
    await ip('link', 'set', `to-${hv}`, 'master', 'eth0');
    // What was learned at one door would be sent there after the move: everything goes to every open door, that is one.
    await ip('link', 'set', `to-${hv}`, 'type', 'bridge_slave', 'learning', 'off', 'state', '0');
    await vsctl(sw, ['add-port', sw.bridge, STAND_IN_PORT]);
  }
  await ip('addr', 'add', `${guestAddress(0)}/24`, 'dev', 'eth0');
  await ip('link', 'set', 'eth0', 'mtu', String(MTU), 'up');

  const socketOf = (role: string) => join(lab.stateDir, `probe-${role}.sock`);
  const launch = async (role: 'guest' | 'client', config: object) => {
    let ready = false;
    const child: ChildProcess = spawnIn(
      lab.ns(role),
      '/usr/bin/python3',
      [script(), JSON.stringify({ role, socket: socketOf(role), periodMs: PROBE_PERIOD_MS, ...config })],
      {
        logFile: join(lab.stateDir, `probe-${role}.log`),
        onLine: () => {
          ready = true;
        },
      },
    );
    if (child.pid !== undefined) lab.state.addProcess(child.pid, `probe of the ${role}`);
    await waitFor(`probe of the ${role}`, () => (ready ? true : undefined), { timeoutMs: 10_000, everyMs: 20, signal });
    return ProbeControl.connect(socketOf(role));
  };
  const address = guestAddress(0);
  const peer = ADDRESS.data.client;
  const guest = await launch('guest', { address, peer, mac: MAC, doors, at: 'hv1' });
  const client = await launch('client', { address: peer, peer: address });
  return {
    guest,
    client,
    socket: socketOf('guest'),
    async reports() {
      const read = async (control: ProbeControl, role: string): Promise<ProbeReport> => {
        const file = join(lab.stateDir, `probe-${role}.json`);
        await control.order({ do: 'report', file });
        return JSON.parse(readFileSync(file, 'utf8')) as ProbeReport;
      };
      const both = { guest: await read(guest, 'guest'), client: await read(client, 'client') };
      guest.close();
      client.close();
      return both;
    },
  };
}
