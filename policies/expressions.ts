/**
 * The arithmetic that a policy document may contain: numbers with units, the variables of a link, + - * / and
 * parentheses, unary minus, percentages, and clamp(x, low, high), min(…), max(…). mathjs parses; the tree is then
 * translated node by node into closures, and any node that is not on the list is refused. Nothing of mathjs evaluates
 * anything, so there is no scope, no property access and no other function to reach. Neighbour: `document.ts` compiles a
 * document's expressions.
 *
 * Units have dimensions (bits, seconds), which are worked out while translating: a rate and a time cannot be added, and a
 * bare number is no rate. Only 0 has every dimension. All is bounded before it is done: the length before the text is
 * looked at, nesting before it is parsed, the nodes of the tree while it is translated.
 */
import { create, type MathNode, parseDependencies } from 'mathjs/number';
import { FairwayError } from '../contracts/common.ts';
import { MAX_EXPRESSION } from '../contracts/policy.ts';

/** What a reservation expression may use, all bit/s: per link; `rate` is what the workload is taken to want. */
export const VARIABLES = ['capacity', 'floor', 'ceiling', 'rate'] as const;
export type Variable = (typeof VARIABLES)[number];
export type Variables = Readonly<Record<Variable, number>>;
/** A compiled expression. The result may be non-finite or out of range: the caller decides what that means. */
export type Expression = (vars: Variables) => number;

/** What an expression is to be: rates in bit/s, times in seconds, sizes in bits. */
export type Wanted = 'rate' | 'time' | 'size' | 'number';

export interface ExpressionOptions {
  /** What the expression may use; all variables when absent. */
  variables?: readonly Variable[];
  /** `rate` when absent. */
  wants?: Wanted;
  /** Whether a percentage alone, "50 %", is that share of `capacity`. */
  isShareOfCapacity?: boolean;
}

const MAX_DEPTH = 40;
const MAX_NODES = 250;
/** What the grammar needs. Refusing all else first keeps strings, comments, indices and assignments from the parser. */
const CHARACTERS = /^[A-Za-z0-9_.+\-*/(),% \t]+$/;

const { parse } = create({ ...parseDependencies });

/** Exponents of bit and second; null is 0's, which goes with all. */
type Dimension = { bit: number; s: number } | null;
interface Typed {
  dimension: Dimension;
  value: Expression;
}

const DIMENSIONS: Readonly<Record<Wanted, { bit: number; s: number }>> = {
  rate: { bit: 1, s: -1 },
  time: { bit: 0, s: 1 },
  size: { bit: 1, s: 0 },
  number: { bit: 0, s: 0 },
};

interface Unit {
  factor: number;
  dimension: { bit: number; s: number };
}
const { rate: RATE, time: TIME, size: SIZE } = DIMENSIONS;
const UNITS: Readonly<Record<string, Unit>> = {
  bit: { factor: 1, dimension: SIZE },
  kbit: { factor: 1e3, dimension: SIZE },
  Mbit: { factor: 1e6, dimension: SIZE },
  Gbit: { factor: 1e9, dimension: SIZE },
  Tbit: { factor: 1e12, dimension: SIZE },
  B: { factor: 8, dimension: SIZE },
  kB: { factor: 8e3, dimension: SIZE },
  MB: { factor: 8e6, dimension: SIZE },
  GB: { factor: 8e9, dimension: SIZE },
  KiB: { factor: 8 * 2 ** 10, dimension: SIZE },
  MiB: { factor: 8 * 2 ** 20, dimension: SIZE },
  GiB: { factor: 8 * 2 ** 30, dimension: SIZE },
  bps: { factor: 1, dimension: RATE },
  kbps: { factor: 1e3, dimension: RATE },
  Mbps: { factor: 1e6, dimension: RATE },
  Gbps: { factor: 1e9, dimension: RATE },
  ms: { factor: 1e-3, dimension: TIME },
  s: { factor: 1, dimension: TIME },
  min: { factor: 60, dimension: TIME },
  h: { factor: 3600, dimension: TIME },
};

const FUNCTIONS: Readonly<Record<string, { arity: [number, number]; apply: (values: number[]) => number }>> = {
  clamp: {
    arity: [3, 3],
    apply: ([x, low, high]) => Math.min(Math.max(x as number, low as number), high as number),
  },
  min: { arity: [1, 20], apply: (values) => Math.min(...values) },
  max: { arity: [1, 20], apply: (values) => Math.max(...values) },
};

