/** The emulated flow tables, tested by where packets come out. */
import { of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { arpPacket, ETH_IPV4, ETH_VLAN, type Packet, rarpPacket } from '../../../sim/packet.ts';
import type { Action, RemovedFlow } from '../../../sim/switch/entries.ts';
import { FlowTables } from '../../../sim/switch/flowTables.ts';

const A = '52:54:00:00:00:0a';
const B = '52:54:00:00:00:0b';
const tcp = (o: Partial<Packet> = {}): Packet => ({
  eth_dst: B,
  eth_src: A,
  eth_type: ETH_IPV4,
  ip_proto: 6,
  ip_dscp: 0,
  ip_ecn: 0,
  ip_ttl: 64,
  ipv4_src: '10.0.0.1',
  ipv4_dst: '10.0.0.2',
  tcp_src: 40000,
  tcp_dst: 49152,
  ...o,
});
const out = (port: number) => of13.OFPActionOutput({ port });
const apply = (...actions: Action[]) => of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions });
const write = (...actions: Action[]) => of13.OFPInstructionActions({ type: ofp.OFPIT_WRITE_ACTIONS, actions });
const goto = (table_id: number) => of13.OFPInstructionGotoTable({ table_id });
type FlowModInit = NonNullable<Parameters<typeof of13.OFPFlowMod>[0]>;
const flow = (o: FlowModInit) => of13.OFPFlowMod({ out_port: ofp.OFPP_ANY, out_group: ofp.OFPG_ANY, ...o });
const ports = (t: FlowTables, p: Packet, inPort = 1) => t.process(p, inPort).outputs.map((o) => o.port);

function tables(onRemoved: (r: RemovedFlow) => void = () => {}): FlowTables {
  return new FlowTables({ tables: 4, ports: () => [1, 2, 3], onRemoved });
}

