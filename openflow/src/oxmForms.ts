/**
 * The forms of a field's value: brings what callers write to the one form that objects have (Ryu's), and to that of Ryu's
 * JSON and back. oxm.ts has the bytes, match.ts whole matches. Used by whatever has fields: matches, actions, lists of
 * fields, json.ts.
 */
import { formatIpv4, parseIpv4, readMac, writeMac } from './address.ts';
import { OfEncodeError } from './errors.ts';
import { bad, getValue, putValue, rawBytes } from './oxm.ts';
import type { OxmTlv } from './oxmFields.ts';
import { type CompiledOxm, isRaw, knownRow, noSuchField, oxmByName } from './oxmRows.ts';
import { newReader, type Version, Writer } from './wire.ts';

const scratch = new Writer();
const scratchReader = newReader();

function valueToBytes(c: CompiledOxm, v: unknown, cls: string): Buffer {
  if (c.kind === 'raw') return rawBytes(v, cls, c.name);
  scratch.p = 0;
  scratch.start = 0;
  putValue(scratch, 0, c, v, cls);
  return Buffer.from(scratch.b.subarray(0, c.size));
}

function bytesToValue(c: CompiledOxm, bytes: Buffer): unknown {
  if (c.kind === 'raw') return bytes.toString('base64');
  scratchReader.b = bytes;
  scratchReader.dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  scratchReader.base = 0;
  return getValue(scratchReader, 0, c);
}

function prefixMask(size: number, prefix: number): Buffer {
  const mask = Buffer.alloc(size);
  for (let i = 0; i < prefix; i++) mask[i >> 3] = (mask[i >> 3] as number) | (128 >> (i & 7));
  return mask;
}

/** Value and mask of one field in bytes; `10.0.0.0/8` and `10.0.0.0/255.0.0.0` carry their mask in the text. */
export function fieldBytes(c: CompiledOxm, input: unknown, cls: string): { value: Buffer; mask: Buffer | undefined } {
  if (Array.isArray(input)) {
    if (input.length !== 2) bad(cls, c.name, input, '[value, mask]');
    const value = valueToBytes(c, input[0], cls);
    const mask = valueToBytes(c, input[1], cls);
    if (value.length !== mask.length) bad(cls, c.name, input, 'a value and a mask of one length');
    return { value, mask };
  }
  if (typeof input === 'string' && (c.kind === 'ipv4' || c.kind === 'ipv6')) {
    const slash = input.indexOf('/');
    if (slash >= 0) {
      const tail = input.slice(slash + 1);
      const value = valueToBytes(c, input.slice(0, slash), cls);
      if (!/^\d{1,3}$/.test(tail)) return { value, mask: valueToBytes(c, tail, cls) };
      if (Number(tail) > c.size * 8) bad(cls, c.name, input, 'a prefix of that address');
      return { value, mask: prefixMask(c.size, Number(tail)) };
    }
  }
  return { value: valueToBytes(c, input, cls), mask: undefined };
}

const macScratch = Buffer.alloc(6);

/** The canonical form of a value without a mask, without the way over bytes; undefined when that way is needed. */
function plainForm(c: CompiledOxm, v: unknown): unknown {
  const n = v as number;
  switch (c.kind) {
    case 'u8':
      return (n & 255) === n ? n : undefined;
    case 'u16':
      return (n & 65535) === n ? n : undefined;
    case 'u32':
      return n >>> 0 === n ? n : undefined;
    case 'u64':
      return typeof v === 'bigint' && BigInt.asUintN(64, v) === v ? v : undefined;
    case 'mac':
      return typeof v === 'string' && writeMac(macScratch, 0, v) ? readMac(macScratch, 0) : undefined;
    case 'ipv4': {
      const address = typeof v === 'string' ? parseIpv4(v) : -1;
      return address < 0 ? undefined : formatIpv4(address);
    }
    default:
      return undefined;
  }
}

