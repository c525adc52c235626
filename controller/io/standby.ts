/** Asks the other controller of a pair how it stands, for `pair.ts`, every second. */
import type { Clock } from '../../contracts/clock.ts';
import { askStanding } from '../../contracts/standing.ts';
import type { Standing } from '../../contracts/terms.ts';

const PROBE_MS = 1000;

export interface WatchOptions {
  /** HTTP address of the peer. */
  url: string;
  clock: Clock;
  /** Each answer, or undefined where none came in time. */
  onAnswer(peer: Standing | undefined): void;
}

/** Begins to watch; the returned function ends it. */
export function watchPeer(o: WatchOptions): () => void {
  let isOver = false;
  let asking: AbortController | undefined;
  const ask = async () => {
    // A question that is still open when the next is due counts as not answered.
    asking?.abort();
    const mine = new AbortController();
    asking = mine;
    const answer = await askStanding(o.url, mine.signal);
    if (asking === mine) asking = undefined;
    if (!isOver) o.onAnswer(answer);
  };
  const stop = o.clock.every(PROBE_MS, () => void ask());
  return () => {
    isOver = true;
    stop();
    asking?.abort();
  };
}
