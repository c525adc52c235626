/**
 * Tunnels between the old and the new edge of a move, across an IP network that knows nothing of labels, and between a guest and
 * the home network it is away from (`overlays.ts`): VXLAN, GRE or
 * Geneve ports that the switches make when they are told so through OVSDB (`controller/io/tunnels.ts`). Which there should be
 * follows from jobs and guests alone; the difference becomes effects, as with flows and queues. A tunnel is used once a signed
 * probe has come through it; `tunnelWatch.ts` sends those, and sees whether ports are there and carry. `desired.ts` makes the
 * flows, `jobs.ts` waits. Part of `step.ts`.
 *
 * Tunnel ports are no part of the topology: nothing is flooded into them, no path leads through them, no host is behind them.
 */
import type { Reason } from '../../contracts/common.ts';
import { findPath, type PortRef } from '../../topology/index.ts';
import type { Event, TunnelKind, TunnelPort } from './events.ts';
import type { Overlay } from './overlays.ts';
import { NO_TRIES, nextTry } from './retry.ts';
import {
  attachedAt,
  type ControllerState,
  isActive,
  type Job,
  type TunnelState,
  withEntry,
  withoutEntry,
} from './state.ts';
import type { Turn } from './turn.ts';

/**
 * Bytes of the outer packet before the inner frame's payload, over IPv4 and without the inner Ethernet header: IPv4 20, UDP 8
 * and VXLAN 8 (RFC 7348 §5) or Geneve 8 without options (RFC 8926 §3.4), or GRE 4 with a key of 4 (RFC 2890 §2).
 */
const HEADERS: Record<TunnelKind, number> = { vxlan: 36, geneve: 36, gre: 28 };
const INNER_ETHERNET = 14;
const IPV6_MORE = 20;
/** Ports are waited for, and then a probe through them, this long; then the move goes on without the tunnel. */
export const READY_MS = 8000;

const reason = (rule: string, text: string, inputs: Reason['inputs'] = {}): Reason => ({ rule, text, inputs });

/** By how much the MTU under a tunnel must exceed that of the frames inside, bytes. */
export const tunnelOverhead = (kind: TunnelKind, address: string): number =>
  HEADERS[kind] + INNER_ETHERNET + (address.includes(':') ? IPV6_MORE : 0);

/** Name of the port of a switch that leads to another one: short enough for a network device, and known to be ours. */
export const tunnelName = (remoteDpid: string): string => `fwt${remoteDpid.slice(-12)}`;
export const isTunnelName = (name: string): boolean => /^fwt[0-9a-f]{12}$/.test(name);

/** Of a tunnel port, in the maps of the state. */
export const idOf = (dpid: string, name: string): string => `${dpid}/${name}`;

/** How stragglers of a move go from the old edge to the new one. */
export type Detour =
  | { by: 'label' }
  /** `from` and `to` are datapaths; the key tells migrations that share the ports. */
  | { by: 'tunnel'; from: string; to: string; key: number; sinceMs: number; isReady: boolean };

/** The two ports of a tunnel, one at each end; undefined where a switch has no address for one. */
export function endsOf(state: ControllerState, a: string, b: string): [TunnelPort, TunnelPort] | undefined {
  const { tunnels } = state.settings;
  const [here, there] = [tunnels?.addressOf(a), tunnels?.addressOf(b)];
  if (!tunnels || here === undefined || there === undefined) return undefined;
  const { kind, udpPort } = tunnels;
  const end = (dpid: string, remote: string, localAddress: string, remoteAddress: string): TunnelPort => ({
    ...{ dpid, name: tunnelName(remote), kind, localAddress, remoteAddress },
    ...(udpPort === undefined || kind === 'gre' ? {} : { udpPort }),
  });
  return [end(a, b, here, there), end(b, a, there, here)];
}

/**
 * Chooses the way of a job's stragglers, when it begins to be prepared: under a label where the fabric has a way, unless the
 * configuration wants tunnels; else through a tunnel, where both switches have an address for one.
 */
