/**
 * What every switch should hold, derived from topology, jobs and slices alone: nothing here remembers what was sent.
 * Three tables: 0 classify, 1 moved, 2 forward (docs/architecture.md, "The pipeline in a switch"). `difference.ts` turns
 * the result into messages; `queuesFor` derives the egress queues that `controller/io/qos.ts` keeps in OVSDB.
 */
import { of13, ofproto_v1_3 as ofp } from 'node-openflow';
import type { Priority } from '../../contracts/common.ts';
import { PRIORITIES } from '../../contracts/common.ts';
import {
  findPath,
  floodPorts,
  LOCAL_PORT,
  linkId,
  type PortRef,
  type SwitchNode,
  type Topology,
} from '../../topology/index.ts';
import { cookieFor, FEATURE } from './cookies.ts';
import { EMPTY_TABLES, type SwitchTables } from './difference.ts';
import type { PortQos } from './events.ts';
import { type Flow, flow, type Group, type Meter } from './flows.ts';
import { ipPortOf, leadsTo } from './ipNetwork.ts';
import { backOr, leftBehind, overlayFlows } from './overlayFlows.ts';
import { apply, goto, PRIORITY, type Put, portTowards, TABLE, toController } from './pipeline.ts';
import type { ControllerState, Job, SwitchState } from './state.ts';
import { attachedAt, isActive, needsSlice, pullsNow, slicePriority } from './state.ts';
import { tunnelEnds } from './tunnels.ts';
import { output, Ways } from './ways.ts';

/** Egress queue of each priority's slice; queue 0 is the workload's. */
export const QUEUE: Record<Priority, number> = { high: 1, medium: 2, low: 3 };

const ETH_IPV4 = 0x0800;
const ETH_ARP = 0x0806;
const ARP_REQUEST = 1;
const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const ETH_LLDP = 0x88cc;
const ETH_VLAN = 0x8100;
const IPPROTO_TCP = 6;
/** Enough of a frame to tell who sent it (an ARP behind a VLAN tag), no more. */
const LEARN_BYTES = 64;
/** Meters of ours live in a range of their own, since meters carry no cookie. */
export const METER_BASE = 0xfa00;
export const METER_COUNT = 1000;
/** A guard polices above the pace, and its bucket holds half a second: a tight one halves TCP's rate. */
const GUARD_FACTOR = 1.25;
const GUARD_SECONDS = 0.5;

/** VLAN id that labels a job's straggler tunnel inside the fabric. */
function labelOf(state: ControllerState, job: Job): number {
  const [from, to] = state.policy.doc.finish.labelVlans;
  return from + (job.number % (to - from + 1));
}

export const meterOf = (job: Job): number => METER_BASE + (job.number % METER_COUNT);

/** Port where the guest of a job will be (or is) attached at the destination; undefined until known. */
export function destinationPort(state: ControllerState, job: Job): PortRef | undefined {
  if (!job.destination) return undefined;
  const dpid = attachedAt(state, job, 'to')?.dpid;
  return dpid ? portByName(state.topology, dpid, job.destination.portName) : undefined;
}

export function portByName(topology: Topology, dpid: string, name: string): PortRef | undefined {
  const node = topology.switches.get(dpid);
  if (node === undefined) return undefined;
  let numbers = numbersOf.get(node);
  if (numbers === undefined) {
    // Of several of one name the first.
    numbers = new Map([...node.ports.values()].toReversed().map((p) => [p.name, p.portNo]));
    numbersOf.set(node, numbers);
  }
  const portNo = numbers.get(name);
  return portNo === undefined ? undefined : { dpid, portNo };
}

/** Numbers of a switch's ports by name. A node of the topology is never changed in place. */
const numbersOf = new WeakMap<SwitchNode, ReadonlyMap<string, number>>();

type Tables = Map<string, { flows: Map<string, Flow>; meters: Map<number, Meter>; groups: ReadonlyMap<number, Group> }>;
/** Puts flows into the tables of the switches that are in `tables`; others are left out. */
function putInto(tables: ReadonlyMap<string, { flows: Map<string, Flow> }>): Put {
  return (dpid, table, priority, feature, match, instructions, objectId = 0) => {
    const flows = tables.get(dpid)?.flows;
    if (!flows) return;
    const f = flow({ table, priority, match, instructions, cookie: cookieFor(feature, objectId) });
    flows.set(f.key, f);
  };
}

