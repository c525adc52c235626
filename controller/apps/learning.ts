/**
 * The learning switch, one per datapath: packet-ins in, flow-mods and packet-outs out, all of them bytes. It is an
 * application of its own beside Fairway's core and knows nothing of it; `controller/io/learning.ts` gives it connections.
 * Packet-ins are most of what a controller of this kind ever reads, so they are read, and answered, in place: in OpenFlow
 * 1.0, 1.3, 1.4 and 1.5 their few fields lie where the specifications put them, and what is sent differs from one answer to the
 * next in a handful of bytes of a template that node-openflow wrote.
 */
import { encode, type OfMessage, of10, of13, of14, of15, ofproto_v1_3 as ofp, ofproto_v1_0 } from 'node-openflow';

export const LEARNING_VERSIONS = [1, 4, 5, 6] as const;
export type LearningVersion = (typeof LEARNING_VERSIONS)[number];

export interface LearningOptions {
  readonly version: LearningVersion;
  /** Packets the switch can keep for a packet-in, as it says in its features. */
  readonly nBuffers: number;
  /** A flow that nothing used for so long goes, in seconds. Default 60. */
  readonly idleTimeoutS?: number;
  /**
   * Addresses to know at most, 1 or more; for a new one the oldest is forgotten that nothing was sent to meanwhile. Default 65,536.
   */
  readonly maxAddresses?: number;
  /** A number that senders do not know, so that they cannot choose addresses that are slow to find. Default 0x9e3779b1. */
  readonly seed?: number;
}

export interface LearningCounters {
  /** Packet-ins that were answered, or rightly not. */
  packetIns: number;
  flowMods: number;
  packetOuts: number;
  /** Packets that could not be sent on: the switch neither kept them nor sent all of them. */
  truncated: number;
}

/** Marks the flows of this application, so that it takes away no others; OpenFlow 1.0 cannot delete by it. */
export const LEARNING_COOKIE = 0x6c6561726en;
const COOKIE_MASK = 0xffff_ffff_ffff_ffffn;
const FLOW_PRIORITY = 100;
/** What a switch that keeps packets is asked to send of one: enough for the addresses. */
const BUFFERED_BYTES = 128;
const NO_BUFFER = 0xffff_ffff;
const PACKET_IN = 10;
const OXM_IN_PORT = 0x80000004;
/** Where the output of a burst is collected, and the longest answer to one packet-in: a whole packet and what is around it. */
const SLAB_BYTES = 256 * 1024;
const MOST_BYTES = 65_535;

/** Places in the templates that differ from one answer to the next. OpenFlow 1.0.0 §5.2.3, 5.3.3; 1.3.5 §7.2.2–7.2.4, 7.3.4.2. */
interface Places {
  readonly flowMod: Readonly<Record<'inPort' | 'ethDst' | 'ethSrc' | 'buffer' | 'outPort', number>>;
  readonly packetOut: Readonly<Record<'buffer' | 'inPort' | 'outPort', number>>;
  /** Bytes of a port number. */
  readonly portBytes: 2 | 4;
}
const PLACES_10: Places = {
  flowMod: { inPort: 12, ethSrc: 14, ethDst: 20, buffer: 64, outPort: 76 },
  packetOut: { buffer: 8, inPort: 12, outPort: 20 },
  portBytes: 2,
};
const PLACES_13: Places = {
  flowMod: { buffer: 32, inPort: 56, ethDst: 64, ethSrc: 74, outPort: 92 },
  packetOut: { buffer: 8, inPort: 12, outPort: 28 },
  portBytes: 4,
};
/** A packet-out of 1.5 says where the packet came from in a match. OpenFlow 1.5.1 §7.3.6. */
const PLACES_15: Places = { ...PLACES_13, packetOut: { buffer: 8, inPort: 24, outPort: 36 } };

