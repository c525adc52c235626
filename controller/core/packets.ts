/**
 * The few frames the controller reads and writes itself: LLDP for link discovery, ARP for who is where.
 * Pure; every reader is bounded and answers undefined for what it cannot read.
 */

const LLDP_MULTICAST = '01:80:c2:00:00:0e';
const ETH_LLDP = 0x88cc;
const ETH_ARP = 0x0806;
const ETH_VLAN = 0x8100;

/** Separates our probes from other systems' LLDP on the same wire. */
const SYSTEM = 'fairway';
/** Organisationally specific TLV (IEEE 802.1AB §8.6) with the proof: a locally administered OUI, then a subtype. */
const ORGANISATION = Buffer.from([0x0a, 0x46, 0x57, 1]);
const INSTANCE_BYTES = 8;
export const TAG_BYTES = 16;
const PROOF_BYTES = ORGANISATION.length + INSTANCE_BYTES + 8 + 8 + TAG_BYTES;

/**
 * Signs probes with a key that the core never sees; `controller/io/seal.ts` makes one. Pure in the sense that counts
 * here: equal data gives an equal tag.
 */
export interface Seal {
  /** Tells this controller's probes from those of others that share its key; 8 bytes, drawn at its start. */
  readonly instance: Buffer;
  /** Tag of `data`, TAG_BYTES long. */
  sign(data: Buffer): Buffer;
  /** Whether `tag` is the tag of `data`, in a time that does not depend on where they differ. */
  verify(data: Buffer, tag: Buffer): boolean;
}

const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');
const macText = (b: Buffer): string => [...b].map((x) => x.toString(16).padStart(2, '0')).join(':');

function tlv(type: number, value: Buffer): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE((type << 9) | value.length);
  return Buffer.concat([head, value]);
}

/** One probe: the port it leaves from, and what makes it unique. */
export interface Probe {
  dpid: string;
  portNo: number;
  sourceMac: string;
  ttlSeconds: number;
  /** Grows with each probe of one controller. */
  serial: number;
  /** Controller time, ms. */
  sentMs: number;
}

/**
 * An LLDP frame (IEEE 802.1AB) that names the port it leaves from: chassis id and port id of subtype 7, locally
 * assigned. The tag at its end covers every byte before it.
 */
export function buildLldp(p: Probe, seal: Seal): Buffer {
  const ttl = Buffer.alloc(2);
  ttl.writeUInt16BE(p.ttlSeconds);
  const head = Buffer.alloc(2);
  head.writeUInt16BE(ETH_LLDP);
  const proof = Buffer.alloc(PROOF_BYTES - TAG_BYTES);
  ORGANISATION.copy(proof);
  seal.instance.copy(proof, ORGANISATION.length);
  proof.writeBigUInt64BE(BigInt(p.serial), ORGANISATION.length + INSTANCE_BYTES);
  proof.writeBigUInt64BE(BigInt(Math.round(p.sentMs)), ORGANISATION.length + INSTANCE_BYTES + 8);
  const proofHead = Buffer.alloc(2);
  proofHead.writeUInt16BE((127 << 9) | PROOF_BYTES);
  const signed = Buffer.concat([
    macBytes(LLDP_MULTICAST),
    macBytes(p.sourceMac),
    head,
    tlv(1, Buffer.concat([Buffer.from([7]), Buffer.from(p.dpid)])),
    tlv(2, Buffer.concat([Buffer.from([7]), Buffer.from(String(p.portNo))])),
    tlv(3, ttl),
    tlv(5, Buffer.from(SYSTEM)),
    proofHead,
    proof,
  ]);
  return Buffer.concat([signed, seal.sign(signed), tlv(0, Buffer.alloc(0))]);
}

export const isLldp = (frame: Buffer): boolean => frame.length >= 14 && frame.readUInt16BE(12) === ETH_LLDP;

/** What a frame in the shape of our probes claims; nothing of it is proven until its tag is verified. */
export interface ProbeClaim {
  dpid: string;
  portNo: number;
  /** Absent where the frame carries none, or not where ours has it: as the last TLV. */
  proof: { instance: Buffer; serial: number; sentMs: number; signed: Buffer; tag: Buffer } | undefined;
}

