/**
 * Who must move, and in which order, so that as many as possible find room. Only memory counts here: a set of moves leaves
 * the same room in whatever order it was made, and one after the other needs no more room than several at once, so what
 * can be reached is a set of moves to which a way leads of moves that fit. All such sets are looked at, depth first,
 * within a limit. `search.ts` asks when its orders, of which each takes the first place it finds, leave somebody without.
 */
import { randomFrom } from '../../contracts/random.ts';
import type { Job, Model } from './model.ts';

/** Places looked at, at least: all there are of some ten migrations that wait for each other … */
const LEAST_LOOKS = 50_000;
/** … and at most: each may be a set to remember. */
const MOST_LOOKS = 1_000_000;

/**
 * The order in which most of `own` find room, beside `occupiedUnits` by host, with those of `others` that must leave for it
 * and these as late as may be. More `looks` never find less.
 */
export function orderWithRoom(
  model: Model,
  occupiedUnits: readonly number[],
  own: readonly Job[],
  others: readonly Job[],
  looks: number,
): Job[] {
  const free = model.memoryUnits.map((units, h) => units - (occupiedUnits[h] as number));
  const ample = [...free];
  for (const j of [...own, ...others]) ample[j.toHost] = (ample[j.toHost] as number) - j.sizeUnits;
  const isAmple = (host: number) => (ample[host] as number) >= 0;
  // Who leaves a host that has room for all helps nobody, and who goes to one is in nobody's way.
  const helpers = others.filter((j) => !isAmple(j.fromHost) && j.options.length > 0);
  const order = [...own, ...helpers].filter((j) => isAmple(j.toHost));
  for (const j of order) move(free, j);
  const rest = [...own, ...helpers].filter((j) => !isAmple(j.toHost));
  const isOwn = new Set(own);
  order.push(...mostRoom(free, rest, (j) => isOwn.has(j), Math.min(MOST_LOOKS, Math.max(LEAST_LOOKS, looks))));
  return withHelpersLate(model, occupiedUnits, order, (j) => isOwn.has(j));
}

function move(free: number[], j: Job): void {
  free[j.toHost] = (free[j.toHost] as number) - j.sizeUnits;
  free[j.fromHost] = (free[j.fromHost] as number) + j.sizeUnits;
}

function moveBack(free: number[], j: Job): void {
  free[j.toHost] = (free[j.toHost] as number) + j.sizeUnits;
  free[j.fromHost] = (free[j.fromHost] as number) - j.sizeUnits;
}

const HALF = 2 ** 26;

/**
 * A number of 52 bits for each, so that a set is known by the exclusive or of its members' numbers, however many they are. That
 * two sets have the same is next to impossible, and would only leave one of them out.
 */
function keysFor(count: number): number[] {
  const random = randomFrom(1);
  return Array.from({ length: count }, () => Math.floor(random() * HALF) * HALF + Math.floor(random() * HALF));
}

/** `^` of 52 bits, of which JavaScript does 32. */
function toggled(set: number, key: number): number {
  const high = Math.floor(set / HALF) ^ Math.floor(key / HALF);
  return high * HALF + ((set % HALF) ^ (key % HALF));
}

/** The moves after which most of those that count have moved; the first such that is found. */
function mostRoom(free: number[], jobs: readonly Job[], counts: (j: Job) => boolean, looks: number): Job[] {
  const all = jobs.filter(counts).length;
  let best: Job[] = [];
  let most = 0;
  let counted = 0;
  const keys = keysFor(jobs.length);
  let set = 0;
  const seen = new Set([set]);
  const path: number[] = [];
  const isMoved = new Uint8Array(jobs.length);
  /** By depth: who is tried next. */
  const next = [0];
  for (let looked = 0; looked < looks && most < all; looked++) {
    const i = next[path.length] as number;
    const job = jobs[i];
    if (job === undefined) {
      // All that follow from here are known.
      const last = path.pop();
      if (last === undefined) break;
      const undone = jobs[last] as Job;
      moveBack(free, undone);
      isMoved[last] = 0;
      set = toggled(set, keys[last] as number);
      if (counts(undone)) counted--;
      continue;
    }
    next[path.length] = i + 1;
    if (isMoved[i] === 1 || job.sizeUnits > (free[job.toHost] as number)) continue;
    const after = toggled(set, keys[i] as number);
    if (seen.has(after)) continue;
    seen.add(after);
    set = after;
    move(free, job);
    isMoved[i] = 1;
    path.push(i);
    next[path.length] = 0;
    if (!counts(job)) continue;
    counted++;
    if (counted <= most) continue;
    most = counted;
    best = path.map((p) => jobs[p] as Job);
  }
  return best;
}

/** The same without those that nobody needs, and the others that only make room just before who needs them. */
function withHelpersLate(
  model: Model,
  occupiedUnits: readonly number[],
  order: readonly Job[],
  counts: (j: Job) => boolean,
): Job[] {
  /** The first that does not fit; the length where all do. */
  const firstWithout = (jobs: readonly Job[]): number => {
    const free = model.memoryUnits.map((units, h) => units - (occupiedUnits[h] as number));
    for (const [i, j] of jobs.entries()) {
      if (j.sizeUnits > (free[j.toHost] as number)) return i;
      move(free, j);
    }
    return jobs.length;
  };
  let result = [...order];
  // The last first: who makes room for one that makes room follows it.
  for (const helper of [...order].reverse()) {
    if (counts(helper)) continue;
    const others = result.filter((j) => j !== helper);
    const at = firstWithout(others);
    const later = at === others.length ? others : [...others.slice(0, at), helper, ...others.slice(at)];
    if (firstWithout(later) === later.length) result = later;
  }
  return result;
}
