/**
 * The stand-in guest of the lab moves over real Open vSwitch: nothing is lost outside its pause, its TCP connection goes on,
 * and nothing is left behind. How long the silence is, `fairway lab run moves` measures on a quiet machine.
 */
import { removeLab } from '../../sim/lab/network.ts';
import { whyNoLab } from '../../sim/lab/requirements.ts';
import { runScenario } from '../../sim/lab/run.ts';
import type { MovesRun } from '../../sim/lab/scenarios/moves.ts';
import { gate } from './gate.ts';

jest.setTimeout(600_000);

const prefix = `mv${process.pid}`;
const MOVES = 3;
const { reason, real, named } = gate(whyNoLab());

afterAll(async () => {
  if (reason === undefined) await removeLab({ prefix });
});

real(named('moves by label, by tunnel and over learning switches'), async () => {
  const result = await runScenario('moves', {
    json: true,
    out: () => {},
    keep: false,
    signal: new AbortController().signal,
    lab: { prefix },
    moves: MOVES,
    qemuMoves: 0,
  });
  const runs = result.runs as MovesRun[];
  expect(runs.map((r) => r.mode)).toEqual(['label', 'vxlan', 'learning']);
  for (const run of runs) {
    expect(run.each.map((m) => `${m.from} ${m.to}`)).toEqual(['hv1 hv2', 'hv2 hv1', 'hv1 hv2']);
    expect(run.tcp).toMatchObject({ survived: true, problem: null });
    expect(run.tcp.bytesToGuest).toBeGreaterThan(10_000);
    expect(run.tcp.bytesFromGuest).toBeGreaterThan(10_000);
    expect(run.lost.toGuest.sent).toBeGreaterThan(1000);
    // Packets did come while the guest stood still: the instrument sees them.
    expect(run.lost.toGuest.lostInPause).toBeGreaterThan(MOVES);
  }
  for (const run of runs.filter((r) => r.mode !== 'learning')) {
    expect(run.lost.fromGuest).toMatchObject({ lostOutside: 0, duplicates: 0 });
    expect(run.lost.toGuest).toMatchObject({ lostOutside: 0, duplicates: 0 });
    // What came to the old place went on to the new one, by whichever way, and was counted.
    expect(run.stragglers?.sent).toBeGreaterThan(0);
    expect(run.stragglers?.arrived).toBe(run.stragglers?.sent);
    expect(run.stragglers?.counted).toBeGreaterThanOrEqual(run.stragglers?.sent ?? 1);
    expect(run.reasons.join('\n')).toContain('every switch confirmed the way to standin');
  }
  expect(runs[1]?.reasons.join('\n')).toContain('a probe came through the vxlan tunnel');
  expect(result.leftovers).toEqual([]);
});
