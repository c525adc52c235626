/**
 * OFPMatch, from OpenFlow 1.2 on: how it is made, compared, written and read (OpenFlow 1.3.5 §7.2.3). It is a list of OXM
 * fields: oxm.ts has one on the wire, oxmForms.ts the form of its value, oxmFields.ts the table. structs10.ts has the match
 * of 1.0.
 */
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfEncodeError } from './errors.ts';
import { decodeOxm, encodeOxm, lastOxm } from './oxm.ts';
import type { OxmInput, OxmName, OxmValue, UnknownOxmName } from './oxmFields.ts';
import { fieldBytes, normaliseOxm } from './oxmForms.ts';
import { noSuchField, oxmByName } from './oxmRows.ts';
import { fail, type Reader, type Version, type Writer } from './wire.ts';

/** Fields of a match: a value, or `[value, mask]`. Unknown fields are base64, as in Ryu. */
export type MatchFields = { [N in OxmName]?: OxmValue<N> | [OxmValue<N>, OxmValue<N>] } & {
  [N in UnknownOxmName]?: string | [string, string];
};
/** What `OFPMatch` takes. */
export type MatchInput = {
  readonly [N in OxmName]?: OxmInput<N> | readonly [OxmInput<N>, OxmInput<N>] | undefined;
} & {
  readonly [N in UnknownOxmName]?: string | readonly [string, string] | undefined;
};

/** A flow match. OpenFlow 1.3.5 §7.2.3. */
export interface OFPMatch {
  cls: 'OFPMatch';
  fields: MatchFields;
}

/**
 * Makes a match, normalised as Ryu does: bits of the value outside the mask are cleared, `10.0.0.0/8` becomes a dotted
 * mask, addresses take their canonical text, fields are sorted by OXM type. Some fields have another type, or none, in
 * other versions: `version` is a number on the wire. OpenFlow 1.3.5 §7.2.3.
 *
 * @example OFPMatch({ in_port: 1, eth_type: 0x0800, ipv4_src: '10.0.0.0/8' })
 */
export function OFPMatch(input: MatchInput = {}, version: Version = 4): OFPMatch {
  const fields: Record<string, unknown> = {};
  let last = -1;
  let isSorted = true;
  for (const name in input) {
    const value = (input as Record<string, unknown>)[name];
    if (value === undefined) continue;
    fields[name] = normaliseOxm(name, value, 'OFPMatch', version);
    const order = orderOf(name, version);
    if (order < last) isSorted = false;
    last = order;
  }
  if (isSorted) return { cls: 'OFPMatch', fields: fields as MatchFields };
  const names = Object.keys(fields).sort((x, y) => orderOf(x, version) - orderOf(y, version));
  const sorted: Record<string, unknown> = {};
  for (const name of names) sorted[name] = fields[name];
  return { cls: 'OFPMatch', fields: sorted as MatchFields };
}

const orderOf = (name: string, version: Version): number => oxmByName(name, version)?.order ?? 0;

/**
 * A text that is equal for two matches exactly when they match the same packets field by field: the order of fields does
 * not count, a mask of all bits is no mask, and a mask of no bits is no field (switches drop both). `version` as for
 * `OFPMatch`.
 */
export function matchKey(match: OFPMatch, version: Version = 4): string {
  const parts: string[] = [];
  for (const [name, input] of Object.entries(match.fields)) {
    const c = oxmByName(name, version);
    if (c === undefined) throw new OfEncodeError('OFPMatch', name, noSuchField(version));
    const { value, mask } = fieldBytes(c, input, 'OFPMatch');
    if (mask === undefined) {
      parts.push(`${name}=${value.toString('hex')}`);
      continue;
    }
    for (let i = 0; i < value.length; i++) value[i] = (value[i] as number) & (mask[i] as number);
    const hex = mask.toString('hex');
    if (mask.length > 0 && /^0*$/.test(hex)) continue;
    const exact = c.kind !== 'raw' && BigInt(`0x${hex}`) === (1n << BigInt(c.bits)) - 1n;
    const full = /^f*$/.test(hex);
    parts.push(`${name}=${value.toString('hex')}${exact || full ? '' : `/${hex}`}`);
  }
  return parts.sort().join(',');
}

