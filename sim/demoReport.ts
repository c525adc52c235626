/** What the demo prints: the scene, progress, and the closing tables. demo.ts runs it. */

import { barLine } from '../cli/progress.ts';
import { table } from '../cli/terminal.ts';
import { isFinal } from '../contracts/common.ts';
import type { MigrationView } from '../contracts/feed.ts';
import type { DemoResult } from '../contracts/results.ts';
import { formatBytes, formatMs, formatRate } from '../contracts/units.ts';
import type { DemoScenario } from './demoScenario.ts';

/** Plain progress is at most one line in so long, real time. */
const LINE_MS = 1000;
/** A screen is redrawn at most so often. */
const REDRAW_MS = 100;

export function describeScenario(s: DemoScenario): string {
  const rows = s.guests.map((g) => {
    const sum = (end: 'from' | 'to') =>
      s.network.workload.filter((w) => w[end] === g.spec.name).reduce((total, w) => total + w.offeredBps, 0);
    const dirty = ((g.spec.dirtyPagesPerS ?? 0) * 4096) / 1e6;
    return [
      g.spec.name,
      g.priority,
      `${g.host} -> ${g.destination}`,
      `${g.spec.memoryMiB} MiB`,
      `${dirty.toFixed(0)} MB/s`,
      formatRate(sum('to')),
      formatRate(sum('from')),
    ];
  });
  const hosts = [...new Set(s.guests.map((g) => g.host))].join(', ');
  return (
    `Emptying ${hosts}: ${s.guests.length} guests, ${s.network.switches.length} emulated switches, ` +
    `${s.network.hosts.length} hosts.\n\n` +
    `${table([['guest', 'priority', 'move', 'memory', 'dirties', 'receives', 'sends'], ...rows])}\n`
  );
}

/** Shows migrations as they run: bars on a screen, else a plain line at most every second. */
export class ProgressReport {
  readonly #out: (text: string) => void;
  readonly #columns: number | undefined;
  readonly #name: (text: string) => string;
  readonly #latest = new Map<string, MigrationView>();
  #linesDrawn = 0;
  #toldMs = -Infinity;
  #told = '';

  /** `name`: what the links in a text are called. */
  constructor(o: { out: (text: string) => void; columns?: number; name: (text: string) => string }) {
    this.#out = o.out;
    this.#name = o.name;
    this.#columns = o.columns;
  }

  /** A migration changed; `atS` is the data centre's time since the beginning, s. */
  show(m: MigrationView, atS: number): void {
    this.#latest.set(m.id, m);
    const now = performance.now();
    if (now - this.#toldMs < (this.#columns === undefined ? LINE_MS : REDRAW_MS)) return;
    this.#toldMs = now;
    if (this.#columns === undefined) this.#line(atS);
    else this.#draw(this.#columns);
  }

  /** Draws the last state. */
  end(): void {
    if (this.#columns !== undefined) this.#draw(this.#columns);
    this.#out('\n');
  }

  #line(atS: number): void {
    const text = [...this.#latest.values()].map((m) => `${m.guest} ${stateText(m)}`).join(', ');
    if (text === this.#told) return;
    this.#told = text;
    this.#out(`${atS.toFixed(0).padStart(4)} s  ${text}\n`);
  }

  #draw(columns: number): void {
    const wipe = this.#linesDrawn > 0 ? `\x1b[${this.#linesDrawn}A\x1b[J` : '';
    const lines = [...this.#latest.values()].map((m) => `${barLine(m, columns, this.#name)}\n`);
    this.#out(`${wipe}${lines.join('')}`);
    this.#linesDrawn = lines.length;
  }
}

function stateText(m: MigrationView): string {
  if (isFinal(m.state) || m.state !== 'copying') return m.state;
  return `${Math.floor(m.progressShare * 100)} %`;
}

/** The closing tables: what was decided, why (`decisions` by guest), and what it cost. */
export function reportText(r: DemoResult, s: DemoScenario, decisions: ReadonlyMap<string, readonly string[]>): string {
  const order = new Map(s.guests.map((g, i) => [g.spec.name, i]));
  const migrations = [...r.migrations].sort((a, b) => (order.get(a.vm) ?? 0) - (order.get(b.vm) ?? 0));
  const rows = migrations.map((m) => [
    m.vm,
    m.priority,
    m.technique,
    m.strategy,
    `${m.sliceMbps.toFixed(0)} Mbit/s`,
    formatMs(m.totalMs),
    formatMs(m.downtimeMs),
    formatBytes(m.bytes),
  ]);
  const heads = ['guest', 'priority', 'technique', 'strategy', 'slice', 'total', 'downtime', 'bytes'];
  const why = migrations.flatMap((m) => [`  ${m.vm}\n`, ...(decisions.get(m.vm) ?? []).map((text) => `    ${text}\n`)]);
  const links = r.links.map((l) => [
    `${l.a} -> ${l.b}`,
    `${l.capacityMbps.toFixed(0)}`,
    l.beforeMbps.toFixed(0),
    l.floorMbps.toFixed(0),
    l.worstWorkloadMbps.toFixed(0),
    String(l.secondsBelowFloor),
  ]);
  const linkHeads = ['link (Mbit/s)', 'capacity', 'workload before', 'owed', 'worst second', 'seconds below'];
  const left =
    r.leftovers.length === 0 ? 'Nothing of ours is left in the switches.' : `Left behind: ${r.leftovers.join('; ')}`;
  return `${table([heads, ...rows])}\nWhy:\n${why.join('')}\n${table([linkHeads, ...links])}\n${left}\n`;
}
