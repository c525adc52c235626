/**
 * What becomes of the tunnel of a guest away from home, and of its anchor: `controller/core/tunnelWatch.ts` and `anchors.ts`. Somebody
 * deletes a port, the network under it fails, a database goes, the switch dies.
 */
import { explainJob } from '../../../controller/core/explain.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import { initialState } from '../../../controller/core/state.ts';
import { tunnelName } from '../../../controller/core/tunnels.ts';
import { topologyView } from '../../../controller/core/views.ts';
import { CLIENT_MAC, CORE_1, CORE_2, type Fabric, GUEST_MAC, guest, HV1, HV2, HV3 } from './fabric.ts';
import { ip, islands, jobOf, move, outOf, pair, portsOfTunnels, tunnels } from './islands.ts';

const ALL = 'ff:ff:ff:ff:ff:ff';
const NEIGHBOUR = '52:54:00:00:00:c9';
/** With it the core of the home network may be an anchor too. */
const withReserve = {
  ...tunnels,
  addressOf: (dpid: string) => (dpid === CORE_1 ? '192.0.2.9' : tunnels.addressOf(dpid)),
};

function away(o: Parameters<typeof islands>[0] = {}): Fabric {
  const f = islands(o);
  move(f, 'm-1', 'hv1', 'hv2');
  for (let i = 0; i < 4; i++) f.pass(2500);
  expect(standing(f)).toMatchObject({ state: 'works', why: null });
  f.state = { ...f.state, decisions: [] };
  return f;
}
const awayOf = (f: Fabric) => topologyView(f.state).away?.find((a) => a.guest === 'g1');
const standing = (f: Fabric) => awayOf(f)?.tunnel;
const rules = (f: Fabric) => f.state.decisions.map((d) => d.reason.rule).filter((r) => r.startsWith('overlay.'));
const said = (f: Fabric, rule: string) => f.state.decisions.find((d) => d.reason.rule === rule)?.reason.text;
const explained = (f: Fabric) => explainJob(f.state, jobOf(f, 'm-1'), f.nowMs).summary;
const portOf = (f: Fabric, dpid: string, towards: string) =>
  [...(f.switches.get(dpid)?.ports ?? [])].find(([, name]) => name === tunnelName(towards))?.[0] as number;
const pass = (f: Fabric, seconds: number) => {
  for (let i = 0; i < seconds; i++) f.pass(1000);
};
/** Whether the client at home reaches the guest, and the guest it. */
const isJoined = (f: Fabric) =>
  outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC)).join() === `${HV2}:2` &&
  outOf(f, HV2, 2, ip(GUEST_MAC, CLIENT_MAC)).join() === `${CORE_1}:3`;

