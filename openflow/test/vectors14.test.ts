/**
 * Messages of OpenFlow 1.4 and 1.5, and of the ONF extensions of 1.3, written out by hand from the specifications, byte for
 * byte, both ways; and messages that must be refused. vectors.test.ts has those of 1.3.
 */
import {
  decode,
  encode,
  fromJson,
  OfDecodeError,
  OfEncodeError,
  type OfMessage,
  of13,
  of14,
  of15,
  ofproto_v1_3 as ofp13,
  ofproto_v1_4 as ofp14,
  ofproto_v1_5 as ofp15,
  parseJson,
  stringifyJson,
  toJson,
  type Version,
} from 'node-openflow';
import { holds } from '../src/layout.ts';
import * as M from '../src/messages.ts';
import * as M10 from '../src/messages10.ts';
import * as M14 from '../src/messages14.ts';
import * as MM from '../src/multipartMessages.ts';
import * as NM from '../src/niciraMessages.ts';
import type { AnyStruct } from '../src/schema.ts';

/** `LEN` stands for the length of everything. */
function bytes(text: string): Buffer {
  const hex = (s: string) => Buffer.from(s.replace(/[^0-9a-f]/g, ''), 'hex');
  const length = hex(text.replace('LEN', '0000')).length;
  return hex(text.replace('LEN', length.toString(16).padStart(4, '0')));
}

const output14 = of14.OFPActionOutput({ port: 2, max_len: 0 });
const output15 = of15.OFPActionOutput({ port: 2, max_len: 0 });

