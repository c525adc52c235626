/** `controller/io/switches.ts` against peers that behave, misbehave, vanish and talk nonsense. */
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import fc from 'fast-check';
import { decodeAs, encode, MessageSplitter, type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { systemClock } from '../../../contracts/clock.ts';
import { silentLog } from '../../../contracts/log.ts';
import type { Event } from '../../../controller/core/events.ts';
import { SwitchServer } from '../../../controller/io/switches.ts';

const DPID = 0xabcn;
const DPID_TEXT = '0000000000000abc';

/** A switch reduced to its handshake; `answer` may take over any message. */
class Peer {
  readonly socket: Socket;
  readonly got: OfMessage<4>[] = [];
  closed = false;
  readonly #splitter = new MessageSplitter();

  constructor(port: number, answer: (m: OfMessage<4>, p: Peer) => boolean = () => false, dpid = DPID) {
    this.socket = connect(port, '127.0.0.1');
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.closed = true;
    });
    this.socket.on('connect', () => this.send(of13.OFPHello({ elements: [] })));
    this.socket.on('data', (chunk) => {
      for (const bytes of this.#splitter.push(chunk)) {
        const m = decodeAs(4, bytes);
        this.got.push(m);
        if (!answer(m, this)) this.#obey(m, dpid);
      }
    });
  }

  send(m: OfMessage<4>, xid = 0): void {
    this.socket.write(encode(m, xid));
  }

  #obey(m: OfMessage<4>, dpid: bigint): void {
    if (m.cls === 'OFPFeaturesRequest') this.send(of13.OFPSwitchFeatures({ datapath_id: dpid, n_tables: 254 }), m.xid);
    else if (m.cls === 'OFPPortDescStatsRequest') {
      const port = of13.OFPPort({ port_no: 1, name: 'eth1', hw_addr: '02:00:00:00:00:01', curr_speed: 1_000_000 });
      this.send(of13.OFPPortDescStatsReply({ body: [port] }), m.xid);
    } else if (m.cls === 'OFPMeterFeaturesStatsRequest')
      this.send(of13.OFPErrorMsg({ type: ofp.OFPET_BAD_REQUEST, code: ofp.OFPBRC_BAD_MULTIPART }), m.xid);
    else if (m.cls === 'OFPFlowStatsRequest') this.send(of13.OFPFlowStatsReply({ body: [] }), m.xid);
    else if (m.cls === 'OFPBarrierRequest') this.send(of13.OFPBarrierReply({}), m.xid);
    else if (m.cls === 'OFPEchoRequest') this.send(of13.OFPEchoReply({ data: m.data }), m.xid);
  }
}

let server: SwitchServer;
let events: Event[];
const peers: Peer[] = [];
const logged: string[] = [];

beforeEach(async () => {
  events = [];
  logged.length = 0;
  server = await SwitchServer.listen({
    host: '127.0.0.1',
    port: 0,
    clock: systemClock(),
    log: (_level, event, fields) => logged.push(`${event} ${JSON.stringify(fields)}`),
    emit: (e) => events.push(e),
  });
});
afterEach(async () => {
  for (const p of peers.splice(0)) p.socket.destroy();
  await server.close();
});

const peer = (...a: ConstructorParameters<typeof Peer> extends [number, ...infer R] ? R : never): Peer => {
  const p = new Peer(server.port, ...a);
  peers.push(p);
  return p;
};

async function until(holds: () => boolean, what: string): Promise<void> {
  for (let i = 0; i < 6000; i++) {
    if (holds()) return;
    await new Promise((r) => setTimeout(r, 10));
  }
  throw new Error(`gave up waiting until ${what}; events: ${events.map((e) => e.kind)}; log: ${logged}`);
}
const saw = (kind: Event['kind']) => events.filter((e) => e.kind === kind);

test('a switch says who it is, what ports it has and that it has no meters', async () => {
  peer();
  await until(() => saw('switchUp').length === 1, 'the switch is up');
  expect(saw('switchUp')[0]).toMatchObject({
    dpid: DPID_TEXT,
    maxMeters: 0,
    ports: [{ portNo: 1, name: 'eth1', isUp: true, speedBps: 1e9 }],
  });
});

test('a write is applied when its barrier is answered', async () => {
  peer();
  await until(() => saw('switchUp').length === 1, 'the switch is up');
  server.write(DPID_TEXT, 7, [of13.OFPFlowMod({})]);
  await until(() => saw('written').length === 1, 'the write is answered');
  expect(saw('written')[0]).toMatchObject({ batch: 7, outcome: 'applied', errors: [] });
});

test('an error makes it refused, and says which', async () => {
  peer((m, p) => {
    if (m.cls !== 'OFPFlowMod') return false;
    p.send(of13.OFPErrorMsg({ type: ofp.OFPET_FLOW_MOD_FAILED, code: ofp.OFPFMFC_TABLE_FULL }), m.xid);
    return true;
  });
  await until(() => saw('switchUp').length === 1, 'the switch is up');
  server.write(DPID_TEXT, 8, [of13.OFPFlowMod({})]);
  await until(() => saw('written').length === 1, 'the write is answered');
  expect(saw('written')[0]).toMatchObject({
    outcome: 'refused',
    errors: ['OFPET_FLOW_MOD_FAILED/OFPFMFC_TABLE_FULL'],
    isTableFull: true,
  });
});

