/**
 * What explanations say of the end, compared with the end, over random small data centres (`forecast/`): the end comes within
 * the interval nearly always, intervals are not much wider than the time that is left, and the expected end is near. The table
 * of many more is printed by `FAIRWAY_FORECAST_RUNS=60 npx jest --selectProjects unit --testPathPatterns property/forecast`;
 * `FAIRWAY_FORECAST_SEED` is the number of the first.
 */
import { figuresOf, tableOf } from './forecast/measure.ts';
import { playStory, type Reading } from './forecast/story.ts';

const RUNS = Number(process.env.FAIRWAY_FORECAST_RUNS ?? 8);
const SEED = Number(process.env.FAIRWAY_FORECAST_SEED ?? 1);

jest.setTimeout(1_800_000);

test('ends come within what was said of them, and the intervals are of use', () => {
  const readings = Array.from({ length: RUNS }, (_, i) => playStory(SEED + i)).flat();
  if (process.env.FAIRWAY_FORECAST_RUNS !== undefined) process.stdout.write(`${tableOf(readings)}\n`);
  expect(readings.length).toBeGreaterThan(30 * RUNS);
  // Nobody foresees who is asked for later.
  const of = (is: (r: Reading) => boolean) => figuresOf(readings.filter((r) => !r.isSurprised && is(r)));
  const all = of(() => true);
  expect(all.held).toBeGreaterThan(0.92);
  expect(all.width).toBeLessThan(1.8);
  expect(all.error).toBeLessThan(0.12);
  expect(of((r) => r.state === 'waiting').held).toBeGreaterThan(0.85);
  expect(of((r) => r.state === 'copying' || r.state === 'switching').held).toBeGreaterThan(0.95);
  expect(of((r) => r.priority === 'low').held).toBeGreaterThan(0.88);
  const high = of((r) => r.priority === 'high');
  expect(high.held).toBeGreaterThan(0.95);
  expect(high.width).toBeLessThan(1.1);
});

test('the same story is told the same way', () => {
  expect(playStory(3)).toEqual(playStory(3));
});
