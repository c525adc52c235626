/**
 * Reads captures: classic pcap (both byte orders, microseconds and nanoseconds) and pcapng. It hands on packets as they
 * were captured; tcp.ts knows what is in them. Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
 */
import { ByteQueue } from './byteQueue.ts';
import { type Problem, problem } from './items.ts';

/** One captured packet. `bytes` is a view that holds until the reader is given more. */
export interface Packet {
  readonly kind: 'packet';
  /** From 1, in the order of the file. */
  readonly number: number;
  /** Link-layer type, by its number in the registry of tcpdump.org. */
  readonly linkType: number;
  /** Byte order of the machine that captured, which loopback headers have. */
  readonly littleEndian: boolean;
  readonly timeNs: bigint | undefined;
  readonly bytes: Buffer;
  /** Bytes the packet had on the wire. */
  readonly wireLength: number;
  /** Offset of `bytes` in the file. */
  readonly offset: number;
}

/** Longest record taken for one: packets are much shorter, broken files tell anything. */
const MAX_RECORD = 16 * 1024 * 1024;

const PCAPNG = 0x0a0d0d0a;
/** Magic numbers of classic pcap, as read in big-endian order, with the nanoseconds of a unit of its second time field. */
const CLASSIC = new Map<number, { little: boolean; unitNs: bigint; extra: number }>([
  [0xa1b2c3d4, { little: false, unitNs: 1000n, extra: 0 }],
  [0xd4c3b2a1, { little: true, unitNs: 1000n, extra: 0 }],
  [0xa1b23c4d, { little: false, unitNs: 1n, extra: 0 }],
  [0x4d3cb2a1, { little: true, unitNs: 1n, extra: 0 }],
  // "modified" pcap: 8 more bytes in each record's header
  [0xa1b2cd34, { little: false, unitNs: 1000n, extra: 8 }],
  [0x34cdb2a1, { little: true, unitNs: 1000n, extra: 8 }],
]);

/** Whether a file that begins with these bytes is a capture; needs four of them. */
export function isCapture(b: Buffer): boolean {
  if (b.length < 4) return false;
  const magic = b.readUInt32BE(0);
  return magic === PCAPNG || CLASSIC.has(magic);
}

interface Interface {
  readonly linkType: number;
  readonly snapLength: number;
  /** Time units per second. */
  readonly unitsPerSecond: bigint;
  readonly offsetSeconds: bigint;
}

const BLOCK = { section: PCAPNG, interface: 1, packet: 2, simplePacket: 3, enhancedPacket: 6 } as const;
const SECOND_NS = 1_000_000_000n;

/** Takes a capture in pieces of any size. After a broken record nothing more can be read: the rest is counted. */
export class CaptureReader {
  readonly #queue = new ByteQueue();
  #format: 'unknown' | 'classic' | 'pcapng' | 'broken' = 'unknown';
  #little = false;
  #unitNs = 1000n;
  #recordHeader = 16;
  #linkType = 0;
  #number = 0;
  #interfaces: Interface[] = [];
  #toSkip = 0;
  #broken: Problem | undefined;

  push(piece: Buffer): (Packet | Problem)[] {
    this.#queue.append(piece);
    const out: (Packet | Problem)[] = [];
    for (;;) {
      if (this.#toSkip > 0) {
        const n = Math.min(this.#toSkip, this.#queue.length);
        this.#queue.take(n);
        this.#toSkip -= n;
        if (this.#toSkip > 0) return out;
      }
      if (this.#format === 'broken') {
        this.#queue.take(this.#queue.length);
        return out;
      }
      const more =
        this.#format === 'unknown' ? this.#begin() : this.#format === 'classic' ? this.#record(out) : this.#block(out);
      if (!more) return out;
    }
  }

  /** The file is over. */
  end(): Problem[] {
    const at = this.#queue.position;
    if (this.#broken !== undefined) {
      const rest = at - this.#broken.place.offset;
      return [problem(this.#broken.place, `${this.#broken.reason}; the last ${rest} bytes of the file were not read`)];
    }
    const left = this.#queue.length;
    if (this.#format === 'unknown') {
      return left === 0 ? [] : [problem({ offset: 0 }, `capture cut short: its file header is incomplete`)];
    }
    if (left > 0 || this.#toSkip > 0) {
      return [
        problem({ offset: at }, `capture cut short: the last record is incomplete (${left} bytes of it are there)`),
      ];
    }
    return [];
  }

  #u16(b: Buffer, at: number): number {
    return this.#little ? b.readUInt16LE(at) : b.readUInt16BE(at);
  }

  #u32(b: Buffer, at: number): number {
    return this.#little ? b.readUInt32LE(at) : b.readUInt32BE(at);
  }

  #fail(reason: string): boolean {
    this.#broken = problem({ offset: this.#queue.position }, reason);
    this.#format = 'broken';
    return true;
  }

  #begin(): boolean {
    const b = this.#queue.view;
    if (b.length < 4) return false;
    const magic = b.readUInt32BE(0);
    if (magic === PCAPNG) {
      this.#format = 'pcapng';
      return true;
    }
    const classic = CLASSIC.get(magic);
    if (classic === undefined) return this.#fail(`neither pcap nor pcapng: it begins with ${b.toString('hex', 0, 4)}`);
    if (b.length < 24) return false;
    this.#little = classic.little;
    this.#unitNs = classic.unitNs;
    this.#recordHeader = 16 + classic.extra;
    // the upper bits tell about frame check sequences
    this.#linkType = this.#u32(b, 20) & 0xffff;
    this.#format = 'classic';
    this.#queue.take(24);
    return true;
  }

