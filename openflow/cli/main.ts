/** Entry point of the command `ofdump` (bin/ofdump.mjs): gives ofdump.ts the process. */
import { readFileSync } from 'node:fs';
import { ofdump } from './ofdump.ts';

// A reader that has seen enough (`ofdump … | head`) is no failure.
process.stdout.on('error', (e: NodeJS.ErrnoException) => {
  if (e.code === 'EPIPE') process.exit(process.exitCode ?? 0);
  throw e;
});
process.stderr.on('error', () => undefined);

const about = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

process.exitCode = await ofdump(process.argv.slice(2), {
  version: about.version,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
});
