/** The policy document: what is accepted, what is refused and with which words; edits by path; flat fields. */
import { FairwayError } from '../../../contracts/common.ts';
import { DEFAULT_POLICY, type PolicyDocument } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import {
  applyPolicyPatch,
  compilePolicy,
  flattenPolicy,
  parsePolicy,
  unflattenPolicy,
} from '../../../policies/index.ts';

function refusal(attempt: () => unknown): string {
  try {
    attempt();
  } catch (e) {
    if (!(e instanceof FairwayError)) throw e;
    expect(e.code).toBe('POLICY_INVALID');
    expect(e.has('badInput')).toBe(true);
    return e.message;
  }
  throw new Error('it was accepted');
}
const edit = (patch: PolicyPatch) => applyPolicyPatch(DEFAULT_POLICY, patch);
const link = '000000000000000a:3';

describe('compiling', () => {
  const policy = compilePolicy(DEFAULT_POLICY);
  const vars = { capacity: 200e6, floor: 100e6, ceiling: 140e6, rate: 160e6 };

  test('the default document is valid and is not changed by it', () => {
    expect(policy.doc).toEqual(DEFAULT_POLICY);
    expect(parsePolicy(JSON.parse(JSON.stringify(DEFAULT_POLICY))).doc).toEqual(DEFAULT_POLICY);
  });

  test.each([
    ['high', 100e6],
    ['mediumInitial', 60e6],
    ['medium', 60e6],
    ['low', 40e6],
  ] as const)('%s reserves %d bit/s of 200 Mbit/s with floor 100, ceiling 140 and a workload of 160', (which, bps) => {
    expect(policy.evaluate(which, vars)).toBe(bps);
  });

  test('what an expression says is kept within the link, and not-a-number reserves nothing', () => {
    const odd = compilePolicy(
      edit({
        'reservation.low': 'capacity - 2 * rate',
        'reservation.high': 'capacity * 3',
      }),
    );
    expect(odd.evaluate('low', vars)).toBe(0);
    expect(odd.evaluate('high', vars)).toBe(200e6);
    expect(odd.evaluate('medium', { ...vars, rate: Number.NaN })).toBe(0);
  });

  test('limits are shares or rates, per link or by default, and never beyond the link', () => {
    const p = compilePolicy(
      edit({
        'sla.default.floor': '50 %',
        'sla.default.ceiling': '300 Mbit/s',
        [`sla.links.${link}.floor`]: '20000 kbit/s',
        [`sla.links.${link}.ceiling`]: '30 Mbit/s',
      }),
    );
    expect(p.slaFor(link, 200e6)).toEqual({ floorBps: 20e6, ceilingBps: 30e6 });
    expect(p.slaFor('other:1', 200e6)).toEqual({ floorBps: 100e6, ceilingBps: 200e6 });
    expect(p.slaFor('other:1', 1e9)).toEqual({ floorBps: 500e6, ceilingBps: 500e6 });
    expect(p.slaFor(link, 10e6)).toEqual({ floorBps: 10e6, ceilingBps: 10e6 });
    expect(p.slaFor(link, 0)).toEqual({ floorBps: 0, ceilingBps: 0 });
  });
});

