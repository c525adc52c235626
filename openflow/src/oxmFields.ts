/**
 * The table of match fields (OpenFlow 1.3.5 §7.2.3.7): one row per field, which says where the field is on the wire and in
 * which form callers see it, and the types that follow from the rows. oxmRows.ts finds rows, oxm.ts reads and writes by
 * them, match.ts has the matches made of them; oxs.ts has the statistics of 1.5 in rows of the same kind.
 */
import { ofproto_v1_3 as ofp } from './constants.ts';
import {
  ALL,
  FROM_12_UNTIL_13,
  FROM_12_UNTIL_14,
  FROM_14,
  IN_10,
  IN_15,
  type Range,
  UNTIL_12,
  UNTIL_14,
} from './schema.ts';

/** Forms of a value, with their TypeScript type. */
interface KindTypes {
  u8: number;
  u16: number;
  u24: number;
  u32: number;
  u64: bigint;
  u128: bigint;
  mac: string;
  ipv4: string;
  ipv6: string;
  /** Seconds and nanoseconds: of statistics only (oxs.ts). */
  time: [number, number];
  /** Bytes, as many as the TLV has, in base64. */
  raw: string;
}
/** Form of a value. */
export type OxmKind = keyof KindTypes;
/** TypeScript type of a form. */
export type ValueOfKind<K extends OxmKind> = KindTypes[K];
const SIZES: Record<OxmKind, number> = {
  u8: 1,
  u16: 2,
  u24: 3,
  u32: 4,
  u64: 8,
  u128: 16,
  mac: 6,
  ipv4: 4,
  ipv6: 16,
  time: 8,
  raw: 0,
};

/** One row of the table. */
export interface OxmRow<K extends OxmKind = OxmKind> {
  readonly cls: number;
  readonly num: number;
  readonly kind: K;
  readonly size: number;
  /** Bits that mean something: a mask of all of them is an exact match. */
  readonly bits: number;
  readonly experimenter: number | undefined;
  /** The type that ONF extension 256 put after the experimenter number. */
  readonly expType: number | undefined;
  /** Versions in which the field has its name and this form. */
  readonly versions: Range;
  /** Versions in which Ryu has no name for it. JSON has `field_<n>` and base64 there, where Ryu reads it at all. */
  readonly unnamed: Range;
  /** Forms it has in other versions. */
  readonly others: readonly Omit<OxmRow, 'others'>[];
}

export const ONF = 0x4f4e4600;
const NICIRA = 0x00002320;
const NSH = 0x005ad650;

/** A row of the table of class `cls`. */
export function row<K extends OxmKind>(cls: number, num: number, kind: K, bits?: number): OxmRow<K> {
  const size = SIZES[kind];
  return {
    cls,
    num,
    kind,
    size,
    bits: bits ?? size * 8,
    experimenter: undefined,
    expType: undefined,
    versions: ALL,
    unnamed: [],
    others: [],
  };
}
/** A field of Open vSwitch's that Ryu does not know. */
function unnamed<K extends OxmKind>(r: OxmRow<K>, versions: Range = ALL): OxmRow<K> {
  return { ...r, unnamed: versions };
}
function only<K extends OxmKind>(versions: Range, r: OxmRow<K>, ...others: OxmRow[]): OxmRow<K> {
  return { ...r, versions, others };
}
function basic<K extends OxmKind>(num: number, kind: K, bits?: number): OxmRow<K> {
  // in 1.0 only as part of Nicira's match and actions
  return unnamed(row(ofp.OFPXMC_OPENFLOW_BASIC, num, kind, bits), IN_10);
}
function experimenter<K extends OxmKind>(id: number, num: number, kind: K, bits?: number, expType?: number): OxmRow<K> {
  return { ...row(ofp.OFPXMC_EXPERIMENTER, num, kind, bits), experimenter: id, expType };
}

type Digit = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9;
/** Names of the 64 fields that stand for options of tunnel headers, once a controller has mapped them. */
type TunMetadata = `tun_metadata${Digit | `${1 | 2 | 3 | 4 | 5}${Digit}` | 60 | 61 | 62 | 63}`;
const TUN_METADATA = Object.fromEntries(
  Array.from({ length: 64 }, (_, i) => [`tun_metadata${i}`, unnamed(row(1, 40 + i, 'raw'))]),
) as Record<TunMetadata, OxmRow<'raw'>>;

