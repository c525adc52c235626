/** `fairway lab collect` for real: two migrations are measured, one in each call, and nothing is left behind. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { collect } from '../../sim/lab/collect/collect.ts';
import { parseRecord } from '../../sim/lab/collect/record.ts';
import { removeLab } from '../../sim/lab/network.ts';
import { whyNoLab } from '../../sim/lab/requirements.ts';
import { gate } from './gate.ts';

jest.setTimeout(600_000);
const prefix = `lc${process.pid}`;
const { reason, real, named } = gate(whyNoLab());
let folder = '';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairway-collect-'));
});
afterAll(async () => {
  if (reason === undefined) await removeLab({ prefix });
  rmSync(folder, { recursive: true, force: true });
});

real(named('two rows'), async () => {
  const out = join(folder, 'rows.csv');
  const said: string[] = [];
  const seen: [number, number, boolean][] = [];
  const options = {
    out,
    seed: 1,
    signal: new AbortController().signal,
    lab: { prefix },
    say: (text: string) => said.push(text),
    onProgress: (done: number, total: number, etaMs: number | null) => {
      seen.push([done, total, etaMs === null]);
    },
  };
  expect(await collect({ ...options, rows: 2 })).toMatchObject({ rows: 2, made: 2, failed: 0, leftovers: [] });
  expect(seen).toEqual([
    [0, 2, true],
    [1, 2, false],
    [2, 2, false],
  ]);
  const { rows } = parseRecord(readFileSync(out, 'utf8'));
  expect(rows.map((r) => r.row)).toEqual(['0', '1']);
  for (const r of rows) {
    // On a busy machine a copy may take longer than its limit: then it was cancelled, and the guest stayed.
    expect(r).toMatchObject({ converged: String(r.outcome === 'completed'), guest_alive: 'true' });
    expect(['', 'not done within the time limit']).toContain(r.reason);
    expect(Number(r.transferred_bytes)).toBeGreaterThan(1e6);
    expect(Number(r.client_silence_ms)).toBeGreaterThan(0);
    expect(Number(r.measured_dirty_bytes_per_s)).toBeGreaterThan(0);
    if (r.outcome !== 'completed') continue;
    // It went over the wire, and not faster than its rate.
    const mbps = (Number(r.transferred_bytes) * 8) / Number(r.total_ms) / 1000;
    expect(mbps).toBeLessThan(Number(r.wire_mbps) * 1.05);
    // The agents of both hosts saw the guest stop and go on.
    expect(Number(r.stop_to_resume_ms)).toBeGreaterThan(0);
    expect(Number(r.stop_to_resume_ms)).toBeLessThan(Number(r.total_ms) + 1000);
  }
  // All is there: nothing is built, nothing is measured.
  expect(await collect({ ...options, rows: 2 })).toMatchObject({ made: 0, leftovers: [] });
  expect(readFileSync(out, 'utf8').split('\n')).toHaveLength(4);
  expect(said).toEqual([]);
});
