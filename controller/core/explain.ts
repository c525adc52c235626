/**
 * One record of why a migration is as it is: why it waits and behind what, which link binds, why this technique and this
 * rate, what would change it, and when it will be done, with an interval. Made from the state, for `fairway explain`, the
 * HTTP interface and the feed; nothing is decided here. Pure. (`policies/explain.ts` explains settings of the policy.)
 */
import { isFinal, PRIORITIES, type Priority, type Reason } from '../../contracts/common.ts';
import type { Explanation } from '../../contracts/feed.ts';
import { formatMs, formatRate } from '../../contracts/units.ts';
import { type Forecast, forecastCopy, predictCopy } from '../../policies/index.ts';
import { modelOf } from './guestModel.ts';
import { isPaced } from './hold.ts';
import { outlookOf } from './outlook.ts';
import { awayText } from './overlays.ts';
import { rateOf } from './planning.ts';
import { workloadBps } from './rates.ts';
import { payloadBps, policyOf, policyOn, sliceFor, usableBps } from './reserve.ts';
import { agentsAway, standingOf } from './standing.ts';
import { type ControllerState, isActive, type Job } from './state.ts';

/** Rates older than this tell nothing. */
const STALE_MS = 10_000;
/** How long a chain of those that wait behind one another is followed. */
const MAX_CHAIN = 20;
/** What waits until others have ended may come so much sooner or later, as shares of the time until then … */
const WAIT_LEAST = 0.6;
const WAIT_MOST = 1.6;
/** … and a little beside. */
const WAIT_SLACK_MS = 4000;
/** A change that gives less than this share more is not worth telling. */
const WORTH_TELLING = 1.05;

const rank = (p: Priority) => PRIORITIES.indexOf(p);
const ofKind = (job: Job, ...kinds: string[]): Reason[] =>
  job.reasons.filter((r) => kinds.includes(r.rule.split('.')[0] as string));

/** What a link of the path would give the job alone, and the one that gives least. */
interface Narrow {
  link: string;
  bps: number;
  /** What the next narrowest would give; Infinity when there is none. */
  nextBps: number;
}

function narrowest(state: ControllerState, job: Job, nowMs: number): Narrow | undefined {
  const own = job.links.map((link) => ({ link, bps: usableBps(state, link, nowMs)[rank(job.priority)] as number }));
  own.sort((a, b) => a.bps - b.bps);
  const [first, second] = own;
  return first === undefined ? undefined : { ...first, nextBps: second?.bps ?? Number.POSITIVE_INFINITY };
}

/** When the copies of those that a job waits behind end, by job: many may wait behind the same ones. */
type Forecasts = Map<string, Forecast | undefined>;

/** When the copy of a job ends, ms from now; undefined where nothing can be said. */
function forecast(
  state: ControllerState,
  job: Job,
  nowMs: number,
  known: Forecasts = new Map(),
  depth = 0,
): (Forecast & { basis: Basis }) | undefined {
  const isCopying = job.state === 'copying' || job.state === 'switching';
  const played = depth === 0 ? outlookOf(state, job, nowMs) : undefined;
  if (played !== undefined) {
    const isWaiting = !isActive(job) || job.isHeld;
    const waitingFor = job.planned !== null ? 'plan' : job.behind.length > 0 ? 'behind' : 'model';
    return { ...played, basis: isWaiting ? waitingFor : isCopying ? 'progress' : 'model' };
  }
  if (isActive(job) && !job.isHeld) return copyForecast(state, job, nowMs, isCopying ? 'progress' : 'model');
  if (job.planned !== null) {
    const { startAtMs, endAtMs } = job.planned;
    const waitMs = Math.max(0, startAtMs - nowMs);
    const copyMs = endAtMs - startAtMs;
    return {
      leftMs: waitMs + copyMs,
      earliestMs: (waitMs + copyMs) * WAIT_LEAST,
      latestMs: (waitMs + copyMs) * WAIT_MOST + WAIT_SLACK_MS,
      basis: 'plan',
    };
  }
  const own = copyForecast(state, job, nowMs, 'model');
  if (own === undefined || depth >= MAX_CHAIN) return undefined;
  let wait: Forecast = { leftMs: 0, earliestMs: 0, latestMs: 0 };
  for (const id of job.behind) {
    const other = state.jobs.get(id);
    if (!known.has(id) && other !== undefined && !isFinal(other.state))
      known.set(id, forecast(state, other, nowMs, known, depth + 1));
    const f = known.get(id);
    if (f !== undefined && f.leftMs > wait.leftMs) wait = f;
  }
  return {
    leftMs: wait.leftMs + own.leftMs,
    earliestMs: (wait.leftMs + own.leftMs) * WAIT_LEAST,
    latestMs: (wait.leftMs + own.leftMs) * WAIT_MOST + WAIT_SLACK_MS,
    basis: job.behind.length > 0 ? 'behind' : 'model',
  };
}

