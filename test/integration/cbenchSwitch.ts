/**
 * One switch as the public cbench shows it to a controller, for learning.test.ts: its hello and its features, then a gratuitous
 * ARP from its one destination, then packet-ins from 100,000 senders (its default) to that destination. In latency mode one
 * packet-in waits for its answer; in throughput mode as many are sent as the socket takes. It answers echoes without their data.
 */
import { connect, type Socket } from 'node:net';
import { decode, encode, MessageSplitter, type OfMessage, of10, ofproto_v1_0 as ofp } from 'node-openflow';

const SENDERS = 100_000;
const BUFFER_IDS = 100_000;
/** Packet-ins sent at a time in throughput mode. */
const BURST = 780;

export interface CbenchAnswers {
  /** Packet-outs, of which only the ARP is due one. */
  floods: number;
  flowMods: number;
  /** Other messages than those that belong to the introduction. */
  others: string[];
}

const frame = (dst: string, src: string): Buffer => Buffer.from(`${dst}${src}0800${'00'.repeat(50)}`, 'hex');
const hex = (n: number, bytes: number): string => n.toString(16).padStart(2 * bytes, '0');

export class CbenchSwitch {
  readonly #id: number;
  readonly #mode: 'latency' | 'throughput';
  readonly #answers: CbenchAnswers = { floods: 0, flowMods: 0, others: [] };
  #sent = 0;
  #want = 0;

  constructor(id: number, mode: 'latency' | 'throughput') {
    this.#id = id;
    this.#mode = mode;
  }

  /** Resolves with what came back once `count` packet-ins were answered. Rejects when the controller ends the connection. */
  run(port: number, count: number): Promise<CbenchAnswers> {
    this.#want = count;
    return new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1');
      const splitter = new MessageSplitter();
      this.#send(socket, of10.OFPHello({}), 1);
      socket.on('error', reject);
      socket.on('close', () =>
        reject(new Error(`the controller ended the connection: ${JSON.stringify(this.#answers)}`)),
      );
      socket.on('data', (chunk) => {
        for (const b of splitter.push(chunk)) this.#take(socket, b);
        const { flowMods, floods } = this.#answers;
        if (flowMods + floods - 1 < this.#want) return;
        resolve(this.#answers);
        socket.destroy();
      });
    });
  }

  #send(socket: Socket, message: OfMessage, xid: number): void {
    socket.write(Buffer.from(encode(message, xid)));
  }

  #take(socket: Socket, b: Buffer): void {
    const m = decode(b) as OfMessage<1>;
    const xid = b.readUInt32BE(4);
    if (m.cls === 'OFPFlowMod' && m.command === ofp.OFPFC_ADD) {
      this.#answers.flowMods++;
      this.#ask(socket);
    } else if (m.cls === 'OFPPacketOut') {
      this.#answers.floods++;
      this.#ask(socket);
    } else if (m.cls === 'OFPFeaturesRequest') this.#introduce(socket, xid);
    else if (m.cls === 'OFPEchoRequest') this.#send(socket, of10.OFPEchoReply({}), xid);
    else if (m.cls === 'OFPBarrierRequest') this.#send(socket, of10.OFPBarrierReply({}), xid);
    else if (m.cls !== 'OFPHello' && m.cls !== 'OFPSetConfig') this.#answers.others.push(m.cls);
  }

  #introduce(socket: Socket, xid: number): void {
    const port = (no: number, hw_addr: string, name: string) =>
      of10.OFPPhyPort({ port_no: no, hw_addr, name, config: 0, state: 0, curr: 0xc0 });
    const ports = [
      port(1, '1a:c1:51:ff:ef:8a', 'veth1'),
      port(2, 'ce:2f:a2:87:f6:70', 'veth3'),
      port(3, 'ca:8a:1e:f3:77:ef', 'veth5'),
      port(4, 'fa:bc:77:8d:7e:0b', 'veth7'),
    ];
    const features = { datapath_id: BigInt(this.#id), n_buffers: 256, n_tables: 2, capabilities: 0, actions: 0x7ff };
    this.#send(socket, of10.OFPSwitchFeatures({ ...features, ports }), xid);
    const data = frame('ffffffffffff', this.#destination());
    const arp = { buffer_id: 0xffff_ffff, total_len: data.length, in_port: 2, reason: 0, data };
    this.#send(socket, of10.OFPPacketIn(arp), 1);
  }

  #destination(): string {
    return `80000000${hex(0, 1)}${hex(this.#id, 1)}`;
  }

  /** Sends what its mode allows to be outstanding. */
  #ask(socket: Socket): void {
    const answered = this.#answers.flowMods + this.#answers.floods - 1;
    if (this.#mode === 'latency') this.#packetIns(socket, 1);
    else if (this.#sent - answered < BURST) this.#packetIns(socket, BURST);
  }

  #packetIns(socket: Socket, most: number): void {
    const n = Math.min(most, this.#want - this.#sent);
    const all: Buffer[] = [];
    for (let i = 0; i < n; i++) {
      const sender = this.#sent % SENDERS;
      const data = frame(this.#destination(), `00${hex(sender, 4)}${hex(this.#id, 1)}`);
      const buffer_id = (1 + this.#sent) % BUFFER_IDS;
      const packet = of10.OFPPacketIn({ buffer_id, total_len: data.length, in_port: 1, reason: 0, data });
      all.push(Buffer.from(encode(packet, this.#sent + 2)));
      this.#sent++;
    }
    if (n > 0) socket.write(Buffer.concat(all));
  }
}
