/**
 * What the lab has made outside its own memory: namespaces and processes, written to `state.json` in the lab's state
 * directory *before* each is made, so that `down`, or the next `up`, finds them also after a crash. `network.ts` and
 * `fairway.ts` record through this; nothing is ever ended that is not recorded here or living in a recorded namespace.
 */
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { attempt, preciseNow, run, sleep } from './shell.ts';

const stateSchema = z.object({
  format: z.literal('lab-state/1'),
  prefix: z.string(),
  /** Process that works with the lab at the moment; null when it was left up for a person to use. */
  owner: z.object({ pid: z.number().int(), startTicks: z.string() }).nullable(),
  namespaces: z.array(z.string()),
  processes: z.array(z.object({ pid: z.number().int(), startTicks: z.string(), what: z.string() })),
});
export type LabState = z.infer<typeof stateSchema>;

/** When a process was started, in the kernel's clock ticks; tells a process from a later one with the same pid. Undefined when there is none. */
export function startTicks(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // Field 2 is the program name in parentheses and may hold spaces: count from behind it. Field 22 is starttime, 3 the state.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

const isSame = (p: { pid: number; startTicks: string }): boolean => startTicks(p.pid) === p.startTicks;

/** The state file of one lab. */
export class StateFile {
  readonly directory: string;
  private state: LabState;

  constructor(directory: string, prefix: string) {
    this.directory = directory;
    this.state = StateFile.read(directory) ?? {
      format: 'lab-state/1',
      prefix,
      owner: null,
      namespaces: [],
      processes: [],
    };
  }

  /** The recorded state of the lab in `directory`; undefined when there is none or it cannot be understood. */
  static read(directory: string): LabState | undefined {
    try {
      const parsed = stateSchema.safeParse(JSON.parse(readFileSync(join(directory, 'state.json'), 'utf8')));
      return parsed.success ? parsed.data : undefined;
    } catch {
      return undefined;
    }
  }

  /** Pid of another live process that works with this lab. */
  otherOwner(): number | undefined {
    const { owner } = this.state;
    return owner !== null && owner.pid !== process.pid && isSame(owner) ? owner.pid : undefined;
  }

  setOwner(mine: boolean): void {
    this.state.owner = mine ? { pid: process.pid, startTicks: startTicks(process.pid) ?? '' } : null;
    this.write();
  }

  addNamespace(name: string): void {
    if (!this.state.namespaces.includes(name)) this.state.namespaces.push(name);
    this.write();
  }

  addProcess(pid: number, what: string): void {
    const ticks = startTicks(pid);
    if (ticks === undefined) return;
    this.state.processes = this.state.processes.filter(isSame);
    this.state.processes.push({ pid, startTicks: ticks, what });
    this.write();
  }

  /** Recorded namespaces that exist. */
  async liveNamespaces(): Promise<string[]> {
    if (this.state.namespaces.length === 0) return [];
    const existing = new Set((await run('ip', ['netns', 'list'])).split('\n').map((l) => l.split(' ')[0] ?? ''));
    return this.state.namespaces.filter((n) => existing.has(n));
  }

  /** Recorded processes that live, and all others that live in a recorded namespace. */
  async liveProcesses(): Promise<{ pid: number; what: string }[]> {
    const found = new Map<number, string>();
    for (const p of this.state.processes) if (isSame(p)) found.set(p.pid, p.what);
    for (const namespace of await this.liveNamespaces()) {
      const pids = await attempt('ip', ['netns', 'pids', namespace]);
      if (!pids.ok) continue;
      for (const text of pids.stdout.split(/\s+/)) {
        const pid = Number(text);
        // A process may have ended in between, or be a zombie its parent has not collected yet: neither is left over.
        if (pid > 0 && !found.has(pid) && startTicks(pid) !== undefined) {
          found.set(pid, `${commandLine(pid)} in ${namespace}`);
        }
      }
    }
    return [...found].map(([pid, what]) => ({ pid, what }));
  }

  /**
   * Ends every live process (TERM, then KILL after `graceMs`), deletes every namespace and the state directory's
   * sockets and logs. Returns what it had to remove and what is there in spite of it, each as a text.
   */
  async cleanUp(graceMs = 2000): Promise<{ removed: string[]; remaining: string[] }> {
    const removed: string[] = [];
    const processes = await this.liveProcesses();
    for (const p of processes) {
      removed.push(`process ${p.pid} (${p.what})`);
      signal(p.pid, 'SIGTERM');
    }
    const until = preciseNow() + graceMs;
    let alive = processes;
    while (alive.length > 0 && preciseNow() < until) {
      await sleep(50);
      alive = alive.filter((p) => startTicks(p.pid) !== undefined);
    }
    for (const p of await this.liveProcesses()) signal(p.pid, 'SIGKILL');
    let survivors = await this.liveProcesses();
    for (let i = 0; i < 40 && survivors.length > 0; i++) {
      await sleep(50);
      survivors = await this.liveProcesses();
    }
    const remaining = survivors.map((p) => `process ${p.pid} (${p.what})`);
    for (const namespace of await this.liveNamespaces()) {
      removed.push(`namespace ${namespace}`);
      const deleted = await attempt('ip', ['netns', 'delete', namespace]);
      if (!deleted.ok) remaining.push(`namespace ${namespace}: ${deleted.reason}`);
    }
    rmSync(this.directory, { recursive: true, force: true });
    this.state = { ...this.state, owner: null, namespaces: [], processes: [] };
    return { removed, remaining };
  }

  private write(): void {
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    const file = join(this.directory, 'state.json');
    // Written beside and renamed: a crash in the middle must not lose the list of what is to be cleaned up.
    writeFileSync(`${file}.new`, JSON.stringify(this.state));
    renameSync(`${file}.new`, file);
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It ended by itself in the meantime.
  }
}

/** Command line of a process, cut to 300 characters; `ended` when there is no such process. */
export function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean).join(' ').slice(0, 300);
  } catch {
    return 'ended';
  }
}
