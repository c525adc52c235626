/**
 * The journal: what happened to jobs, one JSON object a line, so that a controller that died finds its jobs again.
 * `controller/io/server.ts` appends the entries that `controller/core` hands out, and replays them at start.
 */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { FairwayError } from '../../contracts/common.ts';
import { type Log, silentLog } from '../../contracts/log.ts';

export type JournalEntry = Record<string, unknown>;

/** What callers use of a journal, whether it is a file or only memory. */
export interface JournalLike {
  /** What was there when it was opened, in order. */
  readonly entries: readonly JournalEntry[];
  /** Queues an entry; never throws for trouble with the disk, which `flush` and the log tell. */
  append(entry: object): void;
  /** Entries appended since it was opened or compacted. */
  readonly appended: number;
  /**
   * Resolves when all appended so far was handed to the system, so that it outlives this process, or could not be, which
   * `flush` and the log tell. At once when nothing waits.
   */
  written(): Promise<void>;
  /** Resolves when all appended so far is on the disk. Throws FairwayError `JOURNAL_WRITE` (retryable) when it is not. */
  flush(): Promise<void>;
  /**
   * Replaces the content, all or nothing: forgets what is no longer needed. `current` is asked when earlier writes are
   * done and must cover everything appended until then.
   */
  compact(current: () => readonly object[]): Promise<void>;
  close(): Promise<void>;
}

export interface JournalOptions {
  log?: Log;
  /** Entries not written yet may take this much memory; beyond it new ones are lost (logged, and `flush` fails). */
  maxPendingBytes?: number;
  /** Longest line taken for an entry when reading. */
  maxLineBytes?: number;
}

/** An entry as its line in the journal, without the line's end. */
export const entryText = (entry: object): string =>
  JSON.stringify(entry, (_k, v: unknown) => (typeof v === 'bigint' ? v.toString() : v));

const line = (entry: object): string => `${entryText(entry)}\n`;

const writeError = (path: string, what: string, cause?: unknown): FairwayError =>
  new FairwayError('JOURNAL_WRITE', `journal ${path}: ${what}`, ['retryable'], cause);

/** A journal in a file (mode 0600). One process at a time may hold it. */
export class Journal implements JournalLike {
  readonly path: string;
  readonly entries: readonly JournalEntry[];
  /** What was wrong with the file and left out, each as a text; empty for a sound one. */
  readonly problems: readonly string[];
  readonly #log: Log;
  readonly #maxPendingBytes: number;
  #file: FileHandle;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  #lost = 0;
  #isClosed = false;
  #isScheduled = false;
  #appended = 0;
  #work: Promise<void> = Promise.resolve();

  private constructor(
    path: string,
    file: FileHandle,
    found: { entries: JournalEntry[]; problems: string[] },
    o: JournalOptions,
  ) {
    this.path = path;
    this.#file = file;
    this.entries = found.entries;
    this.problems = found.problems;
    this.#log = o.log ?? silentLog;
    this.#maxPendingBytes = o.maxPendingBytes ?? 8 * 1024 * 1024;
  }

  /**
   * Opens or makes the file and reads what is there. A last line without its end (the writer died) is cut off; a line
   * in between that is no JSON object is skipped; both are told in `problems` and the log.
   * Throws FairwayError `JOURNAL_OPEN` when the file cannot be used.
   */
  static async open(path: string, o: JournalOptions = {}): Promise<Journal> {
    let file: FileHandle | undefined;
    try {
      file = await open(path, 'a+', 0o600);
      const found = await readEntries(file, o.maxLineBytes ?? 1024 * 1024);
      if (found.tornAt !== undefined) await file.truncate(found.tornAt);
      const journal = new Journal(path, file, found, o);
      for (const problem of found.problems) journal.#log('warn', 'journal.damaged', { path, problem });
      return journal;
    } catch (e) {
      await file?.close();
      throw new FairwayError('JOURNAL_OPEN', `journal ${path}: ${(e as Error).message}`, ['badInput'], e);
    }
  }

