/**
 * node-openflow between `ovs-ofctl` and a real Open vSwitch in OpenFlow 1.3, 1.4 and 1.5: a relay reads every message of
 * both and writes it anew; not a byte may differ, and nothing may be kept raw but what belongs to experimenters. Then our
 * own connections to the switch: events that ovs-ofctl does not ask for (roles, forwarded requests, monitors, bundles).
 */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import {
  decode,
  encode,
  type Factories,
  fromJson,
  MessageSplitter,
  type OfMessage,
  of13,
  of14,
  of15,
  ofproto_v1_3 as ofp13,
  ofproto_v1_4 as ofp14,
  ofproto_v1_5 as ofp15,
  parseJson,
  stringifyJson,
  toJson,
  type Version,
} from 'node-openflow';
import { gate } from './gate.ts';
import { PrivateOvs, until, whyNoOvs } from './privateOvs.ts';

const { suite, named } = gate(whyNoOvs());
jest.setTimeout(300_000);

const PROTOCOL = { 4: 'OpenFlow13', 5: 'OpenFlow14', 6: 'OpenFlow15' } as const;
type Later = keyof typeof PROTOCOL;

/** Experimenters whose structures are not declared: Netronome, with its selection methods of groups. */
const RAW_OF = new Set([0x154d]);

/** Classes that keep bytes raw, of anybody else than those experimenters. */
function rawIn(v: unknown, out: string[] = []): string[] {
  if (typeof v !== 'object' || v === null || v instanceof Uint8Array) return out;
  const { cls, experimenter, data } = v as { cls?: unknown; experimenter?: number; data?: unknown };
  if (typeof cls === 'string' && /Unknown/.test(cls)) {
    const id = experimenter ?? (Buffer.isBuffer(data) && data.length >= 4 ? data.readUInt32BE(0) : 0);
    if (!RAW_OF.has(id)) out.push(cls);
  }
  if (cls === 'OFPMatch')
    out.push(...Object.keys((v as { fields: object }).fields).filter((f) => f.startsWith('field_')));
  else for (const e of Object.values(v)) rawIn(e, out);
  return out;
}

const NOT_THROUGH_JSON = new Set([
  // its JSON does not tell the version
  'OFPHello',
  // its JSON loses the transaction id of the message inside
  'OFPRequestForward',
  // large and many: openflow-os-ken.test.ts has their JSON
  'OFPTableFeaturesStatsReply',
]);

/** Everything that passed, and what was wrong with it. */
class Witness {
  readonly seen = new Set<string>();
  readonly wrong: string[] = [];

  take(from: 'controller' | 'switch', bytes: Buffer): OfMessage | undefined {
    let msg: OfMessage;
    try {
      msg = decode(bytes);
    } catch (e) {
      this.wrong.push(`${from}: ${String(e)}: ${bytes.toString('hex')}`);
      return undefined;
    }
    this.seen.add(`${from} ${msg.cls}`);
    const again = encode(msg);
    if (!again.equals(bytes)) this.wrong.push(`${from}: ${msg.cls}: ${bytes.toString('hex')} ${again.toString('hex')}`);
    const raw = rawIn(msg);
    if (raw.length > 0) this.wrong.push(`${from}: ${msg.cls} has ${raw.join()}: ${bytes.toString('hex')}`);
    if (!NOT_THROUGH_JSON.has(msg.cls)) {
      const rewritten = encode(fromJson(parseJson(stringifyJson(toJson(msg))), msg.version as Version), msg.xid);
      if (!rewritten.equals(bytes)) {
        this.wrong.push(`${from}: JSON of ${msg.cls}: ${bytes.toString('hex')} ${rewritten.toString('hex')}`);
      }
    }
    return msg;
  }
}

