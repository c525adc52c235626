/** The destination's machine: set up in QEMU's order, find a port, tell once that the guest runs. */
import fc from 'fast-check';
import {
  type DestinationAction,
  type DestinationEvent,
  prepareDestination,
  stepDestination,
} from '../../../agent/core/destination.ts';
import { type AgentCommandOf, guestSpecSchema } from '../../../contracts/agent.ts';

const command: AgentCommandOf<'prepare'> = {
  do: 'prepare',
  migration: 'm1',
  guest: guestSpecSchema.parse({ name: 'vm1', mac: '52:54:00:00:00:01', memoryMiB: 256 }),
  technique: 'hybrid',
};
const BEGIN: DestinationEvent[] = [
  { type: 'reply', to: 'capabilities' },
  { type: 'reply', to: 'parameters' },
  { type: 'reply', to: 'incoming' },
];

function play(events: DestinationEvent[], ports = [49152, 49153]) {
  const first = prepareDestination(command, '192.0.2.2', ports);
  let state = first.state;
  const actions: DestinationAction[] = [...first.actions];
  for (const e of events) {
    const r = stepDestination(state, e);
    state = r.state;
    actions.push(...r.actions);
  }
  return { state, actions, names: actions.map((a) => (a.do === 'event' ? `!${a.message.event}` : a.do)) };
}

describe('the destination of a migration', () => {
  test('capabilities, then parameters, then listening; the guest runs; the copy completes', () => {
    const { names, state, actions } = play([
      ...BEGIN,
      { type: 'status', status: 'active' },
      { type: 'running' },
      { type: 'status', status: 'completed' },
    ]);
    expect(names).toEqual(['setCapabilities', 'setParameters', 'incoming', '!resumed']);
    expect(actions[0]).toMatchObject({ capabilities: { 'postcopy-ram': true, 'postcopy-preempt': true } });
    expect(state.phase).toBe('completed');
  });

  test('a port that is taken is followed by the next; when none is left, by the last reason', () => {
    const taken: DestinationEvent = { type: 'reply', to: 'incoming', error: 'Address already in use' };
    const second = play([...BEGIN.slice(0, 2), taken, { type: 'reply', to: 'incoming' }]);
    expect(second.state).toMatchObject({ phase: 'listening', port: 49153 });
    const none = play([...BEGIN.slice(0, 2), taken, taken]);
    expect(none.state).toMatchObject({ phase: 'failed', reason: 'Address already in use' });
    expect(play([], []).state).toMatchObject({ phase: 'failed' });
  });

  describe('a post-copy whose stream breaks', () => {
    const RUNNING: DestinationEvent[] = [...BEGIN, { type: 'status', status: 'postcopy-active' }, { type: 'running' }];
    const paused: DestinationEvent = { type: 'status', status: 'postcopy-paused' };
    const going: DestinationEvent = { type: 'status', status: 'postcopy-active' };
    const recover: DestinationEvent = { type: 'recover', ports: [49152, 49153, 49154] };
    const taken: DestinationEvent = { type: 'reply', to: 'listenAgain', error: 'Address already in use' };

    test('is reported; it listens anew on another port, and goes on', () => {
      const { names, actions, state } = play([...RUNNING, paused, paused, recover, recover, going]);
      expect(names.slice(-4)).toEqual(['!resumed', '!postcopyPaused', 'listenAgain', '!postcopyRecovered']);
      expect(actions).toContainEqual({ do: 'listenAgain', address: '192.0.2.2', port: 49153 });
      expect(state).toMatchObject({ phase: 'resumed', guestRan: true, port: 49152, againPort: null });
      expect(play([...RUNNING, paused, recover, going, { type: 'status', status: 'completed' }]).state.phase).toBe(
        'completed',
      );
    });

    test('a stream that may be dead is given up before it listens anew', () => {
      const { names, state } = play([...RUNNING, recover, recover, paused]);
      expect(names.slice(-2)).toEqual(['pauseCopy', 'listenAgain']);
      expect(state).toMatchObject({ phase: 'listeningAgain', againPort: 49153, recoverPending: false });
      const no = play([...RUNNING, recover, { type: 'reply', to: 'pauseCopy', error: 'no' }]);
      expect(no.state).toMatchObject({ phase: 'resumed', recoverPending: false, reason: 'no' });
    });

    test('a port that is taken is followed by the next; without any it stays paused and may be asked again', () => {
      expect(play([...RUNNING, paused, recover, taken]).state).toMatchObject({ againPort: 49154 });
      const none = play([...RUNNING, paused, recover, taken, taken]);
      expect(none.state).toMatchObject({ phase: 'paused', againPort: null, reason: 'Address already in use' });
      expect(play([...RUNNING, paused, recover, taken, taken, recover]).state.phase).toBe('listeningAgain');
    });

    test('an attempt that breaks is reported again', () => {
      const { names } = play([...RUNNING, paused, recover, paused]);
      expect(names.filter((n) => n === '!postcopyPaused')).toHaveLength(2);
    });

    test('a guest that never ran here is not cut off', () => {
      expect(play([...BEGIN, recover]).names).not.toContain('pauseCopy');
    });
  });

  test('RESUME may come after or before the completion', () => {
    const late = play([...BEGIN, { type: 'status', status: 'completed' }, { type: 'running' }]);
    expect(late.state).toMatchObject({ guestRan: true });
    expect(late.names).toContain('!resumed');
  });

  test('whatever comes, the guest is said to run at most once, and is remembered to have run', () => {
    const anyEvent: fc.Arbitrary<DestinationEvent> = fc.oneof(
      fc
        .tuple(
          fc.constantFrom(...(['capabilities', 'parameters', 'incoming', 'listenAgain', 'pauseCopy'] as const)),
          fc.boolean(),
        )
        .map(([to, bad]): DestinationEvent => ({ type: 'reply', to, ...(bad ? { error: 'no' } : {}) })),
      fc
        .constantFrom('setup', 'active', 'postcopy-active', 'completed', 'failed', 'postcopy-paused', 'odd')
        .map((s): DestinationEvent => ({ type: 'status', status: s })),
      fc.constantFrom<DestinationEvent>(
        { type: 'running' },
        { type: 'recover', ports: [49154] },
        { type: 'lost', reason: 'gone' },
      ),
    );
    fc.assert(
      fc.property(fc.nat(3), fc.array(anyEvent, { maxLength: 30 }), (n, events) => {
        const { names, state } = play([...BEGIN.slice(0, n), ...events]);
        const resumed = names.filter((x) => x === '!resumed').length;
        expect(resumed).toBe(state.guestRan ? 1 : 0);
        expect(JSON.parse(JSON.stringify(state))).toEqual(state);
      }),
      { numRuns: 1000 },
    );
  });
});
