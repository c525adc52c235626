/**
 * The policy document made ready for use: checked beyond its schema, its expressions compiled. The schema is
 * `contracts/policy.ts`; every decision in this folder takes a CompiledPolicy. `effective.ts` makes the one that holds for
 * a guest out of it and the overrides; `documentEdits.ts` changes it by dotted paths, `documentChecks.ts` and
 * `documentProblems.ts` say what is wrong with one.
 */
import { FairwayError, type Priority, type Strategy, type Technique } from '../contracts/common.ts';
import { DEFAULT_POLICY, type PolicyDocument, type PolicyOverride, policySchema } from '../contracts/policy.ts';
import { formatRate } from '../contracts/units.ts';
import { checkAllowed, checkConsistency, checkExtends } from './documentChecks.ts';
import { BAD_LINK, isTree, LINK_ID, noSuchField, type Tree, valueAt } from './documentPaths.ts';
import { invalid, type PolicyProblem, Problems } from './documentProblems.ts';
import { compileExpression, type Expression, PROBES, type Variables } from './expressions.ts';

export type ReservationName = 'high' | 'mediumInitial' | 'medium' | 'low';
export const RESERVATIONS: readonly ReservationName[] = ['high', 'mediumInitial', 'medium', 'low'];

/** What an expression is worth on a link. */
export interface Evaluation {
  /** Within [0, capacity]; null when the expression is no finite number there: then the last good value stays. */
  bps: number | null;
  /** What was done to the value, or why there is none; null when it is what the expression says. */
  note: string | null;
}

/** A policy document that has passed every check. */
export interface CompiledPolicy {
  readonly doc: PolicyDocument;
  /** Dotted paths of the overrides that are in it, the strongest first; none in the document's own policy. */
  readonly overriddenBy: readonly string[];
  /**
   * Dotted path of the override that gives a setting (`sla.floor`, `reservation.low`, `technique.allowed`, …); undefined where
   * none does.
   */
  overrideOf(setting: string): string | undefined;
  /** The expressions of every override, by its dotted path. */
  readonly overrides: ReadonlyMap<string, CompiledSettings>;
  /** Its own expressions, for `effective.ts`. */
  readonly expressions: PolicyExpressions;
  /** What one of the reservation expressions says may be reserved on a link, bit/s, within [0, capacity]; 0 where it is no number. */
  evaluate(which: ReservationName, vars: Variables): number;
  /** The same, and what was done to make it so. */
  judge(which: ReservationName, vars: Variables): Evaluation;
  /** The workload's lower and upper SLA limit on a link of that capacity, 0 ≤ floor ≤ ceiling ≤ capacity. */
  slaFor(linkId: string, capacityBps: number): { readonly floorBps: number; readonly ceilingBps: number };
}

/** Where a policy takes its expressions from. */
export interface PolicyExpressions {
  reservation(which: ReservationName): Expression;
  limit(which: 'floor' | 'ceiling', linkId: string): Expression;
}

/** The expressions of one place in the document; what it does not say is absent. */
export interface CompiledSettings {
  readonly floor?: Expression;
  readonly ceiling?: Expression;
  readonly reservations: ReadonlyMap<ReservationName, Expression>;
}

const MAX_OVERRIDES = 2_000;
/** Links whose limits are kept; more are worked out each time. */
const MAX_KNOWN_LIMITS = 10_000;

// --- Compiling ------------------------------------------------------------------------------------------------------

/** Compiles an expression, or notes why it cannot be. */
function attempt(keys: readonly string[], problems: Problems, compile: () => Expression): Expression | undefined {
  try {
    return compile();
  } catch (e) {
    if (!(e instanceof FairwayError)) throw e;
    problems.add(keys, e.message);
    return undefined;
  }
}

/** A limit of the workload as a function of the link's capacity, before it is kept within it. */
function compileLimit(limit: string | number): Expression {
  if (typeof limit === 'number') {
    if (limit === 0) return () => 0;
    throw invalid(`is the bare number ${limit}; write its unit, such as "100 Mbit/s", or a share, such as "50 %"`);
  }
  const expression = compileExpression(limit, { variables: ['capacity'], isShareOfCapacity: true });
  if (PROBES.every((p) => expression(p) > p.capacity)) throw invalid(`${limit} is more than the whole link (100 %)`);
  return expression;
}

