/** Emptying a host: destinations by room, rules and labels; what cannot be placed; what is under way already. */
import { evacuateRequestSchema } from '../../../contracts/rest.ts';
import { movesOf, planEvacuation } from '../../../controller/core/evacuate.ts';
import { Star, type StarGuest } from './group.ts';

jest.setTimeout(300_000);

const guest = (name: string, host: number, memoryMiB = 512, labels?: Record<string, string>): StarGuest => ({
  name,
  host,
  memoryMiB,
  ...(labels === undefined ? {} : { labels }),
});
const plan = (s: Star, request: object = {}) =>
  planEvacuation(s.fabric.state, evacuateRequestSchema.parse({ host: 'hv1', ...request }), s.fabric.nowMs);
const where = (s: Star, request: object = {}) =>
  Object.fromEntries(plan(s, request).moves.map((m) => [m.guest, m.destination]));

test('guests go where there is room, and the destinations are used alike', () => {
  const s = new Star(3, [guest('a', 1), guest('b', 1), guest('c', 1), guest('d', 1)], { memoryMiB: 2048 });
  const to = Object.values(where(s)).sort();
  expect(to).toEqual(['hv2', 'hv2', 'hv3', 'hv3']);
  expect(where(s, { exclude: ['hv3'] })).toEqual({ a: 'hv2', b: 'hv2', c: 'hv2', d: 'hv2' });
});

test('priorities: of single guests, then of the request, then the label, then medium', () => {
  const s = new Star(2, [
    guest('a', 1, 64, { priority: 'high' }),
    guest('b', 1, 64),
    guest('c', 1, 64, { priority: 'soon' }),
  ]);
  const priorities = (request: object) => Object.fromEntries(plan(s, request).moves.map((m) => [m.guest, m.priority]));
  expect(priorities({})).toEqual({ a: 'high', b: 'medium', c: 'medium' });
  expect(priorities({ priority: 'low', priorities: { b: 'high' } })).toEqual({ a: 'low', b: 'high', c: 'low' });
  expect(movesOf(plan(s, { deadlineMs: 9000, deadlines: { a: 5000 } })).moves.find((m) => m.guest === 'a')).toEqual({
    guest: 'a',
    destination: 'hv2',
    priority: 'high',
    deadlineMs: 5000,
  });
});

test('labels keep guests apart and together, and on or off hosts with a label', () => {
  const s = new Star(4, [
    guest('a', 1, 64, { apart: 'db' }),
    guest('b', 1, 64, { apart: 'db' }),
    guest('c', 4, 64, { apart: 'db' }),
    guest('x', 1, 64, { together: 'shop' }),
    guest('y', 3, 64, { together: 'shop' }),
    guest('n', 1, 64, { 'only-on': 'ssd' }),
  ]);
  const { moves, refused } = plan(s);
  const to = Object.fromEntries(moves.map((m) => [m.guest, m.destination]));
  expect([to.a, to.b].sort()).toEqual(['hv2', 'hv3']);
  expect(to.x).toBe('hv3');
  expect(refused).toEqual([
    { guest: 'n', reason: expect.stringContaining('hv2: only-on=ssd are only for hosts with ssd') },
  ]);
});

test('no room: refused with what stands against each host; the others go', () => {
  const s = new Star(3, [guest('big', 1, 900), guest('small', 1, 100), guest('p', 2, 600), guest('q', 3, 600)], {
    memoryMiB: 1000,
  });
  const { moves, refused } = plan(s);
  expect(moves.map((m) => m.guest)).toEqual(['small']);
  expect(refused[0]).toMatchObject({
    guest: 'big',
    reason: expect.stringMatching(/hv2: has room for \d+ of 900 MiB[;)]/),
  });
});

test('what is under way: guests that leave already are named, guests that come are not taken along', () => {
  const s = new Star(3, [guest('a', 1), guest('b', 1), guest('c', 2)], { memoryMiB: 4096 });
  s.ask({ moves: [{ guest: 'a', destination: 'hv2' }] });
  s.pass();
  const { moves, moving } = plan(s);
  expect(moving).toEqual([{ guest: 'a', migration: 'm-a', destination: 'hv2' }]);
  expect(moves.map((m) => m.guest)).toEqual(['b']);
  expect(() => plan(s, { host: 'hv7' })).toThrow(/known hosts: hv1, hv2, hv3/);
  expect(() => plan(s, { priorities: { c: 'high' } })).toThrow(/no guest c is on hv1/);
  s.fabric.send({ kind: 'agentDown', host: 'hv1' });
  expect(() => plan(s)).toThrow(/agent of hv1 is not connected/);
});

test('who is held ready for its turn is before the others in the plan that is shown', () => {
  const s = new Star(2, [guest('a', 1), guest('b', 1), guest('c', 1)], { memoryMiB: 4096 });
  s.ask({ moves: ['a', 'b'].map((name) => ({ guest: name, destination: 'hv2' })), priority: 'high', planned: true });
  for (let i = 0; i < 120 && !s.job('m-a').isHeld && !s.job('m-b').isHeld; i++) s.pass();
  const held = s.job('m-a').isHeld ? s.job('m-a') : s.job('m-b');
  expect(held.isHeld).toBe(true);
  const { moves } = plan(s, { priority: 'low' });
  expect(moves.map((m) => m.guest)).toEqual(['c']);
  // It has the link, and all of it, before the new one.
  expect(moves[0]?.plan.after).toEqual([held.id]);
  expect(moves[0]?.plan.startAtMs).toBeGreaterThanOrEqual((held.planned?.endAtMs ?? Number.NaN) - 1000);
});

test('nothing on it, nothing to move; and planning changes nothing', () => {
  const s = new Star(2, [guest('c', 2)]);
  const before = s.fabric.state;
  expect(plan(s)).toMatchObject({ moves: [], refused: [], moving: [], endsAtMs: s.fabric.nowMs });
  expect(s.fabric.state).toBe(before);
});

test('the moves of an evacuation, asked for, are planned and carried out', () => {
  const s = new Star(3, [guest('a', 1), guest('b', 1), guest('c', 1)], { memoryMiB: 2048 });
  const ids = s.ask(movesOf(plan(s)));
  s.run(120);
  expect(ids.map((id) => s.job(id).state)).toEqual(ids.map(() => 'done'));
  expect([...s.guests.values()].filter((g) => g.host === 1)).toEqual([]);
});
