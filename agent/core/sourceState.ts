/**
 * The state of the source's machine (`source.ts`), what it is told and what it has done; and what all its parts share: telling of
 * an event, beginning with memory, ending. Plain data: the driver writes the state to disk, and a restarted agent takes it up.
 */
import type { AgentCommandOf, CopyProgress, Stream } from '../../contracts/agent.ts';
import type { EventMessage } from './driver.ts';
import type { MigrateInfo } from './progress.ts';
import type { DiskJobs } from './storage.ts';

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

/** True when the copy has ended, one way or another. */
export function isEnded(phase: SourcePhase): phase is 'completed' | 'failed' | 'cancelled' {
  return phase === 'completed' || phase === 'failed' || phase === 'cancelled';
}

/** The phase that an event itself tells of: figures in hand may be from just before. */
const EVENT_PHASE: Partial<Record<EventMessage['event'], CopyProgress['phase']>> = {
  preSwitchover: 'switchover',
  postcopyStarted: 'post-copy',
};

export function event(s: SourceState, name: EventMessage['event'], more: Partial<EventMessage> = {}): SourceAction {
  const progress =
    s.progress === null ? {} : { progress: { ...s.progress, phase: EVENT_PHASE[name] ?? s.progress.phase } };
  return { do: 'event', message: { type: 'event', migration: s.command.migration, event: name, ...progress, ...more } };
}

/** The copy is over. A guest that was stopped for it and stays runs again; mirrors that are left are given up. */
export function end(
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

/** Everything is set: the guest is stopped if the technique says so, and its memory copied. */
export function afterParameters(state: SourceState): SourceResult {
  if (state.command.technique === 'stop-and-copy') {
    return { state: { ...state, phase: 'stopping', guestStopped: true }, actions: [{ do: 'stopGuest' }] };
  }
  return startMemory(state);
}

/** Memory is copied, be it of a guest that stands still. */
export function startMemory(state: SourceState): SourceResult {
  const { address, port } = state.command;
  return { state: { ...state, phase: 'starting' }, actions: [{ do: 'migrate', address, port }] };
}
