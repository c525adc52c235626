/**
 * A libvirt daemon of a test's own: in mount and UTS namespaces of its own, with its own state, configuration and socket, so
 * that two of them are two hosts to each other, and the machine's own libvirt, if it has one, is neither seen nor touched.
 */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Why no private libvirt can run on this machine; undefined when it can. */
export function whyNoLibvirt(): string | undefined {
  try {
    for (const [program, option] of [
      ['libvirtd', '--version'],
      ['virsh', '--version'],
      ['unshare', '--version'],
    ] as const) {
      execFileSync(program, [option], { stdio: 'ignore' });
    }
  } catch {
    return 'libvirtd or virsh is not installed (libvirt-daemon-driver-qemu, libvirt-clients)';
  }
  try {
    execFileSync('unshare', ['--mount', '--uts', 'true'], { stdio: 'ignore' });
    return undefined;
  } catch {
    return 'mount namespaces are not permitted';
  }
}

/** What libvirt would keep in these directories stays in memory, and goes with the daemon. */
const OWN = ['/etc/libvirt', '/var/lib/libvirt', '/run/libvirt', '/var/log/libvirt', '/var/cache/libvirt'];
const SCRIPT = `
set -e
hostname "$1"; folder=$2; shift 2
for d in "$@"; do mkdir -p "$d"; mount -t tmpfs none "$d"; done
cp "$folder/qemu.conf" "$folder/libvirtd.conf" /etc/libvirt/
if [ -d "$folder/pki" ]; then mkdir -p /etc/pki; mount --bind "$folder/pki" /etc/pki; fi
exec libvirtd -f /etc/libvirt/libvirtd.conf -p "$folder/pid"
`;

/** Ends machines that a failed daemon lost sight of: their command lines or open files name this folder. */
export function killMachinesOf(folder: string): void {
  for (const pid of readdirSync('/proc').filter((n) => /^\d+$/.test(n))) {
    try {
      const line = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      if (!line.includes('qemu-system')) continue;
      const files = readdirSync(`/proc/${pid}/fd`).map((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`));
      if ([line, ...files].some((text) => text.includes(folder))) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
}

export interface PrivateLibvirt {
  readonly uri: string;
  virsh(...args: string[]): Promise<string>;
  close(): Promise<void>;
}

/** @param folder empty, of its own; its path must fit into a unix socket's @param moreQemuConf lines for qemu.conf */
export async function startLibvirt(name: string, folder: string, moreQemuConf = ''): Promise<PrivateLibvirt> {
  const sockets = join(folder, 's');
  mkdirSync(sockets, { recursive: true });
  const alone = 'security_driver = "none"\nnamespaces = []\ncgroup_controllers = []\nremember_owner = 0\n';
  writeFileSync(
    join(folder, 'qemu.conf'),
    `user = "root"\ngroup = "root"\n${alone}stdio_handler = "file"\n${moreQemuConf}`,
  );
  writeFileSync(
    join(folder, 'libvirtd.conf'),
    `host_uuid = "${randomUUID()}"\nunix_sock_dir = "${sockets}"\nauth_unix_ro = "none"\nauth_unix_rw = "none"\n` +
      `log_outputs = "3:file:${join(folder, 'log')}"\n`,
  );
  const daemon: ChildProcess = spawn('unshare', ['--mount', '--uts', 'sh', '-c', SCRIPT, 'sh', name, folder, ...OWN], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  daemon.stderr?.on('data', (data) => {
    said += String(data);
  });
  const ended = new Promise<void>((resolve) => daemon.once('exit', () => resolve()));
  const uri = `qemu+unix:///system?socket=${join(sockets, 'libvirt-sock')}`;
  const virsh = async (...args: string[]) => (await execute('virsh', ['--quiet', '--connect', uri, ...args])).stdout;

  async function close(): Promise<void> {
    const names = await virsh('list', '--name').catch(() => '');
    for (const domain of names.split('\n').filter((n) => n !== '')) await virsh('destroy', domain).catch(() => '');
    daemon.kill();
    const timer = setTimeout(() => daemon.kill('SIGKILL'), 10_000);
    await ended;
    clearTimeout(timer);
    killMachinesOf(folder);
  }

  try {
    for (;;) {
      if (daemon.exitCode !== null) throw new Error(`libvirtd did not start: ${said}`);
      // The first answer takes a while: libvirt asks every QEMU on the machine what it can do.
      if (
        await virsh('list').then(
          () => true,
          () => false,
        )
      )
        break;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  } catch (error) {
    await close();
    throw error;
  }
  return { uri, virsh, close };
}
