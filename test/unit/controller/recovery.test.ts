/** Post-copies whose stream broke, through `controller/core`: brought together again, as often as it takes; and hosts without room. */
import type { AgentCommand, AgentMessage } from '../../../contracts/agent.ts';
import type { Technique } from '../../../contracts/common.ts';
import { checkCancel } from '../../../controller/core/jobs.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import { CORE, type Fabric, GUEST_MAC, guest, HV1, HV2, twoHypervisors, UPLINK } from './fabric.ts';

const rates = {
  [`${HV1}:${UPLINK}`]: { tx: 160 },
  [`${CORE}:1`]: { rx: 160 },
};
type Answer = { value?: unknown; error?: string; code?: string };
/** What agents answer; each by what it was asked to do, else that it is done. */
type Answers = Partial<Record<AgentCommand['do'], () => Answer | undefined>>;

function obey(f: Fabric, answers: Answers = {}): void {
  let port = 49_151;
  f.answer = (_host, c) => {
    const own = answers[c.do];
    if (own) return own();
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 8e6 } };
    if (c.do === 'prepare' || c.do === 'recoverIncoming') {
      return { value: { address: '10.0.0.2', port: ++port, portName: 'tap1' } };
    }
    return { value: {} };
  };
}
function ask(f: Fabric, guests: string[] = ['g1'], technique: Technique = 'post-copy'): void {
  f.send({
    kind: 'migrate',
    request: {
      moves: guests.map((g) => ({ guest: g, destination: 'hv2' })),
      priority: 'medium',
      technique,
      strategy: 'parallel',
    },
    ids: guests.map((g) => `m-${g}`),
    group: null,
  });
}
const job = (f: Fabric, id = 'm-g1') => {
  const j = f.state.jobs.get(id);
  if (!j) throw new Error(`no job ${id}`);
  return j;
};
const sent = (f: Fabric, what: AgentCommand['do']) => f.commands.filter((c) => c.command.do === what);
const say = (f: Fabric, host: string, event: Extract<AgentMessage, { type: 'event' }>['event'], reason?: string) =>
  f.send({
    ...{ kind: 'agentMessage', host },
    message: { type: 'event', migration: 'm-g1', event, ...(reason === undefined ? {} : { reason }) },
  });
const rulesOf = (f: Fabric, id = 'm-g1') => job(f, id).reasons.map((r) => r.rule);
const pass = (f: Fabric, ms: number) => {
  for (let left = ms; left > 0; left -= 250) f.pass(Math.min(250, left), rates);
};

/** A post-copy in its middle: the guest runs at hv2. */
function inPostcopy(answers: Answers = {}): Fabric {
  const f = twoHypervisors();
  obey(f, answers);
  pass(f, 2000);
  ask(f);
  pass(f, 250);
  say(f, 'hv1', 'preSwitchover');
  say(f, 'hv1', 'postcopyStarted');
  say(f, 'hv2', 'resumed');
  pass(f, 1000);
  expect(job(f)).toMatchObject({ state: 'copying', resumed: true, flipped: true });
  return f;
}

