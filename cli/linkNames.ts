/**
 * Links as people know them. The controller names a link by the port it leaves by (`0000000000000001:1`), also in the texts of
 * reasons; here that becomes `hv1:1->leaf`, by the names that `fairway status` shows.
 */
import type { FeedEnvelope, TopologyView } from '../contracts/feed.ts';
import type { FairwayClient } from './client.ts';

const PORT = /\b([0-9a-f]{16}):(\d+)\b/g;

/** A text with the links and ports in it named; what is not known stays as it is. */
export function withLinkNames(text: string, topology: Pick<TopologyView, 'switches' | 'links'>): string {
  const nameOf = (dpid: string) => topology.switches.find((s) => s.dpid === dpid)?.name || dpid;
  return text.replace(PORT, (id, dpid: string, portNo: string) => {
    const link = topology.links.find((l) => l.id === id);
    return `${nameOf(dpid)}:${portNo}${link === undefined ? '' : `->${nameOf(link.to.dpid)}`}`;
  });
}

/** The id of a link that somebody calls by its id, or as it is shown: `hv1:1->leaf`, or `hv1:1`. Undefined when there is no such link. */
export function linkCalled(
  text: string,
  topology: Pick<TopologyView, 'switches' | 'links'>,
): TopologyView['links'][number] | undefined {
  return topology.links.find((l) => {
    const name = withLinkNames(l.id, topology);
    return text === l.id || text === name || text === name.split('->')[0];
  });
}

/** Names for who reads the feed: by what it last said of the topology, of which nothing is known at first. */
export class LinkNames {
  #topology: Pick<TopologyView, 'switches' | 'links'> = { switches: [], links: [] };

  /** Takes in an envelope of any topic. */
  read(e: FeedEnvelope): void {
    if ('topic' in e && e.topic === 'topology') this.#topology = e.data;
  }

  readonly name = (text: string): string => withLinkNames(text, this.#topology);
}

/** Asks the controller for the names, where there is anything to name. */
export async function namingLinks(client: FairwayClient, text: string): Promise<string> {
  if (text.match(PORT) === null) return text;
  return withLinkNames(text, (await client.status()).topology);
}
