/**
 * An atomic update: all flows of a switch are replaced in one bundle, so that no packet ever meets half of the new ones; and
 * one bundle that the switch refuses, which changes nothing. Run it with `node bundle.ts [PORT]` (Node 22.18 or later;
 * before, `node ../dist/examples/bundle.js`; 6653 unless told), then `ovs-vsctl set-controller br0 tcp:127.0.0.1:6653` and
 * `ovs-vsctl set bridge br0 protocols=OpenFlow14`.
 */
import { createServer } from 'node:net';
import { attach, OfConnection, of14, ofproto_v1_4 as ofp } from 'node-openflow';

const timers = {
  now: () => performance.now(),
  after(ms: number, fn: () => void) {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
  soon: setImmediate,
};

/** Packets that come in at one port go out at another. */
function forward(inPort: number, outPort: number) {
  const actions = [of14.OFPActionOutput({ port: outPort })];
  const instructions = [of14.OFPInstructionActions({ type: ofp.OFPIT_APPLY_ACTIONS, actions })];
  return of14.OFPFlowMod({ priority: 10, match: of14.OFPMatch({ in_port: inPort }), instructions });
}

async function update(connection: OfConnection<5>): Promise<void> {
  const cross = await connection.bundle([of14.flowDelete(), forward(1, 2), forward(2, 1)]);
  console.log(`ports 1 and 2 are joined: ${cross.outcome}`);

  const noSuchPort = 0xffffff10;
  const bad = await connection.bundle([of14.flowDelete(), forward(1, 3), forward(3, noSuchPort)]);
  console.log(`a bundle with a mistake: ${bad.outcome}, ${bad.errors.map((e) => e.symbol).join(', ')}`);

  const { body } = await connection.request(of14.OFPFlowStatsRequest());
  for (const { match } of body) console.log(`still there: in_port=${match.fields.in_port}`);
  connection.close('done');
}

const server = createServer((socket) => {
  const connection: OfConnection<5> = new OfConnection<5>(
    {
      onUp: () => {
        update(connection).catch((error) => console.error(error.message));
        server.close();
      },
      onDown: (reason) => console.log(`disconnected: ${reason.message}`),
    },
    { versions: [5] },
  );
  attach(connection, socket, timers);
});
server.listen(Number(process.argv[2] ?? 6653), () => console.log('listening', server.address()));
