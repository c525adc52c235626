/** The feed over real WebSockets on the loopback, with a clock moved by hand. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocket, WebSocketServer } from 'ws';
import {
  type FeedEnvelope,
  feedEnvelopeSchema,
  type RatesView,
  TOPICS,
  type Topic,
  type TopicData,
} from '../../../contracts/feed.ts';
import { silentLog } from '../../../contracts/log.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { Feed } from '../../../controller/io/feed.ts';
import { ManualClock, settle, until } from './support.ts';

const http = createServer();
const door = new WebSocketServer({ server: http, perMessageDeflate: false, maxPayload: 1024 });
let clock: ManualClock;
let feed: Feed;
let rates: RatesView;
let snapshots: Topic[];
let readers: WebSocket[];
let serverSide: WebSocket[];
let topicsOfNext: readonly Topic[];

/** Rates whose first link has the given workload, and some bulk. */
const ratesOf = (workloadBps: number, bulk = 0): RatesView => ({
  links: Array.from({ length: 1 + bulk }, (_x, i) => ({
    id: `000000000000000${i % 10}:1`,
    capacityBps: 1e9,
    workloadBps,
    migrationBps: 0,
    floorBps: 0,
    ceilingBps: 1e9,
  })),
  guests: [],
  hosts: [],
});

function snapshot<T extends Topic>(topic: T): TopicData[T] {
  snapshots.push(topic);
  const all: TopicData = {
    topology: { switches: [], links: [], locations: [], refusedProbes: [], agents: [] },
    rates,
    slices: { links: [] },
    migrations: { migrations: [] },
    decisions: { decisions: [] },
    policy: {
      policy: DEFAULT_POLICY,
      status: { state: 'accepted', revision: 1, reason: '', atMs: 0 },
      store: 'memory',
    },
  };
  return all[topic];
}

function make(o: { maxBufferedBytes?: number; maxReaders?: number } = {}) {
  clock = new ManualClock();
  feed = new Feed({ snapshot, clock, log: silentLog, heartbeatMs: 1_000, maxBufferedBytes: 100_000, ...o });
}

beforeAll(() => new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve)));
afterAll(() => new Promise((resolve) => http.close(resolve)));
door.on('connection', (ws) => {
  serverSide.push(ws);
  feed.attach(ws, topicsOfNext);
});
beforeEach(() => {
  readers = [];
  serverSide = [];
  snapshots = [];
  rates = ratesOf(0);
  make();
});
afterEach(() => {
  feed.close();
  expect(clock.timers).toBe(0);
  for (const r of readers) r.terminate();
});

