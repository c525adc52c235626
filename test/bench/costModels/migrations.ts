/** Reads measured migrations, one in a row of comma-separated values, for `costModels.ts`. */
import { type Technique, techniqueSchema } from '../../../contracts/common.ts';

export interface MeasuredMigration {
  campaign: string;
  technique: Technique;
  ramMb: number;
  vcpus: number;
  run: number;
  downtimeMs: number;
  totalMs: number;
  /** With ROMs and display memory. */
  ramTotalBytes: number;
  /** Looks at the dirty log. */
  syncs: number;
  throughputBps: number;
  /** Of the stream. */
  transferredBytes: number;
  /** Pages that were not zero, each time they were sent. */
  normalBytes: number;
}

/**
 * @throws Error naming the column that is missing, or the line and column of a value that is no number or technique.
 */
export function readMigrations(text: string): MeasuredMigration[] {
  const [head = '', ...lines] = text.trim().split(/\r?\n/);
  const columns = head.split(',');
  return lines.map((line, i) => {
    const cells = line.split(',');
    const cell = (name: string): string => {
      const at = columns.indexOf(name);
      if (at < 0) throw new Error(`there is no column ${name}; there are ${columns.join(', ')}`);
      return cells[at] ?? '';
    };
    const number = (name: string): number => {
      const value = cell(name);
      const n = value.trim() === '' ? Number.NaN : Number(value);
      if (!Number.isFinite(n)) throw new Error(`line ${i + 2}: ${name} is ${JSON.stringify(value)}, not a number`);
      return n;
    };
    const technique = techniqueSchema.safeParse(cell('technique'));
    if (!technique.success)
      throw new Error(`line ${i + 2}: no technique is called ${JSON.stringify(cell('technique'))}`);
    return {
      campaign: cell('campaign'),
      technique: technique.data,
      ramMb: number('ram_mb'),
      vcpus: number('vcpus'),
      run: number('run'),
      downtimeMs: number('downtime_ms'),
      totalMs: number('total_ms'),
      ramTotalBytes: number('ram_total_bytes'),
      syncs: number('dirty_sync_count'),
      throughputBps: number('throughput_mbps') * 1e6,
      transferredBytes: number('transferred_bytes'),
      normalBytes: number('normal_bytes'),
    };
  });
}
