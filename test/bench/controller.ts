/**
 * Learning-switch work: `fairway controller --app learning` beside os-ken and Open vSwitch's own test controller, in one run
 * with the same load (loadSwitch.ts). Each controller has core 0, the load core 1; they take turns, so that a busy machine
 * slows all. Processor time is counted too, for that hardly depends on what else runs.
 */
import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { BenchRow } from '../../contracts/bench.ts';
import type { Bench } from './bench.ts';
import type { Load, LoadResult } from './loadSwitch.ts';
import { freePort, Processes, ROOT } from './processes.ts';

const PYTHON = '/usr/bin/python3';
const TEST_CONTROLLER = '/usr/bin/ovs-testcontroller';
const SUBJECT_CORE = 0;
const LOAD_CORE = 1;
const OURS = 'fairway';

const SUBJECTS: readonly { name: string; command: (port: number) => readonly [string, ...string[]] }[] = [
  {
    name: OURS,
    command: (port) => [
      process.execPath,
      join(ROOT, 'cli/fairway.mjs'),
      ...['controller', '--app', 'learning', '--log-level', 'error', '--listen', `127.0.0.1:${port}`],
    ],
  },
  {
    name: 'os-ken',
    command: (port) => [PYTHON, join(ROOT, 'test/bench/peers/os_ken_learning.py'), String(port)],
  },
  {
    name: 'ovs-testcontroller',
    command: (port) => [TEST_CONTROLLER, '--unixctl=none', '-voff', `ptcp:${port}:127.0.0.1`],
  },
];

const VERSIONS = [
  { version: 1, text: 'OpenFlow 1.0' },
  { version: 4, text: 'OpenFlow 1.3' },
] as const;

const median = (all: readonly number[]): number => [...all].sort((a, b) => a - b)[all.length >> 1] as number;

/** Resolves once something accepts connections at a port. */
async function listening(port: number, what: string): Promise<void> {
  for (let i = 0; i < 200; i++) {
    const accepts = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1', () => {
        socket.destroy();
        resolve(true);
      });
      socket.on('error', () => resolve(false));
    });
    if (accepts) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${what} does not accept connections after 20 s`);
}

export const bench: Bench = {
  help: `Usage: npm run bench -- controller [--json] [--rounds N] [--seconds N] [--switches N] [--outstanding N]

Learning-switch work of fairway, os-ken (Debian python3-os-ken) and ovs-testcontroller (Debian openvswitch-testcontroller),
in OpenFlow 1.0 and 1.3: N emulated switches (default 8) with 1,000 addresses each send packet-ins between known addresses.
Throughput: N packet-ins outstanding per switch (default 128); latency: one. FLOW_MODs are counted, nothing else. The median
of N rounds (default 3) of N seconds (default 1.5) each.`,
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '1.5' },
    switches: { type: 'string', default: '8' },
    outstanding: { type: 'string', default: '128' },
  },
  async run(options, progress) {
    const [rounds, seconds, switches, outstanding] = ['rounds', 'seconds', 'switches', 'outstanding'].map((k) =>
      Number(options[k]),
    ) as [number, number, number, number];
    if (![rounds, switches, outstanding].every((n) => Number.isInteger(n) && n > 0) || !(seconds > 0))
      throw new Error('--rounds, --switches and --outstanding take whole numbers above 0, --seconds a number above 0');
    if (!existsSync(TEST_CONTROLLER))
      throw new Error(`${TEST_CONTROLLER} is missing: run scripts/setup-system.sh as root`);
    const results: BenchRow[] = [];
    const taken = new Map<string, LoadResult[]>();
    const processes = new Processes();
    try {
      const subjects: { name: string; port: number; pid: number }[] = [];
      for (const { name, command } of SUBJECTS) {
        const port = await freePort();
        const [program, ...args] = command(port);
        const { pid } = processes.start(SUBJECT_CORE, program, ...args);
        await listening(port, name);
        subjects.push({ name, port, pid });
      }
      for (const { version, text } of VERSIONS) {
        for (const mode of ['throughput', 'latency'] as const) {
          for (let round = 1; round <= rounds; round++) {
            for (const { name, port, pid } of subjects) {
              const load: Load = {
                port,
                pid,
                version,
                switches,
                addresses: 1000,
                outstanding: mode === 'latency' ? 1 : outstanding,
                warmUpMs: 500,
                measureMs: seconds * 1000,
              };
              const script = join(ROOT, 'dist/test/bench/loadSwitch.js');
              const running = processes.start(LOAD_CORE, process.execPath, script, JSON.stringify(load));
              const result = JSON.parse(await running.line()) as LoadResult;
              const key = `${text} ${mode} ${name}`;
              taken.set(key, [...(taken.get(key) ?? []), result]);
              progress(`${key}, round ${round}: ${Math.round(result.flowMods / result.seconds)} FLOW_MODs/s`);
            }
          }
        }
      }
    } finally {
      await processes.close();
    }
    const compare = (metric: string, unit: string, of: (r: LoadResult) => number, key: string, isRate: boolean) => {
      const values = SUBJECTS.map(({ name }) => ({ name, value: median((taken.get(`${key} ${name}`) ?? []).map(of)) }));
      for (const { name, value } of values) results.push({ subject: name, metric, value, unit });
      if (!isRate) return;
      const ours = values.find((v) => v.name === OURS)?.value ?? 0;
      for (const { name, value } of values)
        if (name !== OURS) results.push({ subject: `${OURS} / ${name}`, metric, value: ours / value, unit: 'ratio' });
    };
    for (const { text } of VERSIONS) {
      const throughput = `${text} throughput`;
      compare(`${throughput}, FLOW_MODs/s`, '1/s', (r) => r.flowMods / r.seconds, throughput, true);
      compare(
        `${throughput}, FLOW_MODs per CPU second`,
        '1/s',
        (r) => r.flowMods / Math.max(0.01, r.cpuSeconds),
        throughput,
        true,
      );
      const latency = `${text} latency`;
      compare(`${latency} mode, FLOW_MODs/s`, '1/s', (r) => r.flowMods / r.seconds, latency, true);
      compare(
        `${latency} mode, FLOW_MODs per CPU second`,
        '1/s',
        (r) => r.flowMods / Math.max(0.01, r.cpuSeconds),
        latency,
        true,
      );
      for (const p of ['p50', 'p95', 'p99'] as const)
        compare(`${latency} ${p}`, 'ms', (r) => r.latencyMs?.[p] ?? Number.NaN, latency, false);
    }
    const others = [...taken.values()].flat().reduce((n, r) => n + r.packetOuts, 0);
    return {
      format: 'bench-result/1',
      bench: 'controller',
      results,
      notes: [
        `median of ${rounds} rounds of ${seconds} s each, taking turns; ${switches} switches with 1,000 addresses each; the controller has core ${SUBJECT_CORE}, the load core ${LOAD_CORE}; Node ${process.version}`,
        `throughput: ${outstanding} packet-ins outstanding per switch; latency: one per switch, from the write of the packet-in to the read of its FLOW_MOD`,
        `packet-ins have buffer ids, so that one FLOW_MOD is the whole answer; packet-outs, of which there were ${others}, are not counted`,
        'a ratio above 1 means that ours does more',
      ],
    };
  },
};
