/** The pull of disks that were left behind, through `controller/core`: its slice, its rate, its flows, and all its ends. */
import type { AgentCommand } from '../../../contracts/agent.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { checkPull } from '../../../controller/core/pull.ts';
import { PAYLOAD_SHARE } from '../../../controller/core/reserve.ts';
import { journalOf, restoreJobs } from '../../../controller/core/restore.ts';
import { explainedView, slicesView } from '../../../controller/core/views.ts';
import { CORE, Fabric, HV1, HV2, LOCAL, UPLINK } from './fabric.ts';
import {
  asked,
  down,
  drained,
  ID,
  job,
  moved,
  OFFER,
  ON_DEMAND,
  PULLING,
  restarted,
  say,
  up,
  withDisk,
} from './withDisks.ts';

const LINKS = [`${HV1}:${UPLINK}`, `${CORE}:2`, `${HV2}:${LOCAL}`];
const MBIT = 1e6;
const PULL = 50 * MBIT;
/** What is reserved for so much payload. */
const slice = (payloadBps: number) => Math.ceil(payloadBps / PAYLOAD_SHARE);

const pull = (f: Fabric, rateBps: number | null) => f.send({ kind: 'pull', id: ID, rateBps });
const pullOf = (f: Fabric) => {
  const { pull: p } = job(f);
  if (!p) throw new Error('no pull');
  return p;
};
const told = (f: Fabric): unknown[] =>
  f.commands.flatMap<unknown>(({ command: c }) =>
    c.do === 'pullDisks' ? [c.pullBps] : c.do === 'stopPull' ? ['stop'] : [],
  );
const reserved = (f: Fabric) => [...f.state.shares.values()].flatMap((s) => [...s.byMigration.values()]);
const workload = (mbps: number, sliced = 0) => ({ [`${HV1}:${UPLINK}`]: { tx: mbps + sliced, sliced } });
/** A packet of the NBD connection from the source's disks, and one of its answers. */
const packet = (back = false) => ({
  eth_src: back ? '0e:00:00:00:00:02' : '0e:00:00:00:00:01',
  eth_dst: back ? '0e:00:00:00:00:01' : '0e:00:00:00:00:02',
  eth_type: 0x0800,
  ip_proto: 6,
  ip_dscp: 0,
  ipv4_src: back ? '10.0.0.2' : OFFER.address,
  ipv4_dst: back ? OFFER.address : '10.0.0.2',
  tcp_src: back ? 51_000 : OFFER.port,
  tcp_dst: back ? OFFER.port : 51_000,
});
const mark = (f: Fabric) => f.inject(HV1, LOCAL, packet()).map((o) => [o.at, o.packet.ip_dscp, o.queue]);
/** DSCPs it comes out with; of a host that no switch knows it comes out everywhere. */
const marks = (f: Fabric) => new Set(mark(f).map(([, dscp]) => dscp));

test('it begins when the copy is over, not before; in a slice of low priority; and the rate follows what the workload leaves', () => {
  const f = asked(ON_DEMAND);
  expect(pullOf(f)).toMatchObject({ state: 'waiting', rateBps: PULL, sliceBps: 0 });
  say(f, 'hv1', 'preSwitchover');
  say(f, 'hv2', 'resumed');
  expect(told(f)).toEqual([]);
  say(f, 'hv1', 'completed');
  expect(job(f).state).toBe('draining');
  expect(pullOf(f)).toMatchObject({ state: 'running', sliceBps: slice(PULL), pacedBps: PULL });
  expect(told(f)).toEqual([PULL]);
  expect(reserved(f)).toEqual([slice(PULL), slice(PULL), slice(PULL)].slice(0, job(f).links.length));
  expect(slicesView(f.state).links[0]?.slices).toEqual([
    { migration: ID, priority: 'low', rateBps: slice(PULL), isPull: true },
  ]);
  // The queue of low priority holds it, and the workload is left the rest.
  const [link] = LINKS as [string];
  expect(f.qos.get(link)?.queues.map((q) => [q.id, q.minBps])).toEqual([
    [0, 200 * MBIT - slice(PULL)],
    [3, slice(PULL)],
  ]);
  drained(f);
  expect(job(f).state).toBe('done');
  expect(reserved(f)).toContain(slice(PULL));

  // A workload of 180 of 200 leaves a low priority less than was asked for; when it ends, all is given again.
  for (let i = 0; i < 8; i++) f.pass(1000, workload(170, 10));
  const less = told(f).at(-1);
  expect(less).toBeLessThan(PULL);
  expect(pullOf(f)).toMatchObject({ pacedBps: less, reason: { rule: 'reservation.low', bindingLink: link } });
  expect(less).toBe(Math.round(pullOf(f).sliceBps * PAYLOAD_SHARE));
  for (let i = 0; i < 12; i++) f.pass(1000, workload(0, 10));
  expect(told(f).at(-1)).toBe(PULL);
  expect(pullOf(f).reason?.rule).toBe('reservation.asked');
});

