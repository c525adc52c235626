/**
 * One guest's QEMU process: started detached, found again by its files, and ended. A guest's folder below the agent's run
 * directory holds its definition (`guest.json`), sockets, pid and serial output; a restarted agent reads them and goes on.
 * `qemuDriver.ts` decides when; `core/qemuArgv.ts` says with which command line.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { diskOfferSchema, guestSpecSchema } from '../../contracts/agent.ts';
import { FairwayError } from '../../contracts/common.ts';
import { type QemuPaths, qemuArgv } from '../core/qemuArgv.ts';
import { run } from './hostNet.ts';
import type { QmpClient } from './qmp.ts';

const recordSchema = z.object({
  spec: guestSpecSchema,
  tap: z.string().nullable(),
  /** The guest was moved away: it must not be started here again by the agent's own configuration. */
  departed: z.boolean(),
  /** Files made for a guest that has not run here: they go with the machine if it never does. */
  madeDisks: z.array(z.string()).optional(),
  /** Storage mirrored: where its disks are taken before it runs here. */
  diskPort: z.number().optional(),
  /** Its disks are partly still elsewhere (storage on-demand). */
  onDemand: z
    .object({
      migration: z.string(),
      from: diskOfferSchema,
      pullBps: z.number().optional(),
      /** Fetched over connections that have ended. */
      fetchedBytes: z.number(),
      /** And over those that were open when it was last counted. */
      openBytes: z.number().default(0),
      /** All is here. */
      isPulled: z.boolean(),
    })
    .optional(),
  /** The guest has left, and reads its disks here. */
  serves: z.boolean().optional(),
});
export type GuestRecord = z.infer<typeof recordSchema>;

/** The longest path a unix socket may have on Linux (sun_path, without the final zero). */
const MAX_SOCKET_PATH = 107;

export function guestPaths(runDir: string, guest: string): QemuPaths & { dir: string; record: string } {
  const dir = join(runDir, 'guests', guest);
  return {
    dir,
    record: join(dir, 'guest.json'),
    qmp: join(dir, 'qmp.sock'),
    monitor: join(dir, 'monitor.sock'),
    serial: join(dir, 'serial.log'),
    pidFile: join(dir, 'pid'),
  };
}

/** Writes a small file so that a reader sees the old or the new contents, never half. @throws FairwayError `disk-full`. */
export function writeAtomically(path: string, text: string): void {
  try {
    writeFileSync(`${path}.new`, text, { mode: 0o600 });
    renameSync(`${path}.new`, path);
  } catch (error) {
    rmSync(`${path}.new`, { force: true });
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error;
    const text = `no space is left on the disk of ${dirname(path)}: make room there, or give the agent another runDir`;
    throw new FairwayError('disk-full', text, ['retryable'], error);
  }
}

export function writeRecord(runDir: string, record: GuestRecord): void {
  const paths = guestPaths(runDir, record.spec.name);
  mkdirSync(paths.dir, { recursive: true, mode: 0o700 });
  writeAtomically(paths.record, JSON.stringify(record));
}

export function readRecord(runDir: string, guest: string): GuestRecord | undefined {
  try {
    return recordSchema.parse(JSON.parse(readFileSync(guestPaths(runDir, guest).record, 'utf8')));
  } catch {
    return undefined;
  }
}

/** All guests this agent has files of. */
export function readRecords(runDir: string): GuestRecord[] {
  const root = join(runDir, 'guests');
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .map((name) => readRecord(runDir, name))
    .filter((r) => r !== undefined);
}

/** Forgets a guest whose process is gone; its serial output stays for whoever wants to know why. */
export function forgetFiles(runDir: string, guest: string): void {
  const { qmp, monitor, pidFile, record } = guestPaths(runDir, guest);
  for (const path of [qmp, monitor, pidFile, record]) rmSync(path, { force: true });
}

/**
 * Starts QEMU and returns its process id once it is ready for QMP.
 *
 * @throws FairwayError `guest-start` with what QEMU said, `machine-unsupported`, `disk-full` or `run-dir-too-long`.
 */
