/**
 * The flow tables of an emulated switch (OpenFlow 1.3.5 chapters 5 and 6): takes flow-, meter- and group-mods as the controller
 * sends them, and says where a packet comes out. emulatedSwitch.ts puts it behind a TCP connection; tests use it alone, to
 * check forwarding instead of lists of messages. match.ts holds packets against matches. Pure: time is an argument.
 *
 * Where the specification leaves a choice this behaves like Open vSwitch: flows and actions are checked when they are
 * added, one port may be output to before it exists, and a modified meter starts again with zeroed counters.
 */
import { type OFPMatch, type OfMessage, ofproto_v1_3 as ofp } from 'node-openflow';
import { ETH_IPV4, ETH_QINQ, ETH_VLAN, type Packet } from '../packet.ts';
import {
  compileMatch,
  covers,
  type FieldTest,
  hasPrerequisite,
  isMatchField,
  isSameMatch,
  type MatchField,
  matches,
  type OfErrorCode,
  overlaps,
  type PacketContext,
} from './match.ts';

export type { OfErrorCode } from './match.ts';

export type FlowMod = Extract<OfMessage<4>, { cls: 'OFPFlowMod' }>;
export type MeterMod = Extract<OfMessage<4>, { cls: 'OFPMeterMod' }>;
export type GroupMod = Extract<OfMessage<4>, { cls: 'OFPGroupMod' }>;
export type Instruction = FlowMod['instructions'][number];
export type Action = Extract<OfMessage<4>, { cls: 'OFPPacketOut' }>['actions'][number];

/** One flow. Counters are plain numbers, fractional while the fluid adds to them. */
export interface FlowEntry {
  readonly tableId: number;
  readonly priority: number;
  readonly match: OFPMatch;
  readonly tests: readonly FieldTest[];
  readonly cookie: bigint;
  readonly flags: number;
  readonly idleTimeoutS: number;
  readonly hardTimeoutS: number;
  instructions: readonly Instruction[];
  packets: number;
  bytes: number;
  readonly sinceMs: number;
  usedMs: number;
}

export interface MeterEntry {
  readonly meterId: number;
  flags: number;
  bands: readonly { rateKbps: number; burstKbits: number }[];
  sinceMs: number;
  packetsIn: number;
  bytesIn: number;
  droppedPackets: number;
  droppedBytes: number;
}

/** A flow that ended, and why (OFPRR_*). */
export interface RemovedFlow {
  entry: FlowEntry;
  reason: number;
  atMs: number;
}

/** One copy of a packet that leaves by a port. */
export interface PacketOutput {
  port: number;
  packet: Packet;
  /** As set by set_queue; 0 is the default queue. */
  queue: number;
  tunnelId: bigint;
}

/** One copy of a packet for the controller. */
export interface PacketToController {
  packet: Packet;
  /** OFPR_NO_MATCH or OFPR_ACTION. */
  reason: number;
  tableId: number;
  cookie: bigint;
  maxLen: number;
  inPort: number;
  metadata: bigint;
  tunnelId: bigint;
}

/** Everything that became of one packet. No outputs and nothing for the controller: it was dropped. */
export interface Outcome {
  outputs: PacketOutput[];
  toController: PacketToController[];
  matchedFlows: FlowEntry[];
  /** Meters it went through. */
  meters: number[];
}

/** A group: type (OFPGT_*) and buckets as they came. */
export interface GroupEntry {
  groupId: number;
  type: number;
  buckets: GroupMod['buckets'];
}

export interface FlowTablesOptions {
  /** Number of tables, at most 254. */
  tables?: number;
  /** Flows in all tables together. */
  maxFlows?: number;
  maxMeters?: number;
  /** 0: a switch without groups. */
  maxGroups?: number;
  /** Numbers of the ports that are up, and so those that FLOOD, ALL and NORMAL reach (OFPP_LOCAL among them where the switch has one). */
  ports?: () => Iterable<number>;
  /** Called for every flow that ends with OFPFF_SEND_FLOW_REM. */
  onRemoved?: (removed: RemovedFlow) => void;
}

export interface ProcessOptions {
  nowMs?: number;
  /** False leaves counters and learned addresses as they are: a question, not traffic. */
  isTraffic?: boolean;
  tunnelId?: bigint;
}

