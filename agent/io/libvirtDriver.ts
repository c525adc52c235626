/**
 * The migration driver for guests that libvirt runs. It makes and ends no guest: the domains are the operator's, and a
 * definition is as it was when it has moved, but for the paths of disks that were mirrored. What to do next is decided by the
 * same machines as for QEMU (`core/source.ts`, `core/destination.ts`); `libvirtSource.ts` and `libvirtDestination.ts` carry
 * it out. This file puts them together, and feeds libvirt's events back.
 */
import { mkdirSync } from 'node:fs';
import type { Abilities } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { Log } from '../../contracts/log.ts';
import { backoffMs } from '../core/backoff.ts';
import type { DriverReport, MigrationDriver } from '../core/driver.ts';
import { createEventReader, type LibvirtEvent, libvirtAbilities, parsePairs } from '../core/libvirt.ts';
import { startSource } from '../core/source.ts';
import { createPrepare, dirtyRateAfter, startable, startCopy } from './driverParts.ts';
import { createJobBook, type JobBook } from './jobBook.ts';
import { createLibvirtDestination, type LibvirtDestination } from './libvirtDestination.ts';
import { createLibvirtGuests, type LibvirtGuests } from './libvirtGuests.ts';
import { createLibvirtJobs } from './libvirtJobs.ts';
import { createLibvirtSource, type LibvirtSource } from './libvirtSource.ts';
import { createVirsh } from './virsh.ts';

export interface LibvirtDriverOptions {
  config: Pick<AgentConfig, 'host' | 'migrationIp' | 'runDir' | 'incomingPorts' | 'libvirt' | 'diskFolder'>;
  clock: Clock;
  log: Log;
}

