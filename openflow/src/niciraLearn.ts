/**
 * Declarations of the actions with which a flow makes others (NXAST_LEARN, NXAST_LEARN2 of ovs-actions(7)), and of the
 * specifications that say what the learned flow matches and does. niciraActions.ts collects Nicira's actions.
 */
import { ofproto_v1_3 as ofp } from './constants.ts';
import { action, BAD_ARGUMENT, BAD_LEN, bad, SPEC, uint, unknownToRyu, variable } from './niciraActionKinds.ts';
import { nicira_ext as nx } from './niciraConstants.ts';
import { decodeOxmHeader, encodeOxmHeader } from './oxm.ts';
import type { OxmHeader } from './oxmFields.ts';
import { oxmHeaderToJson } from './oxmForms.ts';
import { ALL, type Custom, customStruct, either, oxmHeaderIf, pad, u8, u16, u32, u64 } from './schema.ts';
import { fail, type Reader, type Writer } from './wire.ts';

/** Bits of a field from offset `ofs` on. */
export type Subfield = [field: OxmHeader, ofs: number];
export type SubfieldInput = readonly [field: OxmHeader, ofs: number];
/** Where a learned flow gets `n_bits` bits from, a field of the packet or a number, and where it puts them. */
export interface FlowSpec<C extends string, D> {
  cls: C;
  src: Subfield | bigint;
  dst: D;
  n_bits: number;
}
export interface FlowSpecInput {
  readonly src: SubfieldInput | bigint | number;
  readonly dst: SubfieldInput;
  readonly n_bits: number;
}
export interface FlowSpecOutputInput {
  readonly src: SubfieldInput | bigint | number;
  readonly dst?: '' | undefined;
  readonly n_bits: number;
}

const SPEC_CLASSES = ['NXFlowSpecMatch', 'NXFlowSpecLoad', 'NXFlowSpecOutput'] as const;
type SpecClass = (typeof SPEC_CLASSES)[number];
/** Bytes of a number of `n` bits in a specification. */
const immediateSize = (n: number): number => ((n + 15) >> 4) * 2;

function putSubfield(w: Writer, v: unknown, cls: string, field: string): void {
  if (!Array.isArray(v) || v.length !== 2) bad(cls, field, v, '[field, offset]');
  encodeOxmHeader(w, v[0], 10, cls, field);
  if (w.cap - w.p < 2) w.grow(2);
  w.dv.setUint16(w.p, uint(v[1], 16, cls, field));
  w.p += 2;
}
function getSubfield(r: Reader, p: number, end: number): Subfield {
  const field = decodeOxmHeader(r, p, end, ...BAD_ARGUMENT);
  if (end - r.q < 2) fail(r, p, 'flow specification cut short', ...BAD_LEN);
  r.q += 2;
  return [field, r.dv.getUint16(r.q - 2)];
}

