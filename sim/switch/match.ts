/**
 * Matches of an emulated switch: compiling an OFPMatch so that packets can be held against it, checking it as a switch
 * would (prerequisites, wildcards), and comparing two matches. pipeline.ts keeps the flows. Pure.
 */
import { type OFPMatch, ofproto_v1_3 as ofp } from 'node-openflow';
import { ETH_ARP, ETH_IPV4, ETH_RARP, type Packet } from '../packet.ts';

/** An OpenFlow error: type and code (OpenFlow 1.3.5 7.4.4). */
export interface OfErrorCode {
  type: number;
  code: number;
}

/** A packet within the pipeline: its headers and what the switch knows about it. */
export interface PacketContext {
  packet: Packet;
  inPort: number;
  metadata: bigint;
  tunnelId: bigint;
}

/** One field of a compiled match; `mask` is all ones for an exact match. */
export interface FieldTest {
  name: MatchField;
  value: bigint;
  mask: bigint;
}

const BITS = {
  in_port: 32,
  metadata: 64,
  tunnel_id: 64,
  eth_dst: 48,
  eth_src: 48,
  eth_type: 16,
  vlan_vid: 13,
  vlan_pcp: 3,
  ip_dscp: 6,
  ip_ecn: 2,
  ip_proto: 8,
  ipv4_src: 32,
  ipv4_dst: 32,
  tcp_src: 16,
  tcp_dst: 16,
  udp_src: 16,
  udp_dst: 16,
  icmpv4_type: 8,
  icmpv4_code: 8,
  arp_op: 16,
  arp_spa: 32,
  arp_tpa: 32,
  arp_sha: 48,
  arp_tha: 48,
} as const;
/** Fields the emulated switch can match on and set. */
export type MatchField = keyof typeof BITS;

const error = (type: number, code: number): OfErrorCode => ({ type, code });

/** Whether the emulated switch knows the field. */
export function isMatchField(name: string): name is MatchField {
  return Object.hasOwn(BITS, name);
}

/** A field's value as a number: addresses as their bits. */
function fieldBits(value: unknown): bigint {
  if (typeof value === 'bigint') return value;
  if (typeof value === 'number') return BigInt(value);
  const text = String(value);
  if (text.includes(':')) return BigInt(`0x${text.replaceAll(':', '')}`);
  let n = 0n;
  for (const part of text.split('.')) n = n * 256n + BigInt(part);
  return n;
}

/** Bits of a field's full mask. */
function ones(name: MatchField): bigint {
  return (1n << BigInt(BITS[name])) - 1n;
}

/** The value of a field in a packet; undefined when the packet has no such header. */
function readField(name: MatchField, c: PacketContext): bigint | undefined {
  const p = c.packet;
  switch (name) {
    case 'in_port':
      return BigInt(c.inPort);
    case 'metadata':
      return c.metadata;
    case 'tunnel_id':
      return c.tunnelId;
    case 'vlan_vid': {
      const tag = p.vlans?.[0];
      return tag === undefined ? 0n : BigInt(ofp.OFPVID_PRESENT | tag.vid);
    }
    case 'vlan_pcp': {
      const tag = p.vlans?.[0];
      return tag === undefined ? undefined : BigInt(tag.pcp);
    }
    default: {
      const value = p[name];
      return value === undefined ? undefined : fieldBits(value);
    }
  }
}

/** Whether every test holds for the packet. */
export function matches(tests: readonly FieldTest[], c: PacketContext): boolean {
  for (const t of tests) {
    const value = readField(t.name, c);
    if (value === undefined || (value & t.mask) !== t.value) return false;
  }
  return true;
}

/** Compiles and checks a match (OpenFlow 1.3.5 7.2.3.6 and 7.2.3.8), or says which error a switch answers with. */
export function compileMatch(match: OFPMatch): { tests: FieldTest[] } | { error: OfErrorCode } {
  const tests: FieldTest[] = [];
  for (const [name, raw] of Object.entries(match.fields)) {
    if (raw === undefined) continue;
    if (!isMatchField(name)) return { error: error(ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_FIELD) };
    const [value, mask] = Array.isArray(raw)
      ? [fieldBits(raw[0]), fieldBits(raw[1])]
      : [fieldBits(raw as string | number | bigint), ones(name)];
    if (value > ones(name)) return { error: error(ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_VALUE) };
    if ((value & ~mask) !== 0n) return { error: error(ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_WILDCARDS) };
    if (mask !== 0n) tests.push({ name, value, mask });
  }
  for (const t of tests) {
    if (!hasPrerequisite(t.name, tests)) return { error: error(ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_PREREQ) };
  }
  return { tests };
}

/** Whether the tests pin down the headers that carry the field (OpenFlow 1.3.5 table 12). */
export function hasPrerequisite(name: MatchField, tests: readonly FieldTest[]): boolean {
  const exact = (field: MatchField, ...allowed: number[]) =>
    tests.some((t) => t.name === field && t.mask === ones(field) && allowed.includes(Number(t.value)));
  switch (name) {
    case 'vlan_pcp':
      return tests.some((t) => t.name === 'vlan_vid' && (t.value & BigInt(ofp.OFPVID_PRESENT)) !== 0n);
    case 'ip_dscp':
    case 'ip_ecn':
    case 'ip_proto':
    case 'ipv4_src':
    case 'ipv4_dst':
      return exact('eth_type', ETH_IPV4);
    case 'tcp_src':
    case 'tcp_dst':
      return exact('eth_type', ETH_IPV4) && exact('ip_proto', 6);
    case 'udp_src':
    case 'udp_dst':
      return exact('eth_type', ETH_IPV4) && exact('ip_proto', 17);
    case 'icmpv4_type':
    case 'icmpv4_code':
      return exact('eth_type', ETH_IPV4) && exact('ip_proto', 1);
    case 'arp_op':
    case 'arp_spa':
    case 'arp_tpa':
    case 'arp_sha':
    case 'arp_tha':
      // Open vSwitch lets RARP be matched with the ARP fields; so do we.
      return exact('eth_type', ETH_ARP, ETH_RARP);
    default:
      return true;
  }
}

/** Whether everything `narrow` matches is matched by `wide` too. */
export function covers(wide: readonly FieldTest[], narrow: readonly FieldTest[]): boolean {
  return wide.every((w) => {
    const n = narrow.find((t) => t.name === w.name);
    return n !== undefined && (n.mask & w.mask) === w.mask && (n.value & w.mask) === w.value;
  });
}

/** Whether some packet could match both. */
export function overlaps(a: readonly FieldTest[], b: readonly FieldTest[]): boolean {
  return a.every((x) => {
    const y = b.find((t) => t.name === x.name);
    return y === undefined || ((x.value ^ y.value) & x.mask & y.mask) === 0n;
  });
}

/** Whether both are the same match. */
export function isSameMatch(a: readonly FieldTest[], b: readonly FieldTest[]): boolean {
  return (
    a.length === b.length &&
    a.every((x) => b.some((y) => x.name === y.name && x.value === y.value && x.mask === y.mask))
  );
}
