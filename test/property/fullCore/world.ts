/**
 * The whole core in a world of switches, cables, hosts and guests, made from a few numbers: for the property that holds at
 * every step. What happens waits in channels (one for each connection, in order) until it is delivered, so that anything may
 * overtake anything else; faults come as actions. Every event and every effect passes through `feed`, which has them
 * checked (`checks.ts`) and remembers them, so that the same events can be played again. Neighbours: `network.ts`, `hosts.ts`.
 */
import { FairwayError, isFinal, PRIORITIES, type Strategy, TECHNIQUES } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { randomFrom } from '../../../contracts/random.ts';
import type { MigrateRequest } from '../../../contracts/rest.ts';
import { QUEUE } from '../../../controller/core/desired.ts';
import type { Effect, Event, PortQos } from '../../../controller/core/events.ts';
import { checkCancel, checkRequest } from '../../../controller/core/jobs.ts';
import { checkForget } from '../../../controller/core/lost.ts';
import { restoreJobs } from '../../../controller/core/restore.ts';
import { type ControllerState, initialState, type Settings } from '../../../controller/core/state.ts';
import { stepAll } from '../../../controller/core/step.ts';
import { tunnelsWanted } from '../../../controller/core/tunnels.ts';
import { applyPolicyPatch, type CompiledPolicy, compilePolicy } from '../../../policies/index.ts';
import { arpPacket, buildFrame, rarpPacket } from '../../../sim/packet.ts';
import { Host } from './hosts.ts';
import { cheapSeal, LOCAL_PORT, Network, type SwitchModel, type WriteFate } from './network.ts';

/** What an operator may have written; all keep a more urgent migration entitled to at least as much. */
export const POLICIES: readonly CompiledPolicy[] = [
  {},
  { 'sla.default.floor': '30 %', 'sla.default.ceiling': '90 %', 'planning.minGroup': 2 },
  {
    'sla.default.floor': 0,
    'sla.default.ceiling': 0,
    'technique.allowed': '["pre-copy", "post-copy", "hybrid", "stop-and-copy"]',
  },
  { 'sla.default.floor': '100 %', 'sla.default.ceiling': '100 %' },
  { 'sla.default.floor': '80 %', 'sla.default.ceiling': '90 %', 'limits.perHostOut': 2, 'limits.perHostIn': 1 },
  { 'reservation.minSliceBps': 0, 'reservation.minStepShare': 0, 'discovery.silenceMs': 4000 },
  { 'reservation.minSliceBps': 40e6, 'reservation.weights.high': 8, 'finish.silenceMs': 500 },
].map((patch) => compilePolicy(applyPolicyPatch(DEFAULT_POLICY, patch)));

export interface Shape {
  /** 0: star; 1: two cores; 2: ring of hosts' switches; 3: hosts on two leaves below two spines. */
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
}

/** One thing that happens: what (0–999), and two numbers that say where and how. */
export type Action = readonly [number, number, number];

/** What can be played again. */
export type Played = { nowMs: number; events: readonly Event[] } | Life;
export interface Life {
  nowMs: number;
  /** What the life before wrote down. */
  journal: Record<string, unknown>[];
}

