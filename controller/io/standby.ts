/** Asks the other controller of a pair how it stands, for `pair.ts`: once at start, and every second from then on. */
import { z } from 'zod';
import type { Clock } from '../../contracts/clock.ts';
import type { Standing } from '../core/roles.ts';

const PROBE_MS = 1000;

/** What `GET /healthz` of a controller of a pair says of it. */
const healthSchema = z.object({
  role: z.enum(['primary', 'standby']).default('primary'),
  term: z
    .string()
    .regex(/^\d{1,20}$/)
    .default('0'),
});

/** How the controller at this HTTP address stands; undefined when it does not answer well. A controller that stands alone is in charge. */
export async function askPeer(url: string, signal: AbortSignal): Promise<Standing | undefined> {
  try {
    const response = await fetch(new URL('/healthz', url), { signal });
    const body: unknown = await response.json();
    if (!response.ok) return undefined;
    const { role, term } = healthSchema.parse(body);
    return { isInCharge: role === 'primary', term: BigInt.asUintN(64, BigInt(term)) };
  } catch {
    return undefined;
  }
}

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
    const answer = await askPeer(o.url, mine.signal);
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
