/**
 * Whether tunnels are there and carry: their ports as the switches tell of them, and signed probes through them. Those of jobs
 * are probed until they are proven; those of guests away from home (`overlays.ts`) for as long as there are such guests, since
 * somebody may delete a port by hand, or the network under it may fail. What has gone is made again by `tunnels.ts`. Part of `step.ts`.
 */
import type { PortRef } from '../../topology/index.ts';
import { faultOf } from './discovery.ts';
import type { Event, PortDescription } from './events.ts';
import { buildLldp, parseLldp } from './packets.ts';
import { NO_TRIES, nextTry } from './retry.ts';
import { type ControllerState, isActive, type TunnelState, withEntry, withoutEntry } from './state.ts';
import {
  idOf,
  isProven,
  isTunnelName,
  noteOf,
  pairsOfGuests,
  READY_MS,
  tunnelName,
  tunnelPortOf,
  whatToCheck,
} from './tunnels.ts';
import type { Turn } from './turn.ts';

const OFPP_MAX = 0xffffff00;
/** A port that was made just now may be told of as down at first. */
const DOWN_MS = 2000;

function setTunnel(t: Turn, id: string, change: Partial<TunnelState>): void {
  const tunnel = t.state.tunnels.get(id);
  if (tunnel) t.set({ tunnels: withEntry(t.state.tunnels, id, { ...tunnel, ...change }) });
}

/** Ports of a switch that are no tunnels of ours; those are noted with their numbers. */
export function withoutTunnels(t: Turn, dpid: string, ports: readonly PortDescription[]): PortDescription[] {
  const numbers = new Map([...t.state.tunnelPorts].filter(([id]) => !id.startsWith(`${dpid}/`)));
  for (const p of ports) {
    if (!isTunnelName(p.name)) continue;
    numbers.set(idOf(dpid, p.name), p.portNo);
    setTunnel(t, idOf(dpid, p.name), { downSinceMs: p.isUp ? null : t.nowMs });
  }
  t.set({ tunnelPorts: numbers });
  return ports.filter((p) => !isTunnelName(p.name));
}

/** A tunnel port of ours appeared, changed or went. Answers false for other ports. */
export function onTunnelPort(t: Turn, e: Extract<Event, { kind: 'portChanged' }>): boolean {
  if (!isTunnelName(e.port.name)) return false;
  const id = idOf(e.dpid, e.port.name);
  const tunnel = t.state.tunnels.get(id);
  if (e.change === 'removed') {
    t.set({ tunnelPorts: withoutEntry(t.state.tunnelPorts, id) });
    // One that we do not remove ourselves was removed by somebody else: it is asked for again.
    const ordered = tunnel?.inFlight ? tunnel.inFlight.port : tunnel?.applied;
    if (ordered) {
      t.log('warn', 'tunnel.gone', { dpid: e.dpid, port: e.port.name });
      setTunnel(t, id, { isStale: true, provenMs: null, downSinceMs: null });
    }
  } else {
    t.set({ tunnelPorts: withEntry(t.state.tunnelPorts, id, e.port.portNo) });
    setTunnel(t, id, { downSinceMs: e.port.isUp ? null : (tunnel?.downSinceMs ?? t.nowMs) });
  }
  probeTunnels(t);
  return true;
}

/** A switch is back: its database may have been set back meanwhile, and a tunnel must prove itself again. */
export function tunnelsStale(t: Turn, dpid: string): void {
  const next = new Map(t.state.tunnels);
  for (const [id, tunnel] of next) {
    if (id.startsWith(`${dpid}/`))
      next.set(id, { ...tunnel, isStale: true, note: '', provenMs: null, mends: NO_TRIES });
  }
  if (next.size > 0) t.set({ tunnels: next });
}

