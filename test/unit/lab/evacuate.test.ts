/** What the lab's evacuation makes of its measurements. */
import type { Evacuation } from '../../../contracts/rest.ts';
import {
  brokenRules,
  type Evacuated,
  inversions,
  spansText,
  spread,
  summarise,
} from '../../../sim/lab/scenarios/evacuate.ts';

const copy = (guest: string, startMs: number, totalMs: number, more: Partial<Evacuated> = {}): Evacuated => ({
  ...{ mode: 'fairway', technique: 'pre-copy', strategy: 'parallel', reasons: [], priority: 'medium' },
  ...{ guest, startMs, totalMs, destination: 'hv2', bytes: 80e6, passes: 2, downtimeMs: 120 },
  ...{ clientSilenceMs: 140, guestAlive: true, ...more },
});
const because = { rule: 'planning.nothing', text: 'nothing of the plan stands before it', inputs: {} };
const move = (guest: string, startMs: number, endMs: number): Evacuation['moves'][number] => ({
  ...{ guest, from: 'hv1', destination: 'hv2', priority: 'high', deadlineMs: null, migration: null },
  reason: `hv2 suits ${guest}`,
  plan: {
    ...{ startAtMs: 10_000 + startMs, endAtMs: 10_000 + endMs, rateBps: 99.96e6, after: [], lateMs: 0 },
    reason: because,
  },
});
const plan: Evacuation = {
  ...{ host: 'hv1', atMs: 10_000, group: 'g', refused: [], moving: [], endsAtMs: 30_000, boundAtMs: 28_000 },
  moves: [move('guest1', 8000, 20_000), move('guest2', 0, 8000)],
};

test('what was predicted stands beside what happened, on one clock', () => {
  const copies = [
    copy('guest1', 21_000, 10_000, { priority: 'low' }),
    copy('guest2', 12_500, 8000, { priority: 'high' }),
  ];
  const run = summarise(copies, plan.atMs, plan);
  expect(
    run.guests.map(({ guest, startMs, endMs, predicted, reason }) => ({ guest, startMs, endMs, predicted, reason })),
  ).toEqual([
    {
      ...{ guest: 'guest1', startMs: 11_000, endMs: 21_000, reason: 'hv2 suits guest1' },
      predicted: { startMs: 8000, endMs: 20_000, rateMbps: 100 },
    },
    {
      ...{ guest: 'guest2', startMs: 2500, endMs: 10_500, reason: 'hv2 suits guest2' },
      predicted: { startMs: 0, endMs: 8000, rateMbps: 100 },
    },
  ]);
  expect(run).toMatchObject({
    ...{ makespanMs: 21_000, predictedMakespanMs: 20_000, boundMs: 18_000, meanCopyMs: 9000 },
    ...{ highEndMs: 10_500, meanEndErrorMs: 1750, inversions: [] },
  });
  expect(spansText(run)[1]).toBe('guest2 to hv2, high:   2.5 to  10.5 s (predicted   0.0 to   8.0 s), down 120 ms');
});

test('without a plan nothing was predicted', () => {
  const run = summarise([copy('guest1', 5000, 1000), copy('guest2', 5000, 3000)], 4000, null);
  expect(run).toMatchObject({ makespanMs: 4000, predictedMakespanMs: null, boundMs: null, meanEndErrorMs: null });
  expect(run.guests.map((g) => g.predicted)).toEqual([null, null]);
  expect(spansText(run)[0]).not.toMatch(/predicted/);
});

test('an inversion is a less urgent copy that began clearly before a more urgent one', () => {
  const at = (guest: string, priority: Evacuated['priority'], startMs: number) => ({
    ...{ guest, priority, startMs, endMs: startMs + 1000 },
  });
  expect(inversions([at('a', 'high', 0), at('b', 'medium', 0), at('c', 'low', 9000)])).toEqual([]);
  expect(inversions([at('a', 'high', 400), at('b', 'low', 0)])).toEqual([]);
  expect(inversions([at('a', 'high', 3000), at('b', 'low', 0), at('c', 'high', 9000)])).toEqual([
    'b (low) began before a (high)',
    'b (low) began before c (high)',
  ]);
});

test('guests that are to be apart and are not', () => {
  const guest = (name: string, host: string, apart?: string) => ({ guest: name, host, apart });
  expect(
    brokenRules([guest('a', 'hv2', 'db'), guest('b', 'hv3', 'db'), guest('c', 'hv2', 'web'), guest('d', 'hv2')]),
  ).toEqual([]);
  expect(brokenRules([guest('a', 'hv2', 'db'), guest('b', 'hv2', 'db'), guest('c', 'hv2'), guest('d', 'hv2')])).toEqual(
    ['a and b (apart=db) are both on hv2'],
  );
});

test('a scheduler without a plan takes the host with the fewest guests that the rules allow', () => {
  const there = [{ guest: 'r', apart: 'web', host: 'hv2' as const }];
  const placed = spread(
    [
      { guest: 'a', apart: 'db' },
      { guest: 'b', apart: 'db' },
      { guest: 'c', apart: undefined },
      { guest: 'd', apart: 'web' },
    ],
    there,
    ['hv2', 'hv3'],
  );
  expect([...placed]).toEqual([
    ['a', 'hv3'],
    ['b', 'hv2'],
    ['c', 'hv3'],
    ['d', 'hv3'],
  ]);
  expect(() => spread([{ guest: 'a', apart: 'web' }], there, ['hv2'])).toThrow(/no host may take a/);
});
