/**
 * Host agents for the property of the whole core: guests, copies that advance as `agent/core/fluidCopy.ts` has it, and the
 * rules every driver keeps to (commands are idempotent, what happened is told again after a reconnect, a guest that waits for
 * its switch-over goes on by itself in the end). No guest is lost or runs twice here unless an order made it so. Beside
 * `network.ts`; `world.ts` puts both together.
 */
import {
  advanceFluidCopy,
  type FluidCopy,
  fluidProgress,
  isFluidEnded,
  startFluidCopy,
  wantedBps,
} from '../../../agent/core/fluidCopy.ts';
import { checkStorage } from '../../../agent/core/storage.ts';
import type {
  Abilities,
  AgentCommand,
  AgentHello,
  AgentMessage,
  GuestInfo,
  GuestSpec,
} from '../../../contracts/agent.ts';
import { FairwayError } from '../../../contracts/common.ts';
import { type CopyOrder, contradiction, lacking } from '../../../contracts/copyOrder.ts';
import type { Event } from '../../../controller/core/events.ts';
import { diskBytes, HostDisks } from './disks.ts';

/** How long a guest stands still before the agent lets the copy go on by itself, ms. */
const SWITCHOVER_WAIT_MS = 5000;
const PAGE_BYTES = 4096;
const MIB = 2 ** 20;

type EventMessage = Extract<AgentMessage, { type: 'event' }>;

interface Source {
  role: 'source';
  id: string;
  guest: string;
  key: string;
  copy: FluidCopy;
  events: EventMessage[];
  /** A post-copy whose stream broke. */
  isBroken: boolean;
  pausedMs: number;
  leavesDisks: boolean;
}
interface Destination {
  role: 'destination';
  id: string;
  guest: string;
  port: number;
  events: EventMessage[];
  guestRan: boolean;
  isLost: boolean;
  /** Some of its disks are elsewhere: it is remembered, to tell who comes back when they are here. */
  readsDisks: boolean;
}

export interface HostOptions {
  host: string;
  dpid: string;
  migrationIp: string;
  migrationPort: string;
  limits: NonNullable<AgentHello['limits']>;
  guestMemoryMiB: number | undefined;
  techniques: AgentHello['techniques'];
  /** Absent: it does not say. */
  abilities: Abilities | undefined;
}

/** What hosts share: where destinations listen. */
export interface Underlay {
  push(channel: string, e: Event): void;
  now(): number;
  hosts: ReadonlyMap<string, Host>;
  /** Which connection an event announces. */
  sessions: WeakMap<Event, number>;
}

class Refused extends FairwayError {
  constructor(code: string, message = code) {
    super(code, message, ['conflict']);
  }
}

/** The answer to a command, as far as it is the command's: which pace was told is in it. */
const doneOf = (host: string, migration: string, c: AgentCommand) => ({
  ...{ kind: 'commandDone' as const, host, migration, step: c.do },
  ...('bandwidthBps' in c ? { bandwidthBps: c.bandwidthBps } : {}),
});

export class Host {
  readonly o: HostOptions;
  readonly guests = new Map<string, GuestInfo>();
  readonly disks = new HostDisks();
  readonly jobs = new Map<string, Source | Destination>();
  /** Commands that came and were not carried out yet. */
  readonly inbox: { migration: string; command: AgentCommand }[] = [];
  session = 0;
  toldSession = -1;
  isConnected = false;
  /** Its agent does not come back, although guests and copies go on. */
  isGone = false;
  /** Guests here write nothing any more. */
  #isCalm = false;
  /** The next command is refused with this code. */
  refuseNext: string | null = null;
  readonly #u: Underlay;
  #nextPort = 49_152;

  constructor(o: HostOptions, underlay: Underlay) {
    this.o = o;
    this.#u = underlay;
  }

  get channel(): string {
    return `agent ${this.o.host}`;
  }
  get isInTouch(): boolean {
    return this.isConnected && this.toldSession === this.session;
  }