const MAC_AGE_MS = 300_000;
const MAX_METER_BANDS = 8;
const err = (type: number, code: number): OfErrorCode => ({ type, code });

export class FlowTables {
  /** Grows with every change that can alter where packets go: flows, meters, learned addresses. */
  version = 0;
  readonly #tables: FlowEntry[][];
  readonly #meters = new Map<number, MeterEntry>();
  readonly #groups = new Map<number, GroupEntry>();
  readonly #learned = new Map<string, { port: number; seenMs: number }>();
  readonly #ports: () => Iterable<number>;
  readonly #onRemoved: (removed: RemovedFlow) => void;
  readonly #maxFlows: number;
  readonly #maxMeters: number;
  readonly maxGroups: number;

  constructor(o: FlowTablesOptions = {}) {
    this.#tables = Array.from({ length: o.tables ?? 254 }, () => []);
    this.#ports = o.ports ?? (() => []);
    this.#onRemoved = o.onRemoved ?? (() => {});
    this.#maxFlows = o.maxFlows ?? 100_000;
    this.#maxMeters = o.maxMeters ?? 65_535;
    this.maxGroups = o.maxGroups ?? 65_535;
  }

  get tableCount(): number {
    return this.#tables.length;
  }

  get maxMeters(): number {
    return this.#maxMeters;
  }

  /** All flows, table by table, highest priority first. */
  flows(): FlowEntry[] {
    return this.#tables.flat();
  }

