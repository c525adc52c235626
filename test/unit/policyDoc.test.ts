/** docs/policy.md is complete and true: every field of the policy document, each with its default. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_POLICY } from '../../contracts/policy.ts';
import { flattenPolicy } from '../../policies/index.ts';

/** `a.{b,c}` → `a.b`, `a.c`. */
function expand(path: string): string[] {
  const braces = /^(.*?)\{([^}]*)\}(.*)$/.exec(path);
  if (braces === null) return [path];
  const [, before = '', choices = '', after = ''] = braces;
  return choices.split(',').flatMap((choice) => expand(before + choice + after));
}

test('every field of the policy is documented with its default, and no other', () => {
  const text = readFileSync(join(import.meta.dirname, '../../docs/policy.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `([^`]+)` \| (?:`([^`]*)`|see below) \|/gm)];
  const documented = rows.flatMap(([, path = '', shown]) => expand(path).map((p) => [p, shown] as const));
  const defaults = new Map(Object.entries(flattenPolicy(DEFAULT_POLICY)));
  defaults.set('sla.links', '{}'); // Empty, so it has no fields of its own.
  expect(documented.map(([path]) => path).sort()).toEqual([...defaults.keys()].sort());
  for (const [path, shown] of documented)
    if (shown !== undefined) expect([path, shown]).toEqual([path, defaults.get(path)]);
});
