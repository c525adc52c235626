/** The place of a mistake in a JSON text: agrees with JSON.parse on what is one, and names the first wrong character. */
import fc from 'fast-check';
import { jsonErrorAt, lineAndColumn } from '../../../cli/json.ts';

test.each<[string, number]>([
  ['', 0],
  ['{', 1],
  ['[1, 2', 5],
  ['[,]', 1],
  ['[1,]', 3],
  ['{"a": 1,}', 8],
  ["{'a': 1}", 1],
  ['{"a" 1}', 5],
  ['{"a": tru}', 6],
  ['{"a": 01}', 7],
  ['[1] 2', 4],
  ['{"a": 1]', 7],
  ['"a\nb"', 0],
])('%j: %d', (text, at) => {
  expect(() => JSON.parse(text)).toThrow();
  expect(jsonErrorAt(text)).toBe(at);
});

test('a JSON text has no mistake before its end', () => {
  fc.assert(fc.property(fc.json(), (text) => expect(jsonErrorAt(text)).toBe(text.length)));
});

test('a character more or less is found, and never before it', () => {
  fc.assert(
    fc.property(fc.json(), fc.nat(), fc.constantFrom(',', '}', ']', ':', 'x'), (text, n, extra) => {
      const at = n % (text.length + 1);
      const changed = text.slice(0, at) + extra + text.slice(at);
      let isJson = true;
      try {
        JSON.parse(changed);
      } catch {
        isJson = false;
      }
      if (isJson) expect(jsonErrorAt(changed)).toBe(changed.length);
      else expect(jsonErrorAt(changed)).toBeLessThan(changed.length);
    }),
  );
});

test('lines and columns count from one', () => expect(lineAndColumn('a\nbc', 3)).toBe('2:2'));
