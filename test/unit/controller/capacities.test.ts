/** What a port can carry and what says so: configuration, database, description, default; and what follows from it. */
import fc from 'fast-check';
import type { Event, OvsPort } from '../../../controller/core/events.ts';
import { snapshot } from '../../../controller/core/views.ts';
import { CORE, Fabric, HV1, HV2, twoHypervisors, UPLINK } from './fabric.ts';

const MBIT = 1e6;
const LINK = `${HV1}:${UPLINK}`;
const BACK = `${CORE}:1`;

/** A network in which the configuration names only the ports given, by name. */
function network(configured: Record<string, number> = {}): Fabric {
  const f = twoHypervisors();
  const settings = { ...f.state.settings, capacityOf: (_: string, name: string) => configured[name] };
  f.state = { ...f.state, settings };
  return f;
}
const ports = (of: Record<string, OvsPort>): ReadonlyMap<string, OvsPort> => new Map(Object.entries(of));
const tell = (f: Fabric, dpid: string, of: Record<string, OvsPort>) =>
  f.send({ kind: 'ovsPorts', dpid, ports: ports(of) });
const describe1 = (f: Fabric, dpid: string, portNo: number, name: string, speedBps: number) =>
  f.send({
    kind: 'portChanged',
    dpid,
    change: 'modified',
    port: { portNo, name, hwAddr: '0e:00:00:00:00:01', isUp: true, speedBps },
  });
const view = (f: Fabric) => snapshot(f.state, 'topology', f.nowMs);
const portOf = (f: Fabric, dpid: string, portNo: number) =>
  view(f)
    .switches.find((s) => s.dpid === dpid)
    ?.ports.find((p) => p.portNo === portNo);
const linkOf = (f: Fabric, id: string) => view(f).links.find((l) => l.id === id);
const logged = (f: Fabric, event: string) =>
  f.effects.flatMap((e) => (e.kind === 'log' && e.event === event ? [e.fields] : []));

test('the first that says something counts: configuration, external ids, link speed, description, default', () => {
  const f = network({ tap2: 300 * MBIT });
  const all = { capacityBps: 400 * MBIT, speedBps: 500 * MBIT };
  for (const [portNo, name] of [
    [2, 'tap1'],
    [3, 'tap2'],
    [UPLINK, 'up'],
  ] as const)
    describe1(f, HV1, portNo, name, 600 * MBIT);
  expect(portOf(f, HV1, UPLINK)).toMatchObject({ capacityBps: 600 * MBIT, capacityFrom: 'port-description' });
  tell(f, HV1, { tap1: all, tap2: all, up: { speedBps: 500 * MBIT } });
  expect(portOf(f, HV1, 3)).toMatchObject({ capacityBps: 300 * MBIT, capacityFrom: 'configuration' });
  expect(portOf(f, HV1, 2)).toMatchObject({ capacityBps: 400 * MBIT, capacityFrom: 'external-ids' });
  expect(portOf(f, HV1, UPLINK)).toMatchObject({ capacityBps: 500 * MBIT, capacityFrom: 'link-speed' });
  // What is not said any more does not count any more.
  tell(f, HV1, {});
  expect(portOf(f, HV1, 2)).toMatchObject({ capacityBps: 600 * MBIT, capacityFrom: 'port-description' });
  describe1(f, HV1, 2, 'tap1', 0);
  expect(portOf(f, HV1, 2)).toMatchObject({ capacityBps: 1e9, capacityFrom: 'default' });
});

test('limits of others count for their direction, unless the operator has said what the port can carry', () => {
  const f = network();
  const speedBps = 1000 * MBIT;
  tell(f, HV1, { up: { speedBps, maxOutBps: 300 * MBIT, maxInBps: 100 * MBIT } });
  tell(f, CORE, { 'to-hv1': { speedBps } });
  expect(linkOf(f, LINK)).toMatchObject({ capacityBps: 300 * MBIT, capacityFrom: 'qos', capacityAt: LINK });
  expect(linkOf(f, BACK)).toMatchObject({ capacityBps: 100 * MBIT, capacityFrom: 'policing', capacityAt: LINK });
  tell(f, CORE, { 'to-hv1': { speedBps, maxInBps: 200 * MBIT } });
  expect(linkOf(f, LINK)).toMatchObject({ capacityBps: 200 * MBIT, capacityFrom: 'policing', capacityAt: BACK });
  // A limit above the speed of the link is none.
  tell(f, HV1, { up: { speedBps: 50 * MBIT, maxOutBps: 300 * MBIT } });
  expect(linkOf(f, LINK)).toMatchObject({ capacityBps: 50 * MBIT, capacityFrom: 'link-speed' });
  expect(portOf(f, HV1, UPLINK)).not.toHaveProperty('maxOutBps');
  tell(f, HV1, { up: { capacityBps: 800 * MBIT, speedBps, maxOutBps: 1, maxInBps: 1 } });
  expect(linkOf(f, BACK)).toMatchObject({ capacityBps: 800 * MBIT, capacityFrom: 'external-ids', capacityAt: LINK });
});

