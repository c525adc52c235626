/**
 * The compiler: turns the declarations of one protocol version (schema.ts has their language, messages.ts and structs.ts
 * the text) into one JavaScript source with an encoder, a decoder and a factory per class, and evaluates it once when the
 * library is loaded. Specialised functions run several times faster than walking the declarations, because every
 * property access and every offset in them is a constant. codec.ts puts the result behind the public functions.
 *
 * The source is made from declarations only, never from input.
 */
import { formatIpv4, parseIpv4, readMac, writeMac } from './address.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfEncodeError } from './errors.ts';
import {
  decodeBareMatch,
  decodeMatch,
  decodeOxmHeader,
  decodeOxms,
  encodeBareMatch,
  encodeMatch,
  encodeOxmHeader,
  encodeOxms,
  isHeaded,
  normaliseOxms,
  OFPMatch,
} from './oxm.ts';
import { decodeStats, encodeStats, OFPStats } from './oxs.ts';
import {
  type AnyFamily,
  type AnyStruct,
  type Custom,
  type ErrorPair,
  type Field,
  type JsonForm,
  type Kind,
  MAX_DEPTH,
  type MessageHeader,
  NEVER_HEADED,
  type Version,
} from './schema.ts';
import { describe, fail, type Reader, readString, readText, type Writer, writeString, writeText } from './wire.ts';

export type Encode = (o: object, w: Writer) => void;
/** Reads what lies between `p` and `end`, and leaves `r.q` where it stopped. */
export type Decode = (r: Reader, p: number, end: number) => object;
export type Make = (input: object | undefined) => object;

/** How a message inside another one is written and read: codec.ts knows, which knows all messages. */
export interface Nested {
  /** `outer` is the transaction id of the message around it when the two share it. */
  encode(message: unknown, w: Writer, outer: number | undefined, cls: string, field: string): void;
  decode(r: Reader, p: number, end: number): object;
}

/** What the generated source gives back. */
export interface Compiled {
  readonly encode: ReadonlyMap<string, Encode>;
  readonly decode: ReadonlyMap<string, Decode>;
  readonly make: ReadonlyMap<string, Make>;
  readonly structs: ReadonlyMap<string, AnyStruct>;
  /** Classes by the name Ryu's JSON has for them, which several may share. */
  readonly jsonNames: ReadonlyMap<string, readonly AnyStruct[]>;
  readonly version: Version;
}

/** A field with its name, and the header fields of messages put in front. */
interface Slot {
  readonly name: string;
  readonly kind: Kind;
  readonly field: Field | undefined;
}

const HEADER_LEN: Kind = { t: 'len', json: undefined };
const U8: Kind = { t: 'uint', size: 1 };
const U32: Kind = { t: 'uint', size: 4 };

/** Message type of a header in a version. */
export function messageType(header: MessageHeader, version: Version): number {
  return typeof header.type === 'number' ? header.type : header.type[version === 1 ? 0 : 1];
}

function slotsOf(s: AnyStruct, version: Version): Slot[] {
  const slots: Slot[] = [];
  const header = s.options.message;
  if (header !== undefined) {
    slots.push({ name: 'version', kind: U8, field: undefined });
    slots.push({
      name: '',
      kind: { t: 'const', size: 1, value: messageType(header, version), json: undefined },
      field: undefined,
    });
    slots.push({ name: '', kind: HEADER_LEN, field: undefined });
    slots.push({ name: 'xid', kind: U32, field: undefined });
  }
  for (const [name, field] of Object.entries(s.fields)) {
    if (field.versions?.includes(version) !== false) slots.push({ name, kind: field.kind, field });
  }
  return slots;
}

/** Bytes of a field of fixed size; undefined for others. */
function sizeOf(kind: Kind, version: Version): number | undefined {
  switch (kind.t) {
    case 'uint':
    case 'const':
    case 'str':
    case 'pad':
      return kind.size;
    case 'u64':
      return 8;
    case 'mac':
      return 6;
    case 'ipv4':
      return 4;
    case 'len':
    case 'lenOf':
    case 'countOf':
      return 2;
    case 'oxmHeader':
      return kind.size;
    case 'uints':
      return kind.count === undefined ? undefined : kind.count * kind.size;
    case 'size':
    case 'headed':
      return 0;
    case 'struct':
      return fixedSize(kind.of, version);
    default:
      return undefined;
  }
}

/** Bytes of a structure of fixed size; undefined for others. */
export function fixedSize(s: AnyStruct, version: Version): number | undefined {
  if (s.options.custom !== undefined || s.options.padTo8 !== undefined) return undefined;
  let total = 0;
  for (const slot of slotsOf(s, version)) {
    const n = sizeOf(slot.kind, version);
    if (n === undefined) return undefined;
    total += n;
  }
  return total;
}

