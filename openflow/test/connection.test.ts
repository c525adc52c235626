/** OfConnection, behaviour by behaviour, over transports in memory (backToBack.ts). Its invariants are in connection.properties.test.ts. */
import {
  encode,
  errorNames,
  OfConnection,
  type OfConnectionError,
  type OfMessage,
  OfRequestError,
  of13,
  of14,
  ofproto_v1_3 as ofp,
  type ReplyTo,
} from 'node-openflow';
import { agree, offer, readHello } from '../src/hello.ts';
import { BackToBack, End, microtasks, watch } from './backToBack.ts';

const features = of13.OFPSwitchFeatures({ datapath_id: 0xabcn, n_tables: 254 });
const packetIn = of13.OFPPacketIn({ data: Buffer.from('frame') });

/** A switch end that answers what a switch answers; `answer` may take a request over by returning true. */
function switchEnd(
  answer: (message: OfMessage<4>, end: End<4>) => boolean = () => false,
  options: ConstructorParameters<typeof End<4>>[0] = {},
): End<4> {
  const end: End<4> = new End<4>(
    { role: 'switch', versions: [4], ...options },
    {
      onMessage(m) {
        if (answer(m, end)) return;
        if (m.cls === 'OFPFeaturesRequest') end.connection.send(features, m.xid);
        if (m.cls === 'OFPBarrierRequest') end.connection.send(of13.OFPBarrierReply(), m.xid);
        if (m.cls === 'OFPGetConfigRequest') end.connection.send(of13.OFPGetConfigReply({ miss_send_len: 7 }), m.xid);
      },
    },
  );
  return end;
}
function pair(controller: ConstructorParameters<typeof End<4>>[0] = {}, sw = switchEnd()): BackToBack<4, 4> {
  const both = new BackToBack<4, 4>(new End<4>({ versions: [4], ...controller }), sw).open();
  both.settle();
  return both;
}
/** A controller end with bare hands at the other end of the wire. */
function alone(options: ConstructorParameters<typeof End<4>>[0] = {}): End<4> {
  const end = new End<4>({ versions: [4], ...options });
  end.connection.open(end.transport(), 0);
  return end;
}
const greeted = (options: ConstructorParameters<typeof End<4>>[0] = {}): End<4> => {
  const end = alone({ askFeatures: false, ...options });
  end.connection.received(encode(of13.OFPHello({ elements: [] })), 0);
  end.out.take(1000);
  return end;
};
const header = (version: number, type: number, xid = 0, length = 8): Buffer => {
  const b = Buffer.alloc(8);
  b.writeUInt8(version, 0);
  b.writeUInt8(type, 1);
  b.writeUInt16BE(length, 2);
  b.writeUInt32BE(xid, 4);
  return b;
};
const written = (end: End<4>, now = 0): Buffer => {
  end.connection.flush(now);
  return end.out.take(1e9);
};

