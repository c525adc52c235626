/** Writes that go as a whole: what is sent, what holds afterwards, and what becomes of switches that have no bundles. */
import { decodeAs, encode, type OfMessage, OfRequestError, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { systemClock } from '../../../contracts/clock.ts';
import { bundledWrite, whyNoBundles } from '../../../controller/core/bundles.ts';
import type { Event } from '../../../controller/core/events.ts';
import {
  addFlow,
  flow,
  GROUP_BASE,
  type Group,
  groupSignature,
  removeFlow,
  removeGroup,
  removeMeter,
  writeGroup,
  writeMeter,
} from '../../../controller/core/flows.ts';
import { SwitchServer } from '../../../controller/io/switches.ts';
import { EmulatedSwitch, type EmulatedSwitchOptions } from '../../../sim/switch/emulatedSwitch.ts';
import { Cable } from './cable.ts';

const DPID = '00000000000000b1';
const barrier = of13.OFPBarrierRequest({});
const output = (port: number) =>
  of13.OFPInstructionActions({
    type: ofp.OFPIT_APPLY_ACTIONS,
    actions: [of13.OFPActionOutput({ port, max_len: 0 })],
  });
const through = (group_id: number) =>
  of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions: [of13.OFPActionGroup({ group_id })] });
const to = (last: string, instructions: Parameters<typeof flow>[0]['instructions'] = [output(1)]) =>
  flow({
    table: 2,
    priority: 1000,
    match: of13.OFPMatch({ eth_dst: `02:00:00:00:00:${last}` }),
    instructions,
    cookie: 0xfa1c_0003_0000_0000n,
  });
const METER = { meterId: 0xfa01, rateKbps: 5000, burstKbits: 500 };
const metered = to('09', [of13.OFPInstructionMeter({ meter_id: METER.meterId }), output(1)]);
const buckets = [
  { port: 1, weight: 1 },
  { port: 2, weight: 1 },
];
const group: Group = { groupId: GROUP_BASE, kind: 'select', buckets, signature: groupSignature('select', buckets) };
const other = { ...group, groupId: GROUP_BASE + 1 };

describe('the parts of a write', () => {
  test('meters stay outside, those that go to the end, and barriers are not needed', () => {
    const [a, b] = [addFlow(to('01')), removeFlow(to('02'))];
    const [add, modify] = [writeMeter(METER, 'add'), writeMeter({ ...METER, meterId: 7 }, 'modify')];
    const [dead, gone] = [removeGroup(other.groupId), removeMeter(8)];
    const g = writeGroup(group, 'add');
    expect(bundledWrite([b, add, modify, g, barrier, a, barrier, gone, dead])).toEqual({
      before: [add, modify],
      bundle: [b, g, a, dead],
      after: [gone],
    });
  });

  test.each([
    ['one flow', [addFlow(to('01'))]],
    ['one flow and its meter', [writeMeter(METER, 'add'), barrier, addFlow(metered)]],
    ['meters', [writeMeter(METER, 'add'), removeMeter(8)]],
    ['nothing', []],
  ])('%s: there is nothing to bundle', (_what, messages) => {
    expect(bundledWrite(messages)).toBeUndefined();
  });
});

