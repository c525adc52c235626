/**
 * OXM: the table of match fields, and OFPMatch, which is made of them (OpenFlow 1.3.5 §7.2.3). One row per field; a row
 * says where the field is on the wire and in which form callers see it. Used by compile.ts (matches inside messages),
 * structs.ts (set-field), oxmIds.ts (table features) and json.ts; oxs.ts has the statistics of 1.5 in rows of the same kind.
 */
import { formatIpv4, parseIpv4, readIpv6, readMac, writeIpv6, writeMac } from './address.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfEncodeError } from './errors.ts';
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
import { describe, fail, newReader, type Reader, type Version, Writer } from './wire.ts';

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

const ONF = 0x4f4e4600;
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

/** Fields of a match: a value, or `[value, mask]`. Unknown fields are base64, as in Ryu. */
export type MatchFields = { [N in OxmName]?: OxmValue<N> | [OxmValue<N>, OxmValue<N>] } & {
  [N in UnknownOxmName]?: string | [string, string];
};
/** What `OFPMatch` takes. */
export type MatchInput = {
  readonly [N in OxmName]?: OxmInput<N> | readonly [OxmInput<N>, OxmInput<N>] | undefined;
} & {
  readonly [N in UnknownOxmName]?: string | readonly [string, string] | undefined;
};

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

/** A flow match. OpenFlow 1.3.5 §7.2.3. */
export interface OFPMatch {
  cls: 'OFPMatch';
  fields: MatchFields;
}

/** A row compiled for use: what is written and read before the value. */
export interface CompiledOxm {
  readonly name: string;
  /** `class << 7 | number`. */
  readonly type: number;
  readonly kind: OxmKind | 'raw';
  readonly size: number;
  readonly bits: number;
  readonly experimenter: number | undefined;
  readonly expType: number | undefined;
  /** Bytes of the experimenter header. */
  readonly extra: number;
  /** Length a header without a value tells. */
  readonly width: number;
  /** Versions in which Ryu has no name for it. */
  readonly unnamed: Range;
  /** First word of the TLV without and with a mask. */
  readonly header: number;
  readonly maskedHeader: number;
  /** Order in a match, as Ryu sorts: experimenter fields by the experimenter's number. */
  readonly order: number;
}

/** The rows of one version, as they are looked up. */
interface OxmTable {
  readonly byName: Map<string, CompiledOxm>;
  readonly byType: Map<number, CompiledOxm>;
  readonly byExperimenter: Map<string, CompiledOxm>;
}
// indexed by version
const tables: readonly OxmTable[] = Array.from({ length: 7 }, () => ({
  byName: new Map(),
  byType: new Map(),
  byExperimenter: new Map(),
}));

/** Largest value of a field of variable length. */
const MAX_RAW = 124;

/** Works out what a row writes and reads. */
export function compileRow(
  name: string,
  r: Omit<OxmRow, 'kind' | 'versions' | 'others'> & { kind: OxmKind | 'raw' },
): CompiledOxm {
  const type = r.cls * 128 + r.num;
  const extra = r.experimenter === undefined ? 0 : r.expType === undefined ? 4 : 6;
  return {
    name,
    type,
    kind: r.kind,
    size: r.size,
    bits: r.bits,
    experimenter: r.experimenter,
    expType: r.expType,
    extra,
    // what Open vSwitch writes for fields without a width of their own
    width: extra + (r.kind !== 'raw' ? r.size : r.unnamed.length > 0 ? MAX_RAW : 0),
    unnamed: r.unnamed,
    header: type * 512 + r.size + extra,
    maskedHeader: type * 512 + 256 + 2 * r.size + extra,
    order: r.experimenter ?? type,
  };
}
for (const [name, first] of Object.entries(OXM_FIELDS)) {
  for (const r of [first, ...first.others]) {
    const c = compileRow(name, r);
    for (const version of r.versions) {
      const t = tables[version] as OxmTable;
      t.byName.set(name, c);
      if (c.experimenter === undefined) t.byType.set(c.type, c);
      else t.byExperimenter.set(`${c.experimenter}/${r.num}/${c.expType ?? ''}`, c);
    }
  }
}

