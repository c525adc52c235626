import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isSameToken, loadToken } from '../../../controller/io/token.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'fairway-io-token-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('makes a token once, readable by its owner only, and nothing else', async () => {
  const file = join(dir, 'token');
  const token = await loadToken(file);
  expect(token).toMatch(/^[\w-]{32}$/);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(readFileSync(file, 'utf8')).toBe(`${token}\n`);
  expect(await loadToken(file)).toBe(token);
  expect(readdirSync(dir)).toEqual(['token']);
});

test('processes that start at once agree on one token', async () => {
  const file = join(dir, 'token');
  const tokens = await Promise.all(Array.from({ length: 20 }, () => loadToken(file)));
  expect(new Set(tokens).size).toBe(1);
  expect(readdirSync(dir)).toEqual(['token']);
});

test.each([0o640, 0o604, 0o620, 0o666])('mode %o is refused with the cure', async (mode) => {
  const file = join(dir, 'token');
  writeFileSync(file, 'a-token-long-enough');
  chmodSync(file, mode);
  await expect(loadToken(file)).rejects.toMatchObject({
    code: 'TOKEN_FILE',
    labels: ['badInput'],
    message: expect.stringContaining(`chmod 600 ${file}`),
  });
});

test('the environment overrides the file and makes none; empty is as unset', async () => {
  const file = join(dir, 'token');
  expect(await loadToken(file, ' from-the-environment ')).toBe('from-the-environment');
  expect(readdirSync(dir)).toEqual([]);
  expect(await loadToken(file, '')).toMatch(/^[\w-]{32}$/);
});

test('short, empty or strange content is refused', async () => {
  const file = join(dir, 'token');
  for (const text of ['', 'short', 'with spaces in between', 'x'.repeat(2_000), 'ümläute-in-a-token']) {
    writeFileSync(file, text, { mode: 0o600 });
    await expect(loadToken(file)).rejects.toMatchObject({ code: 'TOKEN_BAD' });
  }
  await expect(loadToken(file, 'short')).rejects.toThrow(/FAIRWAY_TOKEN/);
});

test('a folder, or one that is missing, is told', async () => {
  mkdirSync(join(dir, 'folder'));
  await expect(loadToken(join(dir, 'folder'))).rejects.toMatchObject({ code: 'TOKEN_FILE' });
  await expect(loadToken(join(dir, 'no', 'such'))).rejects.toMatchObject({ code: 'TOKEN_FILE' });
});

test('comparison', () => {
  expect(isSameToken('abc', 'abc')).toBe(true);
  expect(isSameToken('abc', 'abcd')).toBe(false);
  expect(isSameToken('', 'abc')).toBe(false);
});
