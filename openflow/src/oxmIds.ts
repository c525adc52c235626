/**
 * Identifiers of match fields, as they stand in table features, port properties and copy-field actions: the header of an
 * OXM TLV without its value. Used by tableFeatures.ts, actions.ts and properties.ts; oxmFields.ts has the fields.
 */

import { ofproto_v1_3 as ofp } from './constants.ts';
import { BAD_FEATURES, BAD_PROPERTY } from './errorPairs.ts';
import { OfEncodeError } from './errors.ts';
import type { OxmName, UnknownOxmName } from './oxmFields.ts';
import { oxmHeaderToJson } from './oxmForms.ts';
import { oxmByName, oxmNameOfType } from './oxmRows.ts';
import { customStruct, FROM_13 } from './schema.ts';
import { fail, type Reader, type Version, type Writer } from './wire.ts';

const errorIn = (version: Version): readonly [number, number] => (version >= 5 ? BAD_PROPERTY : BAD_FEATURES);
const options = { versions: FROM_13, spec: '7.3.5.5.2', err: BAD_FEATURES, errFrom14: BAD_PROPERTY } as const;

/** A match field by name; `length` is what its TLV would carry. OpenFlow 1.3.5 §7.3.5.5.2. */
export interface OxmId {
  cls: 'OFPOxmId';
  type: OxmName | UnknownOxmName;
  hasmask: boolean;
  length: number;
}
/** The same for experimenter classes. */
export interface ExperimenterOxmId {
  cls: 'OFPExperimenterOxmId';
  type: UnknownOxmName;
  exp_id: number;
  hasmask: boolean;
  length: number;
}
export interface OxmIdInput {
  readonly type: OxmName | UnknownOxmName;
  readonly hasmask?: boolean | undefined;
  readonly length?: number | undefined;
}
export interface ExperimenterOxmIdInput extends OxmIdInput {
  readonly type: UnknownOxmName;
  readonly exp_id: number;
}

const oxmIdOptions = {
  ...options,
  custom: {
    min: 4,
    encode(o: object, w: Writer): void {
      const id = o as OxmId | ExperimenterOxmId;
      const c = oxmByName(id.type, w.version);
      if (c === undefined) throw new OfEncodeError(id.cls, 'type', `no such OXM field: ${String(id.type)}`);
      const isExperimenter = c.type >>> 7 === ofp.OFPXMC_EXPERIMENTER;
      if (isExperimenter !== (id.cls === 'OFPExperimenterOxmId')) {
        throw new OfEncodeError(id.cls, 'type', `${id.type} is of the other class of identifiers`);
      }
      if ((id.length & 255) !== id.length) throw new OfEncodeError(id.cls, 'length', 'not an integer of 8 bits');
      if (w.cap - w.p < 8) w.grow(8);
      w.dv.setUint32(w.p, c.type * 512 + (id.hasmask ? 256 : 0) + id.length);
      w.p += 4;
      if (id.cls === 'OFPExperimenterOxmId') {
        if (id.exp_id >>> 0 !== id.exp_id) throw new OfEncodeError(id.cls, 'exp_id', 'not an integer of 32 bits');
        w.dv.setUint32(w.p, id.exp_id);
        w.p += 4;
      }
    },
    decode(r: Reader, p: number, end: number): object {
      if (end - p < 4) fail(r, p, 'OXM identifier cut short', ...errorIn(r.version));
      const header = r.dv.getUint32(p);
      const oxm = header >>> 9;
      const hasmask = (header & 256) !== 0;
      const length = header & 255;
      const type = oxmNameOfType(oxm, r.version);
      if (oxm >>> 7 !== ofp.OFPXMC_EXPERIMENTER) {
        r.q = p + 4;
        return { cls: 'OFPOxmId', type, hasmask, length };
      }
      if (end - p < 8) fail(r, p, 'experimenter OXM identifier cut short', ...errorIn(r.version));
      r.q = p + 8;
      return { cls: 'OFPExperimenterOxmId', type, exp_id: r.dv.getUint32(p + 4), hasmask, length };
    },
    toJson(o: object, version: Version): object {
      const { cls: _, ...attrs } = o as OxmId | ExperimenterOxmId;
      // Ryu prints the bit it has read
      return { ...attrs, type: oxmHeaderToJson(attrs.type, version), hasmask: attrs.hasmask ? 1 : 0 };
    },
    fromJson(attrs: Readonly<Record<string, unknown>>, version: Version): unknown {
      const known = /^field_(\d+)$/.exec(String(attrs.type));
      const type = known === null ? attrs.type : oxmNameOfType(Number(known[1]), version);
      return { ...attrs, type, hasmask: Boolean(attrs.hasmask), length: attrs.length ?? undefined };
    },
  },
} as const;
const defaultOxmLength = (type: string, hasmask: boolean, version: Version): number => {
  const c = oxmByName(type, version);
  if (c === undefined) return 0;
  return hasmask ? 2 * c.width - c.extra : c.width;
};

export const OFPOxmId = customStruct<'OFPOxmId', OxmId, OxmIdInput>('OFPOxmId', {
  ...oxmIdOptions,
  custom: {
    ...oxmIdOptions.custom,
    make(input, version) {
      const { type, hasmask = false, length } = input as OxmIdInput;
      return { cls: 'OFPOxmId', type, hasmask, length: length ?? defaultOxmLength(type, hasmask, version) };
    },
  },
});
export const OFPExperimenterOxmId = customStruct<'OFPExperimenterOxmId', ExperimenterOxmId, ExperimenterOxmIdInput>(
  'OFPExperimenterOxmId',
  {
    ...oxmIdOptions,
    custom: {
      ...oxmIdOptions.custom,
      make(input) {
        const { type, exp_id, hasmask = false, length } = input as ExperimenterOxmIdInput;
        return { cls: 'OFPExperimenterOxmId', type, exp_id, hasmask, length: length ?? 0 };
      },
    },
  },
);
