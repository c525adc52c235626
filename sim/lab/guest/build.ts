/**
 * Builds the lab's guest: a Debian cloud kernel (downloaded as a package and unpacked, never installed) and an initramfs of
 * busybox, the virtio modules and `init.sh`, which says what the guest does. The result is kept in a cache directory under
 * a name made of its contents, so that only the first call does any work. Used by `sim/lab/` and by the agent's tests.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { FairwayError } from '../../../contracts/common.ts';
import type { Log } from '../../../contracts/log.ts';

const run = promisify(execFile);

/** Loaded in this order: virtio's bus first, then what virtio_net leans on. Paths below `kernel/` of the modules tree. */
const MODULES = [
  'drivers/virtio/virtio_ring',
  'drivers/virtio/virtio',
  'drivers/virtio/virtio_pci_modern_dev',
  'drivers/virtio/virtio_pci_legacy_dev',
  'drivers/virtio/virtio_pci',
  'net/core/failover',
  'drivers/net/net_failover',
  'drivers/net/virtio_net',
  'drivers/block/virtio_blk',
] as const;

const BUSYBOX = ['/bin/busybox', '/usr/bin/busybox'];
const META_PACKAGE = 'linux-image-cloud-amd64';

export interface GuestImage {
  /** Path of the kernel, for QEMU's `-kernel`. */
  kernel: string;
  /** Path of the initramfs, for QEMU's `-initrd`. */
  initrd: string;
}

const exists = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

/** This file's neighbour `init.sh`: beside the source, or in the source tree when this file runs compiled from `dist/`. */
async function readInit(): Promise<string> {
  const here = import.meta.dirname;
  for (const folder of [here, resolve(here, '../../../../sim/lab/guest')]) {
    const path = join(folder, 'init.sh');
    if (await exists(path)) return readFile(path, 'utf8');
  }
  throw new FairwayError('guest-init-missing', `init.sh is not beside ${here}; run from a complete checkout`, [
    'notFound',
  ]);
}

async function findBusybox(): Promise<string> {
  for (const path of BUSYBOX) if (await exists(path)) return path;
  throw new FairwayError('busybox-missing', 'no busybox in /bin or /usr/bin: apt-get install busybox-static', [
    'notFound',
  ]);
}

/** The package with the kernel itself, which the meta-package depends on. */
async function findKernelPackage(): Promise<string> {
  const { stdout } = await run('apt-cache', ['depends', '--important', META_PACKAGE]).catch((error: unknown) => {
    throw new FairwayError(
      'kernel-package',
      `apt-cache cannot describe ${META_PACKAGE}: run apt-get update`,
      [],
      error,
    );
  });
  const name = /Depends:\s*(linux-image-\S+)/.exec(stdout)?.[1];
  if (name === undefined) {
    throw new FairwayError('kernel-package', `apt-cache knows no dependency of ${META_PACKAGE}: run apt-get update`);
  }
  return name;
}

/** Makes `target` by filling a temporary sibling and renaming it, so that concurrent builders cannot see half of it. */
async function make(target: string, fill: (folder: string) => Promise<void>): Promise<void> {
  if (await exists(target)) return;
  const parent = resolve(target, '..');
  await mkdir(parent, { recursive: true });
  const temporary = await mkdtemp(join(parent, `.${basename(target)}-`));
  try {
    await fill(temporary);
    await chmod(temporary, 0o755);
    await rename(temporary, target).catch(async (error: unknown) => {
      // Another builder was first: what it made has the same contents.
      if (!(await exists(target))) throw error;
    });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Waits before a download is tried again, ms: a mirror may fail for a moment. */
const AGAIN_AFTER_MS = [2000, 10_000, 30_000];

async function downloadPackage(name: string, folder: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await run('apt-get', ['download', '-o', 'Acquire::Retries=3', name], { cwd: folder });
      return;
    } catch (error) {
      const waitMs = AGAIN_AFTER_MS[tries];
      if (waitMs === undefined)
        throw new FairwayError(
          'kernel-download',
          `apt-get download ${name} failed ${tries + 1} times: see that the package archive can be reached, and run apt-get update`,
          ['retryable'],
          error,
        );
      await sleep(waitMs);
    }
  }
}

