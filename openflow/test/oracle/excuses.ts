/**
 * What os-ken cannot be asked, by version and class, each with the reason. differential.ts skips these, and the coverage
 * table (../tools/coverage.ts) prints them. An excuse for a class that os-ken does well is an error.
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

/** Nicira's messages in versions from 1.2 on. */
const RAW = 'os-ken reads it as OFPExperimenter';
const RAW_STATS = 'os-ken reads it as an experimenter’s statistics';
const nicira = {
  NXTSetFlowFormat: RAW,
  NXTFlowModTableId: RAW,
  NXTFlowMod: RAW,
  NXTRoleRequest: RAW,
  NXTRoleReply: RAW,
  NXTFlowAge: RAW,
  NXTSetAsyncConfig: RAW,
  NXTSetControllerId: RAW,
  NXTFlowMonitorCancel: RAW,
  NXTCtFlushZone: RAW,
  NXTTlvTableMod: RAW,
  NXTTlvTableRequest: RAW,
  NXTTlvTableReply: RAW,
  NXTFlowRemoved: RAW,
  NXTPacketIn: RAW,
  NXTFlowMonitorPaused: RAW,
  NXTFlowMonitorResumed: RAW,
  NXTResume: RAW,
  NXIpfixBridgeStatsRequest: RAW_STATS,
  NXIpfixBridgeStatsReply: RAW_STATS,
  NXIpfixFlowStatsRequest: RAW_STATS,
  NXIpfixFlowStatsReply: RAW_STATS,
};
/** The same in 1.0. */
const VENDOR = 'os-ken has no class for it';
const byVendor = {
  NXTFlowMonitorCancel: VENDOR,
  NXTCtFlushZone: VENDOR,
  NXTTlvTableMod: VENDOR,
  NXTTlvTableRequest: VENDOR,
  NXTTlvTableReply: VENDOR,
  NXTFlowMonitorPaused: VENDOR,
  NXTFlowMonitorResumed: VENDOR,
  NXTPacketIn2: VENDOR,
  NXTResume: VENDOR,
  NXFlowMonitorStatsRequest: VENDOR,
  NXFlowMonitorStatsReply: VENDOR,
  NXIpfixBridgeStatsRequest: VENDOR,
  NXIpfixBridgeStatsReply: VENDOR,
  NXIpfixFlowStatsRequest: VENDOR,
  NXIpfixFlowStatsReply: VENDOR,
  NXFlowStatsReply: 'os-ken reads it inside OFPStatsReply; its match has no JSON',
  NXAggregateStatsReply: 'os-ken reads it inside OFPStatsReply: openflow-os-ken-nicira.test.ts compares it',
};
const niciraMonitors = { NXFlowMonitorStatsRequest: RAW_STATS, NXFlowMonitorStatsReply: RAW_STATS };
const OWN_JSON = 'os-ken does not take its own JSON';
const NO_MATCH = 'os-ken’s match of Nicira’s has no JSON';
const niciraOf10 = {
  NXTSetFlowFormat: OWN_JSON,
  NXTFlowModTableId: OWN_JSON,
  NXTFlowMod: NO_MATCH,
  NXTRoleRequest: OWN_JSON,
  NXTRoleReply: OWN_JSON,
  NXTSetPacketInFormat: OWN_JSON,
  NXTFlowAge: OWN_JSON,
  NXTSetAsyncConfig: OWN_JSON,
  NXTSetControllerId: OWN_JSON,
  NXTFlowRemoved: NO_MATCH,
  NXTPacketIn: NO_MATCH,
  NXFlowStatsRequest: NO_MATCH,
  NXAggregateStatsRequest: NO_MATCH,
};
const niciraWrites = { NXTPacketIn2: OWN_JSON, NXTSetPacketInFormatMsg: OWN_JSON };
const later: Excuses = {
  ...none,
  neither: { ...ours, ...nicira },
  writes: { ...niciraWrites, OFPTableFeaturesStatsRequest: NAMES },
};

export const EXCUSES: Readonly<Record<Version, Excuses>> = {
  1: {
    ...none,
    neither: {
      ...ours,
      ...byVendor,
    },
    writes: {
      ...niciraOf10,
      OFPVendor: 'os-ken has nowhere to put its data',
    },
  },
  3: {
    ...none,
    neither: {
      ...ours,
      ...nicira,
      ...niciraMonitors,
      NXTSetPacketInFormat: RAW,
      NXTPacketIn2: RAW,
      OFPExperimenterStatsRequest: 'os-ken has no class for it in 1.2',
      OFPExperimenterStatsReply: 'os-ken has no class for it in 1.2',
    },
  },
  4: {
    ...none,
    neither: {
      ...ours,
      ...nicira,
      ...niciraMonitors,
      ONFFlowMonitorStatsReply: 'os-ken reads it as OFPExperimenterStatsReply',
      ONFFlowMonitorCancel: 'os-ken reads it as OFPExperimenter',
      ONFFlowMonitorPaused: 'os-ken reads it as OFPExperimenter',
      ONFFlowMonitorResumed: 'os-ken reads it as OFPExperimenter',
    },
    writes: {
      ...niciraWrites,
      ONFBundleCtrlMsg: OWN_JSON,
      ONFBundleAddMsg: OWN_JSON,
      OFPTableFeaturesStatsRequest: NAMES,
    },
  },
  5: later,
  6: later,
};
