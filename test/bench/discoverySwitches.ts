/**
 * The network of discovery.ts, a process of its own: many light switches over OfConnection, joined by a fabric in memory that
 * carries LLDP and nothing else. The first line of its standard input is a `Fabric`; of the others, `down` takes the first cable's
 * port down at both ends, `cut` makes the second cable carry nothing more; each is answered by a line with the time.
 */
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import {
  attach,
  OfConnection,
  type OfMessage,
  type OfRequest,
  of13,
  ofproto_v1_3 as ofp,
  type Timers,
} from 'node-openflow';

export interface Fabric {
  port: number;
  /** Ports of each switch: numbers from 1 on. */
  ports: number[];
  /** Cables as switch, port, switch, port; switches by their place in `ports`. */
  cables: [number, number, number, number][];
}

const input = createInterface({ input: process.stdin });
const [first] = (await once(input, 'line')) as [string];
const RECONNECT_MS = 1000;
const fabric = JSON.parse(first) as Fabric;
const timers: Timers = {
  now: () => performance.now(),
  after(ms, fn) {
    const timer = setTimeout(fn, ms);
    return () => clearTimeout(timer);
  },
  soon: setImmediate,
};
const key = (sw: number, port: number) => sw * 65_536 + port;
/** The other end of each end of a cable. */
const peers = new Map<number, { sw: number; port: number }>();
for (const [a, ap, b, bp] of fabric.cables) {
  peers.set(key(a, ap), { sw: b, port: bp });
  peers.set(key(b, bp), { sw: a, port: ap });
}

function portOf(sw: number, portNo: number, isUp: boolean) {
  const text = (n: number) => n.toString(16).padStart(4, '0');
  const hex = `02${text(sw + 1)}${text(portNo)}00`;
  return of13.OFPPort({
    port_no: portNo,
    name: `p${portNo}`,
    hw_addr: hex.replace(/(..)(?=.)/g, '$1:'),
    state: isUp ? 0 : ofp.OFPPS_LINK_DOWN,
    curr_speed: 10_000_000,
    max_speed: 10_000_000,
  });
}

const connections: OfConnection<4>[] = [];

function answer(sw: number, c: OfConnection<4>, m: OfMessage<4>): void {
  const ports = Array.from({ length: fabric.ports[sw] ?? 0 }, (_, i) => i + 1);
  const reply = (r: OfMessage<4>) => c.send(r, m.xid);
  switch (m.cls) {
    case 'OFPPacketOut': {
      const output = m.actions[0];
      const to = output?.cls === 'OFPActionOutput' ? peers.get(key(sw, output.port)) : undefined;
      const other = to === undefined ? undefined : connections[to.sw];
      if (to === undefined || !other?.isUp) return;
      const match = of13.OFPMatch({ in_port: to.port });
      const { length } = m.data;
      other.send(of13.OFPPacketIn({ total_len: length, reason: ofp.OFPR_ACTION, match, data: m.data }));
      return;
    }
    case 'OFPFeaturesRequest':
      reply(of13.OFPSwitchFeatures({ datapath_id: BigInt(sw + 1), n_tables: 8 }));
      return;
    case 'OFPPortDescStatsRequest':
      reply(of13.OFPPortDescStatsReply({ body: ports.map((p) => portOf(sw, p, true)) }));
      return;
    case 'OFPPortStatsRequest':
      reply(of13.OFPPortStatsReply({ body: ports.map((p) => of13.OFPPortStats({ port_no: p })) }));
      return;
    case 'OFPFlowStatsRequest':
      reply(of13.OFPFlowStatsReply({ body: [] }));
      return;
    case 'OFPBarrierRequest':
      reply(of13.OFPBarrierReply({}));
      return;
    case 'OFPRoleRequest':
      reply(of13.OFPRoleReply({ role: m.role, generation_id: m.generation_id }));
      return;
    // written without a word
    case 'OFPFlowMod':
    case 'OFPGroupMod':
    case 'OFPMeterMod':
    case 'OFPSetConfig':
    case 'OFPSetAsync':
      return;
    default:
      c.refuse(m as OfRequest<4>, { type: ofp.OFPET_BAD_REQUEST, code: ofp.OFPBRC_BAD_TYPE });
  }
}

/** Connects a switch, and again when the connection ends, as switches do. */
function start(sw: number): void {
  const connection: OfConnection<4> = new OfConnection<4>(
    {
      onMessage: (m) => answer(sw, connection, m),
      onDown: () => setTimeout(start, RECONNECT_MS, sw),
    },
    // a controller that is busy for long is what is measured, no reason to go
    { role: 'switch', versions: [4], echoIntervalMs: 0, stallMs: 600_000, helloTimeoutMs: 600_000 },
  );
  connections[sw] = connection;
  attach(connection, connect({ host: '127.0.0.1', port: fabric.port, noDelay: true }), timers);
}
for (const sw of fabric.ports.keys()) start(sw);

input
  .on('line', (line) => {
    const cable = fabric.cables[line === 'down' ? 0 : 1];
    if (cable === undefined) process.exit(1);
    const [a, ap, b, bp] = cable;
    peers.delete(key(a, ap));
    peers.delete(key(b, bp));
    if (line === 'down') {
      connections[a]?.send(of13.OFPPortStatus({ reason: ofp.OFPPR_MODIFY, desc: portOf(a, ap, false) }));
      connections[b]?.send(of13.OFPPortStatus({ reason: ofp.OFPPR_MODIFY, desc: portOf(b, bp, false) }));
    }
    process.stdout.write(`${Date.now()}\n`);
  })
  .on('close', () => process.exit(0));
