/** Tunnel ports through a real OVSDB and ovs-vswitchd in a namespace of their own: every kind, read back, changed, taken down. */
import { systemClock } from '../../contracts/clock.ts';
import { silentLog } from '../../contracts/log.ts';
import type { TunnelPort } from '../../controller/core/events.ts';
import { TUNNEL_KINDS } from '../../controller/core/events.ts';
import { tunnelName } from '../../controller/core/tunnels.ts';
import { OvsdbClient } from '../../controller/io/ovsdb.ts';
import { TunnelManager } from '../../controller/io/tunnels.ts';
import { gate } from './gate.ts';
import { PrivateOvs, whyNoOvs } from './privateOvs.ts';

const { reason, real, named } = gate(whyNoOvs());
jest.setTimeout(300_000);

const DPID = '00000000000000a1';
const NAME = tunnelName('00000000000000b2');
const wanted = (more: Partial<TunnelPort> = {}): TunnelPort => ({
  dpid: DPID,
  name: NAME,
  kind: 'vxlan',
  localAddress: '192.0.2.1',
  remoteAddress: '192.0.2.2',
  ...more,
});

let ovs: PrivateOvs;
let client: OvsdbClient;
let tunnels: TunnelManager;

beforeAll(async () => {
  if (reason !== undefined) return;
  ovs = new PrivateOvs('t');
  await ovs.start();
  ovs.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev', `other-config:datapath-id=${DPID}`);
  ovs.inside('ip', 'link', 'set', 'br0', 'up');
  ovs.inside('ip', 'addr', 'add', '192.0.2.1/24', 'dev', 'br0');
  client = new OvsdbClient({ remote: ovs.remote, clock: systemClock(), log: silentLog, minBackoffMs: 50 });
  tunnels = new TunnelManager(client, DPID, silentLog);
});
afterAll(async () => {
  client?.close();
  await ovs?.stop();
});
afterEach(async () => {
  if (reason === undefined) await tunnels.keepOnly(new Set());
});

const inDatabase = (column: string, name = NAME) => ovs.vsctl('get', 'interface', name, column).trim();
const nextCfg = () => ovs.vsctl('get', 'open_vswitch', '.', 'next_cfg').trim();

real.each(TUNNEL_KINDS)(named('a port of kind %s is made, obeyed, and asking again writes nothing'), async (kind) => {
  const done = await tunnels.apply(wanted({ kind }), ['br0', 'no-such-port']);
  expect(done).toEqual({ note: '', mtus: { br0: 1500 } });
  expect(inDatabase('type')).toBe(kind);
  expect(inDatabase('options:remote_ip')).toBe('"192.0.2.2"');
  expect(Number(inDatabase('ofport'))).toBeGreaterThan(0);
  const before = nextCfg();
  expect(await tunnels.apply(wanted({ kind }), [])).toEqual({ note: '', mtus: {} });
  expect(nextCfg()).toBe(before);
  expect(await tunnels.listOurs()).toEqual([NAME]);
  expect(await tunnels.remove(NAME)).toEqual({ note: '', mtus: {} });
  expect(ovs.vsctl('list-ports', 'br0').trim()).toBe('');
  expect(ovs.vsctl('--columns=name', '--bare', 'find', 'interface', `name=${NAME}`).trim()).toBe('');
});

real(named('a port whose far end is another now is changed in place'), async () => {
  await tunnels.apply(wanted(), []);
  const number = inDatabase('ofport');
  await tunnels.apply(wanted({ remoteAddress: '192.0.2.3', udpPort: 4790 }), []);
  expect(inDatabase('options:remote_ip')).toBe('"192.0.2.3"');
  expect(inDatabase('options:dst_port')).toBe('"4790"');
  expect(inDatabase('ofport')).toBe(number);
});

real(named('a bridge that forwards by learning floods nothing into it'), async () => {
  await tunnels.apply(wanted(), []);
  ovs.vsctl('add-port', 'br0', 'tap0', '--', 'set', 'interface', 'tap0', 'type=internal');
  const trace = ovs.inside(
    'ovs-appctl',
    '-t',
    `${ovs.dir}/switchd.ctl`,
    'ofproto/trace',
    'br0',
    'in_port=tap0,dl_src=52:54:00:00:00:01,dl_dst=ff:ff:ff:ff:ff:ff',
  );
  expect(trace).toContain('NORMAL');
  expect(trace.split('Datapath actions:')[1]).not.toMatch(/tnl_push|tunnel/);
  ovs.vsctl('del-port', 'br0', 'tap0');
});

real(named('a port of that name that is not ours is left as it is'), async () => {
  ovs.vsctl('add-port', 'br0', NAME, '--', 'set', 'interface', NAME, 'type=internal');
  const { note } = await tunnels.apply(wanted(), []);
  expect(note).toContain(`ovs-vsctl del-port ${NAME}`);
  expect(await tunnels.keepOnly(new Set())).toBe(0);
  await tunnels.remove(NAME);
  expect(inDatabase('type')).toBe('internal');
  ovs.vsctl('del-port', 'br0', NAME);
});

real(named('what the switch has against a port is told'), async () => {
  const other = new TunnelManager(client, '00000000000000ff', silentLog);
  expect((await other.apply(wanted(), [])).note).toContain('no bridge with datapath id 00000000000000ff');
  const bad = await tunnels.apply(wanted({ remoteAddress: 'nowhere.invalid' }), []);
  expect(bad.note).toContain('cannot make a vxlan port');
});

real(named('ports outlive the daemons, and a new life keeps only those it wants'), async () => {
  await tunnels.apply(wanted(), []);
  await tunnels.apply(wanted({ name: tunnelName('00000000000000c3'), remoteAddress: '192.0.2.3' }), []);
  await ovs.stopSwitch();
  await ovs.startSwitch();
  expect(await new TunnelManager(client, DPID, silentLog).keepOnly(new Set([NAME]))).toBe(1);
  expect(await tunnels.listOurs()).toEqual([NAME]);
  expect(await tunnels.apply(wanted(), [])).toMatchObject({ note: '' });
  expect(Number(inDatabase('ofport'))).toBeGreaterThan(0);
});
