/**
 * The part of the Open_vSwitch database that queues live in (RFC 7047): tables Open_vSwitch, Port, QoS and Queue, and the
 * operations insert, select, update, mutate, delete and wait on them, all or none. `server.ts` puts it on a socket;
 * datacentre.ts asks it which queues a port has. Pure but for the row identifiers, which the caller draws.
 */
import type { FluidQueue } from '../fluid.ts';

/** A column in the wire's notation (RFC 7047 5.1). */
export type Value = unknown;
export type Row = Record<string, Value>;

export interface Operation {
  op: string;
  table?: string;
  where?: [string, string, Value][];
  row?: Row;
  rows?: Row[];
  columns?: string[];
  mutations?: [string, string, Value][];
  until?: string;
  timeout?: number;
  'uuid-name'?: string;
}

/** Queues of a port as its QoS says; the greatest rate of the port with them. */
export interface PortQueues {
  maxBps: number;
  queues: ReadonlyMap<number, FluidQueue>;
}

type Table = Map<string, Row>;
type Tables = Map<string, Table>;

/** Columns with the value they have in a new row. */
const SCHEMA: Record<string, Row> = {
  Open_vSwitch: { cur_cfg: 0, next_cfg: 0 },
  Port: { name: '', qos: ['set', []] },
  QoS: { type: '', queues: ['map', []], other_config: ['map', []], external_ids: ['map', []] },
  Queue: { dscp: ['set', []], other_config: ['map', []], external_ids: ['map', []] },
};
/** Columns that hold references, and the table they lead to: a row that is referred to cannot be deleted (RFC 7047 3.2). */
const REFERENCES: [table: string, column: string, to: string][] = [
  ['Port', 'qos', 'QoS'],
  ['QoS', 'queues', 'Queue'],
];

/** An operation's refusal, as it goes over the wire. */
class Refusal extends Error {
  readonly tag: string;
  constructor(tag: string, details: string) {
    super(details);
    this.tag = tag;
  }
}

export class SwitchDatabase {
  #tables: Tables;
  readonly #newUuid: () => string;
  readonly #onChange: () => void;

  /** `onChange` is called after each transaction that wrote something. */
  constructor(newUuid: () => string, onChange: () => void = () => {}) {
    this.#newUuid = newUuid;
    this.#onChange = onChange;
    this.#tables = new Map(Object.keys(SCHEMA).map((name) => [name, new Map<string, Row>()]));
    this.#table('Open_vSwitch').set(newUuid(), structuredClone(SCHEMA.Open_vSwitch as Row));
  }