type Inputs = Pick<
  ControllerState,
  'topology' | 'settings' | 'switches' | 'agents' | 'jobs' | 'policy' | 'tunnelPorts' | 'quenches' | 'overlays'
>;
let last: { inputs: Inputs; derived: Derived } | undefined;

/** What one switch holds for migrations and tunnels, over what follows from the network. */
interface Part {
  base: SwitchTables;
  flows: Map<string, Flow>;
  meters: Map<number, Meter>;
  tables: SwitchTables;
}

interface Derived {
  tables: ReadonlyMap<string, SwitchTables>;
  parts: ReadonlyMap<string, Part>;
}

/**
 * What no flow or meter follows from. Reports of copies change nothing else, and with many copies on a large network they are most of
 * what the controller hears. What is not named here is taken to matter.
 */
const UNSEEN_OF_JOBS: ReadonlySet<keyof Job> = new Set<keyof Job>([
  ...(['progress', 'progressShare', 'watch', 'pacedBps', 'mostPacedBps', 'stragglers'] as const),
  ...(['note', 'behind', 'planned', 'busyUntilMs', 'reasons', 'sliceSteps', 'transitions'] as const),
]);
const UNSEEN_OF_SWITCHES: ReadonlySet<keyof SwitchState> = new Set<keyof SwitchState>([
  ...(['installed', 'inFlight', 'refused', 'refusedWhy', 'tableFullTimes', 'retryAtMs'] as const),
]);

/** Whether two are the same in all that is not `unseen`. */
function isSameButFor<T extends object>(a: T, b: T, unseen: ReadonlySet<keyof T>): boolean {
  if (a === b) return true;
  for (const key in b) if (a[key] !== b[key] && !unseen.has(key)) return false;
  for (const key in a) if (!(key in b) && !unseen.has(key)) return false;
  return true;
}

/** The same of two maps, in their order: of flows that are put twice the later ones hold. */
function areSame<T>(
  before: ReadonlyMap<string, T>,
  now: ReadonlyMap<string, T>,
  isSame: (a: T, b: T) => boolean,
): boolean {
  if (before === now) return true;
  if (before.size !== now.size) return false;
  const entries = before.entries();
  for (const [id, b] of now) {
    const [was, a] = entries.next().value as [string, T];
    if (was !== id || !isSame(a, b)) return false;
  }
  return true;
}

const isSameSwitch = (a: SwitchState, b: SwitchState) => isSameButFor(a, b, UNSEEN_OF_SWITCHES);

function isSameJob(a: Job, b: Job): boolean {
  if (a === b) return true;
  // The size of a slice is in guard meters only.
  const unsliced = a.enforcement === 'meter' ? a : { ...a, sliceBps: b.sliceBps };
  return isSameButFor(unsliced, b, UNSEEN_OF_JOBS);
}

/** Desired flows and meters of every connected switch. Most events change nothing they follow from: then the last answer holds. */
export function desiredTables(state: ControllerState): ReadonlyMap<string, SwitchTables> {
  const { topology, settings, switches, agents, jobs, policy, tunnelPorts, quenches, overlays } = state;
  const p = last?.inputs;
  const isSame =
    p?.topology === topology &&
    p.settings === settings &&
    p.agents === agents &&
    p.policy === policy &&
    p.tunnelPorts === tunnelPorts &&
    p.quenches === quenches &&
    p.overlays === overlays &&
    areSame(p.switches, switches, isSameSwitch) &&
    areSame(p.jobs, jobs, isSameJob);
  const inputs = { topology, settings, switches, agents, jobs, policy, tunnelPorts, quenches, overlays };
  const derived = last && isSame ? last.derived : derive(state, last?.derived.parts);
  last = { inputs, derived };
  return derived.tables;
}

/** The same, made anew. */
export const deriveTables = (state: ControllerState): ReadonlyMap<string, SwitchTables> => derive(state).tables;

