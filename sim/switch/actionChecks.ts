/**
 * Which actions an emulated switch refuses, and with which error. flowTables.ts asks when flows and groups are added,
 * emulatedSwitch.ts for packet-outs; pipeline.ts carries actions out.
 */
import { ofproto_v1_3 as ofp } from 'node-openflow';
import { ETH_IPV4, ETH_QINQ, ETH_VLAN } from '../packet.ts';
import type { Action } from './entries.ts';
import { type FieldTest, hasPrerequisite, isMatchField, type MatchField, type OfErrorCode } from './match.ts';

/**
 * Checks actions as Open vSwitch does: `tests` are the flow's match, which must pin down the headers that set-field writes
 * (OFPBAC_MATCH_INCONSISTENT otherwise); undefined in a packet-out, where the packet itself decides.
 */
export function checkActions(
  actions: readonly Action[],
  tests: readonly FieldTest[] | undefined,
  hasGroup: (id: number) => boolean = () => false,
): OfErrorCode | undefined {
  const bad = (code: number): OfErrorCode => ({ type: ofp.OFPET_BAD_ACTION, code });
  let tagged = tests?.some((t) => t.name === 'vlan_vid' && (t.value & BigInt(ofp.OFPVID_PRESENT)) !== 0n) ?? true;
  for (const a of actions) {
    switch (a.cls) {
      case 'OFPActionOutput': {
        const reserved: readonly number[] = [
          ofp.OFPP_IN_PORT,
          ofp.OFPP_TABLE,
          ofp.OFPP_NORMAL,
          ofp.OFPP_FLOOD,
          ofp.OFPP_ALL,
          ofp.OFPP_CONTROLLER,
          ofp.OFPP_LOCAL,
        ];
        if (a.port === 0 || (a.port > ofp.OFPP_MAX && !reserved.includes(a.port))) return bad(ofp.OFPBAC_BAD_OUT_PORT);
        // Only a packet-out may start the pipeline (7.2.1).
        if (a.port === ofp.OFPP_TABLE && tests !== undefined) return bad(ofp.OFPBAC_BAD_OUT_PORT);
        break;
      }
      case 'OFPActionPushVlan':
        if (a.ethertype !== ETH_VLAN && a.ethertype !== ETH_QINQ) return bad(ofp.OFPBAC_BAD_ARGUMENT);
        tagged = true;
        break;
      case 'OFPActionPopVlan':
        if (!tagged) return bad(ofp.OFPBAC_MATCH_INCONSISTENT);
        tagged = false;
        break;
      case 'OFPActionSetField': {
        if (!isMatchField(a.field)) return bad(ofp.OFPBAC_BAD_SET_TYPE);
        if (a.field === 'in_port' || a.field === 'eth_type' || a.field === 'ip_proto')
          return bad(ofp.OFPBAC_BAD_SET_TYPE);
        if (a.field === 'vlan_vid' && (Number(a.value) & ofp.OFPVID_PRESENT) === 0) {
          return bad(ofp.OFPBAC_BAD_SET_ARGUMENT);
        }
        const isVlan = a.field === 'vlan_vid' || a.field === 'vlan_pcp';
        const fits = isVlan ? tagged : tests === undefined || hasPrerequisite(a.field as MatchField, tests);
        if (!fits) return bad(ofp.OFPBAC_MATCH_INCONSISTENT);
        break;
      }
      case 'OFPActionSetNwTtl':
      case 'OFPActionDecNwTtl':
        if (tests !== undefined && !tests.some((t) => t.name === 'eth_type' && Number(t.value) === ETH_IPV4)) {
          return bad(ofp.OFPBAC_MATCH_INCONSISTENT);
        }
        break;
      case 'OFPActionSetQueue':
        break;
      case 'OFPActionGroup':
        if (!hasGroup(a.group_id)) return bad(ofp.OFPBAC_BAD_OUT_GROUP);
        break;
      default:
        return bad(ofp.OFPBAC_BAD_TYPE);
    }
  }
  return undefined;
}
