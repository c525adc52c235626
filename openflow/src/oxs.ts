/**
 * OXS: the table of flow statistics of OpenFlow 1.5, and OFPStats, which is made of them (OpenFlow 1.5.1 §7.2.4). Rows are
 * those of oxmFields.ts, without masks. Used by runtime.ts (statistics inside messages) and json.ts.
 */
import { ofproto_v1_5 as ofp } from './constants15.ts';
import { OfEncodeError } from './errors.ts';
import { encodeRaw, getValue, putValue } from './oxm.ts';
import { type OxmKind, type OxmRow, row, type UnknownOxmName, type ValueOfKind } from './oxmFields.ts';
import { type CompiledOxm, compileRow, rawRow } from './oxmRows.ts';
import { fail, type Reader, type Writer } from './wire.ts';

function basic<K extends OxmKind>(num: number, kind: K): OxmRow<K> {
  return row(ofp.OFPXSC_OPENFLOW_BASIC, num, kind);
}

/** Every statistic this library knows by name; the names are Ryu's. OpenFlow 1.5.1 §7.2.4. */
export const OXS_FIELDS = {
  duration: basic(ofp.OFPXST_OFB_DURATION, 'time'),
  idle_time: basic(ofp.OFPXST_OFB_IDLE_TIME, 'time'),
  flow_count: basic(ofp.OFPXST_OFB_FLOW_COUNT, 'u32'),
  packet_count: basic(ofp.OFPXST_OFB_PACKET_COUNT, 'u64'),
  byte_count: basic(ofp.OFPXST_OFB_BYTE_COUNT, 'u64'),
};

type Rows = typeof OXS_FIELDS;
/** Name of a statistic, as in Ryu. */
export type OxsName = keyof Rows;
type ValueOf<N extends OxsName> = Rows[N] extends OxmRow<infer K> ? ValueOfKind<K> : never;
type InputOf<N extends OxsName> = ValueOf<N> extends bigint ? bigint | number : Readonly<ValueOf<N>>;
/** Statistics by name. Unknown ones are base64, as in Ryu. */
export type StatsFields = { [N in OxsName]?: ValueOf<N> } & { [N in UnknownOxmName]?: string };
/** What `OFPStats` takes: times are `[seconds, nanoseconds]`. */
export type StatsInput = { readonly [N in OxsName]?: InputOf<N> | undefined } & {
  readonly [N in UnknownOxmName]?: string | undefined;
};

/** Flow statistics, or thresholds of them. OpenFlow 1.5.1 §7.2.4. */
export interface OFPStats {
  cls: 'OFPStats';
  fields: StatsFields;
}

const byName = new Map<string, CompiledOxm>();
const byType = new Map<number, CompiledOxm>();
for (const [name, r] of Object.entries(OXS_FIELDS)) {
  const c = compileRow(name, r);
  byName.set(name, c);
  byType.set(c.type, c);
}

function rowOf(name: string): CompiledOxm {
  const c = byName.get(name) ?? rawRow(name);
  if (c === undefined) throw new OfEncodeError('OFPStats', name, 'no such statistic');
  return c;
}

/** Writes an OFPStats with its padding. OpenFlow 1.5.1 §7.2.4. */
export function encodeStats(stats: OFPStats, w: Writer, cls: string, field: string): void {
  const fields = stats?.fields as Readonly<Record<string, unknown>> | undefined;
  if (typeof fields !== 'object' || fields === null) throw new OfEncodeError(cls, field, 'not an OFPStats');
  if (w.cap - w.p < 8) w.grow(8);
  const from = w.p - w.start;
  w.p += 4;
  for (const name in fields) {
    const c = rowOf(name);
    const value = fields[name];
    if (c.kind === 'raw') {
      if (typeof value !== 'string') throw new OfEncodeError('OFPStats', name, 'not base64');
      encodeRaw(w, c, value, 'OFPStats');
      continue;
    }
    if (w.cap - w.p < 12) w.grow(12);
    w.dv.setUint32(w.p, c.header);
    putValue(w, w.p + 4, c, value, 'OFPStats');
    w.p += 4 + c.size;
  }
  const at = w.start + from;
  const length = w.p - at;
  w.dv.setUint16(at, 0);
  w.dv.setUint16(at + 2, length);
  w.zeros((8 - (length & 7)) & 7);
}

