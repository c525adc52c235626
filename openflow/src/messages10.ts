/**
 * Declarations of the messages of OpenFlow 1.0 that later versions changed beyond their name, under Ryu's names; messages.ts
 * has those that more versions share, and collects all. Where Ryu has no default, the field is required or has the value
 * that means nothing. Sections are those of OpenFlow 1.0.1.
 */

import { ofproto_v1_0 as ofp } from './constants10.ts';
import { BAD_REQUEST } from './errorPairs.ts';
import {
  type AnyStruct,
  bytes,
  bytesOrNull,
  type Fields,
  fixed,
  IN_10,
  lenOf,
  list,
  listByKey,
  mac,
  many,
  message,
  one,
  pad,
  u8,
  u16,
  u32,
  u64,
} from './schema.ts';
import { OFPAggregateStats } from './structs.ts';
import * as S from './structs10.ts';

const plain = <const C extends string, F extends Fields>(cls: C, type: number, spec: string, fields: F) =>
  message(cls, { versions: IN_10, spec, err: BAD_REQUEST, message: { type } }, fields);

// ---- symmetric messages --------------------------------------------------------------------------------------------

export const OFPVendor = plain('OFPVendor', ofp.OFPT_VENDOR, '5.5.4', { vendor: u32(), data: bytes() });

// ---- controller to switch ------------------------------------------------------------------------------------------

export const OFPSwitchFeatures10 = plain('OFPSwitchFeatures', ofp.OFPT_FEATURES_REPLY, '5.3.1', {
  datapath_id: u64(),
  n_buffers: u32(0),
  n_tables: u8(0),
  _pad: pad(3),
  capabilities: u32(0),
  actions: u32(0),
  ports: listByKey(S.OFPPhyPort, 'port_no'),
});
export const OFPFlowMod10 = plain('OFPFlowMod', ofp.OFPT_FLOW_MOD, '5.3.3', {
  match: S.match10(),
  cookie: u64(0n),
  command: u16(ofp.OFPFC_ADD),
  idle_timeout: u16(0),
  hard_timeout: u16(0),
  priority: u16(ofp.OFP_DEFAULT_PRIORITY),
  buffer_id: u32(ofp.OFP_NO_BUFFER),
  out_port: u16(ofp.OFPP_NONE),
  flags: u16(0),
  actions: many(S.actions10),
});
export const OFPPortMod10 = plain('OFPPortMod', ofp.OFPT_PORT_MOD, '5.3.3', {
  port_no: u16(0),
  hw_addr: mac(),
  config: u32(0),
  mask: u32(0),
  advertise: u32(0),
  _pad: pad(4),
});
export const OFPPacketOut10 = plain('OFPPacketOut', ofp.OFPT_PACKET_OUT, '5.3.6', {
  buffer_id: u32(ofp.OFP_NO_BUFFER),
  in_port: u16(),
  _actions_len: lenOf('actions'),
  actions: many(S.actions10),
  data: bytesOrNull(),
});
export const OFPQueueGetConfigRequest10 = plain(
  'OFPQueueGetConfigRequest',
  ofp.OFPT_QUEUE_GET_CONFIG_REQUEST,
  '5.3.4',
  { port: u16(), _pad: pad(2) },
);
export const OFPQueueGetConfigReply10 = plain('OFPQueueGetConfigReply', ofp.OFPT_QUEUE_GET_CONFIG_REPLY, '5.3.4', {
  port: u16(),
  _pad: pad(6),
  queues: list(S.OFPPacketQueue10),
});

// ---- asynchronous messages -----------------------------------------------------------------------------------------

export const OFPPacketIn10 = plain('OFPPacketIn', ofp.OFPT_PACKET_IN, '5.4.1', {
  buffer_id: u32(ofp.OFP_NO_BUFFER),
  total_len: u16(0),
  in_port: u16(0),
  reason: u8(0),
  // the specification's C structure has 20 bytes; on the wire the packet begins after 18
  _pad: pad(1),
  data: bytes(),
});
export const OFPFlowRemoved10 = plain('OFPFlowRemoved', ofp.OFPT_FLOW_REMOVED, '5.4.2', {
  match: S.match10(),
  cookie: u64(0n),
  priority: u16(ofp.OFP_DEFAULT_PRIORITY),
  reason: u8(0),
  _pad: pad(1),
  duration_sec: u32(0),
  duration_nsec: u32(0),
  idle_timeout: u16(0),
  _pad2: pad(2),
  packet_count: u64(0n),
  byte_count: u64(0n),
});
export const OFPPortStatus10 = plain('OFPPortStatus', ofp.OFPT_PORT_STATUS, '5.4.3', {
  reason: u8(),
  _pad: pad(7),
  desc: one(S.OFPPhyPort),
});

