/**
 * What is asked of the oracle, for the tests (test/integration/openflow-os-ken.test.ts) and the coverage table alike:
 * which classes it reads and writes, and whether it agrees about one message. Excuses are in excuses.ts.
 */
import { decode, encode, fromJson, type Json, type OfMessage, stringifyJson, toJson } from '../../src/index.ts';
import type { Version } from '../../src/schema.ts';
import { messageNames } from '../arbitrary.ts';
import { EXCUSES } from './excuses.ts';
import type { Oracle } from './oracle.ts';

/** What can be compared in one version. */
export interface Comparable {
  /** Classes whose bytes it reads. */
  readonly reads: ReadonlySet<string>;
  /** Classes it makes bytes of. */
  readonly writes: ReadonlySet<string>;
  /** Classes it has and we do not, without an excuse. */
  readonly missing: readonly string[];
  /** Classes we have that are neither compared nor excused. */
  readonly unexplained: readonly string[];
}

/** Asks the oracle for its classes, and takes off what is excused. */
export async function comparable(oracle: Oracle, version: Version): Promise<Comparable> {
  const answer = await oracle.ask({ op: 'classes', version });
  if (answer.error !== undefined) throw new Error(answer.error);
  const theirs = answer.json as { reads: string[]; writes: string[] };
  const excuses = EXCUSES[version];
  const names = new Set(messageNames(version));
  // 1.2 registers the bodies of its statistics, not the replies
  const readNames = theirs.reads.map((n) => (version === 3 && /Stats$/.test(n) ? `${n}Reply` : n));
  const pick = (all: readonly string[], not: Readonly<Record<string, string>>) =>
    new Set(all.filter((n) => names.has(n) && !(n in not)));
  const all = [...readNames, ...theirs.writes];
  return {
    reads: pick(readNames, excuses.reads),
    writes: pick(theirs.writes, excuses.writes),
    missing: [...new Set(all)].filter((n) => !names.has(n) && !(n in excuses.notOurs)),
    unexplained: [...names].filter((n) => !all.includes(n) && !(n in excuses.neither)),
  };
}

/** Our bytes read there to our JSON. Gives the disagreement, or undefined. */
export async function readsAlike(oracle: Oracle, msg: OfMessage): Promise<string | undefined> {
  const hex = encode(msg).toString('hex');
  const answer = await oracle.ask({ op: 'decode', hex });
  if (answer.error !== undefined) return `os-ken: ${answer.error}\nbytes ${hex}`;
  return differs('JSON of what os-ken read', sorted(answer.json as Json), 'ours', sorted(toJson(msg)), hex);
}

/** Made from our JSON, its bytes are ours; its JSON reads here to the same bytes, its bytes to the same JSON. */
export async function writesAlike(oracle: Oracle, msg: OfMessage): Promise<string | undefined> {
  const ours = encode(msg).toString('hex');
  const version = msg.version as Version;
  const answer = await oracle.ask({ op: 'encode', version, json: asTaken(msg), xid: msg.xid });
  if (answer.error !== undefined) return `os-ken: ${answer.error}\nJSON ${stringifyJson(toJson(msg))}`;
  const hex = answer.hex as string;
  const json = answer.json as Json;
  return (
    differs('bytes of os-ken', hex, 'ours', ours, stringifyJson(json)) ??
    differs('bytes from its JSON', encode(fromJson(json, version), msg.xid).toString('hex'), 'ours', ours, hex) ??
    differs('our JSON of its bytes', sorted(toJson(decode(Buffer.from(hex, 'hex')))), 'its JSON', sorted(json), hex)
  );
}

/** Our JSON, without the type that os-ken's requests of 1.0 print and do not take. */
function asTaken(msg: OfMessage): Json {
  const json = toJson(msg) as { [cls: string]: { [name: string]: Json } };
  if (msg.version !== 1 || !msg.cls.endsWith('StatsRequest')) return json;
  const { type: _, ...rest } = json[msg.cls] as { [name: string]: Json };
  return { [msg.cls]: rest };
}

function differs(a: string, one: string, b: string, other: string, context: string): string | undefined {
  return one === other ? undefined : `${a}:\n${one}\n${b}:\n${other}\nof ${context}`;
}

/** One text per JSON value, whatever the order of its keys and the type of its integers. */
export function sorted(v: Json): string {
  const sort = (x: Json): Json => {
    if (Array.isArray(x)) return x.map(sort);
    if (typeof x !== 'object' || x === null) return x;
    return Object.fromEntries(
      Object.entries(x)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([k, e]) => [k, sort(e)]),
    );
  };
  return stringifyJson(sort(v), 1);
}
