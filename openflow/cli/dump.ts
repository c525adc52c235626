/**
 * From a file, in pieces of any size, to the messages in it: finds out what kind of file it is and puts the readers for
 * that kind behind each other. Pure: ofdump.ts reads and prints.
 */
import { Cutter } from './cutter.ts';
import { HexReader, isText } from './hex.ts';
import { append, type Item, problem } from './items.ts';
import { CaptureReader, isCapture } from './pcap.ts';
import { TcpStreams } from './tcp.ts';

export const FORMATS = ['auto', 'raw', 'pcap', 'hex'] as const;
export type Format = (typeof FORMATS)[number];

export interface DumpOptions {
  /** What the file is; `auto` goes by its first bytes. */
  readonly format?: Format | undefined;
  /** Ports on which every TCP stream is taken for OpenFlow. */
  readonly ports?: readonly number[] | undefined;
}

/** Reads one file. Give it the pieces in order, then `end`; messages come as soon as they are whole. */
export class Dump {
  readonly #options: DumpOptions;
  #reader: { push(piece: Buffer): Item[]; end(): Item[] } | undefined;
  #first: Buffer = Buffer.alloc(0);

  constructor(options: DumpOptions = {}) {
    this.#options = options;
  }

  push(piece: Buffer): Item[] {
    if (this.#reader !== undefined) return this.#reader.push(piece);
    const first = this.#first.length === 0 ? piece : Buffer.concat([this.#first, piece]);
    // enough to tell by
    if (first.length < 16) {
      this.#first = Buffer.from(first);
      return [];
    }
    return this.#begin(first).push(first);
  }

  end(): Item[] {
    if (this.#reader !== undefined) return this.#reader.end();
    const first = this.#first;
    if (first.length === 0) return [];
    const reader = this.#begin(first);
    return [...reader.push(first), ...reader.end()];
  }

  #begin(first: Buffer): { push(piece: Buffer): Item[]; end(): Item[] } {
    const { format = 'auto', ports } = this.#options;
    this.#first = Buffer.alloc(0);
    const is = format !== 'auto' ? format : isCapture(first) ? 'pcap' : isText(first) ? 'hex' : 'raw';
    if (format === 'auto' && first[0] === 0x1f && first[1] === 0x8b) this.#reader = new Compressed();
    else this.#reader = is === 'pcap' ? new Capture(ports) : is === 'hex' ? new Hex() : new Raw();
    return this.#reader;
  }
}

class Raw {
  readonly #cutter = new Cutter('any');
  #offset = 0;

  push(piece: Buffer): Item[] {
    const out = this.#cutter.push(piece, { offset: this.#offset }, false);
    this.#offset += piece.length;
    return out;
  }

  end(): Item[] {
    return this.#cutter.end();
  }
}

class Hex {
  readonly #reader = new HexReader();
  #cutter = new Cutter('any');

  push(piece: Buffer): Item[] {
    return this.#cut(this.#reader.push(piece));
  }

  end(): Item[] {
    return [...this.#cut(this.#reader.end()), ...this.#cutter.end()];
  }

  #cut(pieces: ReturnType<HexReader['push']>): Item[] {
    const out: Item[] = [];
    for (const p of pieces) {
      if (p.kind === 'problem') {
        out.push(p);
        continue;
      }
      if (p.begins) {
        append(out, this.#cutter.end());
        this.#cutter = new Cutter('any');
      }
      append(out, this.#cutter.push(p.bytes, p.place, true));
    }
    return out;
  }
}

class Capture {
  readonly #reader = new CaptureReader();
  readonly #streams: TcpStreams;

  constructor(ports: readonly number[] | undefined) {
    this.#streams = new TcpStreams({ ports });
  }

  push(piece: Buffer): Item[] {
    const out: Item[] = [];
    for (const p of this.#reader.push(piece)) {
      if (p.kind === 'problem') out.push(p);
      else append(out, this.#streams.push(p));
    }
    return out;
  }

  end(): Item[] {
    return [...this.#streams.end(), ...this.#reader.end()];
  }
}

/** Not read, but recognised. */
class Compressed {
  push(): Item[] {
    return [];
  }

  end(): Item[] {
    return [problem({ offset: 0 }, 'compressed with gzip: decompress it first (gunzip -c FILE | ofdump)')];
  }
}