/** Bytes every structure of the class has at least. */
function minSize(s: AnyStruct, version: Version): number {
  if (s.options.custom !== undefined) return s.options.custom.min;
  return slotsOf(s, version).reduce(
    (n, slot) => n + (sizeOf(slot.kind, version) ?? (slot.kind.t === 'match' && slot.kind.bare === undefined ? 4 : 0)),
    0,
  );
}

/** Offset of the field that tells the structure's own length. */
export function lengthOffset(s: AnyStruct, version: Version): number | undefined {
  let at = 0;
  for (const slot of slotsOf(s, version)) {
    if (slot.kind.t === 'len') return at;
    const n = sizeOf(slot.kind, version);
    if (n === undefined) return undefined;
    at += n;
  }
  return undefined;
}

/** Offset of the field that tells the length of the list `list`, which must stand before all fields of variable size. */
export function lengthOffsetOf(s: AnyStruct, list: string, version: Version): number {
  let at = 0;
  for (const slot of slotsOf(s, version)) {
    if (slot.kind.t === 'lenOf' && slot.kind.list === list) return at;
    at += sizeOf(slot.kind, version) ?? Number.NaN;
  }
  throw new Error(`${s.cls} has no length of ${list}`);
}

/** Consecutive fields of fixed size, or one of variable size. */
type Segment =
  | { readonly fixed: true; readonly size: number; readonly slots: readonly { at: number; slot: Slot }[] }
  | { readonly fixed: false; readonly slot: Slot };

function segmentsOf(s: AnyStruct, version: Version): Segment[] {
  const out: Segment[] = [];
  let run: { at: number; slot: Slot }[] = [];
  let size = 0;
  const flush = () => {
    if (run.length > 0) out.push({ fixed: true, size, slots: run });
    run = [];
    size = 0;
  };
  for (const slot of slotsOf(s, version)) {
    const n = sizeOf(slot.kind, version);
    if (n === undefined) {
      flush();
      out.push({ fixed: false, slot });
    } else {
      run.push({ at: size, slot });
      size += n;
    }
  }
  flush();
  return out;
}

const q = JSON.stringify;

// ---- encoders ------------------------------------------------------------------------------------------------------

