/** Storage modes through `controller/core`: what is ordered of whom and in which order, also when agents were away meanwhile. */
import { migrationView } from '../../../controller/core/views.ts';
import {
  type Answers,
  ask,
  asked,
  down,
  drained,
  ID,
  job,
  moved,
  OFFER,
  ON_DEMAND,
  orders,
  PULLING,
  released,
  restarted,
  say,
  up,
  withDisk,
} from './withDisks.ts';

describe('on demand', () => {
  test('disks are offered, then the destination is prepared with where they are, then the copy starts', () => {
    const f = asked(ON_DEMAND);
    expect(orders(f, 'offerDisks', 'prepare', 'start')).toEqual(['offerDisks hv1', 'prepare hv2', 'start hv1']);
    const [prepare, start] = f.commands.map((c) => c.command).filter((c) => c.do === 'prepare' || c.do === 'start');
    expect(prepare).toMatchObject({ options: { storage: 'on-demand' }, disksFrom: OFFER });
    expect(prepare).not.toHaveProperty('options.pullBps');
    expect(start).toMatchObject({ options: ON_DEMAND, guest: 'g1' });
    expect(start).not.toHaveProperty('diskPort');
    expect(job(f)).toMatchObject({ state: 'copying', disksFrom: OFFER });
  });

  test('the source is let go when the destination has all, long after the end, and not before', () => {
    const f = moved();
    expect(orders(f, 'finish')).toEqual(['finish hv1', 'finish hv2']);
    expect(released(f)).toEqual([]);
    say(f, 'hv1', 'disksPulled');
    expect(released(f)).toEqual([]);
    say(f, 'hv2', 'disksPulled');
    expect(released(f)).toEqual(['releaseDisks hv1']);
    expect(f.commands.at(-1)?.command).toEqual({ do: 'releaseDisks', migration: ID, guest: 'g1' });
  });

  test('disks that are there before the copy has ended: the source is let go after it', () => {
    const f = asked(ON_DEMAND);
    say(f, 'hv1', 'preSwitchover');
    say(f, 'hv2', 'resumed');
    say(f, 'hv2', 'disksPulled');
    say(f, 'hv1', 'completed');
    expect(released(f)).toEqual([]);
    drained(f);
    expect(released(f)).toEqual(['releaseDisks hv1']);
  });

  test('a source that was away when the destination had all is told when it is back', () => {
    const f = moved();
    const answer = f.answer;
    f.answer = () => undefined;
    down(f, 'hv1');
    say(f, 'hv2', 'disksPulled');
    const told = released(f).length;
    f.answer = answer;
    up(f, 'hv1', [withDisk('stopped')]);
    expect(released(f).slice(told)).toEqual(['releaseDisks hv1']);
  });

  test('a controller that was away hears of it from the destination, and remembers it', () => {
    const f = moved();
    const second = restarted(f);
    up(second, 'hv1', [withDisk('stopped')]);
    up(second, 'hv2', [withDisk()], PULLING);
    expect(released(second)).toEqual([]);
    down(second, 'hv1');
    say(second, 'hv2', 'disksPulled');
    const third = restarted(second);
    up(third, 'hv1', [withDisk('stopped')]);
    expect(released(third)).toEqual(['releaseDisks hv1']);
  });

  test('a source that was lost before it had offered is asked again', () => {
    let isThere = false;
    const f = asked(ON_DEMAND, { offerDisks: () => (isThere ? { value: OFFER } : undefined) });
    expect(job(f)).toMatchObject({ state: 'preparing', awaiting: 'offerDisks' });
    down(f, 'hv1');
    up(f, 'hv2');
    expect(orders(f, 'offerDisks', 'prepare')).toEqual(['offerDisks hv1']);
    isThere = true;
    up(f, 'hv1');
    f.pass(250);
    expect(orders(f, 'offerDisks', 'prepare', 'start')).toEqual([
      ...['offerDisks hv1', 'offerDisks hv1'],
      ...['prepare hv2', 'start hv1'],
    ]);
  });

  test.each<[string, Answers, RegExp]>([
    [
      'cannot offer',
      { offerDisks: () => ({ error: 'no port is free' }) },
      /hv1 could not offer its disks: no port is free/,
    ],
    ['does not say where', { offerDisks: () => ({ value: {} }) }, /hv1 offered its disks, but did not say where/],
    ['is not followed', { prepare: () => ({ error: 'disk-exists' }) }, /hv2 could not prepare: disk-exists/],
  ])('an offer that %s ends the migration, and the source serves nobody', (_what, answers, note) => {
    const f = asked(ON_DEMAND, answers);
    expect(job(f)).toMatchObject({ state: 'failed', note: expect.stringMatching(note) });
    expect(orders(f, 'start')).toEqual([]);
    expect(released(f)).toEqual(['releaseDisks hv1']);
  });

  test('a cancelled copy: the destination forgets the guest, and the source stops serving', () => {
    const f = asked(ON_DEMAND);
    say(f, 'hv1', 'cancelled');
    expect(orders(f, 'abandon', 'releaseDisks')).toEqual(['abandon hv2', 'releaseDisks hv1']);
  });

  test('what is told late of an earlier migration does not touch a later one of the same guest', () => {
    const f = moved();
    say(f, 'hv2', 'disksPulled');
    up(f, 'hv1', []);
    up(f, 'hv2', [withDisk()], PULLING);
    const told = released(f).length;
    ask(f, 'm-2', 'hv1', { storage: 'mirrored' });
    expect(job(f, 'm-2').state).not.toBe('failed');
    say(f, 'hv2', 'disksPulled');
    expect(released(f)).toHaveLength(told);
  });

  test('a later migration of the guest that has not begun, or came to nothing, does not keep the source from being let go', () => {
    const there = () => {
      const f = moved();
      up(f, 'hv1', [withDisk('stopped')]);
      up(f, 'hv2', [withDisk()], PULLING);
      return f;
    };
    const busy = there();
    const answer = busy.answer;
    busy.answer = (host, c) => (c.do === 'prepare' ? { error: 'full', code: 'host-busy' } : answer(host, c));
    ask(busy, 'm-2', 'hv1', { storage: 'mirrored' });
    expect(job(busy, 'm-2').state).toBe('queued');
    say(busy, 'hv2', 'disksPulled');
    expect(released(busy)).toEqual(['releaseDisks hv1']);

    const f = there();
    f.answer = (host, c) => (c.do === 'prepare' ? undefined : answer(host, c));
    ask(f, 'm-2', 'hv1', { storage: 'mirrored' });
    expect(job(f, 'm-2').awaiting).toBe('prepare');
    say(f, 'hv2', 'disksPulled');
    expect(released(f)).toEqual([]);
    const refusal = { ok: false, error: 'the machine is still here', code: 'guest-exists' };
    f.send({ kind: 'commandDone', host: 'hv1', migration: 'm-2', step: 'prepare', ...refusal });
    expect(job(f, 'm-2').state).toBe('failed');
    expect(released(f)).toEqual(['releaseDisks hv1']);
  });
});

