/**
 * The whole core in a world of switches, cables, hosts and guests, made from a few numbers: for the property that holds at
 * every step. What happens waits in channels (one for each connection, in order) until it is delivered, so that anything may
 * overtake anything else; faults come as actions. Every event and every effect passes through `feed`, which has them
 * checked (`checks.ts`) and remembers them, so that the same events can be played again. Neighbours: `network.ts`, `hosts.ts`.
 */
import type { Abilities, Disk } from '../../../contracts/agent.ts';
import { FairwayError, isFinal, type Technique } from '../../../contracts/common.ts';
import { randomFrom } from '../../../contracts/random.ts';
import type { MigrateRequest } from '../../../contracts/rest.ts';
import { QUEUE } from '../../../controller/core/desired.ts';
import type { Effect, Event, PortQos } from '../../../controller/core/events.ts';
import { checkCancel } from '../../../controller/core/jobs.ts';
import { checkForget } from '../../../controller/core/lost.ts';
import { restoreJobs } from '../../../controller/core/restore.ts';
import { type ControllerState, initialState, type Settings } from '../../../controller/core/state.ts';
import { stepAll } from '../../../controller/core/step.ts';
import { tunnelsWanted } from '../../../controller/core/tunnels.ts';
import type { CompiledPolicy } from '../../../policies/index.ts';
import { Host, type HostOptions } from './hosts.ts';
import { cheapSeal, LOCAL_PORT, Network, type SwitchModel } from './network.ts';
import { POLICIES, policyWith } from './policies.ts';

export interface Shape {
  /**
   * 0: star; 1: two cores; 2: ring of hosts' switches; 3: hosts on two leaves below two spines; 4: two stars that only an IP
   * network joins.
   */
  kind: number;
  hosts: number;
  guests: number;
  seed: number;
  isManaged: boolean;
  /** 0: no switch has queues; 1: all; 2: some. */
  queues: number;
  hasMeters: boolean;
  hasGroups: boolean;
  /** 0: none; 1: where there is no label path; 2: always. */
  tunnels: number;
  policy: number;
  isMemoryTight: boolean;
  hasDisks: boolean;
  /** Hosts say what their hypervisors can do. */
  hasAbilities: boolean;
}

/** What can be played again. */
export type Played = { nowMs: number; events: readonly Event[] } | Life;
export interface Life {
  nowMs: number;
  /** What the life before wrote down. */
  journal: Record<string, unknown>[];
}

export const SPEEDS = [100e6, 200e6, 1e9, 10e9];
/** Name of the ports that lead to an IP network. */
const IP_PORT = 'ip0';
const MEMORY_MIB = [16, 32, 64, 128];
const DISK_MIB = [1, 4, 16];
const DIRTY_PAGES = [0, 0, 100, 2000, 20_000];
/** Frames are lost where more events wait than this. */
const MOST_WAITING = 40;
/** Events of one turn are delivered together at most this many. */
export const BURST = 8;

const dpidOf = (n: number) => n.toString(16).padStart(16, '0');

function settingsOf(shape: Shape, life: number): Settings {
  const { queues, tunnels, isManaged } = shape;
  return {
    version: 'test',
    forwarding: isManaged ? 'managed' : 'normal',
    capacityOf: () => undefined,
    defaultCapacityBps: 1e9,
    nameOf: () => undefined,
    hasQueues: (dpid) => queues === 1 || (queues === 2 && Number(`0x${dpid}`) % 2 === 1),
    policyStore: 'memory',
    seal: cheapSeal(life),
    leadsToIp: (_dpid, portName) => portName === IP_PORT,
    ...(tunnels === 0
      ? {}
      : {
          tunnels: {
            ...{ kind: 'vxlan', use: tunnels === 1 ? 'fallback' : 'always' },
            addressOf: (dpid: string) => `192.0.2.${Number(`0x${dpid}`)}`,
          },
        }),
  };
}

const diskOf = (guest: string, sizeMiB: number): Disk => ({
  ...{ path: `/disks/${guest}.raw`, sizeBytes: sizeMiB * 2 ** 20, format: 'raw' },
});

