/**
 * How much a port can carry, and what says so. In order: the configuration; the operator's word in the switch's database
 * (`external_ids:fairway-capacity` of the interface); the speed of the link in that database; the speed in the switch's own
 * description of the port; the default of the configuration. Where nobody gave his word, limits that others have set in the
 * database count too, each for its direction: the greatest rate of a QoS for what leaves, ingress policing for what enters.
 * Part of `step.ts`; `controller/io/ovsPorts.ts` reads the databases.
 */
import { type CapacitySource, linkId, type Port, type Topology } from '../../topology/index.ts';
import type { Event, OvsPort, PortDescription } from './events.ts';
import { type ControllerState, type Settings, withEntry } from './state.ts';
import type { Turn } from './turn.ts';

/** Changes are logged one by one up to so many at a time. */
const LOGGED_PORTS = 10;

type Capacity = Pick<Port, 'capacityBps' | 'capacityFrom' | 'maxOutBps' | 'maxInBps'>;

/** Capacity of the port of that name; `speedBps` is what the switch describes, 0 when it says none. */
function capacityOf(
  settings: Settings,
  dpid: string,
  name: string,
  speedBps: number,
  ovs: OvsPort | undefined,
): Capacity {
  const found = (capacityBps: number | undefined, capacityFrom: CapacitySource): Capacity | undefined =>
    capacityBps === undefined || capacityBps <= 0 ? undefined : { capacityBps, capacityFrom };
  const told = found(settings.capacityOf(dpid, name), 'configuration') ?? found(ovs?.capacityBps, 'external-ids');
  if (told) return told;
  const seen = found(ovs?.speedBps, 'link-speed') ??
    found(speedBps, 'port-description') ?? { capacityBps: settings.defaultCapacityBps, capacityFrom: 'default' };
  const isLess = (bps: number | undefined): bps is number => bps !== undefined && bps < seen.capacityBps;
  return {
    ...seen,
    ...(isLess(ovs?.maxOutBps) ? { maxOutBps: ovs.maxOutBps } : {}),
    ...(isLess(ovs?.maxInBps) ? { maxInBps: ovs.maxInBps } : {}),
  };
}

/** A port of the topology, as the switch describes it and with the capacity that is known of it now. */
export function toPort(state: ControllerState, dpid: string, d: PortDescription): Port {
  const { portNo, name, hwAddr, isUp, speedBps } = d;
  const speed = speedBps > 0 ? { speedBps } : {};
  const ovs = state.ovsPorts.get(dpid)?.get(name);
  return { portNo, name, hwAddr, isUp, ...speed, ...capacityOf(state.settings, dpid, name, speedBps, ovs) };
}

/** A switch's database told of its ports. Those of a switch that is not known yet are kept for when it comes. */
export function onOvsPorts(t: Turn, e: Extract<Event, { kind: 'ovsPorts' }>): void {
  t.set({ ovsPorts: withEntry(t.state.ovsPorts, e.dpid, e.ports) });
  const node = t.state.topology.switches.get(e.dpid);
  if (!node) return;
  const before = t.state.topology;
  const ports = new Map(
    [...node.ports].map(([no, p]) => [no, toPort(t.state, e.dpid, { ...p, speedBps: p.speedBps ?? 0 })]),
  );
  t.set({ topology: before.withSwitch({ ...node, ports }) });
  tellCapacities(t, e.dpid, before);
}

/** Logs which ports of a switch can carry something else than in an earlier snapshot, and what says so. */
export function tellCapacities(t: Turn, dpid: string, before: Topology): void {
  const old = before.switches.get(dpid)?.ports;
  if (old === undefined) return;
  const isOther = (p: Port, o: Port) =>
    p.capacityBps !== o.capacityBps ||
    p.capacityFrom !== o.capacityFrom ||
    p.maxOutBps !== o.maxOutBps ||
    p.maxInBps !== o.maxInBps;
  const changed = [...(t.state.topology.switches.get(dpid)?.ports.values() ?? [])].flatMap((p) => {
    const o = old.get(p.portNo);
    return o && isOther(p, o) ? [{ p, o }] : [];
  });
  for (const { p, o } of changed.slice(0, LOGGED_PORTS)) {
    const { name, capacityBps, capacityFrom, maxOutBps, maxInBps } = p;
    const was = { wasBps: o.capacityBps, wasFrom: o.capacityFrom };
    t.log('info', 'port.capacity', {
      port: linkId({ dpid, portNo: p.portNo }),
      ...{ name, capacityBps, capacityFrom, maxOutBps, maxInBps, ...was },
    });
  }
  if (changed.length > LOGGED_PORTS) t.log('info', 'port.capacity', { dpid, morePorts: changed.length - LOGGED_PORTS });
}

/** How many ports have their capacity from where, for the log. */
export function sourcesOf(ports: Iterable<Port>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { capacityFrom } of ports) if (capacityFrom) counts[capacityFrom] = (counts[capacityFrom] ?? 0) + 1;
  return counts;
}
