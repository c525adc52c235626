/**
 * An emulated switch that speaks real OpenFlow 1.3 over TCP: it connects to a controller, reconnects when the connection is
 * lost, and answers as Open vSwitch would. What it forwards is decided by flowTables.ts, what it answers to multipart
 * requests by statistics.ts; where its ports lead, and how much traffic its counters count, is decided by whoever owns it
 * (datacentre.ts, or a test).
 */
import { connect, type Socket } from 'node:net';
import {
  decodeAs,
  encode,
  MessageSplitter,
  OfDecodeError,
  type OfMessage,
  of13,
  ofproto_v1_3 as ofp,
} from 'node-openflow';
import type { Clock } from '../../contracts/clock.ts';
import { type Log, silentLog } from '../../contracts/log.ts';
import { buildFrame, frameLength, type Packet, parseFrame } from '../packet.ts';
import { Bundles } from './bundles.ts';
import type { FlowEntry, Outcome, RemovedFlow } from './entries.ts';
import { FlowTables } from './flowTables.ts';
import type { OfErrorCode } from './match.ts';
import { describePort, type EmulatedPort, type PortSpec } from './ports.ts';
import { duration, statistics } from './statistics.ts';

/** Hands a packet to whatever is at the other end of a port. Must not call back into the switch before it returns. */
export type Transmit = (portNo: number, packet: Packet, queue: number) => void;

export interface EmulatedSwitchOptions {
  /** 16 hexadecimal digits. */
  dpid: string;
  name: string;
  controller: { host: string; port: number };
  clock: Clock;
  log?: Log;
  ports?: readonly PortSpec[];
  transmit: Transmit;
  tables?: number;
  maxMeters?: number;
  /** 0: a switch without groups. */
  maxGroups?: number;
  /** Flows in all tables together. */
  maxFlows?: number;
  /** It has bundles. Default false. */
  bundles?: boolean;
}

type Message<C extends OfMessage<4>['cls']> = Extract<OfMessage<4>, { cls: C }>;

const RECONNECT_FIRST_MS = 250;
const RECONNECT_MOST_MS = 8000;
const EXPIRE_PERIOD_MS = 1000;
/** Bytes of a refused request that an error message quotes (OpenFlow 1.3.5 7.4.4: at least 64). */
const QUOTED_BYTES = 64;
/** Unsent bytes at which packet-ins are dropped: a switch has no endless memory for a slow controller. */
const BACKLOG_BYTES = 4 * 1024 * 1024;

export class EmulatedSwitch {
  readonly dpid: string;
  readonly name: string;
  readonly tables: FlowTables;
  readonly ports = new Map<number, EmulatedPort>();
  readonly #o: EmulatedSwitchOptions;
  readonly #log: Log;
  #socket: Socket | undefined;
  #isReady = false;
  #isStopped = true;
  #backoffMs = RECONNECT_FIRST_MS;
  #cancelReconnect: () => void = () => {};
  #stopExpiry: () => void = () => {};
  #missSendLen = 128;
  #configFlags = 0;
  #xid = 0x80000000;
  #generation: bigint | undefined;
  #role: number = ofp.OFPCR_ROLE_EQUAL;
  /** Those of the connection; undefined where it has none. */
  #bundles: Bundles | undefined;

