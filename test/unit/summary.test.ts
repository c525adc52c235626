/** What our set-up adds to jest, by running jest on small projects: the line at the end, and that each test checks something. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');
const { resolve } = createRequire(import.meta.url);
const JEST = resolve('jest/bin/jest');

/** Runs jest on test files in a folder of their own; answers its last line. */
function lastLine(files: Record<string, string>): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'fairway-summary-'));
  try {
    const config = {
      transform: { '^.+\\.ts$': [resolve('@swc/jest')] },
      reporters: ['default', join(ROOT, 'test/summaryReporter.mjs')],
      setupFilesAfterEnv: [join(ROOT, 'test/eachTestFile.ts')],
    };
    writeFileSync(join(folder, 'jest.config.json'), JSON.stringify(config));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const { stdout, status } = spawnSync(process.execPath, [JEST, '--rootDir', folder], {
      cwd: folder,
      encoding: 'utf8',
    });
    expect(status).toBe(1);
    return stdout.trimEnd().split('\n').at(-1);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

test('the last line counts passed, failed and skipped; a broken file counts as failed', () => {
  const good = 'expect(1).toBe(1);';
  const a = `test('a', () => { ${good} }); test('b', () => { ${good} }); test('c', () => { throw 1; }); test.skip('d', () => {});`;
  expect(lastLine({ 'a.test.js': a, 'b.test.js': 'require("./nothing-there");' })).toBe(
    '2 passed, 2 failed, 1 skipped',
  );
});

test('a test that checks nothing fails: one that returns early, and one whose loop or callback never ran', () => {
  const tests = [
    `test('early', () => { if (true) return; expect(1).toBe(1); });`,
    `test('loop', () => { for (const x of []) expect(x).toBe(1); });`,
    `test('callback', async () => { Promise.reject(1).then(() => expect(1).toBe(1), () => {}); });`,
    `test('sound', async () => { await null; expect(1).toBe(1); });`,
  ];
  expect(lastLine({ 'a.test.js': tests.join('\n') })).toBe('1 passed, 3 failed, 0 skipped');
});