describe('forwarding', () => {
  test('an empty switch drops everything', () => {
    expect(tables().process(tcp(), 1)).toEqual({ outputs: [], toController: [], matchedFlows: [], meters: [] });
  });

  test('the highest priority wins, whatever the order of arrival', () => {
    const t = tables();
    expect(t.apply(flow({ priority: 1, instructions: [apply(out(2))] }))).toEqual([]);
    t.apply(flow({ priority: 9, match: of13.OFPMatch({ eth_dst: B }), instructions: [apply(out(3))] }));
    t.apply(flow({ priority: 5, match: of13.OFPMatch({ eth_src: A }), instructions: [] }));
    expect(ports(t, tcp())).toEqual([3]);
    expect(ports(t, tcp({ eth_dst: A }))).toEqual([]);
    expect(ports(t, tcp({ eth_dst: A, eth_src: B }))).toEqual([2]);
  });

  test('masks, and fields a packet does not have', () => {
    const t = tables();
    const match = of13.OFPMatch({ eth_type: ETH_IPV4, ipv4_dst: ['10.0.0.0', '255.255.0.0'] });
    t.apply(flow({ priority: 5, match, instructions: [apply(out(2))] }));
    expect(ports(t, tcp())).toEqual([2]);
    expect(ports(t, tcp({ ipv4_dst: '10.1.0.2' }))).toEqual([]);
    expect(ports(t, rarpPacket(A))).toEqual([]);
  });

  test('vlan_vid 0 is an untagged packet, PRESENT/PRESENT any tagged one', () => {
    const t = tables();
    t.apply(flow({ match: of13.OFPMatch({ vlan_vid: 0 }), instructions: [apply(out(2))] }));
    t.apply(flow({ match: of13.OFPMatch({ vlan_vid: [0x1000, 0x1000] }), instructions: [apply(out(3))] }));
    expect(ports(t, tcp())).toEqual([2]);
    expect(ports(t, tcp({ vlans: [{ tpid: ETH_VLAN, vid: 7, pcp: 0 }] }))).toEqual([3]);
  });

  test('tables, metadata, and the action set at the end of the pipeline', () => {
    const t = tables();
    const meta = of13.OFPInstructionWriteMetadata({ metadata: 0x12n, metadata_mask: 0xffn });
    t.apply(flow({ instructions: [write(out(2)), meta, goto(1)] }));
    t.apply(flow({ table_id: 1, match: of13.OFPMatch({ metadata: [0x10n, 0xf0n] }), instructions: [goto(2)] }));
    t.apply(flow({ table_id: 2, instructions: [write(of13.OFPActionSetQueue({ queue_id: 7 }), out(3))] }));
    const { outputs, matchedFlows } = t.process(tcp(), 1);
    expect(outputs.map((o) => [o.port, o.queue])).toEqual([[3, 7]]);
    expect(matchedFlows.map((f) => f.tableId)).toEqual([0, 1, 2]);
  });

  test('set-field, queue, and VLAN tags travel with the packet', () => {
    const t = tables();
    const match = of13.OFPMatch({ eth_type: ETH_IPV4 });
    const actions = [
      of13.OFPActionSetField({ field: 'ip_dscp', value: 10 }),
      of13.OFPActionSetQueue({ queue_id: 1 }),
      out(2),
      of13.OFPActionPushVlan({ ethertype: ETH_VLAN }),
      of13.OFPActionSetField({ field: 'vlan_vid', value: 0x1000 | 3841 }),
      out(3),
      of13.OFPActionPopVlan({}),
      out(ofp.OFPP_IN_PORT),
    ];
    expect(t.apply(flow({ match, instructions: [apply(...actions)] }))).toEqual([]);
    const { outputs } = t.process(tcp(), 1);
    expect(outputs.map((o) => o.port)).toEqual([2, 3, 1]);
    expect(outputs.map((o) => o.queue)).toEqual([1, 1, 1]);
    expect(outputs.map((o) => o.packet.ip_dscp)).toEqual([10, 10, 10]);
    expect(outputs.map((o) => o.packet.vlans)).toEqual([undefined, [{ tpid: ETH_VLAN, vid: 3841, pcp: 0 }], undefined]);
  });

  test('a packet never goes back by plain output, only by IN_PORT; FLOOD leaves its port out', () => {
    const t = tables();
    t.apply(flow({ priority: 2, match: of13.OFPMatch({ in_port: 1 }), instructions: [apply(out(1))] }));
    t.apply(flow({ priority: 1, instructions: [apply(out(ofp.OFPP_FLOOD))] }));
    expect(ports(t, tcp(), 1)).toEqual([]);
    expect(ports(t, tcp(), 2)).toEqual([1, 3]);
  });

  test('CONTROLLER: a table miss and an action have different reasons', () => {
    const t = tables();
    const up = apply(of13.OFPActionOutput({ port: ofp.OFPP_CONTROLLER, max_len: 64 }));
    t.apply(flow({ priority: 0, cookie: 5n, instructions: [up] }));
    expect(t.process(tcp(), 2).toController).toMatchObject([
      { reason: ofp.OFPR_NO_MATCH, cookie: 5n, maxLen: 64, inPort: 2, tableId: 0 },
    ]);
    t.apply(flow({ priority: 1, match: of13.OFPMatch({ in_port: 2 }), instructions: [up] }));
    expect(t.process(tcp(), 2).toController).toMatchObject([{ reason: ofp.OFPR_ACTION }]);
  });

  test('NORMAL learns, forgets with the port, and takes a guest that announces itself elsewhere', () => {
    const t = tables();
    t.apply(flow({ instructions: [apply(out(ofp.OFPP_NORMAL))] }));
    expect(ports(t, tcp(), 1)).toEqual([2, 3]);
    expect(ports(t, tcp({ eth_src: B, eth_dst: A }), 2)).toEqual([1]);
    expect(ports(t, tcp(), 1)).toEqual([2]);
    expect(ports(t, rarpPacket(B), 3)).toEqual([1, 2]);
    expect(ports(t, tcp(), 1)).toEqual([3]);
    t.forgetPort(3);
    expect(ports(t, tcp(), 1)).toEqual([2, 3]);
    // A question learns nothing.
    t.process(rarpPacket(B), 2, { isTraffic: false });
    expect(ports(t, tcp(), 1)).toEqual([2, 3]);
  });

  test('ARP is matched by its own fields', () => {
    const t = tables();
    const match = of13.OFPMatch({ eth_type: 0x0806, arp_op: 1, arp_tpa: '10.0.0.2' });
    expect(t.apply(flow({ match, instructions: [apply(out(2))] }))).toEqual([]);
    expect(ports(t, arpPacket({ op: 1, sha: A, spa: '10.0.0.1', tpa: '10.0.0.2' }))).toEqual([2]);
    expect(ports(t, arpPacket({ op: 2, sha: A, spa: '10.0.0.1', tpa: '10.0.0.2' }))).toEqual([]);
  });

  test('packet-out: its actions, and TABLE through the flows', () => {
    const t = tables();
    t.apply(flow({ match: of13.OFPMatch({ eth_dst: B }), instructions: [apply(out(3))] }));
    expect(t.execute([out(2)], tcp(), ofp.OFPP_CONTROLLER).outputs.map((o) => o.port)).toEqual([2]);
    expect(t.execute([out(ofp.OFPP_TABLE)], tcp(), ofp.OFPP_CONTROLLER).outputs.map((o) => o.port)).toEqual([3]);
    const all = t.execute([out(ofp.OFPP_ALL)], tcp(), ofp.OFPP_CONTROLLER).outputs;
    expect(all.map((o) => o.port)).toEqual([1, 2, 3]);
  });
});

