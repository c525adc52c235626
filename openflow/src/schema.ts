/**
 * The language in which messages.ts, structs.ts and their neighbours declare the protocol: kinds of fields, structures,
 * families of TLVs, messages. A declaration is data; compile.ts turns it into encoders, decoders and factories, json.ts
 * walks it, and TypeScript infers from it what callers may write. Keys of a declaration stand in wire order.
 */
import type { OFPMatch } from './match.ts';
import type { OfMessage } from './messages.ts';
import type { OxmHeader, OxmTlv, OxmTlvInput } from './oxmFields.ts';
import type { OFPStats } from './oxs.ts';
import type { Reader, Version, Writer } from './wire.ts';

export type { Version } from './wire.ts';

/*
 * Ranges of versions, by their numbers on the wire: 1 is OpenFlow 1.0, 3 is 1.2, 4 is 1.3, 5 is 1.4, 6 is 1.5. (2 is 1.1,
 * which no switch in use speaks.) A declaration holds in the versions of its range; classes whose fields have nothing in
 * common in two versions are declared once for each.
 */
export const ALL = [1, 3, 4, 5, 6] as const;
export const IN_10 = [1] as const;
export const IN_12 = [3] as const;
export const IN_13 = [4] as const;
export const IN_14 = [5] as const;
export const IN_15 = [6] as const;
export const FROM_12 = [3, 4, 5, 6] as const;
export const FROM_13 = [4, 5, 6] as const;
export const FROM_14 = [5, 6] as const;
export const UNTIL_12 = [1, 3] as const;
export const UNTIL_13 = [1, 3, 4] as const;
export const UNTIL_14 = [1, 3, 4, 5] as const;
export const FROM_12_UNTIL_13 = [3, 4] as const;
export const FROM_12_UNTIL_14 = [3, 4, 5] as const;
export const FROM_13_UNTIL_14 = [4, 5] as const;
export type Range = readonly Version[];

/** What a field is on the wire. `json` is the name in Ryu's JSON of a field that objects here do not carry. */
export type Kind =
  | { readonly t: 'uint'; readonly size: 1 | 2 | 4 }
  | { readonly t: 'u64' }
  | { readonly t: 'mac' }
  | { readonly t: 'ipv4' }
  | { readonly t: 'str'; readonly size: number }
  | { readonly t: 'pad'; readonly size: number }
  | { readonly t: 'const'; readonly size: 1 | 2 | 4; readonly value: number; readonly json: string | undefined }
  | { readonly t: 'len'; readonly json: string | undefined }
  | { readonly t: 'lenOf'; readonly list: string; readonly json: string | undefined }
  | { readonly t: 'countOf'; readonly list: string; readonly json: string | undefined }
  | { readonly t: 'oxmHeader'; readonly size: 4 | undefined; readonly none: boolean; readonly when: Flag | undefined }
  | { readonly t: 'match'; readonly bare: string | undefined }
  | { readonly t: 'headed' }
  | { readonly t: 'tail' }
  | { readonly t: 'stats' }
  | { readonly t: 'oxms' }
  | { readonly t: 'text' }
  | { readonly t: 'message'; readonly xid: 'outer' | 'own'; readonly before: string | undefined }
  | { readonly t: 'size'; readonly json: string }
  | { readonly t: 'bytes'; readonly empty: 'shown' | 'null' }
  | { readonly t: 'struct'; readonly of: AnyStruct }
  | { readonly t: 'list'; readonly of: AnyStruct; readonly key: string | undefined }
  | { readonly t: 'family'; readonly of: AnyFamily | undefined }
  | {
      readonly t: 'either';
      readonly of: readonly AnyStruct[];
      readonly reads: AnyStruct;
      readonly count: number | undefined;
    }
  | { readonly t: 'uints'; readonly size: 1 | 2 | 4; readonly count: number | undefined }
  | { readonly t: 'bitmap' };

/** A bit of an earlier field, which says whether a field is there. */
export interface Flag {
  readonly field: string;
  readonly bit: number;
}

/** Whether a factory demands the field, fills in a default, or never shows it. */
export type Presence = 'required' | 'optional' | 'hidden';

/**
 * One field; `T` is the type in decoded objects, `I` what factories take, `V` the versions that have it. Where the type
 * depends on the version, `T` is a `StructRef`, `ListRef` or `FamilyRef`. The `~` members exist for inference only.
 */
