/**
 * Declarations of what messages of OpenFlow 1.0 are made of, where later versions share nothing but the name: the match of
 * fixed size, actions, ports, statistics. messages10.ts has the messages, structs.ts what other versions have, schema.ts
 * the language. Names are Ryu's. Sections are those of OpenFlow 1.0.1.
 */

import { OFPActionUnknown } from './actions.ts';
import { ofproto_v1_0 as ofp } from './constants10.ts';
import { BAD_ACTION, BAD_REQUEST } from './errorPairs.ts';
import { OfEncodeError } from './errors.ts';
import { NICIRA_ACTIONS } from './niciraActions.ts';
import {
  type AnyFamily,
  bytes,
  family,
  fixed,
  IN_10,
  ipv4,
  len,
  mac,
  madeFrom,
  many,
  oneOrDefault,
  pad,
  required,
  str,
  struct,
  u8,
  u16,
  u32,
  u64,
} from './schema.ts';
import { OFPQueuePropMinRate, OFPQueuePropUnknown, portCounters } from './structs.ts';
import { describe } from './wire.ts';

// ---- match ---------------------------------------------------------------------------------------------------------

/**
 * What the factory of OpenFlow 1.0's match takes: fields that are given must match, others are wildcards. `nw_src_mask`
 * and `nw_dst_mask` are lengths of prefixes. `wildcards` overrides what follows from the rest. OpenFlow 1.0.1 §5.2.3.
 */
export interface Match10Input {
  readonly wildcards?: number | undefined;
  readonly in_port?: number | undefined;
  readonly dl_src?: string | undefined;
  readonly dl_dst?: string | undefined;
  readonly dl_vlan?: number | undefined;
  readonly dl_vlan_pcp?: number | undefined;
  readonly dl_type?: number | undefined;
  readonly nw_tos?: number | undefined;
  readonly nw_proto?: number | undefined;
  readonly nw_src?: string | undefined;
  readonly nw_dst?: string | undefined;
  readonly tp_src?: number | undefined;
  readonly tp_dst?: number | undefined;
  readonly nw_src_mask?: number | undefined;
  readonly nw_dst_mask?: number | undefined;
}

const WILDCARD_BITS = [
  ['in_port', ofp.OFPFW_IN_PORT],
  ['dl_src', ofp.OFPFW_DL_SRC],
  ['dl_dst', ofp.OFPFW_DL_DST],
  ['dl_vlan', ofp.OFPFW_DL_VLAN],
  ['dl_vlan_pcp', ofp.OFPFW_DL_VLAN_PCP],
  ['dl_type', ofp.OFPFW_DL_TYPE],
  ['nw_tos', ofp.OFPFW_NW_TOS],
  ['nw_proto', ofp.OFPFW_NW_PROTO],
  ['tp_src', ofp.OFPFW_TP_SRC],
  ['tp_dst', ofp.OFPFW_TP_DST],
] as const;

/** As Ryu counts them: an address that is not given has all six bits set, one that is given has 32 less its prefix. */
function wildcardsOf(given: Match10Input): number {
  let w = 0;
  for (const [name, bit] of WILDCARD_BITS) if (given[name] === undefined) w |= bit;
  const address = (name: 'nw_src' | 'nw_dst', all: number, shift: number): number => {
    const prefix = given[`${name}_mask`] ?? 32;
    if (!(Number.isInteger(prefix) && prefix >= 0 && prefix <= 32)) {
      throw new OfEncodeError('OFPMatch', `${name}_mask`, `not the length of an IPv4 prefix: ${describe(prefix)}`);
    }
    return given[name] === undefined ? all : (32 - prefix) << shift;
  };
  return (
    w |
    address('nw_src', ofp.OFPFW_NW_SRC_MASK, ofp.OFPFW_NW_SRC_SHIFT) |
    address('nw_dst', ofp.OFPFW_NW_DST_MASK, ofp.OFPFW_NW_DST_SHIFT)
  );
}

