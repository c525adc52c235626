/**
 * Numbers and addresses as text for `print.ts`: which field is a constant, a set of flags, a port or an identifier, and how each is shown.
 */
import { namesOf } from './names.ts';

/** Any decoded object. */
export interface Obj {
  readonly cls: string;
  readonly [field: string]: unknown;
}

const VERSION_NAMES: Readonly<Record<number, string>> = {
  1: 'OF1.0',
  2: 'OF1.1',
  3: 'OF1.2',
  4: 'OF1.3',
  5: 'OF1.4',
  6: 'OF1.5',
};

/** `OF1.3` for 4. */
export function versionName(version: number): string {
  return VERSION_NAMES[version] ?? `version ${version}`;
}

export function hex(v: number | bigint): string {
  return `0x${v.toString(16)}`;
}

export function hex4(v: number): string {
  return `0x${v.toString(16).padStart(4, '0')}`;
}

/** `IDLE_TIMEOUT`, or the number. */
export function symbol(version: number, prefix: string, v: number): string {
  return namesOf(version, prefix).get(v) ?? String(v);
}

/** `SEND_FLOW_REM|0x40`; 0 when there is none. */
export function flags(version: number, prefix: string, v: number): string {
  let rest = v;
  const out: string[] = [];
  for (const [bit, name] of namesOf(version, prefix)) {
    // bits only: not the values of a field within the flags
    if (bit === 0 || (bit & (bit - 1)) !== 0 || (rest & bit) === 0) continue;
    out.push(name);
    rest = (rest & ~bit) >>> 0;
  }
  if (rest !== 0) out.push(hex(rest));
  return out.length === 0 ? '0' : out.join('|');
}

/** `DROP|DSCP_REMARK` for bits 1 and 2. */
function ordinals(version: number, prefix: string, v: number): string {
  const names = namesOf(version, prefix);
  const out: string[] = [];
  for (let i = 0; i < 32; i++) if (((v >>> i) & 1) !== 0) out.push(names.get(i) ?? String(i));
  return out.length === 0 ? '0' : out.join('|');
}

export function port(version: number, v: unknown): string {
  if (typeof v !== 'number') return String(v);
  const reserved = version === 1 ? v >= 0xff00 : v >= 0xffffff00;
  return reserved ? symbol(version, 'OFPP_', v) : String(v);
}

/**
 * What the numbers of a field are: constants of which prefix, one of them or flags, or bits whose places are constants;
 * ports; hexadecimal.
 */
type Meaning = { one: string } | { bits: string } | { ordinals: string } | 'port' | 'hex';