/** Whether a switch is to hold the same as before. */
function isSamePart(a: Part, b: Part): boolean {
  return (
    a.base === b.base &&
    areSame(a.flows, b.flows, (f, g) => f.signature === g.signature) &&
    a.meters.size === b.meters.size &&
    [...b.meters].every(([id, m]) => {
      const was = a.meters.get(id);
      return was?.rateKbps === m.rateKbps && was.burstKbits === m.burstKbits;
    })
  );
}

/** Tables of switches that are to hold what they were to hold `before` are the same objects as then. */
function derive(state: ControllerState, before?: ReadonlyMap<string, Part>): Derived {
  const base = networkFlows(state.topology, state.settings.forwarding);
  const out = new Map<string, SwitchTables>();
  for (const [dpid, s] of state.switches) {
    if (s.connected) out.set(dpid, base.get(dpid) ?? EMPTY_TABLES);
  }
  // What no migration touches is the same object as last time, and known to be equal to what is installed.
  const parts = new Map<string, Part>();
  const own = (dpid: string) => {
    const base = out.get(dpid);
    let mine = parts.get(dpid);
    if (base && !mine) {
      mine = { base, flows: new Map(), meters: new Map(), tables: base };
      parts.set(dpid, mine);
    }
    return mine;
  };
  const putOwn = putInto(parts);
  const put: Put = (dpid, ...rest) => {
    own(dpid);
    putOwn(dpid, ...rest);
  };
  // Of what comes out of a tunnel, only stragglers of known migrations go on.
  for (const [id, portNo] of state.tunnelPorts) {
    const dpid = id.slice(0, id.indexOf('/'));
    const comes = of13.OFPMatch({ in_port: portNo });
    put(dpid, TABLE.classify, PRIORITY.link, FEATURE.infrastructure, comes, [goto(TABLE.moved)]);
    put(dpid, TABLE.moved, PRIORITY.tunnel, FEATURE.infrastructure, comes, []);
  }
  quenchFlows(state, put);
  overlayFlows(state, put, (job) => destinationPort(state, job));
  for (const job of state.jobs.values()) {
    if (isActive(job) || pullsNow(job)) streamFlows(state, job, put);
    if (!isActive(job)) continue;
    movedFlows(state, job, put);
    const meter = guardOf(state, job);
    if (meter) own(job.dpids[0] as string)?.meters.set(meter.meterId, meter);
  }
  for (const [dpid, part] of parts) {
    const was = before?.get(dpid);
    const { base, flows, meters } = part;
    part.tables =
      was !== undefined && isSamePart(was, part)
        ? was.tables
        : { flows: new Map([...base.flows, ...flows]), meters, groups: base.groups };
    out.set(dpid, part.tables);
  }
  return { tables: out, parts };
}

/**
 * Ports that send too much for the controller (`quench.ts`). All their frames are taken for those of known senders: a flow that
 * looks at nothing but the port lets the switch handle them alike, where one for each sender would have it look at each anew.
 * What nobody is known for is not spread over the network; who asks by broadcast finds others as ever.
 */
function quenchFlows({ quenches, topology, settings }: ControllerState, put: Put): void {
  const noGroup = { eth_dst: ['00:00:00:00:00:00', '01:00:00:00:00:00'] as [string, string] };
  for (const { at, what } of quenches.values()) {
    const { dpid, portNo } = at;
    if (!topology.port(at) || topology.isTrunk(at)) continue;
    const comes = of13.OFPMatch({ in_port: portNo });
    if (what === 'lldp') {
      const lldp = of13.OFPMatch({ in_port: portNo, eth_type: ETH_LLDP });
      put(dpid, TABLE.classify, PRIORITY.quenchLldp, FEATURE.quenchLldp, lldp, [], portNo);
      continue;
    }
    put(dpid, TABLE.classify, PRIORITY.quench, FEATURE.quench, comes, [goto(TABLE.moved)], portNo);
    // With `normal` forwarding only the switch knows who is known.
    if (settings.forwarding === 'normal') continue;
    const unknown = of13.OFPMatch({ in_port: portNo, ...noGroup });
    put(dpid, TABLE.forward, PRIORITY.unknown, FEATURE.quenchUnknown, unknown, [], portNo);
  }
}

const networkOf = new WeakMap<Topology, Map<string, ReadonlyMap<string, SwitchTables>>>();

