/** Links lost under running migrations, in `controller/core`: the stream, its slices and the workload take another way. */
import type { AgentCommand } from '../../../contracts/agent.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { FEATURE, parseCookie } from '../../../controller/core/cookies.ts';
import { PAYLOAD_SHARE } from '../../../controller/core/reserve.ts';
import { restoreJobs } from '../../../controller/core/restore.ts';
import {
  CLIENT_MAC,
  CORE_1,
  CORE_2,
  type Fabric,
  type FabricOptions,
  GUEST_MAC,
  HV1,
  HV2,
  LOCAL,
  STREAM,
  twoCores,
  UPLINK,
  UPLINK_2,
} from './fabric.ts';

const OVER_1 = [`${HV1}:${UPLINK}`, `${CORE_1}:2`];
const OVER_2 = [`${HV1}:${UPLINK_2}`, `${CORE_2}:2`];
const MBIT = 1e6;

function obey(f: Fabric): void {
  f.answer = (_host, c) => {
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 1e6 } };
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49152, portName: 'tap1' } };
    return { value: {} };
  };
}

/** A migration that copies over the first core, which carries less workload. */
function running(o: FabricOptions = {}): Fabric {
  const f = twoCores(o);
  obey(f);
  const rates = { [`${HV1}:${UPLINK}`]: { tx: 10 }, [`${HV1}:${UPLINK_2}`]: { tx: 160 } };
  f.pass(1000, rates);
  f.pass(1000, rates);
  f.send({
    kind: 'migrate',
    request: { moves: [{ guest: 'g1', destination: 'hv2' }], priority: 'low' },
    ids: ['m-1'],
    group: null,
  });
  f.pass(250, rates);
  return f;
}

const job = (f: Fabric) => f.state.jobs.get('m-1') ?? fail('no job');
const fail = (why: string): never => {
  throw new Error(why);
};
const rules = (f: Fabric) => job(f).reasons.map((r) => r.rule);
const paces = (f: Fabric) =>
  f.commands.flatMap(({ command: c }) =>
    c.do === 'setBandwidth' ? [(c as Extract<AgentCommand, { do: 'setBandwidth' }>).bandwidthBps] : [],
  );
const streamAt = (f: Fabric) =>
  [...f.switches]
    .filter(([, s]) => s.tables.flows().some((x) => parseCookie(x.cookie)?.feature === FEATURE.stream))
    .map(([dpid]) => dpid)
    .sort();
const ANSWER = { ...STREAM, ipv4_src: '10.0.0.2', ipv4_dst: '10.0.0.1', tcp_src: 49152, tcp_dst: 40000 };
const queued = (f: Fabric) =>
  [...f.qos]
    .filter(([, q]) => q !== null)
    .map(([link]) => link)
    .sort();

test('the stream takes the way with most room, and goes exactly along it and back', () => {
  const f = running();
  expect(job(f)).toMatchObject({ state: 'copying', links: OVER_1, dpids: [HV1, CORE_1, HV2] });
  expect(f.inject(HV1, LOCAL, STREAM)).toMatchObject([
    { at: `${HV2}:${LOCAL}`, packet: { ip_dscp: expect.any(Number) } },
  ]);
  expect(f.inject(HV2, LOCAL, ANSWER).map((o) => o.at)).toEqual([`${HV1}:${LOCAL}`]);
  expect(streamAt(f)).toEqual([HV1, HV2, CORE_1].sort());
  expect(queued(f)).toEqual([...OVER_1].sort());
});

test('a link lost under the copy: slices, queues and stream move to the other way, and the pace is told', () => {
  const f = running();
  f.pass(1000, { [`${HV1}:${UPLINK_2}`]: { tx: 160 } });
  const before = paces(f).length;
  f.setCable(CORE_1, 2, false);
  expect(job(f)).toMatchObject({ state: 'copying', links: OVER_2, dpids: [HV1, CORE_2, HV2], reroutedAtMs: null });
  expect(rules(f)).toEqual(expect.arrayContaining(['reroute.linkLost', 'reroute.settled']));
  expect(f.state.decisions.find((d) => d.reason.rule === 'reroute.linkLost')?.reason).toMatchObject({
    bindingLink: `${CORE_1}:2`,
  });
  expect(streamAt(f)).toEqual([HV1, HV2, CORE_2].sort());
  expect(queued(f)).toEqual([...OVER_2].sort());
  expect(
    [...f.state.shares]
      .filter(([, s]) => s.byMigration.size > 0)
      .map(([l]) => l)
      .sort(),
  ).toEqual([...OVER_2].sort());
  expect(f.inject(HV1, LOCAL, STREAM).map((o) => o.at)).toEqual([`${HV2}:${LOCAL}`]);
  // What it gets there is less: the workload of that way comes first.
  expect(paces(f).length).toBeGreaterThan(before);
  expect(paces(f).at(-1)).toBe(Math.round(job(f).sliceBps * PAYLOAD_SHARE));
  expect(job(f).sliceBps).toBeLessThan(150 * MBIT);
});

