/**
 * The embedded data centre: emulated switches joined by links, hosts with guests and clients attached to them, and workload
 * that flows between them as a fluid. Which way a flow takes, and which queues and meters it passes, is read from the
 * switches' own flow tables at every change; what it gets there comes from fluid.ts, and is counted in the switches.
 * Guests are where the agents say they run. demo.ts puts a controller and agents around it.
 */
import { ofproto_v1_3 as ofp } from 'node-openflow';
import type { GuestInfo, Stream } from '../contracts/agent.ts';
import type { Clock } from '../contracts/clock.ts';
import { type Log, silentLog } from '../contracts/log.ts';
import { type FluidFlow, type FluidHop, type FluidLink, fluidRates } from './fluid.ts';
import { OvsdbServer } from './ovsdb/server.ts';
import { arpPacket, BROADCAST, ETH_ARP, ETH_IPV4, type Packet, rarpPacket } from './packet.ts';
import { EmulatedSwitch } from './switch/emulatedSwitch.ts';
import type { FlowEntry } from './switch/entries.ts';
import type { PortSpec } from './switch/ports.ts';

/** A hypervisor. Its guests are attached to its own switch, of the same name, whose LOCAL port is the host itself. */
export interface HostSpec {
  name: string;
  migrationIp: string;
}

/** Something outside that talks to guests, or a service of a host that does not move. */
export interface ClientSpec {
  name: string;
  switch: string;
  ip: string;
  /** Capacity of its own port. */
  speedBps: number;
}

/** Traffic that wants to go on for ever: from one guest or client to another. */
export interface WorkloadSpec {
  id: string;
  from: string;
  to: string;
  offeredBps: number;
  /** Number of connections: its share beside others. */
  connections: number;
}

export interface DataCentreSpec {
  switches: readonly string[];
  /** Full duplex. */
  links: readonly { a: string; b: string; capacityBps: number }[];
  hosts: readonly HostSpec[];
  clients: readonly ClientSpec[];
  workload: readonly WorkloadSpec[];
  /** Capacity of each guest's port. */
  guestBps: number;
  /** Capacity of hosts' own ports. */
  hostBps: number;
}

export interface DataCentreOptions {
  clock: Clock;
  log?: Log;
  /** True: each switch has an OVSDB, in which the controller can set up queues. */
  hasQueues: boolean;
}

/** What one directed link carried in a second of the clock; means over the second, bit/s of whole frames. */
export interface LinkSecond {
  atMs: number;
  workloadBps: number;
  /** What the workload would have sent over it: what was offered while it was full, else what came. */
  wantedBps: number;
  migrationBps: number;
}

/** A directed link between two switches, named as the controller does: `dpid:port` of the egress. */
export interface FabricLink {
  id: string;
  from: string;
  to: string;
  capacityBps: number;
}

interface Station {
  name: string;
  mac: string;
  ip: string;
  /** Where it is attached; undefined while a guest runs nowhere. */
  at: { device: EmulatedSwitch; portNo: number } | undefined;
}

interface PathTrace {
  hops: FluidHop[];
  sent: { device: EmulatedSwitch; portNo: number; queue: number }[];
  received: { device: EmulatedSwitch; portNo: number }[];
  matched: { device: EmulatedSwitch; flows: FlowEntry[]; meters: number[] }[];
  arrived: boolean;
}

interface RunningFlow {
  id: string;
  kind: 'workload' | 'migration';
  offeredBps: number;
  weight: number;
  trace: PathTrace;
}

const portNoOf = (link: FabricLink): number => Number(link.id.slice(link.id.lastIndexOf(':') + 1));

const STEP_MS = 50;
/** Stations send a packet this often, so that switches learn and unknown senders are seen. */
const CHATTER_MS = 1000;
/** A packet that crossed this many switches is in a loop. */
const MAX_HOPS = 32;
/** Packets in flight at which further ones are dropped. */
const MAX_IN_FLIGHT = 10_000;
/** Payload of a full TCP segment and the frame that carries it. */
const SEGMENT_BYTES = 1448;
const FRAME_BYTES = 1514;

