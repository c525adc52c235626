/**
 * The policy kept in Redis, where a person edits it with `redis-cli HSET <prefix>policy reservation.medium "…"`.
 *
 * | key | what |
 * |---|---|
 * | `<prefix>policy` | hash: every field of the document as text, by dotted path; `author` may be set with an edit |
 * | `<prefix>policy:commit` | hash: an edit of several fields that was put together elsewhere and renamed to this key |
 * | `<prefix>policy:history` | list of JSON: the last edits, the newest first |
 * | `<prefix>policy:status` | hash { state, revision, reason, field, atMs, at }: what became of the last edit |
 * | `<prefix>policy:last-good` | JSON { revision, fields }: the hash as it was last accepted |
 *
 * An edit is what one look finds: one HSET of several fields, or several commands between MULTI and EXEC. What takes longer
 * to put together is put together in another key (`<prefix>policy:staged`) and renamed to `<prefix>policy:commit`, which
 * Redis does in one step: a half-made edit is never seen, let alone in force.
 *
 * `last-good` makes both ends of an outage whole: a controller that starts while the hash holds a refused edit takes
 * the last good document from there; and after Redis came back with older data (it was killed before it saved) the
 * difference between the hash and its own last-good shows which fields were edited by hand, and only those count.
 * See `store.ts` for the promise. Time-outs of the connection itself are real time, whatever the clock says.
 */
import { isDeepStrictEqual } from 'node:util';
import { type ChainableCommander, Redis } from 'ioredis';
import type { Clock } from '../../../contracts/clock.ts';
import { FairwayError } from '../../../contracts/common.ts';
import type { Log } from '../../../contracts/log.ts';
import {
  type PolicyDocument,
  type PolicyEdit,
  type PolicyStatus,
  policyEditSchema,
} from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import {
  changesBetween,
  changesOf,
  type EditOrigin,
  type Flat,
  fieldOf,
  HISTORY_LENGTH,
  type OnPolicyChange,
  type OnPolicyRefused,
  type PolicyCodec,
  PolicyInForce,
  type PolicyStore,
  refusalText,
  WorkQueue,
} from './store.ts';

interface LastGood {
  revision: number;
  fields: Flat;
}

const MAX_FIELDS = 10_000;
/** Field of the hash that says who made the edit; taken away when the edit is judged. */
const AUTHOR = 'author';
const MAX_RETRY_MS = 1_000;

export class RedisPolicyStore implements PolicyStore {
  readonly kind = 'redis';
  readonly #hash: string;
  readonly #statusKey: string;
  readonly #lastGoodKey: string;
  readonly #commitKey: string;
  readonly #historyKey: string;
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
  /** Edits that are not in Redis yet, the oldest first. */
  #unsaved: readonly PolicyEdit[] = [];
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
    this.#commitKey = `${o.prefix}policy:commit`;
    this.#historyKey = `${o.prefix}policy:history`;
    this.#codec = o.codec;
    this.#clock = o.clock;
    this.#log = o.log;
    this.#pollMs = o.pollMs ?? 250;
    this.#startTimeoutMs = o.startTimeoutMs ?? 3_000;
    this.#inForce = new PolicyInForce(o.codec, o.clock, o.log);
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

  patch(fields: PolicyPatch, author = ''): Promise<PolicyStatus> {
    return this.#queue.run(() => this.#apply(fields, { author, via: 'http' }));
  }

  history(): readonly PolicyEdit[] {
    return this.#inForce.history;
  }

