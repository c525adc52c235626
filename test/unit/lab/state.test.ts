/** The lab's record of what it made: survives its writer, and is never trusted beyond what is provably the lab's own. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ended, stop, stopPid } from '../../../sim/lab/shell.ts';
import { StateFile, startTicks } from '../../../sim/lab/state.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'lab-state-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const sleeper = () => spawn('sleep', ['600'], { stdio: 'ignore' });

test('what was recorded is found by the next process', () => {
  const first = new StateFile(directory, 'abc');
  first.addNamespace('abc-hv1');
  first.addProcess(process.pid, 'this test');
  const read = StateFile.read(directory);
  expect(read?.namespaces).toEqual(['abc-hv1']);
  expect(read?.processes).toEqual([{ pid: process.pid, startTicks: startTicks(process.pid), what: 'this test' }]);
});

test('a state file that is damaged counts as none', () => {
  writeFileSync(join(directory, 'state.json'), '{"format":"lab-state/1","prefix":');
  expect(StateFile.read(directory)).toBeUndefined();
  writeFileSync(join(directory, 'state.json'), '{"format":"lab-state/9"}');
  expect(StateFile.read(directory)).toBeUndefined();
});

test('a live owner is reported, this process and a dead one are not', async () => {
  const state = new StateFile(directory, 'abc');
  state.setOwner(true);
  expect(new StateFile(directory, 'abc').otherOwner()).toBeUndefined();

  const other = sleeper();
  const pid = other.pid as number;
  const raw = { format: 'lab-state/1', prefix: 'abc', namespaces: [], processes: [] };
  const write = (ticks: string | undefined) =>
    writeFileSync(join(directory, 'state.json'), JSON.stringify({ ...raw, owner: { pid, startTicks: ticks } }));
  write(startTicks(pid));
  expect(new StateFile(directory, 'abc').otherOwner()).toBe(pid);
  // The same pid, used again by another process.
  write('1');
  expect(new StateFile(directory, 'abc').otherOwner()).toBeUndefined();
  write(startTicks(pid));
  await stop(other);
  expect(new StateFile(directory, 'abc').otherOwner()).toBeUndefined();
});

test('cleaning up ends what is recorded, and only that', async () => {
  const mine = sleeper();
  const foreign = sleeper();
  const state = new StateFile(directory, 'abc');
  state.addProcess(mine.pid as number, 'sleeper');
  const { removed, remaining } = await state.cleanUp();
  expect(await ended(mine)).toBeNull();
  expect(removed).toEqual([`process ${mine.pid} (sleeper)`]);
  expect(remaining).toEqual([]);
  expect(startTicks(foreign.pid as number)).toBeDefined();
  await stop(foreign);
});

test('a process whose pid was used again is left alone', async () => {
  const foreign = sleeper();
  const pid = foreign.pid as number;
  const record = { pid, startTicks: '1', what: 'one that ended long ago' };
  writeFileSync(
    join(directory, 'state.json'),
    JSON.stringify({ format: 'lab-state/1', prefix: 'abc', owner: null, namespaces: [], processes: [record] }),
  );
  expect((await new StateFile(directory, 'abc').cleanUp()).removed).toEqual([]);
  expect(startTicks(pid)).toBeDefined();
  await stop(foreign);
});

test('a process that ignores TERM is killed', async () => {
  const stubborn = spawn('sh', ['-c', 'trap "" TERM; echo ready; while :; do sleep 0.05; done'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  await new Promise((resolve) => stubborn.stdout?.once('data', resolve));
  const state = new StateFile(directory, 'abc');
  state.addProcess(stubborn.pid as number, 'stubborn');
  const { remaining } = await state.cleanUp(300);
  await ended(stubborn);
  expect(stubborn.signalCode).toBe('SIGKILL');
  expect(remaining).toEqual([]);
});

test('a process that is not a child is waited for', async () => {
  const child = sleeper();
  await stopPid(child.pid as number);
  await ended(child);
  expect(child.signalCode).toBe('SIGTERM');
});
