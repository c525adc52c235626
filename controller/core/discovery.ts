/**
 * Link discovery: signed LLDP probes out of every port, links where they arrive, links lost on silence. `network.ts`
 * hands over the LLDP frames that switches report and says when ports and switches come and go. Part of `step.ts`.
 *
 * What a host can do to it: a frame it makes up lacks our key; one it kept is stale or was counted before; one it passes
 * on at once to an accomplice elsewhere (which no signature can prevent) comes from or arrives at a port where hosts are
 * known to be, and those become no links.
 */
import { linkId, type PortRef } from '../../topology/index.ts';
import { buildLldp, type ProbeClaim, parseLldp } from './packets.ts';
import type { ControllerState, Discovery, ProbeFault } from './state.ts';
import type { Turn } from './turn.ts';

const OFPP_MAX = 0xffffff00;
/**
 * A port that came up is taken for an edge after this long at the earliest: a link behind it would have been found. Until then
 * broadcasts do not leave by it, or a network with circles would be flooded round and round before its links are known.
 */
const LISTEN_MS = 1000;
/** Refused probes are logged and published at most this often, and this many ports at a time. */
const REPORT_PERIOD_MS = 5000;
const REPORTED_PORTS = 10;
/** Probes that are sent so many periods after the last ones were held up here. */
const LATE_PERIODS = 2;
const NONE: Readonly<Record<ProbeFault, number>> = { unsigned: 0, forged: 0, stale: 0, replayed: 0, edge: 0 };

const change = (t: Turn, c: Partial<Discovery>): void => t.set({ discovery: { ...t.state.discovery, ...c } });

/** A datapath connected for the first time. */
export function switchKnown(t: Turn, dpid: string): void {
  const switchSinceMs = t.writable(t.state.discovery.switchSinceMs);
  change(t, { switchSinceMs: switchSinceMs.set(dpid, t.nowMs) });
}

/** A switch went away, or fell silent: its links cannot be found until it is back. */
export function switchAway(t: Turn, dpid: string, sinceMs = t.nowMs): void {
  const { absences } = t.state.discovery;
  const last = absences.get(dpid);
  const { silenceMs } = t.state.policy.doc.discovery;
  // One that came by for a moment only was away all the time.
  const isSame = last !== undefined && t.nowMs - last.untilMs < silenceMs;
  const absence = { fromMs: isSame ? last.fromMs : sinceMs, untilMs: Number.POSITIVE_INFINITY };
  change(t, { absences: new Map(absences).set(dpid, absence) });
}

export function switchBack(t: Turn, dpid: string): void {
  const { absences } = t.state.discovery;
  const last = absences.get(dpid);
  if (last?.untilMs === Number.POSITIVE_INFINITY)
    change(t, { absences: new Map(absences).set(dpid, { ...last, untilMs: t.nowMs }) });
}

/** A port came up, went down or away: what is plugged in there may be something else from now on. */
export function portReset(t: Turn, ref: PortRef): void {
  const id = linkId(ref);
  const { portSinceMs, hostSinceMs, ledOn } = t.state.discovery;
  change(t, { portSinceMs: t.writable(portSinceMs).set(id, t.nowMs) });
  if (ledOn.has(id)) change(t, { ledOn: new Set([...ledOn].filter((x) => x !== id)) });
  if (!hostSinceMs.has(id)) return;
  const hosts = t.writable(hostSinceMs);
  hosts.delete(id);
  change(t, { hostSinceMs: hosts });
}

/** Ports that came up with a switch or by themselves are listened at before they count as edges. */
export function listenAt(t: Turn, refs: readonly PortRef[]): void {
  t.set({ topology: t.state.topology.withListening(refs.filter((r) => r.portNo <= OFPP_MAX)) });
}

/** Ends the listening at ports that have been up for long enough. */
function endListening(t: Turn): void {
  const { topology, discovery } = t.state;
  const ended: PortRef[] = [];
  for (const [dpid, ports] of topology.listening) {
    const upMs = Math.max(discovery.switchSinceMs.get(dpid) ?? 0, discovery.silentSinceMs);
    for (const portNo of ports) {
      const since = Math.max(upMs, discovery.portSinceMs.get(linkId({ dpid, portNo })) ?? 0);
      if (t.nowMs - since >= LISTEN_MS) ended.push({ dpid, portNo });
    }
  }
  if (ended.length > 0) t.set({ topology: topology.withoutListening(ended) });
}

/** By what switches held, these ports led to other switches in an earlier life. */
export function noteLedOn(t: Turn, ports: readonly string[]): void {
  const { ledOn } = t.state.discovery;
  if (ports.some((id) => !ledOn.has(id))) change(t, { ledOn: new Set([...ledOn, ...ports]) });
}

