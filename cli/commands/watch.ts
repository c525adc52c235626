/** `fairway watch`: the feed, as progress bars, plain lines or JSON lines, until interrupted. */
import type { Topic } from '../../contracts/feed.ts';
import { type ConnectOptions, connect, followAgain } from '../connect.ts';
import { createDisplay } from '../progress.ts';
import type { Terminal } from '../terminal.ts';

export async function watch(
  terminal: Terminal,
  o: ConnectOptions & { json?: true; topics?: Topic[] },
): Promise<undefined> {
  const client = connect(terminal, o);
  const display = createDisplay(terminal);
  await followAgain(
    client,
    o.json ? (o.topics ?? []) : ['migrations'],
    (e) => (o.json ? terminal.out(`${JSON.stringify(e)}\n`) : display.show(e)),
    terminal.signal,
    (why) => (o.json ? terminal.err(`fairway: ${why}; trying again\n`) : display.note(`${why}; trying again`)),
  );
}
