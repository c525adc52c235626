/** Paths, next hops and flood trees on networks small enough to check by eye. */
import { findPath, floodPorts, LOCAL_PORT, nextHops } from '../../../topology/index.ts';
import { network, port } from './build.ts';

const at = (dpid: string, portNo: number) => ({ dpid, portNo });

test('a path names switches, egress ports and links, the last port among them', () => {
  const t = network({ a: [1, 9], b: [1, 2], c: [1, 9] }, 'a1-b1 b2-c1');
  expect(findPath(t, 'a', at('c', 9))).toEqual({
    dpids: ['a', 'b', 'c'],
    hops: [
      { dpid: 'a', outPort: 1 },
      { dpid: 'b', outPort: 2 },
      { dpid: 'c', outPort: 9 },
    ],
    links: ['a:1', 'b:2', 'c:9'],
  });
});

test('the last port is a link unless it is LOCAL or a guest is there; an option decides otherwise', () => {
  const t = network({ a: [1, 9], b: [1, 9] }, 'a1-b1').withPort('b', port(LOCAL_PORT));
  const withGuest = t.withLocation({ mac: 'm', ip: null, name: 'vm', kind: 'guest', at: at('b', 9) });
  expect(findPath(t, 'a', at('b', 9))?.links).toEqual(['a:1', 'b:9']);
  expect(findPath(t, 'a', at('b', 9), { includeLast: false })?.links).toEqual(['a:1']);
  expect(findPath(withGuest, 'a', at('b', 9))?.links).toEqual(['a:1']);
  expect(findPath(withGuest, 'a', at('b', 9), { includeLast: true })?.links).toEqual(['a:1', 'b:9']);
  expect(findPath(t, 'a', at('b', LOCAL_PORT), { includeLast: true })?.links).toEqual(['a:1']);
  expect(findPath(t, 'a', at('b', LOCAL_PORT))?.hops.at(-1)).toEqual({ dpid: 'b', outPort: LOCAL_PORT });
});

test('within one switch the path is its port', () => {
  const t = network({ a: [1, 9] });
  expect(findPath(t, 'a', at('a', 9))).toEqual({ dpids: ['a'], hops: [{ dpid: 'a', outPort: 9 }], links: ['a:9'] });
});

test('there is no path to an island, an unknown switch, an unknown port', () => {
  const t = network({ a: [1], b: [1] });
  expect(findPath(t, 'a', at('b', 1))).toBeUndefined();
  expect(findPath(t, 'a', at('z', 1))).toBeUndefined();
  expect(findPath(t, 'z', at('a', 1))).toBeUndefined();
  expect(findPath(t, 'a', at('a', 7))).toBeUndefined();
});

test('a cable known in one direction carries paths in that direction only', () => {
  const t = network({ a: [1, 9], b: [1, 9] }).withLink({ from: at('a', 1), to: at('b', 1) });
  expect(findPath(t, 'a', at('b', 9))?.dpids).toEqual(['a', 'b']);
  expect(findPath(t, 'b', at('a', 9))).toBeUndefined();
});

describe('of equally short paths', () => {
  const ports = { a: [1, 2, 9], b: [1, 2], c: [1, 2], d: [1, 2, 9] };
  test('the widest is taken', () => {
    const t = network(ports, 'a1-b1@100 b2-d1@1000 a2-c1@400 c2-d2@400');
    expect(findPath(t, 'a', at('d', 9))?.dpids).toEqual(['a', 'c', 'd']);
  });
  test('the one with most left, when what is left is given', () => {
    const t = network(ports, 'a1-b1@100 b2-d1@1000 a2-c1@400 c2-d2@400');
    const residualBps = (id: string) => (id === 'a:2' ? 50e6 : t.capacityBps(id));
    expect(findPath(t, 'a', at('d', 9), { residualBps })?.dpids).toEqual(['a', 'b', 'd']);
  });
  test('else the one through the smallest ids, whatever was learned first', () => {
    for (const cables of ['a1-b1 b2-d1 a2-c1 c2-d2', 'a2-c1 c2-d2 b2-d1 a1-b1']) {
      expect(findPath(network(ports, cables), 'a', at('d', 9))?.dpids).toEqual(['a', 'b', 'd']);
    }
  });
  test('length goes before width', () => {
    const t = network({ a: [1, 2], b: [1, 2, 9], c: [1, 2] }, 'a1-b1@10 a2-c1@1000 c2-b2@1000');
    expect(findPath(t, 'a', at('b', 9))?.dpids).toEqual(['a', 'b']);
  });
});

test('of two parallel cables the wider, then the smaller port', () => {
  expect(nextHops(network({ a: [1, 2], b: [1, 2] }, 'a1-b1@100 a2-b2@200'), 'b').get('a')).toBe(2);
  expect(nextHops(network({ a: [1, 2], b: [1, 2] }, 'a1-b1 a2-b2'), 'b').get('a')).toBe(1);
});

test('next hops exist for every switch that can reach the target, not for itself or islands', () => {
  const t = network({ a: [1], b: [1, 2], c: [1], d: [1] }, 'a1-b1 b2-c1');
  expect(nextHops(t, 'c')).toEqual(
    new Map([
      ['b', 2],
      ['a', 1],
    ]),
  );
  expect(nextHops(t, 'z').size).toBe(0);
});

test('a ring floods over all but one cable, and to every edge port that is up', () => {
  const t = network({ a: [1, 2, 9], b: [1, 2, 9], c: [1, 2, 9] }, 'a1-b1 b2-c1 c2-a2')
    .withPort('a', port(LOCAL_PORT))
    .withPort('b', port(8, { isUp: false }))
    .withPort('c', port(0xfffffffd));
  expect(floodPorts(t)).toEqual(
    new Map([
      ['a', [1, 2, 9, LOCAL_PORT]],
      ['b', [1, 9]],
      ['c', [2, 9]],
    ]),
  );
});

test('a cable from a switch to itself and a second parallel cable are not flooded', () => {
  const t = network({ a: [1, 2, 3, 4, 9], b: [1, 2, 9] }, 'a1-b1 a2-b2 a3-a4');
  expect(floodPorts(t)).toEqual(
    new Map([
      ['a', [1, 9]],
      ['b', [1, 9]],
    ]),
  );
});
