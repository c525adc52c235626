// Jest runs the TypeScript sources through swc. Projects, so that the fast tests can be run alone: unit (pure and in-process,
// property tests included), integration (real switch, Redis, libvirt, Mininet), waiting (networks with faults, and machines that are
// moved and cut), scenarios, lab (whole networks under load, and copies whose pace is measured). Files of unit and integration
// run beside each other, in as many workers as jest is given; those of waiting, which wait for their network or machine most
// of the time, in half as many more; those of the others, which measure times and rates, one after the other and alone.
const common = {
  testEnvironment: 'node',
  transform: { '^.+\\.ts$': ['@swc/jest'] },
  extensionsToTreatAsEsm: [],
  setupFilesAfterEnv: ['<rootDir>/test/eachTestFile.ts'],
  moduleNameMapper: { '^node-openflow$': '<rootDir>/openflow/src/index.ts' },
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.cache/', '<rootDir>/openflow/dist/'],
};
/** For tests that start processes of ours. */
const compiled = { ...common, globalSetup: '<rootDir>/test/buildOnce.mjs' };
/** For tests that measure. */
const alone = { ...compiled, runner: '<rootDir>/test/serialRunner.mjs' };
/** For tests that need little of a processor, and none for themselves. */
const waiting = { ...compiled, runner: '<rootDir>/test/waitingRunner.mjs' };
/** How names of files in test/integration begin that are for one of these runners. */
const ALONE = ['lab-', 'faults/storm', 'agent-(qemu|recovery|tls)', 'driver-contract-qmp'];
const WAITING = ['storage-', 'faults/(?!storm)'];
const inIntegration = (...names) => `/test/integration/(${names.join('|')})`;
const others = (...names) => `/test/integration/(?!${names.join('|')})`;
const at = (...folders) => folders.map((f) => `<rootDir>/${f}/**/*.test.ts`);

export default {
  testSequencer: '<rootDir>/test/longestFirst.mjs',
  // Two files share a small machine, and others may use it too: what hangs is found all the same, what is slow is no fault.
  testTimeout: 120_000,
  reporters: ['default', '<rootDir>/test/summaryReporter.mjs'],
  projects: [
    { ...common, displayName: 'unit', testMatch: at('test/unit', 'test/property', 'openflow/test') },
    { ...alone, displayName: 'scenarios', testMatch: at('test/scenarios') },
    {
      ...compiled,
      displayName: 'integration',
      testMatch: at('test/integration'),
      testPathIgnorePatterns: [inIntegration(...ALONE, ...WAITING)],
    },
    {
      ...waiting,
      displayName: 'waiting',
      testMatch: at('test/integration'),
      testPathIgnorePatterns: [others(...WAITING)],
    },
    {
      ...alone,
      displayName: 'lab',
      testMatch: at('test/integration'),
      testPathIgnorePatterns: [others(...ALONE)],
    },
  ],
};
