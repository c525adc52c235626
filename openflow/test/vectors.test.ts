/**
 * Messages written out by hand from the specification, byte for byte, both ways; and messages that must be refused.
 * They need no other implementation, so they also hold what no oracle here can tell (xids, MORE flags, unknown types).
 */
import { decode, encode, fromJson, type OfMessage, of13, ofproto_v1_3 as ofp, quotedXid, toJson } from 'node-openflow';
import { refused, undecodable } from './refusals.ts';

const bytes = (hex: string) => Buffer.from(hex.replace(/[^0-9a-f]/g, ''), 'hex');

const good: [string, string, OfMessage][] = [
  [
    'hello with a version bitmap: 1.0 and 1.3',
    '04 00 0010 00000001 | 0001 0008 00000012',
    of13.OFPHello({ xid: 1, elements: [of13.OFPHelloElemVersionBitmap({ versions: [1, 4] })] }),
  ],
  ['hello of OpenFlow 1.5, without elements', '06 00 0008 00000002', of13.OFPHello({ version: 6, xid: 2 })],
  [
    'error that quotes a barrier request',
    '04 01 0014 0000002a | 0001 0006 | 04140008 0000002a',
    of13.OFPErrorMsg({
      xid: 42,
      type: ofp.OFPET_BAD_REQUEST,
      code: ofp.OFPBRC_BAD_LEN,
      data: bytes('04140008 0000002a'),
    }),
  ],
  [
    'experimenter error',
    '04 01 0012 00000003 | ffff 08fc 4f4e4600 | abcd',
    of13.OFPErrorExperimenterMsg({ xid: 3, exp_type: 2300, experimenter: 0x4f4e4600, data: bytes('abcd') }),
  ],
  [
    'flow-mod: DSCP 10 on 10/8 from port 1, then table 1',
    `04 0e 0080 0000004d | 0000000000000001 0000000000000000 00 00 0000 0000 0064 ffffffff 00000000 00000000 0000 0000
     | 0001 001e 80000004 00000001 80000a02 0800 80001708 0a000000 ff000000 0000
     | 0004 0028 00000000 | 0019 0010 80001001 0a 00000000000000 | 0000 0010 00000001 0000 000000000000
     | 0001 0008 01 000000`,
    of13.OFPFlowMod({
      xid: 77,
      cookie: 1n,
      priority: 100,
      match: of13.OFPMatch({ ipv4_src: '10.9.8.7/8', in_port: 1, eth_type: 0x0800 }),
      instructions: [
        of13.OFPInstructionActions({
          type: ofp.OFPIT_APPLY_ACTIONS,
          actions: [
            of13.OFPActionSetField({ field: 'ip_dscp', value: 10 }),
            of13.OFPActionOutput({ port: 1, max_len: 0 }),
          ],
        }),
        of13.OFPInstructionGotoTable({ table_id: 1 }),
      ],
    }),
  ],
  [
    'flow-mod: write-metadata, clear-actions, meter',
    `04 0e 0060 00000000 | 0000000000000000 0000000000000000 00 00 0000 0000 8000 ffffffff 00000000 00000000 0000 0000
     | 0001 0004 00000000
     | 0002 0018 00000000 ffffffffffffffff 8000000000000001 | 0005 0008 00000000 | 0006 0008 00000007`,
    of13.OFPFlowMod({
      instructions: [
        of13.OFPInstructionWriteMetadata({ metadata: 0xffffffffffffffffn, metadata_mask: 0x8000000000000001n }),
        of13.OFPInstructionActions({ type: ofp.OFPIT_CLEAR_ACTIONS }),
        of13.OFPInstructionMeter({ meter_id: 7 }),
      ],
    }),
  ],
  [
    'delete by cookie mask: any port, any group, all tables',
    `04 0e 0038 00000000 | fa1c000000000000 ffff000000000000 ff 03 0000 0000 8000 ffffffff ffffffff ffffffff 0000 0000
     | 0001 0004 00000000`,
    of13.flowDelete({ cookie: 0xfa1c000000000000n, cookie_mask: 0xffff000000000000n }),
  ],
  [
    'packet-in with its two bytes of padding',
    `04 0a 0030 00000000 | ffffffff 0004 00 02 0000000000000005 | 0001 000c 80000004 00000003 00000000 | 0000 | deadbeef`.replace(
      '0030',
      '002e',
    ),
    of13.OFPPacketIn({
      total_len: 4,
      table_id: 2,
      cookie: 5n,
      match: of13.OFPMatch({ in_port: 3 }),
      data: bytes('deadbeef'),
    }),
  ],
  [
    'meter-mod: 20 Mbit/s, 2 Mbit bucket',
    '04 1d 0020 00000000 | 0000 0005 00000009 | 0001 0010 00004e20 000007d0 00000000',
    of13.OFPMeterMod({
      flags: ofp.OFPMF_KBPS | ofp.OFPMF_BURST,
      meter_id: 9,
      bands: [of13.OFPMeterBandDrop({ rate: 20000, burst_size: 2000 })],
    }),
  ],
  [
    'queue statistics with MORE',
    '04 13 0038 00000009 | 0005 0001 00000000 | 00000001 00000002 0000000000000003 0000000000000004 0000000000000005 00000006 00000007',
    of13.OFPQueueStatsReply({
      xid: 9,
      flags: ofp.OFPMPF_REPLY_MORE,
      body: [
        of13.OFPQueueStats({
          port_no: 1,
          queue_id: 2,
          tx_bytes: 3n,
          tx_packets: 4n,
          tx_errors: 5n,
          duration_sec: 6,
          duration_nsec: 7,
        }),
      ],
    }),
  ],
  [
    'unknown action, unknown instruction, unknown match field, unknown experimenter match field',
    `04 0e 0078 00000000 | 0000000000000000 0000000000000000 00 00 0000 0000 8000 ffffffff 00000000 00000000 0000 0000
     | 0001 0015 0002fe03 0a0b0c ffff0206 00001234 beef 000000
     | 0004 0018 00000000 | 0fff 0010 010203040506070809101112
     | 1fff 0010 aabbccddeeff001122334455`,
    of13.OFPFlowMod({
      match: {
        cls: 'OFPMatch',
        fields: { [`field_${2 * 128 + 127}`]: 'CgsM', [`field_${0xffff * 128 + 1}_${0x1234}`]: 'vu8=' },
      },
      instructions: [
        of13.OFPInstructionActions({
          type: ofp.OFPIT_APPLY_ACTIONS,
          actions: [of13.OFPActionUnknown({ type: 0x0fff, data: bytes('010203040506070809101112') })],
        }),
        of13.OFPInstructionUnknown({ type: 0x1fff, data: bytes('aabbccddeeff001122334455') }),
      ],
    }),
  ],
  [
    'unknown message type',
    '04 63 000b 00000007 010203',
    of13.OFPUnknownMessage({ xid: 7, msg_type: 0x63, data: bytes('010203') }),
  ],
  [
    'unknown multipart type',
    '04 13 0012 00000007 0077 0000 00000000 0102',
    of13.OFPMultipartReplyUnknown({ xid: 7, type: 0x77, data: bytes('0102') }),
  ],
];

