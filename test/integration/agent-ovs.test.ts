/**
 * The agent beside a real Open vSwitch in a namespace of its own: guests' taps and ports, and the filters that make queues
 * work on a userspace datapath. The agent's code runs in the namespace too, in a child process with the compiled program.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { FILTER_PRIO, parseFilters, type QueueFilter } from '../../agent/core/queueFilters.ts';
import { processOf } from '../../agent/io/guestProcess.ts';
import { tapName } from '../../agent/io/hostNet.ts';
import type { QueueFiltersResult } from '../../agent/io/queueFilters.ts';
import { guestSpecSchema } from '../../contracts/agent.ts';
import { agentConfigSchema } from '../../contracts/config.ts';
import { silentLog } from '../../contracts/log.ts';
import { buildGuestImage } from '../../sim/lab/guest/build.ts';
import { cacheDir } from '../../sim/lab/guests.ts';
import { gate } from './gate.ts';
import { kill, PrivateOvs, until, whyNoOvs } from './privateOvs.ts';

function whyNot(): string | undefined {
  try {
    execFileSync('qemu-system-x86_64', ['--version'], { stdio: 'ignore' });
  } catch {
    return 'qemu-system-x86_64 is not installed';
  }
  return whyNoOvs();
}
const { reason, real, named } = gate(whyNot());
jest.setTimeout(600_000);

const DIST = resolve(import.meta.dirname, '../../dist');
const port = `fwa${process.pid % 100_000}`;
let ovs: PrivateOvs;
let folder: string;
const children: ChildProcess[] = [];

beforeAll(async () => {
  if (reason !== undefined) return;
  folder = mkdtempSync(join(tmpdir(), 'fw-agovs-'));
  ovs = new PrivateOvs('a');
  await ovs.start();
  ovs.inside('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', `${port}p`);
  for (const end of [port, `${port}p`]) {
    ovs.inside('ethtool', '-K', end, 'tx', 'off');
    ovs.inside('ip', 'link', 'set', end, 'up');
  }
  ovs.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev');
  ovs.vsctl('add-port', 'br0', port);
});
afterAll(async () => {
  for (const c of children) await kill(c);
  await ovs?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

/** Runs a module's text inside the namespace; `dist` is where the compiled program is. */
function inNamespace(script: string): ChildProcess {
  const argv = ['netns', 'exec', ovs.netns, process.execPath, '--input-type=module', '-e', script];
  const child = spawn('ip', argv, { stdio: ['pipe', 'pipe', 'inherit'] });
  children.push(child);
  return child;
}

async function setFilters(filters: QueueFilter[], portName = port): Promise<QueueFiltersResult | { refused: string }> {
  const child = inNamespace(`
    const { applyQueueFilters } = await import(${JSON.stringify(`${DIST}/agent/io/queueFilters.js`)});
    const answer = await applyQueueFilters(${JSON.stringify(portName)}, ${JSON.stringify(filters)},
      { db: ${JSON.stringify(ovs.remote)}, bridge: 'br0' }).catch((e) => ({ refused: e.code }));
    process.stdout.write(JSON.stringify(answer));`);
  let out = '';
  child.stdout?.on('data', (d) => {
    out += String(d);
  });
  await new Promise((done) => child.once('close', done));
  return JSON.parse(out) as QueueFiltersResult;
}
const filtersNow = () =>
  parseFilters(ovs.inside('tc', 'filter', 'show', 'dev', port, 'parent', '1:', 'prio', String(FILTER_PRIO)));

