/**
 * `fairway pull` as a process beside an emulated data centre: a guest's disk that was left behind is fetched in a slice of low
 * priority, which yields to the workload, grows when that sends less, and is gone when the pull is stopped or done.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { GuestSpec } from '../../contracts/agent.ts';
import type { MigrationView } from '../../contracts/feed.ts';
import { FEATURE, parseCookie } from '../../controller/core/cookies.ts';
import type { DemoScenario } from '../../sim/demoScenario.ts';
import { openStage, type Stage } from '../../sim/stage.ts';

jest.setTimeout(600_000);

const MBPS = 1e6;
const SPEED = 4;
const WORKLOAD = 130 * MBPS;
const MAIN = join(import.meta.dirname, '../../dist/cli/main.js');

function scenario(): DemoScenario {
  const spec = (name: string, i: number, more: Partial<GuestSpec> = {}): GuestSpec => ({
    name,
    mac: `52:54:00:e7:ad:0${i}`,
    memoryMiB: 32,
    vcpus: 1,
    machine: 'pc',
    accel: 'emulated',
    ip: `10.0.1.${i}`,
    dirtyPagesPerS: 10,
    workingSetMiB: 4,
    ...more,
  });
  const disks = [{ path: '/disks/db1.img', sizeBytes: 150 * 2 ** 20, format: 'raw' as const }];
  const guests = [spec('db1', 1, { disks }), spec('web1', 2)];
  return {
    guests: guests.map((g) => ({ spec: g, host: 'hv1', destination: 'hv2', priority: 'medium' as const })),
    network: {
      switches: ['hv1', 'hv2', 'leaf'],
      links: ['hv1', 'hv2'].map((h) => ({ a: h, b: 'leaf', capacityBps: 200 * MBPS })),
      hosts: ['hv1', 'hv2'].map((name, i) => ({ name, migrationIp: `10.0.0.${i + 1}` })),
      clients: [{ name: 'clients', switch: 'leaf', ip: '10.0.2.1', speedBps: 10_000 * MBPS }],
      workload: [{ id: 'up', from: 'web1', to: 'clients', offeredBps: WORKLOAD, connections: 4 }],
      guestBps: 1000 * MBPS,
      hostBps: 10_000 * MBPS,
    },
  };
}

const stop = new AbortController();
let stage: Stage;
beforeAll(async () => {
  stage = await openStage(scenario(), { speed: SPEED, signal: stop.signal });
  await passes(6000);
}, 300_000);
afterAll(async () => {
  stop.abort();
  await stage?.close();
});

const passes = (ms: number) =>
  new Promise<void>((done) => {
    stage.clock.after(ms, done);
  });
function fairway(...args: string[]): Promise<{ status: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, [MAIN, ...args, '--url', stage.url], {
    env: { ...process.env, FAIRWAY_TOKEN: stage.token },
  });
  let out = '';
  let err = '';
  child.stdout.on('data', (b) => {
    out += String(b);
  });
  child.stderr.on('data', (b) => {
    err += String(b);
  });
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, out, err })));
}
/** The slices of hv1's uplink. */
async function slices() {
  const { slices: view, topology } = await stage.client.status();
  const hv1 = topology.switches.find((s) => s.name === 'hv1')?.dpid;
  return view.links.find((l) => l.id.startsWith(`${hv1}:`))?.slices ?? [];
}
async function until<T>(what: () => Promise<T | undefined | false>): Promise<T> {
  for (;;) {
    const found = await what();
    if (found !== undefined && found !== false) return found;
    await passes(200);
  }
}

test('a disk left behind is pulled in a slice that yields to the workload; stopped, begun again, and done', async () => {
  const migrate = await fairway(
    'migrate',
    'db1',
    '--to',
    'hv2',
    '--storage',
    'on-demand',
    '--priority',
    'high',
    '--wait',
  );
  expect(migrate).toMatchObject({ status: 0 });
  const before = await fairway('pull', 'db1');
  expect(before).toMatchObject({ status: 1, err: expect.stringMatching(/nobody pulls its disks: give --rate/) });
  expect(await slices()).toEqual([]);

  const asked = await fairway('pull', 'db1', '--rate', '150 Mbit/s', '--json');
  expect(asked.status).toBe(0);
  const { id } = JSON.parse(asked.out) as MigrationView;
  await until(async () => (await stage.client.migration(id)).pull?.state === 'running');
  const link = stage.dc.links.find((l) => l.from === 'hv1' && l.to === 'leaf');
  const fromMs = stage.clock.now() + 2000;
  // Where this process seldom gets to run, a second of the clock may be missing in the history.
  const history = () => stage.dc.history(link?.id ?? '').filter((s) => s.atMs >= fromMs);
  await until(async () => history().length > 2);
  const [own, ...others] = await slices();
  expect(others).toEqual([]);
  expect(own).toMatchObject({ migration: id, priority: 'low', isPull: true });
  // A workload of 130 of 200 leaves a low priority less than 70.
  expect(own?.rateBps).toBeLessThan(70 * MBPS);
  for (const s of history()) {
    expect(s.workloadBps).toBeGreaterThan(WORKLOAD * 0.97);
    expect(s.migrationBps).toBeGreaterThan(0);
    expect(s.migrationBps).toBeLessThan(70 * MBPS);
  }

  // The workload sends less: the slice grows up to the floor that is kept for it, and the pace with it.
  stage.dc.offer('up', 10 * MBPS);
  const grown = await until(async () => {
    const p = (await stage.client.migration(id)).pull;
    return p !== undefined && p.sliceBps > 90 * MBPS && p;
  });
  expect(grown).toMatchObject({ state: 'running', reason: { rule: 'reservation.low' } });
  expect(grown.sliceBps).toBeLessThanOrEqual(100 * MBPS);
  // Slowed down, so that it is not over before it is looked at.
  await stage.client.pull(id, 2 * MBPS);
  await until(async () => (await stage.client.migration(id)).pull?.pacedBps === 2 * MBPS);
  expect((await fairway('explain', 'db1')).out).toMatch(/pull +running at 2\.0 Mbit\/s.* asked for: 2\.0 Mbit\/s/);

  expect((await fairway('pull', 'db1', '--stop')).status).toBe(0);
  await until(async () => (await stage.client.migration(id)).pull?.state === 'stopped');
  expect(await slices()).toEqual([]);
  expect((await fairway('explain', 'db1')).out).toMatch(/is at hv1, and nothing pulls it/);

  const last = await fairway('pull', id, '--rate', '150 Mbit/s', '--wait');
  expect(last.status).toBe(0);
  expect(last.out).toMatch(/100 % +done, all of the disks is there\n$/);
  await until(async () => (await slices()).length === 0);
  // Nothing is left of it: no flow, no queue, and the source has let the guest go.
  const isOfStream = (cookie: bigint) => {
    const feature = parseCookie(cookie)?.feature;
    return feature === FEATURE.stream || feature === FEATURE.answer;
  };
  await until(async () => stage.dc.leftovers(isOfStream).every((x) => x.includes(': group ')));
  expect(await fairway('pull', id, '--rate', '1 Mbit/s')).toMatchObject({
    status: 1,
    err: expect.stringMatching(/all of the disks of db1 is at hv2 already/),
  });
  expect((await fairway('migrate', 'db1', '--to', 'hv1', '--storage', 'shared', '--wait')).status).toBe(0);
});
