/** Random numbers as an argument: who needs them takes a seed, so that the same input gives the same result. Pure. */

/** A small generator of numbers from 0 (inclusive) to 1 (exclusive) (mulberry32): the same seed gives the same series. */
export function randomFrom(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
