/**
 * The ways of many waiting migrations, found together (`WayFinder`), against that of each alone (`choosePath`): on random networks
 * with several ways, beside random running migrations, with overrides, and where links have too little for the least slice of
 * everybody.
 */
import fc from 'fast-check';
import { PRIORITIES } from '../../contracts/common.ts';
import { DEFAULT_POLICY, type PolicyDocument } from '../../contracts/policy.ts';
import { choosePath } from '../../controller/core/jobPath.ts';
import { newJob } from '../../controller/core/newJob.ts';
import { type AgentState, type ControllerState, initialState, type Job } from '../../controller/core/state.ts';
import { WayFinder } from '../../controller/core/wayFinder.ts';
import { makeSeal } from '../../controller/io/seal.ts';
import { compilePolicy } from '../../policies/index.ts';
import { LOCAL_PORT, linkId, Topology } from '../../topology/index.ts';

const HOSTS = 4;
const SPINES = 3;
const NOW_MS = 100_000;
const dpidOf = (n: number) => n.toString(16).padStart(16, '0');
const spineOf = (n: number) => dpidOf(100 + n);

const POLICY: PolicyDocument = {
  ...DEFAULT_POLICY,
  overrides: {
    ...DEFAULT_POLICY.overrides,
    labels: { tier: { gold: { reservation: { weights: { low: 9 } } } } },
    hosts: { hv1: { sla: { floor: '30 %' } } },
  },
};

const COMPILED = compilePolicy(POLICY);

const cable = fc.record({
  /** Mbit/s; where it is little there is not enough for everybody's least. */
  capacity: fc.constantFrom(1, 3, 8, 15, 40, 1000),
  workload: fc.integer({ min: 0, max: 100 }),
  isThere: fc.boolean(),
});
const job = fc.record({
  from: fc.nat(HOSTS - 1),
  hop: fc.integer({ min: 1, max: HOSTS - 1 }),
  priority: fc.constantFrom(...PRIORITIES),
  isGold: fc.boolean(),
  spine: fc.nat(SPINES - 1),
  phase: fc.constantFrom('initial' as const, 'running' as const),
  sliceMbps: fc.integer({ min: 0, max: 40 }),
  had: fc.boolean(),
});

/** Many that are alike but for their names. */
const waiter = job.map((j) => ({ ...j, from: 0, hop: 1, isGold: j.isGold && j.had }));

type Network = readonly (typeof cable extends fc.Arbitrary<infer T> ? T : never)[];
type Wish = typeof job extends fc.Arbitrary<infer T> ? T : never;

