/**
 * From a captured packet to the TCP segment in it: link layer, VLAN tags, IPv4, IPv6 with its extension headers, TCP.
 * pcap.ts hands packets in, tcp.ts joins the segments.
 */

/** A TCP segment. Addresses are as on the wire. */
export interface Segment {
  readonly src: Buffer;
  readonly dst: Buffer;
  readonly srcPort: number;
  readonly dstPort: number;
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly payload: Buffer;
  /** Offset of `payload` in the packet. */
  readonly payloadAt: number;
  /** Bytes of payload that the packet had and the capture has not. */
  readonly missing: number;
}

export const TCP = { FIN: 1, SYN: 2, RST: 4, ACK: 16 } as const;

/** Numbers of link-layer types: tcpdump.org's registry, and those in use for raw IP on some systems. */
const LINK = {
  null: 0,
  ethernet: 1,
  raw12: 12,
  raw14: 14,
  raw: 101,
  loop: 108,
  sll: 113,
  ipv4: 228,
  ipv6: 229,
  sll2: 276,
};
const ETHERTYPE = { ipv4: 0x0800, ipv6: 0x86dd } as const;
const VLAN = new Set([0x8100, 0x88a8, 0x9100, 0x9200]);
/** Address families of IPv6 on the systems that write loopback headers; IPv4 is 2 on all. */
const AF_INET6 = new Set([10, 24, 28, 30]);

export function linkTypeKnown(linkType: number): boolean {
  return Object.values(LINK).includes(linkType);
}

/** The segment in a packet; `undefined` when it holds none, `fragment` when it holds a part of one. */
export function dissect(b: Buffer, linkType: number, littleEndian: boolean): Segment | 'fragment' | undefined {
  switch (linkType) {
    case LINK.ethernet:
      return b.length < 14 ? undefined : byEthertype(b, 14, b.readUInt16BE(12));
    case LINK.sll:
      return b.length < 16 ? undefined : byEthertype(b, 16, b.readUInt16BE(14));
    case LINK.sll2:
      return b.length < 20 ? undefined : byEthertype(b, 20, b.readUInt16BE(0));
    case LINK.null: {
      if (b.length < 4) return undefined;
      return byFamily(b, littleEndian ? b.readUInt32LE(0) : b.readUInt32BE(0));
    }
    case LINK.loop:
      return b.length < 4 ? undefined : byFamily(b, b.readUInt32BE(0));
    case LINK.raw:
    case LINK.raw12:
    case LINK.raw14:
    case LINK.ipv4:
    case LINK.ipv6:
      return byIpVersion(b, 0);
    default:
      return undefined;
  }
}

function byFamily(b: Buffer, family: number): Segment | 'fragment' | undefined {
  if (family === 2) return ipv4(b, 4);
  return AF_INET6.has(family) ? ipv6(b, 4) : undefined;
}

function byEthertype(b: Buffer, from: number, first: number): Segment | 'fragment' | undefined {
  let at = from;
  let type = first;
  while (VLAN.has(type)) {
    if (b.length < at + 4) return undefined;
    type = b.readUInt16BE(at + 2);
    at += 4;
  }
  if (type === ETHERTYPE.ipv4) return ipv4(b, at);
  return type === ETHERTYPE.ipv6 ? ipv6(b, at) : undefined;
}

function byIpVersion(b: Buffer, at: number): Segment | 'fragment' | undefined {
  const version = b.length > at ? (b[at] as number) >> 4 : 0;
  if (version === 4) return ipv4(b, at);
  return version === 6 ? ipv6(b, at) : undefined;
}

const PROTOCOL_TCP = 6;

function ipv4(b: Buffer, at: number): Segment | 'fragment' | undefined {
  if (b.length < at + 20 || (b[at] as number) >> 4 !== 4 || b[at + 9] !== PROTOCOL_TCP) return undefined;
  const header = ((b[at] as number) & 15) * 4;
  if (header < 20) return undefined;
  // offset, or more to come
  if ((b.readUInt16BE(at + 6) & 0x3fff) !== 0) return 'fragment';
  const total = b.readUInt16BE(at + 2);
  // 0 where the network card cuts large packets: then all that was captured belongs to it
  const end = total === 0 ? b.length : at + total;
  return tcp(b, at + header, end, b.subarray(at + 12, at + 16), b.subarray(at + 16, at + 20));
}

function ipv6(b: Buffer, from: number): Segment | 'fragment' | undefined {
  if (b.length < from + 40 || (b[from] as number) >> 4 !== 6) return undefined;
  const payload = b.readUInt16BE(from + 4);
  const end = payload === 0 ? b.length : from + 40 + payload;
  let next = b[from + 6] as number;
  let at = from + 40;
  while (next !== PROTOCOL_TCP) {
    if (b.length < at + 8) return undefined;
    // hop-by-hop, routing, destination options, fragment, authentication
    if (next === 44) {
      if ((b.readUInt16BE(at + 2) & 0xfff9) !== 0) return b[at] === PROTOCOL_TCP ? 'fragment' : undefined;
      next = b[at] as number;
      at += 8;
    } else if (next === 0 || next === 43 || next === 60) {
      next = b[at] as number;
      at += ((b[at + 1] as number) + 1) * 8;
    } else if (next === 51) {
      next = b[at] as number;
      at += ((b[at + 1] as number) + 2) * 4;
    } else {
      return undefined;
    }
  }
  return tcp(b, at, end, b.subarray(from + 8, from + 24), b.subarray(from + 24, from + 40));
}

function tcp(b: Buffer, at: number, end: number, src: Buffer, dst: Buffer): Segment | undefined {
  if (b.length < at + 20) return undefined;
  const header = ((b[at + 12] as number) >> 4) * 4;
  const payloadAt = at + header;
  // padding of short frames lies behind `end`, the capture may stop before it
  if (header < 20 || payloadAt > end) return undefined;
  const captured = Math.max(payloadAt, Math.min(end, b.length));
  return {
    src,
    dst,
    srcPort: b.readUInt16BE(at),
    dstPort: b.readUInt16BE(at + 2),
    seq: b.readUInt32BE(at + 4),
    ack: b.readUInt32BE(at + 8),
    flags: b[at + 13] as number,
    payload: b.subarray(payloadAt, captured),
    payloadAt,
    missing: end - captured,
  };
}
