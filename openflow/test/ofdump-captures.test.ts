/** ofdump's readers of captures: every kind of file and link layer, TCP in disorder, damage. */
import fc from 'fast-check';
import { encode, of13 } from 'node-openflow';
import { Dump, type DumpOptions } from '../cli/dump.ts';
import type { Found, Item, Problem } from '../cli/items.ts';
import {
  captureFile,
  conversation,
  FILE_KINDS,
  LINKS,
  packet,
  type TcpPacket,
  TIME,
  type Wrapping,
} from './captures.ts';

const RUNS = Number(process.env.FC_RUNS ?? 1);

const hello = encode(of13.OFPHello({ elements: [of13.OFPHelloElemVersionBitmap({ versions: [1, 4] })] }), 1);
const flow = (xid: number) =>
  encode(
    of13.OFPFlowMod({
      match: of13.OFPMatch({ in_port: xid }),
      instructions: [of13.OFPInstructionGotoTable({ table_id: 1 })],
    }),
    xid,
  );
const echo = (xid: number, size: number) => encode(of13.OFPEchoRequest({ data: Buffer.alloc(size, xid) }), xid);

const up = [hello, echo(2, 3), echo(3, 3000), echo(4, 0)];
const down = [hello, flow(5), flow(6), echo(7, 1)];

function read(file: Buffer, options: DumpOptions = {}, size = file.length): Item[] {
  const dump = new Dump(options);
  const out: Item[] = [];
  for (let at = 0; at < file.length; at += Math.max(1, size)) out.push(...dump.push(file.subarray(at, at + size)));
  return [...out, ...dump.end()];
}
const messages = (items: readonly Item[]) => items.filter((i): i is Found => i.kind === 'message');
const problems = (items: readonly Item[]) => items.filter((i): i is Problem => i.kind === 'problem');
/** What one direction carried, in hex, with the problems found. */
const of = (items: readonly Item[], from: string) =>
  messages(items)
    .filter((m) => m.place.stream?.startsWith(from))
    .map((m) => m.bytes.toString('hex'));
const hexes = (list: readonly Buffer[]) => list.map((b) => b.toString('hex'));
const file = (packets: readonly TcpPacket[], w: Wrapping = {}) =>
  captureFile(
    packets.map((p) => packet(p, w)),
    w.link,
    'pcap',
    true,
    packets.map((p) => p.cut ?? 0),
  );

const talk = conversation(Buffer.concat(up), Buffer.concat(down));

