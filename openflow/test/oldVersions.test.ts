/**
 * OpenFlow 1.0 and 1.2 where they differ from 1.3: vectors written out by hand from their specifications, both ways; what
 * must be refused, with which error; Ryu's shapes in JSON; types that refuse mistakes.
 */
import {
  decode,
  encode,
  fromJson,
  type OfAction,
  type OfMessage,
  of10,
  of12,
  of13,
  ofproto_v1_0,
  ofproto_v1_2,
  parseJson,
  stringifyJson,
  toJson,
  type Version,
} from 'node-openflow';
import { refused, undecodable } from './refusals.ts';

const bytes = (hex: string) => Buffer.from(hex.replace(/[^0-9a-f]/g, ''), 'hex');
const ANY_10 = '003fffff 0000 000000000000 000000000000 0000 00 00 0000 00 00 0000 00000000 00000000 0000 0000';
const PORT_10 = `0003 020000000003 ${Buffer.from('eth3').toString('hex')}${'00'.repeat(12)}
  00000001 00000200 00000040 00000001 00000002 00000003`;

const good: [string, string, OfMessage][] = [
  [
    '1.0 flow-mod: 10/8 from port 3',
    `01 0e 0068 00000001
     | 003fd8ee 0003 000000000000 000000000000 0000 00 00 0800 00 00 0000 0a000000 00000000 0000 0000
     | 0000000000000007 0000 000a 0000 8000 ffffffff ffff 0001
     | 0008 0008 28 000000 | 000b 0010 0002 000000000000 00000005 | 0000 0008 fffd 0080`,
    of10.OFPFlowMod({
      xid: 1,
      match: of10.OFPMatch({ in_port: 3, dl_type: 0x0800, nw_src: '10.0.0.0', nw_src_mask: 8 }),
      cookie: 7,
      idle_timeout: 10,
      flags: ofproto_v1_0.OFPFF_SEND_FLOW_REM,
      actions: [
        of10.OFPActionSetNwTos({ tos: 40 }),
        of10.OFPActionEnqueue({ port: 2, queue_id: 5 }),
        of10.OFPActionOutput({ port: ofproto_v1_0.OFPP_CONTROLLER, max_len: 128 }),
      ],
    }),
  ],
  [
    '1.0 flow-mod: every field of the match, every other action',
    `01 0e 00a8 00000000
     | 00000000 0001 020000000001 020000000002 0064 05 00 0800 28 06 0000 c0000201 c0000202 03e8 0050
     | 0000000000000000 0001 0000 0000 0009 ffffffff ffff 0000
     | 0001 0008 0064 0000 | 0002 0008 05 000000 | 0003 0008 00000000
     | 0004 0010 02000000000a 000000000000 | 0005 0010 02000000000b 000000000000
     | 0006 0008 c0000201 | 0007 0008 c0000202 | 0009 0008 03e8 0000 | 000a 0008 07d0 0000
     | 0000 0008 0002 ffe5`,
    of10.OFPFlowMod({
      command: ofproto_v1_0.OFPFC_MODIFY,
      priority: 9,
      match: of10.OFPMatch({
        in_port: 1,
        dl_src: '02:00:00:00:00:01',
        dl_dst: '02:00:00:00:00:02',
        dl_vlan: 100,
        dl_vlan_pcp: 5,
        dl_type: 0x0800,
        nw_tos: 40,
        nw_proto: 6,
        nw_src: '192.0.2.1',
        nw_dst: '192.0.2.2',
        tp_src: 1000,
        tp_dst: 80,
      }),
      actions: [
        of10.OFPActionVlanVid({ vlan_vid: 100 }),
        of10.OFPActionVlanPcp({ vlan_pcp: 5 }),
        of10.OFPActionStripVlan(),
        of10.OFPActionSetDlSrc({ dl_addr: '02:00:00:00:00:0A' }),
        of10.OFPActionSetDlDst({ dl_addr: '02:00:00:00:00:0b' }),
        of10.OFPActionSetNwSrc({ nw_addr: '192.0.2.1' }),
        of10.OFPActionSetNwDst({ nw_addr: '192.0.2.2' }),
        of10.OFPActionSetTpSrc({ tp: 1000 }),
        of10.OFPActionSetTpDst({ tp: 2000 }),
        of10.OFPActionOutput({ port: 2 }),
      ],
    }),
  ],
  [
    '1.0 delete of everything',
    `01 0e 0048 00000000 | ${ANY_10} | 0000000000000000 0003 0000 0000 8000 ffffffff ffff 0000`,
    of10.flowDelete(),
  ],
  [
    '1.0 vendor action and unknown action, byte for byte',
    `01 0e 0060 00000000 | ${ANY_10} | 0000000000000000 0000 0000 0000 8000 ffffffff ffff 0000
     | ffff 0010 00001234 0102030405060708 | 000c 0008 01020304`,
    of10.OFPFlowMod({
      actions: [
        of10.OFPActionVendorUnknown({ vendor: 0x1234, data: bytes('0102030405060708') }),
        of10.OFPActionUnknown({ type: 12, data: bytes('01020304') }),
      ],
    }),
  ],
  [
    '1.0 packet-in: the packet begins after 18 bytes',
    '01 0a 0016 00000002 | ffffffff 0004 0003 01 00 | deadbeef',
    of10.OFPPacketIn({ xid: 2, total_len: 4, in_port: 3, reason: 1, data: bytes('deadbeef') }),
  ],
  [
    '1.0 packet-out',
    '01 0d 001a 00000002 | ffffffff fff8 0008 | 0000 0008 fffb ffe5 | cafe',
    of10.OFPPacketOut({
      xid: 2,
      in_port: ofproto_v1_0.OFPP_IN_PORT,
      actions: [of10.OFPActionOutput({ port: ofproto_v1_0.OFPP_FLOOD })],
      data: bytes('cafe'),
    }),
  ],
  [
    '1.0 features with a port',
    `01 06 0050 00000009 | 00000000000000fa 00000100 04 000000 00000047 00000fff | ${PORT_10}`,
    of10.OFPSwitchFeatures({
      xid: 9,
      datapath_id: 0xfan,
      n_buffers: 256,
      n_tables: 4,
      capabilities: 0x47,
      actions: 0xfff,
      ports: [
        of10.OFPPhyPort({
          port_no: 3,
          hw_addr: '02:00:00:00:00:03',
          name: 'eth3',
          config: 1,
          state: ofproto_v1_0.OFPPS_STP_FORWARD,
          curr: 0x40,
          advertised: 1,
          supported: 2,
          peer: 3,
        }),
      ],
    }),
  ],
  [
    '1.0 flow-removed',
    `01 0b 0058 00000000 | ${ANY_10} | 0000000000000001 0007 02 00 00000005 00000006 0008 0000
     | 0000000000000009 000000000000000a`,
    of10.OFPFlowRemoved({
      cookie: 1n,
      priority: 7,
      reason: 2,
      duration_sec: 5,
      duration_nsec: 6,
      idle_timeout: 8,
      packet_count: 9,
      byte_count: 10,
    }),
  ],
  [
    '1.0 flow statistics with MORE',
    `01 11 006c 00000000 | 0001 0001 | 0060 02 00 ${ANY_10} 00000005 00000006 8000 0007 0008 000000000000
     0000000000000001 0000000000000002 0000000000000003 | 0000 0008 0002 0000`,
    of10.OFPFlowStatsReply({
      flags: ofproto_v1_0.OFPSF_REPLY_MORE,
      body: [
        of10.OFPFlowStats({
          table_id: 2,
          duration_sec: 5,
          duration_nsec: 6,
          idle_timeout: 7,
          hard_timeout: 8,
          cookie: 1,
          packet_count: 2,
          byte_count: 3,
          actions: [of10.OFPActionOutput({ port: 2, max_len: 0 })],
        }),
      ],
    }),
  ],
  [
    '1.0 queue configuration',
    '01 15 0028 00000000 | 0003 000000000000 | 00000001 0018 0000 | 0001 0010 00000000 01f4 000000000000',
    of10.OFPQueueGetConfigReply({
      port: 3,
      queues: [of10.OFPPacketQueue({ queue_id: 1, properties: [of10.OFPQueuePropMinRate({ rate: 500 })] })],
    }),
  ],
  [
    '1.0 error of type 0xffff: experimenters have none there',
    '01 01 0010 00000003 | ffff 0001 | 01120008',
    of10.OFPErrorMsg({ xid: 3, type: 0xffff, code: 1, data: bytes('01120008') }),
  ],
  [
    '1.0 hello with a version bitmap, which 1.0 does not know',
    '01 00 0010 00000001 | 0001 0008 00000012',
    of10.OFPHello({ xid: 1, elements: [of10.OFPHelloElemVersionBitmap({ versions: [1, 4] })] }),
  ],
  [
    '1.0 vendor message',
    '01 04 0010 00000001 | 00001234 01020304',
    of10.OFPVendor({ xid: 1, vendor: 0x1234, data: bytes('01020304') }),
  ],
  [
    '1.0 vendor statistics: the answer has the vendor in its body',
    '01 11 0012 00000001 | ffff 0000 | 00001234 0102',
    of10.OFPVendorStatsReply({ xid: 1, body: of10.OFPVendorStats({ specific_data: bytes('00001234 0102') }) }),
  ],
  [
    "1.0 statistics of a type it does not have: Open vSwitch's question for ports",
    '01 10 000c 00000001 | 000d 0000',
    of10.OFPMultipartRequestUnknown({ xid: 1, type: 13 }),
  ],
  [
    '1.0 message type 22',
    '01 16 000a 00000001 | 0102',
    of10.OFPUnknownMessage({ xid: 1, msg_type: 22, data: bytes('0102') }),
  ],
  [
    '1.2 packet-in: no cookie',
    '03 0a 0026 00000000 | ffffffff 0004 00 02 | 0001 000c 80000004 00000003 00000000 | 0000 | deadbeef',
    of12.OFPPacketIn({ total_len: 4, table_id: 2, match: of12.OFPMatch({ in_port: 3 }), data: bytes('deadbeef') }),
  ],
  [
    "1.2 flow-mod: Ryu's default priority is 0",
    `03 0e 0050 00000000 | 0000000000000000 0000000000000000 00 00 0000 0000 0000 ffffffff 00000000 00000000 0000 0000
     | 0001 0004 00000000 | 0004 0018 00000000 | ffff 0010 00001234 0102030405060708`,
    of12.OFPFlowMod({
      instructions: [
        of12.OFPInstructionActions({
          type: ofproto_v1_2.OFPIT_APPLY_ACTIONS,
          actions: [of12.OFPActionExperimenter({ experimenter: 0x1234, data: bytes('0102030405060708') })],
        }),
      ],
    }),
  ],
  [
    '1.2 flow statistics: six bytes of padding, no flags',
    `03 13 0048 00000000 | 0001 0000 00000000 | 0038 02 00 00000005 00000006 8000 0007 0008 000000000000
     0000000000000001 0000000000000002 0000000000000003 | 0001 0004 00000000`,
    of12.OFPFlowStatsReply({
      body: [
        of12.OFPFlowStats({
          table_id: 2,
          duration_sec: 5,
          duration_nsec: 6,
          idle_timeout: 7,
          hard_timeout: 8,
          cookie: 1,
          packet_count: 2,
          byte_count: 3,
        }),
      ],
    }),
  ],
  [
    '1.2 group statistics: no durations',
    `03 13 0040 00000000 | 0006 0000 00000000 | 0030 0000 00000007 00000001 00000000 0000000000000002 0000000000000003
     | 0000000000000004 0000000000000005`,
    of12.OFPGroupStatsReply({
      body: [
        of12.OFPGroupStats({
          group_id: 7,
          ref_count: 1,
          packet_count: 2,
          byte_count: 3,
          bucket_counters: [of12.OFPBucketCounter({ packet_count: 4, byte_count: 5 })],
        }),
      ],
    }),
  ],
  [
    '1.2 table statistics',
    `03 13 0090 00000000 | 0003 0000 00000000 | 01 00000000000000 ${Buffer.from('t1').toString('hex')}${'00'.repeat(30)}
     0000000000000001 0000000000000002 00000003 00000004 0000000000000005 0000000000000006 0000000000000007
     0000000000000008 00000009 0000000a 0000000b 0000000c 000000000000000d 000000000000000e`,
    of12.OFPTableStatsReply({
      body: [
        of12.OFPTableStats({
          table_id: 1,
          name: 't1',
          match: 1,
          wildcards: 2,
          write_actions: 3,
          apply_actions: 4,
          write_setfields: 5,
          apply_setfields: 6,
          metadata_match: 7,
          metadata_write: 8,
          instructions: 9,
          config: 10,
          max_entries: 11,
          active_count: 12,
          lookup_count: 13,
          matched_count: 14,
        }),
      ],
    }),
  ],
];

