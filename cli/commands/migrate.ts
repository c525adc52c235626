/** `fairway migrate` and `fairway cancel`. */
import type { CopyOptions, MultifdCompression, StorageMode } from '../../contracts/agent.ts';
import { FairwayError, isFinal, type Priority, type Strategy, type Technique } from '../../contracts/common.ts';
import type { FeedEnvelope, MigrationView } from '../../contracts/feed.ts';
import type { FairwayClient } from '../client.ts';
import { type ConnectOptions, connect, followAgain } from '../connect.ts';
import { createDisplay } from '../progress.ts';
import { EXIT, type Terminal } from '../terminal.ts';

interface MigrateOptions extends ConnectOptions {
  to: string;
  priority: Priority;
  technique?: Technique;
  strategy?: Strategy;
  autoConverge?: true;
  xbzrle?: true;
  xbzrleCache?: number;
  multifd?: MultifdCompression;
  channels?: number;
  deadline?: number;
  storage?: StorageMode;
  pullRate?: number;
  wait?: true;
  json?: true;
}

/** Connections of multifd when nobody says how many. */
const CHANNELS = 2;

/** What was asked for beside the technique; undefined when nothing was. */
function copyOptions(o: MigrateOptions): CopyOptions | undefined {
  if (o.channels !== undefined && o.multifd === undefined) {
    throw new FairwayError('cli.usage', '--channels is for --multifd: add it, or leave --channels out', ['badInput']);
  }
  if (o.pullRate !== undefined && o.storage !== 'on-demand') {
    throw new FairwayError('cli.usage', '--pull-rate is for --storage on-demand: add it, or leave --pull-rate out', [
      'badInput',
    ]);
  }
  const options: CopyOptions = {
    ...(o.autoConverge && { autoConverge: true }),
    ...(o.xbzrle && { xbzrle: true }),
    ...(o.xbzrleCache !== undefined && { xbzrleCacheMiB: o.xbzrleCache }),
    ...(o.storage && { storage: o.storage }),
    ...(o.pullRate !== undefined && { pullBps: o.pullRate }),
    ...(o.multifd && { multifd: { channels: o.channels ?? CHANNELS, compression: o.multifd } }),
  };
  return Object.keys(options).length === 0 ? undefined : options;
}

export async function migrate(terminal: Terminal, o: MigrateOptions, guests: string[]): Promise<number> {
  const options = copyOptions(o);
  const client = connect(terminal, o);
  const started = await client.migrate({
    moves: guests.map((guest) => ({ guest, destination: o.to })),
    priority: o.priority,
    ...(o.technique && { technique: o.technique }),
    ...(o.strategy && { strategy: o.strategy }),
    ...(options && { options }),
    ...(o.deadline !== undefined && { deadlineMs: o.deadline }),
  });
  if (!o.wait) {
    const lines = started.migrations.map(({ id, guest }) => `${id} ${guest} -> ${o.to}\n`);
    terminal.out(o.json ? `${JSON.stringify(started)}\n` : lines.join(''));
    return EXIT.ok;
  }
  const ended = await waitForEnd(terminal, client, new Set(started.migrations.map((m) => m.id)), o.json === true);
  if (ended === undefined) {
    terminal.err('fairway: interrupted; the migrations go on (`fairway cancel` stops them)\n');
    return EXIT.interrupted;
  }
  if (o.json) terminal.out(`${JSON.stringify({ group: started.group, migrations: ended })}\n`);
  return ended.every((m) => m.state === 'done') ? EXIT.ok : EXIT.failed;
}

/** Follows the feed until all have ended; undefined when interrupted before that. */
export async function waitForEnd(
  terminal: Terminal,
  client: FairwayClient,
  ids: ReadonlySet<string>,
  quiet: boolean,
): Promise<MigrationView[] | undefined> {
  const ours = (m: MigrationView) => ids.has(m.id);
  const display = createDisplay(terminal, ours);
  const latest = new Map<string, MigrationView>();
  const allEnded = new AbortController();
  const onEnvelope = (e: FeedEnvelope) => {
    if (!quiet) display.show(e);
    if (!('topic' in e) || e.topic !== 'migrations') return;
    for (const m of e.data.migrations.filter(ours)) latest.set(m.id, m);
    if (latest.size === ids.size && [...latest.values()].every((m) => isFinal(m.state))) allEnded.abort();
  };
  const signal = AbortSignal.any([terminal.signal, allEnded.signal]);
  // Links are named by the topology, which comes first.
  await followAgain(client, quiet ? ['migrations'] : ['topology', 'migrations'], onEnvelope, signal, (why) =>
    terminal.err(`fairway: ${why}; trying again\n`),
  );
  return allEnded.signal.aborted ? [...latest.values()] : undefined;
}

export async function cancel(
  terminal: Terminal,
  o: ConnectOptions & { forget?: true; json?: true },
  ids: string[],
): Promise<undefined> {
  const client = connect(terminal, o);
  for (const id of ids) {
    const note = await client.cancel(id, o.forget === true);
    const said = o.forget ? 'given up' : 'asked to stop';
    terminal.out(o.json ? `${JSON.stringify({ id, note })}\n` : `${id}: ${note ?? said}\n`);
  }
}
