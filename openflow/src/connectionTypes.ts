/**
 * What a connection (connection.ts) takes and tells: its transport, handler and options with their defaults, the types of
 * requests and their answers, what becomes of transactions and bundles (batches.ts), counters.
 */

import type { OfRequestError } from './connectionErrors.ts';
import type { OfDecodeError } from './errors.ts';
import type { OfMessage } from './messages.ts';
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

/** The options a connection works by, but for the versions. */
export type Settings<V extends Version = Version> = Required<Omit<ConnectionOptions<V>, 'versions' | 'prefer'>>;

/** Options with what is not given filled in. */
export function settingsOf<V extends Version>(options: ConnectionOptions<V>): Settings<V> {
  const role = options.role ?? 'controller';
  return {
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
