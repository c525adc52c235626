/**
 * The plan as it grows: what every directed link, host's memory and slot is used for over time, and where one more
 * migration fits. Two ways to place one:
 *
 * - **steady**: at the full rate its path gives it, at the first time when that is free for as long as it takes;
 * - **filling**: at whatever its path has left at each time, ending as early as possible, and, for that end, started as
 *   late as possible, so that it does not take longer than it must.
 *
 * Memory is taken at the destination from the start and freed at the source at the end, for ever. Neighbours:
 * `profile.ts` holds the quantities, `search.ts` decides order and ways.
 */
import type { Job, Model, Option } from './model.ts';
import { toMs } from './model.ts';
import { Profile } from './profile.ts';
import { durationS, mbPerS, volumeMb } from './transfer.ts';

export interface Segment {
  readonly fromMs: number;
  readonly toMs: number;
  /** Whole bit/s. */
  readonly bps: number;
}

export interface Placement {
  readonly job: Job;
  readonly option: Option;
  readonly startMs: number;
  readonly endMs: number;
  readonly segments: readonly Segment[];
}

/** How a migration is placed. */
export type Way = 'steady' | 'filling';

/** A filling migration takes at most so many times what it takes at full rate … */
const MAX_STRETCH = 2.5;
/** … and never less than this share of its full rate. */
const MIN_SHARE = 0.1;
/** A start that could be later by less than this is not delayed. */
const MOMENT_MS = 100;

export class Board {
  readonly resources: Profile[];
  readonly memory: Profile[];
  /** Look-ups in profiles so far: the planner's unit of work. */
  work = 0;
  private readonly model: Model;
  private readonly linkCount: number;
  private readonly touched = new Set<number>();
  private readonly touchedHosts = new Set<number>();
  private kept: { resources: Profile[]; memory: Profile[] } | undefined;

  constructor(model: Model) {
    this.model = model;
    this.linkCount = model.graph.links.length;
    this.resources = Array.from({ length: model.resourceCount }, () => new Profile());
    this.memory = model.occupiedUnits.map((u) => new Profile(u));
  }

  /** What is on the board now is what `reset` returns to. */
  keep(): void {
    const copy = (p: Profile) => {
      const c = new Profile();
      c.copyFrom(p);
      return c;
    };
    this.kept = { resources: this.resources.map(copy), memory: this.memory.map(copy) };
    this.touched.clear();
    this.touchedHosts.clear();
  }

  reset(): void {
    const kept = this.kept;
    if (kept === undefined) throw new Error('reset before keep');
    for (const i of this.touched) (this.resources[i] as Profile).copyFrom(kept.resources[i] as Profile);
    for (const i of this.touchedHosts) (this.memory[i] as Profile).copyFrom(kept.memory[i] as Profile);
    this.touched.clear();
    this.touchedHosts.clear();
  }

  /** The earliest start that the memory of its destination allows; -1 when none does with what is on the board. */
  memoryReadyMs(job: Job): number {
    this.work++;
    const limit = (this.model.memoryUnits[job.toHost] as number) - job.sizeUnits;
    return (this.memory[job.toHost] as Profile).earliestForEver(limit);
  }

  /** By host, how full it is once all on the board has ended. */
  unitsInTheEnd(): number[] {
    return this.memory.map((p) => p.values[p.values.length - 1] as number);
  }

  put(p: Placement): void {
    const { resources, linkCount } = p.option;
    for (let i = 0; i < resources.length; i++) {
      const r = resources[i] as number;
      const profile = this.resources[r] as Profile;
      this.touched.add(r);
      if (i < linkCount) for (const s of p.segments) profile.add(s.fromMs, s.toMs, s.bps);
      else profile.add(p.startMs, p.endMs, 1);
    }
    const { fromHost, toHost, sizeUnits } = p.job;
    this.touchedHosts.add(fromHost).add(toHost);
    (this.memory[toHost] as Profile).add(p.startMs, Number.POSITIVE_INFINITY, sizeUnits);
    (this.memory[fromHost] as Profile).add(p.endMs, Number.POSITIVE_INFINITY, -sizeUnits);
  }

  /** What a resource has left for this job before it is used up: bit/s of a link, or migrations of a slot. */
  limitOf(job: Job, resource: number): number {
    if (resource >= this.linkCount) return this.model.limitPerHost;
    return (this.model.usableBps[job.rank] as readonly number[])[resource] as number;
  }

  /**
   * The place of one that runs already: from 0 on its path at the rate it has, or at what those before it leave where that is
   * less. Undefined for one that has not started.
   */
  placeRunning(job: Job): Placement | undefined {
    const option = job.options[0];
    if (job.runningBps === 0 || option === undefined) return undefined;
    const left = option.route.links.map((l) => this.limitOf(job, l) - (this.resources[l] as Profile).at(0));
    const bps = Math.max(1, Math.min(job.runningBps, ...left));
    const endMs = toMs(durationS(job.transfer, bps));
    return { job, option, startMs: 0, endMs, segments: [{ fromMs: 0, toMs: endMs, bps }] };
  }

