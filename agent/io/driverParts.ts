/**
 * What the drivers of real guests do alike around the book of their migrations (`jobBook.ts`): the commands that begin a copy at
 * either end, and that take a broken one up again. `qemuDriver.ts` and `libvirtDriver.ts` are made of these parts.
 */
import type { AgentCommandOf, GuestInfo } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { DestinationState } from '../core/destination.ts';
import type { MigrationDriver, PreparedDestination } from '../core/driver.ts';
import { startSource } from '../core/source.ts';
import type { SourceEvent, SourceResult } from '../core/sourceState.ts';
import { isStarting, type Job, type JobBook } from './jobBook.ts';
import { freePorts, pathAnswers } from './migrationPorts.ts';

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
export const wait = (clock: Clock, ms: number): Promise<void> =>
  new Promise<void>((resolve) => void clock.after(ms, resolve));

/** A hypervisor lets go of a stream as soon as it is told so. */
const PAUSE_TRIES = 250;
const PAUSE_STEP_MS = 20;

/** `prepare` as drivers answer it: the same order again, be it while it is still being carried out, has the same answer. */
export function createPrepare(
  book: JobBook,
  prepared: (job: Job) => PreparedDestination,
  prepareNew: (command: AgentCommandOf<'prepare'>) => Promise<PreparedDestination>,
): MigrationDriver['prepare'] {
  const preparing = new Map<string, Promise<PreparedDestination>>();
  return async (command) => {
    const same = preparing.get(command.migration);
    if (same !== undefined) return same;
    const known = book.get(command.migration);
    if (known !== undefined) return prepared(known);
    const promise = prepareNew(command);
    preparing.set(command.migration, promise);
    try {
      return await promise;
    } finally {
      preparing.delete(command.migration);
    }
  };
}

/** A destination that waits or has received. @throws FairwayError `prepare-failed` for any other. */
export function preparedState(job: Job): DestinationState {
  const { state } = job;
  if (state.role === 'destination' && state.phase !== 'failed') return state;
  const why = state.role === 'destination' ? (state.reason ?? 'unknown') : 'it is the source here';
  throw new FairwayError('prepare-failed', `migration ${job.id} cannot be prepared: ${why}`);
}

/** The guest, if a copy of it may begin now. @throws FairwayError `guest-not-running` or `guest-busy`. */
export function startable<G extends Pick<GuestInfo, 'state'>>(
  book: JobBook,
  name: string,
  guest: G | undefined,
  host: string,
): G {
  book.checkIdle(name);
  if (guest?.state === 'running') return guest;
  const text = `guest ${name} does not run on ${host}${guest === undefined ? '' : ` (it is ${guest.state})`}`;
  throw new FairwayError('guest-not-running', text, ['notFound']);
}

export interface StartParts {
  /** Refuses what cannot be done, before anything moves. Not asked about a copy that is known already. */
  check(): Promise<void>;
  /** Refuses a guest that cannot be copied now; asked last. */
  startable(): unknown;
  first?(command: AgentCommandOf<'start'>, nowMs: number): SourceResult;
  /** The copy is in the book, and nothing has been done yet. */
  onAdded?(job: Job): void;
}

/**
 * `start` as drivers answer it: resolves once the copy has begun.
 *
 * @throws FairwayError `start-failed` with the reason, and what the checks throw.
 */
export async function startCopy(
  book: JobBook,
  command: AgentCommandOf<'start'>,
  clock: Clock,
  parts: StartParts,
): Promise<void> {
  if (book.get(command.migration) === undefined) await parts.check();
  let job: Job | undefined = book.get(command.migration) && book.source(command.migration);
  if (job === undefined) {
    parts.startable();
    // It runs here, so what brought it or failed to take it away is over.
    book.forgetGuest(command.guest);
    const first = (parts.first ?? startSource)(command, clock.now());
    job = book.add(command.migration, command.guest, first.state);
    parts.onAdded?.(job);
    await book.begin(job, first.actions);
  }
  await book.settled(job);
  if (job.state.role !== 'source' || job.state.phase !== 'failed') return;
  const reason = job.events.at(-1)?.reason ?? 'no reason given';
  throw new FairwayError('start-failed', `migration ${job.id} did not start: ${reason}`);
}