test('without another way the copy crawls with nothing reserved, says why, and goes on when a link returns', () => {
  const f = running();
  f.setCable(CORE_2, 2, false);
  expect(job(f).links).toEqual(OVER_1);
  f.setCable(CORE_1, 2, false);
  expect(job(f)).toMatchObject({ state: 'copying', links: [], dpids: [], sliceBps: 0 });
  expect(job(f).reasons.at(-1)).toMatchObject({ rule: 'reroute.noPath', bindingLink: `${CORE_1}:2` });
  expect(job(f).reasons.at(-1)?.text).toContain('no path is known from hv1 to hv2');
  expect(paces(f).at(-1)).toBe(100_000);
  expect(f.state.shares.size).toBe(0);
  expect(queued(f)).toEqual([]);
  f.pass(1000);
  f.setCable(CORE_2, 2, true);
  f.pass(250);
  f.pass(1000);
  expect(job(f)).toMatchObject({ links: OVER_2, reroutedAtMs: null });
  expect(rules(f)).toContain('reroute.linkBack');
  expect(paces(f).at(-1)).toBeGreaterThan(1 * MBIT);
});

test('a way without room is taken all the same, and the reason says that there is none', () => {
  const all = { floor: '100 %', ceiling: '100 %' };
  const sla = { ...DEFAULT_POLICY.sla, links: { [`${HV1}:${UPLINK_2}`]: all } };
  const f = running({ policy: { ...DEFAULT_POLICY, sla } });
  f.setCable(HV1, UPLINK, false);
  expect(job(f).links).toEqual(OVER_2);
  expect(job(f).reasons.find((r) => r.rule === 'reroute.linkLost')?.text).toContain('no room');
  expect(paces(f).at(-1)).toBe(100_000);
});

test('workload is forwarded the other way in the same turn', () => {
  const f = twoCores();
  f.inject(CORE_1, 3, { eth_src: CLIENT_MAC, eth_dst: 'ff:ff:ff:ff:ff:ff', eth_type: 0x9000 });
  const toClient = { eth_src: GUEST_MAC, eth_dst: CLIENT_MAC, eth_type: 0x9000 };
  expect(f.inject(HV1, 2, toClient).map((o) => o.at)).toEqual([`${CORE_1}:3`]);
  f.setCable(HV1, UPLINK, false);
  expect(f.inject(HV1, 2, toClient).map((o) => o.at)).toEqual([`${CORE_1}:3`]);
  f.setCable(HV2, UPLINK, false);
  expect(f.inject(HV1, 2, toClient).map((o) => o.at)).not.toContain(`${CORE_1}:3`);
});

test('a path lost while the dirty rate is measured puts the migration back into the queue', () => {
  const f = twoCores();
  f.answer = () => undefined;
  f.pass(1000);
  f.pass(1000);
  const request = { moves: [{ guest: 'g1', destination: 'hv2' }], priority: 'high' as const };
  f.send({ kind: 'migrate', request, ids: ['m-1'], group: null });
  f.pass(250);
  expect(job(f).state).toBe('admitted');
  f.setCable(HV1, UPLINK, false);
  f.setCable(HV1, UPLINK_2, false);
  f.send({
    kind: 'commandDone',
    host: 'hv1',
    migration: 'm-1',
    step: 'measureDirtyRate',
    ok: true,
    value: { dirtyBytesPerS: 1 },
  });
  expect(job(f).state).toBe('queued');
  obey(f);
  f.setCable(HV1, UPLINK, true);
  for (let i = 0; i < 8; i++) f.pass(1000);
  expect(job(f)).toMatchObject({ state: 'copying', links: OVER_1 });
});

test('after a restart a path is not lost only because its links are still being found', () => {
  const f = running();
  const entry = { type: 'job', job: job(f) };
  const g = twoCores();
  g.answer = () => ({ value: {} });
  g.setCable(CORE_1, 2, false);
  g.state = restoreJobs(g.state, [entry]);
  g.pass(250);
  expect(job(g).links).toEqual(OVER_1);
  // Had the link still been there, it would have been found by now.
  for (let i = 0; i < 6; i++) g.pass(2100);
  expect(job(g).links).toEqual(OVER_2);
});

test('after a restart another way is found also while the agents have not come back', () => {
  const f = running();
  const entry = JSON.parse(JSON.stringify({ type: 'job', job: job(f) }));
  const g = twoCores();
  g.answer = () => ({ value: {} });
  g.state = restoreJobs({ ...g.state, agents: new Map() }, [entry]);
  g.pass(250);
  g.setCable(CORE_1, 2, false);
  expect(job(g)).toMatchObject({ state: 'copying', links: OVER_2 });
  g.setCable(CORE_2, 2, false);
  expect(job(g)).toMatchObject({ state: 'copying', links: [] });
  g.setCable(CORE_1, 2, true);
  for (let i = 0; i < 3; i++) g.pass(1000);
  expect(job(g).links).toEqual(OVER_1);
});

test('a link whose probes are lost closes no loop for broadcasts: its ports stay trunks', () => {
  const f = twoCores();
  f.state = { ...f.state, topology: f.state.topology.withoutLink(`${HV1}:${UPLINK_2}`).withoutLink(`${CORE_2}:1`) };
  f.send({ kind: 'tick' });
  const out = f.inject(CORE_1, 3, { eth_src: CLIENT_MAC, eth_dst: 'ff:ff:ff:ff:ff:ff', eth_type: 0x9000 });
  const at = out.map((o) => o.at);
  expect(new Set(at).size).toBe(at.length);
  expect(f.state.topology.locations.get(CLIENT_MAC)?.at).toEqual({ dpid: CORE_1, portNo: 3 });
});
