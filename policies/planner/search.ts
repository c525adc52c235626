/**
 * In which order, and in which way, migrations are put on the board. A plan is decoded from an order: one after the other,
 * each where it ends first beside those before it. The search changes the order, and who fills what others leave, and
 * keeps what is better: simulated annealing with moves aimed at what ends last, from several greedy orders, within a
 * budget of work units (look-ups in the board), so that the same instance gives the same plan on every machine.
 *
 * Priorities are strict by construction: all of high are planned as if nothing else existed, and stay; then medium in
 * what is left; then low; each within a budget of its own, so that the plan of the more urgent does not depend on whether
 * there are others. The one exception is memory: a guest that must leave to make room for a more urgent one is
 * planned with it, after all of that priority that need not wait for it.
 */
import { randomFrom } from '../../contracts/random.ts';
import { Board, type Placement, type Way } from './board.ts';
import { remainingBoundMs } from './bound.ts';
import type { Job, Model } from './model.ts';

export interface SearchResult {
  readonly placements: readonly Placement[];
  /** Those whose destination never has room for them. */
  readonly stuck: readonly Job[];
  readonly board: Board;
}

/** What makes one plan better than another, the first difference decides. */
interface Score {
  readonly stuck: number;
  readonly missed: number;
  readonly lateMs: number;
  /** Makespan in steps of a thousandth of the lower bound: smaller differences are none. */
  readonly steps: number;
  readonly durationMs: number;
  readonly makespanMs: number;
}

interface Candidate {
  readonly order: readonly Job[];
  /** By job index: whether it fills what others leave. */
  readonly fills: ReadonlySet<number>;
  readonly placements: readonly Placement[];
  readonly stuck: readonly Job[];
  readonly score: Score;
}

/**
 * Work units for so many migrations of one priority, where the caller does not say: half a second on a processor of 2023, a
 * few seconds for ten thousand. A plan is always completed, however little is given, and the search stops at its bounds.
 */
export const defaultWork = (migrations: number): number => 1_000_000 + 5000 * Math.max(0, migrations - 200);

export function search(
  model: Model,
  jobs: readonly Job[],
  options: { work: number | undefined; seed: number },
): SearchResult {
  const board = new Board(model);
  const random = randomFrom(options.seed);
  const placements: Placement[] = [];
  const stuck: Job[] = [];
  // By name, so that the order in which migrations are listed makes no difference.
  const waiting = new Set([...jobs].sort((a, b) => (a.vm < b.vm ? -1 : 1)));
  // What runs already has its place before anything else, whatever its priority.
  for (const j of waiting) {
    const p = board.placeRunning(j);
    if (p === undefined) continue;
    waiting.delete(j);
    board.put(p);
    placements.push(p);
  }
  for (let rank = 0; rank < 3; rank++) {
    const own = [...waiting].filter((j) => j.rank === rank);
    if (own.length === 0) continue;
    for (const j of own) waiting.delete(j);
    board.keep();
    const work = options.work ?? defaultWork(own.length);
    let best = new Phase(model, board, own, [], random).run(work);
    for (const promoted: Job[] = []; best.stuck.length > 0; ) {
      const more = makesRoom(model, best.stuck, waiting);
      if (more.length === 0) break;
      for (const j of more) waiting.delete(j);
      promoted.push(...more);
      best = new Phase(model, board, own, promoted, random).run(work);
    }
    board.reset();
    for (const p of best.placements) board.put(p);
    placements.push(...best.placements);
    // Who was to make room and cannot, is planned with its own priority after all.
    for (const j of best.stuck) {
      if (j.rank === rank) stuck.push(j);
      else waiting.add(j);
    }
  }
  return { placements, stuck, board };
}

