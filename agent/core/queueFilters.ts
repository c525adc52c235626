/**
 * Which `tc` filters map DSCP marks to the classes of OVSDB queues on a port of a userspace datapath, and how to get there
 * from what is there. Pure; `io/queueFilters.ts` runs `tc`. Open vSwitch's `linux-htb` makes queue n the class 1:(n+1)
 * (hexadecimal) and sends what nobody classified to queue 0; `set_queue` has no effect there, a filter has.
 */

export interface QueueFilter {
  dscp: number;
  queue: number;
}

/** Our preference ("prio") in the port's filter list: marks filters as ours and lets them be removed together. */
export const FILTER_PRIO = 64028; // 0xFA1C

/** Minor number of a queue's class, as `tc` prints it. */
export const classOf = (queue: number): string => `1:${(queue + 1).toString(16)}`;

/** True when `tc qdisc show dev PORT` tells of the htb qdisc 1: that Open vSwitch sets up for a linux-htb QoS. */
export function hasHtbRoot(qdiscs: string): boolean {
  return /^qdisc htb 1: root\b/m.test(qdiscs);
}

/** Classes in `tc class show dev PORT`, e.g. `1:2`. */
export function parseClasses(classes: string): Set<string> {
  return new Set([...classes.matchAll(/^class htb (1:[0-9a-f]+)\b/gm)].map((m) => m[1] as string));
}

/**
 * Our filters in `tc filter show dev PORT parent 1: prio N`, or undefined if there is one that is not as we would
 * have made it.
 */
export function parseFilters(shown: string): QueueFilter[] | undefined {
  const found: QueueFilter[] = [];
  // A filter is a line with its class and then a line with its match; a hash table's line has neither.
  const pattern = /flowid (\S+)[^\n]*\n\s*match ([0-9a-f]{8})\/([0-9a-f]{8}) at (\d+)/g;
  const flows = shown.match(/flowid /g)?.length ?? 0;
  for (const [, flowid = '', value = '', mask, at] of shown.matchAll(pattern)) {
    const minor = /^1:([0-9a-f]+)$/.exec(flowid)?.[1];
    const tos = Number.parseInt(value, 16) >>> 16;
    if (mask !== '00fc0000' || at !== '0' || minor === undefined) return undefined;
    found.push({ dscp: (tos & 0xff) >> 2, queue: Number.parseInt(minor, 16) - 1 });
  }
  return found.length === flows ? found : undefined;
}

/** True for the same filters in any order. */
export function sameFilters(a: readonly QueueFilter[], b: readonly QueueFilter[]): boolean {
  const keys = (filters: readonly QueueFilter[]) => filters.map((f) => `${f.dscp}>${f.queue}`).sort();
  return keys(a).join() === keys(b).join();
}

/** Arguments of `tc` that remove all of ours from a port. */
export function removeArgs(port: string): string[] {
  return ['filter', 'del', 'dev', port, 'parent', '1:', 'protocol', 'ip', 'prio', String(FILTER_PRIO)];
}

/** Arguments of `tc` that add one of ours. DSCP is the upper six bits of the old TOS byte. */
export function addArgs(port: string, f: QueueFilter): string[] {
  const tos = `0x${(f.dscp << 2).toString(16)}`;
  return [
    ...['filter', 'add', 'dev', port, 'parent', '1:', 'protocol', 'ip', 'prio', String(FILTER_PRIO)],
    ...['u32', 'match', 'ip', 'tos', tos, '0xfc', 'flowid', classOf(f.queue)],
  ];
}
