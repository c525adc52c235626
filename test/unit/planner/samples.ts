/** Small instances for the planner's tests. */
import type { PlanningInstance } from '../../../contracts/plan.ts';

type Vm = PlanningInstance['vms'][number];
type Migration = PlanningInstance['migrations'][number];

/** Guests of 500 MB that nobody writes to: 9 s at 500 Mbit/s. */
export const guest = (id: string, host: string, more: Partial<Vm> = {}): Vm => ({
  id,
  host,
  memory_mb: 500,
  size_units: 1,
  ...more,
});

/** Hosts a, b, c, … with 500 Mbit/s on a non-blocking switch. */
export function flat(
  hosts: string,
  vms: readonly Vm[],
  moves: Readonly<Record<string, string | Partial<Migration>>>,
  more: Partial<PlanningInstance> = {},
): PlanningInstance {
  return {
    format: 'planning-instance/1',
    name: 'test',
    hosts: [...hosts].map((id) => ({ id, nic_mbps: 500, memory_units: 8 })),
    fabric: 'non-blocking',
    vms: [...vms],
    migrations: Object.entries(moves).map(([vm, to]) => ({
      vm,
      from: vms.find((v) => v.id === vm)?.host ?? '',
      ...(typeof to === 'string' ? { to } : { to: '', ...to }),
    })),
    ...more,
  };
}
