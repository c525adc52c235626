/**
 * The migrations a real hypervisor's driver has a part in: the state of each (`core/source.ts`, `core/destination.ts`), what
 * was reported of it, its actions in order, its polls, and a file below the run directory that a restarted agent reads.
 * `qemuDriver.ts` and `libvirtDriver.ts` say how actions are carried out.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { CopyProgress } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';
import {
  type DestinationAction,
  type DestinationEvent,
  type DestinationState,
  stepDestination,
} from '../core/destination.ts';
import type { DriverReport, EventMessage, MigrationDriver, OngoingMigration } from '../core/driver.ts';
import type { MigrateInfo } from '../core/progress.ts';
import { stepSource } from '../core/source.ts';
import { isEnded, type SourceAction, type SourceEvent, type SourceState } from '../core/sourceState.ts';
import { writeAtomically } from './guestProcess.ts';

export interface Job {
  readonly id: string;
  readonly guest: string;
  state: SourceState | DestinationState;
  readonly events: EventMessage[];
  /** Actions are carried out one after another, in the order decided. */
  queue: Promise<void>;
  stopPolling: () => void;
  polling: boolean;
  /** What is on disk. */
  written: string;
}

export interface JobBookOptions {
  host: string;
  runDir: string;
  clock: Clock;
  log: Log;
  report(message: DriverReport): void;
  doSource(job: Job, action: SourceAction): Promise<void>;
  doDestination(job: Job, action: DestinationAction): Promise<void>;
  /** How the copy stands; undefined when there is nobody to ask. */
  query(job: Job): Promise<MigrateInfo | undefined>;
  /** When the guest last stopped and began to run here, as far as that was seen, by this host's clock. */
  momentsOf?(guest: string): Pick<EventMessage, 'stoppedAtMs' | 'resumedAtMs'>;
  /** The guest has left: what is here of it is a husk. */
  onDeparted(guest: string): void;
  /** The migration is history. */
  onForgotten?(id: string): void;
}

export interface JobBook {
  all(): Job[];
  get(id: string): Job | undefined;
  /** The latest of a guest: an ended job may wait for its `finish` while the guest is already on its next journey. */
  ofGuest(name: string): Job | undefined;
  /** @throws FairwayError `migration-unknown` when this host is not its source. */
  source(id: string): Job & { state: SourceState };
  /** @throws FairwayError `migration-unknown` when this host is not its destination. */
  destination(id: string): Job & { state: DestinationState };
  /** @throws FairwayError `guest-busy` while a copy of the guest runs from here. */
  checkIdle(guest: string): void;
  /** The job to be finished, if it may be; undefined when it is forgotten already. @throws FairwayError (conflict). */
  finishable(id: string): Job | undefined;
  /** The destination's job to be abandoned, if it may be. @throws FairwayError `not-abandonable`. */
  abandonable(id: string): Job | undefined;
  add(id: string, guest: string, state: Job['state']): Job;
  forget(job: Job): void;
  /** Forgets all that is known of a guest's past. */
  forgetGuest(guest: string): void;
  /**
   * One step of the source's machine. Reports go out at once; actions are queued. The promise follows this event's own
   * actions, so that a command can be answered with what became of it.
   */
  feedSource(job: Job, event: SourceEvent): Promise<void>;
  feedDestination(job: Job, event: DestinationEvent): Promise<void>;
  /** Feeding from inside an action, or from where nobody waits: must not wait for the queue that the action itself is in. */
  follow(job: Job, event: SourceEvent): void;
  followDestination(job: Job, event: DestinationEvent): void;
  begin(job: Job, actions: readonly SourceAction[]): Promise<void>;
  beginDestination(job: Job, actions: readonly DestinationAction[]): Promise<void>;
  /** Resolves when the job's machine has left its opening steps, i.e. when nothing is queued and nothing follows. */
  settled(job: Job): Promise<void>;
  /** Looks at the copy at each period until it ends. */
  poll(job: Job): void;
  /** Jobs that a previous agent left on disk, as they were. Called first: it makes the book's folder. */
  read(): Job[];
  /** The part of a driver that is the same for all who keep a book. */
  readonly commands: Pick<
    MigrationDriver,
    | 'migrations'
    | 'pastEvents'
    | 'setProgressPeriod'
    | 'setBandwidth'
    | 'setDowntimeLimit'
    | 'switchToPostcopy'
    | 'continueSwitchover'
    | 'cancel'
  >;
  close(): void;
}

/** Reads a state back from disk: trusted to be ours, checked to be whole. */
const savedJob = z.object({
  id: z.string(),
  guest: z.string(),
  state: z.looseObject({ role: z.enum(['source', 'destination']), phase: z.string() }),
  events: z.array(z.looseObject({ type: z.literal('event') })),
});

/** True before the copy itself has been ordered. */
export function isStarting(phase: Job['state']['phase']): boolean {
  return phase === 'capabilities' || phase === 'parameters' || phase === 'stopping' || phase === 'starting';
}

