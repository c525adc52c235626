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

  test('RESUME may come after or before the completion', () => {
    const late = play([...BEGIN, { type: 'status', status: 'completed' }, { type: 'running' }]);
    expect(late.state).toMatchObject({ guestRan: true });
    expect(late.names).toContain('!resumed');
  });

  test('whatever comes, the guest is said to run at most once, and is remembered to have run', () => {
    const anyEvent: fc.Arbitrary<DestinationEvent> = fc.oneof(
      fc
        .tuple(fc.constantFrom('capabilities' as const, 'parameters' as const, 'incoming' as const), fc.boolean())
        .map(([to, bad]): DestinationEvent => ({ type: 'reply', to, ...(bad ? { error: 'no' } : {}) })),
      fc
        .constantFrom('setup', 'active', 'postcopy-active', 'completed', 'failed', 'postcopy-paused', 'odd')
        .map((s): DestinationEvent => ({ type: 'status', status: s })),
      fc.constantFrom<DestinationEvent>({ type: 'running' }, { type: 'lost', reason: 'gone' }),
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
