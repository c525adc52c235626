/**
 * Where the policy document in force is kept, and how an edit reaches it. `memory.ts`, `file.ts` and `redis.ts` keep it
 * in three places with the same promise: an edit is taken whole or refused with a reason, and while an edit is refused
 * or the place cannot be reached the last good document stays in force.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../../contracts/clock.ts';
import { FairwayError } from '../../../contracts/common.ts';
import type { Log } from '../../../contracts/log.ts';
import { DEFAULT_POLICY, type PolicyDocument, type PolicyStatus } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import { applyPolicyPatch, flattenPolicy, parsePolicy, unflattenPolicy } from '../../../policies/document.ts';

/**
 * How documents are checked and spelled. Functions that check throw FairwayError (bad input) whose message begins with
 * the dotted path of the field at fault.
 */
export interface PolicyCodec {
  parse(value: unknown): PolicyDocument;
  patch(doc: PolicyDocument, fields: PolicyPatch): PolicyDocument;
  /** Every field as text by dotted path. */
  flatten(doc: PolicyDocument): Record<string, string>;
  unflatten(flat: Record<string, string>): PolicyDocument;
}

/** The codec of `policies/`. */
export const policyCodec: PolicyCodec = {
  parse: (value) => parsePolicy(value).doc,
  patch: applyPolicyPatch,
  flatten: flattenPolicy,
  unflatten: unflattenPolicy,
};

export type OnPolicyChange = (doc: PolicyDocument, status: PolicyStatus) => void;
export type OnPolicyRefused = (status: PolicyStatus) => void;

/** A place that keeps the policy. */
export interface PolicyStore {
  /** memory, file or redis. */
  readonly kind: string;
  /** False while the place cannot be reached; the last good document is in force all the same. */
  readonly connected: boolean;
  /**
   * Reads what is kept (writing the defaults where there is nothing) and watches it from then on. `onChange` is called
   * for every later change of the document or of its status to accepted, those by `patch` included; `onRefused` for an
   * edit that was refused. The status answered may itself be a refusal: then the document is the last good one.
   */
  start(onChange: OnPolicyChange, onRefused: OnPolicyRefused): Promise<{ doc: PolicyDocument; status: PolicyStatus }>;
  /**
   * Changes some fields, all or none. Throws FairwayError: bad input that names the field, `POLICY_STORE_AWAY`
   * (retryable; with outcomeUnknown when the connection broke meanwhile), `POLICY_CONFLICT` (conflict).
   */
  patch(fields: PolicyPatch): Promise<PolicyStatus>;
  close(): Promise<void>;
}

/** The document in force with its status, and who must be told: what all stores have in common. */
export class PolicyInForce {
  doc: PolicyDocument = DEFAULT_POLICY;
  status: PolicyStatus;
  readonly #clock: Clock;
  readonly #log: Log;
  #onChange: OnPolicyChange | undefined;
  #onRefused: OnPolicyRefused | undefined;

  constructor(clock: Clock, log: Log) {
    this.#clock = clock;
    this.#log = log;
    this.status = { state: 'accepted', revision: 0, reason: '', atMs: clock.now() };
  }

  /** From now on changes are told. */
  watch(onChange: OnPolicyChange, onRefused: OnPolicyRefused): void {
    this.#onChange = onChange;
    this.#onRefused = onRefused;
  }

  /** Starts from what an earlier run left: the document and the revision it had. */
  restore(doc: PolicyDocument, revision: number): void {
    const isSame = isDeepStrictEqual(doc, this.doc);
    this.doc = doc;
    this.status = { state: 'accepted', revision, reason: '', atMs: this.#clock.now() };
    if (!isSame) this.#tell(() => this.#onChange?.(this.doc, this.status));
  }

  /** Puts a checked document in force. The revision grows only when it differs from the one in force. */
  accept(doc: PolicyDocument): void {
    const isSame = isDeepStrictEqual(doc, this.doc);
    if (isSame && this.status.state === 'accepted' && this.status.revision > 0) return;
    this.doc = doc;
    const grows = !isSame || this.status.revision === 0;
    this.status = {
      state: 'accepted',
      revision: this.status.revision + (grows ? 1 : 0),
      reason: '',
      atMs: this.#clock.now(),
    };
    this.#tell(() => this.#onChange?.(this.doc, this.status));
  }

  /** Refuses an edit; the document in force stays. The same refusal again is not told again. */
  refuse(reason: string): void {
    if (this.status.state === 'refused' && this.status.reason === reason) return;
    this.status = { state: 'refused', revision: this.status.revision, reason, atMs: this.#clock.now() };
    this.#tell(() => this.#onRefused?.(this.status));
  }

  /** A fault in who listens is not taken for one of the place where the policy is kept. */
  #tell(listener: () => void): void {
    try {
      listener();
    } catch (e) {
      this.#log('error', 'policy.listener-failed', { revision: this.status.revision, error: e });
    }
  }
}

/** The dotted path a refusal begins with, or '' where it names none. */
export function fieldOf(reason: string): string {
  return /^([A-Za-z][\w-]*(?:\.[\w:-]+)*): /.exec(reason)?.[1] ?? '';
}

/** Why a document was refused, for its editor. Errors that are no refusal are thrown on. */
export function refusalText(e: unknown): string {
  if (e instanceof FairwayError && e.has('badInput')) return e.message;
  throw e;
}

/** Runs pieces of work one after the other; a failed one does not stop the next. */
export class WorkQueue {
  #tail: Promise<unknown> = Promise.resolve();
  /** How many pieces are waiting or running. */
  length = 0;

  run<T>(work: () => Promise<T>): Promise<T> {
    this.length++;
    const done = this.#tail.then(work, work).finally(() => {
      this.length--;
    });
    this.#tail = done.catch(() => {
      // Told to whoever asked for this piece.
    });
    return done;
  }

  /** Resolves when all that was asked for so far is done. */
  async idle(): Promise<void> {
    await this.#tail;
  }
}
