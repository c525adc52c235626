/**
 * Discovery by the real controller: switches connect, their links are found by LLDP, one link goes down with its port and one
 * falls silent. Fat-trees and wide-area graphs of several sizes, one after the other, each with a fresh controller
 * (discoveryController.ts) and a fresh network (discoverySwitches.ts), both processes of their own.
 */
import { join } from 'node:path';
import type { BenchRow } from '../../contracts/bench.ts';
import type { Bench } from './bench.ts';
import type { Seen } from './discoveryController.ts';
import type { Fabric } from './discoverySwitches.ts';
import { Processes, ROOT, type Running } from './processes.ts';

type Network = Omit<Fabric, 'port'>;

/** Joins the next free ports of two switches. */
function join2(n: Network, a: number, b: number): void {
  const port = (sw: number) => {
    n.ports[sw] = (n.ports[sw] ?? 0) + 1;
    return n.ports[sw] as number;
  };
  n.cables.push([a, port(a), b, port(b)]);
}

/** A fat-tree of k-port switches without hosts: (k/2)² cores, and k pods of k/2 aggregation and k/2 edge switches (Al-Fares et al., SIGCOMM 2008, §3). */
export function fatTree(k: number): Network {
  const half = k / 2;
  const n: Network = { ports: new Array<number>(half * half + k * k).fill(0), cables: [] };
  for (let pod = 0; pod < k; pod++) {
    for (let i = 0; i < half; i++) {
      const aggregation = half * half + pod * k + i;
      for (let j = 0; j < half; j++) {
        join2(n, aggregation, half * half + pod * k + half + j);
        join2(n, aggregation, i * half + j);
      }
    }
  }
  return n;
}

/** A wide-area graph: a ring of all switches, and half as many chords between random ones, the same every time. */
export function wideArea(size: number): Network {
  const n: Network = { ports: new Array<number>(size).fill(0), cables: [] };
  let seed = 1;
  const random = () => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (seed >>> 8) % size;
  };
  for (let i = 0; i < size; i++) join2(n, i, (i + 1) % size);
  for (let i = 0; i < size / 2; i++) {
    const a = random();
    const b = random();
    if (a !== b) join2(n, a, b);
  }
  return n;
}

/** What is compared between the smallest and the largest network. */
const GROWTHS = [
  'all links found after',
  'processor time until then',
  'memory (RSS)',
  'link lost with its port, known after',
];
const round = (x: number): number => Math.round(x * 10) / 10;

/** The fat-tree with about as many switches as asked for: 5k²/4 of them. */
const arity = (size: number) => Math.max(2, 2 * Math.round(Math.sqrt((4 * size) / 5) / 2));

export const bench: Bench = {
  help: `Usage: npm run bench -- discovery [--json] [--sizes 10,100,1000] [--limit SECONDS]

The real controller and N emulated switches, as a fat-tree of about that size (980 switches for 1,000) and as a wide-area graph: time until all
are connected, until all links are found by LLDP, until the loss of a link is known (its port goes down; it falls silent), and
the controller's memory and processor time; and how each grows from the smallest to the largest size. A size is given up after --limit seconds (default 60) without its links.`,
  options: {
    sizes: { type: 'string', default: '10,100,1000' },
    limit: { type: 'string', default: '60' },
  },
  async run(options, progress) {
    const sizes = String(options.sizes).split(',').map(Number);
    const limitMs = Number(options.limit) * 1000;
    if (sizes.some((s) => !Number.isInteger(s) || s < 5) || !(limitMs > 0))
      throw new Error('--sizes takes whole numbers of at least 5, --limit a number of seconds');
    const results: BenchRow[] = [];
    const notes: string[] = [];
    for (const [kind, make] of [
      ['fat-tree', (size: number) => fatTree(arity(size))],
      ['wide area', wideArea],
    ] as const) {
      const taken: { switches: number; rows: Map<string, number> }[] = [];
      for (const size of sizes) {
        const network = make(size);
        const what = `${kind}, ${network.ports.length} switches, ${2 * network.cables.length} links`;
        progress(what);
        const rows = await measure(network, limitMs, (note) => notes.push(`${what}: ${note}`));
        for (const [metric, value, unit] of rows)
          results.push({ subject: 'fairway', metric: `${what}: ${metric}`, value, unit });
        taken.push({ switches: network.ports.length, rows: new Map(rows.map(([metric, value]) => [metric, value])) });
      }
      const [least, most] = [taken[0], taken.at(-1)];
      if (!least || !most || least === most) continue;
      for (const metric of GROWTHS) {
        const [before, after] = [least.rows.get(metric), most.rows.get(metric)];
        if (before === undefined || after === undefined) continue;
        const name = `${kind}, ${least.switches} to ${most.switches} switches (${round(most.switches / least.switches)} x): growth of ${metric}`;
        results.push({ subject: 'fairway', metric: name, value: after / before, unit: 'ratio' });
      }
    }
    return {
      format: 'bench-result/1',
      bench: 'discovery',
      results,
      notes: [
        ...notes,
        'links are directed; times are from the moment the first switch begins to connect, and from the loss; silence is noticed after 10 s by design',
        `memory is the controller's whole process after discovery; Node ${process.version}`,
      ],
    };
  },
};