const isAboutStream = (e: EventMessage): boolean => e.event === 'postcopyPaused' || e.event === 'postcopyRecovered';

/** An empty book. */
export function createJobBook(options: JobBookOptions): JobBook {
  const { host, clock, log, report } = options;
  const folder = join(options.runDir, 'migrations');
  const jobs = new Map<string, Job>();
  let periodMs = 500;
  let closed = false;

  const fileOf = (id: string) => join(folder, `${id}.json`);
  const logged = (job: Job) => (error: unknown) => log('warn', 'migration-step', { migration: job.id, error });

  function save(job: Job): void {
    // Figures change all the time and are asked for again after a restart: only the rest is worth a write.
    const state = job.state.role === 'source' ? { ...job.state, progress: null, pace: null, moved: null } : job.state;
    const text = JSON.stringify({ id: job.id, guest: job.guest, state, events: job.events });
    if (text === job.written) return;
    writeAtomically(fileOf(job.id), text);
    job.written = text;
  }

  function forget(job: Job): void {
    job.stopPolling();
    jobs.delete(job.id);
    rmSync(fileOf(job.id), { force: true });
    options.onForgotten?.(job.id);
  }

  function make(id: string, guest: string, state: Job['state'], events: EventMessage[], written: string): Job {
    const job: Job = {
      id,
      guest,
      state,
      events,
      queue: Promise.resolve(),
      stopPolling: () => {},
      polling: false,
      written,
    };
    jobs.set(id, job);
    return job;
  }

  function tell(job: Job, message: EventMessage): void {
    // What is told again after a reconnect must not break off what has long been mended: of these only the last counts.
    if (isAboutStream(message)) job.events.splice(0, job.events.length, ...job.events.filter((e) => !isAboutStream(e)));
    const stamped = { ...message, ...momentsFor(job, message) };
    job.events.push(stamped);
    const { event, reason } = message;
    log('info', 'migration-event', { migration: job.id, guest: job.guest, what: event, reason });
    report(stamped);
  }

  /** The source says since when the guest stands still, the destination since when it runs. */
  function momentsFor(job: Job, { event }: EventMessage): Pick<EventMessage, 'stoppedAtMs' | 'resumedAtMs'> {
    const { stoppedAtMs, resumedAtMs } = options.momentsOf?.(job.guest) ?? {};
    if (job.state.role === 'destination')
      return event === 'resumed' && resumedAtMs !== undefined ? { resumedAtMs } : {};
    const isStopped = event === 'preSwitchover' || event === 'postcopyStarted' || event === 'completed';
    const isOfThisCopy = stoppedAtMs !== undefined && stoppedAtMs >= job.state.startedMs;
    return isStopped && isOfThisCopy ? { stoppedAtMs } : {};
  }

  function carryOut<A extends SourceAction | DestinationAction>(
    job: Job,
    actions: readonly A[],
    act: (job: Job, action: A) => Promise<void>,
  ): Promise<void> {
    for (const a of actions) {
      if (a.do === 'event') tell(job, a.message);
      else if (a.do === 'progress') report({ type: 'progress', migration: job.id, progress: a.progress });
    }
    try {
      if (jobs.get(job.id) === job) save(job);
    } catch (error) {
      // The copy goes on; an agent restarted before there is room again finds it as it was, and asks the hypervisor.
      log('error', 'migration-unwritten', { migration: job.id, error });
    }
    if (job.state.role === 'source' && isEnded(job.state.phase)) {
      job.stopPolling();
      if (job.state.phase === 'completed') options.onDeparted(job.guest);
    }
    const todo = actions.filter((a) => a.do !== 'event' && a.do !== 'progress');
    if (todo.length === 0) return Promise.resolve();
    const mine = job.queue.then(async () => {
      for (const action of todo) await act(job, action);
    });
    job.queue = mine.catch(() => undefined);
    return mine;
  }

  function feedSource(job: Job, event: SourceEvent): Promise<void> {
    if (job.state.role !== 'source') return Promise.resolve();
    const result = stepSource(job.state, event, clock.now());
    if (result.refused !== undefined) {
      return Promise.reject(new FairwayError(result.refused.code, result.refused.message, ['conflict']));
    }
    job.state = result.state;
    return carryOut(job, result.actions, options.doSource);
  }

  function feedDestination(job: Job, event: DestinationEvent): Promise<void> {
    if (job.state.role !== 'destination') return Promise.resolve();
    const result = stepDestination(job.state, event);
    job.state = result.state;
    return carryOut(job, result.actions, options.doDestination);
  }

  function poll(job: Job): void {
    job.stopPolling();
    if (closed || (job.state.role === 'source' && isEnded(job.state.phase))) return;
    job.stopPolling = clock.every(periodMs, () => {
      if (job.polling) return;
      job.polling = true;
      options
        .query(job)
        .then((info) => (info === undefined ? undefined : feedSource(job, { type: 'status', info })))
        .catch(logged(job))
        .finally(() => {
          job.polling = false;
        });
    });
  }

  function part<R extends Job['state']['role']>(
    id: string,
    role: R,
  ): Job & { state: Extract<Job['state'], { role: R }> } {
    const job = jobs.get(id);
    if (job?.state.role === role) return job as Job & { state: Extract<Job['state'], { role: R }> };
    throw new FairwayError('migration-unknown', `${host} is not the ${role} of migration ${id}`, ['notFound']);
  }
  const source = (id: string) => part(id, 'source');

  return {
    all: () => [...jobs.values()],
    get: (id) => jobs.get(id),
    ofGuest: (name) => [...jobs.values()].filter((j) => j.guest === name).at(-1),
    source,
    destination: (id) => part(id, 'destination'),
    checkIdle(guest) {
      const busy = [...jobs.values()].find(
        (j) => j.guest === guest && j.state.role === 'source' && !isEnded(j.state.phase),
      );
      if (busy === undefined) return;
      const text = `guest ${guest} is already being copied by migration ${busy.id}`;
      throw new FairwayError('guest-busy', text, ['conflict']);
    },
    finishable(id) {
      const job = jobs.get(id);
      if (job?.state.role === 'source' && !isEnded(job.state.phase)) {
        throw new FairwayError('migration-running', `migration ${id} is still ${job.state.phase}`, ['conflict']);
      }
      if (job?.state.role === 'destination' && !job.state.guestRan) {
        const text = `the guest of migration ${id} has not run here yet`;
        throw new FairwayError('guest-not-arrived', text, ['conflict']);
      }
      return job;
    },
    abandonable(id) {
      const job = jobs.get(id);
      if (job !== undefined && (job.state.role === 'source' || job.state.guestRan)) {
        const why = job.state.role === 'source' ? 'this is the source' : 'the guest has run here';
        throw new FairwayError('not-abandonable', `migration ${id} cannot be abandoned: ${why}`, ['conflict']);
      }
      return job;
    },
    add(id, guest, state) {
      const job = make(id, guest, state, [], '');
      try {
        save(job);
      } catch (error) {
        forget(job);
        throw error;
      }
      return job;
    },
    forget,
    forgetGuest(guest) {
      for (const job of [...jobs.values()].filter((j) => j.guest === guest)) forget(job);
    },
    feedSource,
    feedDestination,
    follow(job, event) {
      feedSource(job, event).catch(logged(job));
    },
    followDestination(job, event) {
      feedDestination(job, event).catch(logged(job));
    },
    begin: (job, actions) => carryOut(job, actions, options.doSource),
    beginDestination: (job, actions) => carryOut(job, actions, options.doDestination),
    async settled(job) {
      let seen: Promise<void> | undefined;
      while (seen !== job.queue) {
        seen = job.queue;
        await seen;
      }
    },
    poll,
    read() {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const found: Job[] = [];
      for (const file of readdirSync(folder).filter((f) => f.endsWith('.json'))) {
        try {
          const text = readFileSync(join(folder, file), 'utf8');
          const saved = savedJob.parse(JSON.parse(text));
          const state = saved.state as unknown as Job['state'];
          found.push(make(saved.id, saved.guest, state, saved.events as unknown as EventMessage[], text));
        } catch (error) {
          log('error', 'migration-unreadable', { file, error });
        }
      }
      return found;
    },
    commands: {
      migrations: () =>
        [...jobs.values()].map((j): OngoingMigration => {
          const progress: CopyProgress | null = j.state.role === 'source' ? j.state.progress : null;
          return { migration: j.id, guest: j.guest, role: j.state.role, ...(progress === null ? {} : { progress }) };
        }),
      pastEvents: () => [...jobs.values()].flatMap((j) => j.events),
      setProgressPeriod(ms) {
        if (ms === periodMs) return;
        periodMs = ms;
        for (const job of jobs.values()) {
          if (job.state.role === 'source' && !isStarting(job.state.phase)) poll(job);
        }
      },
      async setBandwidth({ migration, bandwidthBps, switchoverBps }) {
        const more = switchoverBps === undefined ? {} : { switchoverBps };
        await feedSource(source(migration), { type: 'setBandwidth', bandwidthBps, ...more });
      },
      async setDowntimeLimit({ migration, downtimeLimitMs }) {
        await feedSource(source(migration), { type: 'setDowntimeLimit', downtimeLimitMs });
      },
      async switchToPostcopy(migration) {
        await feedSource(source(migration), { type: 'switchToPostcopy' });
      },
      async continueSwitchover(migration) {
        await feedSource(source(migration), { type: 'continueSwitchover' });
      },
      async cancel(migration) {
        await feedSource(source(migration), { type: 'cancel' });
      },
    },
    close() {
      closed = true;
      for (const job of jobs.values()) job.stopPolling();
    },
  };
}
