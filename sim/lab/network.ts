/**
 * The lab's network: two hypervisors (or three), a core switch, a workload sender and a client, each in a network namespace of its
 * own, joined by veth cables; every switch is a real Open vSwitch with its own database and daemon. Nothing is made in
 * the root namespace. `docs/lab.md` has the picture. Neighbours: `state.ts` remembers what was made, `fairway.ts` starts
 * controller and agents in it, `measure.ts` sends and measures traffic.
 *
 * The rate-limited cables (hypervisor to core) pass through a namespace `wire`: what comes in at one veth end is redirected
 * (`mirred`) to the egress of the other, where a TBF holds the rate. So the limit belongs to the cable, as with a real one:
 * it stays whatever qdiscs Open vSwitch puts on its ports, and a queue that Fairway makes at a port of the same rate
 * becomes the place where packets wait. A kernel bridge would do too but swallows LLDP and costs a table lookup.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { FairwayError } from '../../contracts/common.ts';
import { checkRequirements } from './requirements.ts';
import { inNamespace, prefer, run, runIn, waitFor } from './shell.ts';
import { StateFile, startTicks } from './state.ts';

/** Hypervisors that a lab may have; it has the first two unless more are asked for. */
export const HYPERVISORS = ['hv1', 'hv2', 'hv3'] as const;
export type Hypervisor = (typeof HYPERVISORS)[number];
/** A hypervisor or the core: a place with a switch. */
export type Site = Hypervisor | 'core';
export type Place = Site | 'ctl' | 'wl' | 'client' | 'wire' | 'guest';

export interface LabOptions {
  /** First part of every namespace's name, so that several labs can stand beside each other. Default: the
   * environment's FAIRWAY_LAB_PREFIX, else `fwlab`. */
  prefix?: string;
  /** Directory of sockets, logs and the state file. Default `/var/lib/fairway-lab/<prefix>`. */
  stateDir?: string;
  /** Rate of each hypervisor–core cable in each direction, bit/s. Default 200 Mbit/s. */
  capacityBps?: number;
  /**
   * MTU of every cable, bytes. Default 9000: jumbo frames, as migration networks often have. The reason here is the price
   * of a packet in a userspace switch: with 1,500 bytes and a queue on the port the source's switch needs more than half
   * a core at 160 Mbit/s, a quarter with 9,000, and a small machine should not measure its own CPU. Guests keep 1,500.
   */
  mtu?: number;
  /** How many hypervisors. Default 2. */
  hypervisors?: 2 | 3;
}

/** Addresses; one broadcast domain for data, another for management. */
export const ADDRESS = {
  data: { hv1: '10.0.0.1', hv2: '10.0.0.2', hv3: '10.0.0.3', wl: '10.0.0.21', client: '10.0.0.22' },
  management: { ctl: '10.254.0.1', hv1: '10.254.0.11', hv2: '10.254.0.12', core: '10.254.0.13', hv3: '10.254.0.14' },
} as const;

/** Port numbers in namespaces of our own cannot collide with anything. */
export const OPENFLOW_PORT = 6653;

export interface SwitchAt {
  site: Site;
  namespace: string;
  bridge: string;
  /** 16 hexadecimal digits, fixed, so that configuration can name it. */
  dpid: string;
  /** Open vSwitch's run directory: sockets, pid files, logs. */
  runDir: string;
  /** OVSDB connection, `unix:<path>`. */
  ovsdb: string;
  /** Ports on rate-limited cables. */
  limitedPorts: string[];
}

export interface Lab {
  prefix: string;
  stateDir: string;
  capacityBps: number;
  mtu: number;
  state: StateFile;
  /** Those that this lab has. */
  hypervisors: readonly Hypervisor[];
  /** The hypervisors and the core. */
  sites: readonly Site[];
  /** By site, also of a hypervisor that this lab does not have. */
  switches: Record<Site, SwitchAt>;
  /** Name of the namespace of a place. */
  ns(place: Place): string;
}

const DPIDS: Record<Site, string> = {
  ...{ core: '0000000000000001', hv1: '0000000000000011', hv2: '0000000000000012', hv3: '0000000000000013' },
};