export const OFPMatch10 = madeFrom(
  struct(
    'OFPMatch',
    { versions: IN_10, spec: '5.2.3', err: BAD_REQUEST },
    {
      wildcards: u32(ofp.OFPFW_ALL),
      in_port: u16(0),
      dl_src: mac(),
      dl_dst: mac(),
      dl_vlan: u16(0),
      dl_vlan_pcp: u8(0),
      _pad: pad(1),
      dl_type: u16(0),
      nw_tos: u8(0),
      nw_proto: u8(0),
      _pad2: pad(2),
      nw_src: ipv4(),
      nw_dst: ipv4(),
      tp_src: u16(0),
      tp_dst: u16(0),
    },
  ),
  (given: Match10Input) => ({ ...given, wildcards: given.wildcards ?? wildcardsOf(given) }),
);
/** The match of a message; all wildcards when left out. */
export const match10 = () => oneOrDefault(OFPMatch10);

// ---- actions -------------------------------------------------------------------------------------------------------

// Ryu's JSON of 1.0 shows neither type nor length of an action.
const action = { versions: IN_10, spec: '5.2.4', err: BAD_ACTION } as const;
const head = (type: number) => ({ _type: fixed(2, type), _len: len() });

export const OFPActionOutput10 = struct('OFPActionOutput', action, {
  ...head(ofp.OFPAT_OUTPUT),
  port: u16(),
  // Ryu's choice: 1.0 has no constant for it, later versions call it OFPCML_MAX
  max_len: u16(0xffe5),
});
export const OFPActionVlanVid = struct('OFPActionVlanVid', action, {
  ...head(ofp.OFPAT_SET_VLAN_VID),
  vlan_vid: u16(),
  _pad: pad(2),
});
export const OFPActionVlanPcp = struct('OFPActionVlanPcp', action, {
  ...head(ofp.OFPAT_SET_VLAN_PCP),
  vlan_pcp: u8(),
  _pad: pad(3),
});
export const OFPActionStripVlan = struct('OFPActionStripVlan', action, { ...head(ofp.OFPAT_STRIP_VLAN), _pad: pad(4) });
export const OFPActionSetDlSrc = struct('OFPActionSetDlSrc', action, {
  ...head(ofp.OFPAT_SET_DL_SRC),
  dl_addr: required(mac()),
  _pad: pad(6),
});
export const OFPActionSetDlDst = struct('OFPActionSetDlDst', action, {
  ...head(ofp.OFPAT_SET_DL_DST),
  dl_addr: required(mac()),
  _pad: pad(6),
});
export const OFPActionSetNwSrc = struct('OFPActionSetNwSrc', action, {
  ...head(ofp.OFPAT_SET_NW_SRC),
  nw_addr: required(ipv4()),
});
export const OFPActionSetNwDst = struct('OFPActionSetNwDst', action, {
  ...head(ofp.OFPAT_SET_NW_DST),
  nw_addr: required(ipv4()),
});
export const OFPActionSetNwTos = struct('OFPActionSetNwTos', action, {
  ...head(ofp.OFPAT_SET_NW_TOS),
  tos: u8(),
  _pad: pad(3),
});
export const OFPActionSetTpSrc = struct('OFPActionSetTpSrc', action, {
  ...head(ofp.OFPAT_SET_TP_SRC),
  tp: u16(),
  _pad: pad(2),
});
export const OFPActionSetTpDst = struct('OFPActionSetTpDst', action, {
  ...head(ofp.OFPAT_SET_TP_DST),
  tp: u16(),
  _pad: pad(2),
});
export const OFPActionEnqueue = struct('OFPActionEnqueue', action, {
  ...head(ofp.OFPAT_ENQUEUE),
  port: u16(),
  _pad: pad(6),
  queue_id: u32(),
});
export const OFPActionVendorUnknown = struct(
  'OFPActionVendorUnknown',
  { ...action, padTo8: 'inside' },
  { ...head(ofp.OFPAT_VENDOR), vendor: u32(), data: bytes() },
);