describe('files', () => {
  test.each(
    FILE_KINDS.flatMap((kind) => [true, false].flatMap((little) => LINKS.map((link) => [kind, little, link] as const))),
  )('%s, little-endian %s, %s', (kind, littleEndian, link) => {
    for (const ipv6 of [false, true]) {
      const w = { link, ipv6, littleEndian, extensions: ipv6 && link === 'raw' };
      const items = read(
        captureFile(
          talk.map((p) => packet(p, w)),
          link,
          kind,
          littleEndian,
        ),
      );
      expect(problems(items)).toEqual([]);
      expect(of(items, ipv6 ? '[fd00:100::1]:41000' : '10.0.0.1:41000')).toEqual(hexes(up));
      expect(of(items, ipv6 ? '[fd00:200::2]:6653' : '10.0.0.2:6653')).toEqual(hexes(down));
      const [first] = messages(items);
      // the fourth packet is the first with payload
      expect(first?.place.packet).toBe(4);
      const exact = kind === 'pcap-ns' || kind === 'pcapng' || kind === 'pcapng-old';
      const unit = exact ? 1n : 1000n;
      expect(first?.place.timeNs).toBe(kind === 'pcapng-simple' ? undefined : TIME(3) - (TIME(3) % unit));
    }
  });

  test('offsets are of the file', () => {
    const b = file(talk);
    for (const { bytes, place } of messages(read(b))) {
      expect(b.subarray(place.offset, place.offset + 8)).toEqual(bytes.subarray(0, 8));
    }
  });

  test('pieces of any size give the same', () => {
    for (const kind of FILE_KINDS) {
      const b = captureFile(
        talk.map((p) => packet(p)),
        'ethernet',
        kind,
      );
      const whole = read(b);
      for (const size of [1, 2, 3, 7, 15, 16, 17, 1000]) expect(read(b, {}, size)).toEqual(whole);
    }
  });

  test('interfaces of several link types, seconds as time', () => {
    const blocks = (link: 'ethernet' | 'raw') =>
      captureFile(
        talk.map((p) => packet(p, { link })),
        link,
        'pcapng',
      );
    // two sections: the second begins anew with its interfaces, in the other byte order
    const second = captureFile(
      talk.map((p) => packet(p, { link: 'raw', port: 6633 })),
      'raw',
      'pcapng',
      false,
    );
    const items = read(Buffer.concat([blocks('ethernet'), second]));
    expect(problems(items)).toEqual([]);
    expect(messages(items)).toHaveLength(2 * (up.length + down.length));
  });

  test('a damaged record is located and ends the reading', () => {
    const b = file(talk);
    const at = 24 + 16 + packet(talk[0] as TcpPacket).length;
    b.writeUInt32LE(0x7fffffff, at + 8);
    expect(problems(read(b))).toEqual([
      { kind: 'problem', place: { offset: at }, reason: expect.stringMatching(/damaged here; the last \d+ bytes/) },
    ]);
  });

  test('a file cut short says so', () => {
    const b = file(talk);
    expect(problems(read(b.subarray(0, b.length - 1))).map((p) => p.reason)).toEqual([
      expect.stringContaining('the last record is incomplete'),
    ]);
    expect(problems(read(b.subarray(0, 20))).map((p) => p.reason)).toEqual([
      expect.stringContaining('file header is incomplete'),
    ]);
    expect(problems(read(b, { format: 'pcap' }).slice(0, 0))).toEqual([]);
  });

  test('a link type nobody knows is reported once', () => {
    const b = file(talk);
    b.writeUInt32LE(147, 20);
    expect(problems(read(b)).map((p) => p.reason)).toEqual(['packets of link type 147 cannot be read']);
  });

  test('what is no capture is refused when it has to be one', () => {
    expect(problems(read(hello, { format: 'pcap' })).map((p) => p.reason)).toEqual([
      expect.stringContaining('neither pcap nor pcapng'),
    ]);
  });
});

