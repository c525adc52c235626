/**
 * Declarations of what messages are made of: actions, instructions, buckets, meter bands, ports, statistics, queue and
 * table properties of OpenFlow 1.3, under Ryu's names. messages.ts declares the messages over them; schema.ts has the
 * language. Hidden fields (padding, lengths, fixed types) have names that begin with an underscore.
 *
 * Where Ryu has no class for a type number, the class here ends in `Unknown` and keeps the bytes.
 */
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfEncodeError } from './errors.ts';
import {
  decodeOxm,
  encodeOxm,
  lastOxm,
  normaliseOxm,
  type OxmInput,
  type OxmName,
  type OxmValue,
  oxmByName,
  oxmNameOfType,
  type UnknownOxmName,
} from './oxm.ts';
import {
  ALL,
  bitmap,
  bytes,
  customStruct,
  either,
  extraBytes,
  FROM_12,
  FROM_12_UNTIL_13,
  FROM_12_UNTIL_14,
  FROM_13,
  FROM_13_UNTIL_14,
  family,
  fixed,
  IN_12,
  IN_13,
  IN_14,
  len,
  list,
  mac,
  many,
  match,
  only,
  pad,
  type Range,
  str,
  struct,
  UNTIL_13,
  UNTIL_14,
  u8,
  u16,
  u32,
  u64,
  uints,
} from './schema.ts';
import { fail, type Reader, type Version, type Writer } from './wire.ts';

const BAD_REQUEST = [ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_LEN] as const;
const BAD_ACTION = [ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_LEN] as const;
const BAD_INSTRUCTION = [ofp.OFPET_BAD_INSTRUCTION, ofp.OFPBIC_BAD_LEN] as const;
const BAD_BAND = [ofp.OFPET_METER_MOD_FAILED, ofp.OFPMMFC_BAD_BAND] as const;
const BAD_FEATURES = [ofp.OFPET_TABLE_FEATURES_FAILED, ofp.OFPTFFC_BAD_LEN] as const;

// ---- hello elements ------------------------------------------------------------------------------------------------

export const OFPHelloElemVersionBitmap = struct(
  'OFPHelloElemVersionBitmap',
  { spec: '7.5.1', versions: ALL, err: [ofp.OFPET_HELLO_FAILED, ofp.OFPHFC_INCOMPATIBLE], padTo8: 'outside' },
  { _type: fixed(2, ofp.OFPHET_VERSIONBITMAP, 'type'), _len: len('length'), versions: bitmap() },
);
export const OFPHelloElemUnknown = struct(
  'OFPHelloElemUnknown',
  { spec: '7.5.1', versions: ALL, err: [ofp.OFPET_HELLO_FAILED, ofp.OFPHFC_INCOMPATIBLE], padTo8: 'outside' },
  { type: u16(), _len: len('length'), data: bytes() },
);
export const helloElement = family('helloElement', [OFPHelloElemVersionBitmap], OFPHelloElemUnknown, {
  err: [ofp.OFPET_HELLO_FAILED, ofp.OFPHFC_INCOMPATIBLE],
  min: 4,
  padTo8: true,
});

// ---- actions -------------------------------------------------------------------------------------------------------

const action = { versions: FROM_12, err: BAD_ACTION } as const;
const actionType = (type: number) => fixed(2, type, 'type');

export const OFPActionOutput = struct(
  'OFPActionOutput',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_OUTPUT), _len: len('len'), port: u32(), max_len: u16(ofp.OFPCML_MAX), _pad: pad(6) },
);
export const OFPActionGroup = struct(
  'OFPActionGroup',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_GROUP), _len: len('len'), group_id: u32(0) },
);
export const OFPActionSetQueue = struct(
  'OFPActionSetQueue',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_SET_QUEUE), _len: len('len'), queue_id: u32() },
);
export const OFPActionSetMplsTtl = struct(
  'OFPActionSetMplsTtl',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_SET_MPLS_TTL), _len: len('len'), mpls_ttl: u8(), _pad: pad(3) },
);
export const OFPActionSetNwTtl = struct(
  'OFPActionSetNwTtl',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_SET_NW_TTL), _len: len('len'), nw_ttl: u8(), _pad: pad(3) },
);
const bare = <const C extends string, const R extends Range>(cls: C, type: number, versions: R) =>
  struct(cls, { ...action, versions, spec: '7.2.5' }, { _type: actionType(type), _len: len('len'), _pad: pad(4) });