/** The row of a name, made on the fly for `field_<n>`; undefined when the name means nothing in that version. */
export function oxmByName(name: string, version: Version): CompiledOxm | undefined {
  const known = tables[version]?.byName.get(name);
  if (known !== undefined) return known;
  return rawRow(name);
}

/** The row of `field_<n>` and `field_<n>_<experimenter>`: what has no row of its own keeps its bytes. */
export function rawRow(name: string): CompiledOxm | undefined {
  const m = /^field_(\d{1,7})(?:_(\d{1,10}))?$/.exec(name);
  if (m === null) return undefined;
  const type = Number(m[1]);
  const exp = m[2] === undefined ? undefined : Number(m[2]);
  if (type > 0x7fffff || (exp !== undefined && exp > 0xffffffff)) return undefined;
  return compileRow(name, {
    cls: type >>> 7,
    num: type & 127,
    kind: 'raw',
    size: 0,
    bits: 0,
    experimenter: exp,
    expType: undefined,
    unnamed: [],
  });
}

/** Name for a `class << 7 | number` outside experimenter classes, as in the identifiers of table features. */
export function oxmNameOfType(type: number, version: Version): string {
  return tables[version]?.byType.get(type)?.name ?? `field_${type}`;
}

// ---- writing -------------------------------------------------------------------------------------------------------

function bad(cls: string, name: string, v: unknown, what: string): never {
  throw new OfEncodeError(cls, name, `not ${what}: ${describe(v)}`);
}

const noSuchField = (version: Version) => `no such OXM field in version ${version}`;

/** Writes one value at `p`; the caller made room. */
export function putValue(w: Writer, p: number, c: CompiledOxm, v: unknown, cls: string): void {
  const dv = w.dv;
  const n = v as number;
  switch (c.kind) {
    case 'u8':
      if ((n & 255) !== n) bad(cls, c.name, v, 'an integer of 8 bits');
      dv.setUint8(p, n);
      return;
    case 'u16':
      if ((n & 65535) !== n) bad(cls, c.name, v, 'an integer of 16 bits');
      dv.setUint16(p, n);
      return;
    case 'u24':
      if ((n & 0xffffff) !== n) bad(cls, c.name, v, 'an integer of 24 bits');
      dv.setUint8(p, n >>> 16);
      dv.setUint16(p + 1, n & 65535);
      return;
    case 'u32':
      if (n >>> 0 !== n) bad(cls, c.name, v, 'an integer of 32 bits');
      dv.setUint32(p, n);
      return;
    case 'u64':
      dv.setBigUint64(p, unsigned(cls, c.name, v, 64));
      return;
    case 'u128': {
      const big = unsigned(cls, c.name, v, 128);
      dv.setBigUint64(p, big >> 64n);
      dv.setBigUint64(p + 8, big & 0xffffffffffffffffn);
      return;
    }
    case 'mac':
      if (typeof v !== 'string' || !writeMac(w.b, p, v)) bad(cls, c.name, v, 'a MAC address');
      return;
    case 'ipv4': {
      const addr = typeof v === 'string' ? parseIpv4(v) : -1;
      if (addr < 0) bad(cls, c.name, v, 'an IPv4 address');
      dv.setUint32(p, addr);
      return;
    }
    case 'ipv6':
      if (typeof v !== 'string' || !writeIpv6(w.b, p, v)) bad(cls, c.name, v, 'an IPv6 address');
      return;
    case 'time': {
      const [sec, nsec] = Array.isArray(v) && v.length === 2 ? (v as unknown[] as [number, number]) : [-1, -1];
      if (sec >>> 0 !== sec || nsec >>> 0 !== nsec) bad(cls, c.name, v, '[seconds, nanoseconds]');
      dv.setUint32(p, sec);
      dv.setUint32(p + 4, nsec);
      return;
    }
    default:
      throw new Error('unreachable');
  }
}

