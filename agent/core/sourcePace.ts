/**
 * The pace of a copy: how its slice is divided between memory and mirrored disks, what QEMU is told, and the regulation of a
 * post-copy. Part of the source's machine (`source.ts`).
 *
 * `postcopy-preempt` is set with post-copy: without it a paced background copy makes every faulting page wait for the
 * pacer (81 faults answered in 10 s at 100 Mbit/s, against 7,584 in 8 s with it). Its price is that urgent pages are not
 * paced: `max-postcopy-bandwidth` is regulated so that the sum keeps to the slice over some seconds, but right after the
 * switch-over, while the guest asks for its working set, it was seen at 2.5 times a slice of 80 Mbit/s for two seconds.
 * Only queues in the network hold it there. And there are two connections, so the reported stream has source port 0 ("any").
 */
import type { SourceResult, SourceState } from './sourceState.ts';
import { splitPace } from './storage.ts';

/** QEMU takes bytes per second, and 0 as "no limit": a pace is never less than this. */
const MIN_PACE_BYTES_PER_S = 1000;
const bytesPerS = (bps: number): number => Math.max(MIN_PACE_BYTES_PER_S, Math.floor(bps / 8));

/** How the slice is divided now: all to the mirror until it has caught up, all to memory when it is ended. */
export function shares(s: SourceState): { memoryBps: number; diskBps: number } {
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

/**
 * Urgent pages come on top of QEMU's post-copy pace. Every half second the pace of the background copy is moved by half
 * of what the sum is off the slice, between 5 % and all of the slice.
 */
export function regulate(state: SourceState, bytes: number, nowMs: number): SourceResult {
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