export function chooseDetour(t: Turn, job: Job): void {
  const from = t.state.agents.get(job.from)?.dpid;
  const to = t.state.agents.get(job.to)?.dpid;
  if (!from || !to || from === to) return;
  // What comes to the old place of a guest that leaves its home network takes the tunnel that it keeps.
  if (job.overlay?.anchor === from) return;
  const ends = endsOf(t.state, from, to);
  const path = findPath(t.state.topology, from, { dpid: to, portNo: OFPP_LOCAL });
  if (path && !(ends && t.state.settings.tunnels?.use === 'always')) {
    t.setJob(job.id, { detour: { by: 'label' } });
    return;
  }
  if (!ends) {
    const text = `stragglers of ${job.guest} have no way from ${job.from} to ${job.to}: the fabric has none, and one of them has no tunnelAddress`;
    t.decide('reroute', job.id, [reason('tunnel.none', text)]);
    return;
  }
  const key = job.number & 0xffffff;
  t.setJob(job.id, { detour: { by: 'tunnel', from, to, key, sinceMs: t.nowMs, isReady: false } });
}

const OFPP_LOCAL = 0xfffffffe;

/** The switches of its home network that a guest away has tunnels to: its anchor, those before it that may still be used, one that is tried. */
const anchorsOf = (o: Overlay): string[] => [
  ...new Set([o.anchor, ...o.former, ...(o.search?.trying ? [o.search.trying] : [])]),
];

/** Datapaths between which there are to be tunnels for guests away from home, or on their way there. */
export function pairsOfGuests(state: ControllerState): { from: string; to: string }[] {
  const pairs = [...state.overlays.values()]
    .filter((o) => o.isAway)
    .flatMap((o) => anchorsOf(o).map((from) => ({ from, to: o.at.dpid })));
  for (const job of state.jobs.values()) {
    if (!isActive(job)) continue;
    if (job.overlay) pairs.push({ from: job.overlay.anchor, to: job.overlay.to });
    // What is under way in the tunnel to the place that it leaves must not be lost with it.
    const anchor = state.overlays.get(job.guest)?.anchor;
    const left = attachedAt(state, job, 'from')?.dpid;
    if (anchor !== undefined && left && left !== anchor) pairs.push({ from: anchor, to: left });
  }
  return pairs;
}

/** Ports that are needed, by id. A job that has given its tunnel up needs none. */
export function tunnelsWanted(state: ControllerState): Map<string, TunnelPort> {
  const wanted = new Map<string, TunnelPort>();
  const add = (from: string, to: string) => {
    for (const end of endsOf(state, from, to) ?? []) wanted.set(idOf(end.dpid, end.name), end);
  };
  for (const job of state.jobs.values())
    if (isActive(job) && job.detour?.by === 'tunnel') add(job.detour.from, job.detour.to);
  for (const { from, to } of pairsOfGuests(state)) add(from, to);
  return wanted;
}

/** The port of a switch that leads by a tunnel to another one, once the switch has told it. */
export const tunnelPortOf = (state: ControllerState, dpid: string, towards: string): number | undefined =>
  state.tunnelPorts.get(idOf(dpid, tunnelName(towards)));

/** Where a job's tunnel begins and ends, once the switches have told the ports; undefined before, and for other jobs. */
export function tunnelEnds(state: ControllerState, job: Job): { from: PortRef; to: PortRef; key: number } | undefined {
  if (job.detour?.by !== 'tunnel') return undefined;
  const { from, to, key } = job.detour;
  const there = tunnelPortOf(state, from, to);
  const back = tunnelPortOf(state, to, from);
  if (there === undefined || back === undefined) return undefined;
  return { from: { dpid: from, portNo: there }, to: { dpid: to, portNo: back }, key };
}

const NEW: TunnelState = {
  wanted: null,
  inFlight: null,
  applied: null,
  isStale: false,
  note: '',
  mtus: {},
  provenMs: null,
  askedMs: null,
  probedMs: 0,
  downSinceMs: null,
  mends: NO_TRIES,
  isMadeAnew: false,
  ...NO_TRIES,
};
/** Tunnels that an earlier life has made for jobs that it left: they may be there, and are made sure of, or removed. */
export const tunnelsLeft = (state: ControllerState): ReadonlyMap<string, TunnelState> =>
  new Map([...tunnelsWanted(state)].map(([id, port]) => [id, { ...NEW, wanted: port, applied: port, isStale: true }]));

