/**
 * The kinds of messages there are: helpers with which messages.ts, multipartMessages.ts and messages14.ts declare theirs.
 */

import { ofproto_v1_3 as ofp } from './constants.ts';
import { BAD_REQUEST } from './errorPairs.ts';
import {
  ALL,
  type Field,
  type Fields,
  FROM_12,
  fixed,
  IN_12,
  type MessageHeader,
  match,
  message,
  only,
  pad,
  type Range,
  symmetricMessage,
  u8,
  u16,
  u32,
  u64,
} from './schema.ts';

/** A message with a type of its own. */
export function plain<const C extends string, const R extends Range, F extends Fields>(
  cls: C,
  versions: R,
  type: MessageHeader['type'],
  spec: string,
  fields: F,
) {
  return message(cls, { versions, spec, err: BAD_REQUEST, message: { type } }, fields);
}

/** Hello, error and echo look alike in every version, which is how peers of different versions can part in peace. */
export function symmetric<const C extends string, F extends Fields>(cls: C, type: number, spec: string, fields: F) {
  return symmetricMessage(cls, { versions: ALL, spec, err: BAD_REQUEST, message: { type } }, fields);
}

// 1.0 and 1.2 call them statistics; 1.0 has other numbers for them
export const REQUEST = [16, ofp.OFPT_MULTIPART_REQUEST] as const;
export const REPLY = [17, ofp.OFPT_MULTIPART_REPLY] as const;
const NOT_12 = ALL.filter((v) => v !== 3);

type Multipart<F> = {
  _type: ReturnType<typeof fixed>;
  flags: Field<number, number, 'optional'>;
  _pad: ReturnType<typeof pad>;
} & F;
function multipart<const C extends string, const R extends Range, F extends Fields>(
  cls: C,
  versions: R,
  type: MessageHeader['type'],
  spec: string,
  multipartType: number,
  fields: F,
) {
  const isReply = type === REPLY;
  const all = {
    // Ryu's JSON leaves it out of requests of 1.2
    _type: isReply ? fixed(2, multipartType, 'type') : only(NOT_12, fixed(2, multipartType, 'type')),
    _type12: only(isReply ? [] : IN_12, fixed(2, multipartType)),
    flags: u16(0),
    _pad: only(FROM_12, pad(4)),
    ...fields,
  } as Multipart<F>;
  // and it has one class for all replies of 1.2
  const json = isReply ? { json: { versions: IN_12, cls: 'OFPStatsReply' } } : {};
  return message(cls, { versions, spec, err: BAD_REQUEST, message: { type, multipart: multipartType }, ...json }, all);
}
/** A multipart request. */
export const request = <const C extends string, const R extends Range, F extends Fields>(
  cls: C,
  versions: R,
  spec: string,
  type: number,
  fields: F,
) => multipart(cls, versions, REQUEST, spec, type, fields);
/** A multipart reply. */
export const reply = <const C extends string, const R extends Range, F extends Fields>(
  cls: C,
  versions: R,
  spec: string,
  type: number,
  fields: F,
) => multipart(cls, versions, REPLY, spec, type, fields);

/** What requests for flows filter by. */
export const flowFilter = {
  table_id: u8(ofp.OFPTT_ALL),
  _pad1: pad(3),
  out_port: u32(ofp.OFPP_ANY),
  out_group: u32(ofp.OFPG_ANY),
  _pad2: pad(4),
  cookie: u64(0n),
  cookie_mask: u64(0n),
  match: match(),
};
