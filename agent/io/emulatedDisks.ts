/**
 * Disks that stay behind (storage `on-demand`) without any disk: what is still at the source is a number that a pull counts
 * down by the clock, at the rate that the given network allows. Part of `emulatedDriver.ts`, as `diskService.ts` is of the
 * driver of real guests; same commands, same refusals. What guests themselves read is not emulated.
 */
import type { AgentCommandOf, DiskOffer, GuestInfo, GuestSpec } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { DiskCommands } from '../core/driver.ts';
import { checkStorage } from '../core/storage.ts';
import type { CopyNetwork } from './emulatedDriver.ts';

export interface EmulatedDisks extends DiskCommands {
  /** A guest with this definition is to come. @throws FairwayError as the driver of real guests does. */
  expect(command: AgentCommandOf<'prepare'>): void;
  /** The guest is not here any more, or never was. */
  forget(guest: string): void;
  /** @throws FairwayError `disks-elsewhere` when a guest's disks are partly on another host. */
  checkWhole(guest: string): void;
  /** Goes on with pulls after `close`. */
  open(): void;
  close(): void;
}

export interface EmulatedDisksOptions {
  host: string;
  address: string;
  ports: readonly [number, number];
  clock: Clock;
  network: CopyNetwork;
  stepMs: number;
  guest(name: string): GuestInfo | undefined;
  isCopying(name: string): boolean;
  /** A guest that only served its disks is let go. */
  remove(name: string): void;
  onPulled(migration: string): void;
}

/** Disks of a guest that are partly elsewhere. */
interface Left {
  readonly migration: string;
  readonly from: DiskOffer;
  readonly totalBytes: number;
  doneBytes: number;
  pullBps: number | undefined;
  isPulled: boolean;
  atMs: number;
}

/** The port at which connections to a source's disks begin; they are told apart by the source's. */
const READER_PORT = 51_000;

export function createEmulatedDisks(o: EmulatedDisksOptions): EmulatedDisks {
  const { host, address, clock, network } = o;
  const left = new Map<string, Left>();
  const offers = new Map<string, DiskOffer>();
  let stop: (() => void) | undefined;

  const sizeOf = (spec: GuestSpec): number => (spec.disks ?? []).reduce((sum, d) => sum + d.sizeBytes, 0);
  const pullId = (l: Left) => `${l.migration}/pull`;

  function known(name: string): GuestInfo {
    const g = o.guest(name);
    if (g !== undefined) return g;
    throw new FairwayError('guest-unknown', `no guest ${name} on ${host}`, ['notFound']);
  }

  function step(): void {
    for (const [name, l] of left) {
      const now = clock.now();
      const dtMs = now - l.atMs;
      l.atMs = now;
      if (l.pullBps === undefined || l.isPulled || o.guest(name)?.state !== 'running') continue;
      const stream = {
        sourceIp: l.from.address,
        destinationIp: address,
        sourcePort: l.from.port,
        destinationPort: READER_PORT,
      };
      const bps = network.achievedBps({ migration: pullId(l), stream }, l.pullBps);
      l.doneBytes = Math.min(l.totalBytes, l.doneBytes + (bps * dtMs) / 8000);
      if (l.doneBytes < l.totalBytes) continue;
      l.isPulled = true;
      network.ended?.(pullId(l));
      o.onPulled(l.migration);
    }
    if ([...left.values()].every((l) => l.pullBps === undefined || l.isPulled)) rest();
  }
  function rest(): void {
    stop?.();
    stop = undefined;
  }
  function work(): void {
    stop ??= clock.every(o.stepMs, step);
  }

  function checkWhole(name: string): void {
    const l = left.get(name);
    if (l === undefined || l.isPulled) return;
    const text = `the disks of ${name} are partly still at ${l.from.address}: pull them first (fairway pull ${name} --rate …)`;
    throw new FairwayError('disks-elsewhere', text, ['conflict']);
  }

  return {
    expect({ guest, migration, options, disksFrom }) {
      checkStorage(guest, options?.storage);
      if (options?.storage !== 'on-demand') return;
      if (disksFrom === undefined) {
        const text = 'storage on-demand needs to know where the disks are: offerDisks comes first';
        throw new FairwayError('disks-from', text, ['badInput']);
      }
      const start = { doneBytes: 0, pullBps: options.pullBps, isPulled: false, atMs: clock.now() };
      left.set(guest.name, { migration, from: disksFrom, totalBytes: sizeOf(guest), ...start });
      if (options.pullBps !== undefined) work();
    },
    forget(name) {
      const l = left.get(name);
      if (l !== undefined) network.ended?.(pullId(l));
      left.delete(name);
    },
    checkWhole,
    async offer({ migration, guest }) {
      const g = known(guest);
      const same = offers.get(migration);
      if (same !== undefined) return same;
      if ((g.spec.disks ?? []).length === 0) {
        const text = `guest ${guest} has no disks: leave storage on-demand out`;
        throw new FairwayError('storage-without-disks', text, ['badInput']);
      }
      checkWhole(guest);
      if (o.isCopying(guest)) {
        throw new FairwayError('guest-busy', `guest ${guest} is already being copied`, ['conflict']);
      }
      // From the upper end: the lower one is for copies.
      const taken = new Set([...offers.values()].map((x) => x.port));
      let port = o.ports[1];
      while (taken.has(port)) port--;
      if (port < o.ports[0]) {
        const text = `disks cannot be exported at ${address}: no port is left in incomingPorts; give it more`;
        throw new FairwayError('nbd-port', text, ['retryable']);
      }
      const offer = { address, port };
      offers.set(migration, offer);
      return offer;
    },
    async release({ migration, guest }) {
      const g = o.guest(guest);
      if (g === undefined) return;
      if (o.isCopying(guest)) {
        throw new FairwayError('guest-busy', `guest ${guest} is being copied from ${host}`, ['conflict']);
      }
      offers.delete(migration);
      if (g.state === 'stopped') o.remove(guest);
    },
    async pull({ guest, pullBps }) {
      known(guest);
      const l = left.get(guest);
      if (l === undefined || l.isPulled) return;
      // What passed until now passed at the old pace.
      step();
      l.pullBps = pullBps;
      work();
    },
    async stopPull({ guest }) {
      known(guest);
      const l = left.get(guest);
      if (l === undefined || l.isPulled) return;
      step();
      l.pullBps = undefined;
      network.ended?.(pullId(l));
    },
    async fetched(guest) {
      known(guest);
      const l = left.get(guest);
      if (l === undefined) return { fetchedBytes: 0, isPulled: true };
      const { doneBytes, totalBytes, isPulled, pullBps } = l;
      const isOn = pullBps !== undefined && !isPulled;
      return { fetchedBytes: doneBytes, isPulled, ...(isOn ? { pull: { doneBytes, totalBytes } } : {}) };
    },
    open() {
      for (const l of left.values()) l.atMs = clock.now();
      if ([...left.values()].some((l) => l.pullBps !== undefined && !l.isPulled)) work();
    },
    close: rest,
  };
}