/** Names and paths of a lab; makes nothing. */
export function describeLab(options: LabOptions = {}): Lab {
  const prefix = options.prefix ?? process.env.FAIRWAY_LAB_PREFIX ?? 'fwlab';
  if (!/^[a-z][a-z0-9]{0,11}$/.test(prefix)) {
    throw new FairwayError('lab.prefix', `prefix "${prefix}": must be 1-12 lower-case letters and digits`, [
      'badInput',
    ]);
  }
  const stateDir = options.stateDir ?? join('/var/lib/fairway-lab', prefix);
  const ns = (place: Place) => `${prefix}-${place}`;
  const hypervisors = HYPERVISORS.slice(0, options.hypervisors ?? 2);
  const switchAt = (site: Site): SwitchAt => {
    const runDir = join(stateDir, site);
    return {
      site,
      namespace: ns(site),
      bridge: `br-${site}`,
      dpid: DPIDS[site],
      runDir,
      ovsdb: `unix:${join(runDir, 'db.sock')}`,
      limitedPorts: site === 'core' ? [...hypervisors] : ['uplink'],
    };
  };
  return {
    prefix,
    stateDir,
    capacityBps: options.capacityBps ?? 200e6,
    mtu: options.mtu ?? 9000,
    state: new StateFile(stateDir, prefix),
    hypervisors,
    sites: [...hypervisors, 'core'],
    switches: { hv1: switchAt('hv1'), hv2: switchAt('hv2'), hv3: switchAt('hv3'), core: switchAt('core') },
    ns,
  };
}

/**
 * Cleans up what an earlier lab of this prefix left, then builds the network. Its switches forward by their own learning
 * (`unmanaged`) until `setControl` gives them a controller. On failure everything made so far is removed.
 * Fails with FairwayError `lab.busy` when another live process works with this lab.
 */
export async function buildNetwork(options: LabOptions = {}): Promise<Lab> {
  checkRequirements();
  await removeLab(options);
  const lab = describeLab(options);
  lab.state.setOwner(true);
  try {
    await makeNamespaces(lab);
    await Promise.all(lab.sites.map((site) => startSwitch(lab, lab.switches[site])));
    await makeCables(lab);
    await setControl(lab, 'unmanaged');
    await proveCables(lab);
    for (const site of lab.sites) await giveBuffers(lab.switches[site]);
    return lab;
  } catch (e) {
    await lab.state.cleanUp();
    throw e;
  }
}

/** Ends and removes all that is recorded of a lab; returns what there was, each as a text. Fails with `lab.busy` as `buildNetwork` does. */
export async function removeLab(options: LabOptions = {}): Promise<string[]> {
  checkRequirements();
  const lab = describeLab(options);
  const owner = lab.state.otherOwner();
  if (owner !== undefined) {
    throw new FairwayError('lab.busy', `lab "${lab.prefix}" is in use by process ${owner}: end that first`, [
      'conflict',
    ]);
  }
  return (await lab.state.cleanUp()).removed;
}

async function makeNamespaces(lab: Lab): Promise<void> {
  for (const place of ['ctl', ...lab.sites, 'wl', 'client', 'wire'] as const) {
    const name = lab.ns(place);
    lab.state.addNamespace(name);
    await run('ip', ['netns', 'add', name]);
    await run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
    // Router solicitations and the like would only blur what is measured.
    await runIn(name, 'sysctl', ['-qw', 'net.ipv6.conf.all.disable_ipv6=1', 'net.ipv6.conf.default.disable_ipv6=1']);
  }
}

