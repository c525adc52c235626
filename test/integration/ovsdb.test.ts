/** OVSDB client and queues against a real ovsdb-server and ovs-vswitchd in a namespace of their own. */
import { systemClock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import { silentLog } from '../../contracts/log.ts';
import type { OvsPort } from '../../controller/core/events.ts';
import { OvsdbClient } from '../../controller/io/ovsdb.ts';
import { OvsPortWatch } from '../../controller/io/ovsPorts.ts';
import { type PortQos, QosManager } from '../../controller/io/qos.ts';
import { gate } from './gate.ts';
import { PrivateOvs, until, whyNoOvs } from './privateOvs.ts';

const { reason, real, named } = gate(whyNoOvs());
jest.setTimeout(300_000);

const MBPS = 1e6;
const both = (migration: number): PortQos => ({
  maxBps: 200 * MBPS,
  queues: [
    { id: 0, minBps: (200 - migration) * MBPS, maxBps: 200 * MBPS, priority: 1 },
    { id: 1, minBps: migration * MBPS, maxBps: 200 * MBPS, priority: 1 },
  ],
});

let ovs: PrivateOvs;
let client: OvsdbClient;
let qos: QosManager;
const port = `fwq${process.pid % 100_000}`;

beforeAll(async () => {
  if (reason !== undefined) return;
  ovs = new PrivateOvs('q');
  await ovs.start();
  ovs.inside('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', `${port}p`);
  ovs.inside('ip', 'link', 'set', port, 'up');
  ovs.inside('ip', 'link', 'set', `${port}p`, 'up');
  ovs.vsctl('add-br', 'br0', '--', 'set', 'bridge', 'br0', 'datapath_type=netdev');
  ovs.vsctl(
    'add-port',
    'br0',
    port,
    '--',
    'add-port',
    'br0',
    'other',
    '--',
    'set',
    'interface',
    'other',
    'type=internal',
  );
  client = new OvsdbClient({ remote: ovs.remote, clock: systemClock(), log: silentLog, minBackoffMs: 50 });
  qos = new QosManager(client, silentLog);
});

afterAll(async () => {
  client?.close();
  await ovs?.stop();
});

/** Classes of the port as tc tells them: "1:2" → "rate 100Mbit ceil 200Mbit". */
function classes(): Map<string, string> {
  const text = ovs.inside('tc', '-s', 'class', 'show', 'dev', port);
  return new Map(
    [...text.matchAll(/class htb (1:\w+) .*?(rate \S+ ceil \S+)/g)].map((m) => [m[1] as string, m[2] as string]),
  );
}
const filters = () => ovs.inside('tc', 'filter', 'show', 'dev', port, 'parent', '1:');

real(named('lists databases and reads the schema'), async () => {
  expect(await client.listDbs()).toContain('Open_vSwitch');
  const schema = await client.getSchema('Open_vSwitch');
  expect(Object.keys(schema.tables)).toEqual(expect.arrayContaining(['Port', 'QoS', 'Queue']));
});

real(named('an operation that the server refuses rejects with its place and reason, and changes nothing'), async () => {
  const e = await client
    .transact('Open_vSwitch', [
      { op: 'insert', table: 'QoS', row: { type: 'linux-htb' } },
      { op: 'insert', table: 'Queue', row: { dscp: 64 } },
    ])
    .catch((x) => x);
  expect(e).toBeInstanceOf(FairwayError);
  expect(e.code).toBe('OVSDB_REFUSED');
  expect(e.message).toContain('operation 1 (insert Queue)');
  expect(ovs.vsctl('--columns=_uuid', 'list', 'QoS')).toBe('');
});

real(named('queues come, change their rates in place and go, and the filter on the port survives'), async () => {
  expect(await qos.applyPort(port, both(100))).toEqual({ applied: true, changed: true });
  expect(classes().get('1:1')).toBe('rate 100Mbit ceil 200Mbit');
  expect(classes().get('1:2')).toBe('rate 100Mbit ceil 200Mbit');
  expect(await qos.applyPort(port, both(100))).toEqual({ applied: true, changed: false });

  ovs.inside(...`tc filter add dev ${port} parent 1: protocol ip u32 match ip tos 0x28 0xfc flowid 1:2`.split(' '));
  const filter = filters();
  expect(filter).toContain('flowid 1:2');
  const qdisc = ovs.inside('tc', 'qdisc', 'show', 'dev', port);
  const rows = ovs.vsctl('--columns=_uuid', 'list', 'Queue');

  expect(await qos.applyPort(port, both(40))).toEqual({ applied: true, changed: true });
  expect(classes().get('1:1')).toBe('rate 160Mbit ceil 200Mbit');
  expect(classes().get('1:2')).toBe('rate 40Mbit ceil 200Mbit');
  expect(filters()).toBe(filter);
  expect(ovs.inside('tc', 'qdisc', 'show', 'dev', port)).toBe(qdisc);
  expect(ovs.vsctl('--columns=_uuid', 'list', 'Queue')).toBe(rows);

  // A queue more, then one less: the others stay.
  const three = both(40);
  three.queues.push({ id: 2, minBps: 10 * MBPS, maxBps: 50 * MBPS, priority: 2 });
  expect(await qos.applyPort(port, three)).toEqual({ applied: true, changed: true });
  expect(classes().get('1:3')).toBe('rate 10Mbit ceil 50Mbit');
  expect(filters()).toBe(filter);
  expect(await qos.listOurs()).toEqual({ ports: [port], qos: 1, queues: 3 });
  expect(await qos.applyPort(port, both(40))).toEqual({ applied: true, changed: true });
  expect(classes().has('1:3')).toBe(false);
  expect(filters()).toBe(filter);
  expect(await qos.listOurs()).toEqual({ ports: [port], qos: 1, queues: 2 });

  await qos.clearPort(port);
  expect(await qos.listOurs()).toEqual({ ports: [], qos: 0, queues: 0 });
  expect(ovs.inside('tc', 'qdisc', 'show', 'dev', port)).not.toContain('htb');
  expect(ovs.vsctl('get', 'port', port, 'qos')).toBe('[]');
});

real(named('a foreign QoS is left alone, an unknown port is said to be one, nonsense is refused'), async () => {
  ovs.vsctl(
    'set',
    'port',
    'other',
    'qos=@q',
    '--',
    '--id=@q',
    'create',
    'qos',
    'type=linux-htb',
    'other-config:max-rate=5000000',
  );
  const before = ovs.vsctl('list', 'QoS');
  expect(await qos.applyPort('other', both(100))).toMatchObject({ applied: false, cause: 'foreign-qos' });
  await qos.clearPort('other');
  expect(ovs.vsctl('list', 'QoS')).toBe(before);
  expect(await qos.applyPort('nosuch', both(100))).toMatchObject({ applied: false, cause: 'unknown-port' });
  await expect(qos.applyPort(port, { maxBps: 1e6, queues: [] })).rejects.toMatchObject({ code: 'QOS_BAD' });
  ovs.vsctl('clear', 'port', 'other', 'qos', '--', '--all', 'destroy', 'QoS');
});

real(named('what limits a port is told at first and at each change, our own QoS is not'), async () => {
  const dpid = ovs.vsctl('get', 'bridge', 'br0', 'datapath_id').trim().replaceAll('"', '');
  const told: ReadonlyMap<string, OvsPort>[] = [];
  const watch = new OvsPortWatch(client, dpid, silentLog, (ports) => told.push(ports));
  const last = () => told.at(-1)?.get(port);
  try {
    await until(() => last() !== undefined, 'the ports are told');
    // A virtual wire calls itself 10 Gbit/s.
    expect(last()).toEqual({ speedBps: 10e9 });
    expect([...(told[0]?.keys() ?? [])].sort()).toEqual(['br0', port, 'other'].sort());
    ovs.vsctl('set', 'interface', port, 'ingress_policing_rate=50000', 'external_ids:fairway-capacity="200 Mbit/s"');
    await until(() => last()?.maxInBps !== undefined, 'policing is told');
    expect(last()).toEqual({ speedBps: 10e9, maxInBps: 50e6, capacityBps: 200e6 });
    ovs.vsctl(
      'set',
      'port',
      port,
      'qos=@q',
      '--',
      '--id=@q',
      'create',
      'qos',
      'type=linux-noop',
      'other-config:max-rate=7000000',
    );
    await until(() => last()?.maxOutBps !== undefined, 'the QoS of somebody is told');
    ovs.vsctl('clear', 'port', port, 'qos', '--', '--all', 'destroy', 'QoS');
    ovs.vsctl('set', 'interface', port, 'ingress_policing_rate=0', '--', 'clear', 'interface', port, 'external_ids');
    await until(() => Object.keys(last() ?? {}).length === 1, 'nothing but the speed is left');
    await qos.applyPort(port, both(100));
    await qos.clearPort(port);
    expect(last()).toEqual({ speedBps: 10e9 });
  } finally {
    watch.close();
  }
});

real(named('calls for one port at the same time end in the state of the last'), async () => {
  const outcomes = await Promise.all([10, 20, 30, 40, 50].map((m) => qos.applyPort(port, both(m))));
  expect(outcomes.every((o) => o.applied)).toBe(true);
  expect(classes().get('1:2')).toBe('rate 50Mbit ceil 200Mbit');
  expect(await qos.listOurs()).toEqual({ ports: [port], qos: 1, queues: 2 });
});

real(named('two writers do not lose each other: one of them reads again'), async () => {
  const second = new OvsdbClient({ remote: ovs.remote, clock: systemClock(), log: silentLog });
  const other = new QosManager(second, silentLog);
  await qos.clearAll();
  const outcomes = await Promise.all([qos.applyPort(port, both(60)), other.applyPort(port, both(60))]);
  expect(outcomes.every((o) => o.applied)).toBe(true);
  expect(await qos.listOurs()).toEqual({ ports: [port], qos: 1, queues: 2 });
  second.close();
});

real(
  named('a port asked for while everything of an earlier run is being cleared has its queues afterwards'),
  async () => {
    await qos.applyPort(port, both(60));
    const clearing = qos.clearAll();
    const applied = qos.applyPort(port, both(90));
    expect(await clearing).toBe(3);
    expect(await applied).toEqual({ applied: true, changed: true });
    expect(classes().get('1:2')).toBe('rate 90Mbit ceil 200Mbit');
  },
);

real(named('rows left by an earlier run, also of ports that are gone, are removed'), async () => {
  await qos.applyPort('other', both(30));
  ovs.vsctl('del-port', 'br0', 'other');
  ovs.vsctl('create', 'Queue', 'external_ids:fairway=1', `external_ids:port=${port}`);
  ovs.vsctl('create', 'Queue', 'external_ids:someone=else');
  // The stray queue of our own port goes with the next change of that port.
  await qos.applyPort(port, both(20));
  expect(await qos.listOurs()).toEqual({ ports: [port], qos: 2, queues: 4 });
  expect(await qos.clearAll()).toBe(6);
  expect(await qos.listOurs()).toEqual({ ports: [], qos: 0, queues: 0 });
  expect(ovs.vsctl('--columns=external_ids', 'list', 'Queue')).toContain('someone=else');
  ovs.vsctl('--all', 'destroy', 'Queue');
  expect(await qos.clearAll()).toBe(0);
});

real(named('without ovs-vswitchd the outcome is unconfirmed; once it is back the same call is confirmed'), async () => {
  await ovs.stopSwitch();
  const hasty = new QosManager(client, silentLog, 200);
  expect(await hasty.applyPort(port, both(70))).toMatchObject({ applied: false, cause: 'unconfirmed' });
  await ovs.startSwitch();
  expect(await qos.applyPort(port, both(70))).toEqual({ applied: true, changed: false });
  expect(classes().get('1:2')).toBe('rate 70Mbit ceil 200Mbit');
});

real(named('the client finds a restarted server again; what was open says that the outcome is unknown'), async () => {
  const connected = jest.fn();
  const unsubscribe = client.onConnected(connected);
  const open = client
    .transact('Open_vSwitch', [
      { op: 'wait', table: 'Port', where: [['name', '==', 'never']], columns: ['name'], until: '!=', rows: [] },
    ])
    .catch((e) => e);
  await ovs.stopDb();
  expect(await open).toMatchObject({ code: 'OVSDB_LOST', labels: ['retryable', 'outcomeUnknown'] });
  await until(() => !client.connected, 'the client noticed');
  const away = await client.transact('Open_vSwitch', [], 100).catch((e) => e);
  expect(away).toMatchObject({ code: 'OVSDB_AWAY', labels: ['retryable'] });
  await ovs.startDb();
  expect(await qos.applyPort(port, both(80))).toEqual({ applied: true, changed: true });
  expect(classes().get('1:2')).toBe('rate 80Mbit ceil 200Mbit');
  expect(connected).toHaveBeenCalledTimes(1);
  unsubscribe();
});