/** Stands between ovs-ofctl and the switch. */
class Relay {
  readonly record = new Witness();
  readonly path: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(dir: string, version: Later) {
    this.path = join(dir, `relay${version}`);
    this.#server = createServer((client) => {
      const target = connect(join(dir, 'br0.mgmt'));
      const pipe = (from: Socket, to: Socket, who: 'controller' | 'switch') => {
        const splitter = new MessageSplitter();
        this.#sockets.add(from);
        from.on('data', (chunk) => {
          for (const bytes of splitter.push(chunk)) this.record.take(who, bytes);
          to.write(chunk);
        });
        from.on('error', () => to.destroy());
        from.on('close', () => {
          this.#sockets.delete(from);
          to.end();
        });
      };
      pipe(client, target, 'controller');
      pipe(target, client, 'switch');
    });
  }

  async listen(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen(this.path, resolve);
    });
  }

  async close(): Promise<void> {
    for (const s of this.#sockets) s.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** Messages of 1.4 are taken for those of 1.5 here: the tests use what both have. */
type Any = OfMessage<4> | OfMessage<6>;

/** A connection of ours to the switch. */
class Client {
  readonly received: Any[] = [];
  readonly #record: Witness;
  readonly #socket: Socket;
  #xid = 100;

  private constructor(socket: Socket, record: Witness) {
    this.#socket = socket;
    this.#record = record;
    const splitter = new MessageSplitter();
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      for (const bytes of splitter.push(chunk)) {
        const msg = record.take('switch', Buffer.from(bytes));
        if (msg !== undefined) this.received.push(msg as Any);
      }
    });
  }

  static async open(dir: string, hello: OfMessage, record: Witness): Promise<Client> {
    const socket = connect(join(dir, 'br0.mgmt'));
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve).once('error', reject);
    });
    const client = new Client(socket, record);
    client.send(hello);
    await client.wait('OFPHello');
    return client;
  }

  send(msg: OfMessage): void {
    const bytes = encode(msg, ++this.#xid);
    this.#record.take('controller', bytes);
    this.#socket.write(bytes);
  }

  /** The next message of a class; those before it are dropped. */
  async wait<C extends Any['cls']>(cls: C): Promise<Extract<Any, { cls: C }>> {
    const found = () => this.received.findIndex((m) => m.cls === cls);
    await until(() => found() >= 0, `the switch sends ${cls}`).catch((e: Error) => {
      throw new Error(`${e.message}; it sent ${this.received.map((m) => m.cls).join() || 'nothing'}`);
    });
    return this.received.splice(0, found() + 1).at(-1) as Extract<Any, { cls: C }>;
  }

  close(): void {
    this.#socket.destroy();
  }
}

const frame = `ffffffffffff0200000000010806${'00'.repeat(46)}`;

