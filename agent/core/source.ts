/**
 * The source's part of a migration as a state machine: (state, event, nowMs) → { state, actions }. No I/O: the driver
 * (`io/qemuDriver.ts`) carries the actions out and feeds back replies, QMP events and polls. The state is plain data, is
 * written to disk by the driver, and is taken up again by a restarted agent. Late and duplicate events are harmless.
 *
 * Found by trying with QEMU 10.0.2: `pause-before-switchover` works for all three techniques. With post-copy
 * (`migrate-start-postcopy`, also in a hybrid) the source stops the guest, says `pre-switchover` and waits for
 * `migrate-continue`; then come `device`, `postcopy-active` and the destination's RESUME within milliseconds. So the order
 * of reports is always stream, preSwitchover, [postcopyStarted], completed; a hybrid that converges in its pre-copy passes
 * leaves postcopyStarted out. `query-migrate` may take most of a second to answer around the switch-over, so what is
 * urgent is taken from MIGRATION events and only figures from polls.
 *
 * `postcopy-preempt` is set with post-copy: without it a paced background copy makes every faulting page wait for the
 * pacer (81 faults answered in 10 s at 100 Mbit/s, against 7,584 in 8 s with it). Its price is that urgent pages are not
 * paced: `max-postcopy-bandwidth` is regulated so that the sum keeps to the slice over some seconds, but right after the
 * switch-over, while the guest asks for its working set, it was seen at 2.5 times a slice of 80 Mbit/s for two seconds.
 * Only queues in the network hold it there. And there are two connections, so the reported stream has source port 0 ("any").
 *
 * Stop-and-copy stops the guest here, then copies: paced, unlike QEMU's own switch-over, and cancellable to the end. Such a
 * guest arrives stopped, and the destination (`core/destination.ts`) starts it once all of it is there. Only this machine
 * starts it again here, and only when the hypervisor has said that the copy failed or was cancelled.
 *
 * A stream that breaks in post-copy does not end the copy: QEMU says `postcopy-paused`, the guest goes on at the destination
 * until it wants a page that is only here, and waits for that. The pause is reported, and the copy taken up again when
 * ordered (`recover`). A path that swallows packets breaks nothing by itself, TCP waits for it for a quarter of an hour: a
 * copy of which no byte went for `STALL_MS` is paused from here. Taking up goes over phases of its own, `resuming` until
 * QEMU has answered the order: what polls say until then is of before.
 *
 * Mirrored disks come first (phase `disks`): only when the mirror has caught up once does memory follow, so that the copy of
 * memory is not the longer for it. From then on the slice is divided (`core/storage.ts`). The hypervisor is always made to
 * wait before its switch-over: the guest stands still, the mirror is ended (`draining`), and only then is the
 * switch-over told of and gone on with, so that no write is lost and two machines never write one disk. A hypervisor that does
 * these steps by itself (libvirt) is only watched, and told the pace of each part (`byHypervisor`).
 */
import type { AgentCommandOf, CopyProgress, Stream } from '../../contracts/agent.ts';
import { mayBePostcopy } from '../../contracts/copyOrder.ts';
import type { EventMessage } from './driver.ts';
import { type MigrateInfo, sameProgress, toProgress } from './progress.ts';
import { type DiskJobs, splitPace } from './storage.ts';
import { capabilitiesFor, optionParameters } from './techniques.ts';

export type SourcePhase =
  | 'capabilities'
  | 'parameters'
  | 'disks'
  | 'stopping'
  | 'starting'
  | 'setup'
  | 'active'
  | 'draining'
  | 'preSwitchover'
  | 'device'
  | 'postcopy'
  | 'postcopyPaused'
  | 'resuming'
  | 'recovering'
  | 'completed'
  | 'failed'
  | 'cancelled';

