/** Migrations whose source's agent is away: cancelled when it is back, or given up; and what becomes of them when it is back after all. */
import type { AgentCommand, AgentMessage, CopyProgress } from '../../../contracts/agent.ts';
import type { Technique } from '../../../contracts/common.ts';
import { FEATURE, parseCookie } from '../../../controller/core/cookies.ts';
import { checkCancel, checkRequest } from '../../../controller/core/jobs.ts';
import { cancelNote, checkForget } from '../../../controller/core/lost.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import { type Fabric, GUEST_MAC, guest, HV1, HV2, twoHypervisors } from './fabric.ts';

const ID = 'm-1';
const progress = (phase: CopyProgress['phase']): CopyProgress => ({
  ...{ phase, transferredBytes: 60e6, remainingBytes: 40e6, totalBytes: 100e6, passes: 1, elapsedMs: 4000 },
  ...{ rateBps: 90e6, dirtyBytesPerS: 1e6 },
});
const source = (phase: CopyProgress['phase']) => [
  { migration: ID, guest: 'g1', role: 'source' as const, progress: progress(phase) },
];
const destination = [{ migration: ID, guest: 'g1', role: 'destination' as const }];
const job = (f: Fabric) => {
  const found = f.state.jobs.get(ID);
  if (!found) throw new Error(`no job ${ID}`);
  return found;
};
const sent = (f: Fabric, what: AgentCommand['do']) =>
  f.commands.filter((c) => c.command.do === what).map((c) => c.host);
const say = (f: Fabric, host: string, event: Extract<AgentMessage, { type: 'event' }>['event']) =>
  f.send({ kind: 'agentMessage', host, message: { type: 'event', migration: ID, event } });
const away = (f: Fabric, host = 'hv1') => f.send({ kind: 'agentDown', host });
const forget = (f: Fabric) => {
  checkForget(f.state, ID);
  f.send({ kind: 'forget', id: ID });
};
const isGuest = (state: 'running' | 'incoming') => ({ ...guest(), state });
const back = (f: Fabric, phase: CopyProgress['phase']) => f.agentUp('hv1', HV1, '10.0.0.1', [guest()], source(phase));
const flowsLeft = (f: Fabric) =>
  [...f.switches.values()].flatMap((s) =>
    s.tables
      .flows()
      .map((x) => parseCookie(x.cookie)?.feature)
      .filter((x) => x === FEATURE.stream || x === FEATURE.answer || x === FEATURE.moved),
  );

/** A copy of g1 from hv1 to hv2 that runs. */
function copying(technique: Technique = 'pre-copy'): Fabric {
  const f = twoHypervisors();
  f.answer = (host, c) => {
    // Who is away does not answer.
    if (!f.state.agents.get(host)?.connected) return undefined;
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 1e6 } };
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49_152, portName: 'tap1' } };
    return { value: {} };
  };
  for (let i = 0; i < 3; i++) f.pass(1000);
  const moves = [{ guest: 'g1', destination: 'hv2' }];
  f.send({
    kind: 'migrate',
    request: { moves, priority: 'medium', technique, strategy: 'parallel' },
    ids: [ID],
    group: null,
  });
  for (let i = 0; i < 3; i++) f.pass(1000);
  f.send({ kind: 'agentMessage', host: 'hv2', message: { type: 'guests', guests: [isGuest('incoming')] } });
  f.send({
    ...{ kind: 'agentMessage', host: 'hv1' },
    message: { type: 'progress', migration: ID, progress: progress('pre-copy') },
  });
  expect(job(f).state).toBe('copying');
  expect(flowsLeft(f)).not.toEqual([]);
  return f;
}

function inPostcopy(): Fabric {
  const f = copying('post-copy');
  say(f, 'hv1', 'preSwitchover');
  say(f, 'hv1', 'postcopyStarted');
  say(f, 'hv2', 'resumed');
  f.send({ kind: 'agentMessage', host: 'hv2', message: { type: 'guests', guests: [isGuest('running')] } });
  expect(job(f)).toMatchObject({ state: 'copying', resumed: true });
  return f;
}

