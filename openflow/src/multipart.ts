/**
 * Puts the parts of a multipart reply together (OpenFlow 1.3.5 §7.3.5). Pure: it keeps what it was fed and nothing else;
 * who waits how long for the rest is the caller's business.
 */
import { ofproto_v1_3 as ofp } from './constants.ts';
import type { OfMessage } from './messages.ts';

/** Replies whose body is a list, which is what can come in parts. */
export type MultipartReply = Extract<
  OfMessage,
  { flags: number; cls: `O${string}StatsReply` | 'OFPFlowMonitorReply' | 'OFPMultipartReplyUnknown' }
>;

/** Whether a message is a multipart reply. */
export function isMultipartReply(msg: OfMessage): msg is MultipartReply {
  return /^O\w+StatsReply$|^OFPFlowMonitorReply$|^OFPMultipartReplyUnknown$/.test(msg.cls) && 'flags' in msg;
}

export interface MultipartAssemblerOptions {
  /** Most elements of one reply to keep; default 1,000,000. */
  readonly maxElements?: number;
  /** Most replies to keep unfinished at a time; default 256. */
  readonly maxPending?: number;
}

/**
 * Feed it multipart replies; it returns the whole reply once a part without the MORE flag arrives. Parts belong together
 * by xid. Bodies that are lists are joined; of bodies that are one structure the last is kept; raw bodies are joined as bytes.
 * OpenFlow 1.3.5 §7.3.5.
 */
export class MultipartAssembler {
  readonly #maxElements: number;
  readonly #maxPending: number;
  readonly #pending = new Map<number, { cls: string; parts: MultipartReply[]; elements: number }>();

  constructor(options: MultipartAssemblerOptions = {}) {
    this.#maxElements = options.maxElements ?? 1_000_000;
    this.#maxPending = options.maxPending ?? 256;
  }

  /** Xids of replies that miss parts. */
  get pending(): readonly number[] {
    return [...this.#pending.keys()];
  }

  /** Gives up on a reply. */
  forget(xid: number): void {
    this.#pending.delete(xid);
  }

  /**
   * Returns the reply when it is whole, else undefined. The flags of a whole reply have no MORE.
   *
   * @throws RangeError when parts exceed the limits or change their type in mid-reply; that reply is forgotten
   */
  push<M extends MultipartReply>(reply: M): M | undefined {
    const more = (reply.flags & ofp.OFPMPF_REPLY_MORE) !== 0;
    let entry = this.#pending.get(reply.xid);
    if (entry === undefined) {
      if (!more) return reply;
      if (this.#pending.size >= this.#maxPending) throw new RangeError('too many unfinished multipart replies');
      entry = { cls: reply.cls, parts: [], elements: 0 };
      this.#pending.set(reply.xid, entry);
    }
    entry.elements += sizeOf(reply);
    if (entry.cls !== reply.cls || entry.elements > this.#maxElements) {
      this.#pending.delete(reply.xid);
      throw new RangeError(
        entry.cls === reply.cls
          ? `multipart reply ${reply.xid} has more than ${this.#maxElements} elements`
          : `multipart reply ${reply.xid} changed from ${entry.cls} to ${reply.cls}`,
      );
    }
    entry.parts.push(reply);
    if (more) return undefined;
    this.#pending.delete(reply.xid);
    return join(entry.parts) as M;
  }
}

function sizeOf(reply: MultipartReply): number {
  if ('data' in reply) return reply.data.length;
  // An empty part counts too: a peer must not be able to send them for ever.
  return Array.isArray(reply.body) ? Math.max(1, reply.body.length) : 1;
}

function join(parts: readonly MultipartReply[]): MultipartReply {
  const last = parts[parts.length - 1] as MultipartReply;
  if ('data' in last) {
    return { ...last, data: Buffer.concat(parts.map((p) => ('data' in p ? p.data : Buffer.alloc(0)))) };
  }
  if (!Array.isArray(last.body)) return last;
  const body: unknown[] = [];
  for (const p of parts) if ('body' in p && Array.isArray(p.body)) for (const e of p.body) body.push(e);
  return { ...last, body } as MultipartReply;
}
