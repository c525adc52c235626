/**
 * Jest's global set-up for tests that start processes: compiles the project once, so that dist/ is what is tested, and sees
 * to it that a run that is interrupted leaves nothing behind.
 */
import { execFileSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import callUndertaker from './undertaker.mjs';

export default function buildOnce() {
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  execFileSync('npm', ['run', '--silent', 'build'], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  callUndertaker();
}