/** Own members only, so that names such as `constructor` find nothing. */
const lookUp = <T>(table: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(table, name) ? table[name] : undefined;

/** Values a link may well have; an expression that is not a number on one of them is refused before it is used. */
export const PROBES: readonly Variables[] = [
  { capacity: 1e9, floor: 5e8, ceiling: 7e8, rate: 6e8 },
  { capacity: 2e8, floor: 1e8, ceiling: 1.4e8, rate: 0 },
  { capacity: 2e8, floor: 0, ceiling: 2e8, rate: 2e8 },
  { capacity: 1e11, floor: 0, ceiling: 0, rate: 1 },
  { capacity: 1e6, floor: 1e6, ceiling: 1e6, rate: 1e6 },
  { capacity: 1e13, floor: 1e12, ceiling: 5e12, rate: 2e12 },
];

function refuse(why: string): never {
  throw new FairwayError('EXPRESSION_INVALID', why, ['badInput']);
}

/**
 * Compiles an expression of the policy document.
 * @throws FairwayError EXPRESSION_INVALID (badInput) when it is too long, does not parse, uses something that is not
 *   allowed, has the wrong dimension, is not a finite number for ordinary links (a workload of 0 bit/s among them), or is
 *   negative on all of them.
 */
export function compileExpression(text: string, options: ExpressionOptions = {}): Expression {
  const { variables = VARIABLES, wants = 'rate', isShareOfCapacity = false } = options;
  if (text.length > MAX_EXPRESSION) refuse(`is ${text.length} characters long; at most ${MAX_EXPRESSION} are allowed`);
  if (text.trim() === '') refuse('is empty');
  const grammar =
    `allowed are numbers, units (${Object.keys(UNITS).join(', ')}), ${variables.join(', ')}, + - * / ( ) and ` +
    `${Object.keys(FUNCTIONS).join(', ')}`;
  if (!CHARACTERS.test(text)) {
    const bad = [...text].find((c) => !CHARACTERS.test(c)) ?? '';
    refuse(`must not contain ${JSON.stringify(bad)}; ${grammar}`);
  }
  let depth = 0;
  for (const c of text) {
    depth += c === '(' ? 1 : c === ')' ? -1 : 0;
    if (depth > MAX_DEPTH) refuse(`has more than ${MAX_DEPTH} parentheses inside one another`);
  }
  let node: MathNode;
  try {
    node = parse(text);
  } catch (e) {
    refuse(`does not parse: ${e instanceof Error ? e.message : String(e)}`);
  }
  const { dimension, value } = new Translator(variables, grammar).translate(node, 0);
  const isPercentage = isShareOfCapacity && isPercent(node);
  const expression: Expression = isPercentage ? (vars) => value(vars) * vars.capacity : value;
  if (!isPercentage && dimension !== null && !isSame(dimension, DIMENSIONS[wants])) {
    refuse(`is ${nameOf(dimension)} where ${WANTED[wants].name} is wanted; ${hintFor(dimension, wants)}`);
  }
  let isEverPositive = false;
  for (const vars of PROBES) {
    const result = expression(vars);
    const shown = () => variables.map((v) => `${v} = ${vars[v]}`).join(', ');
    if (!Number.isFinite(result)) {
      refuse(`is ${result} for ${shown()} bit/s; it must be a finite number (guard divisors with max(1 bit/s, …))`);
    }
    isEverPositive ||= result >= 0;
  }
  if (!isEverPositive) {
    refuse(`is negative on every link that was tried (${expression(PROBES[0] as Variables)} on one of 1 Gbit/s)`);
  }
  return expression;
}

const WANTED: Readonly<Record<Wanted, { name: string; example: string }>> = {
  rate: { name: 'a rate', example: '"100 Mbit/s" or "0.6 * capacity"' },
  time: { name: 'a time', example: '"200 ms"' },
  size: { name: 'an amount of data', example: '"64 MiB"' },
  number: { name: 'a bare number', example: '"0.6"' },
};

const isSame = (a: { bit: number; s: number }, b: { bit: number; s: number }): boolean =>
  a.bit === b.bit && a.s === b.s;

/** "a rate", "a time", "a bare number", or the exponents. */
function nameOf(d: { bit: number; s: number }): string {
  const known = (Object.keys(DIMENSIONS) as Wanted[]).find((w) => isSame(d, DIMENSIONS[w]));
  if (known !== undefined) return WANTED[known].name;
  const power = (unit: string, n: number) => (n === 0 ? [] : [n === 1 ? unit : `${unit}^${n}`]);
  return `a value in ${[...power('bit', d.bit), ...power('s', d.s)].join('·')}`;
}

function hintFor(d: { bit: number; s: number }, wants: Wanted): string {
  if (wants === 'rate' && isSame(d, SIZE)) return 'write the time too, such as "100 Mbit/s"';
  if (isSame(d, DIMENSIONS.number)) return `write its unit, such as ${WANTED[wants].example}`;
  return `write ${WANTED[wants].example}`;
}

/** A percentage of a plain number: "50 %". */
function isPercent(node: MathNode): boolean {
  const { isPercentage, args } = node as unknown as { isPercentage?: boolean; args?: MathNode[] };
  return node.type === 'OperatorNode' && isPercentage === true && args?.[0]?.type === 'ConstantNode';
}

class Translator {
  readonly #variables: readonly Variable[];
  readonly #grammar: string;
  #nodes = 0;

  constructor(variables: readonly Variable[], grammar: string) {
    this.#variables = variables;
    this.#grammar = grammar;
  }

  translate(node: MathNode, depth: number): Typed {
    this.#nodes++;
    if (this.#nodes > MAX_NODES) refuse(`has more than ${MAX_NODES} parts`);
    if (depth > MAX_DEPTH) refuse(`is more than ${MAX_DEPTH} operations deep`);
    switch (node.type) {
      case 'ConstantNode':
        return this.#constant(node);
      case 'ParenthesisNode':
        return this.translate((node as unknown as { content: MathNode }).content, depth + 1);
      case 'SymbolNode':
        return this.#symbol((node as unknown as { name: string }).name);
      case 'OperatorNode':
        return this.#operator(node, depth);
      case 'FunctionNode':
        return this.#call(node, depth);
      default:
        refuse(`contains ${node.type.replace(/Node$/, '').toLowerCase()} syntax; ${this.#grammar}`);
    }
  }

  #constant(node: MathNode): Typed {
    const { value } = node as { value?: unknown };
    if (typeof value !== 'number' || !Number.isFinite(value)) refuse(`contains ${node.toString()}; ${this.#grammar}`);
    return { dimension: value === 0 ? null : DIMENSIONS.number, value: () => value };
  }

  #symbol(name: string): Typed {
    const variable = this.#variables.find((v) => v === name);
    if (variable !== undefined) return { dimension: RATE, value: (vars) => vars[variable] };
    if (lookUp(UNITS, name) !== undefined) refuse(`has the unit ${name} without a number; write "1 ${name}"`);
    refuse(`uses "${name}"; ${this.#grammar}`);
  }

  #operator(node: MathNode, depth: number): Typed {
    const { fn, args, implicit } = node as unknown as { fn: string; args: MathNode[]; implicit?: boolean };
    const [a, b] = args;
    if (fn === 'mod') refuse('uses mod, or % between two values; put a percentage in parentheses: "(5 %)"');
    if (a === undefined) refuse(`uses the operator ${fn}; ${this.#grammar}`);
    if (fn === 'unaryMinus') {
      const operand = this.translate(a, depth + 1);
      return { dimension: operand.dimension, value: (vars) => -operand.value(vars) };
    }
    if (b === undefined || args.length !== 2) refuse(`uses the operator ${fn}; ${this.#grammar}`);
    if (implicit === true) return this.#quantity(node, a, b, depth);
    const left = this.translate(a, depth + 1);
    const x = left.value;
    // "150 Mbit/s" is parsed as (150 Mbit)/s.
    const per = fn === 'divide' ? unitOf(b) : undefined;
    if (per !== undefined) {
      return { dimension: product(left.dimension, per.dimension, -1), value: (vars) => x(vars) / per.factor };
    }
    const right = this.translate(b, depth + 1);
    const y = right.value;
    switch (fn) {
      case 'add':
        return { dimension: this.#common('adds', node, [left, right]), value: (vars) => x(vars) + y(vars) };
      case 'subtract':
        return { dimension: this.#common('subtracts', node, [left, right]), value: (vars) => x(vars) - y(vars) };
      case 'multiply':
        return { dimension: product(left.dimension, right.dimension, 1), value: (vars) => x(vars) * y(vars) };
      case 'divide':
        return { dimension: product(left.dimension, right.dimension, -1), value: (vars) => x(vars) / y(vars) };
      default:
        refuse(`uses the operator ${fn}; ${this.#grammar}`);
    }
  }

  /** A number with its unit, which the parser takes for a product. */
  #quantity(node: MathNode, number: MathNode, symbol: MathNode, depth: number): Typed {
    const unit = unitOf(symbol);
    if (unit === undefined) {
      const close = symbol.type === 'SymbolNode' ? similarUnit(String(symbol)) : undefined;
      if (close !== undefined) refuse(`has no unit "${String(symbol)}"; did you mean ${close}?`);
      refuse(`puts two values side by side ("${node.toString()}"): write the operator, or a unit`);
    }
    if (!isNumber(number))
      refuse(`gives a unit to "${number.toString()}", which is no number; write "… * 1 ${symbol}"`);
    const { dimension, value } = this.translate(number, depth + 1);
    return { dimension: product(dimension, unit.dimension, 1), value: (vars) => value(vars) * unit.factor };
  }

  #call(node: MathNode, depth: number): Typed {
    const { fn, args } = node as unknown as { fn: MathNode; args: MathNode[] };
    const name = fn.type === 'SymbolNode' ? (fn as unknown as { name: string }).name : fn.toString();
    const found = lookUp(FUNCTIONS, name);
    if (found === undefined) refuse(`calls ${name}(); ${this.#grammar}`);
    const [least, most] = found.arity;
    if (args.length < least || args.length > most) {
      refuse(`calls ${name}() with ${args.length} values; it takes ${least === most ? least : `${least} to ${most}`}`);
    }
    const values = args.map((a) => this.translate(a, depth + 1));
    if (name === 'clamp') refuseReversed(node, values);
    return {
      dimension: this.#common(`calls ${name}() with`, node, values),
      value: (vars) => found.apply(values.map((v) => v.value(vars))),
    };
  }

  /** The one dimension of all operands. */
  #common(does: string, node: MathNode, operands: readonly Typed[]): Dimension {
    const known = operands.flatMap(({ dimension }) => (dimension === null ? [] : [dimension]));
    const first = known[0];
    if (first === undefined) return null;
    const other = known.find((d) => !isSame(d, first));
    if (other === undefined) return first;
    const isBare = [first, other].some((d) => isSame(d, DIMENSIONS.number));
    const hint = isBare ? '; write the unit of the number, such as "100 Mbit/s"' : '';
    refuse(`${does} ${nameOf(first)} and ${nameOf(other)} ("${node.toString()}")${hint}`);
  }
}

