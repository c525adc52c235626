/**
 * Small data centres in which guests are moved, made from a number, for measuring what explanations say of the end: a core that
 * works as it should, switches and hosts of `fullCore/` without faults, copies that advance as `agent/core/fluidCopy.ts` has it,
 * and a clock that is moved by hand. What the controller cannot know is drawn: how far off a measured dirty rate is, how the
 * workload goes up and down, and who else is asked for later. `measure.ts` compares what was said with what came.
 */
import { PRIORITIES, type Priority, type Technique } from '../../../contracts/common.ts';
import { randomFrom } from '../../../contracts/random.ts';
import type { MigrateRequest } from '../../../contracts/rest.ts';
import { QUEUE } from '../../../controller/core/desired.ts';
import type { Effect, Event } from '../../../controller/core/events.ts';
import { explainJob } from '../../../controller/core/explain.ts';
import { type ControllerState, initialState, type Job } from '../../../controller/core/state.ts';
import { stepAll } from '../../../controller/core/step.ts';
import { Host } from '../fullCore/hosts.ts';
import { cheapSeal, LOCAL_PORT, Network } from '../fullCore/network.ts';
import { POLICIES } from '../fullCore/policies.ts';

/** The controller's tick; copies advance and orders are carried out this often. */
const STEP_MS = 250;
/** Agents report progress this often, counters are read this often, and what is said is noted this often. */
const REPORT_MS = 500;
const SAMPLE_MS = 1000;
const READING_MS = 500;
/** The workload changes this often, each time by a factor between these. */
const CHANGE_MS = 3000;
const CHANGE = [0.85, 1.18] as const;
/** A measured dirty rate is the true one times a factor between these. */
const MEASURED = [0.75, 1.33] as const;
/** How long agents take for what takes long, ms. */
const TAKES_MS: Readonly<Record<string, number>> = { measureDirtyRate: 1000, prepare: 300, setBandwidth: 100 };
/** Bytes on the wire for each byte of the stream. */
const FRAMES = 1514 / 1448;
const MAX_MS = 600_000;

/** What was said of one migration at one moment; times in ms. */
export interface Reading {
  story: number;
  migration: string;
  atMs: number;
  priority: Priority;
  technique: Technique | null;
  state: 'waiting' | 'preparing' | 'copying' | 'switching';
  basis: string;
  isPlanned: boolean;
  /** Null: that it ends was not said. */
  said: { expectedMs: number; earliestMs: number; latestMs: number } | null;
  endedMs: number;
  /** Somebody else was asked for between then and the end. */
  isSurprised: boolean;
}

type Draw = () => number;
const between = (draw: Draw, [a, b]: readonly [number, number]): number => a + (b - a) * draw();
const oneOf = <T>(draw: Draw, list: readonly T[]): T => list[Math.floor(draw() * list.length)] as T;
const dpidOf = (n: number) => n.toString(16).padStart(16, '0');

