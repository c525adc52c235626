/**
 * What the tables of an emulated switch hold, flows, meters and groups, and what becomes of a packet. flowTables.ts keeps
 * the entries, pipeline.ts takes packets through them.
 */
import { type OFPMatch, type OfMessage, ofproto_v1_3 as ofp } from 'node-openflow';
import type { Packet } from '../packet.ts';
import type { FieldTest } from './match.ts';

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

/** Whether a flow outputs to a port, at once or in the end; always for OFPP_ANY. */
export function outputsTo(entry: FlowEntry, port: number): boolean {
  if (port === ofp.OFPP_ANY) return true;
  return entry.instructions.some(
    (i) => i.cls === 'OFPInstructionActions' && i.actions.some((a) => a.cls === 'OFPActionOutput' && a.port === port),
  );
}

/** The same of a group and OFPG_ANY. */
export function usesGroup(entry: FlowEntry, group: number): boolean {
  if (group === ofp.OFPG_ANY) return true;
  return entry.instructions.some(
    (i) =>
      i.cls === 'OFPInstructionActions' && i.actions.some((a) => a.cls === 'OFPActionGroup' && a.group_id === group),
  );
}

export function usesMeter(entry: FlowEntry, meter: number): boolean {
  return entry.instructions.some((i) => i.cls === 'OFPInstructionMeter' && i.meter_id === meter);
}
