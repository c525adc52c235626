/**
 * One line about the packet inside a packet-in or packet-out, for print.ts: addresses and protocols down to ports. What it
 * does not know it leaves out; the bytes are shown as well.
 */
import { formatIpv4, readIpv6, readMac } from './address.ts';

const ETHERTYPES: Readonly<Record<number, string>> = {
  2048: 'ipv4',
  2054: 'arp',
  34525: 'ipv6',
  33024: 'vlan',
  34887: 'mpls',
  34984: 'vlan',
  35020: 'lldp',
};
const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp' };

function transport(b: Buffer, at: number, protocol: number): string {
  const name = PROTOCOLS[protocol];
  if (name === undefined) return `protocol ${protocol}`;
  if (b.length < at + 4) return name;
  if (protocol === 1 || protocol === 58) return `${name} type ${b[at]} code ${b[at + 1]}`;
  return `${name} ${b.readUInt16BE(at)} > ${b.readUInt16BE(at + 2)}`;
}

function network(b: Buffer, at: number, type: number): string | undefined {
  if (type === 0x0806 && b.length >= at + 28) {
    const op = b.readUInt16BE(at + 6);
    const what = op === 1 ? 'request' : op === 2 ? 'reply' : `operation ${op}`;
    return `${what} ${formatIpv4(b.readUInt32BE(at + 14))} > ${formatIpv4(b.readUInt32BE(at + 24))}`;
  }
  if (type === 0x0800 && b.length >= at + 20) {
    const header = ((b[at] as number) & 15) * 4;
    const ends = `${formatIpv4(b.readUInt32BE(at + 12))} > ${formatIpv4(b.readUInt32BE(at + 16))}`;
    return `${ends}, ${transport(b, at + header, b[at + 9] as number)}`;
  }
  if (type === 0x86dd && b.length >= at + 40) {
    return `${readIpv6(b, at + 8)} > ${readIpv6(b, at + 24)}, ${transport(b, at + 40, b[at + 6] as number)}`;
  }
  return undefined;
}

/** `02:…:01 > ff:…:ff, vlan 5, arp request 10.0.0.1 > 10.0.0.2`; empty for what is no Ethernet frame. */
export function describePacket(packet: Uint8Array): string {
  const b = Buffer.from(packet.buffer, packet.byteOffset, packet.byteLength);
  if (b.length < 14) return '';
  const parts = [`${readMac(b, 6)} > ${readMac(b, 0)}`];
  let at = 14;
  let type = b.readUInt16BE(12);
  while ((type === 0x8100 || type === 0x88a8) && b.length >= at + 4) {
    parts.push(`vlan ${b.readUInt16BE(at) & 0xfff}`);
    type = b.readUInt16BE(at + 2);
    at += 4;
  }
  const name = ETHERTYPES[type] ?? `type 0x${type.toString(16).padStart(4, '0')}`;
  const rest = network(b, at, type);
  parts.push(rest === undefined ? name : `${name} ${rest}`);
  return parts.join(', ');
}
