/**
 * Declarations of what a switch says its tables can do (OpenFlow 1.3.5 §7.3.5.5), under Ryu's names: identifiers of
 * instructions and actions, properties, and the structure that holds them. oxmIds.ts has the identifiers of match fields,
 * structs.ts the statistics of tables; schema.ts has the language.
 */

import { ofproto_v1_3 as ofp } from './constants.ts';
import { ofproto_v1_4 as ofp14 } from './constants14.ts';
import { ofproto_v1_5 as ofp15 } from './constants15.ts';
import { BAD_FEATURES, BAD_PROPERTY } from './errorPairs.ts';
import { OFPExperimenterOxmId, OFPOxmId } from './oxmIds.ts';
import { OFPPropUnknown } from './properties.ts';
import {
  bytes,
  either,
  extraBytes,
  FROM_13,
  FROM_13_UNTIL_14,
  FROM_14,
  family,
  fixed,
  IN_13,
  IN_15,
  len,
  list,
  many,
  only,
  oxms,
  pad,
  str,
  struct,
  u8,
  u16,
  u32,
  u64,
  uints,
} from './schema.ts';

const features = { versions: FROM_13, spec: '7.3.5.5.2', err: BAD_FEATURES, errFrom14: BAD_PROPERTY } as const;
const prop = { ...features, padTo8: 'outside' } as const;

export const OFPInstructionId = struct('OFPInstructionId', features, {
  type: u16(),
  _len: len('len'),
  data: extraBytes(),
});
export const OFPActionId = struct('OFPActionId', features, {
  type: u16(),
  _len: len('len'),
  data: extraBytes(),
});

export const OFPTableFeaturePropInstructions = struct(
  'OFPTableFeaturePropInstructions',
  { ...prop, types: [ofp.OFPTFPT_INSTRUCTIONS, ofp.OFPTFPT_INSTRUCTIONS_MISS] },
  { type: u16(), _len: len('length'), instruction_ids: list(OFPInstructionId) },
);
export const OFPTableFeaturePropNextTables = struct(
  'OFPTableFeaturePropNextTables',
  {
    ...prop,
    types: [ofp.OFPTFPT_NEXT_TABLES, ofp.OFPTFPT_NEXT_TABLES_MISS, [ofp14.OFPTFPT_TABLE_SYNC_FROM, FROM_14]],
  },
  { type: u16(), _len: len('length'), table_ids: uints(1) },
);
export const OFPTableFeaturePropActions = struct(
  'OFPTableFeaturePropActions',
  {
    ...prop,
    types: [
      ofp.OFPTFPT_WRITE_ACTIONS,
      ofp.OFPTFPT_WRITE_ACTIONS_MISS,
      ofp.OFPTFPT_APPLY_ACTIONS,
      ofp.OFPTFPT_APPLY_ACTIONS_MISS,
    ],
  },
  { type: u16(), _len: len('length'), action_ids: list(OFPActionId) },
);
export const OFPTableFeaturePropOxm = struct(
  'OFPTableFeaturePropOxm',
  {
    ...prop,
    types: [
      ofp.OFPTFPT_MATCH,
      ofp.OFPTFPT_WILDCARDS,
      ofp.OFPTFPT_WRITE_SETFIELD,
      ofp.OFPTFPT_WRITE_SETFIELD_MISS,
      ofp.OFPTFPT_APPLY_SETFIELD,
      ofp.OFPTFPT_APPLY_SETFIELD_MISS,
      [ofp15.OFPTFPT_WRITE_COPYFIELD, IN_15],
      [ofp15.OFPTFPT_WRITE_COPYFIELD_MISS, IN_15],
      [ofp15.OFPTFPT_APPLY_COPYFIELD, IN_15],
      [ofp15.OFPTFPT_APPLY_COPYFIELD_MISS, IN_15],
    ],
  },
  { type: u16(), _len: len('length'), oxm_ids: either([OFPOxmId, OFPExperimenterOxmId], OFPOxmId) },
);
export const OFPTableFeaturePropOxmValues = struct(
  'OFPTableFeaturePropOxmValues',
  { ...prop, versions: IN_15 },
  { _type: fixed(2, ofp15.OFPTFPT_PACKET_TYPES, 'type'), _len: len('length'), oxm_values: oxms() },
);
export const OFPTableFeaturePropExperimenter = struct(
  'OFPTableFeaturePropExperimenter',
  { ...prop, types: [ofp.OFPTFPT_EXPERIMENTER, ofp.OFPTFPT_EXPERIMENTER_MISS] },
  { type: u16(), _len: len('length'), experimenter: u32(), exp_type: u32(), data: uints(4) },
);
export const OFPTableFeaturePropUnknown = struct(
  'OFPTableFeaturePropUnknown',
  { ...prop, versions: IN_13 },
  { type: u16(), _len: len('length'), data: bytes() },
);
export const tableFeatureProps = family(
  'tableFeatureProperty',
  [
    OFPTableFeaturePropInstructions,
    OFPTableFeaturePropNextTables,
    OFPTableFeaturePropActions,
    OFPTableFeaturePropOxm,
    OFPTableFeaturePropOxmValues,
    OFPTableFeaturePropExperimenter,
  ],
  [OFPTableFeaturePropUnknown, OFPPropUnknown],
  { err: BAD_FEATURES, errFrom14: BAD_PROPERTY, min: 4, padTo8: true },
);
export const OFPTableFeaturesStats = struct('OFPTableFeaturesStats', features, {
  _len: len('length'),
  table_id: u8(),
  _pad: only(FROM_13_UNTIL_14, pad(5)),
  command: only(IN_15, u8(ofp15.OFPTFC_REPLACE)),
  features: only(IN_15, u32(0)),
  name: str(32),
  metadata_match: u64(0n),
  metadata_write: u64(0n),
  config: only(FROM_13_UNTIL_14, u32(0)),
  capabilities: only(IN_15, u32(0)),
  max_entries: u32(0),
  properties: many(tableFeatureProps),
});
