/**
 * `OfConnection`: one end of an OpenFlow channel as a state machine without sockets, timers or clock. Bytes, time and the
 * transport's readiness come in; bytes go out through a `Transport`, everything else through a `ConnectionHandler` and
 * promises. connectionTypes.ts says what it takes and tells. stream.ts attaches it to a socket; handshake.ts comes to a
 * version, requests.ts keeps what is waited for, outbox.ts what waits to be written, batches.ts sends messages together.
 */
import { type Batch, Batches } from './batches.ts';
import { decode, encode, VERSIONS } from './codec.ts';
import { OfConnectionError, refusalText } from './connectionErrors.ts';
import {
  type BundleOptions,
  type ConnectionHandler,
  type ConnectionOptions,
  type ConnectionStats,
  type DownCode,
  type DownReason,
  type Features,
  type OfRequest,
  type ReplyTo,
  type RequestOptions,
  type RoundTrip,
  type Settings,
  settingsOf,
  type TransactionResult,
  type Transport,
} from './connectionTypes.ts';
import { barrierRequest, echoRequest, errorMessage, featuresRequest, replyType, TYPE, versionName } from './dialect.ts';
import { OfDecodeError, OfEncodeError, type OfErrorCode } from './errors.ts';
import { Handshake } from './handshake.ts';
import type { OfMessage } from './messages.ts';
import { Outbox } from './outbox.ts';
import { type Errors, Requests } from './requests.ts';
import { MessageSplitter } from './splitter.ts';
import type { Version } from './wire.ts';

/** What an error quotes of the message it is about. OpenFlow 1.3.5 §7.4.4 asks for 64 bytes at least. */
const QUOTE_BYTES = 64;

type State = 'idle' | 'hello' | 'features' | 'up' | 'down';

export class OfConnection<const V extends Version = Version> {
  readonly #handler: ConnectionHandler<V>;
  readonly #o: Settings<V>;
  readonly #handshake: Handshake<V>;
  readonly #splitter = new MessageSplitter();
  readonly #requests: Requests;
  readonly #outbox = new Outbox();
  readonly #batches: Batches;
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
  #tokens: number;
  #tokensAt = 0;
  #writable: { promise: Promise<void>; resolve(): void; reject(error: Error): void } | undefined;
  /** The first exception out of the handler: it is thrown on once the connection's own work is done. */
  #thrown: { error: unknown } | undefined;

  constructor(handler: ConnectionHandler<V>, options: ConnectionOptions<V> = {}) {
    this.#handler = handler;
    this.#o = settingsOf(options);
    const versions = options.versions ?? (VERSIONS as readonly V[]);
    for (const v of versions) {
      if (!VERSIONS.includes(v))
        throw new RangeError(`${versionName(v)} is not spoken here: ${VERSIONS.map(versionName).join(', ')} are`);
    }
    if (versions.length === 0) throw new RangeError('versions: there must be one to offer');
    this.#handshake = new Handshake(versions, options.prefer ?? [], this.#o, {
      send: (message) => this.#post(encode(message, this.#requests.allocate())),
      agreed: (version) => this.#agreed(version),
      down: (code, message) => this.#down(code, message),
    });
    this.#requests = new Requests(this.#o);
    this.#batches = new Batches({
      version: () => {
        if (this.#version === undefined || this.#isDown) throw this.#notUp();
        return this.#version;
      },
      prepare: (messages) => this.#prepare(messages),
      makeSure: (bytes) => this.#makeSure(bytes),
      ask: (message, timeoutMs) => this.#ask(message, timeoutMs),
      barrier: (o) => this.barrier(o),
    });
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
    this.#handshake.begin(now);
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
    if (this.#state === 'hello') this.#handshake.lookAtHead(chunk);
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
    if (this.#handshake.tick(t)) {
      const stalledMs = this.#blockedSince === undefined ? 0 : t - this.#blockedSince;
      if (this.#blockedSince !== undefined && stalledMs >= this.#o.stallMs) {
        const waiting = `${this.#outbox.bytes} bytes wait`;
        this.#down('stalled', `the peer read nothing for ${Math.round(stalledMs)} ms; ${waiting}`);
      } else {
        this.#requests.expire(t);
        if (t >= this.#nextEcho) this.#keepAlive();
      }
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
    const t = Math.min(this.#handshake.deadline, this.#nextEcho, this.#requests.soonest, stalledAt);
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
  transaction(messages: readonly OfMessage<V>[], options: RequestOptions = {}): Promise<TransactionResult> {
    return this.#batches.transaction(messages as unknown as readonly OfMessage[], options);
  }

  /**
   * Carries messages out as one: opens a bundle and adds them in one write, and commits it when all were accepted, which
   * takes two round trips, or one with `commitAtOnce`. 1.3 has bundles by ONF's extension. In `errors`, the request is the
   * message that added the refused one; a bundle that cannot be opened has the error of that alone. OpenFlow 1.4.1 §7.3.9.
   *
   * @throws (rejects with) OfEncodeError, also where the version has no bundles, or OfConnectionError `notUp` or `tooMany`;
   * nothing was sent then
   */
  bundle(messages: readonly OfMessage<V>[], options: BundleOptions = {}): Promise<TransactionResult> {
    return this.#batches.bundle(messages as unknown as readonly OfMessage[], options);
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
  #prepare(messages: readonly OfMessage[]): Batch {
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

  // ---- coming up ---------------------------------------------------------------------------------------------------

  #agreed(version: V): void {
    this.#version = version;
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

  // ---- messages ----------------------------------------------------------------------------------------------------

  #one(bytes: Buffer): void {
    this.#stats.receivedMessages++;
    const version = bytes[0] as number;
    const type = bytes[1] as number;
    if (this.#state === 'hello') {
      this.#handshake.received(bytes);
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
