/**
 * How large a guest's writable working set is, from how many distinct pages it changed in windows of different lengths. Pure;
 * `io/telemetry.ts` takes the samples. Two shapes of D(T), bytes changed in T seconds, are fitted to the samples, with r for the
 * rate of writing and W for the working set:
 *
 *     cyclic   D = min(rT, W)                 a guest that goes through its working set again and again
 *     random   D = W (1 − e^(−rT/W))          one that writes anywhere in it (the coupon collector's curve)
 *
 * by least squares of ln D. The better fit's W is the estimate; of two that fit about equally (always so with two samples) the
 * geometric mean. Where D still grows in proportion to T there is no bound to be seen, and none is told.
 */

/** Bytes of distinct pages that changed within a window. */
export interface DirtySample {
  seconds: number;
  bytes: number;
}

export interface DirtyEstimate {
  /** Over the shortest window. */
  dirtyBytesPerS: number;
  /** Null: no bound was seen. */
  workingSetBytes: number | null;
}

/** The longest window must hold at most this share of what the first rate would bring, or there is no bound to be seen. */
const PROPORTIONAL_SHARE = 0.8;
/** Slower writers are measured too coarsely (QEMU answers in whole MiB/s) for the shape of the curve to mean anything. */
const LEAST_BYTES_PER_S = 2 * 2 ** 20;
/** Mean squares of ln D that differ less are a difference of noise: about 5 %. */
const NOISE = 0.05 ** 2;
const STEPS = 60;

type Shape = (rate: number, workingSet: number, seconds: number) => number;
const cyclic: Shape = (r, w, t) => Math.min(r * t, w);
const random: Shape = (r, w, t) => w * -Math.expm1((-r * t) / w);

/** Numbers from `low` to `high`, each the same factor above the one before. */
function* geometric(low: number, high: number): Generator<number> {
  for (let i = 0; i <= STEPS; i++) yield low * (high / low) ** (i / STEPS);
}

/** The working set with which a shape comes nearest to the samples, and how near: mean square of ln D. */
function fitted(shape: Shape, samples: readonly DirtySample[], fastest: number): { workingSet: number; error: number } {
  const most = Math.max(...samples.map((s) => s.bytes));
  let best = { workingSet: most, error: Number.POSITIVE_INFINITY };
  for (const rate of geometric(fastest * 0.7, fastest * 3)) {
    for (const workingSet of geometric(most * 0.9, most * 8)) {
      const squares = samples.map((s) => Math.log(shape(rate, workingSet, s.seconds) / s.bytes) ** 2);
      const error = squares.reduce((a, b) => a + b, 0) / samples.length;
      if (error < best.error) best = { workingSet, error };
    }
  }
  return best;
}

/**
 * The estimate from samples of at least one window, capped by the guest's memory. @throws RangeError without a sample.
 */
export function estimateDirtying(samples: readonly DirtySample[], memoryBytes: number): DirtyEstimate {
  const [first] = [...samples].sort((a, b) => a.seconds - b.seconds);
  if (first === undefined) throw new RangeError('no sample of what the guest dirties');
  const dirtyBytesPerS = first.bytes / first.seconds;
  const nothing: DirtyEstimate = { dirtyBytesPerS, workingSetBytes: null };
  const last = samples.reduce((a, b) => (b.seconds > a.seconds ? b : a));
  const seen = samples.filter((s) => s.bytes > 0);
  if (seen.length < 2 || dirtyBytesPerS < LEAST_BYTES_PER_S) return nothing;
  if (last.bytes > PROPORTIONAL_SHARE * dirtyBytesPerS * last.seconds) return nothing;
  const fits = [cyclic, random].map((shape) => fitted(shape, seen, dirtyBytesPerS)) as [Fit, Fit];
  const [a, b] = fits;
  const isClose = Math.abs(a.error - b.error) < NOISE;
  const workingSet = isClose ? Math.sqrt(a.workingSet * b.workingSet) : a.error < b.error ? a.workingSet : b.workingSet;
  return { dirtyBytesPerS, workingSetBytes: Math.round(Math.min(memoryBytes, workingSet)) };
}
type Fit = ReturnType<typeof fitted>;