/** A sender was learned at a port. */
export function hostSeen(t: Turn, ref: PortRef): void {
  const { hostSinceMs } = t.state.discovery;
  const id = linkId(ref);
  if (!hostSinceMs.has(id)) change(t, { hostSinceMs: t.writable(hostSinceMs).set(id, t.nowMs) });
}

/** A switch that was away is back: the silence of its links begins to count now. */
export function linksHeardOf(t: Turn, dpid: string): void {
  const { links } = t.state.topology;
  const touched = [...t.state.linkSeen].filter(([id]) => {
    const link = links.get(id);
    return link?.from.dpid === dpid || link?.to.dpid === dpid;
  });
  if (touched.length === 0) return;
  const linkSeen = t.draft('linkSeen');
  for (const [id, seen] of touched) linkSeen.set(id, { ...seen, seenMs: t.nowMs });
}

/** Sends a probe out of every port that could lead to another switch, or out of one of them. */
export function probe(t: Turn, dpid: string, only?: number): void {
  if (!t.state.switches.get(dpid)?.connected) return;
  const { seal } = t.state.settings;
  const ttlSeconds = Math.min(0xffff, Math.ceil(t.state.policy.doc.discovery.silenceMs / 1000));
  let serial = t.state.discovery.nextSerial;
  for (const p of t.state.topology.switches.get(dpid)?.ports.values() ?? []) {
    if (p.portNo > OFPP_MAX || !p.isUp || (only !== undefined && p.portNo !== only)) continue;
    const { portNo, hwAddr: sourceMac } = p;
    const frame = buildLldp({ dpid, portNo, sourceMac, ttlSeconds, serial: serial++, sentMs: t.nowMs }, seal);
    t.effects.push({ kind: 'packetOut', dpid, portNo, frame });
  }
  change(t, { nextSerial: serial });
}

/** Periodic part: probes, links that fell silent, and a report of what was refused. */
export function discover(t: Turn): void {
  report(t);
  endListening(t);
  const { probeMs, silenceMs } = t.state.policy.doc.discovery;
  const sinceLastMs = t.nowMs - t.state.discovery.lastProbeMs;
  if (sinceLastMs < probeMs) return;
  // Where we were late ourselves, the silence was ours: from here it is counted anew.
  const isLate = sinceLastMs > LATE_PERIODS * probeMs;
  change(t, { lastProbeMs: t.nowMs, ...(isLate ? { silentSinceMs: t.nowMs } : {}) });
  for (const [dpid, s] of t.state.switches) if (s.connected) noteSilence(t, dpid);
  for (const dpid of t.state.switches.keys()) probe(t, dpid);
  const { topology } = t.state;
  const lost = new Set<string>();
  for (const [id, seen] of t.state.linkSeen) {
    const seenMs = Math.max(seen.seenMs, t.state.discovery.silentSinceMs);
    const link = topology.links.get(id);
    // A switch that is away can neither send nor report probes: its silence proves nothing.
    const answering =
      link && [link.from, link.to].every((end) => t.state.switches.get(end.dpid)?.connected && isHeard(t, end));
    if (link && (!answering || t.nowMs - seenMs < silenceMs)) continue;
    // What crossed a link that is gone need not be remembered longer than it could be believed.
    if (!link && t.nowMs - seenMs < t.state.policy.doc.discovery.maxAgeMs) continue;
    t.draft('linkSeen').delete(id);
    if (!link) continue;
    lost.add(id);
    t.log('warn', 'link.lost', { link: id, why: `no probe crossed it for ${silenceMs} ms` });
  }
  t.set({ topology: topology.withoutLinks(lost) });
}

/**
 * Whether a switch tells its counters: when the control network is cut, switches fall silent all at once and long before their
 * connections are given up, and so do the probes. Those that are not read at all are taken to be there.
 */
function isHeard(t: Turn, end: PortRef): boolean {
  const { discovery, reservation } = t.state.policy.doc;
  const readMs = t.state.ports.get(linkId(end))?.last.atMs;
  return readMs === undefined || t.nowMs - readMs < Math.max(discovery.silenceMs / 2, 3 * reservation.periodMs);
}

/** A switch that is connected and does not tell its counters may not hear of probes, nor send them. */
function noteSilence(t: Turn, dpid: string): void {
  const ports = t.state.topology.switches.get(dpid)?.ports.keys() ?? [];
  for (const portNo of ports) {
    const end = { dpid, portNo };
    const readMs = t.state.ports.get(linkId(end))?.last.atMs;
    if (readMs === undefined) continue;
    const isSilent = t.state.discovery.absences.get(dpid)?.untilMs === Number.POSITIVE_INFINITY;
    const isHeardOf = isHeard(t, end);
    if (isHeardOf && isSilent) switchBack(t, dpid);
    else if (!isHeardOf && !isSilent) switchAway(t, dpid, readMs);
    // All of a switch are read together.
    return;
  }
}