class Story {
  state: ControllerState;
  nowMs = 1_000_000;
  readonly readings: (Omit<Reading, 'endedMs' | 'isSurprised'> & { job: string })[] = [];
  readonly requests: { atMs: number; request: MigrateRequest }[] = [];
  readonly #seed: number;
  readonly #draw: Draw;
  readonly #net: Network;
  readonly #hosts = new Map<string, Host>();
  readonly #events: Event[] = [];
  readonly #orders: {
    dueMs: number;
    host: string;
    migration: string;
    command: Parameters<Host['inbox']['push']>[0];
  }[] = [];
  /** What the workload of each port wants, as a share of its speed, by link. */
  readonly #wanted = new Map<string, number>();
  readonly #isSteady: boolean;

  constructor(seed: number) {
    this.#seed = seed;
    this.#draw = randomFrom(seed * 7919 + 17);
    this.#isSteady = this.#draw() < 0.33;
    this.#net = new Network(
      (_channel, e) => this.#push(e),
      () => this.nowMs,
    );
    const status = { state: 'accepted' as const, revision: 1, reason: '', atMs: 0 };
    const settings = {
      ...{ version: 'test', forwarding: 'managed' as const, capacityOf: () => undefined, defaultCapacityBps: 1e9 },
      ...{ nameOf: () => undefined, hasQueues: () => true, policyStore: 'memory' as const, seal: cheapSeal(0) },
    };
    const policy = POLICIES[0];
    if (policy === undefined) throw new Error('there is no policy');
    this.state = initialState(settings, policy, status, this.nowMs);
    this.#build();
    for (const s of this.#net.switches.values()) this.#net.connect(s);
    for (const h of this.#hosts.values()) h.connect();
    this.#settle();
    for (let i = 0; i < 28; i++) this.#step();
  }

  /** A star of hosts' switches, or two stars that a trunk joins. */
  #build(): void {
    const draw = this.#draw;
    const speed = oneOf(draw, [200e6, 1e9]);
    const hosts = 3 + Math.floor(draw() * 2);
    const cores = draw() < 0.5 ? 1 : 2;
    const count = 1 + Math.floor(draw() * 6);
    const names = Array.from({ length: count }, (_, i) => `g${i}`);
    const taps = names.map((name, i) => [100 + i, `tap-${name}`, 10e9] as const);
    const has = { meters: true, groups: false };
    for (let c = 0; c < cores; c++) {
      const ports = Array.from({ length: hosts }, (_, h) => [h + 1, `to-hv${h}`, speed] as const);
      this.#net.add(dpidOf(0xc0 + c), [...ports, [90, 'trunk', speed]], has);
    }
    for (let h = 0; h < hosts; h++) {
      this.#net.add(dpidOf(h + 1), [[1, 'up', speed], [LOCAL_PORT, 'br0', 10e9], ...taps], has);
      this.#net.cable(`${dpidOf(h + 1)}:1`, `${dpidOf(0xc0 + (h % cores))}:${h + 1}`);
    }
    if (cores === 2) this.#net.cable(`${dpidOf(0xc0)}:90`, `${dpidOf(0xc1)}:90`);
    for (const end of this.#net.cables.keys()) this.#wanted.set(end, between(draw, [0.05, 0.7]));
    const underlay = {
      push: (_channel: string, e: Event) => this.#push(e),
      now: () => this.nowMs,
      hosts: this.#hosts,
      sessions: this.#net.sessions,
    };
    for (let h = 0; h < hosts; h++) {
      const o = { host: `hv${h}`, dpid: dpidOf(h + 1), migrationIp: `10.0.0.${h + 1}`, migrationPort: 'br0' };
      const techniques: Technique[] = ['pre-copy', 'post-copy', 'hybrid', 'stop-and-copy'];
      const more = { limits: {}, guestMemoryMiB: undefined, techniques, abilities: undefined };
      this.#hosts.set(o.host, new Host({ ...o, ...more }, underlay));
    }
    this.#guests(names, speed);
    this.#ask(names, hosts);
  }

  #guests(names: readonly string[], speedBps: number): void {
    const draw = this.#draw;
    for (const [i, name] of names.entries()) {
      const memoryMiB = oneOf(draw, [128, 256, 512, 1024]) / (speedBps < 1e9 ? 4 : 1);
      // Half of them leave the same host.
      const from = draw() < 0.5 ? 0 : Math.floor(draw() * this.#hosts.size);
      const dirtyBytesPerS = (oneOf(draw, [0, 0.01, 0.05, 0.1, 0.25]) * speedBps) / 8;
      (this.#hosts.get(`hv${from}`) as Host).launch({
        ...{ name, mac: `52:54:00:00:00:${(i + 16).toString(16)}`, memoryMiB, vcpus: 1, machine: 'pc' },
        ...{ accel: 'emulated', ip: `10.0.1.${i + 1}`, dirtyPagesPerS: Math.round(dirtyBytesPerS / 4096) },
        workingSetMiB: memoryMiB * oneOf(draw, [0.1, 0.25, 0.5]),
      });
    }
  }

  /** One request for all, or several, some of them later. */
  #ask(names: readonly string[], hosts: number): void {
    const draw = this.#draw;
    const strategy = oneOf(draw, [undefined, undefined, 'serial', 'parallel'] as const);
    const isPlanned = draw() < 0.4;
    const isLater = draw() < 0.4;
    const at = (i: number) => (isLater && i > 0 && draw() < 0.5 ? Math.floor(draw() * 15) * 1000 : 0);
    const moves = names.map((guest, i) => {
      const from = [...this.#hosts.values()].findIndex((h) => h.guests.has(guest));
      const destination = `hv${(from + 1 + Math.floor(draw() * (hosts - 1))) % hosts}`;
      const move = { guest, destination, priority: oneOf(draw, PRIORITIES) };
      const technique = oneOf(draw, [undefined, undefined, 'pre-copy', 'post-copy', 'hybrid'] as const);
      return { atMs: at(i), technique, move };
    });
    const key = (m: (typeof moves)[number]) => `${m.atMs} ${m.technique}`;
    for (const k of [...new Set(moves.map(key))]) {
      const list = moves.filter((m) => key(m) === k);
      const [{ atMs, technique }] = list as [(typeof moves)[number]];
      const how = isPlanned ? { planned: true } : strategy === undefined ? {} : { strategy };
      const request: MigrateRequest = {
        ...{ moves: list.map((m) => m.move), priority: 'medium' },
        ...(technique === undefined ? {} : { technique }),
        ...how,
      };
      this.requests.push({ atMs, request });
    }
    this.requests.sort((a, b) => a.atMs - b.atMs);
  }

  #push(e: Event): void {
    if (e.kind === 'agentMessage' && e.message.type === 'progress') {
      const at = Number(e.host.slice(2)) * STEP_MS;
      if ((this.nowMs + at) % REPORT_MS !== 0) return;
    }
    if (e.kind === 'commandDone' && e.step === 'measureDirtyRate' && e.ok) {
      const { dirtyBytesPerS } = e.value as { dirtyBytesPerS: number };
      this.#events.push({ ...e, value: { dirtyBytesPerS: dirtyBytesPerS * between(this.#draw, MEASURED) } });
      return;
    }
    this.#events.push(e);
  }

  #feed(events: readonly Event[]): void {
    for (const e of events) {
      const session = this.#net.sessions.get(e) ?? -1;
      if (e.kind === 'switchUp') this.#switch(e.dpid).toldSession = session;
      else if (e.kind === 'agentUp') (this.#hosts.get(e.host) as Host).toldSession = session;
    }
    const { state, effects } = stepAll(this.state, events, this.nowMs);
    this.state = state;
    for (const e of effects) this.#carryOut(e);
  }

  #switch(dpid: string) {
    const s = this.#net.switches.get(dpid);
    if (s === undefined) throw new Error(`there is no switch ${dpid}`);
    return s;
  }

  #carryOut(e: Effect): void {
    if (e.kind === 'write') this.#net.write(e.dpid, e.batch, e.messages);
    else if (e.kind === 'packetOut') this.#net.packetOut(e.dpid, e.portNo, e.frame);
    else if (e.kind === 'qos')
      this.#push({ kind: 'qosDone', link: e.link, serial: e.serial, enforcement: 'queue', note: '' });
    else if (e.kind === 'command') {
      const { host, migration, command } = e;
      const dueMs = this.nowMs + (TAKES_MS[command.do] ?? 0);
      this.#orders.push({ dueMs, host, migration, command: { migration, command } });
    }
  }

  /** Delivers what waits, and carries out what is due. */
  #settle(): void {
    for (let n = 0; n < 20_000; n++) {
      const events = this.#events.splice(0);
      if (events.length > 0) this.#feed(events);
      const at = this.#orders.findIndex((o) => o.dueMs <= this.nowMs);
      if (at < 0 && this.#events.length === 0) return;
      const [order] = at < 0 ? [] : this.#orders.splice(at, 1);
      const host = order && this.#hosts.get(order.host);
      if (order === undefined || host === undefined) continue;
      host.inbox.push(order.command);
      host.work();
    }
    throw new Error('events and answers go on for ever');
  }

  /** The workload sends what it wants, as far as the copies leave it room. */
  #load(): void {
    const used = new Map<string, number>();
    for (const h of this.#hosts.values())
      for (const { id, payloadBps } of h.paces())
        for (const link of this.state.jobs.get(id)?.links ?? [])
          used.set(link, (used.get(link) ?? 0) + payloadBps * FRAMES);
    // What goes up and down is the workload of each cable; the switches count it where it leaves.
    for (const s of this.#net.switches.values()) this.#net.read(s);
    this.#events.splice(0, this.#events.length, ...this.#events.filter((e) => e.kind !== 'counters'));
    for (const [link, share] of this.#wanted) {
      const port = this.#net.at(link)?.port;
      const far = this.#net.at(this.#net.cables.get(link) ?? '')?.port;
      if (!port || !far) continue;
      port.txBps = Math.min(share * port.speedBps, Math.max(0, port.speedBps - (used.get(link) ?? 0)));
      far.rxBps = port.txBps;
    }
  }

  #step(): void {
    this.#load();
    this.nowMs += STEP_MS;
    for (const h of this.#hosts.values())
      for (const { id, bytes } of h.advance(STEP_MS)) {
        const job = this.state.jobs.get(id);
        if (job && bytes > 0) this.#net.carry(bytes * FRAMES, job, QUEUE[job.priority]);
      }
    this.#settle();
    if (this.nowMs % SAMPLE_MS === 0) {
      for (const s of this.#net.switches.values()) this.#net.read(s);
      this.#settle();
      this.#feed([{ kind: 'sampled' }]);
    }
    this.#feed([{ kind: 'tick' }]);
    this.#settle();
    if (!this.#isSteady && this.nowMs % CHANGE_MS === 0)
      for (const [link, share] of this.#wanted)
        this.#wanted.set(link, Math.min(0.8, Math.max(0.02, share * between(this.#draw, CHANGE))));
  }

  #read(): void {
    const kinds: Partial<Record<Job['state'], Reading['state']>> = {
      ...{ requested: 'waiting', queued: 'waiting', admitted: 'preparing', preparing: 'preparing' },
      ...{ copying: 'copying', switching: 'switching' },
    };
    for (const job of this.state.jobs.values()) {
      const kind = kinds[job.state];
      if (kind === undefined || job.copyEnded) continue;
      const { end } = explainJob(this.state, job, this.nowMs);
      this.readings.push({
        ...{ story: this.#seed, migration: job.id, job: job.id, atMs: this.nowMs, priority: job.priority },
        ...{ technique: job.technique, state: job.isHeld ? 'waiting' : kind, isPlanned: job.isPlanned },
        basis: end?.basis ?? 'none',
        said:
          end === null
            ? null
            : {
                expectedMs: end.expectedAtMs,
                earliestMs: end.earliestAtMs,
                latestMs: end.latestAtMs ?? Number.POSITIVE_INFINITY,
              },
      });
    }
  }

  run(): Reading[] {
    const beganMs = this.nowMs;
    const open = [...this.requests];
    const askedMs: number[] = [];
    let next = 1;
    while (this.nowMs - beganMs < MAX_MS) {
      while ((open[0]?.atMs ?? Number.POSITIVE_INFINITY) <= this.nowMs - beganMs) {
        const { request } = open.shift() as Story['requests'][number];
        const ids = request.moves.map((m) => `m-${m.guest}`);
        this.#feed([{ kind: 'migrate', request, ids, group: ids.length > 1 ? `group${next++}` : null }]);
        askedMs.push(this.nowMs);
      }
      this.#step();
      if (this.nowMs % READING_MS === 0) this.#read();
      const jobs = [...this.state.jobs.values()];
      if (open.length === 0 && jobs.every((j) => j.copyEnded || j.state === 'failed')) break;
    }
    return this.readings.flatMap(({ job, ...r }): Reading[] => {
      const { endedAtMs, copyEnded } = this.state.jobs.get(job) as Job;
      if (endedAtMs === null || !copyEnded) return [];
      const isSurprised = askedMs.some((ms) => ms > r.atMs && ms < endedAtMs);
      return [{ ...r, endedMs: endedAtMs, isSurprised }];
    });
  }
}

/** Plays the story of a number; all that was said in it, with what came of it. */
export const playStory = (seed: number): Reading[] => new Story(seed).run();
