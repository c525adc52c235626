/** Guests that keep their address in a fabric which only an IP network joins with their own: `controller/core/overlays.ts`. */
import { FEATURE, parseCookie } from '../../../controller/core/cookies.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import { initialState } from '../../../controller/core/state.ts';
import { tunnelName } from '../../../controller/core/tunnels.ts';
import { arpPacket, type Packet } from '../../../sim/packet.ts';
import { CLIENT_MAC, CORE_1, CORE_2, type Fabric, GUEST_MAC, guest, HV1, HV2, HV3, LOCAL, UPLINK } from './fabric.ts';
import {
  ask,
  CLIENT_2,
  ip,
  islands,
  jobOf,
  move,
  outOf,
  pair,
  portsOfTunnels,
  report,
  say,
  tunnels,
} from './islands.ts';

const SECOND = '52:54:00:00:00:0a';
const ALL = 'ff:ff:ff:ff:ff:ff';
const flowsOf = (f: Fabric, ...features: number[]) =>
  [...f.switches.values()]
    .flatMap((s) => s.tables.flows())
    .filter((x) => features.includes(parseCookie(x.cookie)?.feature ?? 0));

test('the stream is reserved on both fabrics, and leaves and enters by the ports that lead to the IP network', () => {
  const f = islands();
  ask(f, 'm-1', 'hv2');
  expect(jobOf(f, 'm-1')).toMatchObject({
    state: 'copying',
    dpids: [HV1, CORE_1, CORE_2, HV2],
    links: [`${HV1}:1`, `${CORE_1}:9`, `${CORE_2}:1`],
    enforcement: 'queue',
  });
  const stream: Packet = {
    ...{ ...ip('0e:00:00:00:00:01', '0e:00:00:00:00:99'), ip_proto: 6 },
    ...{ ipv4_src: '10.0.0.1', ipv4_dst: '10.1.0.2', tcp_src: 40000, tcp_dst: 49152 },
  };
  expect(f.inject(HV1, LOCAL, stream)).toMatchObject([{ at: `${CORE_1}:9`, queue: 1 }]);
  expect(f.inject(CORE_2, 9, stream)).toMatchObject([{ at: `${HV2}:${LOCAL}` }]);
  const answer = { ...stream, ipv4_src: '10.1.0.2', ipv4_dst: '10.0.0.1', tcp_src: 49152, tcp_dst: 40000 };
  expect(outOf(f, HV2, LOCAL, answer)).toEqual([`${CORE_2}:9`]);
});