type Limits = { floor?: string | number | undefined; ceiling?: string | number | undefined };

function compileLimits(
  keys: readonly string[],
  limits: Limits,
  problems: Problems,
): Omit<CompiledSettings, 'reservations'> {
  const compiled: { floor?: Expression; ceiling?: Expression } = {};
  for (const which of ['floor', 'ceiling'] as const) {
    const limit = limits[which];
    if (limit === undefined) continue;
    const expression = attempt([...keys, which], problems, () => compileLimit(limit));
    if (expression !== undefined) compiled[which] = expression;
  }
  const { floor, ceiling } = compiled;
  if (floor !== undefined && ceiling !== undefined && PROBES.every((p) => floor(p) > ceiling(p))) {
    const path = [...keys, 'ceiling'].join('.');
    problems.add(
      [...keys, 'floor'],
      `${limits.floor} is above the ceiling ${limits.ceiling}; lower it or raise ${path}`,
    );
  }
  return compiled;
}

function compileSettings(keys: readonly string[], settings: PolicyOverride, problems: Problems): CompiledSettings {
  const reservations = new Map<ReservationName, Expression>();
  for (const name of RESERVATIONS) {
    const text = settings.reservation?.[name];
    if (text === undefined) continue;
    const expression = attempt([...keys, 'reservation', name], problems, () => compileExpression(text));
    if (expression !== undefined) reservations.set(name, expression);
  }
  return { ...compileLimits([...keys, 'sla'], settings.sla ?? {}, problems), reservations };
}

/**
 * Compiles a document that already has the shape of the schema.
 * @throws FairwayError POLICY_INVALID (badInput), beginning with the dotted path, for expressions that are not allowed
 *   and for values that contradict one another.
 */
export function compilePolicy(doc: PolicyDocument): CompiledPolicy {
  const problems = new Problems();
  const policy = compileInto(doc, problems);
  problems.throwIfAny();
  return policy;
}

function compileInto(doc: PolicyDocument, problems: Problems): CompiledPolicy {
  const { reservations } = compileSettings([], { reservation: doc.reservation }, problems);
  checkConsistency(doc, problems);
  const fallback = compileLimits(['sla', 'default'], doc.sla.default, problems);
  const links = new Map<string, Omit<CompiledSettings, 'reservations'>>();
  for (const [id, sla] of Object.entries(doc.sla.links)) {
    if (LINK_ID.test(id)) links.set(id, compileLimits(['sla', 'links', id], sla, problems));
    else problems.add(['sla', 'links', id], BAD_LINK);
  }
  return assemble({
    doc,
    overriddenBy: [],
    overrideOf: () => undefined,
    overrides: compileOverrides(doc, problems),
    expressions: {
      reservation: (which) => reservations.get(which) as Expression,
      limit: (which, linkId) => links.get(linkId)?.[which] ?? (fallback[which] as Expression),
    },
  });
}

/** A policy from its parts; `effective.ts` puts the overrides of a guest in between. */
export function assemble(
  parts: Pick<CompiledPolicy, 'doc' | 'overriddenBy' | 'overrideOf' | 'overrides' | 'expressions'>,
): CompiledPolicy {
  const { expressions } = parts;
  /** Limits already worked out, by link: they are asked for at every reservation and change with the capacity only. */
  const limits = new Map<string, { capacityBps: number; sla: { floorBps: number; ceilingBps: number } }>();
  const judge = (which: ReservationName, vars: Variables): Evaluation => {
    const value = expressions.reservation(which)(vars);
    const capacity = Math.max(0, vars.capacity);
    if (!Number.isFinite(value))
      return { bps: null, note: `reservation.${which} is ${value} here: the last good value stays` };
    if (value < 0) return { bps: 0, note: `reservation.${which} is ${formatRate(value)} here: nothing is reserved` };
    if (value > capacity) {
      return {
        bps: capacity,
        note: `reservation.${which} is ${formatRate(value)} here: no more than the link is reserved`,
      };
    }
    return { bps: value, note: null };
  };
  return {
    ...parts,
    judge,
    // Not a number reserves nothing: an expression that fails on a peculiar link must not cost the workload anything.
    evaluate: (which, vars) => judge(which, vars).bps ?? 0,
    slaFor(linkId, capacityBps) {
      const known = limits.get(linkId);
      if (known?.capacityBps === capacityBps) return known.sla;
      const capacity = Math.max(0, capacityBps);
      const vars = { capacity, floor: 0, ceiling: 0, rate: 0 };
      const bps = (which: 'floor' | 'ceiling') => {
        const value = expressions.limit(which, linkId)(vars);
        // Not a number leaves the workload everything: its floor is never given away.
        return Number.isFinite(value) ? Math.min(Math.max(value, 0), capacity) : capacity;
      };
      const floorBps = bps('floor');
      const sla = { floorBps, ceilingBps: Math.max(floorBps, bps('ceiling')) };
      if (limits.size < MAX_KNOWN_LIMITS) limits.set(linkId, { capacityBps, sla });
      return sla;
    },
  };
}

