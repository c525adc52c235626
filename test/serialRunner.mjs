/**
 * Jest's runner, but for one test file after the other, whatever the number of workers: for tests that measure time or need the
 * whole machine. Jest runs them when the workers have nothing to do.
 */
import TestRunner from 'jest-runner';

export default class SerialRunner extends TestRunner {
  isSerial = true;
}
