/**
 * Talks to os_ken_oracle.py: one child process for a whole test file, one JSON line per question, answers in order.
 */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { type Json, parseJson, stringifyJson } from 'node-openflow';

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
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #waiting: ((answer: Answer) => void)[] = [];
  #stderr = '';

  constructor(script: string) {
    this.#child = spawn(PYTHON, ['-u', script]);
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      this.#waiting.shift()?.(parseJson(line) as Answer);
    });
    this.#child.stderr.on('data', (d: Buffer) => {
      this.#stderr += d.toString();
    });
    this.#child.on('exit', (code) => {
      for (const answer of this.#waiting.splice(0)) answer({ error: `oracle exited with ${code}: ${this.#stderr}` });
    });
  }

  ask(question: Json): Promise<Answer> {
    return new Promise((resolve) => {
      // os-ken has inputs on which it loops for ever: then the process has to go.
      const late = setTimeout(() => this.#child.kill('SIGKILL'), 10_000);
      this.#waiting.push((answer) => {
        clearTimeout(late);
        resolve(answer);
      });
      this.#child.stdin.write(`${stringifyJson(question)}\n`);
    });
  }

  async close(): Promise<void> {
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.stdin.end();
    await gone;
  }
}
