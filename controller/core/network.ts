/** Events from switches and agents that change the network view: ports, links, who is where. Part of `step.ts`. */
import type { AgentHello, GuestInfo } from '../../contracts/agent.ts';
import { linkId, type PortRef, type Topology } from '../../topology/index.ts';
import { sourcesOf, tellCapacities, toPort } from './capacities.ts';
import { cookieFor, FEATURE, parseCookie } from './cookies.ts';
import { hasRoom } from './crowds.ts';
import { destinationPort, linkRef, METER_BASE, METER_COUNT, portByName, streamHops } from './desired.ts';
import type { SwitchTables } from './difference.ts';
import {
  hostSeen,
  linksHeardOf,
  listenAt,
  onLldp,
  portReset,
  probe,
  switchAway,
  switchBack,
  switchKnown,
} from './discovery.ts';
import type { Event } from './events.ts';
import { type Flow, type Group, isOurGroup } from './flows.ts';
import { onStreamCounted } from './hold.ts';
import { mayMove } from './hostMoves.ts';
import { isLldp, parseSender } from './packets.ts';
import { addReading } from './rates.ts';
import { learnFromFlows } from './settle.ts';
import {
  attachedAt,
  isActive,
  type Job,
  NEW_SWITCH,
  pullsNow,
  type QosState,
  withEntry,
  withoutEntry,
} from './state.ts';
import { onTunnelFrame, onTunnelPort, tunnelsStale, withoutTunnels } from './tunnelWatch.ts';
import type { Turn } from './turn.ts';

type On<K extends Event['kind']> = Extract<Event, { kind: K }>;

const OFPP_MAX = 0xffffff00;

/** Tables as read from a switch. A meter found there has rates we do not know: what is still wanted is written again. */
export function tablesFound(
  found: readonly Flow[],
  meterIds: readonly number[],
  groups: readonly Group[] = [],
): SwitchTables {
  const flows = new Map(found.filter((f) => parseCookie(f.cookie)).map((f) => [f.key, f]));
  const ours = meterIds.filter((id) => id >= METER_BASE && id < METER_BASE + METER_COUNT);
  return {
    flows,
    meters: new Map(ours.map((meterId) => [meterId, { meterId, rateKbps: 0, burstKbits: 0 }])),
    groups: new Map(groups.filter((g) => isOurGroup(g.groupId)).map((g) => [g.groupId, g])),
  };
}

export function onSwitchUp(t: Turn, e: On<'switchUp'>): void {
  const described = withoutTunnels(t, e.dpid, e.ports);
  tunnelsStale(t, e.dpid);
  const ports = new Map(described.map((d) => [d.portNo, toPort(t.state, e.dpid, d)]));
  const name = t.state.settings.nameOf(e.dpid) ?? e.ports.find((p) => p.portNo > OFPP_MAX)?.name ?? e.dpid;
  const known = t.state.topology.switches.has(e.dpid);
  let topology = t.state.topology;
  const earlier = topology;
  const before = topology.switches.get(e.dpid)?.ports;
  const cameUp = [...ports.values()].filter((p) => p.isUp && before?.get(p.portNo)?.isUp !== true);
  if (known) {
    for (const old of topology.switches.get(e.dpid)?.ports.keys() ?? []) {
      if (!ports.has(old)) topology = topology.withoutPort({ dpid: e.dpid, portNo: old });
    }
    for (const port of ports.values()) topology = topology.withPort(e.dpid, port);
    topology = topology.withGroups(e.dpid, e.groupAbility ?? null);
  } else {
    topology = topology.withSwitch({ dpid: e.dpid, name, ports, groups: e.groupAbility ?? null });
    switchKnown(t, e.dpid);
  }
  const installed = tablesFound(e.flows, e.meterIds, e.groups);
  if (known) linksHeardOf(t, e.dpid);
  if (known) switchBack(t, e.dpid);
  // A switch that was restarted may have lost queues or the filters in front of them: they are set again.
  const qos = new Map<string, QosState>();
  for (const [id, q] of t.state.qos) qos.set(id, linkRef(id).dpid === e.dpid ? { ...q, stale: true, note: '' } : q);
  t.set({
    topology,
    qos,
    switches: withEntry(t.state.switches, e.dpid, {
      ...NEW_SWITCH,
      maxMeters: e.maxMeters,
      installed,
    }),
  });
  t.log('info', 'switch.up', {
    ...{ dpid: e.dpid, name, ports: ports.size, flowsFound: installed.flows.size },
    capacitiesFrom: sourcesOf(ports.values()),
  });
  tellCapacities(t, e.dpid, earlier);
  if (!known) learnFromFlows(t, e.dpid, installed);
  if (known) for (const p of cameUp) portReset(t, { dpid: e.dpid, portNo: p.portNo });
  listenAt(
    t,
    cameUp.map((p) => ({ dpid: e.dpid, portNo: p.portNo })),
  );
  placeGuests(t);
  probe(t, e.dpid);
}

