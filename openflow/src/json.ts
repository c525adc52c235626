/**
 * Ryu's JSON: what `to_jsondict` prints and `from_jsondict` reads, made by walking the declarations, and a reader and
 * printer of JSON that keep 64-bit integers whole (`JSON.parse` rounds them).
 */
import { compiledOf, VERSIONS } from './codec.ts';
import type { Compiled, Decode, Encode, Make } from './compile.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfEncodeError } from './errors.ts';
import { jsonFormOf, lengthOffset, lengthOffsetOf } from './layout.ts';
import { encodeMatch, type OFPMatch } from './match.ts';
import type { OfMessage } from './messages.ts';
import { nicira_ext } from './niciraConstants.ts';
import { oxmFromJson, oxmHeaderToJson, oxmToJson } from './oxmForms.ts';
import { encodeStats, type OFPStats, statsFromJson } from './oxs.ts';
import type { PropUnknown } from './properties.ts';
import type { AnyStruct, Kind } from './schema.ts';
import { describe, newReader, type Version, Writer } from './wire.ts';

/** A JSON value whose large integers are bigints. */
export type Json = null | boolean | number | bigint | string | Json[] | { [key: string]: Json };

const scratch = new Writer();

/** Writes a structure and returns what stands in the 16 bits at `at`; its size when that is undefined. */
function lengthOf(c: Compiled, s: AnyStruct, o: object, at: number | undefined): number {
  scratch.begin(c.version);
  (c.encode.get(s.cls) as Encode)(o, scratch);
  return at === undefined ? scratch.p - scratch.start : scratch.dv.getUint16(scratch.start + at);
}

/** The object of class `cls` that has the bytes of `o`. */
function readAs(c: Compiled, o: { cls: string }, cls: string): { cls: string } {
  scratch.begin(c.version);
  (c.encode.get(o.cls) as Encode)(o, scratch);
  const r = newReader();
  // a copy: what the result refers to must outlive the scratch buffer
  r.b = Buffer.from(scratch.b.subarray(scratch.start, scratch.p));
  r.dv = new DataView(r.b.buffer, r.b.byteOffset, r.b.length);
  r.version = c.version;
  return (c.decode.get(cls) as Decode)(r, 0, r.b.length) as { cls: string };
}

function matchToJson(m: OFPMatch, version: Version): Json {
  scratch.begin(version);
  encodeMatch(m, scratch, 'OFPMatch', 'fields');
  const length = scratch.dv.getUint16(scratch.start + 2);
  const oxm_fields = Object.entries(m.fields).map(([field, v]) => oxmToJson(field, v, version) as Json);
  return { OFPMatch: { length, oxm_fields, type: ofp.OFPMT_OXM } };
}

function statsToJson(o: OFPStats, version: Version): Json {
  scratch.begin(version);
  encodeStats(o, scratch, 'OFPStats', 'fields');
  const length = scratch.dv.getUint16(scratch.start + 2);
  const oxs_fields = Object.entries(o.fields).map(([field, value]): Json => ({ OXSTlv: { field, value } }) as Json);
  return { OFPStats: { length, oxs_fields } };
}

function valueToJson(c: Compiled, kind: Kind, v: unknown): Json {
  switch (kind.t) {
    case 'match':
      return matchToJson(v as OFPMatch, c.version);
    case 'stats':
      return statsToJson(v as OFPStats, c.version);
    case 'oxms':
      return (v as { field: string; value: unknown }[]).map((e) => oxmToJson(e.field, e.value, c.version) as Json);
    case 'message':
      return objectToJson(c, v as { cls: string });
    case 'bytes':
      return Buffer.from(v as Uint8Array).toString('base64');
    case 'oxmHeader':
      return oxmHeaderToJson(v as string, c.version);
    case 'struct':
      return objectToJson(c, v as { cls: string });
    case 'list': {
      const elements = v as Record<string, unknown>[];
      const { key } = kind;
      if (key === undefined) return elements.map((e) => objectToJson(c, e as { cls: string }));
      return Object.fromEntries(elements.map((e) => [String(e[key]), objectToJson(c, e as { cls: string })]));
    }
    case 'family':
    case 'either': {
      const elements = v as { cls: string }[];
      return elements.map((e, i) =>
        e.cls === 'OFPPropUnknown' ? unknownToJson(c, elements.slice(i) as [PropUnknown]) : objectToJson(c, e),
      );
    }
    default:
      return v as Json;
  }
}

