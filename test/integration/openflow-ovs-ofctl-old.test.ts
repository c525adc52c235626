/**
 * Messages of OpenFlow 1.0 and 1.2 as `ovs-ofctl ofp-parse` reads them, and what `ovs-ofctl` sends to a switch of those versions
 * (ofctlSwitch.ts); openflow-ovs-ofctl.test.ts has 1.3, -new has 1.4 and 1.5.
 */
import {
  decode,
  encode,
  fromJson,
  type OfMessage,
  of10,
  of12,
  ofproto_v1_0,
  ofproto_v1_2,
  parseJson,
  stringifyJson,
  toJson,
  type Version,
} from 'node-openflow';
import { messageNames } from '../../openflow/test/arbitrary.ts';
import { gate } from './gate.ts';
import { OfctlSwitch, testPrinted, whyNoOfctl } from './ofctlSwitch.ts';

const { suite, named } = gate(whyNoOfctl());

const maxu64 = 0xffffffffffffffffn;
const packet = Buffer.from(`ffffffffffff0200000000010806${'00'.repeat(46)}`, 'hex');
const desc = { mfr_desc: 'ours', hw_desc: 'none', sw_desc: 'tests', serial_num: '7', dp_desc: 'x' };
const counters = { tx_bytes: 9n, tx_packets: 2n, tx_errors: 0n };

// ---- what we write -------------------------------------------------------------------------------------------------

const match10 = of10.OFPMatch({
  in_port: 1,
  dl_type: 0x0800,
  nw_proto: 6,
  nw_src: '10.0.0.0',
  nw_src_mask: 8,
  nw_dst: '10.1.2.3',
  tp_dst: 49152,
});
const actions10 = [
  of10.OFPActionVlanVid({ vlan_vid: 100 }),
  of10.OFPActionVlanPcp({ vlan_pcp: 5 }),
  of10.OFPActionStripVlan(),
  of10.OFPActionSetDlSrc({ dl_addr: '02:00:00:00:00:0a' }),
  of10.OFPActionSetDlDst({ dl_addr: '02:00:00:00:00:0b' }),
  of10.OFPActionSetNwSrc({ nw_addr: '192.0.2.1' }),
  of10.OFPActionSetNwDst({ nw_addr: '192.0.2.2' }),
  of10.OFPActionSetNwTos({ tos: 40 }),
  of10.OFPActionSetTpSrc({ tp: 1000 }),
  of10.OFPActionSetTpDst({ tp: 2000 }),
  of10.OFPActionEnqueue({ port: 3, queue_id: 7 }),
  of10.OFPActionOutput({ port: ofproto_v1_0.OFPP_CONTROLLER, max_len: 128 }),
  of10.OFPActionOutput({ port: 2 }),
];
const SHOWN_10 =
  /mod_vlan_vid:100,mod_vlan_pcp:5,strip_vlan,mod_dl_src:02:00:00:00:00:0a,mod_dl_dst:02:00:00:00:00:0b,mod_nw_src:192\.0\.2\.1,mod_nw_dst:192\.0\.2\.2,mod_nw_tos:40,mod_tp_src:1000,mod_tp_dst:2000,enqueue:3:7,CONTROLLER:128,output:2/;
const port10 = of10.OFPPhyPort({ port_no: 3, hw_addr: '02:00:00:00:00:03', name: 'eth3', curr: 0x280 });
const queue10 = of10.OFPPacketQueue({
  queue_id: 1,
  properties: [of10.OFPQueuePropMinRate({ rate: 500 })],
});