export interface SourceState {
  readonly role: 'source';
  readonly command: AgentCommandOf<'start'>;
  readonly phase: SourcePhase;
  readonly startedMs: number;
  readonly bandwidthBps: number;
  readonly switchoverBps: number | null;
  readonly downtimeLimitMs: number;
  /** Stop-and-copy: `stop` was ordered, so that the guest must be started again if it stays. */
  readonly guestStopped: boolean;
  /** What was to be sent at the beginning of the latest pass whose figures are known. */
  readonly passStart: { pass: number; remainingBytes: number } | null;
  /** `migrate-start-postcopy` was sent. */
  readonly postcopyRequested: boolean;
  /** The destination owns the guest from here on: no cancelling, and a failure does not give the guest back. */
  readonly postcopyStarted: boolean;
  /** `migrate_cancel` was sent; the phase stays until the hypervisor says what became of it. */
  readonly cancelRequested: boolean;
  readonly streamReported: boolean;
  /** What the hypervisor said the end was, while its final figures are still awaited. */
  readonly ending: 'completed' | 'failed' | 'cancelled' | null;
  readonly progress: CopyProgress | null;
  /** Regulation of the post-copy pace: what is set, and the last sample of bytes sent. */
  readonly pace: { setBps: number; bytes: number; atMs: number } | null;
  /** In post-copy: bytes sent when they last grew, and when that was. */
  readonly moved: { bytes: number; atMs: number } | null;
  /** Paused from here, because nothing went through. */
  readonly stalled: boolean;
  /** Mirrored disks; null without. */
  readonly mirror: {
    /** Not ended yet. */
    readonly isOn: boolean;
    /** It begins memory when the mirror has caught up, and ends the mirror before the switch-over. */
    readonly byHypervisor?: true;
    /** Until memory followed, ms. */
    readonly aloneMs: number;
    /** What the guest was seen to write, bit/s. */
    readonly writeBps: number;
    readonly sample: { totalBytes: number; atMs: number } | null;
    readonly done: NonNullable<CopyProgress['disk']> | null;
  } | null;
  /** The mirror broke: why the copy, which is being cancelled, will have failed. */
  readonly failing: string | null;
  /** Where a broken stream was taken up again, or is to be once the hypervisor has paused the copy (`isPending`). */
  readonly recovery: { address: string; port: number; isPending: boolean } | null;
}

/** Actions whose answer the machine wants: the steps of the beginning, and those that QEMU may refuse later. */
export type MigrationStep =
  | 'capabilities'
  | 'parameters'
  | 'mirrorDisks'
  | 'drainDisks'
  | 'stopGuest'
  | 'migrate'
  | 'startPostcopy'
  | 'continue'
  | 'cancel'
  | 'pauseCopy'
  | 'resumeCopy';

export type SourceEvent =
  /** The hypervisor answered. */
  | { type: 'reply'; to: MigrationStep; error?: string }
  /** A MIGRATION event (status only) or a poll (all figures). */
  | { type: 'status'; info: MigrateInfo }
  /** MIGRATION_PASS: pass `pass` has begun. */
  | { type: 'pass'; pass: number }
  /** How the mirrors stand. */
  | { type: 'disks'; disks: DiskJobs }
  | { type: 'stream'; stream: Stream }
  | { type: 'setBandwidth'; bandwidthBps: number; switchoverBps?: number }
  | { type: 'setDowntimeLimit'; downtimeLimitMs: number }
  | { type: 'switchToPostcopy' }
  | { type: 'continueSwitchover' }
  | { type: 'cancel' }
  /** Take a broken post-copy up again, there and at this pace. */
  | { type: 'recover'; address: string; port: number; bandwidthBps: number; switchoverBps?: number }
  /**
   * A restarted agent found this state on disk; `info` is what the hypervisor says now. `guestLeft`: the guest is stopped
   * because it was copied away (QEMU's run state `postmigrate`).
   */
  | { type: 'restored'; info: MigrateInfo; guestLeft: boolean }
  /** The hypervisor is gone. */
  | { type: 'lost'; reason: string };

export type SourceAction =
  | { do: 'setCapabilities'; capabilities: Record<string, boolean> }
  | { do: 'setParameters'; parameters: Record<string, number | string> }
  | { do: 'mirrorDisks'; address: string; port: number; diskBps: number }
  | { do: 'paceDisks'; diskBps: number }
  /** The guest stands still: end the mirrors when all is copied. */
  | { do: 'drainDisks'; diskBps: number }
  /** End the mirrors, whatever is copied. */
  | { do: 'dropDisks' }
  | { do: 'stopGuest' }
  /** Only if it is stopped for the copy's sake, and was not copied away. */
  | { do: 'resumeGuest' }
  | { do: 'migrate'; address: string; port: number }
  | { do: 'startPostcopy' }
  | { do: 'continue' }
  | { do: 'cancel' }
  /** Post-copy: give the stream up, though not the copy. */
  | { do: 'pauseCopy' }
  | { do: 'resumeCopy'; address: string; port: number }
  /** Poll now: the copy has ended and its final figures are wanted. */
  | { do: 'query' }
  | { do: 'event'; message: EventMessage }
  | { do: 'progress'; progress: CopyProgress };

