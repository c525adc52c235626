/**
 * A fabric of real Open vSwitch bridges for scenario tests: one private daemon, bridges joined by veth cables that can be
 * cut, and stations (guests, hosts, clients) in network namespaces of their own. Gone without a trace after `stop`.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { kill, PrivateOvs, until } from '../integration/privateOvs.ts';

export interface Station {
  name: string;
  bridge: string;
  /** Name of its port on the bridge. */
  port: string;
  mac: string;
  /** Addresses with prefix length. */
  ips: readonly string[];
}

/** A program in a station's namespace that says one JSON value per line. */
export interface Speaker {
  /** What it said, oldest first. */
  readonly said: unknown[];
  /** Writes a line to its standard input. */
  tell(line: string): void;
  stop(): Promise<void>;
}

export class OvsFabric {
  readonly ovs: PrivateOvs;
  /** Address of this process as the switches see it. */
  readonly controllerHost: string;
  readonly #tag: string;
  readonly #namespaces: string[] = [];
  readonly #speakers = new Set<ChildProcess>();
  readonly #bridges: string[] = [];

  private constructor(tag: string, ovs: PrivateOvs, octet: number) {
    this.#tag = tag;
    this.ovs = ovs;
    this.controllerHost = `169.254.${1 + (process.pid % 250)}.${octet + 1}`;
  }

  /** `octet`: multiple of four, another for each test file, so that their control networks do not meet. */
  static async start(tag: string, octet: number): Promise<OvsFabric> {
    const f = new OvsFabric(tag, new PrivateOvs(tag), octet);
    await f.ovs.start();
    const outside = `fw${tag}${process.pid}`;
    execFileSync('ip', ['link', 'add', outside, 'type', 'veth', 'peer', 'name', 'fwctl', 'netns', f.ovs.netns]);
    execFileSync('ip', ['addr', 'add', `${f.controllerHost}/30`, 'dev', outside]);
    execFileSync('ip', ['link', 'set', outside, 'up']);
    f.ovs.inside('ip', 'addr', 'add', f.controllerHost.replace(/\d+$/, `${octet + 2}/30`), 'dev', 'fwctl');
    f.ovs.inside('ip', 'link', 'set', 'fwctl', 'up');
    f.ovs.inside('ip', 'link', 'set', 'lo', 'up');
    return f;
  }

  bridge(name: string, dpid: string, protocols = 'OpenFlow13'): void {
    const set = [
      'datapath_type=netdev',
      'fail_mode=secure',
      `protocols=${protocols}`,
      `other-config:datapath-id=${dpid}`,
    ];
    this.ovs.vsctl('add-br', name, '--', 'set', 'bridge', name, ...set);
    this.#bridges.push(name);
  }

  /** Joins two bridges; the ports are named `<bridge>-<other>`. */
  cable(a: string, b: string): void {
    const [near, far] = [`${a}-${b}`, `${b}-${a}`];
    this.ovs.inside('ip', 'link', 'add', near, 'type', 'veth', 'peer', 'name', far);
    for (const [bridge, end] of [
      [a, near],
      [b, far],
    ] as const) {
      this.ovs.inside('ethtool', '-K', end, 'tx', 'off');
      this.ovs.inside('ip', 'link', 'set', end, 'up');
      this.ovs.vsctl('add-port', bridge, end);
    }
  }

  setCable(a: string, b: string, isUp: boolean): void {
    this.ovs.inside('ip', 'link', 'set', `${a}-${b}`, isUp ? 'up' : 'down');
  }

