/** format(): every class of message prints, forms that people know are kept, and nothing is left out. */
import fc from 'fast-check';
import {
  encode,
  errorText,
  format,
  type OfAction,
  type OfMessage,
  of10,
  of13,
  of14,
  ofproto_v1_3 as ofp,
  VERSIONS,
} from 'node-openflow';
import { anyMessage } from './arbitrary.ts';

const RUNS = Number(process.env.FC_RUNS ?? 1);

const match = of13.OFPMatch({
  in_port: ofp.OFPP_LOCAL,
  eth_type: 0x0800,
  ip_proto: 6,
  ipv4_src: '10.0.0.0/8',
  ipv4_dst: '10.1.2.3/255.0.255.0',
  tcp_dst: 49152,
  metadata: [0x1200n, 0xff00n],
  field_256: 'AAE=',
});
const apply = (...actions: OfAction[]) => of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions });

test.each<[string, OfMessage, string]>([
  [
    'flow mod',
    of13.OFPFlowMod({
      xid: 2,
      table_id: 1,
      priority: 7,
      cookie: 0xfa1cn,
      idle_timeout: 10,
      flags: ofp.OFPFF_SEND_FLOW_REM | 0x4000,
      match,
      instructions: [
        of13.OFPInstructionMeter({ meter_id: 5 }),
        apply(
          of13.OFPActionSetField({ field: 'ip_dscp', value: 10 }),
          of13.OFPActionSetField({ field: 'vlan_vid', value: 0x1064 }),
          of13.OFPActionPushVlan(),
          of13.OFPActionDecNwTtl(),
          of13.OFPActionOutput({ port: ofp.OFPP_CONTROLLER, max_len: 128 }),
          of13.OFPActionOutput({ port: ofp.OFPP_FLOOD }),
          of13.OFPActionOutput({ port: 2 }),
          of13.OFPActionExperimenterUnknown({ experimenter: 0x1234, data: Buffer.from('beef0000', 'hex') }),
        ),
        of13.OFPInstructionActions({ type: ofp.OFPIT_WRITE_ACTIONS, actions: [of13.OFPActionGroup({ group_id: 7 })] }),
        of13.OFPInstructionWriteMetadata({ metadata: 0x34n, metadata_mask: 0xffn }),
        of13.OFPInstructionGotoTable({ table_id: 2 }),
      ],
    }),
    'OFPT_FLOW_MOD (OF1.3) (xid=0x2): ADD table=1 priority=7,field_256=0x0001,in_port=LOCAL,metadata=0x1200/0xff00,eth_type=0x0800,' +
      'ip_proto=6,ipv4_src=10.0.0.0/8,ipv4_dst=10.0.2.0/255.0.255.0,tcp_dst=49152 cookie=0xfa1c idle_timeout=10 ' +
      'send_flow_rem 0x4000 actions=meter:5,set_field:10->ip_dscp,set_field:0x1064->vlan_vid,push_vlan:0x8100,dec_ttl,' +
      'CONTROLLER:128,FLOOD,output:2,OFPActionExperimenterUnknown(experimenter=0x1234 data=beef0000),write_actions(group:7),' +
      'write_metadata:0x34/0xff,goto_table:2',
  ],
  [
    'deleting flow mod',
    of13.flowDelete({ cookie: 1n, cookie_mask: 0xffffffffffffffffn, out_port: 3 }),
    'OFPT_FLOW_MOD (OF1.3) (xid=0x0): DELETE table=ALL cookie=0x1/0xffffffffffffffff out_port=3 actions=drop',
  ],
  [
    'hello',
    of13.OFPHello({ elements: [of13.OFPHelloElemVersionBitmap({ versions: [1, 4] })] }),
    'OFPT_HELLO (OF1.3) (xid=0x0):\n version bitmap: 0x01, 0x04',
  ],
  [
    'error',
    of13.OFPErrorMsg({ type: ofp.OFPET_BAD_REQUEST, code: ofp.OFPBRC_BAD_LEN, data: encode(of13.OFPBarrierRequest()) }),
    'OFPT_ERROR (OF1.3) (xid=0x0): OFPET_BAD_REQUEST OFPBRC_BAD_LEN\n 8 bytes of data: 0414000800000000',
  ],
  [
    'experimenter error',
    of13.OFPErrorMsg({ type: ofp.OFPET_EXPERIMENTER, exp_type: 3, experimenter: 0x2320 }),
    'OFPT_ERROR (OF1.3) (xid=0x0): OFPET_EXPERIMENTER experimenter=0x2320 exp_type=3',
  ],
  [
    'flow stats',
    of13.OFPFlowStatsReply({
      flags: 1,
      body: [
        of13.OFPFlowStats({
          duration_sec: 3,
          duration_nsec: 5_000_000,
          packet_count: 5n,
          byte_count: 0xfffffffffffffffen,
          match: of13.OFPMatch({ ipv6_src: 'fd00::/64', eth_dst: ['01:00:00:00:00:00', '01:00:00:00:00:00'] }),
        }),
      ],
    }),
    'OFPST_FLOW reply (OF1.3) (xid=0x0): flags=MORE\n cookie=0x0 table=0 duration=3.005s n_packets=5 n_bytes=18446744073709551614 ' +
      'priority=32768,eth_dst=01:00:00:00:00:00/01:00:00:00:00:00,ipv6_src=fd00::/64 actions=drop',
  ],
  [
    'packet-in',
    of13.OFPPacketIn({
      reason: ofp.OFPR_ACTION,
      total_len: 42,
      match: of13.OFPMatch({ in_port: 4 }),
      data: Buffer.from('ffffffffffff020000000001080600010800060400010200000000010a0000010000000000000a000002', 'hex'),
    }),
    'OFPT_PACKET_IN (OF1.3) (xid=0x0): buffer_id=none total_len=42 reason=ACTION table_id=0 cookie=0x0 match=(in_port=4) data_len=42\n' +
      ' 02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff, arp request 10.0.0.1 > 10.0.0.2\n' +
      ' ffffffffffff020000000001080600010800060400010200000000010a0000010000000000000a000002',
  ],
  [
    'port status',
    of13.OFPPortStatus({
      reason: ofp.OFPPR_MODIFY,
      desc: of13.OFPPort({
        port_no: 3,
        hw_addr: '02:00:00:00:00:03',
        name: 'a\n"b',
        config: 0x81,
        state: 4,
        curr: 0x2840,
      }),
    }),
    'OFPT_PORT_STATUS (OF1.3) (xid=0x0): reason=MODIFY\n port_no=3 hw_addr=02:00:00:00:00:03 name="a\\n\\"b" config=PORT_DOWN|0x80 ' +
      'state=LIVE curr=10GB_FD|COPPER|AUTONEG advertised=0 supported=0 peer=0 curr_speed=0 max_speed=0',
  ],
  [
    'meter features',
    of13.OFPMeterFeaturesStatsReply({
      body: [of13.OFPMeterFeaturesStats({ max_meter: 9, band_types: 6, capabilities: 0x11 })],
    }),
    'OFPST_METER_FEATURES reply (OF1.3) (xid=0x0):\n max_meter=9 band_types=DROP|DSCP_REMARK capabilities=KBPS|0x10 max_bands=0 max_color=0',
  ],
  [
    'flow mod of 1.0',
    of10.OFPFlowMod({
      match: of10.OFPMatch({ in_port: 1, dl_type: 0x0800, nw_src: '10.0.0.0', nw_src_mask: 8, nw_dst: '10.1.2.3' }),
      actions: [of10.OFPActionSetNwSrc({ nw_addr: '10.0.0.9' }), of10.OFPActionEnqueue({ port: 2, queue_id: 7 })],
    }),
    'OFPT_FLOW_MOD (OF1.0) (xid=0x0): ADD in_port=1,dl_type=0x0800,nw_src=10.0.0.0/8,nw_dst=10.1.2.3 actions=mod_nw_src:10.0.0.9,enqueue:2:7',
  ],
  [
    'bundle of 1.4',
    of14.OFPBundleAddMsg({ bundle_id: 3, flags: 3, message: of14.OFPFlowMod({ xid: 5 }) }),
    'OFPT_BUNDLE_ADD_MESSAGE (OF1.4) (xid=0x0): bundle_id=3 flags=ATOMIC|ORDERED\n OFPT_FLOW_MOD (OF1.4) (xid=0x5): ADD actions=drop',
  ],
  [
    'unknown message',
    of13.OFPUnknownMessage({ msg_type: 99, data: Buffer.from('abcd', 'hex') }),
    'message of type 99 (OF1.3) (xid=0x0): msg_type=99 data=abcd',
  ],
  ['barrier', of13.OFPBarrierRequest({ xid: 0xffffffff }), 'OFPT_BARRIER_REQUEST (OF1.3) (xid=0xffffffff):'],
])('%s', (_, msg, want) => {
  expect(format(msg)).toBe(want);
});

