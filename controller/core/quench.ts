/**
 * A port whose packet-ins go on exceeding its limit (`packetLimits.ts`) is quenched: for a while its frames do not go to the
 * controller, so that neither the switch's slow path nor the control connection is filled with what would be dropped here. What
 * the port sends to known destinations and to everybody is forwarded as before, and nothing changes for other ports.
 * `desired.ts` makes the flows. Then it is watched again; a storm that is still there is quenched for twice as long. Part of `step.ts`.
 */
import type { Reason } from '../../contracts/common.ts';
import { linkId, type PortRef } from '../../topology/index.ts';
import { cookieFor, FEATURE } from './cookies.ts';
import type { Event } from './events.ts';
import { PACKET_IN_LIMITS } from './packetLimits.ts';
import { withEntry, withoutEntry } from './state.ts';
import type { Turn } from './turn.ts';

/** So many packet-ins per second beyond the port's limit are a storm: it sends at least twice what it may. */
const STORM_PER_S = PACKET_IN_LIMITS.perPort.perSecond;
/** For this long without a pause. */
const STORM_MS = 500;
/** A port of which nothing was heard for so long was not over its limit meanwhile. */
const PAUSE_MS = 600;
/** A storm that comes back again and again is quenched for at most so many times the policy's time. */
const MOST_TIMES_LONGER = 32;
/** What the flow counted is looked at over at least this long: switches bring counters up to date about once a second. */
const READING_MS = 2000;

/** `senders`: frames of senders that are not known; `lldp`: LLDP frames, at a port that leads to no other switch. */
export type StormKind = 'senders' | 'lldp';

/** What is remembered of storms of one kind from one port. */
export interface Storm {
  at: PortRef;
  what: StormKind;
  /** Since when it is over its limit without a pause, and when it was last. */
  overSinceMs: number;
  overMs: number;
  /** How often it was quenched in a row, and for how long last. */
  times: number;
  forMs: number;
  /** When it was last let go; null before. */
  liftedMs: number | null;
  /** While quenched: frames that the flow had counted at a time. */
  counted: { atMs: number; packets: number } | null;
}

/** A port that is quenched now. */
export interface Quench {
  at: PortRef;
  what: StormKind;
  sinceMs: number;
  untilMs: number;
  times: number;
  /** Packet-ins beyond the limit when it was decided. */
  overPerS: number;
}

const keyOf = (at: PortRef, what: StormKind): string => `${linkId(at)} ${what}`;

/** A port that leads to another switch sends no frames to the controller but probes, which must go on coming. */
const mayQuench = (t: Turn, at: PortRef): boolean =>
  t.state.topology.port(at) !== undefined && !t.state.topology.isTrunk(at);

/** Ports sent more than they may. */
export function onPacketInsOver(t: Turn, e: Extract<Event, { kind: 'packetInsOver' }>): void {
  if (t.state.policy.doc.discovery.quenchMs === 0 || e.windowMs <= 0) return;
  for (const { portNo, lldp, other } of e.ports) {
    const at = { dpid: e.dpid, portNo };
    if (!mayQuench(t, at)) continue;
    watch(t, at, 'senders', (other * 1000) / e.windowMs, e.windowMs);
    watch(t, at, 'lldp', (lldp * 1000) / e.windowMs, e.windowMs);
  }
}

function watch(t: Turn, at: PortRef, what: StormKind, overPerS: number, windowMs: number): void {
  const key = keyOf(at, what);
  // What still comes was on its way, or the switch has not obeyed yet.
  if (overPerS < STORM_PER_S || t.state.quenches.has(key)) return;
  const known = t.state.storms.get(key);
  const goesOn = known !== undefined && t.nowMs - known.overMs <= Math.max(PAUSE_MS, 2 * windowMs);
  const storm: Storm = {
    ...(known ?? { at, what, times: 0, forMs: 0, liftedMs: null, counted: null }),
    overSinceMs: goesOn ? known.overSinceMs : t.nowMs - windowMs,
    overMs: t.nowMs,
  };
  t.set({ storms: withEntry(t.state.storms, key, storm) });
  if (t.nowMs - storm.overSinceMs >= STORM_MS) begin(t, key, storm, overPerS);
}

