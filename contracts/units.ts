/** Reading rates and sizes written by people ("200 Mbit/s", "256 MiB") and printing them back. Pure. */

const RATE = /^\s*([0-9]+(?:\.[0-9]+)?)\s*(bit|kbit|Mbit|Gbit)(?:\/s|ps)?\s*$/;
const RATE_FACTOR: Record<string, number> = { bit: 1, kbit: 1e3, Mbit: 1e6, Gbit: 1e9 };

/** "150 Mbit/s" → 150e6 bit/s. A bare number is bit/s. Returns undefined for anything else. */
export function parseRateBps(text: string | number): number | undefined {
  if (typeof text === 'number') return Number.isFinite(text) && text >= 0 ? text : undefined;
  const m = RATE.exec(text);
  if (m) return Number(m[1]) * (RATE_FACTOR[m[2] as string] as number);
  return /^\s*[0-9]+(\.[0-9]+)?\s*$/.test(text) ? Number(text) : undefined;
}

const MS_FACTOR: Record<string, number> = { ms: 1, s: 1e3, min: 60e3, h: 3.6e6 };

/** "200 ms" → 200, "1.5 s" → 1500, "2 min" → 120000 (whole nanoseconds). Returns undefined for anything else, a bare number too. */
export function parseMs(text: string): number | undefined {
  const m = /^\s*([0-9]+(?:\.[0-9]+)?)\s*(ms|s|min|h)\s*$/.exec(text);
  return m ? Math.round(Number(m[1]) * (MS_FACTOR[m[2] as string] as number) * 1e6) / 1e6 : undefined;
}

/** Share of a capacity ("50 %" → 0.5) or undefined. */
export function parseShare(text: string): number | undefined {
  const m = /^\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*$/.exec(text);
  return m ? Number(m[1]) / 100 : undefined;
}

/** 123456789 bit/s → "123.5 Mbit/s". */
export function formatRate(bps: number): string {
  if (bps >= 1e9) return `${(bps / 1e9).toFixed(2)} Gbit/s`;
  if (bps >= 1e6) return `${(bps / 1e6).toFixed(1)} Mbit/s`;
  if (bps >= 1e3) return `${(bps / 1e3).toFixed(1)} kbit/s`;
  return `${Math.round(bps)} bit/s`;
}

/** 134700000 → "134.7 MB". */
export function formatBytes(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
  if (bytes >= 1e6) return `${(bytes / 1e6).toFixed(1)} MB`;
  if (bytes >= 1e3) return `${(bytes / 1e3).toFixed(1)} kB`;
  return `${Math.round(bytes)} B`;
}

/** 10800 → "10.8 s"; what is longer than ten minutes in minutes, than two hours in hours. */
export function formatMs(ms: number): string {
  if (ms >= 7_200_000) return `${(ms / 3_600_000).toFixed(1)} h`;
  if (ms >= 600_000) return `${(ms / 60_000).toFixed(1)} min`;
  return ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`;
}
