/** The Redis policy store against a real redis-server, which is killed, restarted, emptied and set back on the way. */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { DEFAULT_POLICY } from '../../contracts/policy.ts';
import { policyCodec } from '../../controller/io/policyStores/index.ts';
import { freePort } from '../freePort.ts';
import { gate } from './gate.ts';
import { until } from './privateOvs.ts';
import { openStore, type Patience, RedisServer, whyNoRedis } from './privateRedis.ts';

const { reason, real, named } = gate(whyNoRedis());
jest.setTimeout(600_000);

let server: RedisServer;
let url: string;
let opened: ReturnType<typeof openStore>[] = [];
const use = (patience?: Patience) => {
  const o = openStore(url, patience);
  opened.push(o);
  return o;
};

beforeEach(async () => {
  if (reason !== undefined) return;
  server = new RedisServer(await freePort());
  url = `redis://127.0.0.1:${server.port}`;
  await server.start();
});
afterEach(async () => {
  for (const o of opened) await o.store.close();
  opened = [];
  await server?.stop();
  if (server) rmSync(server.dir, { recursive: true, force: true });
});

real(named('the first start writes every field; an edit by redis-cli takes effect and is confirmed'), async () => {
  const { told, start, store } = use();
  expect(await start()).toMatchObject({ doc: DEFAULT_POLICY, status: { state: 'accepted', revision: 1 } });
  expect(store.connected).toBe(true);
  expect(Number(server.cli('hlen', 'fairway:policy'))).toBe(Object.keys(policyCodec.flatten(DEFAULT_POLICY)).length);
  expect(server.field('reservation.medium')).toBe('capacity - clamp(rate, floor, ceiling)');

  server.cli('hset', 'fairway:policy', 'reservation.medium', 'capacity / 4', 'strategy.contention.high', '0.9');
  await until(() => told.doc.reservation.medium === 'capacity / 4', 'the edit is in force');
  expect(told.doc.strategy.contention.high).toBe(0.9);
  expect(told.status).toMatchObject({ state: 'accepted', revision: 2 });
  await until(() => server.status('revision') === '2', 'the status is written');
  expect(server.status('state')).toBe('accepted');
});

real(named('a refused edit changes nothing, says which field and why, and is taken once corrected'), async () => {
  const { told, start, store } = use();
  await start();
  server.cli('hset', 'fairway:policy', 'reservation.low', 'capacity - import("x")', 'limits.perHostOut', '3');
  await until(() => server.status('state') === 'refused', 'the edit is refused');
  expect(server.status('field')).toBe('reservation.low');
  expect(server.status('reason')).toMatch(/^reservation\.low: ./);
  expect(told.status).toMatchObject({ state: 'refused', revision: 1, reason: server.status('reason') });
  expect(told.doc).toEqual(DEFAULT_POLICY);
  expect(told.changes).toBe(0);

  // A patch of another field works meanwhile, and the broken one stays refused.
  await store.patch({ 'limits.perHostIn': 5 });
  expect(told.doc.limits.perHostIn).toBe(5);
  expect(server.field('limits.perHostIn')).toBe('5');
  await until(() => server.status('state') === 'refused', 'the broken field is refused again');
  expect(told.doc.reservation.low).toBe(DEFAULT_POLICY.reservation.low);

  server.cli('hset', 'fairway:policy', 'reservation.low', 'capacity - rate');
  await until(() => server.status('state') === 'accepted', 'the corrected edit is accepted');
  expect(told.doc.limits).toMatchObject({ perHostOut: 3, perHostIn: 5 });
  expect(server.status('reason')).toBe('');
});

