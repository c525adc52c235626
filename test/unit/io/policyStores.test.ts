/** The policy stores in memory and in a file, and their choice; test/integration/redis.test.ts has the one in Redis. */
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { controllerConfigSchema } from '../../../contracts/config.ts';
import { silentLog } from '../../../contracts/log.ts';
import { DEFAULT_POLICY, type PolicyDocument, type PolicyStatus } from '../../../contracts/policy.ts';
import {
  FilePolicyStore,
  MemoryPolicyStore,
  openPolicyStore,
  policyCodec,
} from '../../../controller/io/policyStores/index.ts';
import { fieldOf, type PolicyStore } from '../../../controller/io/policyStores/store.ts';
import { ManualClock, settle, until } from './support.ts';

/** What a store told, in order. */
async function started(store: PolicyStore) {
  const told: { doc: PolicyDocument; status: PolicyStatus; refusals: PolicyStatus[]; changes: number } = {
    ...(await store.start(
      (doc, status) => {
        told.doc = doc;
        told.status = status;
        told.changes++;
      },
      (status) => {
        told.status = status;
        told.refusals.push(status);
      },
    )),
    refusals: [],
    changes: 0,
  };
  return told;
}

test('the field at fault is found in a reason', () => {
  expect(fieldOf('reservation.low: no such variable')).toBe('reservation.low');
  expect(fieldOf('sla.links.0000000000000001:2.floor: must be a rate')).toBe('sla.links.0000000000000001:2.floor');
  expect(fieldOf('line 3, column 2: bad indentation')).toBe('');
  expect(fieldOf('')).toBe('');
});

describe('memory', () => {
  test('patches are all or nothing and told; one that changes nothing is not', async () => {
    const store = new MemoryPolicyStore({ codec: policyCodec, clock: new ManualClock() });
    const told = await started(store);
    expect(told.status).toMatchObject({ state: 'accepted', revision: 1 });
    expect(await store.patch({ 'limits.perHostIn': 3, 'reservation.low': 'capacity - ceiling' })).toMatchObject({
      revision: 2,
    });
    expect(told.doc.limits.perHostIn).toBe(3);
    await expect(store.patch({ 'limits.perHostIn': 4, 'reservation.low': 'steal()' })).rejects.toMatchObject({
      code: 'POLICY_INVALID',
    });
    expect(told.doc.limits.perHostIn).toBe(3);
    expect(await store.patch({ 'limits.perHostIn': 3 })).toMatchObject({ revision: 2 });
    expect(told.changes).toBe(1);
    await store.close();
  });

  test('times in the history and in the status are whole milliseconds, though the clock is finer', async () => {
    const clock = new ManualClock(1_000_000.4375);
    const store = new MemoryPolicyStore({ codec: policyCodec, clock });
    const told = await started(store);
    expect(told.status.atMs).toBe(1_000_000);
    expect(await store.patch({ 'limits.perHostIn': 3 })).toMatchObject({ atMs: 1_000_000 });
    clock.advance(0.25);
    await expect(store.patch({ 'reservation.low': 'steal()' })).rejects.toThrow('steal');
    expect(store.history().map((e) => [e.state, e.atMs])).toEqual([
      ['refused', 1_000_001],
      ['accepted', 1_000_000],
    ]);
    await store.close();
  });

  test('a fault in who listens is logged; the patch holds', async () => {
    const log = jest.fn();
    const store = new MemoryPolicyStore({ codec: policyCodec, clock: new ManualClock(), log });
    const fault = () => {
      throw new Error('a fault');
    };
    await store.start(fault, fault);
    expect(await store.patch({ 'limits.perHostIn': 3 })).toMatchObject({ revision: 2 });
    expect(log).toHaveBeenCalledWith('error', 'policy.listener-failed', expect.anything());
  });

  test('an initial document that is not valid stops the start', async () => {
    const store = new MemoryPolicyStore({ codec: policyCodec, clock: new ManualClock(), initial: { format: 'x' } });
    await expect(started(store)).rejects.toMatchObject({ code: 'POLICY_INVALID' });
  });
});

test('the configuration chooses the store', () => {
  const o = { clock: new ManualClock(), log: silentLog };
  const { policy } = controllerConfigSchema.parse({});
  expect(openPolicyStore({ ...policy, store: 'memory' }, o).kind).toBe('memory');
  expect(openPolicyStore(policy, o).kind).toBe('file');
});

