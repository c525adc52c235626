/** The OVSDB client against in-process peers that are odd in ways a real ovsdb-server cannot be made to be. */

import { createServer, type Server, type Socket } from 'node:net';
import fc from 'fast-check';
import { FairwayError } from '../../../contracts/common.ts';
import { silentLog } from '../../../contracts/log.ts';
import { JsonFramer, OvsdbClient, parseOvsdbRemote } from '../../../controller/io/ovsdb.ts';
import { checkPortQos } from '../../../controller/io/qos.ts';
import { ManualClock, settle, until } from './support.ts';

describe('framing', () => {
  const message = fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue({ maxDepth: 4 }));

  test('objects come out the same however the stream is cut', () => {
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 5 }),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }),
        fc.constantFrom('', ' ', '\n', '\r\n\t'),
        (messages, sizes, between) => {
          const bytes = Buffer.from(messages.map((m) => JSON.stringify(m)).join(between));
          const framer = new JsonFramer();
          const out: unknown[] = [];
          for (let at = 0, i = 0; at < bytes.length; i++) {
            const size = sizes[i % sizes.length] as number;
            out.push(...framer.push(bytes.subarray(at, at + size)));
            at += size;
          }
          expect(out).toEqual(messages.map((m) => JSON.parse(JSON.stringify(m))));
        },
      ),
    );
  });

  test('whatever comes, only the declared error escapes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 6 }), (chunks) => {
        const framer = new JsonFramer(64, 8);
        try {
          for (const c of chunks) framer.push(Buffer.from(c));
        } catch (e) {
          expect(e).toBeInstanceOf(FairwayError);
        }
      }),
      { numRuns: 500 },
    );
  });

  test.each([
    ['text before an object', 'HTTP/1.1 200 OK'],
    ['a top-level array', '[1]'],
    ['an object that is no JSON', '{"a" 1}'],
    ['more bytes than allowed', `{"a":"${'x'.repeat(2_000)}`],
    ['deeper nesting than allowed', `{"a":${'['.repeat(200)}`],
  ])('%s is an error', (_name, text) => {
    expect(() => new JsonFramer(1_000, 100).push(Buffer.from(text))).toThrow(FairwayError);
  });
});

test('addresses', () => {
  expect(parseOvsdbRemote('unix:/run/x.sock')).toEqual({ path: '/run/x.sock' });
  expect(parseOvsdbRemote('tcp:192.0.2.1:6640')).toEqual({ host: '192.0.2.1', port: 6640 });
  expect(parseOvsdbRemote('tcp:[::1]:6640')).toEqual({ host: '::1', port: 6640 });
  for (const bad of [
    'ssl:1.2.3.4:6640',
    'tcp:host',
    'tcp:host:0',
    'tcp:host:70000',
    'unix:',
    '/run/x.sock',
    'tcp:::1:6640',
  ])
    expect(() => parseOvsdbRemote(bad)).toThrow(
      expect.objectContaining({ code: 'OVSDB_REMOTE', labels: ['badInput'] }),
    );
});