  #record(out: (Packet | Problem)[]): boolean {
    const b = this.#queue.view;
    const header = this.#recordHeader;
    if (b.length < 16) return false;
    const length = this.#u32(b, 8);
    if (length > MAX_RECORD) return this.#fail(`a record tells ${length} bytes: the file is damaged here`);
    if (b.length < header + length) return false;
    out.push({
      kind: 'packet',
      number: ++this.#number,
      linkType: this.#linkType,
      littleEndian: this.#little,
      timeNs: BigInt(this.#u32(b, 0)) * SECOND_NS + BigInt(this.#u32(b, 4)) * this.#unitNs,
      bytes: b.subarray(header, header + length),
      wireLength: this.#u32(b, 12),
      offset: this.#queue.position + header,
    });
    this.#queue.take(header + length);
    return true;
  }

  #block(out: (Packet | Problem)[]): boolean {
    const b = this.#queue.view;
    if (b.length < 12) return false;
    // the same in both byte orders, because it says which one follows
    if (b.readUInt32BE(0) === BLOCK.section) {
      const order = b.readUInt32BE(8);
      if (order !== 0x1a2b3c4d && order !== 0x4d3c2b1a) {
        return this.#fail(`a section without a byte order: ${order.toString(16).padStart(8, '0')}`);
      }
      this.#little = order === 0x4d3c2b1a;
      this.#interfaces = [];
    }
    const type = this.#u32(b, 0);
    const length = this.#u32(b, 4);
    if (length < 12 || length % 4 !== 0) return this.#fail(`a block tells ${length} bytes: the file is damaged here`);
    const wanted =
      type === BLOCK.interface || type === BLOCK.packet || type === BLOCK.simplePacket || type === BLOCK.enhancedPacket;
    if (!wanted) {
      this.#toSkip = length;
      return true;
    }
    if (length > MAX_RECORD) return this.#fail(`a block tells ${length} bytes: the file is damaged here`);
    if (b.length < length) return false;
    if (this.#u32(b, length - 4) !== length) {
      return this.#fail(`a block tells ${length} bytes at its beginning and ${this.#u32(b, length - 4)} at its end`);
    }
    const body = b.subarray(8, length - 4);
    if (type === BLOCK.interface) this.#interface(body, out);
    else this.#packet(type, body, out);
    this.#queue.take(length);
    return true;
  }

  #interface(body: Buffer, out: (Packet | Problem)[]): void {
    if (body.length < 8) {
      out.push(problem({ offset: this.#queue.position }, 'an interface block is cut short'));
      // interfaces are counted: the next one must keep its number
      this.#interfaces.push({ linkType: -1, snapLength: 0, unitsPerSecond: 1_000_000n, offsetSeconds: 0n });
      return;
    }
    let unitsPerSecond = 1_000_000n;
    let offsetSeconds = 0n;
    for (let at = 8; at + 4 <= body.length; ) {
      const option = this.#u16(body, at);
      const length = this.#u16(body, at + 2);
      at += 4;
      if (option === 0 || at + length > body.length) break;
      if (option === 9 && length >= 1) {
        const resolution = body[at] as number;
        // 2 or 10 to a power; more than 64 bits of fraction is no clock
        const power = Math.min(resolution & 0x7f, 63);
        unitsPerSecond = (resolution & 0x80) !== 0 ? 2n ** BigInt(power) : 10n ** BigInt(Math.min(power, 19));
      } else if (option === 14 && length >= 8) {
        offsetSeconds = this.#little ? body.readBigInt64LE(at) : body.readBigInt64BE(at);
      }
      at += (length + 3) & ~3;
    }
    this.#interfaces.push({
      linkType: this.#u16(body, 0),
      snapLength: this.#u32(body, 4),
      unitsPerSecond,
      offsetSeconds,
    });
  }

  #packet(type: number, body: Buffer, out: (Packet | Problem)[]): void {
    const number = ++this.#number;
    const position = this.#queue.position;
    const simple = type === BLOCK.simplePacket;
    const header = simple ? 4 : 20;
    if (body.length < header) {
      out.push(problem({ offset: position, packet: number }, 'a packet block is cut short'));
      return;
    }
    const index = simple ? 0 : type === BLOCK.packet ? this.#u16(body, 0) : this.#u32(body, 0);
    const from = this.#interfaces[index];
    if (from === undefined) {
      out.push(
        problem({ offset: position, packet: number }, `a packet of interface ${index}, which was not described`),
      );
      return;
    }
    const wireLength = this.#u32(body, simple ? 0 : 16);
    let length = simple
      ? Math.min(wireLength, from.snapLength === 0 ? wireLength : from.snapLength)
      : this.#u32(body, 12);
    if (length > body.length - header) {
      out.push(problem({ offset: position, packet: number }, `a packet of ${length} bytes in a shorter block`));
      length = body.length - header;
    }
    let timeNs: bigint | undefined;
    if (!simple) {
      const units = (BigInt(this.#u32(body, 4)) << 32n) | BigInt(this.#u32(body, 8));
      timeNs = (units * SECOND_NS) / from.unitsPerSecond + from.offsetSeconds * SECOND_NS;
    }
    out.push({
      kind: 'packet',
      number,
      linkType: from.linkType,
      littleEndian: this.#little,
      timeNs,
      bytes: body.subarray(header, header + length),
      wireLength,
      offset: position + 8 + header,
    });
  }
}
