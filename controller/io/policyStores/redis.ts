/**
 * The policy kept in Redis, where a person edits it with `redis-cli HSET <prefix>policy reservation.medium "…"`.
 *
 * | key | what |
 * |---|---|
 * | `<prefix>policy` | hash: every field of the document as text, by dotted path |
 * | `<prefix>policy:status` | hash { state, revision, reason, field, atMs, at }: what became of the last edit |
 * | `<prefix>policy:last-good` | JSON { revision, fields }: the hash as it was last accepted |
 *
 * The third key makes both ends of an outage whole: a controller that starts while the hash holds a refused edit takes
 * the last good document from there; and after Redis came back with older data (it was killed before it saved) the
 * difference between the hash and its own last-good shows which fields were edited by hand, and only those count.
 * See `store.ts` for the promise. Time-outs of the connection itself are real time, whatever the clock says.
 */
import { isDeepStrictEqual } from 'node:util';
import { Redis } from 'ioredis';
import type { Clock } from '../../../contracts/clock.ts';
import { FairwayError } from '../../../contracts/common.ts';
import type { Log } from '../../../contracts/log.ts';
import type { PolicyDocument, PolicyStatus } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import {
  fieldOf,
  type OnPolicyChange,
  type OnPolicyRefused,
  type PolicyCodec,
  PolicyInForce,
  type PolicyStore,
  refusalText,
  WorkQueue,
} from './store.ts';

type Flat = Record<string, string>;
interface LastGood {
  revision: number;
  fields: Flat;
}

const MAX_FIELDS = 5_000;
const MAX_RETRY_MS = 1_000;

export class RedisPolicyStore implements PolicyStore {
  readonly kind = 'redis';
  readonly #hash: string;
  readonly #statusKey: string;
  readonly #lastGoodKey: string;
  readonly #codec: PolicyCodec;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #pollMs: number;
  readonly #startTimeoutMs: number;
  readonly #redis: Redis;
  readonly #server: string;
  readonly #inForce: PolicyInForce;
  readonly #queue = new WorkQueue();
  /** The hash as last accepted, spelled as it was typed. Undefined until Redis was reached for the first time. */
  #lastGood: LastGood | undefined;
  /** The hash as it was last judged, accepted or not. */
  #judged: string | undefined;
  /** After a connection was lost nothing is taken for granted: everything is read and compared. */
  #needsReconciling = true;
  #isConnected = false;
  #isClosed = false;
  #problem = 'not connected yet';
  #stopPolling: (() => void) | undefined;
  #whenReached: (() => void) | undefined;

