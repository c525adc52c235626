/**
 * One controller in charge, another ready. Pure: the generation ids by which a switch tells the newest claim to be its master
 * from older ones, whoever makes them (OpenFlow 1.3.5 §6.3.6). `controller/io/switchSession.ts` asks switches with them.
 */

/**
 * `equal`: the only controller, or one of several that do not know of each other. `primary`: in charge of every switch that
 * lets it. `standby`: connected to all and changing nothing, until it is told to take over.
 */
export type ControllerRole = 'equal' | 'primary' | 'standby';

/** What a switch answers that no controller has given an id yet. */
const NONE = 0xffff_ffff_ffff_ffffn;

/** The id that wins over the one a switch knows. Ids go round: newer is what is less than half of them ahead. */
export const nextGeneration = (known: bigint): bigint => (known === NONE ? 1n : BigInt.asUintN(64, known + 1n));

/** The id with which to be somebody's slave: the one that is known, which claims nothing. */
export const sameGeneration = (known: bigint): bigint => (known === NONE ? 0n : known);
