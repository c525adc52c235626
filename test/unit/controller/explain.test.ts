/** The record of why a migration is as it is. */
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { explainJob } from '../../../controller/core/explain.ts';
import { migrationViews } from '../../../controller/core/views.ts';
import { applyPolicyPatch } from '../../../policies/index.ts';
import { Star, type StarGuest } from './group.ts';

jest.setTimeout(300_000);

const guests: StarGuest[] = ['a', 'b', 'c', 'd', 'e'].map((name) => ({ name, host: 1, memoryMiB: 512 }));
const to2 = (...names: string[]) => names.map((guest) => ({ guest, destination: 'hv2' }));
const of = (s: Star, id: string) => explainJob(s.fabric.state, s.job(id), s.fabric.nowMs);

test('a copy that runs: technique, rate, the link that binds, and when it is done', () => {
  const s = new Star(2, guests);
  s.workload.set(1, 600);
  for (let i = 0; i < 12; i++) s.pass();
  s.ask({ moves: to2('a'), priority: 'low' });
  s.run(2);
  const e = of(s, 'm-a');
  expect(e.waits).toBeNull();
  expect(e.technique?.value).toBe(s.job('m-a').technique);
  expect(e.technique?.reasons[0]?.rule).toMatch(/^technique\./);
  expect(e.strategy?.reasons.map((r) => r.rule)).toEqual(
    expect.arrayContaining([expect.stringMatching(/^strategy\./)]),
  );
  expect(e.rate).toMatchObject({ bps: s.job('m-a').sliceBps, reason: { rule: 'reservation.low' } });
  expect(e.binding).toMatchObject({
    link: '0000000000000001:1',
    capacityBps: 1e9,
    floorBps: 500e6,
    migrations: ['m-a'],
  });
  expect(e.binding?.workloadBps).toBeCloseTo(600e6, -6);
  expect(e.summary).toContain('copying');
  expect(e.end?.basis).toBe('progress');
  const rules = e.changes.map((c) => c.rule);
  expect(rules).toEqual(expect.arrayContaining(['change.workload', 'change.priority']));
  s.run(60);
  const ended = s.job('m-a').endedAtMs ?? 0;
  expect(ended).toBeGreaterThanOrEqual(e.end?.earliestAtMs ?? Number.NaN);
  expect(ended).toBeLessThanOrEqual(e.end?.latestAtMs ?? Number.NaN);
});

test('the last of a long row, in which each waits behind all before it, is explained as fast as the first', () => {
  const row = Array.from({ length: 30 }, (_x, i) => `r${i}`);
  const s = new Star(4, [...guests, ...row.map((name) => ({ name, host: 4, memoryMiB: 512 }))]);
  for (let i = 0; i < 12; i++) s.pass();
  // b waits for a on the way out of hv1; those of the row share the way into hv3 with b, and with each other.
  const moves = [...to2('a'), ...['b', ...row].map((guest) => ({ guest, destination: 'hv3' }))];
  s.ask({ moves, priority: 'low', strategy: 'serial' });
  s.run(2);
  const e = of(s, 'm-r29');
  expect(e.waits?.reason.rule).toBe('admission.order');
  expect(e.waits?.behind).toEqual(['m-b', ...row.slice(0, -1).map((name) => `m-${name}`)]);
  expect(e.binding?.link).toBeDefined();
  expect(e.end?.basis).toBe('behind');
  expect(e.end?.expectedAtMs).toBeGreaterThan(of(s, 'm-r0').end?.expectedAtMs ?? Number.NaN);
});

test('one that waits: for whom, on which link, until when; and what would let it go', () => {
  const s = new Star(2, guests);
  s.workload.set(1, 600);
  for (let i = 0; i < 12; i++) s.pass();
  s.ask({ moves: to2('a', 'b', 'c'), priority: 'low', strategy: 'serial' });
  s.run(2);
  const e = of(s, 'm-c');
  expect(e.waits?.reason.rule).toBe('admission.serial');
  expect(e.waits?.behind).toEqual(['m-a']);
  expect(e.summary).toContain('m-a runs on 0000000000000001:1');
  expect(e.end?.basis).toBe('behind');
  expect(e.end?.expectedAtMs).toBeGreaterThan(of(s, 'm-a').end?.expectedAtMs ?? Number.NaN);
  expect(e.changes.map((c) => c.rule)).toEqual(
    expect.arrayContaining(['change.behind', 'change.parallel', 'change.priority']),
  );
  expect(e.changes.find((c) => c.rule === 'change.priority')?.rateBps).toBeGreaterThan(0);
});

test('one that shares its links by weight is forecast to have them alone when the other is done', () => {
  const s = new Star(2, guests.slice(0, 2));
  s.ask({ moves: to2('a'), priority: 'high', strategy: 'parallel' });
  s.ask({ moves: to2('b'), priority: 'low', strategy: 'parallel' });
  while (s.copies.size < 2) s.pass();
  for (let i = 0; i < 4; i++) s.pass();
  const [atMs, end] = [s.fabric.nowMs, of(s, 'm-b').end];
  const { sliceBps } = s.job('m-b');
  s.run(120);
  expect(s.job('m-b').sliceSteps.some((step) => step.rateBps > 2 * sliceBps)).toBe(true);
  const leftMs = (s.job('m-b').endedAtMs ?? Number.NaN) - atMs;
  expect(Math.abs((end?.expectedAtMs ?? Number.NaN) - atMs - leftMs)).toBeLessThan(0.15 * leftMs);
  expect((end?.latestAtMs ?? Number.NaN) - atMs).toBeLessThan(2 * leftMs);
});

