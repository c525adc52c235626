/**
 * package-lock.json is whole: every dependency of every package has an entry, also binaries for other platforms. npm leaves
 * those out when the registry it was run against does not have them, and then `npm ci` fails everywhere else.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Entry {
  dependencies?: Record<string, string>;
  optionalDependencies?: Record<string, string>;
  resolved?: string;
  link?: boolean;
}

const packages: Record<string, Entry> = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../package-lock.json'), 'utf8'),
).packages;

/** As Node.js looks for a package: in the folder of who asks, then in those above. */
function isFound(name: string, from: string): boolean {
  if (`${from === '' ? '' : `${from}/`}node_modules/${name}` in packages) return true;
  const at = from.lastIndexOf('node_modules/');
  return from !== '' && isFound(name, at <= 0 ? '' : from.slice(0, at - 1));
}

test('every dependency has an entry', () => {
  const missing = Object.entries(packages).flatMap(([path, entry]) =>
    Object.keys({ ...entry.dependencies, ...entry.optionalDependencies })
      .filter((name) => !isFound(name, path))
      .map((name) => `${path}: ${name}`),
  );
  expect(Object.keys(packages).length).toBeGreaterThan(100);
  expect(missing).toEqual([]);
});

test('no entry names the registry it came from', () => {
  expect(Object.entries(packages).filter(([, e]) => e.resolved !== undefined && e.link !== true)).toEqual([]);
});
