/**
 * Transactions and bundles: messages sent together, and what became of all of them. connection.ts has the methods that
 * callers see and lends itself as the `Channel`; requests.ts collects the errors, dialect.ts knows how each version says
 * bundle.
 */
import { OfConnectionError, OfRequestError } from './connectionErrors.ts';
import type { BundleOptions, RequestOptions, TransactionResult } from './connectionTypes.ts';
import { BUNDLE, bundleAdd, bundleControl, hasBundles, versionName } from './dialect.ts';
import { OfEncodeError } from './errors.ts';
import type { OfMessage } from './messages.ts';
import type { Version } from './wire.ts';

const BARRIER_BYTES = 8;
/** Of a message that opens or commits a bundle: 24 in ONF's extension, 16 later. */
const CONTROL_BYTES = 24;

/** Messages written down, to be posted together; their errors are collected until the end. */
export interface Batch {
  readonly bytes: number;
  readonly errors: readonly OfRequestError[];
  post(): void;
  end(mayComeLate: boolean): void;
}

/** What they need of a connection. */
export interface Channel {
  /** @throws OfConnectionError `notUp` when none is agreed, or no longer */
  version(): Version;
  prepare(messages: readonly OfMessage[]): Batch;
  /** @throws OfConnectionError `tooMany` when there is no room for another request of so many bytes */
  makeSure(bytes: number): void;
  ask(message: OfMessage, timeoutMs?: number): Promise<OfMessage>;
  barrier(options: RequestOptions): Promise<void>;
}

/** Those of one connection. What they do, and what they throw, is described at the methods of `OfConnection`. */
export class Batches {
  readonly #channel: Channel;
  #nextBundle = 1;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  async transaction(messages: readonly OfMessage[], options: RequestOptions): Promise<TransactionResult> {
    const channel = this.#channel;
    channel.version();
    const batch = channel.prepare(messages);
    channel.makeSure(batch.bytes + BARRIER_BYTES);
    batch.post();
    try {
      await channel.barrier(options);
      batch.end(false);
      return { outcome: batch.errors.length > 0 ? 'refused' : 'applied', errors: batch.errors };
    } catch (error) {
      batch.end(true);
      return { outcome: 'unknown', errors: batch.errors, cause: error as Error };
    }
  }

  async bundle(messages: readonly OfMessage[], options: BundleOptions): Promise<TransactionResult> {
    const channel = this.#channel;
    const version = channel.version();
    if (!hasBundles(version))
      throw new OfEncodeError('OFPBundleCtrlMsg', 'version', `${versionName(version)} has no bundles`);
    const id = this.#nextBundle;
    this.#nextBundle = (this.#nextBundle % 0xffff_ffff) + 1;
    const flags = (options.atomic === false ? 0 : 1) | (options.ordered === false ? 0 : 2);
    const control = (type: number) => channel.ask(bundleControl(version, id, type, flags), options.timeoutMs);
    const batch = channel.prepare(messages.map((m) => bundleAdd(version, id, flags, m)));
    const { errors } = batch;
    channel.makeSure(2 * CONTROL_BYTES + batch.bytes + BARRIER_BYTES);
    // a bundle that is never committed does nothing: whether it is discarded is of no account, so nobody waits for that
    const discard = () => void control(BUNDLE.discard).catch(() => {});
    // Before a commit is answered, so is what was sent before it: a refusal to open comes here first.
    let closed: Error | undefined;
    let isCommitted = false;
    try {
      const opened = control(BUNDLE.open).catch((error: Error) => {
        closed = error;
      });
      batch.post();
      const added = channel.barrier(options);
      if (options.commitAtOnce === true) added.catch(() => {});
      else {
        await added;
        await opened;
        if (closed !== undefined) throw closed;
        if (errors.length > 0) {
          discard();
          return { outcome: 'refused', errors };
        }
      }
      isCommitted = true;
      await control(BUNDLE.commit);
      if (closed !== undefined) throw closed;
      return { outcome: errors.length > 0 ? 'refused' : 'applied', errors };
    } catch (error) {
      if (!isCommitted) discard();
      // What was added was refused for want of a bundle, and its errors say nothing of it.
      if (closed instanceof OfRequestError) return { outcome: 'refused', errors: [closed] };
      if (error instanceof OfRequestError) return { outcome: 'refused', errors: [...errors, error] };
      const isUnknown = isCommitted && error instanceof OfConnectionError && error.outcomeUnknown;
      return { outcome: isUnknown ? 'unknown' : 'refused', errors, cause: error as Error };
    } finally {
      batch.end(isCommitted);
    }
  }
}
