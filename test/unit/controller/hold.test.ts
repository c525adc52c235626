/** A source whose agent is away goes on at its last pace: what that takes stays its own, until it is known that it takes it no more. */
import { cookieFor, FEATURE } from '../../../controller/core/cookies.ts';
import { PAYLOAD_SHARE } from '../../../controller/core/reserve.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import { CORE, type Fabric, GUEST_MAC, guest, HV1, HV2, LOCAL, twoHypervisors } from './fabric.ts';
import { Star } from './group.ts';

const LINK = `${HV1}:1`;
const MBIT = 1e6;
const guests = () => [guest(), guest('g2', '52:54:00:00:00:0a', 'tap2')];

/** The workload of hv1's uplink, Mbit/s, and whether the stream of the migration is seen meanwhile. */
function pass(f: Fabric, ms: number, mbps: number, isStreaming = true): void {
  if (isStreaming)
    f.inject(HV1, LOCAL, {
      eth_src: '0e:00:00:00:00:01',
      eth_dst: '0e:00:00:00:00:02',
      eth_type: 0x0800,
      ip_proto: 6,
      ip_dscp: 0,
      ipv4_src: '10.0.0.1',
      ipv4_dst: '10.0.0.2',
      tcp_src: 40_000,
      tcp_dst: 49_152,
    });
  f.pass(ms, { [LINK]: { tx: mbps }, [`${CORE}:1`]: { rx: mbps } });
}

/** A pre-copy of medium priority beside a light workload: a slice of 100 Mbit/s. */
function copying(f = twoHypervisors()): Fabric {
  f.agentUp('hv1', HV1, '10.0.0.1', guests());
  f.answer = (_host, c) => {
    if (c.do === 'measureDirtyRate') return { value: { dirtyBytesPerS: 1e6 } };
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49_152, portName: 'tap1' } };
    return { value: {} };
  };
  for (let i = 0; i < 3; i++) pass(f, 1000, 40, false);
  ask(f, 'g1', 'm-1');
  for (let i = 0; i < 8; i++) pass(f, 1000, 40);
  expect(job(f)).toMatchObject({ state: 'copying', sliceBps: 100 * MBIT });
  return f;
}

function ask(f: Fabric, name: string, id: string, priority: 'medium' | 'low' = 'medium'): void {
  const moves = [{ guest: name, destination: 'hv2' }];
  f.send({
    kind: 'migrate',
    request: { moves, priority, technique: 'pre-copy', strategy: 'parallel' },
    ids: [id],
    group: null,
  });
}
const job = (f: Fabric, id = 'm-1') => {
  const found = f.state.jobs.get(id);
  if (!found) throw new Error(`no job ${id}`);
  return found;
};
const away = (f: Fabric) => f.send({ kind: 'agentDown', host: 'hv1' });
const back = (f: Fabric, isCopying = true) =>
  f.agentUp('hv1', HV1, '10.0.0.1', guests(), isCopying ? [{ migration: 'm-1', guest: 'g1', role: 'source' }] : []);
const reserved = (f: Fabric, id = 'm-1') => f.state.shares.get(LINK)?.byMigration.get(id);
const orders = (f: Fabric) =>
  f.commands.flatMap(({ command: c }) => (c.do === 'setBandwidth' ? [c.bandwidthBps / PAYLOAD_SHARE] : []));
const rules = (f: Fabric) => f.state.decisions.map((d) => d.reason.rule);

test('the slice of a source that cannot be told stays, whatever the workload wants, and is adjusted when it is back', () => {
  const f = copying();
  away(f);
  const told = orders(f).length;
  for (let i = 0; i < 5; i++) pass(f, 1000, 160);
  expect(job(f)).toMatchObject({ state: 'copying', sliceBps: 100 * MBIT });
  expect(reserved(f)).toBe(100 * MBIT);
  expect(rules(f)).toContain('reservation.held');
  expect(orders(f)).toHaveLength(told);
  back(f);
  // The ceiling is 140 Mbit/s, and the workload wants all.
  expect(job(f).sliceBps).toBeCloseTo(60 * MBIT, -1);
  expect(orders(f).at(-1)).toBeCloseTo(60 * MBIT, -1);
  expect(rules(f)).toContain('reservation.heldNoMore');
});