describe('hello', () => {
  test('both sides come up, the controller with features', () => {
    const both = pair();
    expect(both.controller.told.up).toEqual([{ version: 4, features: { ...features, xid: expect.any(Number) } }]);
    expect(both.switch.told.up).toEqual([{ version: 4, features: undefined }]);
    expect(both.controller.connection.features?.datapath_id).toBe(0xabcn);
  });

  const bitmap = (...versions: number[]) => ({ version: Math.max(...versions), bitmap: versions });
  const bare = (version: number) => ({ version, bitmap: undefined });
  test.each([
    [[1, 3, 4, 5, 6], true, bitmap(1, 4), 4],
    [[1, 3, 4, 5, 6], true, bitmap(1, 2, 6), 6],
    [[1, 4], true, bitmap(2, 3), undefined],
    [[1, 4], true, { version: 4, bitmap: [] }, undefined],
    // the bitmap counts, not the version in front of it
    [[4], true, { version: 0x99, bitmap: [4] }, 4],
    // one of the two has no bitmap: the lower of the highest
    [[1, 3, 4, 5, 6], true, bare(1), 1],
    [[1, 3, 4, 5, 6], true, bare(4), 4],
    [[1, 3, 4], true, bare(6), 4],
    [[1, 3, 4], true, bare(2), undefined],
    [[4], true, bare(1), undefined],
    [[1], false, bitmap(1, 4), 1],
    [[1, 3], false, bitmap(1, 4), 3],
    [[4], true, bare(0x7f), 4],
    [[4], true, bare(0x99), undefined],
    [[4], true, bare(0), undefined],
  ])('of %j (with bitmap: %s) and %j comes %s', (ours, weSentBitmap, peer, want) => {
    expect(agree(ours, weSentBitmap, peer)).toBe(want);
  });

  test('a preference is offered alone, where the peer has it', () => {
    expect(offer([1, 4, 5, 6], [4], bitmap(1, 4, 6))).toEqual([4]);
    expect(offer([1, 4, 5, 6], [4, 1], bitmap(1, 6))).toEqual([1]);
    expect(offer([1, 4, 5, 6], [4], bitmap(1, 6))).toEqual([1, 4, 5, 6]);
    expect(offer([1, 4, 5, 6], [4], bare(5))).toEqual([4]);
    expect(offer([1, 4], [5], bitmap(5))).toEqual([1, 4]);
  });

  test('with a preference the hello waits for the peer, but not for ever', () => {
    const end = alone({ prefer: [4], preferWaitMs: 300 });
    expect(end.out.length).toBe(0);
    expect(end.connection.nextDeadline()).toBe(300);
    end.connection.tick(299);
    expect(end.out.length).toBe(0);
    end.connection.tick(300);
    expect(readHello(end.out.take(100))).toEqual({ version: 4, bitmap: [4] });
    expect(end.connection.nextDeadline()).toBe(10_000);
    const both = new BackToBack<4, 4>(
      new End<4>({ versions: [4], prefer: [4] }),
      switchEnd(undefined, { prefer: [4] }),
    );
    both.open();
    both.pass(1000, () => both.settle());
    expect(both.controller.connection.isUp && both.switch.connection.isUp).toBe(true);
  });

  test('elements nobody knows are skipped, and several words of bitmap are read', () => {
    const body = Buffer.from('0009000541000000' + '0001000c0000001200000001' + '00000000', 'hex');
    const bytes = Buffer.concat([header(4, 0, 1, 8 + body.length), body]);
    expect(readHello(bytes)).toEqual({ version: 4, bitmap: [1, 4, 32] });
  });

  test.each([
    ['0001', 'ends within the header'],
    ['00010003', 'length of 3'],
    ['00010010', 'length of 16'],
    ['000100060000', 'length of 6'],
  ])('malformed from 1.3 on is an end: %s', (body, text) => {
    const bytes = Buffer.from(body, 'hex');
    const end = alone();
    end.connection.received(Buffer.concat([header(4, 0, 1, 8 + bytes.length), bytes]), 0);
    expect(end.told.down).toEqual([{ code: 'hello', message: expect.stringContaining(text) }]);
    expect(end.closedWith?.code).toBe('hello');
    // before 1.3 a hello has no body to be malformed
    expect(readHello(Buffer.concat([header(1, 0, 1, 8 + bytes.length), bytes]))).toEqual({
      version: 1,
      bitmap: undefined,
    });
  });

  test('no version in common: both know why', () => {
    const end = alone();
    end.connection.received(header(1, 0), 0);
    expect(end.told.down).toEqual([{ code: 'version', message: expect.stringContaining('OpenFlow 1.0 and lower') }]);
    const hello = end.out.take(16);
    expect(hello[1]).toBe(ofp.OFPT_HELLO);
    const error = end.out.take(1000);
    expect(error[1]).toBe(ofp.OFPT_ERROR);
    expect(error.readUInt16BE(8)).toBe(ofp.OFPET_HELLO_FAILED);
    expect(error.readUInt16BE(10)).toBe(ofp.OFPHFC_INCOMPATIBLE);

    const other = alone();
    other.connection.received(error, 0);
    expect(other.told.down[0]?.code).toBe('version');
    expect(other.told.down[0]?.message).toContain(
      'OFPET_HELLO_FAILED/OFPHFC_INCOMPATIBLE (no version in common: the peer',
    );
  });

  test('a version nobody knows', () => {
    const end = alone();
    end.connection.received(header(0x99, 0), 0);
    expect(end.told.down).toEqual([{ code: 'version', message: expect.stringContaining('version 0x99') }]);
  });

  test('HELLO_FAILED that comes once this side thinks all is well', () => {
    const end = greeted();
    const data = Buffer.from('no\u0007t this one');
    end.connection.received(encode(of13.OFPErrorMsg({ type: 0, code: 0, data })), 1);
    expect(end.told.down[0]).toEqual({ code: 'version', message: expect.stringContaining('(no t this one)') });
  });

  test('missing', () => {
    const end = alone({ helloTimeoutMs: 500 });
    end.connection.tick(499);
    expect(end.told.down).toEqual([]);
    end.connection.tick(500);
    expect(end.told.down).toEqual([{ code: 'hello', message: 'no hello came within 500 ms' }]);
    expect(end.connection.nextDeadline()).toBeUndefined();
    // late
    end.connection.received(header(4, 0), 501);
    expect(end.told.up).toEqual([]);
  });

  test.each([
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n'), '474554202f204854'],
    ['TLS', Buffer.from('160301020001fc', 'hex'), 'this is TLS'],
    ['a request before the hello', encode(of13.OFPFeaturesRequest()), '0405000800000000'],
  ])('%s is told at once', (_, bytes, text) => {
    for (const n of [bytes.length, 1]) {
      const end = alone();
      for (let at = 0; at < bytes.length; at += n) end.connection.received(bytes.subarray(at, at + n), 0);
      expect(end.told.down[0]?.code).toBe('notOpenFlow');
      if (n > 1) expect(end.told.down[0]?.message).toContain(text);
    }
  });

  test('a second hello changes nothing', () => {
    const end = greeted();
    end.connection.received(header(1, 0), 0);
    expect(end.told.down).toEqual([]);
    expect(end.connection.version).toBe(4);
  });

  test('a switch that does not say what it is', async () => {
    for (const [answer, text] of [
      [(m: OfMessage<4>, e: End<4>) => e.connection.refuse(m, { type: 1, code: 5 }) || true, 'OFPBRC_EPERM'],
      [() => true, 'not answered within'],
    ] as const) {
      const both = pair({}, switchEnd(answer));
      both.pass(20_000, () => both.settle());
      expect(both.controller.told.down).toEqual([{ code: 'features', message: expect.stringContaining(text) }]);
      expect(both.controller.told.up).toEqual([]);
    }
  });

  test('what comes before features is dropped, what comes after is not', () => {
    const end = alone();
    const stream = [header(4, 0), encode(packetIn), encode(features, 2), encode(packetIn)];
    end.connection.received(Buffer.concat(stream), 0);
    expect(end.told.up).toHaveLength(1);
    expect(end.told.messages).toHaveLength(1);
    expect(end.connection.stats.droppedEarly).toBe(1);
  });

  test('a version that is not spoken here cannot be offered', () => {
    expect(() => new OfConnection({}, { versions: [2 as 4] })).toThrow('OpenFlow 1.1 is not spoken here');
    expect(() => new OfConnection({}, { versions: [] })).toThrow(RangeError);
  });
});