export interface Field<T = unknown, I = unknown, P extends Presence = Presence, V extends Version = Version> {
  readonly kind: Kind;
  readonly presence: P;
  readonly dflt: unknown;
  /** Versions that have the field; undefined means all of the structure's. */
  readonly versions: Range | undefined;
  /** Versions in which its default is another. */
  readonly except: { readonly versions: Range; readonly dflt: unknown } | undefined;
  /** Versions in which Ryu has no such attribute: JSON shows it only when there is something in it. */
  readonly extra: Range | undefined;
  readonly '~t': T;
  readonly '~i': I;
  readonly '~v': V;
}
export type Fields = Readonly<Record<string, Field>>;

/** Stands for the object of a declaration, in the version asked for. */
export interface StructRef<S> {
  readonly '~struct': S;
}
export interface ListRef<S> {
  readonly '~list': S;
}
export interface FamilyRef<F> {
  readonly '~family': F;
}
/** Stands for any message of the version asked for. */
export interface MessageRef {
  readonly '~message': never;
}

function make<T, I, P extends Presence>(kind: Kind, presence: P, dflt?: unknown): Field<T, I, P> {
  const field = { kind, presence, dflt, versions: undefined, except: undefined, extra: undefined };
  return field as unknown as Field<T, I, P>;
}

/** A field that only some of the structure's versions have. */
export function only<const R extends Range, T, I, P extends Presence>(
  versions: R,
  field: Field<T, I, P>,
): Field<T, I, P, R[number]> {
  return { ...field, versions } as unknown as Field<T, I, P, R[number]>;
}

/** An optional field whose default is another in some versions. */
export function defaultIn<F extends Field>(versions: Range, dflt: F['~t'], field: F): F {
  return { ...field, except: { versions, dflt } };
}
/** A list or bytes that Ryu does not know in some versions: JSON shows it there only when it is not empty. */
export function extraIn<F extends Field>(versions: Range, field: F): F {
  return { ...field, extra: versions };
}
/** A field that must be given although its kind has a default. */
export function required<T, I, V extends Version>(field: Field<T, I, Presence, V>): Field<T, I, 'required', V> {
  return { ...field, presence: 'required' };
}

type Num<P extends Presence> = Field<number, number, P>;
function uint(size: 1 | 2 | 4, args: readonly number[]): Num<'required' | 'optional'> {
  return make({ t: 'uint', size }, args.length > 0 ? 'optional' : 'required', args[0]);
}
/** Unsigned 8 bits; with an argument, optional with that default. */
export const u8 = ((...d: number[]) => uint(1, d)) as { (): Num<'required'>; (dflt: number): Num<'optional'> };
/** Unsigned 16 bits. */
export const u16 = ((...d: number[]) => uint(2, d)) as { (): Num<'required'>; (dflt: number): Num<'optional'> };
/** Unsigned 32 bits. */
export const u32 = ((...d: number[]) => uint(4, d)) as { (): Num<'required'>; (dflt: number): Num<'optional'> };
type Big<P extends Presence> = Field<bigint, bigint | number, P>;
/** Unsigned 64 bits: always a bigint in objects. */
export const u64 = ((...d: bigint[]) =>
  make<bigint, bigint | number, Presence>({ t: 'u64' }, d.length > 0 ? 'optional' : 'required', d[0])) as {
  (): Big<'required'>;
  (dflt: bigint): Big<'optional'>;
};
/** Ethernet address in text. */
export const mac = (): Field<string, string, 'optional'> => make({ t: 'mac' }, 'optional', '00:00:00:00:00:00');
/** IPv4 address in text. */
export const ipv4 = (): Field<string, string, 'optional'> => make({ t: 'ipv4' }, 'optional', '0.0.0.0');
/** NUL-padded text. */
export const str = (size: number): Field<string, string, 'optional'> => make({ t: 'str', size }, 'optional', '');
/** Bytes that are written as zero and ignored when read. */
export const pad = (size: number): Field<never, never, 'hidden'> => make({ t: 'pad', size }, 'hidden');
/** A number that is the same in every structure of the class. */
export const fixed = (size: 1 | 2 | 4, value: number, json?: string): Field<never, never, 'hidden'> =>
  make({ t: 'const', size, value, json }, 'hidden');