real(named('a patch is all or nothing and visible in Redis; one that names the broken field mends it'), async () => {
  const { told, start, store } = use();
  await start();
  const id = '0000000000000001:2';
  await store.patch({ [`sla.links.${id}.floor`]: '100 Mbit/s', 'reservation.periodMs': 500 });
  expect(server.field(`sla.links.${id}.floor`)).toBe('100 Mbit/s');
  expect(server.field('reservation.periodMs')).toBe('500');
  expect(told.status).toMatchObject({ state: 'accepted', revision: 2 });
  await store.patch({ [`sla.links.${id}`]: null });
  expect(server.cli('hkeys', 'fairway:policy')).not.toContain(id);
  expect(told.doc.sla.links).toEqual({});

  const before = server.cli('hgetall', 'fairway:policy');
  await expect(store.patch({ 'reservation.periodMs': 700, 'reservation.low': 'nonsense(' })).rejects.toMatchObject({
    code: 'POLICY_INVALID',
  });
  expect(server.cli('hgetall', 'fairway:policy')).toBe(before);
  expect(told.status).toMatchObject({ revision: 3 });

  server.cli('hset', 'fairway:policy', 'marks.low', '99');
  await until(() => server.status('state') === 'refused', 'the edit is refused');
  await store.patch({ 'marks.low': DEFAULT_POLICY.marks.low });
  await until(() => server.field('marks.low') === '14', 'the hash is mended');
  await new Promise((r) => setTimeout(r, 300));
  expect(server.status('state')).toBe('accepted');
});

real(named('a field deleted by hand has its default and is shown again'), async () => {
  const { told, start, store } = use();
  await start();
  await store.patch({ 'technique.hybridPasses': 7 });
  server.cli('hdel', 'fairway:policy', 'technique.hybridPasses');
  await until(() => told.doc.technique.hybridPasses === 2, 'the default is in force');
  await until(() => server.field('technique.hybridPasses') === '2', 'the field is shown');
  expect(told.doc.technique.hybridPasses).toBe(2);
});

real(named('Redis away: the last good document stays, patches say so; back empty: it is written again'), async () => {
  const { told, start, store } = use();
  await start();
  server.cli('hset', 'fairway:policy', 'reservation.high', 'capacity - ceiling');
  await until(() => told.doc.reservation.high === 'capacity - ceiling', 'the edit is in force');
  await server.stop();
  await until(() => !store.connected, 'the store noticed');
  expect(told.doc.reservation.high).toBe('capacity - ceiling');
  await expect(store.patch({ 'limits.perHostIn': 5 })).rejects.toMatchObject({
    code: 'POLICY_STORE_AWAY',
    labels: ['retryable'],
  });
  await expect(store.patch({ 'limits.nosuch': 5 })).rejects.toMatchObject({ code: 'POLICY_INVALID' });

  await server.start();
  await until(() => store.connected, 'the store is back');
  expect(server.field('reservation.high')).toBe('capacity - ceiling');
  expect(server.field('limits.perHostIn')).toBe('8');
  expect(server.status('revision')).toBe('2');
  await store.patch({ 'limits.perHostIn': 5 });
  expect(server.field('limits.perHostIn')).toBe('5');
});

real(
  named('back with older data: what was accepted since is written again, edits made meanwhile are taken'),
  async () => {
    const { told, start, store } = use();
    await start();
    await store.patch({ 'limits.perHostIn': 5 });
    server.cli('save');
    await store.patch({ 'limits.perHostOut': 6, 'reservation.periodMs': 900 });
    await server.stop();
    await until(() => !store.connected, 'the store noticed');
    // On a port of its own first, so that the edit is there before the store is back.
    const aside = new RedisServer(await freePort());
    rmSync(aside.dir, { recursive: true });
    Object.assign(aside, { dir: server.dir });
    await aside.start();
    expect(aside.field('limits.perHostOut')).toBe('8');
    aside.cli('hset', 'fairway:policy', 'limits.perHostIn', '7');
    aside.cli('save');
    await aside.stop();
    await server.start();
    await until(() => store.connected, 'the store is back');
    expect(told.doc.limits).toEqual({ perHostIn: 7, perHostOut: 6 });
    expect(told.doc.reservation.periodMs).toBe(900);
    expect(server.field('limits.perHostOut')).toBe('6');
    expect(server.field('limits.perHostIn')).toBe('7');
  },
);

