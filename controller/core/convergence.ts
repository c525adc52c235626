/**
 * A pre-copy that goes round and round is moved to a technique that ends, once: on as post-copy where both hosts can, else,
 * where the policy allows stop-and-copy, with as much downtime as the rest takes. What an operator asked for is left alone.
 * Part of `step.ts`; the judgement is `policies/convergence.ts`.
 */
import type { Reason } from '../../contracts/common.ts';
import { formatMs } from '../../contracts/units.ts';
import { watchPasses } from '../../policies/index.ts';
import { payloadBps, policyOf, switchoverPayloadBps } from './reserve.ts';
import type { Job } from './state.ts';
import type { Turn } from './turn.ts';

/** What is dirty changes while the order is under way: so much more than was seen is allowed for. */
const STOP_MARGIN = 1.5;
const MOST_DOWNTIME_MS = 600_000;

/** Looks at a job whose progress has just been noted. */
export function watchConvergence(t: Turn, job: Job): void {
  const { progress, state, cancelling } = job;
  const isTurned = job.technique !== 'pre-copy';
  if (!progress || isTurned || state !== 'copying' || cancelling || progress.phase !== 'pre-copy') return;
  const policy = policyOf(t.state, job);
  const seen = {
    passes: progress.passes,
    remainingBytes: progress.remainingBytes,
    rateBps: payloadBps(job.sliceBps),
    switchoverBps: switchoverPayloadBps(t, job),
  };
  const { watch, reason } = watchPasses(job.watch ?? null, seen, policy);
  t.setJob(job.id, { watch });
  if (reason === null || job.asked.technique !== null) return;
  const turned = (rule: string, then: string, inputs: Reason['inputs'] = {}): Reason => ({
    rule: `technique.${rule}`,
    text: `${reason.text}: ${then}`,
    inputs: { ...reason.inputs, because: reason.rule, predictedDirtyBytesPerS: job.dirtyBytesPerS, ...inputs },
  });
  if (job.mayTurnPostcopy) {
    t.setJob(job.id, { mayTurnPostcopy: false, technique: 'hybrid' });
    t.decide('technique', job.id, [turned('turnedPostcopy', 'it goes on as post-copy')]);
    t.command(job.from, job.id, { do: 'switchToPostcopy', migration: job.id });
  } else if (policy.doc.technique.allowed.includes('stop-and-copy')) {
    const restMs = (STOP_MARGIN * progress.remainingBytes * 8000) / Math.max(1, seen.switchoverBps);
    const downtimeLimitMs = Math.min(MOST_DOWNTIME_MS, Math.ceil(restMs) + policy.doc.technique.downtimeLimitMs);
    t.setJob(job.id, { technique: 'stop-and-copy' });
    const text = `the guest is stopped for the rest, up to ${formatMs(downtimeLimitMs)}`;
    t.decide('technique', job.id, [turned('turnedStopAndCopy', text, { downtimeLimitMs })]);
    t.command(job.from, job.id, { do: 'setDowntimeLimit', migration: job.id, downtimeLimitMs });
  }
}
