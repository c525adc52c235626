/**
 * Two fabrics of real Open vSwitch that only IP routing joins: a guest moves from one to the other and keeps its address. Its
 * stand-in is a namespace with a card at both places, of which the second is used from the moment the network is ready. A
 * client at home counts every packet, while the controller is killed with -9 and comes back, and until the guest is home again.
 *
 *     client – core1 – hv1 ╌ br-phy ── router ── br-phy ╌ hv2
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { AgentOrder, AgentsReport, StreamReport } from '../../children/orders.ts';
import { gate } from '../gate.ts';
import { PrivateOvs, whyNoOvs } from '../privateOvs.ts';
import { allComeBack, allEnd } from './checks.ts';
import { ControllerProcess, type Helper, openDoor, startHelper, waitFor } from './faultNet.ts';

const { real, named } = gate(whyNoOvs());
jest.setTimeout(600_000);

const TOKEN = 'token-of-the-test-of-islands';
const DPID = { core1: '00000000000000c1', hv1: '0000000000000011', hv2: '0000000000000012' } as const;
type Bridge = keyof typeof DPID;
const CONTROL = '10.254.0.1';
const GUEST = { ip: '10.0.0.9', mac: '52:54:00:00:00:09' } as const;
const CLIENT = { ip: '10.0.0.100', mac: '02:00:00:00:00:64' } as const;
const PORT = 7000;
/** Each island's address in the IP network, and its router's. */
const PHY = { one: ['192.0.2.2', '192.0.2.1'], two: ['198.51.100.2', '198.51.100.1'] } as const;
/** Room for the tunnel's headers around the guest's 1500. */
const UNDERLAY_MTU = 1600;

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

function namespace(name: string): string {
  const ns = `fwis${process.pid}${name}`;
  execFileSync('ip', ['netns', 'add', ns]);
  ends.push(() => execFileSync('ip', ['netns', 'del', ns]));
  execFileSync('ip', ['-n', ns, 'link', 'set', 'lo', 'up']);
  return ns;
}
const ip = (ns: string, ...args: string[]) => execFileSync('ip', ['-n', ns, ...args]);
const inside = (ns: string, ...args: string[]) =>
  execFileSync('ip', ['netns', 'exec', ns, ...args], { stdio: 'ignore' });

/** One fabric: a private Open vSwitch with its part of the IP network and a way to the controller. */
async function island(name: 'one' | 'two', router: string, bridges: readonly Bridge[]): Promise<PrivateOvs> {
  const ovs = new PrivateOvs(`is${name}`);
  ends.push(() => ovs.stop());
  await ovs.start();
  const [own, gateway] = PHY[name];
  const control = name === 'one' ? '10.254.1' : '10.254.2';
  execFileSync('ip', [
    'link',
    'add',
    `c-${name}`,
    'netns',
    router,
    'type',
    'veth',
    'peer',
    'name',
    'ctl',
    'netns',
    ovs.netns,
  ]);
  ip(router, 'addr', 'add', `${control}.1/24`, 'dev', `c-${name}`);
  ip(router, 'link', 'set', `c-${name}`, 'up');
  ip(ovs.netns, 'addr', 'add', `${control}.2/24`, 'dev', 'ctl');
  ip(ovs.netns, 'link', 'set', 'ctl', 'up');
  ip(ovs.netns, 'route', 'add', '10.254.0.0/24', 'via', `${control}.1`);

  ovs.vsctl('add-br', 'br-phy', '--', 'set', 'bridge', 'br-phy', 'datapath_type=netdev');
  ovs.plug('br-phy', 'uplink', router, `p-${name}`);
  ip(router, 'addr', 'add', `${gateway}/24`, 'dev', `p-${name}`);
  for (const [ns, dev] of [
    [router, `p-${name}`],
    [ovs.netns, 'uplink'],
  ] as const)
    ip(ns, 'link', 'set', dev, 'mtu', String(UNDERLAY_MTU));
  ovs.vsctl('set', 'interface', 'br-phy', `mtu_request=${UNDERLAY_MTU}`);
  ip(ovs.netns, 'addr', 'add', `${own}/24`, 'dev', 'br-phy');
  ip(ovs.netns, 'link', 'set', 'br-phy', 'up');
  const far = name === 'one' ? PHY.two : PHY.one;
  ip(ovs.netns, 'route', 'add', `${far[0]}/32`, 'via', gateway);

  for (const b of bridges) {
    const set = ['datapath_type=netdev', 'fail_mode=secure', 'protocols=OpenFlow13'];
    const other = [`other-config:datapath-id=${DPID[b]}`, 'other-config:disable-in-band=true'];
    ovs.vsctl('add-br', b, '--', 'set', 'bridge', b, ...set, ...other);
    ovs.vsctl('set-controller', b, `tcp:${CONTROL}:6653`, '--', 'set', 'controller', b, 'max_backoff=1000');
  }
  return ovs;
}

