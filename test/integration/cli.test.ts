/**
 * The compiled `fairway` as processes: a controller that serves, tells, changes its policy and ends in good order; its
 * token; an agent that reports its guests; a feed that is followed until interrupted. Ports are chosen by the system.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const BIN = join(import.meta.dirname, '../../cli/fairway.mjs');
const LIMIT_MS = 300_000;

let folder: string;
const running: ChildProcess[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairway-cli-'));
});
afterEach(async () => {
  for (const child of running.splice(0)) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  rmSync(folder, { recursive: true, force: true });
});

function start(args: string[], env: Record<string, string> = {}) {
  const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('FAIRWAY_')));
  const child = spawn(process.execPath, [BIN, ...args], { cwd: folder, env: { ...clean, ...env } });
  running.push(child);
  const written = { out: '', err: '' };
  child.stdout.on('data', (bytes) => {
    written.out += String(bytes);
  });
  child.stderr.on('data', (bytes) => {
    written.err += String(bytes);
  });
  const ended = once(child, 'close').then(([status]) => ({ status: status as number | null, ...written }));
  /** Resolves once standard output satisfies the pattern. */
  const said = (pattern: RegExp) =>
    new Promise<RegExpExecArray>((resolve, reject) => {
      const look = () => {
        const match = pattern.exec(written.out);
        if (match) resolve(match);
      };
      child.stdout.on('data', look);
      ended.then((e) => reject(new Error(`ended with ${e.status}: ${e.err}`)), reject);
      look();
    });
  return { child, ended, said };
}
const fairway = (args: string[], env: Record<string, string> = {}) => start(args, env).ended;

async function startController(...more: string[]) {
  const set = ['openflow.port=0', 'http.port=0', ...more].flatMap((s) => ['--set', s]);
  const controller = start(['controller', '--json', ...set]);
  const [, openflowPort, httpPort] = await controller.said(/^\{"openflowPort":(\d+),"httpPort":(\d+)\}\n/);
  return { ...controller, openflowPort: Number(openflowPort), url: `http://127.0.0.1:${httpPort}` };
}

test(
  'a controller serves the other commands and ends in good order',
  async () => {
    const controller = await startController();
    const at = ['--url', controller.url];

    const status = await fairway(['status', '--json', ...at]);
    expect(status).toMatchObject({ status: 0, err: '' });
    expect(JSON.parse(status.out)).toMatchObject({ topology: { switches: [] }, migrations: [] });
    expect((await fairway(['status', ...at])).out).toContain('Migrations: none running');

    const edit = await fairway(['policy', 'set', 'reservation.periodMs=500', ...at]);
    expect(edit).toMatchObject({ status: 0, out: expect.stringMatching(/^accepted: policy revision \d+\n$/) });
    expect((await fairway(['policy', 'get', 'reservation.periodMs', ...at])).out).toBe('500\n');
    const broken = await fairway(['policy', 'set', 'reservation.low=capacity -', ...at]);
    expect(broken).toMatchObject({ status: 2, out: '', err: expect.stringContaining('reservation.low') });
    expect((await fairway(['policy', 'get', 'reservation.low', ...at])).out).toBe('capacity - rate\n');
    // The policy is a file by default, and what `get` prints is such a file.
    expect(readFileSync(join(folder, 'policy.yaml'), 'utf8')).toContain('periodMs: 500');
    writeFileSync(join(folder, 'copy.yaml'), (await fairway(['policy', 'get', ...at])).out);
    expect((await fairway(['policy', 'check', 'copy.yaml'])).status).toBe(0);

    const unknown = await fairway(['migrate', 'nobody', '--to', 'nowhere', ...at]);
    expect(unknown).toMatchObject({ status: 2, out: '', err: expect.stringContaining('nobody') });
    expect((await fairway(['cancel', 'm-none', ...at])).status).toBe(2);

    controller.child.kill('SIGTERM');
    const end = await controller.ended;
    expect(end.status).toBe(0);
    expect(end.err).toContain('"controller.stopping"');
    expect((await fairway(['status', ...at])).status).toBe(3);
  },
  LIMIT_MS,
);

test(
  'the token is made for its owner only, is asked for, and is never printed',
  async () => {
    const controller = await startController('policy.store=memory');
    const file = join(folder, 'fairway.token');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const token = readFileSync(file, 'utf8').trim();
    const at = ['--url', controller.url];
    expect((await fairway(['status', ...at], { FAIRWAY_TOKEN: token })).status).toBe(0);
    for (const command of ['status', 'watch']) {
      const refused = await fairway([command, ...at], { FAIRWAY_TOKEN: 'not-the-token-at-all' });
      expect(refused).toMatchObject({ status: 3, err: expect.stringContaining('refused the token') });
      expect(refused.err).not.toContain('not-the-token-at-all');
    }
    controller.child.kill('SIGINT');
    const { status, out, err } = await controller.ended;
    expect(status).toBe(0);
    expect(out + err).not.toContain(token);
  },
  LIMIT_MS,
);

test(
  'an agent reports its guests, and watch follows the feed until interrupted',
  async () => {
    const controller = await startController('policy.store=memory');
    const agent = start([
      'agent',
      ...['--set', 'host=host1', '--set', `controller=${controller.url.replace('http', 'ws')}`],
      ...['--set', 'driver=emulated', '--set', `runDir=${join(folder, 'run')}`],
      ...['--set', 'guests=[{ name: web1, mac: "52:54:00:00:00:01", memoryMiB: 64, accel: emulated }]'],
    ]);
    const watch = start(['watch', '--json', '--topics', 'topology', '--url', controller.url]);
    const [line = ''] = await watch.said(/^.*"host":"host1","connected":true.*$/m);
    expect(JSON.parse(line)).toMatchObject({ v: 1, topic: 'topology' });

    watch.child.kill('SIGINT');
    expect(await watch.ended).toMatchObject({ status: 0, err: '' });
    agent.child.kill('SIGTERM');
    expect((await agent.ended).status).toBe(0);
    controller.child.kill('SIGTERM');
    expect((await controller.ended).status).toBe(0);
  },
  LIMIT_MS,
);

test(
  'an agent that cannot start says why and ends, so that whoever looks after it may start it again',
  async () => {
    writeFileSync(join(folder, 'fairway.token'), 'a-token');
    const set = ['host=h1', 'controller=ws://127.0.0.1:1', `runDir=${join(folder, 'run')}`, 'qemu=/nonexistent/qemu'];
    const guest = 'guests=[{ name: a, mac: "52:54:00:00:00:01", memoryMiB: 64 }]';
    const { status, out, err } = await fairway(['agent', ...[...set, guest].flatMap((s) => ['--set', s])]);
    expect([status, out]).toEqual([1, '']);
    expect(err).toMatch(/^fairway: guest a did not start: \/nonexistent\/qemu is not installed/m);
  },
  LIMIT_MS,
);

test(
  'a port that is taken is named',
  async () => {
    const first = await startController('policy.store=memory');
    const second = await fairway([
      'controller',
      ...['--set', `openflow.port=${first.openflowPort}`, '--set', 'http.port=0', '--set', 'policy.store=memory'],
      ...['--set', 'journal=second.journal'],
    ]);
    expect(second.status).not.toBe(0);
    expect(second.err).toContain(`${first.openflowPort}`);
    expect(second.err).not.toMatch(/\n\s+at /);
  },
  LIMIT_MS,
);
