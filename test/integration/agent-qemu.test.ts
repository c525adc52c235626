/**
 * The agent with real guests: two agents on one machine, each with its own run directory, move a guest that counts aloud
 * and dirties its memory. After every move the counts of both hosts together must go on by ones: nothing lost, nothing
 * repeated, no restart. Guests have no network card here; `agent-ovs.test.ts` is about that.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type RunningAgent, startAgent } from '../../agent/io/agent.ts';
import { nonZeroBytes as sampleNonZero } from '../../agent/io/guestMemory.ts';
import { guestPaths, processOf } from '../../agent/io/guestProcess.ts';
import { connectQmp } from '../../agent/io/qmp.ts';
import { type AgentCommandOf, type AgentMessage, type GuestSpec, guestSpecSchema } from '../../contracts/agent.ts';
import { TECHNIQUES, type Technique } from '../../contracts/common.ts';
import { agentConfigSchema } from '../../contracts/config.ts';
import { silentLog } from '../../contracts/log.ts';
import { buildGuestImage, type GuestImage } from '../../sim/lab/guest/build.ts';
import { cacheDir } from '../../sim/lab/guests.ts';
import { twiceMs, Whereabouts } from '../../sim/lab/whereabouts.ts';
import { FakeController } from '../unit/agent/fakeController.ts';
import { gate } from './gate.ts';
import { readIfThere, whyNoRealGuests } from './realGuests.ts';

const { reason, real, named } = gate(whyNoRealGuests());
jest.setTimeout(600_000);

type Host = 'h1' | 'h2';
/** Below the ports that the system gives to connections of anybody. */
const FIRST_PORT = 20_000 + (process.pid % 300) * 10;
const MAIN = join(import.meta.dirname, '../../dist/cli/main.js');

let image: GuestImage;
let controller: FakeController;
let folder: string;
let agents: Partial<Record<Host, RunningAgent>>;
let lastMigration = 0;

beforeAll(async () => {
  if (reason === undefined) image = await buildGuestImage(cacheDir(), silentLog);
});
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'fw-agent-'));
  agents = {};
  controller = await FakeController.listen();
});
afterEach(async () => {
  await Promise.all(Object.values(agents).map((a) => a.close()));
  await controller.close();
  // Whatever a failed test left behind is ended by its own pid file.
  for (const host of ['h1', 'h2'] as const) {
    const pid = processOf(join(folder, host), 'vm1');
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  }
  rmSync(folder, { recursive: true });
});

const spec = (): GuestSpec =>
  guestSpecSchema.parse({
    name: 'vm1',
    mac: '52:54:00:00:00:01',
    memoryMiB: 160,
    kernel: image.kernel,
    initrd: image.initrd,
    append: 'console=ttyS0 quiet panic=1 no_timer_check fw.dirty_pages=1000 fw.dirty_mib=24 fw.count_ms=100',
  });
const runDir = (host: Host) => join(folder, host);

const configOf = (host: Host, guests: GuestSpec[]) => ({
  host,
  controller: `ws://127.0.0.1:${controller.port}`,
  migrationIp: '127.0.0.1',
  runDir: runDir(host),
  incomingPorts: [FIRST_PORT, FIRST_PORT + 9],
  guests,
});
async function start(host: Host, guests: GuestSpec[], stopGuestsOnClose = true): Promise<void> {
  const config = agentConfigSchema.parse(configOf(host, guests));
  const from = controller.heard.length;
  agents[host] = await startAgent(config, { token: 't', log: silentLog, stopGuestsOnClose });
  await controller.until((m, h) => (m.type === 'hello' && h === host ? m : undefined), from);
}

/** Processes with the guest's control socket on a host, whether or not an agent knows of them. */
const machinesOf = (host: Host): number[] => {
  const mark = guestPaths(runDir(host), 'vm1').qmp;
  const commandLine = (pid: string): string => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    } catch {
      return ''; // It has ended meanwhile.
    }
  };
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => commandLine(pid).includes(mark)).map(Number);
};

