/**
 * The migration driver without QEMU: guests are a few numbers, copies advance as a fluid (`core/fluidCopy.ts`) by the clock
 * and at the rate that the given network allows. Same interface, same order of events as the driver of real guests. The
 * simulation and tests run many in one process; a shared EmulatedFabric is how a source finds its destination. Agents in
 * different processes have no common fabric and cannot move emulated guests to each other.
 */
import type { Abilities, AgentCommandOf, GuestInfo, GuestSpec, Stream } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError, TECHNIQUES } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import { mayBePostcopy } from '../../contracts/copyOrder.ts';
import type { Log } from '../../contracts/log.ts';
import type { DriverReport, EventMessage, MigrationDriver, OngoingMigration } from '../core/driver.ts';
import {
  advanceFluidCopy,
  type FluidCopy,
  fluidProgress,
  isFluidEnded,
  startFluidCopy,
  wantedBps,
} from '../core/fluidCopy.ts';
import { sameProgress } from '../core/progress.ts';
import { checkStorage } from '../core/storage.ts';
import { COMPRESSIONS, checkOrder, hasOneConnection } from '../core/techniques.ts';
import { createEmulatedDisks } from './emulatedDisks.ts';

/** The network as a copy sees it. */
export interface CopyNetwork {
  /** Rate that `copy` gets now if it asks for `wantedBps`, bit/s. Asked at each step, also when it wants nothing. */
  achievedBps(copy: { migration: string; stream: Stream }, wantedBps: number): number;
  /** The copy has ended and will not ask again. */
  ended?(migration: string): void;
}

/** The destination's end of an emulated stream. */
export interface EmulatedReceiver {
  /** The guest runs at the destination from now on. */
  resumed(): void;
  /** The whole of the guest has arrived. */
  completed(): void;
  /** The stream ended before the guest ran: what waited for it is gone. */
  dropped(): void;
}

/** What listens where, for all emulated agents of one process. Keys are `address:port`. */
export type EmulatedFabric = Map<string, EmulatedReceiver>;
export const createEmulatedFabric = (): EmulatedFabric => new Map();

export interface EmulatedDriverOptions {
  config: Pick<AgentConfig, 'host' | 'migrationIp' | 'incomingPorts' | 'guests'>;
  clock: Clock;
  log: Log;
  fabric?: EmulatedFabric;
  /** Default: a network that gives what is asked for. */
  network?: CopyNetwork;
  /** Length of a step of the fluid, ms of the clock. Default 20. */
  stepMs?: number;
  /** Name of the switch port a guest is attached to. Default `tap-<guest>`. */
  portNameOf?: (guest: string) => string;
  /** Called whenever a guest appears, changes state or is removed (undefined), e.g. to plug it into an emulated switch. */
  onGuest?: (name: string, guest: GuestInfo | undefined) => void;
}

interface SourceJob {
  readonly role: 'source';
  readonly id: string;
  readonly guest: string;
  readonly key: string;
  readonly stream: Stream;
  readonly events: EventMessage[];
  /** Its disks stay here when the guest has left. */
  readonly leavesDisks: boolean;
  copy: FluidCopy;
  atMs: number;
  toldMs: number;
  told: ReturnType<typeof fluidProgress> | undefined;
  stop: () => void;
}

interface DestinationJob {
  readonly role: 'destination';
  readonly id: string;
  readonly guest: string;
  readonly address: string;
  readonly port: number;
  readonly events: EventMessage[];
  /** Its disks are still at the source when it runs here. */
  readonly readsDisks: boolean;
  guestRan: boolean;
  lost: boolean;
}

/** Arithmetic can do everything; only what contradicts itself is refused. */
const ABILITIES: Abilities = {
  hypervisor: 'emulated',
  techniques: [...TECHNIQUES],
  autoConverge: true,
  xbzrle: true,
  multifd: [...COMPRESSIONS],
  multifdPostcopy: false,
  holdsSwitchover: 'stopped',
  storage: ['shared', 'on-demand'],
};
const PAGE_BYTES = 4096;
const MIB = 1024 * 1024;