export class DataCentre {
  readonly spec: DataCentreSpec;
  readonly switches = new Map<string, EmulatedSwitch>();
  readonly links: FabricLink[] = [];
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #ovsdb = new Map<string, OvsdbServer>();
  readonly #hasQueues: boolean;
  /** The far end of a port: another switch's port. */
  readonly #far = new Map<string, { device: EmulatedSwitch; portNo: number }>();
  readonly #stations = new Map<string, Station>();
  readonly #stationAt = new Map<string, Station>();
  readonly #guestSources = new Map<string, () => readonly GuestInfo[]>();
  readonly #offered = new Map<string, number>();
  readonly #streams = new Map<string, { stream: Stream; offeredBps: number }>();
  readonly #nextPort = new Map<string, number>();
  readonly #history = new Map<string, LinkSecond[]>();
  readonly #second = new Map<string, { workload: number; wanted: number; migration: number }>();
  readonly #guestSilence = new Map<string, { sinceMs: number | undefined; longestMs: number }>();
  #flows: RunningFlow[] = [];
  #rates: ReadonlyMap<string, number> = new Map();
  /** Links that carry all they can. */
  #full: ReadonlySet<string> = new Set();
  #changes = 0;
  #seenVersion = -1;
  #lastStepMs = 0;
  #secondFromMs = 0;
  #inFlight: { device: EmulatedSwitch; portNo: number; packet: Packet; hops: number }[] = [];
  #hops = 0;
  #isDraining = false;
  #stop: (() => void)[] = [];

  constructor(spec: DataCentreSpec, o: DataCentreOptions) {
    this.spec = spec;
    this.#clock = o.clock;
    this.#log = o.log ?? silentLog;
    this.#hasQueues = o.hasQueues;
    for (const w of spec.workload) this.#offered.set(w.id, w.offeredBps);
  }

