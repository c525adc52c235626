/**
 * The whole core (`controller/core/step.ts`) over random networks and random orders of events, with agents and switches that
 * come, go, refuse and are late, policies that change, and controllers that die and return: what `fullCore/checks.ts` says
 * holds at every step, everybody ends once faults cease, nothing is left, and the same events give the same decisions.
 * `decisions.test.ts` has the million steps of admission and reservation alone.
 *
 * FAIRWAY_FULL_CORE_RUNS=5000 FAIRWAY_FULL_CORE_SEED=7 makes more runs, and others, than the ordinary test; a failure prints
 * fast-check's seed and path.
 */
import fc from 'fast-check';
import { isFinal } from '../../contracts/common.ts';
import { stepAll } from '../../controller/core/step.ts';
import type { CompiledPolicy } from '../../policies/index.ts';
import {
  checkGuests,
  checkStep,
  drain,
  freeze,
  leftovers,
  nothingSeen,
  Snapshot,
  stateText,
  textOf,
} from './fullCore/checks.ts';
import { type Action, newLife, POLICIES, type Shape, World } from './fullCore/world.ts';

const RUNS = Number(process.env.FAIRWAY_FULL_CORE_RUNS ?? 20);
/** The same cases each time, unless others are asked for: what was found to hold cannot fail for somebody else's change alone. */
const SEED = Number(process.env.FAIRWAY_FULL_CORE_SEED ?? 7);
const MOST_ACTIONS = 600;
/** Taking down what is left may take a drain's longest, and a change that failed is tried again, up to 160 s later. */
const TAKE_DOWN_ROUNDS = 400;
/** Every so many actions guests and old snapshots are looked at. */
const EVERY = 25;

const shape: fc.Arbitrary<Shape> = fc.record({
  kind: fc.nat(3),
  hosts: fc.integer({ min: 2, max: 4 }),
  guests: fc.integer({ min: 1, max: 7 }),
  seed: fc.nat(1_000_000),
  isManaged: fc.nat(3).map((n) => n > 0),
  queues: fc.nat(2),
  hasMeters: fc.boolean(),
  hasGroups: fc.boolean(),
  tunnels: fc.nat(2),
  policy: fc.nat(6),
  isMemoryTight: fc.nat(3).map((n) => n === 3),
});
const action: fc.Arbitrary<Action> = fc.tuple(fc.nat(999), fc.nat(65_535), fc.nat(65_535));

const seen = nothingSeen();
const ends = { done: 0, failed: 0, cancelled: 0, lost: 0 };
let steps = 0;

function play(s: Shape, actions: readonly Action[]): World {
  const w = new World(s, {
    check: (world, before, _events, effects) => {
      checkStep(world, before, effects, seen);
      for (const e of effects) {
        if (e.kind === 'publish') freeze(e.data);
        else if (e.kind === 'journal') freeze(e.entry);
      }
    },
  });
  for (const [i, a] of actions.entries()) {
    if (i % EVERY !== 0) {
      w.perform(a);
      continue;
    }
    const snapshot = new Snapshot(w.state);
    w.perform(a);
    snapshot.check();
    checkGuests(w);
  }
  w.heal();
  drain(w);
  for (let i = 0; i < TAKE_DOWN_ROUNDS && leftovers(w).length > 0; i++) w.round(1000, 0.4);
  const left = leftovers(w);
  if (left.length > 0) throw new Error(`left: ${left.join('; ')}`);
  return w;
}

/** The same events once more: the core has nothing to go by but them. */
function playAgain(w: World): string[] {
  const texts: string[] = [];
  let life = 0;
  let state = w.state;
  for (const p of w.played) {
    if ('journal' in p) {
      state = newLife(w.shape, life, life === 0 ? (POLICIES[w.shape.policy] as CompiledPolicy) : state.policy, p);
      life++;
    } else {
      const next = stepAll(state, p.events, p.nowMs);
      state = next.state;
      texts.push(textOf(next.effects));
    }
  }
  return [...texts, stateText(state)];
}

test(`${RUNS} random networks: floors and urgency at every step, an end for everybody, nothing left`, () => {
  fc.assert(
    fc.property(shape, fc.array(action, { maxLength: MOST_ACTIONS, size: 'max' }), (s, actions) => {
      const w = play(s, actions);
      steps += w.steps;
      for (const j of w.state.jobs.values()) if (isFinal(j.state)) ends[j.state as keyof typeof ends]++;
    }),
    { numRuns: RUNS, seed: SEED },
  );
  console.info(`${steps} steps`, seen, ends);
  // What was to be seen was there.
  expect(steps).toBeGreaterThan(100 * RUNS);
  for (const [what, times] of Object.entries({ ...seen, ...ends })) {
    if (!['recoveries', 'cancelled', 'lost'].includes(what)) expect([what, times]).not.toEqual([what, 0]);
  }
}, 1_800_000);

test('the same events give the same decisions', () => {
  fc.assert(
    fc.property(shape, fc.array(action, { maxLength: MOST_ACTIONS, size: 'max' }), (s, actions) => {
      const texts: string[] = [];
      const w = new World(s, { check: (_w, _before, _events, effects) => texts.push(textOf(effects)) });
      for (const a of actions) w.perform(a);
      const again = playAgain(w);
      for (const [i, text] of [...texts, stateText(w.state)].entries()) expect([i, again[i]]).toEqual([i, text]);
    }),
    { numRuns: Math.ceil(RUNS / 4), seed: SEED },
  );
}, 1_800_000);
