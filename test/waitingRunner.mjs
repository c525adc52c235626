/**
 * Jest's runner for test files that wait more than they work, for switches and machines of their own: half as many
 * more of them beside each other as there are workers. Jest runs those of one runner when those of the other are done, so that
 * tests which need a processor for themselves are not beside them.
 */
import TestRunner from 'jest-runner';

export default class WaitingRunner extends TestRunner {
  constructor(globalConfig, context) {
    super({ ...globalConfig, maxWorkers: Math.floor(1.5 * globalConfig.maxWorkers) }, context);
  }
}
