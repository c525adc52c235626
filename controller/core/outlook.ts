/**
 * When open migrations end, by playing what is known forward: those that run go on at what the reservation gives them, whoever
 * ends leaves its part to the others and lets in who waited for it, by the rules that will decide it then (`policies/admission`,
 * `policies/reservation`, the plan's order). Played three times: as everything is known, and with all of it a little better and
 * worse (`policies/forecast.ts` says how much), which gives the interval. For `explain.ts`; nothing is decided here. Pure.
 *
 * What was played is remembered for the state it was played for, so that a row of explanations costs little more than one.
 */
import { isFinal, PRIORITIES, type Technique } from '../../contracts/common.ts';
import {
  type AdmissionItem,
  admit,
  type CompiledPolicy,
  type CopyState,
  copyLeftMs,
  type Forecast,
  type GuestModel,
  OVERHEAD_MS,
  predictCopy,
  REPORTED_MS,
  SUPPOSED,
  type Supposed,
} from '../../policies/index.ts';
import { modelOf } from './guestModel.ts';
import { likelyTechnique } from './planning.ts';
import { hostTraffic } from './rates.ts';
import { payloadBps, policyOf, ratesTogether, usableBps } from './reserve.ts';
import { type ControllerState, isActive, type Job } from './state.ts';

/** More open migrations than this that have to do with each other are not played. */
const MOST_PLAYED = 24;
/** Nor is who has to do with whom looked for among more than this. */
const MOST_SEARCHED = 200;
/** A plan that is made anew puts those that wait so much nearer or farther; that it puts first who was last is not foreseen. */
const REPLANNED = { nearer: 0.85, farther: 1.15 };
/** From when everything is ready until the first byte, and from the last byte until that is known, ms. */
const SHORTLY_MS = OVERHEAD_MS / 4;

/** What is known of an open migration; its technique is the likely one where it was not chosen yet. */
interface Facts {
  readonly job: Job;
  readonly policy: CompiledPolicy;
  readonly technique: Technique;
  readonly model: GuestModel;
  /** Null before there was a report of it. */
  readonly copy: CopyState | null;
  readonly isCopying: boolean;
  /** A pre-copy that was asked for, and so is left to go round and round, and does not converge. */
  readonly isEndless: boolean;
}

/** … in a play. */
interface Part extends Facts {
  stage: 'waiting' | 'held' | 'preparing' | 'copying' | 'ended';
  /** When it begins to copy, while it prepares. */
  readyMs: number;
  /** Share of the copy, as far as it is still to come now, that is left. */
  left: number;
  endMs: number;
  /** How long all of that would take at a rate, bit/s, as found last. */
  whole: { bps: number; ms: number };
}

/** What migrations have that run beside each other, as plays of one moment found it. */
type KnownRates = Map<string, ReadonlyMap<string, number>>;

/** Those that have to do with each other, and when they end; undefined where they are too many. */
type Played = ReadonlyMap<string, Forecast> | undefined;

const known = new WeakMap<ControllerState, { nowMs: number; open: readonly Job[]; ends: Map<string, Played> }>();

/** When the copy of a job ends, ms from now; undefined where it cannot be played. */
export function outlookOf(state: ControllerState, job: Job, nowMs: number): Forecast | undefined {
  let at = known.get(state);
  if (at?.nowMs !== nowMs) {
    at = { nowMs, open: [...state.jobs.values()].filter(isOpen), ends: new Map() };
    known.set(state, at);
  }
  if (!at.ends.has(job.id)) {
    const jobs = relatedTo(at.open, job);
    const played = jobs && playAll(state, jobs, nowMs);
    for (const { id } of jobs ?? [job]) at.ends.set(id, played);
  }
  return at.ends.get(job.id)?.get(job.id);
}

const isOpen = (j: Job): boolean => !isFinal(j.state) && !j.copyEnded && j.isReleased !== true;

/** Who shares a link or a host with it, or waits for it, and so on; in the order of request. */
function relatedTo(open: readonly Job[], job: Job): Job[] | undefined {
  if (open.length > MOST_SEARCHED) return undefined;
  const found = new Set<Job>([job]);
  for (const one of found) {
    if (found.size > MOST_PLAYED) return undefined;
    const before = new Set([...one.behind, ...(one.planned?.after ?? [])]);
    for (const other of open)
      if (
        before.has(other.id) ||
        other.from === one.from ||
        other.to === one.to ||
        other.links.some((l) => one.links.includes(l))
      )
        found.add(other);
  }
  return open.filter((j) => found.has(j));
}

