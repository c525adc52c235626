/**
 * Cuts a stream of bytes into messages and remembers where each began. Unlike `MessageSplitter` of the library it goes on
 * after damage: where pieces of the stream begin (segments of TCP, lines of hex text) a message may begin, too.
 */
import { ByteQueue } from './byteQueue.ts';
import { type Item, type Place, problem } from './items.ts';

const HEADER = 8;
const HELLO = 0;
const LAST_VERSION = 6;
/** Highest message type of any version: OFPT_CONTROLLER_STATUS of 1.5. */
const LAST_TYPE = 35;

/** Whether 8 bytes could be the header of a message of any version there is. */
function plausibleHeader(b: Buffer, at = 0): boolean {
  const version = b[at] as number;
  return (
    version >= 1 && version <= LAST_VERSION && (b[at + 1] as number) <= LAST_TYPE && b.readUInt16BE(at + 2) >= HEADER
  );
}

/** Headers in a row that make a place in the middle of a piece the beginning of a message. */
const ENOUGH_HEADERS = 3;
/** Bytes kept while such a row is looked for. */
const MAX_SEARCHED = 256 * 1024;

/**
 * Whether messages could begin at `from`: every header up to the end of the bytes at hand, or `enough` of them, has to be
 * plausible and of one version. Undefined when there are too few bytes to tell.
 */
function plausibleRow(b: Buffer, from: number, version: number | undefined, enough: number): boolean | undefined {
  const first = version ?? (b[from] as number);
  let at = from;
  for (let n = 0; n < enough; n++) {
    if (at + HEADER > b.length) return undefined;
    if (b[at] !== first || !plausibleHeader(b, at)) return false;
    at += b.readUInt16BE(at + 2);
  }
  return true;
}

/** Eight bytes of one value are more likely data than a header. */
function uniform(b: Buffer, at: number): boolean {
  for (let i = 1; i < HEADER; i++) if (b[at + i] !== b[at]) return false;
  return true;
}

/**
 * Whether a stream begins with a hello; undefined while there are too few bytes to tell. Other protocols begin with much
 * the same four bytes (TPKT for one), therefore the first element is looked at as well.
 */
function beginsWithHello(b: Buffer): boolean | undefined {
  if (b.length > 0 && ((b[0] as number) < 1 || (b[0] as number) > LAST_VERSION)) return false;
  if (b.length > 1 && b[1] !== HELLO) return false;
  if (b.length < HEADER) return undefined;
  const length = b.readUInt16BE(2);
  if (length === HEADER) return true;
  if (length < HEADER + 4 || length > 1024) return false;
  if (b.length < HEADER + 4) return undefined;
  const elementLength = b.readUInt16BE(HEADER + 2);
  return b.readUInt16BE(HEADER) === 1 && elementLength >= 4 && elementLength <= length - HEADER;
}

/**
 * How the first bytes are taken: as a message whatever they are (`any`), as a message if they could be one (`plausible`),
 * or only if they are a hello: otherwise the stream is none of ours and is dropped without a word (`hello`).
 */
export type Beginning = 'any' | 'plausible' | 'hello';

interface Mark {
  readonly at: number;
  readonly place: Place;
  readonly boundary: boolean;
}

interface Lost {
  readonly place: Place;
  readonly reason: string;
  skipped: number;
}

export class Cutter {
  readonly #queue = new ByteQueue();
  /** Where the pieces in the queue begin, by position in the stream. */
  #marks: Mark[] = [];
  #beginning: Beginning;
  #lost: Lost | undefined;
  #ignored = false;
  /** Version of the last message. */
  #version: number | undefined;
  #searchAgainAt = 0;

  constructor(beginning: Beginning) {
    this.#beginning = beginning;
  }

  /** Whether the stream turned out to be of another protocol. */
  get ignored(): boolean {
    return this.#ignored;
  }

  /** Whether the stream's first bytes were accepted. */
  get accepted(): boolean {
    return !this.#ignored && this.#beginning === 'any';
  }

