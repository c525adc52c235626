/**
 * Hostile edits through a real redis-server: whatever is written into the keys of the policy, each edit is refused with its
 * reason in `…policy:status`, the last good document stays in force, and the history stays whole. One server for all.
 */
import { rmSync } from 'node:fs';
import { Redis } from 'ioredis';
import { DEFAULT_POLICY, type PolicyDocument } from '../../contracts/policy.ts';
import { freePort } from '../freePort.ts';
import { gate } from './gate.ts';
import { until } from './privateOvs.ts';
import { openStore, RedisServer, whyNoRedis } from './privateRedis.ts';

const { reason, real, named } = gate(whyNoRedis());
jest.setTimeout(600_000);

const HASH = 'fairway:policy';
const STATUS = `${HASH}:status`;
const HISTORY = `${HASH}:history`;
const COMMIT = `${HASH}:commit`;
const LAST_GOOD = `${HASH}:last-good`;

let server: RedisServer;
let redis: Redis;
let opened: ReturnType<typeof openStore>;
/** The document in force before a hostile edit: not the default one, so that a fall back to that would be seen. */
let good: PolicyDocument;

beforeAll(async () => {
  if (reason) return;
  server = new RedisServer(await freePort());
  await server.start();
  redis = new Redis(server.port, '127.0.0.1');
  opened = openStore(`redis://127.0.0.1:${server.port}`);
  await opened.start();
  await opened.store.patch({ 'limits.perHostOut': 6 }, 'alice');
  good = opened.told.doc;
});
afterAll(async () => {
  await opened?.store.close();
  redis?.disconnect();
  await server?.stop();
  if (server) rmSync(server.dir, { recursive: true, force: true });
});

/** Asks until something holds. */
const soon = async (holds: () => Promise<boolean>, what: string) => {
  for (const untilMs = Date.now() + 30_000; !(await holds()); ) {
    if (Date.now() > untilMs)
      throw new Error(`waited in vain: ${what}; ${JSON.stringify(await redis.hgetall(STATUS))}`);
    await new Promise((r) => setTimeout(r, 20));
  }
};
const status = async (field: string) => (await redis.hget(STATUS, field)) ?? '';
const refused = (why: RegExp) =>
  soon(async () => (await status('state')) === 'refused' && why.test(await status('reason')), `refused for ${why}`);
const accepted = () => soon(async () => (await status('state')) === 'accepted', 'accepted');

/** What holds after every hostile edit: the document in force, and every edit before in the history, the newest first. */
async function unharmed(): Promise<void> {
  expect(opened.told.doc).toEqual(good);
  const [newest] = opened.store.history();
  expect(newest).toMatchObject({ state: 'refused', via: 'redis', reason: opened.told.status?.reason });
  expect(opened.store.history().some((e) => e.author === 'alice' && e.state === 'accepted')).toBe(true);
  const kept = (await redis.lrange(HISTORY, 0, -1)).map((text) => JSON.parse(text));
  expect(kept).toEqual(opened.store.history());
  for (const text of [await status('reason'), JSON.stringify(newest)]) {
    expect(text.length).toBeLessThan(25_000);
    expect([...text].some((c) => c < ' ' || c === '\x7f')).toBe(false);
  }
}

type Fields = Record<string, string | Buffer>;
const garbage = Buffer.from([0xff, 0xfe, 0x00, 0x1b, 0x5b, 0x32, 0x4a, 0xc3, 0x28, 0x80]);
const many = (n: number, of: (i: number) => [string, string]): Fields =>
  Object.fromEntries(Array.from({ length: n }, (_, i) => of(i)));

