/**
 * A storm from one port of a real switch at a rate that the switch itself can bear: frames of ever new senders, of which each is a
 * packet-in. The switch keeps its session, discovery goes on, a host that appears at another port is found meanwhile, what the
 * controller did not look at is counted, and no packet of others is lost. The storm that is as fast as can be is in `outages.test.ts`.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { whyNoOvs } from '../privateOvs.ts';
import { lostNone } from './checks.ts';
import { type ControllerProcess, DPID, FaultNet, pause, waitFor } from './faultNet.ts';

const { real, named } = gate(whyNoOvs());
jest.setTimeout(180_000);

let net: FaultNet | undefined;
afterEach(async () => {
  await net?.stop();
  net = undefined;
});

const STORM_S = 6;
/** Sends from a device for so many seconds at so many frames per second; prints how many went out. */
const STORM = `
import socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0))
begin, n, per_s = time.monotonic(), 0, float(sys.argv[3])
end = begin + float(sys.argv[2])
while time.monotonic() < end:
    while n < (time.monotonic() - begin) * per_s and time.monotonic() < end:
        s.send(bytes.fromhex('020000000099') + b'\\x06' + n.to_bytes(5, 'big') + b'\\x08\\x00' + bytes(46))
        n += 1
    time.sleep(0.0005)
print(n)
`;
const NEWCOMER = '02:00:00:00:00:77';
/** A host that speaks five times a second, for so many seconds. */
const SPEAK = `
import socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0))
for _ in range(5 * int(sys.argv[3])):
    s.send(bytes.fromhex('020000000099' + sys.argv[2].replace(':', '') + '0800') + bytes(46))
    time.sleep(0.2)
`;

import { gate } from '../gate.ts';

const sessionOf = async (c: ControllerProcess) =>
  (await c.client.status()).sessions?.find((s) => s.dpid === DPID.hv1) ??
  Promise.reject(new Error('no session of hv1'));

/** Has port `hv1-g1` storm while a host appears at `hv1-g2`; answers since which packet the workload is to be judged. */
async function weather(net: FaultNet, framesPerS: number): Promise<number> {
  const { ovs } = net;
  const c = await net.controller();
  await net.workload();
  await c.seesAll(0);
  await pause(600);
  const since = (await net.carried()).sent;
  const before = await sessionOf(c);
  for (const port of ['hv1-g1', 'hv1-g2']) ovs.inside('ip', 'link', 'set', port, 'up');
  const python = (program: string, ...args: unknown[]) =>
    spawn('ip', ['netns', 'exec', ovs.netns, '/usr/bin/python3', '-c', program, ...args.map(String)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });

  const storm = python(STORM, 'hv1-g1', STORM_S, framesPerS);
  let said = '';
  storm.stdout.on('data', (text) => {
    said += text;
  });
  const over = once(storm, 'close');
  const host = python(SPEAK, 'hv1-g2', NEWCOMER, STORM_S);
  const spoken = once(host, 'close');
  try {
    await waitFor('packet-ins to be dropped', async () => (await sessionOf(c)).packetIns.dropped > 0 || undefined);
    const found = await waitFor('the newcomer to be found', async () =>
      (await c.client.status()).topology.locations.find((l) => l.mac === NEWCOMER),
    );
    expect(storm.exitCode).toBeNull();
    expect(found.at.dpid).toBe(DPID.hv1);
    await over;
  } finally {
    storm.kill();
    host.kill();
    await spoken;
  }
  const after = await sessionOf(c);
  const { passed, dropped } = after.packetIns;
  process.stdout.write(
    `storm: ${said.trim()} frames in ${STORM_S} s, ${passed} packet-ins looked at, ${dropped} dropped\n`,
  );
  // One port has 300 a second and 600 at once; the rest is room for the others.
  expect(passed - before.packetIns.passed).toBeLessThan(300 * STORM_S + 2000);
  expect(dropped).toBeGreaterThan(passed);
  // The sessions are those from before, and no link was taken for lost.
  expect(after.remote).toBe(before.remote);
  expect(c.events('switch.gone')).toEqual([]);
  expect((await c.client.status()).topology.links).toHaveLength(4);
  return since;
}

real(named('a storm of 3,000 frames/s from one port: no packet of another port is lost'), async () => {
  net = await FaultNet.start('sta', { guests: ['g1', 'g2'] });
  const since = await weather(net, 3000);
  await pause(500);
  await lostNone(net, since);
});
