/**
 * The few frames the controller reads and writes itself: LLDP for link discovery, ARP for who is where.
 * Pure; every reader is bounded and answers undefined for what it cannot read.
 */

export const LLDP_MULTICAST = '01:80:c2:00:00:0e';
const ETH_LLDP = 0x88cc;
const ETH_ARP = 0x0806;
const ETH_VLAN = 0x8100;

/** Separates our probes from other systems' LLDP on the same wire. */
const SYSTEM = 'fairway';

const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');
const macText = (b: Buffer): string => [...b].map((x) => x.toString(16).padStart(2, '0')).join(':');

function tlv(type: number, value: Buffer): Buffer {
  const head = Buffer.alloc(2);
  head.writeUInt16BE((type << 9) | value.length);
  return Buffer.concat([head, value]);
}

/** An LLDP frame (IEEE 802.1AB) that names the port it leaves from: chassis id and port id of subtype 7, locally assigned. */
export function buildLldp(dpid: string, portNo: number, sourceMac: string, ttlSeconds: number): Buffer {
  const ttl = Buffer.alloc(2);
  ttl.writeUInt16BE(ttlSeconds);
  const head = Buffer.alloc(2);
  head.writeUInt16BE(ETH_LLDP);
  return Buffer.concat([
    macBytes(LLDP_MULTICAST),
    macBytes(sourceMac),
    head,
    tlv(1, Buffer.concat([Buffer.from([7]), Buffer.from(dpid)])),
    tlv(2, Buffer.concat([Buffer.from([7]), Buffer.from(String(portNo))])),
    tlv(3, ttl),
    tlv(5, Buffer.from(SYSTEM)),
    tlv(0, Buffer.alloc(0)),
  ]);
}

/** Where one of our LLDP frames was sent from; undefined for other frames and other systems' LLDP. */
export function parseLldp(frame: Buffer): { dpid: string; portNo: number } | undefined {
  if (frame.length < 14 || frame.readUInt16BE(12) !== ETH_LLDP) return undefined;
  let dpid: string | undefined;
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
  }
  if (!ours || dpid === undefined || !/^[0-9a-f]{16}$/.test(dpid)) return undefined;
  return portNo !== undefined && Number.isInteger(portNo) && portNo > 0 ? { dpid, portNo } : undefined;
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
