/**
 * A live copy as arithmetic: how memory, dirtying and bandwidth turn into passes, downtime and completion. Pure; the
 * emulated driver (`io/emulatedDriver.ts`) advances it with the time that passed and the rate that its network gave. It
 * follows QEMU 10: the same order of phases, and the same rule for when a pre-copy is near enough to its end.
 *
 * The guest writes round and round its working set, so in `t` seconds it dirties min(workingSet, dirtyRate × t) bytes.
 * Options change what a page costs on the wire (`compressedShare`, and `deltaShare` for XBZRLE) and, with auto-converge,
 * how fast the guest is; post-copy sends pages whole.
 */
import type { CopyOptions, CopyProgress } from '../../contracts/agent.ts';
import type { Technique } from '../../contracts/common.ts';

export interface FluidCopyOrder {
  readonly technique: Technique;
  readonly memoryBytes: number;
  readonly workingSetBytes: number;
  readonly dirtyBytesPerS: number;
  readonly downtimeLimitMs: number;
  readonly hybridPasses: number;
  readonly pauseBeforeSwitchover: boolean;
  readonly hybridMinGain?: number;
  /** A pre-copy that may be told to go on as post-copy. */
  readonly mayTurnPostcopy?: boolean;
  readonly options?: CopyOptions;
  /** What compression leaves of a page, and XBZRLE of one that is sent again. Default 1. */
  readonly compressedShare?: number;
  readonly deltaShare?: number;
}

export type FluidPhase = 'pre-copy' | 'preSwitchover' | 'stopped' | 'post-copy' | 'completed' | 'cancelled' | 'failed';

export interface FluidCopy {
  readonly order: FluidCopyOrder;
  readonly phase: FluidPhase;
  readonly bandwidthBps: number;
  readonly switchoverBps: number | null;
  readonly elapsedMs: number;
  readonly transferredBytes: number;
  /** Still to be sent in this pass, in the stop, or in post-copy. */
  readonly remainingBytes: number;
  /** Sent while the guest stands still: what `stopped` still has to carry, and the fixed cost of switching over. */
  readonly stopBytes: number;
  readonly stopFixedMs: number;
  /** Since the last look at the dirty log. */
  readonly passMs: number;
  readonly passes: number;
  /** What this pass had to send at its beginning, and what of the stream it has sent. */
  readonly passStartBytes: number;
  readonly passSentBytes: number;
  /** Auto-converge: looks at the dirty log that found too much, and how far the guest is held back, 0 to 1. */
  readonly busyPasses: number;
  readonly throttleShare: number;
  readonly postcopyRequested: boolean;
  readonly postcopyStarted: boolean;
  readonly rateBps: number;
  readonly downtimeMs: number;
}

export type FluidEvent = 'preSwitchover' | 'postcopyStarted' | 'completed';

/** Device state and what else QEMU sends with the guest stopped, whatever the technique. */
const DEVICE_BYTES = 300_000;
/** QEMU paces in periods of so many ms, and looks at what is left once in each. */
const PACER_MS = 100;
/** Stopping, loading the devices' state and starting, ms. */
const SWITCH_MS = 10;
/** QEMU's auto-converge: begins when a pass dirtied half of what it sent for the second time; 20 %, then 10 % more each time. */
const THROTTLE = { triggerShare: 0.5, triggerPasses: 2, initial: 0.2, increment: 0.1, max: 0.99 } as const;
/** However well pages compress, their headers remain. */
const LEAST_SHARE = 0.002;
/** The switch-over is not paced: it asks for as much as a fast network card takes. */
export const UNPACED_BPS = 10e9;

/** A copy that is about to send its first byte. */
export function startFluidCopy(order: FluidCopyOrder, bandwidthBps: number): FluidCopy {
  return {
    order,
    phase: 'pre-copy',
    bandwidthBps,
    switchoverBps: null,
    elapsedMs: 0,
    transferredBytes: 0,
    remainingBytes: order.memoryBytes,
    stopBytes: 0,
    stopFixedMs: 0,
    passMs: 0,
    passes: 1,
    passStartBytes: order.memoryBytes,
    passSentBytes: 0,
    busyPasses: 0,
    throttleShare: 0,
    postcopyRequested: order.technique === 'post-copy',
    postcopyStarted: false,
    rateBps: 0,
    downtimeMs: 0,
  };
}

export const isFluidEnded = (c: FluidCopy): boolean =>
  c.phase === 'completed' || c.phase === 'cancelled' || c.phase === 'failed';

