/**
 * Jest reporter that ends a run with one line to be read by programs: `N passed, N failed, N skipped`, on standard
 * output. A test file that could not run at all counts as one failure, so that it cannot hide.
 */
import { writeSync } from 'node:fs';

/** The line for jest's aggregated result. */
export function summaryLine(results) {
  const failed = results.numFailedTests + results.numRuntimeErrorTestSuites;
  const skipped = results.numPendingTests + results.numTodoTests;
  return `${results.numPassedTests} passed, ${failed} failed, ${skipped} skipped`;
}

export default class SummaryReporter {
  onRunComplete(_contexts, results) {
    // Jest's own summary and warnings come after this call; nothing comes after the exit of the process.
    process.once('exit', () => writeSync(1, `${summaryLine(results)}\n`));
  }
}
