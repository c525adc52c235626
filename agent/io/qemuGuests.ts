/**
 * The guests of `qemuDriver.ts`: their processes (`guestProcess.ts`), the connection to each (`qmp.ts`), and what is told of
 * them. Guests are added, removed, and found again by a restarted agent here; what their events mean for a copy is the driver's.
 */
import type { Abilities, GuestInfo, GuestSpec } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { Log } from '../../contracts/log.ts';
import {
  endProcess,
  forgetFiles,
  type GuestRecord,
  guestPaths,
  processGone,
  readRecords,
  startProcess,
  straySettled,
  writeRecord,
} from './guestProcess.ts';
import { attachTap, detachTap, tapName } from './hostNet.ts';
import { runStateOf } from './migrationQmp.ts';
import { connectQmp, type QmpClient } from './qmp.ts';

export interface QemuGuest {
  record: GuestRecord;
  state: GuestInfo['state'];
  qmp: QmpClient;
  /** The agent is ending it: its disappearance is no surprise. */
  ending: boolean;
  /** What its own QEMU can do, which may be older than what the host starts today. Asked once, before its first copy. */
  abilities?: Promise<Abilities>;
  moments: { stoppedAtMs?: number; resumedAtMs?: number };
}

export interface QemuGuestsOptions {
  config: Pick<AgentConfig, 'host' | 'runDir' | 'qemu' | 'ovs'>;
  clock: Clock;
  log: Log;
  /** A guest has come, gone or changed its state. */
  onChange(guests: GuestInfo[]): void;
  /** What its QEMU says, beside STOP and RESUME, which are heard here first. */
  onEvent(guest: QemuGuest, event: string, data: Record<string, unknown>): void;
  /** Its QEMU has ended by itself. */
  onGone(guest: QemuGuest, reason: string): void;
}

export interface QemuGuests {
  get(name: string): QemuGuest | undefined;
  /** True also while it is being made. */
  has(name: string): boolean;
  all(): QemuGuest[];
  info(guest: QemuGuest): GuestInfo;
  setState(guest: QemuGuest, state: GuestInfo['state']): void;
  /** @throws FairwayError `guest-exists`, and whatever keeps a process from starting; then nothing is left of it. */
  add(spec: GuestSpec, incoming: boolean, more?: Partial<GuestRecord>): Promise<QemuGuest>;
  /** Ends its process. @param departed it has moved away, and is not to be started here with the agent */
  remove(name: string, departed: boolean): Promise<void>;
  save(guest: QemuGuest): void;
  /** Takes up the guests that a previous agent left running. */
  adopt(): Promise<void>;
  /** Nothing is told any more; resolves when none is in the making. */
  quiet(): Promise<void>;
  /** Lets go of the guests, which run on. */
  close(): void;
}

export const diskCount = (g: QemuGuest): number => g.record.spec.disks?.length ?? 0;
export const portName = ({ record }: QemuGuest): string => record.tap ?? '';

const GUEST_STATES: Record<string, GuestInfo['state']> = {
  running: 'running',
  inmigrate: 'incoming',
  postmigrate: 'stopped',
  shutdown: 'stopped',
};

