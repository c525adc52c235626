/**
 * The ways of many waiting jobs at one moment: `choosePath` of `jobPath.ts` for each, with what is the same for all of them worked
 * out once. A thousand that wait are looked at after each reading, while some dozens run: what a job would get on a way
 * follows from the way, its priority and the policy that holds for it, hardly ever from who it is. `jobs.ts` asks here before
 * it admits. Pure.
 */
import type { Priority } from '../../contracts/common.ts';
import type { CompiledPolicy, Reservation } from '../../policies/index.ts';
import { type Towards, towards } from '../../topology/index.ts';
import { bestOf, type ChosenPath, choosePath, type JobPath, residualOf, waysOf } from './jobPath.ts';
import { policyOf, type Running, runningNow, sliceFor } from './reserve.ts';
import { type ControllerState, type Job, needsSlice, pullsNow } from './state.ts';

type Rate = Pick<ChosenPath, 'rateBps' | 'slice'>;

export class WayFinder {
  readonly #state: ControllerState;
  readonly #nowMs: number;
  readonly #residualBps: (link: string) => number;
  readonly #residuals = new Map<string, number>();
  readonly #towards = new Map<string, ReadonlyMap<string, Towards>>();
  /** Jobs that have a share of a link: to them that is free. */
  readonly #sharing: ReadonlySet<string>;
  #running: Running | undefined;
  /** The greatest least slice of those that run. */
  #runningLeastBps = 0;
  /** Ids of those that run, by priority. */
  readonly #names = new Map<Priority, readonly string[]>();
  readonly #rates = new Map<string, Rate>();
  /** Policies in the order they were met: their numbers stand for them in keys. */
  readonly #policies = new Map<CompiledPolicy, number>();

  /** For `choose` while nothing changes but jobs that wait. */
  constructor(state: ControllerState, nowMs: number) {
    this.#state = state;
    this.#nowMs = nowMs;
    this.#residualBps = residualOf(state, { id: '' }, nowMs);
    this.#sharing = new Set([...state.shares.values()].flatMap((s) => [...s.byMigration.keys()]));
  }

  /** The way that `choosePath` would choose, and why where it is not the obvious one. */
  choose(job: Job): Pick<ChosenPath, 'path' | 'why'> | string {
    // Who has or had a slice of his own is nobody's like.
    if (job.sliceBps > 0 || job.isHeld || needsSlice(job) || pullsNow(job) || this.#sharing.has(job.id))
      return choosePath(this.#state, job, this.#nowMs);
    const ways = waysOf(this.#state, job, {
      residualBps: (link) => this.#residual(link),
      towardsOf: (dpid) => this.#towardsOf(dpid),
    });
    if (typeof ways === 'string') return ways;
    const [only] = ways;
    if (ways.length === 1 && only !== undefined) return { path: only, why: null };
    return bestOf(ways.map((path) => ({ path, ...this.#rateOf(job, path) })));
  }

  #residual(link: string): number {
    const bps = this.#residuals.get(link) ?? this.#residualBps(link);
    this.#residuals.set(link, bps);
    return bps;
  }

  #towardsOf(dpid: string): ReadonlyMap<string, Towards> {
    const table = this.#towards.get(dpid) ?? towards(this.#state.topology, dpid, (link) => this.#residual(link));
    this.#towards.set(dpid, table);
    return table;
  }

  /** What a job would get on a way. */
  #rateOf(job: Job, path: JobPath): Rate {
    const policies = [job.from, job.to, null].map((host) => this.#number(policyOf(this.#state, job, host)));
    const like = [job.priority, job.phase, ...policies, path.dpids.length, ...path.links].join(' ');
    const known = this.#rates.get(like) ?? this.#rates.get(`${like} ${this.#place(job)}`);
    if (known !== undefined) return known;
    const made = sliceFor(this.#state, { ...job, ...path }, job.phase, this.#nowMs, this.#runs());
    const slice = made.slices.get(job.id);
    const rate = { rateBps: slice?.rateBps ?? 0, slice: slice?.reason ?? null };
    this.#rates.set(this.#isOrdered(made) ? `${like} ${this.#place(job)}` : like, rate);
    return rate;
  }

  #number(policy: CompiledPolicy): number {
    const number = this.#policies.get(policy) ?? this.#policies.size;
    this.#policies.set(policy, number);
    return number;
  }

  /**
   * Whether it may count who comes first by name among those of a priority: where there is not enough for the least of each, those
   * that come first have it (`reserve`).
   */
  #isOrdered({ slices }: Reservation): boolean {
    const rules = ['reservation.minimum', 'reservation.held', 'reservation.unknownLink', 'reservation.noLinks'];
    const met = [this.#state.policy, ...this.#policies.keys()];
    const leastBps = Math.max(this.#runningLeastBps, ...met.map((p) => p.doc.reservation.minSliceBps));
    return [...slices.values()].some((s) => s.rateBps < leastBps || rules.includes(s.reason.rule));
  }

  /** How many of those that run and have the priority of a job come before it by name. */
  #place(job: Job): number {
    this.#runs();
    return (this.#names.get(job.priority) ?? []).filter((id) => id < job.id).length;
  }

  #runs(): Running {
    if (this.#running !== undefined) return this.#running;
    this.#running = runningNow(this.#state, this.#nowMs);
    for (const c of this.#running.claims) {
      this.#names.set(c.priority, [...(this.#names.get(c.priority) ?? []), c.migration]);
      for (const l of c.links) {
        const leastBps = c.policyOn?.(l).doc.reservation.minSliceBps ?? 0;
        this.#runningLeastBps = Math.max(this.#runningLeastBps, leastBps);
      }
    }
    return this.#running;
  }
}
