/** Messages of 1.3 as 1.4 and 1.5, and replies back: over the wire, so that what is made can be read. */
import {
  decodeAs,
  encode,
  OFPStats,
  type OfMessage,
  of13,
  of14,
  of15,
  ofproto_v1_3 as ofp,
  ofproto_v1_5 as ofp15,
} from 'node-openflow';
import {
  addFlow,
  flow,
  GROUP_BASE,
  type Group,
  groupFound,
  groupSignature,
  removeFlow,
  removeMeter,
  writeGroup,
  writeMeter,
} from '../../../controller/core/flows.ts';
import { fromVersion, type SwitchVersion, toVersion, versionText } from '../../../controller/core/versions.ts';

const ours = flow({
  table: 0,
  priority: 30_000,
  match: of13.OFPMatch({ eth_type: 0x800, ip_proto: 6, ipv4_dst: '10.0.0.2', tcp_dst: 49_152 }),
  instructions: [
    of13.OFPInstructionMeter({ meter_id: 9 }),
    of13.OFPInstructionActions({
      type: ofp.OFPIT_APPLY_ACTIONS,
      actions: [of13.OFPActionSetField({ field: 'ip_dscp', value: 10 }), of13.OFPActionSetQueue({ queue_id: 1 })],
    }),
    of13.OFPInstructionGotoTable({ table_id: 1 }),
  ],
  cookie: 0xfa1c_0104_0000_0001n,
});
const any = of13.OFPMatch({});
const output = of13.OFPActionOutput({ port: 3, max_len: 0 });
const bucket = of13.OFPBucket({ weight: 2, watch_port: 3, actions: [output] });
const sent: OfMessage<4>[] = [
  addFlow(ours),
  removeFlow(ours),
  writeMeter({ meterId: 9, rateKbps: 1000, burstKbits: 500 }, 'add'),
  removeMeter(9),
  of13.OFPGroupMod({ type: ofp.OFPGT_SELECT, group_id: 4, buckets: [bucket] }),
  of13.OFPGroupMod({ command: ofp.OFPGC_DELETE, group_id: 4 }),
  of13.OFPPacketOut({ in_port: ofp.OFPP_CONTROLLER, actions: [output], data: Buffer.from('frame') }),
  of13.OFPBarrierRequest({}),
  of13.OFPEchoRequest({ data: Buffer.alloc(0) }),
  of13.OFPSetConfig({ flags: 0, miss_send_len: 128 }),
  of13.OFPRoleRequest({ role: ofp.OFPCR_ROLE_MASTER, generation_id: 7n }),
  of13.OFPPortDescStatsRequest({}),
  of13.OFPPortStatsRequest({ port_no: ofp.OFPP_ANY }),
  of13.OFPQueueStatsRequest({ port_no: ofp.OFPP_ANY, queue_id: ofp.OFPQ_ALL }),
  of13.OFPFlowStatsRequest({ table_id: ofp.OFPTT_ALL, cookie: ours.cookie, cookie_mask: 0xffffn << 48n, match: any }),
  of13.OFPMeterFeaturesStatsRequest({}),
  of13.OFPMeterConfigStatsRequest({ meter_id: ofp.OFPM_ALL }),
  of13.OFPGroupFeaturesStatsRequest({}),
  of13.OFPGroupDescStatsRequest({}),
];

test.each([4, 5, 6] as const)('all the controller sends can be written and read as version %i', (version) => {
  for (const m of sent) {
    const translated = toVersion(m, version);
    expect(translated.version).toBe(version);
    const read = decodeAs(version, encode(translated, 0));
    expect({ ...read, xid: 0 }).toEqual({ ...translated, xid: 0 });
  }
});

test('what Fairway never sends is refused', () => {
  const set = of13.OFPSetAsync({});
  expect(() => toVersion(set, 5)).toThrow(/1\.4/);
  expect(() => toVersion(set, 6)).toThrow(/1\.5/);
});

