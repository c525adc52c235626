/**
 * OXM TLVs on the wire: values, whole fields with their masks, headers without values (OpenFlow 1.3.5 §7.2.3.2).
 * oxmFields.ts has the table of fields, oxmRows.ts finds them. Used by match.ts (matches), actions.ts and niciraActions.ts
 * (fields that actions set), oxs.ts (statistics) and runtime.ts (lists and headers inside messages); oxmForms.ts has the
 * forms callers may write values in.
 */
import { formatIpv4, parseIpv4, readIpv6, readMac, writeIpv6, writeMac } from './address.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfEncodeError } from './errors.ts';
import type { OxmHeader, OxmTlv } from './oxmFields.ts';
import {
  type CompiledOxm,
  experimenterRow,
  headerOf,
  noSuchField,
  type OxmTable,
  oxmByName,
  oxmTables,
} from './oxmRows.ts';
import { describe, fail, type Reader, type Writer } from './wire.ts';

/** @throws OfEncodeError: the value is not `what` */
export function bad(cls: string, name: string, v: unknown, what: string): never {
  throw new OfEncodeError(cls, name, `not ${what}: ${describe(v)}`);
}

/** Writes one value at `p`; the caller made room. */
export function putValue(w: Writer, p: number, c: CompiledOxm, v: unknown, cls: string): void {
  const dv = w.dv;
  const n = v as number;
  switch (c.kind) {
    case 'u8':
      if ((n & 255) !== n) bad(cls, c.name, v, 'an integer of 8 bits');
      dv.setUint8(p, n);
      return;
    case 'u16':
      if ((n & 65535) !== n) bad(cls, c.name, v, 'an integer of 16 bits');
      dv.setUint16(p, n);
      return;
    case 'u24':
      if ((n & 0xffffff) !== n) bad(cls, c.name, v, 'an integer of 24 bits');
      dv.setUint8(p, n >>> 16);
      dv.setUint16(p + 1, n & 65535);
      return;
    case 'u32':
      if (n >>> 0 !== n) bad(cls, c.name, v, 'an integer of 32 bits');
      dv.setUint32(p, n);
      return;
    case 'u64':
      dv.setBigUint64(p, unsigned(cls, c.name, v, 64));
      return;
    case 'u128': {
      const big = unsigned(cls, c.name, v, 128);
      dv.setBigUint64(p, big >> 64n);
      dv.setBigUint64(p + 8, big & 0xffffffffffffffffn);
      return;
    }
    case 'mac':
      if (typeof v !== 'string' || !writeMac(w.b, p, v)) bad(cls, c.name, v, 'a MAC address');
      return;
    case 'ipv4': {
      const addr = typeof v === 'string' ? parseIpv4(v) : -1;
      if (addr < 0) bad(cls, c.name, v, 'an IPv4 address');
      dv.setUint32(p, addr);
      return;
    }
    case 'ipv6':
      if (typeof v !== 'string' || !writeIpv6(w.b, p, v)) bad(cls, c.name, v, 'an IPv6 address');
      return;
    case 'time': {
      const [sec, nsec] = Array.isArray(v) && v.length === 2 ? (v as unknown[] as [number, number]) : [-1, -1];
      if (sec >>> 0 !== sec || nsec >>> 0 !== nsec) bad(cls, c.name, v, '[seconds, nanoseconds]');
      dv.setUint32(p, sec);
      dv.setUint32(p + 4, nsec);
      return;
    }
    default:
      throw new Error('unreachable');
  }
}

function unsigned(cls: string, name: string, v: unknown, bits: number): bigint {
  const big = typeof v === 'bigint' ? v : typeof v === 'number' && Number.isSafeInteger(v) ? BigInt(v) : -1n;
  if (big < 0n || BigInt.asUintN(bits, big) !== big) bad(cls, name, v, `an unsigned integer of ${bits} bits`);
  return big;
}

export function rawBytes(v: unknown, cls: string, name: string): Buffer {
  if (typeof v !== 'string') bad(cls, name, v, 'base64');
  const bytes = Buffer.from(v, 'base64');
  if (bytes.length > 255) bad(cls, name, v, 'short enough for an OXM');
  return bytes;
}

