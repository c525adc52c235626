/**
 * What no plan can beat. A link carries at most so much, so all that must pass it takes at least their volume divided by its
 * rate; a migration takes at least what it takes alone. Volumes are those at the highest rate that the inevitable links of
 * a migration allow (slower copies carry more), and only links count that every path uses: NICs, the link of a host that
 * has one only, and all links of a switch together for what must leave it.
 */
import type { Job, Model } from './model.ts';
import type { Profile } from './profile.ts';
import { durationS, mbPerS, volumeMb } from './transfer.ts';

export interface Bound {
  readonly seconds: number;
  /** The link, or the migration, that makes it so. */
  readonly by: string;
}

interface Passing {
  readonly job: Job;
  readonly mb: number;
  readonly links: readonly number[];
}

function passing(model: Model, jobs: readonly Job[]): Passing[] {
  const list: Passing[] = [];
  for (const job of jobs) {
    if (job.options.length === 0) continue;
    const links = model.graph.inevitable(job.from, job.to);
    const own = model.usableBps[job.rank] as readonly number[];
    const bps = Math.min(...links.map((l) => own[l] as number));
    const mb = bps < Number.POSITIVE_INFINITY ? volumeMb(job.transfer, durationS(job.transfer, bps)) : job.leastMb;
    list.push({ job, mb, links });
  }
  return list;
}

/**
 * The bound on the whole plan. On each link three things hold at once: what is of low priority fits into what low may
 * use, low and medium into what medium may use, all into what high may use.
 */
export function lowerBound(model: Model, jobs: readonly Job[]): Bound {
  let best: Bound = { seconds: 0, by: 'nothing to move' };
  const consider = (seconds: number, by: string) => {
    if (seconds > best.seconds) best = { seconds, by };
  };
  const mbByLink = new Map<number, number[]>();
  const list = passing(model, jobs);
  for (const { job, mb, links } of list) {
    const own = model.usableBps[job.rank] as readonly number[];
    const bps = Math.min(...links.map((l) => own[l] as number));
    if (bps < Number.POSITIVE_INFINITY) consider(durationS(job.transfer, bps), job.vm);
    for (const l of links) {
      const sums = mbByLink.get(l) ?? [0, 0, 0];
      for (let rank = 0; rank <= job.rank; rank++) sums[rank] = (sums[rank] as number) + mb;
      mbByLink.set(l, sums);
    }
  }
  for (const [l, sums] of mbByLink) {
    for (const [rank, mb] of sums.entries()) {
      const bps = (model.usableBps[rank] as readonly number[])[l] as number;
      if (mb > 0) consider(mb / mbPerS(bps), model.graph.links[l]?.name ?? '');
    }
  }
  // All that leaves or enters a switch with hosts.
  const rackOf = new Map<string, number>();
  const racks = [...model.graph.racks()];
  for (const [i, r] of racks.entries()) for (const h of r.hosts) rackOf.set(h, i);
  const crossing = racks.map(() => ({ out: 0, in: 0 }));
  for (const { job, mb } of list) {
    const a = rackOf.get(job.from);
    const b = rackOf.get(job.to);
    if (a === b) continue;
    if (a !== undefined) (crossing[a] as { out: number }).out += mb;
    if (b !== undefined) (crossing[b] as { in: number }).in += mb;
  }
  for (const [i, r] of racks.entries()) {
    for (const way of ['out', 'in'] as const) {
      const bps = r[way].reduce((sum, l) => sum + (model.usableBps[0]?.[l] ?? 0), 0);
      const mb = crossing[i]?.[way] ?? 0;
      if (mb > 0 && bps > 0) consider(mb / mbPerS(bps), `all links of ${r.name}, ${way}`);
    }
  }
  return best;
}

/**
 * The bound where memory makes hosts wait. Until k + 1 guests have left a host, only so many can have begun to arrive as
 * fit into what was free and what k guests free; the rest must still pass its NIC afterwards.
 */
