/**
 * Migrations as they run, for people: bars that are redrawn on a screen, or a line for each thing that happened. Both
 * are fed with the views of the feed; neither knows where they come from.
 */
import { isFinal } from '../contracts/common.ts';
import { copyText } from '../contracts/copyOrder.ts';
import type { FeedEnvelope, MigrationView, PullView } from '../contracts/feed.ts';
import { formatBytes, formatMs, formatRate } from '../contracts/units.ts';
import { LinkNames } from './linkNames.ts';
import type { Terminal } from './terminal.ts';

/** Keeps the newest view of each migration and shows changes as they come; names links where it is shown the topology too. */
export interface ProgressDisplay {
  show(e: FeedEnvelope): void;
  note(text: string): void;
}

export function createDisplay(terminal: Terminal, wanted: (m: MigrationView) => boolean = () => true): ProgressDisplay {
  return terminal.columns() === undefined ? plainLines(terminal, wanted) : bars(terminal, wanted);
}

const BAR_WIDTH = 24;

/** How far a long piece of work is, on standard error: a bar that is redrawn on a screen, elsewhere a line now and then. */
export interface Meter {
  /** `etaMs`: how long the rest will take; null: not known. */
  show(done: number, total: number, etaMs: number | null): void;
  note(text: string): void;
  end(): void;
}

export function createMeter(terminal: Terminal): Meter {
  let bar = '';
  const wipe = () => (bar === '' ? '' : '\r\x1b[K');
  return {
    show(done, total, etaMs) {
      const share = total === 0 ? 1 : done / total;
      const eta = etaMs === null ? '' : `  ${formatMs(etaMs)} to go`;
      const text = `${drawBar(share)}  ${done} of ${total}${eta}`;
      if (terminal.columns() === undefined) terminal.err(`${text}\n`);
      else {
        terminal.err(`${wipe()}${text}`);
        bar = text;
      }
    },
    note: (text) => terminal.err(`${wipe()}${text}\n${bar}`),
    end() {
      if (bar !== '') terminal.err('\n');
      bar = '';
    },
  };
}

function drawBar(share: number): string {
  const full = Math.round(share * BAR_WIDTH);
  return `[${'#'.repeat(full)}${'·'.repeat(BAR_WIDTH - full)}] ${String(Math.floor(share * 100)).padStart(3)} %`;
}

/** How the links in a text are called: `withLinkNames` of some topology. */
type Naming = (text: string) => string;
const asTheyAre: Naming = (text) => text;

/** `web1  high  post-copy  [#####·····]  47 %  83.1 Mbit/s  copying`, cut to the width of the screen. */
export function barLine(m: MigrationView, columns: number, name = asTheyAre): string {
  const bar = drawBar(Math.min(1, Math.max(0, m.progressShare)));
  const parts = [
    m.guest.padEnd(12),
    m.priority.padEnd(6),
    (m.technique === null ? '' : copyText(m.technique, m.options)).padEnd(9),
    bar,
    name(stateText(m)),
  ];
  return parts.join('  ').slice(0, columns);
}

/** What there is to say about a migration at this moment. */
function stateText(m: MigrationView): string {
  if (m.state === 'done') {
    const downtime = m.downtimeMs === null ? '' : `, stood still ${formatMs(m.downtimeMs)}`;
    return `done in ${formatMs(m.totalMs ?? 0)}${downtime}, ${formatBytes(m.transferredBytes)}`;
  }
  if (isFinal(m.state) || m.state === 'queued') return m.note === null ? m.state : `${m.state}: ${m.note}`;
  const now = m.explanation?.now;
  const away = now?.rule === 'now.agentAway' ? `; agent away: ${String(now.inputs.hosts)}` : '';
  return `${m.sliceBps > 0 ? `${m.state} at ${formatRate(m.sliceBps)}` : m.state}${away}`;
}

/** Whether there is still something to come of a pull. */
export const isPullOpen = (p: PullView): boolean => ['waiting', 'running', 'stopping', 'away'].includes(p.state);

const pullShare = (p: PullView): number =>
  p.state === 'done' ? 1 : p.totalBytes > 0 ? Math.min(1, p.doneBytes / p.totalBytes) : 0;

/** `running at 72.0 Mbit/s, 512.0 MB of 1.07 GB, 55.0 s to go`. */
export function pullText(p: PullView): string {
  const why = p.note === null ? '' : `: ${p.note}`;
  if (p.state === 'done') return 'done, all of the disks is there';
  if (p.state !== 'running') return `${p.state}${why}`;
  const rate = p.pacedBps === null ? '' : ` at ${formatRate(p.pacedBps)}`;
  if (p.totalBytes === 0) return `running${rate}${why}`;
  const left = p.totalBytes - p.doneBytes;
  const eta = p.pacedBps ? `, at most ${formatMs((left * 8000) / p.pacedBps)} to go` : '';
  return `running${rate}, ${formatBytes(p.doneBytes)} of ${formatBytes(p.totalBytes)}${eta}${why}`;
}

/** `web1  pull  [#####·····]  47 %  running at 72.0 Mbit/s, …`, cut to the width of the screen. */
export function pullLine(m: MigrationView, p: PullView, columns: number): string {
  return [m.guest.padEnd(12), 'pull', drawBar(pullShare(p)), pullText(p)].join('  ').slice(0, columns);
}

function bars(terminal: Terminal, wanted: (m: MigrationView) => boolean): ProgressDisplay {
  const latest = new Map<string, MigrationView>();
  let linesDrawn = 0;
  const wipe = () => (linesDrawn > 0 ? `\x1b[${linesDrawn}A\x1b[J` : '');
  const names = new LinkNames();
  const draw = () => [...latest.values()].map((m) => `${barLine(m, terminal.columns() ?? 80, names.name)}\n`);
  const redraw = (above = '') => {
    const lines = draw();
    terminal.out(`${wipe()}${above}${lines.join('')}`);
    linesDrawn = lines.length;
  };
  return {
    show(e) {
      names.read(e);
      if (!('topic' in e) || e.topic !== 'migrations') return;
      for (const m of e.data.migrations.filter(wanted)) latest.set(m.id, m);
      redraw();
    },
    note: (text) => redraw(`${text}\n`),
  };
}

/** A line when a migration's state, technique or tenth of progress changes. */
function plainLines(terminal: Terminal, wanted: (m: MigrationView) => boolean): ProgressDisplay {
  const told = new Map<string, string>();
  const names = new LinkNames();
  return {
    show(e) {
      names.read(e);
      if (!('topic' in e) || e.topic !== 'migrations') return;
      for (const m of e.data.migrations.filter(wanted)) {
        const tenth = Math.floor(m.progressShare * 10);
        const key = JSON.stringify([m.state, m.technique, isFinal(m.state) ? 0 : tenth, m.note]);
        if (told.get(m.id) === key) continue;
        told.set(m.id, key);
        const how = m.technique === null ? '' : ` (${copyText(m.technique, m.options)}, ${m.strategy ?? 'alone'})`;
        const percent = isFinal(m.state) ? '' : ` ${Math.floor(m.progressShare * 100)} %`;
        terminal.out(
          `${m.id} ${m.guest} ${m.from} -> ${m.to} ${m.priority}${how}:${percent} ${names.name(stateText(m))}\n`,
        );
      }
    },
    note: (text) => terminal.err(`${text}\n`),
  };
}
