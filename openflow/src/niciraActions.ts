/**
 * Declarations of the actions with which Nicira, and Open vSwitch after it, extend OpenFlow (ovs-actions(7)), under Ryu's
 * names where Ryu has them, else under names made like Ryu's; those of learning, of packets for controllers and of
 * connection tracking are in niciraLearn.ts, niciraController.ts and niciraConntrack.ts. actions.ts and structs10.ts take
 * them all into the families of actions; niciraMessages.ts has the messages, niciraActionKinds.ts the helpers, schema.ts
 * the language.
 *
 * Fields named `ofs_nbits` hold a range of bits as it is on the wire: see `ofs_nbits`.
 */
import {
  action,
  BAD_LEN,
  bad,
  bare,
  customAction,
  HEADER,
  header,
  NXActionUnknown,
  options,
  SPEC,
  uint,
  unknownToRyu,
  variable,
} from './niciraActionKinds.ts';
import { NXActionClone, NXActionCT, NXActionCTClear, NXActionNAT } from './niciraConntrack.ts';
import { nicira_ext as nx } from './niciraConstants.ts';
import { NXActionController2 } from './niciraController.ts';
import { NXActionLearn, NXActionLearn2 } from './niciraLearn.ts';
import { decodeOxm, encodeOxm, lastOxm } from './oxm.ts';
import { OXM_FIELDS, type OxmInput, type OxmName, type OxmValue, type UnknownOxmName } from './oxmFields.ts';
import { normaliseOxm, oxmFromJson, oxmToJson } from './oxmForms.ts';
import { oxmByName } from './oxmRows.ts';
import {
  ALL,
  countOf,
  customStruct,
  either,
  extraIn,
  type Fields,
  fixed,
  longOxmHeader,
  oxmHeader,
  pad,
  struct,
  u8,
  u16,
  u32,
  u64,
  uints,
} from './schema.ts';
import { fail, type Version } from './wire.ts';

/**
 * Bits `start` to `end` of a field, both counted and numbered from the least significant, as actions have them in one number.
 *
 * @example NXActionRegLoad({ dst: 'reg0', ofs_nbits: ofs_nbits(4, 7), value: 5n })
 */
export function ofs_nbits(start: number, end: number): number {
  return (start << 6) | (end - start);
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