  /** Where it ends first, among its paths, not starting before `fromMs`; undefined when it has no path. */
  place(job: Job, way: Way, fromMs: number): Placement | undefined {
    const steady = this.placeSteady(job, fromMs);
    if (way === 'steady' || steady === undefined) return steady;
    // It could not end earlier anywhere: nothing to gain.
    if (steady.endMs === fromMs + job.leastMs) return steady;
    let best: Placement = steady;
    for (const option of job.options) {
      const p = this.fill(job, option, fromMs, best.endMs);
      if (p !== undefined && p.endMs < best.endMs) best = p;
    }
    return best;
  }

  private placeSteady(job: Job, fromMs: number): Placement | undefined {
    let best: Option | undefined;
    let bestStart = 0;
    let bestEnd = Number.POSITIVE_INFINITY;
    let bestIdle = 0;
    for (const o of job.options) {
      const least = fromMs + o.durationMs;
      // Of several that end at once the one that leaves least idle.
      if (least > bestEnd || (least === bestEnd && bestIdle === 0)) continue;
      const start = this.earliestSteady(job, o, fromMs, bestEnd + 1);
      if (start < 0) continue;
      const end = start + o.durationMs;
      const idle = job.options.length === 1 ? 0 : this.idleBefore(job, o, start);
      if (end === bestEnd && idle >= bestIdle) continue;
      best = o;
      bestStart = start;
      bestEnd = end;
      bestIdle = idle;
    }
    if (best === undefined) return undefined;
    const segments = [{ fromMs: bestStart, toMs: bestEnd, bps: best.rateBps }];
    return { job, option: best, startMs: bestStart, endMs: bestEnd, segments };
  }

  /** The first time from `fromMs` at which all of its resources are free for as long as it takes; -1 when past `bestEnd`. */
  private earliestSteady(job: Job, o: Option, fromMs: number, bestEnd: number): number {
    const n = o.resources.length;
    let start = fromMs;
    for (let i = 0, free = 0; free < n; i = (i + 1) % n) {
      const r = o.resources[i] as number;
      this.work++;
      const amount = i < o.linkCount ? o.rateBps : 1;
      const t = (this.resources[r] as Profile).earliestFit(start, o.durationMs, this.limitOf(job, r) - amount);
      if (t < 0 || t + o.durationMs >= bestEnd) return -1;
      free = t > start ? 1 : free + 1;
      start = t;
    }
    return start;
  }

  /**
   * How long the links of a path could have carried this one just before `startMs`, up to once, each weighed by its load: holes
   * are left where there is least to fill them, and the same hosts keep to the same links out of a rack that is busy.
   */
  private idleBefore(job: Job, o: Option, startMs: number): number {
    let idle = 0;
    for (let i = 0; i < o.linkCount && startMs > 0; i++) {
      const r = o.resources[i] as number;
      this.work++;
      const since = (this.resources[r] as Profile).freeSince(startMs, this.limitOf(job, r) - o.rateBps);
      idle += (this.model.loadMs[r] as number) * Math.min(startMs - since, o.durationMs);
    }
    return idle;
  }

  /** The filling placement on one path; undefined when it would not end before `beforeMs` or would take too long. */
  private fill(job: Job, o: Option, fromMs: number, beforeMs: number): Placement | undefined {
    const pieces = this.leftOver(job, o, fromMs, beforeMs);
    const least = o.rateBps * MIN_SHARE;
    let runStart = 0;
    for (let i = 0; i < pieces.length; i++) {
      const piece = pieces[i] as Segment;
      if (piece.bps < least) {
        runStart = i + 1;
        continue;
      }
      if (piece.bps < job.leastFinalBps) continue;
      const endMs = this.endWithin(job, pieces, runStart, i);
      if (endMs < 0) continue;
      if (endMs >= beforeMs) return undefined;
      const latestMs = this.latestStart(job, pieces, runStart, i, endMs);
      // What would only win a moment is not worth a delay.
      const earliestMs = (pieces[runStart] as Segment).fromMs;
      const startMs = latestMs - earliestMs < MOMENT_MS ? earliestMs : latestMs;
      if (endMs - startMs > MAX_STRETCH * o.durationMs) continue;
      return { job, option: o, startMs, endMs, segments: cut(pieces, startMs, endMs) };
    }
    return undefined;
  }