  meters(): MeterEntry[] {
    return [...this.#meters.values()];
  }

  groups(): GroupEntry[] {
    return [...this.#groups.values()];
  }

  meter(id: number): MeterEntry | undefined {
    return this.#meters.get(id);
  }

  /** Carries out a flow-mod, meter-mod or group-mod; what the switch answers with, nothing when it is done. */
  apply(mod: FlowMod | MeterMod | GroupMod, nowMs = 0): OfErrorCode[] {
    if (mod.cls === 'OFPMeterMod') return this.#applyMeter(mod, nowMs);
    if (mod.cls === 'OFPGroupMod') return this.#applyGroup(mod, nowMs);
    const isDelete = mod.command === ofp.OFPFC_DELETE || mod.command === ofp.OFPFC_DELETE_STRICT;
    if (mod.table_id !== ofp.OFPTT_ALL && mod.table_id >= this.#tables.length) {
      return [err(ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_BAD_TABLE_ID)];
    }
    if (mod.table_id === ofp.OFPTT_ALL && !isDelete) {
      return [err(ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_BAD_TABLE_ID)];
    }
    const compiled = compileMatch(mod.match);
    if ('error' in compiled) return [compiled.error];
    if (!isDelete) {
      const wrong = this.#checkInstructions(mod.instructions, mod.table_id, compiled.tests);
      if (wrong !== undefined) return [wrong];
    }
    switch (mod.command) {
      case ofp.OFPFC_ADD:
        return this.#add(mod, compiled.tests, nowMs);
      case ofp.OFPFC_MODIFY:
      case ofp.OFPFC_MODIFY_STRICT:
        for (const entry of this.#selected(mod, compiled.tests, mod.command === ofp.OFPFC_MODIFY_STRICT)) {
          entry.instructions = mod.instructions;
          if ((mod.flags & ofp.OFPFF_RESET_COUNTS) !== 0) {
            entry.packets = 0;
            entry.bytes = 0;
          }
        }
        this.version++;
        return [];
      case ofp.OFPFC_DELETE:
      case ofp.OFPFC_DELETE_STRICT: {
        const strict = mod.command === ofp.OFPFC_DELETE_STRICT;
        for (const entry of this.#selected(mod, compiled.tests, strict)) {
          if (outputsTo(entry, mod.out_port) && (mod.out_group === ofp.OFPG_ANY || usesGroup(entry, mod.out_group))) {
            this.#remove(entry, ofp.OFPRR_DELETE, nowMs);
          }
        }
        return [];
      }
      default:
        return [err(ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_BAD_COMMAND)];
    }
  }

  /** Carries all of them out or, when one is refused, none; then `at` says which. Packets and counters meet no part of it. */
  applyAll(mods: readonly (FlowMod | GroupMod)[], nowMs = 0): { at: number; error: OfErrorCode } | undefined {
    const trial = new FlowTables({
      tables: this.tableCount,
      maxFlows: this.#maxFlows,
      maxMeters: this.#maxMeters,
      maxGroups: this.maxGroups,
    });
    this.#tables.forEach((table, i) => {
      trial.#tables[i] = table.map((e) => ({ ...e }));
    });
    for (const m of this.#meters.values()) trial.#meters.set(m.meterId, { ...m });
    for (const g of this.#groups.values()) trial.#groups.set(g.groupId, g);
    for (const [at, mod] of mods.entries()) {
      const [error] = trial.apply(mod, nowMs);
      if (error !== undefined) return { at, error };
    }
    for (const mod of mods) this.apply(mod, nowMs);
    return undefined;
  }

  #add(mod: FlowMod, tests: FieldTest[], nowMs: number): OfErrorCode[] {
    const table = this.#tables[mod.table_id] as FlowEntry[];
    const same = table.findIndex((e) => e.priority === mod.priority && isSameMatch(e.tests, tests));
    if ((mod.flags & ofp.OFPFF_CHECK_OVERLAP) !== 0) {
      if (table.some((e) => e.priority === mod.priority && overlaps(e.tests, tests))) {
        return [err(ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_OVERLAP)];
      }
    }
    let total = 0;
    for (const t of this.#tables) total += t.length;
    if (same < 0 && total >= this.#maxFlows) return [err(ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_TABLE_FULL)];
    // Counters of a replaced flow live on unless the controller asks otherwise (OpenFlow 1.3.5 6.4).
    const old = (mod.flags & ofp.OFPFF_RESET_COUNTS) === 0 ? table[same] : undefined;
    const entry: FlowEntry = {
      tableId: mod.table_id,
      priority: mod.priority,
      match: mod.match,
      tests,
      cookie: mod.cookie,
      flags: mod.flags,
      idleTimeoutS: mod.idle_timeout,
      hardTimeoutS: mod.hard_timeout,
      instructions: mod.instructions,
      packets: old?.packets ?? 0,
      bytes: old?.bytes ?? 0,
      sinceMs: nowMs,
      usedMs: nowMs,
    };
    if (same >= 0) {
      table[same] = entry;
    } else {
      const at = table.findIndex((e) => e.priority < entry.priority);
      table.splice(at < 0 ? table.length : at, 0, entry);
    }
    this.version++;
    return [];
  }

  /** Flows a modify or delete is about; strict: exactly this match and priority. Counters requests select the same way. */
  #selected(
    mod: Pick<FlowMod, 'table_id' | 'cookie' | 'cookie_mask'> & { priority?: number },
    tests: readonly FieldTest[],
    strict: boolean,
  ): FlowEntry[] {
    const tables = mod.table_id === ofp.OFPTT_ALL ? this.#tables : [this.#tables[mod.table_id] ?? []];
    return tables.flat().filter((e) => {
      if ((e.cookie & mod.cookie_mask) !== (mod.cookie & mod.cookie_mask)) return false;
      return strict ? e.priority === mod.priority && isSameMatch(e.tests, tests) : covers(tests, e.tests);
    });
  }

  /** Flows that a flow-stats request asks for. */
  flowsLike(o: {
    table_id: number;
    out_port: number;
    out_group: number;
    cookie: bigint;
    cookie_mask: bigint;
    match: OFPMatch;
  }): FlowEntry[] {
    const compiled = compileMatch(o.match);
    if ('error' in compiled) return [];
    return this.#selected(o, compiled.tests, false).filter(
      (e) => outputsTo(e, o.out_port) && (o.out_group === ofp.OFPG_ANY || usesGroup(e, o.out_group)),
    );
  }

  #remove(entry: FlowEntry, reason: number, nowMs: number): void {
    const table = this.#tables[entry.tableId] as FlowEntry[];
    const at = table.indexOf(entry);
    if (at < 0) return;
    table.splice(at, 1);
    this.version++;
    if ((entry.flags & ofp.OFPFF_SEND_FLOW_REM) !== 0) this.#onRemoved({ entry, reason, atMs: nowMs });
  }

