/**
 * Tokens that expire: what one says of itself, readable without the key. `controller/io/token.ts` signs and checks them;
 * holders read the claims to warn before the end. Pure.
 *
 * `fw1.<claims>.<signature>`: claims are JSON, the signature is HMAC-SHA256 of `fw1.<claims>` with the controller's own
 * token as the key, both in base64url.
 */
import { z } from 'zod';
import { nameSchema } from './common.ts';

export const TOKEN_PREFIX = 'fw1.';
/** WebSocket close code of a connection whose token has expired; RFC 6455 leaves 4000–4999 to applications. */
export const TOKEN_EXPIRED_CLOSE = 4001;

export const tokenClaimsSchema = z.strictObject({
  /** When it was made, and until when it is good; ms since the epoch. */
  madeAtMs: z.number().int().nonnegative(),
  expiresAtMs: z.number().int().nonnegative(),
  /** Good for the agent of this host and for nothing else. */
  host: nameSchema.optional(),
});
export type TokenClaims = z.infer<typeof tokenClaimsSchema>;

/** Holders are warned this long before the end, and not before a fifth of the token's life is left. */
const WARN_MS = 3 * 86_400_000;
const WARN_SHARE = 0.2;

/** What a token says of itself; undefined for one that never expires, and for what is none. Nothing proves it here. */
export function claimsOf(token: string): TokenClaims | undefined {
  const [prefix, claims = '', signature, ...more] = token.split('.');
  if (`${prefix}.` !== TOKEN_PREFIX || signature === undefined || more.length > 0) return undefined;
  try {
    return tokenClaimsSchema.parse(JSON.parse(Buffer.from(claims, 'base64url').toString('utf8')));
  } catch {
    return undefined;
  }
}

/** From when on the holder of a token is warned, ms since the epoch. */
export const warnAtMs = ({ madeAtMs, expiresAtMs }: TokenClaims): number =>
  Math.round(expiresAtMs - Math.min(WARN_MS, Math.max(0, expiresAtMs - madeAtMs) * WARN_SHARE));

/** `2026-11-21T12:00:00Z`. */
export const formatInstant = (atMs: number): string => new Date(atMs).toISOString().replace(/\.\d+Z$/, 'Z');
