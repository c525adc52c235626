/**
 * One controller in charge, another ready. Pure: the generation ids by which a switch tells the newest claim to be its master
 * from older ones, whoever makes them (OpenFlow 1.3.5 §6.3.6), and when a controller of a pair takes over or steps down.
 * `controller/io/switchSession.ts` asks switches with the ids, `controller/io/pair.ts` does what `verdict` says.
 *
 * A term is the time that one controller of the pair is in charge; its number is the generation id at every switch. It grows by
 * one with each takeover, is kept in the journal, and is never raised to get a switch back.
 */
import { isNewer, NO_TERM, type Standing } from '../../contracts/terms.ts';

/**
 * `equal`: the only controller, or one of several that do not know of each other. `primary`: in charge of every switch that
 * lets it. `standby`: connected to all and changing nothing, until it is told to take over.
 */
export type ControllerRole = 'equal' | 'primary' | 'standby';

/** Code of the error that tells a controller that another is the switch's master. OpenFlow 1.3.5 §6.3.6. */
export const IS_SLAVE = 'OFPBRC_IS_SLAVE';

/** The id that wins over the one a switch knows. Ids go round: newer is what is less than half of them ahead. */
export const nextGeneration = (known: bigint): bigint => (known === NO_TERM ? 1n : BigInt.asUintN(64, known + 1n));

/** Questions in a row without a controller in charge that make a standby take over. */
const PROBES_MISSED = 5;
/** The same where both stand by: the one that is configured as primary goes first. */
const PROBES_MISSED_SECOND = 10;

/** Whether the other's answer (undefined: none came) is one more of those after which a standby takes over. */
export const isMissed = (me: Standing, peer: Standing | undefined): boolean =>
  peer === undefined || (!peer.isInCharge && !isNewer(peer.term, me.term));

/** What a controller does upon its peer's answer; `missed`: answers in a row, this one too, for which `isMissed`. */
export function verdict(
  me: Standing & { configured: 'primary' | 'standby' },
  peer: Standing | undefined,
  missed: number,
): 'goOn' | 'takeOver' | 'stepDown' {
  if (me.isInCharge) {
    if (peer === undefined) return 'goOn';
    const isOver = isNewer(peer.term, me.term);
    const isSecond = peer.isInCharge && peer.term === me.term && me.configured === 'standby';
    return isOver || isSecond ? 'stepDown' : 'goOn';
  }
  const limit = peer === undefined || me.configured === 'primary' ? PROBES_MISSED : PROBES_MISSED_SECOND;
  return missed >= limit ? 'takeOver' : 'goOn';
}
