/**
 * Queues of switch ports, kept in the switch's OVSDB: the enforcement of slices where a switch has queues (paper 002
 * step 4). Stands on `ovsdb.ts`; `controller/core` says what each port should have, this makes it so.
 *
 * Rows made here carry `external_ids` { fairway: "1", port: <name> }, and no other row is ever changed. QoS and Queue
 * are root tables of the schema, so rows no longer used must be deleted by name; a crash between two transactions can
 * therefore leave rows behind, which the next call for the port (or `clearAll`) removes.
 */
import { FairwayError } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';
import { DB, OWNER, obeyed, pairsOf, setOf, textMap, uuidOf } from './ovsConfig.ts';
import type { OvsdbClient, OvsdbOperation } from './ovsdb.ts';

const QOS_TYPE = 'linux-htb';
const MAX_ATTEMPTS = 4;

/** Rates of one queue, bit/s. Queue 0 takes what nothing else claims: the workload. */
export interface QueueRates {
  id: number;
  /** Guaranteed while others compete. */
  minBps: number;
  /** Never more, even when the link is free. */
  maxBps: number;
  /** Who is first offered what others leave unused: 0 before 1 … 7. */
  priority: number;
}

/** What a port should have: its own rate and its queues, queue 0 among them. */
export interface PortQos {
  maxBps: number;
  queues: QueueRates[];
}

/**
 * What became of an `applyPort`. `changed` is false when the switch had all of it already. Not applied: `unknown-port`
 * and `foreign-qos` (someone else's QoS is on the port) wrote nothing; `unconfirmed` wrote it, but ovs-vswitchd did not
 * say in time that it obeys.
 */
export type QosOutcome =
  | { applied: true; changed: boolean }
  | { applied: false; cause: 'unknown-port' | 'foreign-qos' | 'unconfirmed'; reason: string };

interface QosRow {
  uuid: string;
  type: string;
  queues: Map<number, string>;
  otherConfig: Map<string, string>;
  port: string | undefined;
}
interface QueueRow {
  uuid: string;
  otherConfig: Map<string, string>;
}
interface PortState {
  portQos: string | undefined;
  exists: boolean;
  qos: QosRow[];
  queues: QueueRow[];
  curCfg: number;
  nextCfg: number;
}

