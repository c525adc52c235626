/**
 * Declarations of the multipart messages (1.0: statistics) of OpenFlow 1.2 and later under Ryu's names, and of those that 1.0
 * shares with them; messages10.ts has the rest of 1.0, messages14.ts what came or changed with 1.4 and 1.5, messages.ts all
 * other messages. structs.ts and tableFeatures.ts have what the answers are made of, multipart.ts puts answers of several
 * parts together.
 */
import { ofproto_v1_3 as ofp } from './constants.ts';
import { flowFilter, plain, REPLY, REQUEST, reply, request } from './messageKinds.ts';
import {
  ALL,
  bytes,
  FROM_12,
  FROM_12_UNTIL_13,
  FROM_12_UNTIL_14,
  FROM_13,
  FROM_13_UNTIL_14,
  IN_12,
  IN_13,
  IN_15,
  list,
  one,
  only,
  pad,
  u16,
  u32,
} from './schema.ts';
import * as S from './structs.ts';
import { OFPTableFeaturesStats } from './tableFeatures.ts';

export const OFPDescStatsRequest = request('OFPDescStatsRequest', ALL, '7.3.5.1', ofp.OFPMP_DESC, {});
export const OFPDescStatsReply = reply('OFPDescStatsReply', ALL, '7.3.5.1', ofp.OFPMP_DESC, {
  body: one(S.OFPDescStats),
});
export const OFPFlowStatsRequest = request(
  'OFPFlowStatsRequest',
  FROM_12_UNTIL_14,
  '7.3.5.2',
  ofp.OFPMP_FLOW,
  flowFilter,
);
export const OFPFlowStatsReply = reply('OFPFlowStatsReply', FROM_12_UNTIL_14, '7.3.5.2', ofp.OFPMP_FLOW, {
  body: list(S.OFPFlowStats),
});
export const OFPAggregateStatsRequest = request(
  'OFPAggregateStatsRequest',
  FROM_12,
  '7.3.5.3',
  ofp.OFPMP_AGGREGATE,
  flowFilter,
);
export const OFPAggregateStatsReply = reply(
  'OFPAggregateStatsReply',
  FROM_12_UNTIL_14,
  '7.3.5.3',
  ofp.OFPMP_AGGREGATE,
  {
    body: one(S.OFPAggregateStats),
  },
);
export const OFPTableStatsRequest = request('OFPTableStatsRequest', ALL, '7.3.5.4', ofp.OFPMP_TABLE, {});
export const OFPTableStatsReply12 = reply('OFPTableStatsReply', IN_12, 'A.3.5.4', ofp.OFPMP_TABLE, {
  body: list(S.OFPTableStats12),
});
export const OFPTableStatsReply = reply('OFPTableStatsReply', FROM_13, '7.3.5.4', ofp.OFPMP_TABLE, {
  body: list(S.OFPTableStats),
});
export const OFPPortStatsRequest = request('OFPPortStatsRequest', FROM_12, '7.3.5.6', ofp.OFPMP_PORT_STATS, {
  port_no: u32(ofp.OFPP_ANY),
  _pad1: pad(4),
});
export const OFPPortStatsReply = reply('OFPPortStatsReply', FROM_12_UNTIL_13, '7.3.5.6', ofp.OFPMP_PORT_STATS, {
  body: list(S.OFPPortStats),
});
export const OFPQueueStatsRequest = request('OFPQueueStatsRequest', FROM_12, '7.3.5.8', ofp.OFPMP_QUEUE, {
  port_no: u32(ofp.OFPP_ANY),
  queue_id: u32(ofp.OFPQ_ALL),
});
export const OFPQueueStatsReply = reply('OFPQueueStatsReply', FROM_12_UNTIL_13, '7.3.5.8', ofp.OFPMP_QUEUE, {
  body: list(S.OFPQueueStats),
});
export const OFPGroupStatsRequest = request('OFPGroupStatsRequest', FROM_12, '7.3.5.9', ofp.OFPMP_GROUP, {
  group_id: u32(ofp.OFPG_ALL),
  _pad1: pad(4),
});
export const OFPGroupStatsReply = reply('OFPGroupStatsReply', FROM_12, '7.3.5.9', ofp.OFPMP_GROUP, {
  body: list(S.OFPGroupStats),
});
export const OFPGroupDescStatsRequest = request('OFPGroupDescStatsRequest', FROM_12, '7.3.5.10', ofp.OFPMP_GROUP_DESC, {
  group_id: only(IN_15, u32(ofp.OFPG_ALL)),
  _pad1: only(IN_15, pad(4)),
});
export const OFPGroupDescStatsReply = reply(
  'OFPGroupDescStatsReply',
  FROM_12_UNTIL_14,
  '7.3.5.10',
  ofp.OFPMP_GROUP_DESC,
  {
    body: list(S.OFPGroupDescStats),
  },
);
export const OFPGroupFeaturesStatsRequest = request(
  'OFPGroupFeaturesStatsRequest',
  FROM_12,
  '7.3.5.11',
  ofp.OFPMP_GROUP_FEATURES,
  {},
);
export const OFPGroupFeaturesStatsReply = reply(
  'OFPGroupFeaturesStatsReply',
  FROM_12,
  '7.3.5.11',
  ofp.OFPMP_GROUP_FEATURES,
  {
    body: one(S.OFPGroupFeaturesStats),
  },
);
export const OFPMeterStatsRequest = request('OFPMeterStatsRequest', FROM_13, '7.3.5.12', ofp.OFPMP_METER, {
  meter_id: u32(ofp.OFPM_ALL),
  _pad1: pad(4),
});
export const OFPMeterStatsReply = reply('OFPMeterStatsReply', FROM_13, '7.3.5.12', ofp.OFPMP_METER, {
  body: list(S.OFPMeterStats),
});
export const OFPMeterConfigStatsRequest = request(
  'OFPMeterConfigStatsRequest',
  FROM_13_UNTIL_14,
  '7.3.5.13',
  ofp.OFPMP_METER_CONFIG,
  {
    meter_id: u32(ofp.OFPM_ALL),
    _pad1: pad(4),
  },
);
export const OFPMeterConfigStatsReply = reply(
  'OFPMeterConfigStatsReply',
  FROM_13_UNTIL_14,
  '7.3.5.13',
  ofp.OFPMP_METER_CONFIG,
  {
    body: list(S.OFPMeterConfigStats),
  },
);
export const OFPMeterFeaturesStatsRequest = request(
  'OFPMeterFeaturesStatsRequest',
  FROM_13,
  '7.3.5.14',
  ofp.OFPMP_METER_FEATURES,
  {},
);
export const OFPMeterFeaturesStatsReply = reply(
  'OFPMeterFeaturesStatsReply',
  FROM_13,
  '7.3.5.14',
  ofp.OFPMP_METER_FEATURES,
  {
    body: list(S.OFPMeterFeaturesStats),
  },
);
export const OFPTableFeaturesStatsRequest = request(
  'OFPTableFeaturesStatsRequest',
  FROM_13,
  '7.3.5.5',
  ofp.OFPMP_TABLE_FEATURES,
  { body: list(OFPTableFeaturesStats) },
);
export const OFPTableFeaturesStatsReply = reply(
  'OFPTableFeaturesStatsReply',
  FROM_13,
  '7.3.5.5',
  ofp.OFPMP_TABLE_FEATURES,
  {
    body: list(OFPTableFeaturesStats),
  },
);
export const OFPPortDescStatsRequest = request('OFPPortDescStatsRequest', FROM_13, '7.3.5.7', ofp.OFPMP_PORT_DESC, {
  port_no: only(IN_15, u32(ofp.OFPP_ANY)),
  _pad1: only(IN_15, pad(4)),
});
export const OFPPortDescStatsReply = reply('OFPPortDescStatsReply', IN_13, '7.3.5.7', ofp.OFPMP_PORT_DESC, {
  body: list(S.OFPPort),
});
export const OFPExperimenterStatsRequest = request(
  'OFPExperimenterStatsRequest',
  FROM_12,
  '7.3.5.16',
  ofp.OFPMP_EXPERIMENTER,
  {
    experimenter: u32(),
    exp_type: u32(),
    data: bytes(),
  },
);
export const OFPExperimenterStatsReply = reply(
  'OFPExperimenterStatsReply',
  FROM_12,
  '7.3.5.16',
  ofp.OFPMP_EXPERIMENTER,
  {
    body: one(S.OFPExperimenterMultipart),
  },
);

