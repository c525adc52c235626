/** Topology on random networks: flooding reaches everyone exactly once, next hops end, paths agree with both. */
import fc from 'fast-check';
import { findPath, floodPorts, linkId, nextHops, type PortRef, Topology } from '../../topology/index.ts';

/** Up to eight switches with six ports each; random cables between ports that are free; every port 6 is an edge. */
const networks = fc
  .record({
    size: fc.integer({ min: 1, max: 8 }),
    cables: fc.array(
      fc.record({
        a: fc.nat(7),
        aPort: fc.integer({ min: 1, max: 5 }),
        b: fc.nat(7),
        bPort: fc.integer({ min: 1, max: 5 }),
        capacity: fc.constantFrom(0, 1e8, 1e9),
      }),
      { maxLength: 16 },
    ),
  })
  .map(({ size, cables }) => {
    const name = (i: number) => String.fromCharCode(97 + (i % size));
    let t = Topology.empty;
    for (let i = 0; i < size; i++) {
      const ports = [1, 2, 3, 4, 5, 6].map((portNo) => ({
        portNo,
        name: `p${portNo}`,
        hwAddr: '02:00:00:00:00:01',
        isUp: true,
        capacityBps: 1e9,
      }));
      t = t.withSwitch({ dpid: name(i), name: name(i), ports: new Map(ports.map((p) => [p.portNo, p])) });
    }
    for (const c of cables) {
      const from = { dpid: name(c.a), portNo: c.aPort };
      const to = { dpid: name(c.b), portNo: c.bPort };
      if (linkId(from) === linkId(to) || t.isTrunk(from) || t.isTrunk(to)) continue;
      const p = t.port(from);
      if (p !== undefined) t = t.withPort(from.dpid, { ...p, capacityBps: c.capacity });
      t = t.withLink({ from, to }).withLink({ from: to, to: from });
    }
    return t;
  });

/** Switches by plain reachability, as an oracle that knows nothing of trees. */
function reachable(t: Topology, start: string): Set<string> {
  const seen = new Set([start]);
  for (let grew = true; grew; ) {
    grew = false;
    for (const l of t.links.values()) {
      if (seen.has(l.from.dpid) && !seen.has(l.to.dpid)) {
        seen.add(l.to.dpid);
        grew = true;
      }
    }
  }
  return seen;
}

test('a broadcast reaches every switch of its island exactly once and every edge port but its own', () => {
  fc.assert(
    fc.property(networks, (t) => {
      const flood = floodPorts(t);
      for (const source of t.switches.keys()) {
        const edges = new Set<string>();
        const visits = new Map<string, number>();
        const inFlight: { dpid: string; inPort: number }[] = [{ dpid: source, inPort: 6 }];
        for (let p = inFlight.shift(); p !== undefined; p = inFlight.shift()) {
          visits.set(p.dpid, (visits.get(p.dpid) ?? 0) + 1);
          expect(visits.get(p.dpid)).toBe(1);
          for (const out of flood.get(p.dpid) ?? []) {
            if (out === p.inPort) continue;
            const far = t.links.get(linkId({ dpid: p.dpid, portNo: out }))?.to;
            if (far === undefined) edges.add(linkId({ dpid: p.dpid, portNo: out }));
            else inFlight.push({ dpid: far.dpid, inPort: far.portNo });
          }
        }
        const island = reachable(t, source);
        expect(new Set(visits.keys())).toEqual(island);
        const expected = [...island].flatMap((dpid) =>
          [1, 2, 3, 4, 5, 6].map((portNo) => ({ dpid, portNo })).filter((r) => !t.isTrunk(r)),
        );
        expect(edges).toEqual(new Set(expected.map(linkId).filter((id) => id !== `${source}:6`)));
      }
    }),
  );
});