  /** Ends flows whose idle or hard timeout has passed (OpenFlow 1.3.5 5.5) and forgets old learned addresses. */
  expire(nowMs: number): void {
    for (const entry of this.#tables.flat()) {
      if (entry.hardTimeoutS > 0 && nowMs - entry.sinceMs >= entry.hardTimeoutS * 1000) {
        this.#remove(entry, ofp.OFPRR_HARD_TIMEOUT, nowMs);
      } else if (entry.idleTimeoutS > 0 && nowMs - entry.usedMs >= entry.idleTimeoutS * 1000) {
        this.#remove(entry, ofp.OFPRR_IDLE_TIMEOUT, nowMs);
      }
    }
    for (const [key, where] of this.#learned) {
      if (nowMs - where.seenMs < MAC_AGE_MS) continue;
      this.#learned.delete(key);
      this.version++;
    }
  }

  #applyGroup(mod: GroupMod, nowMs: number): OfErrorCode[] {
    const failed = (code: number) => [err(ofp.OFPET_GROUP_MOD_FAILED, code)];
    const had = this.#groups.has(mod.group_id);
    if (mod.command === ofp.OFPGC_DELETE) {
      // A delete of a group that is not there is no error (OpenFlow 1.3.5 6.7).
      const ids = mod.group_id === ofp.OFPG_ALL ? [...this.#groups.keys()] : [mod.group_id];
      for (const id of ids) this.#dropGroup(id, nowMs);
      return [];
    }
    if (mod.command !== ofp.OFPGC_ADD && mod.command !== ofp.OFPGC_MODIFY) return failed(ofp.OFPGMFC_BAD_COMMAND);
    if (mod.group_id > ofp.OFPG_MAX) return failed(ofp.OFPGMFC_INVALID_GROUP);
    if (mod.command === ofp.OFPGC_ADD && had) return failed(ofp.OFPGMFC_GROUP_EXISTS);
    if (mod.command === ofp.OFPGC_MODIFY && !had) return failed(ofp.OFPGMFC_UNKNOWN_GROUP);
    if (!had && this.#groups.size >= this.maxGroups) return failed(ofp.OFPGMFC_OUT_OF_GROUPS);
    if (mod.type === ofp.OFPGT_INDIRECT && mod.buckets.length !== 1) return failed(ofp.OFPGMFC_INVALID_GROUP);
    for (const b of mod.buckets) {
      // Groups that use groups are optional, and are not to be had here.
      if (b.actions.some((a) => a.cls === 'OFPActionGroup')) return failed(ofp.OFPGMFC_CHAINING_UNSUPPORTED);
      if (checkActions(b.actions, undefined) !== undefined) return failed(ofp.OFPGMFC_BAD_BUCKET);
    }
    this.#groups.set(mod.group_id, { groupId: mod.group_id, type: mod.type, buckets: mod.buckets });
    this.version++;
    return [];
  }

  #dropGroup(id: number, nowMs: number): void {
    if (!this.#groups.delete(id)) return;
    this.version++;
    // Flows that use a group go with it (OpenFlow 1.3.5 6.7).
    for (const entry of this.#tables.flat())
      if (usesGroup(entry, id)) this.#remove(entry, ofp.OFPRR_GROUP_DELETE, nowMs);
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

  #applyMeter(mod: MeterMod, nowMs: number): OfErrorCode[] {
    const failed = (code: number) => [err(ofp.OFPET_METER_MOD_FAILED, code)];
    const had = this.#meters.get(mod.meter_id);
    if (mod.command === ofp.OFPMC_DELETE) {
      if (mod.meter_id === ofp.OFPM_ALL) {
        for (const id of [...this.#meters.keys()]) this.#dropMeter(id, nowMs);
      } else {
        this.#dropMeter(mod.meter_id, nowMs);
      }
      return [];
    }
    if (mod.command !== ofp.OFPMC_ADD && mod.command !== ofp.OFPMC_MODIFY) return failed(ofp.OFPMMFC_BAD_COMMAND);
    if (mod.meter_id === 0 || mod.meter_id > ofp.OFPM_MAX) return failed(ofp.OFPMMFC_INVALID_METER);
    if (mod.command === ofp.OFPMC_ADD && had !== undefined) return failed(ofp.OFPMMFC_METER_EXISTS);
    if (mod.command === ofp.OFPMC_MODIFY && had === undefined) return failed(ofp.OFPMMFC_UNKNOWN_METER);
    if (had === undefined && this.#meters.size >= this.#maxMeters) return failed(ofp.OFPMMFC_OUT_OF_METERS);
    // Only rates in kbit/s mean something to a fluid.
    if ((mod.flags & ofp.OFPMF_KBPS) === 0 || (mod.flags & ofp.OFPMF_PKTPS) !== 0) return failed(ofp.OFPMMFC_BAD_FLAGS);
    if (mod.bands.length === 0 || mod.bands.length > MAX_METER_BANDS) return failed(ofp.OFPMMFC_OUT_OF_BANDS);
    const bands: { rateKbps: number; burstKbits: number }[] = [];
    for (const band of mod.bands) {
      if (band.cls !== 'OFPMeterBandDrop') return failed(ofp.OFPMMFC_BAD_BAND);
      if (band.rate === 0) return failed(ofp.OFPMMFC_BAD_RATE);
      bands.push({ rateKbps: band.rate, burstKbits: band.burst_size });
    }
    this.#meters.set(mod.meter_id, {
      meterId: mod.meter_id,
      flags: mod.flags,
      bands,
      sinceMs: nowMs,
      packetsIn: 0,
      bytesIn: 0,
      droppedPackets: 0,
      droppedBytes: 0,
    });
    this.version++;
    return [];
  }

  #dropMeter(id: number, nowMs: number): void {
    if (!this.#meters.delete(id)) return;
    this.version++;
    // Flows that use a meter go with it (OpenFlow 1.3.5 6.5).
    for (const entry of this.#tables.flat()) {
      if (entry.instructions.some((i) => i.cls === 'OFPInstructionMeter' && i.meter_id === id)) {
        this.#remove(entry, ofp.OFPRR_DELETE, nowMs);
      }
    }
  }

  #checkInstructions(
    instructions: readonly Instruction[],
    tableId: number,
    tests: readonly FieldTest[],
  ): OfErrorCode | undefined {
    for (const i of instructions) {
      switch (i.cls) {
        case 'OFPInstructionGotoTable':
          if (i.table_id <= tableId || i.table_id >= this.#tables.length) {
            return err(ofp.OFPET_BAD_INSTRUCTION, ofp.OFPBIC_BAD_TABLE_ID);
          }
          break;
        case 'OFPInstructionMeter':
          if (!this.#meters.has(i.meter_id)) return err(ofp.OFPET_METER_MOD_FAILED, ofp.OFPMMFC_INVALID_METER);
          break;
        case 'OFPInstructionWriteMetadata':
          break;
        case 'OFPInstructionActions': {
          const wrong = checkActions(i.actions, tests, (id) => this.#groups.has(id));
          if (wrong !== undefined) return wrong;
          break;
        }
        default:
          return err(ofp.OFPET_BAD_INSTRUCTION, ofp.OFPBIC_UNSUP_INST);
      }
    }
    return undefined;
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

  /** What a switch answers to actions it cannot carry out. */
  checkActions(actions: readonly Action[]): OfErrorCode | undefined {
    return checkActions(actions, undefined, (id) => this.#groups.has(id));
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
      const table = this.#tables[run.tableId] as FlowEntry[];
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
      if (had?.port !== inPort) this.version++;
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

  /** Forgets what was learned on a port that went away. */
  forgetPort(port: number): void {
    for (const [key, where] of this.#learned) if (where.port === port) this.#learned.delete(key);
    this.version++;
  }
}

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

const isGroupAddress = (mac: string): boolean => (Number.parseInt(mac.slice(0, 2), 16) & 1) === 1;

/** Length on the wire without building the bytes; frames are at least 60 bytes long. */
export function frameLength(p: Packet): number {
  const headers =
    p.arp_op !== undefined
      ? 28
      : p.tcp_src !== undefined
        ? 40
        : p.udp_src !== undefined
          ? 28
          : p.icmpv4_type !== undefined
            ? 24
            : p.ipv4_src !== undefined
              ? 20
              : 0;
  return Math.max(60, 14 + 4 * (p.vlans?.length ?? 0) + headers + (p.payload?.length ?? 0));
}

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

function outputsTo(entry: FlowEntry, port: number): boolean {
  if (port === ofp.OFPP_ANY) return true;
  return entry.instructions.some(
    (i) => i.cls === 'OFPInstructionActions' && i.actions.some((a) => a.cls === 'OFPActionOutput' && a.port === port),
  );
}

function usesGroup(entry: FlowEntry, group: number): boolean {
  return entry.instructions.some(
    (i) =>
      i.cls === 'OFPInstructionActions' && i.actions.some((a) => a.cls === 'OFPActionGroup' && a.group_id === group),
  );
}

/**
 * Checks actions as Open vSwitch does: `tests` are the flow's match, which must pin down the headers that set-field writes
 * (OFPBAC_MATCH_INCONSISTENT otherwise); undefined in a packet-out, where the packet itself decides.
 */
function checkActions(
  actions: readonly Action[],
  tests: readonly FieldTest[] | undefined,
  hasGroup: (id: number) => boolean = () => false,
): OfErrorCode | undefined {
  const bad = (code: number) => err(ofp.OFPET_BAD_ACTION, code);
  let tagged = tests?.some((t) => t.name === 'vlan_vid' && (t.value & BigInt(ofp.OFPVID_PRESENT)) !== 0n) ?? true;
  for (const a of actions) {
    switch (a.cls) {
      case 'OFPActionOutput': {
        const reserved: readonly number[] = [
          ofp.OFPP_IN_PORT,
          ofp.OFPP_TABLE,
          ofp.OFPP_NORMAL,
          ofp.OFPP_FLOOD,
          ofp.OFPP_ALL,
          ofp.OFPP_CONTROLLER,
          ofp.OFPP_LOCAL,
        ];
        if (a.port === 0 || (a.port > ofp.OFPP_MAX && !reserved.includes(a.port))) return bad(ofp.OFPBAC_BAD_OUT_PORT);
        // Only a packet-out may start the pipeline (7.2.1).
        if (a.port === ofp.OFPP_TABLE && tests !== undefined) return bad(ofp.OFPBAC_BAD_OUT_PORT);
        break;
      }
      case 'OFPActionPushVlan':
        if (a.ethertype !== ETH_VLAN && a.ethertype !== ETH_QINQ) return bad(ofp.OFPBAC_BAD_ARGUMENT);
        tagged = true;
        break;
      case 'OFPActionPopVlan':
        if (!tagged) return bad(ofp.OFPBAC_MATCH_INCONSISTENT);
        tagged = false;
        break;
      case 'OFPActionSetField': {
        if (!isMatchField(a.field)) return bad(ofp.OFPBAC_BAD_SET_TYPE);
        if (a.field === 'in_port' || a.field === 'eth_type' || a.field === 'ip_proto')
          return bad(ofp.OFPBAC_BAD_SET_TYPE);
        if (a.field === 'vlan_vid' && (Number(a.value) & ofp.OFPVID_PRESENT) === 0) {
          return bad(ofp.OFPBAC_BAD_SET_ARGUMENT);
        }
        const isVlan = a.field === 'vlan_vid' || a.field === 'vlan_pcp';
        const fits = isVlan ? tagged : tests === undefined || hasPrerequisite(a.field as MatchField, tests);
        if (!fits) return bad(ofp.OFPBAC_MATCH_INCONSISTENT);
        break;
      }
      case 'OFPActionSetNwTtl':
      case 'OFPActionDecNwTtl':
        if (tests !== undefined && !tests.some((t) => t.name === 'eth_type' && Number(t.value) === ETH_IPV4)) {
          return bad(ofp.OFPBAC_MATCH_INCONSISTENT);
        }
        break;
      case 'OFPActionSetQueue':
        break;
      case 'OFPActionGroup':
        if (!hasGroup(a.group_id)) return bad(ofp.OFPBAC_BAD_OUT_GROUP);
        break;
      default:
        return bad(ofp.OFPBAC_BAD_TYPE);
    }
  }
  return undefined;
}
