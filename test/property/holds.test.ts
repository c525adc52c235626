/**
 * Paces and slices under any order of orders, answers and losses: whatever sources were told, have answered and really do, what
 * they send together never takes the workload below its floor; and what no source takes is not held for ever.
 *
 * The model beside the core is the sources themselves: each carries out the orders that reach it, in their order, whether its
 * answer gets through or not, and sends at the pace of the last one until its copy ends.
 */
import fc from 'fast-check';
import type { AgentCommand } from '../../contracts/agent.ts';
import { isFinal, PRIORITIES, type Priority } from '../../contracts/common.ts';
import { PAYLOAD_SHARE } from '../../controller/core/reserve.ts';
import { needsSlice } from '../../controller/core/state.ts';
import { CORE, Fabric, guest, HV1, HV2, LOCAL, UPLINK } from '../unit/controller/fabric.ts';

const HV3 = '0000000000000003';
type Source = 'hv1' | 'hv3';
const SOURCES: Readonly<Record<Source, readonly [dpid: string, ip: string]>> = {
  hv1: [HV1, '10.0.0.1'],
  hv3: [HV3, '10.0.0.3'],
};
const HOMES: Readonly<Record<string, Source>> = { g1: 'hv1', g2: 'hv1', g3: 'hv3', g4: 'hv3' };
const GUESTS = Object.keys(HOMES);
const CAPACITY_BPS = 200e6;
/** A source whose slice is nothing crawls, and frames are rounded. */
const SLACK_BPS = 4 * 112_000;

interface Copy {
  host: Source;
  payloadBps: number;
  links: readonly string[];
  port: number;
}
interface Order {
  migration: string;
  command: AgentCommand;
}

class World {
  readonly f = new Fabric({ capacityBps: CAPACITY_BPS });
  /** Copies that really run. */
  readonly copies = new Map<string, Copy>();
  /** Orders under way to a host, and those it has carried out and answered, the answer under way. */
  readonly #pending: Record<string, Order[]> = { hv1: [], hv2: [], hv3: [] };
  readonly #answered: Record<string, (Order & { ok: boolean; value?: unknown })[]> = { hv1: [], hv2: [], hv3: [] };
  readonly #isUp: Record<string, boolean> = { hv1: true, hv2: true, hv3: true };
  #taken = 0;

  constructor() {
    const { f } = this;
    const taps = { 2: 'tap1', 3: 'tap2', 4: 'tap3', 5: 'tap4' };
    for (const dpid of [HV1, HV2, HV3]) f.addSwitch(dpid, { [UPLINK]: 'up', ...taps, [LOCAL]: 'br0' });
    f.addSwitch(CORE, { 1: 'to-hv1', 2: 'to-hv2', 3: 'to-hv3' });
    f.cable(HV1, UPLINK, CORE, 1);
    f.cable(HV2, UPLINK, CORE, 2);
    f.cable(HV3, UPLINK, CORE, 3);
    for (const dpid of [HV1, HV2, HV3, CORE]) f.connect(dpid);
    f.pass(2500);
    for (const host of ['hv1', 'hv3'] as const) f.agentUp(host, ...SOURCES[host], this.#guestsOf(host));
    f.agentUp('hv2', HV2, '10.0.0.2');
    for (let i = 0; i < 2; i++) f.pass(1000, { [`${CORE}:2`]: { tx: 90 } });
  }

  #guestsOf(host: Source) {
    const own = GUESTS.filter((g) => HOMES[g] === host);
    return own.map((g) => guest(g, `52:54:00:00:00:2${g.slice(1)}`, `tap${g.slice(1)}`));
  }