/** What follows from the network alone, by datapath: recognising senders, forwarding, discovery. */
function networkFlows(topology: Topology, forwarding: 'managed' | 'normal'): ReadonlyMap<string, SwitchTables> {
  let known = networkOf.get(topology);
  if (!known) {
    known = new Map();
    networkOf.set(topology, known);
  }
  let flows = known.get(forwarding);
  if (!flows) {
    flows = deriveNetworkFlows(topology, forwarding);
    known.set(forwarding, flows);
  }
  return flows;
}

function deriveNetworkFlows(topology: Topology, forwarding: 'managed' | 'normal'): ReadonlyMap<string, SwitchTables> {
  const tables: Tables = new Map();
  const ways = new Ways(topology);
  for (const dpid of topology.switches.keys())
    tables.set(dpid, { flows: new Map(), meters: new Map(), groups: ways.groupsOf(dpid) });
  const put = putInto(tables);
  const any = of13.OFPMatch({});
  const lldp = of13.OFPMatch({ eth_type: ETH_LLDP });
  const bridgeGroup = of13.OFPMatch({ eth_dst: ['01:80:c2:00:00:00', 'ff:ff:ff:ff:ff:f0'] });
  const flood = floodPorts(topology);
  for (const [dpid, node] of topology.switches) {
    put(dpid, 0, PRIORITY.lldp, FEATURE.infrastructure, lldp, [apply([toController(0xffff)])]);
    // A sender we do not know here: tell the controller, and let the frame through meanwhile.
    put(dpid, 0, 0, FEATURE.infrastructure, any, [apply([toController(LEARN_BYTES)]), goto(TABLE.moved)]);
    put(dpid, 1, 0, FEATURE.infrastructure, any, [goto(TABLE.forward)]);
    for (const portNo of node.ports.keys()) {
      if (!topology.isTrunk({ dpid, portNo })) continue;
      put(dpid, 0, PRIORITY.link, FEATURE.infrastructure, of13.OFPMatch({ in_port: portNo }), [goto(TABLE.moved)]);
    }
    if (forwarding === 'normal') put(dpid, 2, 0, FEATURE.forwarding, any, [apply([output(ofp.OFPP_NORMAL)])]);
    else {
      // Control frames of bridges (IEEE 802.1D) must not be flooded.
      put(dpid, 2, PRIORITY.group, FEATURE.forwarding, bridgeGroup, []);
      put(dpid, 2, 0, FEATURE.forwarding, any, [apply((flood.get(dpid) ?? []).map(output))]);
    }
  }
  for (const l of topology.locations.values()) {
    const source = of13.OFPMatch({ in_port: l.at.portNo, eth_src: l.mac });
    put(l.at.dpid, 0, PRIORITY.source, FEATURE.source, source, [goto(TABLE.moved)]);
    if (forwarding === 'normal') continue;
    const destination = of13.OFPMatch({ eth_dst: l.mac });
    for (const dpid of topology.switches.keys()) {
      const way = ways.towards(dpid, l.at);
      if (way === undefined) continue;
      put(dpid, 2, PRIORITY.host, FEATURE.forwarding, destination, [apply([way])]);
      if (l.ip === null || l.kind === 'unknown') continue;
      // Who asks for an address that agents vouch for asks its owner, not everyone; an announcement is for all.
      const asked = { eth_dst: BROADCAST, eth_type: ETH_ARP, arp_op: ARP_REQUEST, arp_tpa: l.ip };
      const everyone = (flood.get(dpid) ?? []).map(output);
      const announced = of13.OFPMatch({ ...asked, arp_spa: l.ip });
      put(dpid, 2, PRIORITY.announcement, FEATURE.forwarding, announced, [apply(everyone)]);
      put(dpid, 2, PRIORITY.asking, FEATURE.forwarding, of13.OFPMatch(asked), [apply([way])]);
    }
  }
  return tables;
}

