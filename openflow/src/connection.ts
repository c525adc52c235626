/**
 * `OfConnection`: one end of an OpenFlow channel as a state machine without sockets, timers or clock. Bytes, time and the
 * transport's readiness come in; bytes go out through a `Transport`, everything else through a `ConnectionHandler` and
 * promises. stream.ts attaches it to a socket; hello.ts decides on versions, requests.ts keeps what is waited for,
 * outbox.ts what waits to be written.
 */
import { decode, encode, VERSIONS } from './codec.ts';
import { OfConnectionError, OfRequestError, refusalText } from './connectionErrors.ts';
import {
  BUNDLE,
  barrierRequest,
  bundleAdd,
  bundleControl,
  echoRequest,
  errorMessage,
  featuresRequest,
  hasBundles,
  hello,
  replyType,
  versionName,
} from './dialect.ts';
import { OfDecodeError, OfEncodeError, type OfErrorCode } from './errors.ts';
import { agree, offer, type PeerHello, readHello } from './hello.ts';
import type { OfMessage } from './messages.ts';
import { Outbox } from './outbox.ts';
import { type Errors, Requests } from './requests.ts';
import { MessageSplitter } from './splitter.ts';
import type { Version } from './wire.ts';

/** What a connection runs over. Its owner tells the connection what comes back: `received`, `drained`, `closed`. */
export interface Transport {
  /** Takes all the bytes. False: please wait for `drained` before the next call. */
  write(bytes: Buffer): boolean;
  /** Ends the transport once what was written is out. Called at most once; `closed` need not be called after it. */
  close(reason: DownReason): void;
  /** There is something to write: call `flush` when this turn of the event loop is over, so that it goes out in one piece. */
  wantsFlush?(): void;
  /** Stop, or start again, to call `received`. */
  setReading?(isReading: boolean): void;
}

/**
 * Why a connection is down. `closed`: the peer or the network ended it. `local`: `close` was called. `notOpenFlow`: its
 * first bytes are no hello. `hello`: its hello is malformed, or did not come in time. `version`: no version in common, or
 * a message of another version than the agreed one. `framing`: a header tells an impossible length. `silent`: nothing was
 * heard for too long. `stalled`: it reads nothing. `overflow`: more was sent than may wait. `features`: a switch did not
 * say what it is.
 */
export type DownCode =
  | 'closed'
  | 'local'
  | 'notOpenFlow'
  | 'hello'
  | 'version'
  | 'framing'
  | 'silent'
  | 'stalled'
  | 'overflow'
  | 'features';
export interface DownReason {
  readonly code: DownCode;
  /** For people: cause, and cure where there is one. */
  readonly message: string;
}

/** What a switch says of itself. OpenFlow 1.3.5 §7.3.1. */
export type Features<V extends Version = Version> = Extract<OfMessage<V>, { cls: 'OFPSwitchFeatures' }>;

/** What a connection tells its owner. Calls come from within the owner's calls of the connection's methods. */
export interface ConnectionHandler<V extends Version = Version> {
  /** The version is agreed, and, unless `askFeatures` is off, the switch has said what it is. At most once. */
  onUp?(up: { readonly version: V; readonly features: Features<V> | undefined }): void;
  /** A message that is no answer to a request of this side. Only between `onUp` and `onDown`. */
  onMessage?(message: OfMessage<V>): void;
  /**
   * The bytes of every message between `onUp` and `onDown`, but hellos and echoes, before anything else is done with it. True:
   * it was dealt with; it is not read again, and if it answers a request, that goes without its answer. For those who have
   * millions of messages of one kind and need a field or two of each. `bytes` is a view of what was received.
   */
  onBytes?(bytes: Buffer): boolean;
  /** The peer refused a message that was sent with `send`; what requests and transactions are refused, they are told. */
  onError?(error: OfRequestError): void;
  /** The peer sent a message that cannot be read; it was told so. `bytes` is the whole message. */
  onBadMessage?(error: OfDecodeError, bytes: Buffer): void;
  /** The last call there is. */
  onDown?(reason: DownReason): void;
}

