/**
 * An independent judge of plans: given an instance and a plan, what the plan breaks. It shares no code with the planner,
 * reads the documents as they are, and integrates the segments itself, so that a mistake of the planner cannot hide here.
 * (The types of `contracts/` describe the documents; no function is shared.)
 *
 * Each rule, with its one-sentence invariant:
 * - `listed`: every migration of the instance is planned once or refused with a reason, and nothing else is.
 * - `segments`: segments follow one another from start to end without a gap, at rates that are numbers and not negative.
 * - `path`: the path leads from the source to the destination over neighbours, and through switches only.
 * - `volume`: what the segments carry is at least what has to be carried at their mean rate.
 * - `converges`: by pre-copy the last hot_dirty_mb MB are carried at no less than hot_dirty_mb ÷ hot_dirty_s MB/s.
 * - `link`: at every instant, on every directed link and NIC, low slices fit beside all that the workload sends, low
 *   and medium slices beside clamp(rate, floor, ceiling), and all slices beside the workload's floor.
 * - `memory`: at every instant no host to which something moves holds more than its memory_units.
 * - `limit`: at every instant no more migrations than allowed leave, or enter, a host.
 * - `given`: a migration with a path of its own takes that one, and one that runs already starts at 0.
 * - `figures`: makespan and lateness are those of the migrations.
 */
import type { Plan, PlanningInstance } from '../../contracts/plan.ts';

export interface Violation {
  readonly rule:
    | 'listed'
    | 'segments'
    | 'path'
    | 'volume'
    | 'converges'
    | 'link'
    | 'memory'
    | 'limit'
    | 'given'
    | 'figures';
  /** The guest, host or link. */
  readonly what: string;
  readonly text: string;
}

export interface CheckOptions {
  /** Migrations at a time out of, and into, one host; not checked when left out. */
  readonly limitPerHost?: number;
  /** Relative error of volumes and rates that is put down to rounding. */
  readonly tolerance?: number;
}

type Rank = 0 | 1 | 2;
const RANK: Readonly<Record<string, Rank>> = { high: 0, medium: 1, low: 2 };
type Vm = PlanningInstance['vms'][number];
type Planned = Plan['migrations'][number];

/** All violations; none when the plan can be carried out. */
export function checkPlan(instance: PlanningInstance, plan: Plan, options: CheckOptions = {}): Violation[] {
  const tolerance = options.tolerance ?? 1e-6;
  const violations: Violation[] = [];
  const report = (rule: Violation['rule'], what: string, text: string) => violations.push({ rule, what, text });
  const vms = new Map(instance.vms.map((v) => [v.id, v]));
  const wanted = new Map(instance.migrations.map((m) => [m.vm, m]));

  const seen = new Set<string>();
  for (const m of [...plan.migrations, ...(plan.refused ?? [])]) {
    if (!wanted.has(m.vm)) report('listed', m.vm, 'is in the plan, but was not asked for');
    if (seen.has(m.vm)) report('listed', m.vm, 'is in the plan twice');
    seen.add(m.vm);
  }
  for (const vm of wanted.keys()) if (!seen.has(vm)) report('listed', vm, 'is neither planned nor refused');
  for (const r of plan.refused ?? []) if (r.reason === '') report('listed', r.vm, 'is refused without a reason');

  const sound: Planned[] = [];
  for (const m of plan.migrations) {
    const vm = vms.get(m.vm);
    const task = wanted.get(m.vm);
    if (vm === undefined || task === undefined) continue;
    const broken = brokenSegments(m);
    if (broken !== undefined) {
      report('segments', m.vm, broken);
      continue;
    }
    sound.push(m);
    checkTransfer(vm, m, tolerance, report);
    if (m.path[0] !== task.from || m.path[m.path.length - 1] !== task.to) {
      report(
        'path',
        m.vm,
        `leads from ${m.path[0]} to ${m.path[m.path.length - 1]}, not from ${task.from} to ${task.to}`,
      );
    }
    if (task.path !== undefined && task.path.join('\n') !== m.path.join('\n')) {
      report('given', m.vm, `takes ${m.path.join(' → ')}, not ${task.path.join(' → ')}`);
    }
    if (task.running_mbps !== undefined && m.start_s !== 0) {
      report('given', m.vm, `runs already, but is planned to start at ${m.start_s} s`);
    }
    const deadline = task.deadline_s;
    const late = deadline !== undefined && m.end_s > deadline ? m.end_s - deadline : 0;
    if (Math.abs(late - (m.late_s ?? 0)) > 0.002) report('figures', m.vm, `is ${late} s late, not ${m.late_s ?? 0} s`);
  }
  const makespan = plan.migrations.reduce((most, m) => Math.max(most, m.end_s), 0);
  if (Math.abs(makespan - plan.makespan_s) > 0.002) report('figures', 'makespan_s', `should be ${makespan}`);

  checkLinks(instance, sound, vms, tolerance, report);
  checkHosts(instance, sound, vms, wanted, options.limitPerHost ?? Number.POSITIVE_INFINITY, report);
  return violations;
}

