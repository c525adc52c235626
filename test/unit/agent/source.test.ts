/** The source's machine: the order of actions and reports for each technique, refusals, and what no order of events may break. */
import fc from 'fast-check';
import type { MigrateInfo } from '../../../agent/core/progress.ts';
import { startSource, stepSource } from '../../../agent/core/source.ts';
import { isEnded, type SourceAction, type SourceEvent, type SourceState } from '../../../agent/core/sourceState.ts';
import type { AgentCommandOf } from '../../../contracts/agent.ts';
import { TECHNIQUES } from '../../../contracts/common.ts';

const command = (over: Partial<AgentCommandOf<'start'>> = {}): AgentCommandOf<'start'> => ({
  do: 'start',
  migration: 'm1',
  guest: 'vm1',
  technique: 'pre-copy',
  address: '192.0.2.2',
  port: 49152,
  bandwidthBps: 80e6,
  downtimeLimitMs: 300,
  hybridPasses: 2,
  pauseBeforeSwitchover: true,
  ...over,
});

const ram = (transferred: number, passes = 1, more: Partial<NonNullable<MigrateInfo['ram']>> = {}) => ({
  transferred,
  remaining: 1e6,
  total: 2e8,
  mbps: 80,
  'dirty-pages-rate': 2000,
  'page-size': 4096,
  'dirty-sync-count': passes,
  ...more,
});
const status = (name: string, figures?: MigrateInfo['ram'], more: MigrateInfo = {}): SourceEvent => ({
  type: 'status',
  info: { status: name, ...(figures === undefined ? {} : { ram: figures }), ...more },
});
const reply = (to: 'capabilities' | 'parameters' | 'stopGuest' | 'migrate', error?: string): SourceEvent => ({
  type: 'reply',
  to,
  ...(error === undefined ? {} : { error }),
});
const BEGIN: SourceEvent[] = [reply('capabilities'), reply('parameters'), reply('migrate'), status('active')];
const beginOf = (c: AgentCommandOf<'start'>): SourceEvent[] =>
  c.technique === 'stop-and-copy' ? [...BEGIN.slice(0, 2), reply('stopGuest'), ...BEGIN.slice(2)] : BEGIN;

/** Runs events and names what was done: action names, and reports as `!event`. */
function play(c: AgentCommandOf<'start'>, events: SourceEvent[], stepMs = 100) {
  const first = startSource(c, 0);
  let state = first.state;
  const actions: SourceAction[] = [...first.actions];
  const refused: string[] = [];
  events.forEach((e, i) => {
    const r = stepSource(state, e, (i + 1) * stepMs);
    if (r.refused) refused.push(r.refused.message);
    state = r.state;
    actions.push(...r.actions);
  });
  const names = actions.map((a) => (a.do === 'event' ? `!${a.message.event}` : a.do));
  return { state, actions, names, refused };
}

const parametersOf = (actions: SourceAction[]) =>
  actions.filter((a) => a.do === 'setParameters').map((a) => a.parameters);

