/**
 * The load of controller.ts, a process of its own: emulated switches that ask a learning switch for flows, and count what
 * comes back. It takes one `Load` as its argument, prints one `LoadResult` and ends. It works on bytes, so that the
 * controller is what limits the figures. Each switch first shows every address once; then each packet-in has two known addresses at
 * different ports, drawn at random, so that the right answer to each is one FLOW_MOD.
 */
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { encode, type OfMessage, of10, of13 } from 'node-openflow';

export interface Load {
  port: number;
  /** Process of the controller, whose processor time is taken. */
  pid: number;
  /** OpenFlow 1.0 or 1.3, by its number on the wire. */
  version: 1 | 4;
  switches: number;
  /** Addresses of each switch, a multiple of `PORTS`. */
  addresses: number;
  /** Packet-ins of each switch that wait for their answer: 1 measures latency. */
  outstanding: number;
  warmUpMs: number;
  measureMs: number;
}

export interface LoadResult {
  seconds: number;
  /** Processor time of the controller meanwhile, in s. */
  cpuSeconds: number;
  flowMods: number;
  /** Packet-outs while flow-mods were due. */
  packetOuts: number;
  /** From the write of a packet-in to the read of its FLOW_MOD, where one at a time is outstanding. */
  latencyMs: { p50: number; p95: number; p99: number } | null;
}

const PORTS = 8;
const TYPE = { error: 1, echoRequest: 2, echoReply: 3, featuresRequest: 5, getConfig: 7, packetOut: 13, flowMod: 14 };
const NO_BUFFER = 0xffff_ffff;
/** Latencies kept; more are not recorded, which at 20 s of 100,000 a second does not happen. */
const MAX_SAMPLES = 2_000_000;

const load = JSON.parse(process.argv[2] ?? 'null') as Load;
const is10 = load.version === 1;
const bytes = (m: OfMessage, xid = 0): Buffer => Buffer.from(encode(m, xid));

/** A UDP datagram of 64 bytes between addresses that are put in later. */
const frame = Buffer.from(
  `${'00'.repeat(12)}08004500003200000000401100000a0000010a000002040004d2001e0000${'00'.repeat(22)}`,
  'hex',
);
const packetIn = is10
  ? bytes(of10.OFPPacketIn({ buffer_id: 0, total_len: frame.length, in_port: 0, reason: 0, data: frame }))
  : bytes(of13.OFPPacketIn({ total_len: frame.length, reason: 0, match: of13.OFPMatch({ in_port: 0 }), data: frame }));
const DATA = packetIn.length - frame.length;

const samples = new Float64Array(load.outstanding === 1 ? MAX_SAMPLES : 0);
let sampled = 0;
let phase: 'learning' | 'warm' | 'measuring' | 'over' = 'learning';
let flowMods = 0;
let packetOuts = 0;
let seed = 0x2545f491;
/** Xorshift: the same addresses in the same order for every controller. */
function random(below: number): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return (seed >>> 0) % below;
}

class LoadSwitch {
  readonly #id: number;
  readonly socket: Socket;
  #rest: Buffer = Buffer.alloc(0);
  #bufferId = 1;
  #sentAt = 0;
  /** Addresses shown, and answers to them. */
  #shown = 0;
  #answered = 0;
  learned: () => void = () => {};
  ready: () => void = () => {};

