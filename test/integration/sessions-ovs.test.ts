/**
 * The controller's switch sessions against a real ovs-vswitchd in a namespace of its own: limited to one OpenFlow version, over
 * TLS both ways, and waiting to be connected to. Certificates are made for the test and thrown away with it.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectTls } from 'node:tls';
import { of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { FairwayClient } from '../../cli/client.ts';
import { systemClock } from '../../contracts/clock.ts';
import { cookieFor, FEATURE } from '../../controller/core/cookies.ts';
import type { Event } from '../../controller/core/events.ts';
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
} from '../../controller/core/flows.ts';
import { SwitchServer, type SwitchServerOptions } from '../../controller/io/switches.ts';
import { Cable } from '../unit/io/cable.ts';
import { gate } from './gate.ts';
import { kill, PrivateOvs, until, whyNoOvs } from './privateOvs.ts';

const { reason, real, named } = gate(whyNoOvs(), existsSync('/usr/bin/openssl') ? undefined : 'openssl is missing');
jest.setTimeout(300_000);

const A = '00000000000000a1';
const B = '00000000000000b2';

let ovs: PrivateOvs;
let server: SwitchServer | undefined;
let events: Event[] = [];
const logged: string[] = [];
const address = { host: '', controller: '' };

/** A pair of virtual wires between this machine's namespace and the switch's: the session's own network. */
function wire(): void {
  const outside = `fwse${process.pid}`;
  const subnet = `169.254.${1 + (process.pid % 250)}`;
  execFileSync('ip', ['link', 'add', outside, 'type', 'veth', 'peer', 'name', 'fwctl', 'netns', ovs.netns]);
  execFileSync('ip', ['addr', 'add', `${subnet}.1/30`, 'dev', outside]);
  execFileSync('ip', ['link', 'set', outside, 'up']);
  ovs.inside('ip', 'addr', 'add', `${subnet}.2/30`, 'dev', 'fwctl');
  ovs.inside('ip', 'link', 'set', 'fwctl', 'up');
  address.controller = `${subnet}.1`;
  address.host = `${subnet}.2`;
}

function authority(dir: string, authorityName = 'test authority'): void {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: dir, stdio: ['ignore', 'pipe', 'pipe'] });
  openssl(
    'req',
    '-x509',
    '-newkey',
    'ec',
    '-pkeyopt',
    'ec_paramgen_curve:prime256v1',
    '-nodes',
    '-days',
    '1',
    ...['-subj', `/CN=${authorityName}`, '-keyout', 'ca-key.pem', '-out', 'ca.pem'],
  );
  for (const [name, cn] of [
    ['controller', 'controller'],
    ['a1', `dpid:${A}`],
    ['stranger', 'hv9'],
  ] as const) {
    openssl(
      'req',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      ...['-subj', `/CN=${cn}`, '-keyout', `${name}-key.pem`, '-out', `${name}.csr`],
    );
    openssl(
      'x509',
      '-req',
      '-in',
      `${name}.csr`,
      '-CA',
      'ca.pem',
      '-CAkey',
      'ca-key.pem',
      '-CAcreateserial',
      ...['-days', '1', '-out', `${name}.pem`],
    );
  }
}

const pki = mkdtempSync(join(tmpdir(), 'fairway-pki-'));
const file = (name: string) => join(pki, name);

/** Gives the switch one of the certificates. */
const present = (name: string) => ovs.vsctl('set-ssl', file(`${name}-key.pem`), file(`${name}.pem`), file('ca.pem'));

beforeAll(async () => {
  if (reason !== undefined) return;
  authority(pki);
  ovs = new PrivateOvs('se');
  await ovs.start();
  wire();
});
afterAll(async () => {
  rmSync(pki, { recursive: true, force: true });
  if (reason === undefined) await ovs.stop();
});
afterEach(async () => {
  if (reason !== undefined) return;
  await server?.close();
  server = undefined;
  ovs.vsctl('--if-exists', 'del-br', 'br0', '--', '--if-exists', 'del-br', 'br1', '--', 'del-ssl');
});

