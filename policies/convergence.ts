/**
 * Whether a pre-copy that runs comes to an end: each pass should leave clearly less to send than the one before. The dirty
 * rate it was chosen for was measured for a second; what a guest does while it is copied, and what becomes of its slice, shows
 * only here. Neighbours: `technique.ts` decides before the copy, `controller/core/convergence.ts` asks here at every report.
 */
import type { Reason } from '../contracts/common.ts';
import { formatBytes } from '../contracts/units.ts';
import type { CompiledPolicy } from './document.ts';
import { type Followed, givenBy } from './givenBy.ts';

/** What is remembered of a copy between two reports of its progress. */
export interface ConvergenceWatch {
  /** The pass that runs, as the hypervisor counts. */
  pass: number;
  /** Most that was seen to be due in it beyond what the downtime limit allows to be left, bytes. */
  dueBytes: number;
  /** Passes in a row, up to the one before this, that did not pay. */
  unpaid: number;
}

/** A report of a pre-copy's progress. */
export interface PassSeen {
  passes: number;
  remainingBytes: number;
  /** Payload it may send now, and while the guest stands still, bit/s. */
  rateBps: number;
  switchoverBps: number;
}

/**
 * Takes in one report. The reason is there when the copy will not end by itself: `technique.unpaidPasses`, that many passes
 * in a row left more than `technique.convergenceRatio` of what the one before had to send; or `technique.manyPasses`, more
 * than `technique.precopyPasses` altogether. One pass that pays begins the count anew, and a pass that is about to end the
 * copy counts for nothing, so that a burst of writes changes nothing.
 */
export function watchPasses(
  before: ConvergenceWatch | null,
  seen: PassSeen,
  policy: CompiledPolicy,
): { watch: ConvergenceWatch; reason: Reason | null } {
  const { convergenceRatio, downtimeLimitMs, precopyPasses, unpaidPasses } = policy.doc.technique;
  const mayStayBytes = (downtimeLimitMs * seen.switchoverBps) / 8000;
  const dueBytes = Math.max(0, seen.remainingBytes - mayStayBytes);
  let watch: ConvergenceWatch;
  if (before === null || seen.passes < before.pass) watch = { pass: seen.passes, dueBytes, unpaid: 0 };
  else if (seen.passes === before.pass) watch = { ...before, dueBytes: Math.max(before.dueBytes, dueBytes) };
  else {
    const isUnpaid = dueBytes > convergenceRatio * before.dueBytes && dueBytes > mayStayBytes / 2;
    watch = { pass: seen.passes, dueBytes, unpaid: isUnpaid ? before.unpaid + 1 : 0 };
  }
  const inputs: Reason['inputs'] = {
    passes: seen.passes,
    remainingBytes: seen.remainingBytes,
    dueBytes: watch.dueBytes,
    unpaidPasses: watch.unpaid,
    rateBps: seen.rateBps,
    convergenceRatio,
  };
  const judged = (rule: string, text: string, followed: readonly Followed[]) => {
    const by = givenBy(policy, followed);
    const limit = by.text === '' ? '' : ` (${by.text})`;
    return { watch, reason: { rule, text: `${text}${limit}`, inputs: { ...inputs, ...by.inputs } } };
  };
  if (watch.unpaid >= unpaidPasses) {
    const text = `${watch.unpaid} passes in a row left more than ${convergenceRatio * 100} % of what the one before had to send, ${formatBytes(watch.dueBytes)} now`;
    return judged('technique.unpaidPasses', text, [
      { name: 'unpaidPasses', input: 'unpaidPassesBy', setting: 'technique.unpaidPasses' },
      { name: 'convergenceRatio', input: 'convergenceRatioBy', setting: 'technique.convergenceRatio' },
    ]);
  }
  if (seen.passes > precopyPasses) {
    const text = `${seen.passes} passes and still not done, at most ${precopyPasses}`;
    return judged('technique.manyPasses', text, [
      { name: 'precopyPasses', input: 'precopyPassesBy', setting: 'technique.precopyPasses' },
    ]);
  }
  return { watch, reason: null };
}
