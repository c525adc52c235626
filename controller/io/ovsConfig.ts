/**
 * What `qos.ts` and `tunnels.ts` share: the shapes of OVSDB's values (RFC 7047 §5.1), the mark of rows that are ours, and
 * waiting until ovs-vswitchd obeys.
 */
import { FairwayError } from '../../contracts/common.ts';
import type { OvsdbClient } from './ovsdb.ts';

export const DB = 'Open_vSwitch';
/** `external_ids` of every row of ours. */
export const OWNER = ['map', [['fairway', '1']]];

export const uuidOf = (v: unknown): string => (v as [string, string])[1];
/** A set column: one bare value, or ["set", [...]]. */
export const setOf = (v: unknown): unknown[] => (Array.isArray(v) && v[0] === 'set' ? (v[1] as unknown[]) : [v]);
export const pairsOf = (v: unknown): [unknown, unknown][] => (v as ['map', [unknown, unknown][]])[1];
export const textMap = (v: unknown): Map<string, string> => new Map(pairsOf(v).map(([k, x]) => [String(k), String(x)]));

/**
 * What ovs-vsctl does to learn when the switch obeys: next_cfg was raised with the change, and cur_cfg follows when it is done.
 * False when it has not within `timeoutMs`. Throws what the client throws.
 */
export async function obeyed(client: OvsdbClient, nextCfg: number, timeoutMs: number): Promise<boolean> {
  const isDone = {
    op: 'wait',
    table: DB,
    where: [['cur_cfg', '>=', nextCfg]],
    columns: ['cur_cfg'],
    until: '!=',
    rows: [],
    timeout: timeoutMs,
  };
  try {
    await client.transact(DB, [isDone], 2 * timeoutMs + 1000);
    return true;
  } catch (e) {
    if (e instanceof FairwayError && (e.code === 'OVSDB_WAIT' || e.code === 'OVSDB_TIMEOUT')) return false;
    throw e;
  }
}
