/**
 * The cost models against the migrations that `fairway lab collect` made, for `costModels.ts`. Unlike the table of others' migrations
 * these have a measured dirty rate and working set from before each copy, fast writers among them, and rates far below the network's.
 */
import type { BenchRow } from '../../../contracts/bench.ts';
import { type Technique, techniqueSchema } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import {
  type CopyConditions,
  compilePolicy,
  copyCost,
  type GuestModel,
  HOST_COSTS,
  type HostCosts,
  predictCopy,
  silenceMs,
} from '../../../policies/index.ts';
import { parseRecord } from '../../../sim/lab/collect/record.ts';
import { errorRows, median, type Outcome } from './errors.ts';

const MIB = 2 ** 20;
const PAGE_BYTES = 4096;

/** What a row says, of methods that the models know: nothing compressed. */
interface Collected extends Outcome {
  row: number;
  technique: Technique;
  autoConverge: boolean;
  memoryBytes: number;
  filledBytes: number;
  dirtyBytesPerS: number;
  /** All of the memory where no bound was seen. */
  workingSetBytes: number;
  rateBps: number;
  downtimeLimitMs: number;
  hybridPasses: number;
  converged: boolean;
  /** The longest time that a client pinging every 10 ms heard nothing. */
  silenceMs: number;
  normalBytes: number;
}

function readCollected(text: string): Collected[] {
  return parseRecord(text)
    .rows.filter((r) => r.xbzrle_cache_mib === '' && r.multifd_channels === '' && r.guest_alive === 'true')
    .map((r) => ({
      row: Number(r.row),
      technique: techniqueSchema.parse(r.technique),
      autoConverge: r.auto_converge === 'true',
      memoryBytes: Number(r.memory_mib) * MIB,
      filledBytes: Number(r.filled_mib) * MIB,
      dirtyBytesPerS: Number(r.measured_dirty_bytes_per_s),
      workingSetBytes: Number(r.measured_working_set_bytes || Number(r.memory_mib) * MIB),
      rateBps: Number(r.pace_mbps) * 1e6,
      downtimeLimitMs: Number(r.downtime_limit_ms),
      hybridPasses: Number(r.hybrid_passes),
      converged: r.converged === 'true',
      totalMs: Number(r.total_ms),
      downtimeMs: Number(r.downtime_ms),
      bytes: Number(r.transferred_bytes),
      silenceMs: Number(r.client_silence_ms),
      normalBytes: Number(r.normal_pages) * PAGE_BYTES,
    }));
}

const method = (m: Collected): string => (m.autoConverge ? `${m.technique}, auto-converge` : m.technique);

