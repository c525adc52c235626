/**
 * What is to be moved over what (`planning-instance/1`) and when each migration runs at what rate (`plan/1`). Names and
 * units are fixed, because checkers outside the project read these documents: fields may be added, none renamed, and
 * fields that are not known here are kept. `policies/planner/` makes plans, `policies/planCheck/` checks them.
 *
 * Units, as the field names say: Mbit/s, MB (10^6 bytes), seconds from the start of the plan. Links are full duplex.
 */
import { z } from 'zod';
import { describeIssues, FairwayError, prioritySchema, techniqueSchema } from './common.ts';

const id = z
  .string('must be a text')
  .min(1, 'must not be empty')
  .max(200, 'must have at most 200 characters')
  .regex(/^\P{Cc}*$/u, 'must not contain control characters');
const number = z.number('must be a number');
const labels = z.record(z.string(), z.string());
const positive = number.positive('must be above 0');
const notNegative = number.min(0, 'must not be negative');
/** Beyond these somebody has mistaken the unit, and times could not be told exactly any more. */
const rate = positive.max(1e9, 'must be at most 1,000,000,000 (Mbit/s)');
const units = notNegative.max(1e12, 'must be at most 1,000,000,000,000');
const megabytes = 'must be at most 1,000,000,000,000 (MB)';
const object = 'must be an object';

const host = z.looseObject({
  id,
  /** Full duplex: so much out and so much in. May be left out in a `links` fabric, where the links say it. */
  nic_mbps: rate.optional(),
  /** Room for guests' `size_units`; unlimited when left out. */
  memory_units: units.optional(),
  /** For rules of evacuation. */
  labels: labels.optional(),
});
const link = z.looseObject({ a: id, b: id, mbps: rate }, object);
const vm = z.looseObject({
  id,
  host: id,
  memory_mb: positive.max(1e12, megabytes),
  size_units: units.optional(),
  /** Writable working set: `hot_dirty_mb` MB are written again within `hot_dirty_s` seconds … */
  hot_dirty_mb: notNegative.max(1e12, megabytes).optional(),
  hot_dirty_s: notNegative.max(1e9, 'must be at most 1,000,000,000 (s)').optional(),
  /** … and the rest of the memory at this rate. */
  cold_dirty_mb_per_s: notNegative.max(1e9, 'must be at most 1,000,000,000 (MB/s)').optional(),
  /** `medium` when left out. */
  priority: prioritySchema.optional(),
  /** For rules of evacuation, and its own traffic for the choice of destinations. */
  labels: labels.optional(),
  /** It stays where it is, also when that would make room. */
  pinned: z.boolean('must be true or false').optional(),
  out_mbps: notNegative.optional(),
  in_mbps: notNegative.optional(),
});
const migration = z.looseObject({
  vm: id,
  from: id,
  to: id,
  deadline_s: positive.optional(),
  /** The one path it may take: host, switches in a `links` fabric, host. Any path when left out. */
  path: z.array(id).min(2, 'must name at least two nodes').optional(),
  /**
   * It runs already: from 0 on, at this rate, until what is left of it (`memory_mb` of its guest, without what is written
   * again) has been carried. Its size is taken to be held at the destination besides.
   */
  running_mbps: rate.optional(),
});
const workload = z.looseObject({
  a: id,
  b: id,
  /** What it sends from a to b. */
  mbps: notNegative,
  /** What it is never left without; `mbps` when left out. */
  floor_mbps: notNegative.optional(),
  /** What it is left at most beside a migration of medium priority; unlimited when left out. */
  ceiling_mbps: notNegative.optional(),
});

export const planningInstanceSchema = z.looseObject(
  {
    format: z.literal('planning-instance/1', 'must be "planning-instance/1"'),
    name: z.string('must be a text').optional(),
    /** What `memory_units` and `size_units` count, for texts: `MiB`, say; `memory units` when left out. */
    memory_unit: z
      .string('must be a text')
      .min(1, 'must not be empty')
      .max(40, 'must have at most 40 characters')
      .optional(),
    hosts: z.array(host).min(1, 'must name at least one host'),
    /** `non-blocking`: only the hosts' NICs limit. `links`: hosts and switches joined by `links`. */
    fabric: z.enum(['non-blocking', 'links'], 'must be "non-blocking" or "links"'),
    switches: z.array(id).optional(),
    links: z.array(link).optional(),
    vms: z.array(vm),
    migrations: z.array(migration),
    workload: z.array(workload).optional(),
  },
  object,
);
export type PlanningInstance = z.infer<typeof planningInstanceSchema>;
export type PlanningHost = PlanningInstance['hosts'][number];
export type PlanningVm = PlanningInstance['vms'][number];
export type PlanningMigration = PlanningInstance['migrations'][number];