interface Templates {
  readonly places: Places;
  /** Sends packets from a port and a source to a destination out of a port. */
  readonly flow: Buffer;
  /** The same match without an action: the destination is where the packet came from. */
  readonly drop: Buffer;
  readonly out: Buffer;
  readonly flood: number;
}

function templates10(idleTimeoutS: number): Templates {
  const zero = '00:00:00:00:00:00';
  const flowMod = (actions: ReturnType<typeof of10.OFPActionOutput>[]) =>
    of10.OFPFlowMod({
      match: of10.OFPMatch({ in_port: 0, dl_src: zero, dl_dst: zero }),
      cookie: LEARNING_COOKIE,
      command: ofproto_v1_0.OFPFC_ADD,
      idle_timeout: idleTimeoutS,
      priority: FLOW_PRIORITY,
      actions,
    });
  const output = of10.OFPActionOutput({ port: 0, max_len: 0 });
  return {
    places: PLACES_10,
    flow: bytes(flowMod([output])),
    drop: bytes(flowMod([])),
    out: bytes(of10.OFPPacketOut({ buffer_id: 0, in_port: 0, actions: [output], data: Buffer.alloc(0) })),
    flood: ofproto_v1_0.OFPP_FLOOD,
  };
}

/** 1.3, and 1.4 and 1.5, which put other names on padding, and another packet-out in 1.5. */
function templates13(version: 4 | 5 | 6, idleTimeoutS: number): Templates {
  const zero = '00:00:00:00:00:00';
  const of = { 4: of13, 5: of14, 6: of15 }[version] as typeof of13;
  const output = of.OFPActionOutput({ port: 0, max_len: 0 });
  const flowMod = (hasOutput: boolean) =>
    of.OFPFlowMod({
      match: of.OFPMatch({ in_port: 0, eth_dst: zero, eth_src: zero }),
      cookie: LEARNING_COOKIE,
      idle_timeout: idleTimeoutS,
      priority: FLOW_PRIORITY,
      instructions: hasOutput ? [of.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions: [output] })] : [],
    });
  const out =
    version === 6
      ? of15.OFPPacketOut({
          buffer_id: 0,
          match: of15.OFPMatch({ in_port: 0 }),
          actions: [of15.OFPActionOutput({ port: 0, max_len: 0 })],
          data: Buffer.alloc(0),
        })
      : of.OFPPacketOut({ buffer_id: 0, in_port: 0, actions: [output], data: Buffer.alloc(0) });
  return {
    places: version === 6 ? PLACES_15 : PLACES_13,
    flow: bytes(flowMod(true)),
    drop: bytes(flowMod(false)),
    out: bytes(out),
    flood: ofp.OFPP_FLOOD,
  };
}

/** A copy of its own: what `encode` returns keeps a larger buffer alive. Transaction id 0 is no request's. */
const bytes = (message: OfMessage): Buffer => Buffer.from(encode(message, 0));

const macText = (high: number, low: number): string =>
  (high * 2 ** 32 + (low >>> 0))
    .toString(16)
    .padStart(12, '0')
    .replace(/(..)(?=.)/g, '$1:');

/** An address, as its upper 16 and its lower 32 bits (signed), and where it was last seen. */
interface Station {
  readonly high: number;
  readonly low: number;
  port: number;
  /** Something was sent to it since it was last spared. */
  isUsed: boolean;
  /** The next one of the same hash. */
  next: Station | undefined;
}

/**
 * The addresses of a switch. They are looked up twice for every packet-in, so they are found by a small integer, which is what the
 * engine is quickest at; who would like to have many addresses of one hash does not know the seed.
 */
class Stations {
  readonly #most: number;
  readonly #seed: number;
  readonly #byHash = new Map<number, Station>();
  /** In the order in which they came, but for those that took the place of one that was forgotten. */
  #ring: Station[] = [];
  /** The next one to be looked at when there are too many. */
  #hand = 0;

  constructor(most: number, seed: number) {
    this.#most = most;
    this.#seed = seed | 1;
  }

  get size(): number {
    return this.#ring.length;
  }

