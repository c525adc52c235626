/**
 * `controller/core` on random networks whose links are cut and mended in any order while guests migrate: no packet loops or
 * comes out twice, streams go along what is reserved for them, slices and floors fit every link, nothing is left at the end.
 */
import fc from 'fast-check';
import { isFinal, PRIORITIES } from '../../contracts/common.ts';
import { FEATURE, parseCookie } from '../../controller/core/cookies.ts';
import { Fabric, guest, LOCAL, STREAM } from '../unit/controller/fabric.ts';

const dpid = (n: number): string => (n + 1).toString(16).padStart(16, '0');
/** Guests' port of a hypervisor; cables have numbers below. */
const TAP = 50;
const CLIENT = '52:54:00:00:00:c1';
const GUESTS = ['g1', 'g2'];
const macOf = (i: number) => `52:54:00:00:00:3${i}`;

interface Net {
  cores: number;
  /** Pairs of switches; 0 and 1 are the hypervisors. */
  cables: [number, number][];
}

const net: fc.Arbitrary<Net> = fc.integer({ min: 2, max: 5 }).chain((cores) =>
  fc.record({
    cores: fc.constant(cores),
    cables: fc
      .array(fc.tuple(fc.nat(cores + 1), fc.nat(cores + 1)), { minLength: 3, maxLength: 14 })
      // Two ways from one hypervisor to the other are always there at first.
      .map((extra): [number, number][] => [[0, 2], [2, 1], [0, 3], [3, 1], ...extra.filter(([a, b]) => a !== b)]),
  }),
);

const action = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('cable' as const), nth: fc.nat(17), up: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('migrate' as const),
      nth: fc.nat(1),
      priority: fc.constantFrom(...PRIORITIES),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('event' as const),
      nth: fc.nat(3),
      event: fc.constantFrom('preSwitchover' as const, 'resumed' as const, 'completed' as const),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('pass' as const), mbps: fc.nat(200) }) },
);
type Action = typeof action extends fc.Arbitrary<infer A> ? A : never;

function build(n: Net, queues: boolean, groups: boolean): Fabric {
  const f = new Fabric({ queues, groups });
  const ports = new Map<number, Record<number, string>>();
  for (let i = 0; i < n.cores + 2; i++) ports.set(i, i < 2 ? { [TAP]: 'tap1', 51: 'tap2', [LOCAL]: 'br0' } : {});
  (ports.get(2) as Record<number, string>)[TAP] = 'client';
  const ends = n.cables.map(([a, b], i) => {
    (ports.get(a) as Record<number, string>)[i + 1] = `c${i}`;
    (ports.get(b) as Record<number, string>)[i + 1] = `c${i}`;
    return [dpid(a), dpid(b), i + 1] as const;
  });
  for (const [i, p] of ports) f.addSwitch(dpid(i), p);
  for (const [a, b, port] of ends) f.cable(a, port, b, port);
  for (const i of ports.keys()) f.connect(dpid(i));
  f.answer = (_host, c) => {
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 1e6 } };
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49152, portName: 'tap1' } };
    return { value: {} };
  };
  f.pass(2500);
  const guests = GUESTS.map((name, i) => guest(name, macOf(i), `tap${i + 1}`));
  f.agentUp('hv1', dpid(0), '10.0.0.1', guests);
  f.agentUp('hv2', dpid(1), '10.0.0.2', []);
  f.inject(dpid(2), TAP, { eth_src: CLIENT, eth_dst: 'ff:ff:ff:ff:ff:ff', eth_type: 0x9000 });
  f.pass(1000);
  f.pass(1000);
  return f;
}

function perform(f: Fabric, n: Net, a: Action): void {
  const nth = (i: number) => [...f.state.jobs.values()][i];
  if (a.do === 'cable') {
    const cable = n.cables[a.nth % n.cables.length] as [number, number];
    f.setCable(dpid(cable[0]), (a.nth % n.cables.length) + 1, a.up);
  } else if (a.do === 'pass') f.pass(700, { [`${dpid(0)}:1`]: { tx: a.mbps }, [`${dpid(2)}:2`]: { tx: 200 - a.mbps } });
  else if (a.do === 'migrate') {
    const name = GUESTS[a.nth] as string;
    const busy = [...f.state.jobs.values()].some((j) => j.guest === name && (!isFinal(j.state) || j.state === 'done'));
    const request = { moves: [{ guest: name, destination: 'hv2' }], priority: a.priority };
    if (!busy) f.send({ kind: 'migrate', request, ids: [`m-${f.state.jobs.size}`], group: null });
  } else {
    const j = nth(a.nth);
    if (!j) return;
    const host = a.event === 'resumed' ? 'hv2' : 'hv1';
    f.send({ kind: 'agentMessage', host, message: { type: 'event', migration: j.id, event: a.event } });
  }
}

