/**
 * Declarations of the messages that came with OpenFlow 1.4 and 1.5 or changed in them beyond their name, and of those of
 * the ONF extensions that brought some of it to 1.3, under Ryu's names; messages.ts has those that more versions share, and
 * collects all. Sections are those of OpenFlow 1.5.1, or of 1.4.1 where only that one has the class.
 */
import { actions } from './actions.ts';
import { ofproto_v1_3 as ofp13 } from './constants.ts';
import { ofproto_v1_5 as ofp } from './constants15.ts';
import { BAD_REQUEST } from './errorPairs.ts';
import { flowFilter, plain, REPLY, REQUEST, reply, request } from './messageKinds.ts';
import * as F from './monitors.ts';
import * as P from './properties.ts';
import {
  ALL,
  type AnyStruct,
  bundled,
  bytesOrNull,
  extraIn,
  type Fields,
  FROM_14,
  fixed,
  IN_13,
  IN_15,
  lenOf,
  list,
  mac,
  many,
  match,
  message,
  nested,
  one,
  pad,
  required,
  stats,
  u8,
  u16,
  u32,
  u64,
} from './schema.ts';
import * as S from './structs.ts';

// ---- controller to switch ------------------------------------------------------------------------------------------

export const OFPTableMod14 = plain('OFPTableMod', FROM_14, ofp.OFPT_TABLE_MOD, '7.3.4', {
  table_id: u8(),
  _pad: pad(3),
  config: u32(),
  properties: many(P.tableModProps),
});
export const OFPGroupMod15 = plain('OFPGroupMod', IN_15, ofp.OFPT_GROUP_MOD, '7.3.4', {
  command: u16(ofp.OFPGC_ADD),
  type: u8(ofp.OFPGT_ALL),
  _pad: pad(1),
  group_id: u32(0),
  _bucket_array_len: lenOf('buckets', 'bucket_array_len'),
  _pad2: pad(2),
  command_bucket_id: u32(ofp.OFPG_BUCKET_ALL),
  buckets: list(S.OFPBucket15),
  properties: many(P.groupProps),
});
export const OFPPortMod14 = plain('OFPPortMod', FROM_14, ofp.OFPT_PORT_MOD, '7.3.4', {
  port_no: u32(0),
  _pad: pad(4),
  hw_addr: mac(),
  _pad2: pad(2),
  config: u32(0),
  mask: u32(0),
  properties: many(P.portModProps),
});
/** The match tells the pipeline fields that the packet starts with: `in_port` must be one of them. */
export const OFPPacketOut15 = plain('OFPPacketOut', IN_15, ofp.OFPT_PACKET_OUT, '7.3.6', {
  buffer_id: u32(ofp.OFP_NO_BUFFER),
  _actions_len: lenOf('actions', 'actions_len'),
  _pad: pad(2),
  match: required(match()),
  actions: many(actions),
  data: bytesOrNull(),
});
export const OFPGetAsyncReply14 = plain('OFPGetAsyncReply', FROM_14, ofp.OFPT_GET_ASYNC_REPLY, '7.3.10', {
  properties: many(P.asyncConfigProps),
});
export const OFPSetAsync14 = plain('OFPSetAsync', FROM_14, ofp.OFPT_SET_ASYNC, '7.3.10', {
  properties: many(P.asyncConfigProps),
});
export const OFPBundleCtrlMsg = plain('OFPBundleCtrlMsg', FROM_14, ofp.OFPT_BUNDLE_CONTROL, '7.3.9', {
  bundle_id: u32(),
  type: u16(),
  flags: u16(0),
  properties: many(P.bundleProps),
});
export const OFPBundleAddMsg = plain('OFPBundleAddMsg', FROM_14, ofp.OFPT_BUNDLE_ADD_MESSAGE, '7.3.9', {
  bundle_id: u32(),
  _pad: pad(2),
  flags: u16(0),
  message: bundled('properties'),
  properties: many(P.bundleProps),
});