// ---- on the wire ---------------------------------------------------------------------------------------------------

/** Writes an OFPMatch with its padding. OpenFlow 1.3.5 §7.2.3.1. */
export function encodeMatch(match: OFPMatch, w: Writer, cls: string, field: string): void {
  const fields = match?.fields;
  if (typeof fields !== 'object' || fields === null) throw new OfEncodeError(cls, field, 'not an OFPMatch');
  if (w.cap - w.p < 8) w.grow(8);
  const from = w.p - w.start;
  w.p += 4;
  for (const name in fields) encodeOxm(w, name, fields[name as OxmName], 'OFPMatch');
  const at = w.start + from;
  const length = w.p - at;
  w.dv.setUint16(at, ofp.OFPMT_OXM);
  w.dv.setUint16(at + 2, length);
  w.zeros((8 - (length & 7)) & 7);
}

/** Writes an OFPMatch without padding, and without its header unless it is `headed`. */
export function encodeBareMatch(match: OFPMatch, w: Writer, headed: boolean, cls: string, field: string): void {
  const fields = match?.fields;
  if (typeof fields !== 'object' || fields === null) throw new OfEncodeError(cls, field, 'not an OFPMatch');
  const from = w.p - w.start;
  if (headed) w.zeros(4);
  for (const name in fields) encodeOxm(w, name, fields[name as OxmName], 'OFPMatch');
  if (!headed) return;
  w.dv.setUint16(w.start + from, ofp.OFPMT_OXM);
  w.dv.setUint16(w.start + from + 2, w.p - w.start - from);
}

/** Reads an OFPMatch and its padding; leaves `r.q` behind it. OpenFlow 1.3.5 §7.2.3.1. */
export function decodeMatch(r: Reader, p: number, end: number): OFPMatch {
  if (end - p < 4) fail(r, p, 'match cut short', ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_LEN);
  if (r.dv.getUint16(p) !== ofp.OFPMT_OXM) fail(r, p, 'match is not OXM', ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_TYPE);
  const length = r.dv.getUint16(p + 2);
  const padded = (length + 7) & ~7;
  if (length < 4 || padded > end - p) {
    fail(r, p, `match length ${length}`, ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_LEN);
  }
  const fields = decodeFields(r, p + 4, p + length);
  r.q = p + padded;
  return { cls: 'OFPMatch', fields };
}

function decodeFields(r: Reader, p: number, stop: number): MatchFields {
  const fields: Record<string, unknown> = {};
  let at = p;
  while (at < stop) {
    decodeOxm(r, at, stop, ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_LEN);
    const name = lastOxm.name;
    // Field names never collide with what an object inherits, so a plain `undefined` test is enough.
    if (fields[name] !== undefined) {
      fail(r, at, `OXM ${name} twice`, ofp.OFPET_BAD_MATCH, ofp.OFPBMC_DUP_FIELD);
    }
    fields[name] = lastOxm.value;
    at = r.q;
  }
  return fields as MatchFields;
}

/**
 * Whether what is said to be fields alone begins with the header of an OFPMatch of that length. No first field looks so:
 * one of the NXM_1 class with that length would need 264 bytes of others behind it.
 */
export function isHeaded(r: Reader, p: number, stop: number): boolean {
  return stop - p >= 4 && r.dv.getUint16(p) === ofp.OFPMT_OXM && r.dv.getUint16(p + 2) === stop - p;
}

/** Reads the fields of an OFPMatch from `p` up to `stop`, and the padding behind them to 8 bytes from `start`. */
export function decodeBareMatch(r: Reader, p: number, start: number, stop: number, end: number): OFPMatch {
  const padded = (stop - start + 7) & ~7;
  if (padded > end - start) fail(r, p, 'match cut short', ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_LEN);
  const fields = decodeFields(r, p, stop);
  r.q = start + padded;
  return { cls: 'OFPMatch', fields };
}
