/**
 * The migration driver for real guests: QEMU processes controlled over QMP. What to do next is decided by the pure machines
 * `core/source.ts` and `core/destination.ts`; this file carries their actions out, feeds events and polls back, and
 * writes each state down, so that a restarted agent goes on with its guests and their migrations.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Abilities, AgentCommandOf, GuestInfo, GuestSpec } from '../../contracts/agent.ts';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { Log } from '../../contracts/log.ts';
import {
  type DestinationAction,
  type DestinationEvent,
  type DestinationState,
  prepareDestination,
} from '../core/destination.ts';
import type { DriverReport, MigrationDriver, PreparedDestination } from '../core/driver.ts';
import { type MigrateInfo, parseMigrateInfo } from '../core/progress.ts';
import { isEnded, type SourceAction, type SourceEvent, startSource } from '../core/source.ts';
import { checkStorage, disksAt } from '../core/storage.ts';
import { checkOrder, hasOneConnection, qemuAbilities } from '../core/techniques.ts';
import { createDiskService } from './diskService.ts';
import {
  askDiskJobs,
  checkSharedDisks,
  drainMirrors,
  dropMirrors,
  exportDisks,
  makeDisks,
  mirrorIds,
  mirrorReason,
  paceDiskJobs,
  putAside,
  removeDisks,
  startMirrors,
  stopExports,
} from './disks.ts';
import {
  endProcess,
  forgetFiles,
  type GuestRecord,
  guestPaths,
  processGone,
  processOf,
  readRecord,
  readRecords,
  startProcess,
  straySettled,
  writeRecord,
} from './guestProcess.ts';
import { attachTap, detachTap, tapName } from './hostNet.ts';
import { createJobBook, isStarting, type Job, type JobBook } from './jobBook.ts';
import { anyStream, findConnection, freePorts, pathAnswers, uriHost } from './migrationPorts.ts';
import { askAbilities, probeQemu } from './qemuProbe.ts';
import { connectQmp, type QmpClient } from './qmp.ts';

export interface QemuDriverOptions {
  config: Pick<
    AgentConfig,
    'host' | 'migrationIp' | 'runDir' | 'qemu' | 'ovs' | 'incomingPorts' | 'guests' | 'migrationTls' | 'diskFolder'
  >;
  clock: Clock;
  log: Log;
}

interface Guest {
  record: GuestRecord;
  state: GuestInfo['state'];
  qmp: QmpClient;
  /** The agent is ending it: its disappearance is no surprise. */
  ending: boolean;
  /** What its own QEMU can do, which may be older than what the host starts today. Asked once, before its first copy. */
  abilities?: Promise<Abilities>;
  moments: { stoppedAtMs?: number; resumedAtMs?: number };
}

/** The mirror runs, and memory waits for it. */
const isAlone = (state: Job['state']): boolean => state.phase === 'disks';
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
/** How long QEMU may take to answer while it holds its lock for a switch-over. */
const SLOW_MS = 60_000;
const TLS_ID = 'fairway-tls';
/** An answer from the other host takes a round trip; a second is many of them, also on a busy machine. */
const PATH_MS = 1000;
/** QEMU lets go of a stream as soon as it is told so. */
const PAUSE_TRIES = 250;
const PAUSE_STEP_MS = 20;

