/**
 * Why each migration of a plan starts when it does and runs as fast as it does, and why others are refused: as data, and as
 * a sentence made from it. A migration starts as soon as those planned before it let it, so what held it is what they used
 * in the last moment before its start.
 */
import type { PlannedMigration } from '../../contracts/plan.ts';
import type { Placement } from './board.ts';
import type { Job, Model } from './model.ts';

type Why = NonNullable<PlannedMigration['why']>;

/** Answers for one finished plan; `placements` in the order in which they were planned. */
export class Explainer {
  private readonly model: Model;
  private readonly placements: readonly Placement[];
  /** By resource, and by source and destination host: positions in `placements`. */
  private readonly byResource = new Map<number, number[]>();
  private readonly bySource = new Map<number, number[]>();
  private readonly byDestination = new Map<number, number[]>();

  constructor(model: Model, placements: readonly Placement[]) {
    this.model = model;
    this.placements = placements;
    const add = (map: Map<number, number[]>, key: number, i: number) => {
      const list = map.get(key);
      if (list === undefined) map.set(key, [i]);
      else list.push(i);
    };
    for (const [i, p] of placements.entries()) {
      for (const r of p.option.resources) add(this.byResource, r, i);
      add(this.bySource, p.job.fromHost, i);
      add(this.byDestination, p.job.toHost, i);
    }
  }

  /** Why the i-th placement is as it is. */
  whyOf(i: number): Why {
    const p = this.placements[i] as Placement;
    const limited_by = this.slowest(p);
    const rate = limited_by === undefined ? {} : { rate_limited_by: limited_by };
    if (p.startMs === 0) return { waits_for: 'nothing', behind: [], ...rate };
    return {
      ...(this.heldByLink(i, p) ??
        this.heldByMemory(i, p) ??
        this.heldByLimit(i, p) ?? { waits_for: 'order', behind: [] }),
      ...rate,
    };
  }

  /** The link that allows least on its path. */
  private slowest(p: Placement): string | undefined {
    const usable = this.model.usableBps[p.job.rank] as readonly number[];
    const link = p.option.route.links.find((l) => usable[l] === p.option.rateBps);
    return link === undefined ? undefined : this.model.graph.links[link]?.name;
  }

  /** Those planned before the i-th that use the resource in the millisecond before `t`. */
  private before(i: number, resource: number, t: number): Placement[] {
    const list: Placement[] = [];
    for (const k of this.byResource.get(resource) ?? []) {
      const other = this.placements[k] as Placement;
      if (k < i && other.startMs < t && other.endMs >= t) list.push(other);
    }
    return list;
  }

  private heldByLink(i: number, p: Placement): Why | undefined {
    const usable = this.model.usableBps[p.job.rank] as readonly number[];
    const first = p.segments[0]?.bps ?? 0;
    for (const l of p.option.route.links) {
      const others = this.before(i, l, p.startMs);
      const used = others.reduce((sum, o) => sum + rateAt(o, p.startMs - 1), 0);
      if (used + first <= (usable[l] as number)) continue;
      return {
        waits_for: 'link',
        binding: this.model.graph.links[l]?.name ?? '',
        behind: endingFirst(others, p.startMs),
      };
    }
    return undefined;
  }

  private heldByMemory(i: number, p: Placement): Why | undefined {
    const { toHost, sizeUnits } = p.job;
    let units = (this.model.occupiedUnits[toHost] as number) + sizeUnits;
    for (const k of this.byDestination.get(toHost) ?? []) {
      // Those that come later count too: they must fit for ever.
      if (k < i) units += (this.placements[k] as Placement).job.sizeUnits;
    }
    const leaving: Placement[] = [];
    for (const k of this.bySource.get(toHost) ?? []) {
      const other = this.placements[k] as Placement;
      if (k >= i) continue;
      if (other.endMs < p.startMs) units -= other.job.sizeUnits;
      else if (other.endMs === p.startMs) leaving.push(other);
    }
    if (leaving.length === 0 || units <= (this.model.memoryUnits[toHost] as number)) return undefined;
    return { waits_for: 'memory', binding: p.job.to, behind: leaving.map((o) => o.job.vm) };
  }

