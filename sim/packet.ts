/**
 * Packets of the emulated network: header fields under their OpenFlow names, and their bytes. switch/ matches and rewrites
 * the fields; switch/emulatedSwitch.ts needs bytes at the OpenFlow connection (packet-in, packet-out); datacentre.ts makes
 * the ARP, RARP and representative workload packets. Pure.
 *
 * Headers that the emulation has no use for (IPv4 identification and options, TCP sequence numbers) are not kept; packets
 * of unknown types keep their bytes.
 */
export const ETH_IPV4 = 0x0800;
export const ETH_ARP = 0x0806;
export const ETH_RARP = 0x8035;
export const ETH_VLAN = 0x8100;
export const ETH_QINQ = 0x88a8;
export const ETH_LLDP = 0x88cc;
export const BROADCAST = 'ff:ff:ff:ff:ff:ff';

export interface VlanTag {
  /** ETH_VLAN or ETH_QINQ. */
  tpid: number;
  /** 1…4095, without OFPVID_PRESENT. */
  vid: number;
  pcp: number;
}

/** A frame. Field names are those of OXM; a field that is absent is a header the frame does not have. */
export interface Packet {
  readonly eth_dst: string;
  readonly eth_src: string;
  /** Of what follows the VLAN tags. */
  readonly eth_type: number;
  /** Outermost first. */
  readonly vlans?: readonly VlanTag[];
  readonly arp_op?: number;
  readonly arp_spa?: string;
  readonly arp_tpa?: string;
  readonly arp_sha?: string;
  readonly arp_tha?: string;
  readonly ip_proto?: number;
  readonly ip_dscp?: number;
  readonly ip_ecn?: number;
  readonly ip_ttl?: number;
  readonly ipv4_src?: string;
  readonly ipv4_dst?: string;
  readonly tcp_src?: number;
  readonly tcp_dst?: number;
  readonly udp_src?: number;
  readonly udp_dst?: number;
  readonly icmpv4_type?: number;
  readonly icmpv4_code?: number;
  /** Bytes after the headers above. */
  readonly payload?: Buffer;
}

const EMPTY = Buffer.alloc(0);