  /** Opens the switches' databases; answers with their address by datapath id, for the controller's configuration. */
  async open(): Promise<ReadonlyMap<string, string>> {
    const addresses = new Map<string, string>();
    if (!this.#hasQueues) return addresses;
    for (const name of this.spec.switches) {
      const server = new OvsdbServer({ log: this.#log, onChange: () => this.#changes++ });
      this.#ovsdb.set(name, server);
      addresses.set(dpidOf(this.spec, name), await server.listen());
    }
    return addresses;
  }

  /** Builds the network, connects its switches to the controller, and lets traffic flow. */
  start(controller: { host: string; port: number }): void {
    const { spec } = this;
    for (const name of spec.switches) {
      const device: EmulatedSwitch = new EmulatedSwitch({
        dpid: dpidOf(spec, name),
        name,
        controller,
        clock: this.#clock,
        log: this.#log,
        transmit: (portNo, packet) => this.#transmit(device, portNo, packet),
      });
      this.switches.set(name, device);
      this.#nextPort.set(name, 1);
    }
    for (const { a, b, capacityBps } of spec.links) {
      const left = this.#addPort(a, `${a}-${b}`, capacityBps);
      const right = this.#addPort(b, `${b}-${a}`, capacityBps);
      this.#far.set(keyOf(left), right);
      this.#far.set(keyOf(right), left);
      this.links.push({ id: keyOf(left), from: a, to: b, capacityBps });
      this.links.push({ id: keyOf(right), from: b, to: a, capacityBps });
    }
    for (const link of this.links) this.#history.set(link.id, []);
    spec.hosts.forEach((h, i) => {
      const at = this.#addPort(h.name, h.name, spec.hostBps, ofp.OFPP_LOCAL);
      this.#attach({ name: h.name, mac: macOf(0x10, i + 1), ip: h.migrationIp, at });
    });
    spec.clients.forEach((c, i) => {
      const at = this.#addPort(c.switch, c.name, c.speedBps);
      this.#attach({ name: c.name, mac: macOf(0x20, i + 1), ip: c.ip, at });
    });
    const now = this.#clock.now();
    this.#lastStepMs = now;
    this.#secondFromMs = now;
    for (const device of this.switches.values()) device.start();
    this.#stop.push(
      this.#clock.every(STEP_MS, () => this.#step()),
      this.#clock.every(CHATTER_MS, () => this.#chatter()),
    );
  }

  async stop(): Promise<void> {
    for (const stop of this.#stop.splice(0)) stop();
    await Promise.all([...this.switches.values()].map((s) => s.stop()));
    await Promise.all([...this.#ovsdb.values()].map((s) => s.close()));
  }

  /** True when every switch is connected to the controller. */
  get isConnected(): boolean {
    return [...this.switches.values()].every((s) => s.isConnected);
  }

  // ---- hosts and guests -----------------------------------------------------------------------------------------------

  /** Tells where to ask which guests a host has; asked at every step and at `guestsChanged`. */
  watchGuests(host: string, guests: () => readonly GuestInfo[]): void {
    this.#guestSources.set(host, guests);
  }

  /** A guest appeared, stopped, started or went: plug and unplug network cards now. */
  guestsChanged(): void {
    this.#placeGuests(this.#clock.now());
  }

  /** Longest time a guest ran nowhere, ms, so far. */
  longestSilenceMs(guest: string): number {
    const s = this.#guestSilence.get(guest);
    if (s === undefined) return 0;
    return s.sinceMs === undefined ? s.longestMs : Math.max(s.longestMs, this.#clock.now() - s.sinceMs);
  }

  /** Sets what a workload flow offers from now on, bit/s. */
  offer(workload: string, offeredBps: number): void {
    this.#offered.set(workload, offeredBps);
    this.#changes++;
  }

  /** Cuts the cable between two switches or mends it; both say at once that their port went down or came up. */
  setLinkUp(a: string, b: string, isUp: boolean): void {
    for (const link of this.#between(a, b)) this.switches.get(link.from)?.setPortUp(portNoOf(link), isUp);
    this.#changes++;
    this.#advance();
  }

  /** A cable carries another rate from now on, both ways; both switches say so. */
  setCapacity(a: string, b: string, capacityBps: number): void {
    for (const link of this.#between(a, b)) {
      this.switches.get(link.from)?.setPortSpeed(portNoOf(link), capacityBps);
      link.capacityBps = capacityBps;
    }
    this.#changes++;
    this.#advance();
  }

  #between(a: string, b: string): FabricLink[] {
    const links = this.links.filter((l) => (l.from === a && l.to === b) || (l.from === b && l.to === a));
    if (links.length === 0) throw new Error(`the data centre has no link between ${a} and ${b}`);
    return links;
  }

  // ---- migration streams ----------------------------------------------------------------------------------------------

  /**
   * What a migration stream gets through now, bit/s of memory contents, when it asks for `payloadBps` of them. A changed
   * demand takes effect at once.
   */
  streamBps(id: string, stream: Stream, payloadBps: number): number {
    const offeredBps = (payloadBps * FRAME_BYTES) / SEGMENT_BYTES;
    const had = this.#streams.get(id);
    if (had?.offeredBps !== offeredBps) {
      this.#streams.set(id, { stream, offeredBps });
      this.#changes++;
      this.#advance();
    }
    return ((this.#rates.get(`stream ${id}`) ?? 0) * SEGMENT_BYTES) / FRAME_BYTES;
  }

  dropStream(id: string): void {
    if (!this.#streams.delete(id)) return;
    this.#changes++;
    this.#advance();
  }

  // ---- measurements ---------------------------------------------------------------------------------------------------

  /** The seconds of a link between two switches, oldest first. */
  history(link: string): readonly LinkSecond[] {
    return this.#history.get(link) ?? [];
  }

  /** Flows, meters and queue rows the controller left in the switches, each as a text. */
  leftovers(isOurs: (cookie: bigint) => boolean): string[] {
    const out: string[] = [];
    for (const [name, device] of this.switches) {
      for (const f of device.tables.flows()) {
        if (isOurs(f.cookie)) out.push(`${name}: flow with cookie 0x${f.cookie.toString(16)} in table ${f.tableId}`);
      }
      for (const m of device.tables.meters()) out.push(`${name}: meter ${m.meterId}`);
      for (const g of device.tables.groups()) out.push(`${name}: group ${g.groupId}`);
    }
    for (const [name, { database }] of this.#ovsdb) {
      for (const table of ['QoS', 'Queue']) {
        if (database.count(table) > 0) out.push(`${name}: ${database.count(table)} rows in ${table}`);
      }
    }
    return out;
  }

  // ---- building -------------------------------------------------------------------------------------------------------

  #addPort(
    switchName: string,
    name: string,
    speedBps: number,
    portNo = this.#nextPort.get(switchName) ?? 1,
  ): { device: EmulatedSwitch; portNo: number } {
    const device = this.switches.get(switchName);
    if (device === undefined) throw new Error(`the data centre has no switch ${switchName}`);
    if (portNo < ofp.OFPP_MAX) this.#nextPort.set(switchName, portNo + 1);
    const index = this.spec.switches.indexOf(switchName) + 1;
    const spec: PortSpec = { portNo, name: name.slice(0, 15), hwAddr: macOf(index, portNo), speedBps };
    device.addPort(spec);
    this.#ovsdb.get(switchName)?.database.addPort(spec.name);
    this.#changes++;
    return { device, portNo };
  }

  #attach(s: Station): void {
    this.#stations.set(s.name, s);
    if (s.at !== undefined) this.#stationAt.set(keyOf(s.at), s);
    this.#changes++;
  }

  // ---- packets --------------------------------------------------------------------------------------------------------

  #transmit(device: EmulatedSwitch, portNo: number, packet: Packet): void {
    if (this.#inFlight.length >= MAX_IN_FLIGHT || this.#hops >= MAX_HOPS) return;
    this.#inFlight.push({ device, portNo, packet, hops: this.#hops + 1 });
    if (this.#isDraining) return;
    this.#isDraining = true;
    queueMicrotask(() => this.#drain());
  }

  #drain(): void {
    for (let next = this.#inFlight.shift(); next !== undefined; next = this.#inFlight.shift()) {
      this.#hops = next.hops;
      const far = this.#far.get(keyOf(next));
      if (far !== undefined) far.device.receive(far.portNo, next.packet);
      else this.#arrive(next.device, next.portNo, next.packet);
    }
    this.#hops = 0;
    this.#isDraining = false;
  }

  /** A packet reaches a guest, host or client; it answers when it is asked for its address. */
  #arrive(device: EmulatedSwitch, portNo: number, packet: Packet): void {
    const station = this.#stationAt.get(keyOf({ device, portNo }));
    if (station === undefined || packet.vlans !== undefined) return;
    if (packet.eth_type !== ETH_ARP || packet.arp_op !== 1 || packet.arp_tpa !== station.ip) return;
    const asker = packet.arp_sha;
    if (asker === undefined || asker === station.mac) return;
    this.#sendFrom(
      station,
      arpPacket({ op: 2, sha: station.mac, spa: station.ip, tha: asker, tpa: packet.arp_spa ?? '0.0.0.0', dst: asker }),
    );
  }

  #sendFrom(station: Station, packet: Packet): void {
    if (station.at === undefined) return;
    this.#hops = 0;
    station.at.device.receive(station.at.portNo, packet);
  }

  /** Every station says a word: an announcement of itself, and a packet of each of its flows. */
  #chatter(): void {
    for (const s of this.#stations.values()) {
      this.#sendFrom(s, arpPacket({ op: 1, sha: s.mac, spa: s.ip, tpa: s.ip, dst: BROADCAST }));
    }
    for (const w of this.spec.workload) {
      const from = this.#stations.get(w.from);
      const to = this.#stations.get(w.to);
      if (from === undefined || to === undefined) continue;
      this.#sendFrom(from, workloadPacket(from, to));
      this.#sendFrom(to, workloadPacket(to, from));
    }
  }

  // ---- where guests are -----------------------------------------------------------------------------------------------

  #placeGuests(now: number): void {
    const running = new Map<string, { host: HostSpec; info: GuestInfo }>();
    const known = new Map<string, GuestInfo>();
    for (const host of this.spec.hosts) {
      const guests = this.#guestSources.get(host.name)?.() ?? [];
      const device = this.switches.get(host.name) as EmulatedSwitch;
      const names = new Set(guests.map((g) => g.portName));
      for (const g of guests) {
        known.set(g.spec.name, g);
        if (device.portNamed(g.portName) === undefined) this.#addPort(host.name, g.portName, this.spec.guestBps);
        if (g.state === 'running') running.set(g.spec.name, { host, info: g });
      }
      // A machine that is removed takes its network card with it.
      for (const port of [...device.ports.values()]) {
        const at = { device, portNo: port.portNo };
        const isFixed = this.#far.has(keyOf(at)) || this.#isFixedStation(at);
        if (isFixed || names.has(port.name)) continue;
        device.removePort(port.portNo);
        this.#ovsdb.get(host.name)?.database.removePort(port.name);
        this.#stationAt.delete(keyOf(at));
        this.#changes++;
      }
    }
    for (const [name, info] of known) this.#placeGuest(name, info, running.get(name), now);
  }

  #isFixedStation(at: { device: EmulatedSwitch; portNo: number }): boolean {
    const name = this.#stationAt.get(keyOf(at))?.name;
    return name !== undefined && [...this.spec.hosts, ...this.spec.clients].some((s) => s.name === name);
  }

  #placeGuest(
    name: string,
    info: GuestInfo,
    where: { host: HostSpec; info: GuestInfo } | undefined,
    now: number,
  ): void {
    let station = this.#stations.get(name);
    if (station === undefined) {
      station = { name, mac: info.spec.mac, ip: info.spec.ip ?? '0.0.0.0', at: undefined };
      this.#stations.set(name, station);
      this.#guestSilence.set(name, { sinceMs: undefined, longestMs: 0 });
    }
    const silence = this.#guestSilence.get(name) as { sinceMs: number | undefined; longestMs: number };
    if (where === undefined) {
      if (station.at === undefined) return;
      this.#stationAt.delete(keyOf(station.at));
      station.at = undefined;
      silence.sinceMs = now;
      this.#changes++;
      return;
    }
    const device = this.switches.get(where.host.name) as EmulatedSwitch;
    const port = device.portNamed(where.info.portName);
    if (port === undefined) return;
    const at = { device, portNo: port.portNo };
    if (station.at !== undefined && keyOf(station.at) === keyOf(at)) return;
    if (station.at !== undefined) this.#stationAt.delete(keyOf(station.at));
    station.at = at;
    this.#stationAt.set(keyOf(at), station);
    if (silence.sinceMs !== undefined) silence.longestMs = Math.max(silence.longestMs, now - silence.sinceMs);
    silence.sinceMs = undefined;
    this.#changes++;
    this.#log('debug', 'sim.guestPlaced', { guest: name, host: where.host.name, port: port.name });
    // The hypervisor announces the guest where it runs now.
    this.#sendFrom(station, rarpPacket(station.mac));
  }

  // ---- the fluid ------------------------------------------------------------------------------------------------------

  #step(): void {
    this.#placeGuests(this.#clock.now());
    this.#advance();
  }

