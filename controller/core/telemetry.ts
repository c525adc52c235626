/**
 * What agents tell of their hosts and guests besides migrations: kept as last said, shown in the feed's `rates`, and used
 * where a decision needs a guest's dirty rate or working set. Agents send only what changed, so each message is merged into
 * what is known. Also: the downtime between two hosts whose clocks are known within bounds. Pure; part of `step.ts`.
 */
import type { AgentMessage, GuestTelemetry, HostTelemetry } from '../../contracts/agent.ts';
import type { SeenDowntime } from '../../contracts/feed.ts';
import { reportedGuest } from './guestHosts.ts';
import { type ControllerState, withEntry } from './state.ts';
import type { Turn } from './turn.ts';

/** What one agent has said, put together. */
export interface Telemetry {
  host: HostTelemetry;
  guests: ReadonlyMap<string, GuestTelemetry>;
}

export function onTelemetry(t: Turn, host: string, m: Extract<AgentMessage, { type: 'telemetry' }>): void {
  const before = t.state.telemetry.get(host);
  const names = new Set(t.state.agents.get(host)?.guests.map((g) => g.spec.name));
  // Guests that have left are forgotten: their new host speaks for them.
  const guests = new Map([...(before?.guests ?? [])].filter(([name]) => names.has(name)));
  for (const g of m.guests ?? []) if (names.has(g.guest)) guests.set(g.guest, { ...guests.get(g.guest), ...g });
  t.set({ telemetry: withEntry(t.state.telemetry, host, { host: { ...before?.host, ...m.host }, guests }) });
}

/** What is known of a guest from the agent of the host it runs on. */
export function guestTelemetry(state: ControllerState, guest: string): GuestTelemetry | undefined {
  const host = reportedGuest(state, guest)?.on?.host;
  return host === undefined ? undefined : state.telemetry.get(host)?.guests.get(guest);
}

/** By how much an agent's clock is ahead of the controller's: somewhere between the two. */
export interface ClockOffset {
  lowMs: number;
  highMs: number;
}

/**
 * What a command and its answer say of the two clocks: the agent answered some time between. Each exchange narrows the
 * bounds; one that contradicts them (a clock was set) replaces them.
 */
export function withExchange(
  before: ClockOffset | undefined,
  sentMs: number,
  agentMs: number,
  receivedMs: number,
): ClockOffset {
  const fresh = { lowMs: agentMs - receivedMs, highMs: agentMs - sentMs };
  const lowMs = Math.max(fresh.lowMs, before?.lowMs ?? fresh.lowMs);
  const highMs = Math.min(fresh.highMs, before?.highMs ?? fresh.highMs);
  return lowMs <= highMs ? { lowMs, highMs } : fresh;
}

/** An instant by the controller's clock: somewhere between the two. */
export interface Instant {
  fromMs: number;
  toMs: number;
}

/** An agent's instant by the controller's clock; null when the clocks have not been compared yet. */
export const instantOf = (agentMs: number | undefined, offset: ClockOffset | undefined): Instant | null =>
  agentMs === undefined || offset === undefined
    ? null
    : { fromMs: agentMs - offset.highMs, toMs: agentMs - offset.lowMs };

/** How long a guest ran nowhere. */
export function downtimeBetween(stopped: Instant | null, resumed: Instant | null): SeenDowntime | undefined {
  if (stopped === null || resumed === null) return undefined;
  const atMostMs = Math.max(0, resumed.toMs - stopped.fromMs);
  return { atLeastMs: Math.min(atMostMs, Math.max(0, resumed.fromMs - stopped.toMs)), atMostMs };
}
