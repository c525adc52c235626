/**
 * Fairway on the lab's real network, through the command line: a real guest is moved by controller and agents over Open
 * vSwitch and goes on counting; an edit by `redis-cli` acts on a running migration; an interrupt, a crash and `lab down`
 * leave nothing behind. How fast and how fair it is, the scenarios of `fairway lab run` measure on a quiet machine.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { MigrationView } from '../../contracts/feed.ts';
import { guestAddress } from '../../sim/lab/guests.ts';
import { hostLeftovers, switchLeftovers } from '../../sim/lab/leftovers.ts';
import { goesOnCounting, readGuestCount } from '../../sim/lab/measure.ts';
import { describeLab, removeLab } from '../../sim/lab/network.ts';
import { REDIS, whyNoLab } from '../../sim/lab/requirements.ts';
import { runScenario } from '../../sim/lab/run.ts';
import type { PolicyEditRun } from '../../sim/lab/scenarios/policyEdit.ts';
import { inNamespace } from '../../sim/lab/shell.ts';
import type { StandingLab } from '../../sim/lab/up.ts';
import { gate } from './gate.ts';

jest.setTimeout(600_000);

const prefix = `lf${process.pid}`;
const lab = describeLab({ prefix });
const BIN = join(import.meta.dirname, '../../cli/fairway.mjs');
const { reason, real, named } = gate(whyNoLab());
const withRedis = gate(whyNoLab(REDIS));
const running = new Set<ChildProcess>();

afterEach(async () => {
  for (const child of running) {
    child.kill('SIGKILL');
    await once(child, 'close');
  }
  if (reason === undefined) await removeLab({ prefix });
});

/** Starts the command line, in the namespace of the controller when `inside`. */
function fairway(args: string[], inside = false) {
  const words = [BIN, ...args] as const;
  const [command, all] = inside ? inNamespace(lab.ns('ctl'), process.execPath, words) : [process.execPath, [...words]];
  const child = spawn(command, all, { env: { ...process.env, FAIRWAY_LAB_PREFIX: prefix } });
  running.add(child);
  const written = { out: '', err: '' };
  child.stdout.on('data', (bytes) => {
    written.out += String(bytes);
  });
  child.stderr.on('data', (bytes) => {
    written.err += String(bytes);
  });
  const ended = once(child, 'close').then(([status]) => {
    running.delete(child);
    return { status: status as number | null, ...written };
  });
  /** Resolves once standard error satisfies the pattern; fails when the program ends before. */
  const said = (pattern: RegExp) =>
    new Promise<void>((resolve, reject) => {
      const look = () => pattern.test(written.err) && resolve();
      child.stderr.on('data', look);
      ended.then((e) => reject(new Error(`ended with ${e.status}: ${e.err}`)), reject);
      look();
    });
  return { child, ended, said };
}

real(named('a guest moves by hand in a lab that was left standing, and goes on counting'), async () => {
  const up = await fairway(['lab', 'up', '--json']).ended;
  expect(up).toMatchObject({ status: 0 });
  const standing = JSON.parse(up.out) as StandingLab;
  const operator = ['--url', standing.url, '--token-file', standing.tokenFile];
  const counted = (await readGuestCount(lab, guestAddress(0))) ?? 0;
  expect(counted).toBeGreaterThan(0);

  const moved = await fairway(
    ['migrate', 'guest1', '--to', 'hv2', '--priority', 'high', '--wait', '--json', ...operator],
    true,
  ).ended;
  expect(moved).toMatchObject({ status: 0 });
  const [view] = (JSON.parse(moved.out) as { migrations: MigrationView[] }).migrations;
  expect(view).toMatchObject({ guest: 'guest1', from: 'hv1', to: 'hv2', state: 'done', enforcement: 'queue' });
  expect(view?.path).toHaveLength(2);
  expect(view?.reasons.map((r) => r.rule.split('.')[0])).toEqual(
    expect.arrayContaining(['contention', 'strategy', 'technique', 'reservation', 'reroute']),
  );
  expect(await goesOnCounting(lab, guestAddress(0), counted)).toBe(true);
  expect(await switchLeftovers(lab, { forwardingIsFine: true })).toEqual([]);

  const down = await fairway(['lab', 'down']).ended;
  expect(down.status).toBe(0);
  expect(down.out.match(/removed namespace/g)).toHaveLength(7);
  expect(await hostLeftovers(lab)).toEqual([]);
});

withRedis.real(
  withRedis.named('a policy edited by redis-cli changes the slice of a running migration; a broken edit does not'),
  async () => {
    const options = { json: true, out: () => {}, keep: false, signal: new AbortController().signal, lab: { prefix } };
    const result = await runScenario('policy-edit', options);
    const [run] = result.runs as PolicyEditRun[];
    const [wider, broken, narrower] = run?.edits ?? [];
    expect(wider?.status).toMatchObject({ state: 'accepted', reason: '' });
    expect(wider?.sliceAfterMbps).toBeGreaterThan((wider?.sliceBeforeMbps ?? 0) + 10);
    expect(broken?.status.state).toBe('refused');
    expect(broken?.status.reason).toContain('reservation.medium');
    expect(broken?.sliceAfterMbps).toBe(broken?.sliceBeforeMbps);
    expect(narrower?.status.state).toBe('accepted');
    expect(narrower?.sliceAfterMbps).toBeLessThan((narrower?.sliceBeforeMbps ?? 0) - 10);
    expect(run?.guestAlive).toBe(true);
    expect(result.leftovers).toEqual([]);
  },
);

real(named('Ctrl-C in the middle of a run leaves nothing behind'), async () => {
  const run = fairway(['lab', 'run', 'contention', '--json']);
  await run.said(/unmanaged: plain QEMU/);
  run.child.kill('SIGINT');
  const { status, out } = await run.ended;
  expect({ status, out }).toEqual({ status: 130, out: '' });
  expect(await hostLeftovers(lab)).toEqual([]);
});

real(named('what a killed run left is taken down'), async () => {
  const run = fairway(['lab', 'run', 'gang', '--json']);
  await run.said(/four guests in one request/);
  // Long enough for controller and guests to be on their way.
  await new Promise((resolve) => setTimeout(resolve, 3000));
  run.child.kill('SIGKILL');
  await run.ended;
  expect(await hostLeftovers(lab)).not.toEqual([]);
  const down = await fairway(['lab', 'down', '--json']).ended;
  expect(down.status).toBe(0);
  expect((JSON.parse(down.out) as { removed: string[] }).removed.length).toBeGreaterThan(7);
  expect(await hostLeftovers(lab)).toEqual([]);
});