describe('the source of a migration', () => {
  test('pre-copy with a pause: set up, copy, wait, continue, complete', () => {
    const { names, actions, state } = play(command(), [
      ...BEGIN,
      { type: 'stream', stream: { sourceIp: 'a', destinationIp: 'b', sourcePort: 1, destinationPort: 2 } },
      status('active', ram(1e6)),
      status('pre-switchover'),
      { type: 'continueSwitchover' },
      status('device'),
      status('completed'),
      status('completed', ram(3e6, 4), { 'total-time': 900, downtime: 33 }),
    ]);
    expect(names).toEqual([
      'setCapabilities',
      'setParameters',
      'migrate',
      '!stream',
      'progress',
      '!preSwitchover',
      'continue',
      'query',
      '!completed',
    ]);
    expect(actions[0]).toMatchObject({
      do: 'setCapabilities',
      capabilities: { events: true, 'postcopy-ram': false, 'postcopy-preempt': false, 'pause-before-switchover': true },
    });
    expect(parametersOf(actions)[0]).toMatchObject({
      'max-bandwidth': 10e6,
      'max-postcopy-bandwidth': 10e6,
      'avail-switchover-bandwidth': 10e6,
      'downtime-limit': 300,
    });
    expect(state.phase).toBe('completed');
    expect(actions.at(-1)).toMatchObject({
      message: { progress: { phase: 'completed', transferredBytes: 3e6, passes: 4, elapsedMs: 900, downtimeMs: 33 } },
    });
  });

  test('post-copy starts as soon as the copy is active, and not before', () => {
    const before = play(command({ technique: 'post-copy' }), BEGIN.slice(0, 3));
    expect(before.names).not.toContain('startPostcopy');
    const { names } = play(command({ technique: 'post-copy' }), [
      ...BEGIN,
      status('active', ram(1e5)),
      status('pre-switchover'),
      { type: 'continueSwitchover' },
      status('postcopy-active'),
      status('completed', ram(5e6, 2, { 'postcopy-bytes': 4e6 })),
    ]);
    expect(names.filter((n) => n !== 'progress')).toEqual([
      'setCapabilities',
      'setParameters',
      'migrate',
      'startPostcopy',
      '!preSwitchover',
      'continue',
      '!postcopyStarted',
      '!completed',
    ]);
  });

  test('a hybrid goes to post-copy when a pass did not pay', () => {
    const c = command({ technique: 'hybrid', hybridPasses: 9, hybridMinGain: 0.3 });
    const passes = (...remaining: number[]) =>
      play(c, [...BEGIN, ...remaining.map((r, i) => status('active', ram(1e6 * i, i + 1, { remaining: r })))]).names;
    expect(passes(100e6, 60e6, 40e6)).not.toContain('startPostcopy');
    expect(passes(100e6, 60e6, 43e6)).toContain('startPostcopy');
    // What is left in the middle of a pass says nothing about it.
    expect(passes(100e6)).not.toContain('startPostcopy');
    // The event of a pass has no figures: they are asked for.
    expect(play(c, [...BEGIN, status('active', ram(1, 1)), { type: 'pass', pass: 2 }]).names).toContain('query');
    expect(play(command({ technique: 'hybrid' }), [...BEGIN, { type: 'pass', pass: 2 }]).names).not.toContain('query');
  });

  test('stop-and-copy stops the guest first, and starts it again only when the copy did not come about', () => {
    const c = command({ technique: 'stop-and-copy', pauseBeforeSwitchover: false });
    const opening = [reply('capabilities'), reply('parameters'), reply('stopGuest')];
    const whole = [...opening, reply('migrate'), status('active')];
    expect(play(c, whole).names).toEqual(['setCapabilities', 'setParameters', 'stopGuest', 'migrate']);
    const done = play(c, [...whole, status('completed', ram(3e6))]);
    expect(done.names).not.toContain('resumeGuest');
    for (const end of ['failed', 'cancelled'])
      expect(play(c, [...whole, status(end, ram(3e6))]).names.slice(-2)).toEqual(['resumeGuest', `!${end}`]);
    expect(play(c, [...opening.slice(0, 2), { type: 'cancel' }]).names.slice(-2)).toEqual([
      'resumeGuest',
      '!cancelled',
    ]);
    expect(play(c, [...opening, reply('migrate', 'refused')]).names.slice(-2)).toEqual(['resumeGuest', '!failed']);
  });

  test('a hybrid goes to post-copy when its passes are through, told by event or by poll', () => {
    const c = command({ technique: 'hybrid', hybridPasses: 2 });
    expect(play(c, [...BEGIN, { type: 'pass', pass: 2 }]).names).not.toContain('startPostcopy');
    expect(play(c, [...BEGIN, { type: 'pass', pass: 3 }]).names).toContain('startPostcopy');
    expect(play(c, [...BEGIN, status('active', ram(1e6, 2))]).names).not.toContain('startPostcopy');
    expect(play(c, [...BEGIN, status('active', ram(1e6, 3))]).names).toContain('startPostcopy');
    const twice = play(c, [...BEGIN, { type: 'pass', pass: 3 }, { type: 'pass', pass: 4 }]);
    expect(twice.names.filter((n) => n === 'startPostcopy')).toHaveLength(1);
  });

  test('a pre-copy that may turn is set up for post-copy, and turns when told', () => {
    const c = command({ mayTurnPostcopy: true });
    const { actions, names, refused } = play(c, [
      ...BEGIN,
      status('active', ram(1e6, 9)),
      { type: 'switchToPostcopy' },
      { type: 'switchToPostcopy' },
      status('postcopy-active'),
    ]);
    expect(actions[0]).toMatchObject({ capabilities: { 'postcopy-ram': true, 'postcopy-preempt': true } });
    expect(names.slice(-2)).toEqual(['startPostcopy', '!postcopyStarted']);
    expect(refused).toEqual([]);
    expect(play(c, [...BEGIN, status('active', ram(1e6, 9))]).names).not.toContain('startPostcopy');
  });

  test('a post-copy whose switch-over happened between two polls is still told of', () => {
    const { names } = play(command({ technique: 'post-copy', pauseBeforeSwitchover: false }), [
      ...BEGIN,
      status('completed', ram(5e6, 2, { 'postcopy-bytes': 4e6 })),
    ]);
    expect(names.slice(-2)).toEqual(['!postcopyStarted', '!completed']);
  });

  test('the pace can be changed while copying; 0 is not taken for "no limit"', () => {
    const { actions } = play(command(), [
      ...BEGIN,
      { type: 'setBandwidth', bandwidthBps: 40e6, switchoverBps: 160e6 },
      { type: 'setBandwidth', bandwidthBps: 0 },
    ]);
    const [, second, third] = parametersOf(actions);
    expect(second).toMatchObject({ 'max-bandwidth': 5e6, 'avail-switchover-bandwidth': 20e6 });
    expect(third?.['max-bandwidth']).toBeGreaterThan(0);
    expect(third?.['avail-switchover-bandwidth']).toBe(20e6);
  });

  test('the post-copy pace is lowered while urgent pages push the sum above the slice, and raised again', () => {
    const events = [...BEGIN, status('pre-switchover'), status('postcopy-active')];
    // 80 Mbit/s allowed; 120 Mbit/s seen (7.5 MB in 500 ms), then nearly nothing.
    const { actions } = play(
      command({ technique: 'post-copy' }),
      [
        ...events,
        status('postcopy-active', ram(0)),
        status('postcopy-active', ram(7.5e6)),
        status('postcopy-active', ram(15e6)),
        status('postcopy-active', ram(15.1e6)),
      ],
      500,
    );
    const paces = parametersOf(actions)
      .slice(1)
      .map((p) => p['max-postcopy-bandwidth'] as number);
    expect(paces[0]).toBeLessThan(10e6);
    expect(paces[1]).toBeLessThan(paces[0] as number);
    expect(paces[2]).toBeGreaterThan(paces[1] as number);
    expect(Math.max(...paces)).toBeLessThanOrEqual(10e6);
  });

  test('a step that the hypervisor refuses ends the migration with its words', () => {
    for (const [n, to] of (['capabilities', 'parameters', 'migrate'] as const).entries()) {
      const { state, actions } = play(command(), [...BEGIN.slice(0, n), reply(to, 'no such thing')]);
      expect(state.phase).toBe('failed');
      expect(actions.at(-1)).toMatchObject({ message: { event: 'failed', reason: `${to}: no such thing` } });
    }
  });

  test('what was refused later can be ordered again', () => {
    const waiting = [...BEGIN, status('pre-switchover'), { type: 'continueSwitchover' } as const];
    const { names } = play(command(), [
      ...waiting,
      { type: 'reply', to: 'continue', error: 'busy' },
      { type: 'continueSwitchover' },
    ]);
    expect(names.filter((n) => n === 'continue')).toHaveLength(2);
    const cancelled = play(command(), [
      ...BEGIN,
      { type: 'cancel' },
      { type: 'cancel' },
      { type: 'reply', to: 'cancel', error: 'busy' },
      { type: 'cancel' },
    ]);
    expect(cancelled.names.filter((n) => n === 'cancel')).toHaveLength(2);
  });

  test('commands in the wrong phase are refused with the phase', () => {
    expect(play(command(), [...BEGIN, { type: 'continueSwitchover' }]).refused[0]).toMatch(/active/);
    expect(play(command(), [...BEGIN, { type: 'switchToPostcopy' }]).refused[0]).toMatch(/pre-copy/);
    expect(play(command({ technique: 'hybrid' }), [{ type: 'switchToPostcopy' }]).refused[0]).toMatch(/capabilities/);
    const inPostcopy = [...BEGIN, status('postcopy-active'), { type: 'cancel' } as const];
    expect(play(command({ technique: 'post-copy' }), inPostcopy).refused[0]).toMatch(/cannot be cancelled/);
    const done = [...BEGIN, status('completed', ram(1)), { type: 'cancel' } as const];
    expect(play(command(), done).refused[0]).toMatch(/complete/);
  });

  describe('a post-copy whose stream breaks', () => {
    const postcopy = command({ technique: 'post-copy' });
    const paused = (why = 'Channel error') => status('postcopy-paused', ram(2e6), { 'error-desc': why });
    const moving = (bytes: number) => status('postcopy-active', ram(bytes));
    const RUNNING = [...BEGIN, moving(1e6)];
    const recover = (port: number): SourceEvent => ({
      ...{ type: 'recover', address: '192.0.2.2', port, bandwidthBps: 160e6 },
    });
    const answered = (to: 'pauseCopy' | 'resumeCopy', error?: string): SourceEvent => ({
      ...{ type: 'reply', to },
      ...(error === undefined ? {} : { error }),
    });
    const lastReason = (actions: SourceAction[]) =>
      actions.flatMap((a) => (a.do === 'event' ? [a.message.reason] : [])).at(-1);

    test('is reported with the reason, and taken up where and at the pace it is told', () => {
      const broken = play(postcopy, [...RUNNING, status('postcopy-paused'), paused()]);
      expect(broken.state.phase).toBe('postcopyPaused');
      expect(broken.names.filter((n) => n !== 'progress').slice(-2)).toEqual(['query', '!postcopyPaused']);
      expect(lastReason(broken.actions)).toBe('the stream broke: Channel error');

      const mended = play(postcopy, [
        ...RUNNING,
        paused(),
        recover(50_000),
        // Asked before the order, answered after it.
        paused(),
        moving(2e6),
        answered('resumeCopy'),
        status('postcopy-recover'),
        status('postcopy-active'),
        recover(50_000),
        moving(3e6),
        status('completed', ram(9e6)),
      ]);
      const since = mended.names.slice(mended.names.indexOf('!postcopyPaused'));
      expect(since.filter((n) => n !== 'progress')).toEqual([
        ...['!postcopyPaused', 'setParameters', 'resumeCopy', '!postcopyRecovered', '!completed'],
      ]);
      expect(mended.actions).toContainEqual({ do: 'resumeCopy', address: '192.0.2.2', port: 50_000 });
      expect(mended.actions).toContainEqual({
        do: 'setParameters',
        parameters: expect.objectContaining({ 'max-postcopy-bandwidth': 20e6 }),
      });
      expect(mended.refused).toEqual([]);
    });

    test('an attempt that fails is told as such, and another can be made', () => {
      const attempt = [recover(50_000), answered('resumeCopy'), status('postcopy-recover-setup'), paused('refused')];
      const { names, actions, state } = play(postcopy, [...RUNNING, paused(), ...attempt, recover(50_001)]);
      expect(state).toMatchObject({ phase: 'resuming', recovery: { port: 50_001 } });
      expect(names.filter((n) => n === '!postcopyPaused')).toHaveLength(2);
      expect(lastReason(actions)).toBe('the copy could not be taken up again: refused');
      // One that QEMU did not even begin leaves it as it was.
      for (const no of [answered('resumeCopy', 'no'), reply('parameters', 'no')]) {
        expect(play(postcopy, [...RUNNING, paused(), recover(50_000), no]).state.phase).toBe('postcopyPaused');
      }
    });

    test('is paused from here when the other end listens anew already', () => {
      const { names, state } = play(postcopy, [...RUNNING, recover(50_000), answered('pauseCopy'), paused()]);
      expect(names.filter((n) => n !== 'progress').slice(-3)).toEqual(['pauseCopy', 'setParameters', 'resumeCopy']);
      expect(state.phase).toBe('resuming');
    });

    test('is paused from here when no byte goes for too long, and not while some do', () => {
      const still = (n: number) => Array.from({ length: n }, () => moving(2e6));
      expect(play(postcopy, [...RUNNING, ...still(50)]).names).not.toContain('pauseCopy');
      const stalled = play(postcopy, [...RUNNING, ...still(60), answered('pauseCopy'), paused()]);
      expect(stalled.names.filter((n) => n === 'pauseCopy')).toHaveLength(1);
      expect(lastReason(stalled.actions)).toBe('no byte of the copy went through for 5 s');
      const moves = Array.from({ length: 100 }, (_, i) => moving(2e6 + i));
      expect(play(postcopy, [...RUNNING, ...moves]).names).not.toContain('pauseCopy');
    });

    test('a restarted agent believes the hypervisor about it', () => {
      const restored = (name: string): SourceEvent => ({
        ...{ type: 'restored', info: { status: name, ram: ram(3e6) }, guestLeft: true },
      });
      const ordered = [...RUNNING, paused(), recover(50_000)];
      expect(play(postcopy, [...ordered, restored('postcopy-active')]).names).toContain('!postcopyRecovered');
      expect(play(postcopy, [...ordered, restored('postcopy-paused')]).state.phase).toBe('postcopyPaused');
      expect(play(postcopy, [...RUNNING, restored('postcopy-paused')]).names.at(-2)).toBe('!postcopyPaused');
    });

    test('is neither cancelled nor taken up before it broke, in another technique, or after its end', () => {
      const refusals = (events: SourceEvent[]) => play(postcopy, events).refused;
      expect(refusals([...RUNNING, paused(), { type: 'cancel' }])[0]).toMatch(/cannot be cancelled/);
      expect(refusals([...BEGIN, recover(50_000)])[0]).toMatch(/only a post-copy/);
      expect(refusals([...RUNNING, status('completed', ram(9e6)), recover(50_000)])[0]).toMatch(/ended/);
      expect(refusals([...RUNNING, paused(), recover(50_000), recover(50_001)])[0]).toMatch(/50000/);
    });
  });

  test('an end that was announced stands even if the hypervisor then vanishes', () => {
    const gone: SourceEvent = { type: 'lost', reason: 'killed' };
    expect(play(command(), [...BEGIN, status('completed'), gone]).state.phase).toBe('completed');
    expect(play(command(), [...BEGIN, gone]).state.phase).toBe('failed');
  });

  test('a restarted agent goes on with a copy that runs and gives up one that never began', () => {
    const restored = (name?: string, guestLeft = false): SourceEvent => ({
      type: 'restored',
      info: name === undefined ? {} : { status: name },
      guestLeft,
    });
    expect(play(command(), [...BEGIN.slice(0, 2), restored('active')]).state.phase).toBe('active');
    expect(play(command(), [...BEGIN.slice(0, 2), restored()]).state.phase).toBe('failed');
    expect(play(command(), [...BEGIN.slice(0, 2), restored('completed')]).state.phase).toBe('failed');
    // It was copied away while no agent looked: this was the copy, and it must not run here again.
    const left = play(command({ technique: 'stop-and-copy' }), [...BEGIN.slice(0, 2), restored('completed', true)]);
    expect(left.names).toEqual(expect.arrayContaining(['stopGuest', 'query']));
    expect(left.names).not.toContain('resumeGuest');
    expect(play(command(), [...BEGIN, restored('pre-switchover')]).names).toContain('!preSwitchover');
  });

  test('figures of the previous migration of this guest are not taken for this one', () => {
    const { state } = play(command(), [status('completed', ram(1)), reply('capabilities'), status('failed', ram(1))]);
    expect(state.phase).toBe('parameters');
  });
});

