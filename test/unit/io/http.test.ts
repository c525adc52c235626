/** The HTTP server with its doors for readers and agents, over real sockets. */
import { connect as connectTcp } from 'node:net';
import { WebSocket } from 'ws';
import { AGENT_PROTOCOL } from '../../../contracts/agent.ts';
import { FairwayError } from '../../../contracts/common.ts';
import type { MigrationView, PolicyView, Topic, TopicData } from '../../../contracts/feed.ts';
import { silentLog } from '../../../contracts/log.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { Evacuation, PolicyHistory, StatusView } from '../../../contracts/rest.ts';
import { AgentGateway } from '../../../controller/io/agents.ts';
import { Feed } from '../../../controller/io/feed.ts';
import { startHttp } from '../../../controller/io/http.ts';
import { signToken } from '../../../controller/io/token.ts';
import { ManualClock, until } from './support.ts';

const token = 'the-right-token-0123456789';
const history: PolicyHistory = {
  edits: [
    {
      atMs: 5,
      author: 'alice',
      via: 'http',
      state: 'accepted',
      revision: 2,
      reason: '',
      changes: [{ path: 'limits.perHostIn', before: '8', after: '3' }],
      more: 0,
    },
  ],
};
const policy: PolicyView = {
  policy: DEFAULT_POLICY,
  status: { state: 'accepted', revision: 1, reason: '', atMs: 0 },
  store: 'memory',
};
const migration: MigrationView = {
  id: 'm/1 ä',
  guest: 'vm1',
  priority: 'low',
  group: null,
  from: 'a',
  to: 'b',
  state: 'queued',
  technique: null,
  strategy: null,
  contention: null,
  enforcement: null,
  path: [],
  sliceBps: 0,
  progressShare: 0,
  transferredBytes: 0,
  remainingBytes: 0,
  passes: 0,
  downtimeMs: null,
  requestedAtMs: 0,
  startedAtMs: null,
  endedAtMs: null,
  totalMs: null,
  note: null,
  reasons: [],
  sliceSteps: [],
  transitions: [],
};
const views: TopicData = {
  topology: { switches: [], links: [], locations: [], refusedProbes: [], agents: [] },
  rates: { links: [], guests: [], hosts: [] },
  slices: { links: [] },
  migrations: { migrations: [migration] },
  decisions: { decisions: [] },
  policy,
};
const status: StatusView = {
  version: '1',
  upSinceMs: 0,
  topology: views.topology,
  rates: views.rates,
  slices: views.slices,
  migrations: [migration],
  policy,
};

const evacuation: Evacuation = {
  host: 'hv1',
  atMs: 0,
  group: null,
  moves: [],
  refused: [{ guest: 'vm1', reason: 'there is no other host' }],
  moving: [],
  endsAtMs: 0,
  boundAtMs: 0,
};

let http: Awaited<ReturnType<typeof startHttp>>;
let base: string;
let clock: ManualClock;
let feed: Feed;
let agents: AgentGateway;
let failure: Error | undefined;
const asked: unknown[] = [];
const log = jest.fn();

beforeEach(async () => {
  clock = new ManualClock();
  failure = undefined;
  asked.length = 0;
  log.mockClear();
  feed = new Feed({ snapshot: <T extends Topic>(t: T) => views[t], clock, log: silentLog });
  const none = () => undefined;
  agents = new AgentGateway({ clock, log: silentLog, progressPeriodMs: 1, onUp: none, onMessage: none, onDown: none });
  const may = async <T>(question: unknown, answer: T): Promise<T> => {
    asked.push(question);
    if (failure) throw failure;
    return answer;
  };
  http = await startHttp({
    host: '127.0.0.1',
    port: 0,
    token,
    log,
    clock,
    version: '1.2.3',
    feed,
    agents,
    handlers: {
      status: () => status,
      migrate: (r) => may(r, { migrations: [{ id: 'm-1', guest: 'vm1' }], group: null }),
      evacuate: (r) => may(r, { ...evacuation, host: r.host }),
      migration: (id) => (id === migration.id ? migration : undefined),
      cancel: (id, forget) => may(forget ? { id, forget } : id, forget ? 'given up' : null),
      pull: (id, rateBps) => may({ id, rateBps }, migration),
      policy: () => policy,
      patchPolicy: (fields, author) => may(author === '' ? fields : { ...fields, author }, policy),
      policyHistory: () => history,
    },
  });
  base = `http://127.0.0.1:${http.port}`;
});
afterEach(async () => {
  await http.close();
  expect(clock.timers).toBe(0);
});

