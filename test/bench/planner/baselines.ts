/**
 * What is usually done instead of planning, as a fluid simulation: migrations are started by a simple rule and then share
 * links with the workload and one another as TCP would (max-min fair), nobody reserving anything. Guests' volumes are those
 * of the transfer model. A copy whose rate is too low at its end is counted, but let end, which flatters the baselines.
 */
import type { Plan, PlanningInstance } from '../../../contracts/plan.ts';
import { Graph } from '../../../policies/planner/graph.ts';
import { leastFinalBps, mbPerS, type Transfer, volumeMb } from '../../../policies/planner/transfer.ts';

export interface Outcome {
  readonly makespanS: number;
  readonly meanDurationS: number;
  readonly missedDeadlines: number;
  /** When migrations of high priority had ended, on average, s. */
  readonly highEndS: number;
  /** Seconds that a workload was below its floor, summed over the workloads. */
  readonly belowFloorS: number;
  /** Pre-copies that were slower at their end than memory was dirtied. */
  readonly notConverging: number;
}

export type Baseline = 'first come, 2 per host' | 'all parallel' | 'earliest deadline first' | 'greedy, exclusive path';
export const BASELINES: readonly Baseline[] = ['first come, 2 per host', 'all parallel', 'earliest deadline first'];

interface Flow {
  readonly links: readonly number[];
  /** Mbit/s it wants at most. */
  readonly want: number;
  rate: number;
}

interface Copy extends Flow {
  readonly vm: string;
  readonly from: string;
  readonly to: string;
  readonly size: number;
  readonly transfer: Transfer;
  readonly deadlineS: number;
  readonly isHigh: boolean;
  startS: number;
  carriedMb: number;
}

const EPS = 1e-9;

export function runBaseline(p: PlanningInstance, kind: Baseline): Outcome {
  const graph = new Graph(p);
  const capacity = graph.links.map((l) => l.capacityBps / 1e6);
  const workloads = (p.workload ?? []).map((w) => ({
    links: graph.between(w.a, w.b),
    want: w.mbps,
    rate: 0,
    floor: w.floor_mbps ?? w.mbps,
  }));
  const vms = new Map(p.vms.map((v) => [v.id, v]));
  const waiting: Copy[] = p.migrations.map((m, i) => {
    const v = vms.get(m.vm);
    if (v === undefined) throw new Error(`no guest ${m.vm}`);
    const routes = graph.routes(m.from, m.to, 8);
    return {
      // As equal-cost routing does: one of the paths, whatever runs on it.
      links: routes[i % routes.length]?.links ?? [],
      want: Number.POSITIVE_INFINITY,
      rate: 0,
      vm: m.vm,
      from: m.from,
      to: m.to,
      size: v.size_units ?? 0,
      transfer: {
        memoryMb: v.memory_mb,
        hotMb: v.hot_dirty_mb ?? 0,
        hotS: v.hot_dirty_s ?? 0,
        coldMbPerS: v.cold_dirty_mb_per_s ?? 0,
      },
      deadlineS: m.deadline_s ?? Number.POSITIVE_INFINITY,
      isHigh: v.priority === 'high',
      startS: 0,
      carriedMb: 0,
    };
  });
  if (kind === 'earliest deadline first') {
    waiting.sort((a, b) => (a.deadlineS === b.deadlineS ? 0 : a.deadlineS - b.deadlineS));
  }
  const free = new Map(p.hosts.map((h) => [h.id, h.memory_units ?? Number.POSITIVE_INFINITY]));
  for (const v of p.vms) free.set(v.host, (free.get(v.host) as number) - (v.size_units ?? 0));

  const running = new Set<Copy>();
  const mayStart = (c: Copy) => {
    if ((free.get(c.to) as number) < c.size) return false;
    if (kind === 'all parallel') return true;
    const others = [...running];
    if (kind === 'first come, 2 per host') {
      const at = (host: string) => others.filter((o) => o.from === host || o.to === host).length;
      return at(c.from) < 2 && at(c.to) < 2;
    }
    return others.every((o) => o.links.every((l) => !c.links.includes(l)));
  };

  let now = 0;
  let belowFloorS = 0;
  let notConverging = 0;
  const ended: { copy: Copy; endS: number }[] = [];
  for (;;) {
    for (const c of [...waiting]) {
      if (!mayStart(c)) continue;
      waiting.splice(waiting.indexOf(c), 1);
      free.set(c.to, (free.get(c.to) as number) - c.size);
      c.startS = now;
      running.add(c);
    }
    if (running.size === 0) break;
    shareFairly([...workloads, ...running], capacity);
    const ends = [...running].map((c) => ({ c, s: timeLeft(c, now) }));
    const step = Math.min(...ends.map((e) => e.s));
    if (!Number.isFinite(step)) break;
    for (const w of workloads) if (w.rate < w.floor - 1e-6) belowFloorS += step;
    now += step;
    for (const { c, s } of ends) {
      c.carriedMb += mbPerS(c.rate * 1e6) * step;
      if (s > step + EPS) continue;
      running.delete(c);
      free.set(c.from, (free.get(c.from) as number) + c.size);
      if (c.rate * 1e6 < leastFinalBps(c.transfer)) notConverging++;
      ended.push({ copy: c, endS: now });
    }
  }
  // What never started, or never ends, is late and has not ended when all else has.
  const never = [...waiting, ...running].map((copy) => ({ copy, endS: Number.POSITIVE_INFINITY }));
  const all = [...ended, ...never];
  const high = all.filter((e) => e.copy.isHigh);
  return {
    makespanS: Math.max(0, ...all.map((e) => e.endS)),
    meanDurationS: mean(all.map((e) => e.endS - e.copy.startS)),
    missedDeadlines: all.filter((e) => e.endS > e.copy.deadlineS).length,
    highEndS: mean(high.map((e) => e.endS)),
    belowFloorS,
    notConverging,
  };
}

