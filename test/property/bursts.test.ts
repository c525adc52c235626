/**
 * Bursts: events worked on together (`stepAll`) leave the network as the same events one by one do, and the state from before
 * as it was; so do links added together (`Topology.withLinks`).
 */
import fc from 'fast-check';
import { DEFAULT_POLICY } from '../../contracts/policy.ts';
import type { Event } from '../../controller/core/events.ts';
import { buildLldp } from '../../controller/core/packets.ts';
import { type ControllerState, initialState } from '../../controller/core/state.ts';
import { step, stepAll } from '../../controller/core/step.ts';
import { makeSeal } from '../../controller/io/seal.ts';
import { compilePolicy } from '../../policies/index.ts';
import { Topology } from '../../topology/index.ts';

const SWITCHES = 4;
const PORTS = 3;
const dpid = (n: number) => n.toString(16).padStart(16, '0');
const mac = (n: number) => `02:00:00:00:00:0${n}`;
const port = (portNo: number, isUp = true) => ({
  portNo,
  name: `p${portNo}`,
  hwAddr: mac(portNo),
  isUp,
  speedBps: 1e9,
});
const NOW = 1_000_000;
const SEAL = makeSeal(Buffer.alloc(32, 7));

function started(): ControllerState {
  const settings = {
    version: 'test',
    forwarding: 'managed' as const,
    capacityOf: () => undefined,
    defaultCapacityBps: 1e9,
    nameOf: () => undefined,
    hasQueues: () => false,
    policyStore: 'memory' as const,
    seal: SEAL,
  };
  const status = { state: 'accepted' as const, revision: 1, reason: '', atMs: 0 };
  let state = initialState(settings, compilePolicy(DEFAULT_POLICY), status, NOW);
  for (let n = 1; n <= SWITCHES; n++) {
    const ports = Array.from({ length: PORTS }, (_, i) => port(i + 1));
    const up: Event = { kind: 'switchUp', dpid: dpid(n), ports, maxMeters: 0, meterIds: [], flows: [] };
    state = step(state, up, NOW).state;
  }
  return state;
}

const place = fc.record({ sw: fc.integer({ min: 1, max: SWITCHES }), portNo: fc.integer({ min: 1, max: PORTS }) });
/** A probe of ours that comes in; a serial that is no higher than the last of its port is a replay. */
const probe = (from: number, fromPort: number, at: number, inPort: number, serial = 1): Event => ({
  kind: 'packetIn',
  dpid: dpid(at),
  inPort,
  frame: buildLldp(
    { dpid: dpid(from), portNo: fromPort, sourceMac: mac(9), ttlSeconds: 10, serial, sentMs: NOW },
    SEAL,
  ),
});
const lldp = fc
  .record({ from: place, at: place, serial: fc.integer({ min: 1, max: 9 }) })
  .map(({ from, at, serial }) => probe(from.sw, from.portNo, at.sw, at.portNo, serial));
const arp = fc.record({ who: fc.integer({ min: 1, max: 3 }), at: place }).map(
  ({ who, at }): Event => ({
    kind: 'packetIn',
    dpid: dpid(at.sw),
    inPort: at.portNo,
    frame: Buffer.from(
      `ffffffffffff02000000000${who}08060001080006040001` +
        `02000000000${who}0a00000${who}0000000000000a0000ff${'00'.repeat(18)}`,
      'hex',
    ),
  }),
);
const counters = fc.record({ at: place, bytes: fc.nat(1e6) }).map(
  ({ at, bytes }): Event => ({
    kind: 'counters',
    dpid: dpid(at.sw),
    ports: [{ portNo: at.portNo, rxBytes: bytes, txBytes: bytes }],
    queues: [],
    flows: [],
  }),
);
const portChanged = fc.record({ at: place, isUp: fc.boolean() }).map(
  ({ at, isUp }): Event => ({
    kind: 'portChanged',
    dpid: dpid(at.sw),
    change: 'modified',
    port: port(at.portNo, isUp),
  }),
);
const ovsPorts = fc.record({ at: place, bps: fc.nat(3) }).map(
  ({ at, bps }): Event => ({
    kind: 'ovsPorts',
    dpid: dpid(at.sw),
    ports: new Map([[port(at.portNo, true).name, bps === 0 ? {} : { capacityBps: bps * 1e6 }]]),
  }),
);
const over = fc.record({ at: place, other: fc.integer({ min: 0, max: 300 }), windowMs: fc.constantFrom(250, 500) }).map(
  ({ at, other, windowMs }): Event => ({
    kind: 'packetInsOver',
    dpid: dpid(at.sw),
    windowMs,
    ports: [{ portNo: at.portNo, lldp: 300 - other, other }],
  }),
);
const events = fc.array(
  fc.oneof(
    { weight: 5, arbitrary: lldp },
    { weight: 3, arbitrary: arp },
    { weight: 2, arbitrary: counters },
    { weight: 1, arbitrary: portChanged },
    { weight: 1, arbitrary: ovsPorts },
    { weight: 1, arbitrary: over },
  ),
  { maxLength: 30 },
);