/** An ovsdb-server and an ovs-vswitchd of the site's own, and its bridge without ports. */
async function startSwitch(lab: Lab, sw: SwitchAt): Promise<void> {
  mkdirSync(sw.runDir, { recursive: true, mode: 0o700 });
  const env = {
    ...{ OVS_RUNDIR: sw.runDir, OVS_LOGDIR: sw.runDir, OVS_DBDIR: sw.runDir },
    // The userspace datapath allocates buffers for 32 frames at each receive and frees them again; with glibc's default
    // thresholds the memory goes back to the kernel every time, and page faults take more CPU than the packets.
    ...{ MALLOC_TRIM_THRESHOLD_: '268435456', MALLOC_TOP_PAD_: '16777216', MALLOC_MMAP_THRESHOLD_: '268435456' },
  };
  const db = join(sw.runDir, 'conf.db');
  await run('ovsdb-tool', ['create', db, '/usr/share/openvswitch/vswitch.ovsschema'], { env });
  const daemon = async (name: string, args: string[]) => {
    const pidFile = join(sw.runDir, `${name}.pid`);
    await runIn(
      sw.namespace,
      name,
      [
        ...args,
        '--detach',
        '--no-chdir',
        `--pidfile=${pidFile}`,
        `--unixctl=${join(sw.runDir, `${name}.ctl`)}`,
        `--log-file=${join(sw.runDir, `${name}.log`)}`,
        '-vconsole:off',
        '-vsyslog:off',
      ],
      { env },
    );
    const pid = Number(readFileSync(pidFile, 'utf8'));
    if (startTicks(pid) === undefined) throw new FairwayError('lab.daemon', `${name} of ${sw.site} ended at once`);
    lab.state.addProcess(pid, `${name} of ${sw.site}`);
    prefer(pid);
  };
  await daemon('ovsdb-server', [`--remote=punix:${join(sw.runDir, 'db.sock')}`, db]);
  await vsctl(sw, ['--no-wait', 'init']);
  await daemon('ovs-vswitchd', [sw.ovsdb]);
  await vsctl(sw, [
    ...['add-br', sw.bridge, '--', 'set', 'bridge', sw.bridge, 'datapath_type=netdev'],
    `other-config:datapath-id=${sw.dpid}`,
    // Management has its own network; in-band control would hide flows in the tables.
    'other-config:disable-in-band=true',
    'protocols=OpenFlow10,OpenFlow13',
  ]);
}

/** `ovs-vsctl` against the database of a switch. */
export function vsctl(sw: SwitchAt, args: readonly string[]): Promise<string> {
  return run('ovs-vsctl', [`--db=${sw.ovsdb}`, '--timeout=15', ...args]);
}

/** `ovs-ofctl` (OpenFlow 1.3) against the bridge of a switch: `ofctl(sw, 'dump-flows', ['cookie=…'])`. */
export function ofctl(sw: SwitchAt, command: string, args: readonly string[] = []): Promise<string> {
  return run('ovs-ofctl', ['-O', 'OpenFlow13', command, `unix:${join(sw.runDir, `${sw.bridge}.mgmt`)}`, ...args]);
}

async function makeCables(lab: Lab): Promise<void> {
  const { ns } = lab;
  const address = (place: Place, dev: string, ip: string) =>
    run('ip', ['-n', ns(place), 'addr', 'add', `${ip}/24`, 'dev', dev]);

  await run('ip', ['-n', ns('ctl'), 'link', 'add', 'mgmt', 'type', 'bridge']);
  await address('ctl', 'mgmt', ADDRESS.management.ctl);
  await run('ip', ['-n', ns('ctl'), 'link', 'set', 'mgmt', 'up']);
  for (const site of lab.sites) {
    await cable(lab.mtu, ns('ctl'), `to-${site}`, ns(site), 'mgmt');
    await run('ip', ['-n', ns('ctl'), 'link', 'set', `to-${site}`, 'master', 'mgmt']);
    await address(site, 'mgmt', ADDRESS.management[site]);
  }

  for (const hv of lab.hypervisors) {
    await cable(lab.mtu, ns(hv), 'uplink', ns('wire'), `${hv}-a`);
    await cable(lab.mtu, ns('wire'), `${hv}-b`, ns('core'), hv);
    await joinLimited(lab, `${hv}-a`, `${hv}-b`);
    const frames = String(Math.round(QUEUE_BYTES / (lab.mtu + 14)));
    await run('ip', ['-n', ns(hv), 'link', 'set', 'uplink', 'txqueuelen', frames]);
    await run('ip', ['-n', ns('core'), 'link', 'set', hv, 'txqueuelen', frames]);
    await addPort(lab.switches[hv], 'uplink');
    await addPort(lab.switches.core, hv);
    // The hypervisor's own address, where migration streams come from and go to, is on the bridge's LOCAL port.
    const { bridge } = lab.switches[hv];
    await offloadsOff(ns(hv), bridge);
    await vsctl(lab.switches[hv], ['set', 'interface', bridge, `mtu_request=${lab.mtu}`]);
    await address(hv, bridge, ADDRESS.data[hv]);
    await run('ip', ['-n', ns(hv), 'link', 'set', bridge, 'up']);
  }

  await cable(lab.mtu, ns('wl'), 'eth0', ns('hv1'), 'wl');
  await addPort(lab.switches.hv1, 'wl');
  await address('wl', 'eth0', ADDRESS.data.wl);
  await cable(lab.mtu, ns('client'), 'eth0', ns('core'), 'client');
  await addPort(lab.switches.core, 'client');
  await address('client', 'eth0', ADDRESS.data.client);
}