  hello(): AgentHello {
    const { host, dpid, migrationIp, migrationPort, limits, guestMemoryMiB, techniques, abilities } = this.o;
    return {
      ...{ type: 'hello', protocol: 'fairway-agent/1', host, dpid, migrationIp, migrationPort, driver: 'emulated' },
      ...{ limits, techniques, ...(guestMemoryMiB === undefined ? {} : { guestMemoryMiB }) },
      ...(abilities === undefined ? {} : { abilities }),
      guests: [...this.guests.values()],
      migrations: [...this.jobs.values()].map((j) => ({
        ...{ migration: j.id, guest: j.guest, role: j.role },
        ...(j.role === 'source' ? { progress: fluidProgress(j.copy) } : {}),
      })),
    };
  }

  connect(): void {
    if (this.isGone) return;
    if (this.isConnected) this.disconnect(() => false);
    this.session++;
    this.isConnected = true;
    const up: Event = { kind: 'agentUp', host: this.o.host, hello: this.hello() };
    this.#u.sessions.set(up, this.session);
    this.#u.push(this.channel, up);
    this.#say({ type: 'guests', guests: [...this.guests.values()] });
    for (const j of this.jobs.values()) for (const e of j.events) this.#say(e);
  }

  /** The connection is lost; of the commands under way some are carried out all the same. */
  disconnect(isDone: () => boolean): void {
    if (!this.isConnected) return;
    this.isConnected = false;
    this.#u.push(this.channel, { kind: 'agentDown', host: this.o.host });
    for (const c of this.inbox.splice(0)) this.#giveUp(c, isDone());
  }

  /** Its agent is lost for good; of the commands under way some are carried out all the same. */
  vanish(isDone: () => boolean): void {
    this.disconnect(isDone);
    this.isGone = true;
  }

  /** A command whose answer the controller does not wait for any longer. */
  timeOut(isDone: boolean): void {
    const c = this.inbox.shift();
    if (c) this.#giveUp(c, isDone);
  }

