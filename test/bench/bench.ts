/** What main.ts asks of a benchmark. */
import type { ParseArgsConfig } from 'node:util';
import type { BenchResult } from '../../contracts/bench.ts';

export interface Bench {
  /** Text of `--help`: what is measured, against whom, and the options. */
  readonly help: string;
  /** Options besides `--json` and `--help`, as `node:util` parseArgs takes them. */
  readonly options: NonNullable<ParseArgsConfig['options']>;
  /** Measures. Progress goes to `progress`, one line at a time; errors are thrown. */
  run(
    options: Readonly<Record<string, string | boolean | undefined>>,
    progress: (line: string) => void,
  ): Promise<BenchResult>;
}
