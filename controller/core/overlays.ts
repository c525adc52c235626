/**
 * Guests that keep their address in a network that does not reach them on layer 2: one that has moved to a fabric that only an IP
 * network joins with its own stays a member of its home network through a tunnel, from the switch it left (the anchor) to the
 * one it is at. The tunnel's ports are kept by `tunnels.ts`, like those for stragglers, but for as long as the guest is away;
 * `tunnelWatch.ts` sees whether they carry, `anchors.ts` looks for another anchor where one is lost, and `overlayFlows.ts` has the
 * flows. Which guests are away is in the journal. Part of `step.ts`.
 */
import type { Reason } from '../../contracts/common.ts';
import { formatMs } from '../../contracts/units.ts';
import { findPath, LOCAL_PORT, linkId, type PortRef, type Topology } from '../../topology/index.ts';
import { type AnchorSearch, replaceAnchor, reservesOf } from './anchors.ts';
import type { ControllerState, Job } from './state.ts';
import { isActive, withEntry, withoutEntry } from './state.ts';
import { endsOf, isMade, isProven, READY_MS, readyReasons, tunnelTrouble } from './tunnels.ts';
import { switchName, type TunnelHealth, tunnelHealth } from './tunnelWatch.ts';
import type { Turn } from './turn.ts';

/** A guest away from home, or on its way. */
export interface Overlay {
  guest: string;
  mac: string;
  /** Datapath of the home network at which the tunnel begins. */
  anchor: string;
  /** Of the tunnel: tells guests that share its ports. */
  key: number;
  /** The guest's port, and the host. */
  at: PortRef;
  host: string;
  /** The fabric has no way from the anchor to the guest. */
  isAway: boolean;
  sinceMs: number;
  /** Since when no agent reports the guest; null while one does. */
  goneSinceMs: number | null;
  tunnel: OverlayTunnel;
  /** Other switches of its home network that can have tunnels, nearest first, as last seen while the anchor was among them. */
  reserves: readonly string[];
  /** Earlier anchors that have not been connected since, and may go on as they were told: what they send is taken in. */
  former: readonly string[];
  /** While the anchor does not serve. */
  search: AnchorSearch | null;
}

/** How the tunnel stands, since when (ms). */
export interface OverlayTunnel extends TunnelHealth {
  sinceMs: number;
  /** It was told of that the tunnel is broken, and not yet that it carries again. */
  isTold: boolean;
}

/** What a job does about its guest's home network; `overlayOf` decides. */
export interface JobOverlay {
  anchor: string;
  /** Datapath that the guest comes to. */
  to: string;
  key: number;
  sinceMs: number;
  isReady: boolean;
}

/** A guest that no agent reports for so long has ended: an agent that starts anew reports what it finds at once. */
const GONE_MS = 10_000;

const reason = (rule: string, text: string, inputs: Reason['inputs'] = {}): Reason => ({ rule, text, inputs });

/** Whether the fabric leads from one switch to another. */
export const isJoined = (topology: Topology, from: string, to: string): boolean =>
  from === to || findPath(topology, from, { dpid: to, portNo: LOCAL_PORT }) !== undefined;

/**
 * Decides, when a job begins to be prepared, whether its guest will be away from its home network where it goes. Answers why it
 * cannot go there, where that is so.
 */
export function chooseOverlay(t: Turn, job: Job): string | undefined {
  const from = t.state.agents.get(job.from)?.dpid;
  const to = t.state.agents.get(job.to)?.dpid;
  if (!from || !to) return undefined;
  const known = t.state.overlays.get(job.guest);
  const anchor = known?.anchor ?? from;
  if (isJoined(t.state.topology, anchor, to)) return undefined;
  const far = `${job.to} is in a fabric that only an IP network joins with the one ${job.guest} has its address in`;
  if (t.state.settings.forwarding !== 'managed')
    return `${far}; a guest can keep its address there with forwarding: managed only, since a switch that forwards by its own learning sends nothing into a tunnel`;
  if (!endsOf(t.state, anchor, to)) {
    const lacking = [anchor, to].filter((dpid) => t.state.settings.tunnels?.addressOf(dpid) === undefined);
    return `${far}, and there can be no tunnel: give ${lacking.map((d) => `switch ${d}`).join(' and ')} ovsdb and tunnelAddress`;
  }
  const key = known?.key ?? job.number & 0xffffff;
  t.setJob(job.id, { overlay: { anchor, to, key, sinceMs: t.nowMs, isReady: false } });
  return undefined;
}

/**
 * Whether a job need not wait for its guest's tunnel home (any more): probes went through it both ways. A text where it cannot
 * be had: the guest would be cut off from its network.
 */
