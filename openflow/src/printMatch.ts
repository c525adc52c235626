/** Matches as text for `print.ts`, in the form of ovs-fields(7). */
import { hex, hex4, type Obj, port } from './printNumbers.ts';

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
export function fieldText(name: string, v: unknown, version: number): string {
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

export function fieldsText(fields: Record<string, unknown>, version: number): string {
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

export function matchText(o: Obj, version: number): string {
  if (typeof o.wildcards === 'number') return fixedMatchText(o, version);
  return fieldsText((o.fields ?? {}) as Record<string, unknown>, version);
}
