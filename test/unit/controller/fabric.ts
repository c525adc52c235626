/**
 * A network in memory for tests of `controller/core`: switches that interpret the core's writes with the pipeline of
 * `sim/switch`, cables between them, and agents that answer as told. Ask it where a packet comes out, not what was sent.
 */
import type { AgentCommand, AgentHello, GuestInfo } from '../../../contracts/agent.ts';
import { DEFAULT_POLICY, type PolicyDocument } from '../../../contracts/policy.ts';
import type { Effect, Event, PortDescription, PortQos } from '../../../controller/core/events.ts';
import { type Flow, flow, type Group, groupFound } from '../../../controller/core/flows.ts';
import {
  type ControllerState,
  initialState,
  type Settings,
  type TunnelSettings,
} from '../../../controller/core/state.ts';
import { step } from '../../../controller/core/step.ts';
import { makeSeal } from '../../../controller/io/seal.ts';
import { compilePolicy } from '../../../policies/index.ts';
import { buildFrame, type Packet, parseFrame } from '../../../sim/packet.ts';
import { FlowTables } from '../../../sim/switch/flowTables.ts';

export const LOCAL = 0xfffffffe;
const MBIT = 1e6;
/** OFPET_FLOW_MOD_FAILED/OFPFMFC_TABLE_FULL. */
const TABLE_FULL = '5/1';
/** OFPET_GROUP_MOD_FAILED, and OFPET_BAD_ACTION/OFPBAC_BAD_OUT_GROUP. */
const isAboutGroups = (error: string) => error.startsWith('6/') || error === '2/9';
/** Signs the probes of every fabric. */
export const KEY = Buffer.alloc(32, 7);

interface FakeSwitch {
  tables: FlowTables;
  ports: Map<number, string>;
  connected: boolean;
  /** Ports that are down. */
  down: Set<number>;
  /** Cumulative bytes by port, and of slices by port. */
  tx: Map<number, number>;
  rx: Map<number, number>;
  sliced: Map<number, number>;
}

export interface FabricOptions {
  forwarding?: 'managed' | 'normal';
  queues?: boolean;
  policy?: PolicyDocument;
  capacityBps?: number;
  /** Switches have groups. */
  groups?: boolean;
  tunnels?: TunnelSettings;
  /** Ports of these names lead to an IP network. */
  ipPorts?: readonly string[];
}

/** What an agent says to an order; `unknown`: its answer was lost. */
export interface Answer {
  value?: unknown;
  error?: string;
  code?: string;
  unknown?: boolean;
}

export class Fabric {
  state: ControllerState;
  nowMs = 1_000_000;
  readonly switches = new Map<string, FakeSwitch>();
  readonly cables = new Map<string, { dpid: string; port: number }>();
  readonly commands: { host: string; migration: string; command: AgentCommand }[] = [];
  readonly effects: Effect[] = [];
  readonly qos = new Map<string, PortQos | null>();
  /** Writes are held back while true, so that a test can look at what waits for them. */
  holdWrites = false;
  readonly held: Extract<Effect, { kind: 'write' }>[] = [];
  answer: (host: string, c: AgentCommand) => Answer | undefined = () => undefined;

  readonly #hasGroups: boolean;

  constructor(o: FabricOptions = {}) {
    this.#hasGroups = o.groups ?? false;
    const settings: Settings = {
      version: 'test',
      forwarding: o.forwarding ?? 'managed',
      capacityOf: () => o.capacityBps ?? 200 * MBIT,
      defaultCapacityBps: 1e9,
      nameOf: () => undefined,
      hasQueues: () => o.queues ?? true,
      policyStore: 'memory',
      seal: makeSeal(KEY),
      ...(o.tunnels ? { tunnels: o.tunnels } : {}),
      ...(o.ipPorts ? { leadsToIp: (_dpid: string, name: string) => o.ipPorts?.includes(name) === true } : {}),
    };
    const status = { state: 'accepted' as const, revision: 1, reason: '', atMs: 0 };
    this.state = initialState(settings, compilePolicy(o.policy ?? DEFAULT_POLICY), status, this.nowMs);
  }

