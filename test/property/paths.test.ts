/** Widest-shortest and disjoint paths on small random networks, against all simple paths listed one by one. */
import fc from 'fast-check';
import { disjointPaths, findPath, linkId, narrowest, type Path, Topology } from '../../topology/index.ts';

const EDGE = 9;
/** Up to five switches, up to nine cables, some of them parallel; each direction has its own residual, bit/s. */
const networks = fc
  .record({
    size: fc.integer({ min: 1, max: 5 }),
    cables: fc.array(fc.tuple(fc.nat(4), fc.nat(4)), { maxLength: 9 }),
    oneWay: fc.array(fc.boolean(), { minLength: 9, maxLength: 9 }),
    residuals: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: 18, maxLength: 18 }),
  })
  .map(({ size, cables, oneWay, residuals }) => {
    let t = Topology.empty;
    const residualOf = new Map<string, number>();
    for (let i = 0; i < size; i++) {
      const dpid = String.fromCharCode(97 + i);
      const port = (portNo: number) => ({ portNo, name: `p${portNo}`, hwAddr: 'h', isUp: true, capacityBps: 4 });
      const numbers = [EDGE, ...Array.from({ length: 18 }, (_, n) => n + 10)];
      t = t.withSwitch({ dpid, name: dpid, ports: new Map(numbers.map((n) => [n, port(n)])) });
    }
    cables.forEach(([a, b], i) => {
      const from = { dpid: String.fromCharCode(97 + (a % size)), portNo: 10 + 2 * i };
      const to = { dpid: String.fromCharCode(97 + (b % size)), portNo: 11 + 2 * i };
      t = t.withLink({ from, to });
      residualOf.set(linkId(from), residuals[2 * i] as number);
      if (oneWay[i]) return;
      t = t.withLink({ from: to, to: from });
      residualOf.set(linkId(to), residuals[2 * i + 1] as number);
    });
    return { t, residualBps: (id: string) => residualOf.get(id) ?? 0 };
  });

/** Every path without a switch twice, as lists of link ids. */
function simplePaths(t: Topology, from: string, to: string, mayUse: (id: string) => boolean): string[][] {
  const found: string[][] = [];
  const walk = (at: string, visited: string[], links: string[]) => {
    if (at === to) {
      found.push(links);
      return;
    }
    for (const [id, l] of t.links) {
      if (l.from.dpid === at && !visited.includes(l.to.dpid) && mayUse(id))
        walk(l.to.dpid, [...visited, l.to.dpid], [...links, id]);
    }
  };
  walk(from, [from], []);
  return found;
}

/** Best choice of up to `count` paths that share nothing: most paths, then fewest hops. */
function bestChoice(paths: string[][], count: number, items: (path: string[]) => string[]): [number, number] {
  let best: [number, number] = [0, 0];
  const choose = (from: number, taken: Set<string>, n: number, hops: number) => {
    if (n > best[0] || (n === best[0] && hops < best[1])) best = [n, hops];
    if (n === count) return;
    for (let i = from; i < paths.length; i++) {
      const path = paths[i] as string[];
      const own = items(path);
      if (own.some((x) => taken.has(x))) continue;
      choose(i + 1, new Set([...taken, ...own]), n + 1, hops + path.length);
    }
  };
  choose(0, new Set(), 0, 0);
  return best;
}

const between = (p: Path) => p.links.slice(0, -1);

test('the chosen path is the widest of the shortest', () => {
  fc.assert(
    fc.property(networks, ({ t, residualBps }) => {
      const width = (links: string[]) => narrowest(links, residualBps)?.bps ?? Number.POSITIVE_INFINITY;
      for (const from of t.switches.keys()) {
        for (const dpid of t.switches.keys()) {
          const all = simplePaths(t, from, dpid, () => true);
          const path = findPath(t, from, { dpid, portNo: EDGE }, { residualBps, includeLast: true });
          expect(path === undefined).toBe(all.length === 0);
          if (path === undefined) continue;
          const hops = Math.min(...all.map((p) => p.length));
          expect(all).toContainEqual(between(path));
          expect(between(path).length).toBe(hops);
          expect(width(between(path))).toBe(Math.max(...all.filter((p) => p.length === hops).map(width)));
        }
      }
    }),
  );
});

test.each(['links', 'switches'] as const)(
  'paths that share no %s: as many as there are, with the fewest hops',
  (by) => {
    const counts = fc.integer({ min: 1, max: 4 });
    fc.assert(
      fc.property(networks, counts, fc.integer({ min: 0, max: 3 }), ({ t, residualBps }, count, minBps) => {
        const inner = (links: string[]) => links.slice(1).map((id) => id.slice(0, id.indexOf(':')));
        // Two parallel cables between neighbours share no switch but their ends.
        const items =
          by === 'links' ? (p: string[]) => p : (p: string[]) => [...inner(p), ...(p.length === 1 ? p : [])];
        const target = [...t.switches.keys()].at(-1) as string;
        for (const from of t.switches.keys()) {
          const all = simplePaths(t, from, target, (id) => residualBps(id) >= minBps);
          const to = { dpid: target, portNo: EDGE };
          const paths = disjointPaths(t, from, to, count, { by, minBps, residualBps, includeLast: true });
          if (from === target) {
            expect(paths.map((p) => p.links)).toEqual([[linkId(to)]]);
            continue;
          }
          for (const p of paths) {
            expect(all).toContainEqual(between(p));
            expect(p.dpids).toEqual([...between(p).map((id) => id.slice(0, id.indexOf(':'))), target]);
          }
          const used = paths.flatMap((p) => items(between(p)));
          expect(new Set(used).size).toBe(used.length);
          const hops = paths.reduce((n, p) => n + between(p).length, 0);
          expect([paths.length, hops]).toEqual(bestChoice(all, count, items));
          expect(paths.map((p) => p.hops.length)).toEqual(paths.map((p) => p.hops.length).sort((a, b) => a - b));
        }
      }),
      { numRuns: 300 },
    );
  },
);
