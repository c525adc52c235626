/**
 * What a host does for disks that stay behind (storage `on-demand`): the source lets them be read, also after its guest has
 * left; the destination reads what its guest wants, fetches the rest if told so, and says when the source is needed no more.
 * Part of `qemuDriver.ts`, which knows the guests; `disks.ts` speaks to QEMU.
 */
import type { AgentCommandOf, DiskFetch, DiskOffer, GuestInfo } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';
import {
  askDiskJobs,
  endPulls,
  exportDisks,
  ownAgain,
  paceDiskJobs,
  pullIds,
  putAside,
  receivedFrom,
  resumePulls,
  startPulls,
  stopExports,
  stopPulls,
  whyPullsWait,
} from './disks.ts';
import type { GuestRecord } from './guestProcess.ts';
import { nbdAnswers } from './migrationPorts.ts';
import type { QmpClient } from './qmp.ts';

/** A guest as its driver keeps it. */
export interface GuestWithDisks {
  record: GuestRecord;
  state: GuestInfo['state'];
  qmp: QmpClient;
}

export interface DiskServiceOptions<G extends GuestWithDisks> {
  host: string;
  clock: Clock;
  log: Log;
  guest(name: string): G | undefined;
  guests(): Iterable<G>;
  /** Writes the guest's record down. */
  save(guest: G): void;
  /** True while a copy of the guest runs from here. */
  isCopying(name: string): boolean;
  /** Ports to try, in order. */
  freePorts(): Promise<{ address: string; ports: number[] }>;
  remove(name: string): Promise<void>;
  onPulled(migration: string): void;
  runStateOf(guest: G): Promise<string>;
}

export interface DiskService<G> {
  offer(command: AgentCommandOf<'offerDisks'>): Promise<DiskOffer>;
  release(command: AgentCommandOf<'releaseDisks'>): Promise<void>;
  pull(command: AgentCommandOf<'pullDisks'>): Promise<void>;
  stopPull(command: AgentCommandOf<'stopPull'>): Promise<void>;
  fetched(guest: string): Promise<DiskFetch>;
  /** The guest has left: what it left behind is read in full from now on. */
  left(guest: G): Promise<void>;
  /** @throws FairwayError `disks-elsewhere` when a guest's disks are partly on another host. */
  checkWhole(guest: G): void;
  close(): void;
}

const WATCH_MS = 500;
const ANSWER_MS = 1000;
/** Of what was fetched an agent that is killed may forget so much. */
const SAVE_EVERY_BYTES = 2 ** 20;
const countOf = (g: GuestWithDisks): number => g.record.spec.disks?.length ?? 0;

/** What is done by turns: of each name one thing after the other. */
function createTurns(): <T>(name: string, work: () => Promise<T>) => Promise<T> {
  const turns = new Map<string, Promise<unknown>>();
  return (name, work) => {
    const mine = (turns.get(name) ?? Promise.resolve()).then(work);
    const end = mine
      .catch(() => undefined)
      .finally(() => {
        if (turns.get(name) === end) turns.delete(name);
      });
    turns.set(name, end);
    return mine;
  };
}