  constructor(o: EmulatedSwitchOptions) {
    this.#o = o;
    this.dpid = o.dpid;
    this.name = o.name;
    this.#log = o.log ?? silentLog;
    this.tables = new FlowTables({
      ...(o.tables === undefined ? {} : { tables: o.tables }),
      ...(o.maxMeters === undefined ? {} : { maxMeters: o.maxMeters }),
      ...(o.maxGroups === undefined ? {} : { maxGroups: o.maxGroups }),
      ...(o.maxFlows === undefined ? {} : { maxFlows: o.maxFlows }),
      ports: () => this.#livePorts(),
      onRemoved: (removed) => this.#flowRemoved(removed),
    });
    for (const spec of o.ports ?? []) this.ports.set(spec.portNo, this.#newPort(spec));
  }

  /** True from the end of the handshake to the loss of the connection. */
  get isConnected(): boolean {
    return this.#isReady;
  }

  /** Begins to connect, and keeps trying until `stop`. */
  start(): void {
    if (!this.#isStopped) return;
    this.#isStopped = false;
    this.#stopExpiry = this.#o.clock.every(EXPIRE_PERIOD_MS, () => this.tables.expire(this.#o.clock.now()));
    this.#connect();
  }

  /** Ends the connection and all timers. Tables and ports stay as they are. */
  stop(): Promise<void> {
    this.#isStopped = true;
    this.#cancelReconnect();
    this.#stopExpiry();
    const socket = this.#socket;
    if (socket === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      socket.once('close', () => resolve());
      socket.destroy();
    });
  }

  /** Breaks the connection as a cut cable would; the switch comes back by itself. */
  disconnect(): void {
    this.#socket?.destroy();
  }

  // ---- ports --------------------------------------------------------------------------------------------------------

  /** Adds a port and tells the controller. */
  addPort(spec: PortSpec): void {
    const port = this.#newPort(spec);
    this.ports.set(spec.portNo, port);
    this.tables.version++;
    this.#portStatus(ofp.OFPPR_ADD, port);
  }

  /** Removes a port and tells the controller; unknown numbers are ignored. */
  removePort(portNo: number): void {
    const port = this.ports.get(portNo);
    if (port === undefined) return;
    this.ports.delete(portNo);
    this.tables.forgetPort(portNo);
    this.#portStatus(ofp.OFPPR_DELETE, port);
  }

  /** The port negotiates another speed, and the switch says so. */
  setPortSpeed(portNo: number, speedBps: number): void {
    const port = this.ports.get(portNo);
    if (port === undefined || port.speedBps === speedBps) return;
    const changed = { ...port, speedBps };
    this.ports.set(portNo, changed);
    this.#portStatus(ofp.OFPPR_MODIFY, changed);
  }

  /** Takes a port's link up or down and tells the controller. */
  setPortUp(portNo: number, isUp: boolean): void {
    const port = this.ports.get(portNo);
    if (port === undefined || port.isUp === isUp) return;
    port.isUp = isUp;
    if (!isUp) this.tables.forgetPort(portNo);
    this.tables.version++;
    this.#portStatus(ofp.OFPPR_MODIFY, port);
  }

  portNamed(name: string): EmulatedPort | undefined {
    for (const port of this.ports.values()) if (port.name === name) return port;
    return undefined;
  }

  #newPort(spec: PortSpec): EmulatedPort {
    const zero = { rxPackets: 0, txPackets: 0, rxBytes: 0, txBytes: 0, txDropped: 0 };
    return { ...spec, ...zero, isUp: true, sinceMs: this.#o.clock.now(), queues: new Map() };
  }

  *#livePorts(): Iterable<number> {
    for (const port of this.ports.values()) if (port.isUp) yield port.portNo;
  }

  // ---- packets ------------------------------------------------------------------------------------------------------

  /** A packet arrives on a port. */
  receive(portNo: number, packet: Packet): void {
    const port = this.ports.get(portNo);
    if (!port?.isUp) return;
    port.rxPackets++;
    port.rxBytes += frameLength(packet);
    this.#carryOut(this.tables.process(packet, portNo, { nowMs: this.#o.clock.now() }));
  }

