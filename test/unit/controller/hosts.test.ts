/** Hosts that turn up elsewhere, ports that just came up, and who is asked for an address, in `controller/core`. */
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { HOLD_MS, MOST_MOVES, MOVE_WINDOW_MS } from '../../../controller/core/hostMoves.ts';
import { topologyView } from '../../../controller/core/views.ts';
import { arpPacket, BROADCAST } from '../../../sim/packet.ts';
import {
  CLIENT_MAC,
  CORE,
  CORE_1,
  CORE_2,
  Fabric,
  GUEST_MAC,
  HV1,
  HV2,
  LOCAL,
  twoCores,
  twoHypervisors,
} from './fabric.ts';

const word = { eth_src: CLIENT_MAC, eth_dst: BROADCAST, eth_type: 0x9000 };
const places = (out: { at: string }[]) => out.map((o) => o.at).sort();
const at = (f: Fabric) => f.state.topology.locations.get(CLIENT_MAC)?.at;
const AT_CORE = { dpid: CORE, portNo: 3 };
const AT_HV2 = { dpid: HV2, portNo: 3 };
const sayAt = (f: Fabric, ref: { dpid: string; portNo: number }) => f.inject(ref.dpid, ref.portNo, word);
const logged = (f: Fabric, event: string) => f.effects.filter((e) => e.kind === 'log' && e.event === event).length;

describe('a host that turns up elsewhere', () => {
  test('is believed: it may have moved', () => {
    const f = twoHypervisors();
    sayAt(f, AT_CORE);
    sayAt(f, AT_HV2);
    expect(at(f)).toEqual(AT_HV2);
    expect(topologyView(f.state).hostMoves).toMatchObject([{ mac: CLIENT_MAC, moves: 1, refused: 0, heldUntilMs: 0 }]);
  });

  test('to and fro is left where it is for a while, counted and logged once, and believed again afterwards', () => {
    const f = twoHypervisors();
    sayAt(f, AT_CORE);
    for (let i = 0; i < MOST_MOVES; i++) sayAt(f, i % 2 === 0 ? AT_HV2 : AT_CORE);
    expect(at(f)).toEqual(AT_HV2);
    for (let i = 0; i < 50; i++) {
      sayAt(f, AT_CORE);
      sayAt(f, AT_HV2);
    }
    expect(at(f)).toEqual(AT_HV2);
    expect(logged(f, 'host.flapping')).toBe(1);
    const held = topologyView(f.state).hostMoves?.[0];
    expect(held).toMatchObject({ moves: MOST_MOVES, refused: 50, to: AT_CORE });
    expect(held?.heldUntilMs).toBe(f.nowMs + HOLD_MS);
    f.pass(HOLD_MS + 1);
    sayAt(f, AT_CORE);
    expect(at(f)).toEqual(AT_CORE);
  });

  test('now and then is believed each time', () => {
    const f = twoHypervisors();
    sayAt(f, AT_CORE);
    for (let i = 0; i < 3 * MOST_MOVES; i++) {
      f.pass(MOVE_WINDOW_MS / 2);
      sayAt(f, i % 2 === 0 ? AT_HV2 : AT_CORE);
      expect(at(f)).toEqual(i % 2 === 0 ? AT_HV2 : AT_CORE);
    }
    expect(logged(f, 'host.flapping')).toBe(0);
  });

  test('from a port that went down is no flapping', () => {
    const f = twoHypervisors();
    sayAt(f, AT_CORE);
    for (let i = 0; i < 3 * MOST_MOVES; i++) {
      const [from, to] = i % 2 === 0 ? [AT_CORE, AT_HV2] : [AT_HV2, AT_CORE];
      f.setCable(from.dpid, from.portNo, false);
      f.setCable(to.dpid, to.portNo, true);
      f.pass(1000);
      sayAt(f, to);
      expect(at(f)).toEqual(to);
    }
  });

  test('is published and logged at a limited rate', () => {
    const f = twoHypervisors();
    sayAt(f, AT_CORE);
    for (let i = 0; i <= MOST_MOVES; i++) sayAt(f, i % 2 === 0 ? AT_HV2 : AT_CORE);
    f.pass(6000);
    const before = f.effects.length;
    for (let i = 0; i < 500; i++) sayAt(f, AT_CORE);
    const published = f.effects.slice(before).filter((e) => e.kind === 'publish' && e.topic === 'topology');
    expect(published.length).toBe(0);
    f.pass(6000);
    const after = f.effects.slice(before).filter((e) => e.kind === 'publish' && e.topic === 'topology');
    expect(after.length).toBeGreaterThan(0);
  });

  test('an announced migration passes at once, however often', () => {
    const f = twoHypervisors();
    const guest = { name: 'g1', mac: GUEST_MAC, memoryMiB: 1, vcpus: 1, machine: 'pc', accel: 'emulated' as const };
    for (let i = 0; i < 10; i++) {
      const [here, gone] = i % 2 === 0 ? ['hv2', 'hv1'] : ['hv1', 'hv2'];
      const info = { spec: guest, state: 'running' as const, portName: 'tap1' };
      f.send({ kind: 'agentMessage', host: gone, message: { type: 'guests', guests: [] } });
      f.send({ kind: 'agentMessage', host: here, message: { type: 'guests', guests: [info] } });
      expect(f.state.topology.locations.get(GUEST_MAC)?.at).toEqual({ dpid: i % 2 === 0 ? HV2 : HV1, portNo: 2 });
    }
    expect(f.state.discovery.hostMoves.size).toBe(0);
  });
});

