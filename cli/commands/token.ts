/** `fairway token`: makes tokens that expire with the controller's own, and says what a token is good for. */
import { randomBytes } from 'node:crypto';
import { renameSync, rmSync, writeFileSync } from 'node:fs';
import { FairwayError } from '../../contracts/common.ts';
import { claimsOf, formatInstant, TOKEN_PREFIX, tokenClaimsSchema } from '../../contracts/token.ts';
import { formatMs } from '../../contracts/units.ts';
import { signToken } from '../../controller/io/token.ts';
import { readToken } from '../connect.ts';
import { EXIT, type Terminal } from '../terminal.ts';

interface MakeOptions {
  for: number;
  host?: string;
  out?: string;
  tokenFile: string;
  json?: true;
}

export async function make(terminal: Terminal, o: MakeOptions): Promise<number> {
  const key = readToken(o.tokenFile, terminal.env);
  if (key.startsWith(TOKEN_PREFIX)) {
    const text = `${o.tokenFile} holds a token that was made itself: give the controller's own with --token-file or FAIRWAY_TOKEN`;
    throw new FairwayError('cli.token', text, ['badInput']);
  }
  const madeAtMs = Date.now();
  const wanted = { madeAtMs, expiresAtMs: madeAtMs + o.for, ...(o.host === undefined ? {} : { host: o.host }) };
  const claims = tokenClaimsSchema.safeParse(wanted);
  if (!claims.success) {
    const text = `--host ${o.host}: no name of a host: 1 to 63 letters, digits, "_", "." and "-"`;
    throw new FairwayError('cli.usage', text, ['badInput']);
  }
  const token = signToken(key, claims.data);
  const expiresAt = formatInstant(claims.data.expiresAtMs);
  const about = { ...(o.host === undefined ? {} : { host: o.host }), expiresAt };
  if (o.out !== undefined) put(o.out, `${token}\n`);
  const place = o.out === undefined ? { token } : { file: o.out };
  if (o.json) terminal.out(`${JSON.stringify({ ...place, ...about })}\n`);
  else if (o.out === undefined) {
    terminal.out(`${token}\n`);
    terminal.err(`good until ${expiresAt}${forWhom(o.host)}\n`);
  } else terminal.out(`${o.out}: good until ${expiresAt}${forWhom(o.host)}\n`);
  return EXIT.ok;
}

const forWhom = (host: string | undefined): string => (host === undefined ? '' : `, for the agent of ${host} only`);

/** In place of the file that is there, at once: an agent may read it at any time. */
function put(file: string, text: string): void {
  const aside = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    writeFileSync(aside, text, { mode: 0o600, flag: 'wx' });
    renameSync(aside, file);
  } catch (error) {
    rmSync(aside, { force: true });
    throw new FairwayError('cli.token', `${file} cannot be written: ${(error as Error).message}`, ['badInput'], error);
  }
}

export async function show(terminal: Terminal, o: { tokenFile: string; json?: true }): Promise<number> {
  const token = readToken(o.tokenFile, terminal.env);
  const claims = claimsOf(token);
  if (claims === undefined) {
    if (token.startsWith(TOKEN_PREFIX)) {
      throw new FairwayError('cli.token', `${o.tokenFile}: a damaged token: make another`, ['badInput']);
    }
    const text = "a controller's own token: good for everything, until it is changed there\n";
    terminal.out(o.json ? `${JSON.stringify({ host: null, expiresAt: null, expired: false })}\n` : text);
    return EXIT.ok;
  }
  const { host, expiresAtMs } = claims;
  const leftMs = expiresAtMs - Date.now();
  const expiresAt = formatInstant(expiresAtMs);
  const when = leftMs > 0 ? `good until ${expiresAt}, ${formatLeft(leftMs)} to go` : `expired at ${expiresAt}`;
  if (o.json) terminal.out(`${JSON.stringify({ host: host ?? null, expiresAt, expired: leftMs <= 0 })}\n`);
  else terminal.out(`${when}${forWhom(host)} (by what it says; whether it is genuine only the controller knows)\n`);
  return leftMs > 0 ? EXIT.ok : EXIT.failed;
}

const DAY_MS = 86_400_000;
const formatLeft = (ms: number): string => (ms >= 2 * DAY_MS ? `${Math.floor(ms / DAY_MS)} days` : formatMs(ms));