// ---- asynchronous messages -----------------------------------------------------------------------------------------

export const OFPFlowRemoved15 = plain('OFPFlowRemoved', IN_15, ofp.OFPT_FLOW_REMOVED, '7.4.2', {
  table_id: u8(0),
  reason: u8(0),
  priority: u16(ofp.OFP_DEFAULT_PRIORITY),
  idle_timeout: u16(0),
  hard_timeout: u16(0),
  cookie: u64(0n),
  match: match(),
  stats: stats(),
});
export const OFPPortStatus14 = plain('OFPPortStatus', FROM_14, ofp.OFPT_PORT_STATUS, '7.4.3', {
  reason: u8(),
  _pad: pad(7),
  desc: one(S.OFPPort14),
});
export const OFPRoleStatus = plain('OFPRoleStatus', FROM_14, ofp.OFPT_ROLE_STATUS, '7.4.4', {
  role: u32(),
  reason: u8(0),
  _pad: pad(3),
  generation_id: u64(0n),
  properties: many(P.roleProps),
});
export const OFPTableStatus = plain('OFPTableStatus', FROM_14, ofp.OFPT_TABLE_STATUS, '7.4.5', {
  reason: u8(),
  _pad: pad(7),
  table: one(S.OFPTableDesc),
});
/** The group-mod or meter-mod of another controller, with the xid it had there. */
export const OFPRequestForward = plain('OFPRequestForward', FROM_14, ofp.OFPT_REQUESTFORWARD, '7.4.6', {
  request: nested(),
});
export const OFPControllerStatus = plain('OFPControllerStatus', IN_15, ofp.OFPT_CONTROLLER_STATUS, '7.4.7', {
  status: one(S.OFPControllerStatusStats),
});

// ---- multipart messages --------------------------------------------------------------------------------------------

