/**
 * Declarations of the messages of OpenFlow 1.2 and later under Ryu's names, over the structures of structs.ts, and of what
 * 1.0 shares with them; multipartMessages.ts has the multipart ones, messages10.ts the rest of 1.0, messages14.ts what came
 * or changed with 1.4 and 1.5. codec.ts compiles them; factories.ts makes a typed factory of each. Defaults are Ryu's;
 * where Ryu's default is None, which it cannot send, the field is required or has the value that means nothing.
 */
import { actions } from './actions.ts';
import { ofproto_v1_3 as ofp } from './constants.ts';
import { BAD_REQUEST } from './errorPairs.ts';
import { OfEncodeError } from './errors.ts';
import { instructions } from './instructions.ts';
import { plain, symmetric } from './messageKinds.ts';
import { MESSAGES_10 } from './messages10.ts';
import { MESSAGES_14 } from './messages14.ts';
import { MULTIPART_MESSAGES } from './multipartMessages.ts';
import { NICIRA_MESSAGES } from './niciraMessages.ts';
import {
  ALL,
  type AnyStruct,
  bytes,
  bytesOrNull,
  customStruct,
  defaultIn,
  extraIn,
  FROM_12,
  FROM_12_UNTIL_13,
  FROM_12_UNTIL_14,
  FROM_13,
  FROM_14,
  IN_12,
  IN_13,
  IN_15,
  lenOf,
  list,
  listByKey,
  mac,
  many,
  match,
  type Of,
  one,
  only,
  pad,
  UNTIL_12,
  u8,
  u16,
  u32,
  u64,
  uints,
  type Version,
} from './schema.ts';
import * as S from './structs.ts';
import { describe, fail, type Reader, type Writer } from './wire.ts';

// ---- symmetric messages --------------------------------------------------------------------------------------------

export const OFPHello = symmetric('OFPHello', ofp.OFPT_HELLO, '7.5.1', {
  // came with 1.3.1, and may come from peers that offer less
  elements: extraIn(UNTIL_12, many(S.helloElement)),
});
export const OFPEchoRequest = symmetric('OFPEchoRequest', ofp.OFPT_ECHO_REQUEST, '7.5.2', { data: bytes() });
export const OFPEchoReply = symmetric('OFPEchoReply', ofp.OFPT_ECHO_REPLY, '7.5.3', { data: bytes() });
export const OFPExperimenter = plain('OFPExperimenter', FROM_12, ofp.OFPT_EXPERIMENTER, '7.5.4', {
  experimenter: u32(),
  exp_type: u32(),
  data: bytes(),
});

/**
 * Error message. As in Ryu one class stands for both forms: when `type` is OFPET_EXPERIMENTER, `code` is null and
 * `exp_type` and `experimenter` are there; not so in 1.0, which has no such type. `data` begins with the refused request, perhaps only 64 bytes of it.
 * OpenFlow 1.3.5 §7.4.4.
 */
export interface ErrorMsg {
  cls: 'OFPErrorMsg';
  version: number;
  xid: number;
  type: number;
  code: number | null;
  data: Buffer;
  exp_type?: number;
  experimenter?: number;
}
export interface ErrorMsgInput {
  readonly version?: number | undefined;
  readonly xid?: number | undefined;
  readonly type: number;
  readonly code?: number | null | undefined;
  readonly data?: Uint8Array | undefined;
  readonly exp_type?: number | undefined;
  readonly experimenter?: number | undefined;
}

function putHeader(w: Writer, type: number, m: { cls: string; version: number; xid: number }): void {
  if ((m.version & 255) !== m.version)
    throw new OfEncodeError(m.cls, 'version', `not a version: ${describe(m.version)}`);
  if (m.xid >>> 0 !== m.xid) throw new OfEncodeError(m.cls, 'xid', `not an integer of 32 bits: ${describe(m.xid)}`);
  if (w.cap - w.p < 16) w.grow(16);
  w.dv.setUint8(w.p, m.version);
  w.dv.setUint8(w.p + 1, type);
  w.dv.setUint32(w.p + 4, m.xid);
}