export function createDiskService<G extends GuestWithDisks>(options: DiskServiceOptions<G>): DiskService<G> {
  const { host, clock, log } = options;
  const offers = new Map<string, DiskOffer>();
  /** `openBytes` of guests' records as they were last written. */
  const written = new Map<string, number>();
  /** Why a guest's pull stands still, and at how many bytes; forgotten when it gets further. */
  const stuck = new Map<string, { reason: string; atBytes: number }>();
  /** Guests that stand still since their disks cannot be read, of which that has been told. */
  const standing = new Set<string>();
  let looking = false;

  /** What is done with a guest's pull, one after the other: looked at, begun, stopped. */
  const inTurn = createTurns();
  const countInTurn = createTurns();

  function known(name: string): G {
    const g = options.guest(name);
    if (g !== undefined) return g;
    throw new FairwayError('guest-unknown', `no guest ${name} on ${host}`, ['notFound']);
  }

  /** Connections end, and their figures with them: what was received over them is kept. */
  function count(g: G): Promise<number> {
    const { onDemand, spec } = g.record;
    if (onDemand === undefined) return Promise.resolve(0);
    // An old answer after a newer one would look like another connection.
    return countInTurn(spec.name, async () => {
      const now = await receivedFrom(onDemand.from);
      const hasEnded = now < onDemand.openBytes;
      if (hasEnded) onDemand.fetchedBytes += onDemand.openBytes;
      onDemand.openBytes = now;
      if (hasEnded || now - (written.get(spec.name) ?? 0) >= SAVE_EVERY_BYTES) {
        options.save(g);
        written.set(spec.name, now);
      }
      return onDemand.fetchedBytes + now;
    });
  }

  async function watchOne(g: G): Promise<void> {
    const { onDemand, spec } = g.record;
    if (onDemand === undefined || g.state === 'incoming' || g.record.serves === true) return;
    await goOn(g);
    await inTurn(spec.name, () => watchPull(g));
    if (!onDemand.isPulled) await count(g);
  }

  /** A guest that wanted what could not be reached or kept goes on where it stopped as soon as it can. */
  async function goOn(g: G): Promise<void> {
    const { onDemand, spec } = g.record;
    const stands = g.state === 'paused' && (await options.runStateOf(g)) === 'io-error';
    if (!stands || onDemand === undefined) return void standing.delete(spec.name);
    // Let go on before, it would stop again at once, twice a second.
    const isReachable = onDemand.isPulled || (await nbdAnswers(onDemand.from, ANSWER_MS));
    if (isReachable) await g.qmp.execute('cont');
    else if (!standing.has(spec.name)) {
      standing.add(spec.name);
      const reason = `its disk cannot be read at ${onDemand.from.address}: see that this host, its machine and the path to it are there; the guest goes on when they are`;
      log('warn', 'guest-waits-for-disk', { guest: spec.name, reason });
    }
  }

  async function watchPull(g: G): Promise<void> {
    const { onDemand, spec } = g.record;
    if (onDemand?.pullBps === undefined || onDemand.isPulled) return;
    const jobs = await askDiskJobs(g.qmp, pullIds(countOf(g)));
    if (jobs === undefined) return startPulls(g.qmp, countOf(g), onDemand.pullBps);
    if (jobs.status === 'ended') return allIsHere(g);
    const atBytes = jobs.done.transferredBytes;
    const reason = jobs.error ?? (await whyPullsWait(g.qmp, countOf(g)));
    const before = stuck.get(spec.name);
    if (reason !== undefined && reason !== before?.reason)
      log('warn', 'pull-stands-still', { guest: spec.name, reason });
    if (reason !== undefined) stuck.set(spec.name, { reason, atBytes });
    else if (before !== undefined && atBytes > before.atBytes) stuck.delete(spec.name);
    if (jobs.status !== 'failed') await resumePulls(g.qmp, countOf(g));
  }

  async function allIsHere(g: G): Promise<void> {
    const { onDemand, spec } = g.record;
    if (onDemand === undefined) return;
    const fetchedBytes = await count(g);
    stuck.delete(spec.name);
    await endPulls(g.qmp, countOf(g));
    Object.assign(onDemand, { fetchedBytes, openBytes: 0, isPulled: true });
    options.save(g);
    log('info', 'disks-pulled', { guest: spec.name, fetchedBytes });
    options.onPulled(onDemand.migration);
  }

  const stop = clock.every(WATCH_MS, () => {
    if (looking) return;
    looking = true;
    const work = [...options.guests()].map((g) =>
      watchOne(g).catch((error: unknown) => log('warn', 'disks-watch', { guest: g.record.spec.name, error })),
    );
    void Promise.all(work).finally(() => {
      looking = false;
    });
  });

  function checkWhole(g: G): void {
    const { onDemand, spec } = g.record;
    if (onDemand === undefined || onDemand.isPulled) return;
    const text = `the disks of ${spec.name} are partly still at ${onDemand.from.address}: pull them first`;
    throw new FairwayError('disks-elsewhere', text, ['conflict']);
  }

  return {
    async offer({ migration, guest }) {
      const g = known(guest);
      const same = offers.get(migration);
      if (same !== undefined) return same;
      if (countOf(g) === 0) {
        const text = `guest ${guest} has no disks: leave storage on-demand out`;
        throw new FairwayError('storage-without-disks', text, ['badInput']);
      }
      checkWhole(g);
      if (options.isCopying(guest)) {
        throw new FairwayError('guest-busy', `guest ${guest} is already being copied`, ['conflict']);
      }
      // Of an earlier migration that did not come about.
      await stopExports(g.qmp);
      const { address, ports } = await options.freePorts();
      const offer = await exportDisks(g.qmp, countOf(g), address, ports, false);
      offers.clear();
      offers.set(migration, offer);
      return offer;
    },

    async release({ guest }) {
      const g = options.guest(guest);
      if (g === undefined) return;
      if (options.isCopying(guest)) {
        throw new FairwayError('guest-busy', `guest ${guest} is being copied from ${host}`, ['conflict']);
      }
      offers.clear();
      if (g.state !== 'stopped') return stopExports(g.qmp);
      const { disks } = g.record.spec;
      await options.remove(guest);
      putAside(disks ?? []);
    },

    async pull({ guest, pullBps }) {
      const g = known(guest);
      const { onDemand } = g.record;
      if (onDemand === undefined || onDemand.isPulled) return;
      onDemand.pullBps = pullBps;
      options.save(g);
      if (g.state === 'incoming') return;
      await inTurn(guest, async () => {
        const ids = pullIds(countOf(g));
        // One that failed is begun anew when it is looked at next.
        if ((await askDiskJobs(g.qmp, ids))?.status === 'failed') await stopPulls(g.qmp, countOf(g), clock);
        else await paceDiskJobs(g.qmp, ids, pullBps);
      });
    },

    async stopPull({ guest }) {
      const g = known(guest);
      const { onDemand } = g.record;
      if (onDemand === undefined || onDemand.isPulled) return;
      delete onDemand.pullBps;
      options.save(g);
      stuck.delete(guest);
      await inTurn(guest, async () => {
        // One that has just come to its end is not undone.
        const jobs = await askDiskJobs(g.qmp, pullIds(countOf(g)));
        if (jobs?.status === 'ended') await allIsHere(g);
        else await stopPulls(g.qmp, countOf(g), clock);
      });
    },

    async fetched(guest) {
      const g = known(guest);
      const { onDemand } = g.record;
      if (onDemand === undefined) return { fetchedBytes: 0, isPulled: true };
      if (onDemand.isPulled) return { fetchedBytes: onDemand.fetchedBytes, isPulled: true };
      const jobs = onDemand.pullBps === undefined ? undefined : await askDiskJobs(g.qmp, pullIds(countOf(g)));
      const fetchedBytes = await count(g);
      if (jobs === undefined) return { fetchedBytes, isPulled: false };
      const { transferredBytes: doneBytes, totalBytes } = jobs.done;
      const reason = jobs.error ?? stuck.get(guest)?.reason;
      return { fetchedBytes, isPulled: false, pull: { doneBytes, totalBytes, ...(reason ? { reason } : {}) } };
    },

    left: (g) => ownAgain(g.qmp, countOf(g)),
    checkWhole,
    close() {
      stop();
      for (const g of options.guests()) {
        if (g.record.onDemand === undefined || g.record.onDemand.isPulled) continue;
        try {
          options.save(g);
        } catch (error) {
          log('warn', 'fetched-not-written', { guest: g.record.spec.name, error });
        }
      }
    },
  };
}
