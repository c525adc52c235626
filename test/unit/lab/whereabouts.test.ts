/** Arithmetic of where a guest ran: stays from sightings, time in two places, time in none. */
import { longestNowhereMs, type Sighting, staysOf, twiceMs } from '../../../sim/lab/whereabouts.ts';

const seen = (host: string, atMs: number, runs: boolean, by: Sighting['by'] = 'event'): Sighting => ({
  host,
  atMs,
  runs,
  by,
});

describe('where a guest ran', () => {
  test('a move is two stays with a gap, whatever order the hosts were heard in', () => {
    const stays = staysOf(
      [seen('b', 130, true), seen('a', 0, true, 'answer'), seen('a', 0, true), seen('a', 100, false)],
      500,
    );
    expect(stays).toEqual([
      { host: 'a', fromMs: 0, toMs: 100 },
      { host: 'b', fromMs: 130, toMs: 500 },
    ]);
    expect(twiceMs(stays)).toBe(0);
    expect(longestNowhereMs(stays)).toBe(30);
  });

  test('a guest that runs on two hosts is found out, for as long as it does', () => {
    const stays = staysOf([seen('a', 0, true), seen('b', 50, true), seen('a', 80, false), seen('a', 90, true)], 100);
    expect(twiceMs(stays)).toBe(40);
    expect(longestNowhereMs(stays)).toBe(0);
  });

  test('a host where it stops and goes on has two stays; a machine that is gone ends its own', () => {
    const sightings = [seen('a', 0, true), seen('a', 10, false), seen('a', 25, true), seen('a', 40, false, 'gone')];
    expect(staysOf(sightings, 100)).toEqual([
      { host: 'a', fromMs: 0, toMs: 10 },
      { host: 'a', fromMs: 25, toMs: 40 },
    ]);
    expect(longestNowhereMs(staysOf(sightings, 100))).toBe(15);
    expect(staysOf([], 100)).toEqual([]);
  });
});
