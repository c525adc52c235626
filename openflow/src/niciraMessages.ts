/**
 * Declarations of the messages with which Nicira, and Open vSwitch after it, extend OpenFlow: matches of any fields in 1.0,
 * packet-ins with properties, continuations, roles, flow monitors, options of tunnel headers, statistics. Names are Ryu's
 * where Ryu has them. niciraActions.ts has the actions, messages.ts collects all messages.
 *
 * Ryu reads most of them in 1.0 only: what it does not know in later versions is shown in JSON as it shows it.
 */
import { ofproto_v1_3 as ofp } from './constants.ts';
import { BAD_REQUEST } from './errorPairs.ts';
import { instructions } from './instructions.ts';
import { REPLY, REQUEST } from './messageKinds.ts';
import { nicira_ext as nx } from './niciraConstants.ts';
import {
  match_len,
  NXAggregateStats,
  NXFlowMonitor,
  NXFlowStats,
  NXIpfixStats,
  NXTlvMap,
  NXTPacketIn2PropBufferId,
  NXTPacketIn2PropContinuation,
  NXTPacketIn2PropCookie,
  NXTPacketIn2PropFullLen,
  NXTPacketIn2PropMetadata,
  NXTPacketIn2PropPacket,
  NXTPacketIn2PropReason,
  NXTPacketIn2PropTableId,
  NXTPacketIn2PropUserData,
  nxFlowUpdates,
  nxMatch,
  packetInProps,
  SPEC,
} from './niciraStructs.ts';
import {
  ALL,
  type AnyStruct,
  bytes,
  type Field,
  type Fields,
  FROM_12,
  FROM_13,
  fixed,
  IN_10,
  type JsonForm,
  list,
  many,
  message,
  only,
  pad,
  type Range,
  UNTIL_12,
  UNTIL_13,
  u8,
  u16,
  u32,
  u64,
  uints,
} from './schema.ts';
import { actions10 } from './structs10.ts';

/** A message of Nicira's. Where Ryu does not know it, its JSON is that of OFPExperimenter. */
function nxt<const C extends string, const R extends Range, F extends Fields>(
  cls: C,
  versions: R,
  subtype: number,
  fields: F,
  unknownToRyu: Range = FROM_12,
  json?: JsonForm,
) {
  const all = {
    _vendor: only(IN_10, fixed(4, nx.NX_EXPERIMENTER_ID, 'vendor')),
    _subtype: only(IN_10, fixed(4, subtype, 'subtype')),
    _experimenter: only(FROM_12, fixed(4, nx.NX_EXPERIMENTER_ID, 'experimenter')),
    _exp_type: only(FROM_12, fixed(4, subtype, 'exp_type')),
    ...fields,
  } as Hidden & F;
  return message(
    cls,
    {
      versions,
      spec: SPEC,
      err: BAD_REQUEST,
      message: { type: ofp.OFPT_EXPERIMENTER },
      experimenter: [nx.NX_EXPERIMENTER_ID, subtype],
      jsonAs: { versions: unknownToRyu, cls: 'OFPExperimenter' },
      ...(json === undefined ? {} : { json }),
    },
    all,
  );
}
type Hidden = { _vendor: ReturnType<typeof pad> };

// ---- controller to switch ------------------------------------------------------------------------------------------

