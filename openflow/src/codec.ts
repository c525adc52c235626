/**
 * encode and decode: dispatch from a class name or a header to the functions compile.ts generated from messages.ts, for
 * each version its own. json.ts and factories.ts share the compiled tables.
 */
import { type Compiled, classNames, compile, type Decode, type Encode, type Nested } from './compile.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfDecodeError, OfEncodeError } from './errors.ts';
import { holds, messageType } from './layout.ts';
import { MESSAGES, type OfMessage } from './messages.ts';
import type { AnyStruct } from './schema.ts';
import { describe, fail, newReader, type Reader, type Version, Writer } from './wire.ts';

/** Versions this library speaks, by their numbers on the wire: OpenFlow 1.0, 1.2, 1.3, 1.4 and 1.5. */
export const VERSIONS: readonly Version[] = [1, 3, 4, 5, 6];

/** Decoders of experimenters' messages, by experimenter and its own type. */
type Experimenters = Map<number, Map<number | undefined, Decode>>;

/** What one version needs to find its functions. */
interface Dispatch {
  readonly compiled: Compiled;
  /** Encoders of messages, by class. */
  readonly encoders: ReadonlyMap<string, Encode>;
  /** Classes that may carry another version. */
  readonly symmetric: ReadonlySet<string>;
  readonly byType: readonly (Decode | undefined)[];
  readonly experimenters: Experimenters;
  readonly unknown: Decode;
  /** Message types of multipart requests and replies (1.0 calls them statistics), and the length of their header. */
  readonly requestType: number;
  readonly replyType: number;
  readonly multipartHeader: number;
  readonly requests: ReadonlyMap<number, Decode>;
  readonly replies: ReadonlyMap<number, Decode>;
  readonly experimenterRequests: Experimenters;
  readonly experimenterReplies: Experimenters;
  readonly unknownRequest: Decode;
  readonly unknownReply: Decode;
}

/** Messages inside messages inside …: more than a bundle in a request that is forwarded makes no sense. */
const MAX_NESTING = 3;

/** Messages of `version` inside others. What a message holds has its own version. */
function nestedOf(version: Version): Nested {
  return {
    encode(message, w, outer, cls, field) {
      const m = message as { cls?: string; version?: number; xid?: number } | null | undefined;
      const enc = dispatches[version]?.encoders.get(m?.cls as string);
      if (enc === undefined || m?.version !== version) {
        throw new OfEncodeError(cls, field, `no message of version ${version}: ${describe(m?.cls ?? m)}`);
      }
      if (w.depth === MAX_NESTING) throw new OfEncodeError(cls, field, 'too many messages inside messages');
      const from = w.p - w.start;
      w.depth++;
      enc(m, w);
      w.depth--;
      if (w.xid !== undefined && outer !== undefined && m.xid === outer) w.dv.setUint32(w.start + from + 4, w.xid);
    },
    decode(r, p, end) {
      if (end - p < 8) fail(r, p, 'message inside the message cut short', BAD_LEN.type, BAD_LEN.code);
      const length = r.dv.getUint16(p + 2);
      if (length < 8 || length > end - p || r.depth === MAX_NESTING) {
        const what =
          r.depth === MAX_NESTING ? 'too many messages inside messages' : `inner message of length ${length}`;
        fail(r, p + 2, what, BAD_LEN.type, BAD_LEN.code);
      }
      if (r.dv.getUint8(p) !== version) {
        fail(r, p, 'another version inside the message', ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_VERSION);
      }
      r.depth++;
      const message = decoderFor(r, dispatches[version] as Dispatch, r.dv.getUint8(p + 1), p, length)(r, p, p + length);
      r.depth--;
      r.q = p + length;
      return message;
    },
  };
}

