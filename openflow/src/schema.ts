/**
 * The language in which messages.ts and structs.ts declare the protocol: kinds of fields, structures, families of TLVs,
 * messages. A declaration is data; compile.ts turns it into encoders, decoders and factories, json.ts walks it, and
 * TypeScript infers from it what callers may write. Keys of a declaration stand in wire order.
 */
import type { OFPMatch } from './oxm.ts';
import type { Reader, Writer } from './wire.ts';

/** What a field is on the wire. `json` is the name in Ryu's JSON of a field that objects here do not carry. */
export type Kind =
  | { readonly t: 'uint'; readonly size: 1 | 2 | 4 }
  | { readonly t: 'u64' }
  | { readonly t: 'mac' }
  | { readonly t: 'str'; readonly size: number }
  | { readonly t: 'pad'; readonly size: number }
  | { readonly t: 'const'; readonly size: 1 | 2; readonly value: number; readonly json: string | undefined }
  | { readonly t: 'len'; readonly json: string | undefined }
  | { readonly t: 'lenOf'; readonly list: string; readonly json: string }
  | { readonly t: 'match' }
  | { readonly t: 'bytes'; readonly empty: 'shown' | 'null' | 'left out' }
  | { readonly t: 'struct'; readonly of: AnyStruct }
  | { readonly t: 'list'; readonly of: AnyStruct }
  | { readonly t: 'family'; readonly of: AnyFamily }
  | { readonly t: 'either'; readonly of: readonly AnyStruct[]; readonly reads: AnyStruct }
  | { readonly t: 'uints'; readonly size: 1 | 4; readonly count: number | undefined }
  | { readonly t: 'bitmap' };

/** Whether a factory demands the field, fills in a default, or never shows it. */
export type Presence = 'required' | 'optional' | 'hidden';

/** One field; `T` is the type in decoded objects, `I` what factories take. The `~` members exist for inference only. */
export interface Field<T = unknown, I = unknown, P extends Presence = Presence> {
  readonly kind: Kind;
  readonly presence: P;
  readonly dflt: unknown;
  readonly '~t': T;
  readonly '~i': I;
}
export type Fields = Readonly<Record<string, Field>>;