/** Matches in the form of OpenFlow 1.0 or of NXM: NXFF_OPENFLOW10 or NXFF_NXM. */
export const NXTSetFlowFormat = nxt('NXTSetFlowFormat', ALL, nx.NXT_SET_FLOW_FORMAT, { format: u32() });
/** Whether the upper eight bits of the command of flow-mods are the table. */
export const NXTFlowModTableId = nxt('NXTFlowModTableId', ALL, nx.NXT_FLOW_MOD_TABLE_ID, { set: u8(), _pad: pad(7) });
const flowMod = {
  cookie: u64(0n),
  command: u16(ofp.OFPFC_ADD),
  idle_timeout: u16(0),
  hard_timeout: u16(0),
  priority: u16(ofp.OFP_DEFAULT_PRIORITY),
  buffer_id: u32(ofp.OFP_NO_BUFFER),
  out_port: u16(nx.OFPP_NONE),
  flags: u16(0),
  _match_len: match_len,
  _pad: pad(6),
  match: nxMatch(),
};
/** A flow-mod whose match may have any field; its ports have 16 bits in all versions. */
export const NXTFlowMod10 = nxt('NXTFlowMod', IN_10, nx.NXT_FLOW_MOD, { ...flowMod, actions: many(actions10) });
export const NXTFlowMod = nxt('NXTFlowMod', FROM_12, nx.NXT_FLOW_MOD, {
  ...flowMod,
  instructions: many(instructions),
});
export const NXTRoleRequest = nxt('NXTRoleRequest', ALL, nx.NXT_ROLE_REQUEST, { role: u32() });
export const NXTRoleReply = nxt('NXTRoleReply', ALL, nx.NXT_ROLE_REPLY, { role: u32() }, FROM_12, {
  versions: IN_10,
  inside: 'OFPVendor',
  attributes: { data: null },
});
/** Form of packet-ins: NXPIF_OPENFLOW10, NXPIF_NXM or NXPIF_NXT_PACKET_IN2. */
export const NXTSetPacketInFormat = nxt('NXTSetPacketInFormat', UNTIL_12, nx.NXT_SET_PACKET_IN_FORMAT, {
  format: u32(),
});
/** The same under the name Ryu has for it from 1.3 on. */
export const NXTSetPacketInFormatMsg = nxt(
  'NXTSetPacketInFormatMsg',
  FROM_13,
  nx.NXT_SET_PACKET_IN_FORMAT,
  { packet_in_format: u32() },
  [],
  { versions: FROM_13, attributes: { data: null, properties: [] } },
);
/** Flow statistics shall tell how long flows were idle. */
export const NXTFlowAge = nxt('NXTFlowAge', ALL, nx.NXT_FLOW_AGE, {});
export const NXTSetAsyncConfig = nxt('NXTSetAsyncConfig', ALL, nx.NXT_SET_ASYNC_CONFIG, {
  packet_in_mask: uints(4, 2),
  port_status_mask: uints(4, 2),
  flow_removed_mask: uints(4, 2),
});
/** The number by which actions and messages mean this controller. */
export const NXTSetControllerId = nxt('NXTSetControllerId', ALL, nx.NXT_SET_CONTROLLER_ID, {
  _pad: pad(6),
  controller_id: u16(),
});
export const NXTFlowMonitorCancel = nxt('NXTFlowMonitorCancel', ALL, nx.NXT_FLOW_MONITOR_CANCEL, { id: u32() });
/** Forgets the connections of a zone. */
export const NXTCtFlushZone = nxt('NXTCtFlushZone', ALL, nx.NXT_CT_FLUSH_ZONE, { _pad: pad(6), zone_id: u16() });

/** Maps options of tunnel headers to fields: NXTTMC_ADD, _DELETE or _CLEAR. */
export const NXTTlvTableMod = nxt('NXTTlvTableMod', ALL, nx.NXT_TLV_TABLE_MOD, {
  command: u16(),
  _pad: pad(6),
  mappings: list(NXTlvMap),
});
export const NXTTlvTableRequest = nxt('NXTTlvTableRequest', ALL, nx.NXT_TLV_TABLE_REQUEST, {});
export const NXTTlvTableReply = nxt('NXTTlvTableReply', ALL, nx.NXT_TLV_TABLE_REPLY, {
  max_option_space: u32(),
  max_fields: u16(),
  _pad: pad(10),
  mappings: list(NXTlvMap),
});

// ---- asynchronous messages -----------------------------------------------------------------------------------------

