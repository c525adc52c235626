/** What a switch's database says of its ports, read from an in-process peer that answers as ovsdb-server does. */
import { createServer, type Server, type Socket } from 'node:net';
import type { Log } from '../../../contracts/log.ts';
import type { OvsPort } from '../../../controller/core/events.ts';
import { JsonFramer, OvsdbClient } from '../../../controller/io/ovsdb.ts';
import { OvsPortWatch } from '../../../controller/io/ovsPorts.ts';
import { ManualClock, settle, until } from './support.ts';

const DPID = '00000000000000a1';
const id = (n: string) => ['uuid', n];
const map = (o: Record<string, string> = {}) => ['map', Object.entries(o)];
const none = ['set', []];
type Request = { method: string; params: unknown[]; id: unknown };

/** Tables of a switch with two bridges, of which the second is another datapath. */
const tables = () => ({
  Bridge: [
    { datapath_id: DPID, ports: ['set', [id('p1'), id('p2')]] },
    { datapath_id: '00000000000000b2', ports: id('p3') },
  ],
  Port: [
    { _uuid: id('p1'), interfaces: id('i1'), qos: none },
    { _uuid: id('p2'), interfaces: ['set', [id('i2a'), id('i2b')]], qos: id('q1') },
    { _uuid: id('p3'), interfaces: id('i3'), qos: none },
  ],
  Interface: [
    { _uuid: id('i1'), name: 'eth0', link_speed: 10e9, ingress_policing_rate: 5000, external_ids: map() },
    { _uuid: id('i2a'), name: 'eth1', link_speed: none, ingress_policing_rate: 0, external_ids: map() },
    {
      ...{ _uuid: id('i2b'), name: 'eth2', link_speed: 1e9, ingress_policing_rate: 0 },
      external_ids: map({ 'fairway-capacity': '200 Mbit/s', other: 'x' }),
    },
    { _uuid: id('i3'), name: 'far', link_speed: 1e9, ingress_policing_rate: 0, external_ids: map() },
  ],
  QoS: [{ _uuid: id('q1'), other_config: map({ 'max-rate': '300000000' }), external_ids: map() }],
});

let server: Server;
let sockets: Socket[] = [];
let rows: Record<string, Record<string, unknown>[]>;
let monitors: unknown[] = [];
let reads = 0;
let canMonitor = true;
const clock = new ManualClock();
const logged: { event: string; fields: Record<string, unknown> | undefined }[] = [];
const log: Log = (_level, event, fields) => logged.push({ event, fields });
let client: OvsdbClient;
let watch: OvsPortWatch;
let told: ReadonlyMap<string, OvsPort>[] = [];
const answerTo = (r: Request) => {
  if (r.method === 'list_dbs') return ['Open_vSwitch'];
  if (r.method === 'monitor') {
    monitors.push(r.params[1]);
    return {};
  }
  reads++;
  return (r.params.slice(1) as { table: string }[]).map((o) => ({ rows: rows[o.table] }));
};

beforeEach(async () => {
  [sockets, monitors, told, reads, canMonitor] = [[], [], [], 0, true];
  logged.length = 0;
  rows = tables();
  server = createServer((socket) => {
    sockets.push(socket);
    const framer = new JsonFramer();
    socket.on('error', () => undefined);
    socket.on('data', (d: Buffer) => {
      for (const m of framer.push(d) as Request[]) {
        if (m.id === null || m.method === undefined) continue;
        const isRefused = m.method === 'monitor' && !canMonitor;
        const reply = isRefused ? { result: null, error: 'unknown method' } : { result: answerTo(m), error: null };
        socket.write(JSON.stringify({ id: m.id, ...reply }));
      }
    });
  });
  await new Promise<void>((r) => server.listen(0, '127.0.0.1', r));
  const { port } = server.address() as { port: number };
  client = new OvsdbClient({ remote: `tcp:127.0.0.1:${port}`, clock, log, minBackoffMs: 100 });
});
afterEach(async () => {
  watch.close();
  client.close();
  expect(clock.timers).toBe(0);
  for (const s of sockets) s.destroy();
  await new Promise((r) => server.close(r));
});

const start = () => {
  watch = new OvsPortWatch(client, DPID, log, (ports) => told.push(ports));
};
/** Lets the gathered reading begin, and come back. */
async function readsMore(): Promise<void> {
  const before = reads;
  await until(() => {
    clock.advance(100);
    return reads > before;
  }, 'the database is read');
  // Answers come in order: with this one, that to the reading has come.
  await client.listDbs();
  await settle(20);
}
const notify = (monitor = `fairway-ports ${DPID}`) =>
  sockets.at(-1)?.write(JSON.stringify({ method: 'update', params: [monitor, {}], id: null }));

test('ports of this datapath alone, with what each says', async () => {
  start();
  await readsMore();
  expect(told).toEqual([
    new Map([
      ['eth0', { speedBps: 10e9, maxInBps: 5e6 }],
      ['eth1', { maxOutBps: 300e6 }],
      ['eth2', { capacityBps: 200e6, speedBps: 1e9, maxOutBps: 300e6 }],
    ]),
  ]);
});

test('our own QoS is no limit of others, and nonsense is told of once with its cure', async () => {
  (rows.QoS?.[0] as Record<string, unknown>).external_ids = map({ fairway: '1' });
  (rows.Interface?.[2] as Record<string, unknown>).external_ids = map({ 'fairway-capacity': 'fast' });
  start();
  await readsMore();
  expect(told[0]?.get('eth1')).toEqual({});
  expect(told[0]?.get('eth2')).toEqual({ speedBps: 1e9 });
  notify();
  await readsMore();
  const complaints = logged.filter((l) => l.event === 'port.badCapacity');
  expect(complaints).toEqual([
    { event: 'port.badCapacity', fields: expect.objectContaining({ port: 'eth2', text: 'fast' }) },
  ]);
  expect(complaints[0]?.fields?.advice).toContain('ovs-vsctl set interface eth2 external_ids:fairway-capacity=');
});

test('a change is told of, one of something else is not, and a core that began anew is told again', async () => {
  start();
  await readsMore();
  notify();
  await readsMore();
  expect(told).toHaveLength(1);
  (rows.Interface?.[0] as Record<string, unknown>).link_speed = 1e9;
  notify('somebody else');
  notify();
  await readsMore();
  expect(told).toHaveLength(2);
  expect(told[1]?.get('eth0')).toEqual({ speedBps: 1e9, maxInBps: 5e6 });
  watch.tellAgain();
  expect(told[2]).toBe(told[1]);
});

test('after the connection was lost it watches again', async () => {
  start();
  await readsMore();
  for (const s of sockets) s.destroy();
  (rows.Interface?.[0] as Record<string, unknown>).link_speed = 2e9;
  await readsMore();
  expect(monitors).toHaveLength(2);
  expect(told.at(-1)?.get('eth0')).toMatchObject({ speedBps: 2e9 });
});

test('a database that cannot be watched says nothing', async () => {
  canMonitor = false;
  start();
  await until(() => logged.some((l) => l.event === 'ovsdb.notWatched'), 'it gave up');
  expect([told, reads]).toEqual([[], 0]);
});