function macToBuffer(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

function macAt(b: Buffer, at: number): string {
  return b.toString('hex', at, at + 6).replace(/..(?=.)/g, '$&:');
}

function ipToBuffer(ip: string): Buffer {
  return Buffer.from(ip.split('.').map(Number));
}

function ipAt(b: Buffer, at: number): string {
  return `${b[at]}.${b[at + 1]}.${b[at + 2]}.${b[at + 3]}`;
}

/** Reads a frame; undefined when it is shorter than an Ethernet header. Broken inner headers stay in the payload. */
export function parseFrame(frame: Buffer): Packet | undefined {
  if (frame.length < 14) return undefined;
  let at = 12;
  const vlans: VlanTag[] = [];
  let type = frame.readUInt16BE(at);
  while ((type === ETH_VLAN || type === ETH_QINQ) && frame.length >= at + 6) {
    const tci = frame.readUInt16BE(at + 2);
    vlans.push({ tpid: type, vid: tci & 0xfff, pcp: tci >> 13 });
    at += 4;
    type = frame.readUInt16BE(at);
  }
  at += 2;
  const rest = frame.subarray(at);
  return {
    eth_dst: macAt(frame, 0),
    eth_src: macAt(frame, 6),
    eth_type: type,
    ...(vlans.length > 0 ? { vlans } : {}),
    ...innerFields(type, rest),
  };
}

function innerFields(type: number, b: Buffer): Partial<Packet> {
  if ((type === ETH_ARP || type === ETH_RARP) && b.length >= 28 && b.readUInt16BE(2) === ETH_IPV4 && b[4] === 6) {
    return {
      arp_op: b.readUInt16BE(6),
      arp_sha: macAt(b, 8),
      arp_spa: ipAt(b, 14),
      arp_tha: macAt(b, 18),
      arp_tpa: ipAt(b, 24),
    };
  }
  if (type === ETH_IPV4 && b.length >= 20 && (b[0] as number) >> 4 === 4) {
    const header = ((b[0] as number) & 15) * 4;
    const total = b.readUInt16BE(2);
    if (header < 20 || total < header || total > b.length) return { payload: b };
    const proto = b[9] as number;
    const tos = b[1] as number;
    const ip = {
      ip_dscp: tos >> 2,
      ip_ecn: tos & 3,
      ip_ttl: b[8] as number,
      ip_proto: proto,
      ipv4_src: ipAt(b, 12),
      ipv4_dst: ipAt(b, 16),
    };
    const body = b.subarray(header, total);
    const later = (b.readUInt16BE(6) & 0x1fff) !== 0;
    if (later) return { ...ip, payload: body };
    if (proto === 6 && body.length >= 20) {
      const skip = Math.min(body.length, Math.max(20, ((body[12] as number) >> 4) * 4));
      return { ...ip, tcp_src: body.readUInt16BE(0), tcp_dst: body.readUInt16BE(2), payload: body.subarray(skip) };
    }
    if (proto === 17 && body.length >= 8) {
      return { ...ip, udp_src: body.readUInt16BE(0), udp_dst: body.readUInt16BE(2), payload: body.subarray(8) };
    }
    if (proto === 1 && body.length >= 4) {
      return { ...ip, icmpv4_type: body[0] as number, icmpv4_code: body[1] as number, payload: body.subarray(4) };
    }
    return { ...ip, payload: body };
  }
  return { payload: b };
}

/** The bytes of a packet; checksums are right. */
export function buildFrame(p: Packet): Buffer {
  const parts: Buffer[] = [macToBuffer(p.eth_dst), macToBuffer(p.eth_src)];
  for (const tag of p.vlans ?? []) {
    const b = Buffer.alloc(4);
    b.writeUInt16BE(tag.tpid, 0);
    b.writeUInt16BE((tag.pcp << 13) | tag.vid, 2);
    parts.push(b);
  }
  const type = Buffer.alloc(2);
  type.writeUInt16BE(p.eth_type, 0);
  parts.push(type);
  if (p.arp_op !== undefined) parts.push(arpBody(p));
  else if (p.ipv4_src !== undefined) parts.push(ipv4Body(p));
  else parts.push(p.payload ?? EMPTY);
  return Buffer.concat(parts);
}

function arpBody(p: Packet): Buffer {
  const b = Buffer.alloc(28);
  b.writeUInt16BE(1, 0);
  b.writeUInt16BE(ETH_IPV4, 2);
  b[4] = 6;
  b[5] = 4;
  b.writeUInt16BE(p.arp_op ?? 0, 6);
  macToBuffer(p.arp_sha ?? p.eth_src).copy(b, 8);
  ipToBuffer(p.arp_spa ?? '0.0.0.0').copy(b, 14);
  macToBuffer(p.arp_tha ?? '00:00:00:00:00:00').copy(b, 18);
  ipToBuffer(p.arp_tpa ?? '0.0.0.0').copy(b, 24);
  return b;
}

function ipv4Body(p: Packet): Buffer {
  const payload = p.payload ?? EMPTY;
  let inner: Buffer;
  if (p.tcp_src !== undefined) {
    const h = Buffer.alloc(20);
    h.writeUInt16BE(p.tcp_src, 0);
    h.writeUInt16BE(p.tcp_dst ?? 0, 2);
    h[12] = 5 << 4;
    h[13] = 0x10;
    inner = Buffer.concat([h, payload]);
    transportChecksum(p, inner, 16);
  } else if (p.udp_src !== undefined) {
    const h = Buffer.alloc(8);
    h.writeUInt16BE(p.udp_src, 0);
    h.writeUInt16BE(p.udp_dst ?? 0, 2);
    h.writeUInt16BE(8 + payload.length, 4);
    inner = Buffer.concat([h, payload]);
    transportChecksum(p, inner, 6);
  } else if (p.icmpv4_type !== undefined) {
    inner = Buffer.concat([Buffer.from([p.icmpv4_type, p.icmpv4_code ?? 0, 0, 0]), payload]);
    inner.writeUInt16BE(checksum(inner), 2);
  } else {
    inner = payload;
  }
  const h = Buffer.alloc(20);
  h[0] = 0x45;
  h[1] = ((p.ip_dscp ?? 0) << 2) | (p.ip_ecn ?? 0);
  h.writeUInt16BE(20 + inner.length, 2);
  h.writeUInt16BE(0x4000, 6);
  h[8] = p.ip_ttl ?? 64;
  h[9] = p.ip_proto ?? 0;
  ipToBuffer(p.ipv4_src ?? '0.0.0.0').copy(h, 12);
  ipToBuffer(p.ipv4_dst ?? '0.0.0.0').copy(h, 16);
  h.writeUInt16BE(checksum(h), 10);
  return Buffer.concat([h, inner]);
}

/** TCP and UDP over IPv4: the checksum covers a pseudo header (RFC 9293 3.1, RFC 768). */
function transportChecksum(p: Packet, segment: Buffer, at: number): void {
  const pseudo = Buffer.concat([
    ipToBuffer(p.ipv4_src ?? '0.0.0.0'),
    ipToBuffer(p.ipv4_dst ?? '0.0.0.0'),
    Buffer.from([0, p.ip_proto ?? 0, segment.length >> 8, segment.length & 255]),
  ]);
  const sum = checksum(Buffer.concat([pseudo, segment]));
  // UDP writes a sum of zero as all ones; zero would mean "none" there, and both read the same for TCP.
  segment.writeUInt16BE(sum === 0 ? 0xffff : sum, at);
}

/** The Internet checksum (RFC 1071). */
export function checksum(b: Buffer): number {
  let sum = 0;
  for (let i = 0; i + 1 < b.length; i += 2) sum += b.readUInt16BE(i);
  if (b.length % 2 === 1) sum += (b[b.length - 1] as number) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** An ARP packet; a request that asks for its own address announces the sender (RFC 5227). */
export function arpPacket(o: { op: 1 | 2; sha: string; spa: string; tha?: string; tpa: string; dst?: string }): Packet {
  return {
    eth_dst: o.dst ?? BROADCAST,
    eth_src: o.sha,
    eth_type: ETH_ARP,
    arp_op: o.op,
    arp_sha: o.sha,
    arp_spa: o.spa,
    arp_tha: o.tha ?? '00:00:00:00:00:00',
    arp_tpa: o.tpa,
  };
}

/** What QEMU sends from a guest's address once it runs at its new host: a RARP request for itself (RFC 903). */
export function rarpPacket(mac: string): Packet {
  return {
    eth_dst: BROADCAST,
    eth_src: mac,
    eth_type: ETH_RARP,
    arp_op: 3,
    arp_sha: mac,
    arp_spa: '0.0.0.0',
    arp_tha: mac,
    arp_tpa: '0.0.0.0',
  };
}

/** Length on the wire without building the bytes; frames are at least 60 bytes long. */
export function frameLength(p: Packet): number {
  const headers =
    p.arp_op !== undefined
      ? 28
      : p.tcp_src !== undefined
        ? 40
        : p.udp_src !== undefined
          ? 28
          : p.icmpv4_type !== undefined
            ? 24
            : p.ipv4_src !== undefined
              ? 20
              : 0;
  return Math.max(60, 14 + 4 * (p.vlans?.length ?? 0) + headers + (p.payload?.length ?? 0));
}
