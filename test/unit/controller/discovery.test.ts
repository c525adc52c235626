/** Link discovery against hosts that forge, keep, alter and pass on probes, and against links that fall silent. */
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { Effect } from '../../../controller/core/events.ts';
import { buildLldp, parseLldp } from '../../../controller/core/packets.ts';
import { topologyView } from '../../../controller/core/views.ts';
import { makeSeal } from '../../../controller/io/seal.ts';
import { CORE, Fabric, GUEST_MAC, HV1, HV2, KEY, twoHypervisors } from './fabric.ts';

const EDGE = 3;

/** The last probe that was sent out of a port. */
function probeOf(f: Fabric, dpid: string, portNo: number): Buffer {
  const sent = f.effects.filter(
    (e): e is Extract<Effect, { kind: 'packetOut' }> =>
      e.kind === 'packetOut' && e.dpid === dpid && e.portNo === portNo,
  );
  return sent.at(-1)?.frame as Buffer;
}

const arrive = (f: Fabric, dpid: string, inPort: number, frame: Buffer) =>
  f.send({ kind: 'packetIn', dpid, inPort, frame: Buffer.from(frame) });

const linkIds = (f: Fabric) => [...f.state.topology.links.keys()].sort();
const FOUR = [`${HV1}:1`, `${HV2}:1`, `${CORE}:1`, `${CORE}:2`].sort();
const counts = (f: Fabric, dpid: string, portNo: number) =>
  topologyView(f.state).refusedProbes.find((r) => r.at.dpid === dpid && r.at.portNo === portNo);
const none = { unsigned: 0, forged: 0, stale: 0, replayed: 0, edge: 0 };
const logged = (f: Fabric, event: string) => f.effects.filter((e) => e.kind === 'log' && e.event === event);

function hostAt(f: Fabric, dpid: string, inPort: number, mac = '525400000077'): void {
  const frame = Buffer.from(`ffffffffffff${mac}0800${'00'.repeat(46)}`, 'hex');
  f.send({ kind: 'packetIn', dpid, inPort, frame });
}

test('own probes make links, both ways, and nothing is refused', () => {
  const f = twoHypervisors();
  for (let i = 0; i < 20; i++) f.pass(1000);
  expect(linkIds(f)).toEqual(FOUR);
  expect(topologyView(f.state).refusedProbes).toEqual([]);
});

describe('a probe that is not believed is counted at the port it came in by and makes no link', () => {
  const probe = (f: Fabric, sentMs = f.nowMs) => ({
    dpid: HV2,
    portNo: EDGE,
    sourceMac: '0e:00:00:00:02:03',
    ttlSeconds: 10,
    serial: 1e9,
    sentMs,
  });

  test('a control: signed with the key of the controller it does make one', () => {
    const f = twoHypervisors();
    arrive(f, CORE, EDGE, buildLldp(probe(f), f.state.settings.seal));
    expect(linkIds(f)).toContain(`${HV2}:${EDGE}`);
  });

  test('without a signature', () => {
    const f = twoHypervisors();
    const whole = buildLldp(probe(f), f.state.settings.seal);
    const { proof } = parseLldp(whole) ?? {};
    if (!proof) throw new Error('our own probe carries no proof');
    const bare = Buffer.concat([whole.subarray(0, proof.signed.length - 30), Buffer.alloc(2)]);
    arrive(f, CORE, EDGE, bare);
    expect(counts(f, CORE, EDGE)).toEqual({ at: { dpid: CORE, portNo: EDGE }, ...none, unsigned: 1 });
    expect(linkIds(f)).toEqual(FOUR);
  });

  test('signed with another key', () => {
    const f = twoHypervisors();
    const other = makeSeal(Buffer.alloc(32, 8));
    arrive(f, CORE, EDGE, buildLldp(probe(f), { ...other, instance: f.state.settings.seal.instance }));
    expect(counts(f, CORE, EDGE)).toMatchObject({ ...none, forged: 1 });
    expect(linkIds(f)).toEqual(FOUR);
  });

  test('kept for longer than discovery.maxAgeMs', () => {
    const f = twoHypervisors();
    const { maxAgeMs } = DEFAULT_POLICY.discovery;
    arrive(f, CORE, EDGE, buildLldp(probe(f, f.nowMs - maxAgeMs - 1), f.state.settings.seal));
    expect(counts(f, CORE, EDGE)).toMatchObject({ ...none, stale: 1 });
    expect(linkIds(f)).toEqual(FOUR);
    arrive(f, CORE, EDGE, buildLldp(probe(f, f.nowMs - maxAgeMs), f.state.settings.seal));
    expect(linkIds(f)).toContain(`${HV2}:${EDGE}`);
  });

  test('sent a second time, also at another port', () => {
    const f = twoHypervisors();
    arrive(f, CORE, EDGE, probeOf(f, HV1, 1));
    arrive(f, CORE, 1, probeOf(f, HV1, 1));
    expect(counts(f, CORE, EDGE)).toMatchObject({ ...none, replayed: 1 });
    expect(counts(f, CORE, 1)).toMatchObject({ ...none, replayed: 1 });
    expect(f.state.topology.links.get(`${HV1}:1`)?.to).toEqual({ dpid: CORE, portNo: 1 });
  });

  test('also once the link it had crossed is down', () => {
    const f = twoHypervisors();
    const kept = probeOf(f, HV1, 1);
    const port = { portNo: 1, name: 'to-hv1', hwAddr: '0e:00:00:00:c0:01', speedBps: 0 };
    f.send({ kind: 'portChanged', dpid: CORE, change: 'modified', port: { ...port, isUp: false } });
    arrive(f, CORE, EDGE, kept);
    expect(counts(f, CORE, EDGE)).toMatchObject({ ...none, replayed: 1 });
    expect(f.state.topology.links.has(`${HV1}:1`)).toBe(false);
  });

  test('passed on at once from a port where a guest is, or to one', () => {
    const f = twoHypervisors();
    expect(f.state.topology.locations.get(GUEST_MAC)?.at).toEqual({ dpid: HV1, portNo: 2 });
    arrive(f, CORE, EDGE, probeOf(f, HV1, 2));
    arrive(f, HV1, 2, probeOf(f, CORE, EDGE));
    expect(counts(f, CORE, EDGE)).toMatchObject({ ...none, edge: 1 });
    expect(counts(f, HV1, 2)).toMatchObject({ ...none, edge: 1 });
    expect(linkIds(f)).toEqual(FOUR);
  });

  test('passed on at once between ports where hosts have been for long; after the port was down it is taken anew', () => {
    const f = twoHypervisors();
    for (let i = 0; i < 12; i++) f.pass(1000);
    hostAt(f, CORE, EDGE);
    f.pass(2500);
    arrive(f, CORE, EDGE, probeOf(f, HV2, EDGE));
    arrive(f, HV2, EDGE, probeOf(f, CORE, EDGE));
    expect(counts(f, CORE, EDGE)).toMatchObject({ ...none, edge: 1 });
    expect(linkIds(f)).toEqual(FOUR);
    const port = { portNo: EDGE, name: 'client', hwAddr: '0e:00:00:00:c0:03', speedBps: 0 };
    f.send({ kind: 'portChanged', dpid: CORE, change: 'modified', port: { ...port, isUp: false } });
    f.send({ kind: 'portChanged', dpid: CORE, change: 'modified', port: { ...port, isUp: true } });
    f.pass(2500);
    arrive(f, CORE, EDGE, probeOf(f, HV2, EDGE));
    expect(linkIds(f)).toContain(`${HV2}:${EDGE}`);
  });
});