function unsigned(cls: string, name: string, v: unknown, bits: number): bigint {
  const big = typeof v === 'bigint' ? v : typeof v === 'number' && Number.isSafeInteger(v) ? BigInt(v) : -1n;
  if (big < 0n || BigInt.asUintN(bits, big) !== big) bad(cls, name, v, `an unsigned integer of ${bits} bits`);
  return big;
}

function rawBytes(v: unknown, cls: string, name: string): Buffer {
  if (typeof v !== 'string') bad(cls, name, v, 'base64');
  const bytes = Buffer.from(v, 'base64');
  if (bytes.length > 255) bad(cls, name, v, 'short enough for an OXM');
  return bytes;
}

/** Writes one OXM TLV. OpenFlow 1.3.5 §7.2.3.2. */
export function encodeOxm(w: Writer, name: string, value: unknown, cls: string): void {
  const c = oxmByName(name, w.version);
  if (c === undefined) throw new OfEncodeError(cls, name, noSuchField(w.version));
  if (c.kind === 'raw') {
    encodeRaw(w, c, value, cls);
    return;
  }
  // 4 of header, at most 6 of experimenter, at most 2 x 16 of value and mask
  if (w.cap - w.p < 42) w.grow(42);
  let p = w.p;
  const dv = w.dv;
  const masked = typeof value === 'object' && Array.isArray(value);
  dv.setUint32(p, masked ? c.maskedHeader : c.header);
  p += 4;
  if (c.experimenter !== undefined) {
    dv.setUint32(p, c.experimenter);
    if (c.expType !== undefined) dv.setUint16(p + 4, c.expType);
    p += c.extra;
  }
  if (masked) {
    if (value.length !== 2) bad(cls, name, value, '[value, mask]');
    putValue(w, p, c, value[0], cls);
    putValue(w, p + c.size, c, value[1], cls);
    w.p = p + 2 * c.size;
  } else {
    putValue(w, p, c, value, cls);
    w.p = p + c.size;
  }
}

/** The row a name means, and what its header tells. */
function headerOf(name: string, version: Version): { row: CompiledOxm; word: number } | undefined {
  const known = tables[version]?.byName.get(name);
  if (known !== undefined) return { row: known, word: known.type * 512 + known.width };
  const [plain, own, ...more] = name.split('/');
  const row = knownRow(plain as string, version);
  if (row === undefined || more.length > 0) return undefined;
  if (own === undefined) return { row, word: row.type * 512 + row.width };
  const m = /^(m?)(\d{1,3})$/.exec(own);
  if (m === null || Number(m[2]) > 255) return undefined;
  return { row, word: row.type * 512 + (m[1] === 'm' ? 256 : 0) + Number(m[2]) };
}

/** Writes the header of an OXM without its value, of at most `max` bytes; where `max` is 4 the caller made room. */
export function encodeOxmHeader(w: Writer, name: unknown, max: 4 | 10, cls: string, field: string): void {
  const h = typeof name === 'string' ? headerOf(name, w.version) : undefined;
  if (h === undefined) throw new OfEncodeError(cls, field, `${noSuchField(w.version)}: ${describe(name)}`);
  const { row, word } = h;
  if (4 + row.extra > max) throw new OfEncodeError(cls, field, `no room for the header of ${String(name)}`);
  if (max > 4 && w.cap - w.p < max) w.grow(max);
  w.dv.setUint32(w.p, word);
  w.p += 4;
  if (row.experimenter !== undefined) {
    w.dv.setUint32(w.p, row.experimenter);
    if (row.expType !== undefined) w.dv.setUint16(w.p + 4, row.expType);
    w.p += row.extra;
  }
}

/** The row of a name, also of `field_<n>` where a field of that number has a name. */
function knownRow(name: string, version: Version): CompiledOxm | undefined {
  const c = oxmByName(name, version);
  if (c?.kind !== 'raw' || c.experimenter !== undefined || c.width > 0) return c;
  return tables[version]?.byType.get(c.type) ?? c;
}

/** Whether Ryu has a number for the field where it has no name: not for experimenters'. */
const isRaw = (c: CompiledOxm | undefined, version: Version): c is CompiledOxm =>
  c !== undefined && c.experimenter === undefined && c.unnamed.includes(version);