describe('requests', () => {
  test('resolve with their reply', async () => {
    const both = pair();
    const reply = both.controller.connection.request(of13.OFPGetConfigRequest());
    both.settle();
    expect((await reply).miss_send_len).toBe(7);
    expect(both.controller.connection.stats.openRequests).toBe(0);
  });

  test('types: the reply follows from the request', () => {
    const c = new OfConnection(
      { onMessage: (m) => m.cls === 'OFPPacketIn' && (m.match.fields.in_port satisfies unknown) },
      { versions: [4] },
    );
    const unused = () => {
      c.request(of13.OFPFlowStatsRequest()).then((r) => r.body[0]?.packet_count satisfies bigint | undefined);
      c.request(of13.OFPFeaturesRequest()).then((r) => r.datapath_id satisfies bigint);
      // @ts-expect-error nothing answers a flow mod
      c.request(of13.OFPFlowMod());
      return undefined as unknown as ReplyTo<ReturnType<typeof of13.OFPRoleRequest>>['generation_id'] satisfies bigint;
    };
    expect(unused).toBeInstanceOf(Function);
  });

  test('multipart replies are put together, whatever comes in between', async () => {
    const part = (xid: number, port_no: number, more: number) =>
      encode(of13.OFPPortStatsReply({ flags: more, body: [of13.OFPPortStats({ port_no })] }), xid);
    const end = greeted();
    const a = watch(end.connection.request(of13.OFPPortStatsRequest()));
    const b = watch(end.connection.request(of13.OFPPortStatsRequest()));
    const out = written(end);
    const [xa, xb] = [out.readUInt32BE(4), out.readUInt32BE(4 + 24)];
    expect(xa).not.toBe(xb);
    const wrongType = encode(of13.OFPQueueStatsReply({}), xa);
    end.connection.received(
      Buffer.concat([part(xa, 1, 1), part(xb, 9, 1), wrongType, encode(packetIn), part(xb, 8, 0), part(xa, 2, 0)]),
      1,
    );
    await microtasks();
    expect(a.value?.body.map((p) => p.port_no)).toEqual([1, 2]);
    expect(b.value?.body.map((p) => p.port_no)).toEqual([9, 8]);
    expect(end.told.messages.map((m) => m.cls)).toEqual(['OFPQueueStatsReply', 'OFPPacketIn']);
    expect(end.connection.stats.unfinishedBytes).toBe(0);
  });

  test('are refused by an error with their xid, or one that quotes them', async () => {
    const end = greeted();
    for (const own of [true, false]) {
      const r = watch(end.connection.request(of13.OFPGroupDescStatsRequest()));
      const sent = written(end);
      const error = of13.OFPErrorMsg({ type: 1, code: 2, data: sent });
      end.connection.received(encode(error, own ? sent.readUInt32BE(4) : 0x7777), 1);
      await microtasks();
      expect(r.error).toBeInstanceOf(OfRequestError);
      const e = r.error as OfRequestError;
      expect(e.symbol).toBe('OFPET_BAD_REQUEST/OFPBRC_BAD_MULTIPART');
      expect(e.request?.cls).toBe('OFPGroupDescStatsRequest');
    }
    expect(end.told.errors).toEqual([]);
  });

  test("a quotation outweighs the error's own xid", async () => {
    const end = greeted();
    const a = watch(end.connection.request(of13.OFPBarrierRequest()));
    const b = watch(end.connection.request(of13.OFPGetConfigRequest()));
    const out = written(end);
    end.connection.received(
      encode(of13.OFPErrorMsg({ type: 1, code: 1, data: out.subarray(8, 16) }), out.readUInt32BE(4)),
      1,
    );
    await microtasks();
    expect([a.times, b.times]).toEqual([0, 1]);
  });

  test('have a time-out that begins when they are written, and their late reply is dropped', async () => {
    const end = greeted({ requestTimeoutMs: 100, echoIntervalMs: 0 });
    const r = watch(end.connection.request(of13.OFPBarrierRequest()));
    const long = watch(end.connection.request(of13.OFPBarrierRequest(), { timeoutMs: 1000 }));
    expect(end.connection.nextDeadline()).toBeUndefined();
    const xid = written(end, 5000).readUInt32BE(4);
    expect(end.connection.nextDeadline()).toBe(5100);
    end.connection.tick(5100);
    await microtasks();
    expect(r.error).toMatchObject({ code: 'timeout', outcomeUnknown: true });
    expect(long.times).toBe(0);
    expect(end.connection.nextDeadline()).toBe(6000);
    end.connection.received(encode(of13.OFPBarrierReply(), xid), 5101);
    expect(end.told.messages).toEqual([]);
    expect(end.connection.stats.lateReplies).toBe(1);
  });

  test('xids: never 0, wrap, and leave out what is open', () => {
    const end = greeted({ firstXid: 0xffff_fffe });
    const xids = () => {
      const out = written(end);
      return Array.from({ length: out.length / 8 }, (_, i) => out.readUInt32BE(8 * i + 4));
    };
    // the hello took 0xfffffffe
    for (let i = 0; i < 3; i++) end.connection.request(of13.OFPBarrierRequest()).catch(() => {});
    expect(xids()).toEqual([0xffff_ffff, 1, 2]);
    const other = greeted({ firstXid: 0xffff_ffff });
    for (let i = 0; i < 3; i++) other.connection.request(of13.OFPBarrierRequest()).catch(() => {});
    expect(written(other).readUInt32BE(4)).toBe(1);
    // 3 is on the wire already
    const taken = greeted();
    taken.connection.send(of13.OFPBarrierRequest(), 3);
    for (let i = 0; i < 2; i++) taken.connection.request(of13.OFPBarrierRequest()).catch(() => {});
    const out = written(taken);
    expect([4, 12, 20].map((at) => out.readUInt32BE(at))).toEqual([3, 2, 4]);
  });

  test('that nothing answers, or of another version, are refused here', async () => {
    const end = greeted();
    await expect(end.connection.request(of13.OFPFlowMod() as never)).rejects.toThrow('use send');
    expect(() => end.connection.send({ ...of13.OFPBarrierRequest(), version: 5 } as never)).toThrow('OpenFlow 1.4');
    await expect(alone().connection.request(of13.OFPBarrierRequest())).rejects.toMatchObject({ code: 'notUp' });
    expect(() => alone().connection.send(of13.OFPBarrierRequest())).toThrow('no version is agreed yet');
  });

  test('there is a limit to them', async () => {
    const end = greeted({ maxRequests: 2 });
    const first = watch(end.connection.barrier());
    end.connection.barrier().catch(() => {});
    await expect(end.connection.barrier()).rejects.toMatchObject({ code: 'tooMany', outcomeUnknown: false });
    await expect(end.connection.transaction([])).rejects.toMatchObject({ code: 'tooMany' });
    end.connection.received(encode(of13.OFPBarrierReply(), written(end).readUInt32BE(4)), 1);
    await microtasks();
    expect(first.times).toBe(1);
    end.connection.barrier().catch(() => {});
    expect(end.connection.stats.openRequests).toBe(2);
  });

  test('all end with the connection', async () => {
    const end = greeted();
    const r = watch(end.connection.request(of13.OFPBarrierRequest()));
    const t = watch(end.connection.transaction([of13.OFPFlowMod()]));
    end.connection.closed(new Error('read ECONNRESET'));
    await microtasks();
    expect(r.error).toMatchObject({ code: 'down', outcomeUnknown: true });
    expect(t.value).toMatchObject({ outcome: 'unknown', errors: [], cause: { code: 'down' } });
    expect(end.told.down).toEqual([{ code: 'closed', message: 'read ECONNRESET' }]);
    expect(end.connection.send(of13.OFPBarrierRequest())).toBe(false);
    await expect(end.connection.barrier()).rejects.toMatchObject({ code: 'notUp' });
  });

  test('a reply that cannot be read refuses its request', async () => {
    const end = greeted();
    const r = watch(end.connection.request(of13.OFPPortStatsRequest()));
    const xid = written(end).readUInt32BE(4);
    const cut = Buffer.from(encode(of13.OFPPortStatsReply({ body: [of13.OFPPortStats({ port_no: 1 })] }), xid));
    end.connection.received(
      Buffer.concat([cut.subarray(0, 2), Buffer.from([0, cut.length - 3]), cut.subarray(4, -3)]),
      1,
    );
    await microtasks();
    expect(r.error).toMatchObject({ code: 'badReply' });
    expect(end.told.bad).toHaveLength(1);
  });
});

