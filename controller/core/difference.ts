/** The ordered difference between what a switch should hold and what it holds. Pure; used by `step.ts`. */
import { type OfMessage, of13 } from 'node-openflow';
import {
  addFlow,
  type Flow,
  type Group,
  type Meter,
  removeFlow,
  removeGroup,
  removeMeter,
  writeGroup,
  writeMeter,
} from './flows.ts';

export interface SwitchTables {
  flows: ReadonlyMap<string, Flow>;
  meters: ReadonlyMap<number, Meter>;
  groups: ReadonlyMap<number, Group>;
}

export const EMPTY_TABLES: SwitchTables = { flows: new Map(), meters: new Map(), groups: new Map() };

/** Pairs compared before: whether they differ. Tables never change once made, so what was found stays true. */
const compared = new WeakMap<SwitchTables, WeakMap<SwitchTables, boolean>>();

function remember(installed: SwitchTables, desired: SwitchTables, isOther: boolean): void {
  const known = compared.get(installed) ?? new WeakMap<SwitchTables, boolean>();
  compared.set(installed, known.set(desired, isOther));
}

/** Whether anything is to be sent. While a switch is being written to, it is asked in every turn. */
export function isDifferent(installed: SwitchTables, desired: SwitchTables): boolean {
  return compared.get(installed)?.get(desired) ?? difference(installed, desired).length > 0;
}

/**
 * Messages that take a switch from `installed` to `desired`: deletes of flows, then meters and groups, a barrier, then flows
 * (lowest table last, so that no packet is sent to a table that is not filled yet), a barrier, then deletes of meters and
 * groups that no flow uses any more: with them would go the flows that still do. Empty when there is nothing to do. The
 * session adds the closing barrier.
 */
export function difference(installed: SwitchTables, desired: SwitchTables): OfMessage<4>[] {
  if (installed === desired || compared.get(installed)?.get(desired) === false) return [];
  const deletes: OfMessage<4>[] = [];
  const adds: Flow[] = [];
  for (const [key, f] of installed.flows) if (!desired.flows.has(key)) deletes.push(removeFlow(f));
  for (const [key, f] of desired.flows) if (installed.flows.get(key)?.signature !== f.signature) adds.push(f);
  adds.sort((a, b) => b.table - a.table || b.priority - a.priority);

  const needed: OfMessage<4>[] = [];
  const dead: OfMessage<4>[] = [];
  for (const m of desired.meters.values()) {
    const had = installed.meters.get(m.meterId);
    // A modify refills the bucket: never send one that changes nothing.
    if (had === undefined) needed.push(writeMeter(m, 'add'));
    else if (had.rateKbps !== m.rateKbps || had.burstKbits !== m.burstKbits) needed.push(writeMeter(m, 'modify'));
  }
  for (const g of desired.groups.values()) {
    const had = installed.groups.get(g.groupId);
    if (had?.signature !== g.signature) needed.push(writeGroup(g, had === undefined ? 'add' : 'modify'));
  }
  for (const id of installed.meters.keys()) if (!desired.meters.has(id)) dead.push(removeMeter(id));
  for (const id of installed.groups.keys()) if (!desired.groups.has(id)) dead.push(removeGroup(id));

  const messages = joined([[...deletes, ...needed], adds.map(addFlow), dead]);
  remember(installed, desired, messages.length > 0);
  return messages;
}

/** Parts one after the other, with a barrier between those that have anything. */
function joined(parts: OfMessage<4>[][]): OfMessage<4>[] {
  const full = parts.filter((p) => p.length > 0);
  return full.flatMap((p, i) => (i === 0 ? p : [of13.OFPBarrierRequest({}), ...p]));
}
