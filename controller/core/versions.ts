/**
 * OpenFlow 1.4 and 1.5 for a core that speaks 1.3: `toVersion` re-makes the messages the controller sends, `fromVersion`
 * those it gets. Pure. What is the same in all three goes through unchanged but for its version; the differences are
 * ports and queues with properties (1.4), meters as actions, statistics in OXS form and groups whose buckets have ids and
 * properties (1.5).
 */
import {
  type OfAction,
  type OfInstruction,
  type OfMessage,
  of13,
  of15,
  ofproto_v1_3 as ofp,
  ofproto_v1_5 as ofp15,
} from 'node-openflow';

/** Versions of switches that are served: 1.3, 1.4 and 1.5 by their number on the wire. */
export type SwitchVersion = 4 | 5 | 6;
export const SWITCH_VERSIONS: readonly SwitchVersion[] = [4, 5, 6];
type SwitchMessage = OfMessage<SwitchVersion>;
type MessageOf<V extends SwitchVersion, C extends OfMessage<V>['cls']> = Extract<OfMessage<V>, { cls: C }>;

/** As people write it: `1.3`. */
export const versionText = (v: SwitchVersion): string => `1.${v - 1}`;

// ---- to the switch -------------------------------------------------------------------------------------------------

/**
 * A message of 1.3 as the same in another version.
 *
 * @throws RangeError for the few classes that Fairway never sends and that have no counterpart
 */
export function toVersion(m: OfMessage<4>, version: SwitchVersion): SwitchMessage {
  if (version === 4) return m;
  return version === 5 ? to14(m) : to15(m);
}

function to14(m: OfMessage<4>): OfMessage<5> {
  switch (m.cls) {
    case 'OFPFlowMod':
      return { ...m, version: 5, importance: 0 };
    case 'OFPPacketOut':
    case 'OFPMeterMod':
    case 'OFPGroupMod':
    case 'OFPBarrierRequest':
    case 'OFPEchoRequest':
    case 'OFPSetConfig':
    case 'OFPRoleRequest':
    case 'OFPFeaturesRequest':
    case 'OFPPortDescStatsRequest':
    case 'OFPPortStatsRequest':
    case 'OFPQueueStatsRequest':
    case 'OFPFlowStatsRequest':
    case 'OFPMeterFeaturesStatsRequest':
    case 'OFPMeterConfigStatsRequest':
    case 'OFPGroupFeaturesStatsRequest':
    case 'OFPGroupDescStatsRequest':
      return { ...m, version: 5 };
    default:
      throw new RangeError(`${m.cls} is not sent to switches of OpenFlow 1.4`);
  }
}

function to15(m: OfMessage<4>): OfMessage<6> {
  switch (m.cls) {
    case 'OFPFlowMod':
      return { ...m, version: 6, importance: 0, instructions: instructionsTo15(m.instructions) };
    case 'OFPPacketOut': {
      const { buffer_id, in_port, actions, data } = m;
      return of15.OFPPacketOut({ buffer_id, match: of15.OFPMatch({ in_port }), actions, data });
    }
    case 'OFPGroupMod': {
      const { command, type, group_id } = m;
      const isDelete = command === ofp.OFPGC_DELETE;
      const buckets = isDelete ? [] : m.buckets.map((b, i) => bucketTo15(b, i, type));
      // It is about the group as a whole: only commands for single buckets, which are not used, name one. OpenFlow 1.5.1 §7.3.4.3.
      return of15.OFPGroupMod({ command, type, group_id, command_bucket_id: ofp15.OFPG_BUCKET_ALL, buckets });
    }
    case 'OFPGroupDescStatsRequest':
      return of15.OFPGroupDescStatsRequest({ group_id: ofp.OFPG_ALL });
    case 'OFPFlowStatsRequest': {
      const { table_id, out_port, out_group, cookie, cookie_mask, match } = m;
      return of15.OFPFlowDescStatsRequest({ table_id, out_port, out_group, cookie, cookie_mask, match });
    }
    case 'OFPMeterConfigStatsRequest':
      return of15.OFPMeterDescStatsRequest({ meter_id: m.meter_id });
    case 'OFPPortDescStatsRequest':
      return of15.OFPPortDescStatsRequest({ port_no: ofp.OFPP_ANY });
    case 'OFPRoleRequest':
      return of15.OFPRoleRequest({ role: m.role, generation_id: m.generation_id });
    case 'OFPMeterMod':
    case 'OFPBarrierRequest':
    case 'OFPEchoRequest':
    case 'OFPSetConfig':
    case 'OFPFeaturesRequest':
    case 'OFPPortStatsRequest':
    case 'OFPQueueStatsRequest':
    case 'OFPMeterFeaturesStatsRequest':
    case 'OFPGroupFeaturesStatsRequest':
      return { ...m, version: 6 };
    default:
      throw new RangeError(`${m.cls} is not sent to switches of OpenFlow 1.5`);
  }
}

