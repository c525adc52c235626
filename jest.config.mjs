// Jest runs the TypeScript sources through swc. Three projects, so that the fast tests can be run alone:
// unit (pure and in-process, property tests included), scenarios, integration (real switch, Redis, QEMU, Mininet).
const common = {
  testEnvironment: 'node',
  transform: { '^.+\\.ts$': ['@swc/jest'] },
  extensionsToTreatAsEsm: [],
  moduleNameMapper: { '^node-openflow$': '<rootDir>/openflow/src/index.ts' },
  modulePathIgnorePatterns: ['<rootDir>/dist/', '<rootDir>/.cache/', '<rootDir>/openflow/dist/'],
};
const at = (...folders) => folders.map((f) => `<rootDir>/${f}/**/*.test.ts`);

export default {
  reporters: ['default', '<rootDir>/test/summaryReporter.mjs'],
  projects: [
    { ...common, displayName: 'unit', testMatch: at('test/unit', 'test/property', 'openflow/test') },
    {
      ...common,
      displayName: 'scenarios',
      testMatch: at('test/scenarios'),
      globalSetup: '<rootDir>/test/undertaker.mjs',
    },
    {
      ...common,
      displayName: 'integration',
      testMatch: at('test/integration'),
      globalSetup: '<rootDir>/test/buildOnce.mjs',
    },
  ],
};
