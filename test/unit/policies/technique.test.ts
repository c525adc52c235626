/** Step 2: every cell of paper 002's table, and what happens beside the table. The cost models are in cost.test.ts. */
import { type Direction, FairwayError, type Priority, TECHNIQUES, type Technique } from '../../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import {
  applyPolicyPatch,
  chooseTechnique,
  compilePolicy,
  effectivePolicy,
  explainSetting,
  type GuestModel,
  type TechniqueQuestion,
} from '../../../policies/index.ts';

const policy = compilePolicy(DEFAULT_POLICY);
const MiB = 2 ** 20;
/** 256 MiB, 500 pages/s in 64 MiB: 16 Mbit/s of dirtying. */
const calm: GuestModel = { memoryBytes: 256 * MiB, dirtyBytesPerS: 500 * 4096, workingSetBytes: 64 * MiB };
/** The same with 5,000 pages/s: 164 Mbit/s. */
const busy: GuestModel = { ...calm, dirtyBytesPerS: 5000 * 4096 };

const voiceOf = { guest: 'vm1', labels: { service: 'voice' } };
const question = (change: Partial<TechniqueQuestion>): TechniqueQuestion => ({
  priority: 'medium',
  source: 'out',
  destination: 'in',
  guest: 'in',
  model: calm,
  sliceBps: 100e6,
  supported: TECHNIQUES,
  ...change,
});
const rules = (d: { reasons: { rule: string }[] }) => d.reasons.map((r) => r.rule);

describe('the table (paper 002, step 2)', () => {
  test.each<[Direction, Direction, Direction, Technique, Technique, Technique]>([
    // source, destination, guest → high, medium, low
    ['in', 'in', 'in', 'hybrid', 'hybrid', 'hybrid'],
    ['in', 'in', 'out', 'post-copy', 'post-copy', 'post-copy'],
    ['out', 'out', 'in', 'post-copy', 'post-copy', 'post-copy'],
    ['out', 'out', 'out', 'post-copy', 'post-copy', 'post-copy'],
    ['in', 'out', 'in', 'post-copy', 'post-copy', 'post-copy'],
    ['in', 'out', 'out', 'post-copy', 'post-copy', 'post-copy'],
    ['out', 'in', 'in', 'hybrid', 'hybrid', 'pre-copy'],
    ['out', 'in', 'out', 'post-copy', 'post-copy', 'post-copy'],
  ])('source %s, destination %s, guest %s: high %s, medium %s, low %s', (source, destination, guest, ...expected) => {
    const chosen = (['high', 'medium', 'low'] as const).map((priority) =>
      chooseTechnique(question({ source, destination, guest, priority }), policy),
    );
    expect(chosen.map((c) => c.value)).toEqual(expected);
    for (const c of chosen) {
      expect(rules(c)).toEqual(['technique.table']);
      expect(c.reasons[0]?.inputs).toMatchObject({ source, destination, guest });
    }
  });

  test('is policy: an edited cell is obeyed', () => {
    const edited = compilePolicy(
      applyPolicyPatch(DEFAULT_POLICY, { 'technique.table.out-in.guestIn.high': 'post-copy' }),
    );
    expect(chooseTechnique(question({ priority: 'high' }), edited).value).toBe('post-copy');
  });
});