const SPEEDS = [100e6, 200e6, 1e9, 10e9];
const MEMORY_MIB = [16, 32, 64, 128];
const DIRTY_PAGES = [0, 0, 100, 2000, 20_000];
const REFUSALS = ['host-busy', 'guest-gone', 'internal', 'path-down'];
/** Frames are lost where more events wait than this. */
const MOST_WAITING = 40;
/** Events of one turn are delivered together at most this many. */
const BURST = 8;

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
  readonly #channels = new Map<string, Event[]>();
  readonly #journal: object[] = [];
  readonly #recent: Event[] = [];
  readonly #check: WorldOptions['check'];
  /** Nothing is lost: at the beginning, and since faults ceased. */
  #isWell = true;
  #queuesFail = false;
  #tunnelsFail = false;
  #nextId = 1;
  #waiting = 0;

  constructor(shape: Shape, o: WorldOptions) {
    this.shape = shape;
    this.#check = o.check;
    const push = (channel: string, e: Event) => this.#push(channel, e);
    this.net = new Network(push, () => this.nowMs);
    this.#build();
    this.state = this.#begin([]);
    for (const s of this.net.switches.values()) this.net.connect(s);
    for (const h of this.hosts.values()) h.connect();
    for (let i = 0; i < 5; i++) this.round(600, 0.4);
    this.#isWell = false;
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
      const cores = kind === 2 ? 0 : kind + 1;
      for (let h = 0; h < hosts; h++)
        this.net.add(own(h), [[1, 'up1', speed()], [2, 'up2', speed()], [LOCAL_PORT, 'br0', 10e9], ...taps], has);
      for (let c = 0; c < cores; c++) {
        const ports = Array.from({ length: hosts }, (_, h) => [h + 1, `to-hv${h}`, speed()] as const);
        this.net.add(core(c), ports, has);
        for (let h = 0; h < hosts; h++) this.net.cable(`${own(h)}:${c + 1}`, `${core(c)}:${h + 1}`);
      }
      if (kind === 2) for (let h = 0; h < hosts; h++) this.net.cable(`${own(h)}:1`, `${own((h + 1) % hosts)}:2`);
    }
    const underlay = {
      push: (channel: string, e: Event) => this.#push(channel, e),
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
          techniques: draw() < 0.2 ? ['pre-copy'] : ['pre-copy', 'post-copy', 'hybrid', 'stop-and-copy'],
        },
        underlay,
      );
      this.hosts.set(host.o.host, host);
    }
    for (const [i, name] of names.entries()) {
      this.guests.push(name);
      const memoryMiB = MEMORY_MIB[Math.floor(draw() * MEMORY_MIB.length)] as number;
      [...this.hosts.values()][Math.floor(draw() * hosts)]?.launch({
        ...{
          name,
          mac: `52:54:00:00:00:${(i + 16).toString(16)}`,
          memoryMiB,
          vcpus: 1,
          machine: 'pc',
          accel: 'emulated',
        },
        ip: `10.0.1.${i + 1}`,
        labels: { tier: draw() < 0.5 ? 'db' : 'web' },
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

  #push(channel: string, e: Event): void {
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
      this.#recent[this.steps++ % 64] = e;
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
        if (this.#queuesFail) {
          this.#push(`ovs ${e.dpid}`, { ...done, enforcement: 'pace', note: 'the database did not answer' });
          break;
        }
        if (e.qos) this.queues.set(e.link, e.qos);
        else {
          this.queues.delete(e.link);
          this.net.at(e.link)?.port.queued.clear();
        }
        this.#push(`ovs ${e.dpid}`, { ...done, enforcement: 'queue', note: '' });
        break;
      }
      case 'tunnel': {
        const done = { kind: 'tunnelDone' as const, dpid: e.dpid, name: e.name, serial: e.serial };
        if (!this.#tunnelsFail) this.net.setTunnel(e.dpid, e.name, e.port !== null);
        const note = this.#tunnelsFail ? 'the database did not answer' : '';
        this.#push(`ovs ${e.dpid}`, { ...done, note, mtus: {} });
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
  #deliver(nth: number, burst = 1): boolean {
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

  #pass(ms: number): void {
    this.nowMs += ms;
    for (const h of this.hosts.values()) {
      for (const { id, bytes } of h.advance(ms)) {
        const job = this.state.jobs.get(id);
        if (job && bytes > 0) this.net.carry(bytes, job, QUEUE[job.priority]);
      }
    }
  }

  /** A second or so in which everything works: whatever waits is delivered and done. */
  round(ms: number, load: number): void {
    this.net.setWorkload(randomFrom(this.steps), load);
    this.#pass(ms);
    this.#settle();
    for (const s of this.net.switches.values()) this.net.read(s);
    this.#settle();
    this.feed([{ kind: 'sampled' }]);
    this.feed([{ kind: 'tick' }]);
    this.#settle();
  }

  #settle(): void {
    for (let n = 0; n < 20_000; n++) {
      let isBusy = this.#deliver(0);
      for (const h of this.hosts.values()) {
        isBusy ||= h.inbox.length > 0;
        h.work();
      }
      if (!isBusy) return;
    }
    throw new Error('events and answers go on for ever');
  }

  // ---- what happens

  perform([what, a, b]: Action): void {
    const nth = <T>(list: Iterable<T>, n: number): T | undefined => {
      const all = [...list];
      return all[n % Math.max(1, all.length)];
    };
    const s = () => nth(this.net.switches.values(), a) as SwitchModel;
    const h = () => nth(this.hosts.values(), a) as Host;
    const job = () =>
      nth(
        [...this.state.jobs.values()].filter((j) => !isFinal(j.state)),
        a,
      );
    const port = () => nth(this.net.cables.keys(), a) as string;
    if (what < 480) this.#deliver(a, b % 4 === 0 ? 1 + (a % BURST) : 1);
    else if (what < 640) {
      const busy = nth(
        [...this.hosts.values()].filter((x) => x.inbox.length > 0),
        a,
      );
      if (busy) busy.work();
      else this.#deliver(a);
    } else if (what < 780) {
      this.#pass(1 + (b % 1500));
      this.feed([{ kind: 'tick' }]);
    } else if (what < 840) {
      this.net.setWorkload(randomFrom(b), 1);
      for (const x of this.net.switches.values()) this.net.read(x);
      if (b % 3 > 0) this.feed([{ kind: 'sampled' }]);
    } else if (what < 890) this.#ask(a, b);
    else if (what < 896) {
      const id = job()?.id;
      if (id === undefined) return;
      const isForgotten = this.#tryTo(() => checkForget(this.state, id)) && b % 2 === 0;
      if (isForgotten) this.feed([{ kind: 'forget', id }]);
      else if (this.#tryTo(() => checkCancel(this.state, id))) this.feed([{ kind: 'cancel', id }]);
    } else if (what < 906) {
      if (s().isConnected) this.net.disconnect(s());
      else this.net.connect(s(), b % 4 === 0);
    } else if (what < 912) s().isSilent = !s().isSilent;
    else if (what < 922) {
      const end = port();
      this.net.setCable(end, this.net.at(end)?.port.isUp === false);
    } else if (what < 926) {
      if (!this.net.deaf.delete(port())) this.net.deaf.add(port());
    } else if (what < 932) {
      const at = this.net.at(port());
      if (at) {
        at.port.speedBps = SPEEDS[b % SPEEDS.length] as number;
        this.net.tellPort(at.s, at.portNo, 'modified');
      }
    } else if (what < 946) {
      const draw = randomFrom(b);
      if (h().isConnected) h().disconnect(() => draw() < 0.5);
      else h().connect();
    } else if (what < 954) {
      const copies = [...this.hosts.values()].flatMap((x) => x.copies().map((id) => ({ x, id })));
      const c = nth(copies, a);
      c?.x.break(c.id);
    } else if (what < 960) s().fate = (['refused', 'full', 'lost'] as WriteFate[])[b % 3] as WriteFate;
    else if (what < 964) this.#queuesFail = !this.#queuesFail;
    else if (what < 967) this.#tunnelsFail = !this.#tunnelsFail;
    else if (what < 974) this.setPolicy(b % POLICIES.length);
    else if (what < 975) this.#refusePolicy();
    else if (what < 985) this.#again(a);
    else if (what < 989) h().refuseNext = REFUSALS[b % REFUSALS.length] as string;
    else if (what < 993) h().timeOut(b % 2 === 0);
    else if (what < 998) this.#frame(a, b);
    else this.restart();
  }

  /** What checks say no to is not asked for. */
  #tryTo(check: () => void): boolean {
    try {
      check();
      return true;
    } catch (error) {
      if (error instanceof FairwayError) return false;
      throw error;
    }
  }

  #ask(a: number, b: number): void {
    const draw = randomFrom(a * 65_536 + b);
    const of = <T>(list: readonly T[]): T => list[Math.floor(draw() * list.length)] as T;
    const share = draw() < 0.6 ? 0.3 : 1;
    const idle = this.guests.filter(
      (g) => ![...this.state.jobs.values()].some((j) => j.guest === g && !isFinal(j.state)),
    );
    const names = idle.filter(() => draw() < share);
    if (names.length === 0) return;
    const at = (name: string) => [...this.hosts.values()].find((h) => h.guests.get(name)?.state === 'running')?.o.host;
    const to = of([...this.hosts.keys()]);
    const request: MigrateRequest = {
      moves: names
        .map((guest) => ({
          guest,
          destination: draw() < 0.7 ? to : of([...this.hosts.keys()]),
          ...(draw() < 0.5 ? { priority: of(PRIORITIES) } : {}),
        }))
        .filter((m) => at(m.guest) !== m.destination),
      priority: of(PRIORITIES),
      ...(draw() < 0.1 ? { technique: of(TECHNIQUES) } : {}),
      ...(draw() < 0.1 ? { strategy: of<Strategy>(['serial', 'parallel']) } : {}),
      ...(draw() < 0.2 ? { deadlineMs: 5000 + Math.floor(draw() * 60_000) } : {}),
      ...(draw() < 0.3 ? { planned: true } : {}),
    };
    if (request.moves.length === 0 || !this.#tryTo(() => checkRequest(this.state, request))) return;
    const ids = request.moves.map((m) => `m${this.#nextId++}-${m.guest}`);
    this.feed([{ kind: 'migrate', request, ids, group: ids.length > 1 ? `g${this.#nextId}` : null }]);
  }

  setPolicy(n: number): void {
    const revision = this.state.policyStatus.revision + 1;
    const status = { state: 'accepted' as const, revision, reason: '', atMs: this.nowMs };
    this.feed([{ kind: 'policyChanged', policy: POLICIES[n] as CompiledPolicy, status }]);
  }

  #refusePolicy(): void {
    const { revision } = this.state.policyStatus;
    const status = { state: 'refused' as const, revision, reason: 'it makes no sense', atMs: this.nowMs };
    this.feed([{ kind: 'policyRefused', status }]);
  }

  /** Something that was heard lately is heard again. What a connection keeps in order cannot be. */
  #again(n: number): void {
    const old = this.#recent[n % 64];
    if (
      !old ||
      !['agentMessage', 'commandDone', 'qosDone', 'tunnelDone', 'written', 'counters', 'packetIn'].includes(old.kind)
    )
      return;
    if (old.kind === 'agentMessage' && old.message.type === 'guests') return;
    this.feed([old]);
  }

  /** A frame of somebody: an announcement of a guest at a port, or a stranger’s. */
  #frame(a: number, b: number): void {
    const s = [...this.net.switches.values()][a % this.net.switches.size] as SwitchModel;
    const guest = this.guests[b % this.guests.length] as string;
    const spec = [...this.hosts.values()].map((h) => h.guests.get(guest)?.spec).find((x) => x !== undefined);
    const ports = [...s.ports].filter(([no]) => no < LOCAL_PORT);
    const inPort = (ports[b % Math.max(1, ports.length)] ?? [1])[0];
    const own = [...s.ports].find(([, p]) => p.name === `tap-${guest}`)?.[0];
    const stranger = arpPacket({
      op: 1,
      sha: `02:00:00:00:00:${(a % 200).toString(16).padStart(2, '0')}`,
      spa: '10.9.9.9',
      tpa: '10.9.9.1',
    });
    const packet = a % 2 === 0 && spec ? rarpPacket(spec.mac) : stranger;
    if (s.isConnected)
      this.#push(s.dpid, {
        kind: 'packetIn',
        dpid: s.dpid,
        inPort: a % 4 < 2 ? (own ?? inPort) : inPort,
        frame: buildFrame(packet),
      });
  }

  /** The controller dies and comes back with its journal; everybody connects anew. */
  restart(): void {
    for (const c of this.#channels.values()) c.splice(0);
    this.#waiting = 0;
    this.#recent.length = 0;
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

  /** Faults cease: all is mended, everybody is there, guests write nothing, and the policy is the default. */
  heal(): void {
    this.#isWell = true;
    this.#queuesFail = false;
    this.#tunnelsFail = false;
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
      h.connect();
    }
    this.#settle();
    this.setPolicy(0);
    this.round(1000, 0.4);
  }

  open(): string[] {
    return [...this.state.jobs.values()]
      .filter((j) => !isFinal(j.state))
      .map((j) => `${j.id} is ${j.state} (awaiting ${j.awaiting}): ${j.note ?? ''}`);
  }
}
