/**
 * The compiler: turns the declarations of one protocol version (schema.ts has their language, messages.ts, structs.ts and
 * their neighbours the text) into one JavaScript source with an encoder, a decoder and a factory per class, and evaluates
 * it once when the library is loaded. Specialised functions run several times faster than walking the declarations, because
 * every property access and every offset in them is a constant. compileEncoders.ts, compileDecoders.ts and
 * compileFactories.ts write the source, runtime.ts has what it calls, layout.ts the offsets; codec.ts puts the result
 * behind the public functions.
 *
 * The source is made from declarations only, never from input.
 */
import { decoderSource, familyDecoderSource, listDecoderSource } from './compileDecoders.ts';
import { encoderSource, familyEncoderSource } from './compileEncoders.ts';
import { makerSource } from './compileFactories.ts';
import { holds, jsonFormOf, q, unknownOf } from './layout.ts';
import { runtime } from './runtime.ts';
import type { AnyFamily, AnyStruct, Custom, Version } from './schema.ts';
import type { Reader, Writer } from './wire.ts';

export type Encode = (o: object, w: Writer) => void;
/** Reads what lies between `p` and `end`, and leaves `r.q` where it stopped. */
export type Decode = (r: Reader, p: number, end: number) => object;
export type Make = (input: object | undefined) => object;

/** How a message inside another one is written and read: codec.ts knows, which knows all messages. */
export interface Nested {
  /** `outer` is the transaction id of the message around it when the two share it. */
  encode(message: unknown, w: Writer, outer: number | undefined, cls: string, field: string): void;
  decode(r: Reader, p: number, end: number): object;
}

/** What the generated source gives back. */
export interface Compiled {
  readonly encode: ReadonlyMap<string, Encode>;
  readonly decode: ReadonlyMap<string, Decode>;
  readonly make: ReadonlyMap<string, Make>;
  readonly structs: ReadonlyMap<string, AnyStruct>;
  /** Classes by the name Ryu's JSON has for them, which several may share. */
  readonly jsonNames: ReadonlyMap<string, readonly AnyStruct[]>;
  readonly version: Version;
}

/** Everything the given declarations reach in a version, each class once. */
function reach(
  roots: readonly AnyStruct[],
  version: Version,
): {
  structs: Map<string, AnyStruct>;
  families: Set<AnyFamily>;
  lists: Set<AnyStruct>;
  /** The family a structure is a member of. */
  inside: Map<AnyStruct, AnyFamily>;
} {
  const structs = new Map<string, AnyStruct>();
  const families = new Set<AnyFamily>();
  const lists = new Set<AnyStruct>();
  const inside = new Map<AnyStruct, AnyFamily>();
  const visit = (s: AnyStruct): void => {
    if (!holds(s, version)) throw new Error(`${s.cls} is used in version ${version}, where it is not declared`);
    const known = structs.get(s.cls);
    if (known !== undefined) {
      if (known !== s) throw new Error(`${s.cls} is declared twice for version ${version}`);
      return;
    }
    structs.set(s.cls, s);
    for (const { kind, versions } of Object.values(s.fields)) {
      if (versions?.includes(version) === false) continue;
      if (kind.t === 'struct') visit(kind.of);
      if (kind.t === 'list') {
        lists.add(kind.of);
        visit(kind.of);
      }
      if (kind.t === 'either') {
        lists.add(kind.reads);
        for (const m of kind.of) visit(m);
      }
      if (kind.t === 'family' && kind.of !== undefined && !families.has(kind.of)) {
        families.add(kind.of);
        for (const m of kind.of.members) {
          if (!holds(m, version)) continue;
          inside.set(m, kind.of);
          visit(m);
        }
        visit(unknownOf(kind.of, version));
      }
    }
  };
  for (const s of roots) if (holds(s, version)) visit(s);
  return { structs, families, lists, inside };
}

/** Names of all classes that messages of a version reach. */
export const classNames = (roots: readonly AnyStruct[], version: Version): readonly string[] => [
  ...reach(roots, version).structs.keys(),
];

/** Compiles the declarations that hold for `version`. */
export function compile(roots: readonly AnyStruct[], version: Version, nested: Nested): Compiled {
  const { structs, families, lists, inside } = reach(roots, version);
  const source: string[] = ['"use strict";'];
  const customs = new Map<string, Custom>();
  const toFields = new Map<string, unknown>();
  const jsonNames = new Map<string, AnyStruct[]>();
  for (const s of structs.values()) {
    const { custom } = s.options;
    const name = jsonFormOf(s, version)?.cls ?? s.cls;
    jsonNames.set(name, [...(jsonNames.get(name) ?? []), s]);
    if (s.options.toFields !== undefined) toFields.set(s.cls, s.options.toFields);
    if (custom === undefined) {
      const around = inside.get(s);
      source.push(encoderSource(s, version, around), decoderSource(s, version, around), makerSource(s, version));
    } else {
      customs.set(s.cls, custom);
      const ref = `rt.customs.get(${q(s.cls)})`;
      source.push(`const c_${s.cls} = ${ref};
function enc_${s.cls}(o, w) { c_${s.cls}.encode(o, w); }
function dec_${s.cls}(r, p, end) { return c_${s.cls}.decode(r, p, end); }
function make_${s.cls}(i) { return c_${s.cls}.make(i === undefined ? rt.nothing : i, ${version}); }`);
    }
  }
  for (const f of families) source.push(familyEncoderSource(f, version), familyDecoderSource(f, version));
  for (const s of lists) source.push(listDecoderSource(s, version));
  const names = [...structs.keys()];
  const table = (prefix: string) => `new Map([${names.map((n) => `[${q(n)}, ${prefix}_${n}]`).join(', ')}])`;
  source.push(`return { encode: ${table('enc')}, decode: ${table('dec')}, make: ${table('make')} };`);
  const build = new Function('rt', source.join('\n')) as (rt: unknown) => Pick<Compiled, 'encode' | 'decode' | 'make'>;
  return { ...build({ ...runtime, customs, toFields, nested }), structs, jsonNames, version };
}