test.each(good)('%s', (_, hex, msg) => {
  const want = bytes(hex);
  expect(want.readUInt16BE(2)).toBe(want.length);
  expect(encode(msg).toString('hex')).toBe(want.toString('hex'));
  expect(decode(want)).toEqual(msg);
  const json = parseJson(stringifyJson(toJson(msg)));
  expect(encode(fromJson(json, msg.version as Version), msg.xid).toString('hex')).toBe(want.toString('hex'));
});

const R = [ofproto_v1_0.OFPET_BAD_REQUEST, ofproto_v1_0.OFPBRC_BAD_LEN] as const;
const A = [ofproto_v1_0.OFPET_BAD_ACTION, ofproto_v1_0.OFPBAC_BAD_LEN] as const;
const bad: [string, string, readonly [number, number], number][] = [
  ['1.0 flow-mod without its last field', `01 0e 0046 00000000 ${ANY_10} ${'00'.repeat(22)}`, R, 0],
  ['1.0 action of length 0', '01 0d 0018 00000000 ffffffff 0001 0008 0000 0000 0002 0000', A, 16],
  ['1.0 action of 12 bytes', '01 0d 001c 00000000 ffffffff 0001 000c 0000 000c 0002 0000 00000000', A, 16],
  ['1.0 enqueue of 8 bytes', '01 0d 0018 00000000 ffffffff 0001 0008 000b 0008 0002 0000', A, 16],
  ['1.0 actions longer than the packet-out', '01 0d 0010 00000000 ffffffff 0001 0008', R, 16],
  ['1.0 port cut short', `01 06 004f 00000000 ${'00'.repeat(24)} ${PORT_10}`.replace(/3\s*$/, ''), R, 32],
  ['1.0 queue of length 0', '01 15 0018 00000000 0003 000000000000 00000001 0000 0000', R, 16],
  [
    '1.0 queue property of length 0',
    '01 15 0020 00000000 0003 000000000000 00000001 0010 0000 0001 0000 00000000',
    R,
    24,
  ],
  ['1.0 statistics without flags', '01 10 000a 00000000 0001', R, 0],
  ['1.0 flow statistics too short', `01 11 0064 00000000 0001 0000 0057 ${'00'.repeat(86)}`, R, 12],
  ['1.2 features without a whole port', `03 06 0024 00000000 ${'00'.repeat(28)}`, R, 32],
];

