/**
 * Copy options that somebody asked for with a migration (`contracts/rest.ts`): whether policy and hypervisors allow them,
 * and with which techniques they go. Refused before a job exists; part of `jobs.ts`.
 */
import type { Abilities, CopyOptions } from '../../contracts/agent.ts';
import { FairwayError, type Technique } from '../../contracts/common.ts';
import { type CopyOrder, contradiction, lacking, namesOfOptions } from '../../contracts/copyOrder.ts';
import type { MigrateRequest } from '../../contracts/rest.ts';
import { effectivePolicy } from '../../policies/index.ts';
import type { ControllerState, Job } from './state.ts';

interface Refusal {
  code: 'OPTIONS_CONFLICT' | 'OPTIONS_UNSUPPORTED';
  text: string;
}

/** An agent that does not say what its hypervisor can do refuses by itself. */
const CONFLICTS_ANYWAY = { multifdPostcopy: true } as const;

/** Why a copy cannot be made like this between two hosts; undefined when it can, or when the agents must say. */
function refusalOf(state: ControllerState, hosts: readonly string[], order: CopyOrder): Refusal | undefined {
  for (const host of hosts) {
    const abilities: Abilities | null = state.agents.get(host)?.abilities ?? null;
    const conflict = contradiction(order, abilities ?? CONFLICTS_ANYWAY);
    if (conflict !== undefined) return { code: 'OPTIONS_CONFLICT', text: conflict };
    const lack = abilities === null ? undefined : lacking(order, abilities);
    if (lack !== undefined && abilities !== null)
      return { code: 'OPTIONS_UNSUPPORTED', text: `${abilities.hypervisor} on ${host}: ${lack}` };
  }
  return undefined;
}

/** Whether a copy of a job can be made like this at both ends. */
export function canCopy(state: ControllerState, job: Job, technique: Technique, mayTurnPostcopy: boolean): boolean {
  const options = job.asked.options ?? undefined;
  const order: CopyOrder = { technique, mayTurnPostcopy, ...(options === undefined ? {} : { options }) };
  return refusalOf(state, [job.from, job.to], order) === undefined;
}

/**
 * Checks the options of one move: the policy that holds for the guest must allow each, and there must be a technique (the
 * one asked for, if any) with which both hosts' hypervisors can do them.
 *
 * @throws FairwayError OPTIONS_NOT_ALLOWED or OPTIONS_UNSUPPORTED (conflict), OPTIONS_CONFLICT (badInput).
 */
export function checkOptions(
  state: ControllerState,
  move: { guest: string; from: string; to: string; labels: Readonly<Record<string, string>> },
  request: Pick<MigrateRequest, 'technique'> & { options: CopyOptions },
): void {
  const { options, technique } = request;
  const policy = effectivePolicy(state.policy, { guest: move.guest, labels: move.labels, host: move.from });
  const { allowed, allowedOptions } = policy.doc.technique;
  const forbidden = namesOfOptions(options).filter((name) => !allowedOptions.includes(name));
  if (forbidden.length > 0) {
    const by = policy.overrideOf('technique.allowedOptions');
    const list = `${by === undefined ? '' : `${by}.`}technique.allowedOptions`;
    throw new FairwayError(
      'OPTIONS_NOT_ALLOWED',
      `the policy does not allow ${forbidden.join(', ')} for ${move.guest}; add it to ${list} or leave it out`,
      ['conflict'],
    );
  }
  const techniques = technique === undefined ? allowed : [technique];
  const refusals = techniques.map((t) => refusalOf(state, [move.from, move.to], { technique: t, options }));
  const first = refusals[0];
  if (first === undefined || refusals.some((r) => r === undefined)) return;
  const label = first.code === 'OPTIONS_CONFLICT' ? 'badInput' : 'conflict';
  throw new FairwayError(first.code, `${move.guest} to ${move.to}: ${first.text}`, [label]);
}
