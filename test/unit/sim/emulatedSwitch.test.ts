/** The emulated switch over TCP, against a controller of a few lines. */
import { createServer, type Server, type Socket } from 'node:net';
import { decodeAs, encode, MessageSplitter, type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';
import { systemClock } from '../../../contracts/clock.ts';
import { buildFrame, ETH_LLDP, type Packet } from '../../../sim/packet.ts';
import { EmulatedSwitch } from '../../../sim/switch/emulatedSwitch.ts';
import type { PortSpec } from '../../../sim/switch/ports.ts';

type Message<C extends OfMessage<4>['cls']> = Extract<OfMessage<4>, { cls: C }>;

/** Accepts switches and hands out their messages one by one. */
class TinyController {
  readonly server: Server;
  readonly received: OfMessage<4>[] = [];
  socket: Socket | undefined;
  connections = 0;
  #wake: (() => void)[] = [];
  #xid = 100;

  constructor(versions: number[] = [ofp.OFP_VERSION]) {
    this.server = createServer((socket) => {
      this.socket = socket;
      this.connections++;
      const splitter = new MessageSplitter();
      socket.on('error', () => {});
      socket.on('data', (chunk) => {
        for (const bytes of splitter.push(chunk)) this.received.push(decodeAs(4, bytes));
        for (const wake of this.#wake.splice(0)) wake();
      });
      const elements = [of13.OFPHelloElemVersionBitmap({ versions })];
      socket.write(encode(of13.OFPHello({ elements }), 1));
      for (const wake of this.#wake.splice(0)) wake();
    });
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return (this.server.address() as { port: number }).port;
  }

  send(message: OfMessage<4>): number {
    this.socket?.write(encode(message, ++this.#xid));
    return this.#xid;
  }

  /** Waits until `found` finds something among what was received. */
  async until<T>(found: () => T | undefined): Promise<T> {
    for (;;) {
      const value = found();
      if (value !== undefined) return value;
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  next<C extends OfMessage<4>['cls']>(cls: C, xid?: number): Promise<Message<C>> {
    return this.until(() => {
      const at = this.received.findIndex((m) => m.cls === cls && (xid === undefined || m.xid === xid));
      return at < 0 ? undefined : (this.received.splice(at, 1)[0] as Message<C>);
    });
  }

  async ask<C extends OfMessage<4>['cls']>(message: OfMessage<4>, answer: C): Promise<Message<C>> {
    return this.next(answer, this.send(message));
  }

  /** Everything sent before is done; errors that came are in `received`. */
  barrier(): Promise<Message<'OFPBarrierReply'>> {
    return this.ask(of13.OFPBarrierRequest({}), 'OFPBarrierReply');
  }

  async close(): Promise<void> {
    this.socket?.destroy();
    await new Promise<void>((resolve) => this.server.close(() => resolve()));
  }
}

const clock = systemClock(20);
const port = (portNo: number): PortSpec => ({
  portNo,
  name: `p${portNo}`,
  hwAddr: `02:00:00:00:00:0${portNo}`,
  speedBps: 200e6,
});

describe('an emulated switch', () => {
  let controller: TinyController;
  let device: EmulatedSwitch;
  let sent: { port: number; packet: Packet; queue: number }[];

  beforeEach(async () => {
    controller = new TinyController();
    sent = [];
    device = new EmulatedSwitch({
      dpid: '00000000000000ab',
      name: 'edge1',
      controller: { host: '127.0.0.1', port: await controller.listen() },
      clock,
      ports: [port(1), port(2)],
      tables: 8,
      transmit: (p, packet, queue) => sent.push({ port: p, packet, queue }),
    });
    device.start();
    await controller.next('OFPHello');
  });
  afterEach(async () => {
    await device.stop();
    await controller.close();
  });

  test('introduces itself: features, description, ports, echo, configuration', async () => {
    const features = await controller.ask(of13.OFPFeaturesRequest({}), 'OFPSwitchFeatures');
    expect(features).toMatchObject({ datapath_id: 0xabn, n_tables: 8, auxiliary_id: 0 });
    const desc = await controller.ask(of13.OFPDescStatsRequest({}), 'OFPDescStatsReply');
    expect(desc.body.dp_desc).toBe('edge1');
    const ports = await controller.ask(of13.OFPPortDescStatsRequest({}), 'OFPPortDescStatsReply');
    expect(ports.body.map((p) => [p.port_no, p.name, p.curr_speed, p.state & ofp.OFPPS_LINK_DOWN])).toEqual([
      [1, 'p1', 200_000, 0],
      [2, 'p2', 200_000, 0],
    ]);
    const echo = await controller.ask(of13.OFPEchoRequest({ data: Buffer.from('are you there') }), 'OFPEchoReply');
    expect(echo.data.toString()).toBe('are you there');
    controller.send(of13.OFPSetConfig({ flags: 0, miss_send_len: 77 }));
    const config = await controller.ask(of13.OFPGetConfigRequest({}), 'OFPGetConfigReply');
    expect(config.miss_send_len).toBe(77);
  });

  test('forwards by its flows, counts, and tells flow, port, queue and meter counters', async () => {
    const meterId = 3;
    controller.send(of13.OFPMeterMod({ meter_id: meterId, bands: [of13.OFPMeterBandDrop({ rate: 1000 })] }));
    controller.send(
      of13.OFPFlowMod({
        cookie: 0xfa1cn,
        match: of13.OFPMatch({ in_port: 1 }),
        instructions: [
          of13.OFPInstructionMeter({ meter_id: meterId }),
          of13.OFPInstructionActions({
            type: ofp.OFPIT_APPLY_ACTIONS,
            actions: [of13.OFPActionSetQueue({ queue_id: 2 }), of13.OFPActionOutput({ port: 2 })],
          }),
        ],
      }),
    );
    await controller.barrier();
    const packet: Packet = { eth_dst: '02:00:00:00:00:b2', eth_src: '02:00:00:00:00:a1', eth_type: 0x9999 };
    device.receive(1, packet);
    expect(sent).toEqual([{ port: 2, packet, queue: 2 }]);
    const [entry] = device.tables.flows();
    if (entry === undefined) throw new Error('no flow');
    device.countMatched([entry], [meterId], 1500.5, 1.5);
    device.countSent(2, 2, 1000, 1);

    const flows = await controller.ask(
      of13.OFPFlowStatsRequest({ cookie: 0xfa1cn, cookie_mask: 0xffffn }),
      'OFPFlowStatsReply',
    );
    expect(flows.body).toMatchObject([{ cookie: 0xfa1cn, packet_count: 2n, byte_count: 1560n, priority: 0x8000 }]);
    const sum = await controller.ask(of13.OFPAggregateStatsRequest({}), 'OFPAggregateStatsReply');
    expect(sum.body).toMatchObject({ flow_count: 1, byte_count: 1560n });
    const ports = await controller.ask(of13.OFPPortStatsRequest({ port_no: 2 }), 'OFPPortStatsReply');
    expect(ports.body).toMatchObject([{ port_no: 2, tx_bytes: 1060n, tx_packets: 2n }]);
    const queues = await controller.ask(of13.OFPQueueStatsRequest({}), 'OFPQueueStatsReply');
    expect(queues.body).toMatchObject([{ port_no: 2, queue_id: 2, tx_bytes: 1060n }]);
    const meters = await controller.ask(of13.OFPMeterStatsRequest({}), 'OFPMeterStatsReply');
    expect(meters.body).toMatchObject([{ meter_id: meterId, flow_count: 1, byte_in_count: 1500n }]);
    const config = await controller.ask(of13.OFPMeterConfigStatsRequest({}), 'OFPMeterConfigStatsReply');
    expect(config.body).toMatchObject([{ meter_id: meterId, bands: [{ rate: 1000 }] }]);
    const features = await controller.ask(of13.OFPMeterFeaturesStatsRequest({}), 'OFPMeterFeaturesStatsReply');
    expect(features.body[0]?.max_meter).toBe(65535);
  });

  test('sends a packet-out’s frame on, and packets for the controller up', async () => {
    const lldp: Packet = {
      eth_dst: '01:80:c2:00:00:0e',
      eth_src: '02:00:00:00:00:01',
      eth_type: ETH_LLDP,
      payload: Buffer.from('probe'),
    };
    const actions = [of13.OFPActionOutput({ port: 1 })];
    controller.send(of13.OFPPacketOut({ in_port: ofp.OFPP_CONTROLLER, actions, data: buildFrame(lldp) }));
    const up = of13.OFPActionOutput({ port: ofp.OFPP_CONTROLLER, max_len: 16 });
    const match = of13.OFPMatch({ eth_type: ETH_LLDP });
    const instructions = [of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions: [up] })];
    controller.send(of13.OFPFlowMod({ cookie: 9n, match, instructions }));
    await controller.barrier();
    expect(sent).toEqual([{ port: 1, packet: lldp, queue: 0 }]);
    device.receive(2, lldp);
    const packetIn = await controller.next('OFPPacketIn');
    expect(packetIn).toMatchObject({
      cookie: 9n,
      reason: ofp.OFPR_ACTION,
      total_len: 19,
      buffer_id: ofp.OFP_NO_BUFFER,
    });
    expect(packetIn.match.fields.in_port).toBe(2);
    expect(packetIn.data).toEqual(buildFrame(lldp).subarray(0, 16));
  });

  test('tells of ports that come, change and go, and of flows that end', async () => {
    device.addPort(port(3));
    expect(await controller.next('OFPPortStatus')).toMatchObject({
      reason: ofp.OFPPR_ADD,
      desc: { port_no: 3, name: 'p3' },
    });
    device.setPortUp(1, false);
    const down = await controller.next('OFPPortStatus');
    expect(down).toMatchObject({ reason: ofp.OFPPR_MODIFY, desc: { port_no: 1, state: ofp.OFPPS_LINK_DOWN } });
    device.removePort(3);
    expect(await controller.next('OFPPortStatus')).toMatchObject({ reason: ofp.OFPPR_DELETE, desc: { port_no: 3 } });
    controller.send(of13.OFPFlowMod({ cookie: 7n, hard_timeout: 1, flags: ofp.OFPFF_SEND_FLOW_REM }));
    const removed = await controller.next('OFPFlowRemoved');
    expect(removed).toMatchObject({ cookie: 7n, reason: ofp.OFPRR_HARD_TIMEOUT });
    expect(removed.duration_sec).toBeGreaterThanOrEqual(1);
  });

  test('answers what it cannot do with the error, the request’s xid and its first bytes', async () => {
    const match = of13.OFPMatch({ tcp_dst: 80 });
    const xid = controller.send(of13.OFPFlowMod({ match }));
    const error = await controller.next('OFPErrorMsg', xid);
    expect([error.type, error.code]).toEqual([ofp.OFPET_BAD_MATCH, ofp.OFPBMC_BAD_PREREQ]);
    expect(error.data.readUInt32BE(4)).toBe(xid);
    const table = controller.send(of13.OFPTableStatsRequest({}));
    expect(await controller.next('OFPErrorMsg', table)).toMatchObject({
      type: ofp.OFPET_BAD_REQUEST,
      code: ofp.OFPBRC_BAD_MULTIPART,
    });
    const short = controller.send(
      of13.OFPPacketOut({ in_port: ofp.OFPP_CONTROLLER, actions: [], data: Buffer.alloc(3) }),
    );
    expect(await controller.next('OFPErrorMsg', short)).toMatchObject({ code: ofp.OFPBRC_BAD_PACKET });
    const group = controller.send(of13.OFPGroupMod({ command: ofp.OFPGC_MODIFY, group_id: 1 }));
    expect(await controller.next('OFPErrorMsg', group)).toMatchObject({ type: ofp.OFPET_GROUP_MOD_FAILED });
    await controller.barrier();
    expect(device.tables.flows()).toEqual([]);
  });

  test('long answers come in parts', async () => {
    for (let i = 1; i <= 250; i++) controller.send(of13.OFPFlowMod({ match: of13.OFPMatch({ in_port: i }) }));
    const xid = controller.send(of13.OFPFlowStatsRequest({}));
    const parts: Message<'OFPFlowStatsReply'>[] = [];
    while (parts.at(-1)?.flags !== 0) parts.push(await controller.next('OFPFlowStatsReply', xid));
    expect(parts.map((p) => p.flags)).toEqual([ofp.OFPMPF_REPLY_MORE, ofp.OFPMPF_REPLY_MORE, 0]);
    expect(parts.flatMap((p) => p.body)).toHaveLength(250);
  });

  test('keeps its flows and comes back when the connection is lost', async () => {
    controller.send(of13.OFPFlowMod({ cookie: 1n }));
    await controller.barrier();
    device.disconnect();
    await controller.until(() => (controller.connections === 2 ? true : undefined));
    await controller.next('OFPHello');
    const flows = await controller.ask(of13.OFPFlowStatsRequest({}), 'OFPFlowStatsReply');
    expect(flows.body.map((f) => f.cookie)).toEqual([1n]);
  });

  test('a slave controller may not write, an old generation is stale', async () => {
    const become = (role: number, generation_id: bigint) => of13.OFPRoleRequest({ role, generation_id });
    expect(await controller.ask(become(ofp.OFPCR_ROLE_SLAVE, 5n), 'OFPRoleReply')).toMatchObject({
      role: ofp.OFPCR_ROLE_SLAVE,
    });
    expect(await controller.ask(of13.OFPFlowMod({}), 'OFPErrorMsg')).toMatchObject({ code: ofp.OFPBRC_IS_SLAVE });
    expect(await controller.ask(become(ofp.OFPCR_ROLE_MASTER, 4n), 'OFPErrorMsg')).toMatchObject({
      type: ofp.OFPET_ROLE_REQUEST_FAILED,
      code: ofp.OFPRRFC_STALE,
    });
    expect(await controller.ask(become(ofp.OFPCR_ROLE_MASTER, 6n), 'OFPRoleReply')).toMatchObject({
      role: ofp.OFPCR_ROLE_MASTER,
    });
  });
});

test('a controller of another version is refused', async () => {
  const controller = new TinyController([1]);
  const device = new EmulatedSwitch({
    dpid: '0000000000000001',
    name: 's1',
    controller: { host: '127.0.0.1', port: await controller.listen() },
    clock,
    transmit: () => {},
  });
  device.start();
  const error = await controller.next('OFPErrorMsg');
  expect([error.type, error.code]).toEqual([ofp.OFPET_HELLO_FAILED, ofp.OFPHFC_INCOMPATIBLE]);
  expect(device.isConnected).toBe(false);
  await device.stop();
  await controller.close();
});