/** What a host's hypervisor can do, and whether it says so. */
function abilitiesOf(isOld: boolean, isSaid: boolean, isNew: boolean): Pick<HostOptions, 'techniques' | 'abilities'> {
  const techniques: Technique[] = isOld ? ['pre-copy'] : ['pre-copy', 'post-copy', 'hybrid', 'stop-and-copy'];
  const abilities: Abilities = {
    ...{ hypervisor: 'model', techniques, autoConverge: true, xbzrle: !isOld, multifd: isOld ? [] : ['none', 'zstd'] },
    ...{ multifdPostcopy: isNew, holdsSwitchover: 'stopped', storage: ['shared', 'mirrored', 'on-demand'] },
  };
  return { techniques, abilities: isSaid ? abilities : undefined };
}

/** What checks say no to is not asked for. */
export function isAllowed(check: () => void): boolean {
  try {
    check();
    return true;
  } catch (error) {
    if (error instanceof FairwayError) return false;
    throw error;
  }
}

/** The core at the beginning of a life of the controller, with what an earlier one wrote down. */
export function newLife(shape: Shape, life: number, policy: CompiledPolicy, record: Life): ControllerState {
  const status = { state: 'accepted' as const, revision: 1, reason: '', atMs: 0 };
  return restoreJobs(initialState(settingsOf(shape, life), policy, status, record.nowMs), record.journal);
}

export interface WorldOptions {
  /** Called after every turn of the core; throws where something is wrong. */
  check(w: World, before: ControllerState, events: readonly Event[], effects: readonly Effect[]): void;
}

export class World {
  state: ControllerState;
  nowMs = 1_000_000;
  steps = 0;
  life = 0;
  readonly shape: Shape;
  readonly net: Network;
  readonly hosts = new Map<string, Host>();
  readonly played: Played[] = [];
  /** Queues as OVSDB has them, by link. */
  readonly queues = new Map<string, PortQos>();
  /** Guests by name and what was ever asked for. */
  readonly guests: string[] = [];
  readonly #home = new Map<string, number>();
  readonly #channels = new Map<string, Event[]>();
  readonly #journal: object[] = [];
  /** Events of late. */
  readonly recent: Event[] = [];
  readonly #check: WorldOptions['check'];
  /** Nothing is lost: at the beginning, and since faults ceased. */
  #isWell = true;
  /** Databases of switches do not take queues, or tunnels. */
  queuesFail = false;
  tunnelsFail = false;
  /** Numbers of the document and of the overrides in force. */
  #policy: number;
  #overrides = 0;
  #nextId = 1;
  #waiting = 0;

  constructor(shape: Shape, o: WorldOptions) {
    this.shape = shape;
    this.#policy = shape.policy % POLICIES.length;
    this.#check = o.check;
    const push = (channel: string, e: Event) => this.push(channel, e);
    this.net = new Network(push, () => this.nowMs);
    this.#build();
    this.state = this.#begin([]);
    for (const s of this.net.switches.values()) this.net.connect(s);
    for (const h of this.hosts.values()) h.connect();
    for (let i = 0; i < 5; i++) this.round(600, 0.4);
    this.#isWell = false;
  }

  /** Which of the networks that only IP joins a host is in. */
  fabricOf(host: Host): number {
    return this.shape.kind === 4 ? (Number(`0x${host.o.dpid}`) - 1) % 2 : 0;
  }
  /** … and the one that a guest was launched in. */
  homeOf(guest: string): number {
    return this.#home.get(guest) ?? 0;
  }

  // ---- how it is built