function dispatchOf(version: Version): Dispatch {
  const compiled = compile(MESSAGES, version, nestedOf(version));
  const decoder = (cls: string) => compiled.decode.get(cls) as Decode;
  const encoders = new Map<string, Encode>();
  const symmetric = new Set<string>();
  const byType: (Decode | undefined)[] = [];
  const experimenters: Experimenters = new Map();
  const [requestType, replyType] = version === 1 ? [16, 17] : [18, 19];
  const requests = new Map<number, Decode>();
  const replies = new Map<number, Decode>();
  const experimenterRequests: Experimenters = new Map();
  const experimenterReplies: Experimenters = new Map();
  const keep = (all: Experimenters, m: AnyStruct) => {
    const [id, subtype] = m.options.experimenter as readonly [number, number?];
    const own = all.get(id) ?? new Map<number | undefined, Decode>();
    own.set(subtype, decoder(m.cls));
    all.set(id, own);
  };
  for (const m of MESSAGES as readonly AnyStruct[]) {
    if (!holds(m, version)) continue;
    encoders.set(m.cls, compiled.encode.get(m.cls) as Encode);
    const header = m.options.message;
    if (header === undefined) {
      symmetric.add(m.cls);
      continue;
    }
    const type = messageType(header, version);
    if (type <= ofp.OFPT_ECHO_REPLY) symmetric.add(m.cls);
    const own = m.options.experimenter !== undefined;
    if (header.multipart !== undefined) {
      const isRequest = type === requestType;
      if (own) keep(isRequest ? experimenterRequests : experimenterReplies, m);
      else (isRequest ? requests : replies).set(header.multipart, decoder(m.cls));
    } else if (own) {
      keep(experimenters, m);
    } else if (type !== requestType && type !== replyType) {
      byType[type] = decoder(m.cls);
    }
  }
  return {
    compiled,
    encoders,
    symmetric,
    byType,
    experimenters,
    unknown: decoder('OFPUnknownMessage'),
    requestType,
    replyType,
    multipartHeader: version === 1 ? 12 : 16,
    requests,
    replies,
    experimenterRequests,
    experimenterReplies,
    unknownRequest: decoder('OFPMultipartRequestUnknown'),
    unknownReply: decoder('OFPMultipartReplyUnknown'),
  };
}

// Indexed by version. A version is compiled when it is first used: one that is never seen costs nothing.
const dispatches: (Dispatch | undefined)[] = new Array(7).fill(undefined);

/** Of versions this library does not speak, what looks alike in all is read as in 1.3. */
function dispatchFor(version: number): Dispatch {
  const known = VERSIONS.includes(version as Version) ? (version as Version) : ofp.OFP_VERSION;
  dispatches[known] ??= dispatchOf(known);
  return dispatches[known] as Dispatch;
}

/** The compiled declarations of a version. */
export function compiledOf(version: Version): Compiled {
  if (!VERSIONS.includes(version))
    throw new RangeError(`no OpenFlow version ${String(version)} here; there are ${VERSIONS.join(', ')}`);
  return dispatchFor(version).compiled;
}

/** Names of the classes of a version. */
export const classNamesOf = (version: Version): readonly string[] => classNames(MESSAGES, version);

const writer = new Writer();

/**
 * Writes a message in the format of its `version`. The header's xid is `xid` when given, else `msg.xid`; a message that is
 * added to a bundle follows when it has the same one. OpenFlow 1.3.5 §7.1.
 *
 * The result is a view of a buffer that later messages share: it is never written again, but keeping one short message
 * alive keeps up to 32 KiB alive.
 *
 * @throws OfEncodeError naming the class and the field that does not fit
 */
export function encode(msg: OfMessage, xid?: number): Buffer {
  const cls = (msg as { cls?: string } | null | undefined)?.cls as string;
  const version = (msg as { version?: Version } | null | undefined)?.version as Version;
  const dispatch = dispatches[version] ?? dispatchFor(version);
  const enc = dispatch.encoders.get(cls);
  if (enc === undefined)
    throw new OfEncodeError(String(cls), 'cls', `no message of version ${version}: ${describe(msg)}`);
  if (dispatch.compiled.version !== version && !dispatch.symmetric.has(cls)) {
    throw new OfEncodeError(cls, 'version', `no such message in version ${describe(version)}`);
  }
  if (xid !== undefined && xid >>> 0 !== xid) {
    throw new OfEncodeError(cls, 'xid', `not an unsigned integer of 32 bits: ${describe(xid)}`);
  }
  writer.begin(dispatch.compiled.version, xid);
  enc(msg, writer);
  if (xid !== undefined) writer.dv.setUint32(writer.start + 4, xid);
  return writer.take();
}

const reader = newReader();
const BAD_LEN = { type: ofp.OFPET_BAD_REQUEST, code: ofp.OFPBRC_BAD_LEN } as const;

/**
 * Reads the message at the start of `buf`; the header's length says where it ends, bytes behind it are ignored. The
 * result has the type of its version: tell them apart by `version`, then `cls`. OpenFlow 1.3.5 §7.1. Byte fields of the
 * result are views of `buf`.
 *
 * Messages of versions this library does not speak are refused, except those that look alike in all: hello, error and
 * echo. Types and TLVs nobody declared are kept raw. Padding is not kept, nor are bytes that follow the last field of a
 * message of fixed size.
 *
 * @throws OfDecodeError and nothing else
 */
