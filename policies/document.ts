/**
 * The policy document made ready for use: checked beyond its schema, its expressions compiled, its SLA limits turned
 * into bit/s; edited by dotted paths, and written as flat fields (the Redis hash `…policy` holds exactly these).
 * The schema is `contracts/policy.ts`; stores in `controller/io/` call `parsePolicy`, `applyPolicyPatch`,
 * `flattenPolicy` and `unflattenPolicy`; every decision in this folder takes a CompiledPolicy.
 */
import {
  describeIssues,
  FairwayError,
  PRIORITIES,
  type Priority,
  type Strategy,
  type Technique,
} from '../contracts/common.ts';
import { DEFAULT_POLICY, type PolicyDocument, policySchema, type SlaLimits } from '../contracts/policy.ts';
import type { PolicyPatch } from '../contracts/rest.ts';
import { parseRateBps, parseShare } from '../contracts/units.ts';
import { compileExpression, type Expression, type Variables } from './expressions.ts';

export type ReservationName = 'high' | 'mediumInitial' | 'medium' | 'low';
const RESERVATIONS: readonly ReservationName[] = ['high', 'mediumInitial', 'medium', 'low'];

/** A policy document that has passed every check. */
export interface CompiledPolicy {
  readonly doc: PolicyDocument;
  /** What one of the reservation expressions says may be reserved on a link, bit/s, within [0, capacity]. */
  evaluate(which: ReservationName, vars: Variables): number;
  /** The workload's lower and upper SLA limit on a link of that capacity, 0 ≤ floor ≤ ceiling ≤ capacity. */
  slaFor(linkId: string, capacityBps: number): { floorBps: number; ceilingBps: number };
}

function invalid(message: string, cause?: unknown): FairwayError {
  return new FairwayError('POLICY_INVALID', message, ['badInput'], cause);
}

type Limit = { kind: 'share' | 'bps'; value: number };

function parseLimit(path: string, text: string | number): Limit {
  const share = typeof text === 'string' ? parseShare(text) : undefined;
  if (share !== undefined) {
    if (share > 1) throw invalid(`${path}: ${text} is more than the whole link (100 %)`);
    return { kind: 'share', value: share };
  }
  const bps = parseRateBps(text);
  if (bps === undefined || !Number.isFinite(bps)) {
    throw invalid(`${path}: must be a rate such as "100 Mbit/s" or a share such as "50 %"`);
  }
  return { kind: 'bps', value: bps };
}

function compileSla(path: string, sla: SlaLimits): { floor: Limit; ceiling: Limit } {
  const floor = parseLimit(`${path}.floor`, sla.floor);
  const ceiling = parseLimit(`${path}.ceiling`, sla.ceiling);
  if (floor.kind === ceiling.kind && floor.value > ceiling.value) {
    throw invalid(`${path}.floor: ${sla.floor} is above the ceiling ${sla.ceiling}; lower it or raise ${path}.ceiling`);
  }
  return { floor, ceiling };
}

const LINK_ID = /^[A-Za-z0-9_-]{1,64}:[0-9]{1,10}$/;

/**
 * Compiles a document that already has the shape of the schema.
 * @throws FairwayError POLICY_INVALID (badInput), beginning with the dotted path, for expressions that are not allowed
 *   and for values that contradict one another.
 */
export function compilePolicy(doc: PolicyDocument): CompiledPolicy {
  const expressions = new Map<ReservationName, Expression>();
  for (const name of RESERVATIONS) {
    try {
      expressions.set(name, compileExpression(doc.reservation[name]));
    } catch (e) {
      if (!(e instanceof FairwayError)) throw e;
      throw invalid(`reservation.${name}: ${e.message}`, e);
    }
  }
  checkConsistency(doc);
  const fallback = compileSla('sla.default', doc.sla.default);
  const links = new Map<string, { floor: Limit; ceiling: Limit }>();
  for (const [id, sla] of Object.entries(doc.sla.links)) {
    if (!LINK_ID.test(id)) throw invalid(`sla.links.${id}: a link is named <datapath id>:<port number>`);
    links.set(id, compileSla(`sla.links.${id}`, sla));
  }
  return {
    doc,
    evaluate(which, vars) {
      const value = (expressions.get(which) as Expression)(vars);
      // Not a number reserves nothing: an expression that fails on a peculiar link must not cost the workload anything.
      return Number.isNaN(value) ? 0 : Math.min(Math.max(value, 0), Math.max(0, vars.capacity));
    },
    slaFor(linkId, capacityBps) {
      const { floor, ceiling } = links.get(linkId) ?? fallback;
      const capacity = Math.max(0, capacityBps);
      const bps = (l: Limit) => Math.min(capacity, l.kind === 'share' ? l.value * capacity : l.value);
      const floorBps = bps(floor);
      return { floorBps, ceilingBps: Math.max(floorBps, bps(ceiling)) };
    },
  };
}

