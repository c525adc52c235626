/**
 * Configuration of `fairway controller` and `fairway agent`: a YAML or JSON file, overridden by the environment, that
 * overridden by `--set`; checked against `contracts/config.ts`. `docs/configuration.md` explains the keys. Errors name
 * the key and where its value was written: line of the file, variable or option.
 */
import { readFileSync } from 'node:fs';
import { type Document, isMap, isNode, isPair, LineCounter, parse, parseDocument } from 'yaml';
import { z } from 'zod';
import { FairwayError } from '../contracts/common.ts';
import { agentConfigSchema, controllerConfigSchema } from '../contracts/config.ts';

type Path = readonly (string | number)[];
type Environment = Readonly<Record<string, string | undefined>>;

export interface ConfigSources {
  /** Path of the file; without one, the defaults stand. */
  file?: string | undefined;
  env: Environment;
  /** `key.path=value` texts. */
  set?: readonly string[];
}

export interface Loaded<T> {
  config: T;
  /** FAIRWAY_ variables that mean nothing to any process of ours: most likely misspelt. */
  unknownVariables: string[];
}

/** Variables that are options of the command line and not keys of a configuration. */
const OTHER_VARIABLES = ['FAIRWAY_AUTHOR', 'FAIRWAY_CONFIG', 'FAIRWAY_LOG_LEVEL', 'FAIRWAY_TOKEN', 'FAIRWAY_URL'];

export const loadControllerConfig = (sources: ConfigSources) => load(controllerConfigSchema, sources);
export const loadAgentConfig = (sources: ConfigSources) => load(agentConfigSchema, sources);

/** `['policy', 'redisUrl']` → `FAIRWAY_POLICY_REDIS_URL`. */
export function variableName(path: Path): string {
  return `FAIRWAY_${path
    .map((p) =>
      String(p)
        .replace(/([a-z0-9])([A-Z])/g, '$1_$2')
        .toUpperCase(),
    )
    .join('_')}`;
}

/** A key that can be overridden: everything but the objects that only group other keys. */
export interface Setting {
  path: string[];
  schema: z.ZodType;
}

/** All keys of a configuration, in the order of its schema. Maps and lists are one key, written as YAML. */
export function settingsOf(schema: z.ZodType, path: string[] = []): Setting[] {
  const inner = withoutDefault(schema);
  if (!(inner instanceof z.ZodObject)) return [{ path, schema: inner }];
  return Object.entries(inner.shape).flatMap(([key, child]) => settingsOf(child as z.ZodType, [...path, key]));
}

function withoutDefault(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault || schema instanceof z.ZodOptional
    ? withoutDefault(schema.unwrap() as z.ZodType)
    : schema;
}

function load<S extends z.ZodObject>(schema: S, { file, env, set = [] }: ConfigSources): Loaded<z.infer<S>> {
  const settings = settingsOf(schema);
  const source = file === undefined ? undefined : readSource(file);
  const tree: Record<string, unknown> = source === undefined ? {} : source.tree;
  /** Where a value that did not come from the file was written, by dotted path. */
  const origins = new Map<string, string>();
  const put = (setting: Setting, raw: string, origin: string) => {
    putAt(tree, setting.path, readValue(setting.schema, raw));
    origins.set(setting.path.join('.'), origin);
  };

  for (const setting of settings) {
    const name = variableName(setting.path);
    const raw = env[name];
    if (raw !== undefined && raw !== '') put(setting, raw, name);
  }
  for (const text of set) {
    const [key, raw] = splitAssignment(text);
    const setting = settings.find((s) => s.path.join('.') === key);
    if (setting === undefined) {
      throw bad(`--set ${key}: there is no such key; keys are ${settings.map((s) => s.path.join('.')).join(', ')}`);
    }
    put(setting, raw, `--set ${key}`);
  }

  const parsed = schema.safeParse(tree, { reportInput: true });
  if (!parsed.success) {
    const where = (path: Path) => originOf(path, origins) ?? source?.where(path) ?? '';
    const isKey = (key: string) => settings.some((s) => s.path.join('.') === key);
    throw bad(parsed.error.issues.flatMap((issue) => describe(issue, where, isKey)).join('\n'));
  }
  const known = new Set([
    ...OTHER_VARIABLES,
    ...[controllerConfigSchema, agentConfigSchema].flatMap((s) => settingsOf(s).map((k) => variableName(k.path))),
  ]);
  const unknownVariables = Object.keys(env).filter((name) => name.startsWith('FAIRWAY_') && !known.has(name));
  return { config: parsed.data, unknownVariables };
}

