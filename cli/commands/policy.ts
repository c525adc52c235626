/** `fairway policy get|set|check`. Get and set speak to the controller; check needs none. */
import { readFileSync } from 'node:fs';
import { parseDocument, stringify } from 'yaml';
import { FairwayError } from '../../contracts/common.ts';
import type { PolicyPatch } from '../../contracts/rest.ts';
import { splitAssignment } from '../config.ts';
import { type ConnectOptions, connect } from '../connect.ts';
import { EXIT, type Terminal } from '../terminal.ts';

type Options = ConnectOptions & { json?: true };

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
      throw new FairwayError('cli.noSuchPath', `${path}: ${parent} has ${known || 'no keys'}`, ['badInput']);
    }
    part = here[key];
  }
  return part;
}

export async function set(terminal: Terminal, o: Options, assignments: string[]): Promise<undefined> {
  const patch: PolicyPatch = {};
  for (const text of assignments) {
    const [path, value] = splitAssignment(text);
    patch[path] = value === 'null' ? null : value; // Numbers and lists travel as text, as from Redis.
  }
  const view = await connect(terminal, o).patchPolicy(patch);
  terminal.out(o.json ? `${JSON.stringify(view)}\n` : `accepted: policy revision ${view.status.revision}\n`);
}

export async function check(terminal: Terminal, o: { json?: true }, file: string): Promise<number> {
  const problem = await problemOf(file);
  if (o.json) terminal.out(`${JSON.stringify({ ok: problem === null, problem })}\n`);
  else if (problem === null) terminal.out(`${file}: a valid policy\n`);
  else terminal.err(`fairway: ${file}: ${problem}\n`);
  return problem === null ? EXIT.ok : EXIT.usage;
}

/** What is wrong with a policy file, or null. */
async function problemOf(file: string): Promise<string | null> {
  const { parsePolicy } = await import('../../policies/index.ts');
  let text: string;
  try {
    text = readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw new FairwayError('cli.unreadable', `cannot read ${file}: ${(error as Error).message}`, ['badInput'], error);
  }
  const document = parseDocument(text);
  if (document.errors[0] !== undefined) return document.errors[0].message;
  try {
    parsePolicy(document.toJS());
    return null;
  } catch (error) {
    if (error instanceof FairwayError) return error.message;
    throw error;
  }
}
