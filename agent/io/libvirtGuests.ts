/**
 * The guests of `libvirtDriver.ts`, as libvirt's definitions, states and tables tell of them. Nothing is made or ended here: the
 * domains are the operator's.
 */
import type { GuestInfo, GuestSpec } from '../../contracts/agent.ts';
import { guestSpecSchema } from '../../contracts/agent.ts';
import { FairwayError, nameSchema } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';
import { DEFINITION, readDefinition } from '../core/libvirt.ts';
import { type LibvirtDisk, readCapacities, readDisks, toDisks } from '../core/libvirtDisks.ts';
import type { Virsh } from './virsh.ts';

export interface LibvirtGuest extends GuestInfo {
  /** Those that are its own, whatever they are; `spec.disks` has those that are files. */
  readonly disks: readonly LibvirtDisk[];
}

export interface LibvirtGuestsOptions {
  virsh: Virsh;
  log: Log;
  /** A guest has come, gone or changed. */
  onChange(guests: GuestInfo[]): void;
  /** What the guest will be that a copy is on its way of; undefined when it is no such guest, or has run here. */
  incoming(name: string): GuestSpec | undefined;
  /** What the guest is that a copy has brought here, for as long as that copy is not forgotten. */
  arrived(name: string): GuestSpec | undefined;
  /** The domain does not run here any more. */
  onGone(name: string): void;
}

export interface LibvirtGuests {
  get(name: string): LibvirtGuest | undefined;
  names(): string[];
  list(): GuestInfo[];
  setState(name: string, state: GuestInfo['state']): void;
  remove(name: string): void;
  /** The domain is not among those that libvirt runs. */
  gone(name: string): void;
  /** Looks at a domain, after those who look at it already: an old answer never follows a newer one. */
  refresh(name: string): Promise<void>;
  /** Something happened to a domain: an answer that is on its way may be of before. */
  heard(name: string): void;
  /** `running`, `paused`, …, or undefined for a domain that is not here. */
  stateOf(name: string): Promise<string | undefined>;
  /** The same with libvirt's reason for it, such as `post-copy failed`. */
  howIs(name: string): Promise<{ state: string; why: string } | undefined>;
  /** Nothing is told any more; resolves when nobody looks. */
  close(): Promise<void>;
}

/** libvirt's reason for the state of a domain at both ends of a post-copy whose stream broke. */
const BROKEN = 'post-copy failed';
const runsOrNot = (state: string): GuestInfo['state'] =>
  state === 'running' || state === 'idle' ? 'running' : 'paused';
const isUnknown = (error: unknown): boolean => error instanceof FairwayError && error.code === 'guest-unknown';

export function createLibvirtGuests(o: LibvirtGuestsOptions): LibvirtGuests {
  const { virsh, log, onChange, incoming, arrived, onGone } = o;
  const guests = new Map<string, LibvirtGuest>();
  const looking = new Map<string, Promise<void>>();
  const eventsOf = new Map<string, number>();
  let closed = false;

  const info = ({ spec, state, portName }: LibvirtGuest): GuestInfo => ({ spec, state, portName });
  const list = (): GuestInfo[] => [...guests.values()].map(info);
  const tell = (): void => {
    if (!closed) onChange(list());
  };
  function remove(name: string): void {
    if (guests.delete(name)) tell();
  }
  function gone(name: string): void {
    remove(name);
    onGone(name);
  }
  async function howIs(name: string): Promise<{ state: string; why: string } | undefined> {
    try {
      const text = (await virsh.run(['domstate', '--domain', name, '--reason'])).trim();
      const [, state = '', why = ''] = /^(.*?)(?: \((.*)\))?$/s.exec(text) ?? [];
      return { state, why };
    } catch (error) {
      if (isUnknown(error)) return undefined;
      throw error;
    }
  }
  const stateOf = async (name: string): Promise<string | undefined> => (await howIs(name))?.state;

  /** A guest whose disks cannot be measured is a guest all the same: nothing is said of them. */
  async function disksOf(name: string, disks: readonly LibvirtDisk[]): Promise<Pick<GuestSpec, 'disks'>> {
    if (disks.length === 0) return {};
    try {
      const table = await virsh.run(['domblkinfo', '--domain', name, '--all']);
      const known = toDisks(disks, readCapacities(table));
      return known.length === 0 ? {} : { disks: known };
    } catch (error) {
      log('warn', 'disks-unreadable', { guest: name, error });
      return {};
    }
  }

  /**
   * Of a guest whose post-copy broke libvirt gives no definition out, before somebody takes the copy up, if ever; but what came is
   * known, also to an agent that was started since.
   */
  async function isKnownWithoutDefinition(name: string, isStale: () => boolean): Promise<boolean> {
    const spec = arrived(name);
    const here = spec && (await howIs(name));
    if (spec === undefined || here?.why !== BROKEN) return false;
    const known = guests.get(name) ?? { spec, portName: '', disks: [] };
    if (!isStale()) guests.set(name, { ...known, state: runsOrNot(here.state) });
    return true;
  }

  async function refreshNow(name: string): Promise<void> {
    const before = eventsOf.get(name);
    const isStale = () => eventsOf.get(name) !== before;
    if (closed || !nameSchema.safeParse(name).success) return;
    const domain = ['--domain', name];
    const waiting = incoming(name);
    if (waiting !== undefined) {
      // libvirt gives no definition out while a copy comes in; what the machine will be is known.
      const here = await stateOf(name);
      if (isStale()) return refreshNow(name);
      if (here === undefined || here === 'shut off') return gone(name);
      guests.set(name, { spec: waiting, state: 'incoming', portName: '', disks: [] });
      return tell();
    }
    if (await isKnownWithoutDefinition(name, isStale)) return isStale() ? refreshNow(name) : tell();
    const answers = await virsh
      .runAll([
        ['domstate', ...domain],
        ['dumpxml', ...domain, '--xpath', DEFINITION],
        ['domiflist', ...domain],
      ])
      .catch((error: unknown) => {
        if (isUnknown(error)) return [];
        throw error;
      });
    if (isStale()) return refreshNow(name);
    const [state = '', definition = '', cards = ''] = answers;
    if (state === '' || state === 'shut off' || state === 'crashed') return gone(name);
    const { portName, ...spec } = readDefinition(definition, cards);
    const disks = readDisks(definition);
    const parsed = guestSpecSchema.safeParse({ name, ...spec, ...(await disksOf(name, disks)) });
    if (isStale()) return refreshNow(name);
    if (!parsed.success) {
      const reason = 'it has no network card, or its definition was not understood';
      log('warn', 'guest-left-out', { guest: name, reason });
      return;
    }
    guests.set(name, { spec: parsed.data, state: runsOrNot(state), portName, disks });
    tell();
  }

  return {
    get: (name) => guests.get(name),
    names: () => [...guests.keys()],
    list,
    setState(name, state) {
      const g = guests.get(name);
      if (g === undefined || g.state === state) return;
      g.state = state;
      tell();
    },
    remove,
    gone,
    refresh(name) {
      const mine = (looking.get(name) ?? Promise.resolve())
        .then(() => refreshNow(name))
        .catch((error: unknown) => log('warn', 'guest-unreadable', { guest: name, error }));
      looking.set(name, mine);
      return mine;
    },
    heard(name) {
      eventsOf.set(name, (eventsOf.get(name) ?? 0) + 1);
    },
    stateOf,
    howIs,
    async close() {
      closed = true;
      await Promise.allSettled(looking.values());
    },
  };
}