/** What there is to know of the network, without the order in which it was learned. */
const network = (s: ControllerState) => ({
  links: new Map(s.topology.links),
  locations: new Map(s.topology.locations),
  seen: new Map(s.linkSeen),
  refused: new Map(s.discovery.refused),
  ports: new Map(s.ports),
  switches: new Map(s.topology.switches),
  storms: new Map(s.storms),
  quenches: new Map(s.quenches),
});

test('a burst leaves the network as its events one by one do, and what was before untouched', () => {
  fc.assert(
    fc.property(events, (all) => {
      const before = started();
      const untouched = network(before);
      const together = stepAll(before, all, NOW).state;
      let apart = before;
      for (const e of all) apart = step(apart, e, NOW).state;
      expect(network(together)).toEqual(network(apart));
      expect(network(before)).toEqual(untouched);
      // what a step has handed out is not written to by the next
      const handedOut = network(together);
      stepAll(together, all, NOW + 1);
      expect(network(together)).toEqual(handedOut);
    }),
    { numRuns: 1000 },
  );
});

test('a link that goes with its port is said to be lost', () => {
  const found = stepAll(started(), [probe(1, 1, 2, 1), probe(2, 1, 1, 1)], NOW).state;
  const down: Event = { kind: 'portChanged', dpid: dpid(1), change: 'modified', port: port(1, false) };
  const { state, effects } = step(found, down, NOW);
  expect(found.topology.links.size).toBe(2);
  expect(state.topology.links.size).toBe(0);
  const lost = effects.flatMap((e) => (e.kind === 'log' && e.event === 'link.lost' ? [e.fields.link] : []));
  expect(lost.sort()).toEqual([`${dpid(1)}:1`, `${dpid(2)}:1`]);
});

test('links added together are the same as links added one by one', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ from: place, to: place }), { maxLength: 20 }),
      fc.array(place),
      (cables, hosts) => {
        let t = Topology.empty;
        for (let n = 1; n <= SWITCHES; n++) {
          const ports = Array.from({ length: PORTS }, (_, i) => ({ ...port(i + 1, i + n < 6), capacityBps: 0 }));
          t = t.withSwitch({ dpid: dpid(n), name: dpid(n), ports: new Map(ports.map((p) => [p.portNo, p])) });
        }
        const ref = (p: { sw: number; portNo: number }) => ({ dpid: dpid(p.sw), portNo: p.portNo });
        hosts.forEach((at, i) => {
          t = t.withLocation({ mac: `02:00:00:00:01:${i}`, ip: null, name: null, kind: 'unknown', at: ref(at) });
        });
        const links = cables.map((c) => ({ from: ref(c.from), to: ref(c.to) }));
        const together = t.withLinks(links);
        let apart = t;
        for (const l of links) apart = apart.withLink(l);
        expect(new Map(together.links)).toEqual(new Map(apart.links));
        expect(new Map(together.locations)).toEqual(new Map(apart.locations));
        expect(
          together.withLinks(links.filter((l) => together.links.get(`${l.from.dpid}:${l.from.portNo}`) === l)),
        ).toBe(together);
      },
    ),
  );
});
