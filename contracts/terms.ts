/**
 * Terms of a pair of controllers: the number by which everyone tells the newest claim to be in charge from older ones. A term is
 * the time that one controller is in charge; its number is the generation id at every switch (OpenFlow 1.3.5 §6.3.6), and
 * agents obey nobody of an older one. `controller/core/roles.ts` decides with it; `agent/io/charge.ts` whom to obey.
 */
import { z } from 'zod';

/** What a switch answers that no controller has given an id yet. */
export const NO_TERM = 0xffff_ffff_ffff_ffffn;

/** The id with which to be somebody's slave: the one that is known, which claims nothing. */
export const sameGeneration = (known: bigint): bigint => (known === NO_TERM ? 0n : known);

/**
 * Whether a term wins over another; the one that stands for none wins over nothing. Numbers go round: newer is what is less
 * than half of them ahead.
 */
export const isNewer = (id: bigint, than: bigint): boolean =>
  BigInt.asIntN(64, sameGeneration(id) - sameGeneration(than)) > 0n;

/** The newer of two. */
export const newest = (a: bigint, b: bigint): bigint => (isNewer(b, a) ? sameGeneration(b) : sameGeneration(a));

/** A term as it is written in messages, since JSON's numbers are too short for it. */
export const termTextSchema = z.string().regex(/^\d{1,20}$/);
export const termOf = (text: string): bigint => BigInt.asUintN(64, BigInt(text));

/** How a controller stands; one that stands alone is in charge, in term 0. */
export interface Standing {
  isInCharge: boolean;
  term: bigint;
}
