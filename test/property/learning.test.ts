/**
 * The learning switch against a model that learns with the library's own messages, on random packets in every version it
 * speaks; and what it does with packet-ins that are cut or spoilt.
 */
import fc from 'fast-check';
import { decode, encode, MessageSplitter, type OfMessage, of10, of13, of14, of15 } from 'node-openflow';
import {
  LEARNING_COOKIE,
  LEARNING_VERSIONS,
  LearningSwitch,
  type LearningVersion,
} from '../../controller/apps/learning.ts';

const FACTORIES = { 4: of13, 5: of14, 6: of15 } as const;
const NO_BUFFER = 0xffff_ffff;
const FLOOD = { 1: 0xfffb, 4: 0xffff_fffb, 5: 0xffff_fffb, 6: 0xffff_fffb };

interface Packet {
  src: number;
  dst: number;
  inPort: number;
  bufferId: number;
  payload: Uint8Array;
}
const HOSTS = ['020000000001', '020000000002', 'fe00000000ff', '0200ffffffff'];
const GROUPS = ['ffffffffffff', '01005e000001', '0180c2000000', '0180c200000e', '0180c2000010'];
const ADDRESSES = [...HOSTS, ...GROUPS];
const packets: fc.Arbitrary<Packet> = fc.record({
  src: fc.nat(HOSTS.length - 1),
  dst: fc.nat(ADDRESSES.length - 1),
  inPort: fc.integer({ min: 1, max: 3 }),
  bufferId: fc.constantFrom(NO_BUFFER, 1, 0x7fff_ffff),
  payload: fc.uint8Array({ maxLength: 60 }),
});

function packetIn(version: LearningVersion, p: Packet): Buffer {
  const data = Buffer.concat([Buffer.from(`${ADDRESSES[p.dst]}${HOSTS[p.src]}0800`, 'hex'), p.payload]);
  const common = { buffer_id: p.bufferId, total_len: data.length, data };
  if (version === 1) return Buffer.from(encode(of10.OFPPacketIn({ ...common, in_port: p.inPort }), 7));
  const of = FACTORIES[version] as typeof of13;
  // other fields than the port, before it and behind it
  const match = of.OFPMatch({ metadata: 5n, in_port: p.inPort, tunnel_id: 9n });
  return Buffer.from(encode(of.OFPPacketIn({ ...common, match, cookie: 3n }), 7));
}

/** What a message says, in words that are the same in all versions. */
function said(m: OfMessage): object {
  // the versions' messages have their fields under the same names
  const f = m as unknown as Record<string, unknown> & {
    match: { fields: Record<string, unknown> };
    actions: { port: number }[];
    instructions: { actions: { port: number }[] }[];
    data: Uint8Array;
  };
  // a match of 1.0 has its fields in itself
  const fields = f.match?.fields ?? (f.match as Record<string, unknown> | undefined) ?? {};
  const ports = (f.actions ?? f.instructions?.[0]?.actions ?? []).map((a) => a.port);
  if (m.cls === 'OFPPacketOut') {
    const data = Buffer.from(f.data).toString('hex');
    return { out: ports, inPort: f.in_port ?? fields.in_port, bufferId: f.buffer_id, data };
  }
  const dst = fields.eth_dst ?? fields.dl_dst;
  // 1.0 shows zeros for what its wildcards leave out
  if (f.command === 3) return { forget: dst === '00:00:00:00:00:00' ? undefined : dst, outPort: f.out_port };
  return {
    flow: { inPort: fields.in_port, dst, src: fields.eth_src ?? fields.dl_src },
    ...{ out: ports, bufferId: f.buffer_id, idle: f.idle_timeout, cookie: f.cookie },
  };
}

const colons = (hex: string) => hex.replace(/(..)(?=.)/g, '$1:');

