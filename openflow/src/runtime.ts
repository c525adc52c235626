/**
 * What the functions that the compiler generates (compileEncoders.ts, compileDecoders.ts, compileFactories.ts) call, as
 * `rt`: checks with their errors, and the kinds of fields that need more than a line. compile.ts hands it to them.
 */
import { formatIpv4, parseIpv4, readMac, writeMac } from './address.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfEncodeError } from './errors.ts';
import { decodeBareMatch, decodeMatch, encodeBareMatch, encodeMatch, isHeaded, OFPMatch } from './match.ts';
import { decodeOxmHeader, decodeOxms, encodeOxmHeader, encodeOxms } from './oxm.ts';
import { normaliseOxms } from './oxmForms.ts';
import { decodeStats, encodeStats, OFPStats } from './oxs.ts';
import { describe, fail, type Reader, readString, readText, type Writer, writeString, writeText } from './wire.ts';

const none = Buffer.alloc(0);

function badUint(cls: string, field: string, v: unknown, bits: number): never {
  throw new OfEncodeError(cls, field, `not an unsigned integer of ${bits} bits: ${describe(v)}`);
}
function toU64(v: unknown, cls: string, field: string): bigint {
  if (typeof v === 'bigint' && BigInt.asUintN(64, v) === v) return v;
  if (typeof v === 'number' && Number.isSafeInteger(v) && v >= 0) return BigInt(v);
  return badUint(cls, field, v, 64);
}
function toBuffer(v: unknown, cls: string, field: string): Buffer {
  if (Buffer.isBuffer(v)) return v;
  if (v instanceof Uint8Array) return Buffer.from(v.buffer, v.byteOffset, v.byteLength);
  throw new OfEncodeError(cls, field, `not bytes: ${describe(v)}`);
}
const macScratch = Buffer.alloc(6);

// The specification has no version above 6 today; the header has 8 bits for it. Words beyond are read past: keeping
// them would let 64 KiB of input become half a million numbers.
const BITMAP_WORDS = 8;

