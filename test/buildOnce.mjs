/** Jest's global set-up for tests that start processes: compiles the project once, so that dist/ is what is tested. */
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

export default function buildOnce() {
  const root = dirname(dirname(fileURLToPath(import.meta.url)));
  const build = spawnSync('npm', ['run', '--silent', 'build'], { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (build.status !== 0) process.stderr.write('test/buildOnce: npm run build reported errors\n');
}
