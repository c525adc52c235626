/**
 * How good what was said of ends was: the share of readings in which the end came within the interval, how wide intervals were
 * beside the time that was left, and how far off the expected end was. Beside `story.ts`, which has the readings.
 */
import type { Reading } from './story.ts';

/** Times shorter than this count as this long where something is measured by them. */
const LEAST_LEFT_MS = 1000;

export interface Figures {
  readings: number;
  /** Share of readings whose end came within the interval; those of which nothing was said are not within. */
  held: number;
  /** Share that came before it, and after it. */
  early: number;
  late: number;
  /** Median of the interval's width by the time that was left. */
  width: number;
  /** Median of how far the expected end was off, by the time that was left, and in ms. */
  error: number;
  errorMs: number;
}

function quantile(list: readonly number[], q: number): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN;
}

export function figuresOf(readings: readonly Reading[]): Figures {
  const count = (is: (r: Reading) => boolean) => readings.filter(is).length / Math.max(1, readings.length);
  const leftMs = (r: Reading) => Math.max(LEAST_LEFT_MS, r.endedMs - r.atMs);
  const early = count((r) => r.said !== null && r.endedMs < r.said.earliestMs);
  const late = count((r) => r.said !== null && r.endedMs > r.said.latestMs);
  const offMs = readings.flatMap((r) => (r.said === null ? [] : [Math.abs(r.said.expectedMs - r.endedMs)]));
  const spoken = readings.filter((r) => r.said !== null);
  return {
    ...{ readings: readings.length, held: count((r) => r.said !== null) - early - late, early, late },
    width: quantile(
      spoken.map((r) => ((r.said?.latestMs ?? 0) - (r.said?.earliestMs ?? 0)) / leftMs(r)),
      0.5,
    ),
    error: quantile(
      spoken.map((r, i) => (offMs[i] ?? 0) / leftMs(r)),
      0.5,
    ),
    errorMs: quantile(offMs, 0.5),
  };
}

/** A line for each group of readings. */
export function tableOf(readings: readonly Reading[]): string {
  const groups = new Map<string, Reading[]>();
  const add = (name: string, r: Reading) => {
    const list = groups.get(name);
    if (list === undefined) groups.set(name, [r]);
    else list.push(r);
  };
  for (const r of readings) {
    add(r.isSurprised ? '3 more were asked for later' : '2 nothing was asked for later', r);
    add('1 all', r);
    if (r.isSurprised) continue;
    add(`4 ${r.state}${r.state === 'waiting' ? (r.isPlanned ? ' in a plan' : ' by strategy') : ''}`, r);
    add(`5 priority ${r.priority}`, r);
    add(`6 ${r.technique ?? 'technique not chosen yet'}`, r);
    add(`7 basis ${r.basis}`, r);
  }
  const percent = (x: number) => `${(100 * x).toFixed(1)} %`.padStart(8);
  const head = `${''.padEnd(32)}readings    within   earlier     later  width/left  error/left  error`;
  const lines = [...groups]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, list]) => {
      const f = figuresOf(list);
      const shares = [f.held, f.early, f.late].map((x) => percent(x)).join('  ');
      const rest = `${f.width.toFixed(2).padStart(10)}  ${f.error.toFixed(2).padStart(10)}  ${(f.errorMs / 1000).toFixed(1)} s`;
      return `${name.slice(2).padEnd(32)}${String(f.readings).padStart(8)}  ${shares}${rest}`;
    });
  return [head, ...lines].join('\n');
}
