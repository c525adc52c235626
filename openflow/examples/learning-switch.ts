/**
 * A learning switch: it learns where addresses are from packet-ins, and installs a flow once it knows where a packet goes.
 * Run it with `node learning-switch.ts [PORT]` (Node 22.18 or later; before, `node ../dist/examples/learning-switch.js`; 6653
 * unless told), then `ovs-vsctl set-controller br0 tcp:127.0.0.1:6653` and `ovs-vsctl set bridge br0 protocols=OpenFlow13`.
 */
import { createServer } from 'node:net';
import { attach, type ConnectionHandler, type OfAction, OfConnection, of13, ofproto_v1_3 as ofp } from 'node-openflow';

const timers = {
  now: () => performance.now(),
  after(ms: number, fn: () => void) {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
  soon: setImmediate,
};
const mac = (b: Buffer) => b.toString('hex').replace(/(..)(?=.)/g, '$1:');
const apply = (action: OfAction) => [of13.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions: [action] })];

const server = createServer((socket) => {
  const ports = new Map<string, number>();
  const handler: ConnectionHandler<4> = {
    onUp({ features }) {
      console.log(`switch ${features?.datapath_id.toString(16)} is connected`);
      // what no flow takes comes to us whole
      const toUs = of13.OFPActionOutput({ port: ofp.OFPP_CONTROLLER, max_len: ofp.OFPCML_NO_BUFFER });
      connection.send(of13.OFPFlowMod({ priority: 0, instructions: apply(toUs) }));
    },
    onMessage(msg) {
      if (msg.cls !== 'OFPPacketIn' || msg.data.length < 14) return;
      const in_port = Number(msg.match.fields.in_port);
      const eth_dst = mac(msg.data.subarray(0, 6));
      const eth_src = mac(msg.data.subarray(6, 12));
      ports.set(eth_src, in_port);
      const known = ports.get(eth_dst);
      const output = of13.OFPActionOutput({ port: known ?? ofp.OFPP_FLOOD });
      if (known !== undefined) {
        const match = of13.OFPMatch({ in_port, eth_dst, eth_src });
        connection.send(of13.OFPFlowMod({ priority: 1, idle_timeout: 60, match, instructions: apply(output) }));
      }
      const data = msg.buffer_id === ofp.OFP_NO_BUFFER ? msg.data : Buffer.alloc(0);
      connection.send(of13.OFPPacketOut({ buffer_id: msg.buffer_id, in_port, actions: [output], data }));
    },
    onError: (error) => console.error(error.message),
    onDown: (reason) => console.log(`switch is gone: ${reason.message}`),
  };
  const connection = new OfConnection(handler, { versions: [4] });
  attach(connection, socket, timers);
});
server.listen(Number(process.argv[2] ?? 6653), () => console.log('listening', server.address()));
