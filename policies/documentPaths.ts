/**
 * Dotted paths of the policy document's fields (`sla.links.<link>.floor`): what a path leads to, and what is near one that
 * leads to nothing. Names of guests and hosts may contain dots, so a path is more than a split. The fields are those of
 * contracts/policy.ts; document.ts names problems by them, documentEdits.ts changes what they lead to.
 */
import type { FairwayError } from '../contracts/common.ts';
import { type FieldKind, POLICY_FIELDS } from '../contracts/policy.ts';
import { invalid } from './documentProblems.ts';

/** A document, or a part of it, before it is known to be one. */
export type Tree = { [key: string]: unknown };
export const isTree = (v: unknown): v is Tree => typeof v === 'object' && v !== null && !Array.isArray(v);

/** The value at the end of a chain of own keys. */
export function valueAt(value: unknown, keys: readonly string[]): unknown {
  return keys.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null && Object.hasOwn(at, key) ? (at as Tree)[key] : undefined),
    value,
  );
}

/** Names of links in `sla.links`, and what to say of others. */
export const LINK_ID = /^[A-Za-z0-9_-]{1,64}:[0-9]{1,10}$/;
export const BAD_LINK = 'a link is named <datapath id>:<port number>';

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
export function placeOf(path: string): Place | undefined {
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

export function noSuchField(path: string): string {
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

export const unknownField = (path: string): FairwayError => invalid(`${path}: ${noSuchField(path)}`);
