/**
 * Where the guests of a host go when it is to be emptied: the question before `planMigrations`, which then says when. No
 * guest moves that need not: only those of the host, and a guest elsewhere only where nothing else makes room. Among the
 * allowed destinations it takes those by which the busiest link is done first, then those whose NICs the guest's own traffic
 * leaves the most room.
 */
import type { PlanningHost, PlanningInstance, PlanningMigration, PlanningVm } from '../../contracts/plan.ts';
import { Graph } from './graph.ts';
import { memoryUnitOf } from './model.ts';
import { durationS, mbPerS, type Transfer, volumeMb } from './transfer.ts';

/** What must hold for guests with a label, wherever they are. A label is a key, or `key=value`. */
export type PlacementRule =
  /** No host has two of them. */
  | { readonly kind: 'apart'; readonly label: string }
  /** All of them are on one host. */
  | { readonly kind: 'together'; readonly label: string }
  /** They are on hosts with this label only. */
  | { readonly kind: 'only-on'; readonly label: string; readonly hostLabel: string }
  /** They are on no host with this label. */
  | { readonly kind: 'never-on'; readonly label: string; readonly hostLabel: string };

export interface EvacuationQuestion {
  /** Hosts, guests, fabric and workload as they are; `migrations` is not looked at. */
  readonly instance: PlanningInstance;
  /** The host to empty. */
  readonly host: string;
  readonly rules?: readonly PlacementRule[];
  /** Hosts that take no guests besides: being emptied too, or failing. */
  readonly excluded?: readonly string[];
}

export interface Evacuation {
  /** What to plan: the guests of the host, and those that make room, if any. */
  readonly migrations: readonly (PlanningMigration & { readonly reason: string })[];
  /** Guests of the host for which there is no destination, with what stands against each host. */
  readonly refused: readonly { readonly vm: string; readonly reason: string }[];
}

/** Assignments tried before the search for one that takes all guests gives up. */
const MAX_TRIED = 2_000;
/** Rounds of exchanging destinations for better ones. */
const MAX_ROUNDS = 20;

/**
 * Destinations for all guests of a host. Deterministic. Rules that are broken at the start bind only the guests that move.
 */
export function chooseDestinations(q: EvacuationQuestion): Evacuation {
  const closed = new Set([q.host, ...(q.excluded ?? [])]);
  const state = new State(q.instance, q.rules ?? [], closed);
  const guests = q.instance.vms.filter((v) => v.host === q.host).sort(byNeed);
  const unplaced = assign(state, guests);
  const refused: { vm: string; reason: string }[] = [];
  for (const v of unplaced) {
    if (!makeRoom(state, v)) refused.push({ vm: v.id, reason: state.whyNot(v) });
  }
  improve(state);
  const migrations = [...state.moves.entries()].map(([vm, to]) => {
    const v = state.guest(vm);
    return { vm, from: v.host, to, reason: state.reasonOf(v, to, v.host !== q.host) };
  });
  migrations.sort((a, b) => (a.vm < b.vm ? -1 : 1));
  return { migrations, refused };
}

/** Large ones first: what is left over is then small. */
function byNeed(a: PlanningVm, b: PlanningVm): number {
  return (b.size_units ?? 0) - (a.size_units ?? 0) || b.memory_mb - a.memory_mb || (a.id < b.id ? -1 : 1);
}

/** Gives every guest its best destination; backtracks where one is left without. Returns those it cannot place. */
function assign(state: State, guests: readonly PlanningVm[]): PlanningVm[] {
  let tried = 0;
  const place = (i: number): boolean => {
    const v = guests[i];
    if (v === undefined) return true;
    for (const to of state.ranked(v)) {
      if (tried++ >= MAX_TRIED) return false;
      state.move(v, to);
      if (place(i + 1)) return true;
      state.undo(v);
    }
    return false;
  };
  if (place(0)) return [];
  const left: PlanningVm[] = [];
  for (const v of guests) {
    const best = state.ranked(v)[0];
    if (best === undefined) left.push(v);
    else state.move(v, best);
  }
  return left;
}

/** Moves one guest that need not move out of the way, if that is enough; says whether it was. */
function makeRoom(state: State, v: PlanningVm): boolean {
  for (const to of state.hostIds()) {
    for (const other of state.staying(to).sort((a, b) => byNeed(b, a))) {
      for (const elsewhere of state.ranked(other)) {
        if (elsewhere === to) continue;
        state.move(other, elsewhere);
        if (state.objection(v, to) === undefined) {
          state.move(v, to);
          return true;
        }
        state.undo(other);
      }
    }
  }
  return false;
}

/** Exchanges single destinations as long as that lets the busiest link be done earlier. */
function improve(state: State): void {
  for (let round = 0; round < MAX_ROUNDS; round++) {
    let isBetter = false;
    for (const [vm, now] of [...state.moves]) {
      const v = state.guest(vm);
      const before = state.cost();
      state.undo(v);
      const better = state.ranked(v).find((to) => {
        if (to === now) return false;
        state.move(v, to);
        if (compare(state.cost(), before) < 0) return true;
        state.undo(v);
        return false;
      });
      if (better !== undefined) isBetter = true;
      else state.move(v, now);
    }
    if (!isBetter) return;
  }
}

