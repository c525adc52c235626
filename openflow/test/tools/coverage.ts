/**
 * `npm run -w openflow coverage`: a table of every message class and version: whether it decodes and encodes to the same,
 * whether its JSON reads back to the same bytes, and whether os-ken, asked live, agrees. Then what the constants of each
 * version name (message types, multipart types, TLV types) against what is declared. Exit status 1 when anything is
 * missing or disagrees.
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual, parseArgs } from 'node:util';
import fc from 'fast-check';
import { compiledOf } from '../../src/codec.ts';
import {
  decode,
  encode,
  fromJson,
  type OfMessage,
  ofproto_v1_0,
  ofproto_v1_2,
  ofproto_v1_3,
  ofproto_v1_4,
  ofproto_v1_5,
  parseJson,
  stringifyJson,
  toJson,
  VERSIONS,
} from '../../src/index.ts';
import { holds, messageType, typesOf } from '../../src/layout.ts';
import { MESSAGES } from '../../src/messages.ts';
import type { AnyFamily, AnyStruct, Version } from '../../src/schema.ts';
import { messageArb, messageNames } from '../arbitrary.ts';
import { type Comparable, comparable, readsAlike, writesAlike } from '../oracle/differential.ts';
import { EXCUSES } from '../oracle/excuses.ts';
import { Oracle, whyNoOracle } from '../oracle/oracle.ts';

/** What was found out about one class in one version. */
interface Cell {
  version: Version;
  cls: string;
  codec: boolean;
  json: boolean;
  /** `agrees`, `differs`, or why it was not asked. */
  oracleReads: string;
  oracleWrites: string;
  trouble: string | undefined;
}

const NAMES: Readonly<Record<Version, string>> = { 1: '1.0', 3: '1.2', 4: '1.3', 5: '1.4', 6: '1.5' };
const CONSTANTS: Readonly<Record<Version, Readonly<Record<string, number>>>> = {
  1: ofproto_v1_0,
  3: ofproto_v1_2,
  4: ofproto_v1_3,
  5: ofproto_v1_4,
  6: ofproto_v1_5,
};

/** Prefixes of constants that number TLVs, and the families that read them. */
const TLVS: Readonly<Record<string, string>> = {
  OFPAT_: 'action',
  OFPIT_: 'instruction',
  OFPMBT_: 'meterBand',
  OFPHET_: 'helloElement',
  OFPQT_: 'queueProperty',
  OFPTFPT_: 'tableFeatureProperty',
  OFPPDPT_: 'portDescProperty',
  OFPPMPT_: 'portModProperty',
  OFPPSPT_: 'portStatsProperty',
  OFPQDPT_: 'queueDescProperty',
  OFPQSPT_: 'queueStatsProperty',
  OFPACPT_: 'asyncConfigProperty',
  OFPTMPT_: 'tableModProperty',
  OFPRPT_: 'roleProperty',
  OFPBPT_: 'bundleProperty',
  OFPGBPT_: 'bucketProperty',
  OFPGPT_: 'groupProperty',
  OFPCSPT_: 'controllerStatusProperty',
};

async function check(version: Version, cls: string, samples: number, seed: number, ask: Asked): Promise<Cell> {
  const { reads, writes, neither } = EXCUSES[version];
  const excuse = (own: Readonly<Record<string, string>>, otherwise: string) => own[cls] ?? neither[cls] ?? otherwise;
  const cell: Cell = {
    version,
    cls,
    codec: true,
    json: true,
    oracleReads: ask.oracle === undefined ? ask.why : excuse(reads, 'os-ken has no parser for it'),
    oracleWrites: ask.oracle === undefined ? ask.why : excuse(writes, 'os-ken has no serialiser for it'),
    trouble: undefined,
  };
  const fails = (what: string) => {
    cell.trouble ??= what;
    return false;
  };
  for (const msg of fc.sample(messageArb(cls, { plain: false, version }), { seed, numRuns: samples })) {
    const bytes = Buffer.from(encode(msg));
    if (!isDeepStrictEqual(decode(bytes), msg))
      cell.codec = fails(`decodes to something else: ${bytes.toString('hex')}`);
    const text = stringifyJson(toJson(msg));
    const back: OfMessage = fromJson(parseJson(text), version);
    if (!encode(back, msg.xid).equals(bytes)) cell.json = fails(`JSON reads back to something else: ${text}`);
  }
  const { oracle, known } = ask;
  if (oracle === undefined || known === undefined) return cell;
  const asked: ['oracleReads' | 'oracleWrites', boolean, typeof readsAlike][] = [
    ['oracleReads', known.reads.has(cls), readsAlike],
    ['oracleWrites', known.writes.has(cls), writesAlike],
  ];
  for (const [field, can, alike] of asked) {
    if (!can) continue;
    cell[field] = 'agrees';
    for (const msg of fc.sample(messageArb(cls, { plain: true, version }), { seed, numRuns: samples })) {
      classesIn(msg, ask.compared);
      const difference = await alike(oracle, msg);
      if (difference === undefined) continue;
      cell[field] = 'differs';
      fails(difference);
      break;
    }
  }
  return cell;
}
/** Structures that no message os-ken was asked about had in it. */
interface NotCompared {
  readonly version: Version;
  readonly of: number;
  readonly classes: readonly string[];
}
interface Asked {
  readonly oracle: Oracle | undefined;
  readonly known: Comparable | undefined;
  /** Classes of what was in messages os-ken was asked about. */
  readonly compared: Set<string>;
  readonly why: string;
}

