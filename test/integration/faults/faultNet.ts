/**
 * The network of the tests of faults, in namespaces of its own: three real bridges in a line (`hv1` – `core` – `hv2`), a
 * workload sender at hv1 and a client at core, host agents with emulated guests at both hypervisors, and controllers
 * (`fairway controller`, compiled) in a control namespace that a single cable joins to switches and agents. Whatever is
 * started here is ended by `stop`, by its process id.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { appendFileSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createConnection, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { stringify } from 'yaml';
import type { z } from 'zod';
import { FairwayClient } from '../../../cli/client.ts';
import type { agentConfigSchema, controllerConfigSchema } from '../../../contracts/config.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { StatusView } from '../../../contracts/rest.ts';
import { joinSockets } from '../../../sim/lab/shell.ts';
import type { AgentOrder, AgentsReport, StreamReport } from '../../children/orders.ts';
import { kill, PrivateOvs } from '../privateOvs.ts';

const DIST = resolve(import.meta.dirname, '../../../dist');
const TOKEN = 'token-of-the-tests-of-faults';

export const BRIDGES = ['hv1', 'core', 'hv2'] as const;
export type Bridge = (typeof BRIDGES)[number];
export const DPID: Record<Bridge, string> = {
  hv1: '0000000000000011',
  core: '0000000000000001',
  hv2: '0000000000000012',
};
/** The control namespace's address and the switches' side of the cable. */
export const CONTROL = { controllers: '10.254.0.1', switches: '10.254.0.2' } as const;
const WORKLOAD = { sender: '10.0.0.21', client: '10.0.0.22', port: 7000 } as const;
const MAC = { sender: '02:00:00:00:00:21', client: '02:00:00:00:00:22' } as const;

type ControllerInput = z.input<typeof controllerConfigSchema>;
type AgentInput = z.input<typeof agentConfigSchema>;
type Json = Record<string, unknown>;

export interface NetOptions {
  /** Guests at hv1 to begin with. */
  guests?: string[];
  /** Which controllers switches and agents are told of: names as given to `controller`. Default `one`. */
  controllers?: string[];
  /** Fields of the policy other than the defaults, by section. */
  policy?: Json;
}

export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
  timeoutMs = 90_000,
): Promise<T> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (performance.now() > endMs) throw new Error(`gave up waiting for ${what}`);
    await new Promise((r) => setTimeout(r, 50));
  }
}

export const pause = (ms: number): Promise<void> => new Promise((r) => setTimeout(r, ms));

/** A child that answers each line with one line, and says `ready` first. */
export class Helper {
  readonly child: ChildProcess;
  readonly #lines: Interface;
  readonly #waiting: { resolve(line: string): void; reject(error: Error): void }[] = [];

