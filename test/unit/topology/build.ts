/** Small topologies for tests, written as text: switches `a`, `b`, …; cables `a1-b2` join port 1 of a to port 2 of b. */
import { type Port, type SwitchNode, Topology } from '../../../topology/index.ts';

export const port = (portNo: number, change: Partial<Port> = {}): Port => ({
  portNo,
  name: `p${portNo}`,
  hwAddr: '02:00:00:00:00:01',
  isUp: true,
  capacityBps: 1e9,
  ...change,
});

export const node = (dpid: string, ports: Port[]): SwitchNode => ({
  dpid,
  name: dpid,
  ports: new Map(ports.map((p) => [p.portNo, p])),
});

/** `network({ a: [1, 2], b: [1] }, 'a1-b1')`: cables carry both ways. Capacity after `@`, in Mbit/s: `a1-b1@100`. */
export function network(switches: Record<string, number[]>, cables = ''): Topology {
  let t = Topology.empty;
  for (const [dpid, ports] of Object.entries(switches)) {
    t = t.withSwitch(
      node(
        dpid,
        ports.map((p) => port(p)),
      ),
    );
  }
  for (const cable of cables.split(' ').filter((c) => c !== '')) {
    const m = /^([a-z]+)([0-9]+)-([a-z]+)([0-9]+)(?:@([0-9]+))?$/.exec(cable);
    if (m === null) throw new Error(`not a cable: ${cable}`);
    const from = { dpid: m[1] as string, portNo: Number(m[2]) };
    const to = { dpid: m[3] as string, portNo: Number(m[4]) };
    if (m[5] !== undefined) {
      for (const end of [from, to]) t = t.withPort(end.dpid, port(end.portNo, { capacityBps: Number(m[5]) * 1e6 }));
    }
    t = t.withLink({ from, to }).withLink({ from: to, to: from });
  }
  return t;
}