real(named('emptied while connected: the document is written again'), async () => {
  const { told, start, store } = use();
  await start();
  await store.patch({ 'limits.perHostOut': 6 });
  server.cli('flushall');
  await until(() => server.field('limits.perHostOut') === '6', 'the document is written again');
  expect(told.doc.limits.perHostOut).toBe(6);
  expect(told.status).toMatchObject({ state: 'accepted', revision: 2 });
});

real(named('a server that holds the connection without answering counts as away'), async () => {
  const { store, start } = use({ commandTimeoutMs: 1_000 });
  await start();
  server.child?.kill('SIGSTOP');
  await until(() => !store.connected, 'the store noticed');
  await expect(store.patch({ 'limits.perHostIn': 5 })).rejects.toMatchObject({ code: 'POLICY_STORE_AWAY' });
  server.child?.kill('SIGCONT');
  await until(() => store.connected, 'the store is back');
});

real(
  named('a controller restarted while the hash holds a refused edit goes on with the last good document'),
  async () => {
    const first = use();
    await first.start();
    await first.store.patch({ 'limits.perHostOut': 6 });
    await first.store.close();
    server.cli('hset', 'fairway:policy', 'limits.perHostOut', 'many');
    const second = use();
    const { doc, status } = await second.start();
    expect(doc.limits.perHostOut).toBe(6);
    expect(status).toMatchObject({ state: 'refused', revision: 2 });
    expect(status.reason).toMatch(/^limits\.perHostOut: /);
    server.cli('hset', 'fairway:policy', 'limits.perHostOut', '9');
    await until(() => second.told.doc.limits.perHostOut === 9, 'the corrected edit is in force');
    expect(second.told.status).toMatchObject({ state: 'accepted', revision: 3 });
  },
);

real(named('started while Redis is away: defaults until it is there, then what it holds'), async () => {
  const first = use();
  await first.start();
  await first.store.patch({ 'limits.perHostOut': 6 });
  await first.store.close();
  server.cli('save');
  await server.stop();
  const second = use({ startTimeoutMs: 200 });
  expect((await second.start()).doc).toEqual(DEFAULT_POLICY);
  expect(second.store.connected).toBe(false);
  await server.start();
  await until(() => second.store.connected, 'the store is there');
  expect(second.told.doc.limits.perHostOut).toBe(6);
  expect(second.told.status).toMatchObject({ state: 'accepted', revision: 2 });
});

real(
  named('back empty, with one field edited before the store was back: the edit counts, nothing else is lost'),
  async () => {
    const { told, start, store } = use();
    await start();
    await store.patch({ 'limits.perHostOut': 6 });
    await server.stop();
    await until(() => !store.connected, 'the store noticed');
    const aside = new RedisServer(await freePort());
    rmSync(aside.dir, { recursive: true });
    Object.assign(aside, { dir: server.dir });
    await aside.start();
    aside.cli('hset', 'fairway:policy', 'limits.perHostIn', '7');
    aside.cli('save');
    await aside.stop();
    await server.start();
    await until(() => store.connected, 'the store is back');
    expect(told.doc.limits).toEqual({ perHostIn: 7, perHostOut: 6 });
    expect(server.field('limits.perHostOut')).toBe('6');
  },
);