type Report = (rule: Violation['rule'], what: string, text: string) => void;

function brokenSegments(m: Planned): string | undefined {
  if (!(m.start_s >= 0 && m.end_s > m.start_s)) return `runs from ${m.start_s} s to ${m.end_s} s`;
  let at = m.start_s;
  for (const s of m.segments) {
    if (!(s.mbps >= 0 && s.mbps < Number.POSITIVE_INFINITY)) return `has a rate of ${s.mbps} Mbit/s`;
    if (s.from_s !== at) return `has a segment from ${s.from_s} s where the one before ends at ${at} s`;
    if (!(s.to_s > s.from_s)) return `has a segment from ${s.from_s} s to ${s.to_s} s`;
    at = s.to_s;
  }
  return at === m.end_s ? undefined : `its segments end at ${at} s, not at ${m.end_s} s`;
}

function checkTransfer(vm: Vm, m: Planned, tolerance: number, report: Report): void {
  const carried = m.segments.reduce((mb, s) => mb + (s.mbps / 9) * (s.to_s - s.from_s), 0);
  const meanRate = carried / (m.end_s - m.start_s);
  const hotMb = vm.hot_dirty_mb ?? 0;
  const hotS = vm.hot_dirty_s ?? 0;
  const copyS = meanRate > 0 ? vm.memory_mb / meanRate : Number.POSITIVE_INFINITY;
  const needed = vm.memory_mb + hotMb + (vm.cold_dirty_mb_per_s ?? 0) * Math.max(0, copyS - hotS);
  if (!(carried >= needed * (1 - tolerance))) {
    report('volume', vm.id, `carries ${carried.toFixed(2)} MB of the ${needed.toFixed(2)} MB it has to`);
  }
  if (m.technique !== 'pre-copy' || hotMb === 0) return;
  const leastRate = hotMb / hotS;
  let left = hotMb * (1 - tolerance);
  for (let i = m.segments.length - 1; i >= 0 && left > 0; i--) {
    const s = m.segments[i] as Planned['segments'][number];
    if (s.mbps / 9 < leastRate * (1 - tolerance)) {
      const text = `carries its last MB at ${(s.mbps / 9).toFixed(1)} MB/s, below the ${leastRate.toFixed(1)} MB/s at which they are dirtied`;
      report('converges', vm.id, text);
      return;
    }
    left -= (s.mbps / 9) * (s.to_s - s.from_s);
  }
}

/** A directed link: what it carries and what the workload on it wants. */
interface Wire {
  mbps: number;
  rate: number;
  floor: number;
  ceiling: number;
  events: { at: number; mbps: number; rank: Rank }[];
}