const mapValue = (m: ReadonlyMap<string, string>): unknown => ['map', [...m]];
const sameMap = (a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean =>
  a.size === b.size && [...a].every(([k, v]) => b.get(k) === v);

/** Keeps ports' QoS of one Open vSwitch as wanted. Calls for one port, and `clearAll`, are carried out in order. */
export class QosManager {
  readonly #client: OvsdbClient;
  readonly #log: Log;
  readonly #confirmTimeoutMs: number;
  readonly #tails = new Map<string, Promise<unknown>>();
  /** The last `clearAll`: calls made after it wait for it. */
  #all: Promise<unknown> = Promise.resolve();

  /** `confirmTimeoutMs`: how long ovs-vswitchd may take to obey before the outcome is `unconfirmed`. */
  constructor(client: OvsdbClient, log: Log, confirmTimeoutMs = 5_000) {
    this.#client = client;
    this.#log = log;
    this.#confirmTimeoutMs = confirmTimeoutMs;
  }

  /**
   * Makes a port's QoS as desired, in one transaction. Rows that exist are changed in place, so that the port's qdisc,
   * its classes and the filters on it stay. Asking for what is there already writes nothing.
   * Throws FairwayError: `QOS_BAD` (bad input) for rates that make no sense, and those of OvsdbClient; after
   * `outcomeUnknown` the same call may simply be repeated.
   */
  applyPort(portName: string, desired: PortQos): Promise<QosOutcome> {
    const problem = checkPortQos(desired);
    if (problem) return Promise.reject(new FairwayError('QOS_BAD', `port ${portName}: ${problem}`, ['badInput']));
    return this.#inOrder(portName, () => this.#apply(portName, desired));
  }

  /** Takes our QoS off a port and deletes its rows; also those of a port that is gone. A foreign QoS stays. */
  clearPort(portName: string): Promise<void> {
    return this.#inOrder(portName, async () => {
      const removed = await this.#remove(ownerOf(portName));
      if (removed > 0) this.#log('info', 'qos.cleared', { port: portName, remote: this.#client.remote });
    });
  }

  /** Takes all of ours off this switch, that of an earlier run included. Returns how many QoS and Queue rows went. */
  clearAll(): Promise<number> {
    const run = Promise.allSettled([this.#all, ...this.#tails.values()]).then(() => this.#remove(OWNER));
    this.#all = run;
    return run;
  }

  /** Takes ours off all ports but these, that of an earlier run included, and its rows that belong to no port. */
  keepOnly(portNames: readonly string[]): Promise<void> {
    const run = Promise.allSettled([this.#all, ...this.#tails.values()]).then(async () => {
      const [rows] = await this.#client.transact(DB, [
        { op: 'select', table: 'QoS', where: [['external_ids', 'includes', OWNER]], columns: ['external_ids'] },
      ]);
      const [queueRows] = await this.#client.transact(DB, [
        { op: 'select', table: 'Queue', where: [['external_ids', 'includes', OWNER]], columns: ['external_ids'] },
      ]);
      const owners = [...(rows?.rows ?? []), ...(queueRows?.rows ?? [])].map((r) =>
        textMap(r.external_ids).get('port'),
      );
      const others = new Set(owners.filter((p): p is string => p !== undefined && !portNames.includes(p)));
      for (const port of others) {
        await this.#remove(ownerOf(port));
        this.#log('info', 'qos.cleared', { port, remote: this.#client.remote, why: 'left by an earlier run' });
      }
    });
    this.#all = run;
    return run;
  }

  /** What of ours the database holds: ports whose QoS is ours, and how many QoS and Queue rows. */
  async listOurs(): Promise<{ ports: string[]; qos: number; queues: number }> {
    const [qos, queues, ports] = await this.#client.transact(DB, [
      { op: 'select', table: 'QoS', where: [['external_ids', 'includes', OWNER]], columns: ['_uuid'] },
      { op: 'select', table: 'Queue', where: [['external_ids', 'includes', OWNER]], columns: ['_uuid'] },
      { op: 'select', table: 'Port', where: [['qos', '!=', ['set', []]]], columns: ['name', 'qos'] },
    ]);
    const ours = new Set((qos?.rows ?? []).map((r) => uuidOf(r._uuid)));
    return {
      ports: (ports?.rows ?? [])
        .filter((r) => ours.has(uuidOf(r.qos)))
        .map((r) => String(r.name))
        .sort(),
      qos: ours.size,
      queues: queues?.rows?.length ?? 0,
    };
  }

  #inOrder<T>(portName: string, work: () => Promise<T>): Promise<T> {
    const run = Promise.allSettled([this.#all, this.#tails.get(portName)]).then(work);
    this.#tails.set(portName, run);
    const forget = () => {
      if (this.#tails.get(portName) === run) this.#tails.delete(portName);
    };
    run.then(forget, forget);
    return run;
  }

  async #apply(portName: string, desired: PortQos): Promise<QosOutcome> {
    for (let attempt = 1; ; attempt++) {
      const now = await this.#read(portName);
      if (!now.exists) {
        return {
          applied: false,
          cause: 'unknown-port',
          reason: `OVSDB ${this.#client.remote} has no port ${portName}`,
        };
      }
      if (now.portQos !== undefined && !now.qos.some((q) => q.uuid === now.portQos)) {
        return {
          applied: false,
          cause: 'foreign-qos',
          reason: `port ${portName} has a QoS that is not Fairway's; to let Fairway shape it: ovs-vsctl clear port ${portName} qos`,
        };
      }
      const changes = plan(portName, desired, now);
      if (changes.length === 0) return this.#confirm(portName, now.nextCfg, now.curCfg, false);
      try {
        const results = await this.#client.transact(DB, [
          ...guards(portName, now),
          ...changes,
          // What ovs-vsctl does to learn when the switch obeys: next_cfg is ours to raise, cur_cfg follows when it is done.
          { op: 'mutate', table: DB, where: [], mutations: [['next_cfg', '+=', 1]] },
          { op: 'select', table: DB, where: [], columns: ['next_cfg'] },
        ]);
        const nextCfg = Number(results.at(-1)?.rows?.[0]?.next_cfg);
        this.#log('info', 'qos.written', { port: portName, remote: this.#client.remote, operations: changes.length });
        return await this.#confirm(portName, nextCfg, 0, true);
      } catch (e) {
        // Someone changed the same rows between reading and writing: read again.
        if (e instanceof FairwayError && e.code === 'OVSDB_WAIT' && attempt < MAX_ATTEMPTS) continue;
        throw e;
      }
    }
  }

  async #confirm(portName: string, nextCfg: number, curCfg: number, changed: boolean): Promise<QosOutcome> {
    if (curCfg >= nextCfg) return { applied: true, changed };
    if (await obeyed(this.#client, nextCfg, this.#confirmTimeoutMs)) return { applied: true, changed };
    return {
      applied: false,
      cause: 'unconfirmed',
      reason: `the queues of port ${portName} are written, but ovs-vswitchd did not take them over within ${this.#confirmTimeoutMs} ms; is it running?`,
    };
  }

  async #read(portName: string): Promise<PortState> {
    const owner = ownerOf(portName);
    const [port, qos, queues, root] = await this.#client.transact(DB, [
      { op: 'select', table: 'Port', where: [['name', '==', portName]], columns: ['qos'] },
      { op: 'select', table: 'QoS', where: [['external_ids', 'includes', OWNER]] },
      { op: 'select', table: 'Queue', where: [['external_ids', 'includes', owner]] },
      { op: 'select', table: DB, where: [], columns: ['cur_cfg', 'next_cfg'] },
    ]);
    const row = port?.rows?.[0];
    const portQos = row ? setOf(row.qos)[0] : undefined;
    const cfg = root?.rows?.[0];
    const current = portQos === undefined ? undefined : uuidOf(portQos);
    return {
      exists: row !== undefined,
      portQos: current,
      qos: (qos?.rows ?? [])
        .map((r) => ({
          uuid: uuidOf(r._uuid),
          type: String(r.type),
          queues: new Map(pairsOf(r.queues).map(([k, v]) => [Number(k), uuidOf(v)])),
          otherConfig: textMap(r.other_config),
          port: textMap(r.external_ids).get('port'),
        }))
        // One of ours that somebody put on another port counts as foreign there.
        .filter((q) => q.port === portName),
      queues: (queues?.rows ?? []).map((r) => ({ uuid: uuidOf(r._uuid), otherConfig: textMap(r.other_config) })),
      curCfg: Number(cfg?.cur_cfg),
      nextCfg: Number(cfg?.next_cfg),
    };
  }

  /** Deletes our rows with these external_ids, after taking them off whatever port uses them. */
  async #remove(owner: unknown): Promise<number> {
    const where = [['external_ids', 'includes', owner]];
    const [qos, queues] = await this.#client.transact(DB, [
      { op: 'select', table: 'QoS', where, columns: ['_uuid'] },
      { op: 'select', table: 'Queue', where, columns: ['_uuid'] },
    ]);
    const rows = qos?.rows ?? [];
    if (rows.length === 0 && (queues?.rows ?? []).length === 0) return 0;
    const results = await this.#client.transact(DB, [
      ...rows.map((r) => ({
        op: 'update',
        table: 'Port',
        where: [['qos', '==', r._uuid]],
        row: { qos: ['set', []] },
      })),
      { op: 'delete', table: 'QoS', where },
      { op: 'delete', table: 'Queue', where },
      { op: 'mutate', table: DB, where: [], mutations: [['next_cfg', '+=', 1]] },
      { op: 'select', table: DB, where: [], columns: ['next_cfg'] },
    ]);
    const removed = Number(results.at(-4)?.count) + Number(results.at(-3)?.count);
    const outcome = await this.#confirm('(all)', Number(results.at(-1)?.rows?.[0]?.next_cfg), 0, true);
    if (!outcome.applied) this.#log('warn', 'qos.unconfirmed', { remote: this.#client.remote, reason: outcome.reason });
    return removed;
  }
}

