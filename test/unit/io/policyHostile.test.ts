/** Hostile edits through the stores without a server: refused with the field, noted in the history, the last good policy in force. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '../../../contracts/log.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { PolicyPatch } from '../../../contracts/rest.ts';
import { FilePolicyStore, MemoryPolicyStore, policyCodec } from '../../../controller/io/policyStores/index.ts';
import { ManualClock } from './support.ts';

const HOSTILE: readonly [string, PolicyPatch, RegExp][] = [
  ['an expression of a megabyte', { 'reservation.low': `capacity ${'- 1 '.repeat(250_000)}` }, /^reservation\.low/],
  ['a constructor', { 'reservation.low': 'capacity.constructor' }, /^reservation\.low/],
  ['a prototype as a field', { '__proto__.low': 'capacity' }, /__proto__/],
  ['a prototype as an override', { 'overrides.guests.__proto__': '{"sla":{"floor":"0 %"}}' }, /__proto__/],
  ['not a number', { 'reservation.minSliceBps': Number.NaN }, /^reservation\.minSliceBps/],
  ['a negative rate', { 'reservation.minSliceBps': -1 }, /^reservation\.minSliceBps/],
  ['an infinite rate', { 'reservation.minSliceBps': Number.POSITIVE_INFINITY }, /^reservation\.minSliceBps/],
  ['a time where a rate belongs', { 'sla.default.floor': '10 s' }, /^sla\.default\.floor/],
  ['an amount where a rate belongs', { 'reservation.high': 'capacity - 100 Mbit' }, /^reservation\.high/],
];

const dir = mkdtempSync(join(tmpdir(), 'fairway-hostile-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

describe.each(['memory', 'file'] as const)('%s', (kind) => {
  test.each(HOSTILE)('%s', async (_, patch, reason) => {
    const clock = new ManualClock();
    const file = join(dir, `${kind}.yaml`);
    const store =
      kind === 'memory'
        ? new MemoryPolicyStore({ codec: policyCodec, clock })
        : new FilePolicyStore({ file, codec: policyCodec, clock, log: silentLog, pollMs: 100 });
    let inForce = (
      await store.start(
        (doc) => (inForce = doc),
        () => undefined,
      )
    ).doc;
    const before = store.history().length;
    await expect(store.patch(patch)).rejects.toMatchObject({ code: 'POLICY_INVALID' });
    expect(inForce).toEqual(DEFAULT_POLICY);
    const [last] = store.history();
    expect(store.history().length).toBe(before + 1);
    expect(last).toMatchObject({ state: 'refused', revision: 1 });
    expect(last?.reason).toMatch(reason);
    // Whatever was sent, what is kept of it is short.
    expect(JSON.stringify(last).length).toBeLessThan(20_000);
    if (kind === 'file') expect(readFileSync(file, 'utf8')).not.toContain('constructor');
    await store.close();
  });
});
