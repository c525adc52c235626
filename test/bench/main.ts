/**
 * `npm run bench -- NAME [--json] [options of the benchmark]`: runs one benchmark of this folder and prints its rows,
 * each peer beside ours. A benchmark is a module with a `bench` (see `bench.ts`), listed here and loaded when asked for.
 */
import { parseArgs } from 'node:util';
import type { BenchResult } from '../../contracts/bench.ts';
import type { Bench } from './bench.ts';

const BENCHES: Readonly<Record<string, () => Promise<{ bench: Bench }>>> = {
  controller: () => import('./controller.ts'),
  'cost-models': () => import('./costModels.ts'),
  discovery: () => import('./discovery.ts'),
  openflow: () => import('./openflow.ts'),
  planner: () => import('./planner.ts'),
};

function table(result: BenchResult): string {
  const rows = result.results.map((r) => [r.metric, r.subject, number(r.value), r.unit]);
  const widths = [0, 1, 2, 3].map((i) => Math.max(...rows.map((r) => (r[i] as string).length), 0));
  const lines = rows.map((r) =>
    r
      .map((cell, i) => (i === 2 ? cell.padStart(widths[i] as number) : cell.padEnd(widths[i] as number)))
      .join('  ')
      .trimEnd(),
  );
  return [...lines, ...result.notes.map((n) => `- ${n}`)].join('\n');
}

function number(v: number): string {
  return Math.abs(v) >= 1000 ? Math.round(v).toLocaleString('en') : String(Number(v.toPrecision(4)));
}

const HELP = `Usage: npm run bench -- NAME [--json] [options]

Benchmarks:
`;

async function main(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  const known = Object.keys(BENCHES);
  if (name === undefined || name === '--help' || name === '-h') {
    process.stdout.write(HELP + known.map((k) => `  ${k}\n`).join(''));
    return name === undefined ? 2 : 0;
  }
  const load = BENCHES[name];
  if (load === undefined) {
    process.stderr.write(`bench: no benchmark "${name}"; there are: ${known.join(', ')}\n`);
    return 2;
  }
  const { bench } = await load();
  try {
    const { values } = parseArgs({
      args: rest,
      options: { json: { type: 'boolean' }, help: { type: 'boolean', short: 'h' }, ...bench.options },
    });
    if (values.help === true) {
      process.stdout.write(`${bench.help}\n`);
      return 0;
    }
    const result = await bench.run(values as Record<string, string | boolean | undefined>, (line) =>
      process.stderr.write(`${line}\n`),
    );
    process.stdout.write(`${values.json === true ? JSON.stringify(result, null, 2) : table(result)}\n`);
    return 0;
  } catch (error) {
    process.stderr.write(`bench ${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    return (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true ? 2 : 1;
  }
}

process.exitCode = await main(process.argv.slice(2));
