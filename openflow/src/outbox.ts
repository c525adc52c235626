/**
 * Output of a connection that waits for its transport: two lanes of whole messages, the urgent one (answers that keep
 * the connection alive) ahead of the other. Used by connection.ts, which says when to write and what to do when it is full.
 */

/** Bytes handed to the transport at a time: what an urgent message has to wait behind at most, and enough to fill a link. */
const WRITE_BYTES = 64 * 1024;
/** Urgent answers kept for a peer that asks without reading; more are dropped, for they tell it nothing new. */
const URGENT_BYTES = 128 * 1024;

/** Messages in their order. Most of the time there is one or none, and that one costs no list. */
class Lane {
  bytes = 0;
  #first: Buffer | undefined;
  #rest: Buffer[] = [];
  #head = 0;

  push(item: Buffer): void {
    this.bytes += item.length;
    if (this.#first === undefined) this.#first = item;
    else this.#rest.push(item);
  }

  /** Takes the next message out if it is no longer than `room`. */
  take(room: number): Buffer | undefined {
    const next = this.#first;
    if (next === undefined || next.length > room) return undefined;
    this.bytes -= next.length;
    if (this.#head === this.#rest.length) {
      this.#first = undefined;
      return next;
    }
    this.#first = this.#rest[this.#head++];
    // Forgetting what was taken costs a copy of the rest, so it is done when the rest is the smaller part.
    if (this.#head > this.#rest.length / 2) {
      this.#rest = this.#rest.slice(this.#head);
      this.#head = 0;
    }
    return next;
  }

  clear(): void {
    this.#first = undefined;
    this.#rest = [];
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
      // The first always fits: there may be none that is shorter.
      const first = this.#next(Number.POSITIVE_INFINITY, urgentOnly);
      if (first === undefined) return;
      let room = WRITE_BYTES - first.length;
      let more: Buffer[] | undefined;
      for (;;) {
        const next = this.#next(room, urgentOnly);
        if (next === undefined) break;
        room -= next.length;
        if (more === undefined) more = [first, next];
        else more.push(next);
      }
      this.blocked = !write(more === undefined ? first : Buffer.concat(more));
    }
  }

  /** The next message of at most so many bytes. No other message is written between urgent ones. */
  #next(room: number, urgentOnly: boolean): Buffer | undefined {
    if (this.#urgent.bytes > 0) return this.#urgent.take(room);
    return urgentOnly ? undefined : this.#bulk.take(room);
  }

  clear(): void {
    this.#urgent.clear();
    this.#bulk.clear();
  }
}
