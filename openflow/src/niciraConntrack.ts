/**
 * Declarations of the actions of connection tracking (NXAST_CT, NXAST_NAT of ovs-actions(7)) and of the one that, like
 * NXAST_CT, holds other actions. niciraActions.ts collects Nicira's actions.
 */
import type { Actions } from './actions.ts';
import { formatIpv4, parseIpv4, readIpv6, writeIpv6 } from './address.ts';
import { action, BAD_LEN, bad, bare, customAction, uint, unknownToRyu, variable } from './niciraActionKinds.ts';
import { nicira_ext as nx } from './niciraConstants.ts';
import { manyOfOwn, oxmHeaderOrNone, pad, u8, u16 } from './schema.ts';
import type { Actions10 } from './structs10.ts';
import { fail } from './wire.ts';

/** The families these actions are members of. */
export interface ActionFamilies {
  readonly '~m': Actions['~m'] | Actions10['~m'];
}

export const NXActionCT = action(
  'NXActionCT',
  nx.NXAST_CT,
  {
    flags: u16(0),
    /** Where `zone_ofs_nbits` finds the zone; when empty, that is the zone itself. */
    zone_src: oxmHeaderOrNone(),
    zone_ofs_nbits: u16(0),
    recirc_table: u8(nx.NX_CT_RECIRC_NONE),
    _pad: pad(3),
    alg: u16(0),
    actions: manyOfOwn<ActionFamilies>(),
  },
  variable,
);
export const NXActionCTClear = bare('NXActionCTClear', nx.NXAST_CT_CLEAR);
/** Executes actions on a copy of the packet. */
export const NXActionClone = action(
  'NXActionClone',
  nx.NXAST_CLONE,
  { _pad: pad(6), actions: manyOfOwn<ActionFamilies>() },
  { ...variable, ...unknownToRyu },
);

/** Translates addresses, inside NXActionCT. As in Ryu empty text and null stand for what is not given. */
export interface Nat {
  cls: 'NXActionNAT';
  flags: number;
  range_ipv4_min: string;
  range_ipv4_max: string;
  range_ipv6_min: string;
  range_ipv6_max: string;
  range_proto_min: number | null;
  range_proto_max: number | null;
}
export interface NatInput {
  readonly flags: number;
  readonly range_ipv4_min?: string | undefined;
  readonly range_ipv4_max?: string | undefined;
  readonly range_ipv6_min?: string | undefined;
  readonly range_ipv6_max?: string | undefined;
  readonly range_proto_min?: number | null | undefined;
  readonly range_proto_max?: number | null | undefined;
}
/** Its parts in the order of their bits in `range_present` and on the wire. */
const NAT_PARTS = [
  ['range_ipv4_min', 4],
  ['range_ipv4_max', 4],
  ['range_ipv6_min', 16],
  ['range_ipv6_max', 16],
  ['range_proto_min', 2],
  ['range_proto_max', 2],
] as const;

export const NXActionNAT = customAction<'NXActionNAT', Nat, NatInput>('NXActionNAT', nx.NXAST_NAT, {
  encode(o, w) {
    const nat = o as Nat;
    w.zeros(6);
    const from = w.p - w.start - 4;
    w.dv.setUint16(w.p - 4, uint(nat.flags, 16, nat.cls, 'flags'));
    let present = 0;
    NAT_PARTS.forEach(([name, size], i) => {
      const v = nat[name];
      if (v === '' || v === null) return;
      present |= 1 << i;
      w.zeros(size);
      const at = w.p - size;
      if (size === 2) {
        w.dv.setUint16(at, uint(v, 16, nat.cls, name));
      } else if (size === 16) {
        if (typeof v !== 'string' || !writeIpv6(w.b, at, v)) bad(nat.cls, name, v, 'an IPv6 address');
      } else {
        const address = typeof v === 'string' ? parseIpv4(v) : -1;
        if (address < 0) bad(nat.cls, name, v, 'an IPv4 address');
        w.dv.setUint32(at, address);
      }
    });
    w.dv.setUint16(w.start + from + 2, present);
  },
  decode(r, p, end) {
    const nat: Nat = {
      cls: 'NXActionNAT',
      flags: r.dv.getUint16(p + 2),
      range_ipv4_min: '',
      range_ipv4_max: '',
      range_ipv6_min: '',
      range_ipv6_max: '',
      range_proto_min: null,
      range_proto_max: null,
    };
    const present = r.dv.getUint16(p + 4);
    let at = p + 6;
    NAT_PARTS.forEach(([name, size], i) => {
      if ((present & (1 << i)) === 0) return;
      if (end - at < size) fail(r, at, 'NXActionNAT cut short', ...BAD_LEN);
      if (name === 'range_proto_min' || name === 'range_proto_max') nat[name] = r.dv.getUint16(at);
      else nat[name] = size === 4 ? formatIpv4(r.dv.getUint32(at)) : readIpv6(r.b, at - r.base);
      at += size;
    });
    return present >= 1 << NAT_PARTS.length || end - at >= 8 ? undefined : nat;
  },
  toJson(o) {
    const { cls: _, ...attributes } = o as Nat;
    return attributes;
  },
  fromJson({ type: _t, len: _l, experimenter: _e, vendor: _v, subtype: _s, ...attributes }) {
    return attributes;
  },
  make(input) {
    const i = input as NatInput;
    return {
      cls: 'NXActionNAT',
      flags: i.flags,
      range_ipv4_min: i.range_ipv4_min ?? '',
      range_ipv4_max: i.range_ipv4_max ?? '',
      range_ipv6_min: canonicalIpv6(i.range_ipv6_min ?? ''),
      range_ipv6_max: canonicalIpv6(i.range_ipv6_max ?? ''),
      range_proto_min: i.range_proto_min ?? null,
      range_proto_max: i.range_proto_max ?? null,
    };
  },
});

const address = new Uint8Array(16);
/** The text a decoder would give; other text is left for the encoder to refuse. */
const canonicalIpv6 = (text: string): string =>
  typeof text === 'string' && writeIpv6(address, 0, text) ? readIpv6(address, 0) : text;