/** Every override with the keys that lead to it: guests, labels, tenants, hosts. */
function overrideEntries(doc: PolicyDocument): { keys: string[]; settings: PolicyOverride }[] {
  const { guests, labels, tenants, hosts } = doc.overrides;
  const of = (kind: string, entries: Readonly<Record<string, PolicyOverride>>) =>
    Object.entries(entries).map(([name, settings]) => ({ keys: ['overrides', kind, name], settings }));
  const byLabel = Object.entries(labels).flatMap(([key, values]) =>
    Object.entries(values).map(([value, settings]) => ({ keys: ['overrides', 'labels', key, value], settings })),
  );
  return [...of('guests', guests), ...byLabel, ...of('tenants', tenants), ...of('hosts', hosts)];
}

function compileOverrides(doc: PolicyDocument, problems: Problems): Map<string, CompiledSettings> {
  const entries = overrideEntries(doc);
  const compiled = new Map<string, CompiledSettings>();
  if (entries.length > MAX_OVERRIDES) {
    problems.add(['overrides'], `has ${entries.length} entries; at most ${MAX_OVERRIDES} are read`);
    return compiled;
  }
  for (const { keys, settings } of entries) {
    compiled.set(keys.join('.'), compileSettings(keys, settings, problems));
    const allowed = settings.technique?.allowed;
    if (allowed !== undefined) checkAllowed([...keys, 'technique', 'allowed'], allowed, 'a technique', problems);
    const options = settings.technique?.allowedOptions;
    if (options !== undefined) checkAllowed([...keys, 'technique', 'allowedOptions'], options, 'an option', problems);
  }
  if (Object.hasOwn(doc.overrides.labels, 'tenant')) {
    problems.add(
      ['overrides', 'labels', 'tenant'],
      'the label tenant has rules of its own: write them in overrides.tenants',
    );
  }
  checkExtends(doc, problems);
  return compiled;
}

// --- Reading --------------------------------------------------------------------------------------------------------

const MAX_DEPTH = 12;
const MAX_VALUES = 50_000;

/**
 * What came into the schema after files of this format had been written: a whole file of before lacks it, and means its default. A file
 * that was cut short lacks other fields too, so a part of one is still never taken for the whole.
 */
const ADDED_LATER = {
  technique: { silenceLimitMs: DEFAULT_POLICY.technique.silenceLimitMs },
};

function withAddedLater(value: unknown): unknown {
  if (!isTree(value) || !isTree(value.technique)) return value;
  return { ...value, technique: { ...ADDED_LATER.technique, ...value.technique } };
}

/**
 * What the schema cannot see, or must not be given: keys that it would drop without a word, and shapes that would keep it
 * busy. Here nothing that is not understood is taken.
 */
function checkShape(value: unknown, problems: Problems): void {
  const open: { value: unknown; keys: readonly string[] }[] = [{ value, keys: [] }];
  for (let seen = 0; ; seen++) {
    const next = open.pop();
    if (next === undefined) return;
    if (typeof next.value !== 'object' || next.value === null) continue;
    if (next.keys.length >= MAX_DEPTH) {
      problems.add(next.keys.slice(0, 3), `is nested more than ${MAX_DEPTH} levels deep`);
      return;
    }
    if (seen > MAX_VALUES) {
      problems.add([], `has more than ${MAX_VALUES} values`);
      return;
    }
    for (const key of Object.keys(next.value)) {
      if (key === '__proto__') problems.add([...next.keys, key], 'no field, link or label has this name');
      open.push({ value: (next.value as Tree)[key], keys: [...next.keys, key] });
    }
  }
}