describe('errors of what was sent', () => {
  const refusal = (data: Uint8Array, xid: number) => encode(of13.OFPErrorMsg({ type: 5, code: 1, data }), xid);

  test('come with the message while it is remembered, and without it afterwards', () => {
    const end = greeted({ rememberMessages: 2 });
    for (const priority of [1, 2, 3]) end.connection.send(of13.OFPFlowMod({ priority }));
    const out = written(end);
    const size = out.length / 3;
    for (let i = 0; i < 3; i++) {
      const sent = out.subarray(i * size, (i + 1) * size);
      end.connection.received(refusal(sent.subarray(0, 64), sent.readUInt32BE(4)), 1);
    }
    expect(end.told.errors.map((e) => e.request?.cls === 'OFPFlowMod' && e.request.priority)).toEqual([false, 2, 3]);
    expect(end.told.errors[0]?.symbol).toBe('OFPET_FLOW_MOD_FAILED/OFPFMFC_TABLE_FULL');
    expect(end.told.errors[0]?.error.data).toHaveLength(Math.min(64, size));
  });

  test('the memory has a bound of bytes', () => {
    const end = greeted({ rememberBytes: 3000 });
    for (let i = 0; i < 100; i++) end.connection.send(of13.OFPEchoReply({ data: Buffer.alloc(992) }));
    expect(end.connection.stats.rememberedMessages).toBe(3);
  });

  test('names', () => {
    const name = (init: Parameters<typeof of13.OFPErrorMsg>[0]) =>
      new OfRequestError(of13.OFPErrorMsg(init), undefined).symbol;
    expect(name({ type: 12, code: 1 })).toBe('OFPET_METER_MOD_FAILED/OFPMMFC_METER_EXISTS');
    expect(name({ type: 4, code: 5 })).toBe('OFPET_BAD_MATCH/OFPBMC_BAD_WILDCARDS');
    expect(name({ type: 4, code: 500 })).toBe('OFPET_BAD_MATCH/500');
    expect(name({ type: 77, code: 1 })).toBe('77/1');
    expect(name({ type: 0xffff, experimenter: 0x4f4e4600, exp_type: 2303 })).toBe(
      'OFPET_EXPERIMENTER/ONFERR_ET_BUNDLE_EXIST',
    );
    expect(name({ type: 0xffff, experimenter: 0x2320, exp_type: 3 })).toBe('OFPET_EXPERIMENTER/0x2320:3');
    // 1.0 numbers its types otherwise
    expect(errorNames({ version: 1, type: 3, code: 0 })).toEqual({
      type: 'OFPET_FLOW_MOD_FAILED',
      code: 'OFPFMFC_ALL_TABLES_FULL',
    });
  });
});

