/**
 * Tunnel ports of one Open vSwitch, kept in its OVSDB: VXLAN, GRE and Geneve by the same code. Stands on `ovsdb.ts`, beside
 * `qos.ts`; `controller/core/tunnels.ts` says which ports there should be.
 *
 * Rows made here carry `external_ids` { fairway: "1" }, and no other row is ever changed. A port is made in an access VLAN
 * that nobody uses: a bridge that forwards by its own learning then floods nothing into it, while a flow that names
 * the port still sends through it.
 */
import { FairwayError } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';
import type { TunnelPort } from '../core/events.ts';
import { DB, OWNER, obeyed, setOf, textMap, uuidOf } from './ovsConfig.ts';
import type { OvsdbClient, OvsdbOperation } from './ovsdb.ts';

/** An access VLAN outside what policies may use for labels. */
const ASIDE_VLAN = 4094;

export interface TunnelOutcome {
  /** Empty when the switch has the port (or, after a removal, has it no more). */
  note: string;
  /** MTU of the ports asked for, bytes, as far as the switch knows it. */
  mtus: Record<string, number>;
}

interface Found {
  bridge: string | undefined;
  /** Port row and its interface, when there is one of that name. */
  port: string | undefined;
  isOurs: boolean;
  type: string;
  options: ReadonlyMap<string, string>;
}

export class TunnelManager {
  readonly #client: OvsdbClient;
  readonly #dpid: string;
  readonly #log: Log;
  readonly #confirmTimeoutMs: number;
  /** Changes are carried out in order. */
  #tail: Promise<unknown> = Promise.resolve();

  constructor(client: OvsdbClient, dpid: string, log: Log, confirmTimeoutMs = 5000) {
    this.#client = client;
    this.#dpid = dpid;
    this.#log = log;
    this.#confirmTimeoutMs = confirmTimeoutMs;
  }

