/** Where a text stops being JSON: Node.js 20's own messages leave the place out for most mistakes. */

const SPACE = /[ \t\r\n]*/y;
const SCALAR =
  /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;

/** Offset of the first character that cannot be part of a JSON text; the length of the text when it only ends too early. */
export function jsonErrorAt(text: string): number {
  let at = 0;
  const skip = (pattern: RegExp): boolean => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    at += found?.[0].length ?? 0;
    return found !== null;
  };
  // What may come next; for every open bracket the one that closes it.
  let expected: 'value' | 'value or end' | 'key' | 'key or end' | 'comma or end' = 'value';
  const open: string[] = [];
  for (;;) {
    skip(SPACE);
    const c = text[at];
    if (expected === 'comma or end' && open.length === 0) return at;
    if (c === undefined) return at;
    if (expected.endsWith('end') && c === open[open.length - 1]) {
      open.pop();
      at++;
      expected = 'comma or end';
    } else if (expected === 'comma or end') {
      if (c !== ',') return at;
      at++;
      expected = open[open.length - 1] === '}' ? 'key' : 'value';
    } else if (expected.startsWith('key')) {
      if (c !== '"' || !skip(SCALAR)) return at;
      skip(SPACE);
      if (text[at] !== ':') return at;
      at++;
      expected = 'value';
    } else if (c === '{' || c === '[') {
      open.push(c === '{' ? '}' : ']');
      at++;
      expected = c === '{' ? 'key or end' : 'value or end';
    } else {
      if (!skip(SCALAR)) return at;
      expected = 'comma or end';
    }
  }
}

/** `line:column` of an offset, both from 1. */
export function lineAndColumn(text: string, offset: number): string {
  const before = text.slice(0, offset).split('\n');
  return `${before.length}:${(before[before.length - 1] ?? '').length + 1}`;
}