export interface SourceResult {
  state: SourceState;
  actions: SourceAction[];
  /** A command that cannot be obeyed in this state, and why. The state is unchanged. */
  refused?: { code: string; message: string };
}

/** A post-copy of which no byte went for so long has lost its path; an outage shorter than this TCP bridges by itself. */
export const STALL_MS = 5000;

/** QEMU takes bytes per second, and 0 as "no limit": a pace is never less than this. */
const MIN_PACE_BYTES_PER_S = 1000;
const bytesPerS = (bps: number): number => Math.max(MIN_PACE_BYTES_PER_S, Math.floor(bps / 8));

/** True when the copy has ended, one way or another. */
export function isEnded(phase: SourcePhase): phase is 'completed' | 'failed' | 'cancelled' {
  return phase === 'completed' || phase === 'failed' || phase === 'cancelled';
}

/**
 * The machine's first state, and the first thing to do.
 *
 * @param mirrors who ends mirrors, when there are any
 */
export function startSource(
  command: AgentCommandOf<'start'>,
  nowMs: number,
  mirrors: 'agent' | 'hypervisor' = 'agent',
): SourceResult {
  const byHypervisor = mirrors === 'hypervisor' ? ({ byHypervisor: true } as const) : {};
  return {
    state: {
      role: 'source',
      command,
      phase: 'capabilities',
      startedMs: nowMs,
      bandwidthBps: command.bandwidthBps,
      switchoverBps: command.switchoverBps ?? null,
      downtimeLimitMs: command.downtimeLimitMs,
      guestStopped: false,
      passStart: null,
      postcopyRequested: false,
      postcopyStarted: false,
      cancelRequested: false,
      streamReported: false,
      ending: null,
      progress: null,
      pace: null,
      moved: null,
      stalled: false,
      recovery: null,
      mirror:
        command.diskPort === undefined
          ? null
          : { isOn: true, ...byHypervisor, aloneMs: 0, writeBps: 0, sample: null, done: null },
      failing: null,
    },
    actions: [
      {
        do: 'setCapabilities',
        capabilities: {
          ...capabilitiesFor(command),
          'pause-before-switchover': command.pauseBeforeSwitchover || command.diskPort !== undefined,
        },
      },
    ],
  };
}

/** How the slice is divided now: all to the mirror until it has caught up, all to memory when it is ended. */
function shares(s: SourceState): { memoryBps: number; diskBps: number } {
  const { mirror, bandwidthBps } = s;
  if (mirror === null || !mirror.isOn) return { memoryBps: bandwidthBps, diskBps: 0 };
  if (s.phase === 'disks') return { memoryBps: bandwidthBps, diskBps: bandwidthBps };
  return splitPace(bandwidthBps, mirror.writeBps);
}

/** QEMU's parameters for the pace that the copy is to have now. */
export function paceParameters(s: SourceState): Record<string, number> {
  const { memoryBps } = shares(s);
  return {
    'max-bandwidth': bytesPerS(memoryBps),
    'max-postcopy-bandwidth': bytesPerS(s.pace?.setBps ?? s.bandwidthBps),
    // The switch-over itself is not paced: what the path has then decides whether the downtime limit can be kept.
    'avail-switchover-bandwidth': bytesPerS(s.switchoverBps ?? s.bandwidthBps),
  };
}

/** The phase that an event itself tells of: figures in hand may be from just before. */
const EVENT_PHASE: Partial<Record<EventMessage['event'], CopyProgress['phase']>> = {
  preSwitchover: 'switchover',
  postcopyStarted: 'post-copy',
};

function event(s: SourceState, name: EventMessage['event'], more: Partial<EventMessage> = {}): SourceAction {
  const progress =
    s.progress === null ? {} : { progress: { ...s.progress, phase: EVENT_PHASE[name] ?? s.progress.phase } };
  return { do: 'event', message: { type: 'event', migration: s.command.migration, event: name, ...progress, ...more } };
}