/** A driver of emulated guests. Closed without `stopGuests` it can be opened again and still has them. */
export function createEmulatedDriver(options: EmulatedDriverOptions): MigrationDriver {
  const { config, clock, log } = options;
  const fabric = options.fabric ?? createEmulatedFabric();
  const network = options.network ?? { achievedBps: (_copy, wanted) => wanted };
  const stepMs = options.stepMs ?? 20;
  const portNameOf = options.portNameOf ?? ((guest: string) => `tap-${guest}`);
  const address = config.migrationIp ?? '127.0.0.1';
  const guests = new Map<string, GuestInfo>();
  const jobs = new Map<string, SourceJob | DestinationJob>();
  const departed = new Set<string>();
  let report: (message: DriverReport) => void = () => {};
  let periodMs = 500;
  let nextSourcePort = 40_000;

  const disks = createEmulatedDisks({
    host: config.host,
    address,
    ports: config.incomingPorts,
    clock,
    network,
    stepMs,
    guest: (name) => guests.get(name),
    isCopying: (name) =>
      [...jobs.values()].some((j) => j.role === 'source' && j.guest === name && !isFluidEnded(j.copy)),
    remove(name) {
      departed.add(name);
      removeGuest(name);
    },
    onPulled(migration) {
      const job = jobs.get(migration);
      if (job !== undefined) tell(job, 'disksPulled');
    },
  });

  const listGuests = (): GuestInfo[] => [...guests.values()];
  function setGuest(spec: GuestSpec, state: GuestInfo['state']): void {
    const guest: GuestInfo = { spec, state, portName: portNameOf(spec.name) };
    guests.set(spec.name, guest);
    options.onGuest?.(spec.name, guest);
    report({ type: 'guests', guests: listGuests() });
  }
  function removeGuest(name: string): void {
    if (!guests.delete(name)) return;
    disks.forget(name);
    options.onGuest?.(name, undefined);
    report({ type: 'guests', guests: listGuests() });
  }
  function setState(name: string, state: GuestInfo['state']): void {
    const g = guests.get(name);
    if (g !== undefined && g.state !== state) setGuest(g.spec, state);
  }
  function tell(job: SourceJob | DestinationJob, event: EventMessage['event'], more: Partial<EventMessage> = {}): void {
    const message: EventMessage = { type: 'event', migration: job.id, event, ...more };
    job.events.push(message);
    log('debug', 'migration-event', { migration: job.id, guest: job.guest, what: event, reason: more.reason });
    report(message);
  }

  function endCopy(job: SourceJob, phase: 'completed' | 'cancelled' | 'failed', reason?: string): void {
    job.stop();
    job.copy = { ...job.copy, phase };
    network.ended?.(job.id);
    // Until the destination owns the guest, a copy that ends early leaves it running here.
    if (phase === 'completed') setState(job.guest, 'stopped');
    else if (!job.copy.postcopyStarted) setState(job.guest, 'running');
    tell(job, phase, { progress: fluidProgress(job.copy), ...(reason === undefined ? {} : { reason }) });
  }

  function step(job: SourceJob): void {
    if (isFluidEnded(job.copy)) return;
    const receiver = fabric.get(job.key);
    const now = clock.now();
    const dtMs = now - job.atMs;
    job.atMs = now;
    if (receiver === undefined) {
      endCopy(job, 'failed', `nothing listens at ${job.key} any more`);
      return;
    }
    const rateBps = network.achievedBps({ migration: job.id, stream: job.stream }, wantedBps(job.copy));
    const { copy, events } = advanceFluidCopy(job.copy, dtMs, rateBps);
    job.copy = copy;
    if (copy.phase === 'preSwitchover' || copy.phase === 'stopped') setState(job.guest, 'paused');
    for (const event of events) {
      if (event === 'completed') {
        if (!copy.postcopyStarted) receiver.resumed();
        receiver.completed();
        endCopy(job, 'completed');
        return;
      }
      const stopped = event === 'preSwitchover' ? { stoppedAtMs: clock.now() } : {};
      tell(job, event, { progress: fluidProgress(copy), ...stopped });
      if (event === 'postcopyStarted') receiver.resumed();
    }
    if (now - job.toldMs < periodMs) return;
    const progress = fluidProgress(copy);
    if (!sameProgress(job.told, progress)) report({ type: 'progress', migration: job.id, progress });
    job.told = progress;
    job.toldMs = now;
  }

  function sourceJob(id: string): SourceJob {
    const job = jobs.get(id);
    if (job?.role !== 'source') {
      throw new FairwayError('migration-unknown', `${config.host} is not the source of migration ${id}`, ['notFound']);
    }
    return job;
  }

  function refuse(text: string): never {
    throw new FairwayError('wrong-phase', text, ['conflict']);
  }

  function launch(spec: GuestSpec): GuestInfo {
    const here = guests.get(spec.name);
    if (here !== undefined) {
      if (here.state === 'running' && JSON.stringify(here.spec) === JSON.stringify(spec)) return here;
      throw new FairwayError('guest-exists', `guest ${spec.name} already has a machine on ${config.host}`, [
        'conflict',
      ]);
    }
    setGuest(spec, 'running');
    return guests.get(spec.name) as GuestInfo;
  }

  function prepare(c: AgentCommandOf<'prepare'>): { address: string; port: number; portName: string } {
    checkOrder(c, ABILITIES, config.host);
    const known = jobs.get(c.migration);
    const answer = (port: number) => ({ address, port, portName: portNameOf(c.guest.name) });
    if (known?.role === 'destination' && !known.lost) return answer(known.port);
    if (known !== undefined || guests.has(c.guest.name)) {
      const text = `guest ${c.guest.name} already has a machine on ${config.host}: finish or abandon its last migration`;
      throw new FairwayError('guest-exists', text, ['conflict']);
    }
    const [from, to] = config.incomingPorts;
    let port = from;
    while (fabric.has(`${address}:${port}`)) port++;
    if (port > to)
      throw new FairwayError('prepare-failed', `no port is left for incoming migrations on ${config.host}`);
    disks.expect(c);
    const job: DestinationJob = {
      role: 'destination',
      id: c.migration,
      guest: c.guest.name,
      address,
      port,
      events: [],
      readsDisks: c.options?.storage === 'on-demand',
      guestRan: false,
      lost: false,
    };
    jobs.set(job.id, job);
    departed.delete(job.guest);
    const key = `${address}:${port}`;
    fabric.set(key, {
      resumed() {
        if (job.guestRan) return;
        job.guestRan = true;
        setState(job.guest, 'running');
        tell(job, 'resumed', { resumedAtMs: clock.now() });
      },
      completed: () => fabric.delete(key),
      dropped() {
        fabric.delete(key);
        if (job.guestRan) return;
        job.lost = true;
        removeGuest(job.guest);
      },
    });
    setGuest(c.guest, 'incoming');
    return answer(port);
  }

  function start(c: AgentCommandOf<'start'>): void {
    if (jobs.get(c.migration)?.role === 'source') return;
    checkOrder(c, ABILITIES, config.host);
    const guest = guests.get(c.guest);
    if (guest === undefined || guest.state !== 'running') {
      const text = `guest ${c.guest} does not run on ${config.host}${guest === undefined ? '' : ` (it is ${guest.state})`}`;
      throw new FairwayError('guest-not-running', text, ['notFound']);
    }
    checkStorage(guest.spec, c.options?.storage);
    disks.checkWhole(c.guest);
    for (const other of [...jobs.values()].filter((j) => j.guest === c.guest)) {
      if (other.role === 'source' && !isFluidEnded(other.copy)) {
        const text = `guest ${c.guest} is already being copied by migration ${other.id}`;
        throw new FairwayError('guest-busy', text, ['conflict']);
      }
      jobs.delete(other.id);
    }
    const key = `${c.address}:${c.port}`;
    if (!fabric.has(key))
      throw new FairwayError('start-failed', `nothing listens at ${key}: prepare the destination first`);
    const { spec } = guest;
    const memoryBytes = spec.memoryMiB * MIB;
    const order = {
      technique: c.technique,
      memoryBytes,
      workingSetBytes: Math.min(memoryBytes, (spec.workingSetMiB ?? spec.memoryMiB / 4) * MIB),
      dirtyBytesPerS: (spec.dirtyPagesPerS ?? 0) * PAGE_BYTES,
      downtimeLimitMs: c.downtimeLimitMs,
      hybridPasses: c.hybridPasses,
      pauseBeforeSwitchover: c.pauseBeforeSwitchover,
      mayTurnPostcopy: c.mayTurnPostcopy === true,
      ...(c.hybridMinGain === undefined ? {} : { hybridMinGain: c.hybridMinGain }),
      ...(c.options === undefined ? {} : { options: c.options }),
      ...(spec.compressedShare === undefined ? {} : { compressedShare: spec.compressedShare }),
      ...(spec.deltaShare === undefined ? {} : { deltaShare: spec.deltaShare }),
    };
    const job: SourceJob = {
      role: 'source',
      id: c.migration,
      guest: c.guest,
      key,
      // Ports are unique over the life of the driver, as far as there are ports.
      stream: {
        sourceIp: address,
        destinationIp: c.address,
        sourcePort: hasOneConnection(c) ? nextSourcePort : 0,
        destinationPort: c.port,
      },
      events: [],
      leavesDisks: c.options?.storage === 'on-demand',
      copy: startFluidCopy(order, c.bandwidthBps),
      atMs: clock.now(),
      toldMs: clock.now(),
      told: undefined,
      stop: () => {},
    };
    nextSourcePort = nextSourcePort >= 48_000 ? 40_000 : nextSourcePort + 1;
    jobs.set(job.id, job);
    if (c.technique === 'stop-and-copy') setState(c.guest, 'paused');
    tell(job, 'stream', { stream: job.stream });
    job.stop = clock.every(stepMs, () => step(job));
  }

  function finish(id: string): void {
    const job = jobs.get(id);
    if (job === undefined) return;
    if (job.role === 'source') {
      if (!isFluidEnded(job.copy)) {
        throw new FairwayError('migration-running', `migration ${id} is still ${job.copy.phase}`, ['conflict']);
      }
      // One that leaves its disks stays until nobody reads them any more (`releaseDisks`).
      if (job.copy.phase === 'completed' && !job.leavesDisks) {
        departed.add(job.guest);
        removeGuest(job.guest);
      }
    } else if (!job.guestRan) {
      throw new FairwayError('guest-not-arrived', `the guest of migration ${id} has not run here yet`, ['conflict']);
    } else if (job.readsDisks) return; // Whoever comes back is told again that its disks are here.
    jobs.delete(id);
  }

  function abandon(id: string): void {
    const job = jobs.get(id);
    if (job === undefined) return;
    if (job.role === 'source' || job.guestRan) {
      const why = job.role === 'source' ? 'this is the source' : 'the guest has run here';
      throw new FairwayError('not-abandonable', `migration ${id} cannot be abandoned: ${why}`, ['conflict']);
    }
    fabric.delete(`${job.address}:${job.port}`);
    if (!job.lost) removeGuest(job.guest);
    jobs.delete(id);
  }

  return {
    kind: 'emulated',
    disks,
    abilities: () => ABILITIES,
    async open(listener) {
      report = listener;
      disks.open();
      for (const spec of config.guests) if (!guests.has(spec.name) && !departed.has(spec.name)) launch(spec);
    },
    launch: async (spec) => launch(spec),
    guests: listGuests,
    migrations: (): OngoingMigration[] =>
      [...jobs.values()].map((j) => ({
        migration: j.id,
        guest: j.guest,
        role: j.role,
        ...(j.role === 'source' ? { progress: fluidProgress(j.copy) } : {}),
      })),
    pastEvents: () => [...jobs.values()].flatMap((j) => j.events),
    setProgressPeriod(ms) {
      periodMs = ms;
    },
    prepare: async (c) => prepare(c),
    start: async (c) => start(c),
    async setBandwidth(c) {
      const job = sourceJob(c.migration);
      // What passed until now passed at the old pace.
      step(job);
      job.copy = {
        ...job.copy,
        bandwidthBps: c.bandwidthBps,
        switchoverBps: c.switchoverBps ?? job.copy.switchoverBps,
      };
    },
    async setDowntimeLimit({ migration, downtimeLimitMs }) {
      const job = sourceJob(migration);
      step(job);
      job.copy = { ...job.copy, order: { ...job.copy.order, downtimeLimitMs } };
    },
    async switchToPostcopy(id) {
      const job = sourceJob(id);
      const { order } = job.copy;
      if (!mayBePostcopy(order)) {
        refuse(`this copy was started as ${order.technique}: post-copy must be enabled on both sides before the start`);
      }
      if (job.copy.phase === 'pre-copy') job.copy = { ...job.copy, postcopyRequested: true };
    },
    async continueSwitchover(id) {
      const job = sourceJob(id);
      if (job.copy.phase === 'pre-copy') refuse('the copy does not wait for its switch-over; it is in pre-copy');
      if (job.copy.phase !== 'preSwitchover') return;
      step(job);
      job.copy = { ...job.copy, phase: 'stopped' };
    },
    async cancel(id) {
      const job = sourceJob(id);
      const { phase, postcopyStarted } = job.copy;
      if (phase === 'cancelled' || phase === 'failed') return;
      if (phase === 'completed') refuse('the copy is complete: the guest runs at the destination');
      if (postcopyStarted) refuse('the guest runs at the destination: post-copy cannot be cancelled');
      fabric.get(job.key)?.dropped();
      endCopy(job, 'cancelled');
    },
    recoverIncoming: async (id) => refuse(`migration ${id} is emulated: its stream does not break`),
    recoverOutgoing: async ({ migration }) => refuse(`migration ${migration} is emulated: its stream does not break`),
    finish: async (id) => finish(id),
    abandon: async (id) => abandon(id),
    async measureDirtyRate(guest, seconds) {
      const g = guests.get(guest);
      if (g === undefined) throw new FairwayError('guest-unknown', `no guest ${guest} on ${config.host}`, ['notFound']);
      await new Promise<void>((resolve) => clock.after(seconds * 1000, resolve));
      const workingSet = (g.spec.workingSetMiB ?? g.spec.memoryMiB / 4) * MIB;
      // A page dirtied twice counts once, as it does for QEMU's sampling.
      const bytes = Math.min(workingSet, (g.spec.dirtyPagesPerS ?? 0) * PAGE_BYTES * seconds);
      return { dirtyBytesPerS: g.state === 'running' ? bytes / seconds : 0 };
    },
    async close({ stopGuests }) {
      report = () => {};
      disks.close();
      if (!stopGuests) return;
      for (const job of jobs.values()) {
        if (job.role === 'source') {
          job.stop();
          if (!isFluidEnded(job.copy)) fabric.get(job.key)?.dropped();
        } else fabric.delete(`${job.address}:${job.port}`);
      }
      jobs.clear();
      for (const name of [...guests.keys()]) removeGuest(name);
    },
  };
}
