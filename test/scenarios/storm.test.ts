/**
 * A storm of packet-ins in the emulated network, with the whole controller: the port is quenched at its switch, everything else
 * goes on, and when the storm is over the port is served as before. Time is the test's own, so that 50,000 frames a second are that
 * on any machine. On real switches: `test/integration/faults/storm.test.ts`.
 */
import { FairwayClient } from '../../cli/client.ts';
import { controllerConfigSchema } from '../../contracts/config.ts';
import { silentLog } from '../../contracts/log.ts';
import { type FairwayServer, startController } from '../../controller/io/server.ts';
import { arpPacket, type Packet } from '../../sim/packet.ts';
import { EmulatedSwitch } from '../../sim/switch/emulatedSwitch.ts';
import { ManualClock } from '../unit/io/support.ts';

jest.setTimeout(300_000);

const TOKEN = 'token-of-the-storm';
const FRAMES_PER_S = 50_000;
/** Once it is quenched: a storm all the same, and less work for this machine. */
const LATER_PER_S = 3000;
const STEP_MS = 10;
/** Turns of the event loop in a step: enough for what is sent in it to be read and answered. */
const TURNS = 8;
const MAC = {
  sender: '02:00:00:00:00:21',
  client: '02:00:00:00:00:22',
  newcomer: '02:00:00:00:00:77',
  late: '02:00:00:00:00:78',
};
const NOBODY = '02:00:00:00:00:99';

const clock = new ManualClock(Date.now());
let controller: FairwayServer | undefined;
const switches: EmulatedSwitch[] = [];
afterEach(async () => {
  for (const s of switches.splice(0)) await s.stop();
  await controller?.close();
});

const frame = (eth_src: string, eth_dst: string): Packet => ({ eth_src, eth_dst, eth_type: 0x0800, ip_proto: 1 });
const arp = (sha: string): Packet => arpPacket({ op: 1, sha, spa: '10.0.0.77', tpa: '10.0.0.99' });

