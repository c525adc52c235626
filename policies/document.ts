/**
 * The policy document made ready for use: checked beyond its schema, its expressions compiled; edited by dotted paths,
 * and written as flat fields (the Redis hash `…policy` holds exactly these). The schema is `contracts/policy.ts`; stores in
 * `controller/io/` call `parsePolicy`, `applyPolicyPatch`, `flattenPolicy` and `unflattenPolicy`; every decision in this
 * folder takes a CompiledPolicy. `effective.ts` makes the one that holds for a guest out of it and the overrides.
 */
import { FairwayError, PRIORITIES, type Priority, type Strategy, type Technique } from '../contracts/common.ts';
import {
  DEFAULT_POLICY,
  type FieldKind,
  POLICY_FIELDS,
  type PolicyDocument,
  type PolicyOverride,
  policySchema,
} from '../contracts/policy.ts';
import type { PolicyPatch } from '../contracts/rest.ts';
import { formatRate } from '../contracts/units.ts';
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

/** Something wrong with a document, and the keys that lead to it. */
export interface PolicyProblem {
  keys: readonly string[];
  message: string;
}

const MAX_OVERRIDES = 2_000;
/** Links whose limits are kept; more are worked out each time. */
const MAX_KNOWN_LIMITS = 10_000;
const MAX_SHOWN = 5;
const MAX_KEY = 100;
/** Longest dotted path, and longest text of a leaf and of a list or map, in characters. */
const MAX_PATH = 400;
const MAX_TEXT = 1_000;
const MAX_JSON = 100_000;

class Problems {
  readonly list: PolicyProblem[] = [];
  add(keys: readonly string[], message: string): void {
    this.list.push({ keys, message });
  }
  throwIfAny(): void {
    if (this.list.length === 0) return;
    throw invalid(this.list.slice(0, MAX_SHOWN).map(problemText).join('; '));
  }
}

/** The problem as text, beginning with the dotted path of the field. */
export const problemText = ({ keys, message }: PolicyProblem): string =>
  `${keys.length === 0 ? '(document)' : keys.map(shortened).join('.')}: ${message}`;
/** Names that come from outside may be of any length. */
const shortened = (key: string): string => (key.length > MAX_KEY ? `${key.slice(0, MAX_KEY)}…` : key);

function invalid(message: string, cause?: unknown): FairwayError {
  return new FairwayError('POLICY_INVALID', message, ['badInput'], cause);
}

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
    overrides: compileOverrides(doc, problems),
    expressions: {
      reservation: (which) => reservations.get(which) as Expression,
      limit: (which, linkId) => links.get(linkId)?.[which] ?? (fallback[which] as Expression),
    },
  });
}