describe('queue filters on a real port', () => {
  real(named('say so where the port has no queues, or is none'), async () => {
    expect(await setFilters([{ dscp: 10, queue: 1 }])).toMatchObject({ applied: false });
    expect(await setFilters([], 'nosuchport')).toEqual({ refused: 'port-unknown' });
    expect(await setFilters([], '../etc')).toEqual({ refused: 'port-unknown' });
    const twice = [
      { dscp: 10, queue: 1 },
      { dscp: 10, queue: 2 },
    ];
    expect(await setFilters(twice)).toEqual({ refused: 'bad-filters' });
  });

  real(named('are set, left alone when they are right, changed, and removed; others stay'), async () => {
    const queue = (id: string, rate: string) => [
      '--',
      `--id=@${id}`,
      'create',
      'Queue',
      `other_config:min-rate=${rate}`,
    ];
    ovs.vsctl(
      ...['set', 'port', port, 'qos=@q'],
      ...['--', '--id=@q', 'create', 'QoS', 'type=linux-htb', 'other_config:max-rate=200000000'],
      ...['queues:0=@q0', 'queues:1=@q1', 'queues:10=@q10'],
      ...queue('q0', '100000000'),
      ...queue('q1', '50000000'),
      ...queue('q10', '50000000'),
    );
    await until(() => /class htb 1:b /.test(ovs.inside('tc', 'class', 'show', 'dev', port)), 'the classes are there');
    ovs.inside(
      ...['tc', 'filter', 'add', 'dev', port, 'parent', '1:', 'protocol', 'ip', 'prio', '7'],
      ...['u32', 'match', 'ip', 'tos', '0xb8', '0xfc', 'flowid', '1:1'],
    );
    const first = [
      { dscp: 10, queue: 1 },
      { dscp: 12, queue: 10 },
    ];
    expect(await setFilters(first)).toEqual({ applied: true, detail: `${port}: 2 filters` });
    expect(filtersNow()).toEqual(first);
    expect(await setFilters([...first].reverse())).toMatchObject({ detail: expect.stringMatching(/unchanged/) });
    expect(await setFilters([{ dscp: 14, queue: 1 }])).toMatchObject({ applied: true });
    expect(filtersNow()).toEqual([{ dscp: 14, queue: 1 }]);
    const early = await setFilters([{ dscp: 14, queue: 3 }]);
    expect(early).toEqual({ applied: true, detail: expect.stringMatching(/1:4 does not exist yet/) });
    expect(await setFilters([])).toMatchObject({ applied: true });
    expect(filtersNow()).toEqual([]);
    expect(ovs.inside('tc', 'filter', 'show', 'dev', port, 'parent', '1:')).toMatch(/pref 7 /);
  });

  real(named('lead marked packets to the class of their queue, and only those'), async () => {
    await setFilters([{ dscp: 10, queue: 1 }]);
    // Two hosts on the bridge: one behind the port with queues, one on the bridge itself.
    const far = `${ovs.netns}f`;
    execFileSync('ip', ['netns', 'add', far]);
    try {
      ovs.inside('ip', 'link', 'set', `${port}p`, 'netns', far);
      execFileSync('ip', ['-n', far, 'addr', 'add', '10.77.0.2/24', 'dev', `${port}p`]);
      execFileSync('ip', ['-n', far, 'link', 'set', `${port}p`, 'up']);
      ovs.inside('ip', 'addr', 'add', '10.77.0.1/24', 'dev', 'br0');
      ovs.inside('ip', 'link', 'set', 'br0', 'up');
      const sent = (minor: string) => {
        const shown = ovs.inside('tc', '-s', 'class', 'show', 'dev', port);
        const part = shown.split('class htb ').find((c) => c.startsWith(`1:${minor} `));
        return Number(/Sent \d+ bytes (\d+) pkt/.exec(part ?? '')?.[1]);
      };
      await until(
        () => {
          try {
            ovs.inside('ping', '-c', '1', '-W', '1', '10.77.0.2');
            return true;
          } catch {
            return false;
          }
        },
        'the far host answers',
        20,
      );
      const before = [sent('2'), sent('1')];
      ovs.inside('ping', '-q', '-c', '10', '-i', '0.01', '-Q', '0x28', '10.77.0.2');
      expect(sent('2') - (before[0] as number)).toBe(10);
      ovs.inside('ping', '-q', '-c', '10', '-i', '0.01', '10.77.0.2');
      expect(sent('2') - (before[0] as number)).toBe(10);
      expect(sent('1') - (before[1] as number)).toBeGreaterThanOrEqual(10);
    } finally {
      execFileSync('ip', ['netns', 'del', far]);
    }
  });
});

describe("a guest's network card", () => {
  real(named('is a marked port of the bridge while the guest is there, and nothing after'), async () => {
    const image = await buildGuestImage(cacheDir(), silentLog);
    const spec = guestSpecSchema.parse({
      name: 'vm1',
      mac: '52:54:00:77:00:09',
      memoryMiB: 160,
      kernel: image.kernel,
      initrd: image.initrd,
      append: 'console=ttyS0 quiet panic=1 no_timer_check fw.ip=10.77.0.9/24',
    });
    const config = agentConfigSchema.parse({
      host: 'h1',
      controller: 'ws://127.0.0.1:1',
      runDir: join(folder, 'h1'),
      ovs: { db: ovs.remote, bridge: 'br0' },
      guests: [spec],
    });
    const child = inNamespace(`
      const { createQemuDriver } = await import(${JSON.stringify(`${DIST}/agent/io/qemuDriver.js`)});
      const { systemClock } = await import(${JSON.stringify(`${DIST}/contracts/clock.js`)});
      const driver = createQemuDriver({ config: ${JSON.stringify(config)}, clock: systemClock(), log: () => {} });
      await driver.open(() => {});
      console.log(JSON.stringify(driver.guests()));
      await new Promise((go) => process.stdin.once('data', go));
      await driver.close({ stopGuests: true });
      process.exit(0);`);
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    const [guest] = JSON.parse(await new Promise<string>((first) => lines.once('line', first))) as [
      { portName: string; state: string },
    ];
    const tap = tapName('h1', 'vm1');
    expect(guest).toMatchObject({ portName: tap, state: 'running' });
    expect(ovs.vsctl('get', 'Port', tap, 'external_ids:fairway-guest')).toBe('vm1');
    expect(ovs.vsctl('get', 'Interface', tap, 'external_ids:attached-mac')).toBe('"52:54:00:77:00:09"');
    ovs.inside('ip', 'addr', 'replace', '10.77.0.1/24', 'dev', 'br0');
    ovs.inside('ip', 'link', 'set', 'br0', 'up');
    await until(
      () => {
        try {
          ovs.inside('ping', '-c', '1', '-W', '1', '10.77.0.9');
          return true;
        } catch {
          return false;
        }
      },
      'the guest answers',
      60,
    );
    // Its counter can be asked for, too: TCP from the bridge to the guest and back works.
    const count = () => Number(ovs.inside('busybox', 'wget', '-q', '-O', '-', 'http://10.77.0.9/count'));
    const before = count();
    await until(() => count() > before, 'the guest counts on');

    const gone = new Promise((done) => child.once('exit', done));
    child.stdin?.write('go\n');
    expect(await gone).toBe(0);
    expect(ovs.vsctl('list-ports', 'br0').split('\n')).not.toContain(tap);
    expect(ovs.inside('ip', '-o', 'link')).not.toContain(tap);
    expect(processOf(config.runDir, 'vm1')).toBeUndefined();
  });
});
