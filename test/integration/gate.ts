/**
 * The gate before tests that need something of the machine: root, a package, a kernel with namespaces. What is missing is
 * asked once and before any test is registered, so that a test either runs or counts as skipped, with the reason in its
 * name. A test that finds out while it runs, and returns, would count as passed.
 */

export interface Gate {
  /** Why they are skipped; undefined when they run. For hooks of files that have other tests as well. */
  reason: string | undefined;
  /** Registers a test. */
  real: jest.It;
  /** Registers a group of tests. */
  suite: jest.Describe;
  /** Name of a test or a group, with the reason when it is skipped. */
  named(name: string): string;
}

/** @param reasons as the functions `whyNo…` answer: each undefined, or why the tests cannot run here. */
export function gate(...reasons: readonly (string | undefined)[]): Gate {
  const reason = reasons.find((r) => r !== undefined);
  return {
    reason,
    real: reason === undefined ? test : test.skip,
    suite: reason === undefined ? describe : describe.skip,
    named: (name) => (reason === undefined ? name : `skipped, because ${reason}: ${name}`),
  };
}
