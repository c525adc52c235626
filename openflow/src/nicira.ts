/**
 * Declarations of the actions with which Nicira, and Open vSwitch after it, extend OpenFlow (ovs-actions(7)), under Ryu's
 * names where Ryu has them, else under names made like Ryu's. structs.ts takes them into the family of actions;
 * niciraMessages.ts has the messages. schema.ts has the language.
 *
 * Fields named `ofs_nbits` hold a range of bits as it is on the wire: see `ofs_nbits`.
 */

import { formatIpv4, parseIpv4, readIpv6, writeIpv6 } from './address.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfEncodeError } from './errors.ts';
import { nicira_ext as nx } from './niciraConstants.ts';
import {
  decodeOxm,
  decodeOxmHeader,
  encodeOxm,
  encodeOxmHeader,
  lastOxm,
  normaliseOxm,
  OXM_FIELDS,
  type OxmHeader,
  type OxmInput,
  type OxmName,
  type OxmValue,
  oxmByName,
  oxmFromJson,
  oxmHeaderToJson,
  oxmToJson,
  type UnknownOxmName,
} from './oxm.ts';
import {
  ALL,
  bytes,
  type Custom,
  countOf,
  customStruct,
  either,
  extraIn,
  type Fields,
  FROM_12,
  fixed,
  IN_10,
  len,
  longOxmHeader,
  manyOfOwn,
  only,
  oxmHeader,
  oxmHeaderIf,
  oxmHeaderOrNone,
  pad,
  type Range,
  type Struct,
  type StructOptions,
  struct,
  u8,
  u16,
  u32,
  u64,
  uints,
} from './schema.ts';
import type { Actions } from './structs.ts';
import type { Actions10 } from './structs10.ts';
import { describe, fail, type Reader, type Version, Writer } from './wire.ts';

const BAD_LEN = [ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_LEN] as const;
const BAD_ARGUMENT = [ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_ARGUMENT] as const;
const SPEC = 'ovs-actions(7)';

/**
 * Bits `start` to `end` of a field, both counted and numbered from the least significant, as actions have them in one number.
 *
 * @example NXActionRegLoad({ dst: 'reg0', ofs_nbits: ofs_nbits(4, 7), value: 5n })
 */
export function ofs_nbits(start: number, end: number): number {
  return (start << 6) | (end - start);
}

// ---- the header all have -------------------------------------------------------------------------------------------

/** Bytes in front of what is an action's own. */
const HEADER = 10;

/** Ryu's JSON of 1.0 shows neither type nor length of an action. */
const head = {
  _type10: only(IN_10, fixed(2, ofp.OFPAT_EXPERIMENTER)),
  _type: only(FROM_12, fixed(2, ofp.OFPAT_EXPERIMENTER, 'type')),
  _len10: only(IN_10, len()),
  _len: only(FROM_12, len('len')),
  _vendor: only(IN_10, fixed(4, nx.NX_EXPERIMENTER_ID, 'vendor')),
  _experimenter: only(FROM_12, fixed(4, nx.NX_EXPERIMENTER_ID, 'experimenter')),
};
const header = (subtype: number) => ({ ...head, _subtype: fixed(2, subtype, 'subtype') });

/** How an action of a subtype is told from others; `word` where several classes share it. */
function options(subtype: number, word?: number): StructOptions & { versions: typeof ALL } {
  const experimenter =
    word === undefined
      ? ([nx.NX_EXPERIMENTER_ID, subtype] as const)
      : ([nx.NX_EXPERIMENTER_ID, subtype, word] as const);
  return { spec: SPEC, versions: ALL, err: BAD_LEN, experimenter };
}

/** JSON of what Ryu does not know is what Ryu makes of it. */
const unknownToRyu = { jsonAs: { versions: ALL, cls: 'NXActionUnknown' } } as const;
const variable = { padTo8: 'inside' } as const;

function action<const C extends string, F extends Fields>(
  cls: C,
  subtype: number,
  fields: F,
  more: Pick<StructOptions, 'padTo8' | 'jsonAs'> = {},
): Struct<C, F, (typeof ALL)[number]> {
  return struct(cls, { ...options(subtype), ...more }, { ...header(subtype), ...fields }) as unknown as Struct<
    C,
    F,
    (typeof ALL)[number]
  >;
}

/** Actions that have no arguments. */
const bare = <const C extends string>(cls: C, subtype: number, more: Pick<StructOptions, 'jsonAs'> = {}) =>
  action(cls, subtype, { _pad: pad(6) }, more);

/** An action of a subtype nobody declared, or with contents that its class has no place for. */
export interface UnknownAction {
  cls: 'NXActionUnknown';
  subtype: number;
  data: Buffer;
}
export const NXActionUnknown = struct(
  'NXActionUnknown',
  {
    spec: SPEC,
    versions: ALL as Range,
    err: BAD_LEN,
    experimenter: [nx.NX_EXPERIMENTER_ID],
    padTo8: 'inside',
  },
  { ...head, subtype: u16(), data: bytes() },
);

/** Keeps the action at `p` as it is. */
function raw(r: Reader, p: number, end: number): UnknownAction {
  r.q = end;
  const data = r.b.subarray(p + HEADER - r.base, end - r.base);
  return { cls: 'NXActionUnknown', subtype: r.dv.getUint16(p + 8), data };
}