describe('cancelling while the agent of the source is away', () => {
  test('says what is known and what can be done, and is done when the agent is back', () => {
    const f = copying();
    expect(cancelNote(f.state, ID, f.nowMs)).toBeNull();
    away(f);
    f.pass(35_000);
    checkCancel(f.state, ID);
    expect(cancelNote(f.state, ID, f.nowMs)).toMatch(
      /agent of hv1 has been away for 35(\.0)? s.*hv1 may be down.*when the agent is back.*fairway cancel m-1 --forget/,
    );
    f.send({ kind: 'cancel', id: ID });
    expect(job(f)).toMatchObject({ state: 'copying', note: 'to be cancelled when the agent of hv1 is back' });
    expect(sent(f, 'cancel')).toEqual(['hv1']);
    back(f, 'pre-copy');
    expect(sent(f, 'cancel')).toEqual(['hv1', 'hv1']);
    say(f, 'hv1', 'cancelled');
    expect(job(f).state).toBe('cancelled');
  });

  test('a copy whose start was lost is not begun anew', () => {
    const f = copying();
    f.state = {
      ...f.state,
      jobs: new Map([[ID, { ...job(f), awaiting: 'start' }]]),
    };
    away(f);
    f.send({ kind: 'cancel', id: ID });
    const starts = sent(f, 'start').length;
    f.agentUp('hv1', HV1, '10.0.0.1', [guest()]);
    f.pass(1000);
    expect(job(f).state).toBe('cancelled');
    expect(sent(f, 'start')).toHaveLength(starts);
  });

  test('is refused in an interrupted post-copy, also before the destination has said that the guest runs', () => {
    const f = copying('post-copy');
    say(f, 'hv1', 'postcopyPaused');
    expect(job(f)).toMatchObject({ state: 'recovering', resumed: false });
    expect(() => checkCancel(f.state, ID)).toThrow(/already switching over/);
  });
});

