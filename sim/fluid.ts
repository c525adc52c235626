/**
 * Traffic as a fluid: the rates that elastic flows settle at on directed links, found at once instead of packet by packet.
 * A link is either one first-come queue that TCP shares fairly, or a set of queues with guaranteed and greatest rates that
 * share what is left over (the linux-htb QoS of Open vSwitch). Meters are links without queues. Pure.
 * datacentre.ts builds the links and flows from the emulated switches' tables and asks this file at every step.
 *
 * Rates are weighted max-min fair above the guarantees: no flow can gain without taking from a flow that has no more (per
 * weight), or from what another queue is guaranteed (Bertsekas and Gallager, Data Networks, 6.5.2, with lower bounds).
 * A flow borrows with the worst priority it has on its path, everywhere: exact where one link of a path has queues, or all.
 */

/**
 * A queue of a link: `minBps` is its own whenever it wants it, `maxBps` is never exceeded. What is left over is offered to
 * queues of a lower `priority` number first (0 when absent), as linux-htb does.
 */
export interface FluidQueue {
  minBps: number;
  maxBps: number;
  priority?: number;
}

/** A directed link, or anything else that flows share (a meter). */
export interface FluidLink {
  capacityBps: number;
  /** By queue id. Absent or empty: one queue for all. Traffic of a queue that is not listed goes to queue 0. */
  queues?: ReadonlyMap<number, FluidQueue>;
}

export interface FluidHop {
  link: string;
  queue: number;
}

export interface FluidFlow {
  id: string;
  /** What its sender would send if nothing were in the way, bit/s. */
  offeredBps: number;
  /** Share beside others, e.g. the number of connections. */
  weight: number;
  hops: readonly FluidHop[];
}

/** Relative slack in comparisons of rates. */
const EPSILON = 1e-9;
/** Rounds in which guarantees and upper bounds are drawn together; real networks settle in two or three. */
const BOUND_ROUNDS = 6;

interface Resource {
  capacity: number;
  members: number[];
}

/**
 * Rate of each flow, bit/s, by flow id. A flow over an unknown link gets nothing; guarantees that together exceed a
 * link's capacity are scaled down to it.
 */
export function fluidRates(
  links: ReadonlyMap<string, FluidLink>,
  flows: readonly FluidFlow[],
): ReadonlyMap<string, number> {
  const count = flows.length;
  const upper = new Float64Array(count);
  const alive: boolean[] = [];
  // Ceilings: each link, and each queue with a greatest rate of its own.
  const ceilings = new Map<string, Resource>();
  // Where a share is guaranteed: each queue with its minimum, each plain link with its fair share.
  const guarantees = new Map<string, Resource>();
  const flowCeilings: Resource[][] = [];
  const flowGuarantees: Resource[][] = [];
  const priority = new Float64Array(count);

  for (let i = 0; i < count; i++) {
    const flow = flows[i] as FluidFlow;
    const mine: Resource[] = [];
    const promised: Resource[] = [];
    let ok = flow.offeredBps > 0 && flow.weight > 0;
    for (const hop of flow.hops) {
      const link = links.get(hop.link);
      if (link === undefined || !(link.capacityBps > 0)) {
        ok = false;
        break;
      }
      mine.push(resource(ceilings, hop.link, link.capacityBps));
      if (link.queues === undefined || link.queues.size === 0) {
        promised.push(resource(guarantees, hop.link, link.capacityBps));
        continue;
      }
      const id = link.queues.has(hop.queue) ? hop.queue : 0;
      const queue = link.queues.get(id);
      const key = `${hop.link}\u0000${id}`;
      priority[i] = Math.max(priority[i] as number, queue?.priority ?? 0);
      let total = 0;
      for (const q of link.queues.values()) total += q.minBps;
      const scale = total > link.capacityBps ? link.capacityBps / total : 1;
      promised.push(resource(guarantees, key, Math.min(queue?.minBps ?? 0, queue?.maxBps ?? Infinity) * scale));
      if (queue !== undefined && queue.maxBps < link.capacityBps) mine.push(resource(ceilings, key, queue.maxBps));
    }
    alive.push(ok);
    // A path may cross a link twice (a hairpin): then the flow counts twice on it.
    flowCeilings.push(ok ? mine : []);
    flowGuarantees.push(ok ? promised : []);
    upper[i] = ok ? flow.offeredBps : 0;
    if (!ok) continue;
    for (const r of mine) r.members.push(i);
    for (const r of promised) r.members.push(i);
  }

  const base = guaranteed(flows, ceilings, guarantees, flowCeilings, flowGuarantees, upper, alive);
  const rates = fill(flows, ceilings, flowCeilings, base, alive, priority);
  const result = new Map<string, number>();
  for (let i = 0; i < count; i++) result.set((flows[i] as FluidFlow).id, rates[i] as number);
  return result;
}