/** Writes one OXM TLV. OpenFlow 1.3.5 §7.2.3.2. */
export function encodeOxm(w: Writer, name: string, value: unknown, cls: string): void {
  const c = oxmByName(name, w.version);
  if (c === undefined) throw new OfEncodeError(cls, name, noSuchField(w.version));
  if (c.kind === 'raw') {
    encodeRaw(w, c, value, cls);
    return;
  }
  // 4 of header, at most 6 of experimenter, at most 2 x 16 of value and mask
  if (w.cap - w.p < 42) w.grow(42);
  let p = w.p;
  const dv = w.dv;
  const masked = typeof value === 'object' && Array.isArray(value);
  dv.setUint32(p, masked ? c.maskedHeader : c.header);
  p += 4;
  if (c.experimenter !== undefined) {
    dv.setUint32(p, c.experimenter);
    if (c.expType !== undefined) dv.setUint16(p + 4, c.expType);
    p += c.extra;
  }
  if (masked) {
    if (value.length !== 2) bad(cls, name, value, '[value, mask]');
    putValue(w, p, c, value[0], cls);
    putValue(w, p + c.size, c, value[1], cls);
    w.p = p + 2 * c.size;
  } else {
    putValue(w, p, c, value, cls);
    w.p = p + c.size;
  }
}

/** Writes the header of an OXM without its value, of at most `max` bytes; where `max` is 4 the caller made room. */
export function encodeOxmHeader(w: Writer, name: unknown, max: 4 | 10, cls: string, field: string): void {
  const h = typeof name === 'string' ? headerOf(name, w.version) : undefined;
  if (h === undefined) throw new OfEncodeError(cls, field, `${noSuchField(w.version)}: ${describe(name)}`);
  const { row, word } = h;
  if (4 + row.extra > max) throw new OfEncodeError(cls, field, `no room for the header of ${String(name)}`);
  if (max > 4 && w.cap - w.p < max) w.grow(max);
  w.dv.setUint32(w.p, word);
  w.p += 4;
  if (row.experimenter !== undefined) {
    w.dv.setUint32(w.p, row.experimenter);
    if (row.expType !== undefined) w.dv.setUint16(w.p + 4, row.expType);
    w.p += row.extra;
  }
}

/** Writes a TLV without a row: its bytes in base64. */
export function encodeRaw(w: Writer, c: CompiledOxm, value: unknown, cls: string): void {
  const masked = Array.isArray(value);
  const v = rawBytes(masked ? value[0] : value, cls, c.name);
  const m = masked ? rawBytes(value[1], cls, c.name) : undefined;
  if (m !== undefined && m.length !== v.length) bad(cls, c.name, value, 'a value and a mask of one length');
  const length = c.extra + v.length + (m?.length ?? 0);
  if (length > 255) bad(cls, c.name, value, 'short enough for an OXM');
  if (w.cap - w.p < 8) w.grow(8);
  w.dv.setUint32(w.p, c.type * 512 + (masked ? 256 : 0) + length);
  if (c.experimenter !== undefined) w.dv.setUint32(w.p + 4, c.experimenter);
  w.p += 4 + c.extra;
  w.bytes(v);
  if (m !== undefined) w.bytes(m);
}

/** Writes fields that stand one after the other, perhaps several times the same. */
export function encodeOxms(list: readonly unknown[], w: Writer, cls: string): void {
  for (const e of list) {
    const { field, value } = (e ?? {}) as { field?: unknown; value?: unknown };
    encodeOxm(w, String(field), value, cls);
  }
}

// ---- reading -------------------------------------------------------------------------------------------------------

/** Reads one value. */
export function getValue(r: Reader, p: number, c: CompiledOxm): number | bigint | string | [number, number] {
  const dv = r.dv;
  switch (c.kind) {
    case 'u8':
      return dv.getUint8(p);
    case 'u16':
      return dv.getUint16(p);
    case 'u24':
      return dv.getUint8(p) * 65536 + dv.getUint16(p + 1);
    case 'u32':
      return dv.getUint32(p);
    case 'u64':
      return dv.getBigUint64(p);
    case 'u128':
      return (dv.getBigUint64(p) << 64n) | dv.getBigUint64(p + 8);
    case 'mac':
      return readMac(r.b, p - r.base);
    case 'ipv4':
      return formatIpv4(dv.getUint32(p));
    case 'ipv6':
      return readIpv6(r.b, p - r.base);
    case 'time':
      return [dv.getUint32(p), dv.getUint32(p + 4)];
    default:
      throw new Error('unreachable');
  }
}

