/**
 * The best possible plan of a small instance, as a mixed-integer program in time slots, solved by HiGHS. It may do what a
 * planner may: change rates from slot to slot, wait for memory, stretch copies. Only the slots limit it, and the instances
 * made here fit into them: nothing is written while it is copied, and every copy at full rate lasts a whole number of slots.
 *
 * Per migration and slot: `a` has started (0 or 1), `e` has ended before (0 or 1), `x` MB carried. A started one stays
 * started; what is carried fits between start and end, onto each NIC, and adds up to its memory; hosts hold what fits.
 */
import { createRequire } from 'node:module';
import type { PlanningInstance } from '../../../contracts/plan.ts';
import { randomFrom } from '../../../contracts/random.ts';
import { MB_PER_MBIT } from '../../../policies/planner/transfer.ts';

// Its types describe the CommonJS entry, whose loader is called `default`; the module entry has none of that name.
const { default: createHighs } = createRequire(import.meta.url)('highs') as typeof import('highs');

const SLOT_S = 9;

/** Three to five hosts with tight memory, four to six guests; a 500 Mbit/s copy lasts one to three slots. */
export function smallInstance(seed: number): PlanningInstance {
  const random = randomFrom(seed);
  const between = (from: number, to: number) => from + Math.floor(random() * (to - from + 1));
  const n = between(3, 5);
  for (;;) {
    const before = new Array<number>(n).fill(0);
    const after = new Array<number>(n).fill(0);
    const vms: PlanningInstance['vms'] = [];
    const migrations: PlanningInstance['migrations'] = [];
    const count = between(4, 6);
    for (let i = 0; i < count; i++) {
      const size = between(1, 3);
      const from = between(0, n - 1);
      const to = (from + between(1, n - 1)) % n;
      before[from] = (before[from] as number) + size;
      after[to] = (after[to] as number) + size;
      vms.push({ id: `vm${i}`, host: `host${from}`, memory_mb: size * 500, size_units: size });
      migrations.push({ vm: `vm${i}`, from: `host${from}`, to: `host${to}` });
    }
    const memory = 6;
    if (![...before, ...after].every((units) => units <= memory)) continue;
    const hosts = before.map((_, i) => ({ id: `host${i}`, nic_mbps: i % 2 === 0 ? 500 : 1000, memory_units: memory }));
    return { format: 'planning-instance/1', name: `small-${seed}`, hosts, fabric: 'non-blocking', vms, migrations };
  }
}

/** The least makespan, s, of such an instance; undefined when it cannot be carried out within `horizonS`. */
export async function bestMakespanS(p: PlanningInstance, horizonS: number): Promise<number | undefined> {
  const slots = Math.ceil(horizonS / SLOT_S);
  const vms = new Map(p.vms.map((v) => [v.id, v]));
  const rows: string[] = [];
  const bounds: string[] = [];
  const binaries: string[] = [];
  const jobs = p.migrations.map((m, j) => ({ ...m, j, vm: vms.get(m.vm) as PlanningInstance['vms'][number] }));
  const perSlotMb = (mbps: number) => mbps * MB_PER_MBIT * SLOT_S;
  const nic = new Map(p.hosts.map((h) => [h.id, perSlotMb(h.nic_mbps ?? 0)]));
  const sum = (terms: readonly string[]) => terms.join(' + ');
  for (const { j, vm, from, to } of jobs) {
    const most = Math.min(nic.get(from) as number, nic.get(to) as number);
    const carried: string[] = [];
    for (let t = 0; t < slots; t++) {
      binaries.push(`a${j}_${t}`, `e${j}_${t}`);
      carried.push(`x${j}_${t}`);
      rows.push(`x${j}_${t} - ${most} a${j}_${t} + ${most} e${j}_${t} <= 0`);
      if (t > 0) rows.push(`a${j}_${t} - a${j}_${t - 1} >= 0`, `e${j}_${t} - e${j}_${t - 1} >= 0`);
      // It has ended before the slots in which it does not run any more: the last of the others is the makespan.
      rows.push(`makespan + ${t + 1} e${j}_${t} >= ${t + 1}`);
    }
    bounds.push(`e${j}_0 = 0`);
    rows.push(`${sum(carried)} = ${vm.memory_mb}`);
  }
  for (const h of p.hosts) {
    const out = jobs.filter((m) => m.from === h.id);
    const into = jobs.filter((m) => m.to === h.id);
    const start = p.vms.reduce((units, v) => units + (v.host === h.id ? (v.size_units ?? 0) : 0), 0);
    for (let t = 0; t < slots; t++) {
      for (const list of [out, into]) {
        if (list.length > 0) rows.push(`${sum(list.map(({ j }) => `x${j}_${t}`))} <= ${nic.get(h.id)}`);
      }
      if (into.length === 0) continue;
      const arrived = into.map(({ j, vm }) => `${vm.size_units} a${j}_${t}`);
      const left = out.map(({ j, vm }) => ` - ${vm.size_units} e${j}_${t}`).join('');
      rows.push(`${sum(arrived)}${left} <= ${(h.memory_units ?? 1e9) - start}`);
    }
  }
  const numbered = rows.map((r, i) => ` c${i}: ${r}`).join('\n');
  const text = `Minimize\n obj: makespan\nSubject To\n${numbered}\nBounds\n ${bounds.join('\n ')}\nBinary\n ${binaries.join('\n ')}\nEnd\n`;
  const highs = await createHighs();
  const solution = highs.solve(text, { output_flag: false });
  return solution.Status === 'Optimal' ? solution.ObjectiveValue * SLOT_S : undefined;
}
