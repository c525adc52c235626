/**
 * Who wanted to be served as a switch lately and was not, and why: for operators who look for a switch that is missing.
 * `switches.ts` notes them and shows them with the sessions.
 */
import type { RefusedSwitchView } from '../../contracts/feed.ts';

/** Strangers may be refused as often as they like; so many are remembered, the latest. */
const MOST = 100;
/** Whoever has not come again for so long has given up, or was let in: switches try at least every half minute. */
const KEPT_MS = 120_000;

export class RefusedSwitches {
  /** By sender and reason, the latest last. */
  readonly #refused = new Map<string, RefusedSwitchView>();
  #told: ReadonlySet<string> = new Set();

  /** `from`: the address without its port, which is another at each try. */
  note(from: string, dpid: string | null, why: string, nowMs: number): void {
    const key = `${from} ${dpid} ${why}`;
    const before = this.#refused.get(key);
    this.#refused.delete(key);
    const { times, sinceMs } = before ?? { times: 0, sinceMs: nowMs };
    this.#refused.set(key, { from, dpid, why, times: times + 1, sinceMs, lastMs: nowMs });
    for (const oldest of this.#refused.keys()) {
      if (this.#refused.size <= MOST) break;
      this.#refused.delete(oldest);
    }
  }

  /** Whether others are on the list, or for other reasons, than when this was last asked. More tries of the same are no news. */
  hasNews(nowMs: number): boolean {
    const told = this.#told;
    this.#told = new Set(this.list(nowMs).map((r) => `${r.from} ${r.dpid} ${r.why}`));
    return told.size !== this.#told.size || [...this.#told].some((key) => !told.has(key));
  }

  /** The latest first. */
  list(nowMs: number): RefusedSwitchView[] {
    return [...this.#refused.values()].filter((r) => nowMs - r.lastMs < KEPT_MS).reverse();
  }
}
