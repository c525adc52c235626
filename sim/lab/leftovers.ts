/**
 * What Fairway or the lab left behind, asked of the switches and the kernel themselves rather than of the controller:
 * flows by cookie prefix, meters, queues, tunnel ports, namespaces, processes. Scenarios report it; tests want it empty.
 */
import { readdirSync } from 'node:fs';
import { type Lab, ofctl, type SwitchAt, vsctl } from './network.ts';
import { attempt, run } from './shell.ts';
import { commandLine } from './state.ts';

/** Fairway's cookies begin with these 16 bits; the last 32 are the migration's number, or 0 (`controller/core/cookies.ts`). */
const OURS = 'cookie=0xfa1c000000000000/0xffff000000000000';

export interface LeftoverOptions {
  /**
   * True while a controller is connected: then flows that serve no single migration (forwarding, discovery) are its
   * ordinary work and no leftovers.
   */
  forwardingIsFine: boolean;
}

/** What is left in the switches of a lab that stands. Each as a text that names the switch. */
export async function switchLeftovers(lab: Lab, options: LeftoverOptions): Promise<string[]> {
  const lists = await Promise.all(lab.sites.map((site) => leftIn(lab.switches[site], options)));
  return lists.flat();
}

async function leftIn(sw: SwitchAt, options: LeftoverOptions): Promise<string[]> {
  const [flows, meters, queues, qos, interfaces, filters] = await Promise.all([
    ofctl(sw, 'dump-flows', [OURS]),
    ofctl(sw, 'dump-meters'),
    vsctl(sw, ['--bare', '--columns=_uuid', 'list', 'queue']),
    vsctl(sw, ['--bare', '--columns=_uuid', 'list', 'qos']),
    vsctl(sw, ['--format=csv', '--no-headings', '--columns=name,type', 'list', 'interface']),
    classFilters(sw),
  ]);
  return [
    ...parseFlows(flows)
      .filter((f) => !(options.forwardingIsFine && f.migration === 0))
      .map((f) => `flow ${f.text}`),
    ...[...meters.matchAll(/meter=(\d+)/g)].map((m) => `meter ${m[1]}`),
    ...words(queues).map((id) => `queue ${id}`),
    ...words(qos).map((id) => `qos ${id}`),
    ...interfaces
      .split('\n')
      .map((line) => line.replaceAll('"', '').split(','))
      .filter(([, type]) => type === 'vxlan' || type === 'gre' || type === 'geneve')
      .map(([name, type]) => `tunnel port ${name} (${type})`),
    ...filters,
  ].map((text) => `${sw.bridge}: ${text}`);
}

/** Filters that map DSCP to a queue's class, on the ports of rate-limited cables. */
async function classFilters(sw: SwitchAt): Promise<string[]> {
  const found: string[] = [];
  for (const port of sw.limitedPorts) {
    const shown = await attempt('ip', ['netns', 'exec', sw.namespace, 'tc', 'filter', 'show', 'dev', port, 'root']);
    if (!shown.ok) continue;
    for (const m of shown.stdout.matchAll(/flowid (\S+)/g)) found.push(`filter on ${port} to class ${m[1]}`);
  }
  return found;
}

/** Flows in the output of `ovs-ofctl dump-flows`, with the number of the migration they serve (0: none). */
export function parseFlows(dump: string): { migration: number; text: string }[] {
  return [...dump.matchAll(/^\s*cookie=0x([0-9a-f]+),.*$/gm)].map((m) => ({
    migration: Number(BigInt(`0x${m[1]}`) & 0xffffffffn),
    text: (m[0] as string).trim(),
  }));
}

const words = (text: string): string[] => text.split(/\s+/).filter(Boolean);

/**
 * Namespaces and processes of a lab that was taken down. Looks at the machine, not at the lab's own records: namespaces
 * by the prefix of their names, processes by the lab's directory in their command lines.
 */
export async function hostLeftovers(lab: Lab): Promise<string[]> {
  const namespaces = (await run('ip', ['netns', 'list'])).split('\n').map((l) => l.split(' ')[0] ?? '');
  const found = namespaces.filter((n) => n.startsWith(`${lab.prefix}-`)).map((n) => `namespace ${n}`);
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const line = commandLine(Number(name));
    if (line.includes(`${lab.stateDir}/`)) found.push(`process ${name} (${line})`);
  }
  return found;
}
