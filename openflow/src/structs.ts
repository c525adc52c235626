/**
 * Declarations of what else messages of OpenFlow 1.2 and later are made of: elements of hellos, buckets, meter bands, ports,
 * statistics, queues, under Ryu's names. actions.ts, instructions.ts and tableFeatures.ts have those; structs10.ts has what is of
 * 1.0 alone, properties.ts the property TLVs of 1.4 and later, monitors.ts flow monitors. messages.ts, multipartMessages.ts and
 * messages14.ts declare the messages over them; schema.ts has the language.
 * Hidden fields (padding, lengths, fixed types) have names that begin with an underscore. Where versions have nothing in
 * common, a class is declared once for each, and the name of the declaration ends in the first version it is for.
 *
 * Where Ryu has no class for a type number, the class here ends in `Unknown` and keeps the bytes.
 */

import { actions } from './actions.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { ofproto_v1_5 as ofp15 } from './constants15.ts';
import { BAD_BAND, BAD_REQUEST } from './errorPairs.ts';
import { instructions } from './instructions.ts';
import {
  bucketProps,
  bundleFeaturesProps,
  controllerStatusProps,
  groupProps,
  portDescProps,
  portStatsProps,
  queueDescProps,
  queueStatsProps,
  tableModProps,
} from './properties.ts';
import {
  ALL,
  bitmap,
  bytes,
  FROM_12,
  FROM_12_UNTIL_13,
  FROM_12_UNTIL_14,
  FROM_13,
  FROM_13_UNTIL_14,
  FROM_14,
  family,
  fixed,
  IN_12,
  IN_13,
  IN_14,
  IN_15,
  len,
  lenOf,
  list,
  mac,
  many,
  match,
  only,
  pad,
  shownSize,
  stats,
  str,
  struct,
  tail,
  UNTIL_13,
  UNTIL_14,
  u8,
  u16,
  u32,
  u64,
  uints,
} from './schema.ts';

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
export const helloElement = family('helloElement', [OFPHelloElemVersionBitmap], [OFPHelloElemUnknown], {
  err: [ofp.OFPET_HELLO_FAILED, ofp.OFPHFC_INCOMPATIBLE],
  min: 4,
  padTo8: true,
});

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
export const OFPBucket15 = struct(
  'OFPBucket',
  {
    versions: IN_15,
    spec: '7.3.4',
    err: [ofp.OFPET_GROUP_MOD_FAILED, ofp.OFPGMFC_BAD_BUCKET],
    padTo8: 'inside',
  },
  {
    _len: len('len'),
    _action_array_len: lenOf('actions', 'action_array_len'),
    bucket_id: u32(0),
    actions: many(actions),
    properties: many(bucketProps),
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
export const OFPGroupDescStats15 = struct(
  'OFPGroupDescStats',
  { versions: IN_15, spec: '7.3.5', err: BAD_REQUEST },
  {
    _len: len('length'),
    type: u8(),
    _pad: pad(1),
    group_id: u32(),
    _bucket_array_len: lenOf('buckets', 'bucket_array_len'),
    _pad2: pad(6),
    buckets: list(OFPBucket15),
    properties: many(groupProps),
  },
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
  [OFPMeterBandUnknown],
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
    flow_count: only(FROM_13_UNTIL_14, u32(0)),
    ref_count: only(IN_15, u32(0)),
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
export const OFPMeterDescStats = struct(
  'OFPMeterDescStats',
  { versions: IN_15, spec: '7.3.5', err: BAD_REQUEST },
  { _len: len('length'), flags: u16(0), meter_id: u32(), bands: many(meterBands) },
);
export const OFPMeterFeaturesStats = struct(
  'OFPMeterFeaturesStats',
  { versions: FROM_13, spec: '7.3.5.14', err: BAD_REQUEST },
  {
    max_meter: u32(0),
    band_types: u32(0),
    capabilities: u32(0),
    max_bands: u8(0),
    max_color: u8(0),
    _pad: pad(2),
    // Open vSwitch 3.1 sends the structure of 1.3
    features: only(IN_15, tail(0)),
  },
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
export const OFPPort14 = struct(
  'OFPPort',
  { versions: FROM_14, spec: '7.2.1', err: BAD_REQUEST },
  {
    port_no: u32(),
    _len: len('length'),
    _pad: pad(2),
    hw_addr: mac(),
    _pad2: pad(2),
    name: str(16),
    config: u32(0),
    state: u32(0),
    properties: many(portDescProps),
  },
);
export const OFPPortStats14 = struct(
  'OFPPortStats',
  { versions: FROM_14, spec: '7.3.5', err: BAD_REQUEST },
  {
    _len: len('length'),
    _pad: pad(2),
    port_no: u32(),
    duration_sec: u32(0),
    duration_nsec: u32(0),
    rx_packets: u64(0n),
    tx_packets: u64(0n),
    rx_bytes: u64(0n),
    tx_bytes: u64(0n),
    rx_dropped: u64(0n),
    tx_dropped: u64(0n),
    rx_errors: u64(0n),
    tx_errors: u64(0n),
    properties: many(portStatsProps),
  },
);
export const OFPQueueStats14 = struct(
  'OFPQueueStats',
  { versions: FROM_14, spec: '7.3.5', err: BAD_REQUEST },
  {
    _len: len('length'),
    _pad: pad(6),
    port_no: u32(),
    queue_id: u32(),
    tx_bytes: u64(0n),
    tx_packets: u64(0n),
    tx_errors: u64(0n),
    duration_sec: u32(0),
    duration_nsec: u32(0),
    properties: many(queueStatsProps),
  },
);
export const OFPQueueDesc = struct(
  'OFPQueueDesc',
  { versions: FROM_14, spec: '7.3.5', err: BAD_REQUEST },
  { port_no: u32(), queue_id: u32(), _len: len('len'), _pad: pad(6), properties: many(queueDescProps) },
);
/** Counters of a port until 1.3. */
export const portCounters = {
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
};
export const OFPPortStats = struct(
  'OFPPortStats',
  { versions: FROM_12_UNTIL_13, spec: '7.3.5.6', err: BAD_REQUEST },
  {
    port_no: u32(),
    _pad: pad(4),
    ...portCounters,
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
  [OFPQueuePropUnknown],
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
export const OFPFlowStats15 = struct(
  'OFPFlowStats',
  { versions: IN_15, spec: '7.3.5', err: BAD_REQUEST },
  {
    _len: len('length'),
    _pad: pad(2),
    table_id: u8(0),
    reason: u8(0),
    priority: u16(ofp.OFP_DEFAULT_PRIORITY),
    match: match(),
    stats: stats(),
  },
);
export const OFPFlowDesc = struct(
  'OFPFlowDesc',
  { versions: IN_15, spec: '7.3.5', err: BAD_REQUEST },
  {
    _len: len('length'),
    _pad: pad(2),
    table_id: u8(0),
    _pad2: pad(1),
    priority: u16(ofp.OFP_DEFAULT_PRIORITY),
    idle_timeout: u16(0),
    hard_timeout: u16(0),
    flags: u16(0),
    importance: u16(0),
    cookie: u64(0n),
    match: match(),
    stats: stats(),
    instructions: many(instructions),
  },
);
export const OFPAggregateStats15 = struct(
  'OFPAggregateStats',
  { versions: IN_15, spec: '7.3.5', err: BAD_REQUEST },
  { _size: shownSize('length'), stats: stats() },
);
export const OFPTableStats = struct(
  'OFPTableStats',
  { versions: FROM_13, spec: '7.3.5.4', err: BAD_REQUEST },
  { table_id: u8(), _pad: pad(3), active_count: u32(0), lookup_count: u64(0n), matched_count: u64(0n) },
);

export const OFPTableDesc = struct(
  'OFPTableDesc',
  { versions: FROM_14, spec: '7.3.5', err: BAD_REQUEST },
  { _len: len('length'), table_id: u8(), _pad: pad(1), config: u32(0), properties: many(tableModProps) },
);

// ---- controllers and bundles ---------------------------------------------------------------------------------------

export const OFPControllerStatusStats = struct(
  'OFPControllerStatusStats',
  { versions: IN_15, spec: '7.2.7', err: BAD_REQUEST },
  {
    _len: len('length'),
    short_id: u16(0),
    role: u32(ofp15.OFPCR_ROLE_NOCHANGE),
    reason: u8(0),
    channel_status: u8(0),
    _pad: pad(6),
    properties: many(controllerStatusProps),
  },
);
export const OFPBundleFeaturesStats = struct(
  'OFPBundleFeaturesStats',
  { versions: IN_15, spec: '7.3.5', err: BAD_REQUEST },
  { capabilities: u16(0), _pad: pad(6), properties: many(bundleFeaturesProps) },
);

export const OFPExperimenterMultipart = struct(
  'OFPExperimenterMultipart',
  { versions: FROM_12, spec: '7.3.5.16', err: BAD_REQUEST },
  { experimenter: u32(), exp_type: u32(), data: bytes() },
);