/** Numbers the guest has counted on hosts, one after the other, in the order of its console. */
function counts(...order: Host[]): number[] {
  // A guest can be stopped in the middle of a line, which it ends elsewhere.
  const console = order.map((host) => readIfThere(guestPaths(runDir(host), 'vm1').serial)).join('');
  // The last line may be half written.
  const whole = console.split('\n').slice(0, -1);
  return whole.flatMap((line) => /fw-count (\d+)\r?$/.exec(line)?.[1] ?? []).map(Number);
}
async function untilCounted(host: Host, atLeast: number): Promise<void> {
  while ((counts(host).at(-1) ?? 0) < atLeast) await new Promise((r) => setTimeout(r, 50));
}
/** The guest's own story: it counted from 1 on, by ones, wherever it was. */
function expectUnbroken(order: Host[]): void {
  const all = counts(...order);
  expect(all).toEqual(all.map((_, i) => i + 1));
}

type StartOptions = Partial<Omit<AgentCommandOf<'start'>, 'do'>>;
async function prepareAndStart(from: Host, to: Host, technique: Technique, over: StartOptions = {}) {
  const migration = `m${++lastMigration}`;
  const at = controller.heard.length;
  const prepare = { do: 'prepare', migration, guest: spec(), technique, mayTurnPostcopy: over.mayTurnPostcopy };
  // Asked twice at once, as when an answer was lost: the answers are the same.
  const [prepared, again] = await Promise.all([controller.command(to, prepare), controller.command(to, prepare)]);
  expect(prepared).toMatchObject({ ok: true });
  expect(again.value).toEqual(prepared.value);
  const { address, port } = prepared.value as { address: string; port: number };
  const started = await controller.command(from, {
    ...{ do: 'start', migration, guest: 'vm1', technique, address, port, bandwidthBps: 80e6 },
    ...{ downtimeLimitMs: 300, hybridPasses: 2, pauseBeforeSwitchover: true, ...over },
  });
  expect(started).toMatchObject({ ok: true });
  return { migration, port, at };
}
const progressOf = (migration: string, fits: (p: Extract<AgentMessage, { type: 'progress' }>['progress']) => boolean) =>
  controller.until((m) =>
    m.type === 'progress' && m.migration === migration && fits(m.progress) ? m.progress : undefined,
  );
const order = async (host: Host, command: Record<string, unknown>) => {
  expect(await controller.command(host, command)).toMatchObject({ ok: true });
};
const eventsOf = (migration: string, host: Host) =>
  controller.heard.flatMap(({ host: h, message: m }) =>
    m.type === 'event' && m.migration === migration && h === host ? [m.event] : [],
  );
/** Of the guest's memory on a host, what is not zero now. */
const nonZeroNow = async (host: Host): Promise<number> =>
  (await sampleNonZero(processOf(runDir(host), 'vm1') ?? 0, spec().memoryMiB * 2 ** 20, Math.random)) ?? 0;
const states = () =>
  (['h1', 'h2'] as const).map((h) =>
    agents[h]?.driver
      .guests()
      .map((g) => g.state)
      .join(),
  );

describe('the guest image', () => {
  real(named('is made once, and found by everyone who asks, at the same time or later'), async () => {
    const [one, two] = await Promise.all([1, 2].map(() => buildGuestImage(cacheDir(), silentLog)));
    expect(one).toEqual(two);
    expect(one).toEqual(image);
    const archive = readFileSync(image.initrd);
    for (const name of ['init\0', 'bin/busybox\0', 'modules/virtio_net.ko\0'])
      expect(archive.includes(name)).toBe(true);
  });
});

