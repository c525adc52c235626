/**
 * Carries out the command `queueFilters`: brings a port's `tc` filters in line with a list (`core/queueFilters.ts` says how).
 * Idempotent, touches only filters with our own preference, and is to be sent again whenever a QoS row changed its type, since
 * Open vSwitch then makes the qdisc anew.
 */

import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import {
  addArgs,
  classOf,
  FILTER_PRIO,
  hasHtbRoot,
  parseClasses,
  parseFilters,
  type QueueFilter,
  removeArgs,
  sameFilters,
} from '../core/queueFilters.ts';
import { run } from './hostNet.ts';

export interface QueueFiltersResult {
  /** False where nothing was to be done here: `set_queue` works by itself, or the port has no queues. */
  applied: boolean;
  detail: string;
}

/**
 * @throws FairwayError `port-unknown` for a port that is no device in the agent's namespace, `bad-filters` for two filters
 *   with one DSCP, `command-failed` with what `tc` said.
 */
export async function applyQueueFilters(
  portName: string,
  filters: readonly QueueFilter[],
  ovs: AgentConfig['ovs'],
): Promise<QueueFiltersResult> {
  if (!/^[A-Za-z0-9_.@-]{1,15}$/.test(portName)) {
    throw new FairwayError('port-unknown', `${JSON.stringify(portName)} is no interface name`, ['badInput']);
  }
  if (new Set(filters.map((f) => f.dscp)).size !== filters.length) {
    throw new FairwayError('bad-filters', 'two filters have the same DSCP', ['badInput']);
  }
  const qdiscs = await run('tc', ['qdisc', 'show', 'dev', portName]).catch((error: unknown) => {
    if (!/Cannot find device/.test(String(error))) throw error;
    throw new FairwayError('port-unknown', `port ${portName} is not on this host`, ['notFound'], error);
  });
  if (!hasHtbRoot(qdiscs)) {
    return { applied: false, detail: `${portName} has no htb qdisc 1:; set a linux-htb QoS on it first` };
  }
  if (ovs !== undefined && filters.length > 0 && !(await isUserspace(ovs, portName))) {
    return { applied: false, detail: `${portName} is on a kernel datapath, where set_queue works by itself` };
  }
  const shown = await run('tc', ['filter', 'show', 'dev', portName, 'parent', '1:', 'prio', String(FILTER_PRIO)]);
  const present = parseFilters(shown);
  if (present !== undefined && sameFilters(present, filters)) {
    return { applied: true, detail: `${portName}: ${filters.length} filters, unchanged` };
  }
  if (shown.trim() !== '') await run('tc', removeArgs(portName));
  for (const f of filters) await run('tc', addArgs(portName, f));
  const classes = parseClasses(await run('tc', ['class', 'show', 'dev', portName]));
  const missing = filters.map((f) => classOf(f.queue)).filter((c) => !classes.has(c));
  const note = missing.length === 0 ? '' : `; class ${missing.join(', ')} does not exist yet`;
  return { applied: true, detail: `${portName}: ${filters.length} filters${note}` };
}

/** True when the port's bridge is a userspace one, or when Open vSwitch cannot say (the filter does no harm then). */
async function isUserspace(ovs: NonNullable<AgentConfig['ovs']>, port: string): Promise<boolean> {
  const vsctl = (args: string[]) => run('ovs-vsctl', [`--db=${ovs.db}`, '--timeout=10', ...args]);
  try {
    const bridge = (await vsctl(['port-to-br', port])).trim();
    return (await vsctl(['get', 'Bridge', bridge, 'datapath_type'])).trim() === 'netdev';
  } catch {
    return true;
  }
}
