/** A private Open vSwitch for tests: its own network namespace, database and sockets; gone without a trace after stop(). */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const SCHEMA = '/usr/share/openvswitch/vswitch.ovsschema';

/** Why no private switch can be run here, or undefined. */
export function whyNoOvs(): string | undefined {
  if (process.getuid?.() !== 0) return 'it needs root for network namespaces';
  for (const f of ['/usr/sbin/ovs-vswitchd', '/usr/sbin/ovsdb-server', SCHEMA])
    if (!existsSync(f)) return `${f} is missing (install openvswitch-switch)`;
  return undefined;
}

export async function until(holds: () => boolean, what: string, tries = 1200): Promise<void> {
  for (let i = 0; i < tries; i++) {
    if (holds()) return;
    await new Promise((r) => setTimeout(r, 25));
  }
  throw new Error(`gave up waiting until ${what}`);
}

export class PrivateOvs {
  readonly dir = mkdtempSync(join(tmpdir(), 'fairway-io-ovs-'));
  readonly netns: string;
  readonly socket = join(this.dir, 'db.sock');
  readonly remote = `unix:${this.socket}`;
  #db: ChildProcess | undefined;
  #switchd: ChildProcess | undefined;

  constructor(name: string) {
    this.netns = `fwio${name}${process.pid}`;
    execFileSync('ip', ['netns', 'add', this.netns]);
    execFileSync('ovsdb-tool', ['create', join(this.dir, 'conf.db'), SCHEMA]);
  }

  async start(): Promise<void> {
    await this.startDb();
    this.vsctl('--no-wait', 'init');
    await this.startSwitch();
  }

  async startDb(): Promise<void> {
    this.#db = this.#spawn('ovsdb-server', [
      join(this.dir, 'conf.db'),
      `--remote=punix:${this.socket}`,
      `--unixctl=${join(this.dir, 'db.ctl')}`,
    ]);
    await until(() => existsSync(this.socket), 'ovsdb-server listens');
  }

  async startSwitch(): Promise<void> {
    const ctl = join(this.dir, 'switchd.ctl');
    this.#switchd = this.#spawn('ovs-vswitchd', [this.remote, `--unixctl=${ctl}`]);
    await until(() => existsSync(ctl), 'ovs-vswitchd is up');
  }

  async stopDb(): Promise<void> {
    await kill(this.#db);
    rmSync(this.socket, { force: true });
  }

  async stopSwitch(signal?: NodeJS.Signals): Promise<void> {
    await kill(this.#switchd, signal);
    rmSync(join(this.dir, 'switchd.ctl'), { force: true });
  }

  async stop(): Promise<void> {
    await this.stopSwitch();
    await this.stopDb();
    execFileSync('ip', ['netns', 'del', this.netns]);
    rmSync(this.dir, { recursive: true, force: true });
  }

  vsctl(...args: string[]): string {
    return execFileSync('ovs-vsctl', [`--db=${this.remote}`, '--timeout=20', ...args], { encoding: 'utf8' }).trim();
  }

  /** Runs `ovs-ofctl` on a bridge of this switch. */
  ofctl(command: string, bridge: string, ...args: string[]): string {
    const words = [
      '-O',
      'OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15',
      command,
      join(this.dir, `${bridge}.mgmt`),
    ];
    return execFileSync('ovs-ofctl', [...words, ...args], { encoding: 'utf8' }).trim();
  }

  /** A cable from a device of another namespace, which is made, to a port of a bridge; both its ends are up. */
  plug(bridge: string, port: string, namespace: string, device: string, mac?: string): void {
    const far = ['type', 'veth', 'peer', 'name', port, 'netns', this.netns];
    execFileSync('ip', ['link', 'add', device, 'netns', namespace, ...far]);
    if (mac !== undefined) execFileSync('ip', ['-n', namespace, 'link', 'set', device, 'address', mac]);
    for (const [ns, dev] of [
      [namespace, device],
      [this.netns, port],
    ] as const) {
      execFileSync('ip', ['netns', 'exec', ns, 'ethtool', '-K', dev, 'tx', 'off'], { stdio: 'ignore' });
      execFileSync('ip', ['-n', ns, 'link', 'set', dev, 'up']);
    }
    this.vsctl('add-port', bridge, port);
  }

  /** Runs a command inside the namespace. */
  inside(...args: string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.netns, ...args], { encoding: 'utf8' }).trim();
  }

  #spawn(command: string, args: string[]): ChildProcess {
    // `ip netns exec` replaces itself by the command, so that the child's id is the daemon's.
    return spawn(
      'ip',
      ['netns', 'exec', this.netns, command, ...args, `--log-file=${join(this.dir, `${command}.log`)}`],
      {
        stdio: 'ignore',
        env: { ...process.env, OVS_RUNDIR: this.dir, OVS_DBDIR: this.dir, OVS_LOGDIR: this.dir },
      },
    );
  }
}

/** Ends one child, and waits until it is gone. */
export async function kill(child: ChildProcess | undefined, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((r) => child.once('exit', r));
  child.kill(signal);
  await gone;
}