export const OFPActionDecMplsTtl = bare('OFPActionDecMplsTtl', ofp.OFPAT_DEC_MPLS_TTL, FROM_12);
export const OFPActionDecNwTtl = bare('OFPActionDecNwTtl', ofp.OFPAT_DEC_NW_TTL, FROM_12);
export const OFPActionCopyTtlOut = bare('OFPActionCopyTtlOut', ofp.OFPAT_COPY_TTL_OUT, FROM_12);
export const OFPActionCopyTtlIn = bare('OFPActionCopyTtlIn', ofp.OFPAT_COPY_TTL_IN, FROM_12);
export const OFPActionPopVlan = bare('OFPActionPopVlan', ofp.OFPAT_POP_VLAN, FROM_12);
export const OFPActionPopPbb = bare('OFPActionPopPbb', ofp.OFPAT_POP_PBB, FROM_13);
export const OFPActionPushVlan = struct(
  'OFPActionPushVlan',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_PUSH_VLAN), _len: len('len'), ethertype: u16(0x8100), _pad: pad(2) },
);
export const OFPActionPushMpls = struct(
  'OFPActionPushMpls',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_PUSH_MPLS), _len: len('len'), ethertype: u16(0x8847), _pad: pad(2) },
);
export const OFPActionPushPbb = struct(
  'OFPActionPushPbb',
  { ...action, versions: FROM_13, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_PUSH_PBB), _len: len('len'), ethertype: u16(), _pad: pad(2) },
);
export const OFPActionPopMpls = struct(
  'OFPActionPopMpls',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_POP_MPLS), _len: len('len'), ethertype: u16(0x0800), _pad: pad(2) },
);
/** Ryu's class of 1.2 drops what follows the experimenter's number. */
export const OFPActionExperimenter12 = struct(
  'OFPActionExperimenter',
  { ...action, versions: IN_12, spec: 'A.2.5', padTo8: 'inside' },
  { _type: actionType(ofp.OFPAT_EXPERIMENTER), _len: len('len'), experimenter: u32(), data: extraBytes() },
);
export const OFPActionExperimenterUnknown = struct(
  'OFPActionExperimenterUnknown',
  { ...action, versions: FROM_13, spec: '7.2.5', padTo8: 'inside' },
  { _type: actionType(ofp.OFPAT_EXPERIMENTER), _len: len('len'), experimenter: u32(), data: bytes() },
);
export const OFPActionUnknown = struct(
  'OFPActionUnknown',
  { ...action, versions: ALL, spec: '7.2.5', padTo8: 'inside' },
  { type: u16(), _len: len('len'), data: bytes() },
);

/** Set-field action: one variant per match field, so that the value's type follows from `field`. */
export type SetField =
  | {
      [N in OxmName]: { cls: 'OFPActionSetField'; field: N; value: OxmValue<N> };
    }[OxmName]
  | { cls: 'OFPActionSetField'; field: UnknownOxmName; value: string };
/** What its factory takes. */
export type SetFieldInput =
  | { [N in OxmName]: { readonly field: N; readonly value: OxmInput<N> } }[OxmName]
  | { readonly field: UnknownOxmName; readonly value: string };