  /** Counts what flowed until now, and works the rates out again when anything has changed. */
  #advance(): void {
    const now = this.#clock.now();
    this.#account(now - this.#lastStepMs);
    this.#lastStepMs = now;
    if (now - this.#secondFromMs >= 1000) this.#closeSecond(now);
    let version = this.#changes;
    for (const device of this.switches.values()) version += device.tables.version;
    if (version === this.#seenVersion) return;
    this.#seenVersion = version;
    this.#flows = this.#traceAll();
    const links = this.#fluidLinks();
    this.#rates = fluidRates(links, this.#flows.map(toFluid));
    this.#full = this.#fullLinks(links);
  }

  #traceAll(): RunningFlow[] {
    const out: RunningFlow[] = [];
    for (const w of this.spec.workload) {
      const from = this.#stations.get(w.from);
      const to = this.#stations.get(w.to);
      const offeredBps = this.#offered.get(w.id) ?? 0;
      if (from?.at === undefined || to === undefined || offeredBps <= 0) continue;
      const trace = this.#trace(from, workloadPacket(from, to), to);
      out.push({ id: `workload ${w.id}`, kind: 'workload', offeredBps, weight: w.connections, trace });
    }
    for (const [id, { stream, offeredBps }] of this.#streams) {
      const from = this.#stationOfIp(stream.sourceIp);
      const to = this.#stationOfIp(stream.destinationIp);
      if (from === undefined || to === undefined || offeredBps <= 0) continue;
      const packet: Packet = {
        ...workloadPacket(from, to),
        tcp_src: stream.sourcePort === 0 ? 40_000 : stream.sourcePort,
        tcp_dst: stream.destinationPort,
      };
      const trace = this.#trace(from, packet, to);
      out.push({ id: `stream ${id}`, kind: 'migration', offeredBps, weight: 1, trace });
    }
    return out;
  }

