/** The guest's own announcement at its new port turns its traffic over, if it comes before the agent's word; no other does. */
import fc from 'fast-check';
import { parseAnnouncement } from '../../../controller/core/packets.ts';
import { arpPacket, buildFrame, type Packet } from '../../../sim/packet.ts';
import { CLIENT_MAC, CORE, type Fabric, GUEST_MAC, HV1, HV2, twoHypervisors } from './fabric.ts';

const MAC = Buffer.from(GUEST_MAC.replaceAll(':', ''), 'hex');
const OTHER = Buffer.from(CLIENT_MAC.replaceAll(':', ''), 'hex');
const IP = Buffer.from([10, 0, 0, 9]);
const ETHERNET_IPV4 = Buffer.from([0, 1, 8, 0, 6, 4]);

const ethernet = (type: number, body: Buffer, source = MAC, tag = Buffer.alloc(0)) =>
  Buffer.concat([Buffer.alloc(6, 0xff), source, tag, Buffer.from([type >> 8, type & 0xff]), body]);
const arp = (op: number, sha: Buffer, spa: Buffer, tha: Buffer, tpa: Buffer) =>
  Buffer.concat([ETHERNET_IPV4, Buffer.from([0, op]), sha, spa, tha, tpa, Buffer.alloc(18)]);
const NONE = Buffer.alloc(4);
const rarp = (sha = MAC, tha = sha) => arp(3, sha, NONE, tha, NONE);
const advertisement = (flags: number, type = 136) => {
  const ipv6 = Buffer.alloc(40);
  ipv6[0] = 0x60;
  ipv6[6] = 58;
  return Buffer.concat([ipv6, Buffer.from([type, 0, 0, 0, flags, 0, 0, 0]), Buffer.alloc(24)]);
};
const TAG = Buffer.from([0x81, 0, 0, 7]);

describe('what an announcement is', () => {
  test.each<[string, Buffer]>([
    ['RARP of a hypervisor for its guest', ethernet(0x8035, rarp())],
    ['gratuitous ARP request', ethernet(0x0806, arp(1, MAC, IP, Buffer.alloc(6), IP))],
    ['gratuitous ARP reply', ethernet(0x0806, arp(2, MAC, IP, MAC, IP))],
    ['unsolicited neighbour advertisement', ethernet(0x86dd, advertisement(0x20))],
    ['the same behind a VLAN tag, cut to 64 bytes', ethernet(0x86dd, advertisement(0x20), MAC, TAG).subarray(0, 64)],
    ['RARP behind a VLAN tag', ethernet(0x8035, rarp(), MAC, TAG)],
  ])('%s', (_name, frame) => {
    expect(parseAnnouncement(frame)).toBe(GUEST_MAC);
  });

  test.each<[string, Buffer]>([
    ['an ordinary ARP request', ethernet(0x0806, arp(1, MAC, IP, Buffer.alloc(6), Buffer.from([10, 0, 0, 1])))],
    ['an address probe', ethernet(0x0806, arp(1, MAC, NONE, Buffer.alloc(6), NONE))],
    ['ARP that speaks for another address than the frame', ethernet(0x0806, arp(1, MAC, IP, MAC, IP), OTHER)],
    ['RARP that asks for another', ethernet(0x8035, rarp(MAC, OTHER))],
    ['RARP that speaks for another', ethernet(0x8035, rarp(OTHER))],
    ['a solicited advertisement', ethernet(0x86dd, advertisement(0x60))],
    ['a neighbour solicitation', ethernet(0x86dd, advertisement(0, 135))],
    ['a frame cut short', ethernet(0x8035, rarp()).subarray(0, 40)],
  ])('not %s', (_name, frame) => {
    expect(parseAnnouncement(frame)).toBeUndefined();
  });

  test('no bytes make it throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.constantFrom(0x0806, 0x8035, 0x86dd, 0x8100), (bytes, type) => {
        const mac = parseAnnouncement(Buffer.from(bytes));
        parseAnnouncement(ethernet(type, Buffer.from(bytes)));
        expect(mac ?? '00:00:00:00:00:00').toMatch(/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/);
      }),
    );
  });
});

describe('a migration whose agents say nothing', () => {
  const garp = arpPacket({ op: 1, sha: GUEST_MAC, spa: '10.0.0.9', tpa: '10.0.0.9' });
  const toGuest: Packet = { eth_src: CLIENT_MAC, eth_dst: GUEST_MAC, eth_type: 0x0800, ip_proto: 1 };
  const copying = (): Fabric => {
    const f = twoHypervisors();
    f.answer = (_host, c) => {
      if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 0 } };
      if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49152, portName: 'tap1' } };
      return { value: {} };
    };
    f.pass(1000);
    f.pass(1000);
    const moves = [{ guest: 'g1', destination: 'hv2' }];
    f.send({ kind: 'migrate', request: { moves, priority: 'high' }, ids: ['m-1'], group: null });
    f.pass(250);
    f.inject(CORE, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.9' }));
    expect(f.state.jobs.get('m-1')).toMatchObject({ state: 'copying', flipped: false });
    return f;
  };
  const where = (f: Fabric) => f.inject(CORE, 3, toGuest).map((o) => o.at);

  test('traffic goes to the new place once the guest announces itself at its port there', () => {
    const f = copying();
    expect(where(f)).toEqual([`${HV1}:2`]);
    f.inject(HV2, 2, garp);
    expect(f.state.jobs.get('m-1')).toMatchObject({ flipped: true });
    expect(where(f)).toEqual([`${HV2}:2`]);
    expect(f.state.jobs.get('m-1')?.reasons.at(-1)).toMatchObject({ rule: 'reroute.flipped' });
    expect(f.state.jobs.get('m-1')?.reasons.at(-1)?.text).toContain('announced itself at its port on hv2');
  });

  test.each([
    ['another port of the new host', HV2, 3],
    ['another port of the old host', HV1, 3],
    ['its old port', HV1, 2],
    ['a client’s port', CORE, 3],
  ])('an announcement at %s turns nothing over', (_name, dpid, port) => {
    const f = copying();
    f.send({ kind: 'packetIn', dpid, inPort: port, frame: buildFrame(garp) });
    f.send({ kind: 'packetIn', dpid, inPort: port, frame: ethernet(0x8035, rarp()) });
    expect(f.state.jobs.get('m-1')).toMatchObject({ flipped: false });
    expect(where(f)).toEqual([`${HV1}:2`]);
  });

  test('other frames at the new port turn nothing over, nor does another’s announcement', () => {
    const f = copying();
    f.send({ kind: 'packetIn', dpid: HV2, inPort: 2, frame: buildFrame({ ...toGuest, eth_src: GUEST_MAC }) });
    f.send({ kind: 'packetIn', dpid: HV2, inPort: 2, frame: ethernet(0x8035, rarp(OTHER), OTHER) });
    expect(f.state.jobs.get('m-1')).toMatchObject({ flipped: false });
  });

  test('the agent’s word after it changes nothing more', () => {
    const f = copying();
    f.inject(HV2, 2, garp);
    const before = f.state.jobs.get('m-1')?.reasons.length;
    const message = { type: 'event' as const, migration: 'm-1', event: 'resumed' as const };
    f.send({ kind: 'agentMessage', host: 'hv2', message });
    expect(f.state.jobs.get('m-1')?.reasons.filter((r) => r.rule === 'reroute.flipped')).toHaveLength(1);
    expect(f.state.jobs.get('m-1')?.reasons.length).toBe(before);
    expect(f.state.jobs.get('m-1')).toMatchObject({ resumed: true });
  });
});