export const OFPActionSetField = customStruct<'OFPActionSetField', SetField, SetFieldInput>('OFPActionSetField', {
  ...action,
  spec: '7.2.5',
  types: [ofp.OFPAT_SET_FIELD],
  custom: {
    min: 8,
    encode(o, w) {
      const { field, value } = o as SetField;
      if (Array.isArray(value)) throw new OfEncodeError('OFPActionSetField', 'value', 'has a mask');
      if (w.cap - w.p < 8) w.grow(8);
      const from = w.p - w.start;
      w.p += 4;
      encodeOxm(w, field, value, 'OFPActionSetField');
      w.zeros((8 - ((w.p - w.start - from) & 7)) & 7);
      const at = w.start + from;
      w.dv.setUint16(at, ofp.OFPAT_SET_FIELD);
      w.dv.setUint16(at + 2, w.p - at);
    },
    decode(r, p, end) {
      decodeOxm(r, p + 4, end, ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_SET_LEN);
      // OpenFlow 1.5 gives masks a meaning here; in 1.3 there is none to act on.
      if (Array.isArray(lastOxm.value)) {
        fail(r, p + 4, 'set-field with a mask', ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_SET_ARGUMENT);
      }
      if (end - r.q >= 8) fail(r, r.q, 'set-field too long', ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_LEN);
      r.q = end;
      return { cls: 'OFPActionSetField', field: lastOxm.name, value: lastOxm.value };
    },
    toJson(o, version) {
      const { field, value } = o as SetField;
      return { field: { OXMTlv: { field, mask: null, value } }, len: lengthOf(field), type: ofp.OFPAT_SET_FIELD };

      function lengthOf(name: string): number {
        const c = oxmByName(name, version);
        const size = c === undefined || c.kind === 'raw' ? Buffer.from(String(value), 'base64').length : c.size;
        return (8 + (c?.extra ?? 0) + size + 7) & ~7;
      }
    },
    fromJson(attrs) {
      const tlv = (attrs.field as { OXMTlv?: { field?: unknown; value?: unknown } } | null | undefined)?.OXMTlv;
      if (typeof tlv?.field !== 'string') throw new OfEncodeError('OFPActionSetField', 'field', 'no OXMTlv');
      return { field: tlv.field, value: tlv.value };
    },
    make(input, version) {
      const { field, value } = input as { field: string; value: unknown };
      if (Array.isArray(value)) throw new OfEncodeError('OFPActionSetField', 'value', 'has a mask');
      const v = normaliseOxm(field, value, 'OFPActionSetField', version);
      if (Array.isArray(v)) throw new OfEncodeError('OFPActionSetField', 'value', 'has a mask');
      return { cls: 'OFPActionSetField', field, value: v };
    },
  },
});

export const actions = family(
  'action',
  [
    OFPActionOutput,
    OFPActionCopyTtlOut,
    OFPActionCopyTtlIn,
    OFPActionSetMplsTtl,
    OFPActionDecMplsTtl,
    OFPActionPushVlan,
    OFPActionPopVlan,
    OFPActionPushMpls,
    OFPActionPopMpls,
    OFPActionSetQueue,
    OFPActionGroup,
    OFPActionSetNwTtl,
    OFPActionDecNwTtl,
    OFPActionSetField,
    OFPActionPushPbb,
    OFPActionPopPbb,
    OFPActionExperimenter12,
    OFPActionExperimenterUnknown,
  ],
  OFPActionUnknown,
  { err: BAD_ACTION, min: 8, aligned: true },
);

// ---- instructions --------------------------------------------------------------------------------------------------

const instruction = { versions: FROM_12, spec: '7.2.4', err: BAD_INSTRUCTION } as const;

export const OFPInstructionGotoTable = struct('OFPInstructionGotoTable', instruction, {
  _type: fixed(2, ofp.OFPIT_GOTO_TABLE, 'type'),
  _len: len('len'),
  table_id: u8(),
  _pad: pad(3),
});
export const OFPInstructionWriteMetadata = struct('OFPInstructionWriteMetadata', instruction, {
  _type: fixed(2, ofp.OFPIT_WRITE_METADATA, 'type'),
  _len: len('len'),
  _pad: pad(4),
  metadata: u64(),
  metadata_mask: u64(),
});
export const OFPInstructionActions = struct(
  'OFPInstructionActions',
  { ...instruction, types: [ofp.OFPIT_WRITE_ACTIONS, ofp.OFPIT_APPLY_ACTIONS, ofp.OFPIT_CLEAR_ACTIONS] },
  { type: u16(), _len: len('len'), _pad: pad(4), actions: many(actions) },
);
export const OFPInstructionMeter = struct(
  'OFPInstructionMeter',
  { ...instruction, versions: FROM_13_UNTIL_14 },
  {
    _type: fixed(2, ofp.OFPIT_METER, 'type'),
    _len: len('len'),
    meter_id: u32(1),
  },
);
export const OFPInstructionExperimenter = struct(
  'OFPInstructionExperimenter',
  { ...instruction, padTo8: 'inside' },
  { _type: fixed(2, ofp.OFPIT_EXPERIMENTER, 'type'), _len: len('len'), experimenter: u32(), data: bytes() },
);
export const OFPInstructionUnknown = struct(
  'OFPInstructionUnknown',
  { ...instruction, padTo8: 'inside' },
  { type: u16(), _len: len('len'), data: bytes() },
);
export const instructions = family(
  'instruction',
  [
    OFPInstructionGotoTable,
    OFPInstructionWriteMetadata,
    OFPInstructionActions,
    OFPInstructionMeter,
    OFPInstructionExperimenter,
  ],
  OFPInstructionUnknown,
  { err: BAD_INSTRUCTION, min: 8, aligned: true },
);