describe('a real guest', () => {
  real.each(TECHNIQUES.map((t) => [t]))(
    named('moves by %s, the pace changed on the way, and goes on counting'),
    async (technique) => {
      await start('h1', [spec()]);
      await start('h2', []);
      await untilCounted('h1', 10);
      const measured = await controller.command('h1', { do: 'measureDirtyRate', guest: 'vm1', seconds: 0.25 });
      const { migration, port, at } = await prepareAndStart('h1', 'h2', technique, {
        // A hybrid that converged before its passes were through would never go to post-copy.
        ...(technique === 'hybrid' ? { downtimeLimitMs: 1, hybridPasses: 1 } : {}),
      });
      const { stream } = await controller.event('h1', 'stream', at);
      expect(stream).toMatchObject({ sourceIp: '127.0.0.1', destinationIp: '127.0.0.1', destinationPort: port });
      // Post-copy has a second connection for urgent pages, so that "any" source port is meant.
      const post = technique === 'pre-copy' || technique === 'stop-and-copy' ? [] : ['postcopyStarted'];
      if (post.length === 0) expect(stream?.sourcePort).toBeGreaterThan(0);
      else expect(stream?.sourcePort).toBe(0);

      let heldBytes = 0;
      if (technique === 'post-copy') {
        await controller.event('h1', 'preSwitchover', at);
        heldBytes = await nonZeroNow('h1');
        await order('h1', { do: 'continueSwitchover', migration });
      }
      const slow = await progressOf(migration, (p) => p.transferredBytes > 12e6);
      // Pages that the guest waits for are not paced, so that post-copy may be above its pace for a while.
      if (technique !== 'post-copy') expect(slow.rateBps).toBeLessThan(130e6);
      await order('h1', { do: 'setBandwidth', migration, bandwidthBps: 200e6, switchoverBps: 200e6 });
      if (technique !== 'post-copy') {
        const waiting = await controller.event('h1', 'preSwitchover', at);
        expect(waiting.progress).toMatchObject({ phase: 'switchover' });
        // The guest stands still until it is told to go on.
        const before = counts('h1').length;
        await new Promise((r) => setTimeout(r, 400));
        expect(counts('h1').length).toBe(before);
        expect(states()).toEqual(['paused', 'incoming']);
        heldBytes = await nonZeroNow('h1');
        await order('h1', { do: 'continueSwitchover', migration });
      }
      await controller.event('h2', 'resumed', at);
      const { progress } = await controller.event('h1', 'completed', at);
      expect(progress).toMatchObject({ phase: 'completed', remainingBytes: 0 });
      const seconds = (progress?.elapsedMs ?? 0) / 1000;
      expect(progress?.transferredBytes).toBeGreaterThan(24 * 1024 * 1024);
      if (technique === 'stop-and-copy' || technique === 'post-copy') {
        // Each page that is not zero was sent once: as many as a sample promised while the guest stood still. Before, it was
        // still filling what it goes through.
        expect((progress?.transferredBytes ?? 0) / heldBytes).toBeGreaterThan(0.9);
        expect((progress?.transferredBytes ?? 0) / heldBytes).toBeLessThan(1.1);
        const { nonZeroBytes = 0 } = measured.value as { nonZeroBytes?: number };
        expect(nonZeroBytes / heldBytes).toBeGreaterThan(0.5);
        expect(nonZeroBytes / heldBytes).toBeLessThan(1.1);
      }
      // Faster than the first pace would have allowed from beginning to end.
      expect(((progress?.transferredBytes ?? 0) * 8) / seconds).toBeGreaterThan(85e6);

      expect(eventsOf(migration, 'h1')).toEqual(['stream', 'preSwitchover', ...post, 'completed']);
      expect(eventsOf(migration, 'h2')).toEqual(['resumed']);
      expect(states()).toEqual(['stopped', 'running']);
      await untilCounted('h2', (counts('h1').at(-1) ?? 0) + 20);
      await order('h1', { do: 'finish', migration });
      await order('h2', { do: 'finish', migration });
      expectUnbroken(['h1', 'h2']);
      expect(processOf(runDir('h1'), 'vm1')).toBeUndefined();
      expect(states()).toEqual(['', 'running']);
    },
  );

  real(named('dirties memory at about the rate it was told'), async () => {
    await start('h1', [spec()]);
    await untilCounted('h1', 40);
    const answer = await controller.command('h1', { do: 'measureDirtyRate', guest: 'vm1', seconds: 1 });
    // 1,000 pages/s are 4.1 MB/s, and the guest's own housekeeping comes on top. QEMU tells whole MiB/s.
    expect((answer.value as { dirtyBytesPerS: number }).dirtyBytesPerS).toBeGreaterThan(2e6);
    // The second control socket is for measuring tools, beside the agent.
    const tool = await connectQmp(guestPaths(runDir('h1'), 'vm1').monitor);
    expect(await tool.execute('query-status')).toMatchObject({ status: 'running' });
    tool.close();
  });

  real(named('stays when its copy is cancelled, then goes on the next try, past a port that is taken'), async () => {
    await start('h1', [spec()]);
    await start('h2', []);
    await untilCounted('h1', 10);
    const first = await prepareAndStart('h1', 'h2', 'pre-copy');
    await progressOf(first.migration, (p) => p.transferredBytes > 5e6);
    expect(await controller.command('h2', { do: 'finish', migration: first.migration })).toMatchObject({
      code: 'guest-not-arrived',
    });
    await order('h1', { do: 'cancel', migration: first.migration });
    await controller.event('h1', 'cancelled', first.at);
    await order('h2', { do: 'abandon', migration: first.migration });
    await order('h1', { do: 'finish', migration: first.migration });
    expect(states()).toEqual(['running', '']);

    // Cancelled while it waits for its switch-over: the guest is started again where it is.
    const second = await prepareAndStart('h1', 'h2', 'hybrid', { bandwidthBps: 1e9 });
    await controller.event('h1', 'preSwitchover', second.at);
    await order('h1', { do: 'cancel', migration: second.migration });
    await controller.event('h1', 'cancelled', second.at);
    await order('h2', { do: 'abandon', migration: second.migration });
    await untilCounted('h1', (counts('h1').at(-1) ?? 0) + 5);
    expectUnbroken(['h1']);

    const squatter = createServer().listen({ host: '127.0.0.1', port: FIRST_PORT });
    const third = await prepareAndStart('h1', 'h2', 'post-copy', { bandwidthBps: 1e9, pauseBeforeSwitchover: false });
    squatter.close();
    expect(third.port).toBe(FIRST_PORT + 1);
    await controller.event('h1', 'completed', third.at);
    expect(await controller.command('h1', { do: 'cancel', migration: third.migration })).toMatchObject({ ok: false });
    await untilCounted('h2', (counts('h1').at(-1) ?? 0) + 5);
    expectUnbroken(['h1', 'h2']);
  });

  real(
    named('is not disturbed by the restart of both agents in mid-copy, nor started again where it left'),
    async () => {
      await start('h1', [spec()], false);
      await start('h2', [], false);
      await untilCounted('h1', 10);
      const { migration, at } = await prepareAndStart('h1', 'h2', 'pre-copy');
      await progressOf(migration, (p) => p.transferredBytes > 5e6);
      await Promise.all(Object.values(agents).map((a) => a.close()));
      const between = controller.heard.length;
      await start('h1', [spec()], true);
      await start('h2', [], true);
      const hello = await controller.until((m, h) => (m.type === 'hello' && h === 'h1' ? m : undefined), between);
      expect(hello).toMatchObject({ guests: [{ state: 'running' }], migrations: [{ migration, role: 'source' }] });
      // The past is told again, and the present goes on.
      expect(await controller.event('h1', 'stream', between)).toEqual(await controller.event('h1', 'stream', at));
      await order('h1', { do: 'setBandwidth', migration, bandwidthBps: 1e9 });
      await controller.event('h1', 'preSwitchover', between);
      await order('h1', { do: 'continueSwitchover', migration });
      await controller.event('h2', 'resumed', between);
      await controller.event('h1', 'completed', between);
      await order('h1', { do: 'finish', migration });
      await order('h2', { do: 'finish', migration });

      // The configuration of h1 still names the guest, but it has moved away.
      await agents.h1?.close();
      await start('h1', [spec()], true);
      expect(states()).toEqual(['', 'running']);
      await untilCounted('h2', (counts('h1').at(-1) ?? 0) + 5);
      expectUnbroken(['h1', 'h2']);
    },
  );

  real(named('survives its agents’ being killed while its destination prepares, and in its switch-over'), async () => {
    const processes = new Map<Host, ChildProcess>();
    /** An agent that can be killed: a process of its own. Resolves with its hello. */
    const begin = async (host: Host) => {
      const file = join(folder, `${host}.json`);
      // Nobody is to go on by itself while agents are away.
      const config = { ...configOf(host, host === 'h1' ? [spec()] : []), switchoverWaitMs: 120_000 };
      writeFileSync(file, JSON.stringify(config));
      const from = controller.heard.length;
      const env = { ...process.env, FAIRWAY_TOKEN: 'any' };
      processes.set(host, spawn(process.execPath, [MAIN, 'agent', '--config', file], { env, stdio: 'ignore' }));
      return controller.until((m, h) => (m.type === 'hello' && h === host ? m : undefined), from);
    };
    const kill = async (...hosts: Host[]) => {
      for (const host of hosts) {
        const child = processes.get(host);
        if (child === undefined || child.exitCode !== null || child.signalCode !== null) continue;
        const gone = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGKILL');
        await gone;
      }
    };
    const monitor = (host: Host) => guestPaths(runDir(host), 'vm1').monitor;
    const watch = new Whereabouts({ h1: monitor('h1'), h2: monitor('h2') });
    try {
      await begin('h1');
      await begin('h2');
      await untilCounted('h1', 5);

      // Its machine is being started when the agent that waits for it is killed.
      const prepare = { do: 'prepare', migration: 'k1', guest: spec(), technique: 'pre-copy' };
      controller.send('h2', { type: 'command', id: 9001, command: prepare });
      while (!existsSync(guestPaths(runDir('h2'), 'vm1').record)) await new Promise((r) => setTimeout(r, 5));
      await kill('h2');
      expect(await begin('h2')).toMatchObject({ guests: [], migrations: [] });
      expect(processOf(runDir('h2'), 'vm1')).toBeUndefined();
      expect(machinesOf('h2')).toEqual([]);

      // Asked again it prepares; both agents are killed while the guest stands still before its switch-over.
      const prepared = await controller.command('h2', prepare);
      expect(prepared).toMatchObject({ ok: true });
      const { address, port } = prepared.value as { address: string; port: number };
      const migration = { do: 'start', migration: 'k1', guest: 'vm1', technique: 'pre-copy', address, port };
      const pace = { bandwidthBps: 800e6, downtimeLimitMs: 300, hybridPasses: 2, pauseBeforeSwitchover: true };
      await order('h1', { ...migration, ...pace });
      await controller.event('h1', 'preSwitchover');
      await kill('h1', 'h2');
      let from = controller.heard.length;
      expect(await begin('h1')).toMatchObject({
        guests: [{ state: 'paused' }],
        migrations: [{ migration: 'k1', role: 'source' }],
      });
      expect(await begin('h2')).toMatchObject({
        guests: [{ state: 'incoming' }],
        migrations: [{ role: 'destination' }],
      });
      await controller.event('h1', 'preSwitchover', from);

      // And as soon as it was let go: nobody has heard what became of it.
      from = controller.heard.length;
      controller.send('h1', { type: 'command', id: 9002, command: { do: 'continueSwitchover', migration: 'k1' } });
      controller.send('h2', {
        type: 'command',
        id: 9003,
        command: { do: 'measureDirtyRate', guest: 'vm1', seconds: 1 },
      });
      while (!watch.stays().some((s) => s.host === 'h2')) await new Promise((r) => setTimeout(r, 5));
      await kill('h1', 'h2');
      from = controller.heard.length;
      await Promise.all([begin('h1'), begin('h2')]);
      await controller.event('h1', 'completed', from);
      await controller.event('h2', 'resumed', from);
      await order('h1', { do: 'finish', migration: 'k1' });
      await order('h2', { do: 'finish', migration: 'k1' });
      await untilCounted('h2', (counts('h1').at(-1) ?? 0) + 5);
      expectUnbroken(['h1', 'h2']);
      expect(twiceMs(watch.stays())).toBe(0);
      expect(watch.stays().map((s) => s.host)).toEqual(['h1', 'h2']);
      expect(machinesOf('h1')).toEqual([]);
      expect(machinesOf('h2')).toHaveLength(1);
    } finally {
      await watch.stop();
      await kill('h1', 'h2');
    }
  });

  real(named('whose destination dies goes on at the source'), async () => {
    await start('h1', [spec()]);
    await start('h2', []);
    await untilCounted('h1', 10);
    const { migration, at } = await prepareAndStart('h1', 'h2', 'pre-copy');
    await progressOf(migration, (p) => p.transferredBytes > 5e6);
    process.kill(processOf(runDir('h2'), 'vm1') as number, 'SIGKILL');
    const { reason: why } = await controller.event('h1', 'failed', at);
    expect(why).toMatch(/reset|broken|EOF|write|read|closed/i);
    await order('h2', { do: 'abandon', migration });
    await untilCounted('h1', (counts('h1').at(-1) ?? 0) + 5);
    expect(states()).toEqual(['running', '']);
    expectUnbroken(['h1']);
  });

  real(named('that cannot start says what QEMU said'), async () => {
    await start('h2', []);
    const broken = { ...spec(), kernel: '/nonexistent/kernel' };
    const answer = await controller.command('h2', {
      ...{ do: 'prepare', migration: 'm0', guest: { ...broken, machine: 'no-such-machine' }, technique: 'pre-copy' },
    });
    expect(answer).toMatchObject({
      ok: false,
      code: 'machine-unsupported',
      error: expect.stringMatching(/no-such-machine/),
    });
    expect(states()[1]).toBe('');
    expect(agents.h2?.driver.migrations()).toEqual([]);
  });
});