test.each(bad)('refused: %s', (_, hex, [type, code], offset) => {
  const wrong = bytes(hex);
  wrong.writeUInt16BE(wrong.length, 2);
  undecodable(wrong, type, code, offset);
});

test('what does not fit is refused by class and field', () => {
  refused(() => of10.OFPMatch({ nw_src: '10.0.0.0/8' }), 'OFPMatch', 'nw_src');
  refused(() => of10.OFPMatch({ nw_src: '10.0.0.0', nw_src_mask: 33 }), 'OFPMatch', 'nw_src_mask');
  refused(() => of10.OFPMatch({ nw_dst_mask: 0.5 }), 'OFPMatch', 'nw_dst_mask');
  refused(() => of10.OFPActionSetDlSrc({ dl_addr: 'x' }), 'OFPActionSetDlSrc', 'dl_addr');
  refused(() => of10.OFPActionSetNwSrc({ nw_addr: '1.2.3' }), 'OFPActionSetNwSrc', 'nw_addr');
  refused(
    () => encode(of10.OFPPacketOut({ in_port: 1, actions: [{ cls: 'OFPActionSetNwSrc', nw_addr: '256.0.0.1' }] })),
    'OFPActionSetNwSrc',
    'nw_addr',
  );
  // ports have 16 bits
  refused(() => encode(of10.OFPFlowMod({ out_port: 0xffffffff })), 'OFPFlowMod', 'out_port');
  refused(() => encode(of10.OFPFlowMod({ match: of13.OFPMatch() as never })), 'OFPMatch', 'wildcards');
  refused(() => encode({ ...of13.OFPMeterMod(), version: 3 as 4 }), 'OFPMeterMod', 'cls');
  refused(() => encode(of12.OFPFlowMod({ match: of13.OFPMatch({ tunnel_id: 1 }) })), 'OFPMatch', 'tunnel_id');
  refused(() => fromJson({ OFPFlowMod: { table_id: 1 } }, 1), 'OFPFlowMod', 'table_id');
  refused(() => fromJson({ OFPSwitchFeatures: { datapath_id: 1, ports: 3 } }, 1), 'OFPSwitchFeatures', 'ports');
  refused(() => fromJson({ OFPStatsReply: { type: 77, flags: 0, body: [] } }, 3), 'OFPStatsReply', 'type');
  refused(() => fromJson({ OFPFlowStatsReply: { flags: 0, body: [] } }, 3), 'OFPFlowStatsReply', 'cls');
});