const call = async (method: string, path: string, body?: string, headers: Record<string, string> = {}) => {
  const r = await fetch(base + path, {
    method,
    headers: { authorization: `Bearer ${token}`, ...headers },
    ...(body === undefined ? {} : { body }),
  });
  return {
    status: r.status,
    headers: r.headers,
    body: (await r.json()) as { error?: { code: string; message: string } },
  };
};

test('the routes', async () => {
  expect(await call('GET', '/v1/status')).toMatchObject({ status: 200, body: status });
  expect(await call('GET', '/v1/policy')).toMatchObject({ status: 200, body: policy });
  const move = { moves: [{ guest: 'vm1', destination: 'hv2' }] };
  expect(await call('POST', '/v1/migrations', JSON.stringify(move))).toMatchObject({
    status: 202,
    body: { migrations: [{ id: 'm-1', guest: 'vm1' }], group: null },
  });
  expect(asked).toEqual([{ ...move, priority: 'medium' }]);
  const empty = (more: object) => call('POST', '/v1/evacuations', JSON.stringify({ host: 'hv1', ...more }));
  expect(await empty({ priorities: { vm1: 'high' } })).toMatchObject({ status: 202, body: { host: 'hv1' } });
  expect(asked.pop()).toMatchObject({
    host: 'hv1',
    priorities: { vm1: 'high' },
    deadlines: {},
    exclude: [],
    dryRun: false,
  });
  expect(await empty({ dryRun: true })).toMatchObject({ status: 200, body: evacuation });
  asked.pop();
  expect(await empty({ deadlineMs: -1 })).toMatchObject({ status: 400 });
  const path = `/v1/migrations/${encodeURIComponent(migration.id)}`;
  expect(await call('GET', path)).toMatchObject({ status: 200, body: migration });
  expect(await call('DELETE', path)).toMatchObject({ status: 202, body: { id: migration.id } });
  expect(asked[1]).toBe(migration.id);
  expect(await call('DELETE', `${path}?forget=true`)).toMatchObject({
    ...{ status: 202, body: { id: migration.id, note: 'given up' } },
  });
  expect(asked.pop()).toEqual({ id: migration.id, forget: true });
  expect(await call('DELETE', `${path}?forget=perhaps`)).toMatchObject({
    ...{ status: 400, body: { error: { message: 'forget is true or false, not "perhaps"' } } },
  });
  expect(await call('PATCH', '/v1/policy', '{"reservation.low":"capacity"}')).toMatchObject({
    status: 200,
    body: policy,
  });
  expect(asked[2]).toEqual({ 'reservation.low': 'capacity' });
  await call('PATCH', '/v1/policy', '{"marks.low":16}', { 'fairway-author': encodeURIComponent('Zoë') });
  expect(asked[3]).toEqual({ 'marks.low': 16, author: 'Zoë' });
  await call('PATCH', '/v1/policy', '{"marks.low":16}', { 'fairway-author': '100%' });
  expect(asked[4]).toEqual({ 'marks.low': 16, author: '100%' });
  expect(await call('GET', '/v1/policy/history')).toMatchObject({ status: 200, body: history });
});

test('a pull: a rate as a number or a text, its end, and what is no rate', async () => {
  const path = `/v1/migrations/${encodeURIComponent(migration.id)}/pull`;
  const post = (body: unknown) => call('POST', path, JSON.stringify(body));
  expect(await post({ rate: '80 Mbit/s' })).toMatchObject({ status: 202, body: migration });
  expect(await post({ rate: 8000 })).toMatchObject({ status: 202 });
  expect(await call('DELETE', path)).toMatchObject({ status: 202, body: migration });
  const { id } = migration;
  expect(asked).toEqual([
    { id, rateBps: 80e6 },
    { id, rateBps: 8000 },
    { id, rateBps: null },
  ]);
  for (const body of [
    {},
    { rate: 'fast' },
    { rate: 7999 },
    { rate: -1 },
    { rate: '80 Mbit/s', more: 1 },
    { rate: null },
  ])
    expect(await post(body)).toMatchObject({ status: 400, body: { error: { code: 'BAD_INPUT' } } });
  failure = new FairwayError('ALREADY_PULLED', 'all of it is there', ['conflict']);
  expect(await post({ rate: 8000 })).toMatchObject({ status: 409, body: { error: { code: 'ALREADY_PULLED' } } });
  expect(await call('GET', path)).toMatchObject({ status: 405 });
});