function playAll(state: ControllerState, jobs: readonly Job[], nowMs: number): ReadonlyMap<string, Forecast> {
  const facts = jobs.map((job) => factsOf(state, job, nowMs));
  const rates: KnownRates = new Map();
  const play = (supposed: Supposed) => new Play(state, facts, nowMs, supposed, rates).run();
  const expected = play(SUPPOSED.expected);
  const early = play(SUPPOSED.early);
  const late = play(SUPPOSED.late);
  return new Map(
    jobs.map((j): [string, Forecast] => {
      const leftMs = expected.get(j.id) ?? Number.POSITIVE_INFINITY;
      const waitsByPlan = j.planned !== null && (!isActive(j) || j.isHeld);
      const { nearer, farther } = waitsByPlan ? REPLANNED : { nearer: 1, farther: 1 };
      const earliestMs = Math.min(leftMs, early.get(j.id) ?? 0) * nearer;
      const latestMs = Math.max(leftMs, late.get(j.id) ?? Number.POSITIVE_INFINITY) * farther;
      const reportedMs = j.state === 'copying' || j.state === 'switching' ? REPORTED_MS : 0;
      return [j.id, { leftMs, earliestMs: Math.max(0, earliestMs - reportedMs), latestMs: latestMs + OVERHEAD_MS }];
    }),
  );
}

const runs = (p: Part): boolean => p.stage === 'preparing' || p.stage === 'copying';

/** One way it may go. Times are ms from now. */
class Play {
  readonly #state: ControllerState;
  readonly #nowMs: number;
  readonly #supposed: Supposed;
  readonly #parts: readonly Part[];
  readonly #byId: ReadonlyMap<string, Part>;
  readonly #limits: ReadonlyMap<string, { outgoing?: number | undefined; incoming?: number | undefined }>;
  readonly #known: KnownRates;
  #ms = 0;

  constructor(state: ControllerState, facts: readonly Facts[], nowMs: number, supposed: Supposed, rates: KnownRates) {
    this.#known = rates;
    this.#state = state;
    this.#nowMs = nowMs;
    this.#supposed = supposed;
    this.#parts = facts.map((f) => this.#part(f));
    this.#byId = new Map(this.#parts.map((p) => [p.job.id, p]));
    this.#limits = new Map([...state.agents.values()].map((a) => [a.host, a.limits] as const));
  }

