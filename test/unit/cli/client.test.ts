/** The client against a controller that answers as the test says. */
import { FairwayClient } from '../../../cli/client.ts';
import type { FeedEnvelope } from '../../../contracts/feed.ts';
import { type FakeController, fakeController, POLICY_VIEW, TOKEN } from './fakeController.ts';

let fake: FakeController;
beforeEach(async () => {
  fake = await fakeController();
});
afterEach(() => fake.close());

const client = (token = TOKEN, timeoutMs = 5000) => new FairwayClient({ url: `${fake.url}/`, token, timeoutMs });

describe('requests', () => {
  test('carry token and body, and give back the checked answer', async () => {
    fake.answer = { status: 202, body: JSON.stringify({ migrations: [{ id: 'm1', guest: 'g1' }], group: null }) };
    const moves = [{ guest: 'g1', destination: 'h2' }];
    expect(await client().migrate({ moves, priority: 'high' })).toEqual({
      migrations: [{ id: 'm1', guest: 'g1' }],
      group: null,
    });
    expect(fake.requests).toEqual([
      { line: 'POST /v1/migrations', token: `Bearer ${TOKEN}`, body: JSON.stringify({ moves, priority: 'high' }) },
    ]);
  });

  test('read and patch the policy', async () => {
    fake.answer = { status: 200, body: JSON.stringify(POLICY_VIEW) };
    expect((await client().policy()).store).toBe('memory');
    await client().patchPolicy({ 'reservation.low': 'capacity' });
    expect(fake.requests[1]).toMatchObject({ line: 'PATCH /v1/policy', body: '{"reservation.low":"capacity"}' });
  });

  test.each([
    [400, 'badInput'],
    [404, 'notFound'],
    [409, 'conflict'],
    [503, 'retryable'],
  ] as const)('status %i is the error the controller wrote, labelled %s', async (status, label) => {
    fake.answer = { status, body: JSON.stringify({ error: { code: 'x.y', message: 'because' } }) };
    await expect(client().cancel('m1')).rejects.toMatchObject({ code: 'x.y', message: 'because', labels: [label] });
  });

  test('an unauthorised request names the cure and not the token', async () => {
    fake.answer = { status: 401, body: '{}' };
    const error = await client('wrong-secret')
      .status()
      .catch((e: Error) => e);
    expect(error).toMatchObject({ code: 'client.unauthorized', labels: ['unauthorized'] });
    expect(String(error)).toContain('FAIRWAY_TOKEN');
    expect(String(error)).not.toContain('wrong-secret');
  });

  test('an answer of another shape is refused with its key', async () => {
    fake.answer = { status: 200, body: JSON.stringify({ ...POLICY_VIEW, store: 7 }) };
    await expect(client().policy()).rejects.toMatchObject({
      code: 'client.unreadable',
      message: expect.stringContaining('store'),
    });
  });

  test('nobody there: unreachable, retryable', async () => {
    const gone = client();
    await fake.close();
    await expect(gone.status()).rejects.toMatchObject({ code: 'client.unreachable', labels: ['retryable'] });
    expect(await gone.isUp()).toBe(false);
  });
});

describe('the feed', () => {
  const heartbeat = (seq: number) => JSON.stringify({ v: 1, seq, atMs: 1, kind: 'heartbeat' });

  test('asks for the topics and hands over envelopes until aborted', async () => {
    const paths: string[] = [];
    fake.onFeed = (socket, path) => {
      paths.push(path);
      socket.send(JSON.stringify({ v: 1, seq: 1, atMs: 1, kind: 'snapshot', topic: 'policy', data: POLICY_VIEW }));
      socket.send(heartbeat(2));
    };
    const stop = new AbortController();
    const seen: FeedEnvelope[] = [];
    await client().follow(
      ['policy', 'rates'],
      (e) => {
        seen.push(e);
        if (e.seq === 2) stop.abort();
      },
      stop.signal,
    );
    expect(paths).toEqual(['/feed?topics=policy,rates']);
    expect(seen.map((e) => e.kind)).toEqual(['snapshot', 'heartbeat']);
  });

  test('closed by the controller: rejects as retryable', async () => {
    fake.onFeed = (socket) => socket.close(1012, 'restart');
    await expect(client().follow([], () => {})).rejects.toMatchObject({
      code: 'client.closed',
      message: expect.stringContaining('1012: restart'),
      labels: ['retryable'],
    });
  });

  test('silent for longer than the timeout: rejects as retryable', async () => {
    await expect(client(TOKEN, 100).follow([], () => {})).rejects.toMatchObject({ code: 'client.silent' });
  });

  test('a wrong token is unauthorised, an unknown envelope unreadable', async () => {
    await expect(client('wrong').follow([], () => {})).rejects.toMatchObject({ code: 'client.unauthorized' });
    fake.onFeed = (socket) => socket.send('{"v":1,"kind":"surprise"}');
    await expect(client().follow([], () => {})).rejects.toMatchObject({ code: 'client.unreadable' });
  });

  test('what the reader throws ends the following and is passed on', async () => {
    fake.onFeed = (socket) => socket.send(heartbeat(1));
    const thrown = new Error('enough');
    await expect(
      client().follow([], () => {
        throw thrown;
      }),
    ).rejects.toBe(thrown);
  });

  test('an already aborted signal opens nothing', async () => {
    let opened = 0;
    fake.onFeed = () => {
      opened++;
    };
    await client().follow([], () => {}, AbortSignal.abort());
    expect(opened).toBe(0);
  });
});