async function listen(o: Partial<SwitchServerOptions> = {}): Promise<SwitchServer> {
  events = [];
  logged.length = 0;
  server = await SwitchServer.listen({
    host: address.controller,
    port: 0,
    clock: systemClock(),
    log: (_level, event, fields) => logged.push(`${event} ${JSON.stringify(fields)}`),
    emit: (e) => events.push(e),
    ...o,
  });
  return server;
}

function bridge(name: string, dpid: string, protocols: string): void {
  const set = [
    `datapath_type=netdev`,
    `fail_mode=secure`,
    `protocols=${protocols}`,
    `other-config:datapath-id=${dpid}`,
  ];
  ovs.vsctl('add-br', name, '--', 'set', 'bridge', name, ...set);
  ovs.vsctl('add-port', name, `${name}p1`, '--', 'set', 'interface', `${name}p1`, 'type=internal');
}
const point = (name: string, target: string) => ovs.vsctl('set-controller', name, target);

const saw = <K extends Event['kind']>(kind: K) =>
  events.filter((e): e is Extract<Event, { kind: K }> => e.kind === kind);
const up = (dpid: string) => saw('switchUp').find((e) => e.dpid === dpid);

const METER = { meterId: 0xfa01, rateKbps: 5000, burstKbits: 500 };
const metered = flow({
  table: 0,
  priority: 30_000,
  match: of13.OFPMatch({ eth_type: 0x800, ip_proto: 6, ipv4_src: '10.0.0.1', ipv4_dst: '10.0.0.2', tcp_dst: 49_152 }),
  instructions: [
    of13.OFPInstructionMeter({ meter_id: METER.meterId }),
    of13.OFPInstructionActions({
      type: ofp.OFPIT_APPLY_ACTIONS,
      actions: [of13.OFPActionSetField({ field: 'ip_dscp', value: 10 }), of13.OFPActionSetQueue({ queue_id: 1 })],
    }),
    of13.OFPInstructionGotoTable({ table_id: 1 }),
  ],
  cookie: cookieFor(FEATURE.stream, 1),
});
const label = flow({
  table: 1,
  priority: 20_000,
  match: of13.OFPMatch({ eth_dst: '02:00:00:00:00:01' }),
  instructions: [
    of13.OFPInstructionActions({
      type: ofp.OFPIT_APPLY_ACTIONS,
      actions: [
        of13.OFPActionPushVlan({ ethertype: 0x8100 }),
        of13.OFPActionSetField({ field: 'vlan_vid', value: 100 | ofp.OFPVID_PRESENT }),
        of13.OFPActionOutput({ port: 1, max_len: 0 }),
      ],
    }),
  ],
  cookie: cookieFor(FEATURE.moved, 1),
});
const miss = flow({
  table: 0,
  priority: 0,
  match: of13.OFPMatch({}),
  instructions: [
    of13.OFPInstructionActions({
      type: ofp.OFPIT_APPLY_ACTIONS,
      actions: [of13.OFPActionOutput({ port: ofp.OFPP_CONTROLLER, max_len: 64 })],
    }),
  ],
  cookie: cookieFor(FEATURE.infrastructure),
});

const buckets = [
  { port: 1, weight: 2 },
  { port: ofp.OFPP_LOCAL, weight: 1 },
];
const spread: Group = { groupId: GROUP_BASE, kind: 'select', buckets, signature: groupSignature('select', buckets) };
const failover: Group = {
  groupId: GROUP_BASE + 1,
  kind: 'failover',
  buckets,
  signature: groupSignature('failover', buckets),
};
const through = ({ groupId }: Group) =>
  flow({
    table: 2,
    priority: 1000,
    match: of13.OFPMatch({ eth_dst: '02:00:00:00:00:07' }),
    instructions: [
      of13.OFPInstructionActions({
        type: ofp.OFPIT_APPLY_ACTIONS,
        actions: [of13.OFPActionGroup({ group_id: groupId })],
      }),
    ],
    cookie: cookieFor(FEATURE.forwarding),
  });
