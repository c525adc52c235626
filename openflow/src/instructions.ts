/**
 * Declarations of the instructions of a flow (OpenFlow 1.3.5 §7.2.4), under Ryu's names, over the actions of actions.ts.
 * structs.ts and messages.ts have the flows; 1.0 has no instructions. schema.ts has the language.
 */

import { actions } from './actions.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { ofproto_v1_5 as ofp15 } from './constants15.ts';
import { BAD_INSTRUCTION } from './errorPairs.ts';
import {
  type AnyFamily,
  bytes,
  FROM_12,
  FROM_13_UNTIL_14,
  family,
  fixed,
  IN_15,
  len,
  many,
  pad,
  stats,
  struct,
  u8,
  u16,
  u32,
  u64,
} from './schema.ts';

const instruction = { versions: FROM_12, spec: '7.2.4', err: BAD_INSTRUCTION } as const;

export const OFPInstructionGotoTable = struct('OFPInstructionGotoTable', instruction, {
  _type: fixed(2, ofp.OFPIT_GOTO_TABLE, 'type'),
  _len: len('len'),
  table_id: u8(),
  _pad: pad(3),
});
export const OFPInstructionWriteMetadata = struct('OFPInstructionWriteMetadata', instruction, {
  _type: fixed(2, ofp.OFPIT_WRITE_METADATA, 'type'),
  _len: len('len'),
  _pad: pad(4),
  metadata: u64(),
  metadata_mask: u64(),
});
export const OFPInstructionActions = struct(
  'OFPInstructionActions',
  { ...instruction, types: [ofp.OFPIT_WRITE_ACTIONS, ofp.OFPIT_APPLY_ACTIONS, ofp.OFPIT_CLEAR_ACTIONS] },
  { type: u16(), _len: len('len'), _pad: pad(4), actions: many(actions) },
);
export const OFPInstructionMeter = struct(
  'OFPInstructionMeter',
  { ...instruction, versions: FROM_13_UNTIL_14 },
  {
    _type: fixed(2, ofp.OFPIT_METER, 'type'),
    _len: len('len'),
    meter_id: u32(1),
  },
);
/** Asks for statistics whenever one of the thresholds is passed. */
export const OFPInstructionStatTrigger = struct(
  'OFPInstructionStatTrigger',
  { ...instruction, versions: IN_15, spec: '7.2.5' },
  { _type: fixed(2, ofp15.OFPIT_STAT_TRIGGER, 'type'), _len: len('len'), flags: u32(0), thresholds: stats() },
);
export const OFPInstructionExperimenter = struct(
  'OFPInstructionExperimenter',
  { ...instruction, padTo8: 'inside' },
  { _type: fixed(2, ofp.OFPIT_EXPERIMENTER, 'type'), _len: len('len'), experimenter: u32(), data: bytes() },
);
export const OFPInstructionUnknown = struct(
  'OFPInstructionUnknown',
  { ...instruction, padTo8: 'inside' },
  { type: u16(), _len: len('len'), data: bytes() },
);
const allInstructions = family(
  'instruction',
  [
    OFPInstructionGotoTable,
    OFPInstructionWriteMetadata,
    OFPInstructionActions,
    OFPInstructionMeter,
    OFPInstructionStatTrigger,
    OFPInstructionExperimenter,
  ],
  [OFPInstructionUnknown],
  { err: BAD_INSTRUCTION, min: 8, aligned: true },
);

/** The type of the family of instructions: named, so that what is made of it stays short. */
export interface Instructions extends AnyFamily {
  readonly '~m': (typeof allInstructions)['~m'];
}
export const instructions: Instructions = allInstructions;