// ---- statistics ----------------------------------------------------------------------------------------------------

const stats = <const C extends string, F extends Fields>(cls: C, type: number, multipart: number, fields: F) =>
  message(
    cls,
    { versions: IN_10, spec: '5.3.5', err: BAD_REQUEST, message: { type, multipart } },
    { _type: fixed(2, multipart, 'type'), flags: u16(0), ...fields },
  );
const request = <const C extends string, F extends Fields>(cls: C, multipart: number, fields: F) =>
  stats(cls, ofp.OFPT_STATS_REQUEST, multipart, fields);
const reply = <const C extends string, F extends Fields>(cls: C, multipart: number, fields: F) =>
  stats(cls, ofp.OFPT_STATS_REPLY, multipart, fields);

const flowFilter = { match: S.match10(), table_id: u8(0xff), _pad: pad(1), out_port: u16(ofp.OFPP_NONE) };
export const OFPFlowStatsRequest10 = request('OFPFlowStatsRequest', ofp.OFPST_FLOW, flowFilter);
export const OFPFlowStatsReply10 = reply('OFPFlowStatsReply', ofp.OFPST_FLOW, { body: list(S.OFPFlowStats10) });
export const OFPAggregateStatsRequest10 = request('OFPAggregateStatsRequest', ofp.OFPST_AGGREGATE, flowFilter);
// As in Ryu a list, though there is one
export const OFPAggregateStatsReply10 = reply('OFPAggregateStatsReply', ofp.OFPST_AGGREGATE, {
  body: list(OFPAggregateStats),
});
export const OFPTableStatsReply10 = reply('OFPTableStatsReply', ofp.OFPST_TABLE, { body: list(S.OFPTableStats10) });
export const OFPPortStatsRequest10 = request('OFPPortStatsRequest', ofp.OFPST_PORT, {
  // every port
  port_no: u16(ofp.OFPP_NONE),
  _pad: pad(6),
});
export const OFPPortStatsReply10 = reply('OFPPortStatsReply', ofp.OFPST_PORT, { body: list(S.OFPPortStats10) });
export const OFPQueueStatsRequest10 = request('OFPQueueStatsRequest', ofp.OFPST_QUEUE, {
  // every port: here it is another number than for port statistics
  port_no: u16(ofp.OFPP_ALL),
  _pad: pad(2),
  queue_id: u32(ofp.OFPQ_ALL),
});
export const OFPQueueStatsReply10 = reply('OFPQueueStatsReply', ofp.OFPST_QUEUE, { body: list(S.OFPQueueStats10) });
export const OFPVendorStatsRequest = request('OFPVendorStatsRequest', ofp.OFPST_VENDOR, {
  vendor: u32(),
  specific_data: bytes(),
});
export const OFPVendorStatsReply = reply('OFPVendorStatsReply', ofp.OFPST_VENDOR, { body: one(S.OFPVendorStats) });

/** Every message of this file, for messages.ts. */
export const MESSAGES_10 = [
  OFPVendor,
  OFPSwitchFeatures10,
  OFPFlowMod10,
  OFPPortMod10,
  OFPPacketOut10,
  OFPQueueGetConfigRequest10,
  OFPQueueGetConfigReply10,
  OFPPacketIn10,
  OFPFlowRemoved10,
  OFPPortStatus10,
  OFPFlowStatsRequest10,
  OFPFlowStatsReply10,
  OFPAggregateStatsRequest10,
  OFPAggregateStatsReply10,
  OFPTableStatsReply10,
  OFPPortStatsRequest10,
  OFPPortStatsReply10,
  OFPQueueStatsRequest10,
  OFPQueueStatsReply10,
  OFPVendorStatsRequest,
  OFPVendorStatsReply,
] as const satisfies readonly AnyStruct[];