describe('a guest that dirties faster than its slice', () => {
  const low = question({ priority: 'low', model: busy });
  test('is not left on plain pre-copy: hybrid', () => {
    const c = chooseTechnique(low, policy);
    expect(c.value).toBe('hybrid');
    expect(rules(c)).toEqual(['technique.table', 'technique.notConverging']);
    expect(c.reasons[1]?.inputs).toEqual({ dirtyBps: 5000 * 4096 * 8, sliceBps: 100e6, convergenceRatio: 0.8 });
  });
  test('post-copy where hybrid cannot be done', () => {
    expect(chooseTechnique({ ...low, supported: ['pre-copy', 'post-copy'] }, policy).value).toBe('post-copy');
  });
  test('nothing at all where only pre-copy can be done', () => {
    const attempt = () => chooseTechnique({ ...low, supported: ['pre-copy'] }, policy);
    expect(attempt).toThrow(FairwayError);
    expect(attempt).toThrow(/hybrid or post-copy/);
  });
  test.each([
    ['at the ratio', 0.8, 'pre-copy'],
    ['above the ratio', 0.8001, 'hybrid'],
  ])('is one whose dirty rate is %s of the slice', (_, ratio, technique) => {
    const model = { ...calm, dirtyBytesPerS: (100e6 * ratio) / 8 };
    expect(chooseTechnique(question({ priority: 'low', model }), policy).value).toBe(technique);
  });
  test('is none, however fast, when all it dirties fits into the downtime', () => {
    const model = { ...busy, workingSetBytes: (100e6 / 8) * 0.29 };
    expect(chooseTechnique(question({ priority: 'low', model }), policy).value).toBe('pre-copy');
  });
  test('is one when its working set is not known', () => {
    const model = { ...busy, workingSetBytes: 0 };
    expect(chooseTechnique(question({ priority: 'low', model }), policy).value).toBe('hybrid');
  });
  test('is one in a slice of nothing', () => {
    expect(chooseTechnique(question({ priority: 'low', sliceBps: 0 }), policy).value).toBe('hybrid');
  });
});

describe('mixed and idle traffic: the least predicted cost', () => {
  test.each<[Partial<TechniqueQuestion>]>([
    [{ source: 'mixed' }],
    [{ destination: 'idle' }],
    [{ guest: 'mixed' }],
    [{ source: 'idle', destination: 'idle', guest: 'idle' }],
  ])('%j', (change) => {
    const c = chooseTechnique(question(change), policy);
    expect(rules(c)).toEqual(['technique.leastCost']);
    expect(Object.keys(c.reasons[0]?.inputs ?? {})).toEqual(
      expect.arrayContaining(['cost pre-copy ms', 'cost post-copy ms', 'cost hybrid ms']),
    );
  });

  test.each<[string, Priority, GuestModel, Technique]>([
    ['a guest that writes nothing', 'low', { ...calm, dirtyBytesPerS: 0 }, 'pre-copy'],
    ['a calm guest', 'low', calm, 'pre-copy'],
    ['a guest with a small working set that it dirties fast', 'low', busy, 'hybrid'],
    ['one that dirties all of its memory fast', 'high', { ...busy, workingSetBytes: 256 * MiB }, 'post-copy'],
  ])('%s, %s priority', (_, priority, model, technique) => {
    expect(chooseTechnique(question({ guest: 'mixed', priority, model }), policy).value).toBe(technique);
  });

  test('a busy workload on the path speaks for the shorter copy, the less urgent the migration the more', () => {
    const model = { ...calm, dirtyBytesPerS: 2000 * 4096 };
    const link = { id: 'hv1:1', capacityBps: 200e6, demandBps: 200e6, sliceBps: 100e6 };
    const asked = (links: (typeof link)[]) =>
      chooseTechnique(question({ guest: 'mixed', priority: 'low', model, links }), policy);
    const cost = (c: ReturnType<typeof asked>, t: Technique) => Number(c.reasons[0]?.inputs[`cost ${t} ms`]);
    const [free, one, two] = [asked([]), asked([link]), asked([link, { ...link, id: 'core:2' }])];
    expect(free.reasons[0]?.inputs['harm most on']).toBeUndefined();
    expect(one.reasons[0]?.inputs).toMatchObject({ 'harm most on': 'hv1:1' });
    for (const t of ['pre-copy', 'post-copy', 'hybrid'] as const) {
      const harm = Number(one.reasons[0]?.inputs[`harm ${t} bytes`]);
      // Half of what the workload wants, 12.5 MB/s, for as long as the copy takes.
      expect(harm).toBeGreaterThan((12.5e6 * calm.memoryBytes * 8) / 100e6);
      expect(cost(one, t) - cost(free, t)).toBeCloseTo(((harm / 12.5e6) * 1000 * 0.5) / 2, -1);
      expect(cost(two, t)).toBeGreaterThan(cost(one, t));
    }
  });

  test('auto-converge lets pre-copy end', () => {
    const only = question({ guest: 'mixed', model: busy, supported: ['pre-copy'] });
    expect(() => chooseTechnique(only, policy)).toThrow(/nothing that policy/);
    const c = chooseTechnique({ ...only, autoConverge: true }, policy);
    expect(c.value).toBe('pre-copy');
    expect(c.predicted.slowedMs).toBeGreaterThan(0);
  });

  test('only among what policy and hosts allow', () => {
    const edited = compilePolicy(
      applyPolicyPatch(DEFAULT_POLICY, {
        'technique.allowed': '["post-copy", "hybrid"]',
        'technique.table.out-in.guestIn.low': 'hybrid',
      }),
    );
    const idle = question({ guest: 'idle', model: { ...calm, dirtyBytesPerS: 0 } });
    expect(chooseTechnique(idle, edited).value).toBe('hybrid');
    expect(chooseTechnique({ ...idle, supported: ['pre-copy', 'post-copy'] }, edited).value).toBe('post-copy');
    expect(() => chooseTechnique({ ...idle, supported: ['pre-copy'] }, edited)).toThrow(
      /NO_TECHNIQUE|nothing that policy/,
    );
  });
});

