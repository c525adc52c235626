/**
 * Declarations of the property TLVs of OpenFlow 1.4 and 1.5, family by family, under Ryu's names: what ports, queues,
 * tables, buckets, groups, bundles, roles, controllers and the configuration of asynchronous messages carry. structs.ts
 * and messages.ts have what holds them; schema.ts has the language. All are padded to 8 bytes that their length does not
 * count. Section numbers are those of OpenFlow 1.5.1, or of 1.4.1 where only that one has the class.
 */

import { ofproto_v1_5 as ofp } from './constants15.ts';
import { BAD_PROPERTY, BAD_REQUEST } from './errorPairs.ts';
import { OfEncodeError } from './errors.ts';
import { OFPExperimenterOxmId, OFPOxmId } from './oxmIds.ts';
import {
  type AnyStruct,
  customStruct,
  either,
  type Fields,
  FROM_13,
  FROM_14,
  family,
  fixed,
  IN_15,
  len,
  one,
  pad,
  type Range,
  struct,
  text,
  u8,
  u16,
  u32,
  u64,
  uints,
} from './schema.ts';
import type { Reader, Writer } from './wire.ts';

// the 1.3 extension that has properties has no error of its own for them

/** A class with one type number. */
const property = <const C extends string, const R extends Range, F extends Fields>(
  cls: C,
  versions: R,
  spec: string,
  type: number,
  fields: F,
) =>
  struct(
    cls,
    { versions, spec, err: BAD_PROPERTY, padTo8: 'outside' },
    { _type: fixed(2, type, 'type'), _len: len('length'), ...fields },
  );
/** A class that stands for several type numbers. */
const sharedProperty = <const C extends string, const R extends Range, F extends Fields>(
  cls: C,
  versions: R,
  spec: string,
  types: readonly (number | readonly [number, Range])[],
  fields: F,
) =>
  struct(
    cls,
    { versions, spec, err: BAD_PROPERTY, padTo8: 'outside', types },
    { type: u16(), _len: len('length'), ...fields },
  );
const EXPERIMENTER = 0xffff;
const experimenterFields = { experimenter: u32(), exp_type: u32(), data: uints(4) };
const experimenter = <const C extends string, const R extends Range>(cls: C, versions: R, spec: string) =>
  property(cls, versions, spec, EXPERIMENTER, experimenterFields);

/** A property of a type nobody declared, in any family: its bytes are kept. */
export interface PropUnknown {
  cls: 'OFPPropUnknown';
  type: number;
  data: Buffer;
}
export interface PropUnknownInput {
  readonly type: number;
  readonly data?: Uint8Array | undefined;
}
export const OFPPropUnknown = customStruct<'OFPPropUnknown', PropUnknown, PropUnknownInput, 4 | 5 | 6>(
  'OFPPropUnknown',
  {
    versions: FROM_13,
    spec: '7.2.1',
    err: BAD_PROPERTY,
    custom: {
      min: 4,
      encode(o: object, w: Writer): void {
        const { type, data } = o as PropUnknown;
        if ((type & 0xffff) !== type) throw new OfEncodeError('OFPPropUnknown', 'type', 'not an integer of 16 bits');
        if (!(data instanceof Uint8Array) || data.length > 0xffff - 4) {
          throw new OfEncodeError('OFPPropUnknown', 'data', 'not bytes that fit in a property');
        }
        if (w.cap - w.p < 4) w.grow(4);
        w.dv.setUint16(w.p, type);
        w.dv.setUint16(w.p + 2, 4 + data.length);
        w.p += 4;
        w.bytes(data);
        w.zeros((8 - ((4 + data.length) & 7)) & 7);
      },
      decode(r: Reader, p: number, end: number): object {
        r.q = end;
        return {
          cls: 'OFPPropUnknown',
          type: r.dv.getUint16(p),
          data: r.b.subarray(p + 4 - r.base, end - r.base),
        };
      },
      // Alone: json.ts adds the properties behind it to `buf`, as Ryu does, of which only the first is read back.
      toJson(o: object): object {
        const { type, data } = o as PropUnknown;
        const length = 4 + data.length;
        const buf = Buffer.alloc((length + 7) & ~7);
        buf.writeUInt16BE(type, 0);
        buf.writeUInt16BE(length, 2);
        data.copy(buf, 4);
        return { type, length, buf: buf.toString('base64') };
      },
      fromJson(attrs): unknown {
        const buf = Buffer.from(String(attrs.buf ?? ''), 'base64');
        if (buf.length < 4) throw new OfEncodeError('OFPPropUnknown', 'buf', 'no property');
        return { type: buf.readUInt16BE(0), data: buf.subarray(4, buf.readUInt16BE(2)) };
      },
      make(input: object): object {
        const { type, data = Buffer.alloc(0) } = input as PropUnknownInput;
        return { cls: 'OFPPropUnknown', type, data: Buffer.from(data) };
      },
    },
  },
);