test('when nothing of its stream was counted for long enough its links are free; seen again, it is held again', () => {
  const f = copying();
  away(f);
  for (let i = 0; i < 3; i++) pass(f, 1000, 40);
  for (let i = 0; i < 9; i++) pass(f, 1000, 40, false);
  expect(reserved(f)).toBe(100 * MBIT);
  for (let i = 0; i < 2; i++) pass(f, 1000, 40, false);
  expect(reserved(f)).toBeUndefined();
  expect(job(f)).toMatchObject({ state: 'copying', sliceBps: 0, isReleased: true });
  expect(job(f).sliceSteps.at(-1)?.reason).toMatchObject({
    rule: 'reservation.released',
    text: expect.stringMatching(/^100\.0 Mbit\/s free again .* nothing of its stream was counted for 10\.0 s/),
  });
  pass(f, 1000, 40);
  expect(reserved(f)).toBe(100 * MBIT);
  expect(job(f).isReleased).toBe(false);
});

test('a migration that is released keeps nobody waiting, and its end is its agent’s to tell', () => {
  const f = copying();
  away(f);
  for (let i = 0; i < 12; i++) pass(f, 1000, 150, false);
  expect(job(f).isReleased).toBe(true);
  back(f, false);
  expect(job(f)).toMatchObject({ state: 'failed', note: expect.stringMatching(/knows nothing/) });
  ask(f, 'g2', 'm-2', 'low');
  for (let i = 0; i < 3; i++) pass(f, 1000, 150, false);
  expect(job(f, 'm-2').state).toBe('copying');
  expect(f.state.paces.has('m-1') || f.state.holds.size > 0).toBe(false);
});

test('a guest that runs at its destination with nothing left behind holds nothing', () => {
  const f = copying();
  away(f);
  pass(f, 1000, 40);
  expect(reserved(f)).toBe(100 * MBIT);
  f.send({ kind: 'agentMessage', host: 'hv2', message: { type: 'event', migration: 'm-1', event: 'resumed' } });
  pass(f, 1000, 40);
  expect(reserved(f)).toBeUndefined();
  expect(rules(f)).toContain('reservation.released');
});

test('where no switch can be read it is held for holdMs', () => {
  const f = copying();
  away(f);
  for (const dpid of [HV1, HV2, CORE]) f.disconnect(dpid);
  const { holdMs } = f.state.policy.doc.reservation;
  pass(f, holdMs - 1000, 40, false);
  expect(reserved(f)).toBe(100 * MBIT);
  pass(f, 2000, 40, false);
  expect(reserved(f)).toBeUndefined();
  expect(job(f).sliceSteps.at(-1)?.reason.text).toMatch(/nothing could be counted/);
});

test('a switch without flows of the stream says nothing about it', () => {
  const f = copying();
  away(f);
  pass(f, 1000, 40);
  for (let i = 0; i < 15; i++) {
    f.nowMs += 1000;
    const ports = [{ portNo: 1, rxBytes: 0, txBytes: 0 }];
    const flows = [{ cookie: cookieFor(FEATURE.forwarding, 0), packets: 1, bytes: 1 }];
    for (const dpid of [HV1, HV2, CORE]) f.send({ kind: 'counters', dpid, ports, queues: [], flows });
    f.send({ kind: 'sampled' });
  }
  expect(reserved(f)).toBe(100 * MBIT);
});

test('a controller started anew while the agent is away holds the most that its source was ever told', () => {
  const f = copying();
  for (let i = 0; i < 3; i++) pass(f, 1000, 120);
  const slice = job(f).sliceBps;
  expect(slice).toBeLessThan(90 * MBIT);
  const entries = JSON.parse(JSON.stringify(journalOf(f.state, f.nowMs)));
  const g = twoHypervisors();
  g.nowMs = f.nowMs;
  g.state = restoreJobs(g.state, entries);
  g.agentUp(
    'hv2',
    HV2,
    '10.0.0.2',
    [{ ...guest('g1', GUEST_MAC, 'tap1'), state: 'incoming' }],
    [{ migration: 'm-1', guest: 'g1', role: 'destination' }],
  );
  g.send({ kind: 'agentDown', host: 'hv1' });
  for (let i = 0; i < 3; i++) pass(g, 1000, 120);
  expect(reserved(g)).toBe(100 * MBIT);
  back(g);
  for (let i = 0; i < 2; i++) pass(g, 1000, 120);
  expect(job(g).sliceBps).toBeLessThan(90 * MBIT);
});

