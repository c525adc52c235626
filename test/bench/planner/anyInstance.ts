/**
 * Instances of every kind for property tests: both fabrics, parted networks, memory that is tight or unlimited, workload up
 * to the brim, guests that no link can follow, all priorities, deadlines. Drawn from one seed, so that a failure is one number.
 */
import { PRIORITIES } from '../../../contracts/common.ts';
import type { PlanningInstance } from '../../../contracts/plan.ts';
import { randomFrom } from '../../../contracts/random.ts';

export interface Wishes {
  /** Without memory limits no migration has to wait for another priority's. */
  readonly memory?: boolean;
}

export function anyInstance(seed: number, { memory = true }: Wishes = {}): PlanningInstance {
  const random = randomFrom(seed);
  const chance = (p: number) => random() < p;
  const between = (from: number, to: number) => from + Math.floor(random() * (to - from + 1));
  const pick = <T>(list: readonly T[]): T => list[between(0, list.length - 1)] as T;

  const isLinks = chance(0.6);
  const isTight = memory && chance(0.6);
  const hosts: PlanningInstance['hosts'] = [];
  const hostCount = between(2, 6);
  for (let i = 0; i < hostCount; i++) {
    const host: PlanningInstance['hosts'][number] = { id: `h${i}` };
    if (!isLinks || chance(0.7)) host.nic_mbps = pick([100, 500, 1000, 2500.5]);
    if (isTight) host.memory_units = between(4, 10);
    hosts.push(host);
  }
  const switches = isLinks ? Array.from({ length: between(0, 4) }, (_, i) => `s${i}`) : [];
  const links: NonNullable<PlanningInstance['links']> = [];
  const joined = new Set<string>();
  const join = (a: string, b: string) => {
    if (a === b || joined.has(`${a} ${b}`)) return;
    joined.add(`${a} ${b}`).add(`${b} ${a}`);
    links.push({ a, b, mbps: pick([100, 500, 1000, 333.3]) });
  };
  if (isLinks) {
    const anywhere = [...hosts.map((h) => h.id), ...switches];
    for (const h of hosts) if (chance(0.9)) join(h.id, pick(switches.length > 0 ? switches : anywhere));
    for (const s of switches) if (chance(0.9)) join(s, pick(switches));
    for (let i = between(0, 6); i > 0; i--) join(pick(anywhere), pick(anywhere));
    if (links.length === 0) join('h0', 'h1');
  }

  const vms: PlanningInstance['vms'] = [];
  const migrations: PlanningInstance['migrations'] = [];
  for (let i = between(1, 10); i > 0; i--) {
    const from = between(0, hostCount - 1);
    const vm: PlanningInstance['vms'][number] = { id: `vm${i}`, host: `h${from}`, memory_mb: between(1, 4000) };
    if (isTight || chance(0.5)) vm.size_units = between(0, 4);
    if (chance(0.8)) {
      vm.hot_dirty_mb = between(0, 200);
      vm.hot_dirty_s = pick([0.5, 2, 10]);
    }
    if (chance(0.8)) vm.cold_dirty_mb_per_s = pick([0, 1, 2, 50, 300]);
    if (chance(0.8)) vm.priority = pick(PRIORITIES);
    vms.push(vm);
    if (chance(0.15)) continue;
    const migration: PlanningInstance['migrations'][number] = {
      vm: vm.id,
      from: vm.host,
      to: `h${(from + between(1, hostCount - 1)) % hostCount}`,
    };
    if (chance(0.4)) migration.deadline_s = between(1, 300);
    migrations.push(migration);
  }

  const workload: NonNullable<PlanningInstance['workload']> = [];
  const load = (a: string, b: string, mbps: number) => {
    const entry: (typeof workload)[number] = { a, b, mbps: mbps * pick([0, 0.2, 0.5, 1]) };
    if (chance(0.7)) entry.floor_mbps = entry.mbps * random();
    if (chance(0.5)) entry.ceiling_mbps = (entry.floor_mbps ?? entry.mbps) * (1 + random());
    workload.push(entry);
  };
  for (const l of links) if (chance(0.4)) load(l.a, l.b, l.mbps);
  if (!isLinks && chance(0.5)) load('h0', 'h1', 200);
  return {
    format: 'planning-instance/1',
    name: `any-${seed}`,
    hosts,
    fabric: isLinks ? 'links' : 'non-blocking',
    switches,
    links,
    vms,
    migrations,
    workload,
  };
}
