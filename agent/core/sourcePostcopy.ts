/**
 * Post-copy at the source: when it begins, and what becomes of its stream. Part of the source's machine (`source.ts`).
 *
 * A stream that breaks in post-copy does not end the copy: QEMU says `postcopy-paused`, the guest goes on at the destination
 * until it wants a page that is only here, and waits for that. The pause is reported, and the copy taken up again when
 * ordered (`recover`). A path that swallows packets breaks nothing by itself, TCP waits for it for a quarter of an hour: a
 * copy of which no byte went for `STALL_MS` is paused from here. Taking up goes over phases of its own, `resuming` until
 * QEMU has answered the order: what polls say until then is of before.
 */
import type { MigrateInfo } from './progress.ts';
import { paceParameters } from './sourcePace.ts';
import { event, type SourceAction, type SourceResult, type SourceState } from './sourceState.ts';

/** A post-copy of which no byte went for so long has lost its path; an outage shorter than this TCP bridges by itself. */
const STALL_MS = 5000;

/**
 * Post-copy begins now if the technique says so: at once for post-copy; for a hybrid after `hybridPasses` whole passes, or
 * when the pass that begins has not at least `hybridMinGain` less to send than the one before had.
 */
export function maybePostcopy(state: SourceState, pass: number, remainingBytes?: number): SourceResult {
  const { technique, hybridPasses, hybridMinGain } = state.command;
  if (state.phase !== 'active' || state.postcopyRequested || state.cancelRequested) return { state, actions: [] };
  const before = state.passStart;
  const actions: SourceAction[] = [];
  let next = state;
  let unpaid = false;
  if (technique === 'hybrid' && hybridMinGain !== undefined && pass > (before?.pass ?? 0)) {
    // The event tells of a new pass without its figures: those of the next regular poll would be too late to compare.
    if (remainingBytes === undefined) actions.push({ do: 'query' });
    else {
      next = { ...state, passStart: { pass, remainingBytes } };
      unpaid = before !== null && remainingBytes > (1 - hybridMinGain) * before.remainingBytes;
    }
  }
  const due = technique === 'post-copy' || (technique === 'hybrid' && (pass > hybridPasses || unpaid));
  if (!due) return { state: next, actions };
  return { state: { ...next, postcopyRequested: true }, actions: [{ do: 'startPostcopy' }] };
}

/** Pauses a copy that stands still, and remembers when it moved. */
export function watchMovement(state: SourceState, bytes: number, nowMs: number): SourceResult {
  const { moved } = state;
  if (moved === null || moved.bytes !== bytes)
    return { state: { ...state, moved: { bytes, atMs: nowMs } }, actions: [] };
  if (nowMs - moved.atMs < STALL_MS) return { state, actions: [] };
  return { state: { ...state, moved: null, stalled: true }, actions: [{ do: 'pauseCopy' }] };
}

/** The stream of a post-copy is broken; `info` has its figures, or is an event that has none. */
export function onPaused(state: SourceState, info: MigrateInfo): SourceResult {
  const { phase, recovery } = state;
  // Known, or of before the order to go on.
  if (phase === 'postcopyPaused' || phase === 'resuming') return { state, actions: [] };
  if (recovery?.isPending === true) return resume(state, recovery.address, recovery.port);
  // The reason comes with the figures only.
  if (info.ram === undefined) return { state, actions: [{ do: 'query' }] };
  const said = info['error-desc'] ?? 'no reason given';
  const why = state.stalled
    ? `no byte of the copy went through for ${STALL_MS / 1000} s`
    : phase === 'recovering'
      ? `the copy could not be taken up again: ${said}`
      : `the stream broke: ${said}`;
  const next: SourceState = { ...state, phase: 'postcopyPaused', stalled: false, moved: null, pace: null };
  return { state: next, actions: [event(next, 'postcopyPaused', { reason: why })] };
}

/** Takes a broken copy up there. */
export function resume(state: SourceState, address: string, port: number): SourceResult {
  const next: SourceState = {
    ...state,
    phase: 'resuming',
    stalled: false,
    moved: null,
    pace: null,
    recovery: { address, port, isPending: false },
  };
  return {
    state: next,
    actions: [
      { do: 'setParameters', parameters: paceParameters(next) },
      { do: 'resumeCopy', address, port },
    ],
  };
}
