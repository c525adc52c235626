/**
 * Nicira's extensions where no other implementation can be asked: types, nesting, headers of odd lengths, contents a class
 * has no place for, and JSON by names Ryu does not have.
 */
import {
  decode,
  encode,
  fromJson,
  nicira_ext as nx,
  OFPMatch,
  OfDecodeError,
  OfEncodeError,
  type OfMessage,
  of10,
  of13,
  ofs_nbits,
  parseJson,
  stringifyJson,
  toJson,
} from 'node-openflow';

test('types: mistakes do not compile', () => {
  const unused = () => {
    // @ts-expect-error no such match field
    of13.NXActionRegLoad({ dst: 'reg99', ofs_nbits: 0, value: 1n });
    // @ts-expect-error required
    of13.NXActionRegLoad({ dst: 'reg0', value: 1n });
    // @ts-expect-error an instruction is no action
    of13.NXActionCT({ actions: [of13.OFPInstructionGotoTable({ table_id: 1 })] });
    // @ts-expect-error an action of 1.0 is none of 1.3
    of13.NXActionClone({ actions: [of10.OFPActionStripVlan()] });
    // @ts-expect-error the value must be of the field's type
    of13.NXActionRegLoad2({ dst: 'ipv4_src', value: 1 });
    // @ts-expect-error what is output goes nowhere else
    of13.NXFlowSpecOutput({ src: ['reg0', 0], dst: ['reg1', 0], n_bits: 16 });
    // @ts-expect-error pausing cannot be unset
    of13.NXActionController2({ pause: false });
    // @ts-expect-error statistics of flows are those of 1.0
    of13.NXFlowStatsRequest();
    // @ts-expect-error an action holds actions, a message does not
    of13.NXActionClone({ actions: [of13.OFPBarrierRequest()] });
    const ct = of13.NXActionCT({ actions: [of13.NXActionNAT({ flags: 1 })] });
    const inner = ct.actions[0];
    if (inner?.cls === 'NXActionCT') return inner.actions[0]?.cls;
    if (inner?.cls === 'NXActionNAT') return inner.range_proto_min satisfies number | null;
    const msg: OfMessage = decode(Buffer.alloc(0));
    if (msg.version === 1 && msg.cls === 'NXTFlowMod') return msg.actions[0]?.cls;
    if (msg.version === 4 && msg.cls === 'NXTFlowMod') return msg.instructions[0]?.cls;
    return undefined;
  };
  expect(unused).toBeInstanceOf(Function);
});

/** The bytes of a flow-mod with one action. */
function flow(...actions: Parameters<typeof of13.OFPInstructionActions>[0]['actions'] & object): Buffer {
  const apply = of13.OFPInstructionActions({ type: 4, actions });
  return Buffer.from(encode(of13.OFPFlowMod({ instructions: [apply] })));
}
/** A flow-mod whose one action has these bytes. */
function withAction(hex: string): Buffer {
  const action = Buffer.from(hex.replaceAll(' ', ''), 'hex');
  const head = flow();
  head.writeUInt16BE(8 + action.length, head.length - 6);
  const all = Buffer.concat([head, action]);
  all.writeUInt16BE(all.length, 2);
  return all;
}
function actionsOf(bytes: Buffer): readonly { cls: string }[] {
  const msg = decode(bytes);
  if (msg.version !== 4 || msg.cls !== 'OFPFlowMod') throw new Error(msg.cls);
  const [apply] = msg.instructions;
  if (apply?.cls !== 'OFPInstructionActions') throw new Error(String(apply?.cls));
  return apply.actions;
}

describe('nesting', () => {
  /** Clones, one inside the other. */
  function clones(depth: number): string {
    let inner = '';
    for (let i = 0; i < depth; i++) {
      const length = (16 + inner.length / 2).toString(16).padStart(4, '0');
      inner = `ffff${length}00002320002a000000000000${inner}`;
    }
    return inner;
  }

  test('as deep as sense goes', () => {
    const bytes = withAction(clones(32));
    expect(encode(decode(bytes)).equals(bytes)).toBe(true);
    expect(stringifyJson(decode(bytes)).match(/NXActionClone/g)).toHaveLength(32);
  });

  test('no deeper, whatever was read before', () => {
    for (let i = 0; i < 3; i++) {
      expect(() => decode(withAction(clones(33)))).toThrow('inside itself too often');
      expect(() => decode(withAction(clones(3000)))).toThrow(OfDecodeError);
      expect(actionsOf(withAction(clones(32)))).toHaveLength(1);
    }
  });

  test('actions inside are bounded by what holds them', () => {
    // an output of 16 bytes in a clone that has 8 left
    expect(() => decode(withAction('ffff 0018 00002320 002a 000000000000 0000 0010 00000001'))).toThrow(OfDecodeError);
  });
});

