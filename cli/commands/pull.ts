/** `fairway pull`: has disks fetched that a guest left behind, at another rate or no more, and shows how far that is. */
import { FairwayError } from '../../contracts/common.ts';
import type { FeedEnvelope, MigrationView } from '../../contracts/feed.ts';
import { type ConnectOptions, connect, followAgain } from '../connect.ts';
import { isPullOpen, pullLine } from '../progress.ts';
import { EXIT, type Terminal } from '../terminal.ts';
import { findMigration } from './explain.ts';

interface PullOptions extends ConnectOptions {
  rate?: number;
  stop?: true;
  wait?: true;
  json?: true;
}

const usage = (text: string) => new FairwayError('cli.usage', text, ['badInput']);

export async function pull(terminal: Terminal, o: PullOptions, migration: string): Promise<number> {
  if (o.stop && o.rate !== undefined) throw usage('--stop and --rate contradict each other: give one of them');
  if (o.stop && o.wait) throw usage('--wait waits for the end of a pull: leave it out with --stop');
  const client = connect(terminal, o);
  const found = await findMigration(client, migration);
  const asks = o.stop || o.rate !== undefined;
  const now = asks ? await client.pull(found.id, o.rate ?? null) : found;
  if (!now.pull) {
    const what =
      now.options?.storage === 'on-demand' ? 'nobody pulls its disks: give --rate' : 'it left no disks behind';
    throw new FairwayError('cli.noPull', `migration ${now.id} of ${now.guest}: ${what}`, ['conflict']);
  }
  if (!o.wait) {
    terminal.out(o.json ? `${JSON.stringify(now)}\n` : line(now, terminal));
    return EXIT.ok;
  }
  const last = await untilEnded(terminal, client, now, o.json === true);
  if (terminal.signal.aborted) {
    terminal.err('fairway: interrupted; the pull goes on (`fairway pull --stop` ends it)\n');
    return EXIT.interrupted;
  }
  if (o.json) terminal.out(`${JSON.stringify(last)}\n`);
  return last.pull?.state === 'done' ? EXIT.ok : EXIT.failed;
}

const line = (m: MigrationView, terminal: Terminal): string =>
  m.pull ? `${pullLine(m, m.pull, terminal.columns() ?? 200)}\n` : '';

/** Follows the feed until the pull has ended, or the terminal's signal aborts: a line that is drawn anew on a screen, elsewhere one a tenth. */
async function untilEnded(
  terminal: Terminal,
  client: ReturnType<typeof connect>,
  first: MigrationView,
  isQuiet: boolean,
): Promise<MigrationView> {
  let latest = first;
  let told = '';
  const ended = new AbortController();
  const show = () => {
    const { pull: p } = latest;
    if (!p || isQuiet) return;
    const isScreen = terminal.columns() !== undefined;
    const tenth = p.totalBytes > 0 ? Math.floor((10 * p.doneBytes) / p.totalBytes) : 0;
    const key = isScreen ? line(latest, terminal) : JSON.stringify([p.state, tenth, p.note]);
    if (key === told) return;
    terminal.out(`${isScreen && told !== '' ? '\x1b[1A\x1b[2K' : ''}${line(latest, terminal)}`);
    told = key;
  };
  show();
  const onEnvelope = (e: FeedEnvelope) => {
    if (!('topic' in e) || e.topic !== 'migrations') return;
    const seen = e.data.migrations.find((m) => m.id === first.id);
    if (seen === undefined) return;
    latest = seen;
    show();
    if (!seen.pull || !isPullOpen(seen.pull)) ended.abort();
  };
  if (!latest.pull || !isPullOpen(latest.pull)) return latest;
  const signal = AbortSignal.any([terminal.signal, ended.signal]);
  await followAgain(client, ['migrations'], onEnvelope, signal, (why) =>
    terminal.err(`fairway: ${why}; trying again\n`),
  );
  return latest;
}