/** A reader that checks every envelope against the contract and keeps it. */
async function connect(topics: readonly Topic[] = TOPICS) {
  topicsOfNext = topics;
  const ws = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}/`);
  readers.push(ws);
  const got: FeedEnvelope[] = [];
  const end = { code: 0, reason: '' };
  ws.on('message', (data) => got.push(feedEnvelopeSchema.parse(JSON.parse(data.toString()))));
  ws.on('close', (code, reason) => Object.assign(end, { code, reason: reason.toString() }));
  ws.on('error', () => undefined);
  const n = serverSide.length;
  await new Promise((resolve) => ws.once('open', resolve));
  return { ws, got, end, server: serverSide[n] as WebSocket };
}

test('a snapshot of each topic asked for, then changes, numbered without a gap', async () => {
  const a = await connect(['rates', 'slices']);
  feed.publish('rates', ratesOf(5));
  feed.publish('topology', snapshot('topology'));
  feed.publish('slices', { links: [] });
  clock.advance(1_000);
  await until(() => a.got.length === 5, 'all arrived');
  expect(a.got.map((e) => [e.seq, e.kind, 'topic' in e ? e.topic : ''])).toEqual([
    [0, 'snapshot', 'rates'],
    [1, 'snapshot', 'slices'],
    [2, 'change', 'rates'],
    [3, 'change', 'slices'],
    [4, 'heartbeat', ''],
  ]);
  expect(a.got[2]).toMatchObject({ v: 1, atMs: 1_000_000, data: ratesOf(5) });
  expect(a.got[0]).not.toHaveProperty('resync');
});

test('all topics of the contract can be carried', async () => {
  const a = await connect();
  await until(() => a.got.length === TOPICS.length, 'all arrived');
  for (const topic of TOPICS) feed.publish(topic, snapshot(topic));
  await until(() => a.got.length === 2 * TOPICS.length, 'all changes arrived');
  const changes = a.got.flatMap((e) => (e.kind === 'change' ? [e.topic] : []));
  expect(changes).toEqual(TOPICS);
});

test('a change is made into text once, however many read it, and not at all when nobody does', async () => {
  for (let i = 0; i < 5; i++) await connect(['rates']);
  let reads = 0;
  const counted = {
    ...ratesOf(1),
    get guests() {
      reads++;
      return [];
    },
  };
  feed.publish('rates', counted);
  expect(reads).toBe(1);
  for (const r of readers) r.terminate();
  await until(() => feed.readers === 0, 'they are gone');
  feed.publish('rates', counted);
  expect(reads).toBe(1);
});

test('a slow reader costs bounded memory, others get everything; when it reads again it gets a fresh snapshot', async () => {
  const fast = await connect(['rates', 'slices']);
  const slow = await connect(['rates', 'slices']);
  await until(() => slow.got.length === 2, 'the snapshots arrived');
  slow.ws.pause();
  const bulk = 2_000;
  const size = JSON.stringify(ratesOf(0, bulk)).length;
  const N = 80;
  for (let i = 1; i <= N; i++) {
    rates = ratesOf(i, bulk);
    feed.publish('rates', rates);
    await until(() => fast.got.length === 2 + i, `the fast reader got change ${i}`);
  }
  // One change more than the limit may be waiting, never all that the reader missed.
  expect(slow.server.bufferedAmount).toBeGreaterThan(100_000);
  expect(slow.server.bufferedAmount).toBeLessThan(100_000 + 2 * size);
  expect(fast.got.map((e) => e.seq)).toEqual(Array.from({ length: N + 2 }, (_x, i) => i));
  // A topic of which it missed nothing goes on by changes once it has caught up.
  slow.ws.resume();
  await until(() => slow.got.some((e) => 'resync' in e), 'it got a fresh snapshot');
  feed.publish('slices', { links: [] });
  await until(() => slow.got.at(-1)?.kind === 'change', 'changes come again');

  const resync = slow.got.find((e) => 'resync' in e);
  expect(resync).toMatchObject({
    kind: 'snapshot',
    topic: 'rates',
    resync: true,
    data: { links: { length: bulk + 1 } },
  });
  expect(resync?.kind === 'snapshot' && resync.topic === 'rates' && resync.data.links[0]?.workloadBps).toBe(N);
  // It sees by the numbers that something was left out, and they never go back.
  const seqs = slow.got.map((e) => e.seq);
  expect(seqs).toEqual([...seqs].sort((x, y) => x - y));
  expect(slow.got.length).toBeLessThan(N);
  expect(seqs.at(-1)).toBeGreaterThan(N);
  expect(slow.got.filter((e) => 'resync' in e)).toHaveLength(1);
});

test('a reader that gives no sign of life is ended after three heartbeats, others stay', async () => {
  const alive = await connect(['slices']);
  const dead = await connect(['slices']);
  let answers = 0;
  alive.server.on('pong', () => answers++);
  dead.ws.pause();
  for (let beat = 1; beat <= 4; beat++) {
    clock.advance(1_000);
    await until(() => answers >= beat, 'the other has answered');
  }
  expect(feed.readers).toBe(1);
  expect(dead.server.readyState).not.toBe(WebSocket.OPEN);
  expect(alive.server.readyState).toBe(WebSocket.OPEN);
  await until(() => alive.got.filter((e) => e.kind === 'heartbeat').length === 4, 'the other got its heartbeats');
});

test('what readers say is ignored; too much or too long ends them with a reason', async () => {
  const a = await connect(['slices']);
  a.ws.send('hello?');
  await settle();
  expect(feed.readers).toBe(1);
  for (let i = 0; i < 30; i++) a.ws.send('again');
  await until(() => a.end.code !== 0, 'it was closed');
  expect(a.end).toEqual({ code: 1008, reason: 'the feed takes no messages' });
  const b = await connect(['slices']);
  b.ws.send('x'.repeat(5_000));
  await until(() => b.end.code !== 0, 'it was closed');
  expect(b.end.code).toBe(1009);
  await until(() => feed.readers === 0, 'none is left');
});

test('a snapshot that fails ends that reader only', async () => {
  const fine = await connect(['slices']);
  rates = {
    ...ratesOf(0),
    get links(): never {
      throw new Error('no');
    },
  };
  const a = await connect(['rates']);
  await until(() => a.end.code !== 0, 'it was closed');
  expect(a.end.code).toBe(1011);
  feed.publish('slices', { links: [] });
  await until(() => fine.got.length === 2, 'the other goes on');
});

test('more readers than allowed are turned away; close tells all', async () => {
  feed.close();
  make({ maxReaders: 1 });
  const a = await connect(['slices']);
  const b = await connect(['slices']);
  await until(() => b.end.code !== 0, 'the second was turned away');
  expect(b.end).toEqual({ code: 1013, reason: 'there are 1 readers already' });
  feed.close();
  await until(() => a.end.code !== 0, 'the first was told');
  expect(a.end).toEqual({ code: 1001, reason: 'the controller stops' });
  expect(feed.readers).toBe(0);
});
