/**
 * The arithmetic that a policy document may contain: numbers, the variables of a reservation, + - * / and parentheses,
 * unary minus, and clamp(x, low, high), min(…), max(…). mathjs parses; the tree is then translated node by node into
 * closures, and any node that is not on the list is refused. Nothing of mathjs evaluates anything, so there is no scope,
 * no property access and no other function to reach. Neighbour: `document.ts` compiles a document's expressions.
 *
 * Units inside expressions ("150 Mbit/s") would enter in `translate`, as an operand of an implicit product: mathjs
 * already parses them so, and they are refused there for now.
 */
import { create, type MathNode, parseDependencies } from 'mathjs/number';
import { FairwayError } from '../contracts/common.ts';

/** What a reservation expression may use, all bit/s: per link; `rate` is what the workload is taken to want. */
export const VARIABLES = ['capacity', 'floor', 'ceiling', 'rate'] as const;
export type Variables = Readonly<Record<(typeof VARIABLES)[number], number>>;
/** A compiled expression. The result may be non-finite or out of range: the caller decides what that means. */
export type Expression = (vars: Variables) => number;

const MAX_LENGTH = 500;
const MAX_DEPTH = 40;
/** What the grammar needs. Refusing all else first keeps strings, comments, indices and assignments from the parser. */
const CHARACTERS = /^[A-Za-z0-9_.+\-*/(), \t]+$/;

const { parse } = create({ ...parseDependencies });

const FUNCTIONS: Readonly<Record<string, { arity: [number, number]; apply: (values: number[]) => number }>> = {
  clamp: {
    arity: [3, 3],
    apply: ([x, low, high]) => Math.min(Math.max(x as number, low as number), high as number),
  },
  min: { arity: [1, 20], apply: (values) => Math.min(...values) },
  max: { arity: [1, 20], apply: (values) => Math.max(...values) },
};

const BINARY: Readonly<Record<string, (a: number, b: number) => number>> = {
  add: (a, b) => a + b,
  subtract: (a, b) => a - b,
  multiply: (a, b) => a * b,
  divide: (a, b) => a / b,
};

/** Own members only, so that names such as `constructor` find nothing. */
const lookUp = <T>(table: Readonly<Record<string, T>>, name: string): T | undefined =>
  Object.hasOwn(table, name) ? table[name] : undefined;

/** Values a link may well have; an expression that is not a number on one of them is refused before it is used. */
const PROBES: readonly Variables[] = [
  { capacity: 1e9, floor: 5e8, ceiling: 7e8, rate: 6e8 },
  { capacity: 2e8, floor: 1e8, ceiling: 1.4e8, rate: 0 },
  { capacity: 2e8, floor: 0, ceiling: 2e8, rate: 2e8 },
  { capacity: 1e11, floor: 0, ceiling: 0, rate: 1 },
  { capacity: 1e6, floor: 1e6, ceiling: 1e6, rate: 1e6 },
];

function refuse(why: string): never {
  throw new FairwayError('EXPRESSION_INVALID', why, ['badInput']);
}

/**
 * Compiles an expression of the policy document.
 * @throws FairwayError EXPRESSION_INVALID (badInput) when it is too long, does not parse, uses something that is not
 *   allowed, or is not a finite number for ordinary links (a workload of 0 bit/s among them).
 */
export function compileExpression(text: string): Expression {
  if (text.length > MAX_LENGTH) refuse(`is ${text.length} characters long; at most ${MAX_LENGTH} are allowed`);
  if (text.trim() === '') refuse('is empty');
  if (!CHARACTERS.test(text)) {
    const bad = [...text].find((c) => !CHARACTERS.test(c)) ?? '';
    refuse(`must not contain ${JSON.stringify(bad)}; ${GRAMMAR}`);
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
  const expression = translate(node);
  for (const vars of PROBES) {
    const value = expression(vars);
    if (!Number.isFinite(value)) {
      const shown = VARIABLES.map((v) => `${v} = ${vars[v]}`).join(', ');
      refuse(`is ${value} for ${shown} bit/s; it must be a finite number (guard divisors with max(1, …))`);
    }
  }
  return expression;
}

const GRAMMAR = `allowed are numbers, ${VARIABLES.join(', ')}, + - * / ( ) and ${Object.keys(FUNCTIONS).join(', ')}`;

function translate(node: MathNode): Expression {
  switch (node.type) {
    case 'ConstantNode': {
      const { value } = node as { value?: unknown };
      if (typeof value !== 'number' || !Number.isFinite(value)) refuse(`contains ${node.toString()}; ${GRAMMAR}`);
      return () => value;
    }
    case 'ParenthesisNode':
      return translate((node as unknown as { content: MathNode }).content);
    case 'SymbolNode': {
      const { name } = node as unknown as { name: string };
      const variable = VARIABLES.find((v) => v === name);
      if (variable === undefined) refuse(`uses "${name}"; ${GRAMMAR}`);
      return (vars) => vars[variable];
    }
    case 'OperatorNode': {
      const { fn, args, implicit } = node as unknown as { fn: string; args: MathNode[]; implicit?: boolean };
      const [a, b] = args;
      if (implicit === true) refuse(`puts two values side by side ("${node.toString()}"): write the operator`);
      if (fn === 'unaryMinus' && a !== undefined) {
        const operand = translate(a);
        return (vars) => -operand(vars);
      }
      const apply = lookUp(BINARY, fn);
      if (apply === undefined || a === undefined || b === undefined || args.length !== 2) {
        refuse(`uses the operator ${fn}; ${GRAMMAR}`);
      }
      const left = translate(a);
      const right = translate(b);
      return (vars) => apply(left(vars), right(vars));
    }
    case 'FunctionNode': {
      const { fn, args } = node as unknown as { fn: MathNode; args: MathNode[] };
      const name = fn.type === 'SymbolNode' ? (fn as unknown as { name: string }).name : fn.toString();
      const found = lookUp(FUNCTIONS, name);
      if (found === undefined) refuse(`calls ${name}(); ${GRAMMAR}`);
      const [least, most] = found.arity;
      if (args.length < least || args.length > most) {
        refuse(
          `calls ${name}() with ${args.length} values; it takes ${least === most ? least : `${least} to ${most}`}`,
        );
      }
      const values = args.map(translate);
      return (vars) => found.apply(values.map((v) => v(vars)));
    }
    default:
      refuse(`contains ${node.type.replace(/Node$/, '').toLowerCase()} syntax; ${GRAMMAR}`);
  }
}
