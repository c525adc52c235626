/**
 * What the demo plays: three hypervisors, a loaded one of which is to be emptied. Data and a seeded variation of it; demo.ts
 * runs it. Pure.
 */
import type { GuestSpec } from '../contracts/agent.ts';
import type { Priority } from '../contracts/common.ts';
import { randomFrom } from '../contracts/random.ts';
import type { DataCentreSpec } from './datacentre.ts';

export interface DemoGuest {
  spec: GuestSpec;
  host: string;
  destination: string;
  priority: Priority;
}

export interface DemoScenario {
  network: DataCentreSpec;
  guests: readonly DemoGuest[];
}

const MBPS = 1e6;
const PAGE_BYTES = 4096;

/** Pages per second for so many MB/s of dirtied memory. */
const pages = (mbPerS: number): number => Math.round((mbPerS * 1e6) / PAGE_BYTES);

/**
 * Host hv1 sends more than it receives and shares its 1 Gbit/s uplink between six guests and a storage service that stays;
 * hv2 mostly receives, hv3 mostly sends. db1 dirties memory faster than any slice can carry it. `seed` varies rates and
 * memories by up to a tenth.
 */
export function demoScenario(seed: number): DemoScenario {
  const random = randomFrom(seed);
  const vary = (x: number) => x * (0.9 + 0.2 * random());
  const guests: DemoGuest[] = [];
  const workload: DataCentreSpec['workload'][number][] = [];
  const guest = (
    name: string,
    priority: Priority,
    destination: string,
    memoryMiB: number,
    dirtyMbPerS: number,
    workingSetMiB: number,
    inMbps: number,
    outMbps: number,
  ) => {
    const n = guests.length + 1;
    guests.push({
      host: 'hv1',
      destination,
      priority,
      spec: {
        name,
        mac: `52:54:00:fa:1c:${n.toString(16).padStart(2, '0')}`,
        memoryMiB: Math.round(vary(memoryMiB)),
        vcpus: 2,
        machine: 'pc',
        accel: 'emulated',
        ip: `10.0.1.${n}`,
        dirtyPagesPerS: pages(vary(dirtyMbPerS)),
        workingSetMiB,
      },
    });
    const flow = (id: string, from: string, to: string, mbps: number) => {
      if (mbps > 0) workload.push({ id, from, to, offeredBps: vary(mbps) * MBPS, connections: 4 });
    };
    flow(`${name}-in`, 'clients', name, inMbps);
    flow(`${name}-out`, name, 'clients', outMbps);
  };
  //    name      priority  to     MiB  dirty MB/s  working set  in  out Mbit/s
  guest('db1', 'high', 'hv2', 768, 90, 256, 20, 110);
  guest('web1', 'high', 'hv3', 512, 8, 64, 15, 120);
  guest('cache1', 'medium', 'hv2', 512, 30, 128, 60, 50);
  guest('feed1', 'medium', 'hv2', 384, 6, 48, 80, 5);
  guest('log1', 'low', 'hv2', 384, 3, 32, 70, 4);
  guest('batch1', 'low', 'hv3', 512, 2, 24, 0, 0);

  workload.push(
    { id: 'storage', from: 'store1', to: 'clients', offeredBps: vary(560) * MBPS, connections: 8 },
    { id: 'ingest', from: 'clients', to: 'ingest2', offeredBps: vary(260) * MBPS, connections: 8 },
    { id: 'upload', from: 'clients', to: 'media3', offeredBps: vary(120) * MBPS, connections: 4 },
    { id: 'media', from: 'media3', to: 'clients', offeredBps: vary(300) * MBPS, connections: 8 },
  );
  return {
    guests,
    network: {
      switches: ['hv1', 'hv2', 'hv3', 'leaf1', 'leaf2', 'core'],
      links: [
        { a: 'hv1', b: 'leaf1', capacityBps: 1000 * MBPS },
        { a: 'hv2', b: 'leaf1', capacityBps: 1000 * MBPS },
        { a: 'hv3', b: 'leaf2', capacityBps: 1000 * MBPS },
        { a: 'leaf1', b: 'core', capacityBps: 2000 * MBPS },
        { a: 'leaf2', b: 'core', capacityBps: 2000 * MBPS },
      ],
      hosts: [
        { name: 'hv1', migrationIp: '10.0.0.1' },
        { name: 'hv2', migrationIp: '10.0.0.2' },
        { name: 'hv3', migrationIp: '10.0.0.3' },
      ],
      clients: [
        { name: 'clients', switch: 'core', ip: '10.0.2.1', speedBps: 10_000 * MBPS },
        { name: 'store1', switch: 'hv1', ip: '10.0.3.1', speedBps: 10_000 * MBPS },
        { name: 'ingest2', switch: 'hv2', ip: '10.0.3.2', speedBps: 10_000 * MBPS },
        { name: 'media3', switch: 'hv3', ip: '10.0.3.3', speedBps: 10_000 * MBPS },
      ],
      workload,
      guestBps: 1000 * MBPS,
      hostBps: 10_000 * MBPS,
    },
  };
}