test.each(good)('%s', (_, hex, msg) => {
  const want = bytes(hex);
  want.writeUInt16BE(want.length, 2);
  expect(encode(msg).toString('hex')).toBe(want.toString('hex'));
  expect(decode(want)).toEqual(msg);
  expect(encode(fromJson(toJson(msg)), msg.xid)).toHaveLength(want.length);
});

test("bytes behind the header's length are left alone", () => {
  expect(decode(bytes('04 14 0008 00000001 ffffffff'))).toEqual(of13.OFPBarrierRequest({ xid: 1 }));
});

test('encode(msg, xid) replaces the xid', () => {
  const msg = of13.OFPBarrierRequest({ xid: 1 });
  expect(encode(msg, 0xfffffffe).readUInt32BE(4)).toBe(0xfffffffe);
  expect(encode(msg).readUInt32BE(4)).toBe(1);
});

const bad: [string, string, number, number, number][] = [
  ['nothing', '', ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_LEN, 0],
  ['length below 8', '04 02 0007 00000000', ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_LEN, 2],
  ['length beyond the bytes', '04 02 0009 00000000', ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_LEN, 2],
  ['another version', '02 05 0008 00000000', ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_VERSION, 0],
  ['hello element of length 0', '04 00 000c 00000000 0001 0000', ofp.OFPET_HELLO_FAILED, ofp.OFPHFC_INCOMPATIBLE, 8],
  [
    'action of length 0',
    '04 0d 0020 00000000 ffffffff fffffffd 0008 000000000000 0000 0000 00000000',
    ofp.OFPET_BAD_ACTION,
    ofp.OFPBAC_BAD_LEN,
    24,
  ],
  [
    'output action of length 8',
    '04 0d 0020 00000000 ffffffff fffffffd 0008 000000000000 0000 0008 00000000',
    ofp.OFPET_BAD_ACTION,
    ofp.OFPBAC_BAD_LEN,
    24,
  ],
  [
    'actions longer than the packet-out',
    '04 0d 0018 00000000 ffffffff fffffffd 0010 000000000000',
    ofp.OFPET_BAD_REQUEST,
    ofp.OFPBRC_BAD_LEN,
    24,
  ],
  [
    'the same match field twice',
    `04 0e 0048 00000000 0000000000000000 0000000000000000 00 00 0000 0000 8000 ffffffff 00000000 00000000 0000 0000
     0001 0014 80000004 00000001 80000004 00000002 00000000`,
    ofp.OFPET_BAD_MATCH,
    ofp.OFPBMC_DUP_FIELD,
    60,
  ],
  [
    'bucket of length 0',
    '04 0f 0020 00000000 0000 00 00 00000001 0000 0001 ffffffff ffffffff 00000000',
    ofp.OFPET_GROUP_MOD_FAILED,
    ofp.OFPGMFC_BAD_BUCKET,
    16,
  ],
];