/** Where fields are that came with 1.3: Open vSwitch has them in 1.0 as well. */
const NOT_12 = [1, 4, 5, 6] as const;

/** Every match field this library knows by name; the names are Ryu's, else Open vSwitch's (ovs-fields(7)). */
export const OXM_FIELDS = {
  // OFPXMC_OPENFLOW_BASIC. OpenFlow 1.3.5 §7.2.3.7, table 12
  in_port: basic(0, 'u32'),
  in_phy_port: basic(1, 'u32'),
  metadata: basic(2, 'u64'),
  eth_dst: basic(3, 'mac'),
  eth_src: basic(4, 'mac'),
  eth_type: basic(5, 'u16'),
  vlan_vid: basic(6, 'u16', 13),
  vlan_pcp: basic(7, 'u8', 3),
  ip_dscp: basic(8, 'u8', 6),
  ip_ecn: basic(9, 'u8', 2),
  ip_proto: basic(10, 'u8'),
  ipv4_src: basic(11, 'ipv4'),
  ipv4_dst: basic(12, 'ipv4'),
  tcp_src: basic(13, 'u16'),
  tcp_dst: basic(14, 'u16'),
  udp_src: basic(15, 'u16'),
  udp_dst: basic(16, 'u16'),
  sctp_src: basic(17, 'u16'),
  sctp_dst: basic(18, 'u16'),
  icmpv4_type: basic(19, 'u8'),
  icmpv4_code: basic(20, 'u8'),
  arp_op: basic(21, 'u16'),
  arp_spa: basic(22, 'ipv4'),
  arp_tpa: basic(23, 'ipv4'),
  arp_sha: basic(24, 'mac'),
  arp_tha: basic(25, 'mac'),
  ipv6_src: basic(26, 'ipv6'),
  ipv6_dst: basic(27, 'ipv6'),
  ipv6_flabel: basic(28, 'u32', 20),
  icmpv6_type: basic(29, 'u8'),
  icmpv6_code: basic(30, 'u8'),
  ipv6_nd_target: basic(31, 'ipv6'),
  ipv6_nd_sll: basic(32, 'mac'),
  ipv6_nd_tll: basic(33, 'mac'),
  mpls_label: basic(34, 'u32', 20),
  mpls_tc: basic(35, 'u8', 3),
  mpls_bos: only(NOT_12, basic(36, 'u8', 1)),
  pbb_isid: only(NOT_12, basic(37, 'u24')),
  tunnel_id: only(NOT_12, basic(38, 'u64')),
  ipv6_exthdr: only(NOT_12, basic(39, 'u16', 9)),
  // ONF extension 256: the experimenter number is followed by a 16-bit type; standard since 1.4
  pbb_uca: only(FROM_12_UNTIL_13, experimenter(ONF, 0, 'u8', 1, 2560), only(FROM_14, basic(41, 'u8', 1))),
  // ONF extensions for 1.3 (EXT-109, EXT-233), standard since 1.5
  tcp_flags: only(FROM_12_UNTIL_14, experimenter(ONF, 42, 'u16', 12), only(IN_15, basic(42, 'u16', 12))),
  actset_output: only(FROM_12_UNTIL_14, experimenter(ONF, 43, 'u32'), only(IN_15, basic(43, 'u32'))),
  // standard since 1.5, which Open vSwitch uses in all versions
  packet_type: unnamed(basic(44, 'u32'), UNTIL_14),
  // OFPXMC_PACKET_REGS of OpenFlow 1.5, understood by Open vSwitch in 1.3
  xreg0: unnamed(row(0x8001, 0, 'u64'), UNTIL_12),
  xreg1: unnamed(row(0x8001, 1, 'u64'), UNTIL_12),
  xreg2: unnamed(row(0x8001, 2, 'u64'), UNTIL_12),
  xreg3: unnamed(row(0x8001, 3, 'u64'), UNTIL_12),
  xreg4: unnamed(row(0x8001, 4, 'u64'), UNTIL_12),
  xreg5: unnamed(row(0x8001, 5, 'u64'), UNTIL_12),
  xreg6: unnamed(row(0x8001, 6, 'u64'), UNTIL_12),
  xreg7: unnamed(row(0x8001, 7, 'u64'), UNTIL_12),
  // OFPXMC_NXM_0
  in_port_nxm: row(0, 0, 'u16'),
  eth_dst_nxm: row(0, 1, 'mac'),
  eth_src_nxm: row(0, 2, 'mac'),
  eth_type_nxm: row(0, 3, 'u16'),
  vlan_tci: row(0, 4, 'u16'),
  nw_tos: row(0, 5, 'u8'),
  ip_proto_nxm: row(0, 6, 'u8'),
  ipv4_src_nxm: row(0, 7, 'ipv4'),
  ipv4_dst_nxm: row(0, 8, 'ipv4'),
  tcp_src_nxm: row(0, 9, 'u16'),
  tcp_dst_nxm: row(0, 10, 'u16'),
  udp_src_nxm: row(0, 11, 'u16'),
  udp_dst_nxm: row(0, 12, 'u16'),
  icmpv4_type_nxm: row(0, 13, 'u8'),
  icmpv4_code_nxm: row(0, 14, 'u8'),
  arp_op_nxm: row(0, 15, 'u16'),
  arp_spa_nxm: row(0, 16, 'ipv4'),
  arp_tpa_nxm: row(0, 17, 'ipv4'),
  // OFPXMC_NXM_1
  tunnel_id_nxm: row(1, 16, 'u64'),
  arp_sha_nxm: row(1, 17, 'mac'),
  arp_tha_nxm: row(1, 18, 'mac'),
  ipv6_src_nxm: row(1, 19, 'ipv6'),
  ipv6_dst_nxm: row(1, 20, 'ipv6'),
  icmpv6_type_nxm: row(1, 21, 'u8'),
  icmpv6_code_nxm: row(1, 22, 'u8'),
  nd_target: row(1, 23, 'ipv6'),
  nd_sll: row(1, 24, 'mac'),
  nd_tll: row(1, 25, 'mac'),
  ip_frag: row(1, 26, 'u8'),
  ipv6_label: row(1, 27, 'u32', 20),
  ip_ecn_nxm: row(1, 28, 'u8', 2),
  nw_ttl: row(1, 29, 'u8'),
  mpls_ttl: row(1, 30, 'u8'),
  tun_ipv4_src: row(1, 31, 'ipv4'),
  tun_ipv4_dst: row(1, 32, 'ipv4'),
  pkt_mark: row(1, 33, 'u32'),
  tcp_flags_nxm: row(1, 34, 'u16', 12),
  conj_id: row(1, 37, 'u32'),
  tun_gbp_id: row(1, 38, 'u16'),
  tun_gbp_flags: row(1, 39, 'u8'),
  tun_flags: row(1, 104, 'u16'),
  ct_state: row(1, 105, 'u32'),
  ct_zone: row(1, 106, 'u16'),
  ct_mark: row(1, 107, 'u32'),
  ct_label: row(1, 108, 'u128'),
  tun_ipv6_src: row(1, 109, 'ipv6'),
  tun_ipv6_dst: row(1, 110, 'ipv6'),
  _recirc_id: row(1, 36, 'u32'),
  dp_hash: unnamed(row(1, 35, 'u32')),
  ...TUN_METADATA,
  ct_nw_proto: unnamed(row(1, 119, 'u8')),
  ct_nw_src: unnamed(row(1, 120, 'ipv4')),
  ct_nw_dst: unnamed(row(1, 121, 'ipv4')),
  ct_ipv6_src: unnamed(row(1, 122, 'ipv6')),
  ct_ipv6_dst: unnamed(row(1, 123, 'ipv6')),
  ct_tp_src: unnamed(row(1, 124, 'u16')),
  ct_tp_dst: unnamed(row(1, 125, 'u16')),
  // class of Ericsson's
  nd_reserved: unnamed(row(0x1000, 1, 'u32')),
  nd_options_type: unnamed(row(0x1000, 2, 'u8')),
  // Nicira experimenter class
  _dp_hash: experimenter(NICIRA, 0, 'u32'),
  tun_erspan_idx: unnamed(experimenter(NICIRA, 11, 'u32', 20)),
  tun_erspan_ver: unnamed(experimenter(NICIRA, 12, 'u8', 4)),
  tun_erspan_dir: unnamed(experimenter(NICIRA, 13, 'u8', 1)),
  tun_erspan_hwid: unnamed(experimenter(NICIRA, 14, 'u8', 6)),
  tun_gtpu_flags: unnamed(experimenter(NICIRA, 15, 'u8')),
  tun_gtpu_msgtype: unnamed(experimenter(NICIRA, 16, 'u8')),
  // Network service header
  nsh_flags: experimenter(NSH, 1, 'u8'),
  nsh_mdtype: experimenter(NSH, 2, 'u8'),
  nsh_np: experimenter(NSH, 3, 'u8'),
  nsh_spi: experimenter(NSH, 4, 'u32'),
  nsh_si: experimenter(NSH, 5, 'u8'),
  nsh_c1: experimenter(NSH, 6, 'u32'),
  nsh_c2: experimenter(NSH, 7, 'u32'),
  nsh_c3: experimenter(NSH, 8, 'u32'),
  nsh_c4: experimenter(NSH, 9, 'u32'),
  nsh_ttl: experimenter(NSH, 10, 'u8'),
  // OFPXMC_NXM_1
  reg0: row(1, 0, 'u32'),
  reg1: row(1, 1, 'u32'),
  reg2: row(1, 2, 'u32'),
  reg3: row(1, 3, 'u32'),
  reg4: row(1, 4, 'u32'),
  reg5: row(1, 5, 'u32'),
  reg6: row(1, 6, 'u32'),
  reg7: row(1, 7, 'u32'),
  reg8: row(1, 8, 'u32'),
  reg9: row(1, 9, 'u32'),
  reg10: row(1, 10, 'u32'),
  reg11: row(1, 11, 'u32'),
  reg12: row(1, 12, 'u32'),
  reg13: row(1, 13, 'u32'),
  reg14: row(1, 14, 'u32'),
  reg15: row(1, 15, 'u32'),
  xxreg0: row(1, 111, 'u128'),
  xxreg1: row(1, 112, 'u128'),
  xxreg2: row(1, 113, 'u128'),
  xxreg3: row(1, 114, 'u128'),
};

