/** The immutable network graph: what each change does, and that a change of nothing is no change. */
import { isUsablePort, LOCAL_PORT, type Location, linkId, parseLinkId, Topology } from '../../../topology/index.ts';
import { network, node, port } from './build.ts';

const guest = (mac: string, dpid: string, portNo: number, change: Partial<Location> = {}): Location => ({
  mac,
  ip: null,
  name: null,
  kind: 'guest',
  at: { dpid, portNo },
  ...change,
});

test('a link id names its egress port and can be read back', () => {
  const ref = { dpid: '000000000000000a', portNo: 7 };
  expect(linkId(ref)).toBe('000000000000000a:7');
  expect(parseLinkId(linkId(ref))).toEqual(ref);
  expect(parseLinkId('nothing')).toBeUndefined();
  expect(parseLinkId('a:b')).toBeUndefined();
});

test('ports of cables and LOCAL can be sent out of, other reserved numbers cannot', () => {
  expect([1, 0xffffff00, LOCAL_PORT].map(isUsablePort)).toEqual([true, true, true]);
  expect([0, 0xffffff01, 0xfffffffd, 0xffffffff].map(isUsablePort)).toEqual([false, false, false, false]);
});

describe('a change of nothing returns the same topology', () => {
  const t = network({ a: [1, 2], b: [1, 2] }, 'a1-b1').withLocation(guest('m', 'a', 2));
  test.each<[string, (t: Topology) => Topology]>([
    ['withSwitch', (x) => x.withSwitch(node('a', [port(1), port(2)]))],
    ['withoutSwitch', (x) => x.withoutSwitch('z')],
    ['withPort', (x) => x.withPort('a', port(2))],
    ['withPort of an unknown switch', (x) => x.withPort('z', port(2))],
    ['withoutPort', (x) => x.withoutPort({ dpid: 'a', portNo: 9 })],
    ['withoutPort of an unknown switch', (x) => x.withoutPort({ dpid: 'z', portNo: 9 })],
    ['withLink', (x) => x.withLink({ from: { dpid: 'a', portNo: 1 }, to: { dpid: 'b', portNo: 1 } })],
    ['withoutLink', (x) => x.withoutLink('a:2')],
    ['withLocation', (x) => x.withLocation(guest('m', 'a', 2))],
    ['withoutLocation', (x) => x.withoutLocation('n')],
  ])('%s', (_, change) => expect(change(t)).toBe(t));
});

test('a change shares what it leaves alone and does not touch the old snapshot', () => {
  const before = network({ a: [1, 2], b: [1, 2] }, 'a1-b1');
  const after = before.withLocation(guest('m', 'a', 2));
  expect(after).not.toBe(before);
  expect(after.switches).toBe(before.switches);
  expect(after.links).toBe(before.links);
  expect(before.locations.size).toBe(0);
  expect(after.locations.get('m')?.at).toEqual({ dpid: 'a', portNo: 2 });
});

test('a switch takes its links, both ways, and its locations with it', () => {
  const t = network({ a: [1, 2, 3], b: [1, 2], c: [1, 2] }, 'a1-b1 a2-c1 b2-c2')
    .withLocation(guest('m', 'a', 3))
    .withoutSwitch('a');
  expect([...t.switches.keys()]).toEqual(['b', 'c']);
  expect([...t.links.keys()].sort()).toEqual(['b:2', 'c:2']);
  expect(t.locations.size).toBe(0);
});

test.each<[string, (t: Topology) => Topology]>([
  ['down', (t) => t.withPort('a', port(1, { isUp: false }))],
  ['gone', (t) => t.withoutPort({ dpid: 'a', portNo: 1 })],
  ['gone after a reconnection', (t) => t.withSwitch(node('a', [port(2), port(3)]))],
])('a port that is %s loses its links, both ways', (_, change) => {
  const t = change(network({ a: [1, 2, 3], b: [1, 2] }, 'a1-b1 a2-b2'));
  expect([...t.links.keys()].sort()).toEqual(['a:2', 'b:2']);
});

