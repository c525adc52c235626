/** `fairway lab run storage` with one of its runs: a guest whose disk stays behind moves through the controller, and all of the disk is right. */
import { removeLab } from '../../sim/lab/network.ts';
import { DISKS, whyNoLab } from '../../sim/lab/requirements.ts';
import { runScenario } from '../../sim/lab/run.ts';
import type { StorageRun } from '../../sim/lab/scenarios/storage.ts';
import { gate } from './gate.ts';

jest.setTimeout(600_000);
const prefix = `ld${process.pid}`;
const { reason, real, named } = gate(whyNoLab(DISKS));

afterAll(async () => {
  if (reason === undefined) await removeLab({ prefix });
});

real(named('a disk read on demand'), async () => {
  const result = await runScenario('storage', {
    json: true,
    out: () => {},
    keep: false,
    signal: new AbortController().signal,
    lab: { prefix },
    modes: ['on-demand'],
    // A smaller disk than that of the scenario, watched for less long: its figures are not the point here.
    storage: { sizeMiB: 320, hotMiB: 32, readMiB: 24, readMs: 3000, watchMs: 2000 },
  });
  const [run, ...others] = result.runs as StorageRun[];
  if (run === undefined) throw new Error('no run');
  expect(others).toEqual([]);
  expect(run).toMatchObject({ mode: 'on-demand', guestAlive: true, mirroredBytes: 0, pull: null });
  expect(run.disk).toMatchObject({ equal: true, hotBlocksWrong: 0, readingsWrong: 0 });
  expect(run.disk.coldMd5After).toBe(run.disk.coldMd5Before);
  // What the guest reads again and again crossed the network, once; the rest stayed.
  expect(run.fetched?.bytes).toBeGreaterThan(24 * 2 ** 20);
  expect(run.fetched?.bytes).toBeLessThan(run.diskBytes / 8);
  expect(result.leftovers).toEqual([]);
});
