/** The lab's check of a guest's disk: it finds each block that is not what the guest was told it had written. */
import { closeSync, copyFileSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BLOCK_KIB, type DiskBefore, diskFigures, diskSaid, makeDisk } from '../../../sim/lab/guestDisk.ts';

const MIB = 2 ** 20;
const BLOCK = BLOCK_KIB * 1024;
/** 8 blocks are hot. */
const SHAPE = { sizeMiB: 5, hotMiB: 2, readMiB: 1 };
const BLOCKS = (SHAPE.hotMiB * MIB) / BLOCK;

let folder: string;
let before: DiskBefore;
let after: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'fairway-disk-'));
  before = makeDisk(join(folder, 'disk.img'), SHAPE);
  after = join(folder, 'after.img');
  copyFileSync(before.path, after);
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const put = (at: number, data: Buffer | string) => {
  const file = openSync(after, 'r+');
  writeSync(file, Buffer.from(data), 0, data.length, at);
  closeSync(file);
};
const block = (n: number) => `fw-block ${String(n).padStart(54, '0')}\n`.repeat(BLOCK / 64);
const write = (from: number, to: number) => {
  for (let n = from; n <= to; n++) put(((n - 1) % BLOCKS) * BLOCK, block(n));
};
/** Figures after a guest was told of so many writes, of which it made two after its move. */
const check = (written: number, sums = [before.readMd5, before.readMd5]) =>
  diskFigures(after, before, { written, sums }, { written: written - 2, readings: 1 });

test('a disk as the guest was told it is', () => {
  write(1, 20);
  expect(check(20)).toMatchObject({ equal: true, hotBlocksRight: 8, hotBlocksWrong: 0, hotBlocksUnsaid: 4 });
  // The next four may be there already.
  write(21, 24);
  expect(check(20)).toMatchObject({ equal: true, hotBlocksWrong: 0 });
});

test('places that were not written yet hold what they held', () => {
  write(1, 3);
  expect(check(3)).toMatchObject({ equal: true, hotBlocksRight: 8 });
  put(7 * BLOCK, 'x');
  expect(check(3)).toMatchObject({ equal: false, hotBlocksWrong: 1 });
});

test.each<[string, () => void, object]>([
  ['a write that was lost', () => put(1 * BLOCK, block(10)), { hotBlocksWrong: 1 }],
  ['a torn block', () => put(2 * BLOCK + 64, block(11).slice(0, 64)), { hotBlocksWrong: 1 }],
  ['a write of long ago in the place of an unsaid one', () => put(4 * BLOCK, block(5)), { hotBlocksWrong: 1 }],
  ['one that came too early', () => put(0, block(25)), { hotBlocksWrong: 1 }],
  ['a byte of the cold part', () => put(5 * MIB - 1, 'x'), { hotBlocksWrong: 0 }],
])('%s is found', (_what, spoil, figures) => {
  write(1, 20);
  put(5 * MIB - 1, 'y');
  before = { ...before, coldMd5: check(20).coldMd5After };
  expect(check(20).equal).toBe(true);
  spoil();
  expect(check(20)).toMatchObject({ equal: false, ...figures });
});

test('a guest that read something else, or neither wrote nor read after its move', () => {
  write(1, 20);
  expect(check(20, [before.readMd5, '0'.repeat(32)])).toMatchObject({ equal: false, readingsWrong: 1 });
  expect(check(20, [before.readMd5])).toMatchObject({ equal: false, readings: 1 });
  const said = { written: 20, sums: [before.readMd5, before.readMd5] };
  expect(diskFigures(after, before, said, { written: 20, readings: 1 })).toMatchObject({
    equal: false,
    acknowledgedAfterMove: 0,
  });
});

test('what guests say on their consoles', () => {
  const one = join(folder, 'one.log');
  writeFileSync(one, `boot\r\nfw-disk 9\r\nfw-count 3\r\nfw-sum ${before.readMd5}\r\nfw-disk 10\r\nfw-disk 1`);
  expect(diskSaid([one, join(folder, 'none.log')])).toEqual({ written: 10, sums: [before.readMd5] });
});