const cases10: [OfMessage<1>, RegExp][] = [
  [of10.OFPHello(), /OFPT_HELLO.*version bitmap: 0x01/s],
  [of10.OFPEchoRequest({ data: Buffer.from('abc') }), /OFPT_ECHO_REQUEST.*3 bytes/],
  [of10.OFPEchoReply(), /OFPT_ECHO_REPLY/],
  [of10.OFPErrorMsg({ type: 3, code: 5, data: encode(of10.OFPBarrierRequest()) }), /OFPFMFC_UNSUPPORTED/],
  [of10.OFPErrorMsg({ type: 2, code: 8 }), /OFPBAC_BAD_QUEUE/],
  // NXT_FLOW_AGE
  [of10.OFPVendor({ vendor: 0x2320, data: Buffer.from('00000012', 'hex') }), /NXT_FLOW_AGE/],
  [of10.OFPFeaturesRequest(), /OFPT_FEATURES_REQUEST/],
  [
    of10.OFPSwitchFeatures({ datapath_id: 0xfan, n_tables: 254, capabilities: 0x41, actions: 0xfff, ports: [port10] }),
    /dpid:00000000000000fa.*n_tables:254.*FLOW_STATS QUEUE_STATS.*enqueue.* 3\(eth3\): addr:02:00:00:00:00:03/s,
  ],
  [of10.OFPGetConfigRequest(), /OFPT_GET_CONFIG_REQUEST/],
  [of10.OFPGetConfigReply({ miss_send_len: 128 }), /miss_send_len=128/],
  [of10.OFPSetConfig({ flags: 1, miss_send_len: 0xffff }), /frags=drop miss_send_len=65535/],
  [
    of10.OFPPacketIn({ reason: ofproto_v1_0.OFPR_ACTION, total_len: 60, in_port: 4, data: packet }),
    /OFPT_PACKET_IN.*total_len=60 in_port=4 \(via action\) data_len=60 \(unbuffered\)/,
  ],
  [
    of10.OFPFlowRemoved({ cookie: 1n, reason: 2, packet_count: maxu64 - 1n, match: match10, duration_sec: 4 }),
    /OFPT_FLOW_REMOVED.*tcp.*nw_src=10\.0\.0\.0\/8.*reason=delete.*cookie:0x1 duration4/s,
  ],
  [of10.OFPPortStatus({ reason: ofproto_v1_0.OFPPR_ADD, desc: port10 }), /ADD: 3\(eth3\): addr:02:00:00:00:00:03/],
  [
    of10.OFPPacketOut({
      in_port: ofproto_v1_0.OFPP_CONTROLLER,
      actions: [of10.OFPActionOutput({ port: ofproto_v1_0.OFPP_FLOOD })],
      data: packet,
    }),
    /OFPT_PACKET_OUT.*in_port=CONTROLLER actions=FLOOD data_len=60/,
  ],
  [
    of10.OFPFlowMod({ cookie: 0xfa1c000000000001n, priority: 7, match: match10, actions: actions10 }),
    /ADD priority=7,tcp,in_port=1,nw_src=10\.0\.0\.0\/8,nw_dst=10\.1\.2\.3,tp_dst=49152 cookie:0xfa1c000000000001/,
  ],
  [of10.OFPFlowMod({ actions: actions10 }), SHOWN_10],
  [
    of10.OFPFlowMod({
      match: of10.OFPMatch({ dl_src: '02:00:00:00:00:01', dl_dst: '02:00:00:00:00:02', dl_vlan: 5, dl_vlan_pcp: 3 }),
    }),
    /dl_vlan=5,dl_vlan_pcp=3,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02/,
  ],
  [
    of10.OFPFlowMod({ match: of10.OFPMatch({ dl_type: 0x0800, nw_proto: 17, nw_tos: 40, tp_src: 53 }) }),
    /udp,nw_tos=40,tp_src=53/,
  ],
  [
    of10.OFPFlowMod({ match: of10.OFPMatch({ dl_type: 0x0806, nw_proto: 1, nw_dst: '10.0.0.1' }) }),
    /arp,arp_tpa=10\.0\.0\.1,arp_op=1/,
  ],
  [of10.flowDelete({ match: match10 }), /DEL tcp,.* actions=drop/],
  [
    of10.flowDelete({ match: match10, out_port: 3, strict: true, priority: 9 }),
    /DEL_STRICT priority=9,tcp.*out_port:3/,
  ],
  [
    of10.OFPPortMod({ port_no: 3, hw_addr: '02:00:00:00:00:03', config: 1, mask: 1 }),
    /OFPT_PORT_MOD.*port: 3: addr:02:00:00:00:00:03\s+config: PORT_DOWN\s+mask:\s+PORT_DOWN/,
  ],
  [of10.OFPBarrierRequest(), /OFPT_BARRIER_REQUEST/],
  [of10.OFPBarrierReply(), /OFPT_BARRIER_REPLY/],
  [of10.OFPQueueGetConfigRequest({ port: 3 }), /OFPT_QUEUE_GET_CONFIG_REQUEST.*port=3/],
  [of10.OFPQueueGetConfigReply({ port: 3, queues: [queue10] }), /queue 1:\s*min_rate:50/],
  [of10.OFPDescStatsRequest(), /OFPST_DESC request/],
  [of10.OFPDescStatsReply({ body: of10.OFPDescStats(desc) }), /Manufacturer: ours/],
  [of10.OFPFlowStatsRequest({ match: match10 }), /OFPST_FLOW request.*tp_dst=49152/],
  [
    of10.OFPFlowStatsReply({
      body: [
        of10.OFPFlowStats({
          priority: 7,
          packet_count: 5n,
          byte_count: maxu64 - 1n,
          match: match10,
          actions: [of10.OFPActionOutput({ port: 2 })],
        }),
        of10.OFPFlowStats({ table_id: 1, match: match10 }),
      ],
    }),
    /n_packets=5, n_bytes=18446744073709551614.*priority=7,tcp.*actions=output:2.*table=1.*actions=drop/s,
  ],
  [of10.OFPAggregateStatsRequest({ match: match10, table_id: 3 }), /OFPST_AGGREGATE request.*table=3/],
  [of10.OFPAggregateStatsReply({ body: [of10.OFPAggregateStats({ flow_count: 3 })] }), /flow_count=3/],
  [of10.OFPTableStatsRequest(), /OFPST_TABLE request/],
  [
    of10.OFPTableStatsReply({
      body: [of10.OFPTableStats({ table_id: 1, name: 'classify', max_entries: 77, active_count: 4, lookup_count: 5n })],
    }),
    /table 1 \("classify"\).*active=4, lookup=5.*max_entries=77/s,
  ],
  [of10.OFPPortStatsRequest({ port_no: 3 }), /OFPST_PORT request.*port_no=3/],
  [
    of10.OFPPortStatsReply({ body: [of10.OFPPortStats({ port_no: 3, rx_bytes: 1n << 60n, collisions: 8n })] }),
    /bytes=1152921504606846976.*coll=8/s,
  ],
  [of10.OFPQueueStatsRequest(), /OFPST_QUEUE request.*port=ANY queue=ALL/],
  [
    of10.OFPQueueStatsReply({ body: [of10.OFPQueueStats({ port_no: 3, queue_id: 1, ...counters })] }),
    /port 3 queue 1: bytes=9, pkts=2/,
  ],
  // NXST_AGGREGATE, both ways
  [
    of10.OFPVendorStatsRequest({
      vendor: 0x2320,
      specific_data: Buffer.from('0000000100000000ffff0000ff000000', 'hex'),
    }),
    /NXST_AGGREGATE request/,
  ],
  [
    of10.OFPVendorStatsReply({
      body: of10.OFPVendorStats({
        specific_data: Buffer.from(`000023200000000100000000${'00'.repeat(19)}0900000000`, 'hex'),
      }),
    }),
    /NXST_AGGREGATE reply.*flow_count=9/,
  ],
];