/** Adds the class of `o` and of everything in it. */
function classesIn(o: unknown, into: Set<string>): void {
  if (typeof o !== 'object' || o === null || o instanceof Uint8Array) return;
  const { cls } = o as { cls?: unknown };
  if (typeof cls === 'string') into.add(cls);
  for (const v of Object.values(o)) classesIn(v, into);
}

/** Every family that messages of a version reach. */
function familiesOf(version: Version): Map<string, Set<number>> {
  const out = new Map<string, Set<number>>();
  const seen = new Set<AnyStruct>();
  const visitFamily = (f: AnyFamily) => {
    const types = out.get(f.name) ?? new Set<number>();
    out.set(f.name, types);
    for (const m of f.members) {
      if (!holds(m, version)) continue;
      if (m.options.experimenter === undefined) for (const t of typesOf(m, version)) types.add(t);
      visit(m);
    }
  };
  const visit = (s: AnyStruct) => {
    if (seen.has(s)) return;
    seen.add(s);
    for (const { kind, versions } of Object.values(s.fields)) {
      if (versions?.includes(version) === false) continue;
      if (kind.t === 'struct' || kind.t === 'list') visit(kind.of);
      else if (kind.t === 'either') for (const m of kind.of) visit(m);
      else if (kind.t === 'family' && kind.of !== undefined) visitFamily(kind.of);
    }
  };
  for (const m of MESSAGES as readonly AnyStruct[]) if (holds(m, version)) visit(m);
  return out;
}

/** Constants of a version that number something nothing is declared for; and how many were looked at. */
function undeclared(version: Version): { looked: number; missing: string[] } {
  const constants = CONSTANTS[version];
  const missing: string[] = [];
  let looked = 0;
  const messages = (MESSAGES as readonly AnyStruct[]).filter((m) => holds(m, version) && m.options.message);
  const types = new Set<number>();
  const requests = new Set<number>();
  const replies = new Set<number>();
  const [requestType] = version === 1 ? [16] : [18];
  for (const m of messages) {
    const header = m.options.message;
    if (header === undefined) continue;
    const type = messageType(header, version);
    types.add(type);
    if (header.multipart !== undefined) (type === requestType ? requests : replies).add(header.multipart);
  }
  const families = familiesOf(version);
  for (const [name, value] of Object.entries(constants)) {
    if (name.startsWith('OFPT_')) {
      looked++;
      if (!types.has(value)) missing.push(name);
    } else if (/^(OFPMP|OFPST)_/.test(name) && !/_(MAX|SIZE)$/.test(name)) {
      looked++;
      if (!requests.has(value)) missing.push(`${name} request`);
      if (!replies.has(value)) missing.push(`${name} reply`);
    } else {
      const prefix = Object.keys(TLVS).find((p) => name.startsWith(p));
      // the number of the meter instruction, which 1.5 took out of use
      if (prefix === undefined || name === 'OFPIT_DEPRECATED') continue;
      looked++;
      if (!families.get(TLVS[prefix] as string)?.has(value)) missing.push(name);
    }
  }
  return { looked, missing };
}