type Bucket = MessageOf<4, 'OFPGroupMod'>['buckets'][number];

function bucketTo15(b: Bucket, index: number, type: number) {
  const weight = type === ofp.OFPGT_SELECT ? [of15.OFPGroupBucketPropWeight({ weight: b.weight })] : [];
  const watch = (watched: number, none: number, prop: number) =>
    watched === none ? [] : [of15.OFPGroupBucketPropWatch({ type: prop, watch: watched })];
  const port = watch(b.watch_port, ofp.OFPP_ANY, ofp15.OFPGBPT_WATCH_PORT);
  const group = watch(b.watch_group, ofp.OFPG_ANY, ofp15.OFPGBPT_WATCH_GROUP);
  return of15.OFPBucket({ bucket_id: index, actions: b.actions, properties: [...weight, ...port, ...group] });
}

/** 1.5 has no meter instruction: the meter is the first action to apply. OpenFlow 1.5.1 §7.2.6.5. */
function instructionsTo15(all: readonly OfInstruction<4>[]): OfInstruction<6>[] {
  const meters = all.flatMap((i) =>
    i.cls === 'OFPInstructionMeter' ? [of15.OFPActionMeter({ meter_id: i.meter_id })] : [],
  );
  const rest = all.filter((i) => i.cls !== 'OFPInstructionMeter');
  if (meters.length === 0) return rest;
  const isApply = (i: OfInstruction<6>) => i.cls === 'OFPInstructionActions' && i.type === ofp.OFPIT_APPLY_ACTIONS;
  const apply = rest.find(isApply);
  const actions = apply?.cls === 'OFPInstructionActions' ? apply.actions : [];
  const metered = of15.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions: [...meters, ...actions] });
  return [metered, ...rest.filter((i) => !isApply(i))];
}

// ---- from the switch -----------------------------------------------------------------------------------------------

/** A switch's message as one of 1.3; undefined when the controller has no use for its class. */
export function fromVersion(m: SwitchMessage): OfMessage<4> | undefined {
  if (is13(m)) return m;
  return is14(m) ? from14(m) : from15(m as OfMessage<6>);
}

const is13 = (m: SwitchMessage): m is OfMessage<4> => m.version === 4;
const is14 = (m: SwitchMessage): m is OfMessage<5> => m.version === 5;

function from14(m: OfMessage<5>): OfMessage<4> | undefined {
  switch (m.cls) {
    case 'OFPSwitchFeatures':
    case 'OFPPacketIn':
    case 'OFPErrorMsg':
    case 'OFPBarrierReply':
    case 'OFPEchoReply':
    case 'OFPRoleReply':
    case 'OFPFlowRemoved':
    case 'OFPMeterFeaturesStatsReply':
    case 'OFPMeterConfigStatsReply':
    case 'OFPGroupFeaturesStatsReply':
    case 'OFPGroupDescStatsReply':
      return { ...m, version: 4 };
    case 'OFPFlowStatsReply':
      return {
        ...m,
        version: 4,
        body: m.body.map(({ importance: _importance, ...f }) => f),
      };
    default:
      return fromBoth(m);
  }
}

function from15(m: OfMessage<6>): OfMessage<4> | undefined {
  switch (m.cls) {
    case 'OFPSwitchFeatures':
    case 'OFPPacketIn':
    case 'OFPErrorMsg':
    case 'OFPBarrierReply':
    case 'OFPEchoReply':
      return { ...m, version: 4 };
    case 'OFPMeterFeaturesStatsReply':
      return of13.OFPMeterFeaturesStatsReply({
        flags: m.flags,
        body: m.body.map((f) => of13.OFPMeterFeaturesStats(f)),
      });
    case 'OFPRoleReply':
      return of13.OFPRoleReply({ role: m.role, generation_id: m.generation_id });
    case 'OFPGroupFeaturesStatsReply':
      return of13.OFPGroupFeaturesStatsReply({ flags: m.flags, body: of13.OFPGroupFeaturesStats(m.body) });
    case 'OFPGroupDescStatsReply':
      return of13.OFPGroupDescStatsReply({ flags: m.flags, body: m.body.map(groupTo13) });
    case 'OFPMeterDescStatsReply':
      return of13.OFPMeterConfigStatsReply({
        flags: m.flags,
        body: m.body.map(({ flags, meter_id, bands }) => of13.OFPMeterConfigStats({ flags, meter_id, bands })),
      });
    case 'OFPFlowDescStatsReply':
      return of13.OFPFlowStatsReply({ flags: m.flags, body: m.body.map(flowTo13) });
    default:
      return fromBoth(m);
  }
}