  #hash(high: number, low: number): number {
    return low ^ Math.imul(high + 1, this.#seed);
  }

  find(high: number, low: number): Station | undefined {
    let s = this.#byHash.get(this.#hash(high, low));
    while (s !== undefined && (s.low !== low || s.high !== high)) s = s.next;
    return s;
  }

  /** One that is not known yet. */
  add(high: number, low: number, port: number): void {
    const hash = this.#hash(high, low);
    let at = this.#ring.length;
    if (at >= this.#most) at = this.#forgetOne();
    this.#ring[at] = { high, low, port, isUsed: false, next: this.#byHash.get(hash) };
    this.#byHash.set(hash, this.#ring[at] as Station);
  }

  /** Second chance: a gateway that was learned first of all is not forgotten for the many that send to it. Answers the place that is free now. */
  #forgetOne(): number {
    for (;;) {
      const at = this.#hand;
      const s = this.#ring[at] as Station;
      this.#hand = (at + 1) % this.#ring.length;
      if (!s.isUsed) {
        this.#unlink(s);
        return at;
      }
      s.isUsed = false;
    }
  }

  /** Forgets who was last seen at a port. False: nobody was. */
  forgetPort(portNo: number): boolean {
    const stay = this.#ring.filter((s) => s.port !== portNo);
    if (stay.length === this.#ring.length) return false;
    this.#hand =
      stay.length === 0 ? 0 : this.#ring.slice(0, this.#hand).filter((s) => s.port !== portNo).length % stay.length;
    for (const s of this.#ring) if (s.port === portNo) this.#unlink(s);
    this.#ring = stay;
    return true;
  }

  #unlink(gone: Station): void {
    const hash = this.#hash(gone.high, gone.low);
    let s = this.#byHash.get(hash);
    if (s === gone) {
      if (gone.next === undefined) this.#byHash.delete(hash);
      else this.#byHash.set(hash, gone.next);
      return;
    }
    while (s !== undefined && s.next !== gone) s = s.next;
    if (s !== undefined) s.next = gone.next;
  }
}

export class LearningSwitch {
  readonly counters: LearningCounters = { packetIns: 0, flowMods: 0, packetOuts: 0, truncated: 0 };
  readonly #o: Required<LearningOptions>;
  readonly #t: Templates;
  readonly #stations: Stations;
  #slab = Buffer.alloc(0);
  #view = new DataView(this.#slab.buffer);
  #from = 0;
  #at = 0;

  constructor(options: LearningOptions) {
    const { maxAddresses = 65_536 } = options;
    this.#o = { idleTimeoutS: 60, seed: 0x9e3779b1, ...options, maxAddresses: Math.max(1, maxAddresses) };
    const { version, idleTimeoutS } = this.#o;
    this.#stations = new Stations(this.#o.maxAddresses, this.#o.seed);
    this.#t = version === 1 ? templates10(idleTimeoutS) : templates13(version, idleTimeoutS);
  }

  /** Addresses known. */
  get size(): number {
    return this.#stations.size;
  }

  /** The port an address was last seen at. `mac` as an integer of 48 bits. */
  portOf(mac: number): number | undefined {
    return this.#stations.find(Math.floor(mac / 2 ** 32), mac | 0)?.port;
  }

