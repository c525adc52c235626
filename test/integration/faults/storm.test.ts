/**
 * A storm from one port of a real switch, as fast as it can be sent: frames of ever new senders, of which each would be a
 * packet-in. The port is quenched, and from then on the switch handles it in its fast path: it keeps its session, discovery goes on,
 * a host that appears at another port is found meanwhile, and no packet of others is lost. When the storm is over, the port is served again.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { StatusView } from '../../../contracts/rest.ts';
import { PACKET_IN_LIMITS } from '../../../controller/core/packetLimits.ts';
import { gate } from '../gate.ts';
import { kill, whyNoOvs } from '../privateOvs.ts';
import { lostNone } from './checks.ts';
import { type ControllerProcess, DPID, FaultNet, pause, waitFor } from './faultNet.ts';

const { real, named } = gate(whyNoOvs());
jest.setTimeout(600_000);

let net: FaultNet | undefined;
afterEach(async () => {
  await net?.stop();
  net = undefined;
});

const FRAMES_PER_S = 50_000;
/** Longer than the storm, so that it is not let in again while it is judged what becomes of others. */
const QUENCH_MS = 600_000;
/** Sends from a device at so many frames per second until its input ends; prints how many went out, and in how many seconds. */
const STORM = `
import select, socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0))
head, tail = bytes.fromhex('020000000099') + b'\\x06', b'\\x08\\x00' + bytes(46)
begin, n, per_s = time.monotonic(), 0, float(sys.argv[2])
while time.monotonic() < begin + 600 and not select.select([sys.stdin], [], [], 0.0002)[0]:
    due = min((time.monotonic() - begin) * per_s, n + 500)
    while n < due:
        s.send(head + n.to_bytes(5, 'big') + tail)
        n += 1
print(n, time.monotonic() - begin)
`;
const NEWCOMER = '02:00:00:00:00:77';
/** A host that speaks five times a second, until its input ends. */
const SPEAK = `
import select, socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0))
while not select.select([sys.stdin], [], [], 0.2)[0]:
    s.send(bytes.fromhex('020000000099' + sys.argv[2].replace(':', '') + '0800') + bytes(46))
`;

/** On a busy machine one answer may be late. */
const statusOf = (c: ControllerProcess): Promise<StatusView> =>
  waitFor('the controller to answer', () => c.client.status().catch(() => undefined));
const sessionOf = async (c: ControllerProcess) =>
  (await statusOf(c)).sessions?.find((s) => s.dpid === DPID.hv1) ?? Promise.reject(new Error('no session of hv1'));
const portOf = async (c: ControllerProcess, name: string) =>
  (await statusOf(c)).topology.switches.find((x) => x.dpid === DPID.hv1)?.ports.find((p) => p.name === name);
const locationOf = async (c: ControllerProcess, mac: string) =>
  (await statusOf(c)).topology.locations.find((l) => l.mac === mac);

