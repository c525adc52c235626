/** Disks on the move, without I/O: how a slice is divided, what is refused, and the source's machine with a mirror. */
import { startSource, stepSource } from '../../../agent/core/source.ts';
import type { SourceAction, SourceState } from '../../../agent/core/sourceState.ts';
import { checkStorage, disksAt, receivedBytes, splitPace, sumJobs } from '../../../agent/core/storage.ts';
import { type AgentCommandOf, guestSpecSchema } from '../../../contracts/agent.ts';

const spec = guestSpecSchema.parse({
  name: 'vm1',
  mac: '52:54:00:00:00:01',
  memoryMiB: 64,
  disks: [{ path: '/a/b/vm1.img', sizeBytes: 1 << 20 }],
});

test('a slice is divided by what the guest writes, never all of it to one', () => {
  expect(splitPace(100e6, 0)).toEqual({ memoryBps: 90e6, diskBps: 10e6 });
  expect(splitPace(100e6, 20e6)).toEqual({ memoryBps: 75e6, diskBps: 25e6 });
  expect(splitPace(100e6, 500e6)).toEqual({ memoryBps: 50e6, diskBps: 50e6 });
});

test('a guest with disks needs a word about them, and one without must not have it', () => {
  expect(() => checkStorage(spec, undefined)).toThrow(/say what becomes of it/);
  expect(() => checkStorage({ ...spec, disks: [] }, 'shared')).toThrow(/has no disks/);
  expect(() => checkStorage(spec, 'mirrored')).not.toThrow();
});

test('disks keep place and format when shared, and go to the folder of the host they come to', () => {
  expect(disksAt(spec, 'shared', '/d')).toEqual(spec.disks);
  expect(disksAt(spec, 'mirrored', '/d/')).toMatchObject([{ path: '/d/vm1.img', format: 'raw' }]);
  expect(disksAt(spec, 'on-demand', undefined)).toMatchObject([{ path: '/a/b/vm1.img', format: 'qcow2' }]);
});

test('jobs of several disks are one: ready when all are, failed when one is', () => {
  const job = (id: string, status: string, done: number, error?: string) => ({
    ...{ id, status, 'current-progress': done, 'total-progress': 10 },
    ...(error === undefined ? {} : { error }),
  });
  const ids = ['a', 'b'];
  expect(sumJobs([], ids)).toBeUndefined();
  expect(sumJobs([job('a', 'ready', 10)], ids)?.status).toBe('copying');
  expect(sumJobs([job('a', 'ready', 10), job('b', 'running', 3)], ids)).toEqual({
    status: 'copying',
    done: { transferredBytes: 13, totalBytes: 20, remainingBytes: 7 },
  });
  expect(sumJobs([job('a', 'ready', 10), job('b', 'ready', 10)], ids)?.status).toBe('ready');
  expect(sumJobs([job('a', 'concluded', 10), job('b', 'concluded', 3, 'No space left')], ids)).toMatchObject({
    status: 'failed',
    error: 'No space left',
  });
});

test('bytes that the kernel counted are summed over connections', () => {
  expect(receivedBytes('ESTAB 0 0 a b\n\t bytes_sent:9 bytes_received:227 x\n\t bytes_received:3\n')).toBe(230);
});

