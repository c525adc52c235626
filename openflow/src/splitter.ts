/**
 * Cuts a byte stream into messages by the length of their headers (OpenFlow 1.3.5 §7.1). It knows nothing of what is in
 * them: codec.ts does.
 */
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfDecodeError } from './errors.ts';
import { MAX_MESSAGE } from './wire.ts';

export interface MessageSplitterOptions {
  /** Longest message to accept, at most 65535, which is the default. */
  readonly maxLength?: number;
}

/**
 * Takes chunks of a stream as they come and returns the messages they complete. OpenFlow 1.3.5 §7.1.
 *
 * A message that lies within one chunk is a view of it; one that spans chunks is collected in a buffer of its own that
 * grows by doubling, so that neither one-byte chunks nor a header that promises 64 KiB cost more than they bring.
 */
export class MessageSplitter {
  readonly #maxLength: number;
  #hold: Buffer = Buffer.alloc(0);
  #held = 0;
  #broken: OfDecodeError | undefined;

  constructor(options: MessageSplitterOptions = {}) {
    this.#maxLength = Math.min(options.maxLength ?? MAX_MESSAGE, MAX_MESSAGE);
  }

  /** Bytes held back until the rest of their message arrives. */
  get pending(): number {
    return this.#held;
  }

  /**
   * Returns the messages that `chunk` completes, in order.
   *
   * @throws OfDecodeError for a header whose length is below 8 or above the limit. There is no next message after that:
   * later calls throw the same error. Messages that were complete before it are in the error's `preceding`.
   */
  push(chunk: Uint8Array): Buffer[] {
    if (this.#broken !== undefined) throw this.#broken;
    const b = Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    const out: Buffer[] = [];
    let at = 0;
    if (this.#held > 0) {
      at = this.#fill(b, 0, 8);
      if (this.#held < 8) return out;
      const length = this.#lengthAt(this.#hold, 0, out);
      at = this.#fill(b, at, length);
      if (this.#held < length) return out;
      out.push(this.#hold.subarray(0, length));
      this.#hold = Buffer.alloc(0);
      this.#held = 0;
    }
    while (b.length - at >= 8) {
      const length = this.#lengthAt(b, at, out);
      if (b.length - at < length) break;
      // Of a peer that waits for an answer each message comes alone, and needs no view of its own.
      out.push(length === b.length ? b : b.subarray(at, at + length));
      at += length;
    }
    if (at < b.length) this.#fill(b, at, b.length - at);
    return out;
  }

  /** Moves bytes of `b` from `at` into the hold until it has `want`; returns where it stopped. */
  #fill(b: Buffer, at: number, want: number): number {
    const n = Math.min(want - this.#held, b.length - at);
    if (n <= 0) return at;
    const need = this.#held + n;
    if (need > this.#hold.length) {
      const next = Buffer.allocUnsafeSlow(Math.min(MAX_MESSAGE, Math.max(64, 2 * need)));
      this.#hold.copy(next, 0, 0, this.#held);
      this.#hold = next;
    }
    b.copy(this.#hold, this.#held, at, at + n);
    this.#held = need;
    return at + n;
  }

  #lengthAt(b: Buffer, at: number, preceding: Buffer[]): number {
    const length = b.readUInt16BE(at + 2);
    if (length >= 8 && length <= this.#maxLength) return length;
    this.#broken = new OfDecodeError(`header tells length ${length}`, {
      version: b[at] as number,
      type: b[at + 1] as number,
      offset: 2,
      ofError: { type: ofp.OFPET_BAD_REQUEST, code: ofp.OFPBRC_BAD_LEN },
      preceding,
    });
    this.#hold = Buffer.alloc(0);
    this.#held = 0;
    throw this.#broken;
  }
}
