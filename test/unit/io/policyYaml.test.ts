/** Policies as text: what is read, where mistakes are, and what is refused before it can do harm. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { problemsOfText, readPolicyText } from '../../../controller/io/policyStores/yaml.ts';
import { parsePolicy } from '../../../policies/index.ts';

const laughs = Array.from({ length: 9 }, (_x, i) => `l${i + 1}: &l${i + 1} [${Array(9).fill(`*l${i}`).join(', ')}]`);

test.each([
  ['a billion laughs', ['l0: &l0 ha', ...laughs].join('\n'), 'line 1, column 9: anchors (&) are not read'],
  ['an alias', 'a: *b', 'are not read'],
  ['a megabyte of brackets', '['.repeat(1 << 20), 'at most 262144 are read'],
  ['brackets inside one another', '['.repeat(15_000), 'line 1, column 51: is nested too deeply'],
  ['maps inside one another', '{a: '.repeat(4000), 'too deeply'],
  ['lists inside one another', `${'- '.repeat(60_000)}a`, 'too deeply'],
  [
    'lines further and further in',
    Array.from({ length: 300 }, (_x, i) => `${' '.repeat(i)}a:`).join('\n'),
    'too deeply',
  ],
  ['nothing but commas', `[${','.repeat(100_000)}]`, 'more than 20000 lines'],
  ['nothing but closing brackets', '}'.repeat(100_000), 'more than 20000 lines'],
  ['a key twice', 'limits:\n  perHostIn: 1\n  perHostIn: 2\n', 'line 3, column 3: perHostIn is written twice'],
  ['a key that is a map', '? {a: 1}\n: b', 'a key must be a plain text'],
  ['two documents', 'a: 1\n---\nb: 2\n', 'multiple documents'],
  ['half a list', 'a: [', 'line 1'],
  ['another base', 'extends: other\n...\n', 'line 1, column 1: extends: must be defaults'],
  [
    'a part of the defaults that may be a half',
    'extends: defaults\nlimits: { perHostIn: 2 }\n',
    'must end with a line "..."',
  ],
])('%s is refused', (_, text, words) => {
  const before = Date.now();
  expect(() => readPolicyText(text)).toThrow(expect.objectContaining({ code: 'POLICY_INVALID', labels: ['badInput'] }));
  expect(() => readPolicyText(text)).toThrow(words);
  // Refused at once, not after minutes: the limit is far above what it takes.
  expect(Date.now() - before).toBeLessThan(30_000);
});

test('mistakes are told with their place, also those of the schema', () => {
  const text = stringify(DEFAULT_POLICY)
    .replace('perHostOut: 8', 'perHostOut: many')
    .replace('low: capacity - rate', 'low: capacity - 5');
  const problems = problemsOfText(readPolicyText(text));
  const lines = text.split('\n');
  expect(problems).toEqual([
    expect.objectContaining({
      keys: ['limits', 'perHostOut'],
      line: lines.indexOf('  perHostOut: many') + 1,
      column: 3,
    }),
  ]);
  const other = stringify(DEFAULT_POLICY).replace('low: capacity - rate', 'low: capacity - 5');
  expect(problemsOfText(readPolicyText(other))[0]).toMatchObject({
    line: other.split('\n').indexOf('  low: capacity - 5') + 1,
    text: expect.stringMatching(/^reservation\.low: subtracts a rate and a bare number/),
  });
  expect(problemsOfText(readPolicyText('__proto__: {}\n'))[0]?.text).toContain('__proto__');
});

test('the defaults and what extends them are read', () => {
  expect(parsePolicy(readPolicyText(stringify(DEFAULT_POLICY)).value).doc).toEqual(DEFAULT_POLICY);
  expect(parsePolicy(readPolicyText('extends: defaults\nlimits: { perHostIn: 2 }\n...\n').value).doc).toEqual({
    ...DEFAULT_POLICY,
    limits: { ...DEFAULT_POLICY.limits, perHostIn: 2 },
  });
});

test('the example policies are valid', () => {
  const folder = join(import.meta.dirname, '../../../examples/policies');
  const files = readdirSync(folder);
  expect(files.length).toBeGreaterThan(0);
  for (const file of files) {
    expect(problemsOfText(readPolicyText(readFileSync(join(folder, file), 'utf8')))).toEqual([]);
  }
});