const allActions10 = family(
  'action',
  [
    OFPActionOutput10,
    OFPActionVlanVid,
    OFPActionVlanPcp,
    OFPActionStripVlan,
    OFPActionSetDlSrc,
    OFPActionSetDlDst,
    OFPActionSetNwSrc,
    OFPActionSetNwDst,
    OFPActionSetNwTos,
    OFPActionSetTpSrc,
    OFPActionSetTpDst,
    OFPActionEnqueue,
    ...NICIRA_ACTIONS,
    OFPActionVendorUnknown,
  ],
  [OFPActionUnknown],
  { err: BAD_ACTION, min: 8, aligned: true, experimenter: { type: ofp.OFPAT_VENDOR, subtypeSize: 2 } },
);
/** The type of the family of actions: some actions hold others, so it needs a name. */
export interface Actions10 extends AnyFamily {
  readonly '~m': (typeof allActions10)['~m'];
}
export const actions10: Actions10 = allActions10;

// ---- ports and queues ----------------------------------------------------------------------------------------------

export const OFPPhyPort = struct(
  'OFPPhyPort',
  { versions: IN_10, spec: '5.2.1', err: BAD_REQUEST },
  {
    port_no: u16(),
    hw_addr: mac(),
    name: str(ofp.OFP_MAX_PORT_NAME_LEN),
    config: u32(0),
    state: u32(0),
    curr: u32(0),
    advertised: u32(0),
    supported: u32(0),
    peer: u32(0),
  },
);
export const OFPQueuePropNone = struct(
  'OFPQueuePropNone',
  { versions: IN_10, spec: '5.2.2', err: BAD_REQUEST },
  { _type: fixed(2, ofp.OFPQT_NONE, 'property'), _len: len('len'), _pad: pad(4) },
);
export const queueProps10 = family('queueProperty', [OFPQueuePropNone, OFPQueuePropMinRate], [OFPQueuePropUnknown], {
  err: BAD_REQUEST,
  min: 8,
});
export const OFPPacketQueue10 = struct(
  'OFPPacketQueue',
  { versions: IN_10, spec: '5.2.2', err: BAD_REQUEST },
  { queue_id: u32(), _len: len('len'), _pad: pad(2), properties: many(queueProps10) },
);

// ---- statistics ----------------------------------------------------------------------------------------------------

const stats = { versions: IN_10, spec: '5.3.5', err: BAD_REQUEST } as const;

export const OFPFlowStats10 = struct('OFPFlowStats', stats, {
  _len: len('length'),
  table_id: u8(0),
  _pad: pad(1),
  match: match10(),
  duration_sec: u32(0),
  duration_nsec: u32(0),
  priority: u16(ofp.OFP_DEFAULT_PRIORITY),
  idle_timeout: u16(0),
  hard_timeout: u16(0),
  _pad2: pad(6),
  cookie: u64(0n),
  packet_count: u64(0n),
  byte_count: u64(0n),
  actions: many(actions10),
});
export const OFPTableStats10 = struct('OFPTableStats', stats, {
  table_id: u8(),
  _pad: pad(3),
  name: str(ofp.OFP_MAX_TABLE_NAME_LEN),
  wildcards: u32(0),
  max_entries: u32(0),
  active_count: u32(0),
  lookup_count: u64(0n),
  matched_count: u64(0n),
});
export const OFPPortStats10 = struct('OFPPortStats', stats, {
  port_no: u16(),
  _pad: pad(6),
  ...portCounters,
});
export const OFPQueueStats10 = struct('OFPQueueStats', stats, {
  port_no: u16(),
  _pad: pad(2),
  queue_id: u32(),
  tx_bytes: u64(0n),
  tx_packets: u64(0n),
  tx_errors: u64(0n),
});
/** As in Ryu `specific_data` is the whole body: it begins with the vendor's number. OpenFlow 1.0.1 §5.3.5. */
export const OFPVendorStats = struct('OFPVendorStats', stats, { specific_data: bytes() });