// ---- groups --------------------------------------------------------------------------------------------------------

export const OFPBucket = struct(
  'OFPBucket',
  { versions: FROM_12_UNTIL_14, spec: '7.3.4.2', err: [ofp.OFPET_GROUP_MOD_FAILED, ofp.OFPGMFC_BAD_BUCKET] },
  {
    _len: len('len'),
    weight: u16(0),
    watch_port: u32(ofp.OFPP_ANY),
    watch_group: u32(ofp.OFPG_ANY),
    _pad: pad(4),
    actions: many(actions),
  },
);
export const OFPBucketCounter = struct(
  'OFPBucketCounter',
  { versions: FROM_12, spec: '7.3.5.9', err: BAD_REQUEST },
  { packet_count: u64(0n), byte_count: u64(0n) },
);
export const OFPGroupStats = struct(
  'OFPGroupStats',
  { versions: FROM_12, spec: '7.3.5.9', err: BAD_REQUEST },
  {
    _len: len('length'),
    _pad: pad(2),
    group_id: u32(),
    ref_count: u32(0),
    _pad2: pad(4),
    packet_count: u64(0n),
    byte_count: u64(0n),
    duration_sec: only(FROM_13, u32(0)),
    duration_nsec: only(FROM_13, u32(0)),
    bucket_counters: only(IN_12, list(OFPBucketCounter)),
    bucket_stats: only(FROM_13, list(OFPBucketCounter)),
  },
);
export const OFPGroupDescStats = struct(
  'OFPGroupDescStats',
  { versions: FROM_12_UNTIL_14, spec: '7.3.5.10', err: BAD_REQUEST },
  { _len: len('length'), type: u8(), _pad: pad(1), group_id: u32(), buckets: list(OFPBucket) },
);
export const OFPGroupFeaturesStats = struct(
  'OFPGroupFeaturesStats',
  // Ryu's class of 1.2 remembers a length, that of the structure, which the message does not have
  { versions: FROM_12, spec: '7.3.5.11', err: BAD_REQUEST, json: { versions: IN_12, attributes: { length: 40 } } },
  { types: u32(0), capabilities: u32(0), max_groups: uints(4, 4), actions: uints(4, 4) },
);

// ---- meters --------------------------------------------------------------------------------------------------------

const band = { versions: FROM_13, spec: '7.3.4.4', err: BAD_BAND } as const;

