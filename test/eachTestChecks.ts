/**
 * Jest's set-up for every test file: a test that checks nothing fails. So a test that returned early, or whose checks all stand
 * in a branch, a loop or a callback that never ran, does not count as passed.
 */
beforeEach(() => {
  expect.hasAssertions();
});