const HOSTILE: [string, Fields, RegExp][] = [
  [
    'an expression of a megabyte',
    { 'reservation.low': `capacity${' - 1'.repeat(250_000)}` },
    /^reservation\.low: .*characters long/,
  ],
  [
    'a list of a megabyte',
    { 'technique.allowed': `[${'"hybrid",'.repeat(120_000)}"hybrid"]` },
    /^technique\.allowed: .*characters long/,
  ],
  ['a path of a megabyte', { [`limits.${'x'.repeat(1_000_000)}`]: '1' }, /a path has at most/],
  ['a prototype', { '__proto__.polluted': 'yes' }, /^__proto__\.polluted: there is no such field/],
  ['a prototype below a map', { 'overrides.guests.__proto__.sla.floor': '5 %' }, /no such field/],
  ['a prototype in a text', { 'overrides.guests': '{"__proto__":{"sla":{"floor":"5 %"}}}' }, /__proto__: no field/],
  ['a constructor as a field', { 'constructor.prototype.polluted': 'yes' }, /^constructor.*no such field/],
  ['a constructor in an expression', { 'reservation.low': 'capacity.constructor("x")' }, /^reservation\.low: /],
  ['NaN as a number', { 'limits.perHostIn': 'NaN' }, /^limits\.perHostIn: must be a number/],
  ['infinity as a number', { 'reservation.minSliceBps': 'Infinity' }, /^reservation\.minSliceBps: must be a number/],
  ['infinity by overflow', { 'reservation.minSliceBps': '1e999' }, /^reservation\.minSliceBps: /],
  ['minus infinity', { 'reservation.weights.low': '-Infinity' }, /^reservation\.weights\.low: must be a number/],
  ['a division by nothing', { 'reservation.low': 'capacity / 0' }, /^reservation\.low: /],
  ['a negative rate', { 'reservation.low': '-5 Mbit/s' }, /^reservation\.low: .*negative/],
  ['a negative number', { 'technique.cost.harm.low': '-1' }, /^technique\.cost\.harm\.low: /],
  ['an amount for a rate', { 'sla.default.floor': '100 Mbit' }, /^sla\.default\.floor: /],
  ['a rate for a time', { 'reservation.periodMs': '10 Mbit/s' }, /^reservation\.periodMs: /],
  ['a time in a rate', { 'reservation.high': 'capacity - 3 s' }, /^reservation\.high: .*a rate and a time/],
  ['a bare number for a rate', { 'sla.default.ceiling': '100' }, /^sla\.default\.ceiling: .*bare number/],
  [
    'labels in a circle of three',
    {
      'overrides.labels.t.a.extends': 't.b',
      'overrides.labels.t.b.extends': 't.c',
      'overrides.labels.t.c.extends': 't.a',
    },
    /in a circle: t\.a → t\.b → t\.c → t\.a/,
  ],
  ['garbage as a value', { 'reservation.low': garbage }, /^reservation\.low: /],
  ['garbage as a list', { 'finish.labelVlans': garbage }, /^finish\.labelVlans: is not JSON/],
  ['thousands of fields that are none', many(20_000, (i) => [`x${i}`, '1']), /more than 10000 fields/],
  [
    'thousands of guests',
    many(3_000, (i) => [`overrides.guests.g${i}.sla.floor`, '5 %']),
    /^overrides: has 3000 entries; at most 2000/,
  ],
];

real.each(HOSTILE)(named('%s'), async (_, fields, why) => {
  const keys = Object.keys(fields);
  const before = await redis.hmget(HASH, ...keys);
  await redis.hset(HASH, fields);
  await refused(why);
  expect(await status('revision')).toBe('2');
  await unharmed();
  const undone = Object.fromEntries(keys.flatMap((k, i) => (before[i] == null ? [] : [[k, before[i] as string]])));
  const gone = keys.filter((k) => !(k in undone));
  const multi = redis.multi();
  if (gone.length > 0) multi.hdel(HASH, ...gone);
  if (Object.keys(undone).length > 0) multi.hset(HASH, undone);
  await multi.exec();
  await accepted();
  expect(opened.told.doc).toEqual(good);
});

real(named('garbage as the name of a field'), async () => {
  await redis.hset(HASH, garbage, '1');
  await refused(/no such field/);
  await unharmed();
  await redis.hdel(HASH, garbage);
  await accepted();
});

