/**
 * The generated pages of openflow/docs: api.md from the doc comments of what index.ts exports, messages.md from the
 * declarations. docs.ts writes them, a test compares them.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compiledOf } from '../../src/codec.ts';
import { VERSIONS } from '../../src/index.ts';
import { holds, messageType } from '../../src/layout.ts';
import { MESSAGES } from '../../src/messages.ts';
import { OXM_FIELDS } from '../../src/oxmFields.ts';
import type { AnyFamily, AnyStruct, Field, Kind, Version } from '../../src/schema.ts';

const NAMES: Readonly<Record<Version, string>> = { 1: '1.0', 3: '1.2', 4: '1.3', 5: '1.4', 6: '1.5' };
/** The editions whose sections the declarations name. */
const EDITIONS: Readonly<Record<Version, string>> = { 1: '1.0.1', 3: '1.2', 4: '1.3.5', 5: '1.4.1', 6: '1.5.1' };

// ---- docs/messages.md ----------------------------------------------------------------------------------------------

function range(versions: readonly Version[]): string {
  if (versions.length === VERSIONS.length) return 'all versions';
  const all = versions.map((v) => NAMES[v]);
  const first = VERSIONS.indexOf(versions[0] as Version);
  const isRun = versions.every((v, i) => VERSIONS.indexOf(v) === first + i);
  return isRun && all.length > 2 ? `${all[0]}–${all.at(-1)}` : all.join(', ');
}

function section(s: AnyStruct): string {
  if (!/^(?:A\.)?[\d.]+$/.test(s.options.spec)) return s.options.spec;
  const edition = s.options.versions.includes(4) ? 4 : (s.options.versions.at(-1) as Version);
  return `OpenFlow ${EDITIONS[edition]} §${s.options.spec}`;
}

/** What a caller reads and writes for a field; undefined for what callers never see. */
function typeText(kind: Kind): string | undefined {
  switch (kind.t) {
    case 'uint':
      return `number, ${8 * kind.size} bits`;
    case 'u64':
      return 'bigint, 64 bits';
    case 'mac':
      return 'MAC address';
    case 'ipv4':
      return 'IPv4 address';
    case 'str':
      return `text, at most ${kind.size} bytes`;
    case 'text':
      return 'text';
    case 'match':
      return '`OFPMatch`';
    case 'stats':
      return '`OFPStats`';
    case 'oxms':
      return 'OXM fields';
    case 'message':
      return 'a message';
    case 'bytes':
      return 'bytes';
    case 'struct':
      return `\`${kind.of.cls}\``;
    case 'list':
      return `list of \`${kind.of.cls}\``;
    case 'family':
      // undefined: the family the structure is a member of, and only actions hold others
      return `list of [${kind.of?.name ?? 'action'}](#${kind.of?.name.toLowerCase() ?? 'action'})`;
    case 'oxmHeader':
      return 'name of a match field';
    case 'either':
      return `list of ${[...new Set(kind.of.map((m) => `\`${m.cls}\``))].join(' or ')}`;
    case 'uints':
      return kind.count === undefined
        ? `list of numbers, ${8 * kind.size} bits`
        : `${kind.count} numbers, ${8 * kind.size} bits`;
    case 'bitmap':
      return 'list of numbers';
    default:
      return undefined;
  }
}

function defaultText(f: Field): string {
  if (f.presence === 'required') return 'required';
  if (typeof f.dflt === 'number' && f.dflt > 255) return `0x${f.dflt.toString(16)}`;
  if (typeof f.dflt === 'number' || typeof f.dflt === 'bigint') return String(f.dflt);
  if (typeof f.dflt === 'string' && f.dflt !== '') return f.dflt;
  return 'empty';
}

function structText(s: AnyStruct): string[] {
  const { message, versions, custom } = s.options;
  const type =
    message === undefined
      ? ''
      : ` · type ${[...new Set(versions.map((v) => messageType(message, v)))].join(' or ')}${
          message.multipart === undefined ? '' : `, multipart ${message.multipart}`
        }`;
  const out = [`Versions: ${range(versions)} · ${section(s)}${type}`, ''];
  const rows = Object.entries(s.fields).flatMap(([name, field]) => {
    const text = typeText(field.kind);
    if (text === undefined || field.presence === 'hidden') return [];
    const only = field.versions === undefined ? '' : range(field.versions.filter((v) => versions.includes(v)));
    return [`| \`${name}\` | ${text} | ${defaultText(field)} | ${only} |`];
  });
  if (custom !== undefined) out.push('Read and written by code of its own: its type says what it has.', '');
  else if (rows.length === 0) out.push('No fields.', '');
  else out.push('| field | type | default | only in |', '|---|---|---|---|', ...rows, '');
  return out;
}