  #build(): void {
    const { kind, hosts, guests, seed, hasMeters, hasGroups } = this.shape;
    const draw = randomFrom(seed);
    const speed = () => SPEEDS[Math.floor(draw() * SPEEDS.length)] as number;
    const names = Array.from({ length: guests }, (_, i) => `g${i}`);
    const taps = names.map((name, i) => [100 + i, `tap-${name}`, 10e9] as const);
    const has = { meters: hasMeters, groups: hasGroups };
    const own = (h: number) => dpidOf(h + 1);
    const core = (c: number) => dpidOf(0xc0 + c);
    if (kind === 3) {
      for (const leaf of [0, 1]) {
        const here = Array.from({ length: hosts }, (_, h) => h).filter((h) => h % 2 === leaf);
        const ports = here.flatMap((h) => [[50 + h, `mig-hv${h}`, speed()] as const]);
        this.net.add(own(leaf), [[1, 'up1', speed()], [2, 'up2', speed()], ...ports, ...taps], has);
      }
      for (const c of [0, 1])
        this.net.add(
          core(c),
          [
            [1, 'l1', speed()],
            [2, 'l2', speed()],
          ],
          has,
        );
      for (const leaf of [0, 1])
        for (const c of [0, 1]) this.net.cable(`${own(leaf)}:${c + 1}`, `${core(c)}:${leaf + 1}`);
    } else {
      const cores = [1, 2, 0, 0, 2][kind] as number;
      for (let h = 0; h < hosts; h++)
        this.net.add(own(h), [[1, 'up1', speed()], [2, 'up2', speed()], [LOCAL_PORT, 'br0', 10e9], ...taps], has);
      for (let c = 0; c < cores; c++) {
        const ports = Array.from({ length: hosts }, (_, h) => [h + 1, `to-hv${h}`, speed()] as const);
        this.net.add(core(c), kind === 4 ? [...ports, [90, IP_PORT, speed()]] : ports, has);
        for (let h = 0; h < hosts; h++)
          if (kind !== 4 || h % 2 === c) this.net.cable(`${own(h)}:${c + 1}`, `${core(c)}:${h + 1}`);
      }
      if (kind === 2) for (let h = 0; h < hosts; h++) this.net.cable(`${own(h)}:1`, `${own((h + 1) % hosts)}:2`);
    }
    const underlay = {
      push: (channel: string, e: Event) => this.push(channel, e),
      now: () => this.nowMs,
      hosts: this.hosts,
      sessions: this.net.sessions,
    };
    for (let h = 0; h < hosts; h++) {
      const host = new Host(
        {
          host: `hv${h}`,
          dpid: kind === 3 ? own(h % 2) : own(h),
          migrationIp: `10.0.0.${h + 1}`,
          migrationPort: kind === 3 ? `mig-hv${h}` : 'br0',
          limits: draw() < 0.3 ? { outgoing: 2, incoming: 2 } : {},
          guestMemoryMiB: this.shape.isMemoryTight ? 1024 : undefined,
          ...abilitiesOf(draw() < 0.2, this.shape.hasAbilities, draw() < 0.3),
        },
        underlay,
      );
      this.hosts.set(host.o.host, host);
    }
    for (const [i, name] of names.entries()) {
      this.guests.push(name);
      const memoryMiB = MEMORY_MIB[Math.floor(draw() * MEMORY_MIB.length)] as number;
      const host = [...this.hosts.values()][Math.floor(draw() * hosts)] as Host;
      this.#home.set(name, this.fabricOf(host));
      host.launch({
        ...{
          name,
          mac: `52:54:00:00:00:${(i + 16).toString(16)}`,
          memoryMiB,
          vcpus: 1,
          machine: 'pc',
          accel: 'emulated',
        },
        ip: `10.0.1.${i + 1}`,
        labels: { tier: draw() < 0.5 ? 'db' : 'web', tenant: i % 2 === 0 ? 'blue' : 'red' },
        ...(this.shape.hasDisks
          ? { disks: [diskOf(name, DISK_MIB[Math.floor(draw() * DISK_MIB.length)] as number)] }
          : {}),
        dirtyPagesPerS: DIRTY_PAGES[Math.floor(draw() * DIRTY_PAGES.length)] as number,
        workingSetMiB: memoryMiB * (draw() < 0.5 ? 0.1 : 0.5),
      });
    }
    for (const channel of this.#channels.values()) channel.splice(0);
    this.#waiting = 0;
  }