/** The guard of a job at its first switch, where its links have no queues and the switch has meters. */
function guardOf(state: ControllerState, job: Job): Meter | undefined {
  const first = job.dpids[0];
  const s = first === undefined ? undefined : state.switches.get(first);
  if (!s?.connected || s.maxMeters < METER_BASE + METER_COUNT || !needsSlice(job) || job.sliceBps <= 0)
    return undefined;
  if (job.enforcement !== 'meter') return undefined;
  const rateKbps = Math.ceil((job.sliceBps * GUARD_FACTOR) / 1000);
  return { meterId: meterOf(job), rateKbps, burstKbits: Math.ceil(rateKbps * GUARD_SECONDS) };
}

/**
 * Table 0: the migration's streams, marked, queued and sent along the path reserved for it; its answers the same way back. When
 * the copy is over, what is left of them is the disks that are pulled.
 */
function streamFlows(state: ControllerState, job: Job, put: Put): void {
  if (!job.stream || (job.copyEnded && !pullsNow(job))) return;
  const { sourceIp, destinationIp, destinationPort } = job.stream;
  const tcp = { eth_type: ETH_IPV4, ip_proto: IPPROTO_TCP };
  const there = { ...tcp, ipv4_src: sourceIp, ipv4_dst: destinationIp };
  const here = { ...tcp, ipv4_src: destinationIp, ipv4_dst: sourceIp };
  // Memory; disks that are mirrored; disks that are read at the source, which listens then.
  const taken = job.destination?.diskPort === undefined ? [] : [job.destination.diskPort];
  const listening = job.copyEnded ? [] : [destinationPort, ...taken];
  const connections = [
    ...listening.map((port) => ({
      forward: of13.OFPMatch({ ...there, tcp_dst: port }),
      back: of13.OFPMatch({ ...here, tcp_src: port }),
    })),
    ...(job.disksFrom ? [job.disksFrom.port] : []).map((port) => ({
      forward: of13.OFPMatch({ ...there, tcp_src: port }),
      back: of13.OFPMatch({ ...here, tcp_dst: port }),
    })),
  ];
  const guard = guardOf(state, job);
  const priority = slicePriority(job);
  for (const { dpid, inPort, outPort, isSure } of streamHops(state, job)) {
    const mark = [
      of13.OFPActionSetField({ field: 'ip_dscp', value: state.policy.doc.marks[priority] }),
      of13.OFPActionSetQueue({ queue_id: QUEUE[priority] }),
    ];
    const police = guard && dpid === job.dpids[0] ? [of13.OFPInstructionMeter({ meter_id: guard.meterId })] : [];
    const on = isSure ? [apply([...mark, output(outPort)])] : [apply(mark), goto(TABLE.moved)];
    const answer = inPort !== undefined && inPort !== outPort ? apply([output(inPort)]) : goto(TABLE.moved);
    for (const { forward, back } of connections) {
      put(dpid, 0, PRIORITY.stream, FEATURE.stream, forward, [...police, ...on], job.number);
      put(dpid, 0, PRIORITY.stream, FEATURE.answer, back, [answer], job.number);
    }
  }
}

interface StreamHop {
  dpid: string;
  /** Where the stream comes in and its answers leave; undefined when not known. */
  inPort: number | undefined;
  outPort: number;
  /** Whether `outPort` leads where the reserved path goes; if it does no more, forwarding finds the way. */
  isSure: boolean;
}

/** The way of a job's stream from switch to switch, source first. */
export function streamHops(state: Pick<ControllerState, 'topology' | 'settings' | 'agents'>, job: Job): StreamHop[] {
  const { links } = state.topology;
  const source = attachedAt(state, job, 'from');
  const entry =
    source?.dpid && source.migrationPort ? portByName(state.topology, source.dpid, source.migrationPort) : undefined;
  let inPort = entry?.dpid === job.dpids[0] ? entry?.portNo : undefined;
  return job.dpids.map((dpid, i) => {
    const link = job.links[i];
    const isLast = i === job.dpids.length - 1;
    const next = link === undefined ? undefined : links.get(link)?.to;
    const far = isLast ? undefined : job.dpids[i + 1];
    const outPort = link === undefined ? LOCAL_PORT : linkRef(link).portNo;
    const hop = {
      dpid,
      inPort,
      outPort,
      isSure: far === undefined ? outPort !== inPort : leadsTo(state, link ?? '', far),
    };
    // The way back over a cable is known by itself: it may be lost alone.
    const backIn = next === undefined ? undefined : links.get(linkId(next));
    if (next === undefined && far !== undefined && hop.isSure) inPort = ipPortOf(state, far);
    else inPort = backIn?.to.dpid === dpid ? next?.portNo : undefined;
    return hop;
  });
}

