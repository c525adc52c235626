/**
 * Bytes that came in pieces, seen as one buffer: what pcap.ts and cutter.ts read from. Appending is amortised, so that
 * one-byte pieces cost no more than large ones, and a piece that arrives at an empty queue is not copied at all.
 */
export class ByteQueue {
  #buffer: Buffer = Buffer.alloc(0);
  #from = 0;
  #to = 0;
  #owned = false;
  #taken = 0;

  /** Bytes waiting. */
  get length(): number {
    return this.#to - this.#from;
  }

  /** Bytes that went through before the first one waiting. */
  get position(): number {
    return this.#taken;
  }

  /** What waits, as a view that holds until the next `append`. */
  get view(): Buffer {
    return this.#buffer.subarray(this.#from, this.#to);
  }

  append(piece: Buffer): void {
    if (this.#from === this.#to) {
      this.#buffer = piece;
      this.#from = 0;
      this.#to = piece.length;
      this.#owned = false;
      return;
    }
    const held = this.length;
    const need = held + piece.length;
    if (!this.#owned || this.#to + piece.length > this.#buffer.length) {
      const next = Buffer.allocUnsafe(Math.max(256, 2 * need));
      this.#buffer.copy(next, 0, this.#from, this.#to);
      this.#buffer = next;
      this.#from = 0;
      this.#to = held;
      this.#owned = true;
    }
    piece.copy(this.#buffer, this.#to);
    this.#to += piece.length;
  }

  /** Drops the first `n` bytes (at most what waits). */
  take(n: number): void {
    const count = Math.min(n, this.length);
    this.#from += count;
    this.#taken += count;
  }
}