function begin(t: Turn, key: string, storm: Storm, overPerS: number): void {
  const { at, what } = storm;
  const { quenchMs } = t.state.policy.doc.discovery;
  const times = storm.times + 1;
  const forMs = Math.min(quenchMs * 2 ** Math.min(times - 1, 16), quenchMs * MOST_TIMES_LONGER);
  const quench = { at, what, sinceMs: t.nowMs, untilMs: t.nowMs + forMs, times, overPerS: Math.round(overPerS) };
  t.set({
    storms: withEntry(t.state.storms, key, { ...storm, times, forMs, counted: null }),
    quenches: withEntry(t.state.quenches, key, quench),
  });
  tell(t, 'warn', {
    rule: 'quench.begun',
    text:
      `${quench.overPerS} packet-ins a second of port ${linkId(at)} were more than it may send: for ${forMs / 1000} s its ` +
      (what === 'lldp'
        ? 'LLDP frames are dropped'
        : 'frames do not go to the controller, and those for unknown destinations are dropped'),
    inputs: { port: linkId(at), what, overPerS: quench.overPerS, forMs, times },
  });
}

/** Lets go what was quenched for long enough, and forgets storms that did not come back. */
export function endQuenches(t: Turn): void {
  for (const [key, q] of t.state.quenches) {
    if (!mayQuench(t, q.at)) lift(t, key, q, 'the port is gone, or leads to another switch');
    else if (t.nowMs >= q.untilMs) lift(t, key, q, 'its time is over; it is watched again');
  }
  for (const [key, s] of t.state.storms) {
    if (t.state.quenches.has(key)) continue;
    if (t.nowMs - Math.max(s.overMs, s.liftedMs ?? 0) > Math.max(PAUSE_MS, s.forMs))
      t.set({ storms: withoutEntry(t.state.storms, key) });
  }
}

/**
 * A switch counted: a port that was quenched for the policy's time and has fewer frames by now than it may send to the
 * controller has no storm any more.
 */
export function quenchesCounted(t: Turn, e: Extract<Event, { kind: 'counters' }>): void {
  for (const [key, q] of t.state.quenches) {
    const storm = t.state.storms.get(key);
    if (q.at.dpid !== e.dpid || !storm) continue;
    const cookie = cookieFor(q.what === 'lldp' ? FEATURE.quenchLldp : FEATURE.quench, q.at.portNo);
    const flow = e.flows.find((f) => f.cookie === cookie);
    const before = storm.counted;
    // A switch that does not hold the flow, or counts from zero again, has told nothing.
    if (!flow || (before && t.nowMs - before.atMs < READING_MS)) continue;
    const perSecond = before ? ((flow.packets - before.packets) * 1000) / (t.nowMs - before.atMs) : -1;
    t.set({
      storms: withEntry(t.state.storms, key, { ...storm, counted: { atMs: t.nowMs, packets: flow.packets } }),
    });
    const hasServed = t.nowMs >= q.sinceMs + t.state.policy.doc.discovery.quenchMs;
    if (hasServed && perSecond >= 0 && perSecond < STORM_PER_S)
      lift(t, key, q, `it sends ${Math.round(perSecond)} frames a second`);
  }
}

function lift(t: Turn, key: string, q: Quench, why: string): void {
  const storm = t.state.storms.get(key);
  t.set({
    quenches: withoutEntry(t.state.quenches, key),
    storms: storm ? withEntry(t.state.storms, key, { ...storm, liftedMs: t.nowMs, counted: null }) : t.state.storms,
  });
  const { at, what, times } = q;
  const afterMs = t.nowMs - q.sinceMs;
  tell(t, 'info', {
    rule: 'quench.lifted',
    text: `port ${linkId(at)} is quenched no more after ${(afterMs / 1000).toFixed(1)} s: ${why}`,
    inputs: { port: linkId(at), what, afterMs, times },
  });
}

function tell(t: Turn, level: 'warn' | 'info', reason: Reason): void {
  t.decide('quench', null, [reason]);
  t.log(level, reason.rule === 'quench.begun' ? 'port.quenched' : 'port.unquenched', {
    ...reason.inputs,
    why: reason.text,
  });
}
