/**
 * A guest that writes to its disk and reads it, for tests that move it: numbered blocks over and over at the disk's beginning, each told
 * of once it is on the disk, and checksums of what lies behind. Afterwards all of it must be there.
 */
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';

export const MIB = 2 ** 20;
export const DISK_MIB = 64;
/** Of the disk that it writes, and of what is behind that it reads. */
const WRITE_MIB = 4;
export const READ_MIB = 8;
const BLOCK = 65_536;

/** Kernel command line of the guest. */
export const DISK_GUEST =
  'console=ttyS0 quiet panic=1 no_timer_check fw.dirty_pages=500 fw.dirty_mib=4 fw.count_ms=50 ' +
  `fw.disk_write_mib=${WRITE_MIB} fw.disk_write_ms=30 fw.disk_read_mib=${READ_MIB} fw.disk_read_ms=500`;

const md5 = (data: Buffer) => createHash('md5').update(data).digest('hex');

/** What is on the disk and is not written. */
export const coldData = (mib: number): Buffer => randomBytes(mib * MIB);
/** The whole disk as it is in the beginning: data where `cold` is, holes elsewhere. */
export function diskImage(cold: Buffer): Buffer {
  const image = Buffer.alloc(DISK_MIB * MIB);
  cold.copy(image, WRITE_MIB * MIB);
  return image;
}

const said = (console: string, pattern: RegExp): string[] => [...console.matchAll(pattern)].map((m) => m[1] as string);
/** Number of the last block that the guest said it had written. */
export const lastWrittenIn = (console: string): number =>
  Math.max(0, ...said(console, /fw-disk (\d+)\r?\n/g).map(Number));
/** Checksums of what it read. */
export const sumsIn = (console: string): string[] => said(console, /fw-sum ([0-9a-f]{32})\r?\n/g);
/** What each of them must be. */
export const sumOf = (cold: Buffer): string => md5(cold.subarray(0, READ_MIB * MIB));

/** Each block that the guest said it had written is there, whole; and what it did not write is as it was. */
export function checkDisk(path: string, cold: Buffer, written: number): void {
  const raw = `${path}.check`;
  execFileSync('qemu-img', ['convert', '-O', 'raw', path, raw]);
  const image = readFileSync(raw);
  rmSync(raw);
  expect(md5(image.subarray(WRITE_MIB * MIB, WRITE_MIB * MIB + cold.length))).toBe(md5(cold));
  const blocks = (WRITE_MIB * MIB) / BLOCK;
  expect(written).toBeGreaterThan(5);
  for (let n = Math.max(1, written - blocks + 2); n <= written; n++) {
    const at = ((n - 1) % blocks) * BLOCK;
    const line = `fw-block ${String(n).padStart(54, '0')}\n`;
    expect(image.subarray(at, at + BLOCK).toString('latin1')).toBe(line.repeat(BLOCK / 64));
  }
}