describe('contradictions are refused, naming the field', () => {
  test.each<[string, PolicyPatch, string]>([
    ['floor above ceiling', { 'sla.default.floor': '80 %' }, 'sla.default.floor: 80 % is above the ceiling 70 %'],
    ['the same on one link', { [`sla.links.${link}.floor`]: '71 %' }, `sla.links.${link}.floor`],
    ['the same in rates', { 'sla.default.floor': '2 Gbit/s', 'sla.default.ceiling': '1 Gbit/s' }, 'sla.default.floor'],
    ['more than the whole link', { 'sla.default.ceiling': '130 %' }, 'sla.default.ceiling: 130 %'],
    ['moderate above high contention', { 'strategy.contention.moderate': 0.9 }, 'strategy.contention.moderate'],
    ['out above in', { 'direction.outShare': 0.7 }, 'direction.outShare'],
    ['out equal to in', { 'direction.outShare': 0.6 }, 'direction.outShare'],
    ['one mark twice', { 'marks.medium': 10 }, 'marks.medium: 10 is also marks.high'],
    ['one mark twice', { 'marks.low': 12 }, 'marks.low: 12 is also marks.medium'],
    [
      'a technique in the table that is not allowed',
      { 'technique.allowed': '["hybrid", "post-copy"]' },
      'technique.table.out-in.guestIn.low: pre-copy',
    ],
    [
      'a technique twice',
      { 'technique.allowed': '["hybrid", "post-copy", "pre-copy", "hybrid"]' },
      'technique.allowed',
    ],
    ['an empty range of labels', { 'finish.labelVlans': '[200, 100]' }, 'finish.labelVlans'],
    ['a silence longer than the drain', { 'finish.silenceMs': 40_000 }, 'finish.silenceMs'],
    ['a steady workload that counts as backlogged', { 'workload.saturatedAt': 0.95 }, 'workload.saturatedAt'],
    ['the same by headroom', { 'workload.headroom': 0.02 }, 'workload.saturatedAt'],
    ['an expression with an unknown name', { 'reservation.low': 'capacity - load' }, 'reservation.low: uses "load"'],
    [
      'an expression that divides by 0',
      { 'reservation.medium': 'rate / rate * capacity' },
      'reservation.medium: is NaN',
    ],
    ['an expression too long for the schema', { 'reservation.high': '1'.repeat(501) }, 'reservation.high'],
  ])('%s', (_, patch, words) => expect(refusal(() => edit(patch))).toContain(words));
});

