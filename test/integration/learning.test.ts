/**
 * `fairway controller --app learning` in front of a real Open vSwitch: two namespaces reach each other through it, in OpenFlow
 * 1.0, 1.3, 1.4 and 1.5; and what its command line refuses.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { CbenchSwitch } from './cbenchSwitch.ts';
import { gate } from './gate.ts';
import { kill, PrivateOvs, until, whyNoOvs } from './privateOvs.ts';

const { reason, real, named } = gate(whyNoOvs());
jest.setTimeout(300_000);

const FAIRWAY = join(__dirname, '../../cli/fairway.mjs');
const HOSTS = ['a', 'b'].map((name, i) => ({
  netns: `fwlrn${name}${process.pid}`,
  ip: `10.7.0.${i + 1}`,
  port: `p${name}`,
}));

let ovs: PrivateOvs;
let controller: ChildProcess;
let openflowPort = 0;

beforeAll(async () => {
  if (reason !== undefined) return;
  ovs = new PrivateOvs('lrn');
  await ovs.start();
  ovs.inside('ip', 'link', 'set', 'lo', 'up');
  const ip = (...args: string[]) => execFileSync('ip', args);
  for (const { netns, ip: address, port } of HOSTS) {
    ip('netns', 'add', netns);
    ip('link', 'add', 'eth0', 'netns', netns, 'type', 'veth', 'peer', 'name', port, 'netns', ovs.netns);
    ip('-n', netns, 'addr', 'add', `${address}/24`, 'dev', 'eth0');
    ip('-n', netns, 'link', 'set', 'eth0', 'up');
    ip('-n', ovs.netns, 'link', 'set', port, 'up');
  }
  const command = [process.execPath, FAIRWAY, 'controller', '--app', 'learning', '--listen', '127.0.0.1:0', '--json'];
  controller = spawn('ip', ['netns', 'exec', ovs.netns, ...command], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(controller.stdout as NodeJS.ReadableStream, 'data');
  openflowPort = JSON.parse(String(line)).openflowPort;
});

afterAll(async () => {
  await kill(controller);
  for (const { netns } of HOSTS) spawnSync('ip', ['netns', 'del', netns], { stdio: 'ignore' });
  await ovs?.stop();
});

const ofctl = (protocol: string, ...args: string[]) =>
  ovs.inside('env', `OVS_RUNDIR=${ovs.dir}`, 'ovs-ofctl', '-O', protocol, ...args);

real.each(['OpenFlow10', 'OpenFlow13', 'OpenFlow14', 'OpenFlow15'])(
  named('two namespaces reach each other, by flows, in %s'),
  async (protocol) => {
    const set = (table: string, name: string, ...values: string[]) => ['--', 'set', table, name, ...values];
    ovs.vsctl(
      ...['add-br', 'br0'],
      ...set('bridge', 'br0', 'datapath_type=netdev', 'fail_mode=secure', `protocols=${protocol}`),
      ...HOSTS.flatMap(({ port }) => ['--', 'add-port', 'br0', port]),
      ...['--', 'set-controller', 'br0', `tcp:127.0.0.1:${openflowPort}`],
      ...set('controller', 'br0', 'max_backoff=1000'),
    );
    try {
      const [from, to] = HOSTS as [(typeof HOSTS)[0], (typeof HOSTS)[0]];
      const isUp = () => ovs.vsctl('get', 'controller', 'br0', 'is_connected') === 'true';
      await until(isUp, 'the switch is connected');
      const ping = (count: number) =>
        spawnSync('ip', ['netns', 'exec', from.netns, 'ping', '-n', '-c', `${count}`, '-i', '0.05', '-W', '1', to.ip], {
          encoding: 'utf8',
        });
      await until(() => ping(1).status === 0, 'a first ping is answered', 20);
      const many = ping(20);
      expect(many.stdout).toMatch(/ 0% packet loss/);
      const flows = ofctl(protocol, 'dump-flows', 'br0');
      // both ways, and used
      expect(flows.match(/n_packets=[1-9][0-9]*, .*idle_timeout=60.*in_port=.*dl_src=.*dl_dst=/g)?.length).toBe(2);

      // the addresses change places: what was learned does not keep them apart
      const macs = HOSTS.map(({ netns }) =>
        execFileSync('ip', ['netns', 'exec', netns, 'cat', '/sys/class/net/eth0/address'], { encoding: 'utf8' }).trim(),
      );
      HOSTS.forEach(({ netns }, i) => {
        execFileSync('ip', ['-n', netns, 'link', 'set', 'eth0', 'address', macs[1 - i] as string]);
        execFileSync('ip', ['-n', netns, 'neigh', 'flush', 'all']);
      });
      await until(() => ping(1).status === 0, 'they reach each other after the move', 20);
      expect(ping(5).stdout).toMatch(/ 0% packet loss/);
    } finally {
      ovs.vsctl('del-br', 'br0');
    }
  },
);

test('a switch as the public cbench emulates it: every packet-in is answered by one FLOW_MOD', async () => {
  const own = spawn(
    process.execPath,
    [FAIRWAY, 'controller', '--app', 'learning', '--listen', '127.0.0.1:0', '--json'],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  try {
    const [line] = await once(own.stdout, 'data');
    const { openflowPort } = JSON.parse(String(line));
    for (const mode of ['latency', 'throughput'] as const) {
      const answers = await new CbenchSwitch(7, mode).run(openflowPort, mode === 'latency' ? 2000 : 120_000);
      expect(answers).toEqual({ floods: 1, flowMods: mode === 'latency' ? 2000 : 120_000, others: [] });
    }
  } finally {
    await kill(own);
  }
});

test.each([
  [['--app', 'learning', '--listen', 'nowhere'], /HOST:PORT/],
  [['--app', 'learning', '--set', 'http.port=0'], /--app learning takes/],
  [['--listen', '127.0.0.1:0'], /--listen goes with --app learning/],
  [['--app', 'bridging'], /choices/],
])('%j is refused with the reason', (args, want) => {
  const { status, stderr } = spawnSync(process.execPath, [FAIRWAY, 'controller', ...args], { encoding: 'utf8' });
  expect(status).toBe(2);
  expect(stderr).toMatch(want);
});
