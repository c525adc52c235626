/**
 * Messages as text for people, in the spirit of `ovs-ofctl ofp-print`. A printer that knows nothing of a class shows all
 * of its fields, with numbers by their symbolic names where the table below says which constants they are; matches,
 * actions, instructions and flows have the forms of ovs-fields(7) and ovs-actions(7). Nothing is left out but zeros that
 * mean "none" in flows. packet.ts adds a line about the packet in a packet-in or packet-out.
 */

import type { OfMessage } from './messages.ts';
import { errorNames, namesOf } from './names.ts';
import { describePacket } from './packet.ts';

/** Any decoded object. */
interface Obj {
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
function versionName(version: number): string {
  return VERSION_NAMES[version] ?? `version ${version}`;
}

// ---- symbolic names ------------------------------------------------------------------------------------------------

function hex(v: number | bigint): string {
  return `0x${v.toString(16)}`;
}

function hex4(v: number): string {
  return `0x${v.toString(16).padStart(4, '0')}`;
}

/** `IDLE_TIMEOUT`, or the number. */
function symbol(version: number, prefix: string, v: number): string {
  return namesOf(version, prefix).get(v) ?? String(v);
}

/** `SEND_FLOW_REM|0x40`; 0 when there is none. */
function flags(version: number, prefix: string, v: number): string {
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

function port(version: number, v: unknown): string {
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

/**
 * `OFPET_BAD_REQUEST OFPBRC_BAD_LEN`: type and code of an error message (`OfDecodeError.ofError` has both) by the names of
 * a version, with numbers for what has no name there. OpenFlow 1.3.5 §7.4.4.
 */
export function errorText(version: number, type: number, code: number | null): string {
  const names = errorNames({ version, type, code });
  const typeText = names.type ?? `type ${type}`;
  return code === null ? typeText : `${typeText} ${names.code ?? `code ${code}`}`;
}

// ---- values --------------------------------------------------------------------------------------------------------

const ADDRESS_FIELD = /(^|_)(addr|mac)$|^(dl|nw|arp|eth|ip|ipv4|ipv6|nd|tun)_/;

function numberText(cls: string, field: string, v: number | bigint, version: number): string {
  const meaning = MEANINGS[`${cls}.${field}`] ?? MEANINGS[field];
  if (meaning === 'hex') return hex(v);
  if (meaning === undefined || typeof v === 'bigint') return v.toString();
  if (meaning === 'port') return port(version, v);
  if ('bits' in meaning) return flags(version, meaning.bits, v);
  if ('ordinals' in meaning) return ordinals(version, meaning.ordinals, v);
  if (meaning.one === 'OFP_NO_BUFFER') return v === 0xffffffff ? 'none' : hex(v);
  return symbol(version, meaning.one, v);
}

function valueText(cls: string, field: string, v: unknown, version: number): string {
  if (typeof v === 'number' || typeof v === 'bigint') return numberText(cls, field, v, version);
  if (typeof v === 'string') return ADDRESS_FIELD.test(field) ? v : JSON.stringify(v);
  if (v instanceof Uint8Array) return v.length === 0 ? 'none' : bytesHex(v);
  if (Array.isArray(v)) {
    const objects = v.every((e) => typeof e === 'object');
    if (objects && (field === 'actions' || field === 'action_set')) return `(${actionsText(v as Obj[], version)})`;
    if (objects && field === 'instructions') return `(${instructionsText(v as Obj[], version)})`;
    return `[${v.map((e) => valueText(cls, field, e, version)).join(', ')}]`;
  }
  if (typeof v === 'object' && v !== null) return objectText(v as Obj, version);
  return String(v);
}

function bytesHex(b: Uint8Array): string {
  return Buffer.from(b.buffer, b.byteOffset, b.byteLength).toString('hex');
}

/** A structure in braces, after the name of its class. */
function objectText(o: Obj, version: number): string {
  switch (o.cls) {
    case 'OFPMatch':
      return `(${matchText(o, version)})`;
    case 'OFPStats':
      return `(${fieldsText(o.fields as Record<string, unknown>, version)})`;
    case 'OFPInstructionId':
    case 'OFPActionId':
      if (!(o.data instanceof Uint8Array) || o.data.length === 0)
        return numberText(o.cls, 'type', Number(o.type), version);
      break;
    case 'OFPOxmId':
      return `${o.type}${o.hasmask === true || o.hasmask === 1 ? '/mask' : ''}`;
    default:
      if (isAction(o)) return actionText(o, version);
  }
  const name = o.cls === undefined ? '' : String(o.cls);
  return `${name}{${attributes(o, version)}}`;
}

/** All fields, in the order of the wire. */
function attributes(o: Obj, version: number, but: readonly string[] = []): string {
  const out: string[] = [];
  for (const [name, v] of Object.entries(o)) {
    if (name === 'cls' || v === undefined || v === null || but.includes(name)) continue;
    out.push(`${name}=${valueText(o.cls, name, v, version)}`);
  }
  return out.join(' ');
}

// ---- matches -------------------------------------------------------------------------------------------------------

const HEX_FIELD =
  /^(eth_type(_nxm)?|vlan_(vid|tci)|metadata|tunnel_id(_nxm)?|x{0,2}reg\d+|ct_(state|mark|label)|tcp_flags(_nxm)?|pkt_mark|ipv6_(exthdr|flabel|label)|tun_(flags|gbp_flags)|pbb_isid|packet_type|_dp_hash|_recirc_id|nsh_(flags|spi|c\d))$/;
const FOUR_DIGITS = /^(eth_type(_nxm)?|vlan_(vid|tci))$/;

/** Length of the prefix a mask stands for; undefined when it is none. */
function prefixOf(mask: string): number | undefined {
  const bits = mask.includes(':')
    ? ipv6Bits(mask)
    : mask
        .split('.')
        .map((p) => Number(p).toString(2).padStart(8, '0'))
        .join('');
  return bits !== undefined && /^1*0*$/.test(bits) ? bits.lastIndexOf('1') + 1 : undefined;
}

function ipv6Bits(mask: string): string | undefined {
  // masks in the mixed form are no prefixes anybody uses
  if (mask.includes('.')) return undefined;
  const [head = '', tail] = mask.split('::');
  const words = (t: string) => (t === '' ? [] : t.split(':'));
  const zeros = new Array<string>(tail === undefined ? 0 : 8 - words(head).length - words(tail).length).fill('0');
  const all = [...words(head), ...zeros, ...words(tail ?? '')];
  return all.map((w) => Number.parseInt(w, 16).toString(2).padStart(16, '0')).join('');
}

function plainFieldText(name: string, v: unknown, version: number): string {
  if (name === 'in_port_nxm') return port(1, v);
  if (name === 'in_port' || name === 'in_phy_port' || name === 'actset_output') return port(version, v);
  if (typeof v === 'number') return FOUR_DIGITS.test(name) ? hex4(v) : HEX_FIELD.test(name) ? hex(v) : String(v);
  if (typeof v === 'bigint') return HEX_FIELD.test(name) ? hex(v) : v.toString();
  // base64 of a field without a name
  if (typeof v === 'string' && name.startsWith('field_')) return `0x${Buffer.from(v, 'base64').toString('hex')}`;
  return String(v);
}

/** Bits of a connection's state, by value, as ovs-fields(7) names them. */
const CT_STATE: readonly (readonly [number, string])[] = [
  [1, 'new'],
  [2, 'est'],
  [4, 'rel'],
  [8, 'rpl'],
  [0x10, 'inv'],
  [0x20, 'trk'],
  [0x40, 'snat'],
  [0x80, 'dnat'],
];

/** `+trk-new`; undefined when there are bits without a name, or none. */
function ctState(value: number, mask: number): string | undefined {
  if (mask === 0 || mask > 0xff || (value & ~mask) !== 0) return undefined;
  return CT_STATE.filter(([bit]) => (mask & bit) !== 0)
    .map(([bit, name]) => `${(value & bit) !== 0 ? '+' : '-'}${name}`)
    .join('');
}

/** Values of the two bits that tell fragments, with their mask. */
const IP_FRAG: Readonly<Record<string, string>> = {
  '0/3': 'no',
  '1/1': 'yes',
  '1/3': 'first',
  '3/3': 'later',
  '0/2': 'not_later',
};

/** `ipv4_src=10.0.0.0/8`. */
function fieldText(name: string, v: unknown, version: number): string {
  const [value, mask] = (Array.isArray(v) ? v : [v, undefined]) as [unknown, unknown];
  if (name === 'ip_frag') {
    const known = IP_FRAG[`${String(value)}/${String(mask ?? 3)}`];
    if (known !== undefined) return `ip_frag=${known}`;
  }
  if (mask === undefined) return `${name}=${plainFieldText(name, v, version)}`;
  if (name === 'ct_state') {
    const known = ctState(Number(value), Number(mask));
    if (known !== undefined) return `ct_state=${known}`;
  }
  if (typeof mask === 'number' || typeof mask === 'bigint') {
    return `${name}=${hex(value as number | bigint)}/${hex(mask)}`;
  }
  const prefix = typeof mask === 'string' && /^[\da-f.:]+$/.test(mask) && !isMac(mask) ? prefixOf(mask) : undefined;
  if (prefix !== undefined) return `${name}=${String(value)}/${prefix}`;
  return `${name}=${plainFieldText(name, value, version)}/${plainFieldText(name, mask, version)}`;
}

function isMac(text: string): boolean {
  return /^[\da-f]{2}(:[\da-f]{2}){5}$/.test(text);
}

function fieldsText(fields: Record<string, unknown>, version: number): string {
  return Object.entries(fields)
    .map(([name, v]) => fieldText(name, v, version))
    .join(',');
}

/** Fields of 1.0's fixed match, with the bit that says a field does not count. */
const WILDCARDS: Readonly<Record<string, number>> = {
  in_port: 1,
  dl_vlan: 2,
  dl_src: 4,
  dl_dst: 8,
  dl_type: 0x10,
  nw_proto: 0x20,
  tp_src: 0x40,
  tp_dst: 0x80,
  dl_vlan_pcp: 0x100000,
  nw_tos: 0x200000,
};

function fixedMatchText(o: Obj, version: number): string {
  const wildcards = Number(o.wildcards);
  const out: string[] = [];
  for (const [name, v] of Object.entries(o)) {
    if (name === 'nw_src' || name === 'nw_dst') {
      const bits = Math.min(32, (wildcards >>> (name === 'nw_src' ? 8 : 14)) & 63);
      if (bits < 32) out.push(`${name}=${String(v)}${bits === 0 ? '' : `/${32 - bits}`}`);
      continue;
    }
    const bit = WILDCARDS[name];
    if (bit === undefined || (wildcards & bit) !== 0) continue;
    if (name === 'in_port') out.push(`in_port=${port(version, v)}`);
    else out.push(`${name}=${name === 'dl_type' && typeof v === 'number' ? hex4(v) : String(v)}`);
  }
  return out.join(',');
}

function matchText(o: Obj, version: number): string {
  if (typeof o.wildcards === 'number') return fixedMatchText(o, version);
  return fieldsText((o.fields ?? {}) as Record<string, unknown>, version);
}

// ---- actions and instructions --------------------------------------------------------------------------------------

/** A field of a register and some of its bits: `reg0[4..31]`. */
function subfield(name: unknown, from: number, bits: number): string {
  return bits === 1 ? `${String(name)}[${from}]` : `${String(name)}[${from}..${from + bits - 1}]`;
}

/** The same for what packs both numbers into one: `offset << 6 | (bits - 1)`. */
function packed(name: unknown, ofsNbits: unknown): string {
  return subfield(name, Number(ofsNbits) >> 6, (Number(ofsNbits) & 63) + 1);
}

function outputText(o: Obj, version: number): string {
  const name = port(version, o.port);
  if (name === 'CONTROLLER') return `CONTROLLER:${String(o.max_len)}`;
  return /^\d/.test(name) ? `output:${name}` : name;
}

/** `set_field:10->ip_dscp`; a value with a mask is written `value/mask`. */
function setFieldText(o: Obj, version: number): string {
  const name = String(o.field);
  return `set_field:${fieldText(name, o.value, version).slice(name.length + 1)}->${name}`;
}

type ActionPrinter = (o: Obj, version: number) => string;
const ACTIONS: Readonly<Record<string, ActionPrinter>> = {
  OFPActionOutput: outputText,
  OFPActionGroup: (o) => `group:${String(o.group_id)}`,
  OFPActionSetQueue: (o) => `set_queue:${String(o.queue_id)}`,
  OFPActionSetMplsTtl: (o) => `set_mpls_ttl(${String(o.mpls_ttl)})`,
  OFPActionSetNwTtl: (o) => `mod_nw_ttl:${String(o.nw_ttl)}`,
  OFPActionDecMplsTtl: () => 'dec_mpls_ttl',
  OFPActionDecNwTtl: () => 'dec_ttl',
  OFPActionCopyTtlOut: () => 'copy_ttl_out',
  OFPActionCopyTtlIn: () => 'copy_ttl_in',
  OFPActionPopVlan: () => 'pop_vlan',
  OFPActionPopPbb: () => 'pop_pbb',
  OFPActionPushVlan: (o) => `push_vlan:${hex4(Number(o.ethertype))}`,
  OFPActionPushMpls: (o) => `push_mpls:${hex4(Number(o.ethertype))}`,
  OFPActionPushPbb: (o) => `push_pbb:${hex4(Number(o.ethertype))}`,
  OFPActionPopMpls: (o) => `pop_mpls:${hex4(Number(o.ethertype))}`,
  OFPActionSetField: setFieldText,
  OFPActionMeter: (o) => `meter:${String(o.meter_id)}`,
  OFPActionCopyField: (o) => {
    const [src, dst] = (o.oxm_ids as Obj[]).map((id) => id.type);
    const bits = Number(o.n_bits);
    return `move:${subfield(src, Number(o.src_offset), bits)}->${subfield(dst, Number(o.dst_offset), bits)}`;
  },
  // 1.0
  OFPActionVlanVid: (o) => `mod_vlan_vid:${String(o.vlan_vid)}`,
  OFPActionVlanPcp: (o) => `mod_vlan_pcp:${String(o.vlan_pcp)}`,
  OFPActionStripVlan: () => 'strip_vlan',
  OFPActionSetDlSrc: (o) => `mod_dl_src:${String(o.dl_addr)}`,
  OFPActionSetDlDst: (o) => `mod_dl_dst:${String(o.dl_addr)}`,
  OFPActionSetNwSrc: (o) => `mod_nw_src:${String(o.nw_addr)}`,
  OFPActionSetNwDst: (o) => `mod_nw_dst:${String(o.nw_addr)}`,
  OFPActionSetNwTos: (o) => `mod_nw_tos:${String(o.tos)}`,
  OFPActionSetTpSrc: (o) => `mod_tp_src:${String(o.tp)}`,
  OFPActionSetTpDst: (o) => `mod_tp_dst:${String(o.tp)}`,
  OFPActionEnqueue: (o, version) => `enqueue:${port(version, o.port)}:${String(o.queue_id)}`,
  // Open vSwitch
  NXActionRegLoad: (o) => `load:${hex(o.value as number | bigint)}->${packed(o.dst, o.ofs_nbits)}`,
  NXActionRegMove: (o) => {
    const bits = Number(o.n_bits);
    return `move:${subfield(o.src_field, Number(o.src_ofs), bits)}->${subfield(o.dst_field, Number(o.dst_ofs), bits)}`;
  },
  NXActionOutputReg: (o) => `output:${packed(o.src, o.ofs_nbits)}`,
  NXActionResubmit: (o) => `resubmit:${port(1, o.in_port)}`,
  NXActionResubmitTable: (o) => {
    const inPort = o.in_port === 0xfff8 ? '' : port(1, o.in_port);
    return `resubmit(${inPort},${o.table_id === 255 ? '' : String(o.table_id)})`;
  },
  NXActionSetTunnel: (o) => `set_tunnel:${hex(o.tun_id as number | bigint)}`,
  NXActionSetQueue: (o) => `set_queue:${String(o.queue_id)}`,
  NXActionPopQueue: () => 'pop_queue',
  NXActionDecTtl: () => 'dec_ttl',
  NXActionDecTtlCntIds: (o) => `dec_ttl(${(o.cnt_ids as number[]).join(',')})`,
  NXActionDecMplsTtl: () => 'dec_mpls_ttl',
  NXActionPushMpls: (o) => `push_mpls:${hex4(Number(o.ethertype))}`,
  NXActionPopMpls: (o) => `pop_mpls:${hex4(Number(o.ethertype))}`,
  NXActionSetMplsTtl: (o) => `set_mpls_ttl(${String(o.ttl)})`,
  NXActionSetMplsLabel: (o) => `set_mpls_label(${String(o.label)})`,
  NXActionSetMplsTc: (o) => `set_mpls_tc(${String(o.tc)})`,
  NXActionConjunction: (o) => `conjunction(${String(o.id)},${Number(o.clause) + 1}/${String(o.n_clauses)})`,
  NXActionNote: (o) => `note:${dotted(o.note)}`,
  NXActionExit: () => 'exit',
  NXActionCTClear: () => 'ct_clear',
  NXActionOutputTrunc: (o, version) => `output(port=${port(version, o.port)},max_len=${String(o.max_len)})`,
  NXActionFinTimeout: (o) =>
    `fin_timeout(idle_timeout=${String(o.fin_idle_timeout)},hard_timeout=${String(o.fin_hard_timeout)})`,
  NXActionStackPush: (o) => `push:${subfield(o.field, Number(o.start), Number(o.end) - Number(o.start) + 1)}`,
  NXActionStackPop: (o) => `pop:${subfield(o.field, Number(o.start), Number(o.end) - Number(o.start) + 1)}`,
  NXActionSample: sampleText,
  NXActionSample2: sampleText,
  NXActionController: controllerText,
  NXActionController2: controllerText,
  NXActionCT: ctText,
  NXActionNAT: natText,
  NXActionLearn: learnText,
  NXActionRegLoad2: (o, version) =>
    setFieldText({ cls: o.cls, field: o.dst, value: o.mask === null ? o.value : [o.value, o.mask] }, version),
  NXActionOutputReg2: (o) => `output:${packed(o.src, o.ofs_nbits)}`,
  NXActionResubmitTableCT: (o) =>
    `resubmit(${o.in_port === 0xfff8 ? '' : port(1, o.in_port)},${o.table_id === 255 ? '' : String(o.table_id)},ct)`,
  NXActionSetTunnel64: (o) => `set_tunnel64:${hex(o.tun_id as bigint)}`,
  NXActionWriteMetadata: (o) => `write_metadata:${hex(o.metadata as bigint)}${metadataMask(o.mask as bigint)}`,
  NXActionSample3: sampleText,
  NXActionDecNshTtl: () => 'dec_nsh_ttl',
  NXActionDecap: (o) => (o.new_pkt_type === 0xfffe ? 'decap()' : `decap(${packetType(Number(o.new_pkt_type))})`),
  NXActionDeleteField: (o) => `delete_field:${String(o.field)}`,
  NXActionDebugSlow: () => 'debug_slow',
  NXActionDebugRecirc: () => 'debug_recirc',
  NXActionClone: (o, version) => `clone(${actionsText(o.actions as Obj[], version)})`,
  NXActionLearn2: learnText,
  NXActionGroup: (o) => `group:${String(o.group_id)}`,
  NXActionCheckPktLarger: (o) => `check_pkt_larger(${String(o.pkt_len)})->${subfield(o.dst, Number(o.offset), 1)}`,
  NXActionMultipath: (o) => {
    const algorithm = ['modulo_n', 'hash_threshold', 'hrw', 'iter_hash'][Number(o.algorithm)] ?? o.algorithm;
    const links = Number(o.max_link) + 1;
    return `multipath(${hashFields(o.fields)},${String(o.basis)},${String(algorithm)},${links},${String(o.arg)},${packed(o.dst, o.ofs_nbits)})`;
  },
  NXActionBundle: bundleText,
  NXActionBundleLoad: bundleText,
};

/** `/mask`, or nothing for a mask of all bits. */
function metadataMask(mask: bigint): string {
  return mask === 0xffffffffffffffffn ? '' : `/${hex(mask)}`;
}

/** Namespace and type of a packet, as OpenFlow 1.5 §7.2.3.12 packs them. */
function packetType(v: number): string {
  return `packet_type(ns=${v >>> 16},type=${hex(v & 0xffff)})`;
}

/** Fields that are hashed, by the number in Nicira's actions. */
function hashFields(n: unknown): string {
  const names = ['eth_src', 'symmetric_l4', 'symmetric_l3l4', 'symmetric_l3l4+udp', 'nw_src', 'nw_dst', 'symmetric_l3'];
  return names[Number(n)] ?? String(n);
}

function bundleText(o: Obj): string {
  const algorithm = ['active_backup', 'hrw'][Number(o.algorithm)] ?? String(o.algorithm);
  const load = o.cls === 'NXActionBundleLoad';
  const members = ((o.slaves ?? []) as number[]).join(',');
  const to = load ? `,${packed(o.dst, o.ofs_nbits)}` : '';
  return `${load ? 'bundle_load' : 'bundle'}(${hashFields(o.fields)},${String(o.basis)},${algorithm},ofport${to},members:${members})`;
}

function sampleText(o: Obj): string {
  const names = ['probability', 'collector_set_id', 'obs_domain_id', 'obs_point_id', 'sampling_port'];
  const parts = names.flatMap((n) => (o[n] === undefined ? [] : [`${n}=${String(o[n])}`]));
  if (o.direction === 1) parts.push('ingress');
  else if (o.direction === 2) parts.push('egress');
  return `sample(${parts.join(',')})`;
}

function dotted(v: unknown): string {
  return [...(v as Iterable<number>)].map((n) => n.toString(16).padStart(2, '0')).join('.');
}

function controllerText(o: Obj, version: number): string {
  const parts: string[] = [];
  if (typeof o.reason === 'number') parts.push(`reason=${symbol(version, 'OFPR_', o.reason).toLowerCase()}`);
  if (o.max_len !== undefined && o.max_len !== null) parts.push(`max_len=${String(o.max_len)}`);
  if (o.controller_id !== undefined && o.controller_id !== null) parts.push(`id=${String(o.controller_id)}`);
  if (o.userdata !== undefined && o.userdata !== null) parts.push(`userdata=${dotted(o.userdata)}`);
  if (o.pause === true) parts.push('pause');
  if (o.meter_id !== undefined && o.meter_id !== null) parts.push(`meter_id=${String(o.meter_id)}`);
  return `controller(${parts.join(',')})`;
}

/** `ct(commit,table=4,zone=reg0[4..31],nat(…),exec(…))`. */
function ctText(o: Obj, version: number): string {
  const parts: string[] = [];
  const bits = Number(o.flags);
  if ((bits & 1) !== 0) parts.push('commit');
  if ((bits & 2) !== 0) parts.push('force');
  if (bits > 3) parts.push(`flags=${hex(bits & ~3)}`);
  if (o.recirc_table !== 255) parts.push(`table=${String(o.recirc_table)}`);
  if (typeof o.zone_src === 'string' && o.zone_src !== '') parts.push(`zone=${packed(o.zone_src, o.zone_ofs_nbits)}`);
  else if (o.zone_ofs_nbits !== 0) parts.push(`zone=${String(o.zone_ofs_nbits)}`);
  if (o.alg !== 0) parts.push(`alg=${o.alg === 21 ? 'ftp' : o.alg === 69 ? 'tftp' : String(o.alg)}`);
  const list = (o.actions ?? []) as Obj[];
  const nat = list.filter((a) => a.cls === 'NXActionNAT');
  const exec = list.filter((a) => a.cls !== 'NXActionNAT');
  for (const a of nat) parts.push(natText(a));
  if (exec.length > 0) parts.push(`exec(${actionsText(exec, version)})`);
  return parts.length === 0 ? 'ct' : `ct(${parts.join(',')})`;
}

/** `nat(src=10.0.0.1-10.0.0.9:1-1023,random)`. */
function natText(o: Obj): string {
  const bits = Number(o.flags);
  const given = (v: unknown) => v !== undefined && v !== null && v !== '';
  const range = (min: unknown, max: unknown) => (given(max) ? `${String(min)}-${String(max)}` : String(min));
  const v6 = given(o.range_ipv6_min);
  const addresses = v6
    ? range(o.range_ipv6_min, o.range_ipv6_max)
    : given(o.range_ipv4_min)
      ? range(o.range_ipv4_min, o.range_ipv4_max)
      : '';
  const ports = given(o.range_proto_min) ? `:${range(o.range_proto_min, o.range_proto_max)}` : '';
  const bracketed = v6 && ports !== '' ? addresses.replace(/[^-]+/g, '[$&]') : addresses;
  const to = `${bracketed}${ports}`;
  const parts: string[] = [];
  const side = (bits & 1) !== 0 ? 'src' : (bits & 2) !== 0 ? 'dst' : undefined;
  if (side !== undefined) parts.push(to === '' ? side : `${side}=${to}`);
  if ((bits & 4) !== 0) parts.push('persistent');
  if ((bits & 8) !== 0) parts.push('hash');
  if ((bits & 16) !== 0) parts.push('random');
  return parts.length === 0 ? 'nat' : `nat(${parts.join(',')})`;
}

function learnText(o: Obj): string {
  const parts = [`table=${String(o.table_id)}`];
  for (const name of ['idle_timeout', 'hard_timeout', 'fin_idle_timeout', 'fin_hard_timeout']) {
    if (o[name] !== 0) parts.push(`${name}=${String(o[name])}`);
  }
  parts.push(`priority=${String(o.priority)}`);
  const bits = Number(o.flags);
  if ((bits & 1) !== 0) parts.push('send_flow_rem');
  if ((bits & 2) !== 0) parts.push('delete_learned');
  const result = o.result_dst !== undefined && o.result_dst !== null && (bits & 4) !== 0;
  const rest = bits & (result ? ~7 : ~3);
  if (rest !== 0) parts.push(`flags=${hex(rest)}`);
  if (o.limit !== undefined && o.limit !== 0) parts.push(`limit=${String(o.limit)}`);
  if (result) parts.push(`result_dst=${subfield(o.result_dst, Number(o.result_dst_ofs), 1)}`);
  if (o.cookie !== 0n && o.cookie !== 0) parts.push(`cookie=${hex(o.cookie as bigint)}`);
  const part = (v: unknown, n: number) =>
    Array.isArray(v)
      ? subfield(v[0], Number(v[1]), n)
      : typeof v === 'number' || typeof v === 'bigint'
        ? hex(v)
        : String(v);
  for (const spec of (o.specs ?? []) as Obj[]) {
    const n = Number(spec.n_bits);
    if (spec.cls === 'NXFlowSpecMatch') parts.push(`${part(spec.dst, n)}=${part(spec.src, n)}`);
    else if (spec.cls === 'NXFlowSpecLoad') parts.push(`load:${part(spec.src, n)}->${part(spec.dst, n)}`);
    else if (spec.cls === 'NXFlowSpecOutput') parts.push(`output:${part(spec.src, n)}`);
    else parts.push(attributes(spec, 4));
  }
  return `learn(${parts.join(',')})`;
}

function isAction(o: Obj): boolean {
  return typeof o.cls === 'string' && (ACTIONS[o.cls] !== undefined || /^(OFPAction|NXAction)(?!Id$)/.test(o.cls));
}

function actionText(o: Obj, version: number): string {
  const print = ACTIONS[o.cls];
  return print === undefined ? `${o.cls}(${attributes(o, version)})` : print(o, version);
}

function actionsText(list: readonly Obj[], version: number): string {
  return list.map((a) => actionText(a, version)).join(',');
}

function instructionText(o: Obj, version: number): string {
  switch (o.cls) {
    case 'OFPInstructionGotoTable':
      return `goto_table:${String(o.table_id)}`;
    case 'OFPInstructionWriteMetadata': {
      return `write_metadata:${hex(o.metadata as bigint)}${metadataMask(o.metadata_mask as bigint)}`;
    }
    case 'OFPInstructionMeter':
      return `meter:${String(o.meter_id)}`;
    case 'OFPInstructionActions': {
      const list = actionsText(o.actions as Obj[], version);
      const type = namesOf(version, 'OFPIT_').get(Number(o.type));
      // an empty list applies nothing, which has to be told from no list
      if (type === 'APPLY_ACTIONS') return list === '' ? 'apply_actions()' : list;
      if (type === 'CLEAR_ACTIONS') return list === '' ? 'clear_actions' : `clear_actions(${list})`;
      return `write_actions(${list})`;
    }
    default:
      return `${o.cls}(${attributes(o, version)})`;
  }
}

function instructionsText(list: readonly Obj[], version: number): string {
  return list.map((i) => instructionText(i, version)).join(',');
}

/** `actions=…` as Open vSwitch writes the instructions of a flow (in 1.0 its actions). */
function flowActions(o: Obj, version: number): string {
  const text = Array.isArray(o.instructions)
    ? instructionsText(o.instructions as Obj[], version)
    : actionsText((o.actions ?? []) as Obj[], version);
  return `actions=${text === '' ? 'drop' : text}`;
}

/** Priority, where it is not the default, and match. */
function flowMatch(o: Obj, version: number, always = false): string {
  const parts: string[] = [];
  if (always || o.priority !== 0x8000) parts.push(`priority=${String(o.priority)}`);
  const match = matchText(o.match as Obj, version);
  if (match !== '') parts.push(match);
  return parts.join(',');
}

function words(...parts: (string | undefined)[]): string {
  return parts.filter((p) => p !== undefined && p !== '').join(' ');
}

function unless<T>(v: unknown, none: T, text: (v: unknown) => string): string | undefined {
  return v === undefined || v === none ? undefined : text(v);
}

// ---- messages ------------------------------------------------------------------------------------------------------

const NO_BUFFER = 0xffffffff;

function flowFlags(version: number, v: unknown): string | undefined {
  if (typeof v !== 'number' || v === 0) return undefined;
  return flags(version, 'OFPFF_', v).toLowerCase().split('|').join(' ');
}

function flowModText(o: Obj, version: number): string {
  // Nicira's flow mods may have the table in the upper byte
  const number = Number(o.command) & 0xff;
  const table = Number(o.command) > 0xff ? Number(o.command) >> 8 : o.table_id;
  const command = namesOf(version, 'OFPFC_').get(number) ?? `command ${number}`;
  const deletes = /^DELETE/.test(command);
  const anyPort = version === 1 || o.cls === 'NXTFlowMod' ? 0xffff : 0xffffffff;
  return words(
    command,
    unless(table, 0, (v) => (v === 255 ? 'table=ALL' : `table=${String(v)}`)),
    flowMatch(o, version),
    o.cookie_mask !== undefined && o.cookie_mask !== 0n
      ? `cookie=${hex(o.cookie as bigint)}/${hex(o.cookie_mask as bigint)}`
      : unless(o.cookie, 0n, (v) => `cookie=${hex(v as bigint)}`),
    unless(o.idle_timeout, 0, (v) => `idle_timeout=${String(v)}`),
    unless(o.hard_timeout, 0, (v) => `hard_timeout=${String(v)}`),
    unless(o.importance, 0, (v) => `importance=${String(v)}`),
    unless(o.buffer_id, NO_BUFFER, (v) => `buffer_id=${hex(v as number)}`),
    // without a delete they mean nothing, and libraries differ in what they write there
    deletes ? unless(o.out_port, anyPort, (v) => `out_port=${port(version, v)}`) : undefined,
    deletes ? unless(o.out_group, 0xffffffff, (v) => `out_group=${symbol(version, 'OFPG_', Number(v))}`) : undefined,
    flowFlags(version, o.flags),
    flowActions(o, version),
  );
}

function durationText(o: Obj): string {
  const nsec = Number(o.duration_nsec ?? 0);
  const fraction = String(nsec)
    .padStart(9, '0')
    .replace(/0{1,8}$/, '');
  return `duration=${String(o.duration_sec)}.${fraction}s`;
}

function flowStatsText(o: Obj, version: number): string {
  return words(
    // statistics of 1.5 have none, its descriptions of flows do
    o.cookie === undefined ? undefined : `cookie=${hex(o.cookie as bigint)}`,
    `table=${String(o.table_id)}`,
    o.duration_sec === undefined ? undefined : durationText(o),
    o.packet_count === undefined ? undefined : `n_packets=${String(o.packet_count)}`,
    o.byte_count === undefined ? undefined : `n_bytes=${String(o.byte_count)}`,
    o.stats === undefined ? undefined : `stats=${objectText(o.stats as Obj, version)}`,
    unless(o.reason, undefined, (v) => `reason=${String(v)}`),
    unless(o.idle_timeout, 0, (v) => `idle_timeout=${String(v)}`),
    unless(o.hard_timeout, 0, (v) => `hard_timeout=${String(v)}`),
    unless(o.importance, 0, (v) => `importance=${String(v)}`),
    // ages are told plus one
    unless(o.idle_age, 0, (v) => `idle_age=${Number(v) - 1}`),
    unless(o.hard_age, 0, (v) => `hard_age=${Number(v) - 1}`),
    flowFlags(version, o.flags),
    flowMatch(o, version, true),
    o.instructions === undefined && o.actions === undefined ? undefined : flowActions(o, version),
  );
}

function packetText(o: Obj, version: number): string {
  const data = o.data ?? o.frame;
  const bytes = data instanceof Uint8Array ? data : new Uint8Array(0);
  const line = words(attributes(o, version, ['data', 'frame', 'xid', 'version']), `data_len=${bytes.length}`);
  if (bytes.length === 0) return line;
  const about = describePacket(bytes);
  return `${line}\n${about === '' ? '' : ` ${about}\n`} ${bytesHex(bytes)}`;
}

function helloText(o: Obj, version: number): string {
  const lines = (o.elements as Obj[]).map((e) =>
    e.cls === 'OFPHelloElemVersionBitmap'
      ? ` version bitmap: ${(e.versions as number[]).map((v) => `0x${v.toString(16).padStart(2, '0')}`).join(', ')}`
      : ` ${objectText(e, version)}`,
  );
  return lines.length === 0 ? '' : `\n${lines.join('\n')}`;
}

function errorMsgText(o: Obj, version: number): string {
  const data = o.data as Uint8Array;
  const experimenter =
    o.experimenter === undefined ? '' : ` experimenter=${hex(Number(o.experimenter))} exp_type=${String(o.exp_type)}`;
  const quoted = data.length === 0 ? '' : `\n ${data.length} bytes of data: ${bytesHex(data)}`;
  return `${errorText(version, Number(o.type), o.code as number | null)}${experimenter}${quoted}`;
}

function echoText(o: Obj): string {
  const data = o.data as Uint8Array;
  return data.length === 0 ? '0 bytes of payload' : `${data.length} bytes of payload: ${bytesHex(data)}`;
}

/** Classes with a form of their own; what they return goes behind the colon. */
const MESSAGES: Readonly<Record<string, (o: Obj, version: number) => string>> = {
  OFPHello: helloText,
  OFPErrorMsg: errorMsgText,
  OFPEchoRequest: echoText,
  OFPEchoReply: echoText,
  OFPFlowMod: flowModText,
  OFPPacketIn: packetText,
  OFPPacketOut: packetText,
  NXTFlowMod: flowModText,
  NXTPacketIn: packetText,
};
/** The same for elements of a body. */
const ELEMENTS: Readonly<Record<string, (o: Obj, version: number) => string>> = {
  OFPFlowStats: flowStatsText,
  OFPFlowDesc: flowStatsText,
  NXFlowStats: flowStatsText,
};

/** Names of classes that are not the name of the message type. */
const TYPE_NAMES: Readonly<Record<string, string>> = {
  OFPErrorMsg: 'ERROR',
  OFPSwitchFeatures: 'FEATURES_REPLY',
  OFPBundleCtrlMsg: 'BUNDLE_CONTROL',
  OFPBundleAddMsg: 'BUNDLE_ADD_MESSAGE',
  OFPRequestForward: 'REQUESTFORWARD',
};

/** Classes of multipart messages (statistics, before 1.3). */
const STATS = /^(OFP|NX)(\w+?)(?:Stats|(?<=FlowMonitor))(Request|Reply)$|^OFPMultipart/;

function snake(name: string): string {
  return name.replace(/([a-z\d])([A-Z])/g, '$1_$2').toUpperCase();
}

/** `OFPT_FLOW_MOD`, `OFPST_FLOW reply`. */
function typeName(o: Obj): string {
  const { cls } = o;
  const known = TYPE_NAMES[cls];
  if (known !== undefined) return `OFPT_${known}`;
  if (cls === 'OFPUnknownMessage') return `message of type ${String(o.msg_type)}`;
  const unknown = /^OFP(?:Multipart|Stats)(Request|Reply)Unknown$/.exec(cls);
  if (unknown !== null) return `OFPST_${String(o.type)} ${(unknown[1] as string).toLowerCase()}`;
  const stats = STATS.exec(cls);
  if (stats?.[2] !== undefined) {
    return `${stats[1] === 'NX' ? 'NXST' : 'OFPST'}_${snake(stats[2] as string)} ${(stats[3] as string).toLowerCase()}`;
  }
  if (cls.startsWith('OFP')) return `OFPT_${snake(cls.slice(3))}`;
  const extension = /^(NXT|ONF)(\w+)$/.exec(cls);
  return extension === null ? cls : `${extension[1]}_${snake(extension[2] as string)}`;
}

function isMessage(v: unknown): v is OfMessage {
  return typeof v === 'object' && v !== null && 'cls' in v && 'xid' in v && 'version' in v;
}

function indent(text: string): string {
  return ` ${text.replaceAll('\n', '\n ')}`;
}

/** Scalars behind the colon, structures and messages on lines of their own. */
function genericText(o: Obj, version: number): string {
  const head: string[] = [];
  const lines: string[] = [];
  const side = /Request/.test(o.cls) ? 'REQ_' : 'REPLY_';
  const multipart = STATS.test(o.cls) ? `${version < 4 ? 'OFPSF' : 'OFPMPF'}_${side}` : undefined;
  const element = (e: Obj) => (ELEMENTS[e.cls] ?? ((x: Obj, n: number) => attributes(x, n)))(e, version);
  for (const [name, v] of Object.entries(o)) {
    if (name === 'cls' || name === 'version' || name === 'xid' || v === undefined || v === null) continue;
    if (name === 'flags' && multipart !== undefined) {
      if (v !== 0) head.push(`flags=${flags(version, multipart, Number(v))}`);
    } else if (isMessage(v)) {
      lines.push(indent(format(v)));
    } else if (Array.isArray(v) && typeof v[0] === 'object' && name !== 'actions' && name !== 'instructions') {
      for (const e of v as Obj[]) {
        const inner = name === 'body' || name === 'ports' || name === 'queues' ? element(e) : objectText(e, version);
        lines.push(` ${inner}`);
      }
    } else if (
      (name === 'body' || name === 'desc') &&
      typeof v === 'object' &&
      !Array.isArray(v) &&
      !(v instanceof Uint8Array)
    ) {
      lines.push(` ${element(v as Obj)}`);
    } else if (Array.isArray(v) && v.length === 0) {
      if (name === 'body') lines.push(' (empty)');
    } else if (name === 'match' && (v as Obj).cls === 'OFPMatch') {
      const text = matchText(v as Obj, version);
      if (text !== '') head.push(text);
    } else {
      head.push(`${name}=${valueText(o.cls, name, v, version)}`);
    }
  }
  return [head.join(' '), ...lines].join('\n');
}

/**
 * A message as text: a line that begins with type, version and transaction id, and further lines, each beginning with a
 * space, where there is more to tell. For reading, not for parsing: `toJson` is for that.
 *
 * @example `OFPT_FLOW_MOD (OF1.3) (xid=0x2): ADD priority=7,in_port=1,eth_type=0x0800 actions=output:2`
 */
export function format(msg: OfMessage): string {
  const o = msg as unknown as Obj;
  const { version } = msg;
  const body = (MESSAGES[o.cls] ?? genericText)(o, version);
  const head = `${typeName(o)} (${versionName(version)}) (xid=${hex(msg.xid)}):`;
  if (body === '') return head;
  return body.startsWith('\n') ? head + body : `${head} ${body}`;
}
