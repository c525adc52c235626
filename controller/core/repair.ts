/**
 * Refusals that a switch's own state explains, and what to send then. After a restart, or beside another controller, a
 * switch may hold a meter or group that this one wants to add, or lack one it wants to change: the wish is the same, only
 * the command was wrong. Pure; the switch sessions send what comes out of it.
 */
import { type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';

/** One message of ours and the names of the error it was answered with. */
export interface Refusal {
  message: OfMessage<4>;
  /** For example `OFPMMFC_METER_EXISTS`. */
  code: string;
  /** For people: type and code. */
  text: string;
}

export interface Repair {
  /** What to send in place of what was refused, in this order. */
  messages: OfMessage<4>[];
  /** Refusals that nothing can be done about. */
  remaining: Refusal[];
}

const GONE = new Set(['OFPMMFC_UNKNOWN_METER', 'OFPGMFC_UNKNOWN_GROUP']);
const EXISTS = new Set(['OFPMMFC_METER_EXISTS', 'OFPGMFC_GROUP_EXISTS']);

export function repair(refusals: readonly Refusal[]): Repair {
  const fixed: OfMessage<4>[] = [];
  const remaining: Refusal[] = [];
  let madeAnew = false;
  for (const r of refusals) {
    const m = r.message;
    if (m.cls !== 'OFPMeterMod' && m.cls !== 'OFPGroupMod') {
      remaining.push(r);
      continue;
    }
    // Commands of meters and groups have the same numbers. OpenFlow 1.3.5 §7.3.4.2 and §7.3.4.4.
    const { command } = m;
    if (GONE.has(r.code) && command === ofp.OFPMC_DELETE) continue;
    if (EXISTS.has(r.code) && command === ofp.OFPMC_ADD) fixed.push({ ...m, command: ofp.OFPMC_MODIFY });
    else if (GONE.has(r.code) && command === ofp.OFPMC_MODIFY) {
      fixed.push({ ...m, command: ofp.OFPMC_ADD });
      madeAnew = true;
    } else remaining.push(r);
  }
  if (!madeAnew) return { messages: fixed, remaining };
  // Flows that use what was missing were refused for that reason, and are sent again behind it.
  const isFlow = (r: Refusal) => r.message.cls === 'OFPFlowMod' && r.message.command === ofp.OFPFC_ADD;
  const flows = remaining.filter(isFlow).map((r) => r.message);
  const barrier = flows.length > 0 ? [of13.OFPBarrierRequest({})] : [];
  return { messages: [...fixed, ...barrier, ...flows], remaining: remaining.filter((r) => !isFlow(r)) };
}