function encoderSource(s: AnyStruct, version: Version, around: AnyFamily | undefined): string {
  const c: string[] = [];
  const cls = q(s.cls);
  let lenAt = -1;
  let offset = 0;
  // lists whose length stands in an earlier field
  const lengths = new Map<string, number>();
  c.push(`function enc_${s.cls}(o, w) {`);
  c.push('const s0 = w.p - w.start; let p, dv, v, i;');
  let beforeVariable = true;
  for (const seg of segmentsOf(s, version)) {
    if (seg.fixed) {
      c.push(`if (w.cap - w.p < ${seg.size}) w.grow(${seg.size}); p = w.p; dv = w.dv;`);
      for (const { at, slot } of seg.slots) {
        const { kind, name } = slot;
        const to = `p + ${at}`;
        const prop = `o.${name}`;
        if (kind.t === 'uint') {
          const test = kind.size === 4 ? '(v >>> 0)' : `(v & ${kind.size === 1 ? 255 : 65535})`;
          c.push(`v = ${prop}; if (${test} !== v) rt.badUint(${cls}, ${q(name)}, v, ${kind.size * 8});`);
          c.push(`dv.setUint${kind.size * 8}(${to}, v);`);
        } else if (kind.t === 'u64') {
          c.push(
            `v = ${prop}; if (typeof v !== 'bigint' || BigInt.asUintN(64, v) !== v) v = rt.u64(v, ${cls}, ${q(name)});`,
          );
          c.push(`dv.setBigUint64(${to}, v);`);
        } else if (kind.t === 'mac') {
          c.push(
            `v = ${prop}; if (typeof v !== 'string' || !rt.writeMac(w.b, ${to}, v)) rt.badMac(${cls}, ${q(name)}, v);`,
          );
        } else if (kind.t === 'ipv4') {
          c.push(`v = ${prop}; i = typeof v === 'string' ? rt.parseIpv4(v) : -1;`);
          c.push(`if (i < 0) rt.badIpv4(${cls}, ${q(name)}, v); dv.setUint32(${to}, i);`);
        } else if (kind.t === 'str') {
          c.push(`rt.writeString(w, ${to}, ${kind.size}, ${prop}, ${cls}, ${q(name)});`);
        } else if (kind.t === 'pad') {
          for (let i = 0; i < kind.size; ) {
            const n = kind.size - i >= 4 ? 4 : kind.size - i >= 2 ? 2 : 1;
            c.push(`dv.setUint${n * 8}(${to} + ${i}, 0);`);
            i += n;
          }
        } else if (kind.t === 'const') {
          c.push(`dv.setUint${kind.size * 8}(${to}, ${kind.value});`);
        } else if (kind.t === 'len') {
          if (!beforeVariable) throw new Error(`${s.cls}: length after a field of variable size`);
          lenAt = offset + at;
          if (fixedSize(s, version) !== undefined) c.push(`dv.setUint16(${to}, ${fixedSize(s, version)});`);
        } else if (kind.t === 'lenOf') {
          lengths.set(kind.list, offset + at);
        } else if (kind.t === 'countOf') {
          const list = `o.${kind.list}`;
          c.push(`v = rt.list(${list}, ${cls}, ${q(kind.list)}).length;`);
          c.push(`if ((v & 65535) !== v) rt.badUint(${cls}, ${q(kind.list)}, v, 16); dv.setUint16(${to}, v);`);
        } else if (kind.t === 'oxmHeader') {
          c.push(`v = ${prop}; ${kind.none ? `if (v === '') dv.setUint32(${to}, 0); else ` : ''}{`);
          c.push(`w.p = ${to}; rt.encodeOxmHeader(w, v, 4, ${cls}, ${q(name)}); }`);
        } else if (kind.t === 'struct') {
          c.push(`w.p = ${to}; rt.object(${prop}, ${cls}, ${q(name)}); enc_${kind.of.cls}(${prop}, w);`);
        } else if (kind.t === 'uints') {
          const n = kind.count as number;
          c.push(
            `v = rt.list(${prop}, ${cls}, ${q(name)}); if (v.length !== ${n}) rt.badCount(${cls}, ${q(name)}, ${n});`,
          );
          c.push(
            `for (i = 0; i < ${n}; i++) rt.put${kind.size}(dv, ${to} + i * ${kind.size}, v[i], ${cls}, ${q(name)});`,
          );
        }
      }
      c.push(`w.p = p + ${seg.size};`);
      offset += seg.size;
    } else {
      beforeVariable = false;
      const { kind, name } = seg.slot;
      const prop = `o.${name}`;
      const lengthAt = lengths.get(name);
      if (lengthAt !== undefined) c.push(`const l_${name} = w.p - w.start;`);
      if (kind.t === 'match') {
        c.push(
          kind.bare === undefined
            ? `rt.encodeMatch(${prop}, w, ${cls}, ${q(name)});`
            : `rt.encodeBareMatch(${prop}, w, ${kind.bare === NEVER_HEADED ? 'false' : `o.${kind.bare} === true`}, ${cls}, ${q(name)});`,
        );
      } else if (kind.t === 'stats') {
        c.push(`rt.encodeStats(${prop}, w, ${cls}, ${q(name)});`);
      } else if (kind.t === 'oxms') {
        c.push(`rt.encodeOxms(rt.list(${prop}, ${cls}, ${q(name)}), w, ${cls});`);
      } else if (kind.t === 'tail') {
        c.push(`v = ${prop}; if (v !== null) { if (w.cap - w.p < 8) w.grow(8);`);
        c.push(`rt.put4(w.dv, w.p, v, ${cls}, ${q(name)}); w.dv.setUint32(w.p + 4, 0); w.p += 8; }`);
      } else if (kind.t === 'text') {
        c.push(`rt.writeText(w, ${prop}, ${cls}, ${q(name)});`);
      } else if (kind.t === 'oxmHeader') {
        if (kind.when !== undefined) c.push(`if ((o.${kind.when.field} & ${kind.when.bit}) !== 0)`);
        c.push(`rt.encodeOxmHeader(w, ${prop}, 10, ${cls}, ${q(name)});`);
      } else if (kind.t === 'bytes') {
        c.push(`v = ${prop}; if (!(v instanceof Uint8Array)) rt.badBytes(${cls}, ${q(name)}, v); w.bytes(v);`);
      } else if (kind.t === 'struct') {
        c.push(`rt.object(${prop}, ${cls}, ${q(name)}); enc_${kind.of.cls}(${prop}, w);`);
      } else if (kind.t === 'message') {
        c.push(
          `i = w.p - w.start; rt.nested.encode(${prop}, w, ${kind.xid === 'outer' ? 'o.xid' : 'undefined'}, ${cls}, ${q(name)});`,
        );
        if (kind.before !== undefined) {
          c.push(`if (rt.list(o.${kind.before}, ${cls}, ${q(kind.before)}).length > 0)`);
          c.push('w.zeros((8 - ((w.p - w.start - i) & 7)) & 7);');
        }
      } else if (kind.t === 'list' || kind.t === 'family') {
        c.push(`v = rt.list(${prop}, ${cls}, ${q(name)}); for (i = 0; i < v.length; i++) {`);
        if (kind.t === 'list') {
          c.push(`const e = v[i]; rt.element(e, ${q(kind.of.cls)}, ${cls}, ${q(name)}); enc_${kind.of.cls}(e, w); }`);
        } else {
          c.push(`encF_${(kind.of ?? around)?.name}(v[i], w, ${cls}, ${q(name)}); }`);
        }
      } else if (kind.t === 'either') {
        c.push(`v = rt.list(${prop}, ${cls}, ${q(name)});`);
        if (kind.count !== undefined) {
          c.push(`if (v.length !== ${kind.count}) rt.badCount(${cls}, ${q(name)}, ${kind.count});`);
        }
        c.push('for (i = 0; i < v.length; i++) { const e = v[i]; switch (e == null ? undefined : e.cls) {');
        for (const m of kind.of) c.push(`case ${q(m.cls)}: enc_${m.cls}(e, w); break;`);
        c.push(`default: rt.badMember(e, 'identifier', ${cls}, ${q(name)}); } }`);
      } else if (kind.t === 'uints') {
        c.push(
          `v = rt.list(${prop}, ${cls}, ${q(name)}); i = v.length * ${kind.size}; if (w.cap - w.p < i) w.grow(i);`,
        );
        c.push(`p = w.p; dv = w.dv; for (i = 0; i < v.length; i++, p += ${kind.size})`);
        c.push(`rt.put${kind.size}(dv, p, v[i], ${cls}, ${q(name)}); w.p = p;`);
      } else if (kind.t === 'bitmap') {
        c.push(`rt.encodeBitmap(${prop}, w, ${cls}, ${q(name)});`);
      }
      if (lengthAt !== undefined) {
        c.push(`w.dv.setUint16(w.start + s0 + ${lengthAt}, w.p - w.start - l_${name});`);
        if (kind.t === 'match' && kind.bare !== undefined)
          c.push(`w.zeros((8 - ((w.p - w.start - l_${name}) & 7)) & 7);`);
      }
    }
  }
  const isMessage = s.options.message !== undefined;
  const pad = 'w.zeros((8 - ((w.p - w.start - s0) & 7)) & 7);';
  if (s.options.padTo8 === 'inside') c.push(pad);
  if (isMessage) c.push(`if (w.p - w.start - s0 > 65535) rt.tooLong(${cls});`);
  if (lenAt >= 0 && fixedSize(s, version) === undefined) {
    c.push(`w.dv.setUint16(w.start + s0 + ${lenAt}, w.p - w.start - s0);`);
  }
  if (s.options.padTo8 === 'outside') c.push(pad);
  c.push('}');
  return c.join('\n');
}

