/**
 * The destination's part of a copy between QEMUs: makes the machine that waits, with its disks, carries out what
 * `core/destination.ts` decides, by QMP, and takes the machine away when nothing came of it. Part of `qemuDriver.ts`; its
 * counterpart is `qemuSource.ts`.
 */
import type { Abilities, AgentCommandOf, GuestSpec } from '../../contracts/agent.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { Log } from '../../contracts/log.ts';
import { type DestinationAction, type DestinationEvent, prepareDestination } from '../core/destination.ts';
import type { PreparedDestination } from '../core/driver.ts';
import { checkStorage, disksAt } from '../core/storage.ts';
import { checkOrder } from '../core/techniques.ts';
import { checkSharedDisks, exportDisks, makeDisks, removeDisks } from './disks.ts';
import { checkPorts, messageOf, portsFor, preparedState } from './driverParts.ts';
import { type GuestRecord, readRecord } from './guestProcess.ts';
import type { Job, JobBook } from './jobBook.ts';
import { uriHost } from './migrationPorts.ts';
import { credentials, SLOW_MS, setCapabilities } from './migrationQmp.ts';
import { diskCount, portName, type QemuGuest, type QemuGuests } from './qemuGuests.ts';

export interface QemuDestinationOptions {
  config: Pick<AgentConfig, 'host' | 'migrationIp' | 'runDir' | 'incomingPorts' | 'migrationTls' | 'diskFolder'>;
  log: Log;
  book: JobBook;
  guests: QemuGuests;
  guestOf(job: Job): QemuGuest;
  abilities(): Abilities;
}

export interface QemuDestination {
  act(job: Job, action: DestinationAction): Promise<void>;
  prepareNew(command: AgentCommandOf<'prepare'>): Promise<PreparedDestination>;
  /** @throws FairwayError `prepare-failed` unless it waits or has received. */
  prepared(job: Job): PreparedDestination;
  /** Removes a machine that has not run here, and the files that were made for it. */
  removeUnborn(name: string): Promise<void>;
}

type Step = Extract<DestinationEvent, { type: 'reply' }>['to'];

export function createQemuDestination({
  config,
  log,
  book,
  guests,
  guestOf,
  abilities,
}: QemuDestinationOptions): QemuDestination {
  function prepared(job: Job): PreparedDestination {
    const { address, port } = preparedState(job);
    const g = guests.get(job.guest);
    const diskPort = g?.record.diskPort;
    return {
      ...{ address, port, portName: g === undefined ? '' : portName(g) },
      ...(config.migrationTls === undefined ? {} : { tls: true }),
      ...(diskPort === undefined ? {} : { diskPort }),
    };
  }

  const disksOf = ({ guest, options }: AgentCommandOf<'prepare'>): Pick<GuestSpec, 'disks'> =>
    guest.disks === undefined ? {} : { disks: disksAt(guest, options?.storage, config.diskFolder) };

  /** Makes the files of a guest that is to come, or finds those that both hosts share. */
  async function placeDisks(command: AgentCommandOf<'prepare'>): Promise<Partial<GuestRecord>> {
    const storage = command.options?.storage;
    checkStorage(command.guest, storage);
    const { disks = [] } = disksOf(command);
    if (storage === undefined) return {};
    if (storage === 'shared') {
      checkSharedDisks(disks, config.host);
      return {};
    }
    if (config.migrationTls !== undefined) {
      const text = `${config.host} copies over TLS only, and disks are sent in the clear: use storage shared, or no migrationTls`;
      throw new FairwayError('storage-tls', text, ['badInput']);
    }
    const { disksFrom } = command;
    if (storage === 'on-demand' && disksFrom === undefined) {
      throw new FairwayError(
        'disks-from',
        'storage on-demand needs to know where the disks are: offerDisks comes first',
        ['badInput'],
      );
    }
    const madeDisks = await makeDisks(disks, config.host, storage === 'mirrored');
    if (storage === 'mirrored' || disksFrom === undefined) return { madeDisks };
    const pullBps = command.options?.pullBps;
    const onDemand = { migration: command.migration, from: disksFrom, fetchedBytes: 0, openBytes: 0, isPulled: false };
    return { madeDisks, onDemand: { ...onDemand, ...(pullBps === undefined ? {} : { pullBps }) } };
  }

  async function removeUnborn(name: string): Promise<void> {
    const made = guests.get(name)?.record.madeDisks ?? readRecord(config.runDir, name)?.madeDisks ?? [];
    await guests.remove(name, false);
    removeDisks(made);
  }

  return {
    prepared,
    removeUnborn,

    async prepareNew(command) {
      const address = config.migrationIp ?? '127.0.0.1';
      const { name } = command.guest;
      checkOrder(command, abilities(), config.host);
      if (guests.has(name)) {
        const text = `guest ${name} already has a machine on ${config.host}: finish or abandon its last migration`;
        throw new FairwayError('guest-exists', text, ['conflict']);
      }
      // What is left of earlier migrations of this guest, which is not here, is history.
      book.forgetGuest(name);
      const free = await portsFor(book, config);
      checkPorts(free, 1, config);
      const first = prepareDestination(command, address, free);
      const job = book.add(command.migration, name, first.state);
      let made: Partial<GuestRecord> = {};
      try {
        made = await placeDisks(command);
        await guests.add({ ...command.guest, ...disksOf(command) }, true, made);
      } catch (error) {
        removeDisks(made.madeDisks ?? []);
        book.forget(job);
        throw error;
      }
      try {
        await book.beginDestination(job, first.actions);
        await book.settled(job);
        if (command.options?.storage === 'mirrored') {
          const g = guestOf(job);
          const ports = free.filter((port) => job.state.role !== 'destination' || port !== job.state.port);
          g.record.diskPort = (await exportDisks(g.qmp, diskCount(g), address, ports, true)).port;
          guests.save(g);
        }
        return prepared(job);
      } catch (error) {
        await removeUnborn(name).catch((e: unknown) => log('error', 'guest-clean-up', { guest: name, error: e }));
        book.forget(job);
        throw error;
      }
    },

    async act(job, action) {
      const answer = async (to: Step, work: () => Promise<unknown>) => {
        const error = await work().then(() => undefined, messageOf);
        book.followDestination(job, { type: 'reply', to, ...(error === undefined ? {} : { error }) });
      };
      const { qmp } = guestOf(job);
      switch (action.do) {
        case 'setCapabilities':
          return answer('capabilities', () => setCapabilities(qmp, action.capabilities));
        case 'setParameters':
          return answer('parameters', async () => {
            const tls = await credentials(qmp, 'server', config.migrationTls);
            return qmp.execute('migrate-set-parameters', { ...action.parameters, ...tls });
          });
        case 'incoming': {
          const uri = `tcp:${uriHost(action.address)}:${action.port}`;
          return answer('incoming', () => qmp.execute('migrate-incoming', { uri }));
        }
        case 'resumeGuest':
          await qmp.execute('cont', {}, SLOW_MS);
          return;
        // Out of band: QEMU's main loop may itself wait for a page that has not come.
        case 'pauseCopy':
          return answer('pauseCopy', () => qmp.executeOutOfBand('migrate-pause', undefined, SLOW_MS));
        case 'listenAgain': {
          const uri = `tcp:${uriHost(action.address)}:${action.port}`;
          return answer('listenAgain', () => qmp.executeOutOfBand('migrate-recover', { uri }, SLOW_MS));
        }
        default:
          return;
      }
    },
  };
}