const anyStatus = fc.constantFrom(
  'none',
  'setup',
  'active',
  'pre-switchover',
  'device',
  'postcopy-active',
  'postcopy-paused',
  'postcopy-recover-setup',
  'cancelling',
  'cancelled',
  'completed',
  'failed',
  'something-new',
);
const anyInfo: fc.Arbitrary<MigrateInfo> = fc.record(
  {
    status: anyStatus,
    ram: fc
      .tuple(fc.nat(1e9), fc.nat(10), fc.nat(1e6))
      .map(([transferred, passes, postcopy]) => ram(transferred, passes, { 'postcopy-bytes': postcopy })),
    downtime: fc.nat(1000),
  },
  { requiredKeys: [] },
);
const maybeError = fc.option(fc.constant('refused'), { nil: undefined });
const anyEvent: fc.Arbitrary<SourceEvent> = fc.oneof(
  fc
    .tuple(
      fc.constantFrom<Extract<SourceEvent, { type: 'reply' }>['to']>(
        ...(['capabilities', 'parameters', 'migrate', 'startPostcopy', 'continue', 'cancel'] as const),
        ...(['pauseCopy', 'resumeCopy'] as const),
      ),
      maybeError,
    )
    .map(([to, error]): SourceEvent => ({ type: 'reply', to, ...(error === undefined ? {} : { error }) })),
  anyInfo.map((info): SourceEvent => ({ type: 'status', info })),
  anyInfo.map((info): SourceEvent => ({ type: 'restored', info, guestLeft: info.status === 'completed' })),
  fc.nat(6).map((pass): SourceEvent => ({ type: 'pass', pass })),
  fc.constant<SourceEvent>({
    type: 'stream',
    stream: { sourceIp: 'a', destinationIp: 'b', sourcePort: 1, destinationPort: 2 },
  }),
  fc.nat(1e9).map((bandwidthBps): SourceEvent => ({ type: 'setBandwidth', bandwidthBps })),
  fc.integer({ min: 1, max: 5000 }).map((ms): SourceEvent => ({ type: 'setDowntimeLimit', downtimeLimitMs: ms })),
  fc.constantFrom<SourceEvent>(
    { type: 'switchToPostcopy' },
    { type: 'continueSwitchover' },
    { type: 'cancel' },
    { type: 'recover', address: 'b', port: 3, bandwidthBps: 1e6 },
    { type: 'lost', reason: 'gone' },
  ),
);
/** Breaking and mending may come again and again: mended only after it broke. What remains comes once at most. */
function checkReports(names: readonly string[]): string[] {
  const reports = names.filter((n) => n.startsWith('!'));
  const stream = reports.filter((r) => r === '!postcopyPaused' || r === '!postcopyRecovered');
  stream.forEach((r, i) => {
    if (r === '!postcopyRecovered') expect(stream[i - 1]).toBe('!postcopyPaused');
  });
  if (stream.length > 0) {
    expect(reports.indexOf('!postcopyStarted')).toBeLessThan(reports.indexOf('!postcopyPaused'));
    expect(reports).toContain('!postcopyStarted');
  }
  const others = reports.filter((r) => r !== '!postcopyPaused' && r !== '!postcopyRecovered');
  expect(new Set(others).size).toBe(others.length);
  return reports;
}
/** Likely sequences: a sensible beginning, then anything, in any order and number. */
const anyStory = fc
  .tuple(fc.nat(BEGIN.length), fc.array(anyEvent, { maxLength: 40 }))
  .map(([n, rest]) => [...BEGIN.slice(0, n), ...rest]);