  #stationOfIp(ip: string): Station | undefined {
    for (const s of this.#stations.values()) if (s.ip === ip) return s;
    return undefined;
  }

  /** Follows a packet of a flow through the switches' tables without disturbing them. */
  #trace(from: Station, packet: Packet, to: Station): PathTrace {
    const trace: PathTrace = { hops: [], sent: [], received: [], matched: [], arrived: false };
    if (from.at === undefined) return trace;
    trace.hops.push({ link: `in ${keyOf(from.at)}`, queue: 0 });
    const open = [{ at: from.at, packet, hops: 1 }];
    for (let next = open.shift(); next !== undefined; next = open.shift()) {
      const { device, portNo } = next.at;
      const outcome = device.tables.process(next.packet, portNo, { nowMs: this.#clock.now(), isTraffic: false });
      trace.received.push({ device, portNo });
      trace.matched.push({ device, flows: outcome.matchedFlows, meters: outcome.meters });
      for (const id of outcome.meters) trace.hops.push({ link: `meter ${device.dpid}/${id}`, queue: 0 });
      for (const out of outcome.outputs) {
        const at = { device, portNo: out.port };
        if (device.ports.get(out.port)?.isUp !== true) continue;
        trace.hops.push({ link: keyOf(at), queue: out.queue });
        trace.sent.push({ device, portNo: out.port, queue: out.queue });
        const far = this.#far.get(keyOf(at));
        if (far !== undefined) {
          if (next.hops < MAX_HOPS && trace.hops.length < MAX_HOPS * 8) {
            open.push({ at: far, packet: out.packet, hops: next.hops + 1 });
          }
        } else if (this.#stationAt.get(keyOf(at)) === to && out.packet.vlans === undefined) {
          trace.arrived = true;
        }
      }
    }
    return trace;
  }

  #fluidLinks(): Map<string, FluidLink> {
    const links = new Map<string, FluidLink>();
    for (const [name, device] of this.switches) {
      const database = this.#ovsdb.get(name)?.database;
      for (const port of device.ports.values()) {
        const key = keyOf({ device, portNo: port.portNo });
        links.set(`in ${key}`, { capacityBps: port.speedBps });
        const qos = database?.queuesOf(port.name);
        links.set(key, {
          capacityBps: Math.min(port.speedBps, qos?.maxBps ?? Infinity),
          ...(qos === undefined ? {} : { queues: qos.queues }),
        });
      }
      for (const m of device.tables.meters()) {
        const rateKbps = Math.min(...m.bands.map((b) => b.rateKbps));
        links.set(`meter ${device.dpid}/${m.meterId}`, { capacityBps: rateKbps * 1000 });
      }
    }
    return links;
  }

