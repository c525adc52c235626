/**
 * What is wrong with a policy document: problems at the fields they are about, collected and told together, so that whoever
 * edits sees all of them at once. document.ts, documentChecks.ts and documentEdits.ts find them.
 */
import { FairwayError } from '../contracts/common.ts';

/** Something wrong with a document, and the keys that lead to it. */
export interface PolicyProblem {
  keys: readonly string[];
  message: string;
}

/** Most that is told of at a time. */
export const MAX_SHOWN = 5;
const MAX_KEY = 100;

/** All that is wrong with a document. */
export class Problems {
  readonly list: PolicyProblem[] = [];
  add(keys: readonly string[], message: string): void {
    this.list.push({ keys, message });
  }
  /** @throws FairwayError POLICY_INVALID (badInput) with the first of them */
  throwIfAny(): void {
    if (this.list.length === 0) return;
    throw invalid(this.list.slice(0, MAX_SHOWN).map(problemText).join('; '));
  }
}

/** The problem as text, beginning with the dotted path of the field. */
export const problemText = ({ keys, message }: PolicyProblem): string =>
  `${keys.length === 0 ? '(document)' : keys.map(shortened).join('.')}: ${message}`;
/** Names that come from outside may be of any length. */
export const shortened = (key: string): string => (key.length > MAX_KEY ? `${key.slice(0, MAX_KEY)}…` : key);

/** What a document or an edit is refused with. */
export function invalid(message: string, cause?: unknown): FairwayError {
  return new FairwayError('POLICY_INVALID', message, ['badInput'], cause);
}