const anyCommand = fc
  .record({
    technique: fc.constantFrom(...TECHNIQUES),
    pauseBeforeSwitchover: fc.boolean(),
    hybridPasses: fc.integer({ min: 1, max: 4 }),
    hybridMinGain: fc.constantFrom(0, 0.1, 0.9),
  })
  .map(command);

describe('whatever happens, late, twice or in the wrong order', () => {
  test('each report is made at most once, in an order that makes sense, and nothing follows the end', () => {
    fc.assert(
      fc.property(anyCommand, anyStory, (c, events) => {
        const { names, state } = play(c, events);
        const reports = checkReports(names);
        const ends = reports.filter((r) => ['!completed', '!failed', '!cancelled'].includes(r));
        expect(ends).toHaveLength(isEnded(state.phase) ? 1 : 0);
        if (ends.length === 1) expect(names.at(-1)).toBe(ends[0]);
        const [pre, post] = [reports.indexOf('!preSwitchover'), reports.indexOf('!postcopyStarted')];
        if (pre >= 0 && post >= 0) expect(pre).toBeLessThan(post);
      }),
      { numRuns: 2000 },
    );
  });

  test('post-copy is never started for a pre-copy, nor anything cancelled once the guest has left', () => {
    fc.assert(
      fc.property(anyCommand, anyStory, (c, events) => {
        const { names } = play(c, events);
        if (c.technique === 'pre-copy' || c.technique === 'stop-and-copy') expect(names).not.toContain('startPostcopy');
        const left = names.indexOf('!postcopyStarted');
        if (left >= 0) expect(names.slice(left)).not.toContain('cancel');
        for (const step of ['pauseCopy', 'resumeCopy']) {
          if (names.includes(step)) expect(names.indexOf(step)).toBeGreaterThan(left >= 0 ? left : names.length);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('a duplicated event adds no report, and an ended machine does nothing at all', () => {
    fc.assert(
      fc.property(anyCommand, anyStory, fc.array(anyEvent, { maxLength: 10 }), (c, events, late) => {
        const twice = play(
          c,
          events.flatMap((e) => [e, e]),
        );
        checkReports(twice.names);
        const ended = play(c, [...beginOf(c), status('completed', ram(1)), ...late]);
        const at = play(c, [...beginOf(c), status('completed', ram(1))]);
        expect(ended.names).toEqual(at.names);
        expect(ended.state).toEqual(at.state);
      }),
      { numRuns: 1000 },
    );
  });

  test('the state survives being written down and read back', () => {
    fc.assert(
      fc.property(anyCommand, anyStory, (c, events) => {
        const { state } = play(c, events);
        expect(JSON.parse(JSON.stringify(state)) as SourceState).toEqual(state);
      }),
      { numRuns: 500 },
    );
  });
});
