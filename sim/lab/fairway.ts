/**
 * Fairway itself in the lab's network: the controller in the control namespace, an agent at each hypervisor (QEMU) and at
 * the core (queue filters only), each a process of its own started from the compiled command line, exactly as a user
 * would. The lab speaks to the controller through the ordinary client, by way of `relay.ts`.
 */
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createConnection, createServer, type Server } from 'node:net';
import { join, resolve } from 'node:path';
import { stringify } from 'yaml';
import type { z } from 'zod';
import { FairwayClient } from '../../cli/client.ts';
import { type GuestSpec, guestSpecSchema } from '../../contracts/agent.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { agentConfigSchema, controllerConfigSchema } from '../../contracts/config.ts';
import type { StatusView } from '../../contracts/rest.ts';
import { ADDRESS, type Hypervisor, type Lab, OPENFLOW_PORT, type Site, setControl, waitForControl } from './network.ts';
import { ended, joinSockets, preferGuestsOf, spawnIn, stop, waitFor } from './shell.ts';
import { startTicks } from './state.ts';

/** Where the controller serves, in the control namespace. */
export const HTTP_PORT = 8653;

type ControllerSettings = z.input<typeof controllerConfigSchema>;
type AgentSettings = z.input<typeof agentConfigSchema>;

export interface FairwayOptions {
  /** Guests to start at each hypervisor. */
  guests: Partial<Record<Hypervisor, GuestSpec[]>>;
  /** Fields of the policy document to set before anything moves, by dotted path. */
  policy: Record<string, string | number>;
  /** Where the policy lives. Default: in a file of the lab. */
  store?: ControllerSettings['policy'];
  /** Program that starts a hypervisor's guests, where it is not the usual one. */
  qemu?: Partial<Record<Hypervisor, string>>;
  logLevel?: 'debug' | 'info' | 'warn';
  signal?: AbortSignal | undefined;
  /** Stragglers go through tunnels of this kind, between the hypervisors' own addresses; otherwise under a label. */
  tunnels?: 'vxlan' | 'gre' | 'geneve';
  /** Guests go before other work of the machine, so that they dirty as fast as they are told to. */
  preferGuests?: boolean;
  /** Instead of QEMU's agents at the hypervisors: another program and its arguments, after the agent's configuration file. */
  hypervisorAgent?: { program: string; args(site: Hypervisor): string[] };
}

/** `relative` (e.g. `cli/main.js`) among the compiled files, whether this file runs compiled or as source in a test. */
export function compiled(relative: string): string {
  const here = import.meta.dirname;
  const path = import.meta.filename.endsWith('.ts')
    ? resolve(here, '../../dist', relative)
    : resolve(here, '../..', relative);
  if (!existsSync(path)) throw new FairwayError('lab.notBuilt', `${path} is missing: run \`npm run build\``);
  return path;
}

/** A process of Fairway's in a lab, started from the compiled command line exactly as a user would. */
export interface FairwayProcess {
  child: ChildProcess;
  namespace: string;
  words: string[];
  folder: string;
  name: string;
  logFile: string;
}

/** The words that start `fairway <args>` by node, logging from a level on. */
export const fairwayCommand = (level: string, ...args: string[]): string[] => [
  compiled('cli/main.js'),
  ...args,
  '--log-level',
  level,
];

/** Starts a program of ours by node in a namespace; its folder receives its log. */
export function launchFairway(
  lab: Lab,
  o: { namespace: string; name: string; words: string[]; folder: string; token: string },
): FairwayProcess {
  const logFile = join(o.folder, `${o.name}.log`);
  // Variables meant for a controller of the user's must not change the lab's.
  const own = Object.keys(process.env).filter((name) => name.startsWith('FAIRWAY_'));
  const env = { ...Object.fromEntries(own.map((name) => [name, undefined])), FAIRWAY_TOKEN: o.token };
  const child = spawnIn(o.namespace, process.execPath, o.words, { logFile, env, cwd: o.folder });
  if (child.pid !== undefined) lab.state.addProcess(child.pid, `fairway ${o.name}`);
  return { child, name: o.name, logFile, namespace: o.namespace, words: o.words, folder: o.folder };
}

/** Fails with `lab.ended`, quoting its log, when one of the processes has ended. */
export function checkRunning(processes: readonly FairwayProcess[]): void {
  for (const { child, name, logFile } of processes) {
    if (child.exitCode === null && child.signalCode === null) continue;
    const status = child.exitCode ?? child.signalCode;
    throw new FairwayError('lab.ended', `fairway ${name} ended (${status}): ${lastLines(logFile)}`);
  }
}

/** Controller and agents that run in a lab. */
export class FairwayInLab {
  readonly client: FairwayClient;
  readonly tokenFile: string;
  private readonly door: Server;
  private readonly children: FairwayProcess[];

  private readonly lab: Lab;
  private readonly token: string;