/** The same figures of a plan. */
export function outcomeOf(p: PlanningInstance, plan: Plan): Outcome {
  const graph = new Graph(p);
  const used = new Map<number, { at: number; mbps: number }[]>();
  for (const m of plan.migrations) {
    for (let i = 0; i + 1 < m.path.length; i++) {
      for (const l of new Set(graph.between(m.path[i] as string, m.path[i + 1] as string))) {
        const events = used.get(l) ?? [];
        for (const s of m.segments) events.push({ at: s.from_s, mbps: s.mbps }, { at: s.to_s, mbps: -s.mbps });
        used.set(l, events);
      }
    }
  }
  let belowFloorS = 0;
  for (const w of p.workload ?? []) {
    // A workload is below its floor while any of its links is left less.
    const [link] = graph.between(w.a, w.b);
    const events = [...(used.get(link as number) ?? [])].sort((a, b) => a.at - b.at || a.mbps - b.mbps);
    const room = (graph.links[link as number]?.capacityBps ?? 0) / 1e6 - (w.floor_mbps ?? w.mbps);
    let sum = 0;
    for (const [i, e] of events.entries()) {
      sum += e.mbps;
      if (sum > room + 1e-6) belowFloorS += (events[i + 1]?.at ?? e.at) - e.at;
    }
  }
  const high = new Set(p.vms.filter((v) => v.priority === 'high').map((v) => v.id));
  return {
    makespanS: plan.makespan_s,
    meanDurationS: mean(plan.migrations.map((m) => m.end_s - m.start_s)),
    missedDeadlines: plan.migrations.filter((m) => m.late_s !== undefined).length,
    highEndS: mean(plan.migrations.filter((m) => high.has(m.vm)).map((m) => m.end_s)),
    belowFloorS,
    notConverging: 0,
  };
}

export const mean = (list: readonly number[]): number =>
  list.length === 0 ? 0 : list.reduce((a, b) => a + b, 0) / list.length;

/** Seconds until it has carried all, at its present rate. */
function timeLeft(c: Copy, now: number): number {
  const rate = mbPerS(c.rate * 1e6);
  if (rate <= EPS) return Number.POSITIVE_INFINITY;
  let s = 0;
  for (let i = 0; i < 200; i++) {
    const missing = volumeMb(c.transfer, now - c.startS + s) - c.carriedMb - rate * s;
    if (missing <= 1e-6) return s;
    s += missing / rate;
  }
  return s;
}

/** Max-min fair rates: all grow alike until a link is full or a flow has what it wants. */
function shareFairly(flows: readonly Flow[], capacity: readonly number[]): void {
  const left = [...capacity];
  const count = new Map<number, number>();
  const open = new Set(flows.filter((f) => f.links.length > 0 && f.want > 0));
  for (const f of flows) f.rate = 0;
  for (const f of open) for (const l of f.links) count.set(l, (count.get(l) ?? 0) + 1);
  while (open.size > 0) {
    let step = Number.POSITIVE_INFINITY;
    for (const [l, n] of count) if (n > 0) step = Math.min(step, (left[l] as number) / n);
    for (const f of open) step = Math.min(step, f.want - f.rate);
    for (const f of open) f.rate += step;
    for (const [l, n] of count) left[l] = (left[l] as number) - n * step;
    for (const f of [...open]) {
      if (f.rate < f.want - EPS && f.links.every((l) => (left[l] as number) > EPS)) continue;
      open.delete(f);
      for (const l of f.links) count.set(l, (count.get(l) as number) - 1);
    }
  }
}
