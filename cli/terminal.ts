/**
 * What a command may know of the process it runs in: where to write, the environment, whether somebody is looking, and
 * when to stop. `main.ts` makes one from the process; tests make their own.
 */
export interface Terminal {
  /** Results, on standard output. */
  out(text: string): void;
  /** Everything else, on standard error. */
  err(text: string): void;
  env: Readonly<Record<string, string | undefined>>;
  /** Width of the screen in characters; undefined when standard output is not a screen. */
  columns(): number | undefined;
  /** Asks the person at the screen and gives the answer, '' for none; absent where nobody is there. */
  ask?(question: string): Promise<string>;
  /** Aborts at the first SIGINT or SIGTERM. */
  signal: AbortSignal;
}

/** Exit statuses, documented in `fairway --help`. */
export const EXIT = { ok: 0, failed: 1, usage: 2, unreachable: 3, interrupted: 130 } as const;

/** Resolves when the terminal's signal aborts. */
export function untilStopped(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

/** Rows as columns of equal width, two spaces apart; the first row is the heading. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows.reduce<number[]>((w, row) => row.map((cell, i) => Math.max(w[i] ?? 0, cell.length)), []);
  return rows
    .map(
      (row) =>
        `${row
          .map((cell, i) => cell.padEnd(widths[i] ?? 0))
          .join('  ')
          .trimEnd()}\n`,
    )
    .join('');
}