describe('flow-mods', () => {
  const one = (o: FlowModInit = {}) =>
    flow({ match: of13.OFPMatch({ eth_dst: B }), instructions: [apply(out(2))], ...o });

  test('an add replaces the same match and priority and keeps its counters unless told otherwise', () => {
    const t = tables();
    t.apply(one());
    t.process(tcp(), 1);
    t.apply(one({ instructions: [apply(out(3))] }));
    expect(t.flows()).toMatchObject([{ packets: 1 }]);
    expect(ports(t, tcp())).toEqual([3]);
    t.apply(one({ flags: ofp.OFPFF_RESET_COUNTS }));
    expect(t.flows()).toMatchObject([{ packets: 0, bytes: 0 }]);
  });

  test('modify changes what is covered, and adds nothing', () => {
    const t = tables();
    t.apply(flow({ command: ofp.OFPFC_MODIFY, instructions: [apply(out(3))] }));
    expect(t.flows()).toEqual([]);
    t.apply(one({ priority: 7 }));
    t.apply(one({ priority: 8, command: ofp.OFPFC_MODIFY_STRICT, instructions: [apply(out(3))] }));
    expect(ports(t, tcp())).toEqual([2]);
    t.apply(flow({ command: ofp.OFPFC_MODIFY, instructions: [apply(out(3))] }));
    expect(ports(t, tcp())).toEqual([3]);
  });

  test('delete: by cover, strictly, by cookie, by port, and with Ryu’s out_port 0 not at all', () => {
    const filled = () => {
      const t = tables();
      t.apply(one({ cookie: 0xfa1c_0000n, priority: 5 }));
      t.apply(flow({ cookie: 0x1n, priority: 6, match: of13.OFPMatch({ in_port: 9 }), instructions: [apply(out(3))] }));
      t.apply(flow({ table_id: 1, cookie: 0xfa1c_0001n, instructions: [] }));
      return t;
    };
    const cookiesAfter = (o: FlowModInit) => {
      const t = filled();
      t.apply(flow({ command: ofp.OFPFC_DELETE, table_id: ofp.OFPTT_ALL, ...o }));
      return t.flows().map((f) => f.cookie);
    };
    expect(cookiesAfter({})).toEqual([]);
    expect(cookiesAfter({ table_id: 1 })).toEqual([0x1n, 0xfa1c_0000n]);
    expect(cookiesAfter({ cookie: 0xfa1c_0000n, cookie_mask: 0xffff_0000n })).toEqual([0x1n]);
    expect(cookiesAfter({ out_port: 3 })).toEqual([0xfa1c_0000n, 0xfa1c_0001n]);
    expect(cookiesAfter({ out_port: 0 })).toHaveLength(3);
    expect(cookiesAfter({ out_group: 1 })).toHaveLength(3);
    expect(cookiesAfter({ match: of13.OFPMatch({ eth_dst: B }) })).toEqual([0x1n, 0xfa1c_0001n]);
    expect(cookiesAfter({ command: ofp.OFPFC_DELETE_STRICT, priority: 6 })).toHaveLength(3);
    const strict = { command: ofp.OFPFC_DELETE_STRICT, priority: 6, match: of13.OFPMatch({ in_port: 9 }) };
    expect(cookiesAfter(strict)).toEqual([0xfa1c_0000n, 0xfa1c_0001n]);
  });

  test('idle and hard timeouts, and flow-removed only for those who asked', () => {
    const removed: [bigint, number][] = [];
    const t = tables((r) => removed.push([r.entry.cookie, r.reason]));
    const flags = ofp.OFPFF_SEND_FLOW_REM;
    t.apply(one({ cookie: 1n, idle_timeout: 2, flags }), 0);
    t.apply(flow({ cookie: 2n, hard_timeout: 3, flags, match: of13.OFPMatch({ in_port: 1 }) }), 0);
    t.apply(flow({ cookie: 3n, hard_timeout: 1, match: of13.OFPMatch({ in_port: 2 }) }), 0);
    t.process(tcp(), 3, { nowMs: 1500 });
    t.expire(2100);
    expect(removed).toEqual([]);
    expect(t.flows().map((f) => f.cookie)).toEqual([1n, 2n]);
    t.expire(3600);
    expect(removed.sort()).toEqual([
      [1n, ofp.OFPRR_IDLE_TIMEOUT],
      [2n, ofp.OFPRR_HARD_TIMEOUT],
    ]);
    t.apply(one({ cookie: 4n, flags }));
    t.apply(flow({ command: ofp.OFPFC_DELETE, table_id: ofp.OFPTT_ALL }));
    expect(removed.at(-1)).toEqual([4n, ofp.OFPRR_DELETE]);
  });

  const ipv4 = { eth_type: ETH_IPV4 };
  const refusals: [string, FlowModInit, number, number][] = [
    [
      'prerequisite missing',
      { match: of13.OFPMatch({ ipv4_src: '10.0.0.1' }) },
      ofp.OFPET_BAD_MATCH,
      ofp.OFPBMC_BAD_PREREQ,
    ],
    [
      'port without protocol',
      { match: of13.OFPMatch({ ...ipv4, tcp_dst: 1 }) },
      ofp.OFPET_BAD_MATCH,
      ofp.OFPBMC_BAD_PREREQ,
    ],
    ['unknown field', { match: of13.OFPMatch({ mpls_label: 3 }) }, ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_FIELD],
    ['goto backwards', { table_id: 1, instructions: [goto(1)] }, ofp.OFPET_BAD_INSTRUCTION, ofp.OFPBIC_BAD_TABLE_ID],
    ['goto beyond', { instructions: [goto(4)] }, ofp.OFPET_BAD_INSTRUCTION, ofp.OFPBIC_BAD_TABLE_ID],
    ['no such table', { table_id: 4 }, ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_BAD_TABLE_ID],
    ['add to all tables', { table_id: ofp.OFPTT_ALL }, ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_BAD_TABLE_ID],
    ['port 0', { instructions: [apply(out(0))] }, ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_OUT_PORT],
    ['port ANY', { instructions: [apply(out(ofp.OFPP_ANY))] }, ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_OUT_PORT],
    [
      'group',
      { instructions: [apply(of13.OFPActionGroup({ group_id: 1 }))] },
      ofp.OFPET_BAD_ACTION,
      ofp.OFPBAC_BAD_OUT_GROUP,
    ],
    [
      'DSCP of any packet',
      { instructions: [apply(of13.OFPActionSetField({ field: 'ip_dscp', value: 10 }))] },
      ofp.OFPET_BAD_ACTION,
      ofp.OFPBAC_MATCH_INCONSISTENT,
    ],
    [
      'pop of no tag',
      { instructions: [apply(of13.OFPActionPopVlan({}))] },
      ofp.OFPET_BAD_ACTION,
      ofp.OFPBAC_MATCH_INCONSISTENT,
    ],
    [
      'meter that is not there',
      { instructions: [of13.OFPInstructionMeter({ meter_id: 9 })] },
      ofp.OFPET_METER_MOD_FAILED,
      ofp.OFPMMFC_INVALID_METER,
    ],
    ['unknown command', { command: 9 }, ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_BAD_COMMAND],
  ];
  test.each(refusals)('refused: %s', (_name, mod, type, code) => {
    const t = tables();
    expect(t.apply(flow(mod))).toEqual([{ type, code }]);
    expect(t.flows()).toEqual([]);
  });

  test('refused: overlap when asked to check, and a full table', () => {
    const t = new FlowTables({ tables: 1, maxFlows: 1 });
    t.apply(flow({ match: of13.OFPMatch({ in_port: 1 }) }));
    const flags = ofp.OFPFF_CHECK_OVERLAP;
    expect(t.apply(flow({ flags, match: of13.OFPMatch({ eth_dst: B }) }))).toEqual([
      { type: ofp.OFPET_FLOW_MOD_FAILED, code: ofp.OFPFMFC_OVERLAP },
    ]);
    expect(t.apply(flow({ match: of13.OFPMatch({ in_port: 2 }) }))).toEqual([
      { type: ofp.OFPET_FLOW_MOD_FAILED, code: ofp.OFPFMFC_TABLE_FULL },
    ]);
  });
});

