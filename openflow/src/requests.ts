/**
 * What a connection waits for: transaction ids, requests and their deadlines, transactions, replies in parts, and a bounded
 * memory of what was sent lately, so that an error can be told from which message it came. connection.ts feeds it bytes and
 * time; nothing here writes.
 */
import { quotedXid } from './codec.ts';
import { OfConnectionError, OfRequestError } from './connectionErrors.ts';
import { type ErrorMessage, isMultipartReplyType, replyType, subtypeOf } from './dialect.ts';
import type { OfMessage } from './messages.ts';
import { isMultipartReply, MultipartAssembler } from './multipart.ts';

export interface RequestLimits {
  /** Requests that may be open at a time. */
  readonly maxRequests: number;
  /** Bytes of replies in parts that may be kept until their last part comes. */
  readonly maxUnfinishedBytes: number;
  /** Messages sent without waiting for a reply that are remembered, and their bytes on the wire. */
  readonly rememberMessages: number;
  readonly rememberBytes: number;
  readonly firstXid: number;
}

/** Errors of a transaction's messages, collected until its barrier is answered. */
export interface Errors {
  readonly errors: OfRequestError[];
}

interface Sent {
  readonly xid: number;
  readonly message: OfMessage;
  readonly type: number;
  readonly length: number;
}
interface OpenRequest extends Sent {
  readonly kind: 'request';
  readonly version: number;
  readonly replyType: number;
  readonly subtype: number;
  readonly timeoutMs: number;
  /** When it is given up; known once it was stamped. */
  deadline: number | undefined;
  /** Bytes of the parts that have come. */
  partBytes: number;
  resolve(reply: OfMessage): void;
  reject(error: Error): void;
}
interface Member extends Sent {
  readonly kind: 'member';
  readonly of: Errors;
}
/** A message nobody waits for; `expired` was a request before. */
interface Recent extends Sent {
  readonly expired: boolean;
}

const MAX_XID = 0xffff_ffff;

export class Requests {
  readonly #limits: RequestLimits;
  readonly #open = new Map<number, OpenRequest | Member>();
  readonly #recent = new Map<number, Recent>();
  readonly #parts: MultipartAssembler;
  /** What is remembered in the order in which it is forgotten, from `#oldest` on. */
  #order: Recent[] = [];
  #oldest = 0;
  #recentBytes = 0;
  #nextXid: number;
  #requests = 0;
  #unfinishedBytes = 0;
  #unstamped: OpenRequest[] = [];
  /** No deadline is earlier than this; one may be later, because answered requests are not taken out of it. */
  #soonest = Number.POSITIVE_INFINITY;

  constructor(limits: RequestLimits) {
    this.#limits = limits;
    this.#nextXid = limits.firstXid;
    this.#parts = new MultipartAssembler({ maxPending: limits.maxRequests });
  }

  /** Requests without an answer. */
  get open(): number {
    return this.#requests;
  }
  get remembered(): number {
    return this.#recent.size;
  }
  get unfinishedBytes(): number {
    return this.#unfinishedBytes;
  }
  /** Whether another request may be opened. */
  get hasRoom(): boolean {
    return this.#requests < this.#limits.maxRequests;
  }
  /** No request's time is up before this. */
  get soonest(): number {
    return this.#soonest;
  }

