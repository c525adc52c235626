/**
 * The pipeline that `desired.ts` and `overlayFlows.ts` put flows into: its tables, which flow goes before which, and the words of
 * flows that both need. docs/architecture.md, "The pipeline in a switch".
 */
import { of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { nextHops, type PortRef, type Topology } from '../../topology/index.ts';
import type { Feature } from './cookies.ts';
import type { Instructions, Match } from './flows.ts';

export const TABLE = { classify: 0, moved: 1, forward: 2 } as const;
export const PRIORITY = {
  quenchLldp: 45_000,
  lldp: 40_000,
  stream: 30_000,
  quench: 25_000,
  source: 20_000,
  link: 10_000,
  label: 30_000,
  tunnel: 25_000,
  away: 22_000,
  moved: 20_000,
  arrival: 15_000,
  pin: 10_000,
  spread: 5000,
  group: 50_000,
  announcement: 3000,
  asking: 2000,
  host: 1000,
  unknown: 500,
};

type Action = ReturnType<typeof of13.OFPActionOutput> | ReturnType<typeof of13.OFPActionPopVlan>;

export const toController = (bytes: number) => of13.OFPActionOutput({ port: ofp.OFPP_CONTROLLER, max_len: bytes });
export const goto = (table: number): ReturnType<typeof of13.OFPInstructionGotoTable> =>
  of13.OFPInstructionGotoTable({ table_id: table });
export const apply = (actions: unknown[]): ReturnType<typeof of13.OFPInstructionActions> =>
  of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions: actions as Action[] });

/** Puts a flow into a switch's table; switches that are not connected are left out. */
export type Put = (
  dpid: string,
  table: number,
  priority: number,
  feature: Feature,
  match: Match,
  instructions: Instructions,
  objectId?: number,
) => void;

/** The port of `dpid` that leads to a place; undefined when no way is known. */
export function portTowards(topology: Topology, dpid: string, at: PortRef): number | undefined {
  if (dpid === at.dpid) return at.portNo;
  let tables = hopsOf.get(topology);
  if (!tables) {
    tables = new Map();
    hopsOf.set(topology, tables);
  }
  let hops = tables.get(at.dpid);
  if (!hops) {
    hops = nextHops(topology, at.dpid);
    tables.set(at.dpid, hops);
  }
  return hops.get(dpid);
}

// A topology never changes, so what was derived from it holds for as long as somebody has it.
const hopsOf = new WeakMap<Topology, Map<string, ReadonlyMap<string, number>>>();
