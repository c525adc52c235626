/**
 * Planning instances made from a seed, for the planner's benchmark and property tests: of the kind of the measured ones
 * (few hosts, two speeds, memory that is nearly full), fat-trees of any size, and leaf-spine fabrics with workload,
 * priorities and deadlines.
 */
import { PRIORITIES } from '../../../contracts/common.ts';
import type { PlanningInstance } from '../../../contracts/plan.ts';
import { randomFrom } from '../../../contracts/random.ts';

type Vm = PlanningInstance['vms'][number];
type Random = () => number;

const pick = <T>(random: Random, list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
const between = (random: Random, from: number, to: number) => from + Math.floor(random() * (to - from + 1));

/** A guest of `gb` thousand MB, as large in memory units, that writes as those of the measured plans do. */
function guest(id: string, host: string, gb: number): Vm {
  return { id, host, memory_mb: 1000 * gb, size_units: gb, hot_dirty_mb: 96, hot_dirty_s: 2, cold_dirty_mb_per_s: 2 };
}

/**
 * Like the measured plans: ten to twelve guests of 2 or 3 GB on four hosts, two with 500 Mbit/s and two with 1 Gbit/s, on a
 * non-blocking switch, every one to another host, 12 memory units a host.
 */
export function measuredKind(seed: number): PlanningInstance {
  const random = randomFrom(seed);
  const hosts = [500, 500, 1000, 1000].map((nic_mbps, i) => ({ id: `host${i}`, nic_mbps, memory_units: 12 }));
  for (;;) {
    const before = hosts.map(() => 0);
    const after = hosts.map(() => 0);
    const vms: Vm[] = [];
    const migrations: PlanningInstance['migrations'] = [];
    const n = between(random, 10, 12);
    for (let i = 0; i < n; i++) {
      const size = pick(random, [2, 3]);
      const from = between(random, 0, 3);
      const to = (from + between(random, 1, 3)) % 4;
      before[from] = (before[from] as number) + size;
      after[to] = (after[to] as number) + size;
      vms.push(guest(`vm${i}`, `host${from}`, size));
      migrations.push({ vm: `vm${i}`, from: `host${from}`, to: `host${to}` });
    }
    // Both ends of the plan fit; whether there is a way between them is the planner's affair.
    if ([...before, ...after].every((units) => units <= 12)) {
      return {
        format: 'planning-instance/1',
        name: `generated-${seed}`,
        hosts,
        fabric: 'non-blocking',
        links: [],
        vms,
        migrations,
      };
    }
  }
}

/**
 * Three to eight hosts that are as full, before the plan and after it, as guests of one to three units drawn at random make
 * them; every guest goes to another host. Nearly all of them have to wait for somebody's memory.
 */
export function nearlyFull(seed: number): PlanningInstance {
  const random = randomFrom(seed);
  const units = between(random, 8, 16);
  const hosts = Array.from({ length: between(random, 3, 8) }, (_, i) => {
    return { id: `host${i}`, nic_mbps: pick(random, [500, 1000]), memory_units: units };
  });
  const before = hosts.map(() => units);
  const after = hosts.map(() => units);
  const vms: Vm[] = [];
  const migrations: PlanningInstance['migrations'] = [];
  for (let misses = 0; misses < 30; misses++) {
    const size = between(random, 1, 3);
    const from = between(random, 0, hosts.length - 1);
    const to = (from + between(random, 1, hosts.length - 1)) % hosts.length;
    const [left, leftAfter] = [(before[from] as number) - size, (after[to] as number) - size];
    // A unit stays free everywhere, so that somebody can begin.
    if (left < 1 || leftAfter < 1) continue;
    misses = -1;
    before[from] = left;
    after[to] = leftAfter;
    vms.push(guest(`vm${vms.length}`, `host${from}`, size));
    migrations.push({ vm: `vm${migrations.length}`, from: `host${from}`, to: `host${to}` });
  }
  return {
    format: 'planning-instance/1',
    name: `nearly-full-${seed}`,
    hosts,
    fabric: 'non-blocking',
    links: [],
    vms,
    migrations,
  };
}

/**
 * A fat-tree of k-port switches (k³ ÷ 4 hosts), 10 Gbit/s everywhere, and `count` migrations of guests of 2 to 16 GB
 * between hosts drawn at random.
 */
export function fatTree(k: number, count: number, seed: number): PlanningInstance {
  const random = randomFrom(seed);
  const half = k / 2;
  const mbps = 10_000;
  const hosts: PlanningInstance['hosts'] = [];
  const switches: string[] = [];
  const links: NonNullable<PlanningInstance['links']> = [];
  for (let c = 0; c < half * half; c++) switches.push(`core${c}`);
  for (let pod = 0; pod < k; pod++) {
    for (let i = 0; i < half; i++) {
      const edge = `edge${pod}-${i}`;
      const aggregation = `agg${pod}-${i}`;
      switches.push(edge, aggregation);
      for (let j = 0; j < half; j++) {
        const id = `h${pod}-${i}-${j}`;
        hosts.push({ id, nic_mbps: mbps, memory_units: 4096 });
        links.push({ a: id, b: edge, mbps });
        links.push({ a: edge, b: `agg${pod}-${j}`, mbps });
        links.push({ a: aggregation, b: `core${i * half + j}`, mbps });
      }
    }
  }
  const vms: Vm[] = [];
  const migrations: PlanningInstance['migrations'] = [];
  for (let i = 0; i < count; i++) {
    const from = between(random, 0, hosts.length - 1);
    const to = (from + between(random, 1, hosts.length - 1)) % hosts.length;
    const id = `vm${i}`;
    vms.push({
      ...guest(id, hosts[from]?.id as string, pick(random, [2, 4, 8, 16])),
      hot_dirty_mb: pick(random, [64, 256, 512]),
      cold_dirty_mb_per_s: pick(random, [1, 5, 20]),
    });
    migrations.push({ vm: id, from: hosts[from]?.id as string, to: hosts[to]?.id as string });
  }
  const name = `fat-tree-${hosts.length}-hosts-${count}-migrations-${seed}`;
  return { format: 'planning-instance/1', name, hosts, fabric: 'links', switches, links, vms, migrations };
}

/** A fat-tree whose first rack is emptied: all guests are there, in turn on its hosts, and go to the other racks. */
export function outOfOneRack(k: number, count: number, seed: number): PlanningInstance {
  const random = randomFrom(seed);
  const p = fatTree(k, count, seed);
  const ids = p.hosts.map((h) => h.id);
  const rack = ids.slice(0, k / 2);
  const hostOf = (i: number) => rack[i % rack.length] as string;
  return {
    ...p,
    name: `${p.name}-out-of-one-rack`,
    // A rack of so many guests has room for them.
    hosts: p.hosts.map((h) => ({ ...h, memory_units: 16 * count })),
    vms: p.vms.map((v, i) => ({ ...v, host: hostOf(i) })),
    migrations: p.migrations.map((m, i) => ({
      ...m,
      from: hostOf(i),
      to: ids[between(random, rack.length, ids.length - 1)] as string,
    })),
  };
}

/**
 * Four racks of four hosts under two spines; 1 Gbit/s to the hosts, 2 Gbit/s between switches; a workload with floor and
 * ceiling on most links; 24 to 40 guests of all priorities, two thirds of them with a deadline.
 */
export function mixed(seed: number): PlanningInstance {
  const random = randomFrom(seed);
  const leaves = [0, 1, 2, 3].map((i) => `leaf${i}`);
  const spines = ['spine0', 'spine1'];
  const links: NonNullable<PlanningInstance['links']> = [];
  const hosts: PlanningInstance['hosts'] = [];
  const workload: NonNullable<PlanningInstance['workload']> = [];
  const load = (a: string, b: string, mbps: number) => {
    const sent = Math.round(mbps * (0.1 + 0.5 * random()));
    const floor_mbps = Math.round(sent * (0.5 + 0.4 * random()));
    if (random() < 0.8)
      workload.push({ a, b, mbps: sent, floor_mbps, ceiling_mbps: Math.round((sent + floor_mbps) / 2) });
  };
  const link = (a: string, b: string, mbps: number) => {
    links.push({ a, b, mbps });
    load(a, b, mbps);
    load(b, a, mbps);
  };
  for (const leaf of leaves) {
    for (const spine of spines) link(leaf, spine, 2000);
    for (let i = 0; i < 4; i++) {
      const id = `${leaf}-host${i}`;
      hosts.push({ id, nic_mbps: 1000, memory_units: 64 });
      link(id, leaf, 1000);
    }
  }
  const vms: Vm[] = [];
  const migrations: PlanningInstance['migrations'] = [];
  const n = between(random, 24, 40);
  for (let i = 0; i < n; i++) {
    const from = between(random, 0, hosts.length - 1);
    const to = (from + between(random, 1, hosts.length - 1)) % hosts.length;
    const id = `vm${i}`;
    const gb = between(random, 1, 6);
    const priority = pick(random, PRIORITIES);
    vms.push({ ...guest(id, hosts[from]?.id as string, gb), hot_dirty_mb: 32, priority });
    const migration: PlanningInstance['migrations'][number] = {
      vm: id,
      from: hosts[from]?.id as string,
      to: hosts[to]?.id as string,
    };
    // Between 1.5 and 8 times what it would take on a link that is two thirds free.
    if (random() < 2 / 3) migration.deadline_s = Math.round(((gb * 1000 * 9) / 667) * (1.5 + 6.5 * random()));
    migrations.push(migration);
  }
  return {
    format: 'planning-instance/1',
    name: `mixed-${seed}`,
    hosts,
    fabric: 'links',
    switches: [...spines, ...leaves],
    links,
    vms,
    migrations,
    workload,
  };
}

/** The same with memory for only `spare` units more than a host holds before or after the plan, whichever is more. */
export function withTightMemory(p: PlanningInstance, spare: number): PlanningInstance {
  const sizes = new Map(p.vms.map((v) => [v.id, v.size_units ?? 0]));
  const before = new Map<string, number>();
  for (const v of p.vms) before.set(v.host, (before.get(v.host) ?? 0) + (v.size_units ?? 0));
  const after = new Map(before);
  for (const m of p.migrations) {
    const size = sizes.get(m.vm) ?? 0;
    after.set(m.from, (after.get(m.from) ?? 0) - size);
    after.set(m.to, (after.get(m.to) ?? 0) + size);
  }
  const most = (id: string) => Math.max(before.get(id) ?? 0, after.get(id) ?? 0);
  return {
    ...p,
    name: `${p.name}-tight`,
    hosts: p.hosts.map((h) => ({ ...h, memory_units: most(h.id) + spare })),
  };
}
