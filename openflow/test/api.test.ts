/**
 * What callers lean on besides the bytes: types that refuse mistakes, matches, the splitter, the multipart assembler.
 */
import {
  decode,
  encode,
  isMultipartReply,
  MessageSplitter,
  MultipartAssembler,
  matchKey,
  OFPMatch,
  OfDecodeError,
  type OfMessage,
  of13,
  of14,
  of15,
  ofproto_v1_3 as ofp,
  ofproto_v1_4 as ofp14,
  parseJson,
} from 'node-openflow';

test('types: mistakes do not compile', () => {
  // The calls are not made: what counts is that the compiler refuses each line marked as an error.
  const unused = () => {
    // @ts-expect-error no such field
    of13.OFPFlowMod({ prioritty: 1 });
    // @ts-expect-error wrong type
    of13.OFPFlowMod({ priority: '1' });
    // @ts-expect-error required
    of13.OFPActionOutput({});
    // @ts-expect-error required
    of13.OFPInstructionGotoTable();
    // @ts-expect-error no such match field
    of13.OFPMatch({ ip_src: '10.0.0.1' });
    // @ts-expect-error an address is text
    of13.OFPMatch({ ipv4_src: 1 });
    // @ts-expect-error the value must be of the field's type
    of13.OFPActionSetField({ field: 'ip_dscp', value: '10' });
    // @ts-expect-error an action is no instruction
    of13.OFPFlowMod({ instructions: [of13.OFPActionOutput({ port: 1 })] });
    // @ts-expect-error a structure is no message
    encode(of13.OFPActionOutput({ port: 1 }));
    const msg: OfMessage = decode(Buffer.alloc(0));
    // @ts-expect-error not every message has a match
    msg.match;
    if (msg.version === 4 && msg.cls === 'OFPPacketIn') {
      const cookie: bigint = msg.cookie;
      const port: number | [number, number] | undefined = msg.match.fields.in_port;
      return [cookie, port];
    }
    if (msg.cls === 'OFPPortStatsReply') return msg.body[0]?.rx_bytes satisfies bigint | undefined;
    return undefined;
  };
  expect(unused).toBeInstanceOf(Function);
});

test('types: what a version does not have does not compile in it', () => {
  const unused = () => {
    of14.OFPFlowMod({ importance: 7 });
    // @ts-expect-error came with 1.4
    of13.OFPFlowMod({ importance: 7 });
    of15.OFPRoleRequest({ short_id: 7 });
    // @ts-expect-error came with 1.5
    of14.OFPRoleRequest({ short_id: 7 });
    // @ts-expect-error ports have properties since 1.4
    of14.OFPPort({ port_no: 1, curr: 0 });
    // @ts-expect-error ports have no properties before 1.4
    of13.OFPPort({ port_no: 1, properties: [] });
    of15.OFPActionSetField({ field: 'ipv4_src', value: ['10.0.0.0', '255.0.0.0'] });
    // @ts-expect-error masks mean something since 1.5
    of14.OFPActionSetField({ field: 'ipv4_src', value: ['10.0.0.0', '255.0.0.0'] });
    // @ts-expect-error an action in 1.5
    of15.OFPInstructionMeter({ meter_id: 1 });
    // @ts-expect-error an instruction before 1.5
    of14.OFPActionMeter({ meter_id: 1 });
    // @ts-expect-error a property of queues is none of ports
    of14.OFPPort({ port_no: 1, properties: [of14.OFPQueueDescPropMinRate({ rate: 1 })] });
    // @ts-expect-error what comes out of 1.5 has more in it than 1.4 has
    of14.OFPGroupMod({ buckets: [of15.OFPBucket()] });
    // @ts-expect-error the switch must know where the packet comes from
    of15.OFPPacketOut({ actions: [] });
    of14.OFPBundleAddMsg({ bundle_id: 1, message: of14.OFPFlowMod() });
    // @ts-expect-error an action is no message
    of14.OFPBundleAddMsg({ bundle_id: 1, message: of14.OFPActionPopVlan() });
    // @ts-expect-error a message of another version
    of14.OFPBundleAddMsg({ bundle_id: 1, message: of15.OFPFlowMod() });
    // @ts-expect-error no such statistic
    of15.OFPStats({ packets: 1n });
    // @ts-expect-error seconds and nanoseconds
    of15.OFPStats({ duration: 1 });
    // @ts-expect-error came with 1.5
    of14.OFPStats();
    // @ts-expect-error the number of the queue statistics has another name since 1.4
    ofp14.OFPMP_QUEUE;
    const msg: OfMessage = decode(Buffer.alloc(0));
    if (msg.cls === 'OFPFlowRemoved') {
      // @ts-expect-error not in 1.5
      msg.packet_count;
      if (msg.version === 6) return msg.stats.fields.packet_count satisfies bigint | undefined;
      return msg.packet_count satisfies bigint;
    }
    if (msg.cls === 'OFPBundleAddMsg' && msg.message.cls === 'OFPFlowMod')
      return msg.message.importance satisfies number;
    if (msg.cls === 'OFPFlowMonitorReply') {
      const [update] = msg.body;
      if (update?.cls === 'OFPFlowUpdateFull') return update.cookie satisfies bigint;
    }
    return undefined;
  };
  expect(unused).toBeInstanceOf(Function);
});