/**
 * Table 1: the way to the guest's new place. The label path (or the tunnel, see `tunnels.ts`) lies ready from the start of the copy; once the guest's
 * traffic is flipped, the old edge labels what still comes for it. With `normal` forwarding the guest's address is also
 * pinned on every switch until their learning has caught up.
 */
function movedFlows(state: ControllerState, job: Job, put: Put): void {
  const there = destinationPort(state, job);
  const oldEdge = attachedAt(state, job, 'from')?.dpid;
  if (!there) return;
  const mac = job.spec.mac;
  const label = labelOf(state, job) | ofp.OFPVID_PRESENT;

  // What other switches still send to the old place comes in by a trunk; the old edge's own hosts go straight to the new
  // one, by `forward`, as far as there is a way. A switch that forwards by learning does not know it yet.
  const path = oldEdge && oldEdge !== there.dpid ? findPath(state.topology, oldEdge, there) : undefined;
  const isDirect = state.settings.forwarding === 'managed' && path !== undefined;
  const straggle = (
    dpid: string,
    actionsAt: (inPort: number | undefined) => unknown[],
    own: readonly number[] = [],
  ) => {
    const trunks = [...(state.topology.switches.get(dpid)?.ports.keys() ?? [])].filter((portNo) =>
      state.topology.isTrunk({ dpid, portNo }),
    );
    for (const inPort of isDirect ? trunks : own) {
      const match = of13.OFPMatch({ in_port: inPort, eth_dst: mac });
      put(dpid, 1, PRIORITY.moved + 1, FEATURE.moved, match, [apply(actionsAt(inPort))], job.number);
    }
    const comes = leftBehind(state, job, dpid);
    if (comes && there.dpid !== dpid) {
      const match = of13.OFPMatch(comes);
      put(dpid, 1, PRIORITY.label, FEATURE.moved, match, [apply(actionsAt(comes.in_port))], job.number);
    }
    const any = of13.OFPMatch({ eth_dst: mac });
    if (!isDirect) put(dpid, 1, PRIORITY.moved, FEATURE.moved, any, [apply(actionsAt(undefined))], job.number);
  };

  const tunnel = tunnelEnds(state, job);
  if (tunnel?.to.dpid === there.dpid) {
    const { from, to, key } = tunnel;
    const arrived = of13.OFPMatch({ in_port: to.portNo, tunnel_id: BigInt(key), eth_dst: mac });
    put(to.dpid, 1, PRIORITY.label, FEATURE.moved, arrived, [apply([output(there.portNo)])], job.number);
    const into = (inPort: number | undefined) => [
      of13.OFPActionSetField({ field: 'tunnel_id', value: BigInt(key) }),
      output(backOr(inPort, from.portNo)),
    ];
    if (job.flipped) straggle(from.dpid, into);
  } else {
    for (const hop of path?.hops ?? []) {
      if (hop.dpid === oldEdge) {
        if (!job.flipped) continue;
        const tag = [
          of13.OFPActionPushVlan({ ethertype: ETH_VLAN }),
          of13.OFPActionSetField({ field: 'vlan_vid', value: label }),
        ];
        // OpenFlow never sends a frame back where it came from unless told so: stragglers come in by the very link they leave by.
        straggle(oldEdge, (inPort) => [...tag, output(backOr(inPort, hop.outPort))], [hop.outPort]);
      } else {
        const last = hop.dpid === there.dpid;
        const actions = last ? [of13.OFPActionPopVlan({}), output(there.portNo)] : [output(hop.outPort)];
        const labelled = of13.OFPMatch({ vlan_vid: label, eth_dst: mac });
        put(hop.dpid, 1, PRIORITY.label, FEATURE.moved, labelled, [apply(actions)], job.number);
      }
    }
  }
  if (isArrivalSafe(state, oldEdge, there)) {
    for (const portNo of state.topology.switches.get(there.dpid)?.ports.keys() ?? []) {
      if (!state.topology.isTrunk({ dpid: there.dpid, portNo })) continue;
      const arrived = of13.OFPMatch({ in_port: portNo, eth_dst: mac });
      put(there.dpid, 1, PRIORITY.arrival, FEATURE.moved, arrived, [apply([output(there.portNo)])], job.number);
    }
  }
  if (state.settings.forwarding === 'normal' && job.flipped) {
    for (const dpid of state.switches.keys()) {
      if (dpid === oldEdge && oldEdge !== there.dpid) continue;
      const port = portTowards(state.topology, dpid, there);
      if (port !== undefined)
        put(dpid, 1, PRIORITY.pin, FEATURE.moved, of13.OFPMatch({ eth_dst: mac }), [apply([output(port)])], job.number);
    }
  }
}