  append(entry: object): void {
    if (this.#isClosed) throw new FairwayError('JOURNAL_CLOSED', `journal ${this.path} is closed`);
    const bytes = Buffer.from(line(entry));
    if (this.#pendingBytes + bytes.length > this.#maxPendingBytes) {
      if (this.#lost === 0) this.#log('error', 'journal.full', { path: this.path, pendingBytes: this.#pendingBytes });
      this.#lost++;
      return;
    }
    this.#appended++;
    this.#pending.push(bytes);
    this.#pendingBytes += bytes.length;
    if (this.#isScheduled) return;
    // All that is appended while the event loop is busy goes out in one write.
    this.#isScheduled = true;
    setImmediate(() => {
      this.#isScheduled = false;
      this.#then(() => this.#write())
        // To the disk too, without anybody waiting: a machine that loses power forgets no more than the last moment.
        .then(() => this.#then(() => this.#file.datasync()))
        .catch((e: Error) => this.#log('error', 'journal.write-failed', { path: this.path, error: e.message }));
    });
  }

  get appended(): number {
    return this.#appended;
  }

  async written(): Promise<void> {
    if (this.#pending.length > 0) await this.#then(() => this.#write()).catch(() => {});
  }

  async flush(): Promise<void> {
    await this.#then(async () => {
      await this.#write();
      await this.#file.datasync();
    });
    if (this.#lost > 0) {
      const lost = this.#lost;
      this.#lost = 0;
      throw writeError(this.path, `${lost} entries were lost because earlier ones could not be written`);
    }
  }

  async compact(current: () => readonly object[]): Promise<void> {
    await this.#then(async () => {
      const content = current().map(line);
      const covered = this.#pending;
      this.#pending = [];
      this.#appended = 0;
      const aside = `${this.path}.new`;
      try {
        const next = await open(aside, 'w', 0o600);
        try {
          await next.writeFile(content.join(''));
          await next.sync();
        } finally {
          await next.close();
        }
        await rename(aside, this.path);
      } catch (e) {
        this.#pending.unshift(...covered);
        await rm(aside, { force: true });
        throw writeError(this.path, (e as Error).message, e);
      }
      for (const bytes of covered) this.#pendingBytes -= bytes.length;
      await syncFolder(this.path);
      const old = this.#file;
      this.#file = await open(this.path, 'a+', 0o600);
      await old.close();
    });
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      await this.flush();
    } finally {
      await this.#file.close();
    }
  }

  /** One piece of work at a time, in order; a failed one does not stop the next. */
  #then(work: () => Promise<void>): Promise<void> {
    const run = this.#work.then(work, work);
    this.#work = run.catch(() => {
      // Told to whoever asked for this piece of work.
    });
    return run;
  }

  async #write(): Promise<void> {
    while (this.#pending.length > 0) {
      const batch = Buffer.concat(this.#pending);
      this.#pending = [];
      let done = 0;
      try {
        while (done < batch.length) {
          const { bytesWritten } = await this.#file.write(batch, done, batch.length - done);
          done += bytesWritten;
          this.#pendingBytes -= bytesWritten;
        }
      } catch (e) {
        // The rest stays first in line, so that a write that broke off inside a line is continued there.
        this.#pending.unshift(batch.subarray(done));
        throw writeError(this.path, (e as Error).message, e);
      }
    }
  }
}

/** Keeps entries in memory only: for simulations and tests. */
export class MemoryJournal implements JournalLike {
  readonly entries: JournalEntry[] = [];
  append(entry: object): void {
    this.entries.push(JSON.parse(line(entry)) as JournalEntry);
  }
  async flush(): Promise<void> {}
  async written(): Promise<void> {}
  get appended(): number {
    return 0;
  }
  async compact(current: () => readonly object[]): Promise<void> {
    const kept = [...current()];
    this.entries.length = 0;
    for (const e of kept) this.append(e);
  }
  async close(): Promise<void> {}
}

async function readEntries(
  file: FileHandle,
  maxLineBytes: number,
): Promise<{ entries: JournalEntry[]; problems: string[]; tornAt: number | undefined }> {
  const entries: JournalEntry[] = [];
  const problems: string[] = [];
  const chunk = Buffer.alloc(256 * 1024);
  let rest: Buffer = Buffer.alloc(0);
  let isTooLong = false;
  let position = 0;
  let lineStart = 0;
  let lineNo = 1;
  const take = (bytes: Buffer): void => {
    if (isTooLong || bytes.length > maxLineBytes)
      problems.push(`line ${lineNo} is longer than ${maxLineBytes} bytes and was skipped`);
    else if (bytes.length > 0) {
      const entry = parseObject(bytes.toString('utf8'));
      if (entry) entries.push(entry);
      else problems.push(`line ${lineNo} is no JSON object and was skipped`);
    }
    isTooLong = false;
    lineNo++;
  };
  for (;;) {
    const { bytesRead } = await file.read(chunk, 0, chunk.length, position);
    if (bytesRead === 0) break;
    let from = 0;
    for (;;) {
      const end = chunk.subarray(0, bytesRead).indexOf(0x0a, from);
      if (end < 0) break;
      take(Buffer.concat([rest, chunk.subarray(from, end)]));
      rest = Buffer.alloc(0);
      from = end + 1;
      lineStart = position + from;
    }
    if (rest.length + bytesRead - from > maxLineBytes) {
      isTooLong = true;
      rest = Buffer.alloc(0);
    } else {
      rest = Buffer.concat([rest, chunk.subarray(from, bytesRead)]);
    }
    position += bytesRead;
  }
  if (position === lineStart) return { entries, problems, tornAt: undefined };
  problems.push(`the last line (${position - lineStart} bytes) has no end and was dropped`);
  return { entries, problems, tornAt: lineStart };
}

function parseObject(text: string): JournalEntry | undefined {
  try {
    const v: unknown = JSON.parse(text);
    return v !== null && typeof v === 'object' && !Array.isArray(v) ? (v as JournalEntry) : undefined;
  } catch {
    return undefined;
  }
}

/** A rename is on the disk only once its folder is. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(dirname(path), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
