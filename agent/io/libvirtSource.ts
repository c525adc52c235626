/**
 * The source's part of a copy between libvirts: says in `virsh` commands (`core/libvirt.ts`) what `core/source.ts` decides, and reads
 * how the copy stands from libvirt's statistics. Part of `libvirtDriver.ts`; its counterpart is `libvirtDestination.ts`.
 *
 * libvirt uses QEMU's pause-before-switchover for itself and lets nobody wait in it. A held copy is therefore held while
 * the guest runs: a post-copy by not being told to begin, a pre-copy by a downtime limit of 1 ms on a path said to carry no
 * more than a fraction of a page in it, so that only a guest that wrote nothing since the last look at it is not held; a
 * quiet one may be that. `preSwitchover` then means that the copy could switch over now, or does. A stop-and-copy is not held, since its guest stands still anyway.
 *
 * Mirrored disks are libvirt's affair as well: one `virsh migrate` mirrors them, copies memory once they have caught up, and ends the
 * mirrors in that pause. Here the mirrors are only looked at and paced, over the guest's monitor.
 */
import type { Abilities, AgentCommandOf, Stream } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { Log } from '../../contracts/log.ts';
import { migrateArguments, parsePairs, statsToInfo, wholeMibPerS } from '../core/libvirt.ts';
import { moveDisks, whyNotCopied } from '../core/libvirtDisks.ts';
import type { MigrateInfo } from '../core/progress.ts';
import { paceParameters } from '../core/sourcePace.ts';
import { isEnded, type SourceAction, type SourceEvent, type SourceState } from '../core/sourceState.ts';
import { checkStorage } from '../core/storage.ts';
import { checkOrder, checkTls, hasOneConnection } from '../core/techniques.ts';
import { askMirrors, paceDiskJobs, putAside } from './disks.ts';
import { answerSource, wait } from './driverParts.ts';
import { isStarting, type Job, type JobBook } from './jobBook.ts';
import { createLibvirtEnd, isUnderWay, type LibvirtEnd, VIRSH_END_MS } from './libvirtEnd.ts';
import type { LibvirtGuests } from './libvirtGuests.ts';
import type { LibvirtJobs } from './libvirtJobs.ts';
import { anyStream, findConnection } from './migrationPorts.ts';
import type { QmpCommands } from './qmp.ts';
import type { Virsh } from './virsh.ts';
import { virshMonitor } from './virshMonitor.ts';

export interface LibvirtSourceOptions {
  config: Pick<AgentConfig, 'host' | 'migrationIp' | 'libvirt'>;
  clock: Clock;
  log: Log;
  virsh: Virsh;
  book: JobBook;
  guests: LibvirtGuests;
  jobs: LibvirtJobs;
  abilities(): Abilities;
  /** The options of `virsh migrate`, as it helps with. */
  hasOption(name: string): boolean;
  /** libvirt's statistics of a copy that completed, once they have been heard. */
  takeCompleted(guest: string): Record<string, string> | undefined;
  isClosed(): boolean;
}

export interface LibvirtSource {
  act(job: Job, action: SourceAction): Promise<void>;
  /** What is known of the copy now. What else is found is fed. */
  look(job: Job): Promise<MigrateInfo | undefined>;
  /** Refuses what cannot be done, before anything moves. */
  check(command: AgentCommandOf<'start'>): void;
  /** libvirt says that the guest stopped here, and why. */
  onStopped(job: Job, why: string): void;
  /** Takes up a copy that a previous agent left running. */
  adopt(job: Job): Promise<void>;
  /** The guest has gone with the contents of its disks. */
  putDisksAside(job: Job): void;
}

/** What a copy's limits were before, to be put back if the guest stays. */
interface Limits {
  downtimeMs: string;
  speedMibPerS: string;
}

const HELD_DOWNTIME_MS = 1;
const HELD_SWITCHOVER_BYTES_PER_S = 1000;
const STEP_MS = 20;
type Step = Extract<SourceEvent, { type: 'reply' }>['to'];

