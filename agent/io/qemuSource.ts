/**
 * The source's part of a copy between QEMUs: carries out what `core/source.ts` decides, by QMP. Part of `qemuDriver.ts`; its
 * counterpart is `qemuDestination.ts`.
 */
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { AgentConfig } from '../../contracts/config.ts';
import type { Log } from '../../contracts/log.ts';
import type { MigrateInfo } from '../core/progress.ts';
import { isEnded, type SourceAction, type SourceEvent } from '../core/sourceState.ts';
import { hasOneConnection } from '../core/techniques.ts';
import {
  askDiskJobs,
  drainMirrors,
  dropMirrors,
  mirrorIds,
  mirrorReason,
  paceDiskJobs,
  startMirrors,
} from './disks.ts';
import { answerSource, wait } from './driverParts.ts';
import { processOf } from './guestProcess.ts';
import { isStarting, type Job, type JobBook } from './jobBook.ts';
import { anyStream, findConnection, uriHost } from './migrationPorts.ts';
import { credentials, queryMigrate, runStateOf, SLOW_MS, setCapabilities } from './migrationQmp.ts';
import { diskCount, type QemuGuest } from './qemuGuests.ts';

export interface QemuSourceOptions {
  config: Pick<AgentConfig, 'migrationIp' | 'migrationTls' | 'runDir'>;
  clock: Clock;
  log: Log;
  book: JobBook;
  guest(name: string): QemuGuest | undefined;
  /** @throws FairwayError `guest-gone` when it has no machine here. */
  guestOf(job: Job): QemuGuest;
  /** True once the driver is being closed. */
  isClosed(): boolean;
}

export interface QemuSource {
  act(job: Job, action: SourceAction): Promise<void>;
  /** How the copy stands; undefined when there is nobody to ask. */
  query(job: Job): Promise<MigrateInfo | undefined>;
}

/** The mirror runs, and memory waits for it. */
const isAlone = (state: Job['state']): boolean => state.phase === 'disks';
type Step = Extract<SourceEvent, { type: 'reply' }>['to'];

export function createQemuSource({
  config,
  clock,
  log,
  book,
  guest,
  guestOf,
  isClosed,
}: QemuSourceOptions): QemuSource {
  /** Reports the copy's connection or, when it cannot be found, what is known of it. */
  async function findStream(job: Job, address: string, port: number): Promise<void> {
    const { state } = job;
    if (state.role !== 'source') return;
    const goesOn = () => !isClosed() && job.state.role === 'source' && !isEnded(job.state.phase);
    const found = await findConnection(address, port, () => processOf(config.runDir, job.guest), goesOn, clock);
    const stream = found ?? anyStream(config.migrationIp, address, port);
    if (stream === undefined || !goesOn()) return;
    // Post-copy opens a second connection for urgent pages, multifd several: "any" source port means all of them.
    const sourcePort = hasOneConnection(state.command) ? stream.sourcePort : 0;
    book.follow(job, { type: 'stream', stream: { ...stream, sourcePort } });
  }

  /** After a stop-and-copy that did not come about. QEMU itself says whether the guest is still here. */
  async function resumeHere(job: Job): Promise<void> {
    const { qmp } = guestOf(job);
    for (let tries = 0; tries < 100; tries++) {
      const runState = await runStateOf(qmp);
      if (runState === 'paused' || runState === 'prelaunch') {
        await qmp.execute('cont', {}, SLOW_MS);
        return;
      }
      // It is about to be what it was before the copy.
      if (runState !== 'finish-migrate') {
        log('warn', 'guest-not-resumed', { guest: job.guest, runState });
        return;
      }
      await wait(clock, 20);
    }
    throw new FairwayError('guest-not-resumed', `guest ${job.guest} does not leave the state finish-migrate`);
  }

  return {
    async act(job, action) {
      const answer = (to: Step, work: () => Promise<unknown>) => answerSource(book, job, to, work);
      const { qmp } = guestOf(job);
      switch (action.do) {
        case 'setCapabilities':
          return answer('capabilities', () => setCapabilities(qmp, action.capabilities));
        case 'setParameters':
          return answer('parameters', async () => {
            // Credentials once, before the copy: a later change of pace leaves them.
            const opening = isStarting(job.state.phase);
            const tls = opening ? await credentials(qmp, 'client', config.migrationTls) : {};
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
          book.follow(job, { type: 'status', info: await queryMigrate(qmp) });
          return;
        default:
          return;
      }
    },

    async query(job) {
      const g = guest(job.guest);
      if (g === undefined) return undefined;
      if (job.state.role === 'source' && job.state.mirror?.isOn === true) {
        const disks = await askDiskJobs(g.qmp, mirrorIds(diskCount(g)));
        if (disks !== undefined) {
          const error = disks.error === undefined ? {} : { error: mirrorReason(disks.error) };
          await book.feedSource(job, { type: 'disks', disks: { ...disks, ...error } });
        }
        if (isAlone(job.state)) return undefined;
      }
      return queryMigrate(g.qmp);
    },
  };
}