  private constructor(o: {
    lab: Lab;
    url: string;
    token: string;
    tokenFile: string;
    children: FairwayProcess[];
    door: Server;
    signal: AbortSignal | undefined;
  }) {
    this.lab = o.lab;
    this.token = o.token;
    this.tokenFile = o.tokenFile;
    this.children = o.children;
    this.door = o.door;
    this.client = new FairwayClient({
      url: o.url,
      token: o.token,
      ...(o.signal === undefined ? {} : { signal: o.signal }),
    });
  }

  /**
   * Hands the switches to a controller, starts it and the agents, sets the policy and waits until the controller sees
   * the whole network: every switch and its agent, all cables in both directions, every guest running and located.
   * On failure what was started is stopped, and the error quotes the end of the log of what failed.
   */
  static async start(lab: Lab, options: FairwayOptions): Promise<FairwayInLab> {
    const { signal } = options;
    const token = randomBytes(24).toString('hex');
    const children: FairwayProcess[] = [];
    let door: Server | undefined;
    try {
      const directory = join(lab.stateDir, 'ctl');
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      const controllerFile = join(directory, 'controller.yaml');
      writeFileSync(controllerFile, stringify(controllerSettings(lab, directory, options)));
      const level = options.logLevel ?? 'info';
      const tokenFile = join(directory, 'fairway.token');
      writeFileSync(tokenFile, `${token}\n`, { mode: 0o600 });
      const launch = (namespace: string, name: string, words: string[], folder: string) => {
        const started = launchFairway(lab, { namespace, name, words, folder, token });
        children.push(started);
        return started.child.pid;
      };
      const controller = fairwayCommand(level, 'controller', '--config', controllerFile, '--remove-flows');
      launch(lab.ns('ctl'), 'controller', controller, directory);
      door = await openDoor(lab, children);
      const url = `http://127.0.0.1:${(door.address() as AddressInfo).port}`;
      const fairway = new FairwayInLab({ lab, url, token, tokenFile, children, door, signal });
      // Whoever knocks before the controller listens may be kept waiting: knock again rather than wait long.
      const knock = new FairwayClient({ url, token, timeoutMs: 1000 });
      await fairway.until('the controller', 30_000, async () => ((await knock.isUp()) ? true : undefined), signal);
      const patch = Object.entries(options.policy);
      if (patch.length > 0) await fairway.client.patchPolicy(options.policy);

      await setControl(lab, 'managed');
      for (const site of lab.sites) {
        const folder = lab.switches[site].runDir;
        const agentFile = join(folder, 'agent.yaml');
        writeFileSync(agentFile, stringify(agentSettings(lab, site, options)));
        const other = site === 'core' ? undefined : options.hypervisorAgent;
        const words =
          site !== 'core' && other
            ? [compiled(other.program), agentFile, ...other.args(site)]
            : fairwayCommand(level, 'agent', '--config', agentFile);
        const pid = launch(lab.ns(site), `agent-${site}`, words, folder);
        if (options.preferGuests === true && pid !== undefined) preferGuestsOf(pid);
      }
      await waitForControl(lab, signal);
      const guests = Object.values(options.guests).flat();
      await fairway.untilComplete(guests, signal);
      return fairway;
    } catch (e) {
      await stopAll(children);
      door?.close();
      throw e;
    }
  }

  /** Ends agents and controller, which takes its flows with it. Guests stay as they are. */
  async stop(): Promise<void> {
    await stopAll(this.children);
    this.door.close();
  }

  /** Kills `controller`, or `agent-<site>`, as a crash would; answers what `revive` needs to start it again. */
  async kill(name: string): Promise<FairwayProcess> {
    const at = this.children.findIndex((c) => c.name === name);
    const [process] = at < 0 ? [] : this.children.splice(at, 1);
    if (process === undefined) throw new FairwayError('lab.ended', `fairway ${name} does not run`);
    process.child.kill('SIGKILL');
    await ended(process.child);
    return process;
  }

  /** Starts a process that was killed again, as it was, with another token where one is given. */
  revive(killed: FairwayProcess, token = this.token): void {
    this.children.push(launchFairway(this.lab, { ...killed, token }));
  }

  /** Process ids of controller, agents and relay. */
  get pids(): number[] {
    return this.children.flatMap(({ child }) => child.pid ?? []);
  }

  /** Lets everything run on after this process, which can then end. The client cannot be used any more. */
  leave(): void {
    for (const { child } of this.children.splice(0)) {
      child.stdout?.destroy();
      child.unref();
    }
    this.door.close();
  }

  /** Polls until `probe` gives a value; fails at once, quoting its log, when one of the processes has ended. */
  until<T>(what: string, timeoutMs: number, probe: () => Promise<T | undefined>, signal?: AbortSignal): Promise<T> {
    return waitFor(
      what,
      async () => {
        checkRunning(this.children);
        return await probe();
      },
      { timeoutMs, everyMs: 200, signal },
    );
  }

  /** Waits until the controller sees the whole network, every agent, and where every guest is. */
  async untilComplete(guests: readonly GuestSpec[], signal?: AbortSignal): Promise<void> {
    await this.until('a complete view of the network', 90_000, () => this.seesAll(guests), signal);
  }