/** What Ryu's JSON does with a class in a version, where that is special. */
export const jsonFormOf = (s: AnyStruct, version: Version): JsonForm | undefined =>
  s.options.json?.versions.includes(version) === true ? s.options.json : undefined;

/** The error to answer with for bytes that cannot be this. */
const errorOf = (o: { readonly err: ErrorPair; readonly errFrom14?: ErrorPair }, version: Version): ErrorPair =>
  version >= 5 ? (o.errFrom14 ?? o.err) : o.err;

/** Whether a declaration holds in a version. */
export const holds = (s: AnyStruct, version: Version): boolean => s.options.versions.includes(version);

/** The member of a family that keeps what no other one reads. */
export function unknownOf(f: AnyFamily, version: Version): AnyStruct {
  const unknown = f.unknowns.find((m) => holds(m, version));
  if (unknown === undefined) throw new Error(`${f.name} has no member for unknown types in version ${version}`);
  return unknown;
}

function familyEncoderSource(f: AnyFamily, version: Version): string {
  const all = [...f.members, ...f.unknowns].filter((m) => holds(m, version));
  const cases = all.map((m) => `case ${q(m.cls)}: return enc_${m.cls}(o, w);`);
  return `function encF_${f.name}(o, w, cls, field) { switch (o == null ? undefined : o.cls) {
${cases.join('\n')}
default: rt.badMember(o, ${q(f.name)}, cls, field); } }`;
}

// ---- decoders ------------------------------------------------------------------------------------------------------