  /** Adds fluid traffic that left by a port; `queue` as set by set_queue. */
  countSent(portNo: number, queue: number, bytes: number, packets: number): void {
    const port = this.ports.get(portNo);
    if (port === undefined) return;
    port.txBytes += bytes;
    port.txPackets += packets;
    let counters = port.queues.get(queue);
    if (counters === undefined) {
      counters = { txBytes: 0, txPackets: 0, sinceMs: this.#o.clock.now() };
      port.queues.set(queue, counters);
    }
    counters.txBytes += bytes;
    counters.txPackets += packets;
  }

  /** Adds fluid traffic that came in by a port. */
  countReceived(portNo: number, bytes: number, packets: number): void {
    const port = this.ports.get(portNo);
    if (port === undefined) return;
    port.rxBytes += bytes;
    port.rxPackets += packets;
  }

  /** Adds fluid traffic to the flows and meters it matched. */
  countMatched(flows: readonly FlowEntry[], meters: readonly number[], bytes: number, packets: number): void {
    const now = this.#o.clock.now();
    for (const entry of flows) {
      entry.bytes += bytes;
      entry.packets += packets;
      if (packets > 0) entry.usedMs = now;
    }
    for (const id of meters) {
      const meter = this.tables.meter(id);
      if (meter === undefined) continue;
      meter.bytesIn += bytes;
      meter.packetsIn += packets;
    }
  }

  #carryOut(outcome: Outcome): void {
    for (const out of outcome.outputs) {
      const port = this.ports.get(out.port);
      if (!port?.isUp) {
        if (port !== undefined) port.txDropped++;
        continue;
      }
      this.countSent(out.port, out.queue, frameLength(out.packet), 1);
      this.#o.transmit(out.port, out.packet, out.queue);
    }
    for (const up of outcome.toController) {
      if (this.#role === ofp.OFPCR_ROLE_SLAVE || (this.#socket?.writableLength ?? 0) > BACKLOG_BYTES) continue;
      const frame = buildFrame(up.packet);
      // Unbuffered packets are sent whole for a miss; an action's max_len cuts them (OpenFlow 1.3.5 7.2.5, 7.4.1).
      const data = up.reason === ofp.OFPR_ACTION && up.maxLen < ofp.OFPCML_MAX ? frame.subarray(0, up.maxLen) : frame;
      this.#send(
        of13.OFPPacketIn({
          buffer_id: ofp.OFP_NO_BUFFER,
          total_len: frame.length,
          reason: up.reason,
          table_id: up.tableId,
          cookie: up.cookie,
          match: of13.OFPMatch({
            in_port: up.inPort,
            ...(up.metadata === 0n ? {} : { metadata: up.metadata }),
            ...(up.tunnelId === 0n ? {} : { tunnel_id: up.tunnelId }),
          }),
          data,
        }),
      );
    }
  }

  // ---- connection ---------------------------------------------------------------------------------------------------