  private heldByLimit(i: number, p: Placement): Why | undefined {
    const { resources, linkCount } = p.option;
    for (let k = linkCount; k < resources.length; k++) {
      const others = this.before(i, resources[k] as number, p.startMs);
      if (others.length < this.model.limitPerHost) continue;
      const binding = k === linkCount ? p.job.from : p.job.to;
      return { waits_for: 'limit', binding, behind: endingFirst(others, p.startMs) };
    }
    return undefined;
  }
}

function rateAt(p: Placement, t: number): number {
  return p.segments.find((s) => s.fromMs <= t && t < s.toMs)?.bps ?? 0;
}

/** Names of those that end at `t`, or of all when none does (it waits for a change of their rates). */
function endingFirst(list: readonly Placement[], t: number): string[] {
  const ending = list.filter((p) => p.endMs === t);
  return (ending.length > 0 ? ending : list).map((p) => p.job.vm);
}

/** The sentence. */
export function sentence(p: Placement, why: Why): string {
  const behind = why.behind.length > 0 ? ` behind ${names(why.behind)}` : '';
  const start = {
    nothing: 'starts at once',
    link: `waits for ${why.binding}${behind}`,
    memory: `waits for memory on ${why.binding}: ${names(why.behind)} must leave first`,
    limit: `waits for the limit of migrations of ${why.binding}${behind}`,
    order: 'an earlier start would not end it earlier',
  }[why.waits_for];
  const rates = p.segments.map((s) => s.bps);
  const most = Math.max(...rates);
  const isSteady = Math.min(...rates) === p.option.rateBps;
  const rate = isSteady
    ? `${mbit(most)}, all that ${why.rate_limited_by ?? 'its path'} allows`
    : `${rates.every((r) => r === most) ? '' : `${mbit(Math.min(...rates))} to `}${mbit(most)}, what others leave of its path`;
  const technique =
    p.job.technique === 'pre-copy' ? '' : `; ${p.job.technique}: it dirties memory faster than pre-copy could carry it`;
  const late =
    p.endMs > p.job.deadlineMs ? `; misses its deadline by ${((p.endMs - p.job.deadlineMs) / 1000).toFixed(1)} s` : '';
  return `${start}; ${rate}${technique}${late}`;
}

/** Without what is rounding. */
const figure = (units: number) => Number(units.toFixed(6));
const mbit = (bps: number) => `${Number((bps / 1e6).toFixed(1))} Mbit/s`;

function names(list: readonly string[]): string {
  return list.length > 3 ? `${list.slice(0, 3).join(', ')} and ${list.length - 3} more` : list.join(', ');
}

/** Why a migration has no path that it could use. */
export function noWay(model: Model, job: Job): string {
  const routes = model.graph.routes(job.from, job.to, 1);
  if (routes.length === 0) return `no path leads from ${job.from} to ${job.to}; join them in links`;
  const usable = model.usableBps[job.rank] as readonly number[];
  const full = routes[0]?.links.find((l) => usable[l] === 0);
  if (full === undefined)
    return `the copy would take more than three thousand years; check its size and the rates of its path`;
  const link = model.graph.links[full];
  const where = link?.name;
  if (link?.capacityBps === 0) return `${where} carries less than a bit/s; check its rate`;
  return `the workload leaves nothing of ${where} to a migration of ${job.priority} priority; lower its floor or raise the priority`;
}

/** Why the memory of its destination never has room for it. */
export function noRoom(model: Model, job: Job, placements: readonly Placement[], stuck: readonly Job[]): string {
  const capacity = model.memoryUnits[job.toHost] as number;
  let units = model.occupiedUnits[job.toHost] as number;
  for (const p of placements) {
    if (p.job.toHost === job.toHost) units += p.job.sizeUnits;
    if (p.job.fromHost === job.toHost) units -= p.job.sizeUnits;
  }
  const has = `${job.to} holds ${figure(units)} of ${figure(capacity)} ${model.memoryUnit} in the end, and ${job.vm} needs ${figure(job.sizeUnits)}`;
  const others = stuck.filter((j) => j.fromHost === job.toHost);
  const leaving = others.reduce((sum, j) => sum + j.sizeUnits, 0);
  if (others.length > 0 && units - leaving + job.sizeUnits <= capacity) {
    const free = units + job.sizeUnits - capacity;
    return `waits in a circle: ${has}, but ${names(others.map((j) => j.vm))}, which would make room, waits too; free ${figure(free)} ${model.memoryUnit} on ${job.to} for the time, or move one of them elsewhere first`;
  }
  return `no room: ${has}; move something else away from ${job.to}, or choose another destination`;
}
