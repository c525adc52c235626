/**
 * All the next hops that are of use towards a switch: the equally short ones, over which connections can be spread, and
 * those to fall back on at once when these are down. Neighbour: `paths.ts` (the one best next hop). Pure.
 *
 * Why no packet circles, whichever links are down and whether or not the neighbours know it: a next hop is nearer to the
 * target (by hops), and an alternate is as near but has the smaller datapath id, so that the pair (distance, id) falls at each
 * hop. It is a stricter rule than that of loop-free alternates (RFC 5286 §3, inequality 1), which holds for one failure only.
 */
import { towards } from './paths.ts';
import type { Topology } from './topology.ts';

export interface NextHops {
  /** Egress ports of shortest ways, sorted by number; `widthBps` is the least capacity ahead. */
  nearer: { outPort: number; widthBps: number }[];
  /** Egress ports to neighbours as near, sorted by number. */
  alternates: number[];
}

/** For every other switch that can reach `toDpid`. O(switches + links). */
export function allNextHops(t: Topology, toDpid: string): ReadonlyMap<string, NextHops> {
  const best = towards(t, toDpid, (id) => t.capacityBps(id));
  const hops = new Map<string, NextHops>();
  for (const dpid of best.keys()) if (dpid !== toDpid) hops.set(dpid, { nearer: [], alternates: [] });
  for (const [id, { from, to }] of t.links) {
    const near = best.get(from.dpid);
    const far = best.get(to.dpid);
    const mine = hops.get(from.dpid);
    if (!near || !far || !mine) continue;
    if (far.distance === near.distance - 1) {
      mine.nearer.push({ outPort: from.portNo, widthBps: Math.min(far.widthBps, t.capacityBps(id)) });
    } else if (far.distance === near.distance && to.dpid < from.dpid) mine.alternates.push(from.portNo);
  }
  for (const h of hops.values()) {
    h.nearer.sort((a, b) => a.outPort - b.outPort);
    h.alternates.sort((a, b) => a - b);
  }
  return hops;
}
