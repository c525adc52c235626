/** Ports that send more packet-ins than they may: quenched, watched again, quenched for longer, let go; asked of the switches, not of messages. */
import fc from 'fast-check';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { FEATURE, parseCookie } from '../../../controller/core/cookies.ts';
import { PACKET_IN_LIMITS } from '../../../controller/core/packetLimits.ts';
import { restoreJobs } from '../../../controller/core/restore.ts';
import { snapshot } from '../../../controller/core/views.ts';
import type { Packet } from '../../../sim/packet.ts';
import { CLIENT_MAC, CORE, Fabric, type FabricOptions, GUEST_MAC, HV1, HV2, twoHypervisors, UPLINK } from './fabric.ts';

const PORT = 3;
const ID = `${HV1}:${PORT}`;
const WINDOW_MS = 250;
const { quenchMs } = DEFAULT_POLICY.discovery;
const KNOWN = '02:00:00:00:00:31';

const frame = (eth_src: string, eth_dst: string): Packet => ({ eth_src, eth_dst, eth_type: 0x0800, ip_proto: 1 });
let made = 0;
const stranger = () =>
  `06:00:00:${[16, 8, 0].map((n) => ((++made >> n) & 0xff).toString(16).padStart(2, '0')).join(':')}`;

/** Two hypervisors; a client at the core and a host at the port that is going to storm are known. */
function network(o: FabricOptions = {}): Fabric {
  const f = twoHypervisors(o);
  f.inject(CORE, 3, frame(CLIENT_MAC, GUEST_MAC));
  f.inject(HV1, PORT, frame(KNOWN, CLIENT_MAC));
  return f;
}

/** Whether a switch would show a frame to the controller; nobody is shown it. */
function isShown(f: Fabric, dpid: string, inPort: number, packet: Packet): boolean {
  const s = f.switches.get(dpid);
  return s !== undefined && s.tables.process(packet, inPort, { nowMs: f.nowMs, tunnelId: 0n }).toController.length > 0;
}

/** Lets time pass while a port sends frames of new senders; the switch shows them while it does not know better. */
function storm(f: Fabric, ms: number, perS = 50_000, port = PORT, dpid = HV1): void {
  for (let left = ms; left > 0; left -= WINDOW_MS) {
    const shown = isShown(f, dpid, port, frame(stranger(), CLIENT_MAC)) ? perS : 0;
    f.nowMs += WINDOW_MS;
    const other = Math.round(((shown - PACKET_IN_LIMITS.perPort.perSecond) * WINDOW_MS) / 1000);
    if (other > 0)
      f.send({ kind: 'packetInsOver', dpid, windowMs: WINDOW_MS, ports: [{ portNo: port, lldp: 0, other }] });
    f.send({ kind: 'tick' });
  }
}
function calm(f: Fabric, ms: number): void {
  for (let left = ms; left > 0; left -= WINDOW_MS) {
    f.nowMs += Math.min(left, WINDOW_MS);
    f.send({ kind: 'tick' });
  }
}
const quenches = (f: Fabric) => [...f.state.quenches.values()];
const flowsOf = (f: Fabric, ...features: number[]) =>
  [...f.switches.values()]
    .flatMap((s) => s.tables.flows())
    .filter((x) => features.includes(parseCookie(x.cookie)?.feature ?? 0));
const QUENCH = [FEATURE.quench, FEATURE.quenchUnknown, FEATURE.quenchLldp];
const logged = (f: Fabric, event: string) =>
  f.effects.flatMap((e) => (e.kind === 'log' && e.event === event ? [e.fields] : []));

