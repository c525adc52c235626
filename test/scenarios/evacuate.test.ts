/**
 * `fairway evacuate` as a process beside an emulated data centre: guests of three priorities, with rules and deadlines, leave a
 * loaded host; one cannot be placed; and a link loses half its capacity on the way.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import type { GuestSpec } from '../../contracts/agent.ts';
import type { Explanation, MigrationView } from '../../contracts/feed.ts';
import type { Evacuation } from '../../contracts/rest.ts';
import type { DemoScenario } from '../../sim/demoScenario.ts';
import { openStage, type Stage } from '../../sim/stage.ts';

jest.setTimeout(600_000);

const MBPS = 1e6;
const HOSTS = ['hv1', 'hv2', 'hv3', 'hv4'];
const MAIN = join(import.meta.dirname, '../../dist/cli/main.js');

type Wish = [name: string, host: string, memoryMiB: number, labels: Record<string, string>, dirtyMbPerS: number];
const GUESTS: Wish[] = [
  ['db1', 'hv1', 384, { priority: 'high', apart: 'db' }, 6],
  ['db2', 'hv1', 384, { priority: 'high', apart: 'db' }, 6],
  ['web1', 'hv1', 256, { together: 'shop' }, 3],
  ['web2', 'hv1', 256, { together: 'shop' }, 3],
  ['log1', 'hv1', 256, { priority: 'low' }, 1],
  ['log2', 'hv1', 256, { priority: 'low' }, 1],
  ['gpu1', 'hv1', 256, { 'only-on': 'gpu' }, 1],
  ['db3', 'hv4', 256, { apart: 'db' }, 1],
];

function scenario(): DemoScenario {
  const guests = GUESTS.map(([name, host, memoryMiB, labels, dirty], i) => {
    const spec: GuestSpec = {
      name,
      mac: `52:54:00:e7:ac:${(i + 1).toString(16).padStart(2, '0')}`,
      memoryMiB,
      vcpus: 1,
      machine: 'pc',
      accel: 'emulated',
      ip: `10.0.1.${i + 1}`,
      labels,
      dirtyPagesPerS: Math.round((dirty * 1e6) / 4096),
      workingSetMiB: 16,
    };
    return { spec, host, destination: 'hv2', priority: 'medium' as const };
  });
  return {
    guests,
    network: {
      switches: [...HOSTS, 'leaf'],
      links: HOSTS.map((h) => ({ a: h, b: 'leaf', capacityBps: 1000 * MBPS })),
      hosts: HOSTS.map((name, i) => ({ name, migrationIp: `10.0.0.${i + 1}` })),
      clients: [{ name: 'clients', switch: 'leaf', ip: '10.0.2.1', speedBps: 10_000 * MBPS }],
      workload: [
        { id: 'up', from: 'db1', to: 'clients', offeredBps: 200 * MBPS, connections: 4 },
        { id: 'down', from: 'clients', to: 'web1', offeredBps: 100 * MBPS, connections: 4 },
      ],
      guestBps: 1000 * MBPS,
      hostBps: 10_000 * MBPS,
    },
  };
}

const stop = new AbortController();
let stage: Stage;

beforeAll(async () => {
  stage = await openStage(scenario(), {
    speed: 4,
    signal: stop.signal,
    agentOf: (host) => ({ guestMemoryMiB: host === 'hv4' ? 700 : 4096 }),
  });
  await new Promise<void>((done) => {
    stage.clock.after(6000, done);
  });
}, 300_000);
afterAll(async () => {
  stop.abort();
  await stage?.close();
});

/** Runs `fairway` to its end. */
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

