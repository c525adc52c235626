/**
 * The cost of a copy by each technique, as QEMU makes it: passes over memory, looks at the dirty log, and a last part with
 * the guest stopped. Pure arithmetic over `model.ts`; the policy comes in at `index.ts`.
 */
import type { Technique } from '../../contracts/common.ts';
import {
  type CopyConditions,
  type CopyState,
  dirtiedBytes,
  type Guest,
  type GuestModel,
  guestOf,
  HOST_COSTS,
  type Prediction,
  wireBytes,
  zeroWireBytes,
} from './model.ts';

/** Passes after which a pre-copy that does not converge is taken to be stopped and copied by force. */
const MAX_PASSES = 30;
/** QEMU paces in periods of so many ms and looks at what is left once in each. */
const PACER_MS = 100;
/** QEMU's auto-converge: when a pass dirtied half of what it sent for the second time, 20 %, and 10 % more each time after that. */
const THROTTLE = { triggerShare: 0.5, triggerPasses: 2, initial: 0.2, increment: 0.1, max: 0.99 } as const;
const GIB = 2 ** 30;

/** A prediction before it is known whether the policy calls it converging. */
export type CopyCost = Omit<Prediction, 'converges'>;

/** A copy that sends nothing ends never. */
const NEVER: CopyCost = {
  totalMs: Number.POSITIVE_INFINITY,
  downtimeMs: Number.POSITIVE_INFINITY,
  degradedMs: Number.POSITIVE_INFINITY,
  slowedMs: 0,
  bytes: 0,
  passes: 0,
};

/**
 * What a copy costs at a constant rate. A rate of 0 takes for ever: Infinity.
 * Sources of the equations: docs/cost-models.md.
 */
export function copyCost(technique: Technique, model: GuestModel, c: CopyConditions): CopyCost {
  const g = guestOf(model);
  if (!(c.rateBps > 0)) return { ...NEVER, bytes: wireBytes(g.nonZeroBytes) + zeroWireBytes(g.zeroBytes) };
  switch (technique) {
    case 'pre-copy':
      // The first look is at the very beginning.
      return preCopy(g, c, { ...begin(g), ms: walkMs(g, c) });
    case 'hybrid':
      return hybrid(g, c, begin(g));
    case 'post-copy':
      return postCopy(g, c);
    case 'stop-and-copy':
      return stopAndCopy(g, c);
  }
}

/** The same of what is still to come of a copy under way. */
export function restCost(technique: Technique, model: GuestModel, c: CopyConditions, copy: CopyState): CopyCost {
  const g = guestOf(model);
  const s = underWay(g, c, copy);
  const isSentOnce = copy.isPostcopy || technique === 'post-copy' || technique === 'stop-and-copy';
  const bytes = wireBytes(s.left) + zeroWireBytes(s.zeroLeft);
  if (!(c.rateBps > 0)) return { ...NEVER, bytes };
  if (isSentOnce) {
    const ms = bytes / bytesPerMs(c) + walkMs(g, c);
    const isStopped = technique === 'stop-and-copy' && !copy.isPostcopy;
    const lost = isStopped ? { downtimeMs: ms, degradedMs: 0 } : { downtimeMs: 0, degradedMs: ms };
    return { totalMs: ms, ...lost, slowedMs: 0, bytes, passes: s.passes + 1 };
  }
  return technique === 'hybrid' ? hybrid(g, c, s) : preCopy(g, c, s);
}

/** The copy as far as it has come. */
interface Sofar {
  ms: number;
  bytes: number;
  /** Dirty pages that are to be sent, not zero; and pages of zeros, in the first pass only. */
  left: number;
  zeroLeft: number;
  /** Passes that were ended. */
  passes: number;
  /** Of the pass that is next, where it has begun: sent, and for how long; what was written since is due after it. */
  sentBefore: number;
  ranMs: number;
  speed: number;
  busyPasses: number;
  slowedMs: number;
}

const begin = (g: Guest): Sofar => ({
  ms: 0,
  bytes: 0,
  left: g.nonZeroBytes,
  zeroLeft: g.zeroBytes,
  passes: 0,
  sentBefore: 0,
  ranMs: 0,
  speed: 1,
  busyPasses: 0,
  slowedMs: 0,
});

/** As the hypervisor tells of it: in the first pass as much of what is left is zero as of all memory, later nothing. */
function underWay(g: Guest, c: CopyConditions, copy: CopyState): Sofar {
  const due = Math.min(Math.max(0, copy.remainingBytes), g.memoryBytes);
  const isFirst = copy.passes <= 1;
  const zeroLeft = isFirst && g.memoryBytes > 0 ? (due * g.zeroBytes) / g.memoryBytes : 0;
  const left = due - zeroLeft;
  const passes = Math.max(0, copy.passes - 1);
  if (!isFirst || !(c.rateBps > 0)) return { ...begin(g), left, zeroLeft, passes };
  const sentBefore = g.nonZeroBytes - left;
  const ranMs = (wireBytes(sentBefore) + zeroWireBytes(g.zeroBytes - zeroLeft)) / bytesPerMs(c);
  return { ...begin(g), left, zeroLeft, passes, sentBefore, ranMs };
}

/** One look at the dirty log. */
const walkMs = (g: Guest, c: CopyConditions): number => ((c.costs ?? HOST_COSTS).walkMsPerGiB * g.zeroBytes) / GIB;

const bytesPerMs = (c: CopyConditions): number => c.rateBps / 8000;

/**
 * Sends of what is due until `keep` bytes of pages are left, at least for `leastMs` or until nothing is left; then looks at
 * the dirty log. What is left and what was dirtied meanwhile is due next.
 */
