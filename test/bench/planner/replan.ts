/**
 * How long a turn of the controller takes when it plans anew with many waiting migrations, beside a turn that does not, and beside the
 * first plan of all of them. The turn is the whole of it: rates, admission, plan, slices, what switches should hold. Part of
 * `../planner.ts`; `replanWorld.ts` is the network.
 */
import type { BenchRow } from '../../../contracts/bench.ts';
import { ReplanWorld, type TimedTurn } from './replanWorld.ts';

/** Hosts for a number of migrations: so few that most of them wait. */
const hostsFor = (n: number): number => Math.min(64, Math.max(3, Math.ceil(n / 8)));
/** Half seconds that are watched after something happened: drift is looked at for `planning.settleMs` first. */
const WATCHED = 8;
/** Half seconds without anything, for the turns that plan nothing. */
const QUIET = 4;

const row = (metric: string, value: number, unit: string, subject = 'fairway'): BenchRow => ({
  ...{ subject, metric, value: Math.round(value * 1e4) / 1e4, unit },
});

const longest = (turns: readonly TimedTurn[], of: (t: TimedTurn) => number): number =>
  turns.reduce((most, t) => Math.max(most, of(t)), 0);

/** Mean of the turns that begin with an event of that kind; 0 where there are none. */
function meanCpuMs(turns: readonly TimedTurn[], event: TimedTurn['event']): number {
  const own = turns.filter((t) => t.event === event);
  return own.reduce((sum, t) => sum + t.cpuMs, 0) / Math.max(1, own.length);
}

/** What makes the controller plan anew, by what is done to the world. */
const CAUSES: readonly (readonly [string, (w: ReplanWorld) => void])[] = [
  ['a copy failed', (w) => w.endCopy(w.copies()[0] ?? '', 'failed')],
  ['a copy ended early', (w) => w.endCopy(w.copies()[0] ?? '', 'completed')],
  ['workloads changed', (w) => w.workloadMbps.splice(0, w.hosts, ...w.workloadMbps.map((mbps) => 6000 - mbps))],
  [
    'the policy was edited',
    (w) => w.setPolicy((doc) => ({ ...doc, sla: { ...doc.sla, default: { floor: '60 %', ceiling: '80 %' } } })),
  ],
];

/** Rows for each number of migrations, and how the time grows with it. */
export function replanRows(numbers: readonly number[], seed: number, progress: (line: string) => void): BenchRow[] {
  const rows: BenchRow[] = [];
  const points: { n: number; ms: number }[] = [];
  measure(new ReplanWorld(4, 20, seed), seed); // So that the first figure is not that of cold code.
  for (const n of numbers) {
    progress(`replan: ${n} migrations`);
    const { first, quiet, causes } = measure(new ReplanWorld(hostsFor(n), n, seed), seed);
    const kind = `replan, ${hostsFor(n)} hosts, ${n.toLocaleString('en')} migrations`;
    rows.push(
      row(
        `${kind}: turn with the first plan`,
        longest(first, (t) => t.ms),
        'ms',
        'all from scratch',
      ),
      row(
        `${kind}: longest turn without a plan`,
        longest(quiet, (t) => t.ms),
        'ms',
        'no plan',
      ),
      row(`${kind}: mean turn after a reading, of processor time`, meanCpuMs(quiet, 'sampled'), 'ms', 'no plan'),
      row(
        `${kind}: mean turn after an agent's report, of processor time`,
        meanCpuMs(quiet, 'agentMessage'),
        'ms',
        'no plan',
      ),
    );
    const all: TimedTurn[] = [];
    for (const [cause, turns] of causes) {
      const planned = turns.filter((t) => t.planned !== null);
      if (planned.length === 0) continue;
      all.push(...planned);
      rows.push(
        row(
          `${kind}: ${cause}: longest turn that plans anew`,
          longest(planned, (t) => t.ms),
          'ms',
        ),
        row(`${kind}: ${cause}: plans anew in ${WATCHED / 2} s`, planned.length, 'plans'),
        row(
          `${kind}: ${cause}: waiting then`,
          longest(planned, (t) => t.waiting),
          'migrations',
        ),
      );
    }
    // With few migrations it may be that nobody waits any more.
    if (all.length === 0) continue;
    const ms = longest(all, (t) => t.cpuMs);
    rows.push(row(`${kind}: longest turn that plans anew, of processor time`, ms, 'ms'));
    const firstCpuMs = longest(first, (t) => t.cpuMs);
    rows.push(
      row(`${kind}: longest such turn / turn with the first plan, of processor time`, ms / firstCpuMs, 'ratio'),
    );
    points.push({ n, ms });
  }
  const [low, high] = [points[0], points.at(-1)];
  if (low !== undefined && high !== undefined && high.n > low.n && low.ms > 0) {
    const exponent = Math.log(high.ms / low.ms) / Math.log(high.n / low.n);
    rows.push(row('replan: processor time of the turn grows as migrations to the power of', exponent, 'exponent'));
  }
  return rows;
}

function measure(
  w: ReplanWorld,
  seed: number,
): { first: TimedTurn[]; quiet: TimedTurn[]; causes: [string, TimedTurn[]][] } {
  const watch = (halfSeconds: number, begin: () => void = () => {}): TimedTurn[] => {
    const from = w.turns.length;
    begin();
    for (let i = 0; i < halfSeconds; i++) w.pass();
    return w.turns.slice(from);
  };
  const first = watch(2, () => w.moveAll(seed)).filter((t) => t.planned !== null);
  const quiet = watch(QUIET).filter((t) => t.planned === null);
  const causes = CAUSES.map(([cause, cause_]): [string, TimedTurn[]] => [cause, watch(WATCHED, () => cause_(w))]);
  return { first, quiet, causes };
}