test('a storm is quenched within a second: nothing of it is shown, what is known is served, others are as before', () => {
  const f = network();
  storm(f, 1000);
  expect(quenches(f)).toMatchObject([{ what: 'senders', times: 1, at: { dpid: HV1, portNo: PORT } }]);
  const at = (inPort: number, p: Packet, dpid = HV1) => f.inject(dpid, inPort, p).map((o) => o.at);
  expect(isShown(f, HV1, PORT, frame(stranger(), CLIENT_MAC))).toBe(false);
  // Known senders and unknown ones reach whom the network knows, and everybody.
  expect(at(PORT, frame(KNOWN, CLIENT_MAC))).toEqual([`${CORE}:3`]);
  expect(at(PORT, frame(stranger(), GUEST_MAC))).toEqual([`${HV1}:2`]);
  expect(at(PORT, frame(KNOWN, 'ff:ff:ff:ff:ff:ff'))).toEqual(expect.arrayContaining([`${CORE}:3`, `${HV2}:2`]));
  // What is for nobody known is not spread, where another port's is.
  expect(at(PORT, frame(stranger(), '02:00:00:00:00:99'))).toEqual([]);
  expect(at(2, frame(GUEST_MAC, '02:00:00:00:00:99'))).toContain(`${CORE}:3`);
  // The port is reached, new senders elsewhere are seen, and so are probes at the very port.
  expect(at(3, frame(CLIENT_MAC, KNOWN), CORE)).toEqual([ID]);
  expect(isShown(f, HV1, 2, frame(stranger(), CLIENT_MAC))).toBe(true);
  expect(isShown(f, CORE, 3, frame(stranger(), KNOWN))).toBe(true);
  expect(isShown(f, HV1, PORT, { eth_src: KNOWN, eth_dst: '01:80:c2:00:00:0e', eth_type: 0x88cc })).toBe(true);
});

test('the feed, the decisions and the log tell of it with its reason', () => {
  const f = network();
  storm(f, 1000);
  const port = () => snapshot(f.state, 'topology', f.nowMs).switches.find((s) => s.dpid === HV1)?.ports[PORT - 1];
  const [q] = quenches(f);
  expect(port()).toMatchObject({
    portNo: PORT,
    quenched: [{ what: 'senders', sinceMs: q?.sinceMs, untilMs: q?.untilMs, times: 1, overPerS: 49_700 }],
  });
  expect(f.state.decisions.at(-1)).toMatchObject({
    kind: 'quench',
    reason: { rule: 'quench.begun', inputs: { port: ID, what: 'senders', overPerS: 49_700, forMs: quenchMs } },
  });
  expect(logged(f, 'port.quenched')).toHaveLength(1);
  calm(f, quenchMs);
  expect(port()).not.toHaveProperty('quenched');
  expect(f.state.decisions.at(-1)?.reason).toMatchObject({ rule: 'quench.lifted', inputs: { port: ID } });
  const published = f.effects.flatMap((e) => (e.kind === 'publish' && e.topic === 'topology' ? [e.data] : []));
  const shown = published.map((d) => d.switches.some((s) => s.ports.some((p) => p.quenched)));
  expect(shown.filter((x, i) => x && !shown[i - 1])).toHaveLength(1);
  expect(shown.at(-1)).toBe(false);
});

test('a port that is over its limit for a moment, or by little, is left alone', () => {
  const f = network();
  storm(f, WINDOW_MS);
  calm(f, 1000);
  storm(f, WINDOW_MS);
  calm(f, 1000);
  storm(f, 10_000, 1.9 * PACKET_IN_LIMITS.perPort.perSecond);
  expect(logged(f, 'port.quenched')).toEqual([]);
  calm(f, 2000);
  expect(f.state.storms.size).toBe(0);
});

test('a storm that is still there when it is let go is quenched for ever longer; once it is over, all begins anew', () => {
  const f = network();
  storm(f, 1_200_000);
  const spans = logged(f, 'port.quenched').map((x) => (x as { forMs: number }).forMs / quenchMs);
  expect(spans.slice(0, 8)).toEqual([1, 2, 4, 8, 16, 32, 32, 32]);
  // Between two of them the port is over its limit for as long as it takes to see that.
  const lifted = logged(f, 'port.unquenched').length;
  expect(lifted).toBeGreaterThanOrEqual(spans.length - 1);
  calm(f, 2 * 32 * quenchMs + 1000);
  expect([f.state.quenches.size, f.state.storms.size, flowsOf(f, ...QUENCH).length]).toEqual([0, 0, 0]);
  expect(isShown(f, HV1, PORT, frame(stranger(), CLIENT_MAC))).toBe(true);
  storm(f, 1000);
  expect(quenches(f)).toMatchObject([{ times: 1 }]);
});

