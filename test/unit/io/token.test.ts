/** The token that authorises agents, readers and operators: its file, and the tokens it signs that expire. */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { claimsOf, warnAtMs } from '../../../contracts/token.ts';
import { checkToken, isSameToken, loadToken, signToken } from '../../../controller/io/token.ts';

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

describe('tokens that expire', () => {
  const KEY = 'the-token-of-a-controller-32-char';
  const claims = { madeAtMs: 1_000, expiresAtMs: 11_000 };

  test('are good until their time, and for what they say', () => {
    const all = signToken(KEY, claims);
    const one = signToken(KEY, { ...claims, host: 'hv1' });
    expect(checkToken(KEY, KEY, 99_999)).toEqual({ isGood: true });
    expect(checkToken(all, KEY, 10_999)).toEqual({ isGood: true, claims });
    expect(checkToken(one, KEY, 1_000)).toEqual({ isGood: true, claims: { ...claims, host: 'hv1' } });
    expect(checkToken(all, KEY, 11_000)).toMatchObject({
      isGood: false,
      code: 'TOKEN_EXPIRED',
      text: expect.stringMatching(/expired at 1970-01-01T00:00:11Z, and it is 1970-01-01T00:00:11Z: make another/),
    });
    expect(claimsOf(one)).toEqual({ ...claims, host: 'hv1' });
    expect(claimsOf(KEY)).toBeUndefined();
    expect(all.length).toBeLessThan(512);
  });

  test('with another key, or anything changed in them, are none, whatever the time', () => {
    const made = signToken(KEY, { ...claims, host: 'hv1' });
    expect(checkToken(made, `${KEY}x`, 2_000)).toMatchObject({ code: 'UNAUTHORIZED' });
    const changed = [...made].map((c, i) => made.slice(0, i) + (c === 'A' ? 'B' : 'A') + made.slice(i + 1));
    for (const text of changed) expect(checkToken(text, KEY, 2_000).isGood).toBe(false);
    const [, body = ''] = made.split('.');
    const longer = Buffer.from(JSON.stringify({ ...claims, expiresAtMs: 99_999 })).toString('base64url');
    for (const text of [
      made.replace(body, longer),
      made.slice(0, -1),
      `${made}A`,
      `${made}.`,
      `fw1.${body}`,
      `fw1.${body}.`,
      'fw1..',
      '',
    ])
      expect(checkToken(text, KEY, 2_000)).toMatchObject({ isGood: false, code: 'UNAUTHORIZED' });
  });

  test('any text is refused without an exception', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string().map((t) => `fw1.${t}`),
          fc.base64String().map((t) => `fw1.${t}.${t}`),
        ),
        (text) => {
          expect(checkToken(text, KEY, 0).isGood).toBe(false);
        },
      ),
    );
  });

  test('are warned of a fifth of their life before the end, at most three days', () => {
    expect(warnAtMs(claims)).toBe(9_000);
    const day = 86_400_000;
    expect(warnAtMs({ madeAtMs: 0, expiresAtMs: 100 * day })).toBe(97 * day);
    expect(warnAtMs({ madeAtMs: 5, expiresAtMs: 5 })).toBe(5);
  });

  test('are not made with a key that could be guessed, and are no key themselves', async () => {
    expect(() => signToken('sixteen-chars-xx', claims)).toThrow(/has 16 characters, and needs 24/);
    const file = join(dir, 'token');
    writeFileSync(file, signToken(KEY, claims), { mode: 0o600 });
    await expect(loadToken(file)).rejects.toMatchObject({
      code: 'TOKEN_BAD',
      message: expect.stringContaining('made with `fairway token make`'),
    });
  });
});