function messagesPage(): string {
  const messages = new Set<string>((MESSAGES as readonly AnyStruct[]).map((m) => m.cls));
  const all = new Map<string, Set<AnyStruct>>();
  const families = new Map<string, Set<AnyFamily>>();
  for (const v of VERSIONS) {
    for (const s of compiledOf(v).structs.values()) {
      all.set(s.cls, (all.get(s.cls) ?? new Set()).add(s));
      for (const { kind } of Object.values(s.fields)) {
        if (kind.t === 'family' && kind.of !== undefined)
          families.set(kind.of.name, (families.get(kind.of.name) ?? new Set()).add(kind.of));
      }
    }
  }
  const out = [
    '# Messages, structures and match fields',
    '',
    'Made from the declarations by `npm run -w openflow docs`; do not edit. Names are Ryu’s. Lengths, types and padding, which',
    'the library writes itself, are left out. Every class has a factory of its name in `of10`, `of12`, `of13`, `of14` or `of15`.',
    '',
  ];
  const classes = [...all].sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [title, isMessage] of [
    ['Messages', true],
    ['Structures', false],
  ] as const) {
    out.push(`## ${title}`, '');
    for (const [cls, declared] of classes) {
      if (messages.has(cls) !== isMessage) continue;
      out.push(`### ${cls}`, '');
      for (const s of declared) out.push(...structText(s));
    }
  }
  out.push('## TLV families', '', 'What a list of TLVs may hold, by version.', '');
  for (const [name, declared] of [...families].sort(([a], [b]) => (a < b ? -1 : 1))) {
    out.push(`### ${name}`, '');
    for (const v of VERSIONS) {
      const members = [...declared].flatMap((f) => [...f.members, ...f.unknowns]).filter((m) => holds(m, v));
      if (members.length > 0) out.push(`- ${NAMES[v]}: ${[...new Set(members.map((m) => `\`${m.cls}\``))].join(', ')}`);
    }
    out.push('');
  }
  out.push('## Match fields', '', '| field | class, number | value | bits | versions |', '|---|---|---|---|---|');
  for (const [name, first] of Object.entries(OXM_FIELDS)) {
    for (const r of [first, ...first.others]) {
      const experimenter = r.experimenter === undefined ? '' : ` of 0x${r.experimenter.toString(16)}`;
      const where = `0x${r.cls.toString(16).padStart(4, '0')}, ${r.num}${experimenter}`;
      out.push(`| \`${name}\` | ${where} | ${r.kind} | ${r.bits} | ${range(r.versions)} |`);
    }
  }
  return `${out.join('\n')}\n`;
}

// ---- docs/api.md ---------------------------------------------------------------------------------------------------

interface Declaration {
  readonly doc: string;
  readonly code: string;
}

/** Top-level declarations of a .d.ts file, by name, with the comment in front of each. */
function declarationsOf(text: string): Map<string, Declaration> {
  const out = new Map<string, Declaration>();
  const lines = text.split('\n');
  let doc: string[] = [];
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i] as string;
    if (line.startsWith('/**')) {
      doc = [line];
      while (!(lines[i] as string).includes('*/')) doc.push(lines[++i] as string);
      continue;
    }
    const m = /^export (?:declare )?(?:abstract )?(?:const|function|class|interface|type) (\w+)/.exec(line);
    if (m !== null) {
      const code = [line];
      // a declaration ends where its braces are closed again
      let depth = count(line);
      while (depth > 0 || !/[;}]$/.test(lines[i] as string)) {
        i++;
        if (lines[i] === undefined) break;
        code.push(lines[i] as string);
        depth += count(lines[i] as string);
      }
      const name = m[1] as string;
      const known = out.get(name);
      // overloads stand together
      out.set(name, {
        doc: known === undefined ? doc.join('\n') : known.doc,
        code: [known?.code, code.join('\n')].filter(Boolean).join('\n'),
      });
    }
    doc = [];
  }
  return out;
}
const count = (line: string): number => (line.match(/[{([]/g)?.length ?? 0) - (line.match(/[})\]]/g)?.length ?? 0);

/** The prose of a comment, without its stars. */
function prose(doc: string): string {
  const lines = doc
    .replace(/^\/\*\*/, '')
    .replace(/\*\/$/, '')
    .split('\n')
    .map((l) => l.replace(/^\s*\* ?/, ''));
  const text = lines.join('\n').trim();
  return text
    .replace(/^@throws /gm, '\n**Throws** ')
    .replace(/^@example\s*(.*)$/gms, (_, code: string) => `\n\`\`\`ts\n${code.trim()}\n\`\`\``);
}

const LONG = 60;

function apiPage(dist: string): string {
  const index = readFileSync(join(dist, 'index.d.ts'), 'utf8');
  const out = [
    '# API',
    '',
    'Made from the doc comments by `npm run -w openflow docs`; do not edit. The factories of messages and structures are in',
    '[messages.md](messages.md).',
    '',
  ];
  const exports = [...index.matchAll(/^export (?:type )?\{([^}]*)\} from '\.\/(\w+)\.ts';/gm)];
  for (const [, names, file] of exports) {
    const declared = declarationsOf(readFileSync(join(dist, `${file}.d.ts`), 'utf8'));
    out.push(`## ${file}`, '');
    for (const part of (names as string).split(',')) {
      const name = part.trim().replace(/^type /, '');
      if (name === '') continue;
      const d = declared.get(name);
      if (d === undefined) throw new Error(`${file}.ts exports ${name}, and no declaration of it was found`);
      out.push(`### ${name}`, '');
      if (d.doc !== '') out.push(prose(d.doc), '');
      // a thousand numbers are better read in the source
      if (name.startsWith('ofproto_')) continue;
      const code = d.code.replace(/^export (declare )?/gm, '');
      if (code.split('\n').length > LONG)
        out.push(`<details><summary>declaration</summary>\n\n\`\`\`ts\n${code}\n\`\`\`\n\n</details>`, '');
      else out.push('```ts', code, '```', '');
    }
  }
  return `${out.join('\n')}\n`;
}

/** The generated pages, by file name. `dist` is where the library's declarations are. */
export function pages(dist: string): ReadonlyMap<string, string> {
  return new Map([
    ['api.md', apiPage(dist)],
    ['messages.md', messagesPage()],
  ]);
}