  /** Takes an edit of some fields, all or none; `also` is carried out in the same transaction. */
  async #apply(
    fields: PolicyPatch,
    origin: EditOrigin,
    also?: (multi: ChainableCommander) => void,
  ): Promise<PolicyStatus> {
    const before = this.#inForce.doc;
    const old = this.#codec.flatten(before);
    let next: PolicyDocument;
    try {
      next = this.#codec.patch(before, fields);
    } catch (e) {
      this.#keep(this.#inForce.noteRefusal(refusalText(e), origin, changesOf(old, fields)));
      throw e;
    }
    const lastGood = this.#lastGood;
    if (!this.#isConnected || this.#needsReconciling || !lastGood) {
      throw new FairwayError(
        'POLICY_STORE_AWAY',
        `Redis at ${this.#server} is away (${this.#problem}): nothing was changed, try again when it is back`,
        ['retryable'],
      );
    }
    const flat = this.#codec.flatten(next);
    const isNamed = (key: string) => Object.keys(fields).some((f) => key === f || key.startsWith(`${f}.`));
    const set: Flat = {};
    for (const [k, v] of Object.entries(flat)) if (v !== old[k] || isNamed(k)) set[k] = v;
    const gone = Object.keys(old).filter((k) => !(k in flat));
    const isSame = isDeepStrictEqual(next, before);
    const revision = this.#inForce.status.revision + (isSame ? 0 : 1);
    const edit = isSame ? undefined : this.#inForce.edit('accepted', origin, changesBetween(old, flat), '', revision);
    const wanted: LastGood = { revision, fields: withChanges(lastGood.fields, set, gone) };
    const multi = this.#redis.multi();
    if (Object.keys(set).length > 0) multi.hset(this.#hash, set);
    if (gone.length > 0) multi.hdel(this.#hash, ...gone);
    multi.set(this.#lastGoodKey, JSON.stringify(wanted));
    multi.hset(this.#statusKey, statusFields({ state: 'accepted', revision, reason: '', atMs: this.#clock.now() }));
    this.#pushHistory(multi, edit);
    also?.(multi);
    let done: Awaited<ReturnType<typeof multi.exec>>;
    try {
      done = await multi.exec();
      if (done !== null) failOnError(done);
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
    // Nothing was carried out: what is watched has changed, and is looked at again.
    if (done === null) return this.#inForce.status;
    this.#unsaved = [];
    this.#lastGood = wanted;
    this.#inForce.accept(next, origin, edit);
    // The hash may still hold a refused edit of another field: the next look judges it again.
    this.#judged = undefined;
    return this.#inForce.status;
  }

  /** An edit that is put into Redis with the next thing that is written there. */
  #keep(edit: PolicyEdit | undefined): void {
    if (edit !== undefined) this.#unsaved = [...this.#unsaved, edit].slice(-HISTORY_LENGTH);
  }

  #pushHistory(multi: ChainableCommander, edit?: PolicyEdit): void {
    const edits = [...this.#unsaved, ...(edit ? [edit] : [])];
    if (edits.length === 0) return;
    multi.lpush(this.#historyKey, ...edits.map((e) => JSON.stringify(e)));
    multi.ltrim(this.#historyKey, 0, HISTORY_LENGTH - 1);
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

  /** One look. A key that is of another kind than it should be stops nothing but the edits made with it. */
  async #sync(): Promise<void> {
    try {
      await this.#syncKeys();
    } catch (e) {
      if (!isWrongKind(e)) throw e;
      await this.#mendKinds();
    }
  }

  /**
   * Somebody put a value of another kind where one of the keys is. In place of `policy` and `commit` that is an edit, and
   * refused; the former stays as it is until it is removed. The other keys are ours, and written anew.
   */
  async #mendKinds(): Promise<void> {
    await this.#redis.unwatch();
    const kinds = new Map<string, string>();
    for (const key of [this.#hash, this.#commitKey, this.#statusKey, this.#lastGoodKey, this.#historyKey])
      kinds.set(key, await this.#redis.type(key));
    const isWrong = (key: string, kind: string) => ![kind, 'none'].includes(kinds.get(key) as string);
    const multi = this.#redis.multi();
    const ours = [
      [this.#statusKey, 'hash'],
      [this.#lastGoodKey, 'string'],
      [this.#historyKey, 'list'],
    ] as const;
    for (const [key, kind] of ours) {
      if (!isWrong(key, kind)) continue;
      multi.del(key);
      if (key === this.#lastGoodKey && this.#lastGood) multi.set(key, JSON.stringify(this.#lastGood));
      this.#log('warn', 'policy.key-replaced', { redis: this.#server, key, was: kinds.get(key) });
    }
    if (kinds.get(this.#historyKey) === 'list') {
      const history = await this.#redis.lrange(this.#historyKey, 0, HISTORY_LENGTH - 1);
      if (!this.#lastGood) this.#inForce.restoreHistory(readHistory(history));
    } else this.#unsaved = [...this.#inForce.history].reverse();
    if (!this.#lastGood && !isWrong(this.#lastGoodKey, 'string')) {
      const kept = readLastGood(await this.#redis.get(this.#lastGoodKey));
      const status = isWrong(this.#statusKey, 'hash') ? {} : await this.#redis.hgetall(this.#statusKey);
      this.#restore(kept, Number(status.revision));
    }
    let reason: string | undefined;
    if (isWrong(this.#commitKey, 'hash')) {
      multi.del(this.#commitKey);
      reason = `(document): ${this.#commitKey} was a ${kinds.get(this.#commitKey)}, not a hash of fields; it was removed`;
    }
    if (isWrong(this.#hash, 'hash')) {
      const cure = 'remove it (DEL), and the policy in force is written there again';
      reason = `(document): ${this.#hash} is a ${kinds.get(this.#hash)}, not a hash of fields; ${cure}`;
      this.#needsReconciling = true;
      this.#problem = reason;
    }
    if (reason !== undefined) this.#keep(this.#inForce.refuse(reason, { author: '', via: 'redis' }, []));
    this.#whenReached?.();
    // All of it was told when it was seen first.
    if (multi.length === 0 && this.#unsaved.length === 0) return;
    this.#pushHistory(multi);
    multi.hset(this.#statusKey, statusFields(this.#inForce.status));
    failOnError(await multi.exec());
    this.#unsaved = [];
    // The policy is not judged again for this: what the status says of a commit stays until the next edit.
  }

  async #syncKeys(): Promise<void> {
    if (!this.#needsReconciling) {
      let flat = await this.#redis.hgetall(this.#hash);
      if (Object.hasOwn(flat, AUTHOR)) {
        // The author is taken away when the edit is judged: not that of an edit that comes in between.
        await this.#redis.watch(this.#hash);
        flat = await this.#redis.hgetall(this.#hash);
      }
      if (Object.keys(flat).length === 0) this.#needsReconciling = true;
      else await this.#judge(flat, false);
      if (!this.#needsReconciling) {
        await this.#takeCommit();
        if (this.#unsaved.length > 0) await this.#saveHistory();
        return;
      }
    }
    if (!(await this.#reconcile())) return;
    this.#needsReconciling = false;
    if (this.#isConnected) return;
    this.#isConnected = true;
    this.#log('info', 'policy.store-connected', { redis: this.#server, revision: this.#inForce.status.revision });
    this.#whenReached?.();
  }

  /** Takes the edit that was renamed to the commit key, if there is one; either way the key is gone afterwards. */
  async #takeCommit(): Promise<void> {
    if ((await this.#redis.exists(this.#commitKey)) === 0) return;
    // Another commit that comes in between is not taken for this one.
    await this.#redis.watch(this.#commitKey);
    const { [AUTHOR]: author = '', ...texts } = await this.#redis.hgetall(this.#commitKey);
    // Redis has no null: an empty text removes an entry, as a document's own texts are never empty.
    const fields: PolicyPatch = Object.fromEntries(Object.entries(texts).map(([k, v]) => [k, v === '' ? null : v]));
    const origin = { author, via: 'redis' } as const;
    const done = (multi: ChainableCommander) => multi.del(this.#commitKey);
    try {
      if (Object.keys(fields).length > MAX_FIELDS) throw tooMany(this.#commitKey);
      const { revision } = await this.#apply(fields, origin, done);
      this.#log('info', 'policy.accepted', { redis: this.#server, revision, commit: true });
    } catch (e) {
      if (!(e instanceof FairwayError) || !e.has('badInput')) throw e;
      const changes = changesOf(this.#codec.flatten(this.#inForce.doc), fields);
      this.#keep(this.#inForce.refuse(e.message, origin, changes));
      const multi = this.#redis.multi();
      multi.hset(this.#statusKey, statusFields(this.#inForce.status));
      this.#pushHistory(multi);
      const results = await done(multi).exec();
      if (results === null) return;
      failOnError(results);
      this.#unsaved = [];
      this.#log('warn', 'policy.refused', { redis: this.#server, reason: e.message, commit: true });
    }
  }

  async #saveHistory(): Promise<void> {
    const multi = this.#redis.multi();
    this.#pushHistory(multi);
    failOnError(await multi.exec());
    this.#unsaved = [];
  }

  /** Brings the hash and the document in force together after a first or a new connection. False: try again. */
  async #reconcile(): Promise<boolean> {
    // If anyone writes the hash from here until EXEC, nothing is written and all is read again.
    await this.#redis.watch(this.#hash);
    const { [AUTHOR]: author, ...flat } = await this.#redis.hgetall(this.#hash);
    const kept = readLastGood(await this.#redis.get(this.#lastGoodKey));
    const status = await this.#redis.hgetall(this.#statusKey);
    const history = readHistory(await this.#redis.lrange(this.#historyKey, 0, HISTORY_LENGTH - 1));
    if (!this.#lastGood) this.#restore(kept, Number(status.revision));
    this.#inForce.restoreHistory(history);
    // What came back with less than is known here is given the rest.
    if (history.length < this.#inForce.history.length) this.#unsaved = newerThan(history[0], this.#inForce.history);

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
    if (wanted !== flat || author !== undefined) {
      multi.del(this.#hash);
      multi.hset(this.#hash, wanted);
    }
    this.#pushHistory(multi);
    this.#lastGood ??= { revision: this.#inForce.status.revision, fields: own };
    multi.set(this.#lastGoodKey, JSON.stringify(this.#lastGood));
    const done = await multi.exec();
    if (done === null) return false;
    failOnError(done);
    this.#unsaved = [];
    await this.#judge(author === undefined ? wanted : { ...wanted, [AUTHOR]: author }, true);
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
  async #judge(hash: Flat, isForced: boolean): Promise<void> {
    const { [AUTHOR]: author, ...flat } = hash;
    const origin = { author: author ?? '', via: 'redis' } as const;
    const text = JSON.stringify(Object.entries(flat).sort(([a], [b]) => (a < b ? -1 : 1)));
    if (text === this.#judged && !isForced && author === undefined) return;
    let missing: string[] = [];
    let full: Flat = flat;
    let refusal: string | undefined;
    try {
      if (Object.keys(flat).length > MAX_FIELDS) throw tooMany(this.#hash);
      const doc = this.#codec.unflatten(flat);
      full = { ...this.#codec.flatten(doc), ...flat };
      missing = Object.keys(full).filter((k) => !(k in flat));
      this.#keep(this.#inForce.accept(doc, origin));
      this.#lastGood = { revision: this.#inForce.status.revision, fields: full };
    } catch (e) {
      refusal = refusalText(e);
      this.#keep(this.#inForce.refuse(refusal, origin, changesBetween(this.#lastGood?.fields ?? {}, flat)));
    }
    const multi = this.#redis.multi();
    if (author !== undefined) multi.hdel(this.#hash, AUTHOR);
    this.#pushHistory(multi);
    // A field that is absent has its default; it is shown, unless someone set it this very moment.
    for (const k of missing) multi.hsetnx(this.#hash, k, full[k] as string);
    multi.hset(this.#statusKey, statusFields(this.#inForce.status));
    if (refusal === undefined) multi.set(this.#lastGoodKey, JSON.stringify(this.#lastGood));
    const done = await multi.exec();
    // Only where an author is taken away is the hash watched: someone edited it meanwhile, and the next look sees all.
    if (done === null) return;
    failOnError(done);
    this.#unsaved = [];
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

/** Redis refused to read a key as what it should be. */
const isWrongKind = (e: unknown): boolean => e instanceof Error && e.message.startsWith('WRONGTYPE');

/** EXEC answers per command; the first that failed fails the whole. */
function failOnError(results: [Error | null, unknown][] | null): void {
  if (results === null) throw new Error('the transaction was not carried out because a watched key changed');
  for (const [e] of results) if (e) throw e;
}

/** The history as Redis holds it; entries that are none are left out. */
function readHistory(texts: readonly string[]): PolicyEdit[] {
  return texts.flatMap((text) => {
    try {
      const edit = policyEditSchema.safeParse(JSON.parse(text));
      return edit.success ? [edit.data] : [];
    } catch {
      return [];
    }
  });
}

/** What of a history (the newest first) came after an edit, the oldest first. */
function newerThan(edit: PolicyEdit | undefined, history: readonly PolicyEdit[]): PolicyEdit[] {
  const from = history.findIndex((e) => isDeepStrictEqual(e, edit));
  return history.slice(0, from < 0 ? history.length : from).reverse();
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
