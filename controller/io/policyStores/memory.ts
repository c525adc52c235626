/** The policy kept in memory only: for simulations, tests and a first try. See `store.ts` for the promise. */
import type { Clock } from '../../../contracts/clock.ts';
import { type Log, silentLog } from '../../../contracts/log.ts';
import { DEFAULT_POLICY, type PolicyDocument, type PolicyEdit, type PolicyStatus } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import {
  changesOf,
  type OnPolicyChange,
  type OnPolicyRefused,
  type PolicyCodec,
  PolicyInForce,
  type PolicyStore,
  refusalText,
} from './store.ts';

export class MemoryPolicyStore implements PolicyStore {
  readonly kind = 'memory';
  readonly connected = true;
  readonly #codec: PolicyCodec;
  readonly #inForce: PolicyInForce;
  readonly #initial: unknown;

  /** `initial` is checked when the store starts. */
  constructor(o: { codec: PolicyCodec; clock: Clock; log?: Log; initial?: unknown }) {
    this.#codec = o.codec;
    this.#inForce = new PolicyInForce(o.codec, o.clock, o.log ?? silentLog);
    this.#initial = o.initial ?? DEFAULT_POLICY;
  }

  /** Throws the codec's error for an initial document that is not valid. */
  async start(
    onChange: OnPolicyChange,
    onRefused: OnPolicyRefused,
  ): Promise<{ doc: PolicyDocument; status: PolicyStatus }> {
    this.#inForce.restore(this.#codec.parse(this.#initial), 1);
    this.#inForce.watch(onChange, onRefused);
    return { doc: this.#inForce.doc, status: this.#inForce.status };
  }

  async patch(fields: PolicyPatch, author = ''): Promise<PolicyStatus> {
    const { doc } = this.#inForce;
    const origin = { author, via: 'http' } as const;
    try {
      this.#inForce.accept(this.#codec.patch(doc, fields), origin);
    } catch (e) {
      this.#inForce.noteRefusal(refusalText(e), origin, changesOf(this.#codec.flatten(doc), fields));
      throw e;
    }
    return this.#inForce.status;
  }

  history(): readonly PolicyEdit[] {
    return this.#inForce.history;
  }

  async close(): Promise<void> {}
}