describe("JSON has Ryu's shape", () => {
  test('1.0: a match is flat, actions show no type, statistics do', () => {
    expect(
      toJson(
        of10.OFPFlowStatsRequest({ match: of10.OFPMatch({ dl_type: 0x0800, nw_dst: '10.0.0.0', nw_dst_mask: 8 }) }),
      ),
    ).toEqual({
      OFPFlowStatsRequest: {
        flags: 0,
        match: {
          OFPMatch: {
            dl_dst: '00:00:00:00:00:00',
            dl_src: '00:00:00:00:00:00',
            dl_type: 2048,
            dl_vlan: 0,
            dl_vlan_pcp: 0,
            in_port: 0,
            nw_dst: '10.0.0.0',
            nw_proto: 0,
            nw_src: '0.0.0.0',
            nw_tos: 0,
            tp_dst: 0,
            tp_src: 0,
            wildcards: 0x363fef,
          },
        },
        out_port: 0xffff,
        table_id: 255,
        type: 1,
      },
    });
    expect(toJson(of10.OFPActionOutput({ port: 1 }), 1)).toEqual({ OFPActionOutput: { max_len: 0xffe5, port: 1 } });
  });

  test('ports of 1.0 and 1.2 are an object by number', () => {
    const [a, b] = [of10.OFPPhyPort({ port_no: 1 }), of10.OFPPhyPort({ port_no: 0xfffe })];
    const json = toJson(of10.OFPSwitchFeatures({ datapath_id: 1, ports: [a, b] })) as {
      OFPSwitchFeatures: { ports: object };
    };
    expect(json.OFPSwitchFeatures.ports).toEqual({ 1: toJson(a, 1), 65534: toJson(b, 1) });
  });

  test('1.2: one class for all statistics', () => {
    const reply = of12.OFPAggregateStatsReply({ body: of12.OFPAggregateStats({ flow_count: 3 }) });
    const json = {
      OFPStatsReply: {
        body: { OFPAggregateStatsReply: { byte_count: 0n, flow_count: 3, packet_count: 0n } },
        flags: 0,
        type: 2,
      },
    };
    expect(toJson(reply)).toEqual(json);
    expect(fromJson(json, 3)).toEqual(reply);
    expect(toJson(of12.OFPGroupFeaturesStats(), 3)).toMatchObject({ OFPGroupFeaturesStats: { length: 40 } });
    expect(toJson(of12.OFPPortStatsRequest())).toEqual({ OFPPortStatsRequest: { flags: 0, port_no: 0xffffffff } });
  });

  test('hello shows elements only where Ryu has them, or where there are some', () => {
    expect(toJson(of10.OFPHello())).toEqual({ OFPHello: {} });
    expect(toJson(of12.OFPHello())).toEqual({ OFPHello: {} });
    expect(toJson(of13.OFPHello())).toEqual({ OFPHello: { elements: [] } });
    const elements = [of10.OFPHelloElemVersionBitmap({ versions: [1] })];
    expect(toJson(of10.OFPHello({ elements }))).toMatchObject({ OFPHello: { elements: [{}] } });
  });
});