const good: [string, string, OfMessage][] = [
  // ---- 1.4 ----
  [
    'bundle: open, atomic and ordered, with a property of an experimenter',
    '05 21 LEN 00000007 | 0000002a 0000 0003 | ffff 0010 00001234 00000005 cafe0001',
    of14.OFPBundleCtrlMsg({
      xid: 7,
      bundle_id: 42,
      type: ofp14.OFPBCT_OPEN_REQUEST,
      flags: ofp14.OFPBF_ATOMIC | ofp14.OFPBF_ORDERED,
      properties: [of14.OFPBundlePropExperimenter({ experimenter: 0x1234, exp_type: 5, data: [0xcafe0001] })],
    }),
  ],
  [
    'bundle: a flow-mod that clears actions and writes metadata, with the xid of the bundle message',
    `05 22 LEN 00000009 | 0000002a 0000 0001
     | 05 0e 0058 00000009 0000000000000001 0000000000000000 02 00 0000 0000 8000 ffffffff 00000000 00000000 0000 0009
       0001 0004 00000000 0002 0018 00000000 ff00000000000000 ff00000000000000 0005 0008 00000000`,
    of14.OFPBundleAddMsg({
      xid: 9,
      bundle_id: 42,
      flags: ofp14.OFPBF_ATOMIC,
      message: of14.OFPFlowMod({
        cookie: 1,
        table_id: 2,
        importance: 9,
        instructions: [
          of14.OFPInstructionWriteMetadata({ metadata: 0xffn << 56n, metadata_mask: 0xffn << 56n }),
          of14.OFPInstructionActions({ type: ofp14.OFPIT_CLEAR_ACTIONS }),
        ],
      }),
    }),
  ],
  [
    'bundle: a message of odd length is padded when a property follows',
    '05 22 LEN 00000009 | 0000002a 0000 0000 | 05 02 000b 00000009 616263 | 0000000000 | ffff 000c 00001234 00000005 00000000',
    of14.OFPBundleAddMsg({
      xid: 9,
      bundle_id: 42,
      message: of14.OFPEchoRequest({ data: Buffer.from('abc') }),
      properties: [of14.OFPBundlePropExperimenter({ experimenter: 0x1234, exp_type: 5 })],
    }),
  ],
  [
    'bundle: a message of odd length is not when none does',
    '05 22 LEN 00000009 | 0000002a 0000 0000 | 05 02 000b 00000009 616263',
    of14.OFPBundleAddMsg({ xid: 9, bundle_id: 42, message: of14.OFPEchoRequest({ data: Buffer.from('abc') }) }),
  ],
  [
    'bundle: a message of a type nobody declared',
    '05 22 LEN 00000009 | 0000002a 0000 0000 | 05 c8 000a 00000009 beef',
    of14.OFPBundleAddMsg({
      xid: 9,
      bundle_id: 42,
      message: of14.OFPUnknownMessage({ msg_type: 200, data: Buffer.from('beef', 'hex') }),
    }),
  ],
  [
    'port status with Ethernet and experimenter properties',
    `05 0c LEN 00000000 | 02 00000000000000 | 00000003 0060 0000 020000000003 0000 65746833 000000000000000000000000
     00000001 00000004 | 0000 0020 00000000 00000040 00000000 00000000 00000000 000003e8 00000000
     | ffff 0010 0000abcd 00000001 00000002 | 1000 0006 beef 0000`,
    of14.OFPPortStatus({
      reason: ofp14.OFPPR_MODIFY,
      desc: of14.OFPPort({
        port_no: 3,
        hw_addr: '02:00:00:00:00:03',
        name: 'eth3',
        config: 1,
        state: 4,
        properties: [
          of14.OFPPortDescPropEthernet({ curr: ofp14.OFPPF_10GB_FD, curr_speed: 1000 }),
          of14.OFPPortDescPropExperimenter({ experimenter: 0xabcd, exp_type: 1, data: [2] }),
          of14.OFPPropUnknown({ type: 0x1000, data: Buffer.from('beef', 'hex') }),
        ],
      }),
    }),
  ],
  [
    'a property of an experimenter that is not words is kept raw',
    '05 1e LEN 00000000 | 00000003 01 000000 0000000000000005 | ffff 000e 0000abcd 00000001 beef 0000',
    of14.OFPRoleStatus({
      role: ofp14.OFPCR_ROLE_SLAVE,
      reason: ofp14.OFPCRR_CONFIG,
      generation_id: 5,
      properties: [of14.OFPPropUnknown({ type: 0xffff, data: Buffer.from('0000abcd00000001beef', 'hex') })],
    }),
  ],
  [
    'asynchronous configuration',
    '05 1c LEN 00000000 | 0000 0008 00000001 | 000b 0008 00000003 | fffe 000c 00001234 00000002 00000000',
    of14.OFPSetAsync({
      properties: [
        of14.OFPAsyncConfigPropReasons({ type: ofp14.OFPACPT_PACKET_IN_SLAVE, mask: 1 }),
        of14.OFPAsyncConfigPropReasons({ type: ofp14.OFPACPT_REQUESTFORWARD_MASTER, mask: 3 }),
        of14.OFPAsyncConfigPropExperimenter({
          type: ofp14.OFPACPT_EXPERIMENTER_SLAVE,
          experimenter: 0x1234,
          exp_type: 2,
        }),
      ],
    }),
  ],
  [
    'forwarded meter-mod with the xid it had elsewhere',
    '05 20 LEN 00000000 | 05 1d 0010 deadbeef 0002 0000 00000009',
    of14.OFPRequestForward({
      request: of14.OFPMeterMod({ xid: 0xdeadbeef, command: ofp14.OFPMC_DELETE, flags: 0, meter_id: 9 }),
    }),
  ],
  [
    'table status: vacancy went down',
    '05 1f LEN 00000000 | 03 00000000000000 | 0018 05 00 0000000c | 0002 0008 00000005 | 0003 0008 14 50 32 00',
    of14.OFPTableStatus({
      reason: ofp14.OFPTR_VACANCY_DOWN,
      table: of14.OFPTableDesc({
        table_id: 5,
        config: ofp14.OFPTC_EVICTION | ofp14.OFPTC_VACANCY_EVENTS,
        properties: [
          of14.OFPTableModPropEviction({ flags: ofp14.OFPTMPEF_OTHER | ofp14.OFPTMPEF_LIFETIME }),
          of14.OFPTableModPropVacancy({ vacancy_down: 20, vacancy_up: 80, vacancy: 50 }),
        ],
      }),
    }),
  ],
  [
    'request for two flow monitors',
    `05 12 LEN 00000001 | 0010 0000 00000000 | 00000001 ffffffff ffffffff 0011 ff 00 | 0001 0004 00000000
     | 00000002 00000003 ffffffff 0002 04 00 | 0001 000c 80000004 00000007 00000000`,
    of14.OFPFlowMonitorRequest({
      xid: 1,
      monitor_id: 1,
      monitor_flags: ofp14.OFPFMF_INITIAL | ofp14.OFPFMF_INSTRUCTIONS,
      more: [
        of14.OFPFlowMonitorNext({
          monitor_id: 2,
          out_port: 3,
          monitor_flags: ofp14.OFPFMF_ADD,
          table_id: 4,
          match: of14.OFPMatch({ in_port: 7 }),
        }),
      ],
    }),
  ],
  [
    'updates of flow monitors, with MORE',
    `05 13 LEN 00000001 | 0010 0001 00000000
     | 0030 0001 02 00 0001 0002 0064 00000000 0000000000000007 | 0001 000c 80000004 00000003 00000000 | 0001 0008 04 000000
     | 0008 0004 00000063 | 0008 0006 00000000 | 000c 0077 0102030405060708`,
    of14.OFPFlowMonitorReply({
      xid: 1,
      flags: ofp14.OFPMPF_REPLY_MORE,
      body: [
        of14.OFPFlowUpdateFull({
          event: ofp14.OFPFME_ADDED,
          table_id: 2,
          idle_timeout: 1,
          hard_timeout: 2,
          priority: 100,
          cookie: 7,
          match: of14.OFPMatch({ in_port: 3 }),
          instructions: [of14.OFPInstructionGotoTable({ table_id: 4 })],
        }),
        of14.OFPFlowUpdateAbbrev({ xid: 99 }),
        of14.OFPFlowUpdatePaused({ event: ofp14.OFPFME_RESUMED }),
        of14.OFPFlowUpdateUnknown({ event: 0x77, data: Buffer.from('0102030405060708', 'hex') }),
      ],
    }),
  ],
  [
    'queue descriptions',
    '05 13 LEN 00000001 | 000f 0000 00000000 | 00000001 00000002 0020 000000000000 | 0001 0008 01f4 0000 | 0002 0008 03e8 0000',
    of14.OFPQueueDescStatsReply({
      xid: 1,
      body: [
        of14.OFPQueueDesc({
          port_no: 1,
          queue_id: 2,
          properties: [of14.OFPQueueDescPropMinRate({ rate: 500 }), of14.OFPQueueDescPropMaxRate({ rate: 1000 })],
        }),
      ],
    }),
  ],
  // ---- 1.5 ----
  [
    'flow-mod: meter action, masked set-field, copy-field, statistics trigger',
    `06 0e LEN 0000004d | 0000000000000000 0000000000000000 00 00 0000 0000 8000 ffffffff 00000000 00000000 0000 0000
     | 0001 0004 00000000
     | 0004 0040 00000000 | 001d 0008 00000005 | 0019 0018 8000070c 020000000000 ff0000000000 00000000
       | 001c 0018 0010 0004 0008 0000 80000408 80004c08 00000000
     | 0007 0028 00000001 | 0000 001c 80020008 0000000a 00000000 80020808 0000000000000064 00000000`,
    of15.OFPFlowMod({
      xid: 77,
      instructions: [
        of15.OFPInstructionActions({
          type: ofp15.OFPIT_APPLY_ACTIONS,
          actions: [
            of15.OFPActionMeter({ meter_id: 5 }),
            of15.OFPActionSetField({ field: 'eth_dst', value: ['02:00:00:00:00:00', 'ff:00:00:00:00:00'] }),
            of15.OFPActionCopyField({
              n_bits: 16,
              src_offset: 4,
              dst_offset: 8,
              oxm_ids: [of15.OFPOxmId({ type: 'metadata' }), of15.OFPOxmId({ type: 'tunnel_id' })],
            }),
          ],
        }),
        of15.OFPInstructionStatTrigger({
          flags: ofp15.OFPSTF_PERIODIC,
          thresholds: of15.OFPStats({ packet_count: 100, duration: [10, 0] }),
        }),
      ],
    }),
  ],
  [
    'flow removed with statistics, one of them unknown',
    `06 0b LEN 00000000 | 03 00 0064 0005 003c 000000000000000b | 0001 0004 00000000
     | 0000 0021 80020008 00000001 00000002 80020a08 ffffffffffffffff 80040001 07 00000000000000`,
    of15.OFPFlowRemoved({
      table_id: 3,
      reason: ofp15.OFPRR_IDLE_TIMEOUT,
      priority: 100,
      idle_timeout: 5,
      hard_timeout: 60,
      cookie: 11,
      stats: of15.OFPStats({ duration: [1, 2], byte_count: 0xffffffffffffffffn, [`field_${0x8004 * 128}`]: 'Bw==' }),
    }),
  ],
  [
    'group-mod: two buckets go in behind the first',
    `06 0f LEN 00000000 | 0003 01 00 00000007 0048 0000 fffffffd
     | 0030 0010 00000004 | 0000 0010 00000002 0000 000000000000 | 0000 0008 0005 0000 | 0001 0008 00000002 | 0002 0008 00000009
     | 0018 0010 00000006 | 0000 0010 00000002 0000 000000000000
     | ffff 000c 00001234 00000001 00000000`,
    of15.OFPGroupMod({
      command: ofp15.OFPGC_INSERT_BUCKET,
      type: ofp15.OFPGT_SELECT,
      group_id: 7,
      command_bucket_id: ofp15.OFPG_BUCKET_FIRST,
      buckets: [
        of15.OFPBucket({
          bucket_id: 4,
          actions: [output15],
          properties: [
            of15.OFPGroupBucketPropWeight({ weight: 5 }),
            of15.OFPGroupBucketPropWatch({ type: ofp15.OFPGBPT_WATCH_PORT, watch: 2 }),
            of15.OFPGroupBucketPropWatch({ type: ofp15.OFPGBPT_WATCH_GROUP, watch: 9 }),
          ],
        }),
        of15.OFPBucket({ bucket_id: 6, actions: [output15] }),
      ],
      properties: [of15.OFPGroupPropExperimenter({ experimenter: 0x1234, exp_type: 1 })],
    }),
  ],
  [
    'packet-out with pipeline fields',
    `06 0d LEN 00000000 | ffffffff 0010 0000 | 0001 0018 80000004 fffffffd 80000408 0000000000000003
     | 0000 0010 00000002 0000 000000000000 | cafe`,
    of15.OFPPacketOut({
      match: of15.OFPMatch({ metadata: 3, in_port: ofp15.OFPP_CONTROLLER }),
      actions: [output15],
      data: Buffer.from('cafe', 'hex'),
    }),
  ],
  [
    'role request with a short identifier',
    '06 18 LEN 00000000 | 00000002 0007 0000 0000000000000001',
    of15.OFPRoleRequest({ role: ofp15.OFPCR_ROLE_MASTER, short_id: 7, generation_id: 1 }),
  ],
  [
    'controller status with its address, which is not padded by its length',
    `06 23 LEN 00000000 | 0028 0007 00000002 02 01 000000000000 | 0000 0013 ${Buffer.from('tcp:192.0.2.1:1').toString('hex')} 0000000000`,
    of15.OFPControllerStatus({
      status: of15.OFPControllerStatusStats({
        short_id: 7,
        role: ofp15.OFPCR_ROLE_MASTER,
        reason: ofp15.OFPCSR_ROLE,
        channel_status: ofp15.OFPCT_STATUS_DOWN,
        properties: [of15.OFPControllerStatusPropUri({ uri: 'tcp:192.0.2.1:1' })],
      }),
    }),
  ],
  [
    'table features: two packet types, where a field comes twice',
    `06 12 LEN 00000000 | 000c 0000 00000000 | 0058 01 02 00000001 7431${'00'.repeat(30)} 0000000000000000 0000000000000000
     00000000 00000000 | 0016 0014 80005804 00000000 80005804 00010800 00000000`,
    of15.OFPTableFeaturesStatsRequest({
      body: [
        of15.OFPTableFeaturesStats({
          table_id: 1,
          command: ofp15.OFPTFC_ENABLE,
          features: ofp15.OFPTFF_INGRESS_TABLE,
          name: 't1',
          properties: [
            of15.OFPTableFeaturePropOxmValues({
              oxm_values: [
                { field: 'packet_type', value: 0 },
                { field: 'packet_type', value: 0x10800 },
              ],
            }),
          ],
        }),
      ],
    }),
  ],
  [
    'bundle features: what can be scheduled',
    `06 13 LEN 00000000 | 0013 0000 00000000 | 0005 000000000000 | 0001 0048 00000000
     0000000000000000 000003e8 00000000 000000000000003c 00000000 00000000
     0000000000000001 00000000 00000000 0000000065000000 00000007 00000000`,
    of15.OFPBundleFeaturesStatsReply({
      body: of15.OFPBundleFeaturesStats({
        capabilities: ofp15.OFPBF_ATOMIC | ofp15.OFPBF_TIME,
        properties: [
          of15.OFPBundleFeaturesPropTime({
            sched_accuracy: of15.OFPTime({ nanoseconds: 1000 }),
            sched_max_future: of15.OFPTime({ seconds: 60 }),
            sched_max_past: of15.OFPTime({ seconds: 1 }),
            timestamp: of15.OFPTime({ seconds: 0x65000000, nanoseconds: 7 }),
          }),
        ],
      }),
    }),
  ],
  [
    'port description: recirculation and pipeline fields',
    `06 13 LEN 00000000 | 000d 0000 00000000 | 00000003 0040 0000 000000000000 0000 ${'00'.repeat(16)} 00000000 00000000
     | 0004 000c 00000004 00000005 00000000 | 0003 0008 80000408`,
    of15.OFPPortDescStatsReply({
      body: [
        of15.OFPPort({
          port_no: 3,
          properties: [
            of15.OFPPortDescPropRecirculate({ port_nos: [4, 5] }),
            of15.OFPPortDescPropOxm({
              type: ofp15.OFPPDPT_PIPELINE_OUTPUT,
              oxm_ids: [of15.OFPOxmId({ type: 'metadata' })],
            }),
          ],
        }),
      ],
    }),
  ],
  [
    'aggregate statistics',
    '06 13 LEN 00000000 | 0002 0000 00000000 | 0000 000c 80020604 0000001f 00000000',
    of15.OFPAggregateStatsReply({ body: of15.OFPAggregateStats({ stats: of15.OFPStats({ flow_count: 31 }) }) }),
  ],
  // ---- ONF extensions of 1.3 ----
  [
    'ONF bundle: commit',
    '04 04 LEN 00000003 | 4f4e4600 000008fc | 00000005 0004 0001',
    of13.ONFBundleCtrlMsg({
      xid: 3,
      bundle_id: 5,
      type: ofp13.ONF_BCT_COMMIT_REQUEST,
      flags: ofp13.ONF_BF_ATOMIC,
    }),
  ],
  [
    'ONF bundle: a barrier in it',
    '04 04 LEN 00000003 | 4f4e4600 000008fd | 00000005 0000 0002 | 04 14 0008 00000003',
    of13.ONFBundleAddMsg({
      xid: 3,
      bundle_id: 5,
      flags: ofp13.ONF_BF_ORDERED,
      message: of13.OFPBarrierRequest(),
    }),
  ],
  [
    'ONF flow monitor: the fields of a match, as the extension has them, and a whole match, as Open vSwitch has it',
    `04 12 LEN 00000000 | ffff 0000 00000000 | 4f4e4600 0000074e
     | 00000001 0003 0008 ffffffff ff 000000 | 80000004 00000007
     | 00000002 0010 000c ffffffff 03 000000 | 0001 000c 80000004 00000007 00000000`,
    of13.ONFFlowMonitorStatsRequest({
      body: [
        of13.ONFFlowMonitorRequest({
          id: 1,
          flags: ofp13.ONFFMF_INITIAL | ofp13.ONFFMF_ADD,
          match: of13.OFPMatch({ in_port: 7 }),
        }),
        of13.ONFFlowMonitorRequest({
          id: 2,
          flags: ofp13.ONFFMF_ACTIONS,
          table_id: 3,
          match_header: true,
          match: of13.OFPMatch({ in_port: 7 }),
        }),
      ],
    }),
  ],
  [
    'ONF flow updates',
    `04 13 LEN 00000000 | ffff 0001 00000000 | 4f4e4600 0000074e
     | 0028 0001 0002 0064 0000 0000 0006 03 00 000000000000000b | 80000a02 0800 0000 | 0001 0008 04 000000
     | 0008 0003 00000063`,
    of13.ONFFlowMonitorStatsReply({
      flags: ofp13.OFPMPF_REPLY_MORE,
      body: [
        of13.ONFFlowUpdateFull({
          event: ofp13.ONFFME_DELETED,
          reason: ofp13.OFPRR_DELETE,
          priority: 100,
          table_id: 3,
          cookie: 11,
          match_header: false,
          match: of13.OFPMatch({ eth_type: 0x0800 }),
          instructions: [of13.OFPInstructionGotoTable({ table_id: 4 })],
        }),
        of13.ONFFlowUpdateAbbrev({ xid: 99 }),
      ],
    }),
  ],
  ['ONF flow monitor: paused', '04 04 LEN 00000000 | 4f4e4600 0000074f', of13.ONFFlowMonitorPaused()],
];

