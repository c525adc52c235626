/**
 * QEMU's command line for a guest. Pure. Source and destination build it from the same GuestSpec, so that both machines
 * are alike, which migration requires.
 */
import type { GuestSpec } from '../../contracts/agent.ts';

export interface QemuPaths {
  /** Control socket of the agent. */
  qmp: string;
  /** A second control socket, for people and measuring tools: QMP serves one client per socket. */
  monitor: string;
  /** The guest's serial console is appended to this file. */
  serial: string;
  pidFile: string;
}

/**
 * Arguments after the program's name. The process detaches itself once it is ready (`-daemonize`), so that a failed start
 * has an exit status and a text, and so that the guest outlives the agent.
 *
 * @param tap name of the host's tap device, or null for a guest without a network card
 */
export function qemuArgv(spec: GuestSpec, paths: QemuPaths, tap: string | null, incoming: boolean): string[] {
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
  if (spec.kernel !== undefined) argv.push('-kernel', spec.kernel);
  if (spec.initrd !== undefined) argv.push('-initrd', spec.initrd);
  if (spec.append !== undefined) argv.push('-append', spec.append);
  if (incoming) argv.push('-incoming', 'defer');
  return argv;
}