function end(
  state: SourceState,
  phase: 'completed' | 'failed' | 'cancelled',
  reason?: string,
  actions: SourceAction[] = [],
): SourceResult {
  const progress: CopyProgress | null = state.progress === null ? null : { ...state.progress, phase };
  const resume = state.guestStopped && phase !== 'completed';
  const { mirror } = state;
  const ended: SourceState = {
    ...state,
    ...{ phase, ending: phase, progress, guestStopped: state.guestStopped && !resume },
    mirror: mirror === null ? null : { ...mirror, isOn: false },
  };
  return {
    state: ended,
    actions: [
      ...actions,
      ...(mirror?.isOn === true ? [{ do: 'dropDisks' } as const] : []),
      ...(resume ? [{ do: 'resumeGuest' } as const] : []),
      event(ended, phase, reason === undefined ? {} : { reason }),
    ],
  };
}

/**
 * Post-copy begins now if the technique says so: at once for post-copy; for a hybrid after `hybridPasses` whole passes, or
 * when the pass that begins has not at least `hybridMinGain` less to send than the one before had.
 */
function maybePostcopy(state: SourceState, pass: number, remainingBytes?: number): SourceResult {
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

/**
 * Urgent pages come on top of QEMU's post-copy pace. Every half second the pace of the background copy is moved by half
 * of what the sum is off the slice, between 5 % and all of the slice.
 */
function regulate(state: SourceState, bytes: number, nowMs: number): SourceResult {
  const pace = state.pace;
  if (pace === null) {
    return { state: { ...state, pace: { setBps: state.bandwidthBps, bytes, atMs: nowMs } }, actions: [] };
  }
  const elapsedMs = nowMs - pace.atMs;
  if (elapsedMs < 500) return { state, actions: [] };
  const measuredBps = ((bytes - pace.bytes) * 8000) / elapsedMs;
  const wanted = pace.setBps + 0.5 * (state.bandwidthBps - measuredBps);
  const setBps = Math.min(state.bandwidthBps, Math.max(0.05 * state.bandwidthBps, wanted));
  const changed = Math.abs(setBps - pace.setBps) > 0.02 * state.bandwidthBps;
  const next = { ...state, pace: { setBps: changed ? setBps : pace.setBps, bytes, atMs: nowMs } };
  return {
    state: next,
    actions: changed
      ? [{ do: 'setParameters', parameters: { 'max-postcopy-bandwidth': bytesPerS(next.pace.setBps) } }]
      : [],
  };
}

/** Pauses a copy that stands still, and remembers when it moved. */
function watchMovement(state: SourceState, bytes: number, nowMs: number): SourceResult {
  const { moved } = state;
  if (moved === null || moved.bytes !== bytes)
    return { state: { ...state, moved: { bytes, atMs: nowMs } }, actions: [] };
  if (nowMs - moved.atMs < STALL_MS) return { state, actions: [] };
  return { state: { ...state, moved: null, stalled: true }, actions: [{ do: 'pauseCopy' }] };
}

/** The stream of a post-copy is broken; `info` has its figures, or is an event that has none. */
function onPaused(state: SourceState, info: MigrateInfo): SourceResult {
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

function resume(state: SourceState, address: string, port: number): SourceResult {
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

function onStatus(before: SourceState, info: MigrateInfo, nowMs: number): SourceResult {
  const { phase } = before;
  // Before `migrate` is answered the hypervisor may still speak of this guest's previous migration.
  if (
    isEnded(phase) ||
    phase === 'capabilities' ||
    phase === 'parameters' ||
    phase === 'disks' ||
    phase === 'stopping'
  ) {
    return { state: before, actions: [] };
  }
  const status = info.status;
  const ended = status === 'completed' || status === 'failed' || status === 'cancelled';
  if (phase === 'starting' && ended) return { state: before, actions: [] };

  const told = info.ram === undefined ? before.progress : (toProgress(info, before.progress ?? undefined) ?? null);
  const aloneMs = before.mirror?.aloneMs ?? 0;
  // The hypervisor counts from when memory followed.
  const whole =
    told === null || info['total-time'] === undefined ? told : { ...told, elapsedMs: told.elapsedMs + aloneMs };
  const progress = withDisks(before, whole);
  const actions: SourceAction[] = [];
  let state: SourceState = { ...before, progress };
  const step = (r: SourceResult): void => {
    state = r.state;
    actions.push(...r.actions);
  };
  const enterPostcopy = (): void => {
    if (state.postcopyStarted) return;
    state = { ...state, postcopyStarted: true };
    actions.push(event(state, 'postcopyStarted'));
  };

  switch (status) {
    case 'setup':
    case 'wait-unplug':
      if (phase === 'starting') state = { ...state, phase: 'setup' };
      break;
    case 'active':
      if (phase === 'starting' || phase === 'setup') state = { ...state, phase: 'active' };
      step(maybePostcopy(state, info.ram?.['dirty-sync-count'] ?? 0, info.ram?.remaining));
      break;
    case 'pre-switchover':
      if (phase !== 'starting' && phase !== 'setup' && phase !== 'active') break;
      if (state.mirror?.isOn === true && state.mirror.byHypervisor !== true) {
        state = { ...state, phase: 'draining' };
        actions.push({ do: 'drainDisks', diskBps: state.switchoverBps ?? state.bandwidthBps });
      } else {
        state = { ...state, phase: 'preSwitchover' };
        actions.push(event(state, 'preSwitchover'));
      }
      break;
    case 'device':
      if (phase !== 'postcopy') state = { ...state, phase: 'device' };
      break;
    case 'postcopy-active':
    case 'postcopy-device':
      if (phase === 'postcopyPaused' || phase === 'resuming') break;
      state = { ...state, phase: 'postcopy' };
      enterPostcopy();
      if (phase === 'recovering') actions.push(event(state, 'postcopyRecovered'));
      if (info.ram !== undefined) {
        step(regulate(state, info.ram.transferred, nowMs));
        if (status === 'postcopy-active') step(watchMovement(state, info.ram.transferred, nowMs));
      }
      break;
    case 'completed':
    case 'failed':
    case 'cancelled': {
      if (info.ram === undefined && state.ending === null) {
        return { state: { ...state, ending: status }, actions: [{ do: 'query' }] };
      }
      if (status === 'completed' && (info.ram?.['postcopy-bytes'] ?? 0) > 0) enterPostcopy();
      const reason = status === 'failed' ? (info['error-desc'] ?? 'the hypervisor gave no reason') : undefined;
      if (state.failing !== null && status !== 'completed') return end(state, 'failed', state.failing, actions);
      return end(state, status, reason, actions);
    }
    case 'postcopy-paused':
      if (phase !== 'postcopyPaused' && phase !== 'resuming' && phase !== 'recovering') {
        state = { ...state, phase: 'postcopy' };
      }
      enterPostcopy();
      step(onPaused(state, info));
      break;
    default:
      break;
  }
  if (
    info.ram !== undefined &&
    state.progress !== null &&
    !sameProgress(before.progress ?? undefined, state.progress)
  ) {
    actions.push({ do: 'progress', progress: state.progress });
  }
  return { state, actions };
}

/** Steps that QEMU may refuse without the copy being over. */
const LATE_STEPS = ['startPostcopy', 'continue', 'cancel', 'pauseCopy', 'resumeCopy'] as const;
type LateStep = (typeof LATE_STEPS)[number];
const isLate = (step: MigrationStep): step is LateStep => (LATE_STEPS as readonly MigrationStep[]).includes(step);

/** What was ordered and refused was not done: the machine goes back, so that it can be ordered again. */
function onRefusal(state: SourceState, step: LateStep): SourceResult {
  const { phase } = state;
  if (step === 'resumeCopy' && phase === 'resuming')
    return { state: { ...state, phase: 'postcopyPaused' }, actions: [] };
  if (step === 'pauseCopy') return { state: { ...state, stalled: false, recovery: null }, actions: [] };
  if (step === 'startPostcopy' && phase === 'active') {
    return { state: { ...state, postcopyRequested: false }, actions: [] };
  }
  if (step === 'continue' && phase === 'device') return { state: { ...state, phase: 'preSwitchover' }, actions: [] };
  if (step === 'cancel') return { state: { ...state, cancelRequested: false }, actions: [] };
  return { state, actions: [] };
}

/** What the hypervisor tells of memory, and what is known of the disks. */
function withDisks(s: SourceState, progress: CopyProgress | null): CopyProgress | null {
  if (progress === null || s.mirror === null) return progress;
  return { ...progress, ...(s.mirror.done === null ? {} : { disk: s.mirror.done }) };
}

/** A mirror is looked at so often for what the guest writes. */
const WRITE_SAMPLE_MS = 1000;

function onDisks(before: SourceState, disks: DiskJobs, nowMs: number): SourceResult {
  const { mirror, phase } = before;
  if (mirror === null || !mirror.isOn || isEnded(phase) || phase === 'draining') return { state: before, actions: [] };
  // What its hypervisor makes of a mirror that broke, it will say.
  const isOurs = mirror.byHypervisor !== true;
  if (isOurs && (disks.status === 'failed' || (disks.status === 'ended' && before.failing === null))) {
    const why = disks.error ?? 'it ended by itself';
    if (phase === 'disks') return end(before, 'failed', why);
    if (before.cancelRequested) return { state: before, actions: [] };
    return { state: { ...before, failing: why, cancelRequested: true }, actions: [{ do: 'cancel' }] };
  }
  const { done } = disks;
  const { sample } = mirror;
  const elapsedMs = sample === null ? 0 : nowMs - sample.atMs;
  const isDue = sample === null || elapsedMs >= WRITE_SAMPLE_MS;
  const writeBps =
    sample === null || !isDue ? mirror.writeBps : (Math.max(0, done.totalBytes - sample.totalBytes) * 8000) / elapsedMs;
  const isCaughtUp = phase === 'disks' && disks.status === 'ready';
  let state: SourceState = {
    ...before,
    mirror: {
      ...mirror,
      ...{ writeBps, done, sample: isDue ? { totalBytes: done.totalBytes, atMs: nowMs } : sample },
      isOn: phase === 'disks' || disks.status !== 'ended',
      aloneMs: isCaughtUp ? nowMs - before.startedMs : mirror.aloneMs,
    },
  };
  const none: CopyProgress = {
    ...{ phase: 'setup', elapsedMs: 0, transferredBytes: 0, remainingBytes: 0, totalBytes: 0 },
    ...{ passes: 0, rateBps: 0, dirtyBytesPerS: 0 },
  };
  const known = before.progress ?? none;
  const alone = phase === 'disks' ? { elapsedMs: nowMs - before.startedMs } : {};
  state = { ...state, progress: withDisks(state, { ...known, ...alone }) };
  const actions: SourceAction[] = [];
  if (state.progress !== null && JSON.stringify(done) !== JSON.stringify(mirror.done)) {
    actions.push({ do: 'progress', progress: state.progress });
  }
  if (isCaughtUp) {
    const begun = afterParameters(state);
    state = begun.state;
    // Memory gets its share before it begins.
    actions.push({ do: 'setParameters', parameters: paceParameters(state) });
    actions.push({ do: 'paceDisks', diskBps: shares(state).diskBps }, ...begun.actions);
  } else if (
    phase !== 'disks' &&
    Math.abs(shares(state).diskBps - shares(before).diskBps) > 0.02 * state.bandwidthBps
  ) {
    actions.push({ do: 'setParameters', parameters: paceParameters(state) });
    if (state.mirror?.isOn === true) actions.push({ do: 'paceDisks', diskBps: shares(state).diskBps });
  }
  return { state, actions };
}

/** Everything is set: the guest is stopped if the technique says so, and its memory copied. */
function afterParameters(state: SourceState): SourceResult {
  if (state.command.technique === 'stop-and-copy') {
    return { state: { ...state, phase: 'stopping', guestStopped: true }, actions: [{ do: 'stopGuest' }] };
  }
  return startMemory(state);
}

function startMemory(state: SourceState): SourceResult {
  const { address, port } = state.command;
  return { state: { ...state, phase: 'starting' }, actions: [{ do: 'migrate', address, port }] };
}

/** The guest stands still before its switch-over, and its disks are at the destination: tells of it, or goes on at once. */
function onDrained(state: SourceState): SourceResult {
  const { mirror } = state;
  // The last word of the mirror was from before it ended, and it ends well only when nothing is left.
  const last = mirror?.done ?? null;
  const done = last === null ? null : { ...last, transferredBytes: last.totalBytes, remainingBytes: 0 };
  const next: SourceState = { ...state, mirror: mirror === null ? null : { ...mirror, isOn: false, done } };
  const pace: SourceAction = { do: 'setParameters', parameters: paceParameters(next) };
  if (state.command.pauseBeforeSwitchover) {
    const held: SourceState = { ...next, phase: 'preSwitchover' };
    return { state: held, actions: [pace, event(held, 'preSwitchover')] };
  }
  return { state: { ...next, phase: 'device' }, actions: [pace, { do: 'continue' }] };
}

/** One step of the source's machine. Pure. */
export function stepSource(state: SourceState, e: SourceEvent, nowMs: number): SourceResult {
  const nothing: SourceResult = { state, actions: [] };
  const refuse = (message: string): SourceResult => ({ ...nothing, refused: { code: 'wrong-phase', message } });
  const { command, phase } = state;
  switch (e.type) {
    case 'reply': {
      if (isLate(e.to)) {
        if (e.error !== undefined) return onRefusal(state, e.to);
        const isResumed = e.to === 'resumeCopy' && phase === 'resuming';
        return isResumed ? { state: { ...state, phase: 'recovering' }, actions: [] } : nothing;
      }
      // The pace could not be set, so the order to go on was not given.
      if (e.to === 'parameters' && e.error !== undefined && phase === 'resuming') return onRefusal(state, 'resumeCopy');
      const expected = {
        capabilities: 'capabilities',
        parameters: 'parameters',
        mirrorDisks: 'disks',
        drainDisks: 'draining',
        stopGuest: 'stopping',
        migrate: 'starting',
      } as const;
      if (phase !== expected[e.to]) return nothing;
      if (e.to === 'drainDisks') {
        if (e.error === undefined) return onDrained(state);
        return { state: { ...state, failing: e.error, cancelRequested: true }, actions: [{ do: 'cancel' }] };
      }
      if (e.error !== undefined) return end(state, 'failed', `${e.to}: ${e.error}`);
      if (e.to === 'capabilities') {
        const next: SourceState = { ...state, phase: 'parameters' };
        const parameters = {
          ...paceParameters(next),
          ...optionParameters(command),
          'downtime-limit': next.downtimeLimitMs,
        };
        return { state: next, actions: [{ do: 'setParameters', parameters }] };
      }
      // The mirror says by itself how far it is.
      if (e.to === 'mirrorDisks') return nothing;
      if (e.to === 'parameters') {
        const { address, diskPort } = command;
        if (diskPort === undefined) return afterParameters(state);
        const next: SourceState = { ...state, phase: 'disks' };
        const { diskBps } = shares(next);
        return { state: next, actions: [{ do: 'mirrorDisks', address, port: diskPort, diskBps }] };
      }
      if (e.to === 'stopGuest') return startMemory(state);
      return { state: { ...state, phase: 'setup' }, actions: [] };
    }
    case 'status':
      return onStatus(state, e.info, nowMs);
    case 'disks':
      return onDisks(state, e.disks, nowMs);
    case 'restored': {
      // These steps are carried out again: what is done already is left as it is.
      if (phase === 'disks' && command.diskPort !== undefined) {
        const { address, diskPort } = command;
        return { state, actions: [{ do: 'mirrorDisks', address, port: diskPort, diskBps: shares(state).diskBps }] };
      }
      if (phase === 'draining' && e.info.status === 'pre-switchover') {
        return { state, actions: [{ do: 'drainDisks', diskBps: state.switchoverBps ?? state.bandwidthBps }] };
      }
      const opening =
        phase === 'capabilities' || phase === 'parameters' || phase === 'stopping' || phase === 'starting';
      // Whether an order to go on was answered, nobody knows any more: from here on the hypervisor's word counts.
      const isPaused = phase === 'postcopyPaused' || phase === 'resuming';
      if (!opening) return onStatus(isPaused ? { ...state, phase: 'recovering' } : state, e.info, nowMs);
      // The copy may have been ordered just before the agent died. What the hypervisor tells of the past may be about an
      // earlier copy, but a guest that was copied away was so by this one: it ran here when this one was ordered.
      const { status } = e.info;
      const over = status === undefined || status === 'none' || status === 'failed' || status === 'cancelled';
      if (over || (status === 'completed' && !e.guestLeft)) {
        return end(state, 'failed', 'the agent was restarted before the copy began');
      }
      return onStatus({ ...state, phase: 'setup' }, e.info, nowMs);
    }
    case 'pass':
      return maybePostcopy(state, e.pass);
    case 'stream': {
      if (state.streamReported || isEnded(phase)) return nothing;
      const next = { ...state, streamReported: true };
      return { state: next, actions: [event(next, 'stream', { stream: e.stream })] };
    }
    case 'setBandwidth': {
      if (isEnded(phase)) return nothing;
      const next: SourceState = {
        ...state,
        bandwidthBps: e.bandwidthBps,
        switchoverBps: e.switchoverBps ?? state.switchoverBps,
        // A changed slice shifts the regulated pace by the same share.
        pace:
          state.pace === null || state.bandwidthBps <= 0
            ? null
            : { ...state.pace, setBps: (state.pace.setBps / state.bandwidthBps) * e.bandwidthBps },
      };
      if (phase === 'capabilities') return { state: next, actions: [] };
      const disks: SourceAction[] =
        next.mirror?.isOn === true && phase !== 'parameters' && phase !== 'draining'
          ? [{ do: 'paceDisks', diskBps: shares(next).diskBps }]
          : [];
      return { state: next, actions: [{ do: 'setParameters', parameters: paceParameters(next) }, ...disks] };
    }
    case 'setDowntimeLimit': {
      if (isEnded(phase)) return nothing;
      const { downtimeLimitMs } = e;
      const next = { ...state, downtimeLimitMs };
      if (phase === 'capabilities') return { state: next, actions: [] };
      return { state: next, actions: [{ do: 'setParameters', parameters: { 'downtime-limit': downtimeLimitMs } }] };
    }
    case 'switchToPostcopy':
      if (!mayBePostcopy(command)) {
        return refuse(
          `this copy was started as ${command.technique}: post-copy must be enabled on both sides before the start`,
        );
      }
      if (state.postcopyRequested || isEnded(phase)) return nothing;
      if (state.cancelRequested) return refuse('the copy is being cancelled');
      if (phase !== 'active') return refuse(`post-copy can begin once the copy is active; it is in ${phase}`);
      return { state: { ...state, postcopyRequested: true }, actions: [{ do: 'startPostcopy' }] };
    case 'continueSwitchover':
      if (phase === 'device' || phase === 'postcopy' || isEnded(phase)) return nothing;
      if (state.cancelRequested) return refuse('the copy is being cancelled');
      if (phase !== 'preSwitchover') return refuse(`the copy does not wait for its switch-over; it is in ${phase}`);
      return { state: { ...state, phase: 'device' }, actions: [{ do: 'continue' }] };
    case 'cancel':
      if (state.cancelRequested || phase === 'cancelled' || phase === 'failed') return nothing;
      if (phase === 'completed') return refuse('the copy is complete: the guest runs at the destination');
      if (state.postcopyStarted) return refuse('the guest runs at the destination: post-copy cannot be cancelled');
      if (phase === 'capabilities' || phase === 'parameters' || phase === 'disks' || phase === 'stopping') {
        return end(state, 'cancelled');
      }
      return { state: { ...state, cancelRequested: true }, actions: [{ do: 'cancel' }] };
    case 'recover': {
      const { address, port, bandwidthBps } = e;
      if (isEnded(phase)) return refuse(`the copy has ended: it is ${phase}`);
      if (!state.postcopyStarted) return refuse(`only a post-copy is taken up again; this copy is in ${phase}`);
      const same = state.recovery?.address === address && state.recovery.port === port;
      if (phase !== 'postcopyPaused' && same) return nothing;
      if (phase === 'resuming' || phase === 'recovering') {
        return refuse(`the copy is being taken up at ${state.recovery?.address} port ${state.recovery?.port}`);
      }
      const next = { ...state, bandwidthBps, switchoverBps: e.switchoverBps ?? state.switchoverBps };
      if (phase === 'postcopyPaused') return resume(next, address, port);
      // The destination listens anew, so the stream that this end still holds on to is dead.
      return { state: { ...next, recovery: { address, port, isPending: true } }, actions: [{ do: 'pauseCopy' }] };
    }
    case 'lost':
      if (isEnded(phase)) return nothing;
      return state.ending === null ? end(state, 'failed', e.reason) : end(state, state.ending, e.reason);
  }
}
