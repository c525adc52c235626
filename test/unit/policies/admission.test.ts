/** Who may start: the four rules of `policies/admission.ts`, one by one. */

import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import { type AdmissionItem, admit, applyPolicyPatch, compilePolicy } from '../../../policies/index.ts';

const policyWith = (patch: PolicyPatch) => compilePolicy(applyPolicyPatch(DEFAULT_POLICY, patch));
const policy = policyWith({});

let count = 0;
const item = (id: string, change: Partial<AdmissionItem> = {}): AdmissionItem => ({
  id,
  group: null,
  priority: 'low',
  strategy: 'serial',
  // Hosts of its own, so that limits only bind where a test says so.
  fromHost: `from${++count}`,
  toHost: `to${count}`,
  links: ['a:1'],
  ...change,
});
const parallel = { strategy: 'parallel' } as const;
const ask = (waiting: AdmissionItem[], running: AdmissionItem[] = [], p = policy) => admit({ waiting, running }, p);
const waits = (a: ReturnType<typeof admit>) => a.wait.map((w) => [w.id, w.reason.rule, w.behind]);

describe('order', () => {
  test('higher priority first, then the order of request', () => {
    const a = ask([
      item('low', parallel),
      item('medium', { ...parallel, priority: 'medium' }),
      item('high1', { ...parallel, priority: 'high' }),
      item('high2', { ...parallel, priority: 'high' }),
    ]);
    expect(a).toEqual({ start: ['high1', 'high2', 'medium', 'low'], wait: [] });
  });
});

describe('serial', () => {
  test('four on one link: one at a time, in order', () => {
    const all = ['1', '2', '3', '4'].map((id) => item(id));
    const first = ask(all);
    expect(first.start).toEqual(['1']);
    expect(waits(first)).toEqual([
      ['2', 'admission.serial', ['1']],
      ['3', 'admission.serial', ['1']],
      ['4', 'admission.serial', ['1']],
    ]);
    expect(first.wait[0]?.reason.bindingLink).toBe('a:1');
    const second = ask(all.slice(1), []);
    expect(second.start).toEqual(['2']);
  });

  test('waits for a running migration of its own or a higher priority, of either strategy', () => {
    for (const strategy of ['serial', 'parallel'] as const) {
      for (const priority of ['low', 'medium', 'high'] as const) {
        expect(waits(ask([item('x')], [item('r', { strategy, priority })]))).toEqual([
          ['x', 'admission.serial', ['r']],
        ]);
      }
    }
  });

  test('does not wait for a lower priority', () => {
    expect(ask([item('x', { priority: 'medium' })], [item('r', parallel)]).start).toEqual(['x']);
  });

  test('does not wait for one on other links', () => {
    expect(ask([item('x')], [item('r', { links: ['b:1', 'c:1'] })]).start).toEqual(['x']);
  });

  test('one shared link of many is enough', () => {
    const a = ask([item('x', { links: ['b:1', 'c:1'] })], [item('r', { links: ['d:1', 'c:1'] })]);
    expect(waits(a)).toEqual([['x', 'admission.serial', ['r']]]);
    expect(a.wait[0]?.reason.bindingLink).toBe('c:1');
  });

  test('is not overtaken on its links by a later serial one', () => {
    const running = [item('r', { links: ['a:1'] })];
    const first = item('first', { links: ['a:1', 'b:1'] });
    const a = ask([first, item('later', { links: ['b:1'] }), item('elsewhere', { links: ['c:1'] })], running);
    expect(a.start).toEqual(['elsewhere']);
    expect(waits(a)).toEqual([
      ['first', 'admission.serial', ['r']],
      ['later', 'admission.order', ['first']],
    ]);
  });

  test('may be overtaken while it only waits for a host', () => {
    const one = policyWith({ 'limits.perHostIn': 1 });
    const running = [item('r', { toHost: 'h', links: ['z:1'] })];
    const a = ask([item('first', { toHost: 'h' }), item('later')], running, one);
    expect(a.start).toEqual(['later']);
    expect(waits(a)).toEqual([['first', 'admission.hostIn', ['r']]]);
  });
});

describe('parallel', () => {
  test('four on one link all start, beside a serial one too', () => {
    const a = ask(
      ['1', '2', '3', '4'].map((id) => item(id, parallel)),
      [item('r')],
    );
    expect(a.start).toEqual(['1', '2', '3', '4']);
  });

  test('a serial one waits for the parallel ones started just now', () => {
    const a = ask([item('s'), item('p', { ...parallel, priority: 'high' })]);
    expect(a.start).toEqual(['p']);
    expect(waits(a)).toEqual([['s', 'admission.serial', ['p']]]);
  });
});

describe('limits', () => {
  test('what a host says of itself binds where it is less than what the policy allows, and is named', () => {
    const two = policyWith({ 'limits.perHostOut': 2, 'limits.perHostIn': 2 });
    const limits = new Map([
      ['h', { outgoing: 1 }],
      ['i', { incoming: 1, outgoing: 9 }],
    ]);
    const a = admit(
      {
        waiting: [
          item('1', { ...parallel, fromHost: 'h' }),
          item('2', { ...parallel, toHost: 'i' }),
          item('3', { ...parallel, fromHost: 'i' }),
          item('4', { ...parallel, fromHost: 'i' }),
        ],
        running: [
          item('r', { ...parallel, fromHost: 'h', toHost: 'i' }),
          item('s', { ...parallel, fromHost: 'i', toHost: 'k' }),
        ],
        limits,
      },
      two,
    );
    expect(a.start).toEqual(['3']);
    expect(waits(a)).toEqual([
      ['1', 'admission.hostOut', ['r']],
      ['2', 'admission.hostIn', ['r']],
      ['4', 'admission.hostOut', ['s', '3']],
    ]);
    expect(a.wait.map((w) => /by its agent's limits/.test(w.reason.text))).toEqual([true, true, false]);
  });

  test('out of a host, counting those started just now', () => {
    const two = policyWith({ 'limits.perHostOut': 2 });
    const from = { ...parallel, fromHost: 'h' };
    const a = ask([item('1', from), item('2', from), item('3', parallel)], [item('r', from)], two);
    expect(a.start).toEqual(['1', '3']);
    expect(waits(a)).toEqual([['2', 'admission.hostOut', ['r', '1']]]);
    expect(a.wait[0]?.reason.inputs).toEqual({ host: 'h', running: 2, perHostOut: 2 });
  });

  test('into a host', () => {
    const one = policyWith({ 'limits.perHostIn': 1 });
    const to = { ...parallel, toHost: 'h' };
    expect(waits(ask([item('1', to), item('2', to)], [], one))).toEqual([['2', 'admission.hostIn', ['1']]]);
  });

  test('leaving and entering are counted apart', () => {
    const one = policyWith({ 'limits.perHostIn': 1, 'limits.perHostOut': 1 });
    const a = ask([item('x', { ...parallel, fromHost: 'h' })], [item('r', { toHost: 'h' })], one);
    expect(a.start).toEqual(['x']);
  });
});

test('nothing waiting, nothing started', () => expect(ask([], [item('r')])).toEqual({ start: [], wait: [] }));
