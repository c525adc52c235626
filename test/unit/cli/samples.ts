/** What tests of the command line share: a migration as the feed shows it, and a terminal that keeps what is written. */
import type { Terminal } from '../../../cli/terminal.ts';
import type { FeedEnvelope, MigrationView } from '../../../contracts/feed.ts';

export const view = (o: Partial<MigrationView> = {}): MigrationView => ({
  id: 'm1',
  guest: 'web1',
  priority: 'high',
  group: null,
  from: 'h1',
  to: 'h2',
  state: 'copying',
  technique: 'post-copy',
  strategy: 'parallel',
  contention: 'low',
  enforcement: 'queue',
  path: [],
  sliceBps: 83e6,
  progressShare: 0.5,
  transferredBytes: 1e8,
  remainingBytes: 1e8,
  passes: 1,
  downtimeMs: null,
  requestedAtMs: 0,
  startedAtMs: 0,
  endedAtMs: null,
  totalMs: null,
  note: null,
  reasons: [],
  sliceSteps: [],
  transitions: [],
  ...o,
});

let seq = 0;
export const change = (...migrations: MigrationView[]): FeedEnvelope => ({
  v: 1,
  seq: ++seq,
  atMs: 0,
  kind: 'change',
  topic: 'migrations',
  data: { migrations },
});

/** `columns`: width of the screen; undefined when there is none. */
export function screen(columns?: number, env: Record<string, string> = {}) {
  let out = '';
  let err = '';
  const stop = new AbortController();
  const terminal: Terminal = {
    out: (t) => {
      out += t;
    },
    err: (t) => {
      err += t;
    },
    env,
    columns: () => columns,
    signal: stop.signal,
  };
  return { terminal, out: () => out, err: () => err, interrupt: () => stop.abort() };
}
