/**
 * Edits of the policy document by dotted paths, and its form as flat fields (the Redis hash `…policy` holds exactly these).
 * documentPaths.ts says what a path leads to, document.ts checks what comes of it. Stores in `controller/io/` and the
 * operator's interface call `applyPolicyPatch`, `flattenPolicy` and `unflattenPolicy`.
 */
import { FairwayError } from '../contracts/common.ts';
import { DEFAULT_POLICY, type FieldKind, type PolicyDocument } from '../contracts/policy.ts';
import type { PolicyPatch } from '../contracts/rest.ts';
import { parsePolicy } from './document.ts';
import { BAD_LINK, isTree, LINK_ID, placeOf, type Tree, unknownField, valueAt } from './documentPaths.ts';
import { invalid, MAX_SHOWN, shortened } from './documentProblems.ts';

/** Longest dotted path, and longest text of a leaf and of a list or map, in characters. */
const MAX_PATH = 400;
const MAX_TEXT = 1_000;
const MAX_JSON = 100_000;

const NUMBER = /^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]+)?\s*$/i;

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
  const wrong: string[] = [];
  for (const path of paths) {
    try {
      edit(tree, path, patch[path] as string | number | boolean | null);
    } catch (e) {
      if (!(e instanceof FairwayError)) throw e;
      wrong.push(e.message);
      if (wrong.length === MAX_SHOWN) break;
    }
  }
  if (wrong.length > 0) throw invalid(wrong.join('; '));
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
