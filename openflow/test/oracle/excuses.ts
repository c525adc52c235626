/**
 * What os-ken cannot be asked, by version and class, each with the reason. differential.ts skips these, and the coverage
 * table (../coverage.ts) prints them. An excuse for a class that os-ken does well is an error.
 */
import type { Version } from '../../src/schema.ts';

export interface Excuses {
  /** Classes os-ken has a parser for that does not do. */
  readonly reads: Readonly<Record<string, string>>;
  /** Classes os-ken has a serialiser for that does not do. */
  readonly writes: Readonly<Record<string, string>>;
  /** Classes of ours that os-ken has neither parser nor serialiser for. */
  readonly neither: Readonly<Record<string, string>>;
  /** Classes of os-ken's that are not messages of the version, and so are not here. */
  readonly notOurs: Readonly<Record<string, string>>;
}

const DROPPED = 'a class of ours for what os-ken drops';
const ours = {
  OFPUnknownMessage: DROPPED,
  OFPMultipartRequestUnknown: DROPPED,
  OFPMultipartReplyUnknown: DROPPED,
};

const none: Excuses = { reads: {}, writes: {}, neither: ours, notOurs: {} };

const NAMES = 'os-ken fails on the name it has decoded from JSON, and writes 0 for the lengths of OXM ids';
const NICIRA = { NXTPacketIn2: 'not declared yet', NXTSetPacketInFormatMsg: 'not declared yet' };
const later: Excuses = { ...none, notOurs: NICIRA, writes: { OFPTableFeaturesStatsRequest: NAMES } };

export const EXCUSES: Readonly<Record<Version, Excuses>> = {
  1: {
    ...none,
    notOurs: {
      NXAggregateStatsRequest: 'not declared yet',
      NXFlowStatsRequest: 'not declared yet',
      NXTFlowAge: 'not declared yet',
      NXTFlowMod: 'not declared yet',
      NXTFlowModTableId: 'not declared yet',
      NXTFlowRemoved: 'not declared yet',
      NXTPacketIn: 'not declared yet',
      NXTRoleReply: 'not declared yet',
      NXTRoleRequest: 'not declared yet',
      NXTSetAsyncConfig: 'not declared yet',
      NXTSetControllerId: 'not declared yet',
      NXTSetFlowFormat: 'not declared yet',
      NXTSetPacketInFormat: 'not declared yet',
    },
    writes: { OFPVendor: 'os-ken has nowhere to put its data' },
  },
  3: {
    ...none,
    neither: {
      ...ours,
      OFPExperimenterStatsRequest: 'os-ken has no class for it in 1.2',
      OFPExperimenterStatsReply: 'os-ken has no class for it in 1.2',
    },
  },
  4: {
    ...none,
    notOurs: NICIRA,
    neither: {
      ...ours,
      ONFFlowMonitorStatsReply: 'os-ken reads it as OFPExperimenterStatsReply',
      ONFFlowMonitorCancel: 'os-ken reads it as OFPExperimenter',
      ONFFlowMonitorPaused: 'os-ken reads it as OFPExperimenter',
      ONFFlowMonitorResumed: 'os-ken reads it as OFPExperimenter',
    },
    writes: {
      ONFBundleCtrlMsg: 'os-ken does not take its own JSON',
      ONFBundleAddMsg: 'os-ken does not take its own JSON',
      OFPTableFeaturesStatsRequest: NAMES,
    },
  },
  5: later,
  6: later,
};
