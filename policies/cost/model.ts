/**
 * What the cost models are made of: the guest that is copied, the conditions of the copy, and what comes out. `passes.ts`
 * holds the arithmetic of the techniques, `harm.ts` what a copy costs the workload, `index.ts` what the policy adds.
 *
 * The equations and where each constant was measured are in docs/cost-models.md.
 */

/** What of a guest decides the cost of copying it. */
export interface GuestModel {
  memoryBytes: number;
  /** Bytes of distinct pages written per second. */
  dirtyBytesPerS: number;
  /** Most that can be dirty at a time (writable working set); 0 or less when unknown: then all of the memory. */
  workingSetBytes: number;
  /** Of the memory, what is not zero; all of it when absent. A page of zeros travels as a header. */
  nonZeroBytes?: number;
  /** Written outside of the working set, each page once: bytes per second, from when the working set is dirty; none when absent. */
  coldBytesPerS?: number;
  /** At the end of the memory, part of it: ROMs and display memory, which nobody writes and which are zero; none when absent. */
  deviceMemoryBytes?: number;
}

/** What a copy costs on a host besides its bytes; measured, see docs/cost-models.md. */
export interface HostCosts {
  /** Stopping, sending the devices' state and starting at the destination, ms. */
  switchoverMs: number;
  /** Each look at the dirty log, ms for each GiB of memory that is not sent: what is sent hides behind the network. */
  walkMsPerGiB: number;
  /** The last look, with the guest stopped, ms for each GiB of memory. */
  lastLookMsPerGiB: number;
}

/**
 * QEMU 8.1 with KVM over 0.93 Gbit/s, fitted to half of the 470 migrations that docs/cost-models.md speaks of. A guest
 * whose non-zero share is not known is taken to have no zero pages and so costs no walking.
 */
export const HOST_COSTS: HostCosts = { switchoverMs: 22, walkMsPerGiB: 60, lastLookMsPerGiB: 12.5 };

/** A copy under way, as its hypervisor tells. */
export interface CopyState {
  remainingBytes: number;
  /** Passes begun. */
  passes: number;
  /** The guest runs at the destination already: what is left is sent once. */
  isPostcopy: boolean;
}

export interface CopyConditions {
  /** Payload the copy may send, bit/s: bytes of the stream without packet headers. */
  rateBps: number;
  /** The same while the guest stands still; `rateBps` when absent. */
  switchoverBps?: number;
  /** Downtime that pre-copy aims at, ms. */
  downtimeLimitMs: number;
  /** Passes of a hybrid before it goes on as post-copy. */
  hybridPasses: number;
  /** Instead of `hybridPasses`: goes on as post-copy after so many ms. */
  hybridAfterMs?: number;
  /** The guest's processors are held back when passes do not pay (QEMU's auto-converge). */
  autoConverge?: boolean;
  /** Looks at the dirty log are this far apart at least, ms; QEMU's pacing period (100) when absent, less where nothing paces. */
  pacerMs?: number;
  /** `HOST_COSTS` when absent. */
  costs?: HostCosts;
}

export interface Prediction {
  /** From the start of the copy until nothing is left at the source. */
  totalMs: number;
  /** For how long the guest runs nowhere. */
  downtimeMs: number;
  /** For how long it runs at the destination with pages still at the source (post-copy). */
  degradedMs: number;
  /** Time of its processors that throttling takes, ms: half the speed for two seconds is one second. */
  slowedMs: number;
  /** Of the stream: pages and their headers. */
  bytes: number;
  passes: number;
  /** Whether pre-copying comes to an end by itself in that rate; true for the other techniques. */
  converges: boolean;
}

/**
 * Of the time in which a guest waits for its pages, this share is one long silence to its clients: the median of the odd rows of
 * the migrations that docs/cost-models.md speaks of (0.52; of the even ones, by which it is judged, 0.47).
 */
const SILENT_SHARE = 0.5;

/** The longest time for which clients hear nothing of the guest, ms. */
export const silenceMs = (p: Pick<Prediction, 'downtimeMs' | 'degradedMs'>): number =>
  p.downtimeMs + SILENT_SHARE * p.degradedMs;

const PAGE_BYTES = 4096;
/** In QEMU's stream a page has a header of 8 bytes; a page of zeros is that and one byte. */
const PAGE_HEADER_BYTES = 8;
const ZERO_PAGE_BYTES = 9;

/** Bytes of the stream for so many bytes of pages that are not zero. */
export const wireBytes = (bytes: number): number => bytes * (1 + PAGE_HEADER_BYTES / PAGE_BYTES);
/** … and of pages that are. */
export const zeroWireBytes = (bytes: number): number => bytes * (ZERO_PAGE_BYTES / PAGE_BYTES);

/** The guest with every field within what makes sense. */
export interface Guest {
  memoryBytes: number;
  nonZeroBytes: number;
  zeroBytes: number;
  workingSetBytes: number;
  dirtyPerMs: number;
  coldPerMs: number;
  deviceMemoryBytes: number;
}

export function guestOf(model: GuestModel): Guest {
  const memoryBytes = Math.max(0, model.memoryBytes);
  const within = (bytes: number) => Math.min(Math.max(0, bytes), memoryBytes);
  const nonZeroBytes = within(model.nonZeroBytes ?? memoryBytes);
  return {
    memoryBytes,
    nonZeroBytes,
    zeroBytes: memoryBytes - nonZeroBytes,
    workingSetBytes: model.workingSetBytes > 0 ? within(model.workingSetBytes) : memoryBytes,
    dirtyPerMs: Math.max(0, model.dirtyBytesPerS) / 1000,
    coldPerMs: Math.max(0, model.coldBytesPerS ?? 0) / 1000,
    deviceMemoryBytes: Math.min(within(model.deviceMemoryBytes ?? 0), memoryBytes - nonZeroBytes),
  };
}

/**
 * Bytes of distinct pages that are dirty after `ms` of writing at `speed` (1: not held back): the working set fills at the
 * dirty rate and is full then; what is written outside of it comes on top.
 */
export function dirtiedBytes(g: Guest, ms: number, speed = 1): number {
  const hot = Math.min(g.dirtyPerMs * speed * ms, g.workingSetBytes);
  const fullAfterMs = g.dirtyPerMs * speed > 0 ? g.workingSetBytes / (g.dirtyPerMs * speed) : 0;
  const cold = g.coldPerMs * speed * Math.max(0, ms - fullAfterMs);
  return Math.min(hot + cold, g.memoryBytes);
}