/** What the copy would send now if the network let it, bit/s. */
export function wantedBps(c: FluidCopy): number {
  switch (c.phase) {
    case 'pre-copy':
    case 'post-copy':
      return c.bandwidthBps;
    case 'stopped':
      return UNPACED_BPS;
    default:
      return 0;
  }
}

function dirtied(c: FluidCopy): number {
  if (c.order.technique === 'stop-and-copy') return 0;
  return Math.min(c.order.workingSetBytes, (c.order.dirtyBytesPerS * (1 - c.throttleShare) * c.passMs) / 1000);
}

/** Bytes of the stream for each byte of a page, in this pass. */
function wireShare(c: FluidCopy, passes = c.passes): number {
  const { options, compressedShare = 1, deltaShare = 1 } = c.order;
  const compressing = options?.multifd !== undefined && options.multifd.compression !== 'none';
  const share = (compressing ? compressedShare : 1) * (options?.xbzrle === true && passes > 1 ? deltaShare : 1);
  return Math.max(LEAST_SHARE, share);
}

/** The next pass, with `rest` bytes of pages to send. */
function nextPass(c: FluidCopy, rest: number): FluidCopy {
  const { technique, hybridMinGain, options } = c.order;
  const unpaid = technique === 'hybrid' && hybridMinGain !== undefined && rest > (1 - hybridMinGain) * c.passStartBytes;
  let { busyPasses, throttleShare } = c;
  if (options?.autoConverge === true && dirtied(c) > THROTTLE.triggerShare * c.passSentBytes) {
    busyPasses++;
    if (busyPasses >= THROTTLE.triggerPasses) {
      busyPasses = 0;
      throttleShare =
        throttleShare === 0 ? THROTTLE.initial : Math.min(THROTTLE.max, throttleShare + THROTTLE.increment);
    }
  }
  return {
    ...c,
    remainingBytes: rest,
    passStartBytes: rest,
    passSentBytes: 0,
    passMs: 0,
    passes: c.passes + 1,
    busyPasses,
    throttleShare,
    postcopyRequested: c.postcopyRequested || unpaid,
  };
}

/** Bytes that the path carries within the downtime limit: the copy stops the guest when no more than this is left. */
function thresholdBytes(c: FluidCopy, rateBps: number): number {
  return ((c.switchoverBps ?? rateBps) * c.order.downtimeLimitMs) / 8000;
}

function stopGuest(c: FluidCopy, forPostcopy: boolean): FluidCopy {
  const rest = c.remainingBytes + dirtied(c);
  return {
    ...c,
    phase: c.order.pauseBeforeSwitchover ? 'preSwitchover' : 'stopped',
    remainingBytes: rest,
    stopBytes: DEVICE_BYTES + (forPostcopy ? 0 : rest * wireShare(c, c.passes + 1)),
    stopFixedMs: SWITCH_MS,
    postcopyStarted: false,
    passMs: 0,
  };
}

/**
 * Advances the copy by `dtMs` of network that gives `rateBps`. The rate was asked for the phase at the start of the step; a
 * phase that begins within the step gets no more than that, and no more than it wants itself.
 */