  /** What to send to a switch that has just connected: what no flow takes comes here, whole unless the switch keeps it. */
  setUp(): OfMessage[] {
    const { version, nBuffers } = this.#o;
    const length = nBuffers > 0 ? BUFFERED_BYTES : ofp.OFPCML_NO_BUFFER;
    if (version === 1) return [of10.OFPSetConfig({ flags: 0, miss_send_len: nBuffers > 0 ? BUFFERED_BYTES : 0xffff })];
    const of = { 4: of13, 5: of14, 6: of15 }[version] as typeof of13;
    const toUs = of.OFPActionOutput({ port: ofp.OFPP_CONTROLLER, max_len: length });
    return [
      of.OFPSetConfig({ flags: 0, miss_send_len: length }),
      of.OFPFlowMod({
        cookie: LEARNING_COOKIE,
        priority: 0,
        match: of.OFPMatch({}),
        instructions: [of.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions: [toUs] })],
      }),
    ];
  }

  /**
   * Works on one packet-in; what is to be sent collects until `take`.
   *
   * @returns false, with nothing done, when the message is no packet-in of this switch's version that can be read
   */
  packetIn(b: Buffer): boolean {
    if (b[1] !== PACKET_IN || b[0] !== this.#o.version || b.length < 18) return false;
    const bufferId = u32(b, 8);
    const totalLength = u16(b, 12);
    let inPort: number;
    let start: number;
    if (this.#o.version === 1) {
      // OpenFlow 1.0.0 §5.4.1
      inPort = u16(b, 14);
      start = 18;
    } else {
      // OpenFlow 1.3.5 §7.4.1: the match, padded to eight bytes, and two bytes more
      if (b.length < 34) return false;
      const matchEnd = 24 + u16(b, 26);
      start = 24 + ((u16(b, 26) + 7) & ~7) + 2;
      if (start > b.length) return false;
      const found = inPortOf(b, 28, matchEnd);
      if (found === undefined) return false;
      inPort = found;
    }
    this.counters.packetIns++;
    // A packet without both addresses is none, and goes nowhere.
    if (b.length < start + 14) return true;
    const isGroup = ((b[start] as number) & 1) === 1;
    const srcHigh = u16(b, start + 6);
    const srcLow = i32(b, start + 8);
    // A group address as the sender is a forgery or a fault.
    if ((srcHigh & 0x100) === 0 && (srcHigh | srcLow) !== 0) this.#learn(srcHigh, srcLow, inPort);
    const dstHigh = u16(b, start);
    const dstLow = i32(b, start + 2);
    // Bridges keep these to themselves, and so does LLDP (IEEE 802.1Q-2018, table 8-1).
    if (dstHigh === 0x0180 && dstLow >>> 4 === 0xc200000) return true;
    const outPort = isGroup ? undefined : this.#lookUp(dstHigh, dstLow);
    if (outPort === undefined) {
      this.#packetOut(b, start, totalLength, bufferId, inPort, this.#t.flood);
    } else {
      const isBack = outPort === inPort;
      this.#flowMod(b, start, bufferId, inPort, isBack ? undefined : outPort);
      if (bufferId === NO_BUFFER && !isBack) this.#packetOut(b, start, totalLength, bufferId, inPort, outPort);
    }
    return true;
  }

  /** Forgets what was learned at a port that went down or away, and takes the flows out that lead there. */
  portDown(portNo: number): void {
    if (this.#stations.forgetPort(portNo)) this.#delete({ outPort: portNo });
  }

  /** The bytes of all that is to be sent, whole messages, or undefined. They are the caller's: nothing writes to them again. */
  take(): Buffer | undefined {
    if (this.#at === this.#from) return undefined;
    const taken = this.#slab.subarray(this.#from, this.#at);
    this.#from = this.#at;
    return taken;
  }

  #learn(high: number, low: number, port: number): void {
    const known = this.#stations.find(high, low);
    if (known === undefined) {
      this.#stations.add(high, low, port);
      return;
    }
    if (known.port === port) return;
    // It moved: flows to it lead to the old place for as long as they are used.
    this.#delete({ ethDst: macText(high, low) });
    known.port = port;
    known.isUsed = false;
  }

  #lookUp(high: number, low: number): number | undefined {
    const known = this.#stations.find(high, low);
    if (known === undefined) return undefined;
    known.isUsed = true;
    return known.port;
  }

  #delete(what: { ethDst?: string; outPort?: number }): void {
    const { version } = this.#o;
    let message: OfMessage;
    if (version === 1) {
      message = of10.OFPFlowMod({
        match: of10.OFPMatch(what.ethDst === undefined ? {} : { dl_dst: what.ethDst }),
        command: ofproto_v1_0.OFPFC_DELETE,
        out_port: what.outPort ?? ofproto_v1_0.OFPP_NONE,
      });
    } else {
      const of = { 4: of13, 5: of14, 6: of15 }[version] as typeof of13;
      message = of.OFPFlowMod({
        cookie: LEARNING_COOKIE,
        cookie_mask: COOKIE_MASK,
        command: ofp.OFPFC_DELETE,
        match: of.OFPMatch(what.ethDst === undefined ? {} : { eth_dst: what.ethDst }),
        out_port: what.outPort ?? ofp.OFPP_ANY,
        out_group: ofp.OFPG_ANY,
      });
    }
    this.#append(encode(message, 0));
    this.counters.flowMods++;
  }

  #append(message: Buffer): number {
    this.#room(message.length);
    const at = this.#at;
    message.copy(this.#slab, at);
    this.#at += message.length;
    return at;
  }

  #flowMod(b: Buffer, start: number, bufferId: number, inPort: number, outPort: number | undefined): void {
    const { flow, drop, places } = this.#t;
    const at = this.#append(outPort === undefined ? drop : flow);
    const p = places.flowMod;
    b.copy(this.#slab, at + p.ethDst, start, start + 6);
    b.copy(this.#slab, at + p.ethSrc, start + 6, start + 12);
    this.#view.setUint32(at + p.buffer, bufferId);
    this.#putPort(at + p.inPort, inPort);
    if (outPort !== undefined) this.#putPort(at + p.outPort, outPort);
    this.counters.flowMods++;
  }

  #packetOut(b: Buffer, start: number, total: number, bufferId: number, inPort: number, outPort: number): void {
    const isKept = bufferId !== NO_BUFFER;
    const { out, places } = this.#t;
    const length = isKept ? out.length : out.length + b.length - start;
    if ((!isKept && b.length - start < total) || length > MOST_BYTES) {
      this.counters.truncated++;
      return;
    }
    this.#room(length);
    const at = this.#append(out);
    const p = places.packetOut;
    this.#view.setUint32(at + p.buffer, bufferId);
    this.#putPort(at + p.inPort, inPort);
    this.#putPort(at + p.outPort, outPort);
    if (!isKept) {
      this.#view.setUint16(at + 2, length);
      b.copy(this.#slab, this.#at, start);
      this.#at += b.length - start;
    }
    this.counters.packetOuts++;
  }

  #putPort(at: number, port: number): void {
    if (this.#t.places.portBytes === 2) this.#view.setUint16(at, port);
    else this.#view.setUint32(at, port);
  }

  /** Makes sure that `length` bytes fit behind what was collected; what was taken from the old slab stays as it is. */
  #room(length: number): void {
    if (this.#at + length <= this.#slab.length) return;
    const waiting = this.#slab.subarray(this.#from, this.#at);
    const next = Buffer.allocUnsafeSlow(Math.max(SLAB_BYTES, 2 * (waiting.length + length)));
    waiting.copy(next);
    this.#slab = next;
    this.#view = new DataView(next.buffer);
    this.#at = waiting.length;
    this.#from = 0;
  }
}

const u16 = (b: Buffer, at: number): number => ((b[at] as number) << 8) | (b[at + 1] as number);
const u32 = (b: Buffer, at: number): number => u16(b, at) * 0x1_0000 + u16(b, at + 2);
const i32 = (b: Buffer, at: number): number => (u16(b, at) << 16) | u16(b, at + 2);

/** The in_port among the fields of a match, which is the first one in most switches' packet-ins. */
function inPortOf(b: Buffer, from: number, end: number): number | undefined {
  for (let at = from; at + 4 <= end; at += 4 + (b[at + 3] as number))
    if (u32(b, at) === OXM_IN_PORT && at + 8 <= end) return u32(b, at + 4);
  return undefined;
}