describe('a port that just came up', () => {
  test('is no edge until a link behind it would have been found: a network with circles is not flooded round', () => {
    const f = new Fabric();
    for (const dpid of [CORE, CORE_1, CORE_2]) f.addSwitch(dpid, { 1: 'a', 2: 'b', 3: 'edge' });
    f.cable(CORE, 1, CORE_1, 2);
    f.cable(CORE_1, 1, CORE_2, 2);
    f.cable(CORE_2, 1, CORE, 2);
    // Their probes are lost: what the controller knows is three switches with three ports each.
    const cables = new Map(f.cables);
    f.cables.clear();
    for (const dpid of [CORE, CORE_1, CORE_2]) f.connect(dpid);
    for (const [k, v] of cables) f.cables.set(k, v);
    expect(places(f.inject(CORE, 3, word))).toEqual([]);
    expect(f.state.topology.locations.size).toBe(0);
    f.pass(2500);
    expect(f.state.topology.links.size).toBe(6);
    expect(places(f.inject(CORE, 3, word))).toEqual([`${CORE_1}:3`, `${CORE_2}:3`].sort());
    expect(at(f)).toEqual({ dpid: CORE, portNo: 3 });
  });

  test('where a guest is attached it counts at once', () => {
    const f = twoHypervisors();
    f.setCable(HV1, 2, false);
    f.setCable(HV1, 2, true);
    expect(places(sayAtCore(f))).toContain(`${HV1}:2`);
    f.setCable(HV2, 2, false);
    f.setCable(HV2, 2, true);
    expect(places(sayAtCore(f))).not.toContain(`${HV2}:2`);
    f.pass(1000);
    expect(places(sayAtCore(f))).toContain(`${HV2}:2`);
  });
  const sayAtCore = (f: Fabric) => sayAt(f, AT_CORE);
});

describe('senders at one port', () => {
  const sender = (n: number) =>
    `02:00:00:01:${[n >> 8, n & 255].map((x) => x.toString(16).padStart(2, '0')).join(':')}`;
  const policy = { ...DEFAULT_POLICY, discovery: { ...DEFAULT_POLICY.discovery, maxHostsPerPort: 10 } };

  test('are learned up to a limit; those of other ports, and the ones that are known, go on', () => {
    const f = twoHypervisors({ policy });
    const hosts = () => f.state.topology.locations.size;
    const before = hosts();
    for (let n = 0; n < 1500; n++) f.inject(CORE, 3, { ...word, eth_src: sender(n) });
    expect(hosts()).toBe(before + 10);
    expect(
      f.switches
        .get(HV1)
        ?.tables.flows()
        .filter((x) => JSON.stringify(x.match).includes('02:00:00:01')).length,
    ).toBe(10);
    // the first that was not learned, the tenth, the hundredth, the thousandth
    expect(logged(f, 'port.crowded')).toBe(4);
    sayAt(f, AT_HV2);
    expect(at(f)).toEqual(AT_HV2);
    f.inject(HV2, 3, { ...word, eth_src: sender(3) });
    expect(f.state.topology.locations.get(sender(3))?.at).toEqual(AT_HV2);
    f.inject(CORE, 3, { ...word, eth_src: sender(2000) });
    expect(f.state.topology.locations.get(sender(2000))?.at).toEqual(AT_CORE);
  });
});

describe('who asks for an address', () => {
  const ask = (tpa: string, spa = '10.0.0.100') => arpPacket({ op: 1, sha: CLIENT_MAC, spa, tpa, dst: BROADCAST });

  test('of a guest asks its port and no other', () => {
    const f = twoCores();
    expect(places(f.inject(CORE_1, 3, ask('10.0.0.9')))).toEqual([`${HV1}:2`]);
  });

  test('of anyone else asks everyone, once', () => {
    const f = twoCores();
    const out = places(f.inject(CORE_1, 3, ask('10.0.0.77')));
    expect(out).toEqual(
      [`${HV1}:2`, `${HV1}:3`, `${HV1}:${LOCAL}`, `${HV2}:2`, `${HV2}:3`, `${HV2}:${LOCAL}`, `${CORE_2}:3`].sort(),
    );
  });

  test('announces itself to everyone', () => {
    const f = twoCores();
    const announcement = arpPacket({ op: 1, sha: GUEST_MAC, spa: '10.0.0.9', tpa: '10.0.0.9', dst: BROADCAST });
    expect(places(f.inject(HV1, 2, announcement))).toContain(`${CORE_1}:3`);
  });
});
