/**
 * Builds captures for tests: TCP segments in the wrappings cli/dissect.ts knows, in files of the kinds cli/pcap.ts knows.
 */

export type Link = 'ethernet' | 'vlan' | 'qinq' | 'sll' | 'sll2' | 'raw' | 'null' | 'loop';
export const LINKS: readonly Link[] = ['ethernet', 'vlan', 'qinq', 'sll', 'sll2', 'raw', 'null', 'loop'];
const LINK_TYPES: Record<Link, number> = {
  ethernet: 1,
  vlan: 1,
  qinq: 1,
  sll: 113,
  sll2: 276,
  raw: 101,
  null: 0,
  loop: 108,
};

export interface TcpPacket {
  /** True for the direction from the switch (port 41000) to the controller. */
  readonly up?: boolean;
  readonly seq: number;
  readonly ack?: number;
  /** Of S, A, F, R. */
  readonly flags?: string;
  readonly payload?: Buffer;
  /** Bytes missing at the end of the captured packet. */
  readonly cut?: number;
}

export interface Wrapping {
  readonly link?: Link;
  readonly ipv6?: boolean;
  readonly port?: number;
  /** Port of the other side. */
  readonly clientPort?: number;
  readonly littleEndian?: boolean;
  /** IPv6 only: puts a hop-by-hop and a destination options header in front of TCP. */
  readonly extensions?: boolean;
}

const FLAGS: Record<string, number> = { F: 1, S: 2, R: 4, A: 16 };

/** One packet: link layer, IP and TCP around the payload. */
export function packet(p: TcpPacket, w: Wrapping = {}): Buffer {
  const { port = 6653, clientPort = 41000, ipv6 = false, link = 'ethernet' } = w;
  const up = p.up ?? true;
  const payload = p.payload ?? Buffer.alloc(0);
  // with an option, so that the header is longer than the least
  const tcp = Buffer.alloc(24);
  tcp.writeUInt16BE(up ? clientPort : port, 0);
  tcp.writeUInt16BE(up ? port : clientPort, 2);
  tcp.writeUInt32BE(p.seq >>> 0, 4);
  tcp.writeUInt32BE((p.ack ?? 0) >>> 0, 8);
  tcp[12] = 6 << 4;
  tcp[13] = [...(p.flags ?? 'A')].reduce((n, f) => n | (FLAGS[f] as number), 0);
  tcp.set([1, 1, 1, 0], 20);
  const segment = Buffer.concat([tcp, payload]);
  const ip = ipv6 ? ipv6Packet(segment, up, w.extensions ?? false) : ipv4Packet(segment, up);
  const type = ipv6 ? 0x86dd : 0x0800;
  const whole = linkHeader(link, type, ip, w.littleEndian ?? true);
  return whole.subarray(0, whole.length - (p.cut ?? 0));
}

function ipv4Packet(segment: Buffer, up: boolean): Buffer {
  const header = Buffer.alloc(20);
  header[0] = 0x45;
  header.writeUInt16BE(20 + segment.length, 2);
  header[8] = 64;
  header[9] = 6;
  header.set(up ? [10, 0, 0, 1] : [10, 0, 0, 2], 12);
  header.set(up ? [10, 0, 0, 2] : [10, 0, 0, 1], 16);
  return Buffer.concat([header, segment]);
}

function ipv6Packet(segment: Buffer, up: boolean, extensions: boolean): Buffer {
  const header = Buffer.alloc(40);
  header[0] = 0x60;
  header[7] = 64;
  header.set([0xfd, 0, up ? 1 : 2], 8);
  header[23] = up ? 1 : 2;
  header.set([0xfd, 0, up ? 2 : 1], 24);
  header[39] = up ? 2 : 1;
  const between = extensions
    ? Buffer.from('3c00010400000000' + '0601010c000000000000000000000000', 'hex')
    : Buffer.alloc(0);
  header[6] = extensions ? 0 : 6;
  header.writeUInt16BE(between.length + segment.length, 4);
  return Buffer.concat([header, between, segment]);
}

function linkHeader(link: Link, type: number, ip: Buffer, littleEndian: boolean): Buffer {
  const word = (...n: number[]) => Buffer.from(n.flatMap((v) => [v >> 8, v & 255]));
  const macs = Buffer.from('020000000002020000000001', 'hex');
  const frame = (...parts: Buffer[]): Buffer => {
    const all = Buffer.concat([...parts, ip]);
    // short frames are padded, and that is no payload
    return all.length < 60 ? Buffer.concat([all, Buffer.alloc(60 - all.length, 0xee)]) : all;
  };
  switch (link) {
    case 'ethernet':
      return frame(macs, word(type));
    case 'vlan':
      return frame(macs, word(0x8100, 5, type));
    case 'qinq':
      return frame(macs, word(0x88a8, 5, 0x8100, 6, type));
    case 'sll':
      return Buffer.concat([word(0, 1, 6, 0, 0, 0, 0, type), ip]);
    case 'sll2':
      return Buffer.concat([word(type, 0, 0, 1, 1, 6), Buffer.alloc(8), ip]);
    case 'raw':
      return ip;
    default: {
      const family = Buffer.alloc(4);
      const value = type === 0x0800 ? 2 : 30;
      if (link === 'null' && littleEndian) family.writeUInt32LE(value);
      else family.writeUInt32BE(value);
      return Buffer.concat([family, ip]);
    }
  }
}