export function memoryBound(model: Model, jobs: readonly Job[]): Bound {
  let best: Bound = { seconds: 0, by: 'nothing to move' };
  const list = passing(model, jobs);
  const group = (key: (j: Job) => number) => {
    const map = new Map<number, Passing[]>();
    for (const p of list) {
      const own = map.get(key(p.job));
      if (own === undefined) map.set(key(p.job), [p]);
      else own.push(p);
    }
    return map;
  };
  const leaving = group((j) => j.fromHost);
  for (const [host, arriving] of group((j) => j.toHost)) {
    const name = model.hosts[host] as string;
    const free = (model.memoryUnits[host] as number) - (model.occupiedUnits[host] as number);
    const total = arriving.reduce((sum, p) => sum + p.mb, 0);
    if (arriving.reduce((sum, p) => sum + p.job.sizeUnits, 0) <= free) continue;
    const rateOf = (nic: number | undefined, own: readonly Passing[]) => {
      const rank = Math.min(...own.map((p) => p.job.rank));
      return mbPerS(model.usableBps[rank]?.[nic ?? -1] ?? Number.POSITIVE_INFINITY);
    };
    const inRate = rateOf(model.graph.nicIn.get(name), arriving);
    const out = leaving.get(host) ?? [];
    const outRate = rateOf(model.graph.nicOut.get(name), out);
    const volumes = out.map((p) => p.mb).sort((a, b) => a - b);
    const times = out.map((p) => p.job.leastMs / 1000).sort((a, b) => a - b);
    const sizes = out.map((p) => p.job.sizeUnits).sort((a, b) => b - a);
    let freed = free;
    let left = 0;
    for (let k = 0; k < out.length; k++) {
      left += volumes[k] as number;
      // When k + 1 guests can have left at the earliest: a millisecond is rounding.
      const at = Math.max(left / outRate, times[k] as number) - 0.001;
      const begun = Math.min(mostWithin(arriving, freed), inRate * at);
      const seconds = at + (total - begun) / inRate;
      if (seconds > best.seconds) best = { seconds, by: `memory of ${name}` };
      freed += sizes[k] as number;
    }
  }
  return best;
}

/** The most volume, MB, of guests that fit into so many units together; of too many or odd sizes an upper estimate. */
function mostWithin(list: readonly Passing[], units: number): number {
  const isWhole = units <= 4096 && list.length <= 256 && list.every((p) => Number.isInteger(p.job.sizeUnits));
  if (isWhole) {
    const room = Math.max(0, Math.floor(units));
    const most = new Array<number>(room + 1).fill(0);
    for (const { job, mb } of list) {
      for (let u = room; u >= job.sizeUnits; u--) {
        most[u] = Math.max(most[u] as number, (most[u - job.sizeUnits] as number) + mb);
      }
    }
    return most[room] as number;
  }
  const densest = [...list].sort((a, b) => b.mb * a.job.sizeUnits - a.mb * b.job.sizeUnits);
  let left = units;
  let sum = 0;
  for (const { job, mb } of densest) {
    if (left <= 0 && job.sizeUnits > 0) break;
    sum += mb;
    left -= job.sizeUnits;
  }
  return sum;
}

/** The bound, ms, on when `jobs` can all have ended beside what is on the board already; tells the search when to stop. */
export function remainingBoundMs(model: Model, jobs: readonly Job[], used: readonly Profile[]): number {
  // Others that leave or arrive may change it, but only where there are other priorities.
  let bound = jobs.length === model.jobs.length ? memoryBound(model, jobs).seconds * 1000 : 0;
  const mbByLink = new Map<number, { mb: number; rank: number }>();
  for (const { job, mb, links } of passing(model, jobs)) {
    bound = Math.max(bound, job.leastMs);
    for (const l of links) {
      const sum = mbByLink.get(l) ?? { mb: 0, rank: job.rank };
      mbByLink.set(l, { mb: sum.mb + mb, rank: Math.min(sum.rank, job.rank) });
    }
  }
  for (const [l, { mb, rank }] of mbByLink) {
    const usable = (model.usableBps[rank] as readonly number[])[l] as number;
    const p = used[l] as Profile;
    let left = mb;
    for (let i = 0; left > 0 && i < p.times.length; i++) {
      const from = p.times[i] as number;
      const rate = mbPerS(Math.max(0, usable - (p.values[i] as number))) / 1000;
      const to = p.times[i + 1] ?? Number.POSITIVE_INFINITY;
      if (rate * (to - from) >= left) {
        bound = Math.max(bound, from + left / rate);
        left = 0;
      } else left -= rate * (to - from);
    }
  }
  return bound;
}