test('a port whose flow counts few frames is let go when the shortest time is over', () => {
  const f = network();
  storm(f, 3 * quenchMs + 3000);
  expect(quenches(f)).toMatchObject([{ times: 3 }]);
  const count = (perS: number) => {
    f.pass(1000);
    for (let i = 0; i < perS; i++)
      f.switches.get(HV1)?.tables.process(frame(KNOWN, CLIENT_MAC), PORT, { nowMs: f.nowMs });
  };
  for (let s = 0; s < 7; s++) count(1000);
  expect(quenches(f)).toHaveLength(1);
  for (let s = 0; s < 5; s++) count(10);
  expect(quenches(f)).toEqual([]);
  expect(String(logged(f, 'port.unquenched').at(-1)?.why)).toMatch(/it sends \d+ frames a second/);
});

test('LLDP in storms is dropped at a port that leads to no switch; at one that does, never', () => {
  const f = network();
  const probe: Packet = { eth_src: KNOWN, eth_dst: '01:80:c2:00:00:0e', eth_type: 0x88cc };
  const over = (portNo: number) => {
    for (let i = 0; i < 4; i++) {
      f.nowMs += WINDOW_MS;
      const ports = [{ portNo, lldp: 10_000, other: portNo === UPLINK ? 10_000 : 0 }];
      f.send({ kind: 'packetInsOver', dpid: HV1, windowMs: WINDOW_MS, ports });
    }
  };
  over(UPLINK);
  expect(quenches(f)).toEqual([]);
  over(PORT);
  expect(quenches(f)).toMatchObject([{ what: 'lldp' }]);
  expect([isShown(f, HV1, PORT, probe), isShown(f, HV1, UPLINK, probe), isShown(f, HV1, 2, probe)]).toEqual([
    false,
    true,
    true,
  ]);
  // New senders at the port are seen as ever.
  expect(isShown(f, HV1, PORT, frame(stranger(), CLIENT_MAC))).toBe(true);
});

test('a port that turns out to lead to a switch is let go, and so is one that goes away', () => {
  const f = network();
  f.addSwitch('00000000000000d0', { 1: 'to-hv1' });
  storm(f, 1000);
  f.cable(HV1, PORT, '00000000000000d0', 1);
  f.connect('00000000000000d0');
  f.pass(2500);
  expect(f.state.topology.links.has(ID)).toBe(true);
  expect([quenches(f), flowsOf(f, ...QUENCH)]).toEqual([[], []]);

  const g = network();
  storm(g, 1000);
  const port = { portNo: PORT, name: 'tap2', hwAddr: '0e:00:00:00:01:03', isUp: true, speedBps: 0 };
  g.send({ kind: 'portChanged', dpid: HV1, change: 'removed', port });
  g.send({ kind: 'tick' });
  expect([quenches(g), flowsOf(g, ...QUENCH)]).toEqual([[], []]);
});

test('a switch that reconnects keeps the flow, one that forgot it gets it again, and a new life of the controller watches anew', () => {
  const f = network();
  storm(f, 1000);
  const writes = () => f.effects.filter((e) => e.kind === 'write').length;
  f.disconnect(HV1);
  const before = writes();
  f.connect(HV1);
  expect(writes()).toBe(before);
  expect(flowsOf(f, FEATURE.quench)).toHaveLength(1);
  // It ends in time although the switch is away, and is taken from it when that returns.
  f.disconnect(HV1);
  calm(f, quenchMs);
  expect(quenches(f)).toEqual([]);
  f.connect(HV1);
  expect(flowsOf(f, ...QUENCH)).toEqual([]);

  const g = network();
  storm(g, 1000);
  // What a controller knows after `kill -9`: settings, policy and the journal.
  g.state = restoreJobs({ ...new Fabric().state, startedAtMs: g.nowMs }, []);
  for (const dpid of [HV1, HV2, CORE]) g.connect(dpid);
  expect(flowsOf(g, ...QUENCH)).toEqual([]);
  storm(g, 1000);
  expect(quenches(g)).toMatchObject([{ times: 1 }]);
});

