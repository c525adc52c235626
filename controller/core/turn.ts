/**
 * One turn of the loop: the state being built and the effects gathered while an event is worked on. It lives only inside
 * `step.ts`; its parts (`network.ts`, `jobs.ts`, `reserve.ts`) change the state through it.
 */
import type { AgentCommand } from '../../contracts/agent.ts';
import type { Reason } from '../../contracts/common.ts';
import type { Decision } from '../../contracts/feed.ts';
import type { LogLevel } from '../../contracts/log.ts';
import { type Link, linkId } from '../../topology/index.ts';
import type { Effect } from './events.ts';
import { orderKey, REPEATED } from './orders.ts';
import { NO_TRIES } from './retry.ts';
import { type ControllerState, type Job, withEntry } from './state.ts';

/** Decisions kept for readers that come later. */
const KEPT_DECISIONS = 200;

export class Turn {
  state: ControllerState;
  readonly effects: Effect[] = [];
  readonly nowMs: number;
  /** Set when slices must be worked out again in this turn. */
  reserveNow = false;
  /** Rates are as fresh as they get: counters of every switch came in this turn. */
  isSampled = false;
  readonly newDecisions: Decision[] = [];
  /**
   * Links found in this turn that are not in the topology yet, in order: a thousand of them make one new snapshot. One that
   * a later one takes the place of counts too, because no host is where it ended.
   */
  readonly #foundLinks: Link[] = [];
  /** The last found of each, by id. */
  readonly #lastFound = new Map<string, Link>();
  readonly #drafts = new Set<ReadonlyMap<unknown, unknown>>();

  constructor(state: ControllerState, nowMs: number) {
    this.state = state;
    this.nowMs = nowMs;
  }

  set(change: Partial<ControllerState>): void {
    this.state = { ...this.state, ...change };
  }

  /**
   * The map to write to in this turn: copied the first time it is asked for, so that many entries of one turn cost one copy.
   * Whoever holds the state from before the turn sees nothing of it. The caller puts it into the state.
   */
  writable<K, V>(before: ReadonlyMap<K, V>): Map<K, V> {
    if (this.#drafts.has(before)) return before as Map<K, V>;
    const copy = new Map(before);
    this.#drafts.add(copy);
    return copy;
  }

  /** As `writable`, of a map of the state, and in the state already. */
  draft<K extends 'ports' | 'linkSeen'>(
    key: K,
  ): Map<string, ControllerState[K] extends ReadonlyMap<string, infer T> ? T : never>;
  draft(key: 'ports' | 'linkSeen'): Map<string, unknown> {
    const before: ReadonlyMap<string, unknown> = this.state[key];
    const map = this.writable(before);
    if (map !== before) this.set({ [key]: map });
    return map;
  }

  /** Whether a link is known as it is, found in this turn or before. */
  hasLink(link: Link): boolean {
    const id = linkId(link.from);
    const known = this.#lastFound.get(id) ?? this.state.topology.links.get(id);
    return known !== undefined && known.to.dpid === link.to.dpid && known.to.portNo === link.to.portNo;
  }

  foundLink(link: Link): void {
    this.#foundLinks.push(link);
    this.#lastFound.set(linkId(link.from), link);
  }

  /** Puts the links that were found into the topology. True when there were any. */
  addFoundLinks(): boolean {
    if (this.#foundLinks.length === 0) return false;
    const links = this.#foundLinks.splice(0);
    this.#lastFound.clear();
    this.set({ topology: this.state.topology.withLinks(links) });
    return true;
  }

  job(id: string): Job | undefined {
    return this.state.jobs.get(id);
  }

  setJob(id: string, change: Partial<Job>): Job {
    const before = this.state.jobs.get(id);
    if (!before) throw new RangeError(`no job ${id}`);
    let next: Job = { ...before, ...change };
    if (next.state !== before.state) {
      next = { ...next, transitions: [...before.transitions, { state: next.state, atMs: this.nowMs }] };
    }
    this.set({ jobs: withEntry(this.state.jobs, id, next) });
    return next;
  }

  /**
   * Records why, in the stream of decisions and, unless `isKept` is false, in the job. Re-adjustments are kept in the job's
   * `sliceSteps` instead.
   */
  decide(kind: Decision['kind'], migration: string | null, reasons: readonly Reason[], isKept?: boolean): void {
    if (reasons.length === 0) return;
    const fresh = reasons.map((reason) => ({ atMs: this.nowMs, migration, kind, reason }));
    this.newDecisions.push(...fresh);
    this.set({ decisions: [...this.state.decisions, ...fresh].slice(-KEPT_DECISIONS) });
    const job = migration === null ? undefined : this.job(migration);
    if (job && (isKept ?? (kind !== 'reservation' || job.sliceSteps.length <= 1)))
      this.setJob(job.id, { reasons: [...job.reasons, ...reasons] });
  }

  /** Orders something of a host's agent. */
  command(host: string, migration: string, command: AgentCommand): void {
    if (REPEATED.has(command.do)) {
      const key = orderKey(host, migration, command.do);
      const orders = this.writable(this.state.orders);
      const before = orders.get(key) ?? NO_TRIES;
      orders.set(key, { ...before, host, migration, command, isUnderWay: true });
      this.set({ orders });
    }
    this.effects.push({ kind: 'command', host, migration, command });
  }

  log(level: LogLevel, event: string, fields: Record<string, unknown> = {}): void {
    this.effects.push({ kind: 'log', level, event, fields });
  }
}
