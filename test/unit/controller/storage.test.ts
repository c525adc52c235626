/** Storage modes through `controller/core`: what is ordered of whom and in which order, also when agents were away meanwhile. */
import type { Abilities, AgentCommand, AgentHello, AgentMessage, CopyOptions } from '../../../contracts/agent.ts';
import { TECHNIQUES } from '../../../contracts/common.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import { migrationView } from '../../../controller/core/views.ts';
import { type Fabric, guest, HV1, HV2, twoHypervisors } from './fabric.ts';

const QEMU: Abilities = {
  hypervisor: 'QEMU 10.0.2',
  techniques: [...TECHNIQUES],
  autoConverge: true,
  xbzrle: true,
  multifd: [],
  multifdPostcopy: false,
  holdsSwitchover: 'stopped',
  storage: ['shared', 'mirrored', 'on-demand'],
};
const ON_DEMAND: CopyOptions = { storage: 'on-demand', pullBps: 50e6 };
const OFFER = { address: '10.0.0.1', port: 49_200 };
const ID = 'm-1';

type Answer = { value?: unknown; error?: string; code?: string } | undefined;
type Answers = Partial<Record<AgentCommand['do'], () => Answer>>;
type Known = AgentHello['migrations'];

const withDisk = (state: 'running' | 'stopped' = 'running') => {
  const g = guest();
  return {
    ...g,
    state,
    spec: { ...g.spec, disks: [{ path: '/d/g1.img', sizeBytes: 2 ** 30, format: 'raw' as const }] },
  };
};

function up(f: Fabric, host: 'hv1' | 'hv2', guests = host === 'hv1' ? [withDisk()] : [], known: Known = []): void {
  const [dpid, ip] = host === 'hv1' ? [HV1, '10.0.0.1'] : [HV2, '10.0.0.2'];
  f.agentUp(host, dpid, ip, guests, known, { driver: 'qmp', techniques: [...TECHNIQUES], abilities: QEMU });
}
const down = (f: Fabric, host: string) => f.send({ kind: 'agentDown', host });

function asked(options: CopyOptions, answers: Answers = {}): Fabric {
  const f = twoHypervisors();
  up(f, 'hv1');
  up(f, 'hv2');
  f.answer = (_host, c) => {
    const own = answers[c.do];
    if (own) return own();
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 1e6 } };
    if (c.do === 'offerDisks') return { value: OFFER };
    const diskPort = options.storage === 'mirrored' ? { diskPort: 49_153 } : {};
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49_152, portName: 'tap1', ...diskPort } };
    return { value: {} };
  };
  f.pass(1000);
  f.pass(1000);
  ask(f, ID, 'hv2', options);
  return f;
}
function ask(f: Fabric, id: string, destination: string, options: CopyOptions): void {
  const moves = [{ guest: 'g1', destination }];
  const request = { moves, priority: 'high' as const, technique: 'pre-copy' as const, options };
  f.send({ kind: 'migrate', request, ids: [id], group: null });
  f.pass(250);
}
const job = (f: Fabric, id = ID) => {
  const j = f.state.jobs.get(id);
  if (!j) throw new Error(`no job ${id}`);
  return j;
};
const say = (f: Fabric, host: string, event: Extract<AgentMessage, { type: 'event' }>['event']) =>
  f.send({ kind: 'agentMessage', host, message: { type: 'event', migration: ID, event } });
const orders = (f: Fabric, ...which: AgentCommand['do'][]): string[] =>
  f.commands.filter((c) => which.includes(c.command.do)).map((c) => `${c.command.do} ${c.host}`);
const released = (f: Fabric) => orders(f, 'releaseDisks');
const drained = (f: Fabric) => {
  for (let i = 0; i < 200 && job(f).state !== 'done'; i++) f.pass(250);
  expect(job(f).state).toBe('done');
};
/** The guest has moved, and all of the migration is over but the disks. */
function moved(): Fabric {
  const f = asked(ON_DEMAND);
  for (const [host, event] of [
    ['hv1', 'preSwitchover'],
    ['hv2', 'resumed'],
    ['hv1', 'completed'],
  ] as const)
    say(f, host, event);
  drained(f);
  return f;
}
const PULLING: Known = [{ migration: ID, guest: 'g1', role: 'destination' }];

describe('on demand', () => {
  test('disks are offered, then the destination is prepared with where they are, then the copy starts', () => {
    const f = asked(ON_DEMAND);
    expect(orders(f, 'offerDisks', 'prepare', 'start')).toEqual(['offerDisks hv1', 'prepare hv2', 'start hv1']);
    const [prepare, start] = f.commands.map((c) => c.command).filter((c) => c.do === 'prepare' || c.do === 'start');
    expect(prepare).toMatchObject({ options: ON_DEMAND, disksFrom: OFFER });
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
    const restart = (from: Fabric) => {
      const entries = journalOf(from.state, from.nowMs).map((e) => JSON.parse(JSON.stringify(e)));
      const later = twoHypervisors();
      later.state = restoreJobs(later.state, entries);
      later.answer = from.answer;
      return later;
    };
    const second = restart(f);
    up(second, 'hv1', [withDisk('stopped')]);
    up(second, 'hv2', [withDisk()], PULLING);
    expect(released(second)).toEqual([]);
    down(second, 'hv1');
    say(second, 'hv2', 'disksPulled');
    const third = restart(second);
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