function resource(map: Map<string, Resource>, key: string, capacity: number): Resource {
  let r = map.get(key);
  if (r === undefined) {
    r = { capacity, members: [] };
    map.set(key, r);
  }
  return r;
}

/**
 * What each flow has for certain: the least, over its path, of its share of its queue's guarantee. The share is worked out
 * against what the others can possibly use; knowing what is certain bounds what is possible, and so on.
 */
function guaranteed(
  flows: readonly FluidFlow[],
  ceilings: ReadonlyMap<string, Resource>,
  guarantees: ReadonlyMap<string, Resource>,
  flowCeilings: readonly Resource[][],
  flowGuarantees: readonly Resource[][],
  upper: Float64Array,
  alive: readonly boolean[],
): Float64Array {
  const count = flows.length;
  let base = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    for (const r of flowCeilings[i] as Resource[]) upper[i] = Math.min(upper[i] as number, r.capacity);
  }
  // A flow that has no guarantee anywhere keeps base 0; when that is all of them, the plain filling is exact already.
  for (let round = 0; round < BOUND_ROUNDS; round++) {
    const level = new Map<Resource, number>();
    for (const r of guarantees.values()) level.set(r, waterLevel(r, flows, upper));
    const next = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      if (!alive[i]) continue;
      let least = upper[i] as number;
      for (const r of flowGuarantees[i] as Resource[]) {
        least = Math.min(least, (level.get(r) as number) * (flows[i] as FluidFlow).weight);
      }
      next[i] = least;
    }
    let moved = false;
    for (let i = 0; i < count; i++) {
      if (Math.abs((next[i] as number) - (base[i] as number)) > EPSILON * ((next[i] as number) + 1)) moved = true;
    }
    base = next;
    if (!moved) break;
    for (const r of ceilings.values()) {
      let taken = 0;
      for (const i of r.members) taken += base[i] as number;
      const spare = Math.max(0, r.capacity - taken);
      for (const i of r.members) upper[i] = Math.min(upper[i] as number, (base[i] as number) + spare);
    }
  }
  return base;
}

/** The level (bit/s per weight) at which members that want at most `wanted` together use the capacity. */
function waterLevel(r: Resource, flows: readonly FluidFlow[], wanted: Float64Array): number {
  const order = [...r.members].sort(
    (a, b) =>
      (wanted[a] as number) / (flows[a] as FluidFlow).weight - (wanted[b] as number) / (flows[b] as FluidFlow).weight,
  );
  let left = r.capacity;
  let weight = 0;
  for (const i of order) weight += (flows[i] as FluidFlow).weight;
  for (const i of order) {
    const w = (flows[i] as FluidFlow).weight;
    const level = left / weight;
    if ((wanted[i] as number) > level * w) return level;
    left -= wanted[i] as number;
    weight -= w;
  }
  return Infinity;
}