const match12 = of12.OFPMatch({
  in_port: 1,
  eth_type: 0x0800,
  ip_proto: 6,
  ipv4_src: '10.0.0.0/8',
  ipv4_dst: '10.1.2.3',
  tcp_dst: 49152,
  metadata: [0x1200n, 0xff00n],
});
const actions12 = [
  of12.OFPActionSetField({ field: 'ip_dscp', value: 10 }),
  of12.OFPActionPushVlan(),
  of12.OFPActionSetField({ field: 'vlan_vid', value: ofproto_v1_2.OFPVID_PRESENT | 100 }),
  of12.OFPActionPopVlan(),
  of12.OFPActionSetNwTtl({ nw_ttl: 9 }),
  of12.OFPActionDecNwTtl(),
  of12.OFPActionSetQueue({ queue_id: 3 }),
  of12.OFPActionGroup({ group_id: 7 }),
  // note:01.02
  of12.OFPActionExperimenter({ experimenter: 0x2320, data: Buffer.from('0008010200000000', 'hex') }),
  of12.OFPActionOutput({ port: 2 }),
];
const instructions12 = [
  of12.OFPInstructionActions({ type: ofproto_v1_2.OFPIT_APPLY_ACTIONS, actions: actions12 }),
  of12.OFPInstructionActions({
    type: ofproto_v1_2.OFPIT_WRITE_ACTIONS,
    actions: [of12.OFPActionOutput({ port: 4 })],
  }),
  of12.OFPInstructionWriteMetadata({ metadata: 0x34n, metadata_mask: 0xffn }),
  of12.OFPInstructionGotoTable({ table_id: 2 }),
];
const port12 = of12.OFPPort({ port_no: 3, hw_addr: '02:00:00:00:00:03', name: 'eth3', curr_speed: 1000 });
const bucket12 = of12.OFPBucket({ weight: 5, actions: [of12.OFPActionOutput({ port: 2 })] });