/** Runs one network; what did not happen in time is left out and noted. */
async function measure(
  network: Network,
  limitMs: number,
  note: (text: string) => void,
): Promise<[metric: string, value: number, unit: string][]> {
  const rows: [string, number, string][] = [];
  const processes = new Processes();
  const child = (core: number, name: string, ...args: string[]): Running =>
    processes.start(core, process.execPath, join(ROOT, 'dist/test/bench', name), ...args);
  try {
    const controller = child(0, 'discoveryController.js');
    const fabric: Fabric = { ...network, port: Number(await controller.line()) };
    let seen = JSON.parse(await controller.line()) as Seen;
    const idle = seen;
    /** Reads on until something holds, or not in time. */
    const until = async (holds: (s: Seen) => boolean, withinMs: number): Promise<boolean> => {
      const end = Date.now() + withinMs;
      while (!holds(seen)) {
        if (Date.now() > end) return false;
        seen = JSON.parse(await controller.line()) as Seen;
      }
      return true;
    };
    const size = network.ports.length;
    const links = 2 * network.cables.length;
    const start = Date.now();
    const switches = child(1, 'discoverySwitches.js');
    switches.child.stdin?.write(`${JSON.stringify(fabric)}\n`);
    if (!(await until((s) => s.switches >= size, limitMs))) {
      note(`only ${seen.switches} of ${size} switches were connected in time`);
      return rows;
    }
    rows.push(['all connected after', (seen.switchesAtMs - start) / 1000, 's']);
    if (!(await until((s) => s.found - s.lost >= links, limitMs))) {
      note(`only ${seen.found - seen.lost} of ${links} links were found in time`);
      return rows;
    }
    if (seen.gone > 0) note(`${seen.gone} connections ended before all links were found, and came back`);
    rows.push(['all links found after', (seen.foundAtMs - start) / 1000, 's']);
    rows.push(['processor time until then', seen.cpuSeconds - idle.cpuSeconds, 's']);
    // Three seconds of a quiet network: what keeping it costs.
    const quiet = { at: Date.now(), ...seen };
    await until(() => Date.now() - quiet.at >= 3000, 10_000);
    rows.push([
      'processor load when quiet',
      (seen.cpuSeconds - quiet.cpuSeconds) / ((Date.now() - quiet.at) / 1000),
      'ratio',
    ]);
    rows.push(['memory (RSS)', seen.rssBytes / 1e6, 'MB'], ['heap', seen.heapBytes / 1e6, 'MB']);
    rows.push(['memory (RSS) over no switches', (seen.rssBytes - idle.rssBytes) / 1e6, 'MB']);
    for (const [order, metric] of [
      ['down', 'link lost with its port, known after'],
      ['cut', 'link lost in silence, known after'],
    ] as const) {
      const before = seen.lost;
      switches.child.stdin?.write(`${order}\n`);
      const at = Number(await switches.line());
      if (await until((s) => s.lost >= before + 2, 30_000)) rows.push([metric, seen.lostAtMs - at, 'ms']);
      else note(`${metric}: not within 30 s`);
    }
    return rows;
  } finally {
    await processes.close();
  }
}
