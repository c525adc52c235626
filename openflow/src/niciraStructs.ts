/**
 * What Nicira's messages are made of: matches, mappings of tunnel options, properties of packet-ins, statistics, flow
 * monitors. niciraMessages.ts has the messages, niciraActions.ts the actions.
 */
import { actions } from './actions.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { BAD_REQUEST } from './errorPairs.ts';

import { nicira_ext as nx } from './niciraConstants.ts';
import {
  ALL,
  bareMatch,
  bytes,
  FROM_12_UNTIL_13,
  family,
  fixed,
  IN_10,
  len,
  lenOf,
  many,
  NEVER_HEADED,
  pad,
  struct,
  UNTIL_13,
  u8,
  u16,
  u32,
  u64,
} from './schema.ts';
import { actions10 } from './structs10.ts';

export const SPEC = 'openflow/nicira-ext.h';

/** Fields of Nicira's match: those of an OFPMatch without its header. An earlier `match_len` tells their length. */
export const nxMatch = () => bareMatch(NEVER_HEADED);
export const match_len = lenOf('match', 'match_len');

/** An option of tunnel headers and the field tun_metadata<index> that stands for it; `option_len` is that of its value. */
export const NXTlvMap = struct(
  'NXTlvMap',
  { spec: SPEC, versions: ALL, err: BAD_REQUEST },
  { option_class: u16(), option_type: u8(), option_len: u8(), index: u16(), _pad: pad(2) },
);
const property = { spec: SPEC, versions: ALL, err: BAD_REQUEST, padTo8: 'outside' } as const;
/** Properties of packet-ins have the names and the one field they have in Ryu: `data` holds the value's bytes. */
const packetInProperty = <const C extends string>(cls: C, type: number) =>
  struct(cls, property, { _type: fixed(2, type, 'type'), _len: len('length'), data: bytes() });
export const NXTPacketIn2PropPacket = packetInProperty('NXTPacketIn2PropPacket', nx.NXPINT_PACKET);
export const NXTPacketIn2PropFullLen = packetInProperty('NXTPacketIn2PropFullLen', nx.NXPINT_FULL_LEN);
export const NXTPacketIn2PropBufferId = packetInProperty('NXTPacketIn2PropBufferId', nx.NXPINT_BUFFER_ID);
export const NXTPacketIn2PropTableId = packetInProperty('NXTPacketIn2PropTableId', nx.NXPINT_TABLE_ID);
export const NXTPacketIn2PropCookie = packetInProperty('NXTPacketIn2PropCookie', nx.NXPINT_COOKIE);
export const NXTPacketIn2PropReason = packetInProperty('NXTPacketIn2PropReason', nx.NXPINT_REASON);
export const NXTPacketIn2PropMetadata = packetInProperty('NXTPacketIn2PropMetadata', nx.NXPINT_METADATA);
export const NXTPacketIn2PropUserData = packetInProperty('NXTPacketIn2PropUserData', nx.NXPINT_USERDATA);
export const NXTPacketIn2PropContinuation = packetInProperty('NXTPacketIn2PropContinuation', nx.NXPINT_CONTINUATION);
export const NXTPacketIn2PropUnknown = struct('NXTPacketIn2PropUnknown', property, {
  type: u16(),
  _len: len('length'),
  data: bytes(),
});
export const packetInProps = family(
  'packetInProperty',
  [
    NXTPacketIn2PropPacket,
    NXTPacketIn2PropFullLen,
    NXTPacketIn2PropBufferId,
    NXTPacketIn2PropTableId,
    NXTPacketIn2PropCookie,
    NXTPacketIn2PropReason,
    NXTPacketIn2PropMetadata,
    NXTPacketIn2PropUserData,
    NXTPacketIn2PropContinuation,
  ],
  [NXTPacketIn2PropUnknown],
  { err: BAD_REQUEST, min: 4, padTo8: true },
);

export const NXFlowStats = struct(
  'NXFlowStats',
  { spec: SPEC, versions: IN_10, err: BAD_REQUEST },
  {
    _len: len('length'),
    table_id: u8(0),
    _pad: pad(1),
    duration_sec: u32(0),
    duration_nsec: u32(0),
    priority: u16(ofp.OFP_DEFAULT_PRIORITY),
    idle_timeout: u16(0),
    hard_timeout: u16(0),
    _match_len: match_len,
    /** Seconds since the flow was last used, plus one; 0 when the switch does not tell. */
    idle_age: u16(0),
    hard_age: u16(0),
    cookie: u64(0n),
    packet_count: u64(0n),
    byte_count: u64(0n),
    match: nxMatch(),
    actions: many(actions10),
  },
);
export const NXAggregateStats = struct(
  'NXAggregateStats',
  { spec: SPEC, versions: IN_10, err: BAD_REQUEST },
  { packet_count: u64(0n), byte_count: u64(0n), flow_count: u32(0), _pad: pad(4) },
);
const monitors = { spec: SPEC, versions: UNTIL_13, err: BAD_REQUEST } as const;
/** What to watch; `flags` are NXFMF_*. */
export const NXFlowMonitor = struct('NXFlowMonitor', monitors, {
  id: u32(),
  flags: u16(0),
  out_port: u16(nx.OFPP_NONE),
  _match_len: match_len,
  table_id: u8(ofp.OFPTT_ALL),
  _pad: pad(5),
  match: nxMatch(),
});
const updateTypes = [nx.NXFME_ADDED, nx.NXFME_DELETED, nx.NXFME_MODIFIED] as const;
const update = {
  _len: len('length'),
  event: u16(),
  reason: u16(0),
  priority: u16(ofp.OFP_DEFAULT_PRIORITY),
  idle_timeout: u16(0),
  hard_timeout: u16(0),
  _match_len: match_len,
  table_id: u8(0),
  _pad: pad(1),
  cookie: u64(0n),
  match: nxMatch(),
};
export const NXFlowUpdateFull10 = struct(
  'NXFlowUpdateFull',
  { ...monitors, versions: IN_10, types: updateTypes },
  { ...update, actions: many(actions10) },
);
export const NXFlowUpdateFull = struct(
  'NXFlowUpdateFull',
  { ...monitors, versions: FROM_12_UNTIL_13, types: updateTypes },
  { ...update, actions: many(actions) },
);
/** In place of the full update for a change that the same controller asked for: `xid` is that of its request. */
export const NXFlowUpdateAbbrev = struct('NXFlowUpdateAbbrev', monitors, {
  _len: len('length'),
  _event: fixed(2, nx.NXFME_ABBREV, 'event'),
  xid: u32(),
});
export const NXFlowUpdateUnknown = struct('NXFlowUpdateUnknown', monitors, {
  _len: len('length'),
  event: u16(),
  data: bytes(),
});
export const nxFlowUpdates = family(
  'nxFlowUpdate',
  [NXFlowUpdateFull10, NXFlowUpdateFull, NXFlowUpdateAbbrev],
  [NXFlowUpdateUnknown],
  { err: BAD_REQUEST, min: 4, lengthFirst: true },
);
export const NXIpfixStats = struct(
  'NXIpfixStats',
  { spec: SPEC, versions: ALL, err: BAD_REQUEST },
  {
    total_flows: u64(0n),
    current_flows: u64(0n),
    pkts: u64(0n),
    ipv4_pkts: u64(0n),
    ipv6_pkts: u64(0n),
    error_pkts: u64(0n),
    ipv4_error_pkts: u64(0n),
    ipv6_error_pkts: u64(0n),
    tx_pkts: u64(0n),
    tx_errors: u64(0n),
    collector_set_id: u32(0),
    _pad: pad(4),
  },
);
