/**
 * The command `ofdump`: reads files, decodes what dump.ts finds in them and prints it. All input and output of the
 * command is here; main.ts hands in the streams of the process.
 */
import { once } from 'node:events';
import { createReadStream, createWriteStream, statSync } from 'node:fs';
import { finished } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import {
  decode,
  encode,
  errorText,
  format,
  OfDecodeError,
  OfEncodeError,
  type OfMessage,
  stringifyJson,
} from 'node-openflow';
import { bytesText } from './cutter.ts';
import { Dump, FORMATS, type Format } from './dump.ts';
import type { Found, Place, Problem } from './items.ts';
import { ryuJson } from './ryuJson.ts';
import { DEFAULT_PORTS } from './tcp.ts';

const EXIT = { ok: 0, failed: 1, usage: 2 } as const;

export const HELP = `Usage: ofdump [OPTION]... [FILE]...

Prints the OpenFlow messages in FILEs: concatenated messages as they were on the wire, captures (pcap and pcapng),
or either kind of message written as hexadecimal text (plain, or dumps of hexdump, xxd, od and Open vSwitch).
Without FILE, or when FILE is -, reads standard input. What a file is shows in its first bytes.

Output:
  (default)           readable: a line for each message, further lines begin with a space
  --json              a line of JSON for each message, as Ryu's to_jsondict prints what Ryu has read
  --reencode          the bytes of each message, decoded and encoded again
  -o, --out FILE      write to FILE instead of standard output
  --offset            readable form only: put FILE:OFFSET in front of each message
  --with-context      the same with time and direction, where the file has them

Input:
  --format FORMAT     ${FORMATS.join(', ')}: what FILEs are (default auto)
  --port N            TCP port on which every stream of a capture is taken for OpenFlow; may be repeated
                      (default ${DEFAULT_PORTS.join(', ')}). Streams that begin with an OpenFlow hello are always read.

  -h, --help          print this and exit
  -V, --version       print the version and exit

What cannot be read is reported on standard error with its place and the reason, and reading goes on behind it where
that is possible. Offsets count bytes from 0: of the file, or of the bytes that hexadecimal text stands for.

Exit status: 0 all was read, 1 something could not be read or written, 2 the command line is wrong.

Examples:
  tcpdump -i any -U -w - 'tcp port 6653' | ofdump --with-context
  ofdump --json capture.pcapng | jq 'select(has("OFPFlowMod"))'
  echo '04 00 00 08 00 00 00 01' | ofdump
`;

/** Where the command reads and writes, and what it answers to --version. */
export interface Streams {
  readonly version: string;
  readonly stdin: NodeJS.ReadableStream;
  readonly stdout: NodeJS.WritableStream & { isTTY?: boolean };
  readonly stderr: NodeJS.WritableStream;
}

interface Options {
  readonly files: readonly string[];
  readonly output: 'text' | 'json' | 'bytes';
  readonly context: 'none' | 'offset' | 'full';
  readonly out: string | undefined;
  readonly format: Format;
  readonly ports: readonly number[] | undefined;
}

class UsageError extends Error {}

function parse(args: readonly string[]): Options | 'help' | 'version' {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      json: { type: 'boolean', default: false },
      reencode: { type: 'boolean', default: false },
      out: { type: 'string', short: 'o' },
      offset: { type: 'boolean', default: false },
      'with-context': { type: 'boolean', default: false },
      format: { type: 'string', default: 'auto' },
      port: { type: 'string', multiple: true },
      help: { type: 'boolean', short: 'h', default: false },
      version: { type: 'boolean', short: 'V', default: false },
    },
  });
  if (values.help) return 'help';
  if (values.version) return 'version';
  if (values.json && values.reencode) throw new UsageError('--json and --reencode exclude each other');
  const context = values['with-context'] ? 'full' : values.offset ? 'offset' : 'none';
  if (context !== 'none' && (values.json || values.reencode)) {
    throw new UsageError(`--${context === 'full' ? 'with-context' : 'offset'} is for the readable form only`);
  }
  const format = FORMATS.find((f) => f === values.format);
  if (format === undefined) throw new UsageError(`--format ${values.format}: one of ${FORMATS.join(', ')}`);
  const ports = values.port?.map((p) => {
    const n = Number(p);
    if (!/^\d+$/.test(p) || n < 1 || n > 65535) throw new UsageError(`--port ${p}: a number from 1 to 65535`);
    return n;
  });
  return {
    files: positionals.length === 0 ? ['-'] : positionals,
    output: values.json ? 'json' : values.reencode ? 'bytes' : 'text',
    context,
    out: values.out,
    format,
    ports,
  };
}

