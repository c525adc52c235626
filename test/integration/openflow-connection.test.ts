/**
 * OfConnection over node:net against a real ovs-vswitchd in a namespace of its own, in every version the library speaks and the
 * switch has; and the examples of node-openflow, run as their reader would run them.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import {
  attach,
  type DownReason,
  type Factories,
  OfConnection,
  type OfMessage,
  type OfRequest,
  type OfRequestError,
  of10,
  of12,
  of13,
  of14,
  of15,
  ofproto_v1_3 as ofp,
  type Timers,
  type Version,
} from 'node-openflow';
import { gate } from './gate.ts';
import { kill, PrivateOvs, until, whyNoOvs } from './privateOvs.ts';

const { reason, real, named } = gate(whyNoOvs());
jest.setTimeout(300_000);

const timers: Timers = {
  now: () => performance.now(),
  after(ms, fn) {
    const t = setTimeout(fn, ms);
    return () => clearTimeout(t);
  },
  soon: setImmediate,
};
const EXAMPLES = join(__dirname, '../../dist/openflow/examples');
const A = '020000000001';
const B = '020000000002';
const DPID = 0x00000000000000f1n;

let ovs: PrivateOvs;
const running: ChildProcess[] = [];

/** Runs an example in the switch's namespace and collects what it prints. */
function example(name: string, ...args: string[]): { lines: string[]; child: ChildProcess } {
  const command = [process.execPath, join(EXAMPLES, `${name}.js`), ...args];
  const child = spawn('ip', ['netns', 'exec', ovs.netns, ...command], { stdio: ['ignore', 'pipe', 'inherit'] });
  running.push(child);
  const lines: string[] = [];
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop() ?? '';
    lines.push(...parts);
  });
  return { lines, child };
}

/** A bridge of its own with three ports, which is gone after `use`. */
async function withBridge(protocols: string, controller: string, use: (name: string) => Promise<void>): Promise<void> {
  const set = (table: string, name: string, ...values: string[]) => ['--', 'set', table, name, ...values];
  ovs.vsctl(
    ...['add-br', 'br0'],
    ...set('bridge', 'br0', 'datapath_type=netdev', 'fail_mode=secure', `protocols=${protocols}`),
    ...set('bridge', 'br0', 'other-config:datapath-id=00000000000000f1'),
    ...[1, 2, 3].flatMap((n) => [
      ...['--', 'add-port', 'br0', `p${n}`],
      ...set('interface', `p${n}`, 'type=internal', `ofport_request=${n}`),
    ]),
    ...['--', 'set-controller', 'br0', controller],
    ...set('controller', 'br0', 'max_backoff=1000'),
  );
  try {
    await use('br0');
  } finally {
    ovs.vsctl('del-br', 'br0');
  }
}
const ofctl = (protocol: string, command: string, ...args: string[]) =>
  ovs.inside('env', `OVS_RUNDIR=${ovs.dir}`, 'ovs-ofctl', '-O', protocol, command, 'br0', ...args);
/** A frame that comes in on a port, as far as the switch can tell. */
const comesIn = (protocol: string, port: number, to: string, from: string) => {
  const packet = `${to}${from}0800${'00'.repeat(46)}`;
  ofctl(protocol, 'packet-out', `in_port=${port} packet=${packet} actions=table`);
};

beforeAll(async () => {
  if (reason !== undefined) return;
  ovs = new PrivateOvs('ofc');
  await ovs.start();
  ovs.inside('ip', 'link', 'set', 'lo', 'up');
});
afterAll(async () => {
  for (const child of running) await kill(child);
  await ovs?.stop();
});

/** Listens on a socket of its own, hands connections over, and is gone after `use`. */
async function withServer(accept: (socket: Socket) => void, use: (address: string) => Promise<void>): Promise<void> {
  const path = join(ovs.dir, `of${Math.trunc(performance.now() * 1000)}.sock`);
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    accept(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    await use(`unix:${path}`);
  } finally {
    for (const s of sockets) s.destroy();
    await new Promise((resolve) => server.close(resolve));
  }
}