test('1.5 has the meter as first action to apply, and the way back gives the same flow', () => {
  const mod = decodeAs(6, encode(toVersion(addFlow(ours), 6), 0));
  if (mod.cls !== 'OFPFlowMod') throw new Error('not a flow mod');
  const { match, instructions } = mod;
  expect(instructions.map((i) => i.cls)).toEqual(['OFPInstructionActions', 'OFPInstructionGotoTable']);
  const stats = OFPStats({ duration: [5, 6], packet_count: 7n, byte_count: 8n });
  const reply = of15.OFPFlowDescStatsReply({
    body: [
      of15.OFPFlowDesc({
        table_id: 0,
        priority: 30_000,
        cookie: ours.cookie,
        match,
        stats,
        instructions: instructions,
      }),
    ],
  });
  const back = fromVersion(decodeAs(6, encode(reply, 1)));
  if (back?.cls !== 'OFPFlowStatsReply') throw new Error('not flow stats');
  const [f] = back.body;
  expect(f).toMatchObject({ packet_count: 7n, byte_count: 8n, duration_sec: 5, duration_nsec: 6 });
  const again = flow({
    table: f?.table_id ?? -1,
    priority: f?.priority ?? -1,
    match: f?.match ?? any,
    instructions: f?.instructions ?? [],
    cookie: f?.cookie ?? 0n,
  });
  expect(again.key).toBe(ours.key);
  expect(again.signature).toBe(ours.signature);
});

test('a flow of 1.5 with actions that 1.3 has not differs from ours and can be written down', () => {
  const copy = of15.OFPInstructionActions({
    type: ofp.OFPIT_APPLY_ACTIONS,
    actions: [of15.OFPActionSetField({ field: 'eth_dst', value: ['02:00:00:00:00:01', '02:00:00:00:00:ff'] })],
  });
  const reply = of15.OFPFlowDescStatsReply({ body: [of15.OFPFlowDesc({ stats: OFPStats({}), instructions: [copy] })] });
  const back = fromVersion(reply);
  expect(back).toMatchObject({ body: [{ instructions: [{ cls: 'OFPInstructionActions', actions: [] }] }] });
  expect(() => encode(back as OfMessage<4>, 0)).not.toThrow();
});

const ethernet = { curr: 1, advertised: 2, supported: 3, peer: 4, curr_speed: 1_000_000, max_speed: 10_000_000 };
const plain = { port_no: 3, name: 'eth3', hw_addr: '02:00:00:00:00:03', config: 0, state: 4 };
test.each([
  [
    5,
    of14.OFPPortDescStatsReply({
      body: [of14.OFPPort({ ...plain, properties: [of14.OFPPortDescPropEthernet(ethernet)] })],
    }),
  ],
  [
    6,
    of15.OFPPortDescStatsReply({
      body: [of15.OFPPort({ ...plain, properties: [of15.OFPPortDescPropEthernet(ethernet)] })],
    }),
  ],
] as const)('speeds of ports come out of their properties in version %i', (_version, reply) => {
  expect(fromVersion(reply)).toEqual(of13.OFPPortDescStatsReply({ body: [of13.OFPPort({ ...plain, ...ethernet })] }));
});

test('a port without Ethernet properties has no speed', () => {
  const status = of14.OFPPortStatus({ reason: 0, desc: of14.OFPPort({ ...plain, properties: [] }) });
  expect(fromVersion(status)).toEqual(of13.OFPPortStatus({ reason: 0, desc: of13.OFPPort(plain) }));
});

test('counters of ports and queues lose their properties', () => {
  const port = { port_no: 1, rx_bytes: 5n, tx_bytes: 6n };
  const queue = { port_no: 1, queue_id: 2, tx_bytes: 7n };
  const expectedPorts = of13.OFPPortStatsReply({ body: [of13.OFPPortStats(port)] });
  const expectedQueues = of13.OFPQueueStatsReply({ body: [of13.OFPQueueStats(queue)] });
  expect(fromVersion(of14.OFPPortStatsReply({ body: [of14.OFPPortStats(port)] }))).toEqual(expectedPorts);
  expect(fromVersion(of15.OFPPortStatsReply({ body: [of15.OFPPortStats(port)] }))).toEqual(expectedPorts);
  expect(fromVersion(of14.OFPQueueStatsReply({ body: [of14.OFPQueueStats(queue)] }))).toEqual(expectedQueues);
  expect(fromVersion(of15.OFPQueueStatsReply({ body: [of15.OFPQueueStats(queue)] }))).toEqual(expectedQueues);
});

