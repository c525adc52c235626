/**
 * The flow tables of an emulated switch (OpenFlow 1.3.5 chapters 5 and 6): takes flow-, meter- and group-mods as the
 * controller sends them, and says where a packet comes out, for which it asks pipeline.ts. emulatedSwitch.ts puts it behind
 * a TCP connection; tests use it alone, to check forwarding instead of lists of messages. entries.ts has what the tables
 * hold, actionChecks.ts which actions are refused. Pure: time is an argument.
 *
 * Where the specification leaves a choice this behaves like Open vSwitch: flows and actions are checked when they are
 * added, one port may be output to before it exists, and a modified meter starts again with zeroed counters.
 */
import { type OFPMatch, ofproto_v1_3 as ofp } from 'node-openflow';
import type { Packet } from '../packet.ts';
import { checkActions } from './actionChecks.ts';
import {
  type Action,
  type FlowEntry,
  type FlowMod,
  type GroupEntry,
  type GroupMod,
  type Instruction,
  type MeterEntry,
  type MeterMod,
  type Outcome,
  outputsTo,
  type RemovedFlow,
  usesGroup,
  usesMeter,
} from './entries.ts';
import { compileMatch, covers, type FieldTest, isSameMatch, type OfErrorCode, overlaps } from './match.ts';
import { Pipeline, type ProcessOptions } from './pipeline.ts';

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

const MAX_METER_BANDS = 8;
const err = (type: number, code: number): OfErrorCode => ({ type, code });

export class FlowTables {
  /** Grows with every change that can alter where packets go: flows, meters, learned addresses. */
  version = 0;
  readonly #tables: FlowEntry[][];
  readonly #meters = new Map<number, MeterEntry>();
  readonly #groups = new Map<number, GroupEntry>();
  readonly #pipeline: Pipeline;
  readonly #onRemoved: (removed: RemovedFlow) => void;
  readonly #maxFlows: number;
  readonly #maxMeters: number;
  readonly maxGroups: number;

  constructor(o: FlowTablesOptions = {}) {
    this.#tables = Array.from({ length: o.tables ?? 254 }, () => []);
    this.#pipeline = new Pipeline(this.#tables, this.#groups, o.ports ?? (() => []), () => this.version++);
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
          if (outputsTo(entry, mod.out_port) && usesGroup(entry, mod.out_group)) {
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
      (e) => outputsTo(e, o.out_port) && usesGroup(e, o.out_group),
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
    this.#pipeline.expire(nowMs);
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
      if (usesMeter(entry, id)) {
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
    return this.#pipeline.process(packet, inPort, o);
  }

  /** What the actions of a packet-out do with a packet. */
  execute(actions: readonly Action[], packet: Packet, inPort: number, o: ProcessOptions = {}): Outcome {
    return this.#pipeline.execute(actions, packet, inPort, o);
  }

  /** What a switch answers to actions it cannot carry out. */
  checkActions(actions: readonly Action[]): OfErrorCode | undefined {
    return checkActions(actions, undefined, (id) => this.#groups.has(id));
  }

  /** Forgets what was learned on a port that went away. */
  forgetPort(port: number): void {
    this.#pipeline.forgetPort(port);
  }
}