const FACTORIES = { 1: of10, 3: of12, 4: of13, 5: of14, 6: of15 };

interface Case<V extends Version> {
  readonly version: V;
  readonly protocol: string;
  /** A flow from port 1 to `out`. */
  flow(priority: number, out: number): OfMessage<V>;
  flows: OfMessage<V>;
  desc: OfMessage<V>;
  noSuchPort: number;
}
/** The classes used here are alike from 1.2 on, so one set of types does for all. */
function withInstructions(version: 3 | 4 | 5 | 6, protocol: string, factories: unknown): Case<Version> {
  const f = factories as Factories<4>;
  return {
    version,
    protocol,
    flow: (priority, out) =>
      f.OFPFlowMod({
        priority,
        match: f.OFPMatch({ in_port: 1 }),
        instructions: [
          f.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions: [f.OFPActionOutput({ port: out })] }),
        ],
      }),
    // what flows are is a request of its own since 1.5
    flows: version === 6 ? of15.OFPFlowDescStatsRequest() : f.OFPFlowStatsRequest(),
    desc: f.OFPDescStatsRequest(),
    noSuchPort: 0xffffff10,
  };
}

const cases: readonly Case<Version>[] = [
  {
    version: 1,
    protocol: 'OpenFlow10',
    flow: (priority, out) =>
      of10.OFPFlowMod({
        priority,
        match: of10.OFPMatch({ in_port: 1 }),
        actions: [of10.OFPActionOutput({ port: out })],
      }),
    flows: of10.OFPFlowStatsRequest({}),
    desc: of10.OFPDescStatsRequest(),
    noSuchPort: 0xff10,
  },
  withInstructions(3, 'OpenFlow12', of12),
  withInstructions(4, 'OpenFlow13', of13),
  withInstructions(5, 'OpenFlow14', of14),
  withInstructions(6, 'OpenFlow15', of15),
];

