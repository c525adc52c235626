/** The commands that speak to a controller, against one that answers as the test says. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { run } from '../../../cli/program.ts';
import { EXIT } from '../../../cli/terminal.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import { type FakeController, fakeController, POLICY_VIEW, TOKEN } from './fakeController.ts';
import { change, screen, statusOf, topologyOf, view, waiting } from './samples.ts';

let fake: FakeController;
beforeEach(async () => {
  fake = await fakeController();
});
afterEach(() => fake.close());

function begin(...argv: string[]) {
  const s = screen(undefined, { FAIRWAY_TOKEN: TOKEN });
  return { ...s, status: run([...argv, '--url', fake.url], s.terminal) };
}
async function call(...argv: string[]) {
  const s = begin(...argv);
  return { status: await s.status, out: s.out(), err: s.err() };
}
const answering = (status: number, body: unknown) => {
  fake.answer = { status, body: JSON.stringify(body) };
};
const STARTED = {
  migrations: [
    { id: 'm1', guest: 'web1' },
    { id: 'm2', guest: 'web2' },
  ],
  group: 'g1',
};

describe('migrate', () => {
  test('asks for a group and prints what was started', async () => {
    answering(202, STARTED);
    const { status, out } = await call(
      'migrate',
      'web1,web2',
      '--to',
      'h2',
      '--priority',
      'high',
      '--strategy',
      'serial',
    );
    expect(status).toBe(EXIT.ok);
    expect(out).toBe('m1 web1 -> h2\nm2 web2 -> h2\n');
    expect(JSON.parse(fake.requests[0]?.body ?? '')).toEqual({
      moves: [
        { guest: 'web1', destination: 'h2' },
        { guest: 'web2', destination: 'h2' },
      ],
      priority: 'high',
      strategy: 'serial',
    });
  });

  test('copy options go with the request, and half of one is refused before anything is asked', async () => {
    answering(202, STARTED);
    const options = ['--technique', 'pre-copy', '--auto-converge', '--multifd', 'zstd', '--channels', '4'];
    await call('migrate', 'web1', '--to', 'h2', ...options);
    expect(JSON.parse(fake.requests[0]?.body ?? '')).toMatchObject({
      technique: 'pre-copy',
      options: { autoConverge: true, multifd: { channels: 4, compression: 'zstd' } },
    });
    fake.requests.length = 0;
    expect(await call('migrate', 'web1', '--to', 'h2', '--channels', '4')).toMatchObject({ status: EXIT.usage });
    expect(fake.requests).toEqual([]);
  });

  test.each([
    [['--storage', 'shared'], { storage: 'shared' }],
    [['--storage', 'mirrored'], { storage: 'mirrored' }],
    [['--storage', 'on-demand'], { storage: 'on-demand' }],
    [['--storage', 'on-demand', '--pull-rate', '80 Mbit/s'], { storage: 'on-demand', pullBps: 80e6 }],
    [
      ['--storage', 'on-demand', '--pull-rate', '1Gbit/s', '--xbzrle'],
      { storage: 'on-demand', pullBps: 1e9, xbzrle: true },
    ],
  ])('what becomes of the disks goes with the request: %j', async (given, options) => {
    answering(202, STARTED);
    expect((await call('migrate', 'web1', '--to', 'h2', ...given)).status).toBe(EXIT.ok);
    expect(JSON.parse(fake.requests[0]?.body ?? '')).toMatchObject({ options });
  });

  test.each([
    [['--storage', 'copied'], /argument 'copied' is invalid.*shared, mirrored, on-demand/],
    [['--pull-rate', '80 Mbit/s'], /--pull-rate is for --storage on-demand/],
    [['--storage', 'mirrored', '--pull-rate', '80 Mbit/s'], /--pull-rate is for --storage on-demand/],
    [['--storage', 'on-demand', '--pull-rate', 'fast'], /Say a rate such as 50Mbit\/s/],
    [['--storage', 'on-demand', '--pull-rate', '1 kbit/s'], /Say a rate such as 50Mbit\/s/],
  ])('and what contradicts itself is refused before anything is asked: %j', async (given, why) => {
    const { status, err } = await call('migrate', 'web1', '--to', 'h2', ...given);
    expect(status).toBe(EXIT.usage);
    expect(err).toMatch(why);
    expect(fake.requests).toEqual([]);
  });

  test('the reason of a host that cannot do it is told', async () => {
    const message = 'web1 to h2: QEMU 8.2 on h2: it cannot do storage on-demand';
    answering(409, { error: { code: 'OPTIONS_UNSUPPORTED', message } });
    expect(await call('migrate', 'web1', '--to', 'h2', '--storage', 'on-demand')).toEqual({
      status: EXIT.failed,
      out: '',
      err: `fairway: ${message}\n`,
    });
  });

  test('--json prints the answer', async () => {
    answering(202, STARTED);
    expect(JSON.parse((await call('migrate', 'web1,web2', '--to', 'h2', '--json')).out)).toEqual(STARTED);
  });

  test('what the controller refuses is bad input or a failure', async () => {
    answering(404, { error: { code: 'GUEST_UNKNOWN', message: 'no guest named web9' } });
    expect(await call('migrate', 'web9', '--to', 'h2')).toEqual({
      status: EXIT.usage,
      out: '',
      err: 'fairway: no guest named web9\n',
    });
    answering(409, { error: { code: 'ALREADY_MOVING', message: 'already moving' } });
    expect((await call('migrate', 'web1', '--to', 'h2')).status).toBe(EXIT.failed);
  });

  test('--wait ends when all have ended, and takes notice of no other', async () => {
    answering(202, STARTED);
    fake.onFeed = (socket) => {
      socket.send(JSON.stringify(change(view(), view({ id: 'm9', state: 'failed' }))));
      socket.send(JSON.stringify(change(view({ state: 'done', progressShare: 1, totalMs: 5000 }))));
      socket.send(JSON.stringify(change(view({ id: 'm2', guest: 'web2', state: 'done', progressShare: 1 }))));
    };
    const { status, out } = await call('migrate', 'web1,web2', '--to', 'h2', '--wait');
    expect(status).toBe(EXIT.ok);
    expect(out.split('\n').map((line) => line.split(' ')[0])).toEqual(['m1', 'm1', 'm2', '']);
  });

  test('--wait calls links by the names of their ends', async () => {
    answering(202, STARTED);
    fake.onFeed = (socket, path) => {
      expect(path).toBe('/feed?topics=topology,migrations');
      socket.send(JSON.stringify(topologyOf()));
      socket.send(JSON.stringify(change(waiting(), view({ id: 'm2', state: 'done' }))));
      socket.send(JSON.stringify(change(view({ state: 'done' }))));
    };
    const { out } = await call('migrate', 'web1,web2', '--to', 'h2', '--wait');
    expect(out).toContain('queued: serial: m0 runs on hv1:52->leaf\n');
    expect(out).not.toContain('0000000000000001');
  });

  test('--wait fails unless all are done; --json prints their last views only', async () => {
    answering(202, STARTED);
    fake.onFeed = (socket) => {
      socket.send(JSON.stringify(change(view(), view({ id: 'm2', state: 'failed', note: 'no memory' }))));
      socket.send(JSON.stringify(change(view({ state: 'done' }))));
    };
    const { status, out } = await call('migrate', 'web1,web2', '--to', 'h2', '--wait', '--json');
    expect(status).toBe(EXIT.failed);
    const result = JSON.parse(out);
    expect(result.group).toBe('g1');
    expect(result.migrations.map((m: { id: string; state: string }) => [m.id, m.state])).toEqual([
      ['m1', 'done'],
      ['m2', 'failed'],
    ]);
  });

  test('--wait survives a controller that goes away and comes back', async () => {
    answering(202, STARTED);
    let connections = 0;
    fake.onFeed = (socket) => {
      connections++;
      const state = connections === 1 ? 'copying' : 'done';
      socket.send(JSON.stringify(change(view({ state }), view({ id: 'm2', state }))));
      if (connections === 1) socket.close(1012, 'restart');
    };
    const { status, err } = await call('migrate', 'web1,web2', '--to', 'h2', '--wait');
    expect(status).toBe(EXIT.ok);
    expect(err).toContain('1012: restart); trying again');
  });

  test('--wait interrupted: the migrations go on', async () => {
    answering(202, STARTED);
    const command = begin('migrate', 'web1,web2', '--to', 'h2', '--wait');
    fake.onFeed = (socket) => {
      socket.send(JSON.stringify(change(view())), () => command.interrupt());
    };
    expect(await command.status).toBe(EXIT.interrupted);
    expect(command.err()).toContain('the migrations go on');
    expect(fake.requests.map((r) => r.line)).toEqual(['POST /v1/migrations']);
  });
});

describe('explain', () => {
  test.each([
    ['db1', 'guest db1 has not been migrated; the last migrations: m1'],
    ['nobody', 'there is no migration nobody, and no guest of that name; the last migrations: m1'],
  ])('of %s says why there is nothing', async (name, message) => {
    fake.answer = {
      get status() {
        return fake.requests.at(-1)?.line === 'GET /v1/status' ? 200 : 404;
      },
      body: JSON.stringify({
        ...statusOf(0, [{ name: 'db1', host: 'hv1', labels: {} }]),
        migrations: [view()],
        error: { code: 'MIGRATION_UNKNOWN', message: `there is no migration ${name}` },
      }),
    };
    expect(await call('explain', name)).toEqual({ status: EXIT.usage, out: '', err: `fairway: ${message}\n` });
  });
});

describe('cancel', () => {
  test('asks for each', async () => {
    expect((await call('cancel', 'm1,m2')).out).toBe('m1: asked to stop\nm2: asked to stop\n');
    expect(fake.requests.map((r) => r.line)).toEqual(['DELETE /v1/migrations/m1', 'DELETE /v1/migrations/m2']);
  });

  test('says what stands against it', async () => {
    const note = 'the agent of hv1 has been away for 35 s';
    answering(202, { id: 'm1', note });
    expect((await call('cancel', 'm1')).out).toBe(`m1: ${note}\n`);
    expect((await call('cancel', 'm1', '--json')).out).toBe(`${JSON.stringify({ id: 'm1', note })}\n`);
  });

  test('--forget gives migrations up', async () => {
    expect((await call('cancel', 'm1', '--forget')).out).toBe('m1: given up\n');
    expect(fake.requests.map((r) => r.line)).toEqual(['DELETE /v1/migrations/m1?forget=true']);
  });
});

describe('watch', () => {
  test('--json prints envelopes of the wanted topics until interrupted', async () => {
    const command = begin('watch', '--json', '--topics', 'migrations,slices');
    const envelope = change(view());
    fake.onFeed = (socket, path) => {
      expect(path).toBe('/feed?topics=migrations,slices');
      socket.send(JSON.stringify(envelope));
      const printed = setInterval(() => {
        if (command.out() === '') return;
        clearInterval(printed);
        command.interrupt();
      }, 5);
    };
    expect(await command.status).toBe(EXIT.ok);
    expect(command.out()).toBe(`${JSON.stringify(envelope)}\n`);
  });

  test('a controller that was never there is an error', async () => {
    await fake.close();
    expect((await call('watch')).status).toBe(EXIT.unreachable);
    fake = await fakeController();
  });
});

describe('policy', () => {
  test('get prints YAML with its revision, or one value, or JSON', async () => {
    answering(200, POLICY_VIEW);
    expect((await call('policy', 'get')).out).toMatch(/^# revision 1, kept in: memory\nformat: policy\/1\n/);
    expect((await call('policy', 'get', 'reservation.high')).out).toBe('capacity - floor\n');
    expect((await call('policy', 'get', 'marks')).out).toBe('high: 10\nmedium: 12\nlow: 14\n');
    expect(JSON.parse((await call('policy', 'get', '--json')).out)).toEqual(POLICY_VIEW);
    expect(JSON.parse((await call('policy', 'get', 'marks.low', '--json')).out)).toBe(14);
  });

  test('get shows why the last edit was refused', async () => {
    answering(200, {
      ...POLICY_VIEW,
      status: { ...POLICY_VIEW.status, state: 'refused', reason: 'marks.low: too big' },
    });
    expect((await call('policy', 'get')).out).toContain('# last edit refused: marks.low: too big\n');
  });

  test('get of a path that is not there names what is', async () => {
    answering(200, POLICY_VIEW);
    const { status, err } = await call('policy', 'get', 'marks.lowest');
    expect(status).toBe(EXIT.usage);
    expect(err).toBe('fairway: marks.lowest: marks has high, medium, low\n');
    expect((await call('policy', 'get', 'constructor')).status).toBe(EXIT.usage);
  });

  test('set sends texts; null removes', async () => {
    answering(200, { ...POLICY_VIEW, status: { ...POLICY_VIEW.status, revision: 2 } });
    const { out } = await call(
      'policy',
      'set',
      'marks.low=15',
      'reservation.low=capacity - rate',
      'sla.links.a:1=null',
    );
    expect(out).toBe('accepted: policy revision 2\n');
    expect(JSON.parse(fake.requests[0]?.body ?? '')).toEqual({
      'marks.low': '15',
      'reservation.low': 'capacity - rate',
      'sla.links.a:1': null,
    });
  });

  test('set refused: the reason, status 2', async () => {
    answering(400, { error: { code: 'POLICY_INVALID', message: 'marks.low: must be a number' } });
    expect(await call('policy', 'set', 'marks.low=x')).toMatchObject({
      status: EXIT.usage,
      err: 'fairway: marks.low: must be a number\n',
    });
    expect((await call('policy', 'set', 'marks.low')).status).toBe(EXIT.usage);
  });

  test('check tells valid from broken files without a controller', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fairway-policy-'));
    try {
      const check = async (text: string, ...options: string[]) => {
        const file = join(folder, 'policy.yaml');
        writeFileSync(file, text);
        const s = screen();
        return { status: await run(['policy', 'check', file, ...options], s.terminal), out: s.out(), err: s.err() };
      };
      expect(await check(stringify(DEFAULT_POLICY))).toMatchObject({ status: EXIT.ok, err: '' });
      const broken = stringify({ ...DEFAULT_POLICY, marks: { high: 10, medium: 12, low: 'x' } });
      expect(await check(broken)).toMatchObject({
        status: EXIT.usage,
        out: '',
        err: expect.stringContaining('marks.low'),
      });
      const asJson = await check(broken, '--json');
      expect(JSON.parse(asJson.out)).toMatchObject({ ok: false, problem: expect.stringContaining('marks.low') });
      expect(asJson.status).toBe(EXIT.usage);
      expect(await check('a: [')).toMatchObject({ status: EXIT.usage });
      expect(JSON.parse((await check(stringify(DEFAULT_POLICY), '--json')).out)).toEqual({
        ok: true,
        problem: null,
        problems: [],
        notes: [],
      });
      const { reservation } = DEFAULT_POLICY;
      const turned = stringify({ ...DEFAULT_POLICY, reservation: { ...reservation, high: '0.1 * capacity' } });
      expect(await check(turned)).toMatchObject({
        status: EXIT.ok,
        err: expect.stringMatching(/^fairway: note: reservation\.medium entitles to more than reservation\.high, to /),
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('check names file, line and column; diff compares; explain says which rule counts; all without a controller', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'fairway-policy-'));
    const local = async (...argv: string[]) => {
      const s = screen();
      return { status: await run(['policy', ...argv], s.terminal), out: s.out(), err: s.err() };
    };
    try {
      const file = join(folder, 'policy.yaml');
      const text =
        'extends: defaults\noverrides:\n  labels: { tier: { gold: { sla: { floor: 20 % } } } }\nlimits: { perHostIn: 2 }\n...\n';
      writeFileSync(file, text);
      expect(await local('diff', 'defaults', file)).toMatchObject({
        status: EXIT.failed,
        out: `--- defaults\n+++ ${file}\nlimits.perHostIn\n  - 8\n  + 2\noverrides.labels.tier.gold.sla.floor\n  + 20 %\n`,
      });
      expect(await local('diff', file, file, '--json')).toMatchObject({
        status: EXIT.ok,
        out: '{"same":true,"changes":[]}\n',
      });
      const why = await local(
        'explain',
        'sla.floor',
        '--label',
        'tier=gold',
        '--capacity',
        '200 Mbit/s',
        '--file',
        file,
      );
      expect(why.out).toBe(
        'sla.floor = 20 %\n  from label tier.gold (overrides.labels.tier.gold.sla.floor)\n  goes before 50 % from default\n' +
          '  comes to 40.0 Mbit/s for capacity 200.0 Mbit/s, floor 40.0 Mbit/s, ceiling 140.0 Mbit/s, rate 0 bit/s\n',
      );
      const all = JSON.parse((await local('explain', 'web1', '--label', 'tier=gold', '--json', '--file', file)).out);
      expect(all.settings[0]).toMatchObject({ path: 'sla.floor', rule: { level: 'label' }, result: { bps: 200e6 } });
      expect((await local('explain', 'sla.floor', '--rate', 'fast', '--file', file)).status).toBe(EXIT.usage);
      writeFileSync(file, text.replace('perHostIn: 2', 'perHostIn: 0'));
      expect(await local('check', file)).toMatchObject({
        status: EXIT.usage,
        err: expect.stringContaining(`${file}:4:11: limits.perHostIn: `),
      });
      expect((await local('diff', 'defaults', file)).status).toBe(EXIT.usage);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  describe('beside a controller', () => {
    /** It answers by what it is asked. */
    const answeringWith = (policy: object, guests: Parameters<typeof statusOf>[1] = []) => {
      fake.answer = {
        status: 200,
        get body() {
          const isStatus = fake.requests.at(-1)?.line === 'GET /v1/status';
          return JSON.stringify(isStatus ? statusOf(600e6, guests) : { ...POLICY_VIEW, policy });
        },
      };
    };
    const gold = structuredClone(DEFAULT_POLICY);
    gold.overrides.labels.tier = {
      gold: { rank: 7, extends: 'tier.silver', sla: { floor: '30 %' } },
      silver: { reservation: { low: 'capacity - rate - 10 %' } },
    };

    test('explain takes a link by its name, with what it carries now', async () => {
      answeringWith(gold);
      const { out } = await call('policy', 'explain', 'reservation.low', '--link', 'hv1:52->leaf');
      // 5 % of headroom above the 600 Mbit/s that are measured.
      expect(out).toContain('comes to 370.0 Mbit/s for capacity 1.00 Gbit/s, floor 500.0 Mbit/s');
      expect(out).toContain('rate 630.0 Mbit/s');
      expect((await call('policy', 'explain', 'reservation.low', '--link', 'hv1:52')).out).toBe(out);
      const given = await call('policy', 'explain', 'reservation.low', '--link', 'hv1:52', '--rate', '100 Mbit/s');
      expect(given.out).toContain('comes to 500.0 Mbit/s');
      expect(await call('policy', 'explain', 'reservation.low', '--link', 'hv9:1')).toMatchObject({
        status: EXIT.usage,
        err: 'fairway: --link hv9:1: no such link; links: hv1:52->leaf\n',
      });
    });

    test('explain of a guest begins with the overrides that hold for it, in their order', async () => {
      answeringWith(gold, [{ name: 'db1', host: 'hv1', labels: { tier: 'gold' } }]);
      expect((await call('policy', 'explain', 'db1')).out.split('\n')[1]).toBe(
        'overrides, the strongest first: overrides.labels.tier.gold (rank 7), overrides.labels.tier.silver (extended)',
      );
      expect(JSON.parse((await call('policy', 'explain', 'db1', '--json')).out).rules).toEqual([
        { level: 'label', name: 'tier.gold', path: 'overrides.labels.tier.gold', rank: 7 },
        { level: 'label', name: 'tier.silver', path: 'overrides.labels.tier.silver', isExtended: true },
      ]);
      answeringWith(gold, [{ name: 'web1', host: 'hv1', labels: {} }]);
      expect((await call('policy', 'explain', 'web1')).out).toContain('\nno override holds for it: every setting is');
    });

    test.each([
      ['reservation.lo', 'reservation.lo: there is no such field; there are reservation.high, '],
      ['technique.cost', 'technique.cost: is no single setting; there are technique.cost.degraded, '],
      ['nobody', 'nobody: is no setting, and no agent reports such a guest; guests: db1'],
    ])('explain of %s says what there is instead', async (what, text) => {
      answeringWith(gold, [{ name: 'db1', host: 'hv1', labels: {} }]);
      expect(await call('policy', 'explain', what)).toMatchObject({
        status: EXIT.usage,
        err: expect.stringContaining(text),
      });
    });

    test('set says when limits are written for a link that there is not', async () => {
      answeringWith(gold);
      const { status, out, err } = await call('policy', 'set', 'sla.links.hv1:52.floor=30 %');
      expect({ status, out }).toEqual({ status: EXIT.ok, out: 'accepted: policy revision 1\n' });
      expect(err).toBe(
        'fairway: sla.links.hv1:52 holds for no link that is known now: hv1:52 is sla.links.0000000000000001:52\n',
      );
      expect((await call('policy', 'set', 'sla.links.0000000000000001:52.floor=30 %')).err).toBe('');
    });
  });

  test('history prints who changed what, and why it was refused', async () => {
    const edit = {
      atMs: 0,
      author: 'alice',
      via: 'redis',
      state: 'refused',
      revision: 3,
      reason: 'marks.low: must be a number',
      changes: [{ path: 'marks.low', before: '14', after: 'x' }],
      more: 0,
    };
    answering(200, { edits: [edit, { ...edit, author: '', state: 'accepted', reason: '', changes: [], more: 2 }] });
    expect((await call('policy', 'history')).out).toBe(
      '1970-01-01T00:00:00.000Z  alice (redis)  refused: marks.low: must be a number\n  marks.low: 14 → x\n' +
        '1970-01-01T00:00:00.000Z  somebody (redis)  accepted, revision 3\n  … and 2 more\n',
    );
    expect(JSON.parse((await call('policy', 'history', '--limit', '1', '--json')).out)).toEqual({ edits: [edit] });
    expect(fake.requests[0]?.line).toBe('GET /v1/policy/history');
  });
});