/** Ryu's JSON of an unknown property has its bytes and those of the properties behind it. */
function unknownToJson(c: Compiled, rest: readonly [PropUnknown, ...{ cls: string }[]]): Json {
  const [first] = rest;
  scratch.begin(c.version);
  for (const e of rest) (c.encode.get(e.cls) as Encode)(e, scratch);
  const buf = scratch.b.toString('base64', scratch.start, scratch.p);
  return { OFPPropUnknown: { buf, length: 4 + first.data.length, type: first.type } };
}

function objectToJson(c: Compiled, o: { cls: string }): Json {
  const s = c.structs.get(o?.cls);
  if (s === undefined)
    throw new OfEncodeError(String(o?.cls), 'cls', `no such class in version ${c.version}: ${describe(o)}`);
  const { jsonAs } = s.options;
  if (jsonAs?.versions.includes(c.version) === true) return objectToJson(c, readAs(c, o, jsonAs.cls));
  const attrs: [string, Json][] = [];
  if (s.options.custom !== undefined) {
    for (const [k, v] of Object.entries(s.options.custom.toJson(o, c.version))) attrs.push([k, v as Json]);
  } else {
    for (const [name, { kind, versions, extra, dflt }] of Object.entries(s.fields)) {
      if (versions?.includes(c.version) === false) continue;
      const v = (o as unknown as Record<string, unknown>)[name];
      if (kind.t === 'pad') continue;
      if (extra?.includes(c.version) === true && (v as { length: number }).length === 0) continue;
      if (kind.t === 'const') {
        if (kind.json !== undefined) attrs.push([kind.json, kind.value]);
      } else if (kind.t === 'len') {
        if (kind.json !== undefined) attrs.push([kind.json, lengthOf(c, s, o, lengthOffset(s, c.version))]);
      } else if (kind.t === 'lenOf') {
        if (kind.json !== undefined) {
          attrs.push([kind.json, lengthOf(c, s, o, lengthOffsetOf(s, kind.list, c.version))]);
        }
      } else if (kind.t === 'headed') {
        if (v !== dflt) attrs.push([name, v as boolean]);
      } else if (kind.t === 'size') {
        attrs.push([kind.json, lengthOf(c, s, o, undefined)]);
      } else if (kind.t === 'countOf') {
        const { length } = (o as unknown as Record<string, unknown[]>)[kind.list] as unknown[];
        if (kind.json !== undefined) attrs.push([kind.json, length]);
      } else if (kind.t === 'bytes' && kind.empty === 'null' && (v as Uint8Array).length === 0) {
        attrs.push([name, null]);
      } else {
        attrs.push([name, valueToJson(c, kind, v)]);
      }
    }
  }
  const form = jsonFormOf(s, c.version);
  const more = { ...form?.attributes, ...form?.repeated?.(o) } as Record<string, Json>;
  attrs.push(...Object.entries(more));
  attrs.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  const json = { [form?.cls ?? s.cls]: Object.fromEntries(attrs) };
  return form?.inside === undefined ? json : { [form.inside]: { data: json, vendor: nicira_ext.NX_EXPERIMENTER_ID } };
}

/**
 * A message, or any structure of one, as Ryu's `to_jsondict` gives it: the class name is the only key, attributes are
 * sorted, bytes are base64, version and xid do not appear. 64-bit integers are bigints: print with `stringifyJson`.
 *
 * Lengths are those the bytes would have. Ryu prints null for some of them until the object was serialised. Messages know
 * their version; of their parts, `version` tells it (default 4, OpenFlow 1.3).
 */
export function toJson(msg: { readonly cls: string; readonly version?: number }, version?: Version): Json {
  const c = compiledFor(msg, version);
  if (msg?.cls === 'OFPMatch' && 'fields' in msg) return matchToJson(msg as unknown as OFPMatch, c.version);
  if (msg?.cls === 'OFPStats' && 'fields' in msg) return statsToJson(msg as unknown as OFPStats, c.version);
  return objectToJson(c, msg);
}

/** Hello, error and echo of a version to come look as in 1.3. */
function compiledFor(msg: { readonly version?: number } | null | undefined, version: Version | undefined): Compiled {
  const v = version ?? (msg?.version as Version | undefined) ?? 4;
  return compiledOf(VERSIONS.includes(v) ? v : 4);
}

type Attrs = Readonly<Record<string, unknown>>;

