/**
 * The migration driver for real guests: QEMU processes controlled over QMP. What to do next is decided by the pure machines
 * `core/source.ts` and `core/destination.ts`; `qemuSource.ts` and `qemuDestination.ts` carry their actions out on the guests of
 * `qemuGuests.ts`. This file puts them together: it feeds events and polls back, and has the state of each copy written down
 * (`jobBook.ts`), so that a restarted agent goes on with its guests and their migrations.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Abilities, AgentCommandOf } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { Log } from '../../contracts/log.ts';
import type { DestinationState } from '../core/destination.ts';
import type { DriverReport, MigrationDriver } from '../core/driver.ts';
import { isEnded } from '../core/sourceState.ts';
import { checkStorage } from '../core/storage.ts';
import { checkOrder, checkTls, qemuAbilities } from '../core/techniques.ts';
import { createDiskService } from './diskService.ts';
import { putAside, removeDisks, stopExports } from './disks.ts';
import { checkPath, createPrepare, dirtyRateAfter, listenAnew, portsFor, startable, startCopy } from './driverParts.ts';
import { readRecord } from './guestProcess.ts';
import { createJobBook, type Job, type JobBook } from './jobBook.ts';
import { queryMigrate, readDirtyRate, runStateOf, startDirtyRate } from './migrationQmp.ts';
import { createQemuDestination, type QemuDestination } from './qemuDestination.ts';
import { createQemuGuests, type QemuGuest } from './qemuGuests.ts';
import { askAbilities, probeQemu } from './qemuProbe.ts';
import { createQemuSource, type QemuSource } from './qemuSource.ts';

export interface QemuDriverOptions {
  config: Pick<
    AgentConfig,
    'host' | 'migrationIp' | 'runDir' | 'qemu' | 'ovs' | 'incomingPorts' | 'guests' | 'migrationTls' | 'diskFolder'
  >;
  clock: Clock;
  log: Log;
}

const isPreparing = ({ phase }: DestinationState): boolean =>
  phase === 'capabilities' || phase === 'parameters' || phase === 'incoming';

/** A driver of QEMU guests. `open()` finds those that run and starts the configured ones that neither run nor moved away. */
export function createQemuDriver({ config, clock, log }: QemuDriverOptions): MigrationDriver {
  const { host, runDir } = config;
  let report: (message: DriverReport) => void = () => {};
  let closed = false;
  const tell = (message: DriverReport): void => {
    if (!closed) report(message);
  };
  /** Until it has been asked, and when it does not answer: it can do nothing. */
  let abilities: Abilities = { ...qemuAbilities([0, 0, 0], new Set(), []), techniques: [] };

  const guests = createQemuGuests({
    config,
    clock,
    log,
    onChange: (all) => tell({ type: 'guests', guests: all }),
    onEvent,
    onGone,
  });
  function guestOf(job: Job): QemuGuest {
    const g = guests.get(job.guest);
    if (g !== undefined) return g;
    throw new FairwayError('guest-gone', `guest ${job.guest} has no machine on ${host}`, ['notFound']);
  }
  function known(name: string): QemuGuest {
    const g = guests.get(name);
    if (g !== undefined) return g;
    throw new FairwayError('guest-unknown', `no guest ${name} on ${host}`, ['notFound']);
  }

  const book: JobBook = createJobBook({
    host,
    runDir,
    clock,
    log,
    report: tell,
    doSource: (job, action) => source.act(job, action),
    doDestination: (job, action) => destination.act(job, action),
    query: (job) => source.query(job),
    momentsOf: (name) => guests.get(name)?.moments ?? {},
    onDeparted(name) {
      const g = guests.get(name);
      if (g === undefined) return;
      guests.setState(g, 'stopped');
      serveOn(g);
    },
  });
  const source: QemuSource = createQemuSource({
    ...{ config, clock, log, book, guestOf, guest: guests.get },
    isClosed: () => closed,
  });
  const destination: QemuDestination = createQemuDestination({
    ...{ config, log, book, guests, guestOf },
    abilities: () => abilities,
  });
  const diskService = createDiskService<QemuGuest>({
    ...{ host, clock, log, guest: guests.get, guests: guests.all, save: guests.save },
    isCopying(name) {
      const state = book.ofGuest(name)?.state;
      return state?.role === 'source' && !isEnded(state.phase);
    },
    freePorts: async () => ({ address: config.migrationIp ?? '127.0.0.1', ports: await portsFor(book, config) }),
    remove: (name) => guests.remove(name, true),
    onPulled(migration) {
      const job = book.get(migration);
      if (job !== undefined) book.followDestination(job, { type: 'pulled' });
    },
    runStateOf: (g) => runStateOf(g.qmp),
  });

  /** A guest that has left its disks here. */
  function serveOn(g: QemuGuest): void {
    const { name } = g.record.spec;
    const state = book.ofGuest(name)?.state;
    const leaves = state?.role === 'source' && state.command.options?.storage === 'on-demand';
    if (!leaves && g.record.serves !== true) return;
    diskService.left(g).catch((error: unknown) => log('error', 'disks-not-served', { guest: name, error }));
  }

  function onEvent(g: QemuGuest, event: string, data: Record<string, unknown>): void {
    const { name } = g.record.spec;
    const job = book.ofGuest(name);
    switch (event) {
      case 'RESUME':
        if (job?.state.role === 'destination') {
          book.followDestination(job, { type: 'running' });
          // What the mirror had to bring it has brought before the guest could run.
          if (job.state.command.options?.storage === 'mirrored') {
            stopExports(g.qmp).catch((error: unknown) => log('warn', 'disks-still-exported', { guest: name, error }));
          }
        }
        break;
      case 'BLOCK_IO_ERROR':
        log('warn', 'disk-error', { guest: name, device: data.device, action: data.action, reason: data.reason });
        break;
      case 'MIGRATION': {
        const status = String(data.status);
        if (job?.state.role === 'source') book.follow(job, { type: 'status', info: { status } });
        if (job?.state.role === 'destination') book.followDestination(job, { type: 'status', status });
        break;
      }
      case 'MIGRATION_PASS':
        if (job?.state.role === 'source') book.follow(job, { type: 'pass', pass: Number(data.pass) });
        break;
      default:
        break;
    }
  }

  function onGone({ record }: QemuGuest, reason: string): void {
    for (const job of book.all()) {
      if (job.guest !== record.spec.name) continue;
      const lost = { type: 'lost', reason: `the guest's QEMU is gone: ${reason}` } as const;
      if (job.state.role === 'source') book.follow(job, lost);
      else {
        if (!job.state.guestRan) removeDisks(record.madeDisks ?? []);
        book.followDestination(job, lost);
      }
    }
  }

  /** Takes up a migration that a previous agent left running. */
  async function adoptJob(job: Job): Promise<void> {
    const g = guests.get(job.guest);
    if (job.state.role === 'destination' && isPreparing(job.state)) {
      // Half prepared, and nobody was told of it: the controller will ask again, and gets a fresh machine.
      await destination.removeUnborn(job.guest);
      book.forget(job);
      return;
    }
    const gone = { type: 'lost', reason: "the guest's QEMU ended while no agent was looking" } as const;
    if (job.state.role === 'source') {
      if (isEnded(job.state.phase)) {
        if (g?.state === 'stopped') serveOn(g);
        return;
      }
      if (g === undefined) return book.feedSource(job, gone);
      const guestLeft = (await runStateOf(g.qmp)) === 'postmigrate';
      await book.feedSource(job, { type: 'restored', info: await queryMigrate(g.qmp), guestLeft });
      if (!isEnded(job.state.phase)) book.poll(job);
      return;
    }
    if (g === undefined) return book.feedDestination(job, gone);
    if (g.state === 'running') await book.feedDestination(job, { type: 'running' });
    const { status } = await queryMigrate(g.qmp);
    if (status !== undefined) await book.feedDestination(job, { type: 'status', status });
  }

  const canStart = (name: string): QemuGuest => startable(book, name, guests.get(name), host);

  /** Refuses what this guest's own QEMU cannot do, or its disks do not allow. */
  async function checkStart(command: AgentCommandOf<'start'>): Promise<void> {
    const g = canStart(command.guest);
    g.abilities ??= askAbilities(g.qmp).catch((error: unknown) => {
      delete g.abilities;
      throw error;
    });
    checkOrder(command, await g.abilities, host);
    checkTls(command, config.migrationTls !== undefined, host, 'migrationTls');
    checkStorage(g.record.spec, command.options?.storage);
    diskService.checkWhole(g);
  }

  return {
    kind: 'qmp',
    abilities: () => abilities,

    async open(listener) {
      report = listener;
      mkdirSync(join(runDir, 'migrations'), { recursive: true, mode: 0o700 });
      try {
        abilities = await probeQemu(config.qemu, runDir);
      } catch (error) {
        log('error', 'hypervisor-probe', { qemu: config.qemu, error });
      }
      await guests.adopt();
      for (const g of guests.all()) if (g.state === 'stopped' && g.record.serves === true) serveOn(g);
      for (const job of book.read()) {
        await adoptJob(job).catch((error: unknown) => log('error', 'migration-lost', { migration: job.id, error }));
      }
      for (const spec of config.guests) {
        if (guests.has(spec.name) || readRecord(runDir, spec.name)?.departed) continue;
        await guests.add(spec, false);
      }
    },

    async launch(spec) {
      const here = guests.get(spec.name);
      if (here?.state === 'running' && JSON.stringify(here.record.spec) === JSON.stringify(spec)) {
        return guests.info(here);
      }
      return guests.info(await guests.add(spec, false));
    },

    guests: () => guests.all().map(guests.info),
    disks: diskService,

    ...book.commands,
    prepare: createPrepare(book, destination.prepared, destination.prepareNew),

    start: (command) =>
      startCopy(book, command, clock, {
        check: () => checkStart(command),
        startable: () => canStart(command.guest),
      }),

    async recoverIncoming(migration) {
      guestOf(book.destination(migration));
      const { job, port } = await listenAnew(book, migration, config, clock);
      return { ...destination.prepared(job), port };
    },

    async recoverOutgoing({ migration, address, port, bandwidthBps, switchoverBps }) {
      const job = book.source(migration);
      guestOf(job);
      await checkPath(job.state.command, config);
      const more = switchoverBps === undefined ? {} : { switchoverBps };
      await book.feedSource(job, { type: 'recover', address, port, bandwidthBps, ...more });
    },

    async finish(migration) {
      const job = book.finishable(migration);
      if (job === undefined) return;
      const storage = job.state.command.options?.storage;
      if (job.state.role === 'source' && job.state.phase === 'completed') {
        const g = guests.get(job.guest);
        if (g !== undefined && storage === 'on-demand') {
          // It stays as long as its disks are read.
          g.record.serves = true;
          guests.save(g);
        } else {
          await guests.remove(job.guest, true);
          if (storage === 'mirrored') putAside(g?.record.spec.disks ?? []);
        }
      }
      // Whoever comes back is told again that the disks are here: the job is kept until the guest's next.
      if (job.state.role === 'destination' && storage === 'on-demand') return;
      book.forget(job);
    },

    async abandon(migration) {
      const job = book.abandonable(migration);
      if (job === undefined) return;
      await destination.removeUnborn(job.guest);
      book.forget(job);
    },

    async measureDirtyRate(guest, seconds) {
      const { qmp } = known(guest);
      await startDirtyRate(qmp, seconds);
      return dirtyRateAfter(seconds, () => readDirtyRate(qmp), clock, `QEMU of guest ${guest}`);
    },

    async close({ stopGuests }) {
      closed = true;
      book.close();
      diskService.close();
      await guests.quiet();
      if (stopGuests) {
        for (const job of book.all()) book.forget(job);
        await Promise.all(guests.all().map((g) => guests.remove(g.record.spec.name, false)));
      }
      guests.close();
    },
  };
}
