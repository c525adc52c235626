/**
 * The codec of node-openflow beside os-ken's, in one run, one core each: the two take turns, so that a busy machine slows
 * both. Then where our own time goes, by the sampling profiler.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { Session } from 'node:inspector/promises';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { decode, encode, type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import type { BenchRow } from '../../contracts/bench.ts';
import type { Bench } from './bench.ts';

const PYTHON = '/usr/bin/python3';
// dist/test/bench → test/bench
const SCRIPT = join(dirname(fileURLToPath(import.meta.url)), '../../../test/bench/peers/os_ken_codec.py');
const FLOWS = 50;

function flowMod() {
  return of13.OFPFlowMod({
    cookie: 0x1234n,
    priority: 100,
    match: of13.OFPMatch({ in_port: 1, eth_type: 0x0800, ipv4_src: '10.0.0.1', ipv4_dst: '10.0.0.2' }),
    instructions: [
      of13.OFPInstructionActions({
        type: ofp.OFPIT_APPLY_ACTIONS,
        actions: [of13.OFPActionSetQueue({ queue_id: 3 }), of13.OFPActionOutput({ port: 2, max_len: 0xffe5 })],
      }),
    ],
  });
}
const packetIn = () =>
  of13.OFPPacketIn({
    total_len: 64,
    reason: ofp.OFPR_NO_MATCH,
    cookie: 7n,
    match: of13.OFPMatch({ in_port: 1 }),
    data: Buffer.alloc(64, 0x5a),
  });
function flowStats() {
  const { match, instructions } = flowMod();
  const one = of13.OFPFlowStats({ priority: 100, packet_count: 1n << 40n, byte_count: 1n << 50n, match, instructions });
  return of13.OFPFlowStatsReply({ body: Array.from({ length: FLOWS }, () => one) });
}

/** Times per second, over at least `seconds`. */
function repeat(once: () => void, seconds: number): number {
  let n = 0;
  const start = performance.now();
  for (;;) {
    for (let i = 0; i < 2000; i++) once();
    n += 2000;
    const elapsed = (performance.now() - start) / 1000;
    if (elapsed >= seconds) return n / elapsed;
  }
}

/** os-ken in a process of its own. */
class Peer {
  readonly #child: ChildProcessWithoutNullStreams = spawn(PYTHON, ['-u', SCRIPT]);
  #answer: ((line: string) => void) | undefined;
  #fail: ((e: Error) => void) | undefined;
  #stderr = '';

  constructor() {
    createInterface({ input: this.#child.stdout }).on('line', (line) => this.#answer?.(line));
    this.#child.stderr.on('data', (d: Buffer) => {
      this.#stderr += d.toString();
    });
    this.#child.stdin.on('error', () => undefined);
    this.#child.on('error', (e) => this.#fail?.(e));
    this.#child.on('exit', () => this.#fail?.(new Error(`os-ken: ${this.#stderr.trim().split('\n').at(-1)}`)));
  }

  ask<T>(question: object): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#answer = (line) => resolve(JSON.parse(line) as T);
      this.#fail = reject;
      this.#child.stdin.write(`${JSON.stringify(question)}\n`);
    });
  }

  close(): void {
    this.#fail = undefined;
    this.#child.stdin.end();
  }
}

const median = (all: readonly number[]): number => [...all].sort((a, b) => a - b)[all.length >> 1] as number;

/** Functions by their share of the samples taken while `run` runs. */
async function profile(run: () => void): Promise<string> {
  const session = new Session();
  session.connect();
  await session.post('Profiler.enable');
  await session.post('Profiler.start');
  run();
  const { profile: taken } = await session.post('Profiler.stop');
  session.disconnect();
  const share = new Map<string, number>();
  const names = new Map(taken.nodes.map((n) => [n.id, n.callFrame.functionName || '(top)']));
  const samples = taken.samples ?? [];
  for (const id of samples) {
    const name = names.get(id) ?? '?';
    share.set(name, (share.get(name) ?? 0) + 1 / samples.length);
  }
  return [...share]
    .sort(([, a], [, b]) => b - a)
    .slice(0, 6)
    .map(([name, s]) => `${name} ${(100 * s).toFixed(0)} %`)
    .join(', ');
}

export const bench: Bench = {
  help: `Usage: npm run bench -- openflow [--json] [--seconds N] [--rounds N]

Encodes flow-mods and decodes packet-ins and flow statistics of OpenFlow 1.3 with node-openflow and, in the same run,
with os-ken (Debian python3-os-ken): messages per second, the median of N rounds (default 5) of N seconds (default 0.6).`,
  options: { seconds: { type: 'string', default: '0.6' }, rounds: { type: 'string', default: '5' } },
  async run(options, progress) {
    const seconds = Number(options.seconds);
    const rounds = Number(options.rounds);
    if (!(seconds > 0) || !Number.isInteger(rounds) || rounds < 1)
      throw new Error('--seconds and --rounds take numbers');
    const ready = flowMod();
    const bytes = (m: OfMessage) => Buffer.from(encode(m));
    const packetInBytes = bytes(packetIn());
    const flowStatsBytes = bytes(flowStats());
    const works = [
      { metric: 'flow-mod encodes/s', ours: () => encode(ready), theirs: { work: 'encode' } },
      { metric: 'flow-mod builds and encodes/s', ours: () => encode(flowMod()), theirs: { work: 'build' } },
      {
        metric: 'packet-in decodes/s',
        ours: () => decode(packetInBytes),
        theirs: { work: 'decode', hex: packetInBytes.toString('hex') },
      },
      {
        metric: `flow-stats decodes/s (${FLOWS} flows each)`,
        ours: () => decode(flowStatsBytes),
        theirs: { work: 'decode', hex: flowStatsBytes.toString('hex') },
      },
    ];
    const results: BenchRow[] = [];
    const notes: string[] = [];
    const peer = new Peer();
    try {
      const { python, hex } = await peer.ask<{ python: string; hex: string }>({ work: 'version' });
      if (hex !== encode(ready, 1).toString('hex')) throw new Error(`the two do not encode the same: ${hex}`);
      for (const { metric, ours, theirs } of works) {
        progress(metric);
        repeat(ours, seconds / 2);
        const mine: number[] = [];
        const other: number[] = [];
        for (let i = 0; i < rounds; i++) {
          mine.push(repeat(ours, seconds));
          other.push((await peer.ask<{ perSecond: number }>({ ...theirs, seconds })).perSecond);
        }
        results.push({ subject: 'fairway', metric, value: median(mine), unit: '1/s' });
        results.push({ subject: 'os-ken', metric, value: median(other), unit: '1/s' });
        results.push({ subject: 'fairway / os-ken', metric, value: median(mine) / median(other), unit: 'ratio' });
        notes.push(`where the time of ${metric.replace('/s', '')} goes: ${await profile(() => repeat(ours, seconds))}`);
      }
      notes.unshift(
        `median of ${rounds} rounds of ${seconds} s each, taking turns; Node ${process.version}, Python ${python}`,
        'both write the same bytes for the same flow-mod (checked); a ratio above 1 means that ours is faster',
      );
    } finally {
      peer.close();
    }
    return { format: 'bench-result/1', bench: 'openflow', results, notes };
  },
};
