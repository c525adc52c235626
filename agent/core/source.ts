/**
 * The source's part of a migration as a state machine: (state, event, nowMs) → { state, actions }. No I/O: the driver
 * (`io/qemuDriver.ts`) carries the actions out and feeds back replies, QMP events and polls. Late and duplicate events are
 * harmless. Here are its steps; the rest is in `sourceState.ts`, `sourcePace.ts`, `sourcePostcopy.ts` and `sourceMirror.ts`.
 *
 * Found by trying with QEMU 10.0.2: `pause-before-switchover` works for all three techniques. With post-copy
 * (`migrate-start-postcopy`, also in a hybrid) the source stops the guest, says `pre-switchover` and waits for
 * `migrate-continue`; then come `device`, `postcopy-active` and the destination's RESUME within milliseconds. So the order
 * of reports is always stream, preSwitchover, [postcopyStarted], completed; a hybrid that converges in its pre-copy passes
 * leaves postcopyStarted out. `query-migrate` may take most of a second to answer around the switch-over, so what is
 * urgent is taken from MIGRATION events and only figures from polls.
 *
 * Stop-and-copy stops the guest here, then copies: paced, unlike QEMU's own switch-over, and cancellable to the end. Such a
 * guest arrives stopped, and the destination (`core/destination.ts`) starts it once all of it is there. Only this machine
 * starts it again here, and only when the hypervisor has said that the copy failed or was cancelled.
 */
import type { AgentCommandOf } from '../../contracts/agent.ts';
import { mayBePostcopy } from '../../contracts/copyOrder.ts';
import { type MigrateInfo, sameProgress, toProgress } from './progress.ts';
import { onDisks, onDrained, withDisks } from './sourceMirror.ts';
import { paceParameters, regulate, shares } from './sourcePace.ts';
import { maybePostcopy, onPaused, resume, watchMovement } from './sourcePostcopy.ts';
import {
  afterParameters,
  end,
  event,
  isEnded,
  type MigrationStep,
  type SourceAction,
  type SourceEvent,
  type SourceResult,
  type SourceState,
  startMemory,
} from './sourceState.ts';
import { capabilitiesFor, optionParameters } from './techniques.ts';

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
