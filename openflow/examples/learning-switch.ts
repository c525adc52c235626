/**
 * A learning switch on node-openflow alone: it listens on port 6653, learns where addresses are from packet-ins, and
 * installs a flow once it knows where a packet goes. Run it with Node 22.18 or later (`node learning-switch.ts`), then
 * `ovs-vsctl set-controller br0 tcp:127.0.0.1:6653` and `ovs-vsctl set bridge br0 protocols=OpenFlow13`.
 */
import { createServer } from 'node:net';
import { decodeAs, encode, MessageSplitter, type OfMessage, of13, ofproto_v1_3 as ofp } from 'node-openflow';

const mac = (b: Buffer) => b.toString('hex').replace(/(..)(?=.)/g, '$1:');

createServer((socket) => {
  const splitter = new MessageSplitter();
  const ports = new Map<string, number>();
  const send = (msg: OfMessage<4>) => socket.write(encode(msg));

  const packetIn = (msg: of13.OFPPacketIn) => {
    const { in_port } = msg.match.fields;
    if (typeof in_port !== 'number' || msg.data.length < 14) return;
    const eth_dst = mac(msg.data.subarray(0, 6));
    const eth_src = mac(msg.data.subarray(6, 12));
    ports.set(eth_src, in_port);
    const known = ports.get(eth_dst);
    const actions = [of13.OFPActionOutput({ port: known ?? ofp.OFPP_FLOOD })];
    if (known !== undefined) {
      const instructions = [of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions })];
      const match = of13.OFPMatch({ in_port, eth_dst, eth_src });
      send(of13.OFPFlowMod({ priority: 1, idle_timeout: 60, match, instructions }));
    }
    const { buffer_id } = msg;
    const data = buffer_id === ofp.OFP_NO_BUFFER ? msg.data : Buffer.alloc(0);
    send(of13.OFPPacketOut({ buffer_id, in_port, actions, data }));
  };

  socket.on('data', (chunk) => {
    for (const bytes of splitter.push(chunk)) {
      const msg = decodeAs(4, bytes);
      if (msg.cls === 'OFPEchoRequest') send(of13.OFPEchoReply({ xid: msg.xid, data: msg.data }));
      if (msg.cls === 'OFPPacketIn') packetIn(msg);
      if (msg.cls === 'OFPErrorMsg') console.error(`switch: error ${msg.type}/${msg.code}`);
      if (msg.cls !== 'OFPHello') continue;
      // what no flow takes comes to us whole
      const toUs = of13.OFPActionOutput({ port: ofp.OFPP_CONTROLLER, max_len: ofp.OFPCML_NO_BUFFER });
      const instructions = [of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions: [toUs] })];
      send(of13.OFPFlowMod({ priority: 0, instructions }));
    }
  });
  socket.on('error', (e) => console.error(e.message));
  send(of13.OFPHello({ elements: [of13.OFPHelloElemVersionBitmap({ versions: [4] })] }));
}).listen(6653);
