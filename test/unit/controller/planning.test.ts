/** Groups in the running controller: planned as a whole, started in turn, planned anew when reality drifts. */
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { planJobs } from '../../../controller/core/planning.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import { compilePolicy } from '../../../policies/index.ts';
import { checkPlan } from '../../../policies/planCheck/index.ts';
import { Star, type StarGuest } from './group.ts';

jest.setTimeout(300_000);

const six: StarGuest[] = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => ({ name, host: 1, memoryMiB: 512 }));
const to = (destination: number, guests: readonly string[]) =>
  guests.map((guest) => ({ guest, destination: `hv${destination}` }));
const decided = (s: Star, rule: string) => s.fabric.state.decisions.filter((d) => d.reason.rule === rule);

test('a group is planned: one after the other over the shared link, each with start, end and reason', () => {
  const s = new Star(2, six);
  const ids = s.ask({ moves: to(2, ['a', 'b', 'c', 'd', 'e', 'f']) });
  s.pass();
  const jobs = ids.map((id) => s.job(id));
  expect(jobs.filter((j) => j.state === 'queued')).toHaveLength(5);
  expect(s.copies.size).toBe(1);
  const planned = jobs
    .flatMap((j) => (j.state === 'queued' ? [j.planned] : []))
    .sort((x, y) => (x?.startAtMs ?? 0) - (y?.startAtMs ?? 0));
  for (const [i, p] of planned.entries()) {
    expect(p?.reason.rule).toBe('planning.link');
    expect(p?.reason.bindingLink).toMatch(/^[0-9a-f]{16}:\d+$/);
    expect(p?.after).toHaveLength(1);
    const next = planned[i + 1];
    if (next) expect(next.startAtMs).toBeGreaterThanOrEqual(p?.endAtMs ?? Number.NaN);
  }
  expect(jobs.find((j) => j.state === 'queued')?.note).toContain('is used until then');
  s.run(120);
  expect(ids.map((id) => s.job(id).state)).toEqual(ids.map(() => 'done'));
  expect(s.fabric.state.plan).toBeNull();
  expect(s.fabric.state.shares.size).toBe(0);
});

test('few guests, and those whose strategy was asked for, are not planned', () => {
  for (const request of [
    { moves: to(2, ['a', 'b']) },
    { moves: to(2, ['a', 'b', 'c', 'd', 'e']), strategy: 'parallel' as const },
  ]) {
    const s = new Star(2, six);
    const ids = s.ask(request);
    s.pass();
    expect(s.fabric.state.plan).toBeNull();
    expect(ids.every((id) => !s.job(id).isPlanned)).toBe(true);
    expect(s.copies.size).toBe(request.moves.length);
  }
});

test('the more urgent go first; the same state gives the same plan whatever the order of request', () => {
  const orders = [
    ['a', 'b', 'c', 'd', 'e', 'f'],
    ['f', 'd', 'b', 'e', 'c', 'a'],
  ];
  const began = orders.map((order) => {
    const s = new Star(2, six);
    const priority = (g: string) => (g < 'c' ? 'low' : g < 'e' ? 'medium' : 'high');
    s.ask({ moves: to(2, order).map((m) => ({ ...m, priority: priority(m.guest) })) });
    s.run(200);
    return s.began;
  });
  expect(began[0]?.slice(0, 2).sort()).toEqual(['m-e', 'm-f']);
  expect(began[0]?.slice(2, 4).sort()).toEqual(['m-c', 'm-d']);
  expect(began[1]).toEqual(began[0]);
});

test('deadlines decide the order within a priority, and one that cannot be kept is told', () => {
  const s = new Star(2, six);
  const ids = s.ask({
    moves: to(2, ['a', 'b', 'c', 'd', 'e', 'f']).map((m) => (m.guest === 'e' ? { ...m, deadlineMs: 14_000 } : m)),
  });
  s.pass();
  expect(s.began).toEqual(['m-e']);
  s.run(200);
  expect((s.job('m-e').endedAtMs ?? 0) - s.job('m-e').requestedAtMs).toBeLessThan(14_000);
  expect(ids.every((id) => s.job(id).state === 'done')).toBe(true);

  const late = new Star(2, six);
  late.ask({ moves: to(2, ['a']), deadlineMs: 1000 });
  late.pass();
  expect(late.job('m-a').planned?.lateMs).toBeGreaterThan(1000);
});

test('memory at the destination: who has no room waits until somebody has left', () => {
  const guests: StarGuest[] = [
    { name: 'a', host: 1, memoryMiB: 600 },
    { name: 'b', host: 2, memoryMiB: 600 },
  ];
  const s = new Star(3, guests, { memoryMiB: 1000 });
  s.ask({ moves: [...to(2, ['a']), ...to(3, ['b'])], planned: true });
  s.pass();
  expect(s.job('m-a')).toMatchObject({ state: 'queued', behind: ['m-b'] });
  expect(s.job('m-a').planned?.reason.rule).toBe('planning.memory');
  s.run(60);
  expect(s.began).toEqual(['m-b', 'm-a']);
  expect(s.job('m-a').state).toBe('done');
});

