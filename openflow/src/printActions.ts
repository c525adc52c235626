/**
 * Actions, instructions and other structures as text for `print.ts`, in the form of ovs-actions(7); what has no form of its own shows
 * its class and all of its fields.
 */
import { namesOf } from './names.ts';
import { fieldsText, fieldText, matchText } from './printMatch.ts';
import { bytesHex, hex, hex4, numberText, type Obj, port, symbol } from './printNumbers.ts';

const ADDRESS_FIELD = /(^|_)(addr|mac)$|^(dl|nw|arp|eth|ip|ipv4|ipv6|nd|tun)_/;

export function valueText(cls: string, field: string, v: unknown, version: number): string {
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

/** A structure in braces, after the name of its class. */
export function objectText(o: Obj, version: number): string {
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
export function attributes(o: Obj, version: number, but: readonly string[] = []): string {
  const out: string[] = [];
  for (const [name, v] of Object.entries(o)) {
    if (name === 'cls' || v === undefined || v === null || but.includes(name)) continue;
    out.push(`${name}=${valueText(o.cls, name, v, version)}`);
  }
  return out.join(' ');
}

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
export function flowActions(o: Obj, version: number): string {
  const text = Array.isArray(o.instructions)
    ? instructionsText(o.instructions as Obj[], version)
    : actionsText((o.actions ?? []) as Obj[], version);
  return `actions=${text === '' ? 'drop' : text}`;
}

/** Priority, where it is not the default, and match. */
export function flowMatch(o: Obj, version: number, always = false): string {
  const parts: string[] = [];
  if (always || o.priority !== 0x8000) parts.push(`priority=${String(o.priority)}`);
  const match = matchText(o.match as Obj, version);
  if (match !== '') parts.push(match);
  return parts.join(',');
}

export function words(...parts: (string | undefined)[]): string {
  return parts.filter((p) => p !== undefined && p !== '').join(' ');
}

export function unless<T>(v: unknown, none: T, text: (v: unknown) => string): string | undefined {
  return v === undefined || v === none ? undefined : text(v);
}