/** `key=value` → both; the value may contain `=`. */
export function splitAssignment(text: string): [key: string, value: string] {
  const at = text.indexOf('=');
  if (at <= 0) throw bad(`"${text}": expected KEY=VALUE`);
  return [text.slice(0, at).trim(), text.slice(at + 1).trim()];
}

/** A text from outside as the schema wants it: as it stands where a text will do, else as YAML (number, list, map). */
function readValue(schema: z.ZodType, raw: string): unknown {
  if (schema.safeParse(raw).success) return raw;
  try {
    return parse(raw);
  } catch {
    return raw; // The schema will say what it wants instead.
  }
}

function putAt(tree: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [key, ...rest] = path;
  if (key === undefined) return;
  if (rest.length === 0) {
    tree[key] = value;
    return;
  }
  const child = tree[key];
  const isTree = typeof child === 'object' && child !== null && !Array.isArray(child);
  const branch = isTree ? (child as Record<string, unknown>) : {};
  tree[key] = branch;
  putAt(branch, rest, value);
}

/** Reads the file; `where` gives `file:line` of the value at a path, or of the nearest thing around it. */
function readSource(file: string): { tree: Record<string, unknown>; where(path: Path): string } {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    throw bad(`cannot read the configuration file ${file}: ${(error as Error).message}`, error);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const problem = document.errors[0];
  if (problem !== undefined) {
    throw bad(`${file}:${lines.linePos(problem.pos[0]).line}: ${problem.message}`, problem);
  }
  const tree: unknown = document.toJS() ?? {};
  if (typeof tree !== 'object' || tree === null || Array.isArray(tree)) {
    throw bad(`${file}:1: expected keys and values, such as "forwarding: managed"`);
  }
  return {
    tree: tree as Record<string, unknown>,
    where: (path) => `${file}:${lines.linePos(offsetOf(document, path)).line}`,
  };
}

/** Offset of the key at `path`, or of the nearest one above it that exists. */
function offsetOf(document: Document.Parsed, path: Path): number {
  for (let length = path.length; length > 0; length--) {
    const parent = length === 1 ? document.contents : document.getIn(path.slice(0, length - 1), true);
    if (isMap(parent)) {
      const name = String(path[length - 1]);
      const key = parent.items.find(
        (pair) => isPair(pair) && String(isNode(pair.key) ? pair.key.toJSON() : pair.key) === name,
      )?.key;
      if (isNode(key) && key.range) return key.range[0];
    }
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return 0;
}

function originOf(path: Path, origins: ReadonlyMap<string, string>): string | undefined {
  for (let length = path.length; length > 0; length--) {
    const origin = origins.get(path.slice(0, length).join('.'));
    if (origin !== undefined) return origin;
  }
  return undefined;
}

/** One line for each thing that is wrong, `where: key: what`. */
function describe(issue: z.core.$ZodIssue, where: (path: Path) => string, isKey: (key: string) => boolean): string[] {
  const path = issue.path.map((p) => (typeof p === 'symbol' ? String(p) : p));
  const line = (p: Path, what: string) => [where(p), p.join('.'), what].filter((s) => s !== '').join(': ');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => line([...path, key], 'there is no such key'));
  }
  const key = path.join('.');
  if (issue.input === undefined && /received undefined$|^Invalid input$/.test(issue.message) && isKey(key)) {
    return [`${key}: is missing: set it in the configuration file, with --set ${key}=… or in ${variableName(path)}`];
  }
  return [line(path, issue.message)];
}

const bad = (message: string, cause?: unknown) => new FairwayError('config.invalid', message, ['badInput'], cause);