describe('file', () => {
  let dir: string;
  let file: string;
  let clock: ManualClock;
  let stores: FilePolicyStore[];
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'fairway-io-policy-'));
    file = join(dir, 'policy.yaml');
    clock = new ManualClock();
    stores = [];
  });
  afterEach(async () => {
    for (const s of stores) await s.close();
    expect(clock.timers).toBe(0);
    rmSync(dir, { recursive: true, force: true });
  });

  const open = () => {
    const store = new FilePolicyStore({ file, codec: policyCodec, clock, log: silentLog, pollMs: 100 });
    stores.push(store);
    return store;
  };
  /** Polls until something holds. */
  const look = (holds: () => boolean, what: string) =>
    until(() => {
      clock.advance(100);
      return holds();
    }, what);
  const status = () => JSON.parse(readFileSync(`${file}.status`, 'utf8'));
  const edit = (from: string, to: string) => {
    const text = readFileSync(file, 'utf8');
    expect(text).toContain(from);
    writeFileSync(file, text.replace(from, to));
  };

  test('writes the defaults with an explanation, and reads them back', async () => {
    const told = await started(open());
    expect(told.doc).toEqual(DEFAULT_POLICY);
    expect(readFileSync(file, 'utf8')).toMatch(/^# Fairway's policy/);
    expect(parse(readFileSync(file, 'utf8'))).toEqual(DEFAULT_POLICY);
    expect(status()).toMatchObject({ state: 'accepted', revision: 1, reason: '' });
    expect(readdirSync(dir).sort()).toEqual(['policy.yaml', 'policy.yaml.status']);
  });

  test('an edit takes effect; a broken one does not, and its reason is beside the file until it is mended', async () => {
    const told = await started(open());
    edit('perHostOut: 8', 'perHostOut: 5');
    await look(() => told.doc.limits.perHostOut === 5, 'the edit is in force');
    expect(told.status).toMatchObject({ state: 'accepted', revision: 2 });

    edit('perHostOut: 5', 'perHostOut: many');
    await look(() => told.status.state === 'refused', 'the edit is refused');
    expect(told.status.reason).toMatch(/^limits\.perHostOut: /);
    await until(() => status().field === 'limits.perHostOut', 'the status is written');
    expect(told.doc.limits.perHostOut).toBe(5);

    edit('perHostOut: many', 'perHostOut: [');
    await look(() => told.status.reason.startsWith('line '), 'the mistake is told by its line');
    expect(told.status.reason).toMatch(/^line \d+, column \d+: ./);
    expect(told.doc.limits.perHostOut).toBe(5);

    edit('perHostOut: [', 'perHostOut: 5');
    await look(() => told.status.state === 'accepted', 'the correction is accepted');
    expect(told.status.revision).toBe(2);
    expect(told.refusals).toHaveLength(2);
    await until(() => status().state === 'accepted', 'the status is written');
  });

  test('a file that is half written when it is looked at is not judged', async () => {
    const told = await started(open());
    const whole = readFileSync(file, 'utf8').replace('perHostOut: 8', 'perHostOut: 4');
    for (const share of [0.2, 0.5, 0.8]) {
      writeFileSync(file, whole.slice(0, Math.floor(whole.length * share)));
      clock.advance(100);
      await settle(30);
    }
    writeFileSync(file, whole);
    await look(() => told.doc.limits.perHostOut === 4, 'the edit is in force');
    expect(told.refusals).toEqual([]);
  });

  test('a patch keeps comments, mode and a link; it changes all fields or none', async () => {
    const target = join(dir, 'real.yaml');
    const told0 = await started(open());
    await stores.pop()?.close();
    expect(told0.status.revision).toBe(1);
    renameSync(file, target);
    symlinkSync(target, file);
    chmodSync(target, 0o640);
    edit('perHostOut: 8', 'perHostOut: 8 # as many as the storage bears');
    const store = open();
    const told = await started(store);
    const id = '0000000000000001:2';
    await store.patch({ 'limits.perHostOut': 6, [`sla.links.${id}.floor`]: '100 Mbit/s' });
    const text = readFileSync(target, 'utf8');
    expect(text).toContain('perHostOut: 6 # as many as the storage bears');
    expect(text).toMatch(/^# Fairway's policy/);
    expect(parse(text).sla.links).toEqual({ [id]: { floor: '100 Mbit/s', ceiling: '70 %' } });
    expect(statSync(target).mode & 0o777).toBe(0o640);
    expect(told.doc).toEqual(parse(text));
    await store.patch({ [`sla.links.${id}`]: null });
    expect(parse(readFileSync(file, 'utf8')).sla.links).toEqual({});
    const before = readFileSync(file, 'utf8');
    await expect(store.patch({ 'limits.perHostOut': 7, 'limits.nosuch': 1 })).rejects.toMatchObject({
      code: 'POLICY_INVALID',
    });
    expect(readFileSync(file, 'utf8')).toBe(before);
    // Our own writing is not taken for an edit by hand.
    const { changes } = told;
    clock.advance(100);
    await settle();
    clock.advance(100);
    await settle();
    expect(told.changes).toBe(changes);
  });

  test('a patch on top of an edit that was not seen yet keeps both', async () => {
    const store = open();
    const told = await started(store);
    edit('perHostOut: 8', 'perHostOut: 5');
    await store.patch({ 'limits.perHostIn': 6 });
    expect(told.doc.limits).toEqual({ perHostOut: 5, perHostIn: 6 });
  });

  test('a patch that names the broken field mends it; another one is refused with the reason', async () => {
    const store = open();
    const told = await started(store);
    edit('perHostOut: 8', 'perHostOut: many');
    await look(() => told.status.state === 'refused', 'the edit is refused');
    await expect(store.patch({ 'limits.perHostIn': 6 })).rejects.toMatchObject({
      code: 'POLICY_CONFLICT',
      labels: ['conflict'],
      message: expect.stringContaining('limits.perHostOut: '),
    });
    await store.patch({ 'limits.perHostOut': 7 });
    expect(told.status).toMatchObject({ state: 'accepted', revision: 2 });
    expect(told.doc.limits).toEqual({ perHostOut: 7, perHostIn: 8 });
    edit('limits:', 'limits: [');
    await expect(store.patch({ 'limits.perHostOut': 7 })).rejects.toMatchObject({ code: 'POLICY_CONFLICT' });
  });

  test('a file that is gone leaves the last good document; a patch writes it anew', async () => {
    const store = open();
    const told = await started(store);
    await store.patch({ 'limits.perHostOut': 6 });
    rmSync(file);
    await look(() => told.status.state === 'refused', 'it is told');
    expect(told.status.reason).toContain('is gone');
    expect(told.doc.limits.perHostOut).toBe(6);
    await store.patch({ 'limits.perHostIn': 3 });
    expect(parse(readFileSync(file, 'utf8')).limits).toEqual({ perHostOut: 6, perHostIn: 3 });
  });

  test('a restart while the file is broken goes on with the last good document', async () => {
    const first = open();
    await started(first);
    await first.patch({ 'limits.perHostOut': 6 });
    await first.close();
    edit('perHostOut: 6', 'perHostOut: -1');
    const told = await started(open());
    expect(told.doc.limits.perHostOut).toBe(6);
    expect(told.status).toMatchObject({ state: 'refused', revision: 2 });
    edit('perHostOut: -1', 'perHostOut: 9');
    await look(() => told.doc.limits.perHostOut === 9, 'the correction is in force');
    expect(told.status).toMatchObject({ state: 'accepted', revision: 3 });
  });

  test.each([
    [
      'too many aliases',
      `a: &a [${'x,'.repeat(50)}]\n${Array.from({ length: 120 }, (_x, i) => `b${i}: [*a,*a,*a]`).join('\n')}`,
    ],
    ['another shape', '- 1\n- 2\n'],
    ['nothing', ''],
    ['a megabyte and more', `# ${'x'.repeat(1_100_000)}\n`],
  ])('%s is refused, not fatal', async (_name, text) => {
    const told = await started(open());
    writeFileSync(file, text);
    await look(() => told.status.state === 'refused', 'it is refused');
    expect(told.doc).toEqual(DEFAULT_POLICY);
  });

  test('without a folder for the file the start fails with its path', async () => {
    file = join(dir, 'no', 'policy.yaml');
    await expect(started(open())).rejects.toMatchObject({
      code: 'POLICY_FILE',
      message: expect.stringContaining(file),
    });
  });
});