real(
  named('hostile edits: each refused with its reason, the last good policy in force, and all in the history'),
  async () => {
    const { told, start, store } = use();
    await start();
    const hostile: [string, string, RegExp][] = [
      ['reservation.low', `capacity - ${'1+'.repeat(400_000)}1`, /characters long/],
      ['reservation.low', 'cov.constructor("return process")()', /must not contain/],
      ['reservation.low', 'import(capacity)', /calls import\(\)/],
      ['reservation.low', '-5 Mbit/s', /negative/],
      ['reservation.low', 'NaN', /NaN/],
      ['reservation.low', 'rate + 200 ms', /a rate and a time/],
      ['sla.default.floor', '100', /bare number/],
      ['overrides.guests.__proto__.sla.floor', '5 %', /no such field/],
      ['overrides.labels.t.a.extends', 't.a', /t\.a → t\.a/],
    ];
    for (const [field, value, words] of hostile) {
      const before = server.cli('hexists', 'fairway:policy', field) === '1' ? server.field(field) : undefined;
      // By standard input: a megabyte is too long for an argument.
      const args = ['-p', String(server.port), '-x', 'hset', 'fairway:policy', 'author', 'mallory', field];
      execFileSync('redis-cli', args, { input: value });
      await until(
        () => server.status('state') === 'refused' && words.test(server.status('reason')),
        `refused: ${field}`,
      );
      expect(told.doc).toEqual(DEFAULT_POLICY);
      expect(store.history()[0]).toMatchObject({ state: 'refused', author: 'mallory', via: 'redis' });
      if (before === undefined) server.cli('hdel', 'fairway:policy', field);
      else server.cli('hset', 'fairway:policy', field, before);
      await until(() => server.status('state') === 'accepted', 'undone');
    }
    expect(told.status?.revision).toBe(1);
    expect(server.cli('hexists', 'fairway:policy', 'author')).toBe('0');
    const newest = JSON.parse(server.cli('lindex', 'fairway:policy:history', '0')) as { changes: unknown[] };
    expect(newest.changes).toEqual([{ path: 'overrides.labels.t.a.extends', before: null, after: 't.a' }]);
  },
);

real(named('edits of several fields are one: together, or put together aside and renamed into place'), async () => {
  const { told, start, store } = use();
  await start();
  // Valid only together; put together in two steps that nobody sees.
  server.cli('hset', 'fairway:policy:staged', 'sla.default.floor', '90 %', 'author', 'alice');
  await new Promise((r) => setTimeout(r, 300));
  server.cli('hset', 'fairway:policy:staged', 'sla.default.ceiling', '95 %');
  expect(told.changes).toBe(0);
  server.cli('rename', 'fairway:policy:staged', 'fairway:policy:commit');
  await until(() => told.doc.sla.default.floor === '90 %', 'the commit is in force');
  expect(told.doc.sla.default).toEqual({ floor: '90 %', ceiling: '95 %' });
  expect(told.changes).toBe(1);
  expect(server.field('sla.default.ceiling')).toBe('95 %');
  expect(server.cli('exists', 'fairway:policy:commit')).toBe('0');
  expect(store.history()[0]).toMatchObject({ author: 'alice', via: 'redis', state: 'accepted', revision: 2 });

  server.cli('hset', 'fairway:policy:commit', 'sla.default.floor', '10 %', 'limits.perHostIn', 'many', 'author', 'bob');
  await until(() => server.status('state') === 'refused', 'the commit is refused');
  expect(told.doc.sla.default.floor).toBe('90 %');
  expect(server.field('sla.default.floor')).toBe('90 %');
  expect(server.cli('exists', 'fairway:policy:commit')).toBe('0');
  expect(store.history()[0]).toMatchObject({ author: 'bob', state: 'refused' });

  // One command, one edit; and the history outlives the controller.
  server.cli('hset', 'fairway:policy', 'sla.default.floor', '10 %', 'sla.default.ceiling', '20 %', 'author', 'carol');
  await until(() => told.doc.sla.default.floor === '10 %', 'the edit is in force');
  await until(() => server.cli('llen', 'fairway:policy:history') === '3', 'the history is written');
  await store.close();
  const second = use();
  await second.start();
  expect(second.store.history().map((e) => [e.author, e.state])).toEqual([
    ['carol', 'accepted'],
    ['bob', 'refused'],
    ['alice', 'accepted'],
  ]);
});
