/**
 * The cost models against migrations that others measured: the relative error of time, downtime and bytes for each
 * technique, beside simpler models on the same migrations. What a model is told of a guest comes from other runs than
 * those it is judged by: half of the runs of each guest give its non-zero memory, its writable working set and the costs
 * of the host, the other half is predicted.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchRow } from '../../contracts/bench.ts';
import type { Technique } from '../../contracts/common.ts';
import { parsePlanningInstance } from '../../contracts/plan.ts';
import { type CopyConditions, copyCost, type GuestModel, HOST_COSTS, type HostCosts } from '../../policies/index.ts';
import type { Bench } from './bench.ts';
import { collectedMigrations } from './costModels/collected.ts';
import { errorRows, median, type Outcome, quantile } from './costModels/errors.ts';
import { type MeasuredMigration, readMigrations } from './costModels/migrations.ts';

/** Measured by ourselves; see the README beside it. */
const COLLECTED = 'test/data/migrations.csv';
const GIB = 2 ** 30;
/** QEMU's own default, and what the measured hybrids did. */
const DOWNTIME_LIMIT_MS = 300;
const HYBRID_AFTER_MS = 500;
/** Nothing paced them: QEMU sends for 50 ms at a time, and looks then. */
const UNPACED_MS = 50;

export const bench: Bench = {
  help: `Usage: npm run bench -- cost-models [--migrations FILE.csv] [--plans DIR] [--collected FILE.csv] [--json]

Predicts migrations that were measured and prints the relative error |predicted − measured| ÷ measured, median and 90th
percentile, for each technique and each of time, downtime and bytes, beside simpler models:
  --migrations FILE  one migration in a row: campaign, technique, ram_mb, vcpus, run, setup_ms, downtime_ms, total_ms,
                     ram_total_bytes, dirty_sync_count, throughput_mbps, transferred_bytes, normal_bytes
  --plans DIR        planning-instance/1 files with reference_plan and measured_runs: durations of migrations
  --collected FILE   what \`fairway lab collect\` wrote
Without any of them: test/data/migrations.csv, and data/measured-migrations.csv and data/measured-plans in the folder that
FAIRWAY_SHARED names, if it is set.`,
  options: { migrations: { type: 'string' }, plans: { type: 'string' }, collected: { type: 'string' } },
  async run(o, progress) {
    const shared = process.env.FAIRWAY_SHARED;
    const isAll = o.migrations === undefined && o.plans === undefined && o.collected === undefined;
    const from = (given: string | boolean | undefined, name: string): string | undefined =>
      typeof given === 'string' ? given : isAll && shared !== undefined ? join(shared, 'data', name) : undefined;
    const results: BenchRow[] = [];
    const notes: string[] = [];
    const migrations = from(o.migrations, 'measured-migrations.csv');
    if (migrations !== undefined) {
      const rows = readMigrations(readFileSync(migrations, 'utf8'));
      progress(`${rows.length} migrations in ${migrations}`);
      results.push(...singleMigrations(rows, notes));
    }
    const plans = from(o.plans, 'measured-plans');
    if (plans !== undefined) results.push(...plannedMigrations(plans, notes));
    const collected = typeof o.collected === 'string' ? o.collected : isAll ? COLLECTED : undefined;
    if (collected !== undefined) results.push(...collectedMigrations(readFileSync(collected, 'utf8'), notes));
    return { format: 'bench-result/1', bench: 'cost-models', results, notes };
  },
};

// --- Single migrations ----------------------------------------------------------------------------------------------

/** A way to predict a migration. */
type Model = (m: MeasuredMigration) => Outcome;

const guestKey = (m: MeasuredMigration): string => `${m.campaign}/${m.ramMb}/${m.vcpus}`;

export interface Calibration {
  rateBps: number;
  costs: HostCosts;
  guests: ReadonlyMap<string, GuestModel>;
}

