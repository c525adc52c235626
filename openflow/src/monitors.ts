/**
 * Declarations of flow monitors: the requests and updates of OpenFlow 1.4 and 1.5 and those of ONF extension 187 for 1.3.
 * Ryu has the requests of the extension; its updates are named in the same style.
 */

import { ofproto_v1_3 as ofp13 } from './constants.ts';
import { ofproto_v1_4 as ofp } from './constants14.ts';
import { BAD_REQUEST } from './errorPairs.ts';
import { instructions } from './instructions.ts';
import {
  bareMatch,
  bytes,
  FROM_14,
  family,
  fixed,
  IN_13,
  len,
  lenOf,
  many,
  match,
  matchHeader,
  pad,
  struct,
  u8,
  u16,
  u32,
  u64,
} from './schema.ts';

const monitor = { versions: FROM_14, spec: '7.3.5', err: BAD_REQUEST } as const;

/** Fields of a request to watch flows, as they stand in OFPFlowMonitorRequest and in the monitors behind the first. */
export const monitorFields = {
  monitor_id: u32(0),
  out_port: u32(ofp.OFPP_ANY),
  out_group: u32(ofp.OFPG_ANY),
  monitor_flags: u16(0),
  table_id: u8(ofp.OFPTT_ALL),
  command: u8(ofp.OFPFMC_ADD),
  match: match(),
};
/** A further monitor in one request: Ryu knows one per request. */
export const OFPFlowMonitorNext = struct('OFPFlowMonitorNext', monitor, monitorFields);

export const OFPFlowUpdateFull = struct(
  'OFPFlowUpdateFull',
  { ...monitor, types: [ofp.OFPFME_INITIAL, ofp.OFPFME_ADDED, ofp.OFPFME_REMOVED, ofp.OFPFME_MODIFIED] },
  {
    _len: len('length'),
    event: u16(),
    table_id: u8(0),
    reason: u8(0),
    idle_timeout: u16(0),
    hard_timeout: u16(0),
    priority: u16(ofp.OFP_DEFAULT_PRIORITY),
    _pad: pad(4),
    cookie: u64(0n),
    match: match(),
    instructions: many(instructions),
  },
);
/** In place of the full update for a change that the same controller asked for: `xid` is that of its request. */
export const OFPFlowUpdateAbbrev = struct('OFPFlowUpdateAbbrev', monitor, {
  _len: len('length'),
  _event: fixed(2, ofp.OFPFME_ABBREV, 'event'),
  xid: u32(),
});
export const OFPFlowUpdatePaused = struct(
  'OFPFlowUpdatePaused',
  { ...monitor, types: [ofp.OFPFME_PAUSED, ofp.OFPFME_RESUMED] },
  { _len: len('length'), event: u16(), _pad: pad(4) },
);
export const OFPFlowUpdateUnknown = struct('OFPFlowUpdateUnknown', monitor, {
  _len: len('length'),
  event: u16(),
  data: bytes(),
});
export const flowUpdates = family(
  'flowUpdate',
  [OFPFlowUpdateFull, OFPFlowUpdateAbbrev, OFPFlowUpdatePaused],
  [OFPFlowUpdateUnknown],
  { err: BAD_REQUEST, min: 4, lengthFirst: true },
);

// ---- ONF extension 187 for 1.3 -------------------------------------------------------------------------------------

const onf = { versions: IN_13, spec: 'EXT-187', err: BAD_REQUEST } as const;
// The extension says that the fields of a match stand there, and Ryu sends those. Open vSwitch sends and expects a whole
// OFPMatch: set `match_header` for it.

export const ONFFlowMonitorRequest = struct('ONFFlowMonitorRequest', onf, {
  id: u32(),
  flags: u16(),
  _match_len: lenOf('match', 'match_len'),
  out_port: u32(ofp13.OFPP_ANY),
  table_id: u8(ofp13.OFPTT_ALL),
  _pad: pad(3),
  match_header: matchHeader(false),
  match: bareMatch('match_header'),
});
export const ONFFlowUpdateFull = struct(
  'ONFFlowUpdateFull',
  { ...onf, types: [ofp13.ONFFME_ADDED, ofp13.ONFFME_DELETED, ofp13.ONFFME_MODIFIED] },
  {
    _len: len('length'),
    event: u16(),
    reason: u16(0),
    priority: u16(ofp13.OFP_DEFAULT_PRIORITY),
    idle_timeout: u16(0),
    hard_timeout: u16(0),
    _match_len: lenOf('match', 'match_len'),
    table_id: u8(0),
    _pad: pad(1),
    cookie: u64(0n),
    match_header: matchHeader(true),
    match: bareMatch('match_header'),
    instructions: many(instructions),
  },
);
export const ONFFlowUpdateAbbrev = struct('ONFFlowUpdateAbbrev', onf, {
  _len: len('length'),
  _event: fixed(2, ofp13.ONFFME_ABBREV, 'event'),
  xid: u32(),
});
export const ONFFlowUpdateUnknown = struct('ONFFlowUpdateUnknown', onf, {
  _len: len('length'),
  event: u16(),
  data: bytes(),
});
export const onfFlowUpdates = family(
  'onfFlowUpdate',
  [ONFFlowUpdateFull, ONFFlowUpdateAbbrev],
  [ONFFlowUpdateUnknown],
  { err: BAD_REQUEST, min: 4, lengthFirst: true },
);
