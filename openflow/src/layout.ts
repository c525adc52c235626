/**
 * How a declaration of schema.ts lies on the wire in one version: which fields it has, their sizes and offsets, what tells
 * its length and its type. Used by the compiler (compile.ts and its neighbours), codec.ts and json.ts.
 */
import type { AnyFamily, AnyStruct, ErrorPair, Field, JsonForm, Kind, MessageHeader, Version } from './schema.ts';

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

export function slotsOf(s: AnyStruct, version: Version): Slot[] {
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
export function minSize(s: AnyStruct, version: Version): number {
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

export function segmentsOf(s: AnyStruct, version: Version): Segment[] {
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
/** What Ryu's JSON does with a class in a version, where that is special. */
export const jsonFormOf = (s: AnyStruct, version: Version): JsonForm | undefined =>
  s.options.json?.versions.includes(version) === true ? s.options.json : undefined;

/** The error to answer with for bytes that cannot be this. */
export const errorOf = (o: { readonly err: ErrorPair; readonly errFrom14?: ErrorPair }, version: Version): ErrorPair =>
  version >= 5 ? (o.errFrom14 ?? o.err) : o.err;

/** Whether a declaration holds in a version. */
export const holds = (s: AnyStruct, version: Version): boolean => s.options.versions.includes(version);

/** The member of a family that keeps what no other one reads. */
export function unknownOf(f: AnyFamily, version: Version): AnyStruct {
  const unknown = f.unknowns.find((m) => holds(m, version));
  if (unknown === undefined) throw new Error(`${f.name} has no member for unknown types in version ${version}`);
  return unknown;
}

/** TLV types a member answers to. */
export function typesOf(m: AnyStruct, version: Version): readonly number[] {
  if (m.options.types !== undefined) {
    return m.options.types.flatMap((v) => (typeof v === 'number' ? [v] : v[1].includes(version) ? [v[0]] : []));
  }
  for (const slot of slotsOf(m, version)) if (slot.kind.t === 'const') return [slot.kind.value];
  throw new Error(`${m.cls} has no type`);
}

/** A text as it stands in JavaScript source. */
export const q = JSON.stringify;
