/**
 * Flow cookies, so that one mask finds or deletes everything of ours, one feature's flows or one migration's.
 * Layout, high to low: 0xFA1C (16 bits) · epoch (8) · feature (8) · object id (32). Flows without the prefix are not ours
 * and are never touched. `desired.ts` stamps them, `difference.ts` and the switch sessions select by them.
 */

const PREFIX = 0xfa1cn;
const EPOCH = 1n;

/** What a flow is for. */
export const FEATURE = {
  infrastructure: 1,
  forwarding: 2,
  source: 3,
  stream: 4,
  moved: 5,
  answer: 6,
  /** Of a port that is quenched: its frames but for LLDP; among them those nobody is known for; its LLDP. */
  quench: 7,
  quenchUnknown: 8,
  quenchLldp: 9,
  /** Of guests away from home. */
  away: 10,
} as const;
export type Feature = (typeof FEATURE)[keyof typeof FEATURE];

/** Cookie and mask that select every flow of ours, whatever its epoch. */
export const OURS = { cookie: PREFIX << 48n, mask: 0xffffn << 48n } as const;

/** Cookie of a flow; `objectId` is a migration's number, a quenched port's, of `away` the tunnel's key, or 0 (32 bits). */
export function cookieFor(feature: Feature, objectId = 0): bigint {
  return (PREFIX << 48n) | (EPOCH << 40n) | (BigInt(feature) << 32n) | BigInt(objectId >>> 0);
}

/** Feature and object of a cookie, or undefined when it is not ours. */
export function parseCookie(cookie: bigint): { feature: number; objectId: number } | undefined {
  if (cookie >> 48n !== PREFIX) return undefined;
  return { feature: Number((cookie >> 32n) & 0xffn), objectId: Number(cookie & 0xffffffffn) };
}
