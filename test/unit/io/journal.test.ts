/** The journal: what was appended is read again, whatever befell the file in between. */
import {
  appendFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Journal, MemoryJournal } from '../../../controller/io/journal.ts';

let dir: string;
let path: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'fairway-io-journal-'));
  path = join(dir, 'journal');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const entries = async () => {
  const j = await Journal.open(path);
  await j.close();
  return j.entries;
};

test('what was appended is there again, in order, big integers as text', async () => {
  const j = await Journal.open(path);
  expect(j.entries).toEqual([]);
  for (let i = 0; i < 500; i++) j.append({ i, big: 2n ** 60n, text: 'zwei\nZeilen' });
  await j.close();
  expect(await entries()).toEqual(
    Array.from({ length: 500 }, (_x, i) => ({ i, big: '1152921504606846976', text: 'zwei\nZeilen' })),
  );
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('flush means on the disk, without close', async () => {
  const j = await Journal.open(path);
  j.append({ a: 1 });
  await j.flush();
  expect(readFileSync(path, 'utf8')).toBe('{"a":1}\n');
  j.append({ a: 2 });
  await new Promise((r) => setTimeout(r, 50));
  expect(readFileSync(path, 'utf8')).toBe('{"a":1}\n{"a":2}\n');
  await j.close();
});

test('wherever the last write broke off, the lines before it are kept and new ones follow cleanly', async () => {
  const whole = '{"a":1}\n{"b":"ü"}\n';
  const bytes = Buffer.byteLength(whole);
  for (let cut = 0; cut <= bytes; cut++) {
    writeFileSync(path, whole);
    truncateSync(path, cut);
    const complete = cut === bytes ? 2 : cut >= 8 ? 1 : 0;
    const j = await Journal.open(path);
    expect(j.entries).toHaveLength(complete);
    expect(j.problems).toHaveLength(cut === 0 || cut === 8 || cut === bytes ? 0 : 1);
    j.append({ c: 3 });
    await j.close();
    const after = await entries();
    expect(after).toHaveLength(complete + 1);
    expect(after.at(-1)).toEqual({ c: 3 });
  }
});

test('a damaged line in between is skipped and told', async () => {
  const log = jest.fn();
  writeFileSync(path, `{"a":1}\nnot json\n[2]\n\n{"long":"${'x'.repeat(600_000)}"}\n{"b":2}\n`);
  const j = await Journal.open(path, { log, maxLineBytes: 1_000 });
  expect(j.entries).toEqual([{ a: 1 }, { b: 2 }]);
  expect(j.problems).toEqual([
    'line 2 is no JSON object and was skipped',
    'line 3 is no JSON object and was skipped',
    'line 5 is longer than 1000 bytes and was skipped',
  ]);
  expect(log).toHaveBeenCalledTimes(3);
  await j.close();
});

test('compact replaces everything appended before it and nothing after', async () => {
  const j = await Journal.open(path);
  j.append({ old: 1 });
  const compacting = j.compact(() => [{ state: 'kept' }]);
  j.append({ new: 1 });
  await compacting;
  j.append({ new: 2 });
  await j.close();
  expect(await entries()).toEqual([{ state: 'kept' }, { new: 2 }]);
  expect(readdirSync(dir)).toEqual(['journal']);
});

test('compact asks for the content when earlier writes are done, so that nothing falls between', async () => {
  const j = await Journal.open(path);
  const state: object[] = [];
  const record = (e: object) => {
    state.push(e);
    j.append(e);
  };
  const work: Promise<void>[] = [];
  for (let i = 0; i < 200; i++) {
    record({ i });
    if (i % 20 === 7) work.push(j.compact(() => [...state]));
    if (i % 3 === 0) await new Promise((r) => setImmediate(r));
  }
  await Promise.all(work);
  await j.close();
  expect(await entries()).toEqual(Array.from({ length: 200 }, (_x, i) => ({ i })));
});

test('memory is bounded: what does not fit is lost, logged once and told by flush', async () => {
  const log = jest.fn();
  const j = await Journal.open(path, { log, maxPendingBytes: 100 });
  for (let i = 0; i < 50; i++) j.append({ i });
  await expect(j.flush()).rejects.toMatchObject({ code: 'JOURNAL_WRITE', labels: ['retryable'] });
  expect(log.mock.calls.filter((c) => c[1] === 'journal.full')).toHaveLength(1);
  j.append({ later: true });
  await j.flush();
  await j.close();
  const kept = await entries();
  expect(kept.length).toBeGreaterThan(5);
  expect(kept.length).toBeLessThan(20);
  expect(kept.at(-1)).toEqual({ later: true });
});

test('a file that cannot be used is told with its path; a closed journal takes nothing', async () => {
  await expect(Journal.open(dir)).rejects.toMatchObject({ code: 'JOURNAL_OPEN' });
  const j = await Journal.open(path);
  await j.close();
  await j.close();
  expect(() => j.append({})).toThrow(/closed/);
  appendFileSync(path, '{"by":"hand"}\n');
  expect(await entries()).toEqual([{ by: 'hand' }]);
});

test('the memory journal behaves alike', async () => {
  const j = new MemoryJournal();
  j.append({ a: 1n });
  j.append({ b: 2 });
  expect(j.entries).toEqual([{ a: '1' }, { b: 2 }]);
  await j.compact(() => j.entries.slice(1));
  expect(j.entries).toEqual([{ b: 2 }]);
  await j.flush();
  await j.close();
});