test('names of errors', () => {
  expect(errorText(4, ofp.OFPET_BAD_MATCH, ofp.OFPBMC_DUP_FIELD)).toBe('OFPET_BAD_MATCH OFPBMC_DUP_FIELD');
  expect(errorText(4, ofp.OFPET_BAD_MATCH, 999)).toBe('OFPET_BAD_MATCH code 999');
  expect(errorText(4, 999, 1)).toBe('type 999 code 1');
  // versions without tables have the names of 1.3
  expect(errorText(99, ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_VERSION)).toBe('OFPET_BAD_REQUEST OFPBRC_BAD_VERSION');
});

test.each(VERSIONS)(
  'every message of version %i prints, in lines that can be told apart, with all of its bytes',
  (version) => {
    fc.assert(
      fc.property(anyMessage({ plain: false, version }), (msg) => {
        const text = format(msg);
        const [head, ...rest] = text.split('\n');
        expect(head).toMatch(
          /^((OFPT|NXT|ONF)_[A-Z\d_]+|(OFP|NX)ST_\w+ (request|reply)|message of type \d+) \((OF1\.\d|version \d+)\) \(xid=0x[\da-f]+\):/,
        );
        for (const line of rest) expect(line).toMatch(/^ ./);
        expect(text).not.toMatch(/undefined|\[object|NaN/);
        const { data } = msg as { data?: unknown };
        if (Buffer.isBuffer(data) && data.length > 0) expect(text).toContain(data.toString('hex'));
      }),
      { numRuns: 200 * RUNS },
    );
  },
);
