/**
 * Talks to os_ken_oracle.py: one child process for a whole test file, one JSON line per question, answers in order.
 */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type Json, parseJson, stringifyJson } from '../../src/index.ts';

const PYTHON = '/usr/bin/python3';

/** Why os-ken cannot be asked here, or undefined when it can. */
export function whyNoOracle(): string | undefined {
  const tried = spawnSync(PYTHON, ['-c', 'import os_ken.ofproto.ofproto_v1_3_parser'], { encoding: 'utf8' });
  if (tried.error !== undefined) return `${PYTHON} does not run: ${tried.error.message}`;
  if (tried.status !== 0) return `python3-os-ken is not installed: ${tried.stderr.trim().split('\n').at(-1)}`;
  return undefined;
}

export type Answer = { json?: Json; hex?: string; error?: string };

export class Oracle {
  readonly #script: string;
  #child: ChildProcessWithoutNullStreams | undefined;
  readonly #waiting: ((answer: Answer) => void)[] = [];

  constructor(script: string) {
    this.#script = script;
  }

  /** os-ken has inputs on which it loops for ever: such a process ends itself, and the next question starts another. */
  #start(): ChildProcessWithoutNullStreams {
    const child = spawn(PYTHON, ['-u', this.#script]);
    let stderr = '';
    createInterface({ input: child.stdout }).on('line', (line) => {
      let answer: Answer;
      try {
        answer = parseJson(line) as Answer;
      } catch {
        // the beginning of a line from a process that ended: its exit is the answer
        return;
      }
      this.#waiting.shift()?.(answer);
    });
    child.stderr.on('data', (d: Buffer) => {
      stderr += d.toString();
    });
    // a write to a process that has just died is answered by its exit
    child.stdin.on('error', () => undefined);
    child.on('exit', (code, signal) => {
      if (this.#child === child) this.#child = undefined;
      const why = signal === 'SIGPROF' ? 'it loops' : `exited with ${code ?? signal}: ${stderr}`;
      for (const answer of this.#waiting.splice(0)) answer({ error: why });
    });
    return child;
  }

  ask(question: Json): Promise<Answer> {
    this.#child ??= this.#start();
    const child = this.#child;
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      child.stdin.write(`${stringifyJson(question)}\n`);
    });
  }

  async close(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.stdin.end();
    await gone;
  }
}