describe('transactions', () => {
  const full = (m: OfMessage<4>, e: End<4>) => {
    if (m.cls !== 'OFPFlowMod' || m.priority !== 7) return false;
    e.connection.refuse(m, { type: ofp.OFPET_FLOW_MOD_FAILED, code: ofp.OFPFMFC_TABLE_FULL });
    return true;
  };

  test('applied, refused', async () => {
    const both = pair({}, switchEnd(full));
    const c = both.controller.connection;
    const good = watch(c.transaction([of13.OFPFlowMod({ priority: 1 }), of13.OFPFlowMod({ priority: 2 })]));
    const mixed = watch(c.transaction([1, 7, 3, 7].map((priority) => of13.OFPFlowMod({ priority }))));
    const empty = watch(c.transaction([]));
    both.settle();
    await microtasks();
    expect(good.value).toEqual({ outcome: 'applied', errors: [] });
    expect(empty.value).toEqual({ outcome: 'applied', errors: [] });
    expect(mixed.value?.outcome).toBe('refused');
    expect(mixed.value?.errors.map((e) => [e.code, e.request?.cls === 'OFPFlowMod' && e.request.priority])).toEqual([
      ['OFPFMFC_TABLE_FULL', 7],
      ['OFPFMFC_TABLE_FULL', 7],
    ]);
    expect(both.controller.told.errors).toEqual([]);
  });

  test('unknown when the barrier is not answered; later errors are still told apart', async () => {
    const end = greeted({ requestTimeoutMs: 50 });
    const t = watch(end.connection.transaction([of13.OFPFlowMod({ priority: 9 })]));
    const out = written(end);
    end.connection.tick(60);
    await microtasks();
    expect(t.value).toMatchObject({ outcome: 'unknown', cause: { code: 'timeout' } });
    end.connection.received(encode(of13.OFPErrorMsg({ type: 5, code: 0 }), out.readUInt32BE(4)), 61);
    expect(end.told.errors[0]?.request).toMatchObject({ priority: 9 });
  });

  test('a message that cannot be written: nothing is sent', async () => {
    const end = greeted();
    const bad = { ...of13.OFPFlowMod(), priority: -1 };
    await expect(end.connection.transaction([of13.OFPFlowMod(), bad])).rejects.toThrow('OFPFlowMod.priority');
    expect(written(end)).toHaveLength(0);
    await expect(
      greeted({ maxQueuedBytes: 100 }).connection.transaction([of13.OFPFlowMod(), of13.OFPFlowMod()]),
    ).rejects.toMatchObject({ code: 'tooMany' });
  });
});

describe('bundles', () => {
  /**
   * A switch with bundles that refuses to add meters, and to commit what has priority 7; `never` is the control message that
   * it does not answer, and with `hasNone` it knows no bundles.
   */
  function bundling(version: 4 | 5, never?: number, hasNone = false): BackToBack<4 | 5, 4 | 5> & { log: string[] } {
    const log: string[] = [];
    let held: number[] = [];
    const sw: End<4 | 5> = new End<4 | 5>(
      { role: 'switch', versions: [version] },
      {
        onMessage(m) {
          const c = sw.connection;
          if (m.cls === 'OFPFeaturesRequest')
            c.send(version === 4 ? features : of14.OFPSwitchFeatures({ datapath_id: 1n }), m.xid);
          if (m.cls === 'OFPBarrierRequest')
            c.send(version === 4 ? of13.OFPBarrierReply() : of14.OFPBarrierReply(), m.xid);
          if (hasNone && /Bundle/.test(m.cls)) {
            log.push(m.cls);
            c.refuse(m, { type: ofp.OFPET_BAD_REQUEST, code: ofp.OFPBRC_BAD_TYPE });
            return;
          }
          if (m.cls === 'ONFBundleAddMsg' || m.cls === 'OFPBundleAddMsg') {
            const inner = m.message as OfMessage<4 | 5>;
            expect(inner.xid).toBe(m.xid);
            if (inner.cls === 'OFPFlowMod') held.push(inner.priority);
            else c.refuse(m, { type: ofp.OFPET_BAD_REQUEST, code: ofp.OFPBRC_BAD_TYPE });
          }
          if (m.cls === 'ONFBundleCtrlMsg' || m.cls === 'OFPBundleCtrlMsg') {
            expect(m.flags).toBe(3);
            log.push(`${m.type}:${held.join()}`);
            if (m.type === never) return;
            if (m.type === 0) held = [];
            if (m.type === 4 && held.includes(7)) c.refuse(m, { type: 17, code: 13 });
            else c.send({ ...m, type: m.type + 1 }, m.xid);
          }
        },
      },
    );
    const both = new BackToBack<4 | 5, 4 | 5>(
      new End<4 | 5>({ versions: [version], requestTimeoutMs: 100 }),
      sw,
    ).open();
    both.settle();
    return Object.assign(both, { log });
  }
  const make = (version: 4 | 5) => (version === 4 ? of13 : of14);
  const mods = (version: 4 | 5, ...priorities: number[]) =>
    priorities.map((p) => make(version).OFPFlowMod({ priority: p }));

  test.each([4, 5] as const)('version %i: applied, refused when added, refused when committed', async (version) => {
    const both = bundling(version);
    const run = async (messages: OfMessage<4 | 5>[]) => {
      const b = watch(both.controller.connection.bundle(messages));
      for (let i = 0; i < 6; i++) {
        both.settle();
        await microtasks();
      }
      return b.value;
    };
    expect(await run(mods(version, 1, 2))).toEqual({ outcome: 'applied', errors: [] });
    expect(both.log.splice(0)).toEqual(['0:', '4:1,2']);

    const refused = await run([...mods(version, 3), make(version).OFPMeterMod({ meter_id: 1, bands: [] })]);
    expect(refused?.outcome).toBe('refused');
    expect(refused?.errors.map((e) => e.request)).toMatchObject([{ message: { cls: 'OFPMeterMod' } }]);
    expect(both.log.splice(0)).toEqual(['0:1,2', '6:3']);

    const late = await run(mods(version, 1, 7));
    expect(late?.outcome).toBe('refused');
    expect(late?.errors.map((e) => e.symbol)).toEqual([
      version === 4 ? '17/13' : 'OFPET_BUNDLE_FAILED/OFPBFC_MSG_FAILED',
    ]);
    expect(both.controller.told.errors).toEqual([]);
  });

  test.each([4, 5] as const)('version %i: committed in the same write', async (version) => {
    const both = bundling(version);
    const run = async (messages: OfMessage<4 | 5>[]) => {
      const b = watch(both.controller.connection.bundle(messages, { commitAtOnce: true }));
      // one way, and back
      both.settle();
      await microtasks();
      return b.value;
    };
    expect(await run(mods(version, 1, 2))).toEqual({ outcome: 'applied', errors: [] });
    expect(both.log.splice(0)).toEqual(['0:', '4:1,2']);

    // refused when it is added: the others hold
    const refused = await run([...mods(version, 3), make(version).OFPMeterMod({ meter_id: 1, bands: [] })]);
    expect(refused?.outcome).toBe('refused');
    expect(refused?.errors.map((e) => e.request)).toMatchObject([{ message: { cls: 'OFPMeterMod' } }]);
    expect(both.log.splice(0)).toEqual(['0:1,2', '4:3']);

    // refused when it is committed: nothing does
    const late = await run(mods(version, 1, 7));
    expect(late?.outcome).toBe('refused');
    expect(late?.errors.map((e) => e.error.code)).toEqual([13]);
    expect(both.controller.told.errors).toEqual([]);
    expect(both.controller.connection.stats.openRequests).toBe(0);
  });

  test.each([
    [false, 'refused'],
    [true, 'unknown'],
  ])('cut off while it is added, committed at once %s: %s', async (commitAtOnce, outcome) => {
    const both = bundling(5);
    const b = watch(both.controller.connection.bundle(mods(5, 1), { commitAtOnce }));
    both.controller.connection.closed();
    await microtasks();
    expect(b.value).toMatchObject({ outcome, cause: { code: 'down' } });
  });

  test.each([
    [0, 'refused'],
    [4, 'unknown'],
  ])('when control message %i is not answered: %s', async (never, outcome) => {
    const both = bundling(5, never);
    const b = watch(both.controller.connection.bundle(mods(5, 1)));
    for (let i = 0; i < 6; i++) {
      both.settle();
      await microtasks();
    }
    both.pass(100);
    await microtasks();
    expect(b.value).toMatchObject({ outcome, cause: { code: 'timeout' } });
    // what was not opened in time may be there all the same, and is discarded
    both.settle();
    await microtasks();
    expect(both.log.at(-1)).toBe(never === 0 ? '6:1' : '4:1');
    expect(both.controller.connection.stats.openRequests).toBe(0);
  });

  test.each([false, true])('a switch that knows none, committed at once %s: one error', async (commitAtOnce) => {
    const both = bundling(5, undefined, true);
    const b = watch(both.controller.connection.bundle(mods(5, 1, 2), { commitAtOnce }));
    both.settle();
    const sent = ['OFPBundleCtrlMsg', 'OFPBundleAddMsg', 'OFPBundleAddMsg'];
    expect(both.log).toEqual(commitAtOnce ? [...sent, 'OFPBundleCtrlMsg'] : sent);
    for (let i = 0; i < 4; i++) {
      await microtasks();
      both.settle();
    }
    expect(b.value?.outcome).toBe('refused');
    expect(b.value?.errors.map((e) => [e.code, e.request?.cls])).toEqual([['OFPBRC_BAD_TYPE', 'OFPBundleCtrlMsg']]);
    // it is told to commit or to discard, not both
    expect(both.log).toEqual([...sent, 'OFPBundleCtrlMsg']);
    expect(both.controller.told.errors).toEqual([]);
  });

  test('there are none in 1.0', async () => {
    const end = new End<1>({ versions: [1], askFeatures: false });
    end.connection.open(end.transport(), 0);
    end.connection.received(header(1, 0), 0);
    await expect(end.connection.bundle([])).rejects.toThrow('OpenFlow 1.0 has no bundles');
  });
});