export const OFPErrorMsg = customStruct<'OFPErrorMsg', ErrorMsg, ErrorMsgInput>('OFPErrorMsg', {
  versions: ALL,
  spec: '7.4.4',
  err: BAD_REQUEST,
  message: { type: ofp.OFPT_ERROR },
  custom: {
    min: 12,
    encode(o: object, w: Writer): void {
      const m = o as ErrorMsg;
      const from = w.p - w.start;
      putHeader(w, ofp.OFPT_ERROR, m);
      const uint = (field: 'type' | 'code' | 'exp_type' | 'experimenter', bits: 16 | 32): number => {
        const v = m[field];
        if (typeof v !== 'number' || v < 0 || v >= 2 ** bits || !Number.isInteger(v)) {
          throw new OfEncodeError('OFPErrorMsg', field, `not an unsigned integer of ${bits} bits: ${describe(v)}`);
        }
        return v;
      };
      w.dv.setUint16(w.p + 8, uint('type', 16));
      if (m.type === ofp.OFPET_EXPERIMENTER && w.version !== 1) {
        w.dv.setUint16(w.p + 10, uint('exp_type', 16));
        w.dv.setUint32(w.p + 12, uint('experimenter', 32));
        w.p += 16;
      } else {
        w.dv.setUint16(w.p + 10, uint('code', 16));
        w.p += 12;
      }
      if (!(m.data instanceof Uint8Array)) throw new OfEncodeError('OFPErrorMsg', 'data', 'not bytes');
      w.bytes(m.data);
      const length = w.p - w.start - from;
      if (length > 65535) throw new OfEncodeError('OFPErrorMsg', 'length', 'a message has at most 65535 bytes');
      w.dv.setUint16(w.start + from + 2, length);
    },
    decode(r: Reader, p: number, end: number): object {
      if (end - p < 12) fail(r, p, 'OFPErrorMsg cut short', ...BAD_REQUEST);
      const { dv, b, base } = r;
      const type = dv.getUint16(p + 8);
      const header = { cls: 'OFPErrorMsg', version: dv.getUint8(p), xid: dv.getUint32(p + 4), type };
      r.q = end;
      if (type !== ofp.OFPET_EXPERIMENTER || r.version === 1) {
        return { ...header, code: dv.getUint16(p + 10), data: b.subarray(p + 12 - base, end - base) };
      }
      if (end - p < 16) fail(r, p, 'OFPErrorMsg cut short', ...BAD_REQUEST);
      return {
        ...header,
        code: null,
        exp_type: dv.getUint16(p + 10),
        experimenter: dv.getUint32(p + 12),
        data: b.subarray(p + 16 - base, end - base),
      };
    },
    toJson(o: object): object {
      const { cls: _, version: _v, xid: _x, data, ...attrs } = o as ErrorMsg;
      return { ...attrs, data: data.toString('base64') };
    },
    fromJson(attrs): unknown {
      const { data, ...rest } = attrs;
      return { ...rest, ...(typeof data === 'string' ? { data: Buffer.from(data, 'base64') } : {}) };
    },
    make(input: object, of: Version): object {
      const i = input as ErrorMsgInput;
      const { version = of, xid = 0, type, data = Buffer.alloc(0) } = i;
      const bytesOf = Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      const common = { cls: 'OFPErrorMsg', version, xid, type };
      return type === ofp.OFPET_EXPERIMENTER && version !== 1
        ? { ...common, code: null, exp_type: i.exp_type, experimenter: i.experimenter, data: bytesOf }
        : { ...common, code: i.code, data: bytesOf };
    },
  },
});

// ---- controller to switch ------------------------------------------------------------------------------------------