const cases12: [OfMessage<3>, RegExp][] = [
  [of12.OFPHello(), /OFPT_HELLO \(OF1\.2\).*version bitmap: 0x01, 0x02, 0x03/s],
  [of12.OFPHello({ elements: [of12.OFPHelloElemVersionBitmap({ versions: [1, 3] })] }), /version bitmap: 0x01, 0x03/],
  [of12.OFPEchoRequest(), /OFPT_ECHO_REQUEST/],
  [of12.OFPEchoReply(), /OFPT_ECHO_REPLY/],
  [of12.OFPErrorMsg({ type: 3, code: 7, data: encode(of12.OFPBarrierRequest()) }), /OFPBIC_BAD_LEN/],
  [
    of12.OFPErrorExperimenterMsg({
      exp_type: 11,
      experimenter: 0x2320,
      data: encode(of12.OFPBarrierRequest()),
    }),
    /NXBAC_MUST_BE_ZERO/,
  ],
  [
    of12.OFPExperimenter({ experimenter: 0x2320, exp_type: 16, data: Buffer.from('00000001', 'hex') }),
    /NXT_SET_PACKET_IN_FORMAT/,
  ],
  [of12.OFPFeaturesRequest(), /OFPT_FEATURES_REQUEST/],
  [
    of12.OFPSwitchFeatures({ datapath_id: 0xfan, n_tables: 254, ports: [port12] }),
    /dpid:00000000000000fa.*n_tables:254.* 3\(eth3\): addr:02:00:00:00:00:03/s,
  ],
  [of12.OFPGetConfigRequest(), /OFPT_GET_CONFIG_REQUEST/],
  [of12.OFPGetConfigReply({ miss_send_len: 128 }), /miss_send_len=128/],
  [of12.OFPSetConfig({ flags: 4, miss_send_len: 7 }), /invalid_ttl_to_controller.*miss_send_len=7/],
  [
    of12.OFPPacketIn({ reason: 1, table_id: 1, total_len: 60, match: of12.OFPMatch({ in_port: 4 }), data: packet }),
    /table_id=1 total_len=60 in_port=4 \(via action\)/,
  ],
  [
    of12.OFPFlowRemoved({ cookie: 1n, packet_count: maxu64 - 1n, match: match12 }),
    /OFPT_FLOW_REMOVED.*tcp.*nw_src=10\.0\.0\.0\/8.*reason=idle/s,
  ],
  [of12.OFPPortStatus({ reason: ofproto_v1_2.OFPPR_ADD, desc: port12 }), /ADD: 3\(eth3\): addr:02:00:00:00:00:03/],
  [
    of12.OFPPacketOut({
      in_port: ofproto_v1_2.OFPP_CONTROLLER,
      actions: [of12.OFPActionOutput({ port: ofproto_v1_2.OFPP_FLOOD })],
      data: packet,
    }),
    /OFPT_PACKET_OUT.*in_port=CONTROLLER actions=FLOOD data_len=60/,
  ],
  [
    of12.OFPFlowMod({ cookie: 1n, priority: 7, table_id: 1, match: match12, instructions: instructions12 }),
    /ADD table:1 priority=7,tcp,metadata=0x1200\/0xff00,in_port=1,nw_src=10\.0\.0\.0\/8,nw_dst=10\.1\.2\.3,tp_dst=49152 cookie:0x1.*set_field:10->ip_dscp,push_vlan:0x8100,set_field:4196->vlan_vid,.*dec_ttl,set_queue:3,group:7,note:01\.02.*output:2,write_actions\(output:4\),write_metadata:0x34\/0xff,goto_table:2/,
  ],
  [of12.flowDelete({ cookie: 1n, cookie_mask: maxu64 }), /DEL table:255 .*cookie:0x1\/0xffffffffffffffff actions=drop/],
  [
    of12.OFPGroupMod({ group_id: 7, type: ofproto_v1_2.OFPGT_SELECT, buckets: [bucket12] }),
    /ADD group_id=7,type=select,bucket=.*weight:5.*output:2/,
  ],
  [of12.OFPPortMod({ port_no: 3, hw_addr: '02:00:00:00:00:03', config: 1, mask: 1 }), /OFPT_PORT_MOD.*port: 3: addr/],
  [of12.OFPTableMod({ table_id: 3, config: ofproto_v1_2.OFPTC_TABLE_MISS_DROP }), /table_id=3, flow_miss_config=drop/],
  [of12.OFPBarrierRequest(), /OFPT_BARRIER_REQUEST/],
  [of12.OFPBarrierReply(), /OFPT_BARRIER_REPLY/],
  [of12.OFPQueueGetConfigRequest({ port: 3 }), /OFPT_QUEUE_GET_CONFIG_REQUEST.*port=3/],
  [
    of12.OFPQueueGetConfigReply({
      port: 3,
      queues: [of12.OFPPacketQueue({ queue_id: 1, port: 3, properties: [of12.OFPQueuePropMaxRate({ rate: 500 })] })],
    }),
    /queue 1:\s*max_rate:50/,
  ],
  [
    of12.OFPRoleRequest({ role: ofproto_v1_2.OFPCR_ROLE_MASTER, generation_id: 3n }),
    /role=(master|primary) generation_id=3/,
  ],
  [of12.OFPRoleReply({ role: ofproto_v1_2.OFPCR_ROLE_EQUAL, generation_id: 3n }), /role=equal/],
  [of12.OFPDescStatsRequest(), /OFPST_DESC request/],
  [of12.OFPDescStatsReply({ body: of12.OFPDescStats(desc) }), /Manufacturer: ours/],
  [of12.OFPFlowStatsRequest({ match: match12 }), /OFPST_FLOW request.*tp_dst=49152/],
  [
    of12.OFPFlowStatsReply({
      body: [of12.OFPFlowStats({ priority: 7, packet_count: 5n, match: match12, instructions: instructions12 })],
    }),
    /n_packets=5,.*priority=7,tcp.*goto_table:2/,
  ],
  [of12.OFPAggregateStatsRequest({ match: match12 }), /OFPST_AGGREGATE request/],
  [of12.OFPAggregateStatsReply({ body: of12.OFPAggregateStats({ flow_count: 3 }) }), /flow_count=3/],
  [of12.OFPTableStatsRequest(), /OFPST_TABLE request/],
  [
    of12.OFPTableStatsReply({
      body: [of12.OFPTableStats({ table_id: 1, name: 'classify', max_entries: 77, active_count: 4, lookup_count: 5n })],
    }),
    /table 1 \("classify"\).*active=4, lookup=5.*max_entries=77/s,
  ],
  [of12.OFPPortStatsRequest({ port_no: 3 }), /OFPST_PORT request.*port_no=3/],
  [
    of12.OFPPortStatsReply({ body: [of12.OFPPortStats({ port_no: 3, rx_bytes: 1n << 60n })] }),
    /bytes=1152921504606846976/,
  ],
  [of12.OFPQueueStatsRequest(), /OFPST_QUEUE request/],
  [
    of12.OFPQueueStatsReply({ body: [of12.OFPQueueStats({ port_no: 3, queue_id: 1, ...counters })] }),
    /port 3 queue 1: bytes=9, pkts=2/,
  ],
  [of12.OFPGroupStatsRequest(), /OFPST_GROUP request/],
  [
    of12.OFPGroupStatsReply({
      body: [of12.OFPGroupStats({ group_id: 7, bucket_counters: [of12.OFPBucketCounter({ packet_count: 2n })] })],
    }),
    /group_id=7.*bucket0:packet_count=2/,
  ],
  [of12.OFPGroupDescStatsRequest(), /OFPST_GROUP_DESC request/],
  [
    of12.OFPGroupDescStatsReply({
      body: [of12.OFPGroupDescStats({ type: ofproto_v1_2.OFPGT_ALL, group_id: 7, buckets: [bucket12] })],
    }),
    /group_id=7,type=all,bucket=/,
  ],
  [of12.OFPGroupFeaturesStatsRequest(), /OFPST_GROUP_FEATURES request/],
  [
    of12.OFPGroupFeaturesStatsReply({ body: of12.OFPGroupFeaturesStats({ types: 1, max_groups: [9, 0, 0, 0] }) }),
    /max_groups=(0x)?9/,
  ],
];