describe('keepalive', () => {
  test('echo requests are answered at once with their data, whatever waits', () => {
    const end = greeted();
    end.waits = false;
    end.out.capacity = 1;
    for (let i = 0; i < 100; i++) end.connection.send(of13.OFPEchoReply({ data: Buffer.alloc(5000) }));
    end.connection.flush(0);
    expect(end.waits).toBe(true);
    end.out.take(1e9);
    const ping = encode(of13.OFPEchoRequest({ data: Buffer.from('ping') }), 0x55);
    end.connection.received(ping, 1);
    // whatever version: peers may ping before they have read our hello
    end.connection.received(header(6, 2, 0x66), 1);
    end.waits = false;
    end.connection.drained(1);
    expect(end.out.take(12)).toEqual(encode(of13.OFPEchoReply({ data: Buffer.from('ping') }), 0x55));
    expect(end.out.take(8)).toEqual(header(6, 3, 0x66));
  });

  test('round trips are measured', () => {
    const both = pair({ echoIntervalMs: 1000 }, switchEnd(undefined, { echoIntervalMs: 0 }));
    const c = both.controller.connection;
    both.pass(1000);
    both.now += 8;
    both.settle();
    expect(c.roundTrip).toEqual({ lastMs: 8, smoothedMs: 8 });
    both.pass(992);
    both.now += 16;
    both.settle();
    expect(c.roundTrip).toEqual({ lastMs: 16, smoothedMs: 9 });
  });

  test('a silent peer is given up, one that says anything is not', () => {
    const both = pair({ echoIntervalMs: 1000 }, switchEnd(undefined, { echoIntervalMs: 0 }));
    const { controller } = both;
    both.pass(10_000, () => both.settle());
    expect(controller.told.down).toEqual([]);
    const since = both.now;
    both.pass(10_000);
    expect(controller.told.down).toEqual([{ code: 'silent', message: expect.stringContaining('nothing came') }]);
    expect(both.now - since).toBeGreaterThanOrEqual(3000);
    const talker = greeted({ echoIntervalMs: 1000 });
    for (let t = 500; t < 20_000; t += 900) {
      talker.connection.tick(t);
      talker.connection.received(encode(packetIn), t);
    }
    expect(talker.told.down).toEqual([]);
  });

  test("this side's own absence is not the peer's", () => {
    const end = greeted({ echoIntervalMs: 1000 });
    end.connection.tick(60_000);
    expect(end.told.down).toEqual([]);
  });
});