function only(obj: unknown, what: string): [string, Attrs] {
  if (typeof obj === 'object' && obj !== null && !Array.isArray(obj)) {
    const entries = Object.entries(obj);
    const [first] = entries;
    if (entries.length === 1 && first !== undefined && typeof first[1] === 'object' && first[1] !== null) {
      return [first[0], first[1] as Attrs];
    }
  }
  throw new OfEncodeError(what, 'cls', `not an object with a class name as its only key: ${describe(obj)}`);
}

function matchFromJson(obj: unknown, version: Version): OFPMatch {
  const [cls, attrs] = only(obj, 'OFPMatch');
  if (cls !== 'OFPMatch' || !Array.isArray(attrs.oxm_fields))
    throw new OfEncodeError('OFPMatch', 'oxm_fields', 'missing');
  const fields: Record<string, unknown> = {};
  for (const entry of attrs.oxm_fields) {
    const [field, value] = oxmFromJson(entry, 'OFPMatch', version);
    fields[field] = value;
  }
  return { cls: 'OFPMatch', fields: fields as OFPMatch['fields'] };
}

function valueFromJson(c: Compiled, kind: Kind, v: unknown, cls: string, field: string): unknown {
  switch (kind.t) {
    case 'match':
      return matchFromJson(v, c.version);
    case 'stats':
      return statsFromJson(v);
    case 'oxms':
      if (!Array.isArray(v)) throw new OfEncodeError(cls, field, `not an array: ${describe(v)}`);
      return v.map((e) => {
        const [name, value] = oxmFromJson(e, cls, c.version);
        return { field: name, value };
      });
    case 'message': {
      const message = objectFromJson(c, v);
      if (!('xid' in message && 'version' in message)) throw new OfEncodeError(cls, field, 'not a message');
      return message;
    }
    case 'bytes':
      if (typeof v !== 'string') throw new OfEncodeError(cls, field, `not base64: ${describe(v)}`);
      return Buffer.from(v, 'base64');
    case 'struct':
      return objectFromJson(c, v);
    case 'list':
    case 'family':
    case 'either':
      if (kind.t === 'list' && kind.key !== undefined) {
        if (typeof v !== 'object' || v === null) throw new OfEncodeError(cls, field, `not an object: ${describe(v)}`);
        return Object.values(v).map((e) => objectFromJson(c, e));
      }
      if (!Array.isArray(v)) throw new OfEncodeError(cls, field, `not an array: ${describe(v)}`);
      return v.map((e) => objectFromJson(c, e));
    default:
      return v;
  }
}

/** The class a name stands for; of several the one of that `type`. */
function classOf(c: Compiled, cls: string, attrs: Attrs): AnyStruct {
  const all = c.jsonNames.get(cls) ?? [];
  const s =
    all.length < 2
      ? all[0]
      : all.find((one) =>
          Object.values(one.fields).some(
            ({ kind }) => kind.t === 'const' && kind.json === 'type' && kind.value === attrs.type,
          ),
        );
  if (s !== undefined) return s;
  throw all.length === 0
    ? new OfEncodeError(cls, 'cls', `no such class in version ${c.version}`)
    : new OfEncodeError(cls, 'type', `no ${cls} has this type: ${describe(attrs.type)}`);
}

function objectFromJson(c: Compiled, obj: unknown): object {
  const [cls, attrs] = only(obj, 'JSON');
  // Ryu's messages of a vendor are inside
  if (cls === 'OFPVendor' && typeof attrs.data === 'object' && attrs.data !== null)
    return objectFromJson(c, attrs.data);
  const s = classOf(c, cls, attrs);
  const make = c.make.get(s.cls) as Make;
  if (s.options.custom !== undefined) return make(s.options.custom.fromJson(attrs, c.version) as object);
  const input: Record<string, unknown> = {};
  const ignored = new Set<string>(Object.keys(jsonFormOf(s, c.version)?.attributes ?? {}));
  for (const [name, { kind, presence, versions }] of Object.entries(s.fields)) {
    if (versions?.includes(c.version) === false) continue;
    if (kind.t === 'const' || kind.t === 'len' || kind.t === 'lenOf' || kind.t === 'countOf' || kind.t === 'size') {
      if (kind.json !== undefined) ignored.add(kind.json);
    } else if (kind.t !== 'pad') {
      ignored.add(name);
      const v = attrs[name];
      // Ryu prints null for what was not set
      if (v === undefined || v === null) {
        if (kind.t === 'tail' && v === null) input[name] = v;
        if (presence === 'required') throw new OfEncodeError(cls, name, 'missing');
        continue;
      }
      input[name] = valueFromJson(c, kind, v, cls, name);
    }
  }
  for (const name of Object.keys(attrs)) {
    if (!ignored.has(name)) throw new OfEncodeError(cls, name, 'no such attribute');
  }
  return make(input);
}