describe('meters', () => {
  const meter = (o: NonNullable<Parameters<typeof of13.OFPMeterMod>[0]> = {}) =>
    of13.OFPMeterMod({
      flags: ofp.OFPMF_KBPS | ofp.OFPMF_BURST,
      meter_id: 5,
      bands: [of13.OFPMeterBandDrop({ rate: 100_000, burst_size: 1000 })],
      ...o,
    });
  const failed = (code: number) => [{ type: ofp.OFPET_METER_MOD_FAILED, code }];

  test('a packet says which meters it went through; a deleted meter takes its flows along', () => {
    const t = tables();
    expect(t.apply(meter())).toEqual([]);
    t.apply(flow({ instructions: [of13.OFPInstructionMeter({ meter_id: 5 }), apply(out(2))] }));
    expect(t.process(tcp(), 1)).toMatchObject({ meters: [5], outputs: [{ port: 2 }] });
    expect(t.apply(meter({ command: ofp.OFPMC_DELETE, bands: [] }))).toEqual([]);
    expect([t.flows(), t.meters()]).toEqual([[], []]);
  });

  test('errors as the specification has them', () => {
    const t = tables();
    expect(t.apply(meter({ command: ofp.OFPMC_MODIFY }))).toEqual(failed(ofp.OFPMMFC_UNKNOWN_METER));
    t.apply(meter());
    expect(t.apply(meter())).toEqual(failed(ofp.OFPMMFC_METER_EXISTS));
    expect(t.apply(meter({ meter_id: 0 }))).toEqual(failed(ofp.OFPMMFC_INVALID_METER));
    expect(t.apply(meter({ meter_id: 6, flags: ofp.OFPMF_PKTPS }))).toEqual(failed(ofp.OFPMMFC_BAD_FLAGS));
    const remark = of13.OFPMeterBandDscpRemark({ rate: 1 });
    expect(t.apply(meter({ meter_id: 6, bands: [remark] }))).toEqual(failed(ofp.OFPMMFC_BAD_BAND));
  });

  test('a modified meter starts again with zeroed counters', () => {
    const t = tables();
    t.apply(meter());
    (t.meter(5) as { bytesIn: number }).bytesIn = 1000;
    t.apply(meter({ command: ofp.OFPMC_MODIFY, bands: [of13.OFPMeterBandDrop({ rate: 7 })] }), 50);
    expect(t.meter(5)).toMatchObject({ bytesIn: 0, sinceMs: 50, bands: [{ rateKbps: 7 }] });
  });
});