const bundles = (s: SwitchServer) => s.describe()[0]?.bundles;

async function write(s: SwitchServer, batch: number, messages: Parameters<SwitchServer['write']>[2]) {
  s.write(A, batch, messages);
  await until(() => saw('written').some((e) => e.batch === batch), `write ${batch} is answered`);
  return saw('written').find((e) => e.batch === batch);
}

describe.each([
  ['OpenFlow13,OpenFlow14,OpenFlow15', '1.3'],
  ['OpenFlow14', '1.4'],
  ['OpenFlow15', '1.5'],
])('a bridge with protocols=%s', (protocols, agreed) => {
  real(named(`is served in ${agreed}: ports, flows, meters, counters, packets`), async () => {
    const s = await listen();
    bridge('br0', A, protocols);
    point('br0', `tcp:${address.controller}:${s.port}`);
    await until(() => up(A) !== undefined, `the switch is up; log: ${logged}`);
    expect(s.describe()).toMatchObject([{ dpid: A, openflow: agreed, tls: false }]);
    expect(up(A)).toMatchObject({ flows: [], meterIds: [] });
    expect(
      up(A)
        ?.ports.map((p) => p.name)
        .sort(),
    ).toEqual(['br0', 'br0p1']);
    expect(up(A)?.maxMeters).toBeGreaterThan(0);

    await until(() => bundles(s)?.used === true, 'it has said that it has bundles');
    const barrier = of13.OFPBarrierRequest({});
    const all = [writeMeter(METER, 'add'), barrier, addFlow(label), addFlow(metered), addFlow(miss)];
    expect(await write(s, 1, all)).toMatchObject({ outcome: 'applied', errors: [] });
    expect(bundles(s)).toMatchObject({ committed: 1, refused: 0 });

    // What is read back must be what was written, or every reconnect would write it again.
    const held = await s.sessions.get(A)?.readBack();
    const signatures = new Map(held?.flows.map((f) => [f.key, f.signature]));
    expect(signatures).toEqual(new Map([metered, label, miss].map((f) => [f.key, f.signature])));
    expect(held?.meterIds).toEqual([METER.meterId]);

    // The same again: the meter is there already, and is modified instead.
    expect(await write(s, 2, all)).toMatchObject({ outcome: 'applied', errors: [] });

    s.packetOut(A, ofp.OFPP_TABLE, Buffer.concat([Buffer.from('020000000099020000000042', 'hex'), Buffer.alloc(50)]));
    await until(() => saw('packetIn').length > 0, 'the packet comes back');
    expect(saw('packetIn')[0]?.frame.subarray(0, 12).toString('hex')).toBe('020000000099020000000042');

    await s.sampleAll(() => true, 5000);
    const counters = saw('counters').at(-1);
    expect(counters?.ports.length).toBeGreaterThanOrEqual(2);
    expect(counters?.flows.find((f) => f.cookie === miss.cookie)?.packets).toBe(1);

    ovs.vsctl('add-port', 'br0', 'br0p2', '--', 'set', 'interface', 'br0p2', 'type=internal');
    await until(
      () => saw('portChanged').some((e) => e.change === 'added' && e.port.name === 'br0p2'),
      'a port is told',
    );

    expect(await write(s, 3, [removeFlow(label)])).toMatchObject({ outcome: 'applied' });
    await s.removeAll(() => ({ meters: [METER.meterId], groups: [] }));
    expect(await s.sessions.get(A)?.readBack()).toMatchObject({ flows: [], meterIds: [] });
  });

  real(named(`has groups in ${agreed}, with the flows that use them in one bundle`), async () => {
    const s = await listen();
    bridge('br0', A, protocols);
    point('br0', `tcp:${address.controller}:${s.port}`);
    await until(() => up(A) !== undefined && bundles(s)?.used === true, `the switch is up; log: ${logged}`);
    expect(up(A)).toMatchObject({ groupAbility: { select: true, failover: true }, groups: [] });
    const barrier = of13.OFPBarrierRequest({});
    const held = async () => {
      const { groups, flows, meterIds } = (await s.sessions.get(A)?.readBack()) ?? { flows: [], meterIds: [] };
      return { groups: groups?.map((g) => g.signature), flows: flows.map((f) => f.signature), meterIds };
    };

    const first = [
      writeMeter(METER, 'add'),
      writeGroup(spread, 'add'),
      barrier,
      addFlow(through(spread)),
      addFlow(metered),
    ];
    expect(await write(s, 1, first)).toMatchObject({ outcome: 'applied', errors: [] });
    expect(await held()).toEqual({
      groups: [spread.signature],
      flows: [metered.signature, through(spread).signature],
      meterIds: [METER.meterId],
    });

    // The flow goes over to a group that the same bundle makes, and the one it leaves goes with it, and so does the meter.
    const second = [removeFlow(metered), writeGroup(failover, 'add'), barrier, addFlow(through(failover)), barrier];
    expect(await write(s, 2, [...second, removeMeter(METER.meterId), removeGroup(spread.groupId)])).toMatchObject({
      outcome: 'applied',
      errors: [],
    });
    expect(await held()).toEqual({
      groups: [failover.signature],
      flows: [through(failover).signature],
      meterIds: [],
    });

    // A change of a group in place; and one that is there already, although it is to be added.
    const narrow = { ...failover, buckets: buckets.slice(0, 1) };
    expect(await write(s, 3, [writeGroup(narrow, 'modify'), barrier, addFlow(label)])).toMatchObject({
      outcome: 'applied',
    });
    expect((await held()).groups).toEqual([groupSignature('failover', narrow.buckets)]);
    expect(bundles(s)).toMatchObject({ committed: 3, refused: 0 });
    expect(await write(s, 4, [writeGroup(failover, 'add'), barrier, addFlow(miss)])).toMatchObject({
      outcome: 'applied',
      errors: [],
    });
    expect((await held()).groups).toEqual([failover.signature]);
    expect((await held()).flows).toContain(miss.signature);
    expect(bundles(s)).toMatchObject({ used: true, committed: 3, refused: 1 });
  });
});