  /**
   * Takes the next bytes of the stream, found at `place`, and returns what they complete. `boundary`: a message may begin
   * here even if the stream was lost.
   */
  push(bytes: Buffer, place: Place, boundary: boolean): Item[] {
    const out: Item[] = [];
    if (this.#ignored || bytes.length === 0) return out;
    this.#marks.push({ at: this.#queue.position + this.#queue.length, place, boundary });
    this.#queue.append(bytes);
    this.#read(out, false);
    return out;
  }

  /** Bytes of the stream are missing from here on. */
  gap(place: Place, what: string): Item[] {
    if (this.#ignored) return [];
    const out: Item[] = [];
    this.#read(out, true);
    const { length } = this.#queue;
    if (this.#beginning === 'hello') {
      this.#ignore();
      return [];
    }
    if (this.#lost === undefined) {
      this.#lost = {
        place: length > 0 ? this.#place() : place,
        reason: length > 0 ? `message cut short after ${bytesText(length)}: ${what}` : what,
        skipped: 0,
      };
    }
    this.#skip(length);
    this.#beginning = 'any';
    return out;
  }

  /** The stream is over. */
  end(): Item[] {
    const out: Item[] = [];
    if (this.#ignored) return out;
    this.#read(out, true);
    const { length, view } = this.#queue;
    if (this.#lost !== undefined) {
      this.#lost.skipped += length;
      this.#report(out, 'to the end');
    } else if (length > 0 && this.#beginning !== 'hello') {
      const told = length >= HEADER ? `its header tells ${bytesText(view.readUInt16BE(2))}` : 'a header has 8';
      out.push(problem(this.#place(), `message cut short: ${told}, ${length} ${length === 1 ? 'is' : 'are'} there`));
    }
    this.#queue.take(length);
    return out;
  }

  #read(out: Item[], last: boolean): void {
    if (this.#beginning !== 'any' && !this.#begin(last)) return;
    for (;;) {
      if (this.#lost !== undefined && !this.#find(out, last)) return;
      const { view } = this.#queue;
      if (view.length < HEADER) return;
      const length = view.readUInt16BE(2);
      if (length < HEADER) {
        const [version, type] = view;
        this.#lost = {
          place: this.#place(),
          reason: `version ${version}, type ${type}: the header tells a length of ${length}, less than its own 8`,
          skipped: 0,
        };
        // the same place would be found again
        this.#skip(1);
        continue;
      }
      if (view.length < length) return;
      out.push({ kind: 'message', bytes: Buffer.from(view.subarray(0, length)), place: this.#place() });
      this.#version = view[0];
      this.#drop(length);
    }
  }

  /** Looks at the first bytes; false while there is nothing to cut. */
  #begin(last: boolean): boolean {
    const { view, length } = this.#queue;
    if (length === 0) return false;
    if (this.#beginning === 'hello') {
      const hello = beginsWithHello(view);
      if (hello === undefined) return false;
      if (!hello) {
        this.#ignore();
        return false;
      }
    } else {
      if (length < HEADER && !last) return false;
      if (length >= HEADER && (!plausibleHeader(view) || uniform(view, 0))) {
        const tls = view[0] === 0x16 && view[1] === 3 ? ' (it looks like TLS: what is encrypted cannot be read)' : '';
        this.#lost = {
          place: this.#place(),
          reason: `no OpenFlow header where reading began, but ${view.toString('hex', 0, HEADER)}${tls}`,
          skipped: 0,
        };
        this.#skip(1);
      }
    }
    this.#beginning = 'any';
    return true;
  }

  #ignore(): void {
    this.#ignored = true;
    this.#queue.take(this.#queue.length);
    this.#marks = [];
  }

  /**
   * In a lost stream: goes to the next place where messages could begin. Where a piece begins one plausible header is
   * enough, elsewhere it takes a row of them.
   */
  #find(out: Item[], last: boolean): boolean {
    const { view, position } = this.#queue;
    // bytes searched in vain are searched again only when a good part was added to them
    const whole = last || view.length >= this.#searchAgainAt;
    const newest = this.#marks.at(-1);
    const boundaries = new Set<number>();
    for (const m of whole ? this.#marks : this.#marks.slice(-1)) if (m.boundary) boundaries.add(m.at);
    const from = whole || newest === undefined ? 0 : Math.max(0, newest.at - position);
    let keep = from > 0 ? 0 : undefined;
    for (let at = from; at < view.length; at++) {
      const boundary = boundaries.has(position + at);
      if (at + HEADER > view.length) {
        keep ??= at;
        break;
      }
      if (!plausibleHeader(view, at)) continue;
      const row = plausibleRow(view, at, this.#version, ENOUGH_HEADERS);
      // too short to tell, but nothing against it
      if (row === undefined && !boundary) keep ??= at;
      if (row === false || (row === undefined && !boundary) || uniform(view, at)) continue;
      this.#skip(at);
      this.#report(out, 'before');
      return true;
    }
    if (last || view.length > MAX_SEARCHED) keep = undefined;
    this.#skip(keep ?? view.length);
    const { length } = this.#queue;
    this.#searchAgainAt = length + Math.max(512, length >> 3);
    return false;
  }

  #skip(n: number): void {
    if (this.#lost !== undefined) this.#lost.skipped += n;
    this.#drop(n);
  }

  #drop(n: number): void {
    this.#queue.take(n);
    const { position, length } = this.#queue;
    let keep = 0;
    // the last mark at or before the first byte tells its place
    while (keep + 1 < this.#marks.length && (this.#marks[keep + 1] as Mark).at <= position) keep++;
    if (length === 0) this.#marks = [];
    else if (keep > 0) this.#marks.splice(0, keep);
  }

  #place(): Place {
    const [mark] = this.#marks;
    if (mark === undefined) throw new Error('no bytes, no place');
    return { ...mark.place, offset: mark.place.offset + this.#queue.position - mark.at };
  }

  #report(out: Item[], until: 'before' | 'to the end'): void {
    const { place, reason, skipped } = this.#lost as Lost;
    this.#lost = undefined;
    this.#searchAgainAt = 0;
    let what = `${bytesText(skipped)} skipped to the end`;
    if (until === 'before') {
      const { offset, packet, line } = this.#place();
      const on = `reading went on at ${line !== undefined ? `line ${line}, ` : packet !== undefined ? `packet ${packet}, ` : ''}offset ${offset}`;
      what = skipped === 0 ? on : `${bytesText(skipped)} skipped before ${on}`;
    }
    out.push(problem(place, `${reason}; ${what}`));
  }
}

export function bytesText(n: number): string {
  return n === 1 ? '1 byte' : `${n} bytes`;
}