async function fetchKernel(name: string, folder: string): Promise<void> {
  const download = join(folder, 'download');
  await mkdir(download);
  await downloadPackage(name, download);
  const deb = (await readdir(download)).find((f) => f.endsWith('.deb'));
  if (deb === undefined) throw new FairwayError('kernel-download', `apt-get download ${name} left no package behind`);
  const tree = join(download, 'tree');
  await run('dpkg-deb', ['-x', join(download, deb), tree]);
  const image = (await readdir(join(tree, 'boot'))).find((f) => f.startsWith('vmlinuz-'));
  if (image === undefined) throw new FairwayError('kernel-package', `${name} holds no kernel in /boot`);
  const version = image.slice('vmlinuz-'.length);
  await copyFile(join(tree, 'boot', image), join(folder, 'vmlinuz'));
  await mkdir(join(folder, 'modules'));
  for (const module of MODULES) {
    const from = join(tree, 'lib/modules', version, 'kernel', `${module}.ko`);
    await copyFile(from, join(folder, 'modules', `${basename(module)}.ko`));
  }
  await rm(download, { recursive: true });
}

async function packInitrd(busybox: string, init: string, modules: string, folder: string): Promise<void> {
  const root = join(folder, 'root');
  for (const d of ['bin', 'etc', 'modules', 'dev', 'proc', 'sys']) await mkdir(join(root, d), { recursive: true });
  await copyFile(busybox, join(root, 'bin/busybox'));
  await chmod(join(root, 'bin/busybox'), 0o755);
  await writeFile(join(root, 'init'), init, { mode: 0o755 });
  await writeFile(join(root, 'etc/modules.order'), MODULES.map((m) => `${basename(m)}\n`).join(''));
  for (const m of MODULES)
    await copyFile(join(modules, `${basename(m)}.ko`), join(root, 'modules', `${basename(m)}.ko`));
  // Uncompressed: the guest unpacks it under emulation, where inflating would cost more than reading.
  await run('sh', ['-c', 'cd "$1" && find . | cpio --quiet -o -H newc > "$2"', 'sh', root, join(folder, 'initrd.img')]);
  await rm(root, { recursive: true });
}

/**
 * Builds kernel and initramfs, or finds them in `cacheDir`. Needs `apt-get`, `dpkg-deb`, `cpio` and a static busybox; no
 * root. Safe to call from several processes at once.
 *
 * @throws FairwayError naming what is missing and the command that brings it.
 */
export async function buildGuestImage(cacheDir: string, log: Log): Promise<GuestImage> {
  const cache = resolve(cacheDir);
  const packageName = await findCachedOrKnownPackage(cache);
  // What is kept of the package depends on the modules that are wanted of it.
  const wanted = createHash('sha256').update(MODULES.join()).digest('hex').slice(0, 8);
  const kernelDir = join(cache, `${packageName}+${wanted}`);
  await make(kernelDir, async (folder) => {
    log('info', 'guest-kernel-download', { package: packageName });
    await fetchKernel(packageName, folder);
  });
  const [init, busybox] = await Promise.all([readInit(), findBusybox()]);
  const hash = createHash('sha256');
  for (const part of [packageName, MODULES.join(), init, await readFile(busybox)]) hash.update(part).update('\0');
  const initrdDir = join(cache, `initrd-${hash.digest('hex').slice(0, 16)}`);
  await make(initrdDir, async (folder) => {
    log('info', 'guest-initrd-build', { target: initrdDir });
    await packInitrd(busybox, init, join(kernelDir, 'modules'), folder);
  });
  return { kernel: join(kernelDir, 'vmlinuz'), initrd: join(initrdDir, 'initrd.img') };
}

/** The kernel package by what apt says or, on a machine without package lists, one that the cache already holds. */
async function findCachedOrKnownPackage(cache: string): Promise<string> {
  try {
    return await findKernelPackage();
  } catch (error) {
    const cached = (await readdir(cache).catch(() => [])).filter((d) => d.startsWith('linux-image-')).sort();
    const newest = cached.at(-1);
    if (newest === undefined) throw error;
    return newest.replace(/\+[0-9a-f]{8}$/, '');
  }
}