test('a probe of a controller that shares the key is neither a forgery nor a link', () => {
  const f = twoHypervisors();
  const peer = makeSeal(KEY);
  const probe = { dpid: HV2, portNo: EDGE, sourceMac: '0e:00:00:00:02:03', ttlSeconds: 10, serial: 1, sentMs: f.nowMs };
  arrive(f, CORE, EDGE, buildLldp(probe, peer));
  expect(topologyView(f.state).refusedProbes).toEqual([]);
  expect(linkIds(f)).toEqual(FOUR);
});

test("another system's LLDP is neither counted nor taken for a host", () => {
  const f = twoHypervisors();
  const locations = f.state.topology.locations.size;
  arrive(f, CORE, EDGE, Buffer.from(`0180c200000e52540000007788cc${'0000'}`, 'hex'));
  expect(topologyView(f.state).refusedProbes).toEqual([]);
  expect(f.state.topology.locations.size).toBe(locations);
});

test('a link to a switch that connects late is found where its hosts were seen before', () => {
  const f = new Fabric();
  f.addSwitch(HV1, { 1: 'up' });
  f.addSwitch(CORE, { 1: 'to-hv1' });
  f.cable(HV1, 1, CORE, 1);
  f.connect(CORE);
  for (let i = 0; i < 30; i++) {
    f.pass(1000);
    hostAt(f, CORE, 1);
  }
  f.connect(HV1);
  f.pass(2500);
  expect(linkIds(f)).toEqual([`${HV1}:1`, `${CORE}:1`].sort());
});

test('a link that fell silent and whose hosts were seen since comes back with its probes', () => {
  const f = twoHypervisors();
  const cables = new Map(f.cables);
  f.cables.clear();
  for (let i = 0; i < 12; i++) f.pass(1000);
  expect(linkIds(f)).toEqual([]);
  expect(logged(f, 'link.lost')).toHaveLength(4);
  hostAt(f, CORE, 1);
  for (const [from, to] of cables) f.cables.set(from, to);
  f.pass(2500);
  expect(linkIds(f)).toEqual(FOUR);
});

