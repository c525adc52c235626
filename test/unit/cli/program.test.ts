/** The command line without a process: help, usage errors, exit statuses. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { explain } from '../../../cli/errors.ts';
import { run } from '../../../cli/program.ts';
import { EXIT, table } from '../../../cli/terminal.ts';
import { FairwayError, prioritySchema, strategySchema, techniqueSchema } from '../../../contracts/common.ts';
import { topicSchema } from '../../../contracts/feed.ts';
import { VERSION } from '../../../contracts/version.ts';
import { screen } from './samples.ts';

async function call(argv: string[], env: Record<string, string> = {}) {
  const s = screen(undefined, env);
  const status = await run(argv, s.terminal);
  return { status, out: s.out(), err: s.err() };
}

const COMMANDS = [
  'controller',
  'agent',
  'demo',
  'migrate',
  'cancel',
  'status',
  'watch',
  'plan',
  'policy',
  'policy get',
  'policy set',
  'policy check',
  'policy diff',
  'policy explain',
  'policy history',
  'lab',
  'lab up',
  'lab run',
  'lab down',
];

test('help lists the commands and the exit statuses', async () => {
  const { status, out } = await call(['--help']);
  expect(status).toBe(EXIT.ok);
  for (const name of COMMANDS.filter((c) => !c.includes(' '))) expect(out).toMatch(new RegExp(`^  ${name} `, 'm'));
  expect(out).toContain('Exit status: 0 done');
});

test.each(COMMANDS)('%s --help has an example and the exit statuses', async (name) => {
  const { status, out } = await call([...name.split(' '), '--help']);
  expect(status).toBe(EXIT.ok);
  expect(out).toMatch(new RegExp(`\\$ .*fairway ${name.split(' ')[0]}`));
  expect(out).toContain('Exit status:');
});

test('the help offers the words of the contracts', async () => {
  const { out } = await call(['migrate', '--help']);
  for (const word of [...prioritySchema.options, ...techniqueSchema.options, ...strategySchema.options])
    expect(out).toContain(`"${word}"`);
  const watch = await call(['watch', '--help']);
  expect(watch.out.replace(/\s+/g, ' ')).toContain(topicSchema.options.join(', '));
});

test('the version is that of package.json', async () => {
  const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '../../../package.json'), 'utf8'));
  expect(VERSION).toBe(version);
  expect((await call(['--version'])).out).toBe(`${version}\n`);
});

test.each([
  [[]],
  [['nonsense']],
  [['migrate', 'g1']],
  [['migrate', 'g1,,g2', '--to', 'h2']],
  [['migrate', 'g1', '--to', 'h2', '--priority', 'urgent']],
  [['watch', '--json', '--topics', 'weather']],
  [['demo', '--speed', '0']],
  [['demo', '--seed', '-1']],
  [['plan']],
  [['plan', '/nonexistent/instance.json']],
  [['plan', 'examples/plan-racks.json', '--limit-per-host', '0']],
  [['plan', '-', '--check', '-']],
  [['controller', '--set', 'http.port=many']],
  [['controller', '--config', '/nonexistent/fairway.yaml']],
  [['policy', 'check', '/nonexistent/policy.yaml']],
  [['status', '--url', 'ftp://host']],
])('wrong usage %j: status 2, a message, nothing on standard output', async (argv) => {
  const { status, out, err } = await call(argv);
  expect(status).toBe(EXIT.usage);
  expect(out).toBe('');
  expect(err).not.toBe('');
  expect(err).not.toMatch(/\n\s+at /); // A foreseen error shows no stack.
});

test('no controller or no token: status 3', async () => {
  const nobody = ['status', '--url', 'http://127.0.0.1:1'];
  const unreachable = await call(nobody, { FAIRWAY_TOKEN: 'very-secret' });
  expect(unreachable.status).toBe(EXIT.unreachable);
  expect(unreachable.err).toContain('http://127.0.0.1:1');
  expect(unreachable.err).not.toContain('very-secret');
  const noToken = await call([...nobody, '--token-file', '/nonexistent/token']);
  expect(noToken).toMatchObject({ status: EXIT.unreachable, err: expect.stringContaining('FAIRWAY_TOKEN') });
});

describe('errors become messages', () => {
  const statusOf = (...args: ConstructorParameters<typeof FairwayError>) =>
    explain(new FairwayError(...args), screen().terminal).exit;
  test('the exit status follows labels and codes', () => {
    expect(statusOf('x', 'm', ['badInput'])).toBe(EXIT.usage);
    expect(statusOf('x', 'm', ['notFound'])).toBe(EXIT.usage);
    expect(statusOf('x', 'm', ['unauthorized'])).toBe(EXIT.unreachable);
    expect(statusOf('client.unreachable', 'm', ['retryable'])).toBe(EXIT.unreachable);
    expect(statusOf('http.503', 'm', ['retryable'])).toBe(EXIT.failed);
    expect(statusOf('x', 'm', ['conflict'])).toBe(EXIT.failed);
    expect(explain(new TypeError('m'), screen().terminal).exit).toBe(EXIT.failed);
  });
  test('a token never gets out, and only unforeseen errors show where they came from', () => {
    const { terminal } = screen(undefined, { FAIRWAY_TOKEN: 'abc-secret' });
    expect(explain(new FairwayError('x', 'sent abc-secret to h'), terminal).message).toBe('sent <token> to h');
    expect(explain(new TypeError('m'), screen().terminal).message).toMatch(/\n\s+at /);
    expect(explain('text', screen().terminal).message).toBe('text');
  });
});

test('an interruption explains whatever broke off because of it', () => {
  const { terminal, interrupt } = screen();
  interrupt();
  expect(explain(new FairwayError('lab.interrupted', 'cleaned up'), terminal)).toEqual({
    message: 'cleaned up',
    exit: 130,
  });
  expect(explain(new FairwayError('client.unreachable', 'm'), terminal)).toEqual({ message: 'interrupted', exit: 130 });
});

test('tables have columns of equal width and no trailing spaces', () => {
  expect(
    table([
      ['A', 'LONG'],
      ['abc', 'x'],
    ]),
  ).toBe('A    LONG\nabc  x\n');
});
