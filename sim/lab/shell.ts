/**
 * Running the system's own programs (`ip`, `tc`, `ovs-vsctl`, …) and long-lived children, in the root namespace or in one
 * of the lab's. Used by everything in `sim/lab/`; knows nothing of the lab itself.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import type { Socket } from 'node:net';
import { setPriority } from 'node:os';
import { FairwayError } from '../../contracts/common.ts';

export interface RunOptions {
  /** Text for standard input. */
  input?: string;
  /** Milliseconds until the program is killed and the call fails. Default 20 s. */
  timeoutMs?: number;
  env?: Record<string, string>;
}

/**
 * Runs a program to its end and returns its standard output.
 * Fails with FairwayError `lab.command` (what was run, what it said) when it cannot be started, ends with a status other
 * than 0, or takes longer than `timeoutMs`.
 */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      command,
      args,
      {
        timeout: options.timeoutMs ?? 20_000,
        maxBuffer: 64 << 20,
        killSignal: 'SIGKILL',
        env: { ...process.env, ...options.env },
      },
      (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else {
          const said = stderr.trim() || stdout.trim() || error.message;
          reject(new FairwayError('lab.command', `\`${[command, ...args].join(' ')}\` failed: ${said}`, [], error));
        }
      },
    );
    // A program that ends without reading its input is judged by its status, not by the broken pipe.
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input);
  });
}

/** As `run`, but a failure of the program is an answer, not an error. */
export async function attempt(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<{ ok: true; stdout: string } | { ok: false; reason: string }> {
  try {
    return { ok: true, stdout: await run(command, args, options) };
  } catch (e) {
    return { ok: false, reason: e instanceof Error ? e.message : String(e) };
  }
}

/** The argument list that runs `command` in network namespace `namespace`. `ip netns exec` becomes the program, so the pid is the program's. */
export function inNamespace(namespace: string, command: string, args: readonly string[]): [string, string[]] {
  return ['ip', ['netns', 'exec', namespace, command, ...args]];
}

/** Runs a program to its end inside a network namespace; see `run`. */
export function runIn(namespace: string, command: string, args: readonly string[], options: RunOptions = {}) {
  const [c, a] = inNamespace(namespace, command, args);
  return run(c, a, options);
}

export interface SpawnOptions {
  /** File that receives standard error, and standard output unless `onLine` takes it. */
  logFile: string;
  /** Called with each line of standard output and the instant it arrived (ms since the epoch, fractional). */
  onLine?: (line: string, atMs: number) => void;
  /** Added to this process's environment; undefined takes a variable away. */
  env?: Record<string, string | undefined>;
  cwd?: string;
}

/** Milliseconds since the epoch with sub-millisecond resolution, on one monotonic base for the whole process. */
export const preciseNow = (): number => performance.timeOrigin + performance.now();

/**
 * Starts a long-lived program inside a network namespace, in a session of its own: a Ctrl-C in the terminal reaches the
 * lab, which then ends its children in order, rather than all of them at once.
 */
export function spawnIn(namespace: string, command: string, args: readonly string[], options: SpawnOptions) {
  const [c, a] = inNamespace(namespace, command, args);
  const log = openSync(options.logFile, 'a');
  const child = spawn(c, a, {
    detached: true,
    stdio: ['ignore', options.onLine === undefined ? log : 'pipe', log],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const { onLine } = options;
  if (onLine !== undefined && child.stdout !== null) {
    let rest = '';
    child.stdout.setEncoding('utf8');
    child.stdout.on('data', (chunk: string) => {
      const atMs = preciseNow();
      const lines = (rest + chunk).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) onLine(line, atMs);
    });
  }
  return child;
}

/**
 * Gives a process of the network or of the measurement precedence over guests: a switch has its own processor and a
 * client its own machine, and what they would do late here for want of one would be taken for the migration's doing.
 */
export function prefer(pid: number): void {
  setPriority(pid, -15);
}

/**
 * Gives a process, with all its threads, precedence over everything that is not so preferred, at once and whatever else the
 * machine does (SCHED_RR): where milliseconds of the network are measured, precedence over guests is not enough.
 */
export async function preferAtOnce(pid: number): Promise<void> {
  await run('chrt', ['--all-tasks', '--rr', '--pid', '1', String(pid)]);
}

/** Gives an agent, and so the guests it starts, precedence over other work of the machine, but not over the network. */
export function preferGuestsOf(agentPid: number): void {
  setPriority(agentPid, -10);
}

/** Resolves when the child has ended; with its status, or null when a signal ended it. */
export function ended(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve(child.exitCode);
  return new Promise((resolve) => {
    child.once('exit', (status) => resolve(status));
    child.once('error', () => resolve(null));
  });
}

/** Asks a child to end with `signal`, and kills it when it has not within `graceMs`. */
export async function stop(child: ChildProcess, signal: NodeJS.Signals = 'SIGTERM', graceMs = 5000): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  const timer = setTimeout(() => child.kill('SIGKILL'), graceMs);
  await ended(child);
  clearTimeout(timer);
}

/** Ends a process that is not our child (one that detached itself): TERM, and KILL when it has not ended within `graceMs`. */
export async function stopPid(pid: number, graceMs = 3000): Promise<void> {
  const until = preciseNow() + graceMs;
  let signal: NodeJS.Signals | 0 = 'SIGTERM';
  for (;;) {
    try {
      process.kill(pid, signal);
    } catch {
      return;
    }
    await sleep(30);
    signal = preciseNow() > until ? 'SIGKILL' : 0;
  }
}

/** Waits `ms`; ends early with FairwayError `lab.interrupted` when `signal` aborts. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted === true) return reject(interrupted());
    const onAbort = () => {
      clearTimeout(timer);
      reject(interrupted());
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

export const interrupted = () => new FairwayError('lab.interrupted', 'interrupted; the lab was cleaned up');

/** Polls `probe` until it gives something other than undefined; fails with FairwayError `lab.timeout` naming `what`. */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
  options: { timeoutMs: number; everyMs?: number; signal?: AbortSignal | undefined },
): Promise<T> {
  const until = preciseNow() + options.timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (preciseNow() > until) {
      throw new FairwayError('lab.timeout', `${what}: not within ${options.timeoutMs / 1000} s`);
    }
    await sleep(options.everyMs ?? 100, options.signal);
  }
}

/** Joins two connections: what comes from one goes to the other, and either side's end, orderly or not, ends both. */
export function joinSockets(a: Socket, b: Socket): void {
  for (const socket of [a, b]) socket.on('error', () => {});
  a.on('close', () => b.destroy());
  b.on('close', () => a.destroy());
  a.pipe(b).pipe(a);
}