describe('a refusal', () => {
  const open = of13.ONFBundleCtrlMsg({ bundle_id: 1, type: ofp.ONF_BCT_OPEN_REQUEST, flags: 3 });
  const commit = of13.ONFBundleCtrlMsg({ bundle_id: 1, type: ofp.ONF_BCT_COMMIT_REQUEST, flags: 3 });
  const add = of13.ONFBundleAddMsg({ bundle_id: 1, flags: 3, message: of13.OFPFlowMod({}) });
  const error = (request: OfMessage, type: number, code: number) => {
    const said = decodeAs(4, encode(of13.OFPErrorMsg({ type, code, data: Buffer.alloc(0) }), 1));
    if (said.cls !== 'OFPErrorMsg') throw new Error('not an error');
    return new OfRequestError(said, request);
  };
  const ofBundles = (request: OfMessage, exp_type: number) => {
    const m = of13.OFPErrorMsg({ type: ofp.OFPET_EXPERIMENTER, exp_type, experimenter: 0x4f4e4600 });
    const said = decodeAs(4, encode(m, 1));
    if (said.cls !== 'OFPErrorMsg') throw new Error('not an error');
    return new OfRequestError(said, request);
  };

  test.each([
    ['no such message', [error(open, ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_TYPE)], /BAD_TYPE/],
    ['no such experimenter', [error(open, ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_BAD_EXPERIMENTER)], /BAD_EXPERIMENTER/],
    ['no more bundles', [ofBundles(open, ofp.ONFERR_ET_OUT_OF_BUNDLES)], /OUT_OF_BUNDLES/],
    [
      'no groups in bundles',
      [ofBundles(add, ofp.ONFERR_ET_MSG_UNSUP), ofBundles(add, ofp.ONFERR_ET_MSG_UNSUP)],
      /^[^,]*$/,
    ],
    ['given up', [ofBundles(commit, ofp.ONFERR_ET_TIMEOUT)], /TIMEOUT/],
  ])('%s: without bundles from now on', (_what, errors, why) => {
    expect(whyNoBundles(errors)).toMatch(why);
  });

  test.each([
    [
      'a full table',
      [error(add, ofp.OFPET_FLOW_MOD_FAILED, ofp.OFPFMFC_TABLE_FULL), ofBundles(commit, ofp.ONFERR_ET_FAILED)],
    ],
    ['a bad port, before the commit', [error(add, ofp.OFPET_BAD_ACTION, ofp.OFPBAC_BAD_OUT_PORT)]],
    ['a commit that does not say what was wrong', [ofBundles(commit, ofp.ONFERR_ET_FAILED)]],
    ['another master', [error(open, ofp.OFPET_BAD_REQUEST, ofp.OFPBRC_IS_SLAVE)]],
  ])('%s: what was in it was refused', (_what, errors) => {
    expect(whyNoBundles(errors)).toBeUndefined();
  });
});

