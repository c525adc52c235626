/**
 * `of13`: one typed factory per class of OpenFlow 1.3, under Ryu's names, each with the type of the objects it makes.
 * Exported as a namespace by index.ts; the declarations are in messages.ts and structs.ts.
 *
 * A factory takes one object of the class's fields and returns a plain object with `cls`; it converts what has several
 * spellings (numbers for 64-bit fields, MAC addresses), the encoder checks what must fit.
 */
import { compiled } from './codec.ts';
import type { Make } from './compile.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import * as M from './messages.ts';
import type { AnyStruct, Factory, Of } from './schema.ts';
import * as S from './structs.ts';

export { OFPMatch } from './oxm.ts';

function factory<D extends AnyStruct>(d: D): Factory<D> {
  return compiled.make.get(d.cls) as Make as unknown as Factory<D>;
}

// ---- messages ------------------------------------------------------------------------------------------------------

/** OpenFlow 1.3.5 §7.5.1. */
export const OFPHello = factory(M.OFPHello);
export type OFPHello = Of<typeof M.OFPHello>;
/** OpenFlow 1.3.5 §7.5.2. */
export const OFPEchoRequest = factory(M.OFPEchoRequest);
export type OFPEchoRequest = Of<typeof M.OFPEchoRequest>;
/** OpenFlow 1.3.5 §7.5.3. */
export const OFPEchoReply = factory(M.OFPEchoReply);
export type OFPEchoReply = Of<typeof M.OFPEchoReply>;
/** OpenFlow 1.3.5 §7.5.4. */
export const OFPExperimenter = factory(M.OFPExperimenter);
export type OFPExperimenter = Of<typeof M.OFPExperimenter>;
/** OpenFlow 1.3.5 §7.4.4. */
export const OFPErrorMsg = factory(M.OFPErrorMsg);
export type OFPErrorMsg = Of<typeof M.OFPErrorMsg>;
/** OpenFlow 1.3.5 §7.3.1. */
export const OFPFeaturesRequest = factory(M.OFPFeaturesRequest);
export type OFPFeaturesRequest = Of<typeof M.OFPFeaturesRequest>;
/** OpenFlow 1.3.5 §7.3.1. */
export const OFPSwitchFeatures = factory(M.OFPSwitchFeatures);
export type OFPSwitchFeatures = Of<typeof M.OFPSwitchFeatures>;
/** OpenFlow 1.3.5 §7.3.2. */
export const OFPGetConfigRequest = factory(M.OFPGetConfigRequest);
export type OFPGetConfigRequest = Of<typeof M.OFPGetConfigRequest>;
/** OpenFlow 1.3.5 §7.3.2. */
export const OFPGetConfigReply = factory(M.OFPGetConfigReply);
export type OFPGetConfigReply = Of<typeof M.OFPGetConfigReply>;
/** OpenFlow 1.3.5 §7.3.2. */
export const OFPSetConfig = factory(M.OFPSetConfig);
export type OFPSetConfig = Of<typeof M.OFPSetConfig>;
/** OpenFlow 1.3.5 §7.3.3. */
export const OFPTableMod = factory(M.OFPTableMod);
export type OFPTableMod = Of<typeof M.OFPTableMod>;
/** OpenFlow 1.3.5 §7.3.4.1. */
export const OFPFlowMod = factory(M.OFPFlowMod);
export type OFPFlowMod = Of<typeof M.OFPFlowMod>;
/** OpenFlow 1.3.5 §7.3.4.2. */
export const OFPGroupMod = factory(M.OFPGroupMod);
export type OFPGroupMod = Of<typeof M.OFPGroupMod>;
/** OpenFlow 1.3.5 §7.3.4.3. */
export const OFPPortMod = factory(M.OFPPortMod);
export type OFPPortMod = Of<typeof M.OFPPortMod>;
/** OpenFlow 1.3.5 §7.3.4.4. */
export const OFPMeterMod = factory(M.OFPMeterMod);
export type OFPMeterMod = Of<typeof M.OFPMeterMod>;
/** OpenFlow 1.3.5 §7.3.7. */
export const OFPPacketOut = factory(M.OFPPacketOut);
export type OFPPacketOut = Of<typeof M.OFPPacketOut>;
/** OpenFlow 1.3.5 §7.3.8. */
export const OFPBarrierRequest = factory(M.OFPBarrierRequest);
export type OFPBarrierRequest = Of<typeof M.OFPBarrierRequest>;
/** OpenFlow 1.3.5 §7.3.8. */
export const OFPBarrierReply = factory(M.OFPBarrierReply);
export type OFPBarrierReply = Of<typeof M.OFPBarrierReply>;
/** OpenFlow 1.3.5 §7.3.9. */
export const OFPRoleRequest = factory(M.OFPRoleRequest);
export type OFPRoleRequest = Of<typeof M.OFPRoleRequest>;
/** OpenFlow 1.3.5 §7.3.9. */
export const OFPRoleReply = factory(M.OFPRoleReply);
export type OFPRoleReply = Of<typeof M.OFPRoleReply>;
/** OpenFlow 1.3.5 §7.3.10. */
export const OFPGetAsyncRequest = factory(M.OFPGetAsyncRequest);
export type OFPGetAsyncRequest = Of<typeof M.OFPGetAsyncRequest>;
/** OpenFlow 1.3.5 §7.3.10. */
export const OFPGetAsyncReply = factory(M.OFPGetAsyncReply);
export type OFPGetAsyncReply = Of<typeof M.OFPGetAsyncReply>;
/** OpenFlow 1.3.5 §7.3.10. */
export const OFPSetAsync = factory(M.OFPSetAsync);
export type OFPSetAsync = Of<typeof M.OFPSetAsync>;
/** OpenFlow 1.3.5 §7.3.6. */
export const OFPQueueGetConfigRequest = factory(M.OFPQueueGetConfigRequest);
export type OFPQueueGetConfigRequest = Of<typeof M.OFPQueueGetConfigRequest>;
/** OpenFlow 1.3.5 §7.3.6. */
export const OFPQueueGetConfigReply = factory(M.OFPQueueGetConfigReply);
export type OFPQueueGetConfigReply = Of<typeof M.OFPQueueGetConfigReply>;
/** OpenFlow 1.3.5 §7.4.1. */
export const OFPPacketIn = factory(M.OFPPacketIn);
export type OFPPacketIn = Of<typeof M.OFPPacketIn>;
/** OpenFlow 1.3.5 §7.4.2. */
export const OFPFlowRemoved = factory(M.OFPFlowRemoved);
export type OFPFlowRemoved = Of<typeof M.OFPFlowRemoved>;
/** OpenFlow 1.3.5 §7.4.3. */
export const OFPPortStatus = factory(M.OFPPortStatus);
export type OFPPortStatus = Of<typeof M.OFPPortStatus>;
/** OpenFlow 1.3.5 §7.3.5.1. */
export const OFPDescStatsRequest = factory(M.OFPDescStatsRequest);
export type OFPDescStatsRequest = Of<typeof M.OFPDescStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.1. */
export const OFPDescStatsReply = factory(M.OFPDescStatsReply);
export type OFPDescStatsReply = Of<typeof M.OFPDescStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.2. */
export const OFPFlowStatsRequest = factory(M.OFPFlowStatsRequest);
export type OFPFlowStatsRequest = Of<typeof M.OFPFlowStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.2. */
export const OFPFlowStatsReply = factory(M.OFPFlowStatsReply);
export type OFPFlowStatsReply = Of<typeof M.OFPFlowStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.3. */
export const OFPAggregateStatsRequest = factory(M.OFPAggregateStatsRequest);
export type OFPAggregateStatsRequest = Of<typeof M.OFPAggregateStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.3. */
export const OFPAggregateStatsReply = factory(M.OFPAggregateStatsReply);
export type OFPAggregateStatsReply = Of<typeof M.OFPAggregateStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.4. */
export const OFPTableStatsRequest = factory(M.OFPTableStatsRequest);
export type OFPTableStatsRequest = Of<typeof M.OFPTableStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.4. */
export const OFPTableStatsReply = factory(M.OFPTableStatsReply);
export type OFPTableStatsReply = Of<typeof M.OFPTableStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.6. */
export const OFPPortStatsRequest = factory(M.OFPPortStatsRequest);
export type OFPPortStatsRequest = Of<typeof M.OFPPortStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.6. */
export const OFPPortStatsReply = factory(M.OFPPortStatsReply);
export type OFPPortStatsReply = Of<typeof M.OFPPortStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.8. */
export const OFPQueueStatsRequest = factory(M.OFPQueueStatsRequest);
export type OFPQueueStatsRequest = Of<typeof M.OFPQueueStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.8. */
export const OFPQueueStatsReply = factory(M.OFPQueueStatsReply);
export type OFPQueueStatsReply = Of<typeof M.OFPQueueStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.9. */
export const OFPGroupStatsRequest = factory(M.OFPGroupStatsRequest);
export type OFPGroupStatsRequest = Of<typeof M.OFPGroupStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.9. */
export const OFPGroupStatsReply = factory(M.OFPGroupStatsReply);
export type OFPGroupStatsReply = Of<typeof M.OFPGroupStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.10. */
export const OFPGroupDescStatsRequest = factory(M.OFPGroupDescStatsRequest);
export type OFPGroupDescStatsRequest = Of<typeof M.OFPGroupDescStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.10. */
export const OFPGroupDescStatsReply = factory(M.OFPGroupDescStatsReply);
export type OFPGroupDescStatsReply = Of<typeof M.OFPGroupDescStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.11. */
export const OFPGroupFeaturesStatsRequest = factory(M.OFPGroupFeaturesStatsRequest);
export type OFPGroupFeaturesStatsRequest = Of<typeof M.OFPGroupFeaturesStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.11. */
export const OFPGroupFeaturesStatsReply = factory(M.OFPGroupFeaturesStatsReply);
export type OFPGroupFeaturesStatsReply = Of<typeof M.OFPGroupFeaturesStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.12. */
export const OFPMeterStatsRequest = factory(M.OFPMeterStatsRequest);
export type OFPMeterStatsRequest = Of<typeof M.OFPMeterStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.12. */
export const OFPMeterStatsReply = factory(M.OFPMeterStatsReply);
export type OFPMeterStatsReply = Of<typeof M.OFPMeterStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.13. */
export const OFPMeterConfigStatsRequest = factory(M.OFPMeterConfigStatsRequest);
export type OFPMeterConfigStatsRequest = Of<typeof M.OFPMeterConfigStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.13. */
export const OFPMeterConfigStatsReply = factory(M.OFPMeterConfigStatsReply);
export type OFPMeterConfigStatsReply = Of<typeof M.OFPMeterConfigStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.14. */
export const OFPMeterFeaturesStatsRequest = factory(M.OFPMeterFeaturesStatsRequest);
export type OFPMeterFeaturesStatsRequest = Of<typeof M.OFPMeterFeaturesStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.14. */
export const OFPMeterFeaturesStatsReply = factory(M.OFPMeterFeaturesStatsReply);
export type OFPMeterFeaturesStatsReply = Of<typeof M.OFPMeterFeaturesStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.5. */
export const OFPTableFeaturesStatsRequest = factory(M.OFPTableFeaturesStatsRequest);
export type OFPTableFeaturesStatsRequest = Of<typeof M.OFPTableFeaturesStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.5. */
export const OFPTableFeaturesStatsReply = factory(M.OFPTableFeaturesStatsReply);
export type OFPTableFeaturesStatsReply = Of<typeof M.OFPTableFeaturesStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.7. */
export const OFPPortDescStatsRequest = factory(M.OFPPortDescStatsRequest);
export type OFPPortDescStatsRequest = Of<typeof M.OFPPortDescStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.7. */
export const OFPPortDescStatsReply = factory(M.OFPPortDescStatsReply);
export type OFPPortDescStatsReply = Of<typeof M.OFPPortDescStatsReply>;
/** OpenFlow 1.3.5 §7.3.5.16. */
export const OFPExperimenterStatsRequest = factory(M.OFPExperimenterStatsRequest);
export type OFPExperimenterStatsRequest = Of<typeof M.OFPExperimenterStatsRequest>;
/** OpenFlow 1.3.5 §7.3.5.16. */
export const OFPExperimenterStatsReply = factory(M.OFPExperimenterStatsReply);
export type OFPExperimenterStatsReply = Of<typeof M.OFPExperimenterStatsReply>;
/** OpenFlow 1.3.5 §7.1. */
export const OFPUnknownMessage = factory(M.OFPUnknownMessage);
export type OFPUnknownMessage = Of<typeof M.OFPUnknownMessage>;
/** OpenFlow 1.3.5 §7.3.5. */
export const OFPMultipartRequestUnknown = factory(M.OFPMultipartRequestUnknown);
export type OFPMultipartRequestUnknown = Of<typeof M.OFPMultipartRequestUnknown>;
/** OpenFlow 1.3.5 §7.3.5. */
export const OFPMultipartReplyUnknown = factory(M.OFPMultipartReplyUnknown);
export type OFPMultipartReplyUnknown = Of<typeof M.OFPMultipartReplyUnknown>;