/** A switch's database answers again, or does not any more. What could not be had of it is asked for at once when it is back. */
export function onOvsdb(t: Turn, e: Extract<Event, { kind: 'ovsdb' }>): void {
  if (!e.isThere) {
    if (!t.state.ovsdbAway.has(e.dpid)) t.set({ ovsdbAway: withEntry(t.state.ovsdbAway, e.dpid, t.nowMs) });
    return;
  }
  if (!t.state.ovsdbAway.has(e.dpid)) return;
  t.set({ ovsdbAway: withoutEntry(t.state.ovsdbAway, e.dpid) });
  for (const id of t.state.tunnels.keys())
    if (id.startsWith(`${e.dpid}/`)) setTunnel(t, id, { isStale: true, note: '' });
}

/**
 * Sends a probe into every tunnel that waits to be proven, and, every period of discovery, into those of guests away. The first
 * one also makes the switch look its far end up.
 */
export function probeTunnels(t: Turn): void {
  const { probeMs } = t.state.policy.doc.discovery;
  const isConnected = (dpid: string) => t.state.switches.get(dpid)?.connected === true;
  const done = new Set<string>();
  const probe = (from: string, to: string, isKept: boolean) => {
    const out = idOf(to, tunnelName(from));
    if (done.has(out)) return;
    done.add(out);
    const tunnel = t.state.tunnels.get(out);
    const portNo = tunnelPortOf(t.state, from, to);
    if (!tunnel || portNo === undefined || tunnelPortOf(t.state, to, from) === undefined) return;
    // A switch that is away neither sends nor reports probes: its silence proves nothing.
    if (!isConnected(from) || !isConnected(to)) {
      if (tunnel.askedMs !== null) setTunnel(t, out, { askedMs: null });
      return;
    }
    const isUrgent = tunnel.provenMs === null && t.nowMs - (tunnel.askedMs ?? t.nowMs) < READY_MS;
    if (!isUrgent && (!isKept || t.nowMs - tunnel.probedMs < probeMs)) return;
    setTunnel(t, out, { askedMs: tunnel.askedMs ?? t.nowMs, probedMs: t.nowMs });
    const { seal } = t.state.settings;
    const serial = t.state.discovery.nextSerial;
    t.set({ discovery: { ...t.state.discovery, nextSerial: serial + 1 } });
    const claim = { dpid: from, portNo, sourceMac: '0e:46:57:00:00:01', ttlSeconds: 10, serial, sentMs: t.nowMs };
    t.effects.push({ kind: 'packetOut', dpid: from, portNo, frame: buildLldp(claim, seal) });
  };
  for (const { from, to } of pairsOfGuests(t.state)) {
    probe(from, to, true);
    probe(to, from, true);
  }
  for (const { detour, ...job } of t.state.jobs.values())
    if (isActive(job) && detour?.by === 'tunnel' && !detour.isReady) probe(detour.from, detour.to, false);
}

/** A frame for the controller that came in by a port of ours. Answers false when the port is none. */
export function onTunnelFrame(t: Turn, here: PortRef, frame: Buffer): boolean {
  if (here.portNo > OFPP_MAX) return false;
  const at = [...t.state.tunnelPorts].find(([id, portNo]) => portNo === here.portNo && id.startsWith(`${here.dpid}/`));
  if (!at) return false;
  const [id] = at;
  const claim = parseLldp(frame);
  const tunnel = t.state.tunnels.get(id);
  if (!claim || !tunnel || faultOf(t.state, claim, t.nowMs) !== undefined) return true;
  if (!claim.proof?.instance.equals(t.state.settings.seal.instance)) return true;
  if (id !== idOf(here.dpid, tunnelName(claim.dpid))) return true;
  if (tunnel.provenMs === null || tunnel.askedMs !== null)
    setTunnel(t, id, { provenMs: tunnel.provenMs ?? t.nowMs, askedMs: null, mends: NO_TRIES });
  return true;
}

/** Since when nothing that was sent came through in this direction, ms; 0 when something did lately. */
function silentMs(t: Turn, tunnel: TunnelState): number {
  if (tunnel.askedMs === null) return 0;
  return t.nowMs - Math.max(tunnel.askedMs, t.state.discovery.silentSinceMs);
}