/** What the calibration runs say of link, host and guests. */
export function calibrate(runs: readonly MeasuredMigration[]): Calibration {
  // The best that the link carried: guests with little to walk over are bound by it alone.
  const rateBps = quantile(
    runs.map((m) => m.throughputBps),
    0.98,
  );
  const byGuest = new Map<string, MeasuredMigration[]>();
  for (const m of runs) byGuest.set(guestKey(m), [...(byGuest.get(guestKey(m)) ?? []), m]);
  const guests = new Map<string, GuestModel>();
  for (const [key, list] of byGuest) {
    const of = (t: Technique) => list.filter((m) => m.technique === t);
    // Post-copy sends every page that is not zero once.
    const nonZeroBytes = median(of('post-copy').map((m) => m.normalBytes));
    // What pre-copy sends more than that was written meanwhile; how fast was not recorded, only how much.
    const again = Math.max(0, median(of('pre-copy').map((m) => m.normalBytes)) - nonZeroBytes);
    const seconds = (nonZeroBytes * 8) / rateBps;
    const memoryBytes = (list[0] as MeasuredMigration).ramTotalBytes;
    guests.set(key, {
      memoryBytes,
      nonZeroBytes,
      workingSetBytes: again,
      dirtyBytesPerS: again / seconds,
      deviceMemoryBytes: memoryBytes - (list[0] as MeasuredMigration).ramMb * 2 ** 20,
    });
  }
  return { rateBps, guests, costs: hostCosts(runs, rateBps, guests) };
}

/** The host's constants, as the slopes and medians of what bytes do not explain. */
function hostCosts(
  runs: readonly MeasuredMigration[],
  rateBps: number,
  guests: ReadonlyMap<string, GuestModel>,
): HostCosts {
  const zeroGiB = (m: MeasuredMigration) => {
    const g = guests.get(guestKey(m)) as GuestModel;
    return (g.memoryBytes - (g.nonZeroBytes ?? 0)) / GIB;
  };
  const posts = runs.filter((m) => m.technique === 'post-copy' || m.technique === 'hybrid');
  const switchoverMs = median(posts.map((m) => m.downtimeMs));
  // Each look at the dirty log costs time for each GiB that the network does not hide.
  const walks = runs
    .filter((m) => zeroGiB(m) > 1)
    .map((m) => (m.totalMs - (m.transferredBytes * 8000) / rateBps - switchoverMs) / (m.syncs * zeroGiB(m)));
  const pres = runs.filter((m) => m.technique === 'pre-copy');
  const small = median(pres.filter((m) => zeroGiB(m) < 2).map((m) => m.downtimeMs));
  const lasts = pres.filter((m) => zeroGiB(m) > 3).map((m) => (m.downtimeMs - small) / zeroGiB(m));
  return { switchoverMs, walkMsPerGiB: Math.max(0, median(walks)), lastLookMsPerGiB: Math.max(0, median(lasts)) };
}

/** What the models are told of a migration besides its guest. */
const conditions = (rateBps: number, costs: HostCosts): CopyConditions => ({
  rateBps,
  downtimeLimitMs: DOWNTIME_LIMIT_MS,
  hybridPasses: 1,
  hybridAfterMs: HYBRID_AFTER_MS,
  pacerMs: UNPACED_MS,
  costs,
});

const NO_COSTS: HostCosts = { switchoverMs: 0, walkMsPerGiB: 0, lastLookMsPerGiB: 0 };

/** A geometric series without a cap on what can be dirty, over all memory: Σ M · (d/r)^i until the downtime limit. */
function geometric(g: GuestModel, rateBps: number): Outcome {
  const bytesPerMs = rateBps / 8000;
  const ratio = g.dirtyBytesPerS / (rateBps / 8);
  let left = g.memoryBytes;
  let bytes = 0;
  for (let i = 0; i < 30 && left > bytesPerMs * DOWNTIME_LIMIT_MS; i++) {
    bytes += left;
    left *= ratio;
  }
  bytes += left;
  return { totalMs: bytes / bytesPerMs, downtimeMs: left / bytesPerMs, bytes };
}