describe('a tunnel that fails while its guest is away', () => {
  test.each([
    ['at its anchor', HV1, HV2],
    ['where it is', HV2, HV1],
  ])('a port that somebody deletes %s is made again at once, and that is told', (_where, dpid, far) => {
    const f = away();
    f.dropPort(dpid, portOf(f, dpid, far));
    expect(isJoined(f)).toBe(true);
    pass(f, 3);
    expect(portsOfTunnels(f)).toEqual(pair(HV1, HV2));
    expect(rules(f)).toEqual(['overlay.broken', 'overlay.carries']);
    expect(said(f, 'overlay.broken')).toContain(`port ${tunnelName(far)} of br0 is gone: it is made again`);
    expect(isJoined(f)).toBe(true);
  });

  test('one that cannot be made again is told of everywhere, with the reason, until it is there', () => {
    const f = away();
    f.tunnelNote = () => 'the disk is full';
    f.dropPort(HV1, portOf(f, HV1, HV2));
    pass(f, 5);
    const why = `port ${tunnelName(HV2)} of br0 is gone: the disk is full`;
    expect(standing(f)).toMatchObject({ state: 'broken', why });
    expect(explained(f)).toMatch(
      /it is done; its tunnel to br0, .* does not carry \(port .* is gone: the disk is full\)/,
    );
    expect(isJoined(f)).toBe(false);
    f.tunnelNote = () => '';
    pass(f, 30);
    expect(standing(f)).toMatchObject({ state: 'works', why: null });
    expect(explained(f)).toMatch(/keeps its address through a tunnel to br0, which carries$/);
    expect(rules(f).at(-1)).toBe('overlay.carries');
    expect(isJoined(f)).toBe(true);
  });

  test('when the network under it fails, probes tell; its ports are made sure of, ever less often', () => {
    const f = away();
    f.tunnelsBlocked = true;
    const from = f.effects.length;
    pass(f, 8);
    expect(standing(f)).toMatchObject({ state: 'works' });
    pass(f, 60);
    expect(standing(f)?.why).toMatch(
      /^no probe comes through it in either direction: check that tunnelAddress .* UDP port 4789/,
    );
    const orders = f.effects.slice(from).filter((e) => e.kind === 'tunnel');
    expect(orders.every((e) => e.port !== null)).toBe(true);
    expect(orders.length).toBeGreaterThan(2);
    expect(orders.length).toBeLessThan(16);
    f.tunnelsBlocked = false;
    pass(f, 5);
    expect(standing(f)).toMatchObject({ state: 'works', why: null });
    expect(said(f, 'overlay.carries')).toMatch(/carries again, after/);
    // Probes go on as before, and no order is given any more.
    const settled = f.effects.length;
    pass(f, 30);
    expect(f.effects.slice(settled).filter((e) => e.kind === 'tunnel')).toEqual([]);
    expect(rules(f).filter((r) => r === 'overlay.broken')).toHaveLength(1);
  });

  test('a port that somebody takes down is made anew', () => {
    const f = away();
    f.setCable(HV1, portOf(f, HV1, HV2), false);
    expect(standing(f)).toMatchObject({ state: 'broken', why: expect.stringContaining('is down: it is made anew') });
    pass(f, 6);
    expect(standing(f)).toMatchObject({ state: 'works' });
    expect(portsOfTunnels(f)).toEqual(pair(HV1, HV2));
    expect(isJoined(f)).toBe(true);
  });

  test('a switch at its end out of touch proves nothing: it goes on as it is', () => {
    const f = away();
    f.disconnect(HV2);
    pass(f, 20);
    expect(standing(f)).toMatchObject({ state: 'unknown', why: 'br0: not connected to the controller' });
    expect(isJoined(f)).toBe(true);
    f.connect(HV2);
    pass(f, 3);
    expect(standing(f)).toMatchObject({ state: 'works' });
    expect(rules(f)).toEqual([]);
  });

  test('a database that is away is told of; what was changed meanwhile is put back as soon as it answers', () => {
    const f = away();
    f.send({ kind: 'ovsdb', dpid: HV1, isThere: false });
    expect(standing(f)).toMatchObject({
      state: 'works',
      why: expect.stringContaining('(OVSDB) of br0 does not answer'),
    });
    f.tunnelNote = (dpid) => (dpid === HV1 ? 'no OVSDB' : '');
    f.dropPort(HV1, portOf(f, HV1, HV2));
    pass(f, 5);
    expect(standing(f)?.why).toMatch(/is gone: the database \(OVSDB\) of br0 does not answer/);
    f.tunnelNote = () => '';
    f.send({ kind: 'ovsdb', dpid: HV1, isThere: true });
    f.pass(250);
    expect(standing(f)).toMatchObject({ state: 'works', why: null });
    expect(isJoined(f)).toBe(true);
  });
});

/** The switch dies: nothing comes from it any more, and its neighbours see their links go. */
function kill(f: Fabric): void {
  f.disconnect(HV1);
  f.setCable(CORE_1, 1, false);
}