  /** `pollMs`: how often the hash is read; `startTimeoutMs`: how long `start` waits for Redis before it goes on without. */
  constructor(o: {
    url: string;
    prefix: string;
    codec: PolicyCodec;
    clock: Clock;
    log: Log;
    pollMs?: number;
    startTimeoutMs?: number;
    commandTimeoutMs?: number;
  }) {
    this.#hash = `${o.prefix}policy`;
    this.#statusKey = `${o.prefix}policy:status`;
    this.#lastGoodKey = `${o.prefix}policy:last-good`;
    this.#codec = o.codec;
    this.#clock = o.clock;
    this.#log = o.log;
    this.#pollMs = o.pollMs ?? 250;
    this.#startTimeoutMs = o.startTimeoutMs ?? 3_000;
    this.#inForce = new PolicyInForce(o.clock, o.log);
    this.#server = withoutPassword(o.url);
    this.#redis = new Redis(o.url, {
      lazyConnect: true,
      // A command must fail while Redis is away instead of being carried out at some later time.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      connectTimeout: 2_000,
      // How long `close` may keep the process alive.
      disconnectTimeout: 500,
      commandTimeout: o.commandTimeoutMs ?? 2_000,
      retryStrategy: (times: number) => Math.min(100 * times, MAX_RETRY_MS),
      connectionName: 'fairway-policy',
    });
    this.#redis.on('error', (e: Error) => {
      this.#problem = e.message || 'no connection';
    });
    this.#redis.on('close', () => this.#away('the connection broke'));
    this.#redis.on('ready', () => this.#look());
  }

  get connected(): boolean {
    return this.#isConnected;
  }

  /** Goes on with the defaults when Redis cannot be reached in time; what it holds takes effect once it can. */
  async start(
    onChange: OnPolicyChange,
    onRefused: OnPolicyRefused,
  ): Promise<{ doc: PolicyDocument; status: PolicyStatus }> {
    this.#stopPolling = this.#clock.every(this.#pollMs, () => this.#look());
    await new Promise<void>((resolve) => {
      const cancel = this.#clock.after(this.#startTimeoutMs, resolve);
      this.#whenReached = () => {
        cancel();
        resolve();
      };
      this.#redis.connect().catch((e: Error) => {
        // ioredis goes on trying by its retry strategy.
        this.#problem = e.message || this.#problem;
      });
    });
    this.#whenReached = undefined;
    if (!this.#isConnected) {
      this.#log('warn', 'policy.store-away', {
        redis: this.#server,
        problem: this.#problem,
        effect: 'the default policy is in force until Redis is back',
      });
    }
    this.#inForce.watch(onChange, onRefused);
    return { doc: this.#inForce.doc, status: this.#inForce.status };
  }

  patch(fields: PolicyPatch): Promise<PolicyStatus> {
    return this.#queue.run(async () => {
      const before = this.#inForce.doc;
      const next = this.#codec.patch(before, fields);
      const lastGood = this.#lastGood;
      if (!this.#isConnected || this.#needsReconciling || !lastGood) {
        throw new FairwayError(
          'POLICY_STORE_AWAY',
          `Redis at ${this.#server} is away (${this.#problem}): nothing was changed, try again when it is back`,
          ['retryable'],
        );
      }
      const old = this.#codec.flatten(before);
      const flat = this.#codec.flatten(next);
      const isNamed = (key: string) => Object.keys(fields).some((f) => key === f || key.startsWith(`${f}.`));
      const set: Flat = {};
      for (const [k, v] of Object.entries(flat)) if (v !== old[k] || isNamed(k)) set[k] = v;
      const gone = Object.keys(old).filter((k) => !(k in flat));
      const revision = this.#inForce.status.revision + (isDeepStrictEqual(next, before) ? 0 : 1);
      const wanted: LastGood = { revision, fields: withChanges(lastGood.fields, set, gone) };
      const multi = this.#redis.multi();
      if (Object.keys(set).length > 0) multi.hset(this.#hash, set);
      if (gone.length > 0) multi.hdel(this.#hash, ...gone);
      multi.set(this.#lastGoodKey, JSON.stringify(wanted));
      multi.hset(this.#statusKey, statusFields({ state: 'accepted', revision, reason: '', atMs: this.#clock.now() }));
      try {
        failOnError(await multi.exec());
      } catch (e) {
        this.#trouble(e);
        const isReply = (e as Error).name === 'ReplyError';
        throw new FairwayError(
          'POLICY_STORE_AWAY',
          `Redis at ${this.#server} did not confirm the change: ${(e as Error).message}`,
          isReply ? ['retryable'] : ['retryable', 'outcomeUnknown'],
          e,
        );
      }
      this.#lastGood = wanted;
      this.#inForce.accept(next);
      // The hash may still hold a refused edit of another field: the next look judges it again.
      this.#judged = undefined;
      return this.#inForce.status;
    });
  }

  async close(): Promise<void> {
    this.#stopPolling?.();
    this.#stopPolling = undefined;
    this.#whenReached?.();
    this.#isClosed = true;
    this.#redis.disconnect();
    await this.#queue.idle();
  }

  /** Looks at the hash, unless a look or a patch is under way. */
  #look(): void {
    if (this.#queue.length > 0 || this.#redis.status !== 'ready') return;
    this.#queue.run(() => this.#sync()).catch((e: unknown) => this.#trouble(e));
  }

  async #sync(): Promise<void> {
    if (!this.#needsReconciling) {
      const flat = await this.#redis.hgetall(this.#hash);
      if (Object.keys(flat).length === 0) this.#needsReconciling = true;
      else await this.#judge(flat, false);
      if (!this.#needsReconciling) return;
    }
    if (!(await this.#reconcile())) return;
    this.#needsReconciling = false;
    if (this.#isConnected) return;
    this.#isConnected = true;
    this.#log('info', 'policy.store-connected', { redis: this.#server, revision: this.#inForce.status.revision });
    this.#whenReached?.();
  }

  /** Brings the hash and the document in force together after a first or a new connection. False: try again. */
  async #reconcile(): Promise<boolean> {
    // If anyone writes the hash from here until EXEC, nothing is written and all is read again.
    await this.#redis.watch(this.#hash);
    const flat = await this.#redis.hgetall(this.#hash);
    const kept = readLastGood(await this.#redis.get(this.#lastGoodKey));
    const status = await this.#redis.hgetall(this.#statusKey);
    if (!this.#lastGood) this.#restore(kept, Number(status.revision));

    const own = this.#lastGood?.fields ?? this.#codec.flatten(this.#inForce.doc);
    let wanted = flat;
    if (Object.keys(flat).length === 0) {
      wanted = own;
    } else if (this.#lastGood && (kept?.revision ?? -1) < this.#lastGood.revision) {
      // Redis came back with older data, or with none. Where the hash differs from what was last good then, someone
      // edited it since.
      const then = kept?.fields ?? {};
      const edited: Flat = {};
      for (const [k, v] of Object.entries(flat)) if (then[k] !== v) edited[k] = v;
      const removed = Object.keys(then).filter((k) => !(k in flat));
      wanted = withChanges(own, edited, removed);
      this.#log('warn', 'policy.store-was-older', {
        redis: this.#server,
        itsRevision: kept?.revision ?? null,
        revision: this.#lastGood.revision,
        edited: [...Object.keys(edited), ...removed],
      });
    }
    const multi = this.#redis.multi();
    if (wanted !== flat) {
      multi.del(this.#hash);
      multi.hset(this.#hash, wanted);
    }
    this.#lastGood ??= { revision: this.#inForce.status.revision, fields: own };
    multi.set(this.#lastGoodKey, JSON.stringify(this.#lastGood));
    const done = await multi.exec();
    if (done === null) return false;
    failOnError(done);
    await this.#judge(wanted, true);
    return true;
  }

  /** At the first contact: goes on from the document and the revision that an earlier run left. */
  #restore(kept: LastGood | undefined, statusRevision: number): void {
    if (!kept) return;
    try {
      const doc = this.#codec.unflatten(kept.fields);
      this.#inForce.restore(doc, Math.max(kept.revision, Number.isInteger(statusRevision) ? statusRevision : 0));
      this.#lastGood = kept;
    } catch (e) {
      this.#log('warn', 'policy.last-good-damaged', { key: this.#lastGoodKey, reason: refusalText(e) });
    }
  }

  /** Accepts or refuses the hash as it is, and writes into Redis what became of it. */
  async #judge(flat: Flat, isForced: boolean): Promise<void> {
    const text = JSON.stringify(Object.entries(flat).sort(([a], [b]) => (a < b ? -1 : 1)));
    if (text === this.#judged && !isForced) return;
    let missing: string[] = [];
    let full: Flat = flat;
    let refusal: string | undefined;
    try {
      if (Object.keys(flat).length > MAX_FIELDS) throw tooMany(this.#hash);
      const doc = this.#codec.unflatten(flat);
      full = { ...this.#codec.flatten(doc), ...flat };
      missing = Object.keys(full).filter((k) => !(k in flat));
      this.#inForce.accept(doc);
      this.#lastGood = { revision: this.#inForce.status.revision, fields: full };
    } catch (e) {
      refusal = refusalText(e);
      this.#inForce.refuse(refusal);
    }
    const multi = this.#redis.multi();
    // A field that is absent has its default; it is shown, unless someone set it this very moment.
    for (const k of missing) multi.hsetnx(this.#hash, k, full[k] as string);
    multi.hset(this.#statusKey, statusFields(this.#inForce.status));
    if (refusal === undefined) multi.set(this.#lastGoodKey, JSON.stringify(this.#lastGood));
    failOnError(await multi.exec());
    this.#judged = text;
    if (refusal === undefined) {
      this.#log('info', 'policy.accepted', { redis: this.#server, revision: this.#inForce.status.revision });
    } else {
      this.#log('warn', 'policy.refused', { redis: this.#server, reason: refusal });
    }
  }

  #trouble(e: unknown): void {
    const message = (e as Error).message;
    this.#problem = message;
    this.#away(message);
    // A server that holds the connection and does not answer: leave it and try a new one.
    if (message === 'Command timed out' && this.#redis.status === 'ready') this.#redis.disconnect(true);
  }

  #away(problem: string): void {
    this.#needsReconciling = true;
    if (!this.#isConnected) return;
    this.#isConnected = false;
    if (this.#isClosed) return;
    this.#problem = problem;
    this.#log('warn', 'policy.store-away', {
      redis: this.#server,
      problem,
      effect: 'the last good policy stays in force',
    });
  }
}

function withChanges(fields: Flat, set: Flat, gone: readonly string[]): Flat {
  const next = { ...fields, ...set };
  for (const k of gone) delete next[k];
  return next;
}

function statusFields(s: PolicyStatus): Flat {
  return {
    state: s.state,
    revision: String(s.revision),
    reason: s.reason,
    field: fieldOf(s.reason),
    atMs: String(Math.round(s.atMs)),
    at: new Date(s.atMs).toISOString(),
  };
}

function tooMany(hash: string): FairwayError {
  return new FairwayError('POLICY_INVALID', `(document): ${hash} has more than ${MAX_FIELDS} fields`, ['badInput']);
}

/** EXEC answers per command; the first that failed fails the whole. */
function failOnError(results: [Error | null, unknown][] | null): void {
  if (results === null) throw new Error('the transaction was not carried out because a watched key changed');
  for (const [e] of results) if (e) throw e;
}

function readLastGood(text: string | null): LastGood | undefined {
  if (text === null) return undefined;
  try {
    const v = JSON.parse(text) as Partial<LastGood> | null;
    if (!v || !Number.isInteger(v.revision) || typeof v.fields !== 'object' || v.fields === null) return undefined;
    if (!Object.values(v.fields).every((x) => typeof x === 'string')) return undefined;
    return { revision: v.revision as number, fields: v.fields };
  } catch {
    return undefined;
  }
}

/** The address for logs: `redis://user:secret@host` shows no secret. */
function withoutPassword(url: string): string {
  return url.replace(/\/\/[^@/]*@/, '//…@');
}
