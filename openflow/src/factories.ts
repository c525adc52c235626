/**
 * `of10` to `of15`: for each version one typed factory per class, under Ryu's names. Which classes there are, what they
 * take and what they make follows from the declarations in messages.ts, structs.ts and their neighbours.
 *
 * A factory takes one object of the class's fields and returns a plain object with `cls`; it converts what has several
 * spellings (numbers for 64-bit fields, MAC addresses), the encoder checks what must fit.
 */
import type * as A from './actions.ts';
import { classNamesOf, compiledOf } from './codec.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import type * as IN from './instructions.ts';
import { type MatchInput, OFPMatch } from './match.ts';
import type * as M from './messages.ts';
import type * as M10 from './messages10.ts';
import type * as M14 from './messages14.ts';
import type * as F from './monitors.ts';
import type * as MM from './multipartMessages.ts';
import type * as NK from './niciraActionKinds.ts';
import type * as N from './niciraActions.ts';
import type * as NC from './niciraConntrack.ts';
import type * as NP from './niciraController.ts';
import type * as NL from './niciraLearn.ts';
import type * as NM from './niciraMessages.ts';
import type * as NS from './niciraStructs.ts';
import type * as I from './oxmIds.ts';
import { OFPStats, type StatsInput } from './oxs.ts';
import type * as P from './properties.ts';
import type { AnyStruct, Factory, InputFor, MemberOf, Of } from './schema.ts';
import type * as S from './structs.ts';
import type * as S10 from './structs10.ts';
import type * as T from './tableFeatures.ts';
import type { Version } from './wire.ts';

type Modules = typeof M &
  typeof MM &
  typeof M10 &
  typeof M14 &
  typeof A &
  typeof IN &
  typeof T &
  typeof S &
  typeof S10 &
  typeof F &
  typeof I &
  typeof P &
  typeof N &
  typeof NK &
  typeof NC &
  typeof NP &
  typeof NL &
  typeof NM &
  typeof NS;
/** Everything that is declared. */
type Declared = { [K in keyof Modules]: Modules[K] extends AnyStruct ? Modules[K] : never }[keyof Modules];
/** Declarations that hold in version `V`. */
type DeclaredIn<V extends Version, D = Declared> = D extends { '~v': infer R } ? (V extends R ? D : never) : never;

/** Names of the classes of version `V`. */
export type ClassName<V extends Version> = DeclaredIn<V>['cls'];
/** Type of the objects of a class, for example `OfObject<'OFPFlowMod', 4>`. */
export type OfObject<C extends string, V extends Version = 4> = Of<Extract<DeclaredIn<V>, { cls: C }>, V>;
/** Any action of a version. OpenFlow 1.3.5 §7.2.5. */
export type OfAction<V extends Version = 4> = MemberOf<typeof A.actions | typeof S10.actions10, V>;
/** Any instruction of a version. OpenFlow 1.3.5 §7.2.4. */
export type OfInstruction<V extends Version = 4> = MemberOf<typeof IN.instructions, V>;

/** What `flowDelete` takes: the fields of an OFPFlowMod that filter, and whether to delete strictly. */
export type FlowDeleteInit<V extends Version> = Omit<
  InputFor<Extract<DeclaredIn<V>, { cls: 'OFPFlowMod' }>, V>,
  'command' | 'instructions' | 'actions'
> & {
  /** OFPFC_DELETE_STRICT (match and priority must be equal) in place of OFPFC_DELETE. */
  readonly strict?: boolean | undefined;
};

/** Factories that are no class of their own. */
interface Extras<V extends Version> {
  /**
   * An OFPFlowMod that deletes flows. Unlike OFPFlowMod, whose `out_port` and `out_group` are 0 as in Ryu and so filter
   * by port 0, it filters by nothing that was not asked for; all tables when `table_id` is left out and `strict` is not
   * set. OpenFlow 1.3.5 §7.3.4.1.
   */
  flowDelete(init?: FlowDeleteInit<V>): OfObject<'OFPFlowMod', V>;
}
/** The same, of what came after 1.0. */
interface Extras12<V extends Version> {
  /** An OFPErrorMsg of experimenter type, as Ryu's function of that name makes it. OpenFlow 1.3.5 §7.4.4. */
  OFPErrorExperimenterMsg(init: {
    readonly exp_type: number;
    readonly experimenter: number;
    readonly data?: Uint8Array | undefined;
    readonly xid?: number | undefined;
  }): OfObject<'OFPErrorMsg', V>;
  readonly OFPMatch: (fields?: MatchInput) => OFPMatch;
}

/** The same, of what came with 1.5. */
interface Extras15 {
  readonly OFPStats: (fields?: StatsInput) => OFPStats;
}

/** Factories of version `V`, by class name. */
export type Factories<V extends Version> = {
  readonly [D in DeclaredIn<V> as D['cls']]: Factory<D, V>;
} & Extras<V> &
  (V extends 1 ? unknown : Extras12<V>) &
  (V extends 6 ? Extras15 : unknown);

function allOf(version: Version): Record<string, unknown> {
  const { make } = compiledOf(version);
  const all: Record<string, unknown> = {
    flowDelete: ({ strict = false, ...rest }: { readonly strict?: boolean } = {}) =>
      make.get('OFPFlowMod')?.({
        // 1.0 has 16 bits for ports, and neither groups nor, in this message, tables
        out_port: version === 1 ? ofp.OFPP_ANY & 0xffff : ofp.OFPP_ANY,
        out_group: ofp.OFPG_ANY,
        table_id: strict ? 0 : ofp.OFPTT_ALL,
        ...rest,
        command: strict ? ofp.OFPFC_DELETE_STRICT : ofp.OFPFC_DELETE,
      }),
  };
  if (version !== 1) {
    all.OFPMatch = (fields?: MatchInput) => OFPMatch(fields, version);
    all.OFPErrorExperimenterMsg = (init: object) =>
      make.get('OFPErrorMsg')?.({ ...init, type: ofp.OFPET_EXPERIMENTER, version });
  }
  if (version === 6) all.OFPStats = OFPStats;
  for (const [cls, factory] of make) all[cls] = factory;
  return all;
}

/** The version is compiled when the first of its factories is asked for; from then on they are plain members. */
function factoriesOf<V extends Version>(version: V): Factories<V> {
  const factories: Record<string, unknown> = {};
  const fill = () => {
    for (const [name, value] of Object.entries(allOf(version))) {
      Object.defineProperty(factories, name, { value, enumerable: true, configurable: false, writable: false });
    }
    Object.freeze(factories);
  };
  const names = [...classNamesOf(version), 'flowDelete'];
  if (version !== 1) names.push('OFPMatch', 'OFPErrorExperimenterMsg');
  if (version === 6) names.push('OFPStats');
  for (const name of names) {
    Object.defineProperty(factories, name, {
      enumerable: true,
      configurable: true,
      get() {
        fill();
        return factories[name];
      },
    });
  }
  return factories as unknown as Factories<V>;
}

/** Factories of OpenFlow 1.0. */
export const of10: Factories<1> = factoriesOf(1);
/** Factories of OpenFlow 1.2. */
export const of12: Factories<3> = factoriesOf(3);
/** Factories of OpenFlow 1.3. */
export const of13: Factories<4> = factoriesOf(4);
/** Factories of OpenFlow 1.4. */
export const of14: Factories<5> = factoriesOf(5);
/** Factories of OpenFlow 1.5. */
export const of15: Factories<6> = factoriesOf(6);
