/**
 * The file that `fairway lab collect` writes: comma-separated values, one migration a line, whole lines only. What a file holds
 * already is read back, so that a collection goes on where it ended. Pure but for `openRecord`. `docs/lab.md` explains columns.
 */
import { appendFileSync, existsSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { FairwayError } from '../../../contracts/common.ts';

/** Columns in order; units are in their names. `before`: known before the copy; `after`: what became of it. */
export const COLUMNS = {
  plan: ['row', 'seed', 'started_at'],
  before: [
    'technique',
    'auto_converge',
    'xbzrle_cache_mib',
    'multifd_channels',
    'multifd_compression',
    'memory_mib',
    'vcpus',
    'filled_mib',
    'ordered_dirty_pages_per_s',
    'ordered_working_set_mib',
    'writes',
    'measured_dirty_bytes_per_s',
    'measured_working_set_bytes',
    'wire_mbps',
    'pace_mbps',
    'downtime_limit_ms',
    'hybrid_passes',
    'time_limit_ms',
    'load_average_1min',
  ],
  after: [
    'outcome',
    'converged',
    'total_ms',
    'setup_ms',
    'downtime_ms',
    'stop_to_resume_ms',
    'client_silence_ms',
    'transferred_bytes',
    'passes',
    'normal_pages',
    'duplicate_pages',
    'postcopy_requests',
    'postcopy_bytes',
    'throughput_mbps',
    'throttle_percent',
    'guest_alive',
    'reason',
  ],
} as const;
type Group = keyof typeof COLUMNS;
export type Column = (typeof COLUMNS)[Group][number];
/** Null where there is nothing to tell. */
export type Row = Record<Column, string | number | boolean | null>;

const ALL: readonly Column[] = [...COLUMNS.plan, ...COLUMNS.before, ...COLUMNS.after];
export const HEADER = ALL.join(',');

/** A row of which nothing is known. */
export const emptyRow = (): Row => Object.fromEntries(ALL.map((column) => [column, null])) as Row;

/** One line without its end. Text loses what would end a field. */
export function formatRow(row: Row): string {
  return ALL.map((column) => {
    const value = row[column];
    return value === null ? '' : String(value).replaceAll(/[",\r\n]+/g, ' ');
  }).join(',');
}

/** The rows of a file's text by column, all as texts. @throws FairwayError `lab.collect` when it is no such file. */
export function parseRecord(text: string): { rows: Record<Column, string>[]; wholeBytes: number } {
  const end = text.lastIndexOf('\n') + 1;
  const lines = text.slice(0, end).split('\n').slice(0, -1);
  if (lines.length === 0) return { rows: [], wholeBytes: 0 };
  if (lines[0] !== HEADER) throw foreign(`its first line is not the header ${HEADER.slice(0, 60)}…`);
  const rows = lines.slice(1).map((line, i) => {
    const cells = line.split(',');
    if (cells.length !== ALL.length) throw foreign(`line ${i + 2} has ${cells.length} fields, not ${ALL.length}`);
    return Object.fromEntries(ALL.map((column, at) => [column, cells[at] as string])) as Record<Column, string>;
  });
  return { rows, wholeBytes: Buffer.byteLength(text.slice(0, end)) };
}

const foreign = (why: string) =>
  new FairwayError('lab.collect', `the file is not one of \`fairway lab collect\`: ${why}; name another file`, [
    'badInput',
  ]);

export interface OpenRecord {
  /** Rows of the plan that are there already. */
  done: ReadonlySet<number>;
  append(row: Row): void;
}

/**
 * Opens a file for a collection with that seed, or makes it; a last line that was not written to its end is cut off.
 *
 * @throws FairwayError `lab.collect` (badInput) when the file is another's, or was made with another seed.
 */
export function openRecord(path: string, seed: number): OpenRecord {
  const text = existsSync(path) ? readFileSync(path, 'utf8') : '';
  const { rows, wholeBytes } = parseRecord(text);
  const other = rows.find((r) => r.seed !== String(seed));
  if (other !== undefined) {
    const message = `${path} was made with seed ${other.seed}: go on with --seed ${other.seed}, or name another file`;
    throw new FairwayError('lab.collect', message, ['badInput']);
  }
  if (wholeBytes === 0) writeFileSync(path, `${HEADER}\n`);
  else truncateSync(path, wholeBytes);
  return {
    done: new Set(rows.map((r) => Number(r.row))),
    append: (row) => appendFileSync(path, `${formatRow(row)}\n`),
  };
}