const anyMultipart = { type: u16(), flags: u16(0), _pad: only(FROM_12, pad(4)), data: bytes() };
/** A multipart request of a type this library does not know. */
export const OFPMultipartRequestUnknown = plain('OFPMultipartRequestUnknown', ALL, REQUEST, '7.3.5', anyMultipart);
/** A multipart reply of a type this library does not know. */
export const OFPMultipartReplyUnknown = plain('OFPMultipartReplyUnknown', ALL, REPLY, '7.3.5', anyMultipart);

/** Every message declared here, for messages.ts. */
export const MULTIPART_MESSAGES = [
  OFPDescStatsRequest,
  OFPDescStatsReply,
  OFPFlowStatsRequest,
  OFPFlowStatsReply,
  OFPAggregateStatsRequest,
  OFPAggregateStatsReply,
  OFPTableStatsRequest,
  OFPTableStatsReply12,
  OFPTableStatsReply,
  OFPPortStatsRequest,
  OFPPortStatsReply,
  OFPQueueStatsRequest,
  OFPQueueStatsReply,
  OFPGroupStatsRequest,
  OFPGroupStatsReply,
  OFPGroupDescStatsRequest,
  OFPGroupDescStatsReply,
  OFPGroupFeaturesStatsRequest,
  OFPGroupFeaturesStatsReply,
  OFPMeterStatsRequest,
  OFPMeterStatsReply,
  OFPMeterConfigStatsRequest,
  OFPMeterConfigStatsReply,
  OFPMeterFeaturesStatsRequest,
  OFPMeterFeaturesStatsReply,
  OFPTableFeaturesStatsRequest,
  OFPTableFeaturesStatsReply,
  OFPPortDescStatsRequest,
  OFPPortDescStatsReply,
  OFPExperimenterStatsRequest,
  OFPExperimenterStatsReply,
  OFPMultipartRequestUnknown,
  OFPMultipartReplyUnknown,
] as const;