test('meters of 1.5 are those of 1.3', () => {
  const reply = of15.OFPMeterDescStatsReply({ body: [of15.OFPMeterDescStats({ meter_id: 9, flags: 1, bands: [] })] });
  expect(fromVersion(reply)).toEqual(
    of13.OFPMeterConfigStatsReply({ body: [of13.OFPMeterConfigStats({ meter_id: 9, flags: 1, bands: [] })] }),
  );
});

describe.each(['select', 'failover'] as const)('a %s group of 1.5', (kind) => {
  const buckets = [
    { port: 3, weight: 2 },
    { port: 4, weight: 1 },
  ];
  const ours: Group = { groupId: GROUP_BASE, kind, buckets, signature: groupSignature(kind, buckets) };
  const mod = decodeAs(6, encode(toVersion(writeGroup(ours, 'add'), 6), 0));
  if (mod.cls !== 'OFPGroupMod' || mod.version !== 6) throw new Error('not a group mod');
  const described = (change: object = {}) =>
    fromVersion(
      of15.OFPGroupDescStatsReply({
        body: [of15.OFPGroupDescStats({ type: mod.type, group_id: mod.group_id, buckets: mod.buckets, ...change })],
      }),
    );
  const found = (reply: OfMessage<4> | undefined) => {
    if (reply?.cls !== 'OFPGroupDescStatsReply') throw new Error('not the description of groups');
    return reply.body.map(groupFound);
  };

  test('is about no single bucket; each has an id, and says what its port is', () => {
    expect(mod.command_bucket_id).toBe(ofp15.OFPG_BUCKET_ALL);
    expect(mod.buckets.map((b) => b.bucket_id)).toEqual([0, 1]);
    const watched = of15.OFPGroupBucketPropWatch({ type: ofp15.OFPGBPT_WATCH_PORT, watch: 3 });
    const weight = of15.OFPGroupBucketPropWeight({ weight: 2 });
    expect(mod.buckets[0]?.properties).toEqual(kind === 'select' ? [weight, watched] : [watched]);
  });

  test('is read back as what was written', () => {
    expect(found(described())).toMatchObject([{ groupId: GROUP_BASE, kind, signature: ours.signature }]);
  });

  test('differs from ours when it does something else', () => {
    const copy = of15.OFPActionSetField({ field: 'eth_dst', value: ['02:00:00:00:00:01', '02:00:00:00:00:ff'] });
    const [first] = mod.buckets;
    const watchesGroup = of15.OFPGroupBucketPropWatch({ type: ofp15.OFPGBPT_WATCH_GROUP, watch: 3 });
    for (const change of [
      { buckets: mod.buckets.slice(0, 1) },
      { buckets: mod.buckets.map((b) => ({ ...b, actions: [copy] })) },
      { buckets: [{ ...first, properties: [watchesGroup] }] },
    ])
      expect(found(described(change))[0]?.signature).not.toBe(ours.signature);
  });
});

test('what groups a switch of 1.5 can have', () => {
  const body = { types: 0b1011, capabilities: 3, max_groups: [1, 2, 3, 4], actions: [1, 1, 1, 1] };
  const reply = of15.OFPGroupFeaturesStatsReply({ body: of15.OFPGroupFeaturesStats(body) });
  expect(fromVersion(reply)).toEqual(of13.OFPGroupFeaturesStatsReply({ body: of13.OFPGroupFeaturesStats(body) }));
});

test('what the controller has no use for is left out', () => {
  expect(fromVersion(of15.OFPBundleFeaturesStatsRequest({}))).toBeUndefined();
  expect(fromVersion(of14.OFPQueueDescStatsRequest({}))).toBeUndefined();
});

test('versions have their usual names', () => {
  expect(([4, 5, 6] as SwitchVersion[]).map(versionText)).toEqual(['1.3', '1.4', '1.5']);
});