/** 16-bit length of the structure itself. */
export const len = (json?: string): Field<never, never, 'hidden'> => make({ t: 'len', json }, 'hidden');
/** 16-bit length of the field `list`, which follows. */
export const lenOf = (list: string, json?: string): Field<never, never, 'hidden'> =>
  make({ t: 'lenOf', list, json }, 'hidden');
/** 16-bit number of elements of the list `list`, which follows. */
export const countOf = (list: string, json?: string): Field<never, never, 'hidden'> =>
  make({ t: 'countOf', list, json }, 'hidden');
/** A match field by name, as the 32-bit header its TLV would have. */
export const oxmHeader = (): Field<OxmHeader, OxmHeader, 'required'> =>
  make({ t: 'oxmHeader', size: 4, none: false, when: undefined }, 'required');
/** The same, where the header is longer for fields that belong to an experimenter. */
export const longOxmHeader = (): Field<OxmHeader, OxmHeader, 'required'> =>
  make({ t: 'oxmHeader', size: undefined, none: false, when: undefined }, 'required');
/** A match field or none, which is the empty text and zero on the wire. */
export const oxmHeaderOrNone = (): Field<OxmHeader | '', OxmHeader | '', 'optional'> =>
  make({ t: 'oxmHeader', size: 4, none: true, when: undefined }, 'optional');
/** A match field that is there when `bit` is set in the earlier field `field`; the empty text when not. */
export const oxmHeaderIf = (field: string, bit: number): Field<OxmHeader | '', OxmHeader | '', 'optional'> =>
  make({ t: 'oxmHeader', size: undefined, none: false, when: { field, bit } }, 'optional');
/** An OFPMatch with its padding. */
export const match = (): Field<OFPMatch, OFPMatch, 'optional'> => make({ t: 'match', bare: undefined }, 'optional');
/**
 * The fields of an OFPMatch, padded to 8 bytes; an earlier `lenOf` tells their length. Peers do not agree on whether the
 * header of OFPMatch stands in front of them: the field `headed` tells, unless it is `NEVER_HEADED`.
 */
export const bareMatch = (headed: string): Field<OFPMatch, OFPMatch, 'optional'> =>
  make({ t: 'match', bare: headed }, 'optional');
/** For matches that have no header by their definition. */
export const NEVER_HEADED = '';
/** Takes no bytes: tells whether a `bareMatch` has the header that its name denies. JSON shows it when it is not `dflt`. */
export const matchHeader = (dflt: boolean): Field<boolean, boolean, 'optional'> =>
  make({ t: 'headed' }, 'optional', dflt);
/** 32 bits and as much padding at the end, which some peers leave out: then it is null. */
export const tail = (dflt: number): Field<number | null, number | null, 'optional'> =>
  make({ t: 'tail' }, 'optional', dflt);
/** Match fields with values to the end of the structure; one field may stand there several times. */
export const oxms = (): Field<OxmTlv[], readonly OxmTlvInput[], 'optional'> => make({ t: 'oxms' }, 'optional');
/** An OFPStats with its padding. */
export const stats = (): Field<OFPStats, OFPStats, 'optional'> => make({ t: 'stats' }, 'optional');
/** Text to the end of the structure. */
export const text = (): Field<string, string, 'optional'> => make({ t: 'text' }, 'optional');
/** Takes no bytes: Ryu's JSON shows the size of the whole structure under that name. */
export const shownSize = (json: string): Field<never, never, 'hidden'> => make({ t: 'size', json }, 'hidden');
/** A whole message with its header and a transaction id of its own. */
export const nested = (): Field<MessageRef, MessageRef, 'required'> =>
  make({ t: 'message', xid: 'own', before: undefined }, 'required');
/**
 * A whole message that belongs to the one around it and shares its transaction id: factories give it that one when it has
 * none, `encode(msg, xid)` changes both. When the list `before`, which follows, has elements, padding to 8 precedes them.
 */
export const bundled = (before: string): Field<MessageRef, MessageRef, 'required'> =>
  make({ t: 'message', xid: 'outer', before }, 'required');
