/**
 * Jest's set-up for every test file.
 *
 * A test that checks nothing fails: one that returned early, or whose checks all stand in a branch, a loop or a callback that
 * never ran, does not count as passed.
 *
 * Property tests begin from one seed, so that a run is as good as the one before and a red one can be had again. To search
 * further: `FAIRWAY_SEED=2 npx jest …`, or `FAIRWAY_SEED=random`, which prints the seed when it has found something.
 */
import { readFileSync } from 'node:fs';

beforeEach(() => {
  expect.hasAssertions();
});

const SEED = process.env.FAIRWAY_SEED ?? '1';

// Loading fast-check takes longer than most test files: only where it is used.
const { testPath } = expect.getState();
if (SEED !== 'random' && testPath && /from 'fast-check'/.test(readFileSync(testPath, 'utf8'))) {
  const fc: typeof import('fast-check') = require('fast-check');
  fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(SEED) });
}