describe('a source with a mirrored disk', () => {
  const command: AgentCommandOf<'start'> = {
    ...{ do: 'start', migration: 'm1', guest: 'vm1', technique: 'pre-copy', address: '192.0.2.2', port: 5000 },
    ...{ bandwidthBps: 80e6, downtimeLimitMs: 300, hybridPasses: 2, pauseBeforeSwitchover: false, diskPort: 5001 },
  };
  const done = (transferredBytes: number, totalBytes: number) => ({
    transferredBytes,
    totalBytes,
    remainingBytes: totalBytes - transferredBytes,
  });
  let state: SourceState;
  const feed = (e: Parameters<typeof stepSource>[1], nowMs: number): SourceAction[] => {
    const result = stepSource(state, e, nowMs);
    state = result.state;
    return result.actions;
  };
  beforeEach(() => {
    const first = startSource(command, 0);
    expect(first.actions).toMatchObject([{ do: 'setCapabilities', capabilities: { 'pause-before-switchover': true } }]);
    state = first.state;
    feed({ type: 'reply', to: 'capabilities' }, 0);
    expect(feed({ type: 'reply', to: 'parameters' }, 0)).toEqual([
      { do: 'mirrorDisks', address: '192.0.2.2', port: 5001, diskBps: 80e6 },
    ]);
  });
  const catchUp = () => {
    feed({ type: 'disks', disks: { status: 'copying', done: done(10, 1000) } }, 100);
    return feed({ type: 'disks', disks: { status: 'ready', done: done(1000, 1000) } }, 5000);
  };

  test('copies memory only when the mirror has caught up, and both inside the slice', () => {
    expect(feed({ type: 'disks', disks: { status: 'copying', done: done(10, 1000) } }, 100)).toMatchObject([
      { do: 'progress', progress: { phase: 'setup', elapsedMs: 100, disk: { remainingBytes: 990 } } },
    ]);
    const actions = feed({ type: 'disks', disks: { status: 'ready', done: done(1000, 1000) } }, 5000);
    expect(actions.filter((a) => a.do !== 'progress')).toMatchObject([
      { do: 'setParameters', parameters: { 'max-bandwidth': 9e6 } },
      { do: 'paceDisks', diskBps: 8e6 },
      { do: 'migrate', address: '192.0.2.2', port: 5000 },
    ]);
  });

  test('ends the mirror while the guest stands still, and only then goes on or tells of it', () => {
    catchUp();
    feed({ type: 'reply', to: 'migrate' }, 5000);
    expect(feed({ type: 'status', info: { status: 'pre-switchover' } }, 6000)).toEqual([
      { do: 'drainDisks', diskBps: 80e6 },
    ]);
    expect(feed({ type: 'status', info: { status: 'pre-switchover' } }, 6001)).toEqual([]);
    expect(feed({ type: 'reply', to: 'drainDisks' }, 6100)).toMatchObject([
      { do: 'setParameters', parameters: { 'max-bandwidth': 10e6 } },
      { do: 'continue' },
    ]);
    // The mirror's own end is nothing to worry about.
    expect(feed({ type: 'disks', disks: { status: 'ended', done: done(1, 1) } }, 6200)).toEqual([]);
  });

  test('a mirror that has ended has nothing left, whatever it said last', () => {
    catchUp();
    feed({ type: 'reply', to: 'migrate' }, 5000);
    feed({ type: 'disks', disks: { status: 'ready', done: done(1000, 1200) } }, 5500);
    feed({ type: 'status', info: { status: 'pre-switchover' } }, 6000);
    feed({ type: 'reply', to: 'drainDisks' }, 6100);
    const ram = { transferred: 5, remaining: 0, total: 5 };
    const told = feed({ type: 'status', info: { status: 'completed', ram } }, 6300);
    expect(told.at(-1)).toMatchObject({
      do: 'event',
      message: { event: 'completed', progress: { disk: { remainingBytes: 0, transferredBytes: 1200 } } },
    });
  });

  test('fails, with the guest where it is, when the mirror breaks: before memory at once, later by cancelling', () => {
    const broken = { type: 'disks', disks: { status: 'failed', error: 'No space left', done: done(1, 2) } } as const;
    const before = state;
    expect(feed(broken, 100)).toMatchObject([{ do: 'dropDisks' }, { do: 'event', message: { event: 'failed' } }]);
    state = before;
    catchUp();
    feed({ type: 'reply', to: 'migrate' }, 5000);
    expect(feed(broken, 5100)).toEqual([{ do: 'cancel' }]);
    const ram = { transferred: 1, remaining: 1, total: 2 };
    expect(feed({ type: 'status', info: { status: 'cancelled', ram } }, 5200)).toMatchObject([
      { do: 'dropDisks' },
      { do: 'event', message: { event: 'failed', reason: 'No space left' } },
    ]);
  });

  test('is cancelled while only its disks are copied', () => {
    expect(feed({ type: 'cancel' }, 100)).toMatchObject([
      { do: 'dropDisks' },
      { do: 'event', message: { event: 'cancelled' } },
    ]);
  });

  test('is only watched and paced where the hypervisor mirrors by itself', () => {
    state = startSource(command, 0, 'hypervisor').state;
    for (const to of ['capabilities', 'parameters'] as const) feed({ type: 'reply', to }, 0);
    // Even that it broke: what becomes of it the hypervisor says.
    expect(feed({ type: 'disks', disks: { status: 'failed', done: done(10, 1000) } }, 100)).toMatchObject([
      { do: 'progress' },
    ]);
    const begun = feed({ type: 'disks', disks: { status: 'ready', done: done(1000, 1000) } }, 5000);
    expect(begun.map((a) => a.do)).toEqual(['progress', 'setParameters', 'paceDisks', 'migrate']);
    feed({ type: 'reply', to: 'migrate' }, 5000);
    feed({ type: 'status', info: { status: 'active' } }, 5100);
    // Nothing to drain: it switches over by itself, or is held while the mirror goes on.
    expect(feed({ type: 'status', info: { status: 'pre-switchover' } }, 6000)).toMatchObject([
      { do: 'event', message: { event: 'preSwitchover' } },
    ]);
    expect(state.mirror?.isOn).toBe(true);
    // Ended, it leaves all to memory.
    expect(feed({ type: 'disks', disks: { status: 'ended', done: done(1000, 1000) } }, 6100)).toMatchObject([
      { do: 'setParameters', parameters: { 'max-bandwidth': 10e6 } },
    ]);
    expect(state.mirror?.isOn).toBe(false);
    expect(feed({ type: 'setBandwidth', bandwidthBps: 40e6 }, 6200)).toMatchObject([
      { do: 'setParameters', parameters: { 'max-bandwidth': 5e6 } },
    ]);
  });
});