/** What is run in each version, in this order; BR stands for the switch. `from` says the first version that has it. */
const COMMANDS: readonly { readonly from?: Later; readonly args: string }[] = [
  { args: 'show BR' },
  { args: 'dump-desc BR' },
  { args: 'dump-tables BR' },
  { args: 'dump-table-features BR' },
  { args: 'set-frags BR drop' },
  { args: 'set-frags BR normal' },
  { from: 5, args: 'mod-table BR 0 evict' },
  { from: 5, args: 'mod-table BR 1 vacancy:20,80' },
  { from: 5, args: 'dump-table-desc BR' },
  { args: 'add-meter BR meter=1,kbps,burst,band=type=drop,rate=1000,burst_size=100' },
  { args: 'mod-meter BR meter=1,pktps,stats,band=type=drop,rate=50' },
  { args: 'meter-stats BR' },
  { args: 'dump-meters BR' },
  { args: 'meter-features BR' },
  {
    args: 'add-group BR group_id=1,type=select,bucket=weight:5,output:1,bucket=weight:7,set_field:5->ip_dscp,output:2',
  },
  { args: 'add-group BR group_id=2,type=ff,bucket=watch_port:1,output:1,bucket=watch_group:1,output:2' },
  { from: 6, args: 'add-group BR group_id=3,type=select,selection_method=hash,fields(ip_dst,tcp_dst),bucket=output:1' },
  { from: 6, args: 'insert-buckets BR group_id=1,command_bucket_id=last,bucket=bucket_id:9,actions=output:2' },
  { from: 6, args: 'remove-buckets BR group_id=1,command_bucket_id=9' },
  { args: 'mod-group BR group_id=1,type=all,bucket=output:2' },
  { args: 'dump-groups BR' },
  { from: 6, args: 'dump-groups BR 1' },
  { args: 'dump-group-stats BR' },
  { args: 'dump-group-features BR' },
  {
    args: 'add-flow BR table=0,priority=100,idle_timeout=5,hard_timeout=60,send_flow_rem,check_overlap,reset_counts,cookie=0x1234,in_port=1,tcp,nw_src=10.0.0.0/8,tcp_flags=+syn-ack,actions=meter:1,set_field:02:00:00:00:00:01->eth_dst,push_vlan:0x8100,set_field:4100->vlan_vid,group:1,write_metadata:0x1/0xff,goto_table:1',
  },
  { from: 5, args: 'add-flow BR table=0,importance=7,udp,actions=drop' },
  { args: 'add-flow BR table=1,ipv6,ipv6_src=fe80::/64,actions=dec_ttl,controller(max_len=100,reason=action)' },
  { from: 6, args: 'add-flow BR table=1,icmp,actions=move:OXM_OF_METADATA[0..15]->OXM_OF_TUNNEL_ID[16..31],in_port' },
  {
    from: 6,
    args: 'add-flow BR table=2,arp,actions=set_field:0x10/0xf0->metadata,set_field:10.1.1.1->arp_spa,in_port',
  },
  { args: 'add-flow BR table=1,actset_output=1,actions=clear_actions,write_actions(set_queue:3,output:1,group:1)' },
  { args: 'add-flow BR table=2,mpls,mpls_label=5,actions=dec_mpls_ttl,push_mpls:0x8847,output:2' },
  {
    args: 'add-flow BR table=2,udp,actions=load:5->NXM_NX_REG3[2..9],note:01.02.03,resubmit(,3),sample(probability=7)',
  },
  { args: 'add-flow BR table=2,ct_state=-trk,ip,actions=ct(table=3,zone=5,commit,nat(src=10.0.0.1-10.0.0.9:7-9))' },
  {
    args: 'add-flow BR table=2,vlan_tci=0x1005/0x1fff,actions=learn(table=4,idle_timeout=9,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),output:NXM_NX_REG0[]',
  },
  { args: 'mod-flows BR table=1,ipv6,actions=output:1' },
  { args: '--strict mod-flows BR table=1,priority=32768,ipv6,actions=output:2' },
  { args: 'dump-flows BR' },
  { args: 'dump-flows BR table=1,out_port=1' },
  { args: 'dump-aggregate BR table=1' },
  { args: '--bundle add-flows BR DIR/flows' },
  { args: 'bundle BR DIR/bundle' },
  { args: '--bundle replace-flows BR DIR/replace' },
  { args: 'dump-ports BR' },
  { args: 'dump-ports BR 1' },
  { args: 'dump-ports-desc BR' },
  { from: 6, args: 'dump-ports-desc BR 1' },
  { args: 'queue-stats BR' },
  { args: 'queue-get-config BR 1' },
  { args: 'mod-port BR 1 no-flood' },
  { args: 'mod-port BR 1 down' },
  { args: 'mod-port BR 1 up' },
  { args: `packet-out BR in_port=1,packet=${frame},actions=output:2` },
  { args: 'probe BR' },
  { args: 'ping BR 10' },
  { args: 'del-flows BR cookie=0x1234/-1' },
  { args: 'del-groups BR group_id=2' },
  { args: 'del-groups BR' },
  { args: 'del-meter BR meter=1' },
  { args: 'del-meters BR' },
  { args: 'del-flows BR' },
];

/** Classes that must have passed, besides those of every version. */
const PASSED = {
  all: {
    controller:
      'OFPHello OFPFeaturesRequest OFPGetConfigRequest OFPSetConfig OFPFlowMod OFPGroupMod OFPPortMod OFPMeterMod OFPPacketOut OFPBarrierRequest OFPEchoRequest OFPDescStatsRequest OFPTableStatsRequest OFPTableFeaturesStatsRequest OFPPortStatsRequest OFPPortDescStatsRequest OFPQueueStatsRequest OFPGroupStatsRequest OFPGroupDescStatsRequest OFPGroupFeaturesStatsRequest OFPMeterStatsRequest OFPMeterFeaturesStatsRequest OFPAggregateStatsRequest',
    switch:
      'OFPHello OFPSwitchFeatures OFPGetConfigReply OFPBarrierReply OFPEchoReply OFPFlowRemoved OFPPortStatus OFPDescStatsReply OFPTableStatsReply OFPTableFeaturesStatsReply OFPPortStatsReply OFPPortDescStatsReply OFPQueueStatsReply OFPGroupStatsReply OFPGroupDescStatsReply OFPGroupFeaturesStatsReply OFPMeterStatsReply OFPMeterFeaturesStatsReply OFPAggregateStatsReply',
  },
  4: {
    controller:
      'ONFBundleCtrlMsg ONFBundleAddMsg ONFFlowMonitorStatsRequest OFPFlowStatsRequest OFPMeterConfigStatsRequest OFPQueueGetConfigRequest',
    switch:
      'ONFBundleCtrlMsg ONFFlowMonitorStatsReply OFPFlowStatsReply OFPMeterConfigStatsReply OFPQueueGetConfigReply',
  },
  5: {
    controller:
      'OFPBundleCtrlMsg OFPBundleAddMsg OFPFlowMonitorRequest OFPFlowStatsRequest OFPMeterConfigStatsRequest OFPQueueDescStatsRequest OFPTableMod OFPTableDescStatsRequest',
    switch:
      'OFPBundleCtrlMsg OFPFlowMonitorReply OFPFlowStatsReply OFPMeterConfigStatsReply OFPQueueDescStatsReply OFPTableDescStatsReply',
  },
  6: {
    controller:
      'OFPBundleCtrlMsg OFPBundleAddMsg OFPFlowMonitorRequest OFPFlowDescStatsRequest OFPMeterDescStatsRequest OFPQueueDescStatsRequest OFPTableMod OFPTableDescStatsRequest',
    switch:
      'OFPBundleCtrlMsg OFPFlowMonitorReply OFPFlowDescStatsReply OFPMeterDescStatsReply OFPQueueDescStatsReply OFPTableDescStatsReply',
  },
} as const;