const segment = z.looseObject({ from_s: notNegative, to_s: notNegative, mbps: notNegative });
const plannedMigration = z.looseObject({
  vm: id,
  start_s: notNegative,
  end_s: notNegative,
  technique: techniqueSchema,
  /** Reserved on every link of `path`, piecewise constant and without a gap from start to end. */
  segments: z.array(segment).min(1, 'must have at least one segment'),
  /** Host, switches in between in a `links` fabric, host. */
  path: z.array(id).min(2, 'must name at least two nodes'),
  /** For people. */
  reason: z.string(),
  priority: prioritySchema.optional(),
  deadline_s: notNegative.optional(),
  /** By how much it misses its deadline; absent when it does not. */
  late_s: positive.optional(),
  why: z
    .looseObject({
      /** What it waits for: nothing, a link, memory at the destination, a limit per host, or a better order. */
      waits_for: z.enum(['nothing', 'link', 'memory', 'limit', 'order']),
      /** The directed link (`a→b`, or `host out`, `host in` for a NIC), or the host, that makes it wait. */
      binding: z.string().optional(),
      /** Guests whose migrations end when it starts and held what it waits for. */
      behind: z.array(id),
      /** The directed link that limits its rate. */
      rate_limited_by: z.string().optional(),
    })
    .optional(),
});
const refused = z.looseObject({ vm: id, reason: z.string() });

export const planSchema = z.looseObject({
  format: z.literal('plan/1', 'must be "plan/1"'),
  instance: z.string(),
  makespan_s: notNegative,
  lower_bound_s: notNegative,
  migrations: z.array(plannedMigration),
  refused: z.array(refused).optional(),
});
export type Plan = z.infer<typeof planSchema>;
export type PlannedMigration = Plan['migrations'][number];

/**
 * Reads a `planning-instance/1` document.
 * @throws FairwayError plan.badInstance (badInput), naming each field that is wrong and the cure.
 */
export function parsePlanningInstance(value: unknown): PlanningInstance {
  const parsed = planningInstanceSchema.safeParse(value);
  if (!parsed.success) throw bad('plan.badInstance', describeIssues(parsed.error));
  const problems = problemsOf(parsed.data);
  if (problems.length > 0) throw bad('plan.badInstance', problems.slice(0, 5).join('; '));
  return parsed.data;
}

/**
 * Reads a `plan/1` document.
 * @throws FairwayError plan.badPlan (badInput), naming each field that is wrong.
 */
export function parsePlan(value: unknown): Plan {
  const parsed = planSchema.safeParse(value);
  if (!parsed.success) throw bad('plan.badPlan', describeIssues(parsed.error));
  return parsed.data;
}

const bad = (code: string, message: string) => new FairwayError(code, message, ['badInput']);