export const NXTFlowRemoved = nxt('NXTFlowRemoved', ALL, nx.NXT_FLOW_REMOVED, {
  cookie: u64(0n),
  priority: u16(ofp.OFP_DEFAULT_PRIORITY),
  reason: u8(0),
  /** The table's number plus one; 0 when the switch does not tell it. */
  table_id: u8(0),
  duration_sec: u32(0),
  duration_nsec: u32(0),
  idle_timeout: u16(0),
  _match_len: match_len,
  packet_count: u64(0n),
  byte_count: u64(0n),
  match: nxMatch(),
});
export const NXTPacketIn = nxt('NXTPacketIn', ALL, nx.NXT_PACKET_IN, {
  buffer_id: u32(ofp.OFP_NO_BUFFER),
  total_len: u16(0),
  reason: u8(0),
  table_id: u8(0),
  cookie: u64(0n),
  _match_len: match_len,
  _pad: pad(6),
  match: nxMatch(),
  _pad2: pad(2),
  /** The packet, perhaps cut short. */
  frame: bytes(),
});
export const NXTFlowMonitorPaused = nxt('NXTFlowMonitorPaused', ALL, nx.NXT_FLOW_MONITOR_PAUSED, {});
export const NXTFlowMonitorResumed = nxt('NXTFlowMonitorResumed', ALL, nx.NXT_FLOW_MONITOR_RESUMED, {});

interface PropertyObject {
  readonly cls: string;
  readonly data: Buffer;
}
/** Attributes in which Ryu's JSON repeats what properties say; of two of a kind the last one. */
function packetInAttributes(o: object): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  // Like Ryu: integers only where they are there in full.
  const uint = (d: Buffer, size: 1 | 4) => (d.length < size ? null : d.readUIntBE(0, size));
  for (const { cls, data: d } of (o as { readonly properties: readonly PropertyObject[] }).properties) {
    const base64 = d.toString('base64');
    if (cls === NXTPacketIn2PropPacket.cls) {
      out.data = base64;
      out.total_len = 4 + d.length;
    } else if (cls === NXTPacketIn2PropFullLen.cls) out.total_len = uint(d, 4);
    else if (cls === NXTPacketIn2PropBufferId.cls) out.buffer_id = uint(d, 4);
    else if (cls === NXTPacketIn2PropTableId.cls) out.table_id = uint(d, 1);
    // Ryu takes the padding in front of the cookie for a part of it; the property has all bytes.
    else if (cls === NXTPacketIn2PropCookie.cls) out.cookie = d.length < 8 ? null : d.readBigUInt64BE(0);
    else if (cls === NXTPacketIn2PropReason.cls) out.reason = uint(d, 1);
    else if (cls === NXTPacketIn2PropMetadata.cls) out.metadata = base64;
    else if (cls === NXTPacketIn2PropUserData.cls) out.userdata = base64;
    else if (cls === NXTPacketIn2PropContinuation.cls) out.continuation = base64;
  }
  return out;
}
/** A packet-in that is made of properties, among them what NXActionController2 gave it. */
export const NXTPacketIn2 = nxt('NXTPacketIn2', ALL, nx.NXT_PACKET_IN2, { properties: many(packetInProps) }, [3], {
  versions: FROM_13,
  attributes: {
    buffer_id: null,
    continuation: null,
    cookie: null,
    data: null,
    metadata: null,
    reason: null,
    table_id: null,
    total_len: null,
    userdata: null,
  },
  repeated: packetInAttributes,
});
/** Goes on with a packet that an NXActionController2 paused: with the properties of its packet-in, perhaps changed. */
export const NXTResume = nxt('NXTResume', ALL, nx.NXT_RESUME, { properties: many(packetInProps) });

// ---- statistics ----------------------------------------------------------------------------------------------------