/** A policy from its parts; `effective.ts` puts the overrides of a guest in between. */
export function assemble(
  parts: Pick<CompiledPolicy, 'doc' | 'overriddenBy' | 'overrides' | 'expressions'>,
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
export function overrideEntries(doc: PolicyDocument): { keys: string[]; settings: PolicyOverride }[] {
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

/** The entry of a label written `<key>.<value>`. */
export function labelEntry(doc: PolicyDocument, name: string) {
  const [key = '', value = ''] = name.split('.');
  const values = Object.hasOwn(doc.overrides.labels, key) ? doc.overrides.labels[key] : undefined;
  return values !== undefined && Object.hasOwn(values, value) ? values[value] : undefined;
}

/** Labels that extend others must lead to an end. */
function checkExtends(doc: PolicyDocument, problems: Problems): void {
  const told = new Set<string>();
  for (const [key, values] of Object.entries(doc.overrides.labels)) {
    for (const [value, entry] of Object.entries(values)) {
      if (entry.extends === undefined) continue;
      const keys = ['overrides', 'labels', key, value, 'extends'];
      if (labelEntry(doc, entry.extends) === undefined) {
        problems.add(keys, `there is no overrides.labels.${entry.extends}`);
        continue;
      }
      const chain = [`${key}.${value}`];
      for (let next: string | undefined = entry.extends; next !== undefined; next = labelEntry(doc, next)?.extends) {
        const from = chain.indexOf(next);
        chain.push(next);
        if (from < 0) continue;
        const cycle = chain.slice(from);
        // Each cycle is told once, at the first of its labels that is met.
        if (!cycle.some((name) => told.has(name)))
          problems.add(keys, `labels extend each other in a circle: ${cycle.join(' → ')}`);
        for (const name of cycle) told.add(name);
        break;
      }
    }
  }
}

function checkAllowed(keys: readonly string[], allowed: readonly string[], what: string, problems: Problems): void {
  if (new Set(allowed).size !== allowed.length) problems.add(keys, `names ${what} twice`);
}

/** Contradictions that no single field shows. */
function checkConsistency(doc: PolicyDocument, problems: Problems): void {
  const { direction, technique, strategy, marks, finish, workload, discovery } = doc;
  if (direction.outShare >= direction.inShare) {
    problems.add(
      ['direction', 'outShare'],
      `${direction.outShare} must be below direction.inShare (${direction.inShare}), else traffic would be both in and out`,
    );
  }
  const { moderate, high } = strategy.contention;
  if (moderate > high) {
    problems.add(['strategy', 'contention', 'moderate'], `${moderate} is above strategy.contention.high (${high})`);
  }
  for (const [pair, cell] of Object.entries(technique.table)) {
    for (const guest of ['guestIn', 'guestOut'] as const) {
      for (const priority of PRIORITIES) {
        const entry = cell[guest][priority];
        if (!technique.allowed.includes(entry)) {
          problems.add(
            ['technique', 'table', pair, guest, priority],
            `${entry} is not among technique.allowed (${technique.allowed.join(', ')})`,
          );
        }
      }
    }
  }
  checkAllowed(['technique', 'allowed'], technique.allowed, 'a technique', problems);
  checkAllowed(['technique', 'allowedOptions'], technique.allowedOptions, 'an option', problems);
  for (const [a, b] of [
    ['high', 'medium'],
    ['high', 'low'],
    ['medium', 'low'],
  ] as const) {
    if (marks[a] === marks[b]) {
      problems.add(['marks', b], `${marks[b]} is also marks.${a}; each priority needs a DSCP of its own`);
    }
  }
  const [firstVlan, lastVlan] = finish.labelVlans;
  if (firstVlan > lastVlan) problems.add(['finish', 'labelVlans'], `${firstVlan} to ${lastVlan} is an empty range`);
  if (finish.silenceMs > finish.maxDrainMs) {
    problems.add(
      ['finish', 'silenceMs'],
      `${finish.silenceMs} is longer than finish.maxDrainMs (${finish.maxDrainMs})`,
    );
  }
  if (discovery.silenceMs < 2 * discovery.probeMs) {
    problems.add(
      ['discovery', 'silenceMs'],
      `${discovery.silenceMs} is shorter than two probe periods (2 × ${discovery.probeMs}): one lost probe would lose the link`,
    );
  }
  // A workload left (1 + headroom) × what it sent uses 1 ÷ (1 + headroom) of that: were this already "saturated", every
  // steady workload would be taken for a backlogged one, and the slices would swing.
  if ((1 + workload.headroom) * workload.saturatedAt <= 1) {
    problems.add(
      ['workload', 'saturatedAt'],
      `${workload.saturatedAt} must be above 1 / (1 + workload.headroom) = ` +
        `${(1 / (1 + workload.headroom)).toFixed(4)}, else a steady workload counts as backlogged`,
    );
  }
}

// --- Reading --------------------------------------------------------------------------------------------------------

const MAX_DEPTH = 12;
const MAX_VALUES = 50_000;

type Tree = { [key: string]: unknown };
const isTree = (v: unknown): v is Tree => typeof v === 'object' && v !== null && !Array.isArray(v);

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

/** The value at the end of a chain of own keys. */
export function valueAt(value: unknown, keys: readonly string[]): unknown {
  return keys.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null && Object.hasOwn(at, key) ? (at as Tree)[key] : undefined),
    value,
  );
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
  const doc = schemaProblems(value, problems);
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

// --- Dotted paths -------------------------------------------------------------------------------------------------

const LINK_ID = /^[A-Za-z0-9_-]{1,64}:[0-9]{1,10}$/;
const BAD_LINK = 'a link is named <datapath id>:<port number>';

/** Leaves without names of one's own, and inner nodes, by dotted path. */
const LEAVES = new Map<string, FieldKind>();
const NODES = new Set<string>();
/** Leaves with names of one's own: the pattern of the path, and how to split it. */
const OPEN_LEAVES: { pattern: RegExp; template: readonly string[]; kind: FieldKind }[] = [];
for (const { path, kind } of POLICY_FIELDS) {
  const template = path.split('.');
  const fixed = template.findIndex((key) => key.startsWith('<'));
  for (let n = 1; n < (fixed < 0 ? template.length : fixed + 1); n++) NODES.add(template.slice(0, n).join('.'));
  if (fixed < 0) LEAVES.set(path, kind);
  else OPEN_LEAVES.push({ pattern: patternOf(template), template, kind });
}
/** Whole entries with names of one's own. */
const OPEN_ENTRIES = [
  ['sla', 'links', '<link>'],
  ['overrides', 'guests', '<guest>'],
  ['overrides', 'labels', '<key>', '<value>'],
  ['overrides', 'labels', '<key>'],
  ['overrides', 'tenants', '<tenant>'],
  ['overrides', 'hosts', '<host>'],
].map((template) => ({ pattern: patternOf(template), template }));

/** Names of guests and hosts may contain dots: the path is still clear, as what follows them does not. */
function patternOf(template: readonly string[]): RegExp {
  const part = (key: string) =>
    key === '<guest>' || key === '<host>' ? '(.+)' : key.startsWith('<') ? '([^.]+)' : key;
  return new RegExp(`^${template.map(part).join('\\.')}$`, 's');
}

function fill(template: readonly string[], match: RegExpExecArray): string[] {
  let n = 0;
  return template.map((key) => {
    if (!key.startsWith('<')) return key;
    n++;
    return match[n] as string;
  });
}

type Place = { keys: string[]; kind: FieldKind | 'entry' | 'node' };

/** What a dotted path leads to, or undefined. */
function placeOf(path: string): Place | undefined {
  const kind = LEAVES.get(path);
  if (kind !== undefined) return { keys: path.split('.'), kind };
  if (NODES.has(path)) return { keys: path.split('.'), kind: 'node' };
  for (const leaf of OPEN_LEAVES) {
    const match = leaf.pattern.exec(path);
    if (match !== null) return { keys: fill(leaf.template, match), kind: leaf.kind };
  }
  for (const entry of OPEN_ENTRIES) {
    const match = entry.pattern.exec(path);
    if (match !== null) return { keys: fill(entry.template, match), kind: 'entry' };
  }
  return undefined;
}

/** The keys a dotted path is made of; names of guests and hosts may contain dots. */
export const splitPath = (path: string): string[] => placeOf(path)?.keys ?? path.split('.');

const NUMBER = /^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?\s*$/i;

function noSuchField(path: string): string {
  const known = [...LEAVES.keys(), ...NODES, ...OPEN_LEAVES.map((l) => l.template.join('.'))];
  // The nearest thing above it that there is, with names of one's own as they stand in the schema.
  for (let parent = path; parent !== ''; ) {
    parent = parent.includes('.') ? parent.slice(0, parent.lastIndexOf('.')) : '';
    const prefix = parent === '' ? '' : `${templateOf(parent) ?? parent}.`;
    const below = [
      ...new Set(known.flatMap((p) => (p.startsWith(prefix) ? [p.slice(prefix.length).split('.')[0] as string] : []))),
    ];
    if (below.length > 0) {
      const list = below.map((key) => (parent === '' ? key : `${parent}.${key}`));
      return `there is no such field; there ${list.length === 1 ? 'is' : 'are'} ${list.join(', ')}`;
    }
  }
  return 'there is no such field';
}

/** `overrides.guests.web1.sla` → `overrides.guests.<guest>.sla`. */
function templateOf(path: string): string | undefined {
  const keys = path.split('.');
  const found = OPEN_LEAVES.map(({ template }) => template.slice(0, keys.length)).find(
    (template) => template.length === keys.length && template.every((key, i) => key.startsWith('<') || key === keys[i]),
  );
  return found?.join('.');
}

const unknownField = (path: string): FairwayError => invalid(`${path}: ${noSuchField(path)}`);

/** Turns a patch's value into the document's type. */
function convert(path: string, kind: FieldKind, value: string | number | boolean | null): unknown {
  if (value === null) throw invalid(`${path}: cannot be removed; only entries of sla.links and overrides can`);
  if (kind === 'number') {
    if (typeof value === 'boolean') throw invalid(`${path}: must be a number, not ${value}`);
    if (typeof value === 'string' && NUMBER.test(value)) return Number(value);
    // A text with a unit is the schema's matter.
    if (typeof value === 'string' && !/^\s*[0-9]+(\.[0-9]+)?\s*([a-z]+(\/s)?|%)\s*$/i.test(value)) {
      throw invalid(`${path}: must be a number, not ${JSON.stringify(value.slice(0, 100))}`);
    }
    return value;
  }
  if (kind === 'limit') return typeof value === 'string' && NUMBER.test(value) ? Number(value) : value;
  if (kind === 'json') {
    if (typeof value !== 'string') throw invalid(`${path}: must be a JSON text such as ["hybrid"] or [3840, 4080]`);
    try {
      return JSON.parse(value) as unknown;
    } catch (e) {
      throw invalid(`${path}: is not JSON (${e instanceof Error ? e.message : String(e)})`, e);
    }
  }
  return value;
}

/** The inner node at the end of a chain of own keys; `make` adds those that are missing. */
function nodeAt(tree: Tree, keys: readonly string[], path: string, make: boolean): Tree {
  let at = tree;
  for (const key of keys) {
    if (make && !Object.hasOwn(at, key)) at[key] = {};
    const next: unknown = Object.hasOwn(at, key) ? at[key] : undefined;
    if (!isTree(next)) throw invalid(`${path}: ${key} must hold fields`);
    at = next;
  }
  return at;
}

/**
 * The document after an edit of some of its fields: `{ 'reservation.low': 'capacity - rate', … }`. All fields are taken
 * or none. Inner nodes and arrays are given as JSON text and replaced whole; numbers may be texts (Redis), also with a
 * unit. `sla.links.<linkId>.floor` makes the entry, with the other limit from `sla.default`, where there is none;
 * `overrides.…` makes what is missing. null removes an entry of `sla.links` or `overrides`, and a setting of an override.
 * @throws FairwayError POLICY_INVALID (badInput) naming the dotted path; the given document is never touched.
 */
export function applyPolicyPatch(doc: PolicyDocument, patch: PolicyPatch): PolicyDocument {
  const tree = structuredClone(doc) as unknown as Tree;
  // Inner nodes before what is inside them, so that the order of the fields does not matter.
  const paths = Object.keys(patch).sort((a, b) => a.split('.').length - b.split('.').length || (a < b ? -1 : 1));
  for (const path of paths) edit(tree, path, patch[path] as string | number | boolean | null);
  return parsePolicy(tree).doc;
}

function edit(tree: Tree, path: string, value: string | number | boolean | null): void {
  if (path.length > MAX_PATH) throw invalid(`${shortened(path)}: a path has at most ${MAX_PATH} characters`);
  const place = placeOf(path);
  const most = place === undefined || ['json', 'entry', 'node'].includes(place.kind) ? MAX_JSON : MAX_TEXT;
  if (typeof value === 'string' && value.length > most) {
    // Before anything looks at it.
    throw invalid(`${path}: is ${value.length} characters long; at most ${most} are read`);
  }
  if (place === undefined || place.keys.includes('__proto__')) throw unknownField(path);
  const { keys, kind } = place;
  const isLink = keys[0] === 'sla' && keys[1] === 'links' && keys.length > 2;
  const isOverride = keys[0] === 'overrides' && keys.length > 2;
  if (isLink && !LINK_ID.test(keys[2] as string)) throw invalid(`sla.links.${keys[2]}: ${BAD_LINK}`);
  const parents = keys.slice(0, -1);
  const last = keys.at(-1) as string;
  if (kind === 'entry') {
    if (value === null) {
      const at = valueAt(tree, parents);
      if (isTree(at)) delete at[last];
      return;
    }
    // The name of a guest takes dots, so a misspelt setting looks like a guest.
    if (last.includes('.') && !(typeof value === 'string' && value.trimStart().startsWith('{')))
      throw unknownField(path);
    nodeAt(tree, parents, path, isOverride)[last] = convert(path, 'json', value);
    return;
  }
  if (kind === 'node') {
    nodeAt(tree, parents, path, false)[last] = convert(path, 'json', value);
    return;
  }
  if (isOverride && value === null) {
    const at = valueAt(tree, parents);
    if (isTree(at)) delete at[last];
    return;
  }
  const converted = convert(path, kind, value);
  if (isLink) {
    const links = nodeAt(tree, ['sla', 'links'], path, false);
    const id = keys[2] as string;
    if (!Object.hasOwn(links, id)) links[id] = structuredClone(nodeAt(tree, ['sla', 'default'], path, false));
  }
  nodeAt(tree, parents, path, isOverride)[last] = converted;
}

/** Every field of the document as text, by dotted path: arrays as JSON; links, guests and labels by their names. */
export function flattenPolicy(doc: PolicyDocument): Record<string, string> {
  const flat: Record<string, string> = {};
  (function walk(tree: Tree, prefix: string) {
    for (const [key, value] of Object.entries(tree)) {
      if (isTree(value)) walk(value, `${prefix}${key}.`);
      else if (value !== undefined) flat[prefix + key] = typeof value === 'string' ? value : JSON.stringify(value);
    }
  })(doc as unknown as Tree, '');
  return flat;
}

/**
 * The document that flat fields describe; a field that is absent has its default. The opposite of `flattenPolicy`.
 * @throws FairwayError POLICY_INVALID (badInput) naming the field: unknown, of the wrong type, or contradictory.
 */
export function unflattenPolicy(flat: Record<string, string>): PolicyDocument {
  return applyPolicyPatch(DEFAULT_POLICY, flat);
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