test('its connection is marked and queued as low, whatever the migration was, and by nothing when the pull has ended', () => {
  const f = moved();
  const { low } = DEFAULT_POLICY.marks;
  expect(mark(f)).toEqual([[`${HV2}:${LOCAL}`, low, expect.any(Number)]]);
  expect(f.inject(HV2, LOCAL, packet(true)).map((o) => [o.at, o.packet.ip_dscp])).toEqual([[`${HV1}:${LOCAL}`, 0]]);
  // Memory's port is nobody's any more.
  const memory = f.inject(HV1, LOCAL, { ...packet(), tcp_src: 40_000, tcp_dst: 49_152 });
  expect(new Set(memory.map((o) => o.packet.ip_dscp))).toEqual(new Set([0]));
  say(f, 'hv2', 'disksPulled');
  expect(pullOf(f)).toMatchObject({ state: 'done', sliceBps: 0 });
  expect(marks(f)).toEqual(new Set([0]));
  expect(reserved(f)).toEqual([]);
  expect([...f.qos.values()].filter((q) => q !== null)).toEqual([]);
});

test('it counts as migration and not as workload where flows are what counts it', () => {
  const f = moved(ON_DEMAND, {}, { queues: false });
  const hop = f.switches.get(HV1);
  for (let i = 0; i < 20; i++) f.inject(HV1, LOCAL, packet());
  const counted = hop?.tables.flows().filter((x) => x.packets >= 20);
  expect(counted).toHaveLength(1);
  // No meter polices what the guest itself reads: the destination's pace holds the pull.
  expect(hop?.tables.meters()).toEqual([]);
});

test('a person begins it later, changes its rate, and stops it; what is smaller than the smallest step is done too', () => {
  const f = moved({ storage: 'on-demand' });
  expect(job(f).pull).toBeNull();
  expect(reserved(f)).toEqual([]);
  pull(f, 20 * MBIT);
  expect(told(f)).toEqual([20 * MBIT]);
  pull(f, 20.5 * MBIT);
  pull(f, 20.5 * MBIT);
  pull(f, 10 * MBIT);
  expect(told(f)).toEqual([20 * MBIT, 20.5 * MBIT, 10 * MBIT]);
  expect(new Set(reserved(f))).toEqual(new Set([slice(10 * MBIT)]));
  pull(f, null);
  expect(told(f).at(-1)).toBe('stop');
  expect(pullOf(f)).toMatchObject({ state: 'stopped', sliceBps: 0 });
  expect(reserved(f)).toEqual([]);
  expect(marks(f)).toEqual(new Set([0]));
  expect(explainedView(f.state, job(f), f.nowMs).explanation?.summary).toMatch(/is at hv1, and nothing pulls it/);
  pull(f, 30 * MBIT);
  expect(told(f).slice(-2)).toEqual(['stop', 30 * MBIT]);
  expect(pullOf(f).state).toBe('running');
});

test('stopped before it could begin, it never begins', () => {
  const f = asked(ON_DEMAND);
  pull(f, null);
  expect(pullOf(f).state).toBe('stopped');
  say(f, 'hv1', 'preSwitchover');
  say(f, 'hv2', 'resumed');
  say(f, 'hv1', 'completed');
  drained(f);
  expect(told(f)).toEqual([]);
});