describe('back-pressure', () => {
  const big = of13.OFPEchoReply({ data: Buffer.alloc(10_000) });

  test('send says when to wait, whenWritable when to go on', async () => {
    const end = greeted({ highWaterBytes: 40_000 });
    end.out.capacity = 1;
    const answers = Array.from({ length: 6 }, () => end.connection.send(big));
    expect(answers).toEqual([true, true, true, false, false, false]);
    const w = watch(end.connection.whenWritable());
    end.connection.flush(0);
    await microtasks();
    expect(w.times).toBe(1);
    await end.connection.whenWritable();
    for (let i = 0; i < 12; i++) end.connection.send(big);
    const never = watch(end.connection.whenWritable());
    end.connection.close();
    await microtasks();
    expect(never.error as OfConnectionError).toMatchObject({ code: 'down' });
  });

  test('many messages, few writes', () => {
    const end = greeted();
    const before = end.out.writes;
    for (let i = 0; i < 1000; i++) end.connection.send(of13.OFPBarrierRequest());
    end.connection.flush(0);
    expect(end.out.writes - before).toBe(1);
    expect(end.out.length).toBe(8000);
  });

  test('a peer that reads nothing is given up', () => {
    const end = greeted({ stallMs: 2000, echoIntervalMs: 0 });
    end.out.capacity = 1;
    end.connection.send(big);
    end.connection.flush(100);
    expect(end.connection.nextDeadline()).toBe(2100);
    end.connection.tick(2100);
    expect(end.told.down[0]?.code).toBe('stalled');

    const full = greeted({ maxQueuedBytes: 50_000 });
    full.out.capacity = 1;
    full.connection.send(big);
    full.connection.flush(0);
    for (let i = 0; i < 10; i++) full.connection.send(big);
    expect(full.told.down[0]?.code).toBe('overflow');
    expect(full.connection.stats.queuedBytes).toBe(0);
  });

  test('a switch reads no more while its answers are not taken', async () => {
    const sw = switchEnd(
      (m, e) =>
        m.cls === 'OFPEchoReply' || (m.cls === 'OFPFlowStatsRequest' && e.connection.send(flows, m.xid)) || false,
      { highWaterBytes: 100_000 },
    );
    const match = of13.OFPMatch({ eth_dst: '02:00:00:00:00:01' });
    const flows = of13.OFPFlowStatsReply({ body: Array.from({ length: 500 }, () => of13.OFPFlowStats({ match })) });
    const both = pair({}, sw);
    sw.out.capacity = 1;
    const all = Array.from({ length: 300 }, () => both.controller.connection.request(of13.OFPFlowStatsRequest()));
    const done = all.map((r) => watch(r));
    both.controller.connection.flush(both.now);
    let most = 0;
    // two requests at a time reach the switch, and nothing is read from it
    while (both.move('controller', 112)) {
      sw.connection.flush(both.now);
      most = Math.max(most, sw.connection.stats.queuedBytes);
    }
    expect(both.controller.out.isReading).toBe(false);
    expect(both.controller.out.length).toBeGreaterThan(0);
    expect(most).toBeLessThan(200_000);
    both.settle();
    await microtasks();
    expect(done.every((d) => d.value?.body.length === 500)).toBe(true);
  });
});

describe('bad input', () => {
  const badFlowMod = (xid: number) => {
    const bytes = Buffer.from(
      encode(of13.OFPFlowMod({ instructions: [of13.OFPInstructionGotoTable({ table_id: 1 })] }), xid),
    );
    bytes.writeUInt16BE(4, bytes.length - 6);
    return bytes;
  };

  test('is answered with the error that fits, quoting 64 bytes, but not too often', () => {
    const end = greeted({ role: 'switch', errorsPerSecond: 5 });
    for (let i = 0; i < 50; i++) end.connection.received(badFlowMod(i), 1000);
    expect(end.told.bad).toHaveLength(50);
    const out = written(end, 1000);
    const size = 12 + Math.min(64, badFlowMod(0).length);
    expect(out.length).toBe(10 * size);
    expect(out[1]).toBe(ofp.OFPT_ERROR);
    expect(out.readUInt16BE(8)).toBe(ofp.OFPET_BAD_INSTRUCTION);
    expect(out.readUInt32BE(size + 4)).toBe(1);
    expect(out.subarray(12, size)).toEqual(badFlowMod(0).subarray(0, 64));
    end.connection.received(badFlowMod(60), 2000);
    expect(written(end, 2000).readUInt32BE(4)).toBe(60);
    expect(end.told.down).toEqual([]);
  });

  test('an error that cannot be read is not answered with another', () => {
    const end = greeted();
    end.connection.received(Buffer.concat([header(4, 1, 1, 10), Buffer.alloc(2)]), 1);
    expect(end.told.bad).toHaveLength(1);
    expect(written(end)).toHaveLength(0);
  });

  test('another version after the hello ends the connection, and the peer is told', () => {
    const end = greeted();
    end.connection.received(header(1, 5, 77), 1);
    expect(end.told.down).toEqual([{ code: 'version', message: expect.stringContaining('OpenFlow 1.0') }]);
    const error = end.out.take(100);
    expect([error.readUInt16BE(8), error.readUInt16BE(10), error.readUInt32BE(4)]).toEqual([1, 0, 77]);
  });

  test('a header that tells an impossible length ends the connection after the good messages', () => {
    const end = greeted();
    end.connection.received(Buffer.concat([encode(packetIn), header(4, 10, 1, 7)]), 1);
    expect(end.told.messages).toHaveLength(1);
    expect(end.told.down[0]?.code).toBe('framing');
  });

  test('a reply in parts that never ends', async () => {
    const end = greeted({ maxUnfinishedBytes: 100_000 });
    const r = watch(end.connection.request(of13.OFPPortStatsRequest()));
    const xid = written(end).readUInt32BE(4);
    const part = encode(of13.OFPPortStatsReply({ flags: 1, body: [of13.OFPPortStats({ port_no: 1 })] }), xid);
    for (let i = 0; i < 10_000; i++) {
      end.connection.received(part, 1);
      expect(end.connection.stats.unfinishedBytes).toBeLessThanOrEqual(100_000);
    }
    await microtasks();
    expect(r.error).toMatchObject({ code: 'badReply' });
    expect(end.told.messages).toEqual([]);
  });

  test('parts nobody asked for are not kept', () => {
    const end = greeted();
    for (let xid = 1000; xid < 2000; xid++)
      end.connection.received(encode(of13.OFPPortStatsReply({ flags: 1, body: [] }), xid), 1);
    expect(end.connection.stats).toMatchObject({ unfinishedBytes: 0, openRequests: 0 });
    expect(end.told.messages).toHaveLength(1000);
  });

  test('pings without end from a peer that reads nothing', () => {
    const end = greeted();
    end.out.capacity = 1;
    end.connection.send(of13.OFPBarrierRequest());
    end.connection.flush(0);
    const ping = encode(of13.OFPEchoRequest({ data: Buffer.alloc(60_000) }));
    for (let i = 0; i < 100; i++) end.connection.received(ping, 1);
    expect(end.connection.stats.queuedBytes).toBeLessThan(200_000);
    expect(end.connection.stats.droppedAnswers).toBeGreaterThan(90);
  });
});

