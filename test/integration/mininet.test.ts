/**
 * Fairway as the remote controller of a Mininet network: every host reaches every other, in both forwarding modes, by
 * the stand-alone script and by `mn --custom`. Everything runs in one network namespace with an Open vSwitch of its own,
 * so that names and ports of this machine are neither used nor seen.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gate } from './gate.ts';

const ROOT = join(import.meta.dirname, '../..');
const MAIN = join(ROOT, 'dist/cli/main.js');
const TOPOLOGY = join(ROOT, 'sim/mininet/fairway_topo.py');
const OVS_CTL = '/usr/share/openvswitch/scripts/ovs-ctl';

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'this is not root';
  if (!existsSync('/usr/lib/python3/dist-packages/mininet')) return 'package mininet is not installed';
  return existsSync(OVS_CTL) ? undefined : 'package openvswitch-switch is not installed';
}
const { reason, real, named } = gate(whyNot());
const withMininet = (name: string, body: () => Promise<void>) => real(named(name), body, 600_000);

const namespace = `fwmn${process.pid}`;
let folder: string;
let env: NodeJS.ProcessEnv;
const running: ChildProcess[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairway-mininet-'));
  env = { ...process.env, OVS_RUNDIR: folder, OVS_DBDIR: folder, OVS_LOGDIR: folder, OVS_SYSCONFDIR: folder };
  for (const name of Object.keys(env)) if (name.startsWith('FAIRWAY_')) delete env[name];
  if (reason !== undefined) return;
  mkdirSync(join(folder, 'openvswitch')); // ovs-ctl keeps the system id there and does not make it.
  execFileSync('ip', ['netns', 'add', namespace]);
  execFileSync('ip', ['-n', namespace, 'link', 'set', 'lo', 'up']);
});

afterAll(async () => {
  for (const child of running) await stop(child);
  if (reason === undefined) execFileSync('ip', ['netns', 'delete', namespace]);
  rmSync(folder, { recursive: true, force: true });
});

/** Starts a command in the namespace; `text()` is what it has written so far, on both streams. */
function start(command: string, ...args: string[]) {
  const child = spawn('ip', ['netns', 'exec', namespace, command, ...args], { cwd: folder, env });
  running.push(child);
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (bytes) => {
      text += String(bytes);
    });
  return { child, text: () => text, ended: once(child, 'close').then(([code]) => code as number | null) };
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGTERM');
  await closed;
}

/** A controller on free ports of the namespace, ready for switches. */
async function startController(forwarding: string) {
  const set = Object.entries({
    forwarding,
    'openflow.port': '0',
    'http.port': '0',
    'policy.store': 'memory',
    tokenFile: join(folder, 'token'),
    journal: join(folder, `journal-${forwarding}`),
  }).flatMap(([key, value]) => ['--set', `${key}=${value}`]);
  const controller = start(process.execPath, MAIN, 'controller', '--json', '--log-level', 'warn', ...set);
  const openflowPort = await new Promise<number>((resolve, reject) => {
    controller.child.stdout.on('data', () => {
      const found = /^\{"openflowPort":(\d+)/m.exec(controller.text());
      if (found) resolve(Number(found[1]));
    });
    controller.ended.then((code) => reject(new Error(`controller ended with ${code}: ${controller.text()}`)), reject);
  });
  return { ...controller, openflowPort };
}

/** Interfaces in the namespace besides the loopback. */
const interfaces = () =>
  execFileSync('ip', ['-n', namespace, '-br', 'link'], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => line.split(/[\s@]/)[0])
    .filter((name) => name !== 'lo');

for (const forwarding of ['managed', 'normal']) {
  withMininet(`all hosts reach each other, forwarding ${forwarding}`, async () => {
    const controller = await startController(forwarding);
    const mininet = start(
      '/usr/bin/python3',
      join(ROOT, 'sim/mininet/run.py'),
      '--controller',
      `127.0.0.1:${controller.openflowPort}`,
    );
    const status = await mininet.ended;
    await stop(controller.child);
    expect({ status, text: mininet.text() }).toEqual({ status: 0, text: expect.stringContaining('(30/30 received)') });
    expect(await controller.ended).toBe(0);
    expect(interfaces()).toEqual([]);
  });
}

withMininet('mn --custom starts the topology', async () => {
  const controller = await startController('normal');
  execFileSync('ip', ['netns', 'exec', namespace, OVS_CTL, 'start', '--no-mlockall', '--system-id=random'], { env });
  try {
    // mn kills by name when something goes wrong; in a process namespace of its own it finds only what is its own.
    const mn = start(
      ...(['unshare', '--pid', '--fork', '--mount-proc', '--kill-child', 'mn'] as const),
      ...['--custom', TOPOLOGY, '--topo', 'fairway,hosts_per_switch=1'],
      ...['--controller', `remote,ip=127.0.0.1,port=${controller.openflowPort}`, '--wait', '--test', 'pingall'],
    );
    const status = await mn.ended;
    expect({ status, text: mn.text() }).toEqual({ status: 0, text: expect.stringContaining('(6/6 received)') });
  } finally {
    execFileSync('ip', ['netns', 'exec', namespace, OVS_CTL, 'stop'], { env });
    await stop(controller.child);
  }
});

withMininet('without a controller the script fails, says why, and leaves nothing', async () => {
  const mininet = start(
    '/usr/bin/python3',
    join(ROOT, 'sim/mininet/run.py'),
    '--controller',
    '127.0.0.1:1',
    '--timeout',
    '3',
  );
  expect(await mininet.ended).toBe(1);
  expect(mininet.text()).toContain('not all switches connected');
  expect(interfaces()).toEqual([]);
});