describe('matches', () => {
  test('are normalised', () => {
    const match = OFPMatch({
      ipv4_src: ['10.1.2.3', '255.255.0.0'],
      eth_dst: 'AA:BB:CC:DD:EE:0F',
      in_port: 7,
      ipv6_dst: '2001:DB8:0:0::1',
      metadata: 5,
      reg1: 3,
    });
    expect(Object.entries(match.fields)).toEqual([
      ['reg1', 3],
      ['in_port', 7],
      ['metadata', 5n],
      ['eth_dst', 'aa:bb:cc:dd:ee:0f'],
      ['ipv4_src', ['10.1.0.0', '255.255.0.0']],
      ['ipv6_dst', '2001:db8::1'],
    ]);
  });

  test('keys ignore order and masks that mean nothing', () => {
    const a = matchKey(OFPMatch({ in_port: 1, ipv4_src: ['10.0.0.1', '255.255.255.255'], vlan_vid: [0x1001, 0x1fff] }));
    const b = matchKey(
      OFPMatch({
        ipv4_src: '10.0.0.1',
        in_port: 1,
        vlan_vid: 0x1001,
        eth_src: ['00:00:00:00:00:01', '00:00:00:00:00:00'],
      }),
    );
    expect(a).toBe(b);
    expect(matchKey(OFPMatch({ vlan_vid: [0x1000, 0x1000] }))).not.toBe(matchKey(OFPMatch({ vlan_vid: 0x1000 })));
    expect(matchKey(OFPMatch())).toBe('');
  });

  test.each([
    ['0:0:0:0:0:0:0:0', '::'],
    ['::1', '::1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['::ffff:10.0.0.1', '::ffff:10.0.0.1'],
    ['0:0:0:0:0:0:102:304', '::1.2.3.4'],
  ])('IPv6 %s is printed %s', (text, want) => {
    expect(OFPMatch({ ipv6_src: text }).fields.ipv6_src).toBe(want);
  });

  test.each(['1::2::3', ':1', '1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7', 'g::', '::1.2.3', '1.2.3.4::', '12345::'])(
    'IPv6 %s is refused',
    (text) => {
      expect(() => OFPMatch({ ipv6_src: text })).toThrow('not an IPv6 address');
    },
  );
});

describe('splitter', () => {
  const a = encode(of13.OFPEchoRequest({ xid: 1, data: Buffer.from('abc') }));
  const b = encode(of13.OFPBarrierRequest({ xid: 2 }));

  test('one byte at a time', () => {
    const s = new MessageSplitter();
    const out = [...a, ...b].flatMap((byte) => s.push(Buffer.from([byte])));
    expect(out).toEqual([a, b]);
  });

  test('a bad length ends the stream, and the good messages before it are in the error', () => {
    const s = new MessageSplitter();
    let error: unknown;
    try {
      s.push(Buffer.concat([a, b, Buffer.from('0400000700000000', 'hex')]));
    } catch (e) {
      error = e;
    }
    expect(error).toBeInstanceOf(OfDecodeError);
    expect((error as OfDecodeError).preceding).toEqual([a, b]);
    expect(() => s.push(a)).toThrow(OfDecodeError);
  });

  test('a bad length across chunks', () => {
    const s = new MessageSplitter();
    expect(s.push(Buffer.from('040000', 'hex'))).toEqual([]);
    expect(() => s.push(Buffer.from('0000000000', 'hex'))).toThrow(OfDecodeError);
    expect(s.pending).toBe(0);
  });

  test('a cap of its own', () => {
    expect(() => new MessageSplitter({ maxLength: 10 }).push(a)).toThrow('length 11');
  });

  test('time grows with the bytes, not with their square', () => {
    const message = encode(of13.OFPEchoRequest({ data: Buffer.alloc(60000) }));
    const stream = Buffer.concat(new Array<Buffer>(20).fill(message));
    const s = new MessageSplitter();
    let n = 0;
    for (let at = 0; at < stream.length; at++) n += s.push(stream.subarray(at, at + 1)).length;
    expect(n).toBe(20);
  });
});

describe('multipart replies', () => {
  const part = (xid: number, port_no: number, more: boolean) =>
    of13.OFPPortStatsReply({ xid, flags: more ? ofp.OFPMPF_REPLY_MORE : 0, body: [of13.OFPPortStats({ port_no })] });

  test('are joined by xid', () => {
    const m = new MultipartAssembler();
    expect(m.push(part(1, 1, true))).toBeUndefined();
    expect(m.push(part(2, 9, false))?.body).toHaveLength(1);
    expect(m.push(part(1, 2, true))).toBeUndefined();
    expect(m.pending).toEqual([1]);
    const whole = m.push(part(1, 3, false));
    expect(whole?.flags).toBe(0);
    expect(whole?.body.map((p) => p.port_no)).toEqual([1, 2, 3]);
    expect(m.pending).toEqual([]);
  });

  test('have limits', () => {
    const m = new MultipartAssembler({ maxElements: 2, maxPending: 1 });
    m.push(part(1, 1, true));
    expect(() => m.push(part(2, 1, true))).toThrow('too many unfinished');
    m.push(part(1, 2, true));
    expect(() => m.push(part(1, 3, true))).toThrow('more than 2 elements');
    expect(m.pending).toEqual([]);
    m.push(part(1, 1, true));
    expect(() => m.push(of13.OFPFlowStatsReply({ xid: 1 }) as never)).toThrow('changed from');
  });

  test('are told from other messages', () => {
    expect(isMultipartReply(part(1, 1, false))).toBe(true);
    expect(isMultipartReply(of13.OFPBarrierReply())).toBe(false);
    expect(isMultipartReply(of13.OFPPortStatsRequest())).toBe(false);
  });
});

test.each(['', '{', '[1,]', '{"a" 1}', '01', 'nul', '"\u0001"', '1 2', '['.repeat(1000)])(
  'JSON refused: %s',
  (text) => {
    expect(() => parseJson(text)).toThrow(SyntaxError);
  },
);