test('with normal forwarding the switch itself knows who is known', () => {
  const f = network({ forwarding: 'normal' });
  storm(f, 1000);
  expect(flowsOf(f, FEATURE.quench)).toHaveLength(1);
  expect(flowsOf(f, FEATURE.quenchUnknown)).toEqual([]);
  expect(isShown(f, HV1, PORT, frame(stranger(), CLIENT_MAC))).toBe(false);
});

test('a policy of 0 ms quenches nothing', () => {
  const policy = { ...DEFAULT_POLICY, discovery: { ...DEFAULT_POLICY.discovery, quenchMs: 0 } };
  const f = network({ policy });
  storm(f, 5000);
  expect([f.state.quenches.size, f.state.storms.size]).toEqual([0, 0]);
});

test('whatever ports send and switches do: probes of links are seen, times are bounded, and in the end nothing is left', () => {
  const action = fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        do: fc.constant('storm' as const),
        dpid: fc.constantFrom(HV1, HV2, CORE),
        port: fc.constantFrom(1, 2, 3),
        ms: fc.integer({ min: 1, max: 40 }).map((n) => n * WINDOW_MS),
        perS: fc.constantFrom(400, 3000, 50_000),
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('calm' as const), ms: fc.integer({ min: 1, max: 30_000 }) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.integer({ min: 1, max: 3000 }) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        do: fc.constant('switch' as const),
        dpid: fc.constantFrom(HV1, HV2, CORE),
        up: fc.boolean(),
      }),
    },
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 20 }), (actions) => {
      const f = network();
      for (const a of actions) {
        if (a.do === 'storm') storm(f, a.ms, a.perS, a.port, a.dpid);
        else if (a.do === 'calm') calm(f, a.ms);
        else if (a.do === 'pass') f.pass(a.ms);
        else if (f.switches.get(a.dpid)?.connected !== a.up) {
          if (a.up) f.connect(a.dpid);
          else f.disconnect(a.dpid);
        }
        const probe: Packet = { eth_src: KNOWN, eth_dst: '01:80:c2:00:00:0e', eth_type: 0x88cc };
        for (const [dpid, port] of [
          [HV1, UPLINK],
          [HV2, UPLINK],
          [CORE, 1],
          [CORE, 2],
        ] as const)
          expect(isShown(f, dpid, port, probe)).toBe(true);
        for (const q of quenches(f)) {
          expect(q.untilMs - q.sinceMs).toBeLessThanOrEqual(32 * quenchMs);
          expect(q.untilMs).toBeGreaterThan(f.nowMs - WINDOW_MS);
          expect(f.state.topology.isTrunk(q.at)).toBe(false);
        }
        // A switch that is connected holds the flows of what is quenched there, and no others.
        for (const [dpid, s] of f.switches) {
          if (!s.connected) continue;
          const held = s.tables.flows().filter((x) => parseCookie(x.cookie)?.feature === FEATURE.quench);
          expect(held).toHaveLength(quenches(f).filter((q) => q.at.dpid === dpid).length);
        }
      }
      for (const [dpid, s] of f.switches) if (!s.connected) f.connect(dpid);
      calm(f, 2 * 32 * quenchMs + 1000);
      expect([f.state.quenches.size, f.state.storms.size, flowsOf(f, ...QUENCH).length]).toEqual([0, 0, 0]);
    }),
    { numRuns: 25 },
  );
});
