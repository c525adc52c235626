/**
 * What the probes' notes say about moves: how long nothing came, what of that was not the stand-in's own pause, and which
 * packets were lost for another reason than that the guest stood still. Pure; the scenario `moves` prints it.
 */
import type { MoveTimes } from './driver.ts';

/** What one probe noted; instants in ms since the epoch. */
export interface ProbeReport {
  /** By number: when it was sent. */
  sent: number[];
  /** Number and instant of each packet of the other side. */
  received: [number, number][];
  /** Guest only: packets at each door, open or not. */
  sightings: Record<string, [number, number][]>;
  /** Numbers of the packets that the lab let come to the old place after a move, and that arrived all the same. */
  late: number[];
  tcp: { sentBytes: number; receivedBytes: number; error: string | null } | null;
}

export interface MoveFigures {
  from: string;
  to: string;
  /** How long the guest stood still for its own sake, and how long for the switches to confirm its new place. */
  ownPauseMs: number;
  heldMs: number;
  /** Gap between packets that holds the pause, by direction. */
  toGuestMs: number;
  fromGuestMs: number;
  /**
   * What the longer of the two has beyond the stand-in's own pause (holding, rerouting, waiting for the next packet), or a gap
   * soon after it that is longer still.
   */
  addedMs: number;
}

export interface LossFigures {
  sent: number;
  /** Arrived at a door of the guest while it stood still. */
  lostInPause: number;
  /** Sent while the guest stood still, and seen at none of its doors: the network lost it while it was changed. */
  lostUnderway: number;
  /** Everything else that was sent and not received. */
  lostOutside: number;
  /** When the first of those were sent, ms after the pause before them; after the first packet, when there was none. */
  lostOutsideAtMs: number[];
  duplicates: number;
}

/** A frame may be stamped at the door just before the door closes and go through it just after. */
const DOOR_MS = 1;
/** A silence is the move's when it touches the time from this long before the pause … */
const BEFORE_MS = 100;
/** … until this long after the guest went on. */
const AFTER_MS = 500;

/**
 * What one direction lacked around a move: the gap that holds the pause, and the longest one after it. A direction that was
 * silent to the end has an infinite one.
 */
export function gapsAround(
  receivedMs: readonly number[],
  t: Pick<MoveTimes, 'pausedMs' | 'resumedMs'>,
): { pauseMs: number; laterMs: number } {
  let before = t.pausedMs - BEFORE_MS;
  const after: number[] = [];
  for (const at of receivedMs) {
    // What was on its way when the guest was paused still arrives, and ends nothing.
    if (at < t.resumedMs) before = Math.max(before, at);
    else after.push(at);
    if (at > t.resumedMs + AFTER_MS) break;
  }
  const [first = Number.POSITIVE_INFINITY] = after;
  let laterMs = 0;
  for (const [i, at] of after.entries()) if (i > 0) laterMs = Math.max(laterMs, at - (after[i - 1] as number));
  return { pauseMs: first - before, laterMs };
}

export function moveFigures(times: readonly MoveTimes[], guest: ProbeReport, client: ProbeReport): MoveFigures[] {
  const atGuest = guest.received.map(([, at]) => at);
  const atClient = client.received.map(([, at]) => at);
  return times.map((t) => {
    const ownPauseMs = t.resumedMs - t.continuedMs;
    const toGuest = gapsAround(atGuest, t);
    const fromGuest = gapsAround(atClient, t);
    return {
      from: t.from,
      to: t.to,
      ownPauseMs,
      heldMs: t.continuedMs - t.pausedMs,
      toGuestMs: toGuest.pauseMs,
      fromGuestMs: fromGuest.pauseMs,
      addedMs: Math.max(
        toGuest.pauseMs - ownPauseMs,
        fromGuest.pauseMs - ownPauseMs,
        toGuest.laterMs,
        fromGuest.laterMs,
      ),
    };
  });
}

/** How many lost packets are listed with their times. */
const LISTED = 20;

function loss(
  times: readonly MoveTimes[],
  sent: readonly number[],
  received: ProbeReport['received'],
  excused: ReadonlySet<number>,
): LossFigures {
  const came = new Set(received.map(([n]) => n));
  const unseen = [...sent.keys()].filter((n) => !came.has(n) && !excused.has(n));
  const isInPause = (at: number) => times.some((t) => at >= t.pausedMs && at <= t.resumedMs);
  const outside = unseen.filter((n) => !isInPause(sent[n] as number));
  const sincePause = (at: number) =>
    at - times.reduce((last, t) => (t.pausedMs <= at ? Math.max(last, t.pausedMs) : last), sent[0] ?? 0);
  return {
    sent: sent.length,
    lostInPause: [...excused].filter((n) => !came.has(n)).length,
    lostUnderway: unseen.length - outside.length,
    lostOutside: outside.length,
    lostOutsideAtMs: outside.slice(0, LISTED).map((n) => Math.round(sincePause(sent[n] as number) * 10) / 10),
    duplicates: received.length - came.size,
  };
}

/** Packets to the guest. Each that did not come is looked for at the guest's doors while it stood still. */
export function lossToGuest(times: readonly MoveTimes[], guest: ProbeReport, client: ProbeReport): LossFigures {
  const paused = (at: number) => times.some((t) => at >= t.pausedMs - DOOR_MS && at <= t.resumedMs);
  const excused = new Set<number>();
  for (const seen of Object.values(guest.sightings)) for (const [n, at] of seen) if (paused(at)) excused.add(n);
  return loss(times, client.sent, guest.received, excused);
}

/** Packets of the guest, which sends none while it stands still: whatever did not come was lost by the network. */
export function lossFromGuest(times: readonly MoveTimes[], guest: ProbeReport, client: ProbeReport): LossFigures {
  return loss(times, guest.sent, client.received, new Set());
}

/** Value below which the share `p` of all lies (nearest rank); NaN of none. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] ?? Number.NaN;
}

/** Why the TCP connection did not survive, or null: each side must have got exactly what the other's kernel took. */
export function tcpProblem(guest: ProbeReport, client: ProbeReport): string | null {
  if (!guest.tcp || !client.tcp) return 'there was no connection';
  if (guest.tcp.error !== null) return `at the guest: ${guest.tcp.error}`;
  if (client.tcp.error !== null) return `at the client: ${client.tcp.error}`;
  // What is left of a word is not counted as received.
  const missing = (sent: number, received: number) => Math.floor(sent / 8) * 8 - received;
  if (missing(guest.tcp.sentBytes, client.tcp.receivedBytes) !== 0)
    return `the client got ${client.tcp.receivedBytes} of the guest's ${guest.tcp.sentBytes} bytes`;
  if (missing(client.tcp.sentBytes, guest.tcp.receivedBytes) !== 0)
    return `the guest got ${guest.tcp.receivedBytes} of the client's ${client.tcp.sentBytes} bytes`;
  return null;
}
