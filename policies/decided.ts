/** The shape of every decision in this folder: what was decided, and why, in the order in which it was thought. */
import type { Reason } from '../contracts/common.ts';

export interface Decided<T> {
  value: T;
  reasons: Reason[];
}