/** Brings one field to the form Ryu gives it: masked value, dotted masks, lower-case addresses. */
export function normaliseOxm(name: string, input: unknown, cls: string, version: Version): unknown {
  const c = oxmByName(name, version);
  if (c === undefined) throw new OfEncodeError(cls, name, noSuchField(version));
  const plain = plainForm(c, input);
  if (plain !== undefined) return plain;
  const { value, mask } = fieldBytes(c, input, cls);
  if (mask === undefined) return bytesToValue(c, value);
  for (let i = 0; i < value.length; i++) value[i] = (value[i] as number) & (mask[i] as number);
  return [bytesToValue(c, value), bytesToValue(c, mask)];
}

/**
 * Brings one field to its canonical text, and leaves bits outside the mask alone: what comes from a peer or from Ryu's JSON
 * keeps its bytes.
 */
export function canonicalOxm(name: string, input: unknown, cls: string, version: Version): unknown {
  return Array.isArray(input) && input.length === 2
    ? [normaliseOxm(name, input[0], cls, version), normaliseOxm(name, input[1], cls, version)]
    : normaliseOxm(name, input, cls, version);
}

/** The same for a list of fields. */
export function normaliseOxms(list: readonly unknown[], cls: string, version: Version): OxmTlv[] {
  return list.map((e) => {
    const { field, value } = (e ?? {}) as { field?: unknown; value?: unknown };
    return { field, value: canonicalOxm(String(field), value, cls, version) } as OxmTlv;
  });
}

/** A field as Ryu's JSON has it. */
export function oxmToJson(
  name: string,
  given: unknown,
  version: Version,
): { OXMTlv: { field: string; mask: unknown; value: unknown } } {
  const [field, value] = ryuField(name, given, version);
  const [v, mask] = Array.isArray(value) ? value : [value, null];
  return { OXMTlv: { field, mask, value: v } };
}

/** Name and value of a field of Ryu's JSON. As in Ryu it keeps its bytes; only its text becomes canonical. */
export function oxmFromJson(obj: unknown, cls: string, version: Version): [name: string, value: unknown] {
  const tlv = (obj as { OXMTlv?: { field?: unknown; value?: unknown; mask?: unknown } } | null | undefined)?.OXMTlv;
  if (typeof tlv?.field !== 'string') throw new OfEncodeError(cls, 'field', 'no OXMTlv');
  const { value, mask } = tlv;
  const [field, v] = namedField(tlv.field, mask === null || mask === undefined ? value : [value, mask], version);
  return [field, canonicalOxm(field, v, cls, version)];
}

/** The name of a header in Ryu's JSON, which has neither length nor mask. */
export function oxmHeaderToJson(name: string, version: Version): string {
  const [plain = ''] = name.split('/');
  const c = oxmByName(plain, version);
  return isRaw(c, version) ? `field_${c.type}` : plain;
}

/** Name and value of a field in Ryu's JSON: fields Ryu has no name for are `field_<n>` and base64 there. */
function ryuField(name: string, value: unknown, version: Version): [name: string, value: unknown] {
  const c = oxmByName(name, version);
  if (!isRaw(c, version)) return [name, value];
  const base64 = (v: unknown) => valueToBytes(c, v, 'OFPMatch').toString('base64');
  return [`field_${c.type}`, Array.isArray(value) ? value.map(base64) : base64(value)];
}

/** The other way: a `field_<n>` whose number is known gets its name, if its value is of the right length. */
function namedField(name: string, value: unknown, version: Version): [name: string, value: unknown] {
  const raw = oxmByName(name, version);
  const c = knownRow(name, version);
  if (raw === undefined || c === undefined || raw === c) return [name, value];
  const parts = (Array.isArray(value) ? value : [value]).map((v) => rawBytes(v, 'OFPMatch', name));
  if (c.kind !== 'raw' && parts.some((b) => b.length !== c.size)) return [name, value];
  const values = parts.map((b) => bytesToValue(c, b));
  return [c.name, Array.isArray(value) ? values : values[0]];
}
