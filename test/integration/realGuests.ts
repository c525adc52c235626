/** What the tests with real QEMU guests share: whether they can run here, the guest they move, and its console. */
import { existsSync, readFileSync } from 'node:fs';
import { type GuestSpec, guestSpecSchema } from '../../contracts/agent.ts';
import type { GuestImage } from '../../sim/lab/guest/build.ts';
import { whyNoQemu } from '../../sim/lab/requirements.ts';

/** Why no real guest can be moved on this machine; undefined when it can. */
export function whyNoRealGuests(): string | undefined {
  if (process.getuid?.() !== 0) return 'post-copy needs userfaultfd, and so root';
  return whyNoQemu();
}

const append = (pages: number): string =>
  `console=ttyS0 quiet panic=1 no_timer_check fw.dirty_pages=${pages} fw.dirty_mib=8 fw.count_ms=50`;
/** Of a guest that writes so much that a copy of 80 Mbit/s has never done with it. */
export const BUSY_GUEST: Partial<GuestSpec> = { append: append(4000) };

/** A guest that counts aloud and dirties a little memory: small, so that it is moved in a second. */
export const countingGuest = (image: GuestImage, over: Partial<GuestSpec> = {}): GuestSpec =>
  guestSpecSchema.parse({
    name: 'vm1',
    mac: '52:54:00:00:00:01',
    memoryMiB: 96,
    kernel: image.kernel,
    initrd: image.initrd,
    append: append(2000),
    ...over,
  });

/** All of a file, or nothing when there is none. */
export const readIfThere = (path: string): string => (existsSync(path) ? readFileSync(path, 'latin1') : '');