const same = (a: TunnelPort | null, b: TunnelPort | null): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Names of the ports whose MTU decides what fits through a job's tunnel at one end: the guest's, and those under the tunnel. */
function portsUnder(state: ControllerState, dpid: string): string[] {
  const names = new Set<string>();
  for (const agent of state.agents.values()) {
    if (agent.dpid !== dpid) continue;
    if (agent.migrationPort !== null) names.add(agent.migrationPort);
    for (const g of agent.guests) names.add(g.portName);
  }
  for (const job of state.jobs.values()) {
    if (!isActive(job)) continue;
    for (const link of job.links) {
      const at = link.lastIndexOf(':');
      const name = state.topology.port({ dpid: link.slice(0, at), portNo: Number(link.slice(at + 1)) })?.name;
      if (link.slice(0, at) === dpid && name !== undefined) names.add(name);
    }
  }
  return [...names];
}

/** Brings the tunnel ports to what the jobs ask for, one change of a port at a time. */
export function writeTunnels(t: Turn): void {
  const wanted = tunnelsWanted(t.state);
  for (const id of new Set([...wanted.keys(), ...t.state.tunnels.keys()])) {
    const before = t.state.tunnels.get(id) ?? NEW;
    const port = before.isMadeAnew ? null : (wanted.get(id) ?? null);
    // Of a change that could not be made it is not known what of it was: it is not done with before one has been confirmed.
    if (before.inFlight || (!before.isStale && before.note === '' && same(before.applied, port))) continue;
    // It is tried again when another one is due, or after a while.
    if (before.note !== '' && same(before.wanted, port) && t.nowMs < before.retryAtMs) continue;
    const [dpid = '', name = ''] = id.split('/');
    const serial = t.state.nextSerial;
    const mtuOf = port ? portsUnder(t.state, dpid) : [];
    const now = { ...before, wanted: port, isStale: false, inFlight: { serial, port }, note: '' };
    t.set({ nextSerial: serial + 1, tunnels: withEntry(t.state.tunnels, id, now) });
    t.effects.push({ kind: 'tunnel', dpid, name, serial, port, mtuOf });
  }
}

export function onTunnelDone(t: Turn, e: Extract<Event, { kind: 'tunnelDone' }>): void {
  const id = idOf(e.dpid, e.name);
  const tunnel = t.state.tunnels.get(id);
  if (tunnel?.inFlight?.serial !== e.serial) return;
  const failed = e.note !== '';
  const applied = failed ? tunnel.applied : tunnel.inFlight.port;
  if (failed) t.log('warn', 'tunnel.notSet', { dpid: e.dpid, port: e.name, note: e.note });
  else t.log('info', applied ? 'tunnel.up' : 'tunnel.removed', { dpid: e.dpid, port: e.name });
  if (applied === null && !failed && !tunnel.isMadeAnew) t.set({ tunnels: withoutEntry(t.state.tunnels, id) });
  else {
    const { note, mtus } = e;
    const now = { ...tunnel, inFlight: null, applied, note, mtus, ...nextTry(t, tunnel, failed) };
    const isRemoved = tunnel.isMadeAnew && !failed;
    const next = isRemoved ? { ...now, isMadeAnew: false, isStale: true, downSinceMs: null } : now;
    t.set({ tunnels: withEntry(t.state.tunnels, id, next) });
  }
}

/** Whether a probe has come through the tunnel in this direction. */
export const isProven = (state: ControllerState, from: string, to: string): boolean =>
  (state.tunnels.get(idOf(to, tunnelName(from)))?.provenMs ?? null) !== null;

/** Both ports of a tunnel, as ordered. */
const statesOf = (state: ControllerState, from: string, to: string): (TunnelState | undefined)[] =>
  [idOf(from, tunnelName(to)), idOf(to, tunnelName(from))].map((id) => state.tunnels.get(id));

/** Whether the databases of both ends have confirmed its ports. A probe may have come through before: ports that are there carry. */
export const isMade = (state: ControllerState, from: string, to: string): boolean =>
  statesOf(state, from, to).every((x) => x?.applied && !x.inFlight);

/** Why a tunnel cannot be had; undefined while it may still come. */
export function tunnelTrouble(state: ControllerState, from: string, to: string, isLate: boolean): string | undefined {
  const note = noteOf(state, from, to);
  if (note !== undefined || !isLate) return note;
  const kind = state.settings.tunnels?.kind ?? 'vxlan';
  return `no probe came through the ${kind} tunnel within ${READY_MS / 1000} s: ${whatToCheck(state)}`;
}

