/** The log every process writes: one JSON object a line, on standard error, with a level and a stable `event` name. */
export type LogLevel = 'debug' | 'info' | 'warn' | 'error';
export type Log = (level: LogLevel, event: string, fields?: Record<string, unknown>) => void;

const ORDER: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/** A log that drops what is below `minimum` and writes lines with `write`. */
export function createLog(minimum: LogLevel, write: (line: string) => void, now: () => number = Date.now): Log {
  return (level, event, fields = {}) => {
    if (ORDER[level] < ORDER[minimum]) return;
    const shown = (_k: string, v: unknown) =>
      typeof v === 'bigint' ? v.toString() : v instanceof Error ? { message: v.message, stack: v.stack } : v;
    write(`${JSON.stringify({ at: new Date(now()).toISOString(), level, event, ...fields }, shown)}\n`);
  };
}

export const silentLog: Log = () => {};
