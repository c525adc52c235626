/**
 * This controller as one of a pair: whether it is in charge, in which term, and what it knows of the other's journal. It decides
 * by `core/roles.ts`, follows by `follow.ts`, asks by `standby.ts`; `server.ts` restores jobs and lets agents in or go.
 */
import type { WebSocket } from 'ws';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';
import { askStanding } from '../../contracts/standing.ts';
import { isNewer, newest, type Standing } from '../../contracts/terms.ts';
import { isMissed, nextGeneration, verdict } from '../core/roles.ts';
import { followJournal, JournalFeed } from './follow.ts';
import type { JournalEntry, JournalLike } from './journal.ts';
import { watchPeer } from './standby.ts';

/** How long a primary that starts waits for its peer to say who is in charge. */
const ASK_MS = 2000;
/** Entries after which a follower writes its journal anew. */
const COMPACT_AFTER = 5000;

export interface PairOptions {
  configured: 'primary' | 'standby';
  /** HTTP address of the other. */
  peer: string;
  token: string;
  clock: Clock;
  log: Log;
  journal: JournalLike;
}

/** What `server.ts` does when the pair changes hands. */
export interface PairEvents {
  /** Takes charge with the jobs of this journal. */
  onTakeOver(term: bigint, entries: readonly JournalEntry[]): void;
  /** Is no longer in charge; answers the jobs as they are, for the time until the other's journal is here. */
  onStepDown(): readonly object[];
  /** The newest generation id that any switch knows. */
  knownGeneration(): bigint;
  /** While standing by: the policy that is in force at the one in charge, as its journal has it. */
  onPolicy(doc: unknown): void;
  /** What the journal is to hold now, see `Pair.whole`. */
  whole(): object[];
}

const termEntry = (term: bigint): JournalEntry => ({ type: 'term', term: String(term) });

/** The newest term that a journal tells of; 0 where it tells of none. */
function termOf(entries: readonly JournalEntry[]): bigint {
  let term = 0n;
  for (const e of entries)
    if (e.type === 'term' && typeof e.term === 'string' && /^\d{1,20}$/.test(e.term))
      term = newest(term, BigInt(e.term));
  return term;
}

export class Pair {
  readonly #o: PairOptions;
  readonly #feed: JournalFeed;
  /** While standing by: the last entry of each thing that the journal tells of, see `subjectOf`. */
  readonly #last = new Map<string, JournalEntry>();
  /** The newest term that an agent has obeyed. */
  #heard = 0n;
  #events: PairEvents | undefined;
  #term: bigint;
  #isInCharge: boolean;
  #missed = 0;
  /** Whether the other has been heard of since this one stepped down. */
  #isInSight = true;
  #unwatch = () => {};
  #unfollow = () => {};

  private constructor(o: PairOptions, term: bigint, isInCharge: boolean) {
    this.#o = o;
    this.#term = term;
    this.#isInCharge = isInCharge;
    this.#feed = new JournalFeed(o.log);
    this.#keep(o.journal.entries);
  }

  /** Finds out who is in charge: a standby waits in any case, a primary does when the other is, or was after it. */
  static async open(o: PairOptions): Promise<Pair> {
    const term = termOf(o.journal.entries);
    if (o.configured === 'standby') return new Pair(o, term, false);
    const asking = new AbortController();
    const cancel = o.clock.after(ASK_MS, () => asking.abort());
    const peer = await askStanding(o.peer, asking.signal);
    cancel();
    const isOther = peer !== undefined && (peer.isInCharge || isNewer(peer.term, term));
    if (isOther) o.log('warn', 'controller.peerInCharge', { peer: o.peer, term: String(peer.term) });
    return new Pair(o, term, !isOther);
  }

  get isInCharge(): boolean {
    return this.#isInCharge;
  }

  /** The term that is known; 0 before the first. */
  get term(): bigint {
    return this.#term;
  }

  get role(): 'primary' | 'standby' {
    return this.#isInCharge ? 'primary' : 'standby';
  }

  get peer(): string {
    return this.#o.peer;
  }