/** What the databases of its ends say against a tunnel. */
export const noteOf = (state: ControllerState, from: string, to: string): string | undefined =>
  statesOf(state, from, to)
    .map((x) => x?.note ?? '')
    .find((n) => n !== '');

/** What may stand between two ends that are both as they should be. */
export function whatToCheck({ settings }: ControllerState): string {
  const kind = settings.tunnels?.kind ?? 'vxlan';
  const gate = kind === 'gre' ? 'IP protocol 47' : `UDP port ${settings.tunnels?.udpPort ?? DEFAULT_PORT[kind]}`;
  return `check that tunnelAddress of both switches is right and that ${gate} is open between them`;
}

/**
 * Whether a job need not wait for its tunnel (any more). One that is ready is recorded with what fits through it; one that
 * cannot be had in time is given up for the label path, where there is one, and the record says why.
 */
export function isDetourReady(t: Turn, job: Job): boolean {
  const { detour } = job;
  if (detour?.by !== 'tunnel' || detour.isReady) return true;
  const { from, to } = detour;
  if (isMade(t.state, from, to) && isProven(t.state, from, to)) {
    t.setJob(job.id, { detour: { ...detour, isReady: true } });
    const use = `stragglers of ${job.guest} will go through it`;
    t.decide('reroute', job.id, readyReasons(t.state, job, { from, fromName: job.from, to, use }));
    return true;
  }
  const why = tunnelTrouble(t.state, from, to, t.nowMs - detour.sinceMs >= READY_MS);
  if (why === undefined) return false;
  const hasPath = findPath(t.state.topology, from, { dpid: to, portNo: OFPP_LOCAL }) !== undefined;
  const instead = hasPath ? 'stragglers go under a label instead' : 'stragglers have no way';
  t.setJob(job.id, { detour: hasPath ? { by: 'label' } : null });
  t.decide('reroute', job.id, [reason('tunnel.givenUp', `${why}; ${instead}`)]);
  return true;
}

/** UDP ports that IANA assigned. */
const DEFAULT_PORT = { vxlan: 4789, geneve: 6081 } as const;

/** The record of a tunnel that a job may rely on: what it is for, and whether the guest's frames fit through it. */
export function readyReasons(
  state: ControllerState,
  job: Job,
  tunnel: { from: string; fromName: string; to: string; use: string },
): Reason[] {
  const ends = statesOf(state, tunnel.from, tunnel.to).flatMap((x) => x ?? []);
  const kind = state.settings.tunnels?.kind ?? 'vxlan';
  const address = ends[0]?.applied?.remoteAddress ?? '';
  const overhead = tunnelOverhead(kind, address);
  const ready = reason(
    'tunnel.ready',
    `a probe came through the ${kind} tunnel from ${tunnel.fromName} to ${address}: ${tunnel.use}`,
    { overheadBytes: overhead },
  );
  const guestPorts = new Set([...state.agents.values()].flatMap((a) => a.guests.map((g) => g.portName)));
  const own = [
    state.agents.get(job.from)?.guests.find((g) => g.spec.name === job.guest)?.portName,
    job.destination?.portName,
  ];
  const mtus = ends.flatMap((e) => Object.entries(e.mtus));
  const inner = mtus.filter(([name]) => own.includes(name)).map(([, mtu]) => mtu);
  const under = mtus.filter(([name]) => !guestPorts.has(name));
  if (inner.length === 0 || under.length === 0) return [ready];
  const guestMtu = Math.max(...inner);
  const [portName, underMtu] = under.reduce((a, b) => (b[1] < a[1] ? b : a));
  const inputs = { guestMtu, overheadBytes: overhead, underlayMtu: underMtu, underlayPort: portName };
  if (guestMtu + overhead <= underMtu) {
    const text = `frames of ${job.guest} fit: MTU ${guestMtu} and ${overhead} bytes of ${kind} are within the ${underMtu} of port ${portName}`;
    return [ready, reason('tunnel.fits', text, inputs)];
  }
  const text =
    `full-size frames of ${job.guest} do not fit through the tunnel: MTU ${guestMtu} and ${overhead} bytes of ${kind} exceed the ` +
    `${underMtu} of port ${portName}; give that network an MTU of at least ${guestMtu + overhead}, or the guest one of at most ${underMtu - overhead}`;
  return [ready, reason('tunnel.mtu', text, inputs)];
}