/** By `class.field` or by field. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  port_no: 'port',
  in_port: 'port',
  out_port: 'port',
  watch_port: 'port',
  port: 'port',
  cookie: 'hex',
  cookie_mask: 'hex',
  datapath_id: 'hex',
  metadata: 'hex',
  metadata_mask: 'hex',
  metadata_match: 'hex',
  metadata_write: 'hex',
  experimenter: 'hex',
  vendor: 'hex',
  exp_type: 'hex',
  exp_id: 'hex',
  ethertype: 'hex',
  flags: 'hex',
  buffer_id: { one: 'OFP_NO_BUFFER' },
  out_group: { one: 'OFPG_' },
  watch_group: { one: 'OFPG_' },
  group_id: { one: 'OFPG_' },
  queue_id: { one: 'OFPQ_' },
  meter_id: { one: 'OFPM_' },
  table_id: { one: 'OFPTT_' },
  role: { one: 'OFPCR_ROLE_' },
  curr: { bits: 'OFPPF_' },
  advertised: { bits: 'OFPPF_' },
  advertise: { bits: 'OFPPF_' },
  supported: { bits: 'OFPPF_' },
  peer: { bits: 'OFPPF_' },
  state: { bits: 'OFPPS_' },
  config: { bits: 'OFPPC_' },
  'OFPPortMod.mask': { bits: 'OFPPC_' },
  'OFPTableMod.config': { bits: 'OFPTC_' },
  'OFPTableStats.config': { bits: 'OFPTC_' },
  'OFPTableFeaturesStats.config': { bits: 'OFPTC_' },
  'OFPTableDesc.config': { bits: 'OFPTC_' },
  'OFPSwitchFeatures.capabilities': { bits: 'OFPC_' },
  'OFPSwitchFeatures.actions': { ordinals: 'OFPAT_' },
  'OFPGroupFeaturesStats.types': { ordinals: 'OFPGT_' },
  'OFPGroupFeaturesStats.actions': { ordinals: 'OFPAT_' },
  'OFPMeterFeaturesStats.band_types': { ordinals: 'OFPMBT_' },
  'OFPGroupFeaturesStats.capabilities': { bits: 'OFPGFC_' },
  'OFPMeterFeaturesStats.capabilities': { bits: 'OFPMF_' },
  'OFPGetConfigReply.flags': { one: 'OFPC_FRAG_' },
  'OFPSetConfig.flags': { one: 'OFPC_FRAG_' },
  'OFPGroupMod.command': { one: 'OFPGC_' },
  'OFPGroupMod.type': { one: 'OFPGT_' },
  'OFPGroupDescStats.type': { one: 'OFPGT_' },
  'OFPMeterMod.command': { one: 'OFPMC_' },
  'OFPMeterMod.flags': { bits: 'OFPMF_' },
  'OFPMeterConfigStats.flags': { bits: 'OFPMF_' },
  'OFPMeterDescStats.flags': { bits: 'OFPMF_' },
  'OFPPacketIn.reason': { one: 'OFPR_' },
  'OFPFlowRemoved.reason': { one: 'OFPRR_' },
  'OFPPortStatus.reason': { one: 'OFPPR_' },
  'OFPRoleStatus.reason': { one: 'OFPCRR_' },
  'OFPTableStatus.reason': { one: 'OFPTR_' },
  'OFPControllerStatusStats.reason': { one: 'OFPCSR_' },
  'OFPControllerStatusStats.channel_status': { one: 'OFPCT_STATUS_' },
  'OFPBundleCtrlMsg.type': { one: 'OFPBCT_' },
  'OFPBundleCtrlMsg.flags': { bits: 'OFPBF_' },
  'OFPBundleAddMsg.flags': { bits: 'OFPBF_' },
  'OFPFlowMonitorRequest.command': { one: 'OFPFMC_' },
  'OFPFlowMonitorRequest.flags': { bits: 'OFPFMF_' },
  'OFPFlowStats.flags': { bits: 'OFPFF_' },
  'OFPFlowUpdateFull.event': { one: 'OFPFME_' },
  'OFPFlowUpdateAbbrev.event': { one: 'OFPFME_' },
  'OFPFlowUpdatePaused.event': { one: 'OFPFME_' },
  'OFPTableFeaturePropInstructions.type': { one: 'OFPTFPT_' },
  'OFPTableFeaturePropNextTables.type': { one: 'OFPTFPT_' },
  'OFPTableFeaturePropActions.type': { one: 'OFPTFPT_' },
  'OFPTableFeaturePropOxm.type': { one: 'OFPTFPT_' },
  'OFPTableFeaturePropOxmValues.type': { one: 'OFPTFPT_' },
  'OFPTableFeaturePropExperimenter.type': { one: 'OFPTFPT_' },
  'OFPInstructionId.type': { one: 'OFPIT_' },
  'OFPActionId.type': { one: 'OFPAT_' },
};

export function numberText(cls: string, field: string, v: number | bigint, version: number): string {
  const meaning = MEANINGS[`${cls}.${field}`] ?? MEANINGS[field];
  if (meaning === 'hex') return hex(v);
  if (meaning === undefined || typeof v === 'bigint') return v.toString();
  if (meaning === 'port') return port(version, v);
  if ('bits' in meaning) return flags(version, meaning.bits, v);
  if ('ordinals' in meaning) return ordinals(version, meaning.ordinals, v);
  if (meaning.one === 'OFP_NO_BUFFER') return v === 0xffffffff ? 'none' : hex(v);
  return symbol(version, meaning.one, v);
}

export function bytesHex(b: Uint8Array): string {
  return Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('hex');
}