  #table(name: string): Table {
    const table = this.#tables.get(name);
    if (table === undefined) throw new Refusal('unknown table', `no table ${name}`);
    return table;
  }

  /** Adds a port; the switch does this, not the controller. */
  addPort(name: string): void {
    this.#table('Port').set(this.#newUuid(), { ...structuredClone(SCHEMA.Port as Row), name });
  }

  removePort(name: string): void {
    const ports = this.#table('Port');
    for (const [uuid, row] of ports) if (row.name === name) ports.delete(uuid);
    this.#onChange();
  }

  /** Number of rows of a table; 0 for a table that does not exist. */
  count(table: string): number {
    return this.#tables.get(table)?.size ?? 0;
  }

  /** What shapes a port now; undefined when no QoS is on it. */
  queuesOf(portName: string): PortQueues | undefined {
    const port = [...this.#table('Port').values()].find((r) => r.name === portName);
    const qosId = port === undefined ? undefined : (setOf(port.qos)[0] as [string, string] | undefined)?.[1];
    const qos = qosId === undefined ? undefined : this.#table('QoS').get(qosId);
    // Only linux-htb is emulated; linux-noop and others leave the port as it is.
    if (qos?.type !== 'linux-htb') return undefined;
    const maxBps = rateOf(mapOf(qos.other_config).get('max-rate')) ?? Infinity;
    const queues = new Map<number, FluidQueue>();
    for (const [id, reference] of mapOf(qos.queues)) {
      const row = this.#table('Queue').get((reference as [string, string])[1]);
      if (row === undefined) continue;
      const config = mapOf(row.other_config);
      queues.set(Number(id), {
        minBps: rateOf(config.get('min-rate')) ?? 0,
        maxBps: Math.min(maxBps, rateOf(config.get('max-rate')) ?? Infinity),
        priority: rateOf(config.get('priority')) ?? 0,
      });
    }
    return { maxBps, queues };
  }

  /**
   * Carries out a transaction: one result per operation; after a refusal nulls, and nothing is changed (RFC 7047 4.1.3).
   * A `wait` that does not hold is refused at once: nothing here happens later by itself.
   */
  transact(operations: readonly Operation[]): Value[] {
    const before = this.#tables;
    this.#tables = new Map(
      [...before].map(([name, rows]) => [name, new Map([...rows].map(([id, r]) => [id, { ...r }]))]),
    );
    const names = new Map<string, string>();
    for (const o of operations) if (o['uuid-name'] !== undefined) names.set(o['uuid-name'], this.#newUuid());
    const results: Value[] = [];
    try {
      for (const o of operations) results.push(this.#run(o, names));
      this.#checkReferences();
    } catch (e) {
      this.#tables = before;
      if (!(e instanceof Refusal)) throw e;
      results.push({ error: e.tag, details: e.message });
      while (results.length < operations.length) results.push(null);
      return results;
    }
    // ovs-vswitchd obeys at once here: cur_cfg follows next_cfg.
    for (const row of this.#table('Open_vSwitch').values()) row.cur_cfg = row.next_cfg;
    if (operations.some((o) => ['insert', 'update', 'mutate', 'delete'].includes(o.op))) this.#onChange();
    return results;
  }

  #run(o: Operation, names: ReadonlyMap<string, string>): Value {
    const name = o.table ?? '';
    const table = this.#table(name);
    switch (o.op) {
      case 'insert': {
        const uuid = names.get(o['uuid-name'] ?? '') ?? this.#newUuid();
        table.set(uuid, {
          ...structuredClone(SCHEMA[name] as Row),
          ...checked(name, resolved(o.row ?? {}, names) as Row),
        });
        return { uuid: ['uuid', uuid] };
      }
      case 'select':
        return { rows: this.#where(table, o, names).map(([uuid, row]) => project(uuid, row, o.columns)) };
      case 'update': {
        const hit = this.#where(table, o, names);
        const change = checked(name, resolved(o.row ?? {}, names) as Row);
        for (const [, row] of hit) Object.assign(row, change);
        return { count: hit.length };
      }
      case 'mutate': {
        const hit = this.#where(table, o, names);
        for (const [, row] of hit) {
          for (const [column, mutator, value] of o.mutations ?? [])
            mutate(row, column, mutator, resolved(value, names));
        }
        return { count: hit.length };
      }
      case 'delete': {
        const hit = this.#where(table, o, names);
        for (const [uuid] of hit) table.delete(uuid);
        return { count: hit.length };
      }
      case 'wait': {
        const found = this.#where(table, o, names).map(([uuid, row]) => canonical(project(uuid, row, o.columns)));
        const wanted = (o.rows ?? []).map((r) => canonical(resolved(r, names)));
        const isSame = JSON.stringify([...new Set(found)].sort()) === JSON.stringify([...new Set(wanted)].sort());
        if (isSame !== (o.until === '==')) throw new Refusal('timed out', '"wait" timed out');
        return {};
      }
      default:
        throw new Refusal('not supported', `operation ${o.op} is not emulated`);
    }
  }

  #where(table: Table, o: Operation, names: ReadonlyMap<string, string>): [string, Row][] {
    return [...table].filter(([uuid, row]) =>
      (o.where ?? []).every(([column, test, value]) => {
        const have = column === '_uuid' ? ['uuid', uuid] : row[column];
        if (have === undefined) throw new Refusal('unknown column', `no column ${column} in table ${o.table}`);
        return holds(have, test, resolved(value, names));
      }),
    );
  }

  #checkReferences(): void {
    for (const [from, column, to] of REFERENCES) {
      const target = this.#table(to);
      for (const row of this.#table(from).values()) {
        const value = row[column];
        const refs = isTagged(value, 'map') ? [...mapOf(value).values()] : setOf(value);
        for (const ref of refs) {
          const uuid = (ref as [string, string])[1];
          if (!target.has(uuid)) {
            throw new Refusal(
              'referential integrity violation',
              `${from}.${column} refers to ${to} row ${uuid}, which is not there`,
            );
          }
        }
      }
    }
  }
}

const isTagged = (v: Value, tag: string): v is [string, unknown[]] => Array.isArray(v) && v[0] === tag;
const setOf = (v: Value): unknown[] => (isTagged(v, 'set') ? v[1] : [v]);
const mapOf = (v: Value): Map<unknown, unknown> =>
  new Map(isTagged(v, 'map') ? (v[1] as [unknown, unknown][]).map(([k, x]) => [k, x]) : []);

