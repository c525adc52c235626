/**
 * The planner against lower bounds, usual practice and time: on stored instances, on generated ones of the same kind, on
 * fat-trees of up to 10,000 migrations, and on instances with workload, priorities and deadlines.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { BenchRow } from '../../contracts/bench.ts';
import { type Plan, type PlanningInstance, parsePlanningInstance } from '../../contracts/plan.ts';
import { checkPlan } from '../../policies/planCheck/index.ts';
import { planMigrations } from '../../policies/planner/index.ts';
import type { Bench } from './bench.ts';
import { BASELINES, mean, type Outcome, outcomeOf, runBaseline } from './planner/baselines.ts';
import { fatTree, measuredKind, mixed, nearlyFull, outOfOneRack, withTightMemory } from './planner/generate.ts';
import { bestMakespanS, smallInstance } from './planner/oracle.ts';
import { replanRows } from './planner/replan.ts';

type Progress = (line: string) => void;

/** How many instances are generated of each kind. */
const GENERATED = 100;
const NEARLY_FULL = 30;
const MIXED = 100;
const SMALL = 40;
/** Waiting migrations with which the controller plans anew. */
const REPLANNED = [10, 100, 1000];

export const bench: Bench = {
  help: `Usage: npm run bench -- planner [--instances DIR] [--generated] [--fat-trees] [--mixed] [--oracle] [--replan] [--json]

Plans and checks, with the independent checker:
  --instances DIR  the planning-instance/1 files of a folder
  --generated      ${GENERATED} instances like the measured ones (four hosts, ten to twelve guests), from seeds, and
                   ${NEARLY_FULL} whose hosts are nearly full, so that almost all wait for memory
  --fat-trees      1,000 to 10,000 migrations over 1,024 hosts, and how time grows
  --mixed          ${MIXED} leaf-spine instances with workload, priorities and deadlines, beside usual practice
  --oracle         ${SMALL} small instances beside the optimum that a mixed-integer solver (HiGHS) finds in time slots
Without any of the last four all of them are run.
  --replan         a controller that plans anew with 10, 100 and 1,000 waiting migrations: how long its turn takes
  --jobs N         with --replan: that many migrations only

  --work N         work units the search may use for each priority (default: 5,000 for each migration, at least two million)
  --seed N         first seed of the generated instances (default 1)`,
  options: {
    instances: { type: 'string' },
    generated: { type: 'boolean' },
    'fat-trees': { type: 'boolean' },
    mixed: { type: 'boolean' },
    oracle: { type: 'boolean' },
    replan: { type: 'boolean' },
    jobs: { type: 'string' },
    work: { type: 'string' },
    seed: { type: 'string' },
  },
  async run(o, progress) {
    const work = o.work === undefined ? undefined : wholeNumber('work', o.work, 0);
    const seed = wholeNumber('seed', o.seed, 1);
    const isAll =
      o.replan !== true && o.generated !== true && o['fat-trees'] !== true && o.mixed !== true && o.oracle !== true;
    const results: BenchRow[] = [];
    const notes = [
      `Node.js ${process.version}, ${cpus()[0]?.model ?? 'unknown processor'}, one core; search of ${work ?? 'the default number of'} work units; first seed ${seed}`,
      'every plan is checked by policies/planCheck, which shares no code with the planner; the lower bound is the load of the busiest link',
    ];
    if (typeof o.instances === 'string') results.push(...stored(o.instances, work, progress, notes));
    if (isAll || o.generated === true) {
      const list = Array.from({ length: GENERATED }, (_, i) => measuredKind(seed + i));
      results.push(...summary('generated', list, work, progress));
      const full = Array.from({ length: NEARLY_FULL }, (_, i) => nearlyFull(seed + i));
      results.push(...summary('nearly full', full, work, progress));
    }
    if (isAll || o['fat-trees'] === true) results.push(...fatTrees(seed, work, progress));
    if (isAll || o.mixed === true) {
      results.push(...mixedPriorities(seed, work, progress));
      notes.push(
        'mixed: baselines share links max-min fairly with the workload and reserve nothing; seconds below floor are summed over all workloads of an instance',
      );
    }
    if (isAll || o.oracle === true) {
      results.push(...(await besideOptimum(seed, work, progress)));
      notes.push('oracle: the solver changes rates at the ends of slots only, so that a plan may be a little better');
    }
    if (o.replan === true) {
      results.push(...replanRows(o.jobs === undefined ? REPLANNED : [wholeNumber('jobs', o.jobs, 1)], seed, progress));
      notes.push(
        'replan: a turn is the whole of the controller core for one event, without sockets; slices are worked out every second',
      );
    }
    return { format: 'bench-result/1', bench: 'planner', results, notes };
  },
};

function wholeNumber(name: string, text: string | boolean | undefined, otherwise: number): number {
  if (text === undefined) return otherwise;
  const n = Number(text);
  if (!Number.isInteger(n) || n < 0) throw new Error(`--${name} must be a whole number, not ${text}`);
  return n;
}

