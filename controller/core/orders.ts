/**
 * Orders whose doing nothing else makes sure of while their agent stays connected: to take down what a migration left, to stop a
 * copy, and to turn one. Each is remembered until it was followed; when its answer was lost, or it was refused for a cause that
 * may pass, it is given again, ever later (`retry.ts`). What an agent that comes back is told, `returns.ts` decides. `turn.ts`
 * notes orders as they go out. Part of `step.ts`; not in the journal, since agents connect anew to another controller.
 */
import type { AgentCommand } from '../../contracts/agent.ts';
import { isFinal } from '../../contracts/common.ts';
import { isOvertaken } from './disks.ts';
import type { Event } from './events.ts';
import { nextTry, type Tries } from './retry.ts';
import type { Turn } from './turn.ts';

/** An order that has not been followed yet, as far as is known. */
export interface Order extends Tries {
  host: string;
  migration: string;
  command: AgentCommand;
  /** No answer has come yet. */
  isUnderWay: boolean;
}

type Done = Extract<Event, { kind: 'commandDone' }>;

/** Refusals that say how things are, and would say so again. */
const FACTS: ReadonlySet<string> = new Set([
  ...['bad-command', 'no-driver', 'guest-unknown', 'guest-not-arrived', 'migration-running', 'migration-unknown'],
  ...['not-abandonable', 'wrong-phase'],
]);

/** An order was followed, refused, or it is not known which. */
export function onOrderDone(t: Turn, e: Done): void {
  const key = orderKey(e.host, e.migration, e.step);
  const order = t.state.orders.get(key);
  if (!order) return;
  const orders = t.writable(t.state.orders);
  t.set({ orders });
  if (e.ok || (!e.unknown && FACTS.has(e.code ?? ''))) {
    orders.delete(key);
    return;
  }
  const next = { ...order, isUnderWay: false, ...nextTry(t, order, true) };
  orders.set(key, next);
  const againInMs = next.retryAtMs - t.nowMs;
  t.log('warn', 'order.again', { host: e.host, migration: e.migration, step: e.step, error: e.error, againInMs });
}

/** What is given until it is followed (`turn.ts` notes it). */
export const REPEATED: ReadonlySet<AgentCommand['do']> = new Set<AgentCommand['do']>([
  ...(['finish', 'abandon', 'cancel', 'releaseDisks', 'switchToPostcopy', 'setDowntimeLimit'] as const),
]);

export const orderKey = (host: string, migration: string, step: AgentCommand['do']): string =>
  `${host} ${migration} ${step}`;

/** Gives orders again that are due and still meant. */
export function repeatOrders(t: Turn): void {
  for (const [key, o] of [...t.state.orders]) {
    if (o.isUnderWay || t.nowMs < o.retryAtMs || t.state.agents.get(o.host)?.connected !== true) continue;
    if (isMeant(t, o)) t.command(o.host, o.migration, o.command);
    else {
      const orders = t.writable(t.state.orders);
      orders.delete(key);
      t.set({ orders });
    }
  }
}

/** An agent came (back): what is to be taken down there is found out anew, and what else it missed it is told at once. */
export function ordersOf(t: Turn, host: string): void {
  if (t.state.orders.size === 0) return;
  const orders = t.writable(t.state.orders);
  for (const [key, o] of [...orders]) {
    if (o.host !== host) continue;
    const isFoundAnew = ['finish', 'abandon', 'cancel'].includes(o.command.do);
    if (isFoundAnew) orders.delete(key);
    else orders.set(key, { ...o, isUnderWay: false, retryAtMs: t.nowMs });
  }
  t.set({ orders });
}

function isMeant(t: Turn, o: Order): boolean {
  const job = t.job(o.migration);
  switch (o.command.do) {
    case 'finish':
      return !job || isFinal(job.state) || job.state === 'draining';
    case 'cancel':
      return !job || isFinal(job.state) || job.cancelling;
    // It may have been queued again meanwhile, and prepared anew.
    case 'abandon':
      return !job || job.state === 'queued' || (isFinal(job.state) && !job.resumed);
    case 'releaseDisks':
      return job !== undefined && (job.state === 'queued' || isFinal(job.state)) && !isOvertaken(t, job);
    default:
      return job?.state === 'copying' && job.progress?.phase === 'pre-copy';
  }
}