  /** Makes a port as wanted, and reads the MTU of the ports named. Asking for what is there already writes nothing. */
  apply(port: TunnelPort, mtuOf: readonly string[]): Promise<TunnelOutcome> {
    return this.#inOrder(async () => {
      const note = await this.#apply(port);
      return { note, mtus: note === '' ? await this.#mtus(mtuOf) : {} };
    });
  }

  /** Removes a port of ours; one that is gone, or not ours, is no fault. */
  remove(name: string): Promise<TunnelOutcome> {
    return this.#inOrder(async () => {
      await this.#remove(['name', '==', name]);
      return { note: '', mtus: {} };
    });
  }

  /** Removes all of ours that are not named, those of an earlier run included. Returns how many went. */
  keepOnly(names: ReadonlySet<string>): Promise<number> {
    return this.#inOrder(async () => {
      let removed = 0;
      for (const name of await this.listOurs())
        if (!names.has(name)) removed += await this.#remove(['name', '==', name]);
      return removed;
    });
  }

  /** Names of our ports in the database. */
  async listOurs(): Promise<string[]> {
    const [ports] = await this.#client.transact(DB, [
      { op: 'select', table: 'Port', where: [['external_ids', 'includes', OWNER]], columns: ['name'] },
    ]);
    return (ports?.rows ?? []).map((r) => String(r.name)).sort();
  }

  #inOrder<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#tail.then(work, work);
    this.#tail = run.catch(() => {});
    return run;
  }

  async #apply(wanted: TunnelPort): Promise<string> {
    const now = await this.#find(wanted.name);
    if (now.bridge === undefined)
      return `OVSDB ${this.#client.remote} has no bridge with datapath id ${this.#dpid}: is it the one of another switch?`;
    if (now.port !== undefined && !now.isOurs) {
      return `port ${wanted.name} of the switch is not Fairway's; to let Fairway make its tunnel: ovs-vsctl del-port ${wanted.name}`;
    }
    const options = optionsOf(wanted);
    const isThere = now.port !== undefined && now.type === wanted.kind && sameMap(now.options, options);
    if (!isThere) {
      const row = { type: wanted.kind, options: ['map', [...options]] };
      const external = { external_ids: OWNER };
      const { name } = wanted;
      const change: OvsdbOperation[] =
        now.port !== undefined
          ? [{ op: 'update', table: 'Interface', where: [['name', '==', name]], row }]
          : [
              { op: 'insert', table: 'Interface', 'uuid-name': 'interface', row: { name, ...row, ...external } },
              {
                op: 'insert',
                table: 'Port',
                'uuid-name': 'port',
                row: {
                  ...{ name, interfaces: ['named-uuid', 'interface'] },
                  ...{ vlan_mode: 'access', tag: ASIDE_VLAN, ...external },
                },
              },
              {
                op: 'mutate',
                table: 'Bridge',
                where: [['_uuid', '==', ['uuid', now.bridge]]],
                mutations: [['ports', 'insert', ['set', [['named-uuid', 'port']]]]],
              },
            ];
      if (!(await this.#write(change)))
        return `the tunnel port ${name} is written, but ovs-vswitchd did not take it over within ${this.#confirmTimeoutMs} ms; is it running?`;
      this.#log('info', 'tunnel.written', { port: name, type: wanted.kind, remote: this.#client.remote });
    }
    return this.#fault(wanted);
  }

  /** What the switch says against the port; empty when it has it. */
  async #fault({ name, kind }: TunnelPort): Promise<string> {
    const [found] = await this.#client.transact(DB, [
      { op: 'select', table: 'Interface', where: [['name', '==', name]], columns: ['error', 'ofport'] },
    ]);
    const row = found?.rows?.[0];
    const error = setOf(row?.error ?? ['set', []])[0];
    if (typeof error === 'string') return `the switch cannot make a ${kind} port: ${error}`;
    return setOf(row?.ofport ?? ['set', []])[0] === -1
      ? `the switch cannot make a ${kind} port, and does not say why`
      : '';
  }

  async #mtus(names: readonly string[]): Promise<Record<string, number>> {
    if (names.length === 0) return {};
    const [found] = await this.#client.transact(DB, [
      { op: 'select', table: 'Interface', where: [], columns: ['name', 'mtu'] },
    ]);
    const mtus: Record<string, number> = {};
    for (const row of found?.rows ?? []) {
      const mtu = setOf(row.mtu)[0];
      if (names.includes(String(row.name)) && typeof mtu === 'number') mtus[String(row.name)] = mtu;
    }
    return mtus;
  }

  async #find(name: string): Promise<Found> {
    const [bridges, ports, interfaces] = await this.#client.transact(DB, [
      { op: 'select', table: 'Bridge', where: [], columns: ['_uuid', 'datapath_id'] },
      { op: 'select', table: 'Port', where: [['name', '==', name]], columns: ['_uuid', 'external_ids'] },
      { op: 'select', table: 'Interface', where: [['name', '==', name]], columns: ['type', 'options'] },
    ]);
    const bridge = (bridges?.rows ?? []).find((r) => setOf(r.datapath_id)[0] === this.#dpid);
    const port = ports?.rows?.[0];
    const device = interfaces?.rows?.[0];
    return {
      bridge: bridge && uuidOf(bridge._uuid),
      port: port && uuidOf(port._uuid),
      isOurs: port !== undefined && textMap(port.external_ids).get('fairway') === '1',
      type: String(device?.type ?? ''),
      options: device ? textMap(device.options) : new Map(),
    };
  }

  /** Takes ports of ours that the condition names off their bridges; the database forgets what no bridge has. */
  async #remove(condition: readonly unknown[]): Promise<number> {
    const where = [condition, ['external_ids', 'includes', OWNER]];
    const [found] = await this.#client.transact(DB, [{ op: 'select', table: 'Port', where, columns: ['_uuid'] }]);
    const rows = (found?.rows ?? []).map((r) => r._uuid);
    if (rows.length === 0) return 0;
    await this.#write([{ op: 'mutate', table: 'Bridge', where: [], mutations: [['ports', 'delete', ['set', rows]]] }]);
    return rows.length;
  }

  /** Answers whether the switch obeyed in time. */
  async #write(change: readonly OvsdbOperation[]): Promise<boolean> {
    const results = await this.#client.transact(DB, [
      ...change,
      { op: 'mutate', table: DB, where: [], mutations: [['next_cfg', '+=', 1]] },
      { op: 'select', table: DB, where: [], columns: ['next_cfg'] },
    ]);
    const nextCfg = Number(results.at(-1)?.rows?.[0]?.next_cfg);
    return obeyed(this.#client, nextCfg, this.#confirmTimeoutMs);
  }
}

const sameMap = (a: ReadonlyMap<string, string>, b: ReadonlyMap<string, string>): boolean =>
  a.size === b.size && [...a].every(([k, v]) => b.get(k) === v);

/** Options of the interface (ovs-vswitchd.conf.db(5), "Tunnel Options"). The key is chosen by each flow. */
function optionsOf(p: TunnelPort): ReadonlyMap<string, string> {
  return new Map([
    ['remote_ip', p.remoteAddress],
    ['local_ip', p.localAddress],
    ['key', 'flow'],
    ...(p.udpPort === undefined ? [] : ([['dst_port', String(p.udpPort)]] as const)),
  ]);
}

/** What a failed request of the database is called in a migration's record. */
export const tunnelNote = (error: unknown): string =>
  error instanceof FairwayError || error instanceof Error ? error.message : String(error);
