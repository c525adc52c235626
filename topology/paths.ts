/**
 * Paths over a Topology snapshot: the path of one stream, several that share nothing, the next hops of managed
 * forwarding, and the ports a broadcast may leave by. Everything here is deterministic: equal topologies give equal answers, whatever the order in
 * which they were learned. Pure.
 */
import { isUsablePort, LOCAL_PORT, linkId, type PortRef, type Topology } from './topology.ts';

export interface Path {
  /** Switches in order, from the first to the one the destination is attached to. */
  dpids: string[];
  /** The egress port at each of them; the last one is the destination's port. */
  hops: { dpid: string; outPort: number }[];
  /** Ids of the directed links used, where bandwidth is reserved: see PathOptions.includeLast for the last port. */
  links: string[];
}

export interface PathOptions {
  /**
   * Whether `links` ends with the destination's port. Without it: yes, unless a guest is located there. A LOCAL port is
   * never included: it is inside the host and has no capacity of its own.
   */
  includeLast?: boolean;
  /** What is still free on a link, bit/s; capacity when not given. Only decides between paths of equal length. */
  residualBps?: (linkId: string) => number;
  /** Where many paths are asked for: `towards` for a switch with the same `residualBps`, made once. */
  towardsOf?: (dpid: string) => ReadonlyMap<string, Towards>;
}

export interface Towards {
  distance: number;
  /** Least width of the links ahead, bit/s. */
  widthBps: number;
  /** Egress port towards the target and where it leads; absent at the target itself. */
  next?: { outPort: number; dpid: string };
}

/**
 * For every switch that can reach `toDpid`, its best next hop: fewest hops, then the widest way ahead, then the
 * smallest neighbour and port number. Following the next hops loses one hop of distance each time, hence is loop-free.
 */
export function towards(t: Topology, toDpid: string, widthOf: (linkId: string) => number): Map<string, Towards> {
  const found = new Map<string, Towards>();
  if (!t.switches.has(toDpid)) return found;
  const incoming = new Map<string, { from: PortRef; id: string }[]>();
  for (const [id, l] of t.links) {
    const list = incoming.get(l.to.dpid);
    if (list === undefined) incoming.set(l.to.dpid, [{ from: l.from, id }]);
    else list.push({ from: l.from, id });
  }
  found.set(toDpid, { distance: 0, widthBps: Number.POSITIVE_INFINITY });
  let ring = [toDpid];
  for (let distance = 1; ring.length > 0; distance++) {
    const reached: string[] = [];
    for (const via of ring) {
      const ahead = found.get(via) as Towards;
      for (const { from, id } of incoming.get(via) ?? []) {
        const candidate: Towards = {
          distance,
          widthBps: Math.min(ahead.widthBps, widthOf(id)),
          next: { outPort: from.portNo, dpid: via },
        };
        const known = found.get(from.dpid);
        if (known === undefined) reached.push(from.dpid);
        if (known === undefined || (known.distance === distance && isBetter(candidate, known))) {
          found.set(from.dpid, candidate);
        }
      }
    }
    ring = reached;
  }
  return found;
}

function isBetter(a: Towards, b: Towards): boolean {
  if (a.widthBps !== b.widthBps) return a.widthBps > b.widthBps;
  if (a.next === undefined || b.next === undefined) return false;
  return a.next.dpid !== b.next.dpid ? a.next.dpid < b.next.dpid : a.next.outPort < b.next.outPort;
}

/**
 * The path from a switch to a port: the shortest; among equally short ones the widest (by `residualBps`, else
 * capacity); among those the one through the smallest ids. Undefined when there is none, or the destination's port is
 * known to be absent from its switch. A breadth-first search: O(switches + links).
 */
export function findPath(t: Topology, fromDpid: string, to: PortRef, options: PathOptions = {}): Path | undefined {
  const isThere = to.portNo === LOCAL_PORT ? t.switches.has(to.dpid) : t.port(to) !== undefined;
  if (!t.switches.has(fromDpid) || !isThere) return undefined;
  const table = options.towardsOf?.(to.dpid) ?? towards(t, to.dpid, options.residualBps ?? ((id) => t.capacityBps(id)));
  const hops: Path['hops'] = [];
  let at = fromDpid;
  for (;;) {
    const step = table.get(at);
    if (step === undefined) return undefined;
    if (step.next === undefined) break;
    hops.push({ dpid: at, outPort: step.next.outPort });
    at = step.next.dpid;
  }
  return endingAt(t, hops, to, options);
}