/** Joins two bridges of one switch. */
function join2(ovs: PrivateOvs, a: string, b: string): void {
  for (const [x, y] of [
    [a, b],
    [b, a],
  ] as const)
    ovs.vsctl(
      'add-port',
      x,
      `${x}-${y}`,
      '--',
      'set',
      'interface',
      `${x}-${y}`,
      'type=patch',
      `options:peer=${y}-${x}`,
    );
}

interface Net {
  one: PrivateOvs;
  two: PrivateOvs;
  guest: string;
  controller: ControllerProcess;
  agents: Helper;
  stream: Helper;
}

async function build(): Promise<Net> {
  const dir = mkdtempSync(join(tmpdir(), 'fairway-islands-'));
  ends.push(() => rmSync(dir, { recursive: true, force: true }));
  const [router, guest, client] = [namespace('r'), namespace('g'), namespace('c')];
  inside(router, 'sysctl', '-qw', 'net.ipv4.ip_forward=1');
  ip(router, 'addr', 'add', `${CONTROL}/24`, 'dev', 'lo');
  const one = await island('one', router, ['core1', 'hv1']);
  const two = await island('two', router, ['hv2']);
  join2(one, 'core1', 'hv1');
  join2(one, 'hv1', 'br-phy');
  join2(two, 'hv2', 'br-phy');

  one.plug('core1', 'client', client, 'eth0', CLIENT.mac);
  ip(client, 'addr', 'add', `${CLIENT.ip}/24`, 'dev', 'eth0');
  // The stand-in has one address, and a card at each place. Which one it sends by is a matter of one route.
  one.plug('hv1', 'hv1-g1', guest, 'eth1', GUEST.mac);
  two.plug('hv2', 'hv2-g1', guest, 'eth2', GUEST.mac);
  inside(guest, 'sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=0');
  inside(guest, 'sysctl', '-qw', 'net.ipv4.conf.all.arp_ignore=1');
  ip(guest, 'addr', 'add', `${GUEST.ip}/24`, 'dev', 'eth1', 'noprefixroute');
  ip(guest, 'addr', 'add', `${GUEST.ip}/24`, 'dev', 'eth2', 'noprefixroute');
  ip(guest, 'link', 'set', 'eth2', 'arp', 'off');
  ip(guest, 'route', 'add', '10.0.0.0/24', 'dev', 'eth1', 'src', GUEST.ip);

  const folder = join(dir, 'controller');
  mkdirSync(folder);
  const entry = (name: Bridge, ovs: PrivateOvs, more: object = {}) => ({
    [DPID[name]]: { name, ovsdb: ovs.remote, ...more },
  });
  const config = {
    openflow: { host: CONTROL, port: 6653 },
    http: { host: CONTROL, port: 8653 },
    policy: { store: 'file', file: join(folder, 'policy.yaml') },
    switches: {
      ...entry('core1', one),
      ...entry('hv1', one, { tunnelAddress: PHY.one[0], ports: { 'hv1-br-phy': { ipNetwork: true } } }),
      ...entry('hv2', two, { tunnelAddress: PHY.two[0], ports: { 'hv2-br-phy': { ipNetwork: true } } }),
    },
    journal: join(folder, 'journal'),
  };
  writeFileSync(join(folder, 'config.yaml'), stringify(config));
  const policy = { ...DEFAULT_POLICY, finish: { ...DEFAULT_POLICY.finish, silenceMs: 1000 } };
  writeFileSync(join(folder, 'policy.yaml'), stringify(policy));
  const relay = (from: string) => startHelper(dir, router, 'sim/lab/relay.js', [from, `tcp:${CONTROL}:8653`], ends);
  const url = await openDoor(join(dir, 'http.sock'), relay, ends);
  const controller = ControllerProcess.inside(router, 'one', folder, url, TOKEN);
  ends.push(() => controller.stop());
  await controller.start();

  const agent = (host: 'hv1' | 'hv2') => ({
    ...{ host, controller: `ws://${CONTROL}:8653`, driver: 'emulated', dpid: DPID[host] },
    ...{ migrationIp: host === 'hv1' ? '10.0.0.1' : '10.1.0.2', migrationPort: host },
    guests: host === 'hv1' ? [{ name: 'g1', mac: GUEST.mac, ip: GUEST.ip, memoryMiB: 64, accel: 'emulated' }] : [],
  });
  const orders = JSON.stringify({ token: TOKEN, agents: [agent('hv1'), agent('hv2')] });
  const agents = startHelper(dir, router, 'test/children/agents.js', [orders], ends);
  await agents.next();
  await startHelper(dir, guest, 'test/children/stream.js', ['echo', GUEST.ip, String(PORT)], ends).next();
  const stream = startHelper(dir, client, 'test/children/stream.js', ['send', GUEST.ip, String(PORT), '200'], ends);
  await stream.next();
  return { one, two, guest, controller, agents, stream };
}