function modelsOf(c: Calibration, calibrationRuns: readonly MeasuredMigration[]): Record<string, Model> {
  const guest = (m: MeasuredMigration) => c.guests.get(guestKey(m)) as GuestModel;
  const flat = (bytes: number): Outcome => ({
    totalMs: (bytes * 8000) / c.rateBps,
    downtimeMs: DOWNTIME_LIMIT_MS,
    bytes,
  });
  const seen = new Map<string, Outcome>();
  for (const key of c.guests.keys()) {
    for (const t of ['pre-copy', 'post-copy', 'hybrid']) {
      const list = calibrationRuns.filter((m) => guestKey(m) === key && m.technique === t);
      const of = (f: (m: MeasuredMigration) => number) => median(list.map(f));
      seen.set(`${key}/${t}`, {
        totalMs: of((m) => m.totalMs),
        downtimeMs: of((m) => m.downtimeMs),
        bytes: of((m) => m.transferredBytes),
      });
    }
  }
  return {
    fairway: (m) => copyCost(m.technique, guest(m), conditions(c.rateBps, c.costs)),
    'fairway, built-in host costs': (m) => copyCost(m.technique, guest(m), conditions(c.rateBps, HOST_COSTS)),
    'memory ÷ bandwidth': (m) => flat(m.ramTotalBytes),
    'non-zero memory ÷ bandwidth': (m) => flat(guest(m).nonZeroBytes ?? 0),
    'geometric series without cap': (m) => geometric(guest(m), c.rateBps),
    'median of the same guest (what repetition allows)': (m) => seen.get(`${guestKey(m)}/${m.technique}`) as Outcome,
  };
}

/** Errors of each model on the runs that were held back, by technique. */
export function singleMigrations(rows: readonly MeasuredMigration[], notes: string[]): BenchRow[] {
  const calibrationRuns = rows.filter((m) => m.run % 2 === 1);
  const judged = rows.filter((m) => m.run % 2 === 0);
  const c = calibrate(calibrationRuns);
  const results: BenchRow[] = [];
  for (const technique of ['pre-copy', 'post-copy', 'hybrid'] as const) {
    const list = judged.filter((m) => m.technique === technique);
    if (list.length === 0) continue;
    results.push({
      subject: 'data',
      metric: `${technique}: migrations judged`,
      value: list.length,
      unit: 'migrations',
    });
    for (const [subject, model] of Object.entries(modelsOf(c, calibrationRuns))) {
      const errors = (f: (x: Outcome) => number, of: (m: MeasuredMigration) => number) =>
        list.map((m) => Math.abs(f(model(m)) - of(m)) / of(m));
      results.push(
        ...errorRows(
          subject,
          `${technique}: time`,
          errors(
            (x) => x.totalMs,
            (m) => m.totalMs,
          ),
        ),
        ...errorRows(
          subject,
          `${technique}: downtime`,
          errors(
            (x) => x.downtimeMs,
            (m) => m.downtimeMs,
          ),
        ),
        ...errorRows(
          subject,
          `${technique}: bytes`,
          errors(
            (x) => x.bytes,
            (m) => m.transferredBytes,
          ),
        ),
      );
    }
  }
  const round = (n: number) => Math.round(n * 10) / 10;
  notes.push(
    `odd runs calibrate, even runs are judged: link ${round(c.rateBps / 1e6)} Mbit/s, switch-over ${round(c.costs.switchoverMs)} ms, ` +
      `${round(c.costs.walkMsPerGiB)} ms for each look at the dirty log and GiB of zero memory, ${round(c.costs.lastLookMsPerGiB)} ms at the last`,
    'simple models are given the downtime limit as downtime; dirty rates were not recorded and are inferred from the bytes that pre-copy sent again',
  );
  return results;
}

// --- Migrations of measured plans -----------------------------------------------------------------------------------

interface MeasuredPlan {
  reference_plan: { vm: string; bw_mbps: number }[];
  measured_runs: { vm: string; start_s: number; end_s: number }[][];
}

