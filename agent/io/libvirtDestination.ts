/**
 * The destination's part of a copy between libvirts. libvirt sets the machine up, receives and starts by itself; what is left is to
 * refuse what cannot be, to make the files of mirrored disks, to name ports, and to clear up when nothing came of it. Part of
 * `libvirtDriver.ts`; its counterpart is `libvirtSource.ts`.
 */
import type { Abilities, AgentCommandOf } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import { type DestinationState, prepareDestination } from '../core/destination.ts';
import type { PreparedDestination } from '../core/driver.ts';
import { checkStorage, disksAt } from '../core/storage.ts';
import { checkOrder } from '../core/techniques.ts';
import { checkSharedDisks, makeDisks, removeDisks } from './disks.ts';
import { checkPorts, messageOf, portsFor, preparedState, wait } from './driverParts.ts';
import type { Job, JobBook } from './jobBook.ts';
import type { LibvirtGuests } from './libvirtGuests.ts';
import type { LibvirtJobs } from './libvirtJobs.ts';
import type { Virsh } from './virsh.ts';

export interface LibvirtDestinationOptions {
  config: Pick<AgentConfig, 'host' | 'migrationIp' | 'incomingPorts' | 'libvirt' | 'diskFolder'>;
  clock: Clock;
  virsh: Virsh;
  book: JobBook;
  guests: LibvirtGuests;
  jobs: LibvirtJobs;
  abilities(): Abilities;
}

export interface LibvirtDestination {
  prepareNew(command: AgentCommandOf<'prepare'>): Promise<PreparedDestination>;
  /** @throws FairwayError `prepare-failed` unless it waits or has received. */
  prepared(job: Job): PreparedDestination;
  /** Waits until libvirt has removed the machine, and removes what was made for it. */
  removeUnborn(job: Job): Promise<void>;
}

export function createLibvirtDestination({
  config,
  clock,
  virsh,
  book,
  guests,
  jobs,
  abilities,
}: LibvirtDestinationOptions): LibvirtDestination {
  const { host, libvirt } = config;

  function peerUri(): string {
    if (libvirt.peerUri !== undefined) return libvirt.peerUri;
    if (config.migrationIp !== undefined) return `qemu+tls://${config.migrationIp}/system`;
    const text = 'set libvirt.peerUri or migrationIp: other hosts do not know where to reach this libvirt';
    throw new FairwayError('libvirt-peer', text, ['badInput']);
  }

  function prepared(job: Job): PreparedDestination {
    const { address, port, diskPort } = preparedState(job);
    const portName = guests.get(job.guest)?.portName ?? '';
    return {
      ...{ address, port, portName, peer: peerUri() },
      ...(libvirt.migrationTls ? { tls: true } : {}),
      ...(diskPort === undefined ? {} : { diskPort, diskPaths: jobs.disks(job.id) }),
    };
  }

  /** libvirt says which machines it can be: a wrong one is refused here, before anything moves. */
  async function checkMachine({ name, machine, accel }: AgentCommandOf<'prepare'>['guest']): Promise<void> {
    const here = await guests.stateOf(name);
    if (here !== undefined && here !== 'shut off') {
      throw new FairwayError('guest-exists', `guest ${name} already has a machine on ${host} (${here})`, ['conflict']);
    }
    if (here === 'shut off') {
      const text = `libvirt on ${host} has a definition of ${name} that does not run: virsh undefine ${name} there if it is an old one`;
      throw new FairwayError('guest-exists', text, ['conflict']);
    }
    await virsh
      .run(['domcapabilities', '--virttype', accel === 'kvm' ? 'kvm' : 'qemu', '--machine', machine])
      .catch((error: unknown) => {
        const text = `${host} cannot be a machine for ${name}: ${messageOf(error)}`;
        throw new FairwayError('machine-unsupported', text, ['badInput']);
      });
  }

  /** Makes the files that disks are mirrored to, or finds those that both hosts share. Resolves to the paths of what was made. */
  async function placeDisks({ guest, options }: AgentCommandOf<'prepare'>): Promise<string[]> {
    const storage = options?.storage;
    if (storage === 'shared') checkSharedDisks(guest.disks ?? [], host);
    if (storage !== 'mirrored') return [];
    checkStorage(guest, storage);
    return makeDisks(disksAt(guest, storage, config.diskFolder), host, true);
  }

  /** libvirt removes the machine of a copy that did not come about; this waits for it. */
  async function untilRemoved(name: string): Promise<void> {
    for (let tries = 0; tries < 100; tries++) {
      const state = await guests.stateOf(name);
      if (state === undefined || state === 'shut off') return;
      await wait(clock, 50);
    }
    const text = `libvirt on ${host} still keeps the machine that waited for guest ${name}`;
    throw new FairwayError('not-abandonable', text, ['retryable']);
  }

  return {
    prepared,

    async prepareNew(command) {
      checkOrder(command, abilities(), host);
      peerUri();
      const { name } = command.guest;
      await checkMachine(command.guest);
      const isMirrored = command.options?.storage === 'mirrored';
      const ports = await portsFor(book, config);
      checkPorts(ports, isMirrored ? 2 : 1, config);
      book.forgetGuest(name);
      const made = await placeDisks(command);
      try {
        // libvirt sets the machine up by itself: the steps before are not ours.
        const { state: first } = prepareDestination(command, config.migrationIp ?? '127.0.0.1', ports);
        const [diskPort] = first.otherPorts;
        const disks = isMirrored && diskPort !== undefined ? { diskPort } : {};
        const state: DestinationState = { ...first, phase: 'listening', ...disks };
        if (isMirrored) jobs.write(command.migration, 'disks', made.join('\n'));
        return prepared(book.add(command.migration, name, state));
      } catch (error) {
        removeDisks(made);
        throw error;
      }
    },

    async removeUnborn(job) {
      await untilRemoved(job.guest);
      guests.remove(job.guest);
      removeDisks(jobs.disks(job.id));
    },
  };
}
