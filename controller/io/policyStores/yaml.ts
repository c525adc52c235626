/**
 * Reading a policy as people write it: YAML (JSON is YAML too), with the place of every mistake. Used by the file store and
 * by `fairway policy`. What is too large or too deep is refused before it is parsed: the parser of the library takes
 * seconds for a megabyte of brackets, and brings the process down where they are nested.
 */
import { type Document, isAlias, isMap, isNode, isPair, isScalar, LineCounter, parseDocument, visit } from 'yaml';
import { FairwayError } from '../../../contracts/common.ts';
import { type PolicyProblem, policyProblems, problemText, withDefaults } from '../../../policies/index.ts';

const MAX_CHARACTERS = 256 * 1024;
/** Characters that structure a document, line ends among them; each costs the parser time. */
const MAX_MARKS = 20_000;
const MARKS = /[[\]{},:&*|>\n]/g;
/** How deep brackets may be inside one another, and lines be indented. A policy is 6 levels deep. */
const MAX_BRACKETS = 50;
const MAX_INDENT = 100;
const NESTED_ON_A_LINE = /(?:[-?:][ \t]+){20}/;

/** A place in a text, both counted from 1. */
export interface Place {
  line: number;
  column: number;
}

export interface PolicyText {
  yaml: Document.Parsed;
  /** What is to be checked: with `extends: defaults`, the defaults are in it. */
  value: unknown;
  /** Where the value at a chain of keys is written, or the nearest thing above it that is. */
  placeOf(keys: readonly string[]): Place;
}

const invalid = (reason: string): FairwayError => new FairwayError('POLICY_INVALID', reason, ['badInput']);
const at = ({ line, column }: Place, what: string): FairwayError => invalid(`line ${line}, column ${column}: ${what}`);

/**
 * Reads a policy's text without judging what it says.
 * @throws FairwayError POLICY_INVALID (badInput) for what is no YAML or too large, with line and column where there is one.
 */
export function readPolicyText(text: string): PolicyText {
  checkSize(text);
  const lines = new LineCounter();
  const place = (offset: number): Place => {
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(1, line), column: Math.max(1, col) };
  };
  // Whether keys are unique is looked at below: the library compares each with each.
  const yaml = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: false });
  const error = yaml.errors[0];
  if (error) throw at(place(error.pos[0]), error.message);
  checkNodes(yaml, place);
  const given: unknown = yaml.toJS({ maxAliasCount: 0 });
  return {
    yaml,
    value: extended(yaml, given, place),
    placeOf: (keys) => place(offsetOf(yaml, keys)),
  };
}

/** Everything that is wrong with a policy's text, each with its place; empty for one that is valid. */
export function problemsOfText({ value, placeOf }: PolicyText): (PolicyProblem & Place & { text: string })[] {
  return policyProblems(value).map((p) => ({ ...p, ...placeOf(p.keys), text: problemText(p) }));
}

function checkSize(text: string): void {
  if (text.length > MAX_CHARACTERS) {
    throw invalid(`(document): ${text.length} characters; at most ${MAX_CHARACTERS} are read`);
  }
  const marks = text.match(MARKS)?.length ?? 0;
  if (marks > MAX_MARKS) throw invalid(`(document): more than ${MAX_MARKS} lines, brackets, commas and colons`);
  let depth = 0;
  for (const [i, line] of text.split('\n').entries()) {
    const start = line.search(/[^ \t]/);
    const deep = (column: number) => at({ line: i + 1, column }, 'is nested too deeply');
    if (start < 0 ? line.length > MAX_INDENT : start > MAX_INDENT) throw deep(MAX_INDENT);
    if (line[start] === '#') continue;
    if (NESTED_ON_A_LINE.test(line)) throw deep(start + 1);
    for (let column = 0; column < line.length; column++) {
      const c = line[column];
      depth = Math.max(0, depth + (c === '[' || c === '{' ? 1 : c === ']' || c === '}' ? -1 : 0));
      if (depth > MAX_BRACKETS) throw deep(column + 1);
    }
  }
}

/** Refuses keys written twice and everything YAML has beyond plain values. */
function checkNodes(yaml: Document.Parsed, place: (offset: number) => Place): void {
  visit(yaml, {
    Alias: (_key, node) => {
      throw at(place(node.range?.[0] ?? 0), 'aliases (*) are not read: write the value out');
    },
    Node: (_key, node) => {
      if (isAlias(node) || !('anchor' in node) || node.anchor === undefined) return;
      throw at(place(node.range?.[0] ?? 0), 'anchors (&) are not read: write the value out where it is wanted');
    },
    Map: (_key, node) => {
      const seen = new Set<string>();
      for (const { key } of node.items) {
        const offset = isNode(key) ? (key.range?.[0] ?? 0) : 0;
        if (!isScalar(key)) throw at(place(offset), 'a key must be a plain text');
        const name = String(key.value);
        if (seen.has(name)) throw at(place(offset), `${name} is written twice`);
        seen.add(name);
      }
    },
  });
}

/**
 * A document that says `extends: defaults` holds only what differs from them. It must end with a line `...`: of a whole
 * document a part would be missed, but half of such a one looks like a smaller one.
 */
function extended(yaml: Document.Parsed, given: unknown, place: (offset: number) => Place): unknown {
  if (typeof given !== 'object' || given === null || !Object.hasOwn(given, 'extends')) return given;
  const { extends: base, ...own } = given as Record<string, unknown>;
  const where = place(offsetOf(yaml, ['extends']));
  if (base !== 'defaults') throw at(where, 'extends: must be defaults');
  if (yaml.directives?.docEnd !== true) {
    throw at(
      where,
      'a document that extends the defaults must end with a line "...", so that a part is not taken for it',
    );
  }
  return withDefaults(own);
}

/** Offset of the key at the end of a chain, or of the nearest one above it that is written. */
function offsetOf(yaml: Document.Parsed, keys: readonly string[]): number {
  let offset = 0;
  let node: unknown = yaml.contents;
  for (const key of keys) {
    if (!isMap(node)) break;
    const pair = node.items.find((p) => isPair(p) && isScalar(p.key) && String(p.key.value) === key);
    if (pair === undefined) break;
    if (isNode(pair.key) && pair.key.range) offset = pair.key.range[0];
    node = pair.value;
  }
  return offset;
}
