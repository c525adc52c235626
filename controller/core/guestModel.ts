/** What is known of a guest's memory, for the cost models, the planner and the forecasts. Part of `step.ts`. */
import type { GuestModel } from '../../policies/index.ts';
import type { ControllerState, Job } from './state.ts';
import { guestTelemetry } from './telemetry.ts';

const PAGE_BYTES = 4096;

/**
 * The guest as its agent measured it right before, else as the agent's telemetry has it, else as its definition says (an
 * emulated guest's does), else a guest that dirties nothing. A working set without a bound that was seen is all of its memory. Where its host
 * cannot tell how much of its memory is zero, none is.
 */
export function modelOf(
  state: ControllerState,
  job: Pick<Job, 'spec' | 'guest' | 'dirtyBytesPerS' | 'workingSetBytes' | 'nonZeroBytes'>,
): GuestModel {
  const { spec } = job;
  const seen = guestTelemetry(state, job.guest);
  const memoryBytes = spec.memoryMiB * 2 ** 20;
  const said = spec.workingSetMiB === undefined ? undefined : spec.workingSetMiB * 2 ** 20;
  const nonZeroBytes = job.nonZeroBytes ?? seen?.nonZeroBytes;
  return {
    memoryBytes,
    ...(nonZeroBytes === undefined ? {} : { nonZeroBytes: Math.min(memoryBytes, nonZeroBytes) }),
    dirtyBytesPerS: job.dirtyBytesPerS ?? seen?.dirtyBytesPerS ?? (spec.dirtyPagesPerS ?? 0) * PAGE_BYTES,
    workingSetBytes: Math.min(memoryBytes, job.workingSetBytes ?? seen?.workingSetBytes ?? said ?? memoryBytes),
  };
}
