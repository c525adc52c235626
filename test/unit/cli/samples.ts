/** What tests of the command line share: a migration as the feed shows it, and a terminal that keeps what is written. */
import type { Terminal } from '../../../cli/terminal.ts';
import type { FeedEnvelope, MigrationView, TopologyView } from '../../../contracts/feed.ts';
import { DEFAULT_POLICY } from '../../../contracts/policy.ts';
import type { StatusView } from '../../../contracts/rest.ts';

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
/** Of a controller with that topology and nothing else. */
export const statusOf = (workloadBps: number, guests: NonNullable<TopologyView['guests']> = []): StatusView => {
  const e = topologyOf();
  if (!('topic' in e) || e.topic !== 'topology') throw new Error('no topology');
  const link = { id: LINK_52.id, capacityBps: 1e9, workloadBps, migrationBps: 0, floorBps: 0, ceilingBps: 0 };
  return {
    ...{ version: '0.1.0', upSinceMs: 0, topology: { ...e.data, guests }, slices: { links: [] }, migrations: [] },
    rates: { links: [link], guests: [], hosts: [] },
    policy: {
      policy: DEFAULT_POLICY,
      status: { state: 'accepted', revision: 1, reason: '', atMs: 0 },
      store: 'memory',
    },
  };
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
