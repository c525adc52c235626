/**
 * node-openflow: OpenFlow messages as plain objects. Names and JSON are Ryu's; no input and no output of its own, so it
 * works over any transport. See README.md for a tour.
 */
export { decode, decodeAs, encode, quotedXid, VERSIONS } from './codec.ts';
export { OfConnection } from './connection.ts';
export { OfConnectionError, type OfConnectionErrorCode, OfRequestError } from './connectionErrors.ts';
export type {
  BundleOptions,
  ConnectionHandler,
  ConnectionOptions,
  ConnectionStats,
  DownCode,
  DownReason,
  Features,
  OfRequest,
  ReplyTo,
  RequestOptions,
  RoundTrip,
  TransactionResult,
  Transport,
} from './connectionTypes.ts';
export { ofproto_v1_3 } from './constants.ts';
export { ofproto_v1_0 } from './constants10.ts';
export { ofproto_v1_2 } from './constants12.ts';
export { ofproto_v1_4 } from './constants14.ts';
export { ofproto_v1_5 } from './constants15.ts';
export { OfDecodeError, OfEncodeError, type OfErrorCode } from './errors.ts';
export {
  type ClassName,
  type Factories,
  type OfAction,
  type OfInstruction,
  type OfObject,
  of10,
  of12,
  of13,
  of14,
  of15,
} from './factories.ts';
export { fromJson, type Json, parseJson, stringifyJson, toJson } from './json.ts';
export { type MatchFields, type MatchInput, matchKey, OFPMatch } from './match.ts';
export type { OfMessage } from './messages.ts';
export {
  isMultipartReply,
  MultipartAssembler,
  type MultipartAssemblerOptions,
  type MultipartReply,
} from './multipart.ts';
export { type ErrorNumbers, errorNames, errorText } from './names.ts';
export { ofs_nbits } from './niciraActions.ts';
export { nicira_ext } from './niciraConstants.ts';
export type { OxmName, OxmTlv, OxmValue, UnknownOxmName } from './oxmFields.ts';
export { OFPStats, type OxsName, type StatsFields, type StatsInput } from './oxs.ts';
export { format } from './print.ts';
export { MessageSplitter, type MessageSplitterOptions } from './splitter.ts';
export { attach, type DuplexLike, type Timers } from './stream.ts';
export type { Match10Input } from './structs10.ts';
export type { Version } from './wire.ts';