/** Process ids of a switch: its database and its datapath. */
export const switchPids = (sw: SwitchAt): number[] =>
  ['ovsdb-server', 'ovs-vswitchd'].map((name) => Number(readFileSync(join(sw.runDir, `${name}.pid`), 'utf8')));

/** Sends packets over every cable. A switch opens its sending socket with the first packet, so `giveBuffers` comes after. */
async function proveCables(lab: Lab): Promise<void> {
  const [first, ...others] = lab.hypervisors;
  const ways: [Place, string][] = [['wl', ADDRESS.data.client]];
  for (const hv of others) ways.push([hv, ADDRESS.data[first as Hypervisor]]);
  for (const [from, to] of ways) await runIn(lab.ns(from), 'ping', ['-c', '1', '-W', '5', to]);
}

/** Bytes each queue of a rate-limited port holds: 12 ms at 200 Mbit/s. HTB's leaves take the device's length, in frames. */
const QUEUE_BYTES = 300_000;
/** Bytes of memory a switch may hold in all its queues together: more than the queues' own lengths allow. */
const SWITCH_BUFFER_BYTES = 4_000_000;

/**
 * Gives a switch the packet memory that a switch has. The userspace datapath sends through one packet socket for all its
 * ports, and what waits in their queues counts against that socket's send buffer: 208 KiB by default, so that one full
 * queue makes the switch drop packets of all others, slices or not. The buffer can only be chosen by the socket's owner
 * (the system-wide default is not for us to change), so duplicates of its descriptors are borrowed (pidfd_getfd, Linux
 * 5.6) and the buffers set through them. Receiving sockets get the same: on a busy machine the switch may be late.
 */
async function giveBuffers(sw: SwitchAt): Promise<void> {
  const pid = readFileSync(join(sw.runDir, 'ovs-vswitchd.pid'), 'utf8').trim();
  await run('/usr/bin/python3', ['-c', GIVE_BUFFERS, pid, String(SWITCH_BUFFER_BYTES)]);
}

/** Numbers: pidfd_open 434 and pidfd_getfd 438 (the same on every architecture); AF_PACKET 17; SO_SNDBUFFORCE 32, SO_RCVBUFFORCE 33. */
const GIVE_BUFFERS = `
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
pid, size = int(sys.argv[1]), int(sys.argv[2])
process = libc.syscall(434, pid, 0)
for name in os.listdir(f'/proc/{pid}/fd'):
    try:
        if not os.readlink(f'/proc/{pid}/fd/{name}').startswith('socket:'):
            continue
    except OSError:
        continue
    fd = libc.syscall(438, process, int(name), 0)
    if fd < 0:
        sys.exit(f'pidfd_getfd: {os.strerror(ctypes.get_errno())}')
    s = socket.socket(fileno=fd)
    if s.family == 17:
        s.setsockopt(socket.SOL_SOCKET, 32, size)
        s.setsockopt(socket.SOL_SOCKET, 33, size)
`;

/** A veth cable between two namespaces, both ends up, with the lab's MTU and without offloads. */
export async function cable(
  mtu: number,
  namespaceA: string,
  devA: string,
  namespaceB: string,
  devB: string,
): Promise<void> {
  await run('ip', [
    'link',
    'add',
    devA,
    'netns',
    namespaceA,
    'type',
    'veth',
    'peer',
    'name',
    devB,
    'netns',
    namespaceB,
  ]);
  for (const [namespace, dev] of [[namespaceA, devA] as const, [namespaceB, devB] as const]) {
    await offloadsOff(namespace, dev);
    await run('ip', ['-n', namespace, 'link', 'set', dev, 'mtu', String(mtu), 'up']);
  }
}

/** A userspace switch reads whole frames from the device: checksums and segments left to "hardware" would never be made. */
export async function offloadsOff(namespace: string, dev: string): Promise<void> {
  await runIn(namespace, 'ethtool', ['-K', dev, 'tx', 'off', 'tso', 'off', 'gso', 'off', 'gro', 'off']);
}

const cableLimit = (capacityBps: number): string => `rate ${Math.round(capacityBps)}bit burst 64k latency 8ms`;

/** Gives the hypervisor–core cables another rate, bit/s each way, while they carry traffic. */
export async function setCableRate(lab: Lab, capacityBps: number): Promise<void> {
  const ends = lab.hypervisors
    .flatMap((hv) => [`${hv}-a`, `${hv}-b`])
    .map((dev) => `qdisc change dev ${dev} root tbf ${cableLimit(capacityBps)}`);
  await runIn(lab.ns('wire'), 'tc', ['-batch', '-'], { input: `${ends.join('\n')}\n` });
}