export const OFPMeterBandDrop = struct('OFPMeterBandDrop', band, {
  _type: fixed(2, ofp.OFPMBT_DROP, 'type'),
  _len: len('len'),
  rate: u32(0),
  burst_size: u32(0),
  _pad: pad(4),
});
export const OFPMeterBandDscpRemark = struct('OFPMeterBandDscpRemark', band, {
  _type: fixed(2, ofp.OFPMBT_DSCP_REMARK, 'type'),
  _len: len('len'),
  rate: u32(0),
  burst_size: u32(0),
  prec_level: u8(0),
  _pad: pad(3),
});
export const OFPMeterBandExperimenter = struct('OFPMeterBandExperimenter', band, {
  _type: fixed(2, ofp.OFPMBT_EXPERIMENTER, 'type'),
  _len: len('len'),
  rate: u32(0),
  burst_size: u32(0),
  experimenter: u32(),
});
export const OFPMeterBandUnknown = struct('OFPMeterBandUnknown', band, {
  type: u16(),
  _len: len('len'),
  data: bytes(),
});
export const meterBands = family(
  'meterBand',
  [OFPMeterBandDrop, OFPMeterBandDscpRemark, OFPMeterBandExperimenter],
  OFPMeterBandUnknown,
  { err: BAD_BAND, min: 4 },
);
export const OFPMeterBandStats = struct(
  'OFPMeterBandStats',
  { versions: FROM_13, spec: '7.3.5.12', err: BAD_REQUEST },
  { packet_band_count: u64(0n), byte_band_count: u64(0n) },
);
export const OFPMeterStats = struct(
  'OFPMeterStats',
  { versions: FROM_13, spec: '7.3.5.12', err: BAD_REQUEST },
  {
    meter_id: u32(),
    _len: len('len'),
    _pad: pad(6),
    flow_count: u32(0),
    packet_in_count: u64(0n),
    byte_in_count: u64(0n),
    duration_sec: u32(0),
    duration_nsec: u32(0),
    band_stats: list(OFPMeterBandStats),
  },
);
export const OFPMeterConfigStats = struct(
  'OFPMeterConfigStats',
  { versions: FROM_13_UNTIL_14, spec: '7.3.5.13', err: BAD_REQUEST },
  { _len: len('length'), flags: u16(0), meter_id: u32(), bands: many(meterBands) },
);
export const OFPMeterFeaturesStats = struct(
  'OFPMeterFeaturesStats',
  { versions: FROM_13, spec: '7.3.5.14', err: BAD_REQUEST },
  { max_meter: u32(0), band_types: u32(0), capabilities: u32(0), max_bands: u8(0), max_color: u8(0), _pad: pad(2) },
);

// ---- ports and queues ----------------------------------------------------------------------------------------------

export const OFPPort = struct(
  'OFPPort',
  { versions: FROM_12_UNTIL_13, spec: '7.2.1', err: BAD_REQUEST },
  {
    port_no: u32(),
    _pad: pad(4),
    hw_addr: mac(),
    _pad2: pad(2),
    name: str(16),
    config: u32(0),
    state: u32(0),
    curr: u32(0),
    advertised: u32(0),
    supported: u32(0),
    peer: u32(0),
    curr_speed: u32(0),
    max_speed: u32(0),
  },
);
export const OFPPortStats = struct(
  'OFPPortStats',
  { versions: FROM_12_UNTIL_13, spec: '7.3.5.6', err: BAD_REQUEST },
  {
    port_no: u32(),
    _pad: pad(4),
    rx_packets: u64(0n),
    tx_packets: u64(0n),
    rx_bytes: u64(0n),
    tx_bytes: u64(0n),
    rx_dropped: u64(0n),
    tx_dropped: u64(0n),
    rx_errors: u64(0n),
    tx_errors: u64(0n),
    rx_frame_err: u64(0n),
    rx_over_err: u64(0n),
    rx_crc_err: u64(0n),
    collisions: u64(0n),
    duration_sec: only(IN_13, u32(0)),
    duration_nsec: only(IN_13, u32(0)),
  },
);
export const OFPQueueStats = struct(
  'OFPQueueStats',
  { versions: FROM_12_UNTIL_13, spec: '7.3.5.8', err: BAD_REQUEST },
  {
    port_no: u32(),
    queue_id: u32(),
    tx_bytes: u64(0n),
    tx_packets: u64(0n),
    tx_errors: u64(0n),
    duration_sec: only(IN_13, u32(0)),
    duration_nsec: only(IN_13, u32(0)),
  },
);