  /** The journal as far as it was followed, while standing by. */
  get entries(): JournalEntry[] {
    return [...this.#last.values()];
  }

  /** What a journal that is written anew must hold; `own` is that of the controller in charge. */
  whole(own: () => object[]): object[] {
    return [termEntry(this.#term), ...(this.#isInCharge ? own() : this.#last.values())];
  }

  /** Begins to watch and, on standby, to follow. */
  start(events: PairEvents): void {
    this.#events = events;
    this.#unwatch = watchPeer({ url: this.#o.peer, clock: this.#o.clock, onAnswer: (a) => this.#answered(a) });
    if (!this.#isInCharge) this.#follow();
  }

  close(): void {
    this.#unwatch();
    this.#unfollow();
    this.#feed.close();
  }

  /** An entry that was put into the journal. */
  tell(entry: object): void {
    this.#feed.tell(entry);
  }

  /** Takes on a follower that was let in. */
  attach(ws: WebSocket): void {
    this.#feed.attach(ws, this.#term, this.#events?.whole() ?? []);
  }

  /** @throws FairwayError STANDBY (retryable) that names the controller to go to */
  mustBeInCharge(): void {
    if (this.#isInCharge) return;
    throw new FairwayError(
      'STANDBY',
      `this controller stands by; ${this.#o.peer} is in charge: ask there, or again when this one has taken over`,
      ['retryable'],
    );
  }

  /** The first term of a pair that has none in its journal, as `switches.ts` made it from what a switch knew. */
  settle(term: bigint): void {
    this.#term = term;
    this.#o.journal.append(termEntry(term));
    this.#feed.tell(termEntry(term));
  }

  /** An agent tells of a term in which it was led; a newer one than this controller's ends that. */
  heardTerm(term: bigint, host: string): void {
    this.#heard = newest(this.#heard, term);
    if (isNewer(term, this.#term)) this.stepDown(`the agent of ${host} was led in term ${term}`);
  }

  /** Another controller is in charge, as the other, a switch or an agent says. */
  stepDown(reason: string): void {
    if (!this.#isInCharge) return;
    this.#isInCharge = false;
    this.#missed = 0;
    // Somebody leads who was not seen by this one: that it is still not seen does not mean that it has gone.
    this.#isInSight = false;
    this.#o.log('error', 'controller.stepsDown', { reason, term: String(this.#term), peer: this.#o.peer });
    this.#feed.close();
    this.#keep((this.#events?.onStepDown() ?? []) as readonly JournalEntry[]);
    this.#follow();
  }

  #answered(peer: Standing | undefined): void {
    const me = { isInCharge: this.#isInCharge, term: this.#term, configured: this.#o.configured };
    this.#isInSight ||= peer !== undefined;
    this.#missed = !me.isInCharge && this.#isInSight && isMissed(me, peer) ? this.#missed + 1 : 0;
    switch (verdict(me, peer, this.#missed)) {
      case 'stepDown':
        this.stepDown(`${this.#o.peer} is in charge in term ${peer?.term}`);
        break;
      case 'takeOver':
        this.#o.log('warn', 'controller.primaryGone', { primary: this.#o.peer, missed: this.#missed });
        this.#takeOver();
    }
  }

  #takeOver(): void {
    const events = this.#events;
    if (events === undefined) return;
    this.#unfollow();
    this.#missed = 0;
    this.#term = nextGeneration(newest(newest(this.#term, this.#heard), events.knownGeneration()));
    this.#isInCharge = true;
    this.#o.journal.append(termEntry(this.#term));
    events.onTakeOver(this.#term, this.entries);
    this.#last.clear();
  }

  #follow(): void {
    const { peer, token, clock, log, journal } = this.#o;
    this.#unfollow = followJournal({
      url: peer,
      token,
      clock,
      log,
      accepts: (term) => !isNewer(this.#term, term),
      onWhole: (term, entries) => {
        // Who hands over its journal has been heard of, though it may be gone before it is asked how it stands.
        this.#isInSight = true;
        this.#term = newest(term, termOf(entries));
        this.#keep(entries);
        this.#compact();
      },
      onEntry: (entry) => {
        this.#term = newest(this.#term, termOf([entry]));
        this.#add(entry);
        journal.append(entry);
        if (journal.appended >= COMPACT_AFTER) this.#compact();
      },
    });
  }

  #compact(): void {
    const { journal, log } = this.#o;
    journal
      .compact(() => this.#events?.whole() ?? [])
      .catch((error) => log('error', 'journal.compact', { error: String(error) }));
  }

  #keep(entries: readonly JournalEntry[]): void {
    this.#last.clear();
    for (const e of entries) this.#add(e);
  }

  #add(entry: JournalEntry): void {
    const subject = subjectOf(entry);
    if (subject === undefined) return;
    this.#last.set(subject, entry);
    if (entry.type === 'policy' && !this.#isInCharge) this.#events?.onPolicy(entry.doc);
  }
}

/** What an entry is about: of several about one thing the last counts. Undefined for terms, which are kept apart. */
function subjectOf(entry: JournalEntry): string | undefined {
  if (entry.type === 'policy') return 'policy';
  if (entry.type === 'overlay') return typeof entry.guest === 'string' ? `overlay ${entry.guest}` : undefined;
  const job = entry.job as { id?: unknown } | null | undefined;
  return entry.type === 'job' && typeof job?.id === 'string' ? `job ${job.id}` : undefined;
}
