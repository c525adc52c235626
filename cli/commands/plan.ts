/** `fairway plan`: reads a `planning-instance/1` document, plans it, or checks a plan of it. Speaks to no controller. */
import { readFileSync, writeFileSync } from 'node:fs';
import { FairwayError } from '../../contracts/common.ts';
import { type Plan, type PlanningInstance, parsePlan, parsePlanningInstance } from '../../contracts/plan.ts';
import { checkPlan } from '../../policies/planCheck/index.ts';
import { type PlanOptions, planMigrations } from '../../policies/planner/index.ts';
import { chart } from '../chart.ts';
import { jsonErrorAt, lineAndColumn } from '../json.ts';
import { createMeter, type Meter } from '../progress.ts';
import { EXIT, type Terminal } from '../terminal.ts';

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

  const result = planShown(terminal, instance, {
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

function planShown(terminal: Terminal, instance: PlanningInstance, options: PlanOptions): Plan {
  const meter = createMeter(terminal);
  try {
    const onProgress = progressTo(meter, terminal.columns() !== undefined, Date.now);
    return planMigrations(instance, { ...options, onProgress });
  } finally {
    meter.end();
  }
}

/** What takes fewer look-ups takes hardly longer than a second: nothing is shown of it. */
const LEAST_SHOWN = 4_000_000;
const FIRST_SHOWN_AFTER_MS = 1000;

/** How far the search is, in look-ups of those it may do at most, from a second on: often on a screen, elsewhere now and then. */
export function progressTo(meter: Meter, isScreen: boolean, now: () => number): (done: number, total: number) => void {
  const beginMs = now();
  let nextMs = beginMs + FIRST_SHOWN_AFTER_MS;
  return (done, total) => {
    if (total < LEAST_SHOWN || now() < nextMs) return;
    nextMs = now() + (isScreen ? 200 : 5000);
    const etaMs = ((now() - beginMs) * (total - done)) / Math.max(1, done);
    meter.show(done, total, etaMs);
  };
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
    // Some editors write a byte order mark.
    text = readFileSync(file === '-' ? 0 : file, 'utf8').replace(/^\uFEFF/, '');
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

/** The plan as a chart: a line a migration, its time as a bar; below each the reason. */
export function timeLine(
  p: Plan,
  ends: ReadonlyMap<string, { readonly from: string; readonly to: string }>,
  columns: number,
): string {
  const text = chart(
    ['guest', 'way', 'priority'],
    p.migrations.map((m) => ({
      cells: [m.vm, `${ends.get(m.vm)?.from ?? '?'} → ${ends.get(m.vm)?.to ?? '?'}`, m.priority ?? ''],
      startS: m.start_s,
      endS: m.end_s,
      note: `${m.technique}; ${m.reason}`,
    })),
    columns,
  );

  const gap = p.lower_bound_s > 0 ? ` (no plan needs less than ${p.lower_bound_s.toFixed(1)} s)` : '';
  const late = p.migrations.filter((m) => m.late_s !== undefined).length;
  const refused = (p.refused ?? []).map((r) => `refused: ${r.vm}: ${r.reason}`);
  const name = p.instance === '' ? '' : `${p.instance}: `;
  const count = p.migrations.length === 1 ? '1 migration' : `${p.migrations.length} migrations`;
  const summary = `${name}${count} in ${p.makespan_s.toFixed(1)} s${gap}`;
  const missed = late === 0 ? '' : `, ${late === 1 ? '1 deadline' : `${late} deadlines`} missed`;
  const lines = p.migrations.length === 0 ? [] : ['', ...text];
  return `${[`${summary}${missed}`, ...lines, ...refused].join('\n')}\n`;
}