const properties = <const M extends readonly AnyStruct[]>(name: string, members: M) =>
  family(name, members, [OFPPropUnknown], { err: BAD_REQUEST, errFrom14: BAD_PROPERTY, min: 4, padTo8: true });

// ---- ports ---------------------------------------------------------------------------------------------------------

export const OFPPortDescPropEthernet = property('OFPPortDescPropEthernet', FROM_14, '7.2.1', ofp.OFPPDPT_ETHERNET, {
  _pad: pad(4),
  curr: u32(0),
  advertised: u32(0),
  supported: u32(0),
  peer: u32(0),
  curr_speed: u32(0),
  max_speed: u32(0),
});
export const OFPPortDescPropOptical = property('OFPPortDescPropOptical', FROM_14, '7.2.1', ofp.OFPPDPT_OPTICAL, {
  _pad: pad(4),
  supported: u32(0),
  tx_min_freq_lmda: u32(0),
  tx_max_freq_lmda: u32(0),
  tx_grid_freq_lmda: u32(0),
  rx_min_freq_lmda: u32(0),
  rx_max_freq_lmda: u32(0),
  rx_grid_freq_lmda: u32(0),
  tx_pwr_min: u16(0),
  tx_pwr_max: u16(0),
});
/** Match fields that come in with packets from a port, or go out with packets to it. */
export const OFPPortDescPropOxm = sharedProperty(
  'OFPPortDescPropOxm',
  IN_15,
  '7.2.1',
  [ofp.OFPPDPT_PIPELINE_INPUT, ofp.OFPPDPT_PIPELINE_OUTPUT],
  { oxm_ids: either([OFPOxmId, OFPExperimenterOxmId], OFPOxmId) },
);
export const OFPPortDescPropRecirculate = property(
  'OFPPortDescPropRecirculate',
  IN_15,
  '7.2.1',
  ofp.OFPPDPT_RECIRCULATE,
  { port_nos: uints(4) },
);
export const OFPPortDescPropExperimenter = experimenter('OFPPortDescPropExperimenter', FROM_14, '7.2.1');
export const portDescProps = properties('portDescProperty', [
  OFPPortDescPropEthernet,
  OFPPortDescPropOptical,
  OFPPortDescPropOxm,
  OFPPortDescPropRecirculate,
  OFPPortDescPropExperimenter,
]);

export const OFPPortStatsPropEthernet = property('OFPPortStatsPropEthernet', FROM_14, '7.3.5', ofp.OFPPSPT_ETHERNET, {
  _pad: pad(4),
  rx_frame_err: u64(0n),
  rx_over_err: u64(0n),
  rx_crc_err: u64(0n),
  collisions: u64(0n),
});
export const OFPPortStatsPropOptical = property('OFPPortStatsPropOptical', FROM_14, '7.3.5', ofp.OFPPSPT_OPTICAL, {
  _pad: pad(4),
  flags: u32(0),
  tx_freq_lmda: u32(0),
  tx_offset: u32(0),
  tx_grid_span: u32(0),
  rx_freq_lmda: u32(0),
  rx_offset: u32(0),
  rx_grid_span: u32(0),
  tx_pwr: u16(0),
  rx_pwr: u16(0),
  bias_current: u16(0),
  temperature: u16(0),
});
export const OFPPortStatsPropExperimenter = experimenter('OFPPortStatsPropExperimenter', FROM_14, '7.3.5');
export const portStatsProps = properties('portStatsProperty', [
  OFPPortStatsPropEthernet,
  OFPPortStatsPropOptical,
  OFPPortStatsPropExperimenter,
]);

