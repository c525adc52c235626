/** What a migration is at, state by state: what it waits for from agents and switches, and whose agent is away. */
import type { AgentCommand, AgentMessage } from '../../../contracts/agent.ts';
import { explainJob } from '../../../controller/core/explain.ts';
import { type Fabric, guest, HV1, twoHypervisors } from './fabric.ts';

const ID = 'm-1';
const job = (f: Fabric) => {
  const found = f.state.jobs.get(ID);
  if (!found) throw new Error(`no job ${ID}`);
  return found;
};
const explained = (f: Fabric) => explainJob(f.state, job(f), f.nowMs);
const now = (f: Fabric) => explained(f).now;
const say = (f: Fabric, host: string, event: Extract<AgentMessage, { type: 'event' }>['event'], reason?: string) =>
  f.send({
    kind: 'agentMessage',
    host,
    message: { type: 'event', migration: ID, event, ...(reason === undefined ? {} : { reason }) },
  });

/** A migration of g1 from hv1 to hv2 whose agents do not answer one of the orders. */
function upTo(
  unanswered: AgentCommand['do'] | null,
  technique: 'pre-copy' | 'post-copy' = 'pre-copy',
  before: (f: Fabric) => void = () => {},
): Fabric {
  const f = twoHypervisors();
  f.answer = (_host, c) => {
    if (c.do === unanswered) return undefined;
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 1e6 } };
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49_152, portName: 'tap1' } };
    return { value: {} };
  };
  for (let i = 0; i < 3; i++) f.pass(1000);
  before(f);
  const moves = [{ guest: 'g1', destination: 'hv2' }];
  const request = { moves, priority: 'medium' as const, technique, strategy: 'parallel' as const };
  f.send({ kind: 'migrate', request, ids: [ID], group: null });
  for (let i = 0; i < 3; i++) f.pass(1000);
  return f;
}

test.each<[AgentCommand['do'], string, string, RegExp]>([
  ['measureDirtyRate', 'admitted', 'now.measuring', /^hv1 measures how fast g1 writes its memory$/],
  ['prepare', 'preparing', 'now.preparing', /^hv2 makes the machine ready that g1 moves to$/],
  ['start', 'copying', 'now.starting', /^hv1 is told to start the copy$/],
])('while %s is not answered', (order, state, rule, text) => {
  const f = upTo(order);
  expect(job(f).state).toBe(state);
  expect(now(f)).toMatchObject({ rule, text: expect.stringMatching(text) });
  expect(explained(f).summary).toContain(`it is ${state}`);
  expect(explained(f).summary).toContain(now(f)?.text);
});

test('a copy that runs says nothing beside its state; in switch-over and post-copy it says where the guest is', () => {
  const f = upTo('continueSwitchover', 'post-copy');
  expect(now(f)).toBeNull();
  say(f, 'hv1', 'preSwitchover');
  expect(job(f).state).toBe('switching');
  expect(now(f)).toMatchObject({ text: 'g1 stands still while the last of its memory is sent to hv2' });
  say(f, 'hv2', 'resumed');
  expect(now(f)).toMatchObject({
    rule: 'now.resumed',
    text: 'g1 runs at hv2 already, and the rest of its memory follows',
  });
  say(f, 'hv1', 'completed');
  expect(now(f)).toMatchObject({ rule: 'now.draining', text: expect.stringMatching(/until none has come for 2\.0 s/) });
});

test('while switches do not answer: before the copy, and while the guest stands still', () => {
  const f = upTo(null, 'pre-copy', (silent) => {
    silent.write = () => {};
  });
  expect(job(f).state).toBe('preparing');
  expect(now(f)).toMatchObject({ rule: 'now.switches', text: expect.stringMatching(/^its switches set up the flows/) });
  const g = upTo(null);
  g.write = () => {};
  say(g, 'hv1', 'preSwitchover');
  expect(now(g)).toMatchObject({
    rule: 'now.stopped',
    text: 'g1 stands still until every switch has confirmed the way to it on hv2',
  });
});

describe('the agent of the source is away', () => {
  const away = (f: Fabric) => f.send({ kind: 'agentDown', host: 'hv1' });

  test('of a copy: at which pace it goes on, that what is known of it is old, and what can be done', () => {
    const f = upTo(null);
    const before = explained(f);
    expect(before.rate?.reason.rule).toMatch(/^reservation\.medium/);
    away(f);
    f.pass(1000);
    const e = explained(f);
    expect(e.now).toMatchObject({
      rule: 'now.agentAway',
      text: expect.stringMatching(
        /^the agent of hv1 has been away for [\d.]+ m?s: the copy goes on at its last pace, and /,
      ),
      inputs: { hosts: 'hv1', heldBps: job(f).sliceBps },
    });
    // Its slice is what nobody can tell it not to take, on the link that bound it before.
    expect(e.rate).toMatchObject({ bps: before.rate?.bps, reason: { rule: 'reservation.held' } });
    expect(e.rate?.reason.bindingLink).toBe(before.rate?.reason.bindingLink);
    expect(e.summary).toContain(e.now?.text);
    expect(e.summary).toMatch(/by what was heard last$/);
    expect(e.changes[0]).toMatchObject({
      rule: 'change.agent',
      text: expect.stringContaining(`fairway cancel ${ID} --forget`),
    });
    f.agentUp('hv1', HV1, '10.0.0.1', [guest()], [{ migration: ID, guest: 'g1', role: 'source' }]);
    f.pass(1000);
    expect(explained(f)).toMatchObject({
      now: null,
      rate: { reason: { rule: expect.stringMatching(/^reservation\.medium/) } },
    });
  });

  test('of a copy in post-copy: its guest runs elsewhere, and cannot be brought back by cancelling', () => {
    const f = upTo(null, 'post-copy');
    say(f, 'hv1', 'preSwitchover');
    say(f, 'hv2', 'resumed');
    away(f);
    f.pass(1000);
    expect(now(f)?.text).toMatch(/: g1 runs at hv2 already, and the copy goes on at its last pace, /);
    expect(explained(f).changes[0]?.text).not.toContain('or be cancelled');
  });

  test('of one that is to be cancelled', () => {
    const f = upTo(null);
    away(f);
    f.send({ kind: 'cancel', id: ID });
    expect(now(f)?.text).toMatch(/; it is to be cancelled when that is back$/);
  });

  test('of one whose copy has not begun: it is waited for, and for how long', () => {
    const f = upTo('prepare');
    away(f);
    expect(now(f)).toMatchObject({
      rule: 'now.agentAway',
      text: expect.stringContaining('given up when it has been away for 60.0 s'),
    });
    expect(explained(f).changes[0]?.text).toBe(
      'the agent of hv1 is away: its copy cannot begin before that is started again',
    );
  });
});

test('how it ended is said once', () => {
  const failed = upTo(null);
  say(failed, 'hv1', 'failed', 'the disk is full');
  expect(explained(failed)).toMatchObject({ now: null, summary: 'it failed: hv1: the disk is full' });
  const cancelled = upTo(null);
  say(cancelled, 'hv1', 'cancelled');
  expect(explained(cancelled).summary).toBe('it was cancelled; the guest goes on at its source');
});