describe('edits', () => {
  test('change what they name and nothing else, not even the document they start from', () => {
    const before = structuredClone(DEFAULT_POLICY);
    const after = edit({ 'reservation.low': 'capacity - rate - 1 Mbit/s', 'limits.perHostOut': 2 });
    expect(after).toEqual({
      ...before,
      reservation: { ...before.reservation, low: 'capacity - rate - 1 Mbit/s' },
      limits: { ...before.limits, perHostOut: 2 },
    });
    expect(DEFAULT_POLICY).toEqual(before);
    expect(edit({})).toEqual(before);
  });

  test.each<[string, PolicyPatch, (d: PolicyDocument) => unknown, unknown]>([
    ['a number as text', { 'limits.perHostIn': ' 3 ' }, (d) => d.limits.perHostIn, 3],
    ['a share as text', { 'strategy.contention.high': '.9' }, (d) => d.strategy.contention.high, 0.9],
    ['a rate as text with exponent', { 'reservation.minSliceBps': '2e6' }, (d) => d.reservation.minSliceBps, 2e6],
    ['an array as JSON', { 'finish.labelVlans': '[100, 200]' }, (d) => d.finish.labelVlans, [100, 200]],
    [
      'an object as JSON',
      { marks: '{"high": 1, "medium": 2, "low": 3}' },
      (d) => d.marks,
      { high: 1, medium: 2, low: 3 },
    ],
    [
      'a table entry',
      { 'technique.table.in-in.guestIn.low': 'pre-copy' },
      (d) => d.technique.table['in-in'].guestIn.low,
      'pre-copy',
    ],
    [
      'no limit',
      { 'sla.default.floor': 0, 'sla.default.ceiling': '0' },
      (d) => d.sla.default,
      { floor: 0, ceiling: 0 },
    ],
    ['a limit with unit', { 'sla.default.floor': '5 Mbit/s' }, (d) => d.sla.default.floor, '5 Mbit/s'],
    [
      'one limit of a new link',
      { [`sla.links.${link}.floor`]: '60 %' },
      (d) => d.sla.links,
      { [link]: { floor: '60 %', ceiling: '70 %' } },
    ],
    [
      'a new link as JSON',
      { [`sla.links.${link}`]: '{"floor": 0, "ceiling": "2 Mbit/s"}' },
      (d) => d.sla.links,
      { [link]: { floor: 0, ceiling: '2 Mbit/s' } },
    ],
    [
      'an object, then a field in it',
      { 'sla.links.a:1.floor': '3 %', 'sla.links': '{"a:1": {"floor": "1 %", "ceiling": "4 %"}}' },
      (d) => d.sla.links,
      { 'a:1': { floor: '3 %', ceiling: '4 %' } },
    ],
    ['the format it already has', { format: 'policy/1' }, (d) => d.format, 'policy/1'],
  ])('%s', (_, patch, read, value) => expect(read(edit(patch))).toEqual(value));

  test('null removes the limits of a link, and only those', () => {
    const one = edit({ [`sla.links.${link}.floor`]: '60 %' });
    expect(applyPolicyPatch(one, { [`sla.links.${link}`]: null }).sla.links).toEqual({});
    expect(refusal(() => edit({ 'sla.default.floor': null }))).toContain('sla.default.floor: cannot be removed');
    expect(refusal(() => edit({ 'sla.links': null }))).toContain('sla.links: cannot be removed');
  });

  test('limits that only fit together can be changed together', () => {
    expect(edit({ 'sla.default.floor': '80 %', 'sla.default.ceiling': '90 %' }).sla.default.floor).toBe('80 %');
  });

  test('all that is wrong is told, and what would be right', () => {
    const patch = {
      'direction.windowMs': -1,
      'limits.perHostOut': 0,
      'reservation.medum': 'rate',
      'reservation.low': '',
    };
    expect(refusal(() => edit({ ...patch, 'marks.low': 'x' }))).toMatch(
      /^marks\.low: must be a number, not "x"; reservation\.medum: there is no such field; /,
    );
    const { 'reservation.medum': _, ...known } = patch;
    expect(refusal(() => edit(known))).toBe(
      'direction.windowMs: must be a number of ms (500 – 600000, whole) or a text such as "200 ms"; ' +
        'reservation.low: is empty; write an expression such as "capacity - rate"; ' +
        'limits.perHostOut: must be a number (1 – 1000)',
    );
    const many = Object.fromEntries(Array.from({ length: 50 }, (_x, i) => [`f${i}`, 1]));
    expect(refusal(() => edit(many)).split('no such field')).toHaveLength(6);
  });

  test('one bad field refuses all', () => {
    expect(refusal(() => edit({ 'limits.perHostOut': 2, 'reservation.low': 'rate +' }))).toContain('reservation.low');
  });

  test.each<[string, PolicyPatch, string]>([
    [
      'an unknown field',
      { 'reservation.lo': '1' },
      'reservation.lo: there is no such field; there are reservation.high',
    ],
    ['an unknown section', { nothing: 1 }, 'nothing: there is no such field'],
    ['a field of a field', { 'reservation.low.x': 1 }, 'reservation.low.x'],
    ['a field of a link that is none', { [`sla.links.${link}.middle`]: 1 }, `sla.links.${link}.middle`],
    ['a link without a port', { 'sla.links.core.floor': '1 %' }, 'sla.links.core'],
    ['a text for a number', { 'limits.perHostOut': 'many' }, 'limits.perHostOut: must be a number'],
    ['hexadecimal for a number', { 'limits.perHostOut': '0x10' }, 'limits.perHostOut: must be a number'],
    ['nothing for a number', { 'limits.perHostOut': '' }, 'limits.perHostOut: must be a number'],
    ['a truth for a number', { 'limits.perHostOut': true }, 'limits.perHostOut'],
    ['a number out of range', { 'limits.perHostOut': 0 }, 'limits.perHostOut'],
    ['a fraction for a count', { 'technique.hybridPasses': '1.5' }, 'technique.hybridPasses'],
    ['a number for an expression', { 'reservation.low': 5 }, 'reservation.low'],
    ['an unknown technique', { 'technique.table.in-in.guestIn.low': 'copy' }, 'technique.table.in-in.guestIn.low'],
    ['an array that is not JSON', { 'technique.allowed': 'hybrid' }, 'technique.allowed: is not JSON'],
    ['an array too short', { 'finish.labelVlans': '[1]' }, 'finish.labelVlans'],
    ['a section that lacks fields', { limits: '{"perHostIn": 1}' }, 'limits.perHostOut'],
    ['a section with a strange field', { limits: '{"perHostIn": 1, "perHostOut": 1, "x": 1}' }, 'limits'],
    ['a section that is no object', { limits: '5' }, 'limits'],
    ['another format', { format: 'policy/2' }, 'format'],
  ])('%s is refused', (_, patch, words) => expect(refusal(() => edit(patch))).toContain(words));

  test.each([
    '__proto__',
    '__proto__.polluted',
    'constructor.prototype.polluted',
    'sla.links.__proto__',
    'sla.links.__proto__.floor',
    'sla.links.constructor.floor',
    'sla.__proto__.polluted',
    'limits.toString',
    'toString',
  ])('the path %s reaches no prototype', (path) => {
    // Made by JSON, where __proto__ is a key like others.
    const patch = JSON.parse(`{${JSON.stringify(path)}: "1"}`) as PolicyPatch;
    expect(refusal(() => edit(patch))).toContain(path.split('.').slice(0, 1).join('.'));
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    expect(({} as Record<string, unknown>).floor).toBeUndefined();
  });

  test('nor do keys inside JSON texts', () => {
    const inner = '{"__proto__": {"floor": 1, "ceiling": 2}}';
    expect(refusal(() => edit({ 'sla.links': inner }))).toContain('sla.links.__proto__');
    expect(refusal(() => edit({ sla: `{"default": {"floor": 1, "ceiling": 2}, "links": ${inner}}` }))).toContain(
      'sla.links.__proto__',
    );
    expect(
      refusal(() => edit({ limits: '{"perHostIn": 1, "perHostOut": 1, "__proto__": {"polluted": 1}}' })),
    ).toContain('limits');
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });
});