export const OFPFeaturesRequest = plain('OFPFeaturesRequest', ALL, ofp.OFPT_FEATURES_REQUEST, '7.3.1', {});
export const OFPSwitchFeatures12 = plain('OFPSwitchFeatures', IN_12, ofp.OFPT_FEATURES_REPLY, 'A.3.1', {
  datapath_id: u64(),
  n_buffers: u32(0),
  n_tables: u8(0),
  _pad: pad(3),
  capabilities: u32(0),
  _reserved: pad(4),
  ports: listByKey(S.OFPPort, 'port_no'),
});
export const OFPSwitchFeatures = plain('OFPSwitchFeatures', FROM_13, ofp.OFPT_FEATURES_REPLY, '7.3.1', {
  datapath_id: u64(),
  n_buffers: u32(0),
  n_tables: u8(0),
  auxiliary_id: u8(0),
  _pad: pad(2),
  capabilities: u32(0),
  _reserved: pad(4),
});
export const OFPGetConfigRequest = plain('OFPGetConfigRequest', ALL, ofp.OFPT_GET_CONFIG_REQUEST, '7.3.2', {});
export const OFPGetConfigReply = plain('OFPGetConfigReply', ALL, ofp.OFPT_GET_CONFIG_REPLY, '7.3.2', {
  flags: u16(0),
  miss_send_len: u16(0),
});
export const OFPSetConfig = plain('OFPSetConfig', ALL, ofp.OFPT_SET_CONFIG, '7.3.2', {
  flags: u16(0),
  miss_send_len: u16(0),
});
export const OFPTableMod = plain('OFPTableMod', FROM_12_UNTIL_13, ofp.OFPT_TABLE_MOD, '7.3.3', {
  table_id: u8(),
  _pad: pad(3),
  config: u32(),
});
export const OFPFlowMod = plain('OFPFlowMod', FROM_12, ofp.OFPT_FLOW_MOD, '7.3.4.1', {
  cookie: u64(0n),
  cookie_mask: u64(0n),
  table_id: u8(0),
  command: u8(ofp.OFPFC_ADD),
  idle_timeout: u16(0),
  hard_timeout: u16(0),
  priority: defaultIn(IN_12, 0, u16(ofp.OFP_DEFAULT_PRIORITY)),
  buffer_id: u32(ofp.OFP_NO_BUFFER),
  // Ryu's defaults, which are not "any": a delete would be filtered by them, hence flowDelete of factories.ts
  out_port: u32(0),
  out_group: u32(0),
  flags: u16(0),
  _pad: only(FROM_12_UNTIL_13, pad(2)),
  importance: only(FROM_14, u16(0)),
  match: match(),
  instructions: many(instructions),
});
export const OFPGroupMod = plain('OFPGroupMod', FROM_12_UNTIL_14, ofp.OFPT_GROUP_MOD, '7.3.4.2', {
  command: u16(ofp.OFPGC_ADD),
  type: u8(ofp.OFPGT_ALL),
  _pad: pad(1),
  group_id: u32(0),
  buckets: list(S.OFPBucket),
});
export const OFPPortMod = plain('OFPPortMod', FROM_12_UNTIL_13, ofp.OFPT_PORT_MOD, '7.3.4.3', {
  port_no: u32(0),
  _pad: pad(4),
  hw_addr: mac(),
  _pad2: pad(2),
  config: u32(0),
  mask: u32(0),
  advertise: u32(0),
  _pad3: pad(4),
});
export const OFPMeterMod = plain('OFPMeterMod', FROM_13, ofp.OFPT_METER_MOD, '7.3.4.4', {
  command: u16(ofp.OFPMC_ADD),
  flags: u16(ofp.OFPMF_KBPS),
  meter_id: u32(1),
  bands: many(S.meterBands),
});
export const OFPPacketOut = plain('OFPPacketOut', FROM_12_UNTIL_14, ofp.OFPT_PACKET_OUT, '7.3.7', {
  buffer_id: u32(ofp.OFP_NO_BUFFER),
  in_port: u32(),
  _actions_len: lenOf('actions', 'actions_len'),
  _pad: pad(6),
  actions: many(actions),
  data: bytesOrNull(),
});
export const OFPBarrierRequest = plain('OFPBarrierRequest', ALL, [18, ofp.OFPT_BARRIER_REQUEST], '7.3.8', {});
export const OFPBarrierReply = plain('OFPBarrierReply', ALL, [19, ofp.OFPT_BARRIER_REPLY], '7.3.8', {});
const role = {
  role: u32(ofp.OFPCR_ROLE_NOCHANGE),
  _pad: only(FROM_12_UNTIL_14, pad(4)),
  short_id: only(IN_15, u16(0)),
  _pad2: only(IN_15, pad(2)),
  generation_id: u64(0n),
};
export const OFPRoleRequest = plain('OFPRoleRequest', FROM_12, ofp.OFPT_ROLE_REQUEST, '7.3.9', role);
export const OFPRoleReply = plain('OFPRoleReply', FROM_12, ofp.OFPT_ROLE_REPLY, '7.3.9', role);
const asyncMasks = { packet_in_mask: uints(4, 2), port_status_mask: uints(4, 2), flow_removed_mask: uints(4, 2) };
export const OFPGetAsyncRequest = plain('OFPGetAsyncRequest', FROM_13, ofp.OFPT_GET_ASYNC_REQUEST, '7.3.10', {});
export const OFPGetAsyncReply = plain('OFPGetAsyncReply', IN_13, ofp.OFPT_GET_ASYNC_REPLY, '7.3.10', asyncMasks);
export const OFPSetAsync = plain('OFPSetAsync', IN_13, ofp.OFPT_SET_ASYNC, '7.3.10', asyncMasks);
export const OFPQueueGetConfigRequest = plain(
  'OFPQueueGetConfigRequest',
  FROM_12_UNTIL_13,
  ofp.OFPT_QUEUE_GET_CONFIG_REQUEST,
  '7.3.6',
  {
    port: u32(),
    _pad: pad(4),
  },
);
export const OFPQueueGetConfigReply = plain(
  'OFPQueueGetConfigReply',
  FROM_12_UNTIL_13,
  ofp.OFPT_QUEUE_GET_CONFIG_REPLY,
  '7.3.6',
  {
    port: u32(),
    _pad: pad(4),
    queues: list(S.OFPPacketQueue),
  },
);