interface PlannedMove {
  plan: number;
  guest: GuestModel;
  rateBps: number;
  measuredS: number;
}

/** The migrations of one file, with the mean of what their runs took. */
function planMoves(text: string, plan: number): PlannedMove[] {
  const json = JSON.parse(text) as MeasuredPlan;
  const { vms } = parsePlanningInstance(json);
  return json.reference_plan.flatMap(({ vm, bw_mbps }) => {
    const spec = vms.find((v) => v.id === vm);
    const durations = json.measured_runs
      .map((run) => run.find((r) => r.vm === vm))
      .flatMap((r) => (r === undefined ? [] : [r.end_s - r.start_s]));
    if (spec === undefined || durations.length === 0) return [];
    const { hot_dirty_mb = 0, hot_dirty_s = 0, cold_dirty_mb_per_s = 0 } = spec;
    const guest: GuestModel = {
      memoryBytes: spec.memory_mb * 1e6,
      dirtyBytesPerS: hot_dirty_s > 0 ? (hot_dirty_mb / hot_dirty_s) * 1e6 : 0,
      workingSetBytes: hot_dirty_mb * 1e6,
      coldBytesPerS: cold_dirty_mb_per_s * 1e6,
    };
    const measuredS = durations.reduce((a, b) => a + b, 0) / durations.length;
    return [{ plan, guest, rateBps: memoryRateBps(bw_mbps), measuredS }];
  });
}

/** A link of 9 Mbit/s carries 1 MB/s of guest memory in these instances. */
const memoryRateBps = (mbps: number): number => (mbps * 1e6 * 8) / 9;

function plannedMigrations(folder: string, notes: string[]): BenchRow[] {
  const files = readdirSync(folder)
    .filter((f) => f.endsWith('.json'))
    .sort();
  if (files.length === 0) throw new Error(`no .json files in ${folder}`);
  const moves = files.flatMap((file, plan) => planMoves(readFileSync(join(folder, file), 'utf8'), plan));
  const fairwayS = (m: PlannedMove, downtimeLimitMs: number) =>
    copyCost('pre-copy', m.guest, { rateBps: m.rateBps, downtimeLimitMs, hybridPasses: 1, costs: NO_COSTS }).totalMs /
    1000;
  const error = (m: PlannedMove, predictedS: number) => Math.abs(predictedS - m.measuredS) / m.measuredS;
  // The downtime that these copies aimed at was not recorded: every other plan says which one fits.
  const calibration = moves.filter((m) => m.plan % 2 === 0);
  const limits = [30, 100, 300, 500, 1000, 2000, 4000].map((ms) => ({
    ms,
    error: median(calibration.map((m) => error(m, fairwayS(m, ms)))),
  }));
  const limit = limits.reduce((x, y) => (y.error < x.error ? y : x));
  const judged = moves.filter((m) => m.plan % 2 === 1);
  const errors: [string, number[]][] = [
    ['fairway', judged.map((m) => error(m, fairwayS(m, limit.ms)))],
    [`fairway, downtime limit ${DOWNTIME_LIMIT_MS} ms`, judged.map((m) => error(m, fairwayS(m, DOWNTIME_LIMIT_MS)))],
    ['memory ÷ bandwidth', judged.map((m) => error(m, (m.guest.memoryBytes * 8) / m.rateBps))],
    ['geometric series without cap', judged.map((m) => error(m, geometric(m.guest, m.rateBps).totalMs / 1000))],
  ];
  notes.push(
    `plans: ${moves.length} migrations of ${files.length} plans, mean of their runs; the rate is the plan's, at 9 Mbit/s for each MB/s of memory; ` +
      `every other plan calibrates the downtime limit, which was not recorded (${limit.ms} ms), and ${judged.length} migrations of the others are judged`,
  );
  return errors.flatMap(([subject, list]) => errorRows(subject, 'planned pre-copy: time', list));
}