interface CustomAction {
  /** Writes what follows the header; padding is added. */
  encode(o: object, w: Writer): void;
  /** Reads from `p` on, behind the header; undefined when the class has no place for what it finds. */
  decode(r: Reader, p: number, end: number): object | undefined;
  toJson(o: object, version: Version): object;
  fromJson: Custom['fromJson'];
  make: Custom['make'];
}

const scratch = new Writer();

function customAction<const C extends string, O extends { cls: C }, I>(
  cls: C,
  subtype: number,
  custom: CustomAction,
): Struct<C, never, Version, O, I> {
  const encode = (o: object, w: Writer): void => {
    const from = w.p - w.start;
    if (w.cap - w.p < HEADER) w.grow(HEADER);
    w.p += HEADER;
    custom.encode(o, w);
    w.zeros((8 - ((w.p - w.start - from) & 7)) & 7);
    const at = w.start + from;
    w.dv.setUint16(at, ofp.OFPAT_EXPERIMENTER);
    w.dv.setUint16(at + 2, w.p - at);
    w.dv.setUint32(at + 4, nx.NX_EXPERIMENTER_ID);
    w.dv.setUint16(at + 8, subtype);
  };
  return customStruct<C, O, I>(cls, {
    ...options(subtype),
    custom: {
      min: 16,
      encode,
      decode(r, p, end) {
        if (end - p < 16) fail(r, p, `${cls} cut short`, ...BAD_LEN);
        const o = custom.decode(r, p + HEADER, end);
        if (o === undefined) return raw(r, p, end);
        r.q = end;
        return o;
      },
      toJson(o, version) {
        const attributes = { subtype, ...custom.toJson(o, version) };
        if (version === 1) return { ...attributes, vendor: nx.NX_EXPERIMENTER_ID };
        scratch.begin(version);
        encode(o, scratch);
        const length = scratch.p - scratch.start;
        return { ...attributes, experimenter: nx.NX_EXPERIMENTER_ID, type: ofp.OFPAT_EXPERIMENTER, len: length };
      },
      fromJson: custom.fromJson,
      make: custom.make,
    },
  });
}

function bad(cls: string, field: string, v: unknown, what: string): never {
  throw new OfEncodeError(cls, field, `not ${what}: ${describe(v)}`);
}
function uint(v: unknown, bits: 8 | 16 | 32, cls: string, field: string): number {
  if (typeof v !== 'number' || !Number.isInteger(v) || v < 0 || v >= 2 ** bits) {
    bad(cls, field, v, `an unsigned integer of ${bits} bits`);
  }
  return v;
}

// ---- output, tunnels, queues, flow of control ------------------------------------------------------------------------

export const NXActionResubmit = action('NXActionResubmit', nx.NXAST_RESUBMIT, {
  in_port: u16(nx.OFPP_IN_PORT),
  _pad: pad(4),
});
export const NXActionResubmitTable = action('NXActionResubmitTable', nx.NXAST_RESUBMIT_TABLE, {
  in_port: u16(nx.OFPP_IN_PORT),
  table_id: u8(0xff),
  _pad: pad(3),
});
/** Like NXActionResubmitTable, with the fields of the connection's first packet in place of the packet's. */
export const NXActionResubmitTableCT = action(
  'NXActionResubmitTableCT',
  nx.NXAST_RESUBMIT_TABLE_CT,
  { in_port: u16(nx.OFPP_IN_PORT), table_id: u8(0xff), _pad: pad(3) },
  unknownToRyu,
);
export const NXActionSetTunnel = action('NXActionSetTunnel', nx.NXAST_SET_TUNNEL, { _pad: pad(2), tun_id: u32() });
export const NXActionSetTunnel64 = action('NXActionSetTunnel64', nx.NXAST_SET_TUNNEL64, {
  _pad: pad(6),
  tun_id: u64(),
});
export const NXActionSetQueue = action('NXActionSetQueue', nx.NXAST_SET_QUEUE, { _pad: pad(2), queue_id: u32() });
export const NXActionPopQueue = bare('NXActionPopQueue', nx.NXAST_POP_QUEUE);
export const NXActionExit = bare('NXActionExit', nx.NXAST_EXIT);
export const NXActionOutputReg = action('NXActionOutputReg', nx.NXAST_OUTPUT_REG, {
  ofs_nbits: u16(),
  src: oxmHeader(),
  max_len: u16(),
  _pad: pad(6),
});
/** For sources that NXActionOutputReg has no room for. */
export const NXActionOutputReg2 = action(
  'NXActionOutputReg2',
  nx.NXAST_OUTPUT_REG2,
  { ofs_nbits: u16(), max_len: u16(), src: longOxmHeader() },
  variable,
);
export const NXActionOutputTrunc = action('NXActionOutputTrunc', nx.NXAST_OUTPUT_TRUNC, {
  port: u16(),
  max_len: u32(),
});
export const NXActionController = action('NXActionController', nx.NXAST_CONTROLLER, {
  max_len: u16(),
  controller_id: u16(),
  reason: u8(),
  _pad: pad(1),
});
/** Of 1.0, which has no groups; Open vSwitch has them there. */
export const NXActionGroup = action('NXActionGroup', nx.NXAST_GROUP, { _pad: pad(2), group_id: u32() }, unknownToRyu);
/** Write-Metadata as an action: instructions cannot stand everywhere. */
export const NXActionWriteMetadata = action(
  'NXActionWriteMetadata',
  nx.NXAST_WRITE_METADATA,
  { _pad: pad(6), metadata: u64(), mask: u64(0xffff_ffff_ffff_ffffn) },
  unknownToRyu,
);
export const NXActionDebugSlow = bare('NXActionDebugSlow', nx.NXAST_DEBUG_SLOW, unknownToRyu);
export const NXActionDebugRecirc = bare('NXActionDebugRecirc', nx.NXAST_DEBUG_RECIRC, unknownToRyu);
/** Bytes for the controller's own use. Short ones are padded with zeros, which cannot be told from what was given. */
export const NXActionNote = action('NXActionNote', nx.NXAST_NOTE, { note: uints(1) }, variable);
export const NXActionConjunction = action('NXActionConjunction', nx.NXAST_CONJUNCTION, {
  clause: u8(),
  n_clauses: u8(),
  id: u32(),
});
export const NXActionFinTimeout = action('NXActionFinTimeout', nx.NXAST_FIN_TIMEOUT, {
  fin_idle_timeout: u16(),
  fin_hard_timeout: u16(),
  _pad: pad(2),
});