  constructor(id: number) {
    this.#id = id;
    this.socket = connect({ port: load.port, host: '127.0.0.1', noDelay: true });
    this.socket.on('connect', () => this.socket.write(Buffer.from([load.version, 0, 0, 8, 0, 0, 0, 1])));
    this.socket.on('data', (chunk) => this.#read(chunk));
    this.socket.on('error', (error) => fail(`switch ${id}: ${error.message}`));
    this.socket.on('close', () => {
      if (phase !== 'over') fail(`switch ${id}: the controller ended the connection`);
    });
  }

  /** Shows addresses, some at a time: each is a broadcast, which a learning switch floods. */
  show(): void {
    const n = Math.min(32, load.addresses - this.#shown);
    const out = Buffer.allocUnsafe(n * packetIn.length);
    for (let i = 0; i < n; i++) this.#put(out, i * packetIn.length, this.#shown++, -1);
    this.socket.write(out);
  }

  /** Sends packet-ins between known addresses. */
  ask(n: number): void {
    const out = Buffer.allocUnsafe(n * packetIn.length);
    for (let i = 0; i < n; i++) {
      const src = random(load.addresses);
      // another port than the source's
      const dst = (src + 1 + random(PORTS - 1) + PORTS * random(load.addresses / PORTS)) % load.addresses;
      this.#put(out, i * packetIn.length, src, dst);
    }
    if (load.outstanding === 1) this.#sentAt = performance.now();
    this.socket.write(out);
  }

  #put(out: Buffer, at: number, src: number, dst: number): void {
    packetIn.copy(out, at);
    out.writeUInt32BE(this.#bufferId, at + 8);
    this.#bufferId = (this.#bufferId % 0x7fff_ffff) + 1;
    const port = 1 + (src % PORTS);
    if (is10) out.writeUInt16BE(port, at + 14);
    else out.writeUInt32BE(port, at + 32);
    if (dst < 0) out.fill(0xff, at + DATA, at + DATA + 6);
    else this.#address(out, at + DATA, dst);
    this.#address(out, at + DATA + 6, src);
  }

  #address(out: Buffer, at: number, index: number): void {
    out.writeUInt16BE(0x0200, at);
    out.writeUInt16BE(this.#id, at + 2);
    out.writeUInt16BE(index, at + 4);
  }

  #read(chunk: Buffer): void {
    const b = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    let answers = 0;
    while (b.length - at >= 8) {
      const length = ((b[at + 2] as number) << 8) | (b[at + 3] as number);
      if (length < 8) fail(`switch ${this.#id}: a message of length ${length}`);
      if (b.length - at < length) break;
      const type = b[at + 1];
      if (type === TYPE.flowMod) {
        const isAdd = is10 ? b.readUInt16BE(at + 56) === 0 : b[at + 25] === 0;
        if (phase !== 'learning' && isAdd) {
          answers++;
          if (phase === 'measuring') flowMods++;
        }
      } else if (type === TYPE.packetOut) {
        if (phase === 'learning') this.#learnedOne();
        else {
          if (phase === 'measuring') packetOuts++;
          if (b.readUInt32BE(at + 8) !== NO_BUFFER) answers++;
        }
      } else if (type !== 0) this.#other(b.subarray(at, at + length));
      at += length;
    }
    this.#rest = at === b.length ? Buffer.alloc(0) : Buffer.from(b.subarray(at));
    if (answers === 0 || phase === 'over') return;
    if (load.outstanding === 1 && phase === 'measuring' && sampled < MAX_SAMPLES)
      samples[sampled++] = performance.now() - this.#sentAt;
    this.ask(answers);
  }

  #learnedOne(): void {
    this.#answered++;
    if (this.#answered === load.addresses) this.learned();
    else if (this.#answered === this.#shown) this.show();
  }

  /** What a controller asks before and beside. */
  #other(b: Buffer): void {
    const xid = b.readUInt32BE(4);
    const reply = (m: OfMessage) => this.socket.write(bytes(m, xid));
    const dpid = BigInt(this.#id);
    switch (b[1]) {
      case TYPE.echoRequest: {
        const echo = Buffer.from(b);
        echo[1] = TYPE.echoReply;
        this.socket.write(echo);
        return;
      }
      case TYPE.featuresRequest:
        reply(
          is10
            ? of10.OFPSwitchFeatures({ datapath_id: dpid, n_buffers: 256, n_tables: 1 })
            : of13.OFPSwitchFeatures({ datapath_id: dpid, n_buffers: 256, n_tables: 1 }),
        );
        this.ready();
        return;
      case TYPE.getConfig:
        reply(is10 ? of10.OFPGetConfigReply({ miss_send_len: 128 }) : of13.OFPGetConfigReply({ miss_send_len: 128 }));
        return;
      case is10 ? 18 : 20:
        reply(is10 ? of10.OFPBarrierReply({}) : of13.OFPBarrierReply({}));
        return;
      case 18:
        // the ports, which os-ken asks for
        if (b.readUInt16BE(8) === 13) reply(of13.OFPPortDescStatsReply({ body: [] }));
        return;
      case TYPE.error:
        fail(`switch ${this.#id}: error type ${b.readUInt16BE(8)} code ${b.readUInt16BE(10)} from the controller`);
    }
  }
}

function fail(why: string): never {
  process.stderr.write(`${why}\n`);
  process.exit(1);
}

/** User and system time of the controller in s; the kernel counts it in hundredths (proc(5), stat). */
function cpuSeconds(): number {
  const [, rest] = readFileSync(`/proc/${load.pid}/stat`, 'utf8').split(') ');
  const fields = (rest ?? '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

// Whoever started this is gone when its pipe is.
process.stdin.on('end', () => process.exit(1)).resume();
const all = Array.from({ length: load.switches }, (_, i) => new LoadSwitch(i + 1));
await Promise.all(
  all.map(
    (s) =>
      new Promise<void>((resolve) => {
        s.ready = resolve;
      }),
  ),
);
// Controllers finish their side of the introduction: packet-ins that come too early are dropped by some.
await pause(300);
await Promise.all(
  all.map(
    (s) =>
      new Promise<void>((resolve) => {
        s.learned = resolve;
        s.show();
      }),
  ),
);
phase = 'warm';
for (const s of all) s.ask(load.outstanding);
await pause(load.warmUpMs);
const cpuBefore = cpuSeconds();
const start = performance.now();
phase = 'measuring';
await pause(load.measureMs);
phase = 'over';
const seconds = (performance.now() - start) / 1000;
const sorted = samples.subarray(0, sampled).sort();
const percentile = (p: number) => sorted[Math.min(sampled - 1, Math.floor(sampled * p))] as number;
const result: LoadResult = {
  seconds,
  cpuSeconds: cpuSeconds() - cpuBefore,
  flowMods,
  packetOuts,
  latencyMs: sampled === 0 ? null : { p50: percentile(0.5), p95: percentile(0.95), p99: percentile(0.99) },
};
process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