test('after a refusal what the switch holds is read back', async () => {
  let reads = 0;
  peer((m, p) => {
    if (m.cls === 'OFPFlowMod')
      p.send(of13.OFPErrorMsg({ type: ofp.OFPET_FLOW_MOD_FAILED, code: ofp.OFPFMFC_EPERM }), m.xid);
    if (m.cls === 'OFPFlowStatsRequest') reads += 1;
    return m.cls === 'OFPFlowMod';
  });
  await until(() => saw('switchUp').length === 1, 'the switch is up');
  server.write(DPID_TEXT, 11, [of13.OFPFlowMod({})]);
  await until(() => saw('written').length === 1, 'the write is answered');
  expect(reads).toBe(2);
  expect(saw('written')[0]).toMatchObject({ outcome: 'refused', holds: { flows: [], meterIds: [] } });
});

test('a switch that vanishes before the barrier leaves the outcome unknown', async () => {
  peer((m, p) => {
    if (m.cls === 'OFPFlowMod') p.socket.destroy();
    return m.cls === 'OFPFlowMod' || m.cls === 'OFPBarrierRequest';
  });
  await until(() => saw('switchUp').length === 1, 'the switch is up');
  server.write(DPID_TEXT, 9, [of13.OFPFlowMod({})]);
  await until(() => saw('written').length === 1, 'the write is given up');
  expect(saw('written')[0]).toMatchObject({ outcome: 'unknown' });
  expect(saw('switchDown')).toHaveLength(1);
});

test('a second switch with the same datapath id is refused, with a reason', async () => {
  peer();
  await until(() => saw('switchUp').length === 1, 'the first is up');
  const second = peer();
  await until(() => second.closed, 'the second is refused');
  expect(logged.join()).toMatch(/already connected from/);
  const why = expect.stringMatching(/already connected from .*give each switch its own/);
  expect(server.describeRefused()).toMatchObject([{ from: '127.0.0.1', dpid: DPID_TEXT, why, times: 1 }]);
  expect(saw('switchUp')).toHaveLength(1);
  expect(saw('switchDown')).toHaveLength(0);
});

/** A peer that speaks nothing but 1.0, from its hello to its end. Answers what it was told. */
async function oldPeer(): Promise<string> {
  const socket = connect(server.port, '127.0.0.1');
  const chunks: Buffer[] = [];
  socket.on('data', (c) => chunks.push(c));
  socket.on('error', () => {});
  socket.write(Buffer.from('0100000800000001', 'hex'));
  await new Promise((r) => socket.once('close', r));
  return Buffer.concat(chunks).toString('latin1');
}

test('OpenFlow 1.0 alone is answered with what to change, and operators see who it was', async () => {
  expect(await oldPeer()).toMatch(/OpenFlow 1\.3.*protocols=OpenFlow13/);
  await oldPeer();
  expect(server.describeRefused()).toEqual([
    {
      from: '127.0.0.1',
      dpid: null,
      why: expect.stringMatching(/peer offers OpenFlow 1\.0 .*set protocols=OpenFlow13/),
      times: 2,
      sinceMs: expect.any(Number),
      lastMs: expect.any(Number),
    },
  ]);
  expect(events).toEqual([]);
});

test('a switch of OpenFlow 1.0 that is connected to is tried again ever less often', async () => {
  const cameMs: number[] = [];
  const clock = systemClock(50);
  const old = createServer((socket) => {
    cameMs.push(clock.now());
    socket.resume();
    socket.on('error', () => {});
    socket.write(Buffer.from('0100000800000001', 'hex'));
  });
  await new Promise<void>((r) => old.listen(0, '127.0.0.1', r));
  const { port } = old.address() as AddressInfo;
  const caller = await SwitchServer.listen({
    host: '127.0.0.1',
    port: 0,
    clock,
    log: silentLog,
    emit: (e) => events.push(e),
    connect: [`tcp:127.0.0.1:${port}`],
  });
  try {
    await until(() => (caller.describeRefused()[0]?.times ?? 0) >= 4, 'it was refused four times');
    for (const [i, leastMs] of [1000, 2000, 4000].entries())
      expect((cameMs[i + 1] ?? 0) - (cameMs[i] ?? 0)).toBeGreaterThan(leastMs - 100);
    expect(caller.describeRefused()).toHaveLength(1);
  } finally {
    await caller.close();
    await new Promise((r) => old.close(r));
  }
});

test('an echo request is answered with its own transaction id and data', async () => {
  const p = peer();
  await until(() => saw('switchUp').length === 1, 'the switch is up');
  p.send(of13.OFPEchoRequest({ data: Buffer.from('hello') }), 4711);
  await until(() => p.got.some((m) => m.cls === 'OFPEchoReply'), 'the echo comes back');
  expect(p.got.find((m) => m.cls === 'OFPEchoReply')).toMatchObject({ xid: 4711, data: Buffer.from('hello') });
});

test('no bytes can bring it down: garbage closes that connection and no other', async () => {
  peer();
  await until(() => saw('switchUp').length === 1, 'the switch is up');
  const hello = encode(of13.OFPHello({ elements: [] }), 1);
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.boolean(), async (bytes, greets) => {
      const socket = connect(server.port, '127.0.0.1');
      socket.on('error', () => {});
      if (greets) socket.write(hello);
      socket.write(bytes);
      await new Promise<void>((r) => socket.end(() => r()));
      socket.destroy();
    }),
    { numRuns: 200 },
  );
  server.write(DPID_TEXT, 10, [of13.OFPFlowMod({})]);
  await until(() => saw('written').length === 1, 'the good switch still answers');
  expect(saw('written')[0]).toMatchObject({ outcome: 'applied' });
  expect(saw('switchDown')).toHaveLength(0);
});

test('listening where somebody else listens says so', async () => {
  await expect(
    SwitchServer.listen({ host: '127.0.0.1', port: server.port, clock: systemClock(), log: silentLog, emit: () => {} }),
  ).rejects.toMatchObject({ code: 'LISTEN', message: expect.stringContaining(String(server.port)) });
});