const sample = {
  probability: u16(),
  collector_set_id: u32(0),
  obs_domain_id: u32(0),
  obs_point_id: u32(0),
};
export const NXActionSample = action('NXActionSample', nx.NXAST_SAMPLE, sample);
export const NXActionSample2 = action('NXActionSample2', nx.NXAST_SAMPLE2, {
  ...sample,
  sampling_port: u16(0),
  _pad: pad(6),
});
/** NXActionSample2 with a direction: NX_ACTION_SAMPLE_INGRESS, _EGRESS or _DEFAULT. */
export const NXActionSample3 = action(
  'NXActionSample3',
  nx.NXAST_SAMPLE3,
  { ...sample, sampling_port: u16(0), direction: u8(0), _pad: pad(5) },
  unknownToRyu,
);

// ---- headers -------------------------------------------------------------------------------------------------------

export const NXActionDecTtl = bare('NXActionDecTtl', nx.NXAST_DEC_TTL);
export const NXActionDecTtlCntIds = action(
  'NXActionDecTtlCntIds',
  nx.NXAST_DEC_TTL_CNT_IDS,
  { _n: countOf('cnt_ids'), _pad: pad(4), cnt_ids: uints(2) },
  variable,
);
const mpls = { ethertype: u16(), _pad: pad(4) };
export const NXActionPushMpls = action('NXActionPushMpls', nx.NXAST_PUSH_MPLS, mpls);
export const NXActionPopMpls = action('NXActionPopMpls', nx.NXAST_POP_MPLS, mpls);
export const NXActionSetMplsTtl = action('NXActionSetMplsTtl', nx.NXAST_SET_MPLS_TTL, { ttl: u8(), _pad: pad(5) });
export const NXActionDecMplsTtl = bare('NXActionDecMplsTtl', nx.NXAST_DEC_MPLS_TTL);
export const NXActionSetMplsLabel = action('NXActionSetMplsLabel', nx.NXAST_SET_MPLS_LABEL, {
  _pad: pad(2),
  label: u32(),
});
export const NXActionSetMplsTc = action('NXActionSetMplsTc', nx.NXAST_SET_MPLS_TC, { tc: u8(), _pad: pad(5) });
export const NXActionDecNshTtl = bare('NXActionDecNshTtl', nx.NXAST_DEC_NSH_TTL);

/** A property of the header that NXActionEncap adds, for example the metadata type of NSH; `data` is its value. */
export interface EncapProperty {
  cls: 'NXEncapProperty';
  class: number;
  type: number;
  data: Buffer;
}
export interface EncapPropertyInput {
  readonly class: number;
  readonly type: number;
  readonly data?: Uint8Array | undefined;
}
const MAX_PROPERTY = 251;
export const NXEncapProperty = customStruct<'NXEncapProperty', EncapProperty, EncapPropertyInput>('NXEncapProperty', {
  spec: SPEC,
  versions: ALL,
  err: BAD_LEN,
  custom: {
    min: 4,
    encode(o, w) {
      const e = o as EncapProperty;
      const { data } = e;
      if (!(data instanceof Uint8Array)) bad(e.cls, 'data', data, 'bytes');
      if (data.length > MAX_PROPERTY) bad(e.cls, 'data', data, `at most ${MAX_PROPERTY} bytes`);
      if (w.cap - w.p < 4) w.grow(4);
      w.dv.setUint16(w.p, uint(e.class, 16, e.cls, 'class'));
      w.dv.setUint8(w.p + 2, uint(e.type, 8, e.cls, 'type'));
      w.dv.setUint8(w.p + 3, 4 + data.length);
      w.p += 4;
      w.bytes(data);
      w.zeros((8 - ((4 + data.length) & 7)) & 7);
    },
    decode(r, p, end) {
      const n = end - p < 4 ? 0 : r.dv.getUint8(p + 3);
      const padded = (n + 7) & ~7;
      if (n < 4 || padded > end - p) fail(r, p, 'property cut short', ...BAD_LEN);
      r.q = p + padded;
      return {
        cls: 'NXEncapProperty',
        class: r.dv.getUint16(p),
        type: r.dv.getUint8(p + 2),
        data: r.b.subarray(p + 4 - r.base, p + n - r.base),
      };
    },
    toJson(o) {
      const { class: c, type, data } = o as EncapProperty;
      return { class: c, type, len: 4 + data.length, data: data.toString('base64') };
    },
    fromJson({ class: c, type, data }) {
      return { class: c, type, data: Buffer.from(String(data ?? ''), 'base64') };
    },
    make(input) {
      const { class: c, type, data = Buffer.alloc(0) } = input as EncapPropertyInput;
      return { cls: 'NXEncapProperty', class: c, type, data: Buffer.from(data) };
    },
  },
});
const properties = either([NXEncapProperty], NXEncapProperty);

