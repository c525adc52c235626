/** `fairway watch`: the feed, as progress bars, plain lines or JSON lines, until interrupted. */
import type { FeedEnvelope, Topic } from '../../contracts/feed.ts';
import { type ConnectOptions, connect, followAgain } from '../connect.ts';
import { withLinkNames } from '../linkNames.ts';
import { createDisplay } from '../progress.ts';
import type { Terminal } from '../terminal.ts';
import { awayText } from './status.ts';

export async function watch(
  terminal: Terminal,
  o: ConnectOptions & { json?: true; topics?: Topic[] },
): Promise<undefined> {
  const client = connect(terminal, o);
  const display = createDisplay(terminal);
  const news = networkNews();
  const show = (e: FeedEnvelope) => {
    for (const text of news(e)) display.note(text);
    display.show(e);
  };
  await followAgain(
    client,
    // Names come before what is named.
    o.json ? (o.topics ?? []) : ['topology', 'migrations'],
    (e) => (o.json ? terminal.out(`${JSON.stringify(e)}\n`) : show(e)),
    terminal.signal,
    (why) => (o.json ? terminal.err(`fairway: ${why}; trying again\n`) : display.note(`${why}; trying again`)),
  );
}

/**
 * What an operator must see of the network: whose agent is away, who is refused as a switch, and guests away from home whose tunnel does not carry. The
 * returned function takes the feed's envelopes and answers what is new since the last one of the topology.
 */
export function networkNews(): (e: FeedEnvelope) => string[] {
  let told = new Map<string, string>();
  return (e) => {
    if (!('topic' in e) || e.topic !== 'topology') return [];
    const { switches, agents, away = [], refusedSwitches = [] } = e.data;
    const nameOf = (dpid: string) => switches.find((s) => s.dpid === dpid)?.name ?? dpid;
    const now = new Map<string, string>();
    for (const { from, dpid, why } of refusedSwitches) {
      const who = dpid === null ? from : `${dpid} at ${from}`;
      now.set(`refused ${from} ${dpid} ${why}`, `${who} is refused as a switch: ${why}`);
    }
    for (const { host, connected } of agents) {
      const key = `agent ${host}`;
      if (!connected) now.set(key, `the agent of ${host} is away`);
      else if (told.has(key)) now.set(key, `the agent of ${host} is back`);
    }
    for (const g of away) {
      const wasTold = told.get(`away ${g.guest}`) !== undefined;
      const isFine = !g.isAway || (g.tunnel?.state ?? 'works') === 'works';
      // That all is well is news for those who were told that it was not.
      if (!isFine || wasTold)
        now.set(`away ${g.guest}`, withLinkNames(`guest ${g.guest} is ${awayText(g, nameOf)}`, e.data));
    }
    const fresh = [...now].filter(([key, text]) => told.get(key) !== text).map(([, text]) => text);
    told = now;
    return fresh;
  };
}