export function isOverlayReady(t: Turn, job: Job): boolean | string {
  const { overlay } = job;
  if (!overlay || overlay.isReady) return true;
  const { anchor, to } = overlay;
  if (isMade(t.state, anchor, to) && isProven(t.state, anchor, to) && isProven(t.state, to, anchor)) {
    t.setJob(job.id, { overlay: { ...overlay, isReady: true } });
    const home = t.state.settings.nameOf(anchor) ?? anchor;
    const use = `what is for ${job.guest} goes through it from its home network for as long as it is away, and back`;
    t.decide('reroute', job.id, readyReasons(t.state, job, { from: anchor, fromName: home, to, use }));
    return true;
  }
  const trouble = tunnelTrouble(t.state, anchor, to, t.nowMs - overlay.sinceMs >= READY_MS);
  return trouble === undefined ? false : `${job.guest} would be cut off from its network at ${job.to}: ${trouble}`;
}

/** Brings what is known of guests away from home up to date with jobs, places and the network. */
export function followOverlays(t: Turn): void {
  const jobs = [...t.state.jobs.values()].filter(isActive);
  for (const job of jobs) if (job.overlay && job.flipped && !t.state.overlays.has(job.guest)) begin(t, job, 'works');
  for (const job of t.state.jobs.values())
    if (isFoundAway(t, job)) begin(t, t.setJob(job.id, { overlay: null }), 'unknown', job.overlay);
  if (t.state.overlays.size === 0) return;
  const moving = new Set(jobs.map((j) => j.guest));
  for (const overlay of t.state.overlays.values()) {
    const now = replaceAnchor(t, followed(t, overlay));
    if (!moving.has(now.guest)) {
      if (!now.isAway) {
        finish(t, now, 'home', `${now.guest} is in its home network again`);
        continue;
      }
      if (now.goneSinceMs !== null && t.nowMs - now.goneSinceMs >= GONE_MS) {
        finish(t, now, 'ended', `${now.guest} has ended: no agent reports it`);
        continue;
      }
    }
    if (now !== overlay) t.set({ overlays: withEntry(t.state.overlays, now.guest, now) });
  }
}

/**
 * Whether a guest whose migration was given up came to another network all the same. That is seen to once: its tunnel was
 * taken down with the migration.
 */
function isFoundAway(t: Turn, job: Job): boolean {
  if (job.state !== 'lost' || !job.resumed || !job.overlay || t.state.overlays.has(job.guest)) return false;
  const place = t.state.topology.locations.get(job.spec.mac);
  return place?.kind === 'guest' && place.at.dpid === job.overlay.to;
}

/** A guest is away from home; `state`: of its tunnel. A migration is not begun before probes have come through that. */
function begin(t: Turn, job: Job, state: OverlayTunnel['state'], chosen = job.overlay): void {
  const place = t.state.topology.locations.get(job.spec.mac);
  if (!chosen || place?.kind !== 'guest') return;
  const { anchor, key } = chosen;
  const { guest, to: host } = job;
  const overlay: Overlay = {
    ...{ guest, mac: job.spec.mac, anchor, key, host, at: place.at, isAway: true, sinceMs: t.nowMs, goneSinceMs: null },
    tunnel: { state, why: null, sinceMs: t.nowMs, isTold: false },
    ...{ reserves: reservesOf(t.state, anchor), former: [], search: null },
  };
  t.set({ overlays: withEntry(t.state.overlays, guest, overlay) });
  const home = t.state.settings.nameOf(anchor) ?? anchor;
  const text = `${guest} keeps its address at ${job.to}: all it sends and gets goes through the tunnel to ${home}, its home network`;
  t.decide('reroute', job.id, [reason('overlay.begins', text, { anchor, key, at: linkId(place.at) })]);
}

/** The same object where nothing is new. */
function followed(t: Turn, o: Overlay): Overlay {
  const { topology, agents, switches } = t.state;
  const reporting = [...agents.values()].find((a) => a.guests.some((g) => g.spec.name === o.guest));
  // Whoever had it last may only be away: what it does not say proves nothing.
  const isMissed = reporting === undefined && agents.get(o.host)?.connected === true;
  const goneSinceMs = isMissed ? (o.goneSinceMs ?? t.nowMs) : null;
  const place = topology.locations.get(o.mac);
  const at = place?.kind === 'guest' ? place.at : o.at;
  const host = [...agents.values()].find((a) => a.dpid === at.dpid)?.host ?? o.host;
  const isAway = !isJoined(topology, o.anchor, at.dpid);
  const isSame = goneSinceMs === o.goneSinceMs && linkId(at) === linkId(o.at) && host === o.host && isAway === o.isAway;
  const tunnel = isAway ? standing(t, o, at.dpid) : o.tunnel;
  // An anchor that has lost its links is in no network, and whoever was in it before may take its place.
  const known = switches.get(o.anchor)?.connected ? reservesOf(t.state, o.anchor) : [];
  const reserves = known.length === 0 || known.join() === o.reserves.join() ? o.reserves : known;
  const away = o.former.filter((dpid) => !switches.get(dpid)?.connected);
  const former = away.length === o.former.length ? o.former : away;
  const isAsBefore = isSame && tunnel === o.tunnel && reserves === o.reserves && former === o.former;
  return isAsBefore ? o : { ...o, at, host, isAway, goneSinceMs, tunnel, reserves, former };
}