real(named('a bridge with OpenFlow 1.0 only is refused, and its log says what to set'), async () => {
  const s = await listen();
  bridge('br0', A, 'OpenFlow10');
  point('br0', `tcp:${address.controller}:${s.port}`);
  await until(() => logged.some((l) => /protocols=OpenFlow13/.test(l)), 'the refusal is logged');
  expect(s.describeRefused()).toMatchObject([
    { from: address.host, dpid: null, why: expect.stringMatching(/protocols=/) },
  ]);
  expect(events).toEqual([]);
});

real(named('a standby takes over what the primary installed, and the old primary stands by'), async () => {
  const first = await listen({ role: 'primary' });
  const heard: Event[] = [];
  const second = await SwitchServer.listen({
    host: address.controller,
    port: 0,
    clock: systemClock(),
    log: (_level, event, fields) => logged.push(`second: ${event} ${JSON.stringify(fields)}`),
    emit: (e) => heard.push(e),
    role: 'standby',
  });
  try {
    bridge('br0', A, 'OpenFlow13');
    const targets = [first, second].map((s) => `tcp:${address.controller}:${s.port}`);
    ovs.vsctl('set-controller', 'br0', ...targets);
    await until(() => up(A) !== undefined && second.sessions.has(A), `both are connected; log: ${logged}`);
    expect(await write(first, 1, [addFlow(label)])).toMatchObject({ outcome: 'applied' });
    expect(heard).toEqual([]);

    second.takeOver();
    await until(() => heard.length > 0, `the second is told; log: ${logged}`);
    expect(heard[0]).toMatchObject({
      kind: 'switchUp',
      dpid: A,
      flows: [{ key: label.key, signature: label.signature }],
    });
    second.write(A, 2, [addFlow(miss)]);
    await until(() => heard.some((e) => e.kind === 'written'), 'the second writes');
    expect(heard.find((e) => e.kind === 'written')).toMatchObject({ outcome: 'applied' });

    expect((await write(first, 3, [removeFlow(label), removeFlow(miss)]))?.outcome).not.toBe('applied');
    await until(() => saw('switchDown').length === 1 && first.sessions.has(A), 'the first comes back as standby');
    expect(first.role).toBe('standby');
    expect(saw('switchUp')).toHaveLength(1);
    expect((await second.sessions.get(A)?.readFlows())?.map((f) => f.key).sort()).toEqual([label.key, miss.key].sort());
  } finally {
    await second.close();
  }
});