test.each<[string, () => Fabric, number | null, RegExp]>([
  ['of a migration that nobody knows', () => asked({ storage: 'mirrored' }), 1e6, /MIGRATION_UNKNOWN/],
  ['of disks that were mirrored', () => asked({ storage: 'mirrored' }), 1e6, /NOTHING_TO_PULL.*only storage on-demand/],
  [
    'of a migration that was cancelled',
    () => {
      const f = asked(ON_DEMAND);
      say(f, 'hv1', 'cancelled');
      return f;
    },
    1e6,
    /NOTHING_TO_PULL.*ended as cancelled: the disks of g1 are where they were/,
  ],
  [
    'of what is there',
    () => {
      const f = moved();
      say(f, 'hv2', 'disksPulled');
      return f;
    },
    1e6,
    /ALREADY_PULLED.*at hv2 already/,
  ],
  ['that is to stop, where there is none', () => moved({ storage: 'on-demand' }), null, /NO_PULL/],
])('a pull %s is refused with a reason', (what, make, rateBps, why) => {
  const f = make();
  const id = what.includes('nobody') ? 'm-9' : ID;
  let refusal = '';
  try {
    checkPull(f.state, id, rateBps);
  } catch (error) {
    refusal = `${(error as { code: string }).code}: ${(error as Error).message}`;
  }
  expect(refusal).toMatch(why);
});

test('its slice makes room for a migration on the same link, and no floor is touched', () => {
  const f = moved({ ...ON_DEMAND, pullBps: 150 * MBIT });
  // The floor of the workload is half of the link.
  expect(pullOf(f)).toMatchObject({ sliceBps: 100 * MBIT, reason: { rule: 'reservation.low' } });
  const before = pullOf(f).sliceBps;
  f.agentUp('hv1', HV1, '10.0.0.1', [
    { ...withDisk(), portName: 'tap2', spec: { ...withDisk().spec, name: 'g2', mac: '52:54:00:00:00:0a', disks: [] } },
  ]);
  f.send({
    kind: 'migrate',
    request: { moves: [{ guest: 'g2', destination: 'hv2' }], priority: 'high', technique: 'pre-copy' },
    ids: ['m-2'],
    group: null,
  });
  f.pass(250);
  expect(job(f, 'm-2').state).toBe('copying');
  const [share] = f.state.shares.values();
  expect(pullOf(f).sliceBps).toBeLessThan(before);
  expect(share?.byMigration.get('m-2')).toBeGreaterThan(pullOf(f).sliceBps);
  const sum = [...(share?.byMigration.values() ?? [])].reduce((a, b) => a + b, 0);
  expect(sum).toBeLessThanOrEqual(200 * MBIT - (share?.floorBps ?? Number.NaN));
});

test('who is given what a pull gives up waits until its destination has answered that it takes less', () => {
  const f = moved({ ...ON_DEMAND, pullBps: 150 * MBIT });
  const { answer } = f;
  f.answer = (host, c) => (c.do === 'pullDisks' ? undefined : answer(host, c));
  f.agentUp('hv1', HV1, '10.0.0.1', [
    { ...withDisk(), portName: 'tap2', spec: { ...withDisk().spec, name: 'g2', mac: '52:54:00:00:00:0a', disks: [] } },
  ]);
  const moves = [{ guest: 'g2', destination: 'hv2' }];
  const request = { moves, priority: 'high' as const, technique: 'pre-copy' as const };
  f.send({ kind: 'migrate', request, ids: ['m-2'], group: null });
  f.pass(250);
  const paces = () => f.commands.flatMap(({ command: c }) => ('bandwidthBps' in c ? [c.bandwidthBps] : []));
  const less = told(f).at(-1) as number;
  expect(less).toBeLessThan(90 * MBIT);
  // The pull may still take all that the floor leaves.
  expect(job(f, 'm-2').sliceBps).toBeLessThan(MBIT);
  f.send({ kind: 'commandDone', host: 'hv2', migration: ID, step: 'pullDisks', ok: true, value: {} });
  expect(job(f, 'm-2').sliceBps).toBe(100 * MBIT - pullOf(f).sliceBps);
  expect(paces().at(-1)).toBe(Math.round(job(f, 'm-2').sliceBps * PAYLOAD_SHARE));
});

