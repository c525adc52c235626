/** What tests of the command line share: a migration as the feed shows it, and a terminal that keeps what is written. */
import type { Terminal } from '../../../cli/terminal.ts';
import type { FeedEnvelope, MigrationView, TopologyView } from '../../../contracts/feed.ts';

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

/** What the feed says of hv1, whose port 52 leads to the leaf. */
export const topologyOf = (links: TopologyView['links'] = [LINK_52]): FeedEnvelope => ({
  ...{ v: 1, seq: ++seq, atMs: 0, kind: 'snapshot', topic: 'topology' },
  data: {
    switches: [
      { dpid: DPID(1), name: 'hv1', connected: true, ports: [] },
      { dpid: DPID(2), name: 'leaf', connected: true, ports: [] },
    ],
    links,
    ...{ locations: [], refusedProbes: [], agents: [] },
  },
});
const DPID = (n: number) => n.toString(16).padStart(16, '0');
const LINK_52 = {
  id: `${DPID(1)}:52`,
  from: { dpid: DPID(1), portNo: 52 },
  to: { dpid: DPID(2), portNo: 1 },
  capacityBps: 1e9,
};
/** One that waits, with the link in its note as the controller names it. */
export const waiting = (o: Partial<MigrationView> = {}): MigrationView =>
  view({ state: 'queued', note: `serial: m0 runs on ${LINK_52.id}`, progressShare: 0, ...o });

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