test('a link of an earlier life is found again late, though hosts were seen through it; not once its port was down', () => {
  const f = twoHypervisors();
  const cables = new Map(f.cables);
  f.cables.clear();
  f.state = { ...new Fabric().state, startedAtMs: f.nowMs };
  for (const dpid of [HV1, HV2, CORE]) f.connect(dpid);
  // What probes cross is held up; what hosts send is not.
  for (let i = 0; i < 12; i++) f.pass(1000);
  expect(linkIds(f)).toEqual([]);
  for (const portNo of [1, 2]) hostAt(f, CORE, portNo, `52540000007${portNo}`);
  f.setCable(CORE, 2, false);
  f.setCable(CORE, 2, true);
  for (let i = 0; i < 12; i++) f.pass(1000);
  hostAt(f, CORE, 2, '525400000072');
  for (const [from, to] of cables) f.cables.set(from, to);
  f.pass(2500);
  expect(linkIds(f)).toEqual([`${HV1}:1`, `${CORE}:1`].sort());
});

test('a link that came up while a switch told nothing is found when it does, whoever was seen through it', () => {
  const f = twoHypervisors();
  for (let i = 0; i < 4; i++) f.pass(1000);
  const cables = new Map(f.cables);
  f.setCable(CORE, 1, false);
  f.cables.clear();
  f.setCable(CORE, 1, true);
  f.setCable(HV1, 1, true);
  // Connected all the time, but neither counters nor probes come.
  for (let i = 0; i < 12; i++) {
    f.nowMs += 1000;
    f.send({ kind: 'tick' });
  }
  hostAt(f, CORE, 1);
  hostAt(f, HV1, 1, '525400000071');
  for (const [from, to] of cables) f.cables.set(from, to);
  for (let i = 0; i < 3; i++) f.pass(1000);
  expect(linkIds(f)).toEqual(FOUR);
});

test('a link that came up while one of its switches was away is found when that is back, whoever was seen through it', () => {
  const f = twoHypervisors();
  const cables = new Map(f.cables);
  f.setCable(CORE, 1, false);
  // The ports come up one after the other, and before a probe has crossed the switch is gone.
  f.cables.clear();
  f.setCable(CORE, 1, true);
  f.setCable(HV1, 1, true);
  f.disconnect(HV1);
  for (let i = 0; i < 12; i++) f.pass(1000);
  hostAt(f, CORE, 1);
  for (const [from, to] of cables) f.cables.set(from, to);
  f.connect(HV1);
  f.pass(2500);
  expect(linkIds(f)).toEqual(FOUR);
});

test('silence is what the policy says', () => {
  const discovery = { ...DEFAULT_POLICY.discovery, probeMs: 200, silenceMs: 600 };
  const f = twoHypervisors({ policy: { ...DEFAULT_POLICY, discovery } });
  f.cables.clear();
  f.pass(300);
  f.pass(200);
  expect(linkIds(f)).toEqual(FOUR);
  f.pass(200);
  expect(linkIds(f)).toEqual([]);
});

test('a controller that was held up takes no link for silent by that', () => {
  const f = twoHypervisors();
  const { silenceMs, probeMs } = DEFAULT_POLICY.discovery;
  const cables = new Map(f.cables);
  // nothing was sent meanwhile, so nothing could arrive
  f.pass(3 * silenceMs);
  f.pass(probeMs);
  expect(logged(f, 'link.lost')).toEqual([]);
  expect(linkIds(f)).toEqual(FOUR);
  // what stays silent from then on is lost all the same
  f.cables.clear();
  for (let ms = 0; ms <= silenceMs; ms += probeMs) f.pass(probeMs);
  expect(linkIds(f)).toEqual([]);
  for (const [from, to] of cables) f.cables.set(from, to);
  f.pass(2 * probeMs);
  expect(linkIds(f)).toEqual(FOUR);
});

test('a port that goes down takes its links along at once', () => {
  const f = twoHypervisors();
  const port = { portNo: 1, name: 'to-hv1', hwAddr: '0e:00:00:00:c0:01', speedBps: 0, isUp: false };
  f.send({ kind: 'portChanged', dpid: CORE, change: 'modified', port });
  expect(linkIds(f)).toEqual([`${HV2}:1`, `${CORE}:2`].sort());
  expect(logged(f, 'link.lost')).toHaveLength(2);
});

test('a flood of forgeries is counted, and neither a flood of logs nor of feed messages', () => {
  const f = twoHypervisors();
  const published = () => f.effects.filter((e) => e.kind === 'publish' && e.topic === 'topology').length;
  const frame = buildLldp(
    { dpid: HV2, portNo: EDGE, sourceMac: '0e:00:00:00:02:03', ttlSeconds: 10, serial: 1, sentMs: f.nowMs },
    makeSeal(Buffer.alloc(32, 9)),
  );
  const before = published();
  for (let i = 0; i < 1000; i++) arrive(f, CORE, EDGE, frame);
  f.pass(100);
  for (let i = 0; i < 1000; i++) arrive(f, CORE, EDGE, frame);
  f.pass(100);
  expect(logged(f, 'lldp.refused')).toEqual([
    {
      kind: 'log',
      level: 'warn',
      event: 'lldp.refused',
      fields: { port: `${CORE}:${EDGE}`, ...none, forged: 1000 },
    },
  ]);
  expect(published() - before).toBe(1);
  f.pass(5000);
  expect(logged(f, 'lldp.refused')).toHaveLength(2);
  expect(counts(f, CORE, EDGE)).toMatchObject({ forged: 2000 });
});