describe('contents without a place are kept raw', () => {
  test.each([
    ['NAT with a part nobody knows', 'ffff 0010 00002320 0024 0000 0001 0040'],
    ['NAT with more than its parts', 'ffff 0018 00002320 0024 0000 0001 0000 0102030405060708'],
    ['controller2 with an unknown property', 'ffff 0018 00002320 0025 000000000000 0063 0008 01020304'],
    ['controller2 with two of a kind', 'ffff 0020 00002320 0025 000000000000 0001 0008 00050000 0001 0008 00060000'],
    ['reg_load2 with more than its field', 'ffff 0020 00002320 0021 00010004 00000005 0000000000000000000000000000'],
    ['a subtype nobody knows', 'ffff 0018 00002320 03e7 0102030405060708090a0b0c0d0e'],
  ])('%s', (_, hex) => {
    const bytes = withAction(hex);
    expect(actionsOf(bytes).map((a) => a.cls)).toEqual(['NXActionUnknown']);
    expect(encode(decode(bytes)).toString('hex')).toBe(bytes.toString('hex'));
    const back = fromJson(parseJson(stringifyJson(toJson(decode(bytes)))));
    expect(encode(back).toString('hex')).toBe(bytes.toString('hex'));
  });

  test.each([
    ['NAT cut short', 'ffff 0010 00002320 0024 0000 0001 0004'],
    [
      'learn with a destination nobody knows',
      'ffff 0028 00002320 0010 0000000000000000 0000000000000000 0000 0100 00000000 1810 0000 0000 0000',
    ],
    [
      'learn cut short in a field',
      'ffff 0028 00002320 0010 0000000000000000 0000000000000000 0000 0100 00000000 0010 0000 0002 0000',
    ],
    [
      'learn cut short in a number',
      'ffff 0028 00002320 0010 0000000000000000 0000000000000000 0000 0100 00000000 23ff 0000 0000 0000',
    ],
    [
      'bundle with more members than it has',
      'ffff 0020 00002320 000c 0000 0000 0000 00000002 0005 0000 00000000 00000000',
    ],
    ['cnt_ids with more than it has', 'ffff 0018 00002320 0015 0009 00000000 0001000200030004'],
    ['a header of a field cut short', 'ffff 0018 00002320 0006 0001 0000 0000 00010004 ffff0204 0000'],
    ['an encap property longer than the action', 'ffff 0018 00002320 002e 0000 0001894f 0004 0109 02000000'],
  ])('%s is refused', (_, hex) => {
    expect(() => decode(withAction(hex))).toThrow(OfDecodeError);
  });
});

describe('headers of match fields', () => {
  test('a length that is not the field’s stands behind its name', () => {
    const bytes = withAction('ffff 0018 00002320 0006 0008 0000 0000 00015608 00010004');
    expect(actionsOf(bytes)[0]).toMatchObject({ src_field: 'tun_metadata3/8', dst_field: 'reg0' });
    expect(encode(decode(bytes)).toString('hex')).toBe(bytes.toString('hex'));
    const masked = withAction('ffff 0018 00002320 0006 0008 0000 0000 00010108 00023a0c');
    expect(actionsOf(masked)[0]).toMatchObject({ src_field: 'reg0/m8', dst_field: 'field_285/12' });
    expect(encode(decode(masked)).toString('hex')).toBe(masked.toString('hex'));
  });

  test('what Ryu has no name for is its number in JSON, and reads back by both', () => {
    const action = of13.NXActionStackPush({ field: 'tun_metadata7', start: 0, end: 8 });
    expect(toJson(action)).toMatchObject({ NXActionStackPush: { field: 'field_175' } });
    for (const field of ['field_175', 'tun_metadata7']) {
      expect(fromJson({ NXActionStackPush: { field, start: 0, end: 8 } })).toMatchObject({ cls: 'NXActionStackPush' });
      const json = {
        OFPInstructionActions: { type: 4, actions: [{ NXActionStackPush: { field, start: 0, end: 8 } }] },
      };
      const bytes = encode(fromJson({ OFPFlowMod: { instructions: [json] } }));
      expect(bytes.toString('hex')).toBe(flow(action).toString('hex'));
    }
  });

  test.each(['nosuch', 'reg0/', 'reg0/x', 'reg0/256', 'reg0/m8/1', ''])('%s is none', (field) => {
    const action = of13.NXActionStackPush({ field: field as 'reg0', start: 0, end: 1 });
    expect(() => flow(action)).toThrow(OfEncodeError);
  });

  test('there is no room for an experimenter’s where the header has 32 bits', () => {
    const action = of13.NXActionRegLoad({ dst: 'nsh_c1', ofs_nbits: ofs_nbits(0, 31), value: 1n });
    expect(() => flow(action)).toThrow('no room');
    expect(ofs_nbits(4, 7)).toBe((4 << 6) | 3);
  });
});

