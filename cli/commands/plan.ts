/** `fairway plan`: reads a `planning-instance/1` document, plans it, or checks a plan of it. Speaks to no controller. */
import { readFileSync, writeFileSync } from 'node:fs';
import { FairwayError } from '../../contracts/common.ts';
import { type Plan, parsePlan, parsePlanningInstance } from '../../contracts/plan.ts';
import { checkPlan } from '../../policies/planCheck/index.ts';
import { planMigrations } from '../../policies/planner/index.ts';
import { jsonErrorAt, lineAndColumn } from '../json.ts';
import { EXIT, type Terminal, table } from '../terminal.ts';

interface Options {
  json?: true;
  out?: string;
  check?: string;
  limitPerHost?: number;
  work?: number;
  seed?: number;
}

export async function plan(terminal: Terminal, o: Options, file: string): Promise<number> {
  if (o.check === '-' && file === '-') {
    throw new FairwayError('cli.usage', 'plan and instance cannot both come from standard input', ['badInput']);
  }
  const instance = readDocument(file, parsePlanningInstance);
  if (o.check !== undefined) return check(terminal, o, instance, o.check);

  const result = planMigrations(instance, {
    ...(o.limitPerHost === undefined ? {} : { limitPerHost: o.limitPerHost }),
    ...(o.work === undefined ? {} : { work: o.work }),
    ...(o.seed === undefined ? {} : { seed: o.seed }),
  });
  const text = `${JSON.stringify(result)}\n`;
  if (o.out !== undefined) {
    try {
      writeFileSync(o.out, text);
    } catch (error) {
      throw new FairwayError('cli.unwritable', `cannot write ${o.out}: ${(error as Error).message}`, [], error);
    }
  }
  if (o.json) terminal.out(text);
  else terminal.out(timeLine(result, new Map(instance.migrations.map((m) => [m.vm, m])), terminal.columns() ?? 120));
  return (result.refused ?? []).length === 0 ? EXIT.ok : EXIT.failed;
}

function check(
  terminal: Terminal,
  o: Options,
  instance: ReturnType<typeof parsePlanningInstance>,
  file: string,
): number {
  const options = o.limitPerHost === undefined ? {} : { limitPerHost: o.limitPerHost };
  const violations = checkPlan(instance, readDocument(file, parsePlan), options);
  if (o.json) terminal.out(`${JSON.stringify({ ok: violations.length === 0, violations })}\n`);
  else if (violations.length === 0) terminal.out(`${file}: can be carried out\n`);
  else terminal.out(violations.map((v) => `${v.rule}: ${v.what} ${v.text}\n`).join(''));
  return violations.length === 0 ? EXIT.ok : EXIT.failed;
}

/** Reads and parses a file; every error says which file, and where in it. */
function readDocument<T>(file: string, parse: (value: unknown) => T): T {
  const name = file === '-' ? 'standard input' : file;
  let text: string;
  try {
    text = readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw new FairwayError('cli.unreadable', `cannot read ${name}: ${(error as Error).message}`, ['badInput'], error);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const at = jsonErrorAt(text);
    const what = at >= text.trimEnd().length ? 'ends too early' : `${JSON.stringify(text[at])} does not belong here`;
    throw new FairwayError('cli.badJson', `${name}:${lineAndColumn(text, at)}: no JSON: ${what}`, ['badInput'], error);
  }
  try {
    return parse(value);
  } catch (error) {
    if (!(error instanceof FairwayError)) throw error;
    throw new FairwayError(error.code, `${name}: ${error.message}`, error.labels, error);
  }
}

const BAR_WIDTH = { least: 16, most: 60 };

/** The plan as a chart: a line a migration, its time as a bar; below each the reason. */
export function timeLine(
  p: Plan,
  ends: ReadonlyMap<string, { readonly from: string; readonly to: string }>,
  columns: number,
): string {
  const rows = p.migrations.map((m) => [
    m.vm,
    `${ends.get(m.vm)?.from ?? '?'} → ${ends.get(m.vm)?.to ?? '?'}`,
    m.priority ?? '',
    m.start_s.toFixed(1),
    m.end_s.toFixed(1),
  ]);
  const heading = ['guest', 'way', 'priority', 'start s', 'end s'];
  const widths = heading.map((h, i) => Math.max(h.length, ...rows.map((r) => (r[i] as string).length)));
  const used = widths.reduce((sum, w) => sum + w + 2, 0);
  const width = Math.max(BAR_WIDTH.least, Math.min(BAR_WIDTH.most, columns - used));
  const cell = (s: number) => (p.makespan_s > 0 ? Math.round((s / p.makespan_s) * width) : 0);
  const bar = (m: Plan['migrations'][number]) => {
    const from = Math.min(cell(m.start_s), width - 1);
    const length = Math.max(1, cell(m.end_s) - from);
    return `${'·'.repeat(from)}${'#'.repeat(length)}${'·'.repeat(Math.max(0, width - from - length))}`;
  };
  const scale = `0${`${p.makespan_s.toFixed(1)} s`.padStart(width - 1)}`;
  const lines = table([
    [...heading, scale],
    ...rows.map((r, i) => [...r, bar(p.migrations[i] as (typeof p.migrations)[0])]),
  ])
    .split('\n')
    .slice(0, -1);
  const text = [lines[0] ?? ''];
  for (const [i, m] of p.migrations.entries()) text.push(lines[i + 1] ?? '', `    ${m.technique}; ${m.reason}`);

  const gap = p.lower_bound_s > 0 ? ` (no plan needs less than ${p.lower_bound_s.toFixed(1)} s)` : '';
  const late = p.migrations.filter((m) => m.late_s !== undefined).length;
  const refused = (p.refused ?? []).map((r) => `refused: ${r.vm}: ${r.reason}`);
  const name = p.instance === '' ? '' : `${p.instance}: `;
  const count = p.migrations.length === 1 ? '1 migration' : `${p.migrations.length} migrations`;
  const summary = `${name}${count} in ${p.makespan_s.toFixed(1)} s${gap}`;
  const missed = late === 0 ? '' : `, ${late === 1 ? '1 deadline' : `${late} deadlines`} missed`;
  const chart = p.migrations.length === 0 ? [] : ['', ...text];
  return `${[`${summary}${missed}`, ...chart, ...refused].join('\n')}\n`;
}
