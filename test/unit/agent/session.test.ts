/** The agent's session: a WebSocket server plays the controller, the driver is the emulated one. */
import { type RunningAgent, startAgent } from '../../../agent/io/agent.ts';
import { createEmulatedDriver, createEmulatedFabric } from '../../../agent/io/emulatedDriver.ts';
import { guestSpecSchema } from '../../../contracts/agent.ts';
import { systemClock } from '../../../contracts/clock.ts';
import { TECHNIQUES } from '../../../contracts/common.ts';
import { agentConfigSchema } from '../../../contracts/config.ts';
import { silentLog } from '../../../contracts/log.ts';
import { freePort } from '../../freePort.ts';
import { FakeController } from './fakeController.ts';

const spec = guestSpecSchema.parse({
  name: 'vm1',
  mac: '52:54:00:00:00:01',
  memoryMiB: 64,
  accel: 'emulated',
  dirtyPagesPerS: 100,
  workingSetMiB: 8,
});

describe("the agent's session", () => {
  let controller: FakeController;
  let agents: RunningAgent[] = [];
  const fabric = createEmulatedFabric();
  // Not faster: an agent that hears nothing for 15 s of this clock takes its controller for dead.
  const clock = systemClock(8);
  let lastIp = 0;

  async function agent(
    host: string,
    guests = [spec],
    kind: 'emulated' | 'qmp' = 'emulated',
    guestMemoryMiB?: number,
  ): Promise<RunningAgent> {
    const config = agentConfigSchema.parse({
      host,
      controller: `ws://127.0.0.1:${controller.port}`,
      driver: 'emulated',
      migrationIp: `192.0.2.${++lastIp}`,
      guests,
      guestMemoryMiB,
    });
    const driver = { ...createEmulatedDriver({ config, clock, log: silentLog, fabric }), kind };
    const a = await startAgent(config, {
      token: 'secret',
      log: silentLog,
      clock,
      driver,
      stopGuestsOnClose: true,
      random: () => 0,
    });
    agents.push(a);
    return a;
  }
  const hello = (host: string, from = 0) =>
    controller.until((m, h) => (m.type === 'hello' && h === host ? m : undefined), from);

  beforeEach(async () => {
    controller = await FakeController.listen(await freePort());
  });
  afterEach(async () => {
    await Promise.all(agents.map((a) => a.close()));
    agents = [];
    await controller.close();
  });

  test('presents its token, says who it is, and reports its load', async () => {
    await agent('h1');
    expect(await hello('h1')).toMatchObject({
      protocol: 'fairway-agent/1',
      driver: 'emulated',
      techniques: [...TECHNIQUES],
      abilities: { techniques: [...TECHNIQUES], holdsSwitchover: 'stopped' },
      guests: [{ spec: { name: 'vm1' }, state: 'running', portName: 'tap-vm1' }],
      migrations: [],
    });
    expect(controller.authorizations[0]).toBe('Bearer secret');
    const load = await controller.until((m) => (m.type === 'telemetry' ? m.host : undefined));
    expect(load.memoryTotalBytes).toBeGreaterThan(0);
  });

  test('says how much memory guests may have: as configured, else what is found where guests are real', async () => {
    await agent('h1');
    expect(await hello('h1')).not.toHaveProperty('guestMemoryMiB');
    await agent('h2', [spec], 'qmp');
    expect((await hello('h2')).guestMemoryMiB).toBeGreaterThan(0);
    await agent('h3', [spec], 'qmp', 1234);
    expect(await hello('h3')).toMatchObject({ guestMemoryMiB: 1234 });
  });

  test('says nothing but hello until it is welcome', async () => {
    controller.welcomes = false;
    const a = await agent('h1');
    await hello('h1');
    await a.driver.launch(guestSpecSchema.parse({ ...spec, name: 'vm2', mac: '52:54:00:00:00:02' }));
    const answer = await controller.command('h1', { do: 'finish', migration: 'm1' });
    expect(answer.ok).toBe(true);
    expect(controller.heard.map((x) => x.message.type)).toEqual(['hello', 'result']);
  });

  test('moves a guest as told, and tells what happened', async () => {
    await agent('h1');
    await agent('h2', []);
    await Promise.all([hello('h1'), hello('h2')]);
    const technique = 'hybrid';
    const prepared = await controller.command('h2', { do: 'prepare', migration: 'm1', guest: spec, technique });
    const { address, port } = prepared.value as { address: string; port: number };
    const start = {
      ...{ do: 'start', migration: 'm1', guest: 'vm1', technique, address, port },
      ...{ bandwidthBps: 100e6, downtimeLimitMs: 300, hybridPasses: 2, pauseBeforeSwitchover: true },
    };
    expect(await controller.command('h1', start)).toMatchObject({ ok: true });
    expect((await controller.event('h1', 'stream')).stream).toMatchObject({
      destinationIp: address,
      destinationPort: port,
    });
    await controller.event('h1', 'preSwitchover');
    expect(await controller.command('h1', { do: 'continueSwitchover', migration: 'm1' })).toMatchObject({ ok: true });
    await controller.event('h2', 'resumed');
    await controller.event('h1', 'completed');
    const progress = controller.heard.filter((x) => x.message.type === 'progress');
    expect(progress.length).toBeGreaterThan(1);
    expect(await controller.command('h1', { do: 'finish', migration: 'm1' })).toMatchObject({ ok: true });
  });

  test('refusals carry a code and a reason, whatever was wrong', async () => {
    await agent('h1');
    await hello('h1');
    expect(await controller.command('h1', { do: 'cancel', migration: 'm7' })).toMatchObject({
      ok: false,
      code: 'migration-unknown',
    });
    expect(await controller.command('h1', { do: 'fly' })).toMatchObject({ ok: false, code: 'bad-command' });
    const bad = await controller.command('h1', { do: 'setBandwidth', migration: '../etc', bandwidthBps: -1 });
    expect(bad).toMatchObject({ ok: false, code: 'bad-command', error: expect.stringMatching(/migration/) });
    controller.send('h1', '{not json');
    controller.send('h1', '42');
    expect(await controller.command('h1', { do: 'finish', migration: 'm7' })).toMatchObject({ ok: true });
  });

  test('goes on with the copy while the controller is away, and tells the whole story when it is back', async () => {
    await agent('h1');
    await agent('h2', []);
    await Promise.all([hello('h1'), hello('h2')]);
    const prepared = await controller.command('h2', {
      do: 'prepare',
      migration: 'm1',
      guest: spec,
      technique: 'pre-copy',
    });
    const { address, port } = prepared.value as { address: string; port: number };
    await controller.command('h1', {
      ...{ do: 'start', migration: 'm1', guest: 'vm1', technique: 'pre-copy', address, port },
      ...{ bandwidthBps: 100e6, downtimeLimitMs: 300, hybridPasses: 2, pauseBeforeSwitchover: false },
    });
    const { port: sameControllerPort } = controller;
    await controller.close();
    const [h1, h2] = agents.map((a) => a.driver);
    if (!h1 || !h2) throw new Error('two agents were started');
    while (h2.guests()[0]?.state !== 'running') await new Promise((resolve) => setTimeout(resolve, 10));
    expect(h1.migrations()).toHaveLength(1);

    controller = await FakeController.listen(sameControllerPort);
    expect(await hello('h1')).toMatchObject({
      guests: [{ state: 'stopped' }],
      migrations: [{ migration: 'm1', guest: 'vm1', role: 'source', progress: { phase: 'completed' } }],
    });
    await controller.event('h1', 'stream');
    await controller.event('h1', 'completed');
    await controller.event('h2', 'resumed');
    expect(await controller.command('h1', { do: 'finish', migration: 'm1' })).toMatchObject({ ok: true });
  });

  test('an agent that is refused tries again, later', async () => {
    controller.welcomes = false;
    await agent('h1');
    await hello('h1');
    controller.welcomes = true;
    const from = controller.heard.length;
    controller.send('h1', { type: 'refused', reason: 'another agent speaks for h1' });
    await hello('h1', from);
    expect(controller.connections).toBe(2);
  });

  test('of two controllers it obeys the one in charge in the newer term, and no older one any more', async () => {
    const other = await FakeController.listen();
    controller.standing = { role: 'primary', term: '3' };
    other.standing = { role: 'standby', term: '3' };
    const urls = [controller, other].map((c) => `ws://127.0.0.1:${c.port}`);
    const config = agentConfigSchema.parse({ host: 'h1', controller: urls, driver: 'emulated', guests: [spec] });
    const driver = createEmulatedDriver({ config, clock, log: silentLog, fabric });
    agents.push(await startAgent(config, { token: 'secret', log: silentLog, clock, driver, stopGuestsOnClose: true }));
    expect((await hello('h1')).term).toBeUndefined();
    expect(await controller.command('h1', { do: 'finish', migration: 'm1' })).toMatchObject({ ok: true });

    // They do not see each other: the second takes over, and the first has not heard of it.
    const heard = other.heard.length;
    other.standing = { role: 'primary', term: '4' };
    const said = await other.until((m) => (m.type === 'hello' ? m : undefined), heard);
    expect(said.term).toBe('4');
    expect(await other.command('h1', { do: 'finish', migration: 'm1' })).toMatchObject({ ok: true });

    // The second is gone: the first welcomes the agent in its old term, and is not obeyed.
    const before = controller.heard.length;
    await other.close();
    const again = await controller.until((m) => (m.type === 'hello' ? m : undefined), before);
    expect(again.term).toBe('4');
    const asked = controller.heard.length;
    controller.standing = { role: 'primary', term: '5' };
    await controller.until((m) => (m.type === 'guests' ? m : undefined), before);
    expect(controller.heard.slice(before, asked).map((x) => x.message.type)).not.toContain('guests');
  });
});