test('matches name fields that Ryu does not, and JSON has them as Ryu shows them', () => {
  const match = OFPMatch({ ct_nw_src: ['10.1.2.3', '255.0.0.0'], tun_metadata0: 'AQI=', ct_tp_dst: 80 });
  expect(match.fields).toEqual({ tun_metadata0: 'AQI=', ct_nw_src: ['10.0.0.0', '255.0.0.0'], ct_tp_dst: 80 });
  const json = toJson(match);
  expect(json).toMatchObject({
    OFPMatch: {
      oxm_fields: [
        { OXMTlv: { field: 'field_168', value: 'AQI=', mask: null } },
        { OXMTlv: { field: 'field_248', value: 'CgAAAA==', mask: '/wAAAA==' } },
        { OXMTlv: { field: 'field_253', value: 'AFA=', mask: null } },
      ],
    },
  });
  const read = fromJson({ OFPFlowMod: { match: json } });
  expect(read).toMatchObject({ match });
  const named = { OFPMatch: { oxm_fields: [{ OXMTlv: { field: 'ct_tp_dst', value: 80, mask: null } }] } };
  expect(fromJson({ OFPFlowMod: { match: named } })).toMatchObject({ match: { fields: { ct_tp_dst: 80 } } });
});

test('actions that Ryu does not know are its unknown action in JSON, and read back by both', () => {
  const action = of13.NXActionCheckPktLarger({ pkt_len: 1500, offset: 0, dst: 'reg0' });
  expect(toJson(action)).toEqual({
    NXActionUnknown: {
      data: 'BdwAAAABAAQAAAAAAAA=',
      experimenter: nx.NX_EXPERIMENTER_ID,
      len: 24,
      subtype: nx.NXAST_CHECK_PKT_LARGER,
      type: 65535,
    },
  });
  const byName = { NXActionCheckPktLarger: { pkt_len: 1500, offset: 0, dst: 'reg0' } };
  for (const json of [byName, toJson(action)]) {
    const apply = { OFPInstructionActions: { type: 4, actions: [json] } };
    expect(encode(fromJson({ OFPFlowMod: { instructions: [apply] } })).toString('hex')).toBe(
      flow(action).toString('hex'),
    );
  }
});

test('messages of 1.0 are inside OFPVendor in JSON, as Ryu has them', () => {
  const msg = of10.NXTRoleReply({ role: nx.NX_ROLE_MASTER, xid: 5 });
  const json = toJson(msg);
  expect(json).toEqual({
    OFPVendor: { data: { NXTRoleReply: { data: null, role: 1, subtype: 11, vendor: 8992 } }, vendor: 8992 },
  });
  expect(encode(fromJson(json, 1), 5).equals(encode(msg))).toBe(true);
  expect(encode(fromJson({ NXTRoleReply: { role: 1 } }, 1), 5).equals(encode(msg))).toBe(true);
});

test('statistics and updates of flows that match everything and do nothing', () => {
  for (const msg of [
    of10.NXFlowStatsReply({ body: [of10.NXFlowStats(), of10.NXFlowStats({ priority: 3 })] }),
    of10.NXFlowMonitorStatsReply({ body: [of10.NXFlowUpdateFull({ event: nx.NXFME_ADDED })] }),
    of10.NXFlowMonitorStatsRequest({ body: [of10.NXFlowMonitor({ id: 1 }), of10.NXFlowMonitor({ id: 2 })] }),
  ]) {
    expect(decode(encode(msg))).toEqual(msg);
  }
});

test('what does not fit is refused by class and field', () => {
  const refused = (action: object, field: string) => {
    const bad = { ...action } as ReturnType<typeof of13.NXActionExit>;
    expect(() => flow(bad)).toThrow(expect.objectContaining({ field }));
  };
  refused(of13.NXActionNAT({ flags: 1, range_ipv4_min: '1.2.3' }), 'range_ipv4_min');
  refused(of13.NXActionNAT({ flags: 1, range_ipv6_max: 'x' }), 'range_ipv6_max');
  refused(of13.NXActionNAT({ flags: 1, range_proto_max: 65536 }), 'range_proto_max');
  refused(of13.NXActionController2({ userdata: [256] }), 'userdata');
  refused(of13.NXActionController2({ max_len: -1 }), 'max_len');
  refused(of13.NXActionNote({ note: [256] }), 'note');
  refused(of13.NXActionDecTtlCntIds({ cnt_ids: [65536] }), 'cnt_ids');
  const spec = (src: bigint, n_bits: number) => of13.NXFlowSpecMatch({ src, n_bits, dst: ['reg0', 0] });
  refused(of13.NXActionLearn({ table_id: 1, specs: [spec(1n << 16n, 16)] }), 'src');
  refused(of13.NXActionLearn({ table_id: 1, specs: [spec(1n, 1024)] }), 'n_bits');
  const nothing = of13.NXFlowSpecMatch({ src: ['reg0', 0], n_bits: 0, dst: ['reg0', 0] });
  refused(of13.NXActionLearn({ table_id: 1, specs: [nothing] }), 'n_bits');
});
