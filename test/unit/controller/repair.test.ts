/** What is sent when a switch's own state explains why it refused. */
import { type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { repair } from '../../../controller/core/repair.ts';

const refusal = (message: OfMessage<4>, code: string) => ({ message, code, text: code });
const meter = (command: number) => of13.OFPMeterMod({ command, meter_id: 7, bands: [] });
const group = (command: number) => of13.OFPGroupMod({ command, group_id: 7, buckets: [] });

test.each([
  ['a meter that is there already', meter(ofp.OFPMC_ADD), 'OFPMMFC_METER_EXISTS', [meter(ofp.OFPMC_MODIFY)]],
  ['a group that is there already', group(ofp.OFPGC_ADD), 'OFPGMFC_GROUP_EXISTS', [group(ofp.OFPGC_MODIFY)]],
  ['a meter that is not there', meter(ofp.OFPMC_MODIFY), 'OFPMMFC_UNKNOWN_METER', [meter(ofp.OFPMC_ADD)]],
  ['a group that is not there', group(ofp.OFPGC_MODIFY), 'OFPGMFC_UNKNOWN_GROUP', [group(ofp.OFPGC_ADD)]],
  ['a meter that is gone already', meter(ofp.OFPMC_DELETE), 'OFPMMFC_UNKNOWN_METER', []],
  ['a group that is gone already', group(ofp.OFPGC_DELETE), 'OFPGMFC_UNKNOWN_GROUP', []],
])('%s', (_what, message, code, messages) => {
  expect(repair([refusal(message, code)])).toEqual({ messages, remaining: [] });
});

test('other refusals remain', () => {
  const all = [
    refusal(meter(ofp.OFPMC_ADD), 'OFPMMFC_OUT_OF_METERS'),
    refusal(of13.OFPFlowMod({}), 'OFPFMFC_TABLE_FULL'),
    refusal(meter(ofp.OFPMC_DELETE), 'OFPMMFC_METER_EXISTS'),
  ];
  expect(repair(all)).toEqual({ messages: [], remaining: all });
});

test('flows refused for want of a meter follow it behind a barrier; deletes of flows do not', () => {
  const uses = of13.OFPFlowMod({ instructions: [of13.OFPInstructionMeter({ meter_id: 7 })] });
  const removal = refusal(of13.flowDelete({}), 'OFPFMFC_EPERM');
  const r = repair([
    refusal(meter(ofp.OFPMC_MODIFY), 'OFPMMFC_UNKNOWN_METER'),
    refusal(uses, 'OFPMMFC_INVALID_METER'),
    removal,
  ]);
  expect(r.messages.map((m) => m.cls)).toEqual(['OFPMeterMod', 'OFPBarrierRequest', 'OFPFlowMod']);
  expect(r.messages[2]).toBe(uses);
  expect(r.remaining).toEqual([removal]);
});