/** The name of a header in Ryu's JSON, which has neither length nor mask. */
export function oxmHeaderToJson(name: string, version: Version): string {
  const [plain = ''] = name.split('/');
  const c = oxmByName(plain, version);
  return isRaw(c, version) ? `field_${c.type}` : plain;
}

/** Name and value of a field in Ryu's JSON: fields Ryu has no name for are `field_<n>` and base64 there. */
function ryuField(name: string, value: unknown, version: Version): [name: string, value: unknown] {
  const c = oxmByName(name, version);
  if (!isRaw(c, version)) return [name, value];
  const base64 = (v: unknown) => valueToBytes(c, v, 'OFPMatch').toString('base64');
  return [`field_${c.type}`, Array.isArray(value) ? value.map(base64) : base64(value)];
}

/** The other way: a `field_<n>` whose number is known gets its name, if its value is of the right length. */
function namedField(name: string, value: unknown, version: Version): [name: string, value: unknown] {
  const raw = oxmByName(name, version);
  const c = knownRow(name, version);
  if (raw === undefined || c === undefined || raw === c) return [name, value];
  const parts = (Array.isArray(value) ? value : [value]).map((v) => rawBytes(v, 'OFPMatch', name));
  if (c.kind !== 'raw' && parts.some((b) => b.length !== c.size)) return [name, value];
  const values = parts.map((b) => bytesToValue(c, b));
  return [c.name, Array.isArray(value) ? values : values[0]];
}

/** Writes a TLV without a row: its bytes in base64. */
export function encodeRaw(w: Writer, c: CompiledOxm, value: unknown, cls: string): void {
  const masked = Array.isArray(value);
  const v = rawBytes(masked ? value[0] : value, cls, c.name);
  const m = masked ? rawBytes(value[1], cls, c.name) : undefined;
  if (m !== undefined && m.length !== v.length) bad(cls, c.name, value, 'a value and a mask of one length');
  const length = c.extra + v.length + (m?.length ?? 0);
  if (length > 255) bad(cls, c.name, value, 'short enough for an OXM');
  if (w.cap - w.p < 8) w.grow(8);
  w.dv.setUint32(w.p, c.type * 512 + (masked ? 256 : 0) + length);
  if (c.experimenter !== undefined) w.dv.setUint32(w.p + 4, c.experimenter);
  w.p += 4 + c.extra;
  w.bytes(v);
  if (m !== undefined) w.bytes(m);
}

/** Writes an OFPMatch with its padding. OpenFlow 1.3.5 §7.2.3.1. */
export function encodeMatch(match: OFPMatch, w: Writer, cls: string, field: string): void {
  const fields = match?.fields;
  if (typeof fields !== 'object' || fields === null) throw new OfEncodeError(cls, field, 'not an OFPMatch');
  if (w.cap - w.p < 8) w.grow(8);
  const from = w.p - w.start;
  w.p += 4;
  for (const name in fields) encodeOxm(w, name, fields[name as OxmName], 'OFPMatch');
  const at = w.start + from;
  const length = w.p - at;
  w.dv.setUint16(at, ofp.OFPMT_OXM);
  w.dv.setUint16(at + 2, length);
  w.zeros((8 - (length & 7)) & 7);
}

/** Writes an OFPMatch without padding, and without its header unless it is `headed`. */
export function encodeBareMatch(match: OFPMatch, w: Writer, headed: boolean, cls: string, field: string): void {
  const fields = match?.fields;
  if (typeof fields !== 'object' || fields === null) throw new OfEncodeError(cls, field, 'not an OFPMatch');
  const from = w.p - w.start;
  if (headed) w.zeros(4);
  for (const name in fields) encodeOxm(w, name, fields[name as OxmName], 'OFPMatch');
  if (!headed) return;
  w.dv.setUint16(w.start + from, ofp.OFPMT_OXM);
  w.dv.setUint16(w.start + from + 2, w.p - w.start - from);
}

