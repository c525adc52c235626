/**
 * QEMU's command line for a guest. Pure. Source and destination build it from the same GuestSpec, so that both machines
 * are alike, which migration requires.
 */
import type { DiskOffer, GuestSpec } from '../../contracts/agent.ts';
import { diskNodes, remoteNode } from './storage.ts';

export interface QemuPaths {
  /** Control socket of the agent. */
  qmp: string;
  /** A second control socket, for people and measuring tools: QMP serves one client per socket. */
  monitor: string;
  /** The guest's serial console is appended to this file. */
  serial: string;
  pidFile: string;
}

/** How a machine starts, beside what the guest is. */
export interface QemuStart {
  /** Waits for a stream. */
  incoming: boolean;
  /** Storage `on-demand`: disks are overlays, and what they lack is read from there. */
  disksFrom?: DiskOffer | undefined;
}

/**
 * Arguments after the program's name. The process detaches itself once it is ready (`-daemonize`), so that a failed start
 * has an exit status and a text, and so that the guest outlives the agent.
 *
 * @param tap name of the host's tap device, or null for a guest without a network card
 */
export function qemuArgv(spec: GuestSpec, paths: QemuPaths, tap: string | null, start: QemuStart): string[] {
  // A comma ends a value in QEMU's option syntax, and is itself written twice.
  const value = (s: string) => s.replaceAll(',', ',,');
  const argv = [
    ...['-name', `guest=${spec.name}`],
    ...['-nodefaults', '-no-user-config', '-no-reboot'],
    ...['-display', 'none'],
    ...['-accel', spec.accel === 'kvm' ? 'kvm' : 'tcg'],
    ...['-machine', value(spec.machine)],
    ...['-m', `${spec.memoryMiB}M`],
    ...['-smp', String(spec.vcpus)],
    ...['-chardev', `file,id=serial0,path=${value(paths.serial)},append=on`, '-serial', 'chardev:serial0'],
    ...['-qmp', `unix:${value(paths.qmp)},server=on,wait=off`],
    ...['-qmp', `unix:${value(paths.monitor)},server=on,wait=off`],
    ...['-pidfile', paths.pidFile, '-daemonize'],
  ];
  if (tap === null) {
    argv.push('-nic', 'none');
  } else {
    // Offloads off: a userspace switch computes no checksums, and TCP would stall. No boot ROM: guests boot a kernel.
    argv.push('-netdev', `tap,id=net0,ifname=${tap},script=no,downscript=no,vhost=off`);
    const offloads = 'csum=off,gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off';
    argv.push('-device', `virtio-net-pci,netdev=net0,mac=${spec.mac},${offloads},romfile=`);
  }
  for (const [i, disk] of (spec.disks ?? []).entries()) {
    const nodes = diskNodes(i);
    const block = (options: object) => argv.push('-blockdev', JSON.stringify(options));
    block({ driver: 'file', filename: disk.path, 'node-name': nodes.file });
    if (start.disksFrom === undefined) {
      block({ driver: disk.format, file: nodes.file, 'node-name': nodes.disk });
      argv.push('-device', `virtio-blk-pci,drive=${nodes.disk},id=${nodes.device}`);
      continue;
    }
    block(remoteNode(i, start.disksFrom));
    block({ driver: disk.format, file: nodes.file, backing: nodes.remote, 'node-name': nodes.disk });
    // What was fetched once is kept. A guest whose data cannot be reached stands still and is not told that its disk is broken.
    block({ driver: 'copy-on-read', file: nodes.disk, 'node-name': nodes.fetching });
    argv.push('-device', `virtio-blk-pci,drive=${nodes.fetching},id=${nodes.device},rerror=stop,werror=stop`);
  }
  if (spec.kernel !== undefined) argv.push('-kernel', spec.kernel);
  if (spec.initrd !== undefined) argv.push('-initrd', spec.initrd);
  if (spec.append !== undefined) argv.push('-append', spec.append);
  if (start.incoming) argv.push('-incoming', 'defer');
  return argv;
}
