/**
 * `npm run -w openflow fuzz -- [--count N] [--seed N]`: valid messages of every class and version, mutated, are thrown at
 * the codec. Whatever decodes must encode again, decode to the same and print; whatever does not must say so with
 * OfDecodeError and nothing else. Exit status 1 when anything else happens; the seed repeats a run exactly.
 */
import { isDeepStrictEqual, parseArgs } from 'node:util';
import fc from 'fast-check';
import { decode, encode, format, MessageSplitter, OfDecodeError, toJson, VERSIONS } from '../../src/index.ts';
import { messageArb, messageNames } from '../arbitrary.ts';

export interface FuzzReport {
  readonly seed: number;
  readonly classes: number;
  readonly corpus: number;
  readonly mutated: number;
  readonly decoded: number;
  readonly refused: number;
  /** Refusals by version on the wire. */
  readonly refusedByVersion: Readonly<Record<number, number>>;
  /** Longest time one message took, in ms: the least of five tries of it. */
  readonly slowestMs: number;
  /** Most bytes of heap after a collection-free stretch of 1,000 messages, per byte of their input. */
  readonly heapPerByte: number;
  /** What must not happen: one entry for each kind, with the bytes that caused it. */
  readonly escapes: readonly { readonly what: string; readonly hex: string; readonly count: number }[];
}

/** Numbers from a seed: xorshift of 32 bits. */
function random(seed: number): (below: number) => number {
  let x = seed >>> 0 || 1;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

/** Values at which length and type fields turn. */
const EDGES = [0, 1, 3, 4, 7, 8, 9, 12, 15, 16, 24, 127, 128, 255];

function mutate(bytes: Buffer, other: Buffer, rnd: (below: number) => number): Buffer {
  let out = Buffer.from(bytes);
  for (let n = 1 + rnd(4); n > 0; n--) {
    const at = rnd(out.length);
    switch (rnd(9)) {
      case 0:
        out[at] = rnd(256);
        break;
      case 1:
        out[at] = EDGES[rnd(EDGES.length)] as number;
        break;
      case 2:
        out[at] = (out[at] as number) ^ (1 << rnd(8));
        break;
      case 3:
        if (at + 1 < out.length) out.writeUInt16BE(rnd(2) === 0 ? rnd(65536) : rnd(out.length + 16), at);
        break;
      case 4:
        out = out.subarray(0, Math.max(8, at));
        break;
      case 5:
        out = Buffer.concat([out.subarray(0, at), other.subarray(rnd(other.length))]);
        break;
      case 6: {
        // a piece repeated, which moves what follows out of step
        const end = Math.min(out.length, at + 1 + rnd(32));
        out = Buffer.concat([out.subarray(0, end), out.subarray(at)]);
        break;
      }
      case 7:
        out = Buffer.concat([out.subarray(0, at), out.subarray(Math.min(out.length, at + 1 + rnd(16)))]);
        break;
      default:
        if (at + 3 < out.length) out.writeUInt32BE(rnd(2) === 0 ? 0xffffffff : rnd(0x10000), at);
    }
    if (out.length < 8) out = Buffer.concat([out, Buffer.alloc(8 - out.length)]);
    if (out.length > 65535) out = out.subarray(0, 65535);
  }
  // A header that tells the truth lets the mutation reach what lies below it; now and then it lies.
  if (rnd(16) !== 0) {
    out[0] = rnd(8) === 0 ? (VERSIONS[rnd(VERSIONS.length)] as number) : (bytes[0] as number);
    out.writeUInt16BE(out.length, 2);
  }
  return out;
}

/** What one sequence of bytes led to. */
function attempt(bytes: Buffer, thorough: boolean): 'decoded' | 'refused' | { what: string } {
  let msg: ReturnType<typeof decode>;
  try {
    msg = decode(bytes);
  } catch (e) {
    if (!(e instanceof OfDecodeError)) return { what: `decode threw ${String(e).slice(0, 120)}` };
    if (!(e.offset >= 0 && e.offset <= bytes.length)) return { what: `offset ${e.offset} outside the message` };
    const { type, code } = e.ofError;
    if (type >>> 0 !== type || code >>> 0 !== code) return { what: 'no OpenFlow error to answer with' };
    return 'refused';
  }
  try {
    const again = encode(msg);
    if (thorough) {
      if (!isDeepStrictEqual(decode(again), msg)) return { what: `${msg.cls} of version ${msg.version} changed` };
      toJson(msg);
      format(msg);
    }
  } catch (e) {
    return { what: `${msg.cls} of version ${msg.version} decoded, then: ${String(e).slice(0, 120)}` };
  }
  return 'decoded';
}

/** Least time of five: what the bytes cost, without what else the machine was doing. */
function leastMs(bytes: Buffer): number {
  let least = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 5; i++) {
    const before = performance.now();
    attempt(bytes, true);
    least = Math.min(least, performance.now() - before);
  }
  return least;
}

