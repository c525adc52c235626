/**
 * Output of a connection that waits for its transport: two lanes of whole messages, the urgent one (answers that keep
 * the connection alive) ahead of the other. Used by connection.ts, which says when to write and what to do when it is full.
 */

/** Bytes handed to the transport at a time: what an urgent message has to wait behind at most, and enough to fill a link. */
const WRITE_BYTES = 64 * 1024;
/** Urgent answers kept for a peer that asks without reading; more are dropped, for they tell it nothing new. */
const URGENT_BYTES = 128 * 1024;

class Lane {
  bytes = 0;
  #items: Buffer[] = [];
  #head = 0;

  push(item: Buffer): void {
    this.#items.push(item);
    this.bytes += item.length;
  }

  /** Moves whole messages into `out` while they fit into `room`; the first of an empty `out` always fits. */
  moveTo(out: Buffer[], room: number): number {
    let left = room;
    for (;;) {
      const next = this.#items[this.#head];
      if (next === undefined || (next.length > left && out.length > 0)) break;
      out.push(next);
      left -= next.length;
      this.bytes -= next.length;
      this.#head++;
    }
    // Forgetting what was taken costs a copy of the rest, so it is done when the rest is the smaller part.
    if (this.#head > this.#items.length / 2) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return left;
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
    this.bytes = 0;
  }
}

export class Outbox {
  readonly #urgent = new Lane();
  readonly #bulk = new Lane();
  /** Whether the transport asked to wait. */
  blocked = false;

  /** Bytes that wait, of both lanes. */
  get bytes(): number {
    return this.#urgent.bytes + this.#bulk.bytes;
  }

  push(message: Buffer): void {
    this.#bulk.push(message);
  }

  /** Puts a message ahead of all others that are not urgent. False: there are too many already, and it was dropped. */
  pushUrgent(message: Buffer): boolean {
    if (this.#urgent.bytes + message.length > URGENT_BYTES) return false;
    this.#urgent.push(message);
    return true;
  }

  /** Writes until nothing is left or `write` answers false, several messages at a time; `urgentOnly` leaves the others. */
  flush(write: (bytes: Buffer) => boolean, urgentOnly = false): void {
    while (!this.blocked) {
      const parts: Buffer[] = [];
      const room = this.#urgent.moveTo(parts, WRITE_BYTES);
      if (!urgentOnly && room > 0) this.#bulk.moveTo(parts, room);
      const first = parts[0];
      if (first === undefined) return;
      this.blocked = !write(parts.length === 1 ? first : Buffer.concat(parts));
    }
  }

  clear(): void {
    this.#urgent.clear();
    this.#bulk.clear();
  }
}