test('how far it is is asked every other second, shown, and asked no more afterwards', () => {
  let doneBytes = 0;
  const f = moved(ON_DEMAND, {
    measureFetch: () => {
      doneBytes += 2 ** 28;
      return { value: { fetchedBytes: doneBytes + 5, isPulled: false, pull: { doneBytes, totalBytes: 2 ** 30 } } };
    },
  });
  const asks = () => f.commands.filter((c) => c.command.do === 'measureFetch').length;
  const from = asks();
  for (let i = 0; i < 4; i++) f.pass(1000, workload(0, 10));
  expect(asks()).toBe(from + 2);
  const view = explainedView(f.state, job(f), f.nowMs);
  expect(view.pull).toMatchObject({ state: 'running', pacedBps: PULL, doneBytes, fetchedBytes: doneBytes + 5 });
  expect(view.explanation?.summary).toMatch(/its disks are pulled at 50\.0 Mbit\/s, \d+ % are through/);
  say(f, 'hv2', 'disksPulled');
  const last = asks();
  for (let i = 0; i < 4; i++) f.pass(1000);
  expect(asks()).toBe(last);
  expect(explainedView(f.state, job(f), f.nowMs).explanation?.summary).toMatch(/all of its disks is at hv2/);
});

test('a destination that was away is told again; one that stays away holds no slice until it is back', () => {
  const f = moved();
  const { answer } = f;
  f.answer = () => undefined;
  down(f, 'hv2');
  for (let i = 0; i < 30; i++) f.pass(1000);
  expect(pullOf(f).state).toBe('running');
  expect(reserved(f)).toContain(slice(PULL));
  f.answer = answer;
  up(f, 'hv2', [withDisk()], PULLING);
  expect(told(f)).toEqual([PULL, PULL]);
  down(f, 'hv2');
  for (let i = 0; i < 61; i++) f.pass(1000);
  expect(pullOf(f)).toMatchObject({ state: 'away', sliceBps: 0, note: expect.stringMatching(/agent of hv2 is away/) });
  expect(reserved(f)).toEqual([]);
  up(f, 'hv2', [withDisk()], PULLING);
  expect(pullOf(f)).toMatchObject({ state: 'running', pacedBps: PULL });
});

test('an order to stop that was lost with the connection is given again', () => {
  const f = moved();
  const { answer } = f;
  f.answer = (host, c: AgentCommand) => (c.do === 'stopPull' ? undefined : answer(host, c));
  pull(f, null);
  // Until it is answered the destination may go on.
  expect(pullOf(f)).toMatchObject({ state: 'stopping', sliceBps: slice(PULL) });
  expect(reserved(f)).toContain(slice(PULL));
  down(f, 'hv2');
  f.pass(1000);
  expect(reserved(f)).toContain(slice(PULL));
  f.answer = answer;
  up(f, 'hv2', [withDisk()], PULLING);
  expect(told(f)).toEqual([PULL, 'stop', 'stop']);
  expect(pullOf(f)).toMatchObject({ state: 'stopped', sliceBps: 0 });
  expect(reserved(f)).toEqual([]);
});

test('one that is to stop and whose destination stays away holds nothing in the end, and is stopped when it is back', () => {
  const f = moved();
  const { answer } = f;
  f.answer = () => undefined;
  pull(f, null);
  down(f, 'hv2');
  for (let i = 0; i < 61; i++) f.pass(1000);
  expect(pullOf(f).state).toBe('stopping');
  expect(reserved(f)).toEqual([]);
  f.answer = answer;
  up(f, 'hv2', [withDisk()], PULLING);
  expect(told(f)).toEqual([PULL, 'stop', 'stop']);
  expect(pullOf(f).state).toBe('stopped');
});

test('a destination that is away goes on as it was told last, and that stays reserved; it hears of less when it is back', () => {
  const f = moved({ ...ON_DEMAND, pullBps: 150 * MBIT });
  const { answer } = f;
  expect(pullOf(f).sliceBps).toBe(100 * MBIT);
  f.answer = () => undefined;
  down(f, 'hv2');
  for (let i = 0; i < 8; i++) f.pass(1000, workload(170, 30));
  expect(pullOf(f).sliceBps).toBe(100 * MBIT);
  expect(new Set(reserved(f))).toEqual(new Set([100 * MBIT]));
  f.answer = answer;
  up(f, 'hv2', [withDisk()], PULLING);
  for (let i = 0; i < 3; i++) f.pass(1000, workload(170, 30));
  expect(pullOf(f).sliceBps).toBeLessThan(50 * MBIT);
  expect(told(f).at(-1)).toBe(Math.round(pullOf(f).sliceBps * PAYLOAD_SHARE));
});