test.each(bad)('refused: %s', (_, hex, type, code, offset) => {
  undecodable(bytes(hex), type, code, offset);
});

test('what does not fit is refused by class and field', () => {
  refused(() => encode(of13.OFPFlowMod({ priority: 65536 })), 'OFPFlowMod', 'priority');
  refused(() => encode(of13.OFPFlowMod({ priority: 1.5 })), 'OFPFlowMod', 'priority');
  refused(() => of13.OFPFlowMod({ cookie: -1n }), 'OFPFlowMod', 'cookie');
  refused(() => of13.OFPFlowMod({ cookie: 2 ** 60 }), 'OFPFlowMod', 'cookie');
  refused(() => of13.OFPMatch({ ipv4_src: '10.0.0.256' }), 'OFPMatch', 'ipv4_src');
  refused(() => of13.OFPMatch({ ipv4_src: '10.0.0.0/33' }), 'OFPMatch', 'ipv4_src');
  refused(() => of13.OFPMatch({ eth_src: 'aa:bb:cc:dd:ee' }), 'OFPMatch', 'eth_src');
  refused(() => of13.OFPActionSetField({ field: 'ipv4_dst', value: '10.0.0.0/8' }), 'OFPActionSetField', 'value');
  refused(() => encode(of13.OFPSetAsync({ packet_in_mask: [1] })), 'OFPSetAsync', 'packet_in_mask');
  refused(() => encode({ ...of13.OFPMeterMod(), version: 1 as 4 }), 'OFPMeterMod', 'cls');
  refused(() => encode({ ...of13.OFPMeterMod(), version: 2 as 4 }), 'OFPMeterMod', 'version');
  refused(() => encode(of13.OFPEchoRequest({ data: Buffer.alloc(65528) })), 'OFPEchoRequest', 'length');
  refused(() => fromJson({ OFPFlowMod: { prioritty: 1 } }), 'OFPFlowMod', 'prioritty');
  refused(() => fromJson({ OFPNonsense: {} }), 'OFPNonsense', 'cls');
  // and the encoder is none the worse for it
  expect(encode(of13.OFPBarrierRequest()).toString('hex')).toBe('0414000800000000');
  expect(encode(of13.OFPEchoRequest({ data: Buffer.alloc(65527) }))).toHaveLength(65535);
});

test('the xid an error quotes', () => {
  const request = encode(of13.OFPFlowMod({ xid: 0xfedcba98 })).subarray(0, 64);
  const error = decode(encode(of13.OFPErrorMsg({ type: 5, code: 1, data: request })));
  expect(error.cls === 'OFPErrorMsg' && quotedXid(error)).toBe(0xfedcba98);
  expect(quotedXid({ data: Buffer.alloc(7) })).toBeUndefined();
});

test("JSON has Ryu's shape", () => {
  expect(toJson(of13.OFPErrorExperimenterMsg({ exp_type: 1, experimenter: 2 }))).toEqual({
    OFPErrorMsg: { code: null, data: '', exp_type: 1, experimenter: 2, type: 0xffff },
  });
  const json = toJson(
    of13.OFPPacketOut({
      in_port: ofp.OFPP_CONTROLLER,
      actions: [of13.OFPActionOutput({ port: 1 })],
      data: Buffer.from('hi'),
    }),
  );
  expect(json).toEqual({
    OFPPacketOut: {
      actions: [{ OFPActionOutput: { len: 16, max_len: 65509, port: 1, type: 0 } }],
      actions_len: 16,
      buffer_id: 0xffffffff,
      data: 'aGk=',
      in_port: 0xfffffffd,
    },
  });
});
