/** Times as a chart of text: a line for each row, its time as a bar on a common scale, and a note below it. */
import { table } from './terminal.ts';

export interface ChartRow {
  cells: readonly string[];
  startS: number;
  endS: number;
  note: string;
}

const BAR_WIDTH = { least: 16, most: 60 };

/** Lines of the chart, the heading first; it is as wide as `columns` allow. */
export function chart(heading: readonly string[], rows: readonly ChartRow[], columns: number): string[] {
  const all = [...heading, 'start s', 'end s'];
  const cells = rows.map((r) => [...r.cells, r.startS.toFixed(1), r.endS.toFixed(1)]);
  const widths = all.map((h, i) => Math.max(h.length, ...cells.map((c) => (c[i] as string).length)));
  const used = widths.reduce((sum, w) => sum + w + 2, 0);
  const width = Math.max(BAR_WIDTH.least, Math.min(BAR_WIDTH.most, columns - used));
  const lastS = rows.reduce((most, r) => Math.max(most, r.endS), 0);
  const at = (s: number) => (lastS > 0 ? Math.round((s / lastS) * width) : 0);
  const bar = (r: ChartRow) => {
    const from = Math.min(at(r.startS), width - 1);
    const length = Math.max(1, at(r.endS) - from);
    return `${'·'.repeat(from)}${'#'.repeat(length)}${'·'.repeat(Math.max(0, width - from - length))}`;
  };
  const scale = `0${`${lastS.toFixed(1)} s`.padStart(width - 1)}`;
  const lines = table([[...all, scale], ...rows.map((r, i) => [...(cells[i] as string[]), bar(r)])])
    .split('\n')
    .slice(0, -1);
  return [lines[0] ?? '', ...rows.flatMap((r, i) => [lines[i + 1] ?? '', `    ${r.note}`])];
}
