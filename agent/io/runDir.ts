/**
 * The agent's run directory: made, or refused with what to do about it, and kept to one agent at a time. Two agents on one
 * would start the same guests and tell the controller of them twice. `agent.ts` takes it before the driver opens.
 */
import { accessSync, constants, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { FairwayError } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';

/** Says which process it is, beyond its id, which is given out again: time of start (proc_pid_stat(5), field 22). */
function startOf(pid: number): string | undefined {
  try {
    const [state, , ...fields] = readFileSync(`/proc/${pid}/stat`, 'latin1')
      .replace(/^.*\) /s, '')
      .split(' ');
    // A zombie has ended, and only waits to be asked how.
    return state === 'Z' ? undefined : fields[17];
  } catch {
    return undefined;
  }
}

/** A process other than this one that holds the directory, and lives. */
function holderOf(file: string): number | undefined {
  try {
    const [pid = 0, start] = readFileSync(file, 'utf8').trim().split(' ').map(Number);
    return pid !== process.pid && start !== undefined && startOf(pid) === String(start) ? pid : undefined;
  } catch {
    return undefined;
  }
}

function make(runDir: string): void {
  const cure = 'run the agent as root, or set runDir to a folder that it may make';
  try {
    // One level after the other: where nothing can be made (/proc), Node never returns from making several.
    const missing: string[] = [];
    for (let path = resolve(runDir); !statSync(path, { throwIfNoEntry: false }); path = dirname(path))
      missing.unshift(path);
    for (const path of missing) mkdirSync(path, { mode: 0o700 });
    if (!statSync(runDir).isDirectory()) throw new Error('it is no folder');
    accessSync(runDir, constants.W_OK | constants.X_OK);
  } catch (error) {
    const text = `runDir ${runDir} cannot be used: ${(error as Error).message}; ${cure}`;
    throw new FairwayError('run-dir', text, ['badInput'], error);
  }
}

/**
 * Makes the directory (mode 0700) if it is not there, and takes it for this process. The returned function lets it go; a
 * process that was killed holds it no more.
 *
 * @throws FairwayError `run-dir` (badInput) when it cannot be made or written to, `run-dir-taken` (conflict) when another agent has it.
 */
export function takeRunDir(runDir: string, log: Log): () => void {
  make(runDir);
  const file = join(runDir, 'agent.pid');
  const holder = holderOf(file);
  if (holder !== undefined) {
    const text = `another agent (process ${holder}) runs with runDir ${runDir}: end it first, or give this one a runDir and a host of its own`;
    throw new FairwayError('run-dir-taken', text, ['conflict']);
  }
  try {
    writeFileSync(file, `${process.pid} ${startOf(process.pid)}\n`, { mode: 0o600 });
  } catch (error) {
    // A full disk: guests are there all the same, and somebody has to look after them.
    log('warn', 'run-dir-not-marked', { runDir, error });
  }
  return () => {
    if (holderOf(file) === undefined) rmSync(file, { force: true });
  };
}
