/**
 * From an order to places: migrations are put on the board one after the other, each where it ends first beside those before
 * it. One whose destination has no room waits until somebody has left there. `search.ts` looks for the order.
 */
import type { Board, Placement, Way } from './board.ts';
import type { Job } from './model.ts';

export interface LaidOut {
  readonly placements: readonly Placement[];
  /** Those whose destination never has room for them. */
  readonly stuck: readonly Job[];
}

/**
 * Empties the board, of what came after `keep`, and lays out `order`; those whose index is in `fills` fill what others leave.
 * Gives up, with undefined, once `isHopeful` is false of a placement.
 */
export function layOut(
  board: Board,
  order: readonly Job[],
  fills: ReadonlySet<number>,
  isHopeful: (p: Placement) => boolean = () => true,
): LaidOut | undefined {
  board.reset();
  const placements: Placement[] = [];
  const waiting = new Map<number, Job[]>();
  const turn: Job[] = [];
  for (const first of order) {
    turn.push(first);
    for (let job = turn.pop(); job !== undefined; job = turn.pop()) {
      const ready = board.memoryReadyMs(job);
      const way: Way = fills.has(job.index) ? 'filling' : 'steady';
      const p = ready < 0 ? undefined : board.place(job, way, ready);
      if (p === undefined) {
        const list = waiting.get(job.toHost);
        if (list === undefined) waiting.set(job.toHost, [job]);
        else list.push(job);
        continue;
      }
      if (!isHopeful(p)) return undefined;
      board.put(p);
      placements.push(p);
      const woken = waiting.get(job.fromHost);
      if (woken !== undefined) {
        waiting.delete(job.fromHost);
        turn.push(...woken.reverse());
      }
    }
  }
  return { placements, stuck: [...waiting.values()].flat() };
}