describe('a guest away from home', () => {
  const away = () => {
    const f = islands();
    move(f, 'm-1', 'hv1', 'hv2');
    return f;
  };

  test('is reached from its network, and reaches it, for as long as it is away', () => {
    const f = away();
    for (let i = 0; i < 30; i++) f.pass(2500);
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC))).toEqual([`${HV2}:2`]);
    expect(outOf(f, HV1, 3, ip('52:54:00:00:00:c9', GUEST_MAC))).toEqual([`${HV2}:2`]);
    expect(outOf(f, HV2, 2, ip(GUEST_MAC, CLIENT_MAC))).toEqual([`${CORE_1}:3`]);
    expect(portsOfTunnels(f)).toEqual(pair(HV1, HV2));
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: HV1, host: 'hv2', isAway: true });
    expect(flowsOf(f, FEATURE.moved, FEATURE.stream, FEATURE.answer)).toEqual([]);
  });

  test('hears what is for all of its network and speaks to all of it, and to nobody beside it', () => {
    const f = away();
    const home = [`${CORE_1}:3`, `${CORE_1}:9`, `${HV1}:2`, `${HV1}:3`, `${HV1}:${LOCAL}`].sort();
    expect(outOf(f, HV2, 2, ip(GUEST_MAC, ALL))).toEqual(home);
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, ALL))).toEqual(
      [...home.filter((p) => p !== `${CORE_1}:3`), `${HV2}:2`].sort(),
    );
    const there = outOf(f, CORE_2, 3, ip(CLIENT_2, ALL));
    expect(there.every((p) => p.startsWith(CORE_2) || p.startsWith(HV2) || p.startsWith(HV3))).toBe(true);
    // Its gateway's answer to an ARP request, and its own to somebody's.
    const ask = arpPacket({ op: 1, sha: GUEST_MAC, spa: '10.0.0.9', tpa: '10.0.0.100' });
    expect(outOf(f, HV2, 2, ask)).toContain(`${CORE_1}:3`);
    const asked = arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.9' });
    expect(outOf(f, CORE_1, 3, asked)).toContain(`${HV2}:2`);
    // Frames of bridges are nobody else's.
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, '01:80:c2:00:00:00'))).toEqual([]);
  });

  test('sends into no other network, whatever address it uses there, and nobody there is it', () => {
    const f = away();
    expect(outOf(f, HV2, 2, ip(GUEST_MAC, CLIENT_2)).some((p) => p.startsWith(CORE_2))).toBe(false);
    // Somebody at another port of its switch who claims to be it does not get into its network.
    expect(outOf(f, HV2, 3, ip(GUEST_MAC, CLIENT_MAC)).some((p) => p.startsWith(CORE_1))).toBe(false);
    // Nor does what comes out of the tunnel with another key, or for another than the guest.
    const [, port] = [...f.state.tunnelPorts].find(([id]) => id.startsWith(HV2)) as [string, number];
    expect(outOf(f, HV2, port, ip(CLIENT_MAC, GUEST_MAC))).toEqual([]);
  });

  test('is known to a controller that starts anew, which changes nothing', () => {
    const f = away();
    const entries = JSON.parse(JSON.stringify(journalOf(f.state, f.nowMs))) as Record<string, unknown>[];
    const before = flowsOf(f, FEATURE.away).length;
    expect(before).toBeGreaterThan(5);
    const { settings, policy, policyStatus, nextNumber } = f.state;
    f.state = restoreJobs(initialState(settings, policy, policyStatus, f.nowMs), entries);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: HV1, at: { dpid: HV2, portNo: 2 } });
    expect(f.state.nextNumber).toBe(nextNumber);
    const marked = f.effects.length;
    for (const dpid of [HV1, HV2, HV3, CORE_1, CORE_2]) f.connect(dpid);
    const whole = () => [outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC)), outOf(f, HV2, 2, ip(GUEST_MAC, CLIENT_MAC))];
    expect(whole()[0]).toEqual([`${HV2}:2`]);
    f.agentUp('hv1', HV1, '10.0.0.1', []);
    f.agentUp('hv2', HV2, '10.1.0.2', [guest()]);
    f.agentUp('hv3', HV3, '10.1.0.3', []);
    for (let i = 0; i < 10; i++) f.pass(2500);
    f.inject(CORE_1, 3, arpPacket({ op: 1, sha: CLIENT_MAC, spa: '10.0.0.100', tpa: '10.0.0.7' }));
    expect(whole()).toEqual([[`${HV2}:2`], [`${CORE_1}:3`]]);
    expect(portsOfTunnels(f)).toEqual(pair(HV1, HV2));
    expect(f.effects.slice(marked).filter((e) => e.kind === 'tunnel' && e.port === null)).toEqual([]);
    expect(flowsOf(f, FEATURE.away)).toHaveLength(before);
  });

  test('goes on to another host there: its tunnel goes with it', () => {
    const f = away();
    ask(f, 'm-2', 'hv3');
    expect(portsOfTunnels(f)).toEqual([...pair(HV1, HV2), ...pair(HV1, HV3)].sort());
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC))).toEqual([`${HV2}:2`]);
    say(f, 'hv2', 'm-2', 'preSwitchover');
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC))).toEqual([`${HV3}:2`]);
    // What was still in the old tunnel follows.
    const key = BigInt(f.state.overlays.get('g1')?.key ?? 0);
    const late = f.switches
      .get(HV1)
      ?.tables.process(ip(CLIENT_MAC, GUEST_MAC), UPLINK, { nowMs: f.nowMs, tunnelId: key });
    expect(late?.outputs.map((o) => o.tunnelId)).toEqual([key]);
    const [, old] = [...f.state.tunnelPorts].find(([id]) => id === `${HV2}/${tunnelName(HV1)}`) as [string, number];
    const left = f.switches.get(HV2)?.tables.process(ip(CLIENT_MAC, GUEST_MAC), old, { nowMs: f.nowMs, tunnelId: key });
    expect(left?.outputs.map((o) => o.port)).toEqual([UPLINK]);
    say(f, 'hv3', 'm-2', 'resumed');
    say(f, 'hv2', 'm-2', 'completed');
    report(f, { hv2: [], hv3: [guest()] });
    for (let i = 0; i < 5; i++) f.pass(1000);
    expect(portsOfTunnels(f)).toEqual(pair(HV1, HV3));
    expect(outOf(f, HV3, 2, ip(GUEST_MAC, CLIENT_MAC))).toEqual([`${CORE_1}:3`]);
  });

  test('comes home: everything is taken down, and it is an ordinary guest', () => {
    const f = away();
    move(f, 'm-2', 'hv2', 'hv1');
    expect(f.state.overlays.size).toBe(0);
    expect(portsOfTunnels(f)).toEqual([]);
    expect(flowsOf(f, FEATURE.away, FEATURE.moved)).toEqual([]);
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC))).toEqual([`${HV1}:2`]);
    expect(f.state.decisions.map((d) => d.reason.rule)).toContain('overlay.home');
  });

  test('ends: its tunnel goes when no agent has reported it for a while, but not while its agent is away', () => {
    const f = away();
    f.send({ kind: 'agentDown', host: 'hv2' });
    for (let i = 0; i < 10; i++) f.pass(2500);
    expect(portsOfTunnels(f)).toEqual(pair(HV1, HV2));
    f.agentUp('hv2', HV2, '10.1.0.2', []);
    f.pass(2500);
    expect(portsOfTunnels(f)).toEqual(pair(HV1, HV2));
    for (let i = 0; i < 4; i++) f.pass(2500);
    expect(portsOfTunnels(f)).toEqual([]);
    expect(flowsOf(f, FEATURE.away)).toEqual([]);
    expect(f.state.decisions.map((d) => d.reason.rule)).toContain('overlay.ended');
  });

  test('the fabrics are joined by a link: the guest is reached over it', () => {
    const f = away();
    for (const dpid of [CORE_1, CORE_2]) f.switches.get(dpid)?.ports.set(8, 'between');
    f.cable(CORE_1, 8, CORE_2, 8);
    for (const dpid of [CORE_1, CORE_2]) f.connect(dpid);
    for (let i = 0; i < 4; i++) f.pass(2500);
    expect(portsOfTunnels(f)).toEqual([]);
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC))).toEqual([`${HV2}:2`]);
  });

  test('it is found there after its migration was given up: it gets its tunnel, once', () => {
    const f = islands();
    ask(f, 'm-1', 'hv2');
    expect(jobOf(f, 'm-1').state).toBe('copying');
    f.send({ kind: 'agentDown', host: 'hv1' });
    f.send({ kind: 'forget', id: 'm-1' });
    for (let i = 0; i < 3; i++) f.pass(1000);
    expect([jobOf(f, 'm-1').state, portsOfTunnels(f)]).toEqual(['lost', []]);
    report(f, { hv2: [guest()] });
    say(f, 'hv2', 'm-1', 'resumed');
    for (let i = 0; i < 4; i++) f.pass(1000);
    expect(f.state.overlays.get('g1')).toMatchObject({ anchor: HV1, isAway: true, tunnel: { state: 'works' } });
    expect(portsOfTunnels(f)).toEqual(pair(HV1, HV2));
    report(f, { hv2: [] });
    for (let i = 0; i < 40; i++) f.pass(1000);
    expect([f.state.overlays.size, portsOfTunnels(f)]).toEqual([0, []]);
    report(f, { hv2: [guest()] });
    for (let i = 0; i < 3; i++) f.pass(1000);
    expect(f.state.overlays.size).toBe(0);
  });

  test('a copy that fails after the guest was stopped leaves it at home', () => {
    const f = islands();
    ask(f, 'm-1', 'hv2');
    say(f, 'hv1', 'm-1', 'preSwitchover');
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC))).toEqual([`${HV2}:2`]);
    say(f, 'hv1', 'm-1', 'failed');
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC))).toEqual([`${HV1}:2`]);
    expect(portsOfTunnels(f)).toEqual([]);
    expect(f.state.overlays.size).toBe(0);
  });
});