/** The class of an NXAST_RAW_ENCAP that adds a header of one type, which its factory need not be told. */
function encapsulation<const C extends string, F extends Fields>(cls: C, type: number, fields: F) {
  const all = {
    ...header(nx.NXAST_RAW_ENCAP),
    hdr_size: u16(0),
    _new_pkt_type: fixed(4, type, 'new_pkt_type'),
    ...fields,
  };
  return struct(cls, { ...options(nx.NXAST_RAW_ENCAP, type), ...variable }, all);
}
/** Adds an Ethernet header. It needs no properties, and Ryu knows none. */
export const NXActionEncapEther = encapsulation('NXActionEncapEther', 0, { properties: extraIn(ALL, properties) });
/** Adds a network service header. */
export const NXActionEncapNsh = encapsulation('NXActionEncapNsh', 0x0001894f, { properties });
/** Adds a header of any other type, as `packet_type` numbers them. */
export const NXActionEncap = action(
  'NXActionEncap',
  nx.NXAST_RAW_ENCAP,
  { hdr_size: u16(0), new_pkt_type: u32(), properties },
  variable,
);
/** Takes the outermost header off; `new_pkt_type` 0x0000fffe: the switch finds out what is below. */
export const NXActionDecap = action(
  'NXActionDecap',
  nx.NXAST_RAW_DECAP,
  { _pad: pad(2), new_pkt_type: u32(nx.NX_PT_USE_NEXT_PROTO) },
  unknownToRyu,
);

// ---- fields --------------------------------------------------------------------------------------------------------

export const NXActionRegMove = action(
  'NXActionRegMove',
  nx.NXAST_REG_MOVE,
  { n_bits: u16(), src_ofs: u16(0), dst_ofs: u16(0), src_field: longOxmHeader(), dst_field: longOxmHeader() },
  variable,
);
export const NXActionRegLoad = action('NXActionRegLoad', nx.NXAST_REG_LOAD, {
  ofs_nbits: u16(),
  dst: oxmHeader(),
  value: u64(),
});

/** Sets the bits of a field that the mask has: one variant per match field, so that the types follow from `dst`. */
export type RegLoad2 =
  | {
      [N in OxmName]: { cls: 'NXActionRegLoad2'; dst: N; value: OxmValue<N>; mask: OxmValue<N> | null };
    }[OxmName]
  | { cls: 'NXActionRegLoad2'; dst: UnknownOxmName; value: string; mask: string | null };
/** What its factory takes. */
export type RegLoad2Input =
  | {
      [N in OxmName]: {
        readonly dst: N;
        readonly value: OxmInput<N>;
        readonly mask?: OxmInput<N> | null | undefined;
      };
    }[OxmName]
  | { readonly dst: UnknownOxmName; readonly value: string; readonly mask?: string | null | undefined };
/**
 * Bytes that the field takes: Ryu has room for one of 14, Open vSwitch uses the action for fields of variable length and
 * pads them to what the action needs.
 */
const regLoad2Body = (dst: string, size: number, version: Version): number =>
  oxmByName(dst, version)?.kind === 'raw' && dst in OXM_FIELDS ? Math.max(6, size) : Math.max(14, size);
export const NXActionRegLoad2 = customAction<'NXActionRegLoad2', RegLoad2, RegLoad2Input>(
  'NXActionRegLoad2',
  nx.NXAST_REG_LOAD2,
  {
    encode(o, w) {
      const { dst, value, mask } = o as RegLoad2;
      const from = w.p - w.start;
      encodeOxm(w, dst, mask === null ? value : [value, mask], 'NXActionRegLoad2');
      const size = w.p - w.start - from;
      w.zeros(regLoad2Body(dst, size, w.version) - size);
    },
    decode(r, p, end) {
      decodeOxm(r, p, end, ...BAD_LEN);
      const { name: dst, value } = lastOxm;
      const all = HEADER + regLoad2Body(dst, r.q - p, r.version);
      if (end - p !== ((all + 7) & ~7) - HEADER) return undefined;
      return Array.isArray(value)
        ? { cls: 'NXActionRegLoad2', dst, value: value[0], mask: value[1] }
        : { cls: 'NXActionRegLoad2', dst, value, mask: null };
    },
    toJson(o, version) {
      const { dst: name, value: v, mask: m } = o as RegLoad2;
      const { field: dst, value, mask } = oxmToJson(name, m === null ? v : [v, m], version).OXMTlv;
      return { dst, value, mask };
    },
    fromJson({ dst: field, value: v, mask: m }, version) {
      const [dst, both] = oxmFromJson({ OXMTlv: { field, value: v, mask: m } }, 'NXActionRegLoad2', version);
      const [value, mask] = Array.isArray(both) ? both : [both, null];
      return { dst, value, mask };
    },
    make(input, version) {
      const { dst, value, mask = null } = input as { dst: string; value: unknown; mask?: unknown };
      const one = (v: unknown) => normaliseOxm(dst, v, 'NXActionRegLoad2', version);
      return { cls: 'NXActionRegLoad2', dst, value: one(value), mask: mask === null ? null : one(mask) };
    },
  },
);

