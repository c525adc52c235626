/** `fairway lab up|run|down`: the real network of `sim/lab/`, which does all the work. */
import { writeFileSync } from 'node:fs';
import { formatMs } from '../../contracts/units.ts';
import { createMeter } from '../progress.ts';
import { EXIT, type Terminal } from '../terminal.ts';

interface Json {
  json?: true;
}

export async function runOne(
  terminal: Terminal,
  o: Json & { out?: string; keep?: true; moves?: number; qemuMoves?: number },
  scenario: string,
): Promise<number> {
  const { runScenario } = await import('../../sim/lab/run.ts');
  const result = await runScenario(scenario, {
    json: o.json === true,
    out: (text: string) => (o.json ? terminal.err(text) : terminal.out(text)),
    keep: o.keep === true,
    signal: terminal.signal,
    ...(o.moves === undefined ? {} : { moves: o.moves }),
    ...(o.qemuMoves === undefined ? {} : { qemuMoves: o.qemuMoves }),
  });
  const text = `${JSON.stringify(result)}\n`;
  if (o.out !== undefined) writeFileSync(o.out, text);
  if (o.json) terminal.out(text);
  return result.leftovers.length === 0 || o.keep ? EXIT.ok : EXIT.failed;
}

export async function collectRows(
  terminal: Terminal,
  o: Json & { out: string; rows: number; seed: number },
): Promise<number> {
  const { collect } = await import('../../sim/lab/collect/collect.ts');
  const meter = createMeter(terminal);
  const result = await collect({
    ...o,
    signal: terminal.signal,
    say: (text) => meter.note(text),
    onProgress: (done, total, etaMs) => meter.show(done, total, etaMs),
  }).finally(() => meter.end());
  const { made, rows, meanRowMs } = result;
  const each = meanRowMs === null ? '' : `, ${formatMs(meanRowMs)} each`;
  const whole = `${o.out} has the ${rows} rows of seed ${o.seed}: ${made} made now${each}`;
  terminal.out(
    o.json ? `${JSON.stringify(result)}\n` : `${whole}; ${result.cancelled} cancelled, ${result.failed} failed\n`,
  );
  for (const left of result.leftovers) terminal.err(`left behind: ${left}\n`);
  return result.leftovers.length === 0 ? EXIT.ok : EXIT.failed;
}

export async function up(terminal: Terminal, o: Json): Promise<undefined> {
  const { labUp } = await import('../../sim/lab/up.ts');
  const lab = await labUp({ out: terminal.err, signal: terminal.signal });
  if (o.json) {
    terminal.out(`${JSON.stringify(lab)}\n`);
    return;
  }
  const list = (lines: readonly string[]) => lines.map((l) => `  ${l}\n`).join('');
  const guests = lab.guests.map((g) => `${g.name} (${g.ip}) at ${g.host}`).join(', ');
  terminal.out(
    `The lab stands, with controller, agents and ${guests}. To look inside:\n` +
      `${list(lab.places.map((p) => p.enter))}To begin with:\n${list(lab.examples)}\`fairway lab down\` removes it.\n`,
  );
}

export async function down(terminal: Terminal, o: Json): Promise<undefined> {
  const { removeLab } = await import('../../sim/lab/network.ts');
  const removed = await removeLab();
  if (o.json) terminal.out(`${JSON.stringify({ removed })}\n`);
  else terminal.out(removed.length === 0 ? 'There was no lab.\n' : removed.map((r) => `removed ${r}\n`).join(''));
}
