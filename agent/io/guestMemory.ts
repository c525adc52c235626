/**
 * How much of a guest's memory is not zero: a sample of its pages, read through its hypervisor's process. A page of zeros travels
 * as a header, so this is what a copy has to carry; what the process has pages for says little where the kernel hands out huge ones.
 * `telemetry.ts` asks; `core/proc.ts` finds the mapping.
 */
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { guestMapping } from '../core/proc.ts';

const PAGE_BYTES = 4096;
/** The standard error of the share is 1.6 % of the memory at most. */
const SAMPLES = 1024;
/** Pages read at a time, so that other work of the agent waits for none of it. */
const AT_ONCE = 32;
const ZEROS = Buffer.alloc(PAGE_BYTES);

/**
 * Bytes of the guest's memory that are not zero, or undefined where that cannot be read: another driver's process, memory of several
 * mappings, no right to look (it takes what ptrace(2) takes). Page k of the sample is a random one of the k-th of equal parts.
 *
 * @param random numbers from 0 up to, without, 1
 */
export async function nonZeroBytes(
  pid: number,
  memoryBytes: number,
  random: () => number,
): Promise<number | undefined> {
  let memory: FileHandle | undefined;
  try {
    const mapping = guestMapping(await readFile(`/proc/${pid}/maps`, 'utf8'), memoryBytes);
    if (mapping === undefined) return undefined;
    const file = await open(`/proc/${pid}/mem`, 'r');
    memory = file;
    const pages = Math.floor(memoryBytes / PAGE_BYTES);
    const samples = Math.min(SAMPLES, pages);
    const isZero = async (k: number): Promise<boolean> => {
      const page = Math.floor(((k + random()) * pages) / samples);
      const read = await file.read(Buffer.allocUnsafe(PAGE_BYTES), 0, PAGE_BYTES, mapping.from + page * PAGE_BYTES);
      return read.bytesRead === PAGE_BYTES && read.buffer.equals(ZEROS);
    };
    let zeros = 0;
    for (let k = 0; k < samples; k += AT_ONCE) {
      const some = Array.from({ length: Math.min(AT_ONCE, samples - k) }, (_, i) => isZero(k + i));
      zeros += (await Promise.all(some)).filter(Boolean).length;
    }
    return Math.round(memoryBytes * (1 - zeros / samples));
  } catch {
    return undefined;
  } finally {
    await memory?.close();
  }
}
