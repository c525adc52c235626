/** Which packet-ins the core is shown when a switch sends more than it should. */
import fc from 'fast-check';
import { PACKET_IN_LIMITS, PacketInLimiter } from '../../../controller/core/packetLimits.ts';
import { buildLldp } from '../../../controller/core/packets.ts';
import { makeSeal } from '../../../controller/io/seal.ts';

const ARP = Buffer.concat([Buffer.alloc(12, 2), Buffer.from('0806', 'hex'), Buffer.alloc(28)]);
const LLDP = buildLldp(
  { dpid: '0000000000000001', portNo: 1, sourceMac: '02:00:00:00:00:01', ttlSeconds: 120, serial: 1, sentMs: 0 },
  makeSeal(Buffer.alloc(32, 1)),
);
const TAGGED_LLDP = Buffer.concat([LLDP.subarray(0, 12), Buffer.from('81000001', 'hex'), LLDP.subarray(12)]);

/** Offers `count` frames at one time and answers how many were let through. */
const offer = (l: PacketInLimiter, port: number, frame: Buffer, count: number, nowMs: number) =>
  Array.from({ length: count }, () => l.admits(port, frame, nowMs)).filter(Boolean).length;

test('a storm on one port costs that port alone', () => {
  const l = new PacketInLimiter(0);
  let passed = 0;
  for (let ms = 0; ms < 1000; ms++) passed += offer(l, 1, ARP, 50, ms);
  const { perPort } = PACKET_IN_LIMITS;
  expect(passed).toBeGreaterThanOrEqual(perPort.burst);
  expect(passed).toBeLessThanOrEqual(perPort.burst + perPort.perSecond);
  expect(offer(l, 2, ARP, 100, 1000)).toBe(100);
  expect(offer(l, 1, LLDP, 5, 1000)).toBe(5);
  expect(l.dropped).toBe(50_000 - passed);
  expect(l.worst(3)).toEqual([{ portNo: 1, dropped: l.dropped }]);
});

test('storms on many ports use up what the switch may send, and quiet ports are heard all the same', () => {
  const l = new PacketInLimiter(0);
  for (let port = 1; port <= 40; port++) offer(l, port, ARP, 1000, 0);
  expect(l.counts.droppedBySwitch).toBeGreaterThan(0);
  expect(offer(l, 41, ARP, 10, 0)).toBe(10);
});

test('a storm of LLDP is bounded as well, and is none of the other frames’ affair', () => {
  const l = new PacketInLimiter(0);
  expect(offer(l, 1, LLDP, 1000, 0)).toBe(PACKET_IN_LIMITS.lldpPerPort.burst);
  expect(offer(l, 1, TAGGED_LLDP, 10, 0)).toBe(0);
  expect(offer(l, 1, ARP, 10, 0)).toBe(10);
  expect(l.counts).toMatchObject({ droppedLldp: 1000 - PACKET_IN_LIMITS.lldpPerPort.burst + 10, droppedByPort: 0 });
});

test('after a rest a port is heard again', () => {
  const l = new PacketInLimiter(0);
  offer(l, 1, ARP, 10_000, 0);
  expect(offer(l, 1, ARP, 10, 0)).toBe(0);
  expect(offer(l, 1, ARP, 1000, 1000)).toBe(PACKET_IN_LIMITS.perPort.perSecond);
});

test('any frames on any ports: every frame is counted once, and time bounds what passes', () => {
  const frame = fc.oneof(fc.constant(ARP), fc.constant(LLDP), fc.uint8Array({ maxLength: 20 }).map(Buffer.from));
  const arrival = fc.record({ port: fc.integer({ min: 1, max: 0xffffffff }), frame, afterMs: fc.nat(20) });
  fc.assert(
    fc.property(fc.array(arrival, { maxLength: 300 }), (arrivals) => {
      const limits = {
        lldpPerPort: { perSecond: 1, burst: 2 },
        perPort: { perSecond: 10, burst: 4 },
        perSwitch: { perSecond: 20, burst: 8 },
      };
      const l = new PacketInLimiter(0, limits);
      let now = 0;
      for (const a of arrivals) {
        now += a.afterMs;
        l.admits(a.port, a.frame, now);
      }
      expect(l.counts.passed + l.dropped).toBe(arrivals.length);
      const ports = new Set(arrivals.map((a) => a.port)).size;
      expect(l.counts.passed).toBeLessThanOrEqual(ports * (2 + 4 + (11 * now) / 1000));
    }),
  );
});

test('a switch that invents ports makes this side keep no more than a few thousand', () => {
  const l = new PacketInLimiter(0);
  for (let port = 1; port <= 20_000; port++) offer(l, port, LLDP, 1, 0);
  // Those beyond share one place, and its allowance.
  expect(l.worst(10)).toEqual([{ portNo: -1, dropped: 20_000 - 4096 - PACKET_IN_LIMITS.lldpPerPort.burst }]);
});

test('what a port sends beyond its own limits is told once, by kind, and nothing of others or of the switch’s limit', () => {
  const l = new PacketInLimiter(0);
  const { perPort, lldpPerPort } = PACKET_IN_LIMITS;
  offer(l, 1, ARP, perPort.burst + 7, 100);
  offer(l, 1, LLDP, lldpPerPort.burst + 3, 100);
  offer(l, 2, ARP, 10, 100);
  expect(l.takeOver(250)).toEqual({ windowMs: 250, ports: [{ portNo: 1, lldp: 3, other: 7 }] });
  expect(l.takeOver(300)).toEqual({ windowMs: 50, ports: [] });
  offer(l, 1, LLDP, 5, 300);
  expect(l.takeOver(500)).toEqual({ windowMs: 200, ports: [{ portNo: 1, lldp: 3, other: 0 }] });
  // Ports beside each other use up what the switch may send: none of them alone is to blame.
  for (let port = 10; port < 90; port++) offer(l, port, ARP, perPort.burst / 2, 600);
  expect(l.counts.droppedBySwitch).toBe(0);
  for (let port = 10; port < 90; port++) offer(l, port, ARP, perPort.burst / 2, 600);
  expect(l.counts.droppedBySwitch).toBeGreaterThan(0);
  expect(l.takeOver(700).ports).toEqual([]);
});

test('ports that a switch invents are not told of', () => {
  const l = new PacketInLimiter(0);
  for (let port = 1; port <= 5000; port++) offer(l, port, LLDP, 1, 0);
  offer(l, 4999, LLDP, 1000, 0);
  expect(l.takeOver(100).ports).toEqual([]);
});