describe('the weights are policy', () => {
  const asked = question({ guest: 'mixed', priority: 'low' });
  const link = { id: 'hv1:1', capacityBps: 200e6, demandBps: 200e6, sliceBps: 100e6 };
  const under = (patch: PolicyPatch) => compilePolicy(applyPolicyPatch(DEFAULT_POLICY, patch));

  test.each<[string, PolicyPatch, Technique, Partial<TechniqueQuestion>]>([
    ['as they are', {}, 'pre-copy', {}],
    ['waiting for pages counts nothing', { 'technique.cost.degraded': 0 }, 'post-copy', {}],
    [
      '… but a broken stream much',
      { 'technique.cost.degraded': 0, 'technique.cost.noWayBackMs': '5 s' },
      'pre-copy',
      {},
    ],
    ['a long copy counts much', { 'technique.cost.duration.low': 10 }, 'post-copy', {}],
    ['… of other priorities', { 'technique.cost.duration.high': 10 }, 'pre-copy', {}],
    ['harm counts much', { 'technique.cost.harm.low': 20 }, 'post-copy', { links: [link] }],
    ['… where there is none', { 'technique.cost.harm.low': 20 }, 'pre-copy', { links: [] }],
  ])('%s', (_, patch, technique, change) => {
    const c = chooseTechnique({ ...asked, ...change }, under(patch));
    expect(c.value).toBe(technique);
    const { cost } = under(patch).doc.technique;
    expect(c.reasons[0]?.inputs).toMatchObject({
      'weight degraded': cost.degraded,
      'weight no way back ms': cost.noWayBackMs,
      'weight duration': cost.duration.low,
      'weight harm': cost.harm.low,
    });
  });

  test('the reason says what the least cost is made of, and the sum is right', () => {
    const c = chooseTechnique({ ...asked, links: [link] }, under({ 'technique.cost.harm.low': 20 }));
    const text = c.reasons[0]?.text ?? '';
    expect(text).toMatch(
      /^guest mixed: no row of the table; post-copy costs least, [0-9.]+ s of service \(22 ms downtime \+ 0\.9 × [0-9.]+ s degraded \+ 500 ms for no way back \+ 0\.1 × [0-9.]+ s in all \+ 20 × [0-9.]+ s of harm to the workload\), the next [0-9.]+ s$/,
    );
    const [degraded, total, harm] = [/0\.9 × ([0-9.]+)/, /0\.1 × ([0-9.]+)/, /20 × ([0-9.]+)/].map((r) =>
      Number(r.exec(text)?.[1]),
    );
    const sum = 0.522 + 0.9 * (degraded as number) + 0.1 * (total as number) + 20 * (harm as number);
    expect(Number(c.reasons[0]?.inputs['cost post-copy ms']) / 1000).toBeGreaterThan(sum - 2);
    expect(Number(c.reasons[0]?.inputs['cost post-copy ms']) / 1000).toBeLessThan(sum + 2);
  });

  test('a label overrides some of them for its guests, and the reason names it', () => {
    const policy = under({
      'overrides.labels.service.voice.technique.cost.degraded': 0,
      'overrides.labels.service.voice.technique.cost.duration.high': 9,
      'overrides.guests.vm1.technique.cost.duration.low': 0.2,
    });
    const voice = effectivePolicy(policy, voiceOf);
    expect(voice.doc.technique.cost).toEqual({
      ...DEFAULT_POLICY.technique.cost,
      degraded: 0,
      duration: { high: 9, medium: 0.2, low: 0.2 },
    });
    const c = chooseTechnique(asked, voice);
    expect(c.value).toBe('post-copy');
    expect(c.reasons[0]?.inputs.overriddenBy).toBe('overrides.guests.vm1, overrides.labels.service.voice');
    expect(chooseTechnique(asked, effectivePolicy(policy, { guest: 'vm2' })).value).toBe('pre-copy');
    expect(
      explainSetting(policy, 'technique.cost.degraded', { ...voiceOf, capacityBps: 1e9, rateBps: 0 }),
    ).toMatchObject({
      rule: { level: 'label', name: 'service.voice', value: 0 },
      weaker: [{ level: 'default', value: 0.9 }],
    });
  });

  test.each<[PolicyPatch, RegExp]>([
    [{ 'technique.cost.degraded': -1 }, /^technique\.cost\.degraded: /],
    [{ 'technique.cost.harm.low': Number.POSITIVE_INFINITY }, /^technique\.cost\.harm\.low: /],
    [{ 'technique.cost.noWayBackMs': '-5 s' }, /^technique\.cost\.noWayBackMs: /],
    [{ 'overrides.tenants.acme.technique.cost.duration.low': 'much' }, /technique\.cost\.duration\.low: /],
    [{ 'overrides.tenants.acme.technique.cost.speed': 1 }, /no such field/],
  ])('%j is refused', (patch, reason) => {
    expect(() => under(patch)).toThrow(reason);
  });
});