/** All three read alike: whichever of them is asked gives an object of the class it finds. */
const specCustom = (cls: SpecClass): Custom => ({
  min: 2,
  encode(o, w) {
    const { src, dst, n_bits } = o as FlowSpec<SpecClass, unknown>;
    if (typeof n_bits !== 'number' || (n_bits & 0x3ff) !== n_bits) bad(cls, 'n_bits', n_bits, 'an integer of 10 bits');
    if (w.cap - w.p < 2) w.grow(2);
    const immediate = typeof src === 'bigint' || typeof src === 'number';
    w.dv.setUint16(w.p, (immediate ? 0x2000 : 0) | (SPEC_CLASSES.indexOf(cls) << 11) | n_bits);
    if (w.dv.getUint16(w.p) === 0) bad(cls, 'n_bits', n_bits, 'a number of bits: nothing cannot be told from padding');
    w.p += 2;
    if (immediate) {
      const size = immediateSize(n_bits);
      const v = BigInt(src);
      if (v < 0n || BigInt.asUintN(8 * size, v) !== v) bad(cls, 'src', src, `an unsigned integer of ${8 * size} bits`);
      w.bytes(
        Buffer.from(
          v
            .toString(16)
            .padStart(2 * size, '0')
            .slice(0, 2 * size),
          'hex',
        ),
      );
    } else {
      putSubfield(w, src, cls, 'src');
    }
    if (cls !== 'NXFlowSpecOutput') putSubfield(w, dst, cls, 'dst');
    else if (dst !== '') bad(cls, 'dst', dst, 'empty');
  },
  decode(r, p, end) {
    if (end - p < 2) fail(r, p, 'flow specification cut short', ...BAD_LEN);
    const head = r.dv.getUint16(p);
    r.q = p + 2;
    if (head === 0) return undefined;
    const found = SPEC_CLASSES[(head >> 11) & 3];
    if (head > 0x3fff || found === undefined) fail(r, p, 'unknown flow specification', ...BAD_ARGUMENT);
    const n_bits = head & 0x3ff;
    if ((head & 0x400) !== 0) fail(r, p, 'flow specification of too many bits', ...BAD_ARGUMENT);
    let src: Subfield | bigint;
    if ((head & 0x2000) === 0) {
      src = getSubfield(r, p + 2, end);
    } else {
      const size = immediateSize(n_bits);
      if (end - p - 2 < size) fail(r, p, 'flow specification cut short', ...BAD_LEN);
      src = size === 0 ? 0n : BigInt(`0x${r.b.toString('hex', p + 2 - r.base, p + 2 + size - r.base)}`);
      r.q = p + 2 + size;
    }
    const dst = found === 'NXFlowSpecOutput' ? '' : getSubfield(r, r.q, end);
    return { cls: found, src, dst, n_bits };
  },
  toJson(o, version) {
    const { src, dst, n_bits } = o as FlowSpec<SpecClass, Subfield | ''>;
    const show = (v: Subfield | bigint | '') => (Array.isArray(v) ? [oxmHeaderToJson(v[0], version), v[1]] : v);
    return { src: show(src), dst: show(dst), n_bits };
  },
  fromJson({ src, dst, n_bits }) {
    return { src, dst, n_bits };
  },
  make(input) {
    const { src, dst, n_bits } = input as FlowSpecInput | FlowSpecOutputInput;
    const copy = (v: SubfieldInput) => (Array.isArray(v) ? [...v] : v);
    return {
      cls,
      src: typeof src === 'number' ? BigInt(src) : typeof src === 'bigint' ? src : copy(src),
      dst: dst === undefined || dst === '' ? '' : copy(dst),
      n_bits,
    };
  },
});
const specOptions = (cls: SpecClass) => ({ spec: SPEC, versions: ALL, err: BAD_LEN, custom: specCustom(cls) });
/** A match of the learned flow. */
export const NXFlowSpecMatch = customStruct<'NXFlowSpecMatch', FlowSpec<'NXFlowSpecMatch', Subfield>, FlowSpecInput>(
  'NXFlowSpecMatch',
  specOptions('NXFlowSpecMatch'),
);
/** An NXActionRegLoad of the learned flow. */
export const NXFlowSpecLoad = customStruct<'NXFlowSpecLoad', FlowSpec<'NXFlowSpecLoad', Subfield>, FlowSpecInput>(
  'NXFlowSpecLoad',
  specOptions('NXFlowSpecLoad'),
);
/** An output action of the learned flow. */
export const NXFlowSpecOutput = customStruct<'NXFlowSpecOutput', FlowSpec<'NXFlowSpecOutput', ''>, FlowSpecOutputInput>(
  'NXFlowSpecOutput',
  specOptions('NXFlowSpecOutput'),
);

const learn = {
  idle_timeout: u16(0),
  hard_timeout: u16(0),
  priority: u16(ofp.OFP_DEFAULT_PRIORITY),
  cookie: u64(0n),
  flags: u16(0),
  table_id: u8(),
  _pad: pad(1),
  fin_idle_timeout: u16(0),
  fin_hard_timeout: u16(0),
};
const specs = either([NXFlowSpecMatch, NXFlowSpecLoad, NXFlowSpecOutput], NXFlowSpecMatch);
export const NXActionLearn = action('NXActionLearn', nx.NXAST_LEARN, { ...learn, specs }, variable);
/** NXActionLearn with a limit of learned flows; `result_dst` is there when `flags` has NX_LEARN_F_WRITE_RESULT. */
export const NXActionLearn2 = action(
  'NXActionLearn2',
  nx.NXAST_LEARN2,
  {
    ...learn,
    limit: u32(0),
    result_dst_ofs: u16(0),
    _pad2: pad(2),
    result_dst: oxmHeaderIf('flags', nx.NX_LEARN_F_WRITE_RESULT),
    specs,
  },
  { ...variable, ...unknownToRyu },
);