type Basis = NonNullable<Explanation['end']>['basis'];

function copyForecast(
  state: ControllerState,
  job: Job,
  nowMs: number,
  basis: Basis,
): (Forecast & { basis: Basis }) | undefined {
  const alone = narrowest(state, job, nowMs)?.bps ?? job.sliceBps;
  const rate = rateOf(job);
  const has = rate > 0 ? rate : alone;
  if (has <= 0) return undefined;
  const copy =
    basis === 'progress' && job.progress
      ? { remainingBytes: job.progress.remainingBytes, passes: job.progress.passes, isPostcopy: job.resumed }
      : null;
  const policy = policyOf(state, job);
  const model = modelOf(state, job);
  const f = forecastCopy(
    {
      technique: job.technique ?? job.asked.technique ?? 'pre-copy',
      model,
      copy,
      rateBps: payloadBps(has),
      mostBps: payloadBps(Math.max(alone, has)),
    },
    policy,
  );
  // One that was asked for is left to go round and round; any other is moved to a technique that ends.
  const autoConverge = job.asked.options?.autoConverge === true;
  const isEndless =
    job.asked.technique === 'pre-copy' &&
    !predictCopy('pre-copy', model, payloadBps(has), policy, { autoConverge }).converges;
  return { ...f, ...(isEndless ? { latestMs: Number.POSITIVE_INFINITY } : {}), basis };
}

/** The record. */
export function explainJob(state: ControllerState, job: Job, nowMs: number): Explanation {
  const isOpen = !isFinal(job.state) && !job.copyEnded;
  const isWaiting = job.state === 'requested' || job.state === 'queued' || job.isHeld;
  const narrow = isOpen ? narrowest(state, job, nowMs) : undefined;
  const end = isOpen ? forecast(state, job, nowMs) : undefined;
  const rate = isOpen && job.sliceBps <= 0 ? null : lastSlice(state, job);
  const link = rate?.reason.bindingLink ?? narrow?.link;
  const binding = isOpen && link !== undefined ? bindingOf(state, job, link, nowMs) : null;
  const technique = job.technique === null ? null : { value: job.technique, reasons: ofKind(job, 'technique') };
  const waits = isWaiting && isOpen ? waitsOf(state, job) : null;
  const record: Omit<Explanation, 'summary'> = {
    atMs: nowMs,
    waits,
    now: standingOf(state, job, nowMs),
    binding,
    technique,
    strategy: job.strategy === null ? null : { value: job.strategy, reasons: ofKind(job, 'contention', 'strategy') },
    rate,
    end:
      end === undefined || !Number.isFinite(end.leftMs)
        ? null
        : {
            expectedAtMs: nowMs + Math.round(end.leftMs),
            earliestAtMs: nowMs + Math.round(Math.min(end.earliestMs, end.leftMs)),
            latestAtMs: Number.isFinite(end.latestMs) ? nowMs + Math.round(end.latestMs) : null,
            basis: end.basis,
          },
    changes: isOpen ? changesOf(state, job, nowMs, narrow) : [],
  };
  // Where its guest is away from home, what is to be said of that is said of its last migration.
  const isLast = [...state.jobs.values()].findLast((j) => j.guest === job.guest)?.id === job.id;
  const away = isLast ? awayText(state, job.guest) : '';
  return { summary: `${summaryOf(job, record, nowMs)}${away === '' ? '' : `; ${away}`}`, ...record };
}

/** The slice it has, or had last, and why: while nobody can tell its source another pace, that is why. */
function lastSlice(state: ControllerState, job: Job): Explanation['rate'] {
  const last = job.sliceSteps.findLast((s) => s.rateBps > 0);
  if (last === undefined) return null;
  const hold = state.holds.get(job.id);
  if (hold === undefined || last.rateBps !== job.sliceBps) return { bps: last.rateBps, reason: last.reason };
  const text = `its last pace, as nobody can tell ${job.from} another one while its agent is away; before that ${last.reason.text}`;
  const inputs = { ...last.reason.inputs, heldBps: job.sliceBps, heldSinceMs: hold.sinceMs };
  return { bps: last.rateBps, reason: { ...last.reason, rule: 'reservation.held', text, inputs } };
}

