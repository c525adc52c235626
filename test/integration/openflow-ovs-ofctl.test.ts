/** Messages of OpenFlow 1.3, one of every class, as `ovs-ofctl ofp-parse` reads them; -old and -new have the other versions. */
import { encode, type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { gate } from './gate.ts';
import { testPrinted, whyNoOfctl } from './ofctlSwitch.ts';

const { suite, named } = gate(whyNoOfctl());

const match = of13.OFPMatch({
  in_port: 1,
  eth_type: 0x0800,
  ip_proto: 6,
  ipv4_src: '10.0.0.0/8',
  ipv4_dst: '10.1.2.3',
  tcp_dst: 49152,
  metadata: [0x1200n, 0xff00n],
});
const actions = [
  of13.OFPActionSetField({ field: 'ip_dscp', value: 10 }),
  of13.OFPActionSetField({ field: 'eth_dst', value: '02:00:00:00:00:01' }),
  of13.OFPActionSetField({ field: 'tunnel_id', value: 0xabcdef0123n }),
  of13.OFPActionPushVlan(),
  of13.OFPActionSetField({ field: 'vlan_vid', value: ofp.OFPVID_PRESENT | 100 }),
  of13.OFPActionPopVlan(),
  of13.OFPActionSetQueue({ queue_id: 3 }),
  of13.OFPActionDecNwTtl(),
  of13.OFPActionGroup({ group_id: 7 }),
  of13.OFPActionOutput({ port: 2 }),
];
const instructions = [
  of13.OFPInstructionMeter({ meter_id: 5 }),
  of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions }),
  of13.OFPInstructionWriteMetadata({ metadata: 0x34n, metadata_mask: 0xffn }),
  of13.OFPInstructionGotoTable({ table_id: 2 }),
];
const port = of13.OFPPort({ port_no: 3, hw_addr: '02:00:00:00:00:03', name: 'eth3', curr_speed: 1000 });
const bucket = of13.OFPBucket({ weight: 5, actions: [of13.OFPActionOutput({ port: 2 })] });
const packet = Buffer.from(`ffffffffffff0200000000010806${'00'.repeat(46)}`, 'hex');
const maxu64 = 0xffffffffffffffffn;

