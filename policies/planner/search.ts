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
import { Backwards } from './backwards.ts';
import { Board, type Placement } from './board.ts';
import { remainingBoundMs } from './bound.ts';
import { layOut } from './layOut.ts';
import type { Job, Model } from './model.ts';
import { earliestFirst, greedyOrders, inOrderOfStart, isShortOfMemory } from './orders.ts';
import { orderWithRoom } from './room.ts';

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

type Writable<T> = { -readonly [K in keyof T]: T[K] };

interface Candidate {
  readonly order: readonly Job[];
  /** By job index: whether it fills what others leave. */
  readonly fills: ReadonlySet<number>;
  readonly placements: readonly Placement[];
  readonly stuck: readonly Job[];
  readonly score: Score;
}

/**
 * Work units for so many migrations of one priority, where the caller does not say: less than a second on a processor of 2023, a
 * few seconds for ten thousand. A plan is always completed, however little is given, and the search stops at its bounds.
 */
export const defaultWork = (migrations: number): number => Math.max(2_000_000, 5000 * migrations);

export function search(
  model: Model,
  jobs: readonly Job[],
  options: { work: number | undefined; seed: number; onProgress?: ((done: number, total: number) => void) | undefined },
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
  const workFor = (count: number) => (count === 0 ? 0 : (options.work ?? defaultWork(count)));
  const total = [0, 1, 2].reduce((sum, rank) => sum + workFor([...waiting].filter((j) => j.rank === rank).length), 0);
  let before = 0;
  for (let rank = 0; rank < 3; rank++) {
    const own = [...waiting].filter((j) => j.rank === rank);
    if (own.length === 0) continue;
    for (const j of own) waiting.delete(j);
    board.keep();
    const work = workFor(own.length);
    const begin = board.work;
    // Where somebody is stuck it may take several attempts: the first is what is known before.
    const report = () => options.onProgress?.(before + Math.min(work, board.work - begin), total);
    const attempt = (spent: number): { best: Candidate; promoted: Job[] } => {
      const left = new Set(waiting);
      const promoted: Job[] = [];
      let best = new Phase(model, board, own, promoted, random).run(spent, report);
      while (best.stuck.length > 0) {
        const more = makesRoom(model, best.stuck, left);
        if (more.length === 0) break;
        for (const j of more) left.delete(j);
        promoted.push(...more);
        best = new Phase(model, board, own, promoted, random).run(spent, report);
      }
      return { best, promoted };
    };
    let { best, promoted } = attempt(work);
    if (best.stuck.length > 0 || best.score.missed > 0) {
      // Who is asked to make room depends on who was stuck before: the first plan that comes to mind may have been luckier.
      const first = attempt(0);
      if (isLessTrouble(first.best, best, rank)) ({ best, promoted } = first);
    }
    if (best.stuck.some((j) => j.rank === rank)) {
      // Orders by load or deadline may spend the room too early, and who is asked to leave may not be who should.
      board.reset();
      const order = orderWithRoom(model, board.unitsInTheEnd(), own, [...waiting], work);
      const helpers = order.filter((j) => j.rank !== rank);
      const phase = new Phase(model, board, own, helpers, random, order);
      const told = phase.run(0, report);
      if (isLessTrouble(told, best, rank)) {
        best = phase.run(work, report);
        promoted = helpers;
      }
    }
    for (const j of promoted) waiting.delete(j);
    board.reset();
    for (const p of best.placements) board.put(p);
    placements.push(...best.placements);
    // Who was to make room and cannot, is planned with its own priority after all.
    for (const j of best.stuck) {
      if (j.rank === rank) stuck.push(j);
      else waiting.add(j);
    }
    before = Math.min(total, before + work);
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

/** Look-ups for one migration, roughly. */
const LOOKS = 4;
/**
 * Where migrations wait for memory, the order in which they are told and that in which they come to start drift apart, and a
 * small change of the former is no small change any more; so in this share of the tries the order is told anew.
 */
const RETOLD = 0.3;

/** The search over one priority's migrations, beside what is on the board already. */
class Phase {
  private readonly model: Model;
  private readonly board: Board;
  /** Less urgent ones that make room; always after `own`. */
  private readonly promoted: ReadonlySet<Job>;
  private readonly all: readonly Job[];
  private readonly random: () => number;
  private readonly boundMs: number;
  private readonly stepMs: number;
  private readonly leastDurationMs: number;
  /** Only where a host is short of memory. */
  private readonly backwards: Backwards | undefined;
  /** Where given, it begins with this order, and those that make room go where an order has them. */
  private readonly first: readonly Job[] | undefined;

  constructor(
    model: Model,
    board: Board,
    own: readonly Job[],
    promoted: readonly Job[],
    random: () => number,
    first?: readonly Job[],
  ) {
    this.model = model;
    this.first = first;
    this.board = board;
    this.promoted = new Set(promoted);
    this.all = [...own, ...promoted];
    this.random = random;
    this.boundMs = remainingBoundMs(model, own, board.resources);
    this.stepMs = Math.max(1, this.boundMs / 1000);
    this.leastDurationMs = this.all.reduce((sum, j) => sum + j.leastMs, 0);
    this.backwards = isShortOfMemory(model, this.all) ? new Backwards(model, this.all) : undefined;
  }

  /** `report` is called after each try. */
  run(work: number, report: () => void): Candidate {
    const until = this.board.work + work;
    const isOver = () => this.board.work >= until;
    const starts = greedyOrders(this.model, this.all);
    if (this.first !== undefined) {
      const told = new Set(this.first);
      starts.unshift([...told, ...this.all.filter((j) => !told.has(j))]);
    }
    // Looks at everybody for each of them: only where that is a small part of the work.
    const isShort = this.backwards !== undefined;
    if (isShort && this.all.length ** 2 * LOOKS <= work / 4) {
      starts.push(earliestFirst(this.board, starts[0] as Job[]));
    }
    let best = this.decode(starts[0] as Job[], new Set());
    const keepBetter = (c: Candidate) => {
      report();
      if (isBetter(c.score, best.score)) best = c;
      return c;
    };
    const everyone = new Set(this.all.map((j) => j.index));
    for (const [i, order] of starts.entries()) {
      if (isOver() || this.isPerfect(best.score)) return best;
      if (i > 0) keepBetter(this.decode(order, new Set()));
      if (!isOver()) keepBetter(this.decode(order, everyone));
    }
    // From the end and from the beginning in turn, as long as that helps.
    for (let before: Candidate | undefined; this.backwards !== undefined && before !== best; ) {
      if (isOver() || this.isPerfect(best.score)) return best;
      before = best;
      const order = this.backwards.orderFrom(best, this.board);
      keepBetter(this.decode(order, new Set()));
      if (!isOver() && best.fills.size > 0) keepBetter(this.decode(order, best.fills));
    }
    const begin = this.board.work;
    let current = best;
    while (!isOver() && !this.isPerfect(best.score)) {
      const progress = (this.board.work - begin) / Math.max(1, until - begin);
      // Two coolings: the second starts from the best of the first.
      const cooling = (progress * 2) % 1;
      const temperature = this.boundMs * 0.02 * 0.005 ** cooling;
      if (progress >= 0.5 && cooling < 0.01) current = best;
      // Metropolis' rule, drawn first: a plan that is known to be refused need not be finished.
      const most = this.energy(current.score) - temperature * Math.log(1 - this.random());
      const next = this.neighbour(current, most);
      report();
      if (next !== undefined) current = keepBetter(next);
    }
    return best;
  }

  /** The plan of an order, with its score; undefined as soon as its energy is sure to be above `most`. */
  private decode(order: readonly Job[], fills: ReadonlySet<number>): Candidate;
  private decode(order: readonly Job[], fills: ReadonlySet<number>, most: number): Candidate | undefined;
  private decode(
    wanted: readonly Job[],
    fills: ReadonlySet<number>,
    most = Number.POSITIVE_INFINITY,
  ): Candidate | undefined {
    const order = this.first === undefined ? this.withPromotedLast(wanted) : wanted;
    // Of those not placed yet the least is known: they take no less than alone.
    const sum = this.nothingYet();
    const isHopeful = (p: Placement) => {
      this.count(sum, p);
      return this.energy(sum) <= most;
    };
    const laid = layOut(this.board, order, fills, isHopeful);
    if (laid === undefined) return undefined;
    sum.stuck = laid.stuck.length;
    sum.steps = Math.max(0, Math.ceil((sum.makespanMs - this.boundMs) / this.stepMs));
    return this.energy(sum) > most ? undefined : { order, fills, ...laid, score: sum };
  }

  /** Whoever only makes room stays behind. */
  private withPromotedLast(order: readonly Job[]): readonly Job[] {
    if (this.promoted.size === 0) return order;
    const isPromoted = (j: Job) => this.promoted.has(j);
    return [...order.filter((j) => !isPromoted(j)), ...order.filter(isPromoted)];
  }

  private nothingYet(): Writable<Score> {
    return { stuck: 0, missed: 0, lateMs: 0, steps: 0, durationMs: this.leastDurationMs, makespanMs: 0 };
  }

  /** Adds a placement to the score. When those end that only make room is nobody's concern here, whatever their deadlines. */
  private count(sum: Writable<Score>, p: Placement): void {
    sum.durationMs += p.endMs - p.startMs - p.job.leastMs;
    if (this.promoted.has(p.job)) return;
    sum.makespanMs = Math.max(sum.makespanMs, p.endMs);
    if (p.endMs <= p.job.deadlineMs) return;
    sum.missed++;
    sum.lateMs += p.endMs - p.job.deadlineMs;
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

  /** A slightly different order, or another that fills; undefined when its energy is above `most`. */
  private neighbour(c: Candidate, most: number): Candidate | undefined {
    const { random } = this;
    const order = this.backwards !== undefined && random() < RETOLD ? inOrderOfStart(c) : [...c.order];
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
    return this.decode(order, fills, most);
  }

  /** The migrations that make the score what it is: stuck or late ones, or those that end last. */
  private trouble(c: Candidate): Job[] {
    if (c.stuck.length > 0) return [...c.stuck];
    if (c.score.missed > 0) {
      const late = c.placements.filter((p) => p.endMs > p.job.deadlineMs && !this.promoted.has(p.job));
      return late.map((p) => p.job);
    }
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

/** Whether fewer of this rank are stuck, or as many and fewer late; who only makes room does not count. */
function isLessTrouble(a: Candidate, b: Candidate, rank: number): boolean {
  const stuck = (c: Candidate) => c.stuck.filter((j) => j.rank === rank).length;
  const order = [stuck(a) - stuck(b), a.score.missed - b.score.missed, a.score.lateMs - b.score.lateMs];
  return (order.find((d) => d !== 0) ?? 0) < 0;
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
