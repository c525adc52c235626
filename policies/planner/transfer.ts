/**
 * The transfer model by which plans are compared (`planning-instance/1`): what a migration has to carry, and how long that
 * takes. A link of x Mbit/s carries x ÷ 9 MB of guest memory a second (8 bits a byte and an eighth for everything around
 * it). At a mean rate of B MB/s a migration carries memory + hot + cold · max(0, memory ÷ B − hotS) MB: all memory once, the
 * writable working set once more, and what was written elsewhere meanwhile.
 */

/** How much memory a guest has and how it writes to it. */
export interface Transfer {
  readonly memoryMb: number;
  readonly hotMb: number;
  readonly hotS: number;
  readonly coldMbPerS: number;
}

/** MB of guest memory that 1 Mbit/s carries in a second. */
export const MB_PER_MBIT = 1 / 9;
const MB_PER_BIT = MB_PER_MBIT / 1e6;

/** MB/s carried at so many bit/s. */
export const mbPerS = (bps: number): number => bps * MB_PER_BIT;

/**
 * MB to carry when the copy takes `seconds`. With V carried in T seconds B is V ÷ T, so that
 * V = memory + hot + cold · (memory · T ÷ V − hotS), which is quadratic in V.
 */
export function volumeMb(t: Transfer, seconds: number): number {
  const fixed = t.memoryMb + t.hotMb;
  if (t.coldMbPerS === 0) return fixed;
  const a = fixed - t.coldMbPerS * t.hotS;
  return Math.max(fixed, (a + Math.sqrt(a * a + 4 * t.coldMbPerS * t.memoryMb * seconds)) / 2);
}

/** Seconds that the copy takes at a constant rate of `bps` bit/s. */
export function durationS(t: Transfer, bps: number): number {
  const rate = mbPerS(bps);
  return (t.memoryMb + t.hotMb + t.coldMbPerS * Math.max(0, t.memoryMb / rate - t.hotS)) / rate;
}

/** bit/s below which the last `hotMb` MB never come to an end by pre-copy; 0 when nothing is written again and again. */
export function leastFinalBps(t: Transfer): number {
  return t.hotMb > 0 && t.hotS > 0 ? t.hotMb / t.hotS / MB_PER_BIT : 0;
}