test('one that was never told to begin holds nothing while its destination is away', () => {
  const f = asked(ON_DEMAND);
  say(f, 'hv1', 'preSwitchover');
  say(f, 'hv2', 'resumed');
  down(f, 'hv2');
  say(f, 'hv1', 'completed');
  for (let i = 0; i < 5; i++) f.pass(1000);
  expect(pullOf(f)).toMatchObject({ state: 'waiting', sliceBps: 0 });
  expect(told(f)).toEqual([]);
  // That it has nothing is decided once.
  expect(f.state.decisions.filter((d) => d.reason.text.startsWith('for the pull of its disks'))).toHaveLength(1);
});

test('a controller that was away goes on with it: the same rate, slice and flows', () => {
  const later = restarted(moved());
  up(later, 'hv1', [withDisk('stopped')]);
  up(later, 'hv2', [withDisk()], PULLING);
  later.pass(1000);
  later.pass(1000);
  expect(pullOf(later)).toMatchObject({ state: 'running', pacedBps: PULL, sliceBps: slice(PULL) });
  expect(told(later).at(-1)).toBe(PULL);
  expect(marks(later)).toEqual(new Set([DEFAULT_POLICY.marks.low]));
});

test('a controller that was away leaves its pace alone until the switches on its way have come', () => {
  const f = moved();
  for (let i = 0; i < 6; i++) f.pass(1000);
  const before = told(f).at(-1);
  expect(before).toBeGreaterThan(1 * MBIT);
  const entries = journalOf(f.state, f.nowMs).map((e) => JSON.parse(JSON.stringify(e)));
  const later = new Fabric();
  for (const [dpid, s] of f.switches) later.switches.set(dpid, s);
  for (const [from, to] of f.cables) later.cables.set(from, to);
  Object.assign(later, { nowMs: f.nowMs, answer: f.answer });
  const fresh = {
    ...later.state,
    startedAtMs: f.nowMs,
    settling: { ...later.state.settling, untilMs: f.nowMs + 15_000 },
  };
  later.state = restoreJobs(fresh, entries);
  up(later, 'hv2', [withDisk()], PULLING);
  for (let i = 0; i < 3; i++) later.send({ kind: 'tick' });
  // It is told again what it was told before, and no less for want of knowledge.
  expect(told(later).filter((bps) => bps !== before)).toEqual([]);
  for (const dpid of [HV1, HV2, CORE]) later.connect(dpid);
  up(later, 'hv1', [withDisk('stopped')]);
  for (let i = 0; i < 6; i++) later.pass(1000);
  expect(reserved(later)).toContain(slice(PULL));
  expect(told(later).at(-1)).toBe(before);
});

test('a destination that refuses ends it with what it said, and its slice is given back', () => {
  const f = moved(ON_DEMAND, { pullDisks: () => ({ error: 'no guest g1 on hv2', code: 'guest-unknown' }) });
  expect(pullOf(f)).toMatchObject({ state: 'failed', sliceBps: 0, note: 'hv2: no guest g1 on hv2' });
  expect(reserved(f)).toEqual([]);
  const gone = moved(ON_DEMAND, { measureFetch: () => ({ error: 'no guest g1 on hv2', code: 'guest-unknown' }) });
  gone.pass(3000);
  expect(pullOf(gone)).toMatchObject({ state: 'failed', note: 'hv2: no guest g1 on hv2' });
});

test('a failed migration pulls nothing, and a link that is lost leaves the pull at the least pace until there is a way', () => {
  const failed = asked(ON_DEMAND);
  say(failed, 'hv1', 'failed');
  expect(job(failed).pull).toBeNull();
  const f = moved();
  f.setCable(HV1, UPLINK, false);
  f.pass(1000);
  expect(pullOf(f)).toMatchObject({ state: 'running', sliceBps: 0 });
  expect(told(f).at(-1)).toBeLessThan(MBIT);
  f.setCable(HV1, UPLINK, true);
  for (let i = 0; i < 6; i++) f.pass(1000);
  expect(told(f).at(-1)).toBe(PULL);
});