/** Writes fields that stand one after the other, perhaps several times the same. */
export function encodeOxms(list: readonly unknown[], w: Writer, cls: string): void {
  for (const e of list) {
    const { field, value } = (e ?? {}) as { field?: unknown; value?: unknown };
    encodeOxm(w, String(field), value, cls);
  }
}

// ---- reading -------------------------------------------------------------------------------------------------------

/** Reads one value. */
export function getValue(r: Reader, p: number, c: CompiledOxm): number | bigint | string | [number, number] {
  const dv = r.dv;
  switch (c.kind) {
    case 'u8':
      return dv.getUint8(p);
    case 'u16':
      return dv.getUint16(p);
    case 'u24':
      return dv.getUint8(p) * 65536 + dv.getUint16(p + 1);
    case 'u32':
      return dv.getUint32(p);
    case 'u64':
      return dv.getBigUint64(p);
    case 'u128':
      return (dv.getBigUint64(p) << 64n) | dv.getBigUint64(p + 8);
    case 'mac':
      return readMac(r.b, p - r.base);
    case 'ipv4':
      return formatIpv4(dv.getUint32(p));
    case 'ipv6':
      return readIpv6(r.b, p - r.base);
    case 'time':
      return [dv.getUint32(p), dv.getUint32(p + 4)];
    default:
      throw new Error('unreachable');
  }
}

/** The name and value of the last OXM read: returned through one object to spare an allocation per field. */
export const lastOxm: { name: string; value: unknown } = { name: '', value: undefined };

/** The row of an experimenter's field whose number stands at `p`. */
function experimenterRow(
  rows: OxmTable['byExperimenter'],
  r: Reader,
  p: number,
  end: number,
  id: number,
  num: number,
): CompiledOxm | undefined {
  if (id !== ONF || num !== 0) return rows.get(`${id}/${num}/`);
  return end - p >= 6 ? rows.get(`${id}/0/${r.dv.getUint16(p + 4)}`) : undefined;
}

/** Reads the header of an OXM without its value; leaves `r.q` behind it. */
export function decodeOxmHeader(r: Reader, p: number, end: number, type: number, code: number): OxmHeader {
  if (end - p < 4) fail(r, p, 'OXM header cut short', type, code);
  const header = r.dv.getUint32(p);
  const oxm = header >>> 9;
  const length = header & 255;
  const masked = (header & 256) !== 0;
  const { byType, byExperimenter } = tables[r.version] as OxmTable;
  let c = byType.get(oxm);
  let name = c?.name ?? `field_${oxm}`;
  let extra = 0;
  if (c === undefined && oxm >>> 7 === ofp.OFPXMC_EXPERIMENTER) {
    if (end - p < 8) fail(r, p, 'OXM header of an experimenter cut short', type, code);
    const id = r.dv.getUint32(p + 4);
    c = experimenterRow(byExperimenter, r, p + 4, end, id, oxm & 127);
    name = c?.name ?? `field_${oxm}_${id}`;
    extra = c?.extra ?? 4;
  }
  r.q = p + 4 + extra;
  return (!masked && length === (c?.width ?? extra) ? name : `${name}/${masked ? 'm' : ''}${length}`) as OxmHeader;
}

