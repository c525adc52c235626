/**
 * Instances on which not everybody finds room, and how many could, by looking at every set of moves, so for few guests only.
 * Only memory counts here; `oracle.ts`, next to it, counts time too.
 */
import { PRIORITIES } from '../../../contracts/common.ts';
import type { PlanningInstance } from '../../../contracts/plan.ts';
import { randomFrom } from '../../../contracts/random.ts';

/** Two to five hosts, some of them full, and up to nine guests of all priorities; often some can never move. */
export function withoutRoom(seed: number): PlanningInstance {
  const random = randomFrom(seed);
  const between = (from: number, to: number) => from + Math.floor(random() * (to - from + 1));
  const n = between(2, 5);
  const count = between(3, 9);
  const hosts = Array.from({ length: n }, (_, i) => {
    return { id: `h${i}`, nic_mbps: [500, 1000][between(0, 1)] as number, memory_units: between(3, 8) };
  });
  const free = hosts.map((h) => h.memory_units);
  const vms: PlanningInstance['vms'] = [];
  const migrations: PlanningInstance['migrations'] = [];
  for (let i = 0; i < count; i++) {
    const from = between(0, n - 1);
    const size = between(1, 3);
    const to = (from + between(1, n - 1)) % n;
    if (size > (free[from] as number)) continue;
    free[from] = (free[from] as number) - size;
    const priority = PRIORITIES[between(0, 2)] as (typeof PRIORITIES)[number];
    vms.push({ id: `vm${i}`, host: `h${from}`, memory_mb: 500 * size, size_units: size, priority });
    const hurry = random() < 0.2 ? { deadline_s: between(5, 60) } : {};
    migrations.push({ vm: `vm${i}`, from: `h${from}`, to: `h${to}`, ...hurry });
  }
  return {
    format: 'planning-instance/1',
    name: `without-room-${seed}`,
    hosts,
    fabric: 'non-blocking',
    vms,
    migrations,
  };
}

/** How many of `wanted` can be moved at most, whoever else moves for it. */
export function mostMoved(p: PlanningInstance, wanted: ReadonlySet<string>): number {
  const hostOf = new Map(p.hosts.map((h, i) => [h.id, i]));
  const sizes = new Map(p.vms.map((v) => [v.id, v.size_units ?? 0]));
  const moves = p.migrations.map((m) => ({
    from: hostOf.get(m.from) as number,
    to: hostOf.get(m.to) as number,
    size: sizes.get(m.vm) as number,
    counts: wanted.has(m.vm) ? 1 : 0,
  }));
  const start = p.hosts.map((h) => h.memory_units ?? Number.POSITIVE_INFINITY);
  for (const v of p.vms)
    start[hostOf.get(v.host) as number] = at(start, hostOf.get(v.host) as number) - (v.size_units ?? 0);
  // Sets of moves as bits: what is free depends on the set only, not on the order.
  const seen = new Set([0]);
  let most = 0;
  for (const set of seen) {
    const free = [...start];
    let count = 0;
    for (const [i, m] of moves.entries()) {
      if ((set & (1 << i)) === 0) continue;
      free[m.from] = at(free, m.from) + m.size;
      free[m.to] = at(free, m.to) - m.size;
      count += m.counts;
    }
    most = Math.max(most, count);
    for (const [i, m] of moves.entries()) if (m.size <= at(free, m.to)) seen.add(set | (1 << i));
  }
  return most;
}

const at = (list: readonly number[], i: number) => list[i] as number;