/** Classes nothing of Open vSwitch's stands behind. */
const NOT_PRINTED = new Set([
  'OFPUnknownMessage',
  'OFPMultipartRequestUnknown',
  'OFPMultipartReplyUnknown',
  // Open vSwitch has no experimenter's statistics in 1.2
  'OFPExperimenterStatsRequest',
  'OFPExperimenterStatsReply',
]);

suite(named('ovs-ofctl ofp-parse'), () => {
  const cases: [OfMessage<1 | 3>, RegExp][] = [...cases10, ...cases12];
  testPrinted(cases);

  test.each([1, 3] as const)('every class of version %i that Open vSwitch knows is written', (version) => {
    const written = new Set(cases.filter(([m]) => m.version === version).map(([m]) => m.cls as string));
    const missing = messageNames(version as Version).filter(
      // Nicira's are in openflow-ovs-nicira.test.ts
      (n) => !written.has(n) && !NOT_PRINTED.has(n) && !/^NX/.test(n),
    );
    expect(missing).toEqual([]);
  });
});

// ---- what it writes ------------------------------------------------------------------------------------------------

/** What set-frags set: it looks whether that was done. */
const frags = { 1: 0, 3: 0 };
const features = { datapath_id: 0xfan, n_buffers: 256, n_tables: 4 };

function answer10(m: OfMessage): OfMessage<1>[] {
  switch (m.cls) {
    case 'OFPFeaturesRequest':
      return [of10.OFPSwitchFeatures({ ...features, capabilities: 0x47, actions: 0xfff, ports: [port10] })];
    case 'OFPGetConfigRequest':
      return [of10.OFPGetConfigReply({ flags: frags[1], miss_send_len: 128 })];
    case 'OFPSetConfig':
      frags[1] = m.flags;
      return [];
    case 'OFPBarrierRequest':
      return [of10.OFPBarrierReply()];
    case 'OFPEchoRequest':
      return [of10.OFPEchoReply({ data: m.data })];
    case 'OFPQueueGetConfigRequest':
      return [of10.OFPQueueGetConfigReply({ port: 3, queues: [queue10] })];
    case 'OFPDescStatsRequest':
      return [of10.OFPDescStatsReply({ body: of10.OFPDescStats(desc) })];
    case 'OFPTableStatsRequest':
      return [of10.OFPTableStatsReply({ body: [of10.OFPTableStats({ table_id: 0, name: 'classify' })] })];
    case 'OFPFlowStatsRequest':
      // in two parts
      return [
        of10.OFPFlowStatsReply({
          flags: ofproto_v1_0.OFPSF_REPLY_MORE,
          body: [of10.OFPFlowStats({ match: match10, actions: actions10 })],
        }),
        of10.OFPFlowStatsReply({ body: [of10.OFPFlowStats({ match: of10.OFPMatch({ in_port: 77 }) })] }),
      ];
    case 'OFPAggregateStatsRequest':
      return [of10.OFPAggregateStatsReply({ body: [of10.OFPAggregateStats({ flow_count: 31 })] })];
    case 'OFPPortStatsRequest':
      return [of10.OFPPortStatsReply({ body: [of10.OFPPortStats({ port_no: 3, rx_packets: 12n })] })];
    case 'OFPQueueStatsRequest':
      return [of10.OFPQueueStatsReply({ body: [of10.OFPQueueStats({ port_no: 3, queue_id: 1, ...counters })] })];
    default:
      return [];
  }
}

