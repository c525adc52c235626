/** `fairway agent` that cannot start: it ends, with a status and one message that names cause and cure. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { takeRunDir } from '../../../agent/io/runDir.ts';
import { run } from '../../../cli/program.ts';
import { EXIT } from '../../../cli/terminal.ts';
import { silentLog } from '../../../contracts/log.ts';
import { screen } from './samples.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fw-start-'));
  writeFileSync(join(folder, 'token'), 'a-token');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function agent(settings: Record<string, string>) {
  const all = { host: 'h1', controller: 'ws://127.0.0.1:1', tokenFile: join(folder, 'token'), ...settings };
  const s = screen(undefined, {});
  const status = await run(
    ['agent', ...Object.entries(all).flatMap(([key, value]) => ['--set', `${key}=${value}`])],
    s.terminal,
  );
  // Beside log lines, which are JSON.
  const said = s
    .err()
    .split('\n')
    .filter((line) => !line.startsWith('{'));
  return { status, out: s.out(), err: said.join('\n').trim() };
}

const GUEST = '[{ name: a, mac: "52:54:00:00:00:01", memoryMiB: 64 }]';
test.each([
  ['a host without a name', { host: '' }, EXIT.usage, /host: /],
  ['an address that is none', { migrationIp: 'host1' }, EXIT.usage, /migrationIp: must be an IP address, such as/],
  [
    'ports the wrong way round',
    { incomingPorts: '[5, 3]' },
    EXIT.usage,
    /incomingPorts: the first port must not be above the last/,
  ],
  ['ports that are none', { incomingPorts: '[0, 70000]' }, EXIT.usage, /incomingPorts\.1: .*65535/],
  [
    'a token that cannot be read',
    { tokenFile: '/proc/self' },
    EXIT.unreachable,
    /no token: cannot use the file \/proc\/self/,
  ],
  [
    'a runDir that cannot be made',
    { runDir: '/proc/nobody/here' },
    EXIT.usage,
    /^fairway: runDir \/proc\/nobody\/here cannot be used: .*; run the agent as root, or set runDir/,
  ],
  [
    'a runDir that is a file',
    { runDir: '/proc/self/stat' },
    EXIT.usage,
    /^fairway: runDir .* cannot be used: it is no folder/,
  ],
  [
    'a QEMU that is not there',
    { qemu: '/nonexistent/qemu', guests: GUEST },
    EXIT.failed,
    /^fairway: guest a did not start: \/nonexistent\/qemu is not installed \(Debian: apt-get install qemu-system-x86\), or set qemu/,
  ],
  [
    'a virsh that is not there',
    { driver: 'libvirt', 'libvirt.virsh': '/nonexistent/virsh' },
    EXIT.usage,
    /^fairway: \/nonexistent\/virsh is not installed \(Debian: apt-get install libvirt-clients\)/,
  ],
])('%s', async (_name, settings, status, message) => {
  const end = await agent({ runDir: join(folder, 'run'), ...settings });
  expect(end).toEqual({ status, out: '', err: expect.stringMatching(message) });
  expect(end.err).not.toMatch(/\n\s+at /);
});

test('what is missing is named with all the places to say it', async () => {
  const s = screen(undefined, {});
  expect(await run(['agent'], s.terminal)).toBe(EXIT.usage);
  expect(s.err()).toBe(
    'fairway: host: is missing: set it in the configuration file, with --set host=… or in FAIRWAY_HOST\n' +
      'controller: is missing: set it in the configuration file, with --set controller=… or in FAIRWAY_CONTROLLER\n',
  );
});

describe('a run directory', () => {
  const runDir = (): string => join(folder, 'a', 'run');
  const marked = (): string => readFileSync(join(runDir(), 'agent.pid'), 'utf8');
  /** A process that lives until it is ended, and when it began. */
  async function other(): Promise<{ child: ChildProcess; mark: string }> {
    const child = spawn('sleep', ['600'], { stdio: 'ignore' });
    await new Promise((resolve, reject) => child.once('spawn', resolve).once('error', reject));
    const start = readFileSync(`/proc/${child.pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ')[19];
    return { child, mark: `${child.pid} ${start}\n` };
  }

  test('is made for its owner only, marked, and let go', () => {
    const letGo = takeRunDir(runDir(), silentLog);
    expect(statSync(runDir()).mode & 0o777).toBe(0o700);
    expect(marked()).toMatch(new RegExp(`^${process.pid} \\d+\\n$`));
    letGo();
    expect(() => marked()).toThrow(/ENOENT/);
  });

  test('that another agent has is refused, until that is gone, however it went', async () => {
    const { child, mark } = await other();
    try {
      mkdirSync(runDir(), { recursive: true });
      writeFileSync(join(runDir(), 'agent.pid'), mark);
      const end = await agent({ runDir: runDir(), driver: 'qmp' });
      expect(end).toEqual({
        status: EXIT.failed,
        out: '',
        err: `fairway: another agent (process ${child.pid}) runs with runDir ${runDir()}: end it first, or give this one a runDir and a host of its own`,
      });
      // The same id at another time is another process.
      writeFileSync(join(runDir(), 'agent.pid'), `${child.pid} 1\n`);
      takeRunDir(runDir(), silentLog)();
      writeFileSync(join(runDir(), 'agent.pid'), mark);
    } finally {
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await gone;
    }
    const letGo = takeRunDir(runDir(), silentLog);
    expect(marked()).toMatch(new RegExp(`^${process.pid} `));
    letGo();
  });
});