/** Contradictions that no single field shows. */
function checkConsistency(doc: PolicyDocument): void {
  const { direction, technique, strategy, marks, finish, workload } = doc;
  if (direction.outShare >= direction.inShare) {
    throw invalid(
      `direction.outShare: ${direction.outShare} must be below direction.inShare (${direction.inShare}), ` +
        'else traffic would be both in and out',
    );
  }
  const { moderate, high } = strategy.contention;
  if (moderate > high) {
    throw invalid(`strategy.contention.moderate: ${moderate} is above strategy.contention.high (${high})`);
  }
  for (const [pair, cell] of Object.entries(technique.table)) {
    for (const guest of ['guestIn', 'guestOut'] as const) {
      for (const priority of PRIORITIES) {
        const entry = cell[guest][priority];
        if (!technique.allowed.includes(entry)) {
          throw invalid(
            `technique.table.${pair}.${guest}.${priority}: ${entry} is not among technique.allowed ` +
              `(${technique.allowed.join(', ')})`,
          );
        }
      }
    }
  }
  if (new Set(technique.allowed).size !== technique.allowed.length) {
    throw invalid('technique.allowed: names a technique twice');
  }
  for (const [a, b] of [
    ['high', 'medium'],
    ['high', 'low'],
    ['medium', 'low'],
  ] as const) {
    if (marks[a] === marks[b]) {
      throw invalid(`marks.${b}: ${marks[b]} is also marks.${a}; each priority needs a DSCP of its own`);
    }
  }
  const [firstVlan, lastVlan] = finish.labelVlans;
  if (firstVlan > lastVlan) throw invalid(`finish.labelVlans: ${firstVlan} to ${lastVlan} is an empty range`);
  if (finish.silenceMs > finish.maxDrainMs) {
    throw invalid(`finish.silenceMs: ${finish.silenceMs} is longer than finish.maxDrainMs (${finish.maxDrainMs})`);
  }
  // A workload left (1 + headroom) × what it sent uses 1 ÷ (1 + headroom) of that: were this already "saturated", every
  // steady workload would be taken for a backlogged one, and the slices would swing.
  if ((1 + workload.headroom) * workload.saturatedAt <= 1) {
    throw invalid(
      `workload.saturatedAt: ${workload.saturatedAt} must be above 1 / (1 + workload.headroom) = ` +
        `${(1 / (1 + workload.headroom)).toFixed(4)}, else a steady workload counts as backlogged`,
    );
  }
}

/**
 * Reads a document from anywhere: schema, then `compilePolicy`.
 * @throws FairwayError POLICY_INVALID (badInput) naming the dotted path.
 */
export function parsePolicy(value: unknown): CompiledPolicy {
  const parsed = policySchema.safeParse(value);
  if (!parsed.success) throw invalid(describeIssues(parsed.error), parsed.error);
  // The schema library drops a key named __proto__ without a word; here nothing that is not understood is taken.
  const given = (value as PolicyDocument).sla.links;
  const lost = Object.keys(given).find((id) => !Object.hasOwn(parsed.data.sla.links, id));
  if (lost !== undefined) throw invalid(`sla.links.${lost}: a link is named <datapath id>:<port number>`);
  return compilePolicy(parsed.data);
}

// --- Dotted paths -------------------------------------------------------------------------------------------------

/** A leaf of the document: how its text form is read. `limit` may be a number or a text with a unit. */
type FieldKind = 'number' | 'text' | 'json' | 'limit';

type Tree = { [key: string]: unknown };
const isTree = (v: unknown): v is Tree => typeof v === 'object' && v !== null && !Array.isArray(v);

/** Leaves and inner nodes of the document by dotted path; those of `sla.links` are open and handled apart. */
const LEAVES = new Map<string, FieldKind>();
const NODES = new Set<string>();
(function learn(tree: Tree, prefix: string) {
  for (const [key, value] of Object.entries(tree)) {
    const path = prefix + key;
    if (isTree(value)) {
      NODES.add(path);
      if (path !== 'sla.links') learn(value, `${path}.`);
    } else if (path.startsWith('sla.')) LEAVES.set(path, 'limit');
    else LEAVES.set(path, Array.isArray(value) ? 'json' : typeof value === 'number' ? 'number' : 'text');
  }
})(DEFAULT_POLICY, '');