test('a guest without a place in the plan waits with the reason, and goes when there is one', () => {
  const s = new Star(
    2,
    [
      { name: 'a', host: 1, memoryMiB: 600 },
      { name: 'b', host: 2, memoryMiB: 600 },
    ],
    { memoryMiB: 1000 },
  );
  s.ask({ moves: to(2, ['a']), planned: true });
  s.run(3);
  expect(s.job('m-a').state).toBe('queued');
  expect(s.job('m-a').note).toContain('no room');
  s.guests.delete('b');
  s.fabric.send({ kind: 'agentMessage', host: 'hv2', message: { type: 'guests', guests: [] } });
  s.run(60);
  expect(s.job('m-a').state).toBe('done');
});

test('half the capacity: the plan is made anew, says so, and comes to rest', () => {
  const s = new Star(2, six);
  const ids = s.ask({ moves: to(2, ['a', 'b', 'c', 'd', 'e', 'f']) });
  s.run(4);
  const before = s.fabric.state.plan;
  s.setCapacity(500);
  s.run(6);
  const after = s.fabric.state.plan;
  expect(after?.revision).toBeGreaterThan(before?.revision ?? 0);
  expect(after?.endsAtMs).toBeGreaterThan((before?.endsAtMs ?? 0) + 5000);
  const revision = after?.revision ?? 0;
  const endsAtMs = after?.endsAtMs ?? 0;
  s.run(10);
  expect((s.fabric.state.plan?.revision ?? 0) - revision).toBeLessThanOrEqual(2);
  s.run(300);
  expect(ids.every((id) => s.job(id).state === 'done')).toBe(true);
  const ended = Math.max(...ids.map((id) => s.job(id).endedAtMs ?? 0));
  expect(Math.abs(ended - endsAtMs)).toBeLessThan(0.2 * (ended - s.job('m-a').requestedAtMs));
});

test('what fails, is cancelled or is asked for later changes the plan at once', () => {
  const s = new Star(2, [...six, { name: 'h', host: 1, memoryMiB: 512 }]);
  s.ask({ moves: to(2, ['a', 'b', 'c', 'd', 'e', 'f']) });
  s.pass();
  s.ask({ moves: to(2, ['h']), priority: 'high', planned: true });
  s.pass();
  expect(decided(s, 'planning.asked')).toHaveLength(1);
  const waiting = [...s.fabric.state.jobs.values()].filter((j) => j.state === 'queued');
  const last = waiting.sort((x, y) => (x.planned?.startAtMs ?? 0) - (y.planned?.startAtMs ?? 0)).at(-1);
  s.fabric.send({ kind: 'cancel', id: last?.id ?? '' });
  expect(decided(s, 'planning.cancelled')).toHaveLength(1);
  s.run(200);
  expect(s.began[1]).toBe('m-h');
  expect(s.ended).toHaveLength(6);
});

test('an edited floor changes the plan', () => {
  const s = new Star(2, six);
  s.ask({ moves: to(2, ['a', 'b', 'c', 'd', 'e', 'f']) });
  s.run(3);
  const doc = { ...DEFAULT_POLICY, sla: { default: { floor: '80 %', ceiling: '80 %' }, links: {} } };
  s.fabric.send({
    kind: 'policyChanged',
    policy: compilePolicy(doc),
    status: { state: 'accepted', revision: 2, reason: '', atMs: 0 },
  });
  s.run(5);
  const rules = s.fabric.state.decisions.filter((d) => d.kind === 'planning').map((d) => d.reason.rule);
  expect(rules.some((r) => r === 'planning.capacity' || r === 'planning.drift')).toBe(true);
});

test('a plan made from the state is one that the checker finds nothing wrong with', () => {
  const s = new Star(3, six, { memoryMiB: 2048 });
  s.ask({ moves: [...to(2, ['a', 'b', 'c']), ...to(3, ['d', 'e', 'f'])] });
  s.run(4);
  const waiting = [...s.fabric.state.jobs.values()].filter((j) => j.state === 'queued');
  expect(waiting.length).toBeGreaterThan(0);
  const { instance, plan } = planJobs(s.fabric.state, waiting, s.fabric.nowMs);
  expect(checkPlan(instance, plan, { limitPerHost: 8 })).toEqual([]);
});

test('jobs of journals that do not know of plans are taken over', () => {
  const s = new Star(2, six);
  s.ask({ moves: to(2, ['a']) });
  s.pass();
  const entries = journalOf(s.fabric.state, s.fabric.nowMs) as { job: Record<string, unknown> }[];
  for (const e of entries) for (const key of ['isPlanned', 'planned', 'behind', 'deadlineAtMs']) delete e.job[key];
  const restored = restoreJobs({ ...s.fabric.state, jobs: new Map() }, entries as unknown as Record<string, unknown>[]);
  expect(restored.jobs.get('m-a')).toMatchObject({ isPlanned: false, planned: null, behind: [], deadlineAtMs: null });
});