describe('handlers', () => {
  test('what a handler throws comes out, after everything else was dealt with', () => {
    let n = 0;
    const end = new End<4>(
      { versions: [4], askFeatures: false },
      {
        onMessage: () => {
          n++;
          throw new Error(`number ${n}`);
        },
      },
    );
    end.connection.open(end.transport(), 0);
    const chunk = Buffer.concat([header(4, 0), encode(packetIn), encode(packetIn), encode(packetIn)]);
    expect(() => end.connection.received(chunk, 1)).toThrow('number 1');
    expect(n).toBe(3);
    end.connection.received(encode(of13.OFPEchoRequest()), 2);
    expect(end.told.down).toEqual([]);
  });

  test('may close from within', () => {
    const end: End<4> = new End<4>(
      { versions: [4], askFeatures: false },
      { onMessage: () => end.connection.close('enough') },
    );
    end.connection.open(end.transport(), 0);
    end.connection.received(Buffer.concat([header(4, 0), encode(packetIn), encode(packetIn)]), 1);
    expect(end.told.messages).toHaveLength(1);
    expect(end.told.down).toEqual([{ code: 'local', message: 'enough' }]);
    end.connection.closed();
    end.connection.tick(1e6);
    expect(end.told.down).toHaveLength(1);
  });
});

describe('bytes', () => {
  const raw = Buffer.from(encode(packetIn, 0));

  test('an owner may take messages as bytes, and leave others to be read', () => {
    const seen: Buffer[] = [];
    const end = new End<4>({ versions: [4], askFeatures: false });
    // End's own handler has no onBytes: this one is beside it
    const took = new OfConnection<4>(
      {
        onBytes(bytes) {
          seen.push(Buffer.from(bytes));
          return bytes[1] === ofp.OFPT_PACKET_IN;
        },
        onMessage: (m) => end.told.messages.push(m),
      },
      { versions: [4], askFeatures: false },
    );
    took.open(end.transport(), 0);
    took.received(raw, 0);
    expect(seen).toEqual([]);
    expect(took.downReason?.code).toBe('notOpenFlow');

    const up = new OfConnection<4>(
      {
        onBytes(bytes) {
          seen.push(Buffer.from(bytes));
          return bytes[1] === ofp.OFPT_PACKET_IN;
        },
        onMessage: (m) => end.told.messages.push(m),
      },
      { versions: [4], askFeatures: false },
    );
    up.open(new End<4>().transport(), 0);
    up.received(encode(of13.OFPHello({ elements: [] })), 0);
    up.received(Buffer.concat([raw, header(4, 2, 9), encode(of13.OFPBarrierRequest(), 5)]), 0);
    expect(seen.map((b) => b[1])).toEqual([ofp.OFPT_PACKET_IN, ofp.OFPT_BARRIER_REQUEST]);
    expect(seen[0]).toEqual(raw);
    expect(end.told.messages.map((m) => m.cls)).toEqual(['OFPBarrierRequest']);
  });

  test('what its owner throws does not keep the rest from being read', () => {
    let calls = 0;
    const up = new OfConnection<4>(
      {
        onBytes() {
          calls++;
          throw new Error('of the owner');
        },
      },
      { versions: [4], askFeatures: false },
    );
    up.open(new End<4>().transport(), 0);
    up.received(encode(of13.OFPHello({ elements: [] })), 0);
    expect(() => up.received(Buffer.concat([raw, raw]), 0)).toThrow('of the owner');
    expect(calls).toBe(2);
  });

  test('encoded messages go out as they are, in order with the others, and count for back-pressure', () => {
    expect(() => alone().connection.sendBytes(raw)).toThrow(/notUp|no version/);
    const end = greeted({ highWaterBytes: 200 });
    const { connection } = end;
    connection.send(of13.OFPBarrierRequest(), 3);
    expect(connection.sendBytes(Buffer.concat([raw, raw]))).toBe(true);
    expect(connection.sendBytes(Buffer.concat([raw, raw, raw]))).toBe(false);
    const out = written(end);
    expect(out.subarray(8)).toEqual(Buffer.concat([raw, raw, raw, raw, raw]));
    connection.close();
    expect(connection.sendBytes(raw)).toBe(false);
  });
});
