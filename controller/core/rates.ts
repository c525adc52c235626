/** Rates from cumulative counters, and what the algorithm asks of them: workload per link, direction per guest and host. */
import type { Direction, Reason } from '../../contracts/common.ts';
import { classifyDirection } from '../../policies/index.ts';
import { linkId, type Topology } from '../../topology/index.ts';
import { portByName } from './desired.ts';
import { reportedGuest } from './guestHosts.ts';
import type { AgentState, ControllerState, PortHistory, PortRate, PortReading } from './state.ts';

const OFPP_LOCAL = 0xfffffffe;

/** Bytes since the last reading; a counter that went back has been reset, and counts from zero. */
const since = (now: number, before: number): number => (now >= before ? now - before : now);

/**
 * History with one more reading; rates older than `windowMs` are dropped. Readings less than 50 ms apart are ignored.
 * When the migration counter went back, its queue or flow was taken away in between together with what it had counted:
 * the interval tells nothing of the workload, and taking all of it for workload would starve whoever comes next.
 */
export function addReading(history: PortHistory | undefined, reading: PortReading, windowMs: number): PortHistory {
  if (!history) return { last: reading, rates: [] };
  const { last } = history;
  const ms = reading.atMs - last.atMs;
  if (ms < 50) return history;
  const kept = history.rates.filter((r) => r.atMs > reading.atMs - windowMs);
  const isReset = reading.migrationTxBytes < last.migrationTxBytes || reading.migrationRxBytes < last.migrationRxBytes;
  if (isReset) return { last: reading, rates: kept };
  const bps = (bytes: number) => (bytes * 8000) / ms;
  const rate = {
    atMs: reading.atMs,
    rxBps: bps(since(reading.rxBytes, last.rxBytes)),
    txBps: bps(since(reading.txBytes, last.txBytes)),
    migrationTxBps: bps(reading.migrationTxBytes - last.migrationTxBytes),
    migrationRxBps: bps(reading.migrationRxBytes - last.migrationRxBytes),
  };
  return { last: reading, rates: [...kept, rate] };
}

/** Workload leaving by an egress port, bit/s, in the last reading; undefined when there is none younger than `maxAgeMs`. */
export function workloadBps(state: ControllerState, link: string, nowMs: number, maxAgeMs: number): number | undefined {
  const rate = state.ports.get(link)?.rates.at(-1);
  if (!rate || nowMs - rate.atMs > maxAgeMs) return undefined;
  return Math.max(0, rate.txBps - rate.migrationTxBps);
}

/** The most workload that left by an egress port in any reading of the window, bit/s; undefined when there is none. */
export function workloadPeakBps(state: ControllerState, link: string): number | undefined {
  const rates = state.ports.get(link)?.rates ?? [];
  return rates.length === 0 ? undefined : Math.max(...rates.map((r) => r.txBps - r.migrationTxBps), 0);
}

/** Migration traffic leaving by an egress port in the last reading, bit/s. */
export function migrationBps(state: ControllerState, link: string): number {
  return state.ports.get(link)?.rates.at(-1)?.migrationTxBps ?? 0;
}

export interface Traffic {
  /** Towards the guest or host, bit/s over the window. */
  inBps: number;
  /** From it. */
  outBps: number;
  direction: Direction;
  reasons: Reason[];
}

/**
 * Migration traffic that came in by a port, mean over the window: what its neighbour at the other end of the link sent of it,
 * which queues may have counted; where no switch is, what flows counted that came in there.
 */
function migrationIntoBps(state: ControllerState, id: string): number {
  const neighbour = state.topology.links.get(id)?.to;
  const rates = state.ports.get(neighbour ? linkId(neighbour) : id)?.rates ?? [];
  if (rates.length === 0) return 0;
  return rates.reduce((a, r) => a + (neighbour ? r.migrationTxBps : r.migrationRxBps), 0) / rates.length;
}

/**
 * Counters of streams are this much older or younger than those of ports: Open vSwitch adds to its flows' what its caches
 * counted about twice a second. test/data/counters shows it.
 */
const LAG_MS = 500;

interface Mean {
  rxBps: number;
  txBps: number;
  capacityBps: number;
  /** What of both may be migration streams, whose counters lag. */
  uncertainBps: number;
  /** The same in each reading of the window, newest first. */
  readings: { rxBps: number; txBps: number }[];
}

/** What the ports that were read can carry together, bit/s. */
const capacityOf = (state: ControllerState, ids: readonly string[]): number =>
  ids.reduce((sum, id) => sum + ((state.ports.get(id)?.rates.length ?? 0) > 0 ? state.topology.capacityBps(id) : 0), 0);

