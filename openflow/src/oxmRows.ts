/**
 * Finds the row of a match field by its name, or by the numbers in its header, in a version. The rows are those of
 * oxmFields.ts, made ready for use once; fields without one get a row on the fly. Used by all that reads or writes fields:
 * oxm.ts, oxmForms.ts, match.ts, oxmIds.ts, oxs.ts.
 */
import { ONF, OXM_FIELDS, type OxmKind, type OxmRow } from './oxmFields.ts';
import type { Range } from './schema.ts';
import type { Reader, Version } from './wire.ts';

/** A row compiled for use: what is written and read before the value. */
export interface CompiledOxm {
  readonly name: string;
  /** `class << 7 | number`. */
  readonly type: number;
  readonly kind: OxmKind | 'raw';
  readonly size: number;
  readonly bits: number;
  readonly experimenter: number | undefined;
  readonly expType: number | undefined;
  /** Bytes of the experimenter header. */
  readonly extra: number;
  /** Length a header without a value tells. */
  readonly width: number;
  /** Versions in which Ryu has no name for it. */
  readonly unnamed: Range;
  /** First word of the TLV without and with a mask. */
  readonly header: number;
  readonly maskedHeader: number;
  /** Order in a match, as Ryu sorts: experimenter fields by the experimenter's number. */
  readonly order: number;
}

/** The rows of one version, as they are looked up. */
export interface OxmTable {
  readonly byName: Map<string, CompiledOxm>;
  readonly byType: Map<number, CompiledOxm>;
  readonly byExperimenter: Map<string, CompiledOxm>;
}
/** Indexed by version. */
export const oxmTables: readonly OxmTable[] = Array.from({ length: 7 }, () => ({
  byName: new Map(),
  byType: new Map(),
  byExperimenter: new Map(),
}));

/** Largest value of a field of variable length. */
const MAX_RAW = 124;

/** Works out what a row writes and reads. */
export function compileRow(
  name: string,
  r: Omit<OxmRow, 'kind' | 'versions' | 'others'> & { kind: OxmKind | 'raw' },
): CompiledOxm {
  const type = r.cls * 128 + r.num;
  const extra = r.experimenter === undefined ? 0 : r.expType === undefined ? 4 : 6;
  return {
    name,
    type,
    kind: r.kind,
    size: r.size,
    bits: r.bits,
    experimenter: r.experimenter,
    expType: r.expType,
    extra,
    // what Open vSwitch writes for fields without a width of their own
    width: extra + (r.kind !== 'raw' ? r.size : r.unnamed.length > 0 ? MAX_RAW : 0),
    unnamed: r.unnamed,
    header: type * 512 + r.size + extra,
    maskedHeader: type * 512 + 256 + 2 * r.size + extra,
    order: r.experimenter ?? type,
  };
}
for (const [name, first] of Object.entries(OXM_FIELDS)) {
  for (const r of [first, ...first.others]) {
    const c = compileRow(name, r);
    for (const version of r.versions) {
      const t = oxmTables[version] as OxmTable;
      t.byName.set(name, c);
      if (c.experimenter === undefined) t.byType.set(c.type, c);
      else t.byExperimenter.set(`${c.experimenter}/${r.num}/${c.expType ?? ''}`, c);
    }
  }
}

/** The row of a name, made on the fly for `field_<n>`; undefined when the name means nothing in that version. */
export function oxmByName(name: string, version: Version): CompiledOxm | undefined {
  const known = oxmTables[version]?.byName.get(name);
  if (known !== undefined) return known;
  return rawRow(name);
}

/** The row of `field_<n>` and `field_<n>_<experimenter>`: what has no row of its own keeps its bytes. */
export function rawRow(name: string): CompiledOxm | undefined {
  const m = /^field_(\d{1,7})(?:_(\d{1,10}))?$/.exec(name);
  if (m === null) return undefined;
  const type = Number(m[1]);
  const exp = m[2] === undefined ? undefined : Number(m[2]);
  if (type > 0x7fffff || (exp !== undefined && exp > 0xffffffff)) return undefined;
  return compileRow(name, {
    cls: type >>> 7,
    num: type & 127,
    kind: 'raw',
    size: 0,
    bits: 0,
    experimenter: exp,
    expType: undefined,
    unnamed: [],
  });
}

/** Name for a `class << 7 | number` outside experimenter classes, as in the identifiers of table features. */
export function oxmNameOfType(type: number, version: Version): string {
  return oxmTables[version]?.byType.get(type)?.name ?? `field_${type}`;
}

/** What is wrong with a name that means nothing. */
export const noSuchField = (version: Version) => `no such OXM field in version ${version}`;

/** The row a name means, and what its header tells. */
export function headerOf(name: string, version: Version): { row: CompiledOxm; word: number } | undefined {
  const known = oxmTables[version]?.byName.get(name);
  if (known !== undefined) return { row: known, word: known.type * 512 + known.width };
  const [plain, own, ...more] = name.split('/');
  const row = knownRow(plain as string, version);
  if (row === undefined || more.length > 0) return undefined;
  if (own === undefined) return { row, word: row.type * 512 + row.width };
  const m = /^(m?)(\d{1,3})$/.exec(own);
  if (m === null || Number(m[2]) > 255) return undefined;
  return { row, word: row.type * 512 + (m[1] === 'm' ? 256 : 0) + Number(m[2]) };
}

/** The row of a name, also of `field_<n>` where a field of that number has a name. */
export function knownRow(name: string, version: Version): CompiledOxm | undefined {
  const c = oxmByName(name, version);
  if (c?.kind !== 'raw' || c.experimenter !== undefined || c.width > 0) return c;
  return oxmTables[version]?.byType.get(c.type) ?? c;
}

/** Whether Ryu has a number for the field where it has no name: not for experimenters'. */
export const isRaw = (c: CompiledOxm | undefined, version: Version): c is CompiledOxm =>
  c !== undefined && c.experimenter === undefined && c.unnamed.includes(version);

/** The row of an experimenter's field whose number stands at `p`. */
export function experimenterRow(
  rows: OxmTable['byExperimenter'],
  r: Reader,
  p: number,
  end: number,
  id: number,
  num: number,
): CompiledOxm | undefined {
  if (id !== ONF || num !== 0) return rows.get(`${id}/${num}/`);
  return end - p >= 6 ? rows.get(`${id}/0/${r.dv.getUint16(p + 4)}`) : undefined;
}
