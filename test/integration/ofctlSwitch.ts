/**
 * A switch that `ovs-ofctl` talks to: it answers with what the test gives it, made by node-openflow, and keeps every message
 * that came. For tests of what Open vSwitch writes, and of whether it reads our answers. And the tests of what it prints of
 * messages of ours.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  decode,
  encode,
  fromJson,
  MessageSplitter,
  type OfMessage,
  parseJson,
  stringifyJson,
  toJson,
  type Version,
} from 'node-openflow';

/** Why `ovs-ofctl` cannot be asked here, or undefined when it can. */
export function whyNoOfctl(): string | undefined {
  const tried = spawnSync('ovs-ofctl', ['--version'], { encoding: 'utf8' });
  return tried.error === undefined ? undefined : `ovs-ofctl does not run: ${tried.error.message}`;
}

/** One test a message: `ovs-ofctl ofp-parse` reads it and shows what was meant, and its JSON leads to the same bytes. */
export function testPrinted(cases: readonly (readonly [OfMessage, RegExp])[]): void {
  const dir = mkdtempSync(join(tmpdir(), `node-openflow-${process.pid}-`));
  afterAll(() => rmSync(dir, { recursive: true }));

  test.each(cases.map(([msg, want], i) => [msg.version, msg.cls, i, msg, want] as const))(
    'version %i, %s (%i)',
    (version, _, i, msg, want) => {
      const file = join(dir, String(i));
      writeFileSync(file, encode(msg, 0x1234));
      const out = spawnSync('ovs-ofctl', ['ofp-parse', file], { encoding: 'utf8' });
      expect(out.stderr).toBe('');
      // what it prints when it cannot read on
      expect(out.stdout).not.toMatch(/\*\*\*|decode error|unknown/i);
      // 1.0 goes without saying
      expect(out.stdout).toContain(version === 1 ? '(xid=0x1234)' : `(OF1.${version - 1}) (xid=0x1234)`);
      expect(out.stdout).toMatch(want);
      const text = stringifyJson(toJson(msg));
      expect(encode(fromJson(parseJson(text), version as Version)).toString('hex')).toBe(encode(msg).toString('hex'));
    },
  );
}

/** What one run of `ovs-ofctl` printed and sent. */
export interface OfctlRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly sent: readonly Buffer[];
}

const PROTOCOLS: Readonly<Record<Version, string>> = {
  1: 'OpenFlow10',
  3: 'OpenFlow12',
  4: 'OpenFlow13',
  5: 'OpenFlow14',
  6: 'OpenFlow15',
};
const PATIENCE_MS = 20_000;

export class OfctlSwitch {
  readonly #version: Version;
  readonly #answer: (request: OfMessage) => readonly OfMessage[];
  readonly #dir = mkdtempSync(join(tmpdir(), `ofctl-switch-${process.pid}-`));
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #sent: Buffer[] = [];

  /** `answer` gives what a request is answered with; transaction ids are set here. Hellos are answered here. */
  constructor(version: Version, answer: (request: OfMessage) => readonly OfMessage[]) {
    this.#version = version;
    this.#answer = answer;
    this.#server = createServer((socket) => this.#serve(socket));
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.#path, resolve);
    });
  }

  get #path(): string {
    return join(this.#dir, 'socket');
  }

  #serve(socket: Socket): void {
    this.#sockets.add(socket);
    const splitter = new MessageSplitter();
    // ovs-ofctl leaves when it has what it wants
    socket.on('error', () => undefined);
    socket.on('close', () => this.#sockets.delete(socket));
    socket.on('data', (chunk) => {
      for (const bytes of splitter.push(chunk)) {
        this.#sent.push(Buffer.from(bytes));
        const request = decode(bytes);
        if (request.cls === 'OFPHello') socket.write(Buffer.from([this.#version, 0, 0, 8, 0, 0, 0, 1]));
        else for (const m of this.#answer(request)) socket.write(encode(m, request.xid));
      }
    });
  }

  /** Runs `ovs-ofctl -O <version> ARGS`, where the argument `SW` stands for this switch. */
  async run(args: readonly string[]): Promise<OfctlRun> {
    this.#sent = [];
    const child = spawn('ovs-ofctl', [
      `--timeout=${PATIENCE_MS / 1000}`,
      `-O${PROTOCOLS[this.#version]}`,
      ...args.map((a) => (a === 'SW' ? `unix:${this.#path}` : a)),
    ]);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (d: Buffer) => {
      stdout += d.toString();
    });
    child.stderr.on('data', (d: Buffer) => {
      stderr += d.toString();
    });
    const code = await new Promise<number | null>((resolve, reject) => {
      child.on('error', reject);
      child.on('close', resolve);
    });
    return { code, stdout, stderr, sent: this.#sent };
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