describe('client', () => {
  type Request = { method: string; params: unknown[]; id: unknown };
  let server: Server;
  let port: number;
  let sockets: Socket[];
  let received: Request[];
  /** What the peer does with a request; undefined: no answer. */
  let reply: (r: Request, socket: Socket) => unknown;
  let clock: ManualClock;
  let client: OvsdbClient | undefined;

  const listen = () => new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));

  beforeEach(async () => {
    sockets = [];
    received = [];
    clock = new ManualClock();
    reply = (r) => ({ id: r.id, result: r.method === 'list_dbs' ? ['Open_vSwitch'] : [], error: null });
    server = createServer((socket) => {
      sockets.push(socket);
      const framer = new JsonFramer();
      socket.on('error', () => undefined);
      socket.on('data', (d: Buffer) => {
        for (const m of framer.push(d)) {
          received.push(m as Request);
          const answer = reply(m as Request, socket);
          if (answer !== undefined) socket.write(typeof answer === 'string' ? answer : JSON.stringify(answer));
        }
      });
    });
    port = 0;
    await listen();
    port = (server.address() as { port: number }).port;
  });
  afterEach(async () => {
    client?.close();
    expect(clock.timers).toBe(0);
    for (const s of sockets) s.destroy();
    await new Promise((r) => server.close(r));
  });

  const open = (o = {}) => {
    client = new OvsdbClient({
      remote: `tcp:127.0.0.1:${port}`,
      clock,
      log: silentLog,
      requestTimeoutMs: 1_000,
      minBackoffMs: 100,
      maxBackoffMs: 400,
      probeMs: 5_000,
      ...o,
    });
    return client;
  };

  test('answers echo requests and refuses methods it does not know', async () => {
    await open().ready();
    sockets[0]?.write('{"method":"echo","params":["x",1],"id":"echo"}{"method":"steal","params":[],"id":7}');
    sockets[0]?.write('{"method":"update","params":[],"id":null}');
    await until(() => received.length >= 3, 'both were answered');
    expect(received.slice(1)).toEqual([
      { id: 'echo', result: ['x', 1], error: null },
      { id: 7, result: null, error: 'unknown method' },
    ]);
  });

  test('replies out of order and in single bytes reach their requests', async () => {
    const c = open();
    await c.ready();
    const held: Request[] = [];
    reply = (r, socket) => {
      held.push(r);
      if (held.length < 2) return undefined;
      const text = [...held].reverse().map((h) => JSON.stringify({ id: h.id, result: h.params, error: null }));
      for (const byte of Buffer.from(text.join(''))) socket.write(Buffer.from([byte]));
      return undefined;
    };
    expect(await Promise.all([c.call('echo', ['a']), c.call('echo', ['ä'])])).toEqual([['a'], ['ä']]);
  });

  test('an error of the server is told with its words', async () => {
    const c = open();
    await c.ready();
    reply = (r) => ({ id: r.id, result: null, error: { error: 'unknown database', details: 'no x' } });
    await expect(c.transact('x', [])).rejects.toMatchObject({
      code: 'OVSDB_REFUSED',
      message: expect.stringContaining('unknown database: no x'),
    });
    reply = (r) => ({ id: r.id, result: [{}, null, { error: 'referential integrity violation' }], error: null });
    await expect(c.transact('x', [{ op: 'a' }, { op: 'b' }])).rejects.toThrow(/the commit: referential integrity/);
    reply = (r) => ({ id: r.id, result: { odd: true }, error: null });
    await expect(c.transact('x', [])).rejects.toMatchObject({ code: 'OVSDB_REFUSED' });
  });

  test('no answer in time: outcome unknown; a late answer harms nothing', async () => {
    const c = open();
    await c.ready();
    let late: Request | undefined;
    reply = (r) => {
      late = r;
      return undefined;
    };
    const outcome = expect(c.call('transact', ['x'])).rejects.toMatchObject({
      code: 'OVSDB_TIMEOUT',
      labels: ['retryable', 'outcomeUnknown'],
    });
    await until(() => late !== undefined, 'the request arrived');
    clock.advance(1_000);
    await outcome;
    sockets[0]?.write(JSON.stringify({ id: late?.id, result: [], error: null }));
    reply = (r) => ({ id: r.id, result: ['fine'], error: null });
    expect(await c.call('x', [])).toEqual(['fine']);
  });

  test('lost before the reply: outcome unknown; what comes after waits for the new connection', async () => {
    const c = open();
    await c.ready();
    reply = (_r, socket) => {
      socket.destroy();
      return undefined;
    };
    await expect(c.call('transact', ['x'])).rejects.toMatchObject({
      code: 'OVSDB_LOST',
      labels: ['retryable', 'outcomeUnknown'],
    });
    reply = (r) => ({ id: r.id, result: ['again'], error: null });
    const next = c.call('x', []);
    clock.advance(100);
    expect(await next).toEqual(['again']);
  });

  test('a peer that speaks something else is tried less and less often, never faster than the cap', async () => {
    reply = () => 'HTTP/1.1 400 Bad Request\r\n\r\n';
    const c = open({ requestTimeoutMs: 100_000 });
    const connections: number[] = [];
    for (const wait of [100, 200, 400, 400, 400]) {
      const n = sockets.length + (connections.length === 0 ? 1 : 0);
      await until(() => sockets.length >= n && received.length >= sockets.length, 'it connected');
      await until(() => sockets.every((s) => s.destroyed), 'it has hung up');
      connections.push(sockets.length);
      clock.advance(wait - 1);
      await settle(20);
      expect(sockets.length).toBe(connections.at(-1));
      const before = sockets.length;
      clock.advance(1);
      await until(() => sockets.length === before + 1 && received.length === before + 1, 'it tried again');
    }
    expect(c.connected).toBe(false);
    const away = c.ready(50).catch((e) => e);
    clock.advance(50);
    expect(await away).toMatchObject({ code: 'OVSDB_AWAY', labels: ['retryable'] });
    expect((await away).message).toMatch(/does not speak JSON-RPC/);
  });

  test('a silent peer is asked for an echo and given up when it does not answer', async () => {
    const c = open();
    await c.ready();
    clock.advance(5_000);
    await until(() => received.at(-1)?.method === 'echo', 'it asked');
    // Answers come in order: with this one, that to the echo has come.
    await c.call('x', []);
    expect(c.connected).toBe(true);
    reply = () => undefined;
    clock.advance(5_000);
    await until(() => received.filter((r) => r.method === 'echo').length === 2, 'it asked again');
    clock.advance(5_000);
    expect(c.connected).toBe(false);
  });

  test('close rejects what is open and what comes after', async () => {
    const c = open();
    await c.ready();
    reply = () => undefined;
    const openCall = c.call('x', []).catch((e) => e);
    await settle(20);
    c.close();
    expect(await openCall).toMatchObject({ code: 'OVSDB_CLOSED' });
    await expect(c.call('x', [])).rejects.toMatchObject({ code: 'OVSDB_CLOSED' });
    const second = open();
    const waiting = second.ready().catch((e) => e);
    second.close();
    expect(await waiting).toMatchObject({ code: 'OVSDB_CLOSED' });
  });
});

describe('rates that make no sense are refused before anything is written', () => {
  const queue = { id: 0, minBps: 1e6, maxBps: 2e6, priority: 1 };
  test.each([
    [{ maxBps: Number.NaN, queues: [queue] }, 'maxBps'],
    [{ maxBps: 0, queues: [queue] }, 'maxBps'],
    [{ maxBps: 1e9, queues: [] }, 'queue 0 is missing'],
    [{ maxBps: 1e9, queues: [queue, queue] }, 'twice'],
    [{ maxBps: 1e9, queues: [queue, { ...queue, id: 70_000 }] }, '0-61439'],
    [{ maxBps: 1e9, queues: [{ ...queue, minBps: 3e6 }] }, 'above maxBps'],
    [{ maxBps: 1e9, queues: [{ ...queue, minBps: -1 }] }, 'minBps -1'],
    [{ maxBps: 1e9, queues: [{ ...queue, priority: 8 }] }, 'priority 8'],
  ])('%j', (qos, problem) => {
    expect(checkPortQos(qos)).toContain(problem);
  });
  test('sensible ones are not', () => {
    expect(checkPortQos({ maxBps: 1e9, queues: [queue, { ...queue, id: 1 }] })).toBeUndefined();
  });
});
