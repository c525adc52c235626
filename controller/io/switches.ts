/**
 * Sessions with switches: OpenFlow 1.3 over TCP. Listens, agrees on the version, asks what a switch is and what it holds
 * of ours, keeps the connection alive, and turns messages into core events. Knows nothing of migrations; `server.ts`
 * carries the core's write effects here. Reconnecting never touches what a switch forwards: its tables are read first.
 */
import { createServer, type Server, type Socket } from 'node:net';
import {
  decodeAs,
  encode,
  isMultipartReply,
  MessageSplitter,
  MultipartAssembler,
  OfDecodeError,
  type OfMessage,
  of13,
  ofproto_v1_3 as ofp,
} from 'node-openflow';
import type { Clock } from '../../contracts/clock.ts';
import { FairwayError } from '../../contracts/common.ts';
import type { Log } from '../../contracts/log.ts';
import { OURS } from '../core/cookies.ts';
import type { Event, FlowCounter, PortCounter, PortDescription, QueueCounter, WriteOutcome } from '../core/events.ts';
import { type Flow, flow } from '../core/flows.ts';

const HANDSHAKE_MS = 10_000;
const REQUEST_MS = 8000;
/** A switch is asked for an echo after this much silence, and given up after twice as much. */
const ECHO_MS = 5000;
/** Output waiting for a switch that does not read; beyond it the session is useless and is ended. */
const MAX_UNSENT_BYTES = 64 * 2 ** 20;
const MAX_SESSIONS = 10_000;

export interface SwitchServerOptions {
  host: string;
  port: number;
  clock: Clock;
  log: Log;
  emit(event: Event): void;
}

type Reply = { ok: true; message: OfMessage<4> } | { ok: false; error: string; lost: boolean };
type PortDesc = { port_no: number; name: string; hw_addr: string; config: number; state: number; curr_speed: number };

function describe(p: PortDesc): PortDescription {
  const isUp = (p.config & ofp.OFPPC_PORT_DOWN) === 0 && (p.state & ofp.OFPPS_LINK_DOWN) === 0;
  // The LOCAL port of a bridge is down as a device until it has an address, and yet it is where the host lives.
  return {
    portNo: p.port_no,
    name: p.name,
    hwAddr: p.hw_addr,
    isUp: isUp || p.port_no === ofp.OFPP_LOCAL,
    speedBps: p.curr_speed * 1000,
  };
}

const dpidText = (id: bigint): string => id.toString(16).padStart(16, '0');

/** One connection of a switch. */
class Session {
  readonly socket: Socket;
  readonly remote: string;
  dpid: string | undefined;
  lastHeardMs: number;
  /** Echo round trip in ms, when one was measured. */
  roundTripMs: number | undefined;
  readonly #server: SwitchServer;
  readonly #splitter = new MessageSplitter();
  readonly #parts = new MultipartAssembler();
  readonly #pending = new Map<number, { resolve(r: Reply): void; cancel(): void }>();
  /** Errors of writes under way, by the batch their messages belong to. */
  readonly #writes = new Map<number, string[]>();
  #nextXid = 1;
  #echoSentMs: number | undefined;
  #queued: Buffer[] = [];
  #closed = false;
  #hasMeters = false;
  readonly #stop: (() => void)[] = [];

  constructor(server: SwitchServer, socket: Socket) {
    this.#server = server;
    this.socket = socket;
    this.remote = `${socket.remoteAddress}:${socket.remotePort}`;
    this.lastHeardMs = server.clock.now();
    socket.setNoDelay(true);
    socket.on('data', (chunk) => this.#read(chunk));
    socket.on('error', () => {});
    socket.on('close', () => this.close('the connection was closed'));
    this.#stop.push(server.clock.every(ECHO_MS, () => this.#keepAlive()));
    this.#stop.push(
      server.clock.after(HANDSHAKE_MS, () => {
        if (this.dpid === undefined) this.close('it did not say who it is in time');
      }),
    );
    const bitmap = of13.OFPHelloElemVersionBitmap({ versions: [ofp.OFP_VERSION] });
    this.send(of13.OFPHello({ elements: [bitmap] }));
  }