/** Reads one OXM TLV that must end by `end`; leaves `r.q` behind it and the result in `lastOxm`. */
export function decodeOxm(r: Reader, p: number, end: number, type: number, code: number): void {
  if (end - p < 4) fail(r, p, 'OXM header cut short', type, code);
  const header = r.dv.getUint32(p);
  const length = header & 255;
  const oxm = header >>> 9;
  const masked = (header & 256) !== 0;
  if (end - p - 4 < length) fail(r, p, 'OXM longer than what holds it', type, code);
  let at = p + 4;
  const stop = at + length;
  r.q = stop;
  const { byType, byExperimenter } = tables[r.version] as OxmTable;
  let c = byType.get(oxm);
  let name: string;
  if (c === undefined && oxm >>> 7 === ofp.OFPXMC_EXPERIMENTER && length >= 4) {
    const id = r.dv.getUint32(at);
    c = experimenterRow(byExperimenter, r, at, stop, id, oxm & 127);
    name = `field_${oxm}_${id}`;
    at += c?.extra ?? 4;
  } else {
    name = c?.name ?? `field_${oxm}`;
  }
  const room = stop - at;
  if (c === undefined || c.kind === 'raw') {
    if (masked && (room & 1) !== 0) fail(r, p, `OXM ${name}: value and mask differ in length`, type, code);
    const half = masked ? at + room / 2 : stop;
    const value = r.b.toString('base64', at - r.base, half - r.base);
    lastOxm.name = name;
    lastOxm.value = masked ? [value, r.b.toString('base64', half - r.base, stop - r.base)] : value;
    return;
  }
  if (room !== (masked ? 2 * c.size : c.size)) fail(r, p, `OXM ${c.name}: length ${length}`, type, code);
  lastOxm.name = c.name;
  lastOxm.value = masked ? [getValue(r, at, c), getValue(r, at + c.size, c)] : getValue(r, at, c);
}

/** Reads an OFPMatch and its padding; leaves `r.q` behind it. OpenFlow 1.3.5 §7.2.3.1. */
export function decodeMatch(r: Reader, p: number, end: number): OFPMatch {
  if (end - p < 4) fail(r, p, 'match cut short', ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_LEN);
  if (r.dv.getUint16(p) !== ofp.OFPMT_OXM) fail(r, p, 'match is not OXM', ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_TYPE);
  const length = r.dv.getUint16(p + 2);
  const padded = (length + 7) & ~7;
  if (length < 4 || padded > end - p) {
    fail(r, p, `match length ${length}`, ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_LEN);
  }
  const fields = decodeFields(r, p + 4, p + length);
  r.q = p + padded;
  return { cls: 'OFPMatch', fields };
}

function decodeFields(r: Reader, p: number, stop: number): MatchFields {
  const fields: Record<string, unknown> = {};
  let at = p;
  while (at < stop) {
    decodeOxm(r, at, stop, ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_LEN);
    const name = lastOxm.name;
    // Field names never collide with what an object inherits, so a plain `undefined` test is enough.
    if (fields[name] !== undefined) {
      fail(r, at, `OXM ${name} twice`, ofp.OFPET_BAD_MATCH, ofp.OFPBMC_DUP_FIELD);
    }
    fields[name] = lastOxm.value;
    at = r.q;
  }
  return fields as MatchFields;
}

/**
 * Whether what is said to be fields alone begins with the header of an OFPMatch of that length. No first field looks so:
 * one of the NXM_1 class with that length would need 264 bytes of others behind it.
 */
export function isHeaded(r: Reader, p: number, stop: number): boolean {
  return stop - p >= 4 && r.dv.getUint16(p) === ofp.OFPMT_OXM && r.dv.getUint16(p + 2) === stop - p;
}

/** Reads the fields of an OFPMatch from `p` up to `stop`, and the padding behind them to 8 bytes from `start`. */
export function decodeBareMatch(r: Reader, p: number, start: number, stop: number, end: number): OFPMatch {
  const padded = (stop - start + 7) & ~7;
  if (padded > end - start) fail(r, p, 'match cut short', ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_LEN);
  const fields = decodeFields(r, p, stop);
  r.q = start + padded;
  return { cls: 'OFPMatch', fields };
}

/** Reads fields up to `end`. */
export function decodeOxms(r: Reader, p: number, end: number, type: number, code: number): OxmTlv[] {
  const out: OxmTlv[] = [];
  for (r.q = p; r.q < end; ) {
    decodeOxm(r, r.q, end, type, code);
    out.push({ field: lastOxm.name, value: lastOxm.value } as OxmTlv);
  }
  return out;
}

// ---- normalising ---------------------------------------------------------------------------------------------------

const scratch = new Writer();
const scratchReader = newReader();

function valueToBytes(c: CompiledOxm, v: unknown, cls: string): Buffer {
  if (c.kind === 'raw') return rawBytes(v, cls, c.name);
  scratch.p = 0;
  scratch.start = 0;
  putValue(scratch, 0, c, v, cls);
  return Buffer.from(scratch.b.subarray(0, c.size));
}

