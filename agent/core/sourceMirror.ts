/**
 * Mirrored disks at the source. Part of the source's machine (`source.ts`); `storage.ts` has what mirrors say.
 *
 * They come first (phase `disks`): only when the mirror has caught up once does memory follow, so that the copy of
 * memory is not the longer for it. From then on the slice is divided (`sourcePace.ts`). The hypervisor is always made to
 * wait before its switch-over: the guest stands still, the mirror is ended (`draining`), and only then is the
 * switch-over told of and gone on with, so that no write is lost and two machines never write one disk. A hypervisor that does
 * these steps by itself (libvirt) is only watched, and told the pace of each part (`byHypervisor`).
 */
import type { CopyProgress } from '../../contracts/agent.ts';
import { paceParameters, shares } from './sourcePace.ts';
import {
  afterParameters,
  end,
  event,
  isEnded,
  type SourceAction,
  type SourceResult,
  type SourceState,
} from './sourceState.ts';
import type { DiskJobs } from './storage.ts';

/** What the hypervisor tells of memory, and what is known of the disks. */
export function withDisks(s: SourceState, progress: CopyProgress | null): CopyProgress | null {
  if (progress === null || s.mirror === null) return progress;
  return { ...progress, ...(s.mirror.done === null ? {} : { disk: s.mirror.done }) };
}

/** A mirror is looked at so often for what the guest writes. */
const WRITE_SAMPLE_MS = 1000;

/** How the mirrors stand has been looked at. */
export function onDisks(before: SourceState, disks: DiskJobs, nowMs: number): SourceResult {
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

/** The guest stands still before its switch-over, and its disks are at the destination: tells of it, or goes on at once. */
export function onDrained(state: SourceState): SourceResult {
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