/** Collects output and waits when nobody takes it. */
class Output {
  readonly #to: NodeJS.WritableStream;
  #pieces: (string | Buffer)[] = [];
  #size = 0;

  constructor(to: NodeJS.WritableStream) {
    this.#to = to;
  }

  write(piece: string | Buffer): void {
    this.#pieces.push(piece);
    this.#size += piece.length;
  }

  async flush(atLeast = 0): Promise<void> {
    if (this.#size <= atLeast) return;
    const all = Buffer.concat(this.#pieces.map((p) => (typeof p === 'string' ? Buffer.from(p) : p)));
    this.#pieces = [];
    this.#size = 0;
    if (!this.#to.write(all)) await once(this.#to, 'drain');
  }
}

function reasonOf(e: unknown): string {
  return typeof e === 'object' && e !== null && 'message' in e ? String(e.message) : String(e);
}

function timeText(timeNs: bigint): string {
  const seconds = timeNs / 1_000_000_000n;
  const nanoseconds = String(timeNs % 1_000_000_000n).padStart(9, '0');
  const date = new Date(Number(seconds) * 1000);
  // beyond the year 275760 there are no dates
  if (Number.isNaN(date.getTime())) return `${seconds}.${nanoseconds}`;
  return `${date.toISOString().slice(0, -5)}.${nanoseconds.replace(/000$/, '')}Z`;
}

/** `FILE:OFFSET`, with line or packet where there are such. */
function placeText(file: string, place: Place): string {
  const line = place.line === undefined ? '' : ` line ${place.line}`;
  const packet = place.packet === undefined ? '' : ` packet ${place.packet}`;
  const stream = place.stream === undefined ? '' : ` ${place.stream}`;
  return `${file}: offset ${place.offset}${line}${packet}${stream}`;
}

class Run {
  readonly #options: Options;
  readonly #out: Output;
  readonly #err: Output;
  failed = false;

  constructor(options: Options, out: Output, err: Output) {
    this.#options = options;
    this.#out = out;
    this.#err = err;
  }

  async file(file: string, stdin: NodeJS.ReadableStream): Promise<void> {
    const name = file === '-' ? 'standard input' : file;
    const dump = new Dump(this.#options);
    try {
      const stream = file === '-' ? stdin : createReadStream(file, { highWaterMark: 256 * 1024 });
      for await (const piece of stream as AsyncIterable<Buffer | string>) {
        for (const item of dump.push(typeof piece === 'string' ? Buffer.from(piece) : piece)) {
          this.#item(name, item);
          await this.#out.flush(64 * 1024);
          await this.#err.flush(64 * 1024);
        }
        // what a pipe has brought is shown at once
        await this.#out.flush();
        await this.#err.flush();
      }
    } catch (e) {
      this.#fail(`${name}: ${reasonOf(e)}`);
    }
    for (const item of dump.end()) {
      this.#item(name, item);
      await this.#out.flush(64 * 1024);
    }
    await this.#out.flush();
    await this.#err.flush();
  }

  #fail(text: string): void {
    this.failed = true;
    this.#err.write(`ofdump: ${text}\n`);
  }

  #item(file: string, item: Found | Problem): void {
    if (item.kind === 'problem') {
      this.#fail(`${placeText(file, item.place)}: ${item.reason}`);
      return;
    }
    const { bytes, place } = item;
    try {
      this.#message(file, item, decode(bytes));
    } catch (e) {
      if (!(e instanceof OfDecodeError || e instanceof OfEncodeError)) throw e;
      const header = `version ${bytes[0]}, type ${bytes[1]}, ${bytesText(bytes.length)}`;
      const answer = e instanceof OfDecodeError ? `; ${errorText(e.version, e.ofError.type, e.ofError.code)}` : '';
      this.#fail(`${placeText(file, place)}: ${header}: ${e.message}${answer}`);
      if (this.#options.output === 'text') {
        const xid = bytes.readUInt32BE(4).toString(16);
        this.#text(file, place, `(not read: ${header}) (xid=0x${xid}):\n ${bytes.toString('hex')}`);
      }
    }
  }

  #message(file: string, { bytes, place }: Found, msg: OfMessage): void {
    switch (this.#options.output) {
      case 'json':
        this.#out.write(`${stringifyJson(ryuJson(msg, bytes))}\n`);
        return;
      case 'text':
        this.#text(file, place, format(msg));
        return;
      case 'bytes': {
        const again = encode(msg);
        this.#out.write(again);
        if (again.equals(bytes)) return;
        let at = 0;
        while (at < bytes.length && at < again.length && bytes[at] === again[at]) at++;
        const what = again.length === bytes.length ? '' : ` and in length: ${bytes.length} became ${again.length}`;
        this.#fail(
          `${placeText(file, place)}: ${msg.cls}: re-encoded bytes differ at byte ${at} of the message${what} (padding and bytes behind the last field are not kept)`,
        );
      }
    }
  }