  send(event: Event): void {
    const result = step(this.state, event, this.nowMs);
    this.state = result.state;
    this.effects.push(...result.effects);
    for (const e of result.effects) this.#carryOut(e);
  }

  #carryOut(e: Effect): void {
    if (e.kind === 'write') {
      if (this.holdWrites) this.held.push(e);
      else this.write(e);
    } else if (e.kind === 'packetOut') {
      const packet = parseFrame(e.frame);
      if (packet) this.#cross(e.dpid, e.portNo, packet, []);
    } else if (e.kind === 'tunnel') {
      this.#setTunnel(e);
    } else if (e.kind === 'qos') {
      const note = this.queueNote();
      if (note === '') this.qos.set(e.link, e.qos);
      this.send({ kind: 'qosDone', link: e.link, serial: e.serial, enforcement: note === '' ? 'queue' : 'pace', note });
    } else if (e.kind === 'command') {
      this.commands.push({ host: e.host, migration: e.migration, command: e.command });
      const a = this.answer(e.host, e.command);
      const done = { kind: 'commandDone' as const, host: e.host, migration: e.migration, step: e.command.do };
      if (a?.error !== undefined)
        this.send({
          ...done,
          ok: false,
          error: a.error,
          unknown: a.unknown ?? false,
          ...(a.code ? { code: a.code } : {}),
        });
      else if (a) this.send({ ...done, ok: true, value: a.value });
    }
  }

  /** What is said when queues are to be set, if not that they are. */
  queueNote: () => string = () => '';
  /** What switches say when they are told to make a tunnel port, if not that they have it. */
  tunnelNote: (dpid: string) => string = () => '';
  mtus: Record<string, number> = {};
  /** Where there is one, what databases confirm of tunnel ports waits in it, although the ports are there. */
  lateTunnels: (() => void)[] | undefined;
  /** Frames into tunnels go nowhere while true. */
  tunnelsBlocked = false;
  /** Of single tunnel ports. */
  isBlocked: (dpid: string, name: string) => boolean = () => false;

  #setTunnel(e: Extract<Effect, { kind: 'tunnel' }>): void {
    const s = this.switches.get(e.dpid) as FakeSwitch;
    const note = this.tunnelNote(e.dpid);
    const known = [...s.ports].find(([, name]) => name === e.name)?.[0];
    const portNo = known ?? 60 + s.ports.size;
    const port = { portNo, name: e.name, hwAddr: '0e:00:00:00:00:60', isUp: true, speedBps: 0 };
    const remote = [...this.switches.keys()].find((dpid) => e.name === `fwt${dpid.slice(-12)}`) as string;
    if (note === '' && e.port && known === undefined) {
      s.ports.set(portNo, e.name);
      const far = [...(this.switches.get(remote)?.ports ?? [])].find(([, n]) => n === `fwt${e.dpid.slice(-12)}`);
      if (far) this.cable(e.dpid, portNo, remote, far[0]);
      this.send({ kind: 'portChanged', dpid: e.dpid, change: 'added', port });
    } else if (note === '' && !e.port && known !== undefined) {
      this.dropPort(e.dpid, portNo);
    }
    const { dpid, name, serial } = e;
    const done = () => this.send({ kind: 'tunnelDone', dpid, name, serial, note, mtus: note === '' ? this.mtus : {} });
    if (this.lateTunnels) this.lateTunnels.push(done);
    else done();
  }

  /** Somebody, or the switch, removes a port. */
  dropPort(dpid: string, portNo: number): void {
    const s = this.switches.get(dpid) as FakeSwitch;
    const port = this.#describe(dpid, portNo);
    s.ports.delete(portNo);
    s.down.delete(portNo);
    const far = this.cables.get(`${dpid}:${portNo}`);
    this.cables.delete(`${dpid}:${portNo}`);
    if (far) this.cables.delete(`${far.dpid}:${far.port}`);
    if (s.connected) this.send({ kind: 'portChanged', dpid, change: 'removed', port });
  }

  write(e: Extract<Effect, { kind: 'write' }>): void {
    const s = this.switches.get(e.dpid);
    if (!s?.connected) {
      this.send({ kind: 'written', dpid: e.dpid, batch: e.batch, outcome: 'unknown', errors: [] });
      return;
    }
    const errors: string[] = [];
    for (const m of e.messages) {
      if (m.cls === 'OFPFlowMod' || m.cls === 'OFPMeterMod' || m.cls === 'OFPGroupMod')
        errors.push(...s.tables.apply(m, this.nowMs).map((x) => `${x.type}/${x.code}`));
    }
    const done = { kind: 'written' as const, dpid: e.dpid, batch: e.batch, errors };
    if (errors.length === 0) this.send({ ...done, outcome: 'applied' });
    else
      this.send({
        ...done,
        outcome: 'refused',
        isTableFull: errors.includes(TABLE_FULL),
        isGroupRefused: errors.some(isAboutGroups),
        holds: this.#holds(s),
      });
  }

  #holds(s: FakeSwitch): { flows: Flow[]; meterIds: number[]; groups: Group[] } {
    const asFlow = (f: ReturnType<FlowTables['flows']>[number]) =>
      flow({
        table: f.tableId,
        priority: f.priority,
        match: f.match,
        instructions: [...f.instructions],
        cookie: f.cookie,
      });
    return {
      flows: s.tables.flows().map(asFlow),
      meterIds: s.tables.meters().map((m) => m.meterId),
      groups: s.tables.groups().map(({ groupId, type, buckets }) => groupFound({ group_id: groupId, type, buckets })),
    };
  }

  addSwitch(dpid: string, ports: Record<number, string>): void {
    const map = new Map(Object.entries(ports).map(([no, name]) => [Number(no), name]));
    const down = new Set<number>();
    const maxGroups = this.#hasGroups ? 1000 : 0;
    this.switches.set(dpid, {
      tables: new FlowTables({ ports: () => [...map.keys()].filter((p) => !down.has(p)), maxGroups }),
      ports: map,
      connected: false,
      down,
      tx: new Map(),
      rx: new Map(),
      sliced: new Map(),
    });
  }

  cable(a: string, aPort: number, b: string, bPort: number): void {
    this.cables.set(`${a}:${aPort}`, { dpid: b, port: bPort });
    this.cables.set(`${b}:${bPort}`, { dpid: a, port: aPort });
  }

  connect(dpid: string): void {
    const s = this.switches.get(dpid) as FakeSwitch;
    s.connected = true;
    const ports = [...s.ports.keys()].map((portNo) => this.#describe(dpid, portNo));
    this.send({
      kind: 'switchUp',
      dpid,
      ports,
      maxMeters: 65_535,
      ...(this.#hasGroups ? { groupAbility: { select: true, failover: true } } : {}),
      ...this.#holds(s),
    });
  }

  #describe(dpid: string, portNo: number): PortDescription {
    const s = this.switches.get(dpid) as FakeSwitch;
    return {
      portNo,
      name: s.ports.get(portNo) ?? '',
      hwAddr: `0e:00:00:00:${dpid.slice(-2)}:${(portNo & 0xff).toString(16).padStart(2, '0')}`,
      isUp: !s.down.has(portNo),
      speedBps: 0,
    };
  }

  /** Cuts a cable or mends it: both its ports go down or come up, and connected switches tell. */
  setCable(dpid: string, port: number, isUp: boolean): void {
    const far = this.cables.get(`${dpid}:${port}`);
    for (const end of [{ dpid, port }, ...(far ? [far] : [])]) {
      const s = this.switches.get(end.dpid) as FakeSwitch;
      if (isUp) s.down.delete(end.port);
      else s.down.add(end.port);
    }
    for (const end of [{ dpid, port }, ...(far ? [far] : [])]) {
      if (!this.switches.get(end.dpid)?.connected) continue;
      const described = this.#describe(end.dpid, end.port);
      this.send({ kind: 'portChanged', dpid: end.dpid, change: 'modified', port: described });
    }
  }

  disconnect(dpid: string): void {
    (this.switches.get(dpid) as FakeSwitch).connected = false;
    this.send({ kind: 'switchDown', dpid });
  }

  /** Where a packet that enters at a port comes out, as `dpid:port` of edge ports, with the DSCP and queue it has there. */
  inject(dpid: string, inPort: number, packet: Packet): { at: string; packet: Packet; queue: number }[] {
    const out: { at: string; packet: Packet; queue: number }[] = [];
    this.#process(dpid, inPort, packet, out, 0);
    return out;
  }

  #process(
    dpid: string,
    inPort: number,
    packet: Packet,
    out: { at: string; packet: Packet; queue: number }[],
    hops: number,
    tunnelId = 0n,
  ): void {
    if (hops > 16) throw new Error(`a packet for ${packet.eth_dst} is looping at ${dpid}`);
    const s = this.switches.get(dpid) as FakeSwitch;
    const result = s.tables.process(packet, inPort, { nowMs: this.nowMs, tunnelId });
    for (const up of result.toController) {
      if (s.connected) this.send({ kind: 'packetIn', dpid, inPort, frame: buildFrame(up.packet) });
    }
    for (const o of result.outputs) this.#cross(dpid, o.port, o.packet, out, o.queue, hops, o.tunnelId);
  }

  #cross(
    dpid: string,
    port: number,
    packet: Packet,
    out: { at: string; packet: Packet; queue: number }[],
    queue = 0,
    hops = 0,
    tunnelId = 0n,
  ): void {
    if (this.switches.get(dpid)?.down.has(port)) return;
    const name = this.switches.get(dpid)?.ports.get(port) ?? '';
    const isTunnel = name.startsWith('fwt');
    if (isTunnel && (this.tunnelsBlocked || this.isBlocked(dpid, name))) return;
    const far = this.cables.get(`${dpid}:${port}`);
    if (far) this.#process(far.dpid, far.port, packet, out, hops + 1, isTunnel ? tunnelId : 0n);
    else out.push({ at: `${dpid}:${port}`, packet, queue });
  }

  agentUp(
    host: string,
    dpid: string,
    migrationIp: string,
    guests: GuestInfo[] = [],
    migrations: AgentHello['migrations'] = [],
    more: Partial<AgentHello> = {},
  ): void {
    const hello: AgentHello = {
      type: 'hello',
      protocol: 'fairway-agent/1',
      host,
      dpid,
      migrationIp,
      migrationPort: 'br0',
      driver: 'emulated',
      techniques: ['pre-copy', 'post-copy', 'hybrid'],
      guests,
      migrations,
      ...more,
    };
    this.send({ kind: 'agentUp', host, hello });
  }

  /** Lets `ms` pass while ports send at the given rates (Mbit/s; `sliced` is the part that is migration), then reads counters. */
  pass(ms: number, rates: Record<string, { tx?: number; rx?: number; sliced?: number }> = {}): void {
    this.nowMs += ms;
    const add = (m: Map<number, number>, port: number, mbps = 0) =>
      m.set(port, (m.get(port) ?? 0) + (mbps * MBIT * ms) / 8000);
    for (const [dpid, s] of this.switches) {
      for (const port of s.ports.keys()) {
        const r = rates[`${dpid}:${port}`] ?? {};
        add(s.tx, port, r.tx);
        add(s.rx, port, r.rx);
        add(s.sliced, port, r.sliced);
      }
      if (!s.connected) continue;
      this.send({
        kind: 'counters',
        dpid,
        ports: [...s.ports.keys()].map((portNo) => ({
          portNo,
          rxBytes: s.rx.get(portNo) ?? 0,
          txBytes: s.tx.get(portNo) ?? 0,
        })),
        queues: [...s.ports.keys()].map((portNo) => ({ portNo, queueId: 1, txBytes: s.sliced.get(portNo) ?? 0 })),
        flows: s.tables.flows().map((f) => ({ cookie: f.cookie, packets: f.packets, bytes: f.bytes })),
      });
    }
    this.send({ kind: 'sampled' });
    this.send({ kind: 'tick' });
  }
}