/**
 * Progressive filling from the guarantees, first for those who may borrow first: the level rises, each flow has max(its
 * guarantee, level × weight) until it has what it offered or something on its path is full.
 */
function fill(
  flows: readonly FluidFlow[],
  ceilings: ReadonlyMap<string, Resource>,
  flowCeilings: readonly Resource[][],
  base: Float64Array,
  alive: readonly boolean[],
  priority: Float64Array,
): Float64Array {
  const count = flows.length;
  const rates = Float64Array.from(base);
  for (const turn of [...new Set(priority)].sort((a, b) => a - b)) {
    const open = new Set<number>();
    for (let i = 0; i < count; i++) if (alive[i] && priority[i] === turn) open.add(i);
    raise(flows, ceilings, base, rates, open);
  }
  // A last guard against rounding: nothing exceeds its capacity.
  for (let i = 0; i < count; i++) {
    for (const r of flowCeilings[i] as Resource[]) {
      let used = 0;
      for (const m of r.members) used += rates[m] as number;
      if (used > r.capacity) rates[i] = (rates[i] as number) * (r.capacity / used);
    }
  }
  return rates;
}

/** Raises the open flows together, each until something stops it; the others stay. Empties `open`. */
function raise(
  flows: readonly FluidFlow[],
  ceilings: ReadonlyMap<string, Resource>,
  base: Float64Array,
  rates: Float64Array,
  open: Set<number>,
): void {
  let level = 0;
  while (open.size > 0) {
    // The next level at which something happens: a flow is satisfied, or a resource is full.
    let next = Infinity;
    for (const i of open) next = Math.min(next, (flows[i] as FluidFlow).offeredBps / (flows[i] as FluidFlow).weight);
    const full: { r: Resource; at: number }[] = [];
    for (const r of ceilings.values()) {
      const at = fullAt(r, flows, rates, base, open, level);
      if (at === Infinity) continue;
      full.push({ r, at });
      next = Math.min(next, at);
    }
    level = Math.max(level, next);
    for (const i of open) {
      const flow = flows[i] as FluidFlow;
      rates[i] = Math.min(flow.offeredBps, Math.max(base[i] as number, level * flow.weight));
    }
    const closed: number[] = [];
    for (const i of open) {
      const flow = flows[i] as FluidFlow;
      if (level >= (flow.offeredBps / flow.weight) * (1 - EPSILON)) closed.push(i);
    }
    for (const { r, at } of full) {
      if (at <= level * (1 + EPSILON)) for (const i of r.members) closed.push(i);
    }
    for (const i of closed) open.delete(i);
    if (closed.length === 0) open.clear();
  }
}

/** The level at which the resource is full when its closed members keep their rates; Infinity when it never is. */
function fullAt(
  r: Resource,
  flows: readonly FluidFlow[],
  rates: Float64Array,
  base: Float64Array,
  open: ReadonlySet<number>,
  level: number,
): number {
  let left = r.capacity;
  const rising: { from: number; base: number; weight: number }[] = [];
  for (const i of r.members) {
    if (!open.has(i)) {
      left -= rates[i] as number;
      continue;
    }
    const { weight } = flows[i] as FluidFlow;
    const b = base[i] as number;
    rising.push({ from: b / weight, base: b, weight });
    left -= b;
  }
  if (rising.length === 0) return Infinity;
  if (left <= r.capacity * EPSILON) {
    // Full with the guarantees alone: members above the level stay, members that the level has reached cannot rise.
    return level;
  }
  rising.sort((a, b) => a.from - b.from);
  // Between two guarantees the use grows linearly with the level.
  let weight = 0;
  let at = 0;
  for (let k = 0; k < rising.length; k++) {
    const step = rising[k] as (typeof rising)[number];
    if (weight > 0 && (step.from - at) * weight >= left) return at + left / weight;
    left -= (step.from - at) * weight;
    at = step.from;
    weight += step.weight;
  }
  return at + left / weight;
}