const stack = { start: u16(), field: longOxmHeader(), end: u16() };
export const NXActionStackPush = action('NXActionStackPush', nx.NXAST_STACK_PUSH, stack, variable);
export const NXActionStackPop = action('NXActionStackPop', nx.NXAST_STACK_POP, stack, variable);
/** Sets a bit when the packet is longer than `pkt_len` bytes. */
export const NXActionCheckPktLarger = action(
  'NXActionCheckPktLarger',
  nx.NXAST_CHECK_PKT_LARGER,
  { pkt_len: u16(), offset: u16(), dst: longOxmHeader() },
  { ...variable, ...unknownToRyu },
);
export const NXActionDeleteField = action(
  'NXActionDeleteField',
  nx.NXAST_DELETE_FIELD,
  { field: oxmHeader(), _pad: pad(10) },
  unknownToRyu,
);
export const NXActionMultipath = action('NXActionMultipath', nx.NXAST_MULTIPATH, {
  fields: u16(),
  basis: u16(),
  _pad: pad(2),
  algorithm: u16(),
  max_link: u16(),
  arg: u32(),
  _pad2: pad(2),
  ofs_nbits: u16(),
  dst: oxmHeader(),
});
export const NXActionBundle = action(
  'NXActionBundle',
  nx.NXAST_BUNDLE,
  {
    algorithm: u16(),
    fields: u16(),
    basis: u16(),
    slave_type: u32(nx.NXM_OF_IN_PORT),
    _n: countOf('slaves', 'n_slaves'),
    _ofs_nbits: fixed(2, 0, 'ofs_nbits'),
    _dst: fixed(4, 0, 'dst'),
    _pad: pad(4),
    slaves: uints(2),
  },
  variable,
);
export const NXActionBundleLoad = action(
  'NXActionBundleLoad',
  nx.NXAST_BUNDLE_LOAD,
  {
    algorithm: u16(),
    fields: u16(),
    basis: u16(),
    slave_type: u32(nx.NXM_OF_IN_PORT),
    _n: countOf('slaves', 'n_slaves'),
    ofs_nbits: u16(),
    dst: oxmHeader(),
    _pad: pad(4),
    slaves: uints(2),
  },
  variable,
);

// ---- learning ------------------------------------------------------------------------------------------------------

/** Bits of a field from offset `ofs` on. */
export type Subfield = [field: OxmHeader, ofs: number];
export type SubfieldInput = readonly [field: OxmHeader, ofs: number];
/** Where a learned flow gets `n_bits` bits from, a field of the packet or a number, and where it puts them. */
export interface FlowSpec<C extends string, D> {
  cls: C;
  src: Subfield | bigint;
  dst: D;
  n_bits: number;
}
export interface FlowSpecInput {
  readonly src: SubfieldInput | bigint | number;
  readonly dst: SubfieldInput;
  readonly n_bits: number;
}
export interface FlowSpecOutputInput {
  readonly src: SubfieldInput | bigint | number;
  readonly dst?: '' | undefined;
  readonly n_bits: number;
}

const SPEC_CLASSES = ['NXFlowSpecMatch', 'NXFlowSpecLoad', 'NXFlowSpecOutput'] as const;
type SpecClass = (typeof SPEC_CLASSES)[number];
/** Bytes of a number of `n` bits in a specification. */
const immediateSize = (n: number): number => ((n + 15) >> 4) * 2;

function putSubfield(w: Writer, v: unknown, cls: string, field: string): void {
  if (!Array.isArray(v) || v.length !== 2) bad(cls, field, v, '[field, offset]');
  encodeOxmHeader(w, v[0], 10, cls, field);
  if (w.cap - w.p < 2) w.grow(2);
  w.dv.setUint16(w.p, uint(v[1], 16, cls, field));
  w.p += 2;
}
function getSubfield(r: Reader, p: number, end: number): Subfield {
  const field = decodeOxmHeader(r, p, end, ...BAD_ARGUMENT);
  if (end - r.q < 2) fail(r, p, 'flow specification cut short', ...BAD_LEN);
  r.q += 2;
  return [field, r.dv.getUint16(r.q - 2)];
}

