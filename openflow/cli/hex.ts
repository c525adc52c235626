/**
 * Reads bytes written as hexadecimal text: plain digits in any grouping (`0x`, `\x`, commas and brackets are passed over),
 * and the dumps of `hexdump`, `hexdump -C`, `xxd`, `od` and Open vSwitch, which have offsets in front. Text around a dump
 * is passed over; in plain hex it is an error.
 */
import { append, type Place, type Problem, problem } from './items.ts';

/** Bytes of one line. `begins`: what came before has nothing to do with it. */
export interface HexPiece {
  readonly kind: 'bytes';
  readonly bytes: Buffer;
  readonly place: Place;
  readonly begins: boolean;
}

/** Longest line of plain hex that is read as a whole. */
const LINE = 64 * 1024;
const MAX_PROBLEMS = 20;
/** More than the longest message: no dump repeats a line beyond that. */
const MAX_REPEATED = 64 * 1024;
/** An offset in front of a dump's line, with or without a colon. */
const OFFSET = /^\s*(?:0x)?([0-9a-fA-F]{4,16})(:|)(?=\s|$)/;

/** Whether a file that begins with these bytes is text: no message does, its first byte is the version. */
export function isText(b: Buffer): boolean {
  for (const c of b.subarray(0, 16))
    if (c === 0x7f || (c < 0x20 && c !== 0x09 && c !== 0x0a && c !== 0x0d)) return false;
  return b.length > 0;
}

interface Dump {
  /** Base of its offsets, once that is known. */
  base: 8 | 16 | undefined;
  /** Offset of the line at hand, which is given out when the next one tells its length. */
  offset: number;
  bytes: Buffer;
  place: Place;
  begins: boolean;
  littleEndian: boolean;
  /** Whether `*` followed the line. */
  repeat: boolean;
}

export class HexReader {
  #text = '';
  #line = 1;
  /** Bytes read. */
  #bytes = 0;
  #plain = false;
  #dump: Dump | undefined;
  #dumps = 0;
  /** Lines that are not hex, until it is clear whether they are text around dumps. */
  #unread: Problem[] = [];
  #moreUnread = 0;