test.each(good)('%s', (_, hex, msg) => {
  const want = bytes(hex);
  expect(encode(msg).toString('hex')).toBe(want.toString('hex'));
  expect(decode(want)).toEqual(msg);
  if (msg.cls === 'OFPRequestForward') return; // its JSON loses the inner transaction id
  const text = stringifyJson(toJson(msg));
  expect(encode(fromJson(parseJson(text), msg.version as Version), msg.xid).toString('hex')).toBe(want.toString('hex'));
});

describe('transaction ids of bundles', () => {
  const message = of14.OFPBarrierRequest();
  const inner = (b: Buffer) => b.readUInt32BE(20);

  test('the message inside gets that of the bundle message when it has none', () => {
    expect(inner(encode(of14.OFPBundleAddMsg({ xid: 5, bundle_id: 1, message })))).toBe(5);
    expect(message.xid).toBe(0);
  });
  test('it follows when another one is written', () => {
    expect(inner(encode(of14.OFPBundleAddMsg({ xid: 5, bundle_id: 1, message }), 9))).toBe(9);
    expect(inner(encode(of14.OFPBundleAddMsg({ bundle_id: 1, message }), 9))).toBe(9);
  });
  test('one of its own stays: what came is written again', () => {
    const odd = of14.OFPBundleAddMsg({ xid: 5, bundle_id: 1, message: { ...message, xid: 8 } });
    expect(inner(encode(odd))).toBe(8);
    expect(inner(encode(odd, 9))).toBe(8);
    expect(decode(encode(odd))).toEqual(odd);
  });
  test('a forwarded request keeps that of the other controller', () => {
    const forward = of14.OFPRequestForward({ request: of14.OFPMeterMod() });
    expect(encode(forward, 9).readUInt32BE(12)).toBe(0);
  });
});