/** The name and value of the last OXM read: returned through one object to spare an allocation per field. */
export const lastOxm: { name: string; value: unknown } = { name: '', value: undefined };

/** Reads the header of an OXM without its value; leaves `r.q` behind it. */
export function decodeOxmHeader(r: Reader, p: number, end: number, type: number, code: number): OxmHeader {
  if (end - p < 4) fail(r, p, 'OXM header cut short', type, code);
  const header = r.dv.getUint32(p);
  const oxm = header >>> 9;
  const length = header & 255;
  const masked = (header & 256) !== 0;
  const { byType, byExperimenter } = oxmTables[r.version] as OxmTable;
  let c = byType.get(oxm);
  let name = c?.name ?? `field_${oxm}`;
  let extra = 0;
  if (c === undefined && oxm >>> 7 === ofp.OFPXMC_EXPERIMENTER) {
    if (end - p < 8) fail(r, p, 'OXM header of an experimenter cut short', type, code);
    const id = r.dv.getUint32(p + 4);
    c = experimenterRow(byExperimenter, r, p + 4, end, id, oxm & 127);
    name = c?.name ?? `field_${oxm}_${id}`;
    extra = c?.extra ?? 4;
  }
  r.q = p + 4 + extra;
  return (!masked && length === (c?.width ?? extra) ? name : `${name}/${masked ? 'm' : ''}${length}`) as OxmHeader;
}

/** Reads one OXM TLV that must end by `end`; leaves `r.q` behind it and the result in `lastOxm`. */
export function decodeOxm(r: Reader, p: number, end: number, type: number, code: number): void {
  if (end - p < 4) fail(r, p, 'OXM header cut short', type, code);
  const header = r.dv.getUint32(p);
  const length = header & 255;
  const oxm = header >>> 9;
  const masked = (header & 256) !== 0;
  if (end - p - 4 < length) fail(r, p, 'OXM longer than what holds it', type, code);
  let at = p + 4;
  const stop = at + length;
  r.q = stop;
  const { byType, byExperimenter } = oxmTables[r.version] as OxmTable;
  let c = byType.get(oxm);
  let name: string;
  if (c === undefined && oxm >>> 7 === ofp.OFPXMC_EXPERIMENTER && length >= 4) {
    const id = r.dv.getUint32(at);
    c = experimenterRow(byExperimenter, r, at, stop, id, oxm & 127);
    name = `field_${oxm}_${id}`;
    at += c?.extra ?? 4;
  } else {
    name = c?.name ?? `field_${oxm}`;
  }
  const room = stop - at;
  if (c === undefined || c.kind === 'raw') {
    if (masked && (room & 1) !== 0) fail(r, p, `OXM ${name}: value and mask differ in length`, type, code);
    const half = masked ? at + room / 2 : stop;
    const value = r.b.toString('base64', at - r.base, half - r.base);
    lastOxm.name = name;
    lastOxm.value = masked ? [value, r.b.toString('base64', half - r.base, stop - r.base)] : value;
    return;
  }
  if (room !== (masked ? 2 * c.size : c.size)) fail(r, p, `OXM ${c.name}: length ${length}`, type, code);
  lastOxm.name = c.name;
  lastOxm.value = masked ? [getValue(r, at, c), getValue(r, at + c.size, c)] : getValue(r, at, c);
}

/** Reads fields up to `end`. */
export function decodeOxms(r: Reader, p: number, end: number, type: number, code: number): OxmTlv[] {
  const out: OxmTlv[] = [];
  for (r.q = p; r.q < end; ) {
    decodeOxm(r, r.q, end, type, code);
    out.push({ field: lastOxm.name, value: lastOxm.value } as OxmTlv);
  }
  return out;
}