describe('mirrored and shared', () => {
  test('the source is told where the disks are taken; nothing is offered, and nothing released', () => {
    const f = asked({ storage: 'mirrored' });
    const start = f.commands.map((c) => c.command).find((c) => c.do === 'start');
    expect(start).toMatchObject({ diskPort: 49_153, options: { storage: 'mirrored' } });
    const disk = { transferredBytes: 10, remainingBytes: 20, totalBytes: 30 };
    const figures = { elapsedMs: 1, transferredBytes: 0, remainingBytes: 0, totalBytes: 0, rateBps: 0 };
    const progress = { phase: 'setup' as const, ...figures, passes: 0, dirtyBytesPerS: 0, disk };
    f.send({ kind: 'agentMessage', host: 'hv1', message: { type: 'progress', migration: ID, progress } });
    expect(migrationView(job(f)).disk).toEqual(disk);
    say(f, 'hv1', 'cancelled');
    expect(orders(f, 'offerDisks', 'releaseDisks')).toEqual([]);
  });

  test('shared: both ends are told so, and of no port', () => {
    const f = asked({ storage: 'shared' });
    const [prepare, start] = f.commands.map((c) => c.command).filter((c) => c.do === 'prepare' || c.do === 'start');
    expect([prepare, start]).toEqual([
      expect.objectContaining({ options: { storage: 'shared' } }),
      expect.objectContaining({ options: { storage: 'shared' } }),
    ]);
    expect(start).not.toHaveProperty('diskPort');
    expect(orders(f, 'offerDisks')).toEqual([]);
  });
});