export const HV1 = '0000000000000001';
export const HV2 = '0000000000000002';
export const CORE = '00000000000000c0';
export const GUEST_MAC = '52:54:00:00:00:09';
/** The first segment of the stream of a migration from the first host to the second. */
export const STREAM = {
  eth_src: '0e:00:00:00:00:01',
  eth_dst: '0e:00:00:00:00:02',
  eth_type: 0x0800,
  ip_proto: 6,
  ip_dscp: 0,
  ipv4_src: '10.0.0.1',
  ipv4_dst: '10.0.0.2',
  tcp_src: 40000,
  tcp_dst: 49152,
};
export const CLIENT_MAC = '52:54:00:00:00:c1';
export const UPLINK = 1;

export function guest(name = 'g1', mac = GUEST_MAC, portName = 'tap1'): GuestInfo {
  return {
    spec: { name, mac, memoryMiB: 256, vcpus: 1, machine: 'pc', accel: 'emulated', ip: '10.0.0.9' },
    state: 'running',
    portName,
  };
}

/** Two hypervisors, each with its own switch, on a core switch with a client: hv1 – core – hv2. */
export function twoHypervisors(o: FabricOptions = {}): Fabric {
  const f = new Fabric(o);
  for (const dpid of [HV1, HV2]) f.addSwitch(dpid, { [UPLINK]: 'up', 2: 'tap1', 3: 'tap2', [LOCAL]: 'br0' });
  f.addSwitch(CORE, { 1: 'to-hv1', 2: 'to-hv2', 3: 'client' });
  f.cable(HV1, UPLINK, CORE, 1);
  f.cable(HV2, UPLINK, CORE, 2);
  for (const dpid of [HV1, HV2, CORE]) f.connect(dpid);
  // Probes of the first switch came before its neighbour was there.
  f.pass(2500);
  f.agentUp('hv1', HV1, '10.0.0.1', [guest()]);
  f.agentUp('hv2', HV2, '10.0.0.2', []);
  return f;
}