test('50,000 frames of new senders a second at one port: quenched, and nothing else suffers', async () => {
  controller = await startController(
    controllerConfigSchema.parse({ openflow: { port: 0 }, http: { port: 0 }, policy: { store: 'memory' } }),
    { clock, log: silentLog, token: TOKEN, journal: null },
  );
  const { openflowPort, httpPort } = controller;
  const client = new FairwayClient({ url: `http://127.0.0.1:${httpPort}`, token: TOKEN });
  const status = () => client.status();
  await client.patchPolicy({ 'discovery.quenchMs': 2000, 'discovery.maxHostsPerPort': 50 });

  // hv – core: port 1 is the cable. At hv: 2 the sender, 3 the one that storms, 4 the newcomer. At core: 2 the client.
  const wire: (() => void)[] = [];
  const arrived = { client: 0, spread: 0 };
  const device = (name: string, dpid: string, ports: number[], far: () => EmulatedSwitch) => {
    const s: EmulatedSwitch = new EmulatedSwitch({
      ...{ dpid, name, clock, controller: { host: '127.0.0.1', port: openflowPort } },
      ports: ports.map((portNo) => ({
        ...{ portNo, name: `${name}-${portNo}`, speedBps: 1e9 },
        hwAddr: `0e:00:00:00:${dpid.slice(-2)}:0${portNo}`,
      })),
      transmit: (portNo, packet) => {
        if (portNo === 1) wire.push(() => far().receive(1, packet));
        else if (name === 'core' && packet.eth_dst === MAC.client) arrived.client++;
        else if (packet.eth_dst === NOBODY) arrived.spread++;
      },
    });
    switches.push(s);
    return s;
  };
  const hv: EmulatedSwitch = device('hv', '00000000000000a1', [1, 2, 3, 4], () => core);
  const core: EmulatedSwitch = device('core', '00000000000000c1', [1, 2], () => hv);

  let perS = 0;
  const sent = { storm: 0, workload: 0 };
  let isWorking = false;
  /** Lets a moment pass: frames come, cables carry, sockets are read. */
  const step = async () => {
    for (let i = 0; i < (perS * STEP_MS) / 1000; i++) {
      const n = (sent.storm++).toString(16).padStart(10, '0');
      hv.receive(3, frame(`06:${n.match(/../g)?.join(':')}`, NOBODY));
    }
    if (isWorking) {
      hv.receive(2, frame(MAC.sender, MAC.client));
      sent.workload++;
    }
    for (let i = 0; i < TURNS; i++) {
      for (const cross of wire.splice(0)) cross();
      await new Promise((r) => setImmediate(r));
    }
    clock.advance(STEP_MS);
  };
  /** Steps until something is so; looks every 100 ms. */
  const until = async <T>(ask: () => Promise<T | undefined> | T | undefined, what: string, mostMs = 15_000) => {
    for (let ms = 0; ms <= mostMs; ms += STEP_MS) {
      const value = ms % 100 === 0 ? await ask() : undefined;
      if (value !== undefined) return value;
      await step();
    }
    throw new Error(`gave up waiting until ${what}`);
  };
  const pass = async (ms: number) => {
    for (; ms > 0; ms -= STEP_MS) await step();
  };
  const port = async () =>
    (await status()).topology.switches.find((s) => s.dpid === hv.dpid)?.ports.find((p) => p.portNo === 3);
  const session = async () => (await status()).sessions?.find((s) => s.dpid === hv.dpid);
  const isKnown = async (mac: string) => (await status()).topology.locations.find((l) => l.mac === mac);

  for (const s of switches) s.start();
  await until(async () => (await status()).topology.links.length === 2 || undefined, 'both ways of the link are found');
  // Ports that came up are listened at for a second; then both stations are learned.
  await until(async () => {
    hv.receive(2, frame(MAC.sender, MAC.client));
    core.receive(2, frame(MAC.client, MAC.sender));
    return (await isKnown(MAC.sender)) && (await isKnown(MAC.client));
  }, 'the stations are known');
  await pass(200);
  const begin = await session();
  arrived.client = 0;

  isWorking = true;
  perS = FRAMES_PER_S;
  const beganMs = clock.now();
  const quenched = await until(async () => (await port())?.quenched?.[0], 'the port is quenched');
  expect(quenched).toMatchObject({ what: 'senders', times: 1 });
  expect(clock.now() - beganMs).toBeLessThan(1500);
  expect(sent.storm).toBeGreaterThan(10_000);

  await pass(200);
  perS = LATER_PER_S;
  const [before, spreadBefore] = [await session(), arrived.spread];
  hv.receive(4, arp(MAC.newcomer));
  await until(() => isKnown(MAC.newcomer), 'the newcomer is found');
  await pass(500);
  const after = await session();
  // While it is quenched nothing of the storm comes to the controller or is spread.
  expect((await port())?.quenched).toHaveLength(1);
  expect(after?.packetIns.dropped).toBe(before?.packetIns.dropped);
  expect(arrived.spread).toBe(spreadBefore);
  expect(spreadBefore).toBeGreaterThan(0);

  // It is let in again while it goes on, and quenched again.
  const again = await until(async () => (await port())?.quenched?.find((q) => q.times === 2), 'it is quenched again');
  expect(again.untilMs - again.sinceMs).toBe(2 * (quenched.untilMs - quenched.sinceMs));
  perS = 0;
  await until(async () => (await port())?.quenched === undefined || undefined, 'the port is let go');
  // Long before its time, since the flow counts nothing any more.
  expect(clock.now()).toBeLessThan(again.untilMs);
  await pass(300);
  hv.receive(3, arp(MAC.late));
  await pass(300);
  isWorking = false;
  await pass(100);
  expect(arrived.client).toBe(sent.workload);
  const last = await status();
  expect(last.topology.links).toHaveLength(2);
  expect((await session())?.remote).toBe(begin?.remote);
  // The storm's senders took all the room there is for hosts of that port; its frames are looked at again all the same.
  expect((await session())?.packetIns.passed).toBeGreaterThan(after?.packetIns.passed ?? 0);
  expect(hv.tables.flows().filter((f) => ((f.cookie >> 32n) & 0xffn) >= 7n)).toEqual([]);
});
