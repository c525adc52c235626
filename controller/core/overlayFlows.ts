/**
 * Flows for guests that keep their address away from home (`overlays.ts`). In the home network the guest is where its tunnel
 * begins: every switch sends what is for it to the anchor, and that into the tunnel; broadcasts and multicasts are copied into it.
 * Where it is, everything it sends goes into the tunnel, whatever it is for, and what comes out of it with its key is for it
 * alone, so that the two networks never become one. Part of `desired.ts`.
 */
import { of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { linkId, type PortRef } from '../../topology/index.ts';
import { FEATURE } from './cookies.ts';
import { isJoined, jobsAway, type Overlay } from './overlays.ts';
import { apply, goto, PRIORITY, type Put, portTowards, TABLE } from './pipeline.ts';
import type { ControllerState, Job } from './state.ts';
import { tunnelPortOf } from './tunnels.ts';
import { output } from './ways.ts';

const GROUP_BIT = '01:00:00:00:00:00';
/** Of bridges among themselves (IEEE 802.1D): never forwarded. */
const BRIDGES = ['01:80:c2:00:00:00', 'ff:ff:ff:ff:ff:f0'] as const;

const toAll = { eth_dst: [GROUP_BIT, GROUP_BIT] as const };
const into = (key: number, port: number) => [
  of13.OFPActionSetField({ field: 'tunnel_id', value: BigInt(key) }),
  output(port),
];

/** Puts the flows of all guests that are away, and of those that are about to be. */
export function overlayFlows(state: ControllerState, put: Put, destinationOf: (job: Job) => PortRef | undefined): void {
  if (state.settings.forwarding !== 'managed') return;
  const away = [...state.overlays.values()].filter((o) => o.isAway);
  for (const o of away) {
    homeFlows(state, o, put);
    awayFlows(state, o, o.at, away, put);
  }
  const anchors = new Set(away.map((o) => o.anchor));
  for (const anchor of anchors) anchorFlows(state, anchor, away, put);
  // Make before break: where the guest goes all is laid before it runs there.
  for (const job of jobsAway(state)) {
    const there = destinationOf(job);
    if (!there || job.flipped) continue;
    const { anchor, key } = job.overlay;
    const o = { guest: job.guest, mac: job.spec.mac, anchor, key, former: [] };
    awayFlows(state, o, there, away, put);
  }
}

/** The way to the anchor, from every switch of the home network. */
function homeFlows(state: ControllerState, o: Overlay, put: Put): void {
  const start = tunnelPortOf(state, o.anchor, o.at.dpid);
  if (start === undefined) return;
  const match = of13.OFPMatch({ eth_dst: o.mac });
  for (const dpid of state.topology.switches.keys()) {
    const port = portTowards(state.topology, dpid, { dpid: o.anchor, portNo: start });
    if (port === undefined) continue;
    const actions = dpid === o.anchor ? into(o.key, start) : [output(port)];
    put(dpid, TABLE.forward, PRIORITY.host, FEATURE.away, match, [apply(actions)], o.key);
  }
}

/** What anchors do beside: copies of what is for all, and letting in what the guests send. */
function anchorFlows(state: ControllerState, anchor: string, away: readonly Overlay[], put: Put): void {
  const tunnels = away.flatMap((o) => {
    const port = o.anchor === anchor ? tunnelPortOf(state, anchor, o.at.dpid) : undefined;
    return port === undefined ? [] : [{ o, port }];
  });
  if (tunnels.length === 0) return;
  const copies = (but?: number) => tunnels.filter((x) => x.port !== but).flatMap((x) => into(x.o.key, x.port));
  const on = goto(TABLE.forward);
  const bridges = of13.OFPMatch({ eth_dst: BRIDGES });
  put(anchor, TABLE.moved, PRIORITY.spread + 1, FEATURE.away, bridges, [on]);
  put(anchor, TABLE.moved, PRIORITY.spread, FEATURE.away, of13.OFPMatch(toAll), [apply(copies()), on]);
  for (const { o, port } of tunnels) {
    const from = { in_port: port, tunnel_id: BigInt(o.key), eth_src: o.mac };
    put(anchor, TABLE.moved, PRIORITY.label, FEATURE.away, of13.OFPMatch(from), [on], o.key);
    // To those that share the port the far switch has given it already.
    const others = copies(port);
    if (others.length === 0) continue;
    const match = of13.OFPMatch({ ...from, ...toAll });
    put(anchor, TABLE.moved, PRIORITY.label + 1, FEATURE.away, match, [apply(others), on], o.key);
  }
}

/** At the guest's switch: in from the tunnel, and out into it; straight to others of its home network that are near. */
function awayFlows(
  state: ControllerState,
  o: Pick<Overlay, 'guest' | 'mac' | 'anchor' | 'key' | 'former'>,
  at: PortRef,
  away: readonly Overlay[],
  put: Put,
): void {
  const end = tunnelPortOf(state, at.dpid, o.anchor);
  if (end === undefined) return;
  const { topology } = state;
  const putMoved = (priority: number, fields: Parameters<typeof of13.OFPMatch>[0], actions: unknown[]) =>
    put(at.dpid, TABLE.moved, priority, FEATURE.away, of13.OFPMatch(fields), [apply(actions)], o.key);
  const arrives = { in_port: end, tunnel_id: BigInt(o.key) };
  putMoved(PRIORITY.label, { ...arrives, eth_dst: o.mac }, [output(at.portNo)]);
  putMoved(PRIORITY.label, { ...arrives, ...toAll }, [output(at.portNo)]);
  // Those behind an earlier anchor that cannot be told otherwise still send by it; what is for all comes by the present one.
  for (const former of o.former) {
    const portNo = tunnelPortOf(state, at.dpid, former);
    if (portNo !== undefined)
      putMoved(PRIORITY.label, { ...arrives, in_port: portNo, eth_dst: o.mac }, [output(at.portNo)]);
  }

  const leaves = { in_port: at.portNo, eth_src: o.mac };
  putMoved(PRIORITY.away, leaves, into(o.key, end));
  const near = away.filter(
    (x) =>
      x.guest !== o.guest &&
      linkId(x.at) !== linkId(at) &&
      isJoined(topology, x.anchor, o.anchor) &&
      isJoined(topology, at.dpid, x.at.dpid),
  );
  for (const x of near) {
    const port = portTowards(topology, at.dpid, x.at);
    if (port !== undefined) putMoved(PRIORITY.away + 2, { ...leaves, eth_dst: x.mac }, [output(port)]);
  }
  // The anchor sends nothing back into the port it came from: who shares that port gets its copy here.
  const here = near.filter((x) => x.at.dpid === at.dpid && x.anchor === o.anchor);
  if (here.length > 0)
    putMoved(PRIORITY.away + 1, { ...leaves, ...toAll }, [
      ...here.map((x) => output(x.at.portNo)),
      ...into(o.key, end),
    ]);
}

/** Where what is still on its way to the guest by the tunnel of its home arrives, at a switch it has left: for `movedFlows`. */
export function leftBehind(
  state: ControllerState,
  job: Job,
  oldEdge: string,
): { in_port: number; tunnel_id: bigint; eth_dst: string } | undefined {
  const o = state.overlays.get(job.guest);
  if (!o) return undefined;
  const port = tunnelPortOf(state, oldEdge, o.anchor);
  return port === undefined ? undefined : { in_port: port, tunnel_id: BigInt(o.key), eth_dst: job.spec.mac };
}

/** Output to a port, also where a frame came in by it. */
export const backOr = (inPort: number | undefined, port: number): number => (inPort === port ? ofp.OFPP_IN_PORT : port);