// ---- asynchronous messages -----------------------------------------------------------------------------------------

export const OFPPacketIn = plain('OFPPacketIn', FROM_12, ofp.OFPT_PACKET_IN, '7.4.1', {
  buffer_id: u32(ofp.OFP_NO_BUFFER),
  total_len: u16(0),
  reason: u8(0),
  table_id: u8(0),
  cookie: only(FROM_13, u64(0n)),
  match: match(),
  _pad: pad(2),
  data: bytes(),
});
export const OFPFlowRemoved = plain('OFPFlowRemoved', FROM_12_UNTIL_14, ofp.OFPT_FLOW_REMOVED, '7.4.2', {
  cookie: u64(0n),
  priority: u16(ofp.OFP_DEFAULT_PRIORITY),
  reason: u8(0),
  table_id: u8(0),
  duration_sec: u32(0),
  duration_nsec: u32(0),
  idle_timeout: u16(0),
  hard_timeout: u16(0),
  packet_count: u64(0n),
  byte_count: u64(0n),
  match: match(),
});
export const OFPPortStatus = plain('OFPPortStatus', FROM_12_UNTIL_13, ofp.OFPT_PORT_STATUS, '7.4.3', {
  reason: u8(),
  _pad: pad(7),
  desc: one(S.OFPPort),
});

// ---- what nobody declared ------------------------------------------------------------------------------------------

