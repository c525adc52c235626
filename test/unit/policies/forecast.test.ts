/** Forecasts: of what is left of a copy under way by the same models as of a whole one, and the interval around it. */
import { TECHNIQUES, type Technique } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { type CopyState, compilePolicy, copyLeftMs, forecastCopy, type GuestModel } from '../../../policies/index.ts';

const policy = compilePolicy(DEFAULT_POLICY);
const MiB = 2 ** 20;
const RATE = 100e6;
const guest: GuestModel = { memoryBytes: 512 * MiB, dirtyBytesPerS: 2e6, workingSetBytes: 64 * MiB };
const left = (t: Technique, copy: CopyState | null, model = guest) => copyLeftMs(t, model, copy, RATE, policy);
const at = (remainingBytes: number, passes = 1, isPostcopy = false): CopyState => ({
  remainingBytes,
  passes,
  isPostcopy,
});

test.each(TECHNIQUES)('%s: a copy that has just begun has all before it', (t) => {
  const whole = left(t, null);
  // But for the time that stopping and starting take where the guest is sent as one.
  expect(Math.abs(left(t, at(guest.memoryBytes)) - whole)).toBeLessThan(30);
});

test.each(TECHNIQUES)('%s: with each byte sent it is nearer, until nothing is left', (t) => {
  const series = [1, 0.75, 0.5, 0.25, 0.05].map((share) => left(t, at(share * guest.memoryBytes)));
  for (const [i, ms] of series.entries()) if (i > 0) expect(ms).toBeLessThan(series[i - 1] as number);
  expect(left(t, at(0, 1, true))).toBeLessThan(1);
});

test('what was written since the first pass began is due after it, however little is left of it', () => {
  const idle = { ...guest, dirtyBytesPerS: 0 };
  const passMs = (guest.memoryBytes * 8000) / RATE;
  const due = left('pre-copy', at(10 * MiB)) - left('pre-copy', at(10 * MiB), idle);
  // 2 MB/s over the whole pass, as far as there is a working set, less what is kept for the downtime.
  const written = Math.min((passMs / 1000) * 2e6, guest.workingSetBytes);
  expect(due).toBeGreaterThan(((written - 0.3 * (RATE / 8)) * 8000) / RATE);
  expect(due).toBeLessThan(((written * 8000) / RATE) * 1.5);
});

test('a hybrid goes on for the passes it has left, and sends the rest once', () => {
  const second = left('hybrid', at(20 * MiB, 2));
  const third = left('hybrid', at(20 * MiB, 3));
  expect(third).toBeCloseTo((20 * MiB * (4104 / 4096) * 8000) / RATE + 22, 0);
  expect(second).toBeGreaterThan(third);
});

test('once the guest runs at the destination, what is left is sent once, whatever is written', () => {
  const busy = { ...guest, dirtyBytesPerS: 1e9 };
  for (const t of TECHNIQUES)
    expect(left(t, at(64 * MiB, 3, true), busy)).toBeCloseTo((64 * MiB * (4104 / 4096) * 8000) / RATE, 0);
});

test('of a guest with known zero pages the first pass is as much shorter as it has of them', () => {
  const sparse = { ...guest, dirtyBytesPerS: 0, nonZeroBytes: 128 * MiB };
  const half = left('post-copy', at(256 * MiB), sparse);
  expect(half).toBeLessThan(left('post-copy', at(256 * MiB)) / 3);
  expect(half).toBeGreaterThan((64 * MiB * 8000) / RATE);
});

test('without a rate it never ends, and a report that is too large is all of the memory', () => {
  for (const t of TECHNIQUES) expect(copyLeftMs(t, guest, at(MiB), 0, policy)).toBe(Number.POSITIVE_INFINITY);
  expect(left('post-copy', at(1e15))).toBe(left('post-copy', at(guest.memoryBytes)));
  expect(left('pre-copy', at(-5))).toBeGreaterThanOrEqual(0);
});

test('the interval holds the expectation, and is wider for who writes faster', () => {
  const of = (dirtyBytesPerS: number) =>
    forecastCopy(
      { technique: 'pre-copy', model: { ...guest, dirtyBytesPerS }, copy: at(300 * MiB), rateBps: RATE, mostBps: RATE },
      policy,
    );
  const [calm, busy] = [of(1e5), of(5e6)];
  for (const f of [calm, busy]) {
    expect(f.earliestMs).toBeLessThan(f.leftMs);
    expect(f.leftMs).toBeLessThan(f.latestMs);
  }
  expect(busy.latestMs - busy.earliestMs).toBeGreaterThan(calm.latestMs - calm.earliestMs);
});

test('what was reported is of a moment ago: with little left it may be done already', () => {
  const of = (remainingBytes: number) =>
    forecastCopy(
      { technique: 'pre-copy', model: guest, copy: at(remainingBytes, 4), rateBps: RATE, mostBps: RATE },
      policy,
    );
  expect(of(2 * MiB).earliestMs).toBe(0);
  expect(of(300 * MiB).earliestMs).toBeGreaterThan(10_000);
});