function decoderSource(s: AnyStruct, version: Version, around: AnyFamily | undefined): string {
  const c: string[] = [];
  const [t, code] = errorOf(s.options, version);
  const short = (at: string) => `rt.fail(r, ${at}, ${q(`${s.cls} cut short`)}, ${t}, ${code})`;
  const props: string[] = [`cls: ${q(s.cls)}`];
  const bounds = new Map<string, string>();
  c.push(`function dec_${s.cls}(r, p, end) {`);
  c.push('const dv = r.dv;');
  for (const seg of segmentsOf(s, version)) {
    if (seg.fixed) {
      c.push(`if (end - p < ${seg.size}) ${short('p')};`);
      for (const { at, slot } of seg.slots) {
        const { kind, name } = slot;
        const from = `p + ${at}`;
        let expr: string | undefined;
        if (kind.t === 'uint') expr = `dv.getUint${kind.size * 8}(${from})`;
        else if (kind.t === 'u64') expr = `dv.getBigUint64(${from})`;
        else if (kind.t === 'mac') expr = `rt.readMac(r.b, ${from} - r.base)`;
        else if (kind.t === 'ipv4') expr = `rt.formatIpv4(dv.getUint32(${from}))`;
        else if (kind.t === 'str') expr = `rt.readString(r, ${from}, ${kind.size})`;
        else if (kind.t === 'struct') expr = `dec_${kind.of.cls}(r, ${from}, end)`;
        else if (kind.t === 'uints') {
          const items = Array.from({ length: kind.count as number }, (_, i) => i * kind.size);
          expr = `[${items.map((i) => `dv.getUint${kind.size * 8}(${from} + ${i})`).join(', ')}]`;
        } else if (kind.t === 'lenOf') {
          c.push(`const n_${kind.list} = dv.getUint16(${from});`);
          bounds.set(kind.list, `n_${kind.list}`);
        } else if (kind.t === 'countOf') {
          const element = s.fields[kind.list]?.kind;
          if (element?.t !== 'uints') throw new Error(`${s.cls}: ${kind.list} cannot be counted`);
          c.push(`const n_${kind.list} = dv.getUint16(${from}) * ${element.size};`);
          bounds.set(kind.list, `n_${kind.list}`);
        } else if (kind.t === 'oxmHeader') {
          const header = `rt.decodeOxmHeader(r, ${from}, ${from} + 4, ${t}, ${code})`;
          expr = kind.none ? `dv.getUint32(${from}) === 0 ? '' : ${header}` : header;
        }
        if (expr !== undefined) {
          c.push(`const f_${name} = ${expr};`);
          props.push(`${name}: f_${name}`);
        }
      }
      c.push(`p += ${seg.size};`);
    } else {
      const { kind, name } = seg.slot;
      const bound = bounds.get(name);
      let to = 'end';
      if (bound !== undefined) {
        c.push(`if (${bound} > end - p) ${short('p')};`);
        to = `p + ${bound}`;
      }
      let expr = '';
      if (kind.t === 'match' && kind.bare === NEVER_HEADED) {
        expr = `rt.decodeBareMatch(r, p, p, ${to}, end)`;
      } else if (kind.t === 'match' && kind.bare !== undefined) {
        c.push(`const f_${kind.bare} = rt.isHeaded(r, p, ${to});`);
        props.push(`${kind.bare}: f_${kind.bare}`);
        expr = `rt.decodeBareMatch(r, f_${kind.bare} ? p + 4 : p, p, ${to}, end)`;
      } else if (kind.t === 'match') expr = 'rt.decodeMatch(r, p, end)';
      else if (kind.t === 'tail') {
        c.push(`if (p !== end && end - p < 8) ${short('p')}; r.q = p === end ? p : p + 8;`);
        expr = 'p === end ? null : dv.getUint32(p)';
      } else if (kind.t === 'stats') expr = `rt.decodeStats(r, p, end, ${t}, ${code})`;
      else if (kind.t === 'oxms') expr = `rt.decodeOxms(r, p, end, ${t}, ${code})`;
      else if (kind.t === 'text') expr = 'rt.readText(r, p, end)';
      else if (kind.t === 'bytes') expr = 'rt.bytes(r, p, end)';
      else if (kind.t === 'struct') expr = memberSource(kind.of, name, version, c);
      else if (kind.t === 'message') {
        expr = 'rt.nested.decode(r, p, end)';
      } else if (kind.t === 'uints') expr = `rt.uints${kind.size}(r, p, ${to}, ${t}, ${code})`;
      else if (kind.t === 'oxmHeader') {
        expr = `rt.decodeOxmHeader(r, p, end, ${t}, ${code})`;
        if (kind.when !== undefined) expr = `(f_${kind.when.field} & ${kind.when.bit}) === 0 ? (r.q = p, '') : ${expr}`;
      } else if (kind.t === 'bitmap') expr = 'rt.decodeBitmap(r, p, end)';
      else if (kind.t === 'either') {
        expr =
          kind.count === undefined
            ? `decL_${kind.reads.cls}(r, p, end)`
            : `[${[...Array(kind.count).keys()].map((i) => `dec_${kind.reads.cls}(r, ${i === 0 ? 'p' : 'r.q'}, end)`)}]`;
      } else if (kind.t === 'list') expr = `decL_${kind.of.cls}(r, p, ${to})`;
      else if (kind.t === 'family') expr = `decF_${(kind.of ?? around)?.name}(r, p, ${to})`;
      const inner = kind.t === 'family' && kind.of === undefined;
      if (inner) {
        const often = q(`${s.cls} inside itself too often`);
        c.push(`if (++r.inside > ${MAX_DEPTH}) rt.fail(r, p, ${often}, ${t}, ${code});`);
      }
      const from = kind.t === 'message' && kind.before !== undefined ? 'const m0 = p; ' : '';
      c.push(`${from}const f_${name} = ${expr}; p = r.q;${inner ? ' r.inside--;' : ''}`);
      // padding in front of what follows; a peer may leave it out when nothing does
      if (from !== '') c.push('p = Math.min(end, m0 + ((p - m0 + 7) & ~7));');
      props.push(`${name}: f_${name}`);
    }
  }
  const last = slotsOf(s, version).at(-1)?.kind;
  if (s.options.padTo8 === 'inside' && last?.t === 'either') {
    c.push(`if (end - p >= 8) rt.fail(r, p, ${q(`${s.cls} too long`)}, ${t}, ${code}); p = end;`);
  }
  c.push(`r.q = p; return { ${props.join(', ')} }; }`);
  return c.join('\n');
}