describe.each(cases)('OpenFlow version $version', ({ version, protocol, flow, flows, desc, noSuchPort }) => {
  real(named('hello, features, requests, transactions, replies in parts, a switch that dies'), async () => {
    const connections: OfConnection<Version>[] = [];
    const strays: OfRequestError[] = [];
    const downs: string[] = [];
    const accept = (socket: Socket) => {
      const connection: OfConnection<Version> = new OfConnection<Version>(
        {
          onUp: () => connections.push(connection),
          onError: (e) => strays.push(e),
          onDown: (r) => downs.push(r.code),
        },
        // one echo is exchanged while the test runs
        { echoIntervalMs: 50, echoMissedLimit: 200 },
      );
      attach(connection, socket, timers);
    };
    await withServer(accept, async (address) => {
      await withBridge(protocol, address, async () => {
        await until(() => connections.length > 0, 'the switch is up');
        const c = connections[0] as OfConnection<Version>;
        expect(c.version).toBe(version);
        expect(c.features?.datapath_id).toBe(DPID);

        const said = await c.request(desc as OfRequest);
        expect(said).toMatchObject({ cls: 'OFPDescStatsReply', version });
        await c.barrier();

        const many = Array.from({ length: 3000 }, (_, i) => flow(i + 1, 2));
        expect(await c.transaction(many)).toEqual({ outcome: 'applied', errors: [] });
        const held = await c.request(flows as OfRequest);
        expect((held as { body: unknown[] }).body).toHaveLength(3000);

        const bad = [flow(5000, 3), flow(5001, noSuchPort), flow(5002, 3)];
        const refused = await c.transaction(bad);
        expect(refused.outcome).toBe('refused');
        expect(refused.errors.map((e) => e.symbol)).toEqual(['OFPET_BAD_ACTION/OFPBAC_BAD_OUT_PORT']);
        expect(refused.errors[0]?.request).toBe(bad[1]);
        expect(ofctl(protocol, 'dump-flows')).toMatch(/priority=5002/);

        c.send(flow(6000, noSuchPort));
        await until(() => strays.length > 0, 'the error of what was merely sent');
        expect(strays[0]?.request).toMatchObject({ cls: 'OFPFlowMod', priority: 6000 });

        if (version >= 4) {
          const whole = [flow(7000, 2), flow(7001, 3)];
          expect(await c.bundle(whole)).toEqual({ outcome: 'applied', errors: [] });
          const broken = await c.bundle([flow(7002, 2), flow(7003, noSuchPort)]);
          expect(broken.outcome).toBe('refused');
          expect(broken.errors.map((e) => e.symbol)).toContain('OFPET_BAD_ACTION/OFPBAC_BAD_OUT_PORT');
          expect(ofctl(protocol, 'dump-flows')).toMatch(/priority=7001/);
          expect(ofctl(protocol, 'dump-flows')).not.toMatch(/priority=7002/);
          // Open vSwitch takes flows, groups, ports and packets in bundles, and no meters.
          const meter = FACTORIES[version as 4].OFPMeterMod({ meter_id: 7, flags: ofp.OFPMF_KBPS, bands: [] });
          const unsupported = await c.bundle([meter as OfMessage<Version>]);
          expect(unsupported.outcome).toBe('refused');
          expect(unsupported.errors.map((e) => e.code)).toEqual([expect.stringMatching(/MSG_UNSUP$/)]);
        }

        await until(() => c.roundTrip !== undefined, 'an echo was answered');
        await ovs.stopSwitch();
        await until(() => !c.isUp, 'it is noticed');
        await expect(c.barrier()).rejects.toMatchObject({ code: 'notUp' });
        await ovs.startSwitch();
        await until(() => connections.length > 1, 'the switch is back');
        expect(downs.filter((d) => d !== 'closed')).toEqual([]);
      });
    });
  });

  real(named('as a switch, asked by ovs-ofctl'), async () => {
    const accept = (socket: Socket) => {
      const sw: OfConnection<Version> = new OfConnection<Version>(
        {
          onMessage(m) {
            if (m.cls === 'OFPFeaturesRequest') {
              const made = { datapath_id: 0xabcdefn, n_tables: 7 };
              sw.send(FACTORIES[version].OFPSwitchFeatures(made), m.xid);
            } else if (m.cls === 'OFPBarrierRequest') {
              sw.send(FACTORIES[version].OFPBarrierReply(), m.xid);
            } else {
              sw.refuse(m, { type: ofp.OFPET_BAD_REQUEST, code: ofp.OFPBRC_BAD_TYPE });
            }
          },
        },
        { role: 'switch', versions: [version] },
      );
      attach(sw, socket, timers);
    };
    const ask = (...args: string[]) =>
      new Promise<string>((resolve) => {
        const child = spawn('ovs-ofctl', ['-O', protocol, '--timeout=10', ...args]);
        let text = '';
        child.stdout.on('data', (d) => {
          text += d;
        });
        child.stderr.on('data', (d) => {
          text += d;
        });
        child.on('close', () => resolve(text));
      });
    await withServer(accept, async (address) => {
      expect(await ask('probe', address)).toBe('');
      expect(await ask('show', address)).toMatch(/dpid:0000000000abcdef.*n_tables:7/s);
      expect(await ask('dump-desc', address)).toMatch(/OFPBRC_BAD_TYPE/);
    });
  });
});

