/** How long to wait before the next attempt to connect. Pure: randomness is an argument. */

/**
 * Doubles from `baseMs` to `capMs` with each failed attempt; the second half of each wait is random, so that agents cut off
 * together do not return together.
 *
 * @param attempt 0 for the first wait
 * @param random from 0 (inclusive) to 1 (exclusive)
 */
export function backoffMs(attempt: number, random: number, baseMs = 250, capMs = 10_000): number {
  const full = Math.min(capMs, baseMs * 2 ** Math.min(attempt, 30));
  return full / 2 + (full / 2) * random;
}