test('types: mistakes do not compile', () => {
  // The calls are not made: what counts is that the compiler refuses each line marked as an error.
  const unused = () => {
    // @ts-expect-error 1.0 has no instructions
    of10.OFPFlowMod({ instructions: [] });
    // @ts-expect-error nor does its flow-mod name a table
    of10.OFPFlowMod({ table_id: 1 });
    // @ts-expect-error the match of 1.0 has other names
    of10.OFPMatch({ eth_type: 0x0800 });
    // @ts-expect-error an address is text
    of10.OFPMatch({ nw_src: 1 });
    // @ts-expect-error the match of 1.3 is another
    of10.OFPFlowMod({ match: of13.OFPMatch() });
    // @ts-expect-error required
    of10.OFPActionSetNwSrc({});
    // @ts-expect-error required
    of10.OFPActionEnqueue({ port: 1 });
    // @ts-expect-error no groups in 1.0
    of10.OFPFlowMod({ actions: [of13.OFPActionGroup({ group_id: 1 })] });
    const actions: OfAction<1>[] = [of10.OFPActionStripVlan(), of10.OFPActionSetNwTos({ tos: 40 })];
    // @ts-expect-error an action of later versions
    actions.push(of13.OFPActionPopVlan());
    // @ts-expect-error no such message in 1.0
    of10.OFPGroupMod;
    // @ts-expect-error no errors of experimenters in 1.0
    of10.OFPErrorExperimenterMsg;
    // @ts-expect-error no actions of 1.0 in 1.2
    of12.OFPActionEnqueue;
    // @ts-expect-error durations came with 1.3
    of12.OFPPortStats({ port_no: 1, duration_sec: 1 });
    // @ts-expect-error 1.2 calls them bucket_counters
    of12.OFPGroupStats({ group_id: 1, bucket_stats: [] });
    // @ts-expect-error meters came with 1.3
    of12.OFPMeterMod;
    // @ts-expect-error and so did its constants
    ofproto_v1_2.OFPM_ALL;
    const msg: OfMessage = decode(Buffer.alloc(0));
    if (msg.version === 1 && msg.cls === 'OFPFlowMod') {
      // @ts-expect-error no instructions
      msg.instructions;
      return [msg.match.nw_src satisfies string, msg.match.wildcards satisfies number];
    }
    if (msg.version === 1 && msg.cls === 'OFPSwitchFeatures') return msg.ports[0]?.port_no satisfies number | undefined;
    if (msg.version === 3 && msg.cls === 'OFPTableStatsReply') return msg.body[0]?.match satisfies bigint | undefined;
    // @ts-expect-error the packet-in of 1.2 has no cookie
    if (msg.version === 3 && msg.cls === 'OFPPacketIn') return msg.cookie;
    return undefined;
  };
  expect(unused).toBeInstanceOf(Function);
});
