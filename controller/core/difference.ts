/** The ordered difference between what a switch should hold and what it holds. Pure; used by `step.ts`. */
import { type OfMessage, of13 } from 'node-openflow';
import { addFlow, type Flow, type Meter, removeFlow, removeMeter, writeMeter } from './flows.ts';

export interface SwitchTables {
  flows: ReadonlyMap<string, Flow>;
  meters: ReadonlyMap<number, Meter>;
}

export const EMPTY_TABLES: SwitchTables = { flows: new Map(), meters: new Map() };

/** Pairs found equal before. Tables never change once made, so they stay equal. */
const equal = new WeakMap<SwitchTables, WeakSet<SwitchTables>>();

/**
 * Messages that take a switch from `installed` to `desired`: deletes of flows, then meters, a barrier, then flows (lowest
 * table last, so that no packet is sent to a table that is not filled yet), then deletes of meters no flow uses any more.
 * Empty when there is nothing to do. The session adds the closing barrier.
 */
export function difference(installed: SwitchTables, desired: SwitchTables): OfMessage<4>[] {
  if (installed === desired || equal.get(installed)?.has(desired)) return [];
  const deletes: OfMessage<4>[] = [];
  const adds: Flow[] = [];
  for (const [key, f] of installed.flows) if (!desired.flows.has(key)) deletes.push(removeFlow(f));
  for (const [key, f] of desired.flows) if (installed.flows.get(key)?.signature !== f.signature) adds.push(f);
  adds.sort((a, b) => b.table - a.table || b.priority - a.priority);

  const meters: OfMessage<4>[] = [];
  const deadMeters: OfMessage<4>[] = [];
  for (const m of desired.meters.values()) {
    const had = installed.meters.get(m.meterId);
    // A modify refills the bucket: never send one that changes nothing.
    if (had === undefined) meters.push(writeMeter(m, 'add'));
    else if (had.rateKbps !== m.rateKbps || had.burstKbits !== m.burstKbits) meters.push(writeMeter(m, 'modify'));
  }
  for (const id of installed.meters.keys()) if (!desired.meters.has(id)) deadMeters.push(removeMeter(id));

  const first = [...deletes, ...meters];
  const second = adds.map(addFlow);
  const barrier = first.length > 0 && second.length > 0 ? [of13.OFPBarrierRequest({})] : [];
  const messages = [...first, ...barrier, ...second, ...deadMeters];
  if (messages.length === 0) {
    const known = equal.get(installed) ?? new WeakSet();
    equal.set(installed, known.add(desired));
  }
  return messages;
}