/** All three read alike: whichever of them is asked gives an object of the class it finds. */
const specCustom = (cls: SpecClass): Custom => ({
  min: 2,
  encode(o, w) {
    const { src, dst, n_bits } = o as FlowSpec<SpecClass, unknown>;
    if (typeof n_bits !== 'number' || (n_bits & 0x3ff) !== n_bits) bad(cls, 'n_bits', n_bits, 'an integer of 10 bits');
    if (w.cap - w.p < 2) w.grow(2);
    const immediate = typeof src === 'bigint' || typeof src === 'number';
    w.dv.setUint16(w.p, (immediate ? 0x2000 : 0) | (SPEC_CLASSES.indexOf(cls) << 11) | n_bits);
    if (w.dv.getUint16(w.p) === 0) bad(cls, 'n_bits', n_bits, 'a number of bits: nothing cannot be told from padding');
    w.p += 2;
    if (immediate) {
      const size = immediateSize(n_bits);
      const v = BigInt(src);
      if (v < 0n || BigInt.asUintN(8 * size, v) !== v) bad(cls, 'src', src, `an unsigned integer of ${8 * size} bits`);
      w.bytes(
        Buffer.from(
          v
            .toString(16)
            .padStart(2 * size, '0')
            .slice(0, 2 * size),
          'hex',
        ),
      );
    } else {
      putSubfield(w, src, cls, 'src');
    }
    if (cls !== 'NXFlowSpecOutput') putSubfield(w, dst, cls, 'dst');
    else if (dst !== '') bad(cls, 'dst', dst, 'empty');
  },
  decode(r, p, end) {
    if (end - p < 2) fail(r, p, 'flow specification cut short', ...BAD_LEN);
    const head = r.dv.getUint16(p);
    r.q = p + 2;
    if (head === 0) return undefined;
    const found = SPEC_CLASSES[(head >> 11) & 3];
    if (head > 0x3fff || found === undefined) fail(r, p, 'unknown flow specification', ...BAD_ARGUMENT);
    const n_bits = head & 0x3ff;
    if ((head & 0x400) !== 0) fail(r, p, 'flow specification of too many bits', ...BAD_ARGUMENT);
    let src: Subfield | bigint;
    if ((head & 0x2000) === 0) {
      src = getSubfield(r, p + 2, end);
    } else {
      const size = immediateSize(n_bits);
      if (end - p - 2 < size) fail(r, p, 'flow specification cut short', ...BAD_LEN);
      src = size === 0 ? 0n : BigInt(`0x${r.b.toString('hex', p + 2 - r.base, p + 2 + size - r.base)}`);
      r.q = p + 2 + size;
    }
    const dst = found === 'NXFlowSpecOutput' ? '' : getSubfield(r, r.q, end);
    return { cls: found, src, dst, n_bits };
  },
  toJson(o, version) {
    const { src, dst, n_bits } = o as FlowSpec<SpecClass, Subfield | ''>;
    const show = (v: Subfield | bigint | '') => (Array.isArray(v) ? [oxmHeaderToJson(v[0], version), v[1]] : v);
    return { src: show(src), dst: show(dst), n_bits };
  },
  fromJson({ src, dst, n_bits }) {
    return { src, dst, n_bits };
  },
  make(input) {
    const { src, dst, n_bits } = input as FlowSpecInput | FlowSpecOutputInput;
    const copy = (v: SubfieldInput) => (Array.isArray(v) ? [...v] : v);
    return {
      cls,
      src: typeof src === 'number' ? BigInt(src) : typeof src === 'bigint' ? src : copy(src),
      dst: dst === undefined || dst === '' ? '' : copy(dst),
      n_bits,
    };
  },
});
const specOptions = (cls: SpecClass) => ({ spec: SPEC, versions: ALL, err: BAD_LEN, custom: specCustom(cls) });
/** A match of the learned flow. */
export const NXFlowSpecMatch = customStruct<'NXFlowSpecMatch', FlowSpec<'NXFlowSpecMatch', Subfield>, FlowSpecInput>(
  'NXFlowSpecMatch',
  specOptions('NXFlowSpecMatch'),
);
/** An NXActionRegLoad of the learned flow. */
export const NXFlowSpecLoad = customStruct<'NXFlowSpecLoad', FlowSpec<'NXFlowSpecLoad', Subfield>, FlowSpecInput>(
  'NXFlowSpecLoad',
  specOptions('NXFlowSpecLoad'),
);
/** An output action of the learned flow. */
export const NXFlowSpecOutput = customStruct<'NXFlowSpecOutput', FlowSpec<'NXFlowSpecOutput', ''>, FlowSpecOutputInput>(
  'NXFlowSpecOutput',
  specOptions('NXFlowSpecOutput'),
);

const learn = {
  idle_timeout: u16(0),
  hard_timeout: u16(0),
  priority: u16(ofp.OFP_DEFAULT_PRIORITY),
  cookie: u64(0n),
  flags: u16(0),
  table_id: u8(),
  _pad: pad(1),
  fin_idle_timeout: u16(0),
  fin_hard_timeout: u16(0),
};
const specs = either([NXFlowSpecMatch, NXFlowSpecLoad, NXFlowSpecOutput], NXFlowSpecMatch);
export const NXActionLearn = action('NXActionLearn', nx.NXAST_LEARN, { ...learn, specs }, variable);
/** NXActionLearn with a limit of learned flows; `result_dst` is there when `flags` has NX_LEARN_F_WRITE_RESULT. */
export const NXActionLearn2 = action(
  'NXActionLearn2',
  nx.NXAST_LEARN2,
  {
    ...learn,
    limit: u32(0),
    result_dst_ofs: u16(0),
    _pad2: pad(2),
    result_dst: oxmHeaderIf('flags', nx.NX_LEARN_F_WRITE_RESULT),
    specs,
  },
  { ...variable, ...unknownToRyu },
);

// ---- controller ----------------------------------------------------------------------------------------------------

/** Sends the packet to a controller. A property that is not there has the switch's default. */
export interface Controller2 {
  cls: 'NXActionController2';
  max_len?: number;
  controller_id?: number;
  reason?: number;
  userdata?: number[];
  pause?: true;
  meter_id?: number;
}
export interface Controller2Input {
  readonly max_len?: number | undefined;
  readonly controller_id?: number | undefined;
  readonly reason?: number | undefined;
  /** Bytes for the controller's own use. */
  readonly userdata?: readonly number[] | undefined;
  /** Stop processing until the controller resumes it. */
  readonly pause?: true | undefined;
  readonly meter_id?: number | undefined;
}
/** Its numbers, with their property types and their sizes in bytes. */
const CONTROLLER2_NUMBERS = [
  ['max_len', nx.NXAC2PT_MAX_LEN, 2],
  ['controller_id', nx.NXAC2PT_CONTROLLER_ID, 2],
  ['reason', nx.NXAC2PT_REASON, 1],
  ['meter_id', nx.NXAC2PT_METER_ID, 4],
] as const;
/** Lengths that properties of numbers tell: Open vSwitch counts the padding of 16 bits, and that of 8 bits not. */
const CONTROLLER2_LENGTHS = { 1: 5, 2: 8, 4: 8 } as const;