describe('a post-copy whose stream breaks', () => {
  test('is not failed: both ends are brought together again in a widened slice, and it goes on', () => {
    const f = inPostcopy();
    const before = job(f).sliceBps;
    f.holdWrites = true;
    say(f, 'hv1', 'postcopyPaused', 'the stream broke');
    say(f, 'hv2', 'postcopyPaused', 'the stream broke');
    expect(job(f)).toMatchObject({ state: 'recovering', note: expect.stringMatching(/the stream broke/) });
    expect(sent(f, 'recoverIncoming').map((c) => c.host)).toEqual(['hv2']);
    // The new port is in the switches before anything is sent to it.
    expect(job(f).stream).toMatchObject({ destinationPort: 49_153, sourcePort: 0 });
    expect(sent(f, 'recoverOutgoing')).toEqual([]);
    f.holdWrites = false;
    for (const e of f.held.splice(0)) f.write(e);
    const [order] = sent(f, 'recoverOutgoing');
    expect(order).toMatchObject({ host: 'hv1', command: { address: '10.0.0.2', port: 49_153 } });
    expect(job(f).sliceBps).toBeGreaterThan(before);
    expect(job(f).recovery?.step).toBe('going');
    expect(() => checkCancel(f.state, 'm-g1')).toThrow(/can be moved back afterwards/);
    // Where the guest is does not change meanwhile.
    expect(f.state.topology.locations.get(GUEST_MAC)?.at.dpid).toBe(HV2);

    say(f, 'hv2', 'postcopyRecovered');
    expect(job(f).state).toBe('recovering');
    say(f, 'hv1', 'postcopyRecovered');
    expect(job(f)).toMatchObject({ state: 'copying', recovery: null, note: null, phase: 'running' });
    pass(f, 2000);
    expect(job(f).sliceBps).toBe(before);
    say(f, 'hv1', 'completed');
    expect(job(f).state).toBe('draining');
    expect(rulesOf(f)).toEqual(expect.arrayContaining(['recovery.paused', 'recovery.mended']));
    expect(sent(f, 'abandon')).toEqual([]);
  });

  test('is tried again ever less often while the path is cut, and the operator is told once', () => {
    let isCut = true;
    const f = inPostcopy({
      recoverOutgoing: () => (isCut ? { error: 'the path is cut', code: 'path-down' } : { value: {} }),
    });
    say(f, 'hv1', 'postcopyPaused', 'no byte went through');
    const at: number[] = [];
    const startMs = f.nowMs;
    for (let seen = 0; f.nowMs < startMs + 90_000; ) {
      const now = sent(f, 'recoverIncoming').length;
      if (now > seen) at.push(f.nowMs - startMs);
      seen = now;
      f.pass(250, rates);
    }
    const gaps = at.slice(1).map((ms, i) => ms - (at[i] ?? 0));
    expect(gaps.slice(0, 5)).toEqual([500, 1000, 2000, 4000, 8000]);
    expect(Math.max(...gaps)).toBe(8000);
    expect(job(f)).toMatchObject({ state: 'recovering', note: expect.stringMatching(/the path is cut/) });
    expect(rulesOf(f).filter((r) => r === 'recovery.long')).toHaveLength(1);
    isCut = false;
    pass(f, 8500);
    expect(job(f).recovery?.step).toBe('going');
    say(f, 'hv1', 'postcopyRecovered');
    say(f, 'hv1', 'completed');
    pass(f, 40_000);
    expect(job(f).state).toBe('done');
    expect(f.effects.filter((e) => e.kind === 'log' && e.event === 'job.interrupted-long')).toHaveLength(1);
  });

  test('an attempt that breaks, or of which nothing is heard, is followed by another', () => {
    const f = inPostcopy();
    say(f, 'hv2', 'postcopyPaused', 'the stream broke');
    expect(job(f).recovery).toMatchObject({ step: 'going', attempt: 1 });
    say(f, 'hv1', 'postcopyPaused', 'could not be taken up');
    expect(job(f).recovery).toMatchObject({ step: 'wait', attempt: 1 });
    pass(f, 750);
    expect(job(f).recovery).toMatchObject({ step: 'going', attempt: 2 });
    pass(f, 20_250);
    expect(rulesOf(f).filter((r) => r === 'recovery.again')).toHaveLength(2);
    pass(f, 1250);
    expect(job(f).recovery).toMatchObject({ step: 'going', attempt: 3 });
  });

  test('waits for agents that are away, and for the first word of one that comes back', () => {
    const f = inPostcopy({ recoverIncoming: () => undefined });
    f.send({ kind: 'agentDown', host: 'hv2' });
    say(f, 'hv1', 'postcopyPaused', 'the stream broke');
    pass(f, 5000);
    expect(sent(f, 'recoverIncoming')).toEqual([]);
    expect(job(f).note).toMatch(/hv2 is away/);
    const mine = [{ migration: 'm-g1', guest: 'g1', role: 'destination' as const }];
    f.agentUp('hv2', HV2, '10.0.0.2', [guest()], mine);
    pass(f, 250);
    expect(sent(f, 'recoverIncoming')).toHaveLength(1);
    // It is lost before it answers: it is asked anew when it is back.
    f.send({ kind: 'agentDown', host: 'hv2' });
    f.agentUp('hv2', HV2, '10.0.0.2', [guest()], mine);
    pass(f, 250);
    expect(sent(f, 'recoverIncoming')).toHaveLength(2);
    expect(job(f).state).toBe('recovering');
  });

  test('is lost when one half of the memory is: failed, with what to do, and nothing is run or thrown away', () => {
    const f = inPostcopy({ recoverIncoming: () => ({ error: 'guest g1 has no machine on hv2', code: 'guest-gone' }) });
    say(f, 'hv1', 'postcopyPaused', 'the stream broke');
    expect(job(f)).toMatchObject({ state: 'failed', note: expect.stringMatching(/two halves.*start g1 anew/) });
    expect(sent(f, 'abandon')).toEqual([]);
    expect(sent(f, 'finish')).toEqual([]);
  });

  test('is taken up by a controller that was restarted meanwhile', () => {
    const f = inPostcopy({ recoverOutgoing: () => undefined });
    say(f, 'hv1', 'postcopyPaused', 'the stream broke');
    expect(job(f).recovery?.step).toBe('order');
    const entries = journalOf(f.state, f.nowMs).map((e) => JSON.parse(JSON.stringify(e)) as Record<string, unknown>);
    const later = twoHypervisors();
    obey(later);
    later.nowMs = f.nowMs + 5000;
    later.state = restoreJobs(later.state, entries);
    const mine = (role: 'source' | 'destination') => [{ migration: 'm-g1', guest: 'g1', role }];
    later.agentUp('hv1', HV1, '10.0.0.1', [], mine('source'));
    later.agentUp('hv2', HV2, '10.0.0.2', [guest()], mine('destination'));
    say(later, 'hv1', 'postcopyPaused', 'the stream broke');
    pass(later, 1250);
    expect(job(later).recovery?.step).toBe('going');
    expect(sent(later, 'recoverOutgoing').length).toBeGreaterThan(0);
    say(later, 'hv1', 'postcopyRecovered');
    expect(job(later).state).toBe('copying');
  });

  test('what an agent tells again after a reconnect breaks nothing off', () => {
    const f = inPostcopy();
    say(f, 'hv1', 'postcopyRecovered');
    expect(job(f)).toMatchObject({ state: 'copying', recovery: null });
    say(f, 'hv1', 'completed');
    say(f, 'hv2', 'postcopyPaused', 'long ago');
    expect(job(f).state).toBe('draining');
    expect(sent(f, 'recoverIncoming')).toEqual([]);
  });
});

