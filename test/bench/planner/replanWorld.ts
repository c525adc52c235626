/**
 * A star of hypervisors around one switch for the benchmark of re-planning: switches that take everything, agents that obey at once,
 * copies that advance at the pace they are given. Only the core's own turns are timed. Beside `replan.ts`, which says what happens
 * in it. (`test/unit/controller/group.ts` has a star whose switches interpret what they are told; that would be the time measured.)
 */
import { performance } from 'node:perf_hooks';
import type { AgentMessage, GuestInfo } from '../../../contracts/agent.ts';
import { DEFAULT_POLICY, type PolicyDocument } from '../../../contracts/policy.ts';
import { randomFrom } from '../../../contracts/random.ts';
import type { Effect, Event } from '../../../controller/core/events.ts';
import { type ControllerState, initialState, type Job } from '../../../controller/core/state.ts';
import { stepAll } from '../../../controller/core/step.ts';
import { makeSeal } from '../../../controller/io/seal.ts';
import { compilePolicy } from '../../../policies/index.ts';

const CORE = 'c0'.padStart(16, '0');
const UPLINK = 1;
const FIRST_TAP = 10;
const LOCAL = 0xfffffffe;
const LINK_BPS = 10e9;
const MEMORY_MIB = [16_384, 32_768, 65_536];
const STEP_MS = 500;
/** How often agents tell of their copies. */
const PROGRESS_MS = 1000;

const dpidOf = (h: number) => h.toString(16).padStart(16, '0');
const ipOf = (h: number) => `10.0.0.${h}`;

const switchUp = (dpid: string, ports: readonly (readonly [number, string])[]): Event => ({
  ...{ kind: 'switchUp', dpid, maxMeters: 0, flows: [], meterIds: [] },
  ports: ports.map(([portNo, name]) => ({
    ...{ portNo, name, isUp: true, speedBps: LINK_BPS },
    hwAddr: `0e:00:00:${dpid.slice(-2)}:00:${(portNo & 0xff).toString(16).padStart(2, '0')}`,
  })),
});

interface Copy {
  job: Job;
  leftBytes: number;
  sentBytes: number;
  rateBps: number;
}

/** One turn of the core: how long it took, and whether it planned anew and for how many. */
export interface TimedTurn {
  event: Event['kind'];
  ms: number;
  cpuMs: number;
  /** Text of the planning decision; null when the plan stayed as it was. */
  planned: string | null;
  waiting: number;
}

export class ReplanWorld {
  state: ControllerState;
  nowMs = 1_000_000;
  readonly turns: TimedTurn[] = [];
  readonly hosts: number;
  /** By host, Mbit/s: workload leaving its uplink. */
  readonly workloadMbps: number[];
  readonly #copies = new Map<string, Copy>();
  readonly #guests: GuestInfo[][];
  readonly #sentBytes = new Map<number, number>();
  #revision = 1;

