/**
 * Several paths between two places that share no link, or no switch, so that one failure takes at most one of them.
 * Neighbour: `paths.ts` (one path). Pure.
 *
 * A flow of least cost, one unit per path and one per link, grown by the cheapest augmenting path (successive shortest
 * paths: Ahuja, Magnanti and Orlin, Network Flows, 1993, §9.7; for two paths Suurballe, Networks 4, 1974). Potentials
 * keep costs whole and not negative, so that buckets by distance serve as queue: O(paths × (switches + links)), after
 * the links were sorted once.
 */
import { endingAt, type Path, type PathOptions } from './paths.ts';
import { type Link, LOCAL_PORT, type PortRef, type Topology } from './topology.ts';

export interface DisjointOptions extends PathOptions {
  /** What paths may not share. Default `links`. Both ends' switches and the destination's port are always shared. */
  by?: 'links' | 'switches';
  /** Links with less left than this, bit/s (by `residualBps`, else capacity), are not used. Default 0: all are. */
  minBps?: number;
}

/** Arcs in pairs: arc `a` and its way back `a ^ 1`. */
interface Network {
  heads: number[];
  costs: number[];
  /** 1 where a unit can still go. */
  free: number[];
  /** The egress of a link's arc; undefined for other arcs. */
  egress: (PortRef | undefined)[];
  /** Arcs by their tail. */
  leaving: number[][];
}

/**
 * Up to `count` paths from a switch to a port that pairwise share nothing, the shortest first. As many as there are, and
 * among all ways to choose that many, one with the fewest hops in total: so none uses a cable in both directions. Empty
 * when there is no path; one when the destination's port is on the switch itself.
 */
export function disjointPaths(
  t: Topology,
  fromDpid: string,
  to: PortRef,
  count: number,
  options: DisjointOptions = {},
): Path[] {
  const isThere = to.portNo === LOCAL_PORT ? t.switches.has(to.dpid) : t.port(to) !== undefined;
  if (!t.switches.has(fromDpid) || !isThere || count < 1) return [];
  if (fromDpid === to.dpid) return [endingAt(t, [], to, options)];
  const { net, entry, exit } = networkOf(t, options);
  const source = exit(fromDpid);
  const target = entry(to.dpid);
  const potentials = new Array<number>(net.leaving.length).fill(0);
  for (let found = 0; found < count && augment(net, source, target, potentials); found++);
  return pathsOf(net, source, target)
    .map((hops) => endingAt(t, hops, to, options))
    .sort((a, b) => a.hops.length - b.hops.length || (a.links.join() < b.links.join() ? -1 : 1));
}

function networkOf(t: Topology, options: DisjointOptions) {
  const residualBps = options.residualBps ?? ((id: string) => t.capacityBps(id));
  const minBps = options.minBps ?? 0;
  const bySwitches = options.by === 'switches';
  const index = new Map([...t.switches.keys()].sort().map((dpid, i) => [dpid, i]));
  const indexOf = (dpid: string) => index.get(dpid) as number;
  // To share no switch, each is an entry and an exit with one arc between them.
  const entry = (dpid: string) => (bySwitches ? 2 * indexOf(dpid) : indexOf(dpid));
  const exit = (dpid: string) => (bySwitches ? 2 * indexOf(dpid) + 1 : indexOf(dpid));
  const size = bySwitches ? 2 * index.size : index.size;
  const net: Network = {
    heads: [],
    costs: [],
    free: [],
    egress: [],
    leaving: Array.from({ length: size }, () => []),
  };
  const arc = (tail: number, head: number, cost: number, egress?: PortRef) => {
    net.leaving[tail]?.push(net.heads.length);
    net.leaving[head]?.push(net.heads.length + 1);
    net.heads.push(head, tail);
    net.costs.push(cost, -cost);
    net.free.push(1, 0);
    net.egress.push(egress, undefined);
  };
  if (bySwitches) for (const dpid of index.keys()) arc(entry(dpid), exit(dpid), 0);
  const usable: Link[] = [];
  for (const [id, l] of t.links) {
    if (l.from.dpid !== l.to.dpid && residualBps(id) >= minBps) usable.push(l);
  }
  usable.sort((a, b) => indexOf(a.from.dpid) - indexOf(b.from.dpid) || a.from.portNo - b.from.portNo);
  for (const l of usable) arc(exit(l.from.dpid), entry(l.to.dpid), 1, l.from);
  return { net, entry, exit };
}

/** Sends one more unit the cheapest way; false when there is none. Keeps the potentials for the next one. */
function augment(net: Network, source: number, target: number, potentials: number[]): boolean {
  const distances = new Array<number>(net.leaving.length).fill(Number.POSITIVE_INFINITY);
  const reachedBy = new Array<number>(net.leaving.length).fill(-1);
  const buckets: number[][] = [[source]];
  distances[source] = 0;
  for (let d = 0; d < buckets.length; d++) {
    const bucket = buckets[d] ?? [];
    // A bucket grows while it is worked on: arcs may cost nothing.
    for (const at of bucket) {
      if (distances[at] !== d) continue;
      for (const a of net.leaving[at] ?? []) {
        if (net.free[a] !== 1) continue;
        const head = net.heads[a] as number;
        const reduced = (net.costs[a] as number) + (potentials[at] as number) - (potentials[head] as number);
        if (d + reduced >= (distances[head] as number)) continue;
        distances[head] = d + reduced;
        reachedBy[head] = a;
        while (buckets.length <= d + reduced) buckets.push([]);
        buckets[d + reduced]?.push(head);
      }
    }
    if ((distances[target] as number) <= d) break;
  }
  const total = distances[target] as number;
  if (total === Number.POSITIVE_INFINITY) return false;
  for (let i = 0; i < potentials.length; i++) {
    potentials[i] = (potentials[i] as number) + Math.min(distances[i] as number, total);
  }
  for (let at = target; at !== source; ) {
    const a = reachedBy[at] as number;
    net.free[a] = 0;
    net.free[a ^ 1] = 1;
    at = net.heads[a ^ 1] as number;
  }
  return true;
}

/** Takes the flow apart. Of least cost, it has no circles: every walk along it ends at the target. */
function pathsOf(net: Network, source: number, target: number): Path['hops'][] {
  const used = net.leaving.map((arcs) => arcs.filter((a) => a % 2 === 0 && net.free[a] === 0));
  const paths: Path['hops'][] = [];
  for (const first of used[source] ?? []) {
    const hops: Path['hops'] = [];
    for (let a: number | undefined = first; a !== undefined; ) {
      const egress = net.egress[a];
      if (egress !== undefined) hops.push({ dpid: egress.dpid, outPort: egress.portNo });
      const head = net.heads[a] as number;
      a = head === target ? undefined : used[head]?.pop();
    }
    paths.push(hops);
  }
  return paths;
}