function pass(g: Guest, c: CopyConditions, s: Sofar, keep: number, leastMs: number): Sofar {
  // Pages of zeros stand at the end, as display memory and ROMs do: what is kept is taken from them first.
  const kept = Math.min(keep, s.left + s.zeroLeft);
  const zeroKept = Math.min(kept, s.zeroLeft, g.deviceMemoryBytes);
  const leastSent = (leastMs * bytesPerMs(c)) / wireBytes(1);
  const sent = Math.min(s.left, Math.max(s.left - (kept - zeroKept), leastSent));
  const zeroSent = Math.max(0, s.zeroLeft - zeroKept);
  const wire = wireBytes(sent) + zeroWireBytes(zeroSent);
  const ms = wire / bytesPerMs(c) + walkMs(g, c);
  const dirtied = dirtiedBytes(g, s.ranMs + ms, s.speed);
  const sentShare = (s.sentBefore + sent) / (s.sentBefore + s.left);
  let { speed, busyPasses } = s;
  if (c.autoConverge === true && dirtied > THROTTLE.triggerShare * wire) {
    busyPasses++;
    if (busyPasses >= THROTTLE.triggerPasses) {
      busyPasses = 0;
      const throttle = speed === 1 ? THROTTLE.initial : Math.min(THROTTLE.max, 1 - speed + THROTTLE.increment);
      speed = 1 - throttle;
    }
  }
  return {
    ms: s.ms + ms,
    bytes: s.bytes + wire,
    // What was kept back and dirtied again is still sent once.
    left: s.left > 0 ? Math.min(s.left - sent + dirtied * sentShare, g.memoryBytes) : dirtied,
    zeroLeft: zeroKept,
    passes: s.passes + 1,
    sentBefore: 0,
    ranMs: 0,
    speed,
    busyPasses,
    slowedMs: s.slowedMs + (1 - s.speed) * ms,
  };
}

/**
 * Pre-copy: each pass goes on until what is left could be sent within the downtime limit, then the dirty log is looked at;
 * if that much is still all, the guest is stopped and the rest is sent, else a pass for it begins.
 */
function preCopy(g: Guest, c: CopyConditions, start: Sofar): CopyCost {
  const costs = c.costs ?? HOST_COSTS;
  const stopPerMs = (c.switchoverBps ?? c.rateBps) / 8000;
  const thresholdBytes = c.downtimeLimitMs * stopPerMs;
  const most = c.autoConverge === true ? 2 * MAX_PASSES : MAX_PASSES;
  let s = start;
  // Looks come once in a period: half of one late on average, with that much less left.
  const pacerMs = c.pacerMs ?? PACER_MS;
  const keep = Math.max(0, thresholdBytes - (pacerMs / 2) * bytesPerMs(c));
  do s = pass(g, c, s, keep, pacerMs);
  while (s.left + s.zeroLeft > thresholdBytes && s.passes < most);
  const rest = wireBytes(s.left) + zeroWireBytes(s.zeroLeft);
  const lastLookMs = (costs.lastLookMsPerGiB * g.zeroBytes) / GIB;
  const downtimeMs = costs.switchoverMs + rest / stopPerMs + lastLookMs;
  return {
    totalMs: s.ms + walkMs(g, c) + downtimeMs,
    downtimeMs,
    degradedMs: 0,
    slowedMs: s.slowedMs,
    bytes: s.bytes + rest,
    passes: s.passes,
  };
}

/** Hybrid: passes as pre-copy, then the guest goes over and what is still dirty follows it. */
function hybrid(g: Guest, c: CopyConditions, start: Sofar): CopyCost {
  const { switchoverMs } = c.costs ?? HOST_COSTS;
  let s = start;
  if (c.hybridAfterMs !== undefined) s = pass(g, c, s, unsentAfter(g, c, c.hybridAfterMs), 0);
  else while (s.passes < c.hybridPasses && s.left > 0) s = pass(g, c, s, 0, 0);
  const rest = wireBytes(s.left) + zeroWireBytes(s.zeroLeft);
  const degradedMs = rest / bytesPerMs(c) + walkMs(g, c);
  return {
    totalMs: s.ms + switchoverMs + degradedMs,
    downtimeMs: switchoverMs,
    degradedMs,
    slowedMs: 0,
    bytes: s.bytes + rest,
    passes: s.passes,
  };
}

/** What of the first pass is not sent after so many ms. */
function unsentAfter(g: Guest, c: CopyConditions, ms: number): number {
  return Math.max(0, g.nonZeroBytes - (ms * bytesPerMs(c)) / wireBytes(1));
}

/** Post-copy: the guest goes over at once; every page follows it, once. */
function postCopy(g: Guest, c: CopyConditions): CopyCost {
  const { switchoverMs } = c.costs ?? HOST_COSTS;
  const bytes = wireBytes(g.nonZeroBytes) + zeroWireBytes(g.zeroBytes);
  const degradedMs = bytes / bytesPerMs(c) + 2 * walkMs(g, c);
  return { totalMs: switchoverMs + degradedMs, downtimeMs: switchoverMs, degradedMs, slowedMs: 0, bytes, passes: 1 };
}

/** Stop-and-copy: every page once, while the guest runs nowhere. */
function stopAndCopy(g: Guest, c: CopyConditions): CopyCost {
  const { switchoverMs } = c.costs ?? HOST_COSTS;
  const bytes = wireBytes(g.nonZeroBytes) + zeroWireBytes(g.zeroBytes);
  const downtimeMs = switchoverMs + bytes / bytesPerMs(c) + 2 * walkMs(g, c);
  return { totalMs: downtimeMs, downtimeMs, degradedMs: 0, slowedMs: 0, bytes, passes: 1 };
}