test('two guests away at one host speak to each other there, and both hear what is for all', () => {
  const second = guest('g2', SECOND, 'tap2');
  second.spec.ip = '10.0.0.10';
  const f = islands({}, [guest(), second]);
  move(f, 'm-1', 'hv1', 'hv2');
  move(f, 'm-2', 'hv1', 'hv2', second);
  expect(outOf(f, HV2, 2, ip(GUEST_MAC, SECOND))).toEqual([`${HV2}:3`]);
  expect(outOf(f, HV2, 3, ip(SECOND, GUEST_MAC))).toEqual([`${HV2}:2`]);
  expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, SECOND))).toEqual([`${HV2}:3`]);
  const toAll = outOf(f, HV2, 2, ip(GUEST_MAC, ALL));
  expect(toAll).toContain(`${HV2}:3`);
  expect(toAll).toContain(`${CORE_1}:3`);
  expect(new Set(toAll).size).toBe(toAll.length);
  expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, ALL))).toEqual(expect.arrayContaining([`${HV2}:2`, `${HV2}:3`]));
  // One of them goes on to another host: they still reach each other, in both directions.
  move(f, 'm-3', 'hv2', 'hv3');
  expect(outOf(f, HV3, 2, ip(GUEST_MAC, SECOND))).toEqual([`${HV2}:3`]);
  expect(outOf(f, HV2, 3, ip(SECOND, GUEST_MAC))).toEqual([`${HV3}:2`]);
  expect(outOf(f, HV3, 2, ip(GUEST_MAC, ALL))).toContain(`${HV2}:3`);
  // And home: what the one away sends to it goes through the tunnel, like all it sends.
  move(f, 'm-4', 'hv3', 'hv1');
  expect(outOf(f, HV2, 3, ip(SECOND, GUEST_MAC))).toEqual([`${HV1}:2`]);
  expect(outOf(f, HV1, 2, ip(GUEST_MAC, SECOND))).toEqual([`${HV2}:3`]);
});