describe('a host that has no room', () => {
  const BUSY = { error: 'hv2 already receives as many as its limit allows (1: x of y)', code: 'host-busy' };
  const others = [guest(), guest('g2', '52:54:00:00:00:0a', 'tap2')];

  test('queues the migration with its words, which is tried again after a while and then goes', () => {
    let busy = true;
    const f = twoHypervisors();
    obey(f, { prepare: () => (busy ? BUSY : { value: { address: '10.0.0.2', port: 49_160, portName: 'tap1' } }) });
    pass(f, 2000);
    ask(f, ['g1'], 'pre-copy');
    pass(f, 250);
    expect(job(f)).toMatchObject({ state: 'queued', note: `hv2 has no room: ${BUSY.error}` });
    expect(rulesOf(f)).toContain('admission.hostBusy');
    expect(sent(f, 'prepare')).toHaveLength(1);
    pass(f, 2000);
    expect(sent(f, 'prepare')).toHaveLength(1);
    busy = false;
    pass(f, 1500);
    expect(job(f)).toMatchObject({ state: 'copying', busyUntilMs: null });
  });

  test('of the source: what the destination has prepared is taken back', () => {
    const f = twoHypervisors();
    obey(f, { start: () => ({ ...BUSY, error: 'hv1 sends enough' }) });
    pass(f, 2000);
    ask(f, ['g1'], 'pre-copy');
    pass(f, 250);
    expect(job(f)).toMatchObject({ state: 'queued', destination: null, note: 'hv1 has no room: hv1 sends enough' });
    expect(sent(f, 'abandon').map((c) => c.host)).toEqual(['hv2']);
  });

  test('gets the next one as soon as one of its own has ended', () => {
    const refused = new Set<string>();
    const f = twoHypervisors();
    obey(f, {
      prepare: () => {
        const g2 = f.commands.filter((c) => c.command.do === 'prepare' && c.migration === 'm-g2').length;
        if (g2 === 1 && !refused.has('m-g2')) {
          refused.add('m-g2');
          return BUSY;
        }
        return { value: { address: '10.0.0.2', port: 49_152 + f.commands.length, portName: 'tap1' } };
      },
    });
    f.agentUp('hv1', HV1, '10.0.0.1', others);
    pass(f, 2000);
    ask(f, ['g1', 'g2'], 'pre-copy');
    pass(f, 250);
    expect([job(f).state, job(f, 'm-g2').state]).toEqual(['copying', 'queued']);
    say(f, 'hv1', 'completed');
    f.pass(10, rates);
    expect(sent(f, 'prepare').filter((c) => c.migration === 'm-g2')).toHaveLength(2);
  });

  test('is not asked at all when it said its limit: the migration waits behind those that fill it', () => {
    const f = twoHypervisors();
    obey(f);
    f.agentUp('hv1', HV1, '10.0.0.1', others, [], { limits: { outgoing: 1 } });
    pass(f, 2000);
    ask(f, ['g1', 'g2'], 'pre-copy');
    pass(f, 250);
    expect(job(f, 'm-g2')).toMatchObject({
      state: 'queued',
      behind: ['m-g1'],
      note: expect.stringMatching(/agent's limits/),
    });
    expect(sent(f, 'prepare')).toHaveLength(1);
  });
});