/** An OFPErrorMsg of experimenter type, as Ryu's function of that name makes it. OpenFlow 1.3.5 §7.4.4. */
export function OFPErrorExperimenterMsg(init: {
  readonly exp_type: number;
  readonly experimenter: number;
  readonly data?: Uint8Array | undefined;
  readonly xid?: number | undefined;
}): OFPErrorMsg {
  return OFPErrorMsg({ ...init, type: ofp.OFPET_EXPERIMENTER });
}

/** What `flowDelete` takes: the fields of an OFPFlowMod that filter, and whether to delete strictly. */
export type FlowDeleteInit = Omit<NonNullable<Parameters<typeof OFPFlowMod>[0]>, 'command' | 'instructions'> & {
  /** OFPFC_DELETE_STRICT (match and priority must be equal) in place of OFPFC_DELETE. */
  readonly strict?: boolean | undefined;
};

/**
 * An OFPFlowMod that deletes flows. Unlike OFPFlowMod, whose `out_port` and `out_group` are 0 as in Ryu and so filter
 * by port 0, it filters by nothing that was not asked for; all tables when `table_id` is left out and `strict` is not
 * set. OpenFlow 1.3.5 §7.3.4.1.
 */
export function flowDelete(init: FlowDeleteInit = {}): OFPFlowMod {
  const { strict = false, ...rest } = init;
  return OFPFlowMod({
    ...rest,
    out_port: rest.out_port ?? ofp.OFPP_ANY,
    out_group: rest.out_group ?? ofp.OFPG_ANY,
    table_id: rest.table_id ?? (strict ? 0 : ofp.OFPTT_ALL),
    command: strict ? ofp.OFPFC_DELETE_STRICT : ofp.OFPFC_DELETE,
  });
}