/** Seconds of the busiest link, then seconds of all links together (so that the spread counts), then Mbit/s in the way. */
type Cost = readonly [number, number, number];
const EPS = 1e-9;
function compare(a: Cost, b: Cost): number {
  for (const i of [0, 1, 2] as const) if (Math.abs(a[i] - b[i]) > EPS * Math.max(1, Math.abs(a[i]))) return a[i] - b[i];
  return 0;
}

/** Who is where and what that costs, while destinations are being chosen. */
class State {
  /** Guest → destination. */
  readonly moves = new Map<string, string>();
  private readonly rules: readonly PlacementRule[];
  private readonly closed: ReadonlySet<string>;
  private readonly hosts: ReadonlyMap<string, PlanningHost>;
  private readonly guests: ReadonlyMap<string, PlanningVm>;
  private readonly graph: Graph;
  private readonly memoryUnit: string;
  /** By host: guests that are there, or on the way there; those that leave count at both ends until they have left. */
  private readonly at = new Map<string, Set<string>>();
  private readonly usableBps: number[];
  /** Seconds that migrations chosen so far keep each link busy, and the links and seconds of each of them. */
  private readonly busyS: number[];
  private readonly everUsed = new Set<number>();
  private readonly used = new Map<string, { links: readonly number[]; mb: number }>();

  constructor(p: PlanningInstance, rules: readonly PlacementRule[], closed: ReadonlySet<string>) {
    this.rules = rules;
    this.closed = closed;
    this.hosts = new Map(p.hosts.map((h) => [h.id, h]));
    this.guests = new Map(p.vms.map((v) => [v.id, v]));
    this.graph = new Graph(p);
    this.memoryUnit = memoryUnitOf(p);
    for (const h of p.hosts) this.at.set(h.id, new Set());
    for (const v of p.vms) this.at.get(v.host)?.add(v.id);
    const load = this.graph.links.map(() => 0);
    for (const w of p.workload ?? []) {
      for (const l of this.graph.between(w.a, w.b)) load[l] = (load[l] as number) + w.mbps * 1e6;
    }
    // What the workload leaves; where it leaves nothing, a thousandth, so that such a way is the last but comparable.
    this.usableBps = this.graph.links.map((l, i) =>
      Math.max(l.capacityBps / 1000, l.capacityBps - (load[i] as number)),
    );
    this.busyS = this.graph.links.map(() => 0);
  }

  guest(vm: string): PlanningVm {
    return this.guests.get(vm) as PlanningVm;
  }

  hostIds(): string[] {
    return [...this.hosts.keys()].filter((h) => !this.closed.has(h));
  }

  /** Guests of a host that do not move. */
  staying(host: string): PlanningVm[] {
    return [...(this.at.get(host) ?? [])]
      .map((vm) => this.guest(vm))
      .filter((v) => v.host === host && v.pinned !== true && !this.moves.has(v.id));
  }

  move(v: PlanningVm, to: string): void {
    this.moves.set(v.id, to);
    this.at.get(v.host)?.delete(v.id);
    this.at.get(to)?.add(v.id);
    const way = this.wayOf(v, to);
    if (way === undefined) return;
    this.used.set(v.id, way);
    for (const l of way.links) this.addBusy(l, way.mb);
  }

  undo(v: PlanningVm): void {
    const to = this.moves.get(v.id);
    if (to === undefined) return;
    this.moves.delete(v.id);
    this.at.get(to)?.delete(v.id);
    this.at.get(v.host)?.add(v.id);
    const way = this.used.get(v.id);
    this.used.delete(v.id);
    for (const l of way?.links ?? []) this.addBusy(l, -(way?.mb ?? 0));
  }

  private addBusy(link: number, mb: number): void {
    this.everUsed.add(link);
    this.busyS[link] = (this.busyS[link] as number) + mb / mbPerS(this.usableBps[link] as number);
  }

  /** Among the paths the one whose busiest link is done first, with what has to be carried over it. */
  private wayOf(v: PlanningVm, to: string): { links: readonly number[]; mb: number } | undefined {
    const transfer: Transfer = {
      memoryMb: v.memory_mb,
      hotMb: v.hot_dirty_mb ?? 0,
      hotS: v.hot_dirty_s ?? 0,
      coldMbPerS: v.cold_dirty_mb_per_s ?? 0,
    };
    let best: { links: readonly number[]; mb: number } | undefined;
    let bestS = Number.POSITIVE_INFINITY;
    for (const { links } of this.graph.routes(v.host, to, 4)) {
      const bps = Math.min(...links.map((l) => this.usableBps[l] as number));
      const mb = bps < Number.POSITIVE_INFINITY ? volumeMb(transfer, durationS(transfer, bps)) : v.memory_mb;
      const doneS = Math.max(...links.map((l) => (this.busyS[l] as number) + mb / mbPerS(this.usableBps[l] as number)));
      if (doneS < bestS) {
        best = { links, mb };
        bestS = doneS;
      }
    }
    return best;
  }