  /** What its path has left over time, in pieces of constant rate, up to `untilMs`. */
  private leftOver(job: Job, o: Option, fromMs: number, untilMs: number): Segment[] {
    const n = o.resources.length;
    const profiles = o.resources.map((r) => this.resources[r] as Profile);
    const at = profiles.map((p) => p.indexAt(fromMs));
    const pieces: Segment[] = [];
    let t = fromMs;
    while (t < untilMs) {
      this.work += n;
      let next = untilMs;
      let bps = o.rateBps;
      for (let i = 0; i < n; i++) {
        const p = profiles[i] as Profile;
        const index = at[i] as number;
        const left = this.limitOf(job, o.resources[i] as number) - (p.values[index] as number);
        bps = i < o.linkCount ? Math.min(bps, left) : left >= 1 ? bps : 0;
        const change = p.times[index + 1];
        if (change !== undefined && change < next) next = change;
      }
      const last = pieces[pieces.length - 1];
      if (last !== undefined && last.bps === bps) pieces[pieces.length - 1] = { ...last, toMs: next };
      else pieces.push({ fromMs: t, toMs: next, bps: Math.max(0, bps) });
      t = next;
      for (let i = 0; i < n; i++) {
        const p = profiles[i] as Profile;
        if (p.times[(at[i] as number) + 1] === t) at[i] = (at[i] as number) + 1;
      }
    }
    return pieces;
  }

  /** The first end within piece `last` of a copy that starts with piece `first`; -1 when there is none. */
  private endWithin(job: Job, pieces: readonly Segment[], first: number, last: number): number {
    const startMs = (pieces[first] as Segment).fromMs;
    let carried = 0;
    let sinceFast = 0;
    for (let i = first; i < last; i++) {
      const s = pieces[i] as Segment;
      const mb = (mbPerS(s.bps) * (s.toMs - s.fromMs)) / 1000;
      carried += mb;
      sinceFast = s.bps >= job.leastFinalBps ? sinceFast + mb : 0;
    }
    const piece = pieces[last] as Segment;
    const rate = mbPerS(piece.bps);
    // The last `hot` MB at a rate that lets them end.
    let endS = piece.fromMs / 1000;
    if (job.leastFinalBps > 0) endS += Math.max(0, job.transfer.hotMb - sinceFast) / rate;
    // All it has to carry by then: more time needs more volume, so this approaches the first such end from below …
    const missingAt = (s: number) =>
      volumeMb(job.transfer, s - startMs / 1000) - carried - rate * (s - piece.fromMs / 1000);
    let missing = missingAt(endS);
    for (let i = 0; i < 60 && missing > 1e-9; i++) {
      endS += missing / rate;
      if (endS * 1000 > piece.toMs) return -1;
      missing = missingAt(endS);
    }
    // … but hardly gets on where nearly as much is written as carried. It is missing before that end and never after it: halve.
    if (missing > 1e-9) {
      let enough = piece.toMs / 1000;
      if (missingAt(enough) > 0) return -1;
      for (let i = 0; i < 60; i++) {
        const middle = (endS + enough) / 2;
        if (missingAt(middle) > 0) endS = middle;
        else enough = middle;
      }
      endS = enough;
    }
    const endMs = Math.max(toMs(endS), piece.fromMs + 1);
    return endMs <= piece.toMs ? endMs : -1;
  }

  /** The latest start of a copy that ends at `endMs` in piece `last`, using all that is left from then on. */
  private latestStart(job: Job, pieces: readonly Segment[], first: number, last: number, endMs: number): number {
    // A billionth more than needed, so that rounding never leaves it short.
    const needed = (startMs: number) => volumeMb(job.transfer, (endMs - startMs) / 1000) * (1 + 1e-9);
    let carried = 0;
    for (let i = last; i >= first; i--) {
      const s = pieces[i] as Segment;
      const toMs = Math.min(s.toMs, endMs);
      const rate = mbPerS(s.bps);
      const all = carried + (rate * (toMs - s.fromMs)) / 1000;
      if (all < needed(s.fromMs)) {
        carried = all;
        continue;
      }
      // Within this piece: earliest start suffices, the end of the piece does not. Halve until a millisecond is left.
      let low = s.fromMs;
      let high = toMs;
      while (high - low > 1) {
        const mid = Math.floor((low + high) / 2);
        if (carried + (rate * (toMs - mid)) / 1000 >= needed(mid)) low = mid;
        else high = mid;
      }
      return low;
    }
    return (pieces[first] as Segment).fromMs;
  }
}

/** The part of `pieces` from `startMs` to `endMs`. */
function cut(pieces: readonly Segment[], startMs: number, endMs: number): Segment[] {
  const cutOut: Segment[] = [];
  for (const s of pieces) {
    const fromMs = Math.max(s.fromMs, startMs);
    const toMs = Math.min(s.toMs, endMs);
    if (fromMs < toMs) cutOut.push({ ...s, fromMs, toMs });
  }
  return cutOut;
}