describe('giving a migration up', () => {
  test('is refused while the agents that end it are there, and for what has ended or is unknown', () => {
    const f = copying();
    expect(() => checkForget(f.state, ID)).toThrow(/are connected: cancel it instead/);
    away(f, 'hv2');
    expect(() => checkForget(f.state, ID)).toThrow(/are connected: cancel it instead/);
    expect(() => checkForget(f.state, 'm-9')).toThrow(/no migration m-9/);
    away(f);
    forget(f);
    expect(() => checkForget(f.state, ID)).toThrow(/has ended: lost/);
    expect(() => checkCancel(f.state, ID)).toThrow(/has ended: lost/);
  });

  test('ends its record as lost, with what is known and what is not; slice, flows and the waiting machine go', () => {
    const f = copying();
    away(f);
    f.pass(35_000);
    expect(job(f).state).toBe('copying');
    forget(f);
    f.pass(1000);
    const { state, note } = job(f);
    expect(state).toBe('lost');
    expect(note).toMatch(
      /away for 35(\.0)? s\. g1 ran at hv1 when it was last heard of, and 60 % of the copy was made/,
    );
    expect(note).toMatch(
      /whether it runs there now is not known.*Start g1 nowhere before you know that hv1 does not run it/,
    );
    expect(sent(f, 'abandon')).toEqual(['hv2']);
    expect(f.state.shares.size).toBe(0);
    expect(f.state.paces.size + f.state.holds.size).toBe(0);
    expect([...f.qos.values()].filter((q) => q !== null)).toEqual([]);
    expect(flowsLeft(f)).toEqual([]);
    // Nobody moves it while its host is away, so that it cannot be started twice from here.
    const moves = [{ guest: 'g1', destination: 'hv2' }];
    expect(() => checkRequest(f.state, { moves, priority: 'low' })).toThrow(/agent of hv1 is not connected/);
    // A controller that starts anew knows of it.
    const entries = journalOf(f.state, f.nowMs).map((e) => JSON.parse(JSON.stringify(e)) as Record<string, unknown>);
    expect(restoreJobs(twoHypervisors().state, entries).jobs.get(ID)).toMatchObject({ state: 'lost', note });
  });

  test('of one whose copy has not begun is to cancel it', () => {
    const f = copying();
    f.state = { ...f.state, jobs: new Map([[ID, { ...job(f), state: 'preparing' as const }]]) };
    away(f);
    forget(f);
    expect(job(f).state).toBe('cancelled');
  });

  test('the copy that still runs is cancelled when its agent is back, and the guest is where it was', () => {
    const f = copying();
    away(f);
    forget(f);
    back(f, 'pre-copy');
    expect(sent(f, 'cancel')).toEqual(['hv1']);
    expect(job(f)).toMatchObject({ state: 'lost', note: expect.stringMatching(/cancelled, and g1 runs at hv1/) });
    say(f, 'hv1', 'cancelled');
    expect(sent(f, 'finish')).toEqual(['hv1']);
    expect(f.state.topology.locations.get(GUEST_MAC)?.at.dpid).toBe(HV1);
    checkRequest(f.state, { moves: [{ guest: 'g1', destination: 'hv2' }], priority: 'low' });
  });

  test('a complete copy: its machine is kept until the guest is known to run at the destination', () => {
    const f = copying();
    away(f);
    away(f, 'hv2');
    forget(f);
    expect(job(f).note).toMatch(/nor is it known of hv2, whose agent is away too/);
    f.agentUp('hv1', HV1, '10.0.0.1', [], source('completed'));
    say(f, 'hv1', 'completed');
    expect(sent(f, 'finish')).toEqual([]);
    expect(job(f).note).toMatch(/machine at hv1 stands stopped and is kept/);
    expect(f.effects.filter((e) => e.kind === 'log' && e.event === 'job.lostComplete')).toHaveLength(1);
    const abandons = sent(f, 'abandon').length;
    f.agentUp('hv2', HV2, '10.0.0.2', [isGuest('running')], destination);
    expect(new Set(sent(f, 'finish'))).toEqual(new Set(['hv1', 'hv2']));
    expect(sent(f, 'abandon')).toHaveLength(abandons);
    expect(job(f)).toMatchObject({ state: 'lost', note: 'g1 runs at hv2 after all' });
    expect(f.state.topology.locations.get(GUEST_MAC)?.at.dpid).toBe(HV2);
  });

  test('the guest that came all the same, and is heard of first, is where traffic goes', () => {
    const f = copying();
    away(f);
    forget(f);
    f.send({ kind: 'agentMessage', host: 'hv2', message: { type: 'guests', guests: [isGuest('running')] } });
    say(f, 'hv2', 'resumed');
    expect(job(f)).toMatchObject({ state: 'lost', resumed: true, note: 'g1 runs at hv2 after all' });
    expect(f.state.topology.locations.get(GUEST_MAC)?.at.dpid).toBe(HV2);
    // A pre-copy's guest runs when all of its memory is there: its destination has nothing to remember.
    expect(sent(f, 'finish')).toEqual(['hv2']);
    f.agentUp('hv2', HV2, '10.0.0.2', [isGuest('running')], destination);
    expect(sent(f, 'finish')).toEqual(['hv2', 'hv2']);
    f.agentUp('hv1', HV1, '10.0.0.1', [], source('completed'));
    expect(sent(f, 'finish')).toContain('hv1');
  });

  test('in post-copy: the guest at the destination stays, and the migration goes on when the source is back', () => {
    const f = inPostcopy();
    away(f);
    forget(f);
    f.pass(1000);
    expect(job(f)).toMatchObject({ state: 'lost', note: expect.stringMatching(/g1 ran at hv2.*memory came from hv1/) });
    expect(sent(f, 'abandon')).toEqual([]);
    expect(f.state.topology.locations.get(GUEST_MAC)?.at.dpid).toBe(HV2);
    f.agentUp('hv1', HV1, '10.0.0.1', [], source('post-copy'));
    expect(job(f)).toMatchObject({ state: 'copying', note: null, endedAtMs: null });
    expect(job(f).reasons.map((r) => r.rule)).toContain('recovery.found');
    f.pass(1000);
    expect(job(f).sliceBps).toBeGreaterThan(0);
    expect(flowsLeft(f)).not.toEqual([]);
    say(f, 'hv1', 'postcopyPaused');
    expect(job(f).state).toBe('recovering');
    say(f, 'hv1', 'postcopyRecovered');
    say(f, 'hv1', 'completed');
    for (let i = 0; i < 60 && job(f).state !== 'done'; i++) f.pass(1000);
    expect(job(f).state).toBe('done');
    expect(flowsLeft(f)).toEqual([]);
  });

  test('an interrupted post-copy whose destination does not come back can be given up', () => {
    const f = inPostcopy();
    say(f, 'hv1', 'postcopyPaused');
    expect(() => checkForget(f.state, ID)).toThrow(/go on with it by themselves/);
    away(f, 'hv2');
    f.pass(1000);
    forget(f);
    expect(job(f)).toMatchObject({
      state: 'lost',
      recovery: null,
      note: expect.stringMatching(/the agent of hv2 has been away/),
    });
    expect(f.state.shares.size).toBe(0);
    expect(sent(f, 'abandon')).toEqual([]);
  });
});