export interface ConnectionOptions<V extends Version = Version> {
  /** Which end this is. A controller asks for features; a switch stops reading while its answers are not read. Default controller. */
  readonly role?: 'controller' | 'switch';
  /** Versions to offer; default every version this library speaks. */
  readonly versions?: readonly V[];
  /**
   * Versions to prefer to higher ones, best first. Both sides come to the highest version they have in common, so a preference
   * can only be had by listening first and offering nothing else: the hello is held back until the peer's has come, for
   * `preferWaitMs` at most. Default none: offer everything at once.
   */
  readonly prefer?: readonly V[];
  /** What to add for a peer without a version in common: how to change that. Plain ASCII. */
  readonly versionAdvice?: string;
  /** How long to hold the hello back for `prefer`, in ms. Default 1,000. */
  readonly preferWaitMs?: number;
  /** Ask for features before `onUp`. Default: when the role is controller. */
  readonly askFeatures?: boolean;
  /** Time for the peer's hello, in ms. Default 10,000. */
  readonly helloTimeoutMs?: number;
  /** Time for an answer, in ms, where a request does not have its own. Default 10,000. */
  readonly requestTimeoutMs?: number;
  /** An echo request is sent this often, in ms; 0 for never. Default 5,000. OpenFlow 1.3.5 §6.4. */
  readonly echoIntervalMs?: number;
  /** After so many intervals without a byte from the peer the connection is given up. Default 3. */
  readonly echoMissedLimit?: number;
  /** The connection is given up when the transport lets nothing out for so long, in ms. Default 15,000. */
  readonly stallMs?: number;
  /** `send` answers false while more bytes than this wait. Default 1 MiB. */
  readonly highWaterBytes?: number;
  /** More than this may not wait at all: the connection ends. Default 64 MiB. */
  readonly maxQueuedBytes?: number;
  /** Most requests without an answer. Default 65,536. */
  readonly maxRequests?: number;
  /** Most bytes of multipart replies to keep until their last part comes, of all requests together. Default 32 MiB, some 300,000 flows. */
  readonly maxUnfinishedBytes?: number;
  /**
   * How many messages of `send` to remember for their errors, and requests that were given up for their answers, which come to
   * `onMessage` when they are later than that. Default 1,024.
   */
  readonly rememberMessages?: number;
  /** Most bytes of those messages, on the wire. Default 1 MiB. */
  readonly rememberBytes?: number;
  /** Answers per second to messages that cannot be read; there may be twice as many at once. Default 10. */
  readonly errorsPerSecond?: number;
  /** First transaction id. Default 1. */
  readonly firstXid?: number;
}

/** Messages that have an answer. */
export type OfRequest<V extends Version = Version> = Extract<
  OfMessage<V>,
  {
    cls:
      | `${string}Request`
      | 'OFPBundleCtrlMsg'
      | 'ONFBundleCtrlMsg'
      | 'OFPMultipartRequestUnknown'
      | 'OFPExperimenter';
  }
>;
/** The answer to a message of type `M`. */
export type ReplyTo<M> = M extends { cls: infer C extends string; version: infer V extends Version }
  ? Extract<
      OfMessage<V>,
      {
        cls: C extends 'OFPFeaturesRequest'
          ? 'OFPSwitchFeatures'
          : C extends 'OFPMultipartRequestUnknown'
            ? 'OFPMultipartReplyUnknown'
            : C extends `${infer Name}Request`
              ? `${Name}Reply`
              : C;
      }
    >
  : never;

export interface RequestOptions {
  /** Time for the answer in ms, the last part of it where it has parts. */
  readonly timeoutMs?: number;
}

export interface BundleOptions extends RequestOptions {
  /** All or nothing, and for packets too: none sees a part of it. Default true. */
  readonly atomic?: boolean;
  /** Carried out in the order given. Default true. */
  readonly ordered?: boolean;
  /**
   * Commit in the same write, behind a barrier. A message that is refused when it is added is then left out and the others are
   * carried out, as in a transaction; what a switch finds when it commits, a full table for one, still leaves nothing. Default false.
   */
  readonly commitAtOnce?: boolean;
}

/**
 * What became of a transaction or a bundle. `applied`: the switch carried all of it out. `refused`: it refused the messages that
 * `errors` name, and carried the others out in a transaction, nothing in a bundle (but see `commitAtOnce`). `unknown`: the last question was not
 * answered, for the reason in `cause`; read back what holds.
 */
export interface TransactionResult {
  readonly outcome: 'applied' | 'refused' | 'unknown';
  readonly errors: readonly OfRequestError[];
  /** With `unknown`: why. With `refused`: why a bundle did not get as far as its commit. */
  readonly cause?: Error;
}

/** Round trips of echo requests, in ms. */
export interface RoundTrip {
  readonly lastMs: number;
  /** Smoothed as TCP does: an eighth of each new measurement (RFC 6298 §2). */
  readonly smoothedMs: number;
}

/** Counters since the beginning, and what is kept at the moment. */
export interface ConnectionStats {
  receivedMessages: number;
  receivedBytes: number;
  sentMessages: number;
  /** Messages that could not be read. */
  badMessages: number;
  /** Answers to requests that had been given up. */
  lateReplies: number;
  /** Answers to echo requests and to bad messages that were dropped because the peer does not read them. */
  droppedAnswers: number;
  /** Asynchronous messages that came before `onUp`. */
  droppedEarly: number;
  queuedBytes: number;
  openRequests: number;
  rememberedMessages: number;
  unfinishedBytes: number;
}

const TYPE = { hello: 0, error: 1, echoRequest: 2, echoReply: 3 } as const;
/** What an error quotes of the message it is about. OpenFlow 1.3.5 §7.4.4 asks for 64 bytes at least. */
const QUOTE_BYTES = 64;
const BARRIER_BYTES = 8;
/** Of a message that opens or commits a bundle: 24 in ONF's extension, 16 later. */
const CONTROL_BYTES = 24;

type State = 'idle' | 'hello' | 'features' | 'up' | 'down';