  #giveUp(c: { migration: string; command: AgentCommand }, isDone: boolean): void {
    if (isDone) this.#answerOf(c.command);
    this.notDone(c, 'its answer was lost');
  }

  /** It is not known whether a command was carried out. */
  notDone({ migration, command }: { migration: string; command: AgentCommand }, error: string): void {
    const done = doneOf(this.o.host, migration, command);
    this.#u.push(this.channel, { ...done, ok: false, unknown: true, error });
  }

  /** Carries out the command that came first. */
  work(): void {
    const c = this.inbox.shift();
    if (!c) return;
    const done = doneOf(this.o.host, c.migration, c.command);
    this.#u.push(this.channel, { ...done, ...this.#answerOf(c.command) });
  }

  #answerOf(c: AgentCommand): { ok: true; value: unknown } | { ok: false; error: string; code: string } {
    try {
      if (this.refuseNext !== null) {
        // That half of a guest's memory is gone ends its migration for good: an agent says so only where it is.
        // Nor is a guest gone that it copies: a second order to start was overtaken by what the first did.
        const isRecovery = c.do === 'recoverIncoming' || c.do === 'recoverOutgoing';
        const isCopied = c.do === 'start' && this.jobs.has(c.migration);
        const code = this.refuseNext === 'guest-gone' && (isRecovery || isCopied) ? 'internal' : this.refuseNext;
        this.refuseNext = null;
        throw new Refused(code);
      }
      return { ok: true, value: this.#obey(c) ?? {} };
    } catch (error) {
      if (!(error instanceof FairwayError)) throw error;
      return { ok: false, error: error.message, code: error.code };
    }
  }

  #say(message: AgentMessage): void {
    if (this.isConnected) this.#u.push(this.channel, { kind: 'agentMessage', host: this.o.host, message });
  }

  #tell(j: Source | Destination, event: EventMessage['event'], more: Partial<EventMessage> = {}): void {
    const message: EventMessage = { type: 'event', migration: j.id, event, ...more };
    const isAboutStream = (e: EventMessage) => e.event === 'postcopyPaused' || e.event === 'postcopyRecovered';
    if (isAboutStream(message)) j.events.splice(0, j.events.length, ...j.events.filter((e) => !isAboutStream(e)));
    j.events.push(message);
    this.#say(message);
  }

  #setGuest(name: string, state: GuestInfo['state'] | null, spec = this.guests.get(name)?.spec): void {
    if (state === (this.guests.get(name)?.state ?? null)) return;
    if (state === null || !spec) {
      this.guests.delete(name);
      this.disks.forget(name);
    } else this.guests.set(name, { spec, state, portName: `tap-${name}` });
    this.#say({ type: 'guests', guests: [...this.guests.values()] });
  }

  launch(spec: GuestSpec): void {
    this.#setGuest(spec.name, 'running', spec);
  }

  #dirtyBytesPerS(spec: GuestSpec): number {
    return this.#isCalm ? 0 : (spec.dirtyPagesPerS ?? 0) * PAGE_BYTES;
  }

  /** Guests write nothing any more: a pre-copy that nobody may turn into something else comes to its end. */
  calm(): void {
    this.#isCalm = true;
    for (const j of this.jobs.values())
      if (j.role === 'source') j.copy = { ...j.copy, order: { ...j.copy.order, dirtyBytesPerS: 0 } };
  }

  #source(id: string): Source {
    const j = this.jobs.get(id);
    if (j?.role !== 'source') throw new Refused('migration-unknown');
    return j;
  }
  #destination(id: string): Destination {
    const j = this.jobs.get(id);
    if (j?.role !== 'destination') throw new Refused('migration-unknown');
    return j;
  }
  #far(key: string): { host: Host; job: Destination } | undefined {
    for (const host of this.#u.hosts.values())
      for (const job of host.jobs.values())
        if (job.role === 'destination' && !job.isLost && `${host.o.migrationIp}:${job.port}` === key)
          return { host, job };
    return undefined;
  }

  #obey(c: AgentCommand): unknown {
    switch (c.do) {
      case 'measureDirtyRate': {
        return { dirtyBytesPerS: this.#dirtyBytesPerS(this.#guest(c.guest).spec) };
      }
      case 'prepare':
        return this.#prepare(c);
      case 'start':
        return this.#start(c);
      case 'setBandwidth': {
        const j = this.#source(c.migration);
        j.copy = { ...j.copy, bandwidthBps: c.bandwidthBps, switchoverBps: c.switchoverBps ?? j.copy.switchoverBps };
        return undefined;
      }
      case 'setDowntimeLimit': {
        const j = this.#source(c.migration);
        j.copy = { ...j.copy, order: { ...j.copy.order, downtimeLimitMs: c.downtimeLimitMs } };
        return undefined;
      }
      case 'switchToPostcopy': {
        const j = this.#source(c.migration);
        if (j.copy.phase === 'pre-copy') j.copy = { ...j.copy, postcopyRequested: true };
        return undefined;
      }
      case 'continueSwitchover': {
        const j = this.#source(c.migration);
        if (j.copy.phase === 'pre-copy') throw new Refused('wrong-phase');
        if (j.copy.phase === 'preSwitchover') j.copy = { ...j.copy, phase: 'stopped' };
        return undefined;
      }
      case 'cancel': {
        const j = this.#source(c.migration);
        if (j.copy.phase === 'cancelled' || j.copy.phase === 'failed') return undefined;
        if (j.copy.phase === 'completed' || j.copy.postcopyStarted) throw new Refused('wrong-phase');
        this.#endCopy(j, 'cancelled');
        return undefined;
      }
      case 'recoverIncoming': {
        const j = this.#destination(c.migration);
        if (!j.guestRan) throw new Refused('wrong-phase');
        j.port = this.#nextPort++;
        return { address: this.o.migrationIp, port: j.port, portName: `tap-${j.guest}` };
      }
      case 'recoverOutgoing': {
        const j = this.#source(c.migration);
        if (j.copy.phase !== 'post-copy') throw new Refused('wrong-phase');
        if (!this.#far(`${c.address}:${c.port}`)) throw new Refused('path-down');
        j.key = `${c.address}:${c.port}`;
        j.copy = { ...j.copy, bandwidthBps: c.bandwidthBps };
        j.isBroken = false;
        this.#tell(j, 'postcopyRecovered');
        return undefined;
      }
      case 'finish': {
        const j = this.jobs.get(c.migration);
        if (!j) return undefined;
        if (j.role === 'source' && !isFluidEnded(j.copy)) throw new Refused('migration-running');
        if (j.role === 'destination' && !j.guestRan) throw new Refused('guest-not-arrived');
        if (j.role === 'source' && j.copy.phase === 'completed' && this.guests.get(j.guest)?.state === 'stopped') {
          if (j.leavesDisks) this.disks.served.add(j.guest);
          else this.#setGuest(j.guest, null);
        }
        if (j.role === 'source' || !j.readsDisks) this.jobs.delete(c.migration);
        return undefined;
      }
      case 'abandon': {
        const j = this.jobs.get(c.migration);
        if (!j) return undefined;
        if (j.role === 'source' || j.guestRan) throw new Refused('not-abandonable');
        this.jobs.delete(c.migration);
        if (!j.isLost) this.#setGuest(j.guest, null);
        return undefined;
      }
      case 'offerDisks': {
        const guest = this.#guest(c.guest);
        if (this.#isCopied(c.guest)) throw new Refused('guest-busy');
        return this.disks.offer(c.migration, guest.spec, this.o.migrationIp);
      }
      case 'releaseDisks':
        if (!this.guests.has(c.guest)) return undefined;
        if (this.#isCopied(c.guest)) throw new Refused('guest-busy');
        this.disks.release(c.migration);
        // Of one that has left nothing else is wanted, even where its migration was not told to finish yet.
        if (this.guests.get(c.guest)?.state === 'stopped') this.#setGuest(c.guest, null);
        return undefined;
      case 'pullDisks':
      case 'stopPull':
        this.#guest(c.guest);
        this.disks.pull(c.guest, c.do === 'pullDisks' ? c.pullBps : undefined);
        return undefined;
      case 'measureFetch':
        this.#guest(c.guest);
        return this.disks.fetched(c.guest);
      default:
        throw new Refused('bad-command', `${c.do} is not expected here`);
    }
  }

  #guest(name: string): GuestInfo {
    const guest = this.guests.get(name);
    if (!guest) throw new Refused('guest-unknown');
    return guest;
  }

  #isCopied(guest: string): boolean {
    return [...this.jobs.values()].some((j) => j.role === 'source' && j.guest === guest && !isFluidEnded(j.copy));
  }

  /** What a hypervisor cannot do it has said, and is not to be asked for. */
  #checkOrder(migration: string, order: CopyOrder): void {
    const { abilities } = this.o;
    const why = abilities && (contradiction(order, abilities) ?? lacking(order, abilities));
    if (why !== undefined) throw new Error(`${migration} asks ${this.o.host} for what it cannot do: ${why}`);
  }

  #prepare(c: Extract<AgentCommand, { do: 'prepare' }>): unknown {
    this.#checkOrder(c.migration, c);
    const answer = (port: number) => ({
      ...{ address: this.o.migrationIp, port, portName: `tap-${c.guest.name}` },
      ...(c.options?.storage === 'mirrored' ? { diskPort: port + 10_000 } : {}),
    });
    const known = this.jobs.get(c.migration);
    if (known?.role === 'destination' && !known.isLost) return answer(known.port);
    const incoming = [...this.jobs.values()].filter((j) => j.role === 'destination' && !j.guestRan && !j.isLost).length;
    if (incoming >= (this.o.limits.incoming ?? Number.POSITIVE_INFINITY)) throw new Refused('host-busy');
    if (this.guests.has(c.guest.name)) throw new Refused('guest-exists');
    checkStorage(c.guest, c.options?.storage);
    this.disks.expect(c);
    const j: Destination = {
      ...{ role: 'destination', id: c.migration, guest: c.guest.name, port: this.#nextPort++, events: [] },
      ...{ guestRan: false, isLost: false, readsDisks: c.options?.storage === 'on-demand' },
    };
    this.jobs.set(j.id, j);
    this.#setGuest(j.guest, 'incoming', c.guest);
    return answer(j.port);
  }

  #start(c: Extract<AgentCommand, { do: 'start' }>): undefined {
    if (this.jobs.get(c.migration)?.role === 'source') return;
    this.#checkOrder(c.migration, c);
    const guest = this.guests.get(c.guest);
    if (guest?.state !== 'running') throw new Refused('guest-not-running');
    const mine = [...this.jobs.values()].filter((j) => j.role === 'source' && !isFluidEnded(j.copy));
    if (mine.some((j) => j.guest === c.guest)) throw new Refused('guest-busy');
    if (mine.length >= (this.o.limits.outgoing ?? Number.POSITIVE_INFINITY)) throw new Refused('host-busy');
    const key = `${c.address}:${c.port}`;
    if (!this.#far(key)) throw new Refused('start-failed');
    checkStorage(guest.spec, c.options?.storage);
    this.disks.checkWhole(c.guest);
    const isMirrored = c.options?.storage === 'mirrored';
    if (isMirrored !== (c.diskPort !== undefined))
      throw new Error(`${c.migration} starts with a wrong port for its disks`);
    for (const j of [...this.jobs.values()]) if (j.guest === c.guest) this.jobs.delete(j.id);
    const memoryBytes = guest.spec.memoryMiB * MIB + (isMirrored ? diskBytes(guest.spec) : 0);
    const order = {
      ...(c.options === undefined ? {} : { options: c.options }),
      ...{ technique: c.technique, memoryBytes, downtimeLimitMs: c.downtimeLimitMs, hybridPasses: c.hybridPasses },
      workingSetBytes: Math.min(memoryBytes, (guest.spec.workingSetMiB ?? guest.spec.memoryMiB / 4) * MIB),
      dirtyBytesPerS: this.#dirtyBytesPerS(guest.spec),
      pauseBeforeSwitchover: c.pauseBeforeSwitchover,
      mayTurnPostcopy: c.mayTurnPostcopy === true,
    };
    const j: Source = {
      ...{ role: 'source', id: c.migration, guest: c.guest, key, events: [], isBroken: false, pausedMs: 0 },
      leavesDisks: c.options?.storage === 'on-demand',
      copy: startFluidCopy(order, c.bandwidthBps),
    };
    this.jobs.set(j.id, j);
    const stream = { sourceIp: this.o.migrationIp, destinationIp: c.address };
    this.#tell(j, 'stream', { stream: { ...stream, sourcePort: 40_000, destinationPort: c.port } });
  }

  #endCopy(j: Source, phase: 'completed' | 'cancelled' | 'failed', reason?: string): void {
    j.copy = { ...j.copy, phase };
    const far = this.#far(j.key);
    if (phase === 'completed') this.#setGuest(j.guest, 'stopped');
    else {
      if (!j.copy.postcopyStarted) this.#setGuest(j.guest, 'running');
      if (far && !far.job.guestRan) far.host.#drop(far.job);
    }
    this.#tell(j, phase, { progress: fluidProgress(j.copy), ...(reason === undefined ? {} : { reason }) });
  }

  #drop(j: Destination): void {
    j.isLost = true;
    this.#setGuest(j.guest, null);
  }

  #resumed(j: Destination): void {
    if (j.guestRan) return;
    j.guestRan = true;
    this.#setGuest(j.guest, 'running');
    this.#tell(j, 'resumed');
  }

  /** Copies of this host advance; answers what each sent. */
  advance(ms: number): { id: string; bytes: number; isPull: boolean }[] {
    const pulled = this.disks.advance(ms, (guest) => this.guests.get(guest)?.state === 'running');
    const sent = pulled.map(({ id, bytes }) => ({ id, bytes, isPull: true }));
    for (const { id, isDone } of pulled) {
      const j = this.jobs.get(id);
      if (isDone && j) this.#tell(j, 'disksPulled');
    }
    for (const j of [...this.jobs.values()]) {
      if (j.role !== 'source' || j.isBroken || isFluidEnded(j.copy)) continue;
      const far = this.#far(j.key);
      if (!far) {
        // In post-copy the destination listens elsewhere by now, or will: the stream is broken.
        if (j.copy.postcopyStarted) this.break(j.id);
        else this.#endCopy(j, 'failed', 'nothing listens any more');
        continue;
      }
      if (j.copy.phase === 'preSwitchover') {
        j.pausedMs += ms;
        if (j.pausedMs >= SWITCHOVER_WAIT_MS) j.copy = { ...j.copy, phase: 'stopped' };
      } else j.pausedMs = 0;
      const before = j.copy.transferredBytes;
      const { copy, events } = advanceFluidCopy(j.copy, ms, Math.min(10e9, wantedBps(j.copy)));
      j.copy = copy;
      sent.push({ id: j.id, bytes: copy.transferredBytes - before, isPull: false });
      if (copy.phase === 'preSwitchover' || copy.phase === 'stopped') this.#setGuest(j.guest, 'paused');
      if (events.length === 0) this.#say({ type: 'progress', migration: j.id, progress: fluidProgress(copy) });
      for (const event of events) {
        if (event === 'completed') {
          if (!copy.postcopyStarted) {
            this.#setGuest(j.guest, 'stopped');
            far.host.#resumed(far.job);
          }
          this.#endCopy(j, 'completed');
        } else {
          this.#tell(j, event, { progress: fluidProgress(copy) });
          if (event === 'postcopyStarted') {
            this.#setGuest(j.guest, 'stopped');
            far.host.#resumed(far.job);
          }
        }
      }
    }
    return sent;
  }

  /** The stream of a copy breaks: a pre-copy fails, a post-copy pauses at both ends. */
  break(id: string): void {
    const j = this.jobs.get(id);
    if (j?.role !== 'source' || isFluidEnded(j.copy) || j.isBroken) return;
    if (!j.copy.postcopyStarted) {
      this.#endCopy(j, 'failed', 'the stream broke');
      return;
    }
    j.isBroken = true;
    this.#tell(j, 'postcopyPaused', { reason: 'the stream broke' });
    const far = this.#far(j.key);
    if (far) far.host.#tell(far.job, 'postcopyPaused', { reason: 'the stream broke' });
  }

  /** What goes on at which pace, bit/s of payload: copies from here, and pulls to here. */
  paces(): { id: string; payloadBps: number; isPull: boolean }[] {
    const copies = this.copies().map((id) => ({ id, payloadBps: this.#source(id).copy.bandwidthBps, isPull: false }));
    const pulls = this.disks.pulls((guest) => this.guests.get(guest)?.state === 'running');
    return [...copies, ...pulls.map((p) => ({ ...p, isPull: true }))];
  }

  /** Ids of copies that run from here. */
  copies(): string[] {
    return [...this.jobs.values()].filter((j) => j.role === 'source' && !isFluidEnded(j.copy)).map((j) => j.id);
  }
}
