/** Orders that were not followed, or whose answers were lost, while their agents stayed connected: `controller/core/orders.ts`. */
import type { AgentCommand, CopyProgress } from '../../../contracts/agent.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { type Fabric, twoHypervisors } from './fabric.ts';
import { asked, down, ID, job, moved, ON_DEMAND, orders, PULLING, say, up, withDisk } from './withDisks.ts';

const LOST = { error: 'no answer in 15000 ms', unknown: true };
const BROKEN = { error: 'the hypervisor does not answer', code: 'qmp-timeout' };
const MIRRORED = { storage: 'mirrored' } as const;

const wait = (f: Fabric, seconds: number) => {
  for (let i = 0; i < seconds; i++) f.pass(1000);
};
/** The answer to an order that was given gets lost. */
const lose = (f: Fabric, host: string, step: AgentCommand['do']) =>
  f.send({ kind: 'commandDone', host, migration: ID, step, ok: false, ...LOST });
const progress = (f: Fabric, phase: CopyProgress['phase'] = 'pre-copy', passes = 1) =>
  f.send({
    kind: 'agentMessage',
    host: 'hv1',
    message: {
      type: 'progress',
      migration: ID,
      progress: {
        ...{ phase, elapsedMs: 1000, transferredBytes: 1e6, remainingBytes: 1e8, totalBytes: 1e8 },
        ...{ passes, rateBps: 1e6, dirtyBytesPerS: 0 },
      },
    },
  });

describe('what takes down', () => {
  test.each([
    ['is lost', LOST],
    ['is refused for a cause that may pass', BROKEN],
  ])('an order to let disks go that %s is given again, ever later, until it is followed', (_what, answer) => {
    let isThere = false;
    const f = moved(ON_DEMAND, { releaseDisks: () => (isThere ? { value: {} } : answer) });
    say(f, 'hv2', 'disksPulled');
    const times = () => orders(f, 'releaseDisks').length;
    expect(times()).toBe(1);
    wait(f, 9);
    expect(times()).toBe(1);
    wait(f, 2);
    expect(times()).toBe(2);
    wait(f, 18);
    expect(times()).toBe(2);
    isThere = true;
    wait(f, 3);
    expect(times()).toBe(3);
    wait(f, 80);
    expect(times()).toBe(3);
    expect(f.state.orders.size).toBe(0);
  });

  test('one that is refused for how things are is not given again', () => {
    const f = asked(ON_DEMAND, { abandon: () => ({ error: 'the guest runs here', code: 'not-abandonable' }) });
    say(f, 'hv1', 'cancelled');
    wait(f, 30);
    expect(orders(f, 'abandon')).toEqual(['abandon hv2']);
    expect(f.state.orders.size).toBe(0);
  });

  test('the end of a migration at both of its hosts', () => {
    let isThere = false;
    const f = moved(MIRRORED, { finish: () => (isThere ? { value: {} } : BROKEN) });
    isThere = true;
    wait(f, 30);
    expect(orders(f, 'finish').slice(-2).sort()).toEqual(['finish hv1', 'finish hv2']);
    expect(f.state.orders.size).toBe(0);
  });

  test('to an agent that is away none is given, and the one that comes back is told what is left there', () => {
    const f = moved(ON_DEMAND, { releaseDisks: () => LOST });
    say(f, 'hv2', 'disksPulled');
    down(f, 'hv1');
    wait(f, 60);
    expect(orders(f, 'releaseDisks')).toHaveLength(1);
    up(f, 'hv1', [withDisk('stopped')]);
    expect(orders(f, 'releaseDisks')).toHaveLength(2);
    up(f, 'hv2', [withDisk()], PULLING);
    expect(orders(f, 'releaseDisks')).toHaveLength(2);
  });

  test('a guest that is prepared for anew is not abandoned for an earlier attempt', () => {
    let isFull = true;
    const f = asked(MIRRORED, {
      start: () => (isFull ? { error: 'two copies run', code: 'host-busy' } : { value: {} }),
      abandon: () => LOST,
    });
    expect(job(f).state).toBe('queued');
    isFull = false;
    wait(f, 5);
    expect(job(f).state).toBe('copying');
    progress(f);
    wait(f, 60);
    expect(orders(f, 'abandon')).toEqual(['abandon hv2']);
  });
});

describe('before the copy', () => {
  test.each([
    ['offerDisks', 'hv1'],
    ['prepare', 'hv2'],
  ] as const)('%s that is not answered is asked for again', (step, host) => {
    const f = asked(ON_DEMAND, { [step]: () => undefined });
    expect(orders(f, step)).toHaveLength(1);
    lose(f, host, step);
    expect(orders(f, step)).toHaveLength(2);
    expect(job(f)).toMatchObject({ state: 'preparing', awaiting: step });
    wait(f, 121);
    lose(f, host, step);
    expect(job(f)).toMatchObject({
      state: 'failed',
      note: `the agent of ${host} is connected and does not answer ${step}: ${LOST.error}`,
    });
  });

  test('a start whose answer was lost is ordered again, unless the copy has been heard of', () => {
    const silent = asked(MIRRORED, { start: () => undefined });
    lose(silent, 'hv1', 'start');
    expect(orders(silent, 'start')).toHaveLength(2);
    expect(job(silent).state).toBe('copying');

    const f = asked(MIRRORED, { start: () => undefined });
    progress(f);
    lose(f, 'hv1', 'start');
    expect(orders(f, 'start')).toHaveLength(1);
  });

  test('a start that never came and was cancelled ends as cancelled', () => {
    const f = asked(MIRRORED, {
      start: () => undefined,
      cancel: () => ({ error: `no migration ${ID}`, code: 'migration-unknown' }),
    });
    f.send({ kind: 'cancel', id: ID });
    expect(job(f)).toMatchObject({ state: 'cancelled', note: 'cancelled on request before the copy began' });
    expect(orders(f, 'start', 'abandon')).toEqual(['start hv1', 'abandon hv2']);
  });
});

describe('during the copy', () => {
  test('to cancel it, whose answer was lost', () => {
    const f = asked(MIRRORED, { cancel: () => LOST });
    progress(f);
    f.send({ kind: 'cancel', id: ID });
    wait(f, 11);
    expect(orders(f, 'cancel')).toHaveLength(2);
    say(f, 'hv1', 'cancelled');
    expect(job(f).state).toBe('cancelled');
  });

  test('to turn it into post-copy, while it has not turned', () => {
    const f = twoHypervisors();
    f.answer = (_host, c) => {
      if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 0 } };
      if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49_152, portName: 'tap1' } };
      return c.do === 'switchToPostcopy' ? BROKEN : { value: {} };
    };
    wait(f, 2);
    const moves = [{ guest: 'g1', destination: 'hv2' }];
    f.send({ kind: 'migrate', request: { moves, priority: 'low' }, ids: [ID], group: null });
    wait(f, 5);
    const turns = () => orders(f, 'switchToPostcopy').length;
    progress(f, 'pre-copy', DEFAULT_POLICY.technique.precopyPasses + 1);
    expect([turns(), job(f).technique]).toEqual([1, 'hybrid']);
    wait(f, 11);
    expect(turns()).toBe(2);
    progress(f, 'post-copy', DEFAULT_POLICY.technique.precopyPasses + 1);
    wait(f, 30);
    expect(turns()).toBe(2);
    expect(f.state.orders.size).toBe(0);
  });
});