export function onSwitchDown(t: Turn, e: On<'switchDown'>): void {
  const s = t.state.switches.get(e.dpid);
  if (!s) return;
  // It goes on forwarding what it holds; topology is kept until its ports or links are known to be gone.
  t.set({ switches: withEntry(t.state.switches, e.dpid, { ...s, connected: false, inFlight: null }) });
  switchAway(t, e.dpid);
  t.log('warn', 'switch.down', { dpid: e.dpid });
}

export function onPortChanged(t: Turn, e: On<'portChanged'>): void {
  if (!t.state.topology.switches.has(e.dpid) || onTunnelPort(t, e)) return;
  const ref = { dpid: e.dpid, portNo: e.port.portNo };
  const before = t.state.topology;
  const topology =
    e.change === 'removed' ? before.withoutPort(ref) : before.withPort(e.dpid, toPort(t.state, e.dpid, e.port));
  t.set({ topology });
  tellCapacities(t, e.dpid, before);
  if (e.change === 'removed' || before.port(ref)?.isUp !== e.port.isUp) portReset(t, ref);
  if (e.change !== 'removed' && e.port.isUp && before.port(ref)?.isUp !== true) listenAt(t, [ref]);
  for (const link of lostLinks(before, topology)) {
    t.log('warn', 'link.lost', { link, why: 'a port of it went down or away' });
  }
  if (e.change === 'removed') {
    const id = linkId(ref);
    // The switch has dropped the port's queues with the port.
    t.set({ ports: withoutEntry(t.state.ports, id), qos: withoutEntry(t.state.qos, id) });
  }
  placeGuests(t);
  if (e.change !== 'removed' && e.port.isUp) probe(t, e.dpid, e.port.portNo);
}

/** Links of one snapshot that a later one no longer has. */
function lostLinks(before: Topology, after: Topology): string[] {
  return before.links === after.links ? [] : [...before.links.keys()].filter((id) => !after.links.has(id));
}

/** Brings the links that were found into the topology, before anything else is made of it. */
export function linksAdded(t: Turn): void {
  if (t.addFoundLinks()) placeGuests(t);
}

export function onPacketIn(t: Turn, e: On<'packetIn'>): void {
  const here: PortRef = { dpid: e.dpid, portNo: e.inPort };
  if (!t.state.topology.port(here)) {
    onTunnelFrame(t, here, e.frame);
    return;
  }
  if (isLldp(e.frame)) {
    onLldp(t, here, e.frame);
    return;
  }
  linksAdded(t);
  if (t.state.topology.isTrunk(here)) return;
  const seen = parseSender(e.frame);
  if (!seen) return;
  const known = t.state.topology.locations.get(seen.mac);
  // Where a guest is, its agents say: a frame from elsewhere with its address is a straggler or a forgery.
  if (known?.kind === 'guest') return;
  // It may only have come through what is not known to be a link yet.
  if (t.state.topology.isListening(here)) return;
  if (known && !mayMove(t, known, here)) return;
  if (!hasRoom(t, known, here)) return;
  const ip = seen.ip ?? known?.ip ?? null;
  const host = ip === null ? undefined : [...t.state.agents.values()].find((a) => a.migrationIp === ip);
  const location = {
    mac: seen.mac,
    ip,
    name: host?.host ?? known?.name ?? null,
    kind: host ? ('host' as const) : ('unknown' as const),
    at: here,
  };
  t.set({ topology: t.state.topology.withLocation(location) });
  hostSeen(t, here);
}

/**
 * Puts every guest at the port its agents report, or, during a migration, at the end its traffic is directed to.
 * Called whenever ports, agents' reports or a job's direction change.
 */
export function placeGuests(t: Turn): void {
  let { topology } = t.state;
  const moving = new Map([...t.state.jobs.values()].filter(isActive).map((j) => [j.guest, j]));
  const place = (g: GuestInfo, at: PortRef) => {
    topology = topology.withLocation({ mac: g.spec.mac, ip: g.spec.ip ?? null, name: g.spec.name, kind: 'guest', at });
  };
  for (const agent of t.state.agents.values()) {
    if (!agent.dpid) continue;
    for (const g of agent.guests) {
      const job = moving.get(g.spec.name);
      const at = portByName(t.state.topology, agent.dpid, g.portName);
      if (job) {
        if (job.flipped) {
          const there = destinationPort(t.state, job);
          if (there) place(g, there);
        } else if (agent.host === job.from && at) place(g, at);
      } else if (at && g.state !== 'incoming' && g.state !== 'stopped') place(g, at);
    }
  }
  t.set({ topology });
}

