/**
 * The token that agents, feed readers and the CLI present to `http.ts`. It lives in a file that only its owner may
 * read; the environment overrides the file. It is the key, too, that tokens are signed with which expire
 * (`contracts/token.ts`): they need not be kept anywhere, and another key ends them all.
 */
import { createHash, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { link, open, rm } from 'node:fs/promises';
import { FairwayError } from '../../contracts/common.ts';
import { claimsOf, formatInstant, TOKEN_PREFIX, type TokenClaims } from '../../contracts/token.ts';

const MIN_CHARS = 16;
const MAX_CHARS = 512;
/** Whoever holds a signed token may try keys at leisure: short ones could be found. */
const MIN_KEY_CHARS = 24;

/**
 * The token to use: `env` (the value of FAIRWAY_TOKEN) where it is set, else the content of `file`, which is made with
 * a random token and mode 0600 when it does not exist. Two processes that start at once end up with the same token.
 * Throws FairwayError `TOKEN_BAD` or `TOKEN_FILE` (bad input) that names the cure.
 */
export async function loadToken(file: string, env?: string): Promise<string> {
  if (env !== undefined && env.trim() !== '') return checked(env.trim(), 'FAIRWAY_TOKEN');
  const there = await readToken(file);
  if (there !== undefined) return there;
  const fresh = randomBytes(24).toString('base64url');
  // Written aside and then linked: `file` appears complete or not at all, and never replaces one that appeared meanwhile.
  const aside = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    const h = await open(aside, 'wx', 0o600);
    try {
      await h.writeFile(`${fresh}\n`);
      await h.sync();
    } finally {
      await h.close();
    }
    await link(aside, file);
    return fresh;
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'EEXIST') {
      const other = await readToken(file);
      if (other !== undefined) return other;
    }
    throw fileError(file, e);
  } finally {
    await rm(aside, { force: true });
  }
}

async function readToken(file: string): Promise<string | undefined> {
  let h: Awaited<ReturnType<typeof open>>;
  try {
    h = await open(file, 'r');
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fileError(file, e);
  }
  try {
    const stat = await h.stat();
    if (!stat.isFile()) {
      throw new FairwayError('TOKEN_FILE', `token file ${file} is not a regular file`, ['badInput']);
    }
    if ((stat.mode & 0o077) !== 0) {
      const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
      throw new FairwayError(
        'TOKEN_FILE',
        `token file ${file} has mode ${mode}, others could read or change it: run chmod 600 ${file}`,
        ['badInput'],
      );
    }
    const buffer = Buffer.alloc(MAX_CHARS + 64);
    const { bytesRead } = await h.read(buffer, 0, buffer.length, 0);
    return checked(buffer.toString('utf8', 0, bytesRead).trim(), `token file ${file}`);
  } finally {
    await h.close();
  }
}

function checked(token: string, where: string): string {
  if (token.length < MIN_CHARS || token.length > MAX_CHARS || !/^[\x21-\x7e]+$/.test(token)) {
    throw new FairwayError(
      'TOKEN_BAD',
      `${where} must hold ${MIN_CHARS}-${MAX_CHARS} printable characters without spaces; delete it to have one made`,
      ['badInput'],
    );
  }
  if (token.startsWith(TOKEN_PREFIX)) {
    throw new FairwayError(
      'TOKEN_BAD',
      `${where} holds a token that was made with \`fairway token make\`; the controller needs the one it is made with: ` +
        'put that back, or delete the file to have a new one made',
      ['badInput'],
    );
  }
  return token;
}

function fileError(file: string, e: unknown): FairwayError {
  return new FairwayError('TOKEN_FILE', `token file ${file}: ${(e as Error).message}`, ['badInput'], e);
}

/** Whether a presented token is the right one, in a time that does not depend on where they differ. */
export function isSameToken(presented: string, expected: string): boolean {
  const digest = (s: string) => createHash('sha256').update(s).digest();
  return timingSafeEqual(digest(presented), digest(expected));
}

const signatureOf = (key: string, body: string): string => createHmac('sha256', key).update(body).digest('base64url');

/**
 * A token that expires, for whoever shall not have the controller's own.
 *
 * @param key the controller's token
 * @throws FairwayError `TOKEN_WEAK` (badInput) for a key that could be guessed.
 */
export function signToken(key: string, claims: TokenClaims): string {
  if (key.length < MIN_KEY_CHARS) {
    throw new FairwayError(
      'TOKEN_WEAK',
      `the controller's token has ${key.length} characters, and needs ${MIN_KEY_CHARS} to sign others with: delete its file and ` +
        'restart the controller to have one made',
      ['badInput'],
    );
  }
  const body = `${TOKEN_PREFIX}${Buffer.from(JSON.stringify(claims)).toString('base64url')}`;
  return `${body}.${signatureOf(key, body)}`;
}

/** What a token may do that was let in: `claims` undefined: everything, for ever. */
export type TokenCheck =
  | { isGood: true; claims?: TokenClaims }
  | { isGood: false; code: 'UNAUTHORIZED' | 'TOKEN_EXPIRED'; text: string };

/** Whether a presented token is the controller's own, or was made with it and is good still. */
export function checkToken(presented: string, key: string, nowMs: number): TokenCheck {
  if (isSameToken(presented, key)) return { isGood: true };
  const claims = claimsOf(presented);
  const bad = (code: 'UNAUTHORIZED' | 'TOKEN_EXPIRED', text: string): TokenCheck => ({ isGood: false, code, text });
  if (claims === undefined) {
    return bad('UNAUTHORIZED', 'present the token: Authorization: Bearer <content of the token file>');
  }
  const body = presented.slice(0, presented.lastIndexOf('.'));
  if (!isSameToken(presented, `${body}.${signatureOf(key, body)}`)) {
    const text =
      "the token was not made with this controller's, or that was changed since: make another with `fairway token make`";
    return bad('UNAUTHORIZED', text);
  }
  if (nowMs < claims.expiresAtMs) return { isGood: true, claims };
  const text =
    `the token expired at ${formatInstant(claims.expiresAtMs)}, and it is ${formatInstant(nowMs)}: make another with ` +
    "`fairway token make` where the controller's token file is, and put it in the old one's place";
  return bad('TOKEN_EXPIRED', text);
}