const SLA_LINK = /^sla\.links\.([^.]+)(?:\.(floor|ceiling))?$/;
const NUMBER = /^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?\s*$/i;

function unknownField(path: string): FairwayError {
  const parent = path.includes('.') ? path.slice(0, path.lastIndexOf('.') + 1) : '';
  const siblings = [...LEAVES.keys(), ...NODES].filter(
    (p) => p.startsWith(parent) && !p.slice(parent.length).includes('.'),
  );
  const hint = siblings.length > 0 ? `; there ${siblings.length === 1 ? 'is' : 'are'} ${siblings.join(', ')}` : '';
  return invalid(`${path}: there is no such field${hint}`);
}

/** Turns a patch's value into the document's type. */
function convert(path: string, kind: FieldKind, value: string | number | boolean | null): unknown {
  if (value === null) throw invalid(`${path}: cannot be removed; only entries of sla.links can`);
  if (kind === 'number') {
    if (typeof value === 'number') return value;
    if (typeof value === 'string' && NUMBER.test(value)) return Number(value);
    throw invalid(`${path}: must be a number, not ${JSON.stringify(value)}`);
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

/** Sets a member at a path all of whose inner nodes exist and are the document's own. */
function setAt(doc: Tree, path: string, value: unknown): void {
  const keys = path.split('.');
  const last = keys.pop() as string;
  let at = doc;
  for (const key of keys) {
    const next: unknown = Object.hasOwn(at, key) ? at[key] : undefined;
    if (!isTree(next)) throw unknownField(path);
    at = next;
  }
  at[last] = value;
}

/**
 * The document after an edit of some of its fields: `{ 'reservation.low': 'capacity - rate', … }`. All fields are taken
 * or none. Inner nodes and arrays are given as JSON text and replaced whole; numbers may be texts (Redis);
 * `sla.links.<linkId>.floor` makes the entry, with the other limit from `sla.default`, where there is none, and null at
 * `sla.links.<linkId>` removes it.
 * @throws FairwayError POLICY_INVALID (badInput) naming the dotted path; the given document is never touched.
 */
export function applyPolicyPatch(doc: PolicyDocument, patch: PolicyPatch): PolicyDocument {
  const tree = structuredClone(doc) as unknown as Tree;
  // Inner nodes before what is inside them, so that the order of the fields does not matter.
  const paths = Object.keys(patch).sort((a, b) => a.split('.').length - b.split('.').length || (a < b ? -1 : 1));
  for (const path of paths) {
    const value = patch[path] as string | number | boolean | null;
    const kind = LEAVES.get(path);
    const link = SLA_LINK.exec(path);
    if (kind !== undefined) setAt(tree, path, convert(path, kind, value));
    else if (NODES.has(path)) setAt(tree, path, convert(path, 'json', value));
    else if (link !== null) patchLink(tree, path, link[1] as string, link[2], value);
    else throw unknownField(path);
  }
  return parsePolicy(tree).doc;
}

function patchLink(
  tree: Tree,
  path: string,
  id: string,
  member: string | undefined,
  value: string | number | boolean | null,
): void {
  // Also keeps names such as __proto__ from being members of the tree: they hold no colon.
  if (!LINK_ID.test(id)) throw invalid(`sla.links.${id}: a link is named <datapath id>:<port number>`);
  const sla = tree.sla;
  const links = isTree(sla) ? sla.links : undefined;
  if (!isTree(sla) || !isTree(links)) throw invalid('sla.links: must be an object of links');
  if (member === undefined) {
    if (value === null) delete links[id];
    else links[id] = convert(path, 'json', value);
    return;
  }
  const entry = Object.hasOwn(links, id) ? links[id] : structuredClone(sla.default);
  if (!isTree(entry)) throw invalid(`sla.links.${id}: must have a floor and a ceiling`);
  links[id] = { ...entry, [member]: convert(path, 'limit', value) };
}

/** Every field of the document as text, by dotted path: arrays as JSON, `sla.links.<linkId>.floor` and `.ceiling`. */
export function flattenPolicy(doc: PolicyDocument): Record<string, string> {
  const flat: Record<string, string> = {};
  (function walk(tree: Tree, prefix: string) {
    for (const [key, value] of Object.entries(tree)) {
      if (isTree(value)) walk(value, `${prefix}${key}.`);
      else flat[prefix + key] = typeof value === 'string' ? value : JSON.stringify(value);
    }
  })(doc as unknown as Tree, '');
  return flat;
}

/**
 * The document that flat fields describe; a field that is absent has its default. The opposite of `flattenPolicy`
 * (only a limit written as the text of a bare number comes back as that number).
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