function answer12(m: OfMessage): OfMessage<3>[] {
  switch (m.cls) {
    case 'OFPFeaturesRequest':
      return [of12.OFPSwitchFeatures({ ...features, capabilities: 0x4f, ports: [port12] })];
    case 'OFPGetConfigRequest':
      return [of12.OFPGetConfigReply({ flags: frags[3], miss_send_len: 128 })];
    case 'OFPSetConfig':
      frags[3] = m.flags;
      return [];
    case 'OFPBarrierRequest':
      return [of12.OFPBarrierReply()];
    case 'OFPEchoRequest':
      return [of12.OFPEchoReply({ data: m.data })];
    case 'OFPQueueGetConfigRequest':
      return [
        of12.OFPQueueGetConfigReply({
          port: 3,
          queues: [
            of12.OFPPacketQueue({ queue_id: 1, port: 3, properties: [of12.OFPQueuePropMinRate({ rate: 500 })] }),
          ],
        }),
      ];
    case 'OFPDescStatsRequest':
      return [of12.OFPDescStatsReply({ body: of12.OFPDescStats(desc) })];
    case 'OFPTableStatsRequest':
      return [of12.OFPTableStatsReply({ body: [of12.OFPTableStats({ table_id: 0, name: 'classify' })] })];
    case 'OFPFlowStatsRequest':
      return [
        of12.OFPFlowStatsReply({
          flags: ofproto_v1_2.OFPSF_REPLY_MORE,
          body: [of12.OFPFlowStats({ match: match12, instructions: instructions12 })],
        }),
        of12.OFPFlowStatsReply({ body: [of12.OFPFlowStats({ match: of12.OFPMatch({ in_port: 77 }) })] }),
      ];
    case 'OFPAggregateStatsRequest':
      return [of12.OFPAggregateStatsReply({ body: of12.OFPAggregateStats({ flow_count: 31 }) })];
    case 'OFPPortStatsRequest':
      return [of12.OFPPortStatsReply({ body: [of12.OFPPortStats({ port_no: 3, rx_packets: 12n })] })];
    case 'OFPQueueStatsRequest':
      return [of12.OFPQueueStatsReply({ body: [of12.OFPQueueStats({ port_no: 3, queue_id: 1, ...counters })] })];
    case 'OFPGroupStatsRequest':
      return [
        of12.OFPGroupStatsReply({
          body: [of12.OFPGroupStats({ group_id: 7, bucket_counters: [of12.OFPBucketCounter({ packet_count: 2n })] })],
        }),
      ];
    case 'OFPGroupDescStatsRequest':
      return [
        of12.OFPGroupDescStatsReply({
          body: [of12.OFPGroupDescStats({ type: ofproto_v1_2.OFPGT_SELECT, group_id: 7, buckets: [bucket12] })],
        }),
      ];
    case 'OFPGroupFeaturesStatsRequest':
      return [
        of12.OFPGroupFeaturesStatsReply({ body: of12.OFPGroupFeaturesStats({ types: 15, max_groups: [9, 9, 9, 9] }) }),
      ];
    default:
      return [];
  }
}

/** Arguments, the class that must be among what is sent, and what it prints of the answer. */
type Command = [args: string[], sends: string, prints?: RegExp];
const flow = (text: string): Command => [['add-flow', 'SW', text], 'OFPFlowMod'];
const flow10 = (text: string): Command => [['-Fopenflow10', 'add-flow', 'SW', text], 'OFPFlowMod'];

