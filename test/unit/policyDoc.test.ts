/** docs/policy-reference.md is what the schema says, and says something of every field. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { DEFAULT_POLICY, POLICY_FIELDS } from '../../contracts/policy.ts';
import { flattenPolicy, parsePolicy, policyReference } from '../../policies/index.ts';

test('the reference page is up to date; if not: npm run docs', () => {
  const page = readFileSync(join(import.meta.dirname, '../../docs/policy-reference.md'), 'utf8');
  expect(page).toBe(policyReference());
});

test('every field of the document is known with unit, range and one sentence, and no other', () => {
  const fixed = POLICY_FIELDS.filter((f) => !f.path.includes('<')).map((f) => f.path);
  expect(fixed.sort()).toEqual(Object.keys(flattenPolicy(DEFAULT_POLICY)).sort());
  for (const f of POLICY_FIELDS) {
    expect(f.unit).not.toBe('');
    expect(f.range).not.toBe('');
    expect(f.text).toMatch(/^[A-Z][^.]*(\.\d[^.]*)*\.$/);
  }
  expect(new Set(POLICY_FIELDS.map((f) => f.path)).size).toBe(POLICY_FIELDS.length);
});

test('the defaults are valid and within their ranges', () => {
  expect(parsePolicy(structuredClone(DEFAULT_POLICY)).doc).toEqual(DEFAULT_POLICY);
});