export const runtime = {
  fail,
  readMac,
  writeMac,
  readString,
  writeString,
  encodeMatch,
  decodeMatch,
  encodeBareMatch,
  decodeBareMatch,
  isHeaded,
  encodeOxms,
  decodeOxms,
  normaliseOxms,
  encodeOxmHeader,
  decodeOxmHeader,
  OFPMatch,
  encodeStats,
  decodeStats,
  OFPStats,
  readText,
  writeText,
  /** A message that shares the transaction id of the one around it gets that one unless it has one. */
  withXid(message: unknown, xid: unknown): unknown {
    if (xid === undefined || (message as { xid?: unknown } | null | undefined)?.xid !== 0) return message;
    return { ...(message as object), xid };
  },
  none,
  nothing: Object.freeze({}),
  badUint,
  u64: toU64,
  buffer: toBuffer,
  mac(v: unknown, cls: string, field: string): string {
    if (typeof v !== 'string' || !writeMac(macScratch, 0, v)) return runtime.badMac(cls, field, v);
    return readMac(macScratch, 0);
  },
  parseIpv4,
  formatIpv4,
  ipv4(v: unknown, cls: string, field: string): string {
    const address = typeof v === 'string' ? parseIpv4(v) : -1;
    return address < 0 ? runtime.badIpv4(cls, field, v) : formatIpv4(address);
  },
  badIpv4(cls: string, field: string, v: unknown): never {
    throw new OfEncodeError(cls, field, `not an IPv4 address: ${describe(v)}`);
  },
  badMac(cls: string, field: string, v: unknown): never {
    throw new OfEncodeError(cls, field, `not a MAC address: ${describe(v)}`);
  },
  badBytes(cls: string, field: string, v: unknown): never {
    throw new OfEncodeError(cls, field, `not bytes: ${describe(v)}`);
  },
  badCount(cls: string, field: string, n: number): never {
    throw new OfEncodeError(cls, field, `must have ${n} elements`);
  },
  badMember(o: unknown, familyName: string, cls: string, field: string): never {
    const got = (o as { cls?: unknown } | null | undefined)?.cls;
    throw new OfEncodeError(cls, field, `${got === undefined ? describe(o) : String(got)} is no ${familyName}`);
  },
  tooLong(cls: string): never {
    throw new OfEncodeError(cls, 'length', 'a message has at most 65535 bytes');
  },
  list(v: unknown, cls: string, field: string): readonly unknown[] {
    if (!Array.isArray(v)) throw new OfEncodeError(cls, field, `not an array: ${describe(v)}`);
    return v;
  },
  object(v: unknown, cls: string, field: string): void {
    if (typeof v !== 'object' || v === null) throw new OfEncodeError(cls, field, `not an object: ${describe(v)}`);
  },
  element(v: unknown, want: string, cls: string, field: string): void {
    if ((v as { cls?: unknown } | null | undefined)?.cls !== want) {
      throw new OfEncodeError(cls, field, `not an ${want}: ${describe(v)}`);
    }
  },
  put1(dv: DataView, p: number, v: unknown, cls: string, field: string): void {
    if (((v as number) & 255) !== v) badUint(cls, field, v, 8);
    dv.setUint8(p, v as number);
  },
  put2(dv: DataView, p: number, v: unknown, cls: string, field: string): void {
    if (((v as number) & 65535) !== v) badUint(cls, field, v, 16);
    dv.setUint16(p, v as number);
  },
  put4(dv: DataView, p: number, v: unknown, cls: string, field: string): void {
    if ((v as number) >>> 0 !== v) badUint(cls, field, v, 32);
    dv.setUint32(p, v as number);
  },
  bytes(r: Reader, p: number, end: number): Buffer {
    r.q = end;
    return r.b.subarray(p - r.base, end - r.base);
  },
  uints1(r: Reader, p: number, end: number): number[] {
    r.q = end;
    return Array.from(r.b.subarray(p - r.base, end - r.base));
  },
  uints2(r: Reader, p: number, end: number, t: number, code: number): number[] {
    if (((end - p) & 1) !== 0) fail(r, p, 'half-words cut short', t, code);
    const out: number[] = [];
    for (; p < end; p += 2) out.push(r.dv.getUint16(p));
    r.q = end;
    return out;
  },
  uints4(r: Reader, p: number, end: number, t: number, code: number): number[] {
    if (((end - p) & 3) !== 0) fail(r, p, 'words cut short', t, code);
    const out: number[] = [];
    for (; p < end; p += 4) out.push(r.dv.getUint32(p));
    r.q = end;
    return out;
  },
  encodeBitmap(v: unknown, w: Writer, cls: string, field: string): void {
    const numbers = runtime.list(v, cls, field) as readonly number[];
    const top = numbers.reduce((a, b) => Math.max(a, b), 0);
    const words = new Uint32Array(Math.floor(top / 32) + 1 > BITMAP_WORDS ? 0 : Math.floor(top / 32) + 1);
    for (const n of numbers) {
      const word = words[n >> 5];
      if ((n & 255) !== n || word === undefined) badUint(cls, field, n, 8);
      words[n >> 5] = word | (1 << (n & 31));
    }
    for (const word of words) {
      if (w.cap - w.p < 4) w.grow(4);
      w.dv.setUint32(w.p, word);
      w.p += 4;
    }
  },
  decodeBitmap(r: Reader, p: number, end: number): number[] {
    if (((end - p) & 3) !== 0) fail(r, p, 'bitmap cut short', ofp.OFPET_HELLO_FAILED, ofp.OFPHFC_INCOMPATIBLE);
    const out: number[] = [];
    for (let i = 0; i < BITMAP_WORDS && p + 4 * i < end; i++) {
      const word = r.dv.getUint32(p + 4 * i);
      for (let bit = 0; bit < 32; bit++) if ((word & (1 << bit)) !== 0) out.push(32 * i + bit);
    }
    r.q = end;
    return out;
  },
};