export function createLibvirtSource(options: LibvirtSourceOptions): LibvirtSource {
  const { config, clock, log, virsh, book, guests, jobs, hasOption, isClosed } = options;
  const { host, libvirt } = config;
  const limits = new Map<string, Limits>();

  const stateOf = (job: Job): SourceState => {
    if (job.state.role !== 'source') throw new FairwayError('migration-unknown', `${job.id} does not start here`);
    return job.state;
  };
  const isHeld = (s: SourceState): boolean =>
    s.command.pauseBeforeSwitchover &&
    s.command.technique !== 'stop-and-copy' &&
    s.phase !== 'device' &&
    s.phase !== 'postcopy';
  const isMirrored = (s: SourceState): boolean => s.command.options?.storage === 'mirrored';
  const monitor = (job: Job): QmpCommands => virshMonitor(virsh, job.guest);
  /** None of a guest that is not here any more. */
  const mirrorsOf = (job: Job): ReturnType<typeof askMirrors> =>
    askMirrors(monitor(job)).catch((error: unknown) => {
      if (error instanceof FairwayError && error.code === 'guest-unknown') return { ids: [], jobs: undefined };
      throw error;
    });
  const jobInfo = async (job: Job): Promise<Record<string, string>> =>
    parsePairs(await virsh.run(['domjobinfo', '--domain', job.guest, '--rawstats']).catch(() => ''));
  const migrateOptions = (s: SourceState) => ({
    mode: libvirt.mode,
    switchoverBandwidth: hasOption('available-switchover-bandwidth'),
    held: isHeld(s) && libvirt.monitorCommands,
    tls: libvirt.migrationTls,
  });

  // ---- how it stands ----

  const end: LibvirtEnd = createLibvirtEnd({
    ...{ clock, log, book, guests, jobs, stateOf, jobInfo, putBack: (job) => putBack(job) },
    takeCompleted: options.takeCompleted,
  });

  async function look(job: Job): Promise<MigrateInfo | undefined> {
    const s = stateOf(job);
    if (isStarting(s.phase) || isEnded(s.phase)) return undefined;
    const code = end.statusOf(job);
    if (s.mirror?.isOn === true) await lookAtMirrors(job, code);
    if (s.phase === 'disks') return undefined;
    if (code !== undefined) {
      if (code === 0) tellSwitching(job);
      return end.endOf(job, code);
    }
    const stats = await jobInfo(job);
    if (job.state.phase !== s.phase) return undefined;
    if (!isUnderWay(stats)) return end.orphanOf(job, stats);
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

  /** libvirt begins memory when the mirrors have caught up, and ends them before the switch-over. */
  async function lookAtMirrors(job: Job, code: number | undefined): Promise<void> {
    const s = stateOf(job);
    if (s.phase === 'disks' && code !== undefined && code !== 0) {
      await putBack(job);
      book.follow(job, { type: 'lost', reason: end.reasonOf(job) });
      return;
    }
    const mirrors = code === undefined ? (await mirrorsOf(job)).jobs : undefined;
    const last = s.mirror?.done ?? { transferredBytes: 0, remainingBytes: 0, totalBytes: 0 };
    const isOver = mirrors === undefined || mirrors.status === 'ended';
    const whole = { transferredBytes: last.totalBytes, remainingBytes: 0, totalBytes: last.totalBytes };
    const done = mirrors?.done ?? (code === undefined || code === 0 ? whole : last);
    const status = mirrors === undefined || isOver ? 'ended' : mirrors.status;
    const isReady = s.phase === 'disks' && (isOver || status === 'ready');
    book.follow(job, { type: 'disks', disks: { status: isReady ? 'ready' : status, done } });
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

  /**
   * A guest that writes nothing may slip through the hold, even before `virsh` has told that the copy began: the controller
   * hears of its switch-over all the same, since it waits for that.
   */
  function tellSwitching(job: Job): void {
    const { command, phase } = stateOf(job);
    const early = phase === 'starting' || phase === 'setup' || phase === 'active';
    if (command.pauseBeforeSwitchover && early) {
      book.follow(job, { type: 'status', info: { status: 'pre-switchover' } });
    }
  }

  /** `virsh` has ended: the copy has, too. */
  async function settle(job: Job): Promise<void> {
    try {
      const info = isClosed() ? undefined : await look(job);
      if (info !== undefined) await book.feedSource(job, { type: 'status', info });
    } catch (error) {
      log('warn', 'migration-step', { migration: job.id, error });
    }
  }

  // ---- pace ----

  /** An order that comes while the guest leaves waits in libvirt until it has left: then there is nothing to order. */
  async function whileHere(job: Job, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const state = await guests.stateOf(job.guest);
      if (state !== undefined && state !== 'shut off') throw error;
    }
  }

  /** Sets what changed on the running copy. */
  async function setParameters(job: Job, parameters: Record<string, number | string>): Promise<void> {
    const s = stateOf(job);
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
    await monitor(job).execute('migrate-set-parameters', parameters);
  }

  /** The pace to the byte, of a copy that has just begun. */
  async function tellPace(job: Job): Promise<void> {
    const s = stateOf(job);
    await tellMonitor(job, {
      ...paceParameters(s),
      ...(isHeld(s) ? { 'avail-switchover-bandwidth': HELD_SWITCHOVER_BYTES_PER_S } : {}),
    }).catch((error: unknown) => log('warn', 'pace-not-exact', { migration: job.id, error }));
  }

  async function paceMirrors(job: Job, bps: number): Promise<void> {
    const { ids } = await mirrorsOf(job);
    if (ids.length > 0) await paceDiskJobs(monitor(job), ids, bps);
  }

  // ---- the beginning ----

  /** Where the guest's disks will be, by where they are. */
  function pathsOf({ guest, diskPaths }: AgentCommandOf<'start'>): Map<string, string> {
    const disks = guests.get(guest)?.spec.disks ?? [];
    return new Map(disks.map(({ path }, i) => [path, diskPaths?.[i] ?? path]));
  }

  /** The definition that the destination is to have, with its secrets, as files for `virsh`. */
  async function writeDefinitions(job: Job, isPersistent: boolean) {
    const paths = pathsOf(stateOf(job).command);
    const domain = ['--domain', job.guest];
    const write = async (kind: 'xml' | 'persistent.xml', more: string[]): Promise<string> => {
      const xml = await virsh.run(['dumpxml', ...domain, '--migratable', '--security-info', ...more]);
      jobs.write(job.id, kind, moveDisks(xml, paths));
      return jobs.path(job.id, kind);
    };
    jobs.write(job.id, 'disks', [...paths.keys()].join('\n'));
    const xml = await write('xml', []);
    const persistent = isPersistent ? { persistentXml: await write('persistent.xml', ['--inactive']) } : {};
    return { disks: paths.size, xml, ...persistent };
  }

  /** Has libvirt begin, unless it has. A mirrored copy begins with its disks. */
  async function launch(job: Job): Promise<void> {
    if (jobs.hasBegun(job.id)) return;
    const s = stateOf(job);
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
    const persistent = /^Persistent:\s*yes$/m.test(info);
    const mirrored = isMirrored(s) ? { mirrored: await writeDefinitions(job, persistent) } : {};
    const args = migrateArguments(command, command.peer ?? '', { ...migrateOptions(s), persistent, ...mirrored });
    spawn(job, args);
  }

  function spawn(job: Job, args: readonly string[]): void {
    jobs.write(job.id, 'out', '');
    const child = virsh.detach(args, jobs.path(job.id, 'out'), jobs.path(job.id, 'status'));
    child.once('exit', () => void settle(job));
  }

  /**
   * Waits for a copy to have begun, or to have ended without.
   *
   * @throws FairwayError `libvirt-refused` with libvirt's reason, when it ended with one.
   */
  async function untilBegun(job: Job, hasBegun: () => Promise<boolean>): Promise<void> {
    for (let silentMs = 0; ; silentMs += jobs.status(job.id) === undefined ? 0 : STEP_MS) {
      const code = end.statusOf(job);
      if (code === 0) return;
      // What libvirt has not begun some time after its client was killed it does not begin, unless it is over already.
      const isSilent = silentMs >= VIRSH_END_MS;
      if (isSilent && (await end.fateOf(job, undefined))?.status === 'completed') return;
      if (code !== undefined || isSilent) {
        const said = end.reasonOf(job);
        await putBack(job);
        throw new FairwayError('libvirt-refused', said || 'virsh was ended before the copy had begun');
      }
      if (await hasBegun()) return;
      await wait(clock, STEP_MS);
    }
  }

  /** Begins with the mirrors. Memory must leave them their share from its first byte: its own is told when they have caught up. */
  async function mirrorDisks(job: Job, bps: number): Promise<void> {
    await launch(job);
    await untilBegun(job, async () => (await mirrorsOf(job)).ids.length > 0);
    if (end.statusOf(job) !== undefined) return;
    await paceMirrors(job, bps);
    await tellMonitor(job, { 'max-bandwidth': Math.floor(stateOf(job).bandwidthBps / 16) });
  }

  /** It has begun once libvirt has statistics of it. */
  async function migrate(job: Job): Promise<void> {
    await launch(job);
    await untilBegun(job, async () => Number((await jobInfo(job)).memory_total ?? 0) > 0);
    if (end.statusOf(job) === undefined) await tellPace(job);
  }

  async function untilVirshEnds(job: Job): Promise<boolean> {
    for (let waitedMs = 0; waitedMs < VIRSH_END_MS; waitedMs += STEP_MS) {
      if (!jobs.hasBegun(job.id) || jobs.status(job.id) !== undefined) return true;
      await wait(clock, STEP_MS);
    }
    return false;
  }

  /** The copy was given up while its disks were being mirrored. Nothing to give up is no error. */
  async function dropDisks(job: Job): Promise<void> {
    if (!jobs.hasBegun(job.id) || end.statusOf(job) !== undefined) return;
    await virsh.run(['domjobabort', '--domain', job.guest]).catch((error: unknown) => {
      if (end.statusOf(job) === undefined) throw error;
    });
    await untilVirshEnds(job);
    await putBack(job);
  }

  async function findStream(job: Job, address: string, port: number): Promise<void> {
    const { command } = stateOf(job);
    const goesOn = () => !isClosed() && !isEnded(stateOf(job).phase);
    // libvirt's daemon opens the connection, in the network namespace of the host, at some time while the copy is being begun.
    const find = (goOn: () => boolean) => findConnection(address, port, () => 'self', goOn, clock);
    const starting = () => goesOn() && isStarting(stateOf(job).phase);
    let found: Stream | undefined;
    while (found === undefined && starting()) found = await find(starting);
    found ??= await find(goesOn);
    const stream = found ?? anyStream(config.migrationIp, address, port);
    if (stream === undefined || !goesOn()) return;
    const sourcePort = hasOneConnection(command) ? stream.sourcePort : 0;
    book.follow(job, { type: 'stream', stream: { ...stream, sourcePort } });
  }

  /** Lets a held copy switch over. */
  async function release(job: Job): Promise<void> {
    const s = stateOf(job);
    const domain = ['--domain', job.guest];
    if (s.command.technique === 'stop-and-copy') return;
    // Over already: an idle guest, or a cancelled copy.
    if (end.statusOf(job) !== undefined) return;
    if (s.postcopyRequested) await virsh.run(['migrate-postcopy', ...domain]);
    else {
      await tellMonitor(job, paceParameters(s));
      await virsh.run(['migrate-setmaxdowntime', ...domain, '--downtime', String(s.downtimeLimitMs)]);
    }
  }

  return {
    look,

    check(command) {
      checkOrder(command, options.abilities(), host);
      checkTls(command, libvirt.migrationTls, host, 'libvirt.migrationTls');
      if (command.peer === undefined) {
        const text = `where ${command.address} has its libvirt was not said: both hosts need driver libvirt`;
        throw new FairwayError('libvirt-peer', text, ['badInput']);
      }
      if (command.options?.storage !== 'mirrored') return;
      const g = guests.get(command.guest);
      if (g === undefined) return;
      checkStorage(g.spec, 'mirrored');
      const why = g.disks.map(whyNotCopied).find((text) => text !== undefined);
      const count = g.spec.disks?.length ?? 0;
      const text =
        why ??
        (command.diskPort === undefined || command.diskPaths?.length !== count
          ? `the destination is not prepared for its ${count} disks: prepare it again`
          : undefined);
      if (text !== undefined) {
        throw new FairwayError('storage-unsupported', `guest ${command.guest} cannot be mirrored: ${text}`, [
          'badInput',
        ]);
      }
    },

    onStopped(job, why) {
      const s = stateOf(job);
      const status = (name: string) => book.follow(job, { type: 'status', info: { status: name } });
      if (why.startsWith('Post-copy')) status('postcopy-active');
      // A stop-and-copy stops its guest at the beginning.
      else if (why === 'Migrated' && s.command.technique !== 'stop-and-copy') {
        tellSwitching(job);
        status('device');
      }
    },

    async act(job, action) {
      const domain = ['--domain', job.guest];
      const answer = (to: Step, work: () => Promise<unknown>) => answerSource(book, job, to, work);
      const done = () => Promise.resolve();
      switch (action.do) {
        case 'setCapabilities':
          // libvirt sets them at both ends.
          return answer('capabilities', done);
        case 'setParameters': {
          const { phase } = stateOf(job);
          // `virsh migrate` is given the pace, and to the byte it is told once the copy goes.
          const isTooEarly = isStarting(phase) || phase === 'disks';
          return answer(
            'parameters',
            isTooEarly ? done : () => whileHere(job, () => setParameters(job, action.parameters)),
          );
        }
        case 'mirrorDisks':
          await answer('mirrorDisks', () => mirrorDisks(job, action.diskBps));
          book.poll(job);
          void settle(job);
          return;
        case 'paceDisks':
          return whileHere(job, () => paceMirrors(job, action.diskBps));
        case 'dropDisks':
          return dropDisks(job);
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
          if (isEnded(stateOf(job).phase)) return;
          // A guest that stands still may be switched over to whenever the network is ready for it.
          if (stateOf(job).command.technique === 'stop-and-copy') tellSwitching(job);
          book.poll(job);
          void settle(job);
          return;
        }
        case 'startPostcopy':
          if (stateOf(job).command.pauseBeforeSwitchover) {
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
          if (stateOf(job).ending === null) {
            const info = await look(job);
            if (info !== undefined) book.follow(job, { type: 'status', info });
            return;
          }
          // The end is certain and has no figures.
          book.follow(job, { type: 'status', info: { status: stateOf(job).ending ?? 'failed' } });
          return;
        default:
          return;
      }
    },

    async adopt(job) {
      const s = stateOf(job);
      if (isEnded(s.phase)) return;
      const here = await guests.stateOf(job.guest);
      const guestLeft = here === undefined;
      const code = end.statusOf(job);
      const stats = await jobInfo(job);
      const status = s.postcopyStarted ? 'postcopy-active' : 'active';
      let info: MigrateInfo | undefined;
      if (s.phase === 'disks') info = statsToInfo(stats, status);
      else if (code !== undefined) info = await end.endOf(job, code);
      else if (isUnderWay(stats)) info = statsToInfo(stats, status);
      // Neither libvirt nor its client knows of it: it never began, or it ended while nobody looked.
      else info = await end.fateOf(job, guestLeft ? undefined : 'it ended while no agent was looking');
      await book.feedSource(job, { type: 'restored', info: info ?? { status: 'active' }, guestLeft });
      if (!isEnded(stateOf(job).phase)) book.poll(job);
    },

    putDisksAside(job) {
      if (!isMirrored(stateOf(job))) return;
      try {
        putAside(jobs.disks(job.id).map((path) => ({ path })));
      } catch (error) {
        log('warn', 'disks-not-put-aside', { guest: job.guest, error });
      }
    },
  };
}
