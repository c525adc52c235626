/**
 * Constants of OpenFlow 1.2 under the names Ryu's `ofproto_v1_2` gives them: those of 1.3 (constants.ts) without what came
 * with it, and what 1.3 took away or renamed.
 */
import { ofproto_v1_3 } from './constants.ts';

/** What 1.3 brought: names, or how families of names begin. */
const SINCE_13 = [
  'OFPT_MULTIPART_',
  'OFPT_GET_ASYNC_',
  'OFPT_SET_ASYNC',
  'OFPT_METER_MOD',
  'OFPIEH_',
  'OFPIT_METER',
  'OFPAT_PUSH_PBB',
  'OFPAT_POP_PBB',
  'OFP_DEFAULT_PRIORITY',
  'OFPFF_NO_',
  'OFPM_',
  'OFPMC_',
  'OFPMF_',
  'OFPMBT_',
  'OFPMPF_',
  'OFPMP_',
  'OFPTFPT_',
  'ONFMP_',
  'ONFFM',
  'ONFT_',
  'ONF_ET_',
  'ONF_BCT_',
  'ONF_BF_',
  'ONFERR_',
  'OFPET_METER_MOD_FAILED',
  'OFPET_TABLE_FEATURES_FAILED',
  'OFPBRC_BAD_MULTIPART',
  'OFPBRC_MULTIPART_BUFFER_OVERFLOW',
  'OFPMMFC_',
  'OFPTFFC_',
  'OFPHET_',
  'OFPXMT_OFB_MPLS_BOS',
  'OFPXMT_OFB_PBB_ISID',
  'OFPXMT_OFB_TUNNEL_ID',
  'OFPXMT_OFB_IPV6_EXTHDR',
  'OXM_OF_MPLS_BOS',
  'OXM_OF_PBB_ISID',
  'OXM_OF_TUNNEL_ID',
  'OXM_OF_IPV6_EXTHDR',
] as const;
type Since13 = `${(typeof SINCE_13)[number]}${string}`;

function without13<T extends object>(constants: T): Omit<T, Since13> {
  const kept = Object.entries(constants).filter(([name]) => !SINCE_13.some((p) => name.startsWith(p)));
  return Object.fromEntries(kept) as Omit<T, Since13>;
}

/** OpenFlow 1.2 constants, named as in Ryu's `ofproto_v1_2`. OpenFlow 1.2 appendix A. */
export const ofproto_v1_2 = {
  ...without13(ofproto_v1_3),
  OFP_VERSION: 3,
  OFPT_STATS_REQUEST: 18,
  OFPT_STATS_REPLY: 19,
  OFPC_INVALID_TTL_TO_CONTROLLER: 4,
  OFPTC_TABLE_MISS_CONTROLLER: 0,
  OFPTC_TABLE_MISS_CONTINUE: 1,
  OFPTC_TABLE_MISS_DROP: 2,
  OFPTC_TABLE_MISS_MASK: 3,
  OFPSF_REPLY_MORE: 1,
  OFPST_DESC: 0,
  OFPST_FLOW: 1,
  OFPST_AGGREGATE: 2,
  OFPST_TABLE: 3,
  OFPST_PORT: 4,
  OFPST_QUEUE: 5,
  OFPST_GROUP: 6,
  OFPST_GROUP_DESC: 7,
  OFPST_GROUP_FEATURES: 8,
  OFPST_EXPERIMENTER: 0xffff,
  OFPBRC_BAD_STAT: 2,
} as const;