/** The rest of the structure. */
export const bytes = (): Field<Buffer, Uint8Array, 'optional'> => make({ t: 'bytes', empty: 'shown' }, 'optional');
/** The same, where Ryu's JSON has null for no bytes. */
export const bytesOrNull = (): Field<Buffer, Uint8Array, 'optional'> => make({ t: 'bytes', empty: 'null' }, 'optional');
/** The same, where Ryu has no attribute for it: JSON shows it only when there is something to show. */
export const extraBytes = (): Field<Buffer, Uint8Array, 'optional'> => extraIn(ALL, bytes());
/** One structure of fixed size, or the last field. */
export const one = <S extends AnyStruct>(of: S): Field<StructRef<S>, StructRef<S>, 'required'> =>
  make({ t: 'struct', of }, 'required');
/** The same, where its factory knows what to make of nothing. */
export const oneOrDefault = <S extends AnyStruct>(of: S): Field<StructRef<S>, StructRef<S>, 'optional'> =>
  make({ t: 'struct', of }, 'optional');
/** Structures of one class to the end of what holds them. */
export const list = <S extends AnyStruct>(of: S): Field<ListRef<S>, ListRef<S>, 'optional'> =>
  make({ t: 'list', of, key: undefined }, 'optional');
/** The same, where Ryu's JSON has an object whose keys are the elements' `key`. */
export const listByKey = <S extends AnyStruct>(of: S, key: string): Field<ListRef<S>, ListRef<S>, 'optional'> =>
  make({ t: 'list', of, key }, 'optional');
/** TLVs of one family to the end of what holds them. */
export const many = <F extends AnyFamily>(of: F): Field<FamilyRef<F>, FamilyRef<F>, 'optional'> =>
  make({ t: 'family', of }, 'optional');
/**
 * TLVs of the family the structure itself is a member of, to a depth of `MAX_DEPTH`. The family can be named only after its
 * members, so `F` refers to its type.
 */
export const manyOfOwn = <F>(): Field<FamilyRef<F>, FamilyRef<F>, 'optional'> =>
  make({ t: 'family', of: undefined }, 'optional');
/** How deep structures that hold others of their own family are read. */
export const MAX_DEPTH = 32;
/**
 * Structures of several classes that are not TLVs: the decoder of `reads` tells them apart. Exactly `count`, or to the end
 * of the structure.
 */
export const either = <const M extends readonly AnyStruct[]>(
  of: M,
  reads: AnyStruct,
  count?: number,
): Field<ListRef<M[number]>, ListRef<M[number]>, 'optional'> => make({ t: 'either', of, reads, count }, 'optional');
/** Numbers: exactly `count`, or as many as an earlier `countOf` tells, or to the end of the structure. */
export const uints = (size: 1 | 2 | 4, count?: number): Field<number[], readonly number[], 'optional'> =>
  make({ t: 'uints', size, count }, 'optional');
/** Numbers of versions as a bitmap. */
export const bitmap = (): Field<number[], readonly number[], 'required'> => make({ t: 'bitmap' }, 'required');

/** How a structure that has no field-by-field form is read, written and shown. */
export interface Custom {
  /** Bytes it has at least. */
  readonly min: number;
  /** `w.version` is the version to write for. */
  encode(o: object, w: Writer): void;
  /**
   * Must consume up to `end`, in a list at most up to `end`, and leave `r.q` there. `r.version` is the version to read.
   * May give an object of another class of the same family; in lists undefined for what is padding.
   */
  decode(r: Reader, p: number, end: number): object | undefined;
  toJson(o: object, version: Version): object;
  fromJson(attrs: Readonly<Record<string, unknown>>, version: Version): unknown;
  make(input: object, version: Version): object;
}

/** Type and code of an OpenFlow error. */
export type ErrorPair = readonly [type: number, code: number];