/**
 * Whether what comes from other switches for the guest may go to its new port from the start. Switches change one after
 * the other: one further back may send to the new edge before that has changed, which would send it back where it came
 * from, that is nowhere. Not safe where the new edge lies on a shortest way to the old one: it would take what is not
 * its guest's yet. Such a way would enter the new edge from a neighbour that is further from the old one than it is itself.
 */
function isArrivalSafe(state: ControllerState, oldEdge: string | null | undefined, there: PortRef): boolean {
  const { topology } = state;
  if (state.settings.forwarding !== 'managed' || !oldEdge || oldEdge === there.dpid) return false;
  const hops = (dpid: string) =>
    findPath(topology, dpid, { dpid: oldEdge, portNo: ofp.OFPP_LOCAL })?.dpids.length ?? Number.POSITIVE_INFINITY;
  const own = hops(there.dpid);
  const neighbours = new Set(
    [...topology.links.values()].filter((l) => l.to.dpid === there.dpid).map((l) => l.from.dpid),
  );
  return Number.isFinite(own) && [...neighbours].every((n) => hops(n) <= own);
}

/**
 * Queues of the egress port of a link while migrations are reserved on it: the workload's in queue 0 with what it is left
 * as minimum, one for each priority present with its slices as minimum. All may use what the others leave; the workload
 * borrows first. Slices that are held although they do not fit any more (a source that does not answer, on a link that lost
 * capacity) get what the workload's floor leaves, each its share: a source may send more, but a queue need not let it
 * through. Null when nothing is reserved: then there must be no queues of ours.
 */
export function queuesFor(state: ControllerState, link: string): PortQos | null {
  const share = state.shares.get(link);
  const capacityBps = state.topology.capacityBps(link);
  if (!share || share.byMigration.size === 0 || capacityBps <= 0) return null;
  const byPriority = new Map<Priority, number>();
  for (const [id, bps] of share.byMigration) {
    const job = state.jobs.get(id);
    const priority = job && slicePriority(job);
    if (priority) byPriority.set(priority, (byPriority.get(priority) ?? 0) + bps);
  }
  const maxBps = Math.round(capacityBps);
  const workloadBps = Math.min(maxBps, Math.max(share.workloadBps, share.floorBps));
  const slicesBps = [...byPriority.values()].reduce((sum, bps) => sum + bps, 0);
  const fitting = Math.min(1, (maxBps - workloadBps) / slicesBps);
  const queues = [{ id: 0, minBps: Math.round(workloadBps), maxBps, priority: 0 }];
  for (const p of PRIORITIES) {
    const bps = byPriority.get(p);
    if (bps === undefined) continue;
    queues.push({ id: QUEUE[p], minBps: Math.round(bps * (slicesBps > 0 ? fitting : 1)), maxBps, priority: QUEUE[p] });
  }
  return { maxBps, queues };
}

/** Links of all jobs that hold or recently held slices, so that their queues can be compared. */
export function queuedLinks(state: ControllerState): Set<string> {
  const links = new Set<string>(state.qos.keys());
  for (const [link, share] of state.shares) {
    const dpid = link.slice(0, link.lastIndexOf(':'));
    if (share.byMigration.size > 0 && state.settings.hasQueues(dpid)) links.add(link);
  }
  return links;
}

export const linkRef = (id: string): PortRef => {
  const at = id.lastIndexOf(':');
  return { dpid: id.slice(0, at), portNo: Number(id.slice(at + 1)) };
};