  /** A transaction id that no open request and no remembered message has; never 0. */
  allocate(): number {
    for (;;) {
      const xid = this.#nextXid;
      this.#nextXid = xid === MAX_XID ? 1 : xid + 1;
      if (!this.#open.has(xid) && !this.#recent.has(xid)) return xid;
    }
  }

  /** Opens a request whose encoded form is `bytes`. Its time begins with the next `stamp`. */
  add(
    message: OfMessage,
    bytes: Buffer,
    timeoutMs: number,
    resolve: (reply: OfMessage) => void,
    reject: (error: Error) => void,
  ): void {
    const version = bytes[0] as number;
    const type = bytes[1] as number;
    const request: OpenRequest = {
      kind: 'request',
      xid: bytes.readUInt32BE(4),
      message,
      version,
      type,
      length: bytes.length,
      replyType: replyType(version, type) ?? -1,
      subtype: subtypeOf(version, bytes),
      timeoutMs,
      deadline: undefined,
      partBytes: 0,
      resolve,
      reject,
    };
    this.#open.set(request.xid, request);
    this.#requests++;
    this.#unstamped.push(request);
  }

  /** Notes a message of a transaction: its errors go to `of`. */
  addMember(message: OfMessage, bytes: Buffer, of: Errors): void {
    const xid = bytes.readUInt32BE(4);
    this.#open.set(xid, { kind: 'member', xid, message, type: bytes[1] as number, length: bytes.length, of });
  }

  /** Ends a transaction's interest in its messages; with `mayComeLate` their errors are still told from strangers'. */
  endMembers(xids: readonly number[], mayComeLate: boolean): void {
    for (const xid of xids) {
      const member = this.#open.get(xid);
      if (member?.kind !== 'member') continue;
      this.#open.delete(xid);
      if (mayComeLate) this.#keep(expired(member));
    }
  }

  /** Remembers a message nobody waits for, as long as there is room. */
  remember(message: OfMessage, bytes: Buffer): void {
    const xid = bytes.readUInt32BE(4);
    const type = bytes[1] as number;
    if (!this.#open.has(xid)) this.#keep({ xid, message, type, length: bytes.length, expired: false });
  }

  #keep(recent: Recent): void {
    const before = this.#recent.get(recent.xid);
    if (before !== undefined) this.#recentBytes -= before.length;
    this.#recent.set(recent.xid, recent);
    this.#order.push(recent);
    this.#recentBytes += recent.length;
    while (this.#recent.size > this.#limits.rememberMessages || this.#recentBytes > this.#limits.rememberBytes) {
      const oldest = this.#order[this.#oldest++] as Recent;
      // its xid may have been used again
      if (this.#recent.get(oldest.xid) !== oldest) continue;
      this.#recent.delete(oldest.xid);
      this.#recentBytes -= oldest.length;
    }
    if (this.#oldest > this.#order.length / 2) {
      this.#order = this.#order.slice(this.#oldest);
      this.#oldest = 0;
    }
  }

  /** Starts the clock of requests that were opened since the last call. */
  stamp(now: number): void {
    if (this.#unstamped.length === 0) return;
    for (const r of this.#unstamped) {
      r.deadline = now + r.timeoutMs;
      this.#soonest = Math.min(this.#soonest, r.deadline);
    }
    this.#unstamped = [];
  }

  /** Gives up the requests whose time is up. */
  expire(now: number): void {
    if (now < this.#soonest) return;
    this.#soonest = Number.POSITIVE_INFINITY;
    for (const r of [...this.#open.values()]) {
      if (r.kind !== 'request' || r.deadline === undefined) continue;
      if (r.deadline > now) {
        this.#soonest = Math.min(this.#soonest, r.deadline);
        continue;
      }
      this.#close(r);
      this.#keep(expired(r));
      r.reject(new OfConnectionError('timeout', `${r.message.cls} was not answered within ${r.timeoutMs} ms`));
    }
  }

  /** The open request that a message of these bytes answers, or undefined. */
  answeredBy(bytes: Buffer): OpenRequest | undefined {
    const open = this.#open.get(bytes.readUInt32BE(4));
    if (open?.kind !== 'request' || bytes[1] !== open.replyType || bytes[0] !== open.version) return undefined;
    return subtypeOf(open.version, bytes) === open.subtype ? open : undefined;
  }

  /** Whether these bytes answer a request that was given up before. */
  isLate(bytes: Buffer): boolean {
    const recent = this.#recent.get(bytes.readUInt32BE(4));
    return recent?.expired === true && bytes[1] === replyType(bytes[0] as number, recent.type);
  }

  /** Takes a reply, or a part of one, to the request it answers. */
  answer(request: OpenRequest, reply: OfMessage, bytes: Buffer): void {
    if (!isMultipartReplyType(request.version, request.replyType) || !isMultipartReply(reply)) {
      this.#close(request);
      request.resolve(reply);
      return;
    }
    request.partBytes += bytes.length;
    this.#unfinishedBytes += bytes.length;
    let whole: OfMessage | undefined;
    try {
      whole = this.#parts.push(reply);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.fail(request, error.message);
      return;
    }
    if (whole !== undefined) {
      this.#close(request);
      request.resolve(whole);
    } else if (this.#unfinishedBytes > this.#limits.maxUnfinishedBytes) {
      this.fail(
        request,
        `its parts are more than the ${this.#limits.maxUnfinishedBytes} bytes kept of unfinished replies`,
      );
    }
  }

  /** Ends a request whose reply is of no use. */
  fail(request: OpenRequest, why: string): void {
    this.#close(request);
    this.#keep(expired(request));
    request.reject(new OfConnectionError('badReply', `the reply to ${request.message.cls} cannot be used: ${why}`));
  }

  /**
   * Takes an error to the request or the transaction it belongs to; otherwise answers it, with the message it is about
   * where that is remembered. A quotation that begins like a message of ours outweighs the error's own xid, which some
   * switches take from a counter of theirs. OpenFlow 1.3.5 §7.4.4.
   */
  refuse(error: ErrorMessage): OfRequestError | undefined {
    const quoted = quotedXid(error);
    const about = (quoted === undefined ? undefined : this.#quoted(error.data, quoted)) ?? this.#sent(error.xid);
    const refusal = new OfRequestError(error, about?.message);
    if (about === undefined || !('kind' in about)) return refusal;
    if (about.kind === 'member') {
      about.of.errors.push(refusal);
    } else {
      this.#close(about);
      about.reject(refusal);
    }
    return undefined;
  }

  #sent(xid: number): OpenRequest | Member | Recent | undefined {
    return this.#open.get(xid) ?? this.#recent.get(xid);
  }

  /** What was sent under a quoted xid, if the quotation's header is that message's. */
  #quoted(data: Buffer, xid: number): OpenRequest | Member | Recent | undefined {
    const s = this.#sent(xid);
    const isSame =
      s !== undefined && data[0] === s.message.version && data[1] === s.type && data.readUInt16BE(2) === s.length;
    return isSame ? s : undefined;
  }

  #close(request: OpenRequest): void {
    this.#open.delete(request.xid);
    this.#requests--;
    this.#unfinishedBytes -= request.partBytes;
    this.#parts.forget(request.xid);
    if (request.deadline === undefined) this.#unstamped = this.#unstamped.filter((r) => r !== request);
  }

  /** Ends everything: the connection is down. */
  clear(why: string): void {
    const open = [...this.#open.values()];
    this.#open.clear();
    this.#recent.clear();
    this.#order = [];
    this.#oldest = 0;
    this.#recentBytes = 0;
    this.#unstamped = [];
    this.#soonest = Number.POSITIVE_INFINITY;
    for (const r of open) {
      if (r.kind !== 'request') continue;
      this.#close(r);
      r.reject(new OfConnectionError('down', `${r.message.cls} was not answered: ${why}`));
    }
  }
}

const expired = ({ xid, message, type, length }: Sent): Recent => ({ xid, message, type, length, expired: true });
