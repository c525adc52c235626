/**
 * An instance made ready for search: guests, hosts and links as numbers, what each priority may use of each link, the
 * candidate paths of each migration, and the least time it can take on each. Everything the search does not change.
 *
 * What may be reserved follows step 4 of the algorithm (paper 002; `policies/reservation.ts` does the same for running
 * migrations): beside a migration of high priority the workload keeps its floor, beside a medium one clamp(rate, floor,
 * ceiling), beside a low one all it sends.
 */
import type { Priority } from '../../contracts/common.ts';
import { PRIORITIES } from '../../contracts/common.ts';
import type { PlanningInstance, PlanningVm } from '../../contracts/plan.ts';
import { Graph, type Route } from './graph.ts';
import { durationS, leastFinalBps, type Transfer, volumeMb } from './transfer.ts';

/** A path of a migration, and what it could do alone on it. */
export interface Option {
  readonly route: Route;
  /** Resources it occupies: directed links first, then the slots of its hosts where these are limited. */
  readonly resources: readonly number[];
  /** How many of `resources` are links. */
  readonly linkCount: number;
  /** What its priority may use at most: the least of the links, whole bit/s. */
  readonly rateBps: number;
  /** At that rate, ms. */
  readonly durationMs: number;
}

export interface Job {
  /** Position in the instance's `migrations`. */
  readonly index: number;
  readonly vm: string;
  readonly from: string;
  readonly to: string;
  readonly priority: Priority;
  /** 0 high, 1 medium, 2 low. */
  readonly rank: number;
  readonly deadlineMs: number;
  readonly sizeUnits: number;
  readonly fromHost: number;
  readonly toHost: number;
  readonly transfer: Transfer;
  /** Below this rate its last pages do not come to an end by pre-copy; 0 when it does not use pre-copy. */
  readonly leastFinalBps: number;
  readonly technique: 'pre-copy' | 'hybrid';
  /** Fastest first; empty when there is no path with a rate above 0. */
  readonly options: readonly Option[];
  /** The least time it can take, ms. */
  readonly leastMs: number;
  /** The least it can carry, MB. */
  readonly leastMb: number;
  /** It runs already, at this rate; 0 when it has not started. */
  readonly runningBps: number;
}

export interface Model {
  readonly graph: Graph;
  readonly hosts: readonly string[];
  /** By host: room for guests, and what is there at the start. */
  readonly memoryUnits: readonly number[];
  readonly occupiedUnits: readonly number[];
  /** What they are called in texts. */
  readonly memoryUnit: string;
  readonly jobs: readonly Job[];
  /** What a migration of each rank may use of each link, whole bit/s. */
  readonly usableBps: readonly (readonly number[])[];
  /** By link, ms for which it would be busy if every migration spread evenly over its paths; whole, so that sums are exact. */
  readonly loadMs: readonly number[];
  /** Links, then per host two slots (out, in) where migrations per host are limited. */
  readonly resourceCount: number;
  /** Migrations at a time out of, and into, a host; Infinity when not limited. */
  readonly limitPerHost: number;
}

/** A trace more room than there is: sums of sizes like 0.1 and 0.2 are not exact. */
const ROUNDING = 1 + 1e-12;
/** What takes longer (three thousand years) is not planned: times are not exact then any more. */
const MAX_DURATION_MS = 1e14;

/** Paths tried for each migration. */
const PATHS = 8;