export const OFPFlowDescStatsRequest = request(
  'OFPFlowDescStatsRequest',
  IN_15,
  '7.3.5',
  ofp.OFPMP_FLOW_DESC,
  flowFilter,
);
export const OFPFlowDescStatsReply = reply('OFPFlowDescStatsReply', IN_15, '7.3.5', ofp.OFPMP_FLOW_DESC, {
  body: list(S.OFPFlowDesc),
});
export const OFPFlowStatsRequest15 = request('OFPFlowStatsRequest', IN_15, '7.3.5', ofp.OFPMP_FLOW_STATS, flowFilter);
export const OFPFlowStatsReply15 = reply('OFPFlowStatsReply', IN_15, '7.3.5', ofp.OFPMP_FLOW_STATS, {
  body: list(S.OFPFlowStats15),
});
export const OFPAggregateStatsReply15 = reply('OFPAggregateStatsReply', IN_15, '7.3.5', ofp.OFPMP_AGGREGATE_STATS, {
  body: one(S.OFPAggregateStats15),
});
export const OFPPortStatsReply14 = reply('OFPPortStatsReply', FROM_14, '7.3.5', ofp.OFPMP_PORT_STATS, {
  body: list(S.OFPPortStats14),
});
export const OFPPortDescStatsReply14 = reply('OFPPortDescStatsReply', FROM_14, '7.3.5', ofp.OFPMP_PORT_DESC, {
  body: list(S.OFPPort14),
});
export const OFPQueueStatsReply14 = reply('OFPQueueStatsReply', FROM_14, '7.3.5', ofp.OFPMP_QUEUE_STATS, {
  body: list(S.OFPQueueStats14),
});
export const OFPQueueDescStatsRequest = request('OFPQueueDescStatsRequest', FROM_14, '7.3.5', ofp.OFPMP_QUEUE_DESC, {
  port_no: u32(ofp.OFPP_ANY),
  queue_id: u32(ofp.OFPQ_ALL),
});
export const OFPQueueDescStatsReply = reply('OFPQueueDescStatsReply', FROM_14, '7.3.5', ofp.OFPMP_QUEUE_DESC, {
  body: list(S.OFPQueueDesc),
});
export const OFPTableDescStatsRequest = request('OFPTableDescStatsRequest', FROM_14, '7.3.5', ofp.OFPMP_TABLE_DESC, {});
export const OFPTableDescStatsReply = reply('OFPTableDescStatsReply', FROM_14, '7.3.5', ofp.OFPMP_TABLE_DESC, {
  body: list(S.OFPTableDesc),
});
export const OFPGroupDescStatsReply15 = reply('OFPGroupDescStatsReply', IN_15, '7.3.5', ofp.OFPMP_GROUP_DESC, {
  body: list(S.OFPGroupDescStats15),
});
export const OFPMeterDescStatsRequest = request('OFPMeterDescStatsRequest', IN_15, '7.3.5', ofp.OFPMP_METER_DESC, {
  meter_id: u32(ofp.OFPM_ALL),
  _pad1: pad(4),
});
export const OFPMeterDescStatsReply = reply('OFPMeterDescStatsReply', IN_15, '7.3.5', ofp.OFPMP_METER_DESC, {
  body: list(S.OFPMeterDescStats),
});
/** As in Ryu the fields are those of one monitor; a request may hold more: they are in `more`. */
export const OFPFlowMonitorRequest = request('OFPFlowMonitorRequest', FROM_14, '7.3.5', ofp.OFPMP_FLOW_MONITOR, {
  ...F.monitorFields,
  more: extraIn(ALL, list(F.OFPFlowMonitorNext)),
});
/** Also sent without a request, whenever a watched flow changes. */
export const OFPFlowMonitorReply = reply('OFPFlowMonitorReply', FROM_14, '7.3.5', ofp.OFPMP_FLOW_MONITOR, {
  body: many(F.flowUpdates),
});
export const OFPControllerStatusStatsRequest = request(
  'OFPControllerStatusStatsRequest',
  IN_15,
  '7.3.5',
  ofp.OFPMP_CONTROLLER_STATUS,
  {},
);
export const OFPControllerStatusStatsReply = reply(
  'OFPControllerStatusStatsReply',
  IN_15,
  '7.3.5',
  ofp.OFPMP_CONTROLLER_STATUS,
  { body: list(S.OFPControllerStatusStats) },
);
export const OFPBundleFeaturesStatsRequest = request(
  'OFPBundleFeaturesStatsRequest',
  IN_15,
  '7.3.5',
  ofp.OFPMP_BUNDLE_FEATURES,
  { feature_request_flags: u32(0), _pad1: pad(4), properties: many(P.bundleFeaturesProps) },
);
export const OFPBundleFeaturesStatsReply = reply(
  'OFPBundleFeaturesStatsReply',
  IN_15,
  '7.3.5',
  ofp.OFPMP_BUNDLE_FEATURES,
  { body: one(S.OFPBundleFeaturesStats) },
);

// ---- ONF extensions for 1.3 ----------------------------------------------------------------------------------------

const ONF = 0x4f4e4600;
const experimenter = (expType: number) => ({
  _experimenter: fixed(4, ONF, 'experimenter'),
  _exp_type: fixed(4, expType, 'exp_type'),
});
const onf = <const C extends string, F extends Fields>(cls: C, expType: number, spec: string, fields: F) =>
  message(
    cls,
    {
      versions: IN_13,
      spec,
      err: BAD_REQUEST,
      message: { type: ofp13.OFPT_EXPERIMENTER },
      experimenter: [ONF, expType],
      // Ryu's classes inherit an attribute for data that they do not use
      json: { versions: IN_13, attributes: { data: null } },
    },
    { ...experimenter(expType), ...fields },
  );