/** Mutates `count` messages. `progress` is told now and then how many are done. */
function fuzz(count: number, seed: number, progress: (done: number) => void): FuzzReport {
  const classes = VERSIONS.flatMap((version) => messageNames(version).map((cls) => ({ version, cls })));
  const corpus = classes.flatMap(({ version, cls }) =>
    fc.sample(messageArb(cls, { plain: false, version }), { seed, numRuns: 12 }).map((msg) => Buffer.from(encode(msg))),
  );
  const rnd = random(seed);
  let decoded = 0;
  let refused = 0;
  let slowestMs = 0;
  let heapPerByte = 0;
  const refusedByVersion: Record<number, number> = {};
  const escapes = new Map<string, { what: string; hex: string; count: number }>();
  let heap = process.memoryUsage().heapUsed;
  let bytesSince = 0;
  for (let i = 0; i < count; i++) {
    const bytes = mutate(corpus[rnd(corpus.length)] as Buffer, corpus[rnd(corpus.length)] as Buffer, rnd);
    bytesSince += bytes.length;
    const before = performance.now();
    const outcome = attempt(bytes, i % 4 === 0);
    if (performance.now() - before > slowestMs) slowestMs = Math.max(slowestMs, leastMs(bytes));
    if (outcome === 'decoded') decoded++;
    else if (outcome === 'refused') {
      refused++;
      const version = bytes[0] as number;
      refusedByVersion[version] = (refusedByVersion[version] ?? 0) + 1;
    } else {
      const known = escapes.get(outcome.what);
      if (known === undefined) escapes.set(outcome.what, { what: outcome.what, hex: bytes.toString('hex'), count: 1 });
      else known.count++;
    }
    if (i % 1000 === 999) {
      const now = process.memoryUsage().heapUsed;
      heapPerByte = Math.max(heapPerByte, (now - heap) / bytesSince);
      heap = now;
      bytesSince = 0;
    }
    if (i % 10_000 === 9_999) {
      // the same bytes as a stream, cut anywhere
      const splitter = new MessageSplitter();
      const cut = rnd(bytes.length);
      try {
        splitter.push(bytes.subarray(0, cut));
        splitter.push(bytes.subarray(cut));
      } catch (e) {
        if (!(e instanceof OfDecodeError)) {
          const what = `the splitter threw ${String(e).slice(0, 120)}`;
          escapes.set(what, { what, hex: bytes.toString('hex'), count: 1 });
        }
      }
      progress(i + 1);
    }
  }
  return {
    seed,
    classes: classes.length,
    corpus: corpus.length,
    mutated: count,
    decoded,
    refused,
    refusedByVersion,
    slowestMs,
    heapPerByte,
    escapes: [...escapes.values()],
  };
}

const HELP = `Usage: npm run -w openflow fuzz -- [--count N] [--seed N] [--json]

Mutates N valid messages (default 1,000,000) of every class and version, and decodes them.
Exit status: 0 only OfDecodeError escaped · 1 something else did · 2 wrong usage
`;

function main(): number {
  const { values } = parseArgs({
    options: {
      count: { type: 'string', default: '1000000' },
      seed: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const count = Number(values.count);
  const seed = values.seed === undefined ? Date.now() % 0x7fffffff : Number(values.seed);
  if (!Number.isSafeInteger(count) || count < 1 || !Number.isSafeInteger(seed)) {
    process.stderr.write(`fuzz: --count and --seed take whole numbers\n${HELP}`);
    return 2;
  }
  const report = fuzz(count, seed, (done) => {
    if (process.stderr.isTTY) process.stderr.write(`\r${done.toLocaleString('en')} of ${count.toLocaleString('en')}`);
  });
  if (process.stderr.isTTY) process.stderr.write('\n');
  if (values.json) process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
  else {
    const n = (v: number) => v.toLocaleString('en');
    process.stdout.write(
      `seed ${seed}: ${n(report.mutated)} mutations of ${n(report.corpus)} messages of ${report.classes} classes\n` +
        `decoded ${n(report.decoded)}, refused with OfDecodeError ${n(report.refused)}, anything else ${n(
          report.escapes.reduce((sum, e) => sum + e.count, 0),
        )}\n` +
        `slowest ${report.slowestMs.toFixed(1)} ms, heap at most ${report.heapPerByte.toFixed(1)} bytes per byte of input\n`,
    );
    for (const e of report.escapes) process.stdout.write(`${n(e.count)} x ${e.what}\n  ${e.hex}\n`);
  }
  return report.escapes.length === 0 ? 0 : 1;
}

try {
  process.exitCode = main();
} catch (e) {
  process.stderr.write(`fuzz: ${e instanceof Error ? e.message : String(e)}\n${HELP}`);
  process.exitCode = 2;
}