  push(piece: Buffer): (HexPiece | Problem)[] {
    const out: (HexPiece | Problem)[] = [];
    // what is not ASCII is no hex, whatever its encoding
    this.#text += piece.toString('latin1');
    let from = 0;
    for (;;) {
      const newline = this.#text.indexOf('\n', from);
      if (newline < 0) break;
      this.#readLine(this.#text.slice(from, newline), out);
      this.#line++;
      from = newline + 1;
    }
    this.#text = this.#text.slice(from);
    while (this.#text.length > LINE) {
      const cut = endOfBytes(this.#text.slice(0, LINE));
      this.#readLine(this.#text.slice(0, cut), out);
      this.#text = this.#text.slice(cut);
    }
    return out;
  }

  end(): (HexPiece | Problem)[] {
    const out: (HexPiece | Problem)[] = [];
    this.#readLine(this.#text, out);
    this.#text = '';
    this.#give(out);
    if (this.#dumps === 0) {
      append(out, this.#unread);
      if (this.#moreUnread > 0) out.push(problem(this.#place(), `${this.#moreUnread} more lines are not hexadecimal`));
    }
    return out;
  }

  #readLine(raw: string, out: (HexPiece | Problem)[]): void {
    const line = raw.replace(/\r$/, '').replace(/^\u00ef\u00bb\u00bf/, '');
    if (line.trim() === '') return;
    const offset = this.#plain ? null : OFFSET.exec(line);
    if (offset !== null && this.#dumpLine(offset, line.slice(offset[0].length), out)) return;
    if (this.#dumps > 0) {
      if (this.#dump !== undefined && line.trim() === '*') this.#dump.repeat = true;
      return;
    }
    const bytes = plainBytes(line.replace(/(#|\/\/).*$/, ''));
    if (typeof bytes !== 'string') {
      if (bytes.length > 0) this.#plain = true;
      out.push({ kind: 'bytes', bytes, place: this.#place(), begins: false });
      this.#bytes += bytes.length;
    } else if (this.#unread.length < MAX_PROBLEMS) {
      this.#unread.push(problem(this.#place(), `${bytes}: ${JSON.stringify(line.slice(0, 60))}`));
    } else {
      this.#moreUnread++;
    }
  }

  /** A line with an offset in front; false when it is none. */
  #dumpLine(offset: RegExpExecArray, rest: string, out: (HexPiece | Problem)[]): boolean {
    const digits = offset[1] as string;
    const colon = offset[2] === ':';
    const data = dumpBytes(rest, colon, digits.length === 7);
    if (data === undefined) return false;
    const hex = Number.parseInt(digits, 16);
    const dump = this.#dump;
    // a part of a dump may begin anywhere, but only these two forms cannot be mistaken
    if (data.bytes.length > 0 && (hex === 0 || (dump === undefined && (colon || rest.includes('|'))))) {
      this.#give(out);
      this.#dumps++;
      this.#unread = [];
      this.#moreUnread = 0;
      this.#dump = { base: undefined, offset: hex, place: this.#place(), begins: true, repeat: false, ...data };
      this.#bytes += data.bytes.length;
      return true;
    }
    if (dump === undefined) return false;
    const octal = /^[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : undefined;
    const next = fits(dump, hex, 16) ? hex : octal !== undefined && fits(dump, octal, 8) ? octal : undefined;
    if (next === undefined) {
      const expected = (dump.offset + dump.bytes.length).toString(dump.base ?? 16);
      this.#give(out);
      this.#dump = undefined;
      out.push(
        problem(
          this.#place(),
          `offset ${digits} in a dump where ${expected} was expected: the rest of it was not read`,
        ),
      );
      return true;
    }
    dump.base ??= next === hex ? 16 : 8;
    this.#give(out, next - dump.offset);
    this.#dump =
      data.bytes.length === 0
        ? undefined
        : { base: dump.base, offset: next, place: this.#place(), begins: false, repeat: false, ...data };
    this.#bytes += data.bytes.length;
    return true;
  }

  /** Gives out the dump's line at hand, `length` bytes of it: fewer when the last was made up, more when it repeats. */
  #give(out: (HexPiece | Problem)[], length?: number): void {
    const dump = this.#dump;
    if (dump === undefined || dump.bytes.length === 0) return;
    const n = length ?? dump.bytes.length;
    const bytes = n <= dump.bytes.length ? dump.bytes.subarray(0, n) : Buffer.alloc(n, dump.bytes);
    this.#bytes += n - dump.bytes.length;
    out.push({ kind: 'bytes', bytes, place: dump.place, begins: dump.begins });
    dump.bytes = Buffer.alloc(0);
  }

  #place(): Place {
    return { offset: this.#bytes, line: this.#line };
  }
}

/** Whether `next` can be the offset of the line behind the one at hand. */
function fits(dump: Dump, next: number, base: 8 | 16): boolean {
  if (dump.base !== undefined && dump.base !== base) return false;
  const n = next - dump.offset;
  const { length } = dump.bytes;
  if (dump.repeat) return length > 0 && n > length && n <= MAX_REPEATED && n % length === 0;
  // words of two bytes are also written when there was only one left
  return n === length || (dump.littleEndian && n === length - 1);
}

/** The bytes of a dump's line; undefined when it is not one. */
function dumpBytes(
  rest: string,
  colon: boolean,
  sevenDigits: boolean,
): { bytes: Buffer; littleEndian: boolean } | undefined {
  // the text column is in angle brackets (od), in bars, or behind a gap
  const od = / {2}>.*<$/.exec(rest);
  const bar = od === null && !colon ? rest.indexOf('|') : -1;
  const columns = od !== null ? rest.slice(0, od.index) : bar >= 0 ? rest.slice(0, bar) : rest.trimStart();
  const [first = ''] = od !== null || bar >= 0 ? [columns] : columns.split(colon ? /\s{2,}/ : /\s{3,}/);
  const words = first.split(/[\s-]+/).filter((w) => w !== '');
  const digits = words[0]?.length ?? 0;
  const wordDigits = words.slice(0, -1).every((w) => w.length === digits);
  if (!words.every((w) => /^([0-9a-fA-F]{2})+$/.test(w)) || !wordDigits) return undefined;
  const bytes = Buffer.from(words.join(''), 'hex');
  const littleEndian = !colon && sevenDigits && digits === 4 && bytes.length % 2 === 0;
  return { bytes: littleEndian ? bytes.swap16() : bytes, littleEndian };
}

/** The bytes plain hex stands for, or what is wrong with it. */
function plainBytes(line: string): Buffer | string {
  const text = line.replace(/(?:0[xX]|\\x)([0-9a-fA-F]*)/g, (_, d: string) => ` ${d.length % 2 === 0 ? d : `0${d}`} `);
  const words = text.split(/[\s,;:.'"(){}[\]-]+/).filter((w) => w !== '');
  for (const w of words) {
    if (!/^[0-9a-fA-F]+$/.test(w)) return 'not hexadecimal';
    if (w.length % 2 !== 0) return `an odd number of hexadecimal digits (${w.slice(0, 20)})`;
  }
  return Buffer.from(words.join(''), 'hex');
}

/** Where text without an end of line can be cut between two bytes. */
function endOfBytes(text: string): number {
  const run = /[0-9a-fA-F]*$/.exec(text)?.[0].length ?? 0;
  // a run without any separator before it begins with the first digit of a byte, as runs are always cut here
  return text.length - (run % 2);
}
