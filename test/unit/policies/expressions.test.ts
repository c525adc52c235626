/** What a policy document may compute, and what it must never be able to do. */
import { FairwayError } from '../../../contracts/common.ts';
import { compileExpression } from '../../../policies/index.ts';

const link = { capacity: 200e6, floor: 100e6, ceiling: 140e6, rate: 160e6 };

function refusal(text: string): FairwayError {
  try {
    compileExpression(text);
  } catch (e) {
    if (e instanceof FairwayError) return e;
    throw e;
  }
  throw new Error(`taken: ${text.slice(0, 60)}`);
}

test.each([
  ['capacity - floor', 100e6],
  ['capacity - ceiling', 60e6],
  ['capacity - clamp(rate, floor, ceiling)', 60e6],
  ['capacity - rate', 40e6],
  ['-floor + capacity', 100e6],
  ['- - floor', 100e6],
  ['2 * (capacity - rate) / 4', 20e6],
  ['capacity - rate - floor / 2', -10e6],
  ['1e6 + .5e6', 1.5e6],
  ['min(rate, ceiling, floor)', 100e6],
  ['max(rate, ceiling)', 160e6],
  ['min(rate)', 160e6],
  ['clamp(5, 1, 3)', 3],
  ['clamp(0, 1, 3)', 1],
  ['clamp(2, 1, 3)', 2],
  ['capacity / max(1, rate)', 1.25],
])('%s = %d', (text, value) => expect(compileExpression(text)(link)).toBe(value));

test.each([
  ['an unknown variable', 'capacity - load', 'load'],
  ['a constant of the library', 'capacity * pi', 'pi'],
  ['another function', 'sqrt(capacity)', 'sqrt'],
  ['evaluation', 'evaluate(capacity)', 'evaluate'],
  ['import', 'import(capacity)', 'import'],
  ['a name from the prototype', 'constructor', 'constructor'],
  ['a function from the prototype', 'constructor(1)', 'constructor'],
  ['a function of that name', 'toString(1)', 'toString'],
  ['a function of that name', '__proto__(1)', '__proto__'],
  ['property access', 'rate.constructor', 'allowed'],
  ['a function of a property', 'rate.toString()', 'allowed'],
  ['an index', 'rate["constructor"]', 'must not contain'],
  ['assignment', 'rate = 5', 'must not contain "="'],
  ['a function definition', 'f(x) = x', 'must not contain "="'],
  ['a second statement', 'rate; floor', 'must not contain ";"'],
  ['a second line', 'rate\nfloor', 'must not contain "\\n"'],
  ['a text', '"rate"', 'must not contain'],
  ['an array', '[1, 2]', 'must not contain "["'],
  ['an object', '{a: 1}', 'must not contain "{"'],
  ['a comparison', 'rate > floor', 'must not contain ">"'],
  ['a condition', 'rate ? 1 : 2', 'must not contain "?"'],
  ['a power', 'rate ^ 2', 'must not contain "^"'],
  ['a factorial', '5!', 'must not contain "!"'],
  ['a remainder', 'rate mod 3', 'mod'],
  ['a logical operator', 'rate and floor', 'and'],
  ['negation', 'not rate', 'not'],
  ['unary plus', '+rate', 'unaryPlus'],
  ['an implicit product', '2 rate', 'side by side'],
  ['an implicit product', '2(rate)', 'side by side'],
  ['a unit, as yet', 'capacity - 150 Mbit', 'side by side'],
  ['true', 'true', 'true'],
  ['null', 'null', 'null'],
  ['NaN', 'NaN', 'NaN'],
  ['Infinity', 'Infinity', 'Infinity'],
  ['a number beyond the range', '1e999', 'Infinity'],
  ['the wrong number of values', 'clamp(rate)', 'takes 3'],
  ['no values', 'min()', 'takes 1 to 20'],
  ['nothing', '', 'empty'],
  ['blanks', '   ', 'empty'],
  ['half an expression', 'capacity -', 'does not parse'],
  ['an open parenthesis', '(capacity', 'does not parse'],
  ['an empty parenthesis', '()', 'does not parse'],
  ['division by a rate of 0', 'capacity / rate', 'finite'],
  ['0 divided by 0', 'rate / rate', 'finite'],
  ['a multiplication that overflows', 'capacity * 1e300 * 1e300', 'finite'],
])('%s is refused: %s', (_, text, why) => {
  const e = refusal(text);
  expect(e.code).toBe('EXPRESSION_INVALID');
  expect(e.labels).toEqual(['badInput']);
  expect(e.message).toContain(why);
});

test.each([
  ['a megabyte of terms', `1${'+1'.repeat(500_000)}`],
  ['a megabyte of parentheses', '('.repeat(1_000_000)],
  ['many parentheses inside one another', `${'('.repeat(41)}1${')'.repeat(41)}`],
  ['many calls inside one another', `${'min('.repeat(80)}1${')'.repeat(80)}`],
])('%s is refused without being parsed', (_, text) => {
  expect(refusal(text).message).toMatch(/characters long|parentheses inside/);
});

test('the longest chain that fits is evaluated, not a stack overflow', () => {
  expect(compileExpression(`${'-'.repeat(498)}1`)(link)).toBe(1);
  expect(compileExpression(`1${'+1'.repeat(249)}`)(link)).toBe(250);
});

test('nothing an expression is given can reach the prototype of numbers or objects', () => {
  for (const text of ['__proto__', 'prototype', 'hasOwnProperty', 'valueOf(1)', 'isPrototypeOf(rate)']) refusal(text);
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
});
