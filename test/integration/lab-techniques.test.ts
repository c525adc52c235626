/** `fairway lab run techniques` with two of its runs: options asked for over HTTP reach QEMU at both ends, and the guest counts on. */
import { removeLab } from '../../sim/lab/network.ts';
import { whyNoLab } from '../../sim/lab/requirements.ts';
import { runScenario } from '../../sim/lab/run.ts';
import type { TechniquesRun } from '../../sim/lab/scenarios/techniques.ts';
import { gate } from './gate.ts';

jest.setTimeout(600_000);
const prefix = `lq${process.pid}`;
const { reason, real, named } = gate(whyNoLab());

afterAll(async () => {
  if (reason === undefined) await removeLab({ prefix });
});

real(named('stop-and-copy and compressed pre-copy of one guest'), async () => {
  const said: string[] = [];
  const result = await runScenario('techniques', {
    json: true,
    out: (text) => said.push(text),
    keep: false,
    signal: new AbortController().signal,
    lab: { prefix },
    modes: ['idle: stop-and-copy', 'idle: pre-copy, multifd zstd'],
  });
  const runs = result.runs as TechniquesRun[];
  const [stopped, compressed] = runs;
  expect(runs.map((r) => [r.mode, r.converged, r.guestAlive])).toEqual([
    ['idle: stop-and-copy', true, true],
    ['idle: pre-copy, multifd zstd', true, true],
  ]);
  // The agents saw it stand still for about all of the copy; QEMU counts the switch-over only.
  expect(stopped?.seenDowntime?.atLeastMs).toBeGreaterThan((stopped?.totalMs ?? 0) / 2);
  expect(stopped?.clientSilenceMs).toBeGreaterThan((stopped?.totalMs ?? 0) / 2);
  expect(compressed?.seenDowntime?.atMostMs).toBeLessThan(stopped?.seenDowntime?.atLeastMs ?? 0);
  expect(compressed?.bytes).toBeLessThan(stopped?.bytes ?? 0);
  expect(compressed?.reasons.join('\n')).toContain('pre-copy + zstd: the options were asked for');
  expect(result.leftovers).toEqual([]);
});