/**
 * Reads a message, or any structure, in the form of Ryu's `from_jsondict`. Types and lengths of sub-structures are
 * ignored and computed anew; attributes that are missing or null take the factory's default.
 *
 * Ryu's JSON does not tell the version: `version` does, by its number on the wire (default 4, OpenFlow 1.3).
 *
 * @throws OfEncodeError naming the class and the attribute
 */
export function fromJson(obj: unknown): OfMessage<4>;
export function fromJson<V extends Version>(obj: unknown, version: V): OfMessage<V>;
export function fromJson(obj: unknown, version: Version = 4): unknown {
  return objectFromJson(compiledOf(version), obj);
}

/** JSON text in which bigints are plain integers. `indent` works as in `JSON.stringify`. */
export function stringifyJson(value: unknown, indent = 0): string {
  return print(value, indent, '');
}

function print(v: unknown, indent: number, margin: string): string {
  if (typeof v === 'bigint') return v.toString();
  if (typeof v !== 'object' || v === null) return JSON.stringify(v) ?? 'null';
  const inner = margin + ' '.repeat(indent);
  const [open, sep, close] = indent > 0 ? [`\n${inner}`, `,\n${inner}`, `\n${margin}`] : ['', ', ', ''];
  if (Array.isArray(v)) {
    return v.length === 0 ? '[]' : `[${open}${v.map((e) => print(e, indent, inner)).join(sep)}${close}]`;
  }
  const entries = Object.entries(v).filter(([, e]) => e !== undefined);
  if (entries.length === 0) return '{}';
  return `{${open}${entries.map(([k, e]) => `${JSON.stringify(k)}: ${print(e, indent, inner)}`).join(sep)}${close}}`;
}

const MAX_DEPTH = 200;
const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y;
// JSON forbids them in strings.
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;

/**
 * Reads JSON text; integers beyond 2^53 become bigints, all others numbers.
 *
 * @throws SyntaxError
 */
export function parseJson(text: string): Json {
  let at = 0;
  const bad = (what: string): never => {
    throw new SyntaxError(`${what} at ${at}`);
  };
  const take = (re: RegExp): RegExpExecArray | null => {
    re.lastIndex = at;
    const m = re.exec(text);
    if (m !== null) at += m[0].length;
    return m;
  };
  const space = () => take(SPACE);
  const string = (): string => {
    const m = take(STRING);
    return m === null ? bad('string expected') : (JSON.parse(m[0]) as string);
  };
  const value = (depth: number): Json => {
    if (depth > MAX_DEPTH) bad('nested too deep');
    space();
    const c = text[at];
    if (c === '"') return string();
    if (c === '{') {
      const out: { [key: string]: Json } = {};
      at++;
      space();
      if (text[at] === '}') {
        at++;
        return out;
      }
      for (;;) {
        space();
        const key = string();
        space();
        if (text[at++] !== ':') bad('colon expected');
        const v = value(depth + 1);
        // `__proto__` must become a member like any other
        Object.defineProperty(out, key, { value: v, enumerable: true, configurable: true, writable: true });
        space();
        const next = text[at++];
        if (next === '}') return out;
        if (next !== ',') bad('comma or brace expected');
      }
    }
    if (c === '[') {
      const out: Json[] = [];
      at++;
      space();
      if (text[at] === ']') {
        at++;
        return out;
      }
      for (;;) {
        out.push(value(depth + 1));
        space();
        const next = text[at++];
        if (next === ']') return out;
        if (next !== ',') bad('comma or bracket expected');
      }
    }
    for (const [word, v] of [
      ['null', null],
      ['true', true],
      ['false', false],
    ] as const) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return v;
      }
    }
    const m = take(NUMBER);
    if (m === null) return bad('value expected');
    const n = Number(m[0]);
    return m[1] === undefined && m[2] === undefined && !Number.isSafeInteger(n) ? BigInt(m[0]) : n;
  };
  const result = value(0);
  space();
  if (at !== text.length) bad('unexpected text');
  return result;
}