  private async seesAll(guests: readonly GuestSpec[]): Promise<StatusView | undefined> {
    const status = await this.client.status();
    const { switches, links, agents, locations } = status.topology;
    const located = new Set(locations.map((l) => l.mac));
    const complete =
      switches.filter((s) => s.connected).length === this.lab.sites.length &&
      links.length === 2 * this.lab.hypervisors.length &&
      agents.filter((a) => a.connected).length === this.lab.sites.length &&
      guests.every((g) => located.has(g.mac));
    return complete ? status : undefined;
  }
}

function controllerSettings(lab: Lab, directory: string, options: FairwayOptions): ControllerSettings {
  const { store, tunnels } = options;
  const switches: NonNullable<ControllerSettings['switches']> = {};
  for (const site of lab.sites) {
    const sw = lab.switches[site];
    const ports = Object.fromEntries(sw.limitedPorts.map((p) => [p, { capacity: lab.capacityBps }]));
    const end = tunnels !== undefined && site !== 'core' ? { tunnelAddress: ADDRESS.data[site] } : {};
    switches[sw.dpid] = { name: site, ovsdb: sw.ovsdb, ports, ...end };
  }
  return {
    openflow: { host: ADDRESS.management.ctl, port: OPENFLOW_PORT },
    http: { host: ADDRESS.management.ctl, port: HTTP_PORT },
    forwarding: 'managed',
    policy: store ?? { store: 'file', file: join(directory, 'policy.yaml') },
    switches,
    ...(tunnels === undefined ? {} : { tunnels: { kind: tunnels, use: 'always' as const } }),
    journal: join(directory, 'journal'),
  };
}

/** Where a site's agent puts disks that come to it. */
export const diskFolder = (lab: Lab, site: Site): string => join(lab.switches[site].runDir, 'disks');

/** The configuration of a site's agent. */
export function agentSettings(
  lab: Lab,
  site: Site,
  options: Pick<FairwayOptions, 'guests' | 'hypervisorAgent' | 'qemu'>,
): AgentSettings {
  const sw = lab.switches[site];
  const common = {
    host: site,
    controller: `ws://${ADDRESS.management.ctl}:${HTTP_PORT}`,
    dpid: sw.dpid,
    runDir: join(sw.runDir, 'agent'),
    ovs: { db: sw.ovsdb, bridge: sw.bridge },
  };
  if (site === 'core') return { ...common, driver: 'none' };
  return {
    ...common,
    driver: options.hypervisorAgent ? 'emulated' : 'qmp',
    migrationIp: ADDRESS.data[site],
    migrationPort: sw.bridge,
    diskFolder: diskFolder(lab, site),
    ...(options.qemu?.[site] === undefined ? {} : { qemu: options.qemu[site] }),
    guests: (options.guests[site] ?? []).map((g) => guestSpecSchema.parse(g)),
  };
}

/**
 * Opens a port on the loopback interface that leads to the controller's HTTP interface: to the relay's unix socket, and
 * from there, in the control namespace, on to the controller.
 */
async function openDoor(lab: Lab, children: FairwayProcess[]): Promise<Server> {
  const path = join(lab.stateDir, 'ctl', 'door.sock');
  rmSync(path, { force: true });
  children.push(await startRelay(lab, `unix:${path}`, CONTROLLER));
  const server = createServer((outside) => joinSockets(outside, createConnection(path)));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', resolve);
  });
  return server;
}

/** The controller's address inside, as relays take it. */
export const CONTROLLER = `tcp:${ADDRESS.management.ctl}:${HTTP_PORT}`;

/** Starts a relay (`relay.ts`) in the control namespace; resolves once it listens. */
export async function startRelay(lab: Lab, from: string, to: string): Promise<FairwayProcess> {
  const logFile = join(lab.stateDir, 'relay.log');
  let ready = false;
  const words = [compiled('sim/lab/relay.js'), from, to];
  const child = spawnIn(lab.ns('ctl'), process.execPath, words, {
    logFile,
    onLine: () => {
      ready = true;
    },
  });
  if (child.pid !== undefined) lab.state.addProcess(child.pid, 'relay');
  await waitFor('the relay', () => (ready ? true : undefined), { timeoutMs: 10_000, everyMs: 20 });
  return { child, name: 'relay', logFile, namespace: lab.ns('ctl'), words, folder: lab.stateDir };
}

/** Agents before the controller, in the reverse order of their start. */
export async function stopAll(children: FairwayProcess[]): Promise<void> {
  for (const { child } of children.splice(0).reverse()) {
    if (child.pid !== undefined && startTicks(child.pid) !== undefined) await stop(child, 'SIGTERM', 8000);
    else await ended(child);
  }
}

/** The end of a log, for an error's text. */
function lastLines(file: string, count = 5): string {
  try {
    return readFileSync(file, 'utf8').trim().split('\n').slice(-count).join('\n');
  } catch {
    return '(no log)';
  }
}