/** Carries out a step of the source and tells its machine what became of it. A step of the beginning may fail, and ends it. */
export async function answerSource(
  book: JobBook,
  job: Job,
  to: Extract<SourceEvent, { type: 'reply' }>['to'],
  work: () => Promise<unknown>,
): Promise<void> {
  const starting = isStarting(job.state.phase);
  try {
    await work();
  } catch (error) {
    book.follow(job, { type: 'reply', to, error: messageOf(error) });
    if (!starting) throw error;
    return;
  }
  book.follow(job, { type: 'reply', to });
}

/** Ports that nobody listens at and that no migration has been given. */
export function portsFor(
  book: JobBook,
  { migrationIp, incomingPorts }: Pick<AgentConfig, 'migrationIp' | 'incomingPorts'>,
): Promise<number[]> {
  const taken = book.all().flatMap(({ state }) => {
    if (state.role !== 'destination') return [];
    const { port, againPort, diskPort } = state;
    return [port, againPort ?? 0, diskPort ?? 0];
  });
  return freePorts(migrationIp ?? '127.0.0.1', incomingPorts, new Set(taken));
}

/** @throws FairwayError `no-port` (retryable) when fewer than `least` are free. */
export function checkPorts(
  ports: readonly number[],
  least: number,
  { host, migrationIp, incomingPorts }: Pick<AgentConfig, 'host' | 'migrationIp' | 'incomingPorts'>,
): void {
  if (ports.length >= least) return;
  const what = ports.length === 0 ? 'none' : 'too few';
  const text = `${what} of the ports ${incomingPorts.join(' to ')} of ${migrationIp ?? '127.0.0.1'} is free for an incoming migration: free one, or widen incomingPorts in the configuration of the agent of ${host}`;
  throw new FairwayError('no-port', text, ['retryable']);
}

/**
 * `recoverIncoming`: waits until the hypervisor has let go of the broken stream and listens anew, or is ready to.
 *
 * @throws FairwayError `not-recoverable` (retryable) with the reason.
 */
export async function listenAnew(
  book: JobBook,
  migration: string,
  config: Pick<AgentConfig, 'host' | 'migrationIp' | 'incomingPorts'>,
  clock: Clock,
): Promise<{ job: Job; port: number }> {
  const job = book.destination(migration);
  await book.feedDestination(job, { type: 'recover', ports: await portsFor(book, config) });
  for (let tries = 0; tries < PAUSE_TRIES && job.state.recoverPending; tries++) await wait(clock, PAUSE_STEP_MS);
  await book.settled(job);
  const { phase, againPort, reason } = job.state;
  if (phase === 'listeningAgain' && againPort !== null) return { job, port: againPort };
  const text = `migration ${migration} cannot be taken up again at ${config.host}: ${reason ?? `it is ${phase}`}`;
  throw new FairwayError('not-recoverable', text, ['retryable', 'conflict']);
}

/** An answer from the other host takes a round trip; a second is many of them, also on a busy machine. */
const PATH_MS = 1000;

/**
 * Before a broken copy is taken up: a hypervisor would wait minutes for an answer, and could not be stopped meanwhile. Asked at
 * the port of the first stream, where nobody listens any more.
 *
 * @throws FairwayError `path-down` (retryable) when no answer comes.
 */
export async function checkPath(
  { address, port }: Pick<AgentCommandOf<'start'>, 'address' | 'port'>,
  { host, migrationIp }: Pick<AgentConfig, 'host' | 'migrationIp'>,
): Promise<void> {
  if (await pathAnswers(address, port, migrationIp, PATH_MS)) return;
  const text = `${address} does not answer ${host} within ${PATH_MS} ms: the path between the hosts is still cut`;
  throw new FairwayError('path-down', text, ['retryable']);
}

/**
 * Waits `seconds`, then for the hypervisor to say how much was dirtied. It rounds down to whole MiB/s: the middle of what it may
 * have been is the better estimate.
 *
 * @param ask answers MiB/s once they are measured
 * @throws FairwayError `dirty-rate` (retryable) when it does not finish.
 */
export async function dirtyRateAfter(
  seconds: number,
  ask: () => Promise<number | undefined>,
  clock: Clock,
  who: string,
): Promise<{ dirtyBytesPerS: number }> {
  for (let tries = 0; tries < 200; tries++) {
    await wait(clock, tries === 0 ? seconds * 1000 : 50);
    const mibPerS = await ask();
    if (mibPerS !== undefined && mibPerS >= 0)
      return { dirtyBytesPerS: mibPerS === 0 ? 0 : (mibPerS + 0.5) * 1024 * 1024 };
  }
  throw new FairwayError('dirty-rate', `${who} did not finish measuring`, ['retryable']);
}