/** Less urgent migrations that leave the hosts for whose memory the stuck ones wait, largest first, as many as it takes. */
function makesRoom(model: Model, stuck: readonly Job[], waiting: ReadonlySet<Job>): Job[] {
  const missing = new Map<number, number>();
  for (const j of stuck) missing.set(j.toHost, (missing.get(j.toHost) ?? 0) + j.sizeUnits);
  const leaving = [...waiting].filter((j) => missing.has(j.fromHost) && j.options.length > 0);
  leaving.sort(
    (a, b) => a.rank - b.rank || b.sizeUnits - a.sizeUnits || a.leastMs - b.leastMs || (a.vm < b.vm ? -1 : 1),
  );
  return leaving.filter((j) => {
    const need = missing.get(j.fromHost) as number;
    if (need <= 0 || j.sizeUnits > (model.memoryUnits[j.fromHost] as number)) return false;
    missing.set(j.fromHost, need - j.sizeUnits);
    return true;
  });
}

/** How many hosts far a chain of guests that wait for memory is followed. */
const CHAIN = 4;

/** The search over one priority's migrations, beside what is on the board already. */
class Phase {
  private readonly model: Model;
  private readonly board: Board;
  private readonly own: readonly Job[];
  /** Less urgent ones that make room; always after `own`. */
  private readonly promoted: readonly Job[];
  private readonly all: readonly Job[];
  private readonly random: () => number;
  private readonly boundMs: number;
  private readonly stepMs: number;
  private readonly leastDurationMs: number;

  constructor(model: Model, board: Board, own: readonly Job[], promoted: readonly Job[], random: () => number) {
    this.model = model;
    this.board = board;
    this.own = own;
    this.promoted = promoted;
    this.all = [...own, ...promoted];
    this.random = random;
    this.boundMs = remainingBoundMs(model, this.all, board.resources);
    this.stepMs = Math.max(1, this.boundMs / 1000);
    this.leastDurationMs = this.all.reduce((sum, j) => sum + j.leastMs, 0);
  }

  run(work: number): Candidate {
    const until = this.board.work + work;
    const isOver = () => this.board.work >= until;
    const starts = this.greedyOrders();
    let best = this.decode(starts[0] as Job[], new Set());
    const keepBetter = (c: Candidate) => {
      if (isBetter(c.score, best.score)) best = c;
      return c;
    };
    const everyone = new Set(this.all.map((j) => j.index));
    for (const [i, order] of starts.entries()) {
      if (isOver() || this.isPerfect(best.score)) return best;
      if (i > 0) keepBetter(this.decode(order, new Set()));
      if (!isOver()) keepBetter(this.decode(order, everyone));
    }
    const begin = this.board.work;
    let current = best;
    while (!isOver() && !this.isPerfect(best.score)) {
      const progress = (this.board.work - begin) / Math.max(1, until - begin);
      // Two coolings: the second starts from the best of the first.
      const cooling = (progress * 2) % 1;
      const temperature = this.boundMs * 0.02 * 0.005 ** cooling;
      if (progress >= 0.5 && cooling < 0.01) current = best;
      const next = keepBetter(this.neighbour(current));
      const worse = this.energy(next.score) - this.energy(current.score);
      if (worse <= 0 || this.random() < Math.exp(-worse / temperature)) current = next;
    }
    return best;
  }