const commands10: Command[] = [
  flow10('actions=drop'),
  flow10('in_port=3,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,actions=normal'),
  flow10(
    'priority=9,idle_timeout=5,hard_timeout=60,cookie=0xfa1c000000000001,dl_vlan=5,dl_vlan_pcp=3,actions=strip_vlan,flood',
  ),
  flow10('send_flow_rem,check_overlap,dl_vlan=0xffff,actions=all'),
  flow10('ip,nw_tos=40,nw_src=10.0.0.0/8,nw_dst=10.1.2.3,actions=local'),
  flow10('tcp,tp_src=1000,tp_dst=80,nw_src=10.32.0.0/11,actions=in_port'),
  flow10('udp,tp_dst=53,actions=controller:128'),
  flow10('icmp,icmp_type=8,icmp_code=0,actions=2'),
  flow10('arp,arp_spa=10.0.0.1,arp_tpa=10.0.0.0/24,arp_op=2,actions=1,2,3,4,5,6'),
  flow10('dl_type=0x88cc,actions=controller'),
  flow10(
    'tcp,actions=mod_vlan_vid:100,mod_vlan_pcp:5,mod_dl_src:02:00:00:00:00:0a,mod_dl_dst:02:00:00:00:00:0b,mod_nw_src:192.0.2.1,mod_nw_dst:192.0.2.2,mod_nw_tos:40,mod_tp_src:1000,mod_tp_dst:2000,enqueue:3:7,output:2',
  ),
  // Nicira's actions inside OpenFlow 1.0's flow-mod
  flow10('in_port=1,actions=resubmit:2,note:01.02.03.04.05.06.07,set_tunnel:0x1234'),
  flow10('in_port=1,actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])'),
  [['-Fopenflow10', 'mod-flows', 'SW', 'tcp,actions=3'], 'OFPFlowMod'],
  [['-Fopenflow10', '--strict', 'mod-flows', 'SW', 'priority=3,tcp,actions=3'], 'OFPFlowMod'],
  [['-Fopenflow10', 'del-flows', 'SW', 'tcp,out_port=3'], 'OFPFlowMod'],
  [['-Fopenflow10', 'del-flows', 'SW'], 'OFPFlowMod'],
  [['-Fopenflow10', '--strict', 'del-flows', 'SW', 'priority=3,tcp'], 'OFPFlowMod'],
  // Nicira's own flow-mod
  [['add-flow', 'SW', 'ipv6,ipv6_src=2001:db8::/32,reg1=5,actions=2'], 'NXTFlowMod'],
  [['packet-out', 'SW', `in_port=1 packet=${packet.toString('hex')} actions=mod_vlan_vid:3,flood`], 'OFPPacketOut'],
  [['mod-port', 'SW', '3', 'down'], 'OFPPortMod'],
  [['mod-port', 'SW', 'eth3', 'no-flood'], 'OFPPortMod'],
  [
    ['show', 'SW'],
    'OFPGetConfigRequest',
    /dpid:00000000000000fa.*3\(eth3\): addr:02:00:00:00:00:03.*miss_send_len=128/s,
  ],
  [['set-frags', 'SW', 'drop'], 'OFPSetConfig'],
  [['dump-desc', 'SW'], 'OFPDescStatsRequest', /Manufacturer: ours/],
  [['dump-tables', 'SW'], 'OFPTableStatsRequest', /table 0 \("classify"\)/],
  [['-Fopenflow10', 'dump-flows', 'SW', 'tcp,table=2,out_port=3'], 'OFPFlowStatsRequest', /enqueue:3:7.*in_port=77/s],
  [['-Fopenflow10', 'dump-aggregate', 'SW', 'udp,tp_src=7'], 'OFPAggregateStatsRequest', /flow_count=31/],
  [['dump-ports', 'SW'], 'OFPPortStatsRequest', /port +(3|eth3): rx pkts=12/],
  [['dump-ports', 'SW', '3'], 'OFPPortStatsRequest', /port +(3|eth3): rx pkts=12/],
  [['queue-stats', 'SW'], 'OFPQueueStatsRequest', /queue 1: bytes=9/],
  [['queue-stats', 'SW', '3', '1'], 'OFPQueueStatsRequest', /queue 1: bytes=9/],
  [['queue-get-config', 'SW', '3'], 'OFPQueueGetConfigRequest', /min_rate:50/],
  [['probe', 'SW'], 'OFPEchoRequest'],
  [['ping', 'SW', '64'], 'OFPEchoRequest', /64 bytes from/],
];