export const NXActionController2 = customAction<'NXActionController2', Controller2, Controller2Input>(
  'NXActionController2',
  nx.NXAST_CONTROLLER2,
  {
    encode(o, w) {
      const c = o as Controller2;
      w.zeros(6);
      const number = ([name, type, size]: (typeof CONTROLLER2_NUMBERS)[number]): void => {
        if (c[name] === undefined) return;
        const v = uint(c[name], size === 1 ? 8 : size === 2 ? 16 : 32, c.cls, name);
        w.zeros(8);
        const at = w.p - 8;
        w.dv.setUint16(at, type);
        w.dv.setUint16(at + 2, CONTROLLER2_LENGTHS[size]);
        w.b.writeUIntBE(v, at + 4, size);
      };
      for (const n of CONTROLLER2_NUMBERS) if (n[0] !== 'meter_id') number(n);
      if (c.userdata !== undefined) {
        if (!Array.isArray(c.userdata) || c.userdata.length > 0xffff) bad(c.cls, 'userdata', c.userdata, 'bytes');
        const data = Buffer.from(c.userdata.map((v) => uint(v, 8, c.cls, 'userdata')));
        w.zeros(4);
        w.dv.setUint16(w.p - 4, nx.NXAC2PT_USERDATA);
        w.dv.setUint16(w.p - 2, 4 + data.length);
        w.bytes(data);
        w.zeros((8 - ((4 + data.length) & 7)) & 7);
      }
      if (c.pause !== undefined) {
        if (c.pause !== true) bad(c.cls, 'pause', c.pause, 'true');
        w.zeros(8);
        w.dv.setUint16(w.p - 8, nx.NXAC2PT_PAUSE);
        w.dv.setUint16(w.p - 6, 4);
      }
      for (const n of CONTROLLER2_NUMBERS) if (n[0] === 'meter_id') number(n);
    },
    decode(r, p, end) {
      const c: Controller2 = { cls: 'NXActionController2' };
      let last = -1;
      for (let at = p + 6; at < end; ) {
        const n = end - at < 4 ? 0 : r.dv.getUint16(at + 2);
        if (n < 4 || n > end - at) fail(r, at, 'property of NXActionController2 cut short', ...BAD_LEN);
        const type = r.dv.getUint16(at);
        // What comes twice, out of order, or is not known would be lost.
        if (type <= last) return undefined;
        last = type;
        const number = CONTROLLER2_NUMBERS.find(([, t]) => t === type);
        if (number !== undefined) {
          const [name, , size] = number;
          if (n !== CONTROLLER2_LENGTHS[size] || end - at < 8) return undefined;
          c[name] = r.b.readUIntBE(at + 4 - r.base, size);
        } else if (type === nx.NXAC2PT_USERDATA) {
          c.userdata = [...r.b.subarray(at + 4 - r.base, at + n - r.base)];
        } else if (type === nx.NXAC2PT_PAUSE && n === 4) {
          c.pause = true;
        } else {
          return undefined;
        }
        at += (n + 7) & ~7;
        if (at > end) return undefined;
      }
      return c;
    },
    toJson(o) {
      const { cls: _, ...attributes } = o as Controller2;
      return attributes;
    },
    fromJson({ type: _t, len: _l, experimenter: _e, vendor: _v, subtype: _s, ...attributes }) {
      return attributes;
    },
    make(input) {
      const made: Record<string, unknown> = { cls: 'NXActionController2' };
      for (const name of ['max_len', 'controller_id', 'reason', 'userdata', 'pause', 'meter_id'] as const) {
        const v = (input as Controller2Input)[name];
        if (v !== undefined && v !== null) made[name] = Array.isArray(v) ? [...v] : v;
      }
      return made;
    },
  },
);

// ---- connection tracking -------------------------------------------------------------------------------------------

/** The families these actions are members of. */
export interface ActionFamilies {
  readonly '~m': Actions['~m'] | Actions10['~m'];
}

export const NXActionCT = action(
  'NXActionCT',
  nx.NXAST_CT,
  {
    flags: u16(0),
    /** Where `zone_ofs_nbits` finds the zone; when empty, that is the zone itself. */
    zone_src: oxmHeaderOrNone(),
    zone_ofs_nbits: u16(0),
    recirc_table: u8(nx.NX_CT_RECIRC_NONE),
    _pad: pad(3),
    alg: u16(0),
    actions: manyOfOwn<ActionFamilies>(),
  },
  variable,
);
export const NXActionCTClear = bare('NXActionCTClear', nx.NXAST_CT_CLEAR);
/** Executes actions on a copy of the packet. */
export const NXActionClone = action(
  'NXActionClone',
  nx.NXAST_CLONE,
  { _pad: pad(6), actions: manyOfOwn<ActionFamilies>() },
  { ...variable, ...unknownToRyu },
);

