/**
 * Where the policy document in force is kept, and how an edit reaches it. `memory.ts`, `file.ts` and `redis.ts` keep it
 * in three places with the same promise: an edit is taken whole or refused with a reason, and while an edit is refused
 * or the place cannot be reached the last good document stays in force.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../../contracts/clock.ts';
import { FairwayError } from '../../../contracts/common.ts';
import type { Log } from '../../../contracts/log.ts';
import {
  DEFAULT_POLICY,
  type PolicyChange,
  type PolicyDocument,
  type PolicyEdit,
  type PolicyStatus,
} from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import { parsePolicy } from '../../../policies/document.ts';
import { applyPolicyPatch, flattenPolicy, unflattenPolicy } from '../../../policies/documentEdits.ts';

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
   * (retryable; with outcomeUnknown when the connection broke meanwhile), `POLICY_CONFLICT` (conflict). `author` is kept
   * with the edit in the history.
   */
  patch(fields: PolicyPatch, author?: string): Promise<PolicyStatus>;
  /** The last edits, accepted and refused, the newest first. They outlive the controller where the place does. */
  history(): readonly PolicyEdit[];
  close(): Promise<void>;
}

/** How many edits are kept. */
export const HISTORY_LENGTH = 100;
const MAX_CHANGES = 50;
const MAX_TEXT = 200;
const MAX_AUTHOR = 100;
const MAX_REASON = 5 * MAX_TEXT;

/** Who made an edit, and where. */
export type EditOrigin = Pick<PolicyEdit, 'author' | 'via'>;

/** What differs between two sets of flat fields, by path. */
export function changesBetween(before: Flat, after: Flat): PolicyChange[] {
  const of = (flat: Flat, path: string) => (Object.hasOwn(flat, path) ? (flat[path] as string) : null);
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .map((path) => ({ path, before: of(before, path), after: of(after, path) }))
    .filter((c) => c.before !== c.after)
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** The patch that turns a document into another one; undefined where that is none. */
export function policyDifference(from: PolicyDocument, to: unknown): PolicyPatch | undefined {
  try {
    const after = policyCodec.flatten(policyCodec.parse(to));
    return Object.fromEntries(changesBetween(policyCodec.flatten(from), after).map((c) => [c.path, c.after]));
  } catch {
    return undefined;
  }
}

/** What a patch would change. */
export function changesOf(before: Flat, fields: PolicyPatch): PolicyChange[] {
  return Object.entries(fields).map(([path, value]) => ({
    path,
    before: Object.hasOwn(before, path) ? (before[path] as string) : null,
    after: value === null ? null : String(value),
  }));
}

/** For lists and screens: no longer than that, and without control characters. */
function cut(text: string, most = MAX_TEXT): string {
  const short = text.length > most ? `${text.slice(0, most)}…` : text;
  return short.replace(/[\x00-\x1f\x7f-\x9f]/g, ' ').trim();
}
const cutOrNull = (text: string | null): string | null => (text === null ? null : cut(text));

/** Fields of a document as text, by dotted path. */
export type Flat = Record<string, string>;

/** The document in force with its status, its history and who must be told: what all stores have in common. */
export class PolicyInForce {
  doc: PolicyDocument = DEFAULT_POLICY;
  status: PolicyStatus;
  /** The newest first. */
  history: readonly PolicyEdit[] = [];
  readonly #flatten: PolicyCodec['flatten'];
  readonly #clock: Clock;
  readonly #log: Log;
  #onChange: OnPolicyChange | undefined;
  #onRefused: OnPolicyRefused | undefined;

  constructor(codec: PolicyCodec, clock: Clock, log: Log) {
    this.#flatten = codec.flatten;
    this.#clock = clock;
    this.#log = log;
    this.status = { state: 'accepted', revision: 0, reason: '', atMs: this.#nowMs() };
  }

  /** Whole milliseconds: people read them, and other programs may take them for integers. */
  #nowMs(): number {
    return Math.round(this.#clock.now());
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
    this.status = { state: 'accepted', revision, reason: '', atMs: this.#nowMs() };
    if (!isSame) this.#tell(() => this.#onChange?.(this.doc, this.status));
  }

  /**
   * Puts a checked document in force. The revision grows only when it differs from the one in force. The answer is the
   * edit that is now in the history, if it was one; `edit` is taken where it was made before.
   */
  accept(doc: PolicyDocument, origin: EditOrigin, edit?: PolicyEdit): PolicyEdit | undefined {
    const isSame = isDeepStrictEqual(doc, this.doc);
    if (isSame && this.status.state === 'accepted' && this.status.revision > 0) return undefined;
    const changes = isSame ? [] : changesBetween(this.#flatten(this.doc), this.#flatten(doc));
    this.doc = doc;
    const grows = !isSame || this.status.revision === 0;
    this.status = {
      state: 'accepted',
      revision: this.status.revision + (grows ? 1 : 0),
      reason: '',
      atMs: this.#nowMs(),
    };
    const made = changes.length === 0 ? undefined : (edit ?? this.edit('accepted', origin, changes));
    if (made !== undefined) this.#remember(made);
    this.#tell(() => this.#onChange?.(this.doc, this.status));
    return made;
  }

  /** Refuses an edit; the document in force stays. The same refusal again is not told again. */
  refuse(why: string, origin: EditOrigin, changes: readonly PolicyChange[]): PolicyEdit | undefined {
    const reason = cut(why, MAX_REASON);
    if (this.status.state === 'refused' && this.status.reason === reason) return undefined;
    this.status = { state: 'refused', revision: this.status.revision, reason, atMs: this.#nowMs() };
    const edit = this.noteRefusal(reason, origin, changes);
    this.#tell(() => this.#onRefused?.(this.status));
    return edit;
  }

  /** Keeps a refused edit in the history; the status is another matter. A refusal that is the newest already is kept once. */
  noteRefusal(reason: string, origin: EditOrigin, changes: readonly PolicyChange[]): PolicyEdit | undefined {
    const edit = this.edit('refused', origin, changes, reason);
    const last = this.history[0];
    // After a restart it is not known any more who made an edit that is still there.
    const author = edit.author === '' ? (last?.author ?? '') : edit.author;
    if (last !== undefined && isDeepStrictEqual({ ...edit, author, atMs: last.atMs }, last)) return undefined;
    this.#remember(edit);
    return edit;
  }

  /** An edit as the history keeps it: long texts are cut, and of many changes the first are listed. */
  edit(
    state: PolicyEdit['state'],
    { author, via }: EditOrigin,
    changes: readonly PolicyChange[],
    reason = '',
    revision = this.status.revision,
  ): PolicyEdit {
    return {
      atMs: this.#nowMs(),
      author: cut(author, MAX_AUTHOR),
      via,
      state,
      revision,
      reason: cut(reason, MAX_REASON),
      changes: changes.slice(0, MAX_CHANGES).map((c) => ({
        path: cut(c.path),
        before: cutOrNull(c.before),
        after: cutOrNull(c.after),
      })),
      more: Math.max(0, changes.length - MAX_CHANGES),
    };
  }

  /** Takes up what an earlier run kept; edits of this run stay the newest. */
  restoreHistory(earlier: readonly PolicyEdit[]): void {
    const kept = this.history.filter((own) => !earlier.some((e) => isDeepStrictEqual(e, own)));
    this.history = [...kept, ...earlier].slice(0, HISTORY_LENGTH);
  }

  #remember(edit: PolicyEdit): void {
    this.history = [edit, ...this.history].slice(0, HISTORY_LENGTH);
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