test('one of a plan: the plan says when; what runs of it is explained by its progress', () => {
  const s = new Star(2, guests);
  s.ask({ moves: to2('a', 'b', 'c', 'd', 'e') });
  s.run(3);
  const waiting = [...s.fabric.state.jobs.values()].filter((j) => j.state === 'queued');
  for (const j of waiting) {
    const e = of(s, j.id);
    expect(e.waits?.reason).toMatchObject({ rule: 'planning.link', bindingLink: expect.any(String) });
    expect(e.end).toMatchObject({ basis: 'plan' });
  }
  const ends = new Map(waiting.map((j) => [j.id, of(s, j.id).end]));
  const planned = new Map(waiting.map((j) => [j.id, j.planned?.endAtMs ?? Number.NaN]));
  s.run(120);
  for (const [id, end] of ends) {
    const ended = s.job(id).endedAtMs ?? 0;
    // The order of the plan, with the time that making ready and reporting take: not worse than the plan itself.
    const offMs = (atMs: number | undefined) => Math.abs((atMs ?? Number.NaN) - ended);
    expect(offMs(end?.expectedAtMs)).toBeLessThan(offMs(planned.get(id)) + 500);
    expect(ended).toBeGreaterThanOrEqual(end?.earliestAtMs ?? Number.NaN);
    expect(ended).toBeLessThanOrEqual(end?.latestAtMs ?? Number.NaN);
    expect(of(s, id)).toMatchObject({ end: null, waits: null, changes: [], binding: null, summary: 'it is done' });
  }
});

test('what waits for a squeezed workload is forecast by what that sent before', () => {
  const s = new Star(2, guests.slice(0, 2));
  s.workload.set(1, 700);
  for (let i = 0; i < 12; i++) s.pass();
  const moves = to2('a', 'b').map((m, i) => ({ ...m, priority: i === 0 ? ('high' as const) : ('low' as const) }));
  s.ask({ moves, planned: true });
  // All that the copy of high priority leaves it: what it wants cannot be seen any more.
  s.run(2, () => s.workload.set(1, Math.min(700, (1e9 - s.job('m-a').sliceBps) / 1e6)));
  expect(s.job('m-a')).toMatchObject({ state: 'copying', sliceBps: 500e6 });
  for (let i = 0; i < 6; i++) s.pass();
  const e = of(s, 'm-b');
  expect(e.end?.basis).toBe('plan');
  s.run(60, () => s.workload.set(1, Math.min(700, (1e9 - s.job('m-a').sliceBps) / 1e6)));
  const ended = s.job('m-b').endedAtMs ?? 0;
  expect(ended).toBeGreaterThanOrEqual(e.end?.earliestAtMs ?? Number.NaN);
  expect(ended).toBeLessThanOrEqual(e.end?.latestAtMs ?? Number.NaN);
});

test('the floor is the one that holds for the guest; and higher priority would pass those that are less urgent', () => {
  const policy = applyPolicyPatch(DEFAULT_POLICY, { 'overrides.guests.a.sla.floor': '60 %' });
  const s = new Star(2, guests, { policy });
  s.ask({ moves: to2('a', 'b', 'c', 'd', 'e'), priority: 'low' });
  s.run(3);
  expect(of(s, 'm-a').binding).toMatchObject({ floorBps: 600e6 });
  const waiting = [...s.fabric.state.jobs.values()].filter((j) => j.planned !== null && j.state === 'queued');
  waiting.sort((x, y) => (x.planned?.startAtMs ?? 0) - (y.planned?.startAtMs ?? 0));
  const [first, last] = [waiting[0]?.id ?? '', waiting.at(-1)?.id ?? ''];
  expect(of(s, last).binding).toMatchObject({ floorBps: 500e6 });
  const order = (id: string) => of(s, id).changes.find((c) => c.rule === 'change.order');
  expect(order(first)).toBeUndefined();
  expect(order(last)?.text).toContain(`planned before ${first}`);
});

test('a pre-copy that was asked for and does not converge may never end, and says so', () => {
  const s = new Star(2, guests.slice(0, 1));
  const { answer } = s.fabric;
  s.fabric.answer = (host, c) => (c.do === 'measureDirtyRate' ? { value: { dirtyBytesPerS: 200e6 } } : answer(host, c));
  s.ask({ moves: to2('a'), technique: 'pre-copy' });
  s.run(2);
  const e = of(s, 'm-a');
  expect(e.technique?.reasons.map((r) => r.rule)).toContain('technique.notConverging');
  expect(e.end).toMatchObject({ latestAtMs: null, earliestAtMs: expect.any(Number) });
});

test('one that has ended says what it had last', () => {
  const s = new Star(2, guests.slice(0, 1));
  s.ask({ moves: to2('a') });
  s.run(60);
  expect(of(s, 'm-a')).toMatchObject({
    summary: 'it is done',
    end: null,
    rate: { reason: { rule: expect.stringMatching(/^reservation\./) } },
  });
  expect(of(s, 'm-a').rate?.bps).toBeGreaterThan(0);
});

test('views carry it, but not of hundreds at a time', () => {
  const many: StarGuest[] = Array.from({ length: 60 }, (_x, i) => ({ name: `g${i}`, host: 1, memoryMiB: 64 }));
  const s = new Star(2, many);
  s.ask({ moves: to2('g0', 'g1') });
  s.pass();
  const views = () => migrationViews(s.fabric.state, [...s.fabric.state.jobs.values()], s.fabric.nowMs);
  expect(views().every((v) => v.explanation !== undefined)).toBe(true);
  s.ask({ moves: to2(...many.slice(2).map((g) => g.name)) });
  s.pass();
  expect(views().every((v) => v.explanation === undefined)).toBe(true);
});
