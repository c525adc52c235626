/** The process behind `fairway`: standard streams, signals and the exit status around `program.ts`. */
import { createInterface } from 'node:readline/promises';
import { run } from './program.ts';
import { EXIT } from './terminal.ts';

const stop = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) {
  process.on(name, () => {
    // The first asks for an orderly end; whoever asks twice does not want to wait for it.
    if (stop.signal.aborted) process.exit(EXIT.interrupted);
    stop.abort();
  });
}
// A reader that has seen enough (`fairway status | head`) is no failure of ours.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  throw error;
});

async function ask(question: string): Promise<string> {
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return await lines.question(question, { signal: stop.signal });
  } catch {
    // Interrupted, or the input has ended: no answer.
    return '';
  } finally {
    lines.close();
  }
}

process.exitCode = await run(process.argv.slice(2), {
  out: (text) => process.stdout.write(text),
  err: (text) => process.stderr.write(text),
  env: process.env,
  columns: () => (process.stdout.isTTY ? process.stdout.columns : undefined),
  ...(process.stdin.isTTY && process.stdout.isTTY ? { ask } : {}),
  signal: stop.signal,
});
