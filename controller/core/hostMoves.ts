/**
 * Hosts that turn up somewhere else. A migration that the controller runs is announced and passes at once, without coming by
 * here; what remains are cables moved, guests migrated by others, loops outside, and forgeries. One such move is believed;
 * an address that goes to and fro is left where it is for a while, counted and logged. Part of `network.ts`.
 */
import { type Location, linkId, type PortRef } from '../../topology/index.ts';
import type { Turn } from './turn.ts';

/** More unannounced moves than this within the window are to and fro. */
export const MOST_MOVES = 3;
export const MOVE_WINDOW_MS = 10_000;
/** An address that went to and fro is believed to be where it is for this long; sightings elsewhere do not count meanwhile. */
export const HOLD_MS = 30_000;
/** Addresses remembered; the one that moved longest ago is forgotten for a new one. */
const MAX_REMEMBERED = 1000;

/** Unannounced moves of one address. */
export interface HostMoves {
  /** When it moved, within the window. */
  atMs: readonly number[];
  /** Moves believed since the start, and sightings elsewhere that were not. */
  moves: number;
  refused: number;
  from: PortRef;
  to: PortRef;
  heldUntilMs: number;
}

function remember(t: Turn, mac: string, record: HostMoves): void {
  const { hostMoves } = t.state.discovery;
  const next = new Map(hostMoves);
  // Behind the others: the first is the one that moved longest ago.
  next.delete(mac);
  next.set(mac, record);
  for (const old of next.keys()) {
    if (next.size <= MAX_REMEMBERED) break;
    next.delete(old);
  }
  t.set({ discovery: { ...t.state.discovery, hostMoves: next } });
}

/** Whether an address that is known elsewhere is now taken to be at `here`. */
export function mayMove(t: Turn, known: Location, here: PortRef): boolean {
  const { dpid, portNo } = known.at;
  if (dpid === here.dpid && portNo === here.portNo) return true;
  const had = t.state.discovery.hostMoves.get(known.mac);
  if (had && t.nowMs < had.heldUntilMs) {
    remember(t, known.mac, { ...had, refused: had.refused + 1, from: known.at, to: here });
    return false;
  }
  // Who is nowhere any more may come up anywhere.
  if (t.state.topology.port(known.at)?.isUp !== true) return true;
  const atMs = [...(had?.atMs ?? []).filter((ms) => t.nowMs - ms < MOVE_WINDOW_MS), t.nowMs];
  const record = { atMs, moves: (had?.moves ?? 0) + 1, refused: had?.refused ?? 0, from: known.at, to: here };
  if (atMs.length <= MOST_MOVES) {
    remember(t, known.mac, { ...record, heldUntilMs: 0 });
    t.log('info', 'host.moved', { mac: known.mac, from: linkId(known.at), to: linkId(here) });
    return true;
  }
  remember(t, known.mac, {
    ...record,
    atMs: [],
    moves: record.moves - 1,
    refused: record.refused + 1,
    heldUntilMs: t.nowMs + HOLD_MS,
  });
  const places = { at: linkId(known.at), seenAt: linkId(here) };
  const advice = 'a loop outside the network, two hosts with one address, or a forgery; look at both ports';
  t.log('warn', 'host.flapping', { mac: known.mac, ...places, heldMs: HOLD_MS, advice });
  return false;
}
