/** The policy kept in memory only: for simulations, tests and a first try. See `store.ts` for the promise. */
import type { Clock } from '../../../contracts/clock.ts';
import { type Log, silentLog } from '../../../contracts/log.ts';
import { DEFAULT_POLICY, type PolicyDocument, type PolicyStatus } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import {
  type OnPolicyChange,
  type OnPolicyRefused,
  type PolicyCodec,
  PolicyInForce,
  type PolicyStore,
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
    this.#inForce = new PolicyInForce(o.clock, o.log ?? silentLog);
    this.#initial = o.initial ?? DEFAULT_POLICY;
  }

  /** Throws the codec's error for an initial document that is not valid. */
  async start(
    onChange: OnPolicyChange,
    onRefused: OnPolicyRefused,
  ): Promise<{ doc: PolicyDocument; status: PolicyStatus }> {
    this.#inForce.accept(this.#codec.parse(this.#initial));
    this.#inForce.watch(onChange, onRefused);
    return { doc: this.#inForce.doc, status: this.#inForce.status };
  }

  async patch(fields: PolicyPatch): Promise<PolicyStatus> {
    this.#inForce.accept(this.#codec.patch(this.#inForce.doc, fields));
    return this.#inForce.status;
  }

  async close(): Promise<void> {}
}
