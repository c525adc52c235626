/**
 * Joins TCP segments to streams, one for each direction of each connection, and cuts those that speak OpenFlow into
 * messages (cutter.ts). Segments come from dissect.ts. Memory is bounded: what waits for a missing segment, and the
 * number of connections remembered.
 */
import { type Beginning, bytesText, Cutter } from './cutter.ts';
import { dissect, linkTypeKnown, type Segment, TCP } from './dissect.ts';
import { append, type Item, type Place, problem } from './items.ts';
import type { Packet } from './pcap.ts';

/** Ports on which every stream is taken for OpenFlow: the two that were assigned, and Open vSwitch's monitoring port. */
export const DEFAULT_PORTS: readonly number[] = [6633, 6653, 16640];

/** Bytes and segments that may wait for a missing one before it counts as lost. */
const MAX_WAITING_BYTES = 1024 * 1024;
const MAX_WAITING_SEGMENTS = 2048;
/** Segments to wait for one that the receiver has acknowledged: captures may be out of order by a few. */
const LATE_SEGMENTS = 32;
const MAX_CONNECTIONS = 4096;
/** The same for all connections together. */
const MAX_ALL_WAITING_BYTES = 64 * 1024 * 1024;
/** Connections looked at for one that can be forgotten without loss. */
const MAX_LOOK = 1000;

interface Waiting {
  /** Position in the stream. */
  readonly at: number;
  readonly bytes: Buffer;
  readonly place: Place;
}

/** One direction of a connection. */
class Direction {
  readonly #cutter: Cutter;
  readonly #stream: string;
  readonly #all: { waitingBytes: number };
  #begun = false;
  /** Whether the beginning of the stream was captured. */
  #fromStart = false;
  /** Sequence number and position of the next byte. */
  #nextSeq = 0;
  #position = 0;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  /** Highest position the receiver has acknowledged. */
  #acknowledged = 0;
  #late = 0;
  #finAt: number | undefined;
  #cutShort = false;
  #before = false;
  #last: Place = { offset: 0 };

  /** `all` counts the bytes that wait in all directions of all connections. */
  constructor(beginning: Beginning, stream: string, all: { waitingBytes: number }) {
    this.#cutter = new Cutter(beginning);
    this.#stream = stream;
    this.#all = all;
  }

  get accepted(): boolean {
    return this.#cutter.accepted;
  }

  get finished(): boolean {
    return this.#finAt !== undefined && this.#position >= this.#finAt;
  }

  /** Whether a SYN with this sequence number begins another connection than the one at hand. */
  isOther(seq: number): boolean {
    return this.#begun && !(this.#fromStart && ((seq + 1 - (this.#nextSeq - this.#position)) | 0) === 0);
  }