test('healthz needs no token, all else does, and nothing else is accepted for it', async () => {
  const health = await fetch(`${base}/healthz`);
  expect([health.status, await health.json()]).toEqual([200, { ok: true, version: '1.2.3' }]);
  for (const authorization of ['', 'Bearer', 'Bearer wrong', `Basic ${token}`, `Bearer ${token}x`, token]) {
    const r = await call('GET', '/v1/status', undefined, { authorization });
    expect([r.status, r.body.error?.code]).toEqual([401, 'UNAUTHORIZED']);
    expect(r.headers.get('www-authenticate')).toContain('Bearer');
  }
  expect((await fetch(`${base}/v1/status?token=${token}`)).status).toBe(401);
  expect((await fetch(`${base}/nothing`)).status).toBe(401);
  expect((await fetch(`${base}/v1/migrations`, { method: 'POST', body: '{}' })).status).toBe(401);
  expect(asked).toEqual([]);
});

test('what is not there, and what cannot be done there', async () => {
  expect(await call('GET', '/nothing')).toMatchObject({ status: 404, body: { error: { code: 'NOT_FOUND' } } });
  expect(await call('GET', '/v1/migrations/m-9')).toMatchObject({
    status: 404,
    body: { error: { code: 'NOT_FOUND' } },
  });
  const r = await call('DELETE', '/v1/policy');
  expect([r.status, r.headers.get('allow')]).toEqual([405, 'GET, PATCH']);
  expect((await call('GET', '/v1/migrations/%zz')).status).toBe(400);
  expect((await call('GET', `/v1/migrations/${'x'.repeat(300)}`)).status).toBe(400);
  expect((await call('GET', '/feed')).status).toBe(426);
});

test.each([
  ['no JSON', 'POST', '/v1/migrations', '{', 400, 'NOT_JSON'],
  ['nothing', 'POST', '/v1/migrations', '', 400, 'NOT_JSON'],
  ['no moves', 'POST', '/v1/migrations', '{"moves":[]}', 400, 'BAD_INPUT'],
  ['an unknown key', 'POST', '/v1/migrations', '{"moves":[{"guest":"a","destination":"b"}],"x":1}', 400, 'BAD_INPUT'],
  ['a nested value', 'PATCH', '/v1/policy', '{"reservation":{"low":"x"}}', 400, 'BAD_INPUT'],
  ['a list', 'PATCH', '/v1/policy', '[]', 400, 'BAD_INPUT'],
  ['two megabytes', 'PATCH', '/v1/policy', JSON.stringify({ x: 'y'.repeat(2 << 20) }), 413, 'TOO_LONG'],
])('a body with %s is refused', async (_name, method, path, body, status_, code) => {
  const r = await call(method, path, body);
  expect([r.status, r.body.error?.code]).toEqual([status_, code]);
  expect(asked).toEqual([]);
});

test('a body without a length is cut off at the limit', async () => {
  const text = await new Promise<string>((resolve) => {
    let got = '';
    const s = connectTcp(http.port, '127.0.0.1', () => {
      s.write(
        `PATCH /v1/policy HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\ntransfer-encoding: chunked\r\n\r\n`,
      );
      const piece = `10000\r\n${'x'.repeat(0x10000)}\r\n`;
      for (let i = 0; i < 40; i++) s.write(piece);
    });
    s.on('data', (d) => {
      got += d;
      if (got.includes('TOO_LONG')) s.destroy();
    });
    s.on('error', () => undefined);
    s.on('close', () => resolve(got));
  });
  expect(text).toMatch(/^HTTP\/1\.1 413 /);
});