  cost(): Cost {
    let most = 0;
    let squares = 0;
    for (const l of this.everUsed) {
      const s = this.busyS[l] as number;
      most = Math.max(most, s);
      squares += s * s;
    }
    let inTheWay = 0;
    for (const [vm, to] of this.moves) inTheWay += this.trafficAgainst(this.guest(vm), to);
    return [most, squares, inTheWay];
  }

  /** How much of the guest's own traffic does not fit beside what the destination's NIC already carries in that direction. */
  private trafficAgainst(v: PlanningVm, to: string): number {
    const out = (this.usableBps[this.graph.nicOut.get(to) as number] as number) / 1e6;
    const into = (this.usableBps[this.graph.nicIn.get(to) as number] as number) / 1e6;
    return Math.max(0, (v.out_mbps ?? 0) - out) + Math.max(0, (v.in_mbps ?? 0) - into);
  }

  /** Destinations nothing speaks against, best first. */
  ranked(v: PlanningVm): string[] {
    const list: { to: string; cost: Cost }[] = [];
    for (const to of this.hostIds()) {
      if (to === v.host || this.objection(v, to) !== undefined) continue;
      this.move(v, to);
      list.push({ to, cost: this.cost() });
      this.undo(v);
    }
    list.sort((a, b) => compare(a.cost, b.cost) || (a.to < b.to ? -1 : 1));
    return list.map((c) => c.to);
  }

  /** What speaks against a guest at a host; undefined when nothing does. */
  objection(v: PlanningVm, to: string): string | undefined {
    const host = this.hosts.get(to) as PlanningHost;
    const there = [...(this.at.get(to) as Set<string>)].filter((vm) => vm !== v.id).map((vm) => this.guest(vm));
    const units = there.reduce((sum, g) => sum + (g.size_units ?? 0), 0);
    const room = (host.memory_units ?? Number.POSITIVE_INFINITY) - units;
    if (room < (v.size_units ?? 0)) return `has room for ${room} of ${v.size_units} ${this.memoryUnit}`;
    if (this.graph.routes(v.host, to, 1).length === 0) return `no path leads there from ${v.host}`;
    for (const r of this.rules) {
      if (!hasLabel(v.labels, r.label)) continue;
      if (r.kind === 'apart') {
        const other = there.find((g) => hasLabel(g.labels, r.label));
        if (other !== undefined) return `${other.id} is there, and ${r.label} are to be apart`;
      } else if (r.kind === 'together') {
        // Those still on a host that is being emptied will follow; all others decide where.
        const settled = [...this.guests.values()].filter((g) => {
          return g.id !== v.id && hasLabel(g.labels, r.label) && (this.moves.has(g.id) || !this.closed.has(g.host));
        });
        const elsewhere = settled.find((g) => (this.moves.get(g.id) ?? g.host) !== to);
        if (elsewhere !== undefined) {
          const where = this.moves.get(elsewhere.id) ?? elsewhere.host;
          return `${elsewhere.id} is on ${where}, and ${r.label} are to be together`;
        }
      } else if (hasLabel(host.labels, r.hostLabel) !== (r.kind === 'only-on')) {
        return r.kind === 'only-on'
          ? `${r.label} are only for hosts with ${r.hostLabel}`
          : `${r.label} are not for hosts with ${r.hostLabel}`;
      }
    }
    return undefined;
  }

  /** What stands against every host, for a guest that cannot be placed. */
  whyNot(v: PlanningVm): string {
    const list = this.hostIds()
      .slice(0, 8)
      .map((h) => `${h}: ${this.objection(v, h) ?? 'taken while room was made'}`);
    return list.length === 0 ? 'there is no other host' : `no host can take it (${list.join('; ')})`;
  }

  reasonOf(v: PlanningVm, to: string, makesRoom: boolean): string {
    const way = this.used.get(v.id);
    const busiest = way?.links.reduce((a, b) => ((this.busyS[b] as number) > (this.busyS[a] as number) ? b : a));
    const seconds = busiest === undefined ? 0 : (this.busyS[busiest] as number);
    const { name = '', capacityBps = 0 } = (busiest === undefined ? undefined : this.graph.links[busiest]) ?? {};
    // Destinations are chosen as if the workload were left all that it sends; the plan that follows goes by priorities and floors.
    const isShared = busiest !== undefined && (this.usableBps[busiest] as number) < capacityBps;
    const beside = isShared ? ' if the workload is left all it sends' : '';
    const purpose = makesRoom ? 'makes room; ' : '';
    return `${purpose}${to}: of the allowed hosts the one by which the links are done first (${name} is busy for ${seconds.toFixed(1)} s${beside})`;
  }
}

function hasLabel(labels: Readonly<Record<string, string>> | undefined, wanted: string): boolean {
  const [key, value] = wanted.split('=', 2) as [string, string?];
  const own = labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined;
  return own !== undefined && (value === undefined || own === value);
}