/** The last thing that was said of why it waits; a job that is held says it of its plan. */
function waitsOf(state: ControllerState, job: Job): Explanation['waits'] {
  const kinds = ['admission', 'planning', 'reservation'];
  const said =
    job.note === null
      ? undefined
      : job.reasons.findLast((r) => r.text === job.note && kinds.includes(r.rule.split('.')[0] as string));
  const reason =
    said ??
    job.planned?.reason ??
    ({
      rule: job.note === null ? 'admission.rates' : 'admission.waits',
      text: job.note ?? 'it waits for the first counters of its path',
      inputs: {},
    } satisfies Reason);
  const behind = job.isHeld ? (job.planned?.after ?? []) : job.behind;
  const open = behind.filter((id) => {
    const other = state.jobs.get(id);
    return other !== undefined && !isFinal(other.state) && !other.copyEnded;
  });
  return { reason, behind: open };
}

function bindingOf(state: ControllerState, job: Job, link: string, nowMs: number): Explanation['binding'] {
  const capacityBps = state.topology.capacityBps(link);
  const from = state.topology.capacityReason(link)?.from;
  const { floorBps, ceilingBps } = policyOn(state, job)(link).slaFor(link, capacityBps);
  const slices = state.shares.get(link)?.byMigration ?? new Map<string, number>();
  return {
    link,
    capacityBps,
    ...(from === undefined ? {} : { capacityFrom: from }),
    workloadBps: Math.round(workloadBps(state, link, nowMs, STALE_MS) ?? 0),
    floorBps,
    ceilingBps,
    slicesBps: [...slices.values()].reduce((a, b) => a + b, 0),
    migrations: [...slices.keys()],
  };
}

/** What somebody could do, with what it would come to. */
function changesOf(
  state: ControllerState,
  job: Job,
  nowMs: number,
  narrow: Narrow | undefined,
): Explanation['changes'] {
  const changes: Explanation['changes'] = [];
  const has = job.sliceBps > 0 ? job.sliceBps : (narrow?.bps ?? 0);
  const isWaiting = !isActive(job) || job.isHeld;
  const away = agentsAway(state, job);
  if (away.length > 0) {
    const agents = `the agent${away.length === 1 ? '' : 's'} of ${away.join(' and ')}`;
    const is = away.length === 1 ? 'is' : 'are';
    const text = isPaced(job)
      ? `when ${agents} ${is} back it can be told another pace${job.flipped ? '' : ', or be cancelled'}; if that will not be: fairway cancel ${job.id} --forget`
      : `${agents} ${is} away: its copy cannot begin before ${away.length === 1 ? 'that is' : 'they are'} started again`;
    changes.push({ rule: 'change.agent', text, rateBps: null });
  }
  if (isWaiting) {
    const open = (job.isHeld ? (job.planned?.after ?? []) : job.behind).filter((id) => {
      const other = state.jobs.get(id);
      return other !== undefined && !isFinal(other.state);
    });
    if (open.length > 0) {
      const text = `it starts when ${names(open)} ${open.length === 1 ? 'has' : 'have'} ended or been cancelled`;
      changes.push({ rule: 'change.behind', text, rateBps: null });
    }
    if (job.strategy === 'serial' && !job.isPlanned && open.length > 0) {
      const text = 'asked for with strategy parallel it would not wait for them, and share the links with them';
      changes.push({ rule: 'change.parallel', text, rateBps: null });
    }
  }
  if (isWaiting && job.priority !== 'high') {
    const passed = plannedBefore(state, job).filter((j) => j.priority !== 'high');
    if (passed.length > 0) {
      const text = `with high priority it would be planned before ${names(passed.map((j) => j.id))}`;
      changes.push({ rule: 'change.order', text, rateBps: null });
    }
  }
  if (job.priority !== 'high' && job.links.length > 0) {
    const slice = sliceFor(state, { ...job, priority: 'high', isHeld: job.isHeld }, 'running', nowMs).slices.get(
      job.id,
    );
    const rateBps = slice?.rateBps ?? 0;
    if (rateBps > has * WORTH_TELLING) {
      const text = `with high priority it would have ${formatRate(rateBps)}${has > 0 ? ` instead of ${formatRate(has)}` : ''}`;
      changes.push({ rule: 'change.priority', text, rateBps });
    }
  }
  if (narrow !== undefined) {
    const { link, bps, nextBps } = narrow;
    const others = [...(state.shares.get(link)?.byMigration ?? [])].filter(([id]) => id !== job.id);
    if (others.length > 0 && has > 0 && bps > has * WORTH_TELLING) {
      const text = `without ${names(others.map(([id]) => id))} on ${link} it would have up to ${formatRate(bps)}`;
      changes.push({ rule: 'change.sharing', text, rateBps: bps });
    }
    const held = {
      high: "the workload's floor",
      medium: 'what the workload is left (floor, rate, ceiling)',
      low: 'what the workload sends',
    };
    if (nextBps > bps * WORTH_TELLING) {
      const more = Number.isFinite(nextBps) ? `, up to the ${formatRate(nextBps)} of the next narrowest link` : '';
      const text = `${held[job.priority]} on ${link} leaves ${formatRate(bps)}: each bit/s less there is one more for it${more}`;
      changes.push({ rule: 'change.workload', text, rateBps: Number.isFinite(nextBps) ? nextBps : null });
    }
  }
  return changes;
}

