/**
 * encode and decode: dispatch from a class name or a header to the functions compile.ts generated from messages.ts.
 * json.ts and factories.ts share the compiled tables.
 */
import { type Compiled, compile, type Decode } from './compile.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { OfDecodeError, OfEncodeError } from './errors.ts';
import { MESSAGES, type OfMessage } from './messages.ts';
import type { AnyStruct } from './schema.ts';
import { describe, fail, newReader, Writer } from './wire.ts';

/** The compiled declarations of OpenFlow 1.3. */
export const compiled: Compiled = compile(MESSAGES, ofp.OFP_VERSION);

const messageClasses = new Set<string>(MESSAGES.map((m) => m.cls));
const symmetricClasses = new Set<string>();
const byType: (Decode | undefined)[] = [];
const requests = new Map<number, Decode>();
const replies = new Map<number, Decode>();

for (const m of MESSAGES as readonly AnyStruct[]) {
  const decoder = compiled.decode.get(m.cls) as Decode;
  const header = m.options.message;
  if (header === undefined || m.cls.startsWith('OFPMultipart')) continue;
  if (m.options.since === undefined) symmetricClasses.add(m.cls);
  if (header.multipart === undefined) byType[header.type] = decoder;
  else (header.type === ofp.OFPT_MULTIPART_REQUEST ? requests : replies).set(header.multipart, decoder);
}
const unknownMessage = compiled.decode.get('OFPUnknownMessage') as Decode;
const unknownRequest = compiled.decode.get('OFPMultipartRequestUnknown') as Decode;
const unknownReply = compiled.decode.get('OFPMultipartReplyUnknown') as Decode;

const writer = new Writer();

/**
 * Writes a message. The header's xid is `xid` when given, else `msg.xid`. OpenFlow 1.3.5 §7.1.
 *
 * The result is a view of a buffer that later messages share: it is never written again, but keeping one short message
 * alive keeps up to 32 KiB alive.
 *
 * @throws OfEncodeError naming the class and the field that does not fit
 */
export function encode(msg: OfMessage, xid?: number): Buffer {
  const cls = (msg as { cls?: string } | null | undefined)?.cls as string;
  const enc = compiled.encode.get(cls);
  if (enc === undefined || !messageClasses.has(cls)) {
    throw new OfEncodeError(String(cls), 'cls', `no message: ${describe(msg)}`);
  }
  if (msg.version !== ofp.OFP_VERSION && !symmetricClasses.has(cls) && cls !== 'OFPUnknownMessage') {
    throw new OfEncodeError(cls, 'version', `no such message in version ${describe(msg.version)}`);
  }
  writer.begin();
  enc(msg, writer);
  if (xid !== undefined) {
    if (xid >>> 0 !== xid) throw new OfEncodeError(cls, 'xid', `not an unsigned integer of 32 bits: ${describe(xid)}`);
    writer.dv.setUint32(writer.start + 4, xid);
  }
  return writer.take();
}

const reader = newReader();
const BAD_LEN = { type: ofp.OFPET_BAD_REQUEST, code: ofp.OFPBRC_BAD_LEN } as const;

/**
 * Reads the message at the start of `buf`; the header's length says where it ends, bytes behind it are ignored.
 * OpenFlow 1.3.5 §7.1. Byte fields of the result are views of `buf`.
 *
 * Messages of other versions are refused, except those that look alike in all: hello, error and echo. Types and TLVs
 * nobody declared are kept raw. Padding is not kept, nor are bytes that follow the last field of a message of fixed size.
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
  reader.version = version;
  reader.type = type;
  if (length < 8 || length > b.length) {
    fail(reader, p + 2, `length ${length} with ${b.length} bytes at hand`, BAD_LEN.type, BAD_LEN.code);
  }
  const end = p + length;
  if (version !== ofp.OFP_VERSION && type > ofp.OFPT_ECHO_REPLY) {
    fail(reader, p, `version ${version}`, ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_VERSION);
  }
  let decoder: Decode;
  if (type === ofp.OFPT_MULTIPART_REPLY || type === ofp.OFPT_MULTIPART_REQUEST) {
    if (length < 16) fail(reader, p, 'multipart header cut short', BAD_LEN.type, BAD_LEN.code);
    const multipart = dv.getUint16(p + 8);
    decoder =
      type === ofp.OFPT_MULTIPART_REPLY
        ? (replies.get(multipart) ?? unknownReply)
        : (requests.get(multipart) ?? unknownRequest);
  } else {
    decoder = byType[type] ?? unknownMessage;
  }
  return decoder(reader, p, end) as OfMessage;
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