/** Rates are texts in `other_config`. */
function rateOf(text: unknown): number | undefined {
  const n = Number(text);
  return text === undefined || !Number.isFinite(n) || n < 0 ? undefined : n;
}

/** One text for equal values: order within sets and maps does not matter, and a set of one is its element. */
function canonical(v: Value): string {
  if (isTagged(v, 'set')) {
    const inner = v[1].map(canonical).sort();
    return inner.length === 1 ? (inner[0] as string) : `{${inner.join()}}`;
  }
  if (isTagged(v, 'map'))
    return `<${(v[1] as [unknown, unknown][]).map(([k, x]) => `${canonical(k)}=${canonical(x)}`).sort()}>`;
  if (Array.isArray(v)) return `[${v.map(canonical).join()}]`;
  if (typeof v === 'object' && v !== null) {
    return `(${Object.entries(v)
      .map(([k, x]) => `${k}:${canonical(x)}`)
      .sort()})`;
  }
  return JSON.stringify(v);
}

/** Replaces names given in the same transaction by the identifiers drawn for them. */
function resolved(v: Value, names: ReadonlyMap<string, string>): Value {
  if (Array.isArray(v)) {
    if (v[0] === 'named-uuid' && v.length === 2) {
      const uuid = names.get(String(v[1]));
      if (uuid === undefined) throw new Refusal('syntax error', `named-uuid ${v[1]} is not given in this transaction`);
      return ['uuid', uuid];
    }
    return v.map((x) => resolved(x, names));
  }
  if (typeof v === 'object' && v !== null) {
    return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, resolved(x, names)]));
  }
  return v;
}

function checked(table: string, row: Row): Row {
  for (const column of Object.keys(row)) {
    if (!Object.hasOwn(SCHEMA[table] as Row, column)) {
      throw new Refusal('unknown column', `no column ${column} in table ${table}`);
    }
  }
  return row;
}

function project(uuid: string, row: Row, columns: string[] | undefined): Row {
  const all: Row = { ...row, _uuid: ['uuid', uuid] };
  return columns === undefined ? all : Object.fromEntries(columns.map((c) => [c, all[c]]));
}

/** A condition (RFC 7047 5.1). */
function holds(have: Value, test: string, value: Value): boolean {
  switch (test) {
    case '==':
      return canonical(have) === canonical(value);
    case '!=':
      return canonical(have) !== canonical(value);
    case '<':
      return Number(have) < Number(value);
    case '<=':
      return Number(have) <= Number(value);
    case '>':
      return Number(have) > Number(value);
    case '>=':
      return Number(have) >= Number(value);
    case 'includes':
    case 'excludes': {
      const parts = (v: Value) => (isTagged(v, 'map') ? (v[1] as Value[]).map(canonical) : setOf(v).map(canonical));
      const own = new Set(parts(have));
      return test === 'includes' ? parts(value).every((p) => own.has(p)) : !parts(value).some((p) => own.has(p));
    }
    default:
      throw new Refusal('syntax error', `no condition ${test}`);
  }
}

/** A mutation (RFC 7047 5.1): sums of numbers, insert into and delete from sets and maps. */
function mutate(row: Row, column: string, mutator: string, value: Value): void {
  const have = row[column];
  if (have === undefined) throw new Refusal('unknown column', `no column ${column}`);
  if (mutator === '+=' || mutator === '-=') {
    row[column] = Number(have) + (mutator === '+=' ? 1 : -1) * Number(value);
    return;
  }
  if (mutator !== 'insert' && mutator !== 'delete')
    throw new Refusal('not supported', `mutator ${mutator} is not emulated`);
  if (isTagged(have, 'map')) {
    const map = mapOf(have);
    // Insert leaves keys that are there alone; delete goes by pairs or by keys.
    for (const [k, x] of mapOf(value)) {
      if (mutator === 'insert' && !map.has(k)) map.set(k, x);
      if (mutator === 'delete' && canonical(map.get(k)) === canonical(x)) map.delete(k);
    }
    if (mutator === 'delete' && !isTagged(value, 'map')) for (const k of setOf(value)) map.delete(k);
    row[column] = ['map', [...map]];
    return;
  }
  const given = setOf(value).map(canonical);
  const kept = setOf(have).filter((x) => mutator === 'insert' || !given.includes(canonical(x)));
  const own = kept.map(canonical);
  const added = mutator === 'insert' ? setOf(value).filter((x) => !own.includes(canonical(x))) : [];
  row[column] = ['set', [...kept, ...added]];
}