describe('a move that would cut the guest off is not begun', () => {
  const noteOf = (f: Fabric) => {
    ask(f, 'm-1', 'hv2');
    return `${jobOf(f, 'm-1').state}: ${jobOf(f, 'm-1').note}`;
  };

  test('where no port leads to an IP network', () => {
    expect(noteOf(islands({ ipPorts: [] }))).toMatch(/queued: no path .*ipNetwork/);
  });

  test('where a switch has no address for a tunnel', () => {
    const some = { ...tunnels, addressOf: (dpid: string) => (dpid === HV1 ? '192.0.2.1' : undefined) };
    expect(noteOf(islands({ tunnels: some }))).toMatch(
      new RegExp(`failed: .*give switch ${HV2} ovsdb and tunnelAddress`),
    );
  });

  test('where switches forward by learning', () => {
    expect(noteOf(islands({ forwarding: 'normal' }))).toMatch(/failed: .*forwarding: managed only/);
  });

  test('where no probe comes through', () => {
    const f = islands({}, [guest()], (x) => {
      x.tunnelsBlocked = true;
    });
    expect(noteOf(f)).toMatch(/preparing/);
    f.pass(8000);
    expect(jobOf(f, 'm-1')).toMatchObject({ state: 'failed' });
    expect(jobOf(f, 'm-1').note).toMatch(/cut off from its network at hv2: no probe came through the vxlan tunnel/);
    expect(portsOfTunnels(f)).toEqual([]);
    expect(outOf(f, CORE_1, 3, ip(CLIENT_MAC, GUEST_MAC))).toEqual([`${HV1}:2`]);
  });

  test('and whether the frames of one that goes fit is in its record', () => {
    const f = islands({}, [guest()], (x) => {
      x.mtus = { tap1: 1500, up: 1500 };
    });
    ask(f, 'm-1', 'hv2');
    expect(jobOf(f, 'm-1').state).toBe('copying');
    const found = jobOf(f, 'm-1').reasons.filter((r) => r.rule.startsWith('tunnel.'));
    expect(found.map((r) => r.rule)).toEqual(['tunnel.ready', 'tunnel.mtu']);
    expect(found[1]?.text).toMatch(/at least 1550, or the guest one of at most 1450/);
  });

  test('and one whose tunnel carries before its ports are confirmed waits for what is said of their sizes', () => {
    const late: (() => void)[] = [];
    const f = islands({}, [guest()], (x) => {
      x.mtus = { tap1: 1500, up: 1500 };
      x.lateTunnels = late;
    });
    ask(f, 'm-1', 'hv2');
    f.pass(1000);
    expect([...f.state.tunnels.values()].map((x) => x.provenMs !== null)).toEqual([true, true]);
    expect(jobOf(f, 'm-1').state).toBe('preparing');
    for (const confirm of late.splice(0)) confirm();
    f.pass(250);
    expect(jobOf(f, 'm-1').state).toBe('copying');
    expect(jobOf(f, 'm-1').reasons.map((r) => r.rule)).toEqual(expect.arrayContaining(['tunnel.ready', 'tunnel.mtu']));
  });
});