describe('streams', () => {
  const carried = (packets: readonly TcpPacket[], w: Wrapping = {}, options: DumpOptions = {}) => {
    const items = read(file(packets, w), options);
    return { up: of(items, '10.0.0.1'), down: of(items, '10.0.0.2'), problems: problems(items) };
  };
  const whole = { up: hexes(up), down: hexes(down), problems: [] };

  test('other ports: only what begins with a hello', () => {
    expect(carried(talk, { port: 7777 })).toEqual(whole);
    const http = conversation(Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.from('HTTP/1.1 200 OK\r\n\r\n'));
    expect(carried(http, { port: 80 })).toEqual({ up: [], down: [], problems: [] });
    // TPKT begins with the same four bytes as a hello of 1.2
    const tpkt = conversation(
      Buffer.from('030000130ee000000000000100080003000000', 'hex'),
      Buffer.from('03000013', 'hex'),
    );
    expect(carried(tpkt, { port: 3389 })).toEqual({ up: [], down: [], problems: [] });
    // cut short before it was clear what it is
    expect(carried(conversation(hello.subarray(0, 5), Buffer.alloc(0)), { port: 80 })).toEqual({
      up: [],
      down: [],
      problems: [],
    });
  });

  test('a port can be named', () => {
    const middle = talk.filter((p) => p.flags === undefined && p.payload !== undefined).slice(2);
    expect(carried(middle, { port: 7777 })).toEqual({ up: [], down: [], problems: [] });
    expect(carried(middle, { port: 7777 }, { ports: [7777] }).down).toEqual([]);
    const later = conversation(Buffer.concat(up.slice(1)), Buffer.concat(down.slice(1)));
    expect(carried(later, { port: 7777 }, { ports: [7777] })).toEqual({
      up: hexes(up.slice(1)),
      down: hexes(down.slice(1)),
      problems: [],
    });
  });

  test('disorder, retransmission and overlap change nothing', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1500 }),
        fc.infiniteStream(fc.nat(1000)),
        fc.boolean(),
        fc.integer({ min: 0, max: 0xffffffff }),
        (size, numbers, ipv6, isn) => {
          const n = () => numbers.next().value as number;
          const packets = conversation(Buffer.concat(up), Buffer.concat(down), size, isn);
          const data = packets.slice(3, -3);
          const more: TcpPacket[] = [];
          for (const p of data) {
            more.push(p);
            if (n() % 3 === 0) more.push(p);
            const payload = p.payload as Buffer;
            if (n() % 3 === 0 && payload.length > 1) {
              // part of it again, from the middle on
              const from = n() % payload.length;
              more.push({ ...p, seq: p.seq + from, payload: payload.subarray(from) });
            }
          }
          // each moves at most ten places
          const mixed = more
            .map((p, i) => ({ p, at: i + (n() % 10) }))
            .sort((a, b) => a.at - b.at)
            .map(({ p }) => ({ ...p, ack: 0 }));
          const items = read(file([...packets.slice(0, 3), ...mixed, ...packets.slice(-3)], { ipv6 }));
          expect(problems(items)).toEqual([]);
          expect(messages(items)).toHaveLength(up.length + down.length);
          expect(of(items, ipv6 ? '[fd00:100::1]' : '10.0.0.1')).toEqual(whole.up);
          expect(of(items, ipv6 ? '[fd00:200::2]' : '10.0.0.2')).toEqual(whole.down);
        },
      ),
      { numRuns: 60 * RUNS },
    );
  });

  test('a missing segment is located and reading goes on at the next message', () => {
    const list = Array.from({ length: 60 }, (_, i) => flow(i + 1));
    const size = (list[0] as Buffer).length;
    const packets = conversation(Buffer.concat([hello, ...list]), hello, size);
    // the hello is as long as part of a flow-mod: segments and messages do not begin together
    const lost = 10;
    const kept = packets.filter((p) => !(p.up && p.payload !== undefined && p.seq === 0xfffffff1 + lost * size));
    const got = carried(kept);
    expect(got.problems).toEqual([
      {
        kind: 'problem',
        place: expect.objectContaining({ stream: '10.0.0.1:41000 > 10.0.0.2:6653', packet: expect.any(Number) }),
        reason: expect.stringMatching(
          /^message cut short after 56 bytes: 72 bytes of the stream missing in the capture; 72 bytes skipped before reading went on at packet \d+, offset \d+$/,
        ),
      },
    ]);
    // of the message begun before the hole and the one that ends behind it nothing can be read
    expect(got.up).toEqual(hexes([hello, ...list.filter((_, i) => i !== lost - 1 && i !== lost)]));
    // where every segment begins with a message, it can go on
    const aligned = conversation(Buffer.concat(list), hello, size).filter(
      (p) => !(p.up && p.seq === 0xfffffff1 + lost * size),
    );
    const again = carried(aligned);
    expect(again.up).toEqual(hexes(list.filter((_, i) => i !== lost)));
    expect(again.problems.map((p) => p.reason)).toEqual([
      `${size} bytes of the stream missing in the capture; reading went on at packet 15, offset 1876`,
    ]);
  });

  test('a packet cut short by the snap length is named as the cause', () => {
    const list = Array.from({ length: 5 }, (_, i) => flow(i + 1));
    const size = (list[0] as Buffer).length;
    const packets = conversation(Buffer.concat(list), hello, size).map((p) =>
      p.up && p.seq === 0xfffffff1 + size ? { ...p, cut: 20 } : p,
    );
    const got = carried(packets);
    expect(got.up).toEqual(hexes(list.filter((_, i) => i !== 1)));
    expect(got.problems.map((p) => p.reason)).toEqual([
      `message cut short after ${size - 20} bytes: 20 bytes of the stream missing in the capture (packets were cut short when they were captured); ${size - 20} bytes skipped before reading went on at packet 7, offset 688`,
    ]);
  });

  test('a capture that begins in the middle of a stream', () => {
    const middle = talk.slice(5, -3).filter((p) => p.up);
    // the second half of a long message, then a message that begins with a segment
    const got = carried([...middle, { up: true, seq: 0xfffffff1 + Buffer.concat(up).length, payload: flow(9) }]);
    expect(got.up).toEqual(hexes([flow(9)]));
    expect(got.problems).toHaveLength(1);
    expect(got.problems[0]?.reason).toMatch(/no OpenFlow header where reading began.*skipped before reading went on/);
  });

  test('TLS is recognised', () => {
    const got = carried(conversation(Buffer.from('160301020001000002', 'hex'), Buffer.alloc(0)));
    expect(got.problems.map((p) => p.reason)).toEqual([expect.stringContaining('it looks like TLS')]);
  });

  test('ports are used again, connections are reset', () => {
    const first = conversation(Buffer.concat(up), Buffer.concat(down), 1000, 1000);
    const again = conversation(Buffer.concat(down), Buffer.concat(up), 1000, 5_000_000);
    expect(carried([...first.slice(0, -3), { up: true, seq: 9, flags: 'R' }, ...again])).toEqual({
      up: [...whole.up, ...whole.down],
      down: [...whole.down, ...whole.up],
      problems: [],
    });
    // without any end of the first one; its SYN came twice
    expect(carried([first[0] as TcpPacket, ...first.slice(0, -3), ...again])).toEqual({
      up: [...whole.up, ...whole.down],
      down: [...whole.down, ...whole.up],
      problems: [],
    });
  });

  test('what was acknowledged but never captured is missed at the end', () => {
    const silent = talk.filter((p) => !(p.up && p.flags === undefined && p.payload !== undefined)).slice(0, -3);
    expect(carried(silent).problems.map((p) => p.reason)).toEqual([
      expect.stringMatching(/^\d+ bytes of the stream missing in the capture/),
    ]);
  });

  test('fragments of IP are reported', () => {
    const packets = talk.map((p) => packet(p));
    (packets[3] as Buffer).writeUInt16BE(0x2000, 14 + 6);
    expect(problems(read(captureFile(packets))).map((p) => p.reason)).toEqual(
      expect.arrayContaining([expect.stringContaining('1 fragments of IP packets')]),
    );
  });

  test('many connections do not pile up', () => {
    const list = Array.from({ length: 6000 }, (_, i) =>
      packet({ up: true, seq: 1, flags: 'S' }, { port: 9, clientPort: 1 + i }),
    );
    const talking = talk.map((p) => packet(p));
    const items = read(captureFile([...talking.slice(0, -3), ...list, ...talking.slice(-3)]));
    expect(problems(items)).toEqual([]);
    expect(messages(items)).toHaveLength(up.length + down.length);
  });
});

