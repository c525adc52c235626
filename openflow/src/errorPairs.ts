/**
 * The errors with which peers are told that a part of a message cannot be: type and code, as declarations (schema.ts has their
 * language) name them. The numbers are the same in every version that has them. OpenFlow 1.3.5 §7.4.4, 1.4.1 §7.5.4.
 */
import { ofproto_v1_3 as ofp } from './constants.ts';
import { ofproto_v1_4 as ofp14 } from './constants14.ts';

export const BAD_REQUEST = [ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_LEN] as const;
export const BAD_ACTION = [ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_LEN] as const;
export const BAD_INSTRUCTION = [ofp.OFPET_BAD_INSTRUCTION, ofp.OFPBIC_BAD_LEN] as const;
export const BAD_BAND = [ofp.OFPET_METER_MOD_FAILED, ofp.OFPMMFC_BAD_BAND] as const;
export const BAD_FEATURES = [ofp.OFPET_TABLE_FEATURES_FAILED, ofp.OFPTFFC_BAD_LEN] as const;
/** From 1.4 on, of any property. */
export const BAD_PROPERTY = [ofp14.OFPET_BAD_PROPERTY, ofp14.OFPBPC_BAD_LEN] as const;