function bytesToValue(c: CompiledOxm, bytes: Buffer): unknown {
  if (c.kind === 'raw') return bytes.toString('base64');
  scratchReader.b = bytes;
  scratchReader.dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  scratchReader.base = 0;
  return getValue(scratchReader, 0, c);
}

function prefixMask(size: number, prefix: number): Buffer {
  const mask = Buffer.alloc(size);
  for (let i = 0; i < prefix; i++) mask[i >> 3] = (mask[i >> 3] as number) | (128 >> (i & 7));
  return mask;
}

/** Value and mask of one field in bytes; `10.0.0.0/8` and `10.0.0.0/255.0.0.0` carry their mask in the text. */
function fieldBytes(c: CompiledOxm, input: unknown, cls: string): { value: Buffer; mask: Buffer | undefined } {
  if (Array.isArray(input)) {
    if (input.length !== 2) bad(cls, c.name, input, '[value, mask]');
    const value = valueToBytes(c, input[0], cls);
    const mask = valueToBytes(c, input[1], cls);
    if (value.length !== mask.length) bad(cls, c.name, input, 'a value and a mask of one length');
    return { value, mask };
  }
  if (typeof input === 'string' && (c.kind === 'ipv4' || c.kind === 'ipv6')) {
    const slash = input.indexOf('/');
    if (slash >= 0) {
      const tail = input.slice(slash + 1);
      const value = valueToBytes(c, input.slice(0, slash), cls);
      if (!/^\d{1,3}$/.test(tail)) return { value, mask: valueToBytes(c, tail, cls) };
      if (Number(tail) > c.size * 8) bad(cls, c.name, input, 'a prefix of that address');
      return { value, mask: prefixMask(c.size, Number(tail)) };
    }
  }
  return { value: valueToBytes(c, input, cls), mask: undefined };
}

const macScratch = Buffer.alloc(6);

/** The canonical form of a value without a mask, without the way over bytes; undefined when that way is needed. */
function plainForm(c: CompiledOxm, v: unknown): unknown {
  const n = v as number;
  switch (c.kind) {
    case 'u8':
      return (n & 255) === n ? n : undefined;
    case 'u16':
      return (n & 65535) === n ? n : undefined;
    case 'u32':
      return n >>> 0 === n ? n : undefined;
    case 'u64':
      return typeof v === 'bigint' && BigInt.asUintN(64, v) === v ? v : undefined;
    case 'mac':
      return typeof v === 'string' && writeMac(macScratch, 0, v) ? readMac(macScratch, 0) : undefined;
    case 'ipv4': {
      const address = typeof v === 'string' ? parseIpv4(v) : -1;
      return address < 0 ? undefined : formatIpv4(address);
    }
    default:
      return undefined;
  }
}

/** Brings one field to the form Ryu gives it: masked value, dotted masks, lower-case addresses. */
export function normaliseOxm(name: string, input: unknown, cls: string, version: Version): unknown {
  const c = oxmByName(name, version);
  if (c === undefined) throw new OfEncodeError(cls, name, noSuchField(version));
  const plain = plainForm(c, input);
  if (plain !== undefined) return plain;
  const { value, mask } = fieldBytes(c, input, cls);
  if (mask === undefined) return bytesToValue(c, value);
  for (let i = 0; i < value.length; i++) value[i] = (value[i] as number) & (mask[i] as number);
  return [bytesToValue(c, value), bytesToValue(c, mask)];
}

/**
 * Brings one field to its canonical text, and leaves bits outside the mask alone: what comes from a peer or from Ryu's JSON
 * keeps its bytes.
 */
export function canonicalOxm(name: string, input: unknown, cls: string, version: Version): unknown {
  return Array.isArray(input) && input.length === 2
    ? [normaliseOxm(name, input[0], cls, version), normaliseOxm(name, input[1], cls, version)]
    : normaliseOxm(name, input, cls, version);
}