const commands12: Command[] = [
  flow('actions=drop'),
  flow('table=1,in_port=3,dl_src=02:00:00:00:00:01/ff:ff:ff:00:00:00,dl_dst=02:00:00:00:00:02,actions=normal'),
  flow(
    'priority=9,idle_timeout=5,hard_timeout=60,cookie=0xfa1c000000000001,dl_vlan=5,dl_vlan_pcp=3,actions=pop_vlan,flood',
  ),
  flow('send_flow_rem,check_overlap,reset_counts,vlan_tci=0x1000/0x1000,actions=all'),
  flow('ip,nw_tos=40,nw_ecn=1,nw_src=10.0.0.0/255.0.255.0,metadata=0x12/0xff,actions=local'),
  flow('tcp,tp_src=1000,tp_dst=80/0xfff0,actions=in_port'),
  flow('sctp,tp_dst=53,actions=controller:128'),
  flow('icmp,icmp_type=8,icmp_code=0,actions=2'),
  flow('arp,arp_spa=10.0.0.1,arp_tpa=10.0.0.0/24,arp_op=2,arp_sha=02:00:00:00:00:01,actions=1,2,3'),
  flow('icmp6,ipv6_src=2001:db8::/32,ipv6_label=5,icmp_type=135,icmp_code=0,nd_target=2001:db8::1,actions=4'),
  flow('mpls,mpls_label=77,mpls_tc=3,actions=dec_mpls_ttl,pop_mpls:0x0800,2'),
  flow('ip,reg1=5,tun_id=7,conj_id=3,actions=set_field:9->reg2,2'),
  flow(
    'tcp,actions=set_field:40->ip_dscp,set_field:02:00:00:00:00:0b->eth_dst,set_field:192.0.2.1->ip_src,set_field:80->tcp_dst,2',
  ),
  flow('ip,actions=push_vlan:0x88a8,set_field:4196->vlan_vid,set_queue:3,dec_ttl,group:7,2'),
  flow('ip,actions=push_mpls:0x8847,set_mpls_label:3,set_mpls_ttl:9,2'),
  flow('ip,actions=clear_actions,write_actions(set_field:7->ip_dscp,output:4),write_metadata:0x34/0xff,goto_table:2'),
  flow('in_port=1,actions=resubmit(,2),note:01.02.03.04.05.06.07,move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],output:2'),
  flow('in_port=1,actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])'),
  [['mod-flows', 'SW', 'tcp,actions=3'], 'OFPFlowMod'],
  [['--strict', 'mod-flows', 'SW', 'priority=3,tcp,cookie=5/7,actions=3'], 'OFPFlowMod'],
  [['del-flows', 'SW', 'tcp,out_port=3,out_group=7,cookie=5/-1'], 'OFPFlowMod'],
  [['del-flows', 'SW'], 'OFPFlowMod'],
  [['--strict', 'del-flows', 'SW', 'priority=3,tcp'], 'OFPFlowMod'],
  [
    [
      'add-group',
      'SW',
      'group_id=7,type=select,bucket=weight:5,output:1,bucket=weight:6,set_field:7->ip_dscp,output:2',
    ],
    'OFPGroupMod',
  ],
  [['add-group', 'SW', 'group_id=8,type=ff,bucket=watch_port:1,output:1,bucket=watch_group:7,output:2'], 'OFPGroupMod'],
  [['add-group', 'SW', 'group_id=9,type=indirect,bucket=output:1'], 'OFPGroupMod'],
  [['mod-group', 'SW', 'group_id=9,type=all,bucket=output:1,bucket=output:2'], 'OFPGroupMod'],
  [['del-groups', 'SW', 'group_id=9'], 'OFPGroupMod'],
  [['del-groups', 'SW'], 'OFPGroupMod'],
  [['dump-groups', 'SW'], 'OFPGroupDescStatsRequest', /group_id=7,type=select,bucket=.*weight:5/],
  [['dump-group-stats', 'SW', 'group_id=7'], 'OFPGroupStatsRequest', /bucket0:packet_count=2/],
  [['dump-group-features', 'SW'], 'OFPGroupFeaturesStatsRequest', /max_groups=(0x)?9/],
  [['mod-table', 'SW', '0', 'controller'], 'OFPTableMod'],
  [
    ['packet-out', 'SW', `in_port=1 packet=${packet.toString('hex')} actions=set_field:7->ip_dscp,flood`],
    'OFPPacketOut',
  ],
  [['mod-port', 'SW', '3', 'down'], 'OFPPortMod'],
  [['mod-port', 'SW', 'eth3', 'no-forward'], 'OFPPortMod'],
  [
    ['show', 'SW'],
    'OFPGetConfigRequest',
    /dpid:00000000000000fa.*3\(eth3\): addr:02:00:00:00:00:03.*miss_send_len=128/s,
  ],
  [['set-frags', 'SW', 'drop'], 'OFPSetConfig'],
  [['dump-desc', 'SW'], 'OFPDescStatsRequest', /Manufacturer: ours/],
  [['dump-tables', 'SW'], 'OFPTableStatsRequest', /table 0 \("classify"\)/],
  [['dump-flows', 'SW', 'tcp,table=2,out_port=3'], 'OFPFlowStatsRequest', /goto_table:2.*in_port=77/s],
  [['dump-aggregate', 'SW', 'udp,tp_src=7'], 'OFPAggregateStatsRequest', /flow_count=31/],
  [['dump-ports', 'SW', '3'], 'OFPPortStatsRequest', /port +(3|eth3): rx pkts=12/],
  [['queue-stats', 'SW', '3', '1'], 'OFPQueueStatsRequest', /queue 1: bytes=9/],
  [['queue-get-config', 'SW', '3'], 'OFPQueueGetConfigRequest', /min_rate:50/],
  [['probe', 'SW'], 'OFPEchoRequest'],
];

suite.each([
  ['OpenFlow 1.0', 1, new OfctlSwitch(1, answer10), commands10],
  ['OpenFlow 1.2', 3, new OfctlSwitch(3, answer12), commands12],
] as const)(named('what ovs-ofctl sends in %s'), (_, version, fake, commands) => {
  beforeAll(() => fake.listen());
  afterAll(() => fake.close());

  test.each(commands.map((c): [string, Command] => [c[0].join(' '), c]))('%s', async (_line, [args, sends, prints]) => {
    const { code, stdout, stderr, sent } = await fake.run(args);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const messages = sent.map((bytes) => decode(bytes));
    expect(messages.map((m) => m.cls)).toContain(sends);
    sent.forEach((bytes, i) => {
      const msg = messages[i] as OfMessage;
      expect(encode(msg).toString('hex')).toBe(bytes.toString('hex'));
      const json = parseJson(stringifyJson(toJson(msg)));
      expect(encode(fromJson(json, version), msg.xid).toString('hex')).toBe(bytes.toString('hex'));
    });
    expect(stdout).toMatch(prints ?? /^/);
  });
});
