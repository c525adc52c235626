/** Figures as people read them. */
import { formatBytes, formatMs, formatRate, parseMs } from '../../contracts/units.ts';

test.each<[number, string]>([
  [0, '0 ms'],
  [999.4, '999 ms'],
  [10_800, '10.8 s'],
  [599_900, '599.9 s'],
  [600_000, '10.0 min'],
  [86_400_000, '24.0 h'],
  [111_355_900, '30.9 h'],
])('%d ms are %s, and are read back', (ms, text) => {
  expect(formatMs(ms)).toBe(text);
  expect(Math.abs((parseMs(text) ?? Number.NaN) - ms)).toBeLessThanOrEqual(ms * 0.01 + 1);
});

test('rates and sizes', () => {
  expect([5, 1500, 83.04e6, 2e9].map(formatRate)).toEqual(['5 bit/s', '1.5 kbit/s', '83.0 Mbit/s', '2.00 Gbit/s']);
  expect([5, 1500, 134.7e6, 2e9].map(formatBytes)).toEqual(['5 B', '1.5 kB', '134.7 MB', '2.00 GB']);
});
