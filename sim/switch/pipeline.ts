/**
 * The way of a packet through an emulated switch (OpenFlow 1.3.5 chapter 5): from table to table, through actions, groups
 * and the switch's own learning, to the ports where it comes out. flowTables.ts owns the entries; match.ts holds packets
 * against matches. Pure: time is an argument.
 */
import { ofproto_v1_3 as ofp } from 'node-openflow';
import { frameLength, type Packet } from '../packet.ts';
import type { Action, FlowEntry, GroupEntry, Outcome } from './entries.ts';
import { isMatchField, matches, type PacketContext } from './match.ts';

export interface ProcessOptions {
  nowMs?: number;
  /** False leaves counters and learned addresses as they are: a question, not traffic. */
  isTraffic?: boolean;
  tunnelId?: bigint;
}

const MAC_AGE_MS = 300_000;

interface Run {
  c: PacketContext;
  queue: number;
  actionSet: Map<string, Action>;
  tableId: number;
  entry: FlowEntry | undefined;
  isPacketOut: boolean;
  nowMs: number;
  isTraffic: boolean;
  outcome: Outcome;
}

export class Pipeline {
  readonly #tables: readonly (readonly FlowEntry[])[];
  readonly #groups: ReadonlyMap<number, GroupEntry>;
  readonly #ports: () => Iterable<number>;
  readonly #onLearned: () => void;
  readonly #learned = new Map<string, { port: number; seenMs: number }>();

  /** `tables` and `groups` are looked at, never changed; `onLearned` is called when a packet may come out elsewhere from now on. */
  constructor(
    tables: readonly (readonly FlowEntry[])[],
    groups: ReadonlyMap<number, GroupEntry>,
    ports: () => Iterable<number>,
    onLearned: () => void,
  ) {
    this.#tables = tables;
    this.#groups = groups;
    this.#ports = ports;
    this.#onLearned = onLearned;
  }

  /** Where a packet that arrives on a port comes out. */
  process(packet: Packet, inPort: number, o: ProcessOptions = {}): Outcome {
    const run = this.#begin(packet, inPort, o);
    this.#pipeline(run);
    return run.outcome;
  }

  /** What the actions of a packet-out do with a packet. */
  execute(actions: readonly Action[], packet: Packet, inPort: number, o: ProcessOptions = {}): Outcome {
    const run = this.#begin(packet, inPort, o);
    run.isPacketOut = true;
    this.#apply(run, actions);
    return run.outcome;
  }

  /** Forgets what was learned on a port that went away. */
  forgetPort(port: number): void {
    for (const [key, where] of this.#learned) if (where.port === port) this.#learned.delete(key);
    this.#onLearned();
  }

  /** Forgets addresses that were not heard of for long. */
  expire(nowMs: number): void {
    for (const [key, where] of this.#learned) {
      if (nowMs - where.seenMs < MAC_AGE_MS) continue;
      this.#learned.delete(key);
      this.#onLearned();
    }
  }

  /** The buckets of a group that a packet goes through. */
  #bucketsFor(run: Run, group: GroupEntry): GroupEntry['buckets'] {
    if (group.type === ofp.OFPGT_ALL || group.type === ofp.OFPGT_INDIRECT) return group.buckets;
    const up = new Set(this.#ports());
    const live = group.buckets.filter((b) => b.watch_port === ofp.OFPP_ANY || up.has(b.watch_port));
    if (group.type === ofp.OFPGT_FF) return live.slice(0, 1);
    const total = live.reduce((sum, b) => sum + b.weight, 0);
    let at = total > 0 ? connectionHash(run.c.packet) % total : 0;
    for (const b of live) {
      if (at < b.weight) return [b];
      at -= b.weight;
    }
    return [];
  }

  #begin(packet: Packet, inPort: number, o: ProcessOptions): Run {
    return {
      c: { packet, inPort, metadata: 0n, tunnelId: o.tunnelId ?? 0n },
      queue: 0,
      actionSet: new Map(),
      tableId: 0,
      entry: undefined,
      isPacketOut: false,
      nowMs: o.nowMs ?? 0,
      isTraffic: o.isTraffic ?? true,
      outcome: { outputs: [], toController: [], matchedFlows: [], meters: [] },
    };
  }