  constructor(child: ChildProcess) {
    this.child = child;
    if (!child.stdout) throw new Error('the child has no output');
    this.#lines = createInterface({ input: child.stdout });
    this.#lines.on('line', (line) => this.#waiting.shift()?.resolve(line));
    child.once('exit', (status) => {
      for (const w of this.#waiting.splice(0)) w.reject(new Error(`a helper ended with ${status}`));
    });
  }

  next(): Promise<string> {
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  async ask<T>(question: object): Promise<T> {
    const answer = this.next();
    this.child.stdin?.write(`${JSON.stringify(question)}\n`);
    return JSON.parse(await answer) as T;
  }
}

/** Starts a program of ours in a namespace; `ends` gets what ends it. What it logs is in a file of `dir`. */
export function startHelper(
  dir: string,
  namespace: string,
  program: string,
  args: string[],
  ends: (() => unknown)[],
): Helper {
  const log = openSync(join(dir, `${program.replaceAll('/', '-')}.log`), 'a');
  const child = spawn('ip', ['netns', 'exec', namespace, process.execPath, join(DIST, program), ...args], {
    stdio: ['pipe', 'pipe', log],
  });
  ends.push(() => kill(child));
  return new Helper(child);
}

/** A port on the loopback interface that leads where a relay (`sim/lab/relay.ts`), which listens at `path`, leads. */
export async function openDoor(
  path: string,
  startRelay: (from: string) => Helper,
  ends: (() => unknown)[],
): Promise<string> {
  rmSync(path, { force: true });
  await startRelay(`unix:${path}`).next();
  const server: Server = createServer((outside) => joinSockets(outside, createConnection(path)));
  await new Promise<void>((r) => server.listen(0, '127.0.0.1', r));
  ends.push(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** One `fairway controller`, which can be killed and started again with the same configuration. */
export class ControllerProcess {
  readonly name: string;
  readonly client: FairwayClient;
  readonly folder: string;
  readonly #start: () => ChildProcess;
  #child: ChildProcess | undefined;

  constructor(name: string, folder: string, client: FairwayClient, start: () => ChildProcess) {
    this.name = name;
    this.folder = folder;
    this.client = client;
    this.#start = start;
  }

  /** A controller in a namespace, with `config.yaml` in its folder, whose HTTP interface is at `url`. */
  static inside(namespace: string, name: string, folder: string, url: string, token: string): ControllerProcess {
    const args = [join(DIST, 'cli/main.js'), 'controller', '--config', join(folder, 'config.yaml')];
    return new ControllerProcess(name, folder, new FairwayClient({ url, token, timeoutMs: 30_000 }), () => {
      const log = openSync(join(folder, 'log'), 'a');
      return spawn('ip', ['netns', 'exec', namespace, process.execPath, ...args, '--log-level', 'debug'], {
        cwd: folder,
        stdio: ['ignore', 'ignore', log],
        env: { PATH: process.env.PATH, FAIRWAY_TOKEN: token },
      });
    });
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  async start(): Promise<void> {
    this.#child = this.#start();
    await waitFor(`controller ${this.name} to answer`, async () => {
      if (this.#child?.exitCode !== null) throw new Error(`controller ${this.name} ended: ${this.log().slice(-2000)}`);
      return (await this.client.isUp()) || undefined;
    });
  }

  /** As if its machine had lost power, but for the disk. */
  async kill9(): Promise<void> {
    await kill(this.#child, 'SIGKILL');
  }

  async stop(): Promise<void> {
    this.resume();
    await kill(this.#child);
  }

  /** Has it stand still, as a machine without time for it would, and go on. */
  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  resume(): void {
    this.#child?.kill('SIGCONT');
  }

  /** What dying in mid-write and a bad disk leave of a journal: a line that is none, and one without an end. */
  tearJournal(): void {
    appendFileSync(join(this.folder, 'journal'), '\u0000\u0000 no JSON\n{"type":"job","job":{"id":"half');
  }

  log(): string {
    return readFileSync(join(this.folder, 'log'), 'utf8');
  }

  /** Lines of the log with this event name. */
  events(event: string): Json[] {
    const lines = this.log().trim().split('\n');
    return lines.flatMap((l) => (l.includes(`"event":"${event}"`) ? [JSON.parse(l) as Json] : []));
  }

  /** Resolves once all of `agents` are connected. */
  async hasAgents(agents = 2): Promise<void> {
    await waitFor(`controller ${this.name} to have its agents`, async () => {
      const s = await this.client.status().catch(() => undefined);
      return s?.topology.agents.filter((a) => a.connected).length === agents || undefined;
    });
  }

  /** Resolves once the controller sees all of the network: switches, links both ways, agents, workload. */
  async seesAll(agents = 2): Promise<StatusView> {
    return waitFor(`controller ${this.name} to see the network`, async () => {
      const s = await this.client.status().catch(() => undefined);
      const isWhole =
        s !== undefined &&
        s.topology.switches.filter((x) => x.connected).length === BRIDGES.length &&
        s.topology.links.length === 4 &&
        s.topology.agents.filter((a) => a.connected).length === agents &&
        Object.values(MAC).every((mac) => s.topology.locations.some((l) => l.mac === mac));
      return isWhole ? s : undefined;
    });
  }
}

export class FaultNet {
  readonly ovs: PrivateOvs;
  readonly dir: string;
  readonly #o: Required<NetOptions>;
  readonly #name: string;
  readonly #ends: (() => unknown)[] = [];
  readonly #ports = new Map<string, { openflow: number; http: number }>();
  #agents: Helper | undefined;
  #stream: Helper | undefined;

  private constructor(name: string, o: NetOptions) {
    this.#name = name;
    this.#o = { guests: [], controllers: ['one'], policy: {}, ...o };
    this.ovs = new PrivateOvs(name);
    this.dir = mkdtempSync(join(tmpdir(), `fairway-${name}-`));
    for (const [i, c] of this.#o.controllers.entries()) this.#ports.set(c, { openflow: 6653 + i, http: 8653 + i });
  }

  /** Builds the network; the switches wait for their controllers with fail mode `secure`. */
  static async start(name: string, o: NetOptions = {}): Promise<FaultNet> {
    const net = new FaultNet(name, o);
    try {
      await net.#build();
      return net;
    } catch (error) {
      await net.stop();
      throw error;
    }
  }

  ns(place: 'ctl' | 'wl' | 'cl'): string {
    return `${this.ovs.netns}${place}`;
  }

  async #build(): Promise<void> {
    const { ovs } = this;
    for (const place of ['ctl', 'wl', 'cl'] as const) {
      execFileSync('ip', ['netns', 'add', this.ns(place)]);
      this.#ends.push(() => execFileSync('ip', ['netns', 'del', this.ns(place)]));
      execFileSync('ip', ['-n', this.ns(place), 'link', 'set', 'lo', 'up']);
    }
    ovs.inside('ip', 'link', 'set', 'lo', 'up');
    await ovs.start();
    this.#cable('ctl', 'eth0', 'fwctl', `${CONTROL.controllers}/24`);
    ovs.inside('ip', 'addr', 'add', `${CONTROL.switches}/24`, 'dev', 'fwctl');
    for (const b of BRIDGES) this.#bridge(b);
    this.#join('hv1', 'core');
    this.#join('hv2', 'core');
    this.#workload('wl', 'hv1', WORKLOAD.sender, MAC.sender, WORKLOAD.client, MAC.client);
    this.#workload('cl', 'core', WORKLOAD.client, MAC.client, WORKLOAD.sender, MAC.sender);
    for (const b of ['hv1', 'hv2'] as const) for (const g of this.#o.guests) this.tap(b, g);
  }

  /** A port for a guest's card; agents know it by the same name. */
  tap(bridge: Bridge, guest: string): void {
    const port = `${bridge}-${guest}`;
    this.ovs.vsctl('add-port', bridge, port, '--', 'set', 'interface', port, 'type=internal');
  }

  #bridge(name: Bridge): void {
    const set = ['datapath_type=netdev', 'fail_mode=secure', 'protocols=OpenFlow13'];
    const other = [`other-config:datapath-id=${DPID[name]}`, 'other-config:disable-in-band=true'];
    this.ovs.vsctl('add-br', name, '--', 'set', 'bridge', name, ...set, ...other);
    this.#pointAt(name, [...this.#ports.keys()]);
  }

  #pointAt(bridge: Bridge, controllers: readonly string[]): void {
    const targets = controllers.map((c) => `tcp:${CONTROL.controllers}:${this.#ports.get(c)?.openflow}`);
    this.ovs.vsctl('set-controller', bridge, ...targets);
    this.#patient(bridge);
  }

  /** A switch that lost its controller tries again within a second, as those of a data centre would within a few. */
  #patient(name: Bridge): void {
    const ids = this.ovs
      .vsctl('get', 'bridge', name, 'controller')
      .replace(/[[\] ]/g, '')
      .split(',');
    for (const id of ids) this.ovs.vsctl('set', 'controller', id, 'max_backoff=1000', 'inactivity_probe=5000');
  }

  /** A veth cable between two bridges; its ends are named `here-there`. */
  #join(a: Bridge, b: Bridge): void {
    const ends = [`${a}-${b}`, `${b}-${a}`] as const;
    this.ovs.inside('ip', 'link', 'add', ends[0], 'type', 'veth', 'peer', 'name', ends[1]);
    for (const [end, bridge] of [
      [ends[0], a],
      [ends[1], b],
    ] as const) {
      this.ovs.inside('ethtool', '-K', end, 'tx', 'off');
      this.ovs.inside('ip', 'link', 'set', end, 'up');
      this.ovs.vsctl('add-port', bridge, end);
    }
  }

  #cable(place: 'ctl' | 'wl' | 'cl', outer: string, inner: string, address: string): void {
    const ns = this.ns(place);
    execFileSync('ip', [
      'link',
      'add',
      outer,
      'netns',
      ns,
      'type',
      'veth',
      'peer',
      'name',
      inner,
      'netns',
      this.ovs.netns,
    ]);
    for (const [where, dev] of [
      [ns, outer],
      [this.ovs.netns, inner],
    ] as const) {
      execFileSync('ip', ['netns', 'exec', where, 'ethtool', '-K', dev, 'tx', 'off'], { stdio: 'ignore' });
      execFileSync('ip', ['-n', where, 'link', 'set', dev, 'up']);
    }
    execFileSync('ip', ['-n', ns, 'addr', 'add', address, 'dev', outer]);
  }

  #workload(place: 'wl' | 'cl', at: Bridge, ip: string, mac: string, peerIp: string, peerMac: string): void {
    const ns = this.ns(place);
    this.#cable(place, 'eth0', `p-${place}`, `${ip}/24`);
    execFileSync('ip', ['-n', ns, 'link', 'set', 'eth0', 'address', mac]);
    // Resolved beforehand: what is counted is the network's work, not ARP's patience.
    execFileSync('ip', ['-n', ns, 'neigh', 'replace', peerIp, 'lladdr', peerMac, 'dev', 'eth0', 'nud', 'permanent']);
    this.ovs.vsctl('add-port', at, `p-${place}`);
  }

  #helper(namespace: string, program: string, args: string[]): Helper {
    return startHelper(this.dir, namespace, program, args, this.#ends);
  }

  // ---- controllers ---------------------------------------------------------------------------------------------------

  /** Starts a controller. `settings` go over the configuration of the tests. */
  async controller(name = 'one', settings: Partial<ControllerInput> = {}): Promise<ControllerProcess> {
    const ports = this.#ports.get(name);
    if (!ports) throw new Error(`the switches were not told of a controller ${name}`);
    const folder = mkdtempSync(join(this.dir, `${name}-`));
    const { openflow, ...rest } = settings;
    const config: ControllerInput = {
      openflow: { host: CONTROL.controllers, port: ports.openflow, ...openflow },
      http: { host: CONTROL.controllers, port: ports.http },
      policy: { store: 'file', file: join(folder, 'policy.yaml') },
      switches: Object.fromEntries(
        BRIDGES.map((b) => [DPID[b], { name: b, ovsdb: this.ovs.remote, ports: this.#capacities(b) }]),
      ),
      journal: join(folder, 'journal'),
      ...rest,
    };
    writeFileSync(join(folder, 'config.yaml'), stringify(config));
    const policy: Json = { ...DEFAULT_POLICY };
    for (const [section, fields] of Object.entries(this.#o.policy))
      policy[section] = { ...(policy[section] as Json), ...(fields as Json) };
    writeFileSync(join(folder, 'policy.yaml'), stringify(policy));
    const url = await this.#door(name, ports.http);
    const controller = ControllerProcess.inside(this.ns('ctl'), name, folder, url, TOKEN);
    this.#ends.push(() => controller.stop());
    await controller.start();
    return controller;
  }

  #capacities(bridge: Bridge): Record<string, { capacity: string }> {
    const names = [bridge, ...BRIDGES.filter((b) => b !== bridge).map((b) => `${bridge}-${b}`)];
    return Object.fromEntries(names.map((n) => [n, { capacity: '1 Gbit/s' }]));
  }

  /** A port on the loopback interface that leads to a controller's HTTP port in the control namespace. */
  async #door(name: string, port: number): Promise<string> {
    const path = join(this.dir, `${name}.sock`);
    const relay = (from: string) =>
      this.#helper(this.ns('ctl'), 'sim/lab/relay.js', [from, `tcp:${CONTROL.controllers}:${port}`]);
    return openDoor(path, relay, this.#ends);
  }

  /** Takes the cable between controllers on one side, switches and agents on the other, down or up again. */
  controlCable(state: 'up' | 'down'): void {
    execFileSync('ip', ['-n', this.ns('ctl'), 'link', 'set', 'eth0', state]);
  }

  /**
   * A way of its own to a TCP port of the control namespace, at another port there; the function that is answered has it fall
   * silent, as a network that is cut does, and speak again.
   */
  async passage(from: number, to: number): Promise<(state: 'cut' | 'mended') => void> {
    const at = (port: number) => `tcp:${CONTROL.controllers}:${port}`;
    const relay = this.#helper(this.ns('ctl'), 'sim/lab/relay.js', [at(from), at(to)]);
    await relay.next();
    // What stands still does not hear that it is to end.
    this.#ends.push(() => relay.child.kill('SIGCONT'));
    return (state) => void relay.child.kill(state === 'cut' ? 'SIGSTOP' : 'SIGCONT');
  }

  /** Tells the switches of these controllers only; sessions with the others end. */
  reachOnly(...names: string[]): void {
    for (const b of BRIDGES) this.#pointAt(b, names);
  }

  // ---- agents and workload -------------------------------------------------------------------------------------------

  /** Starts agents for both hypervisors in one process. */
  async agents(): Promise<void> {
    const urls = [...this.#ports.values()].map((p) => `ws://${CONTROL.controllers}:${p.http}`);
    const config = (host: 'hv1' | 'hv2', ip: string): AgentInput => ({
      host,
      controller: urls.length === 1 ? (urls[0] as string) : urls,
      driver: 'emulated',
      dpid: DPID[host],
      migrationIp: ip,
      migrationPort: host,
      guests:
        host === 'hv1'
          ? this.#o.guests.map((name, i) => ({ name, mac: guestMac(i), memoryMiB: 64, accel: 'emulated' as const }))
          : [],
    });
    const agents = [config('hv1', '10.0.0.1'), config('hv2', '10.0.0.2')];
    this.#agents = this.#helper(this.ovs.netns, 'test/children/agents.js', [JSON.stringify({ token: TOKEN, agents })]);
    await this.#agents.next();
  }

  order(o: AgentOrder): Promise<AgentsReport> {
    if (!this.#agents) throw new Error('no agents');
    return this.#agents.ask<AgentsReport>(o);
  }

  report(): Promise<AgentsReport> {
    return this.order({ order: 'report', guest: '' });
  }

  /** Starts the workload: numbered packets from the sender at hv1 to the client at core, echoed there. */
  async workload(packetsPerS = 200): Promise<void> {
    const at = [WORKLOAD.client, String(WORKLOAD.port)];
    await this.#helper(this.ns('cl'), 'test/children/stream.js', ['echo', ...at]).next();
    this.#stream = this.#helper(this.ns('wl'), 'test/children/stream.js', ['send', ...at, String(packetsPerS)]);
    await this.#stream.next();
  }

  /** What became of the workload so far; `lostSince` are the lost ones from number `since` on, `missing` those before `until`. */
  async carried(since = 0, until = 0): Promise<StreamReport> {
    if (!this.#stream) throw new Error('no workload');
    return this.#stream.ask<StreamReport>({ since, until });
  }

  // ---- what switches hold --------------------------------------------------------------------------------------------

  ofctl(command: string, bridge: Bridge, ...args: string[]): string {
    const target = `unix:${join(this.ovs.dir, `${bridge}.mgmt`)}`;
    return execFileSync('ovs-ofctl', ['-O', 'OpenFlow13', command, target, ...args], { encoding: 'utf8' });
  }

  /** Flows of a bridge, one a line, without what changes by itself. */
  flows(bridge: Bridge): string[] {
    return this.ofctl('dump-flows', bridge, '--no-stats')
      .split('\n')
      .map((l) => l.trim())
      .filter((l) => l.includes('actions='))
      .sort();
  }

  /** Whether no bridge is connected to a controller, by the switch's own account. */
  isLeft(): boolean {
    return !this.ovs.vsctl('--columns=is_connected', '--bare', 'list', 'controller').includes('true');
  }

  /** All that could be left of migrations: their flows and meters, queues in the database, what agents remember. */
  async leftovers(): Promise<string[]> {
    const left: string[] = [];
    for (const b of BRIDGES) {
      // Features 4, 5 and 6 of our cookies are of migrations.
      left.push(
        ...this.flows(b)
          .filter((l) => /cookie=0xfa1c[0-9a-f]{2}0[456]/.test(l))
          .map((l) => `${b}: ${l}`),
      );
      // Meters carry no cookie: ours have numbers from 0xfa00 on.
      const meters = this.ofctl('dump-meters', b)
        .split('\n')
        .filter((l) => Number(/meter=(\d+)/.exec(l)?.[1] ?? 0) >= 0xfa00);
      left.push(...meters.map((l) => `${b}: ${l}`));
    }
    for (const table of ['qos', 'queue']) {
      const rows = this.ovs.vsctl('--columns=_uuid', '--format=csv', '--no-headings', 'list', table);
      if (rows !== '') left.push(`${table}: ${rows}`);
    }
    for (const h of (await this.report()).hosts) {
      left.push(...h.migrations.map((m) => `${h.host} remembers ${JSON.stringify(m)}`));
      left.push(...h.guests.filter((g) => g.state !== 'running').map((g) => `${h.host} has ${JSON.stringify(g)}`));
    }
    return left;
  }

  /** Resolves once a bridge sends what is for a guest at `host` the right way, by the bridge's own account. */
  async leadsTo(bridge: Bridge, mac: string, guest: string, host: 'hv1' | 'hv2'): Promise<void> {
    const next = bridge === host ? guest : bridge === 'core' ? host : 'core';
    const port = this.ovs.vsctl('get', 'interface', `${bridge}-${next}`, 'ofport');
    const packet = `in_port=LOCAL,dl_src=02:00:00:00:00:99,dl_dst=${mac}`;
    let trace = '';
    await waitFor(`${bridge} to lead to ${guest} at ${host}`, () => {
      trace = this.trace(bridge, packet);
      return new RegExp(`\\boutput:${port}$`, 'm').test(trace) || undefined;
    }).catch((error) => Promise.reject(new Error(`${error}: ${trace}`)));
  }

  /** Where a bridge sends a packet for a guest, by its own account. */
  trace(bridge: Bridge, packet: string): string {
    const ctl = join(this.ovs.dir, 'switchd.ctl');
    return execFileSync('ovs-appctl', ['-t', ctl, 'ofproto/trace', bridge, packet], { encoding: 'utf8' });
  }

  /** Lines of the agents' log with this event name. */
  agentEvents(event: string): Json[] {
    const log = readFileSync(join(this.dir, 'test-children-agents.js.log'), 'utf8').split('\n');
    return log.flatMap((l) => (l.includes(`"event":"${event}"`) ? [JSON.parse(l) as Json] : []));
  }

  async stop(): Promise<void> {
    for (const end of this.#ends.splice(0).reverse()) await end();
    await this.ovs.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }

  get name(): string {
    return this.#name;
  }
}

/** Of the guest with this index among a network's. */
export const guestMac = (index: number): string => `52:54:00:00:01:${(index + 1).toString(16).padStart(2, '0')}`;
