/** The QMP wire and client: every split of the bytes, garbage, time-outs, refusals; against a server that speaks by script. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { createQmpReader, parseQmpLine, type QmpMessage } from '../../../agent/core/qmpReader.ts';
import { connectQmp } from '../../../agent/io/qmp.ts';
import { FairwayError } from '../../../contracts/common.ts';

const GREETING = '{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}}, "capabilities": ["oob"]}}\r\n';
const SAID = `${GREETING}{"return": {}, "id": 1}\r\n{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "MIGRATION", "data": {"status": "sét\\u00fcp"}}\r\n{"id": 2, "error": {"class": "GenericError", "desc": "no ÿ"}}\r\n`;
const UNDERSTOOD: QmpMessage[] = [
  { kind: 'greeting', capabilities: ['oob'] },
  { kind: 'return', id: 1, value: {} },
  { kind: 'event', name: 'MIGRATION', data: { status: 'sétüp' }, atMs: 1000.002 },
  { kind: 'error', id: 2, class: 'GenericError', text: 'no ÿ' },
];

describe('the QMP reader', () => {
  const bytes = Buffer.from(SAID);
  test('understands the same however the bytes are split, one at a time included', () => {
    const one = createQmpReader();
    expect([...bytes].flatMap((b) => one.push(Uint8Array.of(b)))).toEqual(UNDERSTOOD);
    fc.assert(
      fc.property(fc.array(fc.nat(bytes.length), { maxLength: 8 }), (cuts) => {
        const reader = createQmpReader();
        const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
        const got = at.slice(1).flatMap((end, i) => reader.push(bytes.subarray(at[i], end)));
        expect(got).toEqual(UNDERSTOOD);
      }),
    );
  });

  test('an event whose time the host could not tell has none', () => {
    const odd = ['{"seconds": -1, "microseconds": -1}', '{}', '"now"'];
    for (const timestamp of odd) {
      const event = parseQmpLine(`{"event": "STOP", "timestamp": ${timestamp}}`);
      expect(event).toEqual({ kind: 'event', name: 'STOP', data: {} });
    }
  });

  test('says what it was given instead of a message', () => {
    for (const line of ['HTTP/1.1 400', '[]', '42', '{}', '{"error": "no"}', '{"id": 1}']) {
      expect(() => parseQmpLine(line)).toThrow(expect.objectContaining({ code: 'qmp-garbage' }));
    }
  });

  test('lets only its own error escape, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (junk) => {
        try {
          createQmpReader().push(Buffer.concat([junk, Buffer.from('\n')]));
        } catch (error) {
          expect(error).toBeInstanceOf(FairwayError);
        }
      }),
      { numRuns: 1000 },
    );
    expect(() => createQmpReader().push(Buffer.alloc(17 * 1024 * 1024, 0x20))).toThrow(/line without end/);
  });
});

describe('the QMP client', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fw-qmp-'));
  let servers: Server[] = [];
  let sockets: Socket[] = [];
  let serial = 0;

  /** A server that answers each line with what `answer` says. */
  interface Request {
    execute: string;
    'exec-oob'?: string;
    arguments?: unknown;
    id: number;
  }
  async function serve(greeting: string, answer: (request: Request) => string | undefined) {
    const path = join(folder, `s${serial++}`);
    const server = createServer((s) => {
      sockets.push(s);
      s.on('error', () => undefined);
      s.write(greeting);
      s.on('data', (d) => {
        for (const line of d.toString().split('\n').filter(Boolean)) {
          const text = answer(JSON.parse(line) as Request);
          if (text !== undefined) s.write(text);
        }
      });
    });
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(path, resolve));
    return path;
  }
  const ok = (r: { id: number }, value: unknown = {}) => `${JSON.stringify({ return: value, id: r.id })}\r\n`;

  afterEach(async () => {
    for (const s of sockets) s.destroy();
    sockets = [];
    await Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))));
    servers = [];
  });
  afterAll(() => rmSync(folder, { recursive: true }));

  test('negotiates, numbers its commands, and gives each its own answer and each event to the listener', async () => {
    const held: string[] = [];
    const events: string[] = [];
    const path = await serve(GREETING, (r) => {
      if (r.execute === 'qmp_capabilities') return ok(r);
      held.push(ok(r, r.execute));
      // Answers in the wrong order, with an event between.
      return held.length === 2 ? `${held[1]}{"event": "STOP"}\r\n${held[0]}` : undefined;
    });
    const qmp = await connectQmp(path, { onEvent: (name) => events.push(name) });
    expect(await Promise.all([qmp.execute('first'), qmp.execute('second')])).toEqual(['first', 'second']);
    expect(events).toEqual(['STOP']);
    qmp.close();
    await expect(qmp.execute('third')).rejects.toMatchObject({ code: 'qmp-closed' });
  });

  test('commands go out of band where that is offered, and as any other where it is not', async () => {
    for (const offers of [true, false]) {
      const asked: Request[] = [];
      const path = await serve(offers ? GREETING : GREETING.replace('"oob"', ''), (r) => {
        asked.push(r);
        return ok(r);
      });
      const qmp = await connectQmp(path);
      await qmp.executeOutOfBand('migrate-recover', { uri: 'tcp:[::1]:1' });
      qmp.close();
      expect(asked).toEqual([
        { execute: 'qmp_capabilities', ...(offers ? { arguments: { enable: ['oob'] } } : {}), id: 1 },
        { [offers ? 'exec-oob' : 'execute']: 'migrate-recover', arguments: { uri: 'tcp:[::1]:1' }, id: 2 },
      ]);
    }
  });

  test("a refusal keeps QEMU's class and words", async () => {
    const path = await serve(GREETING, (r) =>
      r.execute === 'qmp_capabilities'
        ? ok(r)
        : `${JSON.stringify({ id: r.id, error: { class: 'CommandNotFound', desc: 'no such command' } })}\n`,
    );
    const qmp = await connectQmp(path);
    await expect(qmp.execute('x')).rejects.toMatchObject({
      code: 'qmp-CommandNotFound',
      message: 'x: no such command',
    });
    qmp.close();
  });

  test('an answer that does not come is an unknown outcome, and its late arrival harms nobody', async () => {
    let late: string | undefined;
    const path = await serve(GREETING, (r) => {
      if (r.execute === 'slow') {
        late = ok(r);
        return undefined;
      }
      return `${late ?? ''}${ok(r)}`;
    });
    const qmp = await connectQmp(path);
    const slow = qmp.execute('slow', {}, 30);
    await expect(slow).rejects.toMatchObject({ code: 'qmp-timeout', labels: ['outcomeUnknown'] });
    await expect(qmp.execute('next')).resolves.toEqual({});
    qmp.close();
  });

  test('garbage ends the connection with a reason for everyone who waits', async () => {
    const reasons: string[] = [];
    const path = await serve(GREETING, (r) => (r.execute === 'qmp_capabilities' ? ok(r) : 'what?\r\n'));
    const qmp = await connectQmp(path, { onClose: (reason) => reasons.push(reason) });
    await expect(qmp.execute('x')).rejects.toMatchObject({ code: 'qmp-garbage' });
    expect(reasons).toEqual([expect.stringMatching(/not JSON.*what\?/)]);
  });

  test('says why it cannot connect', async () => {
    await expect(connectQmp(join(folder, 'nothing'))).rejects.toMatchObject({ code: 'qmp-connect' });
    const silent = await serve('', () => undefined);
    await expect(connectQmp(silent, { timeoutMs: 30 })).rejects.toMatchObject({ code: 'qmp-timeout' });
    const wrong = await serve('SSH-2.0-OpenSSH\r\n', () => undefined);
    await expect(connectQmp(wrong)).rejects.toMatchObject({ code: 'qmp-garbage' });
  });

  test('tells once when the peer goes away', async () => {
    const reasons: string[] = [];
    const path = await serve(GREETING, ok);
    const qmp = await connectQmp(path, { onClose: (reason) => reasons.push(reason) });
    const waiting = qmp.execute('query-status', {}, 5000);
    await waiting;
    const closed = new Promise<void>((resolve) => sockets[0]?.once('close', () => resolve()));
    sockets[0]?.destroy();
    await closed;
    await expect(qmp.execute('x')).rejects.toMatchObject({ code: 'qmp-closed' });
    expect(reasons).toHaveLength(1);
  });
});
