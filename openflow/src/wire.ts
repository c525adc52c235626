/**
 * The bytes under the codec: one growing output buffer and one bounded input view, both reused between messages so that
 * the generated functions of compile.ts allocate nothing per field. Used by runtime.ts, oxm.ts and codec.ts.
 */
import { OfDecodeError, OfEncodeError } from './errors.ts';

/** Versions by their numbers on the wire: OpenFlow 1.0, 1.2, 1.3, 1.4 and 1.5. */
export type Version = 1 | 3 | 4 | 5 | 6;

/** Largest message the 16-bit length of the header can tell. OpenFlow 1.3.5 §7.1. */
export const MAX_MESSAGE = 65535;
// Small arenas keep little memory alive when a caller holds on to one short message.
const ARENA = 32 * 1024;

/** Output: messages are written one after the other into an arena, and handed out as views of it. */
export class Writer {
  b: Buffer = Buffer.allocUnsafeSlow(ARENA);
  dv: DataView = new DataView(this.b.buffer, this.b.byteOffset, this.b.length);
  cap: number = ARENA;
  /** Next byte to write. */
  p = 0;
  /** Version that is being written. */
  version: Version = 4;
  /** Transaction id to write in place of the message's own. */
  xid: number | undefined = undefined;
  /** How many messages deep: messages can hold messages. */
  depth = 0;
  /** First byte of the message being written; offsets kept across nested calls are relative to it. */
  start = 0;

  /** Makes room for `n` more bytes, moving the unfinished message to a new arena. */
  grow(n: number): void {
    const used = this.p - this.start;
    // Twice the limit: the exact check is made once, at the end of the message.
    if (used + n > 2 * MAX_MESSAGE) throw new OfEncodeError('message', 'length', `more than ${MAX_MESSAGE} bytes`);
    const next = Buffer.allocUnsafeSlow(Math.max(ARENA, 2 * (used + n)));
    this.b.copy(next, 0, this.start, this.p);
    this.b = next;
    this.dv = new DataView(next.buffer, next.byteOffset, next.length);
    this.cap = next.length;
    this.start = 0;
    this.p = used;
  }

  begin(version: Version, xid?: number): void {
    this.version = version;
    this.xid = xid;
    this.depth = 0;
    // An encoder that threw left `p` in the middle of its message: `start` is where the free space begins.
    this.p = this.start;
  }

  /** Hands out what was written since `begin`. */
  take(): Buffer {
    const out = this.b.subarray(this.start, this.p);
    this.start = this.p;
    return out;
  }

  bytes(v: Uint8Array): void {
    const n = v.length;
    if (this.cap - this.p < n) this.grow(n);
    this.b.set(v, this.p);
    this.p += n;
  }

  zeros(n: number): void {
    if (n <= 0) return;
    if (this.cap - this.p < n) this.grow(n);
    this.b.fill(0, this.p, this.p + n);
    this.p += n;
  }
}

/** Input: positions are absolute in the underlying ArrayBuffer, so that one DataView serves every message cut from it. */
export interface Reader {
  b: Buffer;
  dv: DataView;
  ab: ArrayBufferLike | undefined;
  /** Position of the message's first byte. */
  base: number;
  /** Where the last variable-length decoder stopped. */
  q: number;
  /** Version to read, and the one in the header: they differ for messages that look alike in all versions. */
  version: Version;
  seen: number;
  type: number;
  /** How many messages deep: messages can hold messages. */
  depth: number;
  /** How many structures that hold others of their own family are being read, one inside the other. */
  inside: number;
}

export function newReader(): Reader {
  const b = Buffer.alloc(0);
  return {
    b,
    dv: new DataView(b.buffer),
    ab: undefined,
    base: 0,
    q: 0,
    version: 4,
    seen: 0,
    type: 0,
    depth: 0,
    inside: 0,
  };
}

/** Throws: `what` was wrong at absolute position `p`. */
export function fail(r: Reader, p: number, what: string, type: number, code: number): never {
  throw new OfDecodeError(what, { version: r.seen, type: r.type, offset: p - r.base, ofError: { type, code } });
}

const utf8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** Length of the valid UTF-8 sequence at `i`, 0 when there is none. */
function sequence(b: Uint8Array, i: number, end: number): number {
  const c = b[i] as number;
  if (c < 0x80) return 1;
  const n = c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
  if (n === 0 || i + n > end) return 0;
  for (let k = 1; k < n; k++) if (((b[i + k] as number) & 0xc0) !== 0x80) return 0;
  const d = b[i + 1] as number;
  // overlong forms, surrogates, beyond U+10FFFF
  if ((c === 0xe0 && d < 0xa0) || (c === 0xed && d > 0x9f) || (c === 0xf0 && d < 0x90) || (c === 0xf4 && d > 0x8f))
    return 0;
  return n;
}

/**
 * Fixed-width string: trailing NULs are padding, as in Ryu. Bytes that are not UTF-8 become lone surrogates U+DC80 to
 * U+DCFF (Python calls it surrogateescape), which `writeString` turns back, so that no name loses bytes.
 */
export function readString(r: Reader, p: number, size: number): string {
  const b = r.b;
  const from = p - r.base;
  let end = from + size;
  while (end > from && b[end - 1] === 0) end--;
  return textOf(b, from, end);
}

/** Text of any width, up to `end`; leaves `r.q` there. */
export function readText(r: Reader, p: number, end: number): string {
  r.q = end;
  return textOf(r.b, p - r.base, end - r.base);
}

function textOf(b: Buffer, from: number, end: number): string {
  let ascii = true;
  for (let i = from; i < end && ascii; i++) ascii = (b[i] as number) < 0x80;
  if (ascii) return b.toString('latin1', from, end);
  let out = '';
  let start = from;
  for (let i = from; i < end; ) {
    const n = sequence(b, i, end);
    if (n === 0) {
      out += utf8.decode(b.subarray(start, i)) + String.fromCharCode(0xdc00 + (b[i] as number));
      start = ++i;
    } else {
      i += n;
    }
  }
  return out + utf8.decode(b.subarray(start, end));
}

const ESCAPED = /([\udc80-\udcff])/u;

function bytesOf(v: string): Buffer {
  if (!ESCAPED.test(v)) return Buffer.from(v);
  // Splitting at a group keeps the escaped bytes as the odd parts.
  const parts = v.split(ESCAPED);
  return Buffer.concat(parts.map((s, i) => (i % 2 === 0 ? Buffer.from(s) : Buffer.from([s.charCodeAt(0) - 0xdc00]))));
}

/** Writes a NUL-padded string of `size` bytes at `p` (room was made by the caller). */
export function writeString(w: Writer, p: number, size: number, v: unknown, cls: string, field: string): void {
  if (typeof v !== 'string') throw new OfEncodeError(cls, field, `not a string: ${describe(v)}`);
  const b = bytesOf(v);
  if (b.length > size) throw new OfEncodeError(cls, field, `${b.length} bytes do not fit in ${size}`);
  w.b.set(b, p);
  w.b.fill(0, p + b.length, p + size);
}

/** Writes text of any width. */
export function writeText(w: Writer, v: unknown, cls: string, field: string): void {
  if (typeof v !== 'string') throw new OfEncodeError(cls, field, `not a string: ${describe(v)}`);
  w.bytes(bytesOf(v));
}

export function describe(v: unknown): string {
  if (typeof v === 'bigint') return `${v}n`;
  if (typeof v === 'string') return JSON.stringify(v.slice(0, 60));
  return typeof v === 'object' && v !== null ? (Array.isArray(v) ? 'an array' : 'an object') : String(v);
}