export const OFPPortModPropEthernet = property('OFPPortModPropEthernet', FROM_14, '7.3.4', ofp.OFPPMPT_ETHERNET, {
  advertise: u32(0),
});
export const OFPPortModPropOptical = property('OFPPortModPropOptical', FROM_14, '7.3.4', ofp.OFPPMPT_OPTICAL, {
  configure: u32(0),
  freq_lmda: u32(0),
  fl_offset: u32(0),
  grid_span: u32(0),
  tx_pwr: u32(0),
});
export const OFPPortModPropExperimenter = experimenter('OFPPortModPropExperimenter', FROM_14, '7.3.4');
export const portModProps = properties('portModProperty', [
  OFPPortModPropEthernet,
  OFPPortModPropOptical,
  OFPPortModPropExperimenter,
]);

// ---- queues --------------------------------------------------------------------------------------------------------

export const OFPQueueDescPropMinRate = property('OFPQueueDescPropMinRate', FROM_14, '7.3.5', ofp.OFPQDPT_MIN_RATE, {
  rate: u16(),
  _pad: pad(2),
});
export const OFPQueueDescPropMaxRate = property('OFPQueueDescPropMaxRate', FROM_14, '7.3.5', ofp.OFPQDPT_MAX_RATE, {
  rate: u16(),
  _pad: pad(2),
});
export const OFPQueueDescPropExperimenter = experimenter('OFPQueueDescPropExperimenter', FROM_14, '7.3.5');
export const queueDescProps = properties('queueDescProperty', [
  OFPQueueDescPropMinRate,
  OFPQueueDescPropMaxRate,
  OFPQueueDescPropExperimenter,
]);
export const OFPQueueStatsPropExperimenter = experimenter('OFPQueueStatsPropExperimenter', FROM_14, '7.3.5');
export const queueStatsProps = properties('queueStatsProperty', [OFPQueueStatsPropExperimenter]);

// ---- tables --------------------------------------------------------------------------------------------------------

export const OFPTableModPropEviction = property('OFPTableModPropEviction', FROM_14, '7.3.4', ofp.OFPTMPT_EVICTION, {
  flags: u32(0),
});
export const OFPTableModPropVacancy = property('OFPTableModPropVacancy', FROM_14, '7.3.4', ofp.OFPTMPT_VACANCY, {
  vacancy_down: u8(0),
  vacancy_up: u8(0),
  vacancy: u8(0),
  _pad: pad(1),
});
export const OFPTableModPropExperimenter = experimenter('OFPTableModPropExperimenter', FROM_14, '7.3.4');
export const tableModProps = properties('tableModProperty', [
  OFPTableModPropEviction,
  OFPTableModPropVacancy,
  OFPTableModPropExperimenter,
]);

// ---- groups --------------------------------------------------------------------------------------------------------

export const OFPGroupBucketPropWeight = property('OFPGroupBucketPropWeight', IN_15, '7.3.4', ofp.OFPGBPT_WEIGHT, {
  weight: u16(),
  _pad: pad(2),
});
/** `watch` is a port or a group, by the type. */
export const OFPGroupBucketPropWatch = sharedProperty(
  'OFPGroupBucketPropWatch',
  IN_15,
  '7.3.4',
  [ofp.OFPGBPT_WATCH_PORT, ofp.OFPGBPT_WATCH_GROUP],
  { watch: u32() },
);
export const OFPGroupBucketPropExperimenter = experimenter('OFPGroupBucketPropExperimenter', IN_15, '7.3.4');
export const bucketProps = properties('bucketProperty', [
  OFPGroupBucketPropWeight,
  OFPGroupBucketPropWatch,
  OFPGroupBucketPropExperimenter,
]);
export const OFPGroupPropExperimenter = experimenter('OFPGroupPropExperimenter', IN_15, '7.3.4');
export const groupProps = properties('groupProperty', [OFPGroupPropExperimenter]);

// ---- bundles -------------------------------------------------------------------------------------------------------

