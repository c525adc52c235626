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

/** What a switch can do with groups, as far as forwarding uses it. Both watch ports. */
export interface GroupAbility {
  /** Spreads connections over several ports. */
  select: boolean;
  /** Uses the first port that is up. */
  failover: boolean;
}

/** Groups of ours live in a range of their own, since groups carry no cookie. */
export const GROUP_BASE = 0xfa1c_0000;
export const GROUP_COUNT = 0x1_0000;
export const isOurGroup = (id: number): boolean => id >= GROUP_BASE && id < GROUP_BASE + GROUP_COUNT;

/** Output by one of several ports, each used only while it is up. Never changed once made. */
export interface Group {
  groupId: number;
  kind: 'select' | 'failover';
  buckets: readonly { port: number; weight: number }[];
  /** What it does, to compare by. */
  signature: string;
}

type GroupModOf = Extract<OfMessage<4>, { cls: 'OFPGroupMod' }>;
type Bucket = GroupModOf['buckets'][number];

export const groupSignature = (kind: Group['kind'], buckets: Group['buckets']): string =>
  `${kind} ${buckets.map((b) => (kind === 'select' ? `${b.port}*${b.weight}` : b.port)).join(' ')}`;

export function writeGroup(g: Group, command: 'add' | 'modify'): OfMessage<4> {
  return of13.OFPGroupMod({
    command: command === 'add' ? ofp.OFPGC_ADD : ofp.OFPGC_MODIFY,
    type: g.kind === 'select' ? ofp.OFPGT_SELECT : ofp.OFPGT_FF,
    group_id: g.groupId,
    buckets: g.buckets.map((b) =>
      of13.OFPBucket({
        weight: g.kind === 'select' ? b.weight : 0,
        watch_port: b.port,
        watch_group: ofp.OFPG_ANY,
        actions: [of13.OFPActionOutput({ port: b.port, max_len: 0 })],
      }),
    ),
  });
}

/** Removes a group, and with it the flows that use it (OpenFlow 1.3.5 §6.7): they must use another by then. */
export function removeGroup(groupId: number): OfMessage<4> {
  return of13.OFPGroupMod({ command: ofp.OFPGC_DELETE, type: ofp.OFPGT_ALL, group_id: groupId, buckets: [] });
}

/** A group as read from a switch; one that is not as we make them has a signature that none of ours has. */
export function groupFound(d: { type: number; group_id: number; buckets: readonly Bucket[] }): Group {
  const kind = d.type === ofp.OFPGT_SELECT ? 'select' : 'failover';
  const buckets = d.buckets.map((b) => ({ port: b.watch_port, weight: b.weight }));
  const isOurs =
    (d.type === ofp.OFPGT_SELECT || d.type === ofp.OFPGT_FF) &&
    d.buckets.every(({ actions: [a, ...rest], watch_port }) => {
      return rest.length === 0 && a?.cls === 'OFPActionOutput' && a.port === watch_port;
    });
  return { groupId: d.group_id, kind, buckets, signature: isOurs ? groupSignature(kind, buckets) : 'not ours' };
}