const BAD_REQUEST = [ofp14.OFPET_BAD_REQUEST, ofp14.OFPBRC_BAD_LEN] as const;
const BAD_PROPERTY = [ofp14.OFPET_BAD_PROPERTY, ofp14.OFPBPC_BAD_LEN] as const;
const inBundle = (text: string) => `05 22 LEN 00000000 0000002a 0000 0000 ${text}`;

const bad: [string, string, readonly [number, number], number][] = [
  ['a bundle without a message', inBundle(''), BAD_REQUEST, 16],
  ['a message in a bundle longer than it', inBundle('05 14 0009 00000000'), BAD_REQUEST, 18],
  ['a message in a bundle of length 4', inBundle('05 14 0004 00000000'), BAD_REQUEST, 18],
  [
    'a message of another version in a bundle',
    inBundle('04 14 0008 00000000'),
    [ofp14.OFPET_BAD_REQUEST, ofp14.OFPBRC_BAD_VERSION],
    16,
  ],
  [
    'bundles in bundles in bundles in bundles',
    inBundle(
      '05 22 0048 00000000 0000002a 0000 0000 05 22 0038 00000000 0000002a 0000 0000 05 22 0028 00000000 0000002a 0000 0000 05 22 0018 00000000 0000002a 0000 0000 05 14 0008 00000000',
    ),
    BAD_REQUEST,
    66,
  ],
  ['a property of length 3', '05 1c LEN 00000000 0000 0003 00000000', BAD_PROPERTY, 8],
  ['a property beyond the message', '05 1c LEN 00000000 0000 0009 00000000', BAD_PROPERTY, 8],
  ['a reasons property of length 7', '05 1c LEN 00000000 0000 0007 000000 00', BAD_PROPERTY, 8],
  [
    'a port longer than its message',
    `05 0c LEN 00000000 02 00000000000000 00000003 0029 ${'00'.repeat(34)}`,
    BAD_REQUEST,
    16,
  ],
  ['a flow update of length 0', '05 13 LEN 00000000 0010 0000 00000000 0000 0006 00000000', BAD_REQUEST, 16],
  [
    'the actions of a bucket beyond it',
    '06 0f LEN 00000000 0000 00 00 00000001 0008 0000 ffffffff 0008 0008 00000000',
    [ofp14.OFPET_GROUP_MOD_FAILED, ofp14.OFPGMFC_BAD_BUCKET],
    32,
  ],
  [
    'buckets beyond the group-mod',
    '06 0f LEN 00000000 0000 00 00 00000001 0010 0000 ffffffff 0008 0000 00000000',
    BAD_REQUEST,
    24,
  ],
  [
    'the same statistic twice',
    '06 13 LEN 00000000 0002 0000 00000000 0000 0014 80020604 00000001 80020604 00000001 00000000',
    BAD_REQUEST,
    28,
  ],
  [
    'a statistic of another length',
    '06 13 LEN 00000000 0002 0000 00000000 0000 000c 80020804 00000001 00000000',
    BAD_REQUEST,
    20,
  ],
  [
    'statistics beyond the message',
    '06 13 LEN 00000000 0002 0000 00000000 0000 0010 80020604 00000001',
    BAD_REQUEST,
    16,
  ],
  ['no statistics at all', '06 13 LEN 00000000 0002 0000 00000000', BAD_REQUEST, 16],
  [
    'a copy-field action of three identifiers and more',
    `06 0d LEN 00000000 ffffffff 0020 0000 0001 000c 80000004 00000001 00000000
     001c 0020 0000 0000 0000 0000 80000408 80000408 80000408 80000408 00000000`,
    [ofp14.OFPET_BAD_ACTION, ofp14.OFPBAC_BAD_LEN],
    52,
  ],
  ['a truncated ONF bundle', '04 04 LEN 00000000 4f4e4600 000008fc 00000005', BAD_REQUEST, 0],
];