function ownerOf(portName: string): unknown {
  return [
    'map',
    [
      ['fairway', '1'],
      ['port', portName],
    ],
  ];
}

/** What is wrong with a desired state, or undefined. */
export function checkPortQos(q: PortQos): string | undefined {
  const isRate = (x: number) => Number.isFinite(x) && x >= 0;
  if (!isRate(q.maxBps) || q.maxBps < 1) return `maxBps ${q.maxBps} is no rate`;
  const ids = new Set(q.queues.map((x) => x.id));
  if (ids.size !== q.queues.length) return 'a queue id is there twice';
  if (!ids.has(0)) return 'queue 0 is missing; without it unmarked traffic passes by the limits';
  for (const x of q.queues) {
    // linux-htb maps queue n to class 1:n+1 and keeps 1:fffe and above for itself.
    if (!Number.isInteger(x.id) || x.id < 0 || x.id > 61_439) return `queue ${x.id} is not within 0-61439`;
    if (!isRate(x.minBps) || !isRate(x.maxBps)) return `queue ${x.id}: minBps ${x.minBps}, maxBps ${x.maxBps}`;
    if (x.minBps > x.maxBps) return `queue ${x.id}: minBps ${x.minBps} is above maxBps ${x.maxBps}`;
    if (!Number.isInteger(x.priority) || x.priority < 0 || x.priority > 7)
      return `queue ${x.id}: priority ${x.priority} is not within 0-7`;
  }
  return undefined;
}