/** An LLDP frame that a switch reported. Links that are found enter the topology together, when the burst is worked on. */
export function onLldp(t: Turn, here: PortRef, frame: Buffer): void {
  const claim = parseLldp(frame);
  if (!claim) return;
  const fault = faultOf(t.state, claim, t.nowMs);
  if (fault) refuse(t, here, fault);
  // A peer that shares our key finds the links for itself: its clock and its serials are its own.
  if (fault || !claim.proof?.instance.equals(t.state.settings.seal.instance)) return;
  const from = { dpid: claim.dpid, portNo: claim.portNo };
  // A cable back into the same switch is no link, and neither is one whose ends have gone since.
  const { topology } = t.state;
  if (from.dpid === here.dpid || !topology.port(from)?.isUp || !topology.port(here)?.isUp) return;
  if (isEdge(t.state, from, here) || isEdge(t.state, here, from)) {
    refuse(t, here, 'edge');
    return;
  }
  const id = linkId(from);
  const link = { from, to: here };
  if (!t.hasLink(link)) {
    if (!topology.links.has(id)) t.log('info', 'link.found', { from: id, to: linkId(here) });
    t.foundLink(link);
    // The way back is asked for at once: its own probe may have come before this end was ready.
    if (!t.hasLink({ from: here, to: from })) probe(t, here.dpid, here.portNo);
  }
  t.draft('linkSeen').set(id, { seenMs: t.nowMs, serial: claim.proof.serial });
}

/** What is wrong with a probe by itself, wherever it arrived. */
export function faultOf(state: ControllerState, claim: ProbeClaim, nowMs: number): ProbeFault | undefined {
  const { seal } = state.settings;
  const { proof } = claim;
  if (!proof) return 'unsigned';
  if (!seal.verify(proof.signed, proof.tag)) return 'forged';
  if (!proof.instance.equals(seal.instance)) return undefined;
  // Sent in the future: the clock was set back since.
  if (Math.abs(nowMs - proof.sentMs) > state.policy.doc.discovery.maxAgeMs) return 'stale';
  const last = state.linkSeen.get(linkId(claim));
  return last && proof.serial <= last.serial ? 'replayed' : undefined;
}

/**
 * Whether hosts are attached at `port`, so that it is no end of a link to `far`: a guest, which its agent reports, or a
 * sender that appeared when a link to `far` would long have been found. A sender seen sooner may have come through it, and so
 * may one that was seen while one of the two switches was away or silent, and no probe could tell. Neither do senders count
 * where both ports led to another switch in an earlier life: what a link carries before it is found again is seen at both its ends.
 */
function isEdge(state: ControllerState, port: PortRef, far: PortRef): boolean {
  const id = linkId(port);
  if (state.topology.isGuestPort(port)) return true;
  const { hostSinceMs, switchSinceMs, portSinceMs, absences, ledOn } = state.discovery;
  const { silenceMs } = state.policy.doc.discovery;
  const seenMs = hostSinceMs.get(id);
  if (seenMs === undefined || state.topology.isTrunk(port)) return false;
  if (ledOn.has(id) && ledOn.has(linkId(far))) return false;
  const wasAway = (dpid: string) => {
    const absence = absences.get(dpid);
    return absence !== undefined && seenMs >= absence.fromMs && seenMs <= absence.untilMs + silenceMs;
  };
  if (wasAway(port.dpid) || wasAway(far.dpid)) return false;
  const upMs = [port, far].flatMap((p) => [switchSinceMs.get(p.dpid) ?? 0, portSinceMs.get(linkId(p)) ?? 0]);
  return seenMs - Math.max(...upMs) > silenceMs;
}

function refuse(t: Turn, at: PortRef, fault: ProbeFault): void {
  const { refused } = t.state.discovery;
  const id = linkId(at);
  const counts = refused.get(id)?.counts ?? NONE;
  change(t, { refused: t.writable(refused).set(id, { at, counts: { ...counts, [fault]: counts[fault] + 1 } }) });
}

/** Logs the ports whose counts grew and has them and hosts' moves published, at a limited rate: a flood of forgeries is no flood of logs. */
function report(t: Turn): void {
  const { refused, reported, hostMoves, reportedMoves, reportedMs } = t.state.discovery;
  if (t.nowMs - reportedMs < REPORT_PERIOD_MS) return;
  const grown = [...refused].filter(([id, r]) => reported.get(id) !== r);
  if (grown.length === 0 && hostMoves === reportedMoves) return;
  for (const [port, { counts }] of grown.slice(0, REPORTED_PORTS)) t.log('warn', 'lldp.refused', { port, ...counts });
  if (grown.length > REPORTED_PORTS) t.log('warn', 'lldp.refused', { morePorts: grown.length - REPORTED_PORTS });
  // A copy: `refused` may be written to in what is left of this turn.
  change(t, { reported: new Map(refused), reportedMoves: hostMoves, reportedMs: t.nowMs });
}