export function buildModel(p: PlanningInstance, limitPerHost: number): Model {
  const graph = new Graph(p);
  const hostIndex = new Map(p.hosts.map((h, i) => [h.id, i]));
  const vms = new Map(p.vms.map((v) => [v.id, v]));
  const occupied = p.hosts.map(() => 0);
  for (const v of p.vms) {
    const i = hostIndex.get(v.host) as number;
    occupied[i] = (occupied[i] as number) + (v.size_units ?? 0);
  }
  const usableBps = usable(p, graph);
  const linkCount = graph.links.length;
  const isLimited = Number.isFinite(limitPerHost);
  const jobs = p.migrations.map((m, index): Job => {
    const v = vms.get(m.vm) as PlanningVm;
    const priority = v.priority ?? 'medium';
    const rank = PRIORITIES.indexOf(priority);
    const transfer: Transfer = {
      memoryMb: v.memory_mb,
      hotMb: v.hot_dirty_mb ?? 0,
      hotS: v.hot_dirty_s ?? 0,
      coldMbPerS: v.cold_dirty_mb_per_s ?? 0,
    };
    const fromHost = hostIndex.get(m.from) as number;
    const toHost = hostIndex.get(m.to) as number;
    const slots = isLimited ? [linkCount + 2 * fromHost, linkCount + 2 * toHost + 1] : [];
    const own = usableBps[rank] as readonly number[];
    const routes = m.path === undefined ? graph.routes(m.from, m.to, PATHS) : [graph.routeAlong(m.path)];
    const all = routes.map((route): Option => {
      // A host without a NIC rate of its own is limited by the links of the path only.
      const rateBps = Math.min(...route.links.map((l) => own[l] as number));
      return {
        route,
        resources: [...route.links, ...slots],
        linkCount: route.links.length,
        rateBps,
        durationMs: toMs(durationS(transfer, rateBps)),
      };
    });
    const options = all.filter((o) => o.rateBps > 0 && o.durationMs <= MAX_DURATION_MS);
    options.sort((a, b) => a.durationMs - b.durationMs);
    const best = options[0];
    const leastMs = best?.durationMs ?? Number.POSITIVE_INFINITY;
    const final = leastFinalBps(transfer);
    // The copy would never end by pre-copy on any path: it goes on as post-copy after its passes. The same volume is
    // reserved for it, which is more than it needs: the working set is then sent once, after the switch-over.
    const converges = (best?.rateBps ?? 0) >= final;
    return {
      index,
      vm: m.vm,
      from: m.from,
      to: m.to,
      priority,
      rank,
      deadlineMs: m.deadline_s === undefined ? Number.POSITIVE_INFINITY : Math.floor(m.deadline_s * 1000),
      sizeUnits: v.size_units ?? 0,
      fromHost,
      toHost,
      transfer,
      leastFinalBps: converges ? final : 0,
      technique: converges ? 'pre-copy' : 'hybrid',
      options: converges ? options.filter((o) => o.rateBps >= final) : options,
      leastMs,
      leastMb: best === undefined ? 0 : volumeMb(transfer, durationS(transfer, best.rateBps)),
      runningBps: m.running_mbps === undefined ? 0 : Math.max(1, Math.floor(m.running_mbps * 1e6)),
    };
  });
  const loadMs = new Array<number>(linkCount).fill(0);
  for (const { options } of jobs) {
    for (const o of options) {
      for (const l of o.route.links) loadMs[l] = (loadMs[l] as number) + Math.round(o.durationMs / options.length);
    }
  }
  return {
    graph,
    hosts: p.hosts.map((h) => h.id),
    memoryUnits: p.hosts.map((h) => (h.memory_units ?? Number.POSITIVE_INFINITY) * ROUNDING),
    occupiedUnits: occupied,
    memoryUnit: memoryUnitOf(p),
    jobs,
    usableBps,
    loadMs,
    resourceCount: linkCount + (isLimited ? 2 * p.hosts.length : 0),
    limitPerHost,
  };
}

/** What the sizes of hosts and guests are counted in, for texts. */
export const memoryUnitOf = (p: PlanningInstance): string => p.memory_unit ?? 'memory units';

/** Seconds as whole milliseconds, rounded up: a migration may have more time than it needs, never less. */
export const toMs = (seconds: number): number => Math.ceil(seconds * 1000 + 1e-6);

function usable(p: PlanningInstance, graph: Graph): number[][] {
  const n = graph.links.length;
  const rate = new Array<number>(n).fill(0);
  const floor = new Array<number>(n).fill(0);
  const ceiling = new Array<number>(n).fill(0);
  for (const w of p.workload ?? []) {
    for (const l of graph.between(w.a, w.b)) {
      rate[l] = (rate[l] as number) + w.mbps * 1e6;
      floor[l] = (floor[l] as number) + (w.floor_mbps ?? w.mbps) * 1e6;
      ceiling[l] = (ceiling[l] as number) + (w.ceiling_mbps ?? Number.POSITIVE_INFINITY) * 1e6;
    }
  }
  const left = (keep: (l: number) => number) =>
    graph.links.map((link, l) => Math.max(0, Math.floor(link.capacityBps - keep(l))));
  const at = (list: readonly number[], l: number) => list[l] as number;
  return [
    left((l) => at(floor, l)),
    left((l) => Math.max(at(floor, l), Math.min(at(rate, l), at(ceiling, l)))),
    left((l) => Math.max(at(floor, l), at(rate, l))),
  ];
}
