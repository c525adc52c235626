/** What a migration came to, and how far off predictions are; for `../costModels.ts` and its neighbours. */
import type { BenchRow } from '../../../contracts/bench.ts';

export interface Outcome {
  totalMs: number;
  downtimeMs: number;
  bytes: number;
}

export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * q;
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  const high = sorted[Math.ceil(at)] ?? Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}
export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** Median and 90th percentile of relative errors. */
export function errorRows(subject: string, what: string, errors: readonly number[]): BenchRow[] {
  const percent = (share: number) => Math.round(share * 10_000) / 100;
  return [
    { subject, metric: `${what}, median error`, value: percent(median(errors)), unit: '%' },
    { subject, metric: `${what}, 90th percentile of errors`, value: percent(quantile(errors, 0.9)), unit: '%' },
  ];
}