const row = (metric: string, value: number, unit: string, subject = 'fairway'): BenchRow => ({
  subject,
  metric,
  value: Math.round(value * 1e4) / 1e4,
  unit,
});

interface Planned {
  readonly plan: Plan;
  /** On the clock, and of processor time, ms: they differ when something else runs on the machine. */
  readonly ms: number;
  readonly cpuMs: number;
  readonly violations: number;
}

function planOne(instance: PlanningInstance, work: number | undefined): Planned {
  const begin = performance.now();
  const cpuBefore = process.cpuUsage();
  const plan = planMigrations(instance, work === undefined ? {} : { work });
  const cpu = process.cpuUsage(cpuBefore);
  const ms = performance.now() - begin;
  return { plan, ms, cpuMs: (cpu.user + cpu.system) / 1000, violations: checkPlan(instance, plan).length };
}

function summary(
  kind: string,
  list: readonly PlanningInstance[],
  work: number | undefined,
  progress: Progress,
): BenchRow[] {
  const done = list.map((instance, i) => {
    if (i % 20 === 0) progress(`${kind}: ${i} of ${list.length}`);
    return planOne(instance, work);
  });
  const planned = done.filter((d) => d.plan.refused === undefined);
  const lower = mean(planned.map((d) => d.plan.lower_bound_s));
  const makespan = mean(planned.map((d) => d.plan.makespan_s));
  const strict = mean(planned.map((d) => Math.max(d.plan.lower_bound_s, Number(d.plan.memory_bound_s))));
  const greedy = mean(list.map((p) => runBaseline(p, 'greedy, exclusive path').makespanS));
  return [
    row(`${kind}: instances`, list.length, 'instances'),
    row(`${kind}: feasible by the checker`, done.filter((d) => d.violations === 0).length, 'instances'),
    row(`${kind}: fully planned`, planned.length, 'instances'),
    row(`${kind}: mean link-load lower bound`, lower, 's'),
    row(`${kind}: mean lower bound with memory`, strict, 's'),
    row(`${kind}: mean makespan`, makespan, 's'),
    ...(Number.isFinite(greedy) ? [row(`${kind}: mean makespan`, greedy, 's', 'greedy, exclusive path')] : []),
    row(`${kind}: makespan / link-load lower bound`, makespan / lower, 'ratio'),
    row(`${kind}: makespan / lower bound with memory`, makespan / strict, 'ratio'),
    row(
      `${kind}: mean single duration`,
      mean(planned.flatMap((d) => d.plan.migrations.map((m) => m.end_s - m.start_s))),
      's',
    ),
    row(`${kind}: mean time to plan`, mean(done.map((d) => d.ms)), 'ms'),
    row(`${kind}: longest time to plan`, Math.max(...done.map((d) => d.ms)), 'ms'),
  ];
}

function stored(folder: string, work: number | undefined, progress: Progress, notes: string[]): BenchRow[] {
  const files = readdirSync(folder)
    .filter((f) => f.endsWith('.json'))
    .sort();
  if (files.length === 0) throw new Error(`no .json files in ${folder}`);
  const list = files.map((f) => {
    try {
      return parsePlanningInstance(JSON.parse(readFileSync(join(folder, f), 'utf8')));
    } catch (error) {
      throw new Error(`${join(folder, f)}: ${(error as Error).message}`);
    }
  });
  const rows = summary('stored', list, work, progress);
  const measured = list.flatMap((p) => runsOf(p.measured_runs).map(makespanOf));
  if (measured.length > 0) {
    rows.push(row('stored: mean makespan', mean(measured), 's', 'reference plan as carried out'));
    notes.push('stored: "reference plan as carried out" is the mean of measured_runs, on real machines');
  }
  return rows;
}

/** The lists of measured runs of an instance that has some. */
function runsOf(value: unknown): { end_s: number }[][] {
  return Array.isArray(value) ? (value as { end_s: number }[][]) : [];
}
const makespanOf = (run: readonly { end_s: number }[]) => Math.max(...run.map((m) => m.end_s));