/** A driver of QEMU guests. `open()` finds those that run and starts the configured ones that neither run nor moved away. */
export function createQemuDriver({ config, clock, log }: QemuDriverOptions): MigrationDriver {
  const { runDir, ovs } = config;
  const ownAddress = config.migrationIp ?? '127.0.0.1';
  const guests = new Map<string, Guest>();
  /** Guests in the making: their name is taken though they are not yet in `guests`. */
  const making = new Map<string, Promise<Guest>>();
  const preparing = new Map<string, Promise<PreparedDestination>>();
  let report: (message: DriverReport) => void = () => {};
  let closed = false;
  /** Until it has been asked, and when it does not answer: it can do nothing. */
  let abilities: Abilities = { ...qemuAbilities([0, 0, 0], new Set(), []), techniques: [] };

  const book: JobBook = createJobBook({
    host: config.host,
    runDir,
    clock,
    log,
    report: (message) => {
      if (!closed) report(message);
    },
    doSource: (job, action) => doSource(job, action),
    doDestination: (job, action) => doDestination(job, action),
    async query(job) {
      const g = guests.get(job.guest);
      if (g === undefined) return undefined;
      if (job.state.role === 'source' && job.state.mirror?.isOn === true) {
        const disks = await askDiskJobs(g.qmp, mirrorIds(diskCount(g)));
        if (disks !== undefined) {
          const error = disks.error === undefined ? {} : { error: mirrorReason(disks.error) };
          await book.feedSource(job, { type: 'disks', disks: { ...disks, ...error } });
        }
        if (isAlone(job.state)) return undefined;
      }
      return queryMigrate(g);
    },
    momentsOf: (name) => guests.get(name)?.moments ?? {},
    onDeparted(name) {
      const g = guests.get(name);
      if (g === undefined) return;
      setGuestState(g, 'stopped');
      serveOn(g);
    },
  });

  const diskService = createDiskService<Guest>({
    host: config.host,
    clock,
    log,
    guest: (name) => guests.get(name),
    guests: () => guests.values(),
    save: (g) => writeRecord(runDir, g.record),
    isCopying(name) {
      const state = book.ofGuest(name)?.state;
      return state?.role === 'source' && !isEnded(state.phase);
    },
    freePorts: async () => ({
      address: ownAddress,
      ports: await freePorts(ownAddress, config.incomingPorts, takenPorts()),
    }),
    remove: (name) => removeGuest(name, true),
    onPulled(migration) {
      const job = book.get(migration);
      if (job !== undefined) book.followDestination(job, { type: 'pulled' });
    },
    runStateOf: (g) => runStateOf(g),
  });

  /** A guest that has left its disks here. */
  function serveOn(g: Guest): void {
    const state = book.ofGuest(g.record.spec.name)?.state;
    const leaves = state?.role === 'source' && state.command.options?.storage === 'on-demand';
    if (!leaves && g.record.serves !== true) return;
    diskService
      .left(g)
      .catch((error: unknown) => log('error', 'disks-not-served', { guest: g.record.spec.name, error }));
  }
  const diskCount = (g: Guest): number => g.record.spec.disks?.length ?? 0;

  const portName = (g: GuestRecord): string => g.tap ?? '';
  const info = (g: Guest): GuestInfo => ({ spec: g.record.spec, state: g.state, portName: portName(g.record) });
  const listGuests = (): GuestInfo[] => [...guests.values()].map(info);
  const tellGuests = (): void => {
    if (!closed) report({ type: 'guests', guests: listGuests() });
  };

  // ---- guests ----

  function setGuestState(g: Guest, state: GuestInfo['state']): void {
    if (g.state === state) return;
    g.state = state;
    tellGuests();
  }

  function onQmpEvent(name: string, event: string, data: Record<string, unknown>): void {
    const g = guests.get(name);
    if (g === undefined || closed) return;
    const job = book.ofGuest(name);
    switch (event) {
      case 'STOP':
        g.moments.stoppedAtMs = clock.now();
        setGuestState(g, 'paused');
        break;
      case 'RESUME':
        g.moments.resumedAtMs = clock.now();
        setGuestState(g, 'running');
        if (job?.state.role === 'destination') {
          book.followDestination(job, { type: 'running' });
          // What the mirror had to bring it has brought before the guest could run.
          if (job.state.command.options?.storage === 'mirrored') {
            stopExports(g.qmp).catch((error: unknown) => log('warn', 'disks-still-exported', { guest: name, error }));
          }
        }
        break;
      case 'BLOCK_IO_ERROR':
        log('warn', 'disk-error', { guest: name, device: data.device, action: data.action, reason: data.reason });
        break;
      case 'MIGRATION': {
        const status = String(data.status);
        if (job?.state.role === 'source') book.follow(job, { type: 'status', info: { status } });
        if (job?.state.role === 'destination') book.followDestination(job, { type: 'status', status });
        break;
      }
      case 'MIGRATION_PASS':
        if (job?.state.role === 'source') book.follow(job, { type: 'pass', pass: Number(data.pass) });
        break;
      default:
        break;
    }
  }

  /** QMP is gone: the process ended (often the way an incoming QEMU reports failure), or it lives and is asked again. */
  async function onQmpClose(name: string, reason: string): Promise<void> {
    const g = guests.get(name);
    if (g === undefined || closed || g.ending) return;
    if (!(await processGone(runDir, name, 2000))) {
      try {
        g.qmp = await connectGuest(name);
        return;
      } catch (error) {
        log('warn', 'guest-unreachable', { guest: name, error });
      }
    }
    if (g.ending || closed) return;
    log('warn', 'guest-gone', { guest: name, reason });
    guests.delete(name);
    for (const job of book.all()) {
      if (job.guest !== name) continue;
      const lost = { type: 'lost', reason: `the guest's QEMU is gone: ${reason}` } as const;
      if (job.state.role === 'source') book.follow(job, lost);
      else {
        if (!job.state.guestRan) removeDisks(g.record.madeDisks ?? []);
        book.followDestination(job, lost);
      }
    }
    await cleanUp(g.record).catch((error: unknown) => log('error', 'guest-clean-up', { guest: name, error }));
    tellGuests();
  }

  function connectGuest(name: string): Promise<QmpClient> {
    return connectQmp(guestPaths(runDir, name).qmp, {
      onEvent: (event, data) => onQmpEvent(name, event, data),
      onClose: (reason) => {
        onQmpClose(name, reason).catch((error: unknown) => log('error', 'guest-gone', { guest: name, error }));
      },
    });
  }

  async function cleanUp(record: GuestRecord): Promise<void> {
    forgetFiles(runDir, record.spec.name);
    if (ovs !== undefined && record.tap !== null) await detachTap(ovs, record.tap);
  }

  async function makeGuest(spec: GuestSpec, incoming: boolean, more: Partial<GuestRecord>): Promise<Guest> {
    const record: GuestRecord = {
      ...more,
      spec,
      tap: ovs === undefined ? null : tapName(config.host, spec.name),
      departed: false,
    };
    if (ovs !== undefined && record.tap !== null) await attachTap(ovs, record.tap, spec.name, spec.mac);
    try {
      await startProcess(config.qemu, runDir, record, incoming);
      const qmp = await connectGuest(spec.name);
      return { record, state: incoming ? 'incoming' : 'running', qmp, ending: false, moments: {} };
    } catch (error) {
      await endProcess(runDir, spec.name, undefined).catch(() => undefined);
      await cleanUp(record).catch((e: unknown) => log('error', 'guest-clean-up', { guest: spec.name, error: e }));
      throw error;
    }
  }

  async function addGuest(spec: GuestSpec, incoming: boolean, more: Partial<GuestRecord> = {}): Promise<Guest> {
    if (guests.has(spec.name) || making.has(spec.name)) {
      const text = `guest ${spec.name} already has a machine on ${config.host}`;
      throw new FairwayError('guest-exists', text, ['conflict']);
    }
    const promise = makeGuest(spec, incoming, more);
    making.set(spec.name, promise);
    try {
      const guest = await promise;
      guests.set(spec.name, guest);
      log('info', 'guest-started', { guest: spec.name, incoming });
      tellGuests();
      return guest;
    } finally {
      making.delete(spec.name);
    }
  }

  async function removeGuest(name: string, departed: boolean): Promise<void> {
    const g = guests.get(name);
    if (g === undefined) return;
    g.ending = true;
    await endProcess(runDir, name, g.qmp);
    g.qmp.close();
    guests.delete(name);
    await cleanUp(g.record);
    if (departed) writeRecord(runDir, { ...g.record, departed: true });
    log('info', 'guest-removed', { guest: name, departed });
    tellGuests();
  }

  const runStateOf = async (g: Guest): Promise<string> =>
    z.object({ status: z.string() }).parse(await g.qmp.execute('query-status')).status;

  const GUEST_STATES: Record<string, GuestInfo['state']> = {
    running: 'running',
    inmigrate: 'incoming',
    postmigrate: 'stopped',
    shutdown: 'stopped',
  };
  async function askState(g: Guest): Promise<GuestInfo['state']> {
    return GUEST_STATES[await runStateOf(g)] ?? 'paused';
  }

  /** Takes up guests and migrations that a previous agent left running. */
  async function adopt(): Promise<void> {
    for (const record of readRecords(runDir)) {
      const name = record.spec.name;
      if (record.departed) continue;
      if (!(await straySettled(runDir, name))) {
        await cleanUp(record);
        continue;
      }
      const g: Guest = { record, state: 'running', qmp: await connectGuest(name), ending: false, moments: {} };
      guests.set(name, g);
      g.state = await askState(g);
      if (g.state === 'stopped' && record.serves === true) serveOn(g);
      if (ovs !== undefined && record.tap !== null) await attachTap(ovs, record.tap, name, record.spec.mac);
      log('info', 'guest-adopted', { guest: name, state: g.state });
    }
    for (const job of book.read()) {
      await adoptJob(job).catch((error: unknown) => log('error', 'migration-lost', { migration: job.id, error }));
    }
  }

  async function adoptJob(job: Job): Promise<void> {
    const g = guests.get(job.guest);
    if (job.state.role === 'destination' && isPreparing(job.state)) {
      // Half prepared, and nobody was told of it: the controller will ask again, and gets a fresh machine.
      await removeUnborn(job.guest);
      book.forget(job);
      return;
    }
    const gone = { type: 'lost', reason: "the guest's QEMU ended while no agent was looking" } as const;
    if (job.state.role === 'source') {
      if (isEnded(job.state.phase)) {
        if (g?.state === 'stopped') serveOn(g);
        return;
      }
      if (g === undefined) return book.feedSource(job, gone);
      const guestLeft = (await runStateOf(g)) === 'postmigrate';
      await book.feedSource(job, { type: 'restored', info: await queryMigrate(g), guestLeft });
      if (!isEnded(job.state.phase)) book.poll(job);
      return;
    }
    if (g === undefined) return book.feedDestination(job, gone);
    if (g.state === 'running') await book.feedDestination(job, { type: 'running' });
    const { status } = await queryMigrate(g);
    if (status !== undefined) await book.feedDestination(job, { type: 'status', status });
  }

  // ---- migrations ----

  async function queryMigrate(g: Guest): Promise<MigrateInfo> {
    return parseMigrateInfo(await g.qmp.execute('query-migrate', {}, SLOW_MS));
  }

  function guestOf(job: Job): Guest {
    const g = guests.get(job.guest);
    if (g === undefined)
      throw new FairwayError('guest-gone', `guest ${job.guest} has no machine on ${config.host}`, ['notFound']);
    return g;
  }

  async function doSource(job: Job, action: SourceAction): Promise<void> {
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
    const { qmp } = guestOf(job);
    switch (action.do) {
      case 'setCapabilities':
        return answer('capabilities', () => setCapabilities(qmp, action.capabilities));
      case 'setParameters':
        return answer('parameters', async () => {
          // Credentials once, before the copy: a later change of pace leaves them.
          const opening = isStarting(job.state.phase);
          const tls = opening ? await credentials(qmp, 'client') : {};
          await qmp.execute('migrate-set-parameters', { ...action.parameters, ...tls }, SLOW_MS);
        });
      case 'mirrorDisks': {
        const to = { address: action.address, port: action.port };
        await answer('mirrorDisks', () => startMirrors(qmp, diskCount(guestOf(job)), to, action.diskBps));
        book.poll(job);
        return;
      }
      case 'paceDisks':
        return paceDiskJobs(qmp, mirrorIds(diskCount(guestOf(job))), action.diskBps);
      case 'drainDisks':
        return answer('drainDisks', async () => {
          const count = diskCount(guestOf(job));
          await paceDiskJobs(qmp, mirrorIds(count), action.diskBps);
          await drainMirrors(qmp, count, clock);
        });
      case 'dropDisks':
        return dropMirrors(qmp, diskCount(guestOf(job)), clock);
      case 'stopGuest':
        return answer('stopGuest', () => qmp.execute('stop', {}, SLOW_MS));
      case 'resumeGuest':
        return resumeHere(job);
      case 'migrate': {
        const { address, port } = action;
        await answer('migrate', () => qmp.execute('migrate', { uri: `tcp:${uriHost(address)}:${port}` }, SLOW_MS));
        book.poll(job);
        void findStream(job, address, port);
        return;
      }
      case 'startPostcopy':
        return answer('startPostcopy', () => qmp.execute('migrate-start-postcopy', {}, SLOW_MS));
      case 'continue':
        return answer('continue', () => qmp.execute('migrate-continue', { state: 'pre-switchover' }, SLOW_MS));
      case 'cancel':
        return answer('cancel', () => qmp.execute('migrate_cancel', {}, SLOW_MS));
      case 'pauseCopy':
        return answer('pauseCopy', () => qmp.executeOutOfBand('migrate-pause', undefined, SLOW_MS));
      case 'resumeCopy': {
        const uri = `tcp:${uriHost(action.address)}:${action.port}`;
        return answer('resumeCopy', () => qmp.execute('migrate', { uri, resume: true }, SLOW_MS));
      }
      case 'query':
        book.follow(job, { type: 'status', info: await queryMigrate(guestOf(job)) });
        return;
      default:
        return;
    }
  }

  function isPreparing(state: DestinationState): boolean {
    return state.phase === 'capabilities' || state.phase === 'parameters' || state.phase === 'incoming';
  }

  /** After a stop-and-copy that did not come about. QEMU itself says whether the guest is still here. */
  async function resumeHere(job: Job): Promise<void> {
    const g = guestOf(job);
    for (let tries = 0; tries < 100; tries++) {
      const runState = await runStateOf(g);
      if (runState === 'paused' || runState === 'prelaunch') {
        await g.qmp.execute('cont', {}, SLOW_MS);
        return;
      }
      // It is about to be what it was before the copy.
      if (runState !== 'finish-migrate') {
        log('warn', 'guest-not-resumed', { guest: job.guest, runState });
        return;
      }
      await new Promise<void>((resolve) => clock.after(20, resolve));
    }
    throw new FairwayError('guest-not-resumed', `guest ${job.guest} does not leave the state finish-migrate`);
  }

  async function doDestination(job: Job, action: DestinationAction): Promise<void> {
    const answer = async (to: Extract<DestinationEvent, { type: 'reply' }>['to'], work: () => Promise<unknown>) => {
      const error = await work().then(() => undefined, messageOf);
      book.followDestination(job, { type: 'reply', to, ...(error === undefined ? {} : { error }) });
    };
    const { qmp } = guestOf(job);
    switch (action.do) {
      case 'setCapabilities':
        return answer('capabilities', () => setCapabilities(qmp, action.capabilities));
      case 'setParameters':
        return answer('parameters', async () => {
          const tls = await credentials(qmp, 'server');
          return qmp.execute('migrate-set-parameters', { ...action.parameters, ...tls });
        });
      case 'incoming': {
        const uri = `tcp:${uriHost(action.address)}:${action.port}`;
        return answer('incoming', () => qmp.execute('migrate-incoming', { uri }));
      }
      case 'resumeGuest':
        await qmp.execute('cont', {}, SLOW_MS);
        return;
      // Out of band: QEMU's main loop may itself wait for a page that has not come.
      case 'pauseCopy':
        return answer('pauseCopy', () => qmp.executeOutOfBand('migrate-pause', undefined, SLOW_MS));
      case 'listenAgain': {
        const uri = `tcp:${uriHost(action.address)}:${action.port}`;
        return answer('listenAgain', () => qmp.executeOutOfBand('migrate-recover', { uri }, SLOW_MS));
      }
      default:
        return;
    }
  }

  /**
   * Gives a QEMU its credentials, for its next copy, and answers the parameters that make it use them. Both ends prove who
   * they are; the source compares the destination's address with its certificate.
   */
  async function credentials(qmp: QmpClient, endpoint: 'client' | 'server'): Promise<Record<string, string>> {
    if (config.migrationTls === undefined) return {};
    // Read anew each time: certificates are renewed, and the guest's last copy was at the other end.
    await qmp.execute('object-del', { id: TLS_ID }).catch(() => undefined);
    const { dir } = config.migrationTls;
    await qmp.execute('object-add', { 'qom-type': 'tls-creds-x509', id: TLS_ID, dir, endpoint, 'verify-peer': true });
    return { 'tls-creds': TLS_ID, 'tls-hostname': '' };
  }

  function setCapabilities(qmp: QmpClient, wanted: Record<string, boolean>): Promise<unknown> {
    const capabilities = Object.entries(wanted).map(([capability, state]) => ({ capability, state }));
    return qmp.execute('migrate-set-capabilities', { capabilities });
  }

  /** Reports the copy's connection or, when it cannot be found, what is known of it. */
  async function findStream(job: Job, address: string, port: number): Promise<void> {
    const { state } = job;
    if (state.role !== 'source') return;
    const goesOn = () => !closed && job.state.role === 'source' && !isEnded(job.state.phase);
    const found = await findConnection(address, port, () => processOf(runDir, job.guest), goesOn, clock);
    const stream = found ?? anyStream(config.migrationIp, address, port);
    if (stream === undefined || !goesOn()) return;
    // Post-copy opens a second connection for urgent pages, multifd several: "any" source port means all of them.
    const sourcePort = hasOneConnection(state.command) ? stream.sourcePort : 0;
    book.follow(job, { type: 'stream', stream: { ...stream, sourcePort } });
  }

  /** The guest, if a copy of it may begin now. @throws FairwayError `guest-not-running` or `guest-busy`. */
  function startable(name: string): Guest {
    book.checkIdle(name);
    const g = guests.get(name);
    if (g?.state === 'running') return g;
    const text = `guest ${name} does not run on ${config.host}${g === undefined ? '' : ` (it is ${g.state})`}`;
    throw new FairwayError('guest-not-running', text, ['notFound']);
  }

  /** Both ends encrypt, or none does: nothing is sent in the clear that was not meant to be. */
  function checkTls(command: AgentCommandOf<'start'>): void {
    const here = config.migrationTls !== undefined;
    if (here === (command.tls === true)) return;
    const [has, lacks] = here ? [config.host, command.address] : [command.address, config.host];
    const text = `${has} copies over TLS only, and ${lacks} has no credentials for it: set migrationTls on both hosts or on neither`;
    throw new FairwayError('tls-mismatch', text, ['badInput']);
  }

  function prepared(job: Job): PreparedDestination {
    const { state } = job;
    if (state.role !== 'destination' || state.phase === 'failed') {
      const reason = state.role === 'destination' ? (state.reason ?? 'unknown') : 'it is the source here';
      throw new FairwayError('prepare-failed', `migration ${job.id} cannot be prepared: ${reason}`);
    }
    const record = guests.get(job.guest)?.record;
    return {
      address: state.address,
      port: state.port,
      portName: record === undefined ? '' : portName(record),
      ...(config.migrationTls === undefined ? {} : { tls: true }),
      ...(record?.diskPort === undefined ? {} : { diskPort: record.diskPort }),
    };
  }

  const takenPorts = (): Set<number> =>
    new Set(
      book.all().flatMap(({ state }) => (state.role === 'destination' ? [state.port, state.againPort ?? 0] : [])),
    );

  /** Listens anew for a post-copy, once QEMU has let go of the broken stream. */
  async function listenAnew(migration: string): Promise<PreparedDestination> {
    const job = book.destination(migration);
    const { address } = job.state;
    guestOf(job);
    await book.feedDestination(job, {
      type: 'recover',
      ports: await freePorts(address, config.incomingPorts, takenPorts()),
    });
    for (let tries = 0; tries < PAUSE_TRIES && job.state.recoverPending; tries++) {
      await new Promise<void>((resolve) => clock.after(PAUSE_STEP_MS, resolve));
    }
    await book.settled(job);
    const { phase, againPort, reason } = job.state;
    if (phase === 'listeningAgain' && againPort !== null) return { ...prepared(job), port: againPort };
    const text = `migration ${migration} cannot be taken up again at ${config.host}: ${reason ?? `it is ${phase}`}`;
    throw new FairwayError('not-recoverable', text, ['retryable', 'conflict']);
  }

  async function prepareNew(command: AgentCommandOf<'prepare'>): Promise<PreparedDestination> {
    const address = config.migrationIp ?? '127.0.0.1';
    const { name } = command.guest;
    checkOrder(command, abilities, config.host);
    if (guests.has(name) || making.has(name)) {
      const text = `guest ${name} already has a machine on ${config.host}: finish or abandon its last migration`;
      throw new FairwayError('guest-exists', text, ['conflict']);
    }
    // What is left of earlier migrations of this guest, which is not here, is history.
    book.forgetGuest(name);
    const free = await freePorts(address, config.incomingPorts, takenPorts());
    if (free.length === 0) {
      const text = `none of the ports ${config.incomingPorts.join(' to ')} of ${address} is free for an incoming migration: free one, or widen incomingPorts in the configuration of the agent of ${config.host}`;
      throw new FairwayError('no-port', text, ['retryable']);
    }
    const first = prepareDestination(command, address, free);
    const job = book.add(command.migration, name, first.state);
    let made: Partial<GuestRecord> = {};
    try {
      made = await placeDisks(command);
      await addGuest({ ...command.guest, ...disksOf(command) }, true, made);
    } catch (error) {
      removeDisks(made.madeDisks ?? []);
      book.forget(job);
      throw error;
    }
    try {
      await book.beginDestination(job, first.actions);
      await book.settled(job);
      if (command.options?.storage === 'mirrored') {
        const g = guestOf(job);
        const ports = free.filter((port) => job.state.role !== 'destination' || port !== job.state.port);
        g.record.diskPort = (await exportDisks(g.qmp, diskCount(g), address, ports, true)).port;
        writeRecord(runDir, g.record);
      }
      return prepared(job);
    } catch (error) {
      await removeUnborn(name).catch((e: unknown) => log('error', 'guest-clean-up', { guest: name, error: e }));
      book.forget(job);
      throw error;
    }
  }

  const disksOf = ({ guest, options }: AgentCommandOf<'prepare'>): Pick<GuestSpec, 'disks'> =>
    guest.disks === undefined ? {} : { disks: disksAt(guest, options?.storage, config.diskFolder) };

  /** Makes the files of a guest that is to come, or finds those that both hosts share. */
  async function placeDisks(command: AgentCommandOf<'prepare'>): Promise<Partial<GuestRecord>> {
    const storage = command.options?.storage;
    checkStorage(command.guest, storage);
    const { disks = [] } = disksOf(command);
    if (storage === undefined) return {};
    if (storage === 'shared') {
      checkSharedDisks(disks, config.host);
      return {};
    }
    if (config.migrationTls !== undefined) {
      const text = `${config.host} copies over TLS only, and disks are sent in the clear: use storage shared, or no migrationTls`;
      throw new FairwayError('storage-tls', text, ['badInput']);
    }
    const { disksFrom } = command;
    if (storage === 'on-demand' && disksFrom === undefined) {
      throw new FairwayError(
        'disks-from',
        'storage on-demand needs to know where the disks are: offerDisks comes first',
        ['badInput'],
      );
    }
    const madeDisks = await makeDisks(disks, config.host, storage === 'mirrored');
    if (storage === 'mirrored' || disksFrom === undefined) return { madeDisks };
    const pullBps = command.options?.pullBps;
    const onDemand = { migration: command.migration, from: disksFrom, fetchedBytes: 0, isPulled: false };
    return { madeDisks, onDemand: { ...onDemand, ...(pullBps === undefined ? {} : { pullBps }) } };
  }

  /** Removes a machine that has not run here, and the files that were made for it. */
  async function removeUnborn(name: string): Promise<void> {
    const made = guests.get(name)?.record.madeDisks ?? readRecord(runDir, name)?.madeDisks ?? [];
    await removeGuest(name, false);
    removeDisks(made);
  }

  return {
    kind: 'qmp',
    abilities: () => abilities,

    async open(listener) {
      report = listener;
      mkdirSync(join(runDir, 'migrations'), { recursive: true, mode: 0o700 });
      try {
        abilities = await probeQemu(config.qemu, runDir);
      } catch (error) {
        log('error', 'hypervisor-probe', { qemu: config.qemu, error });
      }
      await adopt();
      for (const spec of config.guests) {
        if (guests.has(spec.name) || readRecord(runDir, spec.name)?.departed) continue;
        await addGuest(spec, false);
      }
    },

    async launch(spec) {
      const here = guests.get(spec.name);
      if (here !== undefined && here.state === 'running' && JSON.stringify(here.record.spec) === JSON.stringify(spec)) {
        return info(here);
      }
      return info(await addGuest(spec, false));
    },

    guests: listGuests,
    disks: diskService,

    ...book.commands,

    async prepare(command) {
      // The same order again, while it is still being carried out, has the same answer.
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
    },

    async start(command) {
      if (book.get(command.migration) === undefined) {
        const g = startable(command.guest);
        g.abilities ??= askAbilities(g.qmp).catch((error: unknown) => {
          delete g.abilities;
          throw error;
        });
        checkOrder(command, await g.abilities, config.host);
        checkTls(command);
        checkStorage(g.record.spec, command.options?.storage);
        diskService.checkWhole(g);
      }
      let job: Job | undefined = book.get(command.migration) && book.source(command.migration);
      if (job === undefined) {
        startable(command.guest);
        // It runs here, so what brought it or failed to take it away is over.
        book.forgetGuest(command.guest);
        const first = startSource(command, clock.now());
        job = book.add(command.migration, command.guest, first.state);
        await book.begin(job, first.actions);
      }
      await book.settled(job);
      if (job.state.role === 'source' && job.state.phase === 'failed') {
        const reason = job.events.at(-1)?.reason ?? 'no reason given';
        throw new FairwayError('start-failed', `migration ${job.id} did not start: ${reason}`);
      }
    },

    recoverIncoming: listenAnew,

    async recoverOutgoing({ migration, address, port, bandwidthBps, switchoverBps }) {
      const job = book.source(migration);
      guestOf(job);
      const first = job.state.command;
      // QEMU itself would wait two minutes for an answer, and could not be stopped meanwhile. Nobody listens at the first port.
      if (!(await pathAnswers(first.address, first.port, config.migrationIp, PATH_MS))) {
        const text = `${first.address} does not answer ${config.host} within ${PATH_MS} ms: the path between the hosts is still cut`;
        throw new FairwayError('path-down', text, ['retryable']);
      }
      const more = switchoverBps === undefined ? {} : { switchoverBps };
      await book.feedSource(job, { type: 'recover', address, port, bandwidthBps, ...more });
    },

    async finish(migration) {
      const job = book.finishable(migration);
      if (job === undefined) return;
      const storage = job.state.command.options?.storage;
      if (job.state.role === 'source' && job.state.phase === 'completed') {
        const g = guests.get(job.guest);
        if (g !== undefined && storage === 'on-demand') {
          // It stays as long as its disks are read.
          g.record.serves = true;
          writeRecord(runDir, g.record);
        } else {
          await removeGuest(job.guest, true);
          if (storage === 'mirrored') putAside(g?.record.spec.disks ?? []);
        }
      }
      // Whoever comes back is told again that the disks are here: the job is kept until the guest's next.
      if (job.state.role === 'destination' && storage === 'on-demand') return;
      book.forget(job);
    },

    async abandon(migration) {
      const job = book.abandonable(migration);
      if (job === undefined) return;
      await removeUnborn(job.guest);
      book.forget(job);
    },

    async measureDirtyRate(guest, seconds) {
      const g = guests.get(guest);
      if (g === undefined) throw new FairwayError('guest-unknown', `no guest ${guest} on ${config.host}`, ['notFound']);
      await g.qmp.execute('calc-dirty-rate', {
        'calc-time': Math.round(seconds * 1000),
        'calc-time-unit': 'millisecond',
        mode: 'page-sampling',
        // Pages looked at per GiB: the most QEMU takes, since a small guest gets few samples.
        'sample-pages': 16384,
      });
      const answer = z.object({ status: z.string(), 'dirty-rate': z.number().optional() });
      for (let tries = 0; tries < 200; tries++) {
        await new Promise<void>((resolve) => clock.after(tries === 0 ? seconds * 1000 : 50, resolve));
        const measured = answer.parse(await g.qmp.execute('query-dirty-rate'));
        const mibPerS = measured['dirty-rate'];
        if (measured.status === 'measured' && mibPerS !== undefined && mibPerS >= 0) {
          // QEMU rounds down to whole MiB/s: the middle of what it may have been is the better estimate.
          return { dirtyBytesPerS: mibPerS === 0 ? 0 : (mibPerS + 0.5) * 1024 * 1024 };
        }
      }
      throw new FairwayError('dirty-rate', `QEMU did not finish measuring guest ${guest}`, ['retryable']);
    },

    async close({ stopGuests }) {
      closed = true;
      book.close();
      diskService.close();
      await Promise.allSettled(making.values());
      if (stopGuests) {
        for (const job of book.all()) book.forget(job);
        await Promise.all([...guests.keys()].map((name) => removeGuest(name, false)));
      }
      for (const g of guests.values()) {
        g.ending = true;
        g.qmp.close();
      }
    },
  };
}
