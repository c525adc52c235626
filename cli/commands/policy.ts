/**
 * `fairway policy get|set|check|diff|explain|history`. Check, and diff and explain with files, need no controller; the
 * others speak to it.
 */
import { readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { stringify } from 'yaml';
import { FairwayError } from '../../contracts/common.ts';
import { DEFAULT_POLICY, type PolicyDocument } from '../../contracts/policy.ts';
import type { PolicyPatch, StatusView } from '../../contracts/rest.ts';
import { formatRate, parseRateBps } from '../../contracts/units.ts';
import type { ExplainInputs, PolicyExplanation, SubjectRule, ValueRule } from '../../policies/index.ts';
import { splitAssignment } from '../config.ts';
import { type ConnectOptions, connect } from '../connect.ts';
import { linkCalled, withLinkNames } from '../linkNames.ts';
import { EXIT, type Terminal, table } from '../terminal.ts';

type Options = ConnectOptions & { json?: true };

const MAX_FILE_BYTES = 1024 * 1024;
const bad = (code: string, message: string, cause?: unknown) => new FairwayError(code, message, ['badInput'], cause);

export async function get(terminal: Terminal, o: Options, path?: string): Promise<undefined> {
  const view = await connect(terminal, o).policy();
  const part = path === undefined ? view.policy : partAt(view.policy, path);
  if (o.json) {
    terminal.out(`${JSON.stringify(path === undefined ? view : part)}\n`);
    return;
  }
  if (path === undefined) {
    terminal.out(`# revision ${view.status.revision}, kept in: ${view.store}\n`);
    if (view.status.state === 'refused') terminal.out(`# last edit refused: ${view.status.reason}\n`);
  }
  terminal.out(typeof part === 'object' ? stringify(part, { lineWidth: 120 }) : `${part}\n`);
}

/** The value at a dotted path. */
function partAt(policy: unknown, path: string): unknown {
  let part = policy;
  for (const [i, key] of path.split('.').entries()) {
    const here = typeof part === 'object' && part !== null ? (part as Record<string, unknown>) : {};
    if (!Object.hasOwn(here, key)) {
      const known = Object.keys(here).join(', ');
      const parent = path.split('.').slice(0, i).join('.') || 'the policy';
      throw bad('cli.noSuchPath', `${path}: ${parent} has ${known || 'no keys'}`);
    }
    part = here[key];
  }
  return part;
}

export async function set(
  terminal: Terminal,
  o: Options & { author?: string },
  assignments: string[],
): Promise<undefined> {
  const patch: PolicyPatch = {};
  for (const text of assignments) {
    const [path, value] = splitAssignment(text);
    patch[path] = value === 'null' ? null : value; // Numbers and lists travel as text, as from Redis.
  }
  const user = terminal.env.USER ?? terminal.env.LOGNAME;
  const author = o.author ?? (user === undefined ? hostname() : `${user}@${hostname()}`);
  const client = connect(terminal, o);
  const view = await client.patchPolicy(patch, author);
  terminal.out(o.json ? `${JSON.stringify(view)}\n` : `accepted: policy revision ${view.status.revision}\n`);
  if (Object.keys(patch).some((path) => /(^|\.)(reservation|sla)\./.test(path)))
    await tellTurned(terminal, view.policy);
  const links = Object.entries(patch).flatMap(([path, value]) => {
    const id = value === null ? undefined : /^sla\.links\.([^.]+)/.exec(path)?.[1];
    return id === undefined ? [] : [id];
  });
  if (links.length === 0) return;
  // Any name is taken, since links come and go; one that is mistaken would do nothing, without a word.
  const { topology } = await client.status();
  for (const id of new Set(links)) {
    const link = linkCalled(id, topology);
    if (link?.id === id) continue;
    const cure = link === undefined ? 'links are named <datapath id>:<port>' : `${id} is sla.links.${link.id}`;
    terminal.err(`fairway: sla.links.${id} holds for no link that is known now: ${cure}\n`);
  }
}

// --- Policies from files --------------------------------------------------------------------------------------------

interface Problem {
  /** Dotted path; '' where the text as a whole is meant. */
  path: string;
  /** The path and what is wrong there. */
  text: string;
  line: number | null;
  column: number | null;
}

function readFile(file: string): string {
  try {
    const size = file === '-' ? 0 : statSync(file).size;
    if (size > MAX_FILE_BYTES) throw new Error(`it has ${size} bytes; at most ${MAX_FILE_BYTES} are read`);
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw bad('cli.unreadable', `cannot read ${file}: ${(error as Error).message}`, error);
  }
}

/** A policy file's document, or all that is wrong with it. */
async function readPolicy(file: string): Promise<{ doc: PolicyDocument } | { problems: Problem[] }> {
  const { parsePolicy } = await import('../../policies/index.ts');
  const { problemsOfText, readPolicyText } = await import('../../controller/io/policyStores/yaml.ts');
  const text = readFile(file);
  try {
    const read = readPolicyText(text);
    const problems = problemsOfText(read);
    if (problems.length === 0) return { doc: parsePolicy(read.value).doc };
    return {
      problems: problems.map((p) => ({ path: p.keys.join('.'), text: p.text, line: p.line, column: p.column })),
    };
  } catch (error) {
    if (!(error instanceof FairwayError)) throw error;
    const at = /^line (\d+), column (\d+): (.*)$/s.exec(error.message);
    const place = at ? { line: Number(at[1]), column: Number(at[2]) } : { line: null, column: null };
    return { problems: [{ path: '', text: at?.[3] ?? error.message, ...place }] };
  }
}

const placed = (file: string, { line, column, text }: Problem): string =>
  line === null ? `${file}: ${text}` : `${file}:${line}:${column}: ${text}`;

/** Says where a policy that is valid gives the less urgent more. Answers the same. */
async function tellTurned(terminal: Terminal, doc: PolicyDocument): Promise<string[]> {
  const { compilePolicy, turnedRound } = await import('../../policies/index.ts');
  const notes = turnedRound(compilePolicy(doc));
  for (const text of notes) terminal.err(`fairway: note: ${text}\n`);
  return notes;
}

export async function check(terminal: Terminal, o: { json?: true }, file: string): Promise<number> {
  const read = await readPolicy(file);
  const problems = 'problems' in read ? read.problems : [];
  const notes = 'doc' in read ? await tellTurned(terminal, read.doc) : [];
  if (o.json) {
    const first = problems[0];
    const problem = first === undefined ? null : placed(file, first);
    terminal.out(`${JSON.stringify({ ok: first === undefined, problem, problems, notes })}\n`);
  } else if (problems.length === 0) terminal.out(`${file}: a valid policy\n`);
  else for (const p of problems) terminal.err(`fairway: ${placed(file, p)}\n`);
  return problems.length === 0 ? EXIT.ok : EXIT.usage;
}

/** A policy from a file, the defaults, or the controller. */
async function policyFrom(terminal: Terminal, o: ConnectOptions, source: string): Promise<PolicyDocument> {
  if (source === 'defaults') return DEFAULT_POLICY;
  if (source === 'running') return (await connect(terminal, o).policy()).policy;
  const read = await readPolicy(source);
  if ('doc' in read) return read.doc;
  throw bad('POLICY_INVALID', read.problems.map((p) => placed(source, p)).join('\n'));
}

export async function diff(terminal: Terminal, o: Options, a: string, b: string): Promise<number> {
  const { flattenPolicy } = await import('../../policies/index.ts');
  const { changesBetween } = await import('../../controller/io/policyStores/store.ts');
  const before = flattenPolicy(await policyFrom(terminal, o, a));
  const after = flattenPolicy(await policyFrom(terminal, o, b));
  const changes = changesBetween(before, after);
  if (o.json) terminal.out(`${JSON.stringify({ same: changes.length === 0, changes })}\n`);
  else {
    if (changes.length > 0) terminal.out(`--- ${a}\n+++ ${b}\n`);
    for (const c of changes) {
      const line = (sign: string, text: string | null) => (text === null ? '' : `  ${sign} ${text}\n`);
      terminal.out(`${c.path}\n${line('-', c.before)}${line('+', c.after)}`);
    }
  }
  return changes.length === 0 ? EXIT.ok : EXIT.failed;
}

// --- Explaining -----------------------------------------------------------------------------------------------------

type ExplainOptions = Options & {
  guest?: string;
  label: string[];
  tenant?: string;
  host?: string;
  link?: string;
  capacity?: string;
  rate?: string;
  file?: string;
};

export async function explain(terminal: Terminal, o: ExplainOptions, what: string): Promise<undefined> {
  const { compilePolicy, explainSetting, explainSubject, isSetting, notASetting, rulesOfSubject } = await import(
    '../../policies/index.ts'
  );
  const doc = await policyFrom(terminal, o, o.file ?? 'running');
  const isPath = isSetting(doc, what);
  const mistake = isPath ? undefined : notASetting(doc, what);
  if (mistake !== undefined) throw bad('POLICY_PATH', `${what}: ${mistake}`);
  const guest = isPath ? o.guest : what;
  const inputs = await subjectOf(terminal, o, doc, guest);
  const policy = compilePolicy(doc);
  const explanations = isPath ? [explainSetting(policy, what, inputs)] : explainSubject(policy, inputs);
  if (o.json) {
    const { capacityBps, rateBps, ...subject } = inputs;
    const rules = rulesOfSubject(doc, inputs);
    terminal.out(`${JSON.stringify({ subject, capacityBps, rateBps, rules, settings: explanations })}\n`);
    return;
  }
  if (isPath) terminal.out(explained(explanations[0] as PolicyExplanation));
  else {
    const rows = explanations.map((e) => [e.path, textOf(e.rule.value), whereOf(e.rule)]);
    terminal.out(
      `${subjectText(inputs)}\n${rulesText(rulesOfSubject(doc, inputs))}${table([['SETTING', 'VALUE', 'FROM'], ...rows])}`,
    );
  }
}

/** Whom a value is wanted for: what the options say, the rest as the controller knows the guest. */
async function subjectOf(
  terminal: Terminal,
  o: ExplainOptions,
  doc: PolicyDocument,
  guest: string | undefined,
): Promise<ExplainInputs> {
  const rate = (option: string, text: string) => {
    const bps = parseRateBps(text);
    if (bps === undefined) throw bad('cli.rate', `--${option} ${text}: must be a rate such as "200 Mbit/s"`);
    return bps;
  };
  const labels = Object.fromEntries(o.label.map(splitAssignment));
  const asksController = o.file === undefined && (guest !== undefined || o.link !== undefined);
  const status = asksController ? await connect(terminal, o).status() : undefined;
  const link = o.link === undefined ? undefined : linkOf(o.link, doc, status);
  const inputs: ExplainInputs = {
    labels,
    capacityBps: o.capacity === undefined ? (link?.capacityBps ?? 1e9) : rate('capacity', o.capacity),
    rateBps: o.rate === undefined ? (link?.rateBps ?? 0) : rate('rate', o.rate),
    ...(guest === undefined ? {} : { guest }),
    ...(o.tenant === undefined ? {} : { tenant: o.tenant }),
    ...(o.host === undefined ? {} : { host: o.host }),
    ...(link === undefined ? {} : { link: link.id }),
  };
  if (guest === undefined || status === undefined) return inputs;
  const { guests = [] } = status.topology;
  const known = guests.find((g) => g.name === guest);
  if (known !== undefined) return { host: known.host, ...inputs, labels: { ...known.labels, ...labels } };
  if (Object.hasOwn(doc.overrides.guests, guest)) return inputs;
  const names = guests.map((g) => g.name).sort();
  throw new FairwayError(
    'cli.noSuchGuest',
    `${guest}: is no setting, and no agent reports such a guest; guests: ${names.join(', ') || 'none'}`,
    ['notFound'],
  );
}

/** The link that is meant, with what it carries now where the controller was asked: `rateBps` as reservations take it to be wanted. */
function linkOf(
  text: string,
  doc: PolicyDocument,
  status: StatusView | undefined,
): { id: string; capacityBps?: number; rateBps?: number } {
  if (status === undefined) return { id: text };
  const { topology, rates } = status;
  const link = linkCalled(text, topology);
  // A link that is away has its limits all the same.
  if (link === undefined && Object.hasOwn(doc.sla.links, text)) return { id: text };
  if (link === undefined) {
    const known = topology.links.map((l) => withLinkNames(l.id, topology)).sort();
    const some = known.length > 12 ? [...known.slice(0, 12), `${known.length - 12} more`] : known;
    throw new FairwayError('cli.noSuchLink', `--link ${text}: no such link; links: ${some.join(', ') || 'none'}`, [
      'notFound',
    ]);
  }
  const workloadBps = rates.links.find((l) => l.id === link.id)?.workloadBps ?? 0;
  const rateBps = Math.min(workloadBps * (1 + doc.workload.headroom), link.capacityBps);
  return { id: link.id, capacityBps: link.capacityBps, rateBps };
}

/** In which order overrides are looked at for a guest. */
function rulesText(rules: readonly SubjectRule[]): string {
  if (rules.length === 0) return 'no override holds for it: every setting is that of the document\n';
  const more = ({ rank, isExtended }: SubjectRule) => (isExtended ? ' (extended)' : rank ? ` (rank ${rank})` : '');
  return `overrides, the strongest first: ${rules.map((r) => `${r.path}${more(r)}`).join(', ')}\n`;
}

function subjectText({ guest, labels = {}, tenant, host }: ExplainInputs): string {
  const carried = Object.entries(labels).map(([k, v]) => `${k}=${v}`);
  const parts = [
    `guest ${guest}`,
    carried.length > 0 ? `labels ${carried.join(', ')}` : 'no labels',
    ...(tenant === undefined ? [] : [`tenant ${tenant}`]),
    ...(host === undefined ? [] : [`host ${host}`]),
  ];
  return parts.join(', ');
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

function whereOf({ level, name, path }: ValueRule): string {
  if (level === 'default') return 'default';
  if (level === 'document') return 'the document';
  return `${level} ${name} (${path})`;
}

/** One setting, for a person. */
function explained({ path, rule, weaker, result }: PolicyExplanation): string {
  const lines = [`${path} = ${textOf(rule.value)}`, `  from ${whereOf(rule)}`];
  for (const w of weaker) lines.push(`  goes before ${textOf(w.value)} from ${whereOf(w)}`);
  if (result !== undefined) {
    const { capacity, floor, ceiling, rate } = result.inputs;
    const of = [
      `capacity ${formatRate(capacity)}`,
      `floor ${formatRate(floor)}`,
      `ceiling ${formatRate(ceiling)}`,
      `rate ${formatRate(rate)}`,
    ];
    const value = result.bps === null ? 'no number' : formatRate(result.bps);
    lines.push(`  comes to ${value} for ${of.join(', ')}${result.note === null ? '' : `: ${result.note}`}`);
  }
  return `${lines.join('\n')}\n`;
}

export async function history(terminal: Terminal, o: Options & { limit?: number }): Promise<undefined> {
  const { edits: all } = await connect(terminal, o).policyHistory();
  const edits = all.slice(0, o.limit ?? all.length);
  if (o.json) {
    terminal.out(`${JSON.stringify({ edits })}\n`);
    return;
  }
  if (edits.length === 0) terminal.out('no edits yet\n');
  for (const e of edits) {
    const who = e.author === '' ? 'somebody' : e.author;
    const what = e.state === 'accepted' ? `accepted, revision ${e.revision}` : `refused: ${e.reason}`;
    terminal.out(`${new Date(e.atMs).toISOString()}  ${who} (${e.via})  ${what}\n`);
    for (const c of e.changes) terminal.out(`  ${c.path}: ${c.before ?? 'nothing'} → ${c.after ?? 'nothing'}\n`);
    if (e.more > 0) terminal.out(`  … and ${e.more} more\n`);
  }
}