  /** Queues a message; all of one turn of the event loop go out in one write. Answers the transaction id. */
  send(message: OfMessage<4>): number {
    const xid = this.#nextXid;
    this.#nextXid = (this.#nextXid % 0xffff_fff0) + 1;
    this.#output(encode(message, xid));
    return xid;
  }

  #output(bytes: Buffer): void {
    if (this.#closed) return;
    if (this.#queued.length === 0) setImmediate(() => this.#flush());
    this.#queued.push(bytes);
  }

  #flush(): void {
    if (this.#closed) return;
    this.socket.write(Buffer.concat(this.#queued));
    this.#queued = [];
    if (this.socket.writableLength > MAX_UNSENT_BYTES) this.close('it does not read what it is sent');
  }

  /** Sends a request and waits for the reply with its transaction id, multipart replies put together. */
  request(message: OfMessage<4>): Promise<OfMessage<4>> {
    return new Promise((resolve, reject) => {
      const xid = this.send(message);
      const cancel = this.#server.clock.after(REQUEST_MS, () =>
        settle({ ok: false, error: 'no answer in time', lost: true }),
      );
      const settle = (r: Reply) => {
        cancel();
        this.#pending.delete(xid);
        if (r.ok) resolve(r.message);
        else
          reject(
            new FairwayError(
              'SWITCH_REQUEST',
              `${message.cls} to ${this.dpid ?? this.remote}: ${r.error}`,
              r.lost ? ['outcomeUnknown'] : [],
            ),
          );
      };
      this.#pending.set(xid, { resolve: settle, cancel });
    });
  }

  /** Sends a batch and a closing barrier; what became of it is known when the barrier is answered. */
  async write(messages: readonly OfMessage<4>[]): Promise<{ outcome: WriteOutcome; errors: string[] }> {
    const errors: string[] = [];
    const xids = messages.map((m) => this.send(m));
    for (const xid of xids) this.#writes.set(xid, errors);
    try {
      await this.request(of13.OFPBarrierRequest({}));
      return { outcome: errors.length > 0 ? 'refused' : 'applied', errors };
    } catch (error) {
      return { outcome: 'unknown', errors: [String(error)] };
    } finally {
      for (const xid of xids) this.#writes.delete(xid);
    }
  }

  #keepAlive(): void {
    const silentMs = this.#server.clock.now() - this.lastHeardMs;
    if (silentMs > 3 * ECHO_MS) this.close(`it was silent for ${Math.round(silentMs)} ms`);
    else if (this.dpid !== undefined && this.#echoSentMs === undefined) {
      this.#echoSentMs = this.#server.clock.now();
      this.send(of13.OFPEchoRequest({ data: Buffer.alloc(0) }));
    }
  }

  #read(chunk: Buffer): void {
    this.lastHeardMs = this.#server.clock.now();
    try {
      for (const bytes of this.#splitter.push(chunk)) {
        if (this.#closed) return;
        this.#one(bytes);
      }
    } catch (error) {
      if (!(error instanceof OfDecodeError)) throw error;
      this.close(`it sent what is not OpenFlow: ${error.message}`);
    }
  }

  #one(bytes: Buffer): void {
    const version = bytes[0] as number;
    const type = bytes[1] as number;
    if (version !== ofp.OFP_VERSION && type !== ofp.OFPT_HELLO) {
      this.close(`it speaks OpenFlow version 0x${version.toString(16)} where 0x04 (1.3) was agreed`);
      return;
    }
    // A hello of a newer version has the same header, and 1.3's elements in it.
    if (type === ofp.OFPT_HELLO) {
      this.#hello(bytes);
      return;
    }
    let message: OfMessage<4>;
    try {
      message = decodeAs(4, bytes);
    } catch (error) {
      if (!(error instanceof OfDecodeError)) throw error;
      this.#server.log('warn', 'switch.badMessage', { dpid: this.dpid, remote: this.remote, error: error.message });
      return;
    }
    this.#dispatch(message);
  }