export const CORE_1 = '00000000000000c1';
export const CORE_2 = '00000000000000c2';
export const HV3 = '0000000000000003';

/**
 * Two fabrics that only an IP network joins: hv1 with a client at its core, and hv2 and hv3 at another core with a client of its
 * own. Port 9 of the cores, `ip`, leads to the IP network.
 */
export function twoIslands(o: FabricOptions = {}, guests: GuestInfo[] = [guest()]): Fabric {
  const f = new Fabric({ ipPorts: ['ip'], ...o });
  for (const dpid of [HV1, HV2, HV3]) f.addSwitch(dpid, { [UPLINK]: 'up', 2: 'tap1', 3: 'tap2', [LOCAL]: 'br0' });
  f.addSwitch(CORE_1, { 1: 'to-hv1', 3: 'client', 9: 'ip' });
  f.addSwitch(CORE_2, { 1: 'to-hv2', 2: 'to-hv3', 3: 'client', 9: 'ip' });
  f.cable(HV1, UPLINK, CORE_1, 1);
  f.cable(HV2, UPLINK, CORE_2, 1);
  f.cable(HV3, UPLINK, CORE_2, 2);
  for (const dpid of [HV1, HV2, HV3, CORE_1, CORE_2]) f.connect(dpid);
  f.pass(2500);
  f.agentUp('hv1', HV1, '10.0.0.1', guests);
  f.agentUp('hv2', HV2, '10.1.0.2', []);
  f.agentUp('hv3', HV3, '10.1.0.3', []);
  return f;
}

/** Second uplink of a hypervisor, to the second core. */
export const UPLINK_2 = 4;

/** Two hypervisors joined by two core switches, with a client at the first: two ways that share no link. */
export function twoCores(o: FabricOptions = {}): Fabric {
  const f = new Fabric(o);
  for (const dpid of [HV1, HV2])
    f.addSwitch(dpid, { [UPLINK]: 'up', [UPLINK_2]: 'up2', 2: 'tap1', 3: 'tap2', [LOCAL]: 'br0' });
  for (const dpid of [CORE_1, CORE_2]) f.addSwitch(dpid, { 1: 'to-hv1', 2: 'to-hv2', 3: 'client' });
  [CORE_1, CORE_2].forEach((core, i) => {
    const uplink = i === 0 ? UPLINK : UPLINK_2;
    f.cable(HV1, uplink, core, 1);
    f.cable(HV2, uplink, core, 2);
  });
  for (const dpid of [HV1, HV2, CORE_1, CORE_2]) f.connect(dpid);
  f.pass(2500);
  f.agentUp('hv1', HV1, '10.0.0.1', [guest()]);
  f.agentUp('hv2', HV2, '10.0.0.2', []);
  return f;
}