type Rows = typeof OXM_FIELDS;
/** Name of a match field, as in Ryu. */
export type OxmName = keyof Rows;
/** Name of a match field that has no row: `field_<class << 7 | number>`, with `_<experimenter>` for experimenter classes. */
export type UnknownOxmName = `field_${string}`;
type KindOf<N extends OxmName> = Rows[N] extends OxmRow<infer K> ? K : never;
/**
 * A match field without a value, as its header stands in actions. A header whose length or mask bit is not the field's has
 * them behind its name: `reg0/2` has length 2, `reg0/m8` a mask and length 8.
 */
export type OxmHeader = OxmName | UnknownOxmName | `${OxmName}/${string}`;
/** Type of the value of match field `N`. */
export type OxmValue<N extends OxmName | UnknownOxmName> = N extends OxmName ? KindTypes[KindOf<N>] : string;
/** What a caller may write for it: small 64-bit values may be plain numbers. */
export type OxmInput<N extends OxmName | UnknownOxmName> = OxmValue<N> extends bigint ? bigint | number : OxmValue<N>;

/** One match field with its value: where fields stand in a list, not in a match. */
export type OxmTlv =
  | { [N in OxmName]: { field: N; value: OxmValue<N> | [OxmValue<N>, OxmValue<N>] } }[OxmName]
  | { field: UnknownOxmName; value: string | [string, string] };
/** What factories take for it. */
export type OxmTlvInput =
  | {
      [N in OxmName]: {
        readonly field: N;
        readonly value: OxmInput<N> | readonly [OxmInput<N>, OxmInput<N>];
      };
    }[OxmName]
  | { readonly field: UnknownOxmName; readonly value: string | readonly [string, string] };
