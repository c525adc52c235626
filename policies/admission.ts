/**
 * Which of the waiting migrations may start now: the acting side of step 3. Neighbours: `strategy.ts` says serial or
 * parallel, `reservation.ts` divides the links among those that run.
 *
 * The rules, exactly:
 * 1. Higher priority first; within a priority in the order of request.
 * 2. No host has more than `limits.perHostOut` migrations out of it or `limits.perHostIn` into it, nor more
 *    than its own limits allow.
 * 3. A serial migration does not start while a migration of its own or a higher priority, of whatever strategy, runs (or
 *    has just been started) on a link that it uses too. A parallel one starts beside whatever runs.
 * 4. A serial migration that rule 3 keeps waiting is not overtaken on its links: later serial ones that share a link with
 *    it wait behind it. (One that waits for a host's limit may be overtaken, or its links would lie idle.)
 * 5. A planned migration starts when its turn in the plan has come, instead of rules 3 and 4; until then no later serial
 *    one that shares a link with it overtakes it.
 */
import type { Priority, Reason, Strategy } from '../contracts/common.ts';
import { PRIORITIES } from '../contracts/common.ts';
import type { CompiledPolicy } from './document.ts';

export interface AdmissionItem {
  id: string;
  group: string | null;
  priority: Priority;
  strategy: Strategy;
  fromHost: string;
  toHost: string;
  /** Ids of the directed links of its path. */
  links: readonly string[];
  /** Of a planned one: what it waits for until its turn comes; null when it has come. Absent for others. */
  turn?: { reason: Reason; behind: readonly string[] } | null;
}

/** Most migrations at a time that a host says it sends and takes. */
export interface HostLimits {
  outgoing?: number | undefined;
  incoming?: number | undefined;
}

export interface Admission {
  /** To be started now, in this order. */
  start: string[];
  /** Why each of the others waits, and the ids of the migrations it waits for. */
  wait: { id: string; reason: Reason; behind: string[] }[];
}

const rank = (p: Priority) => PRIORITIES.indexOf(p);

/** Rules of the reasons: those of `turn`, `admission.hostOut`, `admission.hostIn`, `admission.serial`, `admission.order`. */
export function admit(
  q: { waiting: readonly AdmissionItem[]; running: readonly AdmissionItem[]; limits?: ReadonlyMap<string, HostLimits> },
  policy: CompiledPolicy,
): Admission {
  const { perHostOut, perHostIn } = policy.doc.limits;
  const running = new ByLink();
  const byHost = { from: new Map<string, AdmissionItem[]>(), to: new Map<string, AdmissionItem[]>() };
  const run = (item: AdmissionItem) => {
    running.add(item);
    listOf(byHost.from, item.fromHost).push(item);
    listOf(byHost.to, item.toHost).push(item);
  };
  for (const item of q.running) run(item);
  const heldBack = new ByLink();
  // Only those ask who waits that go by strategy.
  const isByStrategy = (i: AdmissionItem) => i.turn === undefined && i.strategy === 'serial';
  const isAsked = q.waiting.some(isByStrategy);
  const result: Admission = { start: [], wait: [] };
  // Stable: the order of request within a priority is kept.
  const waiting = [...q.waiting].sort((a, b) => rank(a.priority) - rank(b.priority));

  for (const item of waiting) {
    const hold = (rule: string, text: string, behind: AdmissionItem[], inputs: Reason['inputs'], link?: string) => {
      const reason: Reason = { rule: `admission.${rule}`, text, inputs };
      if (link !== undefined) reason.bindingLink = link;
      result.wait.push({ id: item.id, reason, behind: behind.map((b) => b.id) });
    };
    const sharesLink = (other: AdmissionItem) => item.links.find((l) => other.links.includes(l));

    if (item.turn) {
      result.wait.push({ id: item.id, reason: item.turn.reason, behind: [...item.turn.behind] });
      if (isAsked) heldBack.add(item);
      continue;
    }
    if (isByStrategy(item)) {
      const ahead = running.beside(item).filter((r) => rank(r.priority) <= rank(item.priority));
      const first = ahead[0];
      if (first !== undefined) {
        const link = sharesLink(first) as string;
        hold(
          'serial',
          `serial: ${names(ahead)} ${ahead.length === 1 ? 'runs' : 'run'} on ${link}`,
          ahead,
          { strategy: 'serial', running: ahead.length },
          link,
        );
        heldBack.add(item);
        continue;
      }
      const earlier = heldBack.beside(item);
      const next = earlier[0];
      if (next !== undefined) {
        const link = sharesLink(next) as string;
        hold(
          'order',
          `serial: ${names(earlier)} ${earlier.length === 1 ? 'comes' : 'come'} first on ${link}`,
          earlier,
          { strategy: 'serial' },
          link,
        );
        heldBack.add(item);
        continue;
      }
    }
    const out = byHost.from.get(item.fromHost) ?? [];
    const mostOut = least(perHostOut, q.limits?.get(item.fromHost)?.outgoing);
    if (out.length >= mostOut.count) {
      const inputs = { host: item.fromHost, running: out.length, perHostOut: mostOut.count };
      const most = `at most ${mostOut.count} may${mostOut.by}`;
      hold('hostOut', `${out.length} migrations leave ${item.fromHost}, ${most}`, out, inputs);
      continue;
    }
    const into = byHost.to.get(item.toHost) ?? [];
    const mostIn = least(perHostIn, q.limits?.get(item.toHost)?.incoming);
    if (into.length >= mostIn.count) {
      const inputs = { host: item.toHost, running: into.length, perHostIn: mostIn.count };
      const most = `at most ${mostIn.count} may${mostIn.by}`;
      hold('hostIn', `${into.length} migrations enter ${item.toHost}, ${most}`, into, inputs);
      continue;
    }
    result.start.push(item.id);
    run(item);
  }
  return result;
}

/** Migrations in the order in which they came, found by the links that they use. */
class ByLink {
  readonly #lists = new Map<string, { at: number; item: AdmissionItem }[]>();
  #count = 0;

  add(item: AdmissionItem): void {
    const at = this.#count++;
    for (const l of new Set(item.links)) listOf(this.#lists, l).push({ at, item });
  }

  /** Those that share a link with another one, in their order. */
  beside({ links }: AdmissionItem): AdmissionItem[] {
    const found = [...new Set(links)].flatMap((l) => this.#lists.get(l) ?? []).sort((a, b) => a.at - b.at);
    return found.filter((x, i) => x.at !== found[i - 1]?.at).map((x) => x.item);
  }
}

function listOf<T>(lists: Map<string, T[]>, key: string): T[] {
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}

function least(policy: number, host: number | undefined): { count: number; by: string } {
  return host !== undefined && host < policy
    ? { count: host, by: ", by its agent's limits" }
    : { count: policy, by: '' };
}

function names(items: readonly AdmissionItem[]): string {
  const shown = items.slice(0, 3).map((i) => i.id);
  return items.length > 3 ? `${shown.join(', ')} and ${items.length - 3} more` : shown.join(', ');
}