/** Reads a structure that is a member of another one, and ends where its own length says when it has one. */
function memberSource(s: AnyStruct, name: string, version: Version, c: string[]): string {
  const lenAt = lengthOffset(s, version);
  if (lenAt === undefined || fixedSize(s, version) !== undefined) return `dec_${s.cls}(r, p, end)`;
  const [t, code] = errorOf(s.options, version);
  const min = minSize(s, version);
  c.push(`const n_${name} = end - p < ${min} ? 0 : dv.getUint16(p + ${lenAt});`);
  c.push(`if (n_${name} < ${min} || n_${name} > end - p)`);
  c.push(`rt.fail(r, p, ${q(`${s.cls} has a wrong length`)}, ${t}, ${code});`);
  return `dec_${s.cls}(r, p, p + n_${name})`;
}

/** Reads structures of one class up to `end`. */
function listDecoderSource(s: AnyStruct, version: Version): string {
  const [t, code] = errorOf(s.options, version);
  const bad = (what: string) => `rt.fail(r, p, ${q(`${s.cls} ${what}`)}, ${t}, ${code})`;
  const size = fixedSize(s, version);
  const lenAt = lengthOffset(s, version);
  const head = `function decL_${s.cls}(r, p, end) { const out = []; `;
  // Some structures end where their last field does, which tells its own length.
  const last = slotsOf(s, version).at(-1)?.kind.t;
  const endsItself = s.options.custom !== undefined || last === 'match' || last === 'tail';
  if (lenAt === undefined && endsItself) {
    return `${head}while (p < end) { const e = dec_${s.cls}(r, p, end); if (e !== undefined) out.push(e); p = r.q; }
r.q = end; return out; }`;
  }
  if (size !== undefined && lenAt === undefined) {
    return `${head}while (p < end) { if (end - p < ${size}) ${bad('cut short')};
out.push(dec_${s.cls}(r, p, p + ${size})); p += ${size}; } r.q = end; return out; }`;
  }
  if (lenAt === undefined) throw new Error(`${s.cls} cannot stand in a list`);
  // A structure of fixed size that tells another length would lose bytes: that is an error, not an extension point.
  const wrong = size === undefined ? `n < ${minSize(s, version)} || n > end - p` : `n !== ${size} || n > end - p`;
  return `${head}while (p < end) { if (end - p < ${minSize(s, version)}) ${bad('cut short')};
const n = r.dv.getUint16(p + ${lenAt}); if (${wrong}) ${bad('has a wrong length')};
out.push(dec_${s.cls}(r, p, p + n)); p += n; } r.q = end; return out; }`;
}

/** TLV types a member answers to. */
export function typesOf(m: AnyStruct, version: Version): readonly number[] {
  if (m.options.types !== undefined) {
    return m.options.types.flatMap((v) => (typeof v === 'number' ? [v] : v[1].includes(version) ? [v[0]] : []));
  }
  for (const slot of slotsOf(m, version)) if (slot.kind.t === 'const') return [slot.kind.value];
  throw new Error(`${m.cls} has no type`);
}

function familyDecoderSource(f: AnyFamily, version: Version): string {
  const [t, code] = errorOf(f.options, version);
  const { min, aligned, padTo8, experimenter, lengthFirst } = f.options;
  const members = f.members.filter((m) => holds(m, version));
  const unknown = unknownOf(f, version);
  const read = (m: AnyStruct) => {
    const size = fixedSize(m, version);
    const check =
      size === undefined
        ? ''
        : `if (n !== ${size}) rt.fail(r, p, ${q(`${m.cls} has a wrong length`)}, ${t}, ${code}); `;
    const last = slotsOf(m, version).at(-1)?.kind;
    // What belongs to an experimenter is said to be words, but some send bytes: then it is kept raw.
    const cls =
      last?.t === 'uints' && last.size === 4 && last.count === undefined
        ? `((n & 3) === 0 ? dec_${m.cls} : dec_${unknown.cls})`
        : `dec_${m.cls}`;
    return `${check}out.push(${cls}(r, p, p + n));`;
  };
  const own = members.filter((m) => m.options.experimenter !== undefined);
  const cases = members
    .filter((m) => m.options.experimenter === undefined)
    .map((m) => {
      const types = typesOf(m, version);
      const first = types[0] === experimenter?.type ? experimenterSource(own, f, read) : '';
      return `${types.map((v) => `case ${v}:`).join(' ')} ${first}${read(m)} break;`;
    });
  // Some peers leave out the padding of the last TLV: the end of what holds it counts as padding.
  const step = padTo8 ? 'p = Math.min(end, p + ((n + 7) & ~7));' : 'p += n;';
  return `function decF_${f.name}(r, p, end) { const out = []; const dv = r.dv;
while (p < end) { if (end - p < 4) rt.fail(r, p, ${q(`${f.name} header cut short`)}, ${t}, ${code});
const n = dv.getUint16(p${lengthFirst ? '' : ' + 2'});
if (n < ${min} || n > end - p${aligned ? ' || (n & 7) !== 0' : ''}) rt.fail(r, p, ${q(`${f.name} of length `)} + n, ${t}, ${code});
one: switch (dv.getUint16(p${lengthFirst ? ' + 2' : ''})) {
${cases.join('\n')}
default: out.push(dec_${unknown.cls}(r, p, p + n)); }
${step} } r.q = end; return out; }`;
}

