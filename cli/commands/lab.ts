/** `fairway lab up|run|down`: the real network of `sim/lab/`, which does all the work. */
import { writeFileSync } from 'node:fs';
import { EXIT, type Terminal } from '../terminal.ts';

interface Json {
  json?: true;
}

export async function runOne(
  terminal: Terminal,
  o: Json & { out?: string; keep?: true },
  scenario: string,
): Promise<number> {
  const { runScenario } = await import('../../sim/lab/run.ts');
  const result = await runScenario(scenario, {
    json: o.json === true,
    out: (text: string) => (o.json ? terminal.err(text) : terminal.out(text)),
    keep: o.keep === true,
    signal: terminal.signal,
  });
  const text = `${JSON.stringify(result)}\n`;
  if (o.out !== undefined) writeFileSync(o.out, text);
  if (o.json) terminal.out(text);
  return result.leftovers.length === 0 || o.keep ? EXIT.ok : EXIT.failed;
}

export async function up(terminal: Terminal, o: Json): Promise<undefined> {
  const { buildNetwork, enterCommand } = await import('../../sim/lab/network.ts');
  const lab = await buildNetwork();
  const places = (['ctl', 'hv1', 'hv2', 'core', 'wl', 'client'] as const).map((p) => ({
    place: p,
    namespace: lab.ns(p),
    enter: enterCommand(lab, p),
  }));
  if (o.json) terminal.out(`${JSON.stringify({ stateDir: lab.stateDir, capacityBps: lab.capacityBps, places })}\n`);
  else terminal.out(`The lab stands. To look inside:\n${places.map((p) => `  ${p.enter}\n`).join('')}`);
}

export async function down(terminal: Terminal, o: Json): Promise<undefined> {
  const { removeLab } = await import('../../sim/lab/network.ts');
  const removed = await removeLab();
  if (o.json) terminal.out(`${JSON.stringify({ removed })}\n`);
  else terminal.out(removed.length === 0 ? 'There was no lab.\n' : removed.map((r) => `removed ${r}\n`).join(''));
}