test('who shall have more waits until those that shall have less have answered', () => {
  const f = copying();
  const obeys = f.answer;
  // From now on the source of the first says nothing to new paces.
  f.answer = (host, c) => {
    if (c.do === 'setBandwidth' && c.migration === 'm-1') return undefined;
    if (c.do === 'prepare') return { value: { address: '10.0.0.2', port: 49_153, portName: 'tap2' } };
    return obeys(host, c);
  };
  ask(f, 'g2', 'm-2');
  for (let i = 0; i < 3; i++) pass(f, 1000, 40);
  expect(f.state.jobs.get('m-2')?.state).toBe('copying');
  const sum = (reserved(f) ?? 0) + (reserved(f, 'm-2') ?? 0);
  expect(sum).toBeLessThanOrEqual(100 * MBIT);
  expect(job(f, 'm-2').sliceBps).toBeLessThan(10 * MBIT);
  expect(job(f, 'm-2').sliceSteps.at(-1)?.reason).toMatchObject({
    text: expect.stringMatching(/^0 bit\/s until m-1 has answered that it sends less, then 30\.0 Mbit\/s: /),
    inputs: expect.objectContaining({ waitsFor: 'm-1' }),
  });
  const lowered = orders(f).at(-1) as number;
  expect(job(f).sliceBps).toBeCloseTo(lowered, -1);
  f.send({ kind: 'commandDone', host: 'hv1', migration: 'm-1', step: 'setBandwidth', ok: true, value: {} });
  while (f.state.shrinking.size > 0)
    f.send({ kind: 'commandDone', host: 'hv1', migration: 'm-1', step: 'setBandwidth', ok: true, value: {} });
  expect(job(f, 'm-2').sliceBps).toBeCloseTo(50 * MBIT, -1);
});

test('two that make room for a third between them do not rise in turns while it waits for the other', () => {
  const s = new Star(
    4,
    ['a', 'b', 'c'].map((name, i) => ({ name, host: [3, 1, 1][i] as number, memoryMiB: 4096 })),
    { capacityMbps: 200 },
  );
  const { fabric: f } = s;
  const move = (guest: string, destination: string) =>
    s.ask({ moves: [{ guest, destination }], technique: 'pre-copy', strategy: 'parallel' });
  move('a', 'hv2');
  move('c', 'hv4');
  for (let i = 0; i < 12; i++) s.pass();
  const full = s.job('m-a').sliceBps;
  expect([full, s.job('m-c').sliceBps]).toEqual([full, full]);
  const obeys = f.answer;
  f.answer = (host, c) => (c.do === 'setBandwidth' ? undefined : obeys(host, c));
  const told = (id: string) =>
    f.commands.flatMap(({ migration, command: c }) =>
      migration === id && c.do === 'setBandwidth' ? [c.bandwidthBps] : [],
    );
  const answer = (id: string) =>
    f.send({ kind: 'commandDone', host: s.job(id).from, migration: id, step: 'setBandwidth', ok: true, value: {} });
  f.commands.length = 0;
  move('b', 'hv2');
  for (let i = 0; i < 4 && s.job('m-b').state !== 'copying'; i++) s.pass();
  // Both have been told to send less. Each answers while the other has not, and slices are worked out anew in between.
  for (let i = 0; i < 8; i++) {
    s.pass();
    answer(i % 2 === 0 ? 'm-a' : 'm-c');
  }
  for (const id of ['m-a', 'm-c']) {
    expect(told(id).length).toBeGreaterThan(0);
    expect(told(id)).toEqual(told(id).toSorted((x, y) => y - x));
  }
  f.answer = obeys;
  for (const id of ['m-a', 'm-c', 'm-b']) answer(id);
  for (let i = 0; i < 6; i++) s.pass();
  expect(['m-a', 'm-b', 'm-c'].map((id) => s.job(id).sliceBps)).toEqual([full / 2, full / 2, full / 2]);
});

test('a slice let go in a hold of which nothing is known any more is given again when its source is here', () => {
  const f = copying();
  const released = { ...job(f), isReleased: true, sliceBps: 0 };
  f.state = { ...f.state, jobs: new Map(f.state.jobs).set('m-1', released) };
  for (let i = 0; i < 3; i++) pass(f, 1000, 40);
  expect(job(f)).toMatchObject({ state: 'copying', isReleased: false, sliceBps: 100 * MBIT });
});