/** The same for a list of fields. */
export function normaliseOxms(list: readonly unknown[], cls: string, version: Version): OxmTlv[] {
  return list.map((e) => {
    const { field, value } = (e ?? {}) as { field?: unknown; value?: unknown };
    return { field, value: canonicalOxm(String(field), value, cls, version) } as OxmTlv;
  });
}

/** A field as Ryu's JSON has it. */
export function oxmToJson(
  name: string,
  given: unknown,
  version: Version,
): { OXMTlv: { field: string; mask: unknown; value: unknown } } {
  const [field, value] = ryuField(name, given, version);
  const [v, mask] = Array.isArray(value) ? value : [value, null];
  return { OXMTlv: { field, mask, value: v } };
}

/** Name and value of a field of Ryu's JSON. As in Ryu it keeps its bytes; only its text becomes canonical. */
export function oxmFromJson(obj: unknown, cls: string, version: Version): [name: string, value: unknown] {
  const tlv = (obj as { OXMTlv?: { field?: unknown; value?: unknown; mask?: unknown } } | null | undefined)?.OXMTlv;
  if (typeof tlv?.field !== 'string') throw new OfEncodeError(cls, 'field', 'no OXMTlv');
  const { value, mask } = tlv;
  const [field, v] = namedField(tlv.field, mask === null || mask === undefined ? value : [value, mask], version);
  return [field, canonicalOxm(field, v, cls, version)];
}

/**
 * Makes a match, normalised as Ryu does: bits of the value outside the mask are cleared, `10.0.0.0/8` becomes a dotted
 * mask, addresses take their canonical text, fields are sorted by OXM type. Some fields have another type, or none, in
 * other versions: `version` is a number on the wire. OpenFlow 1.3.5 §7.2.3.
 *
 * @example OFPMatch({ in_port: 1, eth_type: 0x0800, ipv4_src: '10.0.0.0/8' })
 */
export function OFPMatch(input: MatchInput = {}, version: Version = 4): OFPMatch {
  const fields: Record<string, unknown> = {};
  let last = -1;
  let isSorted = true;
  for (const name in input) {
    const value = (input as Record<string, unknown>)[name];
    if (value === undefined) continue;
    fields[name] = normaliseOxm(name, value, 'OFPMatch', version);
    const order = orderOf(name, version);
    if (order < last) isSorted = false;
    last = order;
  }
  if (isSorted) return { cls: 'OFPMatch', fields: fields as MatchFields };
  const names = Object.keys(fields).sort((x, y) => orderOf(x, version) - orderOf(y, version));
  const sorted: Record<string, unknown> = {};
  for (const name of names) sorted[name] = fields[name];
  return { cls: 'OFPMatch', fields: sorted as MatchFields };
}

const orderOf = (name: string, version: Version): number => oxmByName(name, version)?.order ?? 0;

/**
 * A text that is equal for two matches exactly when they match the same packets field by field: the order of fields does
 * not count, a mask of all bits is no mask, and a mask of no bits is no field (switches drop both). `version` as for
 * `OFPMatch`.
 */
export function matchKey(match: OFPMatch, version: Version = 4): string {
  const parts: string[] = [];
  for (const [name, input] of Object.entries(match.fields)) {
    const c = oxmByName(name, version);
    if (c === undefined) throw new OfEncodeError('OFPMatch', name, noSuchField(version));
    const { value, mask } = fieldBytes(c, input, 'OFPMatch');
    if (mask === undefined) {
      parts.push(`${name}=${value.toString('hex')}`);
      continue;
    }
    for (let i = 0; i < value.length; i++) value[i] = (value[i] as number) & (mask[i] as number);
    const hex = mask.toString('hex');
    if (mask.length > 0 && /^0*$/.test(hex)) continue;
    const exact = c.kind !== 'raw' && BigInt(`0x${hex}`) === (1n << BigInt(c.bits)) - 1n;
    const full = /^f*$/.test(hex);
    parts.push(`${name}=${value.toString('hex')}${exact || full ? '' : `/${hex}`}`);
  }
  return parts.sort().join(',');
}