export async function startProcess(
  qemu: string,
  runDir: string,
  record: GuestRecord,
  incoming: boolean,
): Promise<number> {
  const paths = guestPaths(runDir, record.spec.name);
  if (Buffer.byteLength(paths.monitor) > MAX_SOCKET_PATH) {
    const text = `${paths.monitor} is too long for a unix socket (${MAX_SOCKET_PATH} bytes): choose a shorter runDir`;
    throw new FairwayError('run-dir-too-long', text, ['badInput']);
  }
  for (const path of [paths.qmp, paths.monitor, paths.pidFile]) rmSync(path, { force: true });
  writeRecord(runDir, record);
  try {
    await run(qemu, qemuArgv(record.spec, paths, record.tap, { incoming, disksFrom: record.onDemand?.from }), 30_000);
  } catch (error) {
    forgetFiles(runDir, record.spec.name);
    const said = (error as Error).message;
    if (/unsupported machine type/i.test(said)) {
      const text = `QEMU here (${qemu}) has no machine type ${record.spec.machine}, which guest ${record.spec.name} runs on: install the QEMU that the other host has, or start the guest on a type that both have`;
      throw new FairwayError('machine-unsupported', text, ['badInput'], error);
    }
    const cure =
      said === `${qemu} is not installed`
        ? ' (Debian: apt-get install qemu-system-x86), or set qemu to where it is'
        : '';
    throw new FairwayError('guest-start', `guest ${record.spec.name} did not start: ${said}${cure}`, [], error);
  }
  // QEMU makes them as its umask says. The folder is closed to others already; this holds if somebody opens it.
  for (const path of [paths.qmp, paths.monitor, paths.serial, paths.pidFile]) {
    if (existsSync(path)) chmodSync(path, 0o600);
  }
  const pid = processOf(runDir, record.spec.name);
  if (pid === undefined)
    throw new FairwayError('guest-start', `guest ${record.spec.name} ended as soon as it had started`);
  return pid;
}

/** The process id of the guest's QEMU, if it runs. The command line is compared, since ids are used again. */
export function processOf(runDir: string, guest: string): number | undefined {
  const paths = guestPaths(runDir, guest);
  try {
    const pid = Number.parseInt(readFileSync(paths.pidFile, 'utf8'), 10);
    const commandLine = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return commandLine.includes(paths.qmp.replaceAll(',', ',,')) ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** A machine that is being started is there within this long; an agent that was killed meanwhile does not see it through. */
const APPEARS_MS = 10_000;

/**
 * Waits for a machine that an agent was starting when it was killed: its process lives before it says so. Resolves to
 * whether there is one; one that never comes to be is ended.
 */
export async function straySettled(runDir: string, guest: string): Promise<boolean> {
  for (let waited = 0; ; waited += 50) {
    if (processOf(runDir, guest) !== undefined) return true;
    const pid = strayOf(runDir, guest);
    if (pid === undefined) return processOf(runDir, guest) !== undefined;
    if (waited >= APPEARS_MS) {
      process.kill(pid, 'SIGKILL');
      return false;
    }
    await sleep(50);
  }
}

/** A process with the guest's control socket on its command line, whether or not it has written its id down. */
function strayOf(runDir: string, guest: string): number | undefined {
  const mark = guestPaths(runDir, guest).qmp.replaceAll(',', ',,');
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(mark)) return Number(name);
    } catch {
      // It has ended.
    }
  }
  return undefined;
}

/** True once the guest's process is gone; waits up to `ms`. */
export async function processGone(runDir: string, guest: string, ms: number): Promise<boolean> {
  for (let waited = 0; processOf(runDir, guest) !== undefined; waited += 20) {
    if (waited >= ms) return false;
    await sleep(20);
  }
  return true;
}

/** Ends the guest's QEMU: by QMP if it listens, by force if it does not. Only a process that is provably this guest's. */
export async function endProcess(runDir: string, guest: string, qmp: QmpClient | undefined): Promise<void> {
  if (qmp !== undefined) await qmp.execute('quit', {}, 2000).catch(() => undefined);
  if (await processGone(runDir, guest, qmp === undefined ? 0 : 3000)) return;
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    const pid = processOf(runDir, guest);
    if (pid === undefined) return;
    try {
      process.kill(pid, signal);
    } catch {
      return;
    }
    if (await processGone(runDir, guest, 2000)) return;
  }
  throw new FairwayError('guest-end', `the QEMU of guest ${guest} does not end`);
}
