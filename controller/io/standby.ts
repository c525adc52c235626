/** Watches the controller that is in charge, for one that stands by. `server.ts` has `switches.ts` take over when it is gone. */
import type { Clock } from '../../contracts/clock.ts';
import type { Log } from '../../contracts/log.ts';

const PROBE_MS = 1000;
const PROBES_MISSED = 5;

export interface WatchOptions {
  /** HTTP address of the primary; its `/healthz` is asked. */
  url: string;
  clock: Clock;
  log: Log;
  /** Called once, when so many answers in a row did not come. */
  onGone(): void;
}

/** Begins to watch; the returned function ends it. */
export function watchPrimary(o: WatchOptions): () => void {
  const health = new URL('/healthz', o.url);
  let missed = 0;
  let isOver = false;
  let asking: AbortController | undefined;
  const ask = async () => {
    // A question that is still open when the next is due counts as missed.
    asking?.abort();
    const mine = new AbortController();
    asking = mine;
    const isThere = await fetch(health, { signal: mine.signal }).then(
      async (r) => {
        await r.arrayBuffer();
        return r.ok;
      },
      () => false,
    );
    if (asking === mine) asking = undefined;
    if (isOver) return;
    missed = isThere ? 0 : missed + 1;
    if (missed < PROBES_MISSED) return;
    end();
    o.log('warn', 'controller.primaryGone', { primary: o.url, missed });
    o.onGone();
  };
  const stop = o.clock.every(PROBE_MS, () => void ask());
  const end = () => {
    isOver = true;
    stop();
    asking?.abort();
  };
  return end;
}
