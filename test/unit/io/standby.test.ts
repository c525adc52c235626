/** Two controllers: the rules of `controller/core/roles.ts`, and how they watch (`standby.ts`) and follow (`follow.ts`). */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer } from 'ws';
import { systemClock } from '../../../contracts/clock.ts';
import { silentLog } from '../../../contracts/log.ts';
import { isNewer, newest, type Standing, sameGeneration } from '../../../contracts/terms.ts';
import { isMissed, nextGeneration, verdict } from '../../../controller/core/roles.ts';
import { followJournal, JournalFeed } from '../../../controller/io/follow.ts';
import type { JournalEntry } from '../../../controller/io/journal.ts';
import { watchPeer } from '../../../controller/io/standby.ts';
import { ManualClock, settle } from './support.ts';

const NONE = 0xffff_ffff_ffff_ffffn;

async function until(holds: () => boolean): Promise<void> {
  for (let i = 0; i < 6000 && !holds(); i++) await new Promise((r) => setTimeout(r, 10));
  expect(holds()).toBe(true);
}

test('a generation id that is next is newer, also where ids go round', () => {
  for (const known of [0n, 1n, 0x7fff_ffff_ffff_ffffn, 0xffff_ffff_ffff_fffen])
    expect(BigInt.asIntN(64, nextGeneration(known) - known)).toBeGreaterThan(0n);
  expect(nextGeneration(NONE)).toBe(1n);
  expect(sameGeneration(5n)).toBe(5n);
  expect(sameGeneration(NONE)).toBe(0n);
  expect([isNewer(2n, 1n), isNewer(1n, 1n), isNewer(1n, 2n), isNewer(NONE, 1n), isNewer(1n, NONE)]).toEqual([
    true,
    false,
    false,
    false,
    true,
  ]);
  expect([newest(3n, NONE), newest(NONE, 3n), newest(NONE, NONE)]).toEqual([3n, 3n, 0n]);
});

describe('who is in charge', () => {
  const first = { configured: 'primary', isInCharge: true, term: 4n } as const;
  const second = { configured: 'standby', isInCharge: false, term: 4n } as const;
  const at = (isInCharge: boolean, term: bigint): Standing => ({ isInCharge, term });

  test('a controller in charge goes on, whether the other answers or not', () => {
    expect(verdict(first, undefined, 0)).toBe('goOn');
    expect(verdict(first, at(false, 4n), 0)).toBe('goOn');
    expect(verdict(first, at(true, 3n), 0)).toBe('goOn');
  });

  test('it steps down for a newer term, and of two in the same term the second does', () => {
    expect(verdict(first, at(true, 5n), 0)).toBe('stepDown');
    expect(verdict(first, at(false, 5n), 0)).toBe('stepDown');
    expect(verdict(first, at(true, 4n), 0)).toBe('goOn');
    expect(verdict({ ...second, isInCharge: true }, at(true, 4n), 0)).toBe('stepDown');
  });

  test('a standby takes over when nobody was in charge for five answers; the second gives the first time', () => {
    expect([isMissed(second, undefined), isMissed(second, at(true, 4n)), isMissed(second, at(true, 3n))]).toEqual([
      true,
      false,
      false,
    ]);
    expect(verdict(second, undefined, 4)).toBe('goOn');
    expect(verdict(second, undefined, 5)).toBe('takeOver');
    expect(verdict(second, at(false, 4n), 5)).toBe('goOn');
    expect(verdict(second, at(false, 4n), 10)).toBe('takeOver');
    expect(verdict({ ...first, isInCharge: false }, at(false, 4n), 5)).toBe('takeOver');
  });

  test('of two that stand by, the one with the older term waits for the other', () => {
    expect(isMissed(second, at(false, 5n))).toBe(false);
    expect(isMissed({ isInCharge: false, term: 5n }, at(false, 4n))).toBe(true);
  });
});

test('the peer is asked how it stands; what is no good answer counts as none', async () => {
  const answers = ['{"ok":true,"role":"standby","term":"7"}', '{"ok":true}', 'what?', '{"role":"boss"}'];
  let asked = 0;
  const http = createServer((request, response) => {
    expect(request.url).toBe('/healthz');
    response.statusCode = asked < answers.length ? 200 : 500;
    response.end(answers[asked++] ?? '{"role":"primary","term":"9"}');
  });
  await new Promise<void>((r) => http.listen(0, '127.0.0.1', r));
  const heard: (Standing | undefined)[] = [];
  // By the test's own time: a question that is open when the next is due counts as not answered.
  const clock = new ManualClock();
  const stop = watchPeer({
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    clock,
    onAnswer: (peer) => heard.push(peer),
  });
  for (let n = 1; n <= 6; n++) {
    clock.advance(1000);
    await until(() => heard.length === n);
  }
  // A controller that says nothing of a pair stands alone, and is in charge.
  expect(heard.slice(0, 2)).toEqual([
    { isInCharge: false, term: 7n },
    { isInCharge: true, term: 0n },
  ]);
  expect(heard.slice(2).every((h) => h === undefined)).toBe(true);
  stop();
  const before = asked;
  clock.advance(10_000);
  expect(clock.timers).toBe(0);
  await settle();
  expect(asked).toBe(before);
  http.closeAllConnections();
  await new Promise((r) => http.close(r));
});

test('a journal is followed: the whole, then each entry, and anew after the connection was lost', async () => {
  const door = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await new Promise((r) => door.once('listening', r));
  const feed = new JournalFeed(silentLog);
  let term = 3n;
  const whole: object[] = [
    { type: 'term', term: '3' },
    { type: 'job', big: 7n },
  ];
  const tokens: unknown[] = [];
  door.on('connection', (ws, request) => {
    tokens.push(request.headers.authorization);
    feed.attach(ws, term, whole);
  });
  const wholes: { term: bigint; entries: JournalEntry[] }[] = [];
  const news: JournalEntry[] = [];
  const logged: string[] = [];
  const stop = followJournal({
    url: `http://127.0.0.1:${(door.address() as AddressInfo).port}`,
    token: 'secret',
    clock: systemClock(20),
    log: (_level, event) => logged.push(event),
    accepts: (t) => t >= 3n,
    onWhole: (t, entries) => wholes.push({ term: t, entries }),
    onEntry: (e) => news.push(e),
  });
  await until(() => wholes.length === 1);
  expect(wholes[0]).toEqual({
    term: 3n,
    entries: [
      { type: 'term', term: '3' },
      { type: 'job', big: '7' },
    ],
  });
  feed.tell({ type: 'job', job: { id: 'a' } });
  await until(() => news.length === 1);
  expect(news).toEqual([{ type: 'job', job: { id: 'a' } }]);

  // Lost, and there again with a journal of a term that is over, which is not taken.
  term = 2n;
  feed.close();
  await until(() => logged.includes('journal.not-followed'));
  expect(wholes).toHaveLength(1);
  term = 4n;
  await until(() => wholes.length === 2);
  expect(wholes[1]?.term).toBe(4n);
  expect(new Set(tokens)).toEqual(new Set(['Bearer secret']));
  stop();
  for (const ws of door.clients) ws.terminate();
  await new Promise((r) => door.close(r));
});