function queueConfig(q: QueueRates): Map<string, string> {
  return new Map([
    ['min-rate', String(Math.round(q.minBps))],
    ['max-rate', String(Math.round(q.maxBps))],
    ['priority', String(q.priority)],
  ]);
}

/** `wait` operations that let the transaction through only if the rows are still as they were read. */
function guards(portName: string, now: PortState): OvsdbOperation[] {
  const current = now.qos.find((q) => q.uuid === now.portQos);
  const port: OvsdbOperation = {
    op: 'wait',
    table: 'Port',
    where: [['name', '==', portName]],
    columns: ['qos'],
    until: '==',
    rows: [{ qos: now.portQos === undefined ? ['set', []] : ['uuid', now.portQos] }],
    timeout: 0,
  };
  if (!current) return [port];
  return [
    port,
    {
      op: 'wait',
      table: 'QoS',
      where: [['_uuid', '==', ['uuid', current.uuid]]],
      columns: ['queues'],
      until: '==',
      rows: [{ queues: ['map', [...current.queues].map(([k, u]) => [k, ['uuid', u]])] }],
      timeout: 0,
    },
  ];
}

/** Operations that lead from what is to what is wanted; none when they are the same. */
function plan(portName: string, desired: PortQos, now: PortState): OvsdbOperation[] {
  const ops: OvsdbOperation[] = [];
  const external = ownerOf(portName);
  const current = now.qos.find((q) => q.uuid === now.portQos);
  const config = new Map([['max-rate', String(Math.round(desired.maxBps))]]);
  const queueRows = new Map(now.queues.map((q) => [q.uuid, q]));
  const kept = new Set<string>();
  const references: [number, unknown][] = [];
  let isMembershipChanged = false;

  for (const q of desired.queues) {
    const wanted = queueConfig(q);
    const uuid = current?.queues.get(q.id);
    const row = uuid === undefined ? undefined : queueRows.get(uuid);
    if (row) {
      kept.add(row.uuid);
      references.push([q.id, ['uuid', row.uuid]]);
      if (!sameMap(row.otherConfig, wanted)) {
        ops.push({
          op: 'update',
          table: 'Queue',
          where: [['_uuid', '==', ['uuid', row.uuid]]],
          row: { other_config: mapValue(wanted) },
        });
      }
    } else {
      const name = `queue${q.id}`;
      ops.push({
        op: 'insert',
        table: 'Queue',
        'uuid-name': name,
        row: { other_config: mapValue(wanted), external_ids: external },
      });
      references.push([q.id, ['named-uuid', name]]);
      isMembershipChanged = true;
    }
  }

  if (current) {
    if (current.queues.size !== references.length) isMembershipChanged = true;
    const row: Record<string, unknown> = {};
    if (isMembershipChanged) row.queues = ['map', references];
    if (!sameMap(current.otherConfig, config)) row.other_config = mapValue(config);
    if (current.type !== QOS_TYPE) row.type = QOS_TYPE;
    if (Object.keys(row).length > 0) {
      ops.push({ op: 'update', table: 'QoS', where: [['_uuid', '==', ['uuid', current.uuid]]], row });
    }
  } else {
    ops.push(
      {
        op: 'insert',
        table: 'QoS',
        'uuid-name': 'qos',
        row: {
          type: QOS_TYPE,
          queues: ['map', references],
          other_config: mapValue(config),
          external_ids: external,
        },
      },
      { op: 'update', table: 'Port', where: [['name', '==', portName]], row: { qos: ['named-uuid', 'qos'] } },
    );
  }

  // Rows of ours for this port that nothing uses (any more): left by a crash, or queues just taken away.
  for (const q of now.qos) {
    if (q.uuid !== now.portQos) ops.push({ op: 'delete', table: 'QoS', where: [['_uuid', '==', ['uuid', q.uuid]]] });
  }
  for (const q of now.queues) {
    if (!kept.has(q.uuid)) ops.push({ op: 'delete', table: 'Queue', where: [['_uuid', '==', ['uuid', q.uuid]]] });
  }
  return ops;
}
