/**
 * Which switch a guest away from home (`overlays.ts`) is joined with its network by, when its anchor is lost: another one of that
 * network, once probes have come through a tunnel to it both ways. Until then all stays as it is, since an anchor that is
 * only out of touch with the controller may go on forwarding. Part of `step.ts`.
 */
import type { Reason } from '../../contracts/common.ts';
import { formatMs } from '../../contracts/units.ts';
import { nextHops, type Topology } from '../../topology/index.ts';
import type { Overlay } from './overlays.ts';
import { retryMs, type Tries } from './retry.ts';
import { isSettling } from './settle.ts';
import { type ControllerState, isActive } from './state.ts';
import { endsOf, isProven, READY_MS } from './tunnels.ts';
import { switchName } from './tunnelWatch.ts';
import type { Turn } from './turn.ts';

/** An anchor out of touch whose neighbours say that all its links are down is taken for lost after this long. */
const CUT_OFF_MS = 2000;
/** One that is only out of touch: Open vSwitch tries to connect every 8 s at the least. */
const OUT_OF_TOUCH_MS = 30_000;
/** One that is there, and whose tunnel carries nothing although its ports were made sure of. */
const BROKEN_MS = 10_000;
/** Switches that are kept in mind for each guest away. */
const MOST_RESERVES = 4;

/** While an anchor does not serve: rounds through all reserves that came to nothing, and when the next is due. */
export interface AnchorSearch extends Tries {
  /** The one whose tunnel is being made and probed; null between two rounds. */
  trying: string | null;
  sinceMs: number;
}

// A topology never changes, and who has an address for tunnels neither.
const known = new WeakMap<Topology, Map<string, readonly string[]>>();

/** Switches of an anchor's network that could take its place, nearest first. */
export function reservesOf({ topology, settings }: ControllerState, anchor: string): readonly string[] {
  const ofTopology = known.get(topology) ?? new Map<string, readonly string[]>();
  known.set(topology, ofTopology);
  let reserves = ofTopology.get(anchor);
  if (!reserves) {
    const near = [...nextHops(topology, anchor).keys()];
    reserves = near.filter((dpid) => settings.tunnels?.addressOf(dpid) !== undefined).slice(0, MOST_RESERVES);
    ofTopology.set(anchor, reserves);
  }
  return reserves;
}

const isConnected = (state: ControllerState, dpid: string): boolean => state.switches.get(dpid)?.connected === true;

/** Why an anchor is given up; undefined while it is not. */
function troubleOf(t: Turn, o: Overlay): string | undefined {
  const { state } = t;
  // Without the switch where the guest is no other tunnel can be proven either.
  if (!o.isAway || isSettling(state) || !isConnected(state, o.at.dpid)) return undefined;
  const lastsMs = t.nowMs - Math.max(o.tunnel.sinceMs, state.startedAtMs);
  const name = switchName(state, o.anchor);
  if (isConnected(state, o.anchor)) {
    if (o.tunnel.state !== 'broken' || lastsMs < BROKEN_MS) return undefined;
    return `the tunnel of ${o.guest} to ${name} has not carried for ${formatMs(BROKEN_MS)}`;
  }
  const { links, switches } = state.topology;
  const isCutOff =
    switches.has(o.anchor) && ![...links.values()].some((l) => l.from.dpid === o.anchor || l.to.dpid === o.anchor);
  if (isCutOff && lastsMs >= CUT_OFF_MS) return `${name} is not connected, and all links to it are down`;
  return lastsMs >= OUT_OF_TOUCH_MS ? `${name} has not been connected for ${formatMs(OUT_OF_TOUCH_MS)}` : undefined;
}

/** Moves the search for another anchor on, where one is needed; answers the same object where nothing is new. */
export function replaceAnchor(t: Turn, o: Overlay): Overlay {
  const trouble = troubleOf(t, o);
  if (trouble === undefined) return o.search === null ? o : { ...o, search: null };
  const { state } = t;
  const at = o.at.dpid;
  const before = o.search ?? { trying: null, sinceMs: t.nowMs, failures: 0, retryAtMs: 0 };
  const { trying } = before;
  if (trying === null && t.nowMs < before.retryAtMs) return o;
  if (trying !== null) {
    if (isProven(state, trying, at) && isProven(state, at, trying)) return swapped(t, o, trying, trouble);
    if (isConnected(state, trying) && t.nowMs - before.sinceMs < READY_MS) return o;
  }
  const canBe = (dpid: string) => isConnected(state, dpid) && endsOf(state, dpid, at) !== undefined;
  const from = trying === null ? 0 : o.reserves.indexOf(trying) + 1;
  const next = o.reserves.slice(from).find(canBe);
  if (next !== undefined) {
    if (o.search === null)
      tell(t, o, 'overlay.anchorLost', `${trouble}: ${switchName(state, next)} is tried in its place`);
    return { ...o, search: { ...before, trying: next, sinceMs: t.nowMs } };
  }
  const failures = before.failures + 1;
  if (failures === 1) {
    const tried = o.reserves.filter(canBe).map((dpid) => switchName(state, dpid));
    const why =
      tried.length > 0
        ? `no probe came through tunnels to ${tried.join(', ')}`
        : 'no other switch of its network that has ovsdb and tunnelAddress is connected';
    tell(t, o, 'overlay.noAnchor', `${trouble}, and there is none to take its place for ${o.guest}: ${why}`);
  }
  return { ...o, search: { trying: null, sinceMs: t.nowMs, failures, retryAtMs: t.nowMs + retryMs(failures) } };
}

function swapped(t: Turn, o: Overlay, anchor: string, trouble: string): Overlay {
  const { state } = t;
  const text = `${trouble}: what ${o.guest} sends and gets goes through ${switchName(state, anchor)} from now on`;
  tell(t, o, 'overlay.anchor', text, anchor);
  for (const job of state.jobs.values()) {
    if (job.guest !== o.guest || !isActive(job) || job.overlay?.anchor !== o.anchor) continue;
    t.setJob(job.id, { overlay: { ...job.overlay, anchor, isReady: false, sinceMs: t.nowMs } });
  }
  const former = [...o.former, ...(isConnected(state, o.anchor) ? [] : [o.anchor])].filter((dpid) => dpid !== anchor);
  const tunnel = { state: 'works' as const, why: null, sinceMs: t.nowMs, isTold: false };
  return { ...o, anchor, former, tunnel, search: null, reserves: reservesOf(state, anchor) };
}

function tell(t: Turn, o: Overlay, rule: string, text: string, anchor = o.anchor): void {
  const inputs: Reason['inputs'] = { guest: o.guest, anchor, at: o.at.dpid };
  t.decide('reroute', null, [{ rule, text, inputs }]);
  t.log('warn', rule, { ...inputs, text });
}