function model(version: LearningVersion, ports: Map<number, number>, p: Packet): object[] {
  const said: object[] = [];
  const before = ports.get(p.src);
  if (before !== undefined && before !== p.inPort)
    said.push({ forget: colons(HOSTS[p.src] as string), outPort: version === 1 ? 0xffff : NO_BUFFER });
  ports.set(p.src, p.inPort);
  const address = ADDRESSES[p.dst] as string;
  if (/^0180c200000.$/.test(address)) return said;
  const data = p.bufferId === NO_BUFFER ? `${address}${HOSTS[p.src]}0800${Buffer.from(p.payload).toString('hex')}` : '';
  const to = ports.get(p.dst);
  if (to === undefined) return [...said, { out: [FLOOD[version]], inPort: p.inPort, bufferId: p.bufferId, data }];
  const out = to === p.inPort ? [] : [to];
  const flow = { inPort: p.inPort, dst: colons(address), src: colons(HOSTS[p.src] as string) };
  said.push({ flow, out, bufferId: p.bufferId, idle: 60, cookie: LEARNING_COOKIE });
  if (p.bufferId === NO_BUFFER && out.length > 0) said.push({ out, inPort: p.inPort, bufferId: p.bufferId, data });
  return said;
}

describe.each(LEARNING_VERSIONS.map((version) => ({ version })))('OpenFlow version $version', ({ version }) => {
  test('says what the model says, whatever comes', () => {
    fc.assert(
      fc.property(fc.array(packets, { maxLength: 40 }), fc.nat(5), (all, every) => {
        const app = new LearningSwitch({ version, nBuffers: 256 });
        const ports = new Map<number, number>();
        const want: object[] = [];
        const taken: Buffer[] = [];
        for (const [i, p] of all.entries()) {
          expect(app.packetIn(packetIn(version, p))).toBe(true);
          want.push(...model(version, ports, p));
          // taken out at any time, and read at the end: nothing may write to it meanwhile
          const some = i % (every + 1) === 0 ? app.take() : undefined;
          if (some) taken.push(some);
        }
        const rest = app.take();
        const messages = new MessageSplitter().push(Buffer.concat([...taken, ...(rest ? [rest] : [])])).map(decode);
        expect(messages.map(said)).toEqual(want);
        expect(messages.every((m) => m.version === version && m.xid === 0)).toBe(true);
        expect(app.counters.flowMods + app.counters.packetOuts).toBe(want.length);
        expect(app.take()).toBeUndefined();
      }),
    );
  });

  test('cut or spoilt packet-ins make no exception, and only whole messages', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(packets, fc.nat(200), fc.nat(200), fc.nat(255)), { maxLength: 20 }), (all) => {
        const app = new LearningSwitch({ version, nBuffers: 0 });
        for (const [p, cut, at, value] of all) {
          const b = packetIn(version, p);
          b[8 + (at % (b.length - 8))] = value;
          app.packetIn(b.subarray(0, Math.max(8, Math.min(b.length, cut))));
        }
        const out = app.take();
        if (out === undefined) return;
        const splitter = new MessageSplitter();
        for (const m of splitter.push(out)) expect(['OFPFlowMod', 'OFPPacketOut']).toContain(decode(m).cls);
        expect(splitter.pending).toBe(0);
      }),
    );
  });

  test('knows no more addresses than it may', () => {
    const app = new LearningSwitch({ version, nBuffers: 0, maxAddresses: 3 });
    for (const src of [0, 1, 2, 3]) app.packetIn(packetIn(version, frameFrom(src)));
    expect(app.size).toBe(3);
    expect(app.portOf(0x020000000001)).toBeUndefined();
    expect(app.portOf(0x0200ffffffff)).toBe(1);
  });

  test('forgets the oldest that nothing was sent to', () => {
    const app = new LearningSwitch({ version, nBuffers: 0, maxAddresses: 100 });
    const toGateway = packetIn(version, { ...frameFrom(1), inPort: 2, payload: Buffer.alloc(0) });
    const frame = toGateway.length - 14;
    // a gateway, learned first, and many that send to it
    app.packetIn(packetIn(version, frameFrom(0)));
    toGateway.write(HOSTS[0] as string, frame, 'hex');
    for (let n = 1; n <= 10_000; n++) {
      toGateway.writeUInt16BE(n, frame + 8);
      app.packetIn(toGateway);
    }
    expect(app.size).toBe(100);
    expect(app.portOf(0x020000000001)).toBe(1);
    expect(app.counters).toMatchObject({ packetIns: 10_001, flowMods: 10_000 });
    app.portDown(2);
    expect(app.size).toBe(1);
  });

  test('a port that is down: its addresses and the flows to it are forgotten', () => {
    const app = new LearningSwitch({ version, nBuffers: 0 });
    app.packetIn(packetIn(version, frameFrom(0)));
    app.packetIn(packetIn(version, { ...frameFrom(1), inPort: 2 }));
    app.take();
    app.portDown(3);
    expect(app.take()).toBeUndefined();
    app.portDown(1);
    expect(said(decode(app.take() as Buffer))).toEqual({ forget: undefined, outPort: 1 });
    expect(app.size).toBe(1);
  });

  test('a packet that the switch neither keeps nor sends whole goes nowhere', () => {
    const app = new LearningSwitch({ version, nBuffers: 0 });
    const b = packetIn(version, frameFrom(0));
    b.writeUInt16BE(1000, 12);
    expect(app.packetIn(b)).toBe(true);
    expect(app.take()).toBeUndefined();
    expect(app.counters.truncated).toBe(1);
  });

  test('is set up to get what no flow takes', () => {
    const whole = new LearningSwitch({ version, nBuffers: 0 }).setUp();
    const begun = new LearningSwitch({ version, nBuffers: 256 }).setUp();
    expect(whole[0]).toMatchObject({ cls: 'OFPSetConfig', miss_send_len: 0xffff, version });
    expect(begun[0]).toMatchObject({ cls: 'OFPSetConfig', miss_send_len: 128, version });
    expect(begun).toHaveLength(version === 1 ? 1 : 2);
    if (version !== 1) expect(begun[1]).toMatchObject({ cls: 'OFPFlowMod', priority: 0, version });
  });

  test('leaves what is no packet-in of its version alone', () => {
    const app = new LearningSwitch({ version, nBuffers: 0 });
    const other = version === 1 ? 4 : 1;
    expect(app.packetIn(packetIn(other, frameFrom(0)))).toBe(false);
    expect(app.packetIn(Buffer.from([version, 2, 0, 8, 0, 0, 0, 1]))).toBe(false);
    expect(app.size).toBe(0);
  });
});

