/**
 * Declarations of the actions of OpenFlow 1.2 and later under Ryu's names, set-field among them, and of the family they
 * form with Nicira's (niciraActions.ts). structs10.ts has those of 1.0; instructions.ts, structs.ts and niciraStructs.ts
 * use the family; schema.ts has the language.
 *
 * Where Ryu has no class for a type number, the class here ends in `Unknown` and keeps the bytes.
 */

import { ofproto_v1_3 as ofp } from './constants.ts';
import { ofproto_v1_5 as ofp15 } from './constants15.ts';
import { BAD_ACTION } from './errorPairs.ts';
import { OfEncodeError } from './errors.ts';
import { NICIRA_ACTIONS } from './niciraActions.ts';
import { decodeOxm, encodeOxm, lastOxm } from './oxm.ts';
import type { OxmInput, OxmName, OxmTlv, OxmTlvInput, OxmValue, UnknownOxmName } from './oxmFields.ts';
import { canonicalOxm, oxmFromJson, oxmToJson } from './oxmForms.ts';
import { OFPExperimenterOxmId, OFPOxmId } from './oxmIds.ts';
import { oxmByName } from './oxmRows.ts';
import {
  ALL,
  type AnyFamily,
  bytes,
  type Custom,
  customStruct,
  either,
  extraBytes,
  FROM_12,
  FROM_12_UNTIL_14,
  FROM_13,
  family,
  fixed,
  IN_12,
  IN_15,
  len,
  pad,
  type Range,
  struct,
  u8,
  u16,
  u32,
} from './schema.ts';
import { fail } from './wire.ts';

const action = { versions: FROM_12, err: BAD_ACTION } as const;
const actionType = (type: number) => fixed(2, type, 'type');

export const OFPActionOutput = struct(
  'OFPActionOutput',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_OUTPUT), _len: len('len'), port: u32(), max_len: u16(ofp.OFPCML_MAX), _pad: pad(6) },
);
export const OFPActionGroup = struct(
  'OFPActionGroup',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_GROUP), _len: len('len'), group_id: u32(0) },
);
export const OFPActionSetQueue = struct(
  'OFPActionSetQueue',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_SET_QUEUE), _len: len('len'), queue_id: u32() },
);
export const OFPActionSetMplsTtl = struct(
  'OFPActionSetMplsTtl',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_SET_MPLS_TTL), _len: len('len'), mpls_ttl: u8(), _pad: pad(3) },
);
export const OFPActionSetNwTtl = struct(
  'OFPActionSetNwTtl',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_SET_NW_TTL), _len: len('len'), nw_ttl: u8(), _pad: pad(3) },
);
const bare = <const C extends string, const R extends Range>(cls: C, type: number, versions: R) =>
  struct(cls, { ...action, versions, spec: '7.2.5' }, { _type: actionType(type), _len: len('len'), _pad: pad(4) });
export const OFPActionDecMplsTtl = bare('OFPActionDecMplsTtl', ofp.OFPAT_DEC_MPLS_TTL, FROM_12);
export const OFPActionDecNwTtl = bare('OFPActionDecNwTtl', ofp.OFPAT_DEC_NW_TTL, FROM_12);
export const OFPActionCopyTtlOut = bare('OFPActionCopyTtlOut', ofp.OFPAT_COPY_TTL_OUT, FROM_12);
export const OFPActionCopyTtlIn = bare('OFPActionCopyTtlIn', ofp.OFPAT_COPY_TTL_IN, FROM_12);
export const OFPActionPopVlan = bare('OFPActionPopVlan', ofp.OFPAT_POP_VLAN, FROM_12);
export const OFPActionPopPbb = bare('OFPActionPopPbb', ofp.OFPAT_POP_PBB, FROM_13);
export const OFPActionPushVlan = struct(
  'OFPActionPushVlan',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_PUSH_VLAN), _len: len('len'), ethertype: u16(0x8100), _pad: pad(2) },
);
export const OFPActionPushMpls = struct(
  'OFPActionPushMpls',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_PUSH_MPLS), _len: len('len'), ethertype: u16(0x8847), _pad: pad(2) },
);
export const OFPActionPushPbb = struct(
  'OFPActionPushPbb',
  { ...action, versions: FROM_13, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_PUSH_PBB), _len: len('len'), ethertype: u16(), _pad: pad(2) },
);
export const OFPActionPopMpls = struct(
  'OFPActionPopMpls',
  { ...action, spec: '7.2.5' },
  { _type: actionType(ofp.OFPAT_POP_MPLS), _len: len('len'), ethertype: u16(0x0800), _pad: pad(2) },
);
/** Ryu's class of 1.2 drops what follows the experimenter's number. */
export const OFPActionExperimenter12 = struct(
  'OFPActionExperimenter',
  { ...action, versions: IN_12, spec: 'A.2.5', padTo8: 'inside' },
  { _type: actionType(ofp.OFPAT_EXPERIMENTER), _len: len('len'), experimenter: u32(), data: extraBytes() },
);
export const OFPActionExperimenterUnknown = struct(
  'OFPActionExperimenterUnknown',
  { ...action, versions: FROM_13, spec: '7.2.5', padTo8: 'inside' },
  { _type: actionType(ofp.OFPAT_EXPERIMENTER), _len: len('len'), experimenter: u32(), data: bytes() },
);
export const OFPActionUnknown = struct(
  'OFPActionUnknown',
  { ...action, versions: ALL, spec: '7.2.5', padTo8: 'inside' },
  { type: u16(), _len: len('len'), data: bytes() },
);

