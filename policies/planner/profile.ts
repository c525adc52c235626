/**
 * A quantity over time, constant between times: how much of a link is used, how full a host is. Times are whole
 * milliseconds, so that they compare exactly. The planner's innermost data structure: two sorted arrays.
 */
export class Profile {
  /** Where a new value begins; the first is 0, the last value holds for ever. */
  readonly times: number[];
  readonly values: number[];

  constructor(value = 0) {
    this.times = [0];
    this.values = [value];
  }

  /** Makes this one equal to `other`. */
  copyFrom(other: Profile): void {
    const n = other.times.length;
    for (let i = 0; i < n; i++) {
      this.times[i] = other.times[i] as number;
      this.values[i] = other.values[i] as number;
    }
    this.times.length = n;
    this.values.length = n;
  }

  /** Index of the value that holds at `t`. */
  indexAt(t: number): number {
    const { times } = this;
    let low = 0;
    let high = times.length - 1;
    while (low < high) {
      const mid = (low + high + 1) >> 1;
      if ((times[mid] as number) <= t) low = mid;
      else high = mid - 1;
    }
    return low;
  }

  at(t: number): number {
    return this.values[this.indexAt(t)] as number;
  }

  /** Adds `amount` from `from` until `to` (exclusive; Infinity for ever). */
  add(from: number, to: number, amount: number): void {
    if (to <= from || amount === 0) return;
    const first = this.cutAt(from);
    const last = to === Number.POSITIVE_INFINITY ? this.times.length : this.cutAt(to);
    for (let i = first; i < last; i++) this.values[i] = (this.values[i] as number) + amount;
  }

  /** Makes `t` one of the times and gives its index. */
  private cutAt(t: number): number {
    const i = this.indexAt(t);
    if (this.times[i] === t) return i;
    this.times.splice(i + 1, 0, t);
    this.values.splice(i + 1, 0, this.values[i] as number);
    return i + 1;
  }

  /** The earliest time from `from` on at which the value stays at or below `limit` for `length`; -1 when never. */
  earliestFit(from: number, length: number, limit: number): number {
    const { times, values } = this;
    const n = times.length;
    let start = from;
    for (let i = this.indexAt(from); i < n; i++) {
      if ((times[i] as number) >= start + length) return start;
      if ((values[i] as number) > limit) {
        if (i + 1 === n) return -1;
        start = Math.max(from, times[i + 1] as number);
      }
    }
    return start;
  }

  /** Since when, until `t`, the value has been at or below `limit`; `t` when it was above just before. */
  freeSince(t: number, limit: number): number {
    const { times, values } = this;
    let i = this.indexAt(t);
    if (times[i] === t) i--;
    for (; i >= 0; i--) if ((values[i] as number) > limit) return Math.min(t, times[i + 1] ?? t);
    return 0;
  }

  /** The earliest time from which the value stays at or below `limit` for ever; -1 when never. */
  earliestForEver(limit: number): number {
    const { times, values } = this;
    for (let i = times.length - 1; i >= 0; i--) {
      if ((values[i] as number) > limit) return i === times.length - 1 ? -1 : (times[i + 1] as number);
    }
    return 0;
  }

  /** The highest value from `from` until `to` (exclusive). */
  highest(from: number, to: number): number {
    let most = Number.NEGATIVE_INFINITY;
    for (let i = this.indexAt(from); i < this.times.length && (this.times[i] as number) < to; i++) {
      most = Math.max(most, this.values[i] as number);
    }
    return most;
  }
}