/** Tells experimenters' structures apart; falls through to what keeps unknown ones. */
function experimenterSource(own: readonly AnyStruct[], f: AnyFamily, read: (m: AnyStruct) => string): string {
  const size = f.options.experimenter?.subtypeSize ?? 4;
  // by experimenter and its own type: first those told apart by the word behind it
  const bySubtype = new Map<number, Map<number, string>>();
  const byId = new Map<number, string>();
  const told = own.filter((m) => m.options.experimenter?.[2] !== undefined);
  for (const m of [...told, ...own.filter((m) => !told.includes(m))]) {
    const [id, subtype, word] = m.options.experimenter as readonly [number, number?, number?];
    const found = `${read(m)} break one;`;
    if (subtype === undefined) {
      byId.set(id, found);
      continue;
    }
    const subtypes = bySubtype.get(id) ?? new Map<number, string>();
    const test = word === undefined ? found : `if (n >= 16 && dv.getUint32(p + 12) === ${word}) { ${found} }`;
    subtypes.set(subtype, `${subtypes.get(subtype) ?? ''}${test}\n`);
    bySubtype.set(id, subtypes);
  }
  const ids = [...new Set([...bySubtype.keys(), ...byId.keys()])];
  if (ids.length === 0) return '';
  const cases = ids.map((id) => {
    const sub = bySubtype.get(id);
    const types = [...(sub ?? [])].map(([type, found]) => `case ${type}: ${found} break;`);
    const inner =
      types.length === 0 ? '' : `if (n >= ${8 + size}) switch (dv.getUint${size * 8}(p + 8)) {\n${types.join('\n')} }`;
    return `case ${id}: ${inner} ${byId.get(id) ?? ''} break;`;
  });
  return `if (n >= 8) switch (dv.getUint32(p + 4)) {\n${cases.join('\n')} }\n`;
}

// ---- factories -----------------------------------------------------------------------------------------------------

function makerSource(s: AnyStruct, version: Version): string {
  const cls = q(s.cls);
  const props: string[] = [`cls: ${cls}`];
  for (const slot of slotsOf(s, version)) {
    const { name, kind, field } = slot;
    if (name === '' || field?.presence === 'hidden') continue;
    const v = `i.${name}`;
    const or = (dflt: string, convert: string) =>
      field?.presence === 'required' ? `${name}: ${convert}` : `${name}: ${v} === undefined ? ${dflt} : ${convert}`;
    const dflt = field?.except?.versions.includes(version) === true ? field.except.dflt : field?.dflt;
    if (field === undefined) {
      props.push(or(name === 'version' ? String(version) : '0', v));
    } else if (kind.t === 'uint' || kind.t === 'tail' || kind.t === 'headed') {
      props.push(or(String(dflt), v));
    } else if (kind.t === 'u64') {
      props.push(or(`${dflt}n`, `rt.u64(${v}, ${cls}, ${q(name)})`));
    } else if (kind.t === 'mac' || kind.t === 'ipv4') {
      props.push(or(q(dflt), `rt.${kind.t}(${v}, ${cls}, ${q(name)})`));
    } else if (kind.t === 'str' || kind.t === 'text') {
      props.push(or('""', v));
    } else if (kind.t === 'match' && field.presence === 'optional') {
      props.push(or(`rt.OFPMatch({}, ${version})`, v));
    } else if (kind.t === 'stats') {
      props.push(or('rt.OFPStats()', v));
    } else if (kind.t === 'oxms') {
      props.push(or('[]', `rt.normaliseOxms(rt.list(${v}, ${cls}, ${q(name)}), ${cls}, ${version})`));
    } else if (kind.t === 'message' && kind.xid === 'outer') {
      props.push(`${name}: rt.withXid(${v}, i.xid)`);
    } else if (kind.t === 'bytes') {
      props.push(or('rt.none', `rt.buffer(${v}, ${cls}, ${q(name)})`));
    } else if (kind.t === 'list' || kind.t === 'family' || kind.t === 'either') {
      props.push(or('[]', `rt.list(${v}, ${cls}, ${q(name)}).slice()`));
    } else if (kind.t === 'uints') {
      const none = kind.count === undefined ? '[]' : `[${new Array(kind.count).fill(0).join(', ')}]`;
      props.push(or(none, `rt.list(${v}, ${cls}, ${q(name)}).slice()`));
    } else if (kind.t === 'oxmHeader' && field.presence === 'optional') {
      props.push(or("''", v));
    } else if (kind.t === 'bitmap') {
      props.push(`${name}: rt.list(${v}, ${cls}, ${q(name)}).slice()`);
    } else if (kind.t === 'struct') {
      props.push(or(`make_${kind.of.cls}(undefined)`, v));
    } else {
      props.push(`${name}: ${v}`);
    }
  }
  const fields = s.options.toFields === undefined ? '' : `i = rt.toFields.get(${cls})(i);`;
  return `function make_${s.cls}(i) { if (i === undefined) i = rt.nothing; ${fields} return { ${props.join(', ')} }; }`;
}