test("the table's entry that the hosts cannot do gives way to what costs least", () => {
  const c = chooseTechnique(question({ supported: ['pre-copy'] }), policy);
  expect(c.value).toBe('pre-copy');
  expect(rules(c)).toEqual(['technique.unsupported']);
});

describe('what an operator asks for', () => {
  test('goes before the table, and the reason says so', () => {
    const c = chooseTechnique(question({ requested: 'post-copy' }), policy);
    expect(c.value).toBe('post-copy');
    expect(rules(c)).toEqual(['technique.requested']);
  });
  test('goes before convergence, with a warning', () => {
    const c = chooseTechnique(question({ requested: 'pre-copy', model: busy }), policy);
    expect(c.value).toBe('pre-copy');
    expect(rules(c)).toEqual(['technique.requested', 'technique.notConverging']);
    expect(c.predicted.converges).toBe(false);
  });
  test('is refused when the hosts cannot do it', () => {
    const attempt = () => chooseTechnique(question({ requested: 'hybrid', supported: ['pre-copy'] }), policy);
    expect(attempt).toThrow(/together can do pre-copy/);
    expect(() => chooseTechnique(question({ requested: 'hybrid', supported: [] }), policy)).toThrow(
      /nothing in common/,
    );
  });
});

describe('a guest whose clients would wait for long', () => {
  /** By the table post-copy; 256 MiB take 75 s at 28.8 Mbit/s, for half of which a client hears nothing. */
  const slow = question({ guest: 'out', priority: 'low', sliceBps: 28.8e6 });
  const limits = (ms: number) =>
    compilePolicy(applyPolicyPatch(DEFAULT_POLICY, { 'technique.silenceLimitMs.low': ms }));

  test('goes by hybrid where little is left after its passes', () => {
    const c = chooseTechnique(slow, policy);
    expect(c.value).toBe('hybrid');
    expect(rules(c)).toEqual(['technique.table', 'technique.lessSilence']);
    expect(c.reasons[1]?.text).toMatch(
      /^by post-copy at 28\.8 Mbit\/s the guest would not answer for some 37\.\d s, more than 12\.0 s: hybrid instead, /,
    );
    expect(c.reasons[1]?.inputs).toMatchObject({ silenceLimitMs: 12_000, sliceBps: 28.8e6 });
  });

  test('goes by pre-copy, which ends, where hybrid is silent for too long or cannot be had', () => {
    expect(chooseTechnique(slow, limits(1000)).value).toBe('pre-copy');
    expect(chooseTechnique({ ...slow, supported: ['pre-copy', 'post-copy'] }, policy).value).toBe('pre-copy');
  });

  test('goes as the table says within the limit, which is of its priority, and up to it', () => {
    const faster = { ...slow, sliceBps: 100e6 };
    expect(rules(chooseTechnique(faster, policy))).toEqual(['technique.table']);
    expect(rules(chooseTechnique({ ...slow, sliceBps: 60e6 }, policy))).toEqual([
      'technique.table',
      'technique.lessSilence',
    ]);
    expect(rules(chooseTechnique({ ...slow, sliceBps: 60e6, priority: 'medium' }, policy))).toEqual([
      'technique.table',
    ]);
    expect(rules(chooseTechnique(slow, limits(600_000)))).toEqual(['technique.table']);
  });

  test('that writes too fast for pre-copy is at least silent for less than half as long', () => {
    const c = chooseTechnique({ ...slow, model: busy }, policy);
    expect(c.value).toBe('hybrid');
    expect(c.reasons.at(-1)).toMatchObject({ rule: 'technique.lessSilence' });
    expect(c.reasons.at(-1)?.inputs.insteadMs).toBeLessThanOrEqual(Number(c.reasons.at(-1)?.inputs.silenceMs) / 2);
  });

  test('is told so where nothing is better, or where it was asked for', () => {
    const only = chooseTechnique({ ...slow, supported: ['post-copy'] }, policy);
    expect([only.value, rules(only)]).toEqual(['post-copy', ['technique.table', 'technique.longSilence']]);
    const whole = { ...busy, workingSetBytes: busy.memoryBytes };
    const none = chooseTechnique({ ...slow, model: whole }, policy);
    expect([none.value, rules(none)]).toEqual(['post-copy', ['technique.table', 'technique.longSilence']]);
    const asked = chooseTechnique({ ...slow, requested: 'post-copy' }, policy);
    expect([asked.value, rules(asked)]).toEqual(['post-copy', ['technique.requested', 'technique.longSilence']]);
    expect(asked.reasons[1]?.text).toContain('but it was asked for');
  });

  test('in a slice of nothing nothing can be said', () => {
    expect(rules(chooseTechnique({ ...slow, sliceBps: 0 }, policy))).toEqual(['technique.table']);
  });

  test('has a limit of its own by label', () => {
    const doc = applyPolicyPatch(DEFAULT_POLICY, {
      'overrides.labels.service.voice.technique.silenceLimitMs.low': '2 s',
    });
    const voice = effectivePolicy(compilePolicy(doc), voiceOf);
    const faster = { ...slow, sliceBps: 100e6 };
    expect(rules(chooseTechnique(faster, voice)).at(-1)).toBe('technique.lessSilence');
    expect(voice.doc.technique.silenceLimitMs).toEqual({ high: 30_000, medium: 20_000, low: 2000 });
  });
});