  /** Orders to begin with. Promoted ones stay behind in all of them. */
  private greedyOrders(): Job[][] {
    const load = new Map<number, number>();
    for (const j of this.all) {
      for (const l of j.options[0]?.route.links ?? []) {
        const capacity = (this.model.usableBps[j.rank] as readonly number[])[l] as number;
        load.set(l, (load.get(l) ?? 0) + j.leastMb / capacity);
      }
    }
    const loads = new Map<Job, number>();
    const sums = new Map<Job, number>();
    for (const j of this.all) {
      const own = (j.options[0]?.route.links ?? []).map((l) => load.get(l) ?? 0);
      loads.set(j, Math.max(0, ...own));
      sums.set(
        j,
        own.reduce((a, b) => a + b, 0),
      );
    }
    const of = (m: Map<Job, number>, j: Job) => m.get(j) as number;
    const byLoad = (a: Job, b: Job) =>
      of(loads, b) - of(loads, a) || of(sums, b) - of(sums, a) || b.leastMs - a.leastMs;
    const byLength = (a: Job, b: Job) => b.leastMs - a.leastMs || byLoad(a, b);
    const bySum = (a: Job, b: Job) => of(sums, b) - of(sums, a) || b.leastMs - a.leastMs;
    const byDeadline = (a: Job, b: Job) =>
      a.deadlineMs < b.deadlineMs ? -1 : a.deadlineMs > b.deadlineMs ? 1 : byLoad(a, b);
    const bySlack = (a: Job, b: Job) => {
      const [x, y] = [a.deadlineMs - a.leastMs, b.deadlineMs - b.leastMs];
      return x < y ? -1 : x > y ? 1 : byLoad(a, b);
    };
    const hasDeadline = this.all.some((j) => j.deadlineMs < Number.POSITIVE_INFINITY);
    const compare = hasDeadline ? [byDeadline, bySlack, byLoad, bySum] : [byLoad, bySum, byLength];
    const releases = this.releases(loads);
    if (releases !== undefined) {
      const byRelease = (a: Job, b: Job) => of(releases, b) - of(releases, a) || byLoad(a, b);
      compare.splice(hasDeadline ? 2 : 0, 0, byRelease);
    }
    return compare.map((c) => [...[...this.own].sort(c), ...[...this.promoted].sort(c)]);
  }