/** The problems that the schema finds, each at the field itself. */
function schemaProblems(value: unknown, problems: Problems): PolicyDocument | undefined {
  const parsed = policySchema.safeParse(value);
  if (parsed.success) return parsed.data;
  for (const issue of parsed.error.issues) {
    const keys = issue.path.map(String);
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) problems.add([...keys, key], noSuchField([...keys, key].join('.')));
    } else if (issue.code === 'invalid_key') {
      problems.add(keys, issue.issues[0]?.message ?? issue.message);
    } else if (valueAt(value, keys) === undefined && keys.length > 0) {
      const initial = valueAt(DEFAULT_POLICY, keys);
      problems.add(keys, `is absent${initial === undefined ? '' : `; its default is ${JSON.stringify(initial)}`}`);
    } else {
      problems.add(keys, issue.message);
    }
  }
  return undefined;
}

/** Overrides that say nothing are none: a document is the same as its flat fields. */
function withoutEmptyOverrides(doc: PolicyDocument): PolicyDocument {
  const prune = (v: unknown): unknown => {
    if (!isTree(v)) return v;
    const kept = Object.entries(v).flatMap(([k, child]) => {
      const pruned = prune(child);
      return pruned === undefined || (isTree(pruned) && Object.keys(pruned).length === 0) ? [] : [[k, pruned] as const];
    });
    return Object.fromEntries(kept);
  };
  const { guests, labels, tenants, hosts } = doc.overrides;
  const overrides = { guests: prune(guests), labels: prune(labels), tenants: prune(tenants), hosts: prune(hosts) };
  return { ...doc, overrides: overrides as PolicyDocument['overrides'] };
}

function read(value: unknown, problems: Problems): CompiledPolicy | undefined {
  checkShape(value, problems);
  if (problems.list.length > 0) return undefined;
  const doc = schemaProblems(withAddedLater(value), problems);
  return doc && compileInto(withoutEmptyOverrides(doc), problems);
}

/**
 * Reads a document from anywhere: shape, schema, then as `compilePolicy`.
 * @throws FairwayError POLICY_INVALID (badInput) naming the dotted path.
 */
export function parsePolicy(value: unknown): CompiledPolicy {
  const problems = new Problems();
  const policy = read(value, problems);
  problems.throwIfAny();
  return policy as CompiledPolicy;
}

/** Everything that is wrong with a document; empty for one that `parsePolicy` takes. */
export function policyProblems(value: unknown): PolicyProblem[] {
  const problems = new Problems();
  read(value, problems);
  return problems.list;
}

/** One tree of fields over another: maps are merged, all else is replaced; what is undefined changes nothing. */
export function merged(base: unknown, over: unknown): unknown {
  if (!isTree(base) || !isTree(over)) return over === undefined ? base : over;
  const both: Tree = { ...base };
  for (const [key, child] of Object.entries(over)) {
    const value = Object.hasOwn(base, key) ? merged(base[key], child) : child;
    // Not an assignment: __proto__ is to stay visible to the checks.
    Object.defineProperty(both, key, { value, enumerable: true, writable: true, configurable: true });
  }
  return both;
}

/** A document made of the defaults and of what is given instead. Not checked. */
export function withDefaults(value: Readonly<Record<string, unknown>>): unknown {
  return merged(structuredClone(DEFAULT_POLICY), value);
}

/** The technique table's entry, for tests and displays. */
export function tableEntry(
  doc: PolicyDocument,
  source: 'in' | 'out',
  destination: 'in' | 'out',
  guest: 'in' | 'out',
  priority: Priority,
): Technique {
  return doc.technique.table[`${source}-${destination}`][guest === 'in' ? 'guestIn' : 'guestOut'][priority];
}

/** The strategy table's entry. */
export function strategyEntry(
  doc: PolicyDocument,
  priority: Priority,
  contention: 'low' | 'moderate' | 'high',
): Strategy {
  return doc.strategy[priority][contention];
}