const queueProp = { versions: FROM_12_UNTIL_13, spec: '7.2.2', err: BAD_REQUEST } as const;
const oldQueueProp = { ...queueProp, versions: UNTIL_13 } as const;
export const OFPQueuePropMinRate = struct('OFPQueuePropMinRate', oldQueueProp, {
  _type: fixed(2, ofp.OFPQT_MIN_RATE, 'property'),
  _len: len('len'),
  _pad: pad(4),
  rate: u16(),
  _pad2: pad(6),
});
export const OFPQueuePropMaxRate = struct('OFPQueuePropMaxRate', queueProp, {
  _type: fixed(2, ofp.OFPQT_MAX_RATE, 'property'),
  _len: len('len'),
  _pad: pad(4),
  rate: u16(),
  _pad2: pad(6),
});
export const OFPQueuePropExperimenter = struct('OFPQueuePropExperimenter', queueProp, {
  _type: fixed(2, ofp.OFPQT_EXPERIMENTER, 'property'),
  _len: len('len'),
  _pad: pad(4),
  experimenter: u32(),
  _pad2: pad(4),
  data: uints(1),
});
export const OFPQueuePropUnknown = struct('OFPQueuePropUnknown', oldQueueProp, {
  property: u16(),
  _len: len('len'),
  data: bytes(),
});
export const queueProps = family(
  'queueProperty',
  [OFPQueuePropMinRate, OFPQueuePropMaxRate, OFPQueuePropExperimenter],
  OFPQueuePropUnknown,
  { err: BAD_REQUEST, min: 8 },
);
export const OFPPacketQueue = struct(
  'OFPPacketQueue',
  { versions: FROM_12_UNTIL_13, spec: '7.2.2', err: BAD_REQUEST },
  { queue_id: u32(), port: u32(), _len: len('len'), _pad: pad(6), properties: many(queueProps) },
);

// ---- flows and tables ----------------------------------------------------------------------------------------------

export const OFPDescStats = struct(
  'OFPDescStats',
  { versions: ALL, spec: '7.3.5.1', err: BAD_REQUEST },
  { mfr_desc: str(256), hw_desc: str(256), sw_desc: str(256), serial_num: str(32), dp_desc: str(256) },
);
export const OFPFlowStats = struct(
  'OFPFlowStats',
  { versions: FROM_12_UNTIL_14, spec: '7.3.5.2', err: BAD_REQUEST },
  {
    _len: len('length'),
    table_id: u8(0),
    _pad: pad(1),
    duration_sec: u32(0),
    duration_nsec: u32(0),
    priority: u16(ofp.OFP_DEFAULT_PRIORITY),
    idle_timeout: u16(0),
    hard_timeout: u16(0),
    // not in 1.2, which has padding there
    flags: only(FROM_13_UNTIL_14, u16(0)),
    importance: only(IN_14, u16(0)),
    _pad2: only(IN_14, pad(2)),
    _pad3: only(IN_13, pad(4)),
    _pad4: only(IN_12, pad(6)),
    cookie: u64(0n),
    packet_count: u64(0n),
    byte_count: u64(0n),
    match: match(),
    instructions: many(instructions),
  },
);
export const OFPAggregateStats = struct(
  'OFPAggregateStats',
  { versions: UNTIL_14, spec: '7.3.5.3', err: BAD_REQUEST, json: { versions: IN_12, cls: 'OFPAggregateStatsReply' } },
  { packet_count: u64(0n), byte_count: u64(0n), flow_count: u32(0), _pad: pad(4) },
);
export const OFPTableStats12 = struct(
  'OFPTableStats',
  { versions: IN_12, spec: 'A.3.5.4', err: BAD_REQUEST },
  {
    table_id: u8(),
    _pad: pad(7),
    name: str(32),
    match: u64(0n),
    wildcards: u64(0n),
    write_actions: u32(0),
    apply_actions: u32(0),
    write_setfields: u64(0n),
    apply_setfields: u64(0n),
    metadata_match: u64(0n),
    metadata_write: u64(0n),
    instructions: u32(0),
    config: u32(0),
    max_entries: u32(0),
    active_count: u32(0),
    lookup_count: u64(0n),
    matched_count: u64(0n),
  },
);
export const OFPTableStats = struct(
  'OFPTableStats',
  { versions: FROM_13, spec: '7.3.5.4', err: BAD_REQUEST },
  { table_id: u8(), _pad: pad(3), active_count: u32(0), lookup_count: u64(0n), matched_count: u64(0n) },
);

const features = { versions: FROM_13_UNTIL_14, spec: '7.3.5.5.2', err: BAD_FEATURES } as const;
const prop = { ...features, padTo8: 'outside' } as const;

