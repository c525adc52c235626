/**
 * Writes to one switch, each with a definite outcome: in a bundle where the switch has bundles (`core/bundles.ts` says what goes
 * into it), else message by message between barriers. What a switch refuses for its own state is sent again as
 * `core/repair.ts` says. The session (`switchSession.ts`) owns the connection and reads back what holds after a refusal.
 */
import { type OfConnection, OfConnectionError, type OfMessage } from 'node-openflow';
import type { SessionView } from '../../contracts/rest.ts';
import { bundledWrite, whyNoBundles } from '../core/bundles.ts';
import type { WriteOutcome } from '../core/events.ts';
import { type Refusal, repair } from '../core/repair.ts';
import { IS_SLAVE } from '../core/roles.ts';
import { type SwitchVersion, toVersion } from '../core/versions.ts';

/** A switch that has bundles says so at once. */
const ASK_MS = 3000;

/** Outcome of a write. `isTableFull`: a flow table had no room. `isFenced`: another controller is the switch's master now. */
export interface WriteResult {
  outcome: WriteOutcome;
  errors: string[];
  isTableFull: boolean;
  isFenced?: boolean;
  /** A group, or a flow that uses one, was refused. */
  isGroupRefused?: boolean;
}

/** What became of messages; `unknown` says why that cannot be told. */
interface Sent {
  refused: Refusal[];
  unknown?: string;
}

const NOTHING: Sent = { refused: [] };
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export class SwitchWriter {
  readonly #connection: OfConnection<SwitchVersion>;
  readonly #onRefused: (errors: string) => void;
  /** Why writes go without bundles; undefined while they go with them. */
  #without: string | undefined = 'the switch has not said yet that it has them';
  #committed = 0;
  #refused = 0;

  /** `onRefused` is told what a switch answered to a bundle that it had to be sent without one. */
  constructor(connection: OfConnection<SwitchVersion>, onRefused: (errors: string) => void) {
    this.#connection = connection;
    this.#onRefused = onRefused;
  }

  get bundles(): NonNullable<SessionView['bundles']> {
    const why = this.#without ?? '';
    return { used: this.#without === undefined, why, committed: this.#committed, refused: this.#refused };
  }

  /** Finds out whether the switch has bundles, by an empty one. Until it is known, and where it has none, writes go without. */
  async askForBundles(): Promise<void> {
    try {
      const { outcome, errors, cause } = await this.#connection.bundle([], { timeoutMs: ASK_MS });
      this.#without =
        outcome === 'applied' ? undefined : cause ? cause.message : errors.map((e) => e.symbol).join(', ');
    } catch (error) {
      this.#without = messageOf(error);
    }
  }

  /**
   * Carries a write out. A bundle goes out with its commit, so that it takes no longer than its messages would without. What was in
   * one that is refused is sent again without one: what the switch can have of it, it gets, and all errors are known,
   * whereas a commit tells only the first.
   */
  async write(messages: readonly OfMessage<4>[]): Promise<WriteResult> {
    const parts = this.#without === undefined ? bundledWrite(messages) : undefined;
    if (parts === undefined) return result(await this.#inTurn(messages));
    const before = await this.#inTurn(parts.before);
    if (before.unknown !== undefined) return result(before);
    let rest = messages.filter((m) => !parts.before.includes(m));
    // Flows that name a meter which is not there would be refused, and the rest of the bundle with them.
    if (before.refused.length === 0) {
      const bundled = await this.#bundle(parts.bundle);
      if (bundled.unknown !== undefined) return result(bundled);
      if (bundled.isApplied) rest = parts.after;
    }
    const { refused, ...then } = await this.#inTurn(rest);
    return result({ ...then, refused: [...before.refused, ...refused] });
  }

  async #bundle(
    messages: readonly OfMessage<4>[],
  ): Promise<{ isApplied: boolean; refused: Refusal[]; unknown?: string }> {
    const not = { isApplied: false, refused: [] };
    try {
      const version = this.#connection.version as SwitchVersion;
      const translated = messages.map((m) => toVersion(m, version));
      const { outcome, errors, cause } = await this.#connection.bundle(translated, { commitAtOnce: true });
      if (outcome === 'applied') {
        this.#committed++;
        return { isApplied: true, refused: [] };
      }
      // Where the connection is gone before the commit, nothing holds; but there is nobody to tell of the rest either.
      if (outcome === 'unknown' || !this.#connection.isUp) return { ...not, unknown: messageOf(cause) };
      this.#refused++;
      this.#without = cause ? cause.message : whyNoBundles(errors);
      this.#onRefused(cause ? cause.message : errors.map((e) => e.symbol).join(', '));
      return not;
    } catch (error) {
      if (error instanceof OfConnectionError) return { ...not, unknown: error.message };
      // It cannot be written down. Which message it is comes out without the bundle.
      return not;
    }
  }

  /** Sends messages one after the other and a closing barrier; what the switch's own state made it refuse is sent again. */
  async #inTurn(messages: readonly OfMessage<4>[]): Promise<Sent> {
    if (messages.length === 0) return NOTHING;
    const refusals: Refusal[] = [];
    for (let batch = messages, isRepair = false; ; isRepair = true) {
      const { refused, unknown } = await this.#transact(batch);
      if (unknown !== undefined) return { refused: refusals, unknown };
      const fix = isRepair ? { messages: [], remaining: refused } : repair(refused);
      refusals.push(...fix.remaining);
      if (fix.messages.length === 0) return { refused: refusals };
      batch = fix.messages;
    }
  }

  async #transact(messages: readonly OfMessage<4>[]): Promise<Sent> {
    const original = new Map<OfMessage, OfMessage<4>>();
    try {
      const version = this.#connection.version as SwitchVersion;
      const translated = messages.map((m) => {
        const t = toVersion(m, version);
        original.set(t, m);
        return t;
      });
      const { outcome, errors, cause } = await this.#connection.transaction(translated);
      if (outcome === 'unknown') return { refused: [], unknown: messageOf(cause) };
      const refused = errors.flatMap((e) => {
        const message = e.request && original.get(e.request);
        return message ? [{ message, code: e.code, text: e.symbol }] : [];
      });
      return { refused };
    } catch (error) {
      if (error instanceof OfConnectionError) return { refused: [], unknown: error.message };
      // It cannot be written down: nothing was sent, and nothing of it will ever be accepted.
      return { refused: messages.slice(0, 1).map((message) => ({ message, code: '', text: messageOf(error) })) };
    }
  }
}

function result({ refused, unknown }: Sent): WriteResult {
  if (unknown !== undefined) return { outcome: 'unknown', errors: [unknown], isTableFull: false };
  return {
    outcome: refused.length > 0 ? 'refused' : 'applied',
    errors: refused.map((r) => r.text),
    isTableFull: refused.some((r) => r.code === 'OFPFMFC_TABLE_FULL'),
    isFenced: refused.some((r) => r.code === IS_SLAVE),
    isGroupRefused: refused.some((r) => r.message.cls === 'OFPGroupMod' || r.code === 'OFPBAC_BAD_OUT_GROUP'),
  };
}
