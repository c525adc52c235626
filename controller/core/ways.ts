/**
 * Managed forwarding from switch to switch: one port where there is one way, a group where there are more. A `select` group
 * spreads connections over equally short ways in proportion to their width; a `failover` group has another way ready. In both
 * the switch itself stops using a port the moment it is down, before the controller has heard of it. Part of `desired.ts`.
 */
import { of13 } from 'node-openflow';
import { allNextHops, type NextHops, nextHops, type PortRef, type Topology } from '../../topology/index.ts';
import { GROUP_BASE, GROUP_COUNT, type Group, groupSignature } from './flows.ts';

export const output = (port: number) => of13.OFPActionOutput({ port, max_len: 0 });
type Way = ReturnType<typeof output> | ReturnType<typeof of13.OFPActionGroup>;

/** The widest of several ways has this weight, narrower ones less in proportion, at least 1. */
const WIDEST_WEIGHT = 16;
/** Alternates that are of use; more only cost room in the switch. */
const MAX_ALTERNATES = 3;

/** FNV-1a over the text, folded to 16 bits: which group id a signature has, the same after a restart. */
function hash16(text: string): number {
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return ((h >>> 16) ^ h) & 0xffff;
}

/** Ways over one snapshot, and the groups they need. */
export class Ways {
  readonly #topology: Topology;
  readonly #hops = new Map<string, { all: ReadonlyMap<string, NextHops>; best: ReadonlyMap<string, number> }>();
  /** By datapath: groups by id, and ids by signature. */
  readonly #groups = new Map<string, { byId: Map<number, Group>; bySignature: Map<string, number> }>();
  /** By datapath and target: what was answered before. */
  readonly #known = new Map<string, Way | undefined>();

  constructor(topology: Topology) {
    this.#topology = topology;
  }

  /** The groups of a switch that the ways asked for need; it grows while ways are asked for. */
  groupsOf(dpid: string): ReadonlyMap<number, Group> {
    return this.#of(dpid).byId;
  }

  /** The action that sends a packet from a switch towards a place; undefined when no way is known. */
  towards(dpid: string, at: PortRef): Way | undefined {
    if (dpid === at.dpid) return output(at.portNo);
    const key = `${dpid} ${at.dpid}`;
    if (!this.#known.has(key)) this.#known.set(key, this.#derive(dpid, at.dpid));
    return this.#known.get(key);
  }

  #derive(dpid: string, toDpid: string): Way | undefined {
    let hops = this.#hops.get(toDpid);
    if (!hops) {
      hops = { all: allNextHops(this.#topology, toDpid), best: nextHops(this.#topology, toDpid) };
      this.#hops.set(toDpid, hops);
    }
    const best = hops.best.get(dpid);
    const all = hops.all.get(dpid);
    if (best === undefined || !all) return undefined;
    const ability = this.#topology.switches.get(dpid)?.groups;
    const alternates = all.alternates.slice(0, MAX_ALTERNATES);
    if (ability?.select && all.nearer.length > 1) return this.#group(dpid, 'select', weighted(all.nearer));
    const others = [...all.nearer.map((n) => n.outPort).filter((p) => p !== best), ...alternates];
    if (!ability?.failover || others.length === 0) return output(best);
    return this.#group(
      dpid,
      'failover',
      [best, ...others].map((port) => ({ port, weight: 0 })),
    );
  }

  #of(dpid: string) {
    const known = this.#groups.get(dpid) ?? { byId: new Map<number, Group>(), bySignature: new Map<string, number>() };
    this.#groups.set(dpid, known);
    return known;
  }

  #group(dpid: string, kind: Group['kind'], buckets: Group['buckets']): Way {
    const { byId, bySignature } = this.#of(dpid);
    const signature = groupSignature(kind, buckets);
    let groupId = bySignature.get(signature);
    if (groupId === undefined) {
      let n = hash16(signature);
      while (byId.has(GROUP_BASE + n)) n = (n + 1) % GROUP_COUNT;
      groupId = GROUP_BASE + n;
      byId.set(groupId, { groupId, kind, buckets, signature });
      bySignature.set(signature, groupId);
    }
    return of13.OFPActionGroup({ group_id: groupId });
  }
}

function weighted(ways: NextHops['nearer']): Group['buckets'] {
  const widest = Math.max(...ways.map((w) => w.widthBps));
  return ways.map(({ outPort, widthBps }) => ({
    port: outPort,
    weight: widest > 0 ? Math.max(1, Math.round((WIDEST_WEIGHT * widthBps) / widest)) : 1,
  }));
}