test('following next hops ends at the target, from every switch that can reach it', () => {
  fc.assert(
    fc.property(networks, (t) => {
      for (const target of t.switches.keys()) {
        const hops = nextHops(t, target);
        const island = reachable(t, target);
        expect(new Set([...hops.keys(), target])).toEqual(island);
        for (const start of hops.keys()) {
          let at = start;
          for (let steps = 0; at !== target; steps++) {
            expect(steps).toBeLessThan(t.switches.size);
            at = t.links.get(linkId({ dpid: at, portNo: hops.get(at) as number }))?.to.dpid as string;
          }
        }
      }
    }),
  );
});

test('a path is a chain of links, shortest, without a switch twice, and agrees with the next hops', () => {
  fc.assert(
    fc.property(networks, (t) => {
      for (const from of t.switches.keys()) {
        const island = reachable(t, from);
        for (const dpid of t.switches.keys()) {
          const to: PortRef = { dpid, portNo: 6 };
          const path = findPath(t, from, to);
          if (!island.has(dpid)) {
            expect(path).toBeUndefined();
            continue;
          }
          if (path === undefined) throw new Error(`no path from ${from} to ${dpid}`);
          expect(path.dpids[0]).toBe(from);
          expect(path.dpids.at(-1)).toBe(dpid);
          expect(new Set(path.dpids).size).toBe(path.dpids.length);
          expect(path.dpids.length - 1).toBe(distance(t, from, dpid));
          expect(path.links).toEqual(path.hops.map((h) => linkId({ dpid: h.dpid, portNo: h.outPort })));
          const hops = nextHops(t, dpid);
          path.hops.slice(0, -1).forEach((h, i) => {
            expect(t.links.get(path.links[i] as string)?.to.dpid).toBe(path.dpids[i + 1]);
            expect(hops.get(h.dpid)).toBe(h.outPort);
          });
        }
      }
    }),
  );
});

/** Hops between two switches by repeated relaxation: slow and obviously right. */
function distance(t: Topology, from: string, to: string): number {
  const d = new Map([[from, 0]]);
  for (let i = 0; i < t.switches.size; i++) {
    for (const l of t.links.values()) {
      const via = (d.get(l.from.dpid) ?? Number.POSITIVE_INFINITY) + 1;
      if (via < (d.get(l.to.dpid) ?? Number.POSITIVE_INFINITY)) d.set(l.to.dpid, via);
    }
  }
  return d.get(to) ?? Number.POSITIVE_INFINITY;
}

test('whatever happens to a network, links join known ports that are up and nobody sits on a link', () => {
  const ref = fc.record({ dpid: fc.constantFrom('a', 'b', 'c'), portNo: fc.integer({ min: 1, max: 3 }) });
  const step = fc.oneof(
    ref.map((r) => (t: Topology) => t.withoutPort(r)),
    fc.tuple(ref, fc.boolean()).map(
      ([r, isUp]) =>
        (t: Topology) =>
          t.withPort(r.dpid, portOf(r.portNo, isUp)),
    ),
    ref.map(
      (r) => (t: Topology) => t.withSwitch({ dpid: r.dpid, name: r.dpid, ports: new Map([[1, portOf(1, true)]]) }),
    ),
    ref.map((r) => (t: Topology) => t.withoutSwitch(r.dpid)),
    fc.tuple(ref, ref).map(
      ([from, to]) =>
        (t: Topology) =>
          t.withLink({ from, to }),
    ),
    ref.map((r) => (t: Topology) => t.withoutLink(linkId(r))),
    fc.tuple(fc.constantFrom('m', 'n'), ref).map(
      ([mac, at]) =>
        (t: Topology) =>
          t.withLocation({ mac, ip: null, name: null, kind: 'guest', at }),
    ),
  );
  const portOf = (portNo: number, isUp: boolean) => ({ portNo, name: 'p', hwAddr: 'h', isUp, capacityBps: 1 });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let t = Topology.empty;
      for (const s of steps) {
        t = s(t);
        expect(s(t)).toBe(t);
        for (const [id, l] of t.links) {
          expect(id).toBe(linkId(l.from));
          expect(t.port(l.from)?.isUp).toBe(true);
          expect(t.port(l.to)?.isUp).toBe(true);
        }
        for (const l of t.locations.values()) expect(t.isTrunk(l.at)).toBe(false);
      }
    }),
  );
});