const frameFrom = (src: number): Packet => ({
  src,
  dst: HOSTS.length,
  inPort: 1,
  bufferId: NO_BUFFER,
  payload: new Uint8Array(46),
});

test('addresses of one hash are all known, at their last ports, also when some are forgotten', () => {
  const seed = 0x1234567;
  // The low half that brings each high half to the same hash.
  const addresses = [2, 4, 6, 8, 10, 12].map((high) => {
    const low = (Math.imul(high + 1, seed | 1) ^ 0x55aa) >>> 0;
    return high * 2 ** 32 + low;
  });
  const write = (b: Buffer, at: number, address: number) => b.writeUIntBE(address, at, 6);
  const act = fc.oneof(
    fc.record({ src: fc.nat(5), dst: fc.nat(5), inPort: fc.integer({ min: 1, max: 3 }) }),
    fc.record({ down: fc.integer({ min: 1, max: 3 }) }),
  );
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 7 }), fc.array(act, { maxLength: 60 }), (maxAddresses, acts) => {
      const app = new LearningSwitch({ version: 1, nBuffers: 256, maxAddresses, seed });
      const last = new Map<number, number>();
      for (const a of acts) {
        if ('down' in a) {
          app.portDown(a.down);
          for (const [address, port] of last) if (port === a.down) last.delete(address);
        } else {
          const b = packetIn(1, { src: 0, dst: 0, inPort: a.inPort, bufferId: 1, payload: Buffer.alloc(0) });
          write(b, b.length - 14, addresses[a.dst] as number);
          write(b, b.length - 8, addresses[a.src] as number);
          app.packetIn(b);
          last.set(addresses[a.src] as number, a.inPort);
          expect(app.portOf(addresses[a.src] as number)).toBe(a.inPort);
        }
        const known = addresses.filter((x) => app.portOf(x) !== undefined);
        expect(known).toHaveLength(app.size);
        expect(app.size).toBeLessThanOrEqual(maxAddresses);
        if (maxAddresses >= addresses.length) expect(app.size).toBe(last.size);
        for (const x of known) expect(app.portOf(x)).toBe(last.get(x));
      }
    }),
  );
});
