/**
 * Streams between fabrics that only an IP network joins: the configuration names the ports that lead to it (`ports.*.ipNetwork`).
 * A stream goes from its source to the nearest such port, is the IP network's affair until it comes in by one of the other
 * fabric, and goes on from there; slices are held on the links of both. Part of `jobPath.ts` and `desired.ts`.
 */
import { findPath, linkId, type PathOptions, type PortRef, type Topology } from '../../topology/index.ts';
import type { ControllerState } from './state.ts';

type Network = Pick<ControllerState, 'topology' | 'settings'>;

/** The port by which a switch reaches the IP network, the first of several; undefined where it has none that is up. */
export function ipPortOf({ topology, settings }: Network, dpid: string): number | undefined {
  if (!settings.leadsToIp) return undefined;
  const ports = [...(topology.switches.get(dpid)?.ports.values() ?? [])];
  const found = ports.filter((p) => p.isUp && settings.leadsToIp?.(dpid, p.name)).map((p) => p.portNo);
  return found.length > 0 ? Math.min(...found) : undefined;
}

/** Whether a link, by id, leads to a switch: a cable does, or the IP network between two ports that lead to it. */
export function leadsTo(network: Network, link: string, dpid: string, topology: Topology = network.topology): boolean {
  if (topology.links.get(link)?.to.dpid === dpid) return true;
  const at = link.slice(0, link.lastIndexOf(':'));
  const exit = ipPortOf({ ...network, topology }, at);
  return exit !== undefined && linkId({ dpid: at, portNo: exit }) === link && ipPortOf(network, dpid) !== undefined;
}

/** The shortest way out of one fabric and into another; undefined where one of them has no port to the IP network. */
export function acrossIp(
  network: Network,
  fromDpid: string,
  to: PortRef,
  options: PathOptions,
): { links: string[]; dpids: string[] } | undefined {
  const { topology } = network;
  if (!network.settings.leadsToIp) return undefined;
  const doors = [...topology.switches.keys()].sort().flatMap((dpid) => {
    const portNo = ipPortOf(network, dpid);
    return portNo === undefined ? [] : [{ dpid, portNo }];
  });
  const nearest = <T extends { dpids: string[] }>(paths: (T | undefined)[]): T | undefined =>
    paths.reduce((best, p) => (p && (!best || p.dpids.length < best.dpids.length) ? p : best), undefined);
  const out = nearest(doors.map((door) => findPath(topology, fromDpid, door, { ...options, includeLast: true })));
  const into = nearest(doors.map((door) => findPath(topology, door.dpid, to, options)));
  return out && into && { links: [...out.links, ...into.links], dpids: [...out.dpids, ...into.dpids] };
}
