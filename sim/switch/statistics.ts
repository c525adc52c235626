/**
 * What an emulated switch answers to multipart requests (OpenFlow 1.3.5 §7.3.5): descriptions and counters of itself, its
 * ports and queues, flows, meters and groups. emulatedSwitch.ts sends them; flowTables.ts has the entries.
 */
import { type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { type FlowEntry, usesMeter } from './entries.ts';
import type { FlowTables } from './flowTables.ts';
import { describePort, type EmulatedPort } from './ports.ts';

/** Multipart replies are cut so that no message comes near the 64 KiB its length field can say. */
const REPLY_ENTRIES = 100;

/** The switch that is asked. */
export interface Asked {
  readonly name: string;
  readonly tables: FlowTables;
  readonly ports: ReadonlyMap<number, EmulatedPort>;
}

/** The answer to a multipart request in all its parts, or the code of the OFPET_BAD_REQUEST it is refused with. */
export function statistics(m: OfMessage<4>, asked: Asked, now: number): OfMessage<4>[] | number {
  const { name, tables, ports } = asked;
  switch (m.cls) {
    case 'OFPDescStatsRequest':
      return [
        of13.OFPDescStatsReply({
          body: of13.OFPDescStats({
            mfr_desc: 'Fairway',
            hw_desc: 'Emulated switch',
            sw_desc: '0.1.0',
            serial_num: 'None',
            dp_desc: name,
          }),
        }),
      ];
    case 'OFPPortDescStatsRequest':
      return inParts([...ports.values()].map(describePort), (body, flags) =>
        of13.OFPPortDescStatsReply({ flags, body }),
      );
    case 'OFPPortStatsRequest': {
      const some = [...ports.values()].filter((p) => m.port_no === ofp.OFPP_ANY || p.portNo === m.port_no);
      if (some.length === 0 && m.port_no !== ofp.OFPP_ANY) return ofp.OFPBRC_BAD_PORT;
      return inParts(
        some.map((p) => portStats(p, now)),
        (body, flags) => of13.OFPPortStatsReply({ flags, body }),
      );
    }
    case 'OFPQueueStatsRequest':
      return inParts(queueStats(ports, m.port_no, m.queue_id, now), (body, flags) =>
        of13.OFPQueueStatsReply({ flags, body }),
      );
    case 'OFPFlowStatsRequest':
      return inParts(
        tables.flowsLike(m).map((e) => flowStats(e, now)),
        (body, flags) => of13.OFPFlowStatsReply({ flags, body }),
      );
    case 'OFPAggregateStatsRequest': {
      const flows = tables.flowsLike(m);
      const sum = (of: (e: FlowEntry) => number) => BigInt(Math.floor(flows.reduce((s, e) => s + of(e), 0)));
      return [
        of13.OFPAggregateStatsReply({
          body: of13.OFPAggregateStats({
            packet_count: sum((e) => e.packets),
            byte_count: sum((e) => e.bytes),
            flow_count: flows.length,
          }),
        }),
      ];
    }
    case 'OFPMeterStatsRequest':
      return inParts(meterStats(tables, m.meter_id, now), (body, flags) => of13.OFPMeterStatsReply({ flags, body }));
    case 'OFPMeterConfigStatsRequest': {
      const body = metersLike(tables, m.meter_id).map((meter) =>
        of13.OFPMeterConfigStats({
          flags: meter.flags,
          meter_id: meter.meterId,
          bands: meter.bands.map((b) => of13.OFPMeterBandDrop({ rate: b.rateKbps, burst_size: b.burstKbits })),
        }),
      );
      return inParts(body, (part, flags) => of13.OFPMeterConfigStatsReply({ flags, body: part }));
    }
    case 'OFPMeterFeaturesStatsRequest':
      return [
        of13.OFPMeterFeaturesStatsReply({
          body: [
            of13.OFPMeterFeaturesStats({
              max_meter: tables.maxMeters,
              band_types: 1 << ofp.OFPMBT_DROP,
              capabilities: ofp.OFPMF_KBPS | ofp.OFPMF_BURST | ofp.OFPMF_STATS,
              max_bands: 8,
              max_color: 0,
            }),
          ],
        }),
      ];
    case 'OFPGroupStatsRequest':
      return [of13.OFPGroupStatsReply({ body: [] })];
    case 'OFPGroupDescStatsRequest':
      return inParts(
        tables
          .groups()
          .map(({ groupId, type, buckets }) => of13.OFPGroupDescStats({ group_id: groupId, type, buckets })),
        (body, flags) => of13.OFPGroupDescStatsReply({ flags, body }),
      );
    case 'OFPGroupFeaturesStatsRequest': {
      const types = (1 << ofp.OFPGT_ALL) | (1 << ofp.OFPGT_SELECT) | (1 << ofp.OFPGT_INDIRECT) | (1 << ofp.OFPGT_FF);
      const outputs = (1 << ofp.OFPAT_OUTPUT) | (1 << ofp.OFPAT_PUSH_VLAN) | (1 << ofp.OFPAT_POP_VLAN);
      const max_groups = [1, 1, 1, 1].map(() => tables.maxGroups);
      const capabilities = ofp.OFPGFC_SELECT_WEIGHT | ofp.OFPGFC_SELECT_LIVENESS;
      const body = of13.OFPGroupFeaturesStats({
        types,
        capabilities,
        max_groups,
        actions: max_groups.map(() => outputs),
      });
      return [of13.OFPGroupFeaturesStatsReply({ body })];
    }
    case 'OFPTableStatsRequest':
    case 'OFPTableFeaturesStatsRequest':
    case 'OFPExperimenterStatsRequest':
    case 'OFPMultipartRequestUnknown':
      return ofp.OFPBRC_BAD_MULTIPART;
    default:
      return ofp.OFPBRC_BAD_TYPE;
  }
}

function inParts<T>(all: readonly T[], make: (part: T[], flags: number) => OfMessage<4>): OfMessage<4>[] {
  const parts: OfMessage<4>[] = [];
  for (let at = 0; ; at += REPLY_ENTRIES) {
    const isLast = at + REPLY_ENTRIES >= all.length;
    parts.push(make(all.slice(at, at + REPLY_ENTRIES), isLast ? 0 : ofp.OFPMPF_REPLY_MORE));
    if (isLast) return parts;
  }
}

function queueStats(ports: Asked['ports'], portNo: number, queueId: number, now: number) {
  return [...ports.values()]
    .filter((p) => portNo === ofp.OFPP_ANY || p.portNo === portNo)
    .flatMap((p) =>
      [...p.queues]
        .filter(([id]) => queueId === ofp.OFPQ_ALL || id === queueId)
        .map(([id, q]) =>
          of13.OFPQueueStats({
            port_no: p.portNo,
            queue_id: id,
            tx_bytes: BigInt(Math.floor(q.txBytes)),
            tx_packets: BigInt(Math.floor(q.txPackets)),
            ...duration(now - q.sinceMs),
          }),
        ),
    );
}

function metersLike(tables: FlowTables, id: number) {
  return tables.meters().filter((m) => id === ofp.OFPM_ALL || m.meterId === id);
}

function meterStats(tables: FlowTables, id: number, now: number) {
  const flows = tables.flows();
  return metersLike(tables, id).map((m) =>
    of13.OFPMeterStats({
      meter_id: m.meterId,
      flow_count: flows.filter((e) => usesMeter(e, m.meterId)).length,
      packet_in_count: BigInt(Math.floor(m.packetsIn)),
      byte_in_count: BigInt(Math.floor(m.bytesIn)),
      ...duration(now - m.sinceMs),
      band_stats: m.bands.map(() =>
        of13.OFPMeterBandStats({
          packet_band_count: BigInt(Math.floor(m.droppedPackets)),
          byte_band_count: BigInt(Math.floor(m.droppedBytes)),
        }),
      ),
    }),
  );
}

/** A time as messages have it. */
export function duration(ms: number): { duration_sec: number; duration_nsec: number } {
  const whole = Math.max(0, ms);
  return { duration_sec: Math.floor(whole / 1000), duration_nsec: Math.floor((whole % 1000) * 1e6) };
}

function portStats(p: EmulatedPort, now: number) {
  return of13.OFPPortStats({
    port_no: p.portNo,
    rx_packets: BigInt(Math.floor(p.rxPackets)),
    tx_packets: BigInt(Math.floor(p.txPackets)),
    rx_bytes: BigInt(Math.floor(p.rxBytes)),
    tx_bytes: BigInt(Math.floor(p.txBytes)),
    tx_dropped: BigInt(p.txDropped),
    ...duration(now - p.sinceMs),
  });
}

function flowStats(e: FlowEntry, now: number) {
  return of13.OFPFlowStats({
    table_id: e.tableId,
    ...duration(now - e.sinceMs),
    priority: e.priority,
    idle_timeout: e.idleTimeoutS,
    hard_timeout: e.hardTimeoutS,
    flags: e.flags,
    cookie: e.cookie,
    packet_count: BigInt(Math.floor(e.packets)),
    byte_count: BigInt(Math.floor(e.bytes)),
    match: e.match,
    instructions: [...e.instructions],
  });
}