export interface StructOptions {
  /** Section of the specification, for documentation: of OpenFlow 1.3.5 where the range has 1.3, else of its last version. */
  readonly spec: string;
  /** Versions whose wire format this is. */
  readonly versions: Range;
  /** Padding to 8 bytes: counted in the length field (`inside`) or not (`outside`). */
  readonly padTo8?: 'inside' | 'outside';
  /** OpenFlow error for a length that cannot be. */
  readonly err: ErrorPair;
  /** The same from 1.4 on, where errors in properties have a type of their own. */
  readonly errFrom14?: ErrorPair;
  /** TLV types of this class where it has no `type` of fixed value; some only in some versions. */
  readonly types?: readonly (number | readonly [type: number, versions: Range])[];
  /**
   * For members of a family with experimenters: the experimenter and its own type, by which this class is told, and, where
   * several classes have that type, the 32-bit word at offset 12.
   */
  readonly experimenter?: readonly [id: number, subtype?: number, word?: number];
  readonly custom?: Custom;
  readonly message?: MessageHeader;
  /** What the fields are when the factory is given more than fields. */
  readonly toFields?: (given: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>;
  readonly json?: JsonForm;
  /** Where Ryu does not know the class: the class of the same bytes that JSON shows in its place. */
  readonly jsonAs?: { readonly versions: Range; readonly cls: string };
}

/** How Ryu's JSON shows a class in versions where it is not simply its name and its fields. */
export interface JsonForm {
  readonly versions: Range;
  /** Ryu's name of the class. Classes that share one are told apart by their `type`. */
  readonly cls?: string;
  /** Attributes that are no fields. */
  readonly attributes?: Readonly<Record<string, number | null | readonly []>>;
  /** What such attributes are for an object, where they repeat what its fields say. */
  readonly repeated?: (o: object) => Readonly<Record<string, unknown>>;
  /** The class of which Ryu makes this one the `data`, in JSON only. */
  readonly inside?: 'OFPVendor';
}

/** Header values by which a message is told from others. */
export interface MessageHeader {
  /** In all versions, or in 1.0 and from 1.2 on. */
  readonly type: number | readonly [in10: number, from12: number];
  readonly multipart?: number;
}

/** A declared structure or message with fields `F`, which holds in versions `V`; custom ones have a fixed object and input type. */
export interface Struct<C extends string = string, F = unknown, V extends Version = Version, O = never, I = never> {
  readonly cls: C;
  readonly options: StructOptions;
  readonly fields: Fields;
  readonly '~f': F;
  readonly '~v': V;
  readonly '~o': O;
  readonly '~i': I;
}
export interface AnyStruct {
  readonly cls: string;
  readonly options: StructOptions;
  readonly fields: Fields;
}

/** TLVs told apart by a 16-bit type that stands beside a 16-bit length. */
export interface Family<M = unknown> {
  readonly name: string;
  readonly members: readonly AnyStruct[];
  /** For types nobody declared, one in each version: kept raw. */
  readonly unknowns: readonly AnyStruct[];
  readonly options: FamilyOptions;
  readonly '~m': M;
}
export interface AnyFamily {
  readonly name: string;
  readonly members: readonly AnyStruct[];
  readonly unknowns: readonly AnyStruct[];
  readonly options: FamilyOptions;
}
export interface FamilyOptions {
  readonly err: ErrorPair;
  readonly errFrom14?: ErrorPair;
  /** Whether the length stands in front of the type. */
  readonly lengthFirst?: boolean;
  /** Smallest length a member may tell. */
  readonly min: number;
  /** Whether lengths must be multiples of 8. */
  readonly aligned?: boolean;
  /** Whether padding to 8 follows that the length does not count. */
  readonly padTo8?: boolean;
  /**
   * Where members that belong to an experimenter have its number (32 bits, at offset 4), what follows it to tell its
   * structures apart (at offset 8), and which TLV type announces them.
   */
  readonly experimenter?: { readonly type: number; readonly subtypeSize: 2 | 4 };
}

type Show<T> = { [K in keyof T]: T[K] } & {};
type KeysOf<F, P extends Presence, V extends Version> = {
  [K in keyof F]: F[K] extends { presence: P; '~v': infer R } ? (V extends R ? K : never) : never;
}[keyof F];
type Resolve<T, V extends Version> =
  T extends StructRef<infer S>
    ? Of<S, V>
    : T extends ListRef<infer S>
      ? Of<S, V>[]
      : T extends FamilyRef<infer F>
        ? MemberOf<F, V>[]
        : T extends VersionRef
          ? V
          : T extends MessageRef
            ? OfMessage<V>
            : T;
type ResolveInput<T, V extends Version> =
  T extends StructRef<infer S>
    ? Of<S, V>
    : T extends ListRef<infer S>
      ? readonly Of<S, V>[]
      : T extends FamilyRef<infer F>
        ? readonly MemberOf<F, V>[]
        : T extends VersionRef
          ? V
          : T extends MessageRef
            ? OfMessage<V>
            : T;
type TypeOf<F, V extends Version> = F extends { '~t': infer T } ? Resolve<T, V> : never;
type InputOf<F, V extends Version> = F extends { '~i': infer I } ? ResolveInput<I, V> : never;
/** Type of the objects of class `C` with fields `F` in version `V`. */
type ObjectOf<C extends string, F, V extends Version> = Show<
  { cls: C } & { [K in KeysOf<F, 'required' | 'optional', V>]: TypeOf<F[K], V> }
>;
/** What a factory takes for it. */
type InitOf<F, V extends Version> = Show<
  { readonly [K in KeysOf<F, 'required', V>]: InputOf<F[K], V> } & {
    readonly [K in KeysOf<F, 'optional', V>]?: InputOf<F[K], V> | undefined;
  }
>;

/** Declares a structure. */
export function struct<const C extends string, const O extends StructOptions, F extends Fields>(
  cls: C,
  options: O,
  fields: F,
): Struct<C, F, O['versions'][number]> {
  return { cls, options, fields } as unknown as Struct<C, F, O['versions'][number]>;
}

/** The declaration of a structure whose factory takes an `I`, from which `toFields` makes its fields. */
export function madeFrom<I extends object, C extends string, F, V extends Version>(
  declared: Struct<C, F, V>,
  toFields: (given: I) => Readonly<Record<string, unknown>>,
): Struct<C, F, V, never, I> {
  const options = { ...declared.options, toFields };
  return { ...declared, options } as unknown as Struct<C, F, V, never, I>;
}

/** Declares a structure that custom code reads and writes. */
export function customStruct<const C extends string, O extends { cls: C }, I, V extends Version = Version>(
  cls: C,
  options: StructOptions & { custom: Custom },
): Struct<C, never, V, O, I> {
  return { cls, options, fields: {} } as unknown as Struct<C, never, V, O, I>;
}

/** Declares a family of TLVs: in each version its members are those that the version has. */
export function family<const M extends readonly AnyStruct[], const U extends readonly AnyStruct[]>(
  name: string,
  members: M,
  unknowns: U,
  options: FamilyOptions,
): Family<M[number] | U[number]> {
  return { name, members, unknowns, options } as unknown as Family<M[number] | U[number]>;
}

/** Stands for the version asked for. */
export interface VersionRef {
  readonly '~version': never;
}
/** Messages of one version have its number; those that look alike in all may have any. */
type Header<T> = {
  readonly version: Field<T, T, 'optional'>;
  readonly xid: Field<number, number, 'optional'>;
};

/** Declares a message: `version` and `xid` come from the header. */
export function message<
  const C extends string,
  const O extends StructOptions & { message: MessageHeader },
  F extends Fields,
>(cls: C, options: O, fields: F): Struct<C, Header<VersionRef> & F, O['versions'][number]> {
  return { cls, options, fields } as unknown as Struct<C, Header<VersionRef> & F, O['versions'][number]>;
}

/** Declares a message that looks alike in every version, also in those to come. */
export function symmetricMessage<const C extends string, F extends Fields>(
  cls: C,
  options: StructOptions & { message: MessageHeader },
  fields: F,
): Struct<C, Header<number> & F> {
  return { cls, options, fields } as unknown as Struct<C, Header<number> & F>;
}

type VersionsOf<S> = S extends { '~v': infer V extends Version } ? V : never;
/** Type of a declaration's objects in version `V`. */
export type Of<S, V extends Version = VersionsOf<S>> = S extends {
  cls: infer C extends string;
  '~f': infer F;
  '~v': infer R;
  '~o': infer O;
}
  ? V extends R
    ? [O] extends [never]
      ? ObjectOf<C, F, V>
      : O
    : never
  : never;
/** Type of what a declaration's factory takes in version `V`. */
export type InputFor<S, V extends Version> = S extends { '~f': infer F; '~v': infer R; '~i': infer I }
  ? V extends R
    ? [I] extends [never]
      ? InitOf<F, V>
      : I
    : never
  : never;
/** Type of the objects of a family in version `V`. */
export type MemberOf<F, V extends Version = Version> = F extends { '~m': infer M } ? Of<M, V> : never;
/** Factory type of a declaration: the argument may be left out when nothing in it is required. */
export type Factory<S, V extends Version> =
  Record<never, never> extends InputFor<S, V>
    ? (init?: InputFor<S, V>) => Of<S, V>
    : (init: InputFor<S, V>) => Of<S, V>;
