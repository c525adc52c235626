/**
 * Managed forwarding on real Open vSwitch bridges in a circle: IPv4, IPv6 and VLAN-tagged guests reach each other, and each
 * broadcast comes out once, from the first moment on and also after a cable was cut.
 */
import { randomBytes } from 'node:crypto';
import { systemClock } from '../../contracts/clock.ts';
import { controllerConfigSchema } from '../../contracts/config.ts';
import { silentLog } from '../../contracts/log.ts';
import { type FairwayServer, startController } from '../../controller/io/server.ts';
import { gate } from '../integration/gate.ts';
import { until, whyNoOvs } from '../integration/privateOvs.ts';
import { OvsFabric } from './ovsFabric.ts';

const { reason, real, named } = gate(whyNoOvs());
jest.setTimeout(600_000);

let fabric: OvsFabric;
let controller: FairwayServer | undefined;
const pause = (ms: number) => new Promise((r) => setTimeout(r, ms));

beforeAll(async () => {
  if (reason !== undefined) return;
  fabric = await OvsFabric.start('ci', 12);
  ['s1', 's2', 's3'].forEach((name, i) => {
    fabric.bridge(name, `00000000000000d${i + 1}`);
  });
  fabric.cable('s1', 's2');
  fabric.cable('s2', 's3');
  fabric.cable('s3', 's1');
  ['s1', 's2', 's3'].forEach((bridge, i) => {
    const n = i + 1;
    const ips = [`10.7.0.${n}/24`, `fd07::${n}/64`];
    fabric.station({ name: `g${n}`, bridge, port: `g${n}`, mac: `02:07:00:00:00:0${n}`, ips });
  });
}, 300_000);
afterAll(async () => {
  if (reason !== undefined) return;
  await controller?.close();
  await fabric.stop();
});

/** Counts broadcast datagrams on a port, duplicates too. */
const counter = (port: number) => `
  const socket = require('node:dgram').createSocket('udp4');
  let count = 0;
  socket.on('message', () => { count++; });
  socket.bind(${port}, '0.0.0.0', () => console.log('0'));
  process.stdin.on('data', () => console.log(JSON.stringify(count)));
  process.stdin.on('end', () => process.exit(0));
`;
const shout = (port: number, times: number) => `
  const socket = require('node:dgram').createSocket('udp4');
  socket.bind(0, () => {
    socket.setBroadcast(true);
    let left = ${times};
    const next = () => { if (left-- > 0) socket.send('x', ${port}, '10.7.0.255', () => setTimeout(next, 5)); else socket.close(); };
    next();
  });
`;
/** Frames a guest's card has received. */
const received = (guest: string) => Number(fabric.at(guest, 'cat', '/sys/class/net/eth0/statistics/rx_packets'));

/** Sends a frame with VLAN tag 42, made by hand: the kernel here may have no VLAN devices. */
const sendTagged = (to: string) => `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('eth0', 0))
mac = bytes.fromhex(open('/sys/class/net/eth0/address').read().strip().replace(':', ''))
s.send(bytes.fromhex('${to.replaceAll(':', '')}') + mac + bytes.fromhex('8100002a9000') + b'tagged' + bytes(40))
`;
/** Waits for such a frame until its input ends, and then a second more. */
const hearTagged = `
import select, socket, struct, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind(('eth0', 3))
s.setsockopt(263, 8, 1) # PACKET_AUXDATA: the kernel takes tags off and tells them beside the frame
s.settimeout(0.2)
print('1', flush=True)
end = None
while end is None or time.time() < end:
    if end is None and select.select([sys.stdin], [], [], 0)[0]:
        end = time.time() + 1
    try:
        data, aux, _, _ = s.recvmsg(2048, 256)
    except socket.timeout:
        continue
    tags = [struct.unpack('IIIHHHH', d[:20])[5] & 0xfff for level, kind, d in aux if level == 263 and kind == 8]
    if b'tagged' in data and 42 in tags:
        print('2', flush=True)
        break
`;

async function reachesTagged(from: number, to: number): Promise<boolean> {
  const ear = fabric.speaker(`g${to}`, hearTagged, ['/usr/bin/python3', '-c']);
  await until(() => ear.said.length > 0, 'somebody listens');
  fabric.at(`g${from}`, '/usr/bin/python3', '-c', sendTagged(`02:07:00:00:00:0${to}`));
  await ear.stop();
  return ear.said.includes(2);
}

/** Whether a guest is reached by IPv4 and by IPv6. */
function reaches(from: number, to: number): string[] {
  const tries: [string, string][] = [
    ['IPv4', `10.7.0.${to}`],
    ['IPv6', `fd07::${to}`],
  ];
  return tries
    .filter(([, address]) => {
      try {
        fabric.at(`g${from}`, 'ping', '-c', '1', '-W', '1', address);
        return true;
      } catch {
        return false;
      }
    })
    .map(([what]) => what);
}

async function everyoneReachesEveryone(): Promise<void> {
  for (let tries = 0; ; tries++) {
    const missing: string[] = [];
    for (const [a, b] of [
      [1, 2],
      [2, 3],
      [3, 1],
    ] as const) {
      const found = [...reaches(a, b), ...((await reachesTagged(a, b)) ? ['VLAN'] : [])];
      if (found.length < 3) missing.push(`g${b} from g${a} but for ${found.join(', ') || 'nothing'}`);
    }
    if (missing.length === 0) return;
    if (tries > 40) throw new Error(`not reached: ${missing.join('; ')}`);
    await pause(500);
  }
}

/** How many of so many broadcasts of g1 came out at each of the others, once all have come or none come any more. */
async function heardTimes(times: number): Promise<unknown[]> {
  const ears = ['g2', 'g3'].map((g) => fabric.speaker(g, counter(7001)));
  await until(() => ears.every((e) => e.said.length > 0), 'both listen');
  const counts = async () => {
    const before = ears.map((e) => e.said.length);
    for (const e of ears) e.tell('?');
    await until(() => ears.every((e, i) => e.said.length > (before[i] ?? 0)), 'both answer');
    return ears.map((e) => Number(e.said.at(-1)));
  };
  fabric.at('g1', process.execPath, '-e', shout(7001, times));
  for (let looks = 0; looks < 100 && (await counts()).some((n) => n < times); looks++) await pause(200);
  // Those that come twice come at about the same time.
  await pause(300);
  const heard = await counts();
  for (const e of ears) await e.stop();
  return heard;
}

real(named('guests reach each other, and a broadcast comes out once'), async () => {
  controller = await startController(
    controllerConfigSchema.parse({
      openflow: { host: fabric.controllerHost, port: 0 },
      http: { port: 0 },
      policy: { store: 'memory' },
    }),
    { log: silentLog, clock: systemClock(), token: randomBytes(16).toString('hex'), journal: null },
  );
  const before = received('g2');
  fabric.connect(controller.openflowPort);
  // While links are found, there is plenty of broadcast to go round: every ping begins with some.
  await everyoneReachesEveryone();
  expect(received('g2') - before).toBeLessThan(1000);
  expect(await heardTimes(40)).toEqual([40, 40]);

  fabric.setCable('s1', 's2', false);
  await everyoneReachesEveryone();
  expect(await heardTimes(40)).toEqual([40, 40]);
  fabric.setCable('s1', 's2', true);
  await everyoneReachesEveryone();
  const quiet = received('g2');
  await pause(1000);
  expect(received('g2') - quiet).toBeLessThan(200);
  expect(await heardTimes(40)).toEqual([40, 40]);
});