function fatTrees(seed: number, work: number | undefined, progress: Progress): BenchRow[] {
  planOne(fatTree(4, 50, seed), work); // So that the first figure is not that of cold code.
  const rows: BenchRow[] = [];
  const points: { n: number; ms: number }[] = [];
  for (const n of [1000, 2000, 5000, 10_000]) {
    progress(`fat-tree: ${n} migrations`);
    const { plan, ms, cpuMs, violations } = planOne(fatTree(16, n, seed), work);
    const kind = `fat-tree, 1,024 hosts, ${n.toLocaleString('en')} migrations`;
    points.push({ n, ms: cpuMs });
    rows.push(
      row(`${kind}: time to plan`, ms, 'ms'),
      row(`${kind}: processor time to plan`, cpuMs, 'ms'),
      row(`${kind}: makespan`, plan.makespan_s, 's'),
      row(`${kind}: makespan / lower bound`, plan.makespan_s / plan.lower_bound_s, 'ratio'),
      row(`${kind}: violations`, violations, 'violations'),
      row(`${kind}: refused`, plan.refused?.length ?? 0, 'migrations'),
    );
  }
  const others: [string, PlanningInstance][] = [
    ['1,024 hosts, 10,000 migrations out of one rack', outOfOneRack(16, 10_000, seed)],
    ['128 hosts, 1,500 migrations, 8 spare memory units a host', withTightMemory(fatTree(8, 1500, seed), 8)],
  ];
  for (const [name, instance] of others) {
    progress(`fat-tree: ${name}`);
    const { plan, ms, violations } = planOne(instance, work);
    const kind = `fat-tree, ${name}`;
    rows.push(
      row(`${kind}: time to plan`, ms, 'ms'),
      row(`${kind}: makespan / lower bound`, plan.makespan_s / plan.lower_bound_s, 'ratio'),
      row(`${kind}: violations`, violations, 'violations'),
      row(`${kind}: refused`, plan.refused?.length ?? 0, 'migrations'),
    );
  }
  const [first, last] = [points[0], points[points.length - 1]];
  if (first !== undefined && last !== undefined) {
    const exponent = Math.log(last.ms / first.ms) / Math.log(last.n / first.n);
    rows.push(row('fat-tree: processor time grows as migrations to the power of', exponent, 'exponent'));
  }
  return rows;
}

async function besideOptimum(seed: number, work: number | undefined, progress: Progress): Promise<BenchRow[]> {
  const ratios: number[] = [];
  for (let i = 0; i < SMALL; i++) {
    if (i % 10 === 0) progress(`oracle: ${i} of ${SMALL}`);
    const instance = smallInstance(seed + i);
    const { plan } = planOne(instance, work);
    const best = await bestMakespanS(instance, plan.refused === undefined ? plan.makespan_s + 9 : 300);
    // Refused by both is right; refused by the planner alone counts as twice as long.
    if (best === undefined) ratios.push(plan.refused === undefined ? Number.POSITIVE_INFINITY : 1);
    else ratios.push(plan.refused === undefined ? plan.makespan_s / best : 2);
  }
  return [
    row('oracle: instances', SMALL, 'instances'),
    row('oracle: mean makespan / best in slots of 9 s', mean(ratios), 'ratio'),
    row('oracle: worst makespan / best in slots of 9 s', Math.max(...ratios), 'ratio'),
  ];
}

function mixedPriorities(seed: number, work: number | undefined, progress: Progress): BenchRow[] {
  const bySubject = new Map<string, Outcome[]>();
  const keep = (subject: string, outcome: Outcome) =>
    bySubject.set(subject, [...(bySubject.get(subject) ?? []), outcome]);
  let feasible = 0;
  let refused = 0;
  let deadlines = 0;
  const bounds: number[] = [];
  for (let i = 0; i < MIXED; i++) {
    if (i % 20 === 0) progress(`mixed: ${i} of ${MIXED}`);
    const instance = mixed(seed + i);
    deadlines += instance.migrations.filter((m) => m.deadline_s !== undefined).length;
    const { plan, violations } = planOne(instance, work);
    if (violations === 0) feasible++;
    refused += plan.refused?.length ?? 0;
    bounds.push(plan.lower_bound_s);
    keep('fairway', outcomeOf(instance, plan));
    for (const kind of BASELINES) keep(kind, runBaseline(instance, kind));
  }
  const rows = [
    row('mixed: feasible by the checker', feasible, 'instances'),
    row('mixed: refused', refused, 'migrations'),
    row('mixed: deadlines', deadlines, 'migrations'),
    row('mixed: mean lower bound that keeps the floors', mean(bounds), 's'),
  ];
  const metrics: [string, (o: Outcome) => number, string, 'mean' | 'sum'][] = [
    ['mean makespan', (o) => o.makespanS, 's', 'mean'],
    ['missed deadlines', (o) => o.missedDeadlines, 'migrations', 'sum'],
    ['mean completion of high priority', (o) => o.highEndS, 's', 'mean'],
    ['mean seconds below floor', (o) => o.belowFloorS, 's', 'mean'],
    ['mean single duration', (o) => o.meanDurationS, 's', 'mean'],
    ['pre-copies that would not converge', (o) => o.notConverging, 'migrations', 'sum'],
  ];
  for (const [name, of, unit, how] of metrics) {
    for (const [subject, outcomes] of bySubject) {
      const values = outcomes.map(of);
      rows.push(row(`mixed: ${name}`, how === 'sum' ? values.reduce((a, b) => a + b, 0) : mean(values), unit, subject));
    }
  }
  return rows;
}