function checkLinks(
  instance: PlanningInstance,
  migrations: readonly Planned[],
  vms: ReadonlyMap<string, Vm>,
  tolerance: number,
  report: Report,
): void {
  const wires = new Map<string, Wire>();
  const wire = (name: string, mbps: number) => wires.set(name, { mbps, rate: 0, floor: 0, ceiling: 0, events: [] });
  for (const h of instance.hosts) {
    wire(`${h.id} out`, h.nic_mbps ?? Number.POSITIVE_INFINITY);
    wire(`${h.id} in`, h.nic_mbps ?? Number.POSITIVE_INFINITY);
  }
  const isLinks = instance.fabric === 'links';
  if (isLinks) {
    for (const l of instance.links ?? []) {
      wire(`${l.a}→${l.b}`, l.mbps);
      wire(`${l.b}→${l.a}`, l.mbps);
    }
  }
  const switches = new Set(instance.switches ?? []);
  for (const w of instance.workload ?? []) {
    for (const name of [`${w.a}→${w.b}`, `${w.a} out`, `${w.b} in`]) {
      const at = wires.get(name);
      if (at === undefined) continue;
      at.rate += w.mbps;
      at.floor += w.floor_mbps ?? w.mbps;
      at.ceiling += w.ceiling_mbps ?? Number.POSITIVE_INFINITY;
    }
  }
  for (const m of migrations) {
    const names = [`${m.path[0]} out`, `${m.path[m.path.length - 1]} in`];
    for (let i = 0; i + 1 < m.path.length; i++) if (isLinks) names.push(`${m.path[i]}→${m.path[i + 1]}`);
    if (!isLinks && m.path.length !== 2) report('path', m.vm, 'names nodes between the hosts of a non-blocking fabric');
    for (const node of m.path.slice(1, -1)) {
      if (isLinks && !switches.has(node)) report('path', m.vm, `passes through ${node}, which is not a switch`);
    }
    if (new Set(m.path).size !== m.path.length) report('path', m.vm, 'passes through a node twice');
    const rank = RANK[vms.get(m.vm)?.priority ?? 'medium'] as Rank;
    for (const name of names) {
      const at = wires.get(name);
      if (at === undefined) {
        report('path', m.vm, `uses ${name}, which is not there`);
        continue;
      }
      for (const s of m.segments) {
        at.events.push({ at: s.from_s, mbps: s.mbps, rank }, { at: s.to_s, mbps: -s.mbps, rank });
      }
    }
  }
  for (const [name, w] of wires) {
    // What ends at an instant has ended when what starts at it starts.
    w.events.sort((a, b) => a.at - b.at || a.mbps - b.mbps);
    const clamped = Math.max(w.floor, Math.min(w.rate, w.ceiling));
    const kept = [w.floor, clamped, Math.max(w.floor, w.rate)];
    const used = [0, 0, 0];
    for (const [i, e] of w.events.entries()) {
      used[e.rank] = (used[e.rank] as number) + e.mbps;
      if (w.events[i + 1]?.at === e.at) continue;
      for (const rank of [0, 1, 2] as const) {
        // Of this rank and the less urgent ones, which may not use more than it may.
        const sum = used.slice(rank).reduce((a, b) => a + b, 0);
        const room = Math.max(0, w.mbps - (kept[rank] as number));
        if (sum > room + tolerance * Math.max(1, Number.isFinite(w.mbps) ? w.mbps : sum)) {
          const who = ['all slices', 'medium and low slices', 'low slices'][rank];
          report(
            'link',
            name,
            `at ${e.at} s ${who} sum up to ${sum.toFixed(3)} Mbit/s, where ${room.toFixed(3)} are left`,
          );
        }
      }
    }
  }
}

function checkHosts(
  instance: PlanningInstance,
  migrations: readonly Planned[],
  vms: ReadonlyMap<string, Vm>,
  wanted: ReadonlyMap<string, PlanningInstance['migrations'][number]>,
  limit: number,
  report: Report,
): void {
  for (const h of instance.hosts) {
    const room = h.memory_units ?? Number.POSITIVE_INFINITY;
    let units = instance.vms.reduce((sum, v) => sum + (v.host === h.id ? (v.size_units ?? 0) : 0), 0);
    let out = 0;
    let into = 0;
    const events: { at: number; isEnd: boolean; isOut: boolean; units: number }[] = [];
    for (const m of migrations) {
      const task = wanted.get(m.vm);
      const size = vms.get(m.vm)?.size_units ?? 0;
      if (task?.from === h.id) {
        events.push({ at: m.start_s, isEnd: false, isOut: true, units: 0 });
        events.push({ at: m.end_s, isEnd: true, isOut: true, units: -size });
      }
      if (task?.to === h.id) {
        events.push({ at: m.start_s, isEnd: false, isOut: false, units: size });
        events.push({ at: m.end_s, isEnd: true, isOut: false, units: 0 });
      }
    }
    events.sort((a, b) => a.at - b.at || Number(b.isEnd) - Number(a.isEnd));
    for (const [i, e] of events.entries()) {
      units += e.units;
      if (e.isOut) out += e.isEnd ? -1 : 1;
      else into += e.isEnd ? -1 : 1;
      if (e.units > 0 && units > room + 1e-9) {
        report('memory', h.id, `at ${e.at} s holds ${units} units, has room for ${room}`);
      }
      if (events[i + 1]?.at === e.at) continue;
      if (out > limit) report('limit', h.id, `at ${e.at} s ${out} migrations leave it, ${limit} may`);
      if (into > limit) report('limit', h.id, `at ${e.at} s ${into} migrations enter it, ${limit} may`);
    }
  }
}