describe('damage', () => {
  const files = FILE_KINDS.map((kind) =>
    captureFile(
      talk.map((p) => packet(p)),
      'ethernet',
      kind,
    ),
  );

  /** Reading ends, tells places inside the file, and finds no more than there is. */
  function sane(b: Buffer, size?: number): void {
    const items = read(b, {}, size);
    let total = 0;
    for (const i of items) {
      expect(i.place.offset).toBeGreaterThanOrEqual(0);
      if (i.kind === 'message') {
        total += i.bytes.length;
        expect(i.bytes.readUInt16BE(2)).toBe(i.bytes.length);
      } else {
        expect(i.reason).not.toBe('');
      }
    }
    expect(total).toBeLessThanOrEqual(b.length);
  }

  test('truncated captures', () => {
    for (const b of files) for (let n = 0; n < b.length; n += 41) sane(b.subarray(0, n));
  });

  test('mutated captures', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...files),
        fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 1, max: 5000 }),
        (original, changes, size) => {
          const b = Buffer.from(original);
          for (const [at, v] of changes) b[at % b.length] = v;
          sane(b, size);
        },
      ),
      { numRuns: 400 * RUNS },
    );
  });

  test('noise', () => {
    fc.assert(
      fc.property(
        fc.constantFrom('auto', 'raw', 'pcap', 'hex'),
        fc.uint8Array({ maxLength: 3000 }),
        fc.nat(300),
        (format, a, size) => {
          const items = read(Buffer.from(a), { format: format as DumpOptions['format'] }, size + 1);
          expect(items).toEqual(read(Buffer.from(a), { format: format as DumpOptions['format'] }));
        },
      ),
      { numRuns: 300 * RUNS },
    );
  });
});