  #hello(bytes: Buffer): void {
    const version = bytes[0] as number;
    if (version < ofp.OFP_VERSION) {
      const text = Buffer.from('Fairway speaks OpenFlow 1.3: allow it on the switch (protocols=OpenFlow13)');
      this.send(of13.OFPErrorMsg({ type: ofp.OFPET_HELLO_FAILED, code: ofp.OFPHFC_INCOMPATIBLE, data: text }));
      this.#flush();
      this.close('it does not speak OpenFlow 1.3');
      return;
    }
    if (this.dpid !== undefined) return;
    this.#introduce().catch((error) =>
      this.close(`it could not be set up: ${error instanceof Error ? error.message : error}`),
    );
  }

  /** Asks who the switch is, what ports it has, and what it holds of ours. */
  async #introduce(): Promise<void> {
    const features = await this.request(of13.OFPFeaturesRequest({}));
    if (features.cls !== 'OFPSwitchFeatures') throw new Error(`features were answered by ${features.cls}`);
    const dpid = dpidText(features.datapath_id);
    this.send(of13.OFPSetConfig({ flags: 0, miss_send_len: 128 }));
    const ports = await this.request(of13.OFPPortDescStatsRequest({}));
    const maxMeters = await this.request(of13.OFPMeterFeaturesStatsRequest({})).then(
      (r) => (r.cls === 'OFPMeterFeaturesStatsReply' ? (r.body[0]?.max_meter ?? 0) : 0),
      () => 0,
    );
    this.#hasMeters = maxMeters > 0;
    const meterIds = await this.#meterIds();
    const flows = await this.readFlows();
    if (this.#closed) return;
    if (!this.#server.claim(dpid, this)) {
      this.close(
        `datapath id ${dpid} is already connected from ${this.#server.sessions.get(dpid)?.remote}; give each switch its own`,
      );
      return;
    }
    this.dpid = dpid;
    const described = ports.cls === 'OFPPortDescStatsReply' ? ports.body.map(describe) : [];
    this.#server.emit({ kind: 'switchUp', dpid, ports: described, maxMeters, meterIds, flows });
  }

  async #meterIds(): Promise<number[]> {
    if (!this.#hasMeters) return [];
    try {
      const r = await this.request(of13.OFPMeterConfigStatsRequest({ meter_id: ofp.OFPM_ALL }));
      return r.cls === 'OFPMeterConfigStatsReply' ? r.body.map((m) => m.meter_id) : [];
    } catch {
      // Switches without meters answer with an error although they have meter features.
      return [];
    }
  }

  /** What the switch holds of ours. */
  async readBack(): Promise<{ flows: Flow[]; meterIds: number[] }> {
    return { flows: await this.readFlows(), meterIds: await this.#meterIds() };
  }

  /** Flows of ours that the switch holds. */
  async readFlows(): Promise<Flow[]> {
    const r = await this.request(this.#ours());
    if (r.cls !== 'OFPFlowStatsReply') throw new Error(`flow stats were answered by ${r.cls}`);
    return r.body.map((f) =>
      flow({ table: f.table_id, priority: f.priority, match: f.match, instructions: f.instructions, cookie: f.cookie }),
    );
  }

  #ours(): OfMessage<4> {
    return of13.OFPFlowStatsRequest({
      table_id: ofp.OFPTT_ALL,
      out_port: ofp.OFPP_ANY,
      out_group: ofp.OFPG_ANY,
      cookie: OURS.cookie,
      cookie_mask: OURS.mask,
      match: of13.OFPMatch({}),
    });
  }

  /** Reads all counters and emits them as one event. */
  async sample(withQueues: boolean): Promise<void> {
    const dpid = this.dpid;
    if (dpid === undefined) return;
    // Asked for in one write, so that they are read as close together as the switch can.
    const queueRequest = of13.OFPQueueStatsRequest({ port_no: ofp.OFPP_ANY, queue_id: ofp.OFPQ_ALL });
    const [p, q, f] = await Promise.all([
      this.request(of13.OFPPortStatsRequest({ port_no: ofp.OFPP_ANY })),
      withQueues ? this.request(queueRequest).catch(() => undefined) : undefined,
      this.request(this.#ours()),
    ]);
    const ports: PortCounter[] =
      p.cls === 'OFPPortStatsReply'
        ? p.body.map((s) => ({ portNo: s.port_no, rxBytes: Number(s.rx_bytes), txBytes: Number(s.tx_bytes) }))
        : [];
    const queues: QueueCounter[] =
      q?.cls === 'OFPQueueStatsReply'
        ? q.body.map((s) => ({ portNo: s.port_no, queueId: s.queue_id, txBytes: Number(s.tx_bytes) }))
        : [];
    const flows: FlowCounter[] =
      f.cls === 'OFPFlowStatsReply'
        ? f.body.map((s) => ({ cookie: s.cookie, packets: Number(s.packet_count), bytes: Number(s.byte_count) }))
        : [];
    if (!this.#closed) this.#server.emit({ kind: 'counters', dpid, ports, queues, flows });
  }

  #dispatch(m: OfMessage<4>): void {
    const dpid = this.dpid;
    switch (m.cls) {
      case 'OFPEchoRequest':
        this.#output(encode(of13.OFPEchoReply({ data: m.data }), m.xid));
        return;
      case 'OFPEchoReply':
        if (this.#echoSentMs !== undefined) this.roundTripMs = this.#server.clock.now() - this.#echoSentMs;
        this.#echoSentMs = undefined;
        return;
      case 'OFPErrorMsg':
        this.#error(m);
        return;
      case 'OFPPacketIn':
        if (dpid !== undefined) {
          const inPort = m.match.fields.in_port;
          if (typeof inPort === 'number')
            this.#server.emit({ kind: 'packetIn', dpid, inPort, frame: Buffer.from(m.data) });
        }
        return;
      case 'OFPPortStatus':
        if (dpid !== undefined) {
          const change = m.reason === ofp.OFPPR_ADD ? 'added' : m.reason === ofp.OFPPR_DELETE ? 'removed' : 'modified';
          this.#server.emit({ kind: 'portChanged', dpid, change, port: describe(m.desc) });
        }
        return;
      default: {
        const whole = isMultipartReply(m) ? this.#parts.push(m) : m;
        if (whole) this.#pending.get(whole.xid)?.resolve({ ok: true, message: whole });
      }
    }
  }

  #error(m: Extract<OfMessage<4>, { cls: 'OFPErrorMsg' }>): void {
    const text = `error type ${m.type} code ${m.code}`;
    const pending = this.#pending.get(m.xid);
    const write = this.#writes.get(m.xid);
    if (pending) pending.resolve({ ok: false, error: text, lost: false });
    else if (write) write.push(text);
    else this.#server.log('warn', 'switch.error', { dpid: this.dpid, remote: this.remote, error: text, xid: m.xid });
  }

  close(reason: string): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const stop of this.#stop) stop();
    for (const p of [...this.#pending.values()]) p.resolve({ ok: false, error: reason, lost: true });
    this.socket.end();
    setTimeout(() => this.socket.destroy(), 200).unref();
    this.#server.gone(this, reason);
  }
}

/** Listens for switches and holds their sessions. */
export class SwitchServer {
  readonly clock: Clock;
  readonly log: Log;
  readonly emit: (event: Event) => void;
  /** Sessions that said who they are, by datapath id. */
  readonly sessions = new Map<string, Session>();
  readonly #all = new Set<Session>();
  readonly #server: Server;
  #closed = false;

  private constructor(o: SwitchServerOptions) {
    this.clock = o.clock;
    this.log = o.log;
    this.emit = o.emit;
    this.#server = createServer((socket) => {
      if (this.#closed || this.#all.size >= MAX_SESSIONS) {
        socket.destroy();
        return;
      }
      this.#all.add(new Session(this, socket));
    });
  }

  /** @throws FairwayError LISTEN when the address cannot be had. */
  static listen(o: SwitchServerOptions): Promise<SwitchServer> {
    const s = new SwitchServer(o);
    return new Promise((resolve, reject) => {
      s.#server.once('error', (cause) =>
        reject(
          new FairwayError(
            'LISTEN',
            `cannot listen for switches on ${o.host}:${o.port}: ${cause.message}`,
            ['badInput'],
            cause,
          ),
        ),
      );
      s.#server.listen(o.port, o.host, () => resolve(s));
    });
  }

  get port(): number {
    const a = this.#server.address();
    return typeof a === 'object' && a !== null ? a.port : 0;
  }

  /** Takes a datapath id for a session; false when a living session has it. */
  claim(dpid: string, session: Session): boolean {
    const holder = this.sessions.get(dpid);
    if (holder && this.clock.now() - holder.lastHeardMs < ECHO_MS * 1.5) return false;
    holder?.close('the switch connected again');
    this.sessions.set(dpid, session);
    return true;
  }

  gone(session: Session, reason: string): void {
    this.#all.delete(session);
    this.log('info', 'switch.gone', { dpid: session.dpid, remote: session.remote, reason });
    if (session.dpid === undefined || this.sessions.get(session.dpid) !== session) return;
    this.sessions.delete(session.dpid);
    if (!this.#closed) this.emit({ kind: 'switchDown', dpid: session.dpid });
  }

  /** Carries a write out and reports its outcome as a `written` event. */
  write(dpid: string, batch: number, messages: readonly OfMessage<4>[]): void {
    const session = this.sessions.get(dpid);
    const done = (outcome: WriteOutcome, errors: string[], holds?: { flows: Flow[]; meterIds: number[] }) =>
      this.emit({ kind: 'written', dpid, batch, outcome, errors, ...(holds ? { holds } : {}) });
    if (!session) {
      setImmediate(() => done('unknown', ['the switch is not connected']));
      return;
    }
    void session.write(messages).then(async ({ outcome, errors }) => {
      const holds = outcome === 'refused' ? await session.readBack().catch(() => undefined) : undefined;
      // An answer that never came leaves the tables unknown: a new session reads them.
      const isUnknown = outcome === 'unknown' || (outcome === 'refused' && !holds);
      done(isUnknown ? 'unknown' : outcome, errors, holds);
      if (isUnknown) session.close('a write was not confirmed');
    });
  }

  packetOut(dpid: string, portNo: number, frame: Buffer): void {
    const actions = [of13.OFPActionOutput({ port: portNo, max_len: 0 })];
    this.sessions
      .get(dpid)
      ?.send(of13.OFPPacketOut({ buffer_id: ofp.OFP_NO_BUFFER, in_port: ofp.OFPP_CONTROLLER, actions, data: frame }));
  }

  /** Reads every switch's counters, each for at most `limitMs`. */
  async sampleAll(withQueues: (dpid: string) => boolean, limitMs: number): Promise<void> {
    const reads = [...this.sessions].map(([dpid, s]) =>
      s.sample(withQueues(dpid)).catch((error) => this.log('debug', 'switch.counters', { dpid, error: String(error) })),
    );
    await Promise.race([Promise.all(reads), new Promise<void>((resolve) => this.clock.after(limitMs, resolve))]);
  }

  /** Removes every flow and meter of ours from the connected switches; for those who leave for good. */
  async removeAll(meterIds: (dpid: string) => number[]): Promise<void> {
    const work = [...this.sessions].map(([dpid, s]) => {
      const flows = of13.OFPFlowMod({
        cookie: OURS.cookie,
        cookie_mask: OURS.mask,
        table_id: ofp.OFPTT_ALL,
        command: ofp.OFPFC_DELETE,
        buffer_id: ofp.OFP_NO_BUFFER,
        out_port: ofp.OFPP_ANY,
        out_group: ofp.OFPG_ANY,
        match: of13.OFPMatch({}),
        instructions: [],
      });
      const meters = meterIds(dpid).map((meter_id) =>
        of13.OFPMeterMod({ command: ofp.OFPMC_DELETE, flags: 0, meter_id, bands: [] }),
      );
      return s.write([flows, ...meters]);
    });
    await Promise.all(work);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const s of [...this.#all]) s.close('the controller is stopping');
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