/** No guests yet: `adopt` finds them. */
export function createQemuGuests({ config, clock, log, onChange, onEvent, onGone }: QemuGuestsOptions): QemuGuests {
  const { runDir, ovs } = config;
  const guests = new Map<string, QemuGuest>();
  /** Guests in the making: their name is taken though they are not yet in `guests`. */
  const making = new Map<string, Promise<QemuGuest>>();
  let closed = false;

  const info = (g: QemuGuest): GuestInfo => ({ spec: g.record.spec, state: g.state, portName: portName(g) });
  const tell = (): void => {
    if (!closed) onChange([...guests.values()].map(info));
  };
  function setState(g: QemuGuest, state: GuestInfo['state']): void {
    if (g.state === state) return;
    g.state = state;
    tell();
  }

  function onQmpEvent(name: string, event: string, data: Record<string, unknown>): void {
    const g = guests.get(name);
    if (g === undefined || closed) return;
    if (event === 'STOP') {
      g.moments.stoppedAtMs = clock.now();
      setState(g, 'paused');
    } else if (event === 'RESUME') {
      g.moments.resumedAtMs = clock.now();
      setState(g, 'running');
    }
    onEvent(g, event, data);
  }

  /** QMP is gone: the process ended (often the way an incoming QEMU reports failure), or it lives and is asked again. */
  async function onQmpClose(name: string, reason: string): Promise<void> {
    const g = guests.get(name);
    if (g === undefined || closed || g.ending) return;
    if (!(await processGone(runDir, name, 2000))) {
      try {
        g.qmp = await connect(name);
        return;
      } catch (error) {
        log('warn', 'guest-unreachable', { guest: name, error });
      }
    }
    if (g.ending || closed) return;
    log('warn', 'guest-gone', { guest: name, reason });
    guests.delete(name);
    onGone(g, reason);
    await cleanUp(g.record).catch((error: unknown) => log('error', 'guest-clean-up', { guest: name, error }));
    tell();
  }

  function connect(name: string): Promise<QmpClient> {
    return connectQmp(guestPaths(runDir, name).qmp, {
      onEvent: (event, data) => onQmpEvent(name, event, data),
      onClose: (reason) => {
        onQmpClose(name, reason).catch((error: unknown) => log('error', 'guest-gone', { guest: name, error }));
      },
    });
  }

  async function cleanUp(record: GuestRecord): Promise<void> {
    forgetFiles(runDir, record.spec.name);
    if (ovs !== undefined && record.tap !== null) await detachTap(ovs, record.tap);
  }

  async function make(spec: GuestSpec, incoming: boolean, more: Partial<GuestRecord>): Promise<QemuGuest> {
    const record: GuestRecord = {
      ...more,
      spec,
      tap: ovs === undefined ? null : tapName(config.host, spec.name),
      departed: false,
    };
    if (ovs !== undefined && record.tap !== null) await attachTap(ovs, record.tap, spec.name, spec.mac);
    try {
      await startProcess(config.qemu, runDir, record, incoming);
      const qmp = await connect(spec.name);
      return { record, state: incoming ? 'incoming' : 'running', qmp, ending: false, moments: {} };
    } catch (error) {
      await endProcess(runDir, spec.name, undefined).catch(() => undefined);
      await cleanUp(record).catch((e: unknown) => log('error', 'guest-clean-up', { guest: spec.name, error: e }));
      throw error;
    }
  }

  return {
    get: (name) => guests.get(name),
    has: (name) => guests.has(name) || making.has(name),
    all: () => [...guests.values()],
    info,
    setState,

    async add(spec, incoming, more = {}) {
      if (guests.has(spec.name) || making.has(spec.name)) {
        const text = `guest ${spec.name} already has a machine on ${config.host}`;
        throw new FairwayError('guest-exists', text, ['conflict']);
      }
      const promise = make(spec, incoming, more);
      making.set(spec.name, promise);
      try {
        const guest = await promise;
        guests.set(spec.name, guest);
        log('info', 'guest-started', { guest: spec.name, incoming });
        tell();
        return guest;
      } finally {
        making.delete(spec.name);
      }
    },

    async remove(name, departed) {
      const g = guests.get(name);
      if (g === undefined) return;
      g.ending = true;
      await endProcess(runDir, name, g.qmp);
      g.qmp.close();
      guests.delete(name);
      await cleanUp(g.record);
      if (departed) writeRecord(runDir, { ...g.record, departed: true });
      log('info', 'guest-removed', { guest: name, departed });
      tell();
    },

    save: (g) => writeRecord(runDir, g.record),

    async adopt() {
      for (const record of readRecords(runDir)) {
        const name = record.spec.name;
        if (record.departed) continue;
        if (!(await straySettled(runDir, name))) {
          await cleanUp(record);
          continue;
        }
        const g: QemuGuest = { record, state: 'running', qmp: await connect(name), ending: false, moments: {} };
        guests.set(name, g);
        g.state = GUEST_STATES[await runStateOf(g.qmp)] ?? 'paused';
        if (ovs !== undefined && record.tap !== null) await attachTap(ovs, record.tap, name, record.spec.mac);
        log('info', 'guest-adopted', { guest: name, state: g.state });
      }
    },

    async quiet() {
      closed = true;
      await Promise.allSettled(making.values());
    },
    close() {
      for (const g of guests.values()) {
        g.ending = true;
        g.qmp.close();
      }
    },
  };
}