/** Odd rows say what an agent would know of memory, and the host's constants; even rows are judged. */
export function collectedMigrations(text: string, notes: string[]): BenchRow[] {
  const all = readCollected(text);
  const known = all.filter((m) => m.row % 2 === 1 && m.converged);
  const once = known.filter((m) => m.technique === 'post-copy' || m.technique === 'stop-and-copy');
  const besidesBytes = median(once.map((m) => m.normalBytes - m.filledBytes));
  const switchoverMs = median(
    known.filter((m) => m.technique === 'post-copy' || m.technique === 'hybrid').map((m) => m.downtimeMs),
  );
  const costs: HostCosts = { ...HOST_COSTS, switchoverMs };

  const guest = (m: Collected): GuestModel => ({
    memoryBytes: m.memoryBytes,
    nonZeroBytes: m.filledBytes + besidesBytes,
    dirtyBytesPerS: m.dirtyBytesPerS,
    workingSetBytes: m.workingSetBytes,
  });
  const conditions = (m: Collected): CopyConditions => ({
    rateBps: m.rateBps,
    downtimeLimitMs: m.downtimeLimitMs,
    hybridPasses: m.hybridPasses,
    autoConverge: m.autoConverge,
    costs,
  });
  const flat = (m: Collected, bytes: number): Outcome => ({
    totalMs: (bytes * 8000) / m.rateBps,
    downtimeMs: m.downtimeLimitMs,
    bytes,
  });
  const models: Record<string, (m: Collected) => Outcome> = {
    fairway: (m) => copyCost(m.technique, guest(m), conditions(m)),
    'fairway, all memory not zero': (m) => {
      const { nonZeroBytes: _, ...model } = guest(m);
      return copyCost(m.technique, model, conditions(m));
    },
    'memory ÷ bandwidth': (m) => flat(m, m.memoryBytes),
    'non-zero memory ÷ bandwidth': (m) => flat(m, m.filledBytes + besidesBytes),
  };

  const judged = all.filter((m) => m.row % 2 === 0);
  const results: BenchRow[] = [];
  for (const name of [...new Set(judged.map(method))].sort()) {
    const list = judged.filter((m) => method(m) === name && m.converged);
    const label = `collected, ${name}`;
    results.push({ subject: 'data', metric: `${label}: migrations judged`, value: list.length, unit: 'migrations' });
    for (const [subject, model] of Object.entries(models)) {
      const errors = (of: (x: Outcome) => number) => list.map((m) => Math.abs(of(model(m)) - of(m)) / of(m));
      results.push(
        ...errorRows(
          subject,
          `${label}: time`,
          errors((x) => x.totalMs),
        ),
      );
      // QEMU's own figure leaves out most of a stop-and-copy's.
      if (name !== 'stop-and-copy')
        results.push(
          ...errorRows(
            subject,
            `${label}: downtime`,
            errors((x) => x.downtimeMs),
          ),
        );
      results.push(
        ...errorRows(
          subject,
          `${label}: bytes`,
          errors((x) => x.bytes),
        ),
      );
    }
  }
  results.push(...silences(judged, (m) => silenceMs(copyCost(m.technique, guest(m), conditions(m)))));
  // Nothing in them is calibrated but the non-zero memory, which they do not depend on: all rows are judged.
  results.push(...verdicts(all, guest));
  notes.push(
    `collected: odd rows calibrate (${Math.round(besidesBytes / MIB)} MiB not zero besides what was filled, switch-over ${Math.round(switchoverMs)} ms), ` +
      'even rows are judged; a copy that was cancelled has no time to be compared with and counts for the verdicts only',
  );
  return results;
}

/** How long clients hear nothing while a guest waits for its pages: of the two techniques that let it wait. */
function silences(judged: readonly Collected[], predicted: (m: Collected) => number): BenchRow[] {
  return (['post-copy', 'hybrid'] as const).flatMap((technique) => {
    const list = judged.filter((m) => m.technique === technique && m.converged);
    const errors = list.map((m) => Math.abs(predicted(m) - m.silenceMs) / m.silenceMs);
    return errorRows('fairway', `collected, ${technique}: silence of a client`, errors);
  });
}

/** Whether plain pre-copy would end: what the models said before, against what became of it. */
function verdicts(all: readonly Collected[], guest: (m: Collected) => GuestModel): BenchRow[] {
  const plain = all.filter((m) => m.technique === 'pre-copy' && !m.autoConverge);
  const said = (m: Collected) => {
    const technique = { ...DEFAULT_POLICY.technique, downtimeLimitMs: m.downtimeLimitMs };
    return predictCopy('pre-copy', guest(m), m.rateBps, compilePolicy({ ...DEFAULT_POLICY, technique })).converges;
  };
  const metric = (what: string) => `collected, pre-copy: ${what}`;
  const row = (what: string, list: readonly Collected[]): BenchRow => ({
    subject: 'fairway',
    metric: metric(what),
    value: list.length,
    unit: 'migrations',
  });
  return [
    row(
      'ends, as foretold',
      plain.filter((m) => m.converged && said(m)),
    ),
    row(
      'does not end, as foretold',
      plain.filter((m) => !m.converged && !said(m)),
    ),
    row(
      'ends, though said not to',
      plain.filter((m) => m.converged && !said(m)),
    ),
    row(
      'does not end, though said to',
      plain.filter((m) => !m.converged && said(m)),
    ),
  ];
}