/** Set-field action: one variant per match field, so that the value's type follows from `field`. */
export type SetField =
  | {
      [N in OxmName]: { cls: 'OFPActionSetField'; field: N; value: OxmValue<N> };
    }[OxmName]
  | { cls: 'OFPActionSetField'; field: UnknownOxmName; value: string };
/** What its factory takes. */
export type SetFieldInput =
  | { [N in OxmName]: { readonly field: N; readonly value: OxmInput<N> } }[OxmName]
  | { readonly field: UnknownOxmName; readonly value: string };

/** The same in 1.5, where the value may have a mask: the bits to set. */
export type SetMaskedField = { cls: 'OFPActionSetField' } & OxmTlv;

const setField = (masks: boolean): Custom => ({
  min: 8,
  encode(o, w) {
    const { field, value } = o as SetMaskedField;
    if (!masks && Array.isArray(value)) throw new OfEncodeError('OFPActionSetField', 'value', 'has a mask');
    if (w.cap - w.p < 8) w.grow(8);
    const from = w.p - w.start;
    w.p += 4;
    encodeOxm(w, field, value, 'OFPActionSetField');
    w.zeros((8 - ((w.p - w.start - from) & 7)) & 7);
    const at = w.start + from;
    w.dv.setUint16(at, ofp.OFPAT_SET_FIELD);
    w.dv.setUint16(at + 2, w.p - at);
  },
  decode(r, p, end) {
    decodeOxm(r, p + 4, end, ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_SET_LEN);
    // Before 1.5 a mask means nothing that could be acted on.
    if (!masks && Array.isArray(lastOxm.value)) {
      fail(r, p + 4, 'set-field with a mask', ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_SET_ARGUMENT);
    }
    if (end - r.q >= 8) fail(r, r.q, 'set-field too long', ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_LEN);
    r.q = end;
    return { cls: 'OFPActionSetField', field: lastOxm.name, value: lastOxm.value };
  },
  toJson(o, version) {
    const { field, value } = o as SetMaskedField;
    return { field: oxmToJson(field, value, version), len: lengthOf(field), type: ofp.OFPAT_SET_FIELD };

    function lengthOf(name: string): number {
      const c = oxmByName(name, version);
      const [v] = Array.isArray(value) ? value : [value];
      const size = c === undefined || c.kind === 'raw' ? Buffer.from(String(v), 'base64').length : c.size;
      return (8 + (c?.extra ?? 0) + (Array.isArray(value) ? 2 * size : size) + 7) & ~7;
    }
  },
  fromJson(attrs, version) {
    const [field, value] = oxmFromJson(attrs.field, 'OFPActionSetField', version);
    return { field, value };
  },
  make(input, version) {
    const { field, value } = input as { field: string; value: unknown };
    const v = canonicalOxm(field, value, 'OFPActionSetField', version);
    if (!masks && Array.isArray(v)) throw new OfEncodeError('OFPActionSetField', 'value', 'has a mask');
    return { cls: 'OFPActionSetField', field, value: v };
  },
});
const setFieldOptions = { spec: '7.2.5', err: BAD_ACTION, types: [ofp.OFPAT_SET_FIELD] } as const;

export const OFPActionSetField = customStruct<'OFPActionSetField', SetField, SetFieldInput, 3 | 4 | 5>(
  'OFPActionSetField',
  { ...setFieldOptions, versions: FROM_12_UNTIL_14, custom: setField(false) },
);
export const OFPActionSetField15 = customStruct<'OFPActionSetField', SetMaskedField, OxmTlvInput, 6>(
  'OFPActionSetField',
  { ...setFieldOptions, versions: IN_15, custom: setField(true) },
);

/** Copies `n_bits` from the first field of `oxm_ids` to the second. */
export const OFPActionCopyField = struct(
  'OFPActionCopyField',
  { ...action, versions: IN_15, spec: '7.2.6', padTo8: 'inside' },
  {
    _type: actionType(ofp15.OFPAT_COPY_FIELD),
    _len: len('len'),
    n_bits: u16(0),
    src_offset: u16(0),
    dst_offset: u16(0),
    _pad: pad(2),
    oxm_ids: either([OFPOxmId, OFPExperimenterOxmId], OFPOxmId, 2),
  },
);
/** Takes the place of the meter instruction. */
export const OFPActionMeter = struct(
  'OFPActionMeter',
  { ...action, versions: IN_15, spec: '7.2.6' },
  { _type: actionType(ofp15.OFPAT_METER), _len: len('len'), meter_id: u32() },
);

const allActions = family(
  'action',
  [
    OFPActionOutput,
    OFPActionCopyTtlOut,
    OFPActionCopyTtlIn,
    OFPActionSetMplsTtl,
    OFPActionDecMplsTtl,
    OFPActionPushVlan,
    OFPActionPopVlan,
    OFPActionPushMpls,
    OFPActionPopMpls,
    OFPActionSetQueue,
    OFPActionGroup,
    OFPActionSetNwTtl,
    OFPActionDecNwTtl,
    OFPActionSetField,
    OFPActionSetField15,
    OFPActionPushPbb,
    OFPActionPopPbb,
    ...NICIRA_ACTIONS,
    OFPActionExperimenter12,
    OFPActionCopyField,
    OFPActionMeter,
    OFPActionExperimenterUnknown,
  ],
  [OFPActionUnknown],
  { err: BAD_ACTION, min: 8, aligned: true, experimenter: { type: ofp.OFPAT_EXPERIMENTER, subtypeSize: 2 } },
);

/** The type of the family of actions: some actions hold others, so it needs a name. */
export interface Actions extends AnyFamily {
  readonly '~m': (typeof allActions)['~m'];
}
export const actions: Actions = allActions;