real(
  named(
    'a storm of 50,000 frames/s from one port: it is quenched, nothing of others is lost, and it is served again after',
  ),
  async () => {
    net = await FaultNet.start('sta', { guests: ['g1', 'g2'], policy: { discovery: { quenchMs: QUENCH_MS } } });
    const { ovs } = net;
    const c = await net.controller();
    await net.workload();
    await c.seesAll(0);
    await pause(600);
    const before = await sessionOf(c);
    for (const port of ['hv1-g1', 'hv1-g2']) ovs.inside('ip', 'link', 'set', port, 'up');
    const python = (program: string, ...args: unknown[]) =>
      spawn('ip', ['netns', 'exec', ovs.netns, '/usr/bin/python3', '-c', program, ...args.map(String)], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
    const first = (await net.carried()).sent;
    const beganMs = performance.now();
    const storm = python(STORM, 'hv1-g1', FRAMES_PER_S);
    let said = '';
    storm.stdout.on('data', (text) => {
      said += text;
    });
    const over = once(storm, 'close');
    const children = [storm];
    try {
      const quenched = await waitFor('the port to be quenched', async () => (await portOf(c, 'hv1-g1'))?.quenched?.[0]);
      const quenchedMs = performance.now() - beganMs;
      expect(quenched).toMatchObject({ what: 'senders', times: 1 });
      await waitFor(
        'the switch to have the flow',
        () => net?.flows('hv1').some((l) => /cookie=0xfa1c[0-9a-f]{2}07/.test(l)) || undefined,
      );
      // What the switch took in before goes out first; from then on nothing comes, although the storm goes on.
      let last = -1;
      const held = await waitFor('what was taken in before to have gone out', async () => {
        const { packetIns } = await sessionOf(c);
        const isSame = packetIns.dropped === last;
        last = packetIns.dropped;
        if (!isSame) await pause(500);
        return isSame ? packetIns : undefined;
      });
      const since = (await net.carried()).sent;

      const host = python(SPEAK, 'hv1-g2', NEWCOMER);
      children.push(host);
      const found = await waitFor('the newcomer to be found', () => locationOf(c, NEWCOMER));
      host.stdin.end();
      expect(found.at.dpid).toBe(DPID.hv1);
      expect(storm.exitCode).toBeNull();
      await pause(2000);
      storm.stdin.end();
      await over;
      const [frames = 0, seconds = 1] = said.trim().split(' ').map(Number);
      const until = (await net.carried()).sent;
      const taken = /rx pkts=(\d+)/.exec(net.ofctl('dump-ports', 'hv1', 'hv1-g1'))?.[1];
      const after = await sessionOf(c);
      await lostNone(net, since);
      const { lostSince: lostFirst } = await net.carried(first);
      process.stdout.write(
        `storm: ${Math.round(frames / seconds)} frames/s for ${seconds.toFixed(1)} s, the switch took in ${taken}; quenched after ${Math.round(quenchedMs)} ms; ` +
          `${held.dropped + held.passed} packet-ins until then, ${after.packetIns.dropped - held.dropped} dropped after; ` +
          `workload: ${lostFirst.length} of ${until - first} lost, none of ${until - since} after the quench\n`,
      );
      // A storm also where this machine sends no faster: many times what a port may.
      expect(frames / seconds).toBeGreaterThan(10 * PACKET_IN_LIMITS.perPort.perSecond);
      // Nothing of the storm comes to the controller any more; the rest is few.
      expect(after.packetIns.dropped).toBe(held.dropped);
      // The sessions are those from before, and no link was taken for lost.
      expect(after.remote).toBe(before.remote);
      expect(c.events('switch.gone')).toEqual([]);
      expect((await statusOf(c)).topology.links).toHaveLength(4);

      // When the shortest time is over, a port that sends little is let go.
      await c.client.patchPolicy({ 'discovery.quenchMs': 100 });
      await waitFor(
        'the port to be let go',
        async () => (await portOf(c, 'hv1-g1'))?.quenched === undefined || undefined,
      );
      const number = ovs.vsctl('get', 'interface', 'hv1-g1', 'ofport');
      const stranger = `in_port=${number},dl_src=02:00:00:00:00:78,dl_dst=02:00:00:00:00:99`;
      await waitFor('new senders at the port to be told of', () =>
        net?.trace('hv1', stranger).includes('CONTROLLER') ? true : undefined,
      );
      await waitFor('nothing of it to be left', () =>
        net?.flows('hv1').some((l) => /cookie=0xfa1c[0-9a-f]{2}0[789]/.test(l)) === false ? true : undefined,
      );
      expect(c.events('port.quenched')).toHaveLength(1);
      await lostNone(net, since);
      // The configuration names the ports between switches, the switch's own database tells of the others.
      expect((await portOf(c, 'hv1-core'))?.capacityFrom).toBe('configuration');
      ovs.vsctl('set', 'interface', 'p-wl', 'external_ids:fairway-capacity="80 Mbit/s"');
      await waitFor('the capacity to be taken over', async () => {
        const port = await portOf(c, 'p-wl');
        return (port?.capacityFrom === 'external-ids' && port.capacityBps === 80e6) || undefined;
      });
    } finally {
      for (const child of children) await kill(child);
    }
  },
);