/** A message of a type this library does not know: kept as it came. */
export const OFPUnknownMessage = customStruct<'OFPUnknownMessage', UnknownMessage, UnknownMessageInput>(
  'OFPUnknownMessage',
  {
    versions: ALL,
    spec: '7.1',
    err: BAD_REQUEST,
    custom: {
      min: 8,
      encode(o: object, w: Writer): void {
        const m = o as UnknownMessage;
        if ((m.msg_type & 255) !== m.msg_type) throw new OfEncodeError(m.cls, 'msg_type', 'not an integer of 8 bits');
        if (!(m.data instanceof Uint8Array)) throw new OfEncodeError(m.cls, 'data', 'not bytes');
        if (m.data.length > 65527) throw new OfEncodeError(m.cls, 'length', 'a message has at most 65535 bytes');
        putHeader(w, m.msg_type, m);
        w.dv.setUint16(w.p + 2, 8 + m.data.length);
        w.p += 8;
        w.bytes(m.data);
      },
      decode(r: Reader, p: number, end: number): object {
        r.q = end;
        return {
          cls: 'OFPUnknownMessage',
          version: r.dv.getUint8(p),
          xid: r.dv.getUint32(p + 4),
          msg_type: r.dv.getUint8(p + 1),
          data: r.b.subarray(p + 8 - r.base, end - r.base),
        };
      },
      toJson(o: object): object {
        const { msg_type, data } = o as UnknownMessage;
        return { msg_type, data: data.toString('base64') };
      },
      fromJson(attrs): unknown {
        return { ...attrs, data: Buffer.from(String(attrs.data ?? ''), 'base64') };
      },
      make(input: object, of: Version): object {
        const { version = of, xid = 0, msg_type, data = Buffer.alloc(0) } = input as UnknownMessageInput;
        return { cls: 'OFPUnknownMessage', version, xid, msg_type, data: Buffer.from(data) };
      },
    },
  },
);
export interface UnknownMessage {
  cls: 'OFPUnknownMessage';
  version: number;
  xid: number;
  msg_type: number;
  data: Buffer;
}
export interface UnknownMessageInput {
  readonly version?: number | undefined;
  readonly xid?: number | undefined;
  readonly msg_type: number;
  readonly data?: Uint8Array | undefined;
}
/** Every message, for codec.ts. */
export const MESSAGES: readonly AnyStruct[] = [
  OFPHello,
  OFPErrorMsg,
  OFPEchoRequest,
  OFPEchoReply,
  OFPExperimenter,
  OFPFeaturesRequest,
  OFPSwitchFeatures12,
  OFPSwitchFeatures,
  OFPGetConfigRequest,
  OFPGetConfigReply,
  OFPSetConfig,
  OFPPacketIn,
  OFPFlowRemoved,
  OFPPortStatus,
  OFPPacketOut,
  OFPFlowMod,
  OFPGroupMod,
  OFPPortMod,
  OFPTableMod,
  OFPMeterMod,
  OFPBarrierRequest,
  OFPBarrierReply,
  OFPQueueGetConfigRequest,
  OFPQueueGetConfigReply,
  OFPRoleRequest,
  OFPRoleReply,
  OFPGetAsyncRequest,
  OFPGetAsyncReply,
  OFPSetAsync,
  OFPUnknownMessage,
  ...MULTIPART_MESSAGES,
  ...MESSAGES_10,
  ...MESSAGES_14,
  ...NICIRA_MESSAGES,
];

/** What a module declares, told from what else it exports. */
type DeclaredIn<M> = { [K in keyof M]: M[K] extends AnyStruct ? M[K] : never }[keyof M];
type Declared =
  | DeclaredIn<typeof import('./messages.ts')>
  | DeclaredIn<typeof import('./multipartMessages.ts')>
  | DeclaredIn<typeof import('./messages10.ts')>
  | DeclaredIn<typeof import('./messages14.ts')>
  | DeclaredIn<typeof import('./niciraMessages.ts')>;

/** Every message of version `V`, told apart by `version` and `cls`. */
export type OfMessage<V extends Version = Version> = Of<Declared, V>;
