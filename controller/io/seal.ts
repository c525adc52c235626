/**
 * The key that signs the probes of link discovery (`controller/core/discovery.ts`), and the signing with it. The key is
 * made at each start, or read from a file where several controllers share a network; it is never shown.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { type Seal, TAG_BYTES } from '../core/packets.ts';
import { loadToken } from './token.ts';

/** A key of its own, or the one in `file`, which is kept like the token: mode 0600, made when absent. Throws as loadToken. */
export async function discoveryKey(file: string | undefined): Promise<Buffer> {
  return file === undefined ? randomBytes(32) : Buffer.from(await loadToken(file));
}

/** HMAC-SHA256 (RFC 2104) under `key`, cut to TAG_BYTES. */
export function makeSeal(key: Buffer): Seal {
  const sign = (data: Buffer) => createHmac('sha256', key).update(data).digest().subarray(0, TAG_BYTES);
  return {
    instance: randomBytes(8),
    sign,
    verify: (data, tag) => tag.length === TAG_BYTES && timingSafeEqual(sign(data), tag),
  };
}