test.each(bad)('refused: %s', (_, hex, [type, code], offset) => {
  let error: unknown;
  try {
    decode(bytes(hex));
  } catch (e) {
    error = e;
  }
  expect(error).toBeInstanceOf(OfDecodeError);
  expect(error).toMatchObject({ ofError: { type, code }, offset });
});

test('what does not fit is refused by class and field', () => {
  const refused = (f: () => unknown, cls: string, field: string) => {
    let error: unknown;
    try {
      f();
    } catch (e) {
      error = e;
    }
    expect(error).toBeInstanceOf(OfEncodeError);
    expect(error).toMatchObject({ cls, field });
  };
  const bundle = of14.OFPBundleAddMsg({ bundle_id: 1, message: of14.OFPBarrierRequest() });
  refused(() => encode({ ...bundle, message: output14 as never }), 'OFPBundleAddMsg', 'message');
  refused(() => encode({ ...bundle, message: of13.OFPBarrierRequest() as never }), 'OFPBundleAddMsg', 'message');
  bundle.message = bundle;
  refused(() => encode(bundle), 'OFPBundleAddMsg', 'message');
  refused(() => of15.OFPStats({ nonsense: 1 } as never), 'OFPStats', 'nonsense');
  refused(
    () => encode(of15.OFPFlowRemoved({ stats: of15.OFPStats({ duration: [1] as never }) })),
    'OFPStats',
    'duration',
  );
  refused(
    () => encode(of15.OFPFlowRemoved({ stats: of15.OFPStats({ packet_count: -1 }) })),
    'OFPStats',
    'packet_count',
  );
  const one = of15.OFPOxmId({ type: 'metadata' });
  refused(
    () => encode(of15.OFPPacketOut({ match: of15.OFPMatch(), actions: [of15.OFPActionCopyField({ oxm_ids: [one] })] })),
    'OFPActionCopyField',
    'oxm_ids',
  );
  refused(() => fromJson({ OFPTableMod: { table_id: 1, config: 0, features: 1 } }, 5), 'OFPTableMod', 'features');
  refused(
    () => fromJson({ OFPBundleAddMsg: { bundle_id: 1, message: { OFPBucket: {} } } }, 6),
    'OFPBundleAddMsg',
    'message',
  );
  // and the encoder is none the worse for it
  expect(encode(of15.OFPBarrierRequest()).toString('hex')).toBe('0614000800000000');
});

