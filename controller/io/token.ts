/**
 * The token that agents, feed readers and the CLI present to `http.ts`. It lives in a file that only its owner may
 * read; the environment overrides the file.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { link, open, rm } from 'node:fs/promises';
import { FairwayError } from '../../contracts/common.ts';

const MIN_CHARS = 16;
const MAX_CHARS = 512;

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
