/** Admission with its indexes against the rules of `policies/admission.ts` written out over plain lists. */
import fc from 'fast-check';
import { PRIORITIES, type Priority } from '../../contracts/common.ts';
import { DEFAULT_POLICY } from '../../contracts/policy.ts';
import { type AdmissionItem, admit, compilePolicy } from '../../policies/index.ts';

const HOSTS = ['a', 'b', 'c', 'd'];
const LINKS = ['l1', 'l2', 'l3', 'l4', 'l5', 'l6'];
const LIMIT = 2;
const policy = compilePolicy({ ...DEFAULT_POLICY, limits: { perHostOut: LIMIT, perHostIn: LIMIT } });

const item = fc.record({
  priority: fc.constantFrom<Priority>(...PRIORITIES),
  strategy: fc.constantFrom('serial' as const, 'parallel' as const),
  fromHost: fc.constantFrom(...HOSTS),
  toHost: fc.constantFrom(...HOSTS),
  links: fc.array(fc.constantFrom(...LINKS), { maxLength: 3 }),
  turn: fc.constantFrom('unplanned' as const, 'waits' as const, 'come' as const),
});

/** Whether it starts, and behind whom it waits by which rule and link. */
interface Verdict {
  rule: string;
  behind: string[];
  link: string | null;
}

const rank = (p: Priority) => PRIORITIES.indexOf(p);

function admitPlainly(waiting: readonly AdmissionItem[], running: readonly AdmissionItem[]): Map<string, Verdict> {
  const verdicts = new Map<string, Verdict>();
  const runs = [...running];
  const heldBack: AdmissionItem[] = [];
  for (const p of PRIORITIES) {
    for (const x of waiting.filter((w) => w.priority === p)) {
      const shared = (o: AdmissionItem) => x.links.find((l) => o.links.includes(l));
      const say = (rule: string, behind: AdmissionItem[], link: string | undefined) =>
        verdicts.set(x.id, { rule, behind: behind.map((b) => b.id), link: link ?? null });
      const ahead = runs.filter((r) => rank(r.priority) <= rank(p) && shared(r) !== undefined);
      const earlier = heldBack.filter((h) => shared(h) !== undefined);
      const isSerial = x.turn === undefined && x.strategy === 'serial';
      const out = runs.filter((r) => r.fromHost === x.fromHost);
      const into = runs.filter((r) => r.toHost === x.toHost);
      if (x.turn) {
        verdicts.set(x.id, { rule: x.turn.reason.rule, behind: [...x.turn.behind], link: null });
        heldBack.push(x);
      } else if (isSerial && ahead[0] !== undefined) {
        say('admission.serial', ahead, shared(ahead[0]));
        heldBack.push(x);
      } else if (isSerial && earlier[0] !== undefined) {
        say('admission.order', earlier, shared(earlier[0]));
        heldBack.push(x);
      } else if (out.length >= LIMIT) say('admission.hostOut', out, undefined);
      else if (into.length >= LIMIT) say('admission.hostIn', into, undefined);
      else {
        say('starts', [], undefined);
        runs.push(x);
      }
    }
  }
  return verdicts;
}

test('who may start, and who waits behind whom and for which link, is what the rules say', () => {
  fc.assert(
    fc.property(fc.array(item, { maxLength: 25 }), fc.nat(8), (items, running) => {
      const all = items.map(({ turn, ...rest }, i): AdmissionItem => {
        const waits = { reason: { rule: 'planning.link', text: '', inputs: {} }, behind: ['j0'] };
        return {
          ...{ id: `j${i}`, group: null, ...rest },
          ...(turn === 'unplanned' ? {} : { turn: turn === 'waits' ? waits : null }),
        };
      });
      const q = { running: all.slice(0, running), waiting: all.slice(running) };
      const { start, wait } = admit(q, policy);
      const verdicts = new Map<string, Verdict>(start.map((id) => [id, { rule: 'starts', behind: [], link: null }]));
      for (const { id, reason, behind } of wait)
        verdicts.set(id, { rule: reason.rule, behind, link: reason.bindingLink ?? null });
      const plain = admitPlainly(q.waiting, q.running);
      expect(Object.fromEntries(verdicts)).toEqual(Object.fromEntries(plain));
      expect(start).toEqual([...plain].filter(([, v]) => v.rule === 'starts').map(([id]) => id));
    }),
    { numRuns: 1000 },
  );
});