/** Limits of clamp() that are the wrong way round on every link would always give the upper one. */
function refuseReversed(node: MathNode, [, low, high]: readonly Typed[]): void {
  const gaps = PROBES.map((vars) => (high as Typed).value(vars) - (low as Typed).value(vars));
  if (gaps.every((gap) => gap <= 0) && gaps.some((gap) => gap < 0))
    refuse(`has the limits of clamp(x, low, high) the wrong way round ("${node.toString()}")`);
}

function product(a: Dimension, b: Dimension, sign: 1 | -1): Dimension {
  // 0 times or through anything is 0; anything through 0 is no number, which the probes find.
  if (a === null || b === null) return null;
  return { bit: a.bit + sign * b.bit, s: a.s + sign * b.s };
}

const unitOf = (node: MathNode): Unit | undefined =>
  node.type === 'SymbolNode' ? lookUp(UNITS, (node as unknown as { name: string }).name) : undefined;

/** A number as it is written before its unit, with its sign; 0.5 as 1/2 too. */
function isNumber(node: MathNode): boolean {
  if (node.type === 'ConstantNode') return true;
  const { fn, args, implicit } = node as unknown as { fn?: string; args?: MathNode[]; implicit?: boolean };
  return (
    node.type === 'OperatorNode' &&
    implicit !== true &&
    (fn === 'unaryMinus' || fn === 'divide') &&
    !!args?.every(isNumber)
  );
}

/** The unit that was probably meant: "mbit", "MBit", "Mb", "sec". */
function similarUnit(name: string): string | undefined {
  const bits = /^([kKmMgG])b$/.exec(name)?.[1];
  if (bits !== undefined) return `${bits === 'K' ? 'k' : bits === 'm' ? 'M' : bits === 'g' ? 'G' : bits}bit`;
  if (/^sec(onds?)?$/.test(name)) return 's';
  return Object.keys(UNITS).find((u) => u.toLowerCase() === name.toLowerCase());
}
