/**
 * Whom an agent with several controllers obeys: the one in charge in the newest term that it knows of. A split of the network can
 * leave two that both think so; the agent, which may see both, asks all of them how they stand and turns to the newer one,
 * and what an older one orders is refused. Beside `agent.ts`, which keeps the session.
 */
import type { Clock } from '../../contracts/clock.ts';
import { askStanding } from '../../contracts/standing.ts';
import { isNewer, newest, type Standing, termOf } from '../../contracts/terms.ts';

/** How often the controllers are asked, and how long an answer is waited for: one may be cut off without a word. */
const ASK_MS = 2000;
const ANSWER_MS = 1500;

export interface ChargeOptions {
  /** WebSocket addresses, as configured. */
  controllers: readonly string[];
  clock: Clock;
  /** The controller that the agent is welcome at, and the term that this one named; undefined while there is none. */
  obeyed(): { controller: string; term: bigint } | undefined;
  /** Another controller is in charge in a newer term. */
  onNewer(controller: string, term: bigint): void;
}

export interface Charge {
  /** The newest term known; 0 before the first. */
  readonly term: bigint;
  /** Takes note of the term in a welcome. False: it is over, and this controller is not to be obeyed. */
  accepts(term: string | undefined): boolean;
  close(): void;
}

/** Begins to watch; a single controller is obeyed without questions. */
export function watchCharge(o: ChargeOptions): Charge {
  let known = 0n;
  let asking: AbortController | undefined;

  async function ask(): Promise<void> {
    asking?.abort();
    const mine = new AbortController();
    asking = mine;
    const cancel = o.clock.after(ANSWER_MS, () => mine.abort());
    const answers = await Promise.all(
      o.controllers.map(async (controller) => ({
        controller,
        standing: await askStanding(controller.replace(/^ws/, 'http'), mine.signal),
      })),
    );
    cancel();
    if (asking !== mine) return;
    asking = undefined;
    const obeyed = o.obeyed();
    if (obeyed === undefined) return;
    const leader = newestInCharge(answers);
    const own = answers.find((a) => a.controller === obeyed.controller)?.standing;
    const ownTerm = newest(obeyed.term, own?.term ?? 0n);
    // A welcome may be older than the term it was given in: one that has just begun is asked for it.
    if (own?.isInCharge) known = newest(known, own.term);
    if (leader === undefined || leader.controller === obeyed.controller || !isNewer(leader.term, ownTerm)) return;
    known = newest(known, leader.term);
    o.onNewer(leader.controller, leader.term);
  }

  const stop = o.controllers.length > 1 ? o.clock.every(ASK_MS, () => void ask()) : () => {};
  return {
    get term() {
      return known;
    },
    accepts(term) {
      const named = term === undefined ? 0n : termOf(term);
      if (isNewer(known, named)) return false;
      known = newest(known, named);
      return true;
    },
    close() {
      stop();
      asking?.abort();
      asking = undefined;
    },
  };
}

function newestInCharge(
  answers: readonly { controller: string; standing: Standing | undefined }[],
): { controller: string; term: bigint } | undefined {
  let best: { controller: string; term: bigint } | undefined;
  for (const { controller, standing } of answers) {
    if (!standing?.isInCharge) continue;
    if (best === undefined || isNewer(standing.term, best.term)) best = { controller, term: standing.term };
  }
  return best;
}
