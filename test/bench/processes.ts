/** Child processes of the benchmarks: found when missing, pinned to a core, ended by their ids whatever happens. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository; this file runs from dist/test/bench. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../../..');

/** A TCP port that was free a moment ago, for programs that cannot choose one themselves. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** A process and what it prints. */
export interface Running {
  readonly child: ChildProcess;
  readonly pid: number;
  /** The next line of its standard output. Rejects when it ends first, with the end of its standard error. */
  line(): Promise<string>;
}

/** The processes of one benchmark. */
export class Processes {
  readonly #all = new Set<ChildProcess>();
  readonly #stop = (signal: NodeJS.Signals) => {
    void this.close().then(() => process.exit(signal === 'SIGINT' ? 130 : 143));
  };

  constructor() {
    process.on('SIGINT', this.#stop).on('SIGTERM', this.#stop);
  }

  /** Starts a command on one core, or anywhere. `taskset` becomes the command, so that the id is its own. */
  start(core: number | undefined, command: string, ...args: string[]): Running {
    const words = core === undefined ? [command, ...args] : ['taskset', '-c', String(core), command, ...args];
    const child = spawn(words[0] as string, words.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#all.add(child);
    const lines: string[] = [];
    const waiting: { resolve(line: string): void; reject(error: Error): void }[] = [];
    let rest = '';
    let complaints = '';
    let ended: Error | undefined;
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop() ?? '';
      for (const part of parts) {
        const next = waiting.shift();
        if (next) next.resolve(part);
        else lines.push(part);
      }
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaints = (complaints + text).slice(-2000);
    });
    child.stdin.on('error', () => {});
    const over = (error: Error) => {
      ended ??= error;
      for (const w of waiting.splice(0)) w.reject(ended);
    };
    child.on('error', over);
    child.on('close', (code, signal) => {
      this.#all.delete(child);
      over(new Error(`${command} ended (${signal ?? code}): ${complaints.trim().split('\n').slice(-3).join(' / ')}`));
    });
    return {
      child,
      pid: child.pid ?? 0,
      line: () =>
        new Promise((resolve, reject) => {
          const ready = lines.shift();
          if (ready !== undefined) resolve(ready);
          else if (ended) reject(ended);
          else waiting.push({ resolve, reject });
        }),
    };
  }

  /** Ends all that still run and waits until they are gone. */
  async close(): Promise<void> {
    process.off('SIGINT', this.#stop).off('SIGTERM', this.#stop);
    await Promise.all(
      [...this.#all].map(async (child) => {
        const gone = new Promise((resolve) => child.once('close', resolve));
        child.kill('SIGTERM');
        const last = setTimeout(() => child.kill('SIGKILL'), 3000);
        await gone;
        clearTimeout(last);
      }),
    );
  }
}
