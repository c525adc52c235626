/** The demo as a whole: controller, emulated switches and agents, and what it measured. */
import type { DemoResult } from '../../contracts/results.ts';
import { demoFailure, runDemo } from '../../sim/demo.ts';
import { demoScenario } from '../../sim/demoScenario.ts';

/** On a busy machine the demo's clock stands still now and then, and its end comes later. */
const LIMIT_MS = 280_000;

describe('the demo', () => {
  let result: DemoResult;
  const lines: { text: string; atMs: number }[] = [];

  beforeAll(async () => {
    result = await runDemo({
      json: false,
      out: (text) => lines.push({ text, atMs: performance.now() }),
      limitMs: LIMIT_MS,
    });
  }, 300_000);

  const of = (vm: string) => result.migrations.find((m) => m.vm === vm) as DemoResult['migrations'][number];

  test('moves every guest of all three priorities', () => {
    const { guests } = demoScenario(1);
    expect(result.migrations.map((m) => [m.vm, m.priority, m.to])).toEqual(
      guests.map((g) => [g.spec.name, g.priority, g.destination]),
    );
    for (const m of result.migrations) {
      expect(m.reasons.length).toBeGreaterThan(0);
      expect(m.totalMs).toBeGreaterThan(0);
      const memoryBytes = (guests.find((g) => g.spec.name === m.vm)?.spec.memoryMiB ?? 0) * 1024 * 1024;
      expect(m.bytes).toBeGreaterThanOrEqual(memoryBytes);
    }
  });

  test('a guest that dirties memory faster than it can be copied is not left on plain pre-copy', () => {
    expect(of('db1').technique).not.toBe('pre-copy');
  });

  test('groups run as their priority and the contention say', () => {
    expect([of('db1').strategy, of('web1').strategy]).toEqual(['parallel', 'parallel']);
    expect([of('log1').strategy, of('batch1').strategy]).toEqual(['serial', 'serial']);
  });

  test('the workload keeps what it is owed on every link, as measured outside the controller', () => {
    expect(result.links.length).toBeGreaterThanOrEqual(4);
    for (const l of result.links) {
      expect(l.worstWorkloadMbps).toBeGreaterThanOrEqual(0.97 * l.floorMbps);
    }
    const uplink = result.links.find((l) => l.a === 'hv1');
    expect(uplink?.beforeMbps).toBeGreaterThan(uplink?.slaFloorMbps ?? Infinity);
  });

  test('leaves nothing of ours in the switches', () => {
    expect(result.leftovers).toEqual([]);
  });

  test('without a screen it prints plain lines, progress at most one a second', () => {
    const text = lines.map((l) => l.text).join('');
    expect(text).not.toContain('\x1b');
    for (const { spec } of demoScenario(1).guests) expect(text).toContain(spec.name);
    const progress = lines.filter((l) => /^ +[0-9]+ s {2}/.test(l.text));
    expect(progress.length).toBeGreaterThan(2);
    progress.slice(1).forEach((l, i) => {
      expect(l.atMs - (progress[i]?.atMs ?? 0)).toBeGreaterThanOrEqual(990);
    });
  });
});

test('switches without queues: slices are paced and guarded by meters', async () => {
  const scenario = demoScenario(2);
  const guests = scenario.guests.filter((g) => g.spec.name === 'web1' || g.spec.name === 'batch1');
  const enforcement = new Set<string | null>();
  const result = await runDemo({
    json: true,
    out: () => {
      throw new Error('nothing may be written');
    },
    progress: (m) => enforcement.add(m.enforcement),
    limitMs: LIMIT_MS,
    scenario: { ...scenario, guests },
    hasQueues: false,
    speed: 8,
  });
  expect(result.migrations.map((m) => m.vm)).toEqual(['web1', 'batch1']);
  expect([...enforcement]).toContain('meter');
  expect([...enforcement]).not.toContain('queue');
  for (const l of result.links) expect(l.worstWorkloadMbps).toBeGreaterThanOrEqual(0.97 * l.floorMbps);
  expect(result.leftovers).toEqual([]);
}, 300_000);

test('an interrupt ends it and leaves nothing open', async () => {
  const stop = new AbortController();
  const running = runDemo({ json: true, out: () => {}, signal: stop.signal, progress: () => stop.abort() });
  await expect(running).rejects.toMatchObject({ code: 'demo.interrupted' });
}, 300_000);

test('a demo whose migration failed, or that left something behind, has failed', async () => {
  const done = { guest: 'a', state: 'done', note: null } as const;
  expect(demoFailure([done], [])).toBeUndefined();
  expect(demoFailure([done, { guest: 'b', state: 'failed', note: 'no room' }], [])?.message).toBe('b failed: no room');
  expect(demoFailure([done], ['hv1: meter 7'])?.message).toBe('left behind: hv1: meter 7');
  const scenario = demoScenario(1);
  const lost = scenario.guests.slice(0, 1).map((g) => ({ ...g, destination: 'nowhere' }));
  await expect(runDemo({ json: true, out: () => {}, scenario: { ...scenario, guests: lost } })).rejects.toMatchObject({
    code: 'HOST_UNKNOWN',
  });
}, 300_000);