/**
 * Periodic part: tunnels of guests away that have fallen silent are not proven any more, and their ports are made sure of, with
 * the patience that changes have which fail. A port that somebody took down is made anew.
 */
export function watchTunnels(t: Turn): void {
  const { silenceMs } = t.state.policy.doc.discovery;
  for (const { from, to } of pairsOfGuests(t.state)) {
    for (const [near, far] of [
      [from, to],
      [to, from],
    ] as const) {
      const id = idOf(near, tunnelName(far));
      const tunnel = t.state.tunnels.get(id);
      if (!tunnel) continue;
      const isDown = tunnel.downSinceMs !== null && t.nowMs - tunnel.downSinceMs >= DOWN_MS;
      if (!isDown && silentMs(t, tunnel) < silenceMs) continue;
      if (tunnel.provenMs !== null) setTunnel(t, id, { provenMs: null });
      if (!tunnel.applied || tunnel.inFlight || t.nowMs < tunnel.mends.retryAtMs) continue;
      setTunnel(t, id, { mends: nextTry(t, tunnel.mends, true), isStale: true, isMadeAnew: isDown });
      // Which end it is that was changed cannot be told from here.
      setTunnel(t, idOf(far, tunnelName(near)), { isStale: true });
    }
  }
}

/** How a tunnel of a guest away stands, and why, where there is more to say. The words change only when something else does. */
export interface TunnelHealth {
  state: 'works' | 'broken' | 'unknown';
  why: string | null;
}

/** undefined: that cannot be told yet, since probes are on their way. */
export function tunnelHealth(t: Turn, from: string, to: string): TunnelHealth | undefined {
  const { state } = t;
  const nameOf = (dpid: string) => switchName(state, dpid);
  const away = [from, to].filter((dpid) => !state.switches.get(dpid)?.connected).map(nameOf);
  if (away.length > 0) return { state: 'unknown', why: `${away.join(' and ')}: not connected to the controller` };
  const ends = [
    { dpid: from, name: tunnelName(to) },
    { dpid: to, name: tunnelName(from) },
  ].map((x) => ({ ...x, tunnel: state.tunnels.get(idOf(x.dpid, x.name)) }));
  const note = noteOf(state, from, to);
  const unreachable = [from, to].filter((dpid) => state.ovsdbAway.has(dpid)).map(nameOf);
  const database = `the database (OVSDB) of ${unreachable.join(' and ')} does not answer`;
  const gone = ends.find((x) => tunnelPortOf(state, x.dpid, x.dpid === from ? to : from) === undefined);
  if (gone) {
    const until = unreachable.length > 0 ? database : (note ?? 'it is made again');
    return { state: 'broken', why: `port ${gone.name} of ${nameOf(gone.dpid)} is gone: ${until}` };
  }
  const down = ends.find((x) => (x.tunnel?.downSinceMs ?? null) !== null);
  if (down) return { state: 'broken', why: `port ${down.name} of ${nameOf(down.dpid)} is down: it is made anew` };
  if (isProven(state, from, to) && isProven(state, to, from)) {
    const why = unreachable.length > 0 ? `${database}: the tunnel could not be put back if it were changed` : null;
    return { state: 'works', why };
  }
  const silent = ends.filter((x) => x.tunnel && silentMs(t, x.tunnel) >= state.policy.doc.discovery.silenceMs);
  if (silent.length === 0) return undefined;
  const way = silent[0]?.dpid === from ? [to, from] : [from, to];
  const which = silent.length === 2 ? 'in either direction' : `from ${way.map(nameOf).join(' to ')}`;
  return { state: 'broken', why: `no probe comes through it ${which}: ${note ?? whatToCheck(state)}` };
}

/** As the configuration or the switch itself has it. */
export const switchName = ({ topology, settings }: ControllerState, dpid: string): string =>
  topology.switches.get(dpid)?.name ?? settings.nameOf(dpid) ?? dpid;
