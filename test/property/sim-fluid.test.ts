/** What must hold of the fluid's rates on any network: capacity, work conservation, max-min fairness above guarantees. */
import fc from 'fast-check';
import { type FluidFlow, type FluidLink, type FluidQueue, fluidRates } from '../../sim/fluid.ts';

const MBPS = 1e6;
const SLACK = 1e-6;

/** Networks of up to 6 links and 10 flows; with `queued`, links have up to three queues with guarantees. */
function networks(queued: boolean) {
  const queue = fc.record({ min: fc.nat(60), max: fc.integer({ min: 1, max: 120 }), priority: fc.nat(2) });
  const link = fc.record({
    capacity: fc.integer({ min: 1, max: 100 }),
    queues: fc.array(queue, { maxLength: queued ? 3 : 0 }),
  });
  return fc
    .array(link, { minLength: 1, maxLength: 6 })
    .chain((links) =>
      fc.record({
        links: fc.constant(links),
        flows: fc.array(
          fc.record({
            offered: fc.integer({ min: 0, max: 150 }),
            weight: fc.integer({ min: 1, max: 4 }),
            path: fc.uniqueArray(fc.nat(links.length - 1), { minLength: 1, maxLength: 4 }),
            queue: fc.nat(3),
          }),
          { maxLength: 10 },
        ),
      }),
    )
    .map(({ links, flows }) => {
      const fluidLinks = new Map<string, FluidLink>();
      links.forEach((l, i) => {
        const queues = new Map<number, FluidQueue>();
        l.queues.forEach((q, id) => {
          const minBps = Math.min(q.min, q.max) * MBPS;
          queues.set(id, { minBps, maxBps: q.max * MBPS, priority: q.priority });
        });
        fluidLinks.set(`l${i}`, { capacityBps: l.capacity * MBPS, ...(queues.size > 0 ? { queues } : {}) });
      });
      const fluidFlows: FluidFlow[] = flows.map((f, i) => ({
        id: `f${i}`,
        offeredBps: f.offered * MBPS,
        weight: f.weight,
        hops: f.path.map((n) => ({ link: `l${n}`, queue: f.queue })),
      }));
      return { links: fluidLinks, flows: fluidFlows };
    });
}

interface Use {
  name: string;
  capacityBps: number;
  members: FluidFlow[];
}

/** Every limit of the network with the flows under it: links, and queues with their greatest rate. */
function limits(links: ReadonlyMap<string, FluidLink>, flows: readonly FluidFlow[]): Use[] {
  const out: Use[] = [];
  for (const [name, link] of links) {
    const on = (f: FluidFlow) => f.hops.filter((h) => h.link === name);
    out.push({ name, capacityBps: link.capacityBps, members: flows.filter((f) => on(f).length > 0) });
    for (const [id, queue] of link.queues ?? []) {
      const inQueue = (q: number) => (link.queues?.has(q) ? q : 0) === id;
      out.push({
        name: `${name}/${id}`,
        capacityBps: queue.maxBps,
        members: flows.filter((f) => on(f).some((h) => inQueue(h.queue))),
      });
    }
  }
  return out;
}

const rateOf = (rates: ReadonlyMap<string, number>, f: FluidFlow): number => rates.get(f.id) as number;
const used = (rates: ReadonlyMap<string, number>, u: Use): number =>
  u.members.reduce((sum, f) => sum + rateOf(rates, f), 0);
const isFull = (rates: ReadonlyMap<string, number>, u: Use): boolean =>
  used(rates, u) >= u.capacityBps * (1 - SLACK) - 1;

describe('fluidRates', () => {
  test('no link and no queue carries more than it can, no flow more than it offers', () => {
    fc.assert(
      fc.property(networks(true), ({ links, flows }) => {
        const rates = fluidRates(links, flows);
        for (const f of flows) {
          expect(rateOf(rates, f)).toBeGreaterThanOrEqual(0);
          expect(rateOf(rates, f)).toBeLessThanOrEqual(f.offeredBps * (1 + SLACK));
        }
        for (const u of limits(links, flows)) {
          expect(used(rates, u)).toBeLessThanOrEqual(u.capacityBps * (1 + SLACK) + 1);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('a flow that has less than it offers meets something full on its path', () => {
    fc.assert(
      fc.property(networks(true), ({ links, flows }) => {
        const rates = fluidRates(links, flows);
        const all = limits(links, flows);
        for (const f of flows) {
          if (rateOf(rates, f) >= f.offeredBps * (1 - SLACK) - 1) continue;
          expect(all.some((u) => u.members.includes(f) && isFull(rates, u))).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('without queues: a flow that wants more has, on some full link, at least as much per weight as any other', () => {
    fc.assert(
      fc.property(networks(false), ({ links, flows }) => {
        const rates = fluidRates(links, flows);
        const all = limits(links, flows);
        for (const f of flows) {
          if (rateOf(rates, f) >= f.offeredBps * (1 - SLACK) - 1) continue;
          const mine = rateOf(rates, f) / f.weight;
          const bottleneck = all.some(
            (u) =>
              u.members.includes(f) &&
              isFull(rates, u) &&
              u.members.every((g) => rateOf(rates, g) / g.weight <= mine * (1 + SLACK) + 1),
          );
          expect(bottleneck).toBe(true);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('on one link every queue has its guarantee or all that its flows want', () => {
    const cases = fc.record({
      capacity: fc.integer({ min: 30, max: 200 }),
      queues: fc.array(fc.record({ min: fc.nat(10), priority: fc.nat(3) }), { minLength: 1, maxLength: 3 }),
      flows: fc.array(fc.record({ offered: fc.integer({ min: 1, max: 200 }), queue: fc.nat(2) }), { minLength: 1 }),
    });
    fc.assert(
      fc.property(cases, (c) => {
        const queues = new Map<number, FluidQueue>(
          c.queues.map((q, id) => [id, { minBps: q.min * MBPS, maxBps: c.capacity * MBPS, priority: q.priority }]),
        );
        const links = new Map<string, FluidLink>([['l', { capacityBps: c.capacity * MBPS, queues }]]);
        const flows: FluidFlow[] = c.flows.map((f, i) => ({
          id: `f${i}`,
          offeredBps: f.offered * MBPS,
          weight: 1,
          hops: [{ link: 'l', queue: f.queue }],
        }));
        const rates = fluidRates(links, flows);
        for (const [id, queue] of queues) {
          const mine = flows.filter((f) => (queues.has(f.hops[0]?.queue ?? 0) ? f.hops[0]?.queue : 0) === id);
          const wanted = mine.reduce((sum, f) => sum + f.offeredBps, 0);
          const got = mine.reduce((sum, f) => sum + rateOf(rates, f), 0);
          expect(got).toBeGreaterThanOrEqual(Math.min(wanted, queue.minBps) * (1 - SLACK) - 1);
        }
      }),
      { numRuns: 500 },
    );
  });
});
