/** Groups of managed forwarding: connections are spread, and a switch gets round a port that is down by itself. */
import { of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { difference, EMPTY_TABLES, type SwitchTables } from '../../../controller/core/difference.ts';
import {
  addFlow,
  flow,
  GROUP_BASE,
  type Group,
  groupFound,
  groupSignature,
  writeGroup,
} from '../../../controller/core/flows.ts';
import { CLIENT_MAC, CORE_1, CORE_2, Fabric, GUEST_MAC, HV1, HV2, twoCores, UPLINK, UPLINK_2 } from './fabric.ts';

const tcp = (port: number) => ({
  eth_src: GUEST_MAC,
  eth_dst: CLIENT_MAC,
  eth_type: 0x0800,
  ip_proto: 6,
  ipv4_src: '10.0.0.9',
  ipv4_dst: '10.0.0.100',
  tcp_src: port,
  tcp_dst: 80,
});

/** Two cores, and a client at the second hypervisor. */
function spread(groups = true): Fabric {
  const f = twoCores({ groups });
  f.inject(HV2, 3, { eth_src: CLIENT_MAC, eth_dst: 'ff:ff:ff:ff:ff:ff', eth_type: 0x9000 });
  return f;
}
const through = (f: Fabric, core: string) =>
  (f.switches.get(core)?.tables.flows() ?? []).filter((x) => x.match.fields.eth_dst === CLIENT_MAC)[0]?.packets ?? 0;

test('connections are spread over equally short ways, and each keeps its own', () => {
  const f = spread();
  for (let port = 1000; port < 1200; port++) {
    expect(f.inject(HV1, 2, tcp(port)).map((o) => o.at)).toEqual([`${HV2}:3`]);
  }
  const [a, b] = [through(f, CORE_1), through(f, CORE_2)];
  expect(a + b).toBe(200);
  expect(Math.min(a, b)).toBeGreaterThan(50);
  for (let i = 0; i < 20; i++) f.inject(HV1, 2, tcp(5));
  expect([through(f, CORE_1) - a, through(f, CORE_2) - b].sort((x, y) => x - y)).toEqual([0, 20]);
});

test('switches without groups get one way for each address', () => {
  const f = spread(false);
  for (let port = 1000; port < 1100; port++) f.inject(HV1, 2, tcp(port));
  expect([through(f, CORE_1), through(f, CORE_2)]).toEqual([100, 0]);
});

test('a port that went down is not used any more before the controller hears of it', () => {
  const f = spread();
  f.disconnect(HV1);
  const switchOf = f.switches.get(HV1);
  switchOf?.down.add(UPLINK);
  for (let port = 1000; port < 1100; port++) {
    expect(f.inject(HV1, 2, tcp(port)).map((o) => o.at)).toEqual([`${HV2}:3`]);
  }
  expect([through(f, CORE_1), through(f, CORE_2)]).toEqual([0, 100]);
});

test('a neighbour as near is the second choice of a switch with one shortest way', () => {
  // A triangle: HV1 – CORE_1 – HV2 and HV1 – HV2 straight; from CORE_1, HV1 is one hop and so is HV2.
  const f = new Fabric({ groups: true });
  f.addSwitch(HV1, { 1: 'a', 2: 'b', 3: 'client' });
  f.addSwitch(HV2, { 1: 'a', 2: 'b', 3: 'tap' });
  f.addSwitch(CORE_1, { 1: 'a', 2: 'b', 3: 'tap' });
  f.cable(HV1, 1, HV2, 1);
  f.cable(HV1, 2, CORE_1, 1);
  f.cable(HV2, 2, CORE_1, 2);
  for (const dpid of [HV1, HV2, CORE_1]) f.connect(dpid);
  f.pass(2500);
  f.inject(HV1, 3, { eth_src: CLIENT_MAC, eth_dst: 'ff:ff:ff:ff:ff:ff', eth_type: 0x9000 });
  f.disconnect(CORE_1);
  f.switches.get(CORE_1)?.down.add(1);
  expect(f.inject(CORE_1, 3, tcp(1)).map((o) => o.at)).toEqual([`${HV1}:3`]);
});

test('after a lost link flows use other groups, and those no flow uses are gone', () => {
  const f = spread();
  const groups = () => f.switches.get(HV1)?.tables.groups() ?? [];
  expect(groups()).toHaveLength(1);
  f.setCable(HV1, UPLINK_2, false);
  expect(groups()).toHaveLength(0);
  expect(f.inject(HV1, 2, tcp(1)).map((o) => o.at)).toEqual([`${HV2}:3`]);
  f.setCable(HV1, UPLINK_2, true);
  expect(groups()).toHaveLength(1);
  expect(f.state.topology.links.size).toBe(8);
});

test('a switch that comes back with its groups is sent nothing; one that lost them is sent them', () => {
  const f = spread();
  f.disconnect(HV1);
  let before = f.effects.length;
  f.connect(HV1);
  expect(f.effects.slice(before).filter((e) => e.kind === 'write')).toEqual([]);
  f.disconnect(HV1);
  const tables = f.switches.get(HV1)?.tables;
  for (const g of tables?.groups() ?? [])
    tables?.apply(of13.OFPGroupMod({ command: ofp.OFPGC_DELETE, group_id: g.groupId }));
  before = f.effects.length;
  f.connect(HV1);
  expect(tables?.groups()).toHaveLength(1);
  expect(f.inject(HV1, 2, tcp(1)).map((o) => o.at)).toEqual([`${HV2}:3`]);
});

test('a switch that refuses groups is served without them', () => {
  const f = spread();
  const writes = f.effects.length;
  f.send({ kind: 'switchDown', dpid: HV1 });
  const s = f.switches.get(HV1);
  for (const g of s?.tables.groups() ?? [])
    s?.tables.apply(of13.OFPGroupMod({ command: ofp.OFPGC_DELETE, group_id: g.groupId }));
  // Whatever it is told, it has no room for a group.
  const apply = s?.tables.apply.bind(s.tables);
  if (s && apply)
    s.tables.apply = (m, now) =>
      m.cls === 'OFPGroupMod' ? [{ type: ofp.OFPET_GROUP_MOD_FAILED, code: ofp.OFPGMFC_OUT_OF_GROUPS }] : apply(m, now);
  f.connect(HV1);
  expect(f.effects.slice(writes).some((e) => e.kind === 'log' && e.event === 'switch.withoutGroups')).toBe(true);
  expect(f.inject(HV1, 2, tcp(1)).map((o) => o.at)).toEqual([`${HV2}:3`]);
});

const group = (n: number, ports: number[]): Group => {
  const buckets = ports.map((port) => ({ port, weight: 1 }));
  return { groupId: GROUP_BASE + n, kind: 'select', buckets, signature: groupSignature('select', buckets) };
};
const using = (n: number) =>
  flow({
    table: 2,
    priority: 1,
    cookie: 1n,
    match: of13.OFPMatch({ eth_dst: CLIENT_MAC }),
    instructions: [
      of13.OFPInstructionActions({
        type: ofp.OFPIT_APPLY_ACTIONS,
        actions: [of13.OFPActionGroup({ group_id: GROUP_BASE + n })],
      }),
    ],
  });
const tables = (groups: Group[], flows = groups.map((g) => using(g.groupId - GROUP_BASE))): SwitchTables => ({
  flows: new Map(flows.map((f) => [f.key, f])),
  meters: new Map(),
  groups: new Map(groups.map((g) => [g.groupId, g])),
});

test('the order: groups, barrier, flows, barrier, groups no flow uses', () => {
  const kinds = (from: SwitchTables, to: SwitchTables) =>
    difference(from, to).map((m) => (m.cls === 'OFPGroupMod' ? `group ${m.command}` : m.cls));
  const [one, two] = [tables([group(1, [1, 2])]), tables([group(2, [1, 3])])];
  expect(kinds(EMPTY_TABLES, one)).toEqual(['group 0', 'OFPBarrierRequest', 'OFPFlowMod']);
  expect(kinds(one, two)).toEqual(['group 0', 'OFPBarrierRequest', 'OFPFlowMod', 'OFPBarrierRequest', 'group 2']);
  expect(kinds(one, tables([group(1, [1, 2, 3])]))).toEqual(['group 1']);
  expect(kinds(two, EMPTY_TABLES)).toEqual(['OFPFlowMod', 'OFPBarrierRequest', 'group 2']);
  expect(kinds(two, tables([group(2, [1, 3])]))).toEqual([]);
});

test('a group read back is known by what it does, and a strange one is none of ours', () => {
  const sent = writeGroup(group(7, [1, 2]), 'add');
  if (sent.cls !== 'OFPGroupMod') throw new Error('no group-mod');
  expect(groupFound(sent)).toEqual(group(7, [1, 2]));
  const strange = sent.buckets.map((b) => ({ ...b, actions: [] }));
  expect(groupFound({ ...sent, buckets: strange }).signature).toBe('not ours');
  expect(addFlow(using(7)).cls).toBe('OFPFlowMod');
});
