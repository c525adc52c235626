/** `fairway pull` against a controller that answers as the test says, and what `status` and `explain` show of pulls. */
import { explanationText } from '../../../cli/commands/explain.ts';
import { run } from '../../../cli/program.ts';
import { EXIT } from '../../../cli/terminal.ts';
import type { Explanation, MigrationView, PullView } from '../../../contracts/feed.ts';
import { type FakeController, fakeController, TOKEN } from './fakeController.ts';
import { change, screen, view } from './samples.ts';

const GB = 1e9;
const pulling = (pull: Partial<PullView> = {}, more: Partial<MigrationView> = {}): MigrationView =>
  view({
    state: 'done',
    options: { storage: 'on-demand' },
    ...more,
    pull: {
      state: 'running',
      rateBps: 80e6,
      sliceBps: 80e6,
      pacedBps: 72e6,
      doneBytes: GB / 4,
      totalBytes: GB,
      fetchedBytes: GB / 4,
      askedAtMs: 0,
      endedAtMs: null,
      note: null,
      reason: null,
      ...pull,
    },
  });

let fake: FakeController;
beforeEach(async () => {
  fake = await fakeController();
  answering(200, pulling());
});
afterEach(() => fake.close());

const answering = (status: number, body: unknown) => {
  fake.answer = { status, body: JSON.stringify(body) };
};
function begin(argv: string[], columns?: number) {
  const s = screen(columns, { FAIRWAY_TOKEN: TOKEN });
  return { ...s, status: run(['pull', ...argv, '--url', fake.url], s.terminal) };
}
async function call(...argv: string[]) {
  const s = begin(argv);
  return { status: await s.status, out: s.out(), err: s.err() };
}
const asked = () => fake.requests.map((r) => `${r.line}${r.body === '' ? '' : ` ${r.body}`}`);
const LINE = `web1          pull  [${'#'.repeat(6)}${'·'.repeat(18)}]  25 %  running at 72.0 Mbit/s, 250.0 MB of 1.00 GB, at most 83.3 s to go\n`;

test('--rate begins or changes it, --stop ends it, and neither only shows how far it is', async () => {
  expect(await call('m1', '--rate', '80 Mbit/s')).toEqual({ status: EXIT.ok, out: LINE, err: '' });
  expect(await call('m1', '--stop')).toMatchObject({ status: EXIT.ok });
  expect(await call('m1')).toMatchObject({ status: EXIT.ok, out: LINE });
  expect(JSON.parse((await call('m1', '--json')).out)).toMatchObject({ id: 'm1', pull: { state: 'running' } });
  expect(asked()).toEqual([
    ...['GET /v1/migrations/m1', 'POST /v1/migrations/m1/pull {"rate":80000000}'],
    ...['GET /v1/migrations/m1', 'DELETE /v1/migrations/m1/pull'],
    ...['GET /v1/migrations/m1', 'GET /v1/migrations/m1'],
  ]);
});

test('what contradicts itself or is no rate is refused before anything is asked', async () => {
  for (const argv of [
    ['--stop', '--rate', '1Mbit/s'],
    ['--stop', '--wait'],
    ['--rate', 'fast'],
    ['--rate', '1 kbit/s'],
  ])
    expect(await call('m1', ...argv)).toMatchObject({ status: EXIT.usage, out: '' });
  expect(asked()).toEqual([]);
});

test('a migration without a pull says what to do, and what the controller refuses is told', async () => {
  answering(200, view({ state: 'done', options: { storage: 'on-demand' } }));
  expect(await call('m1')).toMatchObject({
    status: EXIT.failed,
    err: expect.stringMatching(/nobody pulls its disks: give --rate/),
  });
  answering(200, view({ state: 'done' }));
  expect(await call('m1')).toMatchObject({ status: EXIT.failed, err: expect.stringMatching(/left no disks behind/) });
  answering(404, { error: { code: 'NOT_FOUND', message: 'there is no migration m9' } });
  expect(await call('m9', '--rate', '1Mbit/s')).toMatchObject({ status: EXIT.usage });
});

const frames = [
  pulling({ state: 'waiting', pacedBps: null, note: 'it begins when the copy has ended' }),
  pulling(),
  pulling({ doneBytes: GB / 4 + 1e6 }),
  pulling({ doneBytes: GB / 2 }),
  pulling({ state: 'done', doneBytes: GB }),
];

test('--wait shows a line a tenth, and ends with it; on a screen one line is drawn anew', async () => {
  fake.onFeed = (socket) => {
    for (const f of frames) socket.send(JSON.stringify(change(f, view({ id: 'other' }))));
  };
  const plain = await call('m1', '--rate', '80 Mbit/s', '--wait');
  expect(plain.status).toBe(EXIT.ok);
  expect(plain.out.split('\n').map((l) => l.replace(/.*% {2}/, '').replace(/ at .*/, ''))).toEqual([
    ...[
      'running',
      'waiting: it begins when the copy has ended',
      'running',
      'running',
      'done, all of the disks is there',
      '',
    ],
  ]);
  const drawn = begin(['m1', '--wait'], 100);
  expect(await drawn.status).toBe(EXIT.ok);
  expect(drawn.out().split('\x1b[1A\x1b[2K')).toHaveLength(6);
  const quiet = await call('m1', '--wait', '--json');
  expect(JSON.parse(quiet.out)).toMatchObject({ pull: { state: 'done' } });
});

test('--wait fails when it ends otherwise, and an interrupt leaves it going on', async () => {
  fake.onFeed = (socket) =>
    socket.send(JSON.stringify(change(pulling({ state: 'failed', note: 'h2: no guest web1' }))));
  const failed = await call('m1', '--wait');
  expect(failed).toMatchObject({ status: EXIT.failed, out: expect.stringMatching(/failed: h2: no guest web1\n$/) });
  const cut = begin(['m1', '--wait']);
  fake.onFeed = (socket) => socket.send(JSON.stringify(change(pulling())), () => cut.interrupt());
  expect(await cut.status).toBe(EXIT.interrupted);
  expect(cut.err()).toContain('the pull goes on');
});

test('explain tells of it with the reason of its slice', () => {
  const reason = { rule: 'reservation.low', text: '80.0 Mbit/s: capacity - rate', inputs: {} };
  const m = pulling({ reason });
  const none = { waits: null, binding: null, technique: null, strategy: null, rate: null, end: null, changes: [] };
  const e: Explanation = { atMs: 0, summary: 'it is done', ...none };
  expect(explanationText(m, e)).toMatch(
    /pull +running at 72\.0 Mbit\/s, .* to go; asked for: 80\.0 Mbit\/s\n +slice 80\.0 Mbit\/s: capacity - rate \[reservation\.low\]/,
  );
});
