/**
 * What a copy costs the workload of the links it crosses: the traffic that a slice takes away from it, for as long as the
 * copy holds the slice. Neighbours: `passes.ts` says how long that is, `technique.ts` weighs it against the rest.
 */

/** A link of the path, with what the workload wants there and what the copy is given. */
export interface HarmedLink {
  id: string;
  capacityBps: number;
  /** What the workload is taken to want. */
  demandBps: number;
  /** Of the copy, whole frames. */
  sliceBps: number;
}

export interface Harm {
  /** Traffic of the workload that is put off or dropped on all links together, bytes. */
  bytes: number;
  /** The same as time of one whole workload: the share it is denied times how long, ms, summed over the links. */
  ms: number;
  /** Where it is worst; null when no workload is denied anything. */
  worstLink: string | null;
  worstBytes: number;
}

/** What the workload of a link is denied while the slice is used, bit/s. */
export function deniedBps(l: HarmedLink): number {
  const leftBps = Math.max(0, l.capacityBps - l.sliceBps);
  return Math.max(0, Math.min(l.demandBps, l.capacityBps) - leftBps);
}

/** Harm on every link of the path by a copy that holds its slice for `totalMs`. */
export function harmOf(links: readonly HarmedLink[], totalMs: number): Harm {
  const harm: Harm = { bytes: 0, ms: 0, worstLink: null, worstBytes: 0 };
  for (const l of links) {
    const denied = deniedBps(l);
    if (denied <= 0) continue;
    const bytes = (denied * totalMs) / 8000;
    harm.bytes += bytes;
    harm.ms += (denied / Math.min(l.demandBps, l.capacityBps)) * totalMs;
    if (bytes > harm.worstBytes || harm.worstLink === null) {
      harm.worstBytes = bytes;
      harm.worstLink = l.id;
    }
  }
  return harm;
}