/** What the shape alone does not show: names that lead nowhere, what is said twice, what contradicts itself. */
function problemsOf(p: PlanningInstance): string[] {
  const problems: string[] = [];
  const say = (where: string, text: string) => problems.push(`${where}: ${text}`);
  const isLinks = p.fabric === 'links';
  const hosts = new Set<string>();
  const nodes = new Set<string>();
  for (const [i, h] of p.hosts.entries()) {
    if (nodes.has(h.id)) say(`hosts.${i}.id`, `"${h.id}" is there twice; give each host an id of its own`);
    hosts.add(h.id);
    nodes.add(h.id);
    if (!isLinks && h.nic_mbps === undefined) {
      say(`hosts.${i}.nic_mbps`, `is missing; with fabric "non-blocking" it is all that limits ${h.id}`);
    }
  }
  for (const [i, s] of (p.switches ?? []).entries()) {
    if (nodes.has(s)) say(`switches.${i}`, `"${s}" is there twice; hosts and switches need ids of their own`);
    nodes.add(s);
  }

  const links = new Set<string>();
  if (isLinks && (p.links ?? []).length === 0) {
    say('links', 'are missing; with fabric "links" they join hosts and switches (or use fabric "non-blocking")');
  }
  for (const [i, l] of (p.links ?? []).entries()) {
    for (const end of ['a', 'b'] as const) {
      if (!nodes.has(l[end])) say(`links.${i}.${end}`, `no host or switch "${l[end]}"; add it to hosts or switches`);
    }
    if (l.a === l.b) say(`links.${i}`, `joins "${l.a}" to itself; remove it`);
    if (links.has(pair(l.a, l.b))) say(`links.${i}`, `${l.a} and ${l.b} are joined twice; write one with the sum`);
    links.add(pair(l.a, l.b)).add(pair(l.b, l.a));
  }

  const vms = new Map<string, PlanningVm>();
  const needsSize = p.hosts.some((h) => h.memory_units !== undefined);
  for (const [i, v] of p.vms.entries()) {
    const at = `vms.${i}`;
    if (vms.has(v.id)) say(`${at}.id`, `"${v.id}" is there twice; give each guest an id of its own`);
    vms.set(v.id, v);
    if (!hosts.has(v.host)) say(`${at}.host`, `no host "${v.host}"; known are ${some(hosts)}`);
    if (needsSize && v.size_units === undefined) {
      say(`${at}.size_units`, 'is missing; hosts have memory_units, so each guest needs its size in them');
    }
    if ((v.hot_dirty_mb ?? 0) > 0 && !((v.hot_dirty_s ?? 0) > 0)) {
      say(`${at}.hot_dirty_s`, 'must be above 0 where hot_dirty_mb is: the time in which so much is written again');
    }
  }

  const moved = new Set<string>();
  for (const [i, m] of p.migrations.entries()) {
    const at = `migrations.${i}`;
    const v = vms.get(m.vm);
    if (v === undefined) say(`${at}.vm`, `no guest "${m.vm}"; add it to vms`);
    if (moved.has(m.vm)) say(`${at}.vm`, `"${m.vm}" is to be moved twice; one plan moves a guest once`);
    moved.add(m.vm);
    for (const end of ['from', 'to'] as const) {
      if (!hosts.has(m[end])) say(`${at}.${end}`, `no host "${m[end]}"; known are ${some(hosts)}`);
    }
    if (v !== undefined && hosts.has(m.from) && v.host !== m.from) {
      say(`${at}.from`, `${m.vm} is on ${v.host}, not on ${m.from}; correct it, or vms.${p.vms.indexOf(v)}.host`);
    }
    if (m.from === m.to) say(`${at}.to`, `${m.vm} is on ${m.to} already; remove the migration`);
    if (m.path !== undefined) {
      const wrong = wrongPath(m.path, m, isLinks ? links : undefined);
      if (wrong !== undefined) say(`${at}.path`, wrong);
    }
  }

  for (const [i, w] of (p.workload ?? []).entries()) {
    const at = `workload.${i}`;
    for (const end of ['a', 'b'] as const) {
      if (!nodes.has(w[end])) say(`${at}.${end}`, `no host or switch "${w[end]}"; add it to hosts or switches`);
    }
    if (w.a === w.b) say(at, `goes from "${w.a}" to itself; remove it`);
    else if (isLinks && nodes.has(w.a) && nodes.has(w.b) && !links.has(pair(w.a, w.b))) {
      say(at, `no link joins ${w.a} and ${w.b}; give a workload of several links once for each of them`);
    }
    if (w.ceiling_mbps !== undefined && w.ceiling_mbps < (w.floor_mbps ?? 0)) {
      say(`${at}.ceiling_mbps`, 'is below floor_mbps; exchange them');
    }
  }
  return problems;
}

/** What is wrong with the path asked for; without `links` a path has only its ends. */
function wrongPath(
  path: readonly string[],
  m: { readonly from: string; readonly to: string },
  links: ReadonlySet<string> | undefined,
): string | undefined {
  if (path[0] !== m.from || path[path.length - 1] !== m.to) return `must lead from ${m.from} to ${m.to}`;
  if (new Set(path).size !== path.length) return 'passes through a node twice';
  if (links === undefined) return path.length === 2 ? undefined : 'a non-blocking fabric has no nodes between hosts';
  const gap = path.findIndex((node, i) => i > 0 && !links.has(pair(path[i - 1] as string, node)));
  return gap < 0 ? undefined : `no link joins ${path[gap - 1]} and ${path[gap]}`;
}

const pair = (a: string, b: string) => JSON.stringify([a, b]);

function some(names: ReadonlySet<string>): string {
  const list = [...names];
  return list.length > 6 ? `${list.slice(0, 6).join(', ')} and ${list.length - 6} more` : list.join(', ');
}