  /**
   * How urgent each migration is where memory makes others wait for it: its own busiest link, or, if more, itself and after it
   * the most urgent of those that wait for its host's memory. Undefined where no host is short of memory.
   */
  private releases(loads: ReadonlyMap<Job, number>): Map<Job, number> | undefined {
    const arriving = new Map<number, Job[]>();
    const free = this.model.memoryUnits.map((units, h) => units - (this.model.occupiedUnits[h] as number));
    for (const j of this.all) {
      const list = arriving.get(j.toHost);
      if (list === undefined) arriving.set(j.toHost, [j]);
      else list.push(j);
      free[j.toHost] = (free[j.toHost] as number) - j.sizeUnits;
    }
    if (free.every((units) => units >= 0)) return undefined;
    const urgency = new Map(loads);
    // Chains of waiting are followed a few hosts far: circles have no end.
    for (let step = 0; step < CHAIN; step++) {
      const before = new Map(urgency);
      for (const j of this.all) {
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

  /** Puts the jobs on the board in this order. One whose destination has no room waits until somebody has left there. */
  private decode(order: readonly Job[], fills: ReadonlySet<number>): Candidate {
    const { board } = this;
    board.reset();
    const placements: Placement[] = [];
    const waiting = new Map<number, Job[]>();
    const turn: Job[] = [];
    for (const first of order) {
      turn.push(first);
      for (let job = turn.pop(); job !== undefined; job = turn.pop()) {
        const ready = board.memoryReadyMs(job);
        const way: Way = fills.has(job.index) ? 'filling' : 'steady';
        const p = ready < 0 ? undefined : board.place(job, way, ready);
        if (p === undefined) {
          const list = waiting.get(job.toHost);
          if (list === undefined) waiting.set(job.toHost, [job]);
          else list.push(job);
          continue;
        }
        board.put(p);
        placements.push(p);
        const woken = waiting.get(job.fromHost);
        if (woken !== undefined) {
          waiting.delete(job.fromHost);
          turn.push(...woken.reverse());
        }
      }
    }
    const stuck = [...waiting.values()].flat();
    return { order, fills, placements, stuck, score: this.scoreOf(placements, stuck) };
  }

  private scoreOf(placements: readonly Placement[], stuck: readonly Job[]): Score {
    let missed = 0;
    let lateMs = 0;
    let durationMs = 0;
    let makespanMs = 0;
    for (const p of placements) {
      durationMs += p.endMs - p.startMs;
      makespanMs = Math.max(makespanMs, p.endMs);
      if (p.endMs > p.job.deadlineMs) {
        missed++;
        lateMs += p.endMs - p.job.deadlineMs;
      }
    }
    const steps = Math.max(0, Math.ceil((makespanMs - this.boundMs) / this.stepMs));
    return { stuck: stuck.length, missed, lateMs, steps, durationMs, makespanMs };
  }

  private isPerfect(s: Score): boolean {
    return s.stuck === 0 && s.missed === 0 && s.steps <= 1 && s.durationMs <= this.leastDurationMs;
  }

  /** One figure for annealing, ms: the score's order as weights. */
  private energy(s: Score): number {
    const n = Math.max(1, this.all.length);
    const { boundMs } = this;
    return s.stuck * 100 * boundMs + s.missed * boundMs + s.lateMs / n + s.makespanMs + (0.1 * s.durationMs) / n;
  }

  /** A slightly different order, or another that fills. */
  private neighbour(c: Candidate): Candidate {
    const { random } = this;
    const order = [...c.order];
    const fills = new Set(c.fills);
    const n = order.length;
    const pick = (upTo: number) => Math.floor(random() * upTo);
    const move = (from: number, to: number) => {
      const [job] = order.splice(from, 1);
      order.splice(to, 0, job as Job);
    };
    const toggle = (job: Job) => {
      if (!fills.delete(job.index)) fills.add(job.index);
    };
    const kind = random();
    if (kind < 0.35) {
      const trouble = this.trouble(c);
      // Of very many at once as many as may matter, so that few steps are enough.
      const count = Math.min(trouble.length, 1 + pick(Math.max(1, n / 200)));
      for (let i = 0; i < count; i++) {
        const job = trouble[pick(trouble.length)] as Job;
        const at = order.indexOf(job);
        if (random() < 0.25) toggle(job);
        else move(at, pick(at + 1));
      }
    } else if (kind < 0.6) {
      const [a, b] = [pick(n), pick(n)];
      const job = order[a] as Job;
      order[a] = order[b] as Job;
      order[b] = job;
    } else if (kind < 0.8) move(pick(n), pick(n));
    else toggle(order[pick(n)] as Job);
    // Whoever only makes room stays behind.
    const isPromoted = (j: Job) => this.promoted.includes(j);
    const sorted =
      this.promoted.length === 0 ? order : [...order.filter((j) => !isPromoted(j)), ...order.filter(isPromoted)];
    return this.decode(sorted, fills);
  }

  /** The migrations that make the score what it is: stuck or late ones, or those that end last. */
  private trouble(c: Candidate): Job[] {
    if (c.stuck.length > 0) return [...c.stuck];
    if (c.score.missed > 0) return c.placements.filter((p) => p.endMs > p.job.deadlineMs).map((p) => p.job);
    const late = c.score.makespanMs - this.boundMs * 0.01;
    return this.withThoseBefore(
      c,
      c.placements.filter((p) => p.endMs >= late),
    );
  }

  /** These and what they waited for, back to the beginning: who ended at one of their hosts when they began. */
  private withThoseBefore(c: Candidate, last: readonly Placement[]): Job[] {
    const endingAt = new Map<number, Placement[]>();
    for (const p of c.placements) {
      const list = endingAt.get(p.endMs);
      if (list === undefined) endingAt.set(p.endMs, [p]);
      else list.push(p);
    }
    const chain = new Set(last);
    for (const p of chain) {
      for (const before of endingAt.get(p.startMs) ?? []) {
        const { fromHost, toHost } = before.job;
        const isNear = fromHost === p.job.fromHost || toHost === p.job.toHost || fromHost === p.job.toHost;
        if (isNear) chain.add(before);
      }
    }
    return [...chain].map((p) => p.job);
  }
}

function isBetter(a: Score, b: Score): boolean {
  const order = [
    a.stuck - b.stuck,
    a.missed - b.missed,
    a.lateMs - b.lateMs,
    a.steps - b.steps,
    a.durationMs - b.durationMs,
    a.makespanMs - b.makespanMs,
  ];
  return (order.find((d) => d !== 0) ?? 0) < 0;
}