real(named('a primary whose term is over is refused by the switch, and does not ask for more'), async () => {
  const second = await listen({ role: 'primary', term: 7n });
  bridge('br0', A, 'OpenFlow13');
  point('br0', `tcp:${address.controller}:${second.port}`);
  await until(() => up(A) !== undefined, 'the second is in charge');
  let fenced = 0;
  const heard: Event[] = [];
  const old = await SwitchServer.listen({
    host: address.controller,
    port: 0,
    clock: systemClock(),
    log: (_level, event, fields) => logged.push(`old: ${event} ${JSON.stringify(fields)}`),
    emit: (e) => heard.push(e),
    role: 'primary',
    term: 6n,
    onFenced: () => {
      fenced++;
    },
  });
  try {
    const targets = [second, old].map((s) => `tcp:${address.controller}:${s.port}`);
    ovs.vsctl('set-controller', 'br0', ...targets);
    await until(() => fenced === 1 && old.sessions.has(A), `the old one stands by; log: ${logged}`);
    expect([old.role, old.knownGeneration, heard]).toEqual(['standby', 7n, []]);
    expect((await write(second, 1, [addFlow(label)]))?.outcome).toBe('applied');
  } finally {
    await old.close();
  }
});

describe.each(['OpenFlow13', 'OpenFlow14'])('a bridge with %s whose table has room for one flow', (protocols) => {
  real(named('refuses the bundle, keeps what it had, and then takes what it has room for'), async () => {
    const s = await listen();
    bridge('br0', A, protocols);
    const full = ['create', 'flow_table', 'flow_limit=1', 'overflow_policy=refuse'];
    ovs.vsctl('--', '--id=@t', ...full, '--', 'set', 'bridge', 'br0', 'flow_tables:1=@t');
    point('br0', `tcp:${address.controller}:${s.port}`);
    await until(() => up(A) !== undefined && bundles(s)?.used === true, 'the switch is up');
    expect(await write(s, 1, [addFlow(miss), addFlow(label)])).toMatchObject({ outcome: 'applied' });

    const named = (last: string) => flow({ ...label, match: of13.OFPMatch({ eth_dst: `02:00:00:00:00:${last}` }) });
    const result = await write(s, 2, [removeFlow(label), addFlow(named('02')), addFlow(named('03')), addFlow(metered)]);
    expect(logged.filter((l) => /switch\.bundleRefused.*OFPFMFC_TABLE_FULL/.test(l))).toHaveLength(1);
    // Without the bundle: the flow for which there is room, and each of the others with its own reason.
    expect(result).toMatchObject({ outcome: 'refused', isTableFull: true });
    expect(result?.errors).toHaveLength(2);
    expect(result?.errors).toContain('OFPET_FLOW_MOD_FAILED/OFPFMFC_TABLE_FULL');
    expect(result?.errors).toContainEqual(expect.stringMatching(/METER/));
    expect(new Set(result?.holds?.flows.map((f) => f.key))).toEqual(new Set([miss.key, named('02').key]));
    expect(bundles(s)).toMatchObject({ used: true, committed: 1, refused: 1 });
  });

  real(named('holds nothing of a bundle that was not committed, and all of one that was'), async () => {
    const s = await listen();
    const cable = await Cable.lay(s.port, address.controller);
    try {
      bridge('br0', A, protocols);
      point('br0', `tcp:${address.controller}:${cable.port}`);
      await until(() => up(A) !== undefined && bundles(s)?.used === true, 'the switch is up');
      const isCommit = (m: Parameters<Cable['fateOf']>[0]) =>
        (m.cls === 'ONFBundleCtrlMsg' || m.cls === 'OFPBundleCtrlMsg') && m.type === ofp.ONF_BCT_COMMIT_REQUEST;
      cable.fateOf = (m) => (isCommit(m) && bundles(s)?.used === true ? 'cuts' : 'goesOn');
      expect(await write(s, 1, [addFlow(miss), addFlow(label)])).toMatchObject({ outcome: 'unknown' });
      expect(ovs.ofctl('dump-flows', 'br0')).not.toMatch(/cookie=0xfa1c/);
      await until(() => saw('switchUp').length === 2, 'it is back');
      expect(saw('switchUp')[1]).toMatchObject({ flows: [] });
      await until(() => bundles(s)?.used === true, 'it has said that it has bundles');

      // The switch itself dies between the two.
      let died: Promise<void> | undefined;
      cable.fateOf = (m) => {
        if (!isCommit(m) || died !== undefined) return 'goesOn';
        died = ovs.stopSwitch('SIGKILL');
        return 'isLost';
      };
      expect(await write(s, 2, [addFlow(miss), addFlow(label)])).toMatchObject({ outcome: 'unknown' });
      await died;
      await ovs.startSwitch();
      await until(() => saw('switchUp').length === 3, `it is back; log: ${logged}`, 1200);
      expect(saw('switchUp')[2]).toMatchObject({ flows: [] });
      await until(() => bundles(s)?.used === true, 'it has said that it has bundles');
      expect(await write(s, 3, [addFlow(miss), addFlow(label)])).toMatchObject({ outcome: 'applied' });
      expect(bundles(s)).toMatchObject({ committed: 1 });
    } finally {
      await cable.close();
    }
  });
});