test('a change is logged with what was, once; one that says the same is none', () => {
  const f = network();
  tell(f, HV1, { up: { speedBps: 500 * MBIT } });
  const before = logged(f, 'port.capacity').length;
  tell(f, HV1, { up: { capacityBps: 200 * MBIT, speedBps: 500 * MBIT } });
  tell(f, HV1, { up: { capacityBps: 200 * MBIT, speedBps: 700 * MBIT } });
  expect(logged(f, 'port.capacity').slice(before)).toEqual([
    {
      ...{ port: LINK, name: 'up', capacityBps: 200 * MBIT, capacityFrom: 'external-ids' },
      ...{ wasBps: 500 * MBIT, wasFrom: 'link-speed' },
    },
  ]);
});

test('what a database says before its switch connects counts from its first moment', () => {
  const f = new Fabric();
  f.state = { ...f.state, settings: { ...f.state.settings, capacityOf: () => undefined } };
  f.addSwitch(HV2, { 1: 'up' });
  tell(f, HV2, { up: { speedBps: 40e9 } });
  f.connect(HV2);
  expect(portOf(f, HV2, 1)).toMatchObject({ capacityBps: 40e9, capacityFrom: 'link-speed' });
  expect(logged(f, 'switch.up')).toMatchObject([{ capacitiesFrom: { 'link-speed': 1 } }]);
});

test('a slice is worked out from the capacity that the database says', () => {
  const f = network();
  f.answer = (_host, c) => {
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49152, portName: 'tap1' } };
    return { value: c.do === 'measureDirtyRate' ? { dirtyBytesPerS: 0 } : {} };
  };
  for (let i = 0; i < 2; i++) f.pass(1000);
  const request = { moves: [{ guest: 'g1', destination: 'hv2' }], priority: 'high' as const };
  f.send({ kind: 'migrate', request, ids: ['m1'], group: null });
  const sliceAt = (bps: number): number => {
    for (const dpid of [HV1, CORE, HV2])
      tell(f, dpid, Object.fromEntries(['up', 'to-hv1', 'to-hv2'].map((n) => [n, { capacityBps: bps }])));
    for (let i = 0; i < 8; i++) f.pass(1000);
    return Math.max(...[...f.state.shares.values()].flatMap((s) => [...s.byMigration.values()]));
  };
  // High priority: capacity − floor, and the floor is half of the capacity.
  expect(sliceAt(400 * MBIT)).toBe(200 * MBIT);
  expect(sliceAt(100 * MBIT)).toBe(50 * MBIT);
});

test('any sequence of words: the capacity is that of the first source that speaks, and its reason names a source that said it', () => {
  const bps = fc.option(fc.constantFrom(1, 2, 3, 4, 5), { nil: undefined });
  const said = fc.record({ capacityBps: bps, speedBps: bps, maxOutBps: bps, maxInBps: bps });
  const word = fc.oneof(
    fc.record({ kind: fc.constant('ovs' as const), at: fc.constantFrom(HV1, CORE), said }),
    fc.record({ kind: fc.constant('speed' as const), at: fc.constantFrom(HV1, CORE), speed: fc.nat(5) }),
  );
  fc.assert(
    fc.property(
      fc.option(fc.constantFrom(1, 2, 3), { nil: undefined }),
      fc.array(word, { maxLength: 8 }),
      (conf, words) => {
        const f = network(conf === undefined ? {} : { up: conf, 'to-hv1': conf });
        const place = { [HV1]: { portNo: UPLINK, name: 'up' }, [CORE]: { portNo: 1, name: 'to-hv1' } } as const;
        const known = { [HV1]: { ovs: {} as OvsPort, speed: 0 }, [CORE]: { ovs: {} as OvsPort, speed: 0 } };
        // The configuration changed under the network's feet: both are told of anew.
        for (const dpid of [HV1, CORE] as const) describe1(f, dpid, place[dpid].portNo, place[dpid].name, 0);
        for (const w of words) {
          const { portNo, name } = place[w.at as typeof HV1];
          const k = known[w.at as typeof HV1];
          if (w.kind === 'ovs') {
            k.ovs = Object.fromEntries(Object.entries(w.said).filter(([, v]) => v !== undefined));
            f.send({ kind: 'ovsPorts', dpid: w.at, ports: ports({ [name]: k.ovs }) } satisfies Event);
          } else {
            k.speed = w.speed;
            describe1(f, w.at, portNo, name, w.speed);
          }
        }
        const wanted = (k: { ovs: OvsPort; speed: number }, limit: 'maxOutBps' | 'maxInBps') => {
          const told = conf ?? k.ovs.capacityBps;
          if (told !== undefined) return told;
          return Math.min(k.ovs.speedBps ?? (k.speed > 0 ? k.speed : 1e9), k.ovs[limit] ?? Number.POSITIVE_INFINITY);
        };
        const there = Math.min(wanted(known[HV1], 'maxOutBps'), wanted(known[CORE], 'maxInBps'));
        const back = Math.min(wanted(known[CORE], 'maxOutBps'), wanted(known[HV1], 'maxInBps'));
        expect(linkOf(f, LINK)).toMatchObject({ capacityBps: there, capacityFrom: expect.any(String) });
        expect(linkOf(f, BACK)).toMatchObject({ capacityBps: back, capacityFrom: expect.any(String) });
      },
    ),
    { numRuns: 60 },
  );
});
