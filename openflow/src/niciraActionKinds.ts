/**
 * The kinds of actions of Nicira's: helpers with which niciraActions.ts, niciraLearn.ts, niciraController.ts and
 * niciraConntrack.ts declare theirs, the header that all have, and the action that keeps what nobody declared. schema.ts
 * has the language.
 */

import { ofproto_v1_3 as ofp } from './constants.ts';
import { BAD_ACTION } from './errorPairs.ts';
import { OfEncodeError } from './errors.ts';
import { nicira_ext as nx } from './niciraConstants.ts';
import {
  ALL,
  bytes,
  type Custom,
  customStruct,
  type Fields,
  FROM_12,
  fixed,
  IN_10,
  len,
  only,
  pad,
  type Range,
  type Struct,
  type StructOptions,
  struct,
  u16,
} from './schema.ts';
import { describe, fail, type Reader, type Version, Writer } from './wire.ts';

/** The errors to answer with for bytes that cannot be these actions. */
export const BAD_LEN = BAD_ACTION;
export const BAD_ARGUMENT = [ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_ARGUMENT] as const;
/** Where they are described. */
export const SPEC = 'ovs-actions(7)';

/** Bytes in front of what is an action's own. */
export const HEADER = 10;

/** Ryu's JSON of 1.0 shows neither type nor length of an action. */
const head = {
  _type10: only(IN_10, fixed(2, ofp.OFPAT_EXPERIMENTER)),
  _type: only(FROM_12, fixed(2, ofp.OFPAT_EXPERIMENTER, 'type')),
  _len10: only(IN_10, len()),
  _len: only(FROM_12, len('len')),
  _vendor: only(IN_10, fixed(4, nx.NX_EXPERIMENTER_ID, 'vendor')),
  _experimenter: only(FROM_12, fixed(4, nx.NX_EXPERIMENTER_ID, 'experimenter')),
};
/** Fields in front of what is an action's own. */
export const header = (subtype: number) => ({ ...head, _subtype: fixed(2, subtype, 'subtype') });

/** How an action of a subtype is told from others; `word` where several classes share it. */
export function options(subtype: number, word?: number): StructOptions & { versions: typeof ALL } {
  const experimenter =
    word === undefined
      ? ([nx.NX_EXPERIMENTER_ID, subtype] as const)
      : ([nx.NX_EXPERIMENTER_ID, subtype, word] as const);
  return { spec: SPEC, versions: ALL, err: BAD_LEN, experimenter };
}

/** JSON of what Ryu does not know is what Ryu makes of it. */
export const unknownToRyu = { jsonAs: { versions: ALL, cls: 'NXActionUnknown' } } as const;
/** For actions of variable length. */
export const variable = { padTo8: 'inside' } as const;

/** An action whose fields the language has words for. */
export function action<const C extends string, F extends Fields>(
  cls: C,
  subtype: number,
  fields: F,
  more: Pick<StructOptions, 'padTo8' | 'jsonAs'> = {},
): Struct<C, F, (typeof ALL)[number]> {
  return struct(cls, { ...options(subtype), ...more }, { ...header(subtype), ...fields }) as unknown as Struct<
    C,
    F,
    (typeof ALL)[number]
  >;
}

/** Actions that have no arguments. */
export const bare = <const C extends string>(cls: C, subtype: number, more: Pick<StructOptions, 'jsonAs'> = {}) =>
  action(cls, subtype, { _pad: pad(6) }, more);

/** An action of a subtype nobody declared, or with contents that its class has no place for. */
export interface UnknownAction {
  cls: 'NXActionUnknown';
  subtype: number;
  data: Buffer;
}
export const NXActionUnknown = struct(
  'NXActionUnknown',
  {
    spec: SPEC,
    versions: ALL as Range,
    err: BAD_LEN,
    experimenter: [nx.NX_EXPERIMENTER_ID],
    padTo8: 'inside',
  },
  { ...head, subtype: u16(), data: bytes() },
);

/** Keeps the action at `p` as it is. */
function raw(r: Reader, p: number, end: number): UnknownAction {
  r.q = end;
  const data = r.b.subarray(p + HEADER - r.base, end - r.base);
  return { cls: 'NXActionUnknown', subtype: r.dv.getUint16(p + 8), data };
}

/** How an action is written and read where the language has no words for it. */
interface CustomAction {
  /** Writes what follows the header; padding is added. */
  encode(o: object, w: Writer): void;
  /** Reads from `p` on, behind the header; undefined when the class has no place for what it finds. */
  decode(r: Reader, p: number, end: number): object | undefined;
  toJson(o: object, version: Version): object;
  fromJson: Custom['fromJson'];
  make: Custom['make'];
}

const scratch = new Writer();

/** An action that the language has no words for; its header and padding are written and read here. */
export function customAction<const C extends string, O extends { cls: C }, I>(
  cls: C,
  subtype: number,
  custom: CustomAction,
): Struct<C, never, Version, O, I> {
  const encode = (o: object, w: Writer): void => {
    const from = w.p - w.start;
    if (w.cap - w.p < HEADER) w.grow(HEADER);
    w.p += HEADER;
    custom.encode(o, w);
    w.zeros((8 - ((w.p - w.start - from) & 7)) & 7);
    const at = w.start + from;
    w.dv.setUint16(at, ofp.OFPAT_EXPERIMENTER);
    w.dv.setUint16(at + 2, w.p - at);
    w.dv.setUint32(at + 4, nx.NX_EXPERIMENTER_ID);
    w.dv.setUint16(at + 8, subtype);
  };
  return customStruct<C, O, I>(cls, {
    ...options(subtype),
    custom: {
      min: 16,
      encode,
      decode(r, p, end) {
        if (end - p < 16) fail(r, p, `${cls} cut short`, ...BAD_LEN);
        const o = custom.decode(r, p + HEADER, end);
        if (o === undefined) return raw(r, p, end);
        r.q = end;
        return o;
      },
      toJson(o, version) {
        const attributes = { subtype, ...custom.toJson(o, version) };
        if (version === 1) return { ...attributes, vendor: nx.NX_EXPERIMENTER_ID };
        scratch.begin(version);
        encode(o, scratch);
        const length = scratch.p - scratch.start;
        return { ...attributes, experimenter: nx.NX_EXPERIMENTER_ID, type: ofp.OFPAT_EXPERIMENTER, len: length };
      },
      fromJson: custom.fromJson,
      make: custom.make,
    },
  });
}

/** @throws OfEncodeError: the value is not `what` */
export function bad(cls: string, field: string, v: unknown, what: string): never {
  throw new OfEncodeError(cls, field, `not ${what}: ${describe(v)}`);
}
/** @throws OfEncodeError when the value is no unsigned integer of that many bits */
export function uint(v: unknown, bits: 8 | 16 | 32, cls: string, field: string): number {
  if (typeof v !== 'number' || !Number.isInteger(v) || v < 0 || v >= 2 ** bits) {
    bad(cls, field, v, `an unsigned integer of ${bits} bits`);
  }
  return v;
}