export type FileKind = 'pcap' | 'pcap-ns' | 'pcap-modified' | 'pcapng' | 'pcapng-simple' | 'pcapng-old';
export const FILE_KINDS: readonly FileKind[] = [
  'pcap',
  'pcap-ns',
  'pcap-modified',
  'pcapng',
  'pcapng-simple',
  'pcapng-old',
];

/** Seconds and nanoseconds of the packet with number `i`, from 0. */
export const TIME = (i: number): bigint => 1_700_000_000_000_000_000n + BigInt(i) * 1_000_001_000n;

/** A capture file. `cut[i]` bytes are missing of packet `i`. */
export function captureFile(
  packets: readonly Buffer[],
  link: Link = 'ethernet',
  kind: FileKind = 'pcap',
  littleEndian = true,
  cut: readonly number[] = [],
): Buffer {
  const u16 = (n: number) => {
    const b = Buffer.alloc(2);
    if (littleEndian) b.writeUInt16LE(n);
    else b.writeUInt16BE(n);
    return b;
  };
  const u32 = (n: number) => {
    const b = Buffer.alloc(4);
    if (littleEndian) b.writeUInt32LE(n);
    else b.writeUInt32BE(n);
    return b;
  };
  const wire = (i: number) => (packets[i] as Buffer).length + (cut[i] ?? 0);
  if (kind.startsWith('pcap-') || kind === 'pcap') {
    const magic = kind === 'pcap' ? 0xa1b2c3d4 : kind === 'pcap-ns' ? 0xa1b23c4d : 0xa1b2cd34;
    const unit = kind === 'pcap-ns' ? 1n : 1000n;
    return Buffer.concat([
      Buffer.concat([u32(magic), u16(2), u16(4), u32(0), u32(0), u32(65535), u32(LINK_TYPES[link])]),
      ...packets.map((p, i) => {
        const t = TIME(i);
        const head = [
          u32(Number(t / 1_000_000_000n)),
          u32(Number((t % 1_000_000_000n) / unit)),
          u32(p.length),
          u32(wire(i)),
        ];
        const extra = kind === 'pcap-modified' ? Buffer.alloc(8) : Buffer.alloc(0);
        return Buffer.concat([...head, extra, p]);
      }),
    ]);
  }
  const block = (type: number, body: Buffer) => {
    const padded = Buffer.concat([body, Buffer.alloc((4 - (body.length & 3)) & 3)]);
    const length = u32(12 + padded.length);
    return Buffer.concat([u32(type), length, padded, length]);
  };
  const section = block(0x0a0d0d0a, Buffer.concat([u32(0x1a2b3c4d), u16(1), u16(0), Buffer.alloc(8, 0xff)]));
  // name resolution and statistics: to be passed over
  const other = block(4, Buffer.alloc(7));
  // nanoseconds, end of options
  const options = Buffer.concat([u16(9), u16(1), Buffer.from([9, 0, 0, 0]), u16(0), u16(0)]);
  const description = block(1, Buffer.concat([u16(LINK_TYPES[link]), u16(0), u32(0), options]));
  const blocks = packets.map((p, i) => {
    if (kind === 'pcapng-simple') return block(3, Buffer.concat([u32(p.length), p]));
    const time = [u32(Number(TIME(i) >> 32n)), u32(Number(TIME(i) & 0xffffffffn)), u32(p.length), u32(wire(i))];
    if (kind === 'pcapng-old') return block(2, Buffer.concat([u16(0), u16(0), ...time, p]));
    return block(6, Buffer.concat([u32(0), ...time, p]));
  });
  return Buffer.concat([section, description, other, ...blocks.flatMap((b) => [b, other])]);
}

/** A connection that carries `up` and `down`, segments of `size` bytes, with handshake and end. */
export function conversation(up: Buffer, down: Buffer, size = 1000, isn = 0xfffffff0): TcpPacket[] {
  const peer = 77;
  const out: TcpPacket[] = [
    { up: true, seq: isn, flags: 'S' },
    { up: false, seq: peer, ack: isn + 1, flags: 'SA' },
    { up: true, seq: isn + 1, ack: peer + 1 },
  ];
  let sent = 0;
  let received = 0;
  while (sent < up.length || received < down.length) {
    if (sent < up.length) {
      const payload = up.subarray(sent, sent + size);
      out.push({ up: true, seq: isn + 1 + sent, ack: peer + 1 + received, payload });
      sent += payload.length;
    }
    if (received < down.length) {
      const payload = down.subarray(received, received + size);
      out.push({ up: false, seq: peer + 1 + received, ack: isn + 1 + sent, payload });
      received += payload.length;
    }
  }
  out.push({ up: true, seq: isn + 1 + sent, ack: peer + 1 + received, flags: 'FA' });
  out.push({ up: false, seq: peer + 1 + received, ack: isn + 2 + sent, flags: 'FA' });
  out.push({ up: true, seq: isn + 2 + sent, ack: peer + 2 + received });
  return out;
}
