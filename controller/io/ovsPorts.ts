/**
 * What a switch's OVSDB says of how much its ports can carry, read when the database is reached and again when it changes.
 * Stands on `ovsdb.ts`, beside `qos.ts` and `tunnels.ts`, and writes nothing; `controller/core/capacities.ts` decides what
 * counts. Columns are those of ovs-vswitchd.conf.db(5).
 */
import { FairwayError } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';
import { parseRateBps } from '../../contracts/units.ts';
import type { OvsPort } from '../core/events.ts';
import { DB, setOf, textMap, uuidOf } from './ovsConfig.ts';
import type { OvsdbClient } from './ovsdb.ts';

/** Key of an interface's `external_ids` with which the operator says what the port can carry: `200 Mbit/s`, or bit/s. */
const CAPACITY_KEY = 'fairway-capacity';

const MONITOR = 'fairway-ports';
/** Changes come in several notifications; they are read together. */
const GATHER_MS = 100;
/** A reading that failed is tried again after this long. */
const RETRY_MS = 5000;

type Row = Record<string, unknown>;

/** Watches the ports of one datapath; calls `tell` with all of them at first and whenever what they say has changed. */
export class OvsPortWatch {
  readonly #client: OvsdbClient;
  readonly #dpid: string;
  readonly #log: Log;
  readonly #tell: (ports: ReadonlyMap<string, OvsPort>) => void;
  readonly #stops: (() => void)[];
  #cancel: (() => void) | undefined;
  #last: ReadonlyMap<string, OvsPort> | undefined;
  /** Texts that were complained of already, by port. */
  readonly #refused = new Map<string, string>();
  #isClosed = false;

  constructor(client: OvsdbClient, dpid: string, log: Log, tell: (ports: ReadonlyMap<string, OvsPort>) => void) {
    this.#client = client;
    this.#dpid = dpid;
    this.#log = log;
    this.#tell = tell;
    this.#stops = [
      client.onConnected(() => void this.#watch()),
      client.onUpdate((monitor) => {
        if (monitor === `${MONITOR} ${dpid}`) this.#readIn(GATHER_MS);
      }),
    ];
    if (client.connected) void this.#watch();
  }

  /** Tells again what is known, for a core that began anew. */
  tellAgain(): void {
    if (this.#last) this.#tell(this.#last);
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel?.();
    for (const stop of this.#stops) stop();
  }

  /** Asks to be told of changes, and reads what there is. */
  async #watch(): Promise<void> {
    const columns = {
      Bridge: ['datapath_id', 'ports'],
      Port: ['interfaces', 'qos'],
      Interface: ['link_speed', 'ingress_policing_rate', 'external_ids'],
      QoS: ['other_config', 'external_ids'],
    };
    const tables = Object.entries(columns).map(([table, c]) => [table, { columns: c, select: { initial: false } }]);
    try {
      await this.#client.call('monitor', [DB, `${MONITOR} ${this.#dpid}`, Object.fromEntries(tables)]);
    } catch (error) {
      if (this.#isClosed) return;
      // A database that cannot be watched is not Open vSwitch's: ports are what the switch describes.
      this.#log('debug', 'ovsdb.notWatched', { dpid: this.#dpid, error: messageOf(error) });
      return;
    }
    this.#readIn(0);
  }

  #readIn(ms: number): void {
    this.#cancel?.();
    if (!this.#isClosed) this.#cancel = this.#client.clock.after(ms, () => void this.#read());
  }

  async #read(): Promise<void> {
    this.#cancel = undefined;
    let ports: ReadonlyMap<string, OvsPort>;
    try {
      ports = await this.#ports();
    } catch (error) {
      if (this.#isClosed) return;
      this.#log('debug', 'ovsdb.ports', { dpid: this.#dpid, error: messageOf(error), againInMs: RETRY_MS });
      if (this.#cancel === undefined) this.#readIn(RETRY_MS);
      return;
    }
    if (this.#isClosed || (this.#last && textOf(this.#last) === textOf(ports))) return;
    this.#last = ports;
    this.#tell(ports);
  }

  async #ports(): Promise<ReadonlyMap<string, OvsPort>> {
    const select = (table: string, columns: string[]) => ({ op: 'select', table, where: [], columns });
    const [bridges, ports, interfaces, qos] = (
      await this.#client.transact(DB, [
        select('Bridge', ['datapath_id', 'ports']),
        select('Port', ['_uuid', 'interfaces', 'qos']),
        select('Interface', ['_uuid', 'name', 'link_speed', 'ingress_policing_rate', 'external_ids']),
        select('QoS', ['_uuid', 'other_config', 'external_ids']),
      ])
    ).map((r) => r.rows ?? []);
    const bridge = bridges?.find((r) => setOf(r.datapath_id)[0] === this.#dpid);
    const own = new Set(bridge ? setOf(bridge.ports).map(uuidOf) : []);
    const byId = (rows: Row[] = []) => new Map(rows.map((r) => [uuidOf(r._uuid), r]));
    const interfaceOf = byId(interfaces);
    const qosOf = byId(qos);
    const found = new Map<string, OvsPort>();
    for (const port of ports ?? []) {
      if (!own.has(uuidOf(port._uuid))) continue;
      const [reference] = setOf(port.qos);
      const maxOutBps = reference === undefined ? undefined : greatestRate(qosOf.get(uuidOf(reference)));
      // A bond has several interfaces, each with a port number of its own.
      for (const id of setOf(port.interfaces)) {
        const row = interfaceOf.get(uuidOf(id));
        if (row) found.set(String(row.name), this.#port(row, maxOutBps));
      }
    }
    return found;
  }

  #port(row: Row, maxOutBps: number | undefined): OvsPort {
    const speedBps = Number(setOf(row.link_speed)[0] ?? 0);
    const policedKbps = Number(row.ingress_policing_rate ?? 0);
    const capacityBps = this.#toldCapacity(String(row.name), textMap(row.external_ids).get(CAPACITY_KEY));
    return {
      ...(capacityBps === undefined ? {} : { capacityBps }),
      ...(speedBps > 0 ? { speedBps } : {}),
      ...(maxOutBps === undefined ? {} : { maxOutBps }),
      ...(policedKbps > 0 ? { maxInBps: policedKbps * 1000 } : {}),
    };
  }

  /** What the operator wrote; a text that is no rate is told of once and does not count. */
  #toldCapacity(port: string, text: string | undefined): number | undefined {
    const bps = text === undefined ? undefined : parseRateBps(text);
    if (text === undefined || (bps !== undefined && bps > 0)) {
      this.#refused.delete(port);
      return bps;
    }
    if (this.#refused.get(port) !== text) {
      this.#refused.set(port, text);
      const advice = `ovs-vsctl set interface ${port} external_ids:${CAPACITY_KEY}="200 Mbit/s"`;
      this.#log('warn', 'port.badCapacity', { dpid: this.#dpid, port, text, advice });
    }
    return undefined;
  }
}

/** The rate that a QoS of somebody else lets out of its port, bit/s; undefined when it does not limit it, or is ours. */
function greatestRate(qos: Row | undefined): number | undefined {
  if (qos === undefined || textMap(qos.external_ids).get('fairway') === '1') return undefined;
  const bps = Number(textMap(qos.other_config).get('max-rate') ?? 0);
  return bps > 0 ? bps : undefined;
}

const textOf = (ports: ReadonlyMap<string, OvsPort>): string =>
  JSON.stringify([...ports].sort(([a], [b]) => (a < b ? -1 : 1)));

const messageOf = (error: unknown): string =>
  error instanceof FairwayError || error instanceof Error ? error.message : String(error);