  #pipeline(run: Run): void {
    for (let next: number | undefined = 0; next !== undefined; ) {
      run.tableId = next;
      next = undefined;
      const table = this.#tables[run.tableId] as readonly FlowEntry[];
      const entry = table.find((e) => matches(e.tests, run.c));
      if (entry === undefined) break;
      run.entry = entry;
      run.outcome.matchedFlows.push(entry);
      if (run.isTraffic) {
        entry.packets++;
        entry.bytes += frameLength(run.c.packet);
        entry.usedMs = run.nowMs;
      }
      // Instructions run in the specification's order, whatever the order in the message (OpenFlow 1.3.5 5.9).
      for (const i of entry.instructions) if (i.cls === 'OFPInstructionMeter') run.outcome.meters.push(i.meter_id);
      for (const i of entry.instructions) {
        if (i.cls === 'OFPInstructionActions' && i.type === ofp.OFPIT_APPLY_ACTIONS) this.#apply(run, i.actions);
      }
      for (const i of entry.instructions) {
        if (i.cls !== 'OFPInstructionActions') continue;
        if (i.type === ofp.OFPIT_CLEAR_ACTIONS) run.actionSet.clear();
      }
      for (const i of entry.instructions) {
        if (i.cls !== 'OFPInstructionActions' || i.type !== ofp.OFPIT_WRITE_ACTIONS) continue;
        for (const a of i.actions) run.actionSet.set(a.cls === 'OFPActionSetField' ? `set ${a.field}` : a.cls, a);
      }
      for (const i of entry.instructions) {
        if (i.cls !== 'OFPInstructionWriteMetadata') continue;
        run.c.metadata = (run.c.metadata & ~i.metadata_mask) | (i.metadata & i.metadata_mask);
      }
      for (const i of entry.instructions) if (i.cls === 'OFPInstructionGotoTable') next = i.table_id;
    }
    if (run.entry === undefined) return;
    const ordered = [...run.actionSet.values()].sort((a, b) => setOrder(a) - setOrder(b));
    this.#apply(run, ordered);
  }

  #apply(run: Run, actions: readonly Action[]): void {
    const { c } = run;
    for (const a of actions) {
      switch (a.cls) {
        case 'OFPActionOutput':
          this.#output(run, a.port, a.max_len);
          break;
        case 'OFPActionSetQueue':
          run.queue = a.queue_id;
          break;
        case 'OFPActionGroup': {
          const group = this.#groups.get(a.group_id);
          if (group === undefined) break;
          for (const bucket of this.#bucketsFor(run, group)) {
            // What a bucket does to the packet is undone for whatever comes after it (OpenFlow 1.3.5 5.6.1).
            const before = { ...c };
            this.#apply(run, bucket.actions);
            Object.assign(c, before);
          }
          break;
        }
        case 'OFPActionSetField':
          setField(c, a.field, a.value);
          break;
        case 'OFPActionPushVlan': {
          const outer = c.packet.vlans?.[0];
          const tag = { tpid: a.ethertype, vid: outer?.vid ?? 0, pcp: outer?.pcp ?? 0 };
          c.packet = { ...c.packet, vlans: [tag, ...(c.packet.vlans ?? [])] };
          break;
        }
        case 'OFPActionPopVlan': {
          const { vlans = [], ...rest } = c.packet;
          if (vlans.length > 0) c.packet = vlans.length > 1 ? { ...rest, vlans: vlans.slice(1) } : rest;
          break;
        }
        case 'OFPActionSetNwTtl':
          if (c.packet.ip_ttl !== undefined) c.packet = { ...c.packet, ip_ttl: a.nw_ttl };
          break;
        case 'OFPActionDecNwTtl': {
          const ttl = c.packet.ip_ttl;
          if (ttl === undefined) break;
          // At the end of its life the packet goes no further; the controller is told only if it asked for it (7.3.2).
          if (ttl <= 1) return;
          c.packet = { ...c.packet, ip_ttl: ttl - 1 };
          break;
        }
        default:
          break;
      }
    }
  }

  #output(run: Run, port: number, maxLen: number): void {
    const { c, outcome } = run;
    const send = (p: number) =>
      outcome.outputs.push({ port: p, packet: c.packet, queue: run.queue, tunnelId: c.tunnelId });
    switch (port) {
      case ofp.OFPP_CONTROLLER: {
        const miss = run.entry !== undefined && run.entry.priority === 0 && run.entry.tests.length === 0;
        outcome.toController.push({
          packet: c.packet,
          reason: miss ? ofp.OFPR_NO_MATCH : ofp.OFPR_ACTION,
          tableId: run.tableId,
          cookie: run.entry?.cookie ?? 0xffff_ffff_ffff_ffffn,
          maxLen,
          inPort: c.inPort,
          metadata: c.metadata,
          tunnelId: c.tunnelId,
        });
        return;
      }
      case ofp.OFPP_TABLE:
        if (run.isPacketOut) {
          run.isPacketOut = false;
          this.#pipeline(run);
        }
        return;
      case ofp.OFPP_IN_PORT:
        if (c.inPort !== ofp.OFPP_CONTROLLER) send(c.inPort);
        return;
      case ofp.OFPP_FLOOD:
      case ofp.OFPP_ALL:
        for (const p of this.#ports()) if (p !== c.inPort) send(p);
        return;
      case ofp.OFPP_NORMAL:
        this.#normal(run, send);
        return;
      default:
        // A packet goes back where it came from only by OFPP_IN_PORT (7.2.1).
        if (port !== c.inPort) send(port);
    }
  }

  /** A learning switch, per VLAN. */
  #normal(run: Run, send: (port: number) => void): void {
    const { packet, inPort } = run.c;
    const vlan = packet.vlans?.[0]?.vid ?? 0;
    if (run.isTraffic && inPort !== ofp.OFPP_CONTROLLER && !isGroupAddress(packet.eth_src)) {
      const key = `${vlan} ${packet.eth_src}`;
      const had = this.#learned.get(key);
      if (had?.port !== inPort) this.#onLearned();
      this.#learned.set(key, { port: inPort, seenMs: run.nowMs });
    }
    // Link-local control protocols stop at a bridge (IEEE 802.1Q 8.6.3).
    if (packet.eth_dst.startsWith('01:80:c2:00:00:0')) return;
    const known = isGroupAddress(packet.eth_dst) ? undefined : this.#learned.get(`${vlan} ${packet.eth_dst}`);
    if (known !== undefined) {
      if (known.port !== inPort) send(known.port);
      return;
    }
    for (const p of this.#ports()) if (p !== inPort) send(p);
  }
}

