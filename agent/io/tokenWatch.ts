/**
 * The agent's side of tokens: what it says when a controller refuses its token, and the warning before that expires. Part of
 * `agent.ts`, which presents it; `contracts/token.ts` reads what is in it.
 */
import type { IncomingMessage } from 'node:http';
import { type Clock, callAt } from '../../contracts/clock.ts';
import type { Log } from '../../contracts/log.ts';
import { claimsOf, formatInstant, warnAtMs } from '../../contracts/token.ts';

const MAX_BODY_CHARS = 64_000;

/** What an HTTP answer says that refuses an upgrade: as the contract has it, else its status. */
export async function readRefusal(response: IncomingMessage): Promise<{ code: string; message: string }> {
  let text = '';
  try {
    for await (const piece of response) {
      text += String(piece);
      if (text.length > MAX_BODY_CHARS) break;
    }
    const { error } = JSON.parse(text) as { error: { code: unknown; message: unknown } };
    return { code: String(error.code), message: String(error.message) };
  } catch {
    return { code: '', message: `Unexpected server response: ${response.statusCode}` };
  }
}

export const isTokenRefusal = (status: number | undefined): boolean => status === 401 || status === 403;

/** A reason to act on, whichever controller it was. */
export function tokenReason(controller: string, code: string, message: string, tokenFile: string): string {
  const where = `Put it into ${tokenFile} (or FAIRWAY_TOKEN); it is read again at each attempt`;
  if (code.startsWith('TOKEN_')) return `${controller} does not take this agent's token: ${message}. ${where}`;
  return `${controller} does not take this agent's token: it is wrong, or was changed there. Take the content of the controller's token file, or what \`fairway token make\` made with it. ${where}`;
}

/**
 * Warns before the presented token expires, unless another is there to take its place by then. The returned function ends it.
 */
export function watchExpiry(o: {
  presented: string;
  /** The token as it is now. */
  latest: () => string;
  tokenFile: string;
  clock: Clock;
  log: Log;
}): () => void {
  const claims = claimsOf(o.presented);
  if (claims === undefined) return () => {};
  return callAt(o.clock, warnAtMs(claims), () => {
    const next = o.latest();
    const goodUntilMs = next === o.presented ? claims.expiresAtMs : claimsOf(next)?.expiresAtMs;
    if (goodUntilMs === undefined || goodUntilMs > claims.expiresAtMs) return;
    const reason = `make another with \`fairway token make\` where the controller's token file is, and put it into ${o.tokenFile}: it is taken up by itself`;
    o.log('warn', 'token-expires-soon', { expiresAt: formatInstant(claims.expiresAtMs), reason });
  });
}