  /** Takes the orders that the core has given since; to a host that is away none gets. */
  collect(): void {
    while (this.#taken < this.f.commands.length) {
      const { host, migration, command } = this.f.commands[this.#taken++] as (typeof this.f.commands)[number];
      if (this.#isUp[host]) this.#pending[host]?.push({ migration, command });
      else this.#done(host, migration, command, { ok: false, unknown: true, error: 'away' });
    }
  }

  #done(
    host: string,
    migration: string,
    command: AgentCommand,
    outcome: { ok: boolean; value?: unknown; unknown?: boolean; error?: string },
  ) {
    const paced = 'bandwidthBps' in command ? { bandwidthBps: command.bandwidthBps } : {};
    this.f.send({ kind: 'commandDone', host, migration, step: command.do, ...paced, ...outcome });
  }

  /** A host carries out the next order. */
  carryOut(host: string): void {
    const order = this.#pending[host]?.shift();
    if (!order) return;
    const { migration, command: c } = order;
    let ok = true;
    let value: unknown = {};
    const job = this.f.state.jobs.get(migration);
    const copy = this.copies.get(migration);
    if (c.do === 'measureDirtyRate') value = { dirtyBytesPerS: 1e6 };
    else if (c.do === 'prepare') {
      const tap = (job as { guest: string }).guest.slice(1);
      value = { address: '10.0.0.2', port: 49_150 + Number(tap), portName: `tap${tap}` };
    } else if (c.do === 'start') {
      if (job && !copy)
        this.copies.set(migration, {
          host: host as Source,
          payloadBps: c.bandwidthBps,
          links: job.links,
          port: c.port,
        });
    } else if (c.do === 'setBandwidth') {
      if (copy) copy.payloadBps = c.bandwidthBps;
      else ok = false;
    } else if (c.do === 'cancel') this.copies.delete(migration);
    this.#answered[host]?.push({ ...order, ok, value });
  }

  /** The answer to the oldest order arrives. */
  answer(host: string): void {
    const a = this.#answered[host]?.shift();
    if (a)
      this.#done(
        host,
        a.migration,
        a.command,
        a.ok ? { ok: true, value: a.value } : { ok: false, error: 'no such copy' },
      );
  }

  /** A host carries out what it is told and says so, again and again. */
  work(host: string, times: number): void {
    for (let i = 0; i < times; i++) {
      this.carryOut(host);
      this.answer(host);
      this.collect();
      this.check();
    }
  }