  syn(seq: number): void {
    if (this.#begun) return;
    this.#begun = true;
    this.#fromStart = true;
    this.#nextSeq = (seq + 1) >>> 0;
  }

  data(seq: number, payload: Buffer, place: Place, cutShort: boolean): Item[] {
    this.#last = place;
    if (cutShort) this.#cutShort = true;
    if (payload.length === 0 || this.#cutter.ignored) return [];
    if (!this.#begun) {
      this.#begun = true;
      this.#nextSeq = seq;
    }
    const ahead = (seq - this.#nextSeq) | 0;
    if (ahead > 0) return this.#wait(this.#position + ahead, payload, place);
    if (!this.#fromStart && this.#position + ahead < 0) {
      // one byte is what keeps idle connections alive
      return payload.length === 1 ? [] : this.#early(place);
    }
    const old = -ahead;
    if (old >= payload.length) return [];
    const out = this.#deliver(payload.subarray(old), old === 0 ? place : shift(place, old));
    this.#drain(out);
    return out;
  }

  /** The receiver has told that it has everything before `ack`. */
  acknowledged(ack: number): Item[] {
    if (!this.#begun || this.#cutter.ignored) return [];
    const ahead = (ack - this.#nextSeq) | 0;
    if (ahead <= 0) return [];
    this.#acknowledged = Math.max(this.#acknowledged, this.#position + ahead);
    const [first] = this.#waiting;
    if (first === undefined || this.#acknowledged < first.at || ++this.#late < LATE_SEGMENTS) return [];
    return this.#giveUp();
  }

  fin(seqAfter: number): void {
    if (this.#begun) this.#finAt = this.#position + ((seqAfter - this.#nextSeq) | 0);
  }

  /** Nothing more will come. */
  end(): Item[] {
    const out: Item[] = [];
    while (this.#waiting.length > 0) append(out, this.#giveUp());
    const until = this.#finAt ?? this.#acknowledged - 1;
    const missing = until - this.#position;
    // the acknowledgement of a FIN that was not captured counts one
    if (this.#begun && missing > 0 && !this.#cutter.ignored) {
      const lost = this.#finAt === undefined ? missing + 1 : missing;
      append(out, this.#cutter.gap({ ...this.#last, stream: this.#stream }, this.#lost(lost)));
    }
    append(out, this.#cutter.end());
    return out;
  }

  #deliver(bytes: Buffer, place: Place): Item[] {
    this.#position += bytes.length;
    this.#nextSeq = (this.#nextSeq + bytes.length) >>> 0;
    this.#late = 0;
    return this.#cutter.push(bytes, place, true);
  }

  /** Bytes before those that were taken for the first of the stream. */
  #early(place: Place): Item[] {
    if (this.#before || !this.#cutter.accepted) return [];
    this.#before = true;
    return [problem(place, 'bytes from before the first segment of this stream in the capture: not read')];
  }

  #wait(at: number, bytes: Buffer, place: Place): Item[] {
    let i = this.#waiting.length;
    while (i > 0 && (this.#waiting[i - 1] as Waiting).at > at) i--;
    const before = this.#waiting[i - 1];
    // a retransmission of what waits already
    if (before !== undefined && before.at + before.bytes.length >= at + bytes.length) return [];
    this.#waiting.splice(i, 0, { at, bytes: Buffer.from(bytes), place });
    this.#waitingBytes += bytes.length;
    this.#all.waitingBytes += bytes.length;
    const out: Item[] = [];
    while (
      this.#waiting.length > 0 &&
      (this.#waitingBytes > MAX_WAITING_BYTES ||
        this.#waiting.length > MAX_WAITING_SEGMENTS ||
        this.#all.waitingBytes > MAX_ALL_WAITING_BYTES)
    ) {
      append(out, this.#giveUp());
    }
    return out;
  }

  #drain(out: Item[]): void {
    let n = 0;
    for (; n < this.#waiting.length; n++) {
      const { at, bytes, place } = this.#waiting[n] as Waiting;
      const old = this.#position - at;
      if (old < 0) break;
      this.#waitingBytes -= bytes.length;
      this.#all.waitingBytes -= bytes.length;
      if (old < bytes.length) append(out, this.#deliver(bytes.subarray(old), shift(place, old)));
    }
    if (n > 0) this.#waiting.splice(0, n);
  }

  /** Goes on behind the hole before the first segment that waits. */
  #giveUp(): Item[] {
    const [first] = this.#waiting;
    if (first === undefined) return [];
    const missing = first.at - this.#position;
    const out = this.#cutter.gap(first.place, this.#lost(missing));
    this.#position = first.at;
    this.#nextSeq = (this.#nextSeq + missing) >>> 0;
    this.#drain(out);
    return out;
  }

  #lost(n: number): string {
    const cause = this.#cutShort ? ' (packets were cut short when they were captured)' : '';
    return `${bytesText(n)} of the stream missing in the capture${cause}`;
  }
}

function shift(place: Place, by: number): Place {
  return by === 0 ? place : { ...place, offset: place.offset + by };
}

interface Connection {
  /** By the side that sends: first the one whose packet was seen first. */
  readonly directions: readonly [Direction, Direction];
  readonly first: string;
  closed: boolean;
}

export interface TcpOptions {
  /** Ports on which every stream is taken for OpenFlow; other streams only if they begin with a hello. */
  readonly ports?: readonly number[] | undefined;
}

export class TcpStreams {
  readonly #ports: ReadonlySet<number>;
  readonly #connections = new Map<string, Connection>();
  readonly #all = { waitingBytes: 0 };
  readonly #unknownLinkTypes = new Set<number>();
  #fragments: { first: Place; count: number } | undefined;

  constructor(options: TcpOptions = {}) {
    this.#ports = new Set(options.ports ?? DEFAULT_PORTS);
  }

  push(packet: Packet): Item[] {
    const where: Place = { offset: packet.offset, packet: packet.number, timeNs: packet.timeNs };
    if (!linkTypeKnown(packet.linkType)) {
      if (this.#unknownLinkTypes.has(packet.linkType)) return [];
      this.#unknownLinkTypes.add(packet.linkType);
      return [problem(where, `packets of link type ${packet.linkType} cannot be read`)];
    }
    const segment = dissect(packet.bytes, packet.linkType, packet.littleEndian);
    if (segment === undefined) return [];
    if (segment === 'fragment') {
      this.#fragments ??= { first: where, count: 0 };
      this.#fragments.count++;
      return [];
    }
    return this.#segment(segment, where);
  }

  /** The capture is over. */
  end(): Item[] {
    const out: Item[] = [];
    for (const c of this.#connections.values()) append(out, close(c));
    this.#connections.clear();
    if (this.#fragments !== undefined) {
      const { first, count } = this.#fragments;
      out.push(
        problem(first, `${count} fragments of IP packets with TCP in them, from here on: fragments are not joined`),
      );
    }
    return out;
  }

  #segment(s: Segment, where: Place): Item[] {
    const from = `${s.src.toString('latin1')}${s.srcPort}`;
    const to = `${s.dst.toString('latin1')}${s.dstPort}`;
    const key = from < to ? `${from}|${to}` : `${to}|${from}`;
    let c = this.#connections.get(key);
    const out: Item[] = [];
    const syn = (s.flags & TCP.SYN) !== 0;
    if (c !== undefined && syn) {
      const mine = c.directions[c.first === from ? 0 : 1];
      if ((s.flags & TCP.ACK) === 0 ? c.closed || mine.isOther(s.seq) : mine.isOther(s.seq)) {
        append(out, close(c));
        this.#connections.delete(key);
        c = undefined;
      }
    }
    if (c === undefined) {
      if (!syn && s.payload.length === 0) return out;
      c = this.#open(s, from);
      this.#connections.set(key, c);
      if (this.#connections.size > MAX_CONNECTIONS) append(out, this.#forget());
    }
    if (c.closed) return out;
    const side = c.first === from ? 0 : 1;
    const mine = c.directions[side];
    const other = c.directions[1 - side] as Direction;
    const place: Place = { ...where, offset: where.offset + s.payloadAt, stream: streamText(s) };
    if (syn) mine.syn(s.seq);
    const seq = syn ? (s.seq + 1) >>> 0 : s.seq;
    append(out, mine.data(seq, s.payload, place, s.missing > 0));
    if ((s.flags & TCP.ACK) !== 0) append(out, other.acknowledged(s.ack));
    if ((s.flags & TCP.FIN) !== 0) mine.fin((seq + s.payload.length + s.missing) >>> 0);
    if ((s.flags & TCP.RST) !== 0 || (mine.finished && other.finished)) {
      append(out, close(c));
      c.closed = true;
    }
    return out;
  }

  #open(s: Segment, first: string): Connection {
    const known = this.#ports.has(s.srcPort) || this.#ports.has(s.dstPort);
    const beginning: Beginning = known ? 'plausible' : 'hello';
    const back = { ...s, src: s.dst, dst: s.src, srcPort: s.dstPort, dstPort: s.srcPort };
    const directions = [
      new Direction(beginning, streamText(s), this.#all),
      new Direction(beginning, streamText(back), this.#all),
    ] as const;
    return { directions, first, closed: false };
  }

  /** Makes room: for connections of other protocols first. */
  #forget(): Item[] {
    let oldest: string | undefined;
    let looked = 0;
    for (const [key, c] of this.#connections) {
      oldest ??= key;
      if (++looked > MAX_LOOK) break;
      if (!c.closed && c.directions.some((d) => d.accepted)) continue;
      oldest = key;
      break;
    }
    if (oldest === undefined) return [];
    const c = this.#connections.get(oldest) as Connection;
    this.#connections.delete(oldest);
    return close(c);
  }
}

function close(c: Connection): Item[] {
  return c.closed ? [] : c.directions.flatMap((d) => d.end());
}

function streamText(s: Segment): string {
  return `${addressText(s.src, s.srcPort)} > ${addressText(s.dst, s.dstPort)}`;
}

function addressText(address: Buffer, port: number): string {
  if (address.length === 4) return `${address.join('.')}:${port}`;
  const words: string[] = [];
  for (let i = 0; i < 16; i += 2) words.push(address.readUInt16BE(i).toString(16));
  // the longest run of zeros becomes ::
  const runs = [...words.join(':').matchAll(/(?:^|:)0(?::0)+(?=:|$)/g)].sort((a, b) => b[0].length - a[0].length);
  const text = words.join(':');
  const [longest] = runs;
  const short =
    longest === undefined
      ? text
      : `${text.slice(0, longest.index)}::${text.slice(longest.index + longest[0].length).replace(/^:/, '')}`;
  return `[${short}]:${port}`;
}
