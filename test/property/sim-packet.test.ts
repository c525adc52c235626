/** Frames of the emulated network: what is built reads back, and no bytes crash the reader. */
import fc from 'fast-check';
import { buildFrame, checksum, ETH_ARP, ETH_IPV4, ETH_VLAN, type Packet, parseFrame } from '../../sim/packet.ts';

const byte = fc.nat(255);
const mac = fc
  .tuple(byte, byte, byte, byte, byte, byte)
  .map((b) => b.map((x) => x.toString(16).padStart(2, '0')).join(':'));
const ip = fc.tuple(byte, byte, byte, byte).map((b) => b.join('.'));
const u16 = fc.nat(65535);
const payload = fc.uint8Array({ maxLength: 80 }).map((b) => Buffer.from(b));
const eth = {
  eth_dst: mac,
  eth_src: mac,
  vlans: fc.option(
    fc.array(fc.record({ tpid: fc.constant(ETH_VLAN), vid: fc.nat(4095), pcp: fc.nat(7) }), {
      minLength: 1,
      maxLength: 2,
    }),
    { nil: undefined },
  ),
};
const ipv4 = {
  ...eth,
  eth_type: fc.constant(ETH_IPV4),
  ip_dscp: fc.nat(63),
  ip_ecn: fc.nat(3),
  ip_ttl: byte,
  ipv4_src: ip,
  ipv4_dst: ip,
  payload,
};
const packet = fc
  .oneof(
    fc.record({ ...ipv4, ip_proto: fc.constant(6), tcp_src: u16, tcp_dst: u16 }),
    fc.record({ ...ipv4, ip_proto: fc.constant(17), udp_src: u16, udp_dst: u16 }),
    fc.record({ ...ipv4, ip_proto: fc.constant(1), icmpv4_type: byte, icmpv4_code: byte }),
    fc.record({ ...ipv4, ip_proto: fc.constant(89) }),
    fc.record({
      ...eth,
      eth_type: fc.constant(ETH_ARP),
      arp_op: u16,
      arp_spa: ip,
      arp_tpa: ip,
      arp_sha: mac,
      arp_tha: mac,
    }),
    fc.record({ ...eth, eth_type: fc.constant(0x88cc), payload }),
  )
  .map((p) => {
    const { vlans, ...rest } = p;
    return (vlans === undefined ? rest : { ...rest, vlans }) as Packet;
  });

test('a built frame reads back as the same packet', () => {
  fc.assert(fc.property(packet, (p) => expect(parseFrame(buildFrame(p))).toEqual(p)));
});

test('IPv4 headers carry a right checksum', () => {
  fc.assert(
    fc.property(packet, (p) => {
      fc.pre(p.ipv4_src !== undefined);
      const at = 14 + 4 * (p.vlans?.length ?? 0);
      expect(checksum(buildFrame(p).subarray(at, at + 20))).toBe(0);
    }),
  );
});

test('any bytes of at least an Ethernet header are a packet, fewer are none', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.boolean(), (bytes, isIp) => {
      const frame = Buffer.from(bytes);
      if (isIp && frame.length >= 15) {
        frame.writeUInt16BE(ETH_IPV4, 12);
        frame[14] = 0x45;
      }
      const read = parseFrame(frame);
      expect(read === undefined).toBe(frame.length < 14);
      // What was understood survives being built again.
      if (read !== undefined) expect(parseFrame(buildFrame(read))).toEqual(read);
    }),
  );
});