describe('versions', () => {
  type Want = { offered?: Version[]; prefer?: Version[]; protocols: string; version?: Version };
  const wants: Want[] = [
    // all of ours against a switch with two
    { protocols: 'OpenFlow10,OpenFlow13', version: 4 },
    { protocols: 'OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15', version: 6 },
    { protocols: 'OpenFlow10,OpenFlow13', prefer: [1], version: 1 },
    { protocols: 'OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15', prefer: [4], version: 4 },
    { protocols: 'OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15', offered: [1, 4], version: 4 },
    { protocols: 'OpenFlow10', offered: [4] },
    { protocols: 'OpenFlow13', offered: [1] },
  ];
  real.each(wants)(named('%j'), async ({ offered, prefer, protocols, version }) => {
    const ups: Version[] = [];
    const downs: string[] = [];
    const accept = (socket: Socket) => {
      const handler = {
        onUp: (up: { version: Version }) => void ups.push(up.version),
        onDown: (r: DownReason) => void downs.push(`${r.code}: ${r.message}`),
      };
      const offers = { ...(offered ? { versions: offered } : {}), ...(prefer ? { prefer } : {}) };
      attach(new OfConnection<Version>(handler, offers), socket, timers);
    };
    await withServer(accept, async (address) => {
      await withBridge(protocols, address, async () => {
        // The switch may have closed a connection before its hello is read; it comes again.
        const refused = /^version: .*(no version in common|OFPHFC_INCOMPATIBLE)/;
        await until(() => ups.length > 0 || downs.some((d) => refused.test(d)), 'the hellos are exchanged');
        expect(ups[0]).toBe(version);
      });
    });
  });
});

describe('examples', () => {
  const listening = (lines: string[], what: RegExp) => until(() => what.test(lines.join('\n')), 'it listens');

  real(named('learning-switch learns, through a sniffer that shows it'), async () => {
    const learning = example('learning-switch', '16653');
    const sniffer = example('sniffer', '16633', '127.0.0.1', '16653');
    await listening(learning.lines, /listening/);
    await listening(sniffer.lines, /listening/);
    await withBridge('OpenFlow13', 'tcp:127.0.0.1:16633', async () => {
      const flows = () => ofctl('OpenFlow13', 'dump-flows');
      await until(() => /priority=0 actions=CONTROLLER:65535/.test(flows()), 'its first flow is there');
      await until(() => learning.lines.includes('switch f1 is connected'), 'it says so');
      comesIn('OpenFlow13', 1, B, A);
      comesIn('OpenFlow13', 2, A, B);
      await until(
        () => /in_port=p?2,dl_src=02:00:00:00:00:02,dl_dst=02:00:00:00:00:01 actions=output:"?p?1/.test(flows()),
        'it has learnt',
      );
      const said = () => sniffer.lines.slice(1).map((l) => JSON.parse(l));
      const classes = (from: string) =>
        said()
          .filter((s) => s.from === from)
          .flatMap((s) => Object.keys(s.message ?? s));
      await until(() => sniffer.lines.some((l) => l.includes('OFPPacketOut')), 'the sniffer has seen it');
      expect(classes('switch')).toEqual(expect.arrayContaining(['OFPHello', 'OFPSwitchFeatures', 'OFPPacketIn']));
      expect(classes('controller')).toEqual(expect.arrayContaining(['OFPHello', 'OFPFlowMod', 'OFPPacketOut']));
      expect(said().filter((s) => 'error' in s)).toEqual([]);
    });
    await until(() => learning.lines.some((l) => l.startsWith('switch is gone')), 'it notices that the switch went');
    expect(learning.child.exitCode).toBeNull();
  });

  real(named('bundle updates all at once, or nothing'), async () => {
    const { lines, child } = example('bundle', '16654');
    await listening(lines, /listening/);
    await withBridge('OpenFlow14', 'tcp:127.0.0.1:16654', async () => {
      await until(() => child.exitCode !== null, 'it is done');
      expect(lines.slice(1)).toEqual([
        'ports 1 and 2 are joined: applied',
        expect.stringMatching(/^a bundle with a mistake: refused, .*OFPET_BAD_ACTION\/OFPBAC_BAD_OUT_PORT/),
        'still there: in_port=1',
        'still there: in_port=2',
        'disconnected: done',
      ]);
      expect(ofctl('OpenFlow14', 'dump-flows')).toMatch(/in_port=p1 actions=output:p2|in_port=1 actions=output:2/);
    });
    expect(child.exitCode).toBe(0);
  });
});