export function onAgentUp(t: Turn, host: string, hello: AgentHello): void {
  t.set({
    agents: withEntry(t.state.agents, host, {
      connected: true,
      awaySinceMs: null,
      host,
      driver: hello.driver,
      migrationIp: hello.migrationIp ?? null,
      dpid: hello.dpid ?? null,
      migrationPort: hello.migrationPort ?? null,
      limits: hello.limits ?? {},
      techniques: hello.techniques,
      abilities: hello.abilities ?? null,
      guests: hello.guests,
      guestMemoryMiB: hello.guestMemoryMiB ?? null,
      hostLabels: hello.hostLabels ?? {},
    }),
  });
  t.log('info', 'agent.up', {
    host,
    driver: hello.driver,
    guests: hello.guests.length,
    migrations: hello.migrations.length,
  });
  placeGuests(t);
}

export function onAgentDown(t: Turn, host: string): void {
  const agent = t.state.agents.get(host);
  if (!agent) return;
  t.set({ agents: withEntry(t.state.agents, host, { ...agent, connected: false, awaySinceMs: t.nowMs }) });
  t.log('warn', 'agent.down', { host });
}

export function onGuests(t: Turn, host: string, guests: readonly GuestInfo[]): void {
  const agent = t.state.agents.get(host);
  if (!agent) return;
  t.set({ agents: withEntry(t.state.agents, host, { ...agent, guests }) });
  placeGuests(t);
}

/** What a switch counted of one migration's stream, and where it passes that switch. */
interface StreamCount {
  job: Job;
  inPort: number | undefined;
  outPort: number;
  /** From the source to the destination, and of answers to it. */
  bytes: number;
  answerBytes: number;
  /** The switch has flows that count it. */
  isCounted: boolean;
}

function streamCounts(t: Turn, e: On<'counters'>): StreamCount[] {
  const counted = new Map<string, number>();
  for (const f of e.flows) {
    const c = parseCookie(f.cookie);
    if (c?.feature !== FEATURE.stream && c?.feature !== FEATURE.answer) continue;
    const key = `${c.feature} ${c.objectId}`;
    counted.set(key, (counted.get(key) ?? 0) + f.bytes);
  }
  return [...t.state.jobs.values()].flatMap((job) => {
    if ((!isActive(job) && !pullsNow(job)) || !job.dpids.includes(e.dpid)) return [];
    const hop = streamHops(t.state, job).find((h) => h.dpid === e.dpid) as ReturnType<typeof streamHops>[number];
    const sent = counted.get(`${FEATURE.stream} ${job.number}`);
    const answerBytes = counted.get(`${FEATURE.answer} ${job.number}`) ?? 0;
    const { inPort, outPort } = hop;
    return [{ job, inPort, outPort, bytes: sent ?? 0, answerBytes, isCounted: sent !== undefined }];
  });
}

const total = (all: readonly StreamCount[], of: (s: StreamCount) => number): number =>
  all.reduce((a, s) => a + of(s), 0);

/** Counters of one switch: port rates for all its ports, stragglers for the jobs whose old edge it is. */
export function onCounters(t: Turn, e: On<'counters'>): void {
  const ports = t.draft('ports');
  const windowMs = t.state.policy.doc.direction.windowMs;
  const streams = streamCounts(t, e);
  for (const p of e.ports) {
    const id = linkId({ dpid: e.dpid, portNo: p.portNo });
    const leaving = streams.filter((s) => s.outPort === p.portNo);
    const entering = streams.filter((s) => s.inPort === p.portNo);
    // A queue's counter is read with the port's; a flow's comes through a cache and lags: it is the second choice.
    const queued = e.queues.filter((q) => q.portNo === p.portNo && q.queueId > 0);
    const isQueued = t.state.qos.get(id)?.enforcement === 'queue' && queued.length > 0;
    const sent = isQueued ? queued.reduce((a, q) => a + q.txBytes, 0) : total(leaving, (s) => s.bytes);
    const reading = {
      atMs: t.nowMs,
      rxBytes: p.rxBytes,
      txBytes: p.txBytes,
      // Answers have no queue of their own.
      migrationTxBytes: sent + total(entering, (s) => s.answerBytes),
      migrationRxBytes: total(entering, (s) => s.bytes) + total(leaving, (s) => s.answerBytes),
    };
    const had = ports.get(id);
    // What a stream's flow had counted before the stream came this way did not pass by this port.
    const isFirst =
      had &&
      [...leaving, ...entering].some(
        ({ job: { pathSinceMs } }) => pathSinceMs !== null && pathSinceMs >= had.last.atMs,
      );
    ports.set(id, isFirst ? { ...had, last: reading } : addReading(had, reading, windowMs));
  }
  for (const s of streams) if (s.isCounted) onStreamCounted(t, s.job.id, e.dpid, s.bytes);
  for (const job of t.state.jobs.values()) {
    if (job.state !== 'draining' || attachedAt(t.state, job, 'from')?.dpid !== e.dpid) continue;
    const packets = e.flows
      .filter((f) => f.cookie === cookieFor(FEATURE.moved, job.number))
      .reduce((a, f) => a + f.packets, 0);
    const more = packets > job.stragglers.packets ? { packets, lastMs: t.nowMs } : job.stragglers;
    t.setJob(job.id, { stragglers: { ...more, readMs: t.nowMs } });
  }
}