  #begin(journal: Record<string, unknown>[]): ControllerState {
    const life = { nowMs: this.nowMs, journal };
    this.played.push(life);
    const policy = this.life === 0 ? POLICIES[this.shape.policy % POLICIES.length] : this.state.policy;
    return newLife(this.shape, this.life, policy as CompiledPolicy, life);
  }

  // ---- events

  /** Something happens, and waits in a channel until it is delivered. */
  push(channel: string, e: Event): void {
    const list = this.#channels.get(channel);
    if (list) list.push(e);
    else this.#channels.set(channel, [e]);
    this.#waiting++;
  }

  /** One turn of the core. */
  feed(events: readonly Event[]): void {
    for (const e of events) {
      if (e.kind === 'switchUp') (this.net.switches.get(e.dpid) as SwitchModel).toldSession = this.#sessionOf(e);
      else if (e.kind === 'agentUp') (this.hosts.get(e.host) as Host).toldSession = this.#sessionOf(e);
      this.recent[this.steps++ % 64] = e;
    }
    const before = this.state;
    this.played.push({ nowMs: this.nowMs, events });
    const { state, effects } = stepAll(before, events, this.nowMs);
    this.state = state;
    for (const e of effects) if (e.kind === 'journal') this.#journal.push(e.entry);
    this.#check(this, before, events, effects);
    for (const e of effects) this.#carryOut(e);
  }

  #sessionOf(e: Event): number {
    return this.net.sessions.get(e) ?? Number.NaN;
  }

  #carryOut(e: Effect): void {
    switch (e.kind) {
      case 'write':
        this.net.write(e.dpid, e.batch, e.messages);
        break;
      case 'packetOut':
        if (this.#waiting < MOST_WAITING || this.#isWell) this.net.packetOut(e.dpid, e.portNo, e.frame);
        break;
      case 'qos': {
        const done = { kind: 'qosDone' as const, link: e.link, serial: e.serial };
        if (this.queuesFail) {
          this.push(`ovs ${e.dpid}`, { ...done, enforcement: 'pace', note: 'the database did not answer' });
          break;
        }
        if (e.qos) this.queues.set(e.link, e.qos);
        else {
          this.queues.delete(e.link);
          this.net.at(e.link)?.port.queued.clear();
        }
        this.push(`ovs ${e.dpid}`, { ...done, enforcement: 'queue', note: '' });
        break;
      }
      case 'tunnel': {
        const done = { kind: 'tunnelDone' as const, dpid: e.dpid, name: e.name, serial: e.serial };
        if (!this.tunnelsFail) this.net.setTunnel(e.dpid, e.name, e.port !== null);
        const note = this.tunnelsFail ? 'the database did not answer' : '';
        this.push(`ovs ${e.dpid}`, { ...done, note, mtus: {} });
        break;
      }
      case 'sweepQueues': {
        const kept = new Set(e.keep.map((k) => `${k.dpid} ${k.portName}`));
        for (const link of [...this.queues.keys()]) {
          const at = this.net.at(link);
          if (!kept.has(`${at?.s.dpid} ${at?.port.name}`)) this.queues.delete(link);
        }
        break;
      }
      case 'command': {
        const host = this.hosts.get(e.host);
        const c = { migration: e.migration, command: e.command };
        if (host?.isInTouch) host.inbox.push(c);
        else host?.notDone(c, 'the agent is away');
      }
    }
  }

  /** Delivers the first event of the nth channel that has any; of several channels together where `burst` says so. */
  deliver(nth: number, burst = 1): boolean {
    const full = [...this.#channels.values()].filter((c) => c.length > 0);
    if (full.length === 0) return false;
    const events: Event[] = [];
    for (let i = 0; i < burst && events.length < BURST; i++) {
      const e = full[(nth + i) % full.length]?.shift();
      if (e) events.push(e);
    }
    this.#waiting -= events.length;
    if (events.length > 0) this.feed(events);
    return events.length > 0;
  }

  /** Time passes, and copies go on. */
  pass(ms: number): void {
    this.nowMs += ms;
    for (const h of this.hosts.values()) {
      for (const { id, bytes, isPull } of h.advance(ms)) {
        const job = this.state.jobs.get(id);
        if (job && bytes > 0) this.net.carry(bytes, job, QUEUE[isPull ? 'low' : job.priority]);
      }
    }
  }

  /** A second or so in which everything works: whatever waits is delivered and done. */
  round(ms: number, load: number): void {
    this.net.setWorkload(randomFrom(this.steps), load);
    this.pass(ms);
    this.#settle();
    for (const s of this.net.switches.values()) this.net.read(s);
    this.#settle();
    this.feed([{ kind: 'sampled' }]);
    this.feed([{ kind: 'tick' }]);
    this.#settle();
  }

  #settle(): void {
    for (let n = 0; n < 20_000; n++) {
      let isBusy = this.deliver(0);
      for (const h of this.hosts.values()) {
        isBusy ||= h.inbox.length > 0;
        h.work();
      }
      if (!isBusy) return;
    }
    throw new Error('events and answers go on for ever');
  }

  // ---- what happens

  /** Somebody asks for migrations that were found to be allowed. */
  migrate(request: MigrateRequest): void {
    const ids = request.moves.map((m) => `m${this.#nextId++}-${m.guest}`);
    this.feed([{ kind: 'migrate', request, ids, group: ids.length > 1 ? `g${this.#nextId}` : null }]);
  }

  /** Somebody edits the policy: the document, or the overrides in it where `overrides` says which; the other part stays. */
  setPolicy(n: number, overrides?: number): void {
    if (overrides === undefined) this.#policy = n;
    else this.#overrides = overrides;
    const revision = this.state.policyStatus.revision + 1;
    const status = { state: 'accepted' as const, revision, reason: '', atMs: this.nowMs };
    this.feed([{ kind: 'policyChanged', policy: policyWith(this.#policy, this.#overrides), status }]);
  }

  refusePolicy(): void {
    const { revision } = this.state.policyStatus;
    const status = { state: 'refused' as const, revision, reason: 'it makes no sense', atMs: this.nowMs };
    this.feed([{ kind: 'policyRefused', status }]);
  }

  /** The controller dies and comes back with its journal; everybody connects anew. */
  restart(): void {
    for (const c of this.#channels.values()) c.splice(0);
    this.#waiting = 0;
    this.recent.length = 0;
    for (const s of this.net.switches.values()) s.isConnected = false;
    for (const h of this.hosts.values()) {
      h.disconnect(() => true);
      this.#channels.get(h.channel)?.splice(0);
    }
    this.#waiting = 0;
    this.life++;
    const entries = JSON.parse(JSON.stringify(this.#journal)) as Record<string, unknown>[];
    this.state = this.#begin(entries);
    this.#journal.splice(0, this.#journal.length, ...entries);
    // As `controller/io/server.ts` has it: tunnels that no job of the journal needs are of an earlier life.
    const kept = new Set(tunnelsWanted(this.state).keys());
    for (const s of this.net.switches.values())
      for (const { name } of [...s.ports.values()])
        if (name.startsWith('fwt') && !kept.has(`${s.dpid}/${name}`)) this.net.setTunnel(s.dpid, name, false);
    for (const s of this.net.switches.values()) this.net.connect(s);
    for (const h of this.hosts.values()) h.connect();
  }

  /** Whether databases of switches answer becomes known. */
  tellDatabases(): void {
    for (const dpid of this.net.switches.keys())
      this.push(`ovs ${dpid}`, { kind: 'ovsdb', dpid, isThere: !this.tunnelsFail });
  }

  /** Faults cease: all is mended, everybody is there, guests write nothing, and the policy is the default. */
  heal(): void {
    this.#isWell = true;
    this.queuesFail = false;
    this.tunnelsFail = false;
    this.tellDatabases();
    this.net.deaf.clear();
    for (const end of this.net.cables.keys()) this.net.setCable(end, true);
    for (const s of this.net.switches.values()) {
      s.isSilent = false;
      s.fate = 'applied';
      if (!s.isConnected || s.isStuck) this.net.connect(s);
    }
    for (const h of this.hosts.values()) {
      h.refuseNext = null;
      h.calm();
      // Who is there stays connected: what it refused, or did not answer in time, is asked of it again all the same.
      if (!h.isConnected) h.connect();
    }
    this.#settle();
    this.#overrides = 0;
    this.setPolicy(0);
    this.round(1000, 0.4);
  }

  /** Of migrations whose host does not come back, somebody gives up those that do not end by themselves. */
  giveUpLost(): void {
    for (const j of this.state.jobs.values()) {
      if (isFinal(j.state) || ![j.from, j.to].some((h) => this.hosts.get(h)?.isGone)) continue;
      if (isAllowed(() => checkCancel(this.state, j.id))) this.feed([{ kind: 'cancel', id: j.id }]);
      if (isAllowed(() => checkForget(this.state, j.id))) this.feed([{ kind: 'forget', id: j.id }]);
    }
  }

  open(): string[] {
    return [...this.state.jobs.values()]
      .filter((j) => !isFinal(j.state))
      .map((j) => `${j.id} is ${j.state} (awaiting ${j.awaiting}): ${j.note ?? ''}`);
  }
}