  #fullLinks(links: ReadonlyMap<string, FluidLink>): ReadonlySet<string> {
    const used = new Map<string, number>();
    for (const flow of this.#flows) {
      const rateBps = this.#rates.get(flow.id) ?? 0;
      for (const hop of flow.trace.hops) used.set(hop.link, (used.get(hop.link) ?? 0) + rateBps);
    }
    const full = [...used].filter(([id, bps]) => bps >= (links.get(id)?.capacityBps ?? 0) * 0.999);
    return new Set(full.map(([id]) => id));
  }

  /** Counts what flowed since the last step, everywhere it passed. */
  #account(dtMs: number): void {
    for (const flow of this.#flows) {
      // What does not arrive is not acknowledged: an elastic sender stops.
      const rateBps = flow.trace.arrived ? (this.#rates.get(flow.id) ?? 0) : 0;
      const bytes = (rateBps * dtMs) / 8000;
      const packets = bytes / FRAME_BYTES;
      for (const s of flow.trace.sent) {
        s.device.countSent(s.portNo, s.queue, bytes, packets);
        this.#countLink(keyOf(s), flow, bytes, dtMs);
      }
      for (const r of flow.trace.received) r.device.countReceived(r.portNo, bytes, packets);
      for (const m of flow.trace.matched) m.device.countMatched(m.flows, m.meters, bytes, packets);
    }
  }

  #countLink(id: string, flow: RunningFlow, bytes: number, dtMs: number): void {
    // A guest that stands still wants nothing; its silence is counted as downtime.
    if (!this.#history.has(id) || !flow.trace.arrived) return;
    let sum = this.#second.get(id);
    if (sum === undefined) {
      sum = { workload: 0, wanted: 0, migration: 0 };
      this.#second.set(id, sum);
    }
    if (flow.kind === 'migration') sum.migration += bytes;
    else {
      sum.workload += bytes;
      // A link that is not full holds nothing back: whatever is missing is missing elsewhere.
      sum.wanted += this.#full.has(id) ? (flow.offeredBps * dtMs) / 8000 : bytes;
    }
  }

  #closeSecond(now: number): void {
    const ms = now - this.#secondFromMs;
    for (const link of this.links) {
      const sum = this.#second.get(link.id) ?? { workload: 0, wanted: 0, migration: 0 };
      this.#history.get(link.id)?.push({
        atMs: now,
        workloadBps: (sum.workload * 8000) / ms,
        wantedBps: (sum.wanted * 8000) / ms,
        migrationBps: (sum.migration * 8000) / ms,
      });
    }
    this.#second.clear();
    this.#secondFromMs = now;
  }
}