// ---- structures ----------------------------------------------------------------------------------------------------

/** OpenFlow 1.3.5 §7.5.1. */
export const OFPHelloElemVersionBitmap = factory(S.OFPHelloElemVersionBitmap);
export type OFPHelloElemVersionBitmap = Of<typeof S.OFPHelloElemVersionBitmap>;
/** OpenFlow 1.3.5 §7.5.1. */
export const OFPHelloElemUnknown = factory(S.OFPHelloElemUnknown);
export type OFPHelloElemUnknown = Of<typeof S.OFPHelloElemUnknown>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionOutput = factory(S.OFPActionOutput);
export type OFPActionOutput = Of<typeof S.OFPActionOutput>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionGroup = factory(S.OFPActionGroup);
export type OFPActionGroup = Of<typeof S.OFPActionGroup>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionSetQueue = factory(S.OFPActionSetQueue);
export type OFPActionSetQueue = Of<typeof S.OFPActionSetQueue>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionSetMplsTtl = factory(S.OFPActionSetMplsTtl);
export type OFPActionSetMplsTtl = Of<typeof S.OFPActionSetMplsTtl>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionSetNwTtl = factory(S.OFPActionSetNwTtl);
export type OFPActionSetNwTtl = Of<typeof S.OFPActionSetNwTtl>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionDecMplsTtl = factory(S.OFPActionDecMplsTtl);
export type OFPActionDecMplsTtl = Of<typeof S.OFPActionDecMplsTtl>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionDecNwTtl = factory(S.OFPActionDecNwTtl);
export type OFPActionDecNwTtl = Of<typeof S.OFPActionDecNwTtl>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionCopyTtlOut = factory(S.OFPActionCopyTtlOut);
export type OFPActionCopyTtlOut = Of<typeof S.OFPActionCopyTtlOut>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionCopyTtlIn = factory(S.OFPActionCopyTtlIn);
export type OFPActionCopyTtlIn = Of<typeof S.OFPActionCopyTtlIn>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionPopVlan = factory(S.OFPActionPopVlan);
export type OFPActionPopVlan = Of<typeof S.OFPActionPopVlan>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionPopPbb = factory(S.OFPActionPopPbb);
export type OFPActionPopPbb = Of<typeof S.OFPActionPopPbb>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionPushVlan = factory(S.OFPActionPushVlan);
export type OFPActionPushVlan = Of<typeof S.OFPActionPushVlan>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionPushMpls = factory(S.OFPActionPushMpls);
export type OFPActionPushMpls = Of<typeof S.OFPActionPushMpls>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionPushPbb = factory(S.OFPActionPushPbb);
export type OFPActionPushPbb = Of<typeof S.OFPActionPushPbb>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionPopMpls = factory(S.OFPActionPopMpls);
export type OFPActionPopMpls = Of<typeof S.OFPActionPopMpls>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionExperimenterUnknown = factory(S.OFPActionExperimenterUnknown);
export type OFPActionExperimenterUnknown = Of<typeof S.OFPActionExperimenterUnknown>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionUnknown = factory(S.OFPActionUnknown);
export type OFPActionUnknown = Of<typeof S.OFPActionUnknown>;
/** OpenFlow 1.3.5 §7.2.5. */
export const OFPActionSetField = factory(S.OFPActionSetField);
export type OFPActionSetField = Of<typeof S.OFPActionSetField>;
/** OpenFlow 1.3.5 §7.2.4. */
export const OFPInstructionGotoTable = factory(S.OFPInstructionGotoTable);
export type OFPInstructionGotoTable = Of<typeof S.OFPInstructionGotoTable>;
/** OpenFlow 1.3.5 §7.2.4. */
export const OFPInstructionWriteMetadata = factory(S.OFPInstructionWriteMetadata);
export type OFPInstructionWriteMetadata = Of<typeof S.OFPInstructionWriteMetadata>;
/** OpenFlow 1.3.5 §7.2.4. */
export const OFPInstructionActions = factory(S.OFPInstructionActions);
export type OFPInstructionActions = Of<typeof S.OFPInstructionActions>;
/** OpenFlow 1.3.5 §7.2.4. */
export const OFPInstructionMeter = factory(S.OFPInstructionMeter);
export type OFPInstructionMeter = Of<typeof S.OFPInstructionMeter>;
/** OpenFlow 1.3.5 §7.2.4. */
export const OFPInstructionExperimenter = factory(S.OFPInstructionExperimenter);
export type OFPInstructionExperimenter = Of<typeof S.OFPInstructionExperimenter>;
/** OpenFlow 1.3.5 §7.2.4. */
export const OFPInstructionUnknown = factory(S.OFPInstructionUnknown);
export type OFPInstructionUnknown = Of<typeof S.OFPInstructionUnknown>;
/** OpenFlow 1.3.5 §7.3.4.2. */
export const OFPBucket = factory(S.OFPBucket);
export type OFPBucket = Of<typeof S.OFPBucket>;
/** OpenFlow 1.3.5 §7.3.5.9. */
export const OFPBucketCounter = factory(S.OFPBucketCounter);
export type OFPBucketCounter = Of<typeof S.OFPBucketCounter>;
/** OpenFlow 1.3.5 §7.3.5.9. */
export const OFPGroupStats = factory(S.OFPGroupStats);
export type OFPGroupStats = Of<typeof S.OFPGroupStats>;
/** OpenFlow 1.3.5 §7.3.5.10. */
export const OFPGroupDescStats = factory(S.OFPGroupDescStats);
export type OFPGroupDescStats = Of<typeof S.OFPGroupDescStats>;
/** OpenFlow 1.3.5 §7.3.5.11. */
export const OFPGroupFeaturesStats = factory(S.OFPGroupFeaturesStats);
export type OFPGroupFeaturesStats = Of<typeof S.OFPGroupFeaturesStats>;
/** OpenFlow 1.3.5 §7.3.4.4. */
export const OFPMeterBandDrop = factory(S.OFPMeterBandDrop);
export type OFPMeterBandDrop = Of<typeof S.OFPMeterBandDrop>;
/** OpenFlow 1.3.5 §7.3.4.4. */
export const OFPMeterBandDscpRemark = factory(S.OFPMeterBandDscpRemark);
export type OFPMeterBandDscpRemark = Of<typeof S.OFPMeterBandDscpRemark>;
/** OpenFlow 1.3.5 §7.3.4.4. */
export const OFPMeterBandExperimenter = factory(S.OFPMeterBandExperimenter);
export type OFPMeterBandExperimenter = Of<typeof S.OFPMeterBandExperimenter>;
/** OpenFlow 1.3.5 §7.3.4.4. */
export const OFPMeterBandUnknown = factory(S.OFPMeterBandUnknown);
export type OFPMeterBandUnknown = Of<typeof S.OFPMeterBandUnknown>;
/** OpenFlow 1.3.5 §7.3.5.12. */
export const OFPMeterBandStats = factory(S.OFPMeterBandStats);
export type OFPMeterBandStats = Of<typeof S.OFPMeterBandStats>;
/** OpenFlow 1.3.5 §7.3.5.12. */
export const OFPMeterStats = factory(S.OFPMeterStats);
export type OFPMeterStats = Of<typeof S.OFPMeterStats>;
/** OpenFlow 1.3.5 §7.3.5.13. */
export const OFPMeterConfigStats = factory(S.OFPMeterConfigStats);
export type OFPMeterConfigStats = Of<typeof S.OFPMeterConfigStats>;
/** OpenFlow 1.3.5 §7.3.5.14. */
export const OFPMeterFeaturesStats = factory(S.OFPMeterFeaturesStats);
export type OFPMeterFeaturesStats = Of<typeof S.OFPMeterFeaturesStats>;
/** OpenFlow 1.3.5 §7.2.1. */
export const OFPPort = factory(S.OFPPort);
export type OFPPort = Of<typeof S.OFPPort>;
/** OpenFlow 1.3.5 §7.3.5.6. */
export const OFPPortStats = factory(S.OFPPortStats);
export type OFPPortStats = Of<typeof S.OFPPortStats>;
/** OpenFlow 1.3.5 §7.3.5.8. */
export const OFPQueueStats = factory(S.OFPQueueStats);
export type OFPQueueStats = Of<typeof S.OFPQueueStats>;
/** OpenFlow 1.3.5 §7.2.2. */
export const OFPQueuePropMinRate = factory(S.OFPQueuePropMinRate);
export type OFPQueuePropMinRate = Of<typeof S.OFPQueuePropMinRate>;
/** OpenFlow 1.3.5 §7.2.2. */
export const OFPQueuePropMaxRate = factory(S.OFPQueuePropMaxRate);
export type OFPQueuePropMaxRate = Of<typeof S.OFPQueuePropMaxRate>;
/** OpenFlow 1.3.5 §7.2.2. */
export const OFPQueuePropExperimenter = factory(S.OFPQueuePropExperimenter);
export type OFPQueuePropExperimenter = Of<typeof S.OFPQueuePropExperimenter>;
/** OpenFlow 1.3.5 §7.2.2. */
export const OFPQueuePropUnknown = factory(S.OFPQueuePropUnknown);
export type OFPQueuePropUnknown = Of<typeof S.OFPQueuePropUnknown>;
/** OpenFlow 1.3.5 §7.2.2. */
export const OFPPacketQueue = factory(S.OFPPacketQueue);
export type OFPPacketQueue = Of<typeof S.OFPPacketQueue>;
/** OpenFlow 1.3.5 §7.3.5.1. */
export const OFPDescStats = factory(S.OFPDescStats);
export type OFPDescStats = Of<typeof S.OFPDescStats>;
/** OpenFlow 1.3.5 §7.3.5.2. */
export const OFPFlowStats = factory(S.OFPFlowStats);
export type OFPFlowStats = Of<typeof S.OFPFlowStats>;
/** OpenFlow 1.3.5 §7.3.5.3. */
export const OFPAggregateStats = factory(S.OFPAggregateStats);
export type OFPAggregateStats = Of<typeof S.OFPAggregateStats>;
/** OpenFlow 1.3.5 §7.3.5.4. */
export const OFPTableStats = factory(S.OFPTableStats);
export type OFPTableStats = Of<typeof S.OFPTableStats>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPInstructionId = factory(S.OFPInstructionId);
export type OFPInstructionId = Of<typeof S.OFPInstructionId>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPActionId = factory(S.OFPActionId);
export type OFPActionId = Of<typeof S.OFPActionId>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPOxmId = factory(S.OFPOxmId);
export type OFPOxmId = Of<typeof S.OFPOxmId>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPExperimenterOxmId = factory(S.OFPExperimenterOxmId);
export type OFPExperimenterOxmId = Of<typeof S.OFPExperimenterOxmId>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPTableFeaturePropInstructions = factory(S.OFPTableFeaturePropInstructions);
export type OFPTableFeaturePropInstructions = Of<typeof S.OFPTableFeaturePropInstructions>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPTableFeaturePropNextTables = factory(S.OFPTableFeaturePropNextTables);
export type OFPTableFeaturePropNextTables = Of<typeof S.OFPTableFeaturePropNextTables>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPTableFeaturePropActions = factory(S.OFPTableFeaturePropActions);
export type OFPTableFeaturePropActions = Of<typeof S.OFPTableFeaturePropActions>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPTableFeaturePropOxm = factory(S.OFPTableFeaturePropOxm);
export type OFPTableFeaturePropOxm = Of<typeof S.OFPTableFeaturePropOxm>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPTableFeaturePropExperimenter = factory(S.OFPTableFeaturePropExperimenter);
export type OFPTableFeaturePropExperimenter = Of<typeof S.OFPTableFeaturePropExperimenter>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPTableFeaturePropUnknown = factory(S.OFPTableFeaturePropUnknown);
export type OFPTableFeaturePropUnknown = Of<typeof S.OFPTableFeaturePropUnknown>;
/** OpenFlow 1.3.5 §7.3.5.5.2. */
export const OFPTableFeaturesStats = factory(S.OFPTableFeaturesStats);
export type OFPTableFeaturesStats = Of<typeof S.OFPTableFeaturesStats>;
/** OpenFlow 1.3.5 §7.3.5.16. */
export const OFPExperimenterMultipart = factory(S.OFPExperimenterMultipart);
export type OFPExperimenterMultipart = Of<typeof S.OFPExperimenterMultipart>;

// ---- unions --------------------------------------------------------------------------------------------------------

/** Any action. OpenFlow 1.3.5 §7.2.5. */
export type OFPAction = Of<typeof S.actions>;
/** Any instruction. OpenFlow 1.3.5 §7.2.4. */
export type OFPInstruction = Of<typeof S.instructions>;
/** Any meter band. OpenFlow 1.3.5 §7.3.4.4. */
export type OFPMeterBand = Of<typeof S.meterBands>;
