/** The command ofdump, run in process: options, output forms, exit statuses. test/integration has it as a process. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable, Writable } from 'node:stream';
import { encode, format, type OfMessage, of10, of12, of13, stringifyJson, toJson } from 'node-openflow';
import { HELP, ofdump } from '../cli/ofdump.ts';
import { captureFile, conversation, packet } from './captures.ts';

const dir = mkdtempSync(join(tmpdir(), 'ofdump-'));
afterAll(() => rmSync(dir, { recursive: true }));

const flow = of13.OFPFlowMod({ xid: 2, cookie: 0xfffffffffffffff0n, match: of13.OFPMatch({ in_port: 5 }) });
const echo = of13.OFPEchoRequest({ xid: 3, data: Buffer.from('abc') });
const raw = join(dir, 'raw');
writeFileSync(raw, Buffer.concat([encode(flow), encode(echo)]));

interface Result {
  status: number;
  out: string;
  bytes: Buffer;
  err: string;
}

async function run(args: readonly string[], stdin: string | Buffer = '', isTTY = false): Promise<Result> {
  const collect = () => {
    const pieces: Buffer[] = [];
    const stream = new Writable({
      // a slow reader: everything waits for a turn of the loop
      highWaterMark: 1024,
      write(piece: Buffer, _, done) {
        pieces.push(Buffer.from(piece));
        setImmediate(done);
      },
    });
    return {
      stream: Object.assign(stream, { isTTY }),
      bytes: () => Buffer.concat(pieces),
      end: () => new Promise<void>((r) => stream.end(r)),
    };
  };
  const out = collect();
  const err = collect();
  const input = typeof stdin === 'string' ? Buffer.from(stdin) : stdin;
  const status = await ofdump(args, {
    version: '9.8.7',
    stdin: Readable.from(input.length === 0 ? [] : [input]),
    stdout: out.stream,
    stderr: err.stream,
  });
  await out.end();
  await err.end();
  return { status, out: out.bytes().toString(), bytes: out.bytes(), err: err.bytes().toString() };
}

test('readable by default', async () => {
  expect(await run([raw])).toMatchObject({ status: 0, err: '', out: `${format(flow)}\n${format(echo)}\n` });
  expect(await run([], readFileSync(raw))).toMatchObject({ status: 0, out: `${format(flow)}\n${format(echo)}\n` });
  expect(await run(['-', raw], encode(echo).toString('hex'))).toMatchObject({
    status: 0,
    out: `${format(echo)}\n${format(flow)}\n${format(echo)}\n`,
  });
});

test('--json is a line a message, whole integers included', async () => {
  const { status, out, err } = await run(['--json', raw]);
  expect([status, err]).toEqual([0, '']);
  const lines = out.trimEnd().split('\n');
  expect(lines).toEqual([flow, echo].map((m) => stringifyJson(toJson(m))));
  expect(lines[0]).toContain('"cookie": 18446744073709551600');
});

test("--json leaves out what Ryu's readers pass over", async () => {
  const elements = [of13.OFPHelloElemVersionBitmap({ versions: [1, 4] }), of13.OFPHelloElemUnknown({ type: 9 })];
  const messages: [OfMessage, object][] = [
    [of10.OFPHello({ elements }), { OFPHello: {} }],
    [of13.OFPHello({ elements }), toJson(of13.OFPHello({ elements: elements.slice(0, 1) })) as object],
    [
      of13.OFPPacketIn({ total_len: 2, data: Buffer.from('padded') }),
      toJson(of13.OFPPacketIn({ total_len: 2, data: Buffer.from('pa') })) as object,
    ],
    [
      of13.ONFBundleAddMsg({ bundle_id: 1, flags: 0, message: of13.OFPBarrierRequest() }),
      { OFPExperimenter: { data: 'AAAAAQAAAAAEFAAIAAAAAA==', exp_type: 2301, experimenter: 0x4f4e4600 } },
    ],
    [
      of13.ONFFlowMonitorStatsReply({ flags: 1 }),
      {
        OFPExperimenterStatsReply: {
          body: { OFPExperimenterMultipart: { data: '', exp_type: 1870, experimenter: 0x4f4e4600 } },
          flags: 1,
          type: 65535,
        },
      },
    ],
    [
      of12.OFPPacketOut({
        in_port: 1,
        actions: [of12.NXActionSetTunnel({ tun_id: 5 }), of12.OFPActionOutput({ port: 1 })],
      }),
      {
        OFPPacketOut: {
          actions: [
            { OFPActionExperimenter: { experimenter: 0x2320, len: 16, type: 65535 } },
            { OFPActionOutput: { len: 16, max_len: 65509, port: 1, type: 0 } },
          ],
          actions_len: 32,
          buffer_id: 0xffffffff,
          data: null,
          in_port: 1,
        },
      },
    ],
  ];
  const { status, out } = await run(['--json'], Buffer.concat(messages.map(([m]) => encode(m))));
  expect(status).toBe(0);
  const lines = out.trimEnd().split('\n');
  for (const [i, [, want]] of messages.entries())
    expect(JSON.parse(lines[i] as string)).toEqual(JSON.parse(stringifyJson(want)));
});

test('--reencode', async () => {
  expect((await run(['--reencode', raw])).bytes).toEqual(readFileSync(raw));
  const out = join(dir, 'out');
  expect(await run(['--reencode', '--out', out, raw, raw])).toMatchObject({ status: 0, out: '', err: '' });
  expect(readFileSync(out)).toEqual(Buffer.concat([readFileSync(raw), readFileSync(raw)]));
  // padding that is not zero is not kept, and that is said
  const padded = encode(of13.OFPTableMod({ table_id: 1, config: 0 }));
  padded[9] = 7;
  const differs = await run(['--reencode'], padded);
  expect(differs.status).toBe(1);
  expect(differs.bytes).toEqual(encode(of13.OFPTableMod({ table_id: 1, config: 0 })));
  expect(differs.err).toMatch(/^ofdump: standard input: offset 0: OFPTableMod: re-encoded bytes differ at byte 9/);
});

test('--offset and --with-context', async () => {
  expect((await run(['--offset', raw])).out).toBe(
    `${raw}:0: ${format(flow)}\n${raw}:${encode(flow).length}: ${format(echo)}\n`,
  );
  const file = join(dir, 'capture');
  writeFileSync(file, captureFile(conversation(encode(echo), Buffer.alloc(0)).map((p) => packet(p))));
  const { out } = await run(['--with-context', file]);
  expect(out).toBe(`${file}:326: 2023-11-14T22:13:23.000003Z 10.0.0.1:41000 > 10.0.0.2:6653 ${format(echo)}\n`);
});

test('what cannot be read is located, and reading goes on', async () => {
  const bad = encode(of13.OFPFlowMod({ xid: 7, instructions: [of13.OFPInstructionGotoTable({ table_id: 1 })] }));
  // an instruction that is longer than the message
  bad.writeUInt16BE(64, 58);
  const old = Buffer.from('7a03000800000001', 'hex');
  const input = Buffer.concat([encode(echo), bad, old, encode(echo)]);
  const readable = await run([], input);
  expect(readable.status).toBe(1);
  expect(readable.out.split('\n')).toEqual([
    format(echo),
    '(not read: version 4, type 14, 64 bytes) (xid=0x7):',
    ` ${bad.toString('hex')}`,
    '(not read: version 122, type 3, 8 bytes) (xid=0x1):'.replace(
      /^.*$/,
      format({ ...of13.OFPEchoReply({ xid: 1 }), version: 122 }),
    ),
    format(echo),
    '',
  ]);
  expect(readable.err).toMatch(
    /^ofdump: standard input: offset 11: version 4, type 14, 64 bytes: .*\(version 4, type 14, offset 5[68]\); OFPET_BAD_INSTRUCTION OFPBIC_BAD_LEN\n$/,
  );
  const json = await run(['--json'], input);
  expect(json.status).toBe(1);
  expect(json.out.trimEnd().split('\n')).toHaveLength(3);
  expect(json.err).toBe(readable.err);
});

test('files that are not there', async () => {
  const { status, out, err } = await run([join(dir, 'none'), raw]);
  expect(status).toBe(1);
  expect(err).toMatch(/none: ENOENT/);
  expect(out).toBe(`${format(flow)}\n${format(echo)}\n`);
  expect(await run(['--out', join(dir, 'no', 'where'), raw])).toMatchObject({
    status: 1,
    err: expect.stringMatching(/ENOENT/),
  });
  expect(await run([dir])).toMatchObject({ status: 1, err: expect.stringMatching(/EISDIR/) });
});

test('usage', async () => {
  expect(await run(['--help'])).toMatchObject({ status: 0, out: HELP });
  expect(await run(['-V'])).toMatchObject({ status: 0, out: 'ofdump 9.8.7\n' });
  for (const args of [
    ['--nonsense'],
    ['--json', '--reencode'],
    ['--json', '--offset'],
    ['--format', 'yaml'],
    ['--port', '0'],
    ['--port', '6653x'],
    ['--port'],
  ]) {
    const { status, out, err } = await run(args);
    expect([args, status, out]).toEqual([args, 2, '']);
    expect(err).toMatch(/^ofdump: .+\nTry 'ofdump --help'\.\n$/);
  }
  expect(await run(['--out', raw, raw])).toMatchObject({
    status: 2,
    err: expect.stringContaining('it is read as well'),
  });
  expect(await run(['--reencode', raw], '', true)).toMatchObject({
    status: 2,
    err: expect.stringContaining('--out FILE'),
  });
});

test('a pipe is read as it fills', async () => {
  const stdin = new PassThrough();
  const stdout = new PassThrough();
  const done = ofdump([], { version: '', stdin, stdout, stderr: new PassThrough() });
  stdin.write(readFileSync(raw));
  const [first] = await new Promise<Buffer[]>((r) => stdout.once('data', (d: Buffer) => r([d])));
  expect(first?.toString()).toBe(`${format(flow)}\n${format(echo)}\n`);
  stdin.end();
  expect(await done).toBe(0);
});
