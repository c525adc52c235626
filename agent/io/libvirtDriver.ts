/**
 * The migration driver for guests that libvirt runs. It makes and ends no guest: the domains are the operator's, and a
 * definition is as it was when it has moved. What to do next is decided by the same machines as for QEMU
 * (`core/source.ts`, `core/destination.ts`); this file says it in `virsh` commands (`core/libvirt.ts`), and feeds libvirt's
 * events and job statistics back.
 *
 * libvirt uses QEMU's pause-before-switchover for itself and lets nobody wait in it. A held copy is therefore held while
 * the guest runs: a post-copy by not being told to begin, a pre-copy by a downtime limit of 1 ms on a path said to carry no
 * more than a fraction of a page in it, so that only a guest that wrote nothing since the last look at it is not held; a
 * quiet one may be that. `preSwitchover` then means that the copy could switch over now, or does. A stop-and-copy is not held, since its guest stands still anyway.
 */
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Abilities, AgentCommandOf, GuestInfo, GuestSpec, Stream } from '../../contracts/agent.ts';
import { guestSpecSchema } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError, nameSchema } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { Log } from '../../contracts/log.ts';
import { backoffMs } from '../core/backoff.ts';
import { type DestinationState, prepareDestination } from '../core/destination.ts';
import type { DriverReport, MigrationDriver, PreparedDestination } from '../core/driver.ts';
import {
  createEventReader,
  DEFINITION,
  type LibvirtEvent,
  libvirtAbilities,
  migrateArguments,
  parsePairs,
  readDefinition,
  statsToInfo,
  wholeMibPerS,
} from '../core/libvirt.ts';
import type { MigrateInfo } from '../core/progress.ts';
import {
  isEnded,
  paceParameters,
  type SourceAction,
  type SourceEvent,
  type SourceState,
  startSource,
} from '../core/source.ts';
import { checkOrder, hasOneConnection } from '../core/techniques.ts';
import { createJobBook, isStarting, type Job, type JobBook } from './jobBook.ts';
import { anyStream, findConnection, freePorts } from './migrationPorts.ts';
import { createVirsh } from './virsh.ts';

export interface LibvirtDriverOptions {
  config: Pick<AgentConfig, 'host' | 'migrationIp' | 'runDir' | 'incomingPorts' | 'libvirt'>;
  clock: Clock;
  log: Log;
}

interface Guest {
  spec: GuestSpec;
  state: GuestInfo['state'];
  portName: string;
}

/** What a copy's limits were before, to be put back if the guest stays. */
interface Limits {
  downtimeMs: string;
  speedMibPerS: string;
}

const HELD_DOWNTIME_MS = 1;
const HELD_SWITCHOVER_BYTES_PER_S = 1000;
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** How long the events of a copy that ended may lag behind its end. */
const EVENT_WAIT_MS = 2000;
const EVENT_POLL_MS = 20;