/** The path over `hops` from switch to switch and out of `to`. */
export function endingAt(t: Topology, between: Path['hops'], to: PortRef, options: PathOptions): Path {
  const hops = [...between, { dpid: to.dpid, outPort: to.portNo }];
  const withLast = to.portNo !== LOCAL_PORT && (options.includeLast ?? !t.isGuestPort(to));
  return {
    dpids: hops.map((h) => h.dpid),
    hops,
    links: (withLast ? hops : between).map((h) => linkId({ dpid: h.dpid, portNo: h.outPort })),
  };
}

/** The link of a path that has least left, the first where several have; undefined for a path without links. */
export function narrowest(
  links: readonly string[],
  residualBps: (linkId: string) => number,
): { link: string; bps: number } | undefined {
  let least: { link: string; bps: number } | undefined;
  for (const link of links) {
    const bps = residualBps(link);
    if (least === undefined || bps < least.bps) least = { link, bps };
  }
  return least;
}

/** For every other switch that can reach `toDpid`: its egress port towards it. Taken together they are loop-free. */
export function nextHops(t: Topology, toDpid: string): ReadonlyMap<string, number> {
  const ports = new Map<string, number>();
  for (const [dpid, step] of towards(t, toDpid, (id) => t.capacityBps(id))) {
    if (step.next !== undefined) ports.set(dpid, step.next.outPort);
  }
  return ports;
}

/**
 * Per switch, the ports a broadcast leaves by: those of a spanning tree of the links, and every port that is up and
 * leads to no switch (LOCAL too) and is not listening, sorted. A cable known in one direction only counts as a cable: it carries both ways.
 */
export function floodPorts(t: Topology): ReadonlyMap<string, number[]> {
  // Undirected edges, each seen from both ends.
  const cables = new Map<string, Map<string, { own: number; far: PortRef }>>();
  const add = (near: PortRef, far: PortRef) => {
    const ends = cables.get(near.dpid) ?? new Map<string, { own: number; far: PortRef }>();
    cables.set(near.dpid, ends.set(`${near.portNo} ${linkId(far)}`, { own: near.portNo, far }));
  };
  for (const l of t.links.values()) {
    if (l.from.dpid === l.to.dpid) continue; // A cable back into the same switch would only make a loop.
    add(l.from, l.to);
    add(l.to, l.from);
  }
  const tree = new Map<string, Set<number>>();
  for (const dpid of t.switches.keys()) tree.set(dpid, new Set());
  const reached = new Set<string>();
  for (const root of [...t.switches.keys()].sort()) {
    if (reached.has(root)) continue;
    reached.add(root);
    const queue = [root];
    for (let at = queue.shift(); at !== undefined; at = queue.shift()) {
      const ends = [...(cables.get(at)?.values() ?? [])].sort((a, b) =>
        a.far.dpid !== b.far.dpid ? (a.far.dpid < b.far.dpid ? -1 : 1) : a.own - b.own || a.far.portNo - b.far.portNo,
      );
      for (const { own, far } of ends) {
        if (reached.has(far.dpid)) continue;
        reached.add(far.dpid);
        tree.get(at)?.add(own);
        tree.get(far.dpid)?.add(far.portNo);
        queue.push(far.dpid);
      }
    }
  }
  const flood = new Map<string, number[]>();
  for (const [dpid, node] of t.switches) {
    const ports = tree.get(dpid) ?? new Set<number>();
    for (const p of node.ports.values()) {
      const ref = { dpid, portNo: p.portNo };
      // A guest is where its agent says: its port needs no listening.
      const isEdge = !t.isTrunk(ref) && (!t.isListening(ref) || t.isGuestPort(ref));
      if (p.isUp && isUsablePort(p.portNo) && isEdge) ports.add(p.portNo);
    }
    flood.set(
      dpid,
      [...ports].sort((a, b) => a - b),
    );
  }
  return flood;
}
