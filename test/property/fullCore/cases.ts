/**
 * Cases of the property of the whole core: a case is made from its number, played to its end, and, when it fails, made
 * smaller in a bounded time, so that a search always ends with a verdict and a case to replay. `../fullCore.test.ts` has the
 * search; `trace.ts` tells what happens in one case.
 */
import { randomFrom } from '../../../contracts/random.ts';
import { ACTION_NAMES, ACTIONS, type Action, type ActionName, perform } from './actions.ts';
import {
  checkGuests,
  checkStep,
  checkTables,
  checkWays,
  drain,
  freeze,
  leftovers,
  nothingSeen,
  type Seen,
  Snapshot,
} from './checks.ts';
import { POLICIES } from './policies.ts';
import { type Shape, World, type WorldOptions } from './world.ts';

/** All that a case consists of: it is stored and replayed as JSON. */
export interface Case {
  shape: Shape;
  actions: readonly Action[];
}

const MOST_ACTIONS = 600;
/** How much more often than usual a fault happens in a case; most often some do not happen in it at all. */
const TIMES = [0, 0, 1, 1, 5];
/** Every so many actions guests and old snapshots are looked at. */
const EVERY = 25;
/** Taking down what is left may take a drain's longest, and a change that failed is tried again, up to 160 s later. */
const TAKE_DOWN_ROUNDS = 400;

/** The case of a number: the same number gives the same case, as long as nobody changes what there is to draw from. */
export function caseOf(number: number): Case {
  const draw = randomFrom(Math.imul(number, 0x9e3779b1));
  const upTo = (n: number) => Math.floor(draw() * n);
  const shape: Shape = {
    kind: upTo(5),
    hosts: 2 + upTo(3),
    guests: 1 + upTo(7),
    seed: upTo(1_000_000),
    isManaged: upTo(4) > 0,
    queues: upTo(3),
    hasMeters: upTo(2) > 0,
    hasGroups: upTo(2) > 0,
    tunnels: upTo(3),
    policy: upTo(POLICIES.length),
    isMemoryTight: upTo(4) === 0,
    hasDisks: upTo(3) === 0,
    hasAbilities: upTo(2) > 0,
  };
  const weighted = ACTION_NAMES.map((name): [ActionName, number] => {
    const kind = ACTIONS[name];
    return [name, kind.weight * ('isLife' in kind ? 1 : (TIMES[upTo(TIMES.length)] as number))];
  });
  const sum = weighted.reduce((a, [, w]) => a + w, 0);
  const name = (): ActionName => {
    let at = draw() * sum;
    for (const [n, w] of weighted) {
      at -= w;
      if (at < 0) return n;
    }
    return 'deliver';
  };
  const actions = Array.from({ length: upTo(MOST_ACTIONS + 1) }, (): Action => [name(), upTo(65_536), upTo(65_536)]);
  return { shape, actions };
}

/** Plays a case to its end and beyond: faults cease, everybody ends, nothing is left. Throws where something is wrong. */
export function play(c: Case, seen: Seen = nothingSeen(), check?: WorldOptions['check']): World {
  const w = new World(c.shape, {
    check: (world, before, events, effects) => {
      check?.(world, before, events, effects);
      checkStep(world, before, effects, seen);
      for (const e of effects) {
        if (e.kind === 'publish') freeze(e.data);
        else if (e.kind === 'journal') freeze(e.entry);
      }
    },
  });
  for (const [i, a] of c.actions.entries()) {
    if (i % EVERY !== 0) {
      perform(w, a);
      continue;
    }
    const snapshot = new Snapshot(w.state);
    perform(w, a);
    snapshot.check();
    checkGuests(w);
    if (i % (4 * EVERY) === 0) checkTables(w.state);
    checkWays(w.state, w.nowMs);
  }
  w.heal();
  drain(w);
  for (let i = 0; i < TAKE_DOWN_ROUNDS && leftovers(w).length > 0; i++) w.round(1000, 0.4);
  const left = leftovers(w);
  if (left.length > 0) throw new Error(`left: ${left.join('; ')}`);
  return w;
}

/** What is wrong with a case; undefined where nothing is. */
export function failureOf(c: Case): string | undefined {
  try {
    play(c);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** What was said, and for errors of the code under test where. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const where = (error.stack ?? '').split('\n').find((l) => /[/\\](controller|policies|topology)[/\\]/.test(l));
  return `${error.message}${where === undefined ? '' : ` ${where.trim()}`}`;
}

/** A failure without the names and numbers of its case: two that have this in common are taken for one. */
export const kindOf = (message: string): string =>
  message
    .replace(/m\d+-g\d+/g, 'M')
    .replace(/hv\d/g, 'H')
    .replace(/[0-9a-f]{16}(:\d+)?/g, 'L')
    .replace(/\bg\d\b/g, 'G')
    .replace(/\d+(\.\d+)?/g, 'N')
    .replace(/high|medium|low/g, 'P')
    .slice(0, 90);

/** A smaller case that fails in the same way: what can be left out is left out, halves first, until the time is over. */
export function shrunk(c: Case, message: string, untilMs: number): { c: Case; message: string } {
  const kind = kindOf(message);
  let best = { c, message };
  const isTime = () => Date.now() < untilMs;
  const take = (next: Case): boolean => {
    const found = failureOf(next);
    if (found === undefined || kindOf(found) !== kind) return false;
    best = { c: next, message: found };
    return true;
  };
  for (let size = Math.ceil(c.actions.length / 2); size >= 1 && isTime(); size = Math.floor(size / 2)) {
    for (let at = 0; at < best.c.actions.length && isTime(); ) {
      const actions = [...best.c.actions.slice(0, at), ...best.c.actions.slice(at + size)];
      if (!take({ ...best.c, actions })) at += size;
    }
  }
  const { shape } = c;
  const simpler: Partial<Shape>[] = [
    ...[{ tunnels: 0 }, { queues: 0 }, { hasMeters: false }, { hasGroups: false }, { isMemoryTight: false }],
    ...[{ hasDisks: false }, { hasAbilities: false }],
    ...[{ isManaged: true }, { policy: 0 }, { kind: 0 }, { hosts: 2 }],
    ...Array.from({ length: shape.guests - 1 }, (_, i) => ({ guests: i + 1 })),
  ];
  for (const s of simpler) {
    if (!isTime()) break;
    if (Object.entries(s).some(([k, v]) => best.c.shape[k as keyof Shape] !== v))
      take({ ...best.c, shape: { ...best.c.shape, ...s } });
  }
  return best;
}
