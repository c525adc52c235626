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
  ['1 Mbit/s + .5e3 kbit/s', 1.5e6],
  ['min(rate, ceiling, floor)', 100e6],
  ['max(rate, ceiling)', 160e6],
  ['min(rate)', 160e6],
  ['clamp(5 bit/s, 1 bit/s, 3 bit/s)', 3],
  ['clamp(0, 1 bit/s, 3 bit/s)', 1],
  ['clamp(2 bit/s, 1 bit/s, 3 bit/s)', 2],
  ['capacity * capacity / max(1 bit/s, rate)', 250e6],
  ['150 Mbit/s', 150e6],
  ['150Mbit/s', 150e6],
  ['150 Mbps', 150e6],
  ['1 Gbit / s', 1e9],
  ['2 Tbit/s', 2e12],
  ['10 MB/s', 80e6],
  ['1 KiB/s', 8192],
  ['64 MiB / 2 s', 268435456],
  ['0.6 * capacity', 120e6],
  ['60 % * capacity', 120e6],
  ['capacity * 60 %', 120e6],
  ['capacity - 10 %', 180e6],
  ['capacity - ((5 %) + (5 %)) * capacity', 180e6],
  ['rate / capacity * 10 Mbit/s', 8e6],
  ['capacity - 50 Mbit/s', 150e6],
  ['1/2 Mbit/s', 5e5],
  ['2 * 30 Mbit/s / 3', 20e6],
  ['max(0, capacity - rate)', 40e6],
  ['0', 0],
  ['0 * rate', 0],
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
  ['a unit of a unit', '2 Mbit s', 'gives a unit to "2 Mbit"'],
  ['a unit of a variable', 'rate Mbit/s', 'gives a unit to "rate"'],
  ['a unit alone', 'Mbit/s', 'the unit Mbit without a number'],
  ['a misspelt unit', '5 mbit/s', 'has no unit "mbit"; did you mean Mbit?'],
  ['a misspelt unit', '5 Mb/s', 'did you mean Mbit?'],
  ['a misspelt unit', '5 kb/s', 'did you mean kbit?'],
  ['an unknown unit', '5 parsec', 'side by side'],
  ['a unit of the prototype', '5 constructor', 'side by side'],
  ['a bare number', '150', 'is a bare number where a rate is wanted; write its unit, such as "100 Mbit/s"'],
  ['a bare percentage', '50 %', 'is a bare number where a rate is wanted'],
  ['a rate and a bare number', 'capacity - 100', 'subtracts a rate and a bare number'],
  ['a rate and a bare number', 'capacity - 100', 'write the unit of the number'],
  ['a rate and a time', 'rate + 200 ms', 'adds a rate and a time ("rate + 200 ms")'],
  ['a rate and a size', 'max(rate, 5 Mbit)', 'calls max() with a rate and an amount of data'],
  ['a bare number in a function', 'clamp(rate, 5, ceiling)', 'a rate and a bare number'],
  ['a time', '200 ms', 'is a time where a rate is wanted'],
  ['a size', '5 Mbit', 'is an amount of data where a rate is wanted; write the time too'],
  ['a square', 'rate * rate', 'is a value in bit^2·s^-2 where a rate is wanted'],
  ['a ratio', 'rate / capacity', 'is a bare number'],
  ['a negative rate', '-5 Mbit/s', 'negative on every link'],
  ['never positive', 'rate - 2 * capacity', 'negative on every link'],
  ['a percentage between values', '50 % - 3 * rate', 'put a percentage in parentheses'],
  ['createUnit', 'createUnit("x")', 'must not contain'],
  ['createUnit', 'createUnit(rate)', 'calls createUnit()'],
  ['a constructor of a function', 'cov.constructor("return process")()', 'must not contain'],
  ['a constructor without text', 'cov.constructor(rate)', 'allowed'],
  ['true', 'true', 'true'],
  ['null', 'null', 'null'],
  ['NaN', 'NaN', 'NaN'],
  ['Infinity', 'Infinity', 'Infinity'],
  ['a number beyond the range', '1e999', 'Infinity'],
  ['limits the wrong way round', 'capacity - clamp(rate, ceiling, floor)', 'the wrong way round'],
  ['limits the wrong way round', 'clamp(rate, 2 Gbit/s, 1 Gbit/s)', 'the wrong way round'],
  ['the wrong number of values', 'clamp(rate)', 'takes 3'],
  ['no values', 'min()', 'takes 1 to 20'],
  ['nothing', '', 'empty'],
  ['blanks', '   ', 'empty'],
  ['half an expression', 'capacity -', 'does not parse'],
  ['an open parenthesis', '(capacity', 'does not parse'],
  ['an empty parenthesis', '()', 'does not parse'],
  ['division by a rate of 0', 'capacity * capacity / rate', 'finite'],
  ['0 divided by 0', 'rate / rate * capacity', 'finite'],
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

test('long chains are refused by their parts and their depth, not by a stack overflow', () => {
  expect(refusal(`${'-'.repeat(498)}0`).message).toContain('operations deep');
  expect(refusal(`0${'+0'.repeat(249)}`).message).toContain('operations deep');
  const sum = `min(${Array.from({ length: 20 }, () => '0+0+0+0+0+0+0').join(',')})`;
  expect(refusal(sum).message).toContain('more than 250 parts');
  expect(compileExpression(`0${'+0'.repeat(39)}`)(link)).toBe(0);
});

test('an expression of another kind, over other variables', () => {
  expect(compileExpression('1.5 s + 200 ms', { wants: 'time', variables: [] })(link)).toBeCloseTo(1.7, 12);
  expect(compileExpression('2 * 3', { wants: 'number', variables: [] })(link)).toBe(6);
  expect(compileExpression('50 %', { variables: ['capacity'], isShareOfCapacity: true })(link)).toBe(100e6);
  expect(compileExpression('(50 %) * capacity', { variables: ['capacity'], isShareOfCapacity: true })(link)).toBe(
    100e6,
  );
  expect(() => compileExpression('rate', { variables: ['capacity'] })).toThrow('uses "rate"');
  expect(() => compileExpression('5', { wants: 'time' })).toThrow('write its unit, such as "200 ms"');
});

test('nothing an expression is given can reach the prototype of numbers or objects', () => {
  for (const text of ['__proto__', 'prototype', 'hasOwnProperty', 'valueOf(1)', 'isPrototypeOf(rate)']) refusal(text);
  expect(({} as Record<string, unknown>).polluted).toBeUndefined();
});