/** A driver of libvirt's guests. `open()` finds those that run. */
export function createLibvirtDriver({ config, clock, log }: LibvirtDriverOptions): MigrationDriver {
  const { host, libvirt, runDir } = config;
  const virsh = createVirsh(libvirt.uri, libvirt.virsh);
  const jobs = createLibvirtJobs(runDir);
  let reader = createEventReader();
  let abilities: Abilities | undefined;
  /** What `virsh help migrate` says. */
  let help = '';
  let report: (message: DriverReport) => void = () => {};
  let closed = false;
  let stopListening: () => void = () => {};
  let listenAttempt = 0;
  const tell = (message: DriverReport): void => {
    if (!closed) report(message);
  };
  function known(): Abilities {
    if (abilities !== undefined) return abilities;
    throw new FairwayError('libvirt-unreachable', `libvirt at ${libvirt.uri} was not asked yet`);
  }

  const book: JobBook = createJobBook({
    ...{ host, runDir, clock, log, report: tell },
    doSource: (job, action) => source.act(job, action),
    // libvirt prepares, receives and starts by itself.
    doDestination: () => Promise.resolve(),
    query: (job) => source.look(job),
    onDeparted: (name) => guests.setState(name, 'stopped'),
    onForgotten: jobs.forget,
  });
  const guests: LibvirtGuests = createLibvirtGuests({
    ...{ virsh, log },
    onChange: (all) => tell({ type: 'guests', guests: all }),
    incoming(name) {
      const state = book.ofGuest(name)?.state;
      return state?.role === 'destination' && !state.guestRan ? state.command.guest : undefined;
    },
    arrived(name) {
      const state = book.ofGuest(name)?.state;
      return state?.role === 'destination' && state.guestRan ? state.command.guest : undefined;
    },
    onGone(name) {
      const job = book.ofGuest(name);
      if (job?.state.role === 'destination' && !job.state.guestRan && job.state.phase !== 'failed') {
        book.followDestination(job, { type: 'lost', reason: 'libvirt removed the machine that waited for its copy' });
      }
    },
  });
  const source: LibvirtSource = createLibvirtSource({
    ...{ config, clock, log, virsh, book, guests, jobs, abilities: known },
    hasOption: (name) => help.includes(`--${name}`),
    takeCompleted: (guest) => reader.takeCompleted(guest),
    isClosed: () => closed,
  });
  const destination: LibvirtDestination = createLibvirtDestination({
    ...{ config, clock, virsh, book, guests, jobs, abilities: known },
  });

  // ---- events ----

  function onEvent(e: LibvirtEvent): void {
    const job = book.ofGuest(e.domain);
    if (e.event === 'migration-iteration') {
      if (job?.state.role === 'source') book.follow(job, { type: 'pass', pass: e.iteration });
      return;
    }
    guests.heard(e.domain);
    const isIncoming = job?.state.role === 'destination' && !job.state.guestRan;
    switch (e.what) {
      case 'Started':
        void guests.refresh(e.domain);
        break;
      case 'Suspended':
        if (!isIncoming) guests.setState(e.domain, 'paused');
        if (job?.state.role === 'source') source.onStopped(job, e.why);
        break;
      case 'Resumed':
        if (job?.state.role === 'destination') {
          book.followDestination(job, { type: 'running' });
          // "Resumed Post-copy" is the beginning, "Resumed Migrated" the end.
          if (e.why === 'Migrated') book.followDestination(job, { type: 'status', status: 'completed' });
        }
        guests.setState(e.domain, 'running');
        // Its network card has a name now.
        if ((guests.get(e.domain)?.portName ?? '') === '') void guests.refresh(e.domain);
        break;
      case 'Stopped':
      case 'Crashed':
        void guests.refresh(e.domain);
        break;
      default:
        break;
    }
  }

  function listen(): void {
    if (closed) return;
    reader = createEventReader();
    const child = virsh.listen(
      (text) => {
        for (const e of reader.push(text)) onEvent(e);
      },
      (why) => {
        if (closed) return;
        const waitMs = backoffMs(listenAttempt++, Math.random());
        log('warn', 'libvirt-lost', { uri: libvirt.uri, reason: why, retryInMs: Math.round(waitMs) });
        stopListening = clock.after(waitMs, () => {
          listen();
          resync().catch((error: unknown) => log('warn', 'libvirt-unreachable', { error }));
        });
      },
    );
    stopListening = () => child.kill();
  }

  /** Whatever happened while nobody listened. */
  async function resync(): Promise<void> {
    const names = (await virsh.run(['list', '--name']))
      .split('\n')
      .map((n) => n.trim())
      .filter((n) => n !== '');
    listenAttempt = 0;
    for (const name of guests.names()) if (!names.includes(name)) guests.gone(name);
    await Promise.all(names.map(guests.refresh));
    for (const job of book.all()) {
      if (job.state.role !== 'destination' || job.state.guestRan) continue;
      if ((await guests.stateOf(job.guest)) !== 'running') continue;
      book.followDestination(job, { type: 'running' });
      guests.setState(job.guest, 'running');
    }
  }

  const canStart = (name: string) => startable(book, name, guests.get(name), host);

  /**
   * virsh has words for it (`migrate --postcopy-resume`), and the daemon of libvirt 11.3, tried at the destination, crashes when it
   * is told them; and it lets nobody speak to the monitor of a machine whose copy has not come in whole.
   */
  function recoverByHand(migration: string): Promise<never> {
    const text = `migration ${migration}: a broken post-copy is not taken up again through libvirt, whose daemon of version 11.3 crashes when it is told to: with a newer one at the destination, which can be installed while the guest waits, virsh migrate --postcopy-resume does it by hand`;
    return Promise.reject(new FairwayError('recover-unsupported', text, ['badInput']));
  }

  return {
    kind: 'libvirt',
    abilities: known,

    async open(listener) {
      report = listener;
      mkdirSync(runDir, { recursive: true, mode: 0o700 });
      help = await virsh.run(['help', 'migrate']);
      abilities = libvirtAbilities(await virsh.run(['version', '--daemon'], 60_000), help, libvirt.monitorCommands);
      const found = book.read();
      listen();
      await resync();
      for (const job of found) {
        if (job.state.role !== 'source') continue;
        await source.adopt(job).catch((error: unknown) => log('error', 'migration-lost', { migration: job.id, error }));
      }
    },

    launch(spec) {
      const text = `libvirt defines the guests of ${host}: virsh define and virsh start ${spec.name}`;
      return Promise.reject(new FairwayError('libvirt-owns-guests', text, ['badInput']));
    },
    guests: guests.list,
    ...book.commands,
    prepare: createPrepare(book, destination.prepared, destination.prepareNew),

    start: (command) =>
      startCopy(book, command, clock, {
        async check() {
          canStart(command.guest);
          source.check(command);
        },
        startable: () => canStart(command.guest),
        first: (c, nowMs) => startSource(c, nowMs, 'hypervisor'),
        onAdded: (job) => jobs.clear(job.id),
      }),

    recoverIncoming: recoverByHand,
    recoverOutgoing: ({ migration }) => recoverByHand(migration),

    async finish(migration) {
      const job = book.finishable(migration);
      if (job === undefined) return;
      // A copy that was given up while its disks were mirrored is ended first.
      await book.settled(job);
      if (job.state.role === 'source' && job.state.phase === 'completed') {
        guests.remove(job.guest);
        source.putDisksAside(job);
      }
      book.forget(job);
    },

    async abandon(migration) {
      const job = book.abandonable(migration);
      if (job === undefined) return;
      await destination.removeUnborn(job);
      book.forget(job);
    },

    async measureDirtyRate(guest, seconds) {
      if (guests.get(guest) === undefined)
        throw new FairwayError('guest-unknown', `no guest ${guest} on ${host}`, ['notFound']);
      const whole = Math.max(1, Math.round(seconds));
      await virsh.run(['domdirtyrate-calc', '--domain', guest, '--seconds', String(whole)]);
      const ask = async (): Promise<number | undefined> => {
        const stats = parsePairs(await virsh.run(['domstats', '--domain', guest, '--raw', '--dirtyrate']));
        // 2: measured (virDomainDirtyRateStatus).
        if (stats['dirtyrate.calc_status'] !== '2') return undefined;
        return Number(stats['dirtyrate.megabytes_per_second'] ?? Number.NaN);
      };
      return dirtyRateAfter(whole, ask, clock, `libvirt's guest ${guest}`);
    },

    async close() {
      closed = true;
      book.close();
      stopListening();
      await guests.close();
    },
  };
}