real(named('a key of another kind in place of the policy: refused, and written again when it is removed'), async () => {
  const makes: [string, () => Promise<unknown>][] = [
    ['list', () => redis.rpush(HASH, 'limits.perHostOut', '1')],
    ['string', () => redis.set(HASH, '{"limits.perHostOut":1}')],
    ['zset', () => redis.zadd(HASH, 1, 'limits.perHostOut')],
  ];
  for (const [kind, make] of makes) {
    await redis.del(HASH);
    // Where the store was quicker, it has written the hash already.
    await soon(async () => {
      await redis.del(HASH);
      return make().then(
        () => true,
        () => false,
      );
    }, `a ${kind} is in its place`);
    await refused(new RegExp(`${HASH} is a ${kind}, not a hash`));
    await unharmed();
    await expect(opened.store.patch({ 'limits.perHostIn': 3 })).rejects.toMatchObject({
      code: 'POLICY_STORE_AWAY',
      message: expect.stringContaining(`is a ${kind}`),
    });
    await redis.del(HASH);
    await accepted();
    expect(await redis.hget(HASH, 'limits.perHostOut')).toBe('6');
    expect(opened.told.doc).toEqual(good);
  }
});

real(named('a commit that is no hash is refused and removed'), async () => {
  await redis.rpush(COMMIT, 'limits.perHostOut', '1');
  await refused(new RegExp(`${COMMIT} was a list`));
  await unharmed();
  await soon(async () => (await redis.exists(COMMIT)) === 0, 'it is removed');
  // What the store looks at meanwhile is as it was, and leaves the refusal to be read.
  const looks = async () => Number(/cmdstat_hgetall:calls=(\d+)/.exec(await redis.info('commandstats'))?.[1]);
  const seen = await looks();
  await soon(async () => (await looks()) > seen + 2, 'the store has looked again');
  expect(await status('state')).toBe('refused');
  await redis.hset(COMMIT, 'technique.cost.degraded', '0.8', 'author', 'carol');
  await until(() => opened.told.doc.technique.cost.degraded === 0.8, 'the edit is in force');
  await opened.store.patch({ 'technique.cost.degraded': 0.9 });
  expect(opened.told.doc).toEqual(good);
});

real(named('keys of ours that were made something else are written anew, the history whole'), async () => {
  const before = opened.store.history();
  await redis
    .multi()
    .del(HISTORY, STATUS, LAST_GOOD)
    .set(HISTORY, 'x')
    .rpush(STATUS, 'x')
    .hset(LAST_GOOD, 'x', 'y')
    .exec();
  // An edit by hand is what makes the store look at them.
  await redis.hset(HASH, 'limits.perHostOut', '7');
  await until(() => opened.told.doc.limits.perHostOut === 7, 'the edit is in force');
  await soon(async () => (await redis.type(HISTORY)) === 'list', 'the history is a list again');
  await soon(async () => (await redis.type(STATUS)) === 'hash', 'the status is a hash again');
  await soon(async () => (await redis.type(LAST_GOOD)) === 'string', 'the last good one is there again');
  await accepted();
  await redis.hset(HASH, 'limits.perHostOut', '6');
  await until(() => opened.told.doc.limits.perHostOut === 6, 'undone');
  await soon(async () => (await redis.llen(HISTORY)) === Math.min(100, before.length + 2), 'the history is whole');
  const kept = (await redis.lrange(HISTORY, 0, -1)).map((text) => JSON.parse(text));
  expect(kept).toEqual(opened.store.history());
  expect(kept.slice(2)).toEqual(before.slice(0, 98));
});