describe('over TLS', () => {
  const tls = (byDpid: [string, string][] = []) => ({
    key: readFileSync(file('controller-key.pem')),
    cert: readFileSync(file('controller.pem')),
    ca: readFileSync(file('ca.pem')),
    rules: { byDpid: new Map(byDpid), allowUnbound: false },
  });

  real(named('a switch is served whose certificate names its datapath id'), async () => {
    const s = await listen({ tls: tls() });
    present('a1');
    bridge('br0', A, 'OpenFlow13');
    point('br0', `ssl:${address.controller}:${s.port}`);
    await until(() => up(A) !== undefined, `the switch is up; log: ${logged}`);
    expect(s.describe()).toMatchObject([{ dpid: A, tls: true }]);
    expect(await write(s, 1, [addFlow(label)])).toMatchObject({ outcome: 'applied' });
  });

  real(named('a certificate used for another datapath id is refused, with a reason'), async () => {
    const s = await listen({ tls: tls() });
    present('a1');
    bridge('br1', B, 'OpenFlow13');
    point('br1', `ssl:${address.controller}:${s.port}`);
    await until(
      () => logged.some((l) => l.includes(`is bound to datapath ${A} and was used for ${B}`)),
      'it is refused',
    );
    expect(events).toEqual([]);
  });

  real(named('the configuration binds a certificate that names no datapath id'), async () => {
    const s = await listen({ tls: tls([[B, 'hv9']]) });
    present('stranger');
    bridge('br0', A, 'OpenFlow13');
    bridge('br1', B, 'OpenFlow13');
    for (const name of ['br0', 'br1']) point(name, `ssl:${address.controller}:${s.port}`);
    await until(() => up(B) !== undefined && logged.some((l) => l.includes(`was used for ${A}`)), 'one is up');
    expect(up(A)).toBeUndefined();
  });

  real(named('a switch that speaks no TLS, or has no certificate of ours, gets nowhere'), async () => {
    const s = await listen({ tls: tls() });
    const other = mkdtempSync(join(tmpdir(), 'fairway-pki-other-'));
    try {
      authority(other);
      ovs.vsctl('set-ssl', join(other, 'a1-key.pem'), join(other, 'a1.pem'), file('ca.pem'));
      bridge('br0', A, 'OpenFlow13');
      bridge('br1', B, 'OpenFlow13');
      point('br0', `ssl:${address.controller}:${s.port}`);
      point('br1', `tcp:${address.controller}:${s.port}`);
      await until(
        () => logged.filter((l) => l.startsWith('switch.tls')).length >= 2,
        `both are refused; log: ${logged}`,
      );
      expect(events).toEqual([]);
    } finally {
      rmSync(other, { recursive: true });
    }
  });

  real(named('a waiting switch is connected to, over TLS and without, and again when it was away'), async () => {
    present('a1');
    bridge('br0', A, 'OpenFlow13');
    bridge('br1', B, 'OpenFlow13');
    point('br0', `pssl:6655:${address.host}`);
    point('br1', `ptcp:6656:${address.host}`);
    await listen({ tls: tls(), connect: [`ssl:${address.host}:6655`, `tcp:${address.host}:6656`] });
    await until(() => up(A) !== undefined && up(B) !== undefined, `both are up; log: ${logged}`);
    await ovs.stopSwitch();
    await until(() => saw('switchDown').length === 2, 'both are down');
    await ovs.startSwitch();
    await until(() => saw('switchUp').length === 4, `both are up again; log: ${logged}`, 1200);
    expect(saw('switchDown')).toHaveLength(2);
  });
});

