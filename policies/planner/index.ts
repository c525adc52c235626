/**
 * The planner: when each of many migrations runs, over which path and at what rate. Pure: the same instance and options
 * give the same plan. `model.ts` reads the instance, `search.ts` decides, `board.ts` places, `bound.ts` says what no plan
 * can beat, `explain.ts` gives the reasons. docs/planner.md describes model and method.
 */
import type { Plan, PlannedMigration, PlanningInstance } from '../../contracts/plan.ts';
import type { Placement } from './board.ts';
import { lowerBound, memoryBound } from './bound.ts';
import { Explainer, noRoom, noWay, sentence } from './explain.ts';
import { buildModel } from './model.ts';
import { search } from './search.ts';

export { chooseDestinations, type Evacuation, type EvacuationQuestion, type PlacementRule } from './evacuate.ts';
export { defaultWork } from './search.ts';

export interface PlanOptions {
  /** Migrations at a time out of, and into, one host; not limited when left out. */
  limitPerHost?: number;
  /** How much the search may do for each priority, in look-ups of a link's or host's timeline; else `defaultWork`. */
  work?: number;
  /** Told again and again how much of that has been done, of how much in all; it may end long before all. */
  onProgress?: (done: number, total: number) => void;
  /** Seed of the search's random choices; 1 when left out. */
  seed?: number;
}

/** A `plan/1` document: each migration of the instance is planned or refused with a reason. */
export function planMigrations(instance: PlanningInstance, options: PlanOptions = {}): Plan {
  const model = buildModel(instance, options.limitPerHost ?? Number.POSITIVE_INFINITY);
  const able = model.jobs.filter((j) => j.options.length > 0);
  const { placements, stuck } = search(model, able, {
    work: options.work,
    seed: options.seed ?? 1,
    onProgress: options.onProgress,
  });

  const explainer = new Explainer(model, placements);
  const migrations = placements.map((p, i) => planned(p, explainer.whyOf(i)));
  migrations.sort((a, b) => a.start_s - b.start_s || (a.vm < b.vm ? -1 : 1));
  const refused = model.jobs
    .filter((j) => j.options.length === 0 || stuck.includes(j))
    .map((j) => ({ vm: j.vm, reason: j.options.length === 0 ? noWay(model, j) : noRoom(model, j, placements, stuck) }));
  const moved = placements.map((p) => p.job);
  const bound = lowerBound(model, moved);
  const totalMs = placements.reduce((sum, p) => sum + p.endMs - p.startMs, 0);
  const plan: Plan = {
    format: 'plan/1',
    instance: instance.name ?? '',
    makespan_s: placements.reduce((most, p) => Math.max(most, p.endMs), 0) / 1000,
    lower_bound_s: Math.round(bound.seconds * 1e6) / 1e6,
    lower_bound_by: bound.by,
    memory_bound_s: Math.round(memoryBound(model, moved).seconds * 1e6) / 1e6,
    mean_duration_s: placements.length === 0 ? 0 : Math.round(totalMs / placements.length) / 1000,
    missed_deadlines: placements.filter((p) => p.endMs > p.job.deadlineMs).length,
    migrations,
  };
  if (refused.length > 0) plan.refused = refused;
  return plan;
}

function planned(p: Placement, why: NonNullable<PlannedMigration['why']>): PlannedMigration {
  const { job } = p;
  // One that runs is not asked whether it gets on fast enough to end: it goes on as post-copy where it does not.
  const isTooSlow = job.runningBps > 0 && p.segments.some((s) => s.bps < job.leastFinalBps);
  const m: PlannedMigration = {
    vm: job.vm,
    start_s: p.startMs / 1000,
    end_s: p.endMs / 1000,
    technique: isTooSlow ? 'hybrid' : job.technique,
    segments: p.segments.map((s) => ({ from_s: s.fromMs / 1000, to_s: s.toMs / 1000, mbps: s.bps / 1e6 })),
    path: [...p.option.route.nodes],
    reason: sentence(p, why),
    priority: job.priority,
    why,
  };
  if (job.deadlineMs < Number.POSITIVE_INFINITY) {
    m.deadline_s = job.deadlineMs / 1000;
    if (p.endMs > job.deadlineMs) m.late_s = (p.endMs - job.deadlineMs) / 1000;
  }
  return m;
}