// ---- helpers of the generated source -------------------------------------------------------------------------------

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

const runtime = {
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

// ---- putting it together -------------------------------------------------------------------------------------------

/** Everything the given declarations reach in a version, each class once. */
function reach(
  roots: readonly AnyStruct[],
  version: Version,
): {
  structs: Map<string, AnyStruct>;
  families: Set<AnyFamily>;
  lists: Set<AnyStruct>;
  /** The family a structure is a member of. */
  inside: Map<AnyStruct, AnyFamily>;
} {
  const structs = new Map<string, AnyStruct>();
  const families = new Set<AnyFamily>();
  const lists = new Set<AnyStruct>();
  const inside = new Map<AnyStruct, AnyFamily>();
  const visit = (s: AnyStruct): void => {
    if (!holds(s, version)) throw new Error(`${s.cls} is used in version ${version}, where it is not declared`);
    const known = structs.get(s.cls);
    if (known !== undefined) {
      if (known !== s) throw new Error(`${s.cls} is declared twice for version ${version}`);
      return;
    }
    structs.set(s.cls, s);
    for (const { kind, versions } of Object.values(s.fields)) {
      if (versions?.includes(version) === false) continue;
      if (kind.t === 'struct') visit(kind.of);
      if (kind.t === 'list') {
        lists.add(kind.of);
        visit(kind.of);
      }
      if (kind.t === 'either') {
        lists.add(kind.reads);
        for (const m of kind.of) visit(m);
      }
      if (kind.t === 'family' && kind.of !== undefined && !families.has(kind.of)) {
        families.add(kind.of);
        for (const m of kind.of.members) {
          if (!holds(m, version)) continue;
          inside.set(m, kind.of);
          visit(m);
        }
        visit(unknownOf(kind.of, version));
      }
    }
  };
  for (const s of roots) if (holds(s, version)) visit(s);
  return { structs, families, lists, inside };
}

/** Names of all classes that messages of a version reach. */
export const classNames = (roots: readonly AnyStruct[], version: Version): readonly string[] => [
  ...reach(roots, version).structs.keys(),
];

/** Compiles the declarations that hold for `version`. */
export function compile(roots: readonly AnyStruct[], version: Version, nested: Nested): Compiled {
  const { structs, families, lists, inside } = reach(roots, version);
  const source: string[] = ['"use strict";'];
  const customs = new Map<string, Custom>();
  const toFields = new Map<string, unknown>();
  const jsonNames = new Map<string, AnyStruct[]>();
  for (const s of structs.values()) {
    const { custom } = s.options;
    const name = jsonFormOf(s, version)?.cls ?? s.cls;
    jsonNames.set(name, [...(jsonNames.get(name) ?? []), s]);
    if (s.options.toFields !== undefined) toFields.set(s.cls, s.options.toFields);
    if (custom === undefined) {
      const around = inside.get(s);
      source.push(encoderSource(s, version, around), decoderSource(s, version, around), makerSource(s, version));
    } else {
      customs.set(s.cls, custom);
      const ref = `rt.customs.get(${q(s.cls)})`;
      source.push(`const c_${s.cls} = ${ref};
function enc_${s.cls}(o, w) { c_${s.cls}.encode(o, w); }
function dec_${s.cls}(r, p, end) { return c_${s.cls}.decode(r, p, end); }
function make_${s.cls}(i) { return c_${s.cls}.make(i === undefined ? rt.nothing : i, ${version}); }`);
    }
  }
  for (const f of families) source.push(familyEncoderSource(f, version), familyDecoderSource(f, version));
  for (const s of lists) source.push(listDecoderSource(s, version));
  const names = [...structs.keys()];
  const table = (prefix: string) => `new Map([${names.map((n) => `[${q(n)}, ${prefix}_${n}]`).join(', ')}])`;
  source.push(`return { encode: ${table('enc')}, decode: ${table('dec')}, make: ${table('make')} };`);
  const build = new Function('rt', source.join('\n')) as (rt: unknown) => Pick<Compiled, 'encode' | 'decode' | 'make'>;
  return { ...build({ ...runtime, customs, toFields, nested }), structs, jsonNames, version };
}
