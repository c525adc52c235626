/**
 * The migration driver of the lab's stand-in guest, one at each hypervisor: the same orders and events as QEMU's, but what
 * moves is a network namespace (`probe.py`), which is closed at one switch and opened at another at known instants. The
 * copy takes a set time and sends nothing, the rest of the stop takes another: what a client then sees beyond that is the
 * network's and the controller's doing. `agent.ts` runs it; the scenario `moves` reads the times it writes.
 */
import { appendFileSync } from 'node:fs';
import type { DriverReport, EventMessage, MigrationDriver } from '../../../agent/core/driver.ts';
import type { Abilities, AgentCommandOf, CopyProgress, GuestInfo, GuestSpec } from '../../../contracts/agent.ts';
import type { Clock } from '../../../contracts/clock.ts';
import { FairwayError } from '../../../contracts/common.ts';
import { preciseNow } from '../shell.ts';
import type { Announce, ProbeControl } from './control.ts';

export interface StandInOptions {
  host: string;
  migrationIp: string;
  /** Switch port of the guest at this hypervisor. */
  portName: string;
  /** How long a copy takes until the guest is stopped, ms. */
  copyMs: number;
  /** How long the rest of the copy takes once the guest is stopped, ms: the stand-in's own pause. */
  pauseMs: number;
  announce: Announce;
  /** File that the source writes a line to for each move; see `MoveTimes`. */
  timesFile: string;
}

/** Instants of one move, ms since the epoch. */
export interface MoveTimes {
  migration: string;
  from: string;
  to: string;
  /** The guest's door was closed. */
  pausedMs: number;
  /** The controller let the switch-over go on: from here to `resumedMs` the guest stands still for its own sake. */
  continuedMs: number;
  /** The door at the destination was opened. */
  resumedMs: number;
}

const ABILITIES: Abilities = {
  hypervisor: 'stand-in',
  techniques: ['pre-copy'],
  autoConverge: false,
  xbzrle: false,
  multifd: [],
  multifdPostcopy: false,
  holdsSwitchover: 'stopped',
};

type Phase = 'copying' | 'stopped' | 'finishing' | 'completed' | 'cancelled' | 'waiting' | 'arrived';
interface Part {
  role: 'source' | 'destination';
  migration: string;
  guest: string;
  phase: Phase;
  startedMs: number;
  pausedMs: number;
  to: string;
  events: EventMessage[];
  cancelTimer: () => void;
}

/** Host whose agent listens at an address and port; the stand-in's streams are names only. */
export type HostAt = (address: string) => string | undefined;