real(
  named('edits of two fields that are right only together, while others write: no half of one is ever in force'),
  async () => {
    const pairs = new Map<string, string>();
    const seen = new Set<string>();
    const torn: string[] = [];
    const watch = setInterval(() => {
      const { floor, ceiling } = opened.told.doc.sla.default;
      seen.add(`${floor}`);
      if (pairs.get(`${floor}`) !== `${ceiling}`) torn.push(`${floor} – ${ceiling}`);
    }, 1);
    pairs.set(`${good.sla.default.floor}`, `${good.sla.default.ceiling}`);
    const other = new Redis(server.port, '127.0.0.1');
    try {
      for (let i = 0; i < 30; i++) {
        const [floor, ceiling] = i % 2 === 0 ? [`${80 + (i % 10)} %`, '95 %'] : [`${5 + (i % 10)} %`, '20 %'];
        pairs.set(floor as string, ceiling as string);
        const noise = other.hset(HASH, 'limits.perHostIn', String(1 + (i % 7)));
        if (i % 3 === 0)
          await redis
            .multi()
            .hset(HASH, 'sla.default.floor', floor as string)
            .hset(HASH, 'sla.default.ceiling', ceiling as string)
            .exec();
        else if (i % 3 === 1)
          await redis.hset(HASH, { 'sla.default.floor': floor, 'sla.default.ceiling': ceiling, author: `a${i}` });
        else {
          await redis.hset(`${HASH}:staged`, 'sla.default.floor', floor as string);
          await redis.hset(`${HASH}:staged`, 'sla.default.ceiling', ceiling as string);
          await redis.rename(`${HASH}:staged`, COMMIT);
        }
        await noise;
        // Now and then the store has time to take it, on a busy machine too; a commit is the last thing it takes.
        if (i % 6 === 5) await until(() => opened.told.doc.sla.default.floor === floor, 'the edit is in force');
        else await new Promise((r) => setTimeout(r, (i * 37) % 120));
      }
      await soon(
        async () => (await redis.exists(COMMIT)) === 0 && (await status('state')) === 'accepted',
        'all is taken',
      );
    } finally {
      clearInterval(watch);
      other.disconnect();
    }
    expect(torn).toEqual([]);
    expect(seen.size).toBeGreaterThan(5);
    const { floor, ceiling } = DEFAULT_POLICY.sla.default;
    await opened.store.patch({ 'sla.default.floor': floor, 'sla.default.ceiling': ceiling, 'limits.perHostIn': 8 });
    await until(() => JSON.stringify(opened.told.doc) === JSON.stringify(good), 'as before');
  },
);

real(named('a server that takes no writes: nothing changes, and edits work when it takes them again'), async () => {
  await redis.replicaof('127.0.0.1', 1);
  await expect(opened.store.patch({ 'limits.perHostOut': 3 })).rejects.toMatchObject({ code: 'POLICY_STORE_AWAY' });
  expect(opened.told.doc).toEqual(good);
  const history = opened.store.history();
  await redis.replicaof('NO', 'ONE');
  await until(() => opened.store.connected, 'it is back');
  expect(opened.store.history()).toEqual(history);
  await opened.store.patch({ 'limits.perHostOut': 5 });
  expect(await redis.hget(HASH, 'limits.perHostOut')).toBe('5');
  await opened.store.patch({ 'limits.perHostOut': 6 });
});

real(
  named('emptied and started anew with something else in place of the policy: the last good one goes on'),
  async () => {
    const history = opened.store.history();
    await redis.multi().flushall().rpush(HASH, 'x').exec();
    await refused(/is a list, not a hash/);
    expect(opened.told.doc).toEqual(good);
    expect((await redis.lrange(HISTORY, 0, -1)).length).toBeGreaterThan(0);
    await redis.del(HASH);
    await accepted();
    expect(await redis.hget(HASH, 'limits.perHostOut')).toBe('6');
    const all = (await redis.lrange(HISTORY, 0, -1)).map((text) => JSON.parse(text));
    expect(all).toEqual(opened.store.history());
    expect(all.slice(1)).toEqual(history.slice(0, 99));

    // A controller that starts while it is so takes the last good document from its own key.
    await redis.multi().del(HASH).set(HASH, 'x').exec();
    await refused(/is a string, not a hash/);
    await opened.store.close();
    opened = openStore(`redis://127.0.0.1:${server.port}`);
    const { doc, status: first } = await opened.start();
    expect(doc).toEqual(good);
    expect(first).toMatchObject({ state: 'refused', reason: expect.stringMatching(/is a string/) });
    await redis.del(HASH);
    await accepted();
    expect(opened.store.history().some((e) => e.author === 'alice')).toBe(true);
  },
);