/** Hosts with a switch each, joined by up to three others. */
function stateOf(cables: Network, running: readonly Wish[], waiting: readonly Wish[]): ControllerState {
  const capacityOf = new Map<string, number>();
  const port = (dpid: string, portNo: number, name: string) => {
    const capacityBps = capacityOf.get(`${dpid}:${portNo}`) ?? 1e9;
    return { portNo, name, hwAddr: '0e:00:00:00:00:01', isUp: true, capacityBps };
  };
  const ends = cables.map((c, i) => {
    const [host, spine] = [Math.floor(i / SPINES), i % SPINES];
    const near = { dpid: dpidOf(host + 1), portNo: spine + 1 };
    const far = { dpid: spineOf(spine), portNo: host + 1 };
    for (const end of [near, far]) capacityOf.set(linkId(end), c.capacity * 1e6);
    return { near, far, isThere: c.isThere || spine === 0, bps: (c.capacity * c.workload * 1e6) / 100 };
  });
  let topology = Topology.empty;
  for (let h = 1; h <= HOSTS; h++) {
    const own = [[LOCAL_PORT, 'br0'] as const, ...[1, 2, 3].map((n) => [n, `up${n}`] as const)];
    const ports = new Map(own.map(([no, name]) => [no, port(dpidOf(h), no, name)]));
    topology = topology.withSwitch({ dpid: dpidOf(h), name: `s${h}`, ports });
  }
  for (let s = 0; s < SPINES; s++) {
    const ports = new Map([1, 2, 3, 4].map((no) => [no, port(spineOf(s), no, `p${no}`)]));
    topology = topology.withSwitch({ dpid: spineOf(s), name: `spine${s}`, ports });
  }
  const links = ends
    .filter((e) => e.isThere)
    .flatMap(({ near, far }) => [
      { from: near, to: far },
      { from: far, to: near },
    ]);
  topology = topology.withLinks(links);
  const wishes = [...running, ...waiting];
  const agents = new Map<string, AgentState>();
  for (let h = 0; h < HOSTS; h++) {
    const guests = wishes.flatMap((w, i) => {
      const mac = `52:54:00:00:00:${i.toString(16).padStart(2, '0')}`;
      const spec = { name: `g${i}`, mac, memoryMiB: 1024, vcpus: 1, machine: 'pc', accel: 'emulated' as const };
      const labels = w.isGold ? { labels: { tier: 'gold' } } : {};
      return w.from === h ? [{ state: 'running' as const, portName: `tap${i}`, spec: { ...spec, ...labels } }] : [];
    });
    agents.set(`hv${h + 1}`, {
      ...{ connected: true, awaySinceMs: null, host: `hv${h + 1}`, driver: 'emulated', migrationIp: `10.0.0.${h + 1}` },
      ...{ dpid: dpidOf(h + 1), migrationPort: 'br0', limits: {}, techniques: ['pre-copy'], abilities: null, guests },
      ...{ guestMemoryMiB: null, hostLabels: {} },
    });
  }
  const rate = (bps: number) => ({ atMs: NOW_MS, rxBps: 0, txBps: bps, migrationTxBps: 0, migrationRxBps: 0 });
  const reading = { atMs: NOW_MS, rxBytes: 0, txBytes: 0, migrationTxBytes: 0, migrationRxBytes: 0 };
  const ports = new Map(
    ends.flatMap(({ near, far, bps }) =>
      [near, far].map((p) => [linkId(p), { last: reading, rates: [rate(bps)] }] as const),
    ),
  );
  const settings = {
    ...{ version: 'test', forwarding: 'managed' as const, policyStore: 'memory', defaultCapacityBps: 1e9 },
    ...{ capacityOf: () => undefined, nameOf: () => undefined, hasQueues: () => true },
    seal: makeSeal(Buffer.alloc(32, 7)),
  };
  const status = { state: 'accepted' as const, revision: 1, reason: '', atMs: 0 };
  const empty = initialState(settings, COMPILED, status, 0);
  const state = { ...empty, topology, agents, ports };
  const jobs = new Map<string, Job>();
  for (const [i, w] of wishes.entries()) {
    const to = (w.from + w.hop) % HOSTS;
    const move = { guest: `g${i}`, destination: `hv${to + 1}`, priority: w.priority };
    // Names are not in the order of request.
    const id = `m${(i * 7) % 31}-g${i}`;
    const made = newJob(state, { moves: [], priority: 'medium' }, move, { id, group: null, nowMs: NOW_MS }) as Job;
    const way = {
      links: [`${dpidOf(w.from + 1)}:${w.spine + 1}`, `${spineOf(w.spine)}:${to + 1}`],
      dpids: [dpidOf(w.from + 1), spineOf(w.spine), dpidOf(to + 1)],
    };
    const isWay = way.links.every((l) => topology.links.has(l));
    const own = isWay ? way : { links: [], dpids: [] };
    if (i >= running.length) jobs.set(id, w.had ? { ...made, ...own } : made);
    else {
      const runs = { state: 'copying' as const, technique: 'pre-copy' as const, phase: w.phase };
      jobs.set(id, { ...made, ...own, ...runs, sliceBps: w.sliceMbps * 1e6 });
    }
  }
  return { ...state, jobs };
}

test('the ways of many are those of each alone', () => {
  let several = 0;
  fc.assert(
    fc.property(
      fc.array(cable, { minLength: HOSTS * SPINES, maxLength: HOSTS * SPINES }),
      fc.array(fc.oneof(job, waiter), { maxLength: 6 }),
      fc.array(fc.oneof(job, waiter, waiter), { minLength: 1, maxLength: 12 }),
      (cables, running, waiting) => {
        const state = stateOf(cables, running, waiting);
        const finder = new WayFinder(state, NOW_MS);
        for (const j of [...state.jobs.values()].slice(running.length)) {
          const together = finder.choose(j);
          const alone = choosePath(state, j, NOW_MS);
          if (typeof together === 'string' || typeof alone === 'string') expect(together).toEqual(alone);
          else {
            expect({ path: together.path, why: together.why }).toEqual({ path: alone.path, why: alone.why });
            if (alone.why !== null) several++;
          }
        }
      },
    ),
    { numRuns: 200 },
  );
  // Not all take the obvious way.
  expect(several).toBeGreaterThan(20);
});
