/**
 * Guests' disks at a host, for the property of the whole core: what is offered, what is still elsewhere and may be pulled, and
 * machines that are there only to serve their disks, as `agent/io/emulatedDisks.ts` has it. Part of `hosts.ts`.
 */
import type { AgentCommandOf, DiskFetch, DiskOffer, GuestSpec } from '../../../contracts/agent.ts';
import { FairwayError } from '../../../contracts/common.ts';

/** Disks of a guest that is here that are partly elsewhere. */
interface Left {
  readonly migration: string;
  readonly totalBytes: number;
  doneBytes: number;
  /** Payload; undefined: nothing is pulled. */
  pullBps: number | undefined;
  isPulled: boolean;
}

export const diskBytes = (spec: GuestSpec): number => (spec.disks ?? []).reduce((sum, d) => sum + d.sizeBytes, 0);

const refused = (code: string) => new FairwayError(code, code, ['conflict']);

export class HostDisks {
  /** By guest. */
  readonly left = new Map<string, Left>();
  /** Guests that are here only for their disks. */
  readonly served = new Set<string>();
  readonly #offers = new Map<string, DiskOffer>();
  #nextPort = 60_000;

  /** @throws FairwayError `disks-elsewhere` while something of a guest's disks is on another host. */
  checkWhole(guest: string): void {
    if (this.left.get(guest)?.isPulled === false) throw refused('disks-elsewhere');
  }

  /** @throws FairwayError `disks-elsewhere`. */
  offer(migration: string, spec: GuestSpec, address: string): DiskOffer {
    const known = this.#offers.get(migration);
    if (known) return known;
    if (diskBytes(spec) === 0) throw refused('storage-without-disks');
    this.checkWhole(spec.name);
    const offer = { address, port: this.#nextPort-- };
    this.#offers.set(migration, offer);
    return offer;
  }

  expect({ migration, guest, options, disksFrom }: AgentCommandOf<'prepare'>): void {
    if (options?.storage !== 'on-demand') return;
    if (!disksFrom) throw new Error(`${migration} is prepared, and nobody says where the disks are`);
    const start = { doneBytes: 0, pullBps: undefined, isPulled: false };
    this.left.set(guest.name, { migration, totalBytes: diskBytes(guest), ...start });
  }

  /** Nobody reads them here any more. */
  release(migration: string): void {
    this.#offers.delete(migration);
  }

  forget(guest: string): void {
    this.left.delete(guest);
    this.served.delete(guest);
  }

  pull(guest: string, pullBps: number | undefined): void {
    const l = this.left.get(guest);
    if (l && !l.isPulled) l.pullBps = pullBps;
  }

  fetched(guest: string): DiskFetch {
    const l = this.left.get(guest);
    if (!l) return { fetchedBytes: 0, isPulled: true };
    const { doneBytes, totalBytes, isPulled } = l;
    const isOn = l.pullBps !== undefined && !isPulled;
    return { fetchedBytes: doneBytes, isPulled, ...(isOn ? { pull: { doneBytes, totalBytes } } : {}) };
  }

  /** Pulls that go on, bit/s of payload. */
  pulls(isRunning: (guest: string) => boolean): { id: string; payloadBps: number }[] {
    return [...this.left].flatMap(([guest, { migration: id, pullBps, isPulled }]) =>
      pullBps === undefined || isPulled || !isRunning(guest) ? [] : [{ id, payloadBps: pullBps }],
    );
  }

  /** Pulls go on for a while: answers what each took. */
  advance(ms: number, isRunning: (guest: string) => boolean): { id: string; bytes: number; isDone: boolean }[] {
    const sent: { id: string; bytes: number; isDone: boolean }[] = [];
    for (const [guest, l] of this.left) {
      if (l.pullBps === undefined || l.isPulled || !isRunning(guest)) continue;
      const bytes = Math.min(l.totalBytes - l.doneBytes, (l.pullBps * ms) / 8000);
      l.doneBytes += bytes;
      l.isPulled = l.doneBytes >= l.totalBytes;
      sent.push({ id: l.migration, bytes, isDone: l.isPulled });
    }
    return sent;
  }
}
