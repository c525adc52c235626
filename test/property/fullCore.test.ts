/**
 * The whole core (`controller/core/step.ts`) over random networks and random orders of events, with agents and switches that
 * come, go, refuse and are late, policies that change, and controllers that die and return: what `fullCore/checks.ts` says
 * holds at every step, everybody ends once faults cease, nothing is left, and the same events give the same decisions.
 * `decisions.test.ts` has the millions of steps of admission and reservation alone.
 *
 * Every case has a number, and the ordinary test plays the same ones each time. To search wider, in other cases:
 *
 *   FAIRWAY_FULL_CORE_SEED=7       numbers from 7,000,000 on
 *   FAIRWAY_FULL_CORE_RUNS=5000    so many of them
 *   FAIRWAY_FULL_CORE_MINUTES=30   … but no longer than this
 *   FAIRWAY_FULL_CORE_FAILURES=9   goes on until so many different failures were found
 *
 * A failure names its case; a smaller one that fails in the same way is written to a file. To see what happens in it:
 *
 *   FAIRWAY_FULL_CORE_CASE=FILE    (or a number) plays that case alone and writes its story beside it
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isFinal } from '../../contracts/common.ts';
import { stepAll } from '../../controller/core/step.ts';
import type { CompiledPolicy } from '../../policies/index.ts';
import { perform } from './fullCore/actions.ts';
import { type Case, caseOf, kindOf, messageOf, play, shrunk } from './fullCore/cases.ts';
import { nothingSeen, stateText, textOf } from './fullCore/checks.ts';
import { POLICIES } from './fullCore/policies.ts';
import { trace } from './fullCore/trace.ts';
import { newLife, World } from './fullCore/world.ts';

const asked = (name: string, otherwise: number) => Number(process.env[`FAIRWAY_FULL_CORE_${name}`] ?? otherwise);
const RUNS = asked('RUNS', 150);
/** The same cases each time, unless others are asked for: what was found to hold cannot fail for somebody else's change alone. */
const SEED = asked('SEED', 7);
const MINUTES = asked('MINUTES', Number.POSITIVE_INFINITY);
const FAILURES = asked('FAILURES', 1);
const CASE = process.env.FAIRWAY_FULL_CORE_CASE;
const CASES_PER_SEED = 1_000_000;
/** A failing case is made smaller for no longer than this. */
const SHRINK_MS = 60_000;
const TIMEOUT_MS = 12 * 3_600_000;

const numbers = (count: number) => Array.from({ length: count }, (_, i) => SEED * CASES_PER_SEED + i);
/** Where a case that failed is kept. */
const fileOf = (number: number) => join(tmpdir(), `fairway-full-core-${number}.json`);

const secondsSince = (ms: number) => Math.round((Date.now() - ms) / 1000);
const secondsOf = (cpu: NodeJS.CpuUsage) => Math.round((cpu.user + cpu.system) / 1e6);

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

/** A case that failed, made smaller and kept; answers what to say of it. */
function report(number: number, c: Case, message: string): string {
  const small = shrunk(c, message, Date.now() + SHRINK_MS);
  const file = fileOf(number);
  writeFileSync(file, `${JSON.stringify(small.c)}\n`);
  return `case ${number}: ${message}\n  ${small.c.actions.length} of its ${c.actions.length} actions: ${small.message}\n  to replay: FAIRWAY_FULL_CORE_CASE=${file}`;
}

const search = CASE === undefined ? test : test.skip;

search(
  `${RUNS} random networks: floors and urgency at every step, an end for everybody, nothing left`,
  () => {
    const seen = nothingSeen();
    const ends = { done: 0, failed: 0, cancelled: 0, lost: 0 };
    const found = new Map<string, string>();
    const startMs = Date.now();
    let runs = 0;
    let steps = 0;
    let slowest = { number: 0, ms: 0, steps: 0 };
    for (const number of numbers(RUNS)) {
      if (found.size >= FAILURES || Date.now() - startMs > MINUTES * 60_000) break;
      const c = caseOf(number);
      const beganMs = Date.now();
      runs++;
      try {
        const w = play(c, seen);
        steps += w.steps;
        const ms = Date.now() - beganMs;
        if (ms > slowest.ms) slowest = { number, ms, steps: w.steps };
        for (const j of w.state.jobs.values()) if (isFinal(j.state)) ends[j.state as keyof typeof ends]++;
      } catch (error) {
        const message = messageOf(error);
        const kind = kindOf(message);
        if (!found.has(kind)) found.set(kind, report(number, c, message));
      }
    }
    const what = {
      runs,
      steps,
      seconds: secondsSince(startMs),
      cpuSeconds: secondsOf(process.cpuUsage()),
      slowest,
      ...seen,
      ...ends,
    };
    if (found.size > 0) throw new Error(`${[...found.values()].join('\n')}\n${JSON.stringify(what)}`);
    console.info(JSON.stringify(what));
    // What was to be seen was there.
    expect(steps).toBeGreaterThan(100 * runs);
    for (const [name, times] of Object.entries({ ...seen, ...ends })) {
      if (!['recoveries', 'cancelled', 'lost'].includes(name)) expect([name, times]).not.toEqual([name, 0]);
    }
  },
  TIMEOUT_MS,
);

search(
  'the same events give the same decisions',
  () => {
    const startMs = Date.now();
    for (const number of numbers(Math.ceil(RUNS / 4))) {
      if (Date.now() - startMs > MINUTES * 15_000) break;
      const { shape, actions } = caseOf(number);
      const texts: string[] = [];
      const w = new World(shape, { check: (_w, _before, _events, effects) => texts.push(textOf(effects)) });
      for (const a of actions) perform(w, a);
      const again = playAgain(w);
      texts.push(stateText(w.state));
      const at = texts.findIndex((text, i) => text !== again[i]);
      expect([number, at, again[at]]).toEqual([number, -1, undefined]);
    }
  },
  TIMEOUT_MS,
);

const STORED = join(import.meta.dirname, '../data/full-core');

test.each(readdirSync(STORED))('%s, which failed once', (name) => {
  const c = JSON.parse(readFileSync(join(STORED, name), 'utf8')) as Case;
  expect(trace(c).failure).toBeUndefined();
});

if (CASE !== undefined) {
  test(
    `case ${CASE}`,
    () => {
      const isNumber = /^\d+$/.test(CASE);
      const c = isNumber ? caseOf(Number(CASE)) : (JSON.parse(readFileSync(CASE, 'utf8')) as Case);
      const { text, failure } = trace(c);
      const story = `${isNumber ? fileOf(Number(CASE)) : CASE}.txt`;
      writeFileSync(story, text);
      console.info(`its story is in ${story}`);
      expect(failure).toBeUndefined();
    },
    TIMEOUT_MS,
  );
}