/** Translates addresses, inside NXActionCT. As in Ryu empty text and null stand for what is not given. */
export interface Nat {
  cls: 'NXActionNAT';
  flags: number;
  range_ipv4_min: string;
  range_ipv4_max: string;
  range_ipv6_min: string;
  range_ipv6_max: string;
  range_proto_min: number | null;
  range_proto_max: number | null;
}
export interface NatInput {
  readonly flags: number;
  readonly range_ipv4_min?: string | undefined;
  readonly range_ipv4_max?: string | undefined;
  readonly range_ipv6_min?: string | undefined;
  readonly range_ipv6_max?: string | undefined;
  readonly range_proto_min?: number | null | undefined;
  readonly range_proto_max?: number | null | undefined;
}
/** Its parts in the order of their bits in `range_present` and on the wire. */
const NAT_PARTS = [
  ['range_ipv4_min', 4],
  ['range_ipv4_max', 4],
  ['range_ipv6_min', 16],
  ['range_ipv6_max', 16],
  ['range_proto_min', 2],
  ['range_proto_max', 2],
] as const;

export const NXActionNAT = customAction<'NXActionNAT', Nat, NatInput>('NXActionNAT', nx.NXAST_NAT, {
  encode(o, w) {
    const nat = o as Nat;
    w.zeros(6);
    const from = w.p - w.start - 4;
    w.dv.setUint16(w.p - 4, uint(nat.flags, 16, nat.cls, 'flags'));
    let present = 0;
    NAT_PARTS.forEach(([name, size], i) => {
      const v = nat[name];
      if (v === '' || v === null) return;
      present |= 1 << i;
      w.zeros(size);
      const at = w.p - size;
      if (size === 2) {
        w.dv.setUint16(at, uint(v, 16, nat.cls, name));
      } else if (size === 16) {
        if (typeof v !== 'string' || !writeIpv6(w.b, at, v)) bad(nat.cls, name, v, 'an IPv6 address');
      } else {
        const address = typeof v === 'string' ? parseIpv4(v) : -1;
        if (address < 0) bad(nat.cls, name, v, 'an IPv4 address');
        w.dv.setUint32(at, address);
      }
    });
    w.dv.setUint16(w.start + from + 2, present);
  },
  decode(r, p, end) {
    const nat: Nat = {
      cls: 'NXActionNAT',
      flags: r.dv.getUint16(p + 2),
      range_ipv4_min: '',
      range_ipv4_max: '',
      range_ipv6_min: '',
      range_ipv6_max: '',
      range_proto_min: null,
      range_proto_max: null,
    };
    const present = r.dv.getUint16(p + 4);
    let at = p + 6;
    NAT_PARTS.forEach(([name, size], i) => {
      if ((present & (1 << i)) === 0) return;
      if (end - at < size) fail(r, at, 'NXActionNAT cut short', ...BAD_LEN);
      if (name === 'range_proto_min' || name === 'range_proto_max') nat[name] = r.dv.getUint16(at);
      else nat[name] = size === 4 ? formatIpv4(r.dv.getUint32(at)) : readIpv6(r.b, at - r.base);
      at += size;
    });
    return present >= 1 << NAT_PARTS.length || end - at >= 8 ? undefined : nat;
  },
  toJson(o) {
    const { cls: _, ...attributes } = o as Nat;
    return attributes;
  },
  fromJson({ type: _t, len: _l, experimenter: _e, vendor: _v, subtype: _s, ...attributes }) {
    return attributes;
  },
  make(input) {
    const i = input as NatInput;
    return {
      cls: 'NXActionNAT',
      flags: i.flags,
      range_ipv4_min: i.range_ipv4_min ?? '',
      range_ipv4_max: i.range_ipv4_max ?? '',
      range_ipv6_min: canonicalIpv6(i.range_ipv6_min ?? ''),
      range_ipv6_max: canonicalIpv6(i.range_ipv6_max ?? ''),
      range_proto_min: i.range_proto_min ?? null,
      range_proto_max: i.range_proto_max ?? null,
    };
  },
});

const address = new Uint8Array(16);
/** The text a decoder would give; other text is left for the encoder to refuse. */
const canonicalIpv6 = (text: string): string =>
  typeof text === 'string' && writeIpv6(address, 0, text) ? readIpv6(address, 0) : text;

/** All of them, for the families of actions; the one that keeps what is unknown comes last. */
export const NICIRA_ACTIONS = [
  NXActionResubmit,
  NXActionResubmitTable,
  NXActionResubmitTableCT,
  NXActionSetTunnel,
  NXActionSetTunnel64,
  NXActionSetQueue,
  NXActionPopQueue,
  NXActionExit,
  NXActionOutputReg,
  NXActionOutputReg2,
  NXActionOutputTrunc,
  NXActionController,
  NXActionController2,
  NXActionGroup,
  NXActionWriteMetadata,
  NXActionDebugSlow,
  NXActionDebugRecirc,
  NXActionNote,
  NXActionConjunction,
  NXActionFinTimeout,
  NXActionSample,
  NXActionSample2,
  NXActionSample3,
  NXActionDecTtl,
  NXActionDecTtlCntIds,
  NXActionPushMpls,
  NXActionPopMpls,
  NXActionSetMplsTtl,
  NXActionDecMplsTtl,
  NXActionSetMplsLabel,
  NXActionSetMplsTc,
  NXActionDecNshTtl,
  NXActionEncapEther,
  NXActionEncapNsh,
  NXActionEncap,
  NXActionDecap,
  NXActionRegMove,
  NXActionRegLoad,
  NXActionRegLoad2,
  NXActionStackPush,
  NXActionStackPop,
  NXActionCheckPktLarger,
  NXActionDeleteField,
  NXActionMultipath,
  NXActionBundle,
  NXActionBundleLoad,
  NXActionLearn,
  NXActionLearn2,
  NXActionCT,
  NXActionCTClear,
  NXActionClone,
  NXActionNAT,
  NXActionUnknown,
] as const;