const seesAll = (c: ControllerProcess) =>
  waitFor('the controller to see both fabrics', async () => {
    const s = await c.client.status().catch(() => undefined);
    const isWhole =
      s?.topology.switches.filter((x) => x.connected).length === 3 &&
      s.topology.links.length === 2 &&
      s.topology.agents.filter((a) => a.connected).length === 2 &&
      s.topology.locations.some((l) => l.mac === CLIENT.mac);
    return isWhole || undefined;
  });
const tunnels = (net: Net) =>
  [net.one, net.two].map((ovs) => ovs.vsctl('--columns=name', '--bare', 'find', 'interface', 'type=vxlan').trim());
/** Flows for guests away from home, by the feature in our cookies. */
const awayFlows = (net: Net) =>
  (
    [
      [net.one, 'core1'],
      [net.one, 'hv1'],
      [net.two, 'hv2'],
    ] as const
  ).flatMap(([ovs, bridge]) =>
    ovs
      .ofctl('dump-flows', bridge)
      .split('\n')
      .filter((l) => /cookie=0xfa1c[0-9a-f]{2}0a/.test(l)),
  );

real(
  named(
    'a guest keeps its address in another fabric for as long as it is there, and all of it goes when it comes home',
  ),
  async () => {
    const net = await build();
    const { controller, agents, stream, guest } = net;
    const order = (o: AgentOrder) => agents.ask<AgentsReport>(o);
    const carried = (since = 0, until = 0) => stream.ask<StreamReport>({ since, until });
    const goesOn = async (packets: number) => {
      const { received } = await carried();
      await waitFor('more of the stream', async () => (await carried()).received > received + packets || undefined);
    };
    await seesAll(controller);
    await waitFor('the client to reach the guest', async () => ((await carried()).received > 20 ? true : undefined));

    /** A migration whose guest is turned over when the network says it is ready. */
    async function move(destination: 'hv1' | 'hv2'): Promise<void> {
      const [old, now] = destination === 'hv2' ? ['eth1', 'eth2'] : ['eth2', 'eth1'];
      await order({ order: 'hold', guest: 'g1', do: 'continueSwitchover' });
      ip(guest, 'link', 'set', now, 'up');
      const { migrations } = await controller.client.migrate({
        moves: [{ guest: 'g1', destination }],
        technique: 'pre-copy',
      });
      const id = migrations[0]?.id ?? '';
      let last = '';
      const isReady = async () => {
        const m = (await controller.client.status()).migrations.find((x) => x.id === id);
        if (m?.state === 'failed') throw new Error(`the migration failed: ${m.note}`);
        last = `${m?.state}, ${m?.note}: ${m?.reasons.at(-1)?.text}`;
        return m?.reasons.some((r) => r.rule === 'reroute.confirmed') || undefined;
      };
      await waitFor('the switches to confirm the new place', isReady).catch((error) =>
        Promise.reject(new Error(`${error}; the migration is ${last}`)),
      );
      ip(guest, 'link', 'set', now, 'arp', 'on');
      ip(guest, 'route', 'replace', '10.0.0.0/24', 'dev', now, 'src', GUEST.ip);
      ip(guest, 'link', 'set', old, 'down');
      await order({ order: 'release', guest: 'g1', do: 'continueSwitchover' });
      expect((await allEnd(controller)).find((m) => m.id === id)).toMatchObject({ state: 'done', note: null });
    }

    await move('hv2');
    const record = (await controller.client.status()).migrations[0];
    // By the port that leads to the IP network; at the other end the host itself is behind it.
    expect(record?.path).toEqual([`${DPID.hv1}:${net.one.vsctl('get', 'interface', 'hv1-br-phy', 'ofport')}`]);
    const recorded = record?.reasons.map((r) => r.rule);
    expect(recorded).toEqual(expect.arrayContaining(['tunnel.ready', 'overlay.begins']));
    // What carries the hosts' migration address is taken for what is under the tunnel.
    expect(recorded?.some((r) => r === 'tunnel.mtu' || r === 'tunnel.fits')).toBe(true);
    expect(tunnels(net)).toEqual([`fwt${DPID.hv2.slice(-12)}`, `fwt${DPID.hv1.slice(-12)}`]);
    const since = (await carried()).sent;
    // Its peers ask for it anew, and it for them, and full-size frames go through.
    const client = `fwis${process.pid}c`;
    ip(client, 'neigh', 'flush', 'all');
    ip(guest, 'neigh', 'flush', 'all');
    inside(client, 'ping', '-c', '2', '-i', '0.2', '-w', '30', '-s', '1472', '-M', 'do', GUEST.ip);
    await controller.kill9();
    // Without it, and with it again.
    await goesOn(300);
    await controller.start();
    await seesAll(controller);
    await goesOn(400);
    await allComeBack(carried, since);
    expect(tunnels(net)).toEqual([`fwt${DPID.hv2.slice(-12)}`, `fwt${DPID.hv1.slice(-12)}`]);
    expect(awayFlows(net).length).toBeGreaterThan(5);

    // Somebody deletes the tunnel's port at one end, and later at the other: both are seen, told and put back.
    const standing = async () => (await controller.client.status()).topology.away?.[0]?.tunnel;
    for (const spoil of [
      () => net.one.vsctl('del-port', 'hv1', `fwt${DPID.hv2.slice(-12)}`),
      () => net.two.vsctl('del-port', 'hv2', `fwt${DPID.hv1.slice(-12)}`),
    ]) {
      const before = await waitFor('the tunnel to work', async () => {
        const now = await standing();
        return now?.state === 'works' ? now : undefined;
      });
      expect(before).toMatchObject({ state: 'works', why: null });
      spoil();
      let last: Awaited<ReturnType<typeof standing>>;
      await waitFor('the tunnel to be put back', async () => {
        last = await standing();
        return (last?.state === 'works' && last.sinceMs > before.sinceMs) || undefined;
      }).catch((error) => Promise.reject(new Error(`${error}; the tunnel is ${JSON.stringify(last)}`)));
      await goesOn(100);
    }
    const rules = new Set<string>();
    const told = new AbortController();
    await controller.client.follow(
      ['decisions'],
      (e) => {
        if ('topic' in e && e.topic === 'decisions') for (const d of e.data.decisions) rules.add(d.reason.rule);
        told.abort();
      },
      told.signal,
    );
    expect([...rules]).toEqual(expect.arrayContaining(['overlay.broken', 'overlay.carries']));

    await move('hv1');
    const home = (await carried()).sent;
    await waitFor('tunnel and flows to go', () =>
      tunnels(net).join('') + awayFlows(net).join('') === '' ? true : undefined,
    );
    await goesOn(200);
    await allComeBack(carried, home);
  },
);
