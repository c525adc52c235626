/**
 * The bytes under the codec: one growing output buffer and one bounded input view, both reused between messages so that
 * the generated functions of compile.ts allocate nothing per field. Used by compile.ts, oxm.ts and codec.ts.
 */
import { OfDecodeError, OfEncodeError } from './errors.ts';

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

  begin(): void {
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
  version: number;
  type: number;
}

export function newReader(): Reader {
  const b = Buffer.alloc(0);
  return { b, dv: new DataView(b.buffer), ab: undefined, base: 0, q: 0, version: 0, type: 0 };
}

/** Throws: `what` was wrong at absolute position `p`. */
export function fail(r: Reader, p: number, what: string, type: number, code: number): never {
  throw new OfDecodeError(what, { version: r.version, type: r.type, offset: p - r.base, ofError: { type, code } });
}

const utf8 = new TextDecoder('utf-8');

/** Fixed-width string: trailing NULs are padding, as in Ryu. */
export function readString(r: Reader, p: number, size: number): string {
  let end = p + size - r.base;
  const from = p - r.base;
  const b = r.b;
  while (end > from && b[end - 1] === 0) end--;
  return utf8.decode(b.subarray(from, end));
}

/** Writes a NUL-padded string of `size` bytes at `p` (room was made by the caller). */
export function writeString(w: Writer, p: number, size: number, v: unknown, cls: string, field: string): void {
  if (typeof v !== 'string') throw new OfEncodeError(cls, field, `not a string: ${describe(v)}`);
  const n = Buffer.byteLength(v);
  if (n > size) throw new OfEncodeError(cls, field, `${n} bytes do not fit in ${size}`);
  w.b.write(v, p, size);
  w.b.fill(0, p + n, p + size);
}

export function describe(v: unknown): string {
  if (typeof v === 'bigint') return `${v}n`;
  if (typeof v === 'string') return JSON.stringify(v.slice(0, 60));
  return typeof v === 'object' && v !== null ? (Array.isArray(v) ? 'an array' : 'an object') : String(v);
}