/** What 1.4 and 1.5 have in the same form, which is not that of 1.3: ports and queues with properties. */
function fromBoth(m: OfMessage<5 | 6>): OfMessage<4> | undefined {
  switch (m.cls) {
    case 'OFPPortStatus':
      return { ...m, version: 4, desc: portTo13(m.desc) };
    case 'OFPPortDescStatsReply':
      return { ...m, version: 4, body: m.body.map(portTo13) };
    case 'OFPPortStatsReply':
      return { ...m, version: 4, body: m.body.map(portStatsTo13) };
    case 'OFPQueueStatsReply':
      return { ...m, version: 4, body: m.body.map(queueStatsTo13) };
    default:
      return undefined;
  }
}

type Port = MessageOf<5, 'OFPPortStatus'>['desc'] | MessageOf<6, 'OFPPortStatus'>['desc'];

/** Speeds are a property of Ethernet ports since 1.4. OpenFlow 1.4.1 §7.2.1.2. */
function portTo13(p: Port): MessageOf<4, 'OFPPortStatus'>['desc'] {
  const { port_no, hw_addr, name, config, state } = p;
  const plain = { port_no, hw_addr, name, config, state };
  for (const prop of p.properties) {
    if (prop.cls !== 'OFPPortDescPropEthernet') continue;
    const { curr, advertised, supported, peer, curr_speed, max_speed } = prop;
    return of13.OFPPort({ ...plain, curr, advertised, supported, peer, curr_speed, max_speed });
  }
  return of13.OFPPort(plain);
}

type PortStats14 = MessageOf<5, 'OFPPortStatsReply'>['body'][number];

function portStatsTo13(s: PortStats14 | MessageOf<6, 'OFPPortStatsReply'>['body'][number]) {
  const { cls: _cls, properties: _properties, ...same } = s;
  return of13.OFPPortStats(same);
}

function queueStatsTo13(
  s: MessageOf<5, 'OFPQueueStatsReply'>['body'][number] | MessageOf<6, 'OFPQueueStatsReply'>['body'][number],
) {
  const { cls: _cls, properties: _properties, ...same } = s;
  return of13.OFPQueueStats(same);
}

function flowTo13(f: MessageOf<6, 'OFPFlowDescStatsReply'>['body'][number]) {
  const { table_id, priority, idle_timeout, hard_timeout, flags, cookie, match, stats } = f;
  const [duration_sec, duration_nsec] = stats.fields.duration ?? [0, 0];
  return of13.OFPFlowStats({
    table_id,
    priority,
    idle_timeout,
    hard_timeout,
    flags,
    cookie,
    match,
    duration_sec,
    duration_nsec,
    packet_count: stats.fields.packet_count ?? 0n,
    byte_count: stats.fields.byte_count ?? 0n,
    instructions: instructionsFrom15(f.instructions),
  });
}

/** A property that says nothing of a bucket leaves what 1.3 has for that: no weight, no port or group that is watched. */
function groupTo13(g: MessageOf<6, 'OFPGroupDescStatsReply'>['body'][number]) {
  const { type, group_id } = g;
  const buckets = g.buckets.map((b) => {
    let weight = 0;
    let watch_port: number = ofp.OFPP_ANY;
    let watch_group: number = ofp.OFPG_ANY;
    for (const p of b.properties) {
      if (p.cls === 'OFPGroupBucketPropWeight') weight = p.weight;
      if (p.cls !== 'OFPGroupBucketPropWatch') continue;
      if (p.type === ofp15.OFPGBPT_WATCH_PORT) watch_port = p.watch;
      else watch_group = p.watch;
    }
    return of13.OFPBucket({ weight, watch_port, watch_group, actions: known(b.actions) });
  });
  return of13.OFPGroupDescStats({ type, group_id, buckets });
}

function instructionsFrom15(all: readonly OfInstruction<6>[]): OfInstruction<4>[] {
  return all.flatMap((i): OfInstruction<4>[] => {
    if (i.cls !== 'OFPInstructionActions') return i.cls === 'OFPInstructionStatTrigger' ? [] : [i];
    const meters = i.actions.flatMap((a) =>
      a.cls === 'OFPActionMeter' ? [of13.OFPInstructionMeter({ meter_id: a.meter_id })] : [],
    );
    const actions = known(i.actions);
    if (meters.length > 0 && actions.length === 0) return meters;
    return [...meters, of13.OFPInstructionActions({ type: i.type, actions })];
  });
}

/** Fairway sends no action that 1.3 has not: without it a flow or a group differs from ours, and is replaced. */
const known = (actions: readonly OfAction<6>[]): OfAction<4>[] => actions.filter((a) => !isNew(a)) as OfAction<4>[];

/** Actions that 1.3 has not, those that hold others, and set_field with a mask. */
function isNew(a: OfAction<6>): boolean {
  if (a.cls === 'OFPActionSetField') return Array.isArray(a.value);
  return ['OFPActionMeter', 'OFPActionCopyField', 'NXActionCT', 'NXActionClone'].includes(a.cls);
}