export const OFPInstructionId = struct('OFPInstructionId', features, {
  type: u16(),
  _len: len('len'),
  data: extraBytes(),
});
export const OFPActionId = struct('OFPActionId', features, {
  type: u16(),
  _len: len('len'),
  data: extraBytes(),
});

/** A match field by name in table features; `length` is what its TLV would carry. OpenFlow 1.3.5 §7.3.5.5.2. */
export interface OxmId {
  cls: 'OFPOxmId';
  type: OxmName | UnknownOxmName;
  hasmask: boolean;
  length: number;
}
/** The same for experimenter classes. */
export interface ExperimenterOxmId {
  cls: 'OFPExperimenterOxmId';
  type: UnknownOxmName;
  exp_id: number;
  hasmask: boolean;
  length: number;
}
export interface OxmIdInput {
  readonly type: OxmName | UnknownOxmName;
  readonly hasmask?: boolean | undefined;
  readonly length?: number | undefined;
}
export interface ExperimenterOxmIdInput extends OxmIdInput {
  readonly type: UnknownOxmName;
  readonly exp_id: number;
}

const oxmIdOptions = {
  ...features,
  custom: {
    min: 4,
    encode(o: object, w: Writer): void {
      const id = o as OxmId | ExperimenterOxmId;
      const c = oxmByName(id.type, w.version);
      if (c === undefined) throw new OfEncodeError(id.cls, 'type', `no such OXM field: ${String(id.type)}`);
      const isExperimenter = c.type >>> 7 === ofp.OFPXMC_EXPERIMENTER;
      if (isExperimenter !== (id.cls === 'OFPExperimenterOxmId')) {
        throw new OfEncodeError(id.cls, 'type', `${id.type} is of the other class of identifiers`);
      }
      if ((id.length & 255) !== id.length) throw new OfEncodeError(id.cls, 'length', 'not an integer of 8 bits');
      if (w.cap - w.p < 8) w.grow(8);
      w.dv.setUint32(w.p, c.type * 512 + (id.hasmask ? 256 : 0) + id.length);
      w.p += 4;
      if (id.cls === 'OFPExperimenterOxmId') {
        if (id.exp_id >>> 0 !== id.exp_id) throw new OfEncodeError(id.cls, 'exp_id', 'not an integer of 32 bits');
        w.dv.setUint32(w.p, id.exp_id);
        w.p += 4;
      }
    },
    decode(r: Reader, p: number, end: number): object {
      if (end - p < 4) fail(r, p, 'OXM identifier cut short', ...BAD_FEATURES);
      const header = r.dv.getUint32(p);
      const oxm = header >>> 9;
      const hasmask = (header & 256) !== 0;
      const length = header & 255;
      const type = oxmNameOfType(oxm, r.version);
      if (oxm >>> 7 !== ofp.OFPXMC_EXPERIMENTER) {
        r.q = p + 4;
        return { cls: 'OFPOxmId', type, hasmask, length };
      }
      if (end - p < 8) fail(r, p, 'experimenter OXM identifier cut short', ...BAD_FEATURES);
      r.q = p + 8;
      return { cls: 'OFPExperimenterOxmId', type, exp_id: r.dv.getUint32(p + 4), hasmask, length };
    },
    toJson(o: object): object {
      const { cls: _, ...attrs } = o as OxmId | ExperimenterOxmId;
      // Ryu prints the bit it has read
      return { ...attrs, hasmask: attrs.hasmask ? 1 : 0 };
    },
    fromJson(attrs: Readonly<Record<string, unknown>>): unknown {
      return { ...attrs, hasmask: Boolean(attrs.hasmask), length: attrs.length ?? undefined };
    },
  },
} as const;
const defaultOxmLength = (type: string, hasmask: boolean, version: Version): number => {
  const c = oxmByName(type, version);
  return c === undefined || c.kind === 'raw' ? 0 : (hasmask ? 2 * c.size : c.size) + c.extra;
};

