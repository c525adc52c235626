/**
 * `npm run -w openflow docs`: writes the pages that pages.ts makes into openflow/docs. `-- --check` writes nothing and exits
 * 1 when one is out of date.
 */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pages } from './pages.ts';

// dist/tools/test/tools → the workspace
const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../../../..');

function main(): number {
  const folder = join(ROOT, 'docs');
  let stale = 0;
  for (const [name, text] of pages(join(ROOT, 'dist'))) {
    const file = join(folder, name);
    if (process.argv.includes('--check')) {
      let now = '';
      try {
        now = readFileSync(file, 'utf8');
      } catch {
        // no page is an old page
      }
      if (now !== text) {
        stale++;
        process.stderr.write(`openflow/docs/${name} is out of date: npm run -w openflow docs\n`);
      }
    } else {
      mkdirSync(folder, { recursive: true });
      writeFileSync(file, text);
      process.stdout.write(`openflow/docs/${name}\n`);
    }
  }
  return stale === 0 ? 0 : 1;
}

process.exitCode = main();
