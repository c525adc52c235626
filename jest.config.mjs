// Jest runs the TypeScript sources through swc. Projects, so that the fast tests can be run alone: unit (pure and in-process,
// property tests included), integration (real switch, Redis, QEMU, Mininet), scenarios, lab (whole networks under load
// and faults, and emulated guests, whose speed is the processor's). Files of the first two may run beside each other, in as
// many workers as jest is given; those of the others, which measure times and rates, run one after the other and alone.
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
/** How names of files in test/integration begin that must not share the processor. */
const ALONE = ['lab-', 'faults/', 'agent-qemu', 'agent-recovery', 'agent-tls', 'driver-contract-qmp', 'storage-'];
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
      testPathIgnorePatterns: ALONE.map((name) => `/test/integration/${name}`),
    },
    {
      ...alone,
      displayName: 'lab',
      testMatch: at('test/integration'),
      testPathIgnorePatterns: [`/test/integration/(?!${ALONE.join('|')})`],
    },
  ],
};