const isGroupAddress = (mac: string): boolean => (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1;

/** FNV-1a over addresses and ports: packets of one connection in one direction have the same. */
function connectionHash(p: Packet): number {
  const text = [
    p.eth_src,
    p.eth_dst,
    p.ip_proto,
    p.ipv4_src,
    p.ipv4_dst,
    p.tcp_src,
    p.tcp_dst,
    p.udp_src,
    p.udp_dst,
  ].join();
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Order in which the action set is carried out (OpenFlow 1.3.5 5.10). */
function setOrder(a: Action): number {
  const order = [
    'OFPActionPopVlan',
    'OFPActionPushVlan',
    'OFPActionDecNwTtl',
    'OFPActionSetNwTtl',
    'OFPActionSetField',
  ];
  const last = ['OFPActionSetQueue', 'OFPActionOutput'];
  const at = order.indexOf(a.cls);
  return at >= 0 ? at : order.length + last.indexOf(a.cls);
}

function setField(c: PacketContext, field: string, value: unknown): void {
  if (!isMatchField(field)) return;
  const p = c.packet;
  if (field === 'tunnel_id') {
    c.tunnelId = BigInt(value as bigint);
  } else if (field === 'metadata') {
    c.metadata = BigInt(value as bigint);
  } else if (field === 'vlan_vid' || field === 'vlan_pcp') {
    const [outer, ...inner] = p.vlans ?? [];
    if (outer === undefined) return;
    const tag = field === 'vlan_vid' ? { ...outer, vid: Number(value) & 0xfff } : { ...outer, pcp: Number(value) };
    c.packet = { ...p, vlans: [tag, ...inner] };
  } else if (field !== 'in_port' && p[field] !== undefined) {
    c.packet = { ...p, [field]: typeof value === 'bigint' ? Number(value) : value };
  }
}