  #connect(): void {
    const { host, port } = this.#o.controller;
    const socket = connect({ host, port, noDelay: true });
    const splitter = new MessageSplitter();
    this.#socket = socket;
    this.#role = ofp.OFPCR_ROLE_EQUAL;
    this.#bundles = this.#o.bundles === true ? new Bundles() : undefined;
    let greeted = false;
    socket.on('connect', () => {
      this.#send(of13.OFPHello({ elements: [of13.OFPHelloElemVersionBitmap({ versions: [ofp.OFP_VERSION] })] }));
    });
    socket.on('data', (chunk) => {
      try {
        for (const bytes of splitter.push(chunk)) {
          if (socket.destroyed) return;
          const message = this.#read(bytes);
          if (message === undefined) continue;
          if (!greeted) {
            if (!this.#greet(message, bytes)) return;
            greeted = true;
            continue;
          }
          this.#handle(message, bytes);
        }
      } catch (e) {
        // Framing is lost or our own code failed: nothing that follows can be trusted.
        this.#log('warn', 'switch.protocol', { switch: this.name, error: e });
        socket.destroy();
      }
    });
    socket.on('error', (error) => this.#log('debug', 'switch.connection', { switch: this.name, error: error.message }));
    socket.on('close', () => {
      if (this.#socket === socket) this.#socket = undefined;
      this.#isReady = false;
      if (this.#isStopped) return;
      this.#cancelReconnect = this.#o.clock.after(this.#backoffMs, () => this.#connect());
      this.#backoffMs = Math.min(RECONNECT_MOST_MS, this.#backoffMs * 2);
    });
  }

  /** Decodes a message; one that cannot be read is answered with the error its reader found. */
  #read(bytes: Buffer): OfMessage<4> | undefined {
    try {
      return decodeAs(4, bytes);
    } catch (e) {
      if (!(e instanceof OfDecodeError)) throw e;
      this.#refuse(e.ofError, bytes);
      return undefined;
    }
  }

  /** The first message must be a hello whose versions include 1.3 (OpenFlow 1.3.5 6.3.1). */
  #greet(message: OfMessage<4>, bytes: Buffer): boolean {
    const bitmap =
      message.cls === 'OFPHello'
        ? message.elements.flatMap((e) => (e.cls === 'OFPHelloElemVersionBitmap' ? e.versions : []))
        : [];
    const fits =
      message.cls === 'OFPHello' &&
      (bitmap.length > 0 ? bitmap.includes(ofp.OFP_VERSION) : message.version >= ofp.OFP_VERSION);
    if (fits) {
      this.#isReady = true;
      this.#backoffMs = RECONNECT_FIRST_MS;
      return true;
    }
    this.#refuse({ type: ofp.OFPET_HELLO_FAILED, code: ofp.OFPHFC_INCOMPATIBLE }, bytes);
    this.#socket?.end();
    return false;
  }

  #send(message: OfMessage<4>, xid?: number): void {
    const socket = this.#socket;
    if (socket === undefined || socket.destroyed || !socket.writable) return;
    if (!this.#isReady && message.cls !== 'OFPHello' && message.cls !== 'OFPErrorMsg') return;
    this.#xid = this.#xid === 0xffffffff ? 0x80000000 : this.#xid + 1;
    socket.write(encode(message, xid ?? this.#xid));
  }

  #refuse(error: OfErrorCode, request: Buffer): void {
    const xid = request.readUInt32BE(4);
    const data = request.subarray(0, QUOTED_BYTES);
    this.#log('debug', 'switch.refused', { switch: this.name, ...error });
    this.#send(of13.OFPErrorMsg({ type: error.type, code: error.code, data: Buffer.from(data) }), xid);
  }

  #portStatus(reason: number, port: EmulatedPort): void {
    this.#send(of13.OFPPortStatus({ reason, desc: describePort(port) }));
  }

  #flowRemoved(removed: RemovedFlow): void {
    const { entry, reason, atMs } = removed;
    const lived = Math.max(0, atMs - entry.sinceMs);
    this.#send(
      of13.OFPFlowRemoved({
        cookie: entry.cookie,
        priority: entry.priority,
        reason,
        table_id: entry.tableId,
        ...duration(lived),
        idle_timeout: entry.idleTimeoutS,
        hard_timeout: entry.hardTimeoutS,
        packet_count: BigInt(Math.floor(entry.packets)),
        byte_count: BigInt(Math.floor(entry.bytes)),
        match: entry.match,
      }),
    );
  }

  // ---- requests -----------------------------------------------------------------------------------------------------

  #handle(m: OfMessage<4>, bytes: Buffer): void {
    const now = this.#o.clock.now();
    const reply = (answer: OfMessage<4>) => this.#send(answer, m.xid);
    const bad = (code: number) => this.#refuse({ type: ofp.OFPET_BAD_REQUEST, code }, bytes);
    switch (m.cls) {
      case 'OFPHello':
      case 'OFPEchoReply':
        return;
      case 'OFPErrorMsg':
        this.#log('warn', 'switch.controllerError', { switch: this.name, type: m.type, code: m.code });
        return;
      case 'OFPEchoRequest':
        reply(of13.OFPEchoReply({ data: m.data }));
        return;
      case 'OFPFeaturesRequest':
        reply(
          of13.OFPSwitchFeatures({
            datapath_id: BigInt(`0x${this.dpid}`),
            n_buffers: 0,
            n_tables: this.tables.tableCount,
            capabilities:
              ofp.OFPC_FLOW_STATS |
              ofp.OFPC_PORT_STATS |
              ofp.OFPC_QUEUE_STATS |
              (this.tables.maxGroups > 0 ? ofp.OFPC_GROUP_STATS : 0),
          }),
        );
        return;
      case 'OFPGetConfigRequest':
        reply(of13.OFPGetConfigReply({ flags: this.#configFlags, miss_send_len: this.#missSendLen }));
        return;
      case 'OFPSetConfig':
        this.#configFlags = m.flags;
        this.#missSendLen = m.miss_send_len;
        return;
      case 'OFPBarrierRequest':
        // Everything before it is done: messages are carried out one by one as they come.
        reply(of13.OFPBarrierReply({}));
        return;
      case 'OFPRoleRequest':
        this.#changeRole(m, bytes);
        return;
      case 'OFPFlowMod':
      case 'OFPMeterMod':
      case 'OFPGroupMod': {
        if (this.#role === ofp.OFPCR_ROLE_SLAVE) {
          bad(ofp.OFPBRC_IS_SLAVE);
          return;
        }
        const errors = this.tables.apply(m, now);
        if (errors[0] !== undefined) this.#refuse(errors[0], bytes);
        return;
      }
      case 'ONFBundleCtrlMsg':
      case 'ONFBundleAddMsg':
        if (this.#bundles === undefined) bad(ofp.OFPBRC_BAD_EXPERIMENTER);
        else if (this.#role === ofp.OFPCR_ROLE_SLAVE) bad(ofp.OFPBRC_IS_SLAVE);
        else if (m.cls === 'ONFBundleAddMsg') {
          const refusal = this.#bundles.add(m);
          if (refusal !== undefined) reply(refusal);
        } else {
          const { errors, reply: answer } = this.#bundles.control(m, this.tables, now);
          for (const e of errors) this.#send(of13.OFPErrorMsg({ type: e.type, code: e.code }), e.xid);
          reply(answer);
        }
        return;
      case 'OFPPacketOut':
        this.#packetOut(m, bytes);
        return;
      case 'OFPExperimenter':
        bad(ofp.OFPBRC_BAD_EXPERIMENTER);
        return;
      default: {
        const answer = statistics(m, this, now);
        if (typeof answer === 'number') bad(answer);
        else for (const part of answer) reply(part);
        return;
      }
    }
  }

  /** OpenFlow 1.3.5 6.3.6; with one controller there is nobody to become a slave in its place. */
  #changeRole(m: Message<'OFPRoleRequest'>, bytes: Buffer): void {
    const takesOver = m.role === ofp.OFPCR_ROLE_MASTER || m.role === ofp.OFPCR_ROLE_SLAVE;
    if (takesOver) {
      const isStale = this.#generation !== undefined && BigInt.asIntN(64, m.generation_id - this.#generation) < 0n;
      if (isStale) {
        this.#refuse({ type: ofp.OFPET_ROLE_REQUEST_FAILED, code: ofp.OFPRRFC_STALE }, bytes);
        return;
      }
      this.#generation = m.generation_id;
    }
    if (m.role !== ofp.OFPCR_ROLE_NOCHANGE) this.#role = m.role;
    this.#send(
      of13.OFPRoleReply({ role: this.#role, generation_id: this.#generation ?? 0xffff_ffff_ffff_ffffn }),
      m.xid,
    );
  }

  #packetOut(m: Message<'OFPPacketOut'>, bytes: Buffer): void {
    const bad = (code: number) => this.#refuse({ type: ofp.OFPET_BAD_REQUEST, code }, bytes);
    if (this.#role === ofp.OFPCR_ROLE_SLAVE) {
      bad(ofp.OFPBRC_IS_SLAVE);
      return;
    }
    if (m.buffer_id !== ofp.OFP_NO_BUFFER) {
      bad(ofp.OFPBRC_BUFFER_UNKNOWN);
      return;
    }
    const isPort = m.in_port === ofp.OFPP_CONTROLLER || m.in_port === ofp.OFPP_LOCAL;
    if (!isPort && (m.in_port === 0 || m.in_port > ofp.OFPP_MAX)) {
      bad(ofp.OFPBRC_BAD_PORT);
      return;
    }
    const packet = parseFrame(m.data);
    if (packet === undefined) {
      bad(ofp.OFPBRC_BAD_PACKET);
      return;
    }
    const wrong = this.tables.checkActions(m.actions);
    if (wrong !== undefined) {
      this.#refuse(wrong, bytes);
      return;
    }
    this.#carryOut(this.tables.execute(m.actions, packet, m.in_port, { nowMs: this.#o.clock.now() }));
  }
}