/** Sends from every edge to every known address and to all; the fabric throws when a packet loops. */
function noneLoops(f: Fabric): void {
  const from = [
    [dpid(0), TAP, macOf(0)],
    [dpid(2), TAP, CLIENT],
  ] as const;
  for (const [at, port, mac] of from) {
    for (const to of [macOf(0), macOf(1), CLIENT, 'ff:ff:ff:ff:ff:ff', '52:54:00:00:00:99']) {
      if (to === mac) continue;
      const out = f.inject(at, port, { eth_src: mac, eth_dst: to, eth_type: 0x9000 }).map((o) => o.at);
      expect(new Set(out).size).toBe(out.length);
    }
  }
}

function holds(f: Fabric): void {
  const { topology } = f.state;
  for (const [link, s] of f.state.shares) {
    const sum = [...s.byMigration.values()].reduce((x, y) => x + y, 0);
    expect(sum).toBeLessThanOrEqual(topology.capacityBps(link) - s.floorBps + 1);
    for (const id of s.byMigration.keys()) expect(f.state.jobs.get(id)?.links).toContain(link);
  }
  for (const j of f.state.jobs.values()) {
    if (isFinal(j.state) || j.copyEnded) continue;
    // A running copy is on links that are there, or on none.
    if (j.state === 'copying') for (const l of j.links) expect(topology.links.has(l)).toBe(true);
    if (j.state !== 'copying' || !j.stream || j.dpids.length === 0) continue;
    expect(f.inject(dpid(0), LOCAL, STREAM).map((o) => o.at)).toEqual([`${dpid(1)}:${LOCAL}`]);
  }
}

test('links lost and found in any order: no loops, slices fit, streams arrive, nothing is left', () => {
  fc.assert(
    fc.property(
      net,
      fc.array(action, { maxLength: 25, size: 'max' }),
      fc.boolean(),
      fc.boolean(),
      (n, actions, queues, groups) => {
        const f = build(n, queues, groups);
        perform(f, n, { do: 'migrate', nth: 0, priority: 'medium' });
        f.pass(250);
        for (const a of actions) {
          perform(f, n, a);
          holds(f);
        }
        noneLoops(f);
        for (let i = 0; i < n.cables.length; i++) f.setCable(dpid((n.cables[i] as [number, number])[0]), i + 1, true);
        for (let i = 0; i < 8; i++) f.pass(1000);
        holds(f);
        noneLoops(f);
        // With every link back, everyone is reached.
        const out = f.inject(dpid(2), TAP, { eth_src: CLIENT, eth_dst: macOf(1), eth_type: 0x9000 });
        expect(out).toHaveLength(1);
        for (const j of f.state.jobs.values()) {
          f.send({ kind: 'cancel', id: j.id });
          const event = j.resumed || j.flipped ? 'completed' : 'failed';
          f.send({ kind: 'agentMessage', host: 'hv1', message: { type: 'event', migration: j.id, event } });
        }
        for (let i = 0; i < 4; i++) f.pass(15_000);
        expect([...f.state.jobs.values()].filter((j) => !isFinal(j.state))).toEqual([]);
        expect(f.state.shares.size).toBe(0);
        expect([...f.qos.values()].filter((q) => q !== null)).toEqual([]);
        const left = [...f.switches.values()]
          .flatMap((s) => s.tables.flows())
          .map((x) => parseCookie(x.cookie)?.feature);
        expect(left.filter((x) => x === FEATURE.stream || x === FEATURE.answer || x === FEATURE.moved)).toEqual([]);
        expect([...f.switches.values()].flatMap((s) => s.tables.meters())).toEqual([]);
        for (const [dpid, s] of f.switches)
          expect(s.tables.groups().length).toBe(f.state.switches.get(dpid)?.installed.groups.size);
      },
    ),
    { numRuns: 25 },
  );
});