test.each([
  ['badInput', 400],
  ['unauthorized', 401],
  ['notFound', 404],
  ['conflict', 409],
  ['retryable', 503],
] as const)('an error labelled %s becomes %d', async (label, expected) => {
  failure = new FairwayError('SOME_CODE', 'because of this', [label]);
  expect(await call('PATCH', '/v1/policy', '{}')).toMatchObject({
    status: expected,
    body: { error: { code: 'SOME_CODE', message: 'because of this' } },
  });
});

test('a fault of ours is logged and not told', async () => {
  failure = new Error('a secret path');
  const r = await call('PATCH', '/v1/policy', '{}');
  expect(r).toMatchObject({ status: 500, body: { error: { code: 'INTERNAL' } } });
  expect(JSON.stringify(r.body)).not.toContain('secret');
  expect(log).toHaveBeenCalledWith('error', 'http.failed', { url: '/v1/policy', error: failure });
});

/** Opens a WebSocket; answers the status of a refusal, or the socket. */
const upgrade = (path: string, headers: Record<string, string> = {}) =>
  new Promise<{ status: number; body: string; ws?: WebSocket; first: Promise<string> }>((resolve) => {
    const ws = new WebSocket(`ws://127.0.0.1:${http.port}${path}`, { headers });
    const first = new Promise<string>((got) => ws.once('message', (d) => got(d.toString())));
    ws.on('error', () => undefined);
    ws.on('open', () => resolve({ status: 101, body: '', ws, first }));
    ws.on('unexpected-response', (_q, r) => {
      let body = '';
      r.on('data', (d) => {
        body += d;
      });
      r.on('end', () => resolve({ status: r.statusCode ?? 0, body, first }));
    });
  });
const bearer = { authorization: `Bearer ${token}` };

test('the doors of feed and agents: token, topics and paths are checked before anything is opened', async () => {
  expect(await upgrade('/feed')).toMatchObject({ status: 401 });
  expect(await upgrade('/feed?token=wrong')).toMatchObject({ status: 401 });
  expect(await upgrade(`/agent?token=${token}`)).toMatchObject({ status: 401 });
  expect(await upgrade('/other', bearer)).toMatchObject({ status: 404 });
  const bad = await upgrade('/feed?topics=rates,gossip', bearer);
  expect(bad.status).toBe(400);
  expect(JSON.parse(bad.body).error).toMatchObject({
    code: 'BAD_TOPIC',
    message: expect.stringContaining('decisions'),
  });
  expect([feed.readers, agents.hosts]).toEqual([0, []]);
});

test('readers come in by header or address, agents by header; close ends both with a reason', async () => {
  const a = await upgrade(`/feed?topics=slices&token=${token}`);
  const b = await upgrade('/feed', bearer);
  expect(JSON.parse(await a.first)).toMatchObject({ kind: 'snapshot', topic: 'slices' });
  expect(JSON.parse(await b.first)).toMatchObject({ kind: 'snapshot', topic: 'topology' });
  const c = await upgrade('/agent', bearer);
  const guests: unknown[] = [];
  c.ws?.send(
    JSON.stringify({
      type: 'hello',
      protocol: AGENT_PROTOCOL,
      host: 'hv1',
      driver: 'none',
      techniques: [],
      guests,
      migrations: [],
    }),
  );
  expect(JSON.parse(await c.first)).toMatchObject({ type: 'welcome' });
  expect([feed.readers, agents.hosts]).toEqual([2, ['hv1']]);
  const codes: number[] = [];
  for (const x of [a, b, c]) x.ws?.on('close', (code) => codes.push(code));
  await http.close();
  await until(() => codes.length === 3, 'all were told');
  expect(codes).toEqual([1001, 1001, 1001]);
  await expect(fetch(`${base}/healthz`)).rejects.toThrow();
});

test('a peer that speaks no HTTP, or breaks off, leaves the server standing', async () => {
  for (const text of [
    '\x01\x02\x03 nonsense\r\n\r\n',
    'POST /v1/migrations HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{',
  ]) {
    const s = connectTcp(http.port, '127.0.0.1');
    s.on('error', () => undefined);
    s.write(text);
    await new Promise((r) => setTimeout(r, 20));
    s.destroy();
  }
  expect((await fetch(`${base}/healthz`)).status).toBe(200);
});