  constructor(hosts: number, guests: number, seed: number) {
    this.hosts = hosts;
    const draw = randomFrom(seed);
    const status = { state: 'accepted' as const, revision: 1, reason: '', atMs: 0 };
    this.state = initialState(
      {
        ...{ version: 'bench', forwarding: 'managed', policyStore: 'memory', defaultCapacityBps: LINK_BPS },
        ...{ capacityOf: () => LINK_BPS, nameOf: () => undefined, hasQueues: () => true },
        seal: makeSeal(Buffer.alloc(32, 7)),
      },
      compilePolicy(DEFAULT_POLICY),
      status,
      this.nowMs,
    );
    this.workloadMbps = Array.from({ length: hosts }, () => Math.round(1000 + draw() * 4000));
    this.#guests = Array.from({ length: hosts }, () => []);
    for (let i = 0; i < guests; i++) {
      const here = this.#guests[i % hosts] as GuestInfo[];
      const mac = `52:54:00:00:${Math.floor(i / 256)
        .toString(16)
        .padStart(2, '0')}:${(i % 256).toString(16).padStart(2, '0')}`;
      here.push({
        ...{ state: 'running', portName: `tap${here.length}` },
        spec: {
          ...{ name: `g${i}`, mac, vcpus: 1, machine: 'pc', accel: 'emulated' },
          memoryMiB: MEMORY_MIB[Math.floor(draw() * MEMORY_MIB.length)] as number,
        },
      });
    }
    const perHost = Math.ceil(guests / hosts);
    const all = Array.from({ length: hosts }, (_x, i) => i + 1);
    const taps = Array.from({ length: perHost }, (_x, i) => [FIRST_TAP + i, `tap${i}`] as const);
    this.feed(
      ...all.map((h) => switchUp(dpidOf(h), [[UPLINK, 'up'], ...taps, [LOCAL, 'br0']])),
      switchUp(
        CORE,
        all.map((h) => [h, `to-hv${h}`] as const),
      ),
    );
    for (let i = 0; i < 3; i++) this.pass();
    this.feed(...all.map((h) => this.#agentUp(h)));
    for (let i = 0; i < 3; i++) this.pass();
    const links = this.state.topology.links.size;
    if (links !== 2 * hosts) throw new Error(`${links} of ${2 * hosts} links were found`);
  }

  #agentUp(h: number): Event {
    return {
      ...{ kind: 'agentUp', host: `hv${h}` },
      hello: {
        ...{ type: 'hello', protocol: 'fairway-agent/1', host: `hv${h}`, dpid: dpidOf(h), migrationIp: ipOf(h) },
        ...{ migrationPort: 'br0', driver: 'emulated', migrations: [], guests: this.#guests[h - 1] ?? [] },
        techniques: ['pre-copy', 'post-copy', 'hybrid'],
      },
    };
  }

  /** One turn, timed, and whatever follows from it until nothing does. */
  feed(...events: Event[]): void {
    const waiting = [events];
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const before = this.state;
      const cpu = process.cpuUsage();
      const began = performance.now();
      const { state, effects } = stepAll(before, next, this.nowMs);
      const ms = performance.now() - began;
      const { user, system } = process.cpuUsage(cpu);
      this.state = state;
      const isNew = state.plan !== null && state.plan.revision !== before.plan?.revision;
      this.turns.push({
        ...{ event: next[0]?.kind as Event['kind'], ms, cpuMs: (user + system) / 1000 },
        planned: isNew ? (state.decisions.findLast((d) => d.kind === 'planning')?.reason.text ?? '') : null,
        waiting: isNew
          ? [...state.jobs.values()].filter((j) => j.state === 'queued' || j.state === 'requested').length
          : 0,
      });
      for (const e of effects) waiting.push(...this.#answerTo(e));
    }
  }

  #answerTo(e: Effect): Event[][] {
    switch (e.kind) {
      case 'write':
        return [[{ kind: 'written', dpid: e.dpid, batch: e.batch, outcome: 'applied', errors: [] }]];
      case 'qos':
        return [[{ kind: 'qosDone', link: e.link, serial: e.serial, enforcement: 'queue', note: '' }]];
      case 'packetOut': {
        const isCore = e.dpid === CORE;
        if (!isCore && e.portNo !== UPLINK) return [];
        const dpid = isCore ? dpidOf(e.portNo) : CORE;
        const inPort = isCore ? UPLINK : Number.parseInt(e.dpid, 16);
        return [[{ kind: 'packetIn', dpid, inPort, frame: e.frame }]];
      }
      case 'command': {
        const value = this.#obey(e.migration, e.command);
        return [[{ kind: 'commandDone', host: e.host, migration: e.migration, step: e.command.do, ok: true, value }]];
      }
      default:
        return [];
    }
  }

  #obey(id: string, c: Extract<Effect, { kind: 'command' }>['command']): unknown {
    if (c.do === 'measureDirtyRate') return { dirtyBytesPerS: 0 };
    const job = this.state.jobs.get(id) as Job;
    if (c.do === 'prepare') {
      return { address: ipOf(Number(job.to.slice(2))), port: 1024 + job.number, portName: 'incoming' };
    }
    if (c.do === 'start') {
      const leftBytes = job.spec.memoryMiB * 2 ** 20;
      this.#copies.set(id, { job, leftBytes, sentBytes: 0, rateBps: c.bandwidthBps });
    } else if (c.do === 'setBandwidth') {
      const copy = this.#copies.get(id);
      if (copy) copy.rateBps = c.bandwidthBps;
    }
    return {};
  }

