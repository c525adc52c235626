/**
 * What connection.ts and its neighbours need to know of each version: the numbers of message types, which of them are
 * answered by which, and how to make the few messages a connection sends by itself. Everything else about a version is
 * the codec's business.
 */
import { compiledOf } from './codec.ts';
import type { OfMessage } from './messages.ts';
import type { Version } from './schema.ts';

export type ErrorMessage = Extract<OfMessage, { cls: 'OFPErrorMsg' }>;

/** Message types that are the same in every version. OpenFlow 1.3.5 §7.1. */
export const TYPE = { hello: 0, error: 1, echoRequest: 2, echoReply: 3 } as const;

/** A message whose version is known at run time only. */
function make(version: Version, cls: string, fields: object = {}): OfMessage {
  const factory = compiledOf(version).make.get(cls);
  if (factory === undefined) throw new RangeError(`${versionName(version)} has no ${cls}`);
  return factory(fields) as OfMessage;
}

/** A hello that offers `versions`; its version is the highest of them. The bitmap came with 1.3. OpenFlow 1.3.5 §7.5.1. */
export function hello(versions: readonly Version[]): { message: OfMessage; hasBitmap: boolean } {
  const highest = Math.max(...versions) as Version;
  const hasBitmap = highest >= 4;
  const elements = hasBitmap
    ? [compiledOf(highest).make.get('OFPHelloElemVersionBitmap')?.({ versions: [...versions] })]
    : [];
  return { message: make(highest, 'OFPHello', { elements }), hasBitmap };
}

export const errorMessage = (version: Version, type: number, code: number, data: Uint8Array): OfMessage =>
  make(version, 'OFPErrorMsg', { type, code, data });
export const echoRequest = (version: Version): OfMessage => make(version, 'OFPEchoRequest');
export const featuresRequest = (version: Version): OfMessage => make(version, 'OFPFeaturesRequest');
export const barrierRequest = (version: Version): OfMessage => make(version, 'OFPBarrierRequest');

/** Whether a version has bundles: 1.3 has those of ONF's extension 230. */
export const hasBundles = (version: Version): boolean => version >= 4;
/** The types of bundle control messages. OpenFlow 1.4.1 §7.3.9.2, and the same numbers in the extension. */
export const BUNDLE = { open: 0, commit: 4, discard: 6 } as const;
const bundlePrefix = (version: Version): string => (version === 4 ? 'ONF' : 'OFP');

export const bundleControl = (version: Version, bundle_id: number, type: number, flags: number): OfMessage =>
  make(version, `${bundlePrefix(version)}BundleCtrlMsg`, { bundle_id, type, flags });
/** The message in a bundle follows the transaction id of the one around it. */
export const bundleAdd = (version: Version, bundle_id: number, flags: number, message: OfMessage): OfMessage =>
  make(version, `${bundlePrefix(version)}BundleAddMsg`, { bundle_id, flags, message: { ...message, xid: 0 } });

const NAMES: Readonly<Record<number, string>> = { 1: '1.0', 2: '1.1', 3: '1.2', 4: '1.3', 5: '1.4', 6: '1.5' };

/** A wire version as people write it: `OpenFlow 1.3`. */
export function versionName(version: number): string {
  const name = NAMES[version];
  return name === undefined ? `version 0x${version.toString(16).padStart(2, '0')}` : `OpenFlow ${name}`;
}

/** Type of multipart requests, which 1.0 calls statistics; replies have the next number. OpenFlow 1.3.5 §7.1. */
const multipartRequest = (version: number): number => (version === 1 ? 16 : 18);

/** Type of the message that answers a message of type `type`, or undefined when nothing does. OpenFlow 1.3.5 §7.1. */
export function replyType(version: number, type: number): number | undefined {
  switch (type) {
    case 2: // echo
    case 5: // features
    case 7: // configuration
      return type + 1;
    case 4: // experimenter messages are answered by experimenter messages
      return type;
    case 16: // 1.0: statistics
      return version === 1 ? 17 : undefined;
    case 18: // 1.0: barrier; later: multipart
      return 19;
    case 20: // 1.0: queue configuration; later: barrier
      return 21;
    case 22: // 1.1 to 1.3: queue configuration
      return version > 1 && version < 5 ? 23 : undefined;
    case 24: // role
      return version >= 3 ? 25 : undefined;
    case 26: // asynchronous configuration
      return version >= 4 ? 27 : undefined;
    case 33: // bundle control is answered by bundle control
      return version >= 5 ? 33 : undefined;
    default:
      return undefined;
  }
}

/** Whether a type of message is a multipart reply. */
export const isMultipartReplyType = (version: number, type: number): boolean => type === multipartRequest(version) + 1;

/**
 * What tells replies of one type apart, given the bytes of a request or a reply: the multipart type, or the
 * experimenter. -1 where the type alone says all.
 */
export function subtypeOf(version: number, bytes: Buffer): number {
  const type = bytes[1] as number;
  const multipart = multipartRequest(version);
  if ((type === multipart || type === multipart + 1) && bytes.length >= 10) return bytes.readUInt16BE(8);
  if (type === 4 && bytes.length >= 12) return bytes.readUInt32BE(8);
  return -1;
}