test('a guest at a port that is gone is gone, at one that is only down it is not', () => {
  const t = network({ a: [1, 2] }).withLocation(guest('m', 'a', 2));
  expect(t.withPort('a', port(2, { isUp: false })).locations.size).toBe(1);
  expect(t.withoutPort({ dpid: 'a', portNo: 2 }).locations.size).toBe(0);
});

test('a link needs both of its ports, up', () => {
  const t = network({ a: [1], b: [1] }).withPort('b', port(2, { isUp: false }));
  const from = { dpid: 'a', portNo: 1 };
  for (const to of [
    { dpid: 'b', portNo: 2 },
    { dpid: 'b', portNo: 3 },
    { dpid: 'z', portNo: 1 },
  ]) {
    expect(t.withLink({ from, to })).toBe(t);
  }
});

test('what was located at either end of a new link was only passing through', () => {
  const t = network({ a: [1, 2], b: [1, 2] })
    .withLocation(guest('m', 'a', 1))
    .withLocation(guest('n', 'b', 1))
    .withLocation(guest('o', 'b', 2))
    .withLink({ from: { dpid: 'a', portNo: 1 }, to: { dpid: 'b', portNo: 1 } });
  expect([...t.locations.keys()]).toEqual(['o']);
  expect(t.isTrunk({ dpid: 'b', portNo: 1 })).toBe(true);
  expect(t.withLocation(guest('n', 'b', 1))).toBe(t);
});

test('a link moved to another port replaces the old one', () => {
  const t = network({ a: [1], b: [1, 2] }, 'a1-b1').withLink({
    from: { dpid: 'a', portNo: 1 },
    to: { dpid: 'b', portNo: 2 },
  });
  expect(t.links.get('a:1')?.to.portNo).toBe(2);
});

test('a guest moves with the last report, and may be reported before its switch is known', () => {
  const t = network({ a: [1] })
    .withLocation(guest('m', 'a', 1))
    .withLocation(guest('m', 'later', 4));
  expect(t.locations.get('m')?.at).toEqual({ dpid: 'later', portNo: 4 });
  expect(t.locations.size).toBe(1);
});

test('capacity of a link is that of its slower end; of its known end; 0 when neither is known', () => {
  const t = network({ a: [1, 2, 3, 4], b: [1, 2, 3] })
    .withPort('a', port(1, { capacityBps: 10e9 }))
    .withPort('b', port(1, { capacityBps: 1e9 }))
    .withPort('a', port(2, { capacityBps: 0 }))
    .withPort('b', port(2, { capacityBps: 2e8 }))
    .withPort('a', port(3, { capacityBps: 0 }))
    .withPort('b', port(3, { capacityBps: 0 }))
    .withPort('a', port(4, { capacityBps: 1e8 }));
  const joined = [1, 2, 3].reduce(
    (x, portNo) => x.withLink({ from: { dpid: 'a', portNo }, to: { dpid: 'b', portNo } }),
    t,
  );
  expect(['a:1', 'a:2', 'a:3', 'a:4', 'a:9', 'junk'].map((id) => joined.capacityBps(id))).toEqual([
    1e9, 2e8, 0, 1e8, 0, 0,
  ]);
});

test('hosts are found by name and address; of several claimants always the same one', () => {
  const one = guest('02', 'a', 1, { name: 'web', ip: '10.0.0.1' });
  const two = guest('01', 'a', 2, { name: 'web', ip: '10.0.0.1' });
  const t = network({ a: [1, 2] });
  for (const x of [t.withLocation(one).withLocation(two), t.withLocation(two).withLocation(one)]) {
    expect(x.locationByName('web')).toEqual(two);
    expect(x.locationByIp('10.0.0.1')).toEqual(two);
    expect(x.locationByName('db')).toBeUndefined();
    expect(x.withoutLocation('01').locationByIp('10.0.0.1')).toEqual(one);
  }
});

test('the empty topology answers', () => {
  expect(Topology.empty.capacityBps('a:1')).toBe(0);
  expect(Topology.empty.isTrunk({ dpid: 'a', portNo: 1 })).toBe(false);
});
