/** The line at the end of a test run, by running jest on a small project of its own. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const JEST = createRequire(import.meta.url).resolve('jest/bin/jest');

test('the last line counts passed, failed and skipped; a broken file counts as failed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fairway-summary-'));
  try {
    writeFileSync(
      join(folder, 'jest.config.json'),
      JSON.stringify({ reporters: ['default', join(ROOT, 'test/summaryReporter.mjs')] }),
    );
    writeFileSync(
      join(folder, 'a.test.js'),
      `test('a', () => {}); test('b', () => {}); test('c', () => { throw 1; }); test.skip('d', () => {});`,
    );
    writeFileSync(join(folder, 'b.test.js'), 'require("./nothing-there");');
    const { stdout, status } = spawnSync(process.execPath, [JEST, '--rootDir', folder], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(stdout.trimEnd().split('\n').at(-1)).toBe('2 passed, 2 failed, 1 skipped');
    expect(status).toBe(1);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