/**
 * Joins two devices of the wire namespace to one cable that carries `capacityBps` in each direction and, where nobody
 * queues before it, holds 8 ms of traffic, as the port of a switch with shallow buffers does.
 */
async function joinLimited(lab: Lab, a: string, b: string): Promise<void> {
  for (const [from, to] of [[a, b] as const, [b, a] as const]) {
    const tc = (args: string) => runIn(lab.ns('wire'), 'tc', args.split(' '));
    await tc(`qdisc add dev ${to} root tbf ${cableLimit(lab.capacityBps)}`);
    await tc(`qdisc add dev ${from} handle ffff: ingress`);
    await redirect(lab, from, to);
  }
}

/** What comes in at one device of the wire namespace leaves through another. */
function redirect(lab: Lab, from: string, to: string): Promise<string> {
  const rule = `filter add dev ${from} parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev ${to}`;
  return runIn(lab.ns('wire'), 'tc', rule.split(' '));
}

/**
 * Cuts the cable between a hypervisor and the core; the answer mends it. `down`: both ports lose their carrier; `silent`:
 * whatever is sent is swallowed, and nothing tells of it.
 */
export async function cutCable(lab: Lab, hypervisor: Hypervisor, how: 'down' | 'silent'): Promise<() => Promise<void>> {
  const ends = [`${hypervisor}-a`, `${hypervisor}-b`] as const;
  const wire = lab.ns('wire');
  const each = async (work: (dev: string, other: string) => Promise<unknown>) => {
    await Promise.all([work(ends[0], ends[1]), work(ends[1], ends[0])]);
  };
  if (how === 'down') {
    await each((dev) => run('ip', ['-n', wire, 'link', 'set', dev, 'down']));
    return () => each((dev) => run('ip', ['-n', wire, 'link', 'set', dev, 'up']));
  }
  await each((dev) => runIn(wire, 'tc', ['filter', 'del', 'dev', dev, 'parent', 'ffff:']));
  return () => each((dev, other) => redirect(lab, dev, other));
}

function addPort(sw: SwitchAt, dev: string): Promise<string> {
  return vsctl(sw, ['add-port', sw.bridge, dev]);
}

/**
 * Who decides how the bridges forward: `unmanaged`, their own learning without any controller; `managed`, a controller
 * at the control namespace and nothing without it (fail mode secure). Flows of the mode before are gone afterwards.
 */
export async function setControl(lab: Lab, mode: 'unmanaged' | 'managed'): Promise<void> {
  for (const site of lab.sites) {
    const sw = lab.switches[site];
    if (mode === 'unmanaged') {
      await vsctl(sw, ['del-controller', sw.bridge, '--', 'set-fail-mode', sw.bridge, 'standalone']);
      await ofctl(sw, 'del-flows');
      await ofctl(sw, 'add-flow', ['priority=0,actions=NORMAL']);
    } else {
      await vsctl(sw, ['set-fail-mode', sw.bridge, 'secure']);
      await ofctl(sw, 'del-flows');
      await vsctl(sw, ['set-controller', sw.bridge, `tcp:${ADDRESS.management.ctl}:${OPENFLOW_PORT}`]);
    }
  }
  // Learned addresses would otherwise outlive the change.
  for (const site of lab.sites) {
    const sw = lab.switches[site];
    await run('ovs-appctl', ['-t', join(sw.runDir, 'ovs-vswitchd.ctl'), 'fdb/flush', sw.bridge]);
  }
}

/** Waits until each switch has a connection to its controller. */
export async function waitForControl(lab: Lab, signal?: AbortSignal): Promise<void> {
  for (const site of lab.sites) {
    const sw = lab.switches[site];
    await waitFor(
      `connection of ${sw.bridge} to the controller`,
      async () =>
        (await vsctl(sw, ['get', 'controller', sw.bridge, 'is_connected'])).trim() === 'true' ? true : undefined,
      { timeoutMs: 30_000, everyMs: 200, signal },
    );
  }
}

/** Command line to enter a place, for people. */
export const enterCommand = (lab: Lab, place: Place): string => {
  const [c, a] = inNamespace(lab.ns(place), 'bash', []);
  return [c, ...a].join(' ');
};
