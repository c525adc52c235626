/** `fairway plan`: what it prints, what it writes, its exit statuses. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { progressTo } from '../../../cli/commands/plan.ts';
import { run } from '../../../cli/program.ts';
import { EXIT } from '../../../cli/terminal.ts';
import { type Plan, parsePlan, parsePlanningInstance } from '../../../contracts/plan.ts';
import { checkPlan } from '../../../policies/planCheck/index.ts';
import { screen } from './samples.ts';

const EXAMPLES = ['four-hosts', 'racks'].map((n) => join(import.meta.dirname, `../../../examples/plan-${n}.json`));
const RACKS = EXAMPLES[1] as string;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairway-plan-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function plan(...argv: string[]) {
  const s = screen(100);
  const status = await run(['plan', ...argv, '--work', '20000'], s.terminal);
  return { status, out: s.out(), err: s.err() };
}
const write = (name: string, content: string | object) => {
  const path = join(folder, name);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
};
const example = (path = RACKS) => JSON.parse(readFileSync(path, 'utf8'));

test.each(EXAMPLES)('%s: one plan/1 document and nothing else, feasible, in --out too', async (path) => {
  const file = join(folder, 'plan.json');
  const { status, out, err } = await plan(path, '--json', '--out', file);
  expect({ status, err }).toEqual({ status: EXIT.ok, err: '' });
  expect(readFileSync(file, 'utf8')).toBe(out);
  expect(checkPlan(parsePlanningInstance(example(path)), parsePlan(JSON.parse(out)))).toEqual([]);
  expect(await plan(path, '--check', file)).toEqual({ status: EXIT.ok, out: `${file}: can be carried out\n`, err: '' });
});

test('for people: a chart with a line a migration and its reason', async () => {
  const { status, out } = await plan(RACKS);
  expect(status).toBe(EXIT.ok);
  expect(out).toMatch(
    /^racks: 5 migrations in [0-9.]+ s \(no plan needs less than [0-9.]+ s\)\n\nguest +way +priority +start s +end s +0 +[0-9.]+ s\n/,
  );
  expect(out).toMatch(/^shop {4}a1 → b1 {2}high {6}0\.0 {6}45\.2 +#+·+$/m);
  expect(out).toContain('    pre-copy; starts at once; 850 Mbit/s, all that leaf-a→spine1 allows\n');
  expect(
    Math.max(
      ...out
        .split('\n')
        .filter((l) => /#·|·#/.test(l))
        .map((l) => l.length),
    ),
  ).toBeLessThanOrEqual(100);
});

test('what is refused makes the status 1 and is named, in both forms', async () => {
  const instance = example();
  instance.links.pop();
  instance.links.pop();
  instance.links.pop();
  const path = write('parted.json', instance);
  const json = await plan(path, '--json');
  expect(json.status).toBe(EXIT.failed);
  expect((JSON.parse(json.out) as Plan).refused).toContainEqual({
    vm: 'shop',
    reason: expect.stringContaining('no path leads from a1 to b1'),
  });
  const text = await plan(path);
  expect(text.status).toBe(EXIT.failed);
  expect(text.out).toContain('refused: shop: no path leads from a1 to b1');
});

test('--check says what a plan breaks', async () => {
  const made = JSON.parse((await plan(RACKS, '--json')).out) as Plan;
  const shop = made.migrations.find((m) => m.vm === 'shop') as Plan['migrations'][number];
  Object.assign(shop.segments[0] ?? {}, { mbps: 1000 });
  const file = write('broken.json', made);
  const text = await plan(RACKS, '--check', file);
  expect(text.status).toBe(EXIT.failed);
  expect(text.out).toMatch(/^link: leaf-a→spine1 at 0 s all slices sum up to /m);
  const json = await plan(RACKS, '--check', file, '--json');
  expect(json.status).toBe(EXIT.failed);
  expect(JSON.parse(json.out)).toMatchObject({
    ok: false,
    violations: expect.arrayContaining([expect.objectContaining({ rule: 'link' })]),
  });
});

test('a byte order mark is no part of the document', async () => {
  const { status } = await plan(write('marked.json', `\uFEFF${JSON.stringify(example())}`), '--json');
  expect(status).toBe(EXIT.ok);
});

test('--limit-per-host is kept', async () => {
  const { out } = await plan(RACKS, '--json', '--limit-per-host', '1');
  expect(checkPlan(parsePlanningInstance(example()), JSON.parse(out), { limitPerHost: 1 })).toEqual([]);
});

test.each<[string, string | object, RegExp]>([
  ['no JSON', '{\n  "format": "planning-instance/1",\n  "hosts": [,]\n}', /bad\.json:3:13: /],
  ['an end too early', '{ "format": ', /bad\.json:1:13: /],
  ['another document', { format: 'plan/1' }, /bad\.json: format: must be "planning-instance\/1"/],
  [
    'an unknown host',
    { ...example(), migrations: [{ vm: 'shop', from: 'a1', to: 'zz' }] },
    /bad\.json: migrations\.0\.to: no host "zz"/,
  ],
])('%s: status 2, where and what', async (_name, content, message) => {
  const { status, out, err } = await plan(write('bad.json', content), '--json');
  expect({ status, out }).toEqual({ status: EXIT.usage, out: '' });
  expect(err).toMatch(message);
});

test('long work shows how far it is, from a second on and not at every step; short work shows nothing', () => {
  const shown: (number | null)[][] = [];
  const meter = { show: (...args: (number | null)[]) => shown.push(args), note: () => {}, end: () => {} };
  let nowMs = 5000;
  const after = (show: (done: number, total: number) => void, ms: number, done: number, total: number) => {
    nowMs = 5000 + ms;
    show(done, total);
  };
  const onScreen = progressTo(meter, true, () => nowMs);
  for (const ms of [10, 999, 1000, 1100, 1300]) after(onScreen, ms, ms * 10_000, 50_000_000);
  expect(shown).toEqual([
    [10_000_000, 50_000_000, 4000],
    [13_000_000, 50_000_000, expect.closeTo(3700, 0)],
  ]);
  nowMs = 5000;
  const elsewhere = progressTo(meter, false, () => nowMs);
  for (const ms of [1000, 5999, 6000]) after(elsewhere, ms, ms * 1000, 50_000_000);
  expect(shown.slice(2)).toEqual([
    [1_000_000, 50_000_000, 49_000],
    [6_000_000, 50_000_000, 44_000],
  ]);
  nowMs = 5000;
  after(
    progressTo(meter, true, () => nowMs),
    60_000,
    1000,
    20_000,
  );
  expect(shown).toHaveLength(4);
});

test('an --out that cannot be written is said', async () => {
  const { status, err } = await plan(RACKS, '--out', join(folder, 'no', 'such', 'folder.json'));
  expect(status).toBe(EXIT.failed);
  expect(err).toContain('cannot write');
});