/** A driver of libvirt's guests. `open()` finds those that run. */
export function createLibvirtDriver({ config, clock, log }: LibvirtDriverOptions): MigrationDriver {
  const { libvirt, runDir } = config;
  const virsh = createVirsh(libvirt.uri, libvirt.virsh);
  const guests = new Map<string, Guest>();
  const limits = new Map<string, Limits>();
  const preparing = new Map<string, Promise<PreparedDestination>>();
  let reader = createEventReader();
  let abilities: Abilities | undefined;
  let switchoverBandwidth = false;
  let report: (message: DriverReport) => void = () => {};
  let closed = false;
  let stopListening: () => void = () => {};
  let listenAttempt = 0;
  /** One look at a domain at a time, so that an old answer never follows a newer one. */
  const looking = new Map<string, Promise<void>>();
  /** Events heard of each domain: an answer that was on its way meanwhile may be of before. */
  const heard = new Map<string, number>();

  const book: JobBook = createJobBook({
    host: config.host,
    runDir,
    clock,
    log,
    report: (message) => {
      if (!closed) report(message);
    },
    doSource: (job, action) => doSource(job, action),
    // libvirt prepares, receives and starts by itself.
    doDestination: () => Promise.resolve(),
    query: (job) => look(job),
    onDeparted: (name) => setState(name, 'stopped'),
  });

  // ---- guests ----

  const listGuests = (): GuestInfo[] => [...guests.values()].map((g) => ({ ...g }));
  const tellGuests = (): void => {
    if (!closed) report({ type: 'guests', guests: listGuests() });
  };
  function setState(name: string, state: GuestInfo['state']): void {
    const g = guests.get(name);
    if (g === undefined || g.state === state) return;
    g.state = state;
    tellGuests();
  }
  function removeGuest(name: string): void {
    if (guests.delete(name)) tellGuests();
  }

  /** Waits for its copy: a domain that libvirt has started for it, and that has not run here. */
  const isIncoming = (name: string): boolean => {
    const state = book.ofGuest(name)?.state;
    return state?.role === 'destination' && !state.guestRan;
  };

  function refresh(name: string): Promise<void> {
    const before = looking.get(name) ?? Promise.resolve();
    const mine = before
      .then(() => refreshNow(name))
      .catch((error: unknown) => {
        log('warn', 'guest-unreadable', { guest: name, error });
      });
    looking.set(name, mine);
    return mine;
  }

  async function refreshNow(name: string): Promise<void> {
    const heardBefore = heard.get(name);
    if (closed || !nameSchema.safeParse(name).success) return;
    const domain = ['--domain', name];
    const waiting = book.ofGuest(name)?.state;
    if (waiting?.role === 'destination' && !waiting.guestRan) {
      // libvirt gives no definition out while a copy comes in; what the machine will be is known.
      const here = await stateOf(name);
      if (heard.get(name) !== heardBefore) return refreshNow(name);
      if (here === undefined || here === 'shut off') return gone(name);
      guests.set(name, { spec: waiting.command.guest, state: 'incoming', portName: '' });
      return tellGuests();
    }
    const answers = await virsh
      .runAll([
        ['domstate', ...domain],
        ['dumpxml', ...domain, '--xpath', DEFINITION],
        ['domiflist', ...domain],
      ])
      .catch((error: unknown) => {
        if (error instanceof FairwayError && error.code === 'guest-unknown') return [];
        throw error;
      });
    if (heard.get(name) !== heardBefore) return refreshNow(name);
    const [state = '', definition = '', cards = ''] = answers;
    if (state === '' || state === 'shut off' || state === 'crashed') return gone(name);
    const spec = guestSpecSchema.safeParse({ name, ...readDefinition(definition, cards) });
    if (!spec.success) {
      const reason = 'it has no network card, or its definition was not understood';
      log('warn', 'guest-left-out', { guest: name, reason });
      return;
    }
    const { portName } = readDefinition(definition, cards);
    const now = state === 'running' || state === 'idle' ? 'running' : 'paused';
    guests.set(name, { spec: spec.data, state: now, portName });
    tellGuests();
  }

  /** The domain does not run here any more. */
  function gone(name: string): void {
    removeGuest(name);
    const job = book.ofGuest(name);
    if (job?.state.role === 'destination' && !job.state.guestRan && job.state.phase !== 'failed') {
      book.followDestination(job, { type: 'lost', reason: 'libvirt removed the machine that waited for its copy' });
    }
  }

  // ---- events ----

  function onEvent(e: LibvirtEvent): void {
    const job = book.ofGuest(e.domain);
    if (e.event === 'lifecycle') heard.set(e.domain, (heard.get(e.domain) ?? 0) + 1);
    if (e.event === 'migration-iteration') {
      if (job?.state.role === 'source') book.follow(job, { type: 'pass', pass: e.iteration });
      return;
    }
    switch (e.what) {
      case 'Started':
        void refresh(e.domain);
        break;
      case 'Suspended':
        if (!isIncoming(e.domain)) setState(e.domain, 'paused');
        if (job?.state.role === 'source') onSourceStopped(job, e.why);
        break;
      case 'Resumed':
        if (job?.state.role === 'destination') {
          book.followDestination(job, { type: 'running' });
          // "Resumed Post-copy" is the beginning, "Resumed Migrated" the end.
          if (e.why === 'Migrated') book.followDestination(job, { type: 'status', status: 'completed' });
        }
        setState(e.domain, 'running');
        // Its network card has a name now.
        if ((guests.get(e.domain)?.portName ?? '') === '') void refresh(e.domain);
        break;
      case 'Stopped':
      case 'Crashed':
        void refresh(e.domain);
        break;
      default:
        break;
    }
  }

  function onSourceStopped(job: Job, why: string): void {
    if (job.state.role !== 'source') return;
    const status = (name: string) => book.follow(job, { type: 'status', info: { status: name } });
    if (why === 'Post-copy') status('postcopy-active');
    // A stop-and-copy stops its guest at the beginning.
    else if (why === 'Migrated' && job.state.command.technique !== 'stop-and-copy') {
      tellSwitching(job);
      status('device');
    }
  }

  /**
   * A guest that writes nothing may slip through the hold, even before `virsh` has told that the copy began: the controller
   * hears of its switch-over all the same, since it waits for that.
   */
  function tellSwitching(job: Job): void {
    const { command, phase } = sourceState(job);
    const early = phase === 'starting' || phase === 'setup' || phase === 'active';
    if (command.pauseBeforeSwitchover && early) {
      book.follow(job, { type: 'status', info: { status: 'pre-switchover' } });
    }
  }

  function listen(): void {
    if (closed) return;
    reader = createEventReader();
    const child = virsh.listen(
      (text) => {
        for (const e of reader.push(text)) onEvent(e);
      },
      (why) => {
        if (closed) return;
        const waitMs = backoffMs(listenAttempt++, Math.random());
        log('warn', 'libvirt-lost', { uri: libvirt.uri, reason: why, retryInMs: Math.round(waitMs) });
        stopListening = clock.after(waitMs, () => {
          listen();
          resync().catch((error: unknown) => log('warn', 'libvirt-unreachable', { error }));
        });
      },
    );
    stopListening = () => child.kill();
  }

  /** Whatever happened while nobody listened. */
  async function resync(): Promise<void> {
    const names = (await virsh.run(['list', '--name']))
      .split('\n')
      .map((n) => n.trim())
      .filter((n) => n !== '');
    listenAttempt = 0;
    for (const name of guests.keys()) if (!names.includes(name)) gone(name);
    await Promise.all(names.map(refresh));
    for (const job of book.all()) {
      const { state } = job;
      if (state.role !== 'destination' || state.guestRan) continue;
      const domState = await stateOf(job.guest);
      if (domState === 'running') {
        book.followDestination(job, { type: 'running' });
        setState(job.guest, 'running');
      }
    }
  }

  /** `running`, `paused`, …, or undefined for a domain that is not here. */
  async function stateOf(name: string): Promise<string | undefined> {
    try {
      return (await virsh.run(['domstate', '--domain', name])).trim();
    } catch (error) {
      if (error instanceof FairwayError && error.code === 'guest-unknown') return undefined;
      throw error;
    }
  }

  // ---- the source's part ----

  const fileOf = (job: Job, kind: 'out' | 'status') => join(runDir, 'migrations', `${job.id}.${kind}`);
  const virshStatus = (job: Job): number | undefined => {
    const path = fileOf(job, 'status');
    return existsSync(path) ? Number(readFileSync(path, 'utf8')) : undefined;
  };
  function forget(job: Job): void {
    book.forget(job);
    for (const kind of ['out', 'status'] as const) rmSync(fileOf(job, kind), { force: true });
  }
  const sourceState = (job: Job): SourceState => {
    if (job.state.role !== 'source') throw new FairwayError('migration-unknown', `${job.id} does not start here`);
    return job.state;
  };
  const isHeld = (s: SourceState): boolean =>
    s.command.pauseBeforeSwitchover &&
    s.command.technique !== 'stop-and-copy' &&
    s.phase !== 'device' &&
    s.phase !== 'postcopy';

  /** What is known of the copy now. Found ended, its end is fed and nothing answered. */
  async function look(job: Job): Promise<MigrateInfo | undefined> {
    const s = sourceState(job);
    if (isStarting(s.phase) || isEnded(s.phase)) return undefined;
    const code = virshStatus(job);
    if (code !== undefined) {
      tellSwitching(job);
      return endOf(job, code);
    }
    const stats = parsePairs(await virsh.run(['domjobinfo', '--domain', job.guest, '--rawstats']).catch(() => ''));
    const type = Number(stats['Job type'] ?? 0);
    if (type === 0 || job.state.phase !== s.phase) return undefined;
    const info = statsToInfo(stats, s.postcopyStarted ? 'postcopy-active' : 'active');
    if (info !== undefined && couldSwitch(s, info))
      book.follow(job, { type: 'status', info: { ...info, status: 'pre-switchover' } });
    return info;
  }

  /** A held copy would switch over now, were it not held. */
  function couldSwitch(s: SourceState, info: MigrateInfo): boolean {
    if (s.phase !== 'active' || !s.command.pauseBeforeSwitchover) return false;
    const { ram } = info;
    if (ram === undefined || s.postcopyRequested || (ram['dirty-sync-count'] ?? 0) < 2) return false;
    const bytesPerMs = Math.max((ram.mbps ?? 0) * 1e6, s.switchoverBps ?? s.bandwidthBps) / 8000;
    return ram.remaining <= bytesPerMs * s.downtimeLimitMs;
  }

  async function endOf(job: Job, code: number): Promise<MigrateInfo | undefined> {
    const s = sourceState(job);
    if (code === 0) {
      // `virsh` may end before the other one, which listens, has told what it heard: that the copy turned, and the figures.
      for (let waitedMs = 0; ; waitedMs += EVENT_POLL_MS) {
        const stats = reader.takeCompleted(job.guest);
        const info = stats === undefined ? undefined : statsToInfo(stats, 'completed');
        if (info !== undefined) return info;
        if (waitedMs >= EVENT_WAIT_MS || isEnded(sourceState(job).phase)) break;
        await new Promise<void>((resolve) => clock.after(EVENT_POLL_MS, resolve));
      }
      // libvirt's final word was not heard: what was seen last must do.
      return { status: 'completed', ...(s.progress === null ? {} : { ram: finalRam(s) }) };
    }
    const said = readFileSync(fileOf(job, 'out'), 'utf8')
      .trim()
      .replace(/^error: /gm, '');
    await putBack(job);
    await refresh(job.guest);
    const broke = `the stream broke during post-copy: ${said}; the guest waits at the destination for pages that are only here`;
    return {
      status: s.cancelRequested ? 'cancelled' : 'failed',
      'error-desc': s.postcopyStarted ? broke : said,
      ...(s.progress === null ? {} : { ram: finalRam(s) }),
    };
  }
  function finalRam(s: SourceState): NonNullable<MigrateInfo['ram']> {
    const p = s.progress;
    return {
      transferred: p?.transferredBytes ?? 0,
      remaining: 0,
      total: p?.totalBytes ?? 0,
      mbps: (p?.rateBps ?? 0) / 1e6,
      'dirty-sync-count': p?.passes ?? 0,
    };
  }

  /** libvirt keeps speed and downtime limit with the domain: they are what they were once the copy has gone. */
  async function putBack(job: Job): Promise<void> {
    const before = limits.get(job.id);
    limits.delete(job.id);
    if (before === undefined) return;
    await virsh
      .runAll([
        ['migrate-setmaxdowntime', '--domain', job.guest, '--downtime', before.downtimeMs],
        ['migrate-setspeed', '--domain', job.guest, '--bandwidth', before.speedMibPerS],
      ])
      .catch((error: unknown) => log('warn', 'limits-not-restored', { guest: job.guest, error }));
  }

  /** An order that comes while the guest leaves waits in libvirt until it has left: then there is nothing to order. */
  async function whileHere(job: Job, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const state = await stateOf(job.guest);
      if (state !== undefined && state !== 'shut off') throw error;
    }
  }

  /** Sets what changed on the running copy. */
  async function setParameters(job: Job, parameters: Record<string, number | string>): Promise<void> {
    const s = sourceState(job);
    const domain = ['--domain', job.guest];
    const { 'max-bandwidth': max, 'max-postcopy-bandwidth': post, 'downtime-limit': downtime } = parameters;
    const commands: string[][] = [];
    if (typeof max === 'number' && !s.postcopyStarted) {
      commands.push(['migrate-setspeed', ...domain, '--bandwidth', String(wholeMibPerS(max * 8))]);
    }
    if (typeof post === 'number' && s.postcopyStarted) {
      commands.push(['migrate-setspeed', ...domain, '--postcopy', '--bandwidth', String(wholeMibPerS(post * 8))]);
    }
    if (typeof downtime === 'number' && !isHeld(s)) {
      commands.push(['migrate-setmaxdowntime', ...domain, '--downtime', String(downtime)]);
    }
    if (commands.length > 0) await virsh.runAll(commands);
    // To the byte, and what virsh cannot change while a copy runs.
    const switchover = parameters['avail-switchover-bandwidth'];
    await tellMonitor(job, {
      ...(max === undefined ? {} : { 'max-bandwidth': max }),
      ...(post === undefined ? {} : { 'max-postcopy-bandwidth': post }),
      ...(switchover === undefined
        ? {}
        : { 'avail-switchover-bandwidth': isHeld(s) ? HELD_SWITCHOVER_BYTES_PER_S : switchover }),
    });
  }

  async function tellMonitor(job: Job, parameters: Record<string, number | string>): Promise<void> {
    if (!libvirt.monitorCommands || Object.keys(parameters).length === 0) return;
    const command = JSON.stringify({ execute: 'migrate-set-parameters', arguments: parameters });
    await virsh.run(['qemu-monitor-command', '--domain', job.guest, '--cmd', command]);
  }

  async function migrate(job: Job): Promise<void> {
    const s = sourceState(job);
    const { command } = s;
    const domain = ['--domain', job.guest];
    const [info = '', downtime = '', speed = ''] = await virsh.runAll([
      ['dominfo', ...domain],
      ['migrate-getmaxdowntime', ...domain],
      ['migrate-getspeed', ...domain],
    ]);
    limits.set(job.id, { downtimeMs: downtime, speedMibPerS: speed });
    const limitMs = isHeld(s) ? HELD_DOWNTIME_MS : s.downtimeLimitMs;
    await virsh.run(['migrate-setmaxdowntime', ...domain, '--downtime', String(limitMs)]);
    const args = migrateArguments(command, command.peer ?? '', {
      mode: libvirt.mode,
      persistent: /^Persistent:\s*yes$/m.test(info),
      switchoverBandwidth,
      held: isHeld(s) && libvirt.monitorCommands,
    });
    const child = virsh.detach(args, fileOf(job, 'out'), fileOf(job, 'status'));
    child.once('exit', () => void settle(job));
    // It has begun once libvirt has statistics of it, or ended without.
    for (;;) {
      const code = virshStatus(job);
      if (code !== undefined) {
        if (code === 0) return;
        const said = readFileSync(fileOf(job, 'out'), 'utf8')
          .trim()
          .replace(/^error: /gm, '');
        await putBack(job);
        throw new FairwayError('libvirt-refused', said);
      }
      const stats = parsePairs(await virsh.run(['domjobinfo', ...domain, '--rawstats']).catch(() => ''));
      if (Number(stats.memory_total ?? 0) > 0) break;
      await new Promise<void>((resolve) => clock.after(20, resolve));
    }
    await tellMonitor(job, {
      ...paceParameters(s),
      ...(isHeld(s) ? { 'avail-switchover-bandwidth': HELD_SWITCHOVER_BYTES_PER_S } : {}),
    }).catch((error: unknown) => log('warn', 'pace-not-exact', { migration: job.id, error }));
  }

  /** `virsh` has ended: the copy has, too. */
  async function settle(job: Job): Promise<void> {
    try {
      const info = closed ? undefined : await look(job);
      if (info !== undefined) await book.feedSource(job, { type: 'status', info });
    } catch (error) {
      log('warn', 'migration-step', { migration: job.id, error });
    }
  }

  async function doSource(job: Job, action: SourceAction): Promise<void> {
    const domain = ['--domain', job.guest];
    const answer = async (to: Extract<SourceEvent, { type: 'reply' }>['to'], work: () => Promise<unknown>) => {
      const starting = isStarting(job.state.phase);
      try {
        await work();
      } catch (error) {
        book.follow(job, { type: 'reply', to, error: messageOf(error) });
        if (!starting) throw error;
        return;
      }
      book.follow(job, { type: 'reply', to });
    };
    const done = () => Promise.resolve();
    switch (action.do) {
      case 'setCapabilities':
        // libvirt sets them at both ends.
        return answer('capabilities', done);
      case 'setParameters':
        return answer(
          'parameters',
          isStarting(job.state.phase) ? done : () => whileHere(job, () => setParameters(job, action.parameters)),
        );
      case 'stopGuest':
        // A copy without --live: libvirt stops the guest itself …
        return answer('stopGuest', done);
      case 'resumeGuest':
        // … and starts it again if the copy does not come about.
        return;
      case 'migrate': {
        // The copy of a small guest may be over before `virsh` has told that it began.
        void findStream(job, action.address, action.port);
        await answer('migrate', () => migrate(job));
        if (isEnded(sourceState(job).phase)) return;
        // A guest that stands still may be switched over to whenever the network is ready for it.
        if (sourceState(job).command.technique === 'stop-and-copy') tellSwitching(job);
        book.poll(job);
        void settle(job);
        return;
      }
      case 'startPostcopy':
        if (sourceState(job).command.pauseBeforeSwitchover) {
          book.follow(job, { type: 'reply', to: 'startPostcopy' });
          book.follow(job, { type: 'status', info: { status: 'pre-switchover' } });
          return;
        }
        return answer('startPostcopy', () => virsh.run(['migrate-postcopy', ...domain]));
      case 'continue':
        return answer('continue', () => whileHere(job, () => release(job)));
      case 'cancel':
        return answer('cancel', () => virsh.run(['domjobabort', ...domain]));
      case 'query':
        if (sourceState(job).ending === null) {
          const info = await look(job);
          if (info !== undefined) book.follow(job, { type: 'status', info });
          return;
        }
        // The end is certain and has no figures.
        book.follow(job, { type: 'status', info: { status: sourceState(job).ending ?? 'failed' } });
        return;
      default:
        return;
    }
  }

  /** Lets a held copy switch over. */
  async function release(job: Job): Promise<void> {
    const s = sourceState(job);
    const domain = ['--domain', job.guest];
    if (s.command.technique === 'stop-and-copy') return;
    // Over already: an idle guest, or a cancelled copy.
    if (virshStatus(job) !== undefined) return;
    if (s.postcopyRequested) await virsh.run(['migrate-postcopy', ...domain]);
    else {
      await tellMonitor(job, paceParameters(s));
      await virsh.run(['migrate-setmaxdowntime', ...domain, '--downtime', String(s.downtimeLimitMs)]);
    }
  }

  async function findStream(job: Job, address: string, port: number): Promise<void> {
    const { command } = sourceState(job);
    const goesOn = () => !closed && !isEnded(sourceState(job).phase);
    // libvirt's daemon opens the connection, in the network namespace of the host, at some time while the copy is being begun.
    const find = (goOn: () => boolean) => findConnection(address, port, () => 'self', goOn, clock);
    const starting = () => goesOn() && isStarting(sourceState(job).phase);
    let found: Stream | undefined;
    while (found === undefined && starting()) found = await find(starting);
    found ??= await find(goesOn);
    const stream = found ?? anyStream(config.migrationIp, address, port);
    if (stream === undefined || !goesOn()) return;
    const sourcePort = hasOneConnection(command) ? stream.sourcePort : 0;
    book.follow(job, { type: 'stream', stream: { ...stream, sourcePort } });
  }

  async function adoptJob(job: Job): Promise<void> {
    const { state } = job;
    if (state.role === 'destination') return;
    if (isEnded(state.phase)) return;
    const here = await stateOf(job.guest);
    const code = virshStatus(job);
    const stats = parsePairs(await virsh.run(['domjobinfo', '--domain', job.guest, '--rawstats']).catch(() => ''));
    const running = Number(stats['Job type'] ?? 0) !== 0;
    if (code === undefined && !running) {
      // Neither libvirt nor its client knows of it: it never began, or it ended while nobody looked.
      const status = here === undefined ? 'completed' : 'failed';
      const info = { status, 'error-desc': 'it ended while no agent was looking', ram: finalRam(state) };
      await book.feedSource(job, { type: 'restored', info, guestLeft: here === undefined });
      return;
    }
    const info = (code === undefined ? statsToInfo(stats, 'active') : await endOf(job, code)) ?? { status: 'active' };
    await book.feedSource(job, { type: 'restored', info, guestLeft: here === undefined });
    if (!isEnded(sourceState(job).phase)) book.poll(job);
  }

  // ---- the destination's part ----

  function known(): Abilities {
    if (abilities === undefined)
      throw new FairwayError('libvirt-unreachable', `libvirt at ${libvirt.uri} was not asked yet`);
    return abilities;
  }

  function prepared(job: Job): PreparedDestination {
    const { state } = job;
    if (state.role !== 'destination' || state.phase === 'failed') {
      const why = state.role === 'destination' ? (state.reason ?? 'unknown') : 'it is the source here';
      throw new FairwayError('prepare-failed', `migration ${job.id} cannot be prepared: ${why}`);
    }
    const portName = guests.get(job.guest)?.portName ?? '';
    return { address: state.address, port: state.port, portName, peer: peerUri() };
  }

  function peerUri(): string {
    if (libvirt.peerUri !== undefined) return libvirt.peerUri;
    if (config.migrationIp !== undefined) return `qemu+tls://${config.migrationIp}/system`;
    const text = 'set libvirt.peerUri or migrationIp: other hosts do not know where to reach this libvirt';
    throw new FairwayError('libvirt-peer', text, ['badInput']);
  }

  async function prepareNew(command: AgentCommandOf<'prepare'>): Promise<PreparedDestination> {
    checkOrder(command, known(), config.host);
    peerUri();
    const { name, machine, accel } = command.guest;
    const here = await stateOf(name);
    if (here !== undefined && here !== 'shut off') {
      throw new FairwayError('guest-exists', `guest ${name} already has a machine on ${config.host} (${here})`, [
        'conflict',
      ]);
    }
    if (here === 'shut off') {
      const text = `libvirt on ${config.host} has a definition of ${name} that does not run: virsh undefine ${name} there if it is an old one`;
      throw new FairwayError('guest-exists', text, ['conflict']);
    }
    // libvirt says which machines it can be: a wrong one is refused here, before anything moves.
    await virsh
      .run(['domcapabilities', '--virttype', accel === 'kvm' ? 'kvm' : 'qemu', '--machine', machine])
      .catch((error: unknown) => {
        throw new FairwayError(
          'machine-unsupported',
          `${config.host} cannot be a machine for ${name}: ${messageOf(error)}`,
          ['badInput'],
        );
      });
    const address = config.migrationIp ?? '127.0.0.1';
    const taken = new Set(book.all().map((j) => (j.state.role === 'destination' ? j.state.port : 0)));
    const [port, ...otherPorts] = await freePorts(address, config.incomingPorts, taken);
    if (port === undefined) {
      throw new FairwayError('prepare-failed', `no port is left for incoming migrations on ${config.host}`, [
        'retryable',
      ]);
    }
    book.forgetGuest(name);
    // libvirt sets the machine up by itself: the steps before are not ours.
    const { state: first } = prepareDestination(command, address, [port, ...otherPorts]);
    const state: DestinationState = { ...first, phase: 'listening' };
    return prepared(book.add(command.migration, name, state));
  }

  /** libvirt removes the machine of a copy that did not come about; this waits for it. */
  async function untilRemoved(name: string): Promise<void> {
    for (let tries = 0; tries < 100; tries++) {
      const state = await stateOf(name);
      if (state === undefined || state === 'shut off') return;
      await new Promise<void>((resolve) => clock.after(50, resolve));
    }
    const text = `libvirt on ${config.host} still keeps the machine that waited for guest ${name}`;
    throw new FairwayError('not-abandonable', text, ['retryable']);
  }

  function recoverByHand(migration: string): Promise<never> {
    const text = `migration ${migration}: libvirt takes a broken post-copy up again when told so by hand, with virsh migrate --postcopy-resume`;
    return Promise.reject(new FairwayError('recover-unsupported', text, ['badInput']));
  }

  return {
    kind: 'libvirt',
    abilities: known,

    async open(listener) {
      report = listener;
      mkdirSync(runDir, { recursive: true, mode: 0o700 });
      const help = await virsh.run(['help', 'migrate']);
      abilities = libvirtAbilities(await virsh.run(['version', '--daemon'], 60_000), help);
      switchoverBandwidth = help.includes('--available-switchover-bandwidth');
      const jobs = book.read();
      listen();
      await resync();
      for (const job of jobs) {
        await adoptJob(job).catch((error: unknown) => log('error', 'migration-lost', { migration: job.id, error }));
      }
    },

    launch(spec) {
      const text = `libvirt defines the guests of ${config.host}: virsh define and virsh start ${spec.name}`;
      return Promise.reject(new FairwayError('libvirt-owns-guests', text, ['badInput']));
    },
    guests: listGuests,
    ...book.commands,

    async prepare(command) {
      // The same order again, while it is still being carried out, has the same answer.
      const same = preparing.get(command.migration);
      if (same !== undefined) return same;
      const job = book.get(command.migration);
      if (job !== undefined) return prepared(job);
      const promise = prepareNew(command);
      preparing.set(command.migration, promise);
      try {
        return await promise;
      } finally {
        preparing.delete(command.migration);
      }
    },

    async start(command) {
      let job: Job | undefined = book.get(command.migration) && book.source(command.migration);
      if (job === undefined) {
        book.checkIdle(command.guest);
        const g = guests.get(command.guest);
        if (g?.state !== 'running') {
          const text = `guest ${command.guest} does not run on ${config.host}${g === undefined ? '' : ` (it is ${g.state})`}`;
          throw new FairwayError('guest-not-running', text, ['notFound']);
        }
        checkOrder(command, known(), config.host);
        if (command.peer === undefined) {
          const text = `where ${command.address} has its libvirt was not said: both hosts need driver libvirt`;
          throw new FairwayError('libvirt-peer', text, ['badInput']);
        }
        book.forgetGuest(command.guest);
        const first = startSource(command, clock.now());
        job = book.add(command.migration, command.guest, first.state);
        for (const kind of ['out', 'status'] as const) rmSync(fileOf(job, kind), { force: true });
        await book.begin(job, first.actions);
      }
      await book.settled(job);
      if (job.state.phase === 'failed') {
        const reason = job.events.at(-1)?.reason ?? 'no reason given';
        throw new FairwayError('start-failed', `migration ${job.id} did not start: ${reason}`);
      }
    },

    recoverIncoming: recoverByHand,
    recoverOutgoing: ({ migration }) => recoverByHand(migration),

    async finish(migration) {
      const job = book.finishable(migration);
      if (job === undefined) return;
      if (job.state.role === 'source' && job.state.phase === 'completed') removeGuest(job.guest);
      forget(job);
    },

    async abandon(migration) {
      const job = book.abandonable(migration);
      if (job === undefined) return;
      await untilRemoved(job.guest);
      removeGuest(job.guest);
      forget(job);
    },

    async measureDirtyRate(guest, seconds) {
      if (!guests.has(guest))
        throw new FairwayError('guest-unknown', `no guest ${guest} on ${config.host}`, ['notFound']);
      const whole = Math.max(1, Math.round(seconds));
      await virsh.run(['domdirtyrate-calc', '--domain', guest, '--seconds', String(whole)]);
      for (let tries = 0; tries < 200; tries++) {
        await new Promise<void>((resolve) => clock.after(tries === 0 ? whole * 1000 : 50, resolve));
        const stats = parsePairs(await virsh.run(['domstats', '--domain', guest, '--raw', '--dirtyrate']));
        const mibPerS = Number(stats['dirtyrate.megabytes_per_second'] ?? Number.NaN);
        // 2: measured (virDomainDirtyRateStatus). Whole MiB/s, rounded down: the middle is the better estimate.
        if (stats['dirtyrate.calc_status'] === '2' && mibPerS >= 0) {
          return { dirtyBytesPerS: mibPerS === 0 ? 0 : (mibPerS + 0.5) * 1024 * 1024 };
        }
      }
      throw new FairwayError('dirty-rate', `libvirt did not finish measuring guest ${guest}`, ['retryable']);
    },

    async close() {
      closed = true;
      book.close();
      stopListening();
      await Promise.allSettled(looking.values());
    },
  };
}
