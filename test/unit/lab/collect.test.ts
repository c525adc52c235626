/** The plan of `fairway lab collect` and its file: the same for the same seed, and taken up again where it ends. */
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { COPY_METHODS, checkOrder, qemuAbilities } from '../../../agent/core/techniques.ts';
import { timeLimitMs } from '../../../sim/lab/collect/collect.ts';
import { planRows, ROWS_PER_BLOCK } from '../../../sim/lab/collect/plan.ts';
import {
  COLUMNS,
  emptyRow,
  formatRow,
  HEADER,
  openRecord,
  parseRecord,
  type Row,
} from '../../../sim/lab/collect/record.ts';

describe('the plan', () => {
  test('is the same for the same seed, however many rows of it are wanted', () => {
    fc.assert(
      fc.property(fc.nat(1e6), fc.integer({ min: 0, max: 200 }), fc.integer({ min: 0, max: 200 }), (seed, a, b) => {
        const [few, many] = [planRows(seed, Math.min(a, b)), planRows(seed, Math.max(a, b))];
        expect(many.slice(0, few.length)).toEqual(few);
        expect(many.map((r) => r.row)).toEqual(many.map((_, i) => i));
      }),
      { numRuns: 50 },
    );
  });

  test('every block has every method twice, one guest, and working sets that fit into what is filled', () => {
    const plan = planRows(1, 6 * ROWS_PER_BLOCK);
    for (let block = 0; block < 6; block++) {
      const rows = plan.filter((r) => r.block === block);
      for (const method of COPY_METHODS) expect(rows.filter((r) => r.method.name === method.name)).toHaveLength(2);
      expect(new Set(rows.map((r) => r.memoryMiB)).size).toBe(1);
      expect(rows.every((r) => r.workingSetMiB <= r.filledMiB && r.filledMiB < r.memoryMiB)).toBe(true);
    }
    expect(new Set(plan.map((r) => r.memoryMiB)).size).toBe(3);
    const able = qemuAbilities([10, 0, 2], new Set(['postcopy-ram', 'auto-converge', 'xbzrle', 'multifd']), [
      'none',
      'zlib',
      'zstd',
    ]);
    for (const r of plan) expect(() => checkOrder(r.method, able, 'h')).not.toThrow();
  });

  test('another seed is another plan, and no row may take half a minute', () => {
    expect(planRows(1, 32)).not.toEqual(planRows(2, 32));
    for (const r of planRows(3, 160)) expect(timeLimitMs(r)).toBeLessThanOrEqual(25_000);
  });
});

describe('the file', () => {
  let folder = '';
  const path = () => join(folder, 'rows.csv');
  const row = (n: number, more: Partial<Row> = {}): Row => ({ ...emptyRow(), row: n, seed: 7, ...more });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'fairway-collect-'));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  test('goes on where it ended; a line that was not written to its end is made again', () => {
    const first = openRecord(path(), 7);
    expect([...first.done]).toEqual([]);
    first.append(row(0));
    first.append(row(2, { reason: 'a, "b"\nc' }));
    appendFileSync(path(), formatRow(row(3)).slice(0, 20));
    const again = openRecord(path(), 7);
    expect([...again.done]).toEqual([0, 2]);
    again.append(row(3));
    const { rows } = parseRecord(readFileSync(path(), 'utf8'));
    expect(rows.map((r) => [r.row, r.reason])).toEqual([
      ['0', ''],
      ['2', 'a   b c'],
      ['3', ''],
    ]);
  });

  test('cut off anywhere, it is read without what was cut', () => {
    const text = `${HEADER}\n${[0, 1, 2].map((n) => `${formatRow(row(n))}\n`).join('')}`;
    fc.assert(
      fc.property(fc.integer({ min: 0, max: text.length }), (cut) => {
        const { rows, wholeBytes } = parseRecord(text.slice(0, cut));
        expect(rows.map((r) => Number(r.row))).toEqual([0, 1, 2].slice(0, rows.length));
        expect(text.slice(0, wholeBytes)).toBe(text.slice(0, text.slice(0, cut).lastIndexOf('\n') + 1));
      }),
    );
  });

  test("another seed's file, and any other file, is not touched", () => {
    openRecord(path(), 7).append(row(0));
    const before = readFileSync(path(), 'utf8');
    expect(() => openRecord(path(), 8)).toThrow(/made with seed 7: go on with --seed 7/);
    expect(readFileSync(path(), 'utf8')).toBe(before);
    writeFileSync(path(), 'a,b\n1,2\n');
    expect(() => openRecord(path(), 7)).toThrow(/not one of `fairway lab collect`/);
    expect(readFileSync(path(), 'utf8')).toBe('a,b\n1,2\n');
  });
});

/** What was measured and is kept in the repository. */
const data = join(import.meta.dirname, '../../data');
const measured = (existsSync(data) ? readdirSync(data) : []).filter((f) => /^migrations.*\.csv$/.test(f));
(measured.length > 0 ? describe : describe.skip)(
  measured.length > 0 ? 'measured migrations' : 'measured migrations (skipped, because none are in test/data)',
  () => {
    test.each(measured.length > 0 ? measured : ['none'])('%s keeps to the columns, and its rows make sense', (file) => {
      const { rows } = parseRecord(readFileSync(join(data, file), 'utf8'));
      expect(rows.length).toBeGreaterThanOrEqual(150);
      expect(new Set(rows.map((r) => r.row)).size).toBe(rows.length);
      const plan = planRows(Number(rows[0]?.seed), rows.length);
      for (const r of rows) {
        const planned = plan[Number(r.row)];
        expect([r.technique, r.memory_mib, r.wire_mbps]).toEqual([
          planned?.method.technique,
          String(planned?.memoryMiB),
          String(planned?.wireMbps),
        ]);
        for (const column of [...COLUMNS.before.slice(5, 7), 'load_average_1min', 'time_limit_ms'] as const)
          expect(Number(r[column])).toBeGreaterThan(0);
        expect(['completed', 'cancelled', 'failed']).toContain(r.outcome);
        expect(r.converged).toBe(String(r.outcome === 'completed'));
        if (r.outcome !== 'completed') continue;
        expect(Number(r.total_ms)).toBeGreaterThan(0);
        expect(Number(r.transferred_bytes)).toBeGreaterThan(1e6);
        expect(Number(r.passes)).toBeGreaterThan(0);
        expect(r.guest_alive).toBe('true');
      }
      const done = rows.filter((r) => r.outcome === 'completed').length;
      expect(done).toBeGreaterThan(rows.length / 2);
    });
  },
);
