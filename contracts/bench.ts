/** What `npm run --silent bench -- NAME --json` prints. Names and units are fixed; add fields, rename none. */
export interface BenchRow {
  /** `fairway` or the peer measured in the same run. */
  subject: string;
  metric: string;
  value: number;
  /** `1/s`, `ms`, `MB`, `s`, `ratio`… */
  unit: string;
}

export interface BenchResult {
  format: 'bench-result/1';
  bench: string;
  results: BenchRow[];
  /** What a reader must know to judge the figures: versions, sizes, seeds, what was left out and why. */
  notes: string[];
}