describe('a controller as a process of its own, over TLS', () => {
  const TOKEN = 'token-of-the-tls-test';
  let dir: string;
  let child: ChildProcess | undefined;
  /** Names of the namespaces that play hosts. */
  const hosts = { one: `fwseh${process.pid}a`, two: `fwseh${process.pid}b` };

  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'fairway-tls-process-'));
  });
  afterEach(async () => {
    await kill(child);
    for (const ns of Object.values(hosts)) execFileSync('sh', ['-c', `ip netns del ${ns} 2>/dev/null || true`]);
  });
  afterAll(() => rmSync(dir, { recursive: true }));

  const log = () => readFileSync(join(dir, 'log'), 'utf8');
  const lines = (event: string) =>
    log()
      .split('\n')
      .filter((l) => l.includes(`"event":"${event}"`))
      .map((l) => JSON.parse(l) as Record<string, unknown>);

  /** Starts `fairway controller`, and answers its OpenFlow port and a client of its HTTP interface. */
  async function start(): Promise<{ port: number; client: FairwayClient }> {
    const config = {
      openflow: {
        ...{ host: address.controller, port: 0 },
        tls: { key: file('controller-key.pem'), cert: file('controller.pem'), ca: file('ca.pem') },
      },
      ...{ http: { port: 0 }, policy: { store: 'memory' }, journal: join(dir, 'journal') },
    };
    writeFileSync(join(dir, 'config.json'), JSON.stringify(config));
    const main = join(import.meta.dirname, '../../dist/cli/main.js');
    child = spawn(process.execPath, [main, 'controller', '--config', join(dir, 'config.json')], {
      cwd: dir,
      stdio: ['ignore', 'ignore', openSync(join(dir, 'log'), 'w')],
      env: { PATH: process.env.PATH, FAIRWAY_TOKEN: TOKEN },
    });
    await until(() => lines('controller.up').length > 0, `the controller is up; log: ${log()}`, 1200);
    const { openflowPort, httpPort } = lines('controller.up')[0] as { openflowPort: number; httpPort: number };
    return { port: openflowPort, client: new FairwayClient({ url: `http://127.0.0.1:${httpPort}`, token: TOKEN }) };
  }

  /** A host at a port of the bridge. */
  function host(ns: string, bridgeName: string, ip: string): void {
    execFileSync('ip', ['netns', 'add', ns]);
    ovs.plug(bridgeName, `h${ip.at(-1)}`, ns, 'eth0');
    execFileSync('ip', ['-n', ns, 'addr', 'add', `${ip}/24`, 'dev', 'eth0']);
  }
  const reaches = () => {
    const ping = ['netns', 'exec', hosts.one, 'ping', '-c', '1', '-W', '1', '10.9.0.2'];
    return spawnSync('ip', ping, { stdio: 'ignore' }).status === 0;
  };
  const states = async (client: FairwayClient) =>
    (await client.status()).sessions?.map(({ dpid, tls }) => ({ dpid, tls }));

  real(named('serves the switch that a certificate is for, and says why not any other'), async () => {
    const { port, client } = await start();
    const target = `ssl:${address.controller}:${port}`;
    const nowhere = 'ssl:127.0.0.1:9';
    present('a1');
    bridge('br0', A, 'OpenFlow13');
    bridge('br1', B, 'OpenFlow13');
    host(hosts.one, 'br0', '10.9.0.1');
    host(hosts.two, 'br0', '10.9.0.2');
    expect(reaches()).toBe(false);
    point('br0', target);
    point('br1', target);
    await until(() => lines('switch.up').length > 0, `the switch is served; log: ${log()}`, 1200);
    await until(reaches, 'the switch forwards', 20);
    // The certificate of br0 in the hands of br1.
    await until(
      () =>
        lines('switch.gone').some((l) => String(l.reason).includes(`is bound to datapath ${A} and was used for ${B}`)),
      `br1 is refused; log: ${log()}`,
    );
    expect(await states(client)).toEqual([{ dpid: A, tls: true }]);

    // Without a certificate, and with one of an authority that is not ours.
    const refused = lines('switch.tls').length;
    const bare = connectTls({ host: address.controller, port, rejectUnauthorized: false });
    bare.on('error', () => {});
    await until(() => lines('switch.tls').length > refused, `it is refused; log: ${log()}`);
    expect(lines('switch.tls').at(-1)?.error).toMatch(/peer did not return a certificate/);
    bare.destroy();
    const other = join(dir, 'other');
    mkdirSync(other);
    authority(other, 'another authority');
    ovs.vsctl('set-ssl', join(other, 'a1-key.pem'), join(other, 'a1.pem'), file('ca.pem'));
    // Without any controller in its database, a switch would forget its flows.
    point('br0', nowhere);
    point('br1', nowhere);
    await until(() => lines('switch.down').length > 0, `the switch has gone; log: ${log()}`);
    const before = lines('switch.tls').length;
    point('br0', target);
    const whyRefused = () =>
      lines('switch.tls')
        .slice(before)
        .map((l) => `${l.error} ${l.advice}`);
    await until(
      () => whyRefused().some((w) => /certificate.*openflow\.tls\.ca/is.test(w)),
      `it is refused; log: ${log()}`,
    );
    expect(await states(client)).toEqual([]);
    // It goes on with what it holds, and is served again when it has its own certificate.
    expect(reaches()).toBe(true);
    point('br0', nowhere);
    present('a1');
    point('br0', target);
    await until(() => lines('switch.up').length > 1, `the switch is served again; log: ${log()}`, 1200);
    expect(await states(client)).toEqual([{ dpid: A, tls: true }]);
    expect(reaches()).toBe(true);
  });
});

real(named('files that are no certificates are said to be so at once'), async () => {
  const rules = { byDpid: new Map(), allowUnbound: false };
  await expect(listen({ tls: { key: 'x', cert: 'y', ca: 'z', rules } })).rejects.toMatchObject({ code: 'TLS_FILES' });
});