function toFluid(f: RunningFlow): FluidFlow {
  return { id: f.id, offeredBps: f.trace.arrived ? f.offeredBps : 0, weight: f.weight, hops: f.trace.hops };
}

const keyOf = (at: { device: EmulatedSwitch; portNo: number }): string => `${at.device.dpid}:${at.portNo}`;

/** Datapath id of a switch: its place in the list. */
export function dpidOf(spec: DataCentreSpec, switchName: string): string {
  const index = spec.switches.indexOf(switchName);
  if (index < 0) throw new Error(`the data centre has no switch ${switchName}`);
  return (index + 1).toString(16).padStart(16, '0');
}

/** Locally administered addresses; `block` 1…15 are switches' ports, 16 hosts, 32 clients. */
function macOf(block: number, n: number): string {
  const hex = (x: number) => x.toString(16).padStart(2, '0');
  return `02:fa:1c:${hex(block)}:${hex((n >> 8) & 255)}:${hex(n & 255)}`;
}

/** A packet as the workload between two stations sends them. */
function workloadPacket(from: Station, to: Station): Packet {
  return {
    eth_dst: to.mac,
    eth_src: from.mac,
    eth_type: ETH_IPV4,
    ip_proto: 6,
    ip_dscp: 0,
    ip_ecn: 0,
    ip_ttl: 64,
    ipv4_src: from.ip,
    ipv4_dst: to.ip,
    tcp_src: 30_000,
    tcp_dst: 80,
  };
}