type Statistics = { flags: Field<number, number, 'optional'> };
function nxst<const C extends string, const R extends Range, F extends Fields>(
  cls: C,
  versions: R,
  type: typeof REQUEST | typeof REPLY,
  subtype: number,
  fields: F,
) {
  const all = {
    _type: fixed(2, ofp.OFPMP_EXPERIMENTER, 'type'),
    flags: u16(0),
    _pad: only(FROM_12, pad(4)),
    _vendor: fixed(4, nx.NX_EXPERIMENTER_ID),
    _subtype: fixed(4, subtype),
    _pad10: only(IN_10, pad(4)),
    ...fields,
  } as Statistics & F;
  return message(
    cls,
    {
      versions,
      spec: SPEC,
      err: BAD_REQUEST,
      message: { type, multipart: ofp.OFPMP_EXPERIMENTER },
      experimenter: [nx.NX_EXPERIMENTER_ID, subtype],
      jsonAs: {
        versions: FROM_12,
        cls: type === REQUEST ? 'OFPExperimenterStatsRequest' : 'OFPExperimenterStatsReply',
      },
    },
    all,
  );
}

const flowFilter = {
  out_port: u16(nx.OFPP_NONE),
  _match_len: match_len,
  table_id: u8(ofp.OFPTT_ALL),
  _pad2: pad(3),
  match: nxMatch(),
};
export const NXFlowStatsRequest = nxst('NXFlowStatsRequest', IN_10, REQUEST, nx.NXST_FLOW, flowFilter);
export const NXFlowStatsReply = nxst('NXFlowStatsReply', IN_10, REPLY, nx.NXST_FLOW, { body: list(NXFlowStats) });
export const NXAggregateStatsRequest = nxst('NXAggregateStatsRequest', IN_10, REQUEST, nx.NXST_AGGREGATE, flowFilter);
export const NXAggregateStatsReply = nxst('NXAggregateStatsReply', IN_10, REPLY, nx.NXST_AGGREGATE, {
  body: list(NXAggregateStats),
});

export const NXFlowMonitorStatsRequest = nxst('NXFlowMonitorStatsRequest', UNTIL_13, REQUEST, nx.NXST_FLOW_MONITOR, {
  body: list(NXFlowMonitor),
});
export const NXFlowMonitorStatsReply = nxst('NXFlowMonitorStatsReply', UNTIL_13, REPLY, nx.NXST_FLOW_MONITOR, {
  body: many(nxFlowUpdates),
});

export const NXIpfixBridgeStatsRequest = nxst('NXIpfixBridgeStatsRequest', ALL, REQUEST, nx.NXST_IPFIX_BRIDGE, {});
export const NXIpfixBridgeStatsReply = nxst('NXIpfixBridgeStatsReply', ALL, REPLY, nx.NXST_IPFIX_BRIDGE, {
  body: list(NXIpfixStats),
});
export const NXIpfixFlowStatsRequest = nxst('NXIpfixFlowStatsRequest', ALL, REQUEST, nx.NXST_IPFIX_FLOW, {});
export const NXIpfixFlowStatsReply = nxst('NXIpfixFlowStatsReply', ALL, REPLY, nx.NXST_IPFIX_FLOW, {
  body: list(NXIpfixStats),
});

/** Every message of this file, for messages.ts. */
export const NICIRA_MESSAGES = [
  NXTSetFlowFormat,
  NXTFlowModTableId,
  NXTFlowMod10,
  NXTFlowMod,
  NXTRoleRequest,
  NXTRoleReply,
  NXTSetPacketInFormat,
  NXTSetPacketInFormatMsg,
  NXTFlowAge,
  NXTSetAsyncConfig,
  NXTSetControllerId,
  NXTFlowMonitorCancel,
  NXTCtFlushZone,
  NXTTlvTableMod,
  NXTTlvTableRequest,
  NXTTlvTableReply,
  NXTFlowRemoved,
  NXTPacketIn,
  NXTFlowMonitorPaused,
  NXTFlowMonitorResumed,
  NXTPacketIn2,
  NXTResume,
  NXFlowStatsRequest,
  NXFlowStatsReply,
  NXAggregateStatsRequest,
  NXAggregateStatsReply,
  NXFlowMonitorStatsRequest,
  NXFlowMonitorStatsReply,
  NXIpfixBridgeStatsRequest,
  NXIpfixBridgeStatsReply,
  NXIpfixFlowStatsRequest,
  NXIpfixFlowStatsReply,
] as const satisfies readonly AnyStruct[];