/** Mean of what a port received and sent over the window, without migration streams. */
function meanOf(state: ControllerState, ids: readonly string[]): Mean {
  const sum: Mean = { rxBps: 0, txBps: 0, capacityBps: capacityOf(state, ids), uncertainBps: 0, readings: [] };
  const lagShare = LAG_MS / state.policy.doc.direction.windowMs;
  for (const id of ids) {
    const rates = state.ports.get(id)?.rates ?? [];
    if (rates.length === 0) continue;
    const mean = (of: (r: PortRate) => number) => rates.reduce((a, r) => a + of(r), 0) / rates.length;
    const inward = migrationIntoBps(state, id);
    sum.rxBps += Math.max(0, mean((r) => r.rxBps) - inward);
    // The mean of the differences: that of each reading is off by what the stream's counter lags, now up, now down.
    sum.txBps += Math.max(
      0,
      mean((r) => r.txBps - r.migrationTxBps),
    );
    sum.uncertainBps += lagShare * (mean((r) => r.migrationTxBps) + inward);
    // Ports of one switch are read together: the n-th last readings belong to the same time.
    rates.toReversed().forEach((r, i) => {
      const at = sum.readings[i] ?? { rxBps: 0, txBps: 0 };
      at.rxBps += Math.max(0, r.rxBps - inward);
      at.txBps += Math.max(0, r.txBps - r.migrationTxBps);
      sum.readings[i] = at;
    });
  }
  return sum;
}

/** Traffic of a guest, seen at the port it is attached to: what the switch receives there is what the guest sends. */
export function guestTraffic(state: ControllerState, guest: string): Traffic {
  const at = state.topology.locationByName(guest)?.at;
  const ids = at ? [linkId(at)] : [];
  const m = meanOf(state, ids);
  // A virtual card has no speed of its own: the host's uplink is what its traffic is measured against.
  const agent = reportedGuest(state, guest)?.agent;
  const uplink = agent ? capacityOf(state, uplinksOf(state, agent)) : 0;
  const capacityBps = uplink > 0 ? uplink : m.capacityBps;
  const readings = m.readings.map((r) => ({ inBps: r.txBps, outBps: r.rxBps }));
  const before = state.directions.get(`guest ${guest}`);
  const seen = { inBps: m.txBps, outBps: m.rxBps, capacityBps, uncertainBps: m.uncertainBps, readings, before };
  const d = classifyDirection(seen, state.policy);
  return { inBps: m.txBps, outBps: m.rxBps, direction: d.value, reasons: d.reasons };
}

/** Uplinks found before: neither a topology nor what an agent said is ever changed in place. */
const uplinks = new WeakMap<Topology, WeakMap<AgentState, readonly string[]>>();

/** Ports by which a host's traffic enters and leaves: the uplinks of its own switch, or its port on a shared one. */
function uplinksOf(state: ControllerState, agent: AgentState): readonly string[] {
  const known = uplinks.get(state.topology) ?? new WeakMap<AgentState, readonly string[]>();
  uplinks.set(state.topology, known);
  const found = known.get(agent) ?? findUplinks(state, agent);
  known.set(agent, found);
  return found;
}

function findUplinks(state: ControllerState, agent: AgentState): readonly string[] {
  if (!agent.dpid) return [];
  const own = agent.migrationPort ? portByName(state.topology, agent.dpid, agent.migrationPort) : undefined;
  if (own && own.portNo !== OFPP_LOCAL) return [linkId(own)];
  const dpid = agent.dpid;
  return [...(state.topology.switches.get(dpid)?.ports.keys() ?? [])]
    .filter((portNo) => state.topology.isTrunk({ dpid, portNo }))
    .map((portNo) => linkId({ dpid, portNo }));
}

/** Workload traffic of a host over the window. */
export function hostTraffic(state: ControllerState, host: string): Traffic {
  const agent = state.agents.get(host);
  const ids = agent ? uplinksOf(state, agent) : [];
  const m = meanOf(state, ids);
  const own =
    agent?.dpid && agent.migrationPort ? portByName(state.topology, agent.dpid, agent.migrationPort) : undefined;
  // On the host's own switch an uplink sends what the host sends; on a shared switch its port receives it.
  const ownSwitch = !own || own.portNo === OFPP_LOCAL;
  const inBps = ownSwitch ? m.rxBps : m.txBps;
  const outBps = ownSwitch ? m.txBps : m.rxBps;
  const readings = m.readings.map((r) =>
    ownSwitch ? { inBps: r.rxBps, outBps: r.txBps } : { inBps: r.txBps, outBps: r.rxBps },
  );
  const before = state.directions.get(`host ${host}`);
  const seen = { inBps, outBps, capacityBps: m.capacityBps, uncertainBps: m.uncertainBps, readings, before };
  const d = classifyDirection(seen, state.policy);
  return { inBps, outBps, direction: d.value, reasons: d.reasons };
}

/** The directions that guests and hosts have now, to be kept until they are clearly left; those without counters have none. */
export function directionsNow(state: ControllerState): ReadonlyMap<string, Direction> {
  const next = new Map<string, Direction>();
  for (const agent of state.agents.values()) {
    const host = hostTraffic(state, agent.host);
    if (host.inBps + host.outBps > 0) next.set(`host ${agent.host}`, host.direction);
    for (const { spec } of agent.guests) {
      const guest = guestTraffic(state, spec.name);
      if (guest.inBps + guest.outBps > 0) next.set(`guest ${spec.name}`, guest.direction);
    }
  }
  const isSame = next.size === state.directions.size && [...next].every(([k, v]) => state.directions.get(k) === v);
  return isSame ? state.directions : next;
}
