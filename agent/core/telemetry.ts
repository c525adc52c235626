/**
 * What of a host's and its guests' figures is worth a message: rates from counters, rounded so that noise is no change, and only
 * what differs from what was told last. Pure; `io/telemetry.ts` reads the counters and sends.
 */
import type { AgentMessage, GuestTelemetry, HostTelemetry } from '../../contracts/agent.ts';

/** Bytes that a network device received and sent since it was made. */
export interface NicCounters {
  rxBytes: number;
  txBytes: number;
}

/** Counters by device of `/proc/net/dev`. */
export function parseNetDev(text: string): Map<string, NicCounters> {
  const found = new Map<string, NicCounters>();
  for (const line of text.split('\n')) {
    const m = /^\s*([^\s:]+):\s*(.*)$/.exec(line);
    const fields = (m?.[2] ?? '').trim().split(/\s+/).map(Number);
    const [rxBytes, txBytes] = [fields[0], fields[8]];
    if (m?.[1] !== undefined && fields.length >= 16 && Number.isFinite(rxBytes) && Number.isFinite(txBytes)) {
      found.set(m[1], { rxBytes: rxBytes as number, txBytes: txBytes as number });
    }
  }
  return found;
}

/** Processor time of a process in ticks (user and system), from `/proc/<pid>/stat`. */
export function parseProcessTicks(stat: string): number | undefined {
  // The name, in brackets, may hold anything.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const ticks = Number(fields[11]) + Number(fields[12]);
  return Number.isFinite(ticks) ? ticks : undefined;
}

/** Three significant digits: rates differ by more from one period to the next. */
const rounded = (bps: number): number => Number(Math.max(0, bps).toPrecision(3));
export const roundedShare = (share: number): number => Math.round(Math.min(1, Math.max(0, share)) * 100) / 100;
const MEMORY_STEP_BYTES = 16 * 2 ** 20;
/** Memory in steps of 16 MiB. */
export const roundedMemory = (bytes: number): number => Math.round(bytes / MEMORY_STEP_BYTES) * MEMORY_STEP_BYTES;

/** Rates between two readings; undefined when there is no time between them, or the device was made anew. */
export function nicRates(before: NicCounters | undefined, now: NicCounters | undefined, ms: number) {
  if (before === undefined || now === undefined || ms <= 0) return undefined;
  if (now.rxBytes < before.rxBytes || now.txBytes < before.txBytes) return undefined;
  return {
    rxBps: rounded(((now.rxBytes - before.rxBytes) * 8000) / ms),
    txBps: rounded(((now.txBytes - before.txBytes) * 8000) / ms),
  };
}

/** The fields of `now` that are not as in `before`. */
function changed<T extends object>(before: T | undefined, now: T): Partial<T> {
  const same = (key: keyof T) => JSON.stringify(before?.[key]) === JSON.stringify(now[key]);
  return Object.fromEntries(Object.entries(now).filter(([key]) => !same(key as keyof T))) as Partial<T>;
}

export interface Told {
  host: HostTelemetry;
  guests: ReadonlyMap<string, GuestTelemetry>;
}
export const NOTHING_TOLD: Told = { host: {}, guests: new Map() };

/** The message that makes a reader who knows `told` know `now`; undefined when there is nothing to say. */
export function telemetryMessage(told: Told, now: Told): Extract<AgentMessage, { type: 'telemetry' }> | undefined {
  const host = changed(told.host, now.host);
  const guests: GuestTelemetry[] = [];
  for (const [name, figures] of now.guests) {
    const { guest: _, ...news } = changed<GuestTelemetry>(told.guests.get(name), figures);
    if (Object.keys(news).length > 0) guests.push({ guest: name, ...news });
  }
  if (Object.keys(host).length === 0 && guests.length === 0) return undefined;
  return {
    type: 'telemetry',
    ...(Object.keys(host).length === 0 ? {} : { host }),
    ...(guests.length === 0 ? {} : { guests }),
  };
}