/** Others of its plan that wait too, share a link with it and are to begin before it. */
function plannedBefore(state: ControllerState, job: Job): Job[] {
  const startAtMs = job.planned?.startAtMs ?? Number.NEGATIVE_INFINITY;
  return [...state.jobs.values()].filter(
    (j) =>
      (!isActive(j) || j.isHeld) &&
      !isFinal(j.state) &&
      j.planned !== null &&
      j.planned.startAtMs < startAtMs &&
      j.links.some((l) => job.links.includes(l)),
  );
}

const names = (ids: readonly string[]): string =>
  ids.length > 3 ? `${ids.slice(0, 3).join(', ')} and ${ids.length - 3} more` : ids.join(', ');

/** Where the disks of a guest are that left them behind. */
function disksText(job: Job): string {
  if (job.asked.options?.storage !== 'on-demand') return '';
  if (job.disksPulled === true) return `; all of its disks is at ${job.to}`;
  const { pull } = job;
  const rest = `what its guest has not read of its disks yet is at ${job.from}`;
  if (!pull || pull.state === 'stopped') return `; ${rest}, and nothing pulls it`;
  if (pull.state === 'running') {
    const share = pull.totalBytes > 0 ? `, ${Math.floor((100 * pull.doneBytes) / pull.totalBytes)} % are through` : '';
    const stuck = pull.note === null ? '' : `; it stands still: ${pull.note}`;
    return `; its disks are pulled at ${formatRate(pull.pacedBps ?? 0)}${share}${stuck}`;
  }
  const why = pull.note === null ? '' : `: ${pull.note}`;
  if (pull.state === 'failed') return `; ${rest}, and its pull failed${why}`;
  return `; ${rest}, and its pull ${pull.state === 'stopping' ? 'is being stopped' : 'waits'}${why}`;
}

function summaryOf(job: Job, e: Omit<Explanation, 'summary'>, nowMs: number): string {
  if (isFinal(job.state)) return endedText(job);
  if (job.copyEnded) return `the guest runs at its destination; stragglers are still sent on${disksText(job)}`;
  const isAway = e.now?.rule === 'now.agentAway';
  const basis = isAway ? ' by what was heard last' : '';
  const done = e.end === null ? '' : `; done in about ${formatMs(Math.max(0, e.end.expectedAtMs - nowMs))}${basis}`;
  if (e.waits !== null) {
    const { reason, behind } = e.waits;
    // Most reasons name them.
    const unnamed = behind.some((id) => !reason.text.includes(id)) && behind.length > 0;
    const ready = isAway || !job.isHeld ? 'waits' : 'is ready and waits';
    return `it ${ready}: ${reason.text}${unnamed ? ` (behind ${names(behind)})` : ''}${isAway ? `; ${e.now?.text}` : ''}${done}`;
  }
  const rate = e.rate === null ? '' : ` at ${formatRate(e.rate.bps)}`;
  const bound = e.rate?.reason.bindingLink === undefined ? '' : `, as much as ${e.rate.reason.bindingLink} allows`;
  return `it is ${job.state}${job.technique === null ? '' : ` by ${job.technique}`}${rate}${bound}${e.now ? `; ${e.now.text}` : ''}${done}`;
}

/** How it ended; notes say it in their own words. */
function endedText(job: Job): string {
  const { state, note } = job;
  if (note === null) return `it is ${state}${disksText(job)}`;
  if (state === 'done') return `it is done: ${note}`;
  if (state === 'cancelled') return note.startsWith('cancelled') ? `it was ${note}` : `it was cancelled: ${note}`;
  return state === 'failed' ? `it failed: ${note}` : `it is lost: ${note}`;
}
