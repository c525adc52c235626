/** The lab's guests: their image, kept in a cache so that only the first run downloads a kernel, and their definitions. */
import { join } from 'node:path';
import { type GuestSpec, guestSpecSchema } from '../../contracts/agent.ts';
import type { Log } from '../../contracts/log.ts';
import { buildGuestImage, type GuestImage } from './guest/build.ts';

/** Where kernels and initial RAM disks are kept between runs. */
export const cacheDir = (): string => join(process.env.XDG_CACHE_HOME ?? '/var/cache', 'fairway-lab');

export const guestImage = (log: Log): Promise<GuestImage> => buildGuestImage(cacheDir(), log);

export type Writes = 'random' | 'records';

export interface GuestWish {
  /** 0, 1, 2, …: decides name, MAC and address. */
  index: number;
  memoryMiB: number;
  /** Pages of 4 KiB the guest dirties each second, and within how much memory. */
  dirtyPagesPerS: number;
  workingSetMiB: number;
  /** What is written: random pages (default), or a table of which one record of each page changes. */
  writes?: Writes;
  /** Memory filled with random pages at the start, MiB; default: the working set. */
  filledMiB?: number;
  /** How often it counts, ms. Default 200. Counting forks processes, which dirties some hundred pages each time. */
  countMs?: number;
  labels?: Record<string, string>;
  /** A raw disk that is there already: what the guest writes at its beginning and reads behind that, and how often, ms. */
  disk?: {
    path: string;
    sizeMiB: number;
    hotMiB: number;
    readMiB: number;
    blockKiB: number;
    writeMs: number;
    readMs: number;
  };
}

/** Address of a guest on the data network. */
export const guestAddress = (index: number): string => `10.0.0.${index + 101}`;

/** Definition of a guest that dirties its memory at a known rate and counts aloud. */
export function guestSpec(image: GuestImage, wish: GuestWish): GuestSpec {
  const ip = guestAddress(wish.index);
  const dirty =
    `fw.dirty_pages=${wish.dirtyPagesPerS} fw.dirty_mib=${wish.workingSetMiB}` +
    ` fw.dirty_kind=${wish.writes ?? 'random'} fw.fill_mib=${wish.filledMiB ?? 0}`;
  const { disk } = wish;
  const onDisk =
    disk === undefined
      ? ''
      : ` fw.disk_write_mib=${disk.hotMiB} fw.disk_block_kib=${disk.blockKiB} fw.disk_write_ms=${disk.writeMs}` +
        ` fw.disk_read_mib=${disk.readMiB} fw.disk_read_ms=${disk.readMs}`;
  return guestSpecSchema.parse({
    name: `guest${wish.index + 1}`,
    mac: `52:54:00:fa:1c:${(wish.index + 1).toString(16).padStart(2, '0')}`,
    memoryMiB: wish.memoryMiB,
    kernel: image.kernel,
    initrd: image.initrd,
    append: `console=ttyS0 fw.ip=${ip}/24 ${dirty} fw.count_ms=${wish.countMs ?? 200}${onDisk}`,
    ip,
    ...(wish.labels === undefined ? {} : { labels: wish.labels }),
    ...(disk === undefined ? {} : { disks: [{ path: disk.path, sizeBytes: disk.sizeMiB * 2 ** 20, format: 'raw' }] }),
  });
}