export function decode(buf: Uint8Array): OfMessage {
  const b = Buffer.isBuffer(buf) ? buf : Buffer.from(buf.buffer, buf.byteOffset, buf.byteLength);
  if (b.length < 8) {
    throw new OfDecodeError('header cut short', {
      version: b[0] ?? 0,
      type: b[1] ?? -1,
      offset: 0,
      ofError: BAD_LEN,
    });
  }
  if (reader.ab !== b.buffer) {
    reader.ab = b.buffer;
    reader.dv = new DataView(b.buffer);
  }
  const p = b.byteOffset;
  reader.b = b;
  reader.base = p;
  const { dv } = reader;
  const version = dv.getUint8(p);
  const type = dv.getUint8(p + 1);
  const length = dv.getUint16(p + 2);
  reader.seen = version;
  reader.type = type;
  reader.depth = 0;
  reader.inside = 0;
  if (length < 8 || length > b.length) {
    fail(reader, p + 2, `length ${length} with ${b.length} bytes at hand`, BAD_LEN.type, BAD_LEN.code);
  }
  const end = p + length;
  const dispatch = dispatches[version] ?? dispatchFor(version);
  reader.version = dispatch.compiled.version;
  if (reader.version !== version && type > ofp.OFPT_ECHO_REPLY) {
    fail(reader, p, `version ${version}`, ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_VERSION);
  }
  return decoderFor(reader, dispatch, type, p, length)(reader, p, end) as OfMessage;
}

/**
 * Reads a message like `decode`, and refuses every version but one, except messages that look alike in all: what a
 * session that has negotiated its version wants.
 *
 * @throws OfDecodeError and nothing else
 */
export function decodeAs<V extends Version>(version: V, buf: Uint8Array): OfMessage<V> {
  if (buf.length >= 8 && buf[0] !== version && (buf[1] as number) > ofp.OFPT_ECHO_REPLY) {
    throw new OfDecodeError(`not version ${version}`, {
      version: buf[0] as number,
      type: buf[1] as number,
      offset: 0,
      ofError: { type: ofp.OFPET_BAD_REQUEST, code: ofp.OFPBRC_BAD_VERSION },
    });
  }
  return decode(buf) as OfMessage<V>;
}

function decoderFor(reader: Reader, d: Dispatch, type: number, p: number, length: number): Decode {
  if (type === d.replyType || type === d.requestType) {
    if (length < d.multipartHeader) fail(reader, p, 'multipart header cut short', BAD_LEN.type, BAD_LEN.code);
    const multipart = reader.dv.getUint16(p + 8);
    const isReply = type === d.replyType;
    if (multipart === ofp.OFPMP_EXPERIMENTER) {
      const own = experimenterAt(
        reader,
        isReply ? d.experimenterReplies : d.experimenterRequests,
        p,
        d.multipartHeader,
        length,
      );
      if (own !== undefined) return own;
    }
    return isReply ? (d.replies.get(multipart) ?? d.unknownReply) : (d.requests.get(multipart) ?? d.unknownRequest);
  }
  if (type === ofp.OFPT_EXPERIMENTER) {
    const own = experimenterAt(reader, d.experimenters, p, 8, length);
    if (own !== undefined) return own;
  }
  return d.byType[type] ?? d.unknown;
}

function experimenterAt(reader: Reader, all: Experimenters, p: number, at: number, length: number): Decode | undefined {
  if (all.size === 0 || length < at + 4) return undefined;
  const own = all.get(reader.dv.getUint32(p + at));
  if (own === undefined) return undefined;
  return (length < at + 8 ? undefined : own.get(reader.dv.getUint32(p + at + 4))) ?? own.get(undefined);
}

/**
 * Transaction id of the request that an error message quotes, or undefined when it quotes less than a header. Switches
 * need to quote only 64 bytes of a request, so the quotation itself may not decode. OpenFlow 1.3.5 §7.4.4.
 *
 * A switch answers an error with the xid of the request as well, so this and `error.xid` normally agree.
 */
export function quotedXid(error: { readonly data: Uint8Array }): number | undefined {
  const d = error.data;
  if (d.length < 8) return undefined;
  return (((d[4] as number) << 24) | ((d[5] as number) << 16) | ((d[6] as number) << 8) | (d[7] as number)) >>> 0;
}
