/** The emulated OVSDB, used by the controller's own queue manager, and its refusals. */
import { systemClock } from '../../../contracts/clock.ts';
import { silentLog } from '../../../contracts/log.ts';
import { OvsdbClient } from '../../../controller/io/ovsdb.ts';
import { QosManager } from '../../../controller/io/qos.ts';
import { type Operation, SwitchDatabase } from '../../../sim/ovsdb/database.ts';
import { OvsdbServer } from '../../../sim/ovsdb/server.ts';

const MBPS = 1e6;
const queue = (id: number, min: number, max: number, priority: number) => ({
  id,
  minBps: min * MBPS,
  maxBps: max * MBPS,
  priority,
});

describe('queues set by the controller', () => {
  let server: OvsdbServer;
  let client: OvsdbClient;
  let manager: QosManager;
  let changes: number;

  beforeEach(async () => {
    changes = 0;
    server = new OvsdbServer({ onChange: () => changes++ });
    server.database.addPort('uplink');
    client = new OvsdbClient({ remote: await server.listen(), clock: systemClock(), log: silentLog });
    manager = new QosManager(client, silentLog);
  });
  afterEach(async () => {
    await client.close();
    await server.close();
  });

  test('appear on the port, follow changes, and go', async () => {
    expect(server.database.queuesOf('uplink')).toBeUndefined();
    const first = { maxBps: 200 * MBPS, queues: [queue(0, 100, 200, 0), queue(1, 60, 200, 1)] };
    expect(await manager.applyPort('uplink', first)).toEqual({ applied: true, changed: true });
    expect(server.database.queuesOf('uplink')).toEqual({
      maxBps: 200 * MBPS,
      queues: new Map([
        [0, { minBps: 100 * MBPS, maxBps: 200 * MBPS, priority: 0 }],
        [1, { minBps: 60 * MBPS, maxBps: 200 * MBPS, priority: 1 }],
      ]),
    });
    const before = changes;
    expect(await manager.applyPort('uplink', first)).toEqual({ applied: true, changed: false });
    expect(changes).toBe(before);

    const next = { maxBps: 200 * MBPS, queues: [queue(0, 140, 200, 0), queue(2, 40, 150, 2)] };
    expect(await manager.applyPort('uplink', next)).toEqual({ applied: true, changed: true });
    expect([...(server.database.queuesOf('uplink')?.queues.keys() ?? [])]).toEqual([0, 2]);
    expect(server.database.count('Queue')).toBe(2);
    expect(await manager.listOurs()).toEqual({ ports: ['uplink'], qos: 1, queues: 2 });

    await manager.clearPort('uplink');
    expect(server.database.queuesOf('uplink')).toBeUndefined();
    expect([server.database.count('QoS'), server.database.count('Queue')]).toEqual([0, 0]);
  });

  test('a port that is not there, and one that went with its queues', async () => {
    const wanted = { maxBps: MBPS, queues: [queue(0, 1, 1, 0)] };
    expect(await manager.applyPort('nowhere', wanted)).toMatchObject({ applied: false, cause: 'unknown-port' });
    await manager.applyPort('uplink', wanted);
    server.database.removePort('uplink');
    expect(server.database.queuesOf('uplink')).toBeUndefined();
    expect(await manager.clearAll()).toBe(2);
  });
});

describe('transactions', () => {
  function database() {
    let n = 0;
    const db = new SwitchDatabase(() => `uuid-${++n}`);
    db.addPort('p1');
    return db;
  }
  const select = (table: string, columns: string[]): Operation => ({ op: 'select', table, where: [], columns });

  test('all or nothing: what stood before a refusal is undone, what follows is null', () => {
    const db = database();
    const results = db.transact([
      { op: 'insert', table: 'Queue', row: {} },
      { op: 'update', table: 'Queue', where: [], row: { colour: 'red' } },
      { op: 'insert', table: 'Queue', row: {} },
    ]);
    expect(results[0]).toMatchObject({ uuid: ['uuid', expect.any(String)] });
    expect(results[1]).toMatchObject({ error: 'unknown column' });
    expect(results[2]).toBeNull();
    expect(db.count('Queue')).toBe(0);
  });

  test('a row that is referred to cannot be deleted', () => {
    const db = database();
    db.transact([
      { op: 'insert', table: 'Queue', 'uuid-name': 'q', row: {} },
      { op: 'insert', table: 'QoS', row: { type: 'linux-htb', queues: ['map', [[0, ['named-uuid', 'q']]]] } },
    ]);
    const results = db.transact([{ op: 'delete', table: 'Queue', where: [] }]);
    expect(results.at(-1)).toMatchObject({ error: 'referential integrity violation' });
    expect(db.count('Queue')).toBe(1);
  });

  test('a wait holds or refuses the transaction', () => {
    const db = database();
    const wait = (until: string): Operation => ({
      op: 'wait',
      table: 'Port',
      where: [['name', '==', 'p1']],
      columns: ['qos'],
      until,
      rows: [{ qos: ['set', []] }],
      timeout: 0,
    });
    expect(db.transact([wait('=='), select('Port', ['name'])])).toEqual([{}, { rows: [{ name: 'p1' }] }]);
    expect(db.transact([wait('!='), select('Port', ['name'])])).toEqual([
      { error: 'timed out', details: '"wait" timed out' },
      null,
    ]);
  });

  test('mutations of numbers and maps, and cur_cfg that follows next_cfg', () => {
    const db = database();
    db.transact([{ op: 'mutate', table: 'Open_vSwitch', where: [], mutations: [['next_cfg', '+=', 2]] }]);
    expect(db.transact([select('Open_vSwitch', ['cur_cfg', 'next_cfg'])])).toEqual([
      { rows: [{ cur_cfg: 2, next_cfg: 2 }] },
    ]);
    db.transact([{ op: 'insert', table: 'Queue', row: { external_ids: ['map', [['a', '1']]] } }]);
    const pairs = (...p: [string, string][]) => ['map', p];
    db.transact([
      {
        op: 'mutate',
        table: 'Queue',
        where: [['external_ids', 'includes', pairs(['a', '1'])]],
        mutations: [
          ['external_ids', 'insert', pairs(['a', '2'], ['b', '3'])],
          ['external_ids', 'delete', ['set', ['b']]],
        ],
      },
    ]);
    expect(db.transact([select('Queue', ['external_ids'])])).toEqual([{ rows: [{ external_ids: pairs(['a', '1']) }] }]);
  });

  test('what is not emulated is refused', () => {
    const db = database();
    expect(db.transact([{ op: 'comment' }])).toEqual([{ error: 'unknown table', details: expect.any(String) }]);
    expect(db.transact([select('Bridge', ['name'])])).toMatchObject([{ error: 'unknown table' }]);
  });
});
