/**
 * Flows as values: one entry of a flow table with a key that says which entry it is and a signature that says what it
 * does, so that desired and installed state can be compared. `desired.ts` makes them, `difference.ts` compares them,
 * the switch sessions read them back.
 */
import { encode, matchKey, type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';

type FlowModOf = Extract<OfMessage<4>, { cls: 'OFPFlowMod' }>;
export type Match = FlowModOf['match'];
export type Instructions = FlowModOf['instructions'];

export interface Flow {
  table: number;
  priority: number;
  match: Match;
  instructions: Instructions;
  cookie: bigint;
  /** Which entry: table, priority and match (OpenFlow 1.3.5 §6.4: an add with the same ones replaces). */
  key: string;
  /** What it does: cookie and instructions as they go over the wire. */
  signature: string;
}

export function flow(f: Pick<Flow, 'table' | 'priority' | 'match' | 'instructions' | 'cookie'>): Flow {
  const key = `${f.table}/${f.priority}/${matchKey(f.match)}`;
  const bare = of13.OFPFlowMod({ cookie: f.cookie, instructions: f.instructions });
  return { ...f, key, signature: encode(bare, 0).toString('base64') };
}

/** The message that installs a flow, or replaces the one with the same key (counters are kept). */
export function addFlow(f: Flow): OfMessage<4> {
  return of13.OFPFlowMod({
    cookie: f.cookie,
    table_id: f.table,
    command: ofp.OFPFC_ADD,
    priority: f.priority,
    buffer_id: ofp.OFP_NO_BUFFER,
    out_port: ofp.OFPP_ANY,
    out_group: ofp.OFPG_ANY,
    match: f.match,
    instructions: f.instructions,
  });
}

/** The message that removes exactly this flow and no one else's with the same match. */
export function removeFlow(f: Flow): OfMessage<4> {
  return of13.OFPFlowMod({
    cookie: f.cookie,
    cookie_mask: 0xffff_0000_0000_0000n,
    table_id: f.table,
    command: ofp.OFPFC_DELETE_STRICT,
    priority: f.priority,
    buffer_id: ofp.OFP_NO_BUFFER,
    out_port: ofp.OFPP_ANY,
    out_group: ofp.OFPG_ANY,
    match: f.match,
    instructions: [],
  });
}

/** Guard that polices a stream. `burstKbits` is the whole bucket (FACTS of Open vSwitch: 0 would mean one second's worth). */
export interface Meter {
  meterId: number;
  rateKbps: number;
  burstKbits: number;
}

export function writeMeter(m: Meter, command: 'add' | 'modify'): OfMessage<4> {
  return of13.OFPMeterMod({
    command: command === 'add' ? ofp.OFPMC_ADD : ofp.OFPMC_MODIFY,
    flags: ofp.OFPMF_KBPS | ofp.OFPMF_BURST,
    meter_id: m.meterId,
    bands: [of13.OFPMeterBandDrop({ rate: m.rateKbps, burst_size: m.burstKbits })],
  });
}

export function removeMeter(meterId: number): OfMessage<4> {
  return of13.OFPMeterMod({ command: ofp.OFPMC_DELETE, flags: 0, meter_id: meterId, bands: [] });
}