describe('groups', () => {
  const bucket = (port: number, weight = 1) =>
    of13.OFPBucket({ weight, watch_port: port, actions: [of13.OFPActionOutput({ port })] });
  const group = (type: number, ports: number[], more = {}) =>
    of13.OFPGroupMod({ command: ofp.OFPGC_ADD, type, group_id: 1, buckets: ports.map((p) => bucket(p)), ...more });
  const use = of13.OFPFlowMod({
    instructions: [
      of13.OFPInstructionActions({
        type: ofp.OFPIT_APPLY_ACTIONS,
        actions: [of13.OFPActionGroup({ group_id: 1 })],
      }),
    ],
  });
  const refused = (code: number) => [{ type: ofp.OFPET_GROUP_MOD_FAILED, code }];
  const frame = (n: number) => ({
    eth_src: '02:00:00:00:00:01',
    eth_dst: '02:00:00:00:00:02',
    eth_type: 0x0800,
    tcp_src: n,
  });

  test('are added once, changed when they are there, deleted with the flows that use them', () => {
    const t = new FlowTables({ ports: () => [1, 2, 3], maxGroups: 1 });
    expect(t.apply(use)).toEqual([{ type: ofp.OFPET_BAD_ACTION, code: ofp.OFPBAC_BAD_OUT_GROUP }]);
    expect(t.apply(group(ofp.OFPGT_FF, [1], { command: ofp.OFPGC_MODIFY }))).toEqual(
      refused(ofp.OFPGMFC_UNKNOWN_GROUP),
    );
    expect(t.apply(group(ofp.OFPGT_FF, [1, 2]))).toEqual([]);
    expect(t.apply(group(ofp.OFPGT_FF, [1]))).toEqual(refused(ofp.OFPGMFC_GROUP_EXISTS));
    expect(t.apply(group(ofp.OFPGT_FF, [1], { group_id: 2 }))).toEqual(refused(ofp.OFPGMFC_OUT_OF_GROUPS));
    expect(t.apply(use)).toEqual([]);
    expect(t.flows()).toHaveLength(1);
    expect(t.apply(of13.OFPGroupMod({ command: ofp.OFPGC_DELETE, group_id: ofp.OFPG_ALL }))).toEqual([]);
    expect([t.flows(), t.groups()]).toEqual([[], []]);
    expect(t.apply(of13.OFPGroupMod({ command: ofp.OFPGC_DELETE, group_id: 9 }))).toEqual([]);
  });

  test('failover uses the first port that is up, select spreads over those that are', () => {
    let up = [1, 2, 3];
    const t = new FlowTables({ ports: () => up });
    t.apply(group(ofp.OFPGT_FF, [1, 2]));
    t.apply(use);
    const ports = (n = 0) => t.process(frame(n), 9).outputs.map((o) => o.port);
    expect(ports()).toEqual([1]);
    up = [2, 3];
    expect(ports()).toEqual([2]);
    up = [3];
    expect(ports()).toEqual([]);
    up = [1, 2, 3];
    t.apply(group(ofp.OFPGT_SELECT, [1, 2], { command: ofp.OFPGC_MODIFY }));
    const used = new Set(Array.from({ length: 50 }, (_, n) => ports(n)[0]));
    expect([...used].sort()).toEqual([1, 2]);
    expect(ports(7)).toEqual(ports(7));
    up = [2];
    expect(new Set(Array.from({ length: 50 }, (_, n) => ports(n)[0]))).toEqual(new Set([2]));
    t.apply(group(ofp.OFPGT_ALL, [1, 2, 3], { command: ofp.OFPGC_MODIFY }));
    expect(ports()).toEqual([1, 2, 3]);
  });
});