export const ONFBundleCtrlMsg = onf('ONFBundleCtrlMsg', ofp13.ONF_ET_BUNDLE_CONTROL, 'EXT-230', {
  bundle_id: u32(),
  type: u16(),
  flags: u16(0),
  properties: many(P.bundleProps),
});
export const ONFBundleAddMsg = onf('ONFBundleAddMsg', ofp13.ONF_ET_BUNDLE_ADD_MESSAGE, 'EXT-230', {
  bundle_id: u32(),
  _pad: pad(2),
  flags: u16(0),
  message: bundled('properties'),
  properties: many(P.bundleProps),
});
/** Ends a monitor. */
export const ONFFlowMonitorCancel = onf('ONFFlowMonitorCancel', ofp13.ONFT_FLOW_MONITOR_CANCEL, 'EXT-187', {
  id: u32(),
});
export const ONFFlowMonitorPaused = onf('ONFFlowMonitorPaused', ofp13.ONFT_FLOW_MONITOR_PAUSED, 'EXT-187', {});
export const ONFFlowMonitorResumed = onf('ONFFlowMonitorResumed', ofp13.ONFT_FLOW_MONITOR_RESUMED, 'EXT-187', {});

const onfMultipart = <const C extends string, F extends Fields>(cls: C, type: typeof REQUEST | typeof REPLY, body: F) =>
  message(
    cls,
    {
      versions: IN_13,
      spec: 'EXT-187',
      err: BAD_REQUEST,
      message: { type, multipart: ofp13.OFPMP_EXPERIMENTER },
      experimenter: [ONF, ofp13.ONFMP_FLOW_MONITOR],
    },
    {
      _type: fixed(2, ofp13.OFPMP_EXPERIMENTER, 'type'),
      flags: u16(0),
      _pad: pad(4),
      ...experimenter(ofp13.ONFMP_FLOW_MONITOR),
      ...body,
    },
  );
export const ONFFlowMonitorStatsRequest = onfMultipart('ONFFlowMonitorStatsRequest', REQUEST, {
  body: list(F.ONFFlowMonitorRequest),
});
/** Also sent without a request, whenever a watched flow changes. */
export const ONFFlowMonitorStatsReply = onfMultipart('ONFFlowMonitorStatsReply', REPLY, {
  body: many(F.onfFlowUpdates),
});

/** Every message declared here, for messages.ts. */
export const MESSAGES_14: readonly AnyStruct[] = [
  OFPTableMod14,
  OFPGroupMod15,
  OFPPortMod14,
  OFPPacketOut15,
  OFPGetAsyncReply14,
  OFPSetAsync14,
  OFPBundleCtrlMsg,
  OFPBundleAddMsg,
  OFPFlowRemoved15,
  OFPPortStatus14,
  OFPRoleStatus,
  OFPTableStatus,
  OFPRequestForward,
  OFPControllerStatus,
  OFPFlowDescStatsRequest,
  OFPFlowDescStatsReply,
  OFPFlowStatsRequest15,
  OFPFlowStatsReply15,
  OFPAggregateStatsReply15,
  OFPPortStatsReply14,
  OFPPortDescStatsReply14,
  OFPQueueStatsReply14,
  OFPQueueDescStatsRequest,
  OFPQueueDescStatsReply,
  OFPTableDescStatsRequest,
  OFPTableDescStatsReply,
  OFPGroupDescStatsReply15,
  OFPMeterDescStatsRequest,
  OFPMeterDescStatsReply,
  OFPFlowMonitorRequest,
  OFPFlowMonitorReply,
  OFPControllerStatusStatsRequest,
  OFPControllerStatusStatsReply,
  OFPBundleFeaturesStatsRequest,
  OFPBundleFeaturesStatsReply,
  ONFBundleCtrlMsg,
  ONFBundleAddMsg,
  ONFFlowMonitorCancel,
  ONFFlowMonitorPaused,
  ONFFlowMonitorResumed,
  ONFFlowMonitorStatsRequest,
  ONFFlowMonitorStatsReply,
];