  /** Asks for all guests to move, each to the host half way round, as one plan. */
  moveAll(seed: number): void {
    const draw = randomFrom(seed);
    const moves = this.#guests.flatMap((list, h) =>
      list.map(({ spec }) => ({
        ...{ guest: spec.name, priority: (['high', 'medium', 'low'] as const)[Math.floor(draw() * 3)] ?? 'low' },
        destination: `hv${((h + 1 + Math.floor(draw() * (this.hosts - 1))) % this.hosts) + 1}`,
      })),
    );
    const ids = moves.map((m) => `m-${m.guest}`);
    this.feed({ kind: 'migrate', request: { moves, priority: 'medium', planned: true }, ids, group: 'g' });
  }

  setPolicy(change: (doc: PolicyDocument) => PolicyDocument): void {
    const policy = compilePolicy(change(this.state.policy.doc));
    const status = { state: 'accepted' as const, revision: ++this.#revision, reason: '', atMs: this.nowMs };
    this.feed({ kind: 'policyChanged', policy, status });
  }

  /** Copies under way. */
  copies(): string[] {
    return [...this.#copies.keys()];
  }

  /** A copy fails, or has been far quicker than could be known. */
  endCopy(id: string, how: 'failed' | 'completed'): void {
    const copy = this.#copies.get(id);
    if (!copy) return;
    this.#copies.delete(id);
    const say = (host: string, event: Extract<AgentMessage, { type: 'event' }>['event']): void =>
      this.feed({ kind: 'agentMessage', host, message: { type: 'event', migration: id, event } });
    const { from, to } = copy.job;
    if (how === 'completed') {
      say(from, 'preSwitchover');
      say(to, 'resumed');
    }
    say(from, how);
  }

  /** Half a second: copies advance and are told of, counters are read. */
  pass(): void {
    this.nowMs += STEP_MS;
    const sliced = new Map<number, number>();
    for (const [id, c] of [...this.#copies]) {
      const bytes = Math.min(c.leftBytes, (c.rateBps / 8000) * STEP_MS);
      c.leftBytes -= bytes;
      c.sentBytes += bytes;
      const from = Number(c.job.from.slice(2));
      sliced.set(from, (sliced.get(from) ?? 0) + bytes);
      if (c.leftBytes <= 0) {
        this.endCopy(id, 'completed');
        continue;
      }
      if (this.nowMs % PROGRESS_MS !== 0) continue;
      const totals = {
        transferredBytes: c.sentBytes,
        remainingBytes: c.leftBytes,
        totalBytes: c.sentBytes + c.leftBytes,
      };
      const progress = {
        phase: 'pre-copy' as const,
        elapsedMs: 1,
        passes: 1,
        rateBps: c.rateBps,
        dirtyBytesPerS: 0,
        ...totals,
      };
      this.feed({ kind: 'agentMessage', host: c.job.from, message: { type: 'progress', migration: id, progress } });
    }
    for (let h = 1; h <= this.hosts; h++) {
      const bytes = ((this.workloadMbps[h - 1] ?? 0) * 1e6 * STEP_MS) / 8000;
      this.#sentBytes.set(h, (this.#sentBytes.get(h) ?? 0) + bytes + (sliced.get(h) ?? 0));
    }
    const counters = (dpid: string, ports: { portNo: number; rxBytes: number; txBytes: number }[]): Event => ({
      ...{ kind: 'counters', dpid, ports, queues: [], flows: [] },
    });
    const of = (h: number) => this.#sentBytes.get(h) ?? 0;
    const each = Array.from({ length: this.hosts }, (_x, i) => i + 1);
    this.feed(
      ...each.map((h) => counters(dpidOf(h), [{ portNo: UPLINK, rxBytes: 0, txBytes: of(h) }])),
      counters(
        CORE,
        each.map((h) => ({ portNo: h, rxBytes: of(h), txBytes: 0 })),
      ),
    );
    this.feed({ kind: 'sampled' });
    this.feed({ kind: 'tick' });
  }
}