export function advanceFluidCopy(
  copy: FluidCopy,
  dtMs: number,
  rateBps: number,
): { copy: FluidCopy; events: FluidEvent[] } {
  const events: FluidEvent[] = [];
  let c: FluidCopy = { ...copy, rateBps: wantedBps(copy) > 0 ? rateBps : 0 };
  let leftMs = dtMs;
  const send = (bytes: number, ms: number): void => {
    c = { ...c, transferredBytes: c.transferredBytes + bytes, elapsedMs: c.elapsedMs + ms };
    leftMs -= ms;
  };
  // Each round ends the step or changes phase or pass; passes shrink to nothing only when the copy can stop.
  for (let round = 0; round < 10_000 && leftMs > 1e-9 && !isFluidEnded(c); round++) {
    const bytesPerMs = Math.min(rateBps, wantedBps(c)) / 8000;
    if (c.phase === 'preSwitchover') {
      c = { ...c, downtimeMs: c.downtimeMs + leftMs };
      send(0, leftMs);
    } else if (c.phase === 'stopped') {
      const fixedMs = Math.min(leftMs, c.stopFixedMs);
      c = { ...c, stopFixedMs: c.stopFixedMs - fixedMs, downtimeMs: c.downtimeMs + fixedMs };
      send(0, fixedMs);
      const ms = c.stopBytes === 0 ? 0 : bytesPerMs > 0 ? Math.min(leftMs, c.stopBytes / bytesPerMs) : leftMs;
      const bytes = Math.min(c.stopBytes, ms * bytesPerMs);
      c = { ...c, stopBytes: c.stopBytes - bytes, downtimeMs: c.downtimeMs + ms };
      send(bytes, ms);
      if (c.stopBytes > 1e-6 || c.stopFixedMs > 1e-9) continue;
      if (c.postcopyRequested) {
        c = { ...c, phase: 'post-copy', postcopyStarted: true, stopBytes: 0 };
        events.push('postcopyStarted');
      } else {
        c = { ...c, phase: 'completed', remainingBytes: 0, stopBytes: 0 };
        events.push('completed');
      }
    } else if (c.phase === 'post-copy') {
      const ms = bytesPerMs > 0 ? Math.min(leftMs, c.remainingBytes / bytesPerMs) : leftMs;
      const bytes = Math.min(c.remainingBytes, ms * bytesPerMs);
      c = { ...c, remainingBytes: c.remainingBytes - bytes };
      send(bytes, ms);
      if (c.remainingBytes > 1e-6) continue;
      c = { ...c, phase: 'completed', remainingBytes: 0 };
      events.push('completed');
    } else {
      if (c.order.technique === 'hybrid' && c.passes > c.order.hybridPasses) c = { ...c, postcopyRequested: true };
      if (c.postcopyRequested) {
        c = stopGuest(c, true);
        if (c.phase === 'preSwitchover') events.push('preSwitchover');
        continue;
      }
      const share = wireShare(c);
      const pagesPerMs = bytesPerMs / share;
      const threshold = thresholdBytes(c, rateBps);
      // A pass goes on until little enough is left, and at least for one period of QEMU's pacer, or to its very end.
      const inPeriod = Math.min(c.remainingBytes, Math.max(0, PACER_MS - c.passMs) * pagesPerMs);
      const due = Math.max(c.remainingBytes - threshold, inPeriod, 0);
      const ms = due === 0 ? 0 : pagesPerMs > 0 ? Math.min(leftMs, due / pagesPerMs) : leftMs;
      const bytes = Math.min(due, ms * pagesPerMs);
      const sent = bytes * share;
      const standsStill = c.order.technique === 'stop-and-copy';
      c = {
        ...c,
        remainingBytes: c.remainingBytes - bytes,
        passMs: c.passMs + ms,
        passSentBytes: c.passSentBytes + sent,
        downtimeMs: c.downtimeMs + (standsStill ? ms : 0),
      };
      send(sent, ms);
      if (due - bytes > 1e-6) continue;
      // Near the end of the pass: look at the dirty log, as QEMU does, and stop only if that leaves little enough.
      const rest = c.remainingBytes + dirtied(c);
      if (rateBps > 0 && rest <= threshold + 1e-6) {
        c = stopGuest(c, false);
        if (c.phase === 'preSwitchover') events.push('preSwitchover');
      } else {
        if (rateBps <= 0) {
          c = { ...c, passMs: c.passMs + leftMs };
          send(0, leftMs);
          continue;
        }
        c = nextPass(c, rest);
      }
    }
  }
  return { copy: c, events };
}

/** The copy as it is told to the controller. */
export function fluidProgress(c: FluidCopy): CopyProgress {
  const phase = c.phase === 'preSwitchover' || c.phase === 'stopped' ? 'switchover' : c.phase;
  const guestIsHere = c.phase === 'pre-copy' && c.order.technique !== 'stop-and-copy';
  return {
    phase,
    elapsedMs: Math.round(c.elapsedMs),
    transferredBytes: Math.round(c.transferredBytes),
    remainingBytes: Math.round(c.remainingBytes),
    totalBytes: c.order.memoryBytes,
    passes: c.passes,
    rateBps: Math.round(
      c.phase === 'completed' && c.elapsedMs > 0 ? (c.transferredBytes * 8000) / c.elapsedMs : c.rateBps,
    ),
    dirtyBytesPerS: guestIsHere ? c.order.dirtyBytesPerS * (1 - c.throttleShare) : 0,
    ...(c.downtimeMs > 0 ? { downtimeMs: Math.round(c.downtimeMs) } : {}),
    ...(c.throttleShare > 0 ? { throttleShare: c.throttleShare } : {}),
  };
}