const cases: [OfMessage<4>, RegExp][] = [
  [
    of13.OFPHello({ elements: [of13.OFPHelloElemVersionBitmap({ versions: [1, 4] })] }),
    /OFPT_HELLO.*version bitmap: 0x01, 0x04/s,
  ],
  [of13.OFPEchoRequest({ data: Buffer.from('abc') }), /OFPT_ECHO_REQUEST.*3 bytes/],
  [of13.OFPEchoReply(), /OFPT_ECHO_REPLY/],
  [of13.OFPErrorMsg({ type: 1, code: 6, data: encode(of13.OFPBarrierRequest()) }), /OFPBRC_BAD_LEN/],
  [of13.OFPFeaturesRequest(), /OFPT_FEATURES_REQUEST/],
  [of13.OFPSwitchFeatures({ datapath_id: 0xfan, n_tables: 254 }), /dpid:00000000000000fa.*n_tables:254/s],
  [of13.OFPGetConfigRequest(), /OFPT_GET_CONFIG_REQUEST/],
  [of13.OFPGetConfigReply({ miss_send_len: 128 }), /miss_send_len=128/],
  [of13.OFPSetConfig({ miss_send_len: ofp.OFPCML_NO_BUFFER }), /miss_send_len=65535/],
  [
    of13.OFPPacketIn({
      reason: ofp.OFPR_ACTION,
      table_id: 1,
      cookie: 0x77n,
      total_len: 60,
      match: of13.OFPMatch({ in_port: 4 }),
      data: packet,
    }),
    /table_id=1 cookie=0x77 total_len=60 in_port=4 \(via action\)/,
  ],
  [
    of13.OFPFlowRemoved({ cookie: 1n, packet_count: maxu64 - 1n, match }),
    /OFPT_FLOW_REMOVED.*tcp.*nw_src=10\.0\.0\.0\/8.*reason=idle/s,
  ],
  [of13.OFPPortStatus({ reason: ofp.OFPPR_ADD, desc: port }), /ADD: 3\(eth3\): addr:02:00:00:00:00:03/],
  [
    of13.OFPPacketOut({
      in_port: ofp.OFPP_CONTROLLER,
      actions: [of13.OFPActionOutput({ port: ofp.OFPP_FLOOD })],
      data: packet,
    }),
    /OFPT_PACKET_OUT.*in_port=CONTROLLER actions=FLOOD data_len=60/,
  ],
  [
    of13.OFPFlowMod({ cookie: 0xfa1c000000000001n, priority: 7, table_id: 1, match, instructions }),
    /ADD table:1 priority=7,tcp,metadata=0x1200\/0xff00,in_port=1,nw_src=10\.0\.0\.0\/8,nw_dst=10\.1\.2\.3,tp_dst=49152 cookie:0xfa1c000000000001.*meter:5.*set_field:10->ip_dscp.*set_queue:3.*write_metadata:0x34\/0xff,goto_table:2/,
  ],
  [of13.flowDelete({ cookie: 1n, cookie_mask: maxu64 }), /DEL table:255 cookie:0x1\/0xffffffffffffffff actions=drop/],
  [
    of13.OFPGroupMod({ group_id: 7, type: ofp.OFPGT_SELECT, buckets: [bucket] }),
    /ADD group_id=7,type=select,bucket=.*weight:5.*output:2/,
  ],
  [
    of13.OFPPortMod({ port_no: 3, hw_addr: '02:00:00:00:00:03', config: 1, mask: 1 }),
    /OFPT_PORT_MOD.*port: 3: addr:02:00:00:00:00:03/,
  ],
  [of13.OFPTableMod({ table_id: 3, config: 0 }), /OFPT_TABLE_MOD.*table_id=3/],
  [
    of13.OFPMeterMod({ flags: 5, meter_id: 9, bands: [of13.OFPMeterBandDrop({ rate: 20000, burst_size: 2000 })] }),
    /ADD meter=9 kbps burst bands=\s*type=drop rate=20000 burst_size=2000/,
  ],
  [of13.OFPBarrierRequest(), /OFPT_BARRIER_REQUEST/],
  [of13.OFPBarrierReply(), /OFPT_BARRIER_REPLY/],
  [of13.OFPQueueGetConfigRequest({ port: 3 }), /OFPT_QUEUE_GET_CONFIG_REQUEST.*port=3/],
  [
    of13.OFPQueueGetConfigReply({
      port: 3,
      queues: [of13.OFPPacketQueue({ queue_id: 1, port: 3, properties: [of13.OFPQueuePropMinRate({ rate: 500 })] })],
    }),
    /queue 1:\s*min_rate:50/,
  ],
  [of13.OFPRoleRequest({ role: ofp.OFPCR_ROLE_MASTER, generation_id: 3n }), /role=(master|primary) generation_id=3/],
  [of13.OFPRoleReply({ role: ofp.OFPCR_ROLE_EQUAL, generation_id: 3n }), /role=equal/],
  [of13.OFPGetAsyncRequest(), /OFPT_GET_ASYNC_REQUEST/],
  [
    of13.OFPSetAsync({ packet_in_mask: [3, 0], port_status_mask: [7, 0], flow_removed_mask: [15, 0] }),
    /PACKET_IN: no_match action/,
  ],
  [of13.OFPGetAsyncReply({ packet_in_mask: [3, 0] }), /OFPT_GET_ASYNC_REPLY/],
  [of13.OFPDescStatsRequest(), /OFPST_DESC request/],
  [of13.OFPDescStatsReply({ body: of13.OFPDescStats({ mfr_desc: 'ours', dp_desc: 'x' }) }), /Manufacturer: ours/],
  [of13.OFPFlowStatsRequest({ match }), /OFPST_FLOW request.*tp_dst=49152/],
  [
    of13.OFPFlowStatsReply({
      body: [of13.OFPFlowStats({ priority: 7, packet_count: 5n, byte_count: maxu64 - 1n, match, instructions })],
    }),
    /n_packets=5, n_bytes=18446744073709551614.*priority=7,tcp/,
  ],
  [of13.OFPAggregateStatsRequest({ match }), /OFPST_AGGREGATE request/],
  [of13.OFPAggregateStatsReply({ body: of13.OFPAggregateStats({ flow_count: 3 }) }), /flow_count=3/],
  [of13.OFPTableStatsRequest(), /OFPST_TABLE request/],
  [of13.OFPTableStatsReply({ body: [of13.OFPTableStats({ table_id: 1, active_count: 4 })] }), /table 1.*active=4/s],
  [of13.OFPPortStatsRequest({ port_no: 3 }), /OFPST_PORT request.*port_no=3/],
  [
    of13.OFPPortStatsReply({ body: [of13.OFPPortStats({ port_no: 3, rx_bytes: 1n << 60n })] }),
    /bytes=1152921504606846976/,
  ],
  [of13.OFPQueueStatsRequest(), /OFPST_QUEUE request/],
  [
    of13.OFPQueueStatsReply({ body: [of13.OFPQueueStats({ port_no: 3, queue_id: 1, tx_bytes: 9n })] }),
    /port 3 queue 1: bytes=9/,
  ],
  [of13.OFPGroupStatsRequest(), /OFPST_GROUP request/],
  [
    of13.OFPGroupStatsReply({
      body: [of13.OFPGroupStats({ group_id: 7, bucket_stats: [of13.OFPBucketCounter({ packet_count: 2n })] })],
    }),
    /group_id=7.*bucket0:packet_count=2/,
  ],
  [of13.OFPGroupDescStatsRequest(), /OFPST_GROUP_DESC request/],
  [
    of13.OFPGroupDescStatsReply({
      body: [of13.OFPGroupDescStats({ type: ofp.OFPGT_ALL, group_id: 7, buckets: [bucket] })],
    }),
    /group_id=7,type=all,bucket=/,
  ],
  [of13.OFPGroupFeaturesStatsRequest(), /OFPST_GROUP_FEATURES request/],
  [
    of13.OFPGroupFeaturesStatsReply({ body: of13.OFPGroupFeaturesStats({ types: 1, max_groups: [9, 0, 0, 0] }) }),
    /max_groups=(0x)?9/,
  ],
  [of13.OFPMeterStatsRequest(), /OFPST_METER request/],
  [
    of13.OFPMeterStatsReply({
      body: [
        of13.OFPMeterStats({
          meter_id: 9,
          flow_count: 2,
          band_stats: [of13.OFPMeterBandStats({ packet_band_count: 4n })],
        }),
      ],
    }),
    /meter:9 flow_count:2.*packet_count:4/s,
  ],
  [of13.OFPMeterConfigStatsRequest({ meter_id: 9 }), /OFPST_METER_CONFIG request.*meter=9/],
  [
    of13.OFPMeterConfigStatsReply({
      body: [of13.OFPMeterConfigStats({ flags: 1, meter_id: 9, bands: [of13.OFPMeterBandDrop({ rate: 5 })] })],
    }),
    /meter=9 kbps bands=\s*type=drop rate=5/,
  ],
  [of13.OFPMeterFeaturesStatsRequest(), /OFPST_METER_FEATURES request/],
  [
    of13.OFPMeterFeaturesStatsReply({ body: [of13.OFPMeterFeaturesStats({ max_meter: 77, max_bands: 8 })] }),
    /max_meter:77.*max_bands:8/,
  ],
  [of13.OFPTableFeaturesStatsRequest(), /OFPST_TABLE_FEATURES request/],
  [
    of13.OFPTableFeaturesStatsReply({
      body: [
        of13.OFPTableFeaturesStats({
          table_id: 0,
          name: 'classify',
          metadata_match: maxu64,
          max_entries: 1000,
          properties: [
            of13.OFPTableFeaturePropInstructions({
              type: ofp.OFPTFPT_INSTRUCTIONS,
              instruction_ids: [of13.OFPInstructionId({ type: ofp.OFPIT_GOTO_TABLE })],
            }),
            of13.OFPTableFeaturePropNextTables({ type: ofp.OFPTFPT_NEXT_TABLES, table_ids: [1, 2, 3] }),
            of13.OFPTableFeaturePropActions({
              type: ofp.OFPTFPT_WRITE_ACTIONS,
              action_ids: [of13.OFPActionId({ type: ofp.OFPAT_OUTPUT })],
            }),
            of13.OFPTableFeaturePropActions({ type: ofp.OFPTFPT_APPLY_ACTIONS }),
            of13.OFPTableFeaturePropOxm({
              type: ofp.OFPTFPT_MATCH,
              oxm_ids: [of13.OFPOxmId({ type: 'ipv4_src', hasmask: true }), of13.OFPOxmId({ type: 'tcp_dst' })],
            }),
            of13.OFPTableFeaturePropOxm({ type: ofp.OFPTFPT_WILDCARDS }),
            of13.OFPTableFeaturePropOxm({ type: ofp.OFPTFPT_WRITE_SETFIELD }),
            of13.OFPTableFeaturePropOxm({ type: ofp.OFPTFPT_APPLY_SETFIELD }),
          ],
        }),
      ],
    }),
    /table 0 \("classify"\).*max_entries=1000.*arbitrary mask: ip_src.*must exact match: tcp_dst/s,
  ],
  [of13.OFPPortDescStatsRequest(), /OFPST_PORT_DESC request/],
  [of13.OFPPortDescStatsReply({ body: [port, port] }), /3\(eth3\): addr:02:00:00:00:00:03/],
  // ONF extensions
  [
    of13.ONFBundleCtrlMsg({ bundle_id: 7, type: ofp.ONF_BCT_OPEN_REQUEST, flags: ofp.ONF_BF_ORDERED }),
    /bundle_id=0x7 type=OPEN_REQUEST flags= ?ordered/,
  ],
  [
    of13.ONFBundleAddMsg({ bundle_id: 7, message: of13.OFPFlowMod({ match, instructions }) }),
    /bundle_id=0x7.*OFPT_FLOW_MOD.*ADD tcp/s,
  ],
  [
    of13.ONFFlowMonitorStatsRequest({
      body: [of13.ONFFlowMonitorRequest({ id: 5, flags: ofp.ONFFMF_ADD, table_id: 2, match_header: true, match })],
    }),
    /id=5 flags=add table=2 tcp/,
  ],
  [
    of13.ONFFlowMonitorStatsReply({
      body: [
        of13.ONFFlowUpdateFull({ event: ofp.ONFFME_MODIFIED, table_id: 1, cookie: 3n, match, instructions }),
        of13.ONFFlowUpdateAbbrev({ xid: 0x99 }),
      ],
    }),
    /event=MODIFIED table=1 cookie=0x3 tcp.*meter:5.*event=ABBREV xid=0x99/s,
  ],
  [of13.ONFFlowMonitorCancel({ id: 5 }), /FLOW_MONITOR_CANCEL.*id=5/],
  [of13.ONFFlowMonitorPaused(), /FLOW_MONITOR_PAUSED/],
  [of13.ONFFlowMonitorResumed(), /FLOW_MONITOR_RESUMED/],
];

suite(named('ovs-ofctl'), () => {
  testPrinted(cases);

  test('every class of 1.3 that Open vSwitch knows is written', () => {
    const written = new Set(cases.map(([m]) => m.cls));
    expect(written.size).toBeGreaterThanOrEqual(61);
  });
});