describe('an anchor that is lost', () => {
  test('when it dies, the next switch of the network that can have a tunnel takes its place', () => {
    const f = away({ tunnels: withReserve });
    expect(f.state.overlays.get('g1')?.reserves).toEqual([CORE_1]);
    kill(f);
    expect(isJoined(f)).toBe(false);
    pass(f, 4);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: CORE_1, former: [HV1], search: null });
    expect(rules(f)).toEqual(['overlay.anchorLost', 'overlay.anchor']);
    expect(said(f, 'overlay.anchorLost')).toMatch(/br0 is not connected, and all links to it are down/);
    expect(isJoined(f)).toBe(true);
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, ALL))).toContain(`${HV2}:2`);
    expect(outOf(f, HV2, 2, ip(GUEST_MAC, ALL))).toContain(`${CORE_1}:3`);
    expect(awayOf(f)).toMatchObject({ home: CORE_1, tunnel: { state: 'works' } });
    // And home again, to another host of its network than it left.
    f.setCable(CORE_1, 1, true);
    f.connect(HV1);
    pass(f, 5);
    move(f, 'm-2', 'hv2', 'hv1');
    expect(f.state.overlays.size).toBe(0);
    expect(portsOfTunnels(f)).toEqual([]);
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC))).toEqual([`${HV1}:2`]);
  });

  test('one that is only out of touch is waited for; then it is replaced, and who is behind it is heard as before', () => {
    const f = away({ tunnels: withReserve });
    f.disconnect(HV1);
    pass(f, 28);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: HV1, search: null });
    pass(f, 6);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: CORE_1, former: [HV1] });
    expect(isJoined(f)).toBe(true);
    // The old anchor still sends into its own tunnel: what is for the guest arrives, and what is for all once.
    expect(outOf(f, HV1, 3, ip(NEIGHBOUR, GUEST_MAC))).toEqual([`${HV2}:2`]);
    expect(outOf(f, HV1, 3, ip(NEIGHBOUR, ALL)).filter((p) => p === `${HV2}:2`)).toHaveLength(1);
    // It is back: it sends to its successor like the others, and the old tunnel goes.
    f.connect(HV1);
    pass(f, 3);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: CORE_1, former: [] });
    expect(portsOfTunnels(f)).toEqual(pair(CORE_1, HV2));
    expect(outOf(f, HV1, 3, ip(NEIGHBOUR, GUEST_MAC))).toEqual([`${HV2}:2`]);
    expect(isJoined(f)).toBe(true);
  });

  test('one that is back in time stays, and what was tried is taken down', () => {
    const f = away({ tunnels: withReserve });
    f.tunnelsBlocked = true;
    kill(f);
    pass(f, 3);
    expect(awayOf(f)).toMatchObject({ home: HV1, tunnel: { state: 'unknown', instead: CORE_1 } });
    expect(explained(f)).toMatch(/is tried in place of br0/);
    f.tunnelsBlocked = false;
    f.setCable(CORE_1, 1, true);
    f.connect(HV1);
    pass(f, 5);
    expect(awayOf(f)).toMatchObject({ home: HV1, tunnel: { state: 'works' } });
    expect(portsOfTunnels(f)).toEqual(pair(HV1, HV2));
    expect(isJoined(f)).toBe(true);
  });

  test('where there is none to take its place, that is said, once, and it is asked for again later', () => {
    const f = away();
    kill(f);
    pass(f, 60);
    expect(rules(f)).toEqual(['overlay.noAnchor']);
    expect(said(f, 'overlay.noAnchor')).toMatch(/no other switch of its network that has ovsdb and tunnelAddress/);
    expect(awayOf(f)?.tunnel).toMatchObject({ state: 'unknown', instead: null });
    expect(explained(f)).toMatch(/no other switch of its network can take the place of br0 now/);
    f.setCable(CORE_1, 1, true);
    f.connect(HV1);
    pass(f, 5);
    expect(awayOf(f)?.tunnel).toMatchObject({ state: 'works' });
    expect(isJoined(f)).toBe(true);
  });

  test('one whose tunnel carries nothing although it is there is replaced by one whose does', () => {
    const f = away({ tunnels: withReserve });
    f.isBlocked = (dpid, name) => dpid === HV1 || name === tunnelName(HV1);
    pass(f, 30);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: CORE_1, former: [] });
    expect(rules(f)).toEqual(['overlay.broken', 'overlay.anchorLost', 'overlay.anchor']);
    expect(isJoined(f)).toBe(true);
    expect(portsOfTunnels(f)).toEqual(pair(CORE_1, HV2));
  });

  test('where no tunnel of another carries, all are tried in turn, and the guest stays with the one it has', () => {
    const f = away({ tunnels: withReserve });
    f.tunnelsBlocked = true;
    pass(f, 60);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: HV1 });
    expect(rules(f)).toEqual(['overlay.broken', 'overlay.anchorLost', 'overlay.noAnchor']);
    expect(said(f, 'overlay.noAnchor')).toMatch(/no probe came through tunnels to/);
    f.tunnelsBlocked = false;
    pass(f, 40);
    expect(standing(f)).toMatchObject({ state: 'works' });
    expect(isJoined(f)).toBe(true);
  });

  test('a controller that starts anew while it is dead replaces it too, and not before switches may have come back', () => {
    const f = away({ tunnels: withReserve });
    kill(f);
    const entries = JSON.parse(JSON.stringify(journalOf(f.state, f.nowMs))) as Record<string, unknown>[];
    const { settings, policy, policyStatus } = f.state;
    f.state = restoreJobs(initialState(settings, policy, policyStatus, f.nowMs), entries);
    for (const dpid of [HV2, HV3, CORE_1, CORE_2]) f.connect(dpid);
    f.agentUp('hv2', HV2, '10.1.0.2', [guest()]);
    f.agentUp('hv3', HV3, '10.1.0.3', []);
    pass(f, 20);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: HV1, search: null });
    pass(f, 30);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: CORE_1 });
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC))).toEqual([`${HV2}:2`]);
  });

  test('one that drops again before a controller that starts anew has found its links is not taken for cut off', () => {
    const f = away({ tunnels: withReserve });
    const entries = JSON.parse(JSON.stringify(journalOf(f.state, f.nowMs))) as Record<string, unknown>[];
    const { settings, policy, policyStatus } = f.state;
    f.disconnect(HV1);
    f.state = restoreJobs(initialState(settings, policy, policyStatus, f.nowMs), entries);
    f.connect(HV1);
    f.disconnect(HV1);
    for (const dpid of [HV2, HV3, CORE_1, CORE_2]) f.connect(dpid);
    f.agentUp('hv2', HV2, '10.1.0.2', [guest()]);
    f.agentUp('hv3', HV3, '10.1.0.3', []);
    // Its cables are as they were, and nobody has looked for them yet: Open vSwitch tries again every 8 s.
    pass(f, 9);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: HV1, search: null });
    f.connect(HV1);
    f.agentUp('hv1', HV1, '10.0.0.1', []);
    pass(f, 10);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: HV1, former: [], search: null });
    expect(rules(f)).toEqual([]);
    expect(isJoined(f)).toBe(true);
  });
});