export function createStandInDriver(
  o: StandInOptions,
  clock: Clock,
  control: ProbeControl,
  hostAt: HostAt,
  first: readonly GuestSpec[],
): MigrationDriver {
  const guests = new Map<string, GuestInfo>();
  const parts = new Map<string, Part>();
  let report: (message: DriverReport) => void = () => {};
  const refuse = (text: string) => Promise.reject(new FairwayError('wrong-phase', text, ['conflict']));

  const list = () => [...guests.values()];
  const setGuest = (spec: GuestSpec, state: GuestInfo['state'] | 'gone') => {
    if (state === 'gone') guests.delete(spec.name);
    else guests.set(spec.name, { spec, state, portName: o.portName });
    report({ type: 'guests', guests: list() });
  };
  const setState = (guest: string, state: GuestInfo['state'] | 'gone') => {
    const known = guests.get(guest);
    if (known) setGuest(known.spec, state);
  };
  const tell = (part: Part, event: EventMessage['event'], more: Partial<EventMessage> = {}) => {
    const message: EventMessage = { type: 'event', migration: part.migration, event, ...more };
    part.events.push(message);
    report(message);
  };
  const progress = (part: Part, phase: CopyProgress['phase']): CopyProgress => {
    const total = (guests.get(part.guest)?.spec.memoryMiB ?? 0) * 2 ** 20;
    return {
      phase,
      elapsedMs: Math.max(1, clock.now() - part.startedMs),
      transferredBytes: 0,
      remainingBytes: phase === 'completed' ? 0 : total,
      totalBytes: total,
      passes: 1,
      rateBps: 0,
      dirtyBytesPerS: 0,
    };
  };

  async function stopGuest(part: Part): Promise<void> {
    if (part.phase !== 'copying') return;
    part.phase = 'stopped';
    part.pausedMs = await control.orderAt({ do: 'pause' });
    tell(part, 'preSwitchover', { progress: progress(part, 'switchover') });
    setState(part.guest, 'paused');
  }

  async function resumeThere(part: Part, continuedMs: number): Promise<void> {
    const resumedMs = await control.orderAt({ do: 'resume', at: part.to, announce: o.announce });
    part.phase = 'completed';
    const { migration, to, pausedMs } = part;
    const times: MoveTimes = { migration, from: o.host, to, pausedMs, continuedMs, resumedMs };
    appendFileSync(o.timesFile, `${JSON.stringify(times)}\n`);
    setState(part.guest, 'stopped');
    tell(part, 'completed', { progress: { ...progress(part, 'completed'), downtimeMs: resumedMs - pausedMs } });
  }

  control.onResumed(({ at }) => {
    if (at !== o.host) return;
    for (const part of parts.values()) {
      if (part.role !== 'destination' || part.phase !== 'waiting') continue;
      part.phase = 'arrived';
      tell(part, 'resumed');
      setState(part.guest, 'running');
    }
  });

  return {
    kind: 'emulated',
    abilities: () => ABILITIES,
    async open(listener) {
      report = listener;
      for (const spec of first) setGuest(spec, 'running');
    },
    launch: () => refuse('the stand-in is the only guest here'),
    guests: list,
    migrations: () =>
      [...parts.values()].map((p) => ({
        migration: p.migration,
        guest: p.guest,
        role: p.role,
        ...(p.role === 'source' ? { progress: progress(p, p.phase === 'completed' ? 'completed' : 'pre-copy') } : {}),
      })),
    pastEvents: () => [...parts.values()].flatMap((p) => p.events),
    setProgressPeriod: () => {},
    async prepare(c: AgentCommandOf<'prepare'>) {
      if (!parts.has(c.migration)) {
        parts.set(c.migration, {
          ...{ role: 'destination', migration: c.migration, guest: c.guest.name, phase: 'waiting' },
          ...{ startedMs: clock.now(), pausedMs: 0, to: o.host, events: [], cancelTimer: () => {} },
        });
        setGuest(c.guest, 'incoming');
      }
      return { address: o.migrationIp, port: 49_152, portName: o.portName };
    },
    async start(c: AgentCommandOf<'start'>) {
      if (parts.has(c.migration)) return;
      const to = hostAt(c.address);
      if (to === undefined) throw new FairwayError('start-failed', `no stand-in is expected at ${c.address}`);
      const part: Part = {
        ...{ role: 'source', migration: c.migration, guest: c.guest, phase: 'copying', to },
        ...{ startedMs: clock.now(), pausedMs: 0, events: [], cancelTimer: () => {} },
      };
      parts.set(c.migration, part);
      const stream = { sourceIp: o.migrationIp, destinationIp: c.address, sourcePort: 40_000, destinationPort: c.port };
      tell(part, 'stream', { stream });
      part.cancelTimer = clock.after(o.copyMs, () => void stopGuest(part));
    },
    setBandwidth: async () => {},
    setDowntimeLimit: async () => {},
    switchToPostcopy: () => refuse('the stand-in knows pre-copy only'),
    recoverIncoming: () => refuse('the stand-in knows pre-copy only'),
    recoverOutgoing: () => refuse('the stand-in knows pre-copy only'),
    async continueSwitchover(id) {
      const part = parts.get(id);
      if (part?.phase !== 'stopped') {
        if (part?.phase === 'finishing' || part?.phase === 'completed') return;
        await refuse('the copy does not wait for its switch-over');
        return;
      }
      part.phase = 'finishing';
      const continuedMs = preciseNow();
      clock.after(o.pauseMs, () => void resumeThere(part, continuedMs));
    },
    async cancel(id) {
      const part = parts.get(id);
      if (part?.phase !== 'copying') {
        await refuse('the copy is past the point where it can be cancelled');
        return;
      }
      part.cancelTimer();
      part.phase = 'cancelled';
      tell(part, 'cancelled', { progress: progress(part, 'cancelled') });
    },
    async finish(id) {
      const part = parts.get(id);
      if (part?.role === 'source') setState(part.guest, 'gone');
      parts.delete(id);
    },
    async abandon(id) {
      const part = parts.get(id);
      if (part?.role === 'destination' && part.phase === 'waiting') setState(part.guest, 'gone');
      parts.delete(id);
    },
    measureDirtyRate: async () => ({ dirtyBytesPerS: 0 }),
    async close() {
      report = () => {};
      for (const part of parts.values()) part.cancelTimer();
      control.close();
    },
  };
}
