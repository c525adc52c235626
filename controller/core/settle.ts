/**
 * The first moments of a controller's life, when switches forward by what an earlier life of it installed and it knows
 * the network only in part. What it reads back tells it where hosts are and which ports led to other switches; until those
 * links are found again, what switches hold is not taken away for want of knowledge. Part of `step.ts`; pure.
 */
import { linkId, type PortRef } from '../../topology/index.ts';
import { FEATURE, parseCookie } from './cookies.ts';
import { meterOf } from './desired.ts';
import type { SwitchTables } from './difference.ts';
import { noteLedOn } from './discovery.ts';
import type { Flow } from './flows.ts';
import { type ControllerState, isActive, type Job, pullsNow } from './state.ts';
import type { Turn } from './turn.ts';

/** Switches that lost their controller come back within this long: Open vSwitch tries every 8 s at the least. */
const SETTLE_MS = 15_000;
/** Queues of an earlier life that nobody wants are removed after this long at the earliest. */
const SWEEP_MS = 5_000;
/** A switch that comes later than that has this long to have its links found. */
const LATE_SETTLE_MS = 5_000;

/** What is waited for; `ports` led to other switches before. */
export interface Settling {
  untilMs: number;
  ports: ReadonlyMap<string, PortRef>;
  /** Migrations of an earlier life run, and switches on their ways may not have come yet. */
  hasJobs: boolean;
  /** The leftovers of an earlier life beside flows and meters were removed. */
  isSwept: boolean;
}

export const newSettling = (nowMs: number): Settling => ({
  untilMs: nowMs + SETTLE_MS,
  ports: new Map(),
  hasJobs: false,
  isSwept: false,
});

/** Whether the network is not known again yet as it was. */
export const isSettling = ({ settling }: ControllerState): boolean => settling.ports.size > 0 || settling.hasJobs;

/** Whether a migration has a copy or a pull that goes on over a way that is known. */
export const goesOn = (j: Job): boolean => ((isActive(j) && !j.copyEnded) || pullsNow(j)) && j.dpids.length > 0;

/** Datapaths that running migrations pass and that have not connected in this life. */
const missingSwitches = ({ jobs, topology }: ControllerState): string[] =>
  [...jobs.values()].filter(goesOn).flatMap((j) => j.dpids.filter((dpid) => !topology.switches.has(dpid)));

/** A match on nothing but these fields. */
function fieldsOf(f: Flow, ...names: string[]): Record<string, unknown> | undefined {
  const fields = f.match.fields as Record<string, unknown>;
  const isExact = Object.keys(fields).length === names.length && names.every((n) => n in fields);
  return isExact ? fields : undefined;
}

/** Takes in what a switch held of ours when it connected for the first time in this life. */
export function learnFromFlows(t: Turn, dpid: string, found: SwitchTables): void {
  const { settling } = t.state;
  const ports = new Map(settling.ports);
  let { topology } = t.state;
  for (const f of found.flows.values()) {
    const feature = parseCookie(f.cookie)?.feature;
    if (feature === FEATURE.infrastructure) {
      const portNo = fieldsOf(f, 'in_port')?.in_port;
      if (typeof portNo !== 'number') continue;
      const ref = { dpid, portNo };
      if (topology.port(ref)?.isUp) ports.set(linkId(ref), ref);
    } else if (feature === FEATURE.source) {
      const fields = fieldsOf(f, 'in_port', 'eth_src');
      const { in_port: portNo, eth_src: mac } = fields ?? {};
      if (typeof portNo !== 'number' || typeof mac !== 'string') continue;
      const at = { dpid, portNo };
      if (topology.locations.has(mac) || !topology.port(at)) continue;
      topology = topology.withLocation({ mac, ip: null, name: null, kind: 'unknown', at });
    }
  }
  if (topology !== t.state.topology) t.set({ topology });
  noteLedOn(t, [...ports.keys()]);
  if (ports.size > settling.ports.size)
    t.set({ settling: { ...settling, ports, untilMs: Math.max(settling.untilMs, t.nowMs + LATE_SETTLE_MS) } });
}

/**
 * Ends the waiting when all links are found again or it has been long enough. Answers whether it ended in this turn. Queues
 * of an earlier life that no slice wants are swept away once, afterwards.
 */
export function settleDown(t: Turn, queuesWanted: () => { dpid: string; portName: string }[]): boolean {
  const { settling, topology } = t.state;
  let ended = false;
  if (isSettling(t.state)) {
    const links = [...settling.ports].filter(([id, ref]) => topology.port(ref)?.isUp && !topology.links.has(id));
    const switches = settling.hasJobs ? missingSwitches(t.state) : [];
    if (links.length + switches.length > 0 && t.nowMs < settling.untilMs) return false;
    if (links.length > 0) t.log('warn', 'network.changed', { linksNotFoundAgain: links.map(([id]) => id) });
    if (switches.length > 0) t.log('warn', 'network.changed', { switchesNotFoundAgain: [...new Set(switches)] });
    t.set({ settling: { ...settling, ports: new Map(), hasJobs: false } });
    ended = true;
  }
  if (!settling.isSwept && t.nowMs - t.state.startedAtMs >= SWEEP_MS) {
    t.set({ settling: { ...t.state.settling, isSwept: true } });
    t.effects.push({ kind: 'sweepQueues', keep: queuesWanted() });
  }
  return ended;
}

const kept = new WeakMap<SwitchTables, { whole: SwitchTables; macs: string; merged: SwitchTables }>();

/**
 * What a switch should hold while the network is not known again: what is derived, and of what it holds already the rest,
 * and where both differ what it holds. Migrations are known from the journal: what is left of ended ones goes, and what
 * is known of the way to their guests is newer than what is installed.
 */
export function withoutForgetting(state: ControllerState, whole: SwitchTables, installed: SwitchTables): SwitchTables {
  const active = [...state.jobs.values()].filter(isActive);
  const macs = active.map((j) => j.spec.mac).join();
  const known = kept.get(installed);
  if (known?.whole === whole && known.macs === macs) return known.merged;
  const numbers = new Set([...state.jobs.values()].filter((j) => isActive(j) || pullsNow(j)).map((j) => j.number));
  const moving = new Set(active.map((j) => j.spec.mac));
  const flows = new Map(whole.flows);
  for (const [key, f] of installed.flows) {
    const cookie = parseCookie(f.cookie);
    const isAway = cookie?.feature === FEATURE.away;
    // A port that was quenched in an earlier life is watched anew.
    if (cookie !== undefined && cookie.feature >= FEATURE.quench && !isAway) continue;
    const isOfJob = cookie !== undefined && cookie.feature >= FEATURE.stream && !isAway;
    if (isOfJob && !numbers.has(cookie.objectId)) continue;
    const { eth_dst: mac } = f.match.fields as Record<string, unknown>;
    if (flows.has(key) && (isOfJob || moving.has(String(mac)))) continue;
    flows.set(key, f);
  }
  const meters = new Map(whole.meters);
  const guards = new Set(active.map(meterOf));
  for (const [id, m] of installed.meters) if (guards.has(id) && !meters.has(id)) meters.set(id, m);
  // Ids of groups are made from what they do, so that one that is installed and derived is the same.
  const groups = new Map([...installed.groups, ...whole.groups]);
  const merged = { flows, meters, groups };
  kept.set(installed, { whole, macs, merged });
  return merged;
}
