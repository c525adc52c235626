/**
 * How many hosts may be learned at one port. Each costs a flow in every switch that has `managed` forwarding: a host that makes
 * up senders would fill the tables of the whole network. Those beyond the limit are counted and told of; their frames find
 * their way as those of any unknown sender do. Part of `network.ts`.
 */
import { type Location, linkId, type PortRef } from '../../topology/index.ts';
import type { Turn } from './turn.ts';

/** Whether a sender is learned at `here`, where it is not yet; `known` is what is known of it. */
export function hasRoom(t: Turn, known: Location | undefined, here: PortRef): boolean {
  if (known && linkId(known.at) === linkId(here)) return true;
  const { maxHostsPerPort } = t.state.policy.doc.discovery;
  const hosts = t.state.topology.hostsAt(here);
  if (hosts < maxHostsPerPort) return true;
  const { crowded } = t.state.discovery;
  const id = linkId(here);
  const refused = (crowded.get(id) ?? 0) + 1;
  t.set({ discovery: { ...t.state.discovery, crowded: t.writable(crowded).set(id, refused) } });
  // The first, the tenth, the hundredth: a flood of senders is no flood of logs.
  if (Number.isInteger(Math.log10(refused))) {
    const advice =
      'a host that makes up senders, or a network behind the port; raise discovery.maxHostsPerPort for that';
    t.log('warn', 'port.crowded', { port: id, hosts, refused, advice });
  }
  return false;
}