suite(named('a real Open vSwitch'), () => {
  let ovs: PrivateOvs;

  beforeAll(async () => {
    ovs = new PrivateOvs('ofsw');
    await ovs.start();
    ovs.vsctl(
      ...'add-br br0 -- set bridge br0 datapath_type=netdev fail-mode=secure'.split(' '),
      'protocols=OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15',
    );
    for (const n of [1, 2]) {
      ovs.inside('ip', 'link', 'add', `p${n}`, 'type', 'veth', 'peer', 'name', `q${n}`);
      for (const dev of [`p${n}`, `q${n}`]) ovs.inside('ip', 'link', 'set', dev, 'up');
      ovs.vsctl('add-port', 'br0', `p${n}`, '--', 'set', 'interface', `p${n}`, `ofport_request=${n}`);
    }
    ovs.vsctl(
      ...'set port p1 qos=@q -- --id=@q create qos type=linux-htb other-config:max-rate=10000000 queues:1=@a'.split(
        ' ',
      ),
      ...'-- --id=@a create queue other-config:min-rate=1000000'.split(' '),
    );
    writeFileSync(
      join(ovs.dir, 'flows'),
      'table=0,priority=5,tcp,actions=output:2\nadd table=1,udp,actions=drop\ndelete table=3\n',
    );
    writeFileSync(
      join(ovs.dir, 'bundle'),
      `flow add table=2,actions=drop\ngroup add group_id=77,type=all,bucket=output:1\nflow delete table=2\npacket-out in_port=1 packet=${frame} actions=output:1\n`,
    );
    writeFileSync(join(ovs.dir, 'replace'), 'table=0,priority=6,ip,actions=output:2\n');
  });
  afterAll(() => ovs.stop());

  const ofctl = (args: readonly string[]) => spawn('ovs-ofctl', args, { env: { ...process.env, OVS_RUNDIR: ovs.dir } });

  test.each([4, 5, 6] as const)('version %i: what ovs-ofctl and the switch say to each other', async (version) => {
    const relay = new Relay(ovs.dir, version);
    await relay.listen();
    const { record } = relay;
    const common = [`-O${PROTOCOL[version]}`, '--no-names', '--timeout=60'];
    const monitor = ofctl([...common, 'monitor', `unix:${relay.path}`, '65535', 'watch:']);
    try {
      const monitors = version === 4 ? 'ONFFlowMonitorStatsReply' : 'OFPFlowMonitorReply';
      await until(() => record.seen.has(`switch ${monitors}`), 'the switch answers the monitor');
      for (const { from, args } of COMMANDS) {
        if (from !== undefined && from > version) continue;
        const words = args.split(' ').map((w) => w.replace('BR', `unix:${relay.path}`).replace('DIR', ovs.dir));
        const child = ofctl([...common, ...words]);
        let out = '';
        child.stderr.on('data', (d: Buffer) => {
          out += d.toString();
        });
        const code = await new Promise((resolve) => child.once('close', resolve));
        expect({ args, code, out: code === 0 ? '' : out }).toEqual({ args, code: 0, out: '' });
      }
      expect(record.wrong).toEqual([]);
      const want = [PASSED.all, PASSED[version]].flatMap((p) => [
        ...p.controller.split(' ').map((c) => `controller ${c}`),
        ...p.switch.split(' ').map((c) => `switch ${c}`),
      ]);
      expect(want.filter((w) => !record.seen.has(w))).toEqual([]);
    } finally {
      const gone = new Promise((resolve) => monitor.once('exit', resolve));
      monitor.kill();
      await gone;
      await relay.close();
    }
  });

  test.each([
    [5, of14 as unknown as Factories<6>],
    [6, of15],
  ] as const)('version %i: roles, forwarded requests, monitors, bundles', async (version, of) => {
    const record = new Witness();
    const first = await Client.open(ovs.dir, of.OFPHello(), record);
    const second = await Client.open(ovs.dir, of.OFPHello(), record);
    try {
      const master = (generation_id: number) =>
        of.OFPRoleRequest({ role: ofp15.OFPCR_ROLE_MASTER, generation_id, ...(version === 6 ? { short_id: 0 } : {}) });
      const everything = [...Array(12).keys()].map((type) => of.OFPAsyncConfigPropReasons({ type, mask: 0x3f }));
      for (const c of [first, second]) {
        c.send(of.OFPSetConfig({ miss_send_len: 128 }));
        c.send(of.OFPSetAsync({ properties: everything.map((p) => ({ ...p, mask: maskOf(p.type) })) }));
        c.send(of.OFPGetAsyncRequest());
        const reply = await c.wait('OFPGetAsyncReply');
        expect('properties' in reply && reply.properties).toContainEqual(
          of.OFPAsyncConfigPropReasons({ type: ofp14.OFPACPT_REQUESTFORWARD_SLAVE, mask: 3 }),
        );
      }
      // no generation may be older than one before, also of another version
      first.send(master(10 * version));
      await first.wait('OFPRoleReply');
      second.send(master(10 * version + 1));
      expect(await first.wait('OFPRoleStatus')).toMatchObject({
        role: ofp14.OFPCR_ROLE_SLAVE,
        reason: ofp14.OFPCRR_MASTER_REQUEST,
        generation_id: BigInt(10 * version + 1),
      });

      const group = of.OFPGroupMod({
        group_id: 9,
        buckets: [of.OFPBucket({ actions: [of.OFPActionOutput({ port: 1 })] })],
      });
      second.send(group);
      const forwarded = await first.wait('OFPRequestForward');
      expect(forwarded.request).toMatchObject({ cls: 'OFPGroupMod', group_id: 9 });
      second.send(of.OFPMeterMod({ meter_id: 4, bands: [of.OFPMeterBandDrop({ rate: 100 })] }));
      expect((await first.wait('OFPRequestForward')).request).toMatchObject({ cls: 'OFPMeterMod', meter_id: 4 });

      const flags = ofp14.OFPFMF_INITIAL | ofp14.OFPFMF_ADD | ofp14.OFPFMF_REMOVED | ofp14.OFPFMF_MODIFY;
      for (const c of [first, second]) {
        c.send(of.OFPFlowMonitorRequest({ monitor_id: 1, monitor_flags: flags | ofp14.OFPFMF_INSTRUCTIONS }));
        await c.wait('OFPFlowMonitorReply');
      }
      const output = of.OFPInstructionActions({
        type: ofp14.OFPIT_APPLY_ACTIONS,
        actions: [of.OFPActionOutput({ port: 2 })],
      });
      const flow = {
        table_id: 3,
        flags: ofp14.OFPFF_SEND_FLOW_REM,
        match: of.OFPMatch({ in_port: 1 }),
        instructions: [output],
      };
      second.send(of.OFPFlowMod(flow));
      // who changes a flow is told in short, others in full
      expect((await second.wait('OFPFlowMonitorReply')).body[0]?.cls).toBe('OFPFlowUpdateAbbrev');
      const update = (await first.wait('OFPFlowMonitorReply')).body[0];
      expect(update).toMatchObject({ cls: 'OFPFlowUpdateFull', event: ofp14.OFPFME_ADDED, table_id: 3 });
      expect(update?.cls === 'OFPFlowUpdateFull' && update.instructions).toEqual([output]);
      second.send(of.flowDelete({ table_id: 3 }));
      expect(await second.wait('OFPFlowRemoved')).toMatchObject({ reason: ofp14.OFPRR_DELETE, table_id: 3 });

      const bundle = { bundle_id: 5, flags: ofp14.OFPBF_ATOMIC };
      const control = async (type: number) => {
        second.send(of.OFPBundleCtrlMsg({ ...bundle, type }));
        expect((await second.wait('OFPBundleCtrlMsg')).type).toBe(type + 1);
      };
      await control(ofp14.OFPBCT_OPEN_REQUEST);
      for (const table_id of [4, 5])
        second.send(of.OFPBundleAddMsg({ ...bundle, message: of.OFPFlowMod({ ...flow, table_id }) }));
      await control(ofp14.OFPBCT_CLOSE_REQUEST);
      await control(ofp14.OFPBCT_COMMIT_REQUEST);
      first.received.length = 0;
      second.send(of.flowDelete({ table_id: 4 }));
      expect(await second.wait('OFPFlowRemoved')).toMatchObject({ table_id: 4 });

      const data = Buffer.from(frame, 'hex');
      const actions = [of.OFPActionOutput({ port: ofp14.OFPP_CONTROLLER })];
      second.send(
        version === 6
          ? of15.OFPPacketOut({ match: of15.OFPMatch({ in_port: 1 }), actions, data })
          : (of14.OFPPacketOut({ in_port: 1, actions: actions as never, data }) as never),
      );
      const packetIn = await second.wait('OFPPacketIn');
      expect(packetIn).toMatchObject({ reason: ofp14.OFPR_PACKET_OUT, total_len: data.length, data });
      expect(packetIn.match.fields.in_port).toBe(1);
      second.send(of.OFPGroupMod({ group_id: 9 }));
      expect(await second.wait('OFPErrorMsg')).toMatchObject({
        type: ofp14.OFPET_GROUP_MOD_FAILED,
        code: ofp14.OFPGMFC_GROUP_EXISTS,
      });
      expect(record.wrong).toEqual([]);
    } finally {
      second.send(of.flowDelete());
      second.send(of.OFPGroupMod({ command: ofp14.OFPGC_DELETE, group_id: ofp14.OFPG_ALL }));
      second.send(of.OFPMeterMod({ command: ofp14.OFPMC_DELETE, meter_id: ofp14.OFPM_ALL }));
      second.send(of.OFPBarrierRequest());
      await second.wait('OFPBarrierReply');
      first.close();
      second.close();
    }
  });

  test('version 4: ONF bundles and flow monitors', async () => {
    const record = new Witness();
    const watcher = await Client.open(ovs.dir, of13.OFPHello(), record);
    const worker = await Client.open(ovs.dir, of13.OFPHello(), record);
    try {
      const flags = ofp13.ONFFMF_INITIAL | ofp13.ONFFMF_ADD | ofp13.ONFFMF_DELETE | ofp13.ONFFMF_ACTIONS;
      // Open vSwitch wants a whole match
      const monitor = of13.ONFFlowMonitorRequest({ id: 1, flags, match_header: true });
      watcher.send(of13.ONFFlowMonitorStatsRequest({ body: [monitor] }));
      await watcher.wait('ONFFlowMonitorStatsReply');
      const bundle = { bundle_id: 6, flags: ofp13.ONF_BF_ATOMIC };
      for (const type of [ofp13.ONF_BCT_OPEN_REQUEST, undefined, ofp13.ONF_BCT_COMMIT_REQUEST]) {
        if (type === undefined) {
          const match = of13.OFPMatch({ eth_type: 0x0800, ipv4_dst: '10.0.0.0/8' });
          worker.send(of13.ONFBundleAddMsg({ ...bundle, message: of13.OFPFlowMod({ cookie: 7n, match }) }));
        } else {
          worker.send(of13.ONFBundleCtrlMsg({ ...bundle, type }));
          expect((await worker.wait('ONFBundleCtrlMsg')).type).toBe(type + 1);
        }
      }
      const update = (await watcher.wait('ONFFlowMonitorStatsReply')).body[0];
      expect(update).toMatchObject({ cls: 'ONFFlowUpdateFull', event: ofp13.ONFFME_ADDED, cookie: 7n });
      watcher.send(of13.ONFFlowMonitorCancel({ id: 1 }));
      watcher.send(of13.OFPBarrierRequest());
      await watcher.wait('OFPBarrierReply');
      worker.send(of13.flowDelete());
      worker.send(of13.OFPBarrierRequest());
      await worker.wait('OFPBarrierReply');
      expect(watcher.received).toEqual([]);
      expect(record.wrong).toEqual([]);
    } finally {
      watcher.close();
      worker.close();
    }
  });
});

/** Reasons that exist, by the type of an asynchronous configuration property. */
function maskOf(type: number): number {
  return [0x3f, 7, 0x3f, 7, 0x18, 3][type >> 1] ?? 0;
}