export class OfConnection<const V extends Version = Version> {
  readonly #handler: ConnectionHandler<V>;
  readonly #o: Required<Omit<ConnectionOptions<V>, 'versions' | 'prefer'>>;
  readonly #versions: readonly V[];
  readonly #prefer: readonly V[];
  readonly #splitter = new MessageSplitter();
  readonly #requests: Requests;
  readonly #outbox = new Outbox();
  readonly #stats = {
    receivedMessages: 0,
    receivedBytes: 0,
    sentMessages: 0,
    badMessages: 0,
    lateReplies: 0,
    droppedAnswers: 0,
    droppedEarly: 0,
  };
  #transport: Transport | undefined;
  #state: State = 'idle';
  #now = 0;
  /** What this side's hello offered; undefined until it was sent. */
  #offered: { versions: readonly V[]; hasBitmap: boolean } | undefined;
  /** The first bytes of all, until there are eight. */
  #head = Buffer.alloc(0);
  #offerBy = Number.POSITIVE_INFINITY;
  #helloBy = Number.POSITIVE_INFINITY;
  #version: V | undefined;
  #features: Features<V> | undefined;
  #reason: DownReason | undefined;
  #lastHeard = 0;
  #nextEcho = Number.POSITIVE_INFINITY;
  #heardSinceEcho = false;
  #missed = 0;
  #roundTrip: RoundTrip | undefined;
  #blockedSince: number | undefined;
  #isReading = true;
  #nextBundle = 1;
  #tokens: number;
  #tokensAt = 0;
  #writable: { promise: Promise<void>; resolve(): void; reject(error: Error): void } | undefined;
  /** The first exception out of the handler: it is thrown on once the connection's own work is done. */
  #thrown: { error: unknown } | undefined;

  constructor(handler: ConnectionHandler<V>, options: ConnectionOptions<V> = {}) {
    const role = options.role ?? 'controller';
    this.#handler = handler;
    this.#o = {
      role,
      versionAdvice: options.versionAdvice ?? '',
      preferWaitMs: options.preferWaitMs ?? 1000,
      askFeatures: options.askFeatures ?? role === 'controller',
      helloTimeoutMs: options.helloTimeoutMs ?? 10_000,
      requestTimeoutMs: options.requestTimeoutMs ?? 10_000,
      echoIntervalMs: options.echoIntervalMs ?? 5000,
      echoMissedLimit: options.echoMissedLimit ?? 3,
      stallMs: options.stallMs ?? 15_000,
      highWaterBytes: options.highWaterBytes ?? 2 ** 20,
      maxQueuedBytes: options.maxQueuedBytes ?? 64 * 2 ** 20,
      maxRequests: options.maxRequests ?? 65_536,
      maxUnfinishedBytes: options.maxUnfinishedBytes ?? 32 * 2 ** 20,
      rememberMessages: options.rememberMessages ?? 1024,
      rememberBytes: options.rememberBytes ?? 2 ** 20,
      errorsPerSecond: options.errorsPerSecond ?? 10,
      firstXid: options.firstXid ?? 1,
    };
    const versions = options.versions ?? (VERSIONS as readonly V[]);
    for (const v of versions) {
      if (!VERSIONS.includes(v))
        throw new RangeError(`${versionName(v)} is not spoken here: ${VERSIONS.map(versionName).join(', ')} are`);
    }
    if (versions.length === 0) throw new RangeError('versions: there must be one to offer');
    this.#versions = versions;
    this.#prefer = options.prefer ?? [];
    this.#requests = new Requests(this.#o);
    this.#tokens = 2 * this.#o.errorsPerSecond;
  }

  // ---- what there is to know ---------------------------------------------------------------------------------------

  get isUp(): boolean {
    return this.#state === 'up';
  }
  /** The agreed version. */
  get version(): V | undefined {
    return this.#version;
  }
  get features(): Features<V> | undefined {
    return this.#features;
  }
  /** Why it is down, once it is. */
  get downReason(): DownReason | undefined {
    return this.#reason;
  }
  get roundTrip(): RoundTrip | undefined {
    return this.#roundTrip;
  }
  /** When something last came from the peer, in the owner's time. */
  get lastHeardMs(): number {
    return this.#lastHeard;
  }
  get stats(): ConnectionStats {
    return {
      ...this.#stats,
      queuedBytes: this.#outbox.bytes,
      openRequests: this.#requests.open,
      rememberedMessages: this.#requests.remembered,
      unfinishedBytes: this.#requests.unfinishedBytes,
    };
  }

  // ---- inputs ------------------------------------------------------------------------------------------------------

  /** Begins: says hello over `transport`. `now` here and elsewhere is in ms and never goes back; its origin does not matter. */
  open(transport: Transport, now: number): void {
    if (this.#state !== 'idle') throw new Error('a connection can be opened once only');
    this.#transport = transport;
    this.#state = 'hello';
    this.#now = now;
    this.#lastHeard = now;
    this.#tokensAt = now;
    this.#helloBy = now + this.#o.helloTimeoutMs;
    if (this.#prefer.length === 0) this.#sayHello(this.#versions);
    else this.#offerBy = now + this.#o.preferWaitMs;
    this.flush(now);
  }

  /**
   * Bytes from the peer, in any portions. Byte fields of the messages that come of it are views of `chunk`.
   *
   * @throws what a handler threw, once all of the chunk was dealt with
   */
  received(chunk: Uint8Array, now: number): void {
    if (this.#transport === undefined || this.#state === 'down') return;
    this.#advance(now);
    this.#lastHeard = this.#now;
    this.#heardSinceEcho = true;
    this.#stats.receivedBytes += chunk.length;
    if (this.#state === 'hello') this.#lookAtHead(chunk);
    let messages: readonly Buffer[];
    let broken: OfDecodeError | undefined;
    try {
      messages = this.#splitter.push(chunk);
    } catch (error) {
      if (!(error instanceof OfDecodeError)) throw error;
      broken = error;
      messages = error.preceding;
    }
    for (const bytes of messages) {
      if (this.#isDown) break;
      this.#one(bytes);
    }
    if (broken !== undefined)
      this.#down('framing', `the peer's messages cannot be told apart any more: ${broken.message}`);
    this.#write(true);
    this.#rethrow();
  }

  /** The transport takes more. */
  drained(now: number): void {
    this.#outbox.blocked = false;
    this.#blockedSince = undefined;
    this.flush(now);
  }

  /** The transport is gone; `error` says why, where it is known. */
  closed(error?: Error): void {
    this.#transport = undefined;
    this.#down('closed', error === undefined ? 'the peer closed the connection' : error.message);
    this.#rethrow();
  }

  /** Time has passed: to be called at `nextDeadline`; earlier or later calls do no harm. */
  tick(now: number): void {
    if (this.#transport === undefined || this.#isDown) return;
    this.#advance(now);
    const t = this.#now;
    if (t >= this.#offerBy) this.#sayHello(this.#versions);
    if (t >= this.#helloBy) {
      this.#down('hello', `no hello came within ${this.#o.helloTimeoutMs} ms`);
    } else if (this.#blockedSince !== undefined && t - this.#blockedSince >= this.#o.stallMs) {
      const waiting = `${this.#outbox.bytes} bytes wait`;
      this.#down('stalled', `the peer read nothing for ${Math.round(t - this.#blockedSince)} ms; ${waiting}`);
    } else {
      this.#requests.expire(t);
      if (t >= this.#nextEcho) this.#keepAlive();
    }
    this.#write();
    this.#rethrow();
  }

  /** Writes what waits: to be called once a turn of the event loop after `wantsFlush`. */
  flush(now: number): void {
    this.#advance(now);
    this.#write();
    this.#rethrow();
  }

  /** When to call `tick`, in the owner's time; undefined when there is nothing to wait for. */
  nextDeadline(): number | undefined {
    const stalledAt =
      this.#blockedSince === undefined ? Number.POSITIVE_INFINITY : this.#blockedSince + this.#o.stallMs;
    const t = Math.min(this.#helloBy, this.#offerBy, this.#nextEcho, this.#requests.soonest, stalledAt);
    return t === Number.POSITIVE_INFINITY || this.#isDown ? undefined : t;
  }

  // ---- output ------------------------------------------------------------------------------------------------------

  /**
   * Sends a message. Its xid is a fresh one, or `xid`, which is for replies: they have their request's.
   *
   * @returns false when the caller should wait for `whenWritable` before going on, and when the connection is down
   * @throws OfEncodeError when it cannot be written or is of another version than the agreed one, OfConnectionError
   * `notUp` before a version is agreed
   */
  send(message: OfMessage<V>, xid?: number): boolean {
    if (this.#isDown) return false;
    const m = widen(message);
    if (this.#version === undefined) throw this.#notUp(m);
    const bytes = this.#encode(m, xid ?? this.#requests.allocate());
    this.#requests.remember(m, bytes);
    return this.#post(bytes);
  }

  /**
   * Sends what is already encoded: one message or several, whole, of the agreed version. Their transaction ids are the
   * caller's; 0 is none of this connection's, so that errors come to `onError` without the message they are about.
   *
   * @returns as `send`
   * @throws OfConnectionError `notUp` before a version is agreed
   */
  sendBytes(bytes: Buffer): boolean {
    if (this.#isDown) return false;
    if (this.#version === undefined) throw this.#notUp();
    return this.#post(bytes);
  }

  /**
   * Sends a request and resolves with its answer, a multipart reply with all its parts.
   *
   * @throws (rejects with) OfRequestError when the peer answers with an error, OfConnectionError when no answer is had, OfEncodeError
   */
  async request<M extends OfRequest<V>>(message: M, options: RequestOptions = {}): Promise<ReplyTo<M>> {
    return (await this.#ask(message, options.timeoutMs)) as ReplyTo<M>;
  }

  /** Resolves when the peer has carried out everything that was sent before. OpenFlow 1.3.5 §7.3.8. Rejects like `request`. */
  async barrier(options: RequestOptions = {}): Promise<void> {
    if (this.#version === undefined) throw this.#notUp();
    await this.#ask(barrierRequest(this.#version), options.timeoutMs);
  }

  /**
   * Sends messages and a barrier, and resolves with what became of them once the barrier is answered or cannot be any more. The
   * messages are not undone when one of them is refused.
   *
   * @throws (rejects with) OfEncodeError, or OfConnectionError `notUp` or `tooMany`; nothing was sent then
   */
  async transaction(messages: readonly OfMessage<V>[], options: RequestOptions = {}): Promise<TransactionResult> {
    if (this.#version === undefined || this.#isDown) throw this.#notUp();
    const batch = this.#prepare(messages.map(widen));
    this.#makeSure(batch.bytes + BARRIER_BYTES);
    batch.post();
    try {
      await this.barrier(options);
      batch.end(false);
      return { outcome: batch.errors.length > 0 ? 'refused' : 'applied', errors: batch.errors };
    } catch (error) {
      batch.end(true);
      return { outcome: 'unknown', errors: batch.errors, cause: error as Error };
    }
  }

  /**
   * Carries messages out as one: opens a bundle and adds them in one write, and commits it when all were accepted, which
   * takes two round trips, or one with `commitAtOnce`. 1.3 has bundles by ONF's extension. In `errors`, the request is the
   * message that added the refused one; a bundle that cannot be opened has the error of that alone. OpenFlow 1.4.1 §7.3.9.
   *
   * @throws (rejects with) OfEncodeError, also where the version has no bundles, or OfConnectionError `notUp` or `tooMany`;
   * nothing was sent then
   */
  async bundle(messages: readonly OfMessage<V>[], options: BundleOptions = {}): Promise<TransactionResult> {
    const version = this.#version;
    if (version === undefined || this.#isDown) throw this.#notUp();
    if (!hasBundles(version))
      throw new OfEncodeError('OFPBundleCtrlMsg', 'version', `${versionName(version)} has no bundles`);
    const id = this.#nextBundle;
    this.#nextBundle = (this.#nextBundle % 0xffff_ffff) + 1;
    const flags = (options.atomic === false ? 0 : 1) | (options.ordered === false ? 0 : 2);
    const control = (type: number) => this.#ask(bundleControl(version, id, type, flags), options.timeoutMs);
    const batch = this.#prepare(messages.map((m) => bundleAdd(version, id, flags, widen(m))));
    const { errors } = batch;
    this.#makeSure(2 * CONTROL_BYTES + batch.bytes + BARRIER_BYTES);
    // a bundle that is never committed does nothing: whether it is discarded is of no account, so nobody waits for that
    const discard = () => void control(BUNDLE.discard).catch(() => {});
    // Before a commit is answered, so is what was sent before it: a refusal to open comes here first.
    let closed: Error | undefined;
    let isCommitted = false;
    try {
      const opened = control(BUNDLE.open).catch((error: Error) => {
        closed = error;
      });
      batch.post();
      const added = this.barrier(options);
      if (options.commitAtOnce === true) added.catch(() => {});
      else {
        await added;
        await opened;
        if (closed !== undefined) throw closed;
        if (errors.length > 0) {
          discard();
          return { outcome: 'refused', errors };
        }
      }
      isCommitted = true;
      await control(BUNDLE.commit);
      if (closed !== undefined) throw closed;
      return { outcome: errors.length > 0 ? 'refused' : 'applied', errors };
    } catch (error) {
      if (!isCommitted) discard();
      // What was added was refused for want of a bundle, and its errors say nothing of it.
      if (closed instanceof OfRequestError) return { outcome: 'refused', errors: [closed] };
      if (error instanceof OfRequestError) return { outcome: 'refused', errors: [...errors, error] };
      const isUnknown = isCommitted && error instanceof OfConnectionError && error.outcomeUnknown;
      return { outcome: isUnknown ? 'unknown' : 'refused', errors, cause: error as Error };
    } finally {
      batch.end(isCommitted);
    }
  }

  /**
   * Answers a message of the peer's with an error that quotes its beginning.
   *
   * @returns as `send`
   */
  refuse(message: OfMessage<V>, error: OfErrorCode): boolean {
    if (this.#isDown) return false;
    if (this.#version === undefined) throw this.#notUp();
    const m = widen(message);
    const quoted = encode(m, m.xid).subarray(0, QUOTE_BYTES);
    return this.#post(encode(errorMessage(this.#version, error.type, error.code, quoted), m.xid));
  }

  /** Resolves when `send` may go on. Rejects with OfConnectionError `down` when that will not be. */
  whenWritable(): Promise<void> {
    if (this.#isDown) return Promise.reject(this.#notUp());
    if (this.#outbox.bytes <= this.#o.highWaterBytes) return Promise.resolve();
    if (this.#writable === undefined) {
      let resolve: () => void = () => {};
      let reject: (error: Error) => void = () => {};
      const promise = new Promise<void>((yes, no) => {
        resolve = yes;
        reject = no;
      });
      this.#writable = { promise, resolve, reject };
    }
    return this.#writable.promise;
  }

  /** Ends the connection. What waits is written as far as the transport takes it. */
  close(why = 'it was closed here'): void {
    this.#down('local', why);
    this.#rethrow();
  }

  // ---- within ------------------------------------------------------------------------------------------------------

  get #isDown(): boolean {
    return this.#state === 'down';
  }

  #notUp(message?: OfMessage): OfConnectionError {
    const what = message === undefined ? 'nothing' : `no ${message.cls}`;
    const why = this.#reason === undefined ? 'no version is agreed yet' : this.#reason.message;
    return new OfConnectionError('notUp', `${what} can be sent: ${why}`);
  }

  #advance(now: number): void {
    this.#now = Math.max(this.#now, now);
    this.#requests.stamp(this.#now);
  }

  #encode(message: OfMessage, xid: number): Buffer {
    if (message.version !== this.#version) {
      const spoken = versionName(this.#version ?? 0);
      throw new OfEncodeError(
        message.cls,
        'version',
        `a message of ${versionName(message.version)} where ${spoken} was agreed`,
      );
    }
    return encode(message, xid);
  }

  /** @throws OfConnectionError `tooMany` when there is no room for another request of so many bytes */
  #makeSure(bytes: number): void {
    const { open, hasRoom } = this.#requests;
    if (!hasRoom) throw new OfConnectionError('tooMany', `${open} requests are open, and no more may`);
    const waiting = this.#outbox.bytes;
    if (waiting + bytes > this.#o.maxQueuedBytes)
      throw new OfConnectionError('tooMany', `${waiting} bytes wait, and ${bytes} more are too many`);
  }

  /** Writes messages down, to be posted together; their errors are collected until the end. */
  #prepare(messages: readonly OfMessage[]): {
    readonly bytes: number;
    readonly errors: readonly OfRequestError[];
    post(): void;
    end(mayComeLate: boolean): void;
  } {
    const encoded = messages.map((m) => this.#encode(m, this.#requests.allocate()));
    const collector: Errors = { errors: [] };
    return {
      bytes: encoded.reduce((sum, b) => sum + b.length, 0),
      errors: collector.errors,
      post: () => {
        encoded.forEach((bytes, i) => {
          this.#requests.addMember(messages[i] as OfMessage, bytes, collector);
          this.#post(bytes);
        });
      },
      end: (mayComeLate) =>
        this.#requests.endMembers(
          encoded.map((b) => b.readUInt32BE(4)),
          mayComeLate,
        ),
    };
  }

  async #ask(message: OfMessage, timeoutMs = this.#o.requestTimeoutMs): Promise<OfMessage> {
    if (this.#isDown || this.#version === undefined) throw this.#notUp(message);
    const bytes = this.#encode(message, this.#requests.allocate());
    if (replyType(this.#version, bytes[1] as number) === undefined)
      throw new OfEncodeError(message.cls, 'cls', 'nothing answers it: use send');
    this.#makeSure(bytes.length);
    return new Promise((resolve, reject) => {
      this.#requests.add(message, bytes, timeoutMs, resolve, reject);
      this.#post(bytes);
    });
  }

  /** Queues a message; false when the caller should wait. */
  #post(bytes: Buffer): boolean {
    this.#stats.sentMessages++;
    this.#outbox.push(bytes);
    if (this.#outbox.bytes > this.#o.maxQueuedBytes) {
      this.#down('overflow', `${this.#outbox.bytes} bytes wait for a peer that does not read`);
      this.#rethrow();
      return false;
    }
    this.#transport?.wantsFlush?.();
    return this.#outbox.bytes <= this.#o.highWaterBytes;
  }

  /** Queues an answer that must not wait behind others. */
  #postUrgent(bytes: Buffer): void {
    if (this.#outbox.pushUrgent(bytes)) this.#stats.sentMessages++;
    else this.#stats.droppedAnswers++;
  }

  #write(urgentOnly = false): void {
    const transport = this.#transport;
    if (transport === undefined) return;
    if (this.#outbox.bytes > 0) this.#outbox.flush((bytes) => transport.write(bytes), urgentOnly);
    if (this.#isDown) return;
    if (this.#outbox.blocked) this.#blockedSince ??= this.#now;
    if (this.#outbox.bytes <= this.#o.highWaterBytes / 2) {
      this.#writable?.resolve();
      this.#writable = undefined;
    }
    this.#throttle();
  }

  /** A switch reads no more requests while the answers to earlier ones are not taken; a controller always reads, so neither waits for ever. */
  #throttle(): void {
    if (this.#o.role !== 'switch') return;
    const { blocked, bytes } = this.#outbox;
    const isReading = !blocked || bytes <= this.#o.highWaterBytes / (this.#isReading ? 1 : 2);
    if (isReading === this.#isReading) return;
    this.#isReading = isReading;
    this.#lastHeard = this.#now;
    this.#transport?.setReading?.(isReading);
  }

  /** Whether the owner takes the bytes as they are. */
  #isTaken(bytes: Buffer): boolean {
    try {
      return this.#handler.onBytes?.(bytes) === true;
    } catch (error) {
      this.#thrown ??= { error };
      return true;
    }
  }

  #tell(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#thrown ??= { error };
    }
  }

  #rethrow(): void {
    const thrown = this.#thrown;
    this.#thrown = undefined;
    if (thrown !== undefined) throw thrown.error;
  }

  #down(code: DownCode, message: string): void {
    if (this.#isDown) return;
    const reason: DownReason = { code, message };
    const transport = this.#transport;
    this.#reason = reason;
    this.#state = 'down';
    this.#write();
    this.#transport = undefined;
    this.#outbox.clear();
    this.#requests.clear(message);
    this.#writable?.reject(new OfConnectionError('down', message));
    this.#writable = undefined;
    transport?.close(reason);
    this.#tell(() => this.#handler.onDown?.(reason));
  }

  // ---- hello -------------------------------------------------------------------------------------------------------

  #sayHello(versions: readonly V[]): void {
    const { message, hasBitmap } = hello(versions);
    this.#offered = { versions, hasBitmap };
    this.#offerBy = Number.POSITIVE_INFINITY;
    this.#post(encode(message, this.#requests.allocate()));
  }

  /** Whoever speaks HTTP or TLS, or OpenFlow behind some other header, promises a length and never keeps it: tell it at once. */
  #lookAtHead(chunk: Uint8Array): void {
    if (this.#head.length < 8) this.#head = Buffer.concat([this.#head, chunk.subarray(0, 8 - this.#head.length)]);
    if ((this.#head[1] ?? 0) > TYPE.error) this.#notOpenFlow(this.#head);
  }

  #notOpenFlow(bytes: Uint8Array): void {
    const head = Buffer.from(bytes.subarray(0, 8));
    const isTls = head[0] === 0x16 && head[1] === 3;
    const guess = isTls ? ' (this is TLS: connect without it, or put a TLS socket in between)' : '';
    this.#down(
      'notOpenFlow',
      `the peer does not begin with a hello but with the bytes ${head.toString('hex')}${guess}`,
    );
  }

  #hello(bytes: Buffer): void {
    const peer = readHello(bytes);
    if (typeof peer === 'string') {
      this.#helloFailed(bytes[0] as number, peer);
      this.#down('hello', peer);
      return;
    }
    if (this.#offered === undefined) this.#sayHello(offer(this.#versions, this.#prefer, peer));
    const { versions, hasBitmap } = this.#offered ?? { versions: [], hasBitmap: false };
    const version = agree(versions, hasBitmap, peer);
    if (version === undefined) {
      const said = describePeer(peer);
      const advice = this.#o.versionAdvice === '' ? '' : `; ${this.#o.versionAdvice}`;
      const text = `no version in common: ${said} where ${versions.map(versionName).join(', ')} are spoken${advice}`;
      this.#helloFailed(peer.version, text);
      this.#down('version', text);
      return;
    }
    this.#version = version;
    this.#helloBy = Number.POSITIVE_INFINITY;
    if (this.#o.echoIntervalMs > 0) {
      this.#nextEcho = this.#now + this.#o.echoIntervalMs;
      this.#heardSinceEcho = false;
    }
    if (!this.#o.askFeatures) {
      this.#up();
      return;
    }
    this.#state = 'features';
    this.#askFeatures(version);
  }

  #askFeatures(version: V): void {
    const message = featuresRequest(version);
    const bytes = encode(message, this.#requests.allocate());
    // Not `request`: what follows must happen within this very call, before the next message is looked at.
    const refused = (error: Error) => {
      if (!this.#isDown) this.#down('features', `the switch did not say what it is: ${error.message}`);
    };
    const answered = (reply: OfMessage) => {
      this.#features = reply as Features<V>;
      this.#up();
    };
    this.#requests.add(message, bytes, this.#o.requestTimeoutMs, answered, refused);
    this.#post(bytes);
  }

  #up(): void {
    this.#state = 'up';
    const up = { version: this.#version as V, features: this.#features };
    this.#tell(() => this.#handler.onUp?.(up));
  }

  /** Tells the peer why there is no agreement, in the best version it may understand. OpenFlow 1.3.5 §6.3.1. */
  #helloFailed(peerVersion: number, text: string): void {
    const [lowest] = VERSIONS;
    const version = VERSIONS.findLast((v) => v <= peerVersion) ?? (lowest as Version);
    const incompatible = errorMessage(version, 0, 0, Buffer.from(text));
    this.#post(encode(incompatible, this.#requests.allocate()));
  }

  // ---- messages ----------------------------------------------------------------------------------------------------

  #one(bytes: Buffer): void {
    this.#stats.receivedMessages++;
    const version = bytes[0] as number;
    const type = bytes[1] as number;
    if (this.#state === 'hello') {
      this.#first(bytes, type);
      return;
    }
    if (type === TYPE.echoRequest) {
      // The same bytes with another type: whatever the version and however busy this side is.
      const reply = Buffer.from(bytes);
      reply[1] = TYPE.echoReply;
      this.#postUrgent(reply);
      return;
    }
    if (type === TYPE.hello) return;
    if (version !== this.#version && type > TYPE.echoReply) {
      const text = `the peer sent a message of ${versionName(version)} where ${versionName(this.#version ?? 0)} was agreed`;
      this.#answerBad(bytes, { type: 1, code: 0 });
      this.#down('version', text);
      return;
    }
    this.#dispatch(bytes, type);
  }

  /** What comes before a version is agreed: a hello, or an error that says why there will be none. */
  #first(bytes: Buffer, type: number): void {
    if (type === TYPE.hello) {
      this.#hello(bytes);
      return;
    }
    if (type !== TYPE.error) {
      this.#notOpenFlow(bytes);
      return;
    }
    let why = 'an error that cannot be read';
    try {
      const error = decode(bytes);
      if (error.cls === 'OFPErrorMsg') why = refusalText(error);
    } catch (error) {
      if (!(error instanceof OfDecodeError)) throw error;
    }
    this.#down('version', `the peer answered the hello with ${why}`);
  }

  #dispatch(bytes: Buffer, type: number): void {
    if (this.#state === 'up' && type > TYPE.echoReply && this.#isTaken(bytes)) return;
    const request = this.#requests.answeredBy(bytes);
    let message: OfMessage;
    try {
      message = decode(bytes);
    } catch (error) {
      if (!(error instanceof OfDecodeError)) throw error;
      this.#stats.badMessages++;
      if (request !== undefined) this.#requests.fail(request, error.message);
      // An answer to an error, or to the answer to one of ours, could go to and fro for ever.
      else if (type !== TYPE.error && type !== TYPE.echoReply) this.#answerBad(bytes, error.ofError);
      if (!this.#isDown) this.#tell(() => this.#handler.onBadMessage?.(error, bytes));
      return;
    }
    if (request !== undefined) {
      this.#requests.answer(request, message, bytes);
    } else if (message.cls === 'OFPErrorMsg') {
      this.#error(message);
    } else if (this.#requests.isLate(bytes)) {
      this.#stats.lateReplies++;
    } else if (type === TYPE.echoReply) {
      return;
    } else if (this.#state === 'up') {
      this.#tell(() => this.#handler.onMessage?.(message as OfMessage<V>));
    } else {
      this.#stats.droppedEarly++;
    }
  }

  #error(message: Extract<OfMessage, { cls: 'OFPErrorMsg' }>): void {
    // A peer that comes to another version than this side says so when this side already thinks all is well.
    if (message.type === 0) {
      this.#down('version', `the peer answered the hello with ${refusalText(message)}`);
      return;
    }
    const stray = this.#requests.refuse(message);
    if (stray !== undefined && !this.#isDown) this.#tell(() => this.#handler.onError?.(stray));
  }

  /** Tells the peer what was wrong with its message, unless it has been told so often already that it does not listen. */
  #answerBad(bytes: Buffer, error: OfErrorCode): void {
    const { errorsPerSecond } = this.#o;
    const earned = ((this.#now - this.#tokensAt) * errorsPerSecond) / 1000;
    this.#tokens = Math.min(2 * errorsPerSecond, this.#tokens + earned);
    this.#tokensAt = this.#now;
    if (this.#tokens < 1) return;
    this.#tokens--;
    const quoted = bytes.subarray(0, QUOTE_BYTES);
    this.#postUrgent(encode(errorMessage(this.#version as V, error.type, error.code, quoted), bytes.readUInt32BE(4)));
  }

  // ---- keepalive ---------------------------------------------------------------------------------------------------

  #keepAlive(): void {
    // While this side does not read, silence says nothing: a peer that takes no answers is found by `stallMs`.
    this.#missed = this.#heardSinceEcho || !this.#isReading ? 0 : this.#missed + 1;
    if (this.#missed >= this.#o.echoMissedLimit) {
      this.#down('silent', `nothing came from the peer for ${Math.round(this.#now - this.#lastHeard)} ms`);
      return;
    }
    const at = this.#now;
    this.#heardSinceEcho = false;
    this.#nextEcho = at + this.#o.echoIntervalMs;
    const message = echoRequest(this.#version as V);
    const bytes = encode(message, this.#requests.allocate());
    const timeoutMs = this.#o.echoIntervalMs * this.#o.echoMissedLimit;
    this.#requests.add(
      message,
      bytes,
      timeoutMs,
      () => this.#measured(this.#now - at),
      () => {},
    );
    this.#requests.stamp(at);
    this.#postUrgent(bytes);
  }

  #measured(ms: number): void {
    const before = this.#roundTrip?.smoothedMs;
    this.#roundTrip = { lastMs: ms, smoothedMs: before === undefined ? ms : before + (ms - before) / 8 };
  }
}

/** A message of one version is a message of any; the compiler cannot see that while the version is a type variable. */
const widen = (message: unknown): OfMessage => message as OfMessage;

function describePeer(peer: PeerHello): string {
  if (peer.bitmap === undefined) return `the peer offers ${versionName(peer.version)} and lower`;
  return peer.bitmap.length === 0
    ? 'the peer offers nothing'
    : `the peer offers ${peer.bitmap.map(versionName).join(', ')}`;
}