function make<T, I, P extends Presence>(kind: Kind, presence: P, dflt?: unknown): Field<T, I, P> {
  return { kind, presence, dflt } as unknown as Field<T, I, P>;
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
/** NUL-padded text. */
export const str = (size: number): Field<string, string, 'optional'> => make({ t: 'str', size }, 'optional', '');
/** Bytes that are written as zero and ignored when read. */
export const pad = (size: number): Field<never, never, 'hidden'> => make({ t: 'pad', size }, 'hidden');
/** A number that is the same in every structure of the class. */
export const fixed = (size: 1 | 2, value: number, json?: string): Field<never, never, 'hidden'> =>
  make({ t: 'const', size, value, json }, 'hidden');
/** 16-bit length of the structure itself. */
export const len = (json?: string): Field<never, never, 'hidden'> => make({ t: 'len', json }, 'hidden');
/** 16-bit length of the list `list`, which follows. */
export const lenOf = (list: string, json: string): Field<never, never, 'hidden'> =>
  make({ t: 'lenOf', list, json }, 'hidden');
/** An OFPMatch with its padding. */
export const match = (): Field<OFPMatch, OFPMatch, 'optional'> => make({ t: 'match' }, 'optional');
/** The rest of the structure. */
export const bytes = (): Field<Buffer, Uint8Array, 'optional'> => make({ t: 'bytes', empty: 'shown' }, 'optional');
/** The same, where Ryu's JSON has null for no bytes. */
export const bytesOrNull = (): Field<Buffer, Uint8Array, 'optional'> => make({ t: 'bytes', empty: 'null' }, 'optional');
/** The same, where Ryu has no attribute for it: JSON shows it only when there is something to show. */
export const extraBytes = (): Field<Buffer, Uint8Array, 'optional'> =>
  make({ t: 'bytes', empty: 'left out' }, 'optional');
/** One structure of fixed size. */
export const one = <O, I>(of: Struct<string, O, I>): Field<O, O, 'required'> =>
  make({ t: 'struct', of: of as AnyStruct }, 'required');
/** Structures of one class to the end of what holds them. */
export const list = <O, I>(of: Struct<string, O, I>): Field<O[], readonly O[], 'optional'> =>
  make({ t: 'list', of: of as AnyStruct }, 'optional');
/** TLVs of one family to the end of what holds them. */
export const many = <O>(of: Family<O>): Field<O[], readonly O[], 'optional'> =>
  make({ t: 'family', of: of as AnyFamily }, 'optional');
/** Structures of several classes that are not TLVs: the decoder of `reads` tells them apart. */
export const either = <const M extends readonly AnyStruct[]>(
  of: M,
  reads: AnyStruct,
): Field<M[number]['~o'][], readonly M[number]['~o'][], 'optional'> => make({ t: 'either', of, reads }, 'optional');
/** Numbers: exactly `count`, or to the end of the structure. */
export const uints = (size: 1 | 4, count?: number): Field<number[], readonly number[], 'optional'> =>
  make({ t: 'uints', size, count }, 'optional');
/** Numbers of versions as a bitmap. */
export const bitmap = (): Field<number[], readonly number[], 'required'> => make({ t: 'bitmap' }, 'required');

/** How a structure that has no field-by-field form is read, written and shown. */
export interface Custom {
  /** Bytes it has at least. */
  readonly min: number;
  encode(o: object, w: Writer): void;
  /** Must consume up to `end` and leave `r.q` there. */
  decode(r: Reader, p: number, end: number): object;
  toJson(o: object): object;
  fromJson(attrs: Readonly<Record<string, unknown>>): unknown;
  make(input: object): object;
}

export interface StructOptions {
  /** Section of the specification, for documentation. */
  readonly spec: string;
  /** Versions whose wire format this is. */
  readonly since?: number;
  readonly until?: number;
  /** Padding to 8 bytes: counted in the length field (`inside`) or not (`outside`). */
  readonly padTo8?: 'inside' | 'outside';
  /** OpenFlow error for a length that cannot be. */
  readonly err: readonly [type: number, code: number];
  /** TLV types of this class where it has no `type` of fixed value. */
  readonly types?: readonly number[];
  readonly custom?: Custom;
  readonly message?: MessageHeader;
}

/** Header values by which a message is told from others. */
export interface MessageHeader {
  readonly type: number;
  readonly multipart?: number;
}

/** A declared structure or message; `O` is the object's type, `I` what its factory takes. */
export interface Struct<C extends string = string, O = unknown, I = unknown> {
  readonly cls: C;
  readonly options: StructOptions;
  readonly fields: Fields;
  readonly '~o': O;
  readonly '~i': I;
}
export type AnyStruct = Struct<string, unknown, unknown>;

/** TLVs told apart by a 16-bit type that is followed by a 16-bit length. */
export interface Family<O = unknown> {
  readonly name: string;
  readonly members: readonly AnyStruct[];
  /** For types nobody declared: kept raw. */
  readonly unknown: AnyStruct;
  readonly options: FamilyOptions;
  readonly '~o': O;
}
export type AnyFamily = Family<unknown>;
export interface FamilyOptions {
  readonly err: readonly [type: number, code: number];
  /** Smallest length a member may tell. */
  readonly min: number;
  /** Whether lengths must be multiples of 8. */
  readonly aligned?: boolean;
  /** Whether padding to 8 follows that the length does not count. */
  readonly padTo8?: boolean;
}

type Show<T> = { [K in keyof T]: T[K] } & {};
type KeysOf<F, P extends Presence> = { [K in keyof F]: F[K] extends { presence: P } ? K : never }[keyof F];
type TypeOf<F> = F extends { '~t': infer T } ? T : never;
type InputOf<F> = F extends { '~i': infer I } ? I : never;
/** Type of the objects a declaration stands for. */
export type ObjectOf<C extends string, F> = Show<
  { cls: C } & { [K in Exclude<keyof F, KeysOf<F, 'hidden'>>]: TypeOf<F[K]> }
>;
/** What a factory takes for it. */
export type InitOf<F> = Show<
  { readonly [K in KeysOf<F, 'required'>]: InputOf<F[K]> } & {
    readonly [K in KeysOf<F, 'optional'>]?: InputOf<F[K]> | undefined;
  }
>;
type HeaderFields = { version: Field<number, number, 'optional'>; xid: Field<number, number, 'optional'> };

/** Declares a structure. */
export function struct<const C extends string, F extends Fields>(
  cls: C,
  options: StructOptions,
  fields: F,
): Struct<C, ObjectOf<C, F>, InitOf<F>> {
  return { cls, options, fields } as unknown as Struct<C, ObjectOf<C, F>, InitOf<F>>;
}

/** Declares a structure that custom code reads and writes. */
export function customStruct<const C extends string, O extends { cls: C }, I>(
  cls: C,
  options: StructOptions & { custom: Custom },
): Struct<C, O, I> {
  return { cls, options, fields: {} } as unknown as Struct<C, O, I>;
}

/** Declares a family of TLVs. */
export function family<const M extends readonly AnyStruct[], U extends AnyStruct>(
  name: string,
  members: M,
  unknown: U,
  options: FamilyOptions,
): Family<M[number]['~o'] | U['~o']> {
  return { name, members, unknown, options } as unknown as Family<M[number]['~o'] | U['~o']>;
}

/** Declares a message: `version` and `xid` come from the header. */
export function message<const C extends string, F extends Fields>(
  cls: C,
  options: StructOptions & { message: MessageHeader },
  fields: F,
): Struct<C, ObjectOf<C, HeaderFields & F>, InitOf<HeaderFields & F>> {
  return { cls, options, fields } as unknown as Struct<C, ObjectOf<C, HeaderFields & F>, InitOf<HeaderFields & F>>;
}

/** Object type of a declaration. */
export type Of<S> = S extends { '~o': infer O } ? O : never;
/** Factory type of a declaration: the argument may be left out when nothing in it is required. */
export type Factory<S> = S extends { '~o': infer O; '~i': infer I }
  ? Record<never, never> extends I
    ? (init?: I) => O
    : (init: I) => O
  : never;