/** Reads an LLDP frame in the shape of ours; undefined for other frames and other systems' LLDP. */
export function parseLldp(frame: Buffer): ProbeClaim | undefined {
  if (!isLldp(frame)) return undefined;
  let dpid: string | undefined;
  let proof: ProbeClaim['proof'];
  let portNo: number | undefined;
  let ours = false;
  for (let at = 14; at + 2 <= frame.length; ) {
    const head = frame.readUInt16BE(at);
    const type = head >> 9;
    const length = head & 0x1ff;
    if (type === 0 || at + 2 + length > frame.length) break;
    const value = frame.subarray(at + 2, at + 2 + length);
    if (type === 1 && value[0] === 7) dpid = value.subarray(1).toString('latin1');
    if (type === 2 && value[0] === 7) portNo = Number(value.subarray(1).toString('latin1'));
    if (type === 5) ours = value.toString('latin1') === SYSTEM;
    at += 2 + length;
    if (type === 127 && length === PROOF_BYTES && value.subarray(0, ORGANISATION.length).equals(ORGANISATION)) {
      // Only an End TLV (two zero bytes) may follow: nothing of the frame is left out of the signature.
      if (frame.length !== at + 2 || frame.readUInt16BE(at) !== 0) break;
      const tagAt = at - TAG_BYTES;
      const instanceAt = tagAt - 16 - INSTANCE_BYTES;
      proof = {
        instance: frame.subarray(instanceAt, instanceAt + INSTANCE_BYTES),
        serial: Number(frame.readBigUInt64BE(tagAt - 16)),
        sentMs: Number(frame.readBigUInt64BE(tagAt - 8)),
        signed: frame.subarray(0, tagAt),
        tag: frame.subarray(tagAt, at),
      };
    }
  }
  if (!ours || dpid === undefined || !/^[0-9a-f]{16}$/.test(dpid)) return undefined;
  return portNo !== undefined && Number.isInteger(portNo) && portNo > 0 ? { dpid, portNo, proof } : undefined;
}

/** What a frame tells of its sender. `ip` is known from ARP only. */
export interface Sighting {
  mac: string;
  ip: string | null;
}

/** Sender of a frame; undefined when it is too short or its source is a group address. */
export function parseSender(frame: Buffer): Sighting | undefined {
  if (frame.length < 14 || ((frame[6] ?? 1) & 1) === 1) return undefined;
  const mac = macText(frame.subarray(6, 12));
  if (mac === '00:00:00:00:00:00') return undefined;
  let at = 12;
  if (frame.readUInt16BE(at) === ETH_VLAN && frame.length >= 18) at += 4;
  const type = frame.readUInt16BE(at);
  if (type === ETH_ARP && frame.length >= at + 2 + 28) {
    const arp = frame.subarray(at + 2);
    const ip = [...arp.subarray(14, 18)].join('.');
    // 0.0.0.0 is an address probe (RFC 5227): the sender has no address yet.
    return { mac, ip: ip === '0.0.0.0' ? null : ip };
  }
  return { mac, ip: null };
}

const ETH_RARP = 0x8035;
const ETH_IPV6 = 0x86dd;
const ICMPV6 = 58;
const NEIGHBOUR_ADVERTISEMENT = 136;
const SOLICITED = 0x40;

/**
 * MAC address of a sender that announces its own place: RARP for itself (what hypervisors send for a guest that has come),
 * gratuitous ARP (RFC 5944 §4.6, RFC 5227 §3) or an unsolicited neighbour advertisement (RFC 4861 §7.2.6). Undefined for
 * every other frame. 64 bytes are enough of any of them.
 */
export function parseAnnouncement(frame: Buffer): string | undefined {
  const mac = parseSender(frame)?.mac;
  if (mac === undefined) return undefined;
  let at = 12;
  if (frame.readUInt16BE(at) === ETH_VLAN && frame.length >= 18) at += 4;
  const type = frame.readUInt16BE(at);
  const body = frame.subarray(at + 2);
  if (type === ETH_RARP || type === ETH_ARP) {
    // Ethernet and IPv4: operation at 6, then the sender's and the target's addresses (RFC 826).
    if (body.length < 28 || macText(body.subarray(8, 14)) !== mac) return undefined;
    const isForItself = body.subarray(18, 24).equals(body.subarray(8, 14));
    if (type === ETH_RARP) return isForItself ? mac : undefined;
    const senderIp = body.subarray(14, 18);
    return senderIp.equals(body.subarray(24, 28)) && senderIp.some((b) => b !== 0) ? mac : undefined;
  }
  const isAdvertisement = type === ETH_IPV6 && body.length >= 45 && body[6] === ICMPV6;
  if (!isAdvertisement || body[40] !== NEIGHBOUR_ADVERTISEMENT) return undefined;
  return ((body[44] ?? SOLICITED) & SOLICITED) === 0 ? mac : undefined;
}