test('a dry run shows where guests would go, when, at what rate and why, and starts nothing', async () => {
  const { status, out } = await fairway('evacuate', 'hv1', '--dry-run', '--json', '--deadline', 'log2=2m');
  expect(status).toBe(1);
  const e = JSON.parse(out) as Evacuation;
  expect(e.moves.map((m) => m.guest).sort()).toEqual(['db1', 'db2', 'log1', 'log2', 'web1', 'web2']);
  expect(e.refused).toEqual([{ guest: 'gpu1', reason: expect.stringContaining('only for hosts with gpu') }]);
  const to = Object.fromEntries(e.moves.map((m) => [m.guest, m.destination]));
  expect(new Set([to.db1, to.db2, 'hv4']).size).toBe(3);
  expect(to.web1).toBe(to.web2);
  expect(Object.fromEntries(e.moves.map((m) => [m.guest, m.priority]))).toEqual({
    db1: 'high',
    db2: 'high',
    web1: 'medium',
    web2: 'medium',
    log1: 'low',
    log2: 'low',
  });
  // One uplink: the more urgent have it first.
  const ends = (p: string) => e.moves.filter((m) => m.priority === p).map((m) => m.plan.endAtMs);
  const starts = (p: string) => e.moves.filter((m) => m.priority === p).map((m) => m.plan.startAtMs);
  expect(Math.max(...ends('high'))).toBeLessThanOrEqual(Math.min(...starts('medium')));
  expect(e.moves.find((m) => m.guest === 'log2')?.deadlineMs).toBeGreaterThan(0);
  for (const m of e.moves) expect(m.plan.rateBps).toBeGreaterThan(0);
  expect((await stage.client.status()).migrations).toEqual([]);

  const text = await fairway('evacuate', 'hv1', '--dry-run');
  expect(text.out).toMatch(/^hv1: 6 guests to move, in [0-9.]+ s/);
  expect(text.out).toMatch(/db1 +hv1 → hv[23] +high +[0-9.]+ Mbit\/s +[0-9.]+ +[0-9.]+ +[·#]+/);
  expect(text.out).toContain('cannot be placed: gpu1: no host can take it');
});

test('an unknown host, or a guest that is not there, is an error that names the cure', async () => {
  const unknown = await fairway('evacuate', 'hv9', '--dry-run');
  expect(unknown).toMatchObject({ status: 2, err: expect.stringContaining('known hosts: hv1, hv2, hv3, hv4') });
  expect((await fairway('evacuate', 'hv1', '--deadline', 'soon')).status).toBe(2);
});

test('the guests move as planned, also when a link loses half its capacity on the way', async () => {
  const before = stage.clock.now();
  const running = fairway('evacuate', 'hv1', '--yes', '--deadline', 'log2=5m');
  const views = async () => (await stage.client.status()).migrations;
  for (let first: MigrationView | undefined; first === undefined; ) {
    first = (await views()).find((m) => m.state === 'copying');
    await new Promise((r) => setTimeout(r, 50));
  }
  stage.dc.setCapacity('hv1', 'leaf', 500 * MBPS);
  const { status, out } = await running;
  // The one that cannot be placed is still there.
  expect(status).toBe(1);
  const moved = await views();
  expect(moved.map((m) => m.state)).toEqual(moved.map(() => 'done'));
  expect(moved).toHaveLength(6);
  expect(out).toMatch(/6 guests moved in [0-9.]+ s, 1 guest could not be placed\n$/);
  const { topology } = await stage.client.status();
  expect(topology.guests?.filter((g) => g.host === 'hv1').map((g) => g.name)).toEqual(['gpu1']);

  // No priority inversion: who is less urgent began when the more urgent copies were done.
  const rank = { high: 0, medium: 1, low: 2 };
  for (const a of moved)
    for (const b of moved)
      if (rank[a.priority] < rank[b.priority])
        expect(b.startedAtMs ?? 0).toBeGreaterThanOrEqual((a.endedAtMs ?? Number.NaN) - 100);
  expect(moved.find((m) => m.guest === 'log2')?.endedAtMs).toBeLessThan(before + 300_000);

  // The plan was made anew because of it, and said so.
  const rules: string[] = [];
  const seen = new AbortController();
  await stage.client.follow(
    ['decisions'],
    (e) => {
      if (!('topic' in e) || e.topic !== 'decisions') return;
      for (const d of e.data.decisions) if (d.kind === 'planning' && d.migration === null) rules.push(d.reason.rule);
      seen.abort();
    },
    seen.signal,
  );
  expect(rules.some((r) => r === 'planning.drift' || r === 'planning.capacity')).toBe(true);
  // Not for ever: it came to rest.
  expect(rules.length).toBeLessThan(15);

  // The workload kept its floor, as measured in the data centre.
  const link = stage.dc.links.find((l) => l.from === 'hv1');
  const short = stage.dc
    .history(link?.id ?? '')
    .filter((s) => s.atMs > before && s.workloadBps < 0.9 * Math.min(s.wantedBps, 250 * MBPS));
  expect(short.length).toBeLessThanOrEqual(2);
}, 300_000);

test('explanations say when it will be done, and mostly it is within their interval', async () => {
  // Back to where they came from: all but one guest go to the host that was emptied.
  const { topology } = await stage.client.status();
  const guests = (topology.guests ?? []).filter((g) => g.host !== 'hv1' && g.name !== 'db3').map((g) => g.name);
  const said: { id: string; atMs: number; earliestMs: number; latestMs: number; basis: string }[] = [];
  const latest = new Map<string, MigrationView>();
  const over = new AbortController();
  const { migrations, group } = await stage.client.migrate({
    moves: guests.map((guest) => ({ guest, destination: 'hv1', priority: guest < 'l' ? 'high' : 'low' })),
  });
  const following = stage.client.follow(
    ['migrations'],
    (e) => {
      if (!('topic' in e) || e.topic !== 'migrations') return;
      for (const m of e.data.migrations.filter((x) => x.group === group)) {
        latest.set(m.id, m);
        const end = m.explanation?.end;
        if (end)
          said.push({
            id: m.id,
            atMs: m.explanation?.atMs ?? 0,
            earliestMs: end.earliestAtMs,
            latestMs: end.latestAtMs ?? Number.POSITIVE_INFINITY,
            basis: end.basis,
          });
      }
      if (latest.size === migrations.length && [...latest.values()].every((m) => m.state === 'done')) over.abort();
    },
    over.signal,
  );
  for (let n = 0; n === 0; ) {
    n = [...latest.values()].filter((m) => m.state === 'copying').length;
    await new Promise((r) => setTimeout(r, 50));
  }
  // The last of all: it still waits when the command has started.
  const last = [...latest.values()]
    .filter((m) => m.state === 'queued')
    .sort((a, b) => (b.plan?.startAtMs ?? 0) - (a.plan?.startAtMs ?? 0))[0];
  const waiting = last?.guest ?? '';
  const json = await fairway('explain', waiting, '--json');
  expect(json.status).toBe(0);
  const record = JSON.parse(json.out) as Explanation;
  expect(record).toMatchObject({
    waits: { behind: expect.any(Array) },
    end: { basis: 'plan' },
    binding: { link: expect.any(String) },
  });
  const text = await fairway('explain', waiting);
  expect(text.out).toMatch(/^waits +planned: \w+:\d+->\w+ is used until then/m);
  expect(text.out).toMatch(/^done +in [0-9.]+ m?s, between in .* \(by the plan\)$/m);
  expect((await fairway('explain', 'nobody')).status).toBe(2);
  await following;

  const held = (list: typeof said) => {
    const within = list.filter((x) => {
      const end = latest.get(x.id)?.endedAtMs ?? Number.NaN;
      return x.earliestMs <= end && end <= x.latestMs;
    });
    return within.length / Math.max(1, list.length);
  };
  const running = said.filter((x) => x.basis === 'progress' || x.basis === 'model');
  expect(running.length).toBeGreaterThan(10);
  const figures = `intervals that held: ${Math.round(100 * held(running))} % of ${running.length} of running copies, ${Math.round(100 * held(said))} % of all ${said.length}`;
  process.stdout.write(`${figures}\n`);
  expect(held(running)).toBeGreaterThanOrEqual(0.9);
  expect(held(said)).toBeGreaterThanOrEqual(0.9);
}, 300_000);
