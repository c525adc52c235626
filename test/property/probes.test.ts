/** Signed probes: what was sent is read back; no altered, cut or lengthened frame is believed. */
import fc from 'fast-check';
import { buildLldp, parseLldp } from '../../controller/core/packets.ts';
import { makeSeal } from '../../controller/io/seal.ts';

const seal = makeSeal(Buffer.alloc(32, 1));
const probes = fc.record({
  dpid: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }).map((n) => n.toString(16).padStart(16, '0')),
  portNo: fc.integer({ min: 1, max: 0xffffff00 }),
  sourceMac: fc.constantFrom('02:00:00:00:00:01', 'fe:ff:ff:ff:ff:ff'),
  ttlSeconds: fc.integer({ min: 1, max: 0xffff }),
  serial: fc.maxSafeNat(),
  sentMs: fc.maxSafeNat(),
});

function isBelieved(frame: Buffer): boolean {
  const proof = parseLldp(frame)?.proof;
  return proof !== undefined && seal.verify(proof.signed, proof.tag);
}

test('a probe says what was put into it', () => {
  fc.assert(
    fc.property(probes, (p) => {
      const frame = buildLldp(p, seal);
      expect(isBelieved(frame)).toBe(true);
      const read = parseLldp(frame);
      expect(read).toMatchObject({ dpid: p.dpid, portNo: p.portNo, proof: { serial: p.serial, sentMs: p.sentMs } });
      expect(read?.proof?.instance.equals(seal.instance)).toBe(true);
    }),
  );
});

test('every single flipped bit is noticed', () => {
  fc.assert(
    fc.property(probes, (p) => {
      const frame = buildLldp(p, seal);
      for (let bit = 0; bit < frame.length * 8; bit++) {
        const mask = 1 << (bit & 7);
        frame[bit >> 3] = (frame[bit >> 3] as number) ^ mask;
        if (isBelieved(frame)) throw new Error(`believed with bit ${bit} flipped`);
        frame[bit >> 3] = (frame[bit >> 3] as number) ^ mask;
      }
      expect(isBelieved(frame)).toBe(true);
    }),
    { numRuns: 20 },
  );
});

test('a frame that was cut, lengthened or altered anywhere is not believed', () => {
  const edit = fc.record({ at: fc.nat(200), remove: fc.nat(20), insert: fc.uint8Array({ maxLength: 20 }) });
  fc.assert(
    fc.property(probes, edit, (p, { at, remove, insert }) => {
      const frame = buildLldp(p, seal);
      const start = at % (frame.length + 1);
      const edited = Buffer.concat([frame.subarray(0, start), insert, frame.subarray(start + remove)]);
      expect(isBelieved(edited)).toBe(edited.equals(frame));
    }),
    { numRuns: 2000 },
  );
});

test('whatever bytes come, reading ends without an error', () => {
  const head = Buffer.from('0180c200000e02000000000188cc', 'hex');
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      expect(isBelieved(Buffer.from(bytes))).toBe(false);
      expect(isBelieved(Buffer.concat([head, bytes]))).toBe(false);
    }),
  );
});