test("JSON has Ryu's shape", () => {
  expect(
    toJson(
      of14.OFPPortStatus({
        reason: 0,
        desc: of14.OFPPort({ port_no: 1, properties: [of14.OFPPropUnknown({ type: 9, data: Buffer.from('ab') })] }),
      }),
    ),
  ).toMatchObject({
    OFPPortStatus: {
      desc: { OFPPort: { length: 48, properties: [{ OFPPropUnknown: { buf: 'AAkABmFiAAA=', length: 6, type: 9 } }] } },
    },
  });
  expect(
    toJson(
      of15.OFPAggregateStatsReply({ body: of15.OFPAggregateStats({ stats: of15.OFPStats({ duration: [1, 2] }) }) }),
    ),
  ).toEqual({
    OFPAggregateStatsReply: {
      body: {
        OFPAggregateStats: {
          length: 16,
          stats: { OFPStats: { length: 16, oxs_fields: [{ OXSTlv: { field: 'duration', value: [1, 2] } }] } },
        },
      },
      flags: 0,
      type: 2,
    },
  });
  expect(toJson(of14.OFPFlowMonitorRequest())).not.toHaveProperty('OFPFlowMonitorRequest.more');
});

test('every message that is declared can be written and read', () => {
  const declared = [M, MM, M10, M14, NM].flatMap((m) =>
    Object.values(m as unknown as Readonly<{ [name: string]: unknown }>).filter(
      (v): v is AnyStruct => typeof v === 'object' && v !== null && 'cls' in v && 'fields' in v,
    ),
  );
  expect(declared.length).toBeGreaterThan(100);
  expect(new Set(M.MESSAGES)).toEqual(new Set(declared));
  for (const version of [1, 3, 4, 5, 6] as const) {
    const names = M.MESSAGES.filter((m) => holds(m, version)).map((m) => m.cls);
    expect(names).toHaveLength(new Set(names).size);
  }
});
