/** `controller/io/switches.ts` under load that nobody asked for: storms, strangers, duplicates, and switches with a past. */
import { connect, type Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { decodeAs, encode, MessageSplitter, type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { systemClock } from '../../../contracts/clock.ts';
import type { Event } from '../../../controller/core/events.ts';
import { addFlow, flow, removeMeter, writeMeter } from '../../../controller/core/flows.ts';
import { PACKET_IN_LIMITS } from '../../../controller/core/packetLimits.ts';
import { buildLldp } from '../../../controller/core/packets.ts';
import { makeSeal } from '../../../controller/io/seal.ts';
import { SwitchServer, type SwitchServerOptions } from '../../../controller/io/switches.ts';
import { parseFrame } from '../../../sim/packet.ts';
import { EmulatedSwitch } from '../../../sim/switch/emulatedSwitch.ts';
import { ManualClock } from './support.ts';

jest.setTimeout(240_000);
const DPID = '00000000000000c1';
let server: SwitchServer;
let events: Event[] = [];
const logged: string[] = [];
const undo: (() => unknown)[] = [];

async function listen(o: Partial<SwitchServerOptions> = {}): Promise<void> {
  events = [];
  logged.length = 0;
  server = await SwitchServer.listen({
    host: '127.0.0.1',
    port: 0,
    clock: systemClock(),
    log: (_level, event, fields) => logged.push(`${event} ${JSON.stringify(fields)}`),
    emit: (e) => events.push(e),
    ...o,
  });
  undo.push(() => server.close());
}
afterEach(async () => {
  for (const u of undo.splice(0).reverse()) await u();
});

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const turn = () => new Promise<void>((r) => setImmediate(r));
async function until(holds: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 6000; i++) {
    if (holds()) return;
    await new Promise((r) => setTimeout(r, 10));
  }
  throw new Error(`gave up waiting until ${what}; log: ${logged}`);
}
const saw = <K extends Event['kind']>(kind: K) =>
  events.filter((e): e is Extract<Event, { kind: K }> => e.kind === kind);

function emulated(): EmulatedSwitch {
  const sw = new EmulatedSwitch({
    dpid: DPID,
    name: 's1',
    controller: { host: '127.0.0.1', port: server.port },
    clock: systemClock(),
    ports: [1, 2, 3].map((portNo) => ({
      portNo,
      name: `eth${portNo}`,
      hwAddr: `02:00:00:00:00:0${portNo}`,
      speedBps: 1e9,
    })),
    transmit: () => {},
  });
  undo.push(() => sw.stop());
  sw.start();
  return sw;
}
async function write(batch: number, messages: readonly OfMessage<4>[]) {
  server.write(DPID, batch, messages);
  await until(() => saw('written').some((e) => e.batch === batch), `write ${batch} is answered`);
  return saw('written').find((e) => e.batch === batch);
}

const toController = of13.OFPInstructionActions({
  type: ofp.OFPIT_APPLY_ACTIONS,
  actions: [of13.OFPActionOutput({ port: ofp.OFPP_CONTROLLER, max_len: 0xffff })],
});
const miss = flow({
  table: 0,
  priority: 0,
  match: of13.OFPMatch({}),
  instructions: [toController],
  cookie: 0xfa1c_0000_0000_0000n,
});
const packet = (hex: string) => {
  const p = parseFrame(Buffer.from(hex, 'hex'));
  if (p === undefined) throw new Error('not a frame');
  return p;
};
const arp = (lastByte: string) => `ffffffffffff0200000000${lastByte}08060001080006040001${'00'.repeat(24)}`;

test('a storm of 50,000 packet-ins of one port leaves the others, discovery and keepalive alive', async () => {
  // Slower than real time: a busy machine may need seconds for the storm, in which a switch that answers is alive all the same.
  const clock = systemClock(0.2);
  await listen({ clock });
  const sw = emulated();
  await until(() => saw('switchUp').length === 1, 'the switch is up');
  expect(await write(1, [addFlow(miss)])).toMatchObject({ outcome: 'applied' });

  const storm = packet(arp('11'));
  const quiet = packet(arp('22'));
  const probe = packet(
    buildLldp(
      { dpid: '00000000000000ff', portNo: 7, sourceMac: '02:00:00:00:00:99', ttlSeconds: 120, serial: 1, sentMs: 0 },
      makeSeal(Buffer.alloc(32, 1)),
    ).toString('hex'),
  );
  const beganMs = clock.now();
  const alive: Promise<boolean>[] = [];
  for (let i = 0; i < 100; i++) {
    for (let k = 0; k < 500; k++) sw.receive(1, storm);
    if (i % 10 === 5) {
      sw.receive(1, probe);
      sw.receive(2, probe);
      sw.receive(3, quiet);
      const session = server.sessions.get(DPID);
      if (session) alive.push(session.isAlive());
    }
    await turn();
  }
  const total = 50_000 + 30;
  const counts = () => server.describe()[0]?.packetIns ?? { passed: 0, dropped: 0 };
  await until(() => counts().passed + counts().dropped === total, 'all have been looked at');
  const seconds = (clock.now() - beganMs) / 1000;

  const of = (port: number, type: string) =>
    saw('packetIn').filter((e) => e.inPort === port && e.frame.subarray(12, 14).toString('hex') === type).length;
  expect(of(2, '88cc')).toBe(10);
  expect(of(1, '88cc')).toBe(10);
  expect(of(3, '0806')).toBe(10);
  const { burst, perSecond } = PACKET_IN_LIMITS.perPort;
  expect(of(1, '0806')).toBeGreaterThanOrEqual(burst);
  expect(of(1, '0806')).toBeLessThanOrEqual(burst + perSecond * seconds + 1);
  expect(counts()).toEqual({ passed: 20 + 10 + of(1, '0806'), dropped: 50_000 - of(1, '0806') });
  // The core is told of all that the port sent beyond its limit, while it goes on.
  const over = () => saw('packetInsOver').flatMap((e) => e.ports.map((p) => ({ ...p, dpid: e.dpid })));
  const told = () => over().reduce((sum, p) => sum + p.other, 0);
  await until(() => told() === counts().dropped, 'the core was told of what was dropped');
  expect(over().every((p) => p.dpid === DPID && p.portNo === 1 && p.lldp === 0)).toBe(true);
  expect(await Promise.all(alive)).toEqual(Array(10).fill(true));
  expect(saw('switchDown')).toEqual([]);
  expect(await write(2, [addFlow(miss)])).toMatchObject({ outcome: 'applied' });
});

test('thousands of hostile connections and frames end, and leave no memory behind', async () => {
  await listen();
  const sw = emulated();
  await until(() => saw('switchUp').length === 1, 'the switch is up');
  const hello = encode(of13.OFPHello({ elements: [] }), 1);
  const huge = Buffer.from('0412ffff00000001', 'hex');
  // A deterministic generator: the same garbage every time.
  let seed = 1;
  const random = () => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return seed;
  };
  const garbage = () =>
    Buffer.from(Array.from({ length: 1 + ((random() >>> 16) % 600) }, () => (random() >>> 16) & 255));
  const attacks: (() => Buffer)[] = [
    garbage,
    () => Buffer.concat([hello, garbage()]),
    () => Buffer.concat([hello, huge, Buffer.alloc(20_000, random() & 255)]),
    () => Buffer.from('GET / HTTP/1.1\r\nhost: x\r\n\r\n'),
    () => Buffer.concat(Array.from({ length: 50 }, () => Buffer.from('0400000400000000', 'hex'))),
    () => Buffer.from('16030102000100', 'hex'),
    () => Buffer.alloc(0),
  ];
  const one = (bytes: Buffer) =>
    new Promise<void>((resolve) => {
      const socket: Socket = connect(server.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.once('close', () => resolve());
      socket.resume();
      socket.end(bytes);
    });
  const round = async (connections: number) => {
    for (let i = 0; i < connections; i += 50)
      await Promise.all(
        Array.from({ length: 50 }, (_, k) => one((attacks[(i + k) % attacks.length] as () => Buffer)())),
      );
  };
  const used = async () => {
    await until(() => server.connections === 1, 'only the good switch is left');
    collect();
    return process.memoryUsage().heapUsed;
  };
  await round(500);
  const before = await used();
  await round(2500);
  const grown = (await used()) - before;
  // 2 KB for each connection: less than any that were kept would take.
  expect(grown).toBeLessThan(5 * 2 ** 20);
  expect(sw.isConnected).toBe(true);
  expect(saw('switchDown')).toEqual([]);
  expect(await write(1, [addFlow(miss)])).toMatchObject({ outcome: 'applied' });
  // Thousands of strangers do not fill the log either.
  expect(logged.filter((l) => l.startsWith('switch.gone')).length).toBeLessThan(1000);
  expect(logged.some((l) => /linesLeftOut/.test(l))).toBe(true);
});

test('one address may have so many connections, and all together so many', async () => {
  await listen({ maxConnections: 5, maxPerAddress: 3 });
  const open = (from: string) => {
    const socket = connect({ port: server.port, host: '127.0.0.1', localAddress: from });
    undo.push(() => socket.destroy());
    const state = { closed: false };
    socket.on('error', () => {});
    socket.once('close', () => {
      state.closed = true;
    });
    return state;
  };
  const first = [1, 2, 3, 4].map(() => open('127.0.0.1'));
  await until(() => first.filter((c) => c.closed).length === 1, 'the fourth of one address is closed');
  const second = [1, 2, 3].map(() => open('127.0.0.2'));
  await until(() => second.filter((c) => c.closed).length === 1, 'the sixth of all is closed');
  expect(server.connections).toBe(5);
  expect(logged.join()).toMatch(/its address.*all addresses/);
});

/** A switch reduced to its handshake, which goes silent when told. */
function scripted(answersEcho: () => boolean): { socket: Socket; closed: () => boolean } {
  const socket = connect(server.port, '127.0.0.1');
  undo.push(() => socket.destroy());
  let closed = false;
  socket.on('error', () => {});
  socket.once('close', () => {
    closed = true;
  });
  const splitter = new MessageSplitter();
  const send = (m: OfMessage<4>, xid: number) => socket.write(encode(m, xid));
  socket.once('connect', () => send(of13.OFPHello({ elements: [] }), 1));
  socket.on('data', (chunk) => {
    for (const bytes of splitter.push(chunk)) {
      const m = decodeAs(4, bytes);
      if (m.cls === 'OFPFeaturesRequest') send(of13.OFPSwitchFeatures({ datapath_id: BigInt(`0x${DPID}`) }), m.xid);
      else if (m.cls === 'OFPPortDescStatsRequest') send(of13.OFPPortDescStatsReply({ body: [] }), m.xid);
      else if (m.cls === 'OFPMeterFeaturesStatsRequest') send(of13.OFPMeterFeaturesStatsReply({ body: [] }), m.xid);
      else if (m.cls === 'OFPFlowStatsRequest') send(of13.OFPFlowStatsReply({ body: [] }), m.xid);
      else if (m.cls === 'OFPEchoRequest' && answersEcho()) send(of13.OFPEchoReply({ data: m.data }), m.xid);
    }
  });
  return { socket, closed: () => closed };
}

test('a duplicate takes over where the first does not answer an echo, and not where it does', async () => {
  await listen();
  let isAlive = true;
  const first = scripted(() => isAlive);
  await until(() => saw('switchUp').length === 1, 'the first is up');
  const second = scripted(() => true);
  await until(second.closed, 'the second is refused');
  expect(logged.join()).toMatch(/already connected from 127\.0\.0\.1:\d+; give each switch its own/);
  isAlive = false;
  const third = scripted(() => true);
  await until(() => saw('switchUp').length === 2, 'the third is up');
  await until(first.closed, 'the first is gone');
  expect(third.closed()).toBe(false);
  expect(events.map((e) => e.kind)).toEqual(['switchUp', 'switchDown', 'switchUp']);
});

test('the core hears nothing of a connection that says nothing, and it is given up', async () => {
  const clock = new ManualClock();
  await listen({ clock });
  const mute = connect(server.port, '127.0.0.1');
  undo.push(() => mute.destroy());
  let isGivenUp = false;
  mute.on('error', () => {});
  mute.once('close', () => {
    isGivenUp = true;
  });
  mute.resume();
  await until(() => server.connections === 1, 'it is connected');
  // A second after the other: the hello is due long before the introduction.
  await until(() => {
    if (!isGivenUp) clock.advance(1000);
    return isGivenUp;
  }, 'it is given up');
  expect(events).toEqual([]);
  expect(logged.join()).toMatch(/no hello came/);
});

test('meters that are there already are modified, that are gone are made or left alone', async () => {
  await listen();
  emulated();
  await until(() => saw('switchUp').length === 1, 'the switch is up');
  const meter = (rateKbps: number) => ({ meterId: 0xfa01, rateKbps, burstKbits: 100 });
  expect(await write(1, [writeMeter(meter(1000), 'modify')])).toMatchObject({ outcome: 'applied', errors: [] });
  expect(await write(2, [writeMeter(meter(2000), 'add')])).toMatchObject({ outcome: 'applied', errors: [] });
  expect((await server.sessions.get(DPID)?.readBack())?.meterIds).toEqual([0xfa01]);
  expect(await write(3, [removeMeter(0xfa01), removeMeter(0xfa02)])).toMatchObject({ outcome: 'applied', errors: [] });
  const police = of13.OFPInstructionMeter({ meter_id: 0xfa03 });
  const uses = flow({ ...miss, instructions: [police, toController] });
  const missing = [writeMeter({ ...meter(1000), meterId: 0xfa03 }, 'modify'), addFlow(uses)];
  expect(await write(4, missing)).toMatchObject({ outcome: 'applied', errors: [] });
  expect((await server.sessions.get(DPID)?.readFlows())?.map((f) => f.signature)).toEqual([uses.signature]);
});

test('an address to connect to that is none is said to be so', async () => {
  for (const connectTo of ['tcp', 'udp:h:1', 'tcp:h:0', 'ssl:127.0.0.1:6653'])
    await expect(listen({ connect: [connectTo] })).rejects.toMatchObject({ code: 'BAD_ADDRESS', labels: ['badInput'] });
});