describe('a token that expires', () => {
  const made = (lifeMs: number, host?: string) => {
    const now = clock.now();
    return signToken(token, { madeAtMs: now, expiresAtMs: now + lifeMs, ...(host === undefined ? {} : { host }) });
  };
  const as = (t: string) => ({ authorization: `Bearer ${t}` });

  test('is refused afterwards with the time and the cure, also at the doors', async () => {
    const t = made(60_000);
    expect((await call('GET', '/v1/status', undefined, as(t))).status).toBe(200);
    clock.advance(60_000);
    const refused = await call('GET', '/v1/status', undefined, as(t));
    expect(refused).toMatchObject({ status: 401, body: { error: { code: 'TOKEN_EXPIRED' } } });
    expect(refused.body.error?.message).toMatch(
      /expired at .*Z, and it is .*Z: make another with `fairway token make`/,
    );
    for (const path of ['/feed', `/feed?token=${t}`, '/agent']) {
      const door = await upgrade(path, path.includes('?') ? {} : as(t));
      expect([door.status, JSON.parse(door.body).error.code]).toEqual([401, 'TOKEN_EXPIRED']);
    }
  });

  test('ends the connections that came in with it, warned of before; others stay', async () => {
    const a = await upgrade('/feed', as(made(5_000)));
    const b = await upgrade('/feed', bearer);
    await Promise.all([a.first, b.first]);
    let ended: [number, string] | undefined;
    a.ws?.on('close', (code, why) => {
      ended = [code, String(why)];
    });
    const said = (event: string) => log.mock.calls.filter(([, e]) => e === event);
    clock.advance(3_900);
    expect(said('token.expiresSoon')).toEqual([]);
    clock.advance(200);
    expect(said('token.expiresSoon')).toMatchObject([['warn', 'token.expiresSoon', { door: 'feed', host: null }]]);
    expect(ended).toBeUndefined();
    clock.advance(900);
    await until(() => ended !== undefined, 'it is ended');
    expect(ended).toEqual([4001, expect.stringMatching(/^the token expired at /)]);
    await until(() => feed.readers < 2, 'the feed has let it go');
    expect(feed.readers).toBe(1);
  });

  test("of one host's agent lets that agent in, and nobody else", async () => {
    const t = made(60_000, 'hv1');
    for (const path of ['/v1/status', '/v1/policy']) {
      expect(await call('GET', path, undefined, as(t))).toMatchObject({
        status: 403,
        body: { error: { code: 'TOKEN_FOR_AGENT', message: expect.stringContaining('agent of hv1 only') } },
      });
    }
    expect((await upgrade('/feed', as(t))).status).toBe(403);
    const hello = (host: string) =>
      JSON.stringify({
        type: 'hello',
        protocol: AGENT_PROTOCOL,
        host,
        driver: 'none',
        techniques: [],
        guests: [],
        migrations: [],
      });
    const own = await upgrade('/agent', as(t));
    own.ws?.send(hello('hv1'));
    expect(JSON.parse(await own.first)).toMatchObject({ type: 'welcome' });
    const other = await upgrade('/agent', as(t));
    other.ws?.send(hello('hv2'));
    expect(JSON.parse(await other.first)).toMatchObject({
      type: 'refused',
      reason: expect.stringContaining('its token is for hv1 and not for hv2'),
    });
    expect(agents.hosts).toEqual(['hv1']);
    let closed = 0;
    for (const x of [own, other])
      x.ws?.on('close', () => {
        closed++;
      });
    await http.close();
    await until(() => closed === 2, 'both are closed');
  });
});

test('a port in use is told with the cure', async () => {
  const again = startHttp({
    host: '127.0.0.1',
    port: http.port,
    token,
    log,
    clock,
    version: '1',
    feed,
    agents,
    handlers: {
      status: () => status,
      migrate: async () => ({ migrations: [], group: null }),
      evacuate: async () => evacuation,
      migration: () => undefined,
      cancel: async () => null,
      pull: async () => migration,
      policy: () => policy,
      patchPolicy: async () => policy,
      policyHistory: () => history,
    },
  });
  await expect(again).rejects.toMatchObject({ code: 'HTTP_LISTEN', message: expect.stringContaining('is in use') });
});
