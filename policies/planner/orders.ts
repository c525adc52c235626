/**
 * Orders of migrations for the search to begin with, or to go on from. Neighbours: `layOut.ts` makes plans of them, `search.ts` changes
 * them and keeps what is better, `backwards.ts` finds one from the end of a plan.
 */
import type { Board, Placement } from './board.ts';
import type { LaidOut } from './layOut.ts';
import type { Job, Model } from './model.ts';

/** How many hosts far a chain of guests that wait for memory is followed. */
const CHAIN = 4;

/** Greedy orders of `all`, the more urgent of which come first: the most loaded link first, deadlines first, those for whose memory others wait, … */
export function greedyOrders(model: Model, all: readonly Job[]): Job[][] {
  const load = new Map<number, number>();
  for (const j of all) {
    for (const l of j.options[0]?.route.links ?? []) {
      const capacity = (model.usableBps[j.rank] as readonly number[])[l] as number;
      load.set(l, (load.get(l) ?? 0) + j.leastMb / capacity);
    }
  }
  const loads = new Map<Job, number>();
  const sums = new Map<Job, number>();
  for (const j of all) {
    const own = (j.options[0]?.route.links ?? []).map((l) => load.get(l) ?? 0);
    loads.set(j, Math.max(0, ...own));
    sums.set(
      j,
      own.reduce((a, b) => a + b, 0),
    );
  }
  const of = (m: Map<Job, number>, j: Job) => m.get(j) as number;
  const byLoad = (a: Job, b: Job) => of(loads, b) - of(loads, a) || of(sums, b) - of(sums, a) || b.leastMs - a.leastMs;
  const byLength = (a: Job, b: Job) => b.leastMs - a.leastMs || byLoad(a, b);
  const bySum = (a: Job, b: Job) => of(sums, b) - of(sums, a) || b.leastMs - a.leastMs;
  // Deadlines of less urgent ones, which only make room, are no concern here.
  const deadlineMs = (j: Job) => (j.rank === all[0]?.rank ? j.deadlineMs : Number.POSITIVE_INFINITY);
  const byDeadline = (a: Job, b: Job) => {
    const [x, y] = [deadlineMs(a), deadlineMs(b)];
    return x < y ? -1 : x > y ? 1 : byLoad(a, b);
  };
  const bySlack = (a: Job, b: Job) => {
    const [x, y] = [deadlineMs(a) - a.leastMs, deadlineMs(b) - b.leastMs];
    return x < y ? -1 : x > y ? 1 : byLoad(a, b);
  };
  const hasDeadline = all.some((j) => deadlineMs(j) < Number.POSITIVE_INFINITY);
  const compare = hasDeadline ? [byDeadline, bySlack, byLoad, bySum] : [byLoad, bySum, byLength];
  const releases = releasesOf(model, all, loads);
  if (releases !== undefined) {
    const byRelease = (a: Job, b: Job) => of(releases, b) - of(releases, a) || byLoad(a, b);
    compare.splice(hasDeadline ? 2 : 0, 0, byRelease);
  }
  return compare.map((c) => [...all].sort(c));
}

/**
 * How urgent each migration is where memory makes others wait for it: its own busiest link, or, if more, itself and after it
 * the most urgent of those that wait for its host's memory. Undefined where no host is short of memory.
 */
function releasesOf(model: Model, all: readonly Job[], loads: ReadonlyMap<Job, number>): Map<Job, number> | undefined {
  const free = freeIfAllArrived(model, all);
  if (free === undefined) return undefined;
  const arriving = new Map<number, Job[]>();
  for (const j of all) {
    const list = arriving.get(j.toHost);
    if (list === undefined) arriving.set(j.toHost, [j]);
    else list.push(j);
  }
  const urgency = new Map(loads);
  // Chains of waiting are followed a few hosts far: circles have no end.
  for (let step = 0; step < CHAIN; step++) {
    const before = new Map(urgency);
    for (const j of all) {
      const waiting = (free[j.fromHost] as number) < 0 ? (arriving.get(j.fromHost) ?? []) : [];
      let most = 0;
      for (const w of waiting) most = Math.max(most, before.get(w) as number);
      // In the unit of loads: MB per bit/s.
      const own = waiting.length === 0 ? 0 : j.leastMb / (j.options[0]?.rateBps ?? 1);
      urgency.set(j, Math.max(loads.get(j) as number, waiting.length === 0 ? 0 : own + most));
    }
  }
  return urgency;
}

/** By host, what would be free if all arrived before any left; undefined where nobody has to wait for memory. */
function freeIfAllArrived(model: Model, all: readonly Job[]): number[] | undefined {
  const free = model.memoryUnits.map((units, h) => units - (model.occupiedUnits[h] as number));
  for (const j of all) free[j.toHost] = (free[j.toHost] as number) - j.sizeUnits;
  return free.every((units) => units >= 0) ? undefined : free;
}

/** Whether a host has not room for all that arrive before any have left. */
export const isShortOfMemory = (model: Model, all: readonly Job[]): boolean =>
  freeIfAllArrived(model, all) !== undefined;

/**
 * Always the one that can start first, and of several the first of `order`: time goes on as it would if somebody started
 * what can be started. Those that cannot start at all come last. Looks at all that are left for each.
 */
export function earliestFirst(board: Board, order: readonly Job[]): Job[] {
  board.reset();
  const left = new Set(order);
  const told: Job[] = [];
  while (left.size > 0) {
    let next: Placement | undefined;
    for (const job of left) {
      const ready = board.memoryReadyMs(job);
      if (ready < 0 || (next !== undefined && ready >= next.startMs)) continue;
      const p = board.place(job, 'steady', ready);
      if (p !== undefined && (next === undefined || p.startMs < next.startMs)) next = p;
      if (next?.startMs === 0) break;
    }
    if (next === undefined) break;
    board.put(next);
    told.push(next.job);
    left.delete(next.job);
  }
  return [...told, ...left];
}

/** The order in which the migrations of a plan start. */
export const inOrderOfStart = (plan: LaidOut): Job[] => [
  ...[...plan.placements].sort((a, b) => a.startMs - b.startMs || a.endMs - b.endMs).map((p) => p.job),
  ...plan.stuck,
];