export const OFPOxmId = customStruct<'OFPOxmId', OxmId, OxmIdInput>('OFPOxmId', {
  ...oxmIdOptions,
  custom: {
    ...oxmIdOptions.custom,
    make(input, version) {
      const { type, hasmask = false, length } = input as OxmIdInput;
      return { cls: 'OFPOxmId', type, hasmask, length: length ?? defaultOxmLength(type, hasmask, version) };
    },
  },
});
export const OFPExperimenterOxmId = customStruct<'OFPExperimenterOxmId', ExperimenterOxmId, ExperimenterOxmIdInput>(
  'OFPExperimenterOxmId',
  {
    ...oxmIdOptions,
    custom: {
      ...oxmIdOptions.custom,
      make(input) {
        const { type, exp_id, hasmask = false, length } = input as ExperimenterOxmIdInput;
        return { cls: 'OFPExperimenterOxmId', type, exp_id, hasmask, length: length ?? 0 };
      },
    },
  },
);

export const OFPTableFeaturePropInstructions = struct(
  'OFPTableFeaturePropInstructions',
  { ...prop, types: [ofp.OFPTFPT_INSTRUCTIONS, ofp.OFPTFPT_INSTRUCTIONS_MISS] },
  { type: u16(), _len: len('length'), instruction_ids: list(OFPInstructionId) },
);
export const OFPTableFeaturePropNextTables = struct(
  'OFPTableFeaturePropNextTables',
  { ...prop, types: [ofp.OFPTFPT_NEXT_TABLES, ofp.OFPTFPT_NEXT_TABLES_MISS] },
  { type: u16(), _len: len('length'), table_ids: uints(1) },
);
export const OFPTableFeaturePropActions = struct(
  'OFPTableFeaturePropActions',
  {
    ...prop,
    types: [
      ofp.OFPTFPT_WRITE_ACTIONS,
      ofp.OFPTFPT_WRITE_ACTIONS_MISS,
      ofp.OFPTFPT_APPLY_ACTIONS,
      ofp.OFPTFPT_APPLY_ACTIONS_MISS,
    ],
  },
  { type: u16(), _len: len('length'), action_ids: list(OFPActionId) },
);
export const OFPTableFeaturePropOxm = struct(
  'OFPTableFeaturePropOxm',
  {
    ...prop,
    types: [
      ofp.OFPTFPT_MATCH,
      ofp.OFPTFPT_WILDCARDS,
      ofp.OFPTFPT_WRITE_SETFIELD,
      ofp.OFPTFPT_WRITE_SETFIELD_MISS,
      ofp.OFPTFPT_APPLY_SETFIELD,
      ofp.OFPTFPT_APPLY_SETFIELD_MISS,
    ],
  },
  { type: u16(), _len: len('length'), oxm_ids: either([OFPOxmId, OFPExperimenterOxmId], OFPOxmId) },
);
export const OFPTableFeaturePropExperimenter = struct(
  'OFPTableFeaturePropExperimenter',
  { ...prop, types: [ofp.OFPTFPT_EXPERIMENTER, ofp.OFPTFPT_EXPERIMENTER_MISS] },
  { type: u16(), _len: len('length'), experimenter: u32(), exp_type: u32(), data: uints(4) },
);
export const OFPTableFeaturePropUnknown = struct('OFPTableFeaturePropUnknown', prop, {
  type: u16(),
  _len: len('length'),
  data: bytes(),
});
export const tableFeatureProps = family(
  'tableFeatureProperty',
  [
    OFPTableFeaturePropInstructions,
    OFPTableFeaturePropNextTables,
    OFPTableFeaturePropActions,
    OFPTableFeaturePropOxm,
    OFPTableFeaturePropExperimenter,
  ],
  OFPTableFeaturePropUnknown,
  { err: BAD_FEATURES, min: 4, padTo8: true },
);
export const OFPTableFeaturesStats = struct('OFPTableFeaturesStats', features, {
  _len: len('length'),
  table_id: u8(),
  _pad: pad(5),
  name: str(32),
  metadata_match: u64(0n),
  metadata_write: u64(0n),
  config: u32(0),
  max_entries: u32(0),
  properties: many(tableFeatureProps),
});

export const OFPExperimenterMultipart = struct(
  'OFPExperimenterMultipart',
  { versions: FROM_12, spec: '7.3.5.16', err: BAD_REQUEST },
  { experimenter: u32(), exp_type: u32(), data: bytes() },
);