  #part(facts: Facts): Part {
    const { job, isCopying, model } = facts;
    const stage = job.isHeld ? 'held' : isCopying ? 'copying' : isActive(job) ? 'preparing' : 'waiting';
    // What it is at was begun some time ago.
    const beganMs = job.transitions.at(-1)?.atMs ?? this.#nowMs;
    const takesMs = (job.awaiting === 'measureDirtyRate' ? OVERHEAD_MS : SHORTLY_MS) * this.#supposed.prepare;
    const readyMs = Math.max(0, takesMs - (this.#nowMs - beganMs));
    const own = { ...model, dirtyBytesPerS: model.dirtyBytesPerS * this.#supposed.dirty };
    const whole = { bps: Number.NaN, ms: Number.NaN };
    return { ...facts, model: own, stage, readyMs, left: 1, endMs: Number.POSITIVE_INFINITY, whole };
  }

  run(): ReadonlyMap<string, number> {
    // Each round somebody begins, ends, or is due by the plan.
    for (let round = 0; round < 4 * this.#parts.length + 4; round++) {
      this.#letIn();
      const rates = this.#rates();
      const dueMs = (p: Part): number => {
        if (p.stage === 'preparing') return p.readyMs;
        if (p.stage === 'copying') return this.#ms + p.left * this.#wholeMs(p, rates);
        const { planned } = p.job;
        const startMs = planned === null ? 0 : planned.startAtMs - this.#nowMs;
        return startMs > this.#ms ? startMs : Number.POSITIVE_INFINITY;
      };
      const due = this.#parts.map((p) => (p.stage === 'ended' ? Number.POSITIVE_INFINITY : dueMs(p)));
      const nextMs = Math.min(...due);
      if (!Number.isFinite(nextMs)) break;
      const passedMs = nextMs - this.#ms;
      for (const [i, p] of this.#parts.entries()) {
        const isDue = due[i] === nextMs;
        if (p.stage === 'copying') {
          p.left = isDue ? 0 : Math.max(0, p.left - passedMs / this.#wholeMs(p, rates));
          if (isDue) {
            p.stage = 'ended';
            p.endMs = nextMs + SHORTLY_MS * this.#supposed.prepare;
          }
        } else if (p.stage === 'preparing' && isDue) p.stage = 'copying';
      }
      this.#ms = nextMs;
    }
    return new Map(this.#parts.map((p) => [p.job.id, p.endMs]));
  }

  /** Whoever has a slice then, or is about to, and what it has. */
  #rates(): ReadonlyMap<string, number> {
    const jobs = this.#parts.filter(runs).map((p) => p.job);
    const now = this.#together(jobs, 1);
    const { workload, leastRate } = this.#supposed;
    if (workload === 1) return now;
    const then = this.#together(jobs, workload);
    return new Map([...now].map(([id, bps]) => [id, Math.max(then.get(id) ?? bps, leastRate * bps)]));
  }

  #together(jobs: readonly Job[], workload: number): ReadonlyMap<string, number> {
    const key = `${workload} ${jobs.map((j) => j.id).join(' ')}`;
    const rates = this.#known.get(key) ?? ratesTogether(this.#state, jobs, this.#nowMs, workload);
    this.#known.set(key, rates);
    return rates;
  }

  /** How long all that is left now would take at the rate it has. */
  #wholeMs(p: Part, rates: ReadonlyMap<string, number>): number {
    const sliceBps = rates.get(p.job.id) ?? 0;
    if (sliceBps <= 0 || (p.isEndless && this.#supposed === SUPPOSED.late)) return Number.POSITIVE_INFINITY;
    const bps = payloadBps(sliceBps * this.#supposed.rate);
    if (p.whole.bps !== bps) p.whole = { bps, ms: copyLeftMs(p.technique, p.model, p.copy, bps, p.policy) };
    return p.whole.ms;
  }

  /** Those who may begin now. */
  #letIn(): void {
    const isOver = (id: string) => {
      const part = this.#byId.get(id);
      if (part !== undefined) return part.stage === 'ended';
      const other = this.#state.jobs.get(id);
      return other === undefined || !isOpen(other);
    };
    // A plan that is made anew may put what nobody stands before at any time.
    const isEarly = this.#supposed === SUPPOSED.early;
    const hasTurn = ({ job: { planned } }: Part) => {
      if (planned === null || !planned.after.every(isOver)) return false;
      return planned.after.length > 0 || isEarly || this.#ms >= planned.startAtMs - this.#nowMs;
    };
    for (const p of this.#parts) if (p.stage === 'held' && hasTurn(p)) this.#begin(p, SHORTLY_MS);
    const waiting = this.#parts.filter((p) => p.stage === 'waiting');
    if (waiting.length === 0) return;
    const item = (p: Part): AdmissionItem => ({
      ...{ id: p.job.id, group: p.job.group, priority: p.job.priority, strategy: p.job.strategy ?? 'serial' },
      ...{ fromHost: p.job.from, toHost: p.job.to, links: p.job.links },
    });
    const turn = (p: Part) => {
      if (!p.job.isPlanned) return {};
      const reason = p.job.planned?.reason ?? { rule: 'planning.noPlace', text: '', inputs: {} };
      return { turn: hasTurn(p) ? null : { reason, behind: [] } };
    };
    const running = this.#parts.filter((p) => p.stage !== 'waiting' && p.stage !== 'ended').map(item);
    const entries = waiting.map((p) => ({ ...item(p), ...turn(p) }));
    const { start } = admit({ waiting: entries, running, limits: this.#limits }, this.#state.policy);
    for (const id of start) {
      const p = this.#byId.get(id) as Part;
      // Planned ones were made ready before their turn, but for those that wait for room.
      const isReady = p.job.isPlanned && p.job.planned?.reason.rule !== 'planning.memory';
      this.#begin(p, isReady ? Math.max(SHORTLY_MS, OVERHEAD_MS - this.#ms) : OVERHEAD_MS);
    }
  }

  #begin(p: Part, afterMs: number): void {
    p.stage = 'preparing';
    p.readyMs = this.#ms + afterMs * this.#supposed.prepare;
  }
}

function factsOf(state: ControllerState, job: Job, nowMs: number): Facts {
  const isCopying = job.state === 'copying' || job.state === 'switching' || job.state === 'recovering';
  const model = modelOf(state, job);
  const policy = policyOf(state, job);
  const copy =
    isCopying && job.progress
      ? { remainingBytes: job.progress.remainingBytes, passes: job.progress.passes, isPostcopy: job.resumed }
      : null;
  const rank = PRIORITIES.indexOf(job.priority);
  const aloneBps = Math.min(...job.links.map((l) => usableBps(state, l, nowMs)[rank] as number));
  const rateBps = Math.min(aloneBps, Number.MAX_SAFE_INTEGER);
  const directionOf = (host: string) => hostTraffic(state, host).direction;
  const technique = job.technique ?? likelyTechnique(state, job, model, rateBps, directionOf);
  const payload = payloadBps(job.sliceBps > 0 ? job.sliceBps : rateBps);
  const autoConverge = job.asked.options?.autoConverge === true;
  const isEndless =
    job.asked.technique === 'pre-copy' && !predictCopy('pre-copy', model, payload, policy, { autoConverge }).converges;
  return { job, policy, technique, model, copy, isCopying, isEndless };
}