  #text(file: string, place: Place, text: string): void {
    let prefix = '';
    if (this.#options.context !== 'none') prefix = `${file}:${place.offset}: `;
    if (this.#options.context === 'full') {
      if (place.timeNs !== undefined) prefix += `${timeText(place.timeNs)} `;
      if (place.stream !== undefined) prefix += `${place.stream} `;
    }
    this.#out.write(`${prefix}${text}\n`);
  }
}

function sameFile(input: string, output: string): boolean {
  if (input === '-') return false;
  const [a, b] = [input, output].map((name) => statSync(name, { throwIfNoEntry: false }));
  return a !== undefined && b !== undefined && a.isFile() && a.dev === b.dev && a.ino === b.ino;
}

/** Runs the command and returns its exit status. */
export async function ofdump(args: readonly string[], streams: Streams): Promise<number> {
  const usage = (text: string): number => {
    streams.stderr.write(`ofdump: ${text}\nTry 'ofdump --help'.\n`);
    return EXIT.usage;
  };
  let options: Options;
  try {
    const parsed = parse(args);
    if (parsed === 'help' || parsed === 'version') {
      streams.stdout.write(parsed === 'help' ? HELP : `ofdump ${streams.version}\n`);
      return EXIT.ok;
    }
    options = parsed;
  } catch (e) {
    if (e instanceof UsageError || (e as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS_')) {
      return usage((e as Error).message);
    }
    throw e;
  }
  if (options.output === 'bytes' && options.out === undefined && streams.stdout.isTTY === true) {
    return usage('--reencode writes bytes, which are not for a screen: redirect them or use --out FILE');
  }
  if (options.out !== undefined && options.files.some((name) => sameFile(name, options.out as string))) {
    return usage(`--out ${options.out}: it is read as well`);
  }
  const file = options.out === undefined ? undefined : createWriteStream(options.out);
  try {
    if (file !== undefined) await once(file, 'open');
    const run = new Run(options, new Output(file ?? streams.stdout), new Output(streams.stderr));
    for (const name of options.files) await run.file(name, streams.stdin);
    if (file !== undefined) {
      file.end();
      await finished(file);
    }
    return run.failed ? EXIT.failed : EXIT.ok;
  } catch (e) {
    if (file === undefined) throw e;
    streams.stderr.write(`ofdump: ${options.out}: ${reasonOf(e)}\n`);
    return EXIT.failed;
  }
}