describe('reading a whole document', () => {
  test.each<[string, unknown, string]>([
    ['nothing', undefined, '(document)'],
    ['a text', 'policy', '(document)'],
    ['a section missing', { ...DEFAULT_POLICY, marks: undefined }, 'marks'],
    ['a section too many', { ...DEFAULT_POLICY, extra: 1 }, 'extra'],
    [
      'a value of the wrong kind',
      { ...DEFAULT_POLICY, limits: { perHostOut: '8', perHostIn: 8 } },
      'limits.perHostOut',
    ],
  ])('%s is refused', (_, value, words) => expect(refusal(() => parsePolicy(value))).toContain(words));

  test('one of before a field was there means its default, and keeps all that it says', () => {
    const { silenceLimitMs, ...technique } = DEFAULT_POLICY.technique;
    const before = { ...DEFAULT_POLICY, technique: { ...technique, hybridPasses: 7 } };
    expect(parsePolicy(before).doc.technique).toEqual({ ...technique, hybridPasses: 7, silenceLimitMs });
    const part = { ...before, technique: { ...before.technique, silenceLimitMs: { high: 30_000 } } };
    expect(refusal(() => parsePolicy(part))).toContain('technique.silenceLimitMs.medium: is absent');
  });
});

describe('flat fields', () => {
  test('are texts, one for each leaf, with arrays as JSON', () => {
    const flat = flattenPolicy(edit({ [`sla.links.${link}.floor`]: '60 %' }));
    expect(Object.values(flat).every((v) => typeof v === 'string')).toBe(true);
    expect(flat).toMatchObject({
      format: 'policy/1',
      'reservation.medium': 'capacity - clamp(rate, floor, ceiling)',
      'reservation.minSliceBps': '4000000',
      'technique.allowed': '["pre-copy","post-copy","hybrid"]',
      'technique.table.out-in.guestIn.low': 'pre-copy',
      [`sla.links.${link}.floor`]: '60 %',
      [`sla.links.${link}.ceiling`]: '70 %',
    });
  });

  test('of the default document give the default document; absent ones have their defaults', () => {
    expect(unflattenPolicy(flattenPolicy(DEFAULT_POLICY))).toEqual(DEFAULT_POLICY);
    expect(unflattenPolicy({})).toEqual(DEFAULT_POLICY);
    expect(unflattenPolicy({ 'marks.high': '20' })).toEqual({
      ...DEFAULT_POLICY,
      marks: { ...DEFAULT_POLICY.marks, high: 20 },
    });
  });

  test('that are unknown are refused', () => {
    expect(refusal(() => unflattenPolicy({ 'marks.hihg': '20' }))).toContain('marks.hihg');
  });
});
