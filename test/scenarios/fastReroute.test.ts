/**
 * Real Open vSwitch with two ways through the core, served with groups: connections are spread over both, and when a switch
 * loses one it goes on over the other by itself, with no controller there. The controller that returns makes the same groups.
 */
import { randomBytes } from 'node:crypto';
import { FairwayClient } from '../../cli/client.ts';
import { systemClock } from '../../contracts/clock.ts';
import { controllerConfigSchema } from '../../contracts/config.ts';
import { silentLog } from '../../contracts/log.ts';
import { type FairwayServer, startController } from '../../controller/io/server.ts';
import { gate } from '../integration/gate.ts';
import { until, whyNoOvs } from '../integration/privateOvs.ts';
import { losesNothing, OvsFabric, udpReceiver, udpSender } from './ovsFabric.ts';

const { reason, real, named } = gate(whyNoOvs());
jest.setTimeout(600_000);

const DPID = {
  hv1: '00000000000000a1',
  hv2: '00000000000000a2',
  c1: '00000000000000c1',
  c2: '00000000000000c2',
} as const;
const CLIENT_MAC = '02:09:00:00:00:20';
const SENDERS = [9, 91, 92, 93, 94, 95, 96, 97].map((n) => `10.8.0.${n}`);
const pause = (ms: number) => new Promise((r) => setTimeout(r, ms));

let fabric: OvsFabric;
let controller: FairwayServer | undefined;
const token = randomBytes(16).toString('hex');

beforeAll(async () => {
  if (reason !== undefined) return;
  fabric = await OvsFabric.start('fr', 8);
  // Groups have another form in each of these versions, and do the same.
  const versions: Record<string, string> = { hv1: 'OpenFlow15', c1: 'OpenFlow14' };
  for (const [name, dpid] of Object.entries(DPID)) fabric.bridge(name, dpid, versions[name]);
  for (const core of ['c1', 'c2']) for (const host of ['hv1', 'hv2']) fabric.cable(host, core);
  fabric.station({
    name: 'wl',
    bridge: 'hv1',
    port: 'wl',
    mac: '02:09:00:00:00:09',
    ips: SENDERS.map((a) => `${a}/24`),
  });
  fabric.station({ name: 'cl', bridge: 'hv2', port: 'client', mac: CLIENT_MAC, ips: ['10.8.0.20/24'] });
}, 300_000);
afterAll(async () => {
  if (reason !== undefined) return;
  await controller?.close();
  await fabric.stop();
});

/** Starts the controller on a port it had before, or on any, and waits until it knows all links. */
async function start(port: number): Promise<FairwayServer> {
  const config = controllerConfigSchema.parse({
    openflow: { host: fabric.controllerHost, port },
    http: { port: 0 },
    policy: { store: 'memory' },
    discovery: {},
  });
  const server = await startController(config, { log: silentLog, clock: systemClock(), token, journal: null });
  if (port === 0) fabric.connect(server.openflowPort);
  const client = new FairwayClient({
    url: `http://127.0.0.1:${server.httpPort}`,
    token,
    signal: new AbortController().signal,
  });
  for (let i = 0; i < 1800; i++) {
    const { topology } = await client.status();
    if (topology.links.length === 8) return server;
    await pause(50);
  }
  throw new Error('gave up waiting until all links are found');
}

const groupsOf = (bridge: string) =>
  fabric.ovs
    .ofctl('dump-groups', bridge)
    .split('\n')
    .filter((l) => l.includes('group_id='));
/** Packets for the client that a core has forwarded. */
const through = (core: string): number =>
  fabric
    .flows(core)
    .filter((l) => l.includes(`dl_dst=${CLIENT_MAC}`))
    .reduce((sum, l) => sum + Number(/n_packets=(\d+)/.exec(l)?.[1]), 0);

real(named('connections are spread, and a switch that loses a port goes on without a controller'), async () => {
  controller = await start(0);
  const { openflowPort } = controller;
  const receiver = fabric.speaker('cl', udpReceiver(7000));
  await fabric.reach('wl', '10.8.0.20');
  await until(() => /type=select/.test(groupsOf('hv1').join()), 'the switch has a group that spreads');
  expect(groupsOf('hv1').join()).toMatch(/watch_port/);

  const sender = fabric.speaker('wl', udpSender('10.8.0.20', 7000, 500, SENDERS));
  await until(() => through('c1') > 100 && through('c2') > 100, 'both ways are used');
  await losesNothing(sender, receiver, 250);

  await controller.close();
  controller = undefined;
  fabric.setCable('hv1', 'c1', false);
  // Half of it, had the switch not got round it.
  await losesNothing(sender, receiver, 500);
  await sender.stop();
  await receiver.stop();
  const { sent } = sender.said.at(-1) as { sent: number };
  const got = receiver.said.at(-1) as { received: number; silenceMs: number };
  process.stdout.write(
    `port down with no controller: ${sent - got.received} of ${sent} packets lost, longest silence ${got.silenceMs} ms\n`,
  );

  fabric.setCable('hv1', 'c1', true);
  const before = groupsOf('hv1');
  controller = await start(openflowPort);
  await fabric.reach('wl', '10.8.0.20');
  await pause(500);
  await until(() => JSON.stringify(groupsOf('hv1')) === JSON.stringify(before), 'the groups are the same again');
  await controller.close({ removeFlows: true });
  controller = undefined;
  for (const b of Object.keys(DPID)) {
    expect(fabric.flows(b).filter((l) => l.includes('cookie=0xfa1c'))).toEqual([]);
    expect(groupsOf(b)).toEqual([]);
  }
});
