// Jest runs the TypeScript sources through swc. Projects, so that the fast tests can be run alone: unit (pure and in-process,
// property tests included), scenarios, integration (real switch, Redis, QEMU, Mininet), lab (the whole network, which measures
// times and rates). Files of the first three may run beside each other, in as many workers as jest is given; the lab's never do.
const common = {
  testEnvironment: 'node',
  transform: { '^.+\\.ts$': ['@swc/jest'] },
  extensionsToTreatAsEsm: [],
  setupFilesAfterEnv: ['<rootDir>/test/eachTestChecks.ts'],
  moduleNameMapper: { '^node-openflow$': '<rootDir>/openflow/src/index.ts' },
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.cache/', '<rootDir>/openflow/dist/'],
};
/** For tests that start processes of ours. */
const compiled = { ...common, globalSetup: '<rootDir>/test/buildOnce.mjs' };
const at = (...folders) => folders.map((f) => `<rootDir>/${f}/**/*.test.ts`);

export default {
  testSequencer: '<rootDir>/test/longestFirst.mjs',
  reporters: ['default', '<rootDir>/test/summaryReporter.mjs'],
  projects: [
    { ...common, displayName: 'unit', testMatch: at('test/unit', 'test/property', 'openflow/test') },
    { ...compiled, displayName: 'scenarios', testMatch: at('test/scenarios') },
    {
      ...compiled,
      displayName: 'integration',
      testMatch: at('test/integration'),
      testPathIgnorePatterns: ['/test/integration/lab-'],
    },
    {
      ...compiled,
      displayName: 'lab',
      testMatch: ['<rootDir>/test/integration/lab-*.test.ts'],
      runner: '<rootDir>/test/serialRunner.mjs',
    },
  ],
};