/** Reads an OFPStats and its padding; leaves `r.q` behind it. OpenFlow 1.5.1 §7.2.4. */
export function decodeStats(r: Reader, p: number, end: number, type: number, code: number): OFPStats {
  if (end - p < 4) fail(r, p, 'statistics cut short', type, code);
  const length = r.dv.getUint16(p + 2);
  const padded = (length + 7) & ~7;
  if (length < 4 || padded > end - p) fail(r, p, `statistics of length ${length}`, type, code);
  const fields: Record<string, unknown> = {};
  const stop = p + length;
  for (let at = p + 4; at < stop; ) {
    if (stop - at < 4) fail(r, at, 'OXS header cut short', type, code);
    const header = r.dv.getUint32(at);
    const size = header & 255;
    let from = at + 4;
    const next = from + size;
    if (next > stop) fail(r, at, 'OXS longer than what holds it', type, code);
    // The bit between field and length is reserved.
    const oxs = header >>> 9;
    const c = byType.get(oxs);
    let name = c === undefined ? `field_${oxs}` : c.name;
    if (c === undefined && oxs >>> 7 === ofp.OFPXSC_EXPERIMENTER && size >= 4) {
      name = `field_${oxs}_${r.dv.getUint32(from)}`;
      from += 4;
    }
    if (c !== undefined && size !== c.size) fail(r, at, `OXS ${name}: length ${size}`, type, code);
    if (fields[name] !== undefined) fail(r, at, `OXS ${name} twice`, type, code);
    fields[name] = c === undefined ? r.b.toString('base64', from - r.base, next - r.base) : getValue(r, from, c);
    at = next;
  }
  r.q = p + padded;
  return { cls: 'OFPStats', fields: fields as StatsFields };
}

/** Makes statistics, sorted by OXS type as Ryu does. OpenFlow 1.5.1 §7.2.4. */
export function OFPStats(input: StatsInput = {}): OFPStats {
  const rows = Object.entries(input)
    .filter(([, v]) => v !== undefined)
    .map(([name, v]) => {
      const c = rowOf(name);
      const value = c.kind === 'u64' && typeof v === 'number' && Number.isSafeInteger(v) && v >= 0 ? BigInt(v) : v;
      return { order: c.order, name, value: Array.isArray(value) ? [...value] : value };
    })
    .sort((a, b) => a.order - b.order);
  return { cls: 'OFPStats', fields: Object.fromEntries(rows.map((r) => [r.name, r.value])) as StatsFields };
}

/** Statistics of Ryu's JSON, in the order they have there. */
export function statsFromJson(obj: unknown): OFPStats {
  const list = (obj as { OFPStats?: { oxs_fields?: unknown } } | null | undefined)?.OFPStats?.oxs_fields;
  if (!Array.isArray(list)) throw new OfEncodeError('OFPStats', 'oxs_fields', 'missing');
  const fields: Record<string, unknown> = {};
  for (const entry of list as readonly ({ OXSTlv?: { field?: unknown; value?: unknown } } | null)[]) {
    const tlv = entry?.OXSTlv;
    if (typeof tlv?.field !== 'string') throw new OfEncodeError('OFPStats', 'oxs_fields', 'no OXSTlv');
    fields[tlv.field] = OFPStats({ [tlv.field]: tlv.value } as StatsInput).fields[tlv.field as OxsName];
  }
  return { cls: 'OFPStats', fields: fields as StatsFields };
}