const HELP = `Usage: npm run -w openflow coverage -- [--samples N] [--seed N] [--json]

For every message class and version, with N generated messages each (default 25):
  C  encodes, and decodes to the same     J  its Ryu JSON reads back to the same bytes
  R  os-ken reads our bytes to our JSON   W  os-ken writes our bytes from our JSON, and back
  .  the version has no such class        -  not to be asked of os-ken (the reasons follow)   X  fails
Exit status: 0 complete · 1 something is missing or differs · 2 wrong usage
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      samples: { type: 'string', default: '25' },
      seed: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const samples = Number(values.samples);
  const seed = Number(values.seed);
  if (!Number.isSafeInteger(samples) || samples < 1 || !Number.isSafeInteger(seed))
    throw new Error('whole numbers, please');
  const why = whyNoOracle();
  // dist/tools/test/tools → test/oracle
  const script = join(dirname(fileURLToPath(import.meta.url)), '../../../../test/oracle/os_ken_oracle.py');
  const oracle = why === undefined ? new Oracle(script) : undefined;
  const cells: Cell[] = [];
  const missing: string[] = [];
  const notCompared: NotCompared[] = [];
  let looked = 0;
  for (const version of VERSIONS) {
    const known = oracle === undefined ? undefined : await comparable(oracle, version);
    const ask = { oracle, known, compared: new Set<string>(), why: why ?? '' };
    for (const cls of messageNames(version)) {
      if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${NAMES[version]} ${cls}`);
      cells.push(await check(version, cls, samples, seed, ask));
    }
    const messages = new Set(messageNames(version));
    const structures = [...compiledOf(version).structs.keys()].filter((cls) => !messages.has(cls)).sort();
    notCompared.push({ version, of: structures.length, classes: structures.filter((cls) => !ask.compared.has(cls)) });
    for (const name of known?.missing ?? []) missing.push(`${NAMES[version]} ${name}: os-ken has it`);
    for (const name of known?.unexplained ?? [])
      missing.push(`${NAMES[version]} ${name}: neither compared nor excused`);
    const constants = undeclared(version);
    looked += constants.looked;
    for (const name of constants.missing) missing.push(`${NAMES[version]} ${name}: nothing is declared for it`);
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  await oracle?.close();
  const troubles = cells.filter((c) => c.trouble !== undefined);
  if (values.json)
    process.stdout.write(
      `${JSON.stringify({ samples, seed, cells, notCompared, constants: looked, missing }, null, 1)}\n`,
    );
  else print(cells, notCompared, missing, looked, samples, why);
  return troubles.length === 0 && missing.length === 0 ? 0 : 1;
}

function print(
  cells: readonly Cell[],
  notCompared: readonly NotCompared[],
  missing: readonly string[],
  looked: number,
  samples: number,
  why?: string,
): void {
  const out: string[] = [];
  const classes = [...new Set(cells.map((c) => c.cls))].sort();
  const width = Math.max(...classes.map((c) => c.length));
  const letter = (state: string, yes: string) => (state === 'agrees' ? yes : state === 'differs' ? 'X' : '-');
  out.push(`${''.padEnd(width)}  ${VERSIONS.map((v) => NAMES[v].padEnd(4)).join('  ')}`);
  for (const cls of classes) {
    const row = VERSIONS.map((v) => {
      const c = cells.find((x) => x.cls === cls && x.version === v);
      if (c === undefined) return '.   ';
      return `${c.codec ? 'C' : 'X'}${c.json ? 'J' : 'X'}${letter(c.oracleReads, 'R')}${letter(c.oracleWrites, 'W')}`;
    });
    out.push(`${cls.padEnd(width)}  ${row.join('  ')}`.trimEnd());
  }
  out.push('');
  for (const v of VERSIONS) {
    const own = cells.filter((c) => c.version === v);
    const checked = own.filter((c) => c.oracleReads === 'agrees' || c.oracleWrites === 'agrees').length;
    out.push(
      `${NAMES[v]}: ${own.length} message classes; all with ${samples} messages each; os-ken agrees about ${checked}`,
    );
  }
  for (const { version, of, classes } of why === undefined ? notCompared : []) {
    const rest = classes.length === 0 ? '' : `; not in any: ${classes.join(', ')}`;
    out.push(
      `${NAMES[version]}: ${of - classes.length} of ${of} structures were in messages os-ken was asked about${rest}`,
    );
  }
  if (why === undefined)
    out.push('Nicira’s actions are compared one by one in test/integration/openflow-os-ken-nicira.test.ts.');
  if (why !== undefined) out.push(`os-ken was not asked, because ${why}`);
  out.push('', 'Not asked of os-ken:');
  for (const v of VERSIONS) {
    const { reads, writes, neither } = EXCUSES[v];
    for (const [how, all] of [
      ['to read', reads],
      ['to write', writes],
      ['at all', neither],
    ] as const) {
      for (const [cls, reason] of Object.entries(all)) out.push(`  ${NAMES[v]} ${cls}, ${how}: ${reason}`);
    }
  }
  out.push(
    '',
    `${looked} constants that number messages, multipart types and TLVs were looked up in the declarations.`,
  );
  out.push(missing.length === 0 ? 'Nothing is missing.' : 'Missing:', ...missing.map((m) => `  ${m}`));
  for (const c of cells)
    if (c.trouble !== undefined) out.push('', `${NAMES[c.version]} ${c.cls}: ${c.trouble.slice(0, 1500)}`);
  process.stdout.write(`${out.join('\n')}\n`);
}

try {
  process.exitCode = await main();
} catch (e) {
  process.stderr.write(`coverage: ${e instanceof Error ? e.message : String(e)}\n${HELP}`);
  process.exitCode = 2;
}
