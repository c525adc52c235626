/** `fairway demo`: runs `sim/demo.ts` and prints its result. */
import type { Terminal } from '../terminal.ts';

export async function demo(terminal: Terminal, o: { speed?: number; seed?: number; json?: true }): Promise<undefined> {
  const { runDemo } = await import('../../sim/demo.ts');
  const columns = terminal.columns();
  const result = await runDemo({
    json: o.json === true,
    ...(o.speed !== undefined && { speed: o.speed }),
    ...(o.seed !== undefined && { seed: o.seed }),
    out: (text: string) => terminal.out(text),
    signal: terminal.signal,
    ...(columns !== undefined && { columns }),
  });
  if (o.json) terminal.out(`${JSON.stringify(result)}\n`);
}
