/**
 * A lab guest's disk: made full of random data of which the checksum is known, and checked after the guest has been moved.
 * The guest (`guest/init.sh`) writes numbered blocks over and over at the disk's beginning and says when each is on the
 * disk; what lies behind is cold, and read again and again. `diskFigures` compares the whole disk with both accounts.
 */
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

const MIB = 2 ** 20;
/** The guest writes so much at a time, each in lines of `LINE` bytes that say the block's number. */
export const BLOCK_KIB = 256;
const BLOCK = BLOCK_KIB * 1024;
const LINE = 64;
const BLOCKS_PER_MIB = MIB / BLOCK;
/** What the guest may have written without having said so yet: its console is slower than its disk. */
const UNSAID = 4;

export interface DiskShape {
  sizeMiB: number;
  /** Written over and over, at the beginning. */
  hotMiB: number;
  /** Read over and over, right behind. */
  readMiB: number;
}

/** What a disk held before its guest started. */
export interface DiskBefore extends DiskShape {
  path: string;
  coldMd5: string;
  readMd5: string;
  /** Of each block of the hot part. */
  hotMd5: string[];
}

const md5 = (data: Buffer): string => createHash('md5').update(data).digest('hex');

/** Makes a raw disk with random data in every block. */
export function makeDisk(path: string, shape: DiskShape): DiskBefore {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const file = openSync(path, 'wx', 0o600);
  const cold = createHash('md5');
  const read = createHash('md5');
  const hotMd5: string[] = [];
  try {
    for (let at = 0; at < shape.sizeMiB; at++) {
      const data = randomBytes(MIB);
      writeSync(file, data);
      if (at < shape.hotMiB) hotMd5.push(...blocksOf(data).map(md5));
      else cold.update(data);
      if (at >= shape.hotMiB && at < shape.hotMiB + shape.readMiB) read.update(data);
    }
  } finally {
    closeSync(file);
  }
  return { ...shape, path, coldMd5: cold.digest('hex'), readMd5: read.digest('hex'), hotMd5 };
}

const blocksOf = (data: Buffer): Buffer[] =>
  Array.from({ length: data.length / BLOCK }, (_, i) => data.subarray(i * BLOCK, (i + 1) * BLOCK));

const numbered = (n: number): Buffer =>
  Buffer.from(`fw-block ${String(n).padStart(LINE - 10, '0')}\n`.repeat(BLOCK / LINE), 'latin1');

/** What a guest has said of its disk on its consoles so far. */
export interface DiskSaid {
  /** Number of the last block that it said is on the disk; 0: none. */
  written: number;
  /** MD5 sums of what it read. */
  sums: string[];
}

/** Reads consoles; one that is not there yet has said nothing. */
export function diskSaid(consoles: readonly string[]): DiskSaid {
  const text = consoles.map((path) => (existsSync(path) ? readFileSync(path, 'latin1') : '')).join('\n');
  const all = (pattern: RegExp) => [...text.matchAll(pattern)].map((m) => m[1] as string);
  return {
    written: all(/fw-disk (\d+)\r?\n/g).reduce((most, n) => Math.max(most, Number(n)), 0),
    sums: all(/fw-sum ([0-9a-f]{32})\r?\n/g),
  };
}

export interface DiskFigures {
  /** The cold part before the guest started, and after it was moved and stopped. */
  coldMd5Before: string;
  coldMd5After: string;
  /** Blocks that the guest had been told are on the disk, and how many of these it wrote after its move. */
  acknowledgedBlocks: number;
  acknowledgedAfterMove: number;
  /** Blocks of the hot part: those that hold what was acknowledged last (or, never written, what they held), and others. */
  hotBlocksRight: number;
  hotBlocksWrong: number;
  /** Blocks that may be new or old, for the guest was about to write them or to say so; they are among the right ones if whole. */
  hotBlocksUnsaid: number;
  /** Readings of a cold stretch by the guest, before, during and after its move, and how many gave another sum. */
  readings: number;
  readingsWrong: number;
  /** All of it is as it should be, and the guest has both written and read after its move. */
  equal: boolean;
}

/**
 * Compares a raw image of a stopped guest's disk with what was there at first and what the guest was told it had written.
 *
 * @param atMove what the guest had said when its move ended
 */
export function diskFigures(
  image: string,
  before: DiskBefore,
  said: DiskSaid,
  atMove: { written: number; readings: number },
): DiskFigures {
  const blocks = before.hotMiB * BLOCKS_PER_MIB;
  /** What the block at this place may be, the numbers of writes; 0 stands for what was there at first. */
  const candidates = (place: number): number[] => {
    const latestUpTo = (n: number) => {
      const rounds = Math.floor((n - 1 - place) / blocks);
      return rounds < 0 ? 0 : rounds * blocks + place + 1;
    };
    return [...new Set([latestUpTo(said.written), latestUpTo(said.written + UNSAID)])];
  };
  const cold = createHash('md5');
  let [right, wrong, unsaid] = [0, 0, 0];
  const file = openSync(image, 'r');
  try {
    const data = Buffer.alloc(MIB);
    for (let at = 0; at < before.sizeMiB; at++) {
      const got = readSync(file, data, 0, MIB, at * MIB);
      if (got !== MIB) throw new Error(`${image} ends at ${at} MiB and ${got} bytes, and not at ${before.sizeMiB} MiB`);
      if (at >= before.hotMiB) {
        cold.update(data);
        continue;
      }
      for (const [i, block] of blocksOf(data).entries()) {
        const place = at * BLOCKS_PER_MIB + i;
        const may = candidates(place);
        if (may.length > 1) unsaid++;
        const isRight = may.some((n) => (n === 0 ? md5(block) === before.hotMd5[place] : block.equals(numbered(n))));
        if (isRight) right++;
        else wrong++;
      }
    }
  } finally {
    closeSync(file);
  }
  const coldMd5After = cold.digest('hex');
  const readingsWrong = said.sums.filter((sum) => sum !== before.readMd5).length;
  const acknowledgedAfterMove = said.written - atMove.written;
  return {
    coldMd5Before: before.coldMd5,
    coldMd5After,
    acknowledgedBlocks: said.written,
    acknowledgedAfterMove,
    hotBlocksRight: right,
    hotBlocksWrong: wrong,
    hotBlocksUnsaid: unsaid,
    readings: said.sums.length,
    readingsWrong,
    equal:
      coldMd5After === before.coldMd5 &&
      wrong === 0 &&
      readingsWrong === 0 &&
      acknowledgedAfterMove > 0 &&
      said.sums.length > atMove.readings,
  };
}