/** How its tunnel stands now; the same object where nothing is new. */
function standing(t: Turn, o: Overlay, to: string): OverlayTunnel {
  const isNew = o.at.dpid !== to;
  const before = isNew ? { state: 'unknown' as const, why: null, sinceMs: t.nowMs, isTold: false } : o.tunnel;
  let now = tunnelHealth(t, o.anchor, to);
  if (before.state === 'unknown') {
    now ??= { state: 'unknown', why: 'probes through it are on their way' };
    // It may be being made.
    if (now.state === 'broken' && t.nowMs - before.sinceMs < READY_MS) now = { ...now, state: 'unknown' };
  }
  if (now === undefined || (now.state === before.state && now.why === before.why)) return before;
  if (now.state === before.state) return { ...before, why: now.why };
  const home = switchName(t.state, o.anchor);
  const tell = (rule: string, text: string) =>
    t.decide('reroute', null, [reason(rule, text, { guest: o.guest, anchor: o.anchor, at: to })]);
  if (now.state === 'broken')
    tell('overlay.broken', `${o.guest} is cut off from its network: its tunnel to ${home} does not carry; ${now.why}`);
  else if (now.state === 'works' && before.isTold) {
    const lastedMs = formatMs(t.nowMs - before.sinceMs);
    tell('overlay.carries', `the tunnel of ${o.guest} to ${home} carries again, after ${lastedMs}`);
  }
  t.log(now.state === 'broken' ? 'warn' : 'info', 'overlay.tunnel', {
    ...{ guest: o.guest, anchor: o.anchor, at: to, state: now.state, why: now.why ?? '' },
  });
  const isTold = now.state === 'broken' || (before.isTold && now.state === 'unknown');
  return { ...now, sinceMs: t.nowMs, isTold };
}

/** What there is to say of the tunnel of a guest away, as a part of a sentence; empty where it is not away. */
export function awayText(state: ControllerState, guest: string): string {
  const o = state.overlays.get(guest);
  if (!o?.isAway) return '';
  const { state: is, why } = o.tunnel;
  const home = switchName(state, o.anchor);
  if (is === 'works') {
    const but = why === null ? '' : `, but ${why}`;
    return `it keeps its address through a tunnel to ${home}, which carries${but}`;
  }
  const what = is === 'broken' ? 'does not carry' : 'may not carry';
  const trying = o.search?.trying ?? null;
  const instead =
    trying !== null
      ? `; ${switchName(state, trying)} is tried in place of ${home}`
      : o.search !== null
        ? `; no other switch of its network can take the place of ${home} now`
        : '';
  return `its tunnel to ${home}, through which it keeps its address, ${what} (${why})${instead}`;
}

function finish(t: Turn, o: Overlay, why: 'home' | 'ended', text: string): void {
  t.set({ overlays: withoutEntry(t.state.overlays, o.guest) });
  t.decide('reroute', null, [reason(`overlay.${why}`, `${text}: its tunnel is taken down`, { guest: o.guest })]);
  t.log('info', `overlay.${why}`, { guest: o.guest, anchor: o.anchor });
}

/** A journal's entry of a guest that is away, or, with null, no more. */
export const overlayEntry = (guest: string, overlay: Overlay | null, atMs: number) => ({
  ...{ type: 'overlay', atMs, guest, overlay },
});

/** Guests away from home as a journal tells of them. */
export function restoredOverlays(entries: readonly Record<string, unknown>[]): ReadonlyMap<string, Overlay> {
  const last = new Map<string, Overlay>();
  for (const e of entries) {
    if (e.type !== 'overlay' || typeof e.guest !== 'string') continue;
    const o = e.overlay as Partial<Overlay> | null | undefined;
    const isSound =
      [o?.mac, o?.anchor, o?.host, o?.at?.dpid].every((x) => typeof x === 'string') &&
      [o?.key, o?.at?.portNo, o?.sinceMs, e.atMs].every((x) => typeof x === 'number');
    if (isSound)
      last.set(e.guest, {
        // What journals of earlier versions do not tell.
        ...{ reserves: [], former: [] },
        ...{ ...(o as Overlay), guest: e.guest, isAway: o?.isAway !== false, goneSinceMs: null, search: null },
        // Found out anew.
        tunnel: { state: 'works', why: null, sinceMs: e.atMs as number, isTold: o?.tunnel?.isTold === true },
      });
    else if (o === null) last.delete(e.guest);
  }
  return last;
}

/** Of the active jobs, those whose guest will be away from its home network. */
export const jobsAway = (state: ControllerState): (Job & { overlay: JobOverlay })[] =>
  [...state.jobs.values()].filter(
    (j): j is Job & { overlay: JobOverlay } => isActive(j) && (j.overlay ?? null) !== null,
  );