  station(s: Station): void {
    const ns = this.ns(s.name);
    execFileSync('ip', ['netns', 'add', ns]);
    this.#namespaces.push(ns);
    const inNs = (...args: string[]) => execFileSync('ip', ['netns', 'exec', ns, ...args]);
    this.ovs.inside('ip', 'link', 'add', s.port, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', ns);
    this.ovs.inside('ethtool', '-K', s.port, 'tx', 'off');
    this.ovs.inside('ip', 'link', 'set', s.port, 'up');
    inNs('ethtool', '-K', 'eth0', 'tx', 'off');
    inNs('ip', 'link', 'set', 'eth0', 'address', s.mac);
    for (const ip of s.ips) inNs('ip', 'addr', 'add', ip, 'dev', 'eth0');
    inNs('ip', 'link', 'set', 'lo', 'up');
    inNs('ip', 'link', 'set', 'eth0', 'up');
    this.ovs.vsctl('add-port', s.bridge, s.port);
  }

  ns(station: string): string {
    return `fw${this.#tag}${process.pid}${station}`;
  }

  /** Lets all bridges connect to the controller. */
  connect(port: number): void {
    for (const b of this.#bridges) this.ovs.vsctl('set-controller', b, `tcp:${this.controllerHost}:${port}`);
  }

  /** Runs a command in a station's namespace and answers what it printed. Throws when it fails. */
  at(station: string, ...command: string[]): string {
    return execFileSync('ip', ['netns', 'exec', this.ns(station), ...command], { encoding: 'utf8', timeout: 60_000 });
  }

  /** Waits until an address answers: ports that just came up are listened at before broadcasts leave by them. */
  async reach(station: string, address: string): Promise<void> {
    for (let tries = 0; ; tries++) {
      try {
        this.at(station, 'ping', '-c', '1', '-W', '1', address);
        return;
      } catch (error) {
        if (tries >= 60) throw error;
        // A controller in this process works on while this waits, and only then.
        await new Promise((r) => setTimeout(r, 400));
      }
    }
  }

  /** Runs a script, of Node unless said otherwise, in a station's namespace. */
  speaker(station: string, script: string, by = [process.execPath, '-e']): Speaker {
    const child = spawn('ip', ['netns', 'exec', this.ns(station), ...by, script], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#speakers.add(child);
    const said: unknown[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => said.push(JSON.parse(line)));
    child.stdin.on('error', () => {});
    return {
      said,
      tell: (line) => child.stdin.write(`${line}\n`),
      stop: async () => {
        if (child.exitCode === null && child.signalCode === null) {
          child.stdin.end();
          await once(child, 'exit');
        }
        this.#speakers.delete(child);
      },
    };
  }

  flows(bridge: string): string[] {
    const text = this.ovs.ofctl('dump-flows', bridge);
    return text.split('\n').filter((l) => l.includes('cookie='));
  }

  async stop(): Promise<void> {
    for (const child of this.#speakers) await kill(child, 'SIGKILL');
    for (const b of this.#bridges) this.ovs.vsctl('--if-exists', 'del-br', b);
    await this.ovs.stop();
    for (const ns of this.#namespaces) execFileSync('ip', ['netns', 'del', ns]);
  }
}

/**
 * Sends UDP datagrams with growing sequence numbers, `perSecond` of them, from each of the addresses `from` in turn: Open
 * vSwitch spreads UDP by address, not by port. Tells how many on each line of input and at its end.
 */
export const udpSender = (address: string, port: number, perSecond: number, from: readonly string[]): string => `
  const sockets = ${JSON.stringify(from)}.map((a) => {
    const s = require('node:dgram').createSocket('udp4');
    s.bind(0, a);
    return s;
  });
  let sent = 0;
  const startMs = performance.now();
  const timer = setInterval(() => {
    const due = Math.floor((performance.now() - startMs) * ${perSecond} / 1000);
    for (; sent < due; sent++) {
      const b = Buffer.alloc(200);
      b.writeUInt32BE(sent);
      sockets[sent % sockets.length].send(b, ${port}, '${address}', () => {});
    }
  }, 2);
  for (const s of sockets) s.on('error', () => {});
  process.stdin.resume();
  process.stdin.on('data', () => console.log(JSON.stringify({ sent })));
  process.stdin.on('end', () => { clearInterval(timer); setTimeout(() => { console.log(JSON.stringify({ sent })); process.exit(0); }, 300); });
`;

/**
 * Receives them; on each line of input, and at its end, tells the count, the highest number, and the longest silence; and of
 * numbers from and up to, if the line has two, how many are missing.
 */
export const udpReceiver = (port: number): string => `
  const socket = require('node:dgram').createSocket({ type: 'udp4', recvBufferSize: 4e6 });
  const seen = new Set();
  let highest = -1, lastMs = 0, silenceMs = 0;
  socket.on('message', (b) => {
    const now = performance.now();
    if (lastMs > 0) silenceMs = Math.max(silenceMs, now - lastMs);
    lastMs = now;
    const n = b.readUInt32BE(0);
    seen.add(n);
    highest = Math.max(highest, n);
  });
  socket.bind(${port});
  const tell = (from = 0, until = 0) => {
    let missing = 0;
    for (let n = from; n < until; n++) if (!seen.has(n)) missing++;
    console.log(JSON.stringify({ received: seen.size, highest, silenceMs: Math.round(silenceMs), missing }));
  };
  require('node:readline').createInterface({ input: process.stdin })
    .on('line', (l) => tell(...l.split(' ').map(Number)))
    .on('close', () => { tell(); process.exit(0); });
`;

/** Asks a speaker, and resolves with what it says. */
export async function ask<T>(speaker: Speaker, question: string): Promise<T> {
  const before = speaker.said.length;
  speaker.tell(question);
  await until(() => speaker.said.length > before, 'it answers');
  return speaker.said[before] as T;
}

/**
 * Resolves once so many packets in a row, sent from now on, have all arrived: nothing is lost any more. Answers the number of the
 * first of them. Never, where some are still lost: then it throws.
 */
export async function losesNothing(sender: Speaker, receiver: Speaker, packets: number): Promise<number> {
  const sent = async () => (await ask<{ sent: number }>(sender, '?')).sent;
  for (const endMs = performance.now() + 90_000; performance.now() < endMs; ) {
    const from = await sent();
    let to = from;
    while (to < from + packets) {
      await new Promise((r) => setTimeout(r, 50));
      to = await sent();
    }
    // What is on its way has time on a busy machine, too.
    for (let looks = 0; looks < 20; looks++) {
      const { missing } = await ask<{ missing: number }>(receiver, `${from} ${to}`);
      if (missing === 0) return from;
      await new Promise((r) => setTimeout(r, 50));
    }
  }
  throw new Error('gave up waiting until nothing is lost');
}