  /** The connection to an agent is lost; some of the orders that were under way had reached it. */
  lose(host: string, reached: number): void {
    if (!this.#isUp[host]) return;
    for (let i = 0; i < reached; i++) this.carryOut(host);
    const lost = [...(this.#answered[host] ?? []), ...(this.#pending[host] ?? [])];
    this.#answered[host] = [];
    this.#pending[host] = [];
    this.#isUp[host] = false;
    for (const o of lost) this.#done(host, o.migration, o.command, { ok: false, unknown: true, error: 'lost' });
    this.f.send({ kind: 'agentDown', host });
  }

  return(host: string): void {
    if (this.#isUp[host]) return;
    this.#isUp[host] = true;
    if (host === 'hv2') {
      const known = [...this.f.state.jobs.values()].filter((j) => !isFinal(j.state) && j.destination);
      this.f.agentUp(
        host,
        HV2,
        '10.0.0.2',
        [],
        known.map((j) => ({ migration: j.id, guest: j.guest, role: 'destination' as const })),
      );
      return;
    }
    const source = host as Source;
    const own = [...this.copies].filter(([, c]) => c.host === source);
    const known = own.map(([migration]) => ({
      migration,
      guest: this.f.state.jobs.get(migration)?.guest as string,
      role: 'source' as const,
    }));
    this.f.agentUp(source, ...SOURCES[source], this.#guestsOf(source), known);
  }

  /** A copy ends by itself; its agent says so, if it can be heard. */
  end(nth: number, event: 'completed' | 'failed'): void {
    const entry = [...this.copies][nth];
    if (!entry) return;
    const [migration, { host }] = entry;
    this.copies.delete(migration);
    if (this.#isUp[host]) this.f.send({ kind: 'agentMessage', host, message: { type: 'event', migration, event } });
  }

  ask(name: string, priority: Priority): void {
    if ([...this.f.state.jobs.values()].some((j) => j.guest === name && !isFinal(j.state))) return;
    this.f.send({
      kind: 'migrate',
      request: { moves: [{ guest: name, destination: 'hv2' }], priority, strategy: 'parallel' },
      ids: [`m-${this.f.state.jobs.size}`],
      group: null,
    });
  }

  pass(ms: number, mbps: number): void {
    for (const c of this.copies.values()) {
      const [dpid, ip] = SOURCES[c.host];
      this.f.inject(dpid, LOCAL, {
        ...{ eth_src: '0e:00:00:00:00:01', eth_dst: '0e:00:00:00:00:02', eth_type: 0x0800, ip_proto: 6, ip_dscp: 0 },
        ...{ ipv4_src: ip, ipv4_dst: '10.0.0.2', tcp_src: 40_000, tcp_dst: c.port },
      });
    }
    this.f.pass(ms, { [`${CORE}:2`]: { tx: mbps } });
  }

  /** What sources send on each link leaves the workload its floor. */
  check(): void {
    const sums = new Map<string, number>();
    for (const c of this.copies.values())
      for (const l of c.links) sums.set(l, (sums.get(l) ?? 0) + c.payloadBps / PAYLOAD_SHARE);
    for (const [link, sum] of sums) {
      const { floorBps } = this.f.state.policy.slaFor(link, CAPACITY_BPS);
      if (sum > CAPACITY_BPS - floorBps + SLACK_BPS)
        throw new Error(`${link}: sources send ${sum}, and the floor leaves them ${CAPACITY_BPS - floorBps}`);
    }
  }
}

const host = fc.constantFrom('hv1', 'hv2', 'hv3');
const times = fc.integer({ min: 1, max: 4 });
const action = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('ask' as const),
      guest: fc.constantFrom(...GUESTS),
      priority: fc.constantFrom(...PRIORITIES),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('carryOut' as const), host }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('answer' as const), host }) },
  // Most of the time agents do what they are told: the more copies get under way.
  { weight: 12, arbitrary: fc.record({ do: fc.constant('work' as const), host, times }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('pass' as const),
      ms: fc.integer({ min: 100, max: 2000 }),
      mbps: fc.integer({ min: 0, max: 200 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lose' as const), host, reached: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('return' as const), host }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      nth: fc.nat(3),
      event: fc.constantFrom('completed' as const, 'failed' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('silence' as const),
      dpid: fc.constantFrom(HV1, HV3, CORE),
      isUp: fc.boolean(),
    }),
  },
);

type Action = typeof action extends fc.Arbitrary<infer A> ? A : never;

/**
 * Found once: of two sources that had paces to answer, one was given less only because the other's part still counted as taken,
 * and what it had to give up counted as another's at once.
 */
const GIVEN_AWAY_TOO_SOON: Action[] = [
  { do: 'lose', host: 'hv1', reached: 0 },
  { do: 'ask', guest: 'g3', priority: 'low' },
  { do: 'ask', guest: 'g4', priority: 'high' },
  { do: 'work', host: 'hv3', times: 2 },
  { do: 'work', host: 'hv2', times: 1 },
  { do: 'carryOut', host: 'hv2' },
  { do: 'work', host: 'hv3', times: 1 },
  { do: 'ask', guest: 'g1', priority: 'high' },
  { do: 'answer', host: 'hv2' },
  { do: 'work', host: 'hv1', times: 4 },
  { do: 'carryOut', host: 'hv3' },
  { do: 'carryOut', host: 'hv3' },
  { do: 'return', host: 'hv2' },
  { do: 'carryOut', host: 'hv2' },
  { do: 'work', host: 'hv1', times: 2 },
  { do: 'work', host: 'hv2', times: 1 },
  { do: 'return', host: 'hv1' },
  { do: 'answer', host: 'hv1' },
  { do: 'work', host: 'hv1', times: 3 },
  { do: 'return', host: 'hv2' },
  { do: 'pass', ms: 277, mbps: 20 },
  { do: 'pass', ms: 254, mbps: 4 },
  { do: 'answer', host: 'hv1' },
  { do: 'return', host: 'hv2' },
  { do: 'pass', ms: 1384, mbps: 174 },
  { do: 'work', host: 'hv1', times: 1 },
  { do: 'pass', ms: 1608, mbps: 5 },
  { do: 'answer', host: 'hv2' },
  { do: 'ask', guest: 'g1', priority: 'high' },
  { do: 'pass', ms: 1712, mbps: 119 },
  { do: 'answer', host: 'hv1' },
  { do: 'answer', host: 'hv1' },
  { do: 'work', host: 'hv1', times: 3 },
  { do: 'return', host: 'hv3' },
  { do: 'work', host: 'hv1', times: 2 },
  { do: 'work', host: 'hv2', times: 2 },
  { do: 'work', host: 'hv2', times: 4 },
  { do: 'return', host: 'hv1' },
  { do: 'work', host: 'hv1', times: 1 },
  { do: 'return', host: 'hv3' },
  { do: 'work', host: 'hv2', times: 2 },
  { do: 'ask', guest: 'g4', priority: 'medium' },
  { do: 'answer', host: 'hv1' },
  { do: 'work', host: 'hv2', times: 3 },
  { do: 'work', host: 'hv3', times: 3 },
  { do: 'answer', host: 'hv2' },
  { do: 'work', host: 'hv1', times: 4 },
  { do: 'work', host: 'hv1', times: 1 },
  { do: 'pass', ms: 258, mbps: 65 },
];

test('whatever is lost on the way, sources together leave the workload its floor, and nothing is held for ever', () => {
  let shrunk = 0;
  let held = 0;
  fc.assert(
    fc.property(fc.array(action, { maxLength: 120, size: 'max' }), (actions) => {
      const w = new World();
      const { f } = w;
      for (const a of actions) {
        if (a.do === 'ask') w.ask(a.guest, a.priority);
        else if (a.do === 'carryOut') w.carryOut(a.host);
        else if (a.do === 'answer') w.answer(a.host);
        else if (a.do === 'work') w.work(a.host, a.times);
        else if (a.do === 'pass') w.pass(a.ms, a.mbps);
        else if (a.do === 'lose') w.lose(a.host, a.reached);
        else if (a.do === 'return') w.return(a.host);
        else if (a.do === 'end') w.end(a.nth, a.event);
        else if (a.isUp !== f.switches.get(a.dpid)?.connected) {
          if (a.isUp) f.connect(a.dpid);
          else f.disconnect(a.dpid);
        }
        w.collect();
        w.check();
        shrunk += f.state.shrinking.size;
        held += f.state.holds.size;
      }
      // All switches are read again; copies end without anybody hearing of it: what they held is free before long.
      for (const dpid of [HV1, HV2, HV3, CORE]) if (!f.switches.get(dpid)?.connected) f.connect(dpid);
      for (const h of ['hv1', 'hv3']) w.lose(h, 0);
      w.copies.clear();
      for (let i = 0; i < 14; i++) w.pass(1000, 90);
      const holding = [...f.state.jobs.values()].filter((j) => needsSlice(j) && j.startedAtMs !== null);
      expect(holding.map((j) => [j.id, j.state])).toEqual([]);
      expect(
        [...f.state.shares.values()]
          .flatMap((s) => [...s.byMigration.keys()])
          .filter((id) => f.state.jobs.get(id)?.isReleased),
      ).toEqual([]);
    }),
    { numRuns: 60, examples: [[GIVEN_AWAY_TOO_SOON]] },
  );
  // The runs have been through what they are about.
  expect(shrunk).toBeGreaterThan(0);
  expect(held).toBeGreaterThan(0);
}, 180_000);