/** A point in time, or a span of it. */
export const OFPTime = struct(
  'OFPTime',
  { versions: IN_15, spec: '7.3.9', err: BAD_PROPERTY },
  { seconds: u64(0n), nanoseconds: u32(0), _pad: pad(4) },
);
export const OFPBundlePropTime = property('OFPBundlePropTime', IN_15, '7.3.9', ofp.OFPBPT_TIME, {
  _pad: pad(4),
  scheduled_time: one(OFPTime),
});
export const OFPBundlePropExperimenter = experimenter('OFPBundlePropExperimenter', FROM_14, '7.3.9');
/** Also of the bundles of ONF extension 230 in 1.3, where Ryu, and so this library, knows no property by name. */
export const bundleProps = properties('bundleProperty', [OFPBundlePropTime, OFPBundlePropExperimenter]);

export const OFPBundleFeaturesPropTime = property(
  'OFPBundleFeaturesPropTime',
  IN_15,
  '7.3.5',
  ofp.OFPTMPBF_TIME_CAPABILITY,
  {
    _pad: pad(4),
    sched_accuracy: one(OFPTime),
    sched_max_future: one(OFPTime),
    sched_max_past: one(OFPTime),
    timestamp: one(OFPTime),
  },
);
export const OFPBundleFeaturesPropExperimenter = experimenter('OFPBundleFeaturesPropExperimenter', IN_15, '7.3.5');
export const bundleFeaturesProps = properties('bundleFeaturesProperty', [
  OFPBundleFeaturesPropTime,
  OFPBundleFeaturesPropExperimenter,
]);

// ---- controllers ---------------------------------------------------------------------------------------------------

export const OFPRolePropExperimenter = experimenter('OFPRolePropExperimenter', FROM_14, '7.4.4');
export const roleProps = properties('roleProperty', [OFPRolePropExperimenter]);

export const OFPControllerStatusPropUri = property('OFPControllerStatusPropUri', IN_15, '7.2.7', ofp.OFPCSPT_URI, {
  uri: text(),
});
export const OFPControllerStatusPropExperimenter = experimenter('OFPControllerStatusPropExperimenter', IN_15, '7.2.7');
export const controllerStatusProps = properties('controllerStatusProperty', [
  OFPControllerStatusPropUri,
  OFPControllerStatusPropExperimenter,
]);

/** Which reasons a message may have to be sent, as bits of `mask`; the type tells message and role. */
export const OFPAsyncConfigPropReasons = sharedProperty(
  'OFPAsyncConfigPropReasons',
  FROM_14,
  '7.3.10',
  [
    ofp.OFPACPT_PACKET_IN_SLAVE,
    ofp.OFPACPT_PACKET_IN_MASTER,
    ofp.OFPACPT_PORT_STATUS_SLAVE,
    ofp.OFPACPT_PORT_STATUS_MASTER,
    ofp.OFPACPT_FLOW_REMOVED_SLAVE,
    ofp.OFPACPT_FLOW_REMOVED_MASTER,
    ofp.OFPACPT_ROLE_STATUS_SLAVE,
    ofp.OFPACPT_ROLE_STATUS_MASTER,
    ofp.OFPACPT_TABLE_STATUS_SLAVE,
    ofp.OFPACPT_TABLE_STATUS_MASTER,
    ofp.OFPACPT_REQUESTFORWARD_SLAVE,
    ofp.OFPACPT_REQUESTFORWARD_MASTER,
    [ofp.OFPACPT_FLOW_STATS_SLAVE, IN_15],
    [ofp.OFPACPT_FLOW_STATS_MASTER, IN_15],
    [ofp.OFPACPT_CONT_STATUS_SLAVE, IN_15],
    [ofp.OFPACPT_CONT_STATUS_MASTER, IN_15],
  ],
  { mask: u32(0) },
);
export const OFPAsyncConfigPropExperimenter = sharedProperty(
  'OFPAsyncConfigPropExperimenter',
  FROM_14,
  '7.3.10',
  [ofp.OFPACPT_EXPERIMENTER_SLAVE, ofp.OFPACPT_EXPERIMENTER_MASTER],
  experimenterFields,
);
export const asyncConfigProps = properties('asyncConfigProperty', [
  OFPAsyncConfigPropReasons,
  OFPAsyncConfigPropExperimenter,
]);
