/** `fairway token make` and `show`, without a controller; and what the client says of one that a controller refuses. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from '../../../cli/program.ts';
import { EXIT } from '../../../cli/terminal.ts';
import { checkToken, signToken } from '../../../controller/io/token.ts';
import { fakeController } from './fakeController.ts';
import { screen } from './samples.ts';

const KEY = 'the-token-of-a-controller-32-char';
let folder: string;
let key: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairway-token-'));
  key = join(folder, 'key');
  writeFileSync(key, `${KEY}\n`, { mode: 0o600 });
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function call(...argv: string[]) {
  const s = screen();
  return { status: await run(['token', ...argv], s.terminal), out: s.out(), err: s.err() };
}

test('make prints one that the controller takes, for so long and for that host', async () => {
  const { status, out, err } = await call('make', '--for', '30d', '--host', 'hv1', '--token-file', key);
  expect(status).toBe(EXIT.ok);
  expect(err).toMatch(/^good until \d{4}-.*Z, for the agent of hv1 only\n$/);
  const now = Date.now();
  expect(checkToken(out.trim(), KEY, now)).toMatchObject({ isGood: true, claims: { host: 'hv1' } });
  expect(checkToken(out.trim(), KEY, now + 29 * 86_400_000)).toMatchObject({ isGood: true });
  expect(checkToken(out.trim(), KEY, now + 31 * 86_400_000)).toMatchObject({ code: 'TOKEN_EXPIRED' });
});

test('--out takes the place of what is there, for its owner only; show says what it is good for', async () => {
  const out = join(folder, 'hv1.token');
  for (const time of ['1h', '12h']) {
    const made = await call('make', '--for', time, '--host', 'hv1', '--out', out, '--token-file', key);
    expect(made).toMatchObject({ status: EXIT.ok, err: '' });
    expect(made.out).not.toContain('fw1.');
  }
  expect(statSync(out).mode & 0o777).toBe(0o600);
  expect(readdirSync(folder).sort()).toEqual(['hv1.token', 'key']);
  expect(checkToken(readFileSync(out, 'utf8').trim(), KEY, Date.now() + 11 * 3_600_000).isGood).toBe(true);
  expect(await call('show', '--token-file', out)).toMatchObject({
    status: EXIT.ok,
    out: expect.stringMatching(/^good until .*Z, .* to go, for the agent of hv1 only/),
  });
  writeFileSync(out, signToken(KEY, { madeAtMs: 1, expiresAtMs: 2 }));
  expect(await call('show', '--token-file', out)).toMatchObject({
    status: EXIT.failed,
    out: expect.stringMatching(/^expired at 1970/),
  });
  expect(JSON.parse((await call('show', '--json', '--token-file', out)).out)).toMatchObject({
    host: null,
    expired: true,
  });
  expect((await call('show', '--token-file', key)).out).toMatch(/^a controller's own token/);
});

test('what cannot be is refused with the cure, and makes nothing', async () => {
  const out = join(folder, 'made');
  const made = signToken(KEY, { madeAtMs: 1, expiresAtMs: 2 });
  const other = join(folder, 'other');
  writeFileSync(other, made);
  const cases: [string[], number, RegExp][] = [
    [['make', '--token-file', key], EXIT.usage, /required option '--for/],
    [['make', '--for', 'ever', '--token-file', key], EXIT.usage, /Expected a time with its unit/],
    [['make', '--for', '1h', '--host', 'a b', '--token-file', key], EXIT.usage, /no name of a host/],
    [['make', '--for', '1h', '--token-file', other], EXIT.usage, /holds a token that was made itself/],
    [['make', '--for', '1h', '--token-file', join(folder, 'none')], EXIT.unreachable, /it does not exist/],
    [
      ['make', '--for', '1h', '--out', join(folder, 'no', 'such'), '--token-file', key],
      EXIT.usage,
      /cannot be written/,
    ],
  ];
  for (const [argv, status, err] of cases) {
    const answer = await call(...argv, ...(argv.includes('--out') ? [] : ['--out', out]));
    expect(answer).toMatchObject({ status, out: '', err: expect.stringMatching(err) });
    // No message shows a token.
    expect(answer.err).not.toContain(KEY);
  }
  expect(readdirSync(folder).sort()).toEqual(['key', 'other']);
});

test('a controller that refuses an expired token is quoted', async () => {
  const fake = await fakeController();
  try {
    fake.answer = {
      status: 401,
      body: JSON.stringify({ error: { code: 'TOKEN_EXPIRED', message: 'the token expired at noon' } }),
    };
    const s = screen(undefined, { FAIRWAY_TOKEN: 'any' });
    expect(await run(['status', '--url', fake.url], s.terminal)).toBe(EXIT.unreachable);
    expect(s.err()).toMatch(/the token expired at noon/);
    fake.answer = { status: 401, body: JSON.stringify({ error: { code: 'UNAUTHORIZED', message: 'present it' } }) };
    expect(await run(['status', '--url', fake.url], s.terminal)).toBe(EXIT.unreachable);
    expect(s.err()).toMatch(/refused the token; give the one in its token file/);
  } finally {
    await fake.close();
  }
});