describe('a switch', () => {
  let server: SwitchServer;
  let events: Event[] = [];
  const logged: string[] = [];
  const undo: (() => unknown)[] = [];
  let device: EmulatedSwitch;
  let cable: Cable;

  async function until(holds: () => boolean, what: string): Promise<void> {
    for (let i = 0; i < 6000; i++) {
      if (holds()) return;
      await new Promise((r) => setTimeout(r, 10));
    }
    throw new Error(`gave up waiting until ${what}; events: ${events.map((e) => e.kind)}; log: ${logged}`);
  }
  const saw = <K extends Event['kind']>(kind: K) =>
    events.filter((e): e is Extract<Event, { kind: K }> => e.kind === kind);
  const session = () => server.describe()[0]?.bundles;

  /** A switch that has said whether it has bundles. */
  async function started(o: Partial<EmulatedSwitchOptions> = {}, fateOf?: Cable['fateOf']): Promise<void> {
    events = [];
    logged.length = 0;
    server = await SwitchServer.listen({
      host: '127.0.0.1',
      port: 0,
      clock: systemClock(),
      log: (_level, event, fields) => logged.push(`${event} ${JSON.stringify(fields)}`),
      emit: (e) => events.push(e),
    });
    undo.push(() => server.close());
    cable = await Cable.lay(server.port);
    undo.push(() => cable.close());
    if (fateOf) cable.fateOf = fateOf;
    device = new EmulatedSwitch({
      dpid: DPID,
      name: 's1',
      controller: { host: '127.0.0.1', port: cable.port },
      clock: systemClock(),
      ports: [1, 2].map((portNo) => ({
        portNo,
        name: `eth${portNo}`,
        hwAddr: `02:00:00:00:00:f${portNo}`,
        speedBps: 1e9,
      })),
      transmit: () => {},
      ...o,
    });
    undo.push(() => device.stop());
    device.start();
    await until(() => saw('switchUp').length === 1, 'the switch is up');
    if (o.bundles !== undefined) await until(() => session()?.used === o.bundles, 'it has said so');
    cable.classes();
  }
  afterEach(async () => {
    for (const u of undo.splice(0).reverse()) await u();
  });

  let batch = 0;
  async function write(...messages: OfMessage<4>[]) {
    const mine = ++batch;
    server.write(DPID, mine, messages);
    await until(() => saw('written').some((e) => e.batch === mine), `write ${mine} is answered`);
    return saw('written').find((e) => e.batch === mine);
  }
  const held = () => device.tables.flows().map((f) => f.match.fields.eth_dst);

  test('that has bundles gets flows and groups in one, meters before it and behind it', async () => {
    await started({ bundles: true });
    const uses = to('03', [through(group.groupId)]);
    const all = [writeMeter(METER, 'add'), writeGroup(group, 'add'), barrier, addFlow(uses), addFlow(metered)];
    expect(await write(...all)).toMatchObject({ outcome: 'applied', errors: [] });
    expect(cable.classes()).toEqual([
      ...['OFPMeterMod', 'OFPBarrierRequest'],
      ...['bundle:0', 'add:OFPGroupMod', 'add:OFPFlowMod', 'add:OFPFlowMod', 'OFPBarrierRequest', 'bundle:4'],
    ]);
    expect(held()).toHaveLength(2);

    // The flow goes over to another group, and what nobody uses any more goes in the end.
    const moved = to('03', [through(other.groupId)]);
    const next = [removeFlow(metered), writeGroup(other, 'add'), barrier, addFlow(moved), barrier];
    expect(await write(...next, removeMeter(METER.meterId), removeGroup(group.groupId))).toMatchObject({
      outcome: 'applied',
    });
    expect(cable.classes()).toEqual([
      ...['bundle:0', 'add:OFPFlowMod', 'add:OFPGroupMod', 'add:OFPFlowMod', 'add:OFPGroupMod', 'OFPBarrierRequest'],
      ...['bundle:4', 'OFPMeterMod', 'OFPBarrierRequest'],
    ]);
    expect(held()).toEqual(['02:00:00:00:00:03']);
    expect(device.tables.meters()).toEqual([]);
    expect(device.tables.groups().map((g) => g.groupId)).toEqual([other.groupId]);
    expect(session()).toEqual({ used: true, why: '', committed: 2, refused: 0 });

    expect(await write(addFlow(to('04')))).toMatchObject({ outcome: 'applied' });
    expect(cable.classes()).toEqual(['OFPFlowMod', 'OFPBarrierRequest']);
  });

  test('that has none is written to as ever, and status says why', async () => {
    await started({ bundles: false });
    await until(() => /BAD_EXPERIMENTER/.test(session()?.why ?? ''), 'it has said so');
    cable.classes();
    expect(await write(addFlow(to('01')), addFlow(to('02')))).toMatchObject({ outcome: 'applied' });
    expect(cable.classes()).toEqual(['OFPFlowMod', 'OFPFlowMod', 'OFPBarrierRequest']);
  });

  test('whose table is full refuses the bundle, gets what it has room for, and tells what it holds', async () => {
    await started({ bundles: true, maxFlows: 2 });
    expect(await write(addFlow(to('01')))).toMatchObject({ outcome: 'applied' });
    const result = await write(removeFlow(to('01')), addFlow(to('02')), addFlow(to('03')), addFlow(to('04')));
    expect(result).toMatchObject({
      outcome: 'refused',
      isTableFull: true,
      errors: ['OFPET_FLOW_MOD_FAILED/OFPFMFC_TABLE_FULL'],
    });
    expect(result?.holds?.flows.map((f) => f.key)).toEqual([to('02').key, to('03').key]);
    expect(held()).toEqual(['02:00:00:00:00:02', '02:00:00:00:00:03']);
    expect(session()).toEqual({ used: true, why: '', committed: 0, refused: 1 });
    expect(logged.join()).toMatch(/switch\.bundleRefused.*TABLE_FULL/);

    // Bundles go on to be used, once there is room.
    expect(await write(removeFlow(to('02')), removeFlow(to('03')), addFlow(to('04')))).toMatchObject({
      outcome: 'applied',
    });
    expect(session()).toMatchObject({ used: true, committed: 1 });
  });

  test('that holds a group already has it modified, with the rest of the write in force', async () => {
    await started({ bundles: true });
    expect(await write(writeGroup(group, 'add'))).toMatchObject({ outcome: 'applied' });
    const uses = to('03', [through(group.groupId)]);
    const again = await write(writeGroup(group, 'add'), barrier, addFlow(uses), addFlow(to('01')));
    expect(again).toMatchObject({ outcome: 'applied', errors: [] });
    expect(held()).toHaveLength(2);
    expect(session()).toMatchObject({ used: true, refused: 1 });
  });

  test('without room for a meter is not asked for a bundle that would need it', async () => {
    await started({ bundles: true, maxMeters: 0 });
    const result = await write(
      writeMeter(METER, 'add'),
      barrier,
      addFlow(metered),
      addFlow(to('01')),
      addFlow(to('02')),
    );
    expect(result).toMatchObject({ outcome: 'refused' });
    expect(result?.errors[0]).toMatch(/OUT_OF_METERS/);
    expect(cable.classes().filter((c) => c.startsWith('bundle'))).toEqual([]);
  });

  test('that is cut off before the commit holds nothing of it, and says so when it is back', async () => {
    await started({ bundles: true }, (m) =>
      m.cls === 'ONFBundleCtrlMsg' && m.type === ofp.ONF_BCT_COMMIT_REQUEST && session()?.used === true
        ? 'cuts'
        : 'goesOn',
    );
    expect(await write(addFlow(to('01')), addFlow(to('02')))).toMatchObject({ outcome: 'unknown' });
    expect(held()).toEqual([]);
    await until(() => saw('switchUp').length === 2, 'it is back');
    expect(saw('switchUp')[1]).toMatchObject({ flows: [] });
    cable.fateOf = () => 'goesOn';
    await until(() => session()?.used === true, 'it has said that it has bundles');
    expect(await write(addFlow(to('01')), addFlow(to('02')))).toMatchObject({ outcome: 'applied' });
  });

  test('that carried it out, and was cut off before it could say so, is read back', async () => {
    await started({ bundles: true });
    const { tables } = device;
    const applyAll = tables.applyAll.bind(tables);
    tables.applyAll = (...given) => {
      tables.applyAll = applyAll;
      const answer = applyAll(...given);
      cable.cut();
      return answer;
    };
    expect(await write(addFlow(to('01')), addFlow(to('02')))).toMatchObject({ outcome: 'unknown' });
    await until(() => saw('switchUp').length === 2, 'it is back');
    expect(saw('switchUp')[1]?.flows.map((f) => f.key)).toEqual([to('01').key, to('02').key]);
  });

  test('that loses a bundle before it is committed gets its write without, and no other with one', async () => {
    await started({ bundles: true });
    cable.fateOf = (m) => (m.cls === 'ONFBundleCtrlMsg' && m.type === ofp.ONF_BCT_OPEN_REQUEST ? 'isLost' : 'goesOn');
    expect(await write(addFlow(to('01')), addFlow(to('02')))).toMatchObject({ outcome: 'applied' });
    expect(session()).toMatchObject({ used: false, refused: 1 });
    expect(session()?.why).toMatch(/BAD_ID/);
    cable.classes();
    expect(await write(addFlow(to('03')), addFlow(to('04')))).toMatchObject({ outcome: 'applied' });
    expect(cable.classes()).toEqual(['OFPFlowMod', 'OFPFlowMod', 'OFPBarrierRequest']);
  });
});
